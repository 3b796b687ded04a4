//! Schedule: work that goes through many subjects, because time passes or because a batch of new units came in.
//!
//! Harm is judged when it comes in. Any other mail can raise an alarm only by lifting a rate over a floor, so that it is
//! enough to look at everybody once an hour; but it can end a probe, so that subjects with a breaker that is not closed are
//! looked at every ten minutes. A replay keeps to the same times.
//!
//! Subjects are judged in their order. What does not fit into one invocation goes on in the next one, where this one stopped.

use std::collections::{BTreeMap, BTreeSet};

use reputation::isp::Isp;
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::{HOUR, Minute, Now};

use crate::evaluate::{Failed, evaluate, evaluate_account, tick_while};
use crate::fold::{Sequence, Shard};
use crate::ports::{Change, Disposition, PortError, Reputation};

/// How often subjects with a breaker that is not closed are judged by all their mail.
pub const REJUDGE_MINUTES: u32 = 10;

/// How often progress is saved, in subjects: a process that is stopped repeats no more than these.
const SAVE_EVERY: usize = 50;

/// Work that goes through subjects in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep<'a> {
    /// Everybody who was heard of, each hour.
    Hour,
    /// Those with a breaker that is not closed, every [`REJUDGE_MINUTES`].
    Rejudge,
    /// Whom a batch of this shard may have harmed.
    Batch(&'a Shard),
}

/// How far a round has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepProgress {
    /// Which round: the first minute of its hour or its ten minutes, or the last sequence number of its batch.
    pub number: Sequence,
    /// The last subject that was judged; `None`: all were.
    pub after: Option<Subject>,
}

/// Remembers who was heard of, and how far rounds have come.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Schedule {
    /// The subjects that were heard of in this hour or later, in order.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn heard_since(&mut self, hour: Minute) -> Result<Vec<Subject>, PortError>;

    /// How far the last round of its kind has come.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn progress(&mut self, round: Sweep<'_>) -> Result<SweepProgress, PortError>;

    /// Saves how far it has come.
    ///
    /// # Errors
    ///
    /// It was saved or not: some subjects may be judged again, which is no harm.
    async fn set_progress(&mut self, round: Sweep<'_>, progress: &SweepProgress) -> Result<(), PortError>;
}

/// Whom to judge, and at which ISPs; `None`: at all that it has mail at.
type Work = BTreeMap<Subject, Option<BTreeSet<Isp>>>;

/// So often those that could not be judged are tried again before a round ends.
const AGAIN: usize = 2;

