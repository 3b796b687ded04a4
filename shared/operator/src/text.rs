//! What people see. Like the texts of `replay`: styles in them are stripped where they are not wanted, and every string
//! from outside comes through [`sanitize`] or [`name`] first.

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

use replay::text::layout::{BAD, BOLD, GOOD, hanging, moment, paint, wrapped};
use replay::text::{TermStyle, name, sanitize};
use reputation::time::{Minute, Now};

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

/// Date and time of day of a minute.
pub(crate) fn minute_of(minute: Minute) -> String {
    minute.to_string()
}

/// Date and time of day, to the second.
pub(crate) fn second_of(at: Now) -> String {
    moment(&at.to_string())
}

/// A paragraph.
fn paragraph(text: &str, look: TermStyle) -> String {
    hanging("", &sanitize(text), look.columns())
}

/// What a person's command changed; `key` is the name of the key.
pub(crate) fn said(said: &CommandResult, key: &str, look: TermStyle) -> String {
    let refused = |what: &str, obeyed: &Obeyed| match obeyed {
        Obeyed::Refused { .. } => format!("not {what}: SES refuses"),
        Obeyed::Gone => format!("not {what}: SES does not know it"),
        Obeyed::Overruled | Obeyed::OtherStack { .. } => format!("not {what}"),
        Obeyed::NotWaited => format!("to be {what}"),
        Obeyed::NotYet { .. } | Obeyed::Seen { .. } | Obeyed::Noted { .. } => format!("not {what} yet"),
    };
    let (head, good) = match (said.word, &said.obeyed) {
        (OperatorCommand::Stop, Some(obeyed)) if obeyed.is_so() => ("stopped".to_owned(), true),
        (OperatorCommand::Stop, Some(obeyed)) => (refused("stopped", obeyed), false),
        (OperatorCommand::Resume, Some(obeyed)) if !obeyed.is_so() => (refused("resumed", obeyed), false),
        _ if !said.changed => (format!("still {}", said.to.word(said.gate)), true),
        (OperatorCommand::Stop, None) => ("recorded, and not stopped".to_owned(), false),
        (OperatorCommand::Resume, _) => ("resumed".to_owned(), true),
        (OperatorCommand::Bypass, _) => ("bypassed".to_owned(), true),
        (OperatorCommand::Shadow, _) => ("put in shadow".to_owned(), true),
        (OperatorCommand::Release, _) => ("left to its breaker".to_owned(), true),
    };
    let style = if good && said.word != OperatorCommand::Stop { GOOD } else { BAD };
    // Where SES has no switch, or in shadow, a breaker that stops has stopped nothing at SES.
    let is_only_recorded = said.word == OperatorCommand::Stop && said.obeyed.is_none();
    let from_to = if said.from == said.to || is_only_recorded {
        String::new()
    } else {
        format!(" ({} → {})", said.from.word(said.gate), said.to.word(said.gate))
    };
    let mut out = format!("{}: {}{from_to}\n", paint(BOLD, &name(key)), paint(style, &head));
    for sentence in &said.outcome {
        out.push_str(&self::sentence(sentence, look));
    }
    out
}

/// A sentence, and the command at its end in a line of its own: it may be pasted, and so is not broken.
fn sentence(sentence: &str, look: TermStyle) -> String {
    match sentence.rsplit_once(": ").filter(|(_, last)| last.starts_with("ses-breaker ") || last.starts_with("aws ")) {
        Some((words, command)) => format!("{}  {}\n", paragraph(&format!("{words}:"), look), sanitize(command)),
        None => paragraph(sentence, look),
    }
}

/// A heading with an empty line above it.
fn heading(text: &str) -> String {
    format!("\n{}\n", paint(BOLD, text))
}

/// Lines under a lead, each of them painted whole.
fn painted(style: anstyle::Style, text: &str, look: TermStyle) -> String {
    wrapped(&sanitize(text), look.columns()).iter().map(|line| paint(style, line) + "\n").collect()
}
