//! The sample streams: what is counted equals the truth their generator wrote down, in whatever order, however often and
//! in whatever pieces they are told; and the breaker does what their row in `events/README.md` says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use replay::driver::{Options, Replay, replay};
use replay::input::{Progress, Source};
use replay::report::Report;
use reputation::Policy;
use serde_json::Value;

const STREAMS: [&str; 6] =
    ["complaints-rising", "healthy-day", "isp-throttling", "messy", "provider-incident", "stale-list"];
/// 2026-11-21: after all streams.
const NOW: i64 = 1_795_219_200_000;

fn events() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../events")
}

fn stream(name: &str) -> Vec<u8> {
    let gz = fs::File::open(events().join(format!("streams/{name}.ndjson.gz"))).unwrap();
    let mut bytes = Vec::new();
    MultiGzDecoder::new(gz).read_to_end(&mut bytes).unwrap();
    bytes
}

fn truth(name: &str) -> Value {
    serde_json::from_slice(&fs::read(events().join(format!("truth/{name}.json"))).unwrap()).unwrap()
}

fn run(pieces: &[Vec<u8>], workers: usize) -> Replay {
    let sources: Vec<Source> = pieces.iter().map(|piece| Source::memory("piece", piece.clone())).collect();
    let options =
        Options { policy: Policy::default(), real_now: NOW, since: None, until: None, stop_at: None, workers };
    replay(&options, &sources, &mut |_| {}, &Progress::default()).unwrap()
}

type Totals = BTreeMap<(String, String), BTreeMap<String, u64>>;

fn totals(rows: &Value) -> Totals {
    let mut totals = Totals::new();
    for row in rows.as_array().unwrap() {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let counters =
            row.as_object().unwrap().iter().filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)));
        totals.insert((text("subject"), text("isp")), counters.filter(|(_, count)| *count > 0).collect());
    }
    totals
}

fn report(replayed: &Replay) -> Value {
    serde_json::to_value(Report::of(replayed, None)).unwrap()
}

fn counted(replayed: &Replay) -> (Totals, u64) {
    let report = report(replayed);
    (totals(&report["totals"]), report["input"]["recorded"].as_u64().unwrap())
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').collect()
}

#[test]
fn what_is_counted_equals_the_truth() {
    for name in STREAMS {
        let truth = truth(name);
        let (totals_found, recorded) = counted(&run(&[stream(name)], 2));
        assert_eq!(totals_found, totals(&truth["totals"]), "{name}");
        assert_eq!(recorded, truth["recorded"].as_u64().unwrap(), "{name}");
    }
}

#[test]
fn order_repetition_and_pieces_change_no_count() {
    for (seed, name) in STREAMS.into_iter().enumerate() {
        let expected = counted(&run(&[stream(name)], 0));
        let whole = stream(name);
        let mut random = ChaCha8Rng::seed_from_u64(seed as u64);
        let mut shuffled = lines(&whole);
        shuffled.shuffle(&mut random);
        assert_eq!(counted(&run(&[shuffled.concat()], 2)), expected, "{name}, shuffled");
        assert_eq!(counted(&run(&[whole.clone(), whole.clone()], 2)), expected, "{name}, doubled");
        let mut pieces = Vec::new();
        let mut rest = &lines(&whole)[..];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(random.random_range(1..=rest.len().min(3_000)));
            pieces.push(piece.concat());
            rest = more;
        }
        assert_eq!(counted(&run(&pieces, 2)), expected, "{name}, in {} pieces", pieces.len());
    }
}

#[test]
fn neither_threads_nor_files_change_what_a_breaker_does() {
    for name in STREAMS {
        let whole = stream(name);
        let one = report(&run(std::slice::from_ref(&whole), 0));
        let pieces: Vec<Vec<u8>> = lines(&whole).chunks(777).map(<[&[u8]]>::concat).collect();
        for other in [run(&[whole], 3), run(&pieces, 2)] {
            let other = report(&other);
            for part in ["transitions", "controls", "stopped"] {
                assert_eq!(one[part], other[part], "{name}: {part}");
            }
        }
    }
}

/// The keys that opened, as `subject` or `subject@isp`, in order.
fn opened(name: &str) -> Vec<String> {
    let report = report(&run(&[stream(name)], 2));
    let transitions = report["transitions"].as_array().unwrap();
    let opens = transitions.iter().filter(|told| told["to"] == "open" && told["from"] != "open");
    let key = |told: &Value| match told["isp"].as_str() {
        Some(isp) => format!("{}@{isp}", told["subject"].as_str().unwrap()),
        None => told["subject"].as_str().unwrap().to_owned(),
    };
    let mut keys: Vec<String> = opens.map(key).collect();
    keys.sort();
    keys.dedup();
    keys
}

#[test]
fn the_breaker_does_what_the_streams_are_there_to_show() {
    let check = |name: &str, expected: &[&str]| assert_eq!(opened(name), expected, "{name}");
    check("healthy-day", &[]);
    check("stale-list", &["configuration-set:newsletter", "identity:news.example.com"]);
    check("isp-throttling", &["configuration-set:newsletter@microsoft", "identity:news.example.com@microsoft"]);
    check("complaints-rising", &["configuration-set:offers", "identity:offers.example.com"]);
    check("messy", &[]);
}

#[test]
fn an_isps_own_trouble_is_held_and_no_sender_is_left_punished() {
    let replayed = run(&[stream("provider-incident")], 2);
    let report = report(&replayed);
    let controls = report["controls"].as_array().unwrap();
    assert!(controls.iter().any(|control| control["control"] == "hold_isp" && control["isp"] == "gmail"));
    assert!(controls.iter().all(|control| control["control"] != "pause_configuration_set"), "{controls:#?}");
    assert!(replayed.reputation.known_board().unsettled.is_empty(), "{:?}", replayed.reputation.known_board());
}
