//! Answers of verbs, as on no terminal.

use operator::{Answer, Failure, Render};
use serde_json::Value;
use terminal::TermStyle;

/// What a verb answers.
pub(crate) fn answered(outcome: Result<impl Render, Failure>) -> Result<Answer, Failure> {
    operator::answer(outcome, TermStyle::new(None))
}

/// An answer for programs.
pub(crate) fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(&answer.json).unwrap()
}
