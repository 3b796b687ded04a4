//! The HTTP of the gate: what requests say, and how answers look. Pure: nothing here makes a call.
//!
//! **Invariant:** whatever comes in is a [`Call`] or a [`Problem`] that says what is wrong, where, and what would be right.
//! **Invariant:** `openapi.json` beside this file describes all of it; a test holds each request and answer against it.

use std::fmt;

use aws_lambda_events::lambda_function_urls::{LambdaFunctionUrlRequest, LambdaFunctionUrlResponse};
use aws_smithy_types::base64;
use reputation::address::normal_domain;
use reputation::class::Class;
use reputation::permit::Lease;
use reputation::time::Now;
use serde::Serialize;
use serde_json::{Map, Value};

/// The largest body that is read, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Most domains of one request.
pub const MAX_DOMAINS: usize = 1_000;
/// Most mails to one domain in one request.
pub const MAX_MAILS: u64 = 1_000_000;
/// Most characters of a request's name.
const MAX_NAME: usize = 128;
/// Most characters of a lease.
const MAX_LEASE: usize = 256;
/// Most characters of a configuration set's name (SES API v2, "CreateConfigurationSet").
const MAX_SET: usize = 64;
/// So much of what came in is shown in a problem.
const SHOWN: usize = 64;

/// The document that describes this API.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// May these mails go?
    Permits(PermitsCall),
    /// These mails were not sent.
    Return(ReturnCall),
    /// Is the gate well?
    Health,
    /// What can be asked?
    OpenApi,
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
    /// The day of the quota.
    pub day: i32,
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
        let lease = Lease {
            id: id.to_owned(),
            bulk: parts.next()?.parse().ok()?,
            critical: parts.next()?.parse().ok()?,
            interval: parts.next()?.parse().ok().filter(|interval| *interval >= 0)?,
            expires: Now(parts.next()?.parse().ok()?),
        };
        parts.next().is_none().then_some(LeaseText { isp, day, lease })
    }
}

impl fmt::Display for LeaseText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeaseText { isp, day, lease: Lease { id, bulk, critical, interval, expires } } = self;
        write!(f, "{isp}/{day}/{id}/{bulk}/{critical}/{interval}/{}", expires.0)
    }
}

/// What can be asked for, by method and path.
pub const ROUTES: [(&str, &str); 4] =
    [("POST", "/v1/permits"), ("POST", "/v1/leases/return"), ("GET", "/v1/health"), ("GET", "/v1/openapi.json")];

/// Reads a request.
///
/// # Errors
///
/// What to answer instead.
pub fn read(request: &LambdaFunctionUrlRequest) -> Result<Call, Problem> {
    let http = &request.request_context.http;
    let path = request.raw_path.as_deref().or(http.path.as_deref()).unwrap_or("/");
    let method = http.method.as_deref().unwrap_or("");
    let Some((allowed, _)) = ROUTES.iter().find(|(_, known)| *known == path) else {
        let known = ROUTES.map(|(method, path)| format!("{method} {path}")).join(", ");
        return Err(Problem::new(Kind::UnknownPath, format!("there is no {}; known: {known}", shown(path))));
    };
    if method != *allowed {
        let detail = format!("{path} takes {allowed}, not {}", shown(method));
        return Err(Problem { allow: Some(allowed), ..Problem::new(Kind::MethodNotAllowed, detail) });
    }
    match path {
        "/v1/health" => Ok(Call::Health),
        "/v1/openapi.json" => Ok(Call::OpenApi),
        "/v1/leases/return" => read_return(json(request)?),
        _ => read_permits(json(request)?),
    }
}

/// The JSON object of the body.
fn json(request: &LambdaFunctionUrlRequest) -> Result<Map<String, Value>, Problem> {
    let content_type = request.headers.get("content-type").and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let found = if essence.is_empty() { "missing".to_owned() } else { shown(essence) };
        let detail = format!("the content type is {found}; send application/json");
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
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
    Problem::new(Kind::BodyTooLarge, detail)
}

