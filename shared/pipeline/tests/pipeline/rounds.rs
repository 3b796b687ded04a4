//! Judging continues, whatever goes wrong with one subject, one reading or one minute.

use reputation::breaker::StateName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline::evaluate::{Failed, evaluate, tick};
use pipeline::memory::MemoryReputation;
use pipeline::ports::{
    Board, Change, Committed, Disposition, PortError, Relative, Reputation, Saved, Schedule, SubjectState, Sweep,
    SweepProgress,
};
use pipeline::schedule::{self, react};
use pipeline::stream::{Fold, Sequence, Shard};
use reputation::time::{Minute, Now};
use reputation::{Isp, IspMap, Policy, Subject, Timeline};

use super::kit::{Fixture, at, identity_of, set_of};

/// A store in which one subject's breakers can never be saved: DynamoDB refuses `ADD version` on a desired state whose
/// version is not a number (`ValidationError`), and so the whole transaction, each time.
struct Poisoned {
    store: MemoryReputation,
    subject: Subject,
}

impl Reputation for Poisoned {
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
        if changes.iter().any(|change| change.key.subject == self.subject && !change.controls.is_empty()) {
            let reason = "the transaction was cancelled: ValidationError".to_owned();
            return Err(PortError { operation: "saving breakers", reason, disposition: Disposition::Quarantine });
        }
        self.store.save(changes).await
    }
}

impl Schedule for Poisoned {
    async fn heard_since(&mut self, hour: Minute) -> Result<Vec<Subject>, PortError> {
        self.store.heard_since(hour).await
    }
    async fn progress(&mut self, round: Sweep<'_>) -> Result<SweepProgress, PortError> {
        self.store.progress(round).await
    }
    async fn set_progress(&mut self, round: Sweep<'_>, progress: &SweepProgress) -> Result<(), PortError> {
        self.store.set_progress(round, progress).await
    }
}

/// The item of one desired state has a version of another type, so that the set's own breaker cannot be saved: sets
/// after it in the alphabet are still judged, by the batch and by the tick.
#[test]
fn one_subject_that_cannot_be_saved_stops_no_other() {
    let policy = Policy::from_toml("[gate]\nin_use = false\n[incident]\nmin_senders = 1000\n").unwrap();
    let mut fixture = Fixture::new(policy.clone());
    for name in ["club", "news"] {
        fixture.mail((name, &format!("{name}.example")), "gmail", at(0).minute(), 60, 30, at(1));
    }
    let gmail: Isp = fixture.isp("gmail");
    let mut store = Poisoned { store: fixture.store, subject: set_of("club") };
    let subjects = ["club", "news"].map(set_of).into_iter().chain(["club.example", "news.example"].map(identity_of));
    let harmed: BTreeMap<Subject, BTreeSet<Isp>> = subjects.map(|subject| (subject, BTreeSet::from([gmail]))).collect();
    let shard = Shard::new("all");
    let mut errors = Vec::new();
    for minute in 1..70 {
        pollster::block_on(async {
            let batch = (&shard, Sequence::from(1), minute == 1);
            let reacted = react(&policy, &mut store, batch, harmed.clone(), at(minute), || true).await;
            errors.extend(reacted.err().map(|error| error.to_string()));
            let ticked = schedule::minute(&policy, &mut store, at(minute), || true).await;
            errors.extend(ticked.err().map(|error| error.to_string()));
        });
    }
    let news = store.store.find(&set_of("news")).unwrap().breaker(None).breaker;
    // It was stopped, and is probing by now.
    assert_eq!((news.state.name(), news.trips), (StateName::Probing, 1), "{errors:?}");
}

/// The same for a due breaker. The bug: one that could not be saved kept all others from their probes.
#[test]
fn one_subject_that_cannot_be_saved_keeps_no_other_from_its_probe() {
    let policy = Policy::from_toml("[gate]\nin_use = false\n[incident]\nmin_senders = 1000\n").unwrap();
    let mut fixture = Fixture::new(policy.clone());
    let isps = BTreeSet::from([fixture.isp("gmail")]);
    for name in ["club", "news"] {
        fixture.mail((name, &format!("{name}.example")), "gmail", at(0).minute(), 60, 30, at(1));
        pollster::block_on(evaluate(&policy, &mut fixture.store, &set_of(name), &isps, at(1))).unwrap();
    }
    let mut store = Poisoned { store: fixture.store, subject: set_of("club") };
    let mut errors = 0;
    for minute in 2..240 {
        errors += usize::from(pollster::block_on(tick(&policy, &mut store, at(minute))).is_err());
    }
    let news = store.store.find(&set_of("news")).unwrap().breaker(None).breaker;
    assert_ne!(
        news.state.name(),
        StateName::Open,
        "stopped for four hours instead of 30 minutes: {errors} ticks failed"
    );
}

