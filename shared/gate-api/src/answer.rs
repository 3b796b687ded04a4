//! What the gate answers with status 200.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The answer to a [`PermitsRequest`](crate::PermitsRequest).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permits {
    /// The name of the request that is answered. The gate of this release leaves it out; a client that gets it checks
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The configuration set that was asked for.
    #[serde(default)]
    pub configuration_set: String,
    /// The date whose quota it is (`2026-11-21`), where days begin as the policy says.
    #[serde(default)]
    pub day: String,
    /// Why some permits are not counted, if so; for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// One for each ISP.
    pub permits: Vec<Permit>,
}

/// What may go to one ISP: `granted`, `overflow`, the mails of `schedule` and `deferred` add up to `asked`. When a request
/// is repeated, what has expired is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permit {
    /// Name of the ISP.
    pub isp: String,
    /// The domains of the request that it receives for, as they were given.
    pub domains: Vec<String>,
    /// Mails asked for.
    pub asked: u64,
    /// Mails that may go now by `route`.
    pub granted: u64,
    /// Mails that may go later by `route`, and when; in order. Empty unless the request asks for a schedule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Slot>,
    /// The configuration set to name in `SendEmail`; `None` if nothing is granted or scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// What gives back what is not sent; `None` if nothing is granted or scheduled, or it is not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// Until when what is granted may be sent, or given back: RFC 3339. With a schedule this is
    /// the end of its last slot; what is granted now is to be sent as soon as without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The same in seconds from now. The gate of this release leaves it out; a client that gets it prefers it, because
    /// it depends on no clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
    /// Mails that may go now by `overflow_route`.
    pub overflow: u64,
    /// The configuration set for those; `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow_route: Option<String>,
    /// Mails that may not go now.
    pub deferred: u64,
    /// After how many seconds to ask for those again; `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    /// What limits it; `None` if all was granted by `route`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// The same in words, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Mails that may go from a time on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// How many.
    pub mails: u64,
    /// From when on, RFC 3339; within the time of a lease from then.
    pub at: String,
    /// The same in seconds from now, which depends on no clock.
    pub after_seconds: u64,
}

/// What limits a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The day's quota has been granted.
    Quota,
    /// More of the quota becomes available later that day.
    Pace,
    /// A breaker lets only a share through.
    Throttled,
    /// A breaker lets nothing through.
    Stopped,
    /// It would be granted, but SES accepts no mail with this configuration set, and no other route is named or sends.
    NoRoute,
    /// What was granted under the name of this request has expired.
    LeaseExpired,
    /// The quota cannot be read, and the policy says that mail of this class waits then.
    Unreadable,
    /// A code of a later release, or none.
    #[serde(other)]
    Unknown,
}

impl Limit {
    /// All that this release answers.
    pub const ALL: [Limit; 7] = [
        Limit::Quota,
        Limit::Pace,
        Limit::Throttled,
        Limit::Stopped,
        Limit::NoRoute,
        Limit::LeaseExpired,
        Limit::Unreadable,
    ];

    /// Stable name, as in answers.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Quota => "quota",
            Limit::Pace => "pace",
            Limit::Throttled => "throttled",
            Limit::Stopped => "stopped",
            Limit::NoRoute => "no-route",
            Limit::LeaseExpired => "lease-expired",
            Limit::Unreadable => "unreadable",
            Limit::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The answer to a [`ReturnRequest`](crate::ReturnRequest).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// Mails that may be granted again.
    pub returned: u64,
}

/// The answer at [`QUOTAS_PATH`](crate::QUOTAS_PATH).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quotas {
    /// Today's date (`2026-11-21`), where days begin as the policy says.
    pub day: String,
    /// The time zone in which days begin.
    pub zone: String,
    /// By configuration set.
    pub sets: Vec<SetQuotas>,
}

/// The quotas of a configuration set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetQuotas {
    /// Its name.
    pub configuration_set: String,
    /// Mails a day at each ISP at which it is warmed up.
    pub target: u64,
    /// At each ISP that has one, by name. Any other begins when it is first asked about.
    pub quotas: Vec<Quota>,
}

/// A quota at one ISP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    /// Name of the ISP.
    pub isp: String,
    /// The date whose quota it is. If it is past, nothing was asked for since: the next request begins today.
    pub day: String,
    /// Mails of that day.
    pub quota: u64,
    /// Mails granted on that day and not given back; more than the quota if a person has lowered it since.
    pub granted: u64,
    /// Of the quota, mails that only critical mail may use.
    pub reserve: u64,
    /// The share that the breakers of the configuration set and of the account let through now, 0 to 1.
    pub share: f64,
    /// What led to it, in one word: a step from the day before, or a person (`set`).
    pub step: String,
    /// The same in words, for people.
    pub reason: String,
}

/// The answer at [`HEALTH_PATH`](crate::HEALTH_PATH).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// A gate that is not well answers with a [`Problem`](crate::Problem).
    pub status: HealthStatus,
    /// Version of the policy in use; 0 is the default.
    pub policy_version: u64,
}

/// How the gate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Policy and tables can be read.
    Ok,
}
