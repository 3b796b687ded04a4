//! What a function does around its work: where it takes time and chance from, and how it begins.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reputation::time::Now;

use crate::clients::Clients;
use crate::config::{self, ConfigError};
use crate::log;

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "a function takes its time from here")]
pub fn now() -> Now {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// Bits that cannot be predicted; where the system has none, those of its clock, which differ each time.
#[expect(clippy::disallowed_methods, reason = "a function takes its time from here")]
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since_1970.as_nanos() as u64
    })
}

/// A function ends an invocation this long before Lambda would stop it.
const MARGIN: Duration = Duration::from_secs(10);

/// Time that is left to an invocation that Lambda stops at `deadline`, less a margin.
#[expect(clippy::disallowed_methods, reason = "a function takes its time from here")]
pub fn time_left(deadline: SystemTime) -> Duration {
    deadline.duration_since(SystemTime::now()).unwrap_or_default().saturating_sub(MARGIN)
}

/// The first step of every function: logging, then the clients. Nothing is sent yet.
pub async fn start() -> Clients {
    log::init(config::optional("LOG_LEVEL").ok().flatten().as_deref());
    tracing::info!(release = env!("CARGO_PKG_VERSION"), "started");
    Clients::load().await
}

/// Logs why a function cannot start, and returns it for Lambda.
pub fn cannot_start(error: &ConfigError) -> Box<dyn Error + Send + Sync> {
    tracing::error!(%error, "cannot start");
    Box::from(error.to_string())
}

/// Whether an application asks the gate: the stack's parameter `GateInUse`.
///
/// # Errors
///
/// Names the variable and what it holds.
pub fn gate_in_use() -> Result<bool, ConfigError> {
    config::flag("GATE_IN_USE")
}
