//! The faults of a stack, and how to fix them.

use terminal::{BAD, BOLD, DIM, DOUBTFUL, GOOD, TermStyle, counted, hanging, listed, name, paint, sanitize};

use super::Render;
use crate::Exit;
use crate::doctor::examine::{Finding, Severity};
use crate::doctor::{Diagnosis, Unseen};

/// The number of names that are shown of what was not examined.
const SHOWN: usize = 5;

impl Render for Diagnosis {
    fn text(&self, term: TermStyle) -> String {
        diagnosis(self, term)
    }

    fn exit(&self) -> Exit {
        Diagnosis::exit(self)
    }
}

/// Faults, then advice, then what was not examined; if there is nothing to fix, the checks that passed.
fn diagnosis(diagnosis: &Diagnosis, term: TermStyle) -> String {
    let mut out = String::new();
    for finding in &diagnosis.findings {
        out.push_str(&self::finding(finding, term));
        out.push('\n');
    }
    if !diagnosis.not_examined.is_empty() {
        out.push_str(&format!("{}\n", paint(DOUBTFUL.bold(), "not examined")));
        out.extend(diagnosis.not_examined.iter().map(|unseen| self::unseen(unseen, term)));
        out.push('\n');
    }
    out.push_str(&summary(diagnosis));
    if diagnosis.findings.is_empty() && diagnosis.not_examined.is_empty() {
        let checks = &diagnosis.checks;
        let widest = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for check in checks {
            out.push_str(&format!("  {:widest$}  {}\n", check.name, paint(DIM, check.about)));
        }
    }
    out
}

fn finding(finding: &Finding, term: TermStyle) -> String {
    let (word, style) = match finding.severity {
        Severity::Fault => ("fault", BAD),
        Severity::Advice => ("advice", DOUBTFUL),
    };
    let indent = " ".repeat("advice  ".len());
    let mut out =
        format!("{}  {}\n", paint(style.bold(), &format!("{word:6}")), paint(BOLD, &sanitize(&finding.subject)));
    for line in [&finding.found, &finding.why] {
        out.push_str(&hanging(&indent, &sanitize(line), term.columns()));
    }
    for step in &finding.fix {
        // A command may be pasted, so it is not wrapped.
        match is_command(step) {
            true => out.push_str(&format!("{indent}  {}\n", sanitize(step))),
            false => out.push_str(&hanging(&indent, &sanitize(step), term.columns())),
        }
    }
    out
}

fn is_command(step: &str) -> bool {
    ["aws ", "ses-breaker ", "sudo "].iter().any(|program| step.starts_with(program))
}

fn unseen(unseen: &Unseen, term: TermStyle) -> String {
    let mut of: Vec<String> = unseen.of.iter().take(SHOWN).map(|one| name(one)).collect();
    if unseen.of.len() > SHOWN {
        of.push(format!("{} more", unseen.of.len() - SHOWN));
    }
    let checks: Vec<String> = unseen.checks.iter().map(|check| (*check).to_owned()).collect();
    let what = match unseen.denied {
        true => format!("{}: needs {} on {}, which is not allowed", listed(&checks), unseen.needs, listed(&of)),
        false => format!("{}: {} of {}: {}", listed(&checks), unseen.needs, listed(&of), unseen.reason),
    };
    hanging("  ", &sanitize(&what), term.columns())
}

fn summary(diagnosis: &Diagnosis) -> String {
    let checks = counted(diagnosis.checks.len() as u64, "check");
    let partly = diagnosis.checks.iter().filter(|check| !check.examined).count();
    let partly = match partly {
        0 => String::new(),
        partly => format!(", {partly} of them partly or not examined"),
    };
    let faults = diagnosis.count(Severity::Fault);
    let advice = diagnosis.count(Severity::Advice);
    let (style, found) = match (faults, advice) {
        (0, 0) => (GOOD, "nothing to fix".to_owned()),
        (0, advice) => (DOUBTFUL, format!("no fault, {} of advice", counted(advice as u64, "piece"))),
        (faults, 0) => (BAD, counted(faults as u64, "fault")),
        (faults, advice) => {
            (BAD, format!("{}, {} of advice", counted(faults as u64, "fault"), counted(advice as u64, "piece")))
        }
    };
    format!("{}\n", paint(style.bold(), &format!("{checks}{partly}: {found}")))
}
