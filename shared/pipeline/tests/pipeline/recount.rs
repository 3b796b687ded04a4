//! Counting against a naive model that keeps every event and recounts.
//!
//! The model knows the table "What counts" of `ARCHITECTURE.md`, and nothing of the code that counts: it matches on the
//! raw facts, keeps what it has seen in plain sets, and has its own list of domains.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::stream::Increment;
use proptest::prelude::*;
use reputation::grouped::Buckets;
use reputation::time::MINUTE_MILLIS;
use reputation::{Minute, Now, Policy, Subject, UnitKind};

use super::kit::{Fixture, NOW, Rng, Rows, iso, rows};

/// Domains with the ISP that receives their mail; `None` counts on no side.
const DOMAINS: [(&str, Option<&str>); 9] = [
    ("gmail.com", Some("gmail")),
    ("googlemail.com", Some("gmail")),
    ("hotmail.com", Some("microsoft")),
    ("yahoo.co.uk", Some("yahoo")),
    ("icloud.com", Some("apple")),
    ("recipient.example.net", Some("other")),
    ("business.example", Some("google-workspace")),
    ("simulator.amazonses.com", None),
    ("own.example.com", None),
];

const POLICY: &str = r#"
[subjects]
tenants = true
tags = ["campaign"]
own_domains = ["own.example.com"]
[isps]
"business.example" = "google-workspace"
"#;

/// Type, subtype, status, text; what it counts as; and whether the ISP refuses the sender.
type BounceRow = (&'static str, &'static str, &'static str, &'static str, Option<UnitKind>, bool);

/// Bounces as SES writes them.
#[rustfmt::skip]
const BOUNCES: &[BounceRow] = &[
    ("Permanent", "General", "5.1.1", "smtp; 550 5.1.1 user unknown", Some(UnitKind::HardBounce), false),
    ("Permanent", "General", "5.7.1", "smtp; 550 5.7.1 message refused", Some(UnitKind::HardBounce), true),
    ("Permanent", "General", "5.7.1", "smtp; 554 5.7.1 blocked using a block list", Some(UnitKind::RefusedBounce), true),
    ("Permanent", "NoEmail", "5.1.1", "smtp; 550 5.1.1 no such user", Some(UnitKind::HardBounce), false),
    ("Permanent", "Suppressed", "5.1.1", "Amazon SES did not send the message", Some(UnitKind::HardBounce), false),
    ("Permanent", "SomethingNew", "5.2.1", "smtp; 550 5.2.1 closed", Some(UnitKind::HardBounce), false),
    ("Permanent", "OnAccountSuppressionList", "5.1.1", "on the list", Some(UnitKind::Suppressed), false),
    ("Permanent", "OnTenantSuppressionList", "5.7.1", "on the list", Some(UnitKind::Suppressed), false),
    ("Permanent", "EmailValidationSuppressed", "5.1.1", "not valid", Some(UnitKind::Suppressed), false),
    ("Permanent", "UnsubscribedRecipient", "5.1.1", "unsubscribed", Some(UnitKind::Suppressed), false),
    ("Transient", "General", "4.4.7", "smtp; 421 4.4.1 no route", Some(UnitKind::SoftBounce), false),
    ("Transient", "MailboxFull", "4.2.2", "smtp; 452 4.2.2 over quota", Some(UnitKind::SoftBounce), false),
    ("Transient", "ContentRejected", "5.6.0", "smtp; 550 content", Some(UnitKind::SoftBounce), true),
    ("Transient", "CustomTimeoutExceeded", "4.4.7", "smtp; 421 4.7.0 try later", Some(UnitKind::SoftBounce), false),
    ("Undetermined", "Undetermined", "5.0.0", "smtp; 550 no reason", Some(UnitKind::Undetermined), false),
    ("Novel", "General", "5.7.1", "smtp; 550 5.7.1 refused", None, false),
];

