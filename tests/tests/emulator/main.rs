//! The whole, from outside: the real template on an emulated AWS, events in, and all assertions through the APIs of AWS. Each
//! function runs as a process of its own, with only the permissions of its role in the template.
//!
//! What the emulator does not have, and where it is tested instead:
//!
//! | not here | but |
//! |---|---|
//! | SES publishes events | payloads as SES writes them: `events/`, `shared/ses-events` |
//! | EventBridge delivers events of `aws.ses` (only SES may put those) | the rule's pattern is tried on them, and they are sent as the rule would send them |
//! | pausing the account, tenants | recorded exchanges: `shared/aws/tests` |
//! | a wrong clock, denied permissions, dedicated IPs that SES manages | answers in the process: `shared/operator/tests/operator/doctor.rs` |
//! | batching windows, several shards, concurrent copies | simulations: `tests/tests/stack`, `shared/pipeline/tests` |
//! | KMS, TLS, alarms, time to live | linters of the template, in CI |
//!
//! Changes of the template for the emulator are in `tests/cloud/emulator.py`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod account;
#[cfg(feature = "browser")]
mod browser;
mod chaos;
mod doctor;
mod drill;
mod export;
mod fixture;
mod gate;
mod install;
mod relay;
mod starts;
mod stream;

use reputation::breaker::StateName;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use aws::invocation::now;
use aws_sdk_eventbridge::types::Target;
use aws_sdk_sqs::types::QueueAttributeName;
use e2e::emulator::eventually;
use fixture::{Fixture, SOON, extends_fixture};
use replay::driver::{MAX_SUBJECTS, Options, replay};
use replay::input::{Progress, Source};
use replay::report::Report;
use reputation::Policy;
use reputation::time::Now;
use serde_json::{Value, json};
use stream::{Totals, event, stream};

const STACK: &str = "e2e";
/// Without a gate; and a stop lasts until a person resumes, however old the mail.
const POLICY: &str = "mode = \"act\"\n\n[gate]\nin_use = false\n\n[breaker]\nresume = \"manual\"\n";
const SETS: [&str; 3] = ["news", "offers", "receipts"];

/// A stack with queues that see everything it sends.
struct Observed {
    base: Fixture,
    events_queue: String,
    dead_letters: String,
    /// Subscribed to the alerts.
    alerts: String,
    /// Subscribed to the chat topic.
    chat: String,
    /// The target of a rule for the events to programs.
    programs: String,
}

extends_fixture!(Observed);

impl Observed {
    async fn new() -> Observed {
        let parameters = [("GateInUse", "false"), ("EventBridgeSource", "true"), ("LogLevel", "debug")];
        let base = Fixture::deploy(STACK, &parameters, &SETS).await;
        let alerts = base.subscribe("alerts", "AlertTopicArn").await;
        let chat = base.subscribe("chat", "ChatTopicArn").await;
        let account = &base.account;
        let (programs, arn) = account.create_queue("programs", base.emulator.account(), "events.amazonaws.com").await;
        let rule = account.eventbridge.put_rule().name("programs").event_pattern(r#"{"source":["ses-breaker"]}"#);
        rule.send().await.unwrap();
        let target = Target::builder().id("queue").arn(arn).build().unwrap();
        account.eventbridge.put_targets().rule("programs").targets(target).send().await.unwrap();
        Observed {
            events_queue: account.queue_url(&format!("{STACK}-events")).await,
            dead_letters: account.queue_url(&format!("{STACK}-events-dead")).await,
            base,
            alerts,
            chat,
            programs,
        }
    }

    fn invoke(&self, function: &str, tick: &str) {
        self.emulator.invoke(STACK, function, &json!({ "tick": tick })).unwrap();
    }

    /// The sets that may not send.
    async fn stopped(&self) -> Vec<&'static str> {
        let mut stopped = Vec::new();
        for set in SETS {
            if !self.account.sending_enabled(set).await {
                stopped.push(set);
            }
        }
        stopped
    }

