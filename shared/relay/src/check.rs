//! `ses-relay check`: whether the relay could work as it is configured, without sending mail.

use std::time::Duration;

use aws_config::SdkConfig;
use bytes::Bytes;
use http::Request;
use serde::Serialize;
use terminal::{Align, BAD, Cell, GOOD, Grid};

use crate::answer::code_of;
use crate::config::{Config, ExpireHours, Hold, Smtp};
use crate::hold::{self, S3Store, new_id};
use crate::ses_http::{HttpSes, SES};
use crate::submit;

/// What was checked.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) checks: Vec<Check>,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) what: &'static str,
    pub(crate) ok: bool,
    pub(crate) detail: String,
    /// What to do about it; empty if nothing is wrong.
    pub(crate) remedy: &'static str,
}

impl Report {
    pub(crate) fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    pub(crate) fn text(&self) -> String {
        let mut grid = Grid::new(&[("check", Align::Left), ("", Align::Left), ("result", Align::Left)], 2);
        for Check { what, ok, detail, remedy } in &self.checks {
            let (word, style) = if *ok { ("good", GOOD) } else { ("FAULT", BAD) };
            let detail = if remedy.is_empty() { detail.clone() } else { format!("{detail}. {remedy}") };
            grid.push(vec![Cell::new(*what), Cell::styled(word, style), Cell::new(terminal::sanitize(&detail))]);
        }
        grid.lines().join("\n") + "\n"
    }
}

/// How long each call may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Checks credentials, the gate, SES and the SMTP listener. The configuration has been read before.
pub(crate) async fn check(config: &Config, gate: &str, endpoint: &str, region: &str, aws: &SdkConfig) -> Report {
    let classes = config.class.len();
    let set = config.default_configuration_set.as_deref().unwrap_or("none: mail must name one");
    let detail = format!("valid; default configuration set {set}; {classes} rules for classes; Region {region}");
    let mut checks = vec![Check { what: "configuration", ok: true, detail, remedy: "" }];
    let ses = HttpSes::new(endpoint, region, aws, TIMEOUT);
    let (credentials, ses_check) = match &ses {
        Ok(ses) => (credentials(ses).await, ses_answers(ses, endpoint).await),
        Err(error) => {
            let fault = |what| Check { what, ok: false, detail: error.to_string(), remedy: "" };
            (fault("credentials"), fault("SES"))
        }
    };
    checks.push(credentials);
    checks.push(gate_answers(gate, region, aws).await);
    checks.push(ses_check);
    if let Some(hold) = &config.hold {
        checks.push(held_mail(hold, aws).await);
    }
    checks.extend(config.smtp.as_ref().map(|smtp| submission(config, smtp)));
    Report { checks }
}

/// Certificates, users, and whether they are enough for the address. Listens on nothing.
fn submission(config: &Config, smtp: &Smtp) -> Check {
    let what = "SMTP";
    match submit::prepare(config, smtp) {
        Ok(_) => Check { what, ok: true, detail: submit::described(smtp), remedy: "" },
        Err(fault) => Check { what, ok: false, detail: fault.to_string(), remedy: "" },
    }
}

/// Writes, reads, lists and deletes an object in each place that the relay uses.
async fn held_mail(hold: &Hold, aws: &SdkConfig) -> Check {
    let what = "held mail";
    let bucket = &hold.bucket;
    let store = S3Store::new(aws, bucket, &hold.prefix, hold.endpoint.as_deref());
    let Some(id) = new_id() else {
        return Check { what, ok: false, detail: "the system has no random numbers".to_owned(), remedy: "" };
    };
    let alerts =
        if hold.alert_topic.is_some() { "alerts go to a topic" } else { "no alert_topic: only the log says so" };
    match hold::probe(&store, &id).await {
        Ok(()) => {
            let ExpireHours { bulk, critical } = hold.expire_hours;
            let detail =
                format!("bucket {bucket} can be used; bulk mail waits {bulk} h, critical mail {critical} h; {alerts}");
            Check { what, ok: true, detail, remedy: "" }
        }
        Err(error) => Check {
            what,
            ok: false,
            detail: format!("bucket {bucket}: {error}; needed: {}", permission(error.operation())),
            remedy: "The relay's role needs the policy RelayPolicyArn, an output of a stack with HoldMail=true (infra/RELAY.md)",
        },
    }
}

