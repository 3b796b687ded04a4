//! A demo, line by line.

use local::story::{Event, Kind};
use reputation::time::Now;
use terminal::time::clock;
use terminal::{BOLD, TermStyle, hanging, paint, sanitize, state_style};

use crate::demo::Line;
use crate::{Answer, Exit};

/// The width of the longest word of an event.
const WORD: usize = 9;

impl Line<'_> {
    /// As people and programs read it. `speed`: that of the demo.
    pub fn answer(self, speed: f64, term: TermStyle) -> Answer {
        match self {
            Line::Ready { url, now } => ready(url, now, speed, term),
            Line::Happened(event) => happened(event, term),
        }
    }
}

/// The first lines: where the dashboard is.
fn ready(url: &str, now: Now, speed: f64, term: TermStyle) -> Answer {
    let json = serde_json::json!({ "event": "ready", "at": now, "url": url, "speed": speed });
    let pace = match speed {
        60.0 => "a simulated minute takes a second".to_owned(),
        speed => format!("simulated time passes {speed} times as fast as real time"),
    };
    let about = format!(
        "Nothing here is at AWS: a sender, its mail, SES and the stack are simulated in memory; {pace}. Ctrl-C ends it, and \
         nothing is left behind."
    );
    let text = format!("Dashboard of the demo: {}\n{}\n", paint(BOLD, url), hanging("", &about, term.columns()));
    Answer { text, json: format!("{json}\n"), exit: Exit::Done }
}

/// One event.
fn happened(event: &Event, term: TermStyle) -> Answer {
    let word = format!("{:WORD$}", event.kind.word());
    let lead = format!("{}  {word}  ", clock(&event.at.to_string()));
    let set = event.subject.as_deref().map(|subject| subject.strip_prefix("configuration-set:").unwrap_or(subject));
    let isp = event.isp.as_deref().filter(|_| event.kind.state().is_some()).map(|isp| format!(" at {isp}"));
    let whose = set.map(|set| format!("{set}{}: ", isp.unwrap_or_default())).unwrap_or_default();
    // The reason of a stop begins with the word that is there already.
    let what = event.text.strip_prefix(event.kind.word()).and_then(|rest| rest.strip_prefix(": "));
    let text = hanging(&lead, &sanitize(&format!("{whose}{}", what.unwrap_or(&event.text))), term.columns());
    let styled = match (event.kind, event.kind.state()) {
        (_, Some(state)) => text.replacen(&word, &paint(state_style(state), &word), 1),
        (Kind::Campaign | Kind::Blocked, None) => text.replacen(&word, &paint(BOLD, &word), 1),
        (_, None) => text,
    };
    // All of its members are text.
    let json = serde_json::to_string(event).unwrap_or_default();
    Answer { text: styled, json: format!("{json}\n"), exit: Exit::Done }
}
