//! From records of the ledger's stream back to units.

use std::collections::{BTreeMap, BTreeSet};

use aws_lambda_events::dynamodb::EventRecord;
use pipeline::senders::{SenderName, Senders};
use pipeline::stream::Record;
use reputation::grouped::Bucket;
use reputation::isp::{Isp, IspMap};
use reputation::subject::Subject;
use reputation::time::Minute;
use reputation::unit::{Unit, UnitKey, UnitKind};
use serde_dynamo::{AttributeValue, Item};

/// What a batch of the stream says.
#[derive(Debug, Default)]
pub struct StreamBatch {
    /// New units, in the order of the stream.
    pub records: Vec<Record>,
    /// Whose they are.
    pub senders: Senders,
    /// Records that hold no unit, by their event ids and what is wrong with them: something else wrote into the ledger.
    pub malformed: Vec<(String, &'static str)>,
}

impl StreamBatch {
    /// Reads a batch. Records other than INSERT are skipped.
    pub fn read(records: &[EventRecord], isps: &IspMap) -> StreamBatch {
        let mut batch = StreamBatch::default();
        for record in records.iter().filter(|record| record.event_name == "INSERT") {
            match batch.unit(record, isps) {
                Ok(read) => batch.records.push(read),
                Err(why) => batch.malformed.push((record.event_id.clone(), why)),
            }
        }
        // A shard is in order; so that no emulation or change of that can make a fold skip what it has not added.
        if !batch.records.is_sorted_by_key(|record| record.sequence) {
            batch.records.sort_by_key(|record| record.sequence);
        }
        batch
    }

    /// The subjects that new units may have harmed, and at which ISPs: they are judged at once.
    pub fn harmed(&self) -> BTreeMap<Subject, BTreeSet<Isp>> {
        self.subjects_of(UnitKind::is_harm)
    }

    /// The subjects that units of these kinds are about, and at which ISPs.
    pub fn subjects_of(&self, wanted: impl Fn(UnitKind) -> bool) -> BTreeMap<Subject, BTreeSet<Isp>> {
        let units = self.records.iter().map(|record| &record.unit).filter(|unit| wanted(unit.kind));
        let changed: BTreeSet<_> = units.map(|unit| (unit.sender, unit.isp)).collect();
        self.senders.subjects_at(changed)
    }

    fn unit(&mut self, record: &EventRecord, isps: &IspMap) -> Result<Record, &'static str> {
        let sequence = record.change.sequence_number.as_deref().and_then(|digits| digits.parse().ok());
        let sequence = sequence.ok_or("its sequence number is not a number")?;
        let image: &Item = &record.change.new_image;
        let text = |name: &str| match image.get(name) {
            Some(AttributeValue::S(text)) => Some(text.as_str()),
            _ => None,
        };
        let key = match image.get("unit") {
            Some(AttributeValue::B(bytes)) => <[u8; 16]>::try_from(bytes.as_slice()).ok(),
            _ => None,
        };
        let cohort = match image.get("cohort") {
            Some(AttributeValue::N(digits)) => digits.parse().ok(),
            _ => None,
        };
        let subjects = match image.get("subjects") {
            Some(AttributeValue::L(list)) => list.iter().map(subject).collect::<Option<Vec<Subject>>>(),
            _ => None,
        };
        let subjects = subjects.filter(|list| !list.is_empty()).ok_or("`subjects` is not a list of subjects")?;
        let name = SenderName::of(&subjects);
        let unit = Unit {
            key: UnitKey(u128::from_be_bytes(key.ok_or("`unit` is not 16 bytes")?)),
            kind: text("kind").and_then(UnitKind::by_counter_name).ok_or("`kind` names no counter")?,
            // An ISP that the policy no longer names: its mail still counts.
            isp: isps.by_name(text("isp").ok_or("`isp` is not a string")?).unwrap_or(Isp::OTHER),
            cohort: Minute(cohort.ok_or("`cohort` is not a minute")?),
            sender: self.senders.intern(name.as_str(), || subjects),
            bucket: match image.get("bucket") {
                Some(AttributeValue::N(digits)) => digits.parse().ok().and_then(Bucket::new),
                _ => None,
            },
        };
        Ok(Record { sequence, unit })
    }
}

fn subject(value: &AttributeValue) -> Option<Subject> {
    if let AttributeValue::S(text) = value { text.parse().ok() } else { None }
}
