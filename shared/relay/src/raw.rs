//! Raw mail in base64: its header, without a copy of the rest.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::mime::MAX_HEADER;

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new();
const PADDED: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, CONFIG.with_decode_padding_mode(DecodePaddingMode::Indifferent));
const UNPADDED: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, CONFIG.with_decode_padding_mode(DecodePaddingMode::RequireNone));

/// Characters of base64 that are decoded at once: whole groups of four, and more than the longest header.
const PIECE: usize = (MAX_HEADER / 3 + 2048) * 4;

/// The data is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the raw message is not base64")]
pub(crate) struct NotBase64;

/// The beginning of a mail, with all of its header; the rest is only checked.
pub(crate) fn beginning(text: &str) -> Result<Vec<u8>, NotBase64> {
    let text = without_space(text);
    let mut beginning = None;
    let mut scratch = Vec::new();
    let mut rest = text.as_bytes();
    while beginning.is_none() || !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(PIECE));
        let engine = if after.is_empty() { &PADDED } else { &UNPADDED };
        let into = if beginning.is_none() { beginning.insert(Vec::new()) } else { &mut scratch };
        into.clear();
        engine.decode_vec(piece, into).map_err(|_| NotBase64)?;
        rest = after;
    }
    Ok(beginning.unwrap_or_default())
}

/// The whole mail.
pub(crate) fn decoded(text: &str) -> Result<Vec<u8>, NotBase64> {
    PADDED.decode(without_space(text).as_bytes()).map_err(|_| NotBase64)
}

/// A mail as it is written in a request.
pub(crate) fn encoded(mail: &[u8]) -> String {
    PADDED.encode(mail)
}

/// Some mailers break the lines of base64.
fn without_space(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains(['\r', '\n', ' ']) { text.replace(['\r', '\n', ' '], "").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_long_mail_is_decoded_and_the_rest_checked() {
        let mail: Vec<u8> =
            b"From: a@b.example\r\n\r\n".iter().copied().chain((0..3_000_000).map(|n| n as u8)).collect();
        let text = encoded(&mail);
        let beginning = beginning(&text).unwrap();
        assert!(beginning.len() > MAX_HEADER && mail.starts_with(&beginning));
        assert_eq!(decoded(&text).unwrap(), mail);
        for place in [0, PIECE - 1, PIECE, 2_000_000, text.len() - 1] {
            let mut broken = text.clone().into_bytes();
            broken[place] = b'*';
            let broken = String::from_utf8(broken).unwrap();
            assert_eq!(super::beginning(&broken), Err(NotBase64), "{place}");
        }
    }

    #[test]
    fn padding_may_be_missing_and_lines_broken_but_nothing_may_follow_the_padding() {
        assert_eq!(beginning("QQ==").unwrap(), b"A");
        assert_eq!(beginning("QQ").unwrap(), b"A");
        assert_eq!(beginning("QU\r\nFB").unwrap(), b"AAA");
        assert_eq!(beginning("").unwrap(), b"");
        assert_eq!(beginning("QQ==QQ=="), Err(NotBase64));
        assert_eq!(beginning("A"), Err(NotBase64));
    }
}
