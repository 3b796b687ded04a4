//! Quotas and what was granted of them.

use std::collections::BTreeMap;

use reputation::isp::Isp;
use reputation::permit::{Lease, LeaseId, Meter, Spend};
use reputation::time::Now;
use reputation::warmup::Ramp;

use super::{PortError, Saved};

/// Today's quota of a configuration set at an ISP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The ramp.
    pub ramp: Ramp,
    /// The meter: what was granted of its quota.
    pub meter: Meter,
    /// The remembered leases that may still be given back.
    pub leases: Vec<Lease>,
}

/// The result of a spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spent {
    /// It was granted; the quota after it.
    Granted(Quota),
    /// A condition did not hold, or the same lease was granted before; the current quota. `None`: there is no quota.
    Refused(Option<Quota>),
}

/// Stores quotas. Calls about several quotas may run at the same time.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Quotas {
    /// The current quota of a configuration set at one ISP; `None` if it has none yet.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn quota(&self, set: &str, isp: Isp) -> Result<Option<Quota>, PortError>;

    /// All quotas of a configuration set.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn quotas(&self, set: &str) -> Result<BTreeMap<Isp, Quota>, PortError>;

    /// Replaces the day `old` with `new`, if the stored ramp and meter are exactly those of `old`, so that no grant is
    /// lost.
    ///
    /// # Errors
    ///
    /// It may or may not have been replaced: read it again.
    async fn open(&self, set: &str, isp: Isp, old: Option<&Quota>, new: &Quota) -> Result<Saved, PortError>;

    /// Replaces the ramp `old` with `new`, which is of the same day, if day, quota and step are those of `old`. What was granted
    /// of it, and its leases, stay; what the last request wanted is forgotten ([`Meter::short`]).
    ///
    /// # Errors
    ///
    /// It may or may not have been replaced: read it again.
    async fn set(&self, set: &str, isp: Isp, old: &Ramp, new: &Ramp) -> Result<Saved, PortError>;

    /// Grants a spend under a lease, if all its conditions hold, and there is no lease of the same name. Also removes the leases named in `forgotten`.
    ///
    /// # Errors
    ///
    /// It may or may not have been granted: repeating it with the same lease grants it once.
    async fn spend(
        &self,
        set: &str,
        isp: Isp,
        spend: &Spend,
        lease: &Lease,
        forgotten: &[LeaseId],
    ) -> Result<Spent, PortError>;

    /// Takes back a lease of which `unused` mails were not sent by `now`, if it is the lease that was granted, and its day is not
    /// over. Returns whether it did.
    ///
    /// # Errors
    ///
    /// It may or may not have been taken back: repeating it takes it back once.
    async fn take_back(&self, set: &str, isp: Isp, lease: &Lease, unused: u64, now: Now) -> Result<bool, PortError>;
}
