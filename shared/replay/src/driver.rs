//! The use cases over event files, on a virtual clock.
//!
//! The clock is the latest time that SES has stamped on an event so far, in the order of the input, or up to ten minutes more
//! where a recipient's provider gives a later date. When it reaches a moment at which a breaker is due, or a minute ends, the
//! breakers are evaluated as of that time. A new unit of harm that raises an alarm is judged at once; the deployed stack does
//! so within a second.
//!
//! **Invariant:** the result depends on the events and their order alone: not on threads, chunks, files or wrappings.
//! **Invariant:** nothing here can touch an account: no part of the AWS SDK is linked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pipeline::classify::{Classifier, Outcome, Stamps};
use pipeline::evaluate;
use pipeline::fold::{Limits, Record, Shard, fold};
use pipeline::memory::{MemoryLedger, MemoryReputation};
use pipeline::ports::{Board, Change, PortError, SubjectState, Transition, Versioned};
use pipeline::senders::Senders;
use reputation::breaker::{self, BreakerState, StateName};
use reputation::budget;
use reputation::counters::{Counters, Metric};
use reputation::isp::Isp;
use reputation::judge::{self, Forecast};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{HOUR, MINUTE_MILLIS, Minute, Now};
use reputation::timeline::judged_from;
use reputation::unit::{SenderId, Unit, UnitKey, UnitKind};
use ses_events::{Decoded, Decoder, Detail, Event};

use crate::diagnosis::{Class, Diagnoses, classes_of};
use crate::domains::{DomainBook, Received, received};
use crate::evidence::{EvidenceLog, SAMPLE_MINUTES};
use crate::input::{self, Chunk, Document, InputError, Progress, Source, Stamp, Step, Timed, split_concatenated};
use crate::order::{Disorder, OrderBook};
use crate::quota::QuotaReport;
use crate::recorded::Recorded;

/// What to replay, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The rules.
    pub policy: Policy,
    /// The wall clock, in milliseconds since 1970: events that are dated more than an hour later are rejected.
    pub real_now: i64,
    /// Only mail accepted from this time on, in milliseconds since 1970.
    pub since: Option<i64>,
    /// Only mail accepted before this time, in milliseconds since 1970.
    pub until: Option<i64>,
    /// Stop when the virtual clock would pass this time.
    pub stop_at: Option<Now>,
    /// Threads that decode, in addition to the one that counts and judges.
    pub workers: usize,
    /// About how many subjects are kept one by one; [`MAX_SUBJECTS`] unless there is a reason for another number. Beyond it the
    /// least active are summed: see [`MemoryReputation::sum_least_active`].
    pub max_subjects: usize,
}

/// A replay failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The input cannot be read to the end.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A port in memory failed, which is a bug.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// What was read, and the results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Documents: lines, or pretty-printed documents.
    pub lines: u64,
    /// Events in them.
    pub events: u64,
    /// New units; a block accompanies another unit and is not counted again.
    pub recorded: u64,
    /// Units that were counted before.
    pub duplicates: u64,
    /// Messages that are known and do not count, by name.
    pub ignored: BTreeMap<String, u64>,
    /// Events that count although something about them is odd, by name.
    pub odd: BTreeMap<&'static str, u64>,
    /// Messages that could not be read or counted, by kind of reason.
    pub rejected: BTreeMap<String, u64>,
    /// Events about mail outside the requested time.
    pub outside: u64,
    /// New units about mail so much older than the clock that they were counted but not judged.
    pub too_old: u64,
    /// Mails with a Send event.
    pub sends: u64,
    /// Of those, mails whose Send event came more than an hour after the clock had passed it, but not too late to be judged.
    pub late_sends: u64,
    /// First and last minute in which mail with an event here was accepted.
    pub mail: Option<(Minute, Minute)>,
}

/// A message that could not be read or counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedLine {
    /// Name of the file.
    pub source: String,
    /// Number of the document's first line.
    pub line: u64,
    /// Why; never contains an address, a subject line or a header.
    pub reason: String,
}

/// A period in which a key was stopped, and the mail of that time, which a replay cannot hold back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The key.
    pub key: Key,
    /// The start.
    pub from: Now,
    /// The end; `None` = the end of the replay.
    pub until: Option<Now>,
    /// The counters of the mail that was accepted in that time.
    pub mail: Counters,
}

/// A key to trace: its state is kept at each transition within some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRequest {
    /// The key.
    pub key: Key,
    /// The start.
    pub from: Now,
    /// The end, inclusive.
    pub until: Now,
}

/// What a replay keeps in addition to its report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// A key to trace.
    pub trace_request: Option<TraceRequest>,
    /// Whether to ask the gate for the mail.
    pub quota: bool,
    /// Whether to keep the evidence over time.
    pub course: bool,
    /// Whether to keep what servers said.
    pub diagnoses: bool,
    /// Whether to keep the recipients' domains.
    pub domains: bool,
    /// A subject that is never summed with others, in addition to that of the trace.
    pub kept: Option<Subject>,
}

/// What a decoding thread keeps in addition to units.
#[derive(Clone, Copy, Debug, Default)]
struct Keep {
    diagnoses: bool,
    domains: bool,
}

/// A transition of the traced key, with the state that it was decided on.
#[derive(Clone, Debug)]
pub struct TraceEntry {
    /// The transition.
    pub transition: Transition,
    /// Counters and breakers of the subject before it.
    pub subject_state: SubjectState,
    /// The board at that time.
    pub board: Arc<Board>,
    /// The breakers of its ISPs that were decided before it at the same moment.
    pub steps: BTreeMap<Isp, BreakerState>,
    /// For the account: the forecast of what SES sees at that time; `None` = as computed from the replay.
    pub forecast: Option<Vec<Forecast>>,
}

/// The traced subject before a decision.
struct Before {
    breakers: BTreeMap<Option<Isp>, Versioned>,
    board: Arc<Board>,
}

