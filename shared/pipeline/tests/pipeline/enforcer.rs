//! Regressions of the enforcer: each of these tests once failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline::control::Flow;
use pipeline::enforce::{EnforceOutcome, Enforced, Invocation, Move, Next, Round, enforce, next_move};
use pipeline::evaluate::apply_input;
use pipeline::memory::MemoryReputation;
use pipeline::notice::{AlertQueue, Notice, Outbox};
use pipeline::ports::{
    Board, Change, Committed, ControlError, DesiredState, DesiredStates, Disposition, Mark, OtherStack, PortError,
    Relative, Reputation, Saved, SendingControl, Sight, SubjectState,
};
use pipeline::stream::{Fold, Sequence, Shard};
use reputation::breaker::Input;
use reputation::detect::{Level, Rule, Verdict};
use reputation::judge::Judgement;
use reputation::time::{Minute, Now};
use reputation::{IspMap, Key, Metric, Policy, Subject, Tally, Timeline};

use super::kit::{NOW, set_of};

fn reconcile(now: Now) -> Round {
    Round { calls: 20, reconcile: Some(now) }
}

fn verdict(bad: u64, population: u64, evidence: f64) -> Verdict {
    Verdict {
        level: Level::Pause,
        metric: Metric::HardBounce,
        rule: Rule::Cusum { limit: 0.05, evidence, threshold: 10.0, repeats: 0 },
        from: Minute(1),
        until: Minute(2),
        tally: Tally { population, bad },
    }
}

fn whole(name: &str) -> Key {
    Key { subject: set_of(name), isp: None }
}

/// One invocation that has 110 s: the rounds of [`Invocation`], each call taking 1.5 s. Returns when it was over.
async fn invoke(
    policy: &Policy,
    store: &mut MemoryReputation,
    ses: &mut impl SendingControl,
    begun: Now,
    done: &mut Vec<Enforced>,
) -> Now {
    let (mut now, end) = (begun, Now(begun.0 + 110_000));
    let mut invocation = Invocation::new(true, now);
    while let Some(round) = invocation.round(((end.0 - now.0) / 1_500) as usize, now) {
        let round = enforce(policy, store, ses, round, || now).await.expect("the store does not fail");
        now = Now(now.0 + 1_500 * round.calls as i64);
        let next = invocation.after(&round, now);
        done.extend(round.enforced);
        let wait = match next {
            Next::Round => continue,
            Next::Busy(wait, _) | Next::Retry(wait) => wait.as_millis() as i64,
            Next::Done => break,
        };
        if now.0 + wait >= end.0 {
            break;
        }
        now = Now(now.0 + wait);
    }
    now
}

/// SES without delays and without marks.
#[derive(Default)]
struct Ses {
    stopped: BTreeSet<Subject>,
    deny_writes: bool,
}

impl SendingControl for Ses {
    async fn flow(&mut self, target: &Subject) -> Result<Sight, ControlError> {
        let flow = if self.stopped.contains(target) { Flow::Stopped } else { Flow::Flowing };
        Ok(Sight { flow, mark: Mark::Absent })
    }

    async fn set_flow(&mut self, target: &Subject, flow: Flow) -> Result<(), ControlError> {
        if self.deny_writes {
            return Err(ControlError::Denied("AccessDeniedException".into()));
        }
        match flow {
            Flow::Stopped => _ = self.stopped.insert(target.clone()),
            Flow::Flowing => _ = self.stopped.remove(target),
        }
        Ok(())
    }

    async fn mark(&mut self, _: &Subject, _: bool) -> Result<(), ControlError> {
        Ok(())
    }
}

/// A store whose n-th reading of the desired states fails.
struct Flaky<'a> {
    store: &'a mut MemoryReputation,
    fails_at: usize,
}

impl Reputation for Flaky<'_> {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        self.store.mark(shard).await
    }
    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.store.commit(fold, now).await
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
    async fn active(&mut self, since: Minute, now: Now) -> Result<Vec<(&Subject, &Timeline)>, PortError> {
        self.store.active(since, now).await
    }
    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError> {
        self.store.save(changes).await
    }
}

