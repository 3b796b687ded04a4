//! What receiving servers said: bounces and delays by class, for people who look for a cause.
//!
//! **Invariant:** of a server's answer, only its class is kept: SES's own words for it, the enhanced status code (RFC 3463)
//! as numbers, and whether it refuses the sender. Diagnostic texts contain addresses, and are not kept.

use std::collections::BTreeMap;

use reputation::isp::Isp;
use reputation::refusal::{Refusal, Signal, SignalKind};
use reputation::time::Minute;
use reputation::unit::{SenderId, UnitKind};
use ses_events::{Detail, Event, FailedRecipient};

/// The number of classes that are distinguished: their words come from the input.
const MAX_CLASSES: usize = 2_000;
/// The number of letters that are kept of one of SES's words.
const MAX_LETTERS: usize = 40;
/// The number of letters that are kept of a message id; SES's ids have 60.
const MAX_OF_ID: usize = 80;

/// The class of one recipient's bounce or delay.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// SES's words: `Permanent/NoEmail`, `MailboxFull`.
    pub words: String,
    /// Enhanced status code, such as `5.1.1`; empty if there was none.
    pub status: String,
    /// Why the sender is refused, if the text says so.
    pub refusal: Option<&'static str>,
}

/// The count of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiagnosisCount {
    /// Units.
    pub count: u64,
    /// The first and the last minute in which such mail was accepted.
    pub mail: (Minute, Minute),
    /// SES's id of the last such message.
    pub example: String,
}

/// The place of a class: sender, ISP, kind of unit.
pub type Place = (SenderId, Isp, UnitKind);

/// Bounces and delays by class.
#[derive(Clone, Debug, Default)]
pub struct Diagnoses {
    classes: BTreeMap<(Place, Class), DiagnosisCount>,
    /// Units of further classes, which are only counted.
    left_out: u64,
}

impl Diagnoses {
    /// Counts one unit.
    pub fn note(&mut self, place: Place, class: Class, accepted: Minute, message_id: &str) {
        let full = self.classes.len() >= MAX_CLASSES;
        let place = (place, class);
        if full && !self.classes.contains_key(&place) {
            self.left_out += 1;
            return;
        }
        let fresh = || DiagnosisCount { count: 0, mail: (accepted, accepted), example: String::new() };
        let known = self.classes.entry(place).or_insert_with(fresh);
        known.count += 1;
        known.mail = (known.mail.0.min(accepted), known.mail.1.max(accepted));
        known.example = id(message_id).to_owned();
    }

    /// All classes, with their place and count.
    pub fn classes(&self) -> impl Iterator<Item = (&Place, &Class, &DiagnosisCount)> {
        self.classes.iter().map(|((place, class), count)| (place, class, count))
    }

    /// Units of classes that are not distinguished.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// The classes of the failed recipients of an event, one for each unit; none for other events. `failures`: see
/// [`Classifier::failures`](pipeline::classify::Classifier::failures).
pub fn classes_of(event: &Event<'_>, failures: &[Option<usize>]) -> Vec<Class> {
    let (signal, words, recipients) = match &event.detail {
        Detail::Bounce(bounce) => (
            SignalKind::Bounce { bounce_type: &bounce.bounce_type, sub_type: &bounce.bounce_sub_type },
            format!("{}/{}", word(&bounce.bounce_type), word(&bounce.bounce_sub_type)),
            &bounce.recipients,
        ),
        Detail::DeliveryDelay(delay) => {
            (SignalKind::Delay { delay_type: &delay.delay_type }, word(&delay.delay_type), &delay.recipients)
        }
        Detail::Send
        | Detail::Delivery(_)
        | Detail::Complaint(_)
        | Detail::Reject { .. }
        | Detail::RenderingFailure { .. }
        | Detail::Open(_)
        | Detail::Click(_)
        | Detail::Subscription { .. } => return Vec::new(),
    };
    let class = |recipient: &FailedRecipient<'_>| {
        let (status, diagnostic) = (recipient.status.as_deref(), recipient.diagnostic_code.as_deref());
        let refusal = Refusal::classify(Signal { kind: signal, status, diagnostic });
        Class {
            words: words.clone(),
            status: status.and_then(enhanced).unwrap_or_default(),
            refusal: refusal.map(Refusal::name),
        }
    };
    let unnamed = || Class { words: words.clone(), status: String::new(), refusal: None };
    let of = |place: &Option<usize>| place.and_then(|place| recipients.get(place)).map_or_else(unnamed, class);
    failures.iter().map(of).collect()
}

/// One of SES's words, reduced to letters and digits, because the set is open. Anything else is dropped: an address without its
/// `@` is still readable as an address.
fn word(text: &str) -> String {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        text.chars().take(MAX_LETTERS).collect()
    } else {
        "(unknown)".to_owned()
    }
}

/// The id of a message if it has the form of one, because it comes from the input; otherwise nothing.
fn id(text: &str) -> &str {
    let is_id = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if is_id { text.get(..MAX_OF_ID).unwrap_or(text) } else { "" }
}

/// An enhanced status code (RFC 3463): class, subject and detail, of at most three digits each.
fn enhanced(status: &str) -> Option<String> {
    let parts: Vec<u16> = status.trim().split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    match parts[..] {
        [class @ (2 | 4 | 5), subject @ ..1000, detail @ ..1000] => Some(format!("{class}.{subject}.{detail}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_code_is_kept_of_a_status() {
        for (status, expected) in [
            ("5.1.1", Some("5.1.1")),
            (" 4.007.28 ", Some("4.7.28")),
            ("5.1.1 <ann@example.org>", None),
            ("6.1.1", None),
            ("5.1", None),
            ("5.1.1000", None),
            ("", None),
        ] {
            assert_eq!(enhanced(status).as_deref(), expected, "{status}");
        }
    }

    #[test]
    fn classes_beyond_the_most_are_counted_and_not_kept() {
        let mut book = Diagnoses::default();
        let place = (SenderId(0), Isp::OTHER, UnitKind::HardBounce);
        for number in 0..MAX_CLASSES + 3 {
            let class = Class { words: format!("w{number}"), status: String::new(), refusal: None };
            book.note(place, class, Minute(1), "0100-000001");
        }
        assert_eq!((book.classes().count(), book.left_out()), (MAX_CLASSES, 3));
        assert!(book.classes().all(|(_, _, count)| count.example == "0100-000001"));
    }

    #[test]
    fn of_a_text_with_an_address_nothing_is_kept() {
        for (text, as_word, as_id) in [
            ("NoEmail", "NoEmail", "NoEmail"),
            ("0100018f-5b1c-000000", "(unknown)", "0100018f-5b1c-000000"),
            ("ann@example.org", "(unknown)", ""),
            ("0100-<ann@example.org>", "(unknown)", ""),
            ("", "", ""),
        ] {
            assert_eq!((word(text).as_str(), id(text)), (as_word, as_id), "{text}");
        }
    }
}
