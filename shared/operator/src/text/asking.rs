//! Questions.

use std::fmt;

use terminal::sanitize;

use super::policy::acted_on;
use crate::asking::Question;

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::StopAccount { region } => write!(f, "This stops all mail of the account in {region}. Stop it?"),
            Question::Drill { mails } => write!(
                f,
                "This creates a scratch configuration set and sends {mails} mails with it to the mailbox simulator of SES. Continue?"
            ),
            Question::Act { stack, acts_on } => write!(
                f,
                "With this policy, stack {} leaves shadow and acts on its decisions.\n{}Push it?",
                sanitize(stack),
                acted_on(acts_on)
            ),
        }
    }
}
