//! Whatever is stopped, fails, is delivered again or is cut elsewhere: the rows are the truth, and their effects happen once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use e2e::cloud::{Cloud, Kill, LEDGER};
use e2e::stack::Stack;
use reputation::time::Now;
use serde_json::Value;

use super::mail::{Mailbox, NEWS, Rng, SHOP, stored};

const START: Now = Now(1_791_273_600_000);

/// Reads the ledger's stream as Lambda may: a record is delivered for the first time once all before it are known to be added;
/// everything else may be delivered again, cut anywhere.
#[derive(Default)]
struct Reader {
    /// The number of first records that are known to be added.
    added: usize,
}

impl Reader {
    async fn read(&mut self, stack: &mut Stack, rng: &mut Rng, now: Now) {
        let records = stack.cloud.stream(LEDGER);
        let is_replaced = self.added == records.len() || rng.chance(20);
        let start = if is_replaced { rng.below(self.added.max(1)) } else { self.added };
        let end = (start + 1 + rng.below(40)).min(records.len());
        if start < end {
            let outcome = stack.fold(&records[start..end], now).await;
            if outcome.is_ok() && !stack.restart_if_stopped() {
                self.added = self.added.max(end);
            }
        }
    }

    fn done(&self, stack: &Stack) -> bool {
        self.added == stack.cloud.stream(LEDGER).len()
    }
}

fn mailbox(rng: &mut Rng) -> Mailbox {
    let mut mailbox = Mailbox::default();
    let (microsoft, gmail) = (("outlook.com", "microsoft"), ("gmail.com", "gmail"));
    for mail in 0..60 {
        let (domain, isp) = if mail % 2 == 0 { microsoft } else { gmail };
        let at = START.plus_minutes(mail / 20);
        mailbox.delivered(SHOP, domain, isp, at);
        match mail % 3 {
            0 => mailbox.bounced(NEWS, domain, isp, at),
            _ => mailbox.delivered(NEWS, domain, isp, at),
        }
    }
    // SNS and SQS may deliver twice, and in any order.
    let events = std::mem::take(&mut mailbox.events);
    let mut delivered: Vec<String> = Vec::new();
    for event in events {
        if rng.chance(10) {
            delivered.push(event.clone());
        }
        delivered.push(event);
    }
    for index in (1..delivered.len()).rev() {
        delivered.swap(index, rng.below(index + 1));
    }
    mailbox.events = delivered;
    mailbox
}

async fn simulate(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let cloud = Cloud::new();
    cloud.state().sets = [("news".to_owned(), true), ("shop".to_owned(), true)].into();
    let mut stack = Stack::new(&cloud, false);
    let mailbox = mailbox(&mut rng);
    let mut queue: VecDeque<&str> = mailbox.events.iter().map(String::as_str).collect();
    let mut reader = Reader::default();
    let crashes = [0, 10, 30, 60][rng.below(4)];
    let mut now = START.plus_minutes(4);
    let mut kills = 0;
    let mut steps = 0;
    while !(queue.is_empty() && reader.done(&stack)) {
        steps += 1;
        assert!(steps < 5_000, "seed {seed}: no end");
        now = Now(now.0 + 700);
        if rng.chance(crashes) {
            cloud.kill(Kill { after: rng.below(5) as u64, carried_out: rng.chance(50) });
            kills += 1;
        }
        match rng.below(10) {
            0..4 if !queue.is_empty() => {
                let len = (1 + rng.below(30)).min(queue.len());
                let batch: Vec<&str> = queue.drain(..len).collect();
                let failed = stack.ingest(&batch, now).await;
                // A stopped process answers nothing, and everything is delivered again.
                match (stack.restart_if_stopped(), failed) {
                    (true, _) | (_, Err(_)) => queue.extend(&batch),
                    (false, Ok(failed)) => queue.extend(failed.into_iter().map(|index| batch[index])),
                }
                if rng.chance(20) {
                    queue.push_back(batch[rng.below(batch.len())]);
                }
            }
            4..8 => reader.read(&mut stack, &mut rng, now).await,
            8 => _ = stack.tick(now).await,
            _ => _ = stack.enforce(rng.chance(50), now).await,
        }
        stack.restart_if_stopped();
    }
    cloud.revive();
    for _ in 0..3 {
        reader.read(&mut stack, &mut rng, now).await;
        stack.tick(now).await.unwrap();
        stack.enforce(true, now).await.unwrap();
    }

    for length in ["m", "h", "d"] {
        let found = stored(&cloud, length);
        assert!(found == mailbox.totals, "seed {seed}, {length}: {found:#?} should be {:#?}", mailbox.totals);
    }
    let state = cloud.state();
    assert_eq!(state.switched, [("news".to_owned(), false)], "seed {seed}");
    let id = |form: &BTreeMap<String, String>| {
        let attribute =
            |number: usize, part: &str| form.get(&format!("MessageAttributes.entry.{number}.{part}")).cloned();
        (1..9).find_map(|n| {
            attribute(n, "Name").filter(|name| name == "id").and_then(|_| attribute(n, "Value.StringValue"))
        })
    };
    let sent: Vec<String> = state.published.iter().map(|form| id(form).unwrap()).collect();
    let distinct: BTreeSet<&String> = sent.iter().collect();
    let mut contents: BTreeMap<&String, &String> = BTreeMap::new();
    for (id, form) in sent.iter().zip(&state.published) {
        let message = &form["Message"];
        assert_eq!(*contents.entry(id).or_insert(message), message, "seed {seed}");
    }
    let detail = |event: &Value| serde_json::from_str::<Value>(event["Detail"].as_str().unwrap()).unwrap();
    let events: BTreeSet<String> =
        state.events.iter().map(|event| detail(event)["id"].as_str().unwrap().to_owned()).collect();
    let opened = |id: &&&String| id.contains("#configuration-set:news#");
    let paused = state.published.iter().filter(|form| form["Subject"].starts_with("[STOPPED] news: "));
    let paused: BTreeSet<Option<String>> = paused.map(id).collect();
    assert_eq!(paused.len(), 1, "seed {seed}: {sent:?}");
    assert!(distinct.iter().any(|id| opened(&id)), "seed {seed}");
    // Sent twice only if a stop came between sending and marking as sent, and then with the same id.
    assert!(sent.len() - distinct.len() <= kills, "seed {seed}: {sent:?}");
    drop(state);
    let notices = cloud.items(e2e::cloud::REPUTATION);
    let of = |pk: &str| notices.iter().filter(|item| item["pk"]["S"] == pk).count();
    assert_eq!((of("outbox"), of("notices")), (0, events.len()), "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn totals_are_the_truth_and_one_stop_is_made_and_reported_whatever_is_stopped_between_two_writes() {
    let seeds = match std::env::var("SIMULATION_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..16).collect(),
    };
    for seed in seeds {
        simulate(seed).await;
    }
}
