//! The ISPs that receive the mail of `other` domains, and the entries proposed for them.

use terminal::{
    Align, BAD, BOLD, Cell, DIM, DOUBTFUL, GOOD, Grid, TermStyle, counted, name, paint, sanitize, thousands,
};

use super::{Render, heading, painted, paragraph};
use crate::Exit;
use crate::isps::{Change, Done, Evidence, Hints, Proposed, SesSays, Undecided};

/// The number of examples shown for a reason.
const MAX_EXAMPLES: usize = 3;
/// The number of domains shown where SES names another ISP.
const MAX_DISAGREEMENTS: usize = 10;

impl Render for Proposed {
    fn text(&self, term: TermStyle) -> String {
        proposed_isps(self, term)
    }

    fn exit(&self) -> Exit {
        Proposed::exit(self)
    }
}

fn proposed_isps(proposed: &Proposed, term: TermStyle) -> String {
    let mut out = painted(BOLD, &format!("ISPs of the domains in {}", sanitize(&proposed.source)), term);
    out.push_str(&paragraph(&summary(proposed), term));
    for note in &proposed.notes {
        out.push_str(&painted(DIM, &format!("note: {}", sanitize(note)), term));
    }
    if proposed.looked_up > 0 && proposed.unanswered == proposed.looked_up {
        let words = "No MX look-up was answered: check the network, name a resolver with --resolver ADDRESS, or use --no-lookup.";
        out.push_str(&painted(BAD, words, term));
    }
    if proposed.proposals.is_empty() {
        out.push_str(&paragraph("There is nothing to propose.", term));
    } else {
        out.push('\n');
        out.push_str(&table(proposed));
        out.push_str(&heading(match &proposed.change {
            Some(_) => "The entries",
            None => "Add to the policy (if it already has an [isps] table, leave out the first line)",
        }));
        out.push_str(&proposed.toml);
    }
    if !proposed.undecided.is_empty() {
        out.push_str(&heading("No proposal for"));
        out.push_str(&undecided(&proposed.undecided));
    }
    out.push_str(&ses(proposed, term));
    if let Some(change) = &proposed.change {
        out.push_str(&changed(change, term));
    }
    let last = "An entry applies to mail that is counted from then on; mail already counted as `other` stays there.";
    if !proposed.proposals.is_empty() {
        out.push('\n');
        out.push_str(&painted(DIM, last, term));
    }
    out
}

