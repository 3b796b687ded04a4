//! An account of AWS behind the HTTP connector of the SDK, without faults.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws::clients::Clients;
use aws_lambda_events::dynamodb::EventRecord;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::shared::IntoShared;
use dynoxide::Database;
use reputation::time::Minute;
use serde_json::{Value, json};

use crate::account::{Account, SesCall, caller};
use crate::answer::{form, respond};
use crate::dynamodb::{self, Refused};

/// The person at the dashboard, as the caller of AWS.
const PERSON: &str = "arn:aws:iam::123456789012:user/you";

/// An account with the tables of one stack. Copies are the same account.
#[derive(Clone)]
pub struct Cloud {
    database: Database,
    ledger: Arc<str>,
    reputation: Arc<str>,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cloud")
    }
}

/// The services other than DynamoDB, and what its streams report.
#[derive(Debug, Default)]
pub struct State {
    /// SES, SNS and EventBridge.
    pub account: Account,
    /// New items of the ledger that were not taken yet.
    inserted: Vec<EventRecord>,
    /// The number of the ledger's records so far.
    records: u64,
    /// The ledger's items, the oldest mail first or nearly so: when SES accepted the mail, and the key.
    kept: VecDeque<(Minute, Value)>,
    /// Whether something in the reputation table waits for the enforcer.
    enforcer_due: bool,
}

impl Cloud {
    /// An account with the tables of the stack `stack`, empty.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub fn new(stack: &str) -> Result<Cloud, Refused> {
        let (ledger, reputation) = (format!("{stack}-ledger"), format!("{stack}-reputation"));
        let database = dynamodb::with_tables(&ledger, &reputation, false)?;
        Ok(Cloud { database, ledger: ledger.into(), reputation: reputation.into(), state: Arc::default() })
    }

    /// Clients that talk to it.
    pub fn clients(&self) -> Clients {
        Clients::over(self.clone())
    }

    /// Name of the ledger table.
    pub fn ledger(&self) -> &str {
        &self.ledger
    }

    /// Name of the reputation table.
    pub fn reputation(&self) -> &str {
        &self.reputation
    }

    /// The state of the services other than DynamoDB.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // What is in it is whole after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger's stream: an INSERT for each item that was new, since this was asked last.
    pub fn take_inserted(&self) -> Vec<EventRecord> {
        std::mem::take(&mut self.state().inserted)
    }

    /// Whether the reputation table's stream has something for the enforcer, since this was asked last: a control that is to be
    /// made true, or a notice.
    pub fn take_enforcer_due(&self) -> bool {
        std::mem::take(&mut self.state().enforcer_due)
    }

    /// Keys units with a secret that is known, so that the same mail falls into the same buckets each time.
    ///
    /// # Errors
    ///
    /// DynamoDB refuses.
    pub fn key_units(&self) -> Result<(), Refused> {
        // `the demo's units`: 16 bytes.
        let key = json!({ "B": "dGhlIGRlbW8ncyB1bml0cw==" });
        let item = json!({ "pk": { "S": "secret" }, "sk": { "S": "unit-keys" }, "key": key });
        let request = json!({ "TableName": &*self.reputation, "Item": item });
        dynamodb::call_value(&self.database, "PutItem", &request).map(|_| ())
    }

    /// Deletes the ledger's items of mail from before `until`, as DynamoDB does when they expire. Returns how many.
    ///
    /// # Errors
    ///
    /// DynamoDB refuses.
    pub fn expire_ledger(&self, until: Minute) -> Result<usize, Refused> {
        let mut deleted = 0;
        loop {
            let key = {
                let mut state = self.state();
                match state.kept.front() {
                    Some((accepted, _)) if *accepted < until => state.kept.pop_front(),
                    Some(_) | None => None,
                }
            };
            let Some((_, key)) = key else { return Ok(deleted) };
            let request = json!({ "TableName": &*self.ledger, "Key": key });
            dynamodb::call_value(&self.database, "DeleteItem", &request)?;
            deleted += 1;
        }
    }

    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let body = std::str::from_utf8(request.body().bytes().unwrap_or_default()).unwrap_or("");
        let target = request.headers().get("x-amz-target").unwrap_or("");
        let operation = target.rsplit('.').next().unwrap_or("");
        if target.starts_with("DynamoDB") {
            return match self.answer_dynamodb(operation, body) {
                Ok(answer) => respond(200, None, &answer),
                Err(error) => respond(error.status, None, &error.json),
            };
        }
        if operation == "PutEvents" {
            return self.state().account.answer_events(body);
        }
        if let Some(call) = SesCall::read(request.method(), request.uri(), body) {
            return self.state().account.answer_ses(&call);
        }
        let action = form(body).find(|(name, _)| name == "Action");
        match action.as_ref().map(|(_, action)| action.as_str()) {
            Some("Publish") => self.state().account.answer_sns(body),
            Some("GetCallerIdentity") => caller(PERSON),
            Some(_) | None => respond(400, Some("InvalidAction"), r#"{"message":"this account has no such service"}"#),
        }
    }

    fn answer_dynamodb(&self, operation: &str, body: &str) -> Result<String, Refused> {
        let new = match operation {
            "BatchWriteItem" => self.new_items(body)?,
            _ => Vec::new(),
        };
        let answer = dynamodb::call(&self.database, operation, body)?;
        let mut state = self.state();
        for item in new {
            state.insert(item);
        }
        state.enforcer_due |= wakes_enforcer(operation, body);
        Ok(answer)
    }

    /// The items of a batch for the ledger that are not in it yet. The table's own stream is off, because with each write
    /// dynoxide scans all of a stream's records.
    fn new_items(&self, body: &str) -> Result<Vec<Value>, Refused> {
        let mut request: Value = serde_json::from_str(body).unwrap_or_default();
        let mut new = Vec::new();
        for request in request["RequestItems"][&*self.ledger].as_array_mut().into_iter().flatten() {
            let item = request["PutRequest"]["Item"].take();
            let key = json!({ "unit": item["unit"] });
            let known = json!({ "TableName": &*self.ledger, "Key": key });
            if dynamodb::call_value(&self.database, "GetItem", &known)?["Item"].is_null() {
                new.push(item);
            }
        }
        Ok(new)
    }
}

