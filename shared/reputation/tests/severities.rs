//! Every severity that the default policy defines can be reached, and with no fewer bad mails than stated here.
//!
//! A warning that can never trigger looks like health. So each rule is in a table with the smallest count that reaches
//! it; and a test compares the table with the policy, so that no rule can be added without a row.

use std::collections::BTreeSet;

use reputation::breaker::{ActionLimits, step};
use reputation::judge::{Judge, forecast};
use reputation::{
    ArmedSince, BreakerState, Input, Isp, IspMap, Judgement, Level, Metric, Now, Policy, Rule, State, Timeline,
    UnitKind, Verdict,
};

/// 2026-10-06 08:00 UTC.
const NOW: Now = Now(1_791_273_600_000);

/// Where a rule is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    /// At one ISP.
    Isp,
    /// Over all of them.
    All,
}

/// `mails` mails of one minute, `bad` of them bad. One of the known ISPs: `other` is many servers, and its delays are
/// not evidence.
fn isp() -> Isp {
    IspMap::builtin().by_name("microsoft").expect("it is built in")
}

/// With a gate, each metric is judged where its scope says.
fn policy_with_gate() -> Policy {
    Policy::default().in_world(true)
}

fn burst(metric: Metric, mails: u32, bad: u32, returns_complaints: bool) -> Timeline {
    let mut timeline = Timeline::default();
    let minute = NOW.minute().minus(10);
    let mut add = |kind, count| timeline.add(minute, isp(), kind, count, returns_complaints, NOW);
    add(UnitKind::Sent, mails);
    match metric {
        Metric::HardBounce => {
            add(UnitKind::Delivered, mails - bad);
            add(UnitKind::HardBounce, bad);
        }
        Metric::Complaint => {
            add(UnitKind::Delivered, mails);
            add(UnitKind::Complaint, bad);
        }
        Metric::Delay => {
            add(UnitKind::Delivered, mails);
            add(UnitKind::Delay, bad);
        }
        Metric::Block => {
            add(UnitKind::SoftBounce, bad);
            add(UnitKind::Delivered, mails - bad);
            add(UnitKind::Block, bad);
        }
    }
    timeline
}

fn judged(policy: &Policy, metric: Metric, at: At, mails: u32, bad: u32) -> Judgement {
    let isp = if at == At::Isp { Some(isp()) } else { None };
    Judge::new(policy, isp, &[], NOW).judgement(&mut burst(metric, mails, bad, true), ArmedSince::default())
}

fn verdict(judgement: &Judgement, level: Level) -> Option<Verdict> {
    match level {
        Level::Warn => judgement.warn,
        Level::Throttle => judgement.throttle,
        Level::Pause => judgement.pause,
    }
}

/// The default policy with all rules switched off but the one of this name: the result of one rule must not be hidden
/// by another.
fn only(rule: &str) -> Policy {
    match rule {
        "cusum" => Policy { ratios: Vec::new(), ..policy_with_gate() },
        _ => {
            let off = |metric| format!("[metrics.{metric}]\nthrottle = 0.0\npause = 0.0\n");
            let off: String = Metric::ALL.map(|metric| off(metric.name())).concat();
            Policy::from_toml(&off).expect("valid by construction").in_world(true)
        }
    }
}

