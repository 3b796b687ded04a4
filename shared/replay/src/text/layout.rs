//! Building blocks of all texts: numbers, styles, wrapped lines and light tables.

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use pipeline::transition::TransitionRecord;
use reputation::breaker::StateName;
use reputation::detect::Level;

/// How text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermStyle {
    /// Columns of the terminal.
    pub width: u16,
    /// Show every subject and every ISP, however many there are.
    pub everything: bool,
}

impl TermStyle {
    /// The width where there is no terminal.
    pub const NO_TERMINAL: u16 = 100;
    /// Lines of text longer than this are hard to read, however wide the terminal is.
    const WIDEST: u16 = 140;

    /// For a terminal of this many columns, if there is one.
    pub fn new(terminal: Option<u16>) -> TermStyle {
        TermStyle {
            width: terminal.map_or(TermStyle::NO_TERMINAL, |width| width.clamp(40, TermStyle::WIDEST)),
            everything: false,
        }
    }

    /// Columns, for arithmetic on lengths.
    pub fn columns(self) -> usize {
        usize::from(self.width)
    }
}

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
pub const PROBING: Style = AnsiColor::Cyan.on_default();
/// No style.
pub const PLAIN: Style = Style::new();

/// A text in a style.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The style of a breaker's state.
pub fn state_style(state: StateName) -> Style {
    match state {
        StateName::Open => BAD,
        StateName::Throttled => DOUBTFUL,
        StateName::Probing => PROBING,
        StateName::Closed => GOOD,
        StateName::InTrouble | StateName::Unknown => PLAIN,
    }
}

/// The change of a transition, in a word or two. `gate`: whether an application asks the gate.
pub fn transition_words(transition: &TransitionRecord, gate: bool) -> (String, Style) {
    let (from, to) = (transition.from.word(gate), transition.to.word(gate));
    match (transition.from == transition.to, transition.level) {
        (true, Some(Level::Warn)) => ("warning".to_owned(), DOUBTFUL),
        // A quota that is cut again, or raised but not yet whole.
        (true, Some(Level::Throttle | Level::Pause)) if transition.to == StateName::Throttled => {
            (if gate { "slowed further" } else { "warned again" }.to_owned(), DOUBTFUL)
        }
        (true, None) if transition.to == StateName::Throttled && gate => ("slowed less".to_owned(), DOUBTFUL),
        (true, Some(Level::Throttle | Level::Pause) | None) => (format!("still {to}"), state_style(transition.to)),
        (false, _) => (format!("{from} → {to}"), state_style(transition.to)),
    }
}

/// A number with a comma before each three digits.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 mail`, `2 mails`, `1,000 mails`; the plural of the noun must end in s.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// `a`, `a and b`, `a, b and c`.
pub fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Words in lines of at most `width` columns; longer words have a line of their own. A number stays with its `%`.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let bound = text.replace(" %", "\u{a0}%");
    for word in bound.split([' ', '\n']).filter(|word| !word.is_empty()) {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.into_iter().map(|line| line.replace('\u{a0}', " ")).collect()
}

/// Wrapped text, its first line after `lead` and the others under it.
pub fn hanging(lead: &str, text: &str, width: usize) -> String {
    let indent = lead.chars().count();
    let room = width.saturating_sub(indent).max(20);
    let mut out = String::new();
    for (place, line) in wrapped(text, room).iter().enumerate() {
        if place == 0 {
            out.push_str(lead);
        } else {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A cell with its style.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its text; escape sequences in it would count as columns.
    pub text: String,
    /// Its style.
    pub style: Style,
}

impl Cell {
    /// A cell without a style.
    pub fn new(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), style: PLAIN }
    }

    /// A cell with a style.
    pub fn styled(text: impl Into<String>, style: Style) -> Cell {
        Cell { text: text.into(), style }
    }
}

/// A table without lines whose cells are not wrapped.
#[derive(Clone, Debug)]
pub struct Grid {
    align: Vec<Align>,
    gap: u16,
    rows: Vec<Vec<Cell>>,
}

impl Grid {
    /// A table with a header row, and `gap` spaces between columns.
    pub fn new(header: &[(&str, Align)], gap: u16) -> Grid {
        let align = header.iter().map(|(_, align)| *align).collect();
        let header = header.iter().map(|(text, _)| Cell::styled(*text, DIM)).collect();
        Grid { align, gap, rows: vec![header] }
    }

    /// Adds a row with as many cells as there are columns.
    pub fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// The lines, header first, one for each row.
    pub fn lines(&self) -> Vec<String> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| comfy_table::Cell::new(&cell.text)));
        }
        for (index, align) in self.align.iter().enumerate() {
            let Some(column) = table.column_mut(index) else { continue };
            let gap = if index == 0 { 0 } else { self.gap };
            column.set_padding((gap, 0)).set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        // Styles are added last: escape sequences would count as columns.
        table.lines().zip(&self.rows).map(|(line, row)| styled_line(&line, row)).collect()
    }

    /// The width of the widest line, in columns.
    pub fn width(&self) -> usize {
        self.lines().iter().map(|line| visible(line).trim_end().chars().count()).max().unwrap_or(0)
    }
}

/// Adds the styles of a row's cells to its line, in which their texts occur in order.
fn styled_line(line: &str, row: &[Cell]) -> String {
    let mut out = String::new();
    let mut rest = line.trim_end();
    for cell in row {
        let text = cell.text.trim_end();
        let Some(at) = rest.find(text).filter(|_| !text.is_empty()) else { continue };
        out.push_str(&rest[..at]);
        out.push_str(&paint(cell.style, text));
        rest = &rest[at + text.len()..];
    }
    out.push_str(rest);
    out
}

/// A text without its styles.
pub fn visible(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// The date of an RFC 3339 time.
pub fn date(at: &str) -> &str {
    at.get(..10).unwrap_or(at)
}

/// The time of day of an RFC 3339 time, to the second.
pub fn clock(at: &str) -> &str {
    at.get(11..19).unwrap_or(at)
}

/// The time of day of an RFC 3339 time, to the minute.
pub fn minute_clock(at: &str) -> &str {
    at.get(11..16).unwrap_or(at)
}

/// Date and time of day of an RFC 3339 time, to the minute.
pub fn minute(at: &str) -> String {
    format!("{} {}", date(at), minute_clock(at))
}

/// Date and time of day of an RFC 3339 time, to the second.
pub fn moment(at: &str) -> String {
    format!("{} {}", date(at), clock(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_comma_before_each_three_digits() {
        let check = |number: u64, text: &str| assert_eq!(thousands(number), text);
        check(0, "0");
        check(999, "999");
        check(1_000, "1,000");
        check(19_775, "19,775");
        check(1_234_567, "1,234,567");
    }

    #[test]
    fn wrapping_loses_no_word_and_keeps_a_number_with_its_percent_sign() {
        let text = "10 of 45 attempts bounced hard (22 %) in mail of averyveryverylongword";
        for width in 1..80 {
            let lines = wrapped(text, width);
            assert_eq!(lines.join(" "), text);
            assert!(lines.iter().all(|line| !line.starts_with('%')));
        }
    }

    #[test]
    fn styles_do_not_move_columns() {
        let mut grid = Grid::new(&[("name", Align::Left), ("n", Align::Right)], 2);
        grid.push(vec![Cell::styled("gmail", BOLD), Cell::styled("7", BAD)]);
        grid.push(vec![Cell::new("a"), Cell::new("1,000")]);
        let lines: Vec<String> = grid.lines().iter().map(|line| visible(line)).collect();
        assert_eq!(lines, ["name       n", "gmail      7", "a      1,000"]);
    }
}
