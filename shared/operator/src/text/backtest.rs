//! What another policy would have changed, with what the source does not know.

use replay::text::layout::{BOLD, DIM, DOUBTFUL};
use replay::text::{TermStyle, counted, sanitize, thousands};

use super::painted;
use crate::backtest::Backtested;

/// So many damaged objects and rejected messages are shown, each.
const MAX_SHOWN: usize = 10;

pub(crate) fn backtested(backtested: &Backtested, look: TermStyle) -> String {
    let objects = backtested.objects.map_or_else(String::new, |objects| format!(", {}", counted(objects, "object")));
    let damaged = match backtested.damaged.len() {
        0 => String::new(),
        count => format!(", {} damaged or left out", thousands(count as u64)),
    };
    let mut out = painted(BOLD, &format!("Backtest on {}{objects}{damaged}", backtested.source), look);
    for note in &backtested.notes {
        out.push_str(&painted(DIM, &format!("note: {note}"), look));
    }
    for damaged in backtested.damaged.iter().take(MAX_SHOWN) {
        let words = format!("object {}: {}", sanitize(&damaged.object), damaged.problem);
        out.push_str(&painted(DOUBTFUL, &words, look));
    }
    let more = |out: &mut String, count: usize, what: &str| {
        if count > MAX_SHOWN {
            let more = thousands((count - MAX_SHOWN) as u64);
            out.push_str(&painted(DIM, &format!("… and {more} more {what} (--format json has them)"), look));
        }
    };
    more(&mut out, backtested.damaged.len(), "objects");
    for rejection in backtested.rejections.iter().take(MAX_SHOWN) {
        out.push_str(&painted(DOUBTFUL, &format!("rejected: {rejection}"), look));
    }
    more(&mut out, backtested.rejections.len(), "rejected messages");
    out.push_str(&replay::text::backtest(&backtested.backtest, look));
    out
}
