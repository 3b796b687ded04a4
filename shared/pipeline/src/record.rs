//! Recording: turns messages into units in the ledger, with a result for each message.
//!
//! **Invariant:** one message never blocks another: an error is reported for its own message only. **Invariant:** a
//! message is done only when all its units are recorded; delivered again, it changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use reputation::unit::Unit;
use ses_events::{Decoded, Decoder, Event};

use crate::classify::{Classifier, Oddities, Outcome};
use crate::ports::{Ledger, PortError, Unrecorded};
use crate::senders::Senders;

/// Why one message cannot be counted, or not as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// Its place in the batch.
    pub message: usize,
    /// Kind of reason, one of few.
    pub name: &'static str,
    /// The reason; never holds an address, a subject line or a header.
    pub reason: String,
}

/// The result of a batch of messages.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Events that were counted.
    pub events: u64,
    /// Their units, new or recorded before.
    pub units: u64,
    /// Events of known kinds that do not count, by name.
    pub ignored: BTreeMap<String, u64>,
    /// Events that count although something about them is odd, by name.
    pub odd: BTreeMap<&'static str, u64>,
    /// Messages that can never be counted, or not as a whole; of one message only the first few reasons.
    pub poison: Vec<Poison>,
    /// Messages whose units may not all be recorded: to be delivered again.
    pub unrecorded: BTreeSet<usize>,
    /// Why they are not.
    pub error: Option<PortError>,
}

/// How many names of ignored messages are counted separately: the names come from the input.
const MAX_NAMES: usize = 100;

/// How many reasons are kept for one message: it can hold a list of documents, each with its own fault.
const MAX_REASONS: usize = 5;

/// What a message holds, or one document of a message that holds several.
#[derive(Clone, Copy)]
pub enum Reading<'r, 'e> {
    /// An event that counts.
    Counted {
        /// The event.
        event: &'r Event<'e>,
        /// Its units are those from this index on.
        from: usize,
        /// What is odd about it.
        oddities: Oddities,
    },
    /// Something of a known kind that does not count.
    Ignored {
        /// Name of the reason.
        name: &'r str,
        /// The event, if it is one.
        event: Option<&'r Event<'e>>,
    },
    /// Something that can never be counted.
    Poison {
        /// Kind of reason, one of few.
        name: &'static str,
        /// The reason; never holds an address, a subject line or a header.
        reason: &'r dyn fmt::Display,
        /// The event, if it is one.
        event: Option<&'r Event<'e>>,
    },
}

/// Reads a message, the bytes of one or more SES events in any of their envelopes, and adds the units of those that count to
/// `units`. `each` is called for each of its documents, when its units are added. `real_now` is the wall clock in
/// milliseconds since 1970. The deployed stack and a replay read messages by this function only.
pub fn read(
    (decoder, classifier): (&mut Decoder, &mut Classifier),
    bytes: &[u8],
    real_now: i64,
    senders: &mut Senders,
    units: &mut Vec<Unit>,
    mut each: impl FnMut(Reading<'_, '_>, &Classifier, &mut Vec<Unit>),
) {
    decoder.decode(bytes, |decoded| match decoded {
        Decoded::Event(event) => {
            let from = units.len();
            match classifier.classify(&event, real_now, senders, units) {
                Ok(Outcome::Counted(oddities)) => {
                    each(Reading::Counted { event: &event, from, oddities }, classifier, units);
                }
                Ok(Outcome::Ignored(name)) => {
                    each(Reading::Ignored { name, event: Some(&event) }, classifier, units);
                }
                Err(refused) => {
                    let event = Some(&event);
                    each(Reading::Poison { name: "uncountable", reason: &refused, event }, classifier, units);
                }
            }
        }
        Decoded::Ignored(ignored) => each(Reading::Ignored { name: ignored.name(), event: None }, classifier, units),
        Decoded::Rejected(rejection) => {
            each(Reading::Poison { name: rejection.name(), reason: &rejection, event: None }, classifier, units);
        }
    });
}

