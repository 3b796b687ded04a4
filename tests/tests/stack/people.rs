//! The enforcer with people and SES acting at the same time, and with a second enforcer.

use aws::reputation::DynamoReputation;
use e2e::cloud::{Cloud, LEDGER};
use e2e::stack::Stack;
use pipeline::evaluate::apply_input;
use reputation::breaker::{Input, StateName};
use reputation::time::Now;
use reputation::{Key, Policy, Subject};
use serde_json::{Value, json};

use super::mail::{Mailbox, NEWS, SHOP, stored};

pub(super) const START: Now = Now(1_791_273_600_000);

pub(super) fn cloud() -> Cloud {
    let cloud = Cloud::new();
    cloud.state().sets = [("news".to_owned(), true), ("shop".to_owned(), true)].into();
    cloud
}

/// Mail of which every third one bounces, published and judged; not enforced yet.
pub(super) async fn with_harm(cloud: &Cloud, now: Now) -> Stack {
    with_harm_on(cloud, Stack::new(cloud, false), now).await
}

/// The same, by this stack.
pub(super) async fn with_harm_on(cloud: &Cloud, mut stack: Stack, now: Now) -> Stack {
    let mut mailbox = Mailbox::default();
    for mail in 0..90 {
        match mail % 3 {
            0 => mailbox.bounced(NEWS, "outlook.com", "microsoft", now),
            _ => mailbox.delivered(NEWS, "outlook.com", "microsoft", now),
        }
        mailbox.delivered(SHOP, "outlook.com", "microsoft", now);
    }
    let events: Vec<&str> = mailbox.events.iter().map(String::as_str).collect();
    assert_eq!(stack.ingest(&events, now).await, Ok(vec![]));
    stack.fold(&cloud.stream(LEDGER), now).await.unwrap();
    stack
}

fn breaker(cloud: &Cloud, subject: &str) -> Value {
    let items = cloud.items(e2e::cloud::REPUTATION);
    items.into_iter().find(|item| item["pk"]["S"] == subject && item["sk"]["S"] == "breaker#").unwrap_or_default()
}

fn state(cloud: &Cloud, subject: &str) -> String {
    breaker(cloud, subject)["state"]["S"].as_str().unwrap_or("closed").to_owned()
}