    /// Waits until the counts are exactly these.
    async fn counts(&self, expected: &Totals) {
        let subjects: BTreeSet<String> = expected.keys().map(|(subject, _)| subject.clone()).collect();
        eventually("everything is counted once", SOON, async || {
            // One after the other, so that waiting does not keep the emulator busy.
            for subject in &subjects {
                let found = self.account.totals(&self.table, "d", Some(subject)).await;
                let wrong = differences(&found, expected, subject);
                if !wrong.is_empty() {
                    return Err(wrong);
                }
            }
            Ok(())
        })
        .await;
    }

    /// Waits for a message in a queue that `wanted` accepts.
    async fn message<T>(&self, what: &str, queue: &str, mut wanted: impl FnMut(&Value) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let deadline = Instant::now() + SOON;
        loop {
            for body in self.account.take(queue).await {
                let message = serde_json::from_str(&body).unwrap();
                if let Some(found) = wanted(&message) {
                    return found;
                }
                seen.push(message);
            }
            assert!(Instant::now() < deadline, "{what} did not come, but: {seen:#?}");
        }
    }
}

/// The differences of one subject's counts, in words.
fn differences(found: &Totals, expected: &Totals, subject: &str) -> Vec<String> {
    let rows: BTreeSet<_> = found.keys().chain(expected.keys()).filter(|row| row.0 == subject).collect();
    let differing = rows.into_iter().filter(|row| found.get(row) != expected.get(row));
    differing.map(|row| format!("{row:?}: {:?}, should be {:?}", found.get(row), expected.get(row))).collect()
}

/// The keys of breakers that are open, and the totals, of a replay of these lines under the policy of the stack.
fn replayed(lines: &[&str], real_now: Now) -> (BTreeSet<String>, Totals) {
    let options = Options {
        policy: Policy::from_toml(POLICY).unwrap(),
        real_now: real_now.0,
        since: None,
        until: None,
        stop_at: None,
        workers: 0,
        max_subjects: MAX_SUBJECTS,
    };
    let source = Source::memory("published", lines.join("\n").into_bytes());
    let replayed = replay(&options, &[source], &mut |_| {}, &Progress::default()).unwrap();
    let report = Report::of(&replayed, None);
    let open = report.breakers.iter().filter(|breaker| breaker.state == StateName::Open);
    let open = open.map(|breaker| format!("{}#{}", breaker.subject, breaker.isp.as_deref().unwrap_or(""))).collect();
    let mut totals = Totals::new();
    for total in serde_json::to_value(&report.totals).unwrap().as_array().unwrap() {
        let counters = total.as_object().unwrap().iter();
        let counters: BTreeMap<String, u64> =
            counters.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect();
        let name = |part: &str| total[part].as_str().unwrap().to_owned();
        totals.insert((name("subject"), name("isp")), counters);
    }
    (open, totals)
}

#[tokio::test]
async fn a_bad_list_is_stopped_and_nothing_else_until_a_person_says_otherwise() {
    let fixture = Observed::new().await;
    fixture.push(POLICY, 0).await;

    let began = now();
    let sample = stream(began);
    let mut expected = sample.truth.clone();
    the_rules_accept_events_of_ses_only(&fixture, &sample.eventbridge).await;
    let lines = publish_twice(&fixture, &sample, &expected).await;
    the_alert_names_rule_and_numbers(&fixture).await;
    the_replay_agrees(&fixture, &lines, began, &expected).await;
    uncountable_messages_become_dead_letters(&fixture, &mut expected).await;
    a_person_resumes(&fixture, &mut expected).await;

    let logs = fixture.emulator.logs(STACK).unwrap();
    let leaks: Vec<&str> = logs.lines().filter(|line| line.contains('@')).collect();
    assert!(leaks.is_empty(), "addresses in logs: {leaks:#?}");
    assert!(logs.lines().count() > 100, "{logs}");
    fixture.base.emulator.stop().unwrap();
}

