//! The laws of the ramp, one test for each; and properties of any history.

use proptest::prelude::*;
use reputation::detect::Level;
use reputation::policy::Policy;
use reputation::time::Now;
use reputation::warmup::{Evidence, Growth, Held, Move, Plan, Ramp, begin, close, reset, set};
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
        peak: 667,
        peak_age: 1,
        borne: 0,
        growth: None,
        ceiling: 0,
        ceiling_age: 0,
        demoted: None,
    }
}

/// A day on which this number of mails was granted, and sent.
fn used(used: u64) -> Evidence {
    Evidence { used, sent: used, ..Evidence::default() }
}

/// The same, of which the ISP turned some away.
fn turned_away(turned_away: u64, of: u64) -> Evidence {
    Evidence { turned_away, ..used(of) }
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
    check(&ramp(), used(800), 2_000, Move::Grew { from: 1_000 });
    check(&ramp(), used(1_000), 2_000, Move::Grew { from: 1_000 });
}

#[test]
fn grants_without_mail_grow_nothing() {
    let granted = |used, sent| Evidence { used, sent, ..Evidence::default() };
    check(&ramp(), granted(1_000, 0), 1_000, Move::Held(Held::Unreported { sent: 0, used: 1_000 }));
    check(&ramp(), granted(1_000, 499), 1_000, Move::Held(Held::Unreported { sent: 499, used: 1_000 }));
    // Some of what was granted in the evening is sent, or reported, on the next day.
    check(&ramp(), granted(1_000, 500), 2_000, Move::Grew { from: 1_000 });
    // What is known to be scheduled for the next day is not missed.
    check(&ramp(), Evidence { later: 820, ..granted(1_000, 170) }, 2_000, Move::Grew { from: 1_000 });
}

#[test]
fn our_own_pacing_never_counts_as_unused() {
    let short = |of| Evidence { short: true, ..used(of) };
    check(&ramp(), short(500), 2_000, Move::Grew { from: 1_000 });
    check(&ramp(), used(500), 1_000, Move::Held(Held::Unused { used: 500, quota: 1_000 }));
    // But little mail proves little, whatever it was limited by.
    check(&ramp(), short(20), 1_000, Move::Held(Held::NotAskedAgain { used: 20, quota: 1_000 }));
}

#[test]
fn an_isp_that_turns_mail_away_gets_back_what_it_took_and_grows_less_from_then_on() {
    let eased = Move::Eased { from: 1_000, turned_away: 100, sent: 1_000 };
    let next = check(&ramp(), turned_away(100, 1_000), 900, eased);
    // What a good day adds: seven tenths of it.
    let next = check(&next, used(900), 1_530, Move::Grew { from: 900 });
    // And a little more after each good day.
    let next = check(&next, used(1_530), 2_709, Move::Grew { from: 1_530 });
    assert_eq!(next.growth, Some(Growth(1_847)));
    let eased = Move::Eased { from: 2_709, turned_away: 2_000, sent: 2_709 };
    let next = check(&next, turned_away(2_000, 2_709), 1_625, eased);
    // 900 then, 1,625 three days later: 1.218 a day is half of what is learnt.
    assert_eq!(next.growth, Some(Growth(1_405)));
}

#[test]
fn a_few_mails_turned_away_mean_nothing() {
    check(&ramp(), turned_away(0, 1_000), 2_000, Move::Grew { from: 1_000 });
    let small = Ramp { quota: 20, reach: 20, ..ramp() };
    check(&small, turned_away(2, 20), 40, Move::Grew { from: 20 });
}

#[test]
fn the_nearer_an_isp_is_to_turning_away_too_much_the_less_a_quota_grows() {
    check(&ramp(), turned_away(10, 1_000), 1_667, Move::Grew { from: 1_000 });
    check(&ramp(), turned_away(20, 1_000), 1_333, Move::Grew { from: 1_000 });
    check(&ramp(), turned_away(29, 1_000), 1_033, Move::Grew { from: 1_000 });
}

#[test]
fn two_days_on_which_an_isp_turned_mail_away_show_how_much_more_it_takes_each_day() {
    // 1,000 at first, twice as many four days later: 2^(1/4) is 1.189, and half of the rest is what was learnt before.
    let known = Ramp { ceiling: 1_000, ceiling_age: 3, growth: Some(Growth(1_500)), ..ramp() };
    let next = after(&plan(), Ramp { quota: 2_500, reach: 2_500, ..known.clone() }, &[turned_away(500, 2_500)]);
    assert_eq!((next.growth, next.ceiling, next.ceiling_age), (Some(Growth((1_350 + 1_189) / 2)), 2_000, 0));
    let soon = Ramp { quota: 2_500, reach: 2_500, ceiling_age: 1, ..known };
    assert_eq!(after(&plan(), soon, &[turned_away(500, 2_500)]).growth, Some(Growth(1_350)));
}

