//! Policies in files, checked without a stack.

use aws::policies::MAX_BYTES;
use reputation::policy::Policy;
use serde::Serialize;
use terminal::placed_once;

/// The result of checking a policy.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Name of the file.
    pub file: String,
    /// Whether it can be used.
    pub valid: bool,
    /// Why not.
    pub problem: Option<String>,
    /// What it means, if it is valid.
    #[serde(skip)]
    pub policy: Option<Box<Policy>>,
}

/// Checks a policy. Needs no stack.
pub fn check(file: &str, toml: &str) -> Checked {
    match validated(toml) {
        Ok(policy) => Checked { file: file.to_owned(), valid: true, problem: None, policy: Some(policy.into()) },
        Err(problem) => invalid(file, problem),
    }
}

/// The policy in a file.
///
/// # Errors
///
/// It is not valid.
pub(crate) fn parsed(file: &str, toml: &str) -> Result<Policy, Checked> {
    validated(toml).map_err(|problem| invalid(file, problem))
}

pub(crate) fn invalid(file: &str, problem: String) -> Checked {
    Checked { file: file.to_owned(), valid: false, problem: Some(problem), policy: None }
}

/// A policy that a stack can use, or why it cannot.
fn validated(toml: &str) -> Result<Policy, String> {
    if toml.len() > MAX_BYTES {
        return Err(format!("it has {} bytes; the limit is {MAX_BYTES}", toml.len()));
    }
    Policy::from_toml(toml).map_err(|error| placed_once(error).to_string())
}
