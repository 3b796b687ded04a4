//! The command line against stacks and accounts in this process, as a user runs it, and against an emulated AWS.
//!
//! One program, because each would link all of AWS's SDKs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod account;
mod advise;
mod alerts;
mod answers;
mod backtest;
mod bucket;
mod command_line;
mod completion;
mod connect;
mod demo;
mod disconnect;
mod dns;
mod doctor;
mod drill;
mod emulated;
mod explain;
mod isps;
mod pictures;
mod roles;
mod sender;
mod stack;
mod steer;
