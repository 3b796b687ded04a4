//! The use cases over event files, on a virtual clock.
//!
//! The clock ([`VirtualClock`]) follows the times that SES stamps on events. When it reaches a moment at which a breaker is
//! due, or a minute ends, the work of a minute is done as of that time ([`minute`]). New harm is judged at once ([`react`]),
//! unless it calls for nothing ([`MemoryReputation::alarms`]); the deployed stack judges it within a second. So a replay and
//! the deployed stack differ in their ports, in this shortcut, and in what wakes them: here the clock does.
//!
//! **Invariant:** the result depends on the events and their order alone: not on threads, chunks, files or wrappings.
//! **Invariant:** nothing here can touch an account: no part of the AWS SDK is linked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pipeline::evaluate::Failed;
use pipeline::fold::{Limits, fold};
use pipeline::memory::{Decision, MemoryLedger, MemoryReputation, Traced};
use pipeline::ports::{Board, Change, PortError, SubjectState};
use pipeline::schedule::{awaits_mail, judge_heard_since, minute, next_due, react};
use pipeline::senders::Senders;
use pipeline::stream::{Record, Shard};
use pipeline::transition::Transition;
use reputation::breaker::{BreakerState, State};
use reputation::counters::Metric;
use reputation::isp::Isp;
use reputation::judge::{self, Forecast};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{HOUR, MINUTE_MILLIS, Now};
use reputation::timeline::judged_from;
use reputation::unit::{SenderId, Unit, UnitKey, UnitKind};

use crate::diagnosis::Diagnoses;
use crate::domains::DomainBook;
use crate::evidence::{EvidenceLog, SAMPLE_MINUTES};
use crate::input::{self, Chunk, InputError, Progress, Source, Step};
use crate::order::{Disorder, OrderBook};
use crate::quota::QuotaReport;
use crate::recorded::{Counted, Recorded};

mod clock;
mod names;
mod stops;
mod tallies;
mod worker;

pub use clock::VirtualClock;
use names::Names;
pub use stops::Stopped;
use stops::Stops;
pub use tallies::{RejectedLine, Tallies};
use worker::{DecodedChunk, Keep, Worker};

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

