//! The results of `connect` and `disconnect`.

use anstyle::Style;
use terminal::{BAD, BOLD, DIM, DOUBTFUL, GOOD, PLAIN, TermStyle, counted, hanging, name, paint, sanitize};

use super::Render;
use crate::Exit;
use crate::connect::{Became, Connected};
use crate::disconnect::{Disconnected, DisconnectedSubject, Sending};
use crate::obey::Obeyed;

impl Render for Connected {
    fn text(&self, term: TermStyle) -> String {
        connected(self, term)
    }

    fn exit(&self) -> Exit {
        Connected::exit(self)
    }
}

impl Render for Disconnected {
    fn text(&self, term: TermStyle) -> String {
        disconnected(self, term)
    }

    fn exit(&self) -> Exit {
        Disconnected::exit(self)
    }
}

/// One block for each configuration set, then a summary.
fn connected(connected: &Connected, term: TermStyle) -> String {
    let mut out = String::new();
    let dry = connected.dry_run;
    let widest = connected.configuration_sets.iter().map(|set| name(&set.name).chars().count()).max().unwrap_or(0);
    for set in &connected.configuration_sets {
        let (text, style, details) = became(&set.became, dry);
        let spelt = name(&set.name);
        let pad = " ".repeat(widest - spelt.chars().count());
        out.push_str(&format!("{}{pad}  {}\n", paint(BOLD, &spelt), paint(style, text)));
        for detail in details.iter().chain(&set.notes) {
            out.push_str(&hanging("    ", &sanitize(detail), term.columns()));
        }
    }
    let all = connected.configuration_sets.len();
    let good = connected.count();
    let would = if dry { "would be connected" } else { "connected" };
    let sets = counted(all as u64, "configuration set");
    let style = if good == all { GOOD } else { BAD };
    out.push_str(&format!("\n{}\n", paint(style.bold(), &format!("{good} of {sets} {would}"))));
    let what = format!(
        "{} to {} by the event destination {}",
        connected.events.join(", "),
        connected.topic,
        connected.destination
    );
    out.extend(hanging("", &sanitize(&what), term.columns()).lines().map(|line| paint(DIM, line) + "\n"));
    if dry {
        out.push_str("Nothing was changed.\n");
    }
    out
}

fn became(became: &Became, dry: bool) -> (&'static str, Style, Vec<String>) {
    match (became, dry) {
        (Became::Unchanged, _) => ("already connected", GOOD, Vec::new()),
        (Became::Created, true) => ("would be connected", PLAIN, Vec::new()),
        (Became::Created, false) => ("connected, and read back", GOOD, Vec::new()),
        (Became::Updated { changes }, true) => ("its event destination would be changed", PLAIN, changes.clone()),
        (Became::Updated { changes }, false) => {
            ("its event destination was changed, and read back", GOOD, changes.clone())
        }
        (Became::Missing { nearest }, _) => {
            let nearest: Vec<String> = nearest.iter().map(|known| name(known)).collect();
            let guess = if nearest.is_empty() {
                "This Region has no configuration sets.".to_owned()
            } else {
                format!("Did you mean {}?", nearest.join(" or "))
            };
            ("does not exist", BAD, vec![guess])
        }
        (Became::Failed { reason }, _) => ("not connected", BAD, vec![reason.clone()]),
    }
}

/// One block for each subject, then a summary.
fn disconnected(disconnected: &Disconnected, term: TermStyle) -> String {
    let mut out = String::new();
    let dry = disconnected.dry_run;
    for row in &disconnected.subjects {
        let (words, style) = left(row, dry);
        out.push_str(&format!("{}  {}\n", paint(BOLD, &name(&row.subject)), paint(style, &words)));
        for detail in row.failed.iter().chain(&row.notes) {
            out.push_str(&super::sentence(detail, term));
        }
    }
    let stopped = |row: &&DisconnectedSubject| row.sending == Sending::StoppedByPerson;
    let all = disconnected.subjects.len();
    let done = disconnected.count();
    let by_people = disconnected.subjects.iter().filter(stopped).count();
    let would = if dry { "would be disconnected" } else { "disconnected" };
    let style = if done == all { GOOD } else { BAD };
    out.push_str(&format!("\n{}\n", paint(style.bold(), &format!("{done} of {all} {would}"))));
    if by_people > 0 {
        let people = format!("stopped by people, and not resumed: {by_people}");
        out.push_str(&hanging("", &people, term.columns()));
    }
    out.push_str(&paint(DIM, &sanitize(&format!("events went to {}", disconnected.topic))));
    out.push('\n');
    if dry {
        out.push_str("Nothing was changed.\n");
    }
    out
}

fn left(row: &DisconnectedSubject, dry: bool) -> (String, Style) {
    let mut words = Vec::new();
    let mut style = GOOD;
    if row.failed.is_some() {
        words.push("not disconnected".to_owned());
        style = BAD;
    } else if !row.deleted.is_empty() {
        let names: Vec<String> = row.deleted.iter().map(|deleted| name(deleted)).collect();
        let verb = if dry { "would be deleted" } else { "deleted" };
        words.push(format!("event destination {} {verb}", names.join(", ")));
    } else if row.sending != Sending::Missing && row.subject.starts_with("configuration-set:") {
        words.push("no event destination to the stack".to_owned());
    }
    match &row.sending {
        Sending::NotStopped => {}
        Sending::WouldResume => words.push("would be resumed".to_owned()),
        Sending::Resumed { obeyed } if obeyed.is_so() => words.push("resumed at SES".to_owned()),
        Sending::Resumed { obeyed } => {
            let why = match obeyed {
                Obeyed::Refused { reason } => format!("not resumed: SES refuses ({})", sanitize(reason)),
                Obeyed::Gone => "SES does not know it".to_owned(),
                Obeyed::OtherStack { stack } => format!("stopped by the stack {}", sanitize(stack)),
                Obeyed::NotWaited => "asked to be resumed".to_owned(),
                Obeyed::Overruled | Obeyed::NotYet { .. } | Obeyed::Seen { .. } | Obeyed::Noted { .. } => {
                    "not resumed yet".to_owned()
                }
            };
            words.push(why);
            style = if *obeyed == Obeyed::NotWaited { DOUBTFUL } else { BAD };
        }
        Sending::StoppedByPerson => {
            words.push("stopped by a person".to_owned());
            style = DOUBTFUL;
        }
        Sending::Missing => {
            words.push("does not exist".to_owned());
            style = BAD;
        }
    }
    (words.join("; "), style)
}
