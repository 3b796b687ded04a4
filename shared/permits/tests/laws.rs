//! What the client promises, one law per test, against a fake gate that records the truth. Time is paused, and advances
//! only when every task waits.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod double;

use std::time::Duration;

use double::{Double, Fate};
use permits::{Class, Error, GateLimit, Grant, Limit, Permit, Permits, Unreachable, Wait};
use serde_json::json;
use tokio::time::{Instant, advance};

const ASK: &str = "/v1/permits";
const RETURN: &str = "/v1/leases/return";

fn client(gate: &Double) -> Permits {
    Permits::builder("news", "example.com").over(gate.clone()).unwrap()
}

fn sent(permit: Result<Permit, Error>) -> Grant {
    match permit {
        Ok(Permit::Send(grant)) => grant,
        other => panic!("not sent: {other:?}"),
    }
}

fn expect_wait(permit: Result<Permit, Error>) -> Wait {
    match permit {
        Ok(Permit::Wait(wait)) => wait,
        other => panic!("not asked to wait: {other:?}"),
    }
}

/// Lets all tasks do what they can without time passing.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_sender_makes_few_calls() {
    let gate = Double::with_quota(1_000_000);
    let permits = client(&gate);
    // A thousand mails a second for a minute.
    for _ in 0..60_000 {
        let grant = sent(permits.take("gmail.com", 1, Class::Bulk).await);
        gate.ledger().send(grant.lease().unwrap(), 1);
        advance(Duration::from_millis(1)).await;
    }
    assert!(gate.calls(ASK) < 25, "{} calls", gate.calls(ASK));
    let counts = permits.close().await;
    assert_eq!((counts.let_go, counts.granted), (60_000, 60_000 + counts.given_back));
    assert_eq!(gate.ledger().isps["gmail"].quota, 940_000);
}

