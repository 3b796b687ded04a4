//! Items that this release cannot read (a newer one wrote them, or a person has edited them): their subjects stay unchanged,
//! and everything else continues.

use e2e::cloud::{Cloud, LEDGER, REPUTATION};
use e2e::stack::{Stack, WarmGate, request};
use pipeline::ports::Reputation as _;
use reputation::time::Now;
use serde_json::{Value, json};

use super::mail::{Mailbox, NEWS, Rng, SHOP, Sender};

const START: Now = Now(1_791_273_600_000);
/// Its breaker cannot be read, though its mail is as bad as that of the others.
const CLUB: Sender = Sender { set: "club", domain: "club.example" };

fn item(pk: &str, sk: &str, attributes: Value) -> Value {
    let mut item = json!({ "pk": { "S": pk }, "sk": { "S": sk } });
    for (name, value) in attributes.as_object().unwrap() {
        item[name] = value.clone();
    }
    item
}

/// Unreadable items of every kind that several keys' work reads, each invalid in some way.
fn spoilt(rng: &mut Rng) -> Vec<Value> {
    let breakers = [
        json!({ "state": { "S": "draining" }, "version": { "N": "7" }, "since_pause": { "N": "0" } }),
        json!({ "state": { "S": "open" }, "version": { "N": "7" } }),
        json!({ "state": { "N": "4" }, "version": { "S": "seven" } }),
        json!({ "version": { "N": "7" } }),
        json!({ "state": { "S": "closed" }, "version": { "N": "7" }, "since_pause": { "N": "0" },
            "since_throttle": { "N": "0" }, "trips": { "N": "0" }, "hold": { "S": "until-monday" } }),
    ];
    let breaker = |rng: &mut Rng| breakers[rng.below(breakers.len())].clone();
    let (set, identity) = ("configuration-set:club", "identity:club.example");
    let mut items = vec![
        item(set, "breaker#", breaker(rng)),
        item(identity, "breaker#", breaker(rng)),
        item(set, "breaker#gmail", breaker(rng)),
        item(identity, "breaker#gmail", breaker(rng)),
        item(set, "breaker#microsoft", breaker(rng)),
        item(identity, "breaker#microsoft", breaker(rng)),
        item("board", "#configuration-set:club", breaker(rng)),
        item("board", "gmail#identity:club.example", breaker(rng)),
    ];
    // Items that only `news` depends on: its desired state, a row of its counters, and the alert queue.
    let minute = START.plus_minutes(1).minute().0;
    items.extend([
        item("control", "configuration-set:news", json!({ "wish": { "S": "flowing" }, "version": { "S": "seven" } })),
        item(
            "configuration-set:news",
            &format!("rate#m#{minute:010}"),
            json!({ "gmail.sent": { "S": "many" }, "gmail.hard_bounces": { "S": "some" } }),
        ),
        item("desk", "people", json!({ "version": { "S": "seven" }, "content": { "S": "{}" } })),
    ]);
    let others = [
        item("board", "gmail#no-subject", json!({ "state": { "S": "open" } })),
        item(
            "pauses",
            "place#2#0",
            json!({ "subject": { "S": "configuration-set:club" }, "at": { "S": "yesterday" } }),
        ),
        item("pauses", "place#3#1", json!({ "subject": { "S": "no-subject" }, "at": { "N": "1791273600000" } })),
        // As an earlier release wrote it.
        item("pauses", "configuration-set:club", json!({ "at": { "N": "1791273600000" } })),
        item("directory", "configuration-set:gone", json!({ "hour": { "S": "noon" } })),
        item("directory", "no-subject", json!({ "hour": { "N": "29854560" } })),
        item("control", "configuration-set:club", json!({ "wish": { "S": "draining" }, "version": { "N": "1" } })),
        item("outbox", "1791273600000#configuration-set:club#000001", json!({ "kind": { "S": "Song" } })),
        item("clock", "hour", json!({ "done": { "S": "noon" } })),
    ];
    items.extend(others.into_iter().filter(|_| rng.chance(60)));
    items
}

