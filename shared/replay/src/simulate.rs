//! The closed loop: planner, breaker and gate together, against a model of receiving ISPs.
//!
//! ```text
//! plan ─ quota ─► gate ─ grants ─► ISPs of the model ─ outcomes ─► counters ─► breaker ─► gate, next day's plan
//! ```
//!
//! Two plans that ignore feedback meet the same ISPs, for comparison, and an oracle that knows their limits, as an upper
//! bound. The ISPs are a model, not reality, and there are two of them ([`Model`]): settings may be tuned on the first, and
//! are tested on the second. Their numbers, sources and what they leave out are in `DESIGN.md`.
//!
//! **Invariant:** the same seed gives the same result, on any number of threads.
//! **Invariant:** the simulation makes no decision for the gate: it asks, and sends what is granted.

mod demand;
mod dice;
mod isp;
mod ladder;
mod receiver;
mod sender;
mod summary;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use pipeline::ports::PortError;
use reputation::Isp;
use reputation::policy::Policy;
use reputation::warmup::Plan;
use reputation::zone::Day;

pub use demand::Demand;
use isp::{Nature, ReceivingIsp};
use ladder::{Ladder, LadderIsp};
use receiver::Receiver;
pub use receiver::Temper;
use sender::{AdaptiveSender, send_by_plan, send_what_is_taken};
pub use sender::{Arm, Asking, BY_TIME_DAYS, DayOfMail, Days, FIXED_DAYS, planned};
pub use summary::{ArmSummary, ArmTotal, DaySummary, IspSummary, Reached, ScenarioSummary, Spread, Summary};

/// A set of ISPs to warm up at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Three consumer ISPs, all lenient.
    Kind,
    /// The same, but one of them is strict.
    Harsh,
    /// ISPs that receive mail for businesses.
    Business,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 3] = [Scenario::Kind, Scenario::Harsh, Scenario::Business];

    /// Its stable name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Kind => "kind",
            Scenario::Harsh => "harsh",
            Scenario::Business => "business",
        }
    }

    /// Its description.
    pub fn about(self) -> &'static str {
        match self {
            Scenario::Kind => "three ISPs that accept about twice as much after each good day",
            Scenario::Harsh => "the same, but microsoft begins low, grows by a fifth a day and soon refuses",
            Scenario::Business => {
                "ISPs that receive mail for businesses, and accept about a third more after each good day"
            }
        }
    }

    /// Its ISPs: names of the built-in map.
    pub fn isps(self) -> &'static [(&'static str, Temper)] {
        match self {
            Scenario::Kind => &[("gmail", Temper::Kind), ("microsoft", Temper::Kind), ("yahoo", Temper::Kind)],
            Scenario::Harsh => &[("gmail", Temper::Kind), ("microsoft", Temper::Harsh), ("yahoo", Temper::Kind)],
            Scenario::Business => &[("other", Temper::Business)],
        }
    }

    /// The most instructive ISP of the scenario.
    pub fn main_isp(self) -> &'static str {
        match self {
            Scenario::Kind => "gmail",
            Scenario::Harsh => "microsoft",
            Scenario::Business => "other",
        }
    }
}

/// How the ISPs are modelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// A continuous tolerance by days and hours, moved by volume. Settings may be tuned on it.
    #[default]
    Tolerance,
    /// A score of outcomes and a ladder of rates by the hour. A test set: nothing is ever tuned on it.
    Ladder,
}

impl Model {
    /// Both of them.
    pub const ALL: [Model; 2] = [Model::Tolerance, Model::Ladder];

    /// Its stable name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Model::Tolerance => "tolerance",
            Model::Ladder => "ladder",
        }
    }
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The rules.
    pub policy: Policy,
    /// The plan that is followed.
    pub plan: Plan,
    /// The scenarios, in order.
    pub scenarios: Vec<Scenario>,
    /// The model of the ISPs.
    pub model: Model,
    /// IPs of the sender, among which mail is divided evenly.
    pub ips: u32,
    /// When the mail of the adaptive sender, and of the oracle, is there.
    pub demand: Demand,
    /// How the adaptive sender asks.
    pub asking: Asking,
    /// The first seed.
    pub seed: u64,
    /// The number of seeds, consecutive.
    pub seeds: u32,
    /// Days.
    pub days: u32,
    /// Threads.
    pub workers: usize,
}

