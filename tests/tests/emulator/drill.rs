//! `ses-breaker drill` against the deployed stack. The emulator's SES publishes no events, so this test publishes them
//! instead.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output};
use std::time::Duration;

use aws::invocation::now;
use e2e::emulator::eventually;
use reputation::time::Now;
use serde_json::Value;

use crate::fixture::{Fixture, SOON, extends_fixture};

const STACK: &str = "drilled";
const FROM: &str = "news@mail.example.com";

/// A stack whose drills can send mail.
struct Drilled {
    base: Fixture,
    /// Subscribed to the alerts.
    alerts: String,
}

extends_fixture!(Drilled);

impl Drilled {
    async fn new() -> Drilled {
        let base = Fixture::deploy(STACK, &[("GateInUse", "false")], &[]).await;
        base.account.ses.create_email_identity().email_identity("example.com").send().await.unwrap();
        let alerts = base.subscribe("alerts", "AlertTopicArn").await;
        Drilled { base, alerts }
    }

    fn begin(&self) -> Child {
        let arguments = ["drill", "--from", FROM, "--yes", "--format", "json", "--stack", STACK, "--wait", "120"];
        self.emulator.begin("ses-breaker", &arguments).unwrap()
    }

    /// The configuration sets of drills.
    async fn sets(&self) -> Vec<String> {
        let listed = self.account.ses.list_configuration_sets().send().await.unwrap();
        let sets = listed.configuration_sets.unwrap_or_default();
        sets.into_iter().filter(|set| set.starts_with("ses-breaker-drill-")).collect()
    }

    /// The mails that SES has accepted: id, and recipient.
    fn mails(&self) -> Vec<(String, String)> {
        let host = self.emulator.endpoint().trim_start_matches("http://").to_owned();
        let mut connection = TcpStream::connect(&host).unwrap();
        let request = format!("GET /_ministack/ses/messages HTTP/1.0\r\nHost: {host}\r\n\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let of_account = body["messages"][self.emulator.account()].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        of_account.iter().map(|mail| (text(&mail["MessageId"]), text(&mail["To"][0]))).collect()
    }

    /// Publishes SES's events about the mails of the drill, until it has ended.
    async fn publish_until_ended(&self, drill: &mut Child) {
        let mut published = self.mails().len();
        while drill.try_wait().unwrap().is_none() {
            if let [set] = self.sets().await.as_slice() {
                let mails = self.mails();
                let events: Vec<String> =
                    mails[published..].iter().flat_map(|(id, to)| events(set, id, to, now())).collect();
                published = mails.len();
                self.publish(&events).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// The events of one mail to the mailbox simulator.
fn events(set: &str, id: &str, to: &str, now: Now) -> [String; 2] {
    let mail = format!(
        r#""mail":{{"timestamp":"{now}","messageId":"{id}","source":"{FROM}","destination":["{to}"],"tags":{{"ses:configuration-set":["{set}"],"ses:from-domain":["mail.example.com"]}}}}"#
    );
    let outcome = match to {
        "bounce@simulator.amazonses.com" => format!(
            r#"{{"eventType":"Bounce",{mail},"bounce":{{"bounceType":"Permanent","bounceSubType":"General","timestamp":"{now}","feedbackId":"f-{id}","bouncedRecipients":[{{"emailAddress":"{to}","action":"failed","status":"5.1.1"}}]}}}}"#
        ),
        _ => format!(r#"{{"eventType":"Delivery",{mail},"delivery":{{"timestamp":"{now}","recipients":["{to}"]}}}}"#),
    };
    [format!(r#"{{"eventType":"Send",{mail},"send":{{}}}}"#), outcome]
}

fn report(output: &Output) -> Value {
    let output_text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&output_text)
        .unwrap_or_else(|_| panic!("{output_text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test]
async fn a_drill_proves_the_stack_twice_and_cleans_up_when_it_is_interrupted() {
    let fixture = Drilled::new().await;
    for _ in 0..2 {
        let mut drill = fixture.begin();
        fixture.publish_until_ended(&mut drill).await;
        let output = drill.wait_with_output().unwrap();
        let report = report(&output);
        eprintln!("{report:#}");
        assert_eq!((output.status.code(), &report["passed"]), (Some(0), &Value::from(true)), "{report:#}");
        assert_eq!(report["legs"].as_array().unwrap().len(), 9);
        assert_eq!(fixture.sets().await, [""; 0]);
        let set = report["configuration_set"].as_str().unwrap();
        let found = eventually("the alert", SOON, async || {
            let alerts = fixture.account.take(&fixture.alerts).await;
            let about = alerts.iter().find(|alert| alert.contains(set)).cloned();
            about.ok_or(alerts)
        })
        .await;
        assert!(!found.contains(FROM), "{found}");
    }

    let drill = fixture.begin();
    let sent = fixture.mails().len();
    eventually("the drill sends", SOON, async || {
        let mails = fixture.mails().len();
        if mails > sent + 1 { Ok(()) } else { Err(mails) }
    })
    .await;
    assert_eq!(fixture.sets().await.len(), 1);
    let ended = Command::new("kill").args(["-INT", &drill.id().to_string()]).status().unwrap();
    assert!(ended.success());
    let output = drill.wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(report["legs"][1]["result"], "interrupted", "{report:#}");
    assert_eq!(report["legs"][8]["result"], "passed", "{report:#}");
    assert_eq!(fixture.sets().await, [""; 0]);
    fixture.base.emulator.stop().unwrap();
}
