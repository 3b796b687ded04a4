//! Enforcing: brings SES to the desired states, keeps it there, and distinguishes this stack's changes from those of
//! people and of other stacks.
//!
//! SES stores whether a configuration set, a tenant or the account may send, but not who decided it, why, or when, and
//! has no compare-and-set. So each desired state also stores the change that we were about to make
//! ([`DesiredState::in_flight`], saved before the call), the state that we last made or observed ([`DesiredState::observed`])
//! and when we last wrote ([`DesiredState::written`]). On a configuration set we also leave a mark, which other stacks
//! see ([`Mark`]).
//!
//! **Invariant:** we never resume a target that a person stopped, and we accept a person's resume. A target that
//! another stack stopped is resumed by that stack only. **Invariant:** a desired state that is not reached yet is tried
//! again until it is; a failed call loses nothing. If SES does not know a target, the desire to stop it is kept.
//! **Invariant:** a reading that contradicts what we last made counts only [`SETTLING_MILLIS`] after our last write,
//! and is believed only if a second reading, at least [`SECOND_LOOK_MILLIS`] later, confirms it. So with a reconcile
//! every five minutes, a person's change at SES is accepted within about ten minutes, plus two if it follows just after
//! a write of ours. This requires that one invocation has the time to check all desired states. **Invariant:** a target
//! that fails does not delay the others: it waits for its own next try ([`DesiredState::again`]), and takes at most
//! half of a round's calls. Only throttling, which concerns the account, ends a round.
//!
//! Known gaps, because SES names no actor:
//!
//! - If a person resumes a target that we paused, and pauses it again before the resume is accepted, neither change is
//!   noticed: the pause counts as ours. The same holds for a stop that is resumed again in that time.
//! - While the outcome of a call of ours is unknown, a pause by a person or another stack counts as the effect of the
//!   call, and a resume is overwritten.
//! - The same holds for two minutes after a stop that SES has refused, if the mark of another stack stood there: that
//!   stack may have stopped the target since our reading, and leaves it to us because of our mark. A reading after that
//!   time ends the gap.
//! - A set that is deleted and created again between two readings keeps what we knew about it.
//! - Of two stacks that stop a set within the same two minutes, the one whose mark remains counts as the one that
//!   stopped it. If it resumes the set before the other has read it again, the other treats that as a person's resume.
//! - If we stop a set within two minutes after the other stack resumed it, that stack may empty our mark, if a call
//!   about its mark failed and its reading is older than the stop. It can then treat the stop as its own, or as a
//!   person's.
//! - If a person's stop is accepted while the enforcer fails, and the operator resumes it before the next reading, it
//!   counts as another stop by a person: the resume must be repeated.
//! - A target whose desired state was `Flowing` for a day is no longer read: a person's later stop stays in effect, and
//!   is noticed at our next stop.
//! - Tenants and the account carry no mark: the stop of another stack counts as a person's stop.
//! - A lost desired state is renewed if its breaker is open. A lost desire to resume is not renewed: the set stays
//!   stopped until a person resumes it.

use std::collections::BTreeMap;
use std::time::Duration;

use reputation::breaker::{BreakerState, Input, State};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::Now;

use crate::control::{Flow, stops_at_ses};
use crate::evaluate::apply_input;
use crate::notice::{Notice, Outbox};
use crate::ports::{
    ControlError, DesiredState, DesiredStates, Doubt, FailedCalls, Mark, OtherStack, PortError, Reputation, Saved,
    Seen, SendingControl, Sight,
};

/// How long after a write of ours SES may still answer with the state before it, in milliseconds. SES does not document
/// it; AWS samples mention minutes until a pause takes effect, and waiting loses nothing.
pub const SETTLING_MILLIS: i64 = 120_000;

/// How long after a first reading that contradicts us a second one must confirm it before it is believed, in
/// milliseconds. Less than the time between two reconciles, so that the next reconcile makes the second reading.
pub const SECOND_LOOK_MILLIS: i64 = 240_000;

/// The wait from a failure of a target to its next try, in milliseconds: the first wait, which doubles, and the
/// longest, which is less than the time between two reconciles.
const BACKOFF_MILLIS: (i64, i64) = (2_000, 240_000);

/// The longest wait while a mark is still to be written, in milliseconds: well within the two readings of another
/// stack.
const LONGEST_UNMARKED_MILLIS: i64 = 30_000;

/// The wait before the next reading of a target that is to be stopped and was not found, in milliseconds: it may be so
/// new that SES does not know it yet.
const GONE_LOOK_MILLIS: i64 = 15_000;

/// How long a desired state `Flowing` is kept after it was reached, in milliseconds: the longest time that a breaker
/// that opens again and again stays open. After that a person's stop needs no acceptance: it stays in effect, because
/// no desired state would lift it.
const FORGET_MILLIS: i64 = 24 * 60 * 60_000;

/// The most calls that one target takes: one to read, one to write, one for a missing mark and one for a new mark.
const CALLS_EACH: usize = 4;

/// How many characters of an error are kept.
const MAX_ERROR: usize = 300;

impl DesiredState {
    /// Whether only regular readings are left to do.
    fn is_at_rest(&self) -> bool {
        let rests = (self.is_true() && self.doubt.is_none()) || self.gone.is_some() || self.other.is_some();
        rests && self.again.is_none()
    }

    fn is_due(&self, reconcile: Option<Now>, now: Now) -> bool {
        let waits = self.again.is_some_and(|again| now < again);
        let is_unseen = |since: Now| self.checked.is_none_or(|checked| checked < since);
        let is_open = self.trouble.is_some() || !self.is_at_rest() || reconcile.is_some_and(is_unseen);
        self.fresh || (!waits && is_open)
    }

    /// Whether it was decided and reached so long ago that a desired state `Flowing` is no longer needed.
    fn is_old(&self, now: Now) -> bool {
        let last = self.written.map_or(self.at, |written| written.max(self.at));
        now.0.saturating_sub(last.0) >= FORGET_MILLIS
    }

    fn is_failing(&self) -> bool {
        self.trouble.is_some() && !self.fresh
    }

    /// When the last change was written that SES may not show yet: ours, or the stop of another stack.
    fn changed(&self) -> Option<Now> {
        self.written.max(self.other.as_ref().map(|other| other.since))
    }

    /// Whether SES certainly shows the last write by now.
    fn is_settled(&self, now: Now) -> bool {
        self.changed().is_none_or(|changed| now.0.saturating_sub(changed.0) >= SETTLING_MILLIS)
    }

    /// Whether the same was seen before, long enough ago to be believed.
    fn was_seen(&self, seen: Seen, now: Now) -> bool {
        let long_ago = |doubt: Doubt| now.0.saturating_sub(doubt.since.0) >= SECOND_LOOK_MILLIS;
        self.doubt.is_some_and(|doubt| doubt.seen == seen && long_ago(doubt))
    }

    /// Whether a person's resume was accepted, and the breaker may not know that yet. A stop that was decided since is
    /// another one.
    fn has_accepted_a_resume(&self) -> bool {
        let before = |doubt: Doubt| doubt.seen == Seen::Flowing && self.at <= doubt.since;
        self.flow == Flow::Stopped && self.observed == Some(Flow::Flowing) && self.doubt.is_some_and(before)
    }

    /// Records the state `observed`, and that nothing else is under way.
    fn hold(&mut self, observed: Option<Flow>) {
        (self.observed, self.in_flight) = (observed, None);
        (self.doubt, self.gone, self.other, self.trouble, self.again) = (None, None, None, None, None);
    }

