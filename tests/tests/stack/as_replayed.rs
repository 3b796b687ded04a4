//! A replay of a stream, and the deployed stack with the same stream, end in the same state.

use std::collections::BTreeMap;
use std::io::Read as _;

use e2e::cloud::{Cloud, LEDGER, REPUTATION};
use e2e::stack::{Stack, stamped};
use flate2::read::MultiGzDecoder;
use replay::driver::{MAX_SUBJECTS, Options, replay};
use replay::generate::{Scenario, generate};
use replay::input::{Progress, Source};
use replay::report::Report;
use reputation::Policy;
use reputation::time::Now;
use serde_json::Value;

use super::mail::{Totals, stored};

/// 2026-11-21: after all streams.
const REAL_NOW: i64 = 1_795_219_200_000;

/// Breakers that are not closed, by subject and ISP.
type Breakers = BTreeMap<(String, String), String>;

/// Totals, breakers, and the number of uncountable messages.
type End = (Totals, Breakers, u64);

async fn deployed(lines: &[&str], gate: bool) -> End {
    let cloud = Cloud::new();
    cloud.key_units_as_a_replay();
    let mut stack = Stack::new(&cloud, gate);
    let (mut now, mut folded, mut failed) = (Now(0), 0, 0);
    let mut rest = lines;
    while !rest.is_empty() {
        // Events of one minute arrive together.
        let minute =
            |line: &str| stamped(line, REAL_NOW).map(|at| Now(at).minute()).filter(|minute| *minute > now.minute());
        let begins = rest.iter().position(|line| minute(line).is_some()).unwrap_or(rest.len()).max(1);
        let next = rest[..begins].iter().filter_map(|line| stamped(line, REAL_NOW)).max().map_or(now, Now);
        let ends_minute = next.minute() > now.minute();
        now = now.max(next);
        if ends_minute {
            stack.tick(now).await.unwrap();
        }
        // Future dates are judged by the real clock, in a replay, too.
        failed += stack.ingest(&rest[..begins], Now(REAL_NOW)).await.unwrap().len() as u64;
        let records = cloud.stream(LEDGER);
        stack.fold(&records[folded..], now).await.unwrap();
        folded = records.len();
        rest = &rest[begins..];
    }
    // What is due in the last minute, a replay does in it.
    stack.tick(now).await.unwrap();
    let mut breakers = Breakers::new();
    for item in cloud.items(REPUTATION) {
        let text = |name: &str| item[name]["S"].as_str().unwrap_or_default().to_owned();
        if let Some(isp) = text("sk").strip_prefix("breaker#")
            && text("state") != "closed"
        {
            breakers.insert((text("pk"), isp.to_owned()), text("state"));
        }
    }
    (stored(&cloud, "d"), breakers, failed)
}

fn replayed(stream: &[u8], gate: bool) -> End {
    let options = Options {
        policy: Policy::default().in_world(gate),
        real_now: REAL_NOW,
        since: None,
        until: None,
        stop_at: None,
        workers: 1,
        max_subjects: MAX_SUBJECTS,
    };
    let replayed = replay(&options, &[Source::memory("stream", stream.to_vec())], &mut |_| {}, &Progress::default());
    let report = serde_json::to_value(Report::of(&replayed.unwrap(), None)).unwrap();
    let mut totals = Totals::new();
    for row in report["totals"].as_array().unwrap() {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let counters = row.as_object().unwrap().iter().filter_map(|(name, count)| Some((name, count.as_u64()?)));
        for (name, count) in counters.filter(|(_, count)| *count > 0) {
            totals.insert((text("subject"), format!("{}.{name}", text("isp"))), count);
        }
    }
    let breaker = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        // So people are notified of an ISP whose breaker is open and holds nothing.
        let state = text("state").replace("in trouble", "open");
        ((text("subject"), text("isp")), state)
    };
    let breakers = report["breakers"].as_array().unwrap().iter().map(breaker).collect();
    (totals, breakers, report["input"]["rejected"].as_u64().unwrap())
}

/// The built-in scenarios; or the file of events that the variable STREAM names.
fn streams() -> Vec<Vec<u8>> {
    if let Ok(path) = std::env::var("STREAM") {
        let mut stream = Vec::new();
        MultiGzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut stream).unwrap();
        return vec![stream];
    }
    let generated = |(name, minutes): (&str, u32)| {
        let mut stream = Vec::new();
        generate(&Scenario::builtin(name).unwrap().with_minutes(minutes), 3, &mut stream).unwrap();
        stream
    };
    [("stale-list", 235), ("provider-incident", 60)].map(generated).into()
}

#[tokio::test(start_paused = true)]
async fn a_replay_and_the_stack_come_to_the_same_totals_and_breakers() {
    let streams = streams();
    // Without a gate, an ISP's own trouble is distinguished from bad lists in another way.
    let without_gate = streams.last().map(|stream| (stream, false));
    for (stream, gate) in streams.iter().map(|stream| (stream, true)).chain(without_gate) {
        let text = String::from_utf8_lossy(stream);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let (totals, breakers, rejected) = replayed(stream, gate);
        let found = deployed(&lines, gate).await;
        assert_eq!(found.0, totals);
        assert_eq!(found.1, breakers);
        assert_eq!(found.2, rejected);
    }
}
