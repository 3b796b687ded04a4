//! Hard bounces at one business domain are one fact: what that changes, and what it must not change.
//!
//! A unit without a bucket counts fully, as every bounce did before there were buckets, so each simulation runs both.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use reputation::grouped::Bucket;
use reputation::judge::{ArmedSince, Judge};
use reputation::time::{DAY, HOUR, MINUTE_MILLIS};
use reputation::unit::{SenderId, UnitKeys};
use reputation::{ExcludedIsp, Isp, IspMap, Level, Metric, Minute, Now, Policy, Timeline, Unit, UnitKey, UnitKind};

/// 2026-10-05 00:00 UTC, a Monday.
const START: Minute = Minute(29_852_640);

fn end_of(minute: Minute) -> Now {
    Now(i64::from(minute.0) * MINUTE_MILLIS + MINUTE_MILLIS - 1)
}

fn bucket_of(domain: &str) -> Bucket {
    UnitKeys::new(*b"0123456789abcdef").bucket(&[domain])
}

fn unit(kind: UnitKind, isp: Isp, cohort: Minute, bucket: Option<Bucket>) -> Unit {
    Unit { key: UnitKey(0), kind, isp, cohort, sender: SenderId(0), bucket }
}

/// Domains in buckets of their own.
fn apart(count: usize) -> Vec<String> {
    let mut known = BTreeSet::new();
    let domains = (0..).map(|number| format!("company-{number}.example"));
    domains.filter(|domain| known.insert(bucket_of(domain))).take(count).collect()
}

/// One sender to business domains, judged after each mail that bounces.
struct Sender {
    policy: Policy,
    timeline: Timeline,
    since: ArmedSince,
    knows_domains: bool,
    stops: u32,
}

impl Sender {
    fn new(knows_domains: bool) -> Sender {
        let (policy, timeline) = (Policy::default(), Timeline::default());
        Sender { policy, timeline, since: ArmedSince::default(), knows_domains, stops: 0 }
    }

    /// Sends one mail; whether it stops the sender.
    fn mail(&mut self, minute: Minute, bounced: Option<&str>) -> bool {
        let now = end_of(minute);
        self.timeline.add_unit(&unit(UnitKind::Sent, Isp::OTHER, minute, None), false, now);
        let Some(domain) = bounced else {
            self.timeline.add_unit(&unit(UnitKind::Delivered, Isp::OTHER, minute, None), false, now);
            return false;
        };
        let bucket = Some(bucket_of(domain)).filter(|_| self.knows_domains);
        self.timeline.add_unit(&unit(UnitKind::HardBounce, Isp::OTHER, minute, bucket), false, now);
        let judge = Judge::new(&self.policy, None, &[], now);
        let stops = judge.alarm(&mut self.timeline, self.since, Metric::HardBounce) == Some(Level::Pause);
        if stops {
            self.stops += 1;
            self.since = ArmedSince::both(now.next_minute());
        }
        stops
    }
}

/// A year of 200 mails a day to 150 business domains, of which 1 % bounce; once a week 5 to 8 people of one dead domain.
fn stops_in_a_year(knows_domains: bool, seed: u64) -> u32 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut sender = Sender::new(knows_domains);
    for day in 0..365 {
        let working_hours = START.plus(day * DAY + 8 * HOUR);
        let mut mails: Vec<(Minute, Option<String>)> = Vec::new();
        for _ in 0..200 {
            let domain = format!("company-{}.example", rng.random_range(0..150));
            let bounced = rng.random_bool(0.01).then_some(domain);
            mails.push((working_hours.plus(rng.random_range(0..10 * HOUR)), bounced));
        }
        if day % 7 == 2 {
            let hour = working_hours.plus(rng.random_range(0..9) * HOUR);
            for _ in 0..rng.random_range(5..=8) {
                mails.push((hour.plus(rng.random_range(0..HOUR)), Some(format!("dead-{day}.example"))));
            }
        }
        mails.sort();
        for (minute, bounced) in mails {
            sender.mail(minute, bounced.as_deref());
        }
        sender.timeline.prune(end_of(working_hours.plus(12 * HOUR)));
    }
    sender.stops
}

