//! AWS in one process: what the demo and the tests of the stack run the functions on.
//!
//! [`dynamodb`] and [`account`] answer calls as AWS does, as far as the stack's calls can see; the tests add faults to them.
//! [`Cloud`] is both behind the HTTP connector of the real SDK, without faults. [`Demo`] runs the functions on it, on a clock of
//! its own, with a [`sender`] whose mail turns bad now and then.
//!
//! **Invariant:** nothing here opens a socket, or reads the environment, a file or the clock of the machine, so nothing here can
//! reach an account. (A function looks up its own name in the environment of Lambda: without one, it prints no metrics.)
//! **Invariant:** the same seed gives the same mail. What a person does on the dashboard changes what becomes of it.

pub mod account;
pub mod answer;
pub mod cloud;
pub mod demo;
pub mod dynamodb;
pub mod mail;
pub mod sender;
pub mod story;

pub use cloud::Cloud;
pub use demo::{Demo, DemoError, Settings};
