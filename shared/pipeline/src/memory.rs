//! The ports in memory: a replay runs on them, and tests compare the other implementations with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashSet;
use reputation::breaker::State;
use reputation::counters::{Counters, Metric};
use reputation::detect::Level;
use reputation::isp::{Isp, IspMap};
use reputation::judge::Judge;
use reputation::permit::{Lease, LeaseId, Spend};
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::{Minute, Now};
use reputation::timeline::{Series, Timeline};
use reputation::unit::{SenderId, Unit, UnitKind};
use reputation::warmup::Ramp;

use crate::control::Control;
use crate::evaluate::{can_be_stopped, left_out, since_of_isp};
use crate::notice::{AlertQueue, Notice, Outbox};
use crate::ports::{
    Board, Change, Committed, DesiredState, DesiredStates, Ledger, MAX_SHARING, PortError, Quota, Quotas, Relative,
    Reputation, Saved, Schedule, Spent, SubjectState, Sweep, SweepProgress, Unrecorded, Versioned, may_share_mail_with,
};
use crate::senders::Senders;
use crate::stream::{Fold, Sequence, Shard};
use crate::transition::Transition;

/// A ledger in memory. It keeps 16 bytes for each unit, in many small tables, so that growing one copies little.
#[derive(Debug)]
pub struct MemoryLedger {
    shards: Vec<HashSet<u128, KeyBits>>,
}

const SHARDS: usize = 256;

/// A unit's key is already a keyed hash, so its own bits are well distributed.
#[derive(Clone, Copy, Debug, Default)]
struct KeyBits;

impl std::hash::BuildHasher for KeyBits {
    type Hasher = KeyBitsHasher;

    fn build_hasher(&self) -> KeyBitsHasher {
        KeyBitsHasher(0)
    }
}

#[derive(Clone, Copy, Debug)]
struct KeyBitsHasher(u64);

impl std::hash::Hasher for KeyBitsHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

impl Default for MemoryLedger {
    fn default() -> MemoryLedger {
        MemoryLedger { shards: (0..SHARDS).map(|_| HashSet::with_hasher(KeyBits)).collect() }
    }
}

impl MemoryLedger {
    /// Records one unit and says whether it is new.
    pub fn insert(&mut self, unit: &Unit) -> bool {
        // The lowest bits place a key within its table, and the highest bits of the lower half distinguish neighbours.
        let shard = (unit.key.0 >> 96) as usize % SHARDS;
        self.shards[shard].insert(unit.key.0)
    }

    /// How many units are recorded.
    pub fn len(&self) -> usize {
        self.shards.iter().map(HashSet::len).sum()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that the recorded units take.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(HashSet::allocation_size).sum()
    }
}

impl Ledger for MemoryLedger {
    async fn record(&mut self, units: &[Unit], _: &Senders) -> Result<(), Unrecorded> {
        for unit in units {
            self.insert(unit);
        }
        Ok(())
    }
}

/// Kinds of subjects that are summed together once there are too many. Configuration sets and the account are never
/// summed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SummedKind {
    /// Sending identities.
    Identity,
    /// Tenants.
    Tenant,
    /// Values of the message tag with this name.
    Tag(Arc<str>),
}

impl SummedKind {
    /// What a subject is summed with; `None` for one that is always kept.
    pub fn of(subject: &Subject) -> Option<SummedKind> {
        match subject {
            Subject::Account | Subject::ConfigurationSet(_) => None,
            Subject::Identity(_) => Some(SummedKind::Identity),
            Subject::Tenant(_) => Some(SummedKind::Tenant),
            Subject::Tag(name, _) => Some(SummedKind::Tag(Arc::clone(name))),
        }
    }
}

/// The mail of subjects that are no longer kept one by one. It is not a subject: it has no breaker and is never judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summed {
    /// How many subjects were added. A subject that had mail again later, and was added again, counts again.
    pub subjects: u64,
    /// Their units by ISP, in the order of [`UnitKind::ALL`].
    pub by_isp: BTreeMap<Isp, [u64; UnitKind::ALL.len()]>,
}

