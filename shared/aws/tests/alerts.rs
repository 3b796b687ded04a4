//! `SnsAlerts`: the real SDK against answers as SNS and EventBridge document them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod recorded;

use std::time::Duration;

use aws::alerts::SnsAlerts;
use aws::clients::{Clients, port_error};
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_sdk_sns::config::SharedCredentialsProvider;
use pipeline::notice::{Alerts, Notice};
use pipeline::ports::{Disposition, PortError};
use recorded::{Answer, Recorded};
use serde_json::Value;

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:mail-alerts";
const PUBLISHED: &str = include_str!("fixtures/sns/publish.xml");
const PUT: &str = r#"{"FailedEntryCount":0,"Entries":[{"EventId":"11710aed-b79e-4468-a20b-bb3c0c3b4860"}]}"#;

fn alerts(topic: bool, bus: bool, answers: impl IntoIterator<Item = Answer>) -> (SnsAlerts, Recorded) {
    let aws = Recorded::new(answers);
    let topic = topic.then(|| TOPIC.to_owned());
    let bus = bus.then(|| "default".to_owned());
    (SnsAlerts::new(&Clients::over(aws.clone()), topic, bus), aws)
}

fn body(text: &str) -> Answer {
    Answer::Body(text.to_owned())
}

fn notice() -> Notice {
    Notice {
        id: "1791273601745#configuration-set:news#000003".to_owned(),
        title: "ses-breaker pause: configuration-set:news closed -> open".to_owned(),
        text: "configuration-set:news: closed -> open\n\nhard bounces 12 % & rising\n".to_owned(),
        kind: Notice::TRANSITION,
        detail: r#"{"subject":"configuration-set:news","level":"pause","rate":0.12,"isp":null}"#.to_owned(),
    }
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
async fn people_are_told_through_the_topic() {
    let (mut alerts, aws) = alerts(true, false, [body(PUBLISHED)]);
    assert_eq!(alerts.send(&notice()).await, Ok(()));
    insta::assert_snapshot!(fields(&aws.requests()), @r"
    Action = Publish
    Version = 2010-03-31
    TopicArn = arn:aws:sns:eu-west-1:123456789012:mail-alerts
    Message = configuration-set:news: closed -> open\n\nhard bounces 12 % & rising\n
    Subject = ses-breaker pause: configuration-set:news closed -> open
    id | String | 1791273601745#configuration-set:news#000003
    kind | String | Breaker Transition
    level | String | pause
    subject | String | configuration-set:news
    ");
}

#[tokio::test(start_paused = true)]
async fn programs_are_told_through_the_bus() {
    let (mut alerts, aws) = alerts(false, true, [body(PUT)]);
    assert_eq!(alerts.send(&notice()).await, Ok(()));
    assert_eq!(aws.header("x-amz-target").as_deref(), Some("AWSEvents.PutEvents"));
    let request: Value = serde_json::from_str(aws.requests().trim_start_matches("POST / ")).unwrap();
    let [entry] = request["Entries"].as_array().unwrap().as_slice() else { panic!("{request}") };
    let member = |name: &str| entry[name].as_str().unwrap();
    assert_eq!((member("Source"), member("EventBusName")), ("ses-breaker", "default"));
    assert_eq!(member("DetailType"), "Breaker Transition");
    let mut expected: Value = serde_json::from_str(&notice().detail).unwrap();
    expected["id"] = Value::from(notice().id);
    assert_eq!(serde_json::from_str::<Value>(member("Detail")).unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn without_topic_and_bus_nothing_is_called() {
    let (mut alerts, aws) = alerts(false, false, []);
    assert_eq!(alerts.send(&notice()).await, Ok(()));
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
        let (text, disposition) = failure(alerts.send(&notice()).await);
        assert_eq!(text, format!("put an event failed: {code}: for a reason (bus default)"));
        assert_eq!(disposition, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn people_get_no_second_mail_because_the_bus_fails() {
    let refused = || Answer::Error(400, "AccessDeniedException", r#"{"message":"no"}"#.to_owned());
    let answers = [body(PUBLISHED), refused(), refused(), body(PUT), body(PUBLISHED), body(PUT)];
    let (mut alerts, aws) = alerts(true, true, answers);
    for _ in 0..2 {
        assert_eq!(failure(alerts.send(&notice()).await).1, Disposition::Halt);
    }
    assert_eq!(alerts.send(&notice()).await, Ok(()));
    assert_eq!(alerts.send(&notice()).await, Ok(()));
    let kinds: Vec<&str> =
        aws.requests().lines().map(|line| if line.contains("Action=Publish") { "topic" } else { "bus" }).collect();
    assert_eq!(kinds.join(" "), "topic bus bus bus topic bus");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_does_not_exist_halts_and_the_bus_is_not_told() {
    let missing = Answer::Error(404, "", include_str!("fixtures/sns/no-topic.xml").to_owned());
    let (mut alerts, aws) = alerts(true, true, [missing]);
    let (text, disposition) = failure(alerts.send(&notice()).await);
    insta::assert_snapshot!(text, @"publish an alert failed: NotFound: Topic does not exist (request R1)");
    assert_eq!((disposition, aws.requests().lines().count()), (Disposition::Halt, 1));
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_is_retried_by_the_sdk() {
    let busy = Answer::Error(503, "", "<ErrorResponse/>".to_owned());
    let silent = Answer::After(Duration::from_secs(3_600), Box::new(body(PUBLISHED)));
    let (mut alerts, aws) = alerts(true, true, [busy, Answer::Broken, silent, body(PUBLISHED), body(PUT)]);
    assert_eq!(alerts.send(&notice()).await, Ok(()));
    assert_eq!(aws.requests().lines().count(), 5);
    // Within the ten seconds of one call, its three seconds of silence included.
    assert!((3_000..10_000).contains(&aws.times()[3]), "{:?}", aws.times());
}

#[tokio::test(start_paused = true)]
async fn a_text_beyond_the_limit_of_sns_is_cut() {
    let (mut alerts, aws) = alerts(true, false, [body(PUBLISHED)]);
    let long = Notice { text: "ü".repeat(300 * 1024), ..notice() };
    assert_eq!(alerts.send(&long).await, Ok(()));
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
