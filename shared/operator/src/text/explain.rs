//! The state of a breaker, and why.

use replay::text::explanation;
use terminal::time::moment;
use terminal::{BOLD, DIM, TermStyle, hanging, paint, sanitize};

use super::{Render, heading, painted, sentence};
use crate::explain::Explained;
use crate::notice_history::Entry;

impl Render for Explained {
    fn text(&self, term: TermStyle) -> String {
        explained(self, term)
    }
}

/// What `replay explain` shows, with the verdict that caused the state and what happens next.
fn explained(explained: &Explained, term: TermStyle) -> String {
    let mut out = String::new();
    if explained.as_of {
        let caveat = "As of an earlier time: judged on mail accepted until then, with what is known about it now. If harm \
                      was reported later, the verdict at that time had smaller numbers: see `decided`.";
        out.push_str(&painted(DIM, caveat, term));
    }
    // `replay` titles the evidence as of its report time; here it is as of now.
    let text = explanation(&explained.explanation, term);
    let then = format!("{} {}", paint(BOLD, "Evidence"), paint(DIM, "at that time"));
    let now = format!("{} {}", paint(BOLD, "Evidence"), paint(DIM, "now"));
    out.push_str(&if explained.as_of { text } else { text.replacen(&then, &now, 1) });
    let last = explained.explanation.last.as_ref();
    if let Some(verdict) = explained.verdict.as_ref().filter(|verdict| last.is_none_or(|last| last.at != verdict.time))
    {
        out.push_str(&heading("The verdict that moved it"));
        out.push_str(&entry(verdict, term));
    }
    if !explained.later.is_empty() {
        out.push_str(&heading("What happened after"));
        explained.later.iter().for_each(|later| out.push_str(&entry(later, term)));
    }
    if let Some(next) = &explained.next {
        out.push_str(&heading("What happens next"));
        next.words.iter().for_each(|words| out.push_str(&sentence(words, term)));
    }
    out
}

fn entry(entry: &Entry, term: TermStyle) -> String {
    hanging(&format!("{}  ", moment(&entry.time.to_string())), &sanitize(&entry.why()), term.columns())
}
