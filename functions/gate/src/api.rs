//! The HTTP of the gate: what requests say, and how answers look. Pure: nothing here makes a call.
//!
//! **Invariant:** whatever comes in is a [`Call`] or a [`Problem`] that says what is wrong, where, and what would be right.
//! **Invariant:** the types of [`gate_api`] and its OpenAPI document describe all of it; a test holds each request and answer
//! against the document.

use std::fmt;

use aws_lambda_events::lambda_function_urls::{LambdaFunctionUrlRequest, LambdaFunctionUrlResponse};
use aws_smithy_types::base64;
use gate_api::{
    ALLOW, CONFIGURATION_SET, ErrorCode, HEALTH_PATH, Health, JSON, MAX_BYTES, MAX_DOMAINS, MAX_LEASE, MAX_NAME,
    MAX_SET, OPENAPI, OPENAPI_PATH, PROBLEM_JSON, Permits, PermitsRequest, QUOTAS_PATH, Quotas, RETRY_AFTER,
    RETURN_PATH, ROUTES, ReturnRequest, Returned,
};
use reputation::address::normal_domain;
use reputation::class::Class;
use reputation::permit::{Lease, LeaseId, Nanos, Schedule};
use reputation::time::Now;
use serde_json::{Map, Value};

use crate::body;
use crate::problem::{Problem, pointer_part, shown};

const CONTENT_TYPE: &str = "content-type";
/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// May these mails go?
    Permits(PermitsCall),
    /// These mails were not sent.
    Return(ReturnCall),
    /// How do the quotas stand? Of one configuration set, or of all.
    Quotas(Option<String>),
    /// Is the gate well?
    Health,
    /// What can be asked?
    OpenApi,
    /// With which methods? These.
    Options(&'static str),
}

/// `POST /v1/permits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitsCall {
    /// The same when the same is asked again.
    pub request: Option<String>,
    /// The configuration set that the mail is for.
    pub configuration_set: String,
    /// The domain that it is sent from, in normal form.
    pub identity: String,
    /// How urgent it is.
    pub class: Class,
    /// Whether mail is to be granted for later.
    pub schedule: bool,
    /// Where it is to go; at least one.
    pub recipients: Vec<Recipients>,
}

/// Mails to one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipients {
    /// The domain, as it was given.
    pub given: String,
    /// The domain, in normal form.
    pub domain: String,
    /// How many; at least one.
    pub mails: u64,
}

/// `POST /v1/leases/return`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnCall {
    /// The configuration set that the lease is of.
    pub configuration_set: String,
    /// The lease.
    pub lease: LeaseText,
    /// How many of its mails were not sent; no more than it has.
    pub unused: u64,
}

/// A lease as clients hold it: all that is needed to give it back. They are to take it for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseText {
    /// Name of the ISP.
    pub isp: String,
    /// The lease.
    pub lease: Lease,
}

impl LeaseText {
    /// Reads what [`fmt::Display`] writes; `None` if it is something else.
    pub fn parse(text: &str) -> Option<LeaseText> {
        if text.len() > MAX_LEASE {
            return None;
        }
        let mut parts = text.split('/');
        let isp = parts.next().filter(|isp| !isp.is_empty())?.to_owned();
        let day = parts.next()?.parse().ok()?;
        let id = parts.next().filter(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let mut lease = Lease {
            id: LeaseId(u64::from_str_radix(id, 16).ok()?),
            day,
            bulk: parts.next()?.parse().ok()?,
            critical: parts.next()?.parse().ok()?,
            interval: parts.next()?.parse().ok().filter(|interval| *interval >= 0)?,
            expires: Now(parts.next()?.parse().ok()?),
            schedule: None,
        };
        if let Some(from) = parts.next() {
            lease.schedule = Some(Schedule {
                from: Nanos(from.parse().ok()?),
                mails: parts.next()?.parse().ok()?,
                slot: parts.next()?.parse().ok()?,
                granted: Now(parts.next()?.parse().ok()?),
            });
        }
        parts.next().is_none().then_some(LeaseText { isp, lease })
    }
}

impl fmt::Display for LeaseText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeaseText { isp, lease: Lease { id, day, bulk, critical, interval, expires, schedule } } = self;
        write!(f, "{isp}/{day}/{id}/{bulk}/{critical}/{interval}/{}", expires.0)?;
        match schedule {
            Some(Schedule { from, mails, slot, granted }) => write!(f, "/{}/{mails}/{slot}/{}", from.0, granted.0),
            None => Ok(()),
        }
    }
}

