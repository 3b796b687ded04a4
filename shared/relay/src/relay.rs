//! The use case: a request comes in, the gate is asked, SES is called, and its answer goes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN};
use http::{Method, Request, Response};
use tokio::time::Instant;

use crate::answer::{Fault, NAMESPACE, Protocol, code_of, whole_secs};
use crate::bulk::{self, EntryStatus};
use crate::config::{CLASS_TAG, Config};
use crate::forward::{BulkForward, Forward, Operation, Parsed, Target};
use crate::hold::{HeldMail, Holding};
use crate::mail::{Mail, Rules};
use crate::metrics::{Metrics, Outcome};
use crate::plan::{ByIsp, Grants, What, plan};
use crate::ports::{Call, Deferral, NoPermission, NotAnswered, Permitting, Ses};
use crate::{large, v1, v2};

/// Relays requests of the SES API: asks the gate for each mail, and hands it to SES with the route that the gate names.
#[derive(Clone)]
pub struct Relay {
    parts: Arc<Parts>,
}

struct Parts {
    rules: Rules,
    permitting: Arc<dyn Permitting>,
    ses: Arc<dyn Ses>,
    metrics: Arc<Metrics>,
    /// How long a message that came over SMTP may take.
    submission_limit: Duration,
    /// Where mail is held; without it, all is refused that may not go.
    holding: Option<Holding>,
}

/// A call of SES for one mail, or for one entry of a bulk call.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) answer: Result<Response<Bytes>, NotAnswered>,
    pub(crate) outcome: Outcome,
    /// The code or the problem.
    pub(crate) why: String,
    /// How long the mail waits, if SES has not taken it only for now.
    pub(crate) defers: Option<Duration>,
    took: Duration,
}

impl Called {
    fn new(answer: Result<Response<Bytes>, NotAnswered>, took: Duration) -> Called {
        let outcome = outcome_of(&answer);
        let why = match &answer {
            Ok(answer) => code_of(answer).unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        let defers = if outcome == Outcome::Refused { EntryStatus::of_code(&why).defers() } else { None };
        Called { answer, outcome, why, defers, took }
    }

    /// Whether SES refuses the relay, and not the mail: its credentials, its permissions, or its clock.
    pub(crate) fn refuses_relay(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| [401, 403].contains(&answer.status().as_u16()))
    }

    /// What the answer to a bulk call of one entry says about that entry.
    pub(crate) fn of_only_entry(mut self, path: &str) -> Called {
        if let (Ok(answer), Outcome::Sent) = (&self.answer, self.outcome) {
            match bulk::results(protocol_of(path), answer.body()).as_deref() {
                Some([entry]) if entry.accepted => {}
                Some([entry]) => {
                    (self.outcome, self.why) = (Outcome::Refused, entry.status.clone());
                    self.defers = bulk::defers_entry(&entry.status);
                }
                Some(_) | None => self.outcome = Outcome::Unclear,
            }
        }
        self
    }
}

/// What became of one message.
#[derive(Debug)]
pub(crate) enum Done {
    /// SES answered.
    Answered(Response<Bytes>),
    /// The relay answers.
    Fault(Fault),
}

/// What SES's answer means for the mail.
fn outcome_of(answer: &Result<Response<Bytes>, NotAnswered>) -> Outcome {
    match answer {
        Ok(answer) => match answer.status().as_u16() {
            200..=299 => Outcome::Sent,
            // A request that timed out on its way may have been read.
            408 => Outcome::Unclear,
            400..=499 => Outcome::Refused,
            _ => Outcome::Unclear,
        },
        Err(NotAnswered::NotSent(_)) => Outcome::Failed,
        Err(NotAnswered::Unclear(_)) => Outcome::Unclear,
    }
}

/// Whether it is certain that SES has not accepted the mail, so that its permits can be put back.
fn is_unused(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Refused | Outcome::Failed | Outcome::Deferred | Outcome::Held => true,
        Outcome::Sent | Outcome::Unclear => false,
    }
}