    fn doubt(&mut self, seen: Seen, now: Now) {
        self.trouble = None;
        match self.changed().map(|changed| Now(changed.0 + SETTLING_MILLIS)) {
            // The reading may be older than that write: it does not count.
            Some(settled) if now < settled => (self.doubt, self.again) = (None, Some(settled)),
            Some(_) | None => {
                let since = self.doubt.filter(|doubt| doubt.seen == seen).map_or(now, |doubt| doubt.since);
                self.doubt = Some(Doubt { seen, since });
                let second = Now(since.0 + SECOND_LOOK_MILLIS);
                let soon = seen == Seen::Gone && self.flow == Flow::Stopped;
                self.again = Some(if soon { second.min(Now(now.0 + GONE_LOOK_MILLIS)) } else { second });
            }
        }
    }

    fn fail(&mut self, error: &str, denied: bool, now: Now) {
        let (failures, since) = self.trouble.as_ref().map_or((0, None), |known| (known.failures, known.denied));
        let (first, longest) = BACKOFF_MILLIS;
        // Other stacks check our mark within minutes.
        let longest = if self.marking.is_some() { LONGEST_UNMARKED_MILLIS } else { longest };
        self.again = Some(Now(now.0 + (first << failures.min(16)).min(longest)));
        let denied = since.or(denied.then_some(now));
        let error = error.chars().take(MAX_ERROR).collect();
        self.trouble = Some(FailedCalls { failures: failures.saturating_add(1), denied, error });
    }
}

impl ControlError {
    /// The same error of a call about a mark: the target existed a moment ago, so it is not gone.
    fn of_mark(self) -> ControlError {
        match self {
            ControlError::Gone => ControlError::Failed(ControlError::Gone.to_string()),
            ControlError::Throttled(_) | ControlError::Failed(_) | ControlError::Denied(_) => self,
        }
    }
}

/// What to do about a desired state, given the reading of SES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// It is as desired, by our own change.
    Confirm,
    /// Write this state.
    Make(Flow),
    /// The reading contradicts us: read again before it is believed.
    Doubt(Seen),
    /// A person stopped it.
    PersonStopped,
    /// A person resumed it.
    PersonResumed,
    /// The stack of this name stopped it.
    OtherStack(String),
}

/// Distinguishes our changes from those of others. Pure and total.
pub fn next_move(desired: &DesiredState, sight: &Sight, now: Now) -> Move {
    use Flow::{Flowing, Stopped};
    let DesiredState { flow, observed, in_flight, .. } = *desired;
    let doubted = |then: Move| {
        let seen = sight.flow.into();
        if desired.was_seen(seen, now) { then } else { Move::Doubt(seen) }
    };
    // The outcome of a call is unknown: a stop is written again, unless it shows and is settled; a resume only if it
    // does not show.
    let once_more = || match (flow, sight.flow) {
        (Stopped, Flowing) | (Flowing, Stopped) => Move::Make(flow),
        (Stopped, Stopped) | (Flowing, Flowing) if desired.is_settled(now) => Move::Confirm,
        (Stopped, Stopped) => Move::Make(flow),
        (Flowing, Flowing) => Move::Doubt(Seen::Flowing),
    };
    if let (Stopped, Mark::Other(stack)) = (sight.flow, &sight.mark) {
        // Our own mark may not be visible yet.
        let ours = observed == Some(Stopped) || in_flight == Some(Stopped);
        return if ours && !desired.is_settled(now) {
            Move::Doubt(Seen::Stopped)
        } else {
            Move::OtherStack(stack.clone())
        };
    }
    match (sight.flow, in_flight) {
        (Stopped, Some(Stopped)) => once_more(),
        (Stopped, Some(Flowing)) if observed == Some(Stopped) => once_more(),
        (Stopped, Some(Flowing) | None) => {
            // If nothing is known, as after a lost desired state, the mark shows whose stop it is.
            let ours = observed == Some(Stopped) || (observed.is_none() && sight.mark == Mark::Ours);
            let then = match flow {
                _ if !ours => return doubted(Move::PersonStopped),
                Stopped => Move::Confirm,
                Flowing => Move::Make(Flowing),
            };
            // Our mark may be older than the stop of the other stack.
            if desired.other.is_some() { doubted(then) } else { then }
        }
        (Flowing, Some(_)) => once_more(),
        // Our stop may not be visible yet.
        (Flowing, None) if flow == Flowing && observed == Some(Stopped) && !desired.is_settled(now) => {
            Move::Doubt(Seen::Flowing)
        }
        (Flowing, None) if flow == Flowing => Move::Confirm,
        (Flowing, None) => match (&desired.other, &sight.mark) {
            // A stack that resumes its own stop empties its mark. A person leaves the mark, or removes it.
            (Some(_), Mark::Other(_) | Mark::Ours | Mark::Absent) => doubted(Move::PersonResumed),
            (Some(_), Mark::Emptied | Mark::Unsupported) => Move::Make(Stopped),
            (None, _) if observed == Some(Stopped) => doubted(Move::PersonResumed),
            (None, _) => Move::Make(Stopped),
        },
    }
}

/// The outcome for one desired state in one round.
#[derive(Clone, Debug, PartialEq)]
pub struct Enforced {
    /// Its target.
    pub target: Subject,
    /// The outcome.
    pub outcome: EnforceOutcome,
    /// When a target that failed or is doubted is tried again. `None` if SES denies it, because a person has to fix
    /// that.
    pub again: Option<Now>,
}

/// See [`Enforced`].
#[derive(Clone, Debug, PartialEq)]
pub enum EnforceOutcome {
    /// Nothing has changed.
    Confirmed,
    /// This state has been written.
    Made(Flow),
    /// Was seen, and is believed if the next reading confirms it.
    Doubted(Seen),
    /// A person stopped it: it stays stopped until a person resumes it.
    PersonStopped,
    /// A person resumed it: accepted, and re-armed.
    PersonResumed,
    /// The stack of this name has stopped it: left to that stack.
    OtherStack(String),
    /// It no longer exists; a desire to stop it is kept.
    Gone,
    /// SES denies the permission: a person has to fix it. It is tried again after a while.
    Denied(String),
    /// A call failed; the target is tried again after a while.
    Failed(String),
    /// SES throttles: nothing more is done in this round.
    Throttled(String),
    /// The desired state has just changed: try again at once.
    Later(String),
}

/// The scope of one round of enforcing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Most calls of SES.
    pub calls: usize,
    /// When the reconcile that this round belongs to began, if it belongs to one. Such a round also checks desired
    /// states that were reached before, unless they were checked since then, and whether a desired state is missing.
    pub reconcile: Option<Now>,
}

/// The result of one round.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundDone {
    /// The outcomes of the desired states that were checked.
    pub enforced: Vec<Enforced>,
    /// Calls of SES that it took.
    pub calls: usize,
    /// It had too few calls for everything that was due: the next round continues at once.
    pub is_cut: bool,
    /// When the first target that was not due yet must be tried or read again.
    pub waiting: Option<Now>,
}

/// One invocation of the enforcer: which rounds it makes, and when. Rounds are short, so that a stop that is decided
/// meanwhile waits for a few calls only. Pure: the caller makes the calls, and waits.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// When it began; `None` once all desired states at rest have been checked.
    reconcile: Option<Now>,
    /// When the last round began.
    begun: Now,
    /// When targets that failed, or are doubted, are tried again.
    retries: BTreeMap<Subject, Now>,
    busy: Duration,
}