/// Reads a request.
///
/// # Errors
///
/// What to answer instead.
pub fn read(request: &LambdaFunctionUrlRequest) -> Result<Call, Problem> {
    let http = &request.request_context.http;
    let path = request.raw_path.as_deref().or(http.path.as_deref()).unwrap_or("/");
    let method = http.method.as_deref().unwrap_or("");
    let Some((takes, _)) = ROUTES.iter().find(|(_, known)| *known == path) else {
        let known = ROUTES.map(|(method, path)| format!("{method} {path}")).join(", ");
        return Err(Problem::new(ErrorCode::UnknownPath, format!("there is no {}; known: {known}", shown(path))));
    };
    let allowed = if *takes == GET { "GET, HEAD, OPTIONS" } else { "POST, OPTIONS" };
    match method {
        "OPTIONS" => return Ok(Call::Options(allowed)),
        _ if method == *takes || *takes == GET && method == HEAD => {}
        _ => {
            let detail = format!("{path} takes {allowed}, not {}", shown(method));
            return Err(Problem { allow: Some(allowed), ..Problem::new(ErrorCode::MethodNotAllowed, detail) });
        }
    }
    match path {
        QUOTAS_PATH => read_quotas(request),
        HEALTH_PATH => Ok(Call::Health),
        OPENAPI_PATH => Ok(Call::OpenApi),
        RETURN_PATH => read_return(body::read(json(request)?)?),
        _ => read_permits(body::read(json(request)?)?),
    }
}

const GET: &str = "GET";
pub(crate) const HEAD: &str = "HEAD";

fn read_quotas(request: &LambdaFunctionUrlRequest) -> Result<Call, Problem> {
    let parameters = &request.query_string_parameters;
    if let Some(other) = parameters.keys().filter(|name| *name != CONFIGURATION_SET).min() {
        let detail = format!("{} is not a parameter of this request; known: {CONFIGURATION_SET}", shown(other));
        return Err(Problem::new(ErrorCode::UnknownField, detail));
    }
    let set = parameters.get(CONFIGURATION_SET);
    if let Some(characters) = set.map(|set| set.chars().count()).filter(|count| !(1..=MAX_SET).contains(count)) {
        let detail = format!("{CONFIGURATION_SET} has {characters} characters; allowed: 1 to {MAX_SET}");
        return Err(Problem::new(ErrorCode::InvalidValue, detail));
    }
    Ok(Call::Quotas(set.cloned()))
}

/// The JSON object of the body.
fn json(request: &LambdaFunctionUrlRequest) -> Result<Map<String, Value>, Problem> {
    let content_type = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case(JSON) {
        let found = if essence.is_empty() { "missing".to_owned() } else { shown(essence) };
        let detail = format!("the content type is {found}; send {JSON}");
        return Err(Problem::new(ErrorCode::UnsupportedMediaType, detail));
    }
    let body = request.body.as_deref().unwrap_or("");
    // Base64 takes four characters for three bytes: what cannot fit need not be decoded.
    let at_least = if request.is_base64_encoded { body.len() / 4 * 3 } else { body.len() };
    if at_least > MAX_BYTES + 3 {
        return Err(too_large(at_least));
    }
    let decoded;
    let bytes = if request.is_base64_encoded {
        decoded = base64::decode(body).map_err(|_| not_json("the body is marked as base64, and is not"))?;
        decoded.as_slice()
    } else {
        body.as_bytes()
    };
    if bytes.len() > MAX_BYTES {
        return Err(too_large(bytes.len()));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(not_json("the body is JSON, but no object")),
        // Line and column, and what was expected there; nothing of the body itself.
        Err(error) => Err(not_json(&format!("the body is not JSON: {error}"))),
    }
}