async fn simulate(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let cloud = Cloud::new();
    cloud.state().sets = ["news", "shop", "club"].map(|set| (set.to_owned(), true)).into();
    let spoilt = spoilt(&mut rng);
    for item in &spoilt {
        cloud.dynamodb("PutItem", json!({ "TableName": REPUTATION, "Item": item }));
    }
    // Without a gate, so that harm is stopped at SES.
    let mut stack = Stack::new(&cloud, false);
    let mut mailbox = Mailbox::default();
    for mail in 0..120 {
        let (domain, isp) = if mail % 2 == 0 { ("outlook.com", "microsoft") } else { ("gmail.com", "gmail") };
        let at = START.plus_minutes(mail / 40);
        mailbox.delivered(SHOP, domain, isp, at);
        for sender in [NEWS, CLUB] {
            match mail % 4 {
                0 | 1 => mailbox.bounced(sender, domain, isp, at),
                _ => mailbox.delivered(sender, domain, isp, at),
            }
        }
    }
    let (mut given, mut now) = (0, START.plus_minutes(4));
    // Few enough that the stops are still in force when the enforcer runs.
    for events in mailbox.events.chunks(20 + rng.below(200)) {
        let bodies: Vec<&str> = events.iter().map(String::as_str).collect();
        assert_eq!(stack.ingest(&bodies, now).await, Ok(Vec::new()), "seed {seed}");
        let records = stack.cloud.stream(LEDGER);
        stack.fold(&records[given..], now).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        given = records.len();
        now = Now(now.0 + 20_000);
    }
    for _ in 0..3 {
        stack.tick(now).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        stack.enforce(true, now).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        now = now.plus_minutes(20);
    }
    // The one whose breaker can be read is stopped; people and programs were notified of it.
    let (switched, messages, events) = {
        let state = cloud.state();
        (state.switched.clone(), state.published.len(), state.events.len())
    };
    assert_eq!(switched.first(), Some(&("news".to_owned(), false)), "seed {seed}: {switched:?}");
    assert!(switched.iter().all(|(set, _)| set != "club"), "seed {seed}: {switched:?}");
    assert!(messages > 0 && events > 0, "seed {seed}");
    let stored = cloud.items(REPUTATION);
    // Items that no other release needs are rewritten where necessary.
    let renewed = |item: &Value| match item["pk"]["S"].as_str().unwrap() {
        "directory" | "clock" | "desk" => true,
        "control" => item["sk"]["S"] == "configuration-set:news",
        _ => false,
    };
    for item in spoilt.iter().filter(|item| !renewed(item)) {
        // Other shards' counters of a row may be stored with it.
        let stays = |found: &Value| item.as_object().unwrap().iter().all(|(name, value)| found[name] == *value);
        assert!(stored.iter().any(stays), "seed {seed}: changed {item}");
    }
    assert!(!stack.reputation().board(now).await.unwrap().unreadable.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_stays_and_everything_else_goes_on() {
    for seed in 0..24 {
        simulate(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_gate_answers_by_the_policy_where_a_breaker_cannot_be_read() {
    let cloud = Cloud::new();
    Stack::push(&cloud, "[warmup.sets]\nnews = { start = 5000, target = 5000 }\n").await;
    let mut gate = WarmGate::new(&cloud.clients(), 1);
    let mut now = START.plus_minutes(600);
    let mut ask = async |class: &str, domain: &str| {
        // Its board is out of date by then.
        now = now.plus_minutes(1);
        let body = json!({ "configurationSet": "news", "identity": "news.example", "class": class,
            "recipients": { domain: 10 } });
        let reply = gate.ask(&request("POST", "/v1/permits", Some(&body.to_string())), now).await;
        (reply.status, reply.body["degraded"].clone(), reply.body["permits"][0]["granted"].clone())
    };
    assert_eq!(ask("bulk", "gmail.com").await, (200, Value::Null, json!(10)));
    let copy = item("board", "gmail#configuration-set:news", json!({ "state": { "S": "draining" } }));
    cloud.dynamodb("PutItem", json!({ "TableName": REPUTATION, "Item": copy }));
    let (status, degraded, granted) = ask("bulk", "gmail.com").await;
    assert_eq!((status, degraded.is_string(), granted), (200, true, json!(0)));
    let (status, degraded, granted) = ask("critical", "gmail.com").await;
    assert_eq!((status, degraded.is_string(), granted), (200, true, json!(10)));
    assert_eq!(ask("bulk", "outlook.com").await, (200, Value::Null, json!(10)));
}