impl Summed {
    fn add(&mut self, timeline: &Timeline) {
        self.subjects += 1;
        for isp in timeline.isps() {
            let sum = self.by_isp.entry(isp).or_default();
            for (_, day) in timeline.series(Some(isp)).into_iter().flat_map(Series::days) {
                sum.iter_mut().zip(UnitKind::ALL).for_each(|(sum, kind)| *sum += u64::from(day.get(kind)));
            }
        }
    }
}

/// Counters and breakers in memory, with every control and every transition that was ever decided.
#[derive(Debug)]
pub struct MemoryReputation {
    isp_map: IspMap,
    returns_complaints: Vec<bool>,
    index: BTreeMap<Subject, usize>,
    subject_states: Vec<(Subject, SubjectState)>,
    /// The hour in which units of each subject were last added, by the index of its state.
    heard: Vec<Minute>,
    /// The indices of each sender's subject states, by the sender's index; empty for a sender without mail since one of
    /// its subjects was summed.
    by_sender: Vec<Vec<usize>>,
    summed: BTreeMap<SummedKind, Summed>,
    marks: BTreeMap<Shard, Sequence>,
    hour: SweepProgress,
    rejudge: SweepProgress,
    batches: BTreeMap<Shard, SweepProgress>,
    board: Arc<Board>,
    desired_states: BTreeMap<Subject, DesiredState>,
    protected: Vec<Subject>,
    /// Names of all notices that were ever put in, and the notices that are not marked as sent.
    notices: BTreeSet<String>,
    unsent: BTreeMap<String, Notice>,
    alert_queue: AlertQueue,
    /// All controls, in the order in which they were decided.
    pub controls: Vec<Control>,
    /// All transitions, in the order in which they were decided.
    pub transitions: Vec<Transition>,
    /// Which decisions are kept in [`MemoryReputation::decisions`].
    pub traced: Option<Traced>,
    /// The traced decisions, in order.
    pub decisions: Vec<Decision>,
}

/// Which decisions to keep with what they were based on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The subject that they are about.
    pub subject: Subject,
    /// The first moment.
    pub from: Now,
    /// The last moment.
    pub until: Now,
}

/// A decision that led to a transition, with what it was based on.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What was saved, in order: ISPs before the subject as a whole.
    pub changes: Vec<Change>,
    /// The counters.
    pub timeline: Timeline,
    /// The breakers before it.
    pub breakers: BTreeMap<Option<Isp>, Versioned>,
    /// The board before it.
    pub board: Arc<Board>,
}

impl MemoryReputation {
    /// An empty store for the ISPs of this map.
    pub fn new(isp_map: &IspMap) -> MemoryReputation {
        MemoryReputation {
            isp_map: isp_map.clone(),
            returns_complaints: isp_map.isps().map(|isp| isp_map.returns_complaints(isp)).collect(),
            index: BTreeMap::new(),
            subject_states: Vec::new(),
            heard: Vec::new(),
            by_sender: Vec::new(),
            summed: BTreeMap::new(),
            marks: BTreeMap::new(),
            hour: SweepProgress::default(),
            rejudge: SweepProgress::default(),
            batches: BTreeMap::new(),
            board: Arc::default(),
            desired_states: BTreeMap::new(),
            protected: Vec::new(),
            notices: BTreeSet::new(),
            unsent: BTreeMap::new(),
            alert_queue: AlertQueue::default(),
            controls: Vec::new(),
            transitions: Vec::new(),
            traced: None,
            decisions: Vec::new(),
        }
    }

    /// An empty store for this policy: a subject that shares mail with a protected subject is protected, too.
    pub fn under(policy: &Policy) -> MemoryReputation {
        MemoryReputation { protected: policy.subjects.protected.clone(), ..MemoryReputation::new(&policy.isp_map) }
    }

    /// The subjects with their states, in the order of their names.
    pub fn subject_states(&self) -> impl Iterator<Item = (&Subject, &SubjectState)> {
        self.index.values().map(|index| (&self.subject_states[*index].0, &self.subject_states[*index].1))
    }

    /// The state of a subject, if anything is known about it.
    pub fn find(&mut self, subject: &Subject) -> Option<&mut SubjectState> {
        let index = self.index.get(subject)?;
        Some(&mut self.subject_states[*index].1)
    }

