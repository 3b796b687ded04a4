//! The laws of the ramp, one test for each; and properties of any history.

use proptest::prelude::*;
use reputation::detect::Level;
use reputation::policy::Policy;
use reputation::time::Now;
use reputation::warmup::{Evidence, Held, Move, Plan, Ramp, begin, close};
use reputation::zone::Zone;

fn plan() -> Plan {
    Policy::default().warmup.plan
}

/// A ramp in its middle: 1,000 mails on day 20,000, a Thursday.
fn ramp() -> Ramp {
    Ramp {
        day: 20_000,
        quota: 1_000,
        reach: 1_000,
        step: Move::Grew { from: 667 },
        anchor: false,
        sending_days: 9,
        idle_days: 0,
        low: (0, 0),
        demoted: None,
        hurt: 0,
    }
}

fn used(used: u64) -> Evidence {
    Evidence { used, ..Evidence::default() }
}

/// Closes the days one after the other.
fn after(plan: &Plan, ramp: Ramp, days: &[Evidence]) -> Ramp {
    days.iter().fold(ramp, |ramp, evidence| close(plan, false, &ramp, Zone::UTC.day(ramp.day), evidence))
}

fn check(ramp: &Ramp, evidence: Evidence, quota: u64, step: Move) -> Ramp {
    let next = after(&plan(), ramp.clone(), &[evidence]);
    assert_eq!((next.quota, next.step, next.day), (quota, step, ramp.day + 1));
    next
}

#[test]
fn a_healthy_day_whose_quota_was_used_grows_it() {
    check(&ramp(), used(800), 1_500, Move::Grew { from: 1_000 });
    check(&ramp(), used(1_000), 1_500, Move::Grew { from: 1_000 });
}

#[test]
fn business_domains_grow_it_more_slowly() {
    let next = close(&plan(), true, &ramp(), Zone::UTC.day(20_000), &used(1_000));
    assert_eq!(next.quota, 1_200);
}

#[test]
fn unused_quota_never_grows_it() {
    check(&ramp(), used(799), 1_000, Move::Held(Held::Unused { used: 799, quota: 1_000 }));
    check(&ramp(), used(1), 1_000, Move::Held(Held::Unused { used: 1, quota: 1_000 }));
}

#[test]
fn the_day_on_which_a_ramp_begins_never_grows_it() {
    let first = begin(&plan(), Zone::UTC.day(20_000), None);
    assert_eq!((first.quota, first.anchor), (50, true));
    let second = check(&first, used(50), 50, Move::Held(Held::Anchor));
    check(&second, used(50), 75, Move::Grew { from: 50 });
}

#[test]
fn a_first_day_without_mail_leaves_the_anchor_where_mail_begins() {
    let second = check(&begin(&plan(), Zone::UTC.day(20_000), None), used(0), 50, Move::Held(Held::Idle { days: 1 }));
    let third = check(&second, used(50), 50, Move::Held(Held::Anchor));
    check(&third, used(50), 75, Move::Grew { from: 50 });
}

#[test]
fn no_step_is_larger_than_the_largest() {
    let ramp = Ramp { quota: 30_000, reach: 30_000, ..ramp() };
    check(&ramp, used(30_000), 40_000, Move::Grew { from: 30_000 });
}

#[test]
fn the_target_is_the_end_of_it() {
    let ramp = Ramp { quota: 45_000, reach: 45_000, ..ramp() };
    let warmed = check(&ramp, used(45_000), 50_000, Move::Held(Held::Warmed));
    check(&warmed, used(50_000), 50_000, Move::Held(Held::Warmed));
}

#[test]
fn a_warning_holds_it() {
    check(&ramp(), Evidence { level: Some(Level::Warn), ..used(1_000) }, 1_000, Move::Held(Held::Unwell));
}

#[test]
fn a_breaker_that_is_not_closed_holds_it() {
    check(&ramp(), Evidence { unsettled: true, ..used(1_000) }, 1_000, Move::Held(Held::Unwell));
}

