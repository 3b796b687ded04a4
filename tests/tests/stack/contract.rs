//! One contract, two stores: for any calls in any order, the tables answer as memory does.

use std::collections::{BTreeMap, BTreeSet};

use aws::quotas::DynamoQuotas;
use aws::reputation::{DynamoReputation, LIMITS};
use e2e::cloud::Cloud;
use e2e::stack::Stack;
use pipeline::Senders;
use pipeline::control::Flow;
use pipeline::evaluate::{apply_input, evaluate, evaluate_account, tick};
use pipeline::fold::{Limits, fold};
use pipeline::memory::{MemoryQuotas, MemoryReputation};
use pipeline::notice::{Alerts, Message, Notice, Outbox, deliver};
use pipeline::ports::{
    Change, DesiredStates, Doubt, FailedCalls, OtherStack, PortError, Quota, Quotas, Reputation, Saved, Seen, Spent,
};
use pipeline::stream::{Record, Shard};
use reputation::breaker::Input;
use reputation::grouped::Bucket;
use reputation::permit::{Lease, LeaseId, MarkMove, Meter, Nanos, Schedule, Spend};
use reputation::policy::Policy;
use reputation::time::Now;
use reputation::unit::{SenderId, Unit, UnitKey, UnitKind};
use reputation::warmup::{Growth, Move, Ramp};
use reputation::{Isp, Key, Minute, Subject};

use super::mail::Rng;

const START: Now = Now(1_791_273_600_000);

/// All answers of a store.
async fn everything<S: Reputation + DesiredStates + Outbox>(store: &mut S, subjects: &[Subject], now: Now) -> String {
    let mut answers = format!("{:#?}\n", store.board(now).await.unwrap());
    for subject in subjects {
        let subject_state = store.subject_state(subject, now).await.unwrap();
        answers.push_str(&format!("{subject} {} {:?}\n", subject_state.protected, subject_state.breakers));
        let isps: Vec<Isp> = subject_state.timeline.isps().collect();
        for isp in std::iter::once(None).chain(isps.into_iter().map(Some)) {
            let cells = subject_state.timeline.cells(isp, &[], Minute(0), now);
            // An ISP whose mail is all out of reach is known to one store and not to the other: it is not judged.
            if !cells.is_empty() {
                answers.push_str(&format!("  {isp:?} {cells:?}\n"));
            }
        }
    }
    answers.push_str(&format!("{:#?}\n{:#?}", store.desired_states().await.unwrap(), store.unsent().await.unwrap()));
    answers.push_str(&format!("\n{:#?}", store.alert_queue().await.unwrap()));
    answers
}

/// Accepts all messages, some of them only at the second attempt.
struct Post {
    broken: bool,
}

impl Alerts for Post {
    async fn write(&mut self, _: &Message) -> Result<(), PortError> {
        let (operation, reason) = ("sending", "a broken line".to_owned());
        let error = PortError { operation, reason, disposition: pipeline::Disposition::Retry };
        if std::mem::take(&mut self.broken) { Err(error) } else { Ok(()) }
    }

    async fn report(&mut self, _: &Notice, _: &str) -> Result<(), PortError> {
        Ok(())
    }
}

struct Act {
    units: Vec<Unit>,
    limits: Limits,
    kind: usize,
    subject: Subject,
    isp: Option<Isp>,
}

struct Sequence {
    next: u64,
}

