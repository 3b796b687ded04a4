//! Makes controls true at SES and keeps them true, one call a second; sends alerts to people and events to programs.
//!
//! If a table fails, the invocation fails as a whole and Lambda brings the same work again: everything here is safe to repeat.

use std::time::Duration;

use aws::alerts::SnsAlerts;
use aws::clients::Clients;
use aws::config::{self, ConfigError};
use aws::invocation::gate_in_use;
use aws::layout::StackParameters;
use aws::metrics::{Metric, Metrics};
use aws::policies::{Policies, PolicyInUse};
use aws::quotas::DynamoQuotas;
use aws::reputation::DynamoReputation;
use aws::ses::{SesControl, Signature};
use pipeline::dedicated_ips::{self, MirrorOutcome};
use pipeline::digest::{Digest, find};
use pipeline::enforce::{EnforceOutcome, Enforced, Invocation, Next, enforce};
use pipeline::notice::{Notice, Outbox as _, deliver};
use pipeline::ports::PortError;
use reputation::time::Now;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What wakes the enforcer: a new desired state or notice (it looks at all of them, not only at the new one), or the time to
/// reconcile.
#[derive(Debug, Deserialize)]
pub struct EnforcerWake {
    /// Records of the reputation table's stream.
    #[serde(default, rename = "Records")]
    pub records: Option<Vec<IgnoredAny>>,
    /// `reconcile`.
    #[serde(default)]
    pub tick: Option<String>,
}

/// Makes desired states true at SES, keeps them true, and sends alerts.
#[derive(Debug)]
pub struct Enforcer {
    policy: PolicyInUse,
    store: DynamoReputation,
    ses: SesControl,
    /// What the template lets it switch, until that is noted.
    parameters: Option<StackParameters>,
    quotas: DynamoQuotas,
    /// The percentages of dedicated IPs that are known to be so.
    mirrored: dedicated_ips::Known,
    /// The last day of which the digest is known to be in the outbox.
    digested: Option<i32>,
    alerts: SnsAlerts,
    metrics: Metrics,
}

/// Lets dedicated IPs follow their ramps. Nothing hangs on it that could not wait for the next tick.
async fn warm_dedicated_ips(
    policy: &reputation::Policy,
    quotas: &DynamoQuotas,
    ses: &mut SesControl,
    known: &mut dedicated_ips::Known,
    calls: usize,
) {
    match dedicated_ips::mirror(policy, quotas, ses, known, calls).await {
        Ok(done) => {
            for dedicated_ips::Mirrored { ip, set, percent, outcome } in done {
                match outcome {
                    MirrorOutcome::Was => {}
                    MirrorOutcome::Set(before) => tracing::info!(%ip, set, percent, before, "warmed up"),
                    MirrorOutcome::Managed | MirrorOutcome::Unknown | MirrorOutcome::Denied(_) => {
                        tracing::warn!(%ip, set, percent, ?outcome, "this dedicated IP does not follow its ramp");
                    }
                }
            }
        }
        Err(error) => tracing::warn!(%error, "dedicated IPs are left for the next tick"),
    }
}

/// Once a day, from the policy's hour on, puts the digest of the day before into the outbox. Returns the last day of which that
/// was looked at.
async fn digest_of_the_day(
    policy: &reputation::Policy,
    store: &mut DynamoReputation,
    quotas: &DynamoQuotas,
    digested: Option<i32>,
    now: Now,
) -> Result<Option<i32>, PortError> {
    let zone = &policy.warmup.zone;
    let today = zone.day_at(now).number;
    let due = policy.alerts.digest_hour.is_some_and(|hour| zone.hour_at(now) >= hour);
    if !due || digested == Some(today) {
        return Ok(digested);
    }
    let found = find(policy, store, quotas, now).await?;
    let digest = Digest::of(policy, &found);
    if digest.has_mail() {
        store.put(&Notice::of_digest(&digest, found.day, now)).await?;
    }
    Ok(Some(today))
}