impl DesiredStates for Flaky<'_> {
    async fn desired_states(&mut self) -> Result<Vec<DesiredState>, PortError> {
        self.fails_at = self.fails_at.wrapping_sub(1);
        if self.fails_at == 0 {
            let reason = "the process was stopped".to_owned();
            return Err(PortError { operation: "desired_states", reason, disposition: Disposition::Retry });
        }
        self.store.desired_states().await
    }
    async fn note(&mut self, desired: &DesiredState) -> Result<Saved, PortError> {
        self.store.note(desired).await
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

/// SES denies our stop, so an alert asks a person to fix it; the person stops the set by hand. The bug: the outcome of
/// the denied call was known, but its in-flight change stayed, so the person's stop counted as ours, and was resumed when the
/// breaker's time was over.
#[test]
fn a_stop_by_hand_after_ours_was_denied_is_the_persons() {
    let (policy, target) = (Policy::default(), set_of("news"));
    let mut store = MemoryReputation::new(&IspMap::builtin());
    let mut ses = Ses { deny_writes: true, ..Ses::default() };
    let mut now = NOW;
    pollster::block_on(async {
        let bad = Judgement { pause: Some(verdict(20, 50, 12.0)), ..Judgement::default() };
        apply_input(&policy, &mut store, &whole("news"), Input::Judged(&bad), now).await.unwrap();
        let done = enforce(&policy, &mut store, &mut ses, reconcile(now), || now).await.unwrap();
        assert!(matches!(done.enforced[0].outcome, EnforceOutcome::Denied(_)), "{done:?}");
        // A person stops it instead, and restores the permission.
        now = now.plus_minutes(5);
        ses.stopped.insert(target.clone());
        ses.deny_writes = false;
        let mut outcomes = Vec::new();
        for _ in 0..12 {
            now = now.plus_minutes(5);
            // The breaker's 30 minutes pass.
            apply_input(&policy, &mut store, &whole("news"), Input::Judged(&Judgement::default()), now).await.unwrap();
            let done = enforce(&policy, &mut store, &mut ses, reconcile(now), || now).await.unwrap();
            outcomes.extend(done.enforced.into_iter().map(|done| done.outcome));
        }
        assert!(ses.stopped.contains(&target), "resumed what a person had stopped: {outcomes:?}");
    });
}

/// A person resumes; the breaker is informed, and the enforcer stops before it has saved that. A new verdict then
/// pauses the set before the next round. The bug: the old doubt about the old pause counted as a second resume by the
/// person.
#[test]
fn a_pause_decided_after_a_persons_resume_is_made() {
    let (policy, target) = (Policy::default(), set_of("news"));
    let mut store = MemoryReputation::new(&IspMap::builtin());
    let mut ses = Ses::default();
    let mut now = NOW;
    pollster::block_on(async {
        let bad = Judgement { pause: Some(verdict(20, 50, 12.0)), ..Judgement::default() };
        apply_input(&policy, &mut store, &whole("news"), Input::Judged(&bad), now).await.unwrap();
        enforce(&policy, &mut store, &mut ses, reconcile(now), || now).await.unwrap();
        now = now.plus_minutes(5);
        ses.stopped.remove(&target);
        enforce(&policy, &mut store, &mut ses, reconcile(now), || now).await.unwrap();
        now = now.plus_minutes(5);
        // The second reading of SES. The first reading of desired states is the round's, the second one is by `settle`.
        let mut flaky = Flaky { store: &mut store, fails_at: 2 };
        enforce(&policy, &mut flaky, &mut ses, reconcile(now), || now).await.unwrap_err();
        // New harm, from mail that was sent after the person's resume.
        now = now.plus_minutes(1);
        let saved = apply_input(&policy, &mut store, &whole("news"), Input::Judged(&bad), now).await.unwrap();
        assert_eq!(saved.len(), 1, "paused again");
        let mut outcomes = Vec::new();
        for _ in 0..3 {
            let done = enforce(&policy, &mut store, &mut ses, reconcile(now), || now).await.unwrap();
            outcomes.extend(done.enforced.into_iter().map(|done| done.outcome));
            now = now.plus_minutes(5);
        }
        assert!(ses.stopped.contains(&target), "the pause is lost: {outcomes:?}");
    });
}

/// "With a reconcile every five minutes, a person's change at SES is accepted within about ten minutes." The bug: a
/// reconcile checked only 17 of the desired states at rest.
#[test]
fn a_persons_stop_is_accepted_within_twelve_minutes_however_many_desired_states_are_at_rest() {
    let policy = Policy::default();
    for desired_states in [1, 17, 18, 60] {
        let mut store = MemoryReputation::new(&IspMap::builtin());
        let mut ses = Ses::default();
        let mut now = NOW;
        pollster::block_on(async {
            for set in 0..desired_states {
                let desired =
                    DesiredState::new(set_of(&format!("set-{set:03}")), Flow::Flowing, now, 1.0, String::new());
                store.renew(&desired).await.unwrap();
            }
            for _ in 0..3 {
                invoke(&policy, &mut store, &mut ses, now, &mut Vec::new()).await;
                now = now.plus_minutes(5);
            }
            // The target that was read last.
            let known = store.desired_states().await.unwrap();
            let last = known.iter().max_by_key(|desired| desired.checked).unwrap().target.clone();
            let acted = known.iter().filter_map(|desired| desired.checked).max().unwrap();
            ses.stopped.insert(last.clone());
            let accepted = loop {
                let mut done = Vec::new();
                let end = invoke(&policy, &mut store, &mut ses, now, &mut done).await;
                if done.iter().any(|done| done.target == last && done.outcome == EnforceOutcome::PersonStopped) {
                    break end;
                }
                now = now.plus_minutes(5);
                assert!(now.minutes_since(acted) < 300);
            };
            let minutes = accepted.minutes_since(acted);
            assert!(minutes <= 12, "of {desired_states} desired states, accepted after {minutes} minutes");
        });
    }
}

/// A new stop does not wait until all others are checked, and thirty new stops fit into two invocations.
#[test]
fn a_stop_that_is_decided_meanwhile_waits_for_one_short_round() {
    let (policy, now) = (Policy::default(), NOW);
    let mut store = MemoryReputation::new(&IspMap::builtin());
    let mut ses = Ses::default();
    pollster::block_on(async {
        for set in 0..60 {
            let desired = DesiredState::new(set_of(&format!("set-{set:03}")), Flow::Flowing, now, 1.0, String::new());
            store.renew(&desired).await.unwrap();
        }
        let mut invocation = Invocation::new(true, now);
        let round = invocation.round(70, now).unwrap();
        assert_eq!(round.calls, 10);
        let done = enforce(&policy, &mut store, &mut ses, round, || now).await.unwrap();
        assert_eq!(invocation.after(&done, now), Next::Round, "no wait where only the calls of a round have run out");
        let bad = Judgement { pause: Some(verdict(20, 50, 12.0)), ..Judgement::default() };
        apply_input(&policy, &mut store, &whole("new"), Input::Judged(&bad), now).await.unwrap();
        let round = invocation.round(60, now).unwrap();
        let done = enforce(&policy, &mut store, &mut ses, round, || now).await.unwrap();
        assert_eq!(done.enforced[0].outcome, EnforceOutcome::Made(Flow::Stopped));
        assert_eq!(invocation.round(3, now), None, "too little time for one target");
        // Thirty at once.
        for set in 0..30 {
            let name = format!("bad-{set:02}");
            apply_input(&policy, &mut store, &whole(&name), Input::Judged(&bad), now).await.unwrap();
        }
        let end = invoke(&policy, &mut store, &mut ses, now, &mut Vec::new()).await;
        assert!(ses.stopped.len() > 20, "{} stopped", ses.stopped.len());
        invoke(&policy, &mut store, &mut ses, end, &mut Vec::new()).await;
        assert_eq!(ses.stopped.len(), 31);
    });
}

/// A desired state `Flowing` is dropped after a day. A later stop by a person counts as theirs, although our mark was
/// left there.
#[test]
fn a_stop_by_hand_after_the_desired_state_was_dropped_is_the_persons() {
    struct Marked {
        stopped: bool,
        mark: Mark,
    }
    impl SendingControl for Marked {
        async fn flow(&mut self, _: &Subject) -> Result<Sight, ControlError> {
            let flow = if self.stopped { Flow::Stopped } else { Flow::Flowing };
            Ok(Sight { flow, mark: self.mark.clone() })
        }
        async fn set_flow(&mut self, _: &Subject, flow: Flow) -> Result<(), ControlError> {
            self.stopped = flow == Flow::Stopped;
            Ok(())
        }
        async fn mark(&mut self, _: &Subject, stopped: bool) -> Result<(), ControlError> {
            self.mark = if stopped { Mark::Ours } else { Mark::Emptied };
            Ok(())
        }
    }
    let (policy, target) = (Policy::default(), set_of("news"));
    let bad = Judgement { pause: Some(verdict(20, 50, 12.0)), ..Judgement::default() };
    let mut store = MemoryReputation::new(&IspMap::builtin());
    let mut ses = Marked { stopped: false, mark: Mark::Absent };
    let mut now = NOW;
    pollster::block_on(async {
        apply_input(&policy, &mut store, &whole("news"), Input::Judged(&bad), now).await.unwrap();
        invoke(&policy, &mut store, &mut ses, now, &mut Vec::new()).await;
        assert!(ses.stopped);
        // A person resumes it, and our mark stays.
        ses.stopped = false;
        for _ in 0..3 {
            now = now.plus_minutes(5);
            invoke(&policy, &mut store, &mut ses, now, &mut Vec::new()).await;
        }
        assert_eq!((ses.stopped, &ses.mark), (false, &Mark::Ours));
        for _ in 0..290 {
            assert_eq!(store.desired_states().await.unwrap().len(), 1, "within a day");
            now = now.plus_minutes(5);
            invoke(&policy, &mut store, &mut ses, now, &mut Vec::new()).await;
            if store.desired_states().await.unwrap().is_empty() {
                break;
            }
        }
        assert_eq!((store.desired_states().await.unwrap(), &ses.mark), (vec![], &Mark::Emptied));
        assert!(now.minutes_since(NOW) > 24 * 60, "{now}");
        ses.stopped = true;
        apply_input(&policy, &mut store, &whole("news"), Input::Judged(&bad), now).await.unwrap();
        for _ in 0..24 {
            invoke(&policy, &mut store, &mut ses, now, &mut Vec::new()).await;
            now = now.plus_minutes(5);
            apply_input(&policy, &mut store, &whole("news"), Input::Judged(&Judgement::default()), now).await.unwrap();
        }
        assert!(ses.stopped, "{:?}", store.find(&target).unwrap().breaker(None));
    });
}

/// The bug: a new stop of a set with a doubt came after everything else, including failing targets.
#[test]
fn the_worst_stop_comes_first_though_there_was_a_doubt() {
    let policy = Policy::default();
    let mut store = MemoryReputation::new(&IspMap::builtin());
    let mut ses = Ses::default();
    let (mut now, target) = (NOW, set_of("worst"));
    pollster::block_on(async {
        // Its desired state is `Flowing`; a person stops it, which is seen once, and resumes it again.
        store.renew(&DesiredState::new(target.clone(), Flow::Flowing, now, 1.0, String::new())).await.unwrap();
        enforce(&policy, &mut store, &mut ses, reconcile(now), || now).await.unwrap();
        now = now.plus_minutes(5);
        ses.stopped.insert(target.clone());
        enforce(&policy, &mut store, &mut ses, reconcile(now), || now).await.unwrap();
        ses.stopped.remove(&target);
        let bad = |excess: f64| Judgement { pause: Some(verdict(20, 50, 10.0 * excess)), ..Judgement::default() };
        for (name, excess) in [("lesser", 1.1), ("worst", 50.0)] {
            apply_input(&policy, &mut store, &whole(name), Input::Judged(&bad(excess)), now).await.unwrap();
        }
        let round = Round { calls: 20, reconcile: None };
        let done = enforce(&policy, &mut store, &mut ses, round, || now).await.unwrap();
        assert_eq!(done.enforced[0].target, target, "{done:?}");
    });
}

/// Seed 4047 of the enforcer's simulation: we resume a set, another stack stops it again at once, we see its mark and
/// note that the stop is theirs; and the next reading is older than our own resume. The bug: our note (`observed: None,
/// written: None`) looked like a lost desired state, so the old mark made the stop ours, and it was resumed.
#[test]
fn what_another_stack_has_stopped_is_not_resumed_after_an_old_reading() {
    let desired = DesiredState {
        other: Some(OtherStack { stack: "stack-0".into(), since: NOW }),
        fresh: false,
        ..DesiredState::new(set_of("alerts"), Flow::Flowing, NOW, 1.0, String::new())
    };
    let old = Sight { flow: Flow::Stopped, mark: Mark::Ours };
    assert_ne!(next_move(&desired, &old, Now(NOW.0 + 2_000)), Move::Make(Flow::Flowing));
}

/// Seed 13757 of the enforcer's simulation: our stop is made and our mark is still to be written; a reading that is
/// older than our stop shows the mark of the stack that had resumed the set just before. The bug: writing the mark was
/// given up, so that our stop had no mark, and was resumed by the other stack, which did not know the outcome of its
/// own resume.
#[test]
fn a_mark_that_is_still_to_be_written_is_written_whatever_an_old_reading_shows() {
    struct Old(usize);
    impl SendingControl for Old {
        async fn flow(&mut self, _: &Subject) -> Result<Sight, ControlError> {
            Ok(Sight { flow: Flow::Flowing, mark: Mark::Other("stack-0".into()) })
        }
        async fn set_flow(&mut self, _: &Subject, _: Flow) -> Result<(), ControlError> {
            panic!("nothing is to be written");
        }
        async fn mark(&mut self, _: &Subject, stopped: bool) -> Result<(), ControlError> {
            assert!(stopped);
            self.0 += 1;
            Ok(())
        }
    }
    let (mut store, mut old) = (MemoryReputation::new(&IspMap::builtin()), Old(0));
    pollster::block_on(async {
        let new = DesiredState::new(set_of("shop"), Flow::Stopped, NOW, 1.0, String::new());
        store.renew(&new).await.unwrap();
        let (observed, marking) = (Some(Flow::Stopped), Some(Flow::Stopped));
        store.note(&DesiredState { observed, marking, written: Some(NOW), ..new }).await.unwrap();
        let soon = Now(NOW.0 + 2_000);
        enforce(&Policy::default(), &mut store, &mut old, reconcile(soon), || soon).await.unwrap();
        // Written at once: until then the other stack can treat our stop as its own.
        assert_eq!(old.0, 1);
    });
}

/// As the runbook describes for a deleted stack: its tag is removed, and the set resumed by hand. The bug: the
/// remaining stack, which had left the stop to the other one, stopped the set again.
#[test]
fn a_resume_by_hand_after_the_tag_of_a_deleted_stack_was_removed_is_accepted() {
    struct Tagged(Flow, bool);
    impl SendingControl for Tagged {
        async fn flow(&mut self, _: &Subject) -> Result<Sight, ControlError> {
            Ok(Sight { flow: self.0, mark: if self.1 { Mark::Other("deleted".into()) } else { Mark::Absent } })
        }
        async fn set_flow(&mut self, _: &Subject, flow: Flow) -> Result<(), ControlError> {
            self.0 = flow;
            Ok(())
        }
        async fn mark(&mut self, _: &Subject, _: bool) -> Result<(), ControlError> {
            Ok(())
        }
    }
    let (policy, mut now) = (Policy::default(), NOW);
    let mut store = MemoryReputation::new(&IspMap::builtin());
    let mut ses = Tagged(Flow::Stopped, true);
    pollster::block_on(async {
        let bad = Judgement { pause: Some(verdict(20, 50, 12.0)), ..Judgement::default() };
        apply_input(&policy, &mut store, &whole("news"), Input::Judged(&bad), now).await.unwrap();
        enforce(&policy, &mut store, &mut ses, reconcile(now), || now).await.unwrap();
        ses = Tagged(Flow::Flowing, false);
        for _ in 0..3 {
            now = now.plus_minutes(5);
            enforce(&policy, &mut store, &mut ses, reconcile(now), || now).await.unwrap();
        }
        assert_eq!(ses.0, Flow::Flowing, "stopped again, though a person has resumed it");
    });
}
