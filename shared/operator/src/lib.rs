//! The command line of a deployed ses-breaker.
//!
//! **Invariant:** nothing that reads changes anything. Nothing is asked interactively, but for one question of
//! `isps propose --apply`, which `--yes` answers.
//! **Invariant:** a person's word goes the way of every other change: through the breaker, which is saved together with
//! the wish that the enforcer makes true. The command line itself never pauses or resumes anything at SES.
//! **Invariant:** SES is called at most once a second, as by the enforcer: people and functions share its limit.
//!
//! Where to start: [`cli`] is the shell; each verb has its module, which answers with an [`Answer`].

pub mod access;
pub mod advise;
pub mod backtest;
pub mod cli;
pub mod command;
pub mod connect;
pub mod dashboard;
pub mod digest;
pub mod disconnect;
pub mod doctor;
pub mod drill;
pub mod explain;
pub mod failure;
pub mod history;
pub mod isps;
pub mod manual;
pub mod notice_history;
pub mod obey;
pub mod objects;
pub mod policies;
pub mod quota;
pub mod status;
mod text;
pub mod watch;

pub use access::Access;
pub use failure::Failure;

/// How the program ends. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked.
    Done = 0,
    /// The answer is no: a policy that is not valid, a configuration set that is not connected, a pause that stops
    /// nothing at SES, a stack with faults.
    No = 1,
    /// Bad usage: what was asked makes no sense, names what does not exist, or is in a file that cannot be read. Nothing
    /// was changed.
    Usage = 2,
    /// AWS refused, could not be reached, or holds what cannot be understood. What was done before stands.
    Refused = 3,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> std::process::ExitCode {
        std::process::ExitCode::from(exit as u8)
    }
}

/// What a verb answers, for people and for programs.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Text with ANSI styles.
    pub text: String,
    /// The same as JSON, its keys in a sensible order.
    pub json: String,
    /// How the program ends.
    pub exit: Exit,
}

impl Answer {
    fn new(text: String, document: &impl serde::Serialize, exit: Exit) -> Answer {
        // Only maps with keys that are no strings cannot be turned into JSON, and there are none.
        let json = serde_json::to_string_pretty(document).unwrap_or_default() + "\n";
        Answer { text, json, exit }
    }
}
