//! The numbers behind one key at one moment.

use reputation::breaker::StateName;
use reputation::counters::Metric;
use reputation::detect::Percent;
use terminal::time::{date, minute, minute_clock, moment};
use terminal::{
    Align, BAD, BOLD, Cell, DIM, Grid, PLAIN, TermStyle, hanging, name, paint, sanitize, state_style, thousands,
};

use crate::explain::{
    ExplainedCell, ExplainedCells, ExplainedEvidence, ExplainedJudgement, ExplainedMetric, Explanation,
};

/// The most cells that are shown before and up to the peak, and after it.
const MAX_BEFORE: usize = 24;
const MAX_AFTER: usize = 3;

/// An explanation as text: the breaker, the evidence against its thresholds, the ratio rules against their lines, what
/// is left out, and the cells behind the evidence.
pub fn explanation(explained: &Explanation, term: TermStyle) -> String {
    let mut out = title(explained, term);
    let [judged] = &explained.judged[..] else {
        for judged in &explained.judged {
            out.push('\n');
            out.push_str(&transition(explained, judged, term));
            // A decision by time needs no numbers of its own.
            if judged.decided.as_ref().is_some_and(|decided| decided.metric.is_some()) {
                out.push_str(&numbers(judged, term));
            }
        }
        out.push_str(&diagnoses(explained));
        return out;
    };
    out.push_str(&transition(explained, judged, term));
    out.push_str(&numbers(judged, term));
    out.push_str(&diagnoses(explained));
    out
}

/// What servers said, with an example message of each class.
fn diagnoses(explained: &Explanation) -> String {
    if explained.diagnoses.is_empty() {
        return String::new();
    }
    use Align::{Left, Right};
    let header = [("mails", Right), ("what", Left), ("SES says", Left), ("status", Left), ("for example", Left)];
    let mut grid = Grid::new(&header, 2);
    for diagnosis in &explained.diagnoses {
        let what = format!("{} at {}", diagnosis.kind.replace('_', " "), diagnosis.isp);
        let refusal = diagnosis.refusal.map(|refusal| format!(", refuses the sender: {refusal}")).unwrap_or_default();
        grid.push(vec![
            Cell::new(thousands(diagnosis.count)),
            Cell::new(what),
            Cell::new(format!("{}{refusal}", diagnosis.words)),
            Cell::new(diagnosis.status.clone()),
            Cell::styled(sanitize(&diagnosis.example), DIM),
        ]);
    }
    format!("\n{} {}\n{}", paint(BOLD, "What servers said"), paint(DIM, "until then, the most frequent"), lines(&grid))
}

fn numbers(judged: &ExplainedJudgement, term: TermStyle) -> String {
    let mut out = String::new();
    if !judged.metrics.is_empty() {
        let when = if judged.decided.is_some() { "as judged at that time" } else { "at that time" };
        out.push_str(&format!("\n{} {}\n", paint(BOLD, "Evidence"), paint(DIM, when)));
        out.push_str(&lines(&evidence(&judged.metrics)));
    }
    if judged.ratios.iter().any(|ratio| !ratio.lines.is_empty()) {
        out.push_str(&format!("\n{}\n", paint(BOLD, "Ratio rules")));
        out.push_str(&lines(&ratios(judged)));
    }
    if !judged.forecast.is_empty() {
        out.push_str(&format!("\n{}\n", paint(BOLD, "The account as SES would see it")));
        out.push_str(&lines(&forecast(judged)));
    }
    if !judged.left_out.is_empty() {
        out.push_str(&format!("\n{}\n", paint(BOLD, "Not counted for the subject as a whole")));
        for left_out in &judged.left_out {
            let mail = match &left_out.before {
                Some(before) => format!("mail accepted before {}", minute(before)),
                None => "all mail".to_owned(),
            };
            let text = format!("{mail}: {}", left_out.why);
            out.push_str(&hanging(&format!("{}  ", left_out.isp), &text, term.columns()));
        }
    }
    if let Some(behind) = &judged.cells {
        out.push_str(&cells(behind));
    }
    out
}

fn lines(grid: &Grid) -> String {
    grid.lines().iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn noun(metric: &str) -> String {
    metric.replace('_', " ")
}

fn populations(metric: &str) -> &'static str {
    Metric::ALL.iter().find(|known| known.name() == metric).map_or("mails", |metric| metric.population_noun())
}

