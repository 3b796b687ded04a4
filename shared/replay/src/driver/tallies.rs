//! What was read: counts of lines, events and units.

use std::collections::BTreeMap;

use reputation::time::Minute;

/// The number of names of ignored messages that are distinguished.
const MAX_NAMES: usize = 100;

/// What was read, and the results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Documents: lines, or pretty-printed documents.
    pub lines: u64,
    /// Events in them.
    pub events: u64,
    /// New units; a block accompanies another unit and is not counted again.
    pub recorded: u64,
    /// Units that were counted before.
    pub duplicates: u64,
    /// Messages that are known and do not count, by name.
    pub ignored: BTreeMap<String, u64>,
    /// Events that count although something about them is odd, by name.
    pub odd: BTreeMap<&'static str, u64>,
    /// Messages that could not be read or counted, by kind of reason.
    pub rejected: BTreeMap<String, u64>,
    /// Events about mail outside the requested time.
    pub outside: u64,
    /// New units about mail so much older than the clock that they were counted but not judged.
    pub too_old: u64,
    /// Mails with a Send event.
    pub sends: u64,
    /// Of those, mails whose Send event came more than an hour after the clock had passed it, but not too late to be judged.
    pub late_sends: u64,
    /// First and last minute in which mail with an event here was accepted.
    pub mail: Option<(Minute, Minute)>,
}

/// A message that could not be read or counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedLine {
    /// Name of the file.
    pub source: String,
    /// Number of the document's first line.
    pub line: u64,
    /// Why; never contains an address, a subject line or a header.
    pub reason: String,
}

impl Tallies {
    /// Counts ignored messages by name; after the first [`MAX_NAMES`] names the rest share one, because names come from the
    /// input.
    pub(super) fn ignore(&mut self, name: &str, count: u64) {
        if let Some(known) = self.ignored.get_mut(name) {
            *known += count;
        } else if self.ignored.len() < MAX_NAMES {
            self.ignored.insert(name.to_owned(), count);
        } else {
            *self.ignored.entry("(other names)".to_owned()).or_default() += count;
        }
    }

    pub(super) fn saw_mail_of(&mut self, accepted: i64) {
        let Some(minute) = Minute::of_millis(accepted) else { return };
        let (first, last) = self.mail.unwrap_or((minute, minute));
        self.mail = Some((first.min(minute), last.max(minute)));
    }

    pub(super) fn merge(&mut self, other: Tallies) {
        self.lines += other.lines;
        self.events += other.events;
        self.recorded += other.recorded;
        self.duplicates += other.duplicates;
        self.outside += other.outside;
        if let Some((first, last)) = other.mail {
            let (from, until) = self.mail.unwrap_or((first, last));
            self.mail = Some((from.min(first), until.max(last)));
        }
        for (name, count) in other.ignored {
            self.ignore(&name, count);
        }
        for (name, count) in other.odd {
            *self.odd.entry(name).or_default() += count;
        }
        for (name, count) in other.rejected {
            *self.rejected.entry(name).or_default() += count;
        }
    }
}
