//! The ledger: which units were seen.

use reputation::unit::Unit;

use super::PortError;
use crate::senders::Senders;

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
