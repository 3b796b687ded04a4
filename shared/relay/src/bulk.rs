//! Answers about the entries of a bulk call, in the shapes of both APIs.
//!
//! An entry that may not go now has the status that SES has for mail that it throttles: `ACCOUNT_THROTTLED` in v2,
//! `AccountThrottled` in v1 ("BulkEmailEntryResult", Amazon SES API v2 Reference; "BulkEmailDestinationStatus", v1).
//! `TRANSIENT_FAILURE` is kept for what may or may not have gone.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::{Protocol, escaped};

/// When to ask SES again after it has throttled: its rate is by the second, its quota by the day.
const THROTTLED: Duration = Duration::from_secs(10);
/// When to ask SES again after it has answered that sending is stopped.
const PAUSED: Duration = Duration::from_secs(60);

/// How long an entry waits that SES lets wait ("BulkEmailEntryResult", Amazon SES API v2 Reference).
pub(crate) fn defers_entry(status: &str) -> Option<Duration> {
    match status {
        "ACCOUNT_THROTTLED"
        | "AccountThrottled"
        | "ACCOUNT_DAILY_QUOTA_EXCEEDED"
        | "AccountDailyQuotaExceeded"
        | "TRANSIENT_FAILURE"
        | "TransientFailure" => Some(THROTTLED),
        "CONFIGURATION_SET_SENDING_PAUSED"
        | "ConfigurationSetSendingPaused"
        | "ACCOUNT_SENDING_PAUSED"
        | "AccountSendingPaused" => Some(PAUSED),
        _ => None,
    }
}

/// The result of an entry that the relay has accepted, as SES writes it.
pub(crate) fn success(protocol: Protocol, message_id: &str) -> String {
    match protocol {
        Protocol::V2 => serde_json::json!({ "Status": "SUCCESS", "MessageId": message_id }).to_string(),
        Protocol::V1 => format!("<member><Status>Success</Status><MessageId>{message_id}</MessageId></member>"),
    }
}

/// The status of an entry that the relay answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryStatus {
    Throttled,
    TransientFailure,
    SetPaused,
    AccountPaused,
    AccountSuspended,
    NotVerified,
    Rejected,
    InvalidParameter,
    Failed,
}

impl EntryStatus {
    /// The status of the entries of a call that SES refused with this error.
    pub(crate) fn of_code(code: &str) -> EntryStatus {
        match code {
            "TooManyRequestsException" | "Throttling" | "ThrottlingException" | "LimitExceededException" => {
                EntryStatus::Throttled
            }
            "AccountSendingPausedException" => EntryStatus::AccountPaused,
            "AccountSuspendedException" => EntryStatus::AccountSuspended,
            "MailFromDomainNotVerifiedException" => EntryStatus::NotVerified,
            "MessageRejected" => EntryStatus::Rejected,
            "BadRequestException" | "InvalidParameterValue" => EntryStatus::InvalidParameter,
            code if code.ends_with("SendingPausedException") => EntryStatus::SetPaused,
            _ => EntryStatus::Failed,
        }
    }

    /// How long mail waits that SES lets wait with this status, for an error of a whole call or for an entry; `None` if SES
    /// refuses it.
    pub(crate) fn defers(self) -> Option<Duration> {
        match self {
            EntryStatus::Throttled => Some(THROTTLED),
            EntryStatus::SetPaused | EntryStatus::AccountPaused => Some(PAUSED),
            EntryStatus::TransientFailure
            | EntryStatus::AccountSuspended
            | EntryStatus::NotVerified
            | EntryStatus::Rejected
            | EntryStatus::InvalidParameter
            | EntryStatus::Failed => None,
        }
    }

