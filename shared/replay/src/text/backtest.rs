//! What another policy would have changed, for people.

use std::collections::BTreeMap;

use anstyle::Style;
use terminal::time::moment;
use terminal::{
    Align, BAD, BOLD, Cell, DIM, DOUBTFUL, GOOD, Grid, PLAIN, TermStyle, counted, hanging, name, paint, sanitize,
    thousands, wrapped,
};

use crate::backtest::{Backtest, Became, Side, TripChange};

/// The number of changes that are shown unless everything is asked for; JSON has all of them.
const MAX_CHANGES: usize = 30;

/// The result in one line, both policies side by side, and each trip that differs.
pub fn backtest(backtest: &Backtest, term: TermStyle) -> String {
    let entries = entries(backtest);
    let mut out = read(backtest, term);
    out.push('\n');
    out.push_str(&sides(&backtest.in_use, &backtest.candidate, term));
    let footnote = "stops are of configuration sets, whose mail counts once; needless stops are of mail that kept every limit \
                    of the policy in use";
    out.extend(wrapped(footnote, term.columns()).iter().map(|line| paint(DIM, line) + "\n"));
    if !entries.is_empty() {
        out.push_str(&format!("\n{}\n", paint(BOLD, "Trips that differ")));
        let shown = if term.everything { entries.len() } else { entries.len().min(MAX_CHANGES) };
        entries.iter().take(shown).for_each(|entry| out.push_str(&transition(entry, term)));
        if entries.len() > shown {
            let more = counted((entries.len() - shown) as u64, "more trip");
            out.push_str(&format!("{}\n", paint(DIM, &format!("… and {more} (--format json has them all)"))));
        }
    }
    out.push('\n');
    let (words, style) = verdict(backtest);
    out.extend(wrapped(&words, term.columns()).iter().map(|line| paint(style.bold(), line) + "\n"));
    out
}

fn read(backtest: &Backtest, term: TermStyle) -> String {
    let text = backtest.input.words();
    let mut out = hanging("", &text, term.columns());
    for warning in &backtest.warnings {
        let warning = format!("warning: {}", warning.words(name));
        out.extend(wrapped(&warning, term.columns()).iter().map(|line| paint(DOUBTFUL.bold(), line) + "\n"));
    }
    out
}

/// A count of each side, with its label.
type Row = (&'static str, fn(&Side) -> u64);

fn sides(in_use: &Side, candidate: &Side, term: TermStyle) -> String {
    let (ours, theirs) = (sanitize(&in_use.policy), sanitize(&candidate.policy));
    let header = [("", Align::Left), (ours.as_str(), Align::Right), (theirs.as_str(), Align::Right)];
    let mut grid = Grid::new(&header, if term.width < 100 { 2 } else { 4 });
    let rows: [Row; 9] = [
        ("trips", |side| side.trips),
        ("quotas cut", |side| side.throttles),
        ("configuration sets stopped", |side| side.pauses),
        ("  minutes stopped", |side| side.minutes_open),
        ("  mails stopped", |side| side.mails_stopped),
        ("  hard bounces avoided", |side| side.hard_bounces_avoided),
        ("  complaints avoided", |side| side.complaints_avoided),
        ("needless stops", |side| side.needless_pauses),
        ("  mails stopped by them", |side| side.needlessly_stopped),
    ];
    for (label, count) in rows {
        let (ours, theirs) = (count(in_use), count(candidate));
        let style = if ours == theirs { PLAIN } else { BOLD };
        grid.push(vec![Cell::new(label), Cell::new(thousands(ours)), Cell::styled(thousands(theirs), style)]);
    }
    grid.lines().iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A trip that differs, and the breakers that it concerns: those of subjects with the same mail.
struct Entry<'a> {
    change: &'a TripChange,
    keys: Vec<String>,
}

fn entries(backtest: &Backtest) -> Vec<Entry<'_>> {
    let groups = backtest.same_mail.iter().filter_map(|group| Some((group.first()?, group)));
    let firsts: BTreeMap<&str, &str> =
        groups.flat_map(|(first, group)| group.iter().map(move |subject| (subject.as_str(), first.as_str()))).collect();
    let first =
        |change: &TripChange| firsts.get(change.subject.as_str()).map_or(change.subject.clone(), |&first| first.into());
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for change in &backtest.changes {
        let key = match &change.isp {
            Some(isp) => format!("{} @ {}", name(&change.subject), name(isp)),
            None => name(&change.subject),
        };
        let alike = |known: &&mut Entry<'_>| {
            let apart = |change: &TripChange| TripChange { subject: first(change), ..change.clone() };
            apart(known.change) == apart(change)
        };
        match entries.iter_mut().rev().take(8).find(alike) {
            Some(known) => known.keys.push(key),
            None => entries.push(Entry { change, keys: vec![key] }),
        }
    }
    entries
}

