//! The gate's answers: by the state of the breakers, by the request, and without the tables.

use std::time::Duration;

use aws::reputation::DynamoReputation;
use e2e::cloud::{Cloud, LEDGER, REPUTATION, Throttled};
use e2e::stack::{Reply, Stack, WarmGate, request};
use pipeline::evaluate::apply_input;
use pipeline::ports::{Change, Reputation as _};
use reputation::Key;
use reputation::breaker::{BreakerState, Factor, Input, State};
use reputation::policy::Policy;
use reputation::time::Now;
use serde_json::{Value, json};

use super::described::{ask, left_out};
use super::mail::{Mailbox, NEWS, SHOP};

/// 2026-11-21, six hours after midnight: half of a quota is available by then, and half of that was kept.
const SIX: Now = Now(1_795_219_200_000 + 6 * 3_600_000);

/// 120 of each 1,200 are for critical mail; 90 of the others become available within an hour.
// A quarter of a quota is kept for who asks late: what is granted here does not depend on how it was asked for before.
const POLICY: &str = r#"
[warmup.plan]
burst_share = 0.25
[warmup.sets]
news = { start = 1200, target = 1200, critical_route = "news-critical" }
plain = { start = 1200, target = 1200 }
shop = { start = 1200, target = 100000, overflow = "shop-shared" }
"#;

fn permits(set: &str, class: &str, recipients: Value) -> Value {
    json!({ "configurationSet": set, "identity": "news.example", "class": class, "recipients": recipients })
}

async fn post(gate: &mut WarmGate, path: &str, body: &Value, now: Now) -> Reply {
    ask(gate, &request("POST", path, Some(&body.to_string())), now).await
}

/// The answer about one ISP, on one line.
fn line(permit: &Value) -> String {
    let text = |name: &str| permit[name].as_str().unwrap_or("-").to_owned();
    let mails = |name: &str| permit[name].as_u64().unwrap();
    let sum = mails("granted") + mails("overflow") + mails("deferred");
    assert_eq!(sum, mails("asked"), "{permit}");
    let mut line = text("isp");
    for (mails, name, route) in [
        (mails("granted"), "go by", text("route")),
        (mails("overflow"), "by", text("overflowRoute")),
        (mails("deferred"), "wait", permit["retryAfterSeconds"].to_string()),
    ] {
        if mails > 0 {
            line.push_str(&format!(", {mails} {name} {route}"));
        }
    }
    if permit["limit"].is_string() {
        line.push_str(&format!(" ({}: {})", text("limit"), text("reason")));
    }
    line
}

fn lines(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body["permits"].as_array().unwrap().iter().map(line).collect()
}

