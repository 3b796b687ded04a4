//! The results over many seeds: medians, with minimum and maximum. The contract of `simulate --format json`.

use serde::Serialize;

use super::{Arm, Days, Run, Setup};

/// The results of a simulation.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The first seed.
    pub seed: u64,
    /// The number of seeds.
    pub seeds: u32,
    /// The number of days.
    pub days: u32,
    /// The model of the ISPs.
    pub model: &'static str,
    /// IPs of the sender.
    pub ips: u32,
    /// When the mail of the adaptive sender is there.
    pub sender: &'static str,
    /// Whether it asks again for what was not granted.
    pub asks_again: bool,
    /// Whether it asks for a schedule.
    pub schedule: bool,
    /// Mails of the first day, by the plan.
    pub start: u64,
    /// Mails a day at each ISP at the end of the plan.
    pub target: u64,
    /// By scenario.
    pub scenarios: Vec<ScenarioSummary>,
}

/// One scenario.
#[derive(Clone, Debug, Serialize)]
pub struct ScenarioSummary {
    /// Its name.
    pub scenario: &'static str,
    /// Its description.
    pub about: &'static str,
    /// Its ISPs.
    pub isps: Vec<IspSummary>,
    /// By warm-up plan, over all of its ISPs.
    pub totals: Vec<ArmTotal>,
}

/// One warm-up plan at all ISPs of a scenario: means over the seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ArmTotal {
    /// Its name.
    pub arm: &'static str,
    /// Mails that were accepted in the end, in thousands.
    pub delivered_thousands: f64,
    /// Deferrals and blocks, as a share of the mails sent.
    pub trouble_share: f64,
    /// Mails that were turned away at first because there was too much: the part of that share that a plan can change.
    pub turned_away_share: f64,
}

/// One ISP.
#[derive(Clone, Debug, Serialize)]
pub struct IspSummary {
    /// Its name.
    pub isp: &'static str,
    /// How it treats new senders.
    pub temper: &'static str,
    /// By warm-up plan.
    pub arms: Vec<ArmSummary>,
    /// The number of seeds in which the adaptive arm reached the target no later than the fixed one, and the number in which
    /// the fixed one reached it.
    pub no_later_than_fixed: [u32; 2],
    /// Deferrals and blocks of the adaptive arm as a share of those of the fixed one.
    pub trouble_of_fixed: Spread<f64>,
}

/// One warm-up plan at one ISP.
#[derive(Clone, Debug, Serialize)]
pub struct ArmSummary {
    /// Its name.
    pub arm: &'static str,
    /// When the target was reached.
    pub reached: Reached,
    /// Mails sent.
    pub sent: Spread<u64>,
    /// Mails among them that were accepted in the end.
    pub delivered: Spread<u64>,
    /// Deferred at least once.
    pub deferrals: Spread<u64>,
    /// Refused because of the sender.
    pub blocks: Spread<u64>,
    /// Deferred or refused at the first attempt because there was too much mail: a part of the two above.
    pub turned_away: Spread<u64>,
    /// No such recipient.
    pub hard_bounces: Spread<u64>,
    /// Complaints.
    pub complaints: Spread<u64>,
    /// Mails that the gate sent through another configuration set.
    #[serde(skip_serializing_if = "Spread::is_nothing")]
    pub elsewhere: Spread<u64>,
    /// By day: medians.
    pub daily: Vec<DaySummary>,
}

/// A day: medians over the seeds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DaySummary {
    /// Counted from 1.
    pub day: u32,
    /// The quota, or the plan's volume.
    pub quota: u64,
    /// Mails sent.
    pub sent: u64,
    /// Mails among them that were accepted in the end.
    pub delivered: u64,
    /// Deferred at least once.
    pub deferrals: u64,
    /// Refused because of the sender.
    pub blocks: u64,
}

/// The first day on which the quota or plan was the target and nine tenths of it were delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// The number of seeds with such a day.
    pub seeds: u32,
    /// Counted from 1; null if half of the seeds or more never reached it.
    pub median: Option<u32>,
    /// The earliest of the seeds.
    pub min: Option<u32>,
    /// The latest of the seeds; null if one never reached it.
    pub max: Option<u32>,
}

/// A value over all seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread<T> {
    /// The median; of an even number of seeds, the upper one.
    pub median: T,
    /// The minimum.
    pub min: T,
    /// The maximum.
    pub max: T,
}

impl Spread<u64> {
    fn is_nothing(&self) -> bool {
        self.max == 0
    }
}

impl<T: Copy + Default + PartialOrd> Spread<T> {
    fn of(mut values: Vec<T>) -> Spread<T> {
        values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        match (values.first(), values.get(values.len() / 2), values.last()) {
            (Some(min), Some(median), Some(max)) => Spread { median: *median, min: *min, max: *max },
            _ => Spread::default(),
        }
    }
}

/// Share of the target that must be delivered on a day for it to be reached, in tenths.
const REACHED_TENTHS: u64 = 9;

/// The first day on which the target was reached, counted from 1.
pub(super) fn reached(days: &Days, target: u64) -> Option<u32> {
    let there = |day: &super::DayOfMail| day.quota >= target && day.delivered * 10 >= target * REACHED_TENTHS;
    days.iter().position(there).and_then(|day| u32::try_from(day + 1).ok())
}