fn title(explained: &Explanation, term: TermStyle) -> String {
    let key = match &explained.isp {
        Some(isp) => format!("{} @ {isp}", name(&explained.subject)),
        None => name(&explained.subject),
    };
    let mut out = format!("{} at {}\n", paint(BOLD, &key), explained.at);
    let breaker = &explained.breaker;
    // For engineers: both words. An ISP in trouble has one.
    let shown = match breaker.state.word(explained.gate) {
        same if same == breaker.state.name() => same.to_owned(),
        shown => format!("{shown} ({})", breaker.state),
    };
    let mut text = match breaker.state {
        StateName::Throttled | StateName::Probing if explained.gate => {
            format!("{shown} at {} of the quota", Percent(breaker.factor))
        }
        StateName::Closed
        | StateName::Throttled
        | StateName::Open
        | StateName::Probing
        | StateName::InTrouble
        | StateName::Unknown => shown.clone(),
    };
    if let Some(since) = &breaker.since {
        text.push_str(&format!(" since {}", moment(since)));
    }
    match &breaker.until {
        Some(until) => text.push_str(&format!(", until {}", moment(until))),
        None if breaker.state == StateName::Open => text.push_str(", until a person resumes it"),
        None => {}
    }
    match breaker.trips {
        0 => {}
        1 => text.push_str("; 1 trip"),
        trips => text.push_str(&format!("; {trips} trips")),
    }
    let line = hanging("breaker: ", &text, term.columns());
    out.push_str(&line.replacen(&shown, &paint(state_style(breaker.state), &shown), 1));
    out
}

fn transition(explained: &Explanation, judged: &ExplainedJudgement, term: TermStyle) -> String {
    match (&judged.decided, &explained.last) {
        (Some(transition), _) => {
            let change = if transition.from == transition.to {
                "reported".to_owned()
            } else {
                format!("{} → {}", transition.from.word(explained.gate), transition.to.word(explained.gate))
            };
            hanging("decided: ", &format!("{change}: {}", sanitize(&transition.reason)), term.columns())
        }
        (None, Some(last)) => hanging(
            &format!("last reported: {}  ", moment(&last.at.to_string())),
            &sanitize(&last.reason),
            term.columns(),
        ),
        (None, None) => "no notices so far\n".to_owned(),
    }
}

fn evidence(metrics: &[ExplainedMetric]) -> Grid {
    use Align::{Left, Right};
    let header = [
        ("metric", Left),
        ("limit", Right),
        ("bad", Right),
        ("of", Right),
        ("rate", Right),
        ("evidence", Right),
        ("throttle", Right),
        ("pause", Right),
        ("mail since", Left),
    ];
    let mut grid = Grid::new(&header, 2);
    for metric in metrics {
        let limit = Percent(metric.limit).to_string();
        if !metric.judged {
            let row = [noun(metric.metric), limit, "judged at each ISP only".to_owned()];
            let mut row: Vec<Cell> = row.into_iter().map(Cell::new).collect();
            // A text that spans no column goes into the last one.
            let says = row.pop().map_or_else(|| Cell::new(""), |says| Cell::styled(says.text, DIM));
            row.extend(std::iter::repeat_n(Cell::new(""), header.len() - 3));
            row.push(says);
            grid.push(row);
            continue;
        }
        let same = metric.evidence.windows(2).all(|pair| pair[0].since == pair[1].since);
        let rows = if same { &metric.evidence[..1.min(metric.evidence.len())] } else { &metric.evidence[..] };
        for row in rows {
            let threshold = |level: &str| {
                let own = metric.evidence.iter().find(|known| known.level == level);
                let shown = own.filter(|known| same || known.level == row.level);
                Cell::new(shown.map_or(String::new(), |known| {
                    known.threshold.map_or("never".to_owned(), |nats| format!("{nats:.1}"))
                }))
            };
            grid.push(vec![
                Cell::new(noun(metric.metric)),
                Cell::new(limit.clone()),
                Cell::new(thousands(row.bad)),
                Cell::new(thousands(row.population)),
                Cell::new(row.rate.map_or("no data".to_owned(), |rate| Percent(rate).to_string())),
                Cell::styled(format!("{:.1}", row.peak), if reached(metric, row, same) { BAD } else { PLAIN }),
                threshold("throttle"),
                threshold("pause"),
                Cell::new(row.since.as_deref().map_or_else(|| "the beginning".to_owned(), minute)),
            ]);
        }
    }
    grid
}

fn reached(metric: &ExplainedMetric, row: &ExplainedEvidence, same: bool) -> bool {
    let thresholds = metric.evidence.iter().filter(|known| same || known.level == row.level);
    thresholds.filter_map(|known| known.threshold).any(|threshold| row.peak >= threshold)
}

fn ratios(judged: &ExplainedJudgement) -> Grid {
    use Align::{Left, Right};
    let header = [
        ("metric", Left),
        ("over", Right),
        ("bad", Right),
        ("of", Right),
        ("rate", Right),
        ("level", Left),
        ("line", Right),
        ("", Left),
        ("mail since", Left),
    ];
    let mut grid = Grid::new(&header, 2);
    for ratio in &judged.ratios {
        for line in &ratio.lines {
            let floor = if line.population < ratio.min_population {
                Cell::styled(format!("below {} {}", thousands(ratio.min_population), populations(ratio.metric)), DIM)
            } else if line.bad < ratio.min_bad {
                Cell::styled(format!("below {} bad", thousands(ratio.min_bad)), DIM)
            } else if line.reached {
                Cell::styled("reached", BAD)
            } else {
                Cell::new("")
            };
            grid.push(vec![
                Cell::new(noun(ratio.metric)),
                Cell::new(format!("{} h", ratio.window_hours)),
                Cell::new(thousands(line.bad)),
                Cell::new(thousands(line.population)),
                Cell::new(line.rate.map_or("no data".to_owned(), |rate| Percent(rate).to_string())),
                Cell::new(line.level),
                Cell::new(Percent(line.line).to_string()),
                floor,
                Cell::new(minute(&line.since)),
            ]);
        }
    }
    grid
}

