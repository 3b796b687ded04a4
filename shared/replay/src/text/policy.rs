//! What a policy means, for people.

use pipeline::export::{Measure, PERIOD};
use reputation::counters::Metric;
use reputation::detect::{NAT, NanoNats, Percent};
use reputation::policy::{Cloudwatch, Mode, Policy, Resume, Scope, WithoutGate};
use terminal::{
    Align, BAD, BOLD, Cell, DIM, Grid, TermStyle, counted, hanging, name as spelt, paint, sanitize, thousands, wrapped,
};

use super::schedule;
use crate::policy_file::Checked;

/// The result of a check: what a policy means, or what is wrong with it, and where.
pub fn checked(checked: &Checked, term: TermStyle) -> String {
    let file = sanitize(&checked.file);
    if let Some(policy) = &checked.policy {
        return format!("{file} is valid\n\n{}", self::policy(policy, term));
    }
    let lines = wrapped(&format!("{file} is not a valid policy"), term.columns());
    let mut out: String = lines.iter().map(|line| paint(BAD.bold(), line) + "\n").collect();
    let fault = checked.fault();
    let words = fault.iter().flat_map(|fault| [fault.to_string(), fault.remedy()]);
    out.extend(words.filter(|text| !text.is_empty()).map(|text| hanging("", &sanitize(&text), term.columns())));
    out
}

/// A policy as text: its evidence rules with the false alarms they allow, its ratio rules, what breakers do, and how
/// configuration sets are warmed up.
pub fn policy(policy: &Policy, term: TermStyle) -> String {
    let mut out = String::new();
    let mut say = |lead: &str, text: &str| out.push_str(&hanging(&format!("{lead:<12}"), text, term.columns()));
    say(
        "mode",
        match policy.mode {
            Mode::Act => "act: decide, report and act",
            Mode::Shadow => "shadow: decide and report, do not act",
        },
    );
    for word in &policy.old_words {
        say("old name", &word.to_string());
    }
    say("subjects", &subjects(policy));
    say(
        "gate",
        match (policy.states_gate, policy.gate_in_use) {
            (true, true) => "in use: one ISP can be stopped separately",
            (true, false) => "not in use: only a whole configuration set can be stopped",
            (false, _) => "not set: a stack uses its parameter GateInUse, a replay uses --gate (both false by default)",
        },
    );

    out.push_str(&format!("\n{}\n", paint(BOLD, "Evidence rules")));
    let note = "Thresholds are in nats, with the least average number of mails between two false alarms of a \
                sender exactly at the limit (e^h / 5). It is far higher for a sender clearly below the limit.";
    out.extend(hanging("", note, term.columns()).lines().map(|line| paint(DIM, line) + "\n"));
    push_lines(&mut out, &evidence(policy));

    out.push_str(&format!("\n{}\n", paint(BOLD, "Ratio rules")));
    if policy.ratios.is_empty() {
        out.push_str("none\n");
    } else {
        push_lines(&mut out, &ratios(policy));
    }

    out.push_str(&format!("\n{}\n", paint(BOLD, "Breaker")));
    for (lead, text) in breaker(policy) {
        out.push_str(&hanging(&format!("{lead:<12}"), &text, term.columns()));
    }

    out.push_str(&format!("\n{}\n", paint(BOLD, "Gate and warm-up")));
    for (lead, text) in schedule::of_policy(policy) {
        out.push_str(&hanging(&format!("{lead:<12}"), &text, term.columns()));
    }
    out
}

