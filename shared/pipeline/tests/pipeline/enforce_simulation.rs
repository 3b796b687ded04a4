//! Two stacks with the same configuration sets, people at the console, and an SES that answers late, wrongly or not.
//!
//! Laws: no change by a person is undone; no pause is lost; a write of a stack is never treated as a person's; a set
//! that answers is served within a few rounds, whatever the others do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline::control::{ControlKind, Flow};
use pipeline::enforce::{EnforceOutcome, Enforced, Invocation, Next, Round, RoundDone, SETTLING_MILLIS, enforce};
use pipeline::evaluate::apply_input;
use pipeline::memory::MemoryReputation;
use pipeline::notice::{AlertQueue, Notice, Outbox};
use pipeline::ports::{
    Board, Change, Committed, ControlError, DesiredState, DesiredStates, Disposition, Mark, PortError, Relative,
    Reputation, Saved, SendingControl, Sight, SubjectState,
};
use pipeline::stream::{Fold, Sequence, Shard};
use reputation::breaker::{Input, State};
use reputation::detect::{Level, Rule, Verdict};
use reputation::judge::Judgement;
use reputation::time::{MINUTE_MILLIS, Minute, Now};
use reputation::{IspMap, Key, Metric, Policy, Subject, Tally, Timeline};

use super::kit::{NOW, Rng, for_each_seed, set_of};

const SETS: [&str; 4] = ["alerts", "bulk", "news", "shop"];
const STACKS: usize = 2;
/// The time limit of an invocation, and the longest time of one call of SES, in milliseconds.
const INVOCATION_MILLIS: i64 = 110_000;
const CALL_MILLIS: i64 = 1_100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The set was created in this state.
    Maker,
    Stack(usize),
    Person,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Absent,
    Emptied,
    Of(usize),
}

/// The state of one configuration set at SES.
#[derive(Clone, Copy, Debug)]
struct Shown {
    flow: Flow,
    tag: Tag,
}

#[derive(Clone, Debug)]
struct Set {
    exists: bool,
    now: Shown,
    by: Who,
    at: Now,
    /// The state that reads may still show, and until when.
    old: Option<(Shown, Now)>,
    /// When a stack last stopped what the other had just stopped.
    both: Option<Now>,
    /// When SES last did not find it although it exists: never twice within half an hour.
    unknown: Option<Now>,
    /// Fails each call for as long as this is set.
    sick: Option<ControlError>,
    /// Since when stopping and resuming it is denied, while other calls are allowed.
    denied: Option<Now>,
    /// When a stack last replaced the other's tag with its own: see the gap about a stop that is refused then.
    taken: Option<Now>,
    /// Whether the outcome of a stack's last stop or resume is unknown.
    unsure: [bool; STACKS],
    /// When a person last acted, until all stacks have reacted to it.
    acted: Option<Now>,
    /// A person's change that a stack has not reacted to yet.
    acts: [Option<Flow>; STACKS],
}

struct Ses {
    now: Now,
    rng: Rng,
    sets: BTreeMap<Subject, Set>,
    calm: bool,
    throttled: bool,
    /// When each stack last decided to stop each set.
    decided: BTreeMap<(usize, Subject), Now>,
    broken: Vec<String>,
}

/// SES as one stack sees it.
struct Client<'a> {
    ses: &'a mut Ses,
    stack: usize,
}