fn summary(proposed: &Proposed) -> String {
    let Proposed { mails, other_mails, domains, other_domains, policy, looked_up, .. } = proposed;
    let all = format!("{} to {}", counted(*mails, "mail"), counted(*domains, "domain"));
    if *other_domains == 0 && *other_mails == 0 {
        return format!("{all}: {} names the ISP of each of them.", sanitize(policy));
    }
    let share = percent(*other_mails as f64 / (*mails).max(1) as f64);
    let others = format!("{} ({share}) to {}", counted(*other_mails, "mail"), counted(*other_domains, "domain"));
    let asked = match looked_up {
        0 => "MX records were not looked up".to_owned(),
        asked => format!("MX records of {} were looked up", counted(*asked, "domain")),
    };
    format!("{all}, of which {others} belong to no ISP of {}. {asked}.", sanitize(policy))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn table(proposed: &Proposed) -> String {
    let with_hints = proposed.proposals.iter().any(|proposal| proposal.hints.is_some());
    let with_ses = proposed.proposals.iter().any(|proposal| !proposal.ses.is_empty());
    let with_mx = proposed.proposals.iter().any(|proposal| proposal.evidence == Evidence::Mx);
    let mut header =
        vec![("domain", Align::Left), ("mails", Align::Right), ("of other", Align::Right), ("ISP", Align::Left)];
    header.extend(with_mx.then_some(("MX host", Align::Left)));
    header.extend(with_hints.then_some(("servers say", Align::Left)));
    header.extend(with_ses.then_some(("SES says", Align::Left)));
    let mut grid = Grid::new(&header, 2);
    for proposal in &proposed.proposals {
        let mut row = vec![
            Cell::styled(name(&proposal.domain), BOLD),
            Cell::new(thousands(proposal.mails)),
            Cell::new(percent(proposal.share)),
            Cell::styled(proposal.isp, GOOD),
        ];
        if with_mx {
            row.push(Cell::new(proposal.mx_host.as_deref().map_or("–".to_owned(), name)));
        }
        if with_hints {
            row.push(proposal.hints.as_ref().map_or(Cell::new("–"), |hints| servers_say(hints, proposal.isp)));
        }
        if with_ses {
            row.push(proposal.ses.first().map_or(Cell::new("–"), ses_says));
        }
        grid.push(row);
    }
    lines(&grid)
}

fn lines(grid: &Grid) -> String {
    grid.lines().iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn servers_say(hints: &Hints, isp: &str) -> Cell {
    let Hints { isp: named, count, all } = hints;
    if *named == isp {
        return Cell::new(format!("the same, {} of {}", thousands(*count), thousands(*all)));
    }
    Cell::styled(format!("{named}, {} of {}", thousands(*count), thousands(*all)), DOUBTFUL)
}

fn ses_says(says: &SesSays) -> Cell {
    let named = name(&says.name);
    match says.agrees {
        Some(true) => Cell::new(format!("{named}: agrees")),
        Some(false) => Cell::styled(format!("{named}: differs"), DOUBTFUL),
        None => Cell::styled(named, DIM),
    }
}

fn undecided(reasons: &[Undecided]) -> String {
    let header = [("domains", Align::Right), ("mails", Align::Right), ("why", Align::Left), ("such as", Align::Left)];
    let mut grid = Grid::new(&header, 2);
    for undecided in reasons {
        let example = |example: &crate::isps::Example| match &example.found {
            Some(found) => format!("{} ({})", name(&example.domain), name(found)),
            None => name(&example.domain),
        };
        let examples: Vec<String> = undecided.examples.iter().take(MAX_EXAMPLES).map(example).collect();
        grid.push(vec![
            Cell::new(if undecided.domains == 0 { "?".to_owned() } else { thousands(undecided.domains) }),
            Cell::new(thousands(undecided.mails)),
            Cell::new(undecided.reason.words()),
            Cell::styled(examples.join(", "), DIM),
        ]);
    }
    lines(&grid)
}

fn ses(proposed: &Proposed, term: TermStyle) -> String {
    if proposed.ses.is_empty() {
        return String::new();
    }
    let mut out = heading("What SES calls them (tag ses:recipient-isp, which AWS does not document)");
    let header = [
        ("ISP", Align::Left),
        ("agrees", Align::Right),
        ("differs", Align::Right),
        ("unknown", Align::Right),
        ("names of SES", Align::Left),
    ];
    let mut grid = Grid::new(&header, 2);
    for names in &proposed.ses {
        let style = if names.differ > 0 { DOUBTFUL } else { BOLD };
        let ses: Vec<String> = names.names.iter().take(MAX_EXAMPLES).map(|ses| name(ses)).collect();
        grid.push(vec![
            Cell::styled(name(&names.isp), style),
            Cell::new(thousands(names.agree)),
            Cell::new(thousands(names.differ)),
            Cell::new(thousands(names.unknown)),
            Cell::styled(ses.join(", "), DIM),
        ]);
    }
    out.push_str(&lines(&grid));
    if proposed.disagreements.is_empty() {
        return out;
    }
    out.push_str(&heading("SES names another ISP than the policy or the proposal: check these yourself"));
    let header = [("domain", Align::Left), ("mails", Align::Right), ("ISP", Align::Left), ("SES", Align::Left)];
    let mut grid = Grid::new(&header, 2);
    for differs in proposed.disagreements.iter().take(MAX_DISAGREEMENTS) {
        grid.push(vec![
            Cell::styled(name(&differs.domain), BOLD),
            Cell::new(thousands(differs.mails)),
            Cell::new(name(&differs.isp)),
            Cell::styled(name(&differs.ses), DOUBTFUL),
        ]);
    }
    out.push_str(&lines(&grid));
    if let Some(more) = proposed.disagreements.len().checked_sub(MAX_DISAGREEMENTS).filter(|more| *more > 0) {
        out.push_str(&painted(DIM, &format!("… and {more} more (--format json has them)"), term));
    }
    out
}

/// The entries to be added, shown before a person confirms.
pub(crate) fn isps_to_add(policy: &str, change: &Change, term: TermStyle) -> String {
    let mut out = painted(BOLD, &format!("To be added to [isps] of {}", sanitize(policy)), term);
    for (domain, isp) in &change.added {
        out.push_str(&format!("{}\n", paint(GOOD, &format!("+ {:?} = {isp:?}", sanitize(domain)))));
    }
    out.push_str(&kept(change, term));
    out
}

fn kept(change: &Change, term: TermStyle) -> String {
    if change.kept.is_empty() {
        return String::new();
    }
    let one = |(domain, isp): &(String, String)| format!("{} ({})", name(domain), name(isp));
    let kept: Vec<String> = change.kept.iter().map(one).collect();
    paragraph(&format!("Not changed, because the policy has an entry: {}.", kept.join(", ")), term)
}

fn changed(change: &Change, term: TermStyle) -> String {
    let mut out = heading("The policy");
    out.push_str(&kept(change, term));
    let entries = match change.added.len() {
        1 => "1 entry".to_owned(),
        count => format!("{} entries", thousands(count as u64)),
    };
    let file = change.file.as_deref().map(sanitize).unwrap_or_default();
    let words = match change.done {
        Done::Pushed => {
            let version = change.push.as_ref().map_or(0, |push| push.to);
            format!("{entries} added: version {version} is current; the functions use it within a minute.")
        }
        Done::Written => {
            format!("{entries} added to {file}. Review it, then push it: ses-breaker policy push {file}")
        }
        Done::NothingToAdd => "There is nothing to add.".to_owned(),
        Done::Declined => format!("Nothing was pushed: {entries} would have been added."),
        Done::Conflict => "Not pushed: another person pushed a policy while this ran. Run it again.".to_owned(),
    };
    out.push_str(&super::sentence(&words, term));
    out
}

#[cfg(test)]
mod tests {
    use terminal::visible;

    use super::*;

    #[test]
    fn the_entries_to_be_added_are_shown_before_the_question() {
        let pair = |domain: &str, isp: &str| (domain.to_owned(), isp.to_owned());
        let change = Change {
            file: None,
            added: vec![pair("big.example", "google-workspace")],
            kept: vec![pair("school.example", "microsoft-365")],
            done: Done::NothingToAdd,
            push: None,
        };
        insta::assert_snapshot!(visible(&isps_to_add("version 3", &change, TermStyle::new(None))), @r#"
        To be added to [isps] of version 3
        + "big.example" = "google-workspace"
        Not changed, because the policy has an entry: school.example (microsoft-365).
        "#);
    }
}
