//! The schedule of a warm-up, and the rules that move it.

use reputation::detect::Percent;
use reputation::policy::{Gate, Policy, Unreadable};
use reputation::warmup::Plan;
use terminal::{Align, BOLD, Cell, DIM, Grid, TermStyle, counted, hanging, listed, name, paint, thousands};

use crate::schedule::{DayQuota, Schedules, SetSchedule};

/// The width of the leads.
const LEAD: usize = 12;

/// The schedules of a policy as text. `plans` are those of the schedules, in order.
pub fn schedules(schedules: &Schedules, plans: &[&Plan], term: TermStyle) -> String {
    let mut out = String::new();
    for (place, (set, plan)) in schedules.sets.iter().zip(plans).enumerate() {
        if place > 0 {
            out.push('\n');
        }
        out.push_str(&one(schedules, set, plan, term));
    }
    out
}

fn one(schedules: &Schedules, set: &SetSchedule, plan: &Plan, term: TermStyle) -> String {
    let title = match &set.configuration_set {
        Some(set) => format!("configuration-set:{}", name(set)),
        None => "[warmup.plan], the default for sets of [warmup.sets]; the policy names no set".to_owned(),
    };
    let mut out = hanging("", &title, term.columns());
    out = out.lines().map(|line| paint(BOLD, line) + "\n").collect();
    let [consumer, business] = set.sending_days;
    let days = |days: u32| counted(u64::from(days), "sending day");
    let business = match business_isps(&schedules.business_isps) {
        Some(isps) => format!(", {} at business ISPs ({isps})", days(business)),
        None => String::new(),
    };
    let ramp = if set.start >= set.target {
        format!("{} mails a day at each ISP, warmed up from the first day on", thousands(set.target))
    } else {
        format!(
            "{} → {} mails a day at each ISP: {} at consumer ISPs{business}, if each day is healthy and its quota is used",
            thousands(set.start),
            thousands(set.target),
            days(consumer),
        )
    };
    let mut say = |lead: &str, text: &str| out.push_str(&hanging(&format!("{lead:<LEAD$}"), text, term.columns()));
    say("ramp", &ramp);
    say(
        "day",
        &format!(
            "from midnight to midnight, {}; the day on which a ramp begins also has the quota of day 1 and is not counted",
            schedules.zone
        ),
    );
    for (lead, text) in rules(plan) {
        say(lead, &text);
    }
    out.push('\n');
    out.push_str(&table(set, term));
    out
}

fn business_isps(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(", "))
}

fn table(set: &SetSchedule, term: TermStyle) -> String {
    use Align::Right;
    let header = [
        ("day", Right),
        ("consumer", Right),
        ("total", Right),
        ("kept", Right),
        ("an hour", Right),
        ("business", Right),
        ("total", Right),
        ("kept", Right),
        ("an hour", Right),
    ];
    let fill = |mut grid: Grid| {
        for day in &set.schedule {
            let cells = |quota: &DayQuota| {
                [
                    Cell::new(thousands(quota.quota)),
                    Cell::styled(thousands(quota.cumulative), DIM),
                    Cell::new(thousands(quota.reserve)),
                    Cell::new(thousands(quota.hourly)),
                ]
            };
            let mut row = vec![Cell::styled(day.day.to_string(), DIM)];
            row.extend(cells(&day.consumer));
            row.extend(cells(&day.business));
            grid.push(row);
        }
        grid
    };
    let mut grid = fill(Grid::new(&header, 2));
    if grid.width() > term.columns() {
        grid = fill(Grid::new(&header, 1));
    }
    let mut out: String = grid.lines().iter().map(|line| line.trim_end().to_owned() + "\n").collect();
    let note = "kept: for critical mail only; an hour: the part of the rest that becomes available each hour";
    out.extend(hanging("", note, term.columns()).lines().map(|line| paint(DIM, line) + "\n"));
    out
}

