//! Folding: new units become increments of rate rows, exactly once.
//!
//! New units arrive as a stream of records with growing sequence numbers. Whoever reads the stream is given batches, and
//! may be given any part of it again, cut anywhere: but a batch always begins where an earlier batch or one of its
//! chunks began, as a retry starts at the record that could not be confirmed. So a marker for each committed chunk, under the
//! sequence number of its first record and holding that of its last, is all that is needed to skip what was added
//! before. It is committed in one transaction with the increments.

use std::collections::BTreeSet;

use reputation::subject::Subject;
use reputation::time::{Minute, Now};
use reputation::unit::{SenderId, Unit};

use crate::ports::{Committed, PortError, Reputation};
use crate::senders::Senders;

/// One new unit with its place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Grows along the stream.
    pub sequence: u64,
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
    pub fn first(&self) -> u64 {
        self.records.first().map_or(0, |record| record.sequence)
    }

    /// Sequence number of the last record: what the marker holds.
    pub fn last(&self) -> u64 {
        self.records.last().map_or(0, |record| record.sequence)
    }

    /// Whose reputation a unit touches.
    pub fn subjects(&self, sender: SenderId) -> &'a [Subject] {
        self.senders.subjects(sender)
    }
}

/// Adds records of one stream to the rows, at most `most_rows` rows of one subject and minute at a time. What was
/// added before is not added again.
///
/// # Errors
///
/// The first records may have been added. Fold the whole batch again, or a later batch that begins with any record
/// of this one that began a chunk.
pub async fn fold<R: Reputation>(
    store: &mut R,
    records: &[Record],
    senders: &Senders,
    most_rows: usize,
    now: Now,
) -> Result<(), PortError> {
    let mut rest = records;
    while !rest.is_empty() {
        let (chunk, _) = rest.split_at(chunk_len(rest, senders, most_rows));
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
fn chunk_len(records: &[Record], senders: &Senders, most_rows: usize) -> usize {
    // A record touches one row of minutes for each of its subjects, so this many always fit.
    let widest = records.iter().map(|record| senders.subjects(record.unit.sender).len()).max().unwrap_or(1).max(1);
    if records.len() <= most_rows / widest {
        return records.len();
    }
    let mut rows: BTreeSet<(&Subject, Minute)> = BTreeSet::new();
    for (index, Record { unit, .. }) in records.iter().enumerate() {
        rows.extend(senders.subjects(unit.sender).iter().map(|subject| (subject, unit.cohort)));
        if rows.len() > most_rows {
            return index.max(1);
        }
    }
    records.len()
}
