//! How carriers encode a document in addition to JSON: base64, gzip, a date before it.

use std::io::Read;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use flate2::read::MultiGzDecoder;

use crate::{MAX_DOCUMENT, MAX_INFLATED, Rejection, Timestamp};

/// Base64 as AWS writes it; the padding may be missing if it was copied by hand.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The first bytes of gzip (RFC 1952, section 2.3.1).
const GZIP: &[u8] = &[0x1f, 0x8b];

/// The first bytes of a record into which the Kinesis Producer Library aggregated several ("KPL Aggregated Record
/// Format", amazon-kinesis-producer).
const AGGREGATED: &[u8] = &[0xf3, 0x89, 0x9a, 0xc2];

/// How many more bytes of a document may be inflated.
///
/// Each payload has its own limit; all together have this one, because otherwise a small document of many payloads
/// would take hours.
pub(crate) struct InflateBudget(usize);

impl Default for InflateBudget {
    fn default() -> Self {
        Self(MAX_INFLATED)
    }
}

/// The text of a base64 payload, inflated if it is gzip.
pub(crate) fn unpack(encoded: &str, path: &'static str, budget: &mut InflateBudget) -> Result<String, Rejection> {
    let is_folded = encoded.bytes().any(|byte| byte.is_ascii_whitespace());
    let unfolded = is_folded.then(|| encoded.split_ascii_whitespace().collect::<String>());
    let bytes = BASE64.decode(unfolded.as_deref().unwrap_or(encoded)).map_err(|_| Rejection::NotBase64 { path })?;
    let bytes = if bytes.starts_with(GZIP) { inflate(&bytes, path, budget)? } else { bytes };
    if bytes.starts_with(AGGREGATED) {
        return Err(Rejection::NotRead {
            carrier: "a record aggregated by the Kinesis Producer Library",
            remedy: "split it with a de-aggregation library first",
        });
    }
    let text = String::from_utf8(bytes).map_err(|error| Rejection::NotUtf8 { at: error.utf8_error().valid_up_to() })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}

fn inflate(gzip: &[u8], path: &'static str, InflateBudget(left): &mut InflateBudget) -> Result<Vec<u8>, Rejection> {
    let limit = MAX_DOCUMENT.min(*left);
    let mut bytes = Vec::new();
    // One more byte shows that the limit is exceeded.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = MultiGzDecoder::new(gzip).take(most).read_to_end(&mut bytes);
    *left = left.saturating_sub(bytes.len());
    if bytes.len() > limit {
        let limit = if limit < MAX_DOCUMENT { MAX_INFLATED } else { MAX_DOCUMENT };
        return Err(Rejection::InflatesTooLarge { limit });
    }
    read.map(|_| bytes).map_err(|_| Rejection::NotGzip { path })
}

/// What SES publishes as plain text when an SNS event destination is created or changed.
pub(crate) const VALIDATION_NOTICE: &str = "Successfully validated SNS topic for Amazon SES event publishing.";

/// Longest text before the document in a line of a log.
const MAX_STAMP: usize = 512;

/// A line of a log (an export of CloudWatch Logs, `aws logs tail`, what a function prints): a date, possibly the names
/// of a stream, a request and a level, then a document. Returns the date and the document.
pub(crate) fn stamped(line: &str) -> Option<(Timestamp, &str)> {
    let line = line.trim();
    if !line.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let head = line.get(..line.len().min(MAX_STAMP)).unwrap_or(line);
    // The notice is the only document that is not JSON.
    let first = head.find('{').or_else(|| head.find(VALIDATION_NOTICE))?;
    // The first object may be the first of a list, and both may be in text.
    let stamp = line.get(..first)?.trim_end_matches(['[', '"', '\\', ' ', '\t']);
    let document = line.strip_prefix(stamp)?;
    if !document.starts_with([' ', '\t']) || stamp.contains('\n') {
        return None;
    }
    let date = stamp.split_ascii_whitespace().next().and_then(Timestamp::parse_any);
    Some((date.or_else(|| Timestamp::parse_any(stamp))?, document.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_log_is_a_date_and_a_document() {
        for (line, expected) in [
            ("1970-01-01T00:00:01.250Z {}", Some((1250, "{}"))),
            (" 1970-01-01T00:00:01.250Z\t{\"a\":1} \n", Some((1250, "{\"a\":1}"))),
            ("1970-01-01T00:00:01.250000+00:00 stream/a {}", Some((1250, "{}"))),
            ("1970-01-01T00:00:01.250Z\tb62f9c6e\tINFO\t{}", Some((1250, "{}"))),
            ("1970-01-01T00:00:01.250Z [{}]", Some((1250, "[{}]"))),
            ("1970-01-01T00:00:01.250Z \"{}\"", Some((1250, "\"{}\""))),
            ("1970-01-01T00:00:01.250Z stream [ \"{}\"]", Some((1250, "[ \"{}\"]"))),
            ("1970-01-01T00:00:01.250Z [INFO] {}", Some((1250, "{}"))),
            ("1970-01-01 00:00:01 +0000 {}", Some((1000, "{}"))),
            ("1539007545000 {}", Some((1_539_007_545_000, "{}"))),
            ("1970-01-01T00:00:01.250Z{}", None),
            ("1970-01-01T00:00:01.250Z\n{}", None),
            ("1970-01-01T00:00:01.250Z", None),
            ("1970-01-01T00:00:01.250Z hello", None),
            ("1970-01-01T00:00:01.250 {}", None),
            ("5 {}", None),
            ("{}", None),
            ("é {}", None),
            ("", None),
        ] {
            let expected = expected.map(|(date, document)| (Timestamp(date), document));
            assert_eq!(stamped(line), expected, "{line}");
        }
    }
}
