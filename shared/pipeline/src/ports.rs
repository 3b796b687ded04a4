//! Ports: the traits that the use cases depend on, and the types they exchange.
//!
//! Two more are beside the texts that only they exchange: [`Outbox`](crate::notice::Outbox) and
//! [`Alerts`](crate::notice::Alerts).

mod breakers;
mod dedicated_ips;
mod ledger;
mod quotas;
mod schedule;
mod sending;

pub use breakers::{
    Board, Change, Committed, MAX_SHARING, PlaceChange, Relative, Reputation, Saved, SubjectState, Versioned,
    may_share_mail_with,
};
pub use dedicated_ips::{DedicatedIps, WarmupPercentage};
pub use ledger::{Ledger, Unrecorded};
pub use quotas::{Quota, Quotas, Spent};
pub use schedule::{Schedule, Sweep, SweepProgress};
pub use sending::{
    ControlError, DesiredState, DesiredStates, Doubt, FailedCalls, Mark, OtherStack, Seen, SendingControl, Sight,
};

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
