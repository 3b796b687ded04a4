//! Commands that repeat the arguments of this one.

use std::path::Path;

use terminal::{quoted, sanitize};

/// Longer input is not repeated.
const MAX_INPUT: usize = 400;

/// The arguments of the program that a command for the same input repeats.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call<'a> {
    /// Files, directories and patterns, as given.
    pub input: &'a [String],
    /// The policy, if one was given.
    pub policy: Option<&'a Path>,
    /// Whether `--gate` was given.
    pub gate: bool,
}

impl Call<'_> {
    /// The arguments, quoted for a shell; `…` stands for input that is too long to repeat.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.input.iter().map(|input| quoted(input)).collect();
        let input: usize = words.iter().map(|word| word.chars().count() + 1).sum();
        // An escaped name no longer names the file.
        if input > MAX_INPUT || words.is_empty() || self.input.iter().any(|input| sanitize(input) != *input) {
            words = vec!["…".to_owned()];
        }
        if let Some(policy) = self.policy {
            words.push(format!("--policy {}", quoted(&sanitize(&policy.display().to_string()))));
        }
        words.extend(self.gate.then(|| "--gate".to_owned()));
        words
    }
}

#[cfg(test)]
mod tests {
    use terminal::command;

    use super::*;

    #[test]
    fn a_command_repeats_its_input_and_fits_the_terminal() {
        let input = ["events/streams/stale-list.ndjson.gz".to_owned(), "more/*.json".to_owned()];
        let mut words = vec!["replay explain".to_owned()];
        words.extend(Call { input: &input, policy: Some(Path::new("my policy.toml")), gate: true }.words());
        insta::assert_snapshot!(command(&words, 60).join("\n"), @r"
          replay explain events/streams/stale-list.ndjson.gz \
            'more/*.json' --policy 'my policy.toml' --gate
        ");
        for width in 45..120 {
            let lines = command(&words, width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
            let joined: Vec<&str> = lines.iter().map(|line| line.trim_end_matches('\\').trim()).collect();
            assert_eq!(joined.join(" "), words.join(" "));
        }
        let many = vec!["a-file-like-many-others.ndjson".to_owned(); 100];
        assert_eq!(Call { input: &many, policy: None, gate: false }.words(), ["…"]);
    }
}