/// The rows: rule, metric, where, level, mails, and the smallest number of bad ones among them that reaches it. Evidence
/// needs no minimum volume, so its rows come in several sizes.
#[rustfmt::skip]
const REACHED_BY: &[(&str, Metric, At, Level, u32, u32)] = &[
    ("cusum", Metric::HardBounce, At::Isp, Level::Throttle, 20, 7),
    ("cusum", Metric::HardBounce, At::Isp, Level::Throttle, 100, 16),
    ("cusum", Metric::HardBounce, At::Isp, Level::Throttle, 1000, 81),
    ("cusum", Metric::HardBounce, At::All, Level::Throttle, 100, 16),
    ("cusum", Metric::HardBounce, At::Isp, Level::Pause, 20, 8),
    ("cusum", Metric::HardBounce, At::Isp, Level::Pause, 100, 18),
    ("cusum", Metric::HardBounce, At::Isp, Level::Pause, 1000, 85),
    ("cusum", Metric::HardBounce, At::All, Level::Pause, 100, 18),
    ("ratio", Metric::HardBounce, At::All, Level::Warn, 1000, 30),
    ("ratio", Metric::HardBounce, At::Isp, Level::Throttle, 1000, 70),
    ("ratio", Metric::HardBounce, At::All, Level::Throttle, 1000, 70),
    ("ratio", Metric::HardBounce, At::Isp, Level::Pause, 1000, 100),
    ("ratio", Metric::HardBounce, At::All, Level::Pause, 1000, 100),
    ("cusum", Metric::Complaint, At::Isp, Level::Throttle, 500, 6),
    ("cusum", Metric::Complaint, At::Isp, Level::Throttle, 5000, 17),
    ("cusum", Metric::Complaint, At::All, Level::Throttle, 500, 6),
    ("cusum", Metric::Complaint, At::Isp, Level::Pause, 500, 7),
    ("cusum", Metric::Complaint, At::Isp, Level::Pause, 5000, 19),
    ("cusum", Metric::Complaint, At::All, Level::Pause, 500, 7),
    ("ratio", Metric::Complaint, At::All, Level::Warn, 12_500, 10),
    ("ratio", Metric::Complaint, At::Isp, Level::Throttle, 5000, 10),
    ("ratio", Metric::Complaint, At::Isp, Level::Throttle, 12_500, 25),
    ("ratio", Metric::Complaint, At::All, Level::Throttle, 5000, 10),
    ("ratio", Metric::Complaint, At::Isp, Level::Pause, 5000, 25),
    ("ratio", Metric::Complaint, At::All, Level::Pause, 5000, 25),
    ("cusum", Metric::Delay, At::Isp, Level::Throttle, 50, 21),
    ("cusum", Metric::Delay, At::Isp, Level::Throttle, 500, 113),
    ("ratio", Metric::Delay, At::Isp, Level::Warn, 500, 50),
    ("cusum", Metric::Block, At::Isp, Level::Throttle, 50, 11),
    ("cusum", Metric::Block, At::Isp, Level::Throttle, 500, 47),
    ("cusum", Metric::Block, At::Isp, Level::Pause, 50, 18),
    ("cusum", Metric::Block, At::Isp, Level::Pause, 500, 63),
    ("ratio", Metric::Block, At::Isp, Level::Warn, 500, 15),
];

#[test]
fn each_level_of_each_rule_is_reached_by_the_stated_number_of_bad_mails_and_not_by_one_fewer() {
    for (rule, metric, at, level, mails, bad) in REACHED_BY {
        let policy = only(rule);
        let reached = verdict(&judged(&policy, *metric, *at, *mails, *bad), *level);
        let row = format!("{rule} {} {at:?} {}: {bad} of {mails}", metric.name(), level.name());
        let Some(reached) = reached else { panic!("{row} is not reached") };
        assert_eq!((reached.rule.name().name(), reached.metric, reached.level), (*rule, *metric, *level), "{row}");
        assert_eq!((reached.tally.population, reached.tally.bad), (u64::from(*mails), u64::from(*bad)), "{row}");
        let below = verdict(&judged(&policy, *metric, *at, *mails, bad - 1), *level);
        assert_eq!(below, None, "{row}: reached by one fewer");
        // With all rules on, the level is also reached, by this rule or a stronger one.
        assert!(verdict(&judged(&policy_with_gate(), *metric, *at, *mails, *bad), *level).is_some(), "{row}");
    }
}

#[test]
fn no_level_of_the_default_policy_is_missing_from_the_table() {
    let policy = policy_with_gate();
    let mut defined = BTreeSet::new();
    let places = |metric| match policy.metrics.rule(metric).scope {
        reputation::policy::Scope::Isp => vec![At::Isp],
        reputation::policy::Scope::All => vec![At::Isp, At::All],
    };
    for metric in Metric::ALL {
        let rule = policy.metrics.rule(metric);
        for at in places(metric) {
            defined.extend(rule.throttle.map(|_| ("cusum", metric, at, Level::Throttle)));
            defined.extend(rule.pause.map(|_| ("cusum", metric, at, Level::Pause)));
        }
    }
    for ratio in &policy.ratios {
        // If a subject is judged as a whole, people are warned about the whole, and not again for each ISP.
        let widest = places(ratio.metric).into_iter().max();
        defined.extend(widest.filter(|_| ratio.warn.is_some()).map(|at| ("ratio", ratio.metric, at, Level::Warn)));
        for at in places(ratio.metric) {
            defined.extend(ratio.throttle.map(|_| ("ratio", ratio.metric, at, Level::Throttle)));
            defined.extend(ratio.pause.map(|_| ("ratio", ratio.metric, at, Level::Pause)));
        }
    }
    let rows: BTreeSet<_> =
        REACHED_BY.iter().map(|(rule, metric, at, level, ..)| (*rule, *metric, *at, *level)).collect();
    assert_eq!(rows, defined);
}

