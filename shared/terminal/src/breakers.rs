//! Styles and words of breakers, their changes, and rates.

use anstyle::Style;
use reputation::breaker::StateName;
use reputation::counters::{Metric, Tally};
use reputation::detect::Level;
use reputation::policy::{Policy, Ratio};

use crate::style::{BAD, DOUBTFUL, GOOD, PLAIN, PROBING};

/// The style of a breaker's state.
pub fn state_style(state: StateName) -> Style {
    match state {
        StateName::Open => BAD,
        StateName::Throttled => DOUBTFUL,
        StateName::Probing => PROBING,
        StateName::Closed => GOOD,
        StateName::InTrouble | StateName::Unknown => PLAIN,
    }
}

/// The change of a breaker from one state to another, in a word or two. `level`: that of the verdict, if one caused it; `gate`:
/// whether an application asks the gate.
pub fn transition_words(from: StateName, to: StateName, level: Option<Level>, gate: bool) -> (String, Style) {
    let (was, is) = (from.word(gate), to.word(gate));
    match (from == to, level) {
        (true, Some(Level::Warn)) => ("warning".to_owned(), DOUBTFUL),
        // A quota that is cut again, or raised but not yet whole.
        (true, Some(Level::Throttle | Level::Pause)) if to == StateName::Throttled => {
            (if gate { "slowed further" } else { "warned again" }.to_owned(), DOUBTFUL)
        }
        (true, None) if to == StateName::Throttled && gate => ("slowed less".to_owned(), DOUBTFUL),
        (true, Some(Level::Throttle | Level::Pause) | None) => (format!("still {is}"), state_style(to)),
        (false, _) => (format!("{was} → {is}"), state_style(to)),
    }
}

/// The style of a rate: beyond the limit of its evidence rule, beyond the warning line of a ratio rule, or neither.
pub fn rate_style(policy: &Policy, metric: Metric, tally: Tally, share: f64) -> Style {
    let warned = |ratio: &Ratio| {
        ratio.metric == metric
            && tally.population >= ratio.min_population
            && ratio.warn.is_some_and(|line| share >= line)
    };
    if share >= policy.metrics.rule(metric).limit {
        BAD
    } else if policy.ratios.iter().any(warned) {
        DOUBTFUL
    } else {
        PLAIN
    }
}
