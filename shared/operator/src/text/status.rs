//! The state of a stack, for an engineer who was just paged.

use anstyle::Style;
use reputation::breaker::{Override, StateName};
use reputation::counters::{Metric, Tally};
use reputation::detect::Percent;
use reputation::policy::Policy;
use reputation::unit::UnitKind;
use terminal::time::{clock, date, moment};
use terminal::{
    Align, BAD, BOLD, Cell, DIM, DOUBTFUL, GOOD, Grid, PLAIN, TermStyle, counted, hanging, name, paint, rate_style,
    sanitize, state_style, thousands,
};

use super::{Render, heading, painted};
use crate::status::{Allowance, Mail, Status, Unfulfilled, Unsettled};

/// The number of subjects that are shown.
const MAX_SUBJECTS: usize = 20;

impl Render for Status {
    fn text(&self, term: TermStyle) -> String {
        status(self, term)
    }
}

/// A one-line summary first, then the details.
fn status(status: &Status, term: TermStyle) -> String {
    let policy = &status.rules;
    let mut out = verdict(status, term);
    for warning in &status.warnings {
        out.push_str(&painted(DOUBTFUL.bold(), &format!("warning: {warning}"), term));
    }
    out.push_str(&breakers(status, term));
    out.push_str(&requests(status, term));
    out.push_str(&mail(status, policy, term));
    out.push_str(&quotas(status, term));
    out.push_str(&notices(status, term));
    out
}

fn verdict(status: &Status, term: TermStyle) -> String {
    let whose = status.subject.as_deref().map_or_else(String::new, |subject| format!("{} in ", name(subject)));
    let count = |state: StateName| status.breakers.iter().filter(|known| known.state == state).count();
    let states: Vec<String> = [StateName::Open, StateName::Probing, StateName::Throttled]
        .into_iter()
        .filter(|state| count(*state) > 0)
        .map(|state| format!("{} {}", count(state), state.word(status.gate)))
        .collect();
    let (words, style) = match (states.is_empty(), count(StateName::Open)) {
        (true, _) => ("everything is sending".to_owned(), GOOD),
        (false, open) => (states.join(", "), if open > 0 { BAD } else { DOUBTFUL }),
    };
    let mode = if status.policy.mode == "shadow" { "in shadow: decisions are only reported" } else { "acts" };
    let policy = match status.policy.version {
        0 => format!("the default policy {mode}"),
        version => format!("policy version {version} {mode}"),
    };
    let mut out = painted(style.bold(), &format!("{whose}{}: {words}", status.stack), term);
    let context = format!("{}, {} UTC; {policy}", status.region, moment(&status.at));
    out.push_str(&painted(DIM, &context, term));
    out
}

/// The time, with its date unless that is today.
fn when(at: &str, status: &Status) -> String {
    if date(at) == date(&status.at) { clock(at).to_owned() } else { moment(at) }
}

fn key(subject: &str, isp: Option<&str>) -> String {
    isp.map_or_else(|| name(subject), |isp| format!("{} @ {isp}", name(subject)))
}

fn breakers(status: &Status, term: TermStyle) -> String {
    if status.breakers.is_empty() {
        return String::new();
    }
    let cut = StateName::Throttled.word(status.gate);
    let mut out = heading(&format!("Stopped, testing, {cut}, or under a command of a person"));
    for known in &status.breakers {
        let lead = key(&known.subject, known.isp.as_deref());
        let (state, style) = match known.hold {
            Override::ForcedClosed => ("bypassed", DOUBTFUL),
            Override::None | Override::ForcedOpen | Override::Shadow => {
                (known.state.word(status.gate), state_style(known.state))
            }
        };
        out.push_str(&format!("{}  {}  {}\n", paint(BOLD, &lead), paint(style, state), timing(known, status)));
        if let Some(reason) = &known.reason {
            out.push_str(&hanging("    ", &sanitize(reason), term.columns()));
        }
    }
    out
}

fn timing(known: &Unsettled, status: &Status) -> String {
    let words = moments(known, status);
    if known.hold == Override::Shadow && known.state != StateName::Closed {
        format!("in shadow, not acted on: {words}")
    } else if known.state == StateName::Open && !known.switch_at_ses {
        format!("{words}; by the gate only, not at SES")
    } else {
        words
    }
}

