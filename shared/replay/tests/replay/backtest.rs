//! What another policy would have changed: laws, checked on the sample streams.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use pipeline::Senders;
use pipeline::classify::Classifier;
use proptest::prelude::*;
use replay::backtest::{Backtest, Became};
use replay::driver::{Options, Replay, replay, replay_recorded, replay_side_by_side};
use replay::input::{Progress, Source, Sources, Supply};
use replay::recorded::{Recorded, RecordedUnit};
use replay::report::Report;
use replay::text::backtest as text;
use reputation::Policy;
use reputation::time::Minute;
use reputation::unit::{Unit, UnitKind};
use ses_events::{Decoded, Decoder};
use terminal::{TermStyle, visible};

use crate::streams::{self, LATER};

fn options(policy: &str) -> Options {
    let policy = Policy::from_toml(policy).unwrap().in_world(true);
    streams::options(policy)
}

fn stream(name: &str) -> Vec<Source> {
    Sources::expand(&[format!("../../events/streams/{name}.ndjson.gz")]).unwrap()
}

fn both(sources: &[Source], in_use: &str, candidate: &str) -> (Backtest, [Replay; 2]) {
    let (ours, theirs) = (options(in_use), options(candidate));
    let (replays, read) = replay_side_by_side([&ours, &theirs], sources, &mut |_| {}, &Progress::new());
    read.unwrap();
    (Backtest::of((&replays[0], "in use"), (&replays[1], "candidate")), replays)
}

const STREAMS: [&str; 3] = ["stale-list", "isp-throttling", "provider-incident"];

#[test]
fn a_backtest_under_the_same_policy_changes_nothing() {
    for name in STREAMS {
        let (backtest, _) = both(&stream(name), "", "");
        assert!(backtest.changes.is_empty(), "{name}: {:?}", backtest.changes);
        assert_eq!(backtest.unchanged, backtest.in_use.trips, "{name}");
        assert_eq!(
            format!("{:?}", backtest.in_use).replace("in use", "candidate"),
            format!("{:?}", backtest.candidate)
        );
    }
}

#[test]
fn side_by_side_each_policy_does_what_it_does_alone() {
    let other = "[metrics.hard_bounce]\nlimit = 0.03\n";
    for name in STREAMS {
        let (_, replays) = both(&stream(name), "", other);
        for (replayed, policy) in replays.iter().zip(["", other]) {
            let alone = replay(&options(policy), &stream(name), &mut |_| {}, &Progress::new()).unwrap();
            let json = |replay: &Replay| serde_json::to_value(Report::of(replay, None)).unwrap();
            assert_eq!(json(replayed), json(&alone), "{name}");
        }
    }
}

#[test]
fn what_changes_under_the_other_policy_is_gone_or_new_the_other_way_round() {
    let lenient = "[metrics.hard_bounce]\nlimit = 0.2\n";
    let (there, _) = both(&stream("stale-list"), "", lenient);
    let (back, _) = both(&stream("stale-list"), lenient, "");
    let mirrored = |became: Became| match became {
        Became::New => Became::Gone,
        Became::Gone => Became::New,
        Became::Earlier => Became::Later,
        Became::Later => Became::Earlier,
    };
    let key = |backtest: &Backtest, mirror: bool| {
        let mut keys: Vec<_> = backtest
            .changes
            .iter()
            .map(|change| {
                let became = if mirror { mirrored(change.became) } else { change.became };
                (change.subject.clone(), change.isp.clone(), format!("{became:?}"), change.seconds)
            })
            .collect();
        keys.sort();
        keys
    };
    assert!(!there.changes.is_empty());
    assert_eq!(key(&there, false), key(&back, true));
    assert_eq!(there.unchanged, back.unchanged);
}

#[test]
fn a_backtest_reads_like_this() {
    let strict = "[metrics.hard_bounce]\nthrottle = 4\npause = 5\n\n[breaker]\nopen_minutes = 20\n";
    let (backtest, _) = both(&stream("stale-list"), "", strict);
    insta::assert_snapshot!("stricter", visible(&text(&backtest, TermStyle::new(None))));
    let lenient = "[metrics.hard_bounce]\nlimit = 0.2\n\n[[ratios]]\nmetric = \"complaint\"\nwindow_hours = 24\n\
                   min_population = 5000\nmin_bad = 5\nwarn = 0.01\n";
    let (backtest, _) = both(&stream("stale-list"), "", lenient);
    insta::assert_snapshot!("lenient", visible(&text(&backtest, TermStyle::new(None))));
    let (backtest, _) = both(&stream("stale-list"), "", "");
    insta::assert_snapshot!("same", visible(&text(&backtest, TermStyle::new(None))));
}

