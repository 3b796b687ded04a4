//! Attempts to break what the enforcer, the budget of pauses and the rounds promise. Each test fails as of ebc943a:
//! `cargo test -p pipeline --test promises attack -- --ignored`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline::enforce::{
    ControlError, EnforceOutcome, Flow, Mark, Round, SendingControl, Sight, Wished, Wishes, enforce,
};
use pipeline::evaluate::{Failed, evaluate, tell, tick};
use pipeline::fold::{Fold, Sequence, Shard};
use pipeline::memory::MemoryReputation;
use pipeline::notice::{Desk, Notice, Outbox};
use pipeline::ports::{Board, Change, Committed, Disposition, Dossier, PortError, Reputation, Saved};
use pipeline::rounds::{self, Progress, Rounds, react};
use reputation::breaker::Input;
use reputation::detect::{Level, Rule, Verdict};
use reputation::judge::Judgement;
use reputation::time::{Minute, Now};
use reputation::{Isp, IspMap, Key, Metric, Policy, Subject, Tally, Timeline};

use super::world::{NOW, World, at, identity_of, set_of};

const RECONCILE: Round = Round { calls: 20, reconcile: true };

fn verdict(bad: u64, population: u64, evidence: f64) -> Verdict {
    Verdict {
        level: Level::Pause,
        metric: Metric::HardBounce,
        rule: Rule::Cusum { limit: 0.05, evidence, threshold: 10.0 },
        from: Minute(1),
        until: Minute(2),
        tally: Tally { population, bad },
    }
}

