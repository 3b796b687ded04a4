//! Requests to the gate and its answers, between bytes and what the client works with. The types of the JSON are those
//! of [`gate_api`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use gate_api::{Limit, Permit, Permits, Returned};
use serde::Serialize;

use crate::error::Problem;
use crate::gate::Answer;

/// Most domains asked for in one call. The gate takes 1000, in 256 KB; 500 fit, however long their names are.
pub(crate) const MAX_DOMAINS: usize = 500;

/// How long a lease without an end is used. Real leases hold for about a minute.
const DEFAULT_LIFE: Duration = Duration::from_secs(10);
/// The longest life of a lease, whatever the answer says.
const MAX_LIFE: Duration = Duration::from_secs(15 * 60);
/// The longest wait before the gate is asked again: a day, and its jitter.
const MAX_WAIT_SECS: u64 = 30 * 3600;
/// When to ask again if the gate does not say.
const DEFAULT_WAIT_SECS: u64 = 30;

/// The bytes of a request.
pub(crate) fn encode(body: &impl Serialize) -> Result<Bytes, String> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| format!("a request cannot be written: {error}"))
}

/// What the gate answers about one ISP.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IspAnswer {
    pub(crate) isp: Arc<str>,
    pub(crate) domains: Vec<String>,
    pub(crate) asked: u64,
    pub(crate) own: Option<Portion>,
    pub(crate) overflow: Option<Portion>,
    pub(crate) deferral: Option<Deferral>,
    pub(crate) degraded: bool,
}

/// Mails that may go by one route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Portion {
    pub(crate) mails: u64,
    pub(crate) route: Arc<str>,
    /// What can be given back, and for how long it holds, counted from when the request was sent.
    pub(crate) lease: Option<(Arc<str>, Duration)>,
}

/// What was not granted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deferral {
    pub(crate) retry_after: Duration,
    pub(crate) limit: Limit,
    pub(crate) reason: Arc<str>,
}

/// Reads an answer about permits to a request of this name.
///
/// # Errors
///
/// The answer has another shape or contradicts itself. The text does not contain the answer's content.
pub(crate) fn decode_permits(answer: &Answer, request: &str) -> Result<Vec<IspAnswer>, String> {
    let body: Permits =
        serde_json::from_slice(&answer.body).map_err(|error| format!("an answer cannot be read: {error}"))?;
    if body.request.is_some_and(|answered| answered != request) {
        return Err("an answer cannot be right: it is one to another request".to_owned());
    }
    let degraded: Option<Arc<str>> = body.degraded.map(Arc::from);
    body.permits.into_iter().map(|permit| decode_permit(permit, degraded.as_ref(), answer.date)).collect()
}

fn decode_permit(permit: Permit, degraded: Option<&Arc<str>>, date: Option<SystemTime>) -> Result<IspAnswer, String> {
    let Permit { asked, granted, overflow, deferred, .. } = permit;
    let sum = [granted, overflow, deferred].into_iter().try_fold(0u64, u64::checked_add);
    if sum != Some(asked) {
        let parts = format!("{granted} granted, {overflow} overflow and {deferred} deferred");
        return Err(format!("an answer cannot be right: {parts} of {asked} asked"));
    }
    let life = lifetime(permit.expires_in_seconds, permit.expires_at.as_deref(), date);
    let portion = |mails: u64, route: Option<String>, name: &str, lease: Option<String>| match route {
        _ if mails == 0 => Ok(None),
        Some(route) => Ok(Some(Portion { mails, route: route.into(), lease: lease.map(|lease| (lease.into(), life)) })),
        None => Err(format!("an answer cannot be right: {mails} mails granted without a `{name}`")),
    };
    let deferral = (deferred > 0).then(|| Deferral {
        retry_after: Duration::from_secs(
            permit.retry_after_seconds.unwrap_or(DEFAULT_WAIT_SECS).clamp(1, MAX_WAIT_SECS),
        ),
        limit: permit.limit.unwrap_or(Limit::Unknown),
        reason: (permit.reason.map(Arc::from).or_else(|| degraded.cloned()))
            .unwrap_or_else(|| "the gate gives no reason".into()),
    });
    Ok(IspAnswer {
        isp: permit.isp.into(),
        domains: permit.domains,
        asked,
        own: portion(granted, permit.route, "route", permit.lease)?,
        overflow: portion(overflow, permit.overflow_route, "overflowRoute", None)?,
        deferral,
        degraded: degraded.is_some(),
    })
}

/// How long a lease holds from when the request was sent. The clock of this machine is not used: it may be wrong by
/// more than a lease lasts. If the answer gives only the time of its end, that is compared with the server's own time.
/// The request was sent before the server counted, so the computed end is not after the end of the lease; `Date` has
/// whole seconds, so one second is subtracted.
fn lifetime(seconds: Option<u64>, expires_at: Option<&str>, date: Option<SystemTime>) -> Duration {
    let life = seconds.map(Duration::from_secs).or_else(|| {
        let expires = DateTime::from_str(expires_at?, Format::DateTimeWithOffset).ok()?;
        let left = SystemTime::try_from(expires).ok()?.duration_since(date?).unwrap_or_default();
        Some(left.saturating_sub(Duration::from_secs(1)))
    });
    life.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE)
}

/// Reads what is wrong. An answer that is not a problem document comes from AWS itself, mostly about permissions.
pub(crate) fn decode_problem(answer: &Answer) -> Problem {
    let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    // A proxy may answer in its own way: members of another type are ignored (RFC 9457, 3.1).
    let text = |name: &str| document[name].as_str().map(str::to_owned);
    // AWS refuses by `message` or `Message`.
    let texts = ["detail", "title", "message", "Message"].map(text);
    let said = texts.into_iter().flatten().find(|text| !text.is_empty());
    let code = serde_json::from_value(document["type"].clone()).unwrap_or_default();
    let said = said.unwrap_or_else(|| "the gate does not say why".to_owned());
    let detail = match answer.status {
        401 | 403 => {
            format!(
                "{said}; the caller needs lambda:InvokeFunctionUrl and lambda:InvokeFunction on the gate, and a clock \
                 that is right"
            )
        }
        _ => said,
    };
    Problem { status: answer.status, kind: code, detail, field: text("field") }
}

