//! The stream of new units: records in shards, and the parts of a shard that are added at once.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use reputation::grouped::Grouped;
use reputation::isp::Isp;
use reputation::subject::Subject;
use reputation::time::{Minute, Now};
use reputation::timeline::Length;
use reputation::unit::{SenderId, Unit, UnitKind};

use crate::senders::Senders;

/// A place in a stream. DynamoDB's sequence numbers have 21 to 40 decimal digits (API reference, `StreamRecord`), which is
/// a little more than a `u128` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence {
    /// The digits before the last 38.
    high: u64,
    /// The last 38 digits.
    low: u128,
}

impl From<u64> for Sequence {
    fn from(number: u64) -> Sequence {
        Sequence { high: 0, low: u128::from(number) }
    }
}

/// The digits of the longest sequence number: 38 in `low`, and 19 that always fit in `high`.
const MAX_DIGITS: usize = 57;

/// A text that is not a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sequence number is 1 to 57 decimal digits")]
pub struct SequenceError;

impl FromStr for Sequence {
    type Err = SequenceError;

    fn from_str(text: &str) -> Result<Sequence, SequenceError> {
        let has_length = (1..=MAX_DIGITS).contains(&text.len());
        if !has_length || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SequenceError);
        }
        let (high, low) = text.split_at(text.len().saturating_sub(38));
        let high = if high.is_empty() { Ok(0) } else { high.parse() };
        Ok(Sequence { high: high.map_err(|_| SequenceError)?, low: low.parse().map_err(|_| SequenceError)? })
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.high == 0 { write!(f, "{}", self.low) } else { write!(f, "{}{:038}", self.high, self.low) }
    }
}

/// The name of one shard of a stream, within which records come in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(Box<str>);

impl Shard {
    /// The shard that the stream's reader names.
    pub fn new(id: &str) -> Shard {
        Shard(id.into())
    }

    /// A batch whose reader does not name the shard. Then only a repetition that begins at the same record is
    /// recognised: a batch cut elsewhere is added again.
    pub fn unnamed(first: Sequence) -> Shard {
        Shard(format!("unnamed-{first}").into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One new unit with its place in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Grows along the shard.
    pub sequence: Sequence,
    /// The unit.
    pub unit: Unit,
}

/// Some consecutive records of one shard, to be added at once.
#[derive(Clone, Copy, Debug)]
pub struct Fold<'a> {
    shard: &'a Shard,
    after: Option<Sequence>,
    records: &'a [Record],
    senders: &'a Senders,
}

impl<'a> Fold<'a> {
    /// Records of a shard to be added if its mark is `after`. There must be at least one record.
    pub(crate) fn new(
        shard: &'a Shard,
        after: Option<Sequence>,
        records: &'a [Record],
        senders: &'a Senders,
    ) -> Fold<'a> {
        Fold { shard, after, records, senders }
    }

    /// The shard that its records come from.
    pub fn shard(&self) -> &'a Shard {
        self.shard
    }

    /// The mark that the shard must have for the fold to be added; `None` if nothing of this shard has been added
    /// before.
    pub fn after(&self) -> Option<Sequence> {
        self.after
    }

    /// Its records; never empty.
    pub fn records(&self) -> &'a [Record] {
        self.records
    }

    /// Sequence number of the last record: the mark once it is added.
    pub fn last(&self) -> Sequence {
        self.records.last().map_or(Sequence::default(), |record| record.sequence)
    }

    /// The subjects whose reputation a unit changes.
    pub fn subjects(&self, sender: SenderId) -> &'a [Subject] {
        self.senders.subjects(sender)
    }

    /// The increments of each row, in a stable order. Rows too old to be kept at `now` are omitted.
    pub fn increments(&self, now: Now) -> BTreeMap<Row<'a>, BTreeMap<Counter, Increment>> {
        let mut increments: BTreeMap<Row<'a>, BTreeMap<Counter, Increment>> = BTreeMap::new();
        for Record { unit, .. } in self.records {
            for row in rows(unit, self.senders) {
                if row.length.reaches(unit.cohort, now) {
                    let increment = increments.entry(row).or_default().entry((unit.isp, unit.kind)).or_default();
                    increment.count += 1;
                    increment.causes.merge(unit.bucket.into());
                }
            }
        }
        increments
    }
}

/// One stored row: the cohort of one subject's mail of this length that begins at `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row<'a> {
    /// The subject.
    pub subject: &'a Subject,
    /// How long the cohort is.
    pub length: Length,
    /// Its first minute.
    pub from: Minute,
}

/// One counter of a row.
pub type Counter = (Isp, UnitKind);

/// What is added to a counter of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Increment {
    /// The number of units.
    pub count: u32,
    /// Which of them have a known cause: their number is added, too, and their buckets to a set.
    pub causes: Grouped,
}

/// The rows that a unit counts in.
pub(crate) fn rows<'a>(unit: &Unit, senders: &'a Senders) -> impl Iterator<Item = Row<'a>> {
    let cohort = unit.cohort;
    senders
        .subjects(unit.sender)
        .iter()
        .flat_map(move |subject| Length::ALL.map(|length| Row { subject, length, from: length.start(cohort) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_of_any_length_are_distinct_and_kept_in_order() {
        let texts = [
            "0",
            "9",
            "10",
            "300000000000000499659",
            "99999999999999999999999999999999999999",
            "100000000000000000000000000000000000000",
            "100000000000000000000000000000000000001",
            "9999999999999999999999999999999999999999",
        ];
        let numbers: Vec<Sequence> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert_eq!(numbers.iter().map(Sequence::to_string).collect::<Vec<_>>(), texts);
        let longest = "9".repeat(57);
        assert_eq!(longest.parse::<Sequence>().map(|number| number.to_string()), Ok(longest));
        for text in ["", "x", "-1", "+1", "1 ", &"1".repeat(58), &"0".repeat(58)] {
            assert_eq!(text.parse::<Sequence>(), Err(SequenceError), "{text}");
        }
    }
}
