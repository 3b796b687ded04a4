//! What the gate would have granted, for people.

use std::collections::BTreeMap;

use reputation::detect::Percent;
use reputation::policy::Policy;
use terminal::{
    Align, BOLD, Cell, DIM, DOUBTFUL, Grid, PLAIN, TermStyle, counted, hanging, name, paint, thousands, wrapped,
};

use crate::quota::QuotaRow;
use crate::report::Report;

/// The number of configuration sets that are shown unless everything is asked for: those with the most mail.
const MAX_SETS: usize = 6;
/// The number of ISPs of a set that are shown.
const MAX_ISPS: usize = 6;
/// Of more days than this, the first and the last are shown.
const MAX_DAYS: usize = 10;
/// The number of first days that are shown in that case.
const FIRST_DAYS: usize = 4;
/// The number of left-out sets that are named.
const MAX_LEFT_OUT: usize = 8;

/// What the gate would have granted, as text; empty if it was not asked.
pub fn quota(report: &Report, policy: &Policy, term: TermStyle) -> String {
    let Some(rows) = &report.quota else { return String::new() };
    let mut out = format!("\n{}\n", paint(BOLD, "What the gate would have granted"));
    let mut say = |text: &str| {
        out.extend(wrapped(text, term.columns()).iter().map(|line| paint(DIM, line) + "\n"));
    };
    say(
        "Each mail is requested as bulk mail at the time when it was sent, and deferred mail is not requested again. The \
         granted share is the part of this traffic that would have fitted at once.",
    );
    if policy.warmup.sets.is_empty() {
        say("The policy names no configuration set in [warmup.sets], so all are planned by [warmup.plan], as if \
             they were new. For a set with much mail already, set [warmup.sets.NAME] with \
             `start` and `target`.");
    }
    let mut by_set: BTreeMap<&str, Vec<&QuotaRow>> = BTreeMap::new();
    for row in rows {
        by_set.entry(&row.configuration_set).or_default().push(row);
    }
    let mut sets: Vec<(&str, Vec<&QuotaRow>)> = by_set.into_iter().collect();
    sets.sort_by_key(|(_, rows)| std::cmp::Reverse(asked(rows)));
    let most = if term.everything { usize::MAX } else { MAX_SETS };
    let hidden = sets.len().saturating_sub(most);
    for (set, rows) in sets.iter().take(most) {
        out.push('\n');
        let by =
            if rows.iter().all(|row| row.demand == "sent") { "" } else { " (no Send events: mails with an outcome)" };
        let title = format!("configuration-set:{}{by}", name(set));
        out.extend(wrapped(&title, term.columns()).iter().map(|line| paint(BOLD, line) + "\n"));
        for line in table(rows, term) {
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    let mut say = |text: &str| out.push_str(&hanging("", text, term.columns()));
    if rows.is_empty() {
        say("no mail would have been requested");
    }
    if hidden > 0 {
        let hidden = counted(hidden as u64, "more configuration set");
        say(&format!("{hidden} with less mail not shown (--subject shows one, --format json all)"));
    }
    if let Some(left_out) = report.quota_left_out.as_ref().filter(|left_out| !left_out.is_empty()) {
        let shown: Vec<String> = left_out.iter().take(MAX_LEFT_OUT).map(|set| name(set)).collect();
        let more = match left_out.len().saturating_sub(MAX_LEFT_OUT) {
            0 => String::new(),
            more => format!(" and {}", counted(more as u64, "more")),
        };
        say(&format!("not planned, because [warmup.sets] does not name them: {}{more}", shown.join(", ")));
    }
    out
}

fn asked(rows: &[&QuotaRow]) -> u64 {
    rows.iter().map(|row| row.asked).sum()
}

/// A line for each ISP over all its days, and one for each day.
fn table(rows: &[&QuotaRow], term: TermStyle) -> Vec<String> {
    use Align::{Left, Right};
    let mut by_isp: BTreeMap<&str, Vec<&QuotaRow>> = BTreeMap::new();
    for row in rows {
        by_isp.entry(&row.isp).or_default().push(row);
    }
    let mut isps: Vec<(&str, Vec<&QuotaRow>)> = by_isp.into_iter().collect();
    isps.sort_by_key(|(_, rows)| std::cmp::Reverse(asked(rows)));
    let most = if term.everything { usize::MAX } else { MAX_ISPS };
    let header = [
        ("", Left),
        ("quota", Right),
        ("sent", Right),
        ("granted", Right),
        ("overflow", Right),
        ("deferred", Right),
        ("would fit", Right),
        ("because of", Left),
    ];
    let mut grid = Grid::new(&header, 2);
    let line = |label: Cell, quota: String, rows: &[&QuotaRow]| {
        let sum = |count: fn(&QuotaRow) -> u64| rows.iter().map(|row| count(row)).sum::<u64>();
        let (asked, deferred) = (sum(|row| row.asked), sum(|row| row.deferred));
        let fits = (asked - deferred) as f64 / asked.max(1) as f64;
        let mut limits: BTreeMap<&str, u64> = BTreeMap::new();
        for (limit, mails) in rows.iter().flat_map(|row| &row.limits) {
            *limits.entry(limit).or_default() += mails;
        }
        let mut limits: Vec<(&str, u64)> = limits.into_iter().collect();
        limits.sort_by_key(|(_, mails)| std::cmp::Reverse(*mails));
        let limits: Vec<&str> = limits.into_iter().map(|(limit, _)| limit).collect();
        vec![
            label,
            Cell::new(quota),
            Cell::new(thousands(asked)),
            Cell::new(thousands(sum(|row| row.granted))),
            Cell::new(thousands(sum(|row| row.overflow))),
            Cell::new(thousands(deferred)),
            Cell::styled(Percent(fits).to_string(), if deferred > 0 { DOUBTFUL } else { PLAIN }),
            Cell::styled(limits.join(", "), DIM),
        ]
    };
    let mut notes = Vec::new();
    for (isp, days) in isps.iter().take(most) {
        if let [row] = days[..] {
            grid.push(line(Cell::styled(format!("  {isp} {}", row.day), BOLD), thousands(row.quota), days));
            continue;
        }
        grid.push(line(Cell::styled(format!("  {isp}"), BOLD), String::new(), days));
        let cut = !term.everything && days.len() > MAX_DAYS;
        let hidden = if cut { FIRST_DAYS..days.len() - (MAX_DAYS - FIRST_DAYS) } else { 0..0 };
        for (place, row) in days.iter().enumerate().filter(|(place, _)| !hidden.contains(place)) {
            if place == hidden.end && cut {
                grid.push(line(
                    Cell::styled(format!("    {} more days", hidden.len()), DIM),
                    String::new(),
                    &days[hidden.clone()],
                ));
            }
            let mark = if matches!(row.step, "shrank" | "trickled" | "decayed" | "followed") { " ↓" } else { "" };
            if !mark.is_empty() {
                notes.push((isp, *row));
            }
            grid.push(line(Cell::styled(format!("    {}{mark}", row.day), DIM), thousands(row.quota), &[*row]));
        }
    }
    let rest: Vec<&QuotaRow> = isps.iter().skip(most).flat_map(|(_, rows)| rows.iter().copied()).collect();
    if !rest.is_empty() {
        let more = isps.len() - most;
        grid.push(line(Cell::styled(format!("  {more} more"), BOLD), String::new(), &rest));
    }
    let mut lines = grid.lines();
    let shown = notes.len().min(MAX_DAYS);
    for (isp, row) in &notes[..shown] {
        let note = format!("{} {isp}: {} {}", row.day, thousands(row.quota), row.reason);
        lines.extend(hanging("  ↓ ", &note, term.columns()).lines().map(str::to_owned));
    }
    lines
}
