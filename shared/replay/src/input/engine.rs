//! Reading, decoding on several threads, and applying in order.
//!
//! There is no reader thread. A worker that needs work takes the intake's lock, reads the next chunk into a buffer of its
//! own, releases the lock, and decodes the chunk while it is still in its core's cache. The calling thread applies. So two
//! workers keep two cores busy, and only decoded results cross threads.

use std::collections::VecDeque;
use std::io::{self, BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::{mem, panic, slice, thread};

use flate2::bufread::MultiGzDecoder;

use super::formats::{ForeignInside, HEAD_BYTES, Packing, foreign};
use super::framing::{Frame, Framer, Limits};
use super::sources::{InputError, Source};

/// The progress of a run; another thread, or `apply`, may read it.
#[derive(Debug)]
pub struct Progress {
    bytes_read: AtomicU64,
    /// `u64::MAX` while unknown.
    bytes_total: AtomicU64,
    documents: AtomicU64,
}

impl Progress {
    /// Nothing read, total unknown.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes_read: AtomicU64::new(0), bytes_total: AtomicU64::new(u64::MAX), documents: AtomicU64::new(0) }
    }

    /// Adds up the sizes of the sources to read.
    pub(super) fn expect(&self, sources: &[Source]) {
        let total = sources.iter().map(Source::size).sum::<Option<u64>>();
        self.bytes_total.store(total.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Bytes read so far, as stored (compressed, if they are).
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Bytes of all sources, as stored; `None` before the run has begun and when a pipe is among the sources.
    #[must_use]
    pub fn bytes_total(&self) -> Option<u64> {
        Some(self.bytes_total.load(Ordering::Relaxed)).filter(|&total| total != u64::MAX)
    }

    /// Documents found so far, including oversized ones.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.documents.load(Ordering::Relaxed)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// A document as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document<'a> {
    /// A document: not empty, without the blanks around it; any bytes, valid or not.
    Whole {
        /// The number of its first line in its source, 1-based.
        line: u64,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// A document of more than [`MAX_DOCUMENT`](super::MAX_DOCUMENT) bytes, which was not kept.
    Oversized {
        /// The number of its first line in its source, 1-based.
        line: u64,
        /// Its number of bytes.
        bytes: u64,
    },
}

/// Some consecutive documents of one source, at least one.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    source: usize,
    name: &'a str,
    bytes: &'a [u8],
    frames: &'a [Frame],
}

impl<'a> Chunk<'a> {
    /// The index of the source among those given to [`run`].
    #[must_use]
    pub fn source(&self) -> usize {
        self.source
    }

    /// The name of the source.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The number of the first document's first line, 1-based.
    #[must_use]
    pub fn first_line(&self) -> u64 {
        match self.frames.first() {
            Some(Frame::Document { line, .. } | Frame::Oversized { line, .. }) => *line,
            None => 1,
        }
    }

    /// The documents, in order; the iterator knows their number.
    #[must_use]
    pub fn documents(&self) -> Documents<'a> {
        Documents { bytes: self.bytes, frames: self.frames.iter() }
    }
}

impl<'a> IntoIterator for Chunk<'a> {
    type Item = Document<'a>;
    type IntoIter = Documents<'a>;

    fn into_iter(self) -> Documents<'a> {
        self.documents()
    }
}

/// The documents of a [`Chunk`].
#[derive(Debug, Clone)]
pub struct Documents<'a> {
    bytes: &'a [u8],
    frames: slice::Iter<'a, Frame>,
}

impl<'a> Iterator for Documents<'a> {
    type Item = Document<'a>;

