//! The results of a simulation, for people.

use anstyle::{AnsiColor, Style};
use reputation::detect::Percent;
use terminal::{Align, BOLD, Cell, DIM, Grid, PLAIN, TermStyle, counted, hanging, paint, thousands, wrapped};

use super::chart::{Line, chart};
use crate::simulate::{
    Arm, ArmSummary, ArmTotal, Demand, IspSummary, Model, Reached, Scenario, ScenarioSummary, Spread, Summary,
};

const ADAPTIVE: Style = AnsiColor::Green.on_default();
const FIXED: Style = AnsiColor::Red.on_default();
const BY_TIME: Style = AnsiColor::Yellow.on_default();
const ORACLE: Style = AnsiColor::Blue.on_default();

/// A simulation as text: for each scenario a table, its conclusions, and a chart.
pub fn simulation(summary: &Summary, term: TermStyle) -> String {
    let seeds = match summary.seeds {
        1 => format!("seed {}", summary.seed),
        seeds => format!("{seeds} seeds from {}", summary.seed),
    };
    let intro = format!(
        "{}, {seeds}, {} → {} mails a day at each ISP, in a model of ISPs; real ISPs differ \
         (shared/replay/DESIGN.md). {}adaptive: planner, breaker and gate; fixed: in equal factors within \
         30 days, without feedback; by time: a 45th of the target more each day, our reading of SES's plan for dedicated \
         IPs, without the shared IPs that carry its excess; oracle: knows the limits and sends what is taken, as a bound.",
        counted(u64::from(summary.days), "day"),
        thousands(summary.start),
        thousands(summary.target),
        choices(summary),
    );
    let mut out = hanging("", &intro, term.columns());
    for scenario in &summary.scenarios {
        out.push('\n');
        let title = format!("{}: {}", scenario.scenario, scenario.about);
        out.extend(wrapped(&title, term.columns()).iter().map(|line| paint(BOLD, line) + "\n"));
        out.push_str(&table(scenario, summary.seeds, term));
        out.push_str(&totals(scenario));
        out.push_str(&conclusions(scenario, term));
        out.push_str(&drawn(scenario, term));
    }
    out
}

/// What differs from the usual simulation, as sentences.
fn choices(summary: &Summary) -> String {
    let mut out = String::new();
    if summary.model != Model::default().name() {
        out += &format!("Model: {}. ", summary.model);
    }
    if summary.ips != 1 {
        out += &format!("Sender with {} IPs. ", summary.ips);
    }
    if summary.sender != Demand::default().name() {
        out += &format!("Sender: {}. ", summary.sender);
    }
    if !summary.asks_again {
        out += "It never asks again. ";
    }
    if summary.schedule {
        out += "It asks for schedules. ";
    }
    out
}

fn spoken(arm: &str) -> String {
    arm.replace('_', " ")
}

