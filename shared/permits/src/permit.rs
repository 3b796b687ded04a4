//! What a client answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::{Answered, PermitClient};
use crate::pool::{PooledLease, Terms};
use crate::wait::Wait;

/// An answer about some mails to one domain.
#[derive(Debug)]
pub enum Permit {
    /// They may go now, by the configuration set that [`Grant::route`] names.
    Send(Grant),
    /// They may go now, by the overflow set that [`Grant::route`] names: the ISP's quota is used up, and its ramp still
    /// young.
    Overflow(Grant),
    /// They may not go now.
    Wait(Wait),
}

/// Mails that may go now, all under one lease.
///
/// **A dropped grant counts as used**: a forgotten line of code must not let a second mail go under the permit of a
/// mail that was sent. What SES has not accepted is put back with [`Grant::unused`] or [`Grant::put_back`].
#[must_use = "mails that are not sent should be put back with `unused()`"]
#[derive(Debug)]
pub struct Grant {
    client: Arc<PermitClient>,
    terms: Arc<Terms>,
    mails: u64,
}

impl Permit {
    pub(crate) fn of(client: &Arc<PermitClient>, answered: Answered) -> Permit {
        match answered {
            Answered::Taken(PooledLease { terms, left: mails }) => {
                let grant = Grant { client: Arc::clone(client), terms, mails };
                if grant.terms.overflow { Permit::Overflow(grant) } else { Permit::Send(grant) }
            }
            Answered::Wait(wait) => Permit::Wait(wait),
        }
    }
}

impl Grant {
    /// The configuration set to name in SendEmail. Not always the one that was asked for: overflow and critical mail
    /// may go elsewhere.
    pub fn route(&self) -> &str {
        &self.terms.route
    }

    /// How many mails; at least 1, at most as many as were asked for, and fewer if a lease had no more. The others are
    /// asked for again.
    pub fn mails(&self) -> u64 {
        self.mails
    }

    /// The ISP; `None` if the gate could not be asked.
    pub fn isp(&self) -> Option<&str> {
        self.terms.place.as_ref().map(|place| &*place.name)
    }

    /// The lease they are taken from, opaque; `None` for overflow and for degraded answers.
    pub fn lease(&self) -> Option<&str> {
        self.terms.lease.as_deref()
    }

    /// Whether it was answered without the state of the quotas: the gate cannot be reached, or cannot read it.
    pub fn degraded(&self) -> bool {
        self.terms.degraded
    }

    /// How long from now they may still be sent.
    pub fn time_left(&self) -> Duration {
        self.terms.expires.saturating_duration_since(Instant::now())
    }

    /// Puts all its mails back: none was accepted by SES.
    pub fn unused(mut self) {
        self.put_back(self.mails);
    }

    /// Puts some of its mails back (as many as it has, if it has fewer): they were not accepted by SES. Where an error
    /// leaves open whether a mail was accepted, a timeout for instance, do not.
    ///
    /// Returns how many can be taken again: none if the lease has been given back meanwhile. Then they are lost, and
    /// cost the day's quota as much as mails that were sent.
    pub fn put_back(&mut self, mails: u64) -> u64 {
        let mails = mails.min(self.mails);
        self.mails -= mails;
        self.client.put_back(&self.terms, mails)
    }
}