    /// Adds this number of units of one kind to one subject, apart from any stream: for simulations.
    pub fn add(&mut self, subject: &Subject, (cohort, isp, kind): (Minute, Isp, UnitKind), count: u32, now: Now) {
        let index = self.state_index(subject);
        let has_loop = self.returns_complaints.get(isp.index()).copied().unwrap_or(false);
        self.subject_states[index].1.timeline.add(cohort, isp, kind, count, has_loop, now);
        self.heard[index] = now.minute().hour();
    }

    /// The board as of the last change.
    pub fn known_board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Whether a new unit of harm calls for an evaluation of its sender at once. In the deployed stack the batches of
    /// the stream do this. Cheap enough to be called for each unit.
    pub fn alarms(&mut self, policy: &Policy, unit: &Unit, metric: Metric, now: Now) -> bool {
        let Some(indices) = self.by_sender.get(unit.sender.0 as usize) else { return false };
        let board = &self.board;
        let held = board.isps.get(&unit.isp).is_some_and(|known| known.state.is_contained());
        indices.iter().any(|index| {
            let (subject, subject_state) = &mut self.subject_states[*index];
            let news = |known: Option<&Versioned>, level: Option<Level>| match level {
                Some(Level::Warn) => !known.is_some_and(|known| known.breaker.was_warned(metric, now)),
                Some(Level::Throttle | Level::Pause) => true,
                None => false,
            };
            let whole = subject_state.breakers.get(&None).map(|known| (known.breaker.state, known.breaker.since));
            let (state, since) = whole.unwrap_or_default();
            if matches!(state, State::Open { .. }) {
                return false;
            }
            // Any mail, harm too, can end a test or the time after a cut.
            let is_unsettled = |known: &Versioned| !matches!(known.breaker.state, State::Closed | State::Open { .. });
            let here = subject_state.breakers.get(&Some(unit.isp)).into_iter();
            if here.chain(subject_state.breakers.get(&None)).any(is_unsettled) {
                return true;
            }
            if !held && !state.is_contained() {
                let since = since_of_isp(subject_state, board, unit.isp);
                let isp = Some(unit.isp);
                let level = Judge::new(policy, isp, &[], now).alarm(&mut subject_state.timeline, since, metric);
                let known = subject_state.breakers.get(&isp);
                let stopped = known.is_some_and(|known| matches!(known.breaker.state, State::Open { .. }));
                if !stopped && news(known, level) {
                    return true;
                }
            }
            let left_out = left_out(policy, subject_state, board, &BTreeMap::new());
            let level = Judge::new(policy, None, &left_out, now).alarm(&mut subject_state.timeline, since, metric);
            // A subject without a switch gets only warnings.
            let level = level.map(|level| if can_be_stopped(policy, subject) { level } else { Level::Warn });
            news(subject_state.breakers.get(&None), level)
        })
    }

    /// Drops the minutes and hours that are too old to be used at `now`.
    pub fn prune(&mut self, now: Now) {
        for (_, subject_state) in &mut self.subject_states {
            subject_state.timeline.prune(now);
        }
    }

    /// How many subjects are kept one by one.
    pub fn len(&self) -> usize {
        self.subject_states.len()
    }

    /// Whether nothing is known about any subject.
    pub fn is_empty(&self) -> bool {
        self.subject_states.is_empty()
    }

    /// Whether a subject is kept: it had mail, and was not summed since.
    pub fn knows(&self, subject: &Subject) -> bool {
        self.index.contains_key(subject)
    }

    /// Whether a sender has had mail counted since one of its subjects was summed; true if none was and it had mail.
    pub fn knows_sender(&self, sender: SenderId) -> bool {
        self.by_sender.get(sender.0 as usize).is_some_and(|indices| !indices.is_empty())
    }

    /// The mail of subjects that are no longer kept one by one.
    pub fn summed(&self) -> &BTreeMap<SummedKind, Summed> {
        &self.summed
    }

