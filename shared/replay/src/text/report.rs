//! The report of a replay, for people.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, btree_map};

use anstyle::Style;
use pipeline::control::stops_at_ses;
use reputation::breaker::StateName;
use reputation::counters::Metric;
use reputation::detect::{Level, Percent, RuleName};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::unit::UnitKind;
use terminal::time::{clock, date, moment};
use terminal::{
    Align, BAD, BOLD, Cell, DIM, DOUBTFUL, GOOD, Grid, PLAIN, TermStyle, command, counted, hanging, listed, name,
    paint, quoted, rate_style, sanitize, state_style, thousands, transition_words, wrapped,
};

use super::call::Call;
use crate::report::{HeldBack, Rate, Report, ReportedBreaker, ReportedStop, Total, TransitionRecord, tally};

/// The number of subjects that are shown unless everything is asked for.
const MAX_SUBJECTS: usize = 12;
/// The number of ISPs of a subject that are shown unless everything is asked for, in addition to those whose breaker moved.
const MAX_ISPS: usize = 6;
/// The number of names of messages that do not count that are shown.
const MAX_NAMES: usize = 10;
/// The number of warnings that are shown; JSON has all of them.
const MAX_WARNINGS: usize = 10;

/// The report as text: what was read, the rates, what would have been done and why, the mail after each stop, what the gate
/// would have granted if it was asked, and a one-line result. `call`: the program's arguments.
pub fn report(report: &Report, policy: &Policy, call: Call<'_>, term: TermStyle) -> String {
    let mut out = read(report, term);
    out.push_str(&rates(report, policy, term));
    out.push_str(&timeline(report, call, term));
    out.push_str(&stops(report, term));
    out.push_str(&super::quota(report, policy, term));
    out.push('\n');
    out.push_str(&verdict(report, term));
    out
}

/// Only what was read, the totals and the result.
pub fn summary(report: &Report, term: TermStyle) -> String {
    let rows = report.all_mail();
    let count = |kind: UnitKind| thousands(rows.iter().map(|row| row.get(kind)).sum());
    let mut parts =
        vec![format!("sent {}", count(UnitKind::Sent)), format!("delivered {}", count(UnitKind::Delivered))];
    for metric in Metric::ALL {
        let Rate { bad, rate, .. } = report.rate(metric);
        let text = rate.map_or("no data".to_owned(), |rate| format!("{} ({})", thousands(bad), Percent(rate)));
        parts.push(format!("{} {text}", metric.bad_noun()));
    }
    parts.push(format!("suppressed {}", count(UnitKind::Suppressed)));
    let mut out = hanging("", &report.input.words(), term.columns());
    out.push_str(&hanging("", &parts.join(", "), term.columns()));
    out.push_str(&verdict(report, term));
    out
}

fn heading(text: &str) -> String {
    format!("\n{}\n", paint(BOLD, text))
}

/// The warnings of a report, as lines for people.
pub fn warnings(report: &Report) -> Vec<String> {
    let shown = report.warnings.iter().take(MAX_WARNINGS);
    let mut lines: Vec<String> = shown.map(|warning| format!("warning: {}", warning.words(name))).collect();
    if report.warnings.len() > MAX_WARNINGS {
        let more = (report.warnings.len() - MAX_WARNINGS) as u64;
        lines.push(format!("… and {} (--format json has them all)", counted(more, "more warning")));
    }
    lines
}

/// Names by frequency, most frequent first; of very many only the first.
fn frequent(names: &BTreeMap<String, u64>) -> String {
    let mut names: Vec<(&String, u64)> = names.iter().map(|(name, count)| (name, *count)).collect();
    names.sort_by_key(|(_, count)| Reverse(*count));
    let (shown, hidden) = names.split_at(names.len().min(MAX_NAMES));
    let shown: Vec<String> =
        shown.iter().map(|(known, count)| format!("{} {}", name(known), thousands(*count))).collect();
    if hidden.is_empty() {
        return shown.join(", ");
    }
    let messages = hidden.iter().map(|(_, count)| count).sum();
    let (others, messages) = (counted(hidden.len() as u64, "other name"), counted(messages, "message"));
    format!("{} … and {others} ({messages})", shown.join(", "))
}