fn too_large(bytes: usize) -> Problem {
    let detail = format!("the body has {bytes} bytes; at most {MAX_BYTES} are read: ask in several requests");
    Problem::new(ErrorCode::BodyTooLarge, detail)
}

fn not_json(detail: &str) -> Problem {
    Problem::new(ErrorCode::NotJson, detail)
}

fn read_permits(asked: PermitsRequest) -> Result<Call, Problem> {
    let PermitsRequest { request, configuration_set, identity, class, schedule, recipients: domains } = asked;
    if let Some(request) = &request {
        length(request, "/request", MAX_NAME)?;
    } else if schedule {
        let detail =
            "the field request is missing: a schedule is asked for by name, so that a lost answer loses nothing";
        return Err(Problem::new(ErrorCode::MissingField, detail).at("/request"));
    }
    length(&configuration_set, "/configurationSet", MAX_SET)?;
    length(&identity, "/identity", usize::MAX)?;
    let identity = domain("/identity", &identity)?;
    if !(1..=MAX_DOMAINS).contains(&domains.len()) {
        let found = format!("holds {} domains; allowed: 1 to {MAX_DOMAINS}", domains.len());
        return Err(invalid("/recipients", &found));
    }
    let mut recipients = Vec::with_capacity(domains.len());
    for (given, mails) in domains {
        let domain = domain(&format!("/recipients/{}", pointer_part(&given)), &given)?;
        recipients.push(Recipients { given, domain, mails });
    }
    let class = match class {
        gate_api::Class::Bulk => Class::Bulk,
        gate_api::Class::Critical => Class::Critical,
    };
    Ok(Call::Permits(PermitsCall { request, configuration_set, identity, class, schedule, recipients }))
}

fn read_return(asked: ReturnRequest) -> Result<Call, Problem> {
    let ReturnRequest { configuration_set, lease, unused } = asked;
    length(&configuration_set, "/configurationSet", MAX_SET)?;
    length(&lease, "/lease", MAX_LEASE)?;
    let lease = LeaseText::parse(&lease).ok_or_else(|| {
        let detail = "is not a lease of this gate; give back the text that came with the permit, as it is";
        Problem::new(ErrorCode::UnknownLease, detail).at("/lease")
    })?;
    let mails = lease.lease.mails();
    if unused > mails {
        return Err(invalid("/unused", &format!("is `{unused}`; allowed: whole numbers from 0 to {mails}")));
    }
    Ok(Call::Return(ReturnCall { configuration_set, lease, unused }))
}

/// Checks that a text is not empty and not too long.
fn length(text: &str, field: &str, most: usize) -> Result<(), Problem> {
    let characters = text.chars().count();
    if (1..=most).contains(&characters) {
        return Ok(());
    }
    let allowed = if most == usize::MAX { "at least 1".to_owned() } else { format!("1 to {most}") };
    Err(invalid(field, &format!("has {characters} characters; allowed: {allowed}")))
}

/// A domain in normal form.
fn domain(field: &str, given: &str) -> Result<String, Problem> {
    let normal = normal_domain(given);
    let normal = normal.map_err(|error| invalid(field, &format!("{} is no domain: {error}", shown(given))))?;
    Ok(normal.into_owned())
}

