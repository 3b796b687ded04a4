//! Folding: new units become increments of rate rows, exactly once.
//!
//! New units arrive as a stream of records with growing sequence numbers. Whoever reads the stream is given batches, and
//! may be given any part of it again, cut anywhere: but a batch always begins where an earlier batch or one of its
//! chunks began, as a retry starts at the record that could not be confirmed. So a marker for each committed chunk, under the
//! sequence number of its first record and holding that of its last, is all that is needed to skip what was added
//! before. It is committed in one transaction with the increments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use reputation::isp::Isp;
use reputation::subject::Subject;
use reputation::time::{Minute, Now};
use reputation::timeline::Length;
use reputation::unit::{SenderId, Unit, UnitKind};

use crate::ports::{Committed, PortError, Reputation};
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

/// A text that is no sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sequence number is 1 to 57 decimal digits")]
pub struct SequenceError;

impl FromStr for Sequence {
    type Err = SequenceError;

    fn from_str(text: &str) -> Result<Sequence, SequenceError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
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

/// One new unit with its place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Grows along the stream.
    pub sequence: Sequence,
    /// The unit.
    pub unit: Unit,
}

/// Some consecutive records, to be added at once.
#[derive(Clone, Copy, Debug)]
pub struct Fold<'a> {
    records: &'a [Record],
    senders: &'a Senders,
}

impl<'a> Fold<'a> {
    /// Its records; never empty.
    pub fn records(&self) -> &'a [Record] {
        self.records
    }

    /// Sequence number of the first record: the name of the marker.
    pub fn first(&self) -> Sequence {
        self.records.first().map_or(Sequence::default(), |record| record.sequence)
    }

    /// Sequence number of the last record: what the marker holds.
    pub fn last(&self) -> Sequence {
        self.records.last().map_or(Sequence::default(), |record| record.sequence)
    }

    /// Whose reputation a unit touches.
    pub fn subjects(&self, sender: SenderId) -> &'a [Subject] {
        self.senders.subjects(sender)
    }

    /// What it adds to which rows, in a stable order. Rows out of reach at `now` are left out.
    pub fn increments(&self, now: Now) -> BTreeMap<Row<'a>, BTreeMap<Counter, u32>> {
        let mut increments: BTreeMap<Row<'a>, BTreeMap<Counter, u32>> = BTreeMap::new();
        for Record { unit, .. } in self.records {
            for row in rows(unit, self.senders) {
                if row.length.reaches(unit.cohort, now) {
                    *increments.entry(row).or_default().entry((unit.isp, unit.kind)).or_default() += 1;
                }
            }
        }
        increments
    }
}

/// One stored row: the cohort of one subject's mail of this length that begins at `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row<'a> {
    /// Whose.
    pub subject: &'a Subject,
    /// How long the cohort is.
    pub length: Length,
    /// Its first minute.
    pub from: Minute,
}

/// One counter of a row.
pub type Counter = (Isp, UnitKind);

/// The rows that a unit counts in.
fn rows<'a>(unit: &Unit, senders: &'a Senders) -> impl Iterator<Item = Row<'a>> {
    let cohort = unit.cohort;
    senders
        .subjects(unit.sender)
        .iter()
        .flat_map(move |subject| Length::ALL.map(|length| Row { subject, length, from: length.start(cohort) }))
}

/// How much one commit can hold. A single record is committed whatever it takes: three rows for each of its subjects,
/// with one counter each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows.
    pub rows: usize,
    /// Counters of one row.
    pub counters: usize,
}

impl Limits {
    /// For a store that commits any number of rows at once.
    pub const NONE: Limits = Limits { rows: usize::MAX, counters: usize::MAX };
}

/// Adds records of one stream to the rows, in chunks within these limits. What was added before is not added again.
///
/// # Errors
///
/// The first records may have been added. Fold the whole batch again, or a later batch that begins with any record
/// of this one that began a chunk.
pub async fn fold<R: Reputation>(
    store: &mut R,
    records: &[Record],
    senders: &Senders,
    limits: Limits,
    now: Now,
) -> Result<(), PortError> {
    let mut rest = records;
    while !rest.is_empty() {
        let (chunk, _) = rest.split_at(chunk_len(rest, senders, limits));
        let fold = Fold { records: chunk, senders };
        let last = match store.commit(&fold, now).await? {
            Committed::Added => fold.last(),
            Committed::Known { last } => last,
        };
        // The known chunk may have been cut elsewhere, and reach further than this batch.
        rest = &rest[rest.partition_point(|record| record.sequence <= last)..];
    }
    Ok(())
}

/// How many records fit in a chunk; at least one.
fn chunk_len(records: &[Record], senders: &Senders, limits: Limits) -> usize {
    // A record touches three rows of each of its subjects, so this many always fit.
    let widest = records.iter().map(|record| senders.subjects(record.unit.sender).len()).max().unwrap_or(1).max(1);
    if records.len() <= (limits.rows / Length::ALL.len() / widest).min(limits.counters) {
        return records.len();
    }
    let mut chunk: BTreeMap<Row<'_>, BTreeSet<Counter>> = BTreeMap::new();
    for (index, Record { unit, .. }) in records.iter().enumerate() {
        let mut fits = true;
        for row in rows(unit, senders) {
            let counters = chunk.entry(row).or_default();
            counters.insert((unit.isp, unit.kind));
            fits &= counters.len() <= limits.counters;
        }
        if !fits || chunk.len() > limits.rows {
            return index.max(1);
        }
    }
    records.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_of_any_length_are_told_apart_and_kept_in_order() {
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
        for text in ["", "x", "-1", "+1", "1 ", &"9".repeat(60)] {
            assert_eq!(text.parse::<Sequence>(), Err(SequenceError), "{text}");
        }
    }
}
