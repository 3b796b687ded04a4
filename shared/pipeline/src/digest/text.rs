//! The digest in plain text: aligned, and at most 72 columns wide unless a name is longer.

use reputation::Metric;
use reputation::breaker::StateName;
use reputation::number::thousands;

use super::{Digest, MAILS_OF_AN_IP, Rates, percent};
use crate::wording::capitalized;

/// Columns of the names, and of the whole.
const NAME: usize = 23;
const WIDTH: usize = 72;
/// Most rows of each kind in the text; the event for programs has more.
const MAX_ROWS: usize = 15;

pub(super) fn digest(digest: &Digest) -> String {
    let Digest { day, zone, .. } = digest;
    let mut out = wrapped("", &format!("Breaker states now, and the mail that SES accepted on {day} ({zone})."));
    out.push_str(&forecast(digest));
    out.push_str(&rates(digest));
    out.push_str(&soft(digest));
    out.push_str(&not_closed(digest));
    out.push_str(&quotas(digest));
    let cooling = digest.cooling.iter().map(|cooling| {
        let (days, after) = (cooling.idle_days, cooling.decays_after_days);
        format!(
            "{} at {}: {days} days without mail; from {after} on its quota decays",
            cooling.configuration_set, cooling.isp
        )
    });
    out.push_str(&list("About to cool down", cooling.collect()));
    let small = digest.small.iter().map(|small| {
        let (sent, needed) = (thousands(small.sent), thousands(small.needed));
        format!("{} at {}: {sent} mails; dedicated IPs need {needed}", small.configuration_set, small.isp)
    });
    let small: Vec<String> = small.collect();
    if !small.is_empty() {
        out.push_str(&list("Below what dedicated IPs need", small));
        let needed = thousands(MAILS_OF_AN_IP);
        out.push_str(&wrapped(
            "  ",
            &format!(
                "An IP keeps its name with some {needed} mails a day at each ISP (SES Developer Guide, dedicated IP \
                 addresses). Shared IPs may serve such mail better."
            ),
        ));
    }
    out
}

fn forecast(digest: &Digest) -> String {
    let mut out = "\nThe account, as SES may see it\n".to_owned();
    for seen in &digest.forecast {
        let name = seen.metric.replace('_', " ");
        let rate = match seen.rate {
            None => "no data".to_owned(),
            Some(rate) => format!(
                "{} of the last {} mails (review {}, pause {})",
                percent(Some(rate)),
                thousands(seen.population),
                percent(Some(seen.review)),
                percent(Some(seen.pause))
            ),
        };
        out.push_str(&format!("  {name:<13}{rate}\n"));
    }
    out
}

fn rates(digest: &Digest) -> String {
    let mut out = format!(
        "\n{:<NAME$}{:<11}{:>9}{:>8}{:>7}{:>7}{:>7}\n",
        "Rates, in %", "state", "mails", "bounces", "compl.", "delays", "blocks"
    );
    let mut kind = "account";
    let mut shown = 0;
    for row in &digest.rates {
        let (own, name) = row.subject.split_once(':').unwrap_or(("account", "account"));
        if own != kind {
            (kind, shown) = (own, 0);
            let heading = if own == "identity" { "Identities" } else { "Configuration sets" };
            out.push_str(&format!("{heading}\n"));
        }
        shown += 1;
        if shown <= MAX_ROWS {
            out.push_str(&rates_of(row, name, digest.gate));
        }
    }
    let shown = |kind: &str| digest.rates.iter().filter(|row| row.subject.starts_with(kind)).count();
    let hidden = |kind: &str| shown(kind).saturating_sub(MAX_ROWS);
    if let more @ 1.. = digest.left_out + hidden("configuration-set:") + hidden("identity:") {
        out.push_str(&format!("  and {more} more: ses-breaker status\n"));
    }
    for (name, line) in [("people are warned at", false), ("mail is stopped at", true)] {
        let lines = digest.lines.iter().map(|lines| number(if line { lines.pause } else { lines.warn }));
        out.push_str(&cells(&format!("  {name}"), "", "", lines));
    }
    if digest.rates.iter().any(Rates::is_over) {
        out.push_str("  * people are warned at this rate, with so much mail\n");
    }
    if digest.rates.iter().any(|row| row.shadow) {
        out.push_str("  (state): decided in shadow, and nothing is done\n");
    }
    out
}

