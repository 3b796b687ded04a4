//! The kit of the end-to-end tests: AWS in this process ([`cloud`]) and the stack on it ([`stack`]), or AWS in a process of
//! its own ([`emulator`]) with the real template deployed; the dashboard to compare with ([`grafana`]), and pictures of terminals
//! ([`picture`]).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod cloud;
pub mod emulator;
pub mod grafana;
pub mod picture;
pub mod stack;