    /// If there are more than `most` subjects, sums the least active ones until at most `most` are left: those whose
    /// newest mail is the oldest, then those with the least mail, then by name. Their counters are kept; only the
    /// subject that they belonged to is lost.
    ///
    /// Never summed: configuration sets, the account, what the policy protects, `kept`, and subjects with a breaker
    /// that has ever moved. So more than `most` can be left. A subject that has mail again starts from zero.
    pub fn sum_least_active(&mut self, most: usize, kept: Option<&Subject>) {
        let surplus = self.subject_states.len().saturating_sub(most);
        let mut candidates: Vec<(Option<Minute>, u64, &Subject, usize)> = Vec::new();
        for (index, (subject, subject_state)) in self.subject_states.iter().enumerate() {
            let has_moved = !subject_state.breakers.is_empty() || !subject_state.unreadable.is_empty();
            if SummedKind::of(subject).is_none() || has_moved || subject_state.protected || Some(subject) == kept {
                continue;
            }
            let (youngest, mails) = activity(&subject_state.timeline);
            candidates.push((youngest, mails, subject, index));
        }
        if surplus == 0 || candidates.is_empty() {
            return;
        }
        if surplus < candidates.len() {
            candidates.select_nth_unstable(surplus);
            candidates.truncate(surplus);
        }
        // Each summed subject frees its index; those after it move up.
        let mut places: Vec<Option<usize>> = vec![Some(0); self.subject_states.len()];
        for (.., index) in candidates {
            places[index] = None;
        }
        for (left, place) in places.iter_mut().flatten().enumerate() {
            *place = left;
        }
        let mut place = places.iter();
        let Self { subject_states, summed, .. } = self;
        subject_states.retain(|(subject, subject_state)| {
            let is_kept = place.next().is_some_and(Option::is_some);
            if let Some(kind) = SummedKind::of(subject).filter(|_| !is_kept) {
                summed.entry(kind).or_default().add(&subject_state.timeline);
            }
            is_kept
        });
        let mut place = places.iter();
        self.heard.retain(|_| place.next().is_some_and(Option::is_some));
        self.index.retain(|_, index| places[*index].map(|place| *index = place).is_some());
        for indices in &mut self.by_sender {
            // The subjects of a sender that lost one are looked up again with its next mail.
            let moved: Option<Vec<usize>> = indices.iter().map(|index| places[*index]).collect();
            *indices = moved.unwrap_or_default();
        }
    }

    /// Keeps what changes are based on that are about to be saved, if they are traced.
    fn trace(&mut self, changes: &[Change]) {
        let Some(Traced { subject, from, until }) = &self.traced else { return };
        let is_traced = |change: &Change| {
            let at = change.transition.as_ref().map(|transition| transition.at);
            change.key.subject == *subject && at.is_some_and(|at| *from <= at && at <= *until)
        };
        let Some(index) = self.index.get(subject).filter(|_| changes.iter().any(is_traced)) else { return };
        let subject_state = &self.subject_states[*index].1;
        self.decisions.push(Decision {
            changes: changes.to_vec(),
            timeline: subject_state.timeline.clone(),
            breakers: subject_state.breakers.clone(),
            board: Arc::clone(&self.board),
        });
    }

    fn relative(&self, subject: &Subject) -> Option<Relative> {
        let subject_state = &self.subject_states[*self.index.get(subject)?].1;
        Some(Relative {
            breaker: subject_state.breaker(None).breaker,
            shares_mail_with: subject_state.shares_mail_with.clone(),
        })
    }

    fn state_index(&mut self, subject: &Subject) -> usize {
        if let Some(index) = self.index.get(subject) {
            return *index;
        }
        let index = self.subject_states.len();
        self.subject_states.push((subject.clone(), SubjectState::default()));
        self.heard.push(Minute::default());
        self.index.insert(subject.clone(), index);
        index
    }

    fn know_sender(&mut self, fold: &Fold<'_>, sender: SenderId) {
        let place = sender.0 as usize;
        if self.by_sender.get(place).is_some_and(|indices| !indices.is_empty()) {
            return;
        }
        if self.by_sender.len() <= place {
            self.by_sender.resize(place + 1, Vec::new());
        }
        let subjects = fold.subjects(sender);
        self.by_sender[place] = subjects.iter().map(|subject| self.state_index(subject)).collect();
        let is_protected = subjects.iter().any(|subject| self.protected.contains(subject));
        for (subject, index) in subjects.iter().zip(&self.by_sender[place]) {
            let subject_state = &mut self.subject_states[*index].1;
            subject_state.protected |= is_protected;
            for other in subjects.iter().filter(|other| may_share_mail_with(subject, other)) {
                if subject_state.shares_mail_with.len() < MAX_SHARING {
                    subject_state.shares_mail_with.insert(other.clone());
                }
            }
        }
    }
}

