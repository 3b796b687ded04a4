//! Enforcing.
