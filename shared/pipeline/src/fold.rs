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

use reputation::time::Now;
use reputation::timeline::Length;

use crate::ports::{Committed, Disposition, PortError, Reputation};
use crate::senders::Senders;
use crate::stream::{Counter, Fold, Record, Row, Shard, rows};

/// The size limits of one commit. A single record is always committed, even beyond them: three rows for each of its
/// subjects, with one counter each, or with three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows.
    pub rows: usize,
    /// Counters of one row; one with known causes is three, with their number and their buckets.
    pub counters: usize,
}

impl Limits {
    /// For a store that commits any number of rows at once.
    pub const NONE: Limits = Limits { rows: usize::MAX, counters: usize::MAX };
}

/// What a counter with known causes takes of [`Limits::counters`].
const WITH_CAUSES: usize = 3;

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
        let fold = Fold::new(shard, after, chunk, senders);
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
    if records.len() <= (limits.rows / Length::ALL.len() / widest).min(limits.counters / WITH_CAUSES) {
        return records.len();
    }
    let mut chunk: BTreeMap<Row<'_>, BTreeSet<(Counter, usize)>> = BTreeMap::new();
    for (index, Record { unit, .. }) in records.iter().enumerate() {
        let mut fits = true;
        for row in rows(unit, senders) {
            let counters = chunk.entry(row).or_default();
            let parts = if unit.bucket.is_some() { WITH_CAUSES } else { 1 };
            counters.extend((0..parts).map(|part| ((unit.isp, unit.kind), part)));
            fits &= counters.len() <= limits.counters;
        }
        if !fits || chunk.len() > limits.rows {
            return index.max(1);
        }
    }
    records.len()
}