fn read(report: &Report, term: TermStyle) -> String {
    let input = &report.input;
    let text = input.words();
    let mut out = hanging("", &text, term.columns());
    out.push_str(&hanging("", report.gate_words(), term.columns()));
    for warning in warnings(report) {
        out.extend(wrapped(&warning, term.columns()).iter().map(|line| paint(DOUBTFUL.bold(), line) + "\n"));
    }
    for (lead, names) in [
        ("ignored: ", &input.ignored_by_name),
        ("counted, but unusual: ", &input.odd_by_name),
        ("rejected: ", &input.rejected_by_reason),
    ] {
        if !names.is_empty() {
            let lines = hanging(lead, &frequent(names), term.columns());
            out.extend(lines.lines().map(|line| paint(DIM, line) + "\n"));
        }
    }
    if let Some(broken_off) = &input.broken_off {
        let lines = hanging(
            "broken off: ",
            &format!("{}; the report covers what came before", sanitize(broken_off)),
            term.columns(),
        );
        out.extend(lines.lines().map(|line| paint(BAD, line) + "\n"));
    }
    out
}

/// The rows of one subject, or of several subjects with the same mail.
struct Block<'a> {
    subjects: Vec<String>,
    rows: Vec<&'a Total>,
    breakers: BTreeMap<Option<&'a str>, &'a ReportedBreaker>,
    trouble: u64,
}

impl Block<'_> {
    fn harm(&self) -> u64 {
        let harm = [UnitKind::HardBounce, UnitKind::Complaint, UnitKind::Block];
        self.rows.iter().flat_map(|row| harm.map(|kind| row.get(kind))).sum()
    }

    /// The states of its breakers.
    fn stand(&self) -> Stand {
        let state = |(isp, known): (&Option<&str>, &&ReportedBreaker)| {
            (isp.map(str::to_owned), known.state, known.factor.to_bits())
        };
        self.breakers.iter().map(state).collect()
    }
}

type Stand = Vec<(Option<String>, StateName, u64)>;

/// For each subject that shares all its mail with others, the first of them; equal numbers alone do not make it the same mail.
struct SameMail<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> SameMail<'a> {
    fn of(report: &'a Report) -> SameMail<'a> {
        let groups = report.same_mail.iter().filter_map(|group| Some((group.first()?, group)));
        SameMail(groups.flat_map(|(first, group)| group.iter().map(|known| (known.as_str(), first.as_str()))).collect())
    }

    fn first<'s>(&self, subject: &'s str) -> &'s str
    where
        'a: 's,
    {
        self.0.get(subject).copied().unwrap_or(subject)
    }
}

fn volume(row: &Total) -> u64 {
    row.get(UnitKind::Sent).max(tally([row], Metric::HardBounce).population)
}

/// The order of attention, by the worst that happened to a subject.
fn trouble(transition: &TransitionRecord) -> u64 {
    match transition.level {
        _ if transition.to == StateName::Open => 4,
        Some(Level::Pause) => 3,
        Some(Level::Throttle) => 2,
        Some(Level::Warn) => 1,
        None => 0,
    }
}

fn blocks(report: &Report) -> Vec<Block<'_>> {
    let mut by_subject: BTreeMap<String, Vec<&Total>> = BTreeMap::new();
    for total in &report.totals {
        by_subject.entry(total.subject.to_string()).or_default().push(total);
    }
    let mut breakers: BTreeMap<&str, BTreeMap<Option<&str>, &ReportedBreaker>> = BTreeMap::new();
    for known in &report.breakers {
        breakers.entry(&known.subject).or_default().insert(known.isp.as_deref(), known);
    }
    let mut troubles: BTreeMap<String, u64> = BTreeMap::new();
    for transition in &report.transitions {
        let worst = troubles.entry(transition.subject.to_string()).or_default();
        *worst = trouble(transition).max(*worst);
    }
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let same_mail = SameMail::of(report);
    let mut alike: BTreeMap<(String, Stand), usize> = BTreeMap::new();
    for (subject, mut rows) in by_subject {
        rows.sort_by_key(|row| Reverse(volume(row)));
        let first = same_mail.first(&subject).to_owned();
        let block = Block {
            breakers: breakers.remove(subject.as_str()).unwrap_or_default(),
            trouble: troubles.get(subject.as_str()).copied().unwrap_or(0),
            subjects: vec![subject],
            rows,
        };
        let stand = block.stand();
        // A subject without a switch at SES has no state of its own if a configuration set has the same mail.
        let is_evidence = !report.gate && stand.is_empty() && has_no_switch(&block.subjects[0]);
        let of_set = alike.iter().find(|((known, _), _)| is_evidence && *known == first).map(|(_, place)| *place);
        let place = of_set.or_else(|| alike.get(&(first.clone(), stand.clone())).copied());
        match place {
            Some(place) => blocks[place].subjects.extend(block.subjects),
            None => {
                alike.insert((first, stand), blocks.len());
                blocks.push(block);
            }
        }
    }
    blocks
}

