//! Alerts and events about real mail: sent once, with commands to type.

use std::collections::{BTreeMap, BTreeSet};

use e2e::cloud::{Cloud, Kill, LEDGER, REPUTATION};
use e2e::stack::Stack;
use reputation::time::{HOUR, MINUTE_MILLIS, Now};
use serde_json::{Value, json};

use super::mail::{Mailbox, NEWS, SHOP, Sender};
use super::people::{START, cloud, with_harm, with_harm_on};

/// The messages to people: subject, text, and id.
fn alerts(cloud: &Cloud) -> Vec<(String, String, String)> {
    let id = |form: &BTreeMap<String, String>| {
        let number =
            (1..9).find(|n| form.get(&format!("MessageAttributes.entry.{n}.Name")).is_some_and(|name| name == "id"));
        form[&format!("MessageAttributes.entry.{}.Value.StringValue", number.unwrap())].clone()
    };
    let state = cloud.state();
    state.published.iter().map(|form| (form["Subject"].clone(), form["Message"].clone(), id(form))).collect()
}

fn titles(cloud: &Cloud) -> Vec<String> {
    alerts(cloud).into_iter().map(|(title, _, _)| title).collect()
}

/// The events as the target of a rule gets them.
fn events(cloud: &Cloud) -> Vec<Value> {
    let event = |entry: &Value| {
        let detail: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
        json!({ "source": entry["Source"], "detail-type": entry["DetailType"], "detail": detail })
    };
    cloud.state().events.iter().map(event).collect()
}

/// Three unrelated senders whose mail to one ISP bounces, after earlier mail had arrived and while their other mail arrives.
async fn with_incident(cloud: &Cloud) -> Stack {
    let mut stack = Stack::new(cloud, true);
    let mut mailbox = Mailbox::default();
    for (set, domain) in [("a", "a.example"), ("b", "b.example"), ("c", "c.example")] {
        let sender = Sender { set, domain };
        for _ in 0..30 {
            mailbox.delivered(sender, "outlook.com", "microsoft", Now(START.0 - 2 * i64::from(HOUR) * MINUTE_MILLIS));
        }
        for mail in 0..60 {
            match mail % 2 {
                0 => mailbox.bounced(sender, "outlook.com", "microsoft", START),
                _ => mailbox.delivered(sender, "outlook.com", "microsoft", START),
            }
            for _ in 0..10 {
                mailbox.delivered(sender, "gmail.com", "gmail", START);
            }
        }
    }
    let events: Vec<&str> = mailbox.events.iter().map(String::as_str).collect();
    for batch in events.chunks(500) {
        assert_eq!(stack.ingest(batch, START).await, Ok(vec![]));
    }
    stack.fold(&cloud.stream(LEDGER), START).await.unwrap();
    stack
}

