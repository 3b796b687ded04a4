//! Answers that mail may not go now.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// When to ask again, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How long from now; more than zero.
    pub retry_after: Duration,
    /// The ISP; `None` if it is not known.
    pub isp: Option<Arc<str>>,
    /// What limits it.
    pub limit: Limit,
    /// The same for people.
    pub reason: Arc<str>,
    /// Whether it was answered without the state of the quotas: the gate cannot be reached, or cannot read it.
    pub degraded: bool,
}

/// What limits a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The gate's answer: exported as `GateLimit`.
    Gate(gate_api::Limit),
    /// The gate cannot be reached.
    Unreachable,
    /// Other callers were faster each time.
    Busy,
}

/// Its stable name: that of the gate's answer, `unreachable` or `busy`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Gate(limit) => limit.name(),
            Limit::Unreachable => "unreachable",
            Limit::Busy => "busy",
        })
    }
}