fn moments(known: &Unsettled, status: &Status) -> String {
    let since = known.since.as_deref().map_or_else(String::new, |since| format!("since {}", when(since, status)));
    let until = known.until.as_deref().map(|until| when(until, status));
    match (known.state, known.hold, until) {
        (StateName::Closed, Override::Shadow, _) => {
            "in shadow: decisions are only reported, until a person releases it".to_owned()
        }
        (StateName::Closed, _, _) => "verdicts are reported, not acted on, until a person releases it".to_owned(),
        (StateName::Open, Override::ForcedOpen, _) => format!("{since}, by a person and until a person resumes it"),
        (StateName::Open, _, None) => format!("{since}, until a person resumes it"),
        (StateName::Open, _, Some(until)) => format!("{since}, until {until}; trip {}", known.trips),
        (StateName::Throttled, _, Some(until)) if !status.gate => {
            format!("{since}; all mail is sent, because no gate is in use; ends at {until} unless something happens")
        }
        (StateName::Throttled, _, Some(until)) => {
            format!("{} of the quota {since}; raised at {until} unless something happens", Percent(known.factor))
        }
        (StateName::Probing, _, Some(_)) if !status.gate => {
            format!("{since}; all mail is sent until there is enough for a test")
        }
        (StateName::Probing, _, Some(until)) => {
            format!("{} of the quota {since}; without enough mail looked at again at {until}", Percent(known.factor))
        }
        (StateName::Throttled | StateName::Probing, _, None) | (StateName::InTrouble | StateName::Unknown, _, _) => {
            since
        }
    }
}

fn requests(status: &Status, term: TermStyle) -> String {
    if status.wishes.is_empty() {
        return String::new();
    }
    let mut out = heading("Not done at SES yet");
    for request in &status.wishes {
        let Unfulfilled { target, wish: flow, since, made, under_way, checked, reason, .. } = request;
        let verb = if *flow == "stopped" { "to be stopped" } else { "to be resumed" };
        let asked = match (checked, made) {
            (None, _) => "SES has not been asked yet".to_owned(),
            (Some(checked), None) => format!("SES was asked at {}", when(checked, status)),
            (Some(checked), Some(made)) => format!("SES said at {}: {made}", when(checked, status)),
        };
        let asked = match &request.refused {
            Some(refused) => format!("SES has refused it since {}", when(refused, status)),
            None => asked,
        };
        let asked = match (&request.gone, &request.stopped_by, request.doubted) {
            (Some(gone), _, _) => format!("missing at SES since {}", when(gone, status)),
            (None, Some(stack), _) => format!("stopped by the ses-breaker stack {}", sanitize(stack)),
            (None, None, Some(seen)) => format!("SES shows {seen}, accepted if the next check shows the same"),
            (None, None, None) => asked,
        };
        let under_way = if *under_way { "; a call is in flight" } else { "" };
        let words = format!("{verb} since {}; {asked}{under_way}", when(since, status));
        out.push_str(&format!("{}  {words}\n", paint(BOLD, &name(target))));
        if let Some(error) = &request.error {
            let calls =
                if request.failures == 1 { "the last call".to_owned() } else { format!("{} calls", request.failures) };
            let next = request
                .next_look
                .as_ref()
                .map_or_else(String::new, |next| format!("; next try {}", when(next, status)));
            let words = format!("{calls} failed: {}{next}", sanitize(error));
            out.push_str(&hanging("    ", &words, term.columns()));
        }
        out.push_str(&hanging("    ", &sanitize(reason), term.columns()));
    }
    out
}

fn mail(status: &Status, policy: &Policy, term: TermStyle) -> String {
    use Align::{Left, Right};
    let mut out = heading("Mail of the last 24 hours");
    let counts = status.mail.iter().any(|mail| !mail.counters.is_empty());
    if !counts && status.mail.len() <= 1 {
        out.push_str("none\n");
        return out;
    }
    let narrow = term.width < 100;
    let by_room = |long, short| if narrow { short } else { long };
    let header = [
        ("", Left),
        ("sent", Right),
        (by_room("delivered", "deliv."), Right),
        (by_room("hard bounces", "hard"), Right),
        (by_room("complaints", "compl."), Right),
        ("delays", Right),
        ("blocks", Right),
        ("breaker", Left),
    ];
    let mut grid = Grid::new(&header, if narrow { 1 } else { 2 });
    for (place, mail) in status.mail.iter().take(MAX_SUBJECTS + 1).enumerate() {
        let label = match (&mail.isp, place) {
            (Some(isp), _) => format!("  {}", name(isp)),
            (None, _) => name(&mail.subject),
        };
        let mut cells = vec![
            Cell::styled(label, if place == 0 { BOLD } else { PLAIN }),
            Cell::new(thousands(mail.count(UnitKind::Sent))),
            Cell::new(thousands(mail.count(UnitKind::Delivered))),
        ];
        for metric in Metric::ALL {
            cells.push(rate(policy, metric, mail, !narrow && metric == Metric::HardBounce));
        }
        let of_account = place == 0 && mail.subject == "account";
        cells.push(match (mail.state, &mail.isp, of_account) {
            (StateName::Closed, Some(_), _) | (StateName::Closed, None, true) => Cell::new(""),
            (state, _, _) => Cell::styled(state.word(status.gate), state_style(state)),
        });
        grid.push(cells);
    }
    out.extend(grid.lines().iter().map(|line| format!("{}\n", line.trim_end())));
    if status.mail.len() > MAX_SUBJECTS + 1 {
        let hidden = counted((status.mail.len() - MAX_SUBJECTS - 1) as u64, "more");
        let hidden = hidden.trim_end_matches('s');
        out.push_str(&hanging(
            "",
            &format!("{hidden} with fewer problems not shown (--format json has all)"),
            term.columns(),
        ));
    }
    let limit =
        |metric: Metric| format!("{} {}", metric.name().replace('_', " "), Percent(policy.metrics.rule(metric).limit));
    let limits = format!("limits (red): {}", Metric::ALL.map(limit).join(", "));
    out.push_str(&painted(DIM, &limits, term));
    out
}

