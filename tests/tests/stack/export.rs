//! The export for users' own dashboards, from the stored state of the stack.

use std::collections::BTreeMap;

use aws::metrics::Metrics;
use aws::quotas::DynamoQuotas;
use aws::reputation::DynamoReputation;
use e2e::cloud::{Cloud, LEDGER, REPUTATION};
use e2e::stack::{Stack, request};
use pipeline::export::{self, Activity, Export, Measure, PERIOD, period};
use reputation::Policy;
use reputation::time::Now;
use serde_json::{Value, json};

use super::described::ask;
use super::mail::{Mailbox, NEWS, SHOP, Sender};

/// 2026-11-21, noon.
const START: Now = Now(1_795_219_200_000 + 12 * 3_600_000);

/// A stack under this policy, with mail of three sets; that of `news` has bounced.
async fn with_mail(cloud: &Cloud, toml: &str) -> Stack {
    Stack::push(cloud, &format!("mode = \"act\"\n{toml}")).await;
    let mut stack = Stack::new(cloud, true);
    let mut mailbox = Mailbox::default();
    for number in 0..60 {
        match number % 2 {
            0 => mailbox.bounced(NEWS, "gmail.com", "gmail", START),
            _ => mailbox.delivered(NEWS, "outlook.com", "microsoft", START),
        }
        mailbox.delivered(SHOP, "gmail.com", "gmail", START);
        mailbox.delivered(SHOP, "gmail.com", "gmail", START.plus_minutes(4));
    }
    mailbox.delivered(Sender { set: "codes", domain: "codes.example" }, "gmail.com", "gmail", START);
    for set in ["news", "shop", "codes"] {
        cloud.state().sets.insert(set.to_owned(), true);
    }
    let bodies: Vec<&str> = mailbox.events.iter().map(String::as_str).collect();
    assert_eq!(stack.ingest(&bodies, START.plus_minutes(5)).await, Ok(Vec::new()));
    stack.fold(&cloud.stream(LEDGER), START.plus_minutes(5)).await.unwrap();
    stack
}

async fn exported(stack: &mut Stack, now: Now) -> Option<Export> {
    stack.minute(now).await.unwrap().exported
}