/// The ledger that a stack would have recorded for a stream.
fn ledger_of(name: &str) -> Recorded {
    let policy = Policy::default();
    let mut plain = Vec::new();
    let file = std::fs::File::open(format!("../../events/streams/{name}.ndjson.gz")).unwrap();
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut plain).unwrap();
    let (mut decoder, mut classifier) = (Decoder::new(), Classifier::new(&policy, [7; 16]));
    let (mut senders, mut units) = (Senders::default(), Vec::new());
    for line in plain.split(|byte| *byte == b'\n') {
        decoder.decode(line, |decoded| {
            if let Decoded::Event(event) = decoded {
                _ = classifier.classify(&event, LATER, &mut senders, &mut units);
            }
        });
    }
    let mut recorded = Recorded::default();
    let mut known = BTreeSet::new();
    for unit in units.iter().filter(|unit| known.insert(unit.key)) {
        let subjects = senders.subjects(unit.sender).to_vec();
        let isp = policy.isp_map.name(unit.isp).to_owned();
        let Unit { kind, cohort, bucket, .. } = *unit;
        recorded.add(RecordedUnit { kind, isp, cohort, subjects, bucket });
    }
    recorded
}

/// Trips by key, to the minute.
fn trips(report: &Report) -> BTreeMap<String, Vec<String>> {
    let mut trips: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for transition in report.transitions.iter().filter(|transition| transition.opens()) {
        let isp = transition.isp.as_ref().map_or(String::new(), |isp| format!(" @ {isp}"));
        trips
            .entry(format!("{}{isp}", transition.subject))
            .or_default()
            .push(transition.at.to_string()[..16].to_owned());
    }
    trips
}

#[test]
fn a_ledger_has_the_totals_of_its_stream_and_trips_earlier() {
    let mut differs = String::new();
    for name in ["complaints-rising", "healthy-day", "isp-throttling", "messy", "provider-incident", "stale-list"] {
        let of_stream = replay(&options(""), &stream(name), &mut |_| {}, &Progress::new()).unwrap();
        let of_stream = Report::of(&of_stream, None);
        let of_ledger = Report::of(&replay_recorded(&options(""), &ledger_of(name)).unwrap(), None);
        assert_eq!(of_ledger.totals, of_stream.totals, "{name}");
        let (ledger, stream) = (trips(&of_ledger), trips(&of_stream));
        for key in ledger.keys().chain(stream.keys()).collect::<BTreeSet<_>>() {
            let shown =
                |trips: &BTreeMap<String, Vec<String>>| trips.get(key).map_or("-".to_owned(), |trips| trips.join(" "));
            differs.push_str(&format!("{name}: {key}\n  replay {}\n  ledger {}\n", shown(&stream), shown(&ledger)));
        }
    }
    insta::assert_snapshot!("ledger_and_stream", differs);
}

fn recorded(units: &[(UnitKind, u32)]) -> Recorded {
    let mut recorded = Recorded::default();
    let subjects = vec!["configuration-set:news".parse().unwrap(), "identity:news.example".parse().unwrap()];
    for (kind, minute) in units {
        let cohort = Minute(29_854_560 + minute);
        let (isp, subjects) = ("gmail".to_owned(), subjects.clone());
        recorded.add(RecordedUnit { kind: *kind, isp, cohort, subjects, bucket: None });
    }
    recorded
}

