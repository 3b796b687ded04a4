//! By which IPs mail should leave, in words and with numbers.

use replay::text::layout::{Align, BAD, BOLD, Cell, DIM, DOUBTFUL, GOOD, Grid, PLAIN, date, hanging, listed};
use replay::text::{TermStyle, counted, name, sanitize, thousands};
use reputation::detect::Percent;

use super::{heading, painted, paragraph};
use crate::advise::Advised;
use crate::advise::advice::{ListAdvice, SetAdvice, amount};

/// So many ISPs of a set and so many lists are shown; JSON has all of them.
const MAX_ROWS: usize = 10;

pub(crate) fn advised(advised: &Advised, look: TermStyle) -> String {
    let mut out = painted(BOLD, &format!("Advice for {} in {}", advised.stack, advised.region), look);
    let Some(first) = &advised.first else {
        let (from, until) = (date(&advised.from), date(&advised.until));
        out.push_str(&paragraph(
            &format!(
                "There is no whole day with mail from {from} until {until}, so there is nothing to advise on. Connect a \
                 configuration set (ses-breaker connect NAME), and ask again after a week: days are kept for 400 days."
            ),
            look,
        ));
        return out;
    };
    let context = format!(
        "whole days (UTC) from {} until {}; data since {}",
        date(&advised.from),
        date(&advised.until),
        date(first)
    );
    out.push_str(&painted(DIM, &context, look));
    if advised.advice.sets.is_empty() {
        out.push_str(&paragraph("No configuration set has sent mail on these days.", look));
    }
    advised.advice.sets.iter().for_each(|set| out.push_str(&one(set, &advised.prices.currency, look)));
    out.push_str(&lists(advised, look));
    out.push_str(&prices(advised, look));
    out
}

fn one(set: &SetAdvice, currency: &str, look: TermStyle) -> String {
    let mut out = heading(&format!("{}: {}", name(&set.configuration_set), set.ips.words()));
    let mut say = |lead: &str, text: &str| out.push_str(&hanging(&format!("  {lead:<8}"), text, look.columns()));
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
        out.push_str(&painted(DIM, &format!("  … and {more}"), look));
    }
    out
}

fn lists(advised: &Advised, look: TermStyle) -> String {
    let mut out = heading("Lists");
    if advised.tags.is_empty() {
        let words = "The policy keeps no message tags, so lists cannot be told apart: name the tag in subjects.tags, and send \
                     mail with it.";
        out.push_str(&paragraph(words, look));
        return out;
    }
    if advised.advice.lists.is_empty() {
        let tags: Vec<String> = advised.tags.iter().map(|tag| format!("`{}`", sanitize(tag))).collect();
        out.push_str(&paragraph(&format!("No mail with the tag {} was heard of on these days.", listed(&tags)), look));
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
    let words = "the worst first: shares are among the values of one tag; harm is hard bounces and complaints, each by the \
                 policy's limit for it";
    out.push_str(&painted(DIM, words, look));
    if advised.advice.lists.len() > MAX_ROWS {
        let more = counted((advised.advice.lists.len() - MAX_ROWS) as u64, "more list");
        out.push_str(&painted(DIM, &format!("… and {more} (--format json has them)"), look));
    }
    out
}

fn prices(advised: &Advised, look: TermStyle) -> String {
    let prices = &advised.prices;
    let mut out = heading("Prices");
    let mut text = format!(
        "as of {} in {}, mails included, as if nobody else in the account sent; accounts on a plan pay otherwise",
        sanitize(&prices.date),
        sanitize(&prices.region),
    );
    if !prices.unverified.is_empty() {
        text.push_str(&format!(". Not verified: {}", listed(&prices.unverified)));
    }
    text.push_str(". Look before you buy (--prices FILE takes yours):");
    out.push_str(&painted(DIM, &text, look));
    prices.sources.iter().for_each(|source| out.push_str(&painted(DIM, &format!("  {source}"), look)));
    out
}
