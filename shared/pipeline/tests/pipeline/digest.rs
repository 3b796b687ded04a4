//! The daily digest.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline::digest::{Digest, Findings};
use pipeline::notice::Notice;
use pipeline::ports::{Board, Quota};
use reputation::breaker::{BreakerState, Factor, Override, State};
use reputation::judge::Forecast;
use reputation::subject::Key;
use reputation::time::Now;
use reputation::warmup::{Move, Ramp, begin};
use reputation::{Counters, Metric, Policy, Subject, Tally, UnitKind};

const POLICY: &str = "\
[warmup.sets]
newsletter = {}
receipts = { start = 20000, target = 20000 }
[warmup.dedicated_ips]
receipts = [\"192.0.2.10\", \"192.0.2.11\"]
";

/// 2026-10-06 07:00 UTC.
const NOW: Now = Now(1_791_270_000_000);

fn subject(name: &str) -> Subject {
    name.parse().unwrap()
}

fn counters(delivered: u32, hard: u32, complaints: u32, delays: u32, returns_complaints: bool) -> Counters {
    let mut counters = Counters::default();
    for (kind, count) in [
        (UnitKind::Sent, delivered + hard),
        (UnitKind::Delivered, delivered),
        (UnitKind::HardBounce, hard),
        (UnitKind::Complaint, complaints),
        (UnitKind::Delay, delays),
    ] {
        counters.add(kind, count, returns_complaints);
    }
    counters
}

fn found(policy: &Policy) -> Findings {
    let isp = |name: &str| policy.isp_map.by_name(name).unwrap();
    let zone = &policy.warmup.zone;
    let today = zone.day_at(NOW);
    let breaker = |state| BreakerState { state, ..BreakerState::default() };
    let mut board = Board::default();
    let open = breaker(State::Open { at: NOW, until: Some(NOW.plus_minutes(30)), tested: false });
    let cut = breaker(State::Throttled { factor: Factor::of_share(0.5), moved: NOW });
    let watched = BreakerState { overridden: Override::Shadow, ..BreakerState::default() };
    for (name, at, known) in [
        ("configuration-set:offers", None, open.clone()),
        ("identity:offers.example", None, open),
        ("configuration-set:newsletter", Some("yahoo"), cut),
        ("configuration-set:receipts", None, watched),
    ] {
        board.unsettled.insert(Key { subject: subject(name), isp: at.map(isp) }, known);
    }
    let (gmail, yahoo) = (isp("gmail"), isp("yahoo"));
    let mut mail: BTreeMap<Subject, BTreeMap<_, _>> = BTreeMap::new();
    for (name, by_isp) in [
        (
            "configuration-set:newsletter",
            [(gmail, counters(47_600, 400, 0, 2_100, false)), (yahoo, counters(9_700, 40, 9, 900, true))],
        ),
        (
            "configuration-set:offers",
            [(gmail, counters(900, 100, 0, 0, false)), (yahoo, counters(450, 50, 0, 0, true))],
        ),
        (
            "configuration-set:receipts",
            [(gmail, counters(5_000, 5, 0, 1, false)), (yahoo, counters(800, 0, 0, 0, true))],
        ),
    ] {
        mail.insert(subject(name), by_isp.into());
        let identity = format!("identity:{}.with-a-rather-long-name.example", name.rsplit(':').next().unwrap());
        mail.insert(subject(&identity), by_isp.into());
    }
    let ramp = |set: &str, quota: u64, step: Move, sending_days: u32, idle_days: u32| Ramp {
        quota,
        reach: quota,
        step,
        anchor: false,
        sending_days,
        idle_days,
        ..begin(&policy.warmup.sets[set], today, None)
    };
    let quotas = [
        ("newsletter", gmail, ramp("newsletter", 50_000, Move::Grew { from: 40_000 }, 30, 0)),
        ("newsletter", yahoo, ramp("newsletter", 5_000, Move::Shrank { from: 10_000 }, 20, 0)),
        ("newsletter", isp("gmx"), ramp("newsletter", 400, Move::Grew { from: 300 }, 9, 12)),
        ("receipts", gmail, ramp("receipts", 20_000, Move::Grew { from: 20_000 }, 80, 0)),
        ("receipts", yahoo, ramp("receipts", 20_000, Move::Grew { from: 20_000 }, 80, 0)),
    ];
    let forecast = |metric, population, bad| Forecast { metric, tally: Tally { population, bad }, verdict: None };
    Findings {
        day: zone.day(today.number - 1),
        mail,
        board: Arc::new(board),
        forecasts: vec![forecast(Metric::HardBounce, 10_412, 96), forecast(Metric::Complaint, 0, 0)],
        quotas: quotas
            .into_iter()
            .map(|(set, isp, ramp)| ((set.to_owned(), isp), Quota::opened(ramp, policy, None)))
            .collect(),
    }
}

#[test]
fn a_digest_lists_rates_and_thresholds_what_is_not_closed_quotas_and_what_to_check() {
    let policy = Policy::from_toml(POLICY).unwrap();
    let found = found(&policy);
    let digest = Digest::of(&policy, &found);
    insta::assert_snapshot!(digest.text());
    let notice = Notice::of_digest(&digest, found.day, NOW);
    assert_eq!(notice.title, "[DIGEST] 2026-10-05: 3 not sending freely, 2 over a line");
    // It is named after its day.
    let later = Notice::of_digest(&digest, found.day, NOW.plus_minutes(300));
    assert_eq!(notice.id, later.id);
    let wide: Vec<&str> = notice.text.lines().filter(|line| line.chars().count() > 72).collect();
    assert_eq!(wide, [""; 0]);
}

#[test]
fn a_day_without_mail_has_no_digest() {
    let policy = Policy::from_toml(POLICY).unwrap();
    let found = Findings { mail: BTreeMap::new(), ..found(&policy) };
    assert!(!Digest::of(&policy, &found).has_mail());
}

#[test]
fn a_digest_says_where_soft_and_undetermined_bounces_are_many() {
    let policy = Policy::from_toml(POLICY).unwrap();
    let [gmail, other] = ["gmail", "other"].map(|name| policy.isp_map.by_name(name).unwrap());
    let with = |delivered: u32, soft: u32, undetermined: u32| {
        let mut counters = counters(delivered, 0, 0, 0, false);
        for (kind, count) in [(UnitKind::SoftBounce, soft), (UnitKind::Undetermined, undetermined)] {
            counters.add(UnitKind::Sent, count, false);
            counters.add(kind, count, false);
        }
        counters
    };
    let soft = |sets: &[(&str, Counters, Counters)]| {
        let mail = sets.iter().map(|(set, gmails, others)| {
            (subject(&format!("configuration-set:{set}")), BTreeMap::from([(gmail, *gmails), (other, *others)]))
        });
        let digest = Digest::of(&policy, &Findings { mail: mail.collect(), ..found(&policy) });
        let text = digest.text();
        let section = text.split("\n\n").find(|section| section.starts_with("Many soft")).unwrap_or_default();
        (section.to_owned(), digest.soft.len())
    };
    // Below a tenth, and too few.
    assert_eq!(
        soft(&[("a", with(910, 50, 40), with(0, 0, 0)), ("b", with(60, 30, 0), with(0, 0, 0))]),
        (String::new(), 0)
    );
    let (text, rows) = soft(&[
        ("many", with(700, 200, 10), with(0, 0, 90)),
        ("more", with(7_000, 400, 0), with(0, 2_600, 0)),
        ("none", with(100, 0, 0), with(0, 0, 0)),
    ]);
    assert_eq!(rows, 2);
    insta::assert_snapshot!(text, @r"
    Many soft or undetermined bounces
      more: 3,000 of 10,000 mails (30 %), most of them at other
      many: 300 of 1,000 mails (30 %), most of them at gmail
      They count for no rate and stop nothing. Full mailboxes mean an old
      list; for all else `diagnosticCode` in your bounce events says what
      the server answered.
    ");
}
