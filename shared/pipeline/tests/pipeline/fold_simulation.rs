//! Folding under crashes: whatever fails, is delivered again, is cut elsewhere or comes from two readers at once, the
//! rows equal the truth.
//!
//! A reader of a shard delivers a record for the first time only once all before it are known to be added (Lambda
//! guide, tumbling windows). Everything else is free: a batch may begin anywhere before that and end anywhere, an
//! earlier one may be delivered again at any time, and a replaced reader may still work at the same time as the new
//! one. A shard ends when it splits, and its children are read after it; sequence numbers of different shards may be
//! the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline::fold::{Limits, fold};
use pipeline::memory::MemoryReputation;
use pipeline::ports::{Board, Change, Committed, Disposition, Relative, Reputation, Saved, SubjectState};
use pipeline::stream::{Fold, Increment, Record, Sequence, Shard};
use pipeline::{PortError, Senders};
use reputation::grouped::Bucket;
use reputation::timeline::Length;
use reputation::unit::{SenderId, UnitKey};
use reputation::{Isp, IspMap, Minute, Now, Policy, Subject, Timeline, Unit, UnitKind};

use super::kit::{Fixture, NOW, Rng, Rows, env_number, for_each_seed, rows};

/// A store of rows.
trait Store: Reputation {
    fn rows(&self) -> Rows;
}

impl Store for MemoryReputation {
    fn rows(&self) -> Rows {
        rows(self)
    }
}

/// The scheme that a mark for each shard replaced: a marker for each chunk, under its first sequence number, that holds
/// the last one. A batch that begins inside an added chunk finds no marker. Kept to show that this simulation finds
/// that error.
#[derive(Default)]
struct ByChunk {
    markers: BTreeMap<(Shard, Sequence), Sequence>,
    rows: Rows,
}

impl Store for ByChunk {
    fn rows(&self) -> Rows {
        self.rows.clone()
    }
}

impl Reputation for ByChunk {
    async fn mark(&mut self, _: &Shard) -> Result<Option<Sequence>, PortError> {
        Ok(None)
    }

    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        let first = fold.records()[0].sequence;
        if let Some(last) = self.markers.get(&(fold.shard().clone(), first)) {
            return Ok(Committed::Overtaken { mark: Some(*last) });
        }
        self.markers.insert((fold.shard().clone(), first), fold.last());
        for (row, counters) in fold.increments(now) {
            let length = match row.length {
                Length::Minute => "minute",
                Length::Hour => "hour",
                Length::Day => "day",
            };
            for ((isp, kind), increment) in counters {
                for isp in [Some(isp), None] {
                    let held = self.rows.entry((row.subject.clone(), isp, length, row.from, kind)).or_default();
                    held.count += increment.count;
                    held.causes.merge(increment.causes);
                }
            }
        }
        Ok(Committed::Added)
    }

    async fn subject_state(&mut self, _: &Subject, _: Now) -> Result<&mut SubjectState, PortError> {
        unimplemented!("folding judges no subject")
    }

    async fn relatives(&mut self, _: &BTreeSet<Subject>) -> Result<BTreeMap<Subject, Relative>, PortError> {
        unimplemented!("folding judges no subject")
    }

    async fn board(&mut self, _: Now) -> Result<Arc<Board>, PortError> {
        unimplemented!("folding judges no subject")
    }

    async fn account(&mut self, _: Now) -> Result<Vec<&Timeline>, PortError> {
        unimplemented!("folding judges no subject")
    }

    async fn active(&mut self, _: Minute, _: Now) -> Result<Vec<(&Subject, &Timeline)>, PortError> {
        unimplemented!("folding judges no subject")
    }

    async fn save(&mut self, _: &[Change]) -> Result<Saved, PortError> {
        unimplemented!("folding judges no subject")
    }
}

