//! `SnsAlerts`: the real SDK against answers as SNS and EventBridge document them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod recorded;

use std::time::Duration;

use aws::alerts::SnsAlerts;
use aws::clients::{Clients, port_error};
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_sdk_sns::config::SharedCredentialsProvider;
use pipeline::notice::{Alerts, Message, Notice};
use pipeline::ports::{Disposition, PortError};
use recorded::{Answer, Recorded};
use serde_json::{Value, json};

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:mail-alerts";
const CHAT: &str = "arn:aws:sns:eu-west-1:123456789012:mail-chat";
const PUBLISHED: &str = include_str!("fixtures/sns/publish.xml");
const PUT: &str = r#"{"FailedEntryCount":0,"Entries":[{"EventId":"11710aed-b79e-4468-a20b-bb3c0c3b4860"}]}"#;

fn alerts(topic: bool, bus: bool, answers: impl IntoIterator<Item = Answer>) -> (SnsAlerts, Recorded) {
    let aws = Recorded::new(answers);
    let topic = topic.then(|| TOPIC.to_owned());
    let bus = bus.then(|| "default".to_owned());
    (SnsAlerts::new(&Clients::over(aws.clone()), topic, bus).of_stack("mail"), aws)
}

fn body(text: &str) -> Answer {
    Answer::Body(text.to_owned())
}

const ALERT: &str = "1791273601745#account@gmail#000002";

fn notice() -> Notice {
    Notice {
        id: "1791273601745#configuration-set:news#000003".to_owned(),
        title: "[STOPPED] news: 12 % of 500 mails bounced hard".to_owned(),
        text: String::new(),
        kind: Notice::TRANSITION,
        detail: r#"{"subject":"configuration-set:news","level":"pause","rate":0.12,"isp":null}"#.to_owned(),
    }
}

fn message() -> Message {
    let message = json!({
        "id": notice().id,
        "title": notice().title,
        "kind": Notice::TRANSITION,
        "level": "pause",
        "subject": "configuration-set:news",
        "subjects": ["configuration-set:news", "identity:news.example"],
        "at": "2026-10-06T08:00:01.745Z",
        "summary": "Configuration set news: stopped (was sending).\nhard bounces 12 % & rising (said by ann@news.example: <!here>)\n",
        "first": "find where these addresses came from",
        "runbook": "stopped",
        "body": "Effect: SES is asked & has not done it yet.\n",
        "commands": [
            { "purpose": "Undo it now: all its mail is sent, and judged from now on", "line": "ses-breaker resume configuration-set:news" },
            { "purpose": "See its state", "line": "ses-breaker status 'tag:a=<b>'" },
        ],
    });
    serde_json::from_value(message).unwrap()
}

/// Sends an alert about one notice.
async fn send(alerts: &mut SnsAlerts) -> Result<(), PortError> {
    alerts.write(&message()).await?;
    alerts.report(&notice(), ALERT).await
}

fn failure(answer: Result<(), PortError>) -> (String, Disposition) {
    let error = answer.unwrap_err();
    (error.to_string(), error.disposition)
}

/// The fields of a form, decoded, one a line; attributes, which come in any order, sorted and one a line, too.
fn fields(form: &str) -> String {
    let decoded = form.trim_start_matches("POST / ").split('&').map(|field| decode(&field.replacen('=', " = ", 1)));
    let (attributes, mut lines): (Vec<String>, Vec<String>) = decoded.partition(|line| line.contains(".entry."));
    let values = |attribute: &[String]| {
        attribute.iter().map(|line| line.split_once(" = ").unwrap().1).collect::<Vec<_>>().join(" | ")
    };
    let mut attributes: Vec<String> = attributes.chunks(3).map(values).collect();
    attributes.sort();
    lines.extend(attributes);
    lines.join("\n")
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&hex, 16).unwrap());
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap().replace('\n', "\\n")
}

#[tokio::test(start_paused = true)]
async fn people_are_notified_through_the_topic() {
    let (mut alerts, aws) = alerts(true, false, [body(PUBLISHED)]);
    assert_eq!(send(&mut alerts).await, Ok(()));
    insta::assert_snapshot!(fields(&aws.requests()));
}

