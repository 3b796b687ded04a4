//! The form of every kind of stored item: names and types of its attributes, which other releases read. A difference in
//! the snapshot is a change of `shared/aws/src/layout.rs` that releases before and after this one must be able to read.

use std::collections::BTreeMap;

use aws::layout::StackParameters;
use aws::quotas::DynamoQuotas;
use e2e::cloud::{Cloud, LEDGER, REPUTATION};
use e2e::stack::Stack;
use pipeline::control::Flow;
use pipeline::evaluate::apply_input;
use pipeline::ports::{
    DesiredState, DesiredStates as _, Doubt, FailedCalls, OtherStack, Quota, Quotas as _, Saved, Schedule as _, Seen,
    Sweep, SweepProgress,
};
use pipeline::stream::Shard;
use reputation::breaker::Input;
use reputation::detect::{Level, Rule, Verdict};
use reputation::judge::Judgement;
use reputation::permit::{Lease, LeaseId, Meter, Nanos, Schedule};
use reputation::time::Now;
use reputation::warmup::{Growth, Held, Move, Ramp};
use reputation::{Key, Metric, Subject, Tally};
use serde_json::Value;

use super::mail::{Mailbox, NEWS, Sender};

const START: Now = Now(1_791_273_600_000);
const POLICY: &str = "[gate]\nin_use = true\n\n[warmup.sets]\nnews = {}\n\n\
                      [subjects]\nprotected = [\"configuration-set:reset\"]\n";

/// Values that differ by run, hashes, texts for people, and JSON of its own.
const OPAQUE: [&str; 10] =
    ["bucket", "content", "detail", "key", "last", "other.domains", "text", "title", "toml", "unit"];

/// The attributes of an item as `name: TYPE value`, by name.
fn form(item: &Value) -> String {
    let attributes: BTreeMap<&String, &Value> = item.as_object().unwrap().iter().collect();
    let line = |(name, value): (&String, &Value)| {
        let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
        let value = if OPAQUE.contains(&name.as_str()) { "…".to_owned() } else { value.to_string() };
        format!("{name}: {kind} {value}")
    };
    attributes.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The kind of an item: what its keys begin with, and its attributes with their types.
fn kind(item: &Value) -> String {
    let beginning = |key: &str| {
        let key = item[key]["S"].as_str().unwrap_or("ledger");
        let name = key.split(['#', ':']).next().unwrap();
        if ["configuration-set", "identity"].contains(&name) { "subject".to_owned() } else { name.to_owned() }
    };
    let attributes: BTreeMap<&String, &String> = item
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name, value.as_object().unwrap().keys().next().unwrap()))
        .collect();
    // Of notices, quotas and the rows of a board, the range key is a name.
    let range =
        if ["subject", "clock", "fold"].contains(&beginning("pk").as_str()) { beginning("sk") } else { String::new() };
    format!("{} {range} {attributes:?}", beginning("pk"))
}

async fn news_is_bad_enough_to_be_stopped(stack: &mut Stack) {
    let mut mailbox = Mailbox::default();
    for mail in 0..60 {
        match mail % 4 {
            0 => mailbox.bounced(NEWS, "gmail.com", "gmail", START),
            _ => mailbox.delivered(NEWS, "gmail.com", "gmail", START),
        }
    }
    // A hard bounce at a business domain has more attributes.
    mailbox.bounced(NEWS, "company.example", "other", START);
    mailbox.delivered(Sender { set: "reset", ..NEWS }, "gmail.com", "gmail", START);
    let events: Vec<&str> = mailbox.events.iter().map(String::as_str).collect();
    assert_eq!(stack.ingest(&events, START).await, Ok(Vec::new()));
    let records = stack.cloud.stream(LEDGER);
    stack.fold(&records, START).await.unwrap();
    stack.tick(START).await.unwrap();
    stack.enforce(true, START).await.unwrap();
}

fn verdict(level: Level) -> Verdict {
    Verdict {
        level,
        metric: Metric::HardBounce,
        rule: Rule::Cusum { limit: 0.05, evidence: 34.5, threshold: 10.0, repeats: 0 },
        from: START.minute().minus(1),
        until: START.minute(),
        tally: Tally { population: 90, bad: 60 },
    }
}

/// Breakers in each state, with each override.
async fn breakers_move(stack: &Stack, policy: &reputation::Policy) {
    let mut store = stack.reputation();
    let throttle = Judgement { throttle: Some(verdict(Level::Throttle)), ..Judgement::default() };
    let pause = Judgement { pause: Some(verdict(Level::Pause)), ..Judgement::default() };
    let warn = Judgement { warn: Some(verdict(Level::Warn)), ..Judgement::default() };
    for (set, isp, input) in [
        ("throttled", Some("gmail"), Input::Judged(&throttle)),
        ("warned", None, Input::Judged(&warn)),
        ("harmful", None, Input::Judged(&pause)),
        ("stopped", None, Input::PersonStops),
        ("bypassed", None, Input::PersonBypasses),
        ("watched", None, Input::PersonShadows),
    ] {
        let isp = isp.map(|name| policy.isp_map.by_name(name).unwrap());
        let key = Key { subject: Subject::ConfigurationSet(set.into()), isp };
        apply_input(policy, &mut store, &key, input, START).await.unwrap();
    }
}