/// Whether SES has no switch for a subject.
fn has_no_switch(subject: &str) -> bool {
    subject.parse().is_ok_and(|subject| !stops_at_ses(&Key { subject, isp: None }))
}

/// The width of a table of rates: the widest that fits is used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    /// Counts with all rates.
    Wide,
    /// Counts with the rate of hard bounces only.
    Medium,
    /// Short names and small gaps.
    Narrow,
    /// As narrow, and without counts.
    Tight,
}

fn rates(report: &Report, policy: &Policy, term: TermStyle) -> String {
    let mut blocks = blocks(report);
    if blocks.is_empty() {
        return String::new();
    }
    let most = if term.everything { usize::MAX } else { MAX_SUBJECTS };
    let all = blocks.len();
    if all > most {
        blocks.sort_by_key(|block| Reverse((block.trouble, block.harm())));
        blocks.truncate(most);
    }
    let variants = [Variant::Wide, Variant::Medium, Variant::Narrow, Variant::Tight];
    let grids = variants.map(|variant| grid(report, &blocks, policy, term, variant));
    let fitting = grids.iter().find(|(grid, _)| grid.width() <= term.columns()).or(grids.last());
    let mut out = String::new();
    if let Some((grid, headings)) = fitting {
        out.push('\n');
        for (place, line) in grid.lines().iter().enumerate() {
            if let Some(subject) = headings.get(&place) {
                out.push_str(subject);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    if all > most {
        let hidden = counted((all - most) as u64, "more subject");
        let note = format!("{hidden} with fewer problems not shown (--subject shows one, --format json all)");
        out.push_str(&hanging("", &note, term.columns()));
    }
    let limit = |metric: Metric| format!("{} {}", metric.bad_noun(), Percent(policy.metrics.rule(metric).limit));
    let limits = Metric::ALL.map(limit).join(", ");
    let lines = hanging("limits (red): ", &limits, term.columns());
    out.extend(lines.lines().map(|line| paint(DIM, line) + "\n"));
    // Each unit has one configuration set and one identity; a report on one subject may have neither.
    let refused_by = |is: fn(&Subject) -> bool| {
        let of = report.totals.iter().filter(|total| is(&total.subject));
        of.map(|total| total.get(UnitKind::RefusedBounce)).sum::<u64>()
    };
    let by_set = refused_by(|subject| matches!(subject, Subject::ConfigurationSet(_)));
    let refused = by_set.max(refused_by(|subject| matches!(subject, Subject::Identity(_))));
    if refused > 0 {
        let text = format!(
            "{} because of the sender's IP address: counted as blocks, not as hard bounces, because SES excludes them from its rate",
            counted(refused, "permanent bounce"),
        );
        out.extend(hanging("", &text, term.columns()).lines().map(|line| paint(DIM, line) + "\n"));
    }
    out
}

/// The table, and the text above some of its lines.
fn grid(
    report: &Report,
    blocks: &[Block<'_>],
    policy: &Policy,
    term: TermStyle,
    variant: Variant,
) -> (Grid, BTreeMap<usize, String>) {
    use Align::{Left, Right};
    let narrow = matches!(variant, Variant::Narrow | Variant::Tight);
    let by_room = |long, short| if narrow { short } else { long };
    let header = [
        ("", Left),
        ("sent", Right),
        (by_room("delivered", "deliv."), Right),
        (by_room("hard bounces", "hard"), Right),
        (by_room("complaints", "compl."), Right),
        ("delays", Right),
        ("blocks", Right),
        (by_room("suppressed", "suppr."), Right),
        ("breaker", Left),
    ];
    let mut grid = Grid::new(&header, if narrow { 1 } else { 2 });
    let mut headings = BTreeMap::new();
    let mut place = 1;
    let widths = Metric::ALL.map(|metric| {
        let sums = blocks.iter().map(|block| tally(block.rows.iter().copied(), metric).bad);
        sums.map(|bad| thousands(bad).len()).max().unwrap_or(0)
    });
    for block in blocks {
        let mut above = if place > 1 { "\n".to_owned() } else { String::new() };
        let same = if block.subjects.len() > 1 { " (the same mail)" } else { "" };
        let subjects: Vec<String> = block.subjects.iter().map(|subject| name(subject)).collect();
        let subjects = format!("{}{same}", subjects.join(", "));
        above.extend(wrapped(&subjects, term.columns()).iter().map(|line| paint(BOLD, line) + "\n"));
        headings.insert(place, above);

        let moved = |row: &Total| {
            let mut transition = report.transitions.iter().filter(|transition| transition.subject == row.subject);
            transition.any(|transition| transition.isp.as_deref() == Some(&row.isp))
        };
        let most = if term.everything { usize::MAX } else { MAX_ISPS };
        let (shown, hidden): (Vec<_>, Vec<_>) =
            block.rows.iter().enumerate().partition(|(place, row)| *place < most || moved(row));
        // A row for "all others" is not worth it for a single one.
        let (shown, hidden) =
            if hidden.len() == 1 { (block.rows.clone(), Vec::new()) } else { (rows_of(shown), rows_of(hidden)) };
        let row = |label: String, rows: &[&Total], known: Option<&&ReportedBreaker>, whole: bool| {
            let count = |kind: UnitKind| thousands(rows.iter().map(|row| row.get(kind)).sum());
            let mut cells = vec![
                Cell::styled(label, if whole { BOLD } else { PLAIN }),
                Cell::new(count(UnitKind::Sent)),
                Cell::new(count(UnitKind::Delivered)),
            ];
            for (metric, width) in Metric::ALL.into_iter().zip(widths) {
                let with_count = match variant {
                    Variant::Wide => true,
                    Variant::Medium | Variant::Narrow => metric == Metric::HardBounce,
                    Variant::Tight => false,
                };
                cells.push(rate(policy, metric, rows, with_count.then_some(width)));
            }
            cells.push(Cell::new(count(UnitKind::Suppressed)));
            cells.push(match known {
                Some(known) => Cell::styled(state(known, report.gate), state_style(known.state)),
                None if whole => Cell::styled(StateName::Closed.word(report.gate), GOOD),
                None => Cell::new(""),
            });
            cells
        };
        grid.push(row("  all".to_owned(), &block.rows, block.breakers.get(&None), true));
        for total in &shown {
            let known = block.breakers.get(&Some(total.isp.as_str()));
            grid.push(row(format!("  {}", total.isp), &[*total], known, false));
        }
        place += 1 + shown.len();
        if !hidden.is_empty() {
            grid.push(row(format!("  {} more", hidden.len()), &hidden, None, false));
            place += 1;
        }
    }
    (grid, headings)
}

fn rows_of<'a>(numbered: Vec<(usize, &&'a Total)>) -> Vec<&'a Total> {
    numbered.into_iter().map(|(_, row)| *row).collect()
}

fn state(known: &ReportedBreaker, gate: bool) -> String {
    let shown = known.state.word(gate);
    if known.state == StateName::Throttled && gate {
        format!("{shown} {}", Percent(known.factor))
    } else {
        shown.to_owned()
    }
}

/// A rate, with its numerator in `with_count` columns if given.
fn rate(policy: &Policy, metric: Metric, rows: &[&Total], with_count: Option<usize>) -> Cell {
    let tally = tally(rows.iter().copied(), metric);
    let reports_none = metric == Metric::Complaint && rows.iter().all(|row| !row.returns_complaints);
    let Some(share) = tally.rate().filter(|_| !reports_none) else {
        return Cell::styled(if reports_none { "no data" } else { "–" }, DIM);
    };
    let text = Percent(share).to_string();
    let text = match with_count {
        Some(width) => format!("{:>width$}  {text:>6}", thousands(tally.bad)),
        None => text,
    };
    Cell::styled(text, rate_style(policy, metric, tally, share))
}

fn words_of(moved: &TransitionRecord, gate: bool) -> (String, Style) {
    transition_words(moved.from, moved.to, moved.level, gate)
}

/// Transitions of one moment with the same reason, about keys that share all their mail.
struct Entry<'a> {
    transition: &'a TransitionRecord,
    keys: Vec<String>,
}

