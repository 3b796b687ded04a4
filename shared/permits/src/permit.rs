//! Requests to the client, and its answers.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::client::PermitClient;

/// How urgent mail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// It can wait.
    Bulk,
    /// A person waits for it, for example for a code or a password. It has a reserve of its own, and should be a small
    /// share of the mail.
    Critical,
}

impl Class {
    /// Both.
    pub const ALL: [Class; 2] = [Class::Bulk, Class::Critical];

    /// Stable name, as in requests.
    pub fn name(self) -> &'static str {
        match self {
            Class::Bulk => "bulk",
            Class::Critical => "critical",
        }
    }
}

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

/// When to ask again, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How long from now; more than zero.
    pub retry_after: Duration,
    /// The ISP; `None` if it is not known.
    pub isp: Option<Arc<str>>,
    /// What limits it: `quota`, `pace`, `throttled`, `stopped`, `no-route` or `unreadable` from the gate,
    /// `unreachable`, or `busy` if other callers were faster each time.
    pub limit: Arc<str>,
    /// The same for people.
    pub reason: Arc<str>,
    /// Whether it was answered without the state of the quotas: the gate cannot be reached, or cannot read it.
    pub degraded: bool,
}

/// The terms of a lease, or of an answer without one.
#[derive(Debug)]
pub(crate) struct Terms {
    /// `None` if the gate could not be asked.
    pub(crate) place: Option<Place>,
    pub(crate) route: Arc<str>,
    /// `None` if there is nothing to give back.
    pub(crate) lease: Option<Arc<str>>,
    /// Until when mails are let go under it.
    pub(crate) until: Instant,
    /// Until when it can be given back.
    pub(crate) expires: Instant,
    pub(crate) overflow: bool,
    pub(crate) degraded: bool,
}

/// Which pool: an ISP and a class.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) isp: usize,
    pub(crate) name: Arc<str>,
    pub(crate) class: Class,
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

impl Grant {
    pub(crate) fn new(client: Arc<PermitClient>, terms: Arc<Terms>, mails: u64) -> Grant {
        Grant { client, terms, mails }
    }

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

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a domain: the text that was given, or what follows its last `@`.
    #[error("`{domain}` is not a domain: {why}")]
    Domain {
        /// The domain, as it was given.
        domain: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Too few or too many mails at once.
    #[error("{mails} mails asked for at once; the gate answers for 1 to {} at a time", crate::wire::MAX_MAILS)]
    Mails {
        /// How many.
        mails: u64,
    },
    /// The gate refuses the request because of its content: a configuration set that it does not know, a malformed
    /// domain, or no permission to invoke it. Asking again does not help.
    #[error("the gate refused with {0}")]
    Refused(Arc<Problem>),
    /// [`Permits::close`](crate::Permits::close) was called.
    #[error("the client was closed: mails are let go only by one that is open")]
    Closed,
}

/// A problem that the gate reports (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Which problem: `/problems/unknown-configuration-set`, for instance; empty if the answer was not a problem
    /// document.
    pub kind: String,
    /// What is wrong, with values, and what to do about it.
    pub detail: String,
    /// A JSON pointer to what is wrong in the request, if there is one.
    pub field: Option<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP {}: {}", self.status, self.detail)?;
        match &self.field {
            Some(field) => write!(f, " (at {field})"),
            None => Ok(()),
        }
    }
}
