//! Policies in files, checked without a stack.

use aws::policies::MAX_BYTES;
use reputation::policy::Policy;
use serde::Serialize;
use terminal::PolicyFault;

/// The result of checking a policy.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Name of the file.
    pub file: String,
    /// Whether it can be used.
    pub valid: bool,
    /// Why not.
    pub problem: Option<String>,
    /// The key that is wrong: its path.
    pub key: Option<String>,
    /// Its line, from 1; null if the text does not name the key.
    pub line: Option<u32>,
    /// Its column, from 1, in characters.
    pub column: Option<u32>,
    /// The key or word that was probably meant; null if none is close.
    pub nearest: Option<String>,
    /// What it means, if it is valid.
    #[serde(skip)]
    pub policy: Option<Box<Policy>>,
}

impl Checked {
    /// What is wrong, with its place, and what to do about it; empty where that is not known.
    pub(crate) fn words(&self) -> (String, String) {
        let Checked { problem, key, line, column, nearest, .. } = self.clone();
        let fault = PolicyFault { problem: problem.unwrap_or_default(), key, line, column, nearest };
        (fault.to_string(), fault.remedy())
    }
}

/// Checks a policy. Needs no stack.
pub fn check(file: &str, toml: &str) -> Checked {
    match validated(toml) {
        Ok(policy) => Checked {
            file: file.to_owned(),
            valid: true,
            problem: None,
            key: None,
            line: None,
            column: None,
            nearest: None,
            policy: Some(policy.into()),
        },
        Err(fault) => invalid(file, fault),
    }
}

/// The policy in a file.
///
/// # Errors
///
/// It is not valid.
pub(crate) fn parsed(file: &str, toml: &str) -> Result<Policy, Checked> {
    validated(toml).map_err(|fault| invalid(file, fault))
}

pub(crate) fn invalid(file: &str, fault: PolicyFault) -> Checked {
    let PolicyFault { problem, key, line, column, nearest } = fault;
    let problem = Some(problem);
    Checked { file: file.to_owned(), valid: false, problem, key, line, column, nearest, policy: None }
}

/// A policy that a stack can use, or why it cannot.
fn validated(toml: &str) -> Result<Policy, PolicyFault> {
    if toml.len() > MAX_BYTES {
        return Err(PolicyFault::from(format!("it has {} bytes; the limit is {MAX_BYTES}", toml.len())));
    }
    Policy::from_toml(toml).map_err(|error| PolicyFault::of(toml, error))
}