fn not_json(detail: &str) -> Problem {
    Problem::new(Kind::NotJson, detail)
}

fn read_permits(fields: Map<String, Value>) -> Result<Call, Problem> {
    known_only(&fields, &["request", "configurationSet", "identity", "class", "recipients"])?;
    let request = match fields.get("request") {
        None => None,
        Some(_) => Some(words(&fields, "request", MAX_NAME)?.to_owned()),
    };
    let configuration_set = words(&fields, "configurationSet", MAX_SET)?.to_owned();
    let identity = words(&fields, "identity", usize::MAX)?;
    let identity = normal_domain(identity)
        .map_err(|error| invalid("/identity", &format!("{} is no domain: {error}", shown(identity))))?;
    let class = match fields.get("class") {
        None => Class::Bulk,
        Some(_) => {
            let name = words(&fields, "class", usize::MAX)?;
            let class = Class::ALL.into_iter().find(|class| class.name() == name);
            class.ok_or_else(|| invalid("/class", &format!("is {}; allowed: bulk, critical", shown(name))))?
        }
    };
    let Value::Object(domains) = required(&fields, "recipients")? else {
        return Err(invalid("/recipients", "is no object; it holds a number of mails for each domain"));
    };
    if !(1..=MAX_DOMAINS).contains(&domains.len()) {
        let found = format!("holds {} domains; allowed: 1 to {MAX_DOMAINS}", domains.len());
        return Err(invalid("/recipients", &found));
    }
    let mut recipients = Vec::with_capacity(domains.len());
    for (given, mails) in domains {
        let field = format!("/recipients/{}", pointer_part(given));
        let domain = normal_domain(given)
            .map_err(|error| invalid(&field, &format!("{} is no domain: {error}", shown(given))))?
            .into_owned();
        let mails = count(mails, &field, 1, MAX_MAILS)?;
        recipients.push(Recipients { given: given.clone(), domain, mails });
    }
    let identity = identity.into_owned();
    Ok(Call::Permits(PermitsCall { request, configuration_set, identity, class, recipients }))
}

fn read_return(fields: Map<String, Value>) -> Result<Call, Problem> {
    known_only(&fields, &["configurationSet", "lease", "unused"])?;
    let configuration_set = words(&fields, "configurationSet", MAX_SET)?.to_owned();
    let lease = LeaseText::parse(words(&fields, "lease", MAX_LEASE)?)
        .ok_or_else(|| invalid("/lease", "is no lease; give back the text that came with the permit, as it is"))?;
    let unused = count(required(&fields, "unused")?, "/unused", 0, lease.lease.mails())?;
    Ok(Call::Return(ReturnCall { configuration_set, lease, unused }))
}

fn known_only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), Problem> {
    let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
    let detail = format!("{} is no field of this request; known: {}", shown(name), known.join(", "));
    Err(Problem::new(Kind::UnknownField, detail).at(&format!("/{}", pointer_part(name))))
}

fn required<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a Value, Problem> {
    let missing = || Problem::new(Kind::MissingField, format!("the field {name} is missing")).at(&format!("/{name}"));
    fields.get(name).ok_or_else(missing)
}

/// A text that is not empty and not too long.
fn words<'a>(fields: &'a Map<String, Value>, name: &str, most: usize) -> Result<&'a str, Problem> {
    let field = format!("/{name}");
    let Value::String(text) = required(fields, name)? else {
        return Err(invalid(&field, &format!("is {}; it should be a string", kind_of(&fields[name]))));
    };
    let characters = text.chars().count();
    if characters == 0 || characters > most {
        let allowed = if most == usize::MAX { "at least 1".to_owned() } else { format!("1 to {most}") };
        return Err(invalid(&field, &format!("has {characters} characters; allowed: {allowed}")));
    }
    Ok(text)
}