#[test]
fn a_warning_is_reported_and_not_hidden_by_a_stronger_level() {
    let policy = policy_with_gate();
    for (_, metric, at, _, mails, bad) in REACHED_BY.iter().filter(|(.., level, _, _)| *level == Level::Warn) {
        let judgement = judged(&policy, *metric, *at, *mails, *bad);
        let free = ActionLimits { cap: Level::Pause, may_pause: true, holds_shares: true };
        let step = step(&policy.breaker, free, &BreakerState::default(), Input::Judged(&judgement), NOW);
        let news = step.news.unwrap_or_else(|| panic!("{bad} of {mails} by {metric:?} is not reported"));
        assert_eq!((news.level, step.next.state), (Some(Level::Warn), State::Closed), "{bad} of {mails} by {metric:?}");
        // The reported number is the number used.
        assert!(news.reason.starts_with(&format!("{bad} of {mails} ")), "{}", news.reason);
    }
}

#[test]
fn a_ratio_rule_says_nothing_below_either_of_its_floors() {
    let check = |metric, mails, bad, warns: bool| {
        let at = if matches!(metric, Metric::HardBounce | Metric::Complaint) { At::All } else { At::Isp };
        let warned = judged(&only("ratio"), metric, at, mails, bad).warn;
        assert_eq!(warned.is_some(), warns, "{bad} of {mails} by {metric:?}");
    };
    check(Metric::HardBounce, 999, 999, false);
    check(Metric::HardBounce, 1000, 30, true);
    check(Metric::HardBounce, 1000, 29, false);
    check(Metric::Complaint, 4999, 4999, false);
    check(Metric::Complaint, 5000, 9, false);
    check(Metric::Complaint, 5000, 10, true);
    check(Metric::Delay, 499, 499, false);
    check(Metric::Delay, 500, 50, true);
    check(Metric::Block, 499, 499, false);
    check(Metric::Block, 500, 14, false);
    check(Metric::Block, 500, 15, true);
}

#[test]
fn delays_and_blocks_are_judged_at_each_isp_only() {
    let policy = policy_with_gate();
    for metric in [Metric::Delay, Metric::Block] {
        let at_isp = judged(&policy, metric, At::Isp, 1000, 900);
        assert!(at_isp.warn.is_some() && at_isp.throttle.is_some(), "{metric:?}");
        let mut timeline = burst(metric, 1000, 900, true);
        let all = Judge::new(&policy, None, &[], NOW).judgement(&mut timeline, ArmedSince::default());
        for verdict in [all.warn, all.throttle, all.pause].into_iter().flatten() {
            assert_ne!(verdict.metric, metric);
        }
    }
}

#[test]
fn delays_never_pause() {
    let judged = judged(&policy_with_gate(), Metric::Delay, At::Isp, 100_000, 100_000);
    assert_eq!((judged.throttle.is_some(), judged.pause), (true, None));
}

/// One customer's server that is down delays all mail to it. That is not a statement about the sender.
#[test]
fn delays_at_many_unnamed_servers_are_no_evidence() {
    let mut timeline = Timeline::default();
    for (kind, count) in [(UnitKind::Sent, 1_000), (UnitKind::Delay, 900)] {
        timeline.add(NOW.minute(), Isp::OTHER, kind, count, false, NOW);
    }
    for policy in [policy_with_gate(), Policy::default()] {
        for key in [Some(Isp::OTHER), None] {
            let judged = Judge::new(&policy, key, &[], NOW).judgement(&mut timeline, ArmedSince::default());
            assert_eq!((judged.throttle, judged.pause), (None, None), "{key:?}");
        }
    }
}

