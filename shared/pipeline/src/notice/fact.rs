//! What a notice tells of a breaker, read back from its detail.

use std::cmp::Reverse;

use reputation::breaker::Cause;
use reputation::detect::Level;
use reputation::time::Now;
use serde::{Deserialize, Serialize};

use super::Notice;
use super::headline::state_word;
use crate::ports::Said;
/// What one notice tells of one breaker. Strings as in [`super::ReportedTransition`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Fact {
    /// Name of the notice.
    pub(crate) id: String,
    /// Title of the notice.
    pub(crate) title: String,
    pub(crate) subject: String,
    pub(crate) isp: Option<String>,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) level: Option<String>,
    pub(crate) metric: Option<String>,
    pub(crate) rule: Option<String>,
    pub(crate) population: Option<u64>,
    pub(crate) bad: Option<u64>,
    pub(crate) cohorts: Option<[String; 2]>,
    pub(crate) shadow: bool,
    pub(crate) reason: String,
    pub(crate) by: Option<String>,
    pub(crate) said: Option<String>,
    pub(crate) controls: Vec<String>,
    pub(crate) cause: Cause,
    pub(crate) until: Option<String>,
    pub(crate) hold: String,
    /// Whether an application asks the gate.
    pub(crate) gate: bool,
    /// Others that may report the same harm.
    pub(crate) shares_mail_with: Vec<String>,
}

impl Fact {
    /// The fact that a notice tells; `None` if it tells of something else than a breaker.
    pub(crate) fn of(notice: &Notice) -> Option<Fact> {
        if notice.kind != Notice::TRANSITION {
            return None;
        }
        let fact: Fact = serde_json::from_str(&notice.detail).ok()?;
        Some(Fact { id: notice.id.clone(), title: notice.title.clone(), ..fact })
    }

    /// Whose breaker, as people write it: see [`super::key_name`].
    pub(crate) fn key(&self) -> String {
        match &self.isp {
            None => self.subject.clone(),
            Some(isp) => format!("{}@{isp}", self.subject),
        }
    }

    /// When it was.
    pub(crate) fn at(&self) -> Now {
        super::time_of(&self.id)
    }

    /// Why, in words, with whoever said so.
    pub(crate) fn why(&self) -> String {
        let said = self.by.as_ref().map(|by| Said { by: by.clone(), why: self.said.clone() });
        said.map_or_else(|| self.reason.clone(), |said| format!("{} ({said})", self.reason))
    }

    /// The move in words.
    pub(crate) fn moved(&self) -> String {
        let (from, to) = (state_word(&self.from, self.gate), state_word(&self.to, self.gate));
        if self.from == self.to { to.to_owned() } else { format!("from {from} to {to}") }
    }

    /// Whether mail is stopped by it: by SES, or by the gate.
    pub(crate) fn stops(&self) -> bool {
        let by_ses = |control: &String| {
            let kind = control.split(' ').next().unwrap_or_default();
            matches!(kind, "pause_configuration_set" | "pause_tenant" | "pause_account")
        };
        self.to == "open" && !self.shadow && (self.gate || self.controls.iter().any(by_ses))
    }

    /// Whether it may be about the same harm as something about `key`, by whose mail it is.
    pub(crate) fn shares_mail_with(&self, key: &str) -> bool {
        self.isp.is_none() && self.shares_mail_with.iter().any(|other| other == key)
    }

    /// Whether a verdict moved it, and other configuration sets send for the same identity: they may follow within seconds.
    pub(crate) fn may_be_followed(&self) -> bool {
        let is_set = |name: &str| name.starts_with("configuration-set:");
        self.level.is_some()
            && self.cause == Cause::Verdict
            && is_set(&self.subject)
            && self.shares_mail_with.iter().any(|other| is_set(other))
    }

    /// What it is to people who are told: a second one of the same standing is no news.
    pub(crate) fn standing(&self) -> String {
        let metric = if self.from == self.to { self.metric.as_deref() } else { None };
        let parts = [self.level.as_deref(), metric, Some("shadow").filter(|_| self.shadow)];
        parts.into_iter().flatten().fold(self.to.clone(), |standing, part| format!("{standing} {part}"))
    }

    /// Whether something has stopped that flowed.
    pub(crate) fn is_pause(&self) -> bool {
        self.to == "open" && self.from != "open"
    }

    /// Whether a pause was called for, and withheld because the hour's pauses were used up.
    pub(crate) fn is_withheld(&self) -> bool {
        self.level.as_deref() == Some(Level::Pause.name()) && self.to == "throttled"
    }

    /// Whether it tells of harm.
    pub(crate) fn is_bad_news(&self) -> bool {
        self.level.is_some()
    }

    /// What the verdict behind it looked at; `None` without one.
    pub(crate) fn numbers(&self) -> Option<impl PartialEq + '_> {
        let looked_at = (self.metric.as_ref()?, self.rule.as_ref()?, self.population?, self.bad?);
        Some((looked_at, self.cohorts.as_ref()))
    }

    /// How bad it is: 0 for what is no harm, 3 for what is to be stopped. Without a gate a cut of the quota is a warning.
    pub(crate) fn severity(&self) -> u8 {
        match self.level.as_deref() {
            Some("pause") => 3,
            Some("throttle") if self.gate => 2,
            Some(_) => 1,
            None => 0,
        }
    }

    /// Which fact a message is about, if it tells of several: the smallest. An ISP's own trouble explains all that it goes
    /// with; else the worst counts, and of the same things the wider one.
    pub(crate) fn lead(&self) -> impl Ord + use<> {
        let kind = self.subject.split(':').next().unwrap_or_default();
        let order = ["account", "configuration-set", "tenant", "identity", "tag"];
        let kind = order.iter().position(|known| *known == kind).unwrap_or(order.len());
        (self.cause != Cause::Incident, Reverse(self.severity()), kind, self.isp.is_some(), self.id.clone())
    }
}
