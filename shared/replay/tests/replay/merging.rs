//! Files that overlap in time, merged; and files that are not sorted by time.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Ran, json, replay, replay_of, root};

/// The actions of the breakers, without the input's details.
fn judged(ran: &Ran) -> Value {
    let mut report = json(ran);
    report["warnings"].take();
    report
}

/// An event and its time, as the text by which it is sorted.
#[derive(Clone)]
struct Event {
    at: String,
    set: &'static str,
    day: u32,
    line: String,
}

fn moment(day: u32, second: u32) -> String {
    format!("2026-09-{day:02}T{:02}:{:02}:{:02}.000Z", second / 3600, second / 60 % 60, second % 60)
}

/// A mail's Send event, and its Delivery or Bounce event some seconds later.
fn mail(set: &'static str, day: u32, second: u32, bounces: bool) -> [Event; 2] {
    let accepted = moment(day, second);
    let outcome_at = moment(day, second + 2);
    let id = format!("{set}-{day}-{second}");
    let mail = format!(
        r#""mail":{{"timestamp":"{accepted}","messageId":"{id}","source":"{set}@example.com","destination":["a{second}@gmail.com"],"tags":{{"ses:configuration-set":["{set}"],"ses:from-domain":["{set}.example.com"]}}}}"#
    );
    let outcome = if bounces {
        format!(
            r#"{{"eventType":"Bounce",{mail},"bounce":{{"timestamp":"{outcome_at}","feedbackId":"f-{id}","bounceType":"Permanent","bounceSubType":"General","bouncedRecipients":[{{"emailAddress":"a{second}@gmail.com","status":"5.1.1"}}]}}}}"#
        )
    } else {
        format!(
            r#"{{"eventType":"Delivery",{mail},"delivery":{{"timestamp":"{outcome_at}","recipients":["a{second}@gmail.com"]}}}}"#
        )
    };
    let event = |at: String, line: String| Event { at, set, day, line };
    [event(accepted, format!(r#"{{"eventType":"Send",{mail},"send":{{}}}}"#)), event(outcome_at, outcome)]
}

const DAYS: std::ops::RangeInclusive<u32> = 1..=8;

/// Some days of two configuration sets; from the fourth day on, a fifth of the mail of `promo` bounces.
fn two_sets() -> Vec<Event> {
    let mut events = Vec::new();
    for day in DAYS {
        for number in 0..240 {
            events.extend(mail("news", day, 8 * 3600 + number * 60, number % 200 == 0));
            events.extend(mail("promo", day, 8 * 3600 + 25 + number * 60, day >= 4 && number % 5 == 0));
        }
    }
    events.sort_by(|a, b| a.at.cmp(&b.at));
    events
}

fn lines<'e>(events: impl IntoIterator<Item = &'e Event>) -> String {
    events.into_iter().map(|event| format!("{}\n", event.line)).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Objects as Firehose writes them with a prefix for each configuration set and day.
fn partitioned(events: &[Event]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for set in ["news", "promo"] {
        for day in DAYS {
            let of_both = events.iter().filter(|event| event.set == set && event.day == day);
            let path = folder.path().join(format!("configset={set}/year=2026/month=09/day={day:02}"));
            fs::create_dir_all(&path).unwrap();
            let name = format!("ses-1-2026-09-{day:02}-00-00-00-x.gz");
            fs::write(path.join(name), gzip(lines(of_both).as_bytes())).unwrap();
        }
    }
    folder
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path: PathBuf = folder.path().join(name);
    fs::write(&path, text).unwrap();
    text_of(&path)
}

const JSON: [&str; 3] = ["--format", "json", "--quiet"];

#[test]
fn prefixes_by_configuration_set_give_what_the_same_events_in_order_give() {
    let events = two_sets();
    let in_order = replay_of(lines(&events).as_bytes(), &[&["-"], &JSON[..]].concat());
    assert_eq!(in_order.code, 0, "{}", in_order.err);
    let expected = judged(&in_order);
    let opened = expected["transitions"].as_array().unwrap().iter().filter(|transition| transition["to"] == "open");
    let opened: Vec<&str> = opened.map(|transition| transition["subject"].as_str().unwrap()).collect();
    assert!(opened.contains(&"configuration-set:promo"), "{opened:?}");

    let folder = partitioned(&events);
    let whole = text_of(folder.path());
    let (news, promo) = (format!("{whole}/configset=news"), format!("{whole}/configset=promo"));
    for input in [vec![&whole], vec![&promo, &news], vec![&news, &promo]] {
        for workers in ["0", "1", "2", "5"] {
            let mut arguments: Vec<&str> = input.iter().map(|input| input.as_str()).collect();
            arguments.extend(JSON);
            arguments.extend(["--workers", workers]);
            let ran = replay(&arguments);
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{input:?}, {workers} workers");
            assert_eq!(judged(&ran), expected, "{input:?}, {workers} workers");
        }
    }
}

/// If a stream is cut, the next file may begin with an old complaint.
#[test]
fn a_stream_in_pieces_is_judged_as_the_whole() {
    for stream in ["complaints-rising", "healthy-day", "isp-throttling", "messy", "provider-incident", "stale-list"] {
        let path = format!("{}/events/streams/{stream}.ndjson.gz", root().display());
        let mut whole = Vec::new();
        MultiGzDecoder::new(fs::File::open(&path).unwrap()).read_to_end(&mut whole).unwrap();
        let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let expected = judged(&replay(&[&[path.as_str()], &JSON[..]].concat()));
        for size in [777, 5_000] {
            let folder = tempfile::tempdir().unwrap();
            for (number, piece) in lines.chunks(size).enumerate() {
                fs::write(folder.path().join(format!("{number:04}.json")), piece.concat()).unwrap();
            }
            let ran = replay(&[&[text_of(folder.path()).as_str()], &JSON[..]].concat());
            assert_eq!(ran.code, 0, "{stream}: {}", ran.err);
            let found = judged(&ran);
            for part in ["transitions", "controls", "stopped", "totals", "input"] {
                assert_eq!(found[part], expected[part], "{part} of {stream} in pieces of {size} lines");
            }
        }
    }
}

#[test]
fn a_pipe_is_merged_with_files() {
    let events = two_sets();
    let folder = partitioned(&events);
    let promo = text_of(&folder.path().join("configset=promo"));
    let news = lines(events.iter().filter(|event| event.set == "news"));
    let ran = replay_of(news.as_bytes(), &[&[promo.as_str(), "-"], &JSON[..]].concat());
    let in_order = replay_of(lines(&events).as_bytes(), &[&["-"], &JSON[..]].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(judged(&ran), judged(&in_order));
}

#[test]
fn an_explanation_reads_merged_files_too() {
    let folder = partitioned(&two_sets());
    let report = judged(&replay(&[&[text_of(folder.path()).as_str()], &JSON[..]].concat()));
    let opened =
        report["transitions"].as_array().unwrap().iter().find(|transition| transition["to"] == "open").unwrap().clone();
    let (at, subject) = (opened["at"].as_str().unwrap(), opened["subject"].as_str().unwrap());
    let whole = text_of(folder.path());
    let isp = opened["isp"].as_str().map_or(vec![], |isp| vec!["--isp", isp]);
    let ran = replay(&[&["explain", &whole, "--at", at, "--subject", subject][..], &isp].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("decided: "), "{}", ran.out);
}

#[test]
fn files_that_were_joined_out_of_order_end_with_2_and_the_reason() {
    let events = two_sets();
    let folder = tempfile::tempdir().unwrap();
    let of = |set: &str| lines(events.iter().filter(|event| event.set == set));
    let by_name = format!("{}{}", of("news"), of("promo"));
    let descending = lines(events.iter().rev());
    let without_sends = by_name.lines().filter(|line| !line.contains("\"Send\"")).map(|line| format!("{line}\n"));
    let without_sends: String = without_sends.collect();
    for (name, text) in [("by-name.json", by_name), ("descending.json", descending), ("no-sends.json", without_sends)] {
        let path = write(&folder, name, &text);
        let ran = replay(&[&path, "--quiet"]);
        assert_eq!(ran.code, 2, "{name}: {}", ran.err);
        let [.., error, remedy] = ran.err.lines().collect::<Vec<_>>()[..] else { panic!("{name}: {}", ran.err) };
        assert!(
            error.starts_with("error: the input is not sorted by time") && error.contains(&path),
            "{name}: {error}"
        );
        assert!(remedy.contains(&path) && remedy.contains("jq -sc"), "{name}: {remedy}");
        assert!(ran.out.contains("configuration-set:news"), "the report is printed anyway: {}", ran.out);
    }
}

#[test]
fn of_several_files_the_one_that_is_out_of_order_is_named() {
    let events = two_sets();
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "news.json", &lines(events.iter().filter(|event| event.set == "news")));
    let bad = write(&folder, "promo.json", &lines(events.iter().rev().filter(|event| event.set == "promo")));
    let ran = replay(&[&text_of(folder.path()), "--quiet"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains(&format!("in {bad} (")), "{}", ran.err);
    assert!(!ran.err.contains("news.json"), "{}", ran.err);
}

#[test]
fn events_that_are_late_by_nature_are_not_disorder() {
    let events = two_sets();
    let misdated = &mail("news", 28, 3600, false);
    let with_misdated: Vec<&Event> = misdated.iter().chain(&events).collect();
    let complaint = |event: &Event| {
        let line = event.line.replace("\"eventType\":\"Send\"", "\"eventType\":\"Complaint\"");
        let recipient = "{\"emailAddress\":\"a@gmail.com\"}";
        let delivery =
            format!("\"complaint\":{{\"feedbackId\":\"{}\",\"complainedRecipients\":[{recipient}]}}", event.at);
        Event { line: line.replace("\"send\":{}", &delivery), ..event.clone() }
    };
    let sends = events.iter().filter(|event| event.line.contains("\"Send\""));
    let complaints: Vec<Event> = sends.map(complaint).collect();
    let with_complaints: Vec<&Event> = events.iter().chain(&complaints).collect();
    let twice: Vec<&Event> = events.iter().chain(&events).collect();
    let few_late: Vec<&Event> = events[40..].iter().chain(&events[..40]).collect();
    for (name, stream) in [
        ("one misdated mail", with_misdated),
        ("complaints after everything", with_complaints),
        ("everything delivered twice", twice),
        ("a few mails late", few_late),
    ] {
        let ran = replay_of(lines(stream).as_bytes(), &["-", "--quiet"]);
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
    }
}

#[test]
fn a_misdated_mail_does_not_hold_back_its_file() {
    let events = two_sets();
    let misdated = mail("news", 28, 3600, false);
    let news = || events.iter().filter(|event| event.set == "news");
    // All its events have the same date.
    for (place, count) in [(300, 1), (300, misdated.len()), (0, misdated.len())] {
        let folder = tempfile::tempdir().unwrap();
        let odd = lines(&misdated[..count]);
        let with_misdated = format!("{}{odd}{}", lines(news().take(place)), lines(news().skip(place)));
        write(&folder, "news.json", &with_misdated);
        write(&folder, "promo.json", &lines(events.iter().filter(|event| event.set == "promo")));
        let ran = replay(&[&text_of(folder.path()), "--quiet"]);
        assert_eq!(ran.code, 0, "{count} events after {place}: {}", ran.err);
    }
}

/// Many files that overlap in time: each has an event in each of three hours.
fn side_by_side(folder: &TempDir, files: u32) {
    for file in 0..files {
        let events: Vec<Event> = (0..3).flat_map(|hour| mail("news", 1, hour * 3600 + file, false)).collect();
        let name = format!("{file:04}.json.gz");
        fs::write(folder.path().join(name), gzip(lines(&events).as_bytes())).unwrap();
    }
}

#[test]
fn hundreds_of_files_of_one_time_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    side_by_side(&folder, 700);
    let ran = replay(&[&[text_of(folder.path()).as_str()], &JSON[..]].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(judged(&ran)["input"]["recorded"], 4_200);
}

#[test]
fn more_files_of_one_time_than_can_be_merged_end_with_2_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    side_by_side(&folder, 2_100);
    let ran = replay(&[&text_of(folder.path()), "--quiet"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("error: 2100 files or more have events of 2026-09-01T00:34:08Z"), "{}", ran.err);
    assert!(ran.err.contains("at most 2048") && ran.err.contains("fewer folders"), "{}", ran.err);
}