/// A whole number in a range.
fn count(value: &Value, field: &str, least: u64, most: u64) -> Result<u64, Problem> {
    let found = match value {
        Value::Number(number) => match number.as_u64() {
            Some(count) if (least..=most).contains(&count) => return Ok(count),
            Some(_) | None => shown(&number.to_string()),
        },
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            kind_of(value).to_owned()
        }
    };
    Err(invalid(field, &format!("is {found}; allowed: whole numbers from {least} to {most}")))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn invalid(field: &str, what: &str) -> Problem {
    Problem::new(Kind::InvalidValue, what).at(field)
}

/// A name as a part of a JSON pointer (RFC 6901).
fn pointer_part(name: &str) -> String {
    let cut: String = name.chars().take(SHOWN * 4).collect();
    cut.replace('~', "~0").replace('/', "~1")
}

/// What came in, in quotes and not too much of it.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", cut.escape_debug())
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body is not JSON.
    NotJson,
    /// There is nothing at this path.
    UnknownPath,
    /// The policy has no such configuration set.
    UnknownConfigurationSet,
    /// Not with this method.
    MethodNotAllowed,
    /// The lease is not known, or no more.
    UnknownLease,
    /// The lease has expired.
    ExpiredLease,
    /// The body is too large.
    BodyTooLarge,
    /// The body is said to be something else than JSON.
    UnsupportedMediaType,
    /// A value is none of the allowed ones.
    InvalidValue,
    /// A field that this request does not have.
    UnknownField,
    /// A field that this request must have.
    MissingField,
    /// The tables cannot be read or written.
    Unreadable,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 12] = [
        Kind::NotJson,
        Kind::UnknownPath,
        Kind::UnknownConfigurationSet,
        Kind::MethodNotAllowed,
        Kind::UnknownLease,
        Kind::ExpiredLease,
        Kind::BodyTooLarge,
        Kind::UnsupportedMediaType,
        Kind::InvalidValue,
        Kind::UnknownField,
        Kind::MissingField,
        Kind::Unreadable,
    ];

    /// HTTP status, last part of `type`, and `title`.
    fn parts(self) -> (i64, &'static str, &'static str) {
        match self {
            Kind::NotJson => (400, "not-json", "The body is not JSON"),
            Kind::UnknownPath => (404, "unknown-path", "There is nothing at this path"),
            Kind::UnknownConfigurationSet => {
                (404, "unknown-configuration-set", "The policy has no such configuration set")
            }
            Kind::MethodNotAllowed => (405, "method-not-allowed", "This path takes another method"),
            Kind::UnknownLease => (409, "unknown-lease", "The lease is not known, or was given back before"),
            Kind::ExpiredLease => (410, "expired-lease", "The lease has expired"),
            Kind::BodyTooLarge => (413, "body-too-large", "The body is too large"),
            Kind::UnsupportedMediaType => (415, "unsupported-media-type", "The body is not said to be JSON"),
            Kind::InvalidValue => (422, "invalid-value", "A value is none of the allowed ones"),
            Kind::UnknownField => (422, "unknown-field", "A field is not known"),
            Kind::MissingField => (422, "missing-field", "A field is missing"),
            Kind::Unreadable => (503, "unreadable", "The tables cannot be read or written"),
        }
    }

    /// HTTP status.
    pub fn status(self) -> i64 {
        self.parts().0
    }

    /// The `type` of the problem document.
    pub fn uri(self) -> String {
        format!("/problems/{}", self.parts().1)
    }
}

/// Why a request is not answered, as RFC 9457 has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub kind: Kind,
    /// With its values, and what would be right.
    pub detail: String,
    /// Where in the body, as a JSON pointer; `None` if it is not about one place.
    pub field: Option<String>,
    /// When to try again, in seconds.
    pub retry_after_secs: Option<u32>,
    allow: Option<&'static str>,
}

impl Problem {
    /// A problem that is not about one field.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: detail.into(), field: None, retry_after_secs: None, allow: None }
    }

    /// The same, at a place in the body.
    pub fn at(mut self, field: &str) -> Problem {
        self.field = Some(field.to_owned());
        self
    }

    /// The policy has no such configuration set.
    pub fn unknown_set(set: &str) -> Problem {
        let detail = format!(
            "configuration set {} is not in [warmup.sets] of the policy; name it there, and push the policy",
            shown(set)
        );
        Problem::new(Kind::UnknownConfigurationSet, detail).at("/configurationSet")
    }

    /// The tables cannot be read or written. Why is in the log: clients learn nothing of our insides.
    pub fn unreadable(what: &str) -> Problem {
        let detail = format!("{what} cannot be read or written at the moment; try again");
        Problem { retry_after_secs: Some(RETRY_SECS), ..Problem::new(Kind::Unreadable, detail) }
    }
}