async fn desired_states_are_noted(stack: &Stack) {
    let mut store = stack.reputation();
    for (set, flow) in [("noted-fully", Flow::Stopped), ("noted-not", Flow::Flowing)] {
        let target = Subject::ConfigurationSet(set.into());
        let desired = DesiredState::new(target, flow, START, 1.5, "a reason".to_owned());
        assert_eq!(store.renew(&desired).await.unwrap(), Saved::Saved);
        if flow == Flow::Flowing {
            continue;
        }
        let error = "AccessDeniedException: why".to_owned();
        let noted = DesiredState {
            in_flight: Some(Flow::Flowing),
            observed: Some(Flow::Stopped),
            written: Some(START),
            marking: Some(Flow::Stopped),
            checked: Some(START),
            doubt: Some(Doubt { seen: Seen::Gone, since: START }),
            gone: Some(START),
            other: Some(OtherStack { stack: "other".to_owned(), since: START }),
            trouble: Some(FailedCalls { failures: 3, denied: Some(START), error }),
            again: Some(START),
            ..desired
        };
        assert_eq!(store.note(&noted).await.unwrap(), Saved::Saved);
    }
}

async fn quotas_are_opened(cloud: &Cloud, policy: &reputation::Policy) {
    let quotas = DynamoQuotas::new(cloud.clients().dynamodb(), REPUTATION, policy.isp_map.clone());
    let grown = Ramp {
        day: 20_778,
        quota: 500,
        reach: 600,
        step: Move::Grew { from: 250 },
        anchor: false,
        sending_days: 9,
        idle_days: 1,
        peak: 480,
        peak_age: 1,
        borne: 13,
        growth: Some(Growth(1_400)),
        ceiling: 410,
        ceiling_age: 5,
        demoted: Some(START),
    };
    let unused = Ramp { step: Move::Held(Held::Unused { used: 3, quota: 50 }), demoted: None, anchor: true, ..grown };
    let lease = Lease {
        id: LeaseId(0x00ab_54a9_8ceb_1f0a),
        day: 20_778,
        bulk: 100,
        critical: 2,
        interval: 96,
        expires: START.plus_minutes(1),
        schedule: None,
    };
    let schedule = Schedule { from: Nanos::of(START), mails: 80, slot: 20, granted: START };
    let scheduled = Lease { id: LeaseId(0x1b54_a98c_eb1f_0a00), schedule: Some(schedule), ..lease.clone() };
    let meter = Meter { bulk: 120, critical: 7, short: true, mark: Nanos::of(START) };
    for (isp, ramp, leases) in [("gmail", grown, vec![lease, scheduled]), ("microsoft", unused, Vec::new())] {
        let isp = policy.isp_map.by_name(isp).unwrap();
        let quota = Quota { ramp, meter, leases };
        assert_eq!(quotas.open("shop", isp, None, &quota).await.unwrap(), Saved::Saved);
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_stored_item_has_the_form_that_other_releases_read() {
    let cloud = Cloud::new();
    cloud.state().sets = [("news".to_owned(), true)].into();
    let policy = Stack::push(&cloud, POLICY).await.in_world(true);
    // Without a gate, so that `news` is stopped as a whole, and takes a place in the budget of pauses.
    let mut stack = Stack::new(&cloud, false);
    news_is_bad_enough_to_be_stopped(&mut stack).await;
    breakers_move(&stack, &policy).await;
    desired_states_are_noted(&stack).await;
    quotas_are_opened(&cloud, &policy).await;
    let mut store = stack.reputation();
    store
        .note_parameters(StackParameters {
            account: true,
            tenants: false,
            gate: Some(true),
            version: Some("0.1.0".to_owned()),
        })
        .await
        .unwrap();
    assert!(store.claim_export(START.minute()).await.unwrap());
    let after = Some(Subject::Identity("news.example".into()));
    let progress = SweepProgress { number: 29_854_560_u64.into(), after };
    for sweep in [Sweep::Hour, Sweep::Rejudge, Sweep::Batch(&Shard::new("shard-2"))] {
        store.set_progress(sweep, &progress).await.unwrap();
    }
    let mut items = [cloud.items(LEDGER), cloud.items(REPUTATION)].concat();
    items.sort_by_key(|item| (item["pk"]["S"].to_string(), item["sk"]["S"].to_string(), item["kind"]["S"].to_string()));
    // The first of each kind.
    let mut forms: BTreeMap<String, String> = BTreeMap::new();
    for item in &items {
        forms.entry(kind(item)).or_insert_with(|| form(item));
    }
    let forms: Vec<String> = forms.into_values().collect();
    insta::assert_snapshot!(forms.join("\n\n"));
}