fn invalid(field: &str, what: &str) -> Problem {
    Problem::new(ErrorCode::InvalidValue, what).at(field)
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Call::Permits`].
    Permits(Permits),
    /// To [`Call::Return`].
    Returned(Returned),
    /// To [`Call::Quotas`].
    Quotas(Quotas),
    /// To [`Call::Health`].
    Health(Health),
    /// To [`Call::OpenApi`].
    OpenApi,
    /// To [`Call::Options`].
    Options(&'static str),
    /// Instead.
    Problem(Problem),
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Answer {
        Answer::Problem(problem)
    }
}

impl Answer {
    /// As a Function URL wants it.
    pub fn into_response(self) -> LambdaFunctionUrlResponse {
        let mut response = LambdaFunctionUrlResponse::default();
        let mut header = |name: &'static str, value: &str| {
            if let Ok(value) = value.parse() {
                response.headers.insert(name, value);
            }
        };
        // An answer is for one asker, and for now.
        header("cache-control", "no-store");
        let (status, media, body) = match &self {
            Answer::Permits(permits) => (200, JSON, serde_json::to_string(permits)),
            Answer::Returned(returned) => (200, JSON, serde_json::to_string(returned)),
            Answer::Quotas(quotas) => (200, JSON, serde_json::to_string(quotas)),
            Answer::Health(health) => (200, JSON, serde_json::to_string(health)),
            Answer::OpenApi => (200, JSON, Ok(OPENAPI.to_owned())),
            Answer::Options(allow) => {
                header(ALLOW, allow);
                response.status_code = 204;
                return response;
            }
            Answer::Problem(problem) => {
                if let Some(secs) = problem.retry_after_secs {
                    header(RETRY_AFTER, &secs.to_string());
                }
                if let Some(allow) = problem.allow {
                    header(ALLOW, allow);
                }
                let document = problem.document();
                (document.status, PROBLEM_JSON, serde_json::to_string(&document))
            }
        };
        header(CONTENT_TYPE, media);
        response.status_code = i64::from(status);
        // Strings and numbers can always be written.
        response.body = Some(body.unwrap_or_default());
        response
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lease_is_read_as_it_was_written_and_nothing_else_is() {
        let text = "web.de/20778/00ab54a98ceb1f0a/100/0/96000000000/1791273661745";
        assert_eq!(LeaseText::parse(text).unwrap().to_string(), text);
        let scheduled = format!("{text}/1791273601745000000/80/20/1791273601745");
        assert_eq!(LeaseText::parse(&scheduled).unwrap().to_string(), scheduled);
        for wrong in [
            "",
            "gmail",
            "/20778/00ab54a98ceb1f0a/100/0/1/1",
            "gmail/20778/00ab54a98ceb1f0a/100/0/1",
            "gmail/20778/00ab54a98ceb1f0a/100/0/1/1/1",
            "gmail/20778/00ab54a98ceb1f0/100/0/1/1",
            "gmail/20778/00ab54a98ceb1f0g/100/0/1/1",
            "gmail/20778/00ab54a98ceb1f0a/-1/0/1/1",
            "gmail/20778/00ab54a98ceb1f0a/1/0/-1/1",
            "gmail/20778/00ab54a98ceb1f0a/1/0/1/9223372036854775808",
        ] {
            assert_eq!(LeaseText::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_in_is_a_call_or_a_problem(
            path in proptest::sample::select(vec!["/v1/permits", "/v1/leases/return", "/v1/health", "/", ""]),
            method in "GET|HEAD|OPTIONS|POST|[A-Z]{0,6}|\\PC{0,3}",
            body in "\\PC{0,40}|\\{\"(lease|unused|recipients|identity)\":(\"\\PC{0,9}\"|-?[0-9]{0,30}|\\{\"\\PC{0,9}\":1\\})\\}",
            encoded in any::<bool>(),
        ) {
            let mut request = LambdaFunctionUrlRequest::default();
            request.raw_path = Some(path.to_owned());
            request.request_context.http.method = Some(method);
            request.headers.insert("content-type", "application/json".parse().unwrap());
            request.body = Some(body);
            request.is_base64_encoded = encoded;
            if let Err(problem) = read(&request) {
                prop_assert!((400..500).contains(&problem.code.status()) && !problem.detail.is_empty());
                prop_assert_eq!(Answer::from(problem.clone()).into_response().status_code, i64::from(problem.code.status()));
            }
        }
    }
}
