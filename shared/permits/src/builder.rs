//! How a client is set up.

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use gate_api::Class;
use tokio::runtime::Handle;

use crate::client::PermitClient;
use crate::gate::Gate;
use crate::http::{ConnectError, HttpGate};
use crate::permits::Permits;
use crate::pool::LeaseSize;
use crate::settings::{Settings, Unreachable};

/// Sets up a client: what it asks for, how large its leases are, and what it does when the gate does not answer.
#[derive(Clone, Debug)]
pub struct Builder {
    settings: Settings,
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Leases are kept by tasks: the client is made inside the tokio runtime that it runs on.
    #[error("no tokio runtime is here; make the client inside one, for example in `#[tokio::main]`")]
    NoRuntime,
    /// The gate cannot be called over HTTP.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl Permits {
    /// A client for mail from one identity (the domain in `From`) by one configuration set that asks the gate.
    pub fn builder(configuration_set: impl Into<String>, identity: impl Into<String>) -> Builder {
        Builder { settings: Settings::new(configuration_set.into(), identity.into()) }
    }
}

impl Builder {
    /// What to answer while the gate cannot be reached. By default bulk mail waits ([`Unreachable::Closed`]) and
    /// critical mail goes ([`Unreachable::Open`]), as the gate itself does when it cannot read its state.
    pub fn when_unreachable(mut self, class: Class, answer: Unreachable) -> Builder {
        self.settings.when_unreachable[class as usize] = answer;
        self
    }

    /// How many mails to ask for at once: as many as are sent in the time `lasts` at the recent pace, between `least`
    /// and `most`. Larger leases make fewer calls, and keep more of the quota from other senders until they are given
    /// back. Default: 10 to 10,000 mails, 5 seconds.
    pub fn lease_size(mut self, least: u64, most: u64, lasts: Duration) -> Builder {
        self.settings.lease = LeaseSize { least: least.max(1), most: most.max(1), lasts };
        self
    }

    /// How long before its end a lease is no longer used and is given back, at most a quarter of its life. Set it to
    /// the longest time that a mail takes from its permit until SES has it. Default: 5 seconds.
    pub fn margin(mut self, margin: Duration) -> Builder {
        self.settings.margin = margin;
        self
    }

    /// How long one attempt to call the gate may take (3 seconds), and how many are made (3, at least 1), with pauses
    /// of up to 0.1, 0.2, 0.4 … seconds between them.
    pub fn attempts(mut self, attempts: u32, timeout: Duration) -> Builder {
        self.settings.attempts = attempts.max(1);
        self.settings.timeout = timeout;
        self
    }

    /// How long the gate is not called after all attempts of a call have failed: twice as long each time, from
    /// `shortest` to `longest`. Default: 1 to 30 seconds.
    pub fn rest(mut self, shortest: Duration, longest: Duration) -> Builder {
        self.settings.rest = (shortest, longest);
        self
    }

    /// For how many domains the client remembers the ISP; each takes about 50 bytes. Default: 100,000.
    pub fn known_domains(mut self, most: usize) -> Builder {
        self.settings.most_domains = most;
        self
    }

    /// Where random numbers come from, if not from the operating system: for simulations. They must never repeat, not
    /// even in another process: two clients whose requests have the same name would share one lease. `None`: no random
    /// number is available now.
    pub fn random(mut self, random: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Builder {
        self.settings.random = Arc::new(random);
        self
    }

    /// A client that calls the gate at its Function URL, signed with the credentials and for the Region of a
    /// configuration. Nothing is called yet.
    ///
    /// # Errors
    ///
    /// See [`BuildError`].
    pub fn connect(self, gate_url: &str, config: &SdkConfig) -> Result<Permits, BuildError> {
        let gate = HttpGate::new(gate_url, config)?;
        self.over(gate)
    }

    /// A client over another way to the gate.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoRuntime`].
    pub fn over(self, gate: impl Gate) -> Result<Permits, BuildError> {
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        Ok(Permits::new(PermitClient::new(self.settings, Box::new(gate), runtime)))
    }
}
