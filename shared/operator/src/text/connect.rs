//! What became of configuration sets that were to be connected.

use anstyle::Style;
use replay::text::layout::{BAD, BOLD, DIM, GOOD, PLAIN, hanging, paint};
use replay::text::{Look, counted, legible, name};

use crate::connect::{Became, Connected};

/// One block for each configuration set, then what it was all about.
pub(crate) fn connected(connected: &Connected, look: Look) -> String {
    let mut out = String::new();
    let dry = connected.dry_run;
    let widest = connected.configuration_sets.iter().map(|set| name(&set.name).chars().count()).max().unwrap_or(0);
    for set in &connected.configuration_sets {
        let (text, style, details) = became(&set.became, dry);
        let spelt = name(&set.name);
        let pad = " ".repeat(widest - spelt.chars().count());
        out.push_str(&format!("{}{pad}  {}\n", paint(BOLD, &spelt), paint(style, text)));
        for detail in details.iter().chain(&set.notes) {
            out.push_str(&hanging("    ", &legible(detail), look.columns()));
        }
    }
    let all = connected.configuration_sets.len();
    let good = connected
        .configuration_sets
        .iter()
        .filter(|set| matches!(set.became, Became::Unchanged | Became::Created | Became::Updated { .. }))
        .count();
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
    out.extend(hanging("", &legible(&what), look.columns()).lines().map(|line| paint(DIM, line) + "\n"));
    if dry {
        out.push_str("Nothing was changed.\n");
    }
    out
}

fn became(became: &Became, dry: bool) -> (&'static str, Style, Vec<String>) {
    match (became, dry) {
        (Became::Unchanged, _) => ("connected already", GOOD, Vec::new()),
        (Became::Created, true) => ("would be connected", PLAIN, Vec::new()),
        (Became::Created, false) => ("connected, and read back", GOOD, Vec::new()),
        (Became::Updated { changes }, true) => ("its event destination would be changed", PLAIN, changes.clone()),
        (Became::Updated { changes }, false) => {
            ("its event destination was changed, and read back", GOOD, changes.clone())
        }
        (Became::Missing { nearest }, _) => {
            let nearest: Vec<String> = nearest.iter().map(|known| name(known)).collect();
            let guess = if nearest.is_empty() {
                "There is no configuration set in this Region.".to_owned()
            } else {
                format!("Did you mean {}?", nearest.join(" or "))
            };
            ("does not exist", BAD, vec![guess])
        }
        (Became::Failed { reason }, _) => ("not connected", BAD, vec![reason.clone()]),
    }
}