/// All ISPs of a scenario together: means.
fn totals(scenario: &ScenarioSummary) -> String {
    use Align::{Left, Right};
    let header = [
        ("all ISPs, mean", Left),
        ("delivered", Right),
        ("of oracle", Right),
        ("def. + blocks", Right),
        ("turned away", Right),
    ];
    let mut grid = Grid::new(&header, 2);
    let oracle = scenario.total(Arm::Oracle).map_or(0.0, |total| total.delivered_thousands);
    for total in &scenario.totals {
        let ArmTotal { arm, delivered_thousands, trouble_share, turned_away_share } = *total;
        grid.push(vec![
            Cell::styled(format!("  {}", spoken(arm)), style(arm)),
            Cell::new(format!("{}k", thousands(delivered_thousands.round() as u64))),
            Cell::new(Percent(delivered_thousands / oracle.max(1e-9)).to_string()),
            Cell::new(Percent(trouble_share).to_string()),
            Cell::new(Percent(turned_away_share).to_string()),
        ]);
    }
    grid.lines().iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Medians, and under each its range, where there is room and more than one seed.
fn table(scenario: &ScenarioSummary, seeds: u32, term: TermStyle) -> String {
    let with_ranges = grid(scenario, seeds, seeds > 1, 2);
    let narrow = || grid(scenario, seeds, seeds > 1, 1);
    let fits = |grid: &Grid| grid.width() <= term.columns();
    let grid = [with_ranges, narrow()].into_iter().find(fits).unwrap_or_else(|| grid(scenario, seeds, false, 1));
    grid.lines().iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn grid(scenario: &ScenarioSummary, seeds: u32, ranges: bool, gap: u16) -> Grid {
    use Align::{Left, Right};
    let header = [
        ("median, range", Left),
        ("reached", Right),
        ("sent", Right),
        ("delivered", Right),
        ("deferrals", Right),
        ("blocks", Right),
        ("hard b.", Right),
        ("compl.", Right),
    ];
    let mut grid = Grid::new(&header, gap);
    for isp in &scenario.isps {
        grid.push(vec![Cell::styled(format!("{} ({})", isp.isp, isp.temper), BOLD)]);
        for arm in &isp.arms {
            let counts = [arm.sent, arm.delivered, arm.deferrals, arm.blocks, arm.hard_bounces, arm.complaints];
            let mut row =
                vec![Cell::styled(format!("  {}", spoken(arm.arm)), style(arm.arm)), Cell::new(day(&arm.reached))];
            row.extend(counts.iter().map(|count| Cell::new(rounded(count.median))));
            grid.push(row);
            if ranges {
                let mut row = vec![Cell::new(""), Cell::styled(days(&arm.reached, seeds), DIM)];
                row.extend(counts.iter().map(|count| Cell::styled(range(count), DIM)));
                grid.push(row);
            }
        }
    }
    grid
}

fn style(arm: &str) -> Style {
    match Arm::ALL.into_iter().find(|known| known.name() == arm) {
        Some(Arm::Adaptive) => ADAPTIVE,
        Some(Arm::Fixed) => FIXED,
        Some(Arm::ByTime) => BY_TIME,
        Some(Arm::Oracle) => ORACLE,
        None => PLAIN,
    }
}

fn day(reached: &Reached) -> String {
    reached.median.map_or("never".to_owned(), |day| format!("day {day}"))
}

fn days(reached: &Reached, seeds: u32) -> String {
    match (reached.min, reached.max) {
        (Some(min), Some(max)) => format!("{min}–{max}"),
        (Some(min), None) => format!("{} of {seeds}: {min}–", reached.seeds),
        (None, _) => format!("0 of {seeds}"),
    }
}

fn range(spread: &Spread<u64>) -> String {
    let (min, max) = (rounded(spread.min), rounded(spread.max));
    // One unit is enough for both ends.
    let unit = |text: &str| text.chars().last().filter(|last| last.is_alphabetic());
    match (unit(&min), unit(&max)) {
        _ if min == max => min,
        (Some(low), Some(high)) if low == high => format!("{}–{max}", &min[..min.len() - 1]),
        _ => format!("{min}–{max}"),
    }
}

/// A number with three significant digits: 6,320, 17.0k, 1.43M.
fn rounded(number: u64) -> String {
    let scaled = |unit: f64, letter: char| {
        let value = number as f64 / unit;
        let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
        format!("{value:.digits$}{letter}")
    };
    match number {
        0..10_000 => thousands(number),
        10_000..999_500 => scaled(1e3, 'k'),
        999_500..999_500_000 => scaled(1e6, 'M'),
        _ => scaled(1e9, 'G'),
    }
}

/// The conclusions for a scenario: which plan reached the target first, and what the most instructive ISP turned away.
fn conclusions(scenario: &ScenarioSummary, term: TermStyle) -> String {
    let sum = |place: usize| scenario.isps.iter().map(|isp| u64::from(isp.no_later_than_fixed[place])).sum::<u64>();
    let target = match sum(1) {
        0 => "fixed does not reach it at any ISP with any seed".to_owned(),
        of => {
            format!("adaptive reaches it no later than fixed in {} of {}", sum(0), counted(of, "case"))
                + " (ISP and seed) in which fixed reaches it"
        }
    };
    let mut out = hanging("target: ", &target, term.columns());
    let Some(isp) = main_isp(scenario) else { return out };
    let (Some(ours), Some(fixed)) = (isp.arm(Arm::Adaptive), isp.arm(Arm::Fixed)) else { return out };
    let percent = |share: f64| Percent(share).to_string();
    let per_mail = |arm: &ArmSummary| {
        let trouble = (arm.deferrals.median + arm.blocks.median) as f64;
        Percent(trouble / arm.sent.median.max(1) as f64)
    };
    let share = isp.trouble_of_fixed;
    let trouble = format!(
        "adaptive has {} of the deferrals and blocks of fixed ({} to {}): of the mails that each sent, {} and {}; \
         delivered: {} and {}",
        percent(share.median),
        percent(share.min),
        percent(share.max),
        per_mail(ours),
        per_mail(fixed),
        rounded(ours.delivered.median),
        rounded(fixed.delivered.median),
    );
    out.push_str(&hanging(&format!("{}: ", isp.isp), &trouble, term.columns()));
    out
}

fn main_isp(scenario: &ScenarioSummary) -> Option<&IspSummary> {
    let known = Scenario::ALL.into_iter().find(|known| known.name() == scenario.scenario)?;
    scenario.isps.iter().find(|isp| isp.isp == known.main_isp())
}

fn drawn(scenario: &ScenarioSummary, term: TermStyle) -> String {
    let Some(isp) = main_isp(scenario) else { return String::new() };
    let marks = ['●', '+', '·', '○'];
    let lines: Vec<Line<'_>> = isp
        .arms
        .iter()
        .zip(marks)
        .map(|(arm, mark)| Line {
            name: arm.arm,
            mark,
            style: style(arm.arm),
            values: arm.daily.iter().map(|day| day.delivered).collect(),
        })
        .collect();
    let legend: Vec<String> = lines
        .iter()
        .map(|line| format!("{} {}", paint(line.style, &line.mark.to_string()), spoken(line.name)))
        .collect();
    let title = format!("\nmails delivered a day at {}: {}\n", isp.isp, legend.join("  "));
    title + &chart(&lines, term.columns())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_three_digits_that_count() {
        let check = |number: u64, text: &str| assert_eq!(rounded(number), text);
        check(0, "0");
        check(9_999, "9,999");
        check(17_014, "17.0k");
        check(985_716, "986k");
        check(999_500, "1.00M");
        check(1_440_640, "1.44M");
        let check = |min: u64, max: u64, text: &str| assert_eq!(range(&Spread { median: 0, min, max }), text);
        check(5, 5, "5");
        check(670, 13_862, "670–13.9k");
        check(1_305_234, 1_440_640, "1.31–1.44M");
    }
}