#[test]
fn mail_that_is_turned_away_never_makes_the_growth_larger() {
    // Of little mail a few were turned away: that says nothing about a volume.
    let next = check(&ramp(), turned_away(30, 100), 1_000, Move::Held(Held::TurnedAway));
    assert_eq!((next.growth, next.ceiling), (None, 0));
    // However much more the ISP took than the last time.
    let known = Ramp { ceiling: 10, ceiling_age: 9, growth: Some(Growth(1_300)), ..ramp() };
    assert_eq!(after(&plan(), known, &[turned_away(100, 1_000)]).growth, Some(Growth(1_300)));
}

#[test]
fn a_policy_that_ends_learning_or_lowers_the_growth_applies_at_once() {
    let learnt = Ramp { growth: Some(Growth(1_050)), ..ramp() };
    let fixed = Plan { learn: false, growth: 1.5, ..plan() };
    assert_eq!(after(&fixed, learnt, &[used(1_000)]).quota, 1_500);
    let learnt = Ramp { growth: Some(Growth(1_900)), ..ramp() };
    assert_eq!(after(&Plan { growth: 1.3, ..plan() }, learnt, &[used(1_000)]).quota, 1_300);
}

#[test]
fn growth_that_is_not_to_be_learnt_stays() {
    let fixed = Plan { learn: false, ..plan() };
    let days = [turned_away(500, 1_000), used(1_000)];
    assert_eq!((after(&fixed, ramp(), &days).growth, after(&plan(), ramp(), &days).growth.is_some()), (None, true));
}

#[test]
fn growth_never_falls_below_the_least_nor_rises_above_the_plans() {
    let bad = after(&plan(), ramp(), &[turned_away(600, 1_000); 40]);
    assert_eq!((bad.quota, bad.growth), (400, Some(Growth(1_050))));
    let large = Plan { target: u64::MAX, max_step_share: 1.0, ..plan() };
    let good = (0..60).fold(bad, |ramp, _| after(&large, ramp.clone(), &[used(ramp.quota)]));
    assert_eq!(good.growth, Some(Growth(2_000)));
}

#[test]
fn business_domains_grow_it_more_slowly() {
    let next = close(&plan(), true, &ramp(), Zone::UTC.day(20_000), &used(1_000));
    assert_eq!(next.quota, 1_500);
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
    check(&second, used(50), 100, Move::Grew { from: 50 });
}

#[test]
fn a_first_day_without_mail_leaves_the_anchor_where_mail_begins() {
    let second = check(&begin(&plan(), Zone::UTC.day(20_000), None), used(0), 50, Move::Held(Held::Idle { days: 1 }));
    let third = check(&second, used(50), 50, Move::Held(Held::Anchor));
    check(&third, used(50), 100, Move::Grew { from: 50 });
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
    let harm = Evidence {
        worsened: Some(Now(7)),
        unsettled: true,
        level: Some(Level::Throttle),
        bad_mail: true,
        ..used(1_000)
    };
    let next = check(&ramp(), harm, 500, Move::Shrank { from: 1_000 });
    let next = check(&next, Evidence { used: 500, ..harm }, 500, Move::Held(Held::Unwell));
    let healthy_again = Evidence { worsened: Some(Now(7)), bad_mail: true, ..used(500) };
    // After harm, a good day adds half of what it did before.
    let next = check(&next, healthy_again, 750, Move::Grew { from: 500 });
    // A new incident shrinks it again.
    check(&next, Evidence { worsened: Some(Now(8)), bad_mail: true, ..used(750) }, 375, Move::Shrank { from: 750 });
}

#[test]
fn harm_by_too_much_mail_shrinks_it_to_what_the_isp_took_but_to_half_at_most() {
    let harm = |away| Evidence { worsened: Some(Now(7)), unsettled: true, ..turned_away(away, 1_000) };
    check(&ramp(), harm(200), 800, Move::Shrank { from: 1_000 });
    check(&ramp(), harm(900), 500, Move::Shrank { from: 1_000 });
}

