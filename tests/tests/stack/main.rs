//! The stack on AWS in this process: what the three functions make of events, through the real SDK, whatever happens
//! between any two of their calls.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod as_replayed;
mod contract;
mod crashes;
mod mail;
mod people;
