//! Facts: the content of a notice about a breaker.

use std::cmp::Reverse;
use std::ops::Deref;

use reputation::Metric;
use reputation::breaker::{Cause, StateName};
use reputation::detect::Level;
use reputation::subject::Subject;
use reputation::time::Now;
use serde::{Deserialize, Serialize};

use super::Notice;
use crate::control::Flow;
use crate::transition::TransitionDetail;

/// The content of one notice about one breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fact {
    /// Name of the notice.
    pub(crate) id: String,
    /// Title of the notice.
    pub(crate) title: String,
    /// Its detail.
    #[serde(flatten)]
    pub(crate) detail: TransitionDetail,
}

impl Deref for Fact {
    type Target = TransitionDetail;

    fn deref(&self) -> &TransitionDetail {
        &self.detail
    }
}

impl Fact {
    /// The fact in a notice; `None` if it is not about a breaker, or if this release cannot read it.
    pub(crate) fn of(notice: &Notice) -> Option<Fact> {
        if notice.kind != Notice::TRANSITION {
            return None;
        }
        let detail = serde_json::from_str(&notice.detail).ok()?;
        Some(Fact { id: notice.id.clone(), title: notice.title.clone(), detail })
    }

    /// When it was.
    pub(crate) fn at(&self) -> Now {
        super::time_of(&self.id)
    }

    /// The ISP, if the fact is about the ISP itself and all its senders: `gmail`.
    pub(crate) fn whole_isp(&self) -> Option<&str> {
        self.isp.as_deref().filter(|_| self.subject == Subject::Account)
    }

    /// The move in words.
    pub(crate) fn moved(&self) -> String {
        let (from, to) = (self.from.word(self.gate), self.to.word(self.gate));
        if self.from == self.to { to.to_owned() } else { format!("from {from} to {to}") }
    }

    /// Whether mail is stopped by it: by SES, or by the gate.
    pub(crate) fn stops(&self) -> bool {
        let by_ses = self.controls.iter().any(|control| control.kind.at_ses() == Some(Flow::Stopped));
        self.to == StateName::Open && !self.shadow && (self.gate || by_ses)
    }

    /// Whether its subject shares mail with `key`, so that both may be about the same harm.
    pub(crate) fn shares_mail_with(&self, key: &str) -> bool {
        self.isp.is_none() && self.shares_mail_with.iter().any(|other| other.to_string() == key)
    }

    /// Whether it says that the harm of an identity is left to configuration sets of its own, and nothing else happened.
    pub(crate) fn is_left_to_sets(&self) -> bool {
        self.cause == Cause::Pardon && self.from == self.to && !self.shares_mail_with.is_empty()
    }

    /// Whether a verdict moved it, and other configuration sets send for the same identity: they may follow within seconds.
    pub(crate) fn may_be_followed(&self) -> bool {
        let is_set = |subject: &Subject| matches!(subject, Subject::ConfigurationSet(_));
        self.level.is_some()
            && self.cause == Cause::Verdict
            && is_set(&self.subject)
            && self.shares_mail_with.iter().any(is_set)
    }

    /// Its standing, as people see it: a second fact with the same standing is not news.
    pub(crate) fn standing(&self) -> String {
        let metric = self.metric.filter(|_| self.from == self.to);
        let parts = [self.level.map(Level::name), metric.map(Metric::name), Some("shadow").filter(|_| self.shadow)];
        parts.into_iter().flatten().fold(self.to.to_string(), |standing, part| format!("{standing} {part}"))
    }

    /// Whether a pause was called for, and withheld because the hour's budget of pauses was used up.
    pub(crate) fn is_withheld(&self) -> bool {
        self.level == Some(Level::Pause) && self.to == StateName::Throttled
    }

    /// Whether it reports harm.
    pub(crate) fn is_bad_news(&self) -> bool {
        self.level.is_some()
    }

    /// The numbers of its verdict; `None` without a verdict.
    pub(crate) fn numbers(&self) -> Option<impl PartialEq + use<>> {
        let looked_at = (self.metric?, self.rule?, self.population?, self.bad?);
        Some((looked_at, self.cohorts))
    }

    /// How bad it is: 0 for no harm, 3 for harm that calls for a stop. Without a gate a cut of the quota is a warning.
    pub(crate) fn severity(&self) -> u8 {
        match self.level {
            Some(Level::Pause) => 3,
            Some(Level::Throttle) if self.gate => 2,
            Some(Level::Throttle | Level::Warn) => 1,
            None => 0,
        }
    }

    /// The sort key that selects the leading fact of a message about several: the smallest leads. An ISP's own trouble
    /// explains all facts in its group; otherwise the worst fact leads, and of equal ones the wider one.
    pub(crate) fn lead(&self) -> impl Ord + use<> {
        let kind = match self.subject {
            Subject::Account => 0,
            Subject::ConfigurationSet(_) => 1,
            Subject::Tenant(_) => 2,
            Subject::Identity(_) => 3,
            Subject::Tag(..) => 4,
        };
        (self.cause != Cause::Incident, Reverse(self.severity()), kind, self.isp.is_some(), self.id.clone())
    }
}
