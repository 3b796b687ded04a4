//! What is wrong with a policy, and where: line, column, and the key or word that was probably meant.

use std::ops::Range;

use reputation::policy::PolicyError;
use reputation::policy::keys::{ANY, Allowed, SECTIONS, Section};
use serde::Serialize;
use toml::de::{DeTable, DeValue};

use crate::suggest::nearest;

/// Why a policy is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyFault {
    /// What is wrong: the key, its value, and what is allowed.
    pub problem: String,
    /// Path of the key; null if the policy is not TOML.
    pub key: Option<String>,
    /// The line, from 1; null if the text does not name the key.
    pub line: Option<u32>,
    /// The column, from 1, in characters.
    pub column: Option<u32>,
    /// The key or word that was probably meant; null if none is close.
    pub nearest: Option<String>,
}

impl std::fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: {}", self.problem),
            (_, _) => f.write_str(&self.problem),
        }
    }
}

/// What [`reputation`] adds to the path of a list whose length is wrong.
const LENGTH: &str = ", their number,";

impl PolicyFault {
    /// The fault of a policy of this text.
    pub fn of(toml: &str, error: PolicyError) -> PolicyFault {
        let own = DeTable::parse(toml);
        match (error, &own) {
            (PolicyError::Syntax(_), Err(error)) => {
                // Only the message: a file that is not a policy may hold secrets, so its content is not shown.
                let problem = format!("the policy is not valid TOML: {}", error.message());
                PolicyFault { key: None, nearest: None, ..PolicyFault::at(toml, error.span(), problem) }
            }
            (PolicyError::Shape { key, problem }, Ok(own)) => {
                let place = problem.rfind(" in `").filter(|place| is_quoted(&problem[place + 4..]));
                let problem = place.map_or(problem.as_str(), |place| &problem[..place]).to_owned();
                PolicyFault::about(toml, own.get_ref(), &key, PolicyError::Shape { key: key.clone(), problem })
            }
            (PolicyError::Value { key, value, allowed }, Ok(own)) => {
                let path = key.strip_suffix(LENGTH).unwrap_or(&key).to_owned();
                PolicyFault::about(toml, own.get_ref(), &path, PolicyError::Value { key, value, allowed })
            }
            (error, _) => PolicyFault::from(error.to_string()),
        }
    }

    fn at(toml: &str, span: Option<Range<usize>>, problem: String) -> PolicyFault {
        let (line, column) = match span.and_then(|span| toml.get(..span.start)) {
            Some(before) => {
                let line = before.rsplit('\n').next().unwrap_or_default();
                let from_one = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
                (Some(from_one(before.matches('\n').count())), Some(from_one(line.chars().count())))
            }
            None => (None, None),
        };
        PolicyFault { problem, key: None, line, column, nearest: None }
    }

    /// The fault of the key at `path`.
    fn about(toml: &str, own: &DeTable<'_>, path: &str, error: PolicyError) -> PolicyFault {
        let mut found = Found::of(own, path);
        let mut nearest = None;
        if let PolicyError::Shape { problem, .. } = &error {
            if problem.starts_with("unknown field") {
                nearest = found.nearest_key(path);
            } else if problem.starts_with("unknown variant") {
                nearest = found.nearest_word();
            } else if path == "isps" {
                found.go_on_to_entry(problem);
            }
        }
        let fault = PolicyFault::at(toml, found.span.clone(), error.to_string());
        PolicyFault { key: Some(path.to_owned()), nearest, ..fault }
    }

    /// What to do about it; empty where the problem says it.
    pub fn remedy(&self) -> String {
        self.nearest.as_ref().map(|nearest| format!("Did you mean `{nearest}`?")).unwrap_or_default()
    }
}

impl From<String> for PolicyFault {
    /// A fault of the policy as a whole.
    fn from(problem: String) -> PolicyFault {
        PolicyFault { problem, key: None, line: None, column: None, nearest: None }
    }
}

/// A policy file that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{file} is not a valid policy: {fault}")]
pub struct InvalidPolicy {
    /// Name of the file.
    pub file: String,
    /// What is wrong, and where.
    #[serde(flatten)]
    pub fault: PolicyFault,
}

/// How far a path leads into a policy.
struct Found<'a> {
    /// The keys of the tables that were found, without indices.
    keys: Vec<&'a str>,
    /// Where the last key of them is, or the entry of a list.
    span: Option<Range<usize>>,
    /// What is there.
    value: Option<&'a DeValue<'a>>,
}

