//! AWS in this process, as in [`local`], with faults. The real SDK talks to it without a socket, so a test can stop "the
//! process" between any two calls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws::clients::Clients;
use aws_lambda_events::dynamodb::EventRecord;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::shared::IntoShared;
use aws_smithy_types::retry::RetryConfig;
use dynoxide::Database;
use local::account::{Account, SesCall};
use local::answer::respond;
use local::dynamodb;
use serde::Deserialize;
use serde_json::{Value, json};

/// Name of the ledger table.
pub const LEDGER: &str = "test-ledger";
/// Name of the reputation table.
pub const REPUTATION: &str = "test-reputation";

/// The records of a stream read so far, and where to continue.
type ReadStream = (Vec<EventRecord>, Value);

/// One AWS account.
#[derive(Clone)]
pub struct Cloud {
    database: Database,
    state: Arc<Mutex<State>>,
    /// The records read from each table's stream so far, and where to continue.
    streams: Arc<Mutex<BTreeMap<String, ReadStream>>>,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cloud")
    }
}

/// When to stop the process that talks to the cloud.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// The number of writes before the fatal one.
    pub after: u64,
    /// Whether that write is carried out.
    pub carried_out: bool,
}

/// The fate of one call on a bad network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out and answered.
    Answered,
    /// It is carried out, and its answer is lost.
    AnswerLost,
    /// It never arrives.
    CallLost,
    /// It is carried out, and its answer takes longer than any caller waits.
    Hangs,
}

/// A network between clients and the cloud: the delay of each call, and its fate.
#[derive(Clone)]
struct Network {
    cloud: Cloud,
    fate: Arc<Mutex<dyn FnMut() -> (Duration, Fate) + Send>>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Network")
    }
}

/// The duration of a DynamoDB transaction, where that is simulated.
const TRANSACTION: Duration = Duration::from_millis(10);
/// Write units that one partition accepts in a second (DynamoDB guide, "Best practices for designing partition keys").
const PARTITION_UNITS: f64 = 1_000.0;

/// Transactions in flight, and the load of partitions.
#[derive(Debug, Default)]
struct Contention {
    /// The items that transactions in flight write.
    locked: BTreeSet<String>,
    /// By partition key: the write units that are left, and as of when.
    partitions: BTreeMap<String, (f64, tokio::time::Instant)>,
}

/// The items that a transaction writes: their partition keys and their identities.
fn written(body: &str) -> Vec<(String, String)> {
    let request = serde_json::from_str::<Value>(body).unwrap_or_default();
    let actions = request["TransactItems"].as_array().cloned().unwrap_or_default();
    let keys = |action: &Value| {
        let action = ["Put", "Update", "Delete", "ConditionCheck"]
            .into_iter()
            .map(|kind| &action[kind])
            .find(|it| !it.is_null());
        let action = action.cloned().unwrap_or_default();
        let keys = if action["Key"].is_null() { &action["Item"] } else { &action["Key"] };
        (keys["pk"].to_string(), format!("{} {}", keys["pk"], keys["sk"]))
    };
    actions.iter().map(keys).collect()
}

/// The state of the services other than DynamoDB, and the faults of all of them.
#[derive(Debug, Default)]
pub struct State {
    account: Account,
    /// The statuses and codes that SES answers to the next calls instead.
    pub ses_errors: VecDeque<(u16, &'static str)>,
    /// The statuses and codes that SES answers to all calls about these sets instead.
    pub set_errors: BTreeMap<String, (u16, &'static str)>,
    /// What SES says about a set, and how often, instead of its state: stale reads.
    pub stale: BTreeMap<String, (bool, u32)>,
    /// Calls of SES, in order: method, and path after `/v2/email/`.
    pub ses_calls: Vec<String>,
    /// Calls that wrote, or tried to.
    pub writes: u64,
    /// Write units that DynamoDB charged.
    pub write_units: f64,
    /// Queries, and reads of single items.
    pub reads: u64,
    /// Bytes of their answers.
    pub read_bytes: u64,
    /// DynamoDB's limits on transactions, where they are simulated.
    contention: Option<Contention>,
    /// While set, DynamoDB answers only errors (503).
    pub dynamodb_down: bool,
    /// While set, DynamoDB refuses these calls for lack of capacity.
    pub throttled: Option<Throttled>,
    kill: Option<Kill>,
    dead: bool,
}

/// Calls that DynamoDB refuses for lack of capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttled {
    /// Those that write.
    Writes,
    /// All.
    All,
}

impl Deref for State {
    type Target = Account;

