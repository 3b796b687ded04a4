//! Inputs from the field that were once misread, each with the right value, by SES's documentation, the operator's own page
//! or the server's own words. Addresses are invented.

use std::collections::BTreeMap;

use replay::driver::{Replay, replay};
use replay::input::{Progress, Sources};
use replay::report::{Report, TransitionRecord};
use reputation::breaker::StateName;
use reputation::counters::Metric;
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::unit::UnitKind;

use crate::streams::options;

/// Without and with a gate.
const GATES: [bool; 2] = [false, true];

fn replayed(paths: &[&str], gate: bool, policy: &str) -> Replay {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/field");
    let paths: Vec<String> = paths.iter().map(|path| format!("{root}/{path}")).collect();
    let policy = Policy::from_toml(policy).unwrap().in_world(gate);
    let options = options(policy);
    let mut reject = |rejected: &replay::driver::RejectedLine| panic!("{rejected:?}");
    replay(&options, &Sources::expand(&paths).unwrap(), &mut reject, &Progress::new()).unwrap()
}

fn report_of(path: &str, gate: bool) -> Report {
    Report::of(&replayed(&[path], gate, ""), None)
}

/// The counters of configuration sets, by ISP: `isp: counter n, …`.
fn counted(report: &Report) -> String {
    let mut rows: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for total in report.totals.iter().filter(|total| total.subject.to_string().starts_with("configuration-set:")) {
        for kind in UnitKind::ALL.into_iter().filter(|kind| total.get(*kind) > 0) {
            *rows.entry(&total.isp).or_default().entry(kind.counter_name()).or_default() += total.get(kind);
        }
    }
    let row = |(isp, counters): (&&str, &BTreeMap<&str, u64>)| {
        let counters: Vec<String> = counters.iter().map(|(name, count)| format!("{name} {count}")).collect();
        format!("{isp}: {}", counters.join(", "))
    };
    rows.iter().map(row).collect::<Vec<_>>().join("; ")
}

fn sum(report: &Report, kind: UnitKind) -> u64 {
    let sets = report.totals.iter().filter(|total| total.subject.to_string().starts_with("configuration-set:"));
    sets.map(|total| total.get(kind)).sum()
}

/// Whether nothing was cut or stopped.
fn is_calm(report: &Report) -> bool {
    report.transitions.iter().all(|transition| transition.from == transition.to && transition.to == StateName::Closed)
}

#[test]
fn an_exchange_server_that_is_down_delays_mail_and_stops_nobody() {
    for gate in GATES {
        let report = report_of("33a-exchange-prx-outage.ndjson.gz", gate);
        assert_eq!((sum(&report, UnitKind::Delay), sum(&report, UnitKind::Block)), (74, 0));
        assert!(is_calm(&report), "gate {gate}: {:?}", report.transitions);
    }
}

#[test]
fn a_reputation_list_that_refuses_a_third_of_the_mail_is_seen_and_acted_on() {
    for gate in GATES {
        let report = report_of("34a-proofpoint-blocked-see.ndjson.gz", gate);
        assert_eq!(sum(&report, UnitKind::Block), 133);
        assert_eq!(sum(&report, UnitKind::HardBounce), 0, "SES leaves them out of its rate");
        let first = report.transitions.first().unwrap();
        assert!(first.metric == Some(Metric::Block) && first.population.unwrap() <= 30, "{first:?}");
        let acted = |transition: &&TransitionRecord| {
            transition.metric == Some(Metric::Block) && transition.from != transition.to
        };
        let first = report.transitions.iter().find(acted).unwrap();
        let expected = if gate { Some("other") } else { None };
        assert_eq!(first.isp.as_deref(), expected, "without a gate it counts against the set");
    }
    // The policy's rule for blocks decides about the set.
    let stopped = replayed(&["34a-proofpoint-blocked-see.ndjson.gz"], false, "");
    let opened = |replay: &Replay| Report::of(replay, None).tripped();
    let never =
        replayed(&["34a-proofpoint-blocked-see.ndjson.gz"], false, "[metrics.block]\npause = 0.0\nthrottle = 0.0");
    assert_eq!((opened(&stopped), opened(&never)), (true, false));
}

#[test]
fn prefixes_by_configuration_set_give_what_the_same_events_in_order_give() {
    let report = report_of("35-dynamic-partition", false);
    let promo = report.transitions.iter().find(|transition| transition.to == StateName::Open).unwrap();
    assert_eq!(promo.subject, Subject::ConfigurationSet("promo".into()));
    assert_eq!(promo.at.minute().to_string(), "2026-09-04 08:25");
}

#[test]
fn dates_that_aws_itself_prints_are_read() {
    let report = report_of("40-aws-doc-timestamp-space-offset.json", false);
    assert_eq!(counted(&report), "other: delivered 1");
}

