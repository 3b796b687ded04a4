//! Checks that the input is sorted by time, as far as mail is concerned.
//!
//! Some events are late by nature: a complaint comes days after its mail, an event is delivered twice, a mail is misdated.
//! The check therefore uses the first event of a mail: its Send event, or its Delivery event where a sender publishes no Send
//! events. SES publishes both at once, so if many mails are late, the files are not sorted by time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use reputation::time::{HOUR, Now};
use reputation::unit::{SenderId, Unit, UnitKind};

/// A mail whose first event is this much later than others is late.
const LATE_MINUTES: u32 = HOUR;
/// The number of later mails that must have been seen: fewer may be misdated.
const LATER_MAILS: usize = 10;
/// Fewer late mails than this are tolerated.
const FEWEST: u64 = 24;
/// More than one late mail in this many is disorder.
const ONE_IN: u64 = 20;
/// The number of sources that are named.
const MAX_SOURCES: usize = 3;

/// The mail that came late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disorder {
    /// Mails whose first event came more than an hour after later mail.
    pub late: u64,
    /// Mails with an event.
    pub mails: u64,
    /// The sources with the most late mails, by their index among all, with the number of these mails.
    pub worst: Vec<(usize, u64)>,
    /// Sources with late mails.
    pub sources: usize,
}

/// The order so far.
#[derive(Debug, Default)]
pub(crate) struct OrderBook {
    /// The latest stamps of mails, as many as [`LATER_MAILS`].
    latest: BinaryHeap<Reverse<i64>>,
    mails: u64,
    late: BTreeMap<usize, u64>,
    senders_with_sends: BTreeSet<SenderId>,
    last: Option<SenderId>,
}

impl OrderBook {
    /// Whether it is the first event of a mail.
    pub(crate) fn is_mail(&mut self, unit: &Unit) -> bool {
        if unit.kind == UnitKind::Sent {
            // Mail comes in runs of one sender.
            if self.last != Some(unit.sender) {
                self.last = Some(unit.sender);
                self.senders_with_sends.insert(unit.sender);
            }
            return true;
        }
        unit.kind == UnitKind::Delivered && !self.senders_with_sends.contains(&unit.sender)
    }

    /// Notes a mail in this source.
    pub(crate) fn note(&mut self, source: usize, stamped: Now) {
        self.mails += 1;
        if self.latest.len() < LATER_MAILS {
            self.latest.push(Reverse(stamped.0));
            return;
        }
        let Some(mut earliest) = self.latest.peek_mut() else { return };
        if stamped.plus_minutes(LATE_MINUTES) < Now(earliest.0) {
            *self.late.entry(source).or_default() += 1;
        } else if stamped.0 > earliest.0 {
            *earliest = Reverse(stamped.0);
        }
    }

    pub(crate) fn disorder(&self) -> Option<Disorder> {
        let late: u64 = self.late.values().sum();
        if late < FEWEST || late * ONE_IN <= self.mails {
            return None;
        }
        let mut worst: Vec<(usize, u64)> = self.late.iter().map(|(source, late)| (*source, *late)).collect();
        worst.sort_by_key(|(source, late)| (Reverse(*late), *source));
        let sources = worst.len();
        worst.truncate(MAX_SOURCES);
        Some(Disorder { late, mails: self.mails, worst, sources })
    }
}
