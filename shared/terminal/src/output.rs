//! Answers on standard output, and everything else on standard error.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use serde::Serialize;

use crate::layout::TermStyle;
use crate::sanitize::sanitize;

/// The format of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON document
    Json,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Writes a line to standard error, without control characters. There is no way to report a failure of that.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", sanitize(line));
}

/// Writes text to standard output; styles are stripped unless they are wanted.
///
/// # Errors
///
/// It cannot be written.
pub fn show(text: &str, color: Color) -> io::Result<()> {
    let choice = match color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    let mut out = AutoStream::new(io::stdout().lock(), choice);
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a JSON document to standard output.
///
/// # Errors
///
/// It cannot be written.
pub fn show_json(document: &impl Serialize) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, document)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// The layout for the terminal that standard output is, or for none.
pub fn term_style() -> TermStyle {
    let out = io::stdout();
    let terminal = if out.is_terminal() { comfy_table::Table::new().width() } else { None };
    TermStyle::new(terminal)
}