/// A replay, running or finished.
#[derive(Debug)]
pub struct Replay {
    /// The rules.
    pub policy: Policy,
    /// What was read.
    pub tallies: Tallies,
    /// Counters and breakers, controls and transitions.
    pub reputation: MemoryReputation,
    /// Periods in which a key was stopped.
    pub stopped: Vec<Stopped>,
    /// Transitions of the traced key, with the state that they were decided on.
    pub trace: Vec<TraceEntry>,
    /// What the gate would have granted, if it was asked for.
    pub quota: Option<QuotaReport>,
    /// The evidence over time, if it was asked for.
    pub evidence: Option<EvidenceLog>,
    /// What servers said, if it was asked for.
    pub diagnoses: Option<Diagnoses>,
    /// The recipients' domains, if they were asked for.
    pub domains: Option<DomainBook>,
    ledger: MemoryLedger,
    senders: Senders,
    /// The numbers here of each worker's senders.
    workers: Vec<WorkerNames>,
    /// Senders that workers have named and forgotten, without any unit that counted.
    without_units: BTreeSet<Vec<Subject>>,
    order: OrderBook,
    now: Now,
    /// The latest time that SES has stamped.
    by_ses: Now,
    sequence: u64,
    /// A replay is one stream in one shard.
    shard: Shard,
    pending: Vec<Record>,
    touched: BTreeSet<(SenderId, Isp)>,
    /// The stopped periods of each subject for which mail may still come.
    watched_subjects: BTreeMap<Subject, Vec<usize>>,
    /// The same for each sender's keys, by sender.
    watched: BTreeMap<SenderId, Vec<usize>>,
    stop_at: Option<Now>,
    trace_request: Option<TraceRequest>,
    max_subjects: usize,
    /// With this many subjects, the least active are summed before the hour is over.
    sum_from: usize,
    /// The number of units at which the subjects are counted again.
    count_from: u64,
    kept: Option<Subject>,
    /// Whether subjects were summed since senders were last forgotten.
    has_lost: bool,
    /// The number of senders that have been forgotten.
    lost_senders: u64,
    /// A checksum over the forgotten senders of a subject that is kept.
    lost_mail: BTreeMap<Subject, u64>,
}

/// Harm is judged at once. Other mail can raise an alarm only by lifting a rate over a floor, so an hourly evaluation is
/// enough; but it can end a probe, so senders with a breaker that is not closed are evaluated at this interval.
const REJUDGE_MINUTES: u32 = 10;
/// How far a provider's date may move the clock beyond SES's stamps.
const PROVIDERS_LEAD_MINUTES: u32 = 10;
/// SES publishes a Send event at once. If it comes this much later, the files are not sorted by time.
const LATE_MINUTES: u32 = HOUR;
/// The most units that are counted together, if nothing needs the counters before.
const MAX_PENDING: usize = 1024;
/// The number of names of ignored messages that are distinguished.
const MAX_NAMES: usize = 100;
/// The number of reasons for rejections that are kept of one chunk; the others are only counted.
const MAX_REASONS: usize = 50;
/// Subjects that are kept one by one, unless the options say otherwise. With the names of their senders they take about 250 MB
/// if each has one mail, and up to twice as much while many are new.
pub const MAX_SUBJECTS: usize = 200_000;
/// The subjects are counted after this many units: between two counts each unit may bring a new sender.
const COUNT_EVERY: u64 = 1024;
/// The keys of units are compared within one run only, and are not printed.
const SECRET: [u8; 16] = *b"replay in memory";

/// Replays the sources. `reject` is called for each message that could not be read or counted (only for the first of very many
/// in one place).
///
/// # Errors
///
/// A source cannot be read; what came before the error has been counted.
pub fn replay(
    options: &Options,
    sources: &[Source],
    reject: &mut dyn FnMut(&RejectedLine),
    progress: &Progress,
) -> Result<Replay, ReplayError> {
    let (replay, outcome) = replay_while_readable(options, Extras::default(), sources, reject, progress);
    outcome.map(|()| replay)
}

/// Like [`replay`], but if the input breaks off, what came before is judged and returned with the error. Also keeps `extras`.
pub fn replay_while_readable(
    options: &Options,
    extras: Extras,
    sources: &[Source],
    reject: &mut dyn FnMut(&RejectedLine),
    progress: &Progress,
) -> (Replay, Result<(), ReplayError>) {
    let next_worker = AtomicUsize::new(0);
    let keep = Keep { diagnoses: extras.diagnoses, domains: extras.domains };
    let worker = || Worker::new(next_worker.fetch_add(1, Ordering::Relaxed), options, keep);
    let traced = extras.trace_request.as_ref().map(|trace_request| trace_request.key.subject.clone());
    let mut replay = Replay {
        kept: extras.kept.or(traced),
        trace_request: extras.trace_request,
        quota: extras.quota.then(|| QuotaReport::new(&options.policy)),
        evidence: extras.course.then(EvidenceLog::default),
        diagnoses: extras.diagnoses.then(Diagnoses::default),
        domains: extras.domains.then(|| DomainBook::new(options.policy.isp_map.clone())),
        ..Replay::new(options)
    };
    let take = |step: Step<'_, DecodedChunk>| -> Result<ControlFlow<()>, ReplayError> {
        Ok(match step {
            Step::Arrived(decoded) => replay.receive(decoded),
            Step::Due(decoded, count) => pollster::block_on(replay.apply(decoded, count, reject))?,
        })
    };
    let read = input::run_by_time(sources, options.workers, worker, Worker::decode, take, progress);
    let stopped = matches!(read, Ok(ControlFlow::Break(())));
    let finished = pollster::block_on(replay.finish(stopped));
    (replay, read.map(|_| ()).and(finished.map_err(ReplayError::from)))
}