/// The progress of a simulation: finished runs of one seed in one scenario.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

impl Progress {
    /// Runs that are done.
    pub fn done(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The results of each arm at each ISP, for one seed in one scenario.
pub type Run = BTreeMap<(Arm, &'static str), Days>;

/// The name of the configuration set.
const SET: &str = "simulated";
/// Monday 2026-01-05: the models of ISPs count weekdays from the first day on, and policies may use them.
const FIRST_DAY: i32 = 20_458;

/// Simulates all seeds in all scenarios. The results are ordered by scenario, then by seed.
///
/// # Errors
///
/// A port in memory failed, which is a bug.
pub fn simulate(setup: &Setup, progress: &Progress) -> Result<Vec<Vec<Run>>, PortError> {
    let mut policy = setup.policy.clone();
    policy.warmup.sets = BTreeMap::from([(SET.to_owned(), setup.plan.clone())]);
    let seeds = setup.seeds as usize;
    let jobs = setup.scenarios.len() * seeds;
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Result<Run, PortError>>> = Mutex::default();
    let work = || {
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            let Some(scenario) = setup.scenarios.get(job / seeds.max(1)).filter(|_| job < jobs) else { return };
            let run = run(&policy, setup, *scenario, setup.seed.wrapping_add((job % seeds) as u64));
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(job, run);
            progress.0.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for _ in 1..setup.workers.min(jobs) {
            scope.spawn(work);
        }
        work();
    });
    let runs = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let runs = runs.into_values().collect::<Result<Vec<Run>, PortError>>()?;
    Ok(runs.chunks(seeds.max(1)).map(<[Run]>::to_vec).collect())
}

fn run(policy: &Policy, setup: &Setup, scenario: Scenario, seed: u64) -> Result<Run, PortError> {
    let zone = &policy.warmup.zone;
    let calendar: Vec<Day> = (0..setup.days.cast_signed()).map(|day| zone.day(FIRST_DAY + day)).collect();
    let ips = setup.ips as usize;
    let mut run = Run::new();
    let mut receiving = Vec::new();
    let mut names = BTreeMap::new();
    for (name, temper) in scenario.isps() {
        let isp = policy.isp_map.by_name(name).unwrap_or(Isp::OTHER);
        let returns_complaints = policy.isp_map.returns_complaints(isp);
        let meet = |arm: Arm| -> Box<dyn Receiver> {
            let dice = format!("{} at {name}", arm.name());
            match setup.model {
                Model::Tolerance => {
                    let nature = Nature::of(seed, name, *temper, returns_complaints, setup.days);
                    Box::new(ReceivingIsp::new(nature, seed, &dice, ips))
                }
                Model::Ladder => {
                    let ladder = Ladder::of(seed, name, *temper, returns_complaints, setup.days);
                    Box::new(LadderIsp::new(ladder, seed, &dice, ips))
                }
            }
        };
        let (start, target) = (setup.plan.start, setup.plan.target);
        for arm in [Arm::Fixed, Arm::ByTime] {
            let days = send_by_plan(arm, (start, target), &calendar, meet(arm).as_mut());
            run.insert((arm, *name), days);
        }
        let days = send_what_is_taken(setup.demand, target, &calendar, meet(Arm::Oracle).as_mut());
        run.insert((Arm::Oracle, *name), days);
        receiving.push((isp, meet(Arm::Adaptive)));
        names.insert(isp, *name);
    }
    let sender = AdaptiveSender::new(policy, SET, &calendar, (setup.demand, setup.asking));
    let sent = pollster::block_on(sender.send(receiving))?;
    for (isp, days) in sent {
        if let Some(name) = names.get(&isp) {
            run.insert((Arm::Adaptive, name), days);
        }
    }
    Ok(run)
}