/// Many senders are bad at several ISPs at once (for example because their IP address was listed). The bug: with no
/// time left, the tick still read every sender once for each ISP before it checked the time.
#[test]
fn a_tick_without_time_reads_little() {
    let policy = Policy::from_toml("[gate]\nin_use = false\n[breaker]\nmax_pauses_per_hour = 1\n").unwrap();
    let mut fixture = Fixture::new(policy.clone());
    let isps = ["gmail", "yahoo", "microsoft", "apple"];
    for index in 0..50 {
        let (name, domain) = (format!("set-{index}"), format!("set-{index}.example"));
        for isp in isps {
            fixture.mail((&name, &domain), isp, at(0).minute(), 20, 10, at(1));
        }
    }
    fixture.evaluate(at(1));
    let mut store = Counting { store: fixture.store, subject_states: 0 };
    pollster::block_on(pipeline::evaluate::tick_while(
        &policy,
        &mut store,
        at(2),
        &mut || false,
        &mut Failed::default(),
    ))
    .unwrap();
    assert!(
        store.subject_states <= 10,
        "{} subject states of 50 senders, read with no time left",
        store.subject_states
    );
}

struct Counting {
    store: MemoryReputation,
    subject_states: usize,
}

impl Reputation for Counting {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        self.store.mark(shard).await
    }
    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.store.commit(fold, now).await
    }
    async fn subject_state(&mut self, subject: &Subject, now: Now) -> Result<&mut SubjectState, PortError> {
        self.subject_states += 1;
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

/// The tick of the tenth minute fails or comes a minute late. The bug: subjects that are not closed were not judged for
/// twenty minutes.
#[test]
fn a_rejudge_whose_minute_is_missed_is_made_up_for() {
    let policy = Policy::from_toml("[gate]\nin_use = false\n").unwrap();
    let mut store = Poisoned { store: MemoryReputation::new(&IspMap::builtin()), subject: set_of("nobody") };
    let ten = |store: &mut Poisoned| pollster::block_on(store.progress(Sweep::Rejudge)).map(|progress| progress.number);
    for minute in [0, 1, 9, 11, 12, 13, 19] {
        pollster::block_on(schedule::minute(&policy, &mut store, at(minute), || true)).unwrap();
    }
    let expected = Sequence::from(u64::from(at(10).minute().0));
    assert_eq!(ten(&mut store), Ok(expected), "the last one began at {}", at(0).minute().0);
}

/// A copy of the breaker as it is in DynamoDB: it reads the board when its invocation begins, and then updates it from
/// its own saves (`Look::Once`), for up to 110 s. Every 40th reading of a subject state may be throttled.
struct OneCopy<'a> {
    store: &'a mut MemoryReputation,
    board: Board,
    throttled_every: usize,
    reads: usize,
}

impl Reputation for OneCopy<'_> {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        self.store.mark(shard).await
    }
    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.store.commit(fold, now).await
    }
    async fn subject_state(&mut self, subject: &Subject, now: Now) -> Result<&mut SubjectState, PortError> {
        self.reads += 1;
        if self.throttled_every > 0 && self.reads.is_multiple_of(self.throttled_every) {
            let reason = "ThrottlingException".to_owned();
            return Err(PortError { operation: "querying", reason, disposition: Disposition::Retry });
        }
        self.store.subject_state(subject, now).await
    }
    async fn relatives(&mut self, subjects: &BTreeSet<Subject>) -> Result<BTreeMap<Subject, Relative>, PortError> {
        self.store.relatives(subjects).await
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

impl Schedule for OneCopy<'_> {
    async fn heard_since(&mut self, hour: Minute) -> Result<Vec<Subject>, PortError> {
        self.store.heard_since(hour).await
    }
    async fn progress(&mut self, round: Sweep<'_>) -> Result<SweepProgress, PortError> {
        self.store.progress(round).await
    }
    async fn set_progress(&mut self, round: Sweep<'_>, progress: &SweepProgress) -> Result<(), PortError> {
        self.store.set_progress(round, progress).await
    }
}

/// One reading in forty is throttled. The bug: progress was saved after every fifty subjects, and not at the point of
/// the stop, so each invocation began with the first subject again, and those after the fortieth were never judged.
#[test]
fn throttled_readings_do_not_keep_a_batch_from_its_end() {
    let policy = Policy::from_toml("[gate]\nin_use = false\n[incident]\nmin_senders = 1000\n").unwrap();
    let mut fixture = Fixture::new(policy.clone());
    let gmail = fixture.isp("gmail");
    let names: Vec<String> = (0..100).map(|index| format!("set-{index:03}")).collect();
    for name in &names {
        fixture.mail((name, &format!("{name}.example")), "gmail", at(0).minute(), 10, 1, at(1));
    }
    let harmed: BTreeMap<Subject, BTreeSet<Isp>> =
        names.iter().map(|name| (set_of(name), BTreeSet::from([gmail]))).collect();
    let (store, board, shard) = (&mut fixture.store, Board::default(), Shard::new("all"));
    let mut copy = OneCopy { store, board, throttled_every: 40, reads: 0 };
    let done = (0..1_000).any(|invocation| {
        let batch = (&shard, Sequence::from(1), invocation == 0);
        pollster::block_on(react(&policy, &mut copy, batch, harmed.clone(), at(1), || true)).is_ok()
    });
    assert!(done, "not at its end after 1,000 invocations and {} readings of 100 subjects", copy.reads);
}
