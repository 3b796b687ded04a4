//! Notices, as a timeline.

use anstyle::Style;
use pipeline::transition::TransitionDetail;
use terminal::time::{clock, date, moment};
use terminal::{
    BAD, BOLD, DIM, DOUBTFUL, TermStyle, counted, hanging, name, paint, sanitize, transition_words, wrapped,
};

use super::{Render, painted};
use crate::history::History;
use crate::notice_history::{About, Entry};

impl Render for History {
    fn text(&self, term: TermStyle) -> String {
        history(self, term)
    }
}

fn history(history: &History, term: TermStyle) -> String {
    let whose = match &history.isp {
        Some(isp) => format!("{} @ {isp}", name(&history.subject)),
        None => name(&history.subject),
    };
    let mut out = painted(BOLD, &format!("{whose} in {}, since {} UTC", history.stack, moment(&history.since)), term);
    if history.more {
        let shown = counted(history.entries.len() as u64, "notice");
        out.push_str(&painted(DIM, &format!("the newest {shown}; use --most for more"), term));
    }
    if history.unreadable > 0 {
        let count = counted(history.unreadable as u64, "notice");
        let words = format!("{count} of another release cannot be read: update ses-breaker");
        out.push_str(&painted(DOUBTFUL, &words, term));
    }
    if history.entries.is_empty() {
        out.push_str("no notices (use --since to go further back)\n");
    }
    let changes: Vec<(String, Style)> = history.entries.iter().map(change).collect();
    let widest = changes.iter().map(|(text, _)| text.chars().count()).max().unwrap_or(0);
    let indent = "09:00:00".len() + 2 + widest + 2;
    let room = term.columns().saturating_sub(indent).max(20);
    let mut day = String::new();
    for (entry, (change, style)) in history.entries.iter().zip(changes) {
        let at = entry.time.to_string();
        if date(&at) != day {
            day = date(&at).to_owned();
            out.push_str(&painted(DIM, &day, term));
        }
        let pad = " ".repeat(widest - change.chars().count());
        let lead = format!("{}  {}{pad}  ", clock(&at), paint(style, &change));
        for (place, line) in lines(history, entry, room).iter().enumerate() {
            let lead = if place == 0 { lead.clone() } else { " ".repeat(indent) };
            out.push_str(&format!("{lead}{line}\n"));
        }
    }
    out
}

fn lines(history: &History, entry: &Entry, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    // A subject without ISPs, or one ISP, needs no column for the ISP.
    if history.isp.is_none() && history.entries.iter().any(|entry| entry.isp().is_some()) {
        let whose = entry.isp().map_or("as a whole".to_owned(), |isp| format!("at {}", name(isp)));
        lines.push(paint(BOLD, &whose));
    }
    let shadow = if entry.breaker().is_some_and(|moved| moved.shadow) { "in shadow: " } else { "" };
    lines.extend(wrapped(&format!("{shadow}{}", sanitize(entry.reason())), room));
    if let Some(person) = entry.breaker().and_then(TransitionDetail::person) {
        let by = hanging("", &sanitize(&person.to_string()), room);
        lines.extend(by.lines().map(|line| paint(BOLD, line)));
    }
    lines
}

/// The change, in a word or two.
fn change(entry: &Entry) -> (String, Style) {
    match &entry.about {
        About::Breaker(moved) => transition_words(moved.from, moved.to, moved.level, moved.gate),
        About::Subject(_) => (entry.kind.to_lowercase().replace("control ", ""), BAD),
    }
}
