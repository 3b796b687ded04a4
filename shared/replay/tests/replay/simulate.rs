//! The closed loop keeps its promises: the claims in the issue about the gate, and laws of the adaptive arm.

use replay::simulate::{Arm, Demand, FIXED_DAYS, Model, Progress, Run, Scenario, Setup, Summary, planned, simulate};
use reputation::policy::Policy;

/// Days until the plan by time reaches its target.
const DAYS: u32 = 45;

fn setup(scenarios: &[Scenario], seeds: u32) -> Setup {
    let policy = Policy::default().in_world(true);
    let plan = policy.warmup.plan.clone();
    Setup {
        policy,
        plan,
        scenarios: scenarios.to_vec(),
        model: Model::Tolerance,
        ips: 1,
        demand: Demand::Smooth,
        asks_again: true,
        seed: 1,
        seeds,
        days: DAYS,
        workers: 2,
    }
}

fn simulated(setup: &Setup) -> (Vec<Vec<Run>>, Summary) {
    let runs = simulate(setup, &Progress::default()).unwrap();
    let summary = Summary::of(setup, &runs);
    (runs, summary)
}

#[test]
fn where_isps_are_kind_adaptive_is_at_the_target_no_later_than_the_fixed_schedule() {
    let (_, summary) = simulated(&setup(&[Scenario::Kind], 4));
    for isp in &summary.scenarios[0].isps {
        assert_eq!(isp.no_later_than_fixed, [4, 4], "{}: {:?}", isp.isp, isp.arm(Arm::Adaptive).unwrap().reached);
    }
}

#[test]
fn where_one_isp_is_harsh_adaptive_causes_less_than_half_of_the_blocks_and_deferrals_there() {
    let (_, summary) = simulated(&setup(&[Scenario::Harsh], 4));
    let isp = summary.scenarios[0].isps.iter().find(|isp| isp.temper == "harsh").unwrap();
    assert!(isp.trouble_of_fixed.max < 0.5, "{:?}", isp.trouble_of_fixed);
    // Not by sending less: more arrives than with the fixed schedule.
    let delivered = |arm| isp.arm(arm).unwrap().delivered.median;
    assert!(delivered(Arm::Adaptive) > delivered(Arm::Fixed), "{} {}", delivered(Arm::Adaptive), delivered(Arm::Fixed));
    // And one ISP does not affect another.
    for kind in summary.scenarios[0].isps.iter().filter(|isp| isp.temper == "kind") {
        assert_eq!(kind.no_later_than_fixed, [4, 4], "{}", kind.isp);
    }
}

#[test]
fn no_day_sends_more_than_its_quota_and_no_quota_grows_after_an_unhealthy_day() {
    let (runs, _) = simulated(&setup(&Scenario::ALL, 3));
    let mut unwell = 0;
    for run in runs.iter().flatten() {
        for ((arm, isp), days) in run.iter().filter(|((arm, _), _)| *arm == Arm::Adaptive) {
            for (number, day) in days.iter().enumerate() {
                assert!(day.sent + day.elsewhere <= day.quota, "{arm:?} {isp} day {number}: {day:?}");
                assert!(day.quota <= day.reach, "{arm:?} {isp} day {number}: {day:?}");
            }
            for pair in days.windows(2).filter(|pair| pair[0].unwell) {
                assert!(pair[1].reach <= pair[0].reach, "{arm:?} {isp}: {pair:?}");
                unwell += 1;
            }
        }
    }
    assert!(unwell > 20, "only {unwell} days are conclusive");
}

#[test]
fn every_mail_has_one_fate() {
    let (runs, _) = simulated(&setup(&Scenario::ALL, 1));
    for ((arm, isp), days) in runs.iter().flatten().flatten() {
        // Mail of the last day may still wait.
        for day in &days[..days.len() - 1] {
            assert!(day.delivered + day.hard_bounces + day.blocks <= day.sent, "{arm:?} {isp}: {day:?}");
            assert!(day.complaints <= day.delivered && day.deferrals <= day.sent, "{arm:?} {isp}: {day:?}");
        }
    }
}

#[test]
fn a_seed_decides_everything_on_any_number_of_threads() {
    let alone = Setup { workers: 1, days: 20, ..setup(&[Scenario::Harsh], 3) };
    let among = Setup { workers: 3, ..alone.clone() };
    assert_eq!(simulated(&alone).0, simulated(&among).0);
    // The second seed of one is the first of another.
    let later = Setup { seed: 2, seeds: 1, ..alone.clone() };
    assert_eq!(simulated(&alone).0[0][1], simulated(&later).0[0][0]);
}

#[test]
fn plans_that_look_at_nothing_go_from_start_to_target() {
    let fixed: Vec<u64> = (1..=FIXED_DAYS + 1).map(|day| planned(Arm::Fixed, 50, 50_000, day)).collect();
    assert_eq!((fixed[0], fixed[1], fixed[28], fixed[29], fixed[30]), (50, 63, 39_402, 50_000, 50_000));
    let by_time = [1, 9, 45, 46].map(|day| planned(Arm::ByTime, 50, 50_000, day));
    assert_eq!(by_time, [1_111, 10_000, 50_000, 50_000]);
    assert_eq!(planned(Arm::Fixed, 70, 70, 1), 70);
}