fn subjects(cloud: &Cloud) -> Vec<String> {
    cloud.state().published.iter().map(|form| form["Subject"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn harm_pauses_the_guilty_set_and_the_alert_names_rule_and_numbers() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    stack.enforce(false, START).await.unwrap();
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
    assert_eq!(state(&cloud, "configuration-set:shop"), "closed");
    let state = cloud.state();
    let alert = state.published.iter().find(|form| form["Subject"].contains("] news: ")).unwrap();
    insta::assert_snapshot!(format!("{}\n\n{}", alert["Subject"], alert["Message"]));
    let event = state.events.iter().find(|event| event["Detail"].as_str().unwrap().contains("configuration-set:news"));
    let detail: Value = serde_json::from_str(event.unwrap()["Detail"].as_str().unwrap()).unwrap();
    assert_eq!(event.unwrap()["Source"], "ses-breaker");
    let fields = ["to", "metric", "rule", "population", "bad"].map(|name| detail[name].to_string());
    assert_eq!(fields, ["\"open\"", "\"hard_bounce\"", "\"cusum\"", "90", "30"]);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_a_person_resumes_is_accepted_and_re_armed() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    stack.enforce(false, START).await.unwrap();
    cloud.state().sets.insert("news".to_owned(), true);
    // One check is not enough: it might be older than the stack's own stop.
    stack.enforce(true, START.plus_minutes(2)).await.unwrap();
    assert_eq!(state(&cloud, "configuration-set:news"), "open");
    let later = START.plus_minutes(7);
    stack.enforce(true, later).await.unwrap();
    assert_eq!(state(&cloud, "configuration-set:news"), "closed");
    assert_eq!(breaker(&cloud, "configuration-set:news")["since_pause"]["N"], later.next_minute().0.to_string());
    // The same mail does not stop it again.
    for minute in 8..80 {
        stack.tick(START.plus_minutes(minute)).await.unwrap();
        stack.enforce(minute % 5 == 0, START.plus_minutes(minute)).await.unwrap();
    }
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
    assert!(cloud.state().sets["news"]);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_a_person_pauses_is_never_resumed_by_us() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    stack.enforce(false, START).await.unwrap();
    // The stack's own stop ends with probes.
    for minute in 1..40 {
        stack.tick(START.plus_minutes(minute)).await.unwrap();
    }
    stack.enforce(false, START.plus_minutes(40)).await.unwrap();
    assert_eq!(cloud.state().switched, [("news".to_owned(), false), ("news".to_owned(), true)]);
    // A person stops it, and it stays stopped for a day.
    cloud.state().sets.insert("news".to_owned(), false);
    for minute in (45..1500).step_by(5) {
        stack.enforce(true, START.plus_minutes(minute)).await.unwrap();
        stack.tick(START.plus_minutes(minute)).await.unwrap();
    }
    assert_eq!(cloud.state().switched.len(), 2);
    assert!(!cloud.state().sets["news"]);
    assert_eq!(breaker(&cloud, "configuration-set:news")["hold"]["S"], "open");
}

#[tokio::test(start_paused = true)]
async fn a_pause_lands_though_ses_refuses_for_a_minute() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    cloud.state().ses_errors = [(429, "TooManyRequestsException"); 7].into();
    let begun = tokio::time::Instant::now();
    stack.enforce(false, START).await.unwrap();
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
    assert!(begun.elapsed().as_secs() >= 60, "{:?}", begun.elapsed());
    // If it fails for longer than a function may run, the next checks try again.
    let cloud = self::cloud();
    let mut stack = with_harm(&cloud, START).await;
    cloud.state().set_errors = [("news".to_owned(), (500, "InternalServiceErrorException"))].into();
    stack.enforce(false, START).await.unwrap();
    let tries = cloud.state().ses_calls.len();
    assert!((4..10).contains(&tries), "{tries}");
    stack.enforce(true, START.plus_minutes(5)).await.unwrap();
    assert!(cloud.state().ses_calls.len() > tries);
    cloud.state().set_errors.clear();
    stack.enforce(true, START.plus_minutes(10)).await.unwrap();
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
}

fn desired_states(cloud: &Cloud) -> Vec<Value> {
    cloud.items(e2e::cloud::REPUTATION).into_iter().filter(|item| item["pk"]["S"] == "control").collect()
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_gone_is_reported_once_and_stopped_again_if_it_is_made_anew() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    stack.enforce(false, START).await.unwrap();
    cloud.state().sets.remove("news");
    let gone = |cloud: &Cloud| {
        subjects(cloud).iter().filter(|title| **title == "[GONE] news does not exist at SES any more").count()
    };
    stack.enforce(true, START.plus_minutes(5)).await.unwrap();
    assert_eq!(gone(&cloud), 0, "one look is not enough");
    for minute in [10, 15, 20] {
        stack.enforce(true, START.plus_minutes(minute)).await.unwrap();
        stack.enforce(false, START.plus_minutes(minute + 1)).await.unwrap();
    }
    assert_eq!(gone(&cloud), 1, "{:?}", subjects(&cloud));
    assert!(desired_states(&cloud)[0].get("gone").is_some());
    // Created again while its breaker is open.
    cloud.state().sets.insert("news".to_owned(), true);
    cloud.state().tags.clear();
    stack.enforce(true, START.plus_minutes(25)).await.unwrap();
    assert!(!cloud.state().sets["news"]);
    assert_eq!(breaker(&cloud, "configuration-set:news")["hold"]["S"], "none");
    assert_eq!(cloud.state().tags["news"]["ses-breaker:stopped-by"], "test");
    // Missing while nothing is to be stopped: there is no desired state to keep.
    for minute in 30..70 {
        stack.tick(START.plus_minutes(minute)).await.unwrap();
    }
    stack.enforce(false, START.plus_minutes(70)).await.unwrap();
    assert_eq!(cloud.state().tags["news"]["ses-breaker:stopped-by"], "");
    cloud.state().sets.remove("news");
    for minute in [75, 80] {
        stack.enforce(true, START.plus_minutes(minute)).await.unwrap();
    }
    assert_eq!((gone(&cloud), desired_states(&cloud).len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_denied_stop_is_reported_once_a_day_and_succeeds_once_it_is_allowed() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    cloud.state().set_errors = [("news".to_owned(), (403, "AccessDeniedException"))].into();
    for minute in 0..4 {
        stack.enforce(true, START.plus_minutes(minute)).await.unwrap();
    }
    stack.enforce(true, START.plus_minutes(1440)).await.unwrap();
    let denied =
        subjects(&cloud).iter().filter(|title| title.starts_with("[REFUSED by SES] news: AccessDenied")).count();
    assert_eq!(denied, 2, "{:?}", subjects(&cloud));
    cloud.state().set_errors.clear();
    stack.enforce(true, START.plus_minutes(1445)).await.unwrap();
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
    assert!(desired_states(&cloud)[0].get("error").is_none());
}

#[tokio::test(start_paused = true)]
async fn ses_answers_right_after_our_own_write_are_not_taken_for_a_persons() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    stack.enforce(false, START).await.unwrap();
    // SES does not show the stop yet.
    cloud.state().stale = [("news".to_owned(), (true, 1))].into();
    stack.enforce(true, START.plus_minutes(1)).await.unwrap();
    // And once more, from a part of SES that lags behind.
    cloud.state().stale = [("news".to_owned(), (true, 1))].into();
    stack.enforce(true, START.plus_minutes(5)).await.unwrap();
    for minute in [10, 15, 20] {
        stack.enforce(true, START.plus_minutes(minute)).await.unwrap();
    }
    assert_eq!(state(&cloud, "configuration-set:news"), "open");
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
}

async fn person_stops(cloud: &Cloud, set: &str, now: Now) {
    let policy = Policy::default();
    let mut store = DynamoReputation::new(cloud.clients().dynamodb(), e2e::cloud::REPUTATION, &policy);
    let key = Key { subject: Subject::ConfigurationSet(set.into()), isp: None };
    apply_input(&policy, &mut store, &key, Input::PersonStops, now).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_set_that_always_fails_holds_up_no_other() {
    for error in [(500, "InternalServiceErrorException"), (403, "AccessDeniedException")] {
        let cloud = cloud();
        cloud.state().sets.insert("bad".to_owned(), true);
        cloud.state().set_errors = [("bad".to_owned(), error)].into();
        let mut stack = Stack::new(&cloud, false);
        person_stops(&cloud, "bad", START).await;
        person_stops(&cloud, "shop", START.plus_minutes(1)).await;
        stack.enforce(false, START.plus_minutes(1)).await.unwrap();
        person_stops(&cloud, "news", START.plus_minutes(2)).await;
        stack.enforce(false, START.plus_minutes(2)).await.unwrap();
        assert_eq!(cloud.state().switched, [("shop".to_owned(), false), ("news".to_owned(), false)]);
        // It is read once in a reconcile.
        for minute in 1..10 {
            cloud.state().ses_calls.clear();
            stack.enforce(true, START.plus_minutes(30 + minute * 5)).await.unwrap();
            let calls = cloud.state().ses_calls.iter().filter(|call| call.ends_with("/bad")).count();
            assert!(calls <= 2, "{calls}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_desired_state_is_renewed_while_its_breaker_is_open() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    let key = json!({ "pk": { "S": "control" }, "sk": { "S": "configuration-set:news" } });
    cloud.dynamodb("DeleteItem", json!({ "TableName": e2e::cloud::REPUTATION, "Key": key }));
    stack.enforce(false, START).await.unwrap();
    assert_eq!(cloud.state().switched, []);
    stack.enforce(true, START.plus_minutes(5)).await.unwrap();
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
    // Lost after it was applied: the mark says that the stop was ours, so it is resumed in time.
    cloud.dynamodb("DeleteItem", json!({ "TableName": e2e::cloud::REPUTATION, "Key": key }));
    stack.enforce(true, START.plus_minutes(10)).await.unwrap();
    assert_eq!(breaker(&cloud, "configuration-set:news")["hold"]["S"], "none");
    for minute in 11..60 {
        stack.tick(START.plus_minutes(minute)).await.unwrap();
    }
    stack.enforce(false, START.plus_minutes(60)).await.unwrap();
    assert!(cloud.state().sets["news"]);
}

#[tokio::test(start_paused = true)]
async fn two_stacks_leave_each_others_stops_alone() {
    let cloud = cloud();
    let beside = cloud.beside();
    let mut first = with_harm(&cloud, START).await;
    with_harm(&beside, START).await;
    let mut second = Stack::named(&beside, "second", false);
    first.enforce(false, START).await.unwrap();
    assert_eq!(cloud.state().tags["news"]["ses-breaker:stopped-by"], "test");
    for minute in [1, 5, 10, 15, 20] {
        first.enforce(true, START.plus_minutes(minute)).await.unwrap();
        second.enforce(true, START.plus_minutes(minute)).await.unwrap();
    }
    for cloud in [&cloud, &beside] {
        assert_eq!(state(cloud, "configuration-set:news"), "open");
        assert_eq!(breaker(cloud, "configuration-set:news")["hold"]["S"], "none");
    }
    let stops = subjects(&cloud).into_iter().filter(|title| title == "[STOPPED by stack test] news");
    assert_eq!(stops.count(), 1);
    assert_eq!(desired_states(&beside)[0]["other"]["S"], "test");
    // The first resumes it; the breaker of the second is still open, so it stops the set in its own name.
    for minute in 20..40 {
        first.tick(START.plus_minutes(minute)).await.unwrap();
    }
    first.enforce(false, START.plus_minutes(40)).await.unwrap();
    second.enforce(true, START.plus_minutes(45)).await.unwrap();
    let switched = [false, true, false].map(|sending| ("news".to_owned(), sending));
    assert_eq!(cloud.state().switched, switched);
    assert_eq!(cloud.state().tags["news"]["ses-breaker:stopped-by"], "second");
    // The first does not take that for a person's command.
    for minute in [45, 50, 55] {
        first.enforce(true, START.plus_minutes(minute)).await.unwrap();
    }
    assert_eq!(breaker(&cloud, "configuration-set:news")["hold"]["S"], "none");
    assert_ne!(state(&cloud, "configuration-set:news"), "open");
    // A person resumes it: both accept that, and neither stops it again.
    cloud.state().sets.insert("news".to_owned(), true);
    for minute in [60, 65, 70, 75] {
        first.enforce(true, START.plus_minutes(minute)).await.unwrap();
        second.enforce(true, START.plus_minutes(minute)).await.unwrap();
    }
    assert_eq!(state(&beside, "configuration-set:news"), "closed");
    assert_eq!(cloud.state().switched, switched);
}

#[tokio::test(start_paused = true)]
async fn of_two_breakers_that_race_one_wins_and_nothing_counts_twice() {
    let cloud = cloud();
    let mut first = Stack::new(&cloud, false);
    let mut second = Stack::new(&cloud, false);
    let mut mailbox = Mailbox::default();
    for mail in 0..90 {
        match mail % 3 {
            0 => mailbox.bounced(NEWS, "outlook.com", "microsoft", START),
            _ => mailbox.delivered(NEWS, "outlook.com", "microsoft", START),
        }
    }
    let events: Vec<&str> = mailbox.events.iter().map(String::as_str).collect();
    assert_eq!(first.ingest(&events, START).await, Ok(vec![]));
    let records = cloud.stream(LEDGER);
    // The same batch at the same time, as after a spurious timeout; and the parts of two shards.
    let (a, b) = tokio::join!(first.fold(&records, START), second.fold(&records, START));
    let opened = [a.unwrap(), b.unwrap()].concat();
    let opened = opened.iter().filter_map(|change| change.transition.as_ref());
    let opened = opened.filter(|transition| {
        transition.to == StateName::Open && transition.key.subject.to_string() == "configuration-set:news"
    });
    assert_eq!(opened.count(), 1);
    assert_eq!(stored(&cloud, "m"), mailbox.totals);
    let (a, b) = tokio::join!(first.enforce(false, START), second.enforce(false, START));
    // One of them may have found the desired state changed by the other, and must be woken again.
    for outcome in [a, b] {
        let busy = outcome.as_ref().is_err_and(|error| error.disposition == pipeline::Disposition::Retry);
        assert!(outcome.is_ok() || busy, "{outcome:?}");
    }
    first.enforce(true, START).await.unwrap();
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
    // The other enforcer's action is not taken for a person's.
    assert_eq!(breaker(&cloud, "configuration-set:news")["hold"]["S"], "none");
}