/// A store that fails before or after it has done what it was asked to do, is overtaken by another reader, and checks
/// its arguments.
struct Unreliable<'a, S> {
    store: &'a mut S,
    senders: &'a Senders,
    rng: Rng,
    /// In a hundred.
    failures: usize,
    /// In a hundred: another reader of the same shard adds records just before a commit.
    rivals: usize,
    limits: Limits,
    /// The marks of each shard that processes have seen.
    seen: BTreeMap<Shard, Vec<Option<Sequence>>>,
    /// How many records of the current shard may be delivered, and how many of them are known to be added.
    readable: (Vec<Record>, usize),
}

fn crash() -> PortError {
    PortError { operation: "commit", reason: "the process was stopped".into(), disposition: Disposition::Retry }
}

impl<S: Store> Reputation for Unreliable<'_, S> {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        let mark = self.store.mark(shard).await?;
        let seen = self.seen.entry(shard.clone()).or_default();
        seen.push(mark);
        // A process that has been warm for a long time knows an old mark.
        Ok(if self.rng.chance(20) { seen[self.rng.below(seen.len())] } else { mark })
    }

    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        let increments = fold.increments(now);
        // As tables store them: a counter, the number of bounces at business domains, and their buckets.
        let attributes = |increment: &Increment| if increment.causes.count > 0 { 3 } else { 1 };
        let counters = increments.values().map(|row| row.values().map(attributes).sum()).max().unwrap_or(0);
        let fits = increments.len() <= self.limits.rows && counters <= self.limits.counters;
        assert!(fits || fold.records().len() == 1, "{} rows of {counters} counters in one commit", increments.len());
        assert!(fold.after() < Some(fold.records()[0].sequence));
        if self.rng.chance(self.failures) {
            return Err(crash());
        }
        if self.rng.chance(self.rivals) {
            let (records, added) = &self.readable;
            let start = self.rng.below((*added + 1).min(records.len()));
            let end = start + 1 + self.rng.below(records.len() - start);
            let batch = &records[start..end];
            pipeline::fold::fold(self.store, fold.shard(), batch, self.senders, self.limits, now).await?;
        }
        let committed = self.store.commit(fold, now).await?;
        if self.rng.chance(self.failures) { Err(crash()) } else { Ok(committed) }
    }

    async fn subject_state(&mut self, subject: &Subject, now: Now) -> Result<&mut SubjectState, PortError> {
        self.store.subject_state(subject, now).await
    }

    async fn relatives(&mut self, subjects: &BTreeSet<Subject>) -> Result<BTreeMap<Subject, Relative>, PortError> {
        self.store.relatives(subjects).await
    }

    async fn board(&mut self, now: Now) -> Result<Arc<Board>, PortError> {
        self.store.board(now).await
    }

    async fn account(&mut self, now: Now) -> Result<Vec<&Timeline>, PortError> {
        self.store.account(now).await
    }

    async fn active(&mut self, since: Minute, now: reputation::Now) -> Result<Vec<(&Subject, &Timeline)>, PortError> {
        self.store.active(since, now).await
    }

    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError> {
        self.store.save(changes).await
    }
}

/// Reads one shard.
struct Reader {
    shard: Shard,
    records: Vec<Record>,
    /// How many of the first records are known to be added.
    added: usize,
}

impl Reader {
    fn done(&self) -> bool {
        self.added == self.records.len()
    }

    /// Delivers one batch. `replaced`, in a hundred: to a reader that does not know how far the previous one came.
    fn read<S: Store>(&mut self, store: &mut Unreliable<'_, S>, rng: &mut Rng, replaced: usize) {
        let is_replaced = self.done() || rng.chance(replaced);
        let start = if is_replaced { rng.below(self.added.max(1)) } else { self.added };
        let end = (start + 1 + rng.below(12)).min(self.records.len());
        store.readable = (self.records[..end.max(self.added)].to_vec(), self.added);
        let (senders, limits) = (store.senders, store.limits);
        let batch = &self.records[start..end];
        if pollster::block_on(fold(store, &self.shard, batch, senders, limits, NOW)).is_ok() {
            self.added = self.added.max(end);
        }
    }
}