#[tokio::test(start_paused = true)]
async fn programs_are_notified_through_the_bus() {
    let (mut alerts, aws) = alerts(false, true, [body(PUT)]);
    assert_eq!(send(&mut alerts).await, Ok(()));
    assert_eq!(aws.header("x-amz-target").as_deref(), Some("AWSEvents.PutEvents"));
    let request: Value = serde_json::from_str(aws.requests().trim_start_matches("POST / ")).unwrap();
    let [entry] = request["Entries"].as_array().unwrap().as_slice() else { panic!("{request}") };
    let member = |name: &str| entry[name].as_str().unwrap();
    assert_eq!((member("Source"), member("EventBusName")), ("ses-breaker", "default"));
    assert_eq!(member("DetailType"), "Breaker Transition");
    let mut expected: Value = serde_json::from_str(&notice().detail).unwrap();
    expected["id"] = Value::from(notice().id);
    expected["group"] = Value::from(ALERT);
    assert_eq!(serde_json::from_str::<Value>(member("Detail")).unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn without_topic_and_bus_nothing_is_called() {
    let (mut alerts, aws) = alerts(false, false, []);
    assert_eq!(send(&mut alerts).await, Ok(()));
    assert_eq!(aws.requests(), "");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_bus_refuses_is_an_error() {
    for (code, expected) in [
        ("InternalFailure", Disposition::Retry),
        ("ThrottlingException", Disposition::Retry),
        ("NotAuthorizedForSourceException", Disposition::Halt),
        ("MalformedDetail", Disposition::Quarantine),
    ] {
        let answer =
            format!(r#"{{"FailedEntryCount":1,"Entries":[{{"ErrorCode":"{code}","ErrorMessage":"for a reason"}}]}}"#);
        let (mut alerts, _) = alerts(false, true, [Answer::Body(answer)]);
        let (text, disposition) = failure(send(&mut alerts).await);
        assert_eq!(text, format!("put an event failed: {code}: for a reason (bus default)"));
        assert_eq!(disposition, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn people_get_no_second_mail_because_the_bus_fails() {
    let refused = || Answer::Error(400, "AccessDeniedException", r#"{"message":"no"}"#.to_owned());
    let answers = [body(PUBLISHED), body(PUBLISHED), refused(), refused(), body(PUT), body(PUBLISHED), body(PUBLISHED)];
    let (alerts, aws) = alerts(true, true, answers);
    let mut alerts = alerts.with_chat(&Clients::over(aws.clone()), Some(CHAT.to_owned()));
    for _ in 0..2 {
        assert_eq!(failure(send(&mut alerts).await).1, Disposition::Halt);
    }
    assert_eq!(send(&mut alerts).await, Ok(()));
    assert_eq!(alerts.write(&Message { id: "another".to_owned(), ..message() }).await, Ok(()));
    let requests = aws.requests();
    let kind = |line: &str| match (line.contains("Action=Publish"), line.contains("mail-chat")) {
        (true, false) => "topic",
        (true, true) => "chat",
        (false, _) => "bus",
    };
    assert_eq!(requests.lines().map(kind).collect::<Vec<_>>().join(" "), "topic chat bus bus bus topic chat");
}

#[tokio::test(start_paused = true)]
async fn chat_gets_its_own_words_and_nothing_in_them_is_markup() {
    let (alerts, aws) = alerts(false, false, [body(PUBLISHED)]);
    let mut alerts = alerts.with_chat(&Clients::over(aws.clone()), Some(CHAT.to_owned()));
    assert_eq!(alerts.write(&message()).await, Ok(()));
    let form = fields(&aws.requests());
    assert!(form.contains(&format!("TopicArn = {CHAT}")) && !form.contains("Subject"), "{form}");
    let notification = form.lines().find_map(|line| line.strip_prefix("Message = ")).unwrap();
    let notification: Value = serde_json::from_str(notification).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&notification).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_topic_for_chat_that_is_out_of_reach_holds_up_no_mail() {
    let missing = Answer::Error(404, "", include_str!("fixtures/sns/no-topic.xml").to_owned());
    let (alerts, aws) = alerts(true, false, [body(PUBLISHED), missing]);
    let mut alerts = alerts.with_chat(&Clients::over(aws), Some(CHAT.to_owned()));
    let (text, disposition) = failure(alerts.write(&message()).await);
    insta::assert_snapshot!(text, @"publish an alert to chat failed: NotFound: Topic does not exist (request R1)");
    assert_eq!(disposition, Disposition::Quarantine);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_does_not_exist_halts_and_the_bus_gets_nothing() {
    let missing = Answer::Error(404, "", include_str!("fixtures/sns/no-topic.xml").to_owned());
    let (mut alerts, aws) = alerts(true, true, [missing]);
    let (text, disposition) = failure(send(&mut alerts).await);
    insta::assert_snapshot!(text, @"publish an alert failed: NotFound: Topic does not exist (request R1)");
    assert_eq!((disposition, aws.requests().lines().count()), (Disposition::Halt, 1));
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_is_retried_by_the_sdk() {
    let busy = Answer::Error(503, "", "<ErrorResponse/>".to_owned());
    let silent = Answer::After(Duration::from_secs(3_600), Box::new(body(PUBLISHED)));
    let (mut alerts, aws) = alerts(true, true, [busy, Answer::Broken, silent, body(PUBLISHED), body(PUT)]);
    assert_eq!(send(&mut alerts).await, Ok(()));
    assert_eq!(aws.requests().lines().count(), 5);
    // Within the ten seconds of one call, its three seconds of silence included.
    assert!((3_000..10_000).contains(&aws.times()[3]), "{:?}", aws.times());
}

#[tokio::test(start_paused = true)]
async fn a_text_beyond_the_limit_of_sns_is_cut() {
    let (mut alerts, aws) = alerts(true, false, [body(PUBLISHED)]);
    let long = Message { body: "ü".repeat(300 * 1024), ..message() };
    assert_eq!(alerts.write(&long).await, Ok(()));
    let form = fields(&aws.requests());
    let message = form.lines().find_map(|line| line.strip_prefix("Message = ")).unwrap();
    assert!(message.len() <= 256 * 1024 && message.ends_with("ü [cut]"));
}

#[tokio::test]
async fn missing_region_and_credentials_halt() {
    let absent = ProfileFileCredentialsProvider::builder().profile_name("ses-breaker-never-there").build();
    let config = || Clients::over(Recorded::new([])).config().to_builder();
    let mut nobody = config();
    nobody.set_credentials_provider(None);
    for (config, words) in [
        (config().region(None), "Missing Region"),
        (config().credentials_provider(SharedCredentialsProvider::new(absent)), "credential"),
        (nobody, "no identity"),
    ] {
        let client = aws_sdk_sns::Client::new(&config.build());
        let refused = client.publish().topic_arn(TOPIC).message("hello").send().await.unwrap_err();
        let (text, disposition) = failure(Err(port_error("publish", &refused)));
        assert!(disposition == Disposition::Halt && text.contains(words), "{text}");
    }
}
