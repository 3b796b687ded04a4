//! Questions.

use std::fmt;

use terminal::sanitize;

use super::policy::acted_on;
use super::stack::changes_text;
use crate::asking::Question;

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::StopAccount { region } => write!(f, "This stops all mail of the account in {region}. Stop it?"),
            Question::Drill { mails } => write!(
                f,
                "This creates a scratch configuration set and sends {mails} mails with it to the mailbox simulator of SES. Continue?"
            ),
            Question::Deploy { place, create, changes } => write!(
                f,
                "{}{} stack {} in account {}, {}?",
                changes_text(changes, *create),
                if *create { "Create" } else { "Change" },
                sanitize(&place.stack),
                sanitize(&place.account),
                sanitize(&place.region)
            ),
            Question::Repair { place, status, delete } => write!(
                f,
                "Stack {} in account {}, {} is {}. {}?",
                sanitize(&place.stack),
                sanitize(&place.account),
                sanitize(&place.region),
                sanitize(status),
                if *delete {
                    "Delete what is left of it, and create it anew"
                } else {
                    "Undo its last update, and go on"
                }
            ),
            Question::Down { place, purge, delete } => {
                let stack = sanitize(&place.stack);
                let what = match (delete, purge) {
                    (true, true) => format!(
                        "disconnects all configuration sets, deletes stack {stack}, and deletes its tables with all history"
                    ),
                    (true, false) => {
                        format!("disconnects all configuration sets and deletes stack {stack}; its tables stay")
                    }
                    (false, true) => format!(
                        "disconnects all configuration sets, resumes what stack {stack} stopped, and deletes its tables with all history"
                    ),
                    (false, false) => {
                        format!("disconnects all configuration sets, and resumes what stack {stack} stopped")
                    }
                };
                let (account, region) = (sanitize(&place.account), sanitize(&place.region));
                write!(f, "This {what}, in account {account}, {region}. Continue?")
            }
            Question::Act { stack, acts_on } => write!(
                f,
                "With this policy, stack {} leaves shadow and acts on its decisions.\n{}Push it?",
                sanitize(stack),
                acted_on(acts_on)
            ),
        }
    }
}