fn soft(digest: &Digest) -> String {
    let rows = digest.soft.iter().map(|row| {
        let all = row.soft + row.undetermined;
        let rate = percent((row.mails > 0).then(|| all as f64 / row.mails as f64));
        let (all, mails) = (thousands(all), thousands(row.mails));
        format!("{}: {all} of {mails} mails ({rate}), most of them at {}", row.configuration_set, row.isp)
    });
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut out = list("Many soft or undetermined bounces", rows);
    out.push_str(&wrapped(
        "  ",
        "They count for no rate and stop nothing. Full mailboxes mean an old list; for all else `diagnosticCode` in your \
         bounce events says what the server answered.",
    ));
    out
}

fn rates_of(row: &Rates, name: &str, gate: bool) -> String {
    let state = if row.shadow { format!("({})", row.state.word(gate)) } else { row.state.word(gate).to_owned() };
    let rates = row.rates.iter().map(|rate| format!("{}{}", number(rate.rate), if rate.over { "*" } else { "" }));
    cells(&format!("  {name}"), &state, &thousands(row.mails), rates)
}

/// A rate in a column of percents.
fn number(rate: Option<f64>) -> String {
    percent(rate).trim_end_matches(" %").to_owned()
}

/// The widths of the columns of rates, one for each metric.
const WIDTHS: [usize; Metric::ALL.len()] = [8, 7, 7, 7];

/// A row. A name that is too long gets a line of its own.
fn cells(name: &str, state: &str, mails: &str, rates: impl Iterator<Item = String>) -> String {
    let lead = if name.chars().count() < NAME { format!("{name:<NAME$}") } else { format!("{name}\n{:NAME$}", "") };
    let rates: String = rates.zip(WIDTHS).map(|(rate, width)| format!("{rate:>width$}")).collect();
    format!("{}\n", format!("{lead}{state:<11}{mails:>9}{rates}").trim_end())
}

fn not_closed(digest: &Digest) -> String {
    let line = |known: &super::NotClosed| {
        let until = known.until.as_ref().and_then(|until| until.get(..16)).map(|until| until.replacen('T', " ", 1));
        let until = until.map_or_else(String::new, |until| format!(", until {until} UTC"));
        format!("{}: {}{until}", known.key, known.state.word(digest.gate))
    };
    let known: Vec<String> = digest.not_closed.iter().map(line).collect();
    if known.is_empty() {
        "\nEverything is sending.\n".to_owned()
    } else {
        let (open, cut, probing) = (StateName::Open, StateName::Throttled, StateName::Probing);
        let words = [open, cut, probing].map(|state| state.word(digest.gate));
        list(&capitalized(&format!("{}, {} or {} now", words[0], words[1], words[2])), known)
    }
}

fn quotas(digest: &Digest) -> String {
    if digest.quotas.is_empty() {
        return String::new();
    }
    let row = |name: &str, [sent, quota, next, step]: [&str; 4]| {
        let lead = if name.chars().count() < 28 { format!("{name:<28}") } else { format!("{name}\n{:28}", "") };
        format!("{}\n", format!("{lead}{sent:>10}{quota:>11}{next:>11}  {step}").trim_end())
    };
    let mut out = format!("\n{}", row("Quotas", ["sent", "today", "next", "became"]));
    for known in digest.quotas.iter().take(2 * MAX_ROWS) {
        let numbers = [known.sent, known.quota, known.next].map(thousands);
        let [sent, quota, next] = numbers.each_ref().map(String::as_str);
        out.push_str(&row(&format!("  {} at {}", known.configuration_set, known.isp), [sent, quota, next, known.step]));
    }
    if let more @ 1.. = digest.quotas.len().saturating_sub(2 * MAX_ROWS) {
        out.push_str(&format!("  and {more} more: ses-breaker quota\n"));
    }
    out.push_str(&wrapped("  ", "sent: that day; next: after a day that is healthy and uses its quota"));
    out
}

/// Lines under a heading; empty if there are no lines.
fn list(heading: &str, lines: Vec<String>) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut out = format!("\n{heading}\n");
    lines.iter().take(MAX_ROWS).for_each(|line| out.push_str(&wrapped("  ", line)));
    if let more @ 1.. = lines.len().saturating_sub(MAX_ROWS) {
        out.push_str(&format!("  and {more} more\n"));
    }
    out
}

/// A paragraph: lines of at most 72 columns, unless a word is longer.
fn wrapped(indent: &str, text: &str) -> String {
    let (mut out, mut line) = (String::new(), indent.to_owned());
    for word in text.split(' ') {
        if line.trim().is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= WIDTH {
            line.push_str(&format!(" {word}"));
        } else {
            out.push_str(&format!("{line}\n"));
            line = format!("{indent}{word}");
        }
    }
    out + &line + "\n"
}
