//! A sender asks the gate of the deployed stack before it sends: over HTTP, signed, through the client that it would use. The
//! breakers' decisions take effect there, and people see them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use aws::invocation::now;
use e2e::emulator::eventually;
use permits::{Class, Gate as _, HttpGate, Permit, Permits};
use reputation::time::Now;
use reputation::zone::Zone;
use serde_json::{Value, json};

use crate::fixture::{Fixture, SOON, extends_fixture};
use crate::stream::event;

const STACK: &str = "gated";

/// A zone in which it is about noon, so that the day's quota is available wherever and whenever this runs.
pub(crate) fn zone_at_noon(now: Now) -> String {
    let hour = |zone: &str| (now.0 - Zone::named(zone).unwrap().day_at(now).start.0) / 3_600_000;
    let zones = (-11..=12).map(|offset: i32| format!("Etc/GMT{offset:+}"));
    zones.min_by_key(|zone| (hour(zone) - 12).abs()).unwrap()
}

/// Harm is found at once, and an open breaker probes after a minute.
fn policy(now: Now) -> String {
    format!(
        "mode = \"act\"\n\n[warmup]\nzone = \"{}\"\n\n[warmup.plan]\nspread_hours = 6\nburst_share = 1.0\n\n\
         [warmup.sets.news]\nstart = 2000\ntarget = 20000\noverflow = \"news-shared\"\ncritical_route = \"codes\"\n\n\
         [warmup.sets.codes]\nstart = 500\ntarget = 500\n\n\
         [breaker]\nopen_minutes = 1\nprobe_share = 0.05\n",
        zone_at_noon(now)
    )
}

/// A stack with a client of its gate.
struct Gated {
    base: Fixture,
    gate: HttpGate,
    url: String,
}

extends_fixture!(Gated);

impl Gated {
    async fn new() -> Gated {
        let base = Fixture::deploy(STACK, &[("GateInUse", "true")], &["news", "news-shared", "codes"]).await;
        let (gate, url) = base.gate();
        Gated { base, gate, url }
    }

    /// The gate's answer about one ISP.
    async fn ask(&self, domain: &str, mails: u64, class: &str) -> Value {
        let body = json!({ "configurationSet": "news", "identity": "news.example.com", "class": class,
            "recipients": { domain: mails } });
        let (status, answer) = self.post("/v1/permits", &body).await;
        assert_eq!(status, 200, "{answer:#}");
        answer["permits"][0].clone()
    }

