//! The sample streams: the counts equal the truth that their generator recorded, in any order, with any duplicates and in any
//! pieces; and the breaker does what their row in `events/README.md` says.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use replay::driver::{MAX_SUBJECTS, Options, Replay, replay};
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
    run_under(&Policy::default().in_world(true), pieces, workers)
}

fn run_under(policy: &Policy, pieces: &[Vec<u8>], workers: usize) -> Replay {
    let sources: Vec<Source> = pieces.iter().map(|piece| Source::memory("piece", piece.clone())).collect();
    let options = Options {
        policy: policy.clone(),
        real_now: NOW,
        since: None,
        until: None,
        stop_at: None,
        workers,
        max_subjects: MAX_SUBJECTS,
    };
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
    opened_in(&run(&[stream(name)], 2))
}

fn opened_in(replayed: &Replay) -> Vec<String> {
    let report = report(replayed);
    let transitions = report["transitions"].as_array().unwrap();
    let opens = transitions.iter().filter(|transition| transition["to"] == "open" && transition["from"] != "open");
    let key = |transition: &Value| match transition["isp"].as_str() {
        Some(isp) => format!("{}@{isp}", transition["subject"].as_str().unwrap()),
        None => transition["subject"].as_str().unwrap().to_owned(),
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

#[test]
fn without_a_gate_an_isps_own_trouble_leaves_no_sender_stopped() {
    let replayed = run_under(&Policy::default(), &[stream("provider-incident")], 2);
    let report = report(&replayed);
    let transitions = report["transitions"].as_array().unwrap();
    assert!(transitions.iter().any(|transition| transition["subject"] == "account"
        && transition["isp"] == "gmail"
        && transition["level"] == "warn"));
    let controls = report["controls"].as_array().unwrap();
    assert!(controls.iter().all(|control| control["isp"].is_null()), "nothing can hold an ISP: {controls:#?}");
    let mut paused = BTreeMap::new();
    for control in controls {
        let name = control["control"].as_str().unwrap();
        if name.ends_with("_configuration_set") {
            paused.insert(control["target"].as_str().unwrap(), name.starts_with("pause"));
        }
    }
    assert!(paused.values().all(|paused| !paused), "{paused:?}");
    let left: Vec<_> = report["breakers"].as_array().unwrap().iter().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The lines of a stream with one kind of event, and the lines without it.
fn split_by_kind(name: &str, kind: &str) -> (Vec<u8>, Vec<u8>) {
    let whole = stream(name);
    let needle = format!("\"eventType\":\"{kind}\"");
    let has_kind = |line: &&[u8]| String::from_utf8_lossy(line).contains(&needle);
    let (with, without): (Vec<&[u8]>, Vec<&[u8]>) = lines(&whole).into_iter().partition(has_kind);
    assert!(!with.is_empty(), "{name} has no {kind}");
    (with.concat(), without.concat())
}

#[test]
fn a_healthy_sender_is_not_stopped_for_publishing_no_deliveries_or_late_ones() {
    let (deliveries, rest) = split_by_kind("healthy-day", "Delivery");
    assert_eq!(opened_in(&run(std::slice::from_ref(&rest), 2)), [""; 0], "no deliveries");
    assert_eq!(opened_in(&run(&[[rest, deliveries].concat()], 2)), [""; 0], "deliveries after everything else");
}

#[test]
fn a_bad_list_is_found_without_deliveries_too() {
    let (_, rest) = split_by_kind("stale-list", "Delivery");
    assert_eq!(opened_in(&run(&[rest], 2)), ["configuration-set:newsletter", "identity:news.example.com"]);
}

#[test]
fn bounces_alone_judge_nobody() {
    let (bounces, _) = split_by_kind("stale-list", "Bounce");
    let replayed = run(&[bounces], 2);
    assert_eq!(report(&replayed)["transitions"].as_array().unwrap().len(), 0);
}

#[test]
fn protected_mail_is_not_stopped_through_its_identity() {
    let policy = Policy::from_toml("[subjects]\nprotected = [\"configuration-set:newsletter\"]").unwrap();
    let replayed = run_under(&policy, &[stream("stale-list")], 2);
    assert_eq!(opened_in(&replayed), [""; 0]);
    let report = report(&replayed);
    assert_eq!(report["controls"].as_array().unwrap().len(), 0, "{:#}", report["controls"]);
    let warned =
        |transition: &Value| transition["subject"] == "configuration-set:newsletter" && transition["level"] == "warn";
    assert!(report["transitions"].as_array().unwrap().iter().any(warned), "people were not warned");
}

#[test]
fn without_a_gate_no_single_isp_is_acted_on_and_its_refusals_count_against_the_set() {
    let policy = Policy::from_toml("[gate]\nin_use = false\n[metrics.block]\nlimit = 0.02").unwrap();
    let report = report(&run_under(&policy, &[stream("isp-throttling")], 2));
    let controls = report["controls"].as_array().unwrap();
    assert!(controls.iter().all(|control| control["isp"].is_null()), "{controls:#?}");
    assert!(controls.iter().any(|control| control["target"] == "configuration-set:newsletter"), "{controls:#?}");
}

#[test]
fn mail_too_late_to_be_judged_is_counted_and_reported() {
    // The latest stream first: the others are days older, but still recent enough to be judged.
    let late = run(&[[stream("messy"), stream("stale-list")].concat()], 2);
    assert_eq!(late.tallies.too_old, 0);
    let far = stream("messy");
    let far = String::from_utf8_lossy(&far).replace("2026-10-1", "2026-11-1").into_bytes();
    let lost = run(&[[far, stream("stale-list")].concat()], 2);
    assert!(lost.tallies.too_old > 8_000, "{}", lost.tallies.too_old);
    assert_eq!(counted(&lost).1, counted(&late).1);
}

#[test]
fn a_ratio_rule_acts_on_a_subject_though_no_evidence_is_asked_for() {
    let rule = "metric = \"hard_bounce\"\nwindow_hours = 24\nmin_population = 1000\nmin_bad = 20\nthrottle = 0.02";
    let off = ["hard_bounce", "complaint"].map(|metric| format!("[metrics.{metric}]\nthrottle = 0.0\npause = 0.0\n"));
    let policy = Policy::from_toml(&format!("{}[[ratios]]\n{rule}", off.concat())).unwrap();
    let report = report(&run_under(&policy, &[stream("healthy-day")], 2));
    let transitions = report["transitions"].as_array().unwrap();
    let cut = |transition: &&Value| {
        transition["to"] == "throttled" && transition["rule"] == "ratio" && transition["isp"].is_null()
    };
    assert!(transitions.iter().any(|transition| cut(&transition)), "{transitions:#?}");
}

#[test]
fn one_event_about_two_bad_isps_is_judged_at_both() {
    // Recipients at two ISPs bounce together, in one event each time; all others are fine.
    let mail = |id: usize, kind: &str, recipients: &str, detail: &str| {
        let minute = id / 20;
        format!(
            r#"{{"eventType":"{kind}","mail":{{"timestamp":"2026-10-06T06:{minute:02}:{:02}.000Z","messageId":"m{id}","source":"a@mail.example.com","destination":[{recipients}],"tags":{{"ses:configuration-set":["news"]}}}},{detail}}}"#,
            id % 20 * 3
        )
    };
    let mut lines = Vec::new();
    for id in 0..600 {
        let bad = id % 20 == 0;
        let names = if bad {
            [format!("b{id}@gmail.com"), format!("b{id}@icloud.com")]
        } else {
            [format!("g{id}@aol.com"), format!("g{id}@corp.example.net")]
        };
        let recipients = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",");
        lines.push(mail(id, "Send", &recipients, "\"send\":{}"));
        let failed = names.iter().map(|name| format!(r#"{{"emailAddress":"{name}"}}"#)).collect::<Vec<_>>().join(",");
        lines.push(if bad {
            let detail = format!(r#""bounce":{{"bounceType":"Permanent","bounceSubType":"NoEmail","feedbackId":"f{id}","bouncedRecipients":[{failed}]}}"#);
            mail(id, "Bounce", &recipients, &detail)
        } else {
            mail(id, "Delivery", &recipients, &format!(r#""delivery":{{"recipients":[{recipients}]}}"#))
        });
    }
    let report = report(&run(&[(lines.join("\n") + "\n").into_bytes()], 0));
    let transitions = report["transitions"].as_array().unwrap();
    let first = |isp: &str| {
        transitions.iter().find(|transition| transition["isp"] == isp).map(|transition| transition["at"].clone())
    };
    assert!(first("gmail").is_some(), "{transitions:#?}");
    assert_eq!(first("gmail"), first("apple"), "{transitions:#?}");
}
