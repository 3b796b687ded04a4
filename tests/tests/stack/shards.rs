//! Several shards of the ledger's stream write the rows of one subject: transactions conflict, and every unit counts once.

use aws::reputation::{DynamoReputation, LIMITS};
use e2e::cloud::{Cloud, REPUTATION};
use pipeline::Senders;
use pipeline::fold::fold;
use pipeline::stream::{Record, Shard};
use reputation::time::Now;
use reputation::unit::{Unit, UnitKey};
use reputation::{Isp, Policy, Subject, UnitKind};

use super::mail::stored;

const NOW: Now = Now(1_791_273_600_000);
const SHARDS: u64 = 8;
const BATCHES: u64 = 30;
const UNITS: u64 = 20;

#[tokio::test(start_paused = true)]
async fn shards_that_meet_at_a_hot_subject_lose_nothing_and_move_to_lanes_of_their_own() {
    let (cloud, policy) = (Cloud::without_streams(), Policy::default());
    cloud.contend();
    let subject = Subject::ConfigurationSet("news".into());
    let mut senders = Senders::default();
    let sender = senders.intern("news", || vec![subject.clone()]);
    let (cloud, policy, senders) = (&cloud, &policy, &senders);
    let shards = (0..SHARDS).map(|number| async move {
        let mut store = DynamoReputation::new(cloud.clients().dynamodb(), REPUTATION, policy);
        let shard = Shard::new(&format!("shardId-0000000{number}"));
        for batch in 0..BATCHES {
            let record = |index: u64| Record {
                sequence: (batch * UNITS + index).into(),
                unit: Unit {
                    key: UnitKey(u128::from((number << 32) | (batch * UNITS + index))),
                    kind: UnitKind::Sent,
                    isp: Isp::OTHER,
                    cohort: NOW.minute(),
                    sender,
                    bucket: None,
                },
            };
            let records: Vec<Record> = (0..UNITS).map(record).collect();
            // Lambda delivers a batch again until it succeeds.
            while fold(&mut store, &shard, &records, senders, LIMITS, NOW).await.is_err() {}
        }
        (store.conflicts(), store.lanes())
    });
    let met = futures_util::future::join_all(shards).await;
    let totals = stored(cloud, "m");
    assert_eq!(totals[&(subject.to_string(), "other.sent".to_owned())], SHARDS * BATCHES * UNITS);
    assert!(met.iter().any(|(conflicts, _)| *conflicts > 0), "a simulation in which nothing meets shows nothing");
    assert!(met.iter().any(|(_, lanes)| *lanes > 1), "{met:?}");
    // Far fewer than one for each fold: they avoid each other.
    let conflicts: u64 = met.iter().map(|(conflicts, _)| conflicts).sum();
    assert!(conflicts < SHARDS * BATCHES / 2, "{met:?}");
}