fn key(subject: &str, isp: Option<&str>) -> String {
    let subject = name(subject);
    isp.map_or_else(|| subject.clone(), |isp| format!("{subject} @ {isp}"))
}

fn entries(report: &Report) -> Vec<Entry<'_>> {
    let same_mail = SameMail::of(report);
    let alike = |transition: &TransitionRecord, known: &TransitionRecord| {
        (transition.from, transition.to, &transition.isp, &transition.reason)
            == (known.from, known.to, &known.isp, &known.reason)
            && same_mail.first(&transition.subject.to_string()) == same_mail.first(&known.subject.to_string())
    };
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for transition in &report.transitions {
        let name = key(&transition.subject.to_string(), transition.isp.as_deref());
        let at_once = entries.iter_mut().rev().take_while(|known| known.transition.at == transition.at);
        let mut same = at_once.filter(|known| alike(transition, known.transition));
        match same.next() {
            Some(known) => known.keys.push(name),
            None => entries.push(Entry { transition, keys: vec![name] }),
        }
    }
    entries
}

fn timeline(report: &Report, call: Call<'_>, term: TermStyle) -> String {
    let entries = entries(report);
    if entries.is_empty() {
        return String::new();
    }
    let mut out = heading("What would have been done, and why");
    let changes: Vec<(String, Style)> = entries.iter().map(|entry| words_of(entry.transition, report.gate)).collect();
    let widest = changes.iter().map(|(text, _)| text.chars().count()).max().unwrap_or(0);
    let indent = 8 + 2 + widest + 2;
    let room = term.columns().saturating_sub(indent).max(20);
    let mut day = String::new();
    for (Entry { transition, keys }, (change, style)) in entries.iter().zip(changes) {
        let at = transition.at.to_string();
        if date(&at) != day {
            day = date(&at).to_owned();
            out.push_str(&paint(DIM, &day));
            out.push('\n');
        }
        let mut lines: Vec<String> = Vec::new();
        for key in keys {
            lines.extend(wrapped(key, room).iter().map(|line| paint(BOLD, line)));
        }
        let shadow = if transition.shadow { "in shadow: " } else { "" };
        lines.extend(wrapped(&format!("{shadow}{}", sanitize(&transition.reason)), room));
        for (place, line) in lines.iter().enumerate() {
            if place == 0 {
                let pad = " ".repeat(widest - change.chars().count());
                out.push_str(&format!("{}  {}{pad}  {line}\n", clock(&at), paint(style, &change)));
            } else {
                out.push_str(&format!("{}{line}\n", " ".repeat(indent)));
            }
        }
    }
    // A name that had to be escaped would not be found again.
    let explainable = report.transitions.iter().filter(|transition| {
        let subject = transition.subject.to_string();
        transition.rule == Some(RuleName::Cusum) && sanitize(&subject) == subject
    });
    if let Some(transition) = explainable.min_by_key(|transition| (transition.to != StateName::Open, transition.at)) {
        out.push_str(&paint(DIM, "The evidence for it:"));
        out.push('\n');
        out.extend(hint(transition, call, term).iter().map(|line| paint(DIM, line) + "\n"));
    }
    out
}