/// The minute of the newest mail, and the number of mails.
fn activity(timeline: &Timeline) -> (Option<Minute>, u64) {
    let Some(series) = timeline.series(None) else { return (None, 0) };
    let days = series.days().next_back().map(|(from, _)| from);
    let hours = series.hours().next_back().map(|(from, _)| from);
    let minutes = series.minutes().next_back().map(|(from, _)| from);
    let mails = |(_, day): (Minute, &Counters)| u64::from(day.get(UnitKind::Sent)).max(day.attempts());
    (days.max(hours).max(minutes), series.days().map(mails).sum())
}

impl Reputation for MemoryReputation {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        Ok(self.marks.get(shard).copied())
    }

    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        match self.marks.get_mut(fold.shard()) {
            Some(mark) if Some(*mark) == fold.after() => *mark = fold.last(),
            None if fold.after().is_none() => _ = self.marks.insert(fold.shard().clone(), fold.last()),
            mark @ (Some(_) | None) => return Ok(Committed::Overtaken { mark: mark.copied() }),
        }
        let hour = now.minute().hour();
        for record in fold.records() {
            let unit = &record.unit;
            self.know_sender(fold, unit.sender);
            let has_loop = self.returns_complaints.get(unit.isp.index()).copied().unwrap_or(false);
            for index in &self.by_sender[unit.sender.0 as usize] {
                let timeline = &mut self.subject_states[*index].1.timeline;
                timeline.add_unit(unit, has_loop, now);
                self.heard[*index] = hour;
            }
        }
        Ok(Committed::Added)
    }

    async fn subject_state(&mut self, subject: &Subject, _: Now) -> Result<&mut SubjectState, PortError> {
        let index = self.state_index(subject);
        Ok(&mut self.subject_states[index].1)
    }

    async fn relatives(&mut self, subjects: &BTreeSet<Subject>) -> Result<BTreeMap<Subject, Relative>, PortError> {
        let known = subjects.iter().filter_map(|subject| Some((subject.clone(), self.relative(subject)?)));
        Ok(known.collect())
    }

    async fn board(&mut self, now: Now) -> Result<Arc<Board>, PortError> {
        if self.board.pauses.values().any(|pause| pause.is_over(now)) {
            Arc::make_mut(&mut self.board).pauses.retain(|_, pause| !pause.is_over(now));
        }
        Ok(Arc::clone(&self.board))
    }

    async fn account(&mut self, _: Now) -> Result<Vec<&Timeline>, PortError> {
        let sets = self.subject_states.iter().filter(|(subject, _)| subject.is_part_of_account());
        Ok(sets.map(|(_, subject_state)| &subject_state.timeline).collect())
    }

    async fn active(&mut self, _: Minute, _: Now) -> Result<Vec<(&Subject, &Timeline)>, PortError> {
        let is_sender = |subject: &Subject| {
            matches!(subject, Subject::ConfigurationSet(_) | Subject::Identity(_)) && !subject.is_drill()
        };
        let senders = self.index.iter().filter(|(subject, _)| is_sender(subject));
        Ok(senders.map(|(subject, index)| (subject, &self.subject_states[*index].1.timeline)).collect())
    }

    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError> {
        for change in changes {
            let index = self.state_index(&change.key.subject);
            if self.subject_states[index].1.breaker(change.key.isp).version != change.version {
                return Ok(Saved::Conflict);
            }
            let subject = &change.key.subject;
            if !change.places.iter().all(|places| places.fits(subject, &self.board.pauses)) {
                return Ok(Saved::Conflict);
            }
        }
        self.trace(changes);
        let board = Arc::make_mut(&mut self.board);
        for change in changes {
            if let Some(notice) = Notice::of(change, &self.isp_map) {
                self.notices.insert(notice.id.clone());
                self.unsent.insert(notice.id.clone(), notice);
            }
            let Change { key, version, next, controls, transition, .. } = change;
            let index = self.index[&key.subject];
            let saved = Versioned { breaker: next.clone(), version: version + 1 };
            self.subject_states[index].1.breakers.insert(key.isp, saved);
            board.apply(change);
            let urgency =
                transition.as_ref().and_then(|transition| transition.verdict).map_or(1.0, |verdict| verdict.excess());
            for control in controls {
                desire(&mut self.desired_states, control, urgency);
            }
            self.controls.extend(controls.iter().cloned());
            self.transitions.extend(transition.iter().cloned());
        }
        Ok(Saved::Saved)
    }
}

