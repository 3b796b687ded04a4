//! What the use cases need of the world, and the words they share with it.

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

/// What a shell does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It may work later: do it again.
    Retry,
    /// It never works for this piece of work: put the piece aside with its reason.
    Quarantine,
    /// It never works for anything: stop and tell a person.
    Halt,
}

/// A port did not do what it was asked.
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

/// Remembers units, so that each counts once: whoever follows a ledger is told once of each new one.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Ledger {
    /// Records units. Recording again changes nothing.
    ///
    /// # Errors
    ///
    /// Says which of the units to record again; the others are recorded.
    async fn record(&mut self, units: &[Unit], senders: &Senders) -> Result<(), Unrecorded>;
}

/// What became of a fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It has been added.
    Added,
    /// Nothing was added: the mark of its shard is another one than the fold was made for.
    Overtaken {
        /// The mark as it is.
        mark: Option<Sequence>,
    },
}

/// A breaker with the version under which it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versioned {
    /// The breaker.
    pub breaker: BreakerState,
    /// Grows by one with each save; 0 = never saved.
    pub version: u64,
}

/// Of so many others it is remembered that they share mail with a subject.
pub const MAX_SHARING: usize = 20;

/// Whether `other` is remembered as one that shares mail with `subject`.
pub fn may_share_mail_with(subject: &Subject, other: &Subject) -> bool {
    matches!(
        (subject, other),
        (Subject::ConfigurationSet(_), Subject::Identity(_))
            | (Subject::Identity(_) | Subject::Tag(..), Subject::ConfigurationSet(_))
    )
}

/// What is known of one that shares mail with a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relative {
    /// Its breaker at all ISPs.
    pub breaker: BreakerState,
    /// As [`SubjectState::shares_mail_with`].
    pub shares_mail_with: BTreeSet<Subject>,
}

/// Everything known about one subject.
#[derive(Clone, Debug, Default)]
pub struct SubjectState {
    /// Its counters.
    pub timeline: Timeline,
    /// Its breakers: of each ISP that has one, and of all ISPs together.
    pub breakers: BTreeMap<Option<Isp>, Versioned>,
    /// Whether some of its mail is also that of a subject that the policy protects.
    pub protected: bool,
    /// Subjects that some of its mail is also of: of a configuration set its identities, of an identity or a tag the configuration
    /// sets; at most [`MAX_SHARING`], the first ones that it was seen with.
    pub shares_mail_with: BTreeSet<Subject>,
    /// Breakers that are stored in a form that this release does not understand: they stay as they are.
    pub unreadable: BTreeSet<Option<Isp>>,
}

impl SubjectState {
    /// The breaker of one key of this subject.
    pub fn breaker(&self, isp: Option<Isp>) -> Versioned {
        self.breakers.get(&isp).cloned().unwrap_or_default()
    }
}

/// What is going on besides a subject's own mail.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// The breakers of ISPs, whoever sends to them: open while an ISP is suspected of trouble of its own.
    pub isps: BTreeMap<Isp, BreakerState>,
    /// The breakers that are not settled: not closed, or put in shadow by a person.
    pub unsettled: BTreeMap<Key, BreakerState>,
    /// The places in the budget of pauses that are held: by configuration sets that a verdict paused within the last hour.
    pub pauses: Pauses,
    /// The breakers whose copies this release does not understand: whether they let mail flow is not known.
    pub unreadable: BTreeSet<Key>,
}

impl Board {
    /// Takes note of a change that was saved.
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

/// A change to the breaker of one key, to be saved with what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Whose breaker.
    pub key: Key,
    /// The version that it was decided upon.
    pub version: u64,
    /// What it becomes.
    pub next: BreakerState,
    /// What is wished for because of it.
    pub controls: Vec<Control>,
    /// What people are told.
    pub transition: Option<Transition>,
    /// What becomes of its places in the budget of pauses; `None` if nothing does.
    pub places: Option<PlaceChange>,
}

/// What a change does to the places of a configuration set in the budget of pauses. It is saved only if the place that is taken
/// is free or its own, and those that are given back are its own or free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceChange {
    /// The place that it takes, because a verdict pauses it.
    pub taken: Option<(Place, Pause)>,
    /// Those that it had before: its pause is undone, or it takes another place or none.
    pub given_back: Vec<Place>,
}