/// What comes after a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another one at once.
    Round,
    /// Another one after this time: SES throttles, with this error.
    Busy(Duration, String),
    /// Another one after this time: a target must be tried again then.
    Retry(Duration),
    /// None: everything that can be done now is done.
    Done,
}

impl Invocation {
    /// Calls of one round.
    pub const ROUND_CALLS: usize = 10;

    /// The waits while SES throttles: the first, which doubles, and the longest.
    const BUSY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

    /// An invocation that begins now, to reconcile or only to do what is due.
    pub fn new(reconcile: bool, now: Now) -> Invocation {
        let (busy, _) = Invocation::BUSY;
        Invocation { reconcile: reconcile.then_some(now), begun: now, retries: BTreeMap::new(), busy }
    }

    /// The round that begins now, if there is time for `calls` calls; `None` if they are too few for one target.
    pub fn round(&mut self, calls: usize, now: Now) -> Option<Round> {
        self.begun = now;
        let calls = calls.min(Invocation::ROUND_CALLS);
        (calls >= CALLS_EACH).then_some(Round { calls, reconcile: self.reconcile })
    }

    /// What follows a round that has ended now.
    pub fn after(&mut self, done: &RoundDone, now: Now) -> Next {
        let mut throttled = None;
        let mut has_changed = false;
        let mut visited = BTreeMap::new();
        for Enforced { target, outcome, again } in &done.enforced {
            visited.insert(target.clone(), *again);
            match outcome {
                EnforceOutcome::Throttled(why) => throttled = Some(why.clone()),
                EnforceOutcome::Later(_) => has_changed = true,
                EnforceOutcome::Confirmed
                | EnforceOutcome::Made(_)
                | EnforceOutcome::Doubted(_)
                | EnforceOutcome::PersonStopped
                | EnforceOutcome::PersonResumed
                | EnforceOutcome::OtherStack(_)
                | EnforceOutcome::Gone
                | EnforceOutcome::Denied(_)
                | EnforceOutcome::Failed(_) => {}
            }
        }
        let is_over = throttled.is_none() && !done.is_cut;
        // A target that was due and was not checked has no desired state any more.
        let begun = self.begun;
        self.retries.retain(|target, again| !(visited.contains_key(target) || is_over && *again <= begun));
        self.retries.extend(visited.into_iter().filter_map(|(target, again)| again.map(|again| (target, again))));
        if let Some(why) = throttled {
            let (_, longest) = Invocation::BUSY;
            let wait = self.busy;
            self.busy = (wait * 2).min(longest);
            return Next::Busy(wait, why);
        }
        if done.is_cut || has_changed {
            return Next::Round;
        }
        self.reconcile = None;
        match self.retries.values().copied().chain(done.waiting).min() {
            Some(again) => Next::Retry(Duration::from_millis(u64::try_from(again.0 - now.0).unwrap_or(0))),
            None => Next::Done,
        }
    }
}

/// Brings SES to the desired states: first those that are not reached yet, stops before resumes and the worst first;
/// then those that failed before and are due, with at most half of the calls; then, in a round that reconciles, checks
/// whether the others are still reached, the ones checked longest ago first. `now` is the clock. [`Invocation`] decides
/// which rounds follow each other.
///
/// # Errors
///
/// A store failed; what was done before stays done, and the next round continues from there.
pub async fn enforce<S: Reputation + DesiredStates + Outbox, C: SendingControl>(
    policy: &Policy,
    store: &mut S,
    ses: &mut C,
    round: Round,
    now: impl Fn() -> Now,
) -> Result<RoundDone, PortError> {
    let mut desired_states = store.desired_states().await?;
    if let Some(since) = round.reconcile {
        let is_first = desired_states.iter().all(|desired| desired.checked.is_none_or(|checked| checked < since));
        if is_first && renew_missing(store, &desired_states, now()).await? {
            desired_states = store.desired_states().await?;
        }
    }
    let begun = now();
    // Including those that an earlier invocation left behind when it failed.
    let is_denied = |desired: &DesiredState| desired.trouble.as_ref().is_some_and(|trouble| trouble.denied.is_some());
    let again = desired_states
        .iter()
        .filter(|desired| !desired.fresh && !is_denied(desired))
        .filter_map(|desired| desired.again);
    let waiting = again.filter(|again| *again > begun).min();
    desired_states.retain(|desired| desired.is_due(round.reconcile, begun));
    desired_states.sort_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap_or(std::cmp::Ordering::Equal));
    let mut done = RoundDone { enforced: Vec::new(), calls: 0, is_cut: false, waiting };
    let mut for_failing = round.calls / 2;
    for desired in desired_states {
        let target = desired.target.clone();
        if round.calls.saturating_sub(done.calls) < CALLS_EACH {
            done.is_cut = true;
            break;
        }
        let failing = desired.is_failing();
        if failing && for_failing == 0 {
            done.is_cut = true;
            continue;
        }
        let mut visit = Visit { policy, ses: &mut *ses, used: 0, again: None };
        let outcome = visit.enforce_one(store, desired, &now).await?;
        done.calls += visit.used;
        if failing {
            for_failing = for_failing.saturating_sub(visit.used);
        }
        let throttled = matches!(outcome, EnforceOutcome::Throttled(_));
        done.enforced.push(Enforced { target, outcome, again: visit.again });
        if throttled {
            break;
        }
    }
    Ok(done)
}

/// The rank of a desired state: smaller comes first.
fn rank(desired: &DesiredState) -> (u8, f64, i64) {
    let checked = desired.checked.map_or(i64::MIN, |checked| checked.0);
    // Notes about a target that was gone, left to another stack or doubted do not apply to a new decision.
    let is_new = desired.fresh && desired.observed != Some(desired.flow);
    match desired.flow {
        _ if desired.is_failing() => (2, 0.0, checked),
        _ if desired.doubt.is_some() && !is_new => (3, 0.0, checked),
        _ if desired.is_at_rest() && !is_new => (4, 0.0, checked),
        Flow::Stopped => (0, -desired.urgency, desired.at.0),
        Flow::Flowing => (1, 0.0, desired.at.0),
    }
}

/// Writes the desired state to stop a subject again if its breaker is open and the desired state was lost; returns
/// whether it was lost.
///
/// # Errors
///
/// It may or may not have been written: do it again.
pub async fn renew<S: Reputation + DesiredStates>(
    store: &mut S,
    subject: &Subject,
    now: Now,
) -> Result<bool, PortError> {
    let known = store.subject_state(subject, now).await?.breaker(None).breaker;
    let key = Key { subject: subject.clone(), isp: None };
    Ok(is_stopped_at_ses(&key, &known) && store.renew(&missing(subject, now)).await? == Saved::Saved)
}

async fn renew_missing<S: Reputation + DesiredStates>(
    store: &mut S,
    desired_states: &[DesiredState],
    now: Now,
) -> Result<bool, PortError> {
    let board = store.board(now).await?;
    let mut renewed = false;
    for (key, known) in &board.unsettled {
        if is_stopped_at_ses(key, known) && !desired_states.iter().any(|desired| desired.target == key.subject) {
            renewed |= store.renew(&missing(&key.subject, now)).await? == Saved::Saved;
        }
    }
    Ok(renewed)
}

fn missing(subject: &Subject, now: Now) -> DesiredState {
    let reason = "its breaker is open, and the desired state to stop it was missing".to_owned();
    DesiredState::new(subject.clone(), Flow::Stopped, now, 1.0, reason)
}

