//! The services other than DynamoDB: the parts of SES, SNS and EventBridge that the stack's calls can see, and the caller's name.

use std::collections::BTreeMap;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use serde_json::{Value, json};

use crate::answer::{form, respond};

/// An account's configuration sets, and what was published in it.
#[derive(Debug, Default)]
pub struct Account {
    /// Configuration sets and whether they may send.
    pub sets: BTreeMap<String, bool>,
    /// Each change of a configuration set, in order: name and whether it may send.
    pub switched: Vec<(String, bool)>,
    /// Messages published to SNS: the form fields.
    pub published: Vec<BTreeMap<String, String>>,
    /// Entries put to EventBridge.
    pub events: Vec<Value>,
    /// Tags of configuration sets.
    pub tags: BTreeMap<String, BTreeMap<String, String>>,
}

/// A call of SES.
#[derive(Clone, Debug)]
pub struct SesCall {
    /// The HTTP method.
    pub method: String,
    /// What comes after `/v2/email/`.
    pub path: String,
    /// The configuration set that it is about; empty if it is about something else.
    pub set: String,
    /// The ARN that it is about; empty if it names none.
    pub arn: String,
    body: Value,
}

impl SesCall {
    /// Reads a call; `None` if it is none of SES.
    pub fn read(method: &str, uri: &str, body: &str) -> Option<SesCall> {
        let (_, path) = uri.split_once("/v2/email/")?;
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let arn = body["ResourceArn"].as_str().unwrap_or("").to_owned();
        let set = match path.strip_prefix("configuration-sets/") {
            Some(rest) => rest.split('/').next().unwrap_or(""),
            None => arn.rsplit('/').next().unwrap_or(""),
        };
        let set = set.to_owned();
        Some(SesCall { method: method.to_owned(), path: path.to_owned(), set, arn, body })
    }
}

impl Account {
    /// Answers a call of SES about a configuration set.
    pub fn answer_ses(&mut self, call: &SesCall) -> HttpResponse {
        let name = &call.set;
        let Some(sending) = self.sets.get(name).copied() else {
            let message = json!({ "message": format!("Configuration set <{name}> does not exist.") });
            return respond(404, Some("NotFoundException"), &message.to_string());
        };
        if call.method == "GET" {
            return self.shown(name, sending);
        }
        if call.path == "tags" {
            for tag in call.body["Tags"].as_array().into_iter().flatten() {
                let [key, value] = ["Key", "Value"].map(|member| tag[member].as_str().unwrap_or("").to_owned());
                self.tags.entry(name.clone()).or_default().insert(key, value);
            }
            return respond(200, None, "{}");
        }
        let wanted = call.body["SendingEnabled"].as_bool().unwrap_or(false);
        if wanted != sending {
            self.sets.insert(name.clone(), wanted);
            self.switched.push((name.clone(), wanted));
        }
        respond(200, None, "{}")
    }

    /// What SES shows of a configuration set, with this state.
    pub fn shown(&self, name: &str, sending: bool) -> HttpResponse {
        let tags = self.tags.get(name).into_iter().flatten();
        let tags: Vec<Value> = tags.map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
        let set =
            json!({ "ConfigurationSetName": name, "Tags": tags, "SendingOptions": { "SendingEnabled": sending } });
        respond(200, None, &set.to_string())
    }

    /// Answers a call of EventBridge: entries are kept.
    pub fn answer_events(&mut self, body: &str) -> HttpResponse {
        let entries = serde_json::from_str::<Value>(body).unwrap_or_default()["Entries"].take();
        let entries = entries.as_array().cloned().unwrap_or_default();
        let ids: Vec<Value> = entries.iter().map(|_| json!({ "EventId": "1" })).collect();
        self.events.extend(entries);
        respond(200, None, &json!({ "FailedEntryCount": 0, "Entries": ids }).to_string())
    }

    /// Answers a call of SNS: the message is kept.
    pub fn answer_sns(&mut self, body: &str) -> HttpResponse {
        self.published.push(form(body).collect());
        respond(
            200,
            None,
            "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
             <MessageId>1</MessageId></PublishResult></PublishResponse>",
        )
    }
}

/// What STS answers to a caller with this ARN.
pub fn caller(arn: &str) -> HttpResponse {
    let xml = format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>{arn}</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>"
    );
    respond(200, None, &xml)
}