/// Delays likewise: type, status, text; what it counts as; and whether the ISP refuses the sender.
#[rustfmt::skip]
const DELAYS: &[(&str, &str, &str, UnitKind, bool)] = &[
    ("General", "4.4.1", "smtp; 421 4.4.1 no route", UnitKind::Delay, false),
    ("IPFailure", "4.0.0", "smtp; 421 later", UnitKind::Delay, true),
    ("SpamDetected", "4.0.0", "smtp; 421 later", UnitKind::Delay, true),
    ("TransientCommunicationFailure", "4.7.28", "smtp; 421 4.7.28 unusual rate", UnitKind::Delay, true),
    ("MailboxFull", "4.2.2", "smtp; 452 4.2.2 full", UnitKind::Delay, false),
    ("SendingDeferral", "4.7.0", "smtp; 421 4.7.0 paced", UnitKind::Deferral, false),
];

#[derive(Clone, Debug)]
struct Mail {
    /// Minutes before now at which SES accepted it.
    age: u32,
    set: Option<&'static str>,
    from_domain: Option<&'static str>,
    tenant: Option<&'static str>,
    campaign: Option<&'static str>,
    /// Indices of [`DOMAINS`]; the place in the list is the local part.
    to: Vec<usize>,
}

#[derive(Clone, Debug)]
enum What {
    Send,
    Delivery(Vec<usize>),
    Bounce(usize, Vec<usize>),
    /// The n-th complaint about the mail; its feedback type; its subtype.
    Complaint(usize, Option<&'static str>, Option<&'static str>),
    Delay(usize, Vec<usize>),
    Reject,
    RenderingFailure,
    Open(bool),
    Click(bool),
    Subscription,
}

#[derive(Clone, Debug)]
struct Event {
    mail: usize,
    what: What,
    /// Addresses in capitals, or with a display name.
    spelling: usize,
}

/// The recipients that an event names, chosen by arbitrary numbers; at least one.
fn some(mail: &Mail, picks: &[usize]) -> Vec<usize> {
    let picked: BTreeSet<usize> = picks.iter().map(|pick| pick % mail.to.len()).collect();
    if picked.is_empty() { vec![0] } else { picked.into_iter().collect() }
}

/// The recipients that the n-th complaint about a mail lists: the same ones each time it is delivered.
fn complainers(mail: &Mail, nth: usize) -> Vec<usize> {
    some(mail, &[nth, nth + 2])
}

fn address(mail: &Mail, place: usize, spelling: usize) -> String {
    let domain = DOMAINS[mail.to[place]].0;
    match spelling {
        0 => format!("r{place}@{domain}"),
        1 => format!("R{place}@{}", domain.to_uppercase()),
        2 => format!("Recipient {place} <r{place}@{domain}>"),
        _ => format!("\\\"Doe, R\\\" <R{place}@{domain}>"),
    }
}