/// Whether a breaker has stopped a subject that SES can stop.
fn is_stopped_at_ses(key: &Key, known: &BreakerState) -> bool {
    stops_at_ses(key) && known.enacted && matches!(known.state, State::Open { .. })
}

/// One reading of one target, and what follows from it.
struct Visit<'a, C> {
    policy: &'a Policy,
    ses: &'a mut C,
    used: usize,
    again: Option<Now>,
}

impl<C: SendingControl> Visit<'_, C> {
    async fn enforce_one<S: Reputation + DesiredStates + Outbox>(
        &mut self,
        store: &mut S,
        mut desired: DesiredState,
        clock: &impl Fn() -> Now,
    ) -> Result<EnforceOutcome, PortError> {
        if desired.has_accepted_a_resume() {
            return self.accept_resume(store, desired, clock()).await;
        }
        self.used += 1;
        let mut sight = match self.ses.flow(&desired.target).await {
            Ok(sight) => sight,
            Err(error) => return self.failed(store, desired, error, clock()).await,
        };
        let now = clock();
        (desired.checked, desired.gone) = (Some(now), None);
        if let Some(flow) = desired.marking {
            let (stopped, settled) = (flow == Flow::Stopped, desired.is_settled(now));
            // The mark is written whether our write is visible or not: another stack checks the mark as soon as it is.
            // The mark of another stack may be older than our stop, and we must not remove it. A stop without a mark
            // would count as a person's, so ours stays until the resume is known to have been made.
            let is_known = stopped || desired.in_flight.is_none();
            let due = match sight.mark {
                Mark::Other(_) => stopped && !settled,
                Mark::Absent | Mark::Emptied | Mark::Ours | Mark::Unsupported => {
                    (is_known && !settled) || sight.flow == flow
                }
            };
            if due {
                if let Err(error) = self.mark(&desired.target, stopped).await {
                    return self.failed(store, desired, error.of_mark(), clock()).await;
                }
                sight.mark = if stopped { Mark::Ours } else { Mark::Emptied };
            }
            if due || settled {
                desired.marking = None;
            }
        }
        match next_move(&desired, &sight, now) {
            Move::Confirm => {
                if desired.observed.is_none() && sight.mark == Mark::Ours {
                    // Assume that it was written now: the real time is lost.
                    desired.written = Some(now);
                }
                desired.hold(Some(sight.flow));
                // Only our own stops are marked, not a person's stop that we accepted.
                let by_us = desired.written.is_some();
                match (sight.flow, &sight.mark) {
                    (Flow::Stopped, mark) if by_us && mark.is_missing() => desired.marking = Some(Flow::Stopped),
                    (Flow::Stopped, Mark::Ours) if !by_us => desired.marking = Some(Flow::Flowing),
                    // The mark remains from before a person's resume, which all stacks have seen by now. A later
                    // desired state would treat it as the mark of a new stop of ours.
                    (Flow::Flowing, Mark::Ours) if desired.is_old(now) => desired.marking = Some(Flow::Flowing),
                    (Flow::Flowing, _) if desired.is_old(now) => {
                        let _ = store.forget(&desired).await?;
                        return Ok(EnforceOutcome::Confirmed);
                    }
                    (Flow::Stopped | Flow::Flowing, _) => {}
                }
                self.finish(store, desired, EnforceOutcome::Confirmed, clock).await
            }
            Move::Make(flow) => self.make(store, desired, &sight, flow, clock).await,
            Move::Doubt(seen) => {
                desired.doubt(seen, now);
                self.again = desired.again;
                let _ = store.note(&desired).await?;
                Ok(EnforceOutcome::Doubted(seen))
            }
            Move::OtherStack(stack) => {
                let known = desired.other.clone().filter(|known| known.stack == stack);
                let other = known.clone().unwrap_or(OtherStack { stack: stack.clone(), since: now });
                desired.hold(None);
                desired.other = Some(other.clone());
                // Until it is settled, the reading may be older than our last write.
                desired.marking = desired.marking.filter(|_| !desired.is_settled(now));
                if store.note(&desired).await? == Saved::Conflict {
                    return Ok(changed());
                }
                // Put each time, in case the process stopped here the first time: the notice has the same name.
                store.put(&Notice::of_other_stack(&desired.target, &other.stack, other.since)).await?;
                let news = EnforceOutcome::OtherStack(stack);
                Ok(if known.is_some() { EnforceOutcome::Confirmed } else { news })
            }
            // The breaker is informed before a person's change is recorded: after a failure in between, the next round
            // sees the same and repeats it. And only with the newest desired state can a person's change be
            // distinguished from that of another copy of this stack.
            Move::PersonStopped => {
                if store.note(&desired).await? == Saved::Conflict {
                    return Ok(changed());
                }
                self.accept(store, &desired, Input::PersonStops, sight.flow, now).await?;
                if sight.mark == Mark::Ours {
                    // Otherwise other stacks would leave the stop to us. If it fails, the next reading repeats it.
                    let _ = self.mark(&desired.target, false).await;
                }
                Ok(EnforceOutcome::PersonStopped)
            }
            Move::PersonResumed => {
                // Our stop is over, whatever the breaker decides next: if we fail after the breaker was informed, a new
                // stop is made.
                let doubt = desired.doubt;
                desired.hold(Some(Flow::Flowing));
                (desired.doubt, desired.written, desired.marking) = (doubt, None, None);
                self.accept_resume(store, desired, now).await
            }
        }
    }

    async fn mark(&mut self, target: &Subject, stopped: bool) -> Result<(), ControlError> {
        self.used += 1;
        self.ses.mark(target, stopped).await
    }

    async fn make<S: DesiredStates + Outbox>(
        &mut self,
        store: &mut S,
        mut desired: DesiredState,
        sight: &Sight,
        flow: Flow,
        clock: &impl Fn() -> Now,
    ) -> Result<EnforceOutcome, PortError> {
        let target = desired.target.clone();
        let before = Before { desired: desired.clone(), seen: sight.flow, at: clock() };
        // A target that we resume counts as stopped by us, until it is seen to flow.
        let observed = if flow == Flow::Flowing { Some(Flow::Stopped) } else { desired.observed };
        // Earlier failures to read are over. Failures to write are not, until one write has worked.
        let trouble = desired.trouble.take().filter(|_| desired.in_flight.is_some());
        desired.hold(observed);
        let has_mark = sight.mark != Mark::Unsupported;
        (desired.in_flight, desired.written, desired.trouble) = (Some(flow), Some(before.at), trouble);
        desired.marking = has_mark.then_some(flow);
        if store.note(&desired).await? == Saved::Conflict {
            return Ok(changed());
        }
        desired.version += 1;
        // If another stack's mark is there, ours is written first: our stop must never carry the mark of another stack.
        // Otherwise the stop is written first, because it is more urgent. If the stop was denied before, a mark would
        // be wrong.
        let is_denied = before.desired.trouble.as_ref().is_some_and(|trouble| trouble.denied.is_some());
        let takes_over = flow == Flow::Stopped && matches!(sight.mark, Mark::Other(_)) && !is_denied;
        if takes_over {
            if let Err(error) = self.mark(&target, true).await {
                return match error {
                    ControlError::Failed(_) => self.failed(store, desired, error, clock()).await,
                    ControlError::Throttled(_) | ControlError::Denied(_) | ControlError::Gone => {
                        self.refused(store, before.again(&desired), error.of_mark(), clock()).await
                    }
                };
            }
            desired.marking = None;
        }
        self.used += 1;
        match self.ses.set_flow(&target, flow).await {
            Ok(()) => {}
            Err(error @ ControlError::Failed(_)) => {
                // The stop may still have been carried out.
                if flow == Flow::Stopped && desired.marking.is_some() && self.mark(&target, true).await.is_ok() {
                    desired.marking = None;
                }
                return self.failed(store, desired, error, clock()).await;
            }
            Err(error @ (ControlError::Throttled(_) | ControlError::Denied(_) | ControlError::Gone)) => {
                // The target existed a moment ago.
                let error = error.of_mark();
                return if takes_over {
                    // The other stack may have stopped it since our reading, and now leaves it to us.
                    self.failed(store, desired, error, clock()).await
                } else {
                    self.refused(store, before.again(&desired), error, clock()).await
                };
            }
        }
        // The outcome of the call is known, whatever happens to the mark: any later change was made by others.
        desired.written = Some(clock());
        desired.hold(Some(flow));
        self.finish(store, desired, EnforceOutcome::Made(flow), clock).await
    }

    /// Writes the mark that is still to be written, and saves the desired state.
    async fn finish<S: DesiredStates + Outbox>(
        &mut self,
        store: &mut S,
        mut desired: DesiredState,
        outcome: EnforceOutcome,
        clock: &impl Fn() -> Now,
    ) -> Result<EnforceOutcome, PortError> {
        if let Some(flow) = desired.marking {
            if let Err(error) = self.mark(&desired.target, flow == Flow::Stopped).await {
                return self.failed(store, desired, error.of_mark(), clock()).await;
            }
            desired.marking = None;
        }
        // If the desired state has changed meanwhile, the next round handles the new one.
        let _ = store.note(&desired).await?;
        Ok(outcome)
    }

    /// Informs the breaker of a person's resume, which is saved first if it is not saved yet.
    async fn accept_resume<S: Reputation + DesiredStates>(
        &self,
        store: &mut S,
        desired: DesiredState,
        now: Now,
    ) -> Result<EnforceOutcome, PortError> {
        if store.note(&desired).await? == Saved::Conflict {
            return Ok(changed());
        }
        self.accept(store, &desired, Input::PersonResumes, Flow::Flowing, now).await?;
        Ok(EnforceOutcome::PersonResumed)
    }

    async fn accept<S: Reputation + DesiredStates>(
        &self,
        store: &mut S,
        desired: &DesiredState,
        input: Input<'_>,
        seen: Flow,
        now: Now,
    ) -> Result<(), PortError> {
        let key = Key { subject: desired.target.clone(), isp: None };
        apply_input(self.policy, store, &key, input, now).await?;
        settle(store, desired, seen, now).await
    }

    /// SES certainly did not carry out the call, so the call counts as not begun: any later change is made by others.
    /// `known` is the state known before the call.
    async fn refused<S: DesiredStates + Outbox>(
        &mut self,
        store: &mut S,
        mut known: DesiredState,
        error: ControlError,
        now: Now,
    ) -> Result<EnforceOutcome, PortError> {
        if let ControlError::Throttled(why) = error {
            (known.checked, known.trouble) = (Some(now), None);
            let _ = store.note(&known).await?;
            return Ok(EnforceOutcome::Throttled(why));
        }
        self.failed(store, known, error, now).await
    }

    async fn failed<S: DesiredStates + Outbox>(
        &mut self,
        store: &mut S,
        mut desired: DesiredState,
        error: ControlError,
        now: Now,
    ) -> Result<EnforceOutcome, PortError> {
        desired.checked = Some(now);
        // The target existed a moment ago, and its mark must not wait for another reading.
        let error = if desired.marking.is_some() && !desired.is_settled(now) { error.of_mark() } else { error };
        match error {
            ControlError::Throttled(why) => {
                if desired.marking.is_some() && desired.in_flight.is_none() {
                    // The outcome of the stop or resume is known: without this the target would be at rest, and its
                    // mark late.
                    desired.fail(&why, false, now);
                    self.again = desired.again;
                    let _ = store.note(&desired).await?;
                }
                Ok(EnforceOutcome::Throttled(why))
            }
            ControlError::Failed(why) => {
                desired.fail(&why, false, now);
                self.again = desired.again;
                let _ = store.note(&desired).await?;
                Ok(EnforceOutcome::Failed(why))
            }
            ControlError::Denied(why) => {
                desired.fail(&why, true, now);
                let denied = desired.trouble.as_ref().and_then(|trouble| trouble.denied).unwrap_or(now);
                let _ = store.note(&desired).await?;
                store.put(&Notice::denied(&desired.target, &why, denied, now)).await?;
                Ok(EnforceOutcome::Denied(why))
            }
            ControlError::Gone => self.gone(store, desired, now).await,
        }
    }

    /// SES does not know the target. A desired state `Flowing` is dropped, because nothing is left to resume; `Stopped`
    /// is kept, in case the target is created again.
    async fn gone<S: DesiredStates + Outbox>(
        &mut self,
        store: &mut S,
        mut desired: DesiredState,
        now: Now,
    ) -> Result<EnforceOutcome, PortError> {
        let known = desired.gone;
        if known.is_none() && !desired.was_seen(Seen::Gone, now) {
            desired.doubt(Seen::Gone, now);
            self.again = desired.again;
            let _ = store.note(&desired).await?;
            return Ok(EnforceOutcome::Doubted(Seen::Gone));
        }
        let since = known.or(desired.doubt.map(|doubt| doubt.since)).unwrap_or(now);
        if known.is_none() {
            // Reported first: once it is saved, it is not reported again.
            store.put(&Notice::gone(&desired.target, since)).await?;
        }
        let saved = match desired.flow {
            Flow::Flowing => store.forget(&desired).await?,
            Flow::Stopped => {
                // Nothing is known about a target that is created again.
                desired.hold(None);
                (desired.written, desired.marking, desired.gone) = (None, None, Some(since));
                store.note(&desired).await?
            }
        };
        Ok(match (saved, known) {
            (Saved::Conflict, _) => changed(),
            (Saved::Saved, Some(_)) => EnforceOutcome::Confirmed,
            (Saved::Saved, None) => EnforceOutcome::Gone,
        })
    }
}