impl Client<'_> {
    /// Whether a call fails, and whether it is still carried out.
    fn failure(&mut self, target: &Subject) -> Option<(ControlError, bool)> {
        let set = &self.ses.sets[target];
        if !set.exists {
            return Some((ControlError::Gone, false));
        }
        if let Some(error) = &set.sick {
            return Some((error.clone(), false));
        }
        if self.ses.calm {
            return None;
        }
        match self.ses.rng.below(40) {
            0 => {
                self.ses.throttled = true;
                Some((ControlError::Throttled("429".into()), false))
            }
            1 => Some((ControlError::Failed("500".into()), false)),
            2 => Some((ControlError::Failed("a lost answer".into()), true)),
            3 if self.ses.sets[target].unknown.is_none_or(|at| self.ses.now.minutes_since(at) >= 30) => {
                self.ses.sets.get_mut(target).expect("valid by construction").unknown = Some(self.ses.now);
                Some((ControlError::Gone, false))
            }
            _ => None,
        }
    }

    fn write(&mut self, target: &Subject, change: impl FnOnce(&mut Shown)) {
        let (now, late) = (self.ses.now, self.ses.rng.below(SETTLING_MILLIS as usize) as i64);
        let set = self.ses.sets.get_mut(target).expect("valid by construction");
        let before = set.old.filter(|(_, until)| *until > now).map_or(set.now, |(old, _)| old);
        set.old = Some((before, Now(now.0 + late)));
        change(&mut set.now);
    }
}

impl SendingControl for Client<'_> {
    async fn flow(&mut self, target: &Subject) -> Result<Sight, ControlError> {
        if let Some((error, _)) = self.failure(target) {
            return Err(error);
        }
        let stale = self.ses.rng.chance(60);
        let set = &self.ses.sets[target];
        let shown = match set.old {
            Some((old, until)) if until > self.ses.now && stale => old,
            Some(_) | None => set.now,
        };
        let mark = match shown.tag {
            Tag::Absent => Mark::Absent,
            Tag::Emptied => Mark::Emptied,
            Tag::Of(stack) if stack == self.stack => Mark::Ours,
            Tag::Of(stack) => Mark::Other(format!("stack-{stack}")),
        };
        Ok(Sight { flow: shown.flow, mark })
    }

    async fn set_flow(&mut self, target: &Subject, flow: Flow) -> Result<(), ControlError> {
        let mut failure = self.failure(target);
        if self.ses.sets[target].denied.is_some() {
            failure = Some((ControlError::Denied("no permission to write".into()), false));
        }
        let was_unsure = self.ses.sets[target].unsure[self.stack];
        if let Some(set) = self.ses.sets.get_mut(target) {
            set.unsure[self.stack] = match &failure {
                None => false,
                Some((ControlError::Failed(_), _)) => true,
                Some((ControlError::Throttled(_) | ControlError::Denied(_) | ControlError::Gone, _)) => was_unsure,
            };
        }
        if failure.as_ref().is_none_or(|(_, carried_out)| *carried_out) {
            let (stack, decided) = (self.stack, self.ses.decided.get(&(self.stack, target.clone())).copied());
            let set = self.ses.sets[target].clone();
            match (set.now.flow, set.by, flow) {
                (Flow::Stopped, Who::Person, Flow::Flowing) => {
                    self.ses.broken.push(format!("stack {stack} resumed {target}, which a person had stopped"));
                }
                // See the gap about a call with an unknown outcome: the other stack treats it as a person's resume.
                (Flow::Stopped, Who::Stack(other), Flow::Flowing) if other != stack && was_unsure => {
                    self.ses.sets.get_mut(target).expect("valid by construction").acts[other] = Some(Flow::Flowing);
                }
                (Flow::Stopped, Who::Stack(other), Flow::Flowing) if other != stack => {
                    self.ses.broken.push(format!("stack {stack} resumed {target}, which stack {other} had stopped"));
                }
                (Flow::Flowing, Who::Person, Flow::Stopped) if decided.is_none_or(|decided| decided < set.at) => {
                    self.ses.broken.push(format!("stack {stack} stopped {target} again, which a person had resumed"));
                }
                (Flow::Flowing | Flow::Stopped, _, Flow::Flowing | Flow::Stopped) => {}
            }
            if set.now.flow == Flow::Stopped && flow == Flow::Stopped && set.by != Who::Stack(stack) {
                self.ses.sets.get_mut(target).expect("valid by construction").both = Some(self.ses.now);
            }
            if set.now.flow != flow {
                self.write(target, |shown| shown.flow = flow);
                let now = self.ses.now;
                let set = self.ses.sets.get_mut(target).expect("valid by construction");
                (set.by, set.at) = (Who::Stack(stack), now);
            }
        }
        failure.map_or(Ok(()), |(error, _)| Err(error))
    }

    async fn mark(&mut self, target: &Subject, stopped: bool) -> Result<(), ControlError> {
        let failure = self.failure(target);
        if failure.as_ref().is_none_or(|(_, carried_out)| *carried_out) {
            let stack = self.stack;
            let before = self.ses.sets[target].now.tag;
            self.write(target, |shown| shown.tag = if stopped { Tag::Of(stack) } else { Tag::Emptied });
            // If two stacks stop it at the same time, the last mark decides whose stop it is.
            let now = self.ses.now;
            let set = self.ses.sets.get_mut(target).expect("valid by construction");
            if before == Tag::Of(1 - stack) && stopped {
                set.taken = Some(now);
            }
            if let Who::Stack(other) = set.by
                && stopped
                && set.now.flow == Flow::Stopped
                && other != stack
            {
                (set.by, set.both) = (Who::Stack(stack), Some(now));
            }
        }
        failure.map_or(Ok(()), |(error, _)| Err(error))
    }
}