#[test]
fn sources_that_are_handed_over_are_read_in_order_and_a_damaged_one_ends_nothing() {
    let file = |name: &str| std::fs::read(format!("../../events/streams/{name}.ndjson.gz")).unwrap();
    let (whole, cut) = (file("stale-list"), file("isp-throttling"));
    let cut = cut[..cut.len() / 2].to_vec();
    let handed = |objects: Vec<(&str, std::io::Result<Vec<u8>>)>| {
        let names: Vec<String> = objects.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut bytes = objects.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>().into_iter();
        let supply = Supply::new(move || bytes.next().unwrap());
        let sources: Vec<Source> = names.iter().map(|name| supply.source(name, 1)).collect();
        let ours = options("");
        let (replays, read) = replay_side_by_side([&ours, &ours], &sources, &mut |_| {}, &Progress::new());
        let damages: Vec<String> =
            supply.damages().into_iter().map(|damage| format!("{} {}", damage.source, damage.what)).collect();
        (Report::of(&replays[0], None).input, damages, read.err().map(|error| error.to_string()))
    };
    let (alone, ..) = handed(vec![("a.gz", Ok(whole.clone()))]);
    let plain = b"{\"eventType\":\"Unheard\"}\n".to_vec();
    let (input, damages, error) =
        handed(vec![("a.gz", Ok(cut)), ("b.gz", Ok(plain)), ("c", Ok(whole.clone())), ("d", Ok(Vec::new()))]);
    assert!(input.recorded > alone.recorded && error.is_none(), "{input:?} {error:?}");
    assert_eq!(damages.len(), 2, "{damages:?}");
    assert!(damages[0].starts_with("a.gz its gzip data is cut short or damaged from line "), "{damages:?}");
    assert_eq!(damages[1], "b.gz it is named .gz and is not gzip: read as it is");
    // An error from the supplier ends the reading after what came before.
    let (input, damages, error) =
        handed(vec![("a.gz", Ok(whole.clone())), ("b", Err(std::io::Error::other("gone"))), ("c", Ok(whole))]);
    assert_eq!((input.recorded, damages.len()), (alone.recorded, 0));
    assert_eq!(error.as_deref(), Some("cannot read b from line 1 on"));
}

fn kinds() -> impl Strategy<Value = UnitKind> {
    let kinds = [UnitKind::Sent, UnitKind::Delivered, UnitKind::Sent, UnitKind::HardBounce, UnitKind::Complaint];
    (0..kinds.len()).prop_map(move |index| kinds[index])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_result_of_a_ledger_does_not_depend_on_the_order_of_its_scan(
        units in prop::collection::vec((kinds(), 0..200_u32, 0..3_usize, 0..2_usize), 1..300),
        seed in any::<usize>(),
    ) {
        let mut other = units.clone();
        other.reverse();
        other.rotate_left(seed % units.len());
        let report = |units: &[(UnitKind, u32, usize, usize)]| {
            let mut recorded = Recorded::default();
            for (kind, minute, sender, isp) in units {
                let subjects = vec![["configuration-set:a", "configuration-set:b", "tenant:c"][*sender].parse().unwrap()];
                let (isp, cohort) = (["yahoo", "gmail"][*isp].to_owned(), Minute(29_854_560 + minute));
                recorded.add(RecordedUnit { kind: *kind, isp, cohort, subjects, bucket: None });
            }
            let replayed = replay_recorded(&options(""), &recorded).unwrap();
            serde_json::to_value(Report::of(&replayed, None)).unwrap()
        };
        prop_assert_eq!(report(&units), report(&other));
    }
}

#[test]
fn a_ledger_is_counted_in_full_whatever_the_policy_calls_its_isps() {
    let units = [(UnitKind::Sent, 0), (UnitKind::Sent, 1), (UnitKind::Delivered, 1), (UnitKind::HardBounce, 61)];
    let mut recorded = recorded(&units);
    let subjects = vec!["configuration-set:news".parse().unwrap(), "tag:campaign=a".parse().unwrap()];
    let cohort = Minute(29_854_560);
    let isp = "nobody-knows".to_owned();
    recorded.add(RecordedUnit { kind: UnitKind::Sent, isp, cohort, subjects, bucket: None });
    let replayed = replay_recorded(&options(""), &recorded).unwrap();
    let report = Report::of(&replayed, None);
    assert_eq!(report.input.recorded, 5);
    let totals: Vec<String> = report.totals.iter().map(|total| format!("{} {}", total.subject, total.isp)).collect();
    assert_eq!(
        totals,
        ["configuration-set:news gmail", "configuration-set:news other", "identity:news.example gmail",]
    );
}
