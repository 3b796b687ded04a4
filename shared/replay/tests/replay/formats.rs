//! Files as they occur: compressed in some way, or in another format.

use std::fs;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Ran, command, json, ran, replay};

fn event(number: u32) -> String {
    let second = number % 60;
    let minute = number / 60 % 60;
    let hour = number / 3600;
    format!(
        r#"{{"eventType":"Send","mail":{{"timestamp":"2026-09-01T{hour:02}:{minute:02}:{second:02}.000Z","messageId":"m-{number}","source":"news@example.com","destination":["a{number}@gmail.com"],"tags":{{"ses:configuration-set":["news"]}}}},"send":{{}}}}"#
    )
}

fn events(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| event(number) + "\n").collect()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

fn counted(ran: &Ran) -> u64 {
    json(ran)["input"]["events"].as_u64().unwrap()
}

/// The first bytes of a tar archive with one member.
fn tar() -> Vec<u8> {
    let mut archive = vec![0; 512];
    archive[..11].copy_from_slice(b"events.json");
    archive[257..262].copy_from_slice(b"ustar");
    archive.extend(events(0..9).into_bytes());
    archive
}

#[test]
fn zstd_is_seen_by_its_first_bytes_and_may_have_several_frames() {
    let folder = tempfile::tempdir().unwrap();
    let skippable = [&b"\x52\x2a\x4d\x18\x03\0\0\0abc"[..]].concat();
    let (one, other) = (events(0..200), events(200..300));
    let (cut, rest) = one.split_at(777);
    let joined = [skippable.clone(), zstd(cut.as_bytes()), zstd(b""), skippable, zstd(rest.as_bytes())].concat();
    write(&folder, "a.jsonl.zst", &joined);
    write(&folder, "stream-1-2026-09-01-12-00-00-0a1b", &zstd(other.as_bytes()));
    write(&folder, "b.json.gz", &gzip(events(300..320).as_bytes()));
    write(&folder, "c.LOG.ZST", events(320..330).as_bytes());
    let ran = replay(&[&folder.path().display().to_string(), "--format", "json"]);
    assert_eq!((ran.code, ran.err.as_str(), counted(&ran)), (0, "", 330));
}

#[test]
fn truncated_zstd_delivers_what_is_whole_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let whole = zstd(events(0..20_000).as_bytes());
    for (cut, at_least) in [(5, 0), (whole.len() / 2, 3_000), (whole.len() - 1, 15_000)] {
        let path = write(&folder, "a.zst", &whole[..cut]);
        let ran = replay(&[&path, "--format", "json", "--quiet"]);
        assert_eq!(ran.code, 2, "cut at {cut}: {}", ran.err);
        let says =
            format!("\"message\":\"zstd data of {path} is cut short or damaged from line {} on", counted(&ran) + 1);
        assert!(ran.err.contains(&says), "cut at {cut}: {} does not say {says}", ran.err);
        assert!(counted(&ran) >= at_least, "cut at {cut}: {}", counted(&ran));
    }
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 50].fill(0xff);
    let ran = replay(&[&write(&folder, "b.zst", &damaged), "--quiet"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("zstd data of "), "{}", ran.err);
}

