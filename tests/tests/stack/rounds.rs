//! More subjects than one invocation has time for: judging continues where it stopped, with the same result.

use std::collections::BTreeMap;

use breaker::BreakerAnswer;
use e2e::cloud::{Cloud, LEDGER, REPUTATION};
use e2e::stack::Stack;
use reputation::time::Now;
use serde_json::{Value, json};

use super::mail::{Mailbox, Rng, Sender};

const START: Now = Now(1_791_273_600_000);
const SETS: usize = 20;

/// A stack with an unread ledger: the last half of these senders has bad lists.
async fn with_mail() -> Stack {
    let cloud = Cloud::new();
    let mut mailbox = Mailbox::default();
    for number in 0..SETS {
        let set: &'static str = format!("set-{number:02}").leak();
        let domain: &'static str = format!("{set}.example").leak();
        let sender = Sender { set, domain };
        cloud.state().sets.insert(set.to_owned(), true);
        for mail in 0..24 {
            match number >= SETS / 2 && mail % 2 == 0 {
                true => mailbox.bounced(sender, "gmail.com", "gmail", START),
                false => mailbox.delivered(sender, "gmail.com", "gmail", START),
            }
        }
        // So that each sender has harm in the batch.
        mailbox.bounced(sender, "outlook.com", "microsoft", START);
    }
    let mut stack = Stack::new(&cloud, false);
    let bodies: Vec<&str> = mailbox.events.iter().map(String::as_str).collect();
    assert_eq!(stack.ingest(&bodies, START.plus_minutes(1)).await, Ok(Vec::new()));
    stack
}

/// All breakers, without the number of their saves.
fn breakers(stack: &Stack) -> BTreeMap<String, Value> {
    let mut breakers = BTreeMap::new();
    for mut item in stack.cloud.items(REPUTATION) {
        let name = format!("{} {}", item["pk"]["S"], item["sk"]["S"]);
        if name.contains("breaker#") {
            item["version"].take();
            breakers.insert(name, item);
        }
    }
    breakers
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_time_to_judge_is_judged_by_the_next_invocation() {
    let now = START.plus_minutes(2);
    let mut expected = with_mail().await;
    let records = expected.cloud.stream(LEDGER);
    let all = expected.fold_for(&records, now, usize::MAX).await.unwrap();
    assert_eq!(all.again_from, None);
    assert!(all.changes.len() >= SETS / 2, "{:?}", all.changes);
    for seed in 0..6 {
        let mut rng = Rng::seeded(seed);
        let mut stack = with_mail().await;
        let records = stack.cloud.stream(LEDGER);
        let mut invocations = 0;
        loop {
            invocations += 1;
            // Another process each time.
            stack = Stack::new(&stack.cloud.clone(), false);
            let judgements = 1 + rng.below(15);
            let handled = stack.fold_for(&records, now, judgements).await.unwrap();
            // The answer to Lambda.
            let answer = serde_json::to_value(BreakerAnswer::from(&handled)).unwrap();
            if handled.again_from.is_none() {
                assert_eq!(answer, json!({ "state": {}, "batchItemFailures": [] }));
                break;
            }
            let first = &records[0].change.sequence_number;
            assert_eq!(answer, json!({ "state": {}, "batchItemFailures": [{ "itemIdentifier": first }] }));
            assert_eq!(handled.again_from.unwrap().to_string(), records[0].change.sequence_number.clone().unwrap());
            assert!(invocations <= 2 * SETS, "seed {seed}: it does not come to an end");
        }
        assert!(invocations > 1, "seed {seed}");
        assert_eq!(breakers(&stack), breakers(&expected), "seed {seed}");
        // The same batch once more changes nothing.
        assert_eq!(stack.fold_for(&records, now, usize::MAX).await.unwrap().changes, [], "seed {seed}");
    }
}