fn whole(name: &str) -> Key {
    Key { subject: set_of(name), isp: None }
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

/// SES denies our stop, so the alert says that a person has to look; the person stops the set by hand. The denied call was
/// seen to end, but its intent stays, so the person's stop is taken for ours, and resumed when the breaker's time is over.
#[test]
#[ignore = "an attack that succeeds as of ebc943a"]
fn a_stop_by_hand_after_ours_was_denied_is_the_persons() {
    let (policy, target) = (Policy::default(), set_of("news"));
    let mut store = MemoryReputation::new(&IspMap::builtin());
    let mut ses = Ses { deny_writes: true, ..Ses::default() };
    let mut now = NOW;
    pollster::block_on(async {
        let bad = Judgement { pause: Some(verdict(20, 50, 12.0)), ..Judgement::default() };
        tell(&policy, &mut store, &whole("news"), Input::Judged(&bad), now).await.unwrap();
        let done = enforce(&policy, &mut store, &mut ses, RECONCILE, || now).await.unwrap();
        assert!(matches!(done[0].outcome, EnforceOutcome::Denied(_)), "{done:?}");
        // A person does it instead, and mends the permission.
        now = now.plus_minutes(5);
        ses.stopped.insert(target.clone());
        ses.deny_writes = false;
        let mut outcomes = Vec::new();
        for _ in 0..12 {
            now = now.plus_minutes(5);
            // The breaker's 30 minutes pass.
            tell(&policy, &mut store, &whole("news"), Input::Judged(&Judgement::default()), now).await.unwrap();
            let done = enforce(&policy, &mut store, &mut ses, RECONCILE, || now).await.unwrap();
            outcomes.extend(done.into_iter().map(|done| done.outcome));
        }
        assert!(ses.stopped.contains(&target), "resumed what a person had stopped: {outcomes:?}");
    });
}

/// A store whose n-th reading of the wishes fails.
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
    async fn dossier(&mut self, subject: &Subject, now: Now) -> Result<&mut Dossier, PortError> {
        self.store.dossier(subject, now).await
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

impl Wishes for Flaky<'_> {
    async fn wishes(&mut self) -> Result<Vec<Wished>, PortError> {
        self.fails_at = self.fails_at.wrapping_sub(1);
        if self.fails_at == 0 {
            let reason = "the process was stopped".to_owned();
            return Err(PortError { operation: "wishes", reason, disposition: Disposition::Retry });
        }
        self.store.wishes().await
    }
    async fn note(&mut self, wished: &Wished) -> Result<Saved, PortError> {
        self.store.note(wished).await
    }
    async fn renew(&mut self, wished: &Wished) -> Result<Saved, PortError> {
        self.store.renew(wished).await
    }
    async fn forget(&mut self, wished: &Wished) -> Result<Saved, PortError> {
        self.store.forget(wished).await
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
    async fn desk(&mut self) -> Result<Desk, PortError> {
        self.store.desk().await
    }
    async fn keep(&mut self, desk: &Desk) -> Result<Saved, PortError> {
        self.store.keep(desk).await
    }
}

/// A person resumes; the breaker is told, and the enforcer stops before it has noted that. A new verdict then pauses the set
/// before the next round: the old doubt about the old pause is taken for a second resume by the person.
#[test]
#[ignore = "an attack that succeeds as of ebc943a"]
fn a_pause_decided_after_a_persons_resume_is_made() {
    let (policy, target) = (Policy::default(), set_of("news"));
    let mut store = MemoryReputation::new(&IspMap::builtin());
    let mut ses = Ses::default();
    let mut now = NOW;
    pollster::block_on(async {
        let bad = Judgement { pause: Some(verdict(20, 50, 12.0)), ..Judgement::default() };
        tell(&policy, &mut store, &whole("news"), Input::Judged(&bad), now).await.unwrap();
        enforce(&policy, &mut store, &mut ses, RECONCILE, || now).await.unwrap();
        now = now.plus_minutes(5);
        ses.stopped.remove(&target);
        enforce(&policy, &mut store, &mut ses, RECONCILE, || now).await.unwrap();
        now = now.plus_minutes(5);
        // The second look: the first reading of wishes is the round's, the second one that of `settle`.
        let mut flaky = Flaky { store: &mut store, fails_at: 2 };
        enforce(&policy, &mut flaky, &mut ses, RECONCILE, || now).await.unwrap_err();
        // New harm, of mail that was sent after the person's resume.
        now = now.plus_minutes(1);
        let saved = tell(&policy, &mut store, &whole("news"), Input::Judged(&bad), now).await.unwrap();
        assert_eq!(saved.len(), 1, "paused again");
        let mut outcomes = Vec::new();
        for _ in 0..3 {
            let done = enforce(&policy, &mut store, &mut ses, RECONCILE, || now).await.unwrap();
            outcomes.extend(done.into_iter().map(|done| done.outcome));
            now = now.plus_minutes(5);
        }
        assert!(ses.stopped.contains(&target), "the pause is lost: {outcomes:?}");
    });
}

/// "With a reconcile every five minutes, what a person does at SES is accepted within about ten": of wishes that are at rest
/// a reconcile looks at 17, and a wish that was ever made stays for ever.
#[test]
#[ignore = "an attack that succeeds as of ebc943a"]
fn a_persons_stop_is_accepted_within_twelve_minutes_however_many_wishes_are_at_rest() {
    let policy = Policy::default();
    let mut store = MemoryReputation::new(&IspMap::builtin());
    let mut ses = Ses::default();
    let mut now = NOW;
    pollster::block_on(async {
        for set in 0..100 {
            let wish = Wished::new(set_of(&format!("set-{set:03}")), Flow::Flowing, now, 1.0, String::new());
            store.renew(&wish).await.unwrap();
        }
        for _ in 0..12 {
            enforce(&policy, &mut store, &mut ses, RECONCILE, || now).await.unwrap();
            now = now.plus_minutes(5);
        }
        // The one that was looked at last.
        let wishes = store.wishes().await.unwrap();
        let last = wishes.iter().max_by_key(|wished| wished.checked).unwrap().target.clone();
        ses.stopped.insert(last.clone());
        let acted = now;
        let accepted = 'accepted: loop {
            for done in enforce(&policy, &mut store, &mut ses, RECONCILE, || now).await.unwrap() {
                if done.target == last && done.outcome == EnforceOutcome::PersonStopped {
                    break 'accepted now;
                }
            }
            now = now.plus_minutes(5);
            assert!(now.minutes_since(acted) < 300);
        };
        assert!(accepted.minutes_since(acted) <= 12, "accepted after {} minutes", accepted.minutes_since(acted));
    });
}

/// A store in which one subject's breakers can never be saved: DynamoDB refuses `ADD version` on a wish whose version is no
/// number (`ValidationError`), and so the whole transaction, each time.
struct Poisoned {
    store: MemoryReputation,
    subject: Subject,
    progress: BTreeMap<String, Progress>,
}

impl Reputation for Poisoned {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        self.store.mark(shard).await
    }
    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.store.commit(fold, now).await
    }
    async fn dossier(&mut self, subject: &Subject, now: Now) -> Result<&mut Dossier, PortError> {
        self.store.dossier(subject, now).await
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
        if changes.iter().any(|change| change.key.subject == self.subject && !change.controls.is_empty()) {
            let reason = "the transaction was cancelled: ValidationError".to_owned();
            return Err(PortError { operation: "saving breakers", reason, disposition: Disposition::Quarantine });
        }
        self.store.save(changes).await
    }
}

