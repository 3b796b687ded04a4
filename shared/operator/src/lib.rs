//! The command line of a deployed ses-breaker.
//!
//! **Invariant:** verbs that read change nothing. A question is asked only before something serious (`--yes` answers it):
//! stopping the account, ending a stack's shadow, pushing ISP entries, sending a drill's mail, creating, changing or deleting a
//! stack.
//! **Invariant:** a person's command takes the same path as every other change: through the breaker, which is saved together
//! with the desired state that the enforcer then applies. The command line itself never stops anything at SES, and resumes
//! only what a stack has stopped that is already deleted ([`stack::down`]).
//! **Invariant:** SES is called at most once a second, as by the enforcer: people and functions share its limit.
//!
//! Where to start: [`cli`] does the I/O; each verb has its module, which returns data; `text` renders it ([`Render`]), and
//! no verb depends on `text`.

pub mod access;
pub mod advise;
pub mod asking;
pub mod backtest;
pub mod cli;
pub mod command;
pub mod connect;
pub mod dashboard;
pub mod demo;
pub mod digest;
pub mod disconnect;
pub mod doctor;
pub mod drill;
pub mod explain;
pub mod failure;
pub mod history;
pub mod isps;
pub mod names;
pub mod notice_history;
pub mod obey;
pub mod objects;
pub mod place;
pub mod policies;
pub mod policy_file;
pub mod prices;
pub mod quota;
pub mod stack;
pub mod stack_failure;
pub mod status;
mod text;
pub mod up;
pub mod watch;

pub use access::Access;
pub use failure::Failure;
pub use terminal::Exit;
pub use text::{Answer, Render, answer};

/// The version of this release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