impl<'a> Found<'a> {
    fn of(own: &'a DeTable<'a>, path: &str) -> Found<'a> {
        let mut found = Found { keys: Vec::new(), span: None, value: None };
        let (mut table, mut rest) = (own, path);
        loop {
            // A name may contain dots; the longest that fits is meant.
            let fits = table.iter().filter(|(name, _)| {
                let after = rest.strip_prefix(name.get_ref().as_ref());
                after.is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
            });
            let Some((name, value)) = fits.max_by_key(|(name, _)| name.get_ref().len()) else { return found };
            found.keys.push(name.get_ref());
            (found.span, found.value) = (Some(name.span()), Some(value.get_ref()));
            rest = &rest[name.get_ref().len()..];
            while let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                let entries = found.value.and_then(DeValue::as_array);
                let Some(entry) = entries.and_then(|entries| entries.get(index.parse::<usize>().ok()?)) else {
                    return found;
                };
                (found.span, found.value) = (Some(entry.span()), Some(entry.get_ref()));
                rest = after;
            }
            match (found.value.and_then(DeValue::as_table), rest.strip_prefix('.')) {
                (Some(inner), Some(after)) => (table, rest) = (inner, after),
                (_, _) => return found,
            }
        }
    }

    /// An error about an entry of `[isps]` names it in its words only.
    fn go_on_to_entry(&mut self, problem: &str) {
        let entries = self.value.and_then(DeValue::as_table).into_iter().flat_map(|table| table.iter());
        for (name, value) in entries {
            let words = [Some(name.get_ref().as_ref()), value.get_ref().as_str()];
            if words.into_iter().flatten().any(|word| problem.contains(&format!("`{word}`"))) {
                self.span = Some(name.span());
                return;
            }
        }
    }

    /// The section of the policy that these keys lead to.
    fn section(keys: &[&str]) -> String {
        match keys {
            ["warmup", "sets", _] => "warmup.plan".to_owned(),
            keys => keys.join("."),
        }
    }

    /// The known key that was meant by the last one of `path`, which is not known: one of the same table, or else the path of
    /// one with the same name elsewhere.
    fn nearest_key(&self, path: &str) -> Option<String> {
        let (written, tables) = self.keys.split_last()?;
        if !path.ends_with(written) {
            return None;
        }
        let section = Found::section(tables);
        if let Some(known) = nearest(written, keys_of(&section).into_iter()) {
            return Some(known.to_owned());
        }
        let has_it = |section: &&Section| section.keys.iter().any(|key| key.name == *written);
        let mut elsewhere = SECTIONS.iter().filter(has_it);
        let only = elsewhere.next().filter(|_| elsewhere.next().is_none())?;
        Some(if only.name.is_empty() { (*written).to_owned() } else { format!("{}.{written}", only.name) })
    }

    /// The word that was meant by the value, which is none of those that are allowed.
    fn nearest_word(&self) -> Option<String> {
        let (name, tables) = self.keys.split_last()?;
        let section = Found::section(tables);
        let section = SECTIONS.iter().find(|known| known.name == section)?;
        let key = section.keys.iter().find(|key| key.name == *name)?;
        let Allowed::Word(words) = key.allowed else { return None };
        nearest(self.value?.as_str()?, words.iter().copied()).map(str::to_owned)
    }
}

/// The keys that a table of the policy may have, tables among them.
fn keys_of(table: &str) -> Vec<&'static str> {
    let mut known = Vec::new();
    for section in SECTIONS {
        if section.name == table {
            known.extend(section.keys.iter().map(|key| key.name).filter(|name| *name != ANY));
        }
        let below = if table.is_empty() {
            Some(section.name)
        } else {
            section.name.strip_prefix(table).and_then(|rest| rest.strip_prefix('.'))
        };
        known.extend(below.and_then(|below| below.split('.').next()).filter(|name| !name.is_empty()));
    }
    known.sort_unstable();
    known.dedup();
    known
}

/// Whether it is a word in backticks.
fn is_quoted(text: &str) -> bool {
    let word = text.strip_prefix('`').and_then(|text| text.strip_suffix('`'));
    word.is_some_and(|word| !word.is_empty() && !word.contains('`'))
}

#[cfg(test)]
mod tests {
    use reputation::policy::Policy;

    use super::*;

