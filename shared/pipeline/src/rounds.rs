//! Rounds: what is looked at because time passes, not because something came in.
//!
//! Harm is judged when it comes in. Any other mail can raise an alarm only by lifting a rate over a floor, so that it is
//! enough to look at everybody once an hour; but it can end a probe, so that subjects with a breaker that is not closed are
//! looked at every ten minutes. A replay keeps to the same times.

use std::collections::{BTreeMap, BTreeSet};

use reputation::isp::Isp;
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::{HOUR, Minute, Now};

use crate::evaluate::{evaluate, evaluate_account, tick};
use crate::ports::{Change, PortError, Reputation};

/// How often subjects with a breaker that is not closed are judged by all their mail.
pub const REJUDGE_MINUTES: u32 = 10;

/// How often the hour's progress is saved, in subjects.
const SAVE_EVERY: usize = 50;

/// How far the hourly round has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HourDone {
    /// First minute of the hour at whose beginning everybody was looked at, or is being looked at.
    pub hour: Minute,
    /// The last subject that was, in the order of subjects; `None`: all were.
    pub after: Option<Subject>,
}

/// Remembers who was heard of, and how far the hourly round has come.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Rounds {
    /// The subjects that were heard of in this hour or later, in order.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn heard_since(&mut self, hour: Minute) -> Result<Vec<Subject>, PortError>;

    /// How far the hourly round has come.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn hour_done(&mut self) -> Result<HourDone, PortError>;

    /// Saves how far it has come.
    ///
    /// # Errors
    ///
    /// It was saved or not: some subjects may be looked at again, which is no harm.
    async fn set_hour_done(&mut self, done: &HourDone) -> Result<(), PortError>;
}

/// Lets a minute pass: breakers that are due and pauses that were withheld, every ten minutes those that are not closed, every hour everybody and the
/// account. Stops early when `in_time` says so, and goes on there when called again.
///
/// # Errors
///
/// A store failed; what was decided is saved, and the next round goes on.
pub async fn minute<S: Reputation + Rounds>(
    policy: &Policy,
    store: &mut S,
    now: Now,
    mut in_time: impl FnMut() -> bool,
) -> Result<Vec<Change>, PortError> {
    let mut saved = tick(policy, store, now).await?;
    if now.minute().0.is_multiple_of(REJUDGE_MINUTES) {
        let board = store.board(now).await?;
        let unsettled: BTreeSet<&Subject> = board.unsettled.keys().map(|key| &key.subject).collect();
        for subject in unsettled.into_iter().filter(|subject| **subject != Subject::Account) {
            saved.extend(evaluate_everywhere(policy, store, subject, now).await?);
        }
    }
    let hour = now.minute().hour();
    let done = store.hour_done().await?;
    if done.hour >= hour && done.after.is_none() {
        return Ok(saved);
    }
    let (begun, after) = if done.hour == hour { (hour.minus(HOUR), done.after) } else { (done.hour, None) };
    // After a long silence, two hours back is enough: nobody is judged for the first time by what is older.
    let begun = begun.max(hour.minus(2 * HOUR));
    let mut subjects = store.heard_since(begun).await?;
    subjects.retain(|subject| after.as_ref().is_none_or(|after| subject > after));
    for (index, subject) in subjects.iter().enumerate() {
        if !in_time() {
            return Ok(saved);
        }
        saved.extend(evaluate_everywhere(policy, store, subject, now).await?);
        if (index + 1).is_multiple_of(SAVE_EVERY) {
            store.set_hour_done(&HourDone { hour, after: Some(subject.clone()) }).await?;
        }
    }
    saved.extend(evaluate_account(policy, store, now).await?);
    store.set_hour_done(&HourDone { hour, after: None }).await?;
    Ok(saved)
}

/// Judges a subject at all ISPs that it has mail at.
async fn evaluate_everywhere<S: Reputation>(
    policy: &Policy,
    store: &mut S,
    subject: &Subject,
    now: Now,
) -> Result<Vec<Change>, PortError> {
    let isps: BTreeSet<Isp> = store.dossier(subject, now).await?.timeline.isps().collect();
    evaluate(policy, store, subject, &isps, now).await
}

/// Judges whom a batch of new units may have harmed: each sender's subjects at the ISPs that the harm came from.
///
/// # Errors
///
/// As [`evaluate`].
pub async fn react<S: Reputation>(
    policy: &Policy,
    store: &mut S,
    harmed: &BTreeMap<Subject, BTreeSet<Isp>>,
    now: Now,
) -> Result<Vec<Change>, PortError> {
    let mut saved = Vec::new();
    for (subject, isps) in harmed {
        saved.extend(evaluate(policy, store, subject, isps, now).await?);
    }
    Ok(saved)
}
