//! Typed events of Amazon SES, out of every envelope they travel in.

pub mod event;
