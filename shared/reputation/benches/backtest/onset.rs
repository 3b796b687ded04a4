//! After a long good history: how many mails are sent from the moment a list turns bad until it is stopped, and how
//! often the same rule stops a sender whose rate never changes.

use rand::{Rng as _, RngExt as _};
use reputation::number::thousands;
use reputation::{Metric, Policy};

use crate::rules::{Call, Deployed, EProcess, Line, Lines, PerMail, Rule, Wilson};
use crate::table::{print as print_table, share};
use crate::{Effort, in_parallel, randomness};

/// One kind of harm: from which rate to which.
struct Harm {
    metric: Metric,
    title: &'static str,
    /// Rate and length of the good history.
    good: f64,
    history: u64,
    /// Number of mails after the change that are simulated.
    patience: u64,
    /// Rates after the change.
    changed: &'static [f64],
    /// Rates of senders that never change, over `history` mails.
    constant: &'static [f64],
}

const HARMS: [Harm; 2] = [
    Harm {
        metric: Metric::HardBounce,
        title: "hard bounces: 20,000 mails at 2 %, then a bad list",
        good: 0.02,
        history: 20_000,
        patience: 20_000,
        changed: &[0.10, 0.30],
        constant: &[0.02, 0.03, 0.04, 0.05],
    },
    Harm {
        metric: Metric::Complaint,
        title: "complaints: 50,000 mails at 0.04 %, then a bad list",
        good: 0.0004,
        history: 50_000,
        patience: 50_000,
        changed: &[0.003, 0.005, 0.01],
        constant: &[0.0004, 0.0005, 0.001, 0.0015],
    },
];

/// A rule with its name in the table, created for each run. The number is the offset of its start within a minute.
struct Candidate {
    name: &'static str,
    make: fn(&Policy, Metric, u64) -> Box<dyn Rule + '_>,
    /// Whether it also has a step before the stop.
    throttles: bool,
}

const CANDIDATES: [Candidate; 8] = [
    Candidate {
        name: "ratio",
        throttles: false,
        make: |_, metric, _| {
            Box::new(Lines::new([match metric {
                Metric::Complaint => Line { window: 10_000, min_mails: 1000, min_bad: 3, line: 0.001 },
                Metric::HardBounce | Metric::Delay | Metric::Block => {
                    Line { window: 1000, min_mails: 200, min_bad: 1, line: 0.05 }
                }
            }]))
        },
    },
    Candidate {
        name: "pair of ratios",
        throttles: false,
        make: |_, metric, _| {
            Box::new(Lines::new(match metric {
                Metric::Complaint => [
                    Line { window: 1000, min_mails: 200, min_bad: 5, line: 0.01 },
                    Line { window: 10_000, min_mails: 1000, min_bad: 10, line: 0.003 },
                ],
                Metric::HardBounce | Metric::Delay | Metric::Block => [
                    Line { window: 1000, min_mails: 200, min_bad: 20, line: 0.10 },
                    Line { window: 5000, min_mails: 1000, min_bad: 50, line: 0.05 },
                ],
            }))
        },
    },
    Candidate {
        name: "Wilson z = 3",
        throttles: false,
        make: |_, metric, _| {
            Box::new(match metric {
                Metric::Complaint => Wilson::new(10_000, 3.0, 0.001),
                Metric::HardBounce | Metric::Delay | Metric::Block => Wilson::new(1000, 3.0, 0.05),
            })
        },
    },
    Candidate {
        name: "cumulative e-process",
        throttles: false,
        make: |policy, metric, _| Box::new(EProcess::new(policy.metrics.rule(metric).limit, 0.001)),
    },
    Candidate {
        name: "ours, mail by mail",
        throttles: true,
        make: |policy, metric, _| Box::new(PerMail::new(policy, metric)),
    },
    Candidate {
        name: "ours, 30 mails/min",
        throttles: true,
        make: |policy, metric, phase| Box::new(Deployed::new(policy, metric, 30, phase % 30)),
    },
    Candidate {
        name: "ours, 1,000 mails/min",
        throttles: true,
        make: |policy, metric, phase| Box::new(Deployed::new(policy, metric, 1000, phase % 1000)),
    },
    Candidate {
        name: "ours, 10,000 mails/min",
        throttles: true,
        make: |policy, metric, phase| Box::new(Deployed::new(policy, metric, 10_000, phase % 10_000)),
    },
];

/// The number of mails from the change until it first called; `None` = never.
#[derive(Clone, Copy, Default)]
struct Delay {
    throttle: Option<u64>,
    pause: Option<u64>,
}

