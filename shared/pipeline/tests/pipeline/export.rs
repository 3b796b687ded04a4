//! The metrics that people's own dashboards show of a configuration set.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use pipeline::export::{Candidate, Measure, PERIOD, Series, choose, measure, period};
use pipeline::ports::{Board, Quota, SubjectState, Versioned};
use proptest::prelude::*;
use reputation::breaker::{BreakerState, Factor, State};
use reputation::judge::ArmedSince;
use reputation::time::{Minute, Now};
use reputation::warmup::begin;
use reputation::{Isp, IspMap, Metric, Policy, UnitKind};

/// 2026-10-06 07:02:41 UTC.
const NOW: Now = Now(1_791_270_161_000);

fn policy(toml: &str) -> Policy {
    Policy::from_toml(toml).unwrap()
}

/// The built-in map, built once because building it is slow.
static ISPS: LazyLock<IspMap> = LazyLock::new(IspMap::builtin);

fn isp(name: &str) -> Isp {
    ISPS.by_name(name).unwrap()
}

/// Counts mails accepted in `minute`.
fn count(subject_state: &mut SubjectState, minute: Minute, at: &str, counts: &[(UnitKind, u32)]) {
    let has_loop = ISPS.returns_complaints(isp(at));
    for (kind, mails) in counts {
        subject_state.timeline.add(minute, isp(at), *kind, *mails, has_loop, NOW);
    }
}

fn breaker(state: State) -> Versioned {
    Versioned { breaker: BreakerState { state, ..BreakerState::default() }, version: 1 }
}

fn open() -> State {
    State::Open { at: NOW, until: None, tested: false }
}

fn measured(policy: &Policy, subject_state: &mut SubjectState) -> (Vec<Series>, usize) {
    measure(policy, &Board::default(), "news", subject_state, &BTreeMap::new(), NOW)
}

fn value(series: &Series, measure: Measure) -> Option<f64> {
    series.values.iter().find(|(known, _)| *known == measure).map(|(_, value)| *value)
}

#[test]
fn rates_are_shares_of_the_last_day_and_what_is_no_data_is_left_out() {
    let mut subject_state = SubjectState::default();
    let sent = |mails: u32, hard: u32| {
        [(UnitKind::Sent, mails), (UnitKind::Delivered, mails - hard), (UnitKind::HardBounce, hard)]
    };
    count(&mut subject_state, NOW.minute().minus(300), "gmail", &sent(100, 4));
    count(&mut subject_state, NOW.minute().minus(60), "yahoo", &sent(100, 0));
    count(&mut subject_state, NOW.minute().minus(60), "yahoo", &[(UnitKind::Complaint, 1), (UnitKind::Delay, 10)]);
    // Older than a day.
    count(&mut subject_state, NOW.minute().minus(26 * 60), "yahoo", &sent(1_000, 1_000));
    let (series, left_out) = measured(&policy("[cloudwatch]\nconfiguration_sets = 1\nisps = 5"), &mut subject_state);
    assert_eq!(left_out, 0);
    let keys: Vec<_> = series.iter().map(|series| (series.set.as_str(), series.isp)).collect();
    assert_eq!(keys, [("news", None), ("news", Some(isp("gmail"))), ("news", Some(isp("yahoo")))]);
    let rates = Metric::ALL.map(Measure::Rate);
    let of = |series: &Series| rates.map(|rate| value(series, rate));
    assert_eq!(of(&series[0]), [Some(0.02), Some(0.01), Some(0.05), Some(0.0)]);
    // Gmail returns no complaints.
    assert_eq!(of(&series[1]), [Some(0.04), None, Some(0.0), Some(0.0)]);
    assert_eq!(of(&series[2]), [Some(0.0), Some(0.01), Some(0.1), Some(0.0)]);
}

