//! Advice from the daily counters of a stack in this process.

use e2e::cloud::REPUTATION;
use e2e::stack::Stack;
use operator::advise::{PricesFile, advise};
use operator::{Answer, Exit, Failure};
use reputation::time::{DAY, HOUR, Minute, Now};
use serde_json::{Value, json};
use terminal::visible;

use crate::account::Account;
use crate::answers::answered;

/// 2026-10-06 09:00:00 UTC.
const MORNING: Now = Now(1_791_277_200_000);

/// Puts the counters of a day, `days_ago` days before today.
fn row(account: &Account, subject: &str, days_ago: u32, counters: &[(&str, u64)]) {
    let today = MORNING.minute().day();
    let mut item = json!({
        "pk": { "S": subject },
        "sk": { "S": format!("rate#d#{:010}", today.minus(days_ago * DAY).0) },
        "expires": { "N": "1900000000" },
    });
    for (name, count) in counters {
        item[*name] = json!({ "N": count.to_string() });
    }
    account.cloud.dynamodb("PutItem", json!({ "TableName": REPUTATION, "Item": item }));
    let heard = Minute(today.0 - HOUR).0;
    let entry = json!({ "pk": { "S": "directory" }, "sk": { "S": subject }, "hour": { "N": heard.to_string() } });
    account.cloud.dynamodb("PutItem", json!({ "TableName": REPUTATION, "Item": entry }));
}

async fn advised(account: &Account, prices: Option<&str>) -> Result<Answer, Failure> {
    let prices = prices.map(|toml| PricesFile { file: "my-prices.toml".to_owned(), toml: toml.to_owned() });
    answered(advise(&account.access(), prices.as_ref(), MORNING).await)
}

/// A large steady set, one with a mailing once a week, a small one that began three days ago, and two lists.
async fn busy() -> Account {
    let account = Account::with(&[]);
    Stack::push(&account.cloud, "[subjects]\ntags = [\"list\"]\n").await;
    for day in 1..=30 {
        let news = [
            ("gmail.sent", 22_000),
            ("microsoft.sent", 9_000),
            ("yahoo.sent", 3_000),
            ("gmx.sent", 400),
            ("other.sent", 4_000),
        ];
        row(&account, "configuration-set:news", day, &news);
        let bought =
            [("gmail.sent", 1_000), ("gmail.delivered", 790), ("gmail.hard_bounces", 210), ("yahoo.complaints", 3)];
        row(&account, "tag:list=bought", day, &bought);
        row(
            &account,
            "tag:list=own",
            day,
            &[("gmail.sent", 37_000), ("gmail.hard_bounces", 300), ("yahoo.complaints", 9)],
        );
        if day % 7 == 0 {
            row(&account, "configuration-set:offers", day, &[("gmail.sent", 90_000), ("microsoft.sent", 40_000)]);
        }
    }
    for day in 1..=3 {
        row(&account, "configuration-set:receipts", day, &[("gmail.sent", 120), ("other.sent", 80)]);
    }
    // Today is not over, and days before the window are not read.
    row(&account, "configuration-set:news", 0, &[("gmail.sent", 9_999_999)]);
    row(&account, "configuration-set:news", 90, &[("gmail.sent", 9_999_999)]);
    account
}

#[tokio::test(start_paused = true)]
async fn each_set_is_advised_on_by_its_whole_days_and_lists_by_their_harm() {
    let answer = advised(&busy().await, None).await.unwrap();
    assert_eq!(answer.exit, Exit::Done);
    insta::assert_snapshot!(visible(&answer.text));
    let output: Value = serde_json::from_str(&answer.json).unwrap();
    let sets: Vec<_> = output["sets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|set| (&set["configuration_set"], &set["ips"], &set["days"]))
        .collect();
    assert_eq!(
        sets,
        [
            (&json!("news"), &json!("standard"), &json!(30)),
            (&json!("offers"), &json!("managed"), &json!(28)),
            (&json!("receipts"), &json!("undecided"), &json!(3)),
        ]
    );
    assert_eq!(output["lists"][0]["list"], "list=bought");
    assert_eq!((&output["first"], &output["until"]), (&json!("2026-09-06T00:00:00Z"), &json!("2026-10-06T00:00:00Z")));
}

#[tokio::test(start_paused = true)]
async fn without_data_it_says_so_and_without_tags_how_to_have_lists() {
    let account = Account::with(&[]);
    let answer = advised(&account, None).await.unwrap();
    insta::assert_snapshot!("no_data", visible(&answer.text));
    row(&account, "configuration-set:news", 1, &[("gmail.sent", 10)]);
    let answer = advised(&account, None).await.unwrap();
    insta::assert_snapshot!("no_tags", visible(&answer.text));
}

#[tokio::test(start_paused = true)]
async fn prices_of_ones_own_are_used_and_wrong_ones_named() {
    let account = busy().await;
    let mine = operator::prices::BUILT_IN.replace("ip_month = 24.95", "ip_month = 500.0");
    let output: Value = serde_json::from_str(&advised(&account, Some(&mine)).await.unwrap().json).unwrap();
    assert_eq!(
        (&output["sets"][0]["ips"], &output["prices"]["standard"]["ip_month"]),
        (&json!("managed"), &json!(500.0))
    );
    let failure = advised(&account, Some("per_thousand = 1")).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    assert_eq!(failure.to_string(), "my-prices.toml is not a valid price file: missing field `date`");
    assert!(failure.remedy().contains("prices.toml"));
}
