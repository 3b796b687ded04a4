//! The input layer: event files, directories, globs and standard input, cut into documents, in order.
//!
//! [`Sources::expand`] turns the command line's arguments into [`Source`]s. [`run`] reads them one after another,
//! has worker threads decode them chunk by chunk, and hands the results to the caller in the order of the input.
//! [`run_by_time`] does the same for several sources of the same time: it merges them.
//!
//! # The order
//!
//! Each source is a lane with a clock of its own: the highest stamp that it has shown so far. The lane with the lowest clock
//! comes next; if clocks are equal, the source that was named first. Inside a source nothing is reordered, and documents
//! without a stamp (ignored, rejected) keep their place. A source is opened when the merge reaches its first stamp, which is
//! read from its head before anything else is read; standard input and pipes, which cannot be read twice, are open from the
//! beginning. A single source needs no merge, and sources that are handed over ([`Supply`]) are read in their order, because
//! they cannot be read ahead.
//!
//! **Invariant:** the sequence of (source, line, bytes) depends only on the bytes and the order of the sources: not on the
//! number of workers, the size of a chunk, or how much one read returned.
//!
//! **Invariant:** memory is bounded whatever the input: one buffer for each worker, of a chunk or at most a document
//! of [`MAX_DOCUMENT`] and a chunk, and a fixed number of decoded chunks that wait for their turn. A source that is
//! handed over ([`Supply`]) is in memory as a whole while it is read, as stored. Of sources that are merged at most
//! [`MAX_LANES`] and `2 × workers + 2` are open, each with a reader of about 100 KiB (of zstd, and the window it was
//! compressed with) and the beginning of its current document; decoded chunks wait that come from at most 64 MiB
//! of input and `2 × workers + 2` chunks. More sources with events of the same time are refused: [`InputError::TooManyAtOnce`].
//!
//! **Invariant:** a document never spans two sources, and a broken document never takes its neighbours with it.
//!
//! # What a document is
//!
//! A source holds one document per line, or pretty-printed documents over several lines, or both; Firehose objects
//! may hold documents with nothing between them. No mode is chosen per file: each line is judged separately.
//!
//! - A line that ends in `}` or `]` is a document, without looking inside (blank lines are skipped; `\r\n` is a line end).
//! - Any other line that begins with `{` or `[` is scanned: if it leaves a bracket open, and the next line that is not
//!   blank *continues* it, the document goes on until its brackets are closed. A line continues a document when it is indented,
//!   begins with a closing bracket or a quote, when the document's first line was a bare `{` or `[`, or when the document is an
//!   array and the comma has been seen.
//! - A document is broken off where a line begins with `{` or `[` and no value can begin there (an object wants `:`
//!   before it, an array `[` or `,`), or where the line is not indented and the document is. So a truncated
//!   line in a line-delimited file is a broken document of its own, and so is a truncated pretty-printed document.
//! - In lines that are scanned, and in lines of more than a mebibyte, a `{` or `[` right after a finished value begins the
//!   next document. In other lines [`split_concatenated`] does the same, after the decoder has refused the line: such lines are
//!   rare, so the common case pays nothing.
//! - An array of objects of more than [`MAX_DOCUMENT`] bytes (`jq -s` and exports produce them) is cut into its elements,
//!   each a document with a line of its own. A shorter one is one document, and the decoder handles its elements.
//! - Any other document of more than [`MAX_DOCUMENT`] bytes is reported as [`Document::Oversized`] and not kept.
//!
//! # How a source may be stored
//!
//! As text, or compressed by gzip or zstd, in one or several members or frames; its first bytes decide, not its name. If its
//! first bytes belong to another format (an archive, Parquet, UTF-16, a page), it is [`InputError::Foreign`], which names the
//! format and how to unpack it; in a directory it is skipped and listed by [`Sources::skipped`].
//!
//! Start with [`run_by_time`].

mod engine;
mod formats;
mod framing;
mod merge;
mod sources;

pub use engine::{Chunk, Document, Documents, Progress, run};
pub use framing::{MAX_DOCUMENT, split_concatenated};
pub use merge::{MAX_LANES, Stamp, Step, Timed, run_by_time};
pub use sources::{Damage, InputError, Source, Sources, Supply};
