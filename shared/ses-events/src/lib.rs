//! Typed events of Amazon SES (bounce, complaint, delivery …), from every envelope in which they arrive.
//!
//! [`Decoder::decode`] takes one document of any kind (an event as SES publishes it, an SNS notification, an
//! EventBridge event, what Lambda gets from SQS, SNS, Kinesis, Firehose and CloudWatch Logs, what the AWS CLI prints of
//! them, a line of a log, a list of any of these, one in the other), and calls back with an [`Event`], with a document
//! that is [`Ignored`] by name, or with a [`Rejection`] that states what is wrong and where. [`mod@reference`] has the
//! table.
//!
//! **Invariant:** pure. The result depends only on the document: no clock, no environment, no randomness, no log.
//! **Invariant:** no input panics, recurses without limit, or takes much more than linear time. **Invariant:** each
//! document, and each record of a Lambda batch of SQS or SNS, is reported exactly once; each item of any other list at
//! least once, and each event in it exactly once; nothing is dropped silently. **Invariant:** two decoders, one
//! meaning. The fast path only accepts; what it is not sure of goes to the reference, which alone ignores and rejects.
//! **Invariant:** [`Rejection`] and [`Ignored`] hold no address, subject line or header. ([`Event`] does, and so does
//! its `Debug`: do not log it.)
//!
//! Start with [`Event`], then [`mod@reference`] for what documents mean, then `fast` for the fast decoder.

pub mod event;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod carriers;
mod context;
mod cursor;
mod decode;
mod decoded;
mod fast;
mod kind;
mod meaning;
mod payload;
#[doc(hidden)]
pub mod reference;
mod rejection;
mod scan;
mod tags;
mod text;
mod timestamp;
mod tree;

pub use decode::Decoder;
pub use decoded::{Decoded, Ignored};
pub use event::{
    Bounce, Complaint, Delivery, DeliveryDelay, Detail, Engagement, Event, FailedRecipient, Few, Mail, Origin,
};
pub use rejection::{JsonType, Rejection};
pub use tags::Tags;
pub use text::Text;
pub use timestamp::Timestamp;

/// Longest document in bytes: a Lambda payload has at most 6 MiB (AWS Lambda quotas), and a file is split first.
pub const MAX_DOCUMENT: usize = 8 << 20;

/// Longest document with one event, and longest record of a Lambda batch of SQS or SNS, in bytes: SQS and EventBridge carry
/// 1 MiB, SNS 256 KiB.
pub const MAX_EVENT: usize = 1 << 20;

/// Deepest nesting of arrays and objects: the limit of `serde_json`.
pub const MAX_DEPTH: usize = 127;

/// Most envelopes around an event, lists not counted: Kinesis, CloudWatch Logs, EventBridge, SQS and SNS in each other
/// are five.
pub const MAX_ENVELOPES: usize = 6;

/// Most bytes of all compressed parts of one document together, after inflating; each part has at most
/// [`MAX_DOCUMENT`].
pub const MAX_INFLATED: usize = 16 * MAX_DOCUMENT;
