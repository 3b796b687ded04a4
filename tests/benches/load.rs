//! Measures the breaker under load, on a simulated clock: how many folds a second one subject allows by lanes, what an
//! evaluation costs by the number of stopped subjects, and how long a batch takes that harms thousands of subjects. Run with
//! `cargo bench -p ses-breaker-e2e --bench load`. DynamoDB is dynoxide in this process, with simulated limits: a transaction takes 10 ms
//! and conflicts with others on its items, a partition accepts 1,000 write units a second.

#![expect(clippy::print_stdout, reason = "a bench prints")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::fmt::Write as _;
use std::time::Duration;

use aws::reputation::{DynamoReputation, LIMITS};
use breaker::{Breaker, BreakerWake};
use e2e::cloud::{Cloud, Fate, LEDGER, REPUTATION};
use e2e::stack::Stack;
use futures_util::future::join_all;
use pipeline::Senders;
use pipeline::fold::fold;
use pipeline::ports::{Change, Reputation as _};
use pipeline::stream::{Record, Shard};
use reputation::breaker::{BreakerState, State};
use reputation::time::Now;
use reputation::unit::{Unit, UnitKey};
use reputation::{Key, Policy, Subject, UnitKind};
use tokio::time::Instant;

/// 2026-11-21 12:07.
const NOW: Now = Now(1_795_219_200_000 + (12 * 60 + 7) * 60_000);
const CALL: Duration = Duration::from_millis(5);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    tokio::time::pause();
    println!("Folds a second of one subject (its configuration set and its identity), 15 ISPs, by shards and lanes.\n");
    println!("{:>8} {:>8} {:>10} {:>20} {:>14}", "shards", "lanes", "folds a s", "conflicts a fold", "units a s *");
    for shards in [1, 4, 16] {
        for lanes in [1, 4, 16] {
            folds(shards, lanes).await;
        }
    }
    println!("\n* with 1,000 units in each batch, the most that Lambda gives.\n");

    println!("What one invocation reads, by configuration sets that are stopped.\n");
    println!(
        "{:>8} {:>30} {:>30} {:>30}",
        "stopped", "tick", "tick that judges them again", "batch that harms one subject"
    );
    for stopped in [10, 100, 1_000, 5_000] {
        looks(stopped).await;
    }

    println!("\nA batch of 1,000 bounces of 1,000 senders with four subjects each.\n");
    println!("{:>12} {:>24} {:>12} {:>14}", "invocations", "longest, simulated s", "changes", "reads");
    wide_batch().await;
}

async fn folds(shards: u64, lanes: u32) {
    const SECONDS: u64 = 2;
    let cloud = Cloud::without_streams();
    cloud.contend();
    let policy = Policy { lanes, ..Policy::default() };
    let isps: Vec<_> = policy.isp_map.isps().take(15).collect();
    let mut senders = Senders::default();
    let sender = senders
        .intern("news", || vec![Subject::ConfigurationSet("news".into()), Subject::Identity("example.com".into())]);
    let (cloud, policy, senders, isps) = (&cloud, &policy, &senders, &isps);
    let begun = Instant::now();
    let work = (0..shards).map(|number| async move {
        let shard = Shard::new(&format!("shardId-0000000{number}"));
        let (mut done, mut conflicts) = (0, 0);
        while begun.elapsed() < Duration::from_secs(SECONDS) {
            let record = |index: u64| Record {
                sequence: (done * 100 + index).into(),
                unit: Unit {
                    key: UnitKey(u128::from((number << 32) | (done * 100 + index))),
                    kind: [UnitKind::Sent, UnitKind::Delivered][index as usize % 2],
                    isp: isps[index as usize % isps.len()],
                    cohort: NOW.minute(),
                    sender,
                    bucket: None,
                },
            };
            let records: Vec<Record> = (0..100).map(record).collect();
            // A cold process each time, because one that has met conflicts uses more lanes.
            let mut store = DynamoReputation::new(cloud.clients().dynamodb(), REPUTATION, policy);
            done += u64::from(fold(&mut store, &shard, &records, senders, LIMITS, NOW).await.is_ok());
            conflicts += store.conflicts();
        }
        (done, conflicts)
    });
    let met = join_all(work).await;
    let (done, conflicts) = met.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let rate = done as f64 / SECONDS as f64;
    let share = conflicts as f64 / done.max(1) as f64;
    println!("{shards:>8} {lanes:>8} {rate:>10.1} {share:>20.2} {:>14.0}", rate * 1_000.0);
}