fn json(event: &Event, index: usize, mail: &Mail) -> String {
    let quoted = |places: &[usize]| -> String {
        let addresses: Vec<_> = places.iter().map(|at| format!("\"{}\"", address(mail, *at, event.spelling))).collect();
        addresses.join(",")
    };
    let failed = |places: &[usize], status: &str, text: &str| -> String {
        let recipient = |at: &usize| {
            let address = address(mail, *at, event.spelling);
            format!(r#"{{"emailAddress":"{address}","status":"{status}","diagnosticCode":"{text}"}}"#)
        };
        places.iter().map(recipient).collect::<Vec<_>>().join(",")
    };
    let now = iso(NOW);
    let or_null = |text: Option<&str>| text.map_or("null".to_owned(), |text| format!("\"{text}\""));
    let (kind, detail) = match &event.what {
        What::Send => ("Send", r#""send":{}"#.to_owned()),
        What::Delivery(to) => {
            ("Delivery", format!(r#""delivery":{{"timestamp":"{now}","recipients":[{}]}}"#, quoted(&some(mail, to))))
        }
        What::Bounce(which, to) => {
            let (kind, sub, status, text, ..) = BOUNCES[*which];
            let failed = failed(&some(mail, to), status, text);
            let detail = format!(
                r#""bounce":{{"bounceType":"{kind}","bounceSubType":"{sub}","bouncedRecipients":[{failed}],"timestamp":"{now}","feedbackId":"f"}}"#
            );
            ("Bounce", detail)
        }
        What::Complaint(nth, feedback, sub) => {
            let recipient = |at: &usize| format!(r#"{{"emailAddress":"{}"}}"#, address(mail, *at, event.spelling));
            let list = complainers(mail, *nth).iter().map(recipient).collect::<Vec<_>>().join(",");
            let (feedback, sub) = (or_null(*feedback), or_null(*sub));
            let detail = format!(
                r#""complaint":{{"feedbackId":"c{nth}","complaintSubType":{sub},"complaintFeedbackType":{feedback},"complainedRecipients":[{list}],"timestamp":"{now}"}}"#
            );
            ("Complaint", detail)
        }
        What::Delay(which, to) => {
            let (kind, status, text, ..) = DELAYS[*which];
            let failed = failed(&some(mail, to), status, text);
            let detail = format!(
                r#""deliveryDelay":{{"delayType":"{kind}","delayedRecipients":[{failed}],"timestamp":"{now}"}}"#
            );
            ("DeliveryDelay", detail)
        }
        What::Reject => ("Reject", r#""reject":{"reason":"Bad content"}"#.to_owned()),
        What::RenderingFailure => {
            ("Rendering Failure", r#""failure":{"templateName":"t","errorMessage":"no"}"#.to_owned())
        }
        What::Open(bot) | What::Click(bot) => {
            let likely = if *bot { "Likely" } else { "Unlikely" };
            let (kind, key) = if matches!(event.what, What::Open(_)) { ("Open", "open") } else { ("Click", "click") };
            (kind, format!(r#""{key}":{{"timestamp":"{now}","isBotEvent":"{likely}"}}"#))
        }
        What::Subscription => ("Subscription", format!(r#""subscription":{{"contactList":"l","timestamp":"{now}"}}"#)),
    };
    let accepted = iso(Now(NOW.0 - i64::from(mail.age) * MINUTE_MILLIS));
    let everybody: Vec<usize> = (0..mail.to.len()).collect();
    let mut tags = vec![];
    for (name, value) in [
        ("ses:configuration-set", mail.set),
        ("ses:from-domain", mail.from_domain),
        ("ses:tenant-name", mail.tenant),
        ("campaign", mail.campaign),
    ] {
        tags.extend(value.map(|value| format!(r#""{name}":["{value}"]"#)));
    }
    format!(
        r#"{{"eventType":"{kind}","mail":{{"timestamp":"{accepted}","messageId":"m{index}","source":"News <news@Mail.Example.com>","destination":[{}],"tags":{{{}}}}},{detail}}}"#,
        quoted(&everybody),
        tags.join(","),
    )
}

/// What the table counts for each event: kinds, each with the recipients it is about.
fn recount(mails: &[Mail], events: &[Event], now_minute: u32) -> Rows {
    let mut seen: BTreeSet<(usize, UnitKind, String)> = BTreeSet::new();
    let mut rows = Rows::new();
    for Event { mail: index, what, .. } in events {
        let mail = &mails[*index];
        let isp_of = |place: usize| DOMAINS[mail.to[place]].1;
        let mut facts: Vec<(UnitKind, String, &str)> = Vec::new();
        let mut about = |kind, places: &[usize]| {
            for place in places {
                if let Some(isp) = isp_of(*place) {
                    // Two places of one mail may be at one domain, but have different local parts.
                    facts.push((kind, format!("recipient {place}"), isp));
                }
            }
        };
        match what {
            What::Send => about(UnitKind::Sent, &(0..mail.to.len()).collect::<Vec<_>>()),
            What::Delivery(to) => about(UnitKind::Delivered, &some(mail, to)),
            What::Bounce(which, to) => {
                let (.., kind, block) = BOUNCES[*which];
                if let Some(kind) = kind {
                    about(kind, &some(mail, to));
                }
                if block {
                    about(UnitKind::Block, &some(mail, to));
                }
            }
            What::Delay(which, to) => {
                let (.., kind, block) = DELAYS[*which];
                about(kind, &some(mail, to));
                if block {
                    about(UnitKind::Block, &some(mail, to));
                }
            }
            What::Complaint(_, Some("not-spam"), _) | What::Complaint(_, _, Some(_)) => {}
            What::Complaint(nth, ..) => {
                let isp = complainers(mail, *nth).into_iter().find_map(isp_of);
                facts.extend(isp.map(|isp| (UnitKind::Complaint, format!("feedback {nth}"), isp)));
            }
            What::Open(true) | What::Click(true) | What::Subscription => {}
            What::Reject | What::RenderingFailure | What::Open(false) | What::Click(false) => {
                let kind = if matches!(what, What::Reject) {
                    UnitKind::Reject
                } else if matches!(what, What::RenderingFailure) {
                    UnitKind::RenderingFailure
                } else if matches!(what, What::Open(_)) {
                    UnitKind::Open
                } else {
                    UnitKind::Click
                };
                let isps: BTreeSet<&str> = (0..mail.to.len()).filter_map(isp_of).collect();
                let one = if isps.len() == 1 { isps.first().copied() } else { Some("other") };
                facts.extend(one.filter(|_| !isps.is_empty()).map(|isp| (kind, String::new(), isp)));
            }
        }
        for (kind, about, isp) in facts {
            if !seen.insert((*index, kind, about)) {
                continue;
            }
            let mut subjects = vec![
                Subject::ConfigurationSet(mail.set.unwrap_or("(none)").into()),
                Subject::Identity(mail.from_domain.unwrap_or("mail.example.com").into()),
            ];
            subjects.extend(mail.tenant.map(|name| Subject::Tenant(name.into())));
            subjects.extend(mail.campaign.map(|value| Subject::Tag("campaign".into(), value.into())));
            let minute = now_minute - mail.age;
            let map = Policy::from_toml(POLICY).expect("valid by construction").isp_map;
            let is_at_business = kind == UnitKind::HardBounce && ["other", "google-workspace"].contains(&isp);
            let has_cause = is_at_business || kind == UnitKind::Complaint;
            let isp = map.by_name(isp).expect("valid by construction");
            let cohorts = [
                ("minute", minute, mail.age <= 2 * 1440),
                // Hours are whole: the oldest one is kept as long as its last minute would be.
                ("hour", minute / 60 * 60, minute >= (now_minute - 35 * 1440) / 60 * 60),
                ("day", minute / 1440 * 1440, true),
            ];
            for subject in &subjects {
                for isp in [Some(isp), None] {
                    for (length, from, _) in cohorts.iter().filter(|(.., kept)| *kept) {
                        let held: &mut Increment =
                            rows.entry((subject.clone(), isp, length, Minute(*from), kind)).or_default();
                        held.count += 1;
                        held.causes.count += u32::from(has_cause);
                    }
                }
            }
        }
    }
    rows
}

fn mails() -> impl Strategy<Value = Vec<Mail>> {
    let age = prop_oneof![
        6 => 0u32..300,
        2 => 300u32..3_000,
        // Around the limits of what is kept.
        1 => 2_879u32..2_882,
        1 => (35 * 1440 - 61)..(35 * 1440 + 62u32),
    ];
    let set = prop::sample::select(vec![None, Some("news"), Some("receipts")]);
    let from = prop::sample::select(vec![None, Some("mail.example.com"), Some("shop.example.com")]);
    let tenant = prop::sample::select(vec![None, Some("t-1")]);
    let campaign = prop::sample::select(vec![None, Some("autumn"), Some("spring")]);
    let to = prop::collection::vec(0..DOMAINS.len(), 1..4);
    let mail = (age, set, from, tenant, campaign, to).prop_map(|(age, set, from_domain, tenant, campaign, to)| Mail {
        age,
        set,
        from_domain,
        tenant,
        campaign,
        to,
    });
    prop::collection::vec(mail, 1..5)
}

fn what() -> impl Strategy<Value = What> {
    let to = || prop::collection::vec(0usize..4, 0..4);
    let feedback = prop::sample::select(vec![None, Some("abuse"), Some("fraud"), Some("not-spam")]);
    let sub = prop_oneof![4 => Just(None), 1 => Just(Some("OnAccountSuppressionList")), 1 => Just(Some("OnTenantSuppressionList"))];
    prop_oneof![
        3 => Just(What::Send),
        3 => to().prop_map(What::Delivery),
        4 => (0..BOUNCES.len(), to()).prop_map(|(which, to)| What::Bounce(which, to)),
        3 => (0usize..3, feedback, sub).prop_map(|(nth, feedback, sub)| What::Complaint(nth, feedback, sub)),
        3 => (0..DELAYS.len(), to()).prop_map(|(which, to)| What::Delay(which, to)),
        1 => Just(What::Reject),
        1 => Just(What::RenderingFailure),
        1 => prop::bool::ANY.prop_map(What::Open),
        1 => prop::bool::ANY.prop_map(What::Click),
        1 => Just(What::Subscription),
    ]
}

fn events() -> impl Strategy<Value = (Vec<Mail>, Vec<Event>)> {
    (mails(), prop::collection::vec((0usize..100, what(), 0usize..4), 0..40)).prop_map(|(mails, events)| {
        let events = events
            .into_iter()
            .map(|(mail, what, spelling)| Event { mail: mail % mails.len(), what, spelling })
            .collect();
        (mails, events)
    })
}

/// The rows after these events arrived in batches of these lengths.
fn counted(mails: &[Mail], events: &[Event], batches: &mut dyn FnMut() -> usize) -> Rows {
    let mut fixture = Fixture::new(Policy::from_toml(POLICY).expect("valid by construction"));
    let mut rest = events;
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(batches().clamp(1, rest.len()));
        rest = after;
        let mut units = Vec::new();
        for event in batch {
            let (outcome, of_event) = fixture.classify(&json(event, event.mail, &mails[event.mail]));
            assert!(outcome.is_ok(), "{event:?}: {outcome:?}");
            units.extend(of_event);
        }
        fixture.add(&units, NOW);
    }
    rows(&fixture.store)
}

proptest! {
    #[test]
    fn counting_equals_a_naive_recount((mails, events) in events()) {
        let mut found = counted(&mails, &events, &mut || 1);
        // In which buckets domains and people are, only a hash knows.
        found.values_mut().for_each(|held| held.causes.buckets = Buckets::default());
        let expected = recount(&mails, &events, NOW.minute().0);
        let keys: BTreeSet<_> = found.keys().chain(expected.keys()).cloned().collect();
        let differ: BTreeMap<_, _> = keys
            .into_iter()
            .map(|key| (key.clone(), (found.get(&key), expected.get(&key))))
            .filter(|(_, (found, expected))| found != expected)
            .collect();
        prop_assert!(differ.is_empty(), "row: (found, expected) {differ:#?}");
    }

    #[test]
    fn order_duplicates_and_cuts_do_not_show_in_the_rows((mails, events) in events(), seed in any::<u64>()) {
        let once = counted(&mails, &events, &mut || 1);
        let mut rng = Rng(seed);
        let mut doubled: Vec<Event> = [&events[..], &events[..]].concat();
        rng.shuffle(&mut doubled);
        let shuffled = counted(&mails, &doubled, &mut || 1 + rng.below(7));
        prop_assert_eq!(&shuffled, &once);
        let at_once = counted(&mails, &events, &mut || usize::MAX);
        prop_assert_eq!(&at_once, &once);
    }
}