/// Replays the sources under two policies at once, so that they are read once. Rejected messages are reported once; if the
/// input breaks off, what came before is judged and returned with the error.
///
/// The first options set the number of decoding threads.
pub fn replay_side_by_side(
    options: [&Options; 2],
    sources: &[Source],
    reject: &mut dyn FnMut(&RejectedLine),
    progress: &Progress,
) -> ([Replay; 2], Result<(), ReplayError>) {
    let next_worker = AtomicUsize::new(0);
    let workers = || {
        let id = next_worker.fetch_add(1, Ordering::Relaxed);
        options.map(|options| Worker::new(id, options, Keep::default()))
    };
    let decode =
        |workers: &mut [Worker<'_>; 2], chunk: Chunk<'_>| workers.each_mut().map(|worker| worker.decode(chunk));
    let mut replays = options.map(Replay::new);
    let take = |step: Step<'_, [DecodedChunk; 2]>| -> Result<ControlFlow<()>, ReplayError> {
        match step {
            Step::Arrived(decoded) => {
                for (replay, decoded) in replays.iter_mut().zip(decoded) {
                    _ = replay.receive(decoded);
                }
            }
            Step::Due([first, second], count) => {
                let [one, other] = &mut replays;
                _ = pollster::block_on(one.apply(first, count, reject))?;
                _ = pollster::block_on(other.apply(second, count, &mut |_| {}))?;
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    let read = input::run_by_time(sources, options[0].workers, workers, decode, take, progress).map(|_| ());
    let mut outcome = read;
    for replay in &mut replays {
        outcome = outcome.and(pollster::block_on(replay.finish(false)).map_err(ReplayError::from));
    }
    (replays, outcome)
}

/// Replays recorded units. Each counts at the end of the minute in which its mail was accepted.
///
/// # Errors
///
/// A port in memory fails, which is a bug.
pub fn replay_recorded(options: &Options, recorded: &Recorded) -> Result<Replay, ReplayError> {
    let mut replay = Replay::new(options);
    pollster::block_on(async {
        replay.take(options, recorded).await?;
        replay.finish(false).await
    })?;
    Ok(replay)
}

/// A chunk as decoded by a worker.
struct DecodedChunk {
    worker: usize,
    /// The number of times that the worker has forgotten its senders before.
    generation: usize,
    source: usize,
    new_senders: Vec<Vec<Subject>>,
    /// Everything that was decoded, so that every policy sees the same items.
    events: Vec<HeardEvent>,
    units: Vec<Unit>,
    /// The classes of some units, by their index, with the id of the message; only if asked for.
    classes: VecDeque<(usize, Class, String)>,
    /// The recipients of some units, by their index; only if asked for.
    received: VecDeque<(usize, Received)>,
    tallies: Tallies,
    /// Each rejection, with the number of events before it.
    rejections: VecDeque<(usize, RejectedLine)>,
    /// The number of its events and units that have been applied.
    applied: (usize, usize),
}

/// The times of an event, and how many of the next units belong to it.
struct HeardEvent {
    /// `None` if they are implausible.
    stamps: Option<Stamps>,
    /// Whether it moves the clock.
    counts: bool,
    /// Whether it is a bounce or a complaint without a date of its own.
    harm: bool,
    units: u32,
}

impl Timed for DecodedChunk {
    fn count(&self) -> usize {
        self.events.len()
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        let HeardEvent { stamps, harm, .. } = &self.events[index];
        // A bounce or a complaint may have no other date of SES's than that of its mail.
        stamps.map(|stamps| Stamp { at: stamps.by_ses.max(stamps.by_provider.unwrap_or(i64::MIN)), sure: !harm })
    }
}

impl Timed for [DecodedChunk; 2] {
    fn count(&self) -> usize {
        self[0].count()
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        self[0].stamp(index)
    }
}

/// The senders that a worker has named.
#[derive(Debug, Default)]
struct WorkerNames {
    /// The number of generations that are over.
    over: usize,
    /// The generations after those.
    generations: VecDeque<Generation>,
}

/// The senders that a worker has named until it forgot them, under the indices that its chunks use.
#[derive(Debug, Default)]
struct Generation {
    known: Vec<KnownSender>,
    /// Chunks that have arrived and are not completely applied.
    chunks: usize,
}

/// A sender as named by a worker.
#[derive(Debug)]
enum KnownSender {
    /// None of its units has been applied.
    Named(Vec<Subject>),
    /// Its number in the replay.
    Joined(SenderId),
}

struct Worker<'a> {
    id: usize,
    options: &'a Options,
    decoder: Decoder,
    classifier: Classifier,
    senders: Senders,
    told_senders: usize,
    generation: usize,
    keep: Keep,
}

impl<'a> Worker<'a> {
    fn new(id: usize, options: &'a Options, keep: Keep) -> Worker<'a> {
        Worker {
            id,
            options,
            decoder: Decoder::new(),
            classifier: Classifier::new(&options.policy, SECRET),
            senders: Senders::default(),
            told_senders: 0,
            generation: 0,
            keep,
        }
    }

    fn decode(&mut self, chunk: Chunk<'_>) -> DecodedChunk {
        if self.senders.len() > self.options.max_subjects {
            (self.senders, self.told_senders) = (Senders::default(), 0);
            self.generation += 1;
        }
        let mut out = DecodedChunk {
            worker: self.id,
            generation: self.generation,
            source: chunk.source(),
            new_senders: Vec::new(),
            events: Vec::with_capacity(chunk.documents().len()),
            units: Vec::with_capacity(chunk.documents().len()),
            classes: VecDeque::new(),
            received: VecDeque::new(),
            tallies: Tallies::default(),
            rejections: VecDeque::new(),
            applied: (0, 0),
        };
        for document in chunk {
            out.tallies.lines += 1;
            match document {
                Document::Whole { line, bytes } => self.document(chunk.name(), line, bytes, true, &mut out),
                Document::Oversized { line, bytes } => {
                    let most = input::MAX_DOCUMENT;
                    let reason = format!(
                        "document of {bytes} bytes; the limit is {most} (split it into its items, for example: jq -c '.[]?[]?' \
                         FILE | replay -)"
                    );
                    out.reject(chunk.name(), line, "oversized", || reason);
                }
            }
        }
        out.new_senders = self.senders.since(self.told_senders).to_vec();
        self.told_senders = self.senders.len();
        out
    }

    fn document(&mut self, source: &str, line: u64, bytes: &[u8], may_split: bool, out: &mut DecodedChunk) {
        let Worker { options, decoder, classifier, senders, keep, .. } = self;
        let (mut split, mut may_split) = (None, may_split);
        decoder.decode(bytes, |decoded| match decoded {
            Decoded::Event(event) => {
                out.tallies.events += 1;
                let accepted = event.mail.timestamp.0;
                let before = out.units.len();
                let stamps = Stamps::of(&event, options.real_now);
                let harm =
                    matches!(event.detail, Detail::Bounce(_) | Detail::Complaint(_)) && event.published_at.is_none();
                let passed = HeardEvent { stamps: Some(stamps), counts: false, harm, units: 0 };
                match classifier.classify(&event, options.real_now, senders, &mut out.units) {
                    Ok(Outcome::Counted(oddities)) => {
                        for oddity in oddities.iter() {
                            *out.tallies.odd.entry(oddity.name()).or_default() += 1;
                        }
                        let outside = options.since.is_some_and(|since| accepted < since)
                            || options.until.is_some_and(|until| accepted >= until);
                        if outside {
                            out.units.truncate(before);
                            out.tallies.outside += 1;
                            out.events.push(passed);
                        } else {
                            if keep.diagnoses {
                                out.diagnose(&event, before, classifier.failures());
                            }
                            if keep.domains {
                                out.receive(&event, before, classifier);
                            }
                            let units = u32::try_from(out.units.len() - before).unwrap_or(u32::MAX);
                            out.tallies.saw_mail_of(accepted);
                            out.events.push(HeardEvent { counts: true, units, ..passed });
                        }
                    }
                    Ok(Outcome::Ignored(name)) => {
                        out.tallies.ignore(name, 1);
                        out.events.push(passed);
                    }
                    Err(refused) => {
                        out.reject(source, line, "uncountable", || refused.to_string());
                        out.events.push(HeardEvent { stamps: None, ..passed });
                    }
                }
            }
            Decoded::Ignored(ignored) => out.tallies.ignore(ignored.name(), 1),
            Decoded::Rejected(rejection) => {
                // Only a document that is wrong as a whole can be several documents. A list may have many bad items, and is
                // scanned once.
                if may_split {
                    split = split_concatenated(bytes);
                    may_split = false;
                }
                if split.is_none() {
                    out.reject(source, line, rejection.name(), || rejection.to_string());
                }
            }
        });
        for part in split.into_iter().flatten() {
            self.document(source, line, part, false, out);
        }
    }
}

impl KnownSender {
    /// Its subjects, if none of its units has been applied.
    fn without_units(self) -> Option<Vec<Subject>> {
        match self {
            KnownSender::Named(subjects) => Some(subjects),
            KnownSender::Joined(_) => None,
        }
    }
}

/// Spreads numbers so that different sets have different sums, almost certainly (the finalizer of SplitMix64).
fn spread(number: u64) -> u64 {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The number of subjects at which the least active are summed before the hour is over.
fn early(max_subjects: usize) -> usize {
    max_subjects + max_subjects / 4
}

/// Reports the rejections before the event with this number.
fn report_until(rejections: &mut VecDeque<(usize, RejectedLine)>, event: usize, reject: &mut dyn FnMut(&RejectedLine)) {
    while let Some((_, rejected)) = rejections.pop_front_if(|(place, _)| *place <= event) {
        reject(&rejected);
    }
}

/// The account as SES would see it, by the counters so far.
pub(crate) fn forecast(policy: &Policy, reputation: &MemoryReputation, now: Now) -> Vec<Forecast> {
    let sets = reputation.subject_states().filter(|(subject, _)| subject.is_part_of_account());
    judge::forecast(policy, sets.map(|(_, subject_state)| &subject_state.timeline), now)
}

impl DecodedChunk {
    /// Records the classes of an event's units, which are those from `from` on. `failures`: see [`Classifier::failures`].
    fn diagnose(&mut self, event: &Event<'_>, from: usize, failures: &[Option<usize>]) {
        let mut classes = classes_of(event, failures).into_iter();
        if classes.len() == 0 {
            return;
        }
        // A block accompanies the unit before it.
        let own = self.units.iter().enumerate().skip(from).filter(|(_, unit)| unit.kind != UnitKind::Block);
        let id = &event.mail.message_id;
        self.classes.extend(own.map_while(|(index, _)| Some((index, classes.next()?, id.to_string()))));
    }

    /// Records the recipients of an event's units, which are those from `from` on.
    fn receive(&mut self, event: &Event<'_>, from: usize, classifier: &Classifier) {
        // A block accompanies the unit before it.
        let own = self.units.iter().enumerate().skip(from).filter(|(_, unit)| unit.kind != UnitKind::Block);
        let of_units = received(event, classifier).into_iter().zip(own);
        let known = of_units.filter(|(received, _)| received.has_domain());
        self.received.extend(known.map(|(received, (index, _))| (index, received)));
    }

    fn reject(&mut self, source: &str, line: u64, name: &str, reason: impl FnOnce() -> String) {
        *self.tallies.rejected.entry(name.to_owned()).or_default() += 1;
        if self.rejections.len() < MAX_REASONS {
            let rejected = RejectedLine { source: source.to_owned(), line, reason: reason() };
            self.rejections.push_back((self.events.len(), rejected));
        }
    }
}

impl Tallies {
    /// Counts ignored messages by name; after the first [`MAX_NAMES`] names the rest share one, because names come from the
    /// input.
    fn ignore(&mut self, name: &str, count: u64) {
        if let Some(known) = self.ignored.get_mut(name) {
            *known += count;
        } else if self.ignored.len() < MAX_NAMES {
            self.ignored.insert(name.to_owned(), count);
        } else {
            *self.ignored.entry("(other names)".to_owned()).or_default() += count;
        }
    }

    fn saw_mail_of(&mut self, accepted: i64) {
        let Some(minute) = Minute::of_millis(accepted) else { return };
        let (first, last) = self.mail.unwrap_or((minute, minute));
        self.mail = Some((first.min(minute), last.max(minute)));
    }

    fn merge(&mut self, other: Tallies) {
        self.lines += other.lines;
        self.events += other.events;
        self.recorded += other.recorded;
        self.duplicates += other.duplicates;
        self.outside += other.outside;
        if let Some((first, last)) = other.mail {
            let (from, until) = self.mail.unwrap_or((first, last));
            self.mail = Some((from.min(first), until.max(last)));
        }
        for (name, count) in other.ignored {
            self.ignore(&name, count);
        }
        for (name, count) in other.odd {
            *self.odd.entry(name).or_default() += count;
        }
        for (name, count) in other.rejected {
            *self.rejected.entry(name).or_default() += count;
        }
    }
}

impl Replay {
    /// The subjects that a sender's mail counts for.
    pub fn subjects_of(&self, sender: SenderId) -> &[Subject] {
        self.senders.subjects(sender)
    }

    fn new(options: &Options) -> Replay {
        Replay {
            policy: options.policy.clone(),
            tallies: Tallies::default(),
            reputation: MemoryReputation::under(&options.policy),
            stopped: Vec::new(),
            trace: Vec::new(),
            quota: None,
            evidence: None,
            diagnoses: None,
            domains: None,
            ledger: MemoryLedger::default(),
            senders: Senders::default(),
            workers: Vec::new(),
            without_units: BTreeSet::new(),
            order: OrderBook::default(),
            now: Now::default(),
            by_ses: Now::default(),
            sequence: 0,
            shard: Shard::new("replay"),
            pending: Vec::new(),
            touched: BTreeSet::new(),
            watched_subjects: BTreeMap::new(),
            watched: BTreeMap::new(),
            stop_at: options.stop_at,
            trace_request: None,
            max_subjects: options.max_subjects,
            sum_from: early(options.max_subjects),
            count_from: COUNT_EVERY,
            kept: None,
            has_lost: false,
            lost_senders: 0,
            lost_mail: BTreeMap::new(),
        }
    }

    /// About how many subjects are kept one by one.
    pub fn max_subjects(&self) -> usize {
        self.max_subjects
    }

    /// The virtual clock.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The senders of each subject's mail, in order.
    pub fn senders_by_subject(&self) -> BTreeMap<&Subject, Vec<SenderId>> {
        let mut senders: BTreeMap<&Subject, Vec<SenderId>> = BTreeMap::new();
        for id in (0..self.senders.len()).map(|id| SenderId(u32::try_from(id).unwrap_or(u32::MAX))) {
            for subject in self.senders.subjects(id) {
                senders.entry(subject).or_default().push(id);
            }
        }
        senders
    }

    /// The bytes that the ledger takes, and the number of its units.
    pub fn ledger_size(&self) -> (usize, usize) {
        (self.ledger.bytes(), self.ledger.len())
    }

    /// How far the input was from being sorted by time, if that spoils the result.
    pub fn disorder(&self) -> Option<Disorder> {
        self.order.disorder()
    }

    /// Takes the senders that a worker has named, in the worker's order: chunks are applied in another order.
    fn receive(&mut self, decoded: &mut DecodedChunk) -> ControlFlow<()> {
        self.named(decoded.worker, decoded.generation, std::mem::take(&mut decoded.new_senders));
        ControlFlow::Continue(())
    }

    /// Takes the senders that a worker has named in another chunk.
    fn named(&mut self, worker: usize, generation: usize, senders: Vec<Vec<Subject>>) {
        if self.workers.len() <= worker {
            self.workers.resize_with(worker + 1, WorkerNames::default);
        }
        let WorkerNames { over, generations } = &mut self.workers[worker];
        let place = generation - *over;
        if generations.len() <= place {
            generations.resize_with(place + 1, Generation::default);
        }
        generations[place].known.extend(senders.into_iter().map(KnownSender::Named));
        generations[place].chunks += 1;
    }

    /// A chunk has been applied completely: a generation that a worker has forgotten is dropped with its last chunk.
    fn used_up(&mut self, worker: usize, generation: usize) {
        let WorkerNames { over, generations } = &mut self.workers[worker];
        generations[generation - *over].chunks -= 1;
        while generations.len() > 1
            && let Some(dropped) = generations.pop_front_if(|first| first.chunks == 0)
        {
            *over += 1;
            if self.reputation.summed().is_empty() {
                self.without_units.extend(dropped.known.into_iter().filter_map(KnownSender::without_units));
            }
        }
    }

    /// Senders are numbered in the order in which their units are applied, independent of the worker.
    fn sender(&mut self, worker: usize, generation: usize, theirs: SenderId) -> SenderId {
        let WorkerNames { over, generations } = &mut self.workers[worker];
        let known = &mut generations[generation - *over].known[theirs.0 as usize];
        match known {
            KnownSender::Joined(id) => *id,
            KnownSender::Named(subjects) => {
                let subjects = std::mem::take(subjects);
                let id = self.senders.join(std::slice::from_ref(&subjects))[0];
                *known = KnownSender::Joined(id);
                if !self.watched_subjects.is_empty() && !self.watched.contains_key(&id) {
                    self.watch_sender(id);
                }
                id
            }
        }
    }

    /// Senders without units that count are listed at the end, too, unless senders were forgotten: then workers may have named
    /// different ones.
    fn join_the_others(&mut self) {
        let generations = self.workers.drain(..).flat_map(|names| names.generations);
        let mut others = std::mem::take(&mut self.without_units);
        others.extend(generations.flat_map(|names| names.known).filter_map(KnownSender::without_units));
        if self.reputation.summed().is_empty() {
            self.senders.join(&others.into_iter().collect::<Vec<_>>());
        }
    }

    /// Forgets the senders of subjects that were summed, until they have mail again. Nothing may be pending: at the end of an
    /// hour all mail has been counted, judged and asked for.
    fn forget_senders(&mut self) {
        let diagnosed: BTreeSet<SenderId> =
            self.diagnoses.iter().flat_map(Diagnoses::classes).map(|((sender, ..), ..)| *sender).collect();
        let ids = (0..self.senders.len()).map(|id| SenderId(u32::try_from(id).unwrap_or(u32::MAX)));
        let is_lost = |id: &SenderId| {
            !self.senders.subjects(*id).is_empty() && !self.reputation.knows_sender(*id) && !diagnosed.contains(id)
        };
        let lost: BTreeSet<SenderId> = ids.filter(is_lost).collect();
        self.lost_mail.retain(|subject, _| self.reputation.knows(subject));
        for id in &lost {
            self.lost_senders += 1;
            let number = spread(self.lost_senders);
            for subject in self.senders.subjects(*id).iter().filter(|subject| self.reputation.knows(subject)) {
                let lost = self.lost_mail.entry(subject.clone()).or_default();
                *lost = lost.wrapping_add(number);
            }
        }
        for known in self.workers.iter_mut().flat_map(|names| &mut names.generations).flat_map(|names| &mut names.known)
        {
            if let KnownSender::Joined(id) = known
                && lost.contains(id)
            {
                *known = KnownSender::Named(self.senders.subjects(*id).to_vec());
            }
        }
        self.watched.retain(|id, _| !lost.contains(id));
        if let Some(quota) = &mut self.quota {
            quota.forget(&lost);
        }
        self.senders.forget(&lost);
    }

    /// This and [`Replay::senders_by_subject`] identify the senders of a subject's mail: two subjects share all their mail if
    /// both values are equal.
    pub(crate) fn lost_mail_of(&self, subject: &Subject) -> u64 {
        self.lost_mail.get(subject).copied().unwrap_or(0)
    }

    /// Applies the next `count` events of a chunk, and reports the rejections among them.
    async fn apply(
        &mut self,
        decoded: &mut DecodedChunk,
        count: usize,
        reject: &mut dyn FnMut(&RejectedLine),
    ) -> Result<ControlFlow<()>, PortError> {
        self.tallies.merge(std::mem::take(&mut decoded.tallies));
        let (from, first_unit) = decoded.applied;
        let until = from + count;
        decoded.applied.0 = until;
        report_until(&mut decoded.rejections, from, reject);
        let unit_count: usize = decoded.events[from..until].iter().map(|event| event.units as usize).sum();
        decoded.applied.1 = first_unit + unit_count;
        let (worker, generation) = (decoded.worker, decoded.generation);
        let units = &decoded.units[first_unit..first_unit + unit_count];
        let is_new: Vec<bool> = units.iter().map(|unit| self.ledger.insert(unit)).collect();
        let mut units = (first_unit..).zip(units.iter().zip(is_new));
        for (index, event) in (from..until).zip(&decoded.events[from..until]) {
            let Some(stamps) = event.stamps.filter(|_| event.counts) else {
                report_until(&mut decoded.rejections, index + 1, reject);
                continue;
            };
            let stamped = self.clock(stamps);
            if self.stop_at.is_some_and(|stop_at| stamped > stop_at) {
                return Ok(ControlFlow::Break(()));
            }
            self.advance(stamped).await?;
            self.count_subjects().await?;
            // One event can concern recipients at several ISPs.
            let mut alarmed: BTreeSet<(SenderId, Isp)> = BTreeSet::new();
            let mut is_mail = false;
            for (index, (unit, is_new)) in units.by_ref().take(event.units as usize) {
                // Only after the clock has advanced, because that may forget senders.
                let unit = &Unit { sender: self.sender(worker, generation, unit.sender), ..*unit };
                let class = decoded.classes.pop_front_if(|(of, ..)| *of == index);
                if let Some((_, class, id)) = class
                    && let Some(book) = self.diagnoses.as_mut().filter(|_| is_new)
                {
                    book.note((unit.sender, unit.isp, unit.kind), class, unit.cohort, &id);
                }
                let received = decoded.received.pop_front_if(|(of, _)| *of == index);
                if let Some((_, received)) = received
                    && let Some(book) = self.domains.as_mut().filter(|_| is_new)
                {
                    book.note(&received, unit.kind);
                }
                if is_new {
                    is_mail |= self.order.is_mail(unit);
                    alarmed.extend(self.hear(unit).await?);
                } else {
                    self.tallies.duplicates += u64::from(unit.kind != UnitKind::Block);
                }
            }
            if is_mail {
                self.order.note(decoded.source, Now(stamps.by_ses));
            }
            self.judge_alarmed(alarmed).await?;
            report_until(&mut decoded.rejections, index + 1, reject);
        }
        if self.pending.len() >= MAX_PENDING {
            self.fold().await?;
        }
        if until == decoded.events.len() {
            self.used_up(worker, generation);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Counts a new unit; returns the sender and ISP if it raises an alarm.
    async fn hear(&mut self, unit: &Unit) -> Result<Option<(SenderId, Isp)>, PortError> {
        self.tallies.recorded += u64::from(unit.kind != UnitKind::Block);
        let too_old = unit.cohort < judged_from(self.now);
        self.tallies.too_old += u64::from(too_old);
        let mail = unit.kind == UnitKind::Sent;
        self.tallies.sends += u64::from(mail);
        let late = unit.cohort.plus(LATE_MINUTES) < self.now.minute() && !too_old;
        self.tallies.late_sends += u64::from(mail && late);
        self.sequence += 1;
        self.pending.push(Record { sequence: self.sequence.into(), unit: *unit });
        self.watch(unit);
        if let Some(quota) = &mut self.quota {
            quota.note(unit, &self.senders);
        }
        let Some(metric) = Metric::harmed_by(unit.kind) else { return Ok(None) };
        self.fold().await?;
        let alarms = self.reputation.alarms(&self.policy, unit, metric, self.now);
        Ok(alarms.then_some((unit.sender, unit.isp)))
    }

    /// Judges the senders of an alarm at once.
    async fn judge_alarmed(&mut self, alarmed: BTreeSet<(SenderId, Isp)>) -> Result<(), PortError> {
        if alarmed.is_empty() {
            return Ok(());
        }
        self.ask_gate().await?;
        self.evaluate(alarmed).await
    }

    /// Counts and judges the units of a ledger.
    async fn take(&mut self, options: &Options, recorded: &Recorded) -> Result<(), PortError> {
        let subjects = &self.policy.subjects;
        let senders = recorded.senders(subjects.tenants, &subjects.tags);
        self.named(0, 0, senders);
        for counted in recorded.cells() {
            let accepted = i64::from(counted.cohort.0) * MINUTE_MILLIS;
            if options.since.is_some_and(|since| accepted < since)
                || options.until.is_some_and(|until| accepted >= until)
            {
                self.tallies.outside += counted.units;
                continue;
            }
            self.tallies.saw_mail_of(accepted);
            self.advance(Now(accepted + MINUTE_MILLIS - 1)).await?;
            self.count_subjects().await?;
            let isp = self.policy.isp_map.by_name(counted.isp).unwrap_or(Isp::OTHER);
            let sender = self.sender(0, 0, counted.sender);
            for _ in 0..counted.units {
                let key = UnitKey(self.sequence.into());
                let unit = Unit { key, kind: counted.kind, isp, cohort: counted.cohort, sender };
                let alarmed = self.hear(&unit).await?;
                self.judge_alarmed(alarmed.into_iter().collect()).await?;
            }
        }
        Ok(())
    }

    async fn fold(&mut self) -> Result<(), PortError> {
        fold(&mut self.reputation, &self.shard, &self.pending, &self.senders, Limits::NONE, self.now).await?;
        let mut last = None;
        for Record { unit, .. } in self.pending.drain(..) {
            if last != Some((unit.sender, unit.isp)) {
                last = Some((unit.sender, unit.isp));
                self.touched.insert((unit.sender, unit.isp));
                if let Some(book) = &mut self.evidence {
                    book.touch(unit.sender, unit.isp);
                }
            }
        }
        Ok(())
    }

    /// The clock after an event with these stamps. A provider's date moves it at most a little beyond SES's dates: enough for a
    /// verdict not to be dated before the bounce that caused it, and too little for a wrong date to matter.
    fn clock(&mut self, stamps: Stamps) -> Now {
        self.by_ses = self.by_ses.max(Now(stamps.by_ses));
        let furthest = self.by_ses.plus_minutes(PROVIDERS_LEAD_MINUTES);
        self.by_ses.max(stamps.by_provider.map_or(self.by_ses, |at| Now(at).min(furthest)))
    }

    /// Advances the clock to `stamped`.
    async fn advance(&mut self, stamped: Now) -> Result<(), PortError> {
        if stamped <= self.now {
            return Ok(());
        }
        let minute_ends = stamped.minute() > self.now.minute();
        if minute_ends || self.next_due().is_some_and(|due| due <= stamped) {
            // Asked under the breakers as of the time when the mail was sent.
            self.ask_gate().await?;
            self.pass_due(stamped).await?;
        }
        let before = self.now.minute();
        self.now = stamped;
        if minute_ends {
            self.end_minutes(before, stamped.minute()).await?;
        }
        Ok(())
    }

    /// Evaluates each breaker that is due up to `stamped`, at its time.
    async fn pass_due(&mut self, stamped: Now) -> Result<(), PortError> {
        self.fold().await?;
        while let Some(due) = self.next_due().filter(|due| *due <= stamped) {
            self.now = due;
            let before = self.look_before();
            let changes = evaluate::tick(&self.policy, &mut self.reputation, due).await?;
            self.follow(before, &changes);
        }
        Ok(())
    }

    /// The next time at which a breaker is due; overdue ones wait for the end of the minute.
    fn next_due(&self) -> Option<Now> {
        let board = self.reputation.known_board();
        let due = board.unsettled.values().filter_map(|known| breaker::due(&self.policy.breaker, known, self.now));
        let waits_for_a_place = board.unsettled.values().any(|known| known.withheld);
        let due = due.chain(budget::next_free(&board.pauses).filter(|_| waits_for_a_place));
        due.filter(|due| *due > self.now).min()
    }

    async fn end_minutes(&mut self, before: Minute, now: Minute) -> Result<(), PortError> {
        let passed = |minutes: u32| before.0 / minutes != now.0 / minutes;
        let overdue = !self.reputation.known_board().unsettled.is_empty();
        if overdue {
            let before = self.look_before();
            let changes = evaluate::tick(&self.policy, &mut self.reputation, self.now).await?;
            self.follow(before, &changes);
        }
        if passed(HOUR) {
            let touched = std::mem::take(&mut self.touched);
            self.evaluate(touched).await?;
        } else if passed(REJUDGE_MINUTES) && overdue {
            let unsettled: BTreeSet<(SenderId, Isp)> =
                self.touched.iter().copied().filter(|of| self.is_unsettled(of.0)).collect();
            self.evaluate(unsettled).await?;
        }
        if passed(SAMPLE_MINUTES)
            && let Some(book) = &mut self.evidence
        {
            book.sample(&self.policy, &mut self.reputation, &self.senders, self.now);
        }
        if passed(HOUR) {
            let before = self.look_before();
            let changes = evaluate::evaluate_account(&self.policy, &mut self.reputation, self.now).await?;
            self.follow(before, &changes);
        }
        if passed(HOUR) {
            self.reputation.prune(self.now);
            self.forget_watches();
            if self.reputation.len() > self.max_subjects {
                self.sum_least_active();
            }
            if self.has_lost {
                self.has_lost = false;
                self.forget_senders();
            }
        }
        if passed(HOUR)
            && let Some(quota) = &mut self.quota
        {
            quota.close_days(&mut self.reputation, self.now).await?;
        }
        Ok(())
    }

    /// Sums subjects before the hour is over, if very many are new within it.
    ///
    /// Units are counted in batches whose ends depend on how the input is cut, so this counts only at fixed numbers of units,
    /// between two events, when all of them are counted.
    async fn count_subjects(&mut self) -> Result<(), PortError> {
        if self.sequence < self.count_from {
            return Ok(());
        }
        self.count_from = self.sequence + COUNT_EVERY;
        self.fold().await?;
        if self.reputation.len() > self.sum_from {
            self.sum_least_active();
        }
        Ok(())
    }

    fn sum_least_active(&mut self) {
        let most = self.max_subjects - self.max_subjects / 4;
        self.reputation.sum_least_active(most, self.kept.as_ref());
        self.has_lost = true;
        // The subjects that must be kept may exceed the requested number: count again only when there are many more.
        self.sum_from = early(self.max_subjects.max(self.reputation.len()));
        if let Some(book) = &mut self.evidence {
            book.forget_unknown(&self.reputation);
        }
    }

    /// Asks the gate for the mail that was sent since the last time, if it is to be asked.
    async fn ask_gate(&mut self) -> Result<(), PortError> {
        match &mut self.quota {
            Some(quota) if quota.is_pending() => quota.ask(&mut self.reputation, self.now).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a breaker of this sender's subjects is not closed.
    fn is_unsettled(&self, sender: SenderId) -> bool {
        let subjects = self.senders.subjects(sender);
        self.reputation.known_board().unsettled.keys().any(|key| subjects.contains(&key.subject))
    }

    async fn evaluate(&mut self, senders: BTreeSet<(SenderId, Isp)>) -> Result<(), PortError> {
        for (subject, isps) in &self.senders.subjects_at(senders) {
            // Summed since it had mail: one hour's mail had too many subjects.
            if !self.reputation.knows(subject) {
                continue;
            }
            let before = self.look_before();
            let changes = evaluate::evaluate(&self.policy, &mut self.reputation, subject, isps, self.now).await?;
            self.follow(before, &changes);
        }
        Ok(())
    }

    /// Judges every sender at the end of the input. `stopped`: the input goes on after `stop_at`, so senders that are due later
    /// are not judged.
    async fn finish(&mut self, stopped: bool) -> Result<(), PortError> {
        self.join_the_others();
        self.ask_gate().await?;
        if let (true, Some(stop_at)) = (stopped, self.stop_at) {
            self.pass_due(stop_at).await?;
            self.now = self.now.max(stop_at);
            return Ok(());
        }
        self.fold().await?;
        let touched = std::mem::take(&mut self.touched);
        self.evaluate(touched).await?;
        let before = self.look_before();
        let changes = evaluate::evaluate_account(&self.policy, &mut self.reputation, self.now).await?;
        self.follow(before, &changes);
        if let Some(stop_at) = self.stop_at {
            self.advance(stop_at).await?;
        }
        Ok(())
    }

    /// The traced subject as of now, if it is traced at this time.
    fn look_before(&mut self) -> Option<Before> {
        let trace_request = self
            .trace_request
            .as_ref()
            .filter(|trace_request| trace_request.from <= self.now && self.now <= trace_request.until)?;
        let subject_state = self.reputation.find(&trace_request.key.subject);
        let breakers = subject_state.map(|subject_state| subject_state.breakers.clone()).unwrap_or_default();
        Some(Before { breakers, board: Arc::clone(self.reputation.known_board()) })
    }

    /// Records the state on which transitions of the traced key were decided.
    fn record_trace(&mut self, before: Before, changes: &[Change]) {
        let Some(TraceRequest { key: traced, .. }) = &self.trace_request else { return };
        let mut steps = BTreeMap::new();
        let (account, change_at) = (Key { subject: Subject::Account, isp: None }, self.now);
        for change in changes.iter().filter(|change| change.key.subject == traced.subject) {
            if let Some(transition) = change.transition.as_ref().filter(|_| change.key == *traced) {
                // Nothing is counted during a decision: the timeline is the one before it.
                let known = self.reputation.find(&traced.subject).map(|subject_state| subject_state.timeline.clone());
                self.trace.push(TraceEntry {
                    transition: transition.clone(),
                    subject_state: SubjectState {
                        timeline: known.unwrap_or_default(),
                        breakers: before.breakers.clone(),
                        ..SubjectState::default()
                    },
                    board: Arc::clone(&before.board),
                    steps: steps.clone(),
                    forecast: (*traced == account).then(|| forecast(&self.policy, &self.reputation, change_at)),
                });
            }
            if let Some(isp) = change.key.isp {
                steps.entry(isp).or_insert_with(|| change.next.clone());
            }
        }
    }

    /// Records stops and resumes.
    fn follow(&mut self, before: Option<Before>, changes: &[Change]) {
        if let Some(before) = before {
            self.record_trace(before, changes);
        }
        if let Some(book) = &mut self.evidence {
            book.follow(&self.policy, &mut self.reputation, changes, self.now);
        }
        for change in changes {
            let Some(transition) = &change.transition else { continue };
            let (was_open, is_open) = (transition.from == StateName::Open, transition.to == StateName::Open);
            if is_open && !was_open {
                let stopped = Stopped {
                    key: transition.key.clone(),
                    from: transition.at,
                    until: None,
                    mail: Counters::default(),
                };
                self.stopped.push(stopped);
                self.watch_senders_of(self.stopped.len() - 1);
            } else if was_open && !is_open {
                let last = self.stopped.iter_mut().rev().find(|stopped| stopped.key == transition.key);
                if let Some(stopped) = last {
                    stopped.until = Some(transition.at);
                }
            }
        }
    }

    fn watch_senders_of(&mut self, index: usize) {
        let subject = &self.stopped[index].key.subject;
        self.watched_subjects.entry(subject.clone()).or_default().push(index);
        for id in 0..self.senders.len() {
            let id = SenderId(u32::try_from(id).unwrap_or(u32::MAX));
            if *subject == Subject::Account || self.senders.subjects(id).contains(subject) {
                self.watched.entry(id).or_default().push(index);
            }
        }
    }

    /// Watches a sender whose first mail comes after its subjects were stopped.
    fn watch_sender(&mut self, id: SenderId) {
        let subjects = self.senders.subjects(id).iter().chain(std::iter::once(&Subject::Account));
        let indices: Vec<usize> =
            subjects.filter_map(|subject| self.watched_subjects.get(subject)).flatten().copied().collect();
        if !indices.is_empty() {
            self.watched.insert(id, indices);
        }
    }

    /// Counts a unit of mail that was accepted while its key was stopped.
    fn watch(&mut self, unit: &Unit) {
        let Some(indices) = self.watched.get(&unit.sender) else { return };
        for index in indices {
            let stopped = &mut self.stopped[*index];
            let meanwhile =
                unit.cohort > stopped.from.minute() && stopped.until.is_none_or(|until| unit.cohort < until.minute());
            if meanwhile && stopped.key.isp.is_none_or(|isp| isp == unit.isp) {
                let heard = self.policy.isp_map.returns_complaints(unit.isp) || unit.kind == UnitKind::Complaint;
                stopped.mail.add(unit.kind, 1, heard);
            }
        }
    }

    /// Late mail for a period that ended days ago is no longer counted.
    fn forget_watches(&mut self) {
        let long_ago = Now(self.now.0 - 7 * 24 * 60 * MINUTE_MILLIS);
        let may_have_mail = |index: &usize| self.stopped[*index].until.is_none_or(|until| until > long_ago);
        let of_senders = self.watched.values_mut();
        of_senders.chain(self.watched_subjects.values_mut()).for_each(|indices| indices.retain(may_have_mail));
        self.watched.retain(|_, indices| !indices.is_empty());
        self.watched_subjects.retain(|_, indices| !indices.is_empty());
    }
}