#[test]
fn harm_shrinks_it_and_one_incident_never_does_so_twice() {
    let harm = Evidence { worsened: Some(Now(7)), unsettled: true, level: Some(Level::Throttle), ..used(1_000) };
    let next = check(&ramp(), harm, 500, Move::Shrank { from: 1_000 });
    let next = check(&next, Evidence { used: 500, ..harm }, 500, Move::Held(Held::Unwell));
    let healthy_again = Evidence { worsened: Some(Now(7)), ..used(500) };
    // Up to the quota that did harm, it grows slowly.
    let next = check(&next, healthy_again, 600, Move::Grew { from: 500 });
    // A new incident shrinks it again.
    check(&next, Evidence { worsened: Some(Now(8)), ..used(600) }, 300, Move::Shrank { from: 600 });
}

#[test]
fn it_grows_carefully_up_to_the_quota_that_did_harm_and_no_further() {
    let harm = Evidence { worsened: Some(Now(7)), ..used(1_000) };
    let mut ramp = after(&plan(), ramp(), &[harm]);
    let mut quotas = vec![ramp.quota];
    for _ in 0..6 {
        ramp = after(&plan(), ramp.clone(), &[used(ramp.quota)]);
        quotas.push(ramp.quota);
    }
    assert_eq!(quotas, [500, 600, 720, 864, 1_037, 1_556, 2_334]);
}

#[test]
fn while_sending_is_stopped_there_is_a_trickle_and_afterwards_the_quota_is_back() {
    let open = Evidence { worsened: Some(Now(7)), unsettled: true, contained: true, ..used(900) };
    let next = check(&ramp(), open, 25 + 50, Move::Trickled { reach: 500 });
    let next = check(&next, Evidence { used: 25, ..open }, 25 + 50, Move::Trickled { reach: 500 });
    let closed = Evidence { worsened: Some(Now(7)), bulk: 25, ..used(25) };
    // The whole trickle was used, and the volume that the ISP had accepted grows.
    check(&next, closed, 600, Move::Grew { from: 500 });
}

#[test]
fn a_sender_without_critical_mail_is_not_limited_by_the_reserve_for_it() {
    let plan = Plan { critical_share: 0.5, ..plan() };
    let bulk = |bulk| Evidence { used: bulk, bulk, ..Evidence::default() };
    assert_eq!(after(&plan, ramp(), &[bulk(400)]).quota, 1_500);
    assert_eq!(after(&plan, ramp(), &[bulk(399)]).quota, 1_000);
    let all_critical = Plan { critical_share: 1.0, ..plan };
    assert_eq!(after(&all_critical, ramp(), &[used(799)]).quota, 1_000);
    assert_eq!(after(&all_critical, ramp(), &[used(800)]).quota, 1_500);
}

#[test]
fn an_isps_own_trouble_costs_no_quota() {
    let incident = Evidence { incident: true, contained: true, unsettled: true, worsened: Some(Now(7)), ..used(900) };
    let next = check(&ramp(), incident, 1_000, Move::Held(Held::Incident));
    // Nor on the next day, when it is over.
    let over = Evidence { worsened: Some(Now(7)), ..used(900) };
    check(&next, over, 1_500, Move::Grew { from: 1_000 });
}

#[test]
fn harm_of_before_a_ramp_began_is_none_of_its_own() {
    let begun = begin(&plan(), Zone::UTC.day(20_000), Some(Now(7)));
    let old = Evidence { worsened: Some(Now(7)), ..used(50) };
    let next = check(&begun, old, 50, Move::Held(Held::Anchor));
    check(&next, old, 75, Move::Grew { from: 50 });
}

#[test]
fn idle_for_13_days_does_nothing_and_idle_for_14_decays() {
    let thirteen = after(&plan(), ramp(), &[used(0); 13]);
    assert_eq!((thirteen.quota, thirteen.step), (1_000, Move::Held(Held::Idle { days: 13 })));
    check(&thirteen, used(0), 800, Move::Decayed { from: 1_000, idle_days: 14 });
}