    fn deref(&self) -> &Account {
        &self.account
    }
}

impl DerefMut for State {
    fn deref_mut(&mut self) -> &mut Account {
        &mut self.account
    }
}

impl Default for Cloud {
    fn default() -> Cloud {
        Cloud::new()
    }
}

impl Cloud {
    /// An account with the stack's two tables, empty.
    pub fn new() -> Cloud {
        Cloud::with_tables(true)
    }

    /// The same, without streams. With each write dynoxide scans everything in its streams so far, which would take most of the
    /// time in tests that do not read them.
    pub fn without_streams() -> Cloud {
        Cloud::with_tables(false)
    }

    /// Tables for another stack in the same account: both see the same SES, and share messages and events.
    pub fn beside(&self) -> Cloud {
        Cloud { state: Arc::clone(&self.state), ..Cloud::with_tables(true) }
    }

    fn with_tables(streams: bool) -> Cloud {
        let database = dynamodb::with_tables(LEDGER, REPUTATION, streams).unwrap();
        Cloud { database, state: Arc::default(), streams: Arc::default() }
    }

    /// From now on transactions take time, conflict on items, and are throttled by the capacity of a partition.
    pub fn contend(&self) {
        self.state().contention = Some(Contention::default());
    }

    /// Begins a transaction. Returns the items that it locks, or the answer if it is cancelled at once.
    fn begin_transaction(&self, body: &str) -> Result<Vec<String>, Box<HttpResponse>> {
        let mut state = self.state();
        let Some(Contention { locked, partitions }) = &mut state.contention else { return Ok(Vec::new()) };
        let (written, now) = (written(body), tokio::time::Instant::now());
        let cancelled = |code: &'static str, which: &dyn Fn(&(String, String)) -> bool| {
            let reason = |item: &(String, String)| match which(item) {
                true => json!({ "Code": code, "Message": "as the simulation says" }),
                false => json!({ "Code": "None" }),
            };
            let reasons: Vec<Value> = written.iter().map(reason).collect();
            let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
            let body = json!({ "__type": kind, "Message": "cancelled", "CancellationReasons": reasons });
            Box::new(respond(400, Some("TransactionCanceledException"), &body.to_string()))
        };
        if written.iter().any(|(_, item)| locked.contains(item)) {
            return Err(cancelled("TransactionConflict", &|(_, item)| locked.contains(item)));
        }
        for (partition, _) in &written {
            let (left, at) = partitions.entry(partition.clone()).or_insert((PARTITION_UNITS, now));
            *left = (*left + now.duration_since(*at).as_secs_f64() * PARTITION_UNITS).min(PARTITION_UNITS);
            *at = now;
        }
        let empty = |item: &(String, String)| partitions.get(&item.0).is_some_and(|(left, _)| *left <= 0.0);
        if written.iter().any(empty) {
            return Err(cancelled("ThrottlingError", &empty));
        }
        let items: Vec<String> = written.into_iter().map(|(_, item)| item).collect();
        locked.extend(items.iter().cloned());
        Ok(items)
    }

    /// Ends a transaction for which DynamoDB has charged `charged` units, the same for each of its items.
    fn end_transaction(&self, items: &[String], body: &str, charged: f64) {
        let mut state = self.state();
        let Some(Contention { locked, partitions }) = &mut state.contention else { return };
        for ((partition, _), item) in written(body).iter().zip(items) {
            locked.remove(item);
            if let Some((left, _)) = partitions.get_mut(partition) {
                *left -= charged / items.len() as f64;
            }
        }
    }

    /// Clients that talk to it.
    pub fn clients(&self) -> Clients {
        Clients::over(self.clone())
    }

    /// Clients that talk to it over a bad network.
    pub fn clients_over(&self, fate: impl FnMut() -> (Duration, Fate) + Send + 'static) -> Clients {
        let clients = Clients::over(Network { cloud: self.clone(), fate: Arc::new(Mutex::new(fate)) });
        // Waits as long as possible between attempts, without randomness.
        let retries = RetryConfig::standard().with_max_attempts(4).with_use_static_exponential_base(true);
        Clients::new(clients.config().clone().into_builder().retry_config(retries).build())
    }

    /// The state of the services other than DynamoDB.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Stops the process that talks to it at a later write; after that, nothing is answered until [`Cloud::revive`].
    pub fn kill(&self, kill: Kill) {
        let mut state = self.state();
        let after = state.writes + kill.after;
        state.kill = Some(Kill { after, ..kill });
    }

    /// Starts the process again; returns whether it was stopped.
    pub fn revive(&self) -> bool {
        let mut state = self.state();
        state.kill = None;
        std::mem::take(&mut state.dead)
    }