/// What was known before a call.
struct Before {
    desired: DesiredState,
    seen: Flow,
    at: Now,
}

impl Before {
    /// The state before a call that has changed nothing, to be saved again; `noted` was saved before the call.
    fn again(self, noted: &DesiredState) -> DesiredState {
        let Before { desired: mut known, seen, at } = self;
        let trouble = known.trouble.clone();
        // If the outcome of an earlier call was unknown, a settled reading shows it.
        if known.in_flight.is_none() || known.is_settled(at) {
            known.hold(Some(seen));
        }
        (known.doubt, known.again) = (None, None);
        DesiredState { version: noted.version, fresh: false, trouble, ..known }
    }
}

fn changed() -> EnforceOutcome {
    EnforceOutcome::Later("the desired state has just changed".to_owned())
}

/// Saves the state that a person made as both the observed and the desired state. `desired` was saved just before, so it
/// is one version older than the stored one, unless the breaker wrote another desired state when it was informed.
async fn settle<S: DesiredStates>(
    store: &mut S,
    desired: &DesiredState,
    seen: Flow,
    now: Now,
) -> Result<(), PortError> {
    let stored = store.desired_states().await?.into_iter().find(|known| known.target == desired.target);
    // A newer desired state that contradicts the person's change is the breaker's latest decision: the next round
    // handles it.
    if let Some(mut known) = stored
        && (known.flow == seen || known.version == desired.version + 1)
    {
        known.hold(Some(seen));
        (known.flow, known.written, known.marking, known.checked) = (seen, None, None, Some(now));
        let _ = store.note(&known).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reputation::detect::{Level, Rule, Verdict};
    use reputation::judge::Judgement;
    use reputation::time::Minute;
    use reputation::{IspMap, Metric, Tally};

    use super::*;
    use crate::memory::MemoryReputation;

    const NOW: Now = Now(1_791_273_600_000);

    fn later(millis: i64) -> Now {
        Now(NOW.0 + millis)
    }

    fn sight(flow: Flow, mark: Mark) -> Sight {
        Sight { flow, mark }
    }

    /// The move when this is seen for the first time, and when it is seen again after long enough.
    fn moves(desired: &DesiredState, seen: &Sight) -> String {
        let first = next_move(desired, seen, NOW);
        // Any other move needs no second reading.
        let Move::Doubt(doubted) = first else { return format!("{first:?}") };
        let mut desired = desired.clone();
        desired.doubt(doubted, NOW);
        format!("{:?} (2nd)", next_move(&desired, seen, later(SECOND_LOOK_MILLIS)))
    }

    #[test]
    fn our_changes_are_distinguished_from_a_persons() {
        use Flow::{Flowing, Stopped};
        let mut lines = Vec::new();
        for flow in [Flowing, Stopped] {
            for observed in [None, Some(Flowing), Some(Stopped)] {
                for in_flight in [None, Some(Flowing), Some(Stopped)] {
                    let desired = DesiredState { observed, in_flight, ..desired("a", flow, 1.0) };
                    let moves = [Flowing, Stopped].map(|seen| moves(&desired, &sight(seen, Mark::Unsupported)));
                    let name = |flow: Option<Flow>| flow.map_or("–".to_owned(), |flow| format!("{flow:?}"));
                    let (observed, in_flight) = (name(observed), name(in_flight));
                    lines.push(format!("{flow:?} | {observed:8} | {in_flight:9} | {:19} | {}", moves[0], moves[1]));
                }
            }
        }
        let table =
            format!("desired | observed | in flight | SES says Flowing | SES says Stopped\n{}", lines.join("\n"));
        insta::assert_snapshot!(table, @r"
        desired | observed | in flight | SES says Flowing | SES says Stopped
        Flowing | –        | –         | Confirm             | PersonStopped (2nd)
        Flowing | –        | Flowing   | Confirm             | PersonStopped (2nd)
        Flowing | –        | Stopped   | Confirm             | Make(Flowing)
        Flowing | Flowing  | –         | Confirm             | PersonStopped (2nd)
        Flowing | Flowing  | Flowing   | Confirm             | PersonStopped (2nd)
        Flowing | Flowing  | Stopped   | Confirm             | Make(Flowing)
        Flowing | Stopped  | –         | Confirm             | Make(Flowing)
        Flowing | Stopped  | Flowing   | Confirm             | Make(Flowing)
        Flowing | Stopped  | Stopped   | Confirm             | Make(Flowing)
        Stopped | –        | –         | Make(Stopped)       | PersonStopped (2nd)
        Stopped | –        | Flowing   | Make(Stopped)       | PersonStopped (2nd)
        Stopped | –        | Stopped   | Make(Stopped)       | Confirm
        Stopped | Flowing  | –         | Make(Stopped)       | PersonStopped (2nd)
        Stopped | Flowing  | Flowing   | Make(Stopped)       | PersonStopped (2nd)
        Stopped | Flowing  | Stopped   | Make(Stopped)       | Confirm
        Stopped | Stopped  | –         | PersonResumed (2nd) | Confirm
        Stopped | Stopped  | Flowing   | Make(Stopped)       | Confirm
        Stopped | Stopped  | Stopped   | Make(Stopped)       | Confirm
        ");
    }

    #[test]
    fn our_changes_are_distinguished_from_another_stacks() {
        use Flow::{Flowing, Stopped};
        let mut lines = Vec::new();
        let known = OtherStack { stack: "beta".to_owned(), since: Now(0) };
        for (name, flow, observed, other) in [
            ("nothing known, to be stopped", Stopped, None, None),
            ("nothing known, to flow", Flowing, None, None),
            ("flows by us, to be stopped", Stopped, Some(Flowing), None),
            ("flows by us, to flow", Flowing, Some(Flowing), None),
            ("stopped by us, to be stopped", Stopped, Some(Stopped), None),
            ("stopped by us, to flow", Flowing, Some(Stopped), None),
            ("stopped by beta, to be stopped", Stopped, None, Some(known.clone())),
            ("stopped by beta, to flow", Flowing, None, Some(known.clone())),
        ] {
            let desired = DesiredState { observed, other, ..desired("a", flow, 1.0) };
            for seen in [Flowing, Stopped] {
                let moves = [Mark::Absent, Mark::Emptied, Mark::Ours, Mark::Other("beta".to_owned())]
                    .map(|mark| moves(&desired, &sight(seen, mark)));
                lines.push(format!("{name} | {seen:?} | {}", moves.join(" | ")));
            }
        }
        let table = format!("| SES says | no mark | an empty mark | our mark | mark of beta\n{}", lines.join("\n"));
        insta::assert_snapshot!(table, @r#"
        | SES says | no mark | an empty mark | our mark | mark of beta
        nothing known, to be stopped | Flowing | Make(Stopped) | Make(Stopped) | Make(Stopped) | Make(Stopped)
        nothing known, to be stopped | Stopped | PersonStopped (2nd) | PersonStopped (2nd) | Confirm | OtherStack("beta")
        nothing known, to flow | Flowing | Confirm | Confirm | Confirm | Confirm
        nothing known, to flow | Stopped | PersonStopped (2nd) | PersonStopped (2nd) | Make(Flowing) | OtherStack("beta")
        flows by us, to be stopped | Flowing | Make(Stopped) | Make(Stopped) | Make(Stopped) | Make(Stopped)
        flows by us, to be stopped | Stopped | PersonStopped (2nd) | PersonStopped (2nd) | PersonStopped (2nd) | OtherStack("beta")
        flows by us, to flow | Flowing | Confirm | Confirm | Confirm | Confirm
        flows by us, to flow | Stopped | PersonStopped (2nd) | PersonStopped (2nd) | PersonStopped (2nd) | OtherStack("beta")
        stopped by us, to be stopped | Flowing | PersonResumed (2nd) | PersonResumed (2nd) | PersonResumed (2nd) | PersonResumed (2nd)
        stopped by us, to be stopped | Stopped | Confirm | Confirm | Confirm | OtherStack("beta")
        stopped by us, to flow | Flowing | Confirm | Confirm | Confirm | Confirm
        stopped by us, to flow | Stopped | Make(Flowing) | Make(Flowing) | Make(Flowing) | OtherStack("beta")
        stopped by beta, to be stopped | Flowing | PersonResumed (2nd) | Make(Stopped) | PersonResumed (2nd) | PersonResumed (2nd)
        stopped by beta, to be stopped | Stopped | PersonStopped (2nd) | PersonStopped (2nd) | Confirm (2nd) | OtherStack("beta")
        stopped by beta, to flow | Flowing | Confirm | Confirm | Confirm | Confirm
        stopped by beta, to flow | Stopped | PersonStopped (2nd) | PersonStopped (2nd) | Make(Flowing) (2nd) | OtherStack("beta")
        "#);
    }

    #[test]
    fn what_contradicts_our_own_write_is_not_believed_while_it_may_be_older() {
        use Flow::{Flowing, Stopped};
        let written = Some(NOW);
        let paused = DesiredState { observed: Some(Stopped), written, ..desired("a", Stopped, 1.0) };
        let resumed = DesiredState { observed: Some(Flowing), written, ..desired("a", Flowing, 1.0) };
        // To be stopped again at once, while SES still shows the state before.
        let again = DesiredState { observed: Some(Flowing), written, ..desired("a", Stopped, 1.0) };
        let reverted = DesiredState { observed: Some(Stopped), written, ..desired("a", Flowing, 1.0) };
        for (desired, seen, then) in [
            (paused, Flowing, Move::PersonResumed),
            (resumed, Stopped, Move::PersonStopped),
            (again, Stopped, Move::PersonStopped),
        ] {
            let sight = sight(seen, Mark::Absent);
            let mut desired = desired;
            for millis in [1_000, SETTLING_MILLIS - 1] {
                assert_eq!(next_move(&desired, &sight, later(millis)), Move::Doubt(seen.into()));
                desired.doubt(seen.into(), later(millis));
                assert_eq!((desired.doubt, desired.again), (None, Some(later(SETTLING_MILLIS))));
            }
            let first = later(SETTLING_MILLIS);
            assert_eq!(next_move(&desired, &sight, first), Move::Doubt(seen.into()));
            desired.doubt(seen.into(), first);
            let second = desired.again.unwrap();
            assert_eq!(second.0 - first.0, SECOND_LOOK_MILLIS);
            assert_eq!(next_move(&desired, &sight, second), then);
        }
        // If the reading does not mean that others have acted, one reading is enough.
        let sight = sight(Flowing, Mark::Absent);
        assert_eq!(next_move(&reverted, &sight, later(1_000)), Move::Doubt(Seen::Flowing));
        assert_eq!(next_move(&reverted, &sight, later(SETTLING_MILLIS)), Move::Confirm);
    }

    #[test]
    fn tries_of_a_target_that_fails_are_further_and_further_apart_and_never_far() {
        let mut desired = desired("a", Flow::Stopped, 1.0);
        let waits = (0..10).map(|_| {
            desired.fail("AccessDeniedException", true, NOW);
            (desired.again.unwrap().0 - NOW.0) / 1_000
        });
        assert_eq!(waits.collect::<Vec<i64>>(), [2, 4, 8, 16, 32, 64, 128, 240, 240, 240]);
        let trouble = desired.trouble.clone().unwrap();
        assert_eq!((trouble.failures, trouble.denied), (10, Some(NOW)));
        desired.fail("InternalServiceError", false, later(1));
        assert_eq!(desired.trouble.unwrap().denied, Some(NOW), "the same episode");
    }

    /// A console at which some targets fail for ever, and which counts its calls.
    struct Sick {
        sick: BTreeMap<Subject, ControlError>,
        stopped: Vec<Subject>,
        calls: usize,
    }

    impl SendingControl for Sick {
        async fn flow(&mut self, target: &Subject) -> Result<Sight, ControlError> {
            self.calls += 1;
            let failure = self.sick.get(target).cloned();
            let flow = if self.stopped.contains(target) { Flow::Stopped } else { Flow::Flowing };
            failure.map_or(Ok(sight(flow, Mark::Absent)), Err)
        }

        async fn set_flow(&mut self, target: &Subject, flow: Flow) -> Result<(), ControlError> {
            self.calls += 1;
            assert_eq!(flow, Flow::Stopped);
            self.stopped.push(target.clone());
            Ok(())
        }

        async fn mark(&mut self, _: &Subject, _: bool) -> Result<(), ControlError> {
            self.calls += 1;
            Ok(())
        }
    }

    #[test]
    fn targets_that_fail_for_ever_delay_no_other() {
        let policy = Policy::default();
        for error in [ControlError::Failed("500".into()), ControlError::Denied("403".into()), ControlError::Gone] {
            let mut store = MemoryReputation::new(&IspMap::builtin());
            let mut ses = Sick { sick: BTreeMap::new(), stopped: Vec::new(), calls: 0 };
            let stop = |store: &mut MemoryReputation, name: &str, urgency: f64| {
                pollster::block_on(store.renew(&desired(name, Flow::Stopped, urgency))).unwrap();
            };
            for sick in 0..50 {
                let name = format!("sick-{sick}");
                ses.sick.insert(Subject::ConfigurationSet(name.as_str().into()), error.clone());
                stop(&mut store, &name, 9.0);
            }
            let round = |now: Now| Round { calls: 20, reconcile: Some(now) };
            let mut now = NOW;
            for index in 0..40 {
                now = now.plus_minutes(5);
                ses.calls = 0;
                pollster::block_on(enforce(&policy, &mut store, &mut ses, round(now), || now)).unwrap();
                assert!(ses.calls <= 20);
                // Once all failing targets were tried, new decisions are carried out at once.
                if index >= 4 {
                    let name = format!("well-{index}");
                    stop(&mut store, &name, 1.0);
                    now = now.plus_minutes(1);
                    pollster::block_on(enforce(&policy, &mut store, &mut ses, round(now), || now)).unwrap();
                    assert!(ses.stopped.contains(&Subject::ConfigurationSet(name.as_str().into())), "{error}: {name}");
                }
            }
            // And the healthy targets are still checked.
            let desired_states = pollster::block_on(store.desired_states()).unwrap();
            let stale = desired_states.iter().filter(|desired| desired.observed.is_some());
            let stale = stale.filter(|desired| desired.checked.is_none_or(|at| now.minutes_since(at) > 120));
            assert_eq!(stale.count(), 0, "{error}");
        }
    }

    #[test]
    fn a_set_made_anew_while_its_breaker_is_open_is_stopped_again_and_reported_once() {
        let policy = Policy::default();
        let mut store = MemoryReputation::new(&IspMap::builtin());
        let target = Subject::ConfigurationSet("news".into());
        let mut ses = Sick { sick: BTreeMap::new(), stopped: Vec::new(), calls: 0 };
        pollster::block_on(store.renew(&desired("news", Flow::Stopped, 1.0))).unwrap();
        let round = |now: Now| Round { calls: 20, reconcile: Some(now) };
        let mut now = NOW;
        let mut outcomes = Vec::new();
        for index in 0..8 {
            match index {
                1 => _ = ses.sick.insert(target.clone(), ControlError::Gone),
                6 => {
                    ses.sick.clear();
                    ses.stopped.clear();
                }
                _ => {}
            }
            let done = pollster::block_on(enforce(&policy, &mut store, &mut ses, round(now), || now)).unwrap();
            outcomes.extend(done.enforced.into_iter().map(|enforced| format!("{:?}", enforced.outcome)));
            now = now.plus_minutes(5);
        }
        let expected = [
            "Made(Stopped)",
            "Doubted(Gone)",
            "Gone",
            "Confirmed",
            "Confirmed",
            "Confirmed",
            "Made(Stopped)",
            "Confirmed",
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(pollster::block_on(store.unsent()).unwrap().len(), 1);
    }

    #[test]
    fn a_lost_desired_state_is_renewed_where_its_breaker_is_open() {
        let policy = Policy::default();
        let mut store = MemoryReputation::new(&IspMap::builtin());
        let target = Subject::ConfigurationSet("news".into());
        let key = Key { subject: target.clone(), isp: None };
        let mut ses = Sick { sick: BTreeMap::new(), stopped: Vec::new(), calls: 0 };
        pollster::block_on(async {
            apply_input(&policy, &mut store, &key, Input::PersonStops, NOW).await.unwrap();
            let desired_states = store.desired_states().await.unwrap();
            store.forget(&desired_states[0]).await.unwrap();
            // Repeated by a person, it does not change the breaker.
            assert_eq!(apply_input(&policy, &mut store, &key, Input::PersonStops, NOW).await.unwrap(), []);
            assert_eq!(renew(&mut store, &target, NOW).await, Ok(true));
            assert_eq!(renew(&mut store, &target, NOW).await, Ok(false));
            let desired_states = store.desired_states().await.unwrap();
            store.forget(&desired_states[0]).await.unwrap();
            let round = |now: Now| Round { calls: 20, reconcile: Some(now) };
            enforce(&policy, &mut store, &mut ses, round(NOW), || NOW).await.unwrap();
        });
        assert_eq!(ses.stopped, [target]);
    }

    fn desired(name: &str, flow: Flow, urgency: f64) -> DesiredState {
        DesiredState::new(Subject::ConfigurationSet(name.into()), flow, Now(0), urgency, String::new())
    }

    #[test]
    fn stops_come_before_resumes_and_the_worst_first() {
        let is_true = DesiredState { observed: Some(Flow::Stopped), ..desired("true", Flow::Stopped, 9.0) };
        let mut desired_states = [
            is_true,
            desired("resume", Flow::Flowing, 5.0),
            desired("bad", Flow::Stopped, 1.1),
            desired("worse", Flow::Stopped, 3.0),
        ];
        desired_states.sort_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap());
        let order: Vec<String> = desired_states.iter().map(|desired| desired.target.to_string()).collect();
        assert_eq!(
            order.join(" "),
            "configuration-set:worse configuration-set:bad configuration-set:resume configuration-set:true"
        );
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Who {
        Us,
        Person,
    }

    /// SES with people at its console, over an unreliable network.
    #[derive(Default)]
    struct Ses {
        stopped_by: BTreeMap<Subject, Who>,
        /// The next calls that fail, and whether they are still carried out.
        failures: Vec<Option<bool>>,
        /// A person has changed something that we have not accepted yet.
        unseen: bool,
    }

    impl Ses {
        fn fails(&mut self) -> Option<bool> {
            self.failures.pop().flatten()
        }
    }

    impl SendingControl for Ses {
        async fn flow(&mut self, target: &Subject) -> Result<Sight, ControlError> {
            if self.fails().is_some() {
                return Err(ControlError::Throttled("429".into()));
            }
            let flow = if self.stopped_by.contains_key(target) { Flow::Stopped } else { Flow::Flowing };
            Ok(sight(flow, Mark::Unsupported))
        }

        async fn set_flow(&mut self, target: &Subject, flow: Flow) -> Result<(), ControlError> {
            let fails = self.fails();
            if fails != Some(false) {
                match flow {
                    Flow::Stopped => _ = self.stopped_by.entry(target.clone()).or_insert(Who::Us),
                    Flow::Flowing => {
                        assert_ne!(self.stopped_by.remove(target), Some(Who::Person), "resumed what a person stopped");
                    }
                }
            }
            if fails.is_some() { Err(ControlError::Failed("500".into())) } else { Ok(()) }
        }

        async fn mark(&mut self, _: &Subject, _: bool) -> Result<(), ControlError> {
            Ok(())
        }
    }

    #[derive(Clone, Debug)]
    enum Happening {
        BreakerPauses,
        MinutesPass(u32),
        PersonStopsAtSes,
        PersonResumesAtSes,
        Round(Vec<Option<bool>>),
    }

    fn happening() -> impl Strategy<Value = Happening> {
        let failure = prop::option::weighted(0.4, any::<bool>());
        prop_oneof![
            Just(Happening::BreakerPauses),
            (1u32..90).prop_map(Happening::MinutesPass),
            Just(Happening::PersonStopsAtSes),
            Just(Happening::PersonResumesAtSes),
            prop::collection::vec(failure, 0..3).prop_map(Happening::Round),
        ]
    }

    proptest! {
        /// Whatever breakers, people and failing calls do: we never undo a person's change, and once calls work again,
        /// SES does what the breaker decided.
        #[test]
        fn no_pause_is_lost_and_nothing_of_a_persons_is_undone(happenings in prop::collection::vec(happening(), 1..60)) {
            let policy = Policy::default();
            let mut store = MemoryReputation::new(&IspMap::builtin());
            let mut ses = Ses::default();
            let mut now = Now(1_791_273_600_000);
            let target = Subject::ConfigurationSet("news".into());
            let key = Key { subject: target.clone(), isp: None };
            let verdict = Verdict {
                level: Level::Pause,
                metric: Metric::HardBounce,
                rule: Rule::Cusum { limit: 0.05, evidence: 12.0, threshold: 10.0, repeats: 0 },
                from: Minute(1),
                until: Minute(2),
                tally: Tally { population: 50, bad: 20 },
            };
            let round = |now: Now| Round { calls: 10, reconcile: Some(now) };
            pollster::block_on(async {
                for happening in happenings {
                    // A change that cannot be seen cannot be respected: see the gaps above.
                    let desired_states = store.desired_states().await.unwrap();
                    let pending = ses.unseen || desired_states.iter().any(|desired| desired.in_flight.is_some());
                    match happening {
                        Happening::BreakerPauses => {
                            let judgement = Judgement { pause: Some(verdict), ..Judgement::default() };
                            apply_input(&policy, &mut store, &key, Input::Judged(&judgement), now).await.unwrap();
                        }
                        Happening::MinutesPass(minutes) => {
                            now = now.plus_minutes(minutes);
                            apply_input(&policy, &mut store, &key, Input::Judged(&Judgement::default()), now).await.unwrap();
                        }
                        Happening::PersonStopsAtSes if !pending => {
                            ses.stopped_by.entry(target.clone()).or_insert(Who::Person);
                            ses.unseen = true;
                        }
                        Happening::PersonResumesAtSes if !pending => {
                            ses.stopped_by.remove(&target);
                            ses.unseen = true;
                        }
                        Happening::PersonStopsAtSes | Happening::PersonResumesAtSes => {}
                        Happening::Round(failures) => {
                            ses.failures = failures;
                            let done = enforce(&policy, &mut store, &mut ses, round(now), || now).await.unwrap();
                            // A doubted reading is not accepted yet.
                            ses.unseen &= done.enforced.iter().all(|done| matches!(done.outcome, EnforceOutcome::Doubted(_) | EnforceOutcome::Throttled(_)));
                            now = now.plus_minutes(5);
                        }
                    }
                }
                ses.failures.clear();
                for _ in 0..4 {
                    enforce(&policy, &mut store, &mut ses, round(now), || now).await.unwrap();
                    now = now.plus_minutes(5);
                }
                let desired = store.desired_states().await.unwrap();
                let seen = ses.flow(&target).await.unwrap().flow;
                for desired in &desired {
                    assert_eq!((desired.flow, desired.observed, desired.in_flight), (seen, Some(seen), None));
                }
                let open = matches!(store.subject_state(&target, now).await.unwrap().breaker(None).breaker.state, reputation::State::Open { .. });
                assert!(desired.is_empty() || open == (seen == Flow::Stopped), "breaker open: {open}, SES: {seen:?}");
            });
        }
    }
}
