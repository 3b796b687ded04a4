//! A small chart for a terminal: series by day, with a logarithmic volume axis.

use anstyle::Style;
use terminal::{DIM, paint, thousands};

/// One series.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The character that it is drawn with.
    pub(super) mark: char,
    /// Its style.
    pub(super) style: Style,
    /// A value for each day; 0 is drawn at the bottom.
    pub(super) values: Vec<u64>,
}

/// Rows of a power of ten.
const ROWS_PER_DECADE: usize = 3;

/// A chart of at most `columns` columns. Where two series meet, the first one is visible.
pub(super) fn chart(lines: &[Line<'_>], columns: usize) -> String {
    let most = lines.iter().flat_map(|line| &line.values).copied().max().unwrap_or(1).max(10);
    let days = lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
    let rows = row_of(most) + 1;
    let label_width = thousands(10_u64.pow(most.ilog10())).len().max(6);
    let room = columns.saturating_sub(label_width + 2).max(1);
    // As many columns for each day as fit, and less than one if there are too many days.
    let width = (days * (room / days.max(1)).clamp(1, 2)).min(room);
    let mut cells: Vec<Vec<Option<&Line<'_>>>> = vec![vec![None; width]; rows];
    for line in lines.iter().rev() {
        for (column, cell) in (0..width).map(|column| (column, column * days / width.max(1))) {
            // One mark for each day, if a day has several columns.
            let first = column == 0 || (column - 1) * days / width != cell;
            if let Some(value) = line.values.get(cell).filter(|_| first) {
                cells[row_of(*value).min(rows - 1)][column] = Some(line);
            }
        }
    }
    let mut out = String::new();
    for (row, cells) in cells.iter().enumerate().rev() {
        let label = if row % ROWS_PER_DECADE == 0 {
            thousands(10_u64.pow(u32::try_from(row / ROWS_PER_DECADE).unwrap_or(0)))
        } else {
            String::new()
        };
        let edge = if label.is_empty() { '│' } else { '┤' };
        out.push_str(&paint(DIM, &format!("{label:>label_width$} {edge}")));
        let last = cells.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        for cell in &cells[..last] {
            match cell {
                Some(line) => out.push_str(&paint(line.style, &line.mark.to_string())),
                None => out.push(' '),
            }
        }
        out.push('\n');
    }
    out.push_str(&axis(days, width, label_width));
    out
}

/// The row of a value: as many for each power of ten, from 1 on.
fn row_of(value: u64) -> usize {
    (((value.max(1)) as f64).log10() * ROWS_PER_DECADE as f64).round() as usize
}

/// The days below a chart: 1, 10, 20 …
fn axis(days: usize, width: usize, label_width: usize) -> String {
    let mut line: Vec<char> = vec![' '; width + 4];
    for day in (1..=days).filter(|day| *day == 1 || day.is_multiple_of(10)) {
        let column = ((day - 1) * width).div_ceil(days.max(1));
        for (place, digit) in day.to_string().chars().enumerate() {
            if let Some(cell) = line.get_mut(column + place) {
                *cell = digit;
            }
        }
    }
    let line: String = line.into_iter().collect();
    let edge = format!("{:label_width$} └{}\n", "", "─".repeat(width));
    let days = format!("{:>label_width$}  {}\n", "day", line.trim_end());
    paint(DIM, edge.trim_end()) + "\n" + &paint(DIM, days.trim_end()) + "\n"
}

#[cfg(test)]
mod tests {
    use terminal::{PLAIN, visible};

    use super::*;

    #[test]
    fn each_day_has_its_mark_at_the_height_of_its_volume() {
        let line = |name, mark, values: &[u64]| Line { name, mark, style: PLAIN, values: values.to_vec() };
        let lines = [line("a", 'a', &[1, 10, 100, 1_000, 1_000]), line("b", 'b', &[1, 1, 0, 100, 5_000])];
        insta::assert_snapshot!(visible(&chart(&lines, 40)), @r"
              │        b
              │
        1,000 ┤      a a
              │
              │
          100 ┤    a b
              │
              │
           10 ┤  a
              │
              │
            1 ┤a b b
              └──────────
          day  1
        ");
    }
}
