//! What documents mean, checked with both decoders.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agreement;
mod carriers;
mod hostile;
mod meaning;
mod samples;

use std::fmt::Write;

use ses_events::{Decoded, Decoder, reference};

/// Decodes with both decoders, which must agree, and passes their results to `each`.
fn decode(document: &[u8], mut each: impl FnMut(Decoded<'_>)) {
    let mut fast = Vec::new();
    Decoder::new().decode(document, |decoded| fast.push(format!("{decoded:?}")));
    let mut at = 0;
    reference::decode(document, |decoded| {
        let shown = String::from_utf8_lossy(document.get(..4000).unwrap_or(document));
        assert_eq!(fast.get(at), Some(&format!("{decoded:?}")), "record {at} of {shown}");
        at += 1;
        each(decoded);
    });
    assert_eq!(fast.len(), at, "the fast path emits more");
}

/// Decodes with both decoders, which must agree.
fn agree(document: &[u8]) {
    decode(document, |_| {});
}

/// One line for each result of the document.
fn outcomes(document: &[u8]) -> String {
    let mut lines = String::new();
    decode(document, |decoded| {
        let line = match decoded {
            Decoded::Event(event) => {
                let kind = format!("{:?}", event.detail);
                let kind = kind.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
                let published_at = event
                    .published_at
                    .map_or(String::new(), |published_at| format!(" published at {}", published_at.0));
                format!("event: {kind} of {} at {}{published_at}", event.mail.message_id, event.mail.timestamp.0)
            }
            Decoded::Ignored(ignored) => format!("ignored: {ignored}"),
            Decoded::Rejected(rejection) => format!("rejected: {rejection}"),
        };
        writeln!(lines, "{line}").unwrap();
    });
    lines
}

/// The bounce that tests modify.
const BOUNCE: &str = include_str!("../samples/bounce.json");

/// As SNS delivers it to HTTP and to SQS.
fn sns(message: &str) -> String {
    let message = serde_json::to_string(message).unwrap();
    format!(r#"{{"Type":"Notification","MessageId":"m","Message":{message},"Timestamp":"2026-09-14T06:00:03.611Z"}}"#)
}

/// As Lambda delivers it from SQS.
fn sqs(bodies: &[&str]) -> String {
    let record = |body: &&str| {
        let body = serde_json::to_string(body).unwrap();
        format!(r#"{{"messageId":"m","body":{body},"attributes":{{"SentTimestamp":"1789365603700"}}}}"#)
    };
    format!(r#"{{"Records":[{}]}}"#, bodies.iter().map(record).collect::<Vec<_>>().join(","))
}

/// As Lambda delivers it from SNS.
fn sns_records(messages: &[&str]) -> String {
    let record = |message: &&str| format!(r#"{{"EventSource":"aws:sns","Sns":{}}}"#, sns(message));
    format!(r#"{{"Records":[{}]}}"#, messages.iter().map(record).collect::<Vec<_>>().join(","))
}

/// As EventBridge delivers it.
fn event_bridge(detail: &str) -> String {
    format!(r#"{{"version":"0","detail-type":"Email Bounced","time":"2026-09-14T06:00:04Z","detail":{detail}}}"#)
}