/// Judges subjects in their order, after the one that `from` names. Returns whether all are judged: if `in_time` says that
/// there is no time for more, it saves how far it came. Those that cannot be judged are tried again after the others; those
/// that still cannot are in `failed`.
///
/// # Errors
///
/// What concerns all; how far it came is saved.
async fn judge<S: Reputation + Schedule>(
    policy: &Policy,
    store: &mut S,
    (round, from): (Sweep<'_>, &SweepProgress),
    work: &Work,
    now: Now,
    in_time: &mut impl FnMut() -> bool,
    (saved, failed): (&mut Vec<Change>, &mut Failed),
) -> Result<bool, PortError> {
    let skipped = |subject: &Subject| from.after.as_ref().is_some_and(|after| subject <= after);
    let mut left: Vec<_> = work.iter().filter(|(subject, _)| !skipped(subject)).collect();
    // Up to this one all are judged, or cannot be for good.
    let mut after = from.after.clone();
    for time in 0..=AGAIN {
        let mut again = Vec::new();
        for (index, (subject, isps)) in left.into_iter().enumerate() {
            let in_time = in_time();
            if !in_time || (index > 0 && index.is_multiple_of(SAVE_EVERY)) {
                store.set_progress(round, &SweepProgress { number: from.number, after: after.clone() }).await?;
            }
            if !in_time {
                return Ok(false);
            }
            let judged = match isps {
                Some(isps) => evaluate(policy, store, subject, isps, now).await,
                None => evaluate_everywhere(policy, store, subject, now).await,
            };
            let may_go = matches!(&judged, Err(error) if error.disposition == Disposition::Retry);
            match failed.unless(subject, judged) {
                Ok(changes) => saved.extend(changes.unwrap_or_default()),
                Err(error) => {
                    store.set_progress(round, &SweepProgress { number: from.number, after: after.clone() }).await?;
                    return Err(error);
                }
            }
            if may_go {
                if time < AGAIN {
                    failed.subjects.pop();
                }
                again.push((subject, isps));
            } else if again.is_empty() && time == 0 {
                after = Some(subject.clone());
            }
        }
        left = again;
        if left.is_empty() {
            break;
        }
    }
    // So that what is given again begins with those.
    if !left.is_empty() {
        store.set_progress(round, &SweepProgress { number: from.number, after }).await?;
    }
    Ok(true)
}

/// Lets a minute pass: breakers that are due and pauses that were withheld, every ten minutes those that are not closed,
/// every hour everybody and the account. Stops early when `in_time` says so, and goes on there when called again. Subjects
/// that cannot be judged keep no other from it, and are looked at again when their time comes.
///
/// # Errors
///
/// A store failed; what was decided is saved, and the next minute goes on.
pub async fn minute<S: Reputation + Schedule>(
    policy: &Policy,
    store: &mut S,
    now: Now,
    mut in_time: impl FnMut() -> bool,
) -> Result<Judged, PortError> {
    let mut judged = Judged::default();
    let Judged { saved, failed } = &mut judged;
    saved.extend(tick_while(policy, store, now, &mut in_time, failed).await?);
    let everywhere = |subject: &Subject| (subject.clone(), None);

    let ten = now.minute().0 / REJUDGE_MINUTES * REJUDGE_MINUTES;
    let progress = store.progress(Sweep::Rejudge).await?;
    let is_unfinished = progress.after.is_some();
    if is_unfinished || progress.number < Sequence::from(u64::from(ten)) {
        let number = if is_unfinished { progress.number } else { u64::from(ten).into() };
        let from = SweepProgress { number, after: progress.after };
        let board = store.board(now).await?;
        let unsettled = board.unsettled.keys().map(|key| &key.subject).filter(|subject| **subject != Subject::Account);
        let work: Work = unsettled.map(everywhere).collect();
        drop(board);
        if !judge(policy, store, (Sweep::Rejudge, &from), &work, now, &mut in_time, (&mut *saved, &mut *failed)).await?
        {
            return Ok(judged);
        }
        store.set_progress(Sweep::Rejudge, &SweepProgress { number: from.number, after: None }).await?;
    }

    let hour = now.minute().hour();
    let number = |minute: Minute| Sequence::from(u64::from(minute.0));
    let done = store.progress(Sweep::Hour).await?;
    if done.number >= number(hour) && done.after.is_none() {
        return Ok(judged);
    }
    // After a long silence, two hours back is enough: nobody is judged for the first time by what is older.
    let (begun, after) = if done.number == number(hour) || done.number == number(hour.minus(HOUR)) {
        (hour.minus(HOUR), done.after.filter(|_| done.number == number(hour)))
    } else {
        (hour.minus(2 * HOUR), None)
    };
    let from = SweepProgress { number: number(hour), after };
    let work: Work = store.heard_since(begun).await?.iter().map(everywhere).collect();
    if judge(policy, store, (Sweep::Hour, &from), &work, now, &mut in_time, (&mut *saved, &mut *failed)).await? {
        let account = evaluate_account(policy, store, now).await;
        saved.extend(failed.unless(&Subject::Account, account)?.unwrap_or_default());
        store.set_progress(Sweep::Hour, &SweepProgress { number: from.number, after: None }).await?;
    }
    Ok(judged)
}

/// Judges a subject at all ISPs that it has mail at.
async fn evaluate_everywhere<S: Reputation>(
    policy: &Policy,
    store: &mut S,
    subject: &Subject,
    now: Now,
) -> Result<Vec<Change>, PortError> {
    let isps: BTreeSet<Isp> = store.subject_state(subject, now).await?.timeline.isps().collect();
    evaluate(policy, store, subject, &isps, now).await
}

/// What came of a minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// What was saved.
    pub saved: Vec<Change>,
    /// What could not be judged.
    pub failed: Failed,
}

/// What came of judging whom a batch may have harmed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reaction {
    /// What was saved.
    pub saved: Vec<Change>,
    /// Whether everybody is judged. If not, react to the same batch again: it goes on where it stopped.
    pub is_complete: bool,
    /// Who can never be judged as things are.
    pub failed: Failed,
}

/// Judges whom a batch of new units, the last of which is `last`, may have harmed: each sender's subjects at the ISPs that
/// the harm came from. `is_new`: some of the batch was not added before, so that nobody can have begun to judge it. Stops
/// early when `in_time` says so.
///
/// # Errors
///
/// As [`evaluate`]; react to the same batch again: it begins with the first that could not be judged.
pub async fn react<S: Reputation + Schedule>(
    policy: &Policy,
    store: &mut S,
    (shard, last, is_new): (&Shard, Sequence, bool),
    harmed: BTreeMap<Subject, BTreeSet<Isp>>,
    now: Now,
    mut in_time: impl FnMut() -> bool,
) -> Result<Reaction, PortError> {
    let work: Work = harmed.into_iter().map(|(subject, isps)| (subject, Some(isps))).collect();
    let mut reaction = Reaction { saved: Vec::new(), is_complete: true, failed: Failed::default() };
    if work.is_empty() {
        return Ok(reaction);
    }
    let round = Sweep::Batch(shard);
    let known = if is_new { SweepProgress::default() } else { store.progress(round).await? };
    let after = known.after.filter(|_| known.number == last);
    let from = SweepProgress { number: last, after };
    let out = (&mut reaction.saved, &mut reaction.failed);
    reaction.is_complete = judge(policy, store, (round, &from), &work, now, &mut in_time, out).await?;
    let for_now = reaction.failed.subjects.iter().find(|(_, error)| error.disposition == Disposition::Retry);
    for_now.map_or(Ok(()), |(_, error)| Err(error.clone()))?;
    Ok(reaction)
}
