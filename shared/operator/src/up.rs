//! From nothing to a stack that gets events: deploys it, connects configuration sets, waits for the first event, and examines
//! the result. Each part is a verb of its own, too.

use std::collections::BTreeSet;
use std::time::Duration;

use reputation::policy::Mode;
use reputation::time::Now;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use toml_edit::{DocumentMut, value};

use crate::asking::Asking;
use crate::connect::{self, Connected};
use crate::doctor::examine::Severity;
use crate::doctor::{self, Diagnosis};
use crate::failure::Failure;
use crate::policies::{self, Push};
use crate::stack::deploy::{self, Deployed, deploy};
use crate::{Access, Exit};

/// What to do.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// The stack.
    pub deploy: deploy::Order,
    /// Configuration sets to connect.
    pub sets: Vec<String>,
    /// Connect all configuration sets instead.
    pub all: bool,
    /// End the shadow.
    pub act: bool,
    /// How long to wait for the first event.
    pub wait: Duration,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Up {
    /// The stack.
    pub deployed: Deployed,
    /// The configuration sets; null if none were named.
    pub connected: Option<Connected>,
    /// Whether events have arrived; null if nothing was waited for.
    pub heard: Option<bool>,
    /// The policy that ends the shadow, if that was asked for.
    pub acting: Option<Push>,
    /// Whether the stack only reports.
    pub shadow: bool,
    /// Its faults. Null in a dry run.
    pub diagnosis: Option<Diagnosis>,
    /// How long it took.
    pub seconds: u64,
    /// What to do next: a sentence, with a command at its end.
    pub next: Vec<String>,
}

impl Up {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        let faulty = if self.has_faults() { Exit::No } else { Exit::Done };
        let parts = [self.connected.as_ref().map(Connected::exit), self.acting.as_ref().map(Push::exit)];
        parts.into_iter().flatten().fold(faulty, Exit::max)
    }

    /// Whether the doctor found faults, other than those of configuration sets that were left out on purpose.
    fn has_faults(&self) -> bool {
        let connected = self.connected.iter().flat_map(|connected| &connected.configuration_sets);
        let asked: BTreeSet<String> = connected.map(|set| format!("configuration-set:{}", set.name)).collect();
        let left_out = |subject: &str| subject.starts_with("configuration-set:") && !asked.contains(subject);
        let findings = self.diagnosis.iter().flat_map(|diagnosis| &diagnosis.findings);
        findings.filter(|finding| finding.severity == Severity::Fault).any(|finding| !left_out(&finding.subject))
    }
}

/// Does all of it.
///
/// # Errors
///
/// A part of it fails. What was done before stays, and running it again continues from there.
pub async fn up(access: &Access, order: &Order, now: Now, asking: &Asking<'_>) -> Result<Up, Failure> {
    let began = Instant::now();
    let clock = || Now(now.0 + i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX));
    let deployed = deploy(access, &order.deploy, asking).await?;
    let mut up = Up {
        deployed,
        connected: None,
        heard: None,
        acting: None,
        shadow: true,
        diagnosis: None,
        seconds: 0,
        next: Vec::new(),
    };
    if order.deploy.dry_run {
        return Ok(up);
    }
    (asking.line)(&format!("stack {}: {}", access.stack, word_of(up.deployed.outcome)));
    if order.all || !order.sets.is_empty() {
        let sets = connect::Order { sets: order.sets.clone(), all: order.all, ..connect::Order::default() };
        let connected = connect::connect(access, &sets, asking.progress).await?;
        (asking.line)(&format!(
            "{} of {} configuration sets connected",
            connected.count(),
            connected.configuration_sets.len()
        ));
        up.heard = Some(heard(access, order.wait, order.deploy.pace, asking).await?);
        up.connected = Some(connected);
    }
    if order.act {
        up.acting = Some(act(access, clock(), asking).await?);
    }
    up.shadow = access.policy().await?.policy.mode == Mode::Shadow;
    up.diagnosis = Some(doctor::doctor(access, clock(), asking.progress).await?);
    up.seconds = began.elapsed().as_secs();
    up.next = next(access, order, &up);
    Ok(up)
}

fn word_of(outcome: deploy::Outcome) -> &'static str {
    match outcome {
        deploy::Outcome::Created => "created",
        deploy::Outcome::Updated => "updated",
        deploy::Outcome::Unchanged => "as it should be",
    }
}

/// Waits until the stack has recorded an event.
async fn heard(access: &Access, wait: Duration, pace: Duration, asking: &Asking<'_>) -> Result<bool, Failure> {
    let policy = access.policy().await?.policy;
    let store = access.reputation(&policy);
    let deadline = Instant::now() + wait;
    loop {
        let directory = store.directory().await.map_err(|error| access.refused(error))?;
        if !directory.is_empty() {
            return Ok(true);
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok(false);
        }
        let left = (deadline - now).as_secs();
        (asking.progress)(
            0,
            0,
            &format!("waiting up to {left} s for the first event: send a mail with a connected set"),
        );
        sleep(pace.min(deadline - now)).await;
    }
}

/// Makes the policy in use one that acts, with all else as it is.
async fn act(access: &Access, now: Now, asking: &Asking<'_>) -> Result<Push, Failure> {
    let current = access.policies().current().await.map_err(|error| access.refused(error))?;
    let toml = acting(current.as_ref().map_or("", |current| current.toml.as_str()));
    policies::push(access, "the policy in use, with mode = \"act\"", &toml, false, now, asking).await
}

/// A policy with `mode = "act"`. One that cannot be read stays as it is: the push then says why.
fn acting(toml: &str) -> String {
    let Ok(mut document) = toml.parse::<DocumentMut>() else { return toml.to_owned() };
    document["mode"] = value("act");
    document.to_string()
}

/// What a person does next.
fn next(access: &Access, order: &Order, up: &Up) -> Vec<String> {
    let stack = match access.stack.as_str() {
        "ses-breaker" => String::new(),
        other => format!(" --stack {other}"),
    };
    let mut next = Vec::new();
    let given = order.deploy.parameters.iter();
    if given.clone().any(|(name, value)| name == "AlertEmail" && !value.is_empty())
        && up.deployed.outcome != deploy::Outcome::Unchanged
    {
        next.push(
            "Confirm the subscription that AWS has sent to your address for alerts; until then no alert arrives."
                .to_owned(),
        );
    }
    if up.connected.is_none() {
        next.push(format!(
            "Let SES publish its events, and see first what that changes: ses-breaker connect --all --dry-run{stack}"
        ));
    }
    if up.heard == Some(false) {
        next.push(format!(
            "No event has arrived yet. Send a mail with a connected set, and look: ses-breaker status{stack}"
        ));
    }
    next.push(format!("See what happens, live: ses-breaker dashboard{stack}"));
    if up.shadow {
        next.push(format!(
            "It reports and does nothing else. When its reports convince you: ses-breaker up --act{stack}"
        ));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acting_keeps_what_a_policy_says_otherwise() {
        assert_eq!(acting(""), "mode = \"act\"\n");
        let policy = "# ours\nmode = \"shadow\" # for now\n\n[breaker]\npause_minutes = 20\n";
        assert_eq!(acting(policy), "# ours\nmode = \"act\"\n\n[breaker]\npause_minutes = 20\n");
        assert_eq!(acting("[breaker]\npause_minutes = 20\n"), "mode = \"act\"\n[breaker]\npause_minutes = 20\n");
        assert_eq!(acting("not toml ["), "not toml [");
    }
}
