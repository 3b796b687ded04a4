//! Sets the quota of each configuration set at each ISP when a day begins there.

use std::collections::BTreeMap;

use aws::clients::Clients;
use aws::config::{self, ConfigError};
use aws::metrics::{Metric, Metrics};
use aws::policies::{Policies, PolicyInUse};
use aws::quotas::DynamoQuotas;
use aws::reputation::DynamoReputation;
use pipeline::ports::{PortError, Quota};
use pipeline::quotas::plan_set;
use reputation::isp::Isp;
use reputation::time::Now;
use serde::Deserialize;

/// What wakes the planner of warm-ups: the hour.
#[derive(Debug, Deserialize)]
pub struct WarmupWake {
    /// `hour`.
    #[serde(default)]
    pub tick: Option<String>,
}

/// Closes days that are over, and plans the quotas of the new ones. The gate does the same at the first request of a day; this
/// is for sets and ISPs without requests.
#[derive(Debug)]
pub struct Warmup {
    policy: PolicyInUse,
    store: DynamoReputation,
    quotas: DynamoQuotas,
    metrics: Metrics,
}

impl Warmup {
    /// As the environment says.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    pub fn from_env(clients: &Clients) -> Result<Warmup, ConfigError> {
        // As in the gate: both must close a day with the same result.
        Ok(Warmup::new(clients, &config::required("REPUTATION_TABLE")?, true))
    }

    /// Over this table.
    pub fn new(clients: &Clients, table: &str, gate_in_use: bool) -> Warmup {
        let policy = reputation::Policy::default();
        Warmup {
            policy: PolicyInUse::new(Policies::new(clients.dynamodb(), table), gate_in_use),
            store: DynamoReputation::new(clients.dynamodb(), table, &policy),
            quotas: DynamoQuotas::new(clients.dynamodb(), table, policy.isp_map),
            metrics: Metrics::new(config::stack()),
        }
    }

    /// Plans what is to be planned, set by set. `in_time` says whether there is time for more; what is left over is for the
    /// next hour. Returns what was planned.
    ///
    /// # Errors
    ///
    /// The policy is not known, or some set could not be planned; the others are. Wake it again.
    pub async fn handle(
        &mut self,
        wake: &WarmupWake,
        now: Now,
        mut in_time: impl FnMut() -> bool,
    ) -> Result<BTreeMap<(String, Isp), Quota>, PortError> {
        let (known, changed) = self.policy.get().await?;
        if changed {
            self.store.set_policy(&known.policy);
            self.quotas.set_isps(known.policy.isp_map.clone());
        }
        if wake.tick.as_deref() != Some("hour") {
            tracing::warn!(tick = wake.tick, "not woken by the hour; planning all the same");
        }
        let policy = &known.policy;
        let before = self.quotas.write_units();
        let mut planned = BTreeMap::new();
        let mut failed = None;
        for set in policy.warmup.sets.keys() {
            if !in_time() {
                tracing::warn!(set, "no time is left; this set and those after it are for the next hour");
                break;
            }
            let planned_set = plan_set(policy, &mut self.store, &self.quotas, set, now).await;
            if let Some(error) = self.quotas.take_unreadable() {
                tracing::error!(%error, set, "a quota cannot be read and stays as it is");
                failed = Some(error.into());
            }
            match planned_set {
                Ok(quotas) => planned.extend(quotas.into_iter().map(|(isp, quota)| ((set.clone(), isp), quota))),
                Err(error) => {
                    tracing::error!(%error, set, "not planned");
                    failed = Some(error);
                }
            }
        }
        for ((set, isp), quota) in &planned {
            let (isp, step) = (policy.isp_map.name(*isp), quota.ramp.step.to_string());
            tracing::info!(set, isp, quota = quota.ramp.quota, step, "planned");
        }
        self.metrics.emit(
            now,
            &[
                (Metric::QuotasPlanned, planned.len() as f64),
                (Metric::WriteUnits, self.quotas.write_units() - before),
                (Metric::PolicyInvalid, f64::from(known.problem.is_some())),
            ],
        );
        failed.map_or(Ok(planned), Err)
    }
}