#[tokio::test(start_paused = true)]
async fn each_level_of_an_incident_is_reported_once_until_mail_flows_again() {
    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    stack.enforce(false, START).await.unwrap();
    assert_eq!(titles(&cloud), ["[STOPPED] news: 33 % of 90 mails bounced hard"]);
    // A day with good mail in one hour only: the test waits for it.
    for minute in 1..1_440 {
        let now = START.plus_minutes(minute);
        if (300..360).contains(&minute) {
            let mut mailbox = Mailbox::numbered_from(1_000 * minute);
            mailbox.delivered(NEWS, "outlook.com", "microsoft", now);
            let events: Vec<&str> = mailbox.events.iter().map(String::as_str).collect();
            let before = cloud.stream(LEDGER).len();
            assert_eq!(stack.ingest(&events, now).await, Ok(vec![]));
            stack.fold(&cloud.stream(LEDGER)[before..], now).await.unwrap();
        }
        stack.tick(now).await.unwrap();
        if minute % 5 == 0 {
            stack.enforce(true, now).await.unwrap();
        }
    }
    insta::assert_snapshot!(titles(&cloud).join("\n"));
    // Programs got an event for each breaker, with the id of the message to people.
    let alerts: BTreeSet<String> = alerts(&cloud).into_iter().map(|(_, _, id)| id).collect();
    let groups: BTreeSet<String> =
        events(&cloud).iter().map(|event| event["detail"]["group"].as_str().unwrap().to_owned()).collect();
    assert_eq!(groups, alerts);
    let subjects = |to: &str| {
        let events = events(&cloud);
        let named =
            events.iter().map(|event| &event["detail"]).filter(|detail| detail["to"] == to && detail["isp"].is_null());
        named.map(|detail| detail["subject"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    // The identity has no switch, and reports nothing that its configuration set has reported.
    let set = BTreeSet::from(["configuration-set:news".to_owned()]);
    assert_eq!((subjects("open"), subjects("probing")), (set.clone(), set));
}

/// An identity that sends through two configuration sets, with a bad list in both: `seconds` are the time between their first
/// bounces.
async fn with_two_sets(cloud: &Cloud, seconds: i64) -> Stack {
    let mut stack = Stack::new(cloud, false);
    let (news, shop) = (Sender { domain: "a.example", ..NEWS }, Sender { domain: "a.example", ..SHOP });
    // Both send, in turns of ten seconds.
    for turn in 0..18 {
        let now = Now(START.0 + turn * 10_000);
        let mut mailbox = Mailbox::numbered_from(u32::try_from(turn).unwrap() * 1_000);
        for (sender, begins) in [(news, 0), (shop, seconds)] {
            for mail in 0..6 {
                match mail % 3 {
                    0 if turn * 10 >= begins => mailbox.bounced(sender, "outlook.com", "microsoft", now),
                    _ => mailbox.delivered(sender, "outlook.com", "microsoft", now),
                }
            }
        }
        let events: Vec<&str> = mailbox.events.iter().map(String::as_str).collect();
        let before = cloud.stream(LEDGER).len();
        assert_eq!(stack.ingest(&events, now).await, Ok(vec![]));
        stack.fold(&cloud.stream(LEDGER)[before..], now).await.unwrap();
        stack.enforce(false, now).await.unwrap();
    }
    stack
}

#[tokio::test(start_paused = true)]
async fn an_incident_of_an_identity_with_two_sets_is_one_message_for_each_level() {
    for seconds in [0, 10, 60] {
        let cloud = cloud();
        let mut stack = with_two_sets(&cloud, seconds).await;
        for minute in 3..30 {
            stack.tick(START.plus_minutes(minute)).await.unwrap();
            stack.enforce(minute % 5 == 0, START.plus_minutes(minute)).await.unwrap();
        }
        assert_eq!(cloud.state().sets.values().collect::<Vec<_>>(), [&false; 2], "{seconds}");
        insta::assert_snapshot!(format!("two_sets_{seconds}_s_apart"), titles(&cloud).join("\n"));
        // Programs get events of both sets, and no stop of the identity.
        let events = events(&cloud);
        let opened = events.iter().map(|event| &event["detail"]).filter(|detail| detail["to"] == "open");
        let opened: BTreeSet<&str> = opened.map(|detail| detail["subject"].as_str().unwrap()).collect();
        assert_eq!(opened, BTreeSet::from(["configuration-set:news", "configuration-set:shop"]));
    }
}

#[tokio::test(start_paused = true)]
async fn harm_that_spans_sets_is_reported_of_their_identity_with_what_can_be_stopped() {
    let cloud = cloud();
    let mut stack = Stack::new(&cloud, false);
    let sets = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
    let mut mailbox = Mailbox::default();
    for set in sets {
        cloud.state().sets.insert(set.to_owned(), true);
        let sender = Sender { set, domain: "a.example" };
        for mail in 0..20 {
            match mail {
                0 | 10 => mailbox.bounced(sender, "outlook.com", "microsoft", START),
                _ => mailbox.delivered(sender, "outlook.com", "microsoft", START),
            }
        }
        for _ in 0..2 {
            mailbox.bounced(sender, "outlook.com", "microsoft", START);
        }
    }
    let events: Vec<&str> = mailbox.events.iter().map(String::as_str).collect();
    assert_eq!(stack.ingest(&events, START).await, Ok(vec![]));
    stack.fold(&cloud.stream(LEDGER), START).await.unwrap();
    stack.enforce(false, START).await.unwrap();
    let alerts = alerts(&cloud);
    let [(title, text, _)] = alerts.as_slice() else { panic!("{alerts:#?}") };
    insta::assert_snapshot!(format!("{title}\n\n{text}"));
}

#[tokio::test(start_paused = true)]
async fn a_new_stack_acts_only_once_a_policy_says_so_and_then_at_once() {
    let cloud = cloud();
    let stack = Stack::fresh(&cloud, "test", false);
    let mut stack = with_harm_on(&cloud, stack, START).await;
    stack.enforce(true, START).await.unwrap();
    assert_eq!(titles(&cloud), ["[SHADOW, would be stopped] news: 33 % of 90 mails bounced hard"]);
    assert!(cloud.state().switched.is_empty());
    // A policy without a mode does not change that.
    let policies = aws::policies::Policies::new(cloud.clients().dynamodb(), REPUTATION);
    policies.push("[breaker]\nopen_minutes = 60\n", 0, "ann", START).await.unwrap();
    let mut stack = Stack::fresh(&cloud, "test", false);
    stack.tick(START.plus_minutes(1)).await.unwrap();
    stack.enforce(true, START.plus_minutes(1)).await.unwrap();
    assert!(cloud.state().switched.is_empty());
    policies.push("mode = \"act\"\n", 1, "ann", START).await.unwrap();
    let mut stack = Stack::fresh(&cloud, "test", false);
    stack.tick(START.plus_minutes(2)).await.unwrap();
    stack.enforce(false, START.plus_minutes(2)).await.unwrap();
    assert_eq!(cloud.state().switched, [("news".to_owned(), false)]);
}

#[tokio::test(start_paused = true)]
async fn an_isps_own_trouble_is_one_message_with_its_pardons() {
    let cloud = Cloud::new();
    let mut stack = with_incident(&cloud).await;
    stack.enforce(false, START).await.unwrap();
    assert_eq!(titles(&cloud), ["[HELD] microsoft: several unrelated senders turned bad at this ISP at the same time"]);
    insta::assert_snapshot!(alerts(&cloud)[0].1);
}

#[tokio::test(start_paused = true)]
async fn every_event_conforms_to_the_schema() {
    let mut all = Vec::new();
    let incident = Cloud::new();
    with_incident(&incident).await.enforce(false, START).await.unwrap();
    all.extend(events(&incident));

    let cloud = cloud();
    let mut stack = with_harm(&cloud, START).await;
    cloud.state().ses_errors = [(403, "AccessDeniedException")].into();
    for minute in 0..40 {
        stack.tick(START.plus_minutes(minute)).await.unwrap();
        stack.enforce(true, START.plus_minutes(minute)).await.unwrap();
    }
    // Another stack stops it; then a person does so at SES, and deletes it.
    cloud.state().sets.insert("news".to_owned(), false);
    let tag = ("ses-breaker:stopped-by".to_owned(), "second".to_owned());
    cloud.state().tags.insert("news".to_owned(), [tag].into());
    stack.enforce(true, START.plus_minutes(43)).await.unwrap();
    cloud.state().tags.clear();
    for minute in [44, 49] {
        stack.enforce(true, START.plus_minutes(minute)).await.unwrap();
    }
    cloud.state().sets.remove("news");
    for minute in [54, 59] {
        stack.enforce(true, START.plus_minutes(minute)).await.unwrap();
    }
    // The next day.
    for _ in 0..2 {
        stack.enforce(true, START.plus_minutes(1_440)).await.unwrap();
    }
    all.extend(events(&cloud));

    let schema: Value = serde_json::from_str(include_str!("../../../infra/events.schema.json")).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    for event in &all {
        let errors: Vec<String> =
            validator.iter_errors(event).map(|error| format!("{error} at {}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:#?} {event:#}");
        // The schema describes each member.
        let about = ["about-anything", "transition", "digest"].map(|name| &schema["$defs"][name]["properties"]);
        for name in event["detail"].as_object().unwrap().keys() {
            assert!(about.iter().any(|members| members.get(name).is_some()), "{name}");
        }
    }
    let seen = |pointer: &str| -> BTreeSet<&str> {
        all.iter().filter_map(|event| event.pointer(pointer).and_then(Value::as_str)).collect()
    };
    let kinds: Vec<&str> = seen("/detail-type").into_iter().collect();
    let expected =
        ["Breaker Transition", "Control Denied", "Control Of Another Stack", "Control Target Gone", "Daily Digest"];
    assert_eq!(kinds, expected);
    let causes: Vec<&str> = seen("/detail/cause").into_iter().collect();
    assert_eq!(causes, ["incident", "pardon", "person", "time", "verdict"]);
    // It also rejects invalid events.
    for (pointer, wrong) in [("/detail/to", json!("broken")), ("/detail/group", Value::Null), ("/source", json!("x"))] {
        let mut event = all[0].clone();
        *event.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&event), "{pointer}");
    }
}

/// The messages to people and the events to programs, each once.
fn content(cloud: &Cloud) -> (BTreeMap<String, (String, String)>, BTreeMap<String, Value>) {
    let (mut messages, mut reports) = (BTreeMap::new(), BTreeMap::new());
    for (title, text, id) in alerts(cloud) {
        let known = messages.entry(id.clone()).or_insert((title.clone(), text.clone()));
        assert_eq!(*known, (title, text), "{id}");
    }
    for event in events(cloud) {
        let id = event["detail"]["id"].as_str().unwrap().to_owned();
        let known = reports.entry(id.clone()).or_insert(event.clone());
        assert_eq!(*known, event, "{id}");
    }
    (messages, reports)
}

fn left_over(cloud: &Cloud) -> usize {
    let items = cloud.items(REPUTATION);
    let alert_queue = items.iter().find(|item| item["pk"]["S"] == "desk").unwrap();
    let alert_queue: Value = serde_json::from_str(alert_queue["content"]["S"].as_str().unwrap()).unwrap();
    items.iter().filter(|item| item["pk"]["S"] == "outbox").count() + alert_queue["letters"].as_array().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn wherever_the_enforcer_is_stopped_no_news_is_lost_and_what_comes_twice_is_the_same() {
    let undisturbed = cloud();
    with_harm(&undisturbed, START).await.enforce(false, START).await.unwrap();
    let expected = content(&undisturbed);
    assert_eq!((expected.0.len(), left_over(&undisturbed)), (1, 0));
    for carried_out in [false, true] {
        for after in 0.. {
            let cloud = cloud();
            let mut stack = with_harm(&cloud, START).await;
            cloud.kill(Kill { after, carried_out });
            let outcome = stack.enforce(false, START).await;
            if !stack.restart_if_stopped() {
                outcome.unwrap();
                assert!(after > 5, "it writes more than {after} times");
                break;
            }
            // Lambda delivers the same again.
            stack.enforce(false, Now(START.0 + 2_000)).await.unwrap();
            assert_eq!((content(&cloud), left_over(&cloud)), (expected.clone(), 0), "stopped after {after}");
            assert!(alerts(&cloud).len() <= 2, "stopped after {after}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_enforcers_at_once_send_the_same() {
    let undisturbed = cloud();
    with_harm(&undisturbed, START).await.enforce(false, START).await.unwrap();
    let cloud = cloud();
    let mut first = with_harm(&cloud, START).await;
    let mut second = Stack::new(&cloud, false);
    let (_, _) = tokio::join!(first.enforce(false, START), second.enforce(false, START));
    first.enforce(true, Now(START.0 + 2_000)).await.unwrap();
    assert_eq!((content(&cloud), left_over(&cloud)), (content(&undisturbed), 0));
}

#[tokio::test(start_paused = true)]
async fn the_digest_is_sent_once_a_day_after_the_policys_hour() {
    let cloud = cloud();
    let toml = "[alerts]\ndigest_hour = 9\n\n[warmup]\nzone = \"Europe/Berlin\"\n\n[breaker]\nresume = \"manual\"\n";
    Stack::push(&cloud, toml).await;
    let mut stack = with_harm(&cloud, START).await;
    let digests = |cloud: &Cloud| {
        let alerts = alerts(cloud).into_iter();
        alerts.filter(|(title, ..)| title.starts_with("[DIGEST]")).collect::<Vec<_>>()
    };
    // It is ten in Berlin, but the day before has no mail.
    stack.enforce(true, START).await.unwrap();
    // Five minutes to nine, then three times after nine, by functions without memory.
    let nine = START.plus_minutes(1_440 - 60);
    stack.enforce(true, Now(nine.0 - 300_000)).await.unwrap();
    assert_eq!(digests(&cloud), []);
    for minutes in [0, 5, 300] {
        let mut cold = Stack::new(&cloud, false);
        cold.enforce(true, nine.plus_minutes(minutes)).await.unwrap();
        cold.enforce(false, nine.plus_minutes(minutes)).await.unwrap();
    }
    let sent = digests(&cloud);
    let [(title, text, _)] = sent.as_slice() else { panic!("{sent:#?}") };
    insta::assert_snapshot!(format!("{title}\n\n{text}"));
    let events = events(&cloud);
    let daily: Vec<&Value> = events.iter().filter(|event| event["detail-type"] == "Daily Digest").collect();
    assert_eq!((daily.len(), &daily[0]["detail"]["day"]), (1, &json!("2026-10-06")));
    // The next day has no mail.
    stack.enforce(true, nine.plus_minutes(1_440)).await.unwrap();
    stack.enforce(true, nine.plus_minutes(1_441)).await.unwrap();
    assert_eq!(digests(&cloud).len(), 1);
}