/// A store that sometimes fails, before or after it has done what it was asked to do.
struct Flaky<'a> {
    store: &'a mut MemoryReputation,
    rng: Rng,
    is_calm: bool,
}

impl Flaky<'_> {
    fn fail(&mut self) -> Result<(), PortError> {
        if self.is_calm || self.rng.below(400) > 0 {
            return Ok(());
        }
        let reason = "the process was stopped".to_owned();
        Err(PortError { operation: "simulating", reason, disposition: Disposition::Retry })
    }
}

impl Reputation for Flaky<'_> {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        self.store.mark(shard).await
    }
    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.store.commit(fold, now).await
    }
    async fn subject_state(&mut self, subject: &Subject, now: Now) -> Result<&mut SubjectState, PortError> {
        self.fail()?;
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
    async fn active(&mut self, since: Minute, now: Now) -> Result<Vec<(&Subject, &Timeline)>, PortError> {
        self.store.active(since, now).await
    }
    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError> {
        self.fail()?;
        let saved = self.store.save(changes).await?;
        self.fail()?;
        Ok(saved)
    }
}

impl DesiredStates for Flaky<'_> {
    async fn desired_states(&mut self) -> Result<Vec<DesiredState>, PortError> {
        self.fail()?;
        self.store.desired_states().await
    }
    async fn note(&mut self, desired: &DesiredState) -> Result<Saved, PortError> {
        self.fail()?;
        let saved = self.store.note(desired).await?;
        self.fail()?;
        Ok(saved)
    }
    async fn renew(&mut self, desired: &DesiredState) -> Result<Saved, PortError> {
        self.store.renew(desired).await
    }
    async fn forget(&mut self, desired: &DesiredState) -> Result<Saved, PortError> {
        self.store.forget(desired).await
    }
}

impl Outbox for Flaky<'_> {
    async fn unsent(&mut self) -> Result<Vec<Notice>, PortError> {
        self.store.unsent().await
    }
    async fn put(&mut self, notice: &Notice) -> Result<(), PortError> {
        self.fail()?;
        self.store.put(notice).await
    }
    async fn sent(&mut self, ids: &[String]) -> Result<(), PortError> {
        self.store.sent(ids).await
    }
    async fn alert_queue(&mut self) -> Result<AlertQueue, PortError> {
        self.store.alert_queue().await
    }
    async fn keep(&mut self, alert_queue: &AlertQueue) -> Result<Saved, PortError> {
        self.store.keep(alert_queue).await
    }
}

struct Fixture {
    policy: Policy,
    stores: Vec<MemoryReputation>,
    ses: Ses,
    rng: Rng,
    /// Since when a set that answers is to be stopped.
    unserved: BTreeMap<(usize, Subject), Now>,
}