#[test]
fn harm_by_volume_on_a_day_with_little_mail_says_nothing_about_how_much_the_isp_takes() {
    let little = Evidence { worsened: Some(Now(1)), unsettled: true, ..turned_away(5, 20) };
    let next = check(&ramp(), little, 500, Move::Shrank { from: 1_000 });
    assert_eq!((next.ceiling, next.ceiling_age), (0, 0));
    assert!(next.growth < Some(Growth(2_000)), "{next:?}");
}

#[test]
fn another_start_applies_as_long_as_nothing_was_sent() {
    let plan = plan();
    let begun = begin(&plan, Zone::UTC.day(20_000), None);
    let corrected = Plan { start: 500, ..plan.clone() };
    assert_eq!((begun.quota, begun.quota_under(&plan), begun.quota_under(&corrected)), (50, 50, 500));
    let next = after(&corrected, begun.clone(), &[used(300)]);
    assert_eq!((next.quota, next.step), (500, Move::Held(Held::Anchor)));
    let idle = after(&corrected, begun, &[used(0), used(0)]);
    assert_eq!(idle.quota, 500);
    // From then on the ramp goes by what was sent.
    assert_eq!(next.quota_under(&plan), 500);
    assert_eq!(ramp().quota_under(&corrected), 1_000);
    // Also after a long silence, of a start that was the target by mistake, and in a trickle.
    let silent =
        after(&plan, begin(&Plan { start: 10_000, ..plan.clone() }, Zone::UTC.day(20_000), None), &[used(0); 20]);
    assert_eq!(silent.quota_under(&plan), 50);
    let mistaken = begin(&Plan { start: plan.target, ..plan.clone() }, Zone::UTC.day(20_000), None);
    assert_eq!(mistaken.quota_under(&plan), 50);
    let trickle = Ramp { quota: 1_500, ..begin(&Plan { start: 10_000, ..plan.clone() }, Zone::UTC.day(20_000), None) };
    assert_eq!((trickle.quota_under(&plan), trickle.reach_under(&plan)), (50, 50));
    let warm = begin(&Plan { warm: true, ..plan.clone() }, Zone::UTC.day(20_000), None);
    assert_eq!(warm.quota_under(&Plan { warm: true, ..corrected }), plan.target);
}

#[test]
fn what_a_person_sets_counts_as_if_the_isp_had_accepted_it() {
    let now = Now(5_000);
    let at = set(&plan(), &ramp(), 20_000, now);
    assert_eq!((at.quota, at.reach, at.step), (20_000, 20_000, Move::Set { from: 1_000 }));
    // Harm of before does not reduce it, and little mail does not at once.
    let harm = |at| Evidence { worsened: Some(Now(at)), unsettled: true, ..used(1_000) };
    check(&at, harm(4_999), 20_000, Move::Held(Held::Unwell));
    check(&at, harm(5_001), 10_000, Move::Shrank { from: 20_000 });
    check(&at, used(100), 20_000, Move::Held(Held::Unused { used: 100, quota: 20_000 }));
    check(&at, used(20_000), 30_000, Move::Grew { from: 20_000 });
    // Within the policy's bounds.
    assert_eq!(set(&plan(), &ramp(), u64::MAX, now).quota, plan().target);
    assert_eq!(set(&plan(), &ramp(), 0, now).quota, plan().minimum);
    let learnt = Ramp { growth: Some(Growth(1_100)), ..ramp() };
    assert_eq!(set(&plan(), &learnt, 20_000, now).growth, learnt.growth);
}

#[test]
fn a_ramp_that_a_person_begins_anew_begins_at_the_start_also_of_a_warm_set() {
    for warm in [false, true] {
        let plan = Plan { warm, ..plan() };
        let anew = reset(&plan, Zone::UTC.day(20_000), Now(5_000));
        assert_eq!((anew.quota, anew.step, anew.anchor), (50, Move::Began { idle_days: 0 }, true));
        assert_eq!(anew.quota_under(&plan), 50);
        // What the ISP turned away that day was mail of before.
        let of_before = Evidence { turned_away: 700, ..used(20_000) };
        let next = close(&plan, false, &anew, Zone::UTC.day(0), &of_before);
        assert_eq!((next.quota, next.growth, next.ceiling), (50, None, 0));
        let harm = Evidence { worsened: Some(Now(4_999)), ..used(50) };
        assert_eq!(close(&plan, false, &anew, Zone::UTC.day(20_000), &harm).quota, 50);
    }
}

