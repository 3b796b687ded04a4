//! An application that was not changed sends through `ses-relay`: the SDK of AWS for Python, and smtplib, in front of the gate of the
//! deployed stack and of the emulated SES.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command};

use aws::invocation::now;
use permits::Gate as _;
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::gate::zone_at_noon;

const STACK: &str = "relayed";
const SETS: [&str; 4] = ["news", "news-shared", "codes", "held"];

/// A relay that runs, and ends with the test.
struct Relay {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    url: String,
    status: String,
    smtp: String,
}

impl Relay {
    fn start(fixture: &Fixture, gate: &str, more: &str) -> Relay {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        let config = format!(
            "listen = \"127.0.0.1:0\"\ngate = \"{gate}\"\n[ses]\nendpoint = \"{}\"\n[status]\nlisten = \"127.0.0.1:0\"\n[smtp]\nlisten = \"127.0.0.1:0\"\n{more}",
            fixture.emulator.endpoint()
        );
        std::fs::write(&path, config).unwrap();
        let path = path.to_str().unwrap();
        let check = fixture.emulator.program("ses-relay", &["check", "--config", path], "").unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        let mut child = fixture.emulator.begin("ses-relay", &["--config", path]).unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let first: Value = serde_json::from_str(&line).unwrap();
        let url = |key: &str| format!("http://{}", first[key].as_str().unwrap());
        let smtp = first["smtp"].as_str().unwrap().to_owned();
        Relay { child, output, url: url("address"), status: url("status"), smtp }
    }

    /// Ends it as an operator would; returns its log.
    fn stop(mut self) -> String {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let mut log = String::new();
        self.output.read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Only after a failure.
        let _ = self.child.kill();
    }
}

fn policy() -> String {
    format!(
        "mode = \"act\"\n\n[warmup]\nzone = \"{}\"\n\n[warmup.plan]\nspread_hours = 6\nburst_share = 1.0\n\n\
         [warmup.sets.news]\nstart = 2000\ntarget = 20000\noverflow = \"news-shared\"\n\n\
         [warmup.sets.codes]\nstart = 500\ntarget = 500\n\n\
         [warmup.sets.held]\nstart = 500\ntarget = 500\n",
        zone_at_noon(now())
    )
}

#[tokio::test]
async fn an_unmodified_sdk_sends_through_the_relay_as_the_gate_lets_it() {
    let fixture = Fixture::deploy(STACK, &[("GateInUse", "true"), ("HoldMail", "true")], &SETS).await;
    fixture.push(&policy(), 0).await;
    fixture.emulator.invoke(STACK, "warmup", &json!({ "tick": "hour" })).unwrap();
    let (gate, url) = fixture.gate();
    // Uses up what is there: of `codes` at Gmail, which then has to wait, and of `news` there, which goes by the shared set.
    for (set, mails) in [("codes", 500), ("news", 1_800)] {
        let body =
            json!({ "configurationSet": set, "identity": "news.example.com", "recipients": { "gmail.com": mails } });
        let answer = gate.post("/v1/permits", body.to_string().into()).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // Only mail of one set is held; all else is refused while it may not go.
    let hold = format!(
        "[hold]\nbucket = \"{}\"\nendpoint = \"{}\"\nclasses = []\nscan_secs = 1\nalert_topic = \"{}\"\n\
         [[class]]\nconfiguration_set = \"held\"\nclass = \"bulk\"\ndeferred = \"hold\"\n",
        fixture.outputs["HeldMailBucketName"],
        fixture.emulator.endpoint(),
        fixture.outputs["HeldMailTopicArn"],
    );
    let relay = Relay::start(&fixture, &url, &hold);
    let arguments = ["--relay", &relay.url, "--metrics", &relay.status, "--smtp", &relay.smtp];
    let said = fixture.emulator.script("relay.py", &arguments).unwrap();
    println!("{said}");
    let log = relay.stop();
    // Another relay finds what the first has left.
    let relay = Relay::start(&fixture, &url, &hold);
    let arguments = ["--relay", &relay.url, "--metrics", &relay.status, "--smtp", &relay.smtp, "--released"];
    println!("{}", fixture.emulator.script("relay.py", &arguments).unwrap());
    let log = log + &relay.stop();
    for leak in ["@", "gmail.com", "yahoo.com", "example.com"] {
        assert!(!log.contains(leak), "{leak} in {log}");
    }
    // What was granted to the relay and not sent is given back. Of Yahoo: 8 of `news` were sent.
    let status =
        fixture.emulator.program("ses-breaker", &["status", "--format", "json", "--stack", STACK], "").unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let granted = |set: &str, isp: &str| {
        let mut rows = status["quotas"].as_array().unwrap().iter();
        let row = rows.find(|row| row["configuration_set"] == set && row["isp"] == isp);
        row.unwrap_or_else(|| panic!("{set} at {isp} is not in {status:#}"))["granted"].clone()
    };
    assert_eq!(granted("news", "yahoo"), json!(6), "{said}");
    assert_eq!(granted("codes", "gmail"), json!(450));
    fixture.emulator.stop().unwrap();
}