/// Puts breakers into states, as the breaker saves them.
async fn with_states(cloud: &Cloud, policy: &Policy, states: &[(&str, State)]) {
    let mut store = DynamoReputation::new(cloud.clients().dynamodb(), REPUTATION, policy);
    for (key, state) in states {
        let (subject, isp) = key.split_once(" at ").map_or((*key, None), |(subject, isp)| (subject, Some(isp)));
        let isp = isp.map(|name| policy.isp_map.by_name(name).unwrap());
        let next = BreakerState { state: *state, ..BreakerState::default() };
        let key = Key { subject: subject.parse().unwrap(), isp };
        let change = Change { key, version: 0, next, controls: Vec::new(), transition: None, places: None };
        store.save(&[change]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn grants_follow_the_states_of_the_breakers() {
    let open = State::Open { at: SIX, until: Some(SIX.plus_minutes(20)), tested: false };
    let half = State::Throttled { factor: Factor::of_share(0.5), moved: SIX };
    let probing = State::Probing { at: SIX };
    let mut answers = String::new();
    for (name, toml, set, states) in [
        ("all closed", "", "news", &[][..]),
        ("throttled at the ISP", "", "news", &[("configuration-set:news at gmail", half)]),
        ("throttled at another ISP", "", "news", &[("configuration-set:news at yahoo", half)]),
        ("throttled as a whole", "", "news", &[("configuration-set:news", half)]),
        ("probing", "", "news", &[("configuration-set:news", probing)]),
        ("open at the ISP", "", "news", &[("configuration-set:news at gmail", open)]),
        ("open as a whole", "", "news", &[("configuration-set:news", open)]),
        ("open as a whole, and no critical_route", "", "plain", &[("configuration-set:plain", open)]),
        ("the identity is open", "", "news", &[("identity:news.example", open)]),
        ("another identity is open", "", "news", &[("identity:shop.example", open)]),
        ("the ISP is held", "", "news", &[("account at gmail", open)]),
        ("the account is open", "", "news", &[("account", open)]),
        ("young", "", "shop", &[]),
        ("young and throttled", "", "shop", &[("configuration-set:shop at gmail", half)]),
        ("young, and the overflow set is open", "", "shop", &[("configuration-set:shop-shared", open)]),
        ("open in shadow", "mode = \"shadow\"\n", "news", &[("configuration-set:news", open)]),
    ] {
        answers.push_str(&format!("{name}\n"));
        for class in ["bulk", "critical"] {
            let cloud = Cloud::new();
            let policy = Stack::push(&cloud, &format!("{toml}{POLICY}")).await;
            with_states(&cloud, &policy, states).await;
            let mut stack = Stack::new(&cloud, true);
            let body = permits(set, class, json!({ "gmail.com": 500 }));
            let reply = post(&mut stack.gate, "/v1/permits", &body, SIX).await;
            answers.push_str(&format!("    {class:<8} {}\n", lines(&reply)[0]));
        }
    }
    insta::assert_snapshot!(answers);
}

#[tokio::test(start_paused = true)]
async fn of_a_subject_that_a_person_put_in_shadow_nothing_is_held_back_at_any_isp_until_it_is_released() {
    let cloud = Cloud::new();
    let policy = Stack::push(&cloud, POLICY).await;
    let open = State::Open { at: SIX, until: Some(SIX.plus_minutes(600)), tested: false };
    with_states(&cloud, &policy, &[("configuration-set:news at gmail", open)]).await;
    let mut stack = Stack::new(&cloud, true);
    let body = permits("news", "bulk", json!({ "gmail.com": 40 }));
    let mut answers = Vec::new();
    for (minutes, command) in [(0, None), (1, Some(Input::PersonShadows)), (2, Some(Input::PersonReleases))] {
        let now = SIX.plus_minutes(minutes);
        if let Some(command) = command {
            let key = Key { subject: "configuration-set:news".parse().unwrap(), isp: None };
            apply_input(&policy, &mut stack.reputation(), &key, command, now).await.unwrap();
        }
        let now = now.plus_minutes(1);
        answers.push(lines(&post(&mut stack.gate, "/v1/permits", &body, now).await)[0].clone());
    }
    assert_eq!(answers[1], "gmail, 40 go by news");
    for held in [&answers[0], &answers[2]] {
        assert!(held.contains("40 wait") || !held.contains("40 go"), "{answers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn harm_in_events_takes_effect_at_the_gate_within_a_second_of_its_evaluation() {
    let cloud = Cloud::new();
    cloud.state().sets = [("news".to_owned(), true), ("shop".to_owned(), true)].into();
    Stack::push(&cloud, POLICY).await;
    let mut stack = Stack::new(&cloud, true);
    let body = permits("news", "bulk", json!({ "outlook.com": 40, "gmail.com": 40 }));
    assert_eq!(
        lines(&post(&mut stack.gate, "/v1/permits", &body, SIX).await),
        ["gmail, 40 go by news", "microsoft, 40 go by news"]
    );
    let mut mailbox = Mailbox::default();
    for mail in 0..60 {
        match mail % 3 {
            0 => mailbox.bounced(NEWS, "outlook.com", "microsoft", SIX),
            _ => mailbox.delivered(NEWS, "outlook.com", "microsoft", SIX),
        }
        mailbox.delivered(NEWS, "gmail.com", "gmail", SIX);
        mailbox.delivered(SHOP, "outlook.com", "microsoft", SIX);
    }
    let events: Vec<&str> = mailbox.events.iter().map(String::as_str).collect();
    assert_eq!(stack.ingest(&events, SIX).await, Ok(vec![]));
    stack.fold(&cloud.stream(LEDGER), SIX).await.unwrap();
    let then = Now(SIX.0 + 1_000);
    let first = lines(&post(&mut stack.gate, "/v1/permits", &body, then).await);
    // When its time comes, it probes with a few mails; then clean mail brings it back.
    let mut answers = vec![first[1].clone()];
    assert_eq!(first[0], "gmail, 40 go by news");
    for minute in 1..=400 {
        let now = then.plus_minutes(minute);
        stack.tick(now).await.unwrap();
        if minute % 40 != 0 {
            continue;
        }
        let mut mailbox = Mailbox::default();
        for _ in 0..40 {
            mailbox.delivered(NEWS, "outlook.com", "microsoft", now);
        }
        // Each mail is named after its number: other names than before.
        let events: Vec<String> =
            mailbox.events.iter().map(|event| event.replace("\"0102", &format!("\"{minute:04}"))).collect();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        assert_eq!(stack.ingest(&events, now).await, Ok(vec![]));
        let known = cloud.stream(LEDGER);
        stack.fold(&known[known.len().saturating_sub(80)..], now).await.unwrap();
        let body = permits("news", "bulk", json!({ "outlook.com": 80 }));
        answers.push(lines(&post(&mut stack.gate, "/v1/permits", &body, now).await)[0].clone());
    }
    insta::assert_snapshot!(answers.join("\n"), @r"
    microsoft, 40 wait 1814 (stopped: configuration-set:news is stopped)
    microsoft, 13 go by news, 67 wait 5428 (throttled: configuration-set:news is testing: 5 % of the quota)
    microsoft, 17 go by news, 63 wait 5513 (throttled: configuration-set:news is slowed: 25 % of the quota)
    microsoft, 31 go by news, 49 wait 4026 (throttled: configuration-set:news is slowed: 50 % of the quota)
    microsoft, 30 go by news, 50 wait 4120 (throttled: configuration-set:news is slowed: 50 % of the quota)
    microsoft, 60 go by news, 20 wait 860 (pace: the day's quota comes in at 90 mails an hour)
    microsoft, 60 go by news, 20 wait 825 (pace: the day's quota comes in at 90 mails an hour)
    microsoft, 60 go by news, 20 wait 809 (pace: the day's quota comes in at 90 mails an hour)
    microsoft, 60 go by news, 20 wait 856 (pace: the day's quota comes in at 90 mails an hour)
    microsoft, 60 go by news, 20 wait 857 (pace: the day's quota comes in at 90 mails an hour)
    microsoft, 63 go by news, 17 wait 682 (pace: the day's quota comes in at 95 mails an hour)
    ");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_a_person_stops_gets_nothing_but_its_critical_reserve() {
    let cloud = Cloud::new();
    let policy = Stack::push(&cloud, POLICY).await;
    let mut stack = Stack::new(&cloud, true);
    let key = Key { subject: "configuration-set:news".parse().unwrap(), isp: None };
    let bulk = permits("news", "bulk", json!({ "gmail.com": 50 }));
    let critical = permits("news", "critical", json!({ "gmail.com": 100 }));
    assert_eq!(lines(&post(&mut stack.gate, "/v1/permits", &bulk, SIX).await), ["gmail, 50 go by news"]);
    apply_input(&policy, &mut stack.reputation(), &key, Input::PersonStops, SIX).await.unwrap();
    let then = Now(SIX.0 + 1_000);
    let mut answers = Vec::new();
    for body in [&bulk, &critical, &critical] {
        answers.extend(lines(&post(&mut stack.gate, "/v1/permits", body, then).await));
    }
    apply_input(&policy, &mut stack.reputation(), &key, Input::PersonResumes, then).await.unwrap();
    answers.extend(lines(&post(&mut stack.gate, "/v1/permits", &bulk, Now(then.0 + 1_000)).await));
    insta::assert_snapshot!(answers.join("\n"), @r"
    gmail, 50 wait 1976 (stopped: configuration-set:news is stopped)
    gmail, 100 go by news-critical
    gmail, 20 go by news-critical, 80 wait 1881 (stopped: configuration-set:news is stopped)
    gmail, 50 go by news
    ");
}

#[tokio::test(start_paused = true)]
async fn each_isp_is_answered_by_itself_and_its_domains_are_added_up() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let mut stack = Stack::new(&cloud, true);
    let recipients = json!({
        "Gmail.com": 200, "googlemail.com": 100, "hotmail.com": 5, "bücher.example": 2, "xn--bcher-kva.example": 1,
        "例え.テスト": 1, "web.de.": 3
    });
    let reply = post(&mut stack.gate, "/v1/permits", &permits("news", "bulk", recipients), SIX).await;
    insta::assert_snapshot!(lines(&reply).join("\n"), @r"
    gmail, 270 go by news, 30 wait 1236 (pace: the day's quota comes in at 90 mails an hour)
    microsoft, 5 go by news
    other, 4 go by news
    web.de, 3 go by news
    ");
    assert_eq!(reply.body["permits"][0]["domains"], json!(["Gmail.com", "googlemail.com"]));
    assert_eq!((&reply.body["day"], &reply.body["configurationSet"]), (&json!("2026-11-21"), &json!("news")));
    assert_eq!(reply.headers["cache-control"], "no-store");
    // A thousand domains in one request.
    let many: serde_json::Map<String, Value> = (0..1_000).map(|n| (format!("d{n}.example"), json!(1))).collect();
    let reply = post(&mut stack.gate, "/v1/permits", &permits("plain", "bulk", many.into()), SIX).await;
    assert_eq!(reply.body["permits"][0]["asked"], 1_000);
}

#[tokio::test(start_paused = true)]
async fn the_same_request_is_granted_once_and_others_each_for_themselves() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let (mut one, mut other) = (WarmGate::new(&cloud.clients(), 1), WarmGate::new(&cloud.clients(), 2));
    let mut body = permits("news", "bulk", json!({ "gmail.com": 100 }));
    body["request"] = json!("r-1");
    let first = post(&mut one, "/v1/permits", &body, SIX).await;
    assert_eq!(post(&mut one, "/v1/permits", &body, SIX).await, first);
    assert_eq!(post(&mut other, "/v1/permits", &body, SIX).await, first);
    body.as_object_mut().unwrap().remove("request");
    let unnamed = post(&mut one, "/v1/permits", &body, SIX).await;
    assert_ne!(
        unnamed.body["permits"][0]["lease"],
        post(&mut one, "/v1/permits", &body, SIX).await.body["permits"][0]["lease"]
    );
    assert_eq!(used(&cloud, "quota#news", "gmail"), (270, 0));
}

/// Mails granted from the part for all mail, and from the reserve, as stored.
pub(crate) fn used(cloud: &Cloud, pk: &str, isp: &str) -> (u64, u64) {
    let item = item(cloud, pk, isp);
    let number = |name: &str| item[name]["N"].as_str().unwrap_or("0").parse().unwrap();
    (number("bulk"), number("critical"))
}

fn item(cloud: &Cloud, pk: &str, sk: &str) -> Value {
    let key = json!({ "pk": { "S": pk }, "sk": { "S": sk } });
    cloud.dynamodb("GetItem", json!({ "TableName": REPUTATION, "Key": key }))["Item"].take()
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_given_back_once_and_in_time() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let (mut one, mut other) = (WarmGate::new(&cloud.clients(), 1), WarmGate::new(&cloud.clients(), 2));
    let mut body = permits("news", "critical", json!({ "gmail.com": 200 }));
    body["request"] = json!("r-1");
    let granted = post(&mut one, "/v1/permits", &body, SIX).await;
    assert_eq!(used(&cloud, "quota#news", "gmail"), (80, 120));
    assert_eq!(granted.body["permits"][0]["expiresAt"], "2026-11-21T06:01:00.000Z");
    let lease = granted.body["permits"][0]["lease"].clone();
    let back = |unused: i64| json!({ "configurationSet": "news", "lease": lease, "unused": unused });
    // One second, and one day, too late.
    for late in [60_001, 86_400_000] {
        let reply = post(&mut other, "/v1/leases/return", &back(12), Now(SIX.0 + late)).await;
        assert_eq!((reply.status, &reply.body["field"]), (410, &json!("/lease")));
    }
    let elsewhere = json!({ "configurationSet": "shop", "lease": lease, "unused": 12 });
    assert_eq!(post(&mut other, "/v1/leases/return", &elsewhere, SIX).await.status, 409);
    // A lease with other numbers is another lease.
    let forged = lease.as_str().unwrap().replace("/80/120/", "/880/120/");
    let forged = json!({ "configurationSet": "news", "lease": forged, "unused": 900 });
    assert_eq!(post(&mut other, "/v1/leases/return", &forged, SIX).await.status, 409);
    let reply = post(&mut other, "/v1/leases/return", &back(90), Now(SIX.0 + 60_000)).await;
    assert_eq!((reply.status, reply.body), (200, json!({ "returned": 90 })));
    assert_eq!(used(&cloud, "quota#news", "gmail"), (0, 110));
    // A new request under the same name gets another lease, though this gate remembers the first.
    let again = post(&mut one, "/v1/permits", &body, Now(SIX.0 + 1)).await;
    assert_ne!(again.body["permits"][0]["lease"], lease);
    assert_eq!(used(&cloud, "quota#news", "gmail"), (190, 120));
    for gate in [&mut one, &mut other] {
        let reply = post(gate, "/v1/leases/return", &back(90), SIX).await;
        assert_eq!((reply.status, &reply.body["type"]), (409, &json!("/problems/unknown-lease")));
    }
    assert_eq!(used(&cloud, "quota#news", "gmail"), (190, 120));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_wrongly_is_refused_with_the_place_and_what_would_be_right() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let mut stack = Stack::new(&cloud, true);
    let good = permits("news", "bulk", json!({ "gmail.com": 1 }));
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body.to_string()
    };
    let without = |field: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        body.to_string()
    };
    let many: serde_json::Map<String, Value> = (0..10_000).map(|n| (format!("d{n}.example"), json!(1))).collect();
    let recipients = |domain: &str, mails: Value| with("recipients", json!({ domain: mails }));
    let lease = "gmail/20778/00ab54a98ceb1f0a/50/0/96000000000/1795240860000";
    let back = |set: &str, lease: &str, unused: Value| {
        json!({ "configurationSet": set, "lease": lease, "unused": unused }).to_string()
    };
    let (permits, leases) = ("/v1/permits", "/v1/leases/return");
    let mut answers = String::new();
    for (path, body) in [
        (permits, String::new()),
        (permits, "{\"configurationSet\":".to_owned()),
        (permits, "[1]".to_owned()),
        (permits, with("configurationSet", json!("nwes"))),
        (permits, with("configurationSet", json!(7))),
        (permits, with("configurationSet", json!("x".repeat(65)))),
        (permits, with("class", json!("urgent"))),
        (permits, with("class", Value::Null)),
        (permits, with("request", json!(""))),
        (permits, with("request", json!("é".repeat(129)))),
        (permits, with("identity", json!("news@example.com"))),
        (permits, with("identity", json!(""))),
        (permits, with("recipient", json!({}))),
        (permits, without("recipients")),
        (permits, without("identity")),
        (permits, with("recipients", json!({}))),
        (permits, with("recipients", json!(["gmail.com"]))),
        (permits, with("recipients", many.into())),
        (permits, recipients("gmail.com", json!(-5))),
        (permits, recipients("gmail.com", json!(0))),
        (permits, recipients("gmail.com", json!(1_000_001))),
        (permits, recipients("gmail.com", json!(1e300))),
        (permits, recipients("gmail.com", json!(1.5))),
        (permits, recipients("gmail.com", json!("7"))),
        (permits, recipients("exa mple", json!(1))),
        (permits, recipients("reader@gmail.com", json!(1))),
        (permits, recipients("a/b~c", json!(1))),
        (permits, recipients("", json!(1))),
        (permits, recipients("a..b", json!(1))),
        (permits, recipients(&"x".repeat(300), json!(1))),
        (leases, back("nwes", lease, json!(1))),
        (leases, back("news", lease, json!(51))),
        (leases, back("news", lease, json!(-1))),
        (leases, back("news", "gmail/20778", json!(1))),
        (leases, back("news", "", json!(1))),
        (leases, back("news", &lease.replace("gmail", "nowhere"), json!(1))),
        (leases, json!({ "configurationSet": "news", "lease": lease }).to_string()),
        (leases, json!({ "configurationSet": "news", "lease": lease, "unused": 1, "used": 2 }).to_string()),
    ] {
        let reply = ask(&mut stack.gate, &request("POST", path, Some(&body)), SIX).await;
        let (kind, field) = (reply.body["type"].as_str().unwrap(), reply.body["field"].as_str().unwrap_or("-"));
        let field: String = field.chars().take(60).collect();
        answers.push_str(&format!("{} {kind} {field}\n    {}\n", reply.status, reply.body["detail"].as_str().unwrap()));
    }
    insta::assert_snapshot!(answers);
    assert!(item(&cloud, "quota#news", "gmail").is_null());
}

#[tokio::test(start_paused = true)]
async fn http_is_kept_to() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let mut stack = Stack::new(&cloud, true);
    let gate = &mut stack.gate;
    let good = permits("news", "bulk", json!({ "gmail.com": 1 })).to_string();
    let status = |reply: &Reply| (reply.status, reply.body["type"].as_str().unwrap_or("-").to_owned());

    let unknown = ask(gate, &request("GET", "/", None), SIX).await;
    assert_eq!(status(&unknown), (404, "/problems/unknown-path".to_owned()));
    assert!(unknown.body["detail"].as_str().unwrap().contains("POST /v1/permits"));
    let method = ask(gate, &request("GET", "/v1/permits", None), SIX).await;
    assert_eq!((status(&method).0, method.headers["allow"].as_str()), (405, "POST, OPTIONS"));
    let method = ask(gate, &request("DELETE", "/v1/health", None), SIX).await;
    assert_eq!((status(&method).0, method.headers["allow"].as_str()), (405, "GET, HEAD, OPTIONS"));

    for path in ["/v1/permits", "/v1/leases/return", "/v1/quotas", "/v1/health", "/v1/openapi.json"] {
        assert_eq!(ask(gate, &request("OPTIONS", path, None), SIX).await.status, 204);
        let head = ask(gate, &request("HEAD", path, None), SIX).await.status;
        assert_eq!(head, if gate_api::ROUTES.contains(&("GET", path)) { 200 } else { 405 }, "{path}");
    }

    for path in ["/v1/permits", "/v1/leases/return"] {
        for media in ["text/plain", "application/jsonp", "multipart/form-data; boundary=x"] {
            let mut typed = request("POST", path, Some(&good));
            typed.headers.insert("content-type", media.parse().unwrap());
            assert_eq!(ask(gate, &typed, SIX).await.status, 415, "{media}");
        }
        let mut untyped = request("POST", path, Some(&good));
        untyped.headers.remove("content-type");
        assert_eq!(ask(gate, &untyped, SIX).await.status, 415);
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(256 * 1024));
        assert_eq!(ask(gate, &request("POST", path, Some(&large)), SIX).await.status, 413);
        assert_eq!(ask(gate, &request("POST", path, Some("nothing")), SIX).await.status, 400);
        let mut encoded = request("POST", path, Some(&aws_smithy_types::base64::encode(&large)));
        encoded.is_base64_encoded = true;
        assert_eq!(ask(gate, &encoded, SIX).await.status, 413);
        encoded.body = Some("no base64!".to_owned());
        assert_eq!(ask(gate, &encoded, SIX).await.status, 400);
    }
    let mut typed = request("POST", "/v1/permits", Some(&aws_smithy_types::base64::encode(&good)));
    typed.is_base64_encoded = true;
    typed.headers.insert("content-type", "Application/JSON; charset=utf-8".parse().unwrap());
    assert_eq!(ask(gate, &typed, SIX).await.status, 200);
    // As large as allowed.
    let padded = format!("{}{good}", " ".repeat(256 * 1024 - good.len()));
    assert_eq!(ask(gate, &request("POST", "/v1/permits", Some(&padded)), SIX).await.status, 200);

    let health = ask(gate, &request("GET", "/v1/health", None), SIX).await;
    assert_eq!((health.status, health.body), (200, json!({ "status": "ok", "policyVersion": 1 })));
    let document = ask(gate, &request("GET", "/v1/openapi.json", None), SIX).await;
    assert_eq!(document.body, serde_json::from_str::<Value>(gate_api::OPENAPI).unwrap());
}

#[tokio::test(start_paused = true)]
async fn every_answer_that_the_document_names_is_given() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let mut stack = Stack::new(&cloud, true);
    let gate = &mut stack.gate;
    let good = permits("news", "bulk", json!({ "gmail.com": 3 })).to_string();
    let granted = ask(gate, &request("POST", "/v1/permits", Some(&good)), SIX).await;
    let lease = granted.body["permits"][0]["lease"].as_str().unwrap();
    let back =
        |set: &str, unused: u32| json!({ "configurationSet": set, "lease": lease, "unused": unused }).to_string();
    let large = " ".repeat(300_000);
    for (path, body, status, later) in [
        ("/v1/permits", good.replace("news\"", "nwes\""), 404, 0),
        ("/v1/permits", good.replace('3', "0"), 422, 0),
        ("/v1/permits", "?".to_owned(), 400, 0),
        ("/v1/permits", large.clone(), 413, 0),
        ("/v1/leases/return", back("nwes", 1), 404, 0),
        ("/v1/leases/return", back("news", 4), 422, 0),
        ("/v1/leases/return", "?".to_owned(), 400, 0),
        ("/v1/leases/return", large, 413, 0),
        ("/v1/permits", named(&good, "once"), 200, 0),
        ("/v1/permits", named(&good.replace('3', "4"), "once"), 409, 0),
        ("/v1/leases/return", back("news", 1), 410, 61_000),
        ("/v1/leases/return", back("news", 1), 200, 0),
        ("/v1/leases/return", back("news", 1), 409, 0),
    ] {
        let reply = ask(gate, &request("POST", path, Some(&body)), Now(SIX.0 + later)).await;
        assert_eq!(reply.status, status, "{path} {reply:?}");
    }
    for path in ["/v1/permits", "/v1/leases/return"] {
        let mut typed = request("POST", path, Some(&good));
        typed.headers.insert("content-type", "text/csv".parse().unwrap());
        assert_eq!(ask(gate, &typed, SIX).await.status, 415);
    }
    for path in ["/v1/health", "/v1/openapi.json", "/v1/quotas", "/v1/quotas?configurationSet=news"] {
        assert_eq!(ask(gate, &request("GET", path, None), SIX).await.status, 200);
    }
    for (query, status) in [("configurationSet=nwes", 404), ("set=news", 422), ("configurationSet=", 422)] {
        let reply = ask(gate, &request("GET", &format!("/v1/quotas?{query}"), None), SIX).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
    cloud.state().dynamodb_down = true;
    let then = Now(SIX.0 + 2_000);
    for path in ["/v1/health", "/v1/quotas"] {
        assert_eq!(ask(gate, &request("GET", path, None), then).await.status, 503);
    }
    assert_eq!(ask(gate, &request("POST", "/v1/leases/return", Some(&back("news", 1))), then).await.status, 503);
    assert_eq!(left_out(), []);
}

/// The same request under a name.
fn named(body: &str, name: &str) -> String {
    let mut body: Value = serde_json::from_str(body).unwrap();
    body["request"] = json!(name);
    body.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_request_repeated_with_another_body_is_refused_and_costs_no_quota() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let mut stack = Stack::new(&cloud, true);
    let gate = &mut stack.gate;
    let first = json!({ "gmail.com": 3 });
    let body = |recipients: &Value| named(&permits("news", "bulk", recipients.clone()).to_string(), "batch 7");
    assert_eq!(ask(gate, &request("POST", "/v1/permits", Some(&body(&first))), SIX).await.status, 200);
    // What yahoo has granted meanwhile is given back.
    let other = body(&json!({ "gmail.com": 4, "yahoo.com": 5 }));
    let refused = ask(gate, &request("POST", "/v1/permits", Some(&other)), SIX).await;
    assert_eq!((refused.status, &refused.body["type"]), (409, &json!("/problems/request-reused")));
    assert_eq!((used(&cloud, "quota#news", "gmail").0, used(&cloud, "quota#news", "yahoo").0), (3, 0));
    let again = ask(gate, &request("POST", "/v1/permits", Some(&body(&first))), SIX).await;
    assert_eq!((again.status, &again.body["permits"][0]["granted"]), (200, &json!(3)));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_granted_once_whatever_each_gate_remembers() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let (mut one, mut other) = (WarmGate::new(&cloud.clients(), 1), WarmGate::new(&cloud.clients(), 2));
    let body = |mails: u64| permits("news", "bulk", json!({ "gmail.com": mails }));
    // Both remember the quota without the name.
    for gate in [&mut one, &mut other] {
        post(gate, "/v1/permits", &body(1), SIX).await;
    }
    let named = |mails: u64| {
        let mut body = body(mails);
        body["request"] = json!("batch 7");
        body
    };
    let first = post(&mut one, "/v1/permits", &named(100), SIX).await;
    assert_eq!(post(&mut other, "/v1/permits", &named(150), SIX).await.status, 409);
    assert_eq!(post(&mut other, "/v1/permits", &named(100), SIX).await, first);
    assert_eq!(used(&cloud, "quota#news", "gmail"), (102, 0));
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_is_held_can_be_given_back() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let mut stack = Stack::new(&cloud, true);
    let gate = &mut stack.gate;
    let mut batch = permits("news", "bulk", json!({ "gmail.com": 900 }));
    (batch["request"], batch["schedule"]) = (json!("batch"), json!(true));
    let first = post(gate, "/v1/permits", &batch, SIX).await;
    let policy = Policy::from_toml(POLICY).unwrap();
    let open = State::Open { at: SIX, until: Some(SIX.plus_minutes(60)), tested: false };
    with_states(&cloud, &policy, &[("configuration-set:news at gmail", open)]).await;
    let soon = Now(SIX.0 + 2_000);
    let held = post(gate, "/v1/permits", &batch, soon).await;
    let held = &held.body["permits"][0];
    assert_eq!((&held["schedule"], &held["limit"]), (&Value::Null, &json!("stopped")), "{held}");
    assert_eq!(held["lease"], first.body["permits"][0]["lease"]);
    let back = json!({ "configurationSet": "news", "lease": held["lease"], "unused": 600 });
    assert_eq!(post(gate, "/v1/leases/return", &back, soon).await.body["returned"], 600);
}

#[tokio::test(start_paused = true)]
async fn quotas_are_listed_with_what_was_granted_and_why() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let mut stack = Stack::new(&cloud, true);
    let gate = &mut stack.gate;
    post(gate, "/v1/permits", &permits("news", "bulk", json!({ "gmail.com": 3, "yahoo.com": 5 })), SIX).await;
    let all = ask(gate, &request("GET", "/v1/quotas", None), SIX).await;
    let sets: Vec<_> = all.body["sets"].as_array().unwrap().iter().map(|set| &set["configurationSet"]).collect();
    assert_eq!(sets, ["news", "plain", "shop"]);
    let news = ask(gate, &request("GET", "/v1/quotas?configurationSet=news", None), SIX).await;
    assert_eq!(
        news.body["sets"][0]["quotas"],
        json!([
            { "isp": "gmail", "day": news.body["day"], "quota": 1200, "granted": 3, "reserve": 120, "share": 1.0,
              "step": "warmed", "reason": "warmed up: the quota is the target" },
            { "isp": "yahoo", "day": news.body["day"], "quota": 1200, "granted": 5, "reserve": 120, "share": 1.0,
              "step": "warmed", "reason": "warmed up: the quota is the target" },
        ])
    );
}

#[tokio::test(start_paused = true)]
async fn a_permit_each_second_costs_two_write_units() {
    let cloud = Cloud::new();
    Stack::push(&cloud, "[warmup.sets.big]\nstart = 1000000\ntarget = 1000000\n").await;
    let mut stack = Stack::new(&cloud, true);
    let mut body = permits("big", "bulk", json!({ "gmail.com": 1 }));
    for second in 0..300 {
        body["request"] = json!(format!("mail {second}"));
        if second == 200 {
            cloud.state().write_units = 0.0;
        }
        post(&mut stack.gate, "/v1/permits", &body, Now(SIX.0 + second * 1_000)).await;
    }
    let leases = item(&cloud, "quota#big", "gmail").as_object().unwrap().len();
    let cost = cloud.state().write_units / 100.0;
    assert!(cost <= 2.0, "{cost} with {leases} attributes");
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_cannot_write_is_not_well() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let mut stack = Stack::new(&cloud, true);
    let gate = &mut stack.gate;
    assert_eq!(ask(gate, &request("GET", "/v1/health", None), SIX).await.status, 200);
    cloud.state().throttled = Some(Throttled::Writes);
    assert_eq!(ask(gate, &request("GET", "/v1/health", None), SIX).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn while_the_table_is_throttled_an_answer_comes_within_a_second() {
    for throttled in [Throttled::Writes, Throttled::All] {
        let cloud = Cloud::new();
        Stack::push(&cloud, POLICY).await;
        let mut stack = Stack::new(&cloud, true);
        let body = permits("news", "critical", json!({ "gmail.com": 3, "yahoo.com": 3, "web.de": 1 }));
        post(&mut stack.gate, "/v1/permits", &body, SIX).await;
        cloud.state().throttled = Some(throttled);
        for later in [0, 1_100, 60_000] {
            let began = tokio::time::Instant::now();
            let reply = post(&mut stack.gate, "/v1/permits", &body, Now(SIX.0 + later)).await;
            assert!(reply.body["degraded"].is_string(), "{reply:?}");
            assert!(began.elapsed() <= Duration::from_secs(1), "{throttled:?}: {:?}", began.elapsed());
        }
        cloud.state().throttled = None;
        let reply = post(&mut stack.gate, "/v1/permits", &body, Now(SIX.0 + 70_000)).await;
        assert_eq!(reply.body["degraded"], Value::Null, "{reply:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_tables_the_policy_decides_and_the_answer_says_that_mail_is_not_counted() {
    let cloud = Cloud::new();
    let grants = "[gate]\nunreadable_bulk = \"grant\"\nunreadable_critical = \"defer\"\n";
    Stack::push(&cloud, &format!("{grants}{POLICY}")).await;
    let mut warm = WarmGate::new(&cloud.clients(), 1);
    let body = |class: &str| permits("news", class, json!({ "gmail.com": 20 }));
    let mut leased = post(&mut warm, "/v1/permits", &body("bulk"), SIX).await;
    let lease = leased.body["permits"][0]["lease"].take();
    cloud.state().dynamodb_down = true;
    let then = Now(SIX.0 + 2_000);
    let mut answers = String::new();
    // A gate that knows its policy, and one that starts now.
    for gate in [&mut warm, &mut WarmGate::new(&cloud.clients(), 2)] {
        for class in ["bulk", "critical"] {
            let reply = post(gate, "/v1/permits", &body(class), then).await;
            assert!(reply.body["degraded"].is_string() && reply.body["permits"][0]["lease"].is_null());
            answers.push_str(&format!("{class:<8} {}\n", lines(&reply)[0]));
        }
        let health = ask(gate, &request("GET", "/v1/health", None), then).await;
        assert_eq!((health.status, &health.body["type"]), (503, &json!("/problems/unreadable")));
        let back = json!({ "configurationSet": "news", "lease": lease, "unused": 5 });
        let reply = post(gate, "/v1/leases/return", &back, then).await;
        assert_eq!((reply.status, reply.headers["retry-after"].as_str()), (503, "2"));
    }
    insta::assert_snapshot!(answers, @r"
    bulk     gmail, 20 go by news
    critical gmail, 20 wait 34 (unreadable: the quota cannot be read, and gate.unreadable_critical of the policy is defer)
    bulk     gmail, 20 wait 55 (unreadable: the quota cannot be read, and gate.unreadable_bulk of the policy is defer)
    critical gmail, 20 go by news
    ");
    let nowhere = permits("nwes", "bulk", json!({ "gmail.com": 20 }));
    assert_eq!(post(&mut warm, "/v1/permits", &nowhere, then).await.status, 404);
    // Once they answer again, everything is as before.
    cloud.state().dynamodb_down = false;
    let back = json!({ "configurationSet": "news", "lease": lease, "unused": 5 });
    assert_eq!(post(&mut warm, "/v1/leases/return", &back, then).await.status, 200);
    assert_eq!(used(&cloud, "quota#news", "gmail"), (15, 0));
}

#[tokio::test(start_paused = true)]
async fn one_quota_that_cannot_be_read_leaves_the_others_counted() {
    let cloud = Cloud::new();
    Stack::push(&cloud, POLICY).await;
    let wrong = json!({ "pk": { "S": "quota#news" }, "sk": { "S": "gmail" }, "day": { "S": "today" } });
    cloud.dynamodb("PutItem", json!({ "TableName": REPUTATION, "Item": wrong }));
    let mut stack = Stack::new(&cloud, true);
    let body = permits("news", "bulk", json!({ "gmail.com": 20, "web.de": 20 }));
    let reply = post(&mut stack.gate, "/v1/permits", &body, SIX).await;
    assert!(reply.body["degraded"].is_string());
    let answers = lines(&reply);
    assert!(answers[0].starts_with("gmail, 20 wait ") && answers[0].contains("unreadable"), "{answers:?}");
    assert_eq!(answers[1], "web.de, 20 go by news");
}

#[tokio::test(start_paused = true)]
async fn a_day_begins_in_the_policys_zone_and_a_clock_that_is_behind_waits_for_it() {
    let cloud = Cloud::new();
    Stack::push(&cloud, &format!("{POLICY}[warmup]\nzone = \"America/New_York\"\n")).await;
    let (mut ahead, mut behind) = (WarmGate::new(&cloud.clients(), 1), WarmGate::new(&cloud.clients(), 2));
    let midnight = Now(1_795_219_200_000 + 5 * 3_600_000);
    let body = permits("news", "bulk", json!({ "gmail.com": 20 }));
    let before = post(&mut behind, "/v1/permits", &body, Now(midnight.0 - 1_000)).await;
    assert_eq!((&before.body["day"], lines(&before)[0].as_str()), (&json!("2026-11-20"), "gmail, 20 go by news"));
    let after = post(&mut ahead, "/v1/permits", &body, midnight).await;
    assert_eq!(after.body["day"], "2026-11-21");
    assert!(lines(&after)[0].contains("pace"), "nothing has come in yet: {after:?}");
    // Nothing of the past day is granted any more, by any clock.
    let late = post(&mut behind, "/v1/permits", &body, Now(midnight.0 - 500)).await;
    assert!(late.body.get("degraded").is_none() && lines(&late)[0].contains("20 wait"), "{late:?}");
    let critical = permits("news", "critical", json!({ "gmail.com": 20 }));
    let late = post(&mut behind, "/v1/permits", &critical, Now(midnight.0 - 500)).await;
    assert_eq!(lines(&late)[0], "gmail, 20 go by news");
    assert_eq!(used(&cloud, "quota#news", "gmail"), (0, 20));
}
