//! Folding under crashes: whatever fails, is told again, is cut elsewhere or comes interleaved, the rows are the truth.
//!
//! What a reader of a stream may be given is what `fold` says it may: a batch begins at a record that was never given
//! before, once all before it is confirmed; or where an earlier batch or one of its chunks began. It ends anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline::fold::{Fold, Limits, Record, Sequence, fold};
use pipeline::memory::MemoryReputation;
use pipeline::ports::{Board, Change, Committed, Disposition, Dossier, Reputation, Saved};
use pipeline::{PortError, Senders};
use reputation::unit::{SenderId, UnitKey};
use reputation::{Isp, IspMap, Minute, Subject, Timeline, Unit, UnitKind};

use super::world::{Dice, NOW, Rows, for_each_seed, rows};

/// A store that fails before or after it has done what it was asked, and checks what it is asked.
struct Unreliable<'a> {
    store: &'a mut MemoryReputation,
    dice: Dice,
    /// In a hundred.
    failures: usize,
    limits: Limits,
    /// First sequence numbers of the chunks that it was given, whether they were added or not.
    begun: BTreeSet<Sequence>,
}

fn crash() -> PortError {
    PortError { operation: "commit", reason: "the process was stopped".into(), disposition: Disposition::Retry }
}

impl Reputation for Unreliable<'_> {
    async fn commit(&mut self, fold: &Fold<'_>, now: reputation::Now) -> Result<Committed, PortError> {
        let rows = fold.increments(now);
        let counters = rows.values().map(BTreeMap::len).max().unwrap_or(0);
        let fits = rows.len() <= self.limits.rows && counters <= self.limits.counters;
        assert!(fits || fold.records().len() == 1, "{} rows of {counters} counters in one commit", rows.len());
        assert!(!fold.records().is_empty() && fold.first() <= fold.last());
        self.begun.insert(fold.first());
        if self.dice.chance(self.failures) {
            return Err(crash());
        }
        let committed = self.store.commit(fold, now).await?;
        if self.dice.chance(self.failures) { Err(crash()) } else { Ok(committed) }
    }

    async fn dossier(&mut self, subject: &Subject, now: reputation::Now) -> Result<&mut Dossier, PortError> {
        self.store.dossier(subject, now).await
    }

    async fn board(&mut self, now: reputation::Now) -> Result<Arc<Board>, PortError> {
        self.store.board(now).await
    }

    async fn account(&mut self, now: reputation::Now) -> Result<Vec<&Timeline>, PortError> {
        self.store.account(now).await
    }

    async fn active(&mut self, since: Minute, now: reputation::Now) -> Result<Vec<(&Subject, &Timeline)>, PortError> {
        self.store.active(since, now).await
    }

    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError> {
        self.store.save(changes).await
    }
}

/// Whoever reads one shard.
struct Reader {
    records: Vec<Record>,
    /// Records given so far.
    given: usize,
    /// Whether all that was given is known to be added.
    confirmed: bool,
    /// Where a batch may begin again: indices of records.
    starts: BTreeSet<usize>,
}

impl Reader {
    fn done(&self) -> bool {
        self.confirmed && self.given == self.records.len()
    }

    /// Gives one batch; nothing is known after a failure, except by trying again.
    fn read(&mut self, store: &mut Unreliable<'_>, senders: &Senders, dice: &mut Dice) {
        let starts: Vec<usize> = self.starts.iter().copied().collect();
        // Old batches come back at any time, also after newer ones.
        let again = !self.confirmed || self.given == self.records.len() || dice.chance(25);
        let start = match again && !starts.is_empty() {
            // Mostly one of the newest, as in a retry.
            true if dice.chance(70) => starts[starts.len() - 1 - dice.below(starts.len().min(3))],
            true => starts[dice.below(starts.len())],
            false => self.given,
        };
        let end = (start + 1 + dice.below(12)).min(self.records.len());
        self.starts.insert(start);
        store.begun.clear();
        let batch = &self.records[start..end];
        let outcome = pollster::block_on(fold(store, batch, senders, store.limits, NOW));
        let begun = batch.iter().enumerate().filter(|(_, record)| store.begun.contains(&record.sequence));
        self.starts.extend(begun.map(|(index, _)| start + index));
        if end >= self.given {
            self.confirmed = outcome.is_ok();
            self.given = end;
        }
    }
}

fn limits(dice: &mut Dice) -> Limits {
    Limits { rows: 1 + dice.below(27), counters: 1 + dice.below(9) }
}

fn senders() -> Senders {
    let mut senders = Senders::default();
    // Senders of one, two and four subjects, which overlap.
    for subjects in [
        vec!["configuration-set:a"],
        vec!["configuration-set:a", "identity:x.example"],
        vec!["configuration-set:b", "identity:x.example", "tenant:t", "tag:campaign=autumn"],
    ] {
        let subjects: Vec<Subject> =
            subjects.into_iter().map(|name| name.parse().expect("valid by construction")).collect();
        senders.intern(&format!("{subjects:?}"), || subjects);
    }
    senders
}

