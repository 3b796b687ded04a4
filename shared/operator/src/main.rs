//! `ses-breaker`: the command line of a deployed stack. The code is in [`operator::cli`]; only this file reads the clock.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use reputation::time::Now;

fn main() -> ExitCode {
    if let Some(exit) = operator::cli::completed(std::env::args_os()) {
        return exit.into();
    }
    operator::cli::run_by(std::env::args_os(), &(Arc::new(now) as operator::cli::Clock)).into()
}

fn now() -> Now {
    #[expect(clippy::disallowed_methods, reason = "the program's edge reads the clock, to date commands")]
    let now = SystemTime::now();
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Now(i64::try_from(millis).unwrap_or(i64::MAX))
}
