//! The functions themselves: what each does with an invocation. A function's `main` makes one of these and runs it.
//!
//! Whatever goes wrong with a store makes an invocation fail as a whole, and Lambda brings the same work again: everything
//! here is safe to repeat. Only ingest answers for each message by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lambda_events::dynamodb::EventRecord;
use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use lambda_runtime::{Error, LambdaEvent};
use pipeline::Classifier;
use pipeline::dedicated_ips::{self, MirrorOutcome};
use pipeline::digest::{Digest, find};
use pipeline::enforce::{EnforceOutcome, Enforced, Invocation, Next, enforce};
use pipeline::evaluate::Failed;
use pipeline::export::{self, Activity, Export};
use pipeline::fold::{Sequence, Shard, fold};
use pipeline::notice::{Notice, Outbox as _, deliver};
use pipeline::ports::{Change, PortError};
use pipeline::quotas::{Quota, plan_set};
use pipeline::record::record;
use pipeline::schedule::{minute, react};
use reputation::isp::Isp;
use reputation::subject::Subject;
use reputation::time::{MINUTE_MILLIS, Minute, Now};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use ses_events::Decoder;

use crate::alerts::SnsAlerts;
use crate::clients::Clients;
use crate::config::{self, ConfigError};
use crate::layout::StackParameters;
use crate::ledger::DynamoLedger;
use crate::log;
use crate::metrics::{Metric, Metrics};
use crate::policies::{Policies, PolicyInUse};
use crate::quotas::DynamoQuotas;
use crate::reputation::{DynamoReputation, LIMITS};
use crate::secret::secret;
use crate::ses::{SesControl, Signature};
use crate::stream::StreamBatch;

pub use crate::gate::Gate;

/// What wakes the gate: a request to its Function URL.
pub type GateCall = aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "the shell is where time comes from")]
pub fn now() -> Now {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// Bits that nobody can foresee; where the system has none, those of its clock, which are others each time.
#[expect(clippy::disallowed_methods, reason = "the shell is where time comes from")]
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since_1970.as_nanos() as u64
    })
}

/// How long before Lambda would stop an invocation it stops by itself.
const MARGIN: Duration = Duration::from_secs(10);

/// What every function does first: logging, then the clients. Nothing is sent yet.
pub async fn start() -> Clients {
    log::init(config::optional("LOG_LEVEL").ok().flatten().as_deref());
    Clients::load().await
}

/// Logs why a function cannot start, where that is looked for first.
pub fn cannot_start(error: &ConfigError) -> Error {
    tracing::error!(%error, "cannot start");
    Box::from(error.to_string())
}

fn gate_in_use() -> Result<bool, ConfigError> {
    config::flag("GATE_IN_USE")
}

/// Turns messages of the queue into units in the ledger.
#[derive(Debug)]
pub struct Ingest {
    clients: Clients,
    table: String,
    policy: PolicyInUse,
    ledger: DynamoLedger,
    decoder: Decoder,
    /// The secret, and who classifies with it; made at the first message, as it takes a call.
    classifier: Option<([u8; 16], Classifier)>,
    metrics: Metrics,
}