impl State {
    fn insert(&mut self, item: Value) {
        self.records += 1;
        let key = json!({ "unit": item["unit"] });
        let accepted = item["cohort"]["N"].as_str().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let record = json!({
            "awsRegion": "eu-west-1", "eventID": self.records.to_string(), "eventName": "INSERT",
            "dynamodb": {
                "ApproximateCreationDateTime": 0, "Keys": key, "NewImage": item, "SizeBytes": 0,
                "SequenceNumber": self.records.to_string(), "StreamViewType": "NEW_IMAGE",
            },
        });
        self.kept.push_back((Minute(accepted), key));
        // It has the members that the type wants.
        self.inserted.extend(serde_json::from_value::<EventRecord>(record));
    }
}

/// Whether a write is one that the template's filters pass on to the enforcer, or one like it: a control that is pending, or a
/// new item of the outbox.
fn wakes_enforcer(operation: &str, body: &str) -> bool {
    let is_write = ["PutItem", "TransactWriteItems", "UpdateItem"].contains(&operation);
    let has = |text: &str| body.contains(text);
    is_write
        && ((has(r#"{"S":"control"}"#) && has(r#"{"BOOL":true}"#)) || (has(r#"{"S":"outbox"}"#) && has(r#""Item":"#)))
}

impl HttpConnector for Cloud {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let cloud = self.clone();
        HttpConnectorFuture::new(async move {
            // Other tasks get a turn at each call, as on a network.
            tokio::task::yield_now().await;
            Ok(cloud.answer(&request))
        })
    }
}

impl HttpClient for Cloud {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}
