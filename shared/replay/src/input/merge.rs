//! Several sources, merged by time.
//!
//! Each source is a lane. The clock of a lane is the highest stamp that the lane has shown so far, in the order of its own
//! documents. The next item is that of the lane with the lowest clock; if clocks are equal, of the source that was named first.
//! Inside a lane nothing is reordered, and items without a stamp keep their place.
//!
//! A source may begin with an item that is stamped long before it happened (a complaint has the date of its mail). Such an
//! item takes the time of the first sure stamp that follows it within [`LOOKAHEAD`] items.
//!
//! A stamp moves the clock of its lane only as far as one of the next [`LOOKAHEAD`] stamps of the lane confirms it: otherwise
//! one mail that is misdated by days would hold back the rest of its file until the others have come that far.
//!
//! A source is opened when the merge has reached the time of its first item, which is read beforehand from the head of each
//! file, so that a month of small objects keeps few files open. Pipes cannot be read twice, so they are open from the
//! beginning.
//!
//! **Invariant:** the order depends only on the bytes and the order of the sources, as in [`run`].
//!
//! **Invariant:** memory is bounded: at most [`MAX_LANES`] lanes are open, and `2 × workers + 2` more that are read ahead.
//! Each holds its reader (about 60 KiB when many are open, and the beginning of its current document, at most
//! [`MAX_DOCUMENT`](super::MAX_DOCUMENT)) and decoded chunks: one for each lane and `2 × workers + 2` for all together. The
//! chunks of all lanes come from at most [`CHUNKS_BUDGET`] bytes of input, because chunks get smaller with more lanes. For each
//! waiting source, its first stamp is kept. File handles are bounded as well: at most [`MAX_HELD`], plus those that are read
//! ahead; the other lanes reopen their file for each read.
//!
//! There is no reader thread here either. A worker chooses the lane that is needed most: the one that the merge waits for,
//! then any without decoded chunks, then the one whose decoded events end first, which is used up first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::{panic, thread};

use super::engine::{Buffer, Chunk, Intake, Progress, lock, run_within};
use super::framing::Limits;
use super::sources::{InputError, Source};

/// The most sources that may have events of the same time.
pub const MAX_LANES: usize = 2048;

/// Sources that are opened while more than this are open keep no file handle: systems allow a process 256 or more.
const MAX_HELD: usize = 128;

/// The number of later stamps that may confirm a stamp.
const LOOKAHEAD: usize = 16;

/// The number of stamps that must confirm one.
const CONFIRMED_BY: usize = 6;

/// The chunks that wait in all lanes are decoded from at most about this many bytes.
const CHUNKS_BUDGET: usize = 64 << 20;

/// The smallest chunk, with any number of lanes.
const SMALLEST_CHUNK: usize = 32 << 10;

/// The buffers of all readers of compressed sources.
const READERS_BUDGET: usize = 16 << 20;

/// The smallest buffer of a reader, with any number of lanes.
const SMALLEST_READER: usize = 16 << 10;

/// The part of a source's head that is searched for its first stamp.
const LONGEST_HEAD: u64 = 1 << 20;

/// The sizes with which heads are read.
const HEAD: Limits = Limits { chunk: 4 << 10, compressed: 4 << 10, ..Limits::STANDARD };

/// With this many sources, their heads are read by several threads.
const MANY_SOURCES: usize = 64;

/// The stamp of an item without one, and of a source about which nothing is known.
const NONE: i64 = i64::MIN;

/// The items of a decoded chunk, in order, each with a stamp or without one.
pub trait Timed {
    /// The number of items.
    fn count(&self) -> usize;

    /// The stamp of item `index`.
    fn stamp(&self, index: usize) -> Option<Stamp>;
}

/// The stamp of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// In milliseconds since 1970.
    pub at: i64,
    /// Whether the item happened at that time. A stamp is unsure if the item happened later, like a bounce that has only the
    /// date of its mail.
    pub sure: bool,
}

