//! Why a document that should be an event is not one.

use std::fmt;

use thiserror::Error;

use crate::{MAX_DEPTH, MAX_ENVELOPES};

/// Why a document, or one record of several, could not be decoded.
///
/// **Invariant:** neither the message nor the fields hold an address, a subject line or a header: excerpts come from
/// fields with a fixed form only (types, timestamps), and a text that has another form there is described, not shown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The bytes are not UTF-8, which JSON must be (RFC 8259, section 8.1).
    #[error("not UTF-8 at byte {at}")]
    NotUtf8 {
        /// Bytes that are valid before it.
        at: usize,
    },
    /// Neither JSON nor the plain text that SES is known to send.
    #[error("not JSON at byte {at}")]
    NotJson {
        /// Where the parser gave up, counted in bytes of the text itself: inside its envelopes, if it has any.
        at: usize,
    },
    /// Arrays and objects are nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Longer than the carriers of SES events allow.
    #[error("{size} bytes where {limit} are allowed")]
    TooLarge {
        /// Length in bytes.
        size: usize,
        /// [`MAX_DOCUMENT`](crate::MAX_DOCUMENT) or [`MAX_EVENT`](crate::MAX_EVENT), in bytes.
        limit: usize,
    },
    /// An envelope in an envelope, and so on, more than [`MAX_ENVELOPES`] times.
    #[error("wrapped in more than {MAX_ENVELOPES} envelopes")]
    TooManyEnvelopes,
    /// Compressed, and longer than allowed after inflating.
    #[error("inflates to more than {limit} bytes")]
    InflatesTooLarge {
        /// [`MAX_DOCUMENT`](crate::MAX_DOCUMENT) for one, [`MAX_INFLATED`](crate::MAX_INFLATED) for all, in bytes.
        limit: usize,
    },
    /// A field that should hold base64 does not.
    #[error("{path} is not base64")]
    NotBase64 {
        /// Where: see [`Rejection::Absent`].
        path: &'static str,
    },
    /// A field begins as gzip and cannot be inflated.
    #[error("{path} is damaged gzip")]
    NotGzip {
        /// Where: see [`Rejection::Absent`].
        path: &'static str,
    },
    /// A list of documents in a record of a Lambda batch of SQS or SNS: each record must give exactly one result.
    #[error("several documents in one record of a batch")]
    Several,
    /// A carrier that is recognised, but holds no event, or no event that can be read here.
    #[error("{carrier} is not read: {remedy}")]
    NotRead {
        /// What it is, with its article.
        carrier: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// JSON, but neither an event nor an envelope: `{}`, `[1]`, `null` …
    #[error("no event in the document")]
    NoEvent,
    /// A required field is absent or null.
    #[error("{path} is absent")]
    Absent {
        /// Where: `mail.timestamp`, `bounce.bouncedRecipients[].emailAddress` …
        path: &'static str,
    },
    /// A field has a different JSON type from the one that SES documents.
    #[error("{path} is {found} instead of {expected}")]
    WrongType {
        /// Where: see [`Rejection::Absent`].
        path: &'static str,
        /// The JSON type that SES documents.
        expected: JsonType,
        /// The JSON type that is there.
        found: JsonType,
    },
    /// A field has the right type but an invalid value.
    #[error("{path} is not a {expected}: {excerpt}")]
    Invalid {
        /// Where: see [`Rejection::Absent`].
        path: &'static str,
        /// What it should be, as a noun: `timestamp`, `message id`.
        expected: &'static str,
        /// The beginning of the value in quotes; or, if the value may hold an address, a description of it.
        excerpt: String,
    },
}

impl Rejection {
    /// The kind of rejection as one word: stable, for counters and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } => "not_utf8",
            Self::NotJson { .. } => "not_json",
            Self::TooDeep => "too_deep",
            Self::TooLarge { .. } | Self::InflatesTooLarge { .. } => "too_large",
            Self::TooManyEnvelopes => "too_many_envelopes",
            Self::NotBase64 { .. } => "not_base64",
            Self::NotGzip { .. } => "not_gzip",
            Self::Several => "several",
            Self::NotRead { .. } => "not_read",
            Self::NoEvent => "no_event",
            Self::Absent { .. } => "absent",
            Self::WrongType { .. } => "wrong_type",
            Self::Invalid { .. } => "invalid",
        }
    }
}

/// The six types of JSON (RFC 8259, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonType {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// `1.5`
    Number,
    /// `"text"`
    String,
    /// `[…]`
    Array,
    /// `{…}`
    Object,
}

impl fmt::Display for JsonType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}

/// Longest excerpt or name taken from a document, in characters.
const MAX_EXCERPT: usize = 48;

