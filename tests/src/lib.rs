//! What the tests of the whole need: AWS in this process ([`cloud`]) and the stack on it ([`stack`]), or AWS in a process of
//! its own ([`emulator`]) and the real template deployed to it; and what it holds them against ([`grafana`]).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod cloud;
pub mod emulator;
pub mod grafana;
pub mod stack;