/// The command that explains a transition, to paste.
fn hint(transition: &TransitionRecord, call: Call<'_>, term: TermStyle) -> Vec<String> {
    let mut words = vec!["replay explain".to_owned()];
    words.extend(call.words());
    let at = transition.at.to_string();
    words.push(format!("--at {}T{}", date(&at), clock(&at)));
    words.push(format!("--subject {}", quoted(&transition.subject.to_string())));
    words.extend(transition.isp.iter().map(|isp| format!("--isp {isp}")));
    command(&words, term.columns())
}

fn stops(report: &Report, term: TermStyle) -> String {
    let same_mail = SameMail::of(report);
    let mut merged: Vec<(&ReportedStop, Vec<String>)> = Vec::new();
    let mut alike = BTreeMap::new();
    for stop in &report.stopped {
        let name = key(&stop.subject, stop.isp.as_deref());
        let mail = [stop.sent, stop.attempts, stop.hard_bounces, stop.complaints, stop.blocks];
        // Stopped and released by the same event: nothing to report.
        if stop.until.as_ref() == Some(&stop.from) && mail == [0; 5] {
            continue;
        }
        match alike.entry((&stop.from, &stop.until, same_mail.first(&stop.subject), &stop.isp)) {
            btree_map::Entry::Occupied(known) => {
                let known: &usize = known.get();
                merged[*known].1.push(name);
            }
            btree_map::Entry::Vacant(place) => {
                place.insert(merged.len());
                merged.push((stop, vec![name]));
            }
        }
    }
    if merged.is_empty() {
        return String::new();
    }
    let mut out = heading("Mail accepted while it would have been stopped");
    for (stop, names) in merged {
        let until = match &stop.until {
            Some(until) if date(until) == date(&stop.from) => clock(until).to_owned(),
            Some(until) => moment(until),
            None => "the end".to_owned(),
        };
        let lead = format!("{} – {until}  ", moment(&stop.from));
        let text = format!("{}: {}", names.join(", "), avoided(stop));
        out.push_str(&hanging(&lead, &text, term.columns()));
    }
    out
}