impl Relay {
    /// A relay with these rules and ports.
    pub(crate) fn new(
        rules: Rules,
        permitting: Arc<dyn Permitting>,
        ses: Arc<dyn Ses>,
        metrics: Arc<Metrics>,
        submission_limit: Duration,
        holding: Option<Holding>,
    ) -> Relay {
        Relay { parts: Arc::new(Parts { rules, permitting, ses, metrics, submission_limit, holding }) }
    }

    /// A relay for tests and benches: mail that names no configuration set is of `default_set`.
    pub fn over(default_set: &str, permitting: Arc<dyn Permitting>, ses: Arc<dyn Ses>) -> Relay {
        let rules =
            Rules { default_set: Some(default_set.to_owned()), class_tag: CLASS_TAG.to_owned(), ..Rules::default() };
        Relay::new(rules, permitting, ses, Arc::default(), Config::default().submission_limit(), None)
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.parts.rules
    }

    pub(crate) fn submission_limit(&self) -> Duration {
        self.parts.submission_limit
    }

    /// Its counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.parts.metrics
    }

    /// Answers a request. Never fails: what goes wrong is an answer in the shape of SES.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let protocol = protocol_of(head.uri.path());
        let request_id = request_id();
        let content_type =
            head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let (operation, parsed) = match refused_head(&head.method, head.uri.query(), &head.headers) {
            Some(fault) => (None, Err(fault)),
            None => {
                let (own, path, length) = (self.clone(), head.uri.path().to_owned(), body.len());
                let parsed = large::on(length, move || own.parse(protocol, &path, body)).await;
                let fault = || Fault::Unavailable("the request could not be read".to_owned());
                parsed.unwrap_or_else(|| (None, Err(fault())))
            }
        };
        let (done, in_ses) = match (operation, parsed) {
            (_, Err(fault)) => {
                let label = operation.map_or(if protocol == Protocol::V1 { "v1" } else { "v2" }, |(label, _)| label);
                self.parts.metrics.rejected(label, rejection(&fault));
                (Done::Fault(fault), Duration::ZERO)
            }
            (None, Ok(_)) => (Done::Fault(Fault::Unsupported("unknown operation".to_owned())), Duration::ZERO),
            (Some((operation, path)), Ok(Parsed::Single(mail, forward))) => {
                self.send_one(operation, Target { path, content_type }, &mail, forward).await
            }
            (Some((operation, path)), Ok(Parsed::Bulk(mails, forward))) => {
                self.send_bulk(operation, protocol, Target { path, content_type }, &mails, &forward, &request_id).await
            }
        };
        self.parts.metrics.added(began.elapsed().saturating_sub(in_ses));
        match done {
            Done::Answered(response) => response,
            Done::Fault(fault) => fault.response(protocol, &request_id),
        }
    }

    /// A fault that the server found before the request was whole.
    pub(crate) fn reject(&self, path: &str, fault: &Fault) -> Response<Bytes> {
        let protocol = protocol_of(path);
        self.parts.metrics.rejected(if protocol == Protocol::V1 { "v1" } else { "v2" }, rejection(fault));
        fault.response(protocol, &request_id())
    }

    fn parse(
        &self,
        protocol: Protocol,
        path: &str,
        body: Bytes,
    ) -> (Option<(Operation, &'static str)>, Result<Parsed, Fault>) {
        match protocol {
            Protocol::V2 => {
                let operation = match path {
                    v2::SEND => Some(("v2 SendEmail", v2::SEND)),
                    v2::SEND_BULK => Some(("v2 SendBulkEmail", v2::SEND_BULK)),
                    _ => None,
                };
                (operation, v2::parse(path, body, &self.parts.rules))
            }
            Protocol::V1 => {
                let (action, parsed) = v1::parse(body, &self.parts.rules);
                let operation = action.map(|action| match action {
                    v1::Action::Simple => "v1 SendEmail",
                    v1::Action::Raw => "v1 SendRawEmail",
                    v1::Action::Templated => "v1 SendTemplatedEmail",
                    v1::Action::Bulk => "v1 SendBulkTemplatedEmail",
                });
                (operation.map(|operation| (operation, "/")), parsed)
            }
        }
    }

    /// Sends one message, or says why not. Returns the time that SES took, too.
    pub(crate) async fn send_one(
        &self,
        operation: Operation,
        target: Target,
        mail: &Mail,
        forward: Forward,
    ) -> (Done, Duration) {
        let plan = plan(&*self.parts.permitting, mail).await;
        let (route, grants) = match plan.what {
            What::Go(route, grants) => (route, grants),
            What::Wait(deferral) => {
                if let Some(id) = self.hold(operation, target, mail, forward.body, deferral.isp.as_deref()).await {
                    self.count(operation, mail, &plan.by_isp, Outcome::Held, &deferral.reason);
                    return (Done::Answered(held_response(operation, &id)), Duration::ZERO);
                }
                self.count(operation, mail, &plan.by_isp, Outcome::Deferred, &deferral.reason);
                return (Done::Fault(deferred(deferral)), Duration::ZERO);
            }
            What::Apart(deferral) => {
                self.count(operation, mail, &plan.by_isp, Outcome::Deferred, &deferral.reason);
                return (Done::Fault(deferred(deferral)), Duration::ZERO);
            }
            What::Fail(error) => {
                let (outcome, fault) = failed(error);
                self.count(operation, mail, &plan.by_isp, outcome, &fault.message());
                return (Done::Fault(fault), Duration::ZERO);
            }
        };
        let body = forward.body.clone();
        let call = target.clone().call(forward.with_route(&route));
        let Called { answer, outcome, why, defers, took } = self.call(call, grants).await;
        if defers.is_some() {
            let isp = plan.by_isp.iter().find_map(|(isp, _)| isp.as_deref());
            if let Some(id) = self.hold(operation, target, mail, body, isp).await {
                self.count(operation, mail, &plan.by_isp, Outcome::Held, &why);
                return (Done::Answered(held_response(operation, &id)), took);
            }
        }
        self.count(operation, mail, &plan.by_isp, outcome, &why);
        match answer {
            Ok(answer) => (Done::Answered(answer), took),
            Err(error) => (Done::Fault(Fault::Unavailable(error.to_string())), took),
        }
    }

    /// Hands a mail to SES. Its grants are put back if SES has not accepted it, for certain.
    pub(crate) async fn call(&self, call: Call, mut grants: Grants) -> Called {
        let began = Instant::now();
        grants.sent();
        let answer = self.parts.ses.send(call).await;
        let called = Called::new(answer, began.elapsed());
        if is_unused(called.outcome) {
            grants.put_back();
        }
        called
    }

    /// Stores a mail that may not go now. Returns its message id; `None` if its caller has to keep it.
    async fn hold(
        &self,
        operation: Operation,
        target: Target,
        mail: &Mail,
        body: Bytes,
        isp: Option<&str>,
    ) -> Option<String> {
        let holding = self.parts.holding.as_ref().filter(|_| mail.holds)?;
        let class_tag = self.parts.rules.class_tag.clone();
        holding.hold(&HeldMail { operation, target, mail: mail.clone(), class_tag, body }, isp).await
    }

    /// Stores an entry of a bulk call, as a call of its own.
    async fn hold_entry(
        &self,
        operation: Operation,
        target: &Target,
        mail: &Mail,
        forward: &BulkForward,
        index: usize,
        isp: Option<&str>,
    ) -> Option<String> {
        if !mail.holds || self.parts.holding.is_none() {
            return None;
        }
        let body = forward.with_route(&mail.sender.set, &[index]);
        self.hold(operation, target.clone(), mail, body, isp).await
    }

    /// The port to the gate.
    pub(crate) fn permitting(&self) -> &dyn Permitting {
        &*self.parts.permitting
    }

    /// Sends the entries of a bulk call that may go, one call for each route, and answers about all in their order.
    async fn send_bulk(
        &self,
        operation: Operation,
        protocol: Protocol,
        target: Target,
        mails: &[Mail],
        forward: &BulkForward,
        request_id: &str,
    ) -> (Done, Duration) {
        // Polled in their order, so that the first entries get what there is.
        let plans = join_all(mails.iter().map(|mail| plan(&*self.parts.permitting, mail))).await;
        let mut results: Vec<Option<String>> = vec![None; mails.len()];
        let mut routes: BTreeMap<Arc<str>, Vec<(usize, Grants)>> = BTreeMap::new();
        let mut isps: Vec<ByIsp> = Vec::with_capacity(mails.len());
        let mut waiting: Vec<(usize, Deferral, bool)> = Vec::new();
        let mut failure = None;
        let mut held = 0_usize;
        for (index, plan) in plans.into_iter().enumerate() {
            match plan.what {
                What::Go(route, grants) => routes.entry(route).or_default().push((index, grants)),
                What::Wait(deferral) => waiting.push((index, deferral, true)),
                What::Apart(deferral) => waiting.push((index, deferral, false)),
                What::Fail(error) => {
                    let (outcome, fault) = failed(error);
                    self.count(operation, &mails[index], &plan.by_isp, outcome, &fault.message());
                    let status = match outcome {
                        Outcome::Refused => EntryStatus::InvalidParameter,
                        Outcome::Failed | Outcome::Sent | Outcome::Deferred | Outcome::Held | Outcome::Unclear => {
                            EntryStatus::TransientFailure
                        }
                    };
                    results[index] = Some(status.result(protocol, &fault.message()));
                    failure = Some(fault);
                }
            }
            isps.push(plan.by_isp);
        }
        let began = Instant::now();
        let calls = routes.into_iter().map(|(route, entries)| {
            let (chosen, mut grants): (Vec<usize>, Vec<Grants>) = entries.into_iter().unzip();
            let call = target.clone().call(forward.with_route(&route, &chosen));
            grants.iter_mut().for_each(Grants::sent);
            async move { (chosen, grants, self.parts.ses.send(call).await) }
        });
        let mut answers = join_all(calls).await;
        let in_ses = began.elapsed();
        // What may go has gone first: a store that hangs takes long.
        let (mut waits, mut is_stored) = (Vec::new(), true);
        for (index, deferral, may_be_held) in waiting {
            let (mail, isp) = (&mails[index], deferral.isp.as_deref());
            let is_held = may_be_held && mail.holds && self.parts.holding.is_some();
            let id = match is_held && is_stored {
                true => self.hold_entry(operation, &target, mail, forward, index, isp).await,
                false => None,
            };
            if let Some(id) = id {
                self.count(operation, mail, &isps[index], Outcome::Held, &deferral.reason);
                results[index] = Some(bulk::success(protocol, &id));
                held += 1;
                continue;
            }
            // A store that fails is not asked for each of the others.
            is_stored &= !is_held;
            self.count(operation, mail, &isps[index], Outcome::Deferred, &deferral.reason);
            let message = deferred(deferral.clone()).message();
            results[index] = Some(EntryStatus::Throttled.result(protocol, &message));
            waits.push(deferral);
        }
        if answers.is_empty() && held == 0 {
            // A caller that looks only at the status of the answer must not take this for a success.
            waits.sort_by_key(|deferral| deferral.retry_after);
            let fault = waits.into_iter().next().map(deferred).or(failure);
            let fault = fault.unwrap_or_else(|| Fault::Malformed("there is no entry".to_owned()));
            return (Done::Fault(fault), Duration::ZERO);
        }
        // What concerns all that was sent is passed through: no entry was accepted, those that wait included.
        let whole_call = answers.len() == 1
            && answers.iter().all(|(chosen, _, answer)| {
                chosen.len() == mails.len() || !answer.as_ref().is_ok_and(|answer| answer.status().is_success())
            });
        let mut whole = None;
        for (chosen, grants, answer) in answers.drain(..) {
            for index in self.settle(operation, protocol, mails, &isps, &chosen, grants, &answer, &mut results) {
                let isp = isps[index].iter().find_map(|(isp, _)| isp.as_deref());
                let id = self.hold_entry(operation, &target, &mails[index], forward, index, isp).await;
                let outcome = if id.is_some() { Outcome::Held } else { Outcome::Refused };
                self.count(operation, &mails[index], &isps[index], outcome, "SES lets it wait");
                if let Some(id) = id {
                    results[index] = Some(bulk::success(protocol, &id));
                    held += 1;
                }
            }
            whole = Some(answer);
        }
        if whole_call
            && held == 0
            && let Some(answer) = whole
        {
            let done = match answer {
                Ok(answer) => Done::Answered(answer),
                Err(error) => Done::Fault(Fault::Unavailable(error.to_string())),
            };
            return (done, in_ses);
        }
        let results: Vec<String> = results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| EntryStatus::Failed.result(protocol, "no result")))
            .collect();
        (Done::Answered(bulk::response(protocol, &results, request_id)), in_ses)
    }

    /// What one call of a bulk request means for its entries. Returns those that SES lets wait, which are not counted yet.
    #[expect(clippy::too_many_arguments, reason = "one place, which needs all of a bulk call")]
    fn settle(
        &self,
        operation: Operation,
        protocol: Protocol,
        mails: &[Mail],
        isps: &[ByIsp],
        chosen: &[usize],
        grants: Vec<Grants>,
        answer: &Result<Response<Bytes>, NotAnswered>,
        results: &mut [Option<String>],
    ) -> Vec<usize> {
        let mut deferred = Vec::new();
        let of_call = outcome_of(answer);
        let entries = match answer {
            Ok(answer) if of_call == Outcome::Sent => bulk::results(protocol, answer.body()),
            Ok(_) | Err(_) => None,
        };
        let entries = entries.filter(|entries| entries.len() == chosen.len());
        let why = match answer {
            Ok(answer) => code_of(answer).unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        for (number, (index, grants)) in chosen.iter().zip(grants).enumerate() {
            let mut waits = false;
            let (outcome, result) = match entries.as_ref().and_then(|entries| entries.get(number)) {
                Some(entry) if entry.accepted => (Outcome::Sent, entry.text.clone()),
                Some(entry) => {
                    waits = bulk::defers_entry(&entry.status).is_some();
                    (Outcome::Refused, entry.text.clone())
                }
                None => match of_call {
                    Outcome::Sent => {
                        let error = "SES accepted the call, and its answer about this entry cannot be read";
                        (Outcome::Unclear, EntryStatus::Failed.result(protocol, error))
                    }
                    Outcome::Refused => {
                        let error = format!("SES refused the call: {why}");
                        let status = EntryStatus::of_code(&why);
                        waits = status.defers().is_some();
                        (Outcome::Refused, status.result(protocol, &error))
                    }
                    Outcome::Unclear | Outcome::Failed | Outcome::Deferred | Outcome::Held => {
                        (of_call, EntryStatus::TransientFailure.result(protocol, &why))
                    }
                },
            };
            if is_unused(outcome) {
                grants.put_back();
            }
            if waits {
                deferred.push(*index);
            } else {
                self.count(operation, &mails[*index], &isps[*index], outcome, &why);
            }
            results[*index] = Some(result);
        }
        deferred
    }

    /// Counts and logs what became of a mail: by ISP, without domains and addresses.
    pub(crate) fn count(&self, operation: Operation, mail: &Mail, by_isp: &ByIsp, outcome: Outcome, why: &str) {
        for (isp, mails) in by_isp {
            self.parts.metrics.mails(operation, mail.class, isp.as_ref(), outcome, *mails);
        }
        let isps = || {
            let names: Vec<String> = by_isp
                .iter()
                .map(|(isp, mails)| format!("{} {mails}", isp.as_deref().unwrap_or("(unknown)")))
                .collect();
            names.join(", ")
        };
        let (class, set) = (mail.class.name(), mail.sender.set.as_str());
        match outcome {
            Outcome::Sent => tracing::debug!(operation, class, set, mails = isps(), "sent"),
            // The gate's reasons name ISPs. What else may be in `why` may quote a domain.
            Outcome::Deferred | Outcome::Held => {
                tracing::info!(operation, class, set, mails = isps(), why, "{}", outcome.name());
            }
            Outcome::Refused => {
                let code = if why.bytes().all(|byte| byte.is_ascii_alphanumeric()) { why } else { "" };
                tracing::info!(operation, class, set, mails = isps(), code, "refused");
            }
            Outcome::Unclear | Outcome::Failed => {
                tracing::warn!(operation, class, set, mails = isps(), why, "{}", outcome.name());
            }
        }
    }
}

