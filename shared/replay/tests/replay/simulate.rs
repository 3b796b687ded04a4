//! The closed loop keeps its promises: the claims in the issue about the gate, and laws of the adaptive arm.

use replay::simulate::{
    Arm, Asking, Demand, FIXED_DAYS, Model, Progress, Run, Scenario, Setup, Summary, planned, simulate,
};
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
        asking: Asking { again: true, schedule: false },
        seed: 1,
        seeds,
        days: DAYS,
        workers: 2,
    }
}

/// The usual setup in both models.
fn in_both_models(scenarios: &[Scenario], seeds: u32) -> [Setup; 2] {
    Model::ALL.map(|model| Setup { model, ..setup(scenarios, seeds) })
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

/// Checks the days of the adaptive arm, and returns the number of unhealthy ones.
fn quotas_are_kept(run: &Run) -> usize {
    let mut unwell = 0;
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
    unwell
}

#[test]
fn no_day_sends_more_than_its_quota_and_no_quota_grows_after_an_unhealthy_day() {
    for setup in in_both_models(&Scenario::ALL, 2) {
        let unwell: usize = simulated(&setup).0.iter().flatten().map(quotas_are_kept).sum();
        assert!(unwell > 20, "only {unwell} days are conclusive");
    }
    for demand in Demand::ALL {
        for (again, schedule) in [(true, false), (false, false), (false, true)] {
            let setup = Setup { demand, asking: Asking { again, schedule }, days: 31, ..setup(&[Scenario::Harsh], 1) };
            simulated(&setup).0.iter().flatten().for_each(|run| {
                quotas_are_kept(run);
            });
        }
    }
}

#[test]
fn every_mail_has_one_fate() {
    for setup in in_both_models(&Scenario::ALL, 1) {
        let (runs, _) = simulated(&setup);
        for ((arm, isp), days) in runs.iter().flatten().flatten() {
            // Mail of the last day may still wait.
            for day in &days[..days.len() - 1] {
                assert!(day.delivered + day.hard_bounces + day.blocks <= day.sent, "{arm:?} {isp}: {day:?}");
                assert!(day.complaints <= day.delivered && day.deferrals <= day.sent, "{arm:?} {isp}: {day:?}");
                assert!(day.turned_away <= day.deferrals + day.blocks, "{arm:?} {isp}: {day:?}");
            }
        }
    }
}

#[test]
fn a_seed_decides_everything_on_any_number_of_threads() {
    for model in Model::ALL {
        let batches = Setup { model, demand: Demand::Batch18, ips: 3, ..setup(&[Scenario::Harsh], 3) };
        let alone = Setup { workers: 1, days: 20, ..batches };
        let among = Setup { workers: 3, ..alone.clone() };
        assert_eq!(simulated(&alone).0, simulated(&among).0);
        // The second seed of one is the first of another.
        let later = Setup { seed: 2, seeds: 1, ..alone.clone() };
        assert_eq!(simulated(&alone).0[0][1], simulated(&later).0[0][0]);
    }
}

#[test]
fn the_oracle_is_never_turned_away_for_volume_and_never_delivers_less_than_another_arm() {
    for model in Model::ALL {
        for (ips, seeds) in [(1, 4), (3, 1)] {
            let (runs, summary) = simulated(&Setup { model, ips, ..setup(&Scenario::ALL, seeds) });
            for ((arm, isp), days) in runs.iter().flatten().flatten().filter(|((arm, _), _)| *arm == Arm::Oracle) {
                let turned_away: u64 = days.iter().map(|day| day.turned_away).sum();
                assert_eq!(turned_away, 0, "{} with {ips} IPs: {arm:?} {isp}", model.name());
            }
            for isp in summary.scenarios.iter().flat_map(|scenario| &scenario.isps) {
                let delivered = |arm| isp.arm(arm).unwrap().delivered.median;
                for arm in Arm::ALL {
                    let (bound, other) = (delivered(Arm::Oracle), delivered(arm));
                    let (model, isp, arm) = (model.name(), isp.isp, arm.name());
                    assert!(bound >= other, "{model}, {ips} IPs, {isp}: {bound}, but {arm} {other}");
                }
            }
        }
    }
}

#[test]
fn totals_are_means_over_the_seeds_and_sums_over_the_isps() {
    let (runs, summary) = simulated(&setup(&[Scenario::Harsh], 3));
    for arm in Arm::ALL {
        let days = || runs[0].iter().flatten().filter(|((of, _), _)| *of == arm).flat_map(|(_, days)| days);
        let total = summary.scenarios[0].total(arm).unwrap();
        let delivered = days().map(|day| day.delivered).sum::<u64>() as f64 / 3_000.0;
        assert!((total.delivered_thousands - delivered).abs() < 0.001, "{total:?} {delivered}");
        let trouble = days().map(|day| day.deferrals + day.blocks).sum::<u64>() as f64;
        let share = trouble / days().map(|day| day.sent).sum::<u64>() as f64;
        assert!((total.trouble_share - share).abs() < 1e-9 && total.turned_away_share <= share, "{total:?} {share}");
    }
}

fn sent(setup: &Setup) -> u64 {
    let (runs, _) = simulated(setup);
    let days = runs.iter().flatten().flatten().filter(|((arm, _), _)| *arm == Arm::Adaptive);
    days.flat_map(|(_, days)| days).map(|day| day.sent).sum()
}

#[test]
fn a_batch_that_asks_again_when_the_answer_says_gets_more_than_one_that_asks_once() {
    for demand in [Demand::Batch09, Demand::Batch18, Demand::Weekly] {
        let sent = |again| {
            sent(&Setup { demand, asking: Asking { again, schedule: false }, days: 20, ..setup(&[Scenario::Kind], 2) })
        };
        let (again, once) = (sent(true), sent(false));
        assert!(once > 0 && again > 2 * once, "{}: {again} and {once}", demand.name());
    }
}

/// Mails that the adaptive arm delivers in the only scenario, in thousands: a mean.
fn delivered(setup: &Setup) -> f64 {
    let (_, summary) = simulated(setup);
    summary.scenarios[0].total(Arm::Adaptive).unwrap().delivered_thousands
}

#[test]
fn one_batch_a_day_warms_up_as_smooth_mail_does() {
    let kind = setup(&[Scenario::Kind], 3);
    let smooth = delivered(&kind);
    for demand in [Demand::Hourly, Demand::Batch09, Demand::Batch18] {
        for (again, schedule) in [(true, false), (false, true)] {
            let batch = delivered(&Setup { demand, asking: Asking { again, schedule }, ..kind.clone() });
            assert!(batch > 0.9 * smooth, "{} ({again}, {schedule}): {batch} of {smooth}", demand.name());
        }
    }
}

#[test]
fn learnt_growth_delivers_nearly_what_the_best_fixed_growth_of_each_world_does() {
    learnt_growth_is_nearly_the_best_fixed(Model::Tolerance);
}

#[test]
fn learnt_growth_delivers_nearly_as_much_in_a_model_that_it_was_not_tuned_with() {
    learnt_growth_is_nearly_the_best_fixed(Model::Ladder);
}

fn learnt_growth_is_nearly_the_best_fixed(model: Model) {
    for scenario in Scenario::ALL {
        // One world differs much from the next: with two, both sides were anything.
        let learnt = Setup { model, ..setup(&[scenario], 8) };
        let fixed = |growth| {
            let mut setup = learnt.clone();
            (setup.plan.learn, setup.plan.ease_share) = (false, 1.0);
            (setup.plan.growth, setup.plan.business_growth) = (growth, growth);
            delivered(&setup)
        };
        let best = [1.2, 1.3, 1.5, 2.0].map(fixed).into_iter().fold(0.0, f64::max);
        let ours = delivered(&learnt);
        // With few seeds, less than the 83 % of twenty.
        assert!(ours > 0.75 * best, "{} in {}: {ours} of {best}", scenario.name(), model.name());
    }
}

#[test]
fn a_newsletter_sends_no_more_than_its_own_volume() {
    let setup = Setup { demand: Demand::Monthly, ..setup(&[Scenario::Kind], 2) };
    let (runs, _) = simulated(&setup);
    for ((arm, isp), days) in runs.iter().flatten().flatten() {
        if matches!(arm, Arm::Adaptive | Arm::Oracle) {
            for (number, day) in days.iter().enumerate().filter(|(number, _)| !matches!(number, 0 | 30)) {
                // A batch never waits longer than 12 hours, so that the big one is over by midnight.
                assert!(day.sent <= 500, "{arm:?} {isp} day {number}: {day:?}");
            }
        }
    }
}

#[test]
fn more_ips_deliver_no_less() {
    for model in Model::ALL {
        let delivered = |ips| {
            let (_, summary) = simulated(&Setup { model, ips, days: 30, ..setup(&[Scenario::Harsh], 1) });
            summary.scenarios[0].total(Arm::Oracle).unwrap().delivered_thousands
        };
        assert!(delivered(4) > delivered(1), "{}", model.name());
    }
}

#[test]
fn plans_that_look_at_nothing_go_from_start_to_target() {
    let fixed: Vec<u64> = (1..=FIXED_DAYS + 1).map(|day| planned(Arm::Fixed, 50, 50_000, day)).collect();
    assert_eq!((fixed[0], fixed[1], fixed[28], fixed[29], fixed[30]), (50, 63, 39_402, 50_000, 50_000));
    let by_time = [1, 9, 45, 46].map(|day| planned(Arm::ByTime, 50, 50_000, day));
    assert_eq!(by_time, [1_111, 10_000, 50_000, 50_000]);
    assert_eq!(planned(Arm::Fixed, 70, 70, 1), 70);
}