impl Rounds for Poisoned {
    async fn heard_since(&mut self, _: Minute) -> Result<Vec<Subject>, PortError> {
        Ok(self.store.dossiers().map(|(subject, _)| subject.clone()).collect())
    }
    async fn progress(&mut self, round: rounds::Round<'_>) -> Result<Progress, PortError> {
        Ok(self.progress.get(&format!("{round:?}")).cloned().unwrap_or_default())
    }
    async fn set_progress(&mut self, round: rounds::Round<'_>, progress: &Progress) -> Result<(), PortError> {
        self.progress.insert(format!("{round:?}"), progress.clone());
        Ok(())
    }
}

/// The item of one wish has a version of another type: the set's own breaker cannot be saved, and nobody after it in the
/// alphabet is ever judged, by the batch (which Lambda gives again for ever, so that its shard stands still) or the tick.
#[test]
fn one_subject_that_cannot_be_saved_stops_no_other() {
    let policy = Policy::from_toml("[gate]\nin_use = false\n[incident]\nmin_senders = 1000\n").unwrap();
    let mut world = World::new(policy.clone());
    for name in ["club", "news"] {
        world.mail((name, &format!("{name}.example")), "gmail", at(0).minute(), 60, 30, at(1));
    }
    let gmail: Isp = world.isp("gmail");
    let mut store = Poisoned { store: world.store, subject: set_of("club"), progress: BTreeMap::new() };
    let subjects = ["club", "news"].map(set_of).into_iter().chain(["club.example", "news.example"].map(identity_of));
    let harmed: BTreeMap<Subject, BTreeSet<Isp>> = subjects.map(|subject| (subject, BTreeSet::from([gmail]))).collect();
    let shard = Shard::new("all");
    let mut errors = Vec::new();
    for minute in 1..70 {
        pollster::block_on(async {
            let batch = (&shard, Sequence::from(1), minute == 1);
            let reacted = react(&policy, &mut store, batch, harmed.clone(), at(minute), || true).await;
            errors.extend(reacted.err().map(|error| error.to_string()));
            let ticked = rounds::minute(&policy, &mut store, at(minute), || true).await;
            errors.extend(ticked.err().map(|error| error.to_string()));
        });
    }
    let news = store.store.find(&set_of("news")).unwrap().breaker(None).breaker;
    // It was stopped, and probes by now.
    assert_eq!((news.state.name(), news.trips), ("probing", 1), "{errors:?}");
}

