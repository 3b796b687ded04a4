//! `ses-breaker`: the command line of a deployed stack. Everything is in [`operator::cli`]; here is the only clock.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use reputation::time::Now;

fn main() -> ExitCode {
    operator::cli::run_by(std::env::args_os(), &(Arc::new(now) as operator::cli::Clock)).into()
}

fn now() -> Now {
    #[expect(clippy::disallowed_methods, reason = "a shell reads the clock: what people say is dated")]
    let now = SystemTime::now();
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Now(i64::try_from(millis).unwrap_or(i64::MAX))
}
