//! Senders whose mail a stack hears of.

use e2e::stack::Stack;
use reputation::subject::Subject;
use reputation::time::Now;

use crate::account::Account;

/// 2026-10-06 09:00:00 UTC.
pub(crate) const MORNING: Now = Now(1_791_277_200_000);

pub(crate) fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

/// Events of mails sent with a configuration set, by turns to these domains: `delivered` of them arrive, `bounced` come back.
pub(crate) fn mails(set: &str, domains: &[&str], delivered: usize, bounced: usize, at: Now) -> Vec<String> {
    let mut events = Vec::new();
    for number in 0..delivered + bounced {
        let domain = domains[number % domains.len()];
        let to = format!("reader{number}@{domain}");
        let mail = format!(
            r#""mail":{{"timestamp":"{at}","messageId":"{set}-{domain}-{number}-{at}","source":"a@{set}.example","destination":["{to}"],
            "tags":{{"ses:configuration-set":["{set}"],"ses:from-domain":["{set}.example"]}}}}"#
        );
        events.push(format!(r#"{{"eventType":"Send",{mail},"send":{{}}}}"#));
        events.push(if number < delivered {
            format!(r#"{{"eventType":"Delivery",{mail},"delivery":{{"timestamp":"{at}","recipients":["{to}"]}}}}"#)
        } else {
            format!(
                r#"{{"eventType":"Bounce",{mail},"bounce":{{"bounceType":"Permanent","bounceSubType":"General",
                "timestamp":"{at}","feedbackId":"f{number}",
                "bouncedRecipients":[{{"emailAddress":"{to}","status":"5.1.1"}}]}}}}"#
            )
        });
    }
    events
}

/// A stack that has heard of two senders, of which `news` has a bad list and is paused for it.
pub(crate) async fn troubled() -> (Account, Stack) {
    let account = Account::with(&["news", "shop"]);
    let mut stack = Stack::new(&account.cloud, false);
    let both = ["gmail.com", "outlook.com"];
    let mut events = mails("news", &both, 60, 40, MORNING);
    events.extend(mails("shop", &both, 200, 1, MORNING));
    hear(&account, &mut stack, &events, MORNING.plus_minutes(1)).await;
    (account, stack)
}

/// Passes events to a stack, and runs its breakers and its enforcer.
pub(crate) async fn hear(account: &Account, stack: &mut Stack, events: &[String], now: Now) {
    let bodies: Vec<&str> = events.iter().map(String::as_str).collect();
    assert_eq!(stack.ingest(&bodies, now).await.unwrap(), [0; 0]);
    let records = account.cloud.stream(e2e::cloud::LEDGER);
    stack.fold(&records, now).await.unwrap();
    stack.enforce(false, now).await.unwrap();
}