fn value(export: &Export, set: &str, at: Option<&str>, measure: Measure) -> Option<f64> {
    let isps = reputation::IspMap::builtin();
    let series = export.series.iter().find(|series| series.set == set && series.isp.map(|isp| isps.name(isp)) == at)?;
    series.values.iter().find(|(known, _)| *known == measure).map(|(_, value)| *value)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_or_written_unless_the_policy_asks_for_it() {
    let mut reads = Vec::new();
    for (toml, expected) in [("", false), ("[cloudwatch]\nconfiguration_sets = 3\n", true)] {
        let cloud = Cloud::new();
        let mut stack = with_mail(&cloud, toml).await;
        // The hour's work is done by then.
        stack.tick(START.plus_minutes(6)).await.unwrap();
        let before = cloud.state().reads;
        assert_eq!(exported(&mut stack, START.plus_minutes(11)).await.is_some(), expected);
        reads.push(cloud.state().reads - before);
        assert_eq!(cloud.items(REPUTATION).iter().any(|item| item["sk"]["S"] == "export"), expected);
    }
    // The directory, and three sets.
    assert!(reads[1] >= reads[0] + 1 + 3 * 3, "{reads:?}");
}

#[tokio::test(start_paused = true)]
async fn the_most_troubled_and_then_the_largest_sets_are_exported_and_the_others_are_counted() {
    let cloud = Cloud::new();
    let toml = "[cloudwatch]\nconfiguration_sets = 2\nisps = 1\n[warmup.plan]\nburst_share = 0.25\n[warmup.sets]\nshop = { start = 900, target = 1000 }\n";
    let mut stack = with_mail(&cloud, toml).await;
    let body = json!({ "configurationSet": "shop", "identity": "shop.example", "recipients": { "gmail.com": 30 } });
    let now = START.plus_minutes(11);
    let reply = ask(&mut stack.gate, &request("POST", "/v1/permits", Some(&body.to_string())), now).await;
    assert_eq!(reply.status, 200);
    let export = exported(&mut stack, now).await.unwrap();
    let isps = reputation::IspMap::builtin();
    let names: Vec<_> =
        export.series.iter().map(|series| (series.set.as_str(), series.isp.map(|isp| isps.name(isp)))).collect();
    assert_eq!(names, [("news", None), ("news", Some("gmail")), ("shop", None), ("shop", Some("gmail"))]);
    // The set `codes`, and `news` at Microsoft.
    assert_eq!((export.sets_left_out, export.isps_left_out, &export.failed), (1, 1, &Vec::new()));
    assert_eq!(value(&export, "news", Some("gmail"), Measure::Rate(reputation::Metric::HardBounce)), Some(1.0));
    assert_eq!(value(&export, "news", Some("gmail"), Measure::State), Some(3.0));
    assert!(value(&export, "news", Some("gmail"), Measure::EvidenceShare).unwrap() > 1.0);
    assert_eq!(value(&export, "shop", None, Measure::State), Some(0.0));
    let of_shop = [Measure::Quota, Measure::Granted].map(|measure| value(&export, "shop", Some("gmail"), measure));
    assert_eq!(of_shop, [Some(900.0), Some(30.0)]);
    // Mails of START to START + 5 minutes are counted in the period that begins ten minutes later.
    assert_eq!((export.at, export.mails_from), (period(now), START.minute()));
    assert_eq!(export.series[2].mails, Some(120));
    let next = exported(&mut stack, now.plus_minutes(PERIOD)).await.unwrap();
    assert_eq!(next.series[2].mails, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_period_is_exported_once_however_many_copies_look() {
    let cloud = Cloud::new();
    let mut stack = with_mail(&cloud, "[cloudwatch]\nconfiguration_sets = 10\n").await;
    let begin = START.plus_minutes(15);
    let mut cold = Stack::new(&cloud, true);
    let mut found = BTreeMap::<u32, usize>::new();
    for minute in 0..15 {
        let now = begin.plus_minutes(minute);
        for stack in [&mut stack, &mut cold] {
            *found.entry(minute / PERIOD).or_default() += usize::from(exported(stack, now).await.is_some());
        }
    }
    assert_eq!(found, BTreeMap::from([(0, 1), (1, 1), (2, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_cannot_be_read_has_no_state_and_hides_nothing_else() {
    let cloud = Cloud::new();
    let mut stack = with_mail(&cloud, "[cloudwatch]\nconfiguration_sets = 10\n").await;
    // As a newer release may write it.
    let item = json!({ "pk": { "S": "configuration-set:codes" }, "sk": { "S": "breaker#" },
        "state": { "S": "resting" }, "version": { "N": "7" } });
    cloud.dynamodb("PutItem", json!({ "TableName": REPUTATION, "Item": item }));
    let export = exported(&mut stack, START.plus_minutes(11)).await.unwrap();
    let sets: Vec<&str> = export.series.iter().map(|series| series.set.as_str()).collect();
    assert_eq!(sets, ["news", "codes", "shop"]);
    let states = sets.iter().map(|set| value(&export, set, None, Measure::State));
    assert_eq!(states.map(|state| state.is_some()).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(value(&export, "codes", None, Measure::Rate(reputation::Metric::HardBounce)), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn while_the_table_does_not_answer_the_period_is_left_for_the_next_minute() {
    let cloud = Cloud::new();
    let mut stack = with_mail(&cloud, "[cloudwatch]\nconfiguration_sets = 10\n").await;
    stack.tick(START.plus_minutes(9)).await.unwrap();
    cloud.state().dynamodb_down = true;
    assert!(stack.minute(START.plus_minutes(11)).await.is_err());
    cloud.state().dynamodb_down = false;
    assert!(exported(&mut stack, START.plus_minutes(12)).await.is_some());
}

/// The cost of a busy set, as in `infra/INSTALL.md`: nine days of hours and three hours of minutes with mail to six ISPs.
#[tokio::test(start_paused = true)]
async fn a_set_costs_the_reads_of_the_price_table() {
    let cloud = Cloud::new();
    let isps = ["gmail", "microsoft", "yahoo", "apple", "gmx", "other"];
    let kinds = ["sent", "delivered", "hard_bounces", "delays", "opens"];
    let now = START.plus_minutes(59);
    let mut bytes = 0;
    let rows = (0..9 * 24).map(|hour| ("h", START.minute().minus(hour * 60)));
    for (length, from) in rows.chain((0..180).map(|minute| ("m", now.minute().minus(minute)))) {
        let mut item = json!({ "pk": { "S": "configuration-set:newsletter" },
            "sk": { "S": format!("rate#{length}#{:010}", from.0) }, "expires": { "N": "1801641600" } });
        for (isp, kind) in isps.iter().flat_map(|isp| kinds.iter().map(move |kind| (isp, kind))) {
            item[format!("{isp}.{kind}")] = json!({ "N": "1234" });
        }
        // As DynamoDB measures an item: names, texts, and a byte for two digits of a number plus one.
        let size = |(name, value): (&String, &Value)| {
            name.len() + value["S"].as_str().map_or_else(|| value["N"].as_str().unwrap().len() / 2 + 1, str::len)
        };
        bytes += item.as_object().unwrap().iter().map(size).sum::<usize>();
        cloud.dynamodb("PutItem", json!({ "TableName": REPUTATION, "Item": item }));
    }
    let entry = json!({ "pk": { "S": "directory" }, "sk": { "S": "configuration-set:newsletter" },
        "hour": { "N": now.minute().hour().0.to_string() } });
    cloud.dynamodb("PutItem", json!({ "TableName": REPUTATION, "Item": entry }));
    let policy = Policy::from_toml("[cloudwatch]\nconfiguration_sets = 10\n").unwrap();
    let mut store = DynamoReputation::new(cloud.clients().dynamodb(), REPUTATION, &policy);
    store.look_anew();
    let quotas = DynamoQuotas::new(cloud.clients().dynamodb(), REPUTATION, policy.isp_map.clone());
    let export = export::export(&policy, &mut store, &quotas, &mut Activity::default(), now).await.unwrap();
    // The board in two, the directory, and three of the set.
    assert_eq!(cloud.state().reads, 6);
    let lines = Metrics::new("ses-breaker").export_lines(&export, &policy.isp_map);
    assert_eq!((lines.len(), export.series[0].values.len()), (2, 6));
    let printed: usize = lines.iter().map(String::len).sum();
    // A month has 8,640 periods.
    let month =
        |sets: f64| [sets * 8_640.0 * bytes.div_ceil(4_096) as f64 / 1e6, sets * 8_640.0 * printed as f64 / 1e9];
    let shown = |[reads, log]: [f64; 2]| format!("{reads:.1} million read units, {log:.2} GB of log");
    insta::assert_snapshot!(shown(month(10.0)), @"4.7 million read units, 0.07 GB of log");
    insta::assert_snapshot!(shown(month(200.0)), @"93.3 million read units, 1.34 GB of log");
}