#[test]
fn what_holds_no_events_as_it_is_is_named_with_the_command_that_unpacks_it() {
    let utf16 =
        |mark: &[u8]| [mark, &events(0..3).encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()].concat();
    let table: Vec<(Vec<u8>, &str)> = vec![
        (b"PK\x03\x04rest".to_vec(), "is a zip archive: unpack it: unzip -p FILE | replay -"),
        (b"BZh91AY&SY".to_vec(), "is compressed with bzip2: unpack it: bzcat FILE | replay -"),
        (b"\xfd7zXZ\0\0\x04".to_vec(), "is compressed with xz: unpack it: xzcat FILE | replay -"),
        (b"\x04\x22\x4d\x18d@".to_vec(), "is compressed with lz4: unpack it: lz4 -dc FILE | replay -"),
        (b"\xff\x06\0\0sNaPpY".to_vec(), "is compressed with snappy: unpack it: snzip -dc FILE"),
        (b"\0\0\x12\x34\0\0\x08\0\xb4\x24\xf0{\"ev".to_vec(), "is compressed with snappy, in Hadoop's format"),
        (b"7z\xbc\xaf\x27\x1c\0\x04".to_vec(), "is a 7z archive: unpack it: 7z x -so FILE | replay -"),
        (tar(), "is a tar archive: unpack it: tar -xOf FILE | replay -"),
        (gzip(&tar()), "is a gzipped tar archive: unpack it: tar -xzOf FILE | replay -"),
        (zstd(&tar()), "is a tar archive compressed with zstd: unpack it: tar --zstd -xOf FILE | replay -"),
        (b"PAR1\x15\x04".to_vec(), "is a Parquet file: export it as JSON lines"),
        (b"Obj\x01\x04".to_vec(), "is an Avro file: export it as JSON lines"),
        (b"ORC\x0a".to_vec(), "is an ORC file: export it as JSON lines"),
        (utf16(b"\xff\xfe"), "is UTF-16: convert it: iconv -f UTF-16 -t UTF-8 FILE | replay -"),
        (utf16(b""), "is UTF-16: convert it: iconv -f UTF-16LE -t UTF-8 FILE | replay -"),
        (b"%PDF-1.7".to_vec(), "is a PDF: it is not an event file"),
        (b"<!DOCTYPE html><html>".to_vec(), "is an HTML page: it is not an event file"),
        (b"\xef\xbb\xbf<?xml version=\"1.0\"?>".to_vec(), "is XML: it is not an event file"),
        (gzip(b"<?xml version=\"1.0\"?>"), "is XML: it is not an event file"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let both = tempfile::tempdir().unwrap();
    write(&both, "good.json", events(0..9).as_bytes());
    for (bytes, says) in table {
        let path = write(&folder, "named", &bytes);
        let ran = replay(&[&path, "--quiet"]);
        assert_eq!(ran.code, 2, "{says}: {}", ran.err);
        let expected = format!("error: {path} {}", says.replace("FILE", &path));
        assert!(ran.err.contains(&expected), "{} does not say {expected}", ran.err);

        let path = write(&both, "bad.json", &bytes);
        let ran = replay(&[&both.path().display().to_string(), "--format", "json", "--quiet"]);
        assert_eq!((ran.code, counted(&ran)), (0, 9), "{says}: {}", ran.err);
        let warning = format!("warning: skipped {path}: it {}", says.replace("FILE", &path));
        assert!(ran.err.starts_with(&warning), "{} does not say {warning}", ran.err);
    }
}

#[test]
fn standard_input_that_holds_no_events_is_named_too() {
    let folder = tempfile::tempdir().unwrap();
    let archive = fs::File::open(write(&folder, "a", b"PK\x03\x04rest")).unwrap();
    let ran = ran(command(&["-"]).stdin(archive).output().unwrap());
    let expected = "error: standard input is a zip archive: unpack it: unzip -p FILE | replay -\n";
    assert_eq!((ran.code, ran.err.as_str()), (2, expected));
}

#[test]
fn an_array_of_many_megabytes_is_read_element_by_element() {
    let folder = tempfile::tempdir().unwrap();
    let elements: Vec<String> = (0..80_000).map(event).collect();
    let parsed: Vec<Value> = elements.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    for (name, text) in [
        ("lines.json", format!("[\n{}\n]\n", elements.join(",\n"))),
        ("one-line.json", format!("[{}]", elements.join(","))),
        ("pretty.json", serde_json::to_string_pretty(&parsed).unwrap()),
    ] {
        assert!(text.len() > 9 << 20, "{name} has {} bytes", text.len());
        let ran = replay(&[&write(&folder, name, text.as_bytes()), "--format", "json", "--quiet"]);
        assert_eq!((ran.code, ran.err.as_str(), counted(&ran)), (0, "", 80_000), "{name}");
    }
}
