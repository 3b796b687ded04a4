//! Decoding in several threads: from documents to units, in chunks that are applied in the order of the input.

use std::collections::VecDeque;

use pipeline::classify::{Classifier, Stamps};
use pipeline::record::{Reading, read};
use pipeline::senders::Senders;
use reputation::subject::Subject;
use reputation::unit::{Unit, UnitKind};
use ses_events::{Decoder, Detail, Event};

use super::Options;
use super::tallies::{RejectedLine, Tallies};
use crate::diagnosis::{Class, classes_of};
use crate::domains::{Received, received};
use crate::input::{self, Chunk, Document, Stamp, Timed, split_concatenated};

/// The number of reasons for rejections that are kept of one chunk; the others are only counted.
const MAX_REASONS: usize = 50;

/// The keys of units are compared within one run only, and are not printed.
const SECRET: [u8; 16] = *b"replay in memory";

/// What a decoding thread keeps in addition to units.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keep {
    pub(super) diagnoses: bool,
    pub(super) domains: bool,
}

/// A chunk as decoded by a worker.
pub(super) struct DecodedChunk {
    pub(super) worker: usize,
    /// The number of times that the worker has forgotten its senders before.
    pub(super) generation: usize,
    pub(super) source: usize,
    pub(super) new_senders: Vec<Vec<Subject>>,
    /// Everything that was decoded, so that every policy sees the same items.
    pub(super) events: Vec<HeardEvent>,
    pub(super) units: Vec<Unit>,
    /// The classes of some units, by their index, with the id of the message; only if asked for.
    pub(super) classes: VecDeque<(usize, Class, String)>,
    /// The recipients of some units, by their index; only if asked for.
    pub(super) received: VecDeque<(usize, Received)>,
    pub(super) tallies: Tallies,
    /// Each rejection, with the number of events before it.
    pub(super) rejections: VecDeque<(usize, RejectedLine)>,
    /// The number of its events and units that have been applied.
    pub(super) applied: (usize, usize),
}

/// The times of an event, and how many of the next units belong to it.
pub(super) struct HeardEvent {
    /// `None` if they are implausible.
    pub(super) stamps: Option<Stamps>,
    /// Whether it moves the clock.
    pub(super) counts: bool,
    /// Whether it is a bounce or a complaint without a date of its own.
    pub(super) harm: bool,
    pub(super) units: u32,
}

impl Timed for DecodedChunk {
    fn count(&self) -> usize {
        self.events.len()
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        let HeardEvent { stamps, harm, .. } = &self.events[index];
        // A bounce or a complaint may have no other date of SES's than that of its mail.
        stamps.map(|stamps| Stamp { at: stamps.by_ses.max(stamps.by_provider.unwrap_or(i64::MIN)), sure: !harm })
    }
}

impl Timed for [DecodedChunk; 2] {
    fn count(&self) -> usize {
        self[0].count()
    }

    fn stamp(&self, index: usize) -> Option<Stamp> {
        self[0].stamp(index)
    }
}

pub(super) struct Worker<'a> {
    id: usize,
    options: &'a Options,
    decoder: Decoder,
    classifier: Classifier,
    senders: Senders,
    named_senders: usize,
    generation: usize,
    keep: Keep,
}