    async fn post(&self, path: &'static str, body: &Value) -> (u16, Value) {
        let answer = self.gate.post(path, body.to_string().into()).await.unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    fn ses_breaker(&self, arguments: &[&str]) -> String {
        let output = self.emulator.program("ses-breaker", &[arguments, &["--stack", STACK]].concat(), "").unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// The row of `ses-breaker status` about `news` at one ISP.
    fn quota(&self, isp: &str) -> Value {
        let status: Value = serde_json::from_str(&self.ses_breaker(&["status", "--format", "json"])).unwrap();
        let quotas = status["quotas"].as_array().unwrap().iter();
        let mut of_isp = quotas.filter(|quota| quota["configuration_set"] == "news" && quota["isp"] == isp);
        of_isp.next().unwrap_or_else(|| panic!("{isp} is not in {status:#}")).clone()
    }
}

#[tokio::test]
async fn a_sender_asks_the_gate_and_feels_there_what_the_breakers_decide() {
    let fixture = Gated::new().await;
    fixture.push(&policy(now()), 0).await;

    requests_without_a_signature_are_refused(&fixture);
    fixture.emulator.invoke(STACK, "warmup", &json!({ "tick": "hour" })).unwrap();
    quotas_are_granted_and_overflow(&fixture).await;
    the_example_sends_with_permits(&fixture).await;
    a_bad_isp_gets_nothing_then_a_trickle(&fixture).await;
    a_paused_set_gets_its_critical_reserve_alone(&fixture).await;
    the_client_waits_as_answered(&fixture).await;
    a_person_disconnects(&fixture).await;
    fixture.emulator.invoke(STACK, "warmup", &json!({ "tick": "hour" })).unwrap();

    let logs = fixture.emulator.logs(STACK).unwrap();
    for leak in ["@", "gmail.com", "yahoo.com"] {
        let leaks: Vec<&str> = logs.lines().filter(|line| line.contains(leak)).collect();
        assert!(leaks.is_empty(), "{leak} in logs: {leaks:#?}");
    }
    let mut fixture = fixture;
    the_stack_is_removed_and_leaves_nothing(&mut fixture).await;
    fixture.base.emulator.stop().unwrap();
}

/// As in `infra/INSTALL.md`: disconnect, then delete. Every set sends afterwards, and none publishes to a deleted topic.
async fn the_stack_is_removed_and_leaves_nothing(fixture: &mut Gated) {
    fixture.ses_breaker(&["resume", "configuration-set:news"]);
    fixture.ses_breaker(&["connect", "--all"]);
    fixture.ses_breaker(&["disconnect", "--all"]);
    fixture.base.emulator.delete(STACK).unwrap();
    let topic = fixture.account.sns.get_topic_attributes().topic_arn(&fixture.events_topic).send().await;
    assert!(topic.is_err(), "{topic:?}");
    let sets =
        fixture.account.ses.list_configuration_sets().send().await.unwrap().configuration_sets.unwrap_or_default();
    assert!(sets.len() > 1, "{sets:?}");
    for set in sets {
        assert!(fixture.account.sending_enabled(&set).await, "{set}");
        let asked = fixture.account.ses.get_configuration_set_event_destinations().configuration_set_name(&set);
        assert_eq!(asked.send().await.unwrap().event_destinations.unwrap_or_default(), [], "{set}");
    }
}

/// Unsigned requests are refused before the function runs.
fn requests_without_a_signature_are_refused(fixture: &Gated) {
    let (host, path) = fixture.url.trim_start_matches("http://").split_once('/').unwrap();
    let mut connection = TcpStream::connect(host).unwrap();
    let request = format!("GET /{path}v1/health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

async fn quotas_are_granted_and_overflow(fixture: &Gated) {
    let first = fixture.ask("yahoo.com", 1_000, "bulk").await;
    assert_eq!((&first["granted"], &first["route"]), (&json!(1_000), &json!("news")), "{first:#}");
    // 1,800 for all mail, 200 for critical mail only; the rest through shared IPs, because the ramp is young.
    let second = fixture.ask("yahoo.com", 1_000, "bulk").await;
    assert_eq!((&second["granted"], &second["overflow"]), (&json!(800), &json!(200)), "{second:#}");
    assert_eq!((&second["overflowRoute"], &second["limit"]), (&json!("news-shared"), &json!("quota")));
    let lease = json!({ "configurationSet": "news", "lease": second["lease"], "unused": 800 });
    assert_eq!(fixture.post("/v1/leases/return", &lease).await, (200, json!({ "returned": 800 })));
    assert_eq!(fixture.post("/v1/leases/return", &lease).await.0, 409, "twice");
    let row = fixture.quota("yahoo");
    assert_eq!((&row["granted"], &row["quota"], &row["step"]), (&json!(1_000), &json!(2_000), &json!("began")));

    let unknown =
        json!({ "configurationSet": "nws", "identity": "news.example.com", "recipients": { "gmail.com": 1 } });
    let (status, problem) = fixture.post("/v1/permits", &unknown).await;
    assert_eq!(status, 404, "{problem:#}");
}

/// The example program of an application, against SES and the gate.
async fn the_example_sends_with_permits(fixture: &Gated) {
    let create = fixture.account.ses.create_email_identity().email_identity("news.example.com");
    create.send().await.unwrap();
    let recipients: String =
        (0..30).map(|number| format!("reader{number}@{}\n", ["yahoo.com", "gmx.de", "web.de"][number % 3])).collect();
    let arguments = [
        "--gate",
        fixture.url.as_str(),
        "--configuration-set",
        "news",
        "--from",
        "editor@news.example.com",
        "--to",
        "-",
    ];
    let output = fixture.emulator.program("examples/send", &arguments, &recipients).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    // Permits that it did not use are returned.
    for (isp, granted) in [("yahoo", 1_010), ("gmx", 10), ("web.de", 10)] {
        assert_eq!(fixture.quota(isp)["granted"], json!(granted), "{isp}: {text}");
    }
}

/// Mail of the last minutes: healthy at Yahoo, a bad list at Gmail.
async fn a_bad_isp_gets_nothing_then_a_trickle(fixture: &Gated) {
    let before = fixture.ask("gmail.com", 10, "bulk").await;
    assert_eq!(before["granted"], json!(10), "{before:#}");
    let accepted = Now(now().0 - 120_000);
    let mut events = Vec::new();
    for number in 0..400 {
        let isp = if number % 4 == 0 { "gmail.com" } else { "yahoo.com" };
        let (mail, to) = (format!("mail{number}"), format!("reader{number}@{isp}"));
        let detail = if isp == "gmail.com" && number % 8 == 0 {
            format!(
                r#""bounce":{{"bounceType":"Permanent","bounceSubType":"NoEmail","feedbackId":"f{number}","timestamp":"{accepted}","bouncedRecipients":[{{"emailAddress":"{to}","status":"5.1.1"}}]}}"#
            )
        } else {
            format!(r#""delivery":{{"recipients":["{to}"]}}"#)
        };
        let kind = if detail.contains("bounceType") { "Bounce" } else { "Delivery" };
        let event = event(kind, "news", "news.example.com", &mail, accepted, &detail);
        events.push(event.replace(&format!("reader-{mail}@yahoo.com"), &to));
    }
    // The good news first, so that the harm is seen in proportion.
    events.sort_by_key(|event| event.contains("bounceType"));
    fixture.account.publish(&fixture.events_topic, &events).await;
    let stopped = eventually("the gate grants nothing to Gmail", SOON, async || {
        // A few at a time, because granted mails are used up.
        let answer = fixture.ask("gmail.com", 1, "bulk").await;
        if answer["limit"] == "stopped" { Ok(answer) } else { Err(answer) }
    })
    .await;
    assert_eq!((&stopped["granted"], &stopped["overflow"]), (&json!(0), &json!(0)), "{stopped:#}");
    assert!(stopped["retryAfterSeconds"].as_u64().is_some_and(|secs| (1..=120).contains(&secs)), "{stopped:#}");
    let elsewhere = fixture.ask("yahoo.com", 10, "bulk").await;
    assert_eq!(elsewhere["granted"], json!(10), "only Gmail: {elsewhere:#}");
    assert!(fixture.account.sending_enabled("news").await, "SES has no switch for an ISP");
    let row = fixture.quota("gmail");
    assert_eq!(row["factor"], json!(0.0), "{row:#}");
    assert!(row["because"].as_str().is_some_and(|because| because.ends_with("@gmail is stopped")), "{row:#}");

    // After its minute, it is probed.
    let probed = eventually("Gmail is probed", SOON, async || {
        fixture.emulator.invoke(STACK, "breaker", &json!({ "tick": "minute" })).unwrap();
        let answer = fixture.ask("gmail.com", 1_000, "bulk").await;
        if answer["limit"] == "throttled" { Ok(answer) } else { Err(answer) }
    })
    .await;
    let granted = probed["granted"].as_u64().unwrap();
    assert!((1..=100).contains(&granted), "a twentieth of 1,800 and no more: {probed:#}");
    assert!(fixture.quota("gmail")["because"].as_str().is_some_and(|because| because.ends_with("is testing")));
}

async fn a_paused_set_gets_its_critical_reserve_alone(fixture: &Gated) {
    fixture.ses_breaker(&["stop", "configuration-set:news", "--reason", "wrong list"]);
    assert!(!fixture.account.sending_enabled("news").await, "it is called paused when SES has done it");
    let bulk = eventually("bulk mail is stopped", SOON, async || {
        let answer = fixture.ask("gmx.de", 10, "bulk").await;
        if answer["granted"] == 0 { Ok(answer) } else { Err(answer) }
    })
    .await;
    assert_eq!(bulk["limit"], "stopped", "{bulk:#}");
    let critical = fixture.ask("gmx.de", 500, "critical").await;
    assert_eq!((&critical["granted"], &critical["route"]), (&json!(200), &json!("codes")), "{critical:#}");
    assert_eq!(critical["deferred"], json!(300));
    let shown = fixture.ses_breaker(&["status"]);
    assert!(shown.contains("Quotas of the gate") && shown.contains("nothing"), "{shown}");
    fixture.ses_breaker(&["resume", "configuration-set:news"]);
    assert!(fixture.account.sending_enabled("news").await, "it is called resumed when SES has done it");
    eventually("bulk mail flows again", SOON, async || {
        let answer = fixture.ask("gmx.de", 10, "bulk").await;
        if answer["granted"] == 10 { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// What the stack may not do is refused at once; and `disconnect` leaves nothing behind.
async fn a_person_disconnects(fixture: &Gated) {
    let output = fixture.emulator.program("ses-breaker", &["stop", "account", "--yes", "--stack", STACK], "").unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("so nothing was changed") && text.contains("MayPauseAccount=true"), "{text}");

    let destinations = async || {
        let asked =
            fixture.account.ses.get_configuration_set_event_destinations().configuration_set_name("news").send();
        asked.await.unwrap().event_destinations.unwrap_or_default().len()
    };
    fixture.ses_breaker(&["connect", "news"]);
    assert_eq!(destinations().await, 1);
    let text = fixture.ses_breaker(&["disconnect", "--all"]);
    assert!(text.contains(&format!("news  event destination {STACK} deleted")), "{text}");
    assert_eq!(destinations().await, 0);
    fixture.ses_breaker(&["stop", "configuration-set:news"]);
    let text = fixture.ses_breaker(&["disconnect", "news"]);
    assert!(text.contains("stopped by a person"), "{text}");
    assert!(!fixture.account.sending_enabled("news").await);
}

/// The client of an application, with several kinds of answers.
async fn the_client_waits_as_answered(fixture: &Gated) {
    let config = fixture.emulator.config().await;
    let permits = Permits::builder("news", "news.example.com").connect(&fixture.url, &config).unwrap();
    for _ in 0..50 {
        let permit = permits.take("web.de", 1, Class::Bulk).await.unwrap();
        assert!(matches!(permit, Permit::Send(ref grant) if grant.route() == "news"), "{permit:?}");
    }
    permits.close().await;
    assert_eq!(fixture.quota("web.de")["granted"], json!(60), "what was in stock is given back");
}
