//! Policies, and what a push changes.

use terminal::time::moment;
use terminal::{Align, BAD, BOLD, Cell, DIM, Grid, TermStyle, paint, sanitize};

use super::{Render, paragraph};
use crate::Exit;
use crate::asking::ActsOn;
use crate::policies::{self, Outcome, Push};
use crate::policy_file::Checked;

impl Render for policies::Shown {
    fn text(&self, _: TermStyle) -> String {
        shown_policy(self)
    }
}

impl Render for Checked {
    fn text(&self, term: TermStyle) -> String {
        replay::text::checked(self, term)
    }

    fn exit(&self) -> Exit {
        if self.valid { Exit::Done } else { Exit::No }
    }
}

impl Render for Push {
    fn text(&self, term: TermStyle) -> String {
        pushed(self, term)
    }

    fn exit(&self) -> Exit {
        Push::exit(self)
    }
}

/// A policy as TOML with a header of comments: it can be changed and pushed again.
fn shown_policy(shown: &policies::Shown) -> String {
    if shown.version == 0 && !shown.toml.is_empty() {
        // The built-in one has its comments.
        return shown.toml.clone();
    }
    if shown.version == 0 {
        return "# No policy was ever pushed: the built-in default is in use (ses-breaker policy show --default), in shadow. \
                Decisions are reported, and nothing is done until a policy with mode = \"act\" is pushed.\n"
            .to_owned();
    }
    let at = shown.at.as_deref().map(moment).unwrap_or_default();
    let by = sanitize(shown.by.as_deref().unwrap_or("?"));
    let head = format!("# Version {}, pushed {at} UTC by {by}.", shown.version);
    let mut out = format!("{}\n", paint(DIM, &head));
    if let Some(problem) = &shown.problem {
        out.push_str(&format!("{}\n", paint(BAD, &format!("# It is not valid, so not in use: {}", sanitize(problem)))));
    }
    for line in shown.toml.lines() {
        // Comments of its own may come from a push of an earlier output.
        if !is_head(line) {
            // Tabs are indentation here, and safe to print.
            out.push_str(&line.split('\t').map(sanitize).collect::<Vec<_>>().join("\t"));
            out.push('\n');
        }
    }
    out
}

fn is_head(line: &str) -> bool {
    line.starts_with("# Version ") && line.contains(", pushed ") && line.contains(" UTC by ")
}

/// What a push changes, and its result.
fn pushed(push: &Push, term: TermStyle) -> String {
    let version = |version: u64| match version {
        0 => "the default".to_owned(),
        version => format!("version {version}"),
    };
    let mut out = String::new();
    if !push.changes.is_empty() {
        let header = [("key", Align::Left), (&*version(push.from), Align::Left), (&*sanitize(&push.file), Align::Left)]
            .map(|(text, align)| (text.to_owned(), align));
        let header: Vec<(&str, Align)> = header.iter().map(|(text, align)| (text.as_str(), *align)).collect();
        let mut grid = Grid::new(&header, 2);
        let value = |value: &Option<String>| Cell::new(value.as_deref().map_or("–".to_owned(), sanitize));
        for change in &push.changes {
            grid.push(vec![Cell::styled(sanitize(&change.key), BOLD), value(&change.from), value(&change.to)]);
        }
        out.extend(grid.lines().iter().map(|line| format!("{}\n", line.trim_end())));
        out.push('\n');
    }
    let words = match (push.outcome, push.dry_run) {
        (Outcome::Unchanged, _) => format!("{} has the same text; nothing was pushed", version(push.from)),
        (Outcome::Pushed, true) => format!("It is valid and would become version {}; nothing was pushed.", push.to),
        (Outcome::Pushed, false) => {
            let none = if push.changes.is_empty() { " It changes no value." } else { "" };
            format!("Version {} is current; the functions take it into use within a minute.{none}", push.to)
        }
        (Outcome::Conflict, _) => format!(
            "Not pushed: another person pushed a policy after {} while this ran. Review it (ses-breaker policy show), \
             then push again.",
            version(push.from)
        ),
    };
    out.push_str(&paragraph(&words, term));
    if let Some(acts_on) = push.acts_on.as_deref().filter(|_| push.outcome == Outcome::Pushed) {
        let begins = if push.dry_run {
            "The stack would leave shadow and act on its decisions."
        } else {
            "The stack leaves shadow and acts on its decisions."
        };
        out.push_str(&paragraph(begins, term));
        out.push_str(&acted_on(acts_on));
    }
    out
}

/// The most breakers that a list names; it counts the rest.
const MAX_LISTED: usize = 20;

/// What a stack acts on as soon as it leaves shadow.
pub(super) fn acted_on(acts_on: &[ActsOn]) -> String {
    let (at_ses, at_the_gate): (Vec<&ActsOn>, Vec<&ActsOn>) = acts_on.iter().partition(|acts_on| acts_on.at_ses);
    if acts_on.is_empty() {
        return "No breaker is stopped, so nothing is stopped at once.\n".to_owned();
    }
    let mut out = String::new();
    for (head, listed) in [
        ("SES is asked at once to stop:", at_ses),
        ("The gate, if your application asks it, holds back at once:", at_the_gate),
    ] {
        if listed.is_empty() {
            continue;
        }
        out.push_str(&format!("{head}\n"));
        for acts_on in listed.iter().take(MAX_LISTED) {
            out.push_str(&format!("  {} ({})\n", sanitize(&acts_on.key), acts_on.state));
        }
        if let more @ 1.. = listed.len().saturating_sub(MAX_LISTED) {
            out.push_str(&format!("  and {more} more\n"));
        }
    }
    out
}
