//! `replay`: what would the breaker have done? The code is in [`replay::cli`]; only this file reads the clock.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    #[expect(
        clippy::disallowed_methods,
        reason = "the program's edge reads the clock: events from the future are rejected"
    )]
    let now = SystemTime::now();
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    replay::cli::run(std::env::args_os(), i64::try_from(millis).unwrap_or(i64::MAX)).into()
}
