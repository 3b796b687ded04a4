//! What the tests share: mails and their SES events, the use cases over ports in memory, random numbers, and seeds.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::classify::{Classifier, Outcome, Refused};
use pipeline::evaluate::{evaluate, evaluate_account, tick};
use pipeline::fold::{Limits, fold};
use pipeline::memory::{MemoryLedger, MemoryReputation};
use pipeline::ports::{Change, Reputation, Versioned};
use pipeline::senders::Senders;
use pipeline::stream::{Increment, Record, Shard};
use reputation::breaker::BreakerState;
use reputation::time::MINUTE_MILLIS;
use reputation::unit::{SenderId, UnitKey};
use reputation::{Isp, Key, Minute, Now, Policy, Subject, Unit, UnitKind};
use ses_events::{Decoded, Decoder};

/// 2026-10-06 08:00 UTC.
pub(crate) const NOW: Now = Now(1_791_273_600_000);

/// The time `minutes` minutes after [`NOW`].
pub(crate) fn at(minutes: i64) -> Now {
    Now(NOW.0 + minutes * MINUTE_MILLIS)
}

/// A time as SES writes it.
pub(crate) fn iso(now: Now) -> String {
    now.to_string()
}

/// Numbers that look random and are the same for the same seed. SplitMix64 and no crate, because documents and
/// regressions name seeds of the simulations: another generator, or another release of one, would give them a different
/// meaning.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `sides`.
    pub(crate) fn below(&mut self, sides: usize) -> usize {
        (self.next() % sides.max(1) as u64) as usize
    }

    /// True with a probability of `percent` in a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// A number for a simulation, from the environment.
pub(crate) fn env_number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|number| number.parse().ok())
}

/// Runs a simulation for `seeds` seeds (or `SIMULATION_SEEDS` seeds, starting with `SIMULATION_FROM`), or only for
/// `SIMULATION_SEED`; a failure prints the seed and the command that replays it.
pub(crate) fn for_each_seed(name: &str, seeds: u64, simulate: impl Fn(u64) -> Result<(), String>) {
    let seeds = env_number("SIMULATION_SEEDS").unwrap_or(seeds);
    let from = env_number("SIMULATION_FROM").unwrap_or(0);
    for seed in env_number("SIMULATION_SEED").map_or(from..from + seeds, |seed| seed..seed + 1) {
        // A panic must also print how to replay it.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulate(seed)));
        let why = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(why)) => why,
            Err(_) => "it panicked: see above".to_owned(),
        };
        panic!(
            "seed {seed}: {why}\nreplay: SIMULATION_SEED={seed} cargo test -p ses-breaker-pipeline --test pipeline {name}"
        );
    }
}

/// Everything from events to breakers.
pub(crate) struct Fixture {
    pub(crate) policy: Policy,
    pub(crate) classifier: Classifier,
    pub(crate) ledger: MemoryLedger,
    pub(crate) senders: Senders,
    pub(crate) store: MemoryReputation,
    sequence: u64,
    made: u128,
}

impl Fixture {
    pub(crate) fn new(policy: Policy) -> Fixture {
        Fixture {
            classifier: Classifier::new(&policy, [7; 16]),
            ledger: MemoryLedger::default(),
            senders: Senders::default(),
            store: MemoryReputation::new(&policy.isp_map),
            policy,
            sequence: 0,
            made: 0,
        }
    }

    /// The units of one event.
    pub(crate) fn classify(&mut self, json: &str) -> (Result<Outcome, Refused>, Vec<Unit>) {
        let (mut units, mut outcome) = (Vec::new(), None);
        Decoder::new().decode(json.as_bytes(), |decoded| match decoded {
            Decoded::Event(event) => {
                outcome = Some(self.classifier.classify(&event, NOW.0, &mut self.senders, &mut units));
            }
            other @ (Decoded::Ignored(_) | Decoded::Rejected(_)) => panic!("{json} is not an event: {other:?}"),
        });
        (outcome.expect("decoding calls back"), units)
    }

    /// Records and folds units.
    pub(crate) fn add(&mut self, units: &[Unit], now: Now) {
        pollster::block_on(async {
            let fresh: Vec<bool> = units.iter().map(|unit| self.ledger.insert(unit)).collect();
            let records: Vec<Record> = units
                .iter()
                .zip(fresh)
                .filter(|(_, fresh)| *fresh)
                .map(|(unit, _)| {
                    self.sequence += 1;
                    Record { sequence: self.sequence.into(), unit: *unit }
                })
                .collect();
            let shard = Shard::new("all");
            let folded = fold(&mut self.store, &shard, &records, &self.senders, Limits::NONE, now).await;
            folded.expect("valid by construction");
        });
    }

    /// Classifies, records and folds one event.
    pub(crate) fn feed(&mut self, json: &str, now: Now) -> Result<Outcome, Refused> {
        let (outcome, units) = self.classify(json);
        self.add(&units, now);
        outcome
    }

    pub(crate) fn isp(&self, name: &str) -> Isp {
        self.policy.isp_map.by_name(name).expect("valid by construction")
    }