#[test]
fn idle_for_21_days_begins_anew() {
    let twenty = after(&plan(), ramp(), &[used(0); 20]);
    assert_eq!(twenty.quota, 208); // 0.8^7 of 1,000, rounded down each day
    let anew = check(&twenty, used(0), 50, Move::Began { idle_days: 21 });
    assert!(anew.anchor);
    let later = check(&anew, used(0), 50, Move::Held(Held::Idle { days: 22 }));
    let first = check(&later, used(50), 50, Move::Held(Held::Anchor));
    check(&first, used(50), 75, Move::Grew { from: 50 });
}

#[test]
fn mail_within_13_days_forgets_that_there_was_none() {
    let mut days = vec![used(0); 13];
    days.push(used(1_000));
    days.extend([used(0); 13]);
    let next = after(&plan(), ramp(), &days);
    assert_eq!((next.quota, next.step), (1_500, Move::Held(Held::Idle { days: 13 })));
}

#[test]
fn a_week_of_little_mail_follows_the_volume_down() {
    let six = after(&plan(), ramp(), &[used(300); 6]);
    assert_eq!(six.quota, 1_000);
    check(&six, used(310), 620, Move::Followed { from: 1_000, peak: 310 });
    // One day with more in between, and the week begins again; days without mail do not count.
    let broken = after(&plan(), six, &[used(500), used(300), used(0), used(300)]);
    assert_eq!((broken.quota, broken.low), (1_000, (2, 300)));
}

#[test]
fn a_day_of_rest_never_grows_it() {
    let mut plan = plan();
    plan.sending_days[5..].fill(false);
    // 20,002 is a Saturday.
    let saturday = Ramp { day: 20_002, ..ramp() };
    let next = close(&plan, false, &saturday, Zone::UTC.day(20_002), &used(1_000));
    assert_eq!((next.quota, next.step), (1_000, Move::Held(Held::RestDay)));
    let monday = close(&plan, false, &Ramp { day: 20_004, ..ramp() }, Zone::UTC.day(20_004), &used(1_000));
    assert_eq!(monday.quota, 1_500);
}

#[test]
fn a_large_sender_is_warmed_up_at_once() {
    let plan = Plan { start: 200_000, target: 200_000, ..plan() };
    let first = begin(&plan, Zone::UTC.day(20_000), None);
    assert_eq!((first.quota, first.step), (200_000, Move::Held(Held::Warmed)));
}

#[test]
fn a_day_is_closed_once_where_clocks_change() {
    // 23 and 25 hours: one day each, and each moment is in exactly one day.
    for (zone, from) in [("Europe/Berlin", 20_541), ("America/New_York", 20_520), ("Africa/Cairo", 20_567)] {
        let zone = Zone::named(zone).unwrap();
        let mut ends = zone.day(from).start;
        for number in from..from + 365 {
            let day = zone.day(number);
            assert_eq!((day.number, day.start), (number, ends));
            for moment in [day.start, Now(day.start.0 + 1), Now(day.end.0 - 1)] {
                assert_eq!(zone.day_at(moment), day);
            }
            ends = day.end;
        }
    }
}

#[test]
fn a_schedule_of_good_days_ends_at_the_target() {
    let plan = plan();
    let (consumers, businesses) = (plan.schedule(false), plan.schedule(true));
    assert_eq!((consumers[0], consumers.len(), *consumers.last().unwrap()), (50, 19, 50_000));
    assert_eq!((businesses[0], businesses.len(), *businesses.last().unwrap()), (50, 39, 50_000));
    for (plan, step) in [(&consumers, 1.52), (&businesses, 1.21)] {
        assert!(plan.windows(2).all(|pair| pair[1] > pair[0] && pair[1] as f64 <= pair[0] as f64 * step + 1.0));
    }
}

