//! DynamoDB, by dynoxide: the stack's two tables in memory, and calls of the SDK to them.

use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A call that was not carried out: what DynamoDB answers instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HTTP {status}: {json}")]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// The body of the answer.
    pub json: String,
}

impl Refused {
    fn of(kind: &str, message: &str) -> Refused {
        let kind = format!("com.amazonaws.dynamodb.v20120810#{kind}");
        Refused { status: 400, json: json!({ "__type": kind, "message": message }).to_string() }
    }

    /// Whether the call is none that is answered here.
    pub fn is_unknown_operation(&self) -> bool {
        self.json.contains("#UnknownOperationException")
    }
}

impl From<DynoxideError> for Refused {
    fn from(error: DynoxideError) -> Refused {
        Refused { status: error.status_code(), json: error.to_json() }
    }
}

/// A database with the stack's tables under these names, empty.
///
/// With each write dynoxide scans all that is in its streams so far, so callers that need none turn them off.
///
/// # Errors
///
/// SQLite has no memory for it.
pub fn with_tables(ledger: &str, reputation: &str, streams: bool) -> Result<Database, Refused> {
    let database = Database::memory()?;
    let stream = match streams {
        true => json!({ "StreamEnabled": true, "StreamViewType": "NEW_IMAGE" }),
        false => json!({ "StreamEnabled": false }),
    };
    for table in [
        json!({ "TableName": ledger, "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{ "AttributeName": "unit", "AttributeType": "B" }],
            "KeySchema": [{ "AttributeName": "unit", "KeyType": "HASH" }],
            "StreamSpecification": stream }),
        json!({ "TableName": reputation, "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                { "AttributeName": "pk", "AttributeType": "S" }, { "AttributeName": "sk", "AttributeType": "S" }],
            "KeySchema": [
                { "AttributeName": "pk", "KeyType": "HASH" }, { "AttributeName": "sk", "KeyType": "RANGE" }],
            "StreamSpecification": stream }),
    ] {
        call(&database, "CreateTable", &table.to_string())?;
    }
    Ok(database)
}

/// Carries out one call: an operation's name and its request in JSON. Returns the answer in JSON.
///
/// # Errors
///
/// As DynamoDB would refuse it, or the operation is none of those that the stack uses.
pub fn call(database: &Database, operation: &str, body: &str) -> Result<String, Refused> {
    fn run<Q: DeserializeOwned, A: Serialize>(
        body: &str,
        call: impl FnOnce(Q) -> Result<A, DynoxideError>,
    ) -> Result<String, Refused> {
        let unreadable = |error: serde_json::Error| Refused::of("SerializationException", &error.to_string());
        let request = serde_json::from_str(body).map_err(unreadable)?;
        serde_json::to_string(&call(request)?).map_err(unreadable)
    }
    match operation {
        "BatchWriteItem" => run(body, |request| database.batch_write_item(request)),
        "CreateTable" => run(body, |request| database.create_table(request)),
        "DeleteItem" => run(body, |request| database.delete_item(request)),
        "DescribeStream" => run(body, |request| database.describe_stream(request)),
        "DescribeTable" => run(body, |request| database.describe_table(request)),
        "GetItem" => run(body, |request| database.get_item(request)),
        "GetRecords" => run(body, |request| database.get_records(request)),
        "GetShardIterator" => run(body, |request| database.get_shard_iterator(request)),
        "ListStreams" => run(body, |request| database.list_streams(request)),
        "PutItem" => run(body, |request| database.put_item(request)),
        "Query" => run(body, |request| database.query(request)),
        "Scan" => run(body, |request| database.scan(request)),
        "TransactWriteItems" => run(body, |request| database.transact_write_items(request)),
        "UpdateItem" => run(body, |request| database.update_item(request)),
        other => Err(Refused::of("UnknownOperationException", other)),
    }
}

/// The same for a request and an answer that are values.
///
/// # Errors
///
/// As [`call`].
pub fn call_value(database: &Database, operation: &str, request: &Value) -> Result<Value, Refused> {
    let answer = call(database, operation, &request.to_string())?;
    serde_json::from_str(&answer).map_err(|error| Refused::of("SerializationException", &error.to_string()))
}
