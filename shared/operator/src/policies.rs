//! The policy of a stack: show, check and push.

use std::collections::{BTreeMap, BTreeSet};

use aws::policies::{Pushed, StoredPolicy};
use pipeline::control::stops_at_ses;
use pipeline::evaluate::waiting;
use pipeline::ports::Reputation as _;
use pipeline::wording::key_name;
use reputation::breaker::State;
use reputation::policy::{DEFAULT_TOML, Mode, Policy};
use reputation::subject::Key;
use reputation::time::Now;
use serde::Serialize;
use terminal::PolicyFault;
use toml::{Table, Value};

use crate::asking::{ActsOn, Asking, Confirmed, Question};
use crate::failure::Failure;
use crate::policy_file::parsed;
use crate::{Access, Exit};

/// A policy with its version.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// 0 is the built-in default.
    pub version: u64,
    /// When it was pushed (RFC 3339); null for the default.
    pub at: Option<String>,
    /// Who pushed it.
    pub by: Option<String>,
    /// Why it is not in use, if it is not valid.
    pub problem: Option<String>,
    /// The differences from the default, in TOML; for the default, all of it.
    pub toml: String,
}

/// The built-in policy, explained. Needs no stack.
pub fn show_default() -> Shown {
    Shown { version: 0, at: None, by: None, problem: None, toml: DEFAULT_TOML.to_owned() }
}

/// The current policy, or an earlier version of it.
///
/// # Errors
///
/// There is no such version, or AWS refuses.
pub async fn show(access: &Access, version: Option<u64>) -> Result<Shown, Failure> {
    let policies = access.policies();
    let refused = |error| access.refused(error);
    let stored = match version {
        None => policies.current().await.map_err(refused)?,
        Some(version) => match policies.version(version).await.map_err(refused)? {
            Some(stored) => Some(stored),
            None => {
                let current = policies.current().await.map_err(refused)?.map_or(0, |current| current.version);
                let stack = access.stack.clone();
                return Err(Failure::UnknownVersion { version, stack, current });
            }
        },
    };
    let Some(StoredPolicy { version, toml, at, by }) = stored else {
        return Ok(Shown { version: 0, at: None, by: None, problem: None, toml: String::new() });
    };
    let problem = Policy::from_toml(&toml).err().map(|error| PolicyFault::of(&toml, error).to_string());
    Ok(Shown { version, at: Some(at.to_string()), by: Some(by), problem, toml })
}

/// The result of a push.
#[derive(Clone, Debug, Serialize)]
pub struct Push {
    /// Name of the file.
    pub file: String,
    /// The current version before; 0 is the built-in default.
    pub from: u64,
    /// The current version now; in a dry run, the one that would be.
    pub to: u64,
    /// Nothing was pushed.
    pub dry_run: bool,
    /// See [`Outcome`].
    pub outcome: Outcome,
    /// What it changes, by key.
    pub changes: Vec<KeyChange>,
    /// If the push ends the shadow of the stack or of part of it: what would be acted on at once. Null otherwise.
    pub acts_on: Option<Vec<ActsOn>>,
}

impl Push {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        if self.outcome == Outcome::Conflict { Exit::No } else { Exit::Done }
    }
}

/// The outcome of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is the current policy now; in a dry run, it would be.
    Pushed,
    /// It was already the current policy, with the same text.
    Unchanged,
    /// Another person pushed one meanwhile.
    Conflict,
}

/// One key of a policy whose value changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// Its path.
    pub key: String,
    /// Its value before, in TOML; null if there was none.
    pub from: Option<String>,
    /// Its value after; null if there is none.
    pub to: Option<String>,
}