impl Schedule for MemoryReputation {
    async fn heard_since(&mut self, hour: Minute) -> Result<Vec<Subject>, PortError> {
        let heard = self.index.iter().filter(|(_, index)| self.heard[**index] >= hour);
        Ok(heard.map(|(subject, _)| subject.clone()).collect())
    }

    async fn progress(&mut self, round: Sweep<'_>) -> Result<SweepProgress, PortError> {
        Ok(match round {
            Sweep::Hour => self.hour.clone(),
            Sweep::Rejudge => self.rejudge.clone(),
            Sweep::Batch(shard) => self.batches.get(shard).cloned().unwrap_or_default(),
        })
    }

    async fn set_progress(&mut self, round: Sweep<'_>, progress: &SweepProgress) -> Result<(), PortError> {
        match round {
            Sweep::Hour => self.hour = progress.clone(),
            Sweep::Rejudge => self.rejudge = progress.clone(),
            Sweep::Batch(shard) => _ = self.batches.insert(shard.clone(), progress.clone()),
        }
        Ok(())
    }
}

impl DesiredStates for MemoryReputation {
    async fn desired_states(&mut self) -> Result<Vec<DesiredState>, PortError> {
        Ok(self.desired_states.values().cloned().collect())
    }

    async fn note(&mut self, desired: &DesiredState) -> Result<Saved, PortError> {
        match self.desired_states.get_mut(&desired.target) {
            Some(known) if known.version == desired.version => {
                *known = DesiredState {
                    version: desired.version + 1,
                    fresh: false,
                    at: known.at,
                    urgency: known.urgency,
                    reason: known.reason.clone(),
                    ..desired.clone()
                };
                Ok(Saved::Saved)
            }
            Some(_) | None => Ok(Saved::Conflict),
        }
    }

    async fn renew(&mut self, desired: &DesiredState) -> Result<Saved, PortError> {
        if self.desired_states.contains_key(&desired.target) {
            return Ok(Saved::Conflict);
        }
        let DesiredState { target, flow, at, urgency, reason, .. } = desired.clone();
        self.desired_states.insert(target.clone(), DesiredState::new(target, flow, at, urgency, reason));
        Ok(Saved::Saved)
    }

    async fn forget(&mut self, desired: &DesiredState) -> Result<Saved, PortError> {
        match self.desired_states.get(&desired.target) {
            Some(known) if known.version == desired.version => {
                self.desired_states.remove(&desired.target);
                Ok(Saved::Saved)
            }
            Some(_) | None => Ok(Saved::Conflict),
        }
    }
}

impl Outbox for MemoryReputation {
    async fn unsent(&mut self) -> Result<Vec<Notice>, PortError> {
        Ok(self.unsent.values().cloned().collect())
    }

    async fn put(&mut self, notice: &Notice) -> Result<(), PortError> {
        if self.notices.insert(notice.id.clone()) {
            self.unsent.insert(notice.id.clone(), notice.clone());
        }
        Ok(())
    }

    async fn sent(&mut self, ids: &[String]) -> Result<(), PortError> {
        for id in ids {
            self.unsent.remove(id);
        }
        Ok(())
    }

    async fn alert_queue(&mut self) -> Result<AlertQueue, PortError> {
        Ok(self.alert_queue.clone())
    }

    async fn keep(&mut self, alert_queue: &AlertQueue) -> Result<Saved, PortError> {
        if self.alert_queue.version != alert_queue.version {
            return Ok(Saved::Conflict);
        }
        self.alert_queue = AlertQueue { version: alert_queue.version + 1, ..alert_queue.clone() };
        Ok(Saved::Saved)
    }
}