impl Fixture {
    fn new(seed: u64) -> Fixture {
        let sets = SETS.map(|name| {
            let now = Shown { flow: Flow::Flowing, tag: Tag::Absent };
            let set = Set {
                exists: true,
                now,
                by: Who::Maker,
                at: NOW,
                old: None,
                both: None,
                unknown: None,
                sick: None,
                denied: None,
                taken: None,
                unsure: [false; STACKS],
                acted: None,
                acts: [None; STACKS],
            };
            (set_of(name), set)
        });
        let ses = Ses {
            now: NOW,
            rng: Rng(seed ^ 0x5e5),
            sets: sets.into(),
            calm: false,
            throttled: false,
            decided: BTreeMap::new(),
            broken: Vec::new(),
        };
        let stores = (0..STACKS).map(|_| MemoryReputation::new(&IspMap::builtin())).collect();
        Fixture { policy: Policy::default(), stores, ses, rng: Rng(seed), unserved: BTreeMap::new() }
    }

    fn is_open(&mut self, stack: usize, target: &Subject) -> bool {
        let breaker = self.stores[stack].find(target).map(|subject_state| subject_state.breaker(None).breaker);
        breaker.is_some_and(|breaker| breaker.enacted && matches!(breaker.state, State::Open { .. }))
    }

    async fn step_breaker(&mut self, stack: usize, target: &Subject, verdict: Option<Verdict>) {
        // See the gap about two stacks that stop a set at the same time: a stop is never that short.
        if self.was_stopped_by_both(target) {
            return;
        }
        let key = Key { subject: target.clone(), isp: None };
        let judgement = Judgement { pause: verdict, ..Judgement::default() };
        let now = self.ses.now;
        let changes = apply_input(&self.policy, &mut self.stores[stack], &key, Input::Judged(&judgement), now)
            .await
            .expect("valid by construction");
        let controls = changes.iter().flat_map(|change| &change.controls);
        for control in controls {
            if control.kind == ControlKind::PauseConfigurationSet {
                self.ses.decided.insert((stack, target.clone()), now);
                self.unserved.insert((stack, target.clone()), now);
            }
        }
    }

    fn was_stopped_by_both(&self, target: &Subject) -> bool {
        self.ses.sets[target].both.is_some_and(|at| self.ses.now.minutes_since(at) <= 30)
    }

    /// Whether a change by a person would be distinguishable now: nothing is under way, and all stacks have reacted to
    /// their last change.
    async fn is_quiet(&mut self, target: &Subject) -> bool {
        let (now, set) = (self.ses.now, self.ses.sets[target].clone());
        let mut quiet = set.exists && set.sick.is_none() && set.denied.is_none() && set.acted.is_none();
        quiet &= set.old.is_none_or(|(_, until)| until <= now);
        for stack in 0..STACKS {
            let open = self.is_open(stack, target);
            let desired_states = self.stores[stack].desired_states().await.expect("valid by construction");
            let desired = desired_states.iter().find(|desired| desired.target == *target);
            quiet &=
                desired.map_or(!open, |desired| desired.is_true() && desired.doubt.is_none() && desired.gone.is_none());
        }
        quiet
    }

    async fn person(&mut self, target: &Subject, flow: Flow) {
        let now = self.ses.now;
        let set = self.ses.sets.get_mut(target).expect("valid by construction");
        if set.now.flow != flow {
            set.now.flow = flow;
            (set.by, set.at, set.old, set.acted) = (Who::Person, now, None, Some(now));
            set.acts = [Some(flow); STACKS];
        }
    }

    /// One invocation of each stack, at the same time.
    async fn invoke(&mut self, reconcile: bool) -> Result<(), String> {
        let begun = self.ses.now;
        let mut running: Vec<_> = (0..STACKS).map(|stack| (begun, stack, Invocation::new(reconcile, begun))).collect();
        while let Some(next) = (0..running.len()).min_by_key(|index| running[*index].0) {
            let (due, stack, mut invocation) = running.swap_remove(next);
            self.ses.now = self.ses.now.max(due);
            let left = begun.0 + INVOCATION_MILLIS - self.ses.now.0;
            let Some(round) = invocation.round((left / 1_500).max(0) as usize, self.ses.now) else { continue };
            // If it failed, Lambda invokes it again.
            let Some(done) = self.round(stack, round).await? else {
                let again = Now(self.ses.now.0 + 1_000);
                running.push((again, stack, Invocation::new(reconcile, again)));
                continue;
            };
            let ended = Now(self.ses.now.0 + done.calls as i64 * CALL_MILLIS);
            let wait = match invocation.after(&done, ended) {
                Next::Round => 0,
                Next::Busy(wait, _) => wait.as_millis() as i64,
                Next::Retry(wait) => wait.as_millis().max(500) as i64,
                Next::Done => continue,
            };
            if ended.0 + wait < begun.0 + INVOCATION_MILLIS {
                running.push((Now(ended.0 + wait), stack, invocation));
            }
        }
        Ok(())
    }

