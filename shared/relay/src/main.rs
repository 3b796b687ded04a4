//! `ses-relay`: a relay in front of Amazon SES. The code is in [`relay::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    relay::cli::run(std::env::args_os()).into()
}
