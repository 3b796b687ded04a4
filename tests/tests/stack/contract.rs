//! One contract, two stores: whatever is asked of them in whatever order, the tables answer as memory does.

use std::collections::{BTreeMap, BTreeSet};

use aws::reputation::{DynamoReputation, LIMITS};
use e2e::cloud::Cloud;
use e2e::stack::Stack;
use pipeline::Senders;
use pipeline::enforce::Wishes;
use pipeline::evaluate::{evaluate, evaluate_account, tell, tick};
use pipeline::fold::{Limits, Record, fold};
use pipeline::memory::MemoryReputation;
use pipeline::notice::Outbox;
use pipeline::ports::{Change, Reputation};
use reputation::breaker::Input;
use reputation::policy::Policy;
use reputation::time::Now;
use reputation::unit::{SenderId, Unit, UnitKey, UnitKind};
use reputation::{Isp, Key, Minute, Subject};

use super::mail::Dice;

const START: Now = Now(1_791_273_600_000);

/// What somebody who asks a store everything gets to know.
async fn everything<S: Reputation + Wishes + Outbox>(store: &mut S, subjects: &[Subject], now: Now) -> String {
    let mut told = format!("{:#?}\n", store.board(now).await.unwrap());
    for subject in subjects {
        let dossier = store.dossier(subject, now).await.unwrap();
        told.push_str(&format!("{subject} {} {:?}\n", dossier.protected, dossier.breakers));
        let isps: Vec<Isp> = dossier.timeline.isps().collect();
        for isp in std::iter::once(None).chain(isps.into_iter().map(Some)) {
            let cells = dossier.timeline.cells(isp, &[], Minute(0), now);
            // An ISP whose mail is all out of reach is known to one store and not to the other: nobody judges it.
            if !cells.is_empty() {
                told.push_str(&format!("  {isp:?} {cells:?}\n"));
            }
        }
    }
    told.push_str(&format!("{:#?}\n{:#?}", store.wishes().await.unwrap(), store.unsent().await.unwrap()));
    told
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

async fn perform<S: Reputation + Wishes + Outbox>(
    policy: &Policy,
    store: &mut S,
    senders: &Senders,
    act: &Act,
    first: u64,
    now: Now,
) -> Vec<Change> {
    let number = |(index, unit): (usize, &Unit)| Record { sequence: (first + index as u64).into(), unit: *unit };
    let records: Vec<Record> = act.units.iter().enumerate().map(number).collect();
    fold(store, &records, senders, act.limits, now).await.unwrap();
    // Told again, it adds nothing.
    fold(store, &records, senders, act.limits, now).await.unwrap();
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
        7 => tell(policy, store, &key, Input::PersonStops, now).await.unwrap(),
        8 => tell(policy, store, &key, Input::PersonResumes, now).await.unwrap(),
        9 => tell(policy, store, &key, Input::PersonHoldsClosed, now).await.unwrap(),
        _ => tell(policy, store, &key, Input::PersonReleases, now).await.unwrap(),
    });
    for mut wished in store.wishes().await.unwrap() {
        if act.kind.is_multiple_of(2) {
            (wished.made, wished.intent, wished.checked) = (Some(wished.wish), None, Some(now));
            store.note(&wished).await.unwrap();
            // Under a version that is over, nothing is noted.
            store.note(&wished).await.unwrap();
        }
    }
    if act.kind == 3 {
        for notice in store.unsent().await.unwrap() {
            store.sent(&notice.id).await.unwrap();
        }
    }
    changes
}

async fn compare(seed: u64) {
    let mut dice = Dice(seed);
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
    let isps: Vec<Isp> = ["gmail", "microsoft", "web.de"].map(|name| policy.isp_map.by_name(name).unwrap()).into();
    let mut now = START;
    let mut sequence = Sequence { next: 1 };
    for step in 0..40 {
        now = Now(now.0 + [1_000, 20_000, 60_000, 1_800_000, 7_200_000, 86_400_000][dice.below(6)]);
        let mut units = Vec::new();
        for _ in 0..dice.below(4) {
            let (sender, isp) = (SenderId(dice.below(4) as u32), isps[dice.below(3)]);
            let cohort = now.minute().minus([0, 1, 30, 200, 3_000, 20_000][dice.below(6)] + dice.below(3) as u32);
            let bad = [0, 3, 30][dice.below(3)];
            for mail in 0..dice.below(80) {
                let kind = if dice.chance(bad) { UnitKind::HardBounce } else { UnitKind::Delivered };
                for kind in [UnitKind::Sent, kind] {
                    let key = UnitKey(u128::from(seed) << 64 | (step << 32 | mail) as u128);
                    units.push(Unit { key, kind, isp, cohort, sender });
                }
            }
        }
        let limits = if dice.chance(50) { LIMITS } else { Limits { rows: 9, counters: 2 } };
        let isp = dice.chance(50).then(|| isps[dice.below(3)]);
        let subject = subjects[dice.below(subjects.len() - 1)].clone();
        let act = Act { units, limits, kind: dice.below(24) / 2, subject, isp };
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