    /// `None` if the store has failed.
    async fn round(&mut self, stack: usize, round: Round) -> Result<Option<RoundDone>, String> {
        let now = self.ses.now;
        let rng = Rng(self.rng.next());
        let mut store = Flaky { store: &mut self.stores[stack], rng, is_calm: self.ses.calm };
        let mut client = Client { ses: &mut self.ses, stack };
        let done = enforce(&self.policy, &mut store, &mut client, round, || now).await;
        if let Some(broken) = self.ses.broken.first() {
            return Err(broken.clone());
        }
        let Ok(done) = done else {
            for desired in self.stores[stack].desired_states().await.expect("valid by construction") {
                let set = self.ses.sets.get_mut(&desired.target).expect("valid by construction");
                set.unsure[stack] |= desired.in_flight.is_some();
            }
            return Ok(None);
        };
        for Enforced { target, outcome, .. } in &done.enforced {
            let set = self.ses.sets.get_mut(target).expect("valid by construction");
            // A call with an unknown outcome has ended by now, or the set is read again.
            let desired_states = self.stores[stack].desired_states().await.expect("valid by construction");
            if desired_states
                .iter()
                .find(|desired| desired.target == *target)
                .is_none_or(|desired| desired.in_flight.is_none())
            {
                set.unsure[stack] = false;
            }
            let by_person = |flow| set.acts[stack] == Some(flow) || (set.by == Who::Person && set.now.flow == flow);
            match outcome {
                EnforceOutcome::PersonStopped if !by_person(Flow::Stopped) => {
                    return Err(format!("stack {stack} takes for a person's stop of {target}: {set:?}"));
                }
                EnforceOutcome::PersonResumed if !by_person(Flow::Flowing) => {
                    return Err(format!("stack {stack} takes for a person's resume of {target}: {set:?}"));
                }
                EnforceOutcome::Gone if set.exists => return Err(format!("stack {stack}: {target} is not gone")),
                EnforceOutcome::Confirmed
                | EnforceOutcome::Made(_)
                | EnforceOutcome::PersonStopped
                | EnforceOutcome::PersonResumed
                | EnforceOutcome::Gone
                | EnforceOutcome::Doubted(_)
                | EnforceOutcome::OtherStack(_)
                | EnforceOutcome::Failed(_)
                | EnforceOutcome::Throttled(_)
                | EnforceOutcome::Denied(_)
                | EnforceOutcome::Later(_) => {}
            }
        }
        self.check_served(stack)?;
        self.check_answered().await?;
        Ok(Some(done))
    }

    /// A set that answers is stopped within 25 minutes: up to five calls in a row may fail by chance.
    fn check_served(&mut self, stack: usize) -> Result<(), String> {
        let now = self.ses.now;
        for target in SETS.map(set_of) {
            let set = self.ses.sets[&target].clone();
            let open = self.is_open(stack, &target);
            let Some(since) = self.unserved.get_mut(&(stack, target.clone())) else { continue };
            let late = set.old.is_some_and(|(_, until)| until > now);
            if !open || set.now.flow == Flow::Stopped {
                self.unserved.remove(&(stack, target));
            } else if !set.exists || set.sick.is_some() || set.denied.is_some() || set.acted.is_some() || late {
                *since = now;
            } else if now.minutes_since(*since) > 25 {
                return Err(format!("stack {stack} has not stopped {target} within 25 minutes"));
            }
        }
        Ok(())
    }

