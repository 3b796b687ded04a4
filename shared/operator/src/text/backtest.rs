//! What another policy would have changed, and what the source does not record.

use terminal::{BOLD, DIM, DOUBTFUL, TermStyle, counted, sanitize, thousands};

use super::{Render, painted};
use crate::backtest::Backtested;

/// The number of damaged objects, and of rejected messages, that are shown.
const MAX_SHOWN: usize = 10;

impl Render for Backtested {
    fn text(&self, term: TermStyle) -> String {
        backtested(self, term)
    }
}

fn backtested(backtested: &Backtested, term: TermStyle) -> String {
    let objects = backtested.objects.map_or_else(String::new, |objects| format!(", {}", counted(objects, "object")));
    let damaged = match backtested.damaged.len() {
        0 => String::new(),
        count => format!(", {} damaged or skipped", thousands(count as u64)),
    };
    let mut out = painted(BOLD, &format!("Backtest on {}{objects}{damaged}", backtested.source), term);
    for note in &backtested.notes {
        out.push_str(&painted(DIM, &format!("note: {note}"), term));
    }
    for damaged in backtested.damaged.iter().take(MAX_SHOWN) {
        let words = format!("object {}: {}", sanitize(&damaged.object), damaged.problem);
        out.push_str(&painted(DOUBTFUL, &words, term));
    }
    let more = |out: &mut String, count: usize, what: &str| {
        if count > MAX_SHOWN {
            let more = thousands((count - MAX_SHOWN) as u64);
            out.push_str(&painted(DIM, &format!("… and {more} more {what} (--format json has them)"), term));
        }
    };
    more(&mut out, backtested.damaged.len(), "objects");
    for rejection in backtested.rejections.iter().take(MAX_SHOWN) {
        out.push_str(&painted(DOUBTFUL, &format!("rejected: {rejection}"), term));
    }
    more(&mut out, backtested.rejections.len(), "rejected messages");
    out.push_str(&replay::text::backtest(&backtested.backtest, term));
    out
}
