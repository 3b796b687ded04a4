//! Turns messages of the queue into units in the ledger.
//!
//! Each message is answered by itself: one that fails comes again and does not hold up the others.

use aws::clients::Clients;
use aws::config::{self, ConfigError};
use aws::invocation::gate_in_use;
use aws::ledger::DynamoLedger;
use aws::metrics::{Metric, Metrics};
use aws::policies::{Policies, PolicyInUse};
use aws::secret::secret;
use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use pipeline::Classifier;
use pipeline::ports::PortError;
use pipeline::record::record;
use reputation::time::Now;
use ses_events::Decoder;

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