fn limits(rng: &mut Rng) -> Limits {
    Limits { rows: 1 + rng.below(27), counters: 1 + rng.below(9) }
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
    rng: &mut Rng,
    isps: &[Isp],
    senders: &Senders,
    sequences: impl Iterator<Item = u64>,
    len: usize,
) -> Vec<Record> {
    let mut record = |sequence: u64| {
        let kind = UnitKind::ALL[rng.below(UnitKind::ALL.len())];
        let unit = Unit {
            key: UnitKey(u128::from(sequence)),
            kind,
            isp: isps[rng.below(isps.len())],
            cohort: NOW.minute().minus(rng.below(5) as u32 * rng.below(400) as u32),
            sender: SenderId(rng.below(senders.len()) as u32),
            bucket: Bucket::new(rng.below(128) as u8).filter(|_| kind == UnitKind::HardBounce),
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
                    let held: &mut Increment =
                        rows.entry((subject.clone(), isp, length, Minute(from), unit.kind)).or_default();
                    held.count += 1;
                    held.causes.merge(unit.bucket.into());
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
        .map(|key| (key, [found, expected].map(|rows| rows.get(key).copied().unwrap_or_default())))
        .collect();
    match differ.iter().next() {
        None => Ok(()),
        Some((row, [found, expected])) => {
            Err(format!("{} rows differ; the first, {row:?}, is {found:?} and should be {expected:?}", differ.len()))
        }
    }
}

/// Runs one seed on a store.
fn simulate(seed: u64, memory: &mut impl Store) -> Result<(), String> {
    let mut rng = Rng(seed);
    let map = IspMap::builtin();
    let (isps, senders): (Vec<Isp>, Senders) = (map.isps().take(3).collect(), senders());
    // Numbers of different shards may be the same.
    let numbers = |rng: &mut Rng| {
        let (first, gap) = (rng.below(3) as u64, 1 + rng.below(3) as u64);
        (0..).map(move |index| first + index * gap)
    };
    let mut shards = 0;
    let mut new_reader = |rng: &mut Rng| {
        shards += 1;
        let numbers = numbers(rng);
        let len = 1 + rng.below(40);
        let records = stream(rng, &isps, &senders, numbers, len);
        Reader { shard: Shard::new(&format!("shard-{shards}")), records, added: 0 }
    };
    let mut readers = vec![new_reader(&mut rng), new_reader(&mut rng)];
    let replaced = [1, 5, 20, 50][rng.below(4)];
    let mut store = Unreliable {
        store: memory,
        senders: &senders,
        rng: Rng(seed ^ 0xdead),
        failures: [0, 5, 20, 40][rng.below(4)],
        rivals: [0, 10, 30][rng.below(3)],
        limits: limits(&mut rng),
        seen: BTreeMap::new(),
        readable: (Vec::new(), 0),
    };
    let mut batches = 0;
    while readers.iter().any(|reader| !reader.done()) {
        let at = rng.below(readers.len());
        // A deployment may change the limits of a chunk.
        if rng.chance(2) {
            store.limits = limits(&mut rng);
        }
        // A shard that has been read to its end splits.
        if readers[at].done() && readers.len() < 6 && rng.chance(20) {
            readers.extend([new_reader(&mut rng), new_reader(&mut rng)]);
        }
        readers[at].read(&mut store, &mut rng, replaced);
        batches += 1;
        if batches > 200_000 {
            return Err("the readers do not come to an end".into());
        }
    }
    // The mapping is made anew: every shard is read again, from its beginning or from where the stream still reaches back to.
    for reader in &mut readers {
        let horizon = rng.below(reader.records.len());
        store.readable = (reader.records.clone(), reader.records.len());
        let mut start = horizon;
        while start < reader.records.len() {
            let end = (start + 1 + rng.below(12)).min(reader.records.len());
            let (batch, limits) = (&reader.records[start..end], store.limits);
            if pollster::block_on(fold(&mut store, &reader.shard, batch, &senders, limits, NOW)).is_ok() {
                start = end;
            }
        }
    }
    let streams: Vec<&[Record]> = readers.iter().map(|reader| &*reader.records).collect();
    differences(&memory.rows(), &truth(&streams, &senders))
}

#[test]
fn rows_equal_the_truth_whatever_fails_comes_again_or_is_cut_elsewhere() {
    for_each_seed("rows_equal_the_truth", 1_500, |seed| simulate(seed, &mut MemoryReputation::new(&IspMap::builtin())));
}

#[test]
fn the_simulation_finds_a_marker_for_each_chunk_wrong() {
    let seeds = env_number("SIMULATION_SEEDS").unwrap_or(500);
    let wrong = (0..seeds).filter(|seed| simulate(*seed, &mut ByChunk::default()).is_err()).count();
    assert!(wrong as u64 > seeds / 2, "only {wrong} of {seeds} runs");
}

#[test]
fn of_a_batch_without_a_shard_only_the_same_beginning_is_known() {
    let (map, senders) = (IspMap::builtin(), senders());
    let mut store = MemoryReputation::new(&map);
    let records = stream(&mut Rng(1), &[Isp::OTHER], &senders, 1.., 4);
    let mut fold = |records: &[Record]| {
        let shard = Shard::unnamed(records[0].sequence);
        pollster::block_on(fold(&mut store, &shard, records, &senders, Limits::NONE, NOW)).unwrap();
        rows(&store)
    };
    for batch in [&records[..], &records[..2], &records[..]] {
        assert_eq!(differences(&fold(batch), &truth(&[&records], &senders)), Ok(()));
    }
    assert_eq!(differences(&fold(&records[2..]), &truth(&[&records, &records[2..]], &senders)), Ok(()));
}

/// A store whose mark was edited by hand: it is found, and is a number, but never equals the text that the fold
/// expects.
#[test]
fn a_mark_that_never_matches_ends_a_fold() {
    struct Stuck(MemoryReputation, u32);
    impl Reputation for Stuck {
        async fn mark(&mut self, _: &Shard) -> Result<Option<Sequence>, PortError> {
            Ok(Some("0100".parse().unwrap()))
        }
        async fn commit(&mut self, fold: &Fold<'_>, _: Now) -> Result<Committed, PortError> {
            self.1 += 1;
            assert!(self.1 < 1_000, "asked 1,000 times");
            // `last` is "0100", the condition says "100".
            Ok(if fold.after().map(|mark| mark.to_string()).as_deref() == Some("0100") {
                Committed::Added
            } else {
                Committed::Overtaken { mark: Some("0100".parse().unwrap()) }
            })
        }
        async fn subject_state(&mut self, subject: &Subject, now: Now) -> Result<&mut SubjectState, PortError> {
            self.0.subject_state(subject, now).await
        }
        async fn relatives(&mut self, subjects: &BTreeSet<Subject>) -> Result<BTreeMap<Subject, Relative>, PortError> {
            self.0.relatives(subjects).await
        }

        async fn board(&mut self, now: Now) -> Result<Arc<Board>, PortError> {
            self.0.board(now).await
        }
        async fn account(&mut self, now: Now) -> Result<Vec<&Timeline>, PortError> {
            self.0.account(now).await
        }
        async fn active(&mut self, since: Minute, now: Now) -> Result<Vec<(&Subject, &Timeline)>, PortError> {
            self.0.active(since, now).await
        }
        async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError> {
            self.0.save(changes).await
        }
    }
    let mut fixture = Fixture::new(Policy::default());
    let (sender, gmail) = (fixture.sender("news", "news.example"), fixture.isp("gmail"));
    let units = fixture.units(sender, gmail, NOW.minute(), &[(UnitKind::Sent, 1)]);
    let records = [Record { sequence: 200.into(), unit: units[0] }];
    let mut store = Stuck(fixture.store, 0);
    let limits = Limits::NONE;
    let shard = Shard::new("all");
    let folding = fold(&mut store, &shard, &records, &fixture.senders, limits, NOW);
    let error = pollster::block_on(folding).unwrap_err();
    insta::assert_snapshot!(error, @"adding a fold failed: the mark of shard all does not match: 8 times in a row it was 100");
}
