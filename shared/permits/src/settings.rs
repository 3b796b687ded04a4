//! What a client is set up with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::pool::LeaseSize;

/// What to answer for a class of mail while the gate cannot be reached and no lease is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Fail closed: [`Permit::Wait`](crate::Permit::Wait), marked as degraded.
    Closed,
    /// Fail open: [`Permit::Send`](crate::Permit::Send) by the configuration set itself, marked as degraded. These
    /// mails are not counted anywhere.
    Open,
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) configuration_set: Arc<str>,
    pub(crate) identity: String,
    pub(crate) when_unreachable: [Unreachable; 2],
    pub(crate) lease: LeaseSize,
    pub(crate) margin: Duration,
    pub(crate) timeout: Duration,
    pub(crate) attempts: u32,
    pub(crate) rest: (Duration, Duration),
    pub(crate) most_domains: usize,
    pub(crate) random: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
}

impl Settings {
    pub(crate) fn new(configuration_set: String, identity: String) -> Settings {
        Settings {
            configuration_set: configuration_set.into(),
            identity,
            when_unreachable: [Unreachable::Closed, Unreachable::Open],
            lease: LeaseSize { least: 10, most: 10_000, lasts: Duration::from_secs(5) },
            margin: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            attempts: 3,
            rest: (Duration::from_secs(1), Duration::from_secs(30)),
            most_domains: 100_000,
            random: Arc::new(|| getrandom::u64().ok()),
        }
    }

    /// A random number; `None` if there are none.
    pub(crate) fn random_u64(&self) -> Option<u64> {
        (self.random)()
    }

    /// A random number from 0 to 1; 1 if there are none.
    pub(crate) fn jitter(&self) -> f64 {
        self.random_u64().map_or(1.0, |number| (number >> 11) as f64 / (1u64 << 53) as f64)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { configuration_set, identity, when_unreachable, lease, margin, timeout, attempts, rest, .. } =
            self;
        f.debug_struct("Settings")
            .field("configuration_set", configuration_set)
            .field("identity", identity)
            .field("when_unreachable", when_unreachable)
            .field("lease", lease)
            .field("margin", margin)
            .field("timeout", timeout)
            .field("attempts", attempts)
            .field("rest", rest)
            .finish_non_exhaustive()
    }
}
