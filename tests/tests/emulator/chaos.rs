//! Processes of functions are killed at any moment, repeatedly: every event counts once, and none is lost.
//!
//! `CHAOS_EVENTS` and `CHAOS_KILLS` set the amounts; the defaults are small enough for every run.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::QueueAttributeName;
use e2e::emulator::eventually;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reputation::time::Now;

use super::stream::{self, Stream};
use super::{Observed, differences};

/// Uncountable messages: each stays in the queue, or among the dead letters.
const POISON: [&str; 3] = ["not JSON", "{\"eventType\":\"Bounce\",\"mail\":{}}", "[[[[["];
/// The messages of a killed invocation are delivered again after this, in seconds.
const VISIBILITY: u64 = 3;

fn configured(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |number| number.parse().unwrap())
}

#[tokio::test]
async fn whatever_is_killed_totals_equal_the_truth() {
    let (events, kills) = (configured("CHAOS_EVENTS", 2_000), configured("CHAOS_KILLS", 20));
    let fixture = Observed::new().await;
    let queue = &fixture.events_queue;
    fixture.account.set_queue(queue, QueueAttributeName::VisibilityTimeout, &VISIBILITY.to_string()).await;
    // A message that is killed repeatedly must not become a dead letter here: the test shows that it counts in the end.
    let dead = fixture.account.arn(&fixture.dead_letters).await;
    let redrive = format!(r#"{{"deadLetterTargetArn":"{dead}","maxReceiveCount":"1000"}}"#);
    fixture.account.set_queue(queue, QueueAttributeName::RedrivePolicy, &redrive).await;

    let Stream { mut raw, truth, .. } = stream::of_about(events, Now(aws::invocation::now().0));
    for (index, poison) in POISON.iter().enumerate() {
        raw.insert(raw.len() * (index + 1) / (POISON.len() + 1), (*poison).to_owned());
    }
    let began = Instant::now();
    let publish = async {
        for lines in raw.chunks(50) {
            fixture.publish(lines).await;
        }
        began.elapsed()
    };
    let kill = async {
        let (mut killed, mut rng) = (0_usize, ChaCha8Rng::seed_from_u64(1));
        while killed < kills {
            // Out of step with everything else.
            tokio::time::sleep(Duration::from_millis(rng.random_range(50..950))).await;
            killed += fixture.emulator.kill_functions(rng.random_range(0..usize::MAX));
        }
        (killed, began.elapsed())
    };
    let (published, (killed, until)) = tokio::join!(publish, kill);

    let subjects: BTreeSet<String> = truth.keys().map(|(subject, _)| subject.clone()).collect();
    eventually("everything is counted once", Duration::from_secs(600), async || {
        for subject in &subjects {
            let found = fixture.account.totals(&fixture.table, "d", Some(subject)).await;
            let wrong = differences(&found, &truth, subject);
            if !wrong.is_empty() {
                return Err(wrong);
            }
        }
        Ok(())
    })
    .await;
    eprintln!(
        "{} events published in {published:.1?}, {killed} processes killed in {until:.1?}, counted after {:.1?}",
        raw.len(),
        began.elapsed()
    );
    // Late deliveries add nothing.
    tokio::time::sleep(Duration::from_secs(2 * VISIBILITY)).await;
    for length in ["d", "h", "m"] {
        assert_eq!(fixture.account.totals(&fixture.table, length, None).await, truth, "{length}");
    }
    let left = fixture.account.waiting(queue).await + fixture.account.waiting(&fixture.dead_letters).await;
    assert_eq!(left, POISON.len(), "only what cannot be counted is left");
    fixture.base.emulator.stop().unwrap();
}
