//! Errors in policies, as people read them.

use reputation::policy::PolicyError;

/// A policy error that names its place once: TOML's message about a value may end with a less exact place.
pub fn placed_once(error: PolicyError) -> PolicyError {
    match error {
        PolicyError::Shape { key, problem } => {
            let place = problem.rfind(" in `").filter(|place| is_quoted(&problem[place + 4..]));
            let problem = place.map_or(problem.as_str(), |place| &problem[..place]).to_owned();
            PolicyError::Shape { key, problem }
        }
        error @ (PolicyError::Syntax(_) | PolicyError::Value { .. }) => error,
    }
}

/// Whether it is a word in backticks.
fn is_quoted(text: &str) -> bool {
    let word = text.strip_prefix('`').and_then(|text| text.strip_suffix('`'));
    word.is_some_and(|word| !word.is_empty() && !word.contains('`'))
}
