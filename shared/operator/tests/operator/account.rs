//! An AWS account in this process: that of the end-to-end tests, with event destinations and an operator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws::clients::Clients;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_runtime_api::shared::IntoShared;
use aws_smithy_types::body::SdkBody;
use e2e::cloud::Cloud;
use operator::Access;
use serde_json::{Value, json};

/// The caller.
pub(crate) const ARN: &str = "arn:aws:iam::123456789012:user/ann";

/// The account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) cloud: Cloud,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Event destinations as the API shows them, by configuration set.
    pub(crate) destinations: BTreeMap<String, Vec<Value>>,
    /// Calls of SES that changed something: method and path.
    pub(crate) changed: Vec<String>,
    /// When SES was called, on the clock of the test.
    pub(crate) called: Vec<tokio::time::Instant>,
    /// The refusals for the next calls of any service.
    pub(crate) refusals: Vec<(u16, &'static str, &'static str)>,
    /// SES accepts changes of event destinations but does not apply them.
    pub(crate) ignores_changes: bool,
    /// Email identities, and whether each is verified.
    pub(crate) identities: BTreeMap<String, bool>,
    /// The refusal for creating a configuration set.
    pub(crate) set_refusal: Option<(u16, &'static str)>,
    /// Mails that SES accepted: configuration set, and recipient.
    pub(crate) mails: Vec<(String, String)>,
}

impl Account {
    /// An account with these configuration sets.
    pub(crate) fn with(sets: &[&str]) -> Account {
        let account = Account::default();
        for set in sets {
            account.cloud.state().sets.insert((*set).to_owned(), true);
            account.state().destinations.insert((*set).to_owned(), Vec::new());
        }
        account
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Access to the stack `test`, as an operator has it.
    pub(crate) fn access(&self) -> Access {
        self.access_to("test")
    }

    pub(crate) fn access_to(&self, stack: &str) -> Access {
        Access {
            stack: stack.to_owned(),
            region: "eu-west-1".to_owned(),
            profile: None,
            clients: Clients::over(self.clone()),
            user: None,
        }
    }

    fn answer(&self, request: &HttpRequest) -> Option<HttpResponse> {
        let uri = request.uri().to_owned();
        if !self.state().refusals.is_empty() {
            let (status, code, message) = self.state().refusals.remove(0);
            let body = json!({ "__type": format!("com.amazonaws#{code}"), "message": message });
            return Some(respond(status, Some(code), &body.to_string()));
        }
        let body = std::str::from_utf8(request.body().bytes().unwrap_or_default()).unwrap_or("");
        if body.contains("Action=GetCallerIdentity") {
            let xml = format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                 <Arn>{ARN}</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>"
            );
            return Some(respond(200, None, &xml));
        }
        if uri.contains("/v2/email/list-configuration-sets") {
            return self.answer_ses("GET", "", "");
        }
        if let Some((_, identity)) = uri.split_once("/v2/email/identities/") {
            let identity = identity.replace("%40", "@");
            return Some(match self.state().identities.get(&identity) {
                Some(verified) => respond(
                    200,
                    None,
                    &json!({ "VerifiedForSendingStatus": verified, "IdentityType": "DOMAIN" }).to_string(),
                ),
                None => respond(404, Some("NotFoundException"), r#"{"message":"Email identity does not exist."}"#),
            });
        }
        if uri.ends_with("/v2/email/outbound-emails") {
            return Some(self.answer_mail(&serde_json::from_str(body).unwrap()));
        }
        let (_, path) = uri.split_once("/v2/email/configuration-sets")?;
        self.answer_ses(request.method(), path.split('?').next().unwrap_or(""), body)
    }

    fn answer_mail(&self, mail: &Value) -> HttpResponse {
        let set = mail["ConfigurationSetName"].as_str().unwrap().to_owned();
        let to = mail["Destination"]["ToAddresses"][0].as_str().unwrap().to_owned();
        match self.cloud.state().sets.get(&set) {
            Some(true) => {}
            Some(false) => {
                let message = json!({ "message": format!("Email sending for configuration set <{set}> is paused.") });
                return respond(400, Some("SendingPausedException"), &message.to_string());
            }
            None => {
                return respond(404, Some("NotFoundException"), r#"{"message":"Configuration set does not exist."}"#);
            }
        }
        let mut state = self.state();
        state.mails.push((set, to));
        respond(200, None, &json!({ "MessageId": format!("mail-{}", state.mails.len()) }).to_string())
    }

    /// Configuration sets that are created and deleted; `None` for anything else.
    fn answer_whole_set(&self, method: &str, parts: &[&str], body: &Value) -> Option<HttpResponse> {
        let mut state = self.state();
        match (method, parts) {
            ("POST", []) if state.set_refusal.is_some() => {
                let (status, code) = state.set_refusal?;
                return Some(respond(status, Some(code), r#"{"message":"as the test says"}"#));
            }
            ("POST", []) => {
                let name = body["ConfigurationSetName"].as_str().unwrap().to_owned();
                state.changed.push(format!("POST {name}"));
                self.cloud.state().sets.insert(name.clone(), true);
                state.destinations.insert(name, Vec::new());
            }
            ("DELETE", [name]) => {
                state.changed.push(format!("DELETE {name}"));
                if !state.ignores_changes {
                    self.cloud.state().sets.remove(*name);
                    state.destinations.remove(*name);
                }
            }
            _ => return None,
        }
        Some(respond(200, None, "{}"))
    }

    fn answer_ses(&self, method: &str, path: &str, body: &str) -> Option<HttpResponse> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').filter(|part| !part.is_empty()).collect();
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        if let Some(answer) = self.answer_whole_set(method, &parts, &body) {
            return Some(answer);
        }
        let mut state = self.state();
        let (set, destination) = match parts[..] {
            [] => {
                state.called.push(tokio::time::Instant::now());
                let names: Vec<&String> = state.destinations.keys().collect();
                return Some(respond(200, None, &json!({ "ConfigurationSets": names }).to_string()));
            }
            [set, "event-destinations"] => (set, body["EventDestinationName"].as_str().unwrap_or("").to_owned()),
            [set, "event-destinations", name] => (set, name.to_owned()),
            _ => return None,
        };
        state.called.push(tokio::time::Instant::now());
        let ignores_changes = state.ignores_changes;
        if method != "GET" {
            state.changed.push(format!("{method} {path}"));
        }
        let Some(known) = state.destinations.get_mut(set) else {
            let message = json!({ "message": format!("Configuration set <{set}> does not exist.") });
            return Some(respond(404, Some("NotFoundException"), &message.to_string()));
        };
        if method == "GET" {
            return Some(respond(200, None, &json!({ "EventDestinations": known }).to_string()));
        }
        if method == "DELETE" {
            if !ignores_changes {
                known.retain(|known| known["Name"] != json!(destination));
            }
            return Some(respond(200, None, "{}"));
        }
        let mut definition = body["EventDestination"].clone();
        definition["Name"] = json!(destination);
        if !ignores_changes {
            known.retain(|known| known["Name"] != definition["Name"]);
            known.push(definition);
        }
        Some(respond(200, None, "{}"))
    }
}

fn respond(status: u16, code: Option<&'static str>, body: &str) -> HttpResponse {
    let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body));
    if let Some(code) = code {
        response.headers_mut().insert("x-amzn-errortype", code);
    }
    response
}

impl HttpConnector for Account {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match self.answer(&request) {
            Some(answer) => HttpConnectorFuture::ready(Ok(answer)),
            None => self.cloud.call(request),
        }
    }
}

impl HttpClient for Account {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}