/// Seconds after which a return may be tried again while the tables cannot be written. A lease lasts longer.
const RETRY_SECS: u32 = 2;

#[derive(Serialize)]
struct ProblemDocument<'a> {
    r#type: String,
    title: &'static str,
    status: i64,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

/// `200` of `POST /v1/permits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Permits {
    /// The configuration set that was asked for.
    pub configuration_set: String,
    /// The date whose quota it is, where days begin as the policy says.
    pub day: String,
    /// Why some permits are not counted, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// One for each ISP.
    pub permits: Vec<IspPermit>,
}

/// What may go to one ISP: `granted`, `overflow` and `deferred` add up to `asked`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IspPermit {
    /// Name of the ISP.
    pub isp: String,
    /// The domains of the request that it receives for, as they were given.
    pub domains: Vec<String>,
    /// Mails asked for.
    pub asked: u64,
    /// Mails that may go now by `route`.
    pub granted: u64,
    /// The configuration set to name in `SendEmail`; none if nothing is granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// What gives back what is not sent; none if nothing is granted, or it is not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// Until when what is granted may be sent, or given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Mails that may go now by `overflow_route`.
    pub overflow: u64,
    /// The configuration set for those; none if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overflow_route: Option<String>,
    /// Mails that may not go now.
    pub deferred: u64,
    /// After how many seconds to ask for those again; none if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
    /// What limits it; none if all was granted by `route`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<&'static str>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `200` of `POST /v1/leases/return`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Returned {
    /// Mails that may be granted again.
    pub returned: u64,
}

/// `200` of `GET /v1/health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
    /// Version of the policy in use; 0 is the default.
    pub policy_version: u64,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Call::Permits`].
    Permits(Permits),
    /// To [`Call::Return`].
    Returned(Returned),
    /// To [`Call::Health`].
    Health(Health),
    /// To [`Call::OpenApi`].
    OpenApi,
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
            Answer::Permits(permits) => (200, "application/json", serde_json::to_string(permits)),
            Answer::Returned(returned) => (200, "application/json", serde_json::to_string(returned)),
            Answer::Health(health) => (200, "application/json", serde_json::to_string(health)),
            Answer::OpenApi => (200, "application/json", Ok(OPENAPI.to_owned())),
            Answer::Problem(problem) => {
                let (status, _, title) = problem.kind.parts();
                if let Some(secs) = problem.retry_after_secs {
                    header("retry-after", &secs.to_string());
                }
                if let Some(allow) = problem.allow {
                    header("allow", allow);
                }
                let (r#type, detail, field) = (problem.kind.uri(), problem.detail.as_str(), problem.field.as_deref());
                let document = ProblemDocument { r#type, title, status, detail, field };
                (status, "application/problem+json", serde_json::to_string(&document))
            }
        };
        header("content-type", media);
        response.status_code = status;
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
            method in "GET|POST|[A-Z]{0,6}|\\PC{0,3}",
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
                prop_assert!((400..500).contains(&problem.kind.status()) && !problem.detail.is_empty());
                prop_assert_eq!(Answer::from(problem.clone()).into_response().status_code, problem.kind.status());
            }
        }
    }

    #[test]
    fn names_in_a_pointer_are_escaped_and_cut() {
        assert_eq!(pointer_part("a/b~c"), "a~1b~0c");
        assert!(pointer_part(&"x".repeat(10_000)).len() < 1_000);
        assert_eq!(shown("a\n"), "`a\\n`");
        assert_eq!(shown(&"é".repeat(100)), format!("`{}…`", "é".repeat(64)));
    }
}