#[test]
fn evidence_is_a_share_of_what_stops_mail_counted_from_the_re_arming() {
    let policy = policy("[cloudwatch]\nconfiguration_sets = 1");
    let mut subject_state = SubjectState::default();
    let burst = |hard: u32| [(UnitKind::Sent, 40), (UnitKind::Delivered, 40 - hard), (UnitKind::HardBounce, hard)];
    count(&mut subject_state, NOW.minute().minus(30), "gmail", &burst(20));
    let share = |subject_state: &mut SubjectState| {
        value(&measured(&policy, subject_state).0[0], Measure::EvidenceShare).unwrap()
    };
    // 20 of 40 at a limit of 5 %: far more than the 10 nats that stop a set.
    assert!(share(&mut subject_state) > 1.0, "{}", share(&mut subject_state));
    let since = ArmedSince::both(NOW.minute().minus(10));
    subject_state
        .breakers
        .insert(None, Versioned { breaker: BreakerState { since, ..BreakerState::default() }, version: 1 });
    assert_eq!(share(&mut subject_state), 0.0);
    // Delays never stop mail, so they have no share.
    count(&mut subject_state, NOW.minute().minus(5), "gmail", &[(UnitKind::Sent, 100), (UnitKind::Delay, 100)]);
    assert_eq!(share(&mut subject_state), 0.0);
}

#[test]
fn states_are_numbers_that_grow_with_the_trouble() {
    let policy = policy("[cloudwatch]\nconfiguration_sets = 1\nisps = 5");
    let states =
        [State::Closed, State::Throttled { factor: Factor::QUARTER, moved: NOW }, State::Probing { at: NOW }, open()];
    for (number, state) in states.into_iter().enumerate() {
        let mut subject_state = SubjectState::default();
        subject_state.breakers.insert(None, breaker(state));
        let (series, _) = measured(&policy, &mut subject_state);
        // Nothing else is known about a set without mail.
        assert_eq!(
            series,
            [Series { set: "news".into(), isp: None, values: vec![(Measure::State, number as f64)], mails: None }]
        );
    }
    // A breaker that this release cannot read has no state.
    let mut subject_state = SubjectState::default();
    subject_state.unreadable.insert(None);
    assert_eq!(measured(&policy, &mut subject_state).0[0].values, []);
}

#[test]
fn an_isp_that_is_held_is_stopped_for_all_sets() {
    let mut board = Board::default();
    board.isps.insert(isp("gmail"), BreakerState { state: open(), enacted: true, ..BreakerState::default() });
    let state = |toml: &str| {
        let policy = policy(&format!("[cloudwatch]\nconfiguration_sets = 1\nisps = 5\n{toml}"));
        let mut subject_state = SubjectState::default();
        count(&mut subject_state, NOW.minute().minus(30), "gmail", &[(UnitKind::Sent, 10)]);
        let (series, _) = measure(&policy, &board, "news", &mut subject_state, &BTreeMap::new(), NOW);
        [&series[0], &series[1]].map(|series| value(series, Measure::State))
    };
    assert_eq!(state("[gate]\nin_use = true"), [Some(0.0), Some(3.0)]);
    // Without a gate an ISP cannot be held.
    assert_eq!(state(""), [Some(0.0), Some(0.0)]);
}

#[test]
fn isps_beyond_the_limit_are_counted_and_the_troubled_ones_come_first() {
    let mut subject_state = SubjectState::default();
    for (at, mails) in [("gmail", 50), ("yahoo", 400), ("apple", 1), ("microsoft", 200)] {
        count(&mut subject_state, NOW.minute().minus(30), at, &[(UnitKind::Sent, mails)]);
    }
    // Without mail in the last day, and without trouble: no ISP of this day.
    count(&mut subject_state, NOW.minute().minus(3 * 1_440), "gmx", &[(UnitKind::Sent, 999)]);
    subject_state.breakers.insert(Some(isp("apple")), breaker(open()));
    let of = |isps: usize, subject_state: &mut SubjectState| {
        let (series, left_out) =
            measured(&policy(&format!("[cloudwatch]\nconfiguration_sets = 1\nisps = {isps}")), subject_state);
        let names = series.iter().filter_map(|series| series.isp).map(|isp| ISPS.name(isp).to_owned());
        (names.collect::<Vec<_>>(), left_out)
    };
    assert_eq!(of(0, &mut subject_state), (vec![], 0));
    assert_eq!(of(2, &mut subject_state), (vec!["apple".to_owned(), "yahoo".to_owned()], 2));
    assert_eq!(of(9, &mut subject_state), (["apple", "yahoo", "microsoft", "gmail"].map(str::to_owned).to_vec(), 0));
}