/// Makes a policy the current one, unless another person was faster. If it ends the stack's shadow, this
/// lists what would be acted on at once, and asks first.
///
/// # Errors
///
/// The policy is not valid, AWS refuses, or the answer was not yes: nothing was pushed.
pub async fn push(
    access: &Access,
    file: &str,
    toml: &str,
    dry_run: bool,
    now: Now,
    asking: &Asking<'_>,
) -> Result<Push, Failure> {
    let policy = parsed(file, toml)?.in_stack();
    let current = access.policies().current().await.map_err(|error| access.refused(error))?;
    let mut push = tried(current.as_ref(), file, toml);
    let before = access.policy().await?.policy;
    let acts_on = acts_on(access, &before, &policy, now).await?;
    if !acts_on.is_empty() || (policy.mode == Mode::Act && before.mode == Mode::Shadow) {
        push.acts_on = Some(acts_on);
    }
    if !dry_run {
        if let Some(acts_on) = &push.acts_on {
            match (asking.confirm)(&Question::Act { stack: &access.stack, acts_on }) {
                Confirmed::Yes => {}
                Confirmed::No => return Err(Failure::Declined),
                Confirmed::Nobody => return Err(Failure::UnconfirmedPush),
            }
        }
        push = Push { acts_on: push.acts_on, ..push_onto(access, current.as_ref(), file, toml, now).await? };
    }
    Ok(push)
}

/// What a policy acts on at once and the one before does not.
async fn acts_on(access: &Access, before: &Policy, policy: &Policy, now: Now) -> Result<Vec<ActsOn>, Failure> {
    let board = access.reputation(policy).board(now).await.map_err(|error| access.refused(error))?;
    // Whether the stack has a gate is not known here; what only a gate would hold back is marked as such.
    let (before, with_gate) = (before.clone().in_world(true), policy.clone().in_world(true));
    let known: BTreeSet<&Key> = waiting(&before, &board).into_iter().map(|(key, _)| key).collect();
    let acts_on =
        waiting(&with_gate, &board).into_iter().filter(|(key, _)| !known.contains(key)).map(|(key, known)| ActsOn {
            key: key_name(key, &policy.isp_map),
            state: known.state.name(),
            at_ses: stops_at_ses(key) && matches!(known.state, State::Open { .. }),
        });
    let mut acts_on: Vec<ActsOn> = acts_on.collect();
    acts_on.sort_by_key(|acts_on| (!acts_on.at_ses, acts_on.key.clone()));
    Ok(acts_on)
}

/// What a push onto `current` would do.
fn tried(current: Option<&StoredPolicy>, file: &str, toml: &str) -> Push {
    let (from, before) = current.map_or((0, ""), |current| (current.version, current.toml.as_str()));
    let changes = changes(before, toml);
    let unchanged = current.is_some() && before == toml;
    let (to, outcome) = if unchanged { (from, Outcome::Unchanged) } else { (from + 1, Outcome::Pushed) };
    Push { file: file.to_owned(), from, to, dry_run: true, outcome, changes, acts_on: None }
}

/// Pushes a valid policy onto `current`, unless another person pushed one since that was read.
///
/// # Errors
///
/// AWS refuses.
pub(crate) async fn push_onto(
    access: &Access,
    current: Option<&StoredPolicy>,
    file: &str,
    toml: &str,
    now: Now,
) -> Result<Push, Failure> {
    let mut push = Push { dry_run: false, ..tried(current, file, toml) };
    if push.outcome == Outcome::Unchanged {
        return Ok(push);
    }
    let by = access.who().await;
    let pushed = access.policies().push(toml, push.from, &by, now).await.map_err(|error| access.refused(error))?;
    (push.to, push.outcome) = match pushed {
        Pushed::Pushed(version) => (version, Outcome::Pushed),
        Pushed::Conflict => (push.from, Outcome::Conflict),
    };
    Ok(push)
}