    fn name(self, protocol: Protocol) -> &'static str {
        let (v2, v1) = match self {
            EntryStatus::Throttled => ("ACCOUNT_THROTTLED", "AccountThrottled"),
            EntryStatus::TransientFailure => ("TRANSIENT_FAILURE", "TransientFailure"),
            EntryStatus::SetPaused => ("CONFIGURATION_SET_SENDING_PAUSED", "ConfigurationSetSendingPaused"),
            EntryStatus::AccountPaused => ("ACCOUNT_SENDING_PAUSED", "AccountSendingPaused"),
            EntryStatus::AccountSuspended => ("ACCOUNT_SUSPENDED", "AccountSuspended"),
            EntryStatus::NotVerified => ("MAIL_FROM_DOMAIN_NOT_VERIFIED", "MailFromDomainNotVerified"),
            EntryStatus::Rejected => ("MESSAGE_REJECTED", "MessageRejected"),
            EntryStatus::InvalidParameter => ("INVALID_PARAMETER", "InvalidParameterValue"),
            EntryStatus::Failed => ("FAILED", "Failed"),
        };
        match protocol {
            Protocol::V2 => v2,
            Protocol::V1 => v1,
        }
    }

    /// The result of an entry, as SES writes it.
    pub(crate) fn result(self, protocol: Protocol, error: &str) -> String {
        let status = self.name(protocol);
        match protocol {
            Protocol::V2 => serde_json::json!({ "Status": status, "Error": error }).to_string(),
            Protocol::V1 => {
                let error = escaped(error);
                format!("<member><Status>{status}</Status><Error>{error}</Error></member>")
            }
        }
    }
}

/// The result of an entry, as SES wrote it, and whether SES accepted the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryResult {
    pub(crate) text: String,
    pub(crate) accepted: bool,
    /// As SES names it.
    pub(crate) status: String,
}

/// The results in SES's answer to a bulk call; `None` if it has another shape.
pub(crate) fn results(protocol: Protocol, body: &[u8]) -> Option<Vec<EntryResult>> {
    let text = std::str::from_utf8(body).ok()?;
    match protocol {
        Protocol::V2 => {
            let answer: Answer<'_> = serde_json::from_str(text).ok()?;
            let result = |raw: &RawValue| {
                let Status { status } = serde_json::from_str(raw.get()).ok()?;
                Some(EntryResult { text: raw.get().to_owned(), accepted: status == "SUCCESS", status })
            };
            answer.bulk_email_entry_results.into_iter().map(result).collect()
        }
        Protocol::V1 => {
            let list = text.split_once("<SendBulkTemplatedEmailResult>")?.1;
            let list = list.split_once("</SendBulkTemplatedEmailResult>")?.0;
            let result = |part: &str| {
                let (member, _) = part.split_once("</member>")?;
                let status = member.split_once("<Status>")?.1.split_once("</Status>")?.0;
                let (text, status) = (format!("<member>{member}</member>"), status.trim().to_owned());
                Some(EntryResult { text, accepted: status == "Success", status })
            };
            list.split("<member>").skip(1).map(result).collect()
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    #[serde(borrow)]
    bulk_email_entry_results: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    status: String,
}

/// The answer to a bulk call, put together from the results of its entries.
pub(crate) fn response(protocol: Protocol, results: &[String], request_id: &str) -> Response<Bytes> {
    let (content_type, body) = match protocol {
        Protocol::V2 => ("application/json", format!("{{\"BulkEmailEntryResults\":[{}]}}", results.join(","))),
        Protocol::V1 => (
            "text/xml",
            format!(
                "<SendBulkTemplatedEmailResponse xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\">\
                 <SendBulkTemplatedEmailResult><Status>{}</Status></SendBulkTemplatedEmailResult>\
                 <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></SendBulkTemplatedEmailResponse>",
                results.concat(),
                escaped(request_id)
            ),
        ),
    };
    let mut response = Response::new(Bytes::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_survive_being_taken_apart_and_put_together() {
        for protocol in [Protocol::V1, Protocol::V2] {
            let own = EntryStatus::Throttled.result(protocol, "gmail: <quota> & \"more\"");
            let success = match protocol {
                Protocol::V2 => r#"{"Status": "SUCCESS", "MessageId": "m-1"}"#.to_owned(),
                Protocol::V1 => "<member>\n<Status>Success</Status><MessageId>m-1</MessageId></member>".to_owned(),
            };
            let answer = response(protocol, &[success.clone(), own.clone()], "id");
            let results = results(protocol, answer.body()).unwrap();
            let texts: Vec<_> = results.iter().map(|result| (&result.text, result.accepted)).collect();
            assert_eq!(texts, [(&success, true), (&own, false)]);
            assert_eq!(defers_entry(&results[1].status), Some(THROTTLED));
        }
        assert_eq!(results(Protocol::V2, b"{}"), None);
        assert_eq!(results(Protocol::V1, b"<html>"), None);
        assert_eq!(results(Protocol::V1, b"\xff"), None);
    }
}