impl<'a> Worker<'a> {
    pub(super) fn new(id: usize, options: &'a Options, keep: Keep) -> Worker<'a> {
        Worker {
            id,
            options,
            decoder: Decoder::new(),
            classifier: Classifier::new(&options.policy, SECRET),
            senders: Senders::default(),
            named_senders: 0,
            generation: 0,
            keep,
        }
    }

    pub(super) fn decode(&mut self, chunk: Chunk<'_>) -> DecodedChunk {
        if self.senders.len() > self.options.max_subjects {
            (self.senders, self.named_senders) = (Senders::default(), 0);
            self.generation += 1;
        }
        let mut out = DecodedChunk {
            worker: self.id,
            generation: self.generation,
            source: chunk.source(),
            new_senders: Vec::new(),
            events: Vec::with_capacity(chunk.documents().len()),
            units: Vec::with_capacity(chunk.documents().len()),
            classes: VecDeque::new(),
            received: VecDeque::new(),
            tallies: Tallies::default(),
            rejections: VecDeque::new(),
            applied: (0, 0),
        };
        for document in chunk {
            out.tallies.lines += 1;
            match document {
                Document::Whole { line, bytes } => self.document(chunk.name(), line, bytes, true, &mut out),
                Document::Oversized { line, bytes } => {
                    let most = input::MAX_DOCUMENT;
                    let reason = format!(
                        "document of {bytes} bytes; the limit is {most} (split it into its items, for example: jq -c '.[]?[]?' \
                         FILE | replay -)"
                    );
                    out.reject(chunk.name(), line, "oversized", || reason);
                }
            }
        }
        out.new_senders = self.senders.since(self.named_senders).to_vec();
        self.named_senders = self.senders.len();
        out
    }

    fn document(&mut self, source: &str, line: u64, bytes: &[u8], may_split: bool, out: &mut DecodedChunk) {
        let Worker { options, decoder, classifier, senders, keep, .. } = self;
        let (mut split, mut may_split) = (None, may_split);
        let mut units = std::mem::take(&mut out.units);
        let each = |reading: Reading<'_, '_>, classifier: &Classifier, units: &mut Vec<Unit>| match reading {
            Reading::Counted { event, from, oddities } => {
                for oddity in oddities.iter() {
                    *out.tallies.odd.entry(oddity.name()).or_default() += 1;
                }
                let accepted = event.mail.timestamp.0;
                let outside = options.since.is_some_and(|since| accepted < since)
                    || options.until.is_some_and(|until| accepted >= until);
                let passed = HeardEvent::passed(event, options.real_now);
                out.tallies.events += 1;
                if outside {
                    units.truncate(from);
                    out.tallies.outside += 1;
                    out.events.push(passed);
                    return;
                }
                if keep.diagnoses {
                    out.diagnose(event, (from, units), classifier.failures());
                }
                if keep.domains {
                    out.receive(event, (from, units), classifier);
                }
                let count = u32::try_from(units.len() - from).unwrap_or(u32::MAX);
                out.tallies.saw_mail_of(accepted);
                out.events.push(HeardEvent { counts: true, units: count, ..passed });
            }
            Reading::Ignored { name, event } => {
                out.tallies.ignore(name, 1);
                if let Some(event) = event {
                    out.tallies.events += 1;
                    out.events.push(HeardEvent::passed(event, options.real_now));
                }
            }
            Reading::Poison { name, reason, event } => {
                // Only a document that is wrong as a whole can be several documents. A list may have many bad items, and is
                // scanned once.
                if may_split && event.is_none() {
                    split = split_concatenated(bytes);
                    may_split = false;
                }
                if split.is_none() {
                    out.reject(source, line, name, || reason.to_string());
                }
                if let Some(event) = event {
                    out.tallies.events += 1;
                    out.events.push(HeardEvent { stamps: None, ..HeardEvent::passed(event, options.real_now) });
                }
            }
        };
        read((decoder, classifier), bytes, options.real_now, senders, &mut units, each);
        out.units = units;
        for part in split.into_iter().flatten() {
            self.document(source, line, part, false, out);
        }
    }
}

impl HeardEvent {
    /// An event that does not count.
    fn passed(event: &Event<'_>, real_now: i64) -> HeardEvent {
        let harm = matches!(event.detail, Detail::Bounce(_) | Detail::Complaint(_)) && event.published_at.is_none();
        HeardEvent { stamps: Some(Stamps::of(event, real_now)), counts: false, harm, units: 0 }
    }
}

impl DecodedChunk {
    /// Records the classes of an event's units, which are those of `units` from `from` on. `failures`: see [`Classifier::failures`].
    fn diagnose(&mut self, event: &Event<'_>, (from, units): (usize, &[Unit]), failures: &[Option<usize>]) {
        let mut classes = classes_of(event, failures).into_iter();
        if classes.len() == 0 {
            return;
        }
        // A block accompanies the unit before it.
        let own = units.iter().enumerate().skip(from).filter(|(_, unit)| unit.kind != UnitKind::Block);
        let id = &event.mail.message_id;
        self.classes.extend(own.map_while(|(index, _)| Some((index, classes.next()?, id.to_string()))));
    }

    /// Records the recipients of an event's units, which are those of `units` from `from` on.
    fn receive(&mut self, event: &Event<'_>, (from, units): (usize, &[Unit]), classifier: &Classifier) {
        // A block accompanies the unit before it.
        let own = units.iter().enumerate().skip(from).filter(|(_, unit)| unit.kind != UnitKind::Block);
        let of_units = received(event, classifier).into_iter().zip(own);
        let known = of_units.filter(|(received, _)| received.has_domain());
        self.received.extend(known.map(|(received, (index, _))| (index, received)));
    }

    fn reject(&mut self, source: &str, line: u64, name: &str, reason: impl FnOnce() -> String) {
        *self.tallies.rejected.entry(name.to_owned()).or_default() += 1;
        if self.rejections.len() < MAX_REASONS {
            let rejected = RejectedLine { source: source.to_owned(), line, reason: reason() };
            self.rejections.push_back((self.events.len(), rejected));
        }
    }
}
