//! The mail of the last hour, invented: one bad list, two healthy senders.

use std::collections::BTreeMap;

use replay::generate::{Envelope, Scenario, TruthRow, generate};
use reputation::time::Now;

/// Events in the order of publication, and their true counts.
pub(crate) struct Stream {
    /// As a configuration set publishes them to SNS.
    pub(crate) raw: Vec<String>,
    /// The same facts, as EventBridge hands them to a queue.
    pub(crate) eventbridge: Vec<String>,
    /// The counts that any correct counter finds.
    pub(crate) truth: Totals,
}

/// Counters by subject and ISP; no zeros.
pub(crate) type Totals = BTreeMap<(String, String), BTreeMap<String, u64>>;

/// A quarter of the mail of `news` bounces.
const SCENARIO: &str = r#"
name = "the last hour"
start = "START"
minutes = 25
duplicates = 0.10
multi_recipient = 0.10
odd_addresses = 0.10
late_bounces = 0.10
unknown_subtypes = 0.05
block_bounces = 0.5
noise = 100
complaint_delay = { from_minutes = 1, to_minutes = 20 }
rates = { hard = 0.005, delay = 0.005, complaint = 0.0005, reject = 0.001, rendering_failure = 0.004 }

[[configuration_sets]]
name = "news"
identity = "news.example.com"
per_minute = 12
rates = { hard = 0.25 }

[[configuration_sets]]
name = "receipts"
identity = "shop.example.com"
per_minute = 10

[[configuration_sets]]
name = "offers"
identity = "offers.example.com"
per_minute = 8
"#;
const SEED: u64 = 3;
/// Mail is sent for 25 minutes; the last of its delays and complaints come within two hours.
const MINUTES: u32 = 150;

/// The number of events of [`SCENARIO`], with the duplicates.
const EVENTS: usize = 1_650;

/// Mail whose events are all published by `now`.
pub(crate) fn stream(now: Now) -> Stream {
    of_about(EVENTS, now)
}

/// The same with about this many events.
pub(crate) fn of_about(events: usize, now: Now) -> Stream {
    let start = Now(now.0 - i64::from(MINUTES) * 60_000);
    let mut scenario = Scenario::from_toml(&SCENARIO.replace("START", &start.to_string())).unwrap();
    for set in &mut scenario.configuration_sets {
        set.per_minute *= events as f64 / EVENTS as f64;
    }
    let of = |envelope: Envelope| {
        let mut bytes = Vec::new();
        let truth = generate(&Scenario { envelopes: vec![envelope], ..scenario.clone() }, SEED, &mut bytes).unwrap();
        let lines: Vec<String> = String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
        (lines, truth)
    };
    let ((raw, truth), (eventbridge, same)) = (of(Envelope::Raw), of(Envelope::Eventbridge));
    assert_eq!((raw.len(), &truth.totals), (eventbridge.len(), &same.totals), "an envelope changes no fact");
    Stream { raw, eventbridge, truth: totals(&truth.totals) }
}

fn totals(rows: &[TruthRow]) -> Totals {
    let counters = |row: &TruthRow| {
        let counters = serde_json::to_value(row.counters).unwrap();
        counters.as_object().unwrap().iter().map(|(name, count)| (name.clone(), count.as_u64().unwrap())).collect()
    };
    rows.iter().map(|row| ((row.subject.clone(), row.isp.clone()), counters(row))).collect()
}

/// One more mail to Yahoo, made by hand: its event of this kind, with `detail` as its own part.
pub(crate) fn event(kind: &str, set: &str, domain: &str, mail: &str, accepted: Now, detail: &str) -> String {
    format!(
        r#"{{"eventType":"{kind}","mail":{{"timestamp":"{accepted}","messageId":"{mail}","source":"hello@{domain}","destination":["reader-{mail}@yahoo.com"],"tags":{{"ses:configuration-set":["{set}"],"ses:from-domain":["{domain}"]}}}},{detail}}}"#
    )
}