fn stream(
    dice: &mut Dice,
    isps: &[Isp],
    senders: &Senders,
    sequences: impl Iterator<Item = u64>,
    len: usize,
) -> Vec<Record> {
    let mut record = |sequence: u64| {
        let unit = Unit {
            key: UnitKey(u128::from(sequence)),
            kind: UnitKind::ALL[dice.below(UnitKind::ALL.len())],
            isp: isps[dice.below(isps.len())],
            cohort: NOW.minute().minus(dice.below(5) as u32 * dice.below(400) as u32),
            sender: SenderId(dice.below(senders.len()) as u32),
        };
        Record { sequence: sequence.into(), unit }
    };
    sequences.take(len).map(&mut record).collect()
}

/// Each record once, counted without any of the code under test.
fn truth(streams: &[&[Record]], senders: &Senders) -> Rows {
    let mut rows = Rows::new();
    for Record { unit, .. } in streams.iter().copied().flatten() {
        for subject in senders.subjects(unit.sender) {
            let minute = unit.cohort.0;
            for isp in [Some(unit.isp), None] {
                for (length, from) in [("minute", minute), ("hour", minute / 60 * 60), ("day", minute / 1440 * 1440)] {
                    *rows.entry((subject.clone(), isp, length, Minute(from), unit.kind)).or_default() += 1;
                }
            }
        }
    }
    rows
}

fn differences(found: &Rows, expected: &Rows) -> Result<(), String> {
    let keys: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differ: BTreeMap<_, _> = keys
        .into_iter()
        .filter(|key| found.get(*key) != expected.get(*key))
        .map(|key| (key, (found.get(key).copied().unwrap_or(0), expected.get(key).copied().unwrap_or(0))))
        .collect();
    match differ.iter().next() {
        None => Ok(()),
        Some((row, (found, expected))) => {
            Err(format!("{} rows differ; the first, {row:?}, is {found} and should be {expected}", differ.len()))
        }
    }
}

fn simulate(seed: u64) -> Result<(), String> {
    let mut dice = Dice(seed);
    let map = IspMap::builtin();
    let (isps, senders): (Vec<Isp>, Senders) = (map.isps().take(3).collect(), senders());
    let len = 1 + dice.below(60);
    // Two shards of one stream: their numbers interleave and never meet.
    let gap = 1 + dice.below(3) as u64;
    let odd = stream(&mut dice, &isps, &senders, (0..).map(|index| index * 2 * gap + 1), len);
    let even = stream(&mut dice, &isps, &senders, (0..).map(|index| index * 2 * gap + 2), len);
    let expected = truth(&[&odd, &even], &senders);
    let reader = |records| Reader { records, given: 0, confirmed: true, starts: BTreeSet::new() };
    let mut readers = [reader(odd), reader(even)];
    let mut memory = MemoryReputation::new(&map);
    let mut store = Unreliable {
        store: &mut memory,
        dice: Dice(seed ^ 0xdead),
        failures: [0, 5, 20, 40][dice.below(4)],
        limits: limits(&mut dice),
        begun: BTreeSet::new(),
    };
    let mut batches = 0;
    while readers.iter().any(|reader| !reader.done()) {
        let reader = &mut readers[dice.below(2)];
        // A redeployment may change how much fits in a chunk.
        if dice.chance(2) {
            store.limits = limits(&mut dice);
        }
        reader.read(&mut store, &senders, &mut dice);
        batches += 1;
        if batches > 200_000 {
            return Err("the readers do not come to an end".into());
        }
    }
    // Once more everything that is still under way, now that all is confirmed.
    for _ in 0..20 {
        for reader in &mut readers {
            reader.read(&mut store, &senders, &mut dice);
        }
    }
    differences(&rows(&memory), &expected)
}

#[test]
fn rows_equal_the_truth_under_crashes_and_redeliveries() {
    for_each_seed("fold_simulation", 2_000, simulate);
}

/// What the claim leaves out, and why it has to: a batch that begins in the middle of a chunk finds no marker. Bisecting
/// batches on errors would give such ones, so the deployed stream must not have it switched on.
#[test]
fn a_batch_that_begins_inside_an_added_chunk_is_beyond_what_markers_can_tell() {
    let (map, senders) = (IspMap::builtin(), senders());
    let mut store = MemoryReputation::new(&map);
    let records = stream(&mut Dice(1), &[Isp::OTHER], &senders, 1.., 4);
    let mut fold = |records: &[Record]| {
        pollster::block_on(fold(&mut store, records, &senders, Limits::NONE, NOW)).expect("valid by construction")
    };
    fold(&records);
    fold(&records[..2]);
    fold(&records);
    let counted_once = rows(&store);
    assert_eq!(differences(&counted_once, &truth(&[&records], &senders)), Ok(()));
    let mut fold = |records: &[Record]| {
        pollster::block_on(pipeline::fold::fold(&mut store, records, &senders, Limits::NONE, NOW))
            .expect("valid by construction")
    };
    fold(&records[2..]);
    assert_eq!(differences(&rows(&store), &truth(&[&records, &records[2..]], &senders)), Ok(()));
}