fn protocol_of(path: &str) -> Protocol {
    if path.starts_with("/v2/") { Protocol::V2 } else { Protocol::V1 }
}

/// What no operation that is relayed has.
fn refused_head(method: &Method, query: Option<&str>, headers: &HeaderMap) -> Option<Fault> {
    if method != Method::POST || query.is_some() {
        return Some(Fault::Unsupported(
            "the relay supports SendEmail and SendBulkEmail of API v2, and SendEmail, SendRawEmail, SendTemplatedEmail and \
             SendBulkTemplatedEmail of API v1, by POST without a query; send other requests to SES itself"
                .to_owned(),
        ));
    }
    // A page in a browser can send a form to any address, but no such header without the consent of this relay, which never
    // comes. Whose signature it is, is not checked.
    let signed = headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS4-"));
    if !signed || headers.contains_key(ORIGIN) {
        return Some(Fault::Malformed(
            "the request is not signed: send it by an SDK of AWS, with any credentials; pages in a browser cannot send mail"
                .to_owned(),
        ));
    }
    let encoding = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes());
    if encoding.is_some_and(|encoding| !encoding.is_empty() && encoding != b"identity") {
        return Some(Fault::Malformed("the relay reads no compressed requests".to_owned()));
    }
    None
}

pub(crate) fn rejection(fault: &Fault) -> &'static str {
    match fault {
        Fault::Malformed(_) => "malformed",
        Fault::Unsupported(_) => "unsupported",
        Fault::TooLarge(_) => "too_large",
        Fault::Slow => "slow",
        Fault::Deferred { .. } => "deferred",
        Fault::Unavailable(_) => "unavailable",
    }
}

