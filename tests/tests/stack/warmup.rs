//! The warm-up planner, hour by hour.

use e2e::cloud::{Cloud, REPUTATION};
use e2e::stack::{Stack, request};
use reputation::time::Now;
use serde_json::json;

use super::described::ask;

/// 2026-11-21, noon.
const NOON: Now = Now(1_795_219_200_000 + 12 * 3_600_000);
const DAY_MINUTES: u32 = 24 * 60;

async fn with_grants(cloud: &Cloud, toml: &str, sets: &[&str]) -> Stack {
    Stack::push(cloud, toml).await;
    let mut stack = Stack::new(cloud, true);
    for set in sets {
        let body = json!({
            "configurationSet": set, "identity": "x.example", "recipients": { "gmail.com": 90, "web.de": 20 }
        });
        let reply = ask(&mut stack.gate, &request("POST", "/v1/permits", Some(&body.to_string())), NOON).await;
        assert_eq!(reply.status, 200);
    }
    stack
}

/// The plans, in lines.
async fn planned(stack: &mut Stack, now: Now) -> Vec<String> {
    let isps = reputation::IspMap::builtin();
    let planned = stack.hour(now).await.unwrap();
    let line = |((set, isp), quota): ((String, reputation::Isp), pipeline::ports::Quota)| {
        format!("{set} at {}: {} ({})", isps.name(isp), quota.ramp.quota, quota.ramp.step)
    };
    planned.into_iter().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn a_day_is_planned_once_however_often_or_seldom_the_hour_strikes() {
    let toml = "[warmup.sets]\nnews = { start = 100, target = 1000 }\nshop = {}\n";
    let cloud = Cloud::new();
    let mut stack = with_grants(&cloud, toml, &["news"]).await;
    assert_eq!(planned(&mut stack, NOON.plus_minutes(60)).await, [""; 0]);
    let tomorrow = planned(&mut stack, NOON.plus_minutes(DAY_MINUTES)).await;
    insta::assert_snapshot!(tomorrow.join("\n"), @r"
    news at gmail: 100 (holds: the ramp began that day)
    news at web.de: 100 (holds: the ramp began that day)
    ");
    assert_eq!(planned(&mut stack, NOON.plus_minutes(DAY_MINUTES + 60)).await, [""; 0]);
    // A planner that did not run for weeks catches up, with the same result as one that ran.
    let other = Cloud::new();
    let mut away = with_grants(&other, toml, &["news"]).await;
    let mut last = Vec::new();
    for day in 2..45 {
        last = planned(&mut stack, NOON.plus_minutes(day * DAY_MINUTES)).await;
    }
    assert_eq!(planned(&mut away, NOON.plus_minutes(44 * DAY_MINUTES)).await, last);
    insta::assert_snapshot!(last.join("\n"), @r"
    news at gmail: 100 (holds: 43 days without mail)
    news at web.de: 100 (holds: 43 days without mail)
    ");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_cannot_be_planned_leaves_the_others_planned() {
    let toml = "[warmup.sets]\nnews = {}\nother = {}\nshop = {}\n";
    let cloud = Cloud::new();
    let mut stack = with_grants(&cloud, toml, &["news", "other", "shop"]).await;
    let wrong = json!({ "pk": { "S": "quota#other" }, "sk": { "S": "gmail" }, "day": { "S": "today" } });
    cloud.dynamodb("PutItem", json!({ "TableName": REPUTATION, "Item": wrong }));
    let tomorrow = NOON.plus_minutes(DAY_MINUTES);
    let error = stack.hour(tomorrow).await.unwrap_err();
    assert!(error.reason.contains("quota#other / gmail"), "{error}");
    for set in ["news", "shop"] {
        let key = json!({ "pk": { "S": format!("quota#{set}") }, "sk": { "S": "gmail" } });
        let item = cloud.dynamodb("GetItem", json!({ "TableName": REPUTATION, "Key": key }));
        assert_eq!(item["Item"]["day"]["N"], "20779", "{set}");
    }
}