fn avoided(stop: &ReportedStop) -> String {
    let mails = stop.sent.max(stop.attempts);
    if mails == 0 {
        return "no mail was accepted in this time".to_owned();
    }
    let harm = [(stop.hard_bounces, "hard bounce"), (stop.complaints, "complaint"), (stop.blocks, "block")];
    let harm: Vec<String> =
        harm.iter().filter(|(count, _)| *count > 0).map(|(count, noun)| counted(*count, noun)).collect();
    let (were, they) = if mails == 1 { ("was", "it") } else { ("were", "they") };
    let harm = if harm.is_empty() { "no harm avoided".to_owned() } else { format!("{} avoided", listed(&harm)) };
    format!("{} {were} accepted in this time; {they} would not have been sent: {harm}", counted(mails, "mail"))
}

/// `1 configuration set and 2 identities` of some subjects; kinds without subjects are left out.
fn kinds(subjects: &BTreeSet<&Subject>) -> String {
    let [mut account, mut sets, mut tenants, mut identities, mut tags] = [0; 5];
    for subject in subjects {
        match subject {
            Subject::Account => account += 1,
            Subject::ConfigurationSet(_) => sets += 1,
            Subject::Tenant(_) => tenants += 1,
            Subject::Identity(_) => identities += 1,
            Subject::Tag(..) => tags += 1,
        }
    }
    let mut parts = if account > 0 { vec!["the account".to_owned()] } else { Vec::new() };
    for (count, one, many) in [
        (sets, "configuration set", "configuration sets"),
        (tenants, "tenant", "tenants"),
        (identities, "identity", "identities"),
        (tags, "tag", "tags"),
    ] {
        match count {
            0 => {}
            1 => parts.push(format!("1 {one}")),
            count => parts.push(format!("{count} {many}")),
        }
    }
    listed(&parts)
}

fn first(transition: &TransitionRecord) -> String {
    let name = key(&transition.subject.to_string(), transition.isp.as_deref());
    let evidence = match (transition.bad, transition.population, transition.metric) {
        (Some(bad), Some(population), Some(metric)) => {
            let (noun, verb) = (metric.population_noun(), metric.bad_verb());
            format!(", when {} of {} {noun} {verb}", thousands(bad), thousands(population))
        }
        (_, _, _) => String::new(),
    };
    format!("first {name} at {}{evidence}", moment(&transition.at.to_string()))
}

fn verdict(report: &Report, term: TermStyle) -> String {
    let (text, stopped) = result(report);
    let style = if stopped { BAD.bold() } else { GOOD.bold() };
    wrapped(&text, term.columns()).iter().map(|line| paint(style, line) + "\n").collect()
}