    /// Calls DynamoDB directly, for tests that inspect what is stored.
    pub fn dynamodb(&self, operation: &str, request: Value) -> Value {
        match dynamodb::call_value(&self.database, operation, &request) {
            Ok(answer) => answer,
            Err(error) => panic!("{operation}: {error}"),
        }
    }

    /// Keys units as a replay does, so that business domains fall into the same buckets. A replay cannot do it the other
    /// way round: the secret of a stack is for its ingest function alone.
    pub fn key_units_as_a_replay(&self) {
        // `replay in memory`, as `SECRET` in `shared/replay/src/driver/worker.rs`.
        let item =
            json!({ "pk": { "S": "secret" }, "sk": { "S": "unit-keys" }, "key": { "B": "cmVwbGF5IGluIG1lbW9yeQ==" } });
        self.dynamodb("PutItem", json!({ "TableName": REPUTATION, "Item": item }));
    }

    /// Stores a policy as the first version, unless one was pushed already.
    pub fn put_first_policy(&self, toml: &str) {
        let item = |sk: &str| {
            json!({ "pk": { "S": "policy" }, "sk": { "S": sk }, "version": { "N": "1" }, "toml": { "S": toml },
                "at": { "N": "0" }, "by": { "S": "a test" } })
        };
        let key = json!({ "pk": { "S": "policy" }, "sk": { "S": "current" } });
        if self.dynamodb("GetItem", json!({ "TableName": REPUTATION, "Key": key }))["Item"].is_null() {
            for sk in ["version#000001", "current"] {
                self.dynamodb("PutItem", json!({ "TableName": REPUTATION, "Item": item(sk) }));
            }
        }
    }

    /// All items of a table.
    pub fn items(&self, table: &str) -> Vec<Value> {
        let (mut items, mut start) = (Vec::new(), Value::Null);
        loop {
            let mut request = json!({ "TableName": table });
            if !start.is_null() {
                request["ExclusiveStartKey"] = start;
            }
            let mut page = self.dynamodb("Scan", request);
            items.extend(page["Items"].as_array_mut().map(std::mem::take).unwrap_or_default());
            start = page["LastEvaluatedKey"].take();
            if start.is_null() {
                return items;
            }
        }
    }

    /// All records of a table's stream, from its beginning, as Lambda would pass them on.
    pub fn stream(&self, table: &str) -> Vec<EventRecord> {
        self.stream_from(table, 0)
    }