/// What the caller of a mail that is held is answered: as SES answers when it has accepted a mail.
fn held_response(operation: Operation, id: &str) -> Response<Bytes> {
    let request_id = request_id();
    let (content_type, text) = match operation.strip_prefix("v1 ") {
        Some(action) => (
            "text/xml",
            format!(
                "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result><MessageId>{id}</MessageId></{action}Result>\
                 <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
            ),
        ),
        None => ("application/json", serde_json::json!({ "MessageId": id }).to_string()),
    };
    let mut response = Response::new(Bytes::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

fn deferred(deferral: Deferral) -> Fault {
    let Deferral { retry_after, isp, reason } = deferral;
    let reason = match isp {
        Some(isp) if !reason.contains(&*isp) => format!("mail to {isp} has to wait: {reason}"),
        Some(_) | None => format!("mail has to wait: {reason}"),
    };
    // A reason that comes from a gate of another release might be long.
    let reason = reason.chars().take(500).collect();
    Fault::Deferred { retry_after: Duration::from_secs(whole_secs(retry_after)), reason }
}

fn failed(error: NoPermission) -> (Outcome, Fault) {
    match error {
        NoPermission::Refused(text) => (Outcome::Refused, Fault::Malformed(text)),
        NoPermission::Unavailable(text) => (Outcome::Failed, Fault::Unavailable(text)),
    }
}

/// A name for a request that SES has not named, in the form of SES.
pub(crate) fn request_id() -> String {
    // Without random numbers the name repeats, which only makes a log harder to read.
    let (high, low) = (getrandom::u64().unwrap_or_default(), getrandom::u64().unwrap_or_default());
    let bits = (u128::from(high) << 64) | u128::from(low);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use permits::Class;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::ports::{Granted, Lease, Pending, Permission, Sender};

    /// What happens, and what was counted: every permit is held by a message, used, or put back.
    #[derive(Debug, Default)]
    struct Ledger {
        permits: VecDeque<Asked>,
        fates: VecDeque<Fate>,
        granted: u64,
        put_back: u64,
        /// Recipients that SES accepted, or may have accepted.
        maybe_sent: u64,
        calls: usize,
    }

    /// The answer to a request for permits.
    #[derive(Clone, Copy, Debug)]
    enum Asked {
        /// At most so many of those that are asked for.
        Granted(u64),
        /// By another route.
        Overflow,
        Wait,
        Refused,
        Unavailable,
    }

    /// The answer of SES.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Status(u16),
        NotSent,
        Unclear,
        /// 200, and a body that is not SES's.
        Garbage,
    }

    #[derive(Clone, Default)]
    struct World(Arc<Mutex<Ledger>>);

    struct OfWorld(World, u64);

    impl Lease for OfWorld {
        fn put_back(self: Box<Self>) {
            self.0.0.lock().unwrap().put_back += self.1;
        }
    }

    impl Permitting for World {
        fn take<'a>(
            &'a self,
            sender: &'a Sender,
            _domain: &'a str,
            mails: u64,
            _class: Class,
        ) -> Pending<'a, Result<Permission, NoPermission>> {
            let mut ledger = self.0.lock().unwrap();
            let asked = ledger.permits.pop_front().unwrap_or(Asked::Granted(u64::MAX));
            let (route, mails) = match asked {
                Asked::Granted(most) => (sender.set.clone(), mails.min(most.max(1))),
                Asked::Overflow => ("shared".to_owned(), mails),
                Asked::Wait => {
                    let retry_after = Duration::from_millis(1);
                    let wait = Deferral { retry_after, isp: None, reason: "no".to_owned() };
                    return Box::pin(async { Ok(Permission::Wait(wait)) });
                }
                Asked::Refused => return Box::pin(async { Err(NoPermission::Refused("no".to_owned())) }),
                Asked::Unavailable => return Box::pin(async { Err(NoPermission::Unavailable("no".to_owned())) }),
            };
            ledger.granted += mails;
            let lease = Box::new(OfWorld(self.clone(), mails));
            let granted = Granted { route: route.into(), mails, isp: None, degraded: false, lease };
            Box::pin(async { Ok(Permission::Granted(granted)) })
        }
    }

    impl Ses for World {
        fn send(&self, call: Call) -> Pending<'_, Result<Response<Bytes>, NotAnswered>> {
            let mut ledger = self.0.lock().unwrap();
            let fate = ledger.fates.pop_front().unwrap_or(Fate::Status(200));
            ledger.calls += 1;
            let body: Value = serde_json::from_slice(&call.body).unwrap();
            let recipients = |destination: &Value| destination["ToAddresses"].as_array().map_or(0, Vec::len) as u64;
            let entries = body["BulkEmailEntries"].as_array().cloned().unwrap_or_default();
            let mails = match entries.len() {
                0 => recipients(&body["Destination"]),
                _ => entries.iter().map(|entry| recipients(&entry["Destination"])).sum(),
            };
            let results: Vec<Value> =
                entries.iter().map(|_| json!({ "Status": "SUCCESS", "MessageId": "m" })).collect();
            let (status, text) = match fate {
                Fate::Status(status) => (status, json!({ "BulkEmailEntryResults": results }).to_string()),
                Fate::Garbage => (200, "<html>".to_owned()),
                Fate::NotSent => return Box::pin(async { Err(NotAnswered::NotSent("no".to_owned())) }),
                Fate::Unclear => {
                    ledger.maybe_sent += mails;
                    return Box::pin(async { Err(NotAnswered::Unclear("no".to_owned())) });
                }
            };
            if !(400..500).contains(&status) || status == 408 {
                ledger.maybe_sent += mails;
            }
            let answer = Response::builder().status(status).body(Bytes::from(text)).unwrap();
            Box::pin(async { Ok(answer) })
        }
    }

    fn asked() -> impl Strategy<Value = Asked> {
        prop_oneof![
            6 => (1..4u64).prop_map(Asked::Granted),
            2 => Just(Asked::Overflow),
            2 => Just(Asked::Wait),
            1 => Just(Asked::Refused),
            1 => Just(Asked::Unavailable),
        ]
    }

    fn fate() -> impl Strategy<Value = Fate> {
        let statuses = prop::sample::select(vec![200_u16, 301, 400, 403, 404, 408, 429, 500, 503]);
        prop_oneof![
            4 => Just(Fate::Status(200)),
            4 => statuses.prop_map(Fate::Status),
            1 => Just(Fate::NotSent),
            1 => Just(Fate::Unclear),
            1 => Just(Fate::Garbage),
        ]
    }

    fn to(recipients: &[u8]) -> Value {
        let to: Vec<String> = recipients.iter().enumerate().map(|(n, isp)| format!("r{n}@isp{isp}.example")).collect();
        json!({ "ToAddresses": to })
    }

    proptest! {
        /// Each permit is used or put back once, and one is used exactly for each recipient whose mail SES may have.
        #[test]
        fn every_permit_is_used_by_mail_that_may_have_gone_or_put_back(
            requests in prop::collection::vec(prop::collection::vec(prop::collection::vec(0..4u8, 1..5), 1..5), 1..6),
            permits in prop::collection::vec(asked(), 0..40),
            overflows in any::<bool>(),
            fates in prop::collection::vec(fate(), 0..10),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let world = World::default();
            let permits: Vec<Asked> =
                permits.into_iter().filter(|asked| overflows || !matches!(asked, Asked::Overflow)).collect();
            *world.0.lock().unwrap() = Ledger { permits: permits.into(), fates: fates.into(), ..Ledger::default() };
            let relay = Relay::over("news", Arc::new(world.clone()), Arc::new(world.clone()));
            for entries in requests {
                // One entry is a mail; several are a bulk call.
                let (path, body) = match &entries[..] {
                    [one] => (v2::SEND, json!({
                        "FromEmailAddress": "a@b.example", "Destination": to(one), "Content": { "Simple": {} },
                    })),
                    several => (v2::SEND_BULK, json!({
                        "FromEmailAddress": "a@b.example", "DefaultContent": {},
                        "BulkEmailEntries": several.iter().map(|one| json!({ "Destination": to(one) })).collect::<Vec<_>>(),
                    })),
                };
                let before = world.0.lock().unwrap().calls;
                let request = Request::post(path)
                    .header(AUTHORIZATION, "AWS4-HMAC-SHA256 Credential=of/the/caller")
                    .body(Bytes::from(body.to_string())).unwrap();
                let answer = runtime.block_on(relay.handle(request));
                let ledger = world.0.lock().unwrap();
                let used = ledger.granted - ledger.put_back;
                prop_assert!(used <= ledger.maybe_sent, "{}: {:?}", used, answer);
                // Where a mail takes the other route, the permits of its own set are put back.
                prop_assert!(overflows || used == ledger.maybe_sent, "{}: {:?}", used, answer);
                // One call for a mail, and one for each route of a bulk call.
                let most = entries.len().min(2);
                prop_assert!(ledger.calls - before <= most);
                if answer.status() == 200 && path == v2::SEND_BULK && answer.body() != "<html>" {
                    let results: Value = serde_json::from_slice(answer.body()).unwrap();
                    prop_assert_eq!(results["BulkEmailEntryResults"].as_array().unwrap().len(), entries.len());
                }
            }
        }
    }
}
