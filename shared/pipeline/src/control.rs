//! Controls: the changes at SES and of quotas that a breaker asks for, and which effect of a breaker asks for which.

use std::fmt;
use std::str::FromStr;

use reputation::breaker::{Effect, Factor};
use reputation::isp::{Isp, IspMap};
use reputation::subject::{Key, Subject};
use reputation::time::Now;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::wording::key_name;

/// Whether mail flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// SES accepts mail.
    Flowing,
    /// SES refuses mail.
    Stopped,
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

/// Whether SES has a switch for a key: for a configuration set, a tenant and the account, each at all ISPs.
pub fn stops_at_ses(key: &Key) -> bool {
    control(key, Effect::Stop).and_then(ControlKind::at_ses) == Some(Flow::Stopped)
}

/// Which control carries out an effect for a key. SES can pause a configuration set, a tenant and the account;
/// everything else is done by the gate, through the quota.
pub(crate) fn control(key: &Key, effect: Effect) -> Option<ControlKind> {
    let whole = key.isp.is_none();
    match (&key.subject, effect) {
        (Subject::Account, Effect::Stop) if !whole => Some(ControlKind::HoldIsp),
        (Subject::Account, Effect::Resume) if !whole => Some(ControlKind::ReleaseIsp),
        (Subject::Account, Effect::SetFactor(_)) if !whole => None,
        (Subject::Account, Effect::Stop) => Some(ControlKind::PauseAccount),
        (Subject::Account, Effect::Resume) => Some(ControlKind::ResumeAccount),
        (Subject::ConfigurationSet(name), Effect::Stop) if whole && **name != *Subject::UNTAGGED => {
            Some(ControlKind::PauseConfigurationSet)
        }
        (Subject::ConfigurationSet(name), Effect::Resume) if whole && **name != *Subject::UNTAGGED => {
            Some(ControlKind::ResumeConfigurationSet)
        }
        (Subject::Tenant(_), Effect::Stop) if whole => Some(ControlKind::PauseTenant),
        (Subject::Tenant(_), Effect::Resume) if whole => Some(ControlKind::ResumeTenant),
        (_, Effect::SetFactor(factor)) => Some(ControlKind::SetQuotaFactor(factor)),
        (_, Effect::Stop) => Some(ControlKind::SetQuotaFactor(Factor::NONE)),
        (_, Effect::Resume) => None,
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
    /// Records a control.
    pub fn of(control: &Control, isps: &IspMap) -> ControlRecord {
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