    pub(crate) fn sender(&mut self, set: &str, identity: &str) -> SenderId {
        self.senders.intern(&format!("{set}\0{identity}"), || vec![set_of(set), identity_of(identity)])
    }

    /// Units about different mails.
    pub(crate) fn units(
        &mut self,
        sender: SenderId,
        isp: Isp,
        cohort: Minute,
        counts: &[(UnitKind, u32)],
    ) -> Vec<Unit> {
        let mut units = Vec::new();
        for (kind, count) in counts {
            for _ in 0..*count {
                self.made += 1;
                // The ledger in memory distributes keys by their bits, which must look like those of a hash.
                let key = UnitKey(self.made.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
                units.push(Unit { key, kind: *kind, isp, cohort, sender, bucket: None });
            }
        }
        units
    }

    /// Mails of one minute: `bounces` of them bounce hard, and the others are delivered.
    pub(crate) fn mail(
        &mut self,
        (set, identity): (&str, &str),
        isp: &str,
        minute: Minute,
        mails: u32,
        bounces: u32,
        now: Now,
    ) {
        let (sender, isp) = (self.sender(set, identity), self.isp(isp));
        let counts = [(UnitKind::Sent, mails), (UnitKind::Delivered, mails - bounces), (UnitKind::HardBounce, bounces)];
        let units = self.units(sender, isp, minute, &counts);
        self.add(&units, now);
    }

    /// Judges all subjects, and does the scheduled work.
    pub(crate) fn evaluate(&mut self, now: Now) -> Vec<Change> {
        let subjects = subjects(&self.store);
        let changes = evaluate_all(&self.policy, &mut self.store, &subjects, now);
        changes.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn breaker(&mut self, subject: &Subject, isp: Option<&str>) -> BreakerState {
        let isp = isp.map(|name| self.isp(name));
        self.store.find(subject).map(|subject_state| subject_state.breaker(isp).breaker).unwrap_or_default()
    }

    pub(crate) fn state(&mut self, subject: &Subject, isp: Option<&str>) -> &'static str {
        self.breaker(subject, isp).state.name().name()
    }
}

pub(crate) fn set_of(name: &str) -> Subject {
    Subject::ConfigurationSet(name.into())
}

pub(crate) fn identity_of(domain: &str) -> Subject {
    Subject::Identity(domain.into())
}

/// The subjects with mail, each with its ISPs.
pub(crate) fn subjects(store: &MemoryReputation) -> Vec<(Subject, BTreeSet<Isp>)> {
    let known = store.subject_states().filter(|(subject, _)| **subject != Subject::Account);
    known.map(|(subject, subject_state)| (subject.clone(), subject_state.timeline.isps().collect())).collect()
}

/// Judges these subjects and the account, and does the scheduled work.
pub(crate) fn evaluate_all<R: Reputation>(
    policy: &Policy,
    store: &mut R,
    subjects: &[(Subject, BTreeSet<Isp>)],
    now: Now,
) -> Result<Vec<Change>, pipeline::PortError> {
    pollster::block_on(async {
        let mut changes = Vec::new();
        for (subject, isps) in subjects {
            changes.extend(evaluate(policy, store, subject, isps, now).await?);
        }
        changes.extend(evaluate_account(policy, store, now).await?);
        changes.extend(tick(policy, store, now).await?);
        Ok(changes)
    })
}

/// All breakers that were ever saved, with their versions.
pub(crate) fn breakers(store: &MemoryReputation) -> BTreeMap<Key, Versioned> {
    let mut all = BTreeMap::new();
    for (subject, subject_state) in store.subject_states() {
        for (isp, known) in &subject_state.breakers {
            all.insert(Key { subject: subject.clone(), isp: *isp }, known.clone());
        }
    }
    all
}

/// How many units of a kind a row holds, and which of them are bounces at business domains.
pub(crate) type Rows = BTreeMap<(Subject, Option<Isp>, &'static str, Minute, UnitKind), Increment>;

/// All rows of a store: those of minutes, hours and days, at each ISP and over all.
pub(crate) fn rows(store: &MemoryReputation) -> Rows {
    let mut rows = Rows::new();
    for (subject, subject_state) in store.subject_states() {
        let timeline = &subject_state.timeline;
        for isp in timeline.isps().map(Some).chain([None]) {
            let Some(series) = timeline.series(isp) else { continue };
            // Relative to a time long ago, all cohorts are recent, so they are shown by the minute.
            let minutes = timeline.cells(isp, &[], Minute(0), Now(0)).into_iter();
            let minutes = minutes.filter(|cell| cell.until.0 - cell.from.0 == 1).map(|cell| (cell.from, cell.counters));
            let cells = minutes.map(|(from, counters)| ("minute", from, counters));
            let cells = cells.chain(series.hours().map(|(from, counters)| ("hour", from, *counters)));
            let cells = cells.chain(series.days().map(|(from, counters)| ("day", from, *counters)));
            for (length, from, counters) in cells {
                for kind in UnitKind::ALL.into_iter().filter(|kind| counters.get(*kind) > 0) {
                    let held = Increment { count: counters.get(kind), causes: counters.causes(kind) };
                    rows.insert((subject.clone(), isp, length, from, kind), held);
                }
            }
        }
    }
    rows
}
