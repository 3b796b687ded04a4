//! The results of a drill, leg by leg.

use anstyle::Style;
use terminal::{BAD, BOLD, DIM, DOUBTFUL, GOOD, TermStyle, counted, hanging, paint, sanitize};

use super::{Render, sentence};
use crate::Exit;
use crate::drill::{Drill, Ended, Leg};

/// Remedies are indented under the name of their leg.
const INDENT: &str = "        ";

impl Render for Drill {
    fn text(&self, term: TermStyle) -> String {
        drilled(self, term)
    }

    fn exit(&self) -> Exit {
        self.exit
    }
}

/// The stack and the set, a line for each leg with its time, then what was left behind and the result.
fn drilled(drill: &Drill, term: TermStyle) -> String {
    let Drill { stack, region, at, version, policy, mode, configuration_set, .. } = drill;
    let mut out = format!("{}\n", paint(BOLD, &sanitize(&format!("Drill of {stack} in {region}, {at}"))));
    let what = format!(
        "ses-breaker {version}, policy version {policy} ({mode}), {configuration_set}, {}",
        counted(drill.mails, "mail")
    );
    out.extend(hanging("", &sanitize(&what), term.columns()).lines().map(|line| paint(DIM, line) + "\n"));
    out.push('\n');
    let widest = drill.legs.iter().map(|leg| leg.leg.title().len()).max().unwrap_or(0);
    for leg in &drill.legs {
        out.push_str(&self::leg(leg, widest, term));
    }
    for left in &drill.left {
        out.push_str(&format!("\n{}\n", paint(BAD.bold(), "left behind")));
        out.push_str(&sentence(&format!("{}; to remove it: {}", left.what, left.command), term));
    }
    let passed = drill.legs.iter().filter(|leg| leg.result == Ended::Passed).count();
    let (word, style) = if drill.passed { ("passed", GOOD) } else { ("failed", BAD) };
    let sum = format!("{word}: {passed} of {} in {:.0} s", counted(drill.legs.len() as u64, "leg"), drill.seconds);
    out.push_str(&format!("\n{}\n", paint(style.bold(), &sum)));
    out
}

fn leg(leg: &Leg, widest: usize, term: TermStyle) -> String {
    let (word, style): (&str, Style) = match leg.result {
        Ended::Passed => ("passed", GOOD),
        Ended::Failed => ("failed", BAD),
        Ended::Interrupted => ("ended", DOUBTFUL),
        Ended::NotReached => ("-", DIM),
    };
    let title = leg.leg.title();
    let seconds = leg.seconds.map_or_else(String::new, |seconds| format!("{seconds:.1} s"));
    let seen = if leg.result == Ended::NotReached { "not reached" } else { &leg.seen };
    let lead = format!("{word:6}  {title:widest$}  {seconds:>8}  ");
    let lines = hanging(&lead, &sanitize(seen), term.columns());
    // Painted last: escape sequences would count as columns.
    let mut out = format!("{}{}", paint(style, word), lines.get(word.len()..).unwrap_or_default());
    let narrower = TermStyle { width: term.width.saturating_sub(INDENT.len() as u16), ..term };
    for remedy in &leg.remedy {
        out.extend(sentence(remedy, narrower).lines().map(|line| format!("{INDENT}{line}\n")));
    }
    out
}