/// Reads how many mails were taken back.
///
/// # Errors
///
/// The answer has another shape; in words.
pub(crate) fn decode_returned(answer: &Answer) -> Result<u64, String> {
    serde_json::from_slice(&answer.body)
        .map(|body: Returned| body.returned)
        .map_err(|error| format!("an answer cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_255_200); // 2026-11-21T10:00:00Z
        Answer { status, date: Some(date), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn the_answer_of_the_contract_is_read() {
        let body = r#"{ "configurationSet": "news", "day": "2026-11-21", "permits": [ { "isp": "gmail",
            "domains": ["gmail.com"], "asked": 200, "granted": 50, "route": "news", "lease": "gmail/20778/00ab",
            "expiresAt": "2026-11-21T10:01:00.000Z", "overflow": 100, "overflowRoute": "news-shared", "deferred": 50,
            "retryAfterSeconds": 840, "limit": "pace", "reason": "the day's quota comes in at 50 mails an hour",
            "never": "heard of" } ] }"#;
        let read = decode_permits(&answer(200, body), "1").unwrap();
        let lease = Some(("gmail/20778/00ab".into(), Duration::from_secs(59)));
        let expected = IspAnswer {
            isp: "gmail".into(),
            domains: vec!["gmail.com".to_owned()],
            asked: 200,
            own: Some(Portion { mails: 50, route: "news".into(), lease }),
            overflow: Some(Portion { mails: 100, route: "news-shared".into(), lease: None }),
            deferral: Some(Deferral {
                retry_after: Duration::from_secs(840),
                limit: Limit::Pace,
                reason: "the day's quota comes in at 50 mails an hour".into(),
            }),
            degraded: false,
        };
        assert_eq!(read, [expected]);
    }

    #[test]
    fn an_answer_that_contradicts_itself_is_not_believed() {
        let permit = |numbers: &str| format!(r#"{{"permits":[{{"isp":"gmail","domains":["gmail.com"],{numbers}}}]}}"#);
        for (body, expected) in [
            ("<html>".to_owned(), "an answer cannot be read: expected value at line 1 column 1"),
            (r#"{"request":"2","permits":[]}"#.to_owned(), "an answer cannot be right: it is one to another request"),
            ("{}".to_owned(), "an answer cannot be read: missing field `permits` at line 1 column 2"),
            (
                permit(r#""asked":5,"granted":5,"overflow":1,"deferred":0,"route":"news""#),
                "an answer cannot be right: 5 granted, 1 overflow and 0 deferred of 5 asked",
            ),
            (
                permit(r#""asked":0,"granted":18446744073709551615,"overflow":1,"deferred":0"#),
                "an answer cannot be right: 18446744073709551615 granted, 1 overflow and 0 deferred of 0 asked",
            ),
            (
                permit(r#""asked":5,"granted":5,"overflow":0,"deferred":0"#),
                "an answer cannot be right: 5 mails granted without a `route`",
            ),
        ] {
            assert_eq!(decode_permits(&answer(200, &body), "1").unwrap_err(), expected);
        }
        assert!(
            decode_permits(&answer(200, &permit(r#""asked":5,"granted":-1,"overflow":6,"deferred":0"#)), "1").is_err()
        );
    }

    #[test]
    fn a_lease_holds_by_the_clock_of_the_server_and_not_by_ours() {
        let ten = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_255_200));
        for (seconds, expires_at, date, expected) in [
            (Some(60), None, None, 60),
            (Some(60), Some("2026-11-21T10:05:00Z"), ten, 60),
            (None, Some("2026-11-21T10:00:45.500Z"), ten, 44),
            (None, Some("2026-11-21T11:00:45+01:00"), ten, 44),
            (None, Some("2026-11-21T09:59:00Z"), ten, 0),
            (None, Some("2026-11-21T10:00:45Z"), None, 10),
            (None, Some("tomorrow"), ten, 10),
            (None, None, ten, 10),
            (None, Some("2036-11-21T10:00:45Z"), ten, 900),
            (Some(u64::MAX), None, None, 900),
        ] {
            assert_eq!(lifetime(seconds, expires_at, date).as_secs(), expected, "{seconds:?} {expires_at:?} {date:?}");
        }
    }

    #[test]
    fn a_problem_prints_its_detail_whether_the_gate_or_aws_wrote_it() {
        let problem = |status, body: &str| decode_problem(&answer(status, body)).to_string();
        let known = r#"{"type":"/problems/out-of-range","title":"Out of range","status":422,
            "detail":"0 mails; ask for 1 to 1000000","field":"/recipients/gmail.com"}"#;
        assert_eq!(problem(422, known), "HTTP 422: 0 mails; ask for 1 to 1000000 (at /recipients/gmail.com)");
        assert_eq!(
            problem(403, r#"{"Message":"Forbidden"}"#),
            "HTTP 403: Forbidden; the caller needs lambda:InvokeFunctionUrl and lambda:InvokeFunction on the gate, \
             and a clock that is right"
        );
        assert_eq!(problem(404, "<html>"), "HTTP 404: the gate does not say why");
        // A proxy in between, in its own form.
        assert_eq!(
            problem(502, r#"{"status":"502","type":7,"detail":"upstream is down"}"#),
            "HTTP 502: upstream is down"
        );
    }
}