fn push_lines(out: &mut String, grid: &Grid) {
    for line in grid.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn subjects(policy: &Policy) -> String {
    let subjects = &policy.subjects;
    let mut judged = vec!["configuration sets".to_owned(), "identities".to_owned()];
    if subjects.tenants {
        judged.push("tenants".to_owned());
    }
    judged.extend(subjects.tags.iter().map(|tag| format!("tag {}", spelt(tag))));
    let mut text = judged.join(", ");
    for (what, named) in [("protected", &subjects.protected), ("in shadow", &subjects.shadow)] {
        if !named.is_empty() {
            let named: Vec<String> = named.iter().map(|named| spelt(&named.to_string())).collect();
            text.push_str(&format!("; {what}: {}", named.join(", ")));
        }
    }
    if !subjects.own_domains.is_empty() {
        let domains: Vec<String> = subjects.own_domains.iter().map(|domain| spelt(domain)).collect();
        text.push_str(&format!("; own domains, not counted: {}", domains.join(", ")));
    }
    text
}

fn name(metric: Metric) -> String {
    metric.name().replace('_', " ")
}

fn evidence(policy: &Policy) -> Grid {
    use Align::{Left, Right};
    let header = [
        ("metric", Left),
        ("limit", Right),
        ("judged", Left),
        ("throttle", Right),
        ("false alarm", Left),
        ("pause", Right),
        ("false alarm", Left),
    ];
    let mut grid = Grid::new(&header, 2);
    for metric in Metric::ALL {
        let rule = policy.metrics.rule(metric);
        let scope = match rule.scope {
            Scope::Isp => "at each ISP",
            Scope::All => "at each ISP and over all",
        };
        let mut row = vec![Cell::new(name(metric)), Cell::new(Percent(rule.limit).to_string()), Cell::new(scope)];
        for threshold in [rule.throttle, rule.pause] {
            match threshold {
                Some(threshold) => {
                    row.push(Cell::new((threshold as f64 / NAT as f64).to_string()));
                    row.push(Cell::styled(format!("1 in {}", mails_between(threshold)), DIM));
                }
                None => row.extend([Cell::new("never"), Cell::new("")]),
            }
        }
        grid.push(row);
    }
    grid
}

/// e^h / 5 with two significant digits.
fn mails_between(threshold: NanoNats) -> String {
    let mails = (threshold as f64 / NAT as f64).exp() / 5.0;
    let size = 10_f64.powf((mails.max(1.0).log10().floor() - 1.0).max(0.0));
    let rounded = (mails / size).round() * size;
    if rounded < 1e9 { thousands(rounded as u64) } else { "over 999,000,000".to_owned() }
}

fn ratios(policy: &Policy) -> Grid {
    use Align::{Left, Right};
    let header = [
        ("metric", Left),
        ("over", Right),
        ("from", Right),
        ("", Left),
        ("and bad", Right),
        ("warn", Right),
        ("throttle", Right),
        ("pause", Right),
    ];
    let mut grid = Grid::new(&header, 2);
    for ratio in &policy.ratios {
        let line = |line: Option<f64>| Cell::new(line.map_or("never".to_owned(), |line| Percent(line).to_string()));
        grid.push(vec![
            Cell::new(name(ratio.metric)),
            Cell::new(format!("{} h", ratio.window_hours)),
            Cell::new(thousands(ratio.min_population)),
            Cell::new(ratio.metric.population_noun()),
            Cell::new(thousands(ratio.min_bad)),
            line(ratio.warn),
            line(ratio.throttle),
            line(ratio.pause),
        ]);
    }
    grid
}

fn breaker(policy: &Policy) -> Vec<(&'static str, String)> {
    let breaker = &policy.breaker;
    let resume = match breaker.resume {
        Resume::Automatic => "then testing",
        Resume::Manual => "then a person must resume it",
    };
    let account = if breaker.pause_account { "the account may be stopped" } else { "the account is never stopped" };
    let raised = minutes(breaker.raise_every_minutes);
    vec![
        (
            "slowed",
            format!(
                "quota × {}, down to {} of it; doubled after every {raised} without further harm",
                breaker.cut, breaker.floor
            ),
        ),
        (
            "stopped",
            format!(
                "{}, twice as long with each trip, at most {}; {resume}; trips are forgotten after {}",
                minutes(breaker.open_minutes),
                minutes(breaker.open_cap_minutes),
                counted(u64::from(breaker.forgive_days), "day"),
            ),
        ),
        (
            "testing",
            format!(
                "{} of the quota, until up to {} are clean {} later, or after {} fewer; after complaints {}, {} later",
                Percent(breaker.probe_share),
                counted(breaker.probe_mails, "mail"),
                minutes(breaker.probe_min_minutes),
                minutes(breaker.probe_max_minutes),
                thousands(breaker.complaint_probe_mails),
                minutes(breaker.complaint_probe_minutes),
            ),
        ),
        (
            "at most",
            format!(
                "{} stopped within an hour for each order of magnitude of harm, plus any with {} × the evidence needed to \
                 stop, over at least {} at a rate at which SES may pause the account; {account}",
                counted(u64::from(breaker.max_pauses_per_hour), "configuration set"),
                breaker.overwhelming_times,
                counted(breaker.overwhelming_mails, "mail"),
            ),
        ),
        (
            "incident",
            format!(
                "{} turning bad at one ISP within {}, with {} of the senders and {} of the mail there affected: the ISP is in trouble \
                 for {}. With a gate its mail is held and no sender is stopped; without one people are warned, \
                 and {} (without_gate = \"{}\"). A sender that was bad before, or is bad at other ISPs, is not excused",
                counted(u64::from(policy.incident.min_senders), "unrelated sender"),
                minutes(policy.incident.window_minutes),
                Percent(policy.incident.min_sender_share),
                Percent(policy.incident.min_mail_share),
                minutes(policy.incident.hold_minutes),
                match policy.incident.without_gate {
                    WithoutGate::Warn => "no sender is stopped for it",
                    WithoutGate::Pause => "senders are stopped as for any harm",
                },
                match policy.incident.without_gate {
                    WithoutGate::Warn => "warn",
                    WithoutGate::Pause => "pause",
                },
            ),
        ),
        ("alerts", alerts(policy)),
    ]
    .into_iter()
    .chain(exported(policy).map(|exported| ("metrics", exported)))
    .collect()
}

/// What CloudWatch gets of configuration sets, and the most that it charges for that: 0.30 $ a month for each of the first
/// 10,000 metrics, 0.10 $ for each of the next 240,000 (CloudWatch pricing, us-east-1).
fn exported(policy: &Policy) -> Option<String> {
    let Cloudwatch { configuration_sets: sets, isps } = policy.cloudwatch;
    let metrics = (sets * (1 + isps) * Measure::all().count()) as u64;
    let dollars = (metrics.min(10_000) * 30 + metrics.saturating_sub(10_000) * 10).div_ceil(100);
    let each = if isps == 0 { String::new() } else { format!(", each with at most {}", counted(isps as u64, "ISP")) };
    (sets > 0).then(|| {
        format!(
            "at most {}{each}, every {}: at most {} in CloudWatch, {} $ a month at its list price",
            counted(sets as u64, "configuration set"),
            minutes(PERIOD),
            counted(metrics, "metric"),
            thousands(dollars),
        )
    })
}

fn alerts(policy: &Policy) -> String {
    let digest = match policy.alerts.digest_hour {
        Some(hour) => format!("digest: each day at {hour:02}:00 {}", policy.warmup.zone),
        None => "no daily digest".to_owned(),
    };
    format!(
        "the same alert again after {}; a summary of the rest after {}; {digest}",
        minutes(policy.alerts.again_minutes),
        minutes(policy.alerts.summary_minutes),
    )
}

/// `30 min`, `2 h`, `24 h`, `90 min`.
fn minutes(minutes: u32) -> String {
    if minutes >= 60 && minutes.is_multiple_of(60) { format!("{} h", minutes / 60) } else { format!("{minutes} min") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_metrics_of_configuration_sets_cost_at_most_is_shown() {
        let check = |toml: &str, text: Option<&str>| {
            assert_eq!(exported(&Policy::from_toml(toml).unwrap()).as_deref(), text);
        };
        check("[cloudwatch]\nisps = 3", None);
        check(
            "[cloudwatch]\nconfiguration_sets = 200",
            Some(
                "at most 200 configuration sets, every 5 min: at most 1,800 metrics in CloudWatch, 540 $ a month at its list price",
            ),
        );
        check(
            "[cloudwatch]\nconfiguration_sets = 500\nisps = 20",
            Some(
                "at most 500 configuration sets, each with at most 20 ISPs, every 5 min: at most 94,500 metrics in \
                 CloudWatch, 11,450 $ a month at its list price",
            ),
        );
    }

    #[test]
    fn false_alarms_are_shown_with_two_digits_that_count() {
        let check = |nats: i64, text: &str| assert_eq!(mails_between(nats * NAT), text);
        check(1, "1");
        check(7, "220");
        check(10, "4,400");
        check(20, "97,000,000");
        check(1_000, "over 999,000,000");
    }
}
