//! The stack on a [`Cloud`]: the functions as Lambda would run them, with the test's clock.

use std::collections::BTreeMap;
use std::time::Duration;

use aws::alerts::SnsAlerts;
use aws::clients::Clients;
use aws::policies::{Policies, Pushed};
use aws::reputation::DynamoReputation;
use aws::ses::Signature;
use aws_lambda_events::dynamodb::EventRecord;
use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use breaker::{Breaker, BreakerWake, Handled};
use enforcer::{Enforcer, EnforcerWake};
use gate::Gate;
use ingest::Ingest;
use pipeline::PortError;
use pipeline::classify::Stamps;
use pipeline::enforce::Enforced;
use pipeline::ports::{Change, Quota};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reputation::Isp;
use reputation::policy::Policy;
use reputation::time::Now;
use serde_json::Value;
use ses_events::{Decoded, Decoder};
use warmup::{Warmup, WarmupWake};

use crate::cloud::{Cloud, LEDGER, REPUTATION};

/// The shard of every record: a small table's stream has only one.
const SHARD: &str = "shardId-00000000000000000000-00000001";

/// The default policy, but acting.
const ACTS: &str = "mode = \"act\"\n";

/// The latest time that SES has stamped on the events of a line, in milliseconds since 1970; `None` if it contains none.
pub fn stamped(line: &str, real_now: i64) -> Option<i64> {
    let mut latest = None;
    Decoder::new().decode(line.as_bytes(), |decoded| {
        if let Decoded::Event(event) = decoded {
            latest = latest.max(Some(Stamps::of(&event, real_now).by_ses));
        }
    });
    latest
}

/// A request to the gate as its Function URL would pass it on, with a JSON body if there is one.
pub fn request(method: &str, path: &str, body: Option<&str>) -> LambdaFunctionUrlRequest {
    let mut request = LambdaFunctionUrlRequest::default();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    for (name, value) in query.split('&').filter_map(|parameter| parameter.split_once('=')) {
        request.query_string_parameters.insert(name.to_owned(), value.to_owned());
    }
    request.raw_path = Some(path.to_owned());
    request.request_context.http.method = Some(method.to_owned());
    if let Some(body) = body {
        request.headers.insert("content-type", "application/json".parse().unwrap());
        request.body = Some(body.to_owned());
    }
    request
}

/// An answer of the gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// HTTP status.
    pub status: i64,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its body; null if there is none.
    pub body: Value,
}

/// A warm gate: one instance of its function.
#[derive(Debug)]
pub struct WarmGate {
    gate: Gate,
    /// The same numbers in each run.
    random: ChaCha8Rng,
}

