//! Connecting configuration sets, against an account in this process.

use operator::connect::{Order, connect};
use operator::{Answer, Exit, Failure};
use serde_json::{Value, json};
use terminal::visible;

use crate::account::Account;
use crate::answers::{answered, parsed};

async fn run(account: &Account, order: &Order) -> Answer {
    answered(connect(&account.access(), order, &|_, _, _| {}).await).unwrap()
}

fn order(sets: &[&str]) -> Order {
    Order { sets: sets.iter().map(|set| (*set).to_owned()).collect(), ..Order::default() }
}

fn topic(account: &Account) -> String {
    let table = account.cloud.dynamodb("DescribeTable", json!({ "TableName": "test-reputation" }));
    let arn = table["Table"]["TableArn"].as_str().unwrap().to_owned();
    let parts: Vec<&str> = arn.split(':').collect();
    format!("arn:aws:sns:{}:{}:test-events", parts[3], parts[4])
}

fn destination(name: &str, topic: &str, events: &[&str]) -> Value {
    json!({ "Name": name, "Enabled": true, "MatchingEventTypes": events, "SnsDestination": { "TopicArn": topic } })
}

#[tokio::test(start_paused = true)]
async fn sets_are_connected_once_and_left_alone_afterwards() {
    let account = Account::with(&["news", "shop"]);
    let answer = run(&account, &order(&["news", "configuration-set:shop", "news"])).await;
    assert_eq!(answer.exit, Exit::Done);
    insta::assert_snapshot!(visible(&answer.text));
    let made = account.state().destinations["news"].clone();
    assert_eq!(
        made,
        [json!({
            "Name": "test", "Enabled": true,
            "MatchingEventTypes": ["SEND", "DELIVERY", "BOUNCE", "COMPLAINT", "REJECT", "RENDERING_FAILURE", "DELIVERY_DELAY"],
            "SnsDestination": { "TopicArn": topic(&account) },
        })]
    );
    assert_eq!(account.state().changed.len(), 2);

    let again = run(&account, &Order { all: true, ..Order::default() }).await;
    assert_eq!((again.exit, account.state().changed.len()), (Exit::Done, 2));
    assert!(visible(&again.text).starts_with("news  already connected\nshop  already connected\n"), "{}", again.text);
}

#[tokio::test(start_paused = true)]
async fn ses_is_called_at_most_once_a_second() {
    let account = Account::with(&["a", "b", "c"]);
    run(&account, &Order { all: true, ..Order::default() }).await;
    let called = account.state().called.clone();
    assert_eq!(called.len(), 1 + 3 * 3);
    let gaps = called.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.min().unwrap() >= std::time::Duration::from_secs(1), "{called:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let account = Account::with(&["news", "receipts", "shop"]);
    let (events, other) = (topic(&account), "arn:aws:sns:eu-west-1:123456789012:bounces");
    let all = ["SEND", "DELIVERY", "BOUNCE", "COMPLAINT", "REJECT", "RENDERING_FAILURE", "DELIVERY_DELAY", "OPEN"];
    {
        let known = &mut account.state().destinations;
        let mut stale = destination("test", other, &["SEND", "BOUNCE", "SUBSCRIPTION"]);
        stale["Enabled"] = json!(false);
        known.insert("receipts".to_owned(), vec![stale, destination("mine", other, &["BOUNCE", "OPEN"])]);
        let twin = destination("by-hand", &events, &["SEND"]);
        let metrics = json!({ "Name": "graphs", "Enabled": true, "MatchingEventTypes": ["OPEN"],
            "CloudWatchDestination": { "DimensionConfigurations": [] } });
        known.insert("shop".to_owned(), vec![destination("test", &events, &all), twin, metrics]);
    }
    let order = Order { all: true, engagement: true, dry_run: true, ..Order::default() };
    let answer = run(&account, &order).await;
    assert_eq!((answer.exit, account.state().changed.len()), (Exit::Done, 0));
    insta::assert_snapshot!(visible(&answer.text));
    insta::assert_snapshot!(parsed(&answer)["configuration_sets"][1]);

    let order = Order { dry_run: false, ..order };
    assert_eq!(run(&account, &order).await.exit, Exit::Done);
    assert_eq!(
        account.state().changed,
        ["POST /news/event-destinations", "PUT /receipts/event-destinations/test", "PUT /shop/event-destinations/test",]
    );
}

#[tokio::test(start_paused = true)]
async fn a_set_that_does_not_exist_is_named_and_the_others_go_on() {
    let account = Account::with(&["newsletter", "receipts"]);
    let answer = run(&account, &order(&["newsleter", "receipts"])).await;
    assert_eq!(answer.exit, Exit::No);
    insta::assert_snapshot!(visible(&answer.text));
    assert_eq!(account.state().destinations["receipts"].len(), 1);
}

#[tokio::test(start_paused = true)]
async fn connected_is_said_only_of_what_ses_shows_afterwards() {
    let account = Account::with(&["news"]);
    account.state().ignores_changes = true;
    let answer = run(&account, &order(&["news"])).await;
    assert_eq!(answer.exit, Exit::No);
    assert!(answer.text.contains("SES does not show destination test afterwards"), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn what_ses_refuses_of_one_set_does_not_keep_it_from_the_next() {
    let account = Account::with(&["news", "shop"]);
    let busy = (429, "TooManyRequestsException", "Rate exceeded");
    let refused = (400, "BadRequestException", "Could not publish to the SNS topic.");
    // Each refusal answers one call: of the stack's table, then of SES.
    account.state().refusals = vec![busy];
    assert!(answered(connect(&account.access(), &order(&["news"]), &|_, _, _| {}).await).is_ok());
    let access = account.access();
    let orders = order(&["news", "shop"]);
    let steps = std::cell::Cell::new(0);
    let step = |_: usize, _: usize, _: &str| {
        if steps.replace(steps.get() + 1) == 0 {
            account.state().refusals = vec![busy, refused];
        }
    };
    let answer = answered(connect(&access, &orders, &step).await).unwrap();
    assert_eq!(answer.exit, Exit::No);
    let text = visible(&answer.text);
    assert!(
        text.contains("news  not connected\n    BadRequestException: Could not publish to the SNS topic."),
        "{text}"
    );
    assert!(text.contains("shop  connected, and read back"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_concerns_all_sets_ends_it() {
    let account = Account::with(&["news"]);
    let refused = |failure: Failure| {
        assert_eq!(failure.exit(), Exit::Refused);
        format!("{failure}\n{}", failure.remedy())
    };
    let none = answered(connect(&account.access_to("mail"), &order(&["news"]), &|_, _, _| {}).await);
    insta::assert_snapshot!(refused(none.unwrap_err()));
    let denied =
        (403, "AccessDeniedException", "User: ann is not authorized to perform: dynamodb:DescribeTable on resource: t");
    account.state().refusals = vec![denied];
    let none = answered(connect(&account.access(), &order(&["news"]), &|_, _, _| {}).await);
    insta::assert_snapshot!(refused(none.unwrap_err()));
    let empty = Account::default();
    let all = Order { all: true, ..Order::default() };
    let none = answered(connect(&empty.access(), &all, &|_, _, _| {}).await).unwrap_err();
    assert_eq!((none.exit(), none.to_string().as_str()), (Exit::No, "there are no configuration sets in eu-west-1"));
}
