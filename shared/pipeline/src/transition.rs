//! Transitions as they are stored with notices, sent to programs and printed: one form for the stack, its operator and replay.
//!
//! [`Transition`] is what use cases work with; [`TransitionRecord`] is what leaves them, with names instead of numbers
//! that are local to this process (an ISP's index in the policy's table) or to a rule (its line).
//! `infra/events.schema.json` describes the same members.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use reputation::breaker::{BreakerState, Cause, Override, State, StateName};
use reputation::detect::{Level, RuleName, Verdict};
use reputation::isp::IspMap;
use reputation::subject::{Key, Subject};
use reputation::time::{Minute, Now};
use reputation::{Metric, Policy};
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::control::{Control, ControlRecord};

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
    /// Subjects that share mail with it, so that they may report the same harm: see
    /// [`SubjectState::shares_mail_with`](crate::ports::SubjectState::shares_mail_with);
    /// for a configuration set also the other configuration sets of its identities. For an identity whose harm is left to
    /// configuration sets, these. Otherwise empty if there is no harm.
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

/// A transition, as in a replay's report and in the detail of a notice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionRecord {
    /// When (RFC 3339); in a replay, by the virtual clock.
    #[serde(default)]
    pub at: Now,
    /// The subject of the breaker.
    pub subject: Subject,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// State before.
    pub from: StateName,
    /// State after; equal to the state before if people are only notified.
    pub to: StateName,
    /// How bad it is; null where things get better or a person acted.
    #[serde(default, deserialize_with = "known")]
    pub level: Option<Level>,
    /// Which rate.
    #[serde(default, deserialize_with = "known")]
    pub metric: Option<Metric>,
    /// By which rule.
    #[serde(default, deserialize_with = "known")]
    pub rule: Option<RuleName>,
    /// The rate, a share.
    pub rate: Option<f64>,
    /// Its denominator.
    pub population: Option<u64>,
    /// Its numerator.
    pub bad: Option<u64>,
    /// The cohorts it is about: first minute, and first minute after them (RFC 3339).
    pub cohorts: Option<[Minute; 2]>,
    /// Decided in shadow: nothing is done.
    #[serde(default)]
    pub shadow: bool,
    /// Why, in words, with the same numbers.
    pub reason: String,
}

impl TransitionRecord {
    /// Whether it stops mail because a test has enough of it, and waits for its outcomes.
    pub fn ends_the_mail_of_a_test(&self) -> bool {
        self.from == StateName::Probing && self.to == StateName::Open && self.level.is_none() && self.metric.is_none()
    }
}

/// A transition with what was done about it and how it left the breaker: the detail of a notice. A member that an
/// earlier release did not write has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionDetail {
    /// The transition itself.
    #[serde(flatten)]
    pub record: TransitionRecord,
    /// What SES and the gate are asked to do because of it.
    #[serde(default, deserialize_with = "readable")]
    pub controls: Vec<ControlRecord>,
    /// The cause of the transition.
    #[serde(default)]
    pub cause: Cause,
    /// The level that the verdict called for, which may be more than what was done; null without a verdict.
    #[serde(default, deserialize_with = "known")]
    pub called_for: Option<Level>,
    /// Who acted; null unless a person acted through ses-breaker.
    pub by: Option<String>,
    /// Why, in that person's words.
    pub said: Option<String>,
    /// Until when it is open (RFC 3339); null if it is not, or until a person resumes it.
    pub until: Option<Now>,
    /// The override by a person.
    #[serde(default, deserialize_with = "known_or_default")]
    pub hold: Override,
    /// The share of the quota that it is throttled to; null unless it is throttled.
    pub share: Option<f64>,
    /// How often it has opened since its count was last reset.
    #[serde(default)]
    pub trips: u32,
    /// The first minute of the mail that may throttle it, and of the mail that may pause it (RFC 3339).
    pub judged_from: Option<[Minute; 2]>,
    /// Whether an application asks the gate, by the policy that it was decided under.
    #[serde(default)]
    pub gate: bool,
    /// Subjects that share mail with it, so that they may report the same harm.
    #[serde(default, deserialize_with = "readable")]
    pub shares_mail_with: Vec<Subject>,
}

