//! Styles: what a colour means, the same in every text.

use anstyle::{AnsiColor, Style};

/// The subject of a block.
pub const BOLD: Style = Style::new().bold();
/// Details for reference.
pub const DIM: Style = Style::new().dimmed();
/// Stopped, or beyond a limit.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Needs attention.
pub const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
/// Healthy.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Being tested.
pub(crate) const PROBING: Style = AnsiColor::Cyan.on_default();
/// No style.
pub const PLAIN: Style = Style::new();

/// A text in a style.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A text without its styles.
pub fn visible(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}
