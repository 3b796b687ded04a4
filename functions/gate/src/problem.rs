//! What is answered instead of permits: what is wrong, where, and what would be right.

use gate_api::ErrorCode;

/// So much of what came in is shown in a problem.
const SHOWN: usize = 64;

/// So many characters of a name are shown in the place of a problem.
const MAX_PART: usize = 256;

/// Why a request is not answered, as RFC 9457 has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub code: ErrorCode,
    /// With its values, and what would be right.
    pub detail: String,
    /// Where in the body, as a JSON pointer; `None` if it is not about one place.
    pub field: Option<String>,
    /// When to try again, in seconds.
    pub retry_after_secs: Option<u32>,
    pub(crate) allow: Option<&'static str>,
}

impl Problem {
    /// A problem that is not about one field.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), field: None, retry_after_secs: None, allow: None }
    }

    /// The same, at a place in the body.
    pub fn at(mut self, field: &str) -> Problem {
        self.field = Some(field.to_owned());
        self
    }

    /// The policy has no such configuration set.
    pub fn unknown_set(set: &str) -> Problem {
        let detail = format!(
            "configuration set {} is not in [warmup.sets] of the policy; name it there, and push the policy",
            shown(set)
        );
        Problem::new(ErrorCode::UnknownConfigurationSet, detail).at("/configurationSet")
    }

    /// The name of a request was used for another one.
    pub fn reused(request: &str) -> Problem {
        let detail = format!(
            "{} asked for something else before: another identity, class, schedule, or other recipients; nothing may be \
             sent: repeat a request exactly, or choose a new name",
            shown(request)
        );
        Problem::new(ErrorCode::RequestReused, detail).at("/request")
    }

    /// As it is sent.
    pub(crate) fn document(&self) -> gate_api::Problem {
        let Problem { code, detail, field, .. } = self;
        let (title, status) = (code.title().to_owned(), code.status());
        gate_api::Problem { code: *code, title, status, detail: detail.clone(), field: field.clone() }
    }

    /// The tables cannot be read or written. Why is in the log: clients learn nothing of our insides.
    pub fn unreadable(what: &str) -> Problem {
        let detail = format!("{what} cannot be read or written at the moment; try again");
        Problem { retry_after_secs: Some(RETRY_SECS), ..Problem::new(ErrorCode::Unreadable, detail) }
    }
}

/// Seconds after which a return may be tried again while the tables cannot be written. A lease lasts longer.
const RETRY_SECS: u32 = 2;

/// A name as a part of a JSON pointer (RFC 6901).
pub(crate) fn pointer_part(name: &str) -> String {
    let cut: String = name.chars().take(MAX_PART).collect();
    cut.replace('~', "~0").replace('/', "~1")
}

/// What came in, in quotes and not too much of it.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", cut.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_pointer_are_escaped_and_cut() {
        assert_eq!(pointer_part("a/b~c"), "a~1b~0c");
        assert!(pointer_part(&"x".repeat(10_000)).len() < 1_000);
        assert_eq!(shown("a\n"), "`a\\n`");
        assert_eq!(shown(&"é".repeat(100)), format!("`{}…`", "é".repeat(64)));
    }
}
