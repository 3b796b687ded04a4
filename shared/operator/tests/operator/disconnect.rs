//! Disconnecting configuration sets, against a stack and an account in this process.

use std::time::Duration;

use operator::asking::Asking;
use operator::command::{CommandRequest, OperatorCommand, give};
use operator::connect::{self, connect};
use operator::disconnect::{Order, disconnect};
use operator::{Answer, Exit};
use serde_json::{Value, json};
use terminal::visible;

use crate::account::Account;
use crate::answers::answered;
use crate::sender::{MORNING, subject, troubled};

fn order(sets: &[&str], wait: u64) -> Order {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Order { all: sets.is_empty(), sets, dry_run: false, wait: Duration::from_secs(wait) }
}

async fn run(account: &Account, order: &Order) -> Answer {
    let now = MORNING.plus_minutes(3);
    answered(disconnect(&account.access(), order, now, &Asking::NOBODY).await).unwrap()
}

fn rows(answer: &Answer) -> Vec<Value> {
    let document: Value = serde_json::from_str(&answer.json).unwrap();
    document["subjects"].as_array().unwrap().clone()
}

/// A stack whose breaker has stopped `news`, and a person `shop`; both are connected, and so is `alerts`.
async fn connected() -> (Account, e2e::stack::Stack) {
    let (account, mut stack) = troubled().await;
    account.cloud.state().sets.insert("alerts".to_owned(), true);
    for set in ["news", "shop", "alerts"] {
        account.state().destinations.insert(set.to_owned(), Vec::new());
    }
    let all = connect::Order { all: true, ..connect::Order::default() };
    answered(connect(&account.access(), &all, &|_, _, _| {}).await).unwrap();
    let by_bus = json!({ "Name": "bus", "Enabled": true, "MatchingEventTypes": ["SEND"],
        "EventBridgeDestination": { "EventBusArn": "arn:aws:events:eu-west-1:123456789012:event-bus/default" } });
    account.state().destinations.get_mut("alerts").unwrap().push(by_bus);
    let now = MORNING.plus_minutes(3);
    let request = CommandRequest { command: OperatorCommand::Stop, reason: None, force: false, wait: Duration::ZERO };
    let shop = [subject("configuration-set:shop")];
    answered(give(&account.access(), &shop, None, &request, now, &Asking::NOBODY).await).unwrap();
    stack.enforce(false, now).await.unwrap();
    let sets = account.cloud.state().sets.clone();
    assert_eq!((sets["news"], sets["shop"]), (false, false));
    (account, stack)
}

#[tokio::test(start_paused = true)]
async fn what_the_breaker_stopped_sends_again_and_nothing_leads_to_the_stack() {
    let (account, mut stack) = connected().await;
    let dry = run(&account, &Order { dry_run: true, ..order(&[], 30) }).await;
    insta::assert_snapshot!(visible(&dry.text));
    assert_eq!((dry.exit, account.state().destinations["news"].len()), (Exit::Done, 1));

    let all = order(&[], 30);
    let enforcer = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        stack.enforce(false, MORNING.plus_minutes(3)).await.unwrap();
    };
    let (answer, ()) = tokio::join!(run(&account, &all), enforcer);
    insta::assert_snapshot!(visible(&answer.text));
    assert_eq!(answer.exit, Exit::Done);
    assert_eq!(account.state().destinations["news"], Vec::<Value>::new());
    assert_eq!(account.state().destinations["shop"], Vec::<Value>::new());
    // A destination that others may use is kept.
    assert_eq!(account.state().destinations["alerts"].len(), 1);
    let sets = account.cloud.state().sets.clone();
    assert_eq!((sets["news"], sets["shop"], sets["alerts"]), (true, false, true));
    // Time alone does not stop it again.
    for minute in 4..120 {
        stack.tick(MORNING.plus_minutes(minute)).await.unwrap();
        stack.enforce(minute % 5 == 0, MORNING.plus_minutes(minute)).await.unwrap();
    }
    assert!(account.cloud.state().sets["news"]);
    // A second run finds nothing to do.
    let again = run(&account, &all).await;
    assert_eq!(again.exit, Exit::Done);
    assert!(rows(&again).iter().all(|row| row["deleted"] == json!([])), "{}", again.json);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_resumed_in_time_is_listed_with_the_command_that_resumes_it() {
    let (account, _stack) = connected().await;
    let answer = run(&account, &order(&["news"], 5)).await;
    insta::assert_snapshot!(visible(&answer.text));
    assert_eq!((answer.exit, &rows(&answer)[0]["sending"]["obeyed"]["result"]), (Exit::No, &json!("not_yet")));
    assert_eq!(account.state().destinations["shop"].len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_ses_does_not_know_or_does_not_do_is_named() {
    let (account, _stack) = connected().await;
    let answer = run(&account, &order(&["newz"], 0)).await;
    assert_eq!(answer.exit, Exit::No);
    let text = visible(&answer.text);
    assert!(text.contains("configuration-set:newz  does not exist\ndid you mean news?"), "{text}");
    account.state().ignores_changes = true;
    let answer = run(&account, &order(&["alerts"], 0)).await;
    assert_eq!(answer.exit, Exit::No);
    assert_eq!(rows(&answer)[0]["failed"], "SES accepted the deletion but still shows destination test");
}
