//! `replay` as users run it, and its use cases on the sample streams and on cases from the field.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod backtest;
mod cli;
mod domains;
mod explain;
mod field_cases;
mod formats;
mod merging;
mod others;
mod page;
mod program;
mod readme;
mod simulate;
mod streams;