    /// Each stack reacts to a person's change within four reconciles: two readings, and two that may fail by chance.
    async fn check_answered(&mut self) -> Result<(), String> {
        for target in SETS.map(set_of) {
            let set = self.ses.sets[&target].clone();
            let Some(acted) = set.acted else { continue };
            let mut answered = true;
            for stack in 0..STACKS {
                let desired_states = self.stores[stack].desired_states().await.expect("valid by construction");
                let desired = desired_states.iter().find(|desired| desired.target == target);
                let done = desired.is_none_or(|desired| {
                    let agrees = desired.flow == set.now.flow && desired.is_true() && desired.other.is_none();
                    agrees && desired.doubt.is_none()
                });
                answered &= done;
                if done && desired.is_some() {
                    self.ses.sets.get_mut(&target).expect("valid by construction").acts[stack] = None;
                }
            }
            if answered || set.by != Who::Person {
                self.ses.sets.get_mut(&target).expect("valid by construction").acted = None;
            } else if set.sick.is_none() && set.exists && self.ses.now.minutes_since(acted) > 40 {
                return Err(format!("a person's act on {target} is not answered after 40 minutes: {set:?}"));
            }
        }
        Ok(())
    }

    /// Denies stopping and resuming a set; if they are already denied, a person stops it by hand, and the denial ends.
    async fn deny(&mut self, target: &Subject) {
        let (now, both) = (self.ses.now, self.was_stopped_by_both(target));
        let mut marked = false;
        for stack in 0..STACKS {
            let desired_states = self.stores[stack].desired_states().await.expect("valid by construction");
            let desired = desired_states.iter().find(|desired| desired.target == *target);
            marked |= desired.is_some_and(|desired| desired.doubt.is_some() || desired.gone.is_some());
        }
        let is_quiet = self.is_quiet(target).await;
        let set = self.ses.sets.get_mut(target).expect("valid by construction");
        match set.denied {
            None if is_quiet && !both => set.denied = Some(now),
            None => {}
            Some(since) => {
                let settled = set.old.is_none_or(|(_, until)| until <= now) && !set.unsure.contains(&true);
                let since = set.taken.map_or(since, |taken| taken.max(since));
                if settled && !marked && set.exists && set.sick.is_none() && now.minutes_since(since) > 12 {
                    set.denied = None;
                    self.person(target, Flow::Stopped).await;
                }
            }
        }
    }