#[test]
fn a_dead_business_domain_a_week_never_stops_a_healthy_sender() {
    let before: Vec<u32> = (0..5).map(|seed| stops_in_a_year(false, seed)).collect();
    let after: Vec<u32> = (0..5).map(|seed| stops_in_a_year(true, seed)).collect();
    println!("stops in a year, if each bounce counts: {before:?}; if each domain counts once a day: {after:?}");
    assert!(before.iter().all(|stops| *stops > 0), "{before:?}");
    assert_eq!(after, [0; 5]);
}

/// The median number of mails until a bought list stops the sender, of which this share bounces, each at a domain of its
/// own; after a healthy week.
fn mails_to_stop(knows_domains: bool, share: f64, mails_a_minute: u32) -> u32 {
    let mut mails: Vec<u32> = (0..101)
        .map(|seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut sender = Sender::new(knows_domains);
            let begins = START.plus(7 * DAY);
            for day in 0..7 {
                for mail in 0..50 {
                    let _ = sender.mail(START.plus(day * DAY + mail * 10), None);
                }
            }
            let sent = (0..100_000).find(|mail| {
                let bounced = rng.random_bool(share).then(|| format!("{seed}-{mail}.example"));
                sender.mail(begins.plus(mail / mails_a_minute), bounced.as_deref())
            });
            sent.map_or(u32::MAX, |mail| mail + 1)
        })
        .collect();
    mails.sort_unstable();
    mails[mails.len() / 2]
}

#[test]
fn a_bought_list_of_business_addresses_is_still_stopped() {
    for (share, factor) in [(0.075, 2.0), (0.1, 2.0), (0.2, 1.5), (0.3, 1.5), (0.5, 1.5)] {
        for mails_a_minute in [1, 5, 30, 1_000] {
            let [before, after] = [false, true].map(|knows| mails_to_stop(knows, share, mails_a_minute));
            println!("{share} bounces, {mails_a_minute} mails a minute: {before} mails to the stop, now {after}");
            assert!(f64::from(after) <= f64::from(before) * factor, "{share}, {mails_a_minute}: {before}, {after}");
        }
    }
}

#[test]
fn a_domain_counts_once_on_a_day_and_again_on_the_next() {
    let apart = apart(5);
    let check = |days: &[u32], domains: &[usize], stops: u32| {
        let mut sender = Sender::new(true);
        for day in days {
            for (place, domain) in (0..).zip(domains) {
                sender.mail(START.plus(day * DAY + place), Some(&apart[*domain]));
            }
        }
        assert_eq!(sender.stops, stops, "{days:?} {domains:?}");
    };
    check(&[0], &[0, 1, 2, 3, 4], 1);
    check(&[0], &[0; 50], 0);
    check(&[0, 1], &[0, 1, 2, 2, 2], 1);
}

#[test]
fn the_verdict_names_what_bounced_and_what_did_not_count() {
    let mut sender = Sender::new(true);
    let apart = apart(5);
    for domain in [0, 0, 0, 1, 2, 3, 4] {
        sender.mail(START, Some(&apart[domain]));
    }
    let since = ArmedSince::default();
    let judgement = Judge::new(&sender.policy, None, &[], end_of(START)).judgement(&mut sender.timeline, since);
    let verdict = judgement.pause.unwrap();
    assert_eq!(
        verdict.to_string(),
        "7 of 7 mails bounced hard (100 %) in mail accepted 2026-10-05 00:00–00:01: evidence 11.5 reached 10.0 against the \
         limit of 5 % (2 not counted: a business domain counts once a day)"
    );
    let walked =
        Judge::new(&sender.policy, None, &[], end_of(START)).walked(&sender.timeline, Metric::HardBounce, Minute(0));
    assert_eq!(walked.iter().map(|cell| (cell.tally.bad, cell.repeats)).collect::<Vec<_>>(), [(7, 2)]);
}