impl PlaceChange {
    /// Whether it may be saved for `set` while these places are held.
    pub fn fits(&self, set: &Subject, pauses: &Pauses) -> bool {
        let is_taken = |place: &Place| pauses.get(place).filter(|known| known.set != *set);
        let is_free = |(place, pause): &(Place, Pause)| is_taken(place).is_none_or(|known| known.is_over(pause.at));
        self.taken.iter().all(is_free) && self.given_back.iter().all(|place| is_taken(place).is_none())
    }
}

/// What became of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// All changes are saved.
    Saved,
    /// Somebody else was faster; nothing is saved.
    Conflict,
}

/// Keeps counters and breakers.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Reputation {
    /// Up to which record a shard has been added; `None` if nothing of it has. May be older than what is stored, never
    /// newer.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError>;

    /// Adds a fold and moves the mark of its shard to the fold's last record at once, if that mark is the one that the
    /// fold was made for; or does neither.
    ///
    /// # Errors
    ///
    /// Nothing was added, or everything and the answer was lost: fold again.
    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError>;

    /// The dossier of a subject, with at least the counters that judging at `now` looks at; an empty one if nothing is
    /// known.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn subject_state(&mut self, subject: &Subject, now: Now) -> Result<&mut SubjectState, PortError>;

    /// What is known of these subjects, which share mail with another one. Asked for only when harm is to be reported.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn relatives(&mut self, subjects: &BTreeSet<Subject>) -> Result<BTreeMap<Subject, Relative>, PortError>;

    /// What is going on at `now`.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn board(&mut self, now: Now) -> Result<Arc<Board>, PortError>;

    /// The counters of each configuration set, by the hour: together, those of the account. Drills are no part of it.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn account(&mut self, now: Now) -> Result<Vec<&Timeline>, PortError>;

    /// The configuration sets and identities, but for drills, that may have mail accepted since `since`, in order, with at least the counters
    /// of the minutes from there on. Asked for only when several senders turned bad at one ISP.
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
    /// Nothing was saved, or everything and the answer was lost: decide again.
    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError>;
}

/// A wish about SES or about a quota.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// When it was decided.
    pub at: Now,
    /// What is wished for.
    pub kind: ControlKind,
    /// About whom.
    pub target: Subject,
    /// At which ISP; `None` is all.
    pub isp: Option<Isp>,
    /// Why.
    pub reason: String,
}

/// What can be wished for.
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
    /// SES accepts no more mail at all.
    PauseAccount,
    /// SES accepts mail again.
    ResumeAccount,
    /// The gate grants this share of the quota.
    SetQuotaFactor(Factor),
    /// The gate grants nothing at this ISP, to nobody.
    HoldIsp,
    /// The gate grants mail to this ISP again.
    ReleaseIsp,
}

impl ControlKind {
    /// Each kind; that of a quota with the whole of it.
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

    /// The share of a quota that it grants; `None` if it is about no quota.
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

    /// What SES does once it obeys; `None` if it is not for SES.
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

/// Something that people are told about a breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// When.
    pub at: Now,
    /// Whose breaker.
    pub key: Key,
    /// The state before.
    pub from: StateName,
    /// The state after; the same one for a warning.
    pub to: StateName,
    /// How bad it is; `None` where things get better or a person acted.
    pub level: Option<Level>,
    /// Why, for programs.
    pub cause: Cause,
    /// The verdict behind it, with the numbers used.
    pub verdict: Option<Verdict>,
    /// Decided in shadow: told, and nothing was done.
    pub shadow: bool,
    /// Why, in words.
    pub reason: String,
    /// Who said so, if a person did through us.
    pub said: Option<PersonNote>,
    /// Whether an application asks the gate, by the policy that it was decided under. Without a gate, mail is stopped by SES or
    /// not at all.
    pub gate: bool,
    /// Others whose mail is the same in part, so that they may report the same harm: see [`SubjectState::shares_mail_with`]; of a configuration set
    /// also the other configuration sets of its identities. Only where there is harm.
    pub shares_mail_with: BTreeSet<Subject>,
}

impl Transition {
    /// Whether mail that was sent is stopped from here on, in shadow or not.
    pub fn opens(&self) -> bool {
        self.to == StateName::Open && self.from != StateName::Open
    }

    /// Why, in words, with whoever said so.
    pub fn why(&self) -> String {
        match &self.said {
            None => self.reason.clone(),
            Some(said) => format!("{} ({said})", self.reason),
        }
    }
}

/// A person's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonNote {
    /// Who said it.
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