/// A stopped configuration set.
fn stopped(number: usize) -> Change {
    let state = State::Open { at: NOW, until: Some(NOW.plus_minutes(600)), tested: false };
    Change {
        key: Key { subject: Subject::ConfigurationSet(format!("set-{number:05}").as_str().into()), isp: None },
        version: 0,
        next: BreakerState { state, enacted: true, ..BreakerState::default() },
        controls: Vec::new(),
        transition: None,
        places: None,
    }
}

async fn looks(count: usize) {
    let cloud = Cloud::new();
    let mut store = DynamoReputation::new(cloud.clients().dynamodb(), REPUTATION, &Policy::default());
    for number in 0..count {
        store.save(&[stopped(number)]).await.unwrap();
    }
    let mut stack = Stack::new(&cloud, false);
    // The first tick of an hour judges all subjects with mail; that is not measured.
    stack.tick(NOW).await.unwrap();
    let mut line = format!("{count:>8}");
    for (what, minutes) in [("tick", 1), ("again", 3), ("batch", 4)] {
        let now = NOW.plus_minutes(minutes);
        let mut records = 0..0;
        if what == "batch" {
            let body = bounce(0, now);
            assert!(stack.ingest(&[&body], now).await.unwrap().is_empty());
            records = 0..cloud.stream(LEDGER).len();
        }
        let read = || {
            let state = cloud.state();
            (state.reads, state.read_bytes)
        };
        let before = read();
        match what {
            "batch" => _ = stack.fold(&cloud.stream(LEDGER)[records], now).await.unwrap(),
            _ => _ = stack.tick(now).await.unwrap(),
        }
        let after = read();
        let text = format!("{} reads, {:.0} KB", after.0 - before.0, (after.1 - before.1) as f64 / 1e3);
        write!(line, " {text:>30}").unwrap();
    }
    println!("{line}");
}

/// A bounce of a sender of its own, with a tenant and a campaign.
fn bounce(number: usize, at: Now) -> String {
    format!(
        r#"{{"eventType":"Bounce","mail":{{"timestamp":"{at}","messageId":"0102{number:08}","source":"hello@s{number}.example",
        "destination":["reader{number}@gmail.com"],"tags":{{"ses:configuration-set":["mail-{number}"],
        "ses:from-domain":["s{number}.example"],"ses:tenant-name":["tenant-{number}"],"campaign":["c{number}"]}}}},
        "bounce":{{"bounceType":"Permanent","bounceSubType":"General","timestamp":"{at}","feedbackId":"f{number}",
        "bouncedRecipients":[{{"emailAddress":"reader{number}@gmail.com","status":"5.1.1"}}]}}}}"#
    )
}

async fn wide_batch() {
    let cloud = Cloud::new();
    let policy = "[subjects]\ntenants = true\ntags = [\"campaign\"]\n";
    Stack::push(&cloud, policy).await;
    let mut stack = Stack::new(&cloud, false);
    // Each sender already has mail, so that some of this harm leads to a transition.
    let mut bodies = Vec::new();
    for number in 0..1_000 {
        bodies.push(bounce(number, NOW));
    }
    for bodies in bodies.chunks(250) {
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        assert!(stack.ingest(&bodies, NOW).await.unwrap().is_empty());
    }
    let records = cloud.stream(LEDGER);
    let clients = cloud.clients_over(|| (CALL, Fate::Answered));
    let (mut invocations, mut longest, mut changes) = (0, Duration::ZERO, 0);
    let before = cloud.state().reads;
    loop {
        invocations += 1;
        // As Lambda may do it: another process each time.
        let mut breaker = Breaker::new(&clients, REPUTATION, false);
        let begun = Instant::now();
        let wake =
            BreakerWake { records: Some(records.clone()), tick: None, shard: Some("shardId-00000001".to_owned()) };
        // The template's timeout, less the margin that a function keeps.
        let in_time = || begun.elapsed() < Duration::from_secs(110);
        let handled = breaker.handle(&wake, NOW, in_time).await.unwrap();
        longest = longest.max(begun.elapsed());
        changes += handled.changes.len();
        if handled.again_from.is_none() {
            break;
        }
    }
    let reads = cloud.state().reads - before;
    println!("{invocations:>12} {:>24.1} {changes:>12} {reads:>14}", longest.as_secs_f64());
}