/// Prints both tables.
pub(crate) fn print(policy: &Policy, seed: u64, effort: Effort) {
    let runs = if effort == Effort::Full { 500 } else { 2 };
    for (table, harm) in (100..).step_by(100).zip(&HARMS) {
        println!("C. {}; {runs} runs per cell, outcomes in the order of the mails", harm.title);
        let mut head = vec!["rule".to_owned()];
        head.extend(harm.constant.iter().map(|rate| format!("false at {}", percent(*rate))));
        for rate in harm.changed {
            head.extend([format!("to {}: p50", percent(*rate)), "p95".to_owned(), "missed".to_owned()]);
        }
        let mut rows = Vec::new();
        for candidate in &CANDIDATES {
            let make = |phase| (candidate.make)(policy, harm.metric, phase);
            // All rules see the same mail: the stream depends on the rate and the run, not on the rule.
            let constant: Vec<Vec<Call>> = (table..)
                .zip(harm.constant)
                .map(|(table, rate)| in_parallel(runs, |run| ever(harm, make, *rate, seed, table, run)))
                .collect();
            let changed: Vec<Vec<Delay>> = (table + 50..)
                .zip(harm.changed)
                .map(|(table, rate)| in_parallel(runs, |run| delay(harm, make, *rate, seed, table, run)))
                .collect();
            let mut row = |name: String, called: fn(&Call) -> bool, after: fn(&Delay) -> Option<u64>| {
                let mut cells = vec![name];
                cells
                    .extend(constant.iter().map(|calls| share(calls.iter().filter(|call| called(call)).count(), runs)));
                for delays in &changed {
                    cells.extend(quantiles(delays.iter().map(after).collect()));
                }
                rows.push(cells);
            };
            if candidate.throttles {
                row(format!("{}: throttle", candidate.name), |call| call.throttle, |delay| delay.throttle);
                row(format!("{}: pause", candidate.name), |call| call.pause, |delay| delay.pause);
            } else {
                row(candidate.name.to_owned(), |call| call.pause, |delay| delay.pause);
            }
        }
        print_table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows);
        for candidate in &CANDIDATES {
            println!("{}: {}", candidate.name, (candidate.make)(policy, harm.metric, 0).define());
        }
        println!();
    }
}

/// Whether a rule ever calls while the rate stays constant.
fn ever<'a>(
    harm: &Harm,
    make: impl Fn(u64) -> Box<dyn Rule + 'a>,
    rate: f64,
    seed: u64,
    table: u32,
    run: usize,
) -> Call {
    let mut random = randomness(seed, table, run);
    let mut rule = make(random.next_u64());
    let mut ever = Call::default();
    for _ in 0..harm.history {
        let call = rule.see(random.random_bool(rate));
        ever = Call { throttle: ever.throttle || call.throttle, pause: ever.pause || call.pause };
        if ever.pause {
            break;
        }
    }
    ever
}

/// How many mails after the change a rule first calls. A rule that calls before the change starts over.
fn delay<'a>(
    harm: &Harm,
    make: impl Fn(u64) -> Box<dyn Rule + 'a>,
    rate: f64,
    seed: u64,
    table: u32,
    run: usize,
) -> Delay {
    let mut random = randomness(seed, table, run);
    let mut rule = make(random.next_u64());
    for _ in 0..harm.history {
        rule.see(random.random_bool(harm.good));
    }
    let mut delay = Delay::default();
    for mail in 1..=harm.patience {
        let call = rule.see(random.random_bool(rate));
        if call.throttle {
            delay.throttle = delay.throttle.or(Some(mail));
        }
        if call.pause {
            delay.pause = Some(mail);
            break;
        }
    }
    delay
}

/// Median, 95th percentile and the share of runs without a call; those count as longer than all others.
fn quantiles(delays: Vec<Option<u64>>) -> [String; 3] {
    let missed = delays.iter().filter(|delay| delay.is_none()).count();
    let mut sorted: Vec<u64> = delays.iter().map(|delay| delay.unwrap_or(u64::MAX)).collect();
    sorted.sort_unstable();
    let at = |quantile: f64| match sorted.get((quantile * sorted.len() as f64).ceil() as usize - 1) {
        Some(&u64::MAX) | None => "never".to_owned(),
        Some(mails) => thousands(*mails),
    };
    [at(0.5), at(0.95), share(missed, sorted.len())]
}

fn percent(share: f64) -> String {
    reputation::detect::Percent(share).to_string()
}