/// Seconds that a call of SES takes at the pace it allows, and a little more.
const CALL: Duration = Duration::from_millis(1_500);
/// Calls for dedicated IPs, for which a reconcile leaves the time.
const MIRROR_CALLS: u32 = 20;
/// Waits between rounds while SES is not busy: the shortest, and the longest, as a new stop may have to wait for it.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

impl Enforcer {
    /// As the environment says.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    pub fn from_env(clients: &Clients) -> Result<Enforcer, ConfigError> {
        let (table, topic) = (config::required("REPUTATION_TABLE")?, config::required("ALERT_TOPIC_ARN")?);
        let (bus, chat) = (config::required("EVENT_BUS_NAME")?, config::optional("CHAT_TOPIC_ARN")?);
        // The topic is of this partition, Region and account, as the configuration sets are.
        let signature = Signature::new(&config::stack(), &topic);
        let alerts = SnsAlerts::new(clients, Some(topic), Some(bus)).with_chat(clients, chat);
        let alerts = alerts.with_runbook(&config::optional("RUNBOOK_URL")?.unwrap_or_default());
        let gate = gate_in_use()?;
        let parameters = StackParameters {
            account: config::flag("MAY_PAUSE_ACCOUNT")?,
            tenants: config::flag("MAY_PAUSE_TENANTS")?,
            gate: Some(gate),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        };
        Ok(Enforcer::new(clients, &table, alerts, gate).signing(signature).noting(parameters))
    }

    /// Over this table, with these alerts. It leaves no marks at SES.
    pub fn new(clients: &Clients, table: &str, alerts: SnsAlerts, gate_in_use: bool) -> Enforcer {
        Enforcer {
            policy: PolicyInUse::new(Policies::new(clients.dynamodb(), table), gate_in_use),
            store: DynamoReputation::new(clients.dynamodb(), table, &reputation::Policy::default()),
            ses: SesControl::new(clients),
            parameters: None,
            quotas: DynamoQuotas::new(clients.dynamodb(), table, reputation::IspMap::builtin()),
            mirrored: dedicated_ips::Known::new(),
            digested: None,
            alerts,
            metrics: Metrics::new(config::stack()),
        }
    }

    /// The same, leaving marks at SES.
    #[must_use]
    pub fn signing(self, signature: Option<Signature>) -> Enforcer {
        Enforcer { ses: self.ses.signing(signature), ..self }
    }

    /// The same, noting the stack's parameters in the table.
    #[must_use]
    pub fn noting(self, parameters: StackParameters) -> Enforcer {
        Enforcer { parameters: Some(parameters), ..self }
    }

    /// Makes true at SES what it can within `left`, and sends the alerts that are due.
    ///
    /// # Errors
    ///
    /// Something is left to do: wake it again.
    pub async fn handle(
        &mut self,
        wake: &EnforcerWake,
        left: Duration,
        now: impl Fn() -> Now,
    ) -> Result<Vec<Enforced>, PortError> {
        let (begun, begun_at) = (tokio::time::Instant::now(), now());
        let deadline = begun + left;
        // Waiting makes notices older even on a clock that stands still, which is that of a test.
        let clock = || now().max(Now(begun_at.0 + begun.elapsed().as_millis() as i64));
        let (known, changed) = self.policy.get().await?;
        if changed {
            self.store.set_policy(&known.policy);
        }
        if let Some(parameters) = &self.parameters {
            match self.store.note_parameters(parameters.clone()).await {
                Ok(()) => self.parameters = None,
                Err(error) => tracing::warn!(%error, "the operator cannot see the stack's parameters"),
            }
        }
        let mut done: Vec<Enforced> = Vec::new();
        let mut sent = 0;
        let (shortest, longest) = WAITS;
        // Looking whether all is still true leaves time for dedicated IPs.
        let has_mirrors = wake.tick.is_some() && !known.policy.warmup.mirrors.is_empty();
        let reserved = if has_mirrors { CALL * MIRROR_CALLS } else { Duration::ZERO };
        let mut invocation = Invocation::new(wake.tick.is_some(), clock());
        let mut is_busy = false;
        let unfinished = loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let calls = left.saturating_sub(reserved).as_millis() / CALL.as_millis();
            let Some(round) = invocation.round(calls as usize, clock()) else {
                break Some("no time is left for all that is to be done".to_owned());
            };
            let round = enforce(&known.policy, &mut self.store, &mut self.ses, round, clock).await?;
            // SES first, alerts second: the stop is more urgent.
            let delivered = deliver(&known.policy, &mut self.store, &mut self.alerts, clock()).await?;
            sent += delivered.messages;
            for (notice, error) in &delivered.refused {
                tracing::error!(notice, %error, "a notice cannot be sent; it stays in the table");
            }
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let next = invocation.after(&round, clock());
            done.extend(round.enforced);
            is_busy = matches!(next, Next::Busy(..));
            let (pause, reason) = match (next, delivered.wait) {
                (Next::Round, _) => continue,
                (Next::Busy(wait, reason), others) => (others.map_or(wait, |others| others.min(wait)), Some(reason)),
                // One that is not due in this invocation is for the next tick. What was decided together is sent together, so
                // the newest notices wait for a moment.
                (Next::Retry(wait), others) if wait < left => {
                    (others.map_or(wait, |others| others.min(wait)).clamp(shortest, longest), None)
                }
                (Next::Retry(_) | Next::Done, Some(others)) => (others.clamp(shortest, longest), None),
                (Next::Retry(_) | Next::Done, None) => break None,
            };
            if pause >= left {
                // Notices that are so new ring for themselves.
                break reason;
            }
            tokio::time::sleep(pause).await;
        };
        let mut made = 0;
        let mut failed = 0;
        for Enforced { target, outcome, .. } in &done {
            let subject = target.to_string();
            match outcome {
                EnforceOutcome::Confirmed => {}
                EnforceOutcome::Made(flow) => {
                    made += 1;
                    tracing::info!(subject, ?flow, "made true");
                }
                EnforceOutcome::PersonStopped
                | EnforceOutcome::PersonResumed
                | EnforceOutcome::OtherStack(_)
                | EnforceOutcome::Gone => {
                    tracing::info!(subject, ?outcome, "accepted");
                }
                EnforceOutcome::Doubted(_) => tracing::info!(subject, ?outcome, "to be looked at again"),
                EnforceOutcome::Denied(_)
                | EnforceOutcome::Failed(_)
                | EnforceOutcome::Throttled(_)
                | EnforceOutcome::Later(_) => {
                    failed += 1;
                    tracing::warn!(subject, ?outcome, "not made true yet");
                }
            }
        }
        self.metrics.emit(
            now(),
            &[
                (Metric::ControlsMade, f64::from(made)),
                (Metric::ControlsFailed, f64::from(failed)),
                (Metric::AlertsSent, sent as f64),
                (Metric::ItemsUnreadable, self.store.take_unreadable().len() as f64),
                (Metric::PolicyInvalid, f64::from(known.problem.is_some())),
            ],
        );
        if wake.tick.is_some() && !is_busy {
            let time = deadline.saturating_duration_since(tokio::time::Instant::now());
            let calls = ((time.as_millis() / CALL.as_millis()) as usize).min(MIRROR_CALLS as usize);
            self.quotas.set_isps(known.policy.isp_map.clone());
            warm_dedicated_ips(&known.policy, &self.quotas, &mut self.ses, &mut self.mirrored, calls).await;
        }
        // Also where SES is busy: it is asked nothing for this.
        if wake.tick.is_some() {
            self.quotas.set_isps(known.policy.isp_map.clone());
            // Sent once the stream reports its entry in the outbox, as every notice is.
            match digest_of_the_day(&known.policy, &mut self.store, &self.quotas, self.digested, clock()).await {
                Ok(day) => self.digested = day,
                Err(error) => tracing::warn!(%error, "the digest is left for the next tick"),
            }
        }
        match unfinished {
            // The next tick looks at everything anyway.
            Some(reason) if wake.tick.is_none() => {
                Err(PortError { operation: "enforcing", reason, disposition: pipeline::Disposition::Retry })
            }
            Some(_) | None => Ok(done),
        }
    }
}
