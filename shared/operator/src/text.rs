//! Texts for people. As in the texts of `replay`, styles are stripped where they are not wanted, and every string from
//! outside goes through [`sanitize`] or [`name`] first.

mod advise;
mod backtest;
mod connect;
mod doctor;
mod drill;
mod explain;
mod history;
mod isps;
mod policy;
mod quota;
mod status;

use reputation::time::{Minute, Now};
use terminal::time::moment;
use terminal::{BAD, BOLD, GOOD, TermStyle, hanging, name, paint, sanitize, wrapped};

pub(crate) use advise::advised;
pub(crate) use backtest::backtested;
pub(crate) use connect::{connected, disconnected};
pub(crate) use doctor::diagnosis;
pub(crate) use drill::drilled;
pub(crate) use explain::explained;
pub(crate) use history::history;
pub(crate) use isps::{isps_to_add, proposed_isps};
pub(crate) use policy::{invalid_policy, pushed, question_before_acting, shown_policy};
pub(crate) use quota::quotas;
pub(crate) use status::status;

use crate::command::{CommandResult, OperatorCommand};
use crate::obey::Obeyed;

/// Date and time of a minute.
pub(crate) fn minute_of(minute: Minute) -> String {
    minute.to_string()
}

/// Date and time, to the second.
pub(crate) fn second_of(at: Now) -> String {
    moment(&at.to_string())
}

/// A paragraph.
fn paragraph(text: &str, term: TermStyle) -> String {
    hanging("", &sanitize(text), term.columns())
}

/// The result of an operator's command; `key` is the name of the key.
pub(crate) fn command_result(result: &CommandResult, key: &str, term: TermStyle) -> String {
    let refused = |what: &str, obeyed: &Obeyed| match obeyed {
        Obeyed::Refused { .. } => format!("not {what}: SES refuses"),
        Obeyed::Gone => format!("not {what}: SES does not know it"),
        Obeyed::Overruled | Obeyed::OtherStack { .. } => format!("not {what}"),
        Obeyed::NotWaited => format!("to be {what}"),
        Obeyed::NotYet { .. } | Obeyed::Seen { .. } | Obeyed::Noted { .. } => format!("not {what} yet"),
    };
    let (head, good) = match (result.command, &result.obeyed) {
        (OperatorCommand::Stop, Some(obeyed)) if obeyed.is_so() => ("stopped".to_owned(), true),
        (OperatorCommand::Stop, Some(obeyed)) => (refused("stopped", obeyed), false),
        (OperatorCommand::Resume, Some(obeyed)) if !obeyed.is_so() => (refused("resumed", obeyed), false),
        _ if !result.changed => (format!("still {}", result.to.word(result.gate)), true),
        (OperatorCommand::Stop, None) => ("recorded, and not stopped".to_owned(), false),
        (OperatorCommand::Resume, _) => ("resumed".to_owned(), true),
        (OperatorCommand::Bypass, _) => ("bypassed".to_owned(), true),
        (OperatorCommand::Shadow, _) => ("put in shadow".to_owned(), true),
        (OperatorCommand::Release, _) => ("left to its breaker".to_owned(), true),
    };
    let style = if good && result.command != OperatorCommand::Stop { GOOD } else { BAD };
    // Where SES has no switch, or in shadow, a breaker that stops changes nothing at SES.
    let is_only_recorded = result.command == OperatorCommand::Stop && result.obeyed.is_none();
    let from_to = if result.from == result.to || is_only_recorded {
        String::new()
    } else {
        format!(" ({} → {})", result.from.word(result.gate), result.to.word(result.gate))
    };
    let mut out = format!("{}: {}{from_to}\n", paint(BOLD, &name(key)), paint(style, &head));
    for sentence in &result.outcome {
        out.push_str(&self::sentence(sentence, term));
    }
    out
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
