//! Seeded event streams with exactly known totals.
//!
//! A [`Scenario`] says who sends how much and what goes wrong; [`generate`] invents the mail and writes the events that SES
//! would publish, one line per delivery of an event, in order of arrival; the [`Truth`] that it returns is what any correct
//! counter must find in those lines.
//!
//! **Invariant:** the same scenario and seed give the same bytes on every machine: decisions use only ChaCha8, integers, and
//! `+ - * /` of IEEE numbers.
//!
//! **Invariant:** the truth is counted when a fact is invented. Nothing here reads a line, and nothing here uses the
//! project's own decoder, classifier or counters, because the streams test those.
//!
//! **Invariant:** memory holds only late events, never the stream.
//!
//! Left out on purpose, because they have no single right count: `SendingDeferral` delays, `CustomTimeoutExceeded` bounces, a
//! fact reported both by a configuration set and by an identity, and opens, clicks, rejects and rendering failures of one mail
//! to several ISPs.
//!
//! Start reading at `World::step`.

mod builtin;
mod kinds;
mod mail;
mod scenario;
mod truth;
mod world;
mod write;

use std::io;

pub use scenario::{ConfigurationSet, Envelope, Incident, Isp, IspMix, Rates, Scenario, ScenarioError, Span};
pub use truth::{Counters, Truth, TruthRow};

/// A minute in milliseconds.
const MINUTE_MS: i64 = 60_000;

/// Writes the stream of `scenario` and `seed` to `out`, and returns its totals.
///
/// Lines end in LF, are in order of arrival and are not kept: ten million lines need no more memory than the events that are
/// late at one time.
///
/// ```
/// use replay::generate::{Scenario, generate};
///
/// let scenario = Scenario::builtin("stale-list").expect("built in").with_minutes(5);
/// let mut stream = Vec::new();
/// let truth = generate(&scenario, 7, &mut stream)?;
/// assert_eq!(stream.split(|&byte| byte == b'\n').count() as u64, truth.lines + 1);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Those of `out`, and [`io::ErrorKind::InvalidInput`] around a [`ScenarioError`] if [`Scenario::check`] refuses the
/// scenario.
pub fn generate(scenario: &Scenario, seed: u64, out: &mut impl io::Write) -> io::Result<Truth> {
    scenario.check().map_err(invalid)?;
    let start_ms = scenario.start_ms().map_err(invalid)?;
    let mut world = world::World::new(scenario, seed, start_ms);
    let mut lines = write::Lines::new(scenario, out);
    let seconds = i64::from(scenario.minutes) * 60;
    for second in 0..seconds {
        let now_ms = start_ms + second * 1000;
        // Facts that are invented later arrive after this second.
        while let Some(pending) = world.arrived_before(now_ms) {
            lines.write_event(&pending)?;
        }
        world.step(second);
    }
    while let Some(pending) = world.arrived_before(i64::MAX) {
        lines.write_event(&pending)?;
    }
    let lines = lines.finish()?;
    Ok(world.into_truth(seed, lines))
}

fn invalid(error: ScenarioError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

#[cfg(test)]
mod tests;