#[test]
fn a_recipient_for_whom_the_server_goes_on_trying_has_not_bounced() {
    let report = report_of("41-aws-doc-bounce-failed-and-delayed.json", false);
    assert_eq!(counted(&report), "other: delays 1, hard_bounces 1");
}

#[test]
fn an_odd_recipient_does_not_take_its_neighbour_along() {
    let report = report_of("43-final-recipient-takes-neighbour.json", false);
    assert_eq!(counted(&report), "gmail: hard_bounces 1; other: hard_bounces 1");
    assert_eq!(report.input.odd_by_name["unreadable_recipient"], 1);
}

#[test]
fn a_bounce_of_forwarded_mail_counts_where_the_mail_went() {
    for gate in GATES {
        let report = report_of("52-bounce-names-forwarding-target.ndjson.gz", gate);
        assert_eq!(counted(&report), "other: blocks 6, delivered 6, hard_bounces 6, sent 6");
        assert_eq!(report.input.odd_by_name["forwarded_recipient"], 6);
        assert!(report.transitions.iter().all(|transition| transition.isp.as_deref() != Some("gmail")));
    }
}

#[test]
fn a_complaint_without_an_id_counts_once_for_its_message() {
    let report = report_of("09-complaint-without-feedback-id.json", false);
    assert_eq!(counted(&report), "yahoo: complaints 1");
    let twice = replayed(&["09-complaint-without-feedback-id.json"; 2], false, "");
    assert_eq!((twice.tallies.recorded, twice.tallies.duplicates), (1, 1));
}

#[test]
fn what_people_have_on_disk_is_read() {
    for (path, expected) in [
        ("18q-sqs-receive-message.json", ""),
        ("18n-cloudwatch-export.txt", ""),
        ("18s-kinesis-records.json", ""),
        ("18y-sns-in-eventbridge-pipe.json", "microsoft: hard_bounces 1"),
    ] {
        let report = report_of(path, false);
        if expected.is_empty() {
            assert!(
                sum(&report, UnitKind::Sent) > 0 && sum(&report, UnitKind::Delivered) > 0,
                "{path}: {}",
                counted(&report)
            );
        } else {
            assert_eq!(counted(&report), expected, "{path}");
        }
    }
}

/// A block list entry does not change the rate that SES sees.
#[test]
fn refusals_by_a_block_list_leave_the_bounce_rate_untouched() {
    let event = |number: u32, kind: &str, detail: &str| {
        let minute = number / 20;
        format!(
            r#"{{"eventType":"{kind}","mail":{{"timestamp":"2026-10-06T{:02}:{:02}:30.000Z","messageId":"m{number}","source":"n@mail.example.com","destination":["u{number}@corp.example"],"tags":{{"ses:configuration-set":["news"]}}}}{detail}}}"#,
            8 + minute / 60,
            minute % 60,
        )
    };
    let bounced = |says: &str| {
        format!(
            r#","bounce":{{"bounceType":"Permanent","bounceSubType":"General","feedbackId":"f","bouncedRecipients":[{{"emailAddress":"u@corp.example","status":"5.7.1","diagnosticCode":"smtp; {says}"}}]}}"#
        )
    };
    let mut lines = Vec::new();
    for number in 0..4_000 {
        lines.push(event(number, "Send", r#","send":{}"#));
        lines.push(match number % 100 {
            0..15 => event(
                number,
                "Bounce",
                &bounced("554 5.7.1 Service unavailable; client host [192.0.2.1] blocked using a DNSBL")
                    .replace("u@corp.example", &format!("u{number}@corp.example")),
            ),
            15 => event(
                number,
                "Bounce",
                &bounced("550 5.1.1 user unknown")
                    .replace("5.7.1", "5.1.1")
                    .replace("u@corp", &format!("u{number}@corp")),
            ),
            _ => event(number, "Delivery", &format!(r#","delivery":{{"recipients":["u{number}@corp.example"]}}"#)),
        });
    }
    let source = replay::input::Source::memory("listed.ndjson", lines.join("\n").into_bytes());
    let policy = Policy::default();
    let options = options(policy);
    let replay = replay(&options, &[source], &mut |rejected| panic!("{rejected:?}"), &Progress::new()).unwrap();
    let sets =
        replay.reputation.subject_states().filter(|(subject, _)| subject.to_string().starts_with("configuration-set:"));
    let timelines: Vec<_> = sets.map(|(_, subject_state)| &subject_state.timeline).collect();
    let seen = reputation::judge::forecast(&replay.policy, timelines.into_iter(), replay.now());
    let bounces = seen.iter().find(|seen| seen.metric == reputation::Metric::HardBounce).unwrap();
    assert_eq!((bounces.tally.bad, bounces.tally.population), (40, 4_000), "1 %, not 16 %");
    let report = Report::of(&replay, None);
    assert_eq!(sum(&report, UnitKind::RefusedBounce), 600);
}
