//! Texts for people: reports, explanations and policies with styles.
//!
//! Every function returns text with ANSI styles; the writer strips them where they are not wanted. Long text is wrapped under
//! its column; only names of more than 80 characters are cut, in their middle.

mod backtest;
mod chart;
mod explanation;
pub mod layout;
mod policy;
mod quota;
mod report;
mod sanitize;
mod schedule;
mod shell_quote;
mod simulation;

pub use backtest::backtest;
pub use explanation::explanation;
pub use layout::{TermStyle, counted, listed, thousands};
pub use policy::policy;
pub use quota::quota;
pub use report::{gate_line, input_line, rate_style, report, warnings};
pub use sanitize::{name, sanitize};
pub use schedule::schedules;
pub use shell_quote::{Call, quoted};
pub use simulation::simulation;

/// The built-in scenarios, by name and what they are about.
pub fn scenarios(about: &[(String, String)], term: TermStyle) -> String {
    let widest = about.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, about): &(String, String)| layout::hanging(&format!("{name:<widest$}  "), about, term.columns());
    about.iter().map(line).collect()
}