#[test]
fn while_sending_is_stopped_there_is_a_trickle_and_afterwards_the_quota_is_back() {
    let open = Evidence { worsened: Some(Now(7)), unsettled: true, contained: true, bad_mail: true, ..used(900) };
    let next = check(&ramp(), open, 25 + 50, Move::Trickled { reach: 500 });
    let next = check(&next, Evidence { used: 25, ..open }, 25 + 50, Move::Trickled { reach: 500 });
    let closed = Evidence { worsened: Some(Now(7)), bulk: 25, ..used(25) };
    // The quota is back, and grows after the next good day.
    let next = check(&next, closed, 500, Move::Held(Held::Trickle));
    check(&next, Evidence { worsened: Some(Now(7)), ..used(500) }, 750, Move::Grew { from: 500 });
}

#[test]
fn a_sender_without_critical_mail_is_not_limited_by_the_reserve_for_it() {
    let plan = Plan { critical_share: 0.5, ..plan() };
    let bulk = |bulk| Evidence { bulk, ..used(bulk) };
    assert_eq!(after(&plan, ramp(), &[bulk(400)]).quota, 2_000);
    assert_eq!(after(&plan, ramp(), &[bulk(399)]).quota, 1_000);
    let all_critical = Plan { critical_share: 1.0, ..plan };
    assert_eq!(after(&all_critical, ramp(), &[used(799)]).quota, 1_000);
    assert_eq!(after(&all_critical, ramp(), &[used(800)]).quota, 2_000);
}

#[test]
fn an_isps_own_trouble_costs_no_quota() {
    let incident = Evidence { incident: true, contained: true, unsettled: true, worsened: Some(Now(7)), ..used(900) };
    let next = check(&ramp(), incident, 1_000, Move::Held(Held::Incident));
    // Nor on the next day, when it is over.
    let over = Evidence { worsened: Some(Now(7)), ..used(900) };
    check(&next, over, 2_000, Move::Grew { from: 1_000 });
}

#[test]
fn harm_of_before_a_ramp_began_is_none_of_its_own() {
    let begun = begin(&plan(), Zone::UTC.day(20_000), Some(Now(7)));
    let old = Evidence { worsened: Some(Now(7)), ..used(50) };
    let next = check(&begun, old, 50, Move::Held(Held::Anchor));
    check(&next, old, 100, Move::Grew { from: 50 });
}

#[test]
fn idle_for_13_days_does_nothing_and_idle_for_14_decays() {
    let thirteen = after(&plan(), ramp(), &[used(0); 13]);
    assert_eq!((thirteen.quota, thirteen.step), (1_000, Move::Held(Held::Idle { days: 13 })));
    check(&thirteen, used(0), 950, Move::Decayed { from: 1_000, idle_days: 14 });
}

#[test]
fn idle_for_35_days_begins_anew() {
    let last = after(&plan(), ramp(), &[used(0); 34]);
    assert_eq!(last.quota, 335); // 0.95^21 of 1,000, rounded down each day
    let anew = check(&last, used(0), 50, Move::Began { idle_days: 35 });
    assert!(anew.anchor);
    let later = check(&anew, used(0), 50, Move::Held(Held::Idle { days: 36 }));
    let first = check(&later, used(50), 50, Move::Held(Held::Anchor));
    check(&first, used(50), 100, Move::Grew { from: 50 });
}

#[test]
fn a_silence_that_the_isp_has_borne_costs_nothing_the_next_time() {
    let month = after(&plan(), ramp(), &[used(0); 29]);
    assert!((400..500).contains(&month.quota), "{}", month.quota);
    let sent = after(&plan(), month.clone(), &[used(month.quota)]);
    assert_eq!((sent.borne, sent.step), (29, Move::Grew { from: month.quota }));
    let next_month = after(&plan(), sent.clone(), &[used(0); 29]);
    assert_eq!(next_month.quota, sent.quota);
    // Little mail after it says nothing, and mail that is turned away ends it.
    assert_eq!(after(&plan(), month.clone(), &[used(10)]).borne, 0);
    assert_eq!(after(&plan(), next_month, &[turned_away(100, sent.quota)]).borne, 0);
}

#[test]
fn a_newsletter_every_fortnight_beside_little_mail_keeps_its_quota() {
    let plan = Plan { target: 50_000, ..plan() };
    let mut ramp = Ramp { quota: 50_000, reach: 50_000, peak: 45_000, peak_age: 0, ..ramp() };
    for _ in 0..4 {
        ramp = after(&plan, ramp, &[used(500); 13]);
        ramp = after(&plan, ramp, &[used(45_000)]);
        assert_eq!(ramp.quota, 50_000);
    }
}

#[test]
fn mail_within_13_days_forgets_that_there_was_none() {
    let mut days = vec![used(0); 13];
    days.push(used(1_000));
    days.extend([used(0); 13]);
    let next = after(&plan(), ramp(), &days);
    assert_eq!((next.quota, next.step), (2_000, Move::Held(Held::Idle { days: 13 })));
}

