//! Folding: new units become increments of rate rows, exactly once.
//!
//! New units arrive as a stream of records, in shards. Within a shard sequence numbers grow, and a record is delivered
//! for the first time only after all records before it were. Any part of a shard may be delivered again, at any time,
//! cut anywhere, also by two readers at once. So one mark for each shard, the sequence number up to which its records
//! have been added, is enough to skip what was added before. The mark moves in one transaction with the increments, on
//! the condition that it still has the value that was read: of two readers one adds a record, and the other learns how
//! far the mark has moved.
//!
//! **Invariant:** a shard's mark never goes back, and every record up to it has been added exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use reputation::isp::Isp;
use reputation::subject::Subject;
use reputation::time::{Minute, Now};
use reputation::timeline::Length;
use reputation::unit::{SenderId, Unit, UnitKind};

use crate::ports::{Committed, Disposition, PortError, Reputation};
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
    /// The subject.
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

/// The size limits of one commit. A single record is always committed, even beyond them: three rows for each of its
/// subjects, with one counter each.
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

/// How many commits in a row may find a mark that is not past the one they were made for.
const MAX_STALLS: usize = 8;

/// Adds records of one shard to the rows, in chunks within these limits. Records that were added before are skipped.
/// Returns how many were added now.
///
/// # Errors
///
/// Some records from the beginning may have been added. Fold the same records again, or any others that begin at or
/// before the first record that is not known to be added. If the shard's mark never matches (it was edited by hand),
/// the error reports that.
pub async fn fold<R: Reputation>(
    store: &mut R,
    shard: &Shard,
    records: &[Record],
    senders: &Senders,
    limits: Limits,
    now: Now,
) -> Result<usize, PortError> {
    let mut added = 0;
    if records.is_empty() {
        return Ok(added);
    }
    let mut after = store.mark(shard).await?;
    let mut rest = records;
    let mut stalls = 0;
    loop {
        rest = &rest[rest.partition_point(|record| Some(record.sequence) <= after)..];
        if rest.is_empty() {
            return Ok(added);
        }
        let (chunk, _) = rest.split_at(chunk_len(rest, senders, limits));
        let fold = Fold { shard, after, records: chunk, senders };
        let mark = match store.commit(&fold, now).await? {
            Committed::Added => {
                added += chunk.len();
                Some(fold.last())
            }
            // Another reader of this shard was faster.
            Committed::Overtaken { mark } => mark,
        };
        stalls = if mark > after { 0 } else { stalls + 1 };
        if stalls >= MAX_STALLS {
            let found = mark.map_or_else(|| "missing".to_owned(), |mark| mark.to_string());
            let shard = shard.as_str();
            return Err(PortError {
                operation: "adding a fold",
                reason: format!("the mark of shard {shard} does not match: {MAX_STALLS} times in a row it was {found}"),
                disposition: Disposition::Retry,
            });
        }
        after = mark;
    }
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
