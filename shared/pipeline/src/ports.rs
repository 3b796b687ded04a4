//! Ports: the traits that the use cases depend on, and the types they exchange.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use reputation::breaker::{BreakerState, Cause, Factor, StateName};
use reputation::budget::{Pause, Pauses, Place};
use reputation::detect::{Level, Verdict};
use reputation::isp::Isp;
use reputation::subject::{Key, Subject};
use reputation::time::{Minute, Now};
use reputation::timeline::Timeline;
use reputation::unit::Unit;

use crate::enforce::Flow;
use crate::fold::{Fold, Sequence, Shard};
use crate::senders::Senders;

/// What the handlers do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It may work later: try again.
    Retry,
    /// It never works for this item: set the item aside with its reason.
    Quarantine,
    /// It never works for any item: stop and alert a person.
    Halt,
}

/// A port did not do what it was asked to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed: {reason}")]
pub struct PortError {
    /// What was asked.
    pub operation: &'static str,
    /// Why it failed.
    pub reason: String,
    /// What to do about it.
    pub disposition: Disposition,
}

/// Some units may not be recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} units not recorded: {error}", positions.len())]
pub struct Unrecorded {
    /// Which, by their places in the list.
    pub positions: Vec<usize>,
    /// Why.
    pub error: PortError,
}

/// Remembers units, so that each counts once: the readers of a ledger get each new unit once.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Ledger {
    /// Records units. Recording again changes nothing.
    ///
    /// # Errors
    ///
    /// Names the units to record again; the others are recorded.
    async fn record(&mut self, units: &[Unit], senders: &Senders) -> Result<(), Unrecorded>;
}

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

/// A control: a desired change at SES or of a quota.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// When it was decided.
    pub at: Now,
    /// The desired change.
    pub kind: ControlKind,
    /// The subject.
    pub target: Subject,
    /// The ISP; `None` for all ISPs.
    pub isp: Option<Isp>,
    /// Why.
    pub reason: String,
}

/// The kinds of controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    /// SES accepts no more mail with this configuration set.
    PauseConfigurationSet,
    /// SES accepts mail with it again.
    ResumeConfigurationSet,
    /// SES accepts no more mail of this tenant.
    PauseTenant,
    /// SES accepts mail of it again.
    ResumeTenant,
    /// SES accepts no more mail of the account.
    PauseAccount,
    /// SES accepts mail of the account again.
    ResumeAccount,
    /// The gate grants this share of the quota.
    SetQuotaFactor(Factor),
    /// The gate grants nothing at this ISP, for any sender.
    HoldIsp,
    /// The gate grants mail to this ISP again.
    ReleaseIsp,
}

impl ControlKind {
    /// Each kind; the quota kind with the full quota.
    pub const ALL: [ControlKind; 9] = [
        ControlKind::PauseConfigurationSet,
        ControlKind::ResumeConfigurationSet,
        ControlKind::PauseTenant,
        ControlKind::ResumeTenant,
        ControlKind::PauseAccount,
        ControlKind::ResumeAccount,
        ControlKind::SetQuotaFactor(Factor::FULL),
        ControlKind::HoldIsp,
        ControlKind::ReleaseIsp,
    ];

    /// The share of a quota that it grants; `None` if it is not about a quota.
    pub fn share(self) -> Option<Factor> {
        match self {
            ControlKind::SetQuotaFactor(factor) => Some(factor),
            ControlKind::PauseConfigurationSet
            | ControlKind::ResumeConfigurationSet
            | ControlKind::PauseTenant
            | ControlKind::ResumeTenant
            | ControlKind::PauseAccount
            | ControlKind::ResumeAccount
            | ControlKind::HoldIsp
            | ControlKind::ReleaseIsp => None,
        }
    }

    /// The state at SES once the control is carried out; `None` if it is not for SES.
    pub fn at_ses(self) -> Option<Flow> {
        match self {
            ControlKind::PauseConfigurationSet | ControlKind::PauseTenant | ControlKind::PauseAccount => {
                Some(Flow::Stopped)
            }
            ControlKind::ResumeConfigurationSet | ControlKind::ResumeTenant | ControlKind::ResumeAccount => {
                Some(Flow::Flowing)
            }
            ControlKind::SetQuotaFactor(_) | ControlKind::HoldIsp | ControlKind::ReleaseIsp => None,
        }
    }

    /// Stable name, as in the report.
    pub fn name(self) -> &'static str {
        match self {
            ControlKind::PauseConfigurationSet => "pause_configuration_set",
            ControlKind::ResumeConfigurationSet => "resume_configuration_set",
            ControlKind::PauseTenant => "pause_tenant",
            ControlKind::ResumeTenant => "resume_tenant",
            ControlKind::PauseAccount => "pause_account",
            ControlKind::ResumeAccount => "resume_account",
            ControlKind::SetQuotaFactor(_) => "set_quota_factor",
            ControlKind::HoldIsp => "hold_isp",
            ControlKind::ReleaseIsp => "release_isp",
        }
    }
}

/// A transition of a breaker that is reported to people.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// When.
    pub at: Now,
    /// The key of the breaker.
    pub key: Key,
    /// The state before.
    pub from: StateName,
    /// The state after; the same one for a warning.
    pub to: StateName,
    /// How bad it is; `None` where things get better or a person acted.
    pub level: Option<Level>,
    /// Why, for programs.
    pub cause: Cause,
    /// The verdict that caused it, with the numbers used.
    pub verdict: Option<Verdict>,
    /// Decided in shadow: reported, but nothing was done.
    pub shadow: bool,
    /// Why, in words.
    pub reason: String,
    /// Who acted, if a person acted through ses-breaker.
    pub said: Option<PersonNote>,
    /// Whether an application asks the gate, by the policy that it was decided under. Without a gate, only SES can stop
    /// mail.
    pub gate: bool,
    /// Subjects that share mail with it, so that they may report the same harm: see [`SubjectState::shares_mail_with`];
    /// for a configuration set also the other configuration sets of its identities. Empty if there is no harm.
    pub shares_mail_with: BTreeSet<Subject>,
}

impl Transition {
    /// Whether it stops mail that was sent before, in shadow or not.
    pub fn opens(&self) -> bool {
        self.to == StateName::Open && self.from != StateName::Open
    }

    /// Why, in words, with the person who acted.
    pub fn why(&self) -> String {
        match &self.said {
            None => self.reason.clone(),
            Some(said) => format!("{} ({said})", self.reason),
        }
    }
}

/// The author and reason of a person's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonNote {
    /// Who gave the command.
    pub by: String,
    /// Why, in their words.
    pub why: Option<String>,
}

impl fmt::Display for PersonNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        write!(f, "said by {}{why}", self.by)
    }
}
