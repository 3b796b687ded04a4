//! How a source is stored, according to its first bytes: as text, compressed in a supported way, or in another format.

/// The number of first bytes that identify a source: the name of a tar archive is at byte 257.
pub(super) const HEAD_BYTES: usize = 512;

/// How the bytes of a source are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub(super) fn of(head: &[u8]) -> Self {
        const GZIP: [u8; 2] = [0x1f, 0x8b];
        const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
        // A skippable frame of zstd has one of sixteen numbers; no text begins with the same bytes.
        let skippable = matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        if head.starts_with(&GZIP) {
            Packing::Gzip
        } else if head.starts_with(&ZSTD) || skippable {
            Packing::Zstd
        } else {
            Packing::Plain
        }
    }

    /// The file name extension.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Packing::Plain => "",
            Packing::Gzip => ".gz",
            Packing::Zstd => ".zst",
        }
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Packing::Plain => "plain",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        }
    }
}

/// A format that contains no events directly, and how to get at its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Foreign {
    /// Its name, after "is".
    pub(super) what: &'static str,
    /// A command that unpacks FILE to standard output, or another remedy.
    pub(super) remedy: &'static str,
}

/// The foreign format that these bytes begin, if it is a known one. `packing`: the compression around the bytes.
pub(super) fn foreign(head: &[u8], packing: Packing) -> Option<Foreign> {
    const EMPTY_ARCHIVE: &[u8] = b"PK\x05\x06";
    let found = |what, remedy| Some(Foreign { what, remedy });
    if head.get(257..262) == Some(b"ustar") {
        return match packing {
            Packing::Gzip => found("a gzipped tar archive", "unpack it: tar -xzOf FILE | replay -"),
            Packing::Zstd => found("a tar archive compressed with zstd", "unpack it: tar --zstd -xOf FILE | replay -"),
            Packing::Plain => found("a tar archive", "unpack it: tar -xOf FILE | replay -"),
        };
    }
    let table: [(&[u8], &'static str, &'static str); 21] = [
        (b"PK\x03\x04", "a zip archive", "unpack it: unzip -p FILE | replay -"),
        (EMPTY_ARCHIVE, "a zip archive without files", "there is nothing in it"),
        (b"BZh", "compressed with bzip2", "unpack it: bzcat FILE | replay -"),
        (b"\xfd7zXZ\0", "compressed with xz", "unpack it: xzcat FILE | replay -"),
        (b"\x04\x22\x4d\x18", "compressed with lz4", "unpack it: lz4 -dc FILE | replay -"),
        (b"\x02\x21\x4c\x18", "compressed with lz4", "unpack it: lz4 -dc FILE | replay -"),
        (b"\xff\x06\0\0sNaPpY", "compressed with snappy", "unpack it: snzip -dc FILE | replay -"),
        (b"\x82SNAPPY\0", "compressed with snappy", "unpack it: snzip -t snappy-java -dc FILE | replay -"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it: 7z x -so FILE | replay -"),
        (b"Rar!\x1a\x07", "a RAR archive", "unpack it: unrar p -inul FILE | replay -"),
        (b"PAR1", "a Parquet file", "export it as JSON lines: duckdb -c \"COPY (FROM 'FILE') TO 'events.json'\""),
        (b"Obj\x01", "an Avro file", "export it as JSON lines: avro-tools tojson FILE | replay -"),
        (b"ORC", "an ORC file", "export it as JSON lines: orc-contents FILE | replay -"),
        (b"\xff\xfe", "UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 FILE | replay -"),
        (b"\xfe\xff", "UTF-16", "convert it: iconv -f UTF-16 -t UTF-8 FILE | replay -"),
        (b"{\0", "UTF-16", "convert it: iconv -f UTF-16LE -t UTF-8 FILE | replay -"),
        (b"\0{", "UTF-16", "convert it: iconv -f UTF-16BE -t UTF-8 FILE | replay -"),
        (b"%PDF-", "a PDF", "it is not an event file"),
        (b"\x89PNG", "a picture", "it is not an event file"),
        (b"SQLite format 3\0", "a SQLite database", "it is not an event file"),
        (b"\x7fELF", "a program", "it is not an event file"),
    ];
    if let Some((_, what, remedy)) = table.into_iter().find(|(magic, ..)| head.starts_with(magic)) {
        return found(what, remedy);
    }
    if is_hadoop_snappy(head) {
        let remedy = "unpack it: snzip -t hadoop-snappy -dc FILE | replay -";
        return found("compressed with snappy, in Hadoop's format", remedy);
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if let Some(text) = text.strip_prefix(b"<") {
        let begins = |word: &[u8]| text.get(..word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word));
        if begins(b"!doctype html") || begins(b"html") {
            return found("an HTML page", "it is not an event file; was it saved from a sign-in page?");
        }
        if begins(b"?xml") {
            return found("XML", "it is not an event file; S3 answers errors in XML: fetch the object again");
        }
    }
    None
}

/// Hadoop's snappy, which Firehose also writes, has no magic number: two big-endian lengths, of which the first is that of the
/// text, and then a block of snappy, which begins with the length of its text again, in seven bits a byte.
fn is_hadoop_snappy(head: &[u8]) -> bool {
    let [a, b, c, d, e, f, g, h, block @ ..] = head else { return false };
    let (text, packed) = (u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h]));
    let mut length = 0u64;
    for (index, byte) in block.iter().take(5).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            // The first byte of a text is never zero, so no text begins like this.
            return *a == 0 && packed > 0 && length > 0 && length <= u64::from(text);
        }
    }
    false
}

/// The error of a reader that finds a foreign format inside a compressed source.
#[derive(Debug, thiserror::Error)]
#[error("it is {}", .0.what)]
pub(super) struct ForeignInside(pub(super) Foreign);