#[test]
fn every_move_says_why() {
    let moves = [
        Move::Began { idle_days: 0 },
        Move::Began { idle_days: 21 },
        Move::Grew { from: 50 },
        Move::Held(Held::Warmed),
        Move::Held(Held::Anchor),
        Move::Held(Held::Unused { used: 10, quota: 50 }),
        Move::Held(Held::Idle { days: 1 }),
        Move::Held(Held::Idle { days: 3 }),
        Move::Held(Held::Unwell),
        Move::Held(Held::Incident),
        Move::Held(Held::RestDay),
        Move::Shrank { from: 50 },
        Move::Trickled { reach: 50 },
        Move::Followed { from: 50, peak: 10 },
        Move::Decayed { from: 50, idle_days: 14 },
    ];
    let lines: Vec<String> = moves.iter().map(|step| format!("{:9} {step}", step.name())).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

fn any_evidence() -> impl Strategy<Value = Evidence> {
    let level = prop_oneof![4 => Just(None), 1 => Just(Some(Level::Warn)), 1 => Just(Some(Level::Pause))];
    let worsened = prop_oneof![4 => Just(None), 1 => (0..5_i64).prop_map(|at| Some(Now(at)))];
    let mostly_not = || prop_oneof![5 => Just(false), 1 => Just(true)];
    let used = prop_oneof![2 => Just(0), 3 => 1..=60_000_u64];
    (used, level, mostly_not(), mostly_not(), worsened, mostly_not()).prop_map(
        |(used, level, unsettled, contained, worsened, incident)| Evidence {
            used,
            bulk: used,
            level,
            unsettled: unsettled || contained,
            contained,
            worsened,
            incident,
        },
    )
}

proptest! {
    #[test]
    fn whatever_happens_a_quota_stays_in_bounds_and_grows_only_after_good_used_days(
        days in prop::collection::vec(any_evidence(), 1..120),
        business in any::<bool>(),
    ) {
        let plan = plan();
        let mut ramp = begin(&plan, Zone::UTC.day(20_000), None);
        for evidence in days {
            // At most the quota can be granted.
            let used = evidence.used.min(ramp.quota);
            let evidence = Evidence { used, bulk: used.min(ramp.quota - plan.reserve(ramp.reach)), ..evidence };
            let next = close(&plan, business, &ramp, Zone::UTC.day(ramp.day), &evidence);
            prop_assert!((plan.minimum..=plan.target).contains(&next.quota));
            prop_assert!(next.quota <= next.reach && next.reach <= plan.target);
            prop_assert_eq!(next.day, ramp.day + 1);
            if next.reach > ramp.reach {
                let good = evidence.level.is_none() && !evidence.unsettled && !evidence.incident && !ramp.anchor;
                let shared = (ramp.quota - plan.reserve(ramp.reach)) as f64;
                let used = evidence.used as f64 >= ramp.quota as f64 * plan.used_share
                    || evidence.bulk as f64 >= shared * plan.used_share;
                prop_assert!(good && used, "{:?} then {:?} after {:?}", ramp, next, evidence);
                prop_assert!(next.reach <= plan.grown(ramp.reach, business));
            }
            // Closing is a function: repeating it gives the same result.
            prop_assert_eq!(&next, &close(&plan, business, &ramp, Zone::UTC.day(ramp.day), &evidence));
            ramp = next;
        }
    }

    #[test]
    fn good_days_bring_any_ramp_to_the_target(days in prop::collection::vec(any_evidence(), 0..60)) {
        let plan = plan();
        let mut ramp = begin(&plan, Zone::UTC.day(20_000), None);
        for evidence in days {
            ramp = close(&plan, false, &ramp, Zone::UTC.day(ramp.day), &Evidence { used: evidence.used.min(ramp.quota), ..evidence });
        }
        for _ in 0..60 {
            let all = used(ramp.quota);
            ramp = close(&plan, false, &ramp, Zone::UTC.day(ramp.day), &all);
        }
        prop_assert_eq!(ramp.quota, plan.target);
    }
}