#[test]
fn totals_and_ratios_count_every_bounce() {
    let mut sender = Sender::new(true);
    for mail in 0..1_500 {
        let bounced = (mail % 8 == 0).then_some("dead.example");
        sender.mail(START.plus(mail / 10), bounced);
    }
    assert_eq!(sender.stops, 1);
    let now = end_of(START.plus(200));
    let judgement = Judge::new(&sender.policy, None, &[], now).judgement(&mut sender.timeline, ArmedSince::default());
    let verdict = judgement.pause.unwrap();
    assert_eq!((verdict.tally.bad, verdict.tally.population), (188, 1_500));
    assert!(verdict.to_string().contains("over 24 h: the pause line is 10 %"), "{verdict}");
}

/// 1,000 deliveries of a test after complaints, with three complaints: 0.3 %, three times the limit.
#[test]
fn complaints_of_one_person_do_not_fail_a_test_and_those_of_three_do() {
    let policy = Policy::default();
    let yahoo = IspMap::builtin().by_name("yahoo").unwrap();
    let relapses = |people: [Option<&str>; 3]| {
        let mut timeline = Timeline::default();
        let now = end_of(START.plus(5));
        for _ in 0..1_000 {
            timeline.add_unit(&unit(UnitKind::Sent, yahoo, START, None), true, now);
            timeline.add_unit(&unit(UnitKind::Delivered, yahoo, START, None), true, now);
        }
        for person in people {
            timeline.add_unit(&unit(UnitKind::Complaint, yahoo, START, person.map(bucket_of)), true, now);
        }
        let judge = Judge::new(&policy, None, &[], now).testing(Some((Metric::Complaint, 720)));
        let probe = judge.judgement(&mut timeline, ArmedSince::default()).probe;
        assert_eq!(probe.bad, 3, "each is counted");
        probe.relapse.is_some()
    };
    let [a, b, c] = &apart(3)[..] else { unreachable!() };
    assert!(relapses([Some(a), Some(b), Some(c)]));
    assert!(relapses([None; 3]), "written by an earlier release");
    assert!(!relapses([Some(a), Some(a), Some(a)]));
    assert!(!relapses([Some(a), Some(b), Some(a)]));
}

#[test]
fn domains_of_mailbox_providers_and_of_the_policy_are_not_business_domains() {
    let map = IspMap::with_entries([("a.example", "google-workspace"), ("b.example", "b")]).unwrap();
    let check = |domain: &str, business: bool| {
        assert_eq!(map.serves_businesses(map.classify(domain)), business, "{domain}");
    };
    for domain in ["gmail.com", "hotmail.fr", "web.de", "b.example"] {
        check(domain, false);
    }
    for domain in ["company.example", "a.example", "mail.yahoo.com"] {
        check(domain, true);
    }
    for name in ["att", "bol", "cox", "o2.pl", "virgilio"] {
        assert!(!map.serves_businesses(map.by_name(name).unwrap()), "{name}");
    }
}

#[test]
fn excluding_an_isp_leaves_the_domains_of_the_others() {
    let map = IspMap::builtin();
    let workspace = map.by_name("google-workspace").unwrap();
    let mut timeline = Timeline::default();
    let now = end_of(START);
    let bounces =
        [(Isp::OTHER, "a"), (Isp::OTHER, "b"), (workspace, "a"), (workspace, "a"), (map.by_name("gmail").unwrap(), "")];
    for (isp, domain) in bounces {
        let bucket = (!domain.is_empty()).then(|| bucket_of(domain));
        timeline.add_unit(&unit(UnitKind::Sent, isp, START, None), false, now);
        timeline.add_unit(&unit(UnitKind::HardBounce, isp, START, bucket), false, now);
    }
    let all = |isp: Isp| [ExcludedIsp { isp, before: Minute(u32::MAX) }];
    let at_domains = |left_out: &[ExcludedIsp]| {
        let bounces = timeline.cells(None, left_out, Minute(0), now)[0].counters.causes(UnitKind::HardBounce);
        (bounces.count, bounces.buckets.iter().collect::<Vec<_>>())
    };
    let [mut both, first] = [vec![bucket_of("a"), bucket_of("b")], vec![bucket_of("a")]];
    both.sort();
    assert_eq!(at_domains(&[]), (4, both.clone()));
    assert_eq!(at_domains(&all(Isp::OTHER)), (2, first));
    assert_eq!(at_domains(&all(workspace)), (2, both.clone()));
    assert_eq!(at_domains(&all(map.by_name("gmail").unwrap())), (4, both.clone()));
    assert_eq!(at_domains(&[ExcludedIsp { isp: Isp::OTHER, before: START }]), (4, both));
    // One domain at two ISPs is one domain of the sum.
    let policy = Policy::default();
    let repeats = |isp: Option<Isp>, left_out: &[ExcludedIsp]| {
        let walked = Judge::new(&policy, isp, left_out, now).walked(&timeline, Metric::HardBounce, Minute(0));
        walked.iter().map(|cell| cell.repeats).sum::<u64>()
    };
    assert_eq!(repeats(None, &[]), 2);
    assert_eq!(repeats(Some(workspace), &[]), 1);
    assert_eq!(repeats(None, &all(Isp::OTHER)), 1);
    assert_eq!(repeats(None, &all(workspace)), 0);
}

