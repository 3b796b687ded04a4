//! Texts for people: reports, explanations and policies with styles.
//!
//! Every function returns text with ANSI styles: see [`terminal`].

mod backtest;
mod call;
mod chart;
mod explanation;
mod policy;
mod quota;
mod report;
mod schedule;
mod simulation;

pub use backtest::backtest;
pub use call::Call;
pub use explanation::explanation;
pub use policy::{checked, policy};
pub use quota::quota;
pub(crate) use report::result;
pub use report::{report, summary, warnings};
pub use schedule::schedules;
pub use simulation::simulation;

use terminal::{TermStyle, hanging};

/// The built-in scenarios, by name and what they are about.
pub fn scenarios(about: &[(String, String)], term: TermStyle) -> String {
    let widest = about.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, about): &(String, String)| hanging(&format!("{name:<widest$}  "), about, term.columns());
    about.iter().map(line).collect()
}
