//! What receiving servers said: bounces and delays sorted by what is told of them, for people who look for a cause.
//!
//! **Invariant:** of what a server said, only its class is kept: SES's own words for it, the enhanced status code (RFC 3463) as
//! numbers, and whether it refuses the sender. Diagnostic texts hold addresses, and stay where they are.

use std::collections::BTreeMap;

use reputation::isp::Isp;
use reputation::refusal::{Refusal, Signal, SignalKind};
use reputation::time::Minute;
use reputation::unit::{SenderId, UnitKind};
use ses_events::{Detail, Event, FailedRecipient};

/// So many classes are told apart: their words come from the input.
const MAX_CLASSES: usize = 2_000;
/// Letters of a word of SES's that are kept.
const MAX_LETTERS: usize = 40;
/// Letters of the id of a message that are kept; SES's have 60.
const MAX_OF_ID: usize = 80;

/// What is told of one recipient's bounce or delay.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// SES's words: `Permanent/NoEmail`, `MailboxFull`.
    pub words: String,
    /// Enhanced status code, such as `5.1.1`; empty if none was told.
    pub status: String,
    /// Why the sender is refused, if that is what it says.
    pub refusal: Option<&'static str>,
}

/// What one class was told how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiagnosisCount {
    /// Units.
    pub count: u64,
    /// The first and the last minute in which such mail was accepted.
    pub mail: (Minute, Minute),
    /// SES's id of the last such message.
    pub example: String,
}

/// Where a class was told: sender, ISP, kind of unit.
pub type Place = (SenderId, Isp, UnitKind);

/// Bounces and delays by what was told of them.
#[derive(Clone, Debug, Default)]
pub struct Diagnoses {
    classes: BTreeMap<(Place, Class), DiagnosisCount>,
    /// Units of classes that are not told apart any more.
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
        let reported = self.classes.entry(place).or_insert_with(fresh);
        reported.count += 1;
        reported.mail = (reported.mail.0.min(accepted), reported.mail.1.max(accepted));
        reported.example = id(message_id).to_owned();
    }

    /// All classes, with where they were told.
    pub fn classes(&self) -> impl Iterator<Item = (&Place, &Class, &DiagnosisCount)> {
        self.classes.iter().map(|((place, class), reported)| (place, class, reported))
    }

    /// Units whose class is not among them.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// What is told of the failed recipients of an event, one for each unit that they make; none for other events. `failures`:
/// see [`Classifier::failures`](pipeline::classify::Classifier::failures).
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

/// A word of SES's: letters and digits, because it is an open set. Of anything else nothing is kept: what is left of an
/// address without its `@` is still an address to a reader.
fn word(text: &str) -> String {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        text.chars().take(MAX_LETTERS).collect()
    } else {
        "(unknown)".to_owned()
    }
}

/// The id of a message, if it has the form of one: it comes from the input, too. Else nothing.
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
        assert!(book.classes().all(|(_, _, reported)| reported.example == "0100-000001"));
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