/// The same for a breaker that is due: one that cannot be saved keeps all others from their probes.
#[test]
fn one_subject_that_cannot_be_saved_keeps_no_other_from_its_probe() {
    let policy = Policy::from_toml("[gate]\nin_use = false\n[incident]\nmin_senders = 1000\n").unwrap();
    let mut world = World::new(policy.clone());
    let isps = BTreeSet::from([world.isp("gmail")]);
    for name in ["club", "news"] {
        world.mail((name, &format!("{name}.example")), "gmail", at(0).minute(), 60, 30, at(1));
        pollster::block_on(evaluate(&policy, &mut world.store, &set_of(name), &isps, at(1))).unwrap();
    }
    let mut store = Poisoned { store: world.store, subject: set_of("club"), progress: BTreeMap::new() };
    let mut errors = 0;
    for minute in 2..240 {
        errors += usize::from(pollster::block_on(tick(&policy, &mut store, at(minute))).is_err());
    }
    let news = store.store.find(&set_of("news")).unwrap().breaker(None).breaker;
    assert_ne!(news.state.name(), "open", "stopped for four hours instead of 30 minutes: {errors} ticks failed");
}

/// Many senders are bad at several ISPs at once (their IP address was listed, say). There is no time left, and still the tick
/// reads every one of them once for each ISP, one after the other, before it asks.
#[test]
fn a_tick_without_time_reads_little() {
    let policy = Policy::from_toml("[gate]\nin_use = false\n[breaker]\nmax_pauses_per_hour = 1\n").unwrap();
    let mut world = World::new(policy.clone());
    let isps = ["gmail", "yahoo", "microsoft", "apple"];
    for index in 0..50 {
        let (name, domain) = (format!("set-{index}"), format!("set-{index}.example"));
        for isp in isps {
            world.mail((&name, &domain), isp, at(0).minute(), 20, 10, at(1));
        }
    }
    world.evaluate(at(1));
    let mut store = Counting { store: world.store, dossiers: 0 };
    pollster::block_on(pipeline::evaluate::tick_while(
        &policy,
        &mut store,
        at(2),
        &mut || false,
        &mut Failed::default(),
    ))
    .unwrap();
    assert!(store.dossiers <= 10, "{} dossiers of 50 senders, read with no time left", store.dossiers);
}

struct Counting {
    store: MemoryReputation,
    dossiers: usize,
}