/// Each rule accepts its own kinds of events, of this account, and no others. (Only SES may put them.)
async fn the_rules_accept_events_of_ses_only(fixture: &Observed, events: &[String]) {
    let kind = |event: &Value| event["detail-type"].as_str().map(str::to_owned);
    let mut kinds: BTreeMap<String, Value> = BTreeMap::new();
    for mut event in events.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        event["account"] = json!(fixture.emulator.account());
        kind(&event).map(|kind| kinds.insert(kind, event));
    }
    let mut taken = Vec::new();
    for rule in ["mail-events", "sending-status", "advisor"] {
        let pattern = fixture.account.pattern(&format!("{STACK}-{rule}")).await;
        for (kind, event) in &kinds {
            if fixture.account.matches(&pattern, event).await {
                taken.push(format!("{rule}: {kind}"));
            }
            let mut of_another = event.clone();
            of_another["account"] = json!("111122223333");
            assert!(!fixture.account.matches(&pattern, &of_another).await, "{rule} takes {kind} of another account");
        }
    }
    insta::assert_snapshot!(taken.join("\n"), @"
    mail-events: Email Bounced
    mail-events: Email Clicked
    mail-events: Email Complaint Received
    mail-events: Email Delivered
    mail-events: Email Delivery Delayed
    mail-events: Email Opened
    mail-events: Email Rejected
    mail-events: Email Rendering Failed
    mail-events: Email Sent
    mail-events: Email Subscribed
    sending-status: Sending Status Disabled
    advisor: Advisor Recommendation Status Open
    ");
    assert!(kinds.contains_key("Email Teleported"), "what no rule takes");
}

