//! Folds new units of the ledger into rates, judges the subjects that they may have harmed, and steps breakers.
//!
//! If a table fails, the invocation fails as a whole and Lambda brings the same work again: everything here is safe to repeat.

use std::collections::BTreeMap;

use aws::clients::Clients;
use aws::config::{self, ConfigError};
use aws::invocation::gate_in_use;
use aws::metrics::{Metric, Metrics};
use aws::policies::{Policies, PolicyInUse};
use aws::quotas::DynamoQuotas;
use aws::reputation::{DynamoReputation, LIMITS};
use aws_lambda_events::dynamodb::EventRecord;
use aws_lambda_events::sqs::BatchItemFailure;
use pipeline::evaluate::Failed;
use pipeline::export::{self, Activity, Export};
use pipeline::fold::fold;
use pipeline::ports::{Change, PortError};
use pipeline::schedule::{minute, react, tested};
use pipeline::stream::{Sequence, Shard};
use reputation::time::{MINUTE_MILLIS, Minute, Now};
use serde::{Deserialize, Serialize};

use crate::stream::StreamBatch;

pub mod stream;

/// What wakes the breaker: records of the ledger's stream, or the minute.
#[derive(Debug, Deserialize)]
pub struct BreakerWake {
    /// Records of the stream.
    #[serde(default, rename = "Records")]
    pub records: Option<Vec<EventRecord>>,
    /// `minute`.
    #[serde(default)]
    pub tick: Option<String>,
    /// The shard that all records are from. Lambda names it where the event source mapping has a tumbling window; the last
    /// call of a window may have no records.
    #[serde(default, rename = "shardId")]
    pub shard: Option<String>,
}

/// What came of an invocation of the breaker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handled {
    /// What was saved.
    pub changes: Vec<Change>,
    /// Where the batch is to be given again from, its first record: there was no time to judge everybody whom it may have
    /// harmed. Judging goes on where it stopped.
    pub again_from: Option<Sequence>,
    /// What was exported for dashboards of people's own, if it was time for that.
    pub exported: Option<Export>,
}

/// What the breaker answers to Lambda. Without `state` the invocation of a function with a tumbling window counts as failed;
/// the breaker keeps nothing there. It is made of what was handled only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerAnswer {
    state: BTreeMap<String, String>,
    batch_item_failures: Vec<BatchItemFailure>,
}

impl From<&Handled> for BreakerAnswer {
    fn from(handled: &Handled) -> BreakerAnswer {
        let failure = |from: Sequence| {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = from.to_string();
            failure
        };
        BreakerAnswer {
            state: BTreeMap::new(),
            batch_item_failures: handled.again_from.into_iter().map(failure).collect(),
        }
    }
}

/// Folds new units into rates, judges whom they may have harmed, and steps breakers.
#[derive(Debug)]
pub struct Breaker {
    policy: PolicyInUse,
    store: DynamoReputation,
    quotas: DynamoQuotas,
    /// By what configuration sets are ranked, if not all are exported.
    activity: Activity,
    /// The last period of which metrics are known to be exported.
    exported: Option<Minute>,
    metrics: Metrics,
}

