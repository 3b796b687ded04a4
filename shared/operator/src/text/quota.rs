//! What the gate may grant.

use terminal::time::moment;
use terminal::{Align, BOLD, Cell, DIM, DOUBTFUL, Grid, TermStyle, counted, hanging, sanitize, thousands};

use super::status::{quota_reason, quota_table};
use super::{Render, heading, painted, paragraph};
use crate::quota::{Changes, PlannedQuota, PlannedSet, Quotas};
use crate::status::Allowance;

/// The number of days ahead that are shown one by one.
const MAX_DAYS: usize = 7;

impl Render for Quotas {
    fn text(&self, term: TermStyle) -> String {
        quotas(self, term)
    }
}

impl Render for Changes {
    fn text(&self, term: TermStyle) -> String {
        changes(self, term)
    }
}

fn changes(changes: &Changes, term: TermStyle) -> String {
    let header = [
        ("", Align::Left),
        ("day", Align::Left),
        ("before", Align::Right),
        ("now", Align::Right),
        ("granted", Align::Right),
    ];
    let mut grid = Grid::new(&header, 2);
    for changed in &changes.quotas {
        grid.push(vec![
            Cell::new(sanitize(&changed.isp)),
            Cell::new(changed.day.as_str()),
            Cell::new(thousands(changed.from)),
            Cell::styled(thousands(changed.to), BOLD),
            Cell::new(thousands(changed.granted)),
        ]);
    }
    let done = if changes.dry_run { "Would be set (nothing was changed)" } else { "Set" };
    let mut out = painted(BOLD, &format!("{done}: quotas of {}", sanitize(&changes.configuration_set)), term);
    out.extend(grid.lines().iter().map(|line| format!("{}\n", line.trim_end())));
    if !changes.dry_run {
        out.push_str(&painted(
            DIM,
            "It comes in over the rest of the day, after what is scheduled. Stops and slowdowns still apply.",
            term,
        ));
    }
    out
}

fn quotas(quotas: &Quotas, term: TermStyle) -> String {
    let mut out = painted(BOLD, &format!("Quotas of the gate of {}", quotas.stack), term);
    let context = format!("{}, {} UTC; in {} it is {}", quotas.region, moment(&quotas.at), quotas.zone, quotas.today);
    out.push_str(&painted(DIM, &context, term));
    if quotas.sets.is_empty() {
        out.push_str(&paragraph(
            "The policy plans no configuration set, so the gate grants nothing. Add yours to [warmup.sets], and push it: \
             see ses-breaker policy push --help",
            term,
        ));
        return out;
    }
    if !quotas.gate_in_use {
        let text = "warning: the policy says that no gate is in use: these quotas limit no mail";
        out.push_str(&painted(DOUBTFUL.bold(), text, term));
    }
    out.push('\n');
    let rows: Vec<Allowance> =
        quotas.sets.iter().flat_map(|set| &set.isps).map(|known| known.allowance.clone()).collect();
    if !rows.is_empty() {
        out.push_str(&quota_table(&rows, term));
    }
    for set in &quotas.sets {
        out.push_str(&heading(&sanitize(&set.configuration_set)));
        set.isps.iter().for_each(|known| out.push_str(&one(known, term)));
        out.push_str(&painted(DIM, &others(set), term));
    }
    out
}

fn others(set: &PlannedSet) -> String {
    let whom =
        if set.isps.is_empty() { "The gate was not asked about any ISP yet; each begins" } else { "Other ISPs begin" };
    format!("{whom} with {} a day when the gate is first asked.", counted(set.start, "mail"))
}

fn one(known: &PlannedQuota, term: TermStyle) -> String {
    let mut out = quota_reason(&known.allowance, term);
    let mut say = |lead: &str, text: &str| out.push_str(&hanging(&format!("    {lead:<8}"), text, term.columns()));
    if known.day_is_over {
        say("day", "is over: the next request to the gate begins today, with a quota that follows from it");
    }
    let days = counted(u64::from(known.sending_days), "day");
    let idle = match known.idle_days {
        0 => String::new(),
        idle => format!(", and {} without since", counted(u64::from(idle), "day")),
    };
    let slower = if known.business { "; it receives mail for businesses, so its quota grows more slowly" } else { "" };
    say("so far", &format!("{days} with mail{idle}; {} kept for critical mail{slower}", thousands(known.reserve)));
    say("ahead", &ahead(known));
    if let Some(first) = known.leases.iter().map(|lease| &lease.expires).min() {
        let mails = known.leases.iter().map(|lease| lease.bulk.saturating_add(lease.critical)).sum();
        let (leases, mails) = (counted(known.leases.len() as u64, "lease"), counted(mails, "mail"));
        say("leases", &format!("{leases} of {mails} outstanding, the first until {} UTC", moment(first)));
    }
    out
}

fn ahead(known: &PlannedQuota) -> String {
    let Some(last) = known.ahead.last() else { return "warmed up: the quota stays at its target".to_owned() };
    let shown: Vec<String> = known.ahead.iter().take(MAX_DAYS).map(|day| thousands(day.quota)).collect();
    let more = if known.ahead.len() > MAX_DAYS { ", …" } else { "" };
    format!(
        "{}{more}: {} on {}, after {}, if each is healthy and its quota used",
        shown.join(", "),
        thousands(last.quota),
        last.day,
        counted(known.ahead.len() as u64, "day"),
    )
}