    fn fault(toml: &str) -> PolicyFault {
        PolicyFault::of(toml, Policy::from_toml(toml).unwrap_err())
    }

    #[test]
    fn a_fault_names_its_place_and_what_was_probably_meant() {
        let check = |toml: &str, expected: Option<(u32, u32)>, meant: Option<&str>, says: &str| {
            let fault = fault(toml);
            assert_eq!(fault.line.zip(fault.column), expected, "{toml}: {fault}");
            assert_eq!(fault.nearest.as_deref(), meant, "{toml}: {fault}");
            assert!(fault.to_string().contains(says), "{toml}: {fault}");
        };
        // Keys that do not exist.
        check("[warmup.plan]\nstart = 50\n  growht = 2\n", Some((3, 3)), Some("growth"), "unknown field `growht`");
        check("mode = \"act\"\nbraker.open_minutes = 5", Some((2, 1)), Some("breaker"), "`braker`");
        check("breaker.open_minuts = 5", Some((1, 9)), Some("open_minutes"), "`breaker.open_minuts`");
        check("[metric.delay]\nlimit = 0.1\n", Some((1, 2)), Some("metrics"), "`metric`");
        check("[metrics.delays]\nlimit = 0.1\n", Some((1, 10)), Some("delay"), "`metrics.delays`");
        check("[warmup]\n[warmup.plans]\n", Some((2, 9)), Some("plan"), "`warmup.plans`");
        check("[warmup.sets.\"a-b\"]\ntarge = 5\n", Some((2, 1)), Some("target"), "`warmup.sets.a-b.targe`");
        check("# ä\n[[ratios]]\n\"ä\" = 1\n", Some((3, 1)), None, "unknown field `ä`");
        // In the wrong table; a name that several tables have is not enough.
        check("open_minutes = 5", Some((1, 1)), Some("breaker.open_minutes"), "`open_minutes`");
        check("[gate]\ntarget = 5", Some((2, 1)), Some("warmup.plan.target"), "`gate.target`");
        check("[gate]\nlimit = 5", Some((2, 1)), None, "`gate.limit`");
        check("[gate]\nfoo = 1", Some((2, 1)), None, "expected one of `in_use`, `lease_seconds`");
        // Values.
        check("mode = \"shadwo\"", Some((1, 1)), Some("shadow"), "expected `act` or `shadow`");
        check("mode = 'x'", Some((1, 1)), None, "expected `act` or `shadow`");
        check("mode = 5", Some((1, 1)), None, "`mode`");
        check("[breaker]\nopen_minutes = 0", Some((2, 1)), None, "`breaker.open_minutes` is 0; allowed");
        check("[warmup.plan]\ntarget = 10", Some((1, 9)), None, "`warmup.plan.start` is 50; allowed");
        check("subjects.tags = [\"a\", \"a\"]", Some((1, 23)), None, "each tag once");
        let many = format!("[subjects]\ntags = [{}]", "'a', ".repeat(21));
        check(&many, Some((2, 1)), None, "their number");
        check("[isps]\n'a.example' = 'a'\n'b.example' = 'B!'\n", Some((3, 1)), None, "`B!`");
        check("[isps]\n'*.*' = 'a'\n", Some((2, 1)), None, "`*.*`");
        check("[[ratios]]\nwarn = 1\n", Some((1, 1)), None, "missing field");
        check("[warmup.sets.\"a.b\"]\n", Some((1, 14)), None, "the name of a configuration set");
        // Not TOML.
        check("mode = \n", Some((1, 8)), None, "line 1, column 8: the policy is not valid TOML: ");
        check("a = 1\na = 2", Some((2, 1)), None, "not valid TOML: duplicate key");
    }

    #[test]
    fn the_content_of_a_file_that_is_not_a_policy_is_not_shown() {
        for text in ["password: hunter2\n", "AWS_SECRET = hunter2\n", "{\"hunter2\": 1}"] {
            let fault = fault(text);
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn every_key_of_the_default_policy_is_a_known_one() {
        let own = DeTable::parse(reputation::policy::DEFAULT_TOML).unwrap();
        for (name, _) in own.get_ref().iter() {
            assert!(keys_of("").contains(&name.get_ref().as_ref()), "{name:?}");
        }
        assert_eq!(keys_of("metrics"), ["block", "complaint", "delay", "hard_bounce"]);
        assert!(keys_of("warmup").contains(&"zone") && keys_of("warmup").contains(&"sets"));
    }
}