/// The result in a sentence, and whether anything would have been stopped.
pub(crate) fn result(report: &Report) -> (String, bool) {
    let opened = report.transitions.iter().filter(|transition| transition.opens());
    let (at_isp, whole): (Vec<_>, Vec<_>) = opened.partition(|transition| transition.isp.is_some());
    let (held, at_isp): (Vec<_>, Vec<_>) =
        at_isp.into_iter().partition(|transition| transition.subject == Subject::Account);
    let mut parts = Vec::new();
    let mut part = |transition: &[&TransitionRecord], what: &str| {
        let Some(earliest) = transition.first() else { return };
        let subjects: BTreeSet<&Subject> = transition.iter().map(|transition| &transition.subject).collect();
        parts.push(format!("{} would have been {what} ({})", kinds(&subjects), first(earliest)));
    };
    part(&whole, "stopped");
    part(&at_isp, "stopped at one ISP only");
    if let Some(earliest) = held.first() {
        let mut isps: Vec<String> = held.iter().filter_map(|transition| transition.isp.clone()).collect();
        isps.sort();
        isps.dedup();
        let since = moment(&earliest.at.to_string());
        parts.push(format!("mail to {} would have been held for all senders (first at {since})", listed(&isps)));
    }
    let stopped = !parts.is_empty();
    if stopped {
        parts.push(held_back(report));
    } else if report.input.recorded == 0 {
        parts.push("no mail was read, so there is no result".to_owned());
    } else {
        parts.push("nothing would have been stopped".to_owned());
        // Without a gate, a reduced quota is a warning.
        let throttled =
            report.transitions.iter().filter(|transition| transition.to == StateName::Throttled && report.gate);
        let throttled: BTreeSet<&Subject> = throttled.map(|transition| &transition.subject).collect();
        let is_warning =
            |transition: &TransitionRecord| transition.level.is_some_and(|level| level == Level::Warn || !report.gate);
        let warnings = entries(report).iter().filter(|entry| is_warning(entry.transition)).count();
        if !throttled.is_empty() {
            parts.push(format!("{} would have been slowed", kinds(&throttled)));
        } else if warnings > 0 {
            parts.push(format!(
                "people would have been warned {}",
                if warnings == 1 { "once".to_owned() } else { format!("{warnings} times") }
            ));
        }
    }
    (parts.join("; "), stopped)
}

