//! How a person is reached while a verb runs: steps are shown, and questions asked.

use reputation::breaker::StateName;
use serde::Serialize;

use crate::place::{Change, Place};

/// Called with the number of steps done, the number of all steps, and the current step.
pub type Progress<'a> = &'a dyn Fn(usize, usize, &str);

/// A question before something serious.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// Before all mail of the account is stopped.
    StopAccount {
        /// The Region.
        region: &'a str,
    },
    /// Before a drill creates a configuration set and sends mail.
    Drill {
        /// The number of mails, at least.
        mails: u32,
    },
    /// Before a stack is created or changed.
    Deploy {
        /// Where.
        place: &'a Place,
        /// Whether it does not exist yet.
        create: bool,
        /// What it changes.
        changes: &'a [Change],
    },
    /// Before a stack whose last change failed is deleted, or its change undone.
    Repair {
        /// Where.
        place: &'a Place,
        /// Its status.
        status: &'a str,
        /// Whether it is deleted.
        delete: bool,
    },
    /// Before a stack is taken down.
    Down {
        /// Where.
        place: &'a Place,
        /// Whether its tables, key and code go, too.
        purge: bool,
        /// Whether there is a stack to delete.
        delete: bool,
    },
    /// Before a policy ends the stack's shadow.
    Act {
        /// The stack.
        stack: &'a str,
        /// What it acts on at once.
        acts_on: &'a [ActsOn],
    },
}

/// A breaker that moved in shadow, and that the stack acts on as soon as it leaves shadow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActsOn {
    /// Its key: `configuration-set:news@gmail`.
    pub key: String,
    /// Its state.
    pub state: StateName,
    /// Whether SES is asked to stop it; otherwise only the gate holds mail back, if it is asked.
    pub at_ses: bool,
}

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// Go ahead.
    Yes,
    /// Do not.
    No,
    /// There is no terminal to ask on.
    Nobody,
}

/// How a person is reached while a command runs.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Called with the current step.
    pub progress: Progress<'a>,
    /// Called with what has happened, for people who watch.
    pub line: &'a dyn Fn(&str),
    /// Called before something serious.
    pub confirm: &'a dyn Fn(&Question<'_>) -> Confirmed,
}

impl Asking<'_> {
    /// No terminal: steps are not shown, and questions are not answered.
    pub const NOBODY: Asking<'static> =
        Asking { progress: &|_, _, _| {}, line: &|_| {}, confirm: &|_| Confirmed::Nobody };
    /// The question was answered with yes before.
    pub const CONFIRMED: Asking<'static> =
        Asking { progress: &|_, _, _| {}, line: &|_| {}, confirm: &|_| Confirmed::Yes };
}