    async fn happen(&mut self) -> Result<(), String> {
        let target = set_of(SETS[self.rng.below(SETS.len())]);
        let stack = self.rng.below(STACKS);
        let verdict = Verdict {
            level: Level::Pause,
            metric: Metric::HardBounce,
            rule: Rule::Cusum { limit: 0.05, evidence: 12.0, threshold: 10.0, repeats: 0 },
            from: Minute(1),
            until: Minute(2),
            tally: Tally { population: 50, bad: 20 },
        };
        let now = self.ses.now;
        match self.rng.below(19) {
            // Usually both stacks see the same harm.
            0..3 => {
                for stack in 0..STACKS {
                    if self.rng.chance(80) {
                        self.step_breaker(stack, &target, Some(verdict)).await;
                    }
                }
            }
            3..6 => {
                for target in SETS.map(set_of) {
                    self.step_breaker(stack, &target, None).await;
                }
            }
            6..8 if self.is_quiet(&target).await => self.person(&target, Flow::Stopped).await,
            8..10 if self.is_quiet(&target).await => self.person(&target, Flow::Flowing).await,
            10 if self.is_quiet(&target).await => {
                let set = self.ses.sets.get_mut(&target).expect("valid by construction");
                (set.exists, set.at, set.old) = (false, now, None);
            }
            11 => {
                let stopped = self.rng.chance(20);
                let flow = if stopped { Flow::Stopped } else { Flow::Flowing };
                let set = self.ses.sets.get_mut(&target).expect("valid by construction");
                // So that both stacks have seen that it was gone.
                if !set.exists && now.minutes_since(set.at) > 60 {
                    let by = if stopped { Who::Person } else { Who::Maker };
                    let acted = stopped.then_some(now);
                    let shown = Shown { flow, tag: Tag::Absent };
                    let acts = [stopped.then_some(flow); STACKS];
                    *set = Set {
                        exists: true,
                        now: shown,
                        by,
                        at: now,
                        old: None,
                        both: None,
                        unknown: Some(now),
                        sick: None,
                        denied: None,
                        taken: None,
                        unsure: [false; STACKS],
                        acted,
                        acts,
                    };
                }
            }
            // The same gap: both read it again after they have stopped it at the same time.
            12 if self.is_quiet(&target).await && !self.was_stopped_by_both(&target) => {
                let error = match self.rng.chance(50) {
                    true => ControlError::Denied("no permission".into()),
                    false => ControlError::Failed("500".into()),
                };
                self.ses.sets.get_mut(&target).expect("valid by construction").sick = Some(error);
            }
            13 => self.ses.sets.get_mut(&target).expect("valid by construction").sick = None,
            // As the runbook describes for a stop that is denied.
            14 => self.deny(&target).await,
            15 if self.ses.sets[&target].now.flow == Flow::Stopped && self.is_quiet(&target).await => {
                self.person(&target, Flow::Flowing).await;
                self.ses.sets.get_mut(&target).expect("valid by construction").now.tag = Tag::Absent;
            }
            // If the breaker is closed, nothing is promised.
            16 if self.is_quiet(&target).await && self.is_open(stack, &target) => {
                let desired_states = self.stores[stack].desired_states().await.expect("valid by construction");
                for desired in desired_states.iter().filter(|desired| desired.target == target) {
                    self.stores[stack].forget(desired).await.expect("valid by construction");
                }
            }
            _ => {}
        }
        Ok(())
    }
}

async fn simulate(seed: u64) -> Result<(), String> {
    let mut fixture = Fixture::new(seed);
    for _ in 0..120 {
        for _ in 0..1 + fixture.rng.below(2) {
            fixture.happen().await?;
        }
        // Alerts that come at once; and others a moment later, within the time in which a write may not be visible.
        for _ in 0..1 + fixture.rng.below(3) {
            fixture.invoke(false).await?;
            fixture.ses.now = Now(fixture.ses.now.0 + 1_000 + fixture.rng.below(90_000) as i64);
        }
        fixture.invoke(true).await?;
        fixture.ses.now = Now(fixture.ses.now.0 + 5 * MINUTE_MILLIS);
    }
    fixture.ses.calm = true;
    for set in fixture.ses.sets.values_mut() {
        (set.sick, set.denied) = (None, None);
    }
    for _ in 0..8 {
        fixture.ses.now = Now(fixture.ses.now.0 + 5 * MINUTE_MILLIS);
        fixture.invoke(true).await?;
    }
    for target in SETS.map(set_of) {
        let set = fixture.ses.sets[&target].clone();
        for stack in 0..STACKS {
            let open = fixture.is_open(stack, &target);
            if set.exists && open && set.now.flow != Flow::Stopped {
                return Err(format!("the breaker of {target} in stack {stack} is open, and mail flows: {set:?}"));
            }
            let desired_states = fixture.stores[stack].desired_states().await.expect("valid by construction");
            for desired in desired_states.iter().filter(|desired| set.exists && desired.target == target) {
                let left =
                    set.now.flow == Flow::Stopped && set.by == Who::Stack(stack) && desired.flow == Flow::Flowing;
                let others = desired.other.is_some() && set.by == Who::Stack(1 - stack);
                if left || !(desired.is_true() && desired.observed == Some(set.now.flow) || others) {
                    return Err(format!("stack {stack} is not done: {desired:?}, {set:?}"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn no_pause_is_lost_and_nothing_of_a_persons_or_of_the_other_stacks_is_undone() {
    let name = "no_pause_is_lost_and_nothing_of_a_persons_or_of_the_other_stacks_is_undone";
    for_each_seed(name, 400, |seed| pollster::block_on(simulate(seed)));
}