#[test]
fn quotas_are_todays_and_over_all_isps_their_sum() {
    let policy = policy("[cloudwatch]\nconfiguration_sets = 1\nisps = 5\n[warmup.sets]\nnews = {}\n");
    let today = policy.warmup.zone.day_at(NOW).number;
    let quota = |day: i32, mails: u64, granted: u64| {
        let mut quota =
            Quota::opened(begin(&policy.warmup.sets["news"], policy.warmup.zone.day(day), None), &policy, None);
        quota.ramp.quota = mails;
        (quota.meter.bulk, quota.meter.critical) = (granted - 1, 1);
        quota
    };
    let quotas = BTreeMap::from([
        (isp("gmail"), quota(today, 500, 20)),
        (isp("yahoo"), quota(today, 300, 7)),
        // Its day is not planned yet.
        (isp("apple"), quota(today - 1, 9_000, 8_000)),
    ]);
    let mut subject_state = SubjectState::default();
    for at in ["gmail", "apple"] {
        count(&mut subject_state, NOW.minute().minus(30), at, &[(UnitKind::Sent, 10)]);
    }
    let (series, _) = measure(&policy, &Board::default(), "news", &mut subject_state, &quotas, NOW);
    let of = |series: &Series| [Measure::Quota, Measure::Granted].map(|measure| value(series, measure));
    let [all, apple, gmail] = [0, 1, 2].map(|index| of(&series[index]));
    assert_eq!((all, gmail, apple), ([Some(800.0), Some(27.0)], [Some(500.0), Some(20.0)], [None, None]));
}

#[test]
fn a_period_begins_at_a_multiple_of_its_length_and_all_of_it_is_the_same() {
    let begins = period(NOW);
    assert_eq!((begins.0 % PERIOD, begins), (0, NOW.minute().minus(2)));
    assert_eq!((period(NOW.plus_minutes(2)), period(NOW.plus_minutes(3))), (begins, begins.plus(PERIOD)));
}

static EXPORTING: LazyLock<Policy> = LazyLock::new(|| policy("[cloudwatch]\nconfiguration_sets = 1\nisps = 5"));

proptest! {
    /// Whenever in each period it is read, each mail is counted once.
    #[test]
    fn mails_are_counted_once(
        mails in proptest::collection::vec((0u32..90, 1u32..50, any::<bool>()), 1..40),
        looks in proptest::collection::vec(0i64..300_000, 40),
    ) {
        let begin = period(NOW).minus(100);
        let mut subject_state = SubjectState::default();
        for (minute, sent, is_gmail) in &mails {
            let at = if *is_gmail { "gmail" } else { "yahoo" };
            count(&mut subject_state, begin.plus(*minute), at, &[(UnitKind::Sent, *sent)]);
        }
        let (mut of_all, mut of_isps) = (0, 0);
        for (index, millis) in looks.iter().enumerate() {
            let now = Now(i64::from(begin.plus(index as u32 * PERIOD).0) * 60_000 + millis);
            let (series, _) = measure(&EXPORTING, &Board::default(), "news", &mut subject_state, &BTreeMap::new(), now);
            of_all += series[0].mails.unwrap();
            of_isps += series[1..].iter().map(|series| series.mails.unwrap()).sum::<u64>();
        }
        let sent: u64 = mails.iter().map(|(_, sent, _)| u64::from(*sent)).sum();
        prop_assert_eq!((of_all, of_isps), (sent, sent));
    }

    /// Never more than the limit; the chosen and the omitted add up to all; no omitted candidate is in a worse state or
    /// larger than a chosen one; and the order of the candidates does not matter.
    #[test]
    fn the_choice_keeps_to_its_limit_and_depends_on_nothing_else(
        candidates in proptest::collection::vec((0u8..4, 0u64..5), 0..30), limit in 0usize..40, seed in any::<u64>(),
    ) {
        let candidates: Vec<Candidate<usize>> = candidates.into_iter().enumerate()
            .map(|(of, (level, mails))| Candidate { of, level, mails }).collect();
        let mut shuffled = candidates.clone();
        shuffled.sort_by_key(|candidate| (candidate.of as u64 + 7).wrapping_mul(seed | 1));
        let (chosen, left_out) = choose(limit, candidates.clone());
        prop_assert_eq!((&chosen, left_out), (&choose(limit, shuffled).0, left_out));
        prop_assert!(chosen.len() <= limit);
        prop_assert_eq!(chosen.len() + left_out, candidates.len());
        let rank = |of: &usize| (candidates[*of].level, candidates[*of].mails);
        let worst = chosen.iter().map(rank).min();
        let others = candidates.iter().map(|candidate| candidate.of).filter(|of| !chosen.contains(of));
        prop_assert!(others.map(|of| rank(&of)).max() <= worst || chosen.is_empty());
    }
}