fn transition(Entry { change, keys }: &Entry<'_>, term: TermStyle) -> String {
    let (word, style) = match change.became {
        Became::New => ("new", BAD),
        Became::Gone => ("gone", GOOD),
        Became::Earlier => ("earlier", DOUBTFUL),
        Became::Later => ("later", DOUBTFUL),
    };
    let at = change.at.as_ref().or(change.in_use_at.as_ref()).map_or_else(String::new, |at| moment(at));
    let by = match (change.seconds, &change.in_use_at) {
        (Some(seconds), Some(in_use_at)) => format!(" by {} (in use: {})", duration(seconds), moment(in_use_at)),
        _ => String::new(),
    };
    let mut out = format!("{at}  {}{by}\n", paint(style, word));
    let indent = "    ";
    for key in keys {
        out.extend(
            wrapped(key, term.columns() - indent.len()).iter().map(|line| format!("{indent}{}\n", paint(BOLD, line))),
        );
    }
    out.push_str(&hanging(indent, &sanitize(&change.reason), term.columns()));
    let mut cost = match change.minutes_open {
        0 => "stopped for less than a minute".to_owned(),
        minutes => format!("stopped for {}", duration(minutes * 60)),
    };
    match change.needless {
        None => cost.push_str(": no mail was accepted in that time"),
        Some(needless) => {
            cost.push_str(&format!(": {} stopped", counted(change.mails_stopped, "mail")));
            let harm = [(change.hard_bounces, "hard bounce"), (change.complaints, "complaint")];
            let harm: Vec<String> =
                harm.iter().filter(|(count, _)| *count > 0).map(|(count, noun)| counted(*count, noun)).collect();
            if !harm.is_empty() {
                cost.push_str(&format!(", among them {}", harm.join(" and ")));
            }
            if needless {
                cost.push_str("; within every limit, so needless");
            }
        }
    }
    out.push_str(&hanging(indent, &cost, term.columns()));
    out
}

fn duration(seconds: u64) -> String {
    match seconds {
        0 => "less than a second".to_owned(),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", thousands(seconds / 3600), seconds / 60 % 60),
    }
}

fn verdict(backtest: &Backtest) -> (String, Style) {
    let count = |became: Became| backtest.changes.iter().filter(|change| change.became == became).count() as u64;
    let all = [
        (count(Became::New), "new"),
        (count(Became::Gone), "gone"),
        (count(Became::Earlier), "earlier"),
        (count(Became::Later), "later"),
    ];
    let parts: Vec<String> = all
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", thousands(*count)))
        .collect();
    let same = match backtest.unchanged {
        0 => String::new(),
        unchanged => format!("; {} unchanged", thousands(unchanged)),
    };
    match parts.is_empty() {
        true if backtest.unchanged == 0 => ("nothing would have been stopped under either policy".to_owned(), GOOD),
        true => (format!("nothing would have changed: the same {}", counted(backtest.unchanged, "trip")), GOOD),
        false => (format!("trips: {}{same}", parts.join(", ")), DOUBTFUL),
    }
}
