//! The IPs that mail should leave by, in words and with numbers.

use reputation::detect::Percent;
use terminal::time::date;
use terminal::{
    Align, BAD, BOLD, Cell, DIM, DOUBTFUL, GOOD, Grid, PLAIN, TermStyle, counted, hanging, listed, name, sanitize,
    thousands,
};

use super::{Render, heading, painted, paragraph};
use crate::advise::Advised;
use crate::advise::advice::{ListAdvice, SetAdvice, amount};

/// The number of ISPs of a set, and of lists, that are shown; JSON has all of them.
const MAX_ROWS: usize = 10;

impl Render for Advised {
    fn text(&self, term: TermStyle) -> String {
        advised(self, term)
    }
}

fn advised(advised: &Advised, term: TermStyle) -> String {
    let mut out = painted(BOLD, &format!("Advice for {} in {}", advised.stack, advised.region), term);
    let Some(first) = &advised.first else {
        let (from, until) = (date(&advised.from), date(&advised.until));
        out.push_str(&paragraph(
            &format!(
                "No whole day from {from} until {until} has mail, so there is no advice. Connect a \
                 configuration set (ses-breaker connect NAME), and run this again after a week: days are kept for 400 days."
            ),
            term,
        ));
        return out;
    };
    let context = format!(
        "whole days (UTC) from {} until {}; data since {}",
        date(&advised.from),
        date(&advised.until),
        date(first)
    );
    out.push_str(&painted(DIM, &context, term));
    if advised.advice.sets.is_empty() {
        out.push_str(&paragraph("No configuration set has sent mail on these days.", term));
    }
    advised.advice.sets.iter().for_each(|set| out.push_str(&one(set, &advised.prices.currency, term)));
    out.push_str(&lists(advised, term));
    out.push_str(&prices(advised, term));
    out
}

fn one(set: &SetAdvice, currency: &str, term: TermStyle) -> String {
    let mut out = heading(&format!("{}: {}", name(&set.configuration_set), set.ips.words()));
    let mut say = |lead: &str, text: &str| out.push_str(&hanging(&format!("  {lead:<8}"), text, term.columns()));
    let mails = counted(set.mails_a_day.round() as u64, "mail");
    say("mail", &format!("{mails} a day since {}, {} on the busiest", date(&set.since), thousands(set.busiest_day)));
    let costs = set.yearly;
    let ips = counted(set.standard_ips, "IP");
    say(
        "a year",
        &format!(
            "shared {}, standard {} ({ips}), managed {}",
            amount(costs.shared, currency),
            amount(costs.standard, currency),
            amount(costs.managed, currency),
        ),
    );
    for (place, reason) in set.reasons.iter().enumerate() {
        say(if place == 0 { "because" } else { "" }, reason);
    }
    let header = [("  ISP", Align::Left), ("mails a day", Align::Right), ("share", Align::Right), ("", Align::Left)];
    let mut grid = Grid::new(&header, 2);
    for isp in set.isps.iter().take(MAX_ROWS) {
        let keeps =
            if isp.keeps { Cell::styled("enough", GOOD) } else { Cell::styled("too few for a reputation", DOUBTFUL) };
        grid.push(vec![
            Cell::new(format!("  {}", name(&isp.isp))),
            Cell::new(thousands(isp.mails_a_day.round() as u64)),
            Cell::new(Percent(isp.share).to_string()),
            keeps,
        ]);
    }
    out.extend(grid.lines().iter().map(|line| format!("{}\n", line.trim_end())));
    if set.isps.len() > MAX_ROWS {
        let more = counted((set.isps.len() - MAX_ROWS) as u64, "more ISP");
        out.push_str(&painted(DIM, &format!("  … and {more}"), term));
    }
    out
}

fn lists(advised: &Advised, term: TermStyle) -> String {
    let mut out = heading("Lists");
    if advised.tags.is_empty() {
        let text = "The policy keeps no message tags, so lists cannot be distinguished: name the tag in subjects.tags, and send \
                     mail with it.";
        out.push_str(&paragraph(text, term));
        return out;
    }
    if advised.advice.lists.is_empty() {
        let tags: Vec<String> = advised.tags.iter().map(|tag| format!("`{}`", sanitize(tag))).collect();
        out.push_str(&paragraph(&format!("These days have no mail with the tag {}.", listed(&tags)), term));
        return out;
    }
    let header = [
        ("", Align::Left),
        ("mails", Align::Right),
        ("of mail", Align::Right),
        ("of harm", Align::Right),
        ("hard bounces", Align::Right),
        ("complaints", Align::Right),
    ];
    let mut grid = Grid::new(&header, 2);
    for list in advised.advice.lists.iter().take(MAX_ROWS) {
        let ListAdvice { share_of_mail, share_of_harm, .. } = *list;
        let style = if share_of_harm >= 2.0 * share_of_mail && share_of_harm > 0.0 { BAD } else { PLAIN };
        grid.push(vec![
            Cell::new(name(&list.list)),
            Cell::new(thousands(list.mails)),
            Cell::new(Percent(share_of_mail).to_string()),
            Cell::styled(Percent(share_of_harm).to_string(), style),
            Cell::new(thousands(list.hard_bounces)),
            Cell::new(thousands(list.complaints)),
        ]);
    }
    out.extend(grid.lines().iter().map(|line| format!("{}\n", line.trim_end())));
    let text = "worst first: shares are among the values of one tag; harm is hard bounces and complaints, each relative to the \
                 policy's limit";
    out.push_str(&painted(DIM, text, term));
    if advised.advice.lists.len() > MAX_ROWS {
        let more = counted((advised.advice.lists.len() - MAX_ROWS) as u64, "more list");
        out.push_str(&painted(DIM, &format!("… and {more} (--format json has them)"), term));
    }
    out
}

fn prices(advised: &Advised, term: TermStyle) -> String {
    let prices = &advised.prices;
    let mut out = heading("Prices");
    let mut text = format!(
        "as of {} in {}, mails included, as if nothing else in the account sent; accounts on a pricing plan pay other rates",
        sanitize(&prices.date),
        sanitize(&prices.region),
    );
    if !prices.unverified.is_empty() {
        text.push_str(&format!(". Not verified: {}", listed(&prices.unverified)));
    }
    text.push_str(". Check before you buy (--prices FILE uses your own):");
    out.push_str(&painted(DIM, &text, term));
    prices.sources.iter().for_each(|source| out.push_str(&painted(DIM, &format!("  {source}"), term)));
    out
}