fn forecast(judged: &ExplainedJudgement) -> Grid {
    use Align::{Left, Right};
    let header =
        [("metric", Left), ("bad", Right), ("of", Right), ("rate", Right), ("review", Right), ("pause", Right)];
    let mut grid = Grid::new(&header, 2);
    for seen in &judged.forecast {
        let past = seen.rate.is_some_and(|rate| rate >= seen.review);
        let rate = seen.rate.map_or("no data".to_owned(), |rate| Percent(rate).to_string());
        grid.push(vec![
            Cell::new(noun(seen.metric)),
            Cell::new(thousands(seen.bad)),
            Cell::new(thousands(seen.population)),
            Cell::styled(rate, if past { BAD } else { PLAIN }),
            Cell::new(Percent(seen.review).to_string()),
            Cell::new(Percent(seen.pause).to_string()),
        ]);
    }
    grid
}

fn cells(behind: &ExplainedCells) -> String {
    use Align::{Left, Right};
    let title = format!("Cells behind the evidence about {}s", noun(behind.metric));
    if behind.cells.is_empty() {
        return String::new();
    }
    let mut header = vec![
        ("accepted", Left),
        (populations(behind.metric), Right),
        ("bad", Right),
        ("rate", Right),
        ("evidence", Right),
        ("", Left),
    ];
    // Only where it differs from `bad`.
    let shows_counted = behind.cells.iter().any(|cell| cell.repeats > 0);
    if shows_counted {
        header.insert(3, ("counted", Right));
    }
    let mut grid = Grid::new(&header, 2);
    let peak = behind.cells.iter().position(|cell| cell.peak);
    let Some(peak) = peak else {
        return format!("\n{}\nnone: evidence never rose above 0\n", paint(BOLD, &title));
    };
    let (rise, after) = behind.cells.split_at(peak + 1);
    let (head, elided, tail) = if rise.len() > MAX_BEFORE {
        let (head, rest) = rise.split_at(MAX_BEFORE / 2);
        let (elided, tail) = rest.split_at(rest.len() - MAX_BEFORE / 2);
        (head, elided, tail)
    } else {
        (rise, &rise[..0], &rise[..0])
    };
    let mut day = String::new();
    let mut show = |grid: &mut Grid, cell: &ExplainedCell| {
        let span = if date(&cell.from) == day {
            format!("           {}–{}", minute_clock(&cell.from), minute_clock(&cell.until))
        } else {
            format!("{}–{}", minute(&cell.from), minute_clock(&cell.until))
        };
        day = date(&cell.from).to_owned();
        let mut row = vec![
            Cell::new(span),
            Cell::new(thousands(cell.population)),
            Cell::new(thousands(cell.bad)),
            Cell::new(cell.rate.map_or("–".to_owned(), |rate| Percent(rate).to_string())),
            Cell::styled(format!("{:.1}", cell.evidence), if cell.peak { BAD.bold() } else { PLAIN }),
            Cell::styled(if cell.peak { "◄ peak" } else { "" }, BAD),
        ];
        if shows_counted {
            row.insert(3, Cell::new(thousands(cell.bad.saturating_sub(cell.repeats))));
        }
        grid.push(row);
    };
    head.iter().for_each(|cell| show(&mut grid, cell));
    if let (Some(first), Some(last)) = (elided.first(), elided.last()) {
        let population: u64 = elided.iter().map(|cell| cell.population).sum();
        let bad: u64 = elided.iter().map(|cell| cell.bad).sum();
        let span = format!("  … {} cells, {}–{}", elided.len(), minute_clock(&first.from), minute_clock(&last.until));
        let mut texts = vec![span, thousands(population), thousands(bad), String::new(), "…".to_owned(), String::new()];
        if shows_counted {
            let repeats: u64 = elided.iter().map(|cell| cell.repeats).sum();
            texts.insert(3, thousands(bad.saturating_sub(repeats)));
        }
        grid.push(texts.into_iter().map(|text| Cell::styled(text, DIM)).collect());
    }
    tail.iter().chain(after.iter().take(MAX_AFTER)).for_each(|cell| show(&mut grid, cell));
    let mut out = format!("\n{}\n{}", paint(BOLD, &title), lines(&grid));
    if after.len() > MAX_AFTER {
        let more = format!("… and {} later cells, none of which raised it\n", after.len() - MAX_AFTER);
        out.push_str(&paint(DIM, &more));
    }
    if shows_counted {
        let by_people = behind.metric == Metric::Complaint.name();
        let what = if by_people { "complaints of one person" } else { "hard bounces at one business domain" };
        out.push_str(&paint(DIM, &format!("counted: {what} count once a day\n")));
    }
    out
}