/// Stores the desired state of a control's target, if SES can carry the control out.
fn desire(desired_states: &mut BTreeMap<Subject, DesiredState>, control: &Control, urgency: f64) {
    let Some(flow) = control.kind.at_ses() else { return };
    let new = DesiredState::new(control.target.clone(), flow, control.at, urgency, control.reason.clone());
    let desired = match desired_states.get(&control.target) {
        None => new,
        Some(known) => DesiredState {
            flow: new.flow,
            at: new.at,
            urgency,
            reason: new.reason,
            fresh: true,
            version: known.version + 1,
            ..known.clone()
        },
    };
    desired_states.insert(control.target.clone(), desired);
}

/// Quotas in memory.
#[derive(Debug, Default)]
pub struct MemoryQuotas {
    quotas: Mutex<BTreeMap<(String, Isp), Quota>>,
}

impl MemoryQuotas {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Isp), Quota>> {
        // A panic while the lock was held left nothing half changed.
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Quotas for MemoryQuotas {
    async fn quota(&self, set: &str, isp: Isp) -> Result<Option<Quota>, PortError> {
        Ok(self.lock().get(&(set.to_owned(), isp)).cloned())
    }

    async fn quotas(&self, set: &str) -> Result<BTreeMap<Isp, Quota>, PortError> {
        let quotas = self.lock();
        Ok(quotas.iter().filter(|((of, _), _)| of == set).map(|((_, isp), quota)| (*isp, quota.clone())).collect())
    }

    async fn open(&self, set: &str, isp: Isp, old: Option<&Quota>, new: &Quota) -> Result<Saved, PortError> {
        let mut quotas = self.lock();
        let known = quotas.get(&(set.to_owned(), isp));
        let same = match (known, old) {
            (Some(known), Some(old)) => known.ramp == old.ramp && known.meter == old.meter,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            return Ok(Saved::Conflict);
        }
        quotas.insert((set.to_owned(), isp), new.clone());
        Ok(Saved::Saved)
    }

    async fn set(&self, set: &str, isp: Isp, old: &Ramp, new: &Ramp) -> Result<Saved, PortError> {
        let mut quotas = self.lock();
        let same = |known: &&mut Quota| {
            let known = &known.ramp;
            (known.day, known.quota, known.step) == (old.day, old.quota, old.step)
        };
        let Some(known) = quotas.get_mut(&(set.to_owned(), isp)).filter(same) else { return Ok(Saved::Conflict) };
        known.ramp = new.clone();
        known.meter.short = false;
        Ok(Saved::Saved)
    }

    async fn spend(
        &self,
        set: &str,
        isp: Isp,
        spend: &Spend,
        lease: &Lease,
        forgotten: &[LeaseId],
    ) -> Result<Spent, PortError> {
        let mut quotas = self.lock();
        let Some(quota) = quotas.get_mut(&(set.to_owned(), isp)) else { return Ok(Spent::Refused(None)) };
        let same_day = quota.ramp.day == spend.day && quota.ramp.quota == spend.quota;
        let known = quota.leases.iter().any(|known| known.id.same_name(lease.id));
        if !same_day || known || !spend.holds(&quota.meter) {
            return Ok(Spent::Refused(Some(quota.clone())));
        }
        quota.meter = spend.applied(&quota.meter);
        quota.leases.retain(|known| !forgotten.iter().any(|id| known.id.same_name(*id)));
        quota.leases.push(lease.clone());
        Ok(Spent::Granted(quota.clone()))
    }

    async fn take_back(&self, set: &str, isp: Isp, lease: &Lease, unused: u64, now: Now) -> Result<bool, PortError> {
        let mut quotas = self.lock();
        let Some(quota) = quotas.get_mut(&(set.to_owned(), isp)).filter(|quota| quota.ramp.day == lease.day) else {
            return Ok(false);
        };
        let Some(at) = quota.leases.iter().position(|known| known == lease) else { return Ok(false) };
        quota.leases.swap_remove(at);
        quota.meter = lease.refund(unused, now).applied(&quota.meter);
        Ok(true)
    }
}