/// A rate, with its numerator if asked for.
fn rate(policy: &Policy, metric: Metric, mail: &Mail, with_count: bool) -> Cell {
    let tally: Tally = mail.tallies[metric as usize];
    let Some(share) = tally.rate() else {
        // Gmail and others report no complaints: "no data" is not zero.
        let reports_none =
            metric == Metric::Complaint && mail.count(UnitKind::Sent).max(mail.count(UnitKind::Delivered)) > 0;
        return Cell::styled(if reports_none { "no data" } else { "–" }, DIM);
    };
    let text = Percent(share).to_string();
    let text = if with_count { format!("{}  {text:>6}", thousands(tally.bad)) } else { text };
    Cell::styled(text, rate_style(policy, metric, tally, share))
}

/// What the gate may grant today, with the reasons of the tightest quotas.
fn quotas(status: &Status, term: TermStyle) -> String {
    if status.quotas.is_empty() {
        return String::new();
    }
    let mut out = heading("Quotas of the gate");
    out.push_str(&quota_table(&status.quotas, term));
    let explained = status.quotas.iter().filter(|known| {
        // Self-evident reasons are left out, unless one subject is shown.
        known.because.is_some()
            || status.subject.is_some()
            || matches!(known.step, "shrank" | "trickled" | "followed" | "decayed")
    });
    explained.for_each(|known| out.push_str(&quota_reason(known, term)));
    out
}

/// The reason for a quota, in a sentence.
pub(super) fn quota_reason(known: &Allowance, term: TermStyle) -> String {
    let because = known.because.as_ref().map_or_else(String::new, |because| format!("; {because}"));
    let lead = format!("{} @ {}: ", name(&known.configuration_set), name(&known.isp));
    hanging(&lead, &sanitize(&format!("{}{because}", known.reason)), term.columns())
}

/// A row for each quota, under the names of their configuration sets.
pub(super) fn quota_table(quotas: &[Allowance], term: TermStyle) -> String {
    use Align::{Left, Right};
    let header = [
        ("", Left),
        ("day", Left),
        ("granted", Right),
        ("quota", Right),
        ("target", Right),
        ("flows", Right),
        ("", Left),
    ];
    let mut grid = Grid::new(&header, if term.width < 100 { 1 } else { 2 });
    let mut set = None;
    for known in quotas {
        if set != Some(&known.configuration_set) {
            set = Some(&known.configuration_set);
            let mut cells = vec![Cell::styled(sanitize(&known.configuration_set), BOLD)];
            cells.resize_with(header.len(), || Cell::new(""));
            grid.push(cells);
        }
        let flows = match known.factor {
            1.0 => Cell::new("all"),
            0.0 => Cell::styled("nothing", BAD),
            factor => Cell::styled(Percent(factor).to_string(), DOUBTFUL),
        };
        let moved = match known.step {
            "shrank" | "trickled" => Cell::styled(known.step, BAD),
            "decayed" | "followed" => Cell::styled(known.step, DOUBTFUL),
            step => Cell::new(step),
        };
        grid.push(vec![
            Cell::new(format!("  {}", name(&known.isp))),
            Cell::new(known.day.as_str()),
            Cell::new(thousands(known.granted)),
            Cell::new(thousands(known.quota)),
            Cell::new(thousands(known.target)),
            flows,
            moved,
        ]);
    }
    grid.lines().iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn notices(status: &Status, term: TermStyle) -> String {
    let mut out = String::new();
    if status.notices.is_empty() {
        return out;
    }
    out.push_str(&heading("Last notices"));
    for notice in &status.notices {
        let style: Style = if notice.title.starts_with("[STOPPED]") { BAD } else { PLAIN };
        let lines = hanging(&format!("{}  ", moment(&notice.at)), &sanitize(&notice.title), term.columns());
        out.extend(lines.lines().map(|line| paint(style, line) + "\n"));
        // With one subject, there is room for the text of the notice.
        if status.subject.is_some() {
            let body = notice.text.lines().skip(1).filter(|line| !line.is_empty());
            body.for_each(|line| out.push_str(&hanging("    ", &sanitize(line), term.columns())));
        }
    }
    out
}
