//! The warm-up percentages of dedicated IPs.

use std::net::IpAddr;

use super::ControlError;

/// How far an IP is warmed up, according to SES.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmupPercentage {
    /// The percentage.
    Percent(u8),
    /// SES manages it by itself.
    Managed,
}

/// The dedicated IPs of the account.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait DedicatedIps {
    /// How far an IP is warmed up.
    ///
    /// # Errors
    ///
    /// See [`ControlError`]; [`ControlError::Gone`] if the IP does not belong to this account.
    async fn warmth(&mut self, ip: IpAddr) -> Result<WarmupPercentage, ControlError>;

    /// Sets the warm-up percentage of an IP.
    ///
    /// # Errors
    ///
    /// See [`ControlError`]. It may or may not have been set: setting it again is safe.
    async fn set_warmth(&mut self, ip: IpAddr, percent: u8) -> Result<(), ControlError>;
}
