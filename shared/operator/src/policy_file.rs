//! Policies in files, checked without a stack.

use aws::policies::MAX_BYTES;
pub use replay::policy_file::Checked;
use reputation::policy::Policy;
use terminal::{InvalidPolicy, PolicyFault};

/// Checks a policy. Needs no stack.
pub fn check(file: &str, toml: &str) -> Checked {
    Checked::of(file, validated(toml))
}

/// The policy in a file.
///
/// # Errors
///
/// It is not valid.
pub(crate) fn parsed(file: &str, toml: &str) -> Result<Policy, InvalidPolicy> {
    validated(toml).map_err(|fault| invalid(file, fault))
}

pub(crate) fn invalid(file: &str, fault: PolicyFault) -> InvalidPolicy {
    InvalidPolicy { file: file.to_owned(), fault }
}

/// A policy that a stack can use, or why it cannot.
fn validated(toml: &str) -> Result<Policy, PolicyFault> {
    if toml.len() > MAX_BYTES {
        return Err(PolicyFault::from(format!("it has {} bytes; the limit is {MAX_BYTES}", toml.len())));
    }
    replay::policy_file::validated(toml)
}
