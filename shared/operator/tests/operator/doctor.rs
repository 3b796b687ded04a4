//! The doctor's reading, against answers in this process. The answers of a real emulated AWS are in
//! `tests/tests/emulator/doctor.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws::clients::Clients;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_runtime_api::shared::IntoShared;
use aws_smithy_types::body::SdkBody;
use e2e::stack::Stack;
use operator::doctor::doctor;
use operator::{Access, Answer, Exit};
use reputation::time::Now;
use serde_json::{Value, json};
use terminal::visible;
use tokio::time::Instant;

use crate::account::Account;
use crate::answers::answered;

/// 2026-10-06 09:00:00 UTC.
const MORNING: Now = Now(1_791_277_200_000);

/// An account in which the caller may read the tables, and gets SES's answers by path; everything else is denied.
#[derive(Clone, Debug, Default)]
struct Denied {
    account: Account,
    /// The date header of DynamoDB's answers.
    date: Option<&'static str>,
    ses: BTreeMap<&'static str, Value>,
    /// When SES was called.
    called: Arc<Mutex<Vec<Instant>>>,
}

impl Denied {
    async fn examined(&self) -> Answer {
        let access = Access { clients: Clients::over(self.clone()), ..self.account.access() };
        answered(doctor(&access, MORNING, &|_, _, _| {}).await).unwrap()
    }
}

fn respond(status: u16, body: String) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body))
}

impl HttpConnector for Denied {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri().to_owned();
        if uri.contains("//dynamodb.") {
            let (answer, date) = (self.account.call(request), self.date);
            return HttpConnectorFuture::new(async move {
                let mut answer = answer.await?;
                date.map(|date| answer.headers_mut().insert("date", date));
                Ok(answer)
            });
        }
        let path = uri.split_once("/v2/email/").map(|(_, path)| path.split('?').next().unwrap());
        if path.is_some() {
            self.called.lock().unwrap().push(Instant::now());
        }
        HttpConnectorFuture::ready(Ok(match path.and_then(|path| self.ses.get(path)) {
            Some(answer) => respond(200, answer.to_string()),
            None if uri.contains("//sns.") => {
                let error = "<Code>AuthorizationError</Code><Message>User ann is not authorized</Message>";
                respond(403, format!("<ErrorResponse><Error>{error}</Error></ErrorResponse>"))
            }
            None => {
                let mut denied = respond(403, json!({ "message": "User ann is not authorized" }).to_string());
                denied.headers_mut().insert("x-amzn-errortype", "AccessDeniedException");
                denied
            }
        }))
    }
}

impl HttpClient for Denied {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}

/// SES's answers for an account with two configuration sets, a domain and three addresses.
fn ses() -> BTreeMap<&'static str, Value> {
    let identity = |name: &str| json!({ "IdentityName": name, "IdentityType": "DOMAIN", "SendingEnabled": true });
    let identities = ["ann@example.com", "bob@example.com", "example.org", "zoe@example.net"].map(identity);
    let ip = |percent: i32| {
        let status = if percent < 0 { "NOT_APPLICABLE" } else { "DONE" };
        json!({ "DedicatedIp": { "Ip": "192.0.2.1", "WarmupStatus": status, "WarmupPercentage": percent } })
    };
    BTreeMap::from([
        (
            "account",
            json!({ "SendingEnabled": true, "ProductionAccessEnabled": true, "EnforcementStatus": "HEALTHY",
            "SendQuota": { "Max24HourSend": 200.0, "MaxSendRate": 1.0, "SentLast24Hours": 3.0 } }),
        ),
        ("list-configuration-sets", json!({ "ConfigurationSets": ["news", "shop"] })),
        ("configuration-sets/shop/event-destinations", json!({ "EventDestinations": [] })),
        ("configuration-sets/shop", json!({ "ReputationOptions": { "ReputationMetricsEnabled": true } })),
        ("identities", json!({ "EmailIdentities": identities })),
        ("list-identities", json!({ "EmailIdentities": identities })),
        ("identities/example.org", json!({ "ConfigurationSetName": "shop" })),
        ("identities/ann%40example.com", json!({})),
        ("identities/bob%40example.com", json!({})),
        ("dedicated-ips/192.0.2.1", ip(100)),
        ("dedicated-ips/192.0.2.2", ip(-1)),
    ])
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_is_named_and_hides_nothing_else_and_no_address_is_shown() {
    let date = Some("Tue, 06 Oct 2026 08:50:00 GMT");
    let account = Denied { account: Account::with(&["news", "shop"]), date, ses: ses(), ..Denied::default() };
    Stack::push(
        &account.account.cloud,
        "[warmup.sets]\nshop = {}\n\n[warmup.dedicated_ips]\nshop = [\"192.0.2.1\", \"192.0.2.2\"]\n",
    )
    .await;
    let answer = account.examined().await;
    assert_eq!(answer.exit, Exit::No);
    insta::assert_snapshot!(visible(&answer.text));
    for address in ["ann@", "bob@", "zoe@"] {
        assert!(!answer.json.contains(address), "{}", answer.json);
    }
    let called = account.called.lock().unwrap().clone();
    let gaps = called.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.min().unwrap() >= Duration::from_secs(1), "{called:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_date_the_clock_is_not_examined_and_without_faults_it_ends_well() {
    let answer = Denied::default().examined().await;
    assert_eq!(answer.exit, Exit::Done);
    let output: Value = serde_json::from_str(&answer.json).unwrap();
    assert_eq!(output["findings"], json!([]));
    let clock = output["not_examined"].as_array().unwrap().iter().find(|unseen| unseen["checks"] == json!(["clock"]));
    assert_eq!(clock.unwrap()["reason"], "the answer of AWS has no date");
    let examined = output["checks"].as_array().unwrap().iter().filter(|check| check["examined"] == true);
    let examined: Vec<&str> = examined.map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(examined, ["identity-notifications", "policy", "policy-names", "dedicated-ips"]);
}

#[tokio::test(start_paused = true)]
async fn of_very_many_configuration_sets_the_first_are_asked_about_and_the_others_counted() {
    let mut ses = ses();
    let names: Vec<String> = (0..203).map(|number| format!("set-{number:03}")).collect();
    ses.insert("list-configuration-sets", json!({ "ConfigurationSets": names }));
    ses.insert("configuration-sets/set-199/event-destinations", json!({}));
    ses.insert("configuration-sets/set-200/event-destinations", json!({}));
    let account = Denied { ses, ..Denied::default() };
    let output: Value = serde_json::from_str(&account.examined().await.json).unwrap();
    let found =
        output["findings"].as_array().unwrap().iter().filter(|finding| finding["kind"] == "destination-missing");
    let found: Vec<&str> = found.map(|finding| finding["subject"].as_str().unwrap()).collect();
    assert_eq!(found, ["configuration-set:set-199"]);
    let unseen = output["not_examined"].as_array().unwrap().iter();
    let mut unseen = unseen.filter(|unseen| unseen["checks"] == json!(["destinations"]) && unseen["denied"] == false);
    let unseen = unseen.next().unwrap();
    assert_eq!(unseen["of"], json!(["3 configuration sets"]));
    assert!(unseen["reason"].as_str().unwrap().starts_with("there are 203 configuration sets, "), "{unseen}");
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_is_not_there_is_no_diagnosis() {
    let account = Account::default();
    let refused = answered(doctor(&account.access_to("mail"), MORNING, &|_, _, _| {}).await).unwrap_err();
    assert_eq!(refused.exit(), Exit::Refused);
    assert!(refused.remedy().contains("no stack named mail"), "{}", refused.remedy());
}
