//! Why there is no answer.

use std::sync::Arc;

use gate_api::{ErrorCode, MAX_MAILS};

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
    #[error("{mails} mails asked for at once; the gate answers for 1 to {} at a time", MAX_MAILS)]
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
    /// Which problem; [`ErrorCode::Unknown`] if the answer was not a problem document of the gate.
    pub kind: ErrorCode,
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