proptest! {
    /// Rows are functions of the set of units: in any order they give the same cells, and the same evidence.
    #[test]
    fn the_order_of_units_makes_no_difference(
        units in proptest::collection::vec((0u32..3_000, 0usize..3, any::<bool>(), prop_oneof![0u8..4, 0u8..80]), 1..150),
        seed in any::<u64>(),
    ) {
        let map = IspMap::builtin();
        let isps = ["other", "google-workspace", "gmail"].map(|name| map.by_name(name).unwrap());
        let now = end_of(START.plus(4_000));
        let units: Vec<Unit> = units.into_iter().map(|(at, isp, good, bucket)| {
            let kind = if good { UnitKind::Delivered } else { UnitKind::HardBounce };
            unit(kind, isps[isp], START.plus(at + 1_000), Bucket::new(bucket).filter(|_| !good))
        }).collect();
        let policy = Policy::default();
        let walked = |units: &[Unit], judged_between: bool| {
            let mut timeline = Timeline::default();
            for unit in units {
                timeline.add_unit(unit, false, now);
                if judged_between {
                    let judge = Judge::new(&policy, None, &[], now);
                    let _ = judge.alarm(&mut timeline, ArmedSince::default(), Metric::HardBounce);
                }
            }
            let left_out = [ExcludedIsp { isp: isps[1], before: START.plus(3_000) }];
            let mut walks = Vec::new();
            for left_out in [&[], &left_out[..]] {
                let judge = Judge::new(&policy, None, left_out, now);
                let cells = judge.walked(&timeline, Metric::HardBounce, Minute(0));
                let cells: Vec<_> = cells.iter().map(|walked| (walked.cell, walked.repeats, walked.evidence)).collect();
                let peak = judge.walk(&mut timeline, Metric::HardBounce, Minute(0)).peak();
                walks.push((cells, peak));
            }
            walks
        };
        let mut shuffled = units.clone();
        shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        prop_assert_eq!(walked(&units, false), walked(&shuffled, true));
    }

    /// Leaving bounces out never adds evidence.
    #[test]
    fn knowing_the_domains_never_adds_evidence(
        units in proptest::collection::vec((0u32..600, any::<bool>(), prop_oneof![0u8..4, 0u8..64]), 1..200),
    ) {
        let now = end_of(START.plus(700));
        let policy = Policy::default();
        let peak = |knows: bool| {
            let mut timeline = Timeline::default();
            for (at, good, bucket) in &units {
                let kind = if *good { UnitKind::Delivered } else { UnitKind::HardBounce };
                let bucket = Bucket::new(*bucket).filter(|_| knows && !good);
                timeline.add_unit(&unit(kind, Isp::OTHER, START.plus(*at), bucket), false, now);
            }
            Judge::new(&policy, None, &[], now).walk(&mut timeline, Metric::HardBounce, Minute(0)).peak().evidence
        };
        prop_assert!(peak(true) <= peak(false));
    }
}
