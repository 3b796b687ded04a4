//! A seeded backtest of the default policy: how often a healthy sender is punished, and how many mails of a bad list
//! are sent before it is stopped, compared with rules that others have published. Prints plain tables.
//!
//! `cargo bench -p ses-breaker-reputation --bench backtest`, with another seed `… --bench backtest -- 7`, with a policy of your own
//! `… --bench backtest -- /path/to/policy.toml`. One seed and policy always give the same tables. `BACKTEST.md` of this
//! crate contains one run and explains how to read it.
//!
//! Where to start: [`sender`] simulates a month of mail through the real timeline, judge and breaker; [`rules`] defines
//! every rule that is compared; [`onset`] compares them.

#![expect(clippy::print_stdout, reason = "printing the tables is its purpose")]

mod onset;
mod rules;
mod sender;
mod table;

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reputation::Policy;

/// The seed of the published tables.
const SEED: u64 = 20_261_121;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut seed = SEED;
    let mut own = None;
    // `cargo bench` passes --bench; a run of all targets as tests only checks that it works.
    let mut effort = Effort::Smoke;
    #[expect(clippy::disallowed_methods, reason = "a bench reads its arguments")]
    let arguments = std::env::args().skip(1);
    for argument in arguments {
        match argument.parse() {
            Ok(number) => seed = number,
            Err(_) if argument == "--bench" => effort = Effort::Full,
            Err(_) if argument.starts_with('-') => {}
            Err(_) => own = Some(argument),
        }
    }
    let policy = match &own {
        Some(path) => Policy::from_toml(&std::fs::read_to_string(path)?)?,
        None => Policy::default(),
    };
    println!("seed {seed}, policy: {}\n", own.as_deref().unwrap_or("the default one"));
    sender::print(&policy, seed, effort);
    onset::print(&policy, seed, effort);
    Ok(())
}

/// How much is simulated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// What the tables need.
    Full,
    /// Hardly anything.
    Smoke,
}

/// The random stream of one run: its own stream under the seed, independent of other runs.
fn randomness(seed: u64, table: u32, run: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream((u64::from(table) << 32) | run as u64);
    random
}

/// Does `runs` runs on all cores; the results are in the order of the runs.
fn in_parallel<T: Send>(runs: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= runs {
                return done;
            }
            done.push((index, run(index)));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