impl Breaker {
    /// As the environment says.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    pub fn from_env(clients: &Clients) -> Result<Breaker, ConfigError> {
        Ok(Breaker::new(clients, &config::required("REPUTATION_TABLE")?, gate_in_use()?))
    }

    /// Over this table.
    pub fn new(clients: &Clients, table: &str, gate_in_use: bool) -> Breaker {
        let policy = reputation::Policy::default();
        Breaker {
            policy: PolicyInUse::new(Policies::new(clients.dynamodb(), table), gate_in_use),
            store: DynamoReputation::new(clients.dynamodb(), table, &policy),
            quotas: DynamoQuotas::new(clients.dynamodb(), table, policy.isp_map),
            activity: Activity::default(),
            exported: None,
            metrics: Metrics::new(config::stack()),
        }
    }

    /// Does what it was woken for, and says it to Lambda. `in_time` says whether there is time for more.
    ///
    /// # Errors
    ///
    /// A store failed: wake it again with the same.
    pub async fn answer(
        &mut self,
        wake: &BreakerWake,
        now: Now,
        in_time: impl FnMut() -> bool,
    ) -> Result<BreakerAnswer, PortError> {
        self.handle(wake, now, in_time).await.map(|handled| BreakerAnswer::from(&handled))
    }

    /// The same, with all that came of it.
    ///
    /// # Errors
    ///
    /// As [`Breaker::answer`].
    pub async fn handle(
        &mut self,
        wake: &BreakerWake,
        now: Now,
        mut in_time: impl FnMut() -> bool,
    ) -> Result<Handled, PortError> {
        let (known, changed) = self.policy.get().await?;
        if changed {
            self.store.set_policy(&known.policy);
            self.quotas.set_isps(known.policy.isp_map.clone());
        }
        self.store.look_anew();
        let policy_invalid = known.problem.is_some();
        let before = self.store.write_units;
        let Handled { mut changes, mut again_from, mut exported } = Handled::default();
        let (mut folded, mut malformed, mut judged, mut unnamed) = (0, 0, 0, 0);
        let mut failed = Failed::default();
        if let Some(records) = &wake.records {
            let batch = StreamBatch::read(records, self.store.isps());
            for (record, reason) in &batch.malformed {
                tracing::error!(record, reason, "a record of the ledger's stream holds no unit; passed over");
            }
            let shard = match (&wake.shard, batch.records.first()) {
                (Some(id), _) => Shard::new(id),
                (None, first) => {
                    unnamed += usize::from(first.is_some());
                    Shard::unnamed(first.map(|first| first.sequence).unwrap_or_default())
                }
            };
            if unnamed > 0 {
                tracing::error!(
                    "Lambda did not name the shard of this batch, so that units may count twice when batches are retried: \
                     set TumblingWindowInSeconds of the event source mapping to 900, as the template does"
                );
            }
            folded = fold(&mut self.store, &shard, &batch.records, &batch.senders, LIMITS, now).await?;
            malformed = batch.malformed.len();
            let mut harmed = batch.harmed();
            harmed.extend(tested(&known.policy, &mut self.store, || batch.subjects_of(|_| true), now).await?);
            judged = harmed.len();
            if let (Some(first), Some(last)) = (batch.records.first(), batch.records.last()) {
                let done = (&shard, last.sequence, folded > 0);
                let reaction = react(&known.policy, &mut self.store, done, harmed, now, &mut in_time).await?;
                changes.extend(reaction.saved);
                again_from = (!reaction.is_complete).then_some(first.sequence);
                failed = reaction.failed;
            }
            if again_from.is_some() {
                tracing::warn!(
                    judged,
                    "no time is left to judge everybody; the batch is asked for again and goes on there"
                );
            }
        }
        if wake.tick.is_some() {
            let minute = minute(&known.policy, &mut self.store, now, &mut in_time).await?;
            changes.extend(minute.saved);
            failed.subjects.extend(minute.failed.subjects);
            // After judging, which is more urgent: reading 200 sets takes some seconds. Where no time is left, the next minutes of
            // the period have it.
            let period = export::period(now);
            if known.policy.cloudwatch.configuration_sets > 0 && self.exported != Some(period) && in_time() {
                match export_once(&known.policy, &mut self.store, &self.quotas, &mut self.activity, now).await {
                    Ok(made) => (self.exported, exported) = (Some(period), made),
                    Err(error) => {
                        tracing::warn!(%error, "metrics of configuration sets are left for the next minute");
                    }
                }
            }
        }
        for (subject, error) in &failed.subjects {
            tracing::error!(%subject, %error, "cannot be judged; the others are");
        }
        for transition in changes.iter().filter_map(|change| change.transition.as_ref()) {
            let isp = transition.key.isp.map(|isp| self.store.isps().name(isp));
            let (subject, reason) = (transition.key.subject.to_string(), &transition.reason);
            let (from, to) = (transition.from.name(), transition.to.name());
            tracing::info!(subject, isp, from, to, reason, shadow = transition.shadow, "transition");
        }
        if let Some(export) = &exported {
            if let Some(error) = self.quotas.take_unreadable() {
                tracing::error!(%error, "a quota cannot be read and stays as it is");
            }
            print(&self.metrics, export, &known.policy);
        }
        let transitions = changes.iter().filter(|change| change.transition.is_some()).count();
        self.metrics.emit(
            now,
            &[
                (Metric::UnitsFolded, folded as f64),
                (Metric::RecordsMalformed, malformed as f64),
                (Metric::ShardsUnnamed, unnamed as f64),
                (Metric::ItemsUnreadable, (self.store.take_unreadable().len() + failed.subjects.len()) as f64),
                (Metric::Evaluations, judged as f64),
                (Metric::Transitions, transitions as f64),
                (Metric::WriteUnits, self.store.write_units - before),
                (Metric::PolicyInvalid, f64::from(policy_invalid)),
            ],
        );
        Ok(Handled { changes, again_from, exported })
    }
}

/// Measures what the policy exports, and claims its period; `None` if another copy has exported that.
async fn export_once(
    policy: &reputation::Policy,
    store: &mut DynamoReputation,
    quotas: &DynamoQuotas,
    activity: &mut Activity,
    now: Now,
) -> Result<Option<Export>, PortError> {
    // Claimed last, so that what cannot be read now is read in the next minute.
    let export = export::export(policy, store, quotas, activity, now).await?;
    Ok(store.claim_export(export.at).await?.then_some(export))
}

/// Prints what was measured, and how much is left out.
fn print(metrics: &Metrics, export: &Export, policy: &reputation::Policy) {
    for (set, error) in &export.failed {
        tracing::warn!(set, %error, "its metrics are missing");
    }
    metrics.emit_export(export, &policy.isp_map);
    let mut left_out = vec![(Metric::ConfigurationSetsLeftOut, export.sets_left_out as f64)];
    if policy.cloudwatch.isps > 0 {
        left_out.push((Metric::IspsLeftOut, export.isps_left_out as f64));
    }
    metrics.emit(Now(i64::from(export.at.0) * MINUTE_MILLIS), &left_out);
}
