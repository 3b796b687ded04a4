//! The environment of a function. The template sets all of it; only what says so has a default.

use std::env::{self, VarError};

/// The environment lacks something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A variable is not set, or empty.
    #[error("environment variable {0} is not set; infra/template.yaml sets it")]
    Missing(&'static str),
    /// A variable has a value that means nothing.
    #[error("environment variable {name} is `{value}`; allowed: {allowed}")]
    Value {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

/// A variable that must be set.
///
/// # Errors
///
/// Names it if it is not set, is empty, or is not text.
pub fn required(name: &'static str) -> Result<String, ConfigError> {
    optional(name)?.ok_or(ConfigError::Missing(name))
}

/// A variable that may be missing or empty.
///
/// # Errors
///
/// Names it if it is not text.
pub fn optional(name: &'static str) -> Result<Option<String>, ConfigError> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(raw)) => {
            Err(ConfigError::Value { name, value: raw.to_string_lossy().into_owned(), allowed: "text in UTF-8" })
        }
    }
}

/// A variable that must be `true` or `false`.
///
/// # Errors
///
/// Names it if it is not set or is anything else.
pub fn flag(name: &'static str) -> Result<bool, ConfigError> {
    match required(name)?.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        value => Err(ConfigError::Value { name, value: value.to_owned(), allowed: "true, false" }),
    }
}

/// Name of the stack that a function belongs to: its own name without its last part.
pub fn stack() -> String {
    let function = env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
    function.rsplit_once('-').map_or(function.as_str(), |(stack, _)| stack).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let name = "SES_BREAKER_NEVER_SET";
        assert_eq!(required(name), Err(ConfigError::Missing(name)));
        assert_eq!(optional(name), Ok(None));
        assert_eq!(
            flag(name).unwrap_err().to_string(),
            "environment variable SES_BREAKER_NEVER_SET is not set; infra/template.yaml sets it"
        );
    }
}
