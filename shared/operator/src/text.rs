//! Results of verbs, as text for people and as JSON for programs. Nothing but [`crate::cli`] calls this.
//!
//! Styles are stripped where they are not wanted, and every string from outside goes through [`sanitize`] or
//! [`terminal::name`] first.

mod advise;
mod asking;
mod backtest;
mod command;
mod connect;
mod demo;
mod doctor;
mod drill;
mod explain;
mod history;
mod isps;
mod manual;
mod policy;
mod quota;
mod stack;
mod status;

use serde::Serialize;
use terminal::{BOLD, TermStyle, hanging, paint, sanitize, wrapped};

use crate::Exit;
use crate::failure::Failure;
pub(crate) use isps::isps_to_add;

/// The result of a verb, as people and programs read it.
pub trait Render: Serialize {
    /// As text with ANSI styles.
    fn text(&self, term: TermStyle) -> String;

    /// As JSON.
    fn json(&self) -> String {
        // Serialising fails only for maps whose keys are not strings, and there are none.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The exit code.
    fn exit(&self) -> Exit {
        Exit::Done
    }
}

/// The answer of a verb, for people and for programs.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Text with ANSI styles.
    pub text: String,
    /// The same as JSON.
    pub json: String,
    /// The exit code.
    pub exit: Exit,
}

impl Answer {
    /// A result as an answer.
    pub fn of(result: &impl Render, term: TermStyle) -> Answer {
        Answer { text: result.text(term), json: result.json(), exit: result.exit() }
    }
}

/// What a verb answers.
///
/// # Errors
///
/// The verb could not answer.
pub fn answer(outcome: Result<impl Render, Failure>, term: TermStyle) -> Result<Answer, Failure> {
    outcome.map(|result| Answer::of(&result, term))
}

/// A paragraph.
fn paragraph(text: &str, term: TermStyle) -> String {
    hanging("", &sanitize(text), term.columns())
}

/// A sentence, with the command at its end on a line of its own: people paste it, so it is not wrapped.
fn sentence(sentence: &str, term: TermStyle) -> String {
    match sentence.rsplit_once(": ").filter(|(_, last)| last.starts_with("ses-breaker ") || last.starts_with("aws ")) {
        Some((words, command)) => format!("{}  {}\n", paragraph(&format!("{words}:"), term), sanitize(command)),
        None => paragraph(sentence, term),
    }
}

/// A heading with an empty line above it.
fn heading(text: &str) -> String {
    format!("\n{}\n", paint(BOLD, text))
}

/// Wrapped lines, each of them painted whole.
fn painted(style: anstyle::Style, text: &str, term: TermStyle) -> String {
    wrapped(&sanitize(text), term.columns()).iter().map(|line| paint(style, line) + "\n").collect()
}
