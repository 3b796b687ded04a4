//! What both command lines share: how text is laid out and styled, and how arguments are read and answers written.
//!
//! Texts carry ANSI styles; [`show`] strips them where they are not wanted. Long text is wrapped under its column; only names
//! of more than 80 characters are cut, in their middle.
//!
//! **Invariant:** every string from outside that appears in a text or on standard error has passed through [`sanitize()`].
//! **Invariant:** nothing here knows event files or AWS; the rules are known for the colours of states and rates.

mod breakers;
mod error;
mod exit;
mod grid;
mod layout;
pub mod manual;
mod output;
mod policy_fault;
pub mod progress;
mod sanitize;
mod shell;
mod style;
mod suggest;
pub mod time;
mod words;

pub use breakers::{rate_style, state_style, transition_words};
pub use error::{ErrorReport, report_usage};
pub use exit::{ErrorKind, Exit};
pub use grid::{Align, Cell, Grid};
pub use layout::{TermStyle, hanging, wrapped};
pub use output::{Color, Format, complain, show, show_json, term_style};
pub use policy_fault::{InvalidPolicy, PolicyFault};
pub use reputation::number::thousands;
pub use sanitize::{name, sanitize};
pub use shell::{command, quoted};
pub use style::{BAD, BOLD, DIM, DOUBTFUL, GOOD, PLAIN, paint, visible};
pub use suggest::{nearest, suggest};
pub use time::TimeArg;
pub use words::{counted, listed};
