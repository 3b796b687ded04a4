//! The ledger over DynamoDB: one item for each unit, under its key.
//!
//! Items are put without a condition and depend on the event alone, so a unit that is published again overwrites the same item.
//! One put costs one write unit; the table's stream says whether a unit is new: it reports INSERT once.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{PutRequest, ReturnConsumedCapacity, WriteRequest};
use futures_util::{StreamExt as _, stream};
use pipeline::Senders;
use pipeline::ports::{Disposition, Ledger, PortError, Unrecorded};
use reputation::IspMap;
use reputation::time::{MINUTE_MILLIS, Now};
use reputation::unit::Unit;

use crate::backoff::Backoff;
use crate::clients::port_error;
use crate::layout::{
    Item, LEDGER_DAYS, StoredUnit, binary, expiry, has_expired, number, parse_unit, subjects_attribute, text,
};

/// Items that DynamoDB takes in one call.
const BATCH: usize = 25;
/// Calls at a time.
const CALLS: usize = 16;
/// Segments of the table that a scan reads at a time.
const SEGMENTS: i32 = 4;

/// The ledger table.
#[derive(Clone, Debug)]
pub struct DynamoLedger {
    client: Client,
    table: String,
    isps: IspMap,
    /// Write units used so far.
    pub write_units: f64,
}

impl DynamoLedger {
    /// A ledger in this table; ISPs go by the names of this map.
    pub fn new(client: Client, table: impl Into<String>, isps: IspMap) -> DynamoLedger {
        DynamoLedger { client, table: table.into(), isps, write_units: 0.0 }
    }

    /// Takes another map of ISPs into use.
    pub fn set_isps(&mut self, isps: IspMap) {
        self.isps = isps;
    }

    fn item(&self, unit: &Unit, senders: &Senders) -> Item {
        let accepted = Now(i64::from(unit.cohort.0) * MINUTE_MILLIS);
        let bucket = unit.bucket.map(|bucket| ("bucket".to_owned(), number(bucket.number())));
        let attributes = [
            ("unit".to_owned(), binary(unit.key.0.to_be_bytes())),
            ("kind".to_owned(), text(unit.kind.counter_name())),
            ("isp".to_owned(), text(self.isps.name(unit.isp))),
            ("cohort".to_owned(), number(unit.cohort.0)),
            ("subjects".to_owned(), subjects_attribute(senders.subjects(unit.sender))),
            ("expires".to_owned(), expiry(accepted, LEDGER_DAYS)),
        ];
        attributes.into_iter().chain(bucket).collect()
    }
}

impl Ledger for DynamoLedger {
    async fn record(&mut self, units: &[Unit], senders: &Senders) -> Result<(), Unrecorded> {
        // The same key may not be in one call twice; and once is enough.
        let mut known = BTreeSet::new();
        let new: Vec<&Unit> = units.iter().filter(|unit| known.insert(unit.key)).collect();
        let this = &*self;
        let calls = new.chunks(BATCH).map(|chunk| async move { this.put(chunk, senders).await });
        let outcomes: Vec<Put> = stream::iter(calls).buffer_unordered(CALLS).collect().await;
        let mut missing = BTreeSet::new();
        let mut failed = None;
        for outcome in outcomes {
            self.write_units += outcome.write_units;
            if let Some(error) = outcome.error {
                missing.extend(outcome.missing);
                failed = Some(error);
            }
        }
        match failed {
            None => Ok(()),
            Some(error) => {
                let positions = (0..units.len()).filter(|index| missing.contains(&units[*index].key)).collect();
                Err(Unrecorded { positions, error })
            }
        }
    }
}

/// What a scan of the ledger found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Units that were handed over.
    pub units: u64,
    /// Items that expired, though they are still there.
    pub expired: u64,
    /// Items that hold no unit: written by something else, or by another release.
    pub malformed: u64,
}

/// Shows every unit of a ledger table that has not expired, in no order. Reads the whole table, in a few segments at
/// once; while mail comes in, it may show a unit that came after it began, or not.
///
/// # Errors
///
/// The table does not answer; what was shown before then is a part.
pub async fn scan(
    client: &Client,
    table: &str,
    now: Now,
    each: &mut dyn FnMut(StoredUnit, &Scanned),
) -> Result<Scanned, PortError> {
    let segments = (0..SEGMENTS).map(|segment| {
        let scan = client.scan().table_name(table).segment(segment).total_segments(SEGMENTS);
        let items = scan.into_paginator().items().send();
        Box::pin(stream::unfold(items, async |mut items| Some((items.next().await?, items))))
    });
    let mut items = stream::select_all(segments);
    let mut scanned = Scanned::default();
    while let Some(item) = items.next().await {
        let item = item.map_err(|error| port_error("scanning the ledger", &error))?;
        if has_expired(&item, now) {
            scanned.expired += 1;
            continue;
        }
        match parse_unit(&item) {
            Ok(unit) => {
                scanned.units += 1;
                each(unit, &scanned);
            }
            Err(_) => scanned.malformed += 1,
        }
    }
    Ok(scanned)
}

/// What became of some puts.
#[derive(Default)]
struct Put {
    write_units: f64,
    missing: Vec<reputation::UnitKey>,
    error: Option<PortError>,
}

impl DynamoLedger {
    async fn put(&self, units: &[&Unit], senders: &Senders) -> Put {
        let mut put = Put::default();
        let mut open: BTreeMap<[u8; 16], &Unit> = units.iter().map(|unit| (unit.key.0.to_be_bytes(), *unit)).collect();
        let mut backoff = Backoff::default();
        while !open.is_empty() {
            if !backoff.wait().await {
                let reason = format!("{} items of {} were left unprocessed again and again", open.len(), units.len());
                put.error = Some(PortError { operation: "recording units", reason, disposition: Disposition::Retry });
                break;
            }
            match self.call(open.values().map(|unit| self.item(unit, senders))).await {
                Ok((write_units, unprocessed)) => {
                    put.write_units += write_units;
                    open.retain(|key, _| unprocessed.contains(key.as_slice()));
                }
                Err(error) => {
                    put.error = Some(error);
                    break;
                }
            }
        }
        put.missing = open.values().map(|unit| unit.key).collect();
        put
    }

    /// One call; returns the write units it used and the keys that it did not put.
    async fn call(&self, items: impl Iterator<Item = Item>) -> Result<(f64, BTreeSet<Vec<u8>>), PortError> {
        let operation = "recording units";
        let mut requests = Vec::with_capacity(BATCH);
        for item in items {
            let put = PutRequest::builder().set_item(Some(item)).build();
            let put = put.map_err(|error| bug(operation, &error))?;
            requests.push(WriteRequest::builder().put_request(put).build());
        }
        let sent = self.client.batch_write_item().request_items(&self.table, requests);
        let answer = sent.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
        let answer = answer.map_err(|error| port_error(operation, &error))?;
        let used = answer.consumed_capacity().iter().filter_map(|used| used.capacity_units()).sum();
        let left = answer.unprocessed_items().and_then(|tables| tables.get(&self.table)).into_iter().flatten();
        let key = |request: &WriteRequest| {
            let unit = request.put_request()?.item().get("unit")?;
            Some(unit.as_b().ok()?.as_ref().to_vec())
        };
        Ok((used, left.filter_map(key).collect()))
    }
}

/// A request that cannot even be built.
pub(crate) fn bug(operation: &'static str, error: &dyn std::error::Error) -> PortError {
    PortError { operation, reason: error.to_string(), disposition: Disposition::Quarantine }
}
