//! Counters, breakers and the board.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reputation::breaker::BreakerState;
use reputation::budget::{Pause, Pauses, Place};
use reputation::isp::Isp;
use reputation::subject::{Key, Subject};
use reputation::time::{Minute, Now};
use reputation::timeline::Timeline;

use super::PortError;
use crate::control::Control;
use crate::stream::{Fold, Sequence, Shard};
use crate::transition::Transition;

/// The result of committing a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It has been added.
    Added,
    /// Nothing was added: the mark of its shard is not the one that the fold was made for.
    Overtaken {
        /// The current mark.
        mark: Option<Sequence>,
    },
}

/// A breaker with the version that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versioned {
    /// The breaker.
    pub breaker: BreakerState,
    /// Grows by one with each save; 0 = never saved.
    pub version: u64,
}

/// For how many other subjects it is remembered that they share mail with a subject.
pub const MAX_SHARING: usize = 20;

/// Whether it is remembered that `other` shares mail with `subject`.
pub fn may_share_mail_with(subject: &Subject, other: &Subject) -> bool {
    matches!(
        (subject, other),
        (Subject::ConfigurationSet(_), Subject::Identity(_))
            | (Subject::Identity(_) | Subject::Tag(..), Subject::ConfigurationSet(_))
    )
}

/// What is known about a subject that shares mail with another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relative {
    /// Its breaker at all ISPs.
    pub breaker: BreakerState,
    /// As [`SubjectState::shares_mail_with`].
    pub shares_mail_with: BTreeSet<Subject>,
}

/// Everything that is known about one subject.
#[derive(Clone, Debug, Default)]
pub struct SubjectState {
    /// Its counters.
    pub timeline: Timeline,
    /// Its breakers: one for each ISP that has one, and one for all ISPs together.
    pub breakers: BTreeMap<Option<Isp>, Versioned>,
    /// Whether it shares mail with a subject that the policy protects.
    pub protected: bool,
    /// Subjects that share mail with it: for a configuration set its identities, for an identity or a tag the
    /// configuration sets; at most [`MAX_SHARING`], the first ones that were seen.
    pub shares_mail_with: BTreeSet<Subject>,
    /// Breakers that are stored in a form that this release does not understand: they are not changed.
    pub unreadable: BTreeSet<Option<Isp>>,
}

impl SubjectState {
    /// The breaker of one key of this subject.
    pub fn breaker(&self, isp: Option<Isp>) -> Versioned {
        self.breakers.get(&isp).cloned().unwrap_or_default()
    }
}

/// The board: what is known in addition to a subject's own mail.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// The breakers of ISPs themselves, for all senders: open while an ISP is suspected of trouble of its own.
    pub isps: BTreeMap<Isp, BreakerState>,
    /// The breakers that are not closed, or were put in shadow by a person.
    pub unsettled: BTreeMap<Key, BreakerState>,
    /// The places in the budget of pauses that are held: by configuration sets that a verdict paused within the last hour.
    pub pauses: Pauses,
    /// The breakers whose copies this release does not understand: it is unknown whether they let mail flow.
    pub unreadable: BTreeSet<Key>,
}

impl Board {
    /// Applies a change that was saved.
    pub fn apply(&mut self, change: &Change) {
        let Change { key, next, .. } = change;
        if let (Subject::Account, Some(isp)) = (&key.subject, key.isp) {
            self.isps.insert(isp, next.clone());
        }
        if next.is_settled() {
            self.unsettled.remove(key);
        } else {
            self.unsettled.insert(key.clone(), next.clone());
        }
        if let Some(places) = &change.places {
            for place in &places.given_back {
                self.pauses.remove(place);
            }
            self.pauses.extend(places.taken.clone());
        }
    }
}

/// A change to the breaker of one key, saved together with its consequences.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The key of the breaker.
    pub key: Key,
    /// The version on which it was decided.
    pub version: u64,
    /// The new state of the breaker.
    pub next: BreakerState,
    /// The control that follows from it.
    pub controls: Vec<Control>,
    /// The transition to report to people.
    pub transition: Option<Transition>,
    /// Its effect on the places in the budget of pauses; `None` if it has none.
    pub places: Option<PlaceChange>,
}

/// The effect of a change on the places of a configuration set in the budget of pauses. It is saved only if the place
/// that is taken is free or its own, and the places that are given back are its own or free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceChange {
    /// The place that the set takes, because a verdict pauses it.
    pub taken: Option<(Place, Pause)>,
    /// The places that it had before: its pause is undone, or it takes another place or none.
    pub given_back: Vec<Place>,
}

impl PlaceChange {
    /// Whether the change may be saved for `set` while these places are held.
    pub fn fits(&self, set: &Subject, pauses: &Pauses) -> bool {
        let is_taken = |place: &Place| pauses.get(place).filter(|known| known.set != *set);
        let is_free = |(place, pause): &(Place, Pause)| is_taken(place).is_none_or(|known| known.is_over(pause.at));
        self.taken.iter().all(is_free) && self.given_back.iter().all(|place| is_taken(place).is_none())
    }
}

/// The result of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// All changes are saved.
    Saved,
    /// Another process was faster; nothing is saved.
    Conflict,
}

/// Stores counters and breakers.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Reputation {
    /// The record up to which a shard has been added; `None` if nothing has been added. May be older than the stored
    /// mark, never newer.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError>;

    /// In one transaction, adds a fold and moves the mark of its shard to the fold's last record, if that mark is the
    /// one that the fold was made for. Otherwise does neither.
    ///
    /// # Errors
    ///
    /// Nothing was added, or everything was added and the answer was lost: fold again.
    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError>;

    /// The state of a subject, with at least the counters that judging at `now` needs; an empty one if nothing is
    /// known.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn subject_state(&mut self, subject: &Subject, now: Now) -> Result<&mut SubjectState, PortError>;

    /// What is known about these subjects, which share mail with another one. Called only when harm is to be reported.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn relatives(&mut self, subjects: &BTreeSet<Subject>) -> Result<BTreeMap<Subject, Relative>, PortError>;

    /// The board at `now`.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn board(&mut self, now: Now) -> Result<Arc<Board>, PortError>;

    /// The counters of each configuration set, by the hour; together, the counters of the account. Drills are excluded.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn account(&mut self, now: Now) -> Result<Vec<&Timeline>, PortError>;

    /// The configuration sets and identities, without drills, that may have mail accepted since `since`, in order, with
    /// at least the counters of the minutes from then on. Called only when several senders turned bad at one ISP.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn active(&mut self, since: Minute, now: Now) -> Result<Vec<(&Subject, &Timeline)>, PortError>;

    /// Saves changes of one subject at once, each only if its breaker still has the version that was read, and its
    /// [`PlaceChange`] still fits.
    ///
    /// # Errors
    ///
    /// Nothing was saved, or everything was saved and the answer was lost: decide again.
    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError>;
}