    fn next(&mut self) -> Option<Document<'a>> {
        self.frames.next().map(|frame| match *frame {
            Frame::Document { line, start, end } => Document::Whole { line, bytes: &self.bytes[start..end] },
            Frame::Oversized { line, bytes } => Document::Oversized { line, bytes },
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.frames.size_hint()
    }
}

impl ExactSizeIterator for Documents<'_> {}

/// Reads the sources, decodes them chunk by chunk on `workers` threads and applies the results in the input's order.
///
/// Each worker creates a state with `state` and passes it to each of its calls of `decode`; `apply` runs on the calling thread
/// and may end the run early with [`ControlFlow::Break`], which `run` then returns. The first 128 KiB, and everything if
/// `workers` is 0, are decoded on the calling thread: small inputs start no threads. After an early end, a worker that waits
/// for standard input is waited for until it gets some.
///
/// # Errors
///
/// Those of `apply`, and [`InputError`] for a source that cannot be read; `apply` has then seen all that came before.
///
/// # Panics
///
/// If `state`, `decode` or `apply` does.
pub fn run<W, T, E>(
    sources: &[Source],
    workers: usize,
    state: impl Fn() -> W + Sync,
    decode: impl Fn(&mut W, Chunk<'_>) -> T + Sync,
    apply: impl FnMut(T) -> Result<ControlFlow<()>, E>,
    progress: &Progress,
) -> Result<ControlFlow<()>, E>
where
    T: Send,
    E: From<InputError>,
{
    run_within(&Limits::STANDARD, sources, workers, state, decode, apply, progress)
}

pub(super) fn run_within<W, T, E>(
    limits: &Limits,
    sources: &[Source],
    workers: usize,
    state: impl Fn() -> W + Sync,
    decode: impl Fn(&mut W, Chunk<'_>) -> T + Sync,
    mut apply: impl FnMut(T) -> Result<ControlFlow<()>, E>,
    progress: &Progress,
) -> Result<ControlFlow<()>, E>
where
    T: Send,
    E: From<InputError>,
{
    progress.expect(sources);
    let mut intake = Intake::new(limits, sources, progress);

    let chunk = if workers == 0 { limits.chunk } else { limits.chunk.min(INLINE_CHUNK) };
    let mut buffer = Buffer::new(chunk);
    let mut own = None;
    while workers == 0 || intake.delivered < limits.inline {
        if !intake.fill(&mut buffer)? {
            return Ok(ControlFlow::Continue(()));
        }
        let decoded = decode(own.get_or_insert_with(&state), buffer.chunk(sources));
        if apply(decoded)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    drop(own);
    drop(buffer);

    let intake = Mutex::new(intake);
    let results = ReorderBuffer::new(2 * workers as u64 + 2);
    let work = || {
        let _watch = StopWhenPanicking(&results);
        let mut own = state();
        let mut buffer = Buffer::new(limits.chunk);
        while let Some((sequence, filled)) = next_chunk(&intake, &results, &mut buffer) {
            let outcome = match filled {
                Ok(true) => Outcome::Decoded(decode(&mut own, buffer.chunk(sources))),
                Ok(false) => Outcome::End,
                Err(error) => Outcome::Failed(error),
            };
            results.put(sequence, outcome);
        }
    };
    thread::scope(|scope| {
        let (threads, outcome) = {
            // Dropped before the threads are joined, also when `apply` panics.
            let _stop = Stop(&results);
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let outcome = loop {
                match results.take() {
                    Some(Outcome::Decoded(decoded)) => match apply(decoded) {
                        Ok(ControlFlow::Continue(())) => {}
                        stopped => break stopped,
                    },
                    Some(Outcome::Failed(error)) => break Err(error.into()),
                    Some(Outcome::End) | None => break Ok(ControlFlow::Continue(())),
                }
            };
            (threads, outcome)
        };
        for thread in threads {
            if let Err(payload) = thread.join() {
                panic::resume_unwind(payload);
            }
        }
        outcome
    })
}

/// The buffer of the calling thread before threads are started.
const INLINE_CHUNK: usize = 128 << 10;

/// The most inflated bytes of one read. A decoder that finds damage drops what it has inflated in that read.
const INFLATED_CHUNK: usize = 64 << 10;

/// Locks although another thread may have panicked: that thread has stopped the run, and its panic is passed on.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next chunk's position in the input, and whether there is one; `None` when the run is over.
fn next_chunk<T>(
    intake: &Mutex<Intake<'_>>,
    results: &ReorderBuffer<T>,
    buffer: &mut Buffer,
) -> Option<(u64, Result<bool, InputError>)> {
    let mut intake = lock(intake);
    // Waits with the lock held: while there is no room for one more chunk, no worker needs it.
    if intake.over || !results.wait_for_room(intake.sequence) {
        return None;
    }
    let sequence = intake.sequence;
    intake.sequence += 1;
    let filled = intake.fill(buffer);
    intake.over = !matches!(filled, Ok(true));
    Some((sequence, filled))
}

/// A worker's bytes and the documents in them.
pub(super) struct Buffer {
    /// As long as its intended capacity; filled up to `filled`.
    bytes: Vec<u8>,
    filled: usize,
    frames: Vec<Frame>,
    source: usize,
}

impl Buffer {
    pub(super) fn new(chunk: usize) -> Self {
        Self { bytes: vec![0; chunk.max(1)], filled: 0, frames: Vec::new(), source: 0 }
    }

    /// The number of bytes that were last filled in.
    pub(super) fn len(&self) -> usize {
        self.filled
    }

    pub(super) fn chunk<'a>(&'a self, sources: &'a [Source]) -> Chunk<'a> {
        Chunk {
            source: self.source,
            name: sources[self.source].name(),
            bytes: &self.bytes[..self.filled],
            frames: &self.frames,
        }
    }
}

/// The sources, and the reading position.
pub(super) struct Intake<'a> {
    limits: Limits,
    sources: &'a [Source],
    /// The index of the first of them among all sources.
    first: usize,
    progress: &'a Progress,
    /// The index of the open source, or of the next one to open.
    source: usize,
    open: Option<OpenSource<'a>>,
    framer: Framer,
    /// The beginning of a document whose end has not been read.
    carry: Vec<u8>,
    /// What failed after the last chunk.
    failed: Option<InputError>,
    delivered: u64,
    sequence: u64,
    over: bool,
}

struct OpenSource<'a> {
    reader: Box<dyn Read + Send + 'a>,
    packing: Packing,
    /// Unpacked bytes have not been checked for a foreign format yet.
    unseen: bool,
}

impl<'a> Intake<'a> {
    fn new(limits: &Limits, sources: &'a [Source], progress: &'a Progress) -> Self {
        Self {
            limits: *limits,
            sources,
            first: 0,
            progress,
            source: 0,
            open: None,
            framer: Framer::new(limits),
            carry: Vec::new(),
            failed: None,
            delivered: 0,
            sequence: 0,
            over: false,
        }
    }

    /// The intake of one source among others.
    pub(super) fn of_one(limits: &Limits, sources: &'a [Source], index: usize, progress: &'a Progress) -> Self {
        Self { first: index, ..Self::new(limits, &sources[index..=index], progress) }
    }

    /// The sizes for further reads; that of the reader's buffer, and whether the file stays open, can only be set before the
    /// source is opened.
    pub(super) fn set_sizes(&mut self, chunk: usize, compressed: usize, hold: bool) {
        self.limits.chunk = chunk;
        self.limits.compressed = compressed;
        self.limits.hold = hold;
    }

    /// Whether it is known that there is nothing more to read.
    pub(super) fn is_at_the_end(&self) -> bool {
        self.source >= self.sources.len() && self.failed.is_none()
    }

    /// Reads the next documents, at least one; `false` when there are no more.
    pub(super) fn fill(&mut self, buffer: &mut Buffer) -> Result<bool, InputError> {
        buffer.frames.clear();
        buffer.filled = 0;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        while buffer.frames.is_empty() {
            let Some(source) = self.sources.get(self.source) else { return Ok(false) };
            buffer.source = self.first + self.source;
            let opened = match self.open.take() {
                Some(open) => Ok(open),
                None => OpenSource::new(source, &self.limits, self.progress),
            };
            let mut open = match opened {
                Ok(open) => open,
                Err(error) => {
                    self.next_source();
                    if source.tolerates(&error) {
                        continue;
                    }
                    return Err(error);
                }
            };
            match self.fill_from(&mut open, buffer) {
                Ok(true) => self.open = Some(open),
                Ok(false) => self.next_source(),
                Err(error) => {
                    let error = self.interrupted(source, &open, error);
                    self.next_source();
                    if source.tolerates(&error) {
                        continue;
                    }
                    if buffer.frames.is_empty() {
                        return Err(error);
                    }
                    self.failed = Some(error);
                }
            }
        }
        self.delivered += buffer.filled as u64;
        self.progress.documents.fetch_add(buffer.frames.len() as u64, Ordering::Relaxed);
        Ok(true)
    }

    fn next_source(&mut self) {
        self.source += 1;
        self.framer = Framer::new(&self.limits);
        self.carry.clear();
    }

    fn interrupted(&self, source: &Source, open: &OpenSource<'_>, error: io::Error) -> InputError {
        let (path, line) = (source.path(), self.framer.line());
        if let Some(ForeignInside(found)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return InputError::foreign(path, *found);
        }
        match open.packing {
            Packing::Gzip => InputError::Gzip { path, line, source: error },
            Packing::Zstd => InputError::Zstd { path, line, source: error },
            Packing::Plain => InputError::Interrupted { path, line, source: error },
        }
    }

    /// Fills the buffer until it is full and contains a document; `false` when the source has ended.
    fn fill_from(&mut self, open: &mut OpenSource<'_>, buffer: &mut Buffer) -> io::Result<bool> {
        let Buffer { bytes, filled, frames, .. } = buffer;
        self.framer.rebase();
        if self.framer.discard() {
            self.carry.clear();
        }
        let carried = self.carry.len();
        // Another source may have left it longer.
        bytes.truncate((carried + self.limits.chunk).max(1));
        // Never more than a document, so the buffer is never longer than a document and a chunk.
        if bytes.len() < carried + self.limits.chunk.div_ceil(2) {
            bytes.resize(carried + self.limits.chunk, 0);
        }
        bytes[..carried].copy_from_slice(&self.carry);
        *filled = carried;
        self.carry.clear();
        loop {
            if *filled == bytes.len() {
                if !frames.is_empty() {
                    self.carry.extend_from_slice(&bytes[self.framer.kept_from()..]);
                    return Ok(true);
                }
                if self.framer.discard() {
                    *filled = 0;
                } else {
                    // Finished bytes, such as blanks between documents, are dropped before the buffer grows.
                    bytes.copy_within(self.framer.kept_from().., 0);
                    *filled -= self.framer.kept_from();
                    self.framer.rebase();
                    if bytes.len() - *filled < self.limits.chunk.div_ceil(2) {
                        let longest = self.limits.document.saturating_add(self.limits.chunk);
                        let longer = (bytes.len() * 2).min(longest).max(*filled + 1);
                        bytes.resize(longer, 0);
                    }
                }
            }
            match open.read(&mut bytes[*filled..]) {
                Ok(0) => {
                    self.framer.finish(&bytes[..*filled], frames);
                    return Ok(false);
                }
                Ok(count) => {
                    *filled += count;
                    self.framer.advance(&bytes[..*filled], frames);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<'a> OpenSource<'a> {
    fn new(source: &Source, limits: &Limits, progress: &'a Progress) -> Result<Self, InputError> {
        const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
        let mut stored = Counted { reader: source.open(limits.hold)?, count: &progress.bytes_read };
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let interrupted = |error| InputError::Interrupted { path: source.path(), line: 1, source: error };
        stored.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(interrupted)?;
        let packing = Packing::of(&head);
        if packing == Packing::Plain {
            let name = source.name().to_ascii_lowercase();
            for named in [Packing::Gzip, Packing::Zstd] {
                if name.ends_with(named.extension()) {
                    let (extension, name) = (named.extension(), named.name());
                    source.note(|| format!("it is named {extension} and is not {name}: read as it is"));
                }
            }
            if let Some(found) = foreign(&head, packing) {
                return Err(InputError::foreign(source.path(), found));
            }
        }
        if head.starts_with(&BYTE_ORDER_MARK) {
            head.drain(..BYTE_ORDER_MARK.len());
        }
        let whole = Cursor::new(head).chain(stored);
        let reader: Box<dyn Read + Send + 'a> = match packing {
            Packing::Plain => Box::new(whole),
            Packing::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(limits.compressed, whole))),
            Packing::Zstd => {
                let packed = BufReader::with_capacity(limits.compressed, whole);
                Box::new(zstd::stream::read::Decoder::with_buffer(packed).map_err(interrupted)?)
            }
        };
        Ok(Self { reader, packing, unseen: packing != Packing::Plain })
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let compressed = self.packing != Packing::Plain;
        let most = if compressed { into.len().min(INFLATED_CHUNK) } else { into.len() };
        let count = self.reader.read(&mut into[..most])?;
        if self.unseen {
            self.unseen = false;
            if let Some(found) = foreign(&into[..count], self.packing) {
                return Err(io::Error::other(ForeignInside(found)));
            }
        }
        Ok(count)
    }
}

struct Counted<'a, R> {
    reader: R,
    count: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(into)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

enum Outcome<T> {
    Decoded(T),
    Failed(InputError),
    End,
}

/// Workers put decoded chunks here, and the calling thread takes them in order.
struct ReorderBuffer<T> {
    places: Mutex<Places<T>>,
    arrived: Condvar,
    taken: Condvar,
    room: u64,
}

struct Places<T> {
    /// The outcomes from number `next` on that have arrived.
    waiting: VecDeque<Option<Outcome<T>>>,
    next: u64,
    stopped: bool,
}

impl<T> ReorderBuffer<T> {
    fn new(room: u64) -> Self {
        let places = Places { waiting: VecDeque::new(), next: 0, stopped: false };
        Self { places: Mutex::new(places), arrived: Condvar::new(), taken: Condvar::new(), room }
    }

    /// Waits until there is a place for outcome `sequence`; `false` if the run is over.
    fn wait_for_room(&self, sequence: u64) -> bool {
        let mut places = lock(&self.places);
        while !places.stopped && sequence >= places.next + self.room {
            places = self.taken.wait(places).unwrap_or_else(PoisonError::into_inner);
        }
        !places.stopped
    }

    fn put(&self, sequence: u64, outcome: Outcome<T>) {
        let mut places = lock(&self.places);
        // At most `room`, see `wait_for_room`.
        let place = usize::try_from(sequence - places.next).unwrap_or(usize::MAX);
        if places.waiting.len() <= place {
            places.waiting.resize_with(place + 1, || None);
        }
        places.waiting[place] = Some(outcome);
        drop(places);
        if place == 0 {
            self.arrived.notify_one();
        }
    }

    /// Waits for the next outcome in order; `None` if a worker has panicked.
    fn take(&self) -> Option<Outcome<T>> {
        let mut places = lock(&self.places);
        loop {
            if places.stopped {
                return None;
            }
            if let Some(outcome) = places.waiting.front_mut().and_then(mem::take) {
                places.waiting.pop_front();
                places.next += 1;
                drop(places);
                self.taken.notify_one();
                return Some(outcome);
            }
            places = self.arrived.wait(places).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop(&self) {
        lock(&self.places).stopped = true;
        self.arrived.notify_all();
        self.taken.notify_all();
    }
}

/// Ends the run when the calling thread leaves it, for any reason.
struct Stop<'a, T>(&'a ReorderBuffer<T>);

impl<T> Drop for Stop<'_, T> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Ends the run when a worker panics, so that no thread waits for its chunk.
struct StopWhenPanicking<'a, T>(&'a ReorderBuffer<T>);

impl<T> Drop for StopWhenPanicking<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::panic::AssertUnwindSafe;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    /// Threads from the first byte on.
    const THREADED: Limits = Limits { inline: 0, ..Limits::STANDARD };

    type Found = (usize, u64, Result<Vec<u8>, u64>);

    fn documents_of(chunk: Chunk<'_>) -> Vec<Found> {
        let found = |document| match document {
            Document::Whole { line, bytes } => (chunk.source(), line, Ok(bytes.to_vec())),
            Document::Oversized { line, bytes } => (chunk.source(), line, Err(bytes)),
        };
        chunk.documents().map(found).collect()
    }

    fn read_all(limits: &Limits, sources: &[Source], workers: usize) -> (Vec<Found>, Result<(), InputError>) {
        let mut all = Vec::new();
        let progress = Progress::new();
        let apply = |mut found: Vec<Found>| {
            assert!(!found.is_empty(), "a chunk holds a document");
            all.append(&mut found);
            Ok(ControlFlow::Continue(()))
        };
        let outcome =
            run_within(limits, sources, workers, || (), |(), chunk| documents_of(chunk), apply, &progress).map(|_| ());
        assert_eq!(progress.documents(), all.len() as u64);
        if outcome.is_ok() {
            assert_eq!(Some(progress.bytes_read()), progress.bytes_total());
        }
        (all, outcome)
    }

    fn texts(found: &[Found]) -> Vec<(usize, u64, String)> {
        let text = |(source, line, document): &Found| {
            let text = document.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            (*source, *line, text.unwrap_or_else(|bytes| format!("oversized {bytes}")))
        };
        found.iter().map(text).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn sources_never_share_a_document() {
        let sources = [
            Source::memory("no newline", *b"{\"a\":1}\n{\"b\":"),
            Source::memory("empty", *b""),
            Source::memory("blank", *b"\n\n \n"),
            Source::memory("a byte order mark", *b"\xef\xbb\xbf{\"c\":3}"),
            Source::memory("pretty, cut short", *b"{\n \"d\": 4,\n"),
            Source::memory("closing", *b" \"e\": 5 }"),
        ];
        for workers in 0..3 {
            let (found, outcome) = read_all(&THREADED, &sources, workers);
            outcome.unwrap();
            let expected = [
                (0, 1, "{\"a\":1}"),
                (0, 2, "{\"b\":"),
                (3, 1, "{\"c\":3}"),
                (4, 1, "{\n \"d\": 4,"),
                (5, 1, "\"e\": 5 }"),
            ];
            let expected = expected.map(|(source, line, text)| (source, line, text.to_owned()));
            assert_eq!(texts(&found), expected, "{workers} workers");
        }
    }

    #[test]
    fn gzip_is_recognised_by_its_first_bytes_and_may_have_members() {
        let joined = [gzip(b"{\"a\":1}\n{\"b\""), gzip(b""), gzip(b":2}\n")].concat();
        let sources =
            [Source::memory("x.json", joined), Source::memory("y.gz", *b"{}\n"), Source::memory("z", *b"\x1f")];
        let (found, outcome) = read_all(&THREADED, &sources, 2);
        outcome.unwrap();
        let expected = [(0, 1, "{\"a\":1}"), (0, 2, "{\"b\":2}"), (1, 1, "{}"), (2, 1, "\x1f")]
            .map(|(s, l, t)| (s, l, t.to_owned()));
        assert_eq!(texts(&found), expected);
    }

    #[test]
    fn truncated_gzip_delivers_what_is_whole_and_then_fails() {
        // Numbers that do not compress well, so that each cut leaves a different number of lines.
        let lines: Vec<String> =
            (1..3000u64).map(|n| format!("{{\"n\":{}}}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let whole = gzip(format!("{}\n", lines.join("\n")).as_bytes());
        let mut counts = Vec::new();
        for cut in [2, 9, 10, 11, 500, whole.len() / 2, whole.len() - 9, whole.len() - 8, whole.len() - 1] {
            let sources = [Source::memory("a.gz", &whole[..cut]), Source::memory("never", *b"{}")];
            for workers in 0..3 {
                let (found, outcome) = read_all(&THREADED, &sources, workers);
                let Err(InputError::Gzip { path, line, .. }) = outcome else { panic!("cut at {cut}: {outcome:?}") };
                assert_eq!(path.to_str(), Some("a.gz"));
                assert_eq!(line, found.len() as u64 + 1, "cut at {cut}");
                let found: Vec<String> = texts(&found).into_iter().map(|(_, _, text)| text).collect();
                assert_eq!(found, lines[..found.len()], "cut at {cut}");
                counts.push(found.len());
            }
        }
        assert_eq!(counts[..9], [0; 9]);
        assert!(counts.is_sorted());
        assert!(counts[15] > 1000 && counts[15] < 2000, "half of it: {}", counts[15]);
        assert_eq!(counts.last(), Some(&lines.len()));
    }

    #[test]
    fn damaged_gzip_and_what_follows_it_fails() {
        let good = gzip(b"{\"a\":1}\n");
        let mut flipped = good.clone();
        let crc = flipped.len() - 6;
        flipped[crc] ^= 1;
        for damaged in [flipped, [&good[..], b"junk"].concat()] {
            let (found, outcome) = read_all(&THREADED, &[Source::memory("a", damaged)], 1);
            assert_eq!(found.len(), 1);
            assert!(matches!(outcome, Err(InputError::Gzip { line: 2, .. })), "{outcome:?}");
        }
    }

    #[test]
    fn a_file_that_is_gone_fails_after_what_comes_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        std::fs::write(&path, "{}\n").unwrap();
        let mut sources = vec![Source::memory("first", *b"{\"a\":1}\n")];
        sources.extend(super::super::Sources::expand(&[path.to_str().unwrap()]).unwrap());
        assert_eq!(read_all(&THREADED, &sources, 2).0.len(), 2);
        std::fs::remove_file(&path).unwrap();
        let (found, outcome) = read_all(&THREADED, &sources, 2);
        assert_eq!(found.len(), 1);
        assert!(matches!(outcome, Err(InputError::Unreadable { .. })), "{outcome:?}");
    }

    #[test]
    fn a_document_beyond_eight_mebibytes_is_not_kept() {
        let mut bytes = b"{\"a\":1}\n{\"big\":\"".to_vec();
        bytes.resize(bytes.len() + 3 * super::super::MAX_DOCUMENT, b'x');
        bytes.extend_from_slice(b"\"}\n{\"b\":2}\n");
        let size = 3 * super::super::MAX_DOCUMENT as u64 + 10;
        let mut buffer = Buffer::new(THREADED.chunk);
        let (sources, progress) = ([Source::memory("big", bytes)], Progress::new());
        let mut intake = Intake::new(&THREADED, &sources, &progress);
        let mut found = Vec::new();
        while intake.fill(&mut buffer).unwrap() {
            assert!(buffer.bytes.len() <= super::super::MAX_DOCUMENT + THREADED.chunk);
            found.extend(documents_of(buffer.chunk(&sources)));
        }
        let expected = [(0, 1, Ok(b"{\"a\":1}".to_vec())), (0, 2, Err(size)), (0, 3, Ok(b"{\"b\":2}".to_vec()))];
        assert_eq!(found, expected);
    }

    /// The longest that the buffer became, and the number of its documents.
    fn longest_buffer(limits: &Limits, source: Source) -> (usize, usize) {
        let (sources, progress) = ([source], Progress::new());
        let mut buffer = Buffer::new(limits.chunk);
        let mut intake = Intake::new(limits, &sources, &progress);
        let (mut longest, mut found) = (0, 0);
        while intake.fill(&mut buffer).unwrap() {
            longest = longest.max(buffer.bytes.capacity());
            found += documents_of(buffer.chunk(&sources)).len();
        }
        (longest.max(buffer.bytes.capacity()), found)
    }

    #[test]
    fn blanks_between_documents_are_not_kept() {
        let limits = Limits { chunk: 64, long_line: 40, document: 60, ..THREADED };
        let mut kept = Vec::new();
        for (name, blanks) in [
            ("empty lines", "\n".repeat(100_000)),
            ("empty lines of both kinds", "\r\n".repeat(50_000)),
            ("lines of blanks", "   \t \n".repeat(20_000)),
            ("long lines of blanks", format!("{}\n", " ".repeat(500)).repeat(200)),
            ("a line of blanks", " ".repeat(100_000)),
            ("commas in an array that is cut", format!("[{},{}", "{\"a\":1},".repeat(10), ",\n".repeat(50_000))),
        ] {
            for (compressed, first) in [(false, ""), (false, "{}\n"), (true, "{}\n")] {
                let bytes = format!("{first}{blanks}{{\"b\":2}}").into_bytes();
                let bytes = if compressed { gzip(&bytes) } else { bytes };
                let (longest, found) = longest_buffer(&limits, Source::memory(name, bytes));
                assert!(found >= 1, "{name}");
                kept.push((longest, name));
            }
        }
        let most = limits.document + limits.chunk;
        assert!(kept.iter().all(|(longest, _)| *longest <= 2 * most), "more than twice {most}: {kept:?}");
    }

    fn lines(count: usize) -> Source {
        Source::memory("lines", (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>().into_bytes())
    }

    #[test]
    fn apply_can_end_the_run_early() {
        for workers in 0..4 {
            let limits = Limits { chunk: 64, ..THREADED };
            let mut calls = 0;
            let apply = |_: usize| -> Result<ControlFlow<()>, InputError> {
                calls += 1;
                Ok(if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            };
            let progress = Progress::new();
            let decode = |_: &mut (), chunk: Chunk<'_>| chunk.documents().len();
            let outcome = run_within(&limits, &[lines(100_000)], workers, || (), decode, apply, &progress);
            assert!(matches!(outcome, Ok(ControlFlow::Break(()))), "{outcome:?}");
            assert_eq!(calls, 3);
            assert!(progress.bytes_read() < 10_000, "{} bytes read", progress.bytes_read());
        }
    }

    #[test]
    fn an_error_of_apply_ends_the_run() {
        #[derive(Debug)]
        struct Refused;
        impl From<InputError> for Refused {
            fn from(error: InputError) -> Self {
                panic!("{error}")
            }
        }
        for workers in 0..4 {
            let limits = Limits { chunk: 64, ..THREADED };
            let decode = |(): &mut (), _: Chunk<'_>| ();
            let outcome =
                run_within(&limits, &[lines(10_000)], workers, || (), decode, |()| Err(Refused), &Progress::new());
            outcome.unwrap_err();
        }
    }

    #[test]
    fn a_panic_of_a_worker_or_of_apply_is_passed_on() {
        for workers in 0..4 {
            for (at_work, name) in [(true, "decode"), (false, "apply")] {
                let limits = Limits { chunk: 64, ..THREADED };
                let caught = panic::catch_unwind(AssertUnwindSafe(|| {
                    run_within::<_, _, InputError>(
                        &limits,
                        &[lines(10_000)],
                        workers,
                        || (),
                        |(), chunk| {
                            assert!(!at_work || chunk.first_line() < 5000, "at work");
                            chunk.first_line()
                        },
                        |line| {
                            assert!(at_work || line < 5000, "in apply");
                            Ok(ControlFlow::Continue(()))
                        },
                        &Progress::new(),
                    )
                }));
                caught.expect_err(name);
            }
        }
    }

    #[test]
    fn every_worker_has_a_state_of_its_own() {
        let made = AtomicU64::new(0);
        let state = || made.fetch_add(1, Ordering::Relaxed);
        let decode = |own: &mut u64, _: Chunk<'_>| *own;
        let apply = |own| {
            assert!(own < 3);
            Ok::<_, InputError>(ControlFlow::Continue(()))
        };
        let limits = Limits { chunk: 64, ..THREADED };
        let outcome = run_within(&limits, &[lines(10_000)], 3, state, decode, apply, &Progress::new());
        assert!(outcome.unwrap().is_continue());
        assert_eq!(made.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn small_inputs_start_no_threads() {
        let here = thread::current().id();
        let decode = |(): &mut (), _: Chunk<'_>| thread::current().id();
        let apply = |there| {
            assert_eq!(here, there);
            Ok::<_, InputError>(ControlFlow::Continue(()))
        };
        let outcome = run(&[lines(1000), lines(1000)], 2, || (), decode, apply, &Progress::new());
        assert!(outcome.unwrap().is_continue());
    }

    /// Pieces of files of every kind, whole and broken.
    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just("{\"a\":1}\n".to_owned()),
            2 => Just("{\n  \"a\": [\n    1,\n    {}\n  ]\n}\n".to_owned()),
            1 => Just("{\n\"a\": \"x\\\"}{\",\n\"b\": {\n}\n}".to_owned()),
            1 => Just("\r\n".to_owned()),
            1 => Just("  \n".to_owned()),
            2 => Just("{\"a\":\"".to_owned()),
            1 => Just("[{\"a\":1},\n".to_owned()),
            1 => Just("{}{\"b\":2}".to_owned()),
            1 => (1..90usize).prop_map(|count| "x".repeat(count)),
            1 => (1..90usize).prop_map(|count| format!("{{\"x\":\"{}\"}}\r\n", "y".repeat(count))),
            1 => (1..20usize).prop_map(|count| "{\"j\":3}".repeat(count)),
            3 => "[\\[\\]{}\",: \\\\\n\ra]{0,12}",
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn neither_chunks_nor_reads_nor_workers_nor_compression_change_what_is_found(
            files in proptest::collection::vec(any_bytes(), 1..4),
            chunk in 1..200usize,
            piece in 1..50usize,
            workers in 0..4usize,
        ) {
            let tiny = Limits { chunk: 1 << 16, long_line: 40, document: 60, inline: 0, ..Limits::STANDARD };
            let memory = |bytes: &Vec<u8>| Source::memory("whole", bytes.clone());
            let (expected, outcome) = read_all(&tiny, &files.iter().map(memory).collect::<Vec<_>>(), 0);
            prop_assert!(outcome.is_ok());
            prop_assert!(expected.is_sorted_by_key(|(source, line, _)| (*source, *line)));
            for compressed in [false, true] {
                let in_pieces = |bytes: &Vec<u8>| {
                    let stored = if compressed { gzip(bytes) } else { bytes.clone() };
                    Source::memory_in_pieces("pieces", stored, piece)
                };
                let sources: Vec<Source> = files.iter().map(in_pieces).collect();
                let (found, outcome) = read_all(&Limits { chunk, ..tiny }, &sources, workers);
                prop_assert!(outcome.is_ok());
                prop_assert_eq!(texts(&found), texts(&expected));
            }
        }

        #[test]
        fn the_buffer_is_never_longer_than_a_document_and_a_chunk(
            pieces in proptest::collection::vec((any_bytes(), "[ \\n\\t\\r]{0,4}", 0..200usize), 1..4), chunk in 1..200usize,
        ) {
            let limits = Limits { chunk, long_line: 40, document: 60, ..THREADED };
            let bytes = pieces.iter().flat_map(|(bytes, blanks, times)| [bytes.clone(), blanks.repeat(*times).into_bytes()]);
            let (sources, progress) = ([Source::memory("x", bytes.flatten().collect::<Vec<u8>>())], Progress::new());
            let mut intake = Intake::new(&limits, &sources, &progress);
            let mut buffer = Buffer::new(limits.chunk);
            while intake.fill(&mut buffer).unwrap() {
                prop_assert!(buffer.bytes.len() <= limits.document + limits.chunk + 1, "{}", buffer.bytes.len());
            }
        }

        #[test]
        fn nothing_but_blanks_is_lost(bytes in any_bytes(), chunk in 1..200usize) {
            let limits = Limits { chunk, long_line: 40, ..THREADED };
            let (found, _) = read_all(&limits, &[Source::memory("x", bytes.clone())], 0);
            let dense = |bytes: &[u8]| -> Vec<u8> {
                bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
            };
            let found: Vec<u8> = found.into_iter().flat_map(|(_, _, document)| document.unwrap()).collect();
            prop_assert_eq!(dense(&found), dense(&bytes));
        }

        #[test]
        fn a_line_of_an_event_is_found_whatever_stands_around_it(
            before in any_bytes(),
            after in any_bytes(),
        ) {
            // An open array may take the next line for its next element; nothing else can.
            let before: Vec<u8> = before.into_iter().map(|byte| if byte == b'[' { b'{' } else { byte }).collect();
            let event = b"{\"eventType\":\"Send\"}";
            let bytes = [&before[..], b"\n", event, b"\n", &after].concat();
            let limits = Limits { chunk: 64, ..THREADED };
            let (found, _) = read_all(&limits, &[Source::memory("x", bytes)], 0);
            let line = before.iter().filter(|&&byte| byte == b'\n').count() as u64 + 2;
            let inside = before.trim_ascii_end().last() == Some(&b':');
            prop_assert!(inside || found.contains(&(0, line, Ok(event.to_vec()))), "{:?}", texts(&found));
        }
    }
}