/// Records the units of a batch of messages, each the bytes of one SES event in any of its envelopes. `real_now` is the
/// wall clock in milliseconds since 1970.
pub async fn record<L: Ledger>(
    decoder: &mut Decoder,
    classifier: &mut Classifier,
    ledger: &mut L,
    messages: &[&[u8]],
    real_now: i64,
) -> Recorded {
    let mut recorded = Recorded::default();
    let mut senders = Senders::default();
    let mut units = Vec::new();
    // The message of each unit.
    let mut message_of_unit = Vec::new();
    for (message, bytes) in messages.iter().enumerate() {
        let each = |reading: Reading<'_, '_>, _: &Classifier, _: &mut Vec<Unit>| match reading {
            Reading::Counted { oddities, .. } => {
                recorded.events += 1;
                for oddity in oddities.iter() {
                    *recorded.odd.entry(oddity.name()).or_default() += 1;
                }
            }
            Reading::Ignored { name, .. } => recorded.ignore(name),
            Reading::Poison { name, reason, .. } => recorded.poison(message, name, || reason.to_string()),
        };
        read((decoder, classifier), bytes, real_now, &mut senders, &mut units, each);
        message_of_unit.resize(units.len(), message);
    }
    recorded.units = units.len() as u64;
    if !units.is_empty()
        && let Err(Unrecorded { positions, error }) = ledger.record(&units, &senders).await
    {
        recorded.unrecorded =
            positions.into_iter().filter_map(|position| message_of_unit.get(position).copied()).collect();
        recorded.error = Some(error);
    }
    recorded
}

impl Recorded {
    /// The messages that are not done. A message that can never be counted reaches the dead-letter queue after enough
    /// failed deliveries.
    pub fn failed(&self) -> BTreeSet<usize> {
        self.poison.iter().map(|poison| poison.message).chain(self.unrecorded.iter().copied()).collect()
    }

    fn poison(&mut self, message: usize, name: &'static str, reason: impl FnOnce() -> String) {
        let known = self.poison.iter().rev().take_while(|poison| poison.message == message).count();
        if known < MAX_REASONS {
            self.poison.push(Poison { message, name, reason: reason() });
        }
    }

    fn ignore(&mut self, name: &str) {
        if let Some(count) = self.ignored.get_mut(name) {
            *count += 1;
        } else {
            let name = if self.ignored.len() < MAX_NAMES { name } else { "(other names)" };
            *self.ignored.entry(name.to_owned()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use reputation::Policy;

    use super::*;
    use crate::memory::MemoryLedger;
    use crate::ports::Disposition;

    const DELIVERY: &str = r#"{"eventType":"Delivery","mail":{"timestamp":"2026-10-06T08:00:01.745Z","messageId":"m1",
        "source":"a@example.com","destination":["x@gmail.com"],"tags":{"ses:configuration-set":["news"]}},
        "delivery":{"timestamp":"2026-10-06T08:00:02.745Z","recipients":["x@gmail.com"]}}"#;

    /// A ledger that cannot write its last unit.
    #[derive(Default)]
    struct Narrow(MemoryLedger);

    impl Ledger for Narrow {
        async fn record(&mut self, units: &[Unit], senders: &Senders) -> Result<(), Unrecorded> {
            let last = units.len() - 1;
            self.0.record(&units[..last], senders).await?;
            let reason = "ProvisionedThroughputExceededException".to_owned();
            let error = PortError { operation: "recording units", reason, disposition: Disposition::Retry };
            Err(Unrecorded { positions: vec![last], error })
        }
    }

    fn record_with<L: Ledger>(ledger: &mut L, messages: &[&str]) -> Recorded {
        let policy = Policy::default();
        let mut classifier = Classifier::new(&policy, [0; 16]);
        let messages: Vec<&[u8]> = messages.iter().map(|text| text.as_bytes()).collect();
        pollster::block_on(record(&mut Decoder::new(), &mut classifier, ledger, &messages, 1_791_273_700_000))
    }

    #[test]
    fn a_poisoned_message_fails_alone_and_its_neighbours_are_counted() {
        let mut ledger = MemoryLedger::default();
        let second = DELIVERY.replace("m1", "m2");
        let future = DELIVERY.replace("2026-10-06T08:00:01", "2027-10-06T08:00:01");
        let notice = "Successfully validated SNS topic for Amazon SES event publishing.";
        let recorded = record_with(&mut ledger, &[DELIVERY, "{\"half", notice, &future, &second, DELIVERY]);
        assert_eq!((recorded.events, recorded.units, ledger.len()), (3, 3, 2));
        assert_eq!(recorded.failed().into_iter().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(recorded.ignored.len(), 1);
        assert!(recorded.poison.iter().all(|poison| !poison.reason.contains('@')), "{:?}", recorded.poison);
    }

    #[test]
    fn only_messages_whose_units_may_be_missing_are_delivered_again() {
        let second = DELIVERY.replace("m1", "m2");
        let recorded = record_with(&mut Narrow::default(), &[DELIVERY, &second]);
        assert_eq!(recorded.failed().into_iter().collect::<Vec<_>>(), [1]);
        assert!(recorded.error.is_some());
    }
}
