//! The state of a breaker, and why.

use replay::text::layout::{BOLD, DIM, hanging, moment, paint};
use replay::text::{TermStyle, explanation, sanitize};

use super::{heading, painted, sentence};
use crate::explain::Explained;
use crate::notice_history::Entry;

/// What `replay explain` shows, with what moved the breaker and what comes next.
pub(crate) fn explained(explained: &Explained, look: TermStyle) -> String {
    let mut out = String::new();
    if explained.as_of {
        let caveat = "As of an earlier time: judged on mail accepted until then, with what is known about it now. Where harm \
                      was reported later, the verdict of that time had smaller numbers; they are under `decided`.";
        out.push_str(&painted(DIM, caveat, look));
    }
    // It calls what stands now what stood then.
    let reported = explanation(&explained.explanation, look);
    let stood = format!("{} {}", paint(BOLD, "Evidence"), paint(DIM, "as it stood then"));
    let stands = format!("{} {}", paint(BOLD, "Evidence"), paint(DIM, "as it stands now"));
    out.push_str(&if explained.as_of { reported } else { reported.replacen(&stood, &stands, 1) });
    let last = explained.explanation.last.as_ref();
    if let Some(verdict) = explained.verdict.as_ref().filter(|verdict| last.is_none_or(|last| last.at != verdict.time))
    {
        out.push_str(&heading("The verdict that moved it"));
        out.push_str(&entry(verdict, look));
    }
    if !explained.later.is_empty() {
        out.push_str(&heading("What came after"));
        explained.later.iter().for_each(|reported| out.push_str(&entry(reported, look)));
    }
    if let Some(next) = &explained.next {
        out.push_str(&heading("What comes next"));
        next.words.iter().for_each(|words| out.push_str(&sentence(words, look)));
    }
    out
}

fn entry(reported: &Entry, look: TermStyle) -> String {
    hanging(&format!("{}  ", moment(&reported.time.to_string())), &sanitize(&reported.why()), look.columns())
}