/// A replay, running or finished.
#[derive(Debug)]
pub struct Replay {
    /// The rules.
    pub policy: Policy,
    /// What was read.
    pub tallies: Tallies,
    /// Counters and breakers, controls and transitions.
    pub reputation: MemoryReputation,
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
    names: Names,
    stops: Stops,
    order: OrderBook,
    clock: VirtualClock,
    sequence: u64,
    /// A replay is one stream in one shard.
    shard: Shard,
    pending: Vec<Record>,
    /// Whether units were added since all subjects with units were judged.
    unswept: bool,
    /// Whether any subject is tested, so that its mail is judged at once: see [`awaits_mail`].
    is_testing: bool,
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

/// SES publishes a Send event at once. If it comes this much later, the files are not sorted by time.
const LATE_MINUTES: u32 = HOUR;
/// The most units that are counted together, if nothing needs the counters before.
const MAX_PENDING: usize = 1024;
/// Subjects that are kept one by one, unless the options say otherwise. With the names of their senders they take about 250 MB
/// if each has one mail, and up to twice as much while many are new.
pub const MAX_SUBJECTS: usize = 200_000;
/// The subjects are counted after this many units: between two counts each unit may bring a new sender.
const COUNT_EVERY: u64 = 1024;
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
    replay.reputation.traced = replay.trace_request.as_ref().map(|TraceRequest { key, from, until }| Traced {
        subject: key.subject.clone(),
        from: *from,
        until: *until,
    });
    let take = |step: Step<'_, DecodedChunk>| -> Result<ControlFlow<()>, ReplayError> {
        Ok(match step {
            Step::Arrived(decoded) => {
                replay.names.receive(decoded);
                ControlFlow::Continue(())
            }
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
                    replay.names.receive(decoded);
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

/// Spreads numbers so that different sets have different sums, almost certainly (the finalizer of SplitMix64).
fn spread(number: u64) -> u64 {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Fails if a subject could not be judged, which in memory is a bug.
fn none_failed(failed: Failed) -> Result<(), PortError> {
    failed.subjects.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
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
            trace: Vec::new(),
            quota: None,
            evidence: None,
            diagnoses: None,
            domains: None,
            ledger: MemoryLedger::default(),
            senders: Senders::default(),
            names: Names::default(),
            stops: Stops::default(),
            order: OrderBook::default(),
            clock: VirtualClock::default(),
            sequence: 0,
            shard: Shard::new("replay"),
            pending: Vec::new(),
            unswept: false,
            is_testing: false,
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
        self.clock.now
    }

    /// Periods in which a key was stopped, in the order in which they began.
    pub fn stopped(&self) -> &[Stopped] {
        &self.stops.periods
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

    /// Senders are numbered in the order in which their units are applied, independent of the worker.
    fn sender(&mut self, worker: usize, generation: usize, theirs: SenderId) -> SenderId {
        let (id, is_first) = self.names.number((worker, generation), theirs, &mut self.senders);
        if is_first {
            self.stops.meet(id, &self.senders);
        }
        id
    }

    /// Senders without units that count are listed at the end, too, unless senders were forgotten: then workers may have named
    /// different ones.
    fn join_the_others(&mut self) {
        let others = self.names.take_without_units();
        if self.reputation.summed().is_empty() {
            self.senders.join(&others);
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
        self.names.forget(&lost, &self.senders);
        self.stops.forget(&lost);
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
            let stamped = self.clock.after(stamps);
            if let Some(stop_at) = self.stop_at.filter(|stop_at| stamped > *stop_at) {
                self.wake_until(stamped, stop_at).await?;
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
            self.react(alarmed).await?;
            report_until(&mut decoded.rejections, index + 1, reject);
        }
        if self.pending.len() >= MAX_PENDING {
            self.fold().await?;
        }
        if until == decoded.events.len() {
            self.names.used_up(worker, generation, self.reputation.summed().is_empty());
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Counts a new unit; returns the sender and ISP if it raises an alarm.
    async fn hear(&mut self, unit: &Unit) -> Result<Option<(SenderId, Isp)>, PortError> {
        self.tallies.recorded += u64::from(unit.kind != UnitKind::Block);
        let too_old = unit.cohort < judged_from(self.clock.now);
        self.tallies.too_old += u64::from(too_old);
        let mail = unit.kind == UnitKind::Sent;
        self.tallies.sends += u64::from(mail);
        let late = unit.cohort.plus(LATE_MINUTES) < self.clock.now.minute() && !too_old;
        self.tallies.late_sends += u64::from(mail && late);
        self.sequence += 1;
        self.pending.push(Record { sequence: self.sequence.into(), unit: *unit });
        self.stops.count(unit, &self.policy);
        if let Some(quota) = &mut self.quota {
            quota.note(unit, &self.senders);
        }
        let Some(metric) = Metric::harmed_by(unit.kind) else {
            let board = self.reputation.known_board();
            let awaited = self.is_testing
                && self.senders.subjects(unit.sender).iter().any(|subject| awaits_mail(&self.policy, board, subject));
            if awaited {
                self.fold().await?;
            }
            return Ok(awaited.then_some((unit.sender, unit.isp)));
        };
        self.fold().await?;
        let alarms = self.reputation.alarms(&self.policy, unit, metric, self.clock.now);
        Ok(alarms.then_some((unit.sender, unit.isp)))
    }

    /// Judges at once whom new harm concerns, as the batches of the stream do.
    async fn react(&mut self, alarmed: BTreeSet<(SenderId, Isp)>) -> Result<(), PortError> {
        if alarmed.is_empty() {
            return Ok(());
        }
        self.ask_gate().await?;
        let harmed = self.senders.subjects_at(alarmed);
        let batch = (&self.shard, self.sequence.into(), true);
        let reaction = react(&self.policy, &mut self.reputation, batch, harmed, self.clock.now, || true).await?;
        self.follow(reaction.saved);
        none_failed(reaction.failed)
    }

    /// Counts and judges the units of a ledger.
    async fn take(&mut self, options: &Options, recorded: &Recorded) -> Result<(), PortError> {
        let subjects = &self.policy.subjects;
        let senders = recorded.senders(subjects.tenants, &subjects.tags);
        self.names.name(0, 0, senders);
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
                let Counted { kind, cohort, bucket, .. } = counted;
                let unit = Unit { key, kind, isp, cohort, sender, bucket };
                let alarmed = self.hear(&unit).await?;
                self.react(alarmed.into_iter().collect()).await?;
            }
        }
        Ok(())
    }

    async fn fold(&mut self) -> Result<(), PortError> {
        let now = self.clock.now;
        fold(&mut self.reputation, &self.shard, &self.pending, &self.senders, Limits::NONE, now).await?;
        self.unswept |= !self.pending.is_empty();
        let mut last = None;
        for Record { unit, .. } in self.pending.drain(..) {
            if last != Some((unit.sender, unit.isp)) {
                last = Some((unit.sender, unit.isp));
                if let Some(book) = &mut self.evidence {
                    book.touch(unit.sender, unit.isp);
                }
            }
        }
        Ok(())
    }

    /// Advances the clock to `stamped`, and does the work of each time on the way at which the breakers are woken.
    async fn advance(&mut self, stamped: Now) -> Result<(), PortError> {
        self.wake_until(stamped, stamped).await?;
        self.clock.now = self.clock.now.max(stamped);
        Ok(())
    }

    /// Does the work of each time before `stamped`, up to `until`, at which the breakers are woken.
    async fn wake_until(&mut self, stamped: Now, until: Now) -> Result<(), PortError> {
        while let Some(at) = self.next_wake(stamped).filter(|at| *at <= until) {
            // Asked under the breakers as of the time when the mail was sent.
            self.ask_gate().await?;
            self.fold().await?;
            self.wake(at).await?;
        }
        Ok(())
    }

    fn next_wake(&mut self, stamped: Now) -> Option<Now> {
        let now = self.clock.now;
        if stamped <= now {
            return None;
        }
        let account = self.reputation.find(&Subject::Account).map(|account| account.breaker(None).breaker);
        let board = self.reputation.known_board();
        let due = next_due(&self.policy, board, account.as_ref(), now);
        let unswept = self.unswept || !self.pending.is_empty();
        self.clock.next_wake(due, unswept, !board.unsettled.is_empty(), stamped)
    }

    /// Does the work of a minute, as the deployed stack does each minute.
    async fn wake(&mut self, now: Now) -> Result<(), PortError> {
        let before = self.clock.now.minute();
        let passed = |minutes: u32| before.0 / minutes != now.minute().0 / minutes;
        self.clock.now = now;
        if passed(HOUR) {
            // The tables give no more than this to judge by.
            self.reputation.prune(now);
        }
        let judged = minute(&self.policy, &mut self.reputation, now, || true).await?;
        self.follow(judged.saved);
        none_failed(judged.failed)?;
        if passed(SAMPLE_MINUTES)
            && let Some(book) = &mut self.evidence
        {
            book.sample(&self.policy, &mut self.reputation, &self.senders, now);
        }
        if passed(HOUR) {
            self.unswept = false;
            self.stops.forget_old(now);
            if self.reputation.len() > self.max_subjects {
                self.sum_least_active();
            }
            if self.has_lost {
                self.has_lost = false;
                self.forget_senders();
            }
            if let Some(quota) = &mut self.quota {
                quota.close_days(&mut self.reputation, now).await?;
            }
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
            Some(quota) if quota.is_pending() => quota.ask(&mut self.reputation, self.clock.now).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Judges every subject with units that were not judged yet, at the end of the input. `stopped`: the input goes on after
    /// `stop_at`, so subjects that are due later are not judged.
    async fn finish(&mut self, stopped: bool) -> Result<(), PortError> {
        self.join_the_others();
        self.ask_gate().await?;
        self.fold().await?;
        if let Some(stop_at) = self.stop_at.filter(|_| stopped) {
            self.clock.now = self.clock.now.max(stop_at);
            return Ok(());
        }
        let now = self.clock.now;
        let changes = judge_heard_since(&self.policy, &mut self.reputation, now.minute().hour(), now).await?;
        self.follow(changes);
        if let Some(stop_at) = self.stop_at {
            self.advance(stop_at).await?;
        }
        Ok(())
    }

    /// Records stops and resumes, and what traced transitions were decided on.
    fn follow(&mut self, changes: Vec<Change>) {
        for decision in std::mem::take(&mut self.reputation.decisions) {
            self.record_trace(&decision);
        }
        if let Some(book) = &mut self.evidence {
            book.follow(&self.policy, &mut self.reputation, &changes, self.clock.now);
        }
        self.stops.follow(&changes, &self.senders);
        let unsettled = &self.reputation.known_board().unsettled;
        self.is_testing = unsettled.values().any(|known| matches!(known.state, State::Probing { .. }));
    }

    fn record_trace(&mut self, decision: &Decision) {
        let Some(TraceRequest { key: traced, .. }) = &self.trace_request else { return };
        let is_account = *traced == Key { subject: Subject::Account, isp: None };
        let mut steps = BTreeMap::new();
        for change in &decision.changes {
            if let Some(transition) = change.transition.as_ref().filter(|_| change.key == *traced) {
                self.trace.push(TraceEntry {
                    transition: transition.clone(),
                    subject_state: SubjectState {
                        timeline: decision.timeline.clone(),
                        breakers: decision.breakers.clone(),
                        ..SubjectState::default()
                    },
                    board: Arc::clone(&decision.board),
                    steps: steps.clone(),
                    // Nothing is counted during a decision.
                    forecast: is_account.then(|| forecast(&self.policy, &self.reputation, transition.at)),
                });
            }
            if let Some(isp) = change.key.isp {
                steps.entry(isp).or_insert_with(|| change.next.clone());
            }
        }
    }
}
