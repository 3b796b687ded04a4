//! Ports: what the relay depends on, and what it exchanges with it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use permits::Class;

/// What a port will answer.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whose mail it is: each pair has quotas of its own at the gate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// The configuration set that the mail asks for.
    pub set: String,
    /// The domain of `From`.
    pub identity: String,
}

/// Never shows the domain.
impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender of {}", self.set)
    }
}

/// The port to the gate.
pub trait Permitting: Send + Sync + 'static {
    /// Asks whether `mails` mails may go to a domain now. Fewer may be granted than asked for, and at least one.
    fn take<'a>(
        &'a self,
        sender: &'a Sender,
        domain: &'a str,
        mails: u64,
        class: Class,
    ) -> Pending<'a, Result<Permission, NoPermission>>;
}

/// The gate's answer.
#[derive(Debug)]
pub enum Permission {
    /// They may go.
    Granted(Granted),
    /// They may not go now.
    Wait(Deferral),
}

/// Mails that may go now.
pub struct Granted {
    /// The configuration set to send them with.
    pub route: Arc<str>,
    /// How many; at least 1.
    pub mails: u64,
    /// The ISP, if it is known.
    pub isp: Option<Arc<str>>,
    /// Whether the gate could not be asked, or could not read its state.
    pub degraded: bool,
    /// What puts them back.
    pub lease: Box<dyn Lease>,
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mails by {}", self.mails, self.route)
    }
}

/// A grant. If it is dropped, its mails count as sent.
pub trait Lease: Send {
    /// Puts its mails back: none was accepted by SES.
    fn put_back(self: Box<Self>);
}

/// When to ask again, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// How long from now.
    pub retry_after: Duration,
    /// The ISP, if it is known.
    pub isp: Option<Arc<str>>,
    /// What limits it, for people: no address and no domain.
    pub reason: String,
}

/// Why the gate gives no answer about mail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPermission {
    /// The request as such is wrong: the gate does not know the configuration set, or a domain is malformed. The same
    /// request is refused again.
    #[error("{0}")]
    Refused(String),
    /// The relay may not call the gate, is full, or is closing. The same request may be answered later.
    #[error("{0}")]
    Unavailable(String),
}

/// The port to SES.
pub trait Ses: Send + Sync + 'static {
    /// Posts a request, signed, and returns the answer, whatever its status.
    fn send(&self, call: Call) -> Pending<'_, Result<Response<Bytes>, NotAnswered>>;
}

/// A request to SES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `/`, or `/v2/email/…`.
    pub path: &'static str,
    /// The type of the body, as the caller gave it.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// Why SES gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnswered {
    /// Nothing was sent: the mail has not gone.
    #[error("SES was not reached: {0}")]
    NotSent(String),
    /// The mail may have gone or not.
    #[error("no answer came from SES: {0}")]
    Unclear(String),
}