async fn perform<S: Reputation + DesiredStates + Outbox>(
    policy: &Policy,
    store: &mut S,
    senders: &Senders,
    act: &Act,
    first: u64,
    now: Now,
) -> Vec<Change> {
    let number = |(index, unit): (usize, &Unit)| Record { sequence: (first + index as u64).into(), unit: *unit };
    let records: Vec<Record> = act.units.iter().enumerate().map(number).collect();
    let shard = Shard::new(if act.kind.is_multiple_of(2) { "even" } else { "odd" });
    fold(store, &shard, &records, senders, act.limits, now).await.unwrap();
    // Again, cut elsewhere: it adds nothing.
    for start in [0, records.len() / 2] {
        fold(store, &shard, &records[start..], senders, Limits::NONE, now).await.unwrap();
    }
    if let Some(last) = records.last() {
        assert_eq!(store.mark(&shard).await.unwrap(), Some(last.sequence));
    }
    let mut touched: BTreeMap<&Subject, BTreeSet<Isp>> = BTreeMap::new();
    for unit in &act.units {
        for subject in senders.subjects(unit.sender) {
            touched.entry(subject).or_default().insert(unit.isp);
        }
    }
    let mut changes = Vec::new();
    for (subject, isps) in touched {
        changes.extend(evaluate(policy, store, subject, &isps, now).await.unwrap());
    }
    let key = Key { subject: act.subject.clone(), isp: act.isp };
    changes.extend(match act.kind {
        0..6 => tick(policy, store, now).await.unwrap(),
        6 => evaluate_account(policy, store, now).await.unwrap(),
        7 => apply_input(policy, store, &key, Input::PersonStops, now).await.unwrap(),
        8 => apply_input(policy, store, &key, Input::PersonResumes, now).await.unwrap(),
        9 => apply_input(policy, store, &key, Input::PersonBypasses, now).await.unwrap(),
        10 => apply_input(policy, store, &key, Input::PersonShadows, now).await.unwrap(),
        _ => apply_input(policy, store, &key, Input::PersonReleases, now).await.unwrap(),
    });
    for mut desired in store.desired_states().await.unwrap() {
        if act.kind.is_multiple_of(2) {
            (desired.observed, desired.in_flight, desired.checked) = (Some(desired.flow), None, Some(now));
            if act.kind.is_multiple_of(4) {
                // Every field that can be recorded, which other acts clear again.
                (desired.in_flight, desired.written, desired.marking) =
                    (Some(Flow::Flowing), Some(now), Some(desired.flow));
                (desired.gone, desired.again) = (Some(now), Some(now));
                desired.doubt = Some(Doubt { seen: Seen::Gone, since: now });
                desired.other = Some(OtherStack { stack: "other".to_owned(), since: now });
                let error = "AccessDeniedException: why".to_owned();
                desired.trouble = Some(FailedCalls { failures: 3, denied: Some(now), error });
            } else {
                (desired.written, desired.marking, desired.gone, desired.again) = (None, None, None, None);
                (desired.doubt, desired.other, desired.trouble) = (None, None, None);
            }
            assert_eq!(store.note(&desired).await.unwrap(), Saved::Saved);
            // Under an outdated version, nothing is recorded or deleted.
            assert_eq!(store.note(&desired).await.unwrap(), Saved::Conflict);
            assert_eq!(store.forget(&desired).await.unwrap(), Saved::Conflict);
            assert_eq!(store.renew(&desired).await.unwrap(), Saved::Conflict);
        }
    }
    if act.kind == 5 {
        for desired in store.desired_states().await.unwrap() {
            assert_eq!(store.forget(&desired).await.unwrap(), Saved::Saved);
            assert_eq!(store.note(&desired).await.unwrap(), Saved::Conflict);
            assert_eq!(store.renew(&desired).await.unwrap(), Saved::Saved);
        }
    }
    if act.kind == 3 {
        let unsent = store.unsent().await.unwrap();
        let ids: Vec<String> = unsent.iter().take(3).map(|notice| notice.id.clone()).collect();
        store.sent(&ids).await.unwrap();
        // Marking as sent twice has no further effect.
        store.sent(&ids).await.unwrap();
    }
    if act.kind.is_multiple_of(3) {
        let mut post = Post { broken: act.kind == 6 };
        // The queue that is left is read by `everything`.
        let _ = deliver(policy, store, &mut post, now).await;
        let alert_queue = store.alert_queue().await.unwrap();
        assert_eq!(store.keep(&alert_queue).await.unwrap(), Saved::Saved);
        // Under an outdated version, nothing is kept.
        assert_eq!(store.keep(&alert_queue).await.unwrap(), Saved::Conflict);
    }
    changes
}