/// The rules that move a quota: a lead and a text each.
pub(super) fn rules(plan: &Plan) -> Vec<(&'static str, String)> {
    let mut rules = vec![
        (
            "grows",
            format!(
                "× {} after a healthy day on which {} of the quota was used and sent, × {} at business ISPs, by at \
                 most {} of the target{}; {}",
                plan.growth,
                Percent(plan.used_share),
                plan.business_growth,
                Percent(plan.max_step_share),
                if plan.learn { ", and less at an ISP that has turned mail away" } else { "" },
                weekdays(plan),
            ),
        ),
        (
            "holds",
            "when less was used, while a warning is active or a breaker is not closed, or while the ISP is in trouble"
                .to_owned(),
        ),
        (
            "eases",
            format!("to what the ISP took, after a day on which it turned away {} or more", Percent(plan.ease_share)),
        ),
        (
            "shrinks",
            format!(
                "× {}, once for each harm that the breaker finds; {} of it, plus the critical reserve, while sending is \
                 stopped or testing; never below {}",
                plan.shrink,
                Percent(plan.trickle_share),
                counted(plan.minimum, "mail"),
            ),
        ),
        (
            "follows",
            format!(
                "the volume, down to twice its largest day, when that is below {} of the quota; that day counts for {}, \
                 then it decays",
                Percent(plan.follow_share),
                counted(u64::from(plan.follow_days), "day"),
            ),
        ),
        (
            "decays",
            format!(
                "× {} a day after {} without mail; starts over after {}",
                plan.decay,
                counted(u64::from(plan.decay_after_days), "day"),
                counted(u64::from(plan.rewarm_after_days), "day"),
            ),
        ),
        (
            "paced",
            format!(
                "becomes available evenly over what is left of the day, at least over {}, at most over {}; unused mail \
                 accumulates up to {} of the quota; {} of the quota is for critical mail only",
                counted(u64::from(plan.least_spread_hours), "hour"),
                counted(u64::from(plan.spread_hours), "hour"),
                Percent(plan.burst_share),
                Percent(plan.critical_share),
            ),
        ),
    ];
    rules.push((
        "else",
        match &plan.overflow {
            Some(set) => {
                format!(
                    "what exceeds the quota goes through {} until half of the target is reached, then waits",
                    name(set)
                )
            }
            None => "waits: the plan names no overflow set".to_owned(),
        } + &match &plan.critical_route {
            Some(set) => {
                format!("; critical mail goes through {} while SES accepts no mail with the set itself", name(set))
            }
            None => String::new(),
        },
    ));
    rules
}

fn weekdays(plan: &Plan) -> String {
    const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    if plan.sending_days == [true; 7] {
        return "on any day of the week".to_owned();
    }
    let days = NAMES.iter().zip(plan.sending_days).filter(|(_, grows)| *grows).map(|(name, _)| (*name).to_owned());
    format!("only on {}", listed(&days.collect::<Vec<_>>()))
}

/// What the policy says about the gate and warming up.
pub(super) fn of_policy(policy: &Policy) -> Vec<(&'static str, String)> {
    let Gate { lease_secs, unreadable_bulk, unreadable_critical } = policy.gate;
    let answer = |unreadable: Unreadable| match unreadable {
        Unreadable::Grant => "granted (grant)",
        Unreadable::Defer => "deferred (defer)",
    };
    let unreadable = if unreadable_bulk == unreadable_critical {
        format!("all mail is {}", answer(unreadable_bulk))
    } else {
        format!("bulk mail is {}, critical mail {}", answer(unreadable_bulk), answer(unreadable_critical))
    };
    let warmup = &policy.warmup;
    let mut lines =
        vec![("permits", format!("valid for {lease_secs} s; while the tables cannot be read, {unreadable}"))];
    let business: Vec<String> = warmup.business.iter().map(|isp| policy.isp_map.name(*isp).to_owned()).collect();
    let business = business_isps(&business)
        .map_or("no ISP receives mail for businesses".to_owned(), |isps| format!("business ISPs: {isps}"));
    lines.push(("day", format!("from midnight to midnight, {}; {business}", warmup.zone)));
    if warmup.sets.is_empty() {
        lines.push(("sets", "[warmup.sets] names none, so the gate grants nothing yet".to_owned()));
        lines.push(("plan", ramp(&warmup.plan)));
        lines.extend(rules(&warmup.plan));
        return lines;
    }
    for (set, plan) in &warmup.sets {
        lines.push(("set", format!("{}: {}", name(set), ramp(plan))));
    }
    lines.push(("plan", "of [warmup.plan], for keys that a set leaves out:".to_owned()));
    lines.extend(rules(&warmup.plan));
    for mirror in &warmup.mirrors {
        let ips = counted(mirror.ips.len() as u64, "standard dedicated IP");
        lines.push(("mirrored", format!("{} to {ips}; SES sends the excess through shared IPs", name(&mirror.set))));
    }
    lines
}

fn ramp(plan: &Plan) -> String {
    if plan.start >= plan.target {
        return format!("warmed up at {} mails a day at each ISP", thousands(plan.target));
    }
    format!(
        "{} → {} mails a day at each ISP in {}, {} at business ISPs",
        thousands(plan.start),
        thousands(plan.target),
        counted(plan.schedule(false).len() as u64, "sending day"),
        thousands(plan.schedule(true).len() as u64),
    )
}
