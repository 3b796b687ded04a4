//! The gate, as far as it can be reached: what other HTTP clients and tests stand in for.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::SystemTime;

use bytes::Bytes;

/// Carries requests to the gate. [`HttpGate`](crate::HttpGate) does it over HTTP with signatures.
///
/// Time-outs and retries are not its business. A call whose future is dropped may have reached the gate all the same.
pub trait Gate: Send + Sync + Debug + 'static {
    /// Posts a JSON document to a path (`/v1/permits`), and brings the answer, whatever its status.
    ///
    /// # Errors
    ///
    /// There was no answer; the gate may have been reached or not.
    fn post<'a>(&'a self, path: &'static str, body: Bytes) -> Reply<'a>;
}

/// What a gate will answer.
pub type Reply<'a> = Pin<Box<dyn Future<Output = Result<Answer, NoAnswer>> + Send + 'a>>;

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The server's time as in its `Date` header, if there is one. By it, and not by the clock of this machine, times
    /// in the answer are understood.
    pub date: Option<SystemTime>,
    /// A JSON document, if all is well.
    pub body: Bytes,
}

/// Why there was no answer, in words: a lowercase fragment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);