/// The beginning of an external text in quotes, if it is safe to log; otherwise a description of it.
pub(crate) fn excerpt(text: &str) -> String {
    match shown(text) {
        Some(shown) => format!("\"{shown}\""),
        None if text.contains('@') => format!("a text of {} bytes with an @", text.len()),
        None => format!("a text of {} bytes with characters that are not shown", text.len()),
    }
}

/// An external name, cut for use as a counter; one common name for all that are not safe to show.
pub(crate) fn name(text: &str) -> String {
    shown(text).unwrap_or_else(|| "(a name that is not shown)".to_owned())
}

/// The beginning of a text, if the whole text has only characters that occur in types and dates. From these characters
/// no address can be written in any form (`@`, `%40`, `&#64;`, a wide `@`), no line break and no terminal control
/// sequence. Replacing the other characters would not be enough: an address without its `@` is still an address to a
/// reader.
fn shown(text: &str) -> Option<String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || " -_.:+/,()[]".contains(c);
    if !text.chars().all(harmless) {
        return None;
    }
    // One byte each.
    Some(match text.get(..MAX_EXCERPT) {
        Some(beginning) if text.len() > MAX_EXCERPT => format!("{beginning}…"),
        Some(_) | None => text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn excerpts_are_short_and_hold_no_address() {
        for (text, expected) in [
            ("2026-13-01T00:00:00.000Z", "\"2026-13-01T00:00:00.000Z\""),
            ("Mon, 14 Sep 2026 25:00:01 +0200 (CEST)", "\"Mon, 14 Sep 2026 25:00:01 +0200 (CEST)\""),
            ("2026-09-14T06:00:01[Europe/Berlin]", "\"2026-09-14T06:00:01[Europe/Berlin]\""),
            ("", "\"\""),
            ("ana@example.net", "a text of 15 bytes with an @"),
            ("2026-09-14 for Ana <ana@example.net>", "a text of 36 bytes with an @"),
            ("ana%40example.net", "a text of 17 bytes with characters that are not shown"),
            ("ana\u{ff20}example.net", "a text of 17 bytes with characters that are not shown"),
            ("a\nb\u{1b}[31m", "a text of 8 bytes with characters that are not shown"),
            (&"x".repeat(48), &format!("\"{}\"", "x".repeat(48))),
            (&"x".repeat(49), &format!("\"{}…\"", "x".repeat(48))),
            // The excerpt would be only the local part.
            (&format!("{}@example.net", "x".repeat(60)), "a text of 72 bytes with an @"),
        ] {
            assert_eq!(excerpt(text), expected, "{text}");
        }
        assert_eq!(name("Email Teleported"), "Email Teleported");
        assert_eq!(name("ana@example.net"), "(a name that is not shown)");
    }

    proptest! {
        #[test]
        fn nothing_of_an_address_is_shown(
            before in ".{0,60}", local in "[a-z]{4,12}", domain in "[a-z]{4,12}", after in ".{0,60}",
        ) {
            let text = format!("{before}{local}@{domain}.example{after}");
            for shown in [excerpt(&text), name(&text)] {
                prop_assert!(shown.len() < 60 && !shown.contains("example"), "{shown}");
            }
        }
    }

    #[test]
    fn messages_say_where_and_what() {
        let path = "mail.timestamp";
        let rejections = [
            Rejection::NotUtf8 { at: 3 },
            Rejection::NotJson { at: 3 },
            Rejection::TooDeep,
            Rejection::TooLarge { size: 9, limit: 8 },
            Rejection::TooManyEnvelopes,
            Rejection::InflatesTooLarge { limit: 8 },
            Rejection::NotBase64 { path: "Records[].kinesis.data" },
            Rejection::NotGzip { path: "awslogs.data" },
            Rejection::Several,
            Rejection::NotRead { carrier: "an S3 event notification", remedy: "read the objects that it names" },
            Rejection::NoEvent,
            Rejection::Absent { path },
            Rejection::WrongType { path, expected: JsonType::String, found: JsonType::Number },
            Rejection::Invalid { path, expected: "timestamp", excerpt: excerpt("soon") },
        ];
        let lines: Vec<String> = rejections.iter().map(|it| format!("{}: {it}", it.name())).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        not_utf8: not UTF-8 at byte 3
        not_json: not JSON at byte 3
        too_deep: nested deeper than 127 levels
        too_large: 9 bytes where 8 are allowed
        too_many_envelopes: wrapped in more than 6 envelopes
        too_large: inflates to more than 8 bytes
        not_base64: Records[].kinesis.data is not base64
        not_gzip: awslogs.data is damaged gzip
        several: several documents in one record of a batch
        not_read: an S3 event notification is not read: read the objects that it names
        no_event: no event in the document
        absent: mail.timestamp is absent
        wrong_type: mail.timestamp is a number instead of a string
        invalid: mail.timestamp is not a timestamp: "soon"
        "#);
    }
}
