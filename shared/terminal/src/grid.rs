//! Light tables.

use anstyle::Style;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::style::{DIM, PLAIN, paint, visible};

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
        // Styles are added last: escape sequences would count as columns, and comfy-table's own styles obey NO_COLOR even where
        // `--color always` asks for them.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::{BAD, BOLD};

    #[test]
    fn styles_do_not_move_columns() {
        let mut grid = Grid::new(&[("name", Align::Left), ("n", Align::Right)], 2);
        grid.push(vec![Cell::styled("gmail", BOLD), Cell::styled("7", BAD)]);
        grid.push(vec![Cell::new("a"), Cell::new("1,000")]);
        let lines: Vec<String> = grid.lines().iter().map(|line| visible(line)).collect();
        assert_eq!(lines, ["name       n", "gmail      7", "a      1,000"]);
    }
}