impl Reputation for Counting {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        self.store.mark(shard).await
    }
    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.store.commit(fold, now).await
    }
    async fn dossier(&mut self, subject: &Subject, now: Now) -> Result<&mut Dossier, PortError> {
        self.dossiers += 1;
        self.store.dossier(subject, now).await
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

/// The tick of the tenth minute fails or comes a minute late: those that are not closed are not judged for twenty minutes.
#[test]
fn a_rejudge_whose_minute_is_missed_is_made_up_for() {
    let policy = Policy::from_toml("[gate]\nin_use = false\n").unwrap();
    let mut store = Poisoned {
        store: MemoryReputation::new(&IspMap::builtin()),
        subject: set_of("nobody"),
        progress: BTreeMap::new(),
    };
    let ten = |store: &Poisoned| store.progress.get("Rejudge").map(|progress| progress.number);
    for minute in [0, 1, 9, 11, 12, 13, 19] {
        pollster::block_on(rounds::minute(&policy, &mut store, at(minute), || true)).unwrap();
    }
    let expected = Sequence::from(u64::from(at(10).minute().0));
    assert_eq!(ten(&store), Some(expected), "the last one began at {}", at(0).minute().0);
}

/// A new stop of a set about which there is a doubt comes after everything else, failing targets included.
#[test]
#[ignore = "an attack that succeeds as of ebc943a"]
fn the_worst_stop_comes_first_though_there_was_a_doubt() {
    let policy = Policy::default();
    let mut store = MemoryReputation::new(&IspMap::builtin());
    let mut ses = Ses::default();
    let (mut now, target) = (NOW, set_of("worst"));
    pollster::block_on(async {
        // Flows by a wish of ours; a person stops it, which is seen once, and resumes it again.
        store.renew(&Wished::new(target.clone(), Flow::Flowing, now, 1.0, String::new())).await.unwrap();
        enforce(&policy, &mut store, &mut ses, RECONCILE, || now).await.unwrap();
        now = now.plus_minutes(5);
        ses.stopped.insert(target.clone());
        enforce(&policy, &mut store, &mut ses, RECONCILE, || now).await.unwrap();
        ses.stopped.remove(&target);
        let bad = |excess: f64| Judgement { pause: Some(verdict(20, 50, 10.0 * excess)), ..Judgement::default() };
        for (name, excess) in [("lesser", 1.1), ("worst", 50.0)] {
            tell(&policy, &mut store, &whole(name), Input::Judged(&bad(excess)), now).await.unwrap();
        }
        let round = Round { calls: 20, reconcile: false };
        let done = enforce(&policy, &mut store, &mut ses, round, || now).await.unwrap();
        assert_eq!(done[0].target, target, "{done:?}");
    });
}

/// Seed 4047 of the enforcer's simulation: we resume a set, another stack stops it again at once, we see its mark and note that
/// the stop is theirs; and the next look is older than our own resume. What we noted (`made: None, written: None`) reads like a
/// lost wish, so the old mark makes the stop ours, and it is resumed.
#[test]
#[ignore = "an attack that succeeds as of ebc943a"]
fn what_another_stack_has_stopped_is_not_resumed_upon_an_old_look() {
    use pipeline::enforce::{Move, OtherStack, next_move};
    let wished = Wished {
        other: Some(OtherStack { stack: "stack-0".into(), since: NOW }),
        fresh: false,
        ..Wished::new(set_of("alerts"), Flow::Flowing, NOW, 1.0, String::new())
    };
    let old = Sight { flow: Flow::Stopped, mark: Mark::Ours };
    assert_ne!(next_move(&wished, &old, Now(NOW.0 + 2_000)), Move::Make(Flow::Flowing));
}

/// Seed 13757 of the enforcer's simulation: our stop is made and our mark is still to be written; one look that is older than
/// our stop shows the mark of the stack that had resumed the set just before. The mark is given up, so that our stop stands
/// unmarked, and is resumed by the other stack, which has not seen its own resume end.
#[test]
#[ignore = "an attack that succeeds as of ebc943a"]
fn a_mark_that_is_still_to_be_written_is_not_given_up_upon_an_old_look() {
    struct Old;
    impl SendingControl for Old {
        async fn flow(&mut self, _: &Subject) -> Result<Sight, ControlError> {
            Ok(Sight { flow: Flow::Flowing, mark: Mark::Other("stack-0".into()) })
        }
        async fn set_flow(&mut self, _: &Subject, _: Flow) -> Result<(), ControlError> {
            panic!("nothing is to be written");
        }
        async fn mark(&mut self, _: &Subject, _: bool) -> Result<(), ControlError> {
            Ok(())
        }
    }
    let mut store = MemoryReputation::new(&IspMap::builtin());
    pollster::block_on(async {
        let new = Wished::new(set_of("shop"), Flow::Stopped, NOW, 1.0, String::new());
        store.renew(&new).await.unwrap();
        let (made, marking) = (Some(Flow::Stopped), Some(Flow::Stopped));
        store.note(&Wished { made, marking, written: Some(NOW), ..new }).await.unwrap();
        let soon = Now(NOW.0 + 2_000);
        enforce(&Policy::default(), &mut store, &mut Old, RECONCILE, || soon).await.unwrap();
        assert_eq!(store.wishes().await.unwrap()[0].marking, marking);
    });
}

/// As the runbook says of a stack that does not exist any more: its tag is removed, and the set resumed by hand. The remaining
/// stack, which had left the stop to the other one, stops the set again.
#[test]
#[ignore = "an attack that succeeds as of ebc943a"]
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
        tell(&policy, &mut store, &whole("news"), Input::Judged(&bad), now).await.unwrap();
        enforce(&policy, &mut store, &mut ses, RECONCILE, || now).await.unwrap();
        ses = Tagged(Flow::Flowing, false);
        for _ in 0..3 {
            now = now.plus_minutes(5);
            enforce(&policy, &mut store, &mut ses, RECONCILE, || now).await.unwrap();
        }
        assert_eq!(ses.0, Flow::Flowing, "stopped again, though a person has resumed it");
    });
}

