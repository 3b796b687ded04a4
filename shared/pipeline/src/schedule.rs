//! Scheduled evaluation: work over many subjects, triggered by the clock or by a batch of new units.
//!
//! Harm is judged when it arrives. Other mail can raise an alarm only if it lifts the number of mails over a rule's
//! minimum, so it is enough to judge all subjects once an hour. But it can end a probe, so subjects with a breaker that
//! is not closed are judged every ten minutes; and where no gate limits the mail of a probe, with each batch of its mail
//! ([`tested`]). A replay uses the same times.
//!
//! Subjects are judged in order. If an invocation runs out of time, the next one continues where it stopped.

use std::collections::{BTreeMap, BTreeSet};

use reputation::breaker::{self, BreakerState, State};
use reputation::budget;
use reputation::isp::Isp;
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{HOUR, MINUTE_MILLIS, Minute, Now};

use crate::evaluate::{Failed, evaluate, evaluate_account, tick_while};
use crate::ports::{Board, Change, Disposition, PortError, Reputation, Schedule, Sweep, SweepProgress};
use crate::stream::{Sequence, Shard};

/// How often subjects with a breaker that is not closed are judged by all their mail, in minutes.
pub const REJUDGE_MINUTES: u32 = 10;

/// How often progress is saved, in subjects: after a crash at most this number is judged again.
const SAVE_EVERY: usize = 50;

/// The subjects to judge, each with the ISPs; `None`: all ISPs where it has mail.
type Work = BTreeMap<Subject, Option<BTreeSet<Isp>>>;

/// How often subjects that could not be judged are tried again before a round ends.
const AGAIN: usize = 2;

/// Judges subjects in order, after the one that `from` names. Returns whether all are judged: if `in_time` returns
/// false, it saves its progress and stops. Subjects that cannot be judged are tried again after the others; those that
/// still cannot be judged are in `failed`.
///
/// # Errors
///
/// An error that concerns all subjects; the progress is saved.
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
    // All subjects up to this one are judged, or can never be judged.
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
    // So that the next delivery begins with these.
    if !left.is_empty() {
        store.set_progress(round, &SweepProgress { number: from.number, after }).await?;
    }
    Ok(true)
}

/// Does the work of a minute: breakers that are due and pauses that were withheld, every ten minutes the breakers that
/// are not closed, every hour all subjects and the account. Stops early when `in_time` returns false, and continues
/// there when called again. Subjects that cannot be judged do not stop the others, and are judged again at their next
/// time.
///
/// # Errors
///
/// A store failed; what was decided is saved, and the next minute continues.
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
    // After a long silence, two hours back are enough: no subject is judged for the first time by older mail.
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

/// The next time after `now` at which something is due by the clock alone: a stop or a cut ends, a place in the budget of
/// pauses becomes free for which a breaker waits, or a warning about the account is repeated if its mail still calls for
/// it. `None` if there is none. What is overdue is done in the next minute. `account`: the breaker of the account.
///
/// The deployed stack need not know it, because it is woken each minute.
pub fn next_due(policy: &Policy, board: &Board, account: Option<&BreakerState>, now: Now) -> Option<Now> {
    let due = board.unsettled.values().filter_map(|known| breaker::due(&policy.breaker, known, now));
    let waits_for_a_place = board.unsettled.values().any(|known| known.withheld);
    let due = due.chain(budget::next_free(&board.pauses).filter(|_| waits_for_a_place));
    let again = account.into_iter().flat_map(BreakerState::warned_again);
    // The account is judged when an hour begins.
    let hour = i64::from(HOUR) * MINUTE_MILLIS;
    let again = again.map(|at| Now(at.0.saturating_add(hour - 1).div_euclid(hour) * hour));
    due.chain(again).filter(|due| *due > now).min()
}

/// Judges the subjects with units since this hour began, and the account, without waiting for its end: nothing comes after.
///
/// # Errors
///
/// As [`evaluate`].
pub async fn judge_heard_since<S: Reputation + Schedule>(
    policy: &Policy,
    store: &mut S,
    hour: Minute,
    now: Now,
) -> Result<Vec<Change>, PortError> {
    let mut saved = Vec::new();
    for subject in store.heard_since(hour).await? {
        saved.extend(evaluate_everywhere(policy, store, &subject, now).await?);
    }
    saved.extend(evaluate_account(policy, store, now).await?);
    Ok(saved)
}

/// Judges a subject at all ISPs where it has mail.
async fn evaluate_everywhere<S: Reputation>(
    policy: &Policy,
    store: &mut S,
    subject: &Subject,
    now: Now,
) -> Result<Vec<Change>, PortError> {
    let isps: BTreeSet<Isp> = store.subject_state(subject, now).await?.timeline.isps().collect();
    evaluate(policy, store, subject, &isps, now).await
}

/// The result of a minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// What was saved.
    pub saved: Vec<Change>,
    /// The subjects that could not be judged.
    pub failed: Failed,
}

/// The result of judging the subjects that a batch may have harmed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reaction {
    /// What was saved.
    pub saved: Vec<Change>,
    /// Whether all subjects are judged. If not, react to the same batch again: it continues where it stopped.
    pub is_complete: bool,
    /// Subjects that cannot be judged until their stored data is fixed.
    pub failed: Failed,
}

/// Whether any new mail of a subject is a reason to judge it at once, and not only harm: it is tested, and without a gate
/// nothing but its breaker ends the mail of the test.
pub fn awaits_mail(policy: &Policy, board: &Board, subject: &Subject) -> bool {
    let is_tested =
        |key: &Key| board.unsettled.get(key).is_some_and(|known| matches!(known.state, State::Probing { .. }));
    !board.unsettled.is_empty()
        && !policy.holds_shares(subject)
        && is_tested(&Key { subject: subject.clone(), isp: None })
}

/// The subjects of a batch that are judged at once whatever its units are: see [`awaits_mail`]. `heard` lists all subjects of
/// the batch, each with its ISPs, and is called only if any subject is tested.
///
/// # Errors
///
/// The board cannot be read.
pub async fn tested<R: Reputation>(
    policy: &Policy,
    store: &mut R,
    heard: impl FnOnce() -> BTreeMap<Subject, BTreeSet<Isp>>,
    now: Now,
) -> Result<BTreeMap<Subject, BTreeSet<Isp>>, PortError> {
    let board = store.board(now).await?;
    if !board.unsettled.values().any(|known| matches!(known.state, State::Probing { .. })) {
        return Ok(BTreeMap::new());
    }
    let mut subjects = heard();
    subjects.retain(|subject, _| awaits_mail(policy, &board, subject));
    Ok(subjects)
}

/// Judges the subjects that a batch of new units may have harmed: each sender's subjects at the ISPs that the harm came
/// from. `last` is the sequence number of the batch's last record. `is_new`: some of the batch was not added before, so
/// judging it cannot have begun. Stops early when `in_time` returns false.
///
/// # Errors
///
/// As [`evaluate`]; react to the same batch again: it begins with the first subject that could not be judged.
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