#[test]
fn an_isp_without_a_known_loop_is_judged_once_a_complaint_has_come_from_there() {
    let mut timeline = burst(Metric::Complaint, 12_500, 0, false);
    assert_eq!(
        timeline.series(None).map(|all| all.sum_since(reputation::Minute(0)).tally(Metric::Complaint).rate()),
        Some(None)
    );
    let policy = policy_with_gate();
    assert_eq!(Judge::new(&policy, Some(isp()), &[], NOW).judgement(&mut timeline, ArmedSince::default()).warn, None);
    let mut heard = burst(Metric::Complaint, 12_500, 1_000, false);
    assert!(Judge::new(&policy, Some(isp()), &[], NOW).judgement(&mut heard, ArmedSince::default()).pause.is_some());
    assert!(Judge::new(&policy, None, &[], NOW).judgement(&mut heard, ArmedSince::default()).pause.is_some());
}

#[test]
fn each_line_of_the_forecast_is_reached_by_the_stated_number_of_bad_mails_and_not_by_one_fewer() {
    let policy = policy_with_gate();
    let reached = |metric, mails, bad| -> Option<(Level, Rule)> {
        let timeline = burst(metric, mails, bad, true);
        let forecasts = forecast(&policy, [&timeline].into_iter(), NOW);
        let verdicts: Vec<_> = forecasts.into_iter().filter_map(|forecast| forecast.verdict).collect();
        assert!(verdicts.len() <= 1, "{verdicts:?}");
        verdicts
            .first()
            .inspect(|verdict| assert_eq!(verdict.metric, metric))
            .map(|verdict| (verdict.level, verdict.rule))
    };
    let check = |metric, mails: u32, bad, expected: Option<(Level, f64)>| {
        let rule = |line| Rule::Forecast { mails: mails.into(), line };
        let expected = expected.map(|(level, line)| (level, rule(line)));
        assert_eq!(reached(metric, mails, bad), expected, "{bad} of {mails} by {metric:?}");
    };
    let lines = &policy.forecast;
    for (metric, review, review_line, pause, pause_line) in [
        (Metric::HardBounce, 500, lines.hard_bounce_review, 1000, lines.hard_bounce_pause),
        (Metric::Complaint, 10, lines.complaint_review, 50, lines.complaint_pause),
    ] {
        check(metric, 10_000, review - 1, None);
        check(metric, 10_000, review, Some((Level::Warn, review_line)));
        check(metric, 10_000, pause - 1, Some((Level::Warn, review_line)));
        check(metric, 10_000, pause, Some((Level::Pause, pause_line)));
    }
    // Below a representative volume, SES does not judge, and neither do we.
    check(Metric::HardBounce, 999, 999, None);
    check(Metric::HardBounce, 1000, 50, Some((Level::Warn, lines.hard_bounce_review)));
    check(Metric::Delay, 10_000, 10_000, None);
    check(Metric::Block, 10_000, 499, None);
}

#[test]
fn the_forecast_covers_the_configured_number_of_mails_and_no_more() {
    let policy = policy_with_gate();
    let hour = |timeline: &mut Timeline, hours_ago: u32, delivered, bounced| {
        let minute = NOW.minute().minus(60 * hours_ago);
        timeline.add(minute, isp(), UnitKind::Delivered, delivered, true, NOW);
        timeline.add(minute, isp(), UnitKind::HardBounce, bounced, true, NOW);
    };
    let (mut news, mut receipts) = (Timeline::default(), Timeline::default());
    hour(&mut news, 1, 6_000, 0);
    hour(&mut receipts, 1, 3_000, 0);
    hour(&mut receipts, 2, 0, 1_000);
    hour(&mut news, 3, 0, 9_000);
    let bounces = |timelines: &[&Timeline]| forecast(&policy, timelines.iter().copied(), NOW).remove(0).tally;
    // The hour in which the last of them was accepted is included as a whole, over all configuration sets.
    assert_eq!((bounces(&[&news, &receipts]).population, bounces(&[&news, &receipts]).bad), (10_000, 1_000));
    assert_eq!((bounces(&[&news]).population, bounces(&[&news]).bad), (15_000, 9_000));
}
