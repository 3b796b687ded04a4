//! People and SES in the way of the enforcer, and two of us at once.

use e2e::cloud::{Cloud, LEDGER};
use e2e::stack::Stack;
use reputation::time::Now;
use serde_json::Value;

use super::mail::{Mailbox, NEWS, SHOP, stored};

pub(super) const START: Now = Now(1_791_273_600_000);

pub(super) fn cloud() -> Cloud {
    let cloud = Cloud::new();
    cloud.state().sets = [("news".to_owned(), true), ("shop".to_owned(), true)].into();
    cloud
}

/// Mail of which every third one bounces, told and judged; not enforced yet.
pub(super) async fn with_harm(cloud: &Cloud, now: Now) -> Stack {
    let mut stack = Stack::new(cloud, false);
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
    let alert = state.published.iter().find(|form| form["Subject"].contains("configuration-set:news")).unwrap();
    insta::assert_snapshot!(format!("{}\n\n{}", alert["Subject"], alert["Message"]));
    let event = state.events.iter().find(|event| event["Detail"].as_str().unwrap().contains("configuration-set:news"));
    let detail: Value = serde_json::from_str(event.unwrap()["Detail"].as_str().unwrap()).unwrap();
    assert_eq!(event.unwrap()["Source"], "ses-breaker");
    let told = ["to", "metric", "rule", "population", "bad"].map(|name| detail[name].to_string());
    assert_eq!(told, ["\"open\"", "\"hard_bounce\"", "\"cusum\"", "90", "30"]);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_a_person_resumes_is_accepted_and_re_armed() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    stack.enforce(false, START).await.unwrap();
    cloud.state().sets.insert("news".to_owned(), true);
    let later = START.plus_minutes(7);
    stack.enforce(true, later).await.unwrap();
    assert_eq!(state(&cloud, "configuration-set:news"), "closed");
    assert_eq!(breaker(&cloud, "configuration-set:news")["since_pause"]["N"], later.next_minute().0.to_string());
    // The same mail does not pause it again.
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
    // Ours ends with probes.
    for minute in 1..40 {
        stack.tick(START.plus_minutes(minute)).await.unwrap();
    }
    stack.enforce(false, START.plus_minutes(40)).await.unwrap();
    assert_eq!(cloud.state().switched, [("news".to_owned(), false), ("news".to_owned(), true)]);
    // Now a person stops it, and for a day it stays so.
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
    // And if it refuses for longer than a function may run, the wish comes again.
    let cloud = self::cloud();
    let mut stack = with_harm(&cloud, START).await;
    cloud.state().ses_errors = [(500, "InternalServiceErrorException"); 60].into();
    let mut tries = 1;
    while stack.enforce(false, START).await.is_err() {
        tries += 1;
    }
    assert!(tries > 1);
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_gone_is_forgotten_with_an_alert() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    cloud.state().sets.remove("news");
    for _ in 0..3 {
        stack.enforce(true, START).await.unwrap();
    }
    let told = subjects(&cloud);
    assert_eq!(
        told.iter().filter(|title| **title == "ses-breaker gone: configuration-set:news").count(),
        1,
        "{told:?}"
    );
    let wishes = cloud.items(e2e::cloud::REPUTATION).into_iter().filter(|item| item["pk"]["S"] == "control").count();
    assert_eq!(wishes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_denied_pause_is_told_once_a_day_and_lands_once_it_is_allowed() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    // The first time it is tried twice: it looks again once the notice of the pause has waited for others.
    cloud.state().ses_errors = [(403, "AccessDeniedException"); 6].into();
    for minute in 0..4 {
        stack.enforce(true, START.plus_minutes(minute)).await.unwrap();
    }
    stack.enforce(true, START.plus_minutes(1440)).await.unwrap();
    let denied =
        subjects(&cloud).iter().filter(|title| **title == "ses-breaker denied: configuration-set:news").count();
    assert_eq!(denied, 2, "{:?}", subjects(&cloud));
    stack.enforce(true, START.plus_minutes(1445)).await.unwrap();
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
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
    // The same batch at the same time, as after a timeout that was none; and the parts of two shards.
    let (a, b) = tokio::join!(first.fold(&records, START), second.fold(&records, START));
    let opened = [a.unwrap(), b.unwrap()].concat();
    let opened = opened.iter().filter_map(|change| change.transition.as_ref());
    let opened = opened.filter(|told| told.to == "open" && told.key.subject.to_string() == "configuration-set:news");
    assert_eq!(opened.count(), 1);
    assert_eq!(stored(&cloud, "m"), mailbox.totals);
    let (a, b) = tokio::join!(first.enforce(false, START), second.enforce(false, START));
    // One of them may have found the wish changed under its hands, and wants to be rung again.
    for outcome in [a, b] {
        let busy = outcome.as_ref().is_err_and(|error| error.disposition == pipeline::Disposition::Retry);
        assert!(outcome.is_ok() || busy, "{outcome:?}");
    }
    first.enforce(true, START).await.unwrap();
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
    // What the other one made is not taken for a person's.
    assert_eq!(breaker(&cloud, "configuration-set:news")["hold"]["S"], "none");
}