/// A copy of the breaker as it is in DynamoDB: it reads the board when its invocation begins, and then knows it by its own
/// saves (`Look::Once`), for up to 110 s. Every 40th reading of a dossier may be throttled.
struct OneCopy<'a> {
    store: &'a mut MemoryReputation,
    board: Board,
    throttled_every: usize,
    reads: usize,
    progress: BTreeMap<String, Progress>,
}

impl Reputation for OneCopy<'_> {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        self.store.mark(shard).await
    }
    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.store.commit(fold, now).await
    }
    async fn dossier(&mut self, subject: &Subject, now: Now) -> Result<&mut Dossier, PortError> {
        self.reads += 1;
        if self.throttled_every > 0 && self.reads.is_multiple_of(self.throttled_every) {
            let reason = "ThrottlingException".to_owned();
            return Err(PortError { operation: "querying", reason, disposition: Disposition::Retry });
        }
        self.store.dossier(subject, now).await
    }
    async fn board(&mut self, _: Now) -> Result<Arc<Board>, PortError> {
        Ok(Arc::new(self.board.clone()))
    }
    async fn account(&mut self, now: Now) -> Result<Vec<&Timeline>, PortError> {
        self.store.account(now).await
    }
    async fn active(&mut self, since: Minute, now: Now) -> Result<Vec<(&Subject, &Timeline)>, PortError> {
        self.store.active(since, now).await
    }
    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError> {
        let saved = self.store.save(changes).await?;
        if saved == Saved::Saved {
            changes.iter().for_each(|change| self.board.apply(change));
        }
        Ok(saved)
    }
}

impl Rounds for OneCopy<'_> {
    async fn heard_since(&mut self, _: Minute) -> Result<Vec<Subject>, PortError> {
        Ok(self.store.dossiers().map(|(subject, _)| subject.clone()).collect())
    }
    async fn progress(&mut self, round: rounds::Round<'_>) -> Result<Progress, PortError> {
        Ok(self.progress.get(&format!("{round:?}")).cloned().unwrap_or_default())
    }
    async fn set_progress(&mut self, round: rounds::Round<'_>, progress: &Progress) -> Result<(), PortError> {
        self.progress.insert(format!("{round:?}"), progress.clone());
        Ok(())
    }
}

/// One reading in forty is throttled. Progress is saved after each fifty subjects, and not where it stopped: so each invocation
/// begins with the first subject again, and those after the fortieth are never judged.
#[test]
fn throttled_readings_do_not_keep_a_batch_from_its_end() {
    let policy = Policy::from_toml("[gate]\nin_use = false\n[incident]\nmin_senders = 1000\n").unwrap();
    let mut world = World::new(policy.clone());
    let gmail = world.isp("gmail");
    let names: Vec<String> = (0..100).map(|index| format!("set-{index:03}")).collect();
    for name in &names {
        world.mail((name, &format!("{name}.example")), "gmail", at(0).minute(), 10, 1, at(1));
    }
    let harmed: BTreeMap<Subject, BTreeSet<Isp>> =
        names.iter().map(|name| (set_of(name), BTreeSet::from([gmail]))).collect();
    let (store, board, shard) = (&mut world.store, Board::default(), Shard::new("all"));
    let mut copy = OneCopy { store, board, throttled_every: 40, reads: 0, progress: BTreeMap::new() };
    let done = (0..1_000).any(|invocation| {
        let batch = (&shard, Sequence::from(1), invocation == 0);
        pollster::block_on(react(&policy, &mut copy, batch, harmed.clone(), at(1), || true)).is_ok()
    });
    assert!(done, "not at its end after 1,000 invocations and {} readings of 100 subjects", copy.reads);
}