#[tokio::test(start_paused = true)]
async fn the_request_is_the_one_of_the_contract() {
    let gate = Double::with_quota(100);
    let permits = client(&gate);
    sent(permits.take("Alice@GMail.com", 3, Class::Critical).await).unused();
    let (path, body) = gate.ledger().calls[0].clone();
    assert_eq!(path, ASK);
    let request = body["request"].as_str().unwrap().to_owned();
    assert_eq!(request.len(), 32);
    let expected = json!({ "request": request, "configurationSet": "news", "identity": "example.com",
        "class": "critical", "recipients": { "gmail.com": 3 } });
    assert_eq!(body, expected);
    permits.close().await;
    let (path, body) = gate.ledger().calls.last().unwrap().clone();
    let lease = format!("gmail/{request}");
    assert_eq!(path, RETURN);
    assert_eq!(body, json!({ "configurationSet": "news", "lease": lease, "unused": 3 }));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_one_isp_share_one_call() {
    let gate = Double::with_quota(1_000_000);
    let permits = client(&gate);
    gate.fates([Fate::Slow(Duration::from_millis(50)), Fate::Slow(Duration::from_millis(50))]);
    let callers: Vec<_> = (0..200)
        .map(|_| {
            let permits = permits.clone();
            tokio::spawn(async move { permits.take("gmail.com", 1, Class::Bulk).await })
        })
        .collect();
    for caller in callers {
        drop(sent(caller.await.unwrap()));
    }
    // One that finds out the ISP, one for the first of those who wait, one for all others; and one ahead of time.
    assert!(gate.calls(ASK) <= 4, "{} calls", gate.calls(ASK));
}

#[tokio::test(start_paused = true)]
async fn domains_of_an_isp_that_is_known_share_its_leases_and_unknown_ones_are_asked_for_together() {
    let gate = Double::with_quota(1_000_000);
    let permits = client(&gate);
    drop(sent(permits.take("gmail.com", 50, Class::Bulk).await));
    drop(sent(permits.take("googlemail.com", 1, Class::Bulk).await));
    let before = gate.calls(ASK);
    gate.fates([Fate::Slow(Duration::from_millis(50))]);
    let callers: Vec<_> = (0..900)
        .map(|number| {
            let permits = permits.clone();
            tokio::spawn(async move { permits.take(&format!("d{number}.example"), 1, Class::Bulk).await })
        })
        .collect();
    for caller in callers {
        drop(sent(caller.await.unwrap()));
    }
    // The first by itself, then 500 and 399.
    assert!(gate.calls(ASK) - before <= 5, "{} calls", gate.calls(ASK) - before);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_gate_writes_differently_is_understood() {
    let gate = Double::with_quota(1_000);
    let permits = client(&gate);
    let two = tokio::join!(permits.take("Bücher.example", 1, Class::Bulk), permits.take("a.example", 1, Class::Bulk),);
    assert_eq!(sent(two.0).isp(), Some("other"));
    assert_eq!(sent(two.1).isp(), Some("other"));
    let before = gate.calls(ASK);
    let third = permits.take("bücher.example", 1, Class::Bulk).await;
    assert!(matches!(third, Ok(Permit::Send(_))));
    assert!(gate.calls(ASK) <= before + 1);
}

#[tokio::test(start_paused = true)]
async fn one_malformed_domain_stops_no_other() {
    let gate = Double::with_quota(1_000);
    let permits = client(&gate);
    // So that the others wait together meanwhile.
    gate.fates([Fate::Slow(Duration::from_millis(50))]);
    let names: Vec<String> = (0..40).map(|number| format!("d{number}.example")).collect();
    let callers: Vec<_> = ["first.example", "bad.example"]
        .into_iter()
        .map(str::to_owned)
        .chain(names)
        .map(|name| {
            let permits = permits.clone();
            tokio::spawn(async move { (permits.take(&name, 1, Class::Bulk).await, name) })
        })
        .collect();
    for caller in callers {
        match caller.await.unwrap() {
            (Err(Error::Refused(problem)), name) => {
                assert_eq!((name.as_str(), problem.field.as_deref()), ("bad.example", Some("/recipients/bad.example")));
            }
            (permit, _) => drop(sent(permit)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_deferred_is_not_asked_for_until_its_time() {
    let gate = Double::with_quota(2);
    let permits = client(&gate);
    for _ in 0..2 {
        drop(sent(permits.take("gmail.com", 1, Class::Bulk).await));
    }
    settle().await;
    let calls = gate.calls(ASK);
    let wait = expect_wait(permits.take("gmail.com", 1, Class::Bulk).await);
    assert_eq!(wait.retry_after, Duration::from_secs(30));
    assert_eq!((wait.limit, &*wait.reason), (Limit::Gate(GateLimit::Quota), "the day's mails have been granted"));
    assert_eq!((wait.isp.as_deref(), wait.degraded), (Some("gmail"), false));
    advance(Duration::from_secs(29)).await;
    assert_eq!(expect_wait(permits.take("gmail.com", 1, Class::Bulk).await).retry_after, Duration::from_secs(1));
    assert_eq!(gate.calls(ASK), calls, "the client remembers");
    gate.ledger().isps.get_mut("gmail").unwrap().quota = 100;
    advance(Duration::from_secs(1)).await;
    drop(sent(permits.take("gmail.com", 1, Class::Bulk).await));
}

#[tokio::test(start_paused = true)]
async fn the_deferral_of_one_class_or_isp_is_not_that_of_another() {
    let gate = Double::with_quota(0);
    let permits = client(&gate);
    expect_wait(permits.take("gmail.com", 1, Class::Bulk).await);
    gate.ledger().isps.get_mut("gmail").unwrap().quota = 5;
    gate.ledger().isps.get_mut("yahoo").unwrap().quota = 5;
    drop(sent(permits.take("gmail.com", 1, Class::Critical).await));
    drop(sent(permits.take("yahoo.com", 1, Class::Bulk).await));
    expect_wait(permits.take("googlemail.com", 1, Class::Bulk).await);
}

#[tokio::test(start_paused = true)]
async fn overflow_names_its_route_and_is_counted() {
    let gate = Double::with_quota(4);
    gate.ledger().isps.get_mut("gmail").unwrap().overflows = true;
    let permits = client(&gate);
    let (mut own, mut overflow) = (0, 0);
    for _ in 0..50 {
        match permits.take("gmail.com", 1, Class::Bulk).await.unwrap() {
            Permit::Send(grant) => {
                assert_eq!(grant.route(), "news");
                own += 1;
            }
            Permit::Overflow(grant) => {
                assert_eq!((grant.route(), grant.lease()), ("news-shared", None));
                overflow += 1;
            }
            Permit::Wait(wait) => panic!("{wait:?}"),
        }
    }
    assert_eq!((own, overflow), (4, 46));
    assert!(overflow <= gate.ledger().isps["gmail"].overflow_granted);
}

#[tokio::test(start_paused = true)]
async fn a_mail_that_ses_did_not_accept_gives_its_permit_to_another() {
    let gate = Double::with_quota(1);
    let permits = client(&gate);
    let grant = sent(permits.take("gmail.com", 1, Class::Bulk).await);
    expect_wait(permits.take("gmail.com", 1, Class::Bulk).await);
    grant.unused();
    drop(sent(permits.take("gmail.com", 1, Class::Bulk).await));
    expect_wait(permits.take("gmail.com", 1, Class::Bulk).await);
    let counts = permits.close().await;
    assert_eq!((counts.let_go, counts.put_back, counts.given_back, counts.lost), (1, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_dropped_counts_as_used_and_some_of_it_can_be_put_back() {
    let gate = Double::with_quota(10);
    let permits = client(&gate);
    drop(sent(permits.take("gmail.com", 4, Class::Bulk).await));
    let mut grant = sent(permits.take("gmail.com", 4, Class::Bulk).await);
    assert_eq!((grant.put_back(1), grant.mails()), (1, 3));
    assert_eq!((grant.put_back(99), grant.mails()), (3, 0));
    assert_eq!(grant.put_back(1), 0);
    assert_eq!(permits.close().await.given_back, 6);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_given_back_before_it_expires_though_nobody_asks() {
    let gate = Double::with_quota(100);
    let permits = client(&gate);
    let grant = sent(permits.take("gmail.com", 1, Class::Bulk).await);
    let kept = sent(permits.take("gmail.com", 1, Class::Bulk).await);
    let lease = kept.lease().unwrap().to_owned();
    assert_eq!(grant.time_left().as_secs(), 60);
    tokio::time::sleep(Duration::from_secs(56)).await;
    settle().await;
    assert_eq!(gate.ledger().leases[&lease].returned, Some(9), "five seconds before its end");
    assert_eq!(gate.ledger().isps["gmail"].quota, 98);
    kept.unused();
    let counts = permits.counts();
    assert_eq!((counts.given_back, counts.lost), (9, 1), "what comes too late is lost, and never used twice");
}

#[tokio::test(start_paused = true)]
async fn what_is_put_back_to_a_lease_that_was_used_up_is_given_back_in_time_too() {
    let gate = Double::with_quota(10);
    let permits = client(&gate);
    let grant = sent(permits.take("gmail.com", 10, Class::Bulk).await);
    tokio::time::sleep(Duration::from_secs(30)).await;
    grant.unused();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!((permits.counts().given_back, gate.ledger().isps["gmail"].quota), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_dropped_still_gives_back() {
    let gate = Double::with_quota(100);
    let permits = client(&gate);
    drop(sent(permits.take("gmail.com", 50, Class::Bulk).await));
    drop(sent(permits.take("gmail.com", 1, Class::Bulk).await));
    drop(permits);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(gate.ledger().isps["gmail"].quota, 49);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_asked_for_again_and_granted_once() {
    for fate in [Fate::AnswerLost, Fate::Silence, Fate::Garbage] {
        let gate = Double::with_quota(100);
        let permits = client(&gate);
        gate.fates([fate]);
        drop(sent(permits.take("gmail.com", 20, Class::Bulk).await));
        assert_eq!(gate.calls(ASK), 2, "{fate:?}");
        let requests: Vec<_> = gate.ledger().calls.iter().map(|(_, body)| body["request"].clone()).collect();
        assert_eq!(requests[0], requests[1]);
        assert_eq!(gate.ledger().isps["gmail"].quota, 80);
        permits.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_heard_twice_counts_once() {
    let gate = Double::with_quota(10);
    let permits = client(&gate);
    drop(sent(permits.take("gmail.com", 10, Class::Bulk).await));
    gate.fates([Fate::Echo; 100]);
    for _ in 0..3 {
        let wait = expect_wait(permits.take("gmail.com", 10, Class::Bulk).await);
        assert_eq!(wait.limit, Limit::Busy, "{wait:?}");
    }
    assert_eq!(permits.counts().granted, 10);
}

#[tokio::test(start_paused = true)]
async fn a_return_whose_answer_is_lost_is_not_made_twice() {
    let gate = Double::with_quota(100);
    let permits = client(&gate);
    drop(sent(permits.take("gmail.com", 1, Class::Bulk).await));
    drop(sent(permits.take("gmail.com", 1, Class::Bulk).await));
    gate.fates([Fate::AnswerLost]);
    let counts = permits.close().await;
    assert_eq!((counts.given_back, counts.lost, gate.calls(RETURN)), (9, 0, 2));
    assert_eq!(gate.ledger().isps["gmail"].quota, 98);
}

#[tokio::test(start_paused = true)]
async fn while_the_gate_is_dead_each_class_is_answered_as_configured_and_the_gate_is_not_called() {
    let gate = Double::with_quota(100);
    let permits = client(&gate);
    gate.fates([Fate::RequestLost; 3]);
    let wait = expect_wait(permits.take("gmail.com", 1, Class::Bulk).await);
    assert!(wait.degraded && wait.retry_after > Duration::ZERO && wait.limit == Limit::Unreachable, "{wait:?}");
    assert_eq!(&*wait.reason, "the gate cannot be reached: connection reset");
    for _ in 0..1_000 {
        let grant = sent(permits.take("gmail.com", 1, Class::Critical).await);
        assert_eq!((grant.degraded(), grant.route(), grant.lease()), (true, "news", None));
        expect_wait(permits.take("yahoo.com", 1, Class::Bulk).await);
    }
    assert_eq!(gate.calls(ASK), 0, "none of three came in, and no more was tried");
    assert_eq!(permits.counts().let_go_unreached, 1_000);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!sent(permits.take("gmail.com", 1, Class::Bulk).await).degraded(), "it answers again");
}

#[tokio::test(start_paused = true)]
async fn the_answer_while_the_gate_is_dead_can_be_configured_per_class() {
    let gate = Double::with_quota(100);
    let permits = Permits::builder("news", "example.com")
        .when_unreachable(Class::Bulk, Unreachable::Open)
        .when_unreachable(Class::Critical, Unreachable::Closed)
        .attempts(1, Duration::from_secs(1))
        .over(gate.clone())
        .unwrap();
    gate.fates([Fate::Status(503)]);
    assert!(sent(permits.take("gmail.com", 1, Class::Bulk).await).degraded());
    assert!(expect_wait(permits.take("gmail.com", 1, Class::Critical).await).degraded);
}

#[tokio::test(start_paused = true)]
async fn leases_in_the_pool_are_used_though_the_gate_is_dead() {
    let gate = Double::with_quota(100);
    let permits = client(&gate);
    drop(sent(permits.take("gmail.com", 1, Class::Bulk).await));
    gate.fates([Fate::Answered].into_iter().chain([Fate::RequestLost; 100]));
    for _ in 0..10 {
        assert!(!sent(permits.take("gmail.com", 1, Class::Bulk).await).degraded());
    }
    assert!(expect_wait(permits.take("gmail.com", 1, Class::Bulk).await).degraded);
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_cannot_read_its_state_is_believed_and_marked() {
    for (open, class) in [(true, Class::Critical), (false, Class::Bulk)] {
        let gate = Double::with_quota(100);
        gate.ledger().unreadable = Some(open);
        let permits = client(&gate);
        match permits.take("gmail.com", 1, class).await.unwrap() {
            Permit::Send(grant) => assert!(open && grant.degraded() && grant.lease().is_none()),
            Permit::Wait(wait) => assert!(!open && wait.degraded && wait.limit == Limit::Gate(GateLimit::Unreadable)),
            Permit::Overflow(grant) => panic!("{grant:?}"),
        }
        assert_eq!(permits.close().await.given_back, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_gate_refuses_is_an_error_that_says_what_to_do_and_is_not_repeated() {
    let gate = Double::with_quota(100);
    let detail = "configuration set `news` is not in [warmup.sets] of the policy: name it there";
    gate.ledger().refusal = Some((404, json!({ "type": "/problems/unknown-configuration-set", "detail": detail })));
    let permits = client(&gate);
    let error = permits.take("gmail.com", 1, Class::Critical).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the gate refused with HTTP 404: {detail}"));
    assert_eq!(gate.calls(ASK), 1);
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_refused_without_a_call() {
    let gate = Double::with_quota(100);
    let permits = client(&gate);
    for (to, mails, expected) in [
        ("", 1, "`` is not a domain: it is empty"),
        ("a b", 1, "`a b` is not a domain: it has a character that no domain has"),
        ("gmail.com", 0, "0 mails asked for at once; the gate answers for 1 to 1000000 at a time"),
        (
            "gmail.com",
            u64::MAX,
            "18446744073709551615 mails asked for at once; the gate answers for 1 to 1000000 at a time",
        ),
    ] {
        assert_eq!(permits.take(to, mails, Class::Bulk).await.unwrap_err().to_string(), expected);
    }
    assert_eq!(gate.calls(ASK), 0);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_mail_may_go_or_patience_would() {
    let gate = Double::with_quota(0);
    let permits = client(&gate);
    let begin = Instant::now();
    let wait = expect_wait(permits.wait_for("gmail.com", Class::Bulk, Duration::from_secs(29)).await);
    assert_eq!((wait.retry_after.as_secs(), begin.elapsed().as_secs()), (30, 0), "it would have been in vain");
    gate.ledger().isps.get_mut("gmail").unwrap().quota = 3;
    drop(sent(permits.wait_for("gmail.com", Class::Bulk, Duration::MAX).await));
    assert_eq!(begin.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_cancelled_takes_nothing_with_it() {
    let gate = Double::with_quota(100);
    let permits = client(&gate);
    for _ in 0..20 {
        gate.fates([Fate::Slow(Duration::from_millis(500))]);
        let patience = Duration::from_millis(100);
        let _ = tokio::time::timeout(patience, permits.take("gmail.com", 20, Class::Bulk)).await.map(|permit| {
            gate.ledger().send(sent(permit).lease().unwrap(), 0);
        });
    }
    permits.close().await;
    let counts = permits.counts();
    assert_eq!(counts.granted, counts.given_back + counts.let_go);
    let out: u64 = 100 - gate.ledger().isps["gmail"].quota;
    assert_eq!(out, counts.let_go);
}

#[tokio::test(start_paused = true)]
async fn closing_gives_everything_back_and_lets_nothing_go_any_more() {
    let gate = Double::with_quota(1_000);
    let permits = client(&gate);
    for to in ["gmail.com", "yahoo.com", "hotmail.com", "a.example"] {
        for class in Class::ALL {
            drop(sent(permits.take(to, 1, class).await));
            drop(sent(permits.take(to, 1, class).await));
        }
    }
    // One that is under way while the client is closed.
    gate.fates([Fate::Slow(Duration::from_secs(1))]);
    let late = tokio::spawn({
        let permits = permits.clone();
        async move { permits.take("b.example", 7, Class::Bulk).await }
    });
    settle().await;
    let counts = permits.close().await;
    assert_eq!(late.await.unwrap().unwrap_err(), Error::Closed);
    assert_eq!(permits.take("gmail.com", 1, Class::Bulk).await.unwrap_err(), Error::Closed);
    assert_eq!((counts.let_go, counts.lost), (16, 0));
    assert_eq!(counts.granted, counts.let_go + counts.given_back);
    let left: u64 = gate.ledger().isps.values().map(|isp| isp.quota).sum();
    assert_eq!(left, 4_000 - 16);
    assert_eq!(permits.close().await, counts, "closing twice changes nothing");
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_a_dead_gate() {
    let gate = Double::with_quota(1_000);
    let permits = client(&gate);
    for number in 0..50 {
        drop(sent(permits.take(&format!("d{number}.example"), 1, Class::Bulk).await));
    }
    drop(sent(permits.take("gmail.com", 1, Class::Bulk).await));
    drop(sent(permits.take("gmail.com", 1, Class::Bulk).await));
    gate.fates([Fate::Silence; 1_000]);
    let begin = Instant::now();
    let counts = permits.close().await;
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    assert!(counts.lost > 0);
}

#[tokio::test(start_paused = true)]
async fn without_random_numbers_nothing_is_asked_for() {
    let gate = Double::with_quota(1_000);
    let permits = Permits::builder("news", "example.com").random(|| None).over(gate.clone()).unwrap();
    let wait = expect_wait(permits.take("gmail.com", 1, Class::Bulk).await);
    assert_eq!(&*wait.reason, "the gate cannot be reached: the operating system gives no random numbers");
    assert_eq!(gate.calls(ASK), 0);
}

#[test]
fn outside_a_runtime_the_builder_says_so() {
    let error = Permits::builder("news", "example.com").over(Double::with_quota(1)).unwrap_err();
    assert!(error.to_string().starts_with("no tokio runtime is here"));
}