/// What a request to the store needs.
fn permission(operation: &str) -> &'static str {
    match operation {
        "PutObject" => "s3:PutObject on held/*, claims/*, expired/* and refused/*",
        "GetObject" | "HeadObject" => "s3:GetObject on held/* and claims/*",
        "DeleteObject" => "s3:DeleteObject on held/* and claims/*",
        _ => "s3:ListBucket on the bucket",
    }
}

async fn credentials(ses: &HttpSes) -> Check {
    match ses.credentials().await {
        // The name of a key is not a secret, but what stands in logs should be short.
        Ok(key) => {
            let begin: String = key.chars().take(4).collect();
            Check { what: "credentials", ok: true, detail: format!("found ({begin}…)"), remedy: "" }
        }
        Err(detail) => Check {
            what: "credentials",
            ok: false,
            detail,
            remedy: "The relay finds them as every program of AWS does: environment, profile, or the role of the machine",
        },
    }
}

async fn gate_answers(gate: &str, region: &str, aws: &SdkConfig) -> Check {
    let what = "gate";
    let fault = |detail: String, remedy: &'static str| Check { what, ok: false, detail, remedy };
    let base = gate.trim_end_matches('/');
    let client = match HttpSes::new(base, region, aws, TIMEOUT) {
        Ok(client) => client,
        Err(error) => return fault(error.to_string(), "The URL is the output GateUrl of the stack"),
    };
    let Ok(request) = Request::get(format!("{base}/v1/health")).body(Bytes::new()) else {
        return fault(format!("`{gate}` is not a URL"), "");
    };
    match client.call("lambda", request).await {
        Ok(answer) if answer.status().is_success() => {
            Check { what, ok: true, detail: String::from_utf8_lossy(answer.body()).into_owned(), remedy: "" }
        }
        Ok(answer) if answer.status() == 403 => {
            fault("HTTP 403".to_owned(), "The relay needs lambda:InvokeFunctionUrl on the gate (infra/GATE.md)")
        }
        Ok(answer) => fault(format!("HTTP {}", answer.status().as_u16()), "See the gate's log"),
        Err(error) => fault(error.to_string().replace("SES was not", "it was not").replace("from SES", "from it"), ""),
    }
}

async fn ses_answers(ses: &HttpSes, endpoint: &str) -> Check {
    let what = "SES";
    let Ok(request) = Request::get(format!("{}/v2/email/account", endpoint.trim_end_matches('/'))).body(Bytes::new())
    else {
        return Check { what, ok: false, detail: format!("`{endpoint}` is not a URL"), remedy: "" };
    };
    match ses.call(SES, request).await {
        Ok(answer) if answer.status().is_success() => {
            let account: serde_json::Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            let detail = match account["SendingEnabled"].as_bool() {
                Some(false) => {
                    return Check {
                        what,
                        ok: false,
                        detail: format!("{endpoint} answers: sending is switched off for the account"),
                        remedy: "",
                    };
                }
                Some(true) => "sending is enabled",
                None => "it says nothing about sending",
            };
            Check { what, ok: true, detail: format!("{endpoint} answers: {detail}"), remedy: "" }
        }
        Ok(answer) => {
            let code = code_of(&answer).unwrap_or_else(|| answer.status().to_string());
            // The relay need not be allowed to look at the account: that it is refused for this reason proves the rest.
            let ok = code.starts_with("AccessDenied");
            let detail = if ok {
                format!("{endpoint} answers; ses:GetAccount is not permitted, and not needed")
            } else {
                format!("{endpoint}: {code}")
            };
            Check { what, ok, detail, remedy: "" }
        }
        Err(error) => Check { what, ok: false, detail: error.to_string(), remedy: "" },
    }
}