/// What the caller of [`run_by_time`] must do with a decoded chunk.
#[derive(Debug)]
pub enum Step<'a, T> {
    /// It has been decoded. Chunks that one state has decoded arrive in the order in which they were decoded.
    Arrived(&'a mut T),
    /// This many of its next items are due, which may be none, and so are items without a stamp before or after them.
    Due(&'a mut T, usize),
}

/// Like [`run`](super::run), but several sources are merged by time; see the module's documentation. Sources that are handed
/// over ([`Supply`](super::Supply)) cannot be read out of order: they come one after another.
///
/// # Errors
///
/// Those of `take`, and [`InputError`] for a source that cannot be read, or for too many with events of the same time. `take`
/// has then seen everything that comes before, by time.
///
/// # Panics
///
/// If `state`, `decode` or `take` does.
pub fn run_by_time<W, T, E>(
    sources: &[Source],
    workers: usize,
    state: impl Fn() -> W + Sync,
    decode: impl Fn(&mut W, Chunk<'_>) -> T + Sync,
    take: impl FnMut(Step<'_, T>) -> Result<ControlFlow<()>, E>,
    progress: &Progress,
) -> Result<ControlFlow<()>, E>
where
    T: Timed + Send,
    E: From<InputError>,
{
    run_by_time_within(&Limits::STANDARD, sources, workers, state, decode, take, progress)
}

fn run_by_time_within<W, T, E>(
    limits: &Limits,
    sources: &[Source],
    workers: usize,
    state: impl Fn() -> W + Sync,
    decode: impl Fn(&mut W, Chunk<'_>) -> T + Sync,
    mut take: impl FnMut(Step<'_, T>) -> Result<ControlFlow<()>, E>,
    progress: &Progress,
) -> Result<ControlFlow<()>, E>
where
    T: Timed + Send,
    E: From<InputError>,
{
    if sources.len() < 2 || sources.iter().any(Source::is_supplied) {
        let apply = |mut decoded: T| {
            if take(Step::Arrived(&mut decoded))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let count = decoded.count();
            take(Step::Due(&mut decoded, count))
        };
        return run_within(limits, sources, workers, state, decode, apply, progress);
    }
    progress.expect(sources);
    let order = in_order_of_first_stamps(sources, workers, &state, &decode);
    let readers = Readers::new(limits, sources, &order, workers, progress);
    let mut merge = Merge::new(&order);

    let mut own = None;
    let mut buffer = Buffer::new(limits.chunk.min(INLINE_CHUNK));
    let mut delivered = 0;
    loop {
        let lane = match merge.advance(&readers, &mut take)? {
            Reached::Needs(lane) => lane,
            Reached::End => return Ok(ControlFlow::Continue(())),
            Reached::Stop => return Ok(ControlFlow::Break(())),
        };
        if workers > 0 && delivered >= limits.inline {
            readers.want(lane);
            break;
        }
        readers.want(lane);
        let task = lock(&readers.state).choose(&readers);
        if let Some(task) = task {
            let decode = |chunk: Chunk<'_>| decode(own.get_or_insert_with(&state), chunk);
            readers.do_task(task, &mut buffer, decode);
            delivered += buffer.len() as u64;
        }
        let arrived = std::mem::take(&mut lock(&readers.state).arrived);
        if merge.receive(arrived, &mut take)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    drop(own);
    drop(buffer);

    let work = || {
        let _watch = StopWhenPanicking(&readers);
        let mut own = state();
        let mut buffer = Buffer::new(limits.chunk);
        while let Some(task) = readers.next_task() {
            readers.do_task(task, &mut buffer, |chunk| decode(&mut own, chunk));
        }
    };
    thread::scope(|scope| {
        let (threads, outcome) = {
            // Dropped before the threads are joined, also when `take` panics.
            let _stop = Stop(&readers);
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let mut follow = || loop {
                let Some(arrived) = readers.wait() else { return Ok(ControlFlow::Continue(())) };
                if merge.receive(arrived, &mut take)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                match merge.advance(&readers, &mut take)? {
                    Reached::Needs(lane) => readers.want(lane),
                    Reached::End => return Ok(ControlFlow::Continue(())),
                    Reached::Stop => return Ok(ControlFlow::Break(())),
                }
            };
            let outcome = follow();
            (threads, outcome)
        };
        for thread in threads {
            if let Err(payload) = thread.join() {
                panic::resume_unwind(payload);
            }
        }
        outcome
    })
}

/// The buffer of the calling thread before threads are started.
const INLINE_CHUNK: usize = 128 << 10;

/// The sources by their first stamps, each with that stamp or an earlier time.
fn in_order_of_first_stamps<W, T: Timed>(
    sources: &[Source],
    workers: usize,
    state: &(impl Fn() -> W + Sync),
    decode: &(impl Fn(&mut W, Chunk<'_>) -> T + Sync),
) -> Vec<(i64, usize)> {
    let next = AtomicUsize::new(0);
    let read_heads = || {
        let mut own = state();
        let mut buffer = Buffer::new(HEAD.chunk);
        let mut found = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= sources.len() {
                return found;
            }
            found.push((first_stamp(sources, index, &mut buffer, |chunk| decode(&mut own, chunk)), index));
        }
    };
    let threads = if sources.len() < MANY_SOURCES { 0 } else { workers };
    let mut order = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(read_heads)).collect();
        let mut order = read_heads();
        for thread in threads {
            match thread.join() {
                Ok(found) => order.extend(found),
                Err(payload) => panic::resume_unwind(payload),
            }
        }
        order
    });
    order.sort_unstable();
    order
}

/// The first stamp of a source, or an earlier time if its head does not show it. A source with an unreadable head comes last:
/// then everything else has been counted when the run fails.
fn first_stamp<T: Timed>(
    sources: &[Source],
    index: usize,
    buffer: &mut Buffer,
    mut decode: impl FnMut(Chunk<'_>) -> T,
) -> i64 {
    if !sources[index].can_be_read_twice() {
        return NONE;
    }
    let aside = Progress::new();
    let mut intake = Intake::of_one(&HEAD, sources, index, &aside);
    let mut head = Head::default();
    let mut looked_at = 0;
    loop {
        match intake.fill(buffer) {
            Ok(true) => {}
            // No later stamp could contradict the first one.
            Ok(false) => return head.earliest().unwrap_or(NONE),
            Err(_) => return head.earliest().unwrap_or(i64::MAX),
        }
        looked_at += buffer.len() as u64;
        let decoded = decode(buffer.chunk(sources));
        (0..decoded.count()).for_each(|index| head.take(decoded.stamp(index)));
        if head.is_enough() {
            return head.earliest().unwrap_or(NONE);
        }
        if looked_at >= LONGEST_HEAD {
            return NONE;
        }
    }
}

/// The first items of a source.
#[derive(Default)]
struct Head {
    stamps: VecDeque<Option<Stamp>>,
}

impl Head {
    fn take(&mut self, stamp: Option<Stamp>) {
        if self.stamps.len() < 2 * LOOKAHEAD {
            self.stamps.push_back(stamp);
        }
    }

    /// Whether later items cannot change when the source begins.
    fn is_enough(&self) -> bool {
        let dated_by = match first_sure(&self.stamps, 0) {
            Some(sure) => sure,
            None if self.stamps.len() < LOOKAHEAD => return false,
            None => 0,
        };
        let after = self.stamps.range(dated_by + 1..);
        after.len() >= LOOKAHEAD || after.flatten().count() >= CONFIRMED_BY
    }

    /// The time at which the first item of the source is due.
    fn earliest(&self) -> Option<i64> {
        (!self.stamps.is_empty()).then(|| time_of(&self.stamps, 0, NONE))
    }
}

/// The first sure stamp within reach of an item, which may be its own.
fn first_sure(stamps: &VecDeque<Option<Stamp>>, index: usize) -> Option<usize> {
    let within = index..(index + LOOKAHEAD).min(stamps.len());
    within.into_iter().find(|&index| stamps[index].is_some_and(|stamp| stamp.sure))
}

/// The time at which an item is due in a lane with the clock `clock`.
fn time_of(stamps: &VecDeque<Option<Stamp>>, index: usize, clock: i64) -> i64 {
    // The first items of a source may be stamped long before they happened.
    let head = if clock == NONE { first_sure(stamps, index).map(|sure| believed(stamps, sure)) } else { None };
    head.unwrap_or(clock).max(believed(stamps, index))
}

/// A stamp, as far as those after it confirm it: [`CONFIRMED_BY`] must, because several events of one mail have the same wrong
/// date; near the end of a source, all that are left.
fn believed(stamps: &VecDeque<Option<Stamp>>, index: usize) -> i64 {
    let Some(stamp) = stamps[index] else { return NONE };
    let until = (index + 1 + LOOKAHEAD).min(stamps.len());
    let mut after: Vec<i64> = stamps.range(index + 1..until).flatten().map(|stamp| stamp.at).collect();
    // Nearly always the next ones are not earlier.
    if after.len() >= CONFIRMED_BY && after[..CONFIRMED_BY].iter().all(|at| *at >= stamp.at) {
        return stamp.at;
    }
    after.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
    let confirmed = after.get(CONFIRMED_BY.min(after.len()).saturating_sub(1));
    confirmed.map_or(stamp.at, |at| stamp.at.min(*at))
}

/// How far the merge has come.
enum Reached {
    /// It cannot go on without the next chunk of this source.
    Needs(usize),
    /// Everything has been taken.
    End,
    /// The caller has ended the run.
    Stop,
}

/// The result of a worker's task.
struct Arrival<T> {
    source: usize,
    number: u64,
    /// `None`: there was nothing more.
    outcome: Result<Option<T>, InputError>,
    /// Nothing follows in this source.
    last: bool,
}

/// The merge: it belongs to the calling thread.
struct Merge<'o, T> {
    order: &'o [(i64, usize)],
    /// How many of the sources in `order` have been reached.
    reached: usize,
    /// The open lanes, each with a time before which it has nothing.
    open: BTreeSet<(i64, usize)>,
    lanes: BTreeMap<usize, Pending<T>>,
}

/// What has arrived from a lane and has not been taken.
struct Pending<T> {
    /// Chunks that have arrived before their predecessors.
    early: BTreeMap<u64, Arrival<T>>,
    next: u64,
    /// Chunks in order.
    chunks: VecDeque<Waiting<T>>,
    /// The stamps of the items that are left.
    stamps: VecDeque<Option<Stamp>>,
    /// The times of the first items, as far as later items are known.
    times: VecDeque<i64>,
    clock: i64,
    /// The highest stamp that has arrived.
    latest: i64,
    ended: bool,
    failed: Option<InputError>,
}

/// A decoded chunk.
struct Waiting<T> {
    decoded: T,
    /// The number of its items that are left.
    left: usize,
    /// The part before its first item has not been taken.
    fresh: bool,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self {
            early: BTreeMap::new(),
            next: 0,
            chunks: VecDeque::new(),
            stamps: VecDeque::new(),
            times: VecDeque::new(),
            clock: NONE,
            latest: NONE,
            ended: false,
            failed: None,
        }
    }
}

impl<T: Timed> Pending<T> {
    fn put(&mut self, arrival: Arrival<T>) {
        self.early.insert(arrival.number, arrival);
        while let Some(Arrival { outcome, last, .. }) = self.early.remove(&self.next) {
            self.next += 1;
            self.ended |= last;
            match outcome {
                Ok(Some(decoded)) => {
                    let stamps = (0..decoded.count()).map(|index| decoded.stamp(index));
                    self.stamps.extend(stamps);
                    let left = decoded.count();
                    self.chunks.push_back(Waiting { decoded, left, fresh: true });
                }
                Ok(None) => {}
                Err(error) => self.failed = Some(error),
            }
        }
        while self.times.len() < self.stamps.len() {
            let at = self.times.len();
            // The stamp that dates a head is confirmed by those that follow it.
            let reach = if self.clock == NONE { 2 * LOOKAHEAD } else { 1 + LOOKAHEAD };
            if at + reach > self.stamps.len() && !self.ended {
                break;
            }
            let stamp = self.stamps[at];
            self.latest = self.latest.max(stamp.map_or(NONE, |stamp| stamp.at));
            self.clock = time_of(&self.stamps, at, self.clock);
            self.times.push_back(self.clock);
        }
    }
}

impl<'o, T: Timed + Send> Merge<'o, T> {
    fn new(order: &'o [(i64, usize)]) -> Self {
        Self { order, reached: 0, open: BTreeSet::new(), lanes: BTreeMap::new() }
    }

    /// Receives the arrivals.
    fn receive<E>(
        &mut self,
        arrived: VecDeque<Arrival<T>>,
        take: &mut impl FnMut(Step<'_, T>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, E> {
        for mut arrival in arrived {
            if let Ok(Some(decoded)) = &mut arrival.outcome
                && take(Step::Arrived(decoded))?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            // Chunks that were read ahead are stored where their lane will be.
            self.lanes.entry(arrival.source).or_default().put(arrival);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Continues as far as the arrivals allow.
    fn advance<E: From<InputError>>(
        &mut self,
        readers: &Readers<'_, T>,
        take: &mut impl FnMut(Step<'_, T>) -> Result<ControlFlow<()>, E>,
    ) -> Result<Reached, E> {
        loop {
            let waiting = self.order.get(self.reached).copied();
            if let Some(next) = waiting.filter(|next| self.open.first().is_none_or(|first| next < first)) {
                self.reached += 1;
                self.open.insert(next);
                self.lanes.entry(next.1).or_default();
                if self.open.len() > MAX_LANES {
                    return Err(self.too_many(readers).into());
                }
                readers.open_up_to(self.reached);
                continue;
            }
            let Some(at) = self.open.pop_first() else { return Ok(Reached::End) };
            let (_, source) = at;
            let limit = self.open.first().copied().into_iter().chain(waiting).min();
            let lane = self.lanes.entry(source).or_default();
            while let Some(Waiting { decoded, left, fresh }) = lane.chunks.front_mut() {
                let is_due = |time: &i64| limit.is_none_or(|limit| (*time, source) < limit);
                let due = lane.times.partition_point(is_due).min(*left);
                if due == 0 && *left > 0 && !*fresh {
                    break;
                }
                *fresh = false;
                *left -= due;
                let used_up = *left == 0;
                lane.stamps.drain(..due);
                lane.times.drain(..due);
                if take(Step::Due(decoded, due))?.is_break() {
                    return Ok(Reached::Stop);
                }
                if used_up {
                    lane.chunks.pop_front();
                    readers.used_up(source);
                }
            }
            if let Some(time) = lane.times.front() {
                self.open.insert((*time, source));
            } else if !lane.ended {
                self.open.insert((at.0.max(lane.clock), source));
                if limit.is_none_or(|limit| (at.0.max(lane.clock), source) < limit) {
                    return Ok(Reached::Needs(source));
                }
            } else if let Some(error) = lane.failed.take() {
                return Err(error.into());
            } else {
                self.lanes.remove(&source);
                readers.close(source);
            }
        }
    }

    fn too_many(&self, readers: &Readers<'_, T>) -> InputError {
        let known = self.open.iter().map(|(_, source)| self.lanes.get(source).map_or(NONE, |lane| lane.latest));
        let until = known.filter(|latest| *latest > NONE).min().unwrap_or(NONE);
        let further = self.order[self.reached..].iter().filter(|(first, _)| *first <= until).count();
        let (at, source) = self.order[self.reached - 1];
        InputError::TooManyAtOnce {
            count: self.open.len() + further,
            most: MAX_LANES,
            at,
            path: readers.sources[source].path(),
        }
    }
}

/// The sources as workers see them.
struct Readers<'a, T> {
    limits: Limits,
    sources: &'a [Source],
    order: &'a [(i64, usize)],
    progress: &'a Progress,
    /// The number of decoded chunks that may wait, in addition to one for each lane.
    room: usize,
    state: Mutex<State<'a, T>>,
    /// There may be something to read.
    work: Condvar,
    /// Something has arrived.
    news: Condvar,
}

struct State<'a, T> {
    lanes: BTreeMap<usize, Lane<'a>>,
    /// How many of the sources in `order` have a lane.
    opened: usize,
    /// How many of them the merge has reached.
    reached: usize,
    /// Chunks that are read, decoded or waiting.
    outstanding: usize,
    /// The lane that the merge waits for.
    wanted: Option<usize>,
    arrived: VecDeque<Arrival<T>>,
    stopped: bool,
}

/// A source that is being read.
struct Lane<'a> {
    /// `None` while a worker reads from it.
    intake: Option<Box<Intake<'a>>>,
    next: u64,
    outstanding: usize,
    in_flight: usize,
    /// Nothing is left to be read.
    over: bool,
    /// The time up to which it is decoded.
    decoded_to: i64,
    first: i64,
    chunks: u64,
}

impl Lane<'_> {
    /// The time at which the chunks in flight will end, if they are like those before them.
    fn ends_at(&self) -> i64 {
        let done = i64::try_from(self.chunks.max(1)).unwrap_or(i64::MAX);
        let under_way = i64::try_from(self.in_flight).unwrap_or(i64::MAX);
        let each = self.decoded_to.saturating_sub(self.first) / done;
        self.decoded_to.saturating_add(each.saturating_mul(under_way))
    }

    fn can_be_read(&self) -> bool {
        self.intake.is_some() && !self.over
    }
}

/// A chunk that is to be read.
struct Task<'a> {
    source: usize,
    number: u64,
    intake: Box<Intake<'a>>,
}

impl<'a, T> State<'a, T> {
    /// The chunk that is needed most, if any may be read.
    fn choose(&mut self, readers: &Readers<'a, T>) -> Option<Task<'a>> {
        let source = self.most_needed(readers)?;
        if self.opened < readers.order.len() && readers.order[self.opened].1 == source {
            self.open_next(readers);
        }
        let live = self.lanes.len().max(1);
        let lane = self.lanes.get_mut(&source)?;
        let mut intake = lane.intake.take()?;
        let number = lane.next;
        lane.next += 1;
        lane.outstanding += 1;
        lane.in_flight += 1;
        self.outstanding += 1;
        let chunk = (CHUNKS_BUDGET / live).max(SMALLEST_CHUNK);
        let compressed = (READERS_BUDGET / live).max(SMALLEST_READER);
        let hold = live <= MAX_HELD;
        intake.set_sizes(readers.limits.chunk.min(chunk), readers.limits.compressed.min(compressed), hold);
        Some(Task { source, number, intake })
    }

    fn most_needed(&self, readers: &Readers<'a, T>) -> Option<usize> {
        if let Some(wanted) = self.wanted
            && self.lanes.get(&wanted).is_some_and(|lane| lane.can_be_read() && lane.in_flight == 0)
        {
            return Some(wanted);
        }
        let readable = || self.lanes.iter().filter(|(_, lane)| lane.can_be_read());
        let starving = readable().filter(|(_, lane)| lane.outstanding == 0);
        if let Some((source, _)) = starving.min_by_key(|(source, lane)| (lane.decoded_to, **source)) {
            return Some(*source);
        }
        if self.outstanding >= readers.room {
            return None;
        }
        let first = self.lanes.iter().filter(|(_, lane)| !lane.over).map(|(source, lane)| (lane.ends_at(), *source));
        // At most `room` lanes are open ahead of the merge.
        let ahead = self.opened - self.reached < readers.room;
        let next = readers.order.get(self.opened).copied().filter(|_| ahead);
        let (_, source) = first.chain(next).min()?;
        // If another worker is reading the next chunk that is needed, this one waits: the room is not for later chunks.
        self.lanes.get(&source).is_none_or(Lane::can_be_read).then_some(source)
    }

    fn open_next(&mut self, readers: &Readers<'a, T>) {
        let Some(&(first, source)) = readers.order.get(self.opened) else { return };
        self.opened += 1;
        let intake = Intake::of_one(&readers.limits, readers.sources, source, readers.progress);
        let lane = Lane {
            intake: Some(Box::new(intake)),
            next: 0,
            outstanding: 0,
            in_flight: 0,
            over: false,
            decoded_to: first,
            first,
            chunks: 0,
        };
        self.lanes.insert(source, lane);
    }
}

impl<'a, T: Timed> Readers<'a, T> {
    fn new(
        limits: &Limits,
        sources: &'a [Source],
        order: &'a [(i64, usize)],
        workers: usize,
        progress: &'a Progress,
    ) -> Self {
        let state = State {
            lanes: BTreeMap::new(),
            opened: 0,
            reached: 0,
            outstanding: 0,
            wanted: None,
            arrived: VecDeque::new(),
            stopped: false,
        };
        Self {
            limits: *limits,
            sources,
            order,
            progress,
            room: 2 * workers + 2,
            state: Mutex::new(state),
            work: Condvar::new(),
            news: Condvar::new(),
        }
    }

    /// Ensures that the first `reached` sources have lanes.
    fn open_up_to(&self, reached: usize) {
        let mut state = lock(&self.state);
        state.reached = reached;
        while state.opened < reached {
            state.open_next(self);
        }
    }

    fn want(&self, source: usize) {
        lock(&self.state).wanted = Some(source);
        self.work.notify_all();
    }

    /// A chunk of this source has been taken.
    fn used_up(&self, source: usize) {
        let mut state = lock(&self.state);
        state.outstanding = state.outstanding.saturating_sub(1);
        if let Some(lane) = state.lanes.get_mut(&source) {
            lane.outstanding = lane.outstanding.saturating_sub(1);
        }
        drop(state);
        self.work.notify_one();
    }

    fn close(&self, source: usize) {
        lock(&self.state).lanes.remove(&source);
    }

    /// Waits for something to read; `None` if the run is over.
    fn next_task(&self) -> Option<Task<'a>> {
        let mut state = lock(&self.state);
        loop {
            if state.stopped {
                return None;
            }
            if let Some(task) = state.choose(self) {
                return Some(task);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Reads and decodes a chunk.
    fn do_task(&self, task: Task<'a>, buffer: &mut Buffer, decode: impl FnOnce(Chunk<'_>) -> T) {
        let Task { source, number, mut intake } = task;
        let filled = intake.fill(buffer);
        let last = filled.is_err() || intake.is_at_the_end();
        {
            let mut state = lock(&self.state);
            if let Some(lane) = state.lanes.get_mut(&source) {
                lane.over = last;
                if !last {
                    lane.intake = Some(intake);
                }
            }
        }
        self.work.notify_one();
        let outcome = filled.map(|filled| filled.then(|| decode(buffer.chunk(self.sources))));
        let mut latest = NONE;
        let mut is_chunk = false;
        if let Ok(Some(decoded)) = &outcome {
            is_chunk = true;
            latest = (0..decoded.count())
                .filter_map(|index| decoded.stamp(index))
                .map(|stamp| stamp.at)
                .max()
                .unwrap_or(NONE);
        }
        let mut state = lock(&self.state);
        if let Some(lane) = state.lanes.get_mut(&source) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
            lane.chunks += 1;
            lane.decoded_to = lane.decoded_to.max(latest);
            lane.first = if lane.first == NONE { latest } else { lane.first };
            if !is_chunk {
                lane.outstanding = lane.outstanding.saturating_sub(1);
            }
        }
        if !is_chunk {
            state.outstanding = state.outstanding.saturating_sub(1);
        }
        state.arrived.push_back(Arrival { source, number, outcome, last });
        drop(state);
        self.news.notify_one();
    }

    /// Waits for the next arrivals; `None` if a worker has panicked.
    fn wait(&self) -> Option<VecDeque<Arrival<T>>> {
        let mut state = lock(&self.state);
        loop {
            if state.stopped {
                return None;
            }
            if !state.arrived.is_empty() {
                return Some(std::mem::take(&mut state.arrived));
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Readers<'_, T> {
    fn stop(&self) {
        lock(&self.state).stopped = true;
        self.work.notify_all();
        self.news.notify_all();
    }
}

/// Ends the run when the calling thread leaves it, for any reason.
struct Stop<'s, 'a, T>(&'s Readers<'a, T>);

impl<T> Drop for Stop<'_, '_, T> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Ends the run when a worker panics, so that no thread waits for its chunk.
struct StopWhenPanicking<'s, 'a, T>(&'s Readers<'a, T>);

impl<T> Drop for StopWhenPanicking<'_, '_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::input::Document;

    /// What a line of a test says: its source, its number, and its stamp.
    type Item = (usize, u64, Option<Stamp>);

    impl Timed for Vec<Item> {
        fn count(&self) -> usize {
            self.len()
        }

        fn stamp(&self, index: usize) -> Option<Stamp> {
            self[index].2
        }
    }

    /// A line: a time with `!` if it is sure, or no time.
    fn line(stamp: Option<Stamp>) -> String {
        match stamp {
            Some(Stamp { at, sure }) => format!("{at}{}\n", if sure { "!" } else { "" }),
            None => "-\n".to_owned(),
        }
    }

    fn decode(chunk: Chunk<'_>) -> Vec<Item> {
        let source = chunk.source();
        let item = |document| match document {
            Document::Whole { line, bytes } => {
                let text = String::from_utf8_lossy(bytes);
                let text = text.trim_end_matches(' ');
                let at = text.trim_end_matches('!').parse().ok();
                (source, line, at.map(|at| Stamp { at, sure: text.ends_with('!') }))
            }
            Document::Oversized { line, .. } => (source, line, None),
        };
        chunk.documents().map(item).collect()
    }

    fn merged(limits: &Limits, sources: &[Source], workers: usize) -> Result<Vec<Item>, InputError> {
        let mut all = Vec::new();
        let mut arrived = 0;
        let take = |step: Step<'_, Vec<Item>>| -> Result<ControlFlow<()>, InputError> {
            match step {
                Step::Arrived(decoded) => arrived += decoded.len(),
                Step::Due(decoded, count) => all.extend(decoded.drain(..count)),
            }
            Ok(ControlFlow::Continue(()))
        };
        let progress = Progress::new();
        let outcome = run_by_time_within(limits, sources, workers, || (), |(), chunk| decode(chunk), take, &progress);
        outcome.map(|_| {
            assert_eq!(arrived, all.len());
            assert_eq!(Some(progress.bytes_read()), progress.bytes_total());
            all
        })
    }

    /// The rules of the module's documentation, over whole lanes.
    fn expected(lanes: &[Vec<Option<Stamp>>]) -> Vec<Item> {
        let mut all = Vec::new();
        for (source, lane) in lanes.iter().enumerate() {
            let believed = |index: usize| -> i64 {
                let Some(stamp) = lane[index] else { return NONE };
                let mut after: Vec<i64> =
                    lane[index + 1..].iter().take(LOOKAHEAD).flatten().map(|other| other.at).collect();
                after.sort_unstable();
                after.reverse();
                after.truncate(CONFIRMED_BY);
                after.last().map_or(stamp.at, |confirmed| stamp.at.min(*confirmed))
            };
            let mut clock = NONE;
            for index in 0..lane.len() {
                let sure = |index: &usize| lane[*index].is_some_and(|stamp| stamp.sure);
                if clock == NONE
                    && !sure(&index)
                    && let Some(first) = (index..lane.len()).take(LOOKAHEAD).find(sure)
                {
                    clock = believed(first);
                }
                clock = clock.max(believed(index));
                all.push((clock, source, index as u64 + 1, lane[index]));
            }
        }
        all.sort_by_key(|(time, source, line, _)| (*time, *source, *line));
        all.into_iter().map(|(_, source, line, stamp)| (source, line, stamp)).collect()
    }

    fn any_lane() -> impl Strategy<Value = Vec<Option<Stamp>>> {
        let step = prop_oneof![
            12 => (0..9i64).prop_map(|later| (later, true, true)),
            3 => (-300..0i64).prop_map(|earlier| (earlier, false, true)),
            1 => (300..900i64).prop_map(|misdated| (misdated, true, true)),
            1 => Just((0, false, false)),
        ];
        (0..200i64, proptest::collection::vec(step, 0..60)).prop_map(|(begin, steps)| {
            let mut clock = begin;
            let stamp = |(moved, sure, stamped): (i64, bool, bool)| {
                if (0..100).contains(&moved) {
                    clock += moved;
                }
                let at = if (0..100).contains(&moved) { clock } else { clock + moved };
                stamped.then_some(Stamp { at, sure })
            };
            steps.into_iter().map(stamp).collect()
        })
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_lanes_clocks_whatever_reads_it(
            lanes in proptest::collection::vec(any_lane(), 2..8),
            chunk in 1..200usize,
            workers in 0..4usize,
            inline in prop_oneof![Just(0u64), 1..500u64],
            // So long that the head of a source ends within its first items.
            padding in prop_oneof![Just(0usize), 500..2000usize],
        ) {
            let padded = |stamp| line(stamp).replace('\n', &format!("{:padding$}\n", ""));
            let source = |lane: &Vec<Option<Stamp>>| {
                Source::memory("lane", lane.iter().copied().map(padded).collect::<String>().into_bytes())
            };
            let sources: Vec<Source> = lanes.iter().map(source).collect();
            let limits = Limits { chunk, inline, ..Limits::STANDARD };
            prop_assert_eq!(merged(&limits, &sources, workers).unwrap(), expected(&lanes));
        }
    }

    #[test]
    fn a_file_that_begins_with_what_has_no_stamp_begins_where_a_pipe_would() {
        let unsure = |at| Some(Stamp { at, sure: false });
        let lanes = [vec![Some(Stamp { at: 0, sure: true }), unsure(-130)], vec![None, unsure(34)]];
        let sources = lanes
            .each_ref()
            .map(|lane| Source::memory("lane", lane.iter().copied().map(line).collect::<String>().into_bytes()));
        assert_eq!(merged(&Limits::STANDARD, &sources, 0).unwrap(), expected(&lanes));
    }

    #[test]
    fn a_head_is_read_until_nothing_that_follows_can_make_it_begin_earlier() {
        // One document fills the first piece that is read of a head.
        let long = |at: i64| format!("{at}!{:5000}\n", "");
        let lanes = [vec![100, 90, 5, 101, 102], vec![50, 60]];
        let sources = lanes
            .each_ref()
            .map(|lane| Source::memory("lane", lane.iter().copied().map(long).collect::<String>().into_bytes()));
        let lanes = lanes.map(|lane| lane.into_iter().map(|at| Some(Stamp { at, sure: true })).collect());
        assert_eq!(merged(&Limits::STANDARD, &sources, 0).unwrap(), expected(&lanes));
    }

    fn lane_of(times: impl IntoIterator<Item = i64>) -> Source {
        let text: String = times.into_iter().map(|at| line(Some(Stamp { at, sure: true }))).collect();
        Source::memory("lane", text.into_bytes())
    }

    #[test]
    fn sources_that_follow_each_other_are_never_open_together() {
        let sources: Vec<Source> = (0..2000).map(|hour| lane_of(hour * 60..(hour + 1) * 60)).collect();
        for workers in [0, 2] {
            let found = merged(&Limits { inline: 0, ..Limits::STANDARD }, &sources, workers).unwrap();
            assert!(found.iter().map(|(_, _, stamp)| stamp.unwrap().at).eq(0..120_000));
        }
    }

    #[test]
    fn as_many_sources_as_may_be_open_are_merged_and_one_more_is_refused() {
        let sources: Vec<Source> =
            (0..=MAX_LANES).map(|first| lane_of((0..40).map(|n| n * 10_000 + first as i64))).collect();
        let limits = Limits { chunk: 40, inline: 0, ..Limits::STANDARD };
        for workers in [0, 3] {
            let found = merged(&limits, &sources[1..], workers).unwrap();
            assert_eq!(found.len(), MAX_LANES * 40);
            assert!(found.iter().map(|(_, _, stamp)| stamp.unwrap().at).is_sorted());
            let refused = merged(&limits, &sources, workers);
            assert!(
                matches!(refused, Err(InputError::TooManyAtOnce { count, .. }) if count == MAX_LANES + 1),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_panic_of_a_worker_or_of_the_caller_is_passed_on() {
        let sources = [lane_of(0..5000), lane_of(0..5000)];
        for workers in 0..3 {
            for at_work in [true, false] {
                let limits = Limits { chunk: 64, inline: 0, ..Limits::STANDARD };
                let caught = panic::catch_unwind(panic::AssertUnwindSafe(|| {
                    run_by_time_within::<_, _, InputError>(
                        &limits,
                        &sources,
                        workers,
                        || (),
                        |(), chunk| {
                            assert!(!at_work || chunk.first_line() < 900, "at work");
                            decode(chunk)
                        },
                        |step| {
                            if let Step::Due(decoded, count) = step {
                                assert!(at_work || decoded.drain(..count).all(|(_, line, _)| line < 900), "taking");
                            }
                            Ok(ControlFlow::Continue(()))
                        },
                        &Progress::new(),
                    )
                }));
                caught.unwrap_err();
            }
        }
    }
}