impl WarmGate {
    /// A cold instance; `seed` must differ from gate to gate.
    pub fn new(clients: &Clients, seed: u64) -> WarmGate {
        WarmGate { gate: Gate::new(clients, REPUTATION, true), random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Sends it a request.
    pub async fn ask(&mut self, request: &LambdaFunctionUrlRequest, now: Now) -> Reply {
        let response = self.gate.handle(request, now, || self.random.random()).await;
        let headers = response.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        let body = response.body.map_or(Value::Null, |body| serde_json::from_str(&body).unwrap());
        Reply { status: response.status_code, headers, body }
    }
}

/// The functions, warm.
#[derive(Debug)]
pub struct Stack {
    /// The cloud on which they run.
    pub cloud: Cloud,
    /// The gate.
    pub gate: WarmGate,
    warmup: Warmup,
    ingest: Ingest,
    breaker: Breaker,
    enforcer: Enforcer,
    gate_in_use: bool,
    name: &'static str,
}

impl Stack {
    /// Cold functions on a cloud. If no policy was pushed there, one with only `mode = "act"` is.
    pub fn new(cloud: &Cloud, gate_in_use: bool) -> Stack {
        Stack::named(cloud, "test", gate_in_use)
    }

    /// The same for a stack with this name.
    pub fn named(cloud: &Cloud, name: &'static str, gate_in_use: bool) -> Stack {
        cloud.put_first_policy(ACTS);
        Stack::fresh(cloud, name, gate_in_use)
    }

    /// Cold functions on a cloud right after a deployment: without a policy.
    pub fn fresh(cloud: &Cloud, name: &'static str, gate_in_use: bool) -> Stack {
        let clients = cloud.clients();
        let topic = "arn:aws:sns:eu-west-1:123456789012:test-alerts".to_owned();
        let signature = Signature::new(name, &topic);
        let alerts = SnsAlerts::new(&clients, Some(topic), Some("default".to_owned())).of_stack(name);
        Stack {
            cloud: cloud.clone(),
            gate: WarmGate::new(&clients, 1),
            warmup: Warmup::new(&clients, REPUTATION, gate_in_use),
            ingest: Ingest::new(&clients, LEDGER, REPUTATION, gate_in_use),
            breaker: Breaker::new(&clients, REPUTATION, gate_in_use),
            enforcer: Enforcer::new(&clients, REPUTATION, alerts, gate_in_use).signing(signature),
            gate_in_use,
            name,
        }
    }

    /// If the process was stopped, starts it again, cold.
    pub fn restart_if_stopped(&mut self) -> bool {
        let stopped = self.cloud.revive();
        if stopped {
            *self = Stack::named(&self.cloud.clone(), self.name, self.gate_in_use);
        }
        stopped
    }

    /// Passes messages to ingest; returns the indices of those to deliver again, or the error.
    ///
    /// # Errors
    ///
    /// All of them must be delivered again.
    pub async fn ingest(&mut self, bodies: &[&str], now: Now) -> Result<Vec<usize>, PortError> {
        let message = |(index, body): (usize, &&str)| {
            let mut message = SqsMessage::default();
            message.message_id = Some(index.to_string());
            message.body = Some((*body).to_owned());
            message
        };
        let mut event = SqsEvent::default();
        event.records = bodies.iter().enumerate().map(message).collect();
        let answer = self.ingest.handle(&event, now).await?;
        Ok(answer.batch_item_failures.iter().map(|failure| failure.item_identifier.parse().unwrap()).collect())
    }

    /// Passes records of the ledger's stream to the breaker.
    ///
    /// # Errors
    ///
    /// They must be delivered again.
    pub async fn fold(&mut self, records: &[EventRecord], now: Now) -> Result<Vec<Change>, PortError> {
        self.fold_for(records, now, usize::MAX).await.map(|handled| handled.changes)
    }

    /// The same, with time to judge this many subjects.
    ///
    /// # Errors
    ///
    /// They must be delivered again.
    pub async fn fold_for(
        &mut self,
        records: &[EventRecord],
        now: Now,
        judgements: usize,
    ) -> Result<Handled, PortError> {
        let shard = Some(SHARD.to_owned());
        let wake = BreakerWake { records: Some(records.to_vec()), tick: None, shard };
        let mut asked = 0;
        let in_time = || {
            asked += 1;
            asked <= judgements
        };
        self.breaker.handle(&wake, now, in_time).await
    }

    /// Runs the minute's tick.
    ///
    /// # Errors
    ///
    /// The next minute makes up for it.
    pub async fn tick(&mut self, now: Now) -> Result<Vec<Change>, PortError> {
        self.minute(now).await.map(|handled| handled.changes)
    }

    /// The same, with all of its results.
    ///
    /// # Errors
    ///
    /// The next minute makes up for it.
    pub async fn minute(&mut self, now: Now) -> Result<Handled, PortError> {
        let wake = BreakerWake { records: None, tick: Some("minute".to_owned()), shard: None };
        self.breaker.handle(&wake, now, || true).await
    }

    /// Wakes the enforcer.
    ///
    /// # Errors
    ///
    /// It must be woken again.
    pub async fn enforce(&mut self, reconcile: bool, now: Now) -> Result<Vec<Enforced>, PortError> {
        let tick = reconcile.then(|| "reconcile".to_owned());
        let wake = EnforcerWake { records: None, tick };
        self.enforcer.handle(&wake, Duration::from_secs(100), || now).await
    }

    /// Runs the hourly tick of the warm-up planner.
    ///
    /// # Errors
    ///
    /// The next hour makes up for it.
    pub async fn hour(&mut self, now: Now) -> Result<BTreeMap<(String, Isp), Quota>, PortError> {
        self.warmup.handle(&WarmupWake { tick: Some("hour".to_owned()) }, now, || true).await
    }

    /// Pushes a policy that cold functions will use. Without a mode, it acts.
    pub async fn push(cloud: &Cloud, toml: &str) -> Policy {
        let policies = Policies::new(cloud.clients().dynamodb(), REPUTATION);
        let says_mode = Policy::from_toml(toml).unwrap().states_mode;
        let toml = if says_mode { toml.to_owned() } else { format!("{ACTS}{toml}") };
        let before = policies.current().await.unwrap().map_or(0, |current| current.version);
        assert_eq!(policies.push(&toml, before, "a test", Now(0)).await.unwrap(), Pushed::Pushed(before + 1));
        Policy::from_toml(&toml).unwrap()
    }

    /// A client of the reputation table, apart from the functions.
    pub fn reputation(&self) -> DynamoReputation {
        let policy = Policy { gate_in_use: self.gate_in_use, ..Policy::default() };
        DynamoReputation::new(self.cloud.clients().dynamodb(), REPUTATION, &policy)
    }
}