/// The differences between two policies, by key. Keys that they leave out have their value in a stack: shadow, and the default
/// otherwise. Text that is not TOML (only a stored policy can be) counts as the default, which replaces it.
fn changes(before: &str, after: &str) -> Vec<KeyChange> {
    let (before, after) = (values(before), values(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |key: &String| {
        let (from, to) = (before.get(key).cloned(), after.get(key).cloned());
        (from != to).then(|| KeyChange { key: key.clone(), from, to })
    };
    keys.into_iter().filter_map(change).collect()
}

/// Every value of a policy as TOML, by the path of its key.
fn values(toml: &str) -> BTreeMap<String, String> {
    let parsed = |text: &str| text.parse::<Table>().unwrap_or_default();
    // A policy replaces lists as a whole, so they are merged before they are flattened.
    let mut leaves = BTreeMap::new();
    for table in [parsed(DEFAULT_TOML), parsed("mode = \"shadow\""), parsed(toml)] {
        flatten("", &table, &mut leaves);
    }
    let mut values = BTreeMap::new();
    for (path, value) in leaves {
        match value {
            Value::Array(rows) if rows.iter().any(Value::is_table) => {
                for (index, row) in rows.into_iter().enumerate() {
                    let mut cells = BTreeMap::new();
                    if let Value::Table(row) = row {
                        flatten(&format!("{path}[{index}]"), &row, &mut cells);
                    }
                    values.extend(cells.into_iter().map(|(path, value)| (path, shown(&value))));
                }
            }
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::Table(_) => {
                values.insert(path, shown(&value));
            }
        }
    }
    values
}

fn flatten(path: &str, table: &Table, leaves: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let key = if bare { key.clone() } else { format!("{key:?}") };
        let path = if path.is_empty() { key } else { format!("{path}.{key}") };
        match value {
            Value::Table(inner) => flatten(&path, inner, leaves),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_) => {
                leaves.insert(path, value.clone());
            }
        }
    }
}

/// A value in TOML, on one line. In a policy, `8` and `8.0` mean the same.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(moment) => moment.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let pairs: Vec<String> = table.iter().map(|(key, value)| format!("{key} = {}", shown(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_a_policy_are_listed_by_key_with_both_values() {
        let check = |before: &str, after: &str, expected: &[(&str, Option<&str>, Option<&str>)]| {
            let found = changes(before, after);
            let found: Vec<_> = found
                .iter()
                .map(|change| (change.key.as_str(), change.from.as_deref(), change.to.as_deref()))
                .collect();
            assert_eq!(found, expected);
        };
        check("", "", &[]);
        check("", "# only a comment\nmode = \"shadow\"", &[]);
        check("", "mode = \"act\"", &[("mode", Some("\"shadow\""), Some("\"act\""))]);
        // A key that a policy no longer sets falls back to the default.
        check("[breaker]\nopen_minutes = 5", "", &[("breaker.open_minutes", Some("5"), Some("30"))]);
        check("", "[isps]\n\"example.com\" = \"ex\"", &[("isps.\"example.com\"", None, Some("\"ex\""))]);
        check("", "[metrics.hard_bounce]\nthrottle = 8\n", &[]);
        check("", "[subjects]\ntags = [\"campaign\"]", &[("subjects.tags", Some("[]"), Some("[\"campaign\"]"))]);
        check("no TOML", "", &[]);
    }

    #[test]
    fn ratio_rules_are_replaced_as_a_whole_and_listed_one_by_one() {
        let one =
            "[[ratios]]\nmetric = \"complaint\"\nwindow_hours = 24\nmin_population = 1\nmin_bad = 1\nwarn = 0.5\n";
        let found = changes(one, &one.replace("0.5", "0.4"));
        let from_to = |change: &KeyChange| (change.key.clone(), change.from.clone(), change.to.clone());
        assert_eq!(
            found.iter().map(from_to).collect::<Vec<_>>(),
            [("ratios[0].warn".to_owned(), Some("0.5".to_owned()), Some("0.4".to_owned()))]
        );
        assert!(changes("", one).iter().any(|change| change.key == "ratios[3].metric" && change.to.is_none()));
    }
}