impl TransitionRecord {
    /// Records a transition.
    pub fn of(transition: &Transition, isps: &IspMap) -> TransitionRecord {
        let verdict = transition.verdict.as_ref();
        TransitionRecord {
            at: transition.at,
            subject: transition.key.subject.clone(),
            isp: transition.key.isp.map(|isp| isps.name(isp).to_owned()),
            from: transition.from,
            to: transition.to,
            level: transition.level,
            metric: verdict.map(|verdict| verdict.metric),
            rule: verdict.map(|verdict| verdict.rule.name()),
            rate: verdict.map(|verdict| verdict.rate()),
            population: verdict.map(|verdict| verdict.tally.population),
            bad: verdict.map(|verdict| verdict.tally.bad),
            cohorts: verdict.map(|verdict| [verdict.from, verdict.until]),
            shadow: transition.shadow,
            reason: transition.reason.clone(),
        }
    }

    /// The key of the breaker, as people write it: see [`key_name`](crate::wording::key_name).
    pub fn key(&self) -> String {
        match &self.isp {
            None => self.subject.to_string(),
            Some(isp) => format!("{}@{isp}", self.subject),
        }
    }

    /// Whether it is about this key.
    pub fn is_about(&self, policy: &Policy, key: &Key) -> bool {
        self.subject == key.subject && self.isp.as_deref() == key.isp.map(|isp| policy.isp_map.name(isp))
    }

    /// Whether it stops mail that was sent before, in shadow or not.
    pub fn opens(&self) -> bool {
        self.to == StateName::Open && self.from != StateName::Open
    }
}

impl TransitionDetail {
    /// The detail of the transition of a change.
    ///
    /// `controls` are decided with it, and `next` is the breaker after it.
    pub(crate) fn of(
        transition: &Transition,
        controls: &[Control],
        next: &BreakerState,
        isps: &IspMap,
    ) -> TransitionDetail {
        TransitionDetail {
            record: TransitionRecord::of(transition, isps),
            controls: controls.iter().map(|control| ControlRecord::of(control, isps)).collect(),
            cause: transition.cause,
            called_for: transition.verdict.map(|verdict| verdict.level),
            by: transition.said.as_ref().map(|said| said.by.clone()),
            said: transition.said.as_ref().and_then(|said| said.why.clone()),
            until: next.until(),
            hold: next.overridden,
            share: match next.state {
                State::Throttled { factor, .. } => Some(factor.share()),
                State::Closed | State::Open { .. } | State::Probing { .. } => None,
            },
            trips: next.trips,
            judged_from: Some([next.since.throttle, next.since.pause]),
            gate: transition.gate,
            shares_mail_with: transition.shares_mail_with.iter().cloned().collect(),
        }
    }

    /// The person who acted.
    pub fn person(&self) -> Option<PersonNote> {
        self.by.as_ref().map(|by| PersonNote { by: by.clone(), why: self.said.clone() })
    }

    /// Why, in words, with the person who acted.
    pub fn why(&self) -> String {
        self.person().map_or_else(|| self.reason.clone(), |person| format!("{} ({person})", self.reason))
    }
}

impl Deref for TransitionDetail {
    type Target = TransitionRecord;

    fn deref(&self) -> &TransitionRecord {
        &self.record
    }
}

/// A name that this release knows; `None` for null and for a name of another release.
fn known<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    Ok(name.and_then(|name| T::deserialize(StrDeserializer::<de::value::Error>::new(&name)).ok()))
}

fn known_or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    known(deserializer).map(Option::unwrap_or_default)
}

/// The texts that this release can read.
fn readable<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    Ok(texts.into_iter().filter_map(|text| text.parse().ok()).collect())
}
