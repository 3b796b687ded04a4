//! The results of an operator's command.

use terminal::{BAD, BOLD, GOOD, TermStyle, name, paint};

use super::Render;
use crate::Exit;
use crate::command::{CommandResult, OperatorCommand};
use crate::obey::Obeyed;

impl Render for Vec<CommandResult> {
    fn text(&self, term: TermStyle) -> String {
        self.iter().map(|result| one(result, term)).collect()
    }

    /// One document for each.
    fn json(&self) -> String {
        self.iter().map(|result| serde_json::to_string_pretty(result).unwrap_or_default() + "\n").collect()
    }

    fn exit(&self) -> Exit {
        self.iter().map(|result| result.exit).max().unwrap_or(Exit::Done)
    }
}

fn one(result: &CommandResult, term: TermStyle) -> String {
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
    let mut out = format!("{}: {}{from_to}\n", paint(BOLD, &name(&result.key)), paint(style, &head));
    for sentence in &result.outcome {
        out.push_str(&super::sentence(sentence, term));
    }
    out
}