/// How much mail would not have been sent.
fn held_back(report: &Report) -> String {
    let HeldBack { mails, is_all } = report.held_back();
    match mails {
        0 => "no mail was accepted in that time".to_owned(),
        mails => {
            format!("{}{} would not have been sent", if is_all { "" } else { "at least " }, counted(mails, "mail"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use reputation::time::Now;
    use terminal::visible;

    use super::*;
    use crate::report::Warning;

    const ISPS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

    /// Subjects `s-00` to `s-19`, of which `s-17` was throttled at the smallest ISP.
    fn many() -> Report {
        let mut totals = Vec::new();
        for number in 0..20_u64 {
            for (place, isp) in (0_u64..).zip(ISPS) {
                let mut counters = [0; UnitKind::ALL.len()];
                counters[UnitKind::Sent as usize] = 1_000_000 + number - place * 1000;
                counters[UnitKind::Delivered as usize] = 900_000 - place * 1000;
                let subject = format!("configuration-set:s-{number:02}").parse().unwrap();
                totals.push(Total {
                    subject,
                    isp: isp.to_owned(),
                    counters,
                    returns_complaints: isp != "a",
                    in_sums: isp != "a",
                });
            }
        }
        let transition = TransitionRecord {
            at: Now(1_791_277_383_133),
            subject: Subject::ConfigurationSet("s-17".into()),
            isp: Some("i".to_owned()),
            from: StateName::Closed,
            to: StateName::Throttled,
            level: Some(Level::Throttle),
            metric: None,
            rule: None,
            rate: None,
            population: None,
            bad: None,
            cohorts: None,
            shadow: true,
            reason: "a reason of several words that is long enough to be wrapped where the terminal is narrow"
                .to_owned(),
        };
        let input = crate::report::Input {
            lines: 1,
            events: 1,
            recorded: 1,
            duplicates: 0,
            ignored: 0,
            rejected: 0,
            outside: 0,
            too_old_to_judge: 0,
            mail: None,
            ignored_by_name: BTreeMap::new(),
            odd_by_name: BTreeMap::new(),
            rejected_by_reason: BTreeMap::new(),
            broken_off: None,
        };
        let (controls, stopped, breakers) = (Vec::new(), Vec::new(), Vec::new());
        Report {
            gate: true,
            input,
            totals,
            quota: None,
            quota_left_out: None,
            others: Vec::new(),
            transitions: vec![transition],
            controls,
            stopped,
            breakers,
            same_mail: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn text(width: u16, everything: bool) -> String {
        visible(&report(&many(), &Policy::default(), Call::default(), TermStyle { width, everything }))
    }

    #[test]
    fn of_many_subjects_the_troubled_ones_come_first_and_the_others_are_counted() {
        let text = text(120, false);
        let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("configuration-set:")).collect();
        assert_eq!((headings.len(), headings[0]), (12, "configuration-set:s-17"));
        assert!(text.contains("8 more subjects with fewer problems not shown"), "{text}");
    }

    #[test]
    fn of_many_isps_the_small_ones_are_summed_but_never_one_that_was_acted_on() {
        let text = text(120, false);
        let first: Vec<&str> = text.lines().skip_while(|line| !line.ends_with("s-17")).skip(1).take(9).collect();
        let names: Vec<&str> = first.iter().map(|line| line[..8].trim()).collect();
        assert_eq!(names, ["all", "a", "b", "c", "d", "e", "f", "i", "2 more"]);
        assert!(first[1].contains("no data"), "{}", first[1]);
        assert!(first[8].contains("1,987,034"), "{}", first[8]);
    }

    fn stop(subject: &str, from: &str, until: &str, sent: u64) -> ReportedStop {
        ReportedStop {
            subject: subject.to_owned(),
            isp: None,
            from: format!("2026-10-06T{from}.000Z"),
            until: Some(format!("2026-10-06T{until}.000Z")),
            sent,
            attempts: sent,
            hard_bounces: 0,
            complaints: 0,
            blocks: 0,
        }
    }

    #[test]
    fn stops_are_grouped_only_for_the_same_mail_and_empty_ones_are_left_out() {
        let mut report = many();
        report.same_mail = vec![vec!["identity:a".to_owned(), "tenant:a".to_owned()]];
        report.stopped = vec![
            stop("identity:a", "09:00:00", "09:30:00", 25),
            stop("identity:b", "09:00:00", "09:30:00", 25),
            stop("tenant:a", "09:00:00", "09:30:00", 25),
            stop("identity:a", "09:40:00", "09:40:00", 0),
            stop("identity:b", "09:50:00", "09:50:00", 1),
        ];
        let text = visible(&stops(&report, TermStyle { width: 140, everything: false }));
        insta::assert_snapshot!(text, @r"

        Mail accepted while it would have been stopped
        2026-10-06 09:00:00 – 09:30:00  identity:a, tenant:a: 25 mails were accepted in this time; they would not have been sent: no harm avoided
        2026-10-06 09:00:00 – 09:30:00  identity:b: 25 mails were accepted in this time; they would not have been sent: no harm avoided
        2026-10-06 09:50:00 – 09:50:00  identity:b: 1 mail was accepted in this time; it would not have been sent: no harm avoided
        ");
    }

    #[test]
    fn of_very_many_warnings_the_first_are_shown() {
        let mut report = many();
        let subject = |number: u64| vec![format!("identity:{number:02}\x1b")];
        let warning = |number| Warning::NoDenominator { subjects: subject(number), bounces: true, complaints: true };
        report.warnings = (0..15).map(warning).collect();
        let lines = warnings(&report);
        assert_eq!(lines.len(), 11);
        insta::assert_snapshot!(lines[0], @r"warning: identity:00\u{1b} has bounces and complaints but neither Send nor Delivery events, so rates are unknown; publish Send events");
        assert_eq!(lines[10], "… and 5 more warnings (--format json has them all)");
        assert_eq!(serde_json::to_value(&report.warnings[0]).unwrap().as_str().unwrap().find('\x1b'), Some(11));
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_or_cut_off() {
        for width in [80, 100, 120] {
            for everything in [false, true] {
                let text = text(width, everything);
                let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
                assert!(widest <= usize::from(width), "{widest} columns of {width}: {text}");
                let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(words.contains("in shadow: a reason of several words that is long enough to be wrapped where"));
                assert_eq!(text.contains("s-15"), everything);
            }
        }
    }
}