    /// The same without the first `from` records.
    pub fn stream_from(&self, table: &str, from: usize) -> Vec<EventRecord> {
        let known = self.streams.lock().unwrap().remove(table);
        let (mut records, mut iterator) = known.unwrap_or_else(|| {
            let streams = self.dynamodb("ListStreams", json!({ "TableName": table }));
            let arn = &streams["Streams"][0]["StreamArn"];
            let described = self.dynamodb("DescribeStream", json!({ "StreamArn": arn }));
            let shards = described["StreamDescription"]["Shards"].as_array().unwrap();
            assert_eq!(shards.len(), 1, "a small table has one shard");
            let shard = &shards[0]["ShardId"];
            let request = json!({ "StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON" });
            (Vec::new(), self.dynamodb("GetShardIterator", request)["ShardIterator"].take())
        });
        loop {
            let mut page = self.dynamodb("GetRecords", json!({ "ShardIterator": iterator, "Limit": 1000 }));
            let read = page["Records"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let last = read.is_empty();
            records.extend(read.into_iter().map(|record| serde_json::from_value::<EventRecord>(record).unwrap()));
            iterator = page["NextShardIterator"].take();
            if last {
                break;
            }
        }
        let wanted = records[from..].to_vec();
        self.streams.lock().unwrap().insert(table.to_owned(), (records, iterator));
        wanted
    }

    fn answer(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let body = std::str::from_utf8(request.body().bytes().unwrap_or_default()).unwrap_or("");
        let target = request.headers().get("x-amz-target").unwrap_or("").to_owned();
        let operation = target.rsplit('.').next().unwrap_or("").to_owned();
        let reads = ["GetItem", "Query", "BatchGetItem", "DescribeTable"].contains(&operation.as_str())
            || (target.is_empty() && request.method() == "GET");
        let dies = {
            let mut state = self.state();
            if state.dead {
                return Err(stopped());
            }
            let kill = state.kill.filter(|kill| !reads && kill.after == state.writes);
            state.writes += u64::from(!reads);
            state.dead = kill.is_some();
            kill
        };
        if dies.is_some_and(|kill| !kill.carried_out) {
            return Err(stopped());
        }
        let answer = if target.starts_with("DynamoDB") {
            self.answer_dynamodb(&operation, body)
        } else if operation == "PutEvents" {
            self.state().answer_events(body)
        } else if let Some(call) = SesCall::read(request.method(), request.uri(), body) {
            self.answer_ses(&call)
        } else {
            self.state().answer_sns(body)
        };
        if dies.is_some() { Err(stopped()) } else { Ok(answer) }
    }

    fn answer_dynamodb(&self, operation: &str, body: &str) -> HttpResponse {
        if self.state().dynamodb_down {
            return respond(503, Some("ServiceUnavailable"), r#"{"message":"as the test says"}"#);
        }
        let reads = matches!(operation, "Query" | "GetItem" | "Scan");
        if self.state().throttled.is_some_and(|throttled| throttled == Throttled::All || !reads) {
            let kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";
            return respond(400, None, &json!({ "__type": kind, "message": "as the test says" }).to_string());
        }
        match dynamodb::call(&self.database, operation, body) {
            Ok(text) => {
                // Only that part is parsed: benches run this code.
                let used = serde_json::from_str::<Used>(&text).unwrap_or_default().used;
                let used: f64 = match used.as_array() {
                    Some(tables) => tables.iter().filter_map(|used| used["CapacityUnits"].as_f64()).sum(),
                    None => used["CapacityUnits"].as_f64().unwrap_or(0.0),
                };
                let mut state = self.state();
                if matches!(operation, "Query" | "GetItem") {
                    state.reads += 1;
                    state.read_bytes += text.len() as u64;
                } else {
                    state.write_units += used;
                }
                drop(state);
                respond(200, None, &text)
            }
            Err(error) => {
                assert!(!error.is_unknown_operation(), "unexpected call {operation}");
                respond(error.status, None, &error.json)
            }
        }
    }

    fn answer_ses(&self, call: &SesCall) -> HttpResponse {
        let mut state = self.state();
        if let Some((status, code)) = state.ses_errors.pop_front() {
            return respond(status, Some(code), r#"{"message":"as the test says"}"#);
        }
        state.ses_calls.push(format!("{} {}", call.method, call.path));
        if let Some((status, code)) = state.set_errors.get(&call.set).copied() {
            return respond(status, Some(code), r#"{"message":"as the test says"}"#);
        }
        if call.path == "tags" {
            let ours = "arn:aws:ses:eu-west-1:123456789012:configuration-set/";
            assert!(call.arn.starts_with(ours), "{}", call.arn);
        }
        if call.method == "GET"
            && state.sets.contains_key(&call.set)
            && let Some((answer, left)) = state.stale.get_mut(&call.set).filter(|(_, left)| *left > 0)
        {
            *left -= 1;
            let answer = *answer;
            return state.shown(&call.set, answer);
        }
        state.answer_ses(call)
    }
}

/// The part of a DynamoDB answer with its cost.
#[derive(Default, Deserialize)]
struct Used {
    #[serde(default, rename = "ConsumedCapacity")]
    used: Value,
}

fn lost() -> ConnectorError {
    ConnectorError::io("the connection was lost".into())
}

fn stopped() -> ConnectorError {
    ConnectorError::other("the process was stopped".into(), None)
}

impl HttpConnector for Cloud {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let cloud = self.clone();
        HttpConnectorFuture::new(async move {
            // Other tasks get a turn at each call, as on a network.
            tokio::task::yield_now().await;
            let is_transaction =
                request.headers().get("x-amz-target").is_some_and(|it| it.ends_with("TransactWriteItems"));
            if !is_transaction || cloud.state().contention.is_none() {
                return cloud.answer(&request);
            }
            let body = std::str::from_utf8(request.body().bytes().unwrap_or_default()).unwrap_or("").to_owned();
            let begun = cloud.begin_transaction(&body);
            tokio::time::sleep(TRANSACTION).await;
            match begun {
                Err(cancelled) => Ok(*cancelled),
                Ok(items) => {
                    let before = cloud.state().write_units;
                    let answer = cloud.answer(&request);
                    let charged = cloud.state().write_units - before;
                    cloud.end_transaction(&items, &body, charged);
                    answer
                }
            }
        })
    }
}

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let cloud = self.cloud.clone();
        let (under_way, fate) = (self.fate.lock().unwrap())();
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(under_way).await;
            if fate == Fate::CallLost {
                return Err(lost());
            }
            let answer = cloud.answer(&request);
            match fate {
                Fate::Answered | Fate::CallLost => answer,
                Fate::AnswerLost => Err(lost()),
                Fate::Hangs => std::future::pending().await,
            }
        })
    }
}

impl HttpClient for Network {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}

impl HttpClient for Cloud {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}