impl Reached {
    fn of(days: Vec<Option<u32>>) -> Reached {
        let mut known: Vec<u32> = days.iter().copied().flatten().collect();
        known.sort_unstable();
        Reached {
            seeds: u32::try_from(known.len()).unwrap_or(u32::MAX),
            median: known.get(days.len() / 2).copied(),
            min: known.first().copied(),
            max: known.last().copied().filter(|_| known.len() == days.len()),
        }
    }
}

impl Summary {
    /// Summarises the runs of a simulation, by scenario and seed.
    pub fn of(setup: &Setup, runs: &[Vec<Run>]) -> Summary {
        let scenarios = setup.scenarios.iter().zip(runs).map(|(scenario, runs)| ScenarioSummary {
            scenario: scenario.name(),
            about: scenario.about(),
            isps: scenario.isps().iter().map(|(isp, temper)| IspSummary::of(setup, isp, temper.name(), runs)).collect(),
            totals: Arm::ALL.map(|arm| ArmTotal::of(arm, runs)).into(),
        });
        Summary {
            seed: setup.seed,
            seeds: setup.seeds,
            days: setup.days,
            model: setup.model.name(),
            ips: setup.ips,
            sender: setup.demand.name(),
            asks_again: setup.asking.again,
            schedule: setup.asking.schedule,
            start: setup.plan.start,
            target: setup.plan.target,
            scenarios: scenarios.collect(),
        }
    }
}

fn of_arm<'a>(runs: &'a [Run], arm: Arm, isp: &'static str) -> impl Iterator<Item = &'a Days> {
    runs.iter().filter_map(move |run| run.get(&(arm, isp)))
}

impl ArmTotal {
    fn of(arm: Arm, runs: &[Run]) -> ArmTotal {
        let days = || runs.iter().flatten().filter(|((of, _), _)| *of == arm).flat_map(|(_, days)| days);
        let sum = |count: fn(&super::DayOfMail) -> u64| days().map(count).sum::<u64>() as f64;
        let of_sent = |mails: f64| mails / sum(|day| day.sent).max(1.0);
        ArmTotal {
            arm: arm.name(),
            delivered_thousands: (sum(|day| day.delivered) / runs.len().max(1) as f64).round() / 1_000.0,
            trouble_share: of_sent(sum(|day| day.deferrals + day.blocks)),
            turned_away_share: of_sent(sum(|day| day.turned_away)),
        }
    }
}

impl ScenarioSummary {
    /// One warm-up plan at all of its ISPs.
    pub fn total(&self, arm: Arm) -> Option<&ArmTotal> {
        self.totals.iter().find(|known| known.arm == arm.name())
    }
}

fn trouble(days: &Days) -> u64 {
    days.iter().map(|day| day.deferrals + day.blocks).sum()
}

impl IspSummary {
    fn of(setup: &Setup, isp: &'static str, temper: &'static str, runs: &[Run]) -> IspSummary {
        let target = setup.plan.target;
        let pairs = || of_arm(runs, Arm::Adaptive, isp).zip(of_arm(runs, Arm::Fixed, isp));
        let both = pairs().map(|(ours, fixed)| (reached(ours, target), reached(fixed, target)));
        let mut no_later = [0, 0];
        for (ours, fixed) in both {
            let Some(fixed) = fixed else { continue };
            no_later[0] += u32::from(ours.is_some_and(|ours| ours <= fixed));
            no_later[1] += 1;
        }
        let shares = pairs().map(|(ours, fixed)| trouble(ours) as f64 / trouble(fixed).max(1) as f64);
        IspSummary {
            isp,
            temper,
            arms: Arm::ALL.map(|arm| ArmSummary::of(setup, arm, isp, runs)).into(),
            no_later_than_fixed: no_later,
            trouble_of_fixed: Spread::of(shares.collect()),
        }
    }

    /// The summary of one warm-up plan.
    pub fn arm(&self, arm: Arm) -> Option<&ArmSummary> {
        self.arms.iter().find(|known| known.arm == arm.name())
    }
}

impl ArmSummary {
    fn of(setup: &Setup, arm: Arm, isp: &'static str, runs: &[Run]) -> ArmSummary {
        let all: Vec<&Days> = of_arm(runs, arm, isp).collect();
        let sum = |count: fn(&super::DayOfMail) -> u64| {
            Spread::of(all.iter().map(|days| days.iter().map(count).sum::<u64>()).collect())
        };
        let daily = (0..setup.days).map(|day| {
            let median = |count: fn(&super::DayOfMail) -> u64| {
                Spread::of(all.iter().filter_map(|days| days.get(day as usize)).map(count).collect()).median
            };
            DaySummary {
                day: day + 1,
                quota: median(|day| day.quota),
                sent: median(|day| day.sent),
                delivered: median(|day| day.delivered),
                deferrals: median(|day| day.deferrals),
                blocks: median(|day| day.blocks),
            }
        });
        ArmSummary {
            arm: arm.name(),
            reached: Reached::of(all.iter().map(|days| reached(days, setup.plan.target)).collect()),
            sent: sum(|day| day.sent),
            delivered: sum(|day| day.delivered),
            deferrals: sum(|day| day.deferrals),
            blocks: sum(|day| day.blocks),
            turned_away: sum(|day| day.turned_away),
            hard_bounces: sum(|day| day.hard_bounces),
            complaints: sum(|day| day.complaints),
            elsewhere: sum(|day| day.elsewhere),
            daily: daily.collect(),
        }
    }
}
