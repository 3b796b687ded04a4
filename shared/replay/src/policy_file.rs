//! Policies in files, checked.

use reputation::policy::Policy;
use serde::Serialize;
use terminal::{InvalidPolicy, PolicyFault};

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
    /// The result for a file.
    pub fn of(file: &str, outcome: Result<Policy, PolicyFault>) -> Checked {
        let (policy, fault) = match outcome {
            Ok(policy) => (Some(policy.into()), None),
            Err(fault) => (None, Some(fault)),
        };
        let problem = fault.as_ref().map(|fault| fault.problem.clone());
        let (key, line, column, nearest) =
            fault.map_or((None, None, None, None), |fault| (fault.key, fault.line, fault.column, fault.nearest));
        Checked { file: file.to_owned(), valid: policy.is_some(), problem, key, line, column, nearest, policy }
    }

    /// What is wrong; `None` if it is valid.
    pub fn fault(&self) -> Option<PolicyFault> {
        let Checked { problem, key, line, column, nearest, .. } = self.clone();
        problem.map(|problem| PolicyFault { problem, key, line, column, nearest })
    }
}

/// Reads a policy.
///
/// # Errors
///
/// It is not valid: what is wrong, and where.
pub fn validated(toml: &str) -> Result<Policy, PolicyFault> {
    Policy::from_toml(toml).map_err(|error| PolicyFault::of(toml, error))
}

/// The policy in a file of this text.
///
/// # Errors
///
/// It is not valid.
pub fn parsed(file: &str, toml: &str) -> Result<Policy, InvalidPolicy> {
    validated(toml).map_err(|fault| InvalidPolicy { file: file.to_owned(), fault })
}
