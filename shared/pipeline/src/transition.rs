//! Transitions as they are stored with notices, sent to programs and printed: one form for the stack, its operator and replay.
//!
//! [`Transition`] is what use cases work with; [`TransitionRecord`] is what leaves them, with names instead of numbers
//! that are local to this process (an ISP's index in the policy's table) or to a rule (its line).
//! `infra/events.schema.json` describes the same members.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use reputation::breaker::{Cause, Factor, Override, State, StateName};
use reputation::detect::{Level, RuleName};
use reputation::isp::IspMap;
use reputation::subject::{Key, Subject};
use reputation::time::{Minute, Now};
use reputation::{Metric, Policy};
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::notice::key_name;
use crate::ports::{Change, Control, ControlKind, PersonNote, Transition};

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

    /// The key of the breaker, as people write it: see [`key_name`].
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
    pub(crate) fn of(change: &Change, transition: &Transition, isps: &IspMap) -> TransitionDetail {
        let next = &change.next;
        TransitionDetail {
            record: TransitionRecord::of(transition, isps),
            controls: change.controls.iter().map(|control| ControlRecord::of(control, isps)).collect(),
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

/// A control as a text: its kind, the name of its target, and of a quota the share (`pause_tenant tenant:t-1`,
/// `set_quota_factor configuration-set:news@gmail 25 %`). The share is rounded for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlRecord {
    /// What is asked for.
    pub kind: ControlKind,
    /// The target: see [`key_name`].
    pub target: String,
}

impl ControlRecord {
    fn of(control: &Control, isps: &IspMap) -> ControlRecord {
        let key = Key { subject: control.target.clone(), isp: control.isp };
        ControlRecord { kind: control.kind, target: key_name(&key, isps) }
    }
}

impl fmt::Display for ControlRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.target)?;
        self.kind.share().map_or(Ok(()), |share| write!(f, " {share}"))
    }
}

/// A text that does not name a control of this release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a control, such as `pause_tenant tenant:t-1`")]
pub struct ControlRecordError(String);

impl FromStr for ControlRecord {
    type Err = ControlRecordError;

    fn from_str(text: &str) -> Result<ControlRecord, ControlRecordError> {
        let error = || ControlRecordError(text.to_owned());
        let (name, target) = text.split_once(' ').ok_or_else(error)?;
        let kind = ControlKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(error)?;
        if kind.share().is_none() {
            return Ok(ControlRecord { kind, target: target.to_owned() });
        }
        // Parsed from the end, because names of tags may contain spaces: `NAME 25 %`.
        let (target, percent) = target.strip_suffix(" %").and_then(|rest| rest.rsplit_once(' ')).ok_or_else(error)?;
        let percent: f64 = percent.parse().map_err(|_| error())?;
        let kind = ControlKind::SetQuotaFactor(Factor::of_share(percent / 100.0));
        Ok(ControlRecord { kind, target: target.to_owned() })
    }
}

impl Serialize for ControlRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ControlRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ControlRecord, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_is_read_as_it_is_written() {
        let factors = (0..=1000).map(|thousandths| Factor::of_share(f64::from(thousandths) / 1000.0));
        let kinds = factors.map(ControlKind::SetQuotaFactor).chain(ControlKind::ALL);
        for kind in kinds {
            for target in ["account", "configuration-set:news@gmail", "tag:campaign=summer sale 25 %"] {
                let text = ControlRecord { kind, target: target.to_owned() }.to_string();
                // A share is written for people, so it may be rounded.
                assert_eq!(text.parse::<ControlRecord>().map(|read| read.to_string()), Ok(text));
            }
        }
        for text in
            ["", "pause_tenant", "pause_moon account", "set_quota_factor account", "set_quota_factor account x %"]
        {
            assert!(text.parse::<ControlRecord>().is_err(), "{text}");
        }
    }
}