impl Ingest {
    /// As the environment says.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    pub fn from_env(clients: &Clients) -> Result<Ingest, ConfigError> {
        let (ledger, table) = (config::required("LEDGER_TABLE")?, config::required("REPUTATION_TABLE")?);
        Ok(Ingest::new(clients, &ledger, &table, gate_in_use()?))
    }

    /// Over these tables.
    pub fn new(clients: &Clients, ledger: &str, reputation: &str, gate_in_use: bool) -> Ingest {
        let policies = Policies::new(clients.dynamodb(), reputation);
        Ingest {
            clients: clients.clone(),
            table: reputation.to_owned(),
            policy: PolicyInUse::new(policies, gate_in_use),
            ledger: DynamoLedger::new(clients.dynamodb(), ledger, reputation::IspMap::builtin()),
            decoder: Decoder::new(),
            classifier: None,
            metrics: Metrics::new(config::stack()),
        }
    }

    /// Records a batch; returns the messages that are to come again.
    ///
    /// # Errors
    ///
    /// Nothing was recorded: neither the policy nor the secret of this stack is known yet.
    pub async fn handle(&mut self, event: &SqsEvent, now: Now) -> Result<SqsBatchResponse, PortError> {
        let (known, changed) = self.policy.get().await?;
        if changed || self.classifier.is_none() {
            let secret = match &self.classifier {
                Some((secret, _)) => *secret,
                None => secret(&self.clients.dynamodb(), &self.table).await?,
            };
            self.classifier = Some((secret, Classifier::new(&known.policy, secret)));
            self.ledger.set_isps(known.policy.isp_map.clone());
        }
        let policy_invalid = known.problem.is_some();
        let Some((_, classifier)) = &mut self.classifier else { return Ok(SqsBatchResponse::default()) };
        let messages: Vec<&[u8]> =
            event.records.iter().map(|message| message.body.as_deref().unwrap_or("").as_bytes()).collect();
        let before = self.ledger.write_units;
        let recorded = record(&mut self.decoder, classifier, &mut self.ledger, &messages, now.0).await;

        let name = |message: usize| event.records[message].message_id.clone().unwrap_or_default();
        for poison in &recorded.poison {
            let (message, tries) = (&event.records[poison.message], "ApproximateReceiveCount");
            let receives = message.attributes.get(tries).map_or("?", String::as_str);
            let reason = &poison.reason;
            tracing::warn!(
                message_id = name(poison.message),
                kind = poison.name,
                reason,
                receives,
                "cannot be counted"
            );
        }
        if let Some(error) = &recorded.error {
            tracing::error!(%error, messages = recorded.unrecorded.len(), "not recorded; to come again");
        }
        for (name, count) in &recorded.ignored {
            tracing::info!(name, count, "ignored");
        }
        for (name, count) in &recorded.odd {
            tracing::info!(name, count, "odd, and counted");
        }
        self.metrics.emit(
            now,
            &[
                (Metric::EventsRecorded, recorded.events as f64),
                (Metric::UnitsWritten, recorded.units as f64),
                (Metric::EventsIgnored, recorded.ignored.values().sum::<u64>() as f64),
                (Metric::EventsRejected, recorded.poison.len() as f64),
                (Metric::WriteUnits, self.ledger.write_units - before),
                (Metric::PolicyInvalid, f64::from(policy_invalid)),
            ],
        );
        let mut response = SqsBatchResponse::default();
        response.batch_item_failures = recorded
            .failed()
            .into_iter()
            .map(|message| {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = name(message);
                failure
            })
            .collect();
        Ok(response)
    }
}

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
            let transition = StreamBatch::read(records, self.store.isps());
            for (record, reason) in &transition.malformed {
                tracing::error!(record, reason, "a record of the ledger's stream holds no unit; passed over");
            }
            let shard = match (&wake.shard, transition.records.first()) {
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
            folded = fold(&mut self.store, &shard, &transition.records, &transition.senders, LIMITS, now).await?;
            malformed = transition.malformed.len();
            let harmed = harmed(&transition);
            judged = harmed.len();
            if let (Some(first), Some(last)) = (transition.records.first(), transition.records.last()) {
                let batch = (&shard, last.sequence, folded > 0);
                let reaction = react(&known.policy, &mut self.store, batch, harmed, now, &mut in_time).await?;
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

/// Whose breakers new units may move at once, and at which ISPs.
fn harmed(transition: &StreamBatch) -> BTreeMap<Subject, BTreeSet<Isp>> {
    let mut harmed: BTreeMap<Subject, BTreeSet<Isp>> = BTreeMap::new();
    let senders: BTreeSet<_> = transition
        .records
        .iter()
        .filter(|record| record.unit.kind.is_harm())
        .map(|record| (record.unit.sender, record.unit.isp))
        .collect();
    for (sender, isp) in senders {
        for subject in transition.senders.subjects(sender) {
            harmed.entry(subject.clone()).or_default().insert(isp);
        }
    }
    harmed
}

/// What wakes the enforcer: a new wish or notice (all of them are looked at, whichever rang), or the time to reconcile.
#[derive(Debug, Deserialize)]
pub struct EnforcerWake {
    /// Records of the reputation table's stream.
    #[serde(default, rename = "Records")]
    pub records: Option<Vec<IgnoredAny>>,
    /// `reconcile`.
    #[serde(default)]
    pub tick: Option<String>,
}

/// Makes wishes true at SES, keeps them true, and tells people.
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

    /// Makes true what can be made true within `left`, and sends what is to be told.
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
        if let Some(parameters) = self.parameters {
            match self.store.note_parameters(parameters).await {
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
            // People are told after SES is: the pause is more urgent.
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
            // StreamBatch when its entry in the outbox rings, as all news are.
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

/// What wakes the planner of warm-ups: the hour.
#[derive(Debug, Deserialize)]
pub struct WarmupWake {
    /// `hour`.
    #[serde(default)]
    pub tick: Option<String>,
}

/// Closes days that are over, and plans the quotas of the new ones. The gate does the same for whoever asks first; this is
/// for those that nobody asks about.
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
        // As the gate does: whoever closes a day must come to the same.
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

/// Time that is left to an invocation, less a margin.
#[expect(clippy::disallowed_methods, reason = "the shell is where time comes from")]
pub fn time_left<T>(event: &LambdaEvent<T>) -> Duration {
    event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default().saturating_sub(MARGIN)
}
