//! The port to the gate: other HTTP clients and tests implement it.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::SystemTime;

use bytes::Bytes;

/// Carries requests to the gate. [`HttpGate`](crate::HttpGate) does it over HTTP with signatures.
///
/// Does no time-outs and no retries: the client does. A call whose future is dropped may still have reached the gate.
pub trait Gate: Send + Sync + Debug + 'static {
    /// Posts a JSON document to a path (`/v1/permits`), and returns the answer, whatever its status.
    ///
    /// # Errors
    ///
    /// There was no answer; the gate may or may not have been reached.
    fn post<'a>(&'a self, path: &'static str, body: Bytes) -> Reply<'a>;
}

/// What a gate will answer.
pub type Reply<'a> = Pin<Box<dyn Future<Output = Result<Answer, NoAnswer>> + Send + 'a>>;

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The server's time as in its `Date` header, if there is one. Times in the answer are relative to it, not to the
    /// clock of this machine.
    pub date: Option<SystemTime>,
    /// The body: a JSON document, if the gate itself answered.
    pub body: Bytes,
}

/// Why there was no answer, in words: a lowercase fragment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);