#[test]
fn three_weeks_of_little_mail_follow_the_volume_down_step_by_step() {
    let busy = Ramp { peak: 1_000, peak_age: 0, ..ramp() };
    let weeks = after(&plan(), busy.clone(), &[used(300); 38]);
    assert_eq!((weeks.quota, weeks.peak, weeks.peak_age), (1_000, 1_000, 38));
    // 0.95^18 of 1,000.
    check(&weeks, used(300), 794, Move::Followed { from: 1_000, peak: 397 });
    let end = after(&plan(), weeks.clone(), &[used(300); 60]);
    assert_eq!(end.quota, 614, "once about half of it is used, no further");
    // One day with more in between, and the weeks begin again.
    let broken = after(&plan(), weeks, &[used(500), used(300)]);
    assert_eq!((broken.quota, broken.peak), (1_000, 500));
}

#[test]
fn a_warm_set_begins_at_its_target_and_cools_off_like_others() {
    let plan = Plan { warm: true, ..plan() };
    let first = begin(&plan, Zone::UTC.day(20_000), None);
    assert_eq!((first.quota, first.step), (50_000, Move::Held(Held::Warmed)));
    // On days with little mail, too.
    let quiet = after(&plan, first.clone(), &[used(500); 6]);
    assert_eq!(quiet.quota, 50_000);
    let silent = after(&plan, first, &[used(0); 29]);
    assert!((20_000..25_000).contains(&silent.quota), "{}", silent.quota);
    assert_eq!(after(&plan, silent, &[used(0); 6]).quota, 50);
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
    assert_eq!(monday.quota, 2_000);
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
    assert_eq!((consumers[0], consumers.len(), *consumers.last().unwrap()), (50, 13, 50_000));
    assert_eq!((businesses[0], businesses.len(), *businesses.last().unwrap()), (50, 19, 50_000));
    for (plan, step) in [(&consumers, 2.01), (&businesses, 1.52)] {
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
        Move::Held(Held::NotAskedAgain { used: 10, quota: 50 }),
        Move::Held(Held::Unreported { sent: 3, used: 50 }),
        Move::Held(Held::TurnedAway),
        Move::Held(Held::Trickle),
        Move::Held(Held::Idle { days: 1 }),
        Move::Held(Held::Idle { days: 3 }),
        Move::Held(Held::Unwell),
        Move::Held(Held::Incident),
        Move::Held(Held::RestDay),
        Move::Eased { from: 50, turned_away: 4, sent: 48 },
        Move::Shrank { from: 50 },
        Move::Trickled { reach: 50 },
        Move::Followed { from: 50, peak: 10 },
        Move::Decayed { from: 50, idle_days: 14 },
        Move::Set { from: 50 },
    ];
    let lines: Vec<String> = moves.iter().map(|step| format!("{:9} {step}", step.name())).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

fn any_evidence() -> impl Strategy<Value = Evidence> {
    let level = prop_oneof![4 => Just(None), 1 => Just(Some(Level::Warn)), 1 => Just(Some(Level::Pause))];
    let worsened = prop_oneof![4 => Just(None), 1 => (0..5_i64).prop_map(|at| Some(Now(at)))];
    let mostly_not = || prop_oneof![5 => Just(false), 1 => Just(true)];
    let used = prop_oneof![2 => Just(0), 3 => 1..=60_000_u64];
    let shares = (0..=100_u64, 0..=100_u64, 0..=100_u64);
    (used, shares, level, mostly_not(), mostly_not(), worsened, mostly_not()).prop_map(
        |(used, (cut, sent, away), level, unsettled, contained, worsened, incident)| Evidence {
            used,
            bulk: used,
            later: used * cut / 200,
            short: cut > 50,
            sent: used * (150 - sent) / 100,
            turned_away: used * away * away / 20_000,
            bad_mail: away.is_multiple_of(2),
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
                    || evidence.bulk as f64 >= shared * plan.used_share
                    || evidence.short;
                let sent = evidence.sent * 2 >= evidence.used.saturating_sub(evidence.later);
                prop_assert!(good && used && sent, "{:?} then {:?} after {:?}", ramp, next, evidence);
                let most = if business { plan.business_growth } else { plan.growth };
                prop_assert!(next.reach as f64 <= ramp.reach as f64 * most + 1.0);
                prop_assert!((next.reach - ramp.reach) as f64 <= plan.target as f64 * plan.max_step_share);
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