/// Publishes everything through SNS, and every third event through EventBridge, too. The bounces of `news` come last. Returns
/// the lines as published.
async fn publish_twice<'a>(fixture: &Observed, sample: &'a stream::Stream, expected: &Totals) -> Vec<&'a str> {
    let account = &fixture.account;
    let is_last = |line: &&String| {
        line.contains(r#""eventType":"Bounce""#) && line.contains(r#""ses:configuration-set":["news"]"#)
    };
    let (bounces, first): (Vec<&String>, Vec<&String>) = sample.raw.iter().partition(is_last);
    let wrapped = sample.eventbridge.iter().filter(|line| line.contains(r#""detail-type""#));
    let (bounces_again, again): (Vec<&String>, Vec<&String>) = wrapped.step_by(3).partition(is_last);

    let began = Instant::now();
    fixture.publish(&first).await;
    account.enqueue(&fixture.events_queue, &again).await;
    let (sent, published) = (first.len() + again.len(), began.elapsed());
    let without_bounces = replayed(&first.iter().map(|line| line.as_str()).collect::<Vec<_>>(), now()).1;
    fixture.counts(&without_bounces).await;
    eprintln!("{sent} messages: published in {published:.1?}, counted after {:.1?}", began.elapsed());
    assert_eq!(fixture.stopped().await, [""; 0], "before the bounces");

    fixture.publish(&bounces).await;
    let last = Instant::now();
    eventually("news is judged", SOON, async || {
        let state = account.breaker(&fixture.table, "configuration-set:news").await;
        if state == "open" { Ok(()) } else { Err(state) }
    })
    .await;
    let judged = last.elapsed();
    eventually("news is stopped", SOON, async || match fixture.account.sending_enabled("news").await {
        true => Err("it may send"),
        false => Ok(()),
    })
    .await;
    eprintln!("{} bounces: open {judged:.2?} after the last, stopped after {:.2?}", bounces.len(), last.elapsed());
    account.enqueue(&fixture.events_queue, &bounces_again).await;
    fixture.counts(expected).await;
    assert_eq!(account.totals(&fixture.table, "d", None).await, *expected, "days, of everybody");
    assert_eq!(account.totals(&fixture.table, "h", None).await, *expected, "hours");
    assert_eq!(account.totals(&fixture.table, "m", None).await, *expected, "minutes");
    fixture.invoke("breaker", "minute");
    fixture.invoke("enforcer", "reconcile");
    assert_eq!(fixture.stopped().await, ["news"]);
    first.into_iter().chain(again).chain(bounces).chain(bounces_again).map(String::as_str).collect()
}

async fn the_alert_names_rule_and_numbers(fixture: &Observed) {
    let event = fixture
        .message("the event", &fixture.programs, |event| {
            let detail = &event["detail"];
            let wanted =
                detail["subject"] == "configuration-set:news" && detail["to"] == "open" && detail["isp"].is_null();
            wanted.then(|| detail.clone())
        })
        .await;
    assert_eq!(
        (&event["level"], &event["metric"], &event["rule"]),
        (&json!("pause"), &json!("hard_bounce"), &json!("cusum"))
    );
    let (bad, population) = (event["bad"].as_f64().unwrap(), event["population"].as_f64().unwrap());
    assert!((event["rate"].as_f64().unwrap() - bad / population).abs() < 1e-12, "{event:#}");

    let alert = fixture
        .message("the alert", &fixture.alerts, |alert| {
            let wanted = alert["Subject"].as_str().is_some_and(|title| title.starts_with("[STOPPED] news: "));
            wanted.then(|| alert.clone())
        })
        .await;
    let text = alert["Message"].as_str().unwrap();
    assert!(text.contains(&format!("{bad} of {population} mails bounced hard")), "{text}");
    assert!(text.contains("evidence") && text.contains("against the limit of 5 %"), "{text}");
    assert!(text.contains("ses-breaker resume configuration-set:news"), "{text}");
    assert_eq!(alert["MessageAttributes"]["level"]["Value"], "pause");
    chat_gets_the_same(fixture, &alert).await;
}

/// What Amazon Q Developer in chat applications accepts as a custom notification.
async fn chat_gets_the_same(fixture: &Observed, alert: &Value) {
    let notification = fixture
        .message("the notification for chat", &fixture.chat, |envelope| {
            let notification: Value = serde_json::from_str(envelope["Message"].as_str().unwrap()).unwrap();
            (notification["id"] == alert["MessageAttributes"]["id"]["Value"]).then_some(notification)
        })
        .await;
    assert_eq!((&notification["version"], &notification["source"]), (&json!("1.0"), &json!("custom")));
    let content = &notification["content"];
    assert_eq!(content["textType"], "client-markdown");
    let title = content["title"].as_str().unwrap();
    assert!(title.ends_with(alert["Subject"].as_str().unwrap()), "{title}");
    let description = content["description"].as_str().unwrap();
    assert!(description.contains("mails bounced hard") && !description.contains("&gt;"), "{content:#}");
    let fenced = format!("```\nses-breaker resume configuration-set:news --stack {STACK} --region eu-west-1\n```");
    assert!(description.contains(&fenced), "{content:#}");
    let steps = content["nextSteps"].as_array().unwrap();
    let undo = format!("`ses-breaker resume configuration-set:news --stack {STACK} --region eu-west-1`");
    assert!(steps.iter().any(|step| step.as_str().unwrap().contains(&undo)), "{steps:#?}");
    assert_eq!(notification["metadata"]["threadId"], format!("{STACK} configuration-set:news"));
}

/// The same lines, replayed on a laptop.
async fn the_replay_agrees(fixture: &Observed, lines: &[&str], real_now: Now, expected: &Totals) {
    let (open, totals) = replayed(lines, real_now);
    assert_eq!(totals, *expected);
    let items = fixture.account.items(&fixture.table).await;
    let open_here = items.iter().filter(|item| {
        let is = |name: &str, value: &str| {
            item.get(name).and_then(|value| value.as_s().ok()).is_some_and(|text| text == value)
        };
        item["sk"].as_s().unwrap().starts_with("breaker#") && is("state", "open")
    });
    let open_here: BTreeSet<String> = open_here
        .map(|item| {
            format!("{}{}", item["pk"].as_s().unwrap(), item["sk"].as_s().unwrap().trim_start_matches("breaker"))
        })
        .collect();
    assert_eq!(open_here, open);
    assert!(open.contains("configuration-set:news#"), "{open:?}");
}

/// Uncountable messages, among others.
async fn uncountable_messages_become_dead_letters(fixture: &Observed, expected: &mut Totals) {
    // Five attempts, without the seven minutes between them.
    fixture.account.set_queue(&fixture.events_queue, QueueAttributeName::VisibilityTimeout, "1").await;
    let accepted = now();
    let delivery = |mail: &str, accepted: Now| {
        let detail = format!(r#""delivery":{{"recipients":["reader-{mail}@yahoo.com"]}}"#);
        event("Delivery", "offers", "offers.example.com", mail, accepted, &detail)
    };
    let half = delivery("half", accepted);
    let half = half[..half.find(r#""tags""#).unwrap()].to_owned();
    let from_the_future = delivery("future", Now(accepted.0 + 3 * 3_600_000));
    let messages = [
        delivery("before", accepted),
        half.clone(),
        "Successfully validated SNS topic for Amazon SES event publishing.".to_owned(),
        event("Teleportation", "offers", "offers.example.com", "odd", accepted, r#""teleportation":{}"#),
        from_the_future.clone(),
        delivery("after", accepted),
    ];
    fixture.publish(&messages).await;
    for subject in ["configuration-set:offers", "identity:offers.example.com"] {
        let counters = expected.entry((subject.to_owned(), "yahoo".to_owned())).or_default();
        *counters.entry("delivered".to_owned()).or_default() += 2;
    }
    fixture.counts(expected).await;
    let mut dead = Vec::new();
    let poison = BTreeSet::from([half, from_the_future]);
    while dead.len() < poison.len() {
        dead.extend(
            eventually("a dead letter", SOON, async || {
                let bodies = fixture.account.take(&fixture.dead_letters).await;
                if bodies.is_empty() { Err("none") } else { Ok(bodies) }
            })
            .await,
        );
    }
    assert_eq!(dead.into_iter().collect::<BTreeSet<_>>(), poison);
    let logs = fixture.emulator.logs(STACK).unwrap();
    let errors: Vec<&str> = logs.lines().filter(|line| line.contains("cannot be counted")).collect();
    for kind in ["not_json", "uncountable"] {
        let tries = errors.iter().filter(|line| line.contains(&format!(r#""kind":"{kind}""#))).count();
        assert_eq!(tries, 5, "{kind}: {errors:#?}");
    }
    for name in ["validation_notice", "Teleportation"] {
        assert!(logs.contains(&format!(r#""message":"ignored","name":"{name}""#)), "{name} is not in the logs");
    }
    fixture.account.set_queue(&fixture.events_queue, QueueAttributeName::VisibilityTimeout, "420").await;
    assert_eq!(fixture.stopped().await, ["news"]);
}

/// A person's resume wins over the stack's stop, and earlier mail no longer counts.
async fn a_person_resumes(fixture: &Observed, expected: &mut Totals) {
    let before = now();
    fixture.account.enable_sending("news").await;
    // It takes two checks, some minutes after the stack's own stop and some minutes apart.
    for _ in 0..2 {
        fixture.account.age_desired_state(&fixture.table, "configuration-set:news").await;
        fixture.invoke("enforcer", "reconcile");
    }
    assert_eq!(fixture.account.breaker(&fixture.table, "configuration-set:news").await, "closed");

    // Forty more bounces of mail that was accepted before.
    let accepted = Now(before.0 - 600_000);
    let bounce = |number: usize| {
        let detail = format!(
            r#""bounce":{{"bounceType":"Permanent","bounceSubType":"NoEmail","feedbackId":"f{number}","timestamp":"{before}","bouncedRecipients":[{{"emailAddress":"reader-late{number}@yahoo.com","status":"5.1.1"}}]}}"#
        );
        event("Bounce", "news", "news.example.com", &format!("late{number}"), accepted, &detail)
    };
    fixture.publish(&(0..40).map(bounce).collect::<Vec<_>>()).await;
    for subject in ["configuration-set:news", "identity:news.example.com"] {
        let counters = expected.entry((subject.to_owned(), "yahoo".to_owned())).or_default();
        *counters.entry("hard_bounces".to_owned()).or_default() += 40;
    }
    fixture.counts(expected).await;
    fixture.invoke("breaker", "minute");
    fixture.invoke("enforcer", "reconcile");
    assert_eq!(fixture.account.breaker(&fixture.table, "configuration-set:news").await, "closed");
    assert_eq!(fixture.stopped().await, [""; 0]);
}