async fn compare(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let text = "[subjects]\nprotected = [\"configuration-set:reset\"]\n[store]\nlanes = 3\n[gate]\nin_use = ";
    let policy = Policy::from_toml(&format!("{text}{}", seed.is_multiple_of(2))).unwrap();
    let cloud = Cloud::new();
    let stack = Stack::new(&cloud, true);
    let mut tables = DynamoReputation::new(stack.cloud.clients().dynamodb(), e2e::cloud::REPUTATION, &policy);
    let mut memory = MemoryReputation::under(&policy);
    let mut senders = Senders::default();
    let lists = [
        "configuration-set:a identity:x.example",
        "configuration-set:b identity:y.example tenant:t",
        "configuration-set:c identity:z.example tag:campaign=autumn",
        "configuration-set:reset identity:x.example",
    ];
    let lists: Vec<Vec<Subject>> =
        lists.iter().map(|list| list.split(' ').map(|name| name.parse().unwrap()).collect()).collect();
    senders.join(&lists);
    let mut subjects: Vec<Subject> = lists.concat();
    subjects.sort();
    subjects.dedup();
    subjects.push(Subject::Account);
    let isps: Vec<Isp> = ["gmail", "microsoft", "other"].map(|name| policy.isp_map.by_name(name).unwrap()).into();
    let mut now = START;
    let mut sequence = Sequence { next: 1 };
    for step in 0..40 {
        now = Now(now.0 + [1_000, 20_000, 60_000, 1_800_000, 7_200_000, 86_400_000][rng.below(6)]);
        let mut units = Vec::new();
        for _ in 0..rng.below(4) {
            let (sender, isp) = (SenderId(rng.below(4) as u32), isps[rng.below(3)]);
            let cohort = now.minute().minus([0, 1, 30, 200, 3_000, 20_000][rng.below(6)] + rng.below(3) as u32);
            let bad = [0, 3, 30][rng.below(3)];
            for mail in 0..rng.below(80) {
                let kind = if rng.chance(bad) { UnitKind::HardBounce } else { UnitKind::Delivered };
                for kind in [UnitKind::Sent, kind] {
                    let key = UnitKey(u128::from(seed) << 64 | (step << 32 | mail) as u128);
                    let bucket =
                        (kind == UnitKind::HardBounce && isp == isps[2]).then(|| Bucket::new(rng.below(80) as u8));
                    units.push(Unit { key, kind, isp, cohort, sender, bucket: bucket.flatten() });
                }
            }
        }
        let limits = if rng.chance(50) { LIMITS } else { Limits { rows: 9, counters: 2 } };
        let isp = rng.chance(50).then(|| isps[rng.below(3)]);
        let subject = subjects[rng.below(subjects.len() - 1)].clone();
        let act = Act { units, limits, kind: rng.below(24) / 2, subject, isp };
        let first = sequence.next;
        sequence.next += act.units.len() as u64 + 1;
        let expected = perform(&policy, &mut memory, &senders, &act, first, now).await;
        let found = perform(&policy, &mut tables, &senders, &act, first, now).await;
        assert_eq!(found, expected, "seed {seed}, step {step}");
        let expected = everything(&mut memory, &subjects, now).await;
        let found = everything(&mut tables, &subjects, now).await;
        if found != expected {
            let differ = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
            panic!("seed {seed}, step {step} at {now}: {differ:#?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tables_answer_as_memory_does() {
    for seed in 0..4 {
        compare(seed).await;
    }
}

/// An operation on a quota.
enum QuotaAct {
    Open(Option<Quota>, Quota),
    Set(Ramp, Ramp),
    Spend(Spend, Lease, Vec<LeaseId>),
    TakeBack(Lease, u64),
}

async fn perform_quota<Q: Quotas>(quotas: &Q, set: &str, isp: Isp, act: &QuotaAct) -> String {
    match act {
        QuotaAct::Open(old, new) => format!("{:?}", quotas.open(set, isp, old.as_ref(), new).await),
        QuotaAct::Set(old, new) => format!("{:?}", quotas.set(set, isp, old, new).await),
        QuotaAct::Spend(spend, lease, forgotten) => {
            let spent = quotas.spend(set, isp, spend, lease, forgotten).await.unwrap();
            match spent {
                Spent::Granted(quota) => format!("granted {:?}", sorted(quota)),
                Spent::Refused(quota) => format!("refused {:?}", quota.map(sorted)),
            }
        }
        QuotaAct::TakeBack(lease, unused) => {
            format!("{:?}", quotas.take_back(set, isp, lease, *unused, START).await)
        }
    }
}

/// Leases have no order.
fn sorted(mut quota: Quota) -> Quota {
    quota.leases.sort_by_key(|lease| lease.id);
    quota
}

fn any_quota(rng: &mut Rng) -> Quota {
    let ramp = Ramp {
        day: 20_778 + rng.below(2) as i32,
        quota: [100, 200][rng.below(2)],
        reach: 200,
        step: [Move::Grew { from: 50 }, Move::Trickled { reach: 200 }][rng.below(2)],
        anchor: rng.chance(50),
        sending_days: 3,
        idle_days: 0,
        peak: 20,
        peak_age: 1,
        borne: 0,
        growth: rng.chance(50).then_some(Growth(1_400)),
        ceiling: 0,
        ceiling_age: 0,
        demoted: rng.chance(50).then_some(START),
    };
    // The same for a day, because there is one ramp of each.
    let ramp =
        Ramp { step: Move::Grew { from: ramp.quota }, anchor: ramp.quota == 100, demoted: None, growth: None, ..ramp };
    Quota { ramp, meter: Meter { bulk: 0, critical: 0, short: false, mark: Nanos::of(START) }, leases: Vec::new() }
}

fn any_act(rng: &mut Rng, known: Option<&Quota>, leases: &[Lease]) -> QuotaAct {
    let now = Nanos::of(START);
    let some_lease = |rng: &mut Rng| leases.get(rng.below(leases.len().max(1))).cloned();
    match (rng.below(11), some_lease(rng)) {
        (10, _) => {
            let mut old = known.map_or_else(|| any_quota(rng).ramp, |known| known.ramp.clone());
            match rng.below(8) {
                0 => old.day -= 1,
                1 => old.quota += 1,
                2 => old.step = Move::Set { from: 1 },
                _ => {}
            }
            let new = Ramp { day: old.day, step: Move::Set { from: old.quota }, ..any_quota(rng).ramp };
            QuotaAct::Set(old, new)
        }
        (0, _) => {
            let mut old = known.cloned().filter(|_| rng.chance(90));
            if let Some(old) = old.as_mut().filter(|_| rng.chance(50)) {
                match rng.below(5) {
                    0 => old.ramp.day -= 1,
                    1 => old.ramp.quota += 1,
                    2 => old.meter.bulk += 1,
                    3 => old.meter.critical += 1,
                    _ => old.meter.mark.0 -= 1,
                }
            }
            QuotaAct::Open(old, any_quota(rng))
        }
        (1..4, Some(mut lease)) => {
            if let Some(here) = known.and_then(|quota| quota.leases.first()).filter(|_| rng.chance(60)) {
                lease = here.clone();
            }
            match rng.below(20) {
                0 => lease.bulk += 1,
                1 => lease.critical += 1,
                2 => lease.interval += 1,
                3 => lease.expires.0 += 1,
                4 => lease.id = LeaseId(99),
                _ => {}
            }
            let unused = rng.below(lease.mails() as usize + 2) as u64;
            lease.day += i32::from(rng.chance(10));
            QuotaAct::TakeBack(lease, unused)
        }
        _ => {
            let (bulk, critical) = (rng.below(3) as u64 * 7, rng.below(3) as u64 * 2);
            let interval = [1, 3_600_000_000][rng.below(2)];
            let mark = match rng.below(4) {
                0 => MarkMove::Stay,
                1 => MarkMove::Lift(Nanos(now.0 + rng.below(2) as i64 * 5), Nanos(now.0 + rng.below(3) as i64)),
                _ => {
                    let by = interval * bulk as i64;
                    let from = Nanos(now.0 + rng.below(3) as i64 - 1);
                    MarkMove::Advance(by, from, Nanos(now.0 + [-3, 0, 2_000_000_000_000][rng.below(3)]))
                }
            };
            let spend = Spend {
                day: known.map_or(20_778, |quota| quota.ramp.day + i32::from(rng.chance(5))),
                quota: known.map_or(100, |quota| quota.ramp.quota + u64::from(rng.chance(5))),
                bulk,
                most_bulk: [0, 30, 1_000][rng.below(3)],
                critical,
                short: rng.chance(50),
                most_critical: [0, 1_000][rng.below(2)],
                interval,
                mark,
            };
            // Some of one name.
            let id = |rng: &mut Rng| LeaseId((rng.below(12) as u64) << 16 | rng.below(2) as u64);
            let forgotten = (0..rng.below(3)).map(|_| id(rng)).collect();
            // With some, the mark is where giving the lease back expects it.
            let from = Nanos(now.0 + rng.below(3) as i64 - 1);
            let schedule = rng.chance(40).then_some(Schedule { from, mails: bulk / 2, slot: 2, granted: START });
            QuotaAct::Spend(spend, Lease::of(id(rng), &spend, schedule, START, 60_000), forgotten)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tables_keep_quotas_as_memory_does() {
    let policy = Policy::default();
    let isps = ["gmail", "web.de"].map(|name| policy.isp_map.by_name(name).unwrap());
    for seed in 0..4 {
        let mut rng = Rng::seeded(seed);
        let cloud = Cloud::new();
        let tables = DynamoQuotas::new(cloud.clients().dynamodb(), e2e::cloud::REPUTATION, policy.isp_map.clone());
        let memory = MemoryQuotas::default();
        let mut leases: Vec<Lease> = Vec::new();
        let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
        for step in 0..200 {
            let (set, isp) = (["news", "shop"][rng.below(2)], isps[rng.below(2)]);
            let known = memory.quota(set, isp).await.unwrap();
            leases.extend(known.iter().flat_map(|quota| quota.leases.clone()));
            leases.drain(..leases.len().saturating_sub(20));
            let act = any_act(&mut rng, known.as_ref(), &leases);
            let expected = perform_quota(&memory, set, isp, &act).await;
            let found = perform_quota(&tables, set, isp, &act).await;
            assert_eq!(found, expected, "seed {seed}, step {step}");
            *outcomes.entry(expected.chars().take_while(|c| *c != ' ').collect()).or_default() += 1;
            let one = tables.quota(set, isp).await.unwrap().map(sorted);
            assert_eq!(one, memory.quota(set, isp).await.unwrap().map(sorted), "seed {seed}, step {step}");
            for set in ["news", "shop"].into_iter().filter(|_| step % 20 == 0) {
                let all = |quotas: BTreeMap<Isp, Quota>| -> Vec<(Isp, Quota)> {
                    quotas.into_iter().map(|(isp, quota)| (isp, sorted(quota))).collect()
                };
                let (expected, found) = (memory.quotas(set).await.unwrap(), tables.quotas(set).await.unwrap());
                assert_eq!(all(found), all(expected), "seed {seed}, step {step}");
            }
        }
        for outcome in ["granted", "refused", "Ok(Saved)", "Ok(Conflict)", "Ok(true)", "Ok(false)"] {
            assert!(outcomes.get(outcome).is_some_and(|times| *times > 3), "{outcome} in {outcomes:?}");
        }
    }
}
