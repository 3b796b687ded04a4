//! Errors on standard error: as text for people, as one line of JSON for programs.

use std::ffi::OsString;

use serde::Serialize;

use crate::exit::{ErrorKind, Exit};
use crate::output::{Format, complain};
use crate::policy_fault::InvalidPolicy;
use crate::sanitize::sanitize;

/// An error, as both programs report it. Its JSON is stable; new members may be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorReport {
    /// The kind.
    #[serde(rename = "error")]
    pub kind: ErrorKind,
    /// What is wrong, on one line.
    pub message: String,
    /// What to do about it; null where the message is enough.
    pub remedy: Option<String>,
    /// The exit code.
    pub exit_code: u8,
    /// For a policy that is not valid: where it is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<InvalidPolicy>,
}

impl ErrorReport {
    /// An error; an empty remedy means that there is none. Control characters are escaped.
    pub fn new(kind: ErrorKind, message: &str, remedy: &str) -> ErrorReport {
        let remedy = Some(sanitize(remedy)).filter(|remedy| !remedy.is_empty());
        ErrorReport { kind, message: sanitize(message), remedy, exit_code: kind.exit() as u8, policy: None }
    }

    /// With the place in a policy.
    #[must_use]
    pub fn in_policy(self, policy: InvalidPolicy) -> ErrorReport {
        ErrorReport { policy: Some(policy), ..self }
    }

    /// Writes it to standard error, and returns the exit code.
    pub fn print(&self, format: Format) -> Exit {
        match format {
            Format::Text => {
                complain(&format!("error: {}", self.message));
                self.remedy.iter().for_each(|remedy| complain(remedy));
            }
            // Serialising fails only for maps whose keys are not strings, and there are none.
            Format::Json => complain(&serde_json::to_string(self).unwrap_or_default()),
        }
        self.kind.exit()
    }
}

/// Reports what clap has to say about arguments that it did not parse: help and the version on standard output, all else as an
/// error, in JSON if `arguments` ask for it.
pub fn report_usage(error: &clap::Error, arguments: &[OsString]) -> Exit {
    if error.exit_code() == 0 || !asks_for_json(arguments) {
        // There is no way to report a failure of that.
        let _ = error.print();
        return if error.exit_code() == 0 { Exit::Done } else { Exit::Usage };
    }
    let text = error.to_string();
    let (message, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let message = message.trim_start().trim_start_matches("error:");
    let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut hints = rest.split("\n\n").map(str::trim);
    let tip = hints.clone().find_map(|hint| hint.strip_prefix("tip: "));
    let usage = hints.find(|hint| hint.starts_with("Usage:"));
    let remedy = tip.or(usage).unwrap_or("See --help.");
    ErrorReport::new(ErrorKind::Usage, &line(message), &line(remedy)).print(Format::Json)
}

/// Whether the arguments, which cannot be parsed, ask for JSON: `--format json`, or `--output json`.
fn asks_for_json(arguments: &[OsString]) -> bool {
    let words = || arguments.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--");
    let names = |word: &str| word == "--format" || word == "--output";
    words().zip(words().skip(1)).any(|(name, value)| names(&name) && value == "json")
        || words().any(|word| word.strip_suffix("=json").is_some_and(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_same_members_whatever_its_kind() {
        let json = |report: &ErrorReport| serde_json::to_string(report).unwrap();
        let report = ErrorReport::new(ErrorKind::UnknownIsp, "`gmial` is not an ISP", "Did you mean gmail?");
        insta::assert_snapshot!(json(&report), @r#"{"error":"unknown_isp","message":"`gmial` is not an ISP","remedy":"Did you mean gmail?","exit_code":2}"#);
        let report = ErrorReport::new(ErrorKind::Declined, "nothing was changed\u{202e}\x1b", "");
        insta::assert_snapshot!(json(&report), @r#"{"error":"declined","message":"nothing was changed\\u{202e}\\u{1b}","remedy":null,"exit_code":1}"#);
    }

    #[test]
    fn json_is_asked_for_by_either_name_of_the_option() {
        let check = |line: &str, expected: bool| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(asks_for_json(&words), expected, "{line}");
        };
        check("replay x --format json", true);
        check("ses-breaker --output=json stauts", true);
        check("ses-breaker --format=json", true);
        check("replay --format text", false);
        check("replay --format", false);
        check("replay json", false);
        check("replay -- --format json", false);
        check("replay --file=json", false);
    }
}
