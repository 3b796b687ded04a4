//! What the relay itself answers, in the shapes of both APIs of SES.
//!
//! API v2 is `rest-json`: a status, the name of the error in `x-amzn-errortype`, and `{"message": …}`. API v1 is `query`: an
//! `ErrorResponse` of XML. The SDKs read the name and decide by it and the status whether to try again.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

/// Which API a request is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// The query API: `POST /` with `Action=`.
    V1,
    /// The JSON API: `POST /v2/email/…`.
    V2,
}

/// Why the relay answers instead of SES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request is not one that SES would take, or cannot be judged.
    Malformed(String),
    /// An operation that the relay does not relay.
    Unsupported(String),
    /// The body, or its message, is longer than SES takes.
    TooLarge(String),
    /// The body did not arrive in time.
    Slow,
    /// The mail may not go now.
    Deferred {
        /// When to ask again.
        retry_after: Duration,
        /// Why, for people, without an address.
        reason: String,
    },
    /// It cannot be known now whether the mail may go, or whether it went.
    Unavailable(String),
}

/// The namespace of API v1.
pub(crate) const NAMESPACE: &str = "http://ses.amazonaws.com/doc/2010-12-01/";

impl Fault {
    fn status(&self, protocol: Protocol) -> StatusCode {
        match self {
            Fault::Malformed(_) => StatusCode::BAD_REQUEST,
            Fault::Unsupported(_) if protocol == Protocol::V1 => StatusCode::BAD_REQUEST,
            Fault::Unsupported(_) => StatusCode::NOT_FOUND,
            Fault::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Fault::Slow => StatusCode::REQUEST_TIMEOUT,
            // SES answers the two APIs differently.
            Fault::Deferred { .. } if protocol == Protocol::V1 => StatusCode::BAD_REQUEST,
            Fault::Deferred { .. } => StatusCode::TOO_MANY_REQUESTS,
            Fault::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn code(&self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Fault::Malformed(_), Protocol::V1) => "InvalidParameterValue",
            (Fault::Malformed(_), Protocol::V2) => "BadRequestException",
            (Fault::Unsupported(_), Protocol::V1) => "InvalidAction",
            (Fault::Unsupported(_), Protocol::V2) => "UnknownOperationException",
            (Fault::TooLarge(_), Protocol::V1) => "RequestEntityTooLarge",
            (Fault::TooLarge(_), Protocol::V2) => "RequestEntityTooLargeException",
            (Fault::Slow, _) => "RequestTimeout",
            (Fault::Deferred { .. }, Protocol::V1) => "Throttling",
            (Fault::Deferred { .. }, Protocol::V2) => "TooManyRequestsException",
            (Fault::Unavailable(_), _) => "ServiceUnavailable",
        }
    }

    /// What it says, for people.
    pub(crate) fn message(&self) -> String {
        match self {
            Fault::Malformed(text) | Fault::Unsupported(text) | Fault::TooLarge(text) | Fault::Unavailable(text) => {
                text.clone()
            }
            Fault::Slow => "the request did not arrive in time".to_owned(),
            Fault::Deferred { retry_after, reason } => {
                format!("{reason}; ask again in {} s", whole_secs(*retry_after))
            }
        }
    }

    /// As SES would answer it.
    pub(crate) fn response(&self, protocol: Protocol, request_id: &str) -> Response<Bytes> {
        let (code, message) = (self.code(protocol), self.message());
        let mut response = match protocol {
            Protocol::V2 => {
                let body = serde_json::json!({ "message": message }).to_string();
                let mut response = Response::new(Bytes::from(body));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(code));
                response
            }
            Protocol::V1 => {
                let kind = if self.status(protocol).is_client_error() { "Sender" } else { "Receiver" };
                let message = escaped(&message);
                let mut response = Response::new(Bytes::from(format!(
                    "<ErrorResponse xmlns=\"{NAMESPACE}\">\n  <Error>\n    <Type>{kind}</Type>\n    <Code>{code}</Code>\n    \
                     <Message>{message}</Message>\n  </Error>\n  <RequestId>{request_id}</RequestId>\n</ErrorResponse>\n"
                )));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
                response
            }
        };
        *response.status_mut() = self.status(protocol);
        if let Fault::Deferred { retry_after, .. } = self {
            response.headers_mut().insert(RETRY_AFTER, whole_secs(*retry_after).into());
        }
        if let Ok(id) = HeaderValue::from_str(request_id) {
            response.headers_mut().insert("x-amzn-requestid", id);
        }
        response
    }
}

/// In whole seconds, rounded up, at least 1.
pub(crate) fn whole_secs(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1)
}

/// A text within an element of XML.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // XML 1.0 has no place for other control characters, not even escaped.
            c if c.is_control() && !['\t', '\n', '\r'].contains(&c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The name of the error in an answer of SES, if it has one.
pub(crate) fn code_of(answer: &Response<Bytes>) -> Option<String> {
    let named = answer.headers().get("x-amzn-errortype").and_then(|name| name.to_str().ok());
    if let Some(name) = named {
        // `NAME:URL` in some answers of AWS.
        return Some(name.split(':').next().unwrap_or_default().to_owned());
    }
    let text = std::str::from_utf8(answer.body()).ok()?;
    let (_, after) = text.split_once("<Code>")?;
    Some(after.split_once("</Code>")?.0.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(fault: &Fault, protocol: Protocol) -> String {
        let response = fault.response(protocol, "id-1");
        let headers: Vec<String> =
            response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        format!("{}\n{}\n{body}", response.status(), headers.join("\n"))
    }

    #[test]
    fn a_deferral_has_the_shape_of_throttling_in_both_apis() {
        let fault = Fault::Deferred { retry_after: Duration::from_millis(29_001), reason: "gmail: <quota>".to_owned() };
        insta::assert_snapshot!(shown(&fault, Protocol::V2), @r#"
        429 Too Many Requests
        content-type: application/json
        x-amzn-errortype: TooManyRequestsException
        retry-after: 30
        x-amzn-requestid: id-1
        {"message":"gmail: <quota>; ask again in 30 s"}
        "#);
        insta::assert_snapshot!(shown(&fault, Protocol::V1), @r#"
        400 Bad Request
        content-type: text/xml
        retry-after: 30
        x-amzn-requestid: id-1
        <ErrorResponse xmlns="http://ses.amazonaws.com/doc/2010-12-01/">
          <Error>
            <Type>Sender</Type>
            <Code>Throttling</Code>
            <Message>gmail: &lt;quota&gt;; ask again in 30 s</Message>
          </Error>
          <RequestId>id-1</RequestId>
        </ErrorResponse>
        "#);
    }

    #[test]
    fn seconds_are_rounded_up_and_never_zero() {
        for (millis, expected) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (u64::MAX, u64::MAX / 1000 + 1)] {
            assert_eq!(whole_secs(Duration::from_millis(millis)), expected, "{millis}");
        }
    }

    #[test]
    fn the_code_of_an_answer_is_found_in_either_shape() {
        for protocol in [Protocol::V1, Protocol::V2] {
            let answer = Fault::Unavailable("x".to_owned()).response(protocol, "id");
            assert_eq!(code_of(&answer).unwrap(), "ServiceUnavailable");
        }
        assert_eq!(code_of(&Response::new(Bytes::from_static(b"\xff"))), None);
    }
}
