//! Typed events of Amazon SES (bounce, complaint, delivery …), out of every envelope they travel in.
//!
//! [`Decoder::decode`] takes one document, whatever it is (an event as SES publishes it, an SNS notification, an
//! EventBridge event, what Lambda gets of SQS, SNS, Kinesis, Firehose and CloudWatch Logs, what the AWS CLI prints of them, a
//! line of a log, a list of any of these, one in the other), and calls back with an [`Event`], with something [`Ignored`] by
//! name, or with a [`Rejection`] that says what is wrong where. [`mod@reference`] has the table.
//!
//! **Invariant:** pure. The outcome depends on the document alone: no clock, no environment, no randomness, no log.
//! **Invariant:** no input panics, recurses without limit, or takes much more than linear time.
//! **Invariant:** each document, and each record of a Lambda batch of SQS or SNS, is told exactly once; each item of any other
//! list at least once, and each event in it exactly once; nothing is dropped in silence.
//! **Invariant:** two decoders, one meaning. The fast path only ever says yes; what it is not sure of goes to the
//! reference, which alone ignores and rejects.
//! **Invariant:** [`Rejection`] and [`Ignored`] hold no address, subject line or header. ([`Event`] does, and so does its
//! `Debug`: it is not for logs.)
//!
//! Start with [`Event`], then [`mod@reference`] for what documents mean, then `fast` for how that is done quickly.

pub mod event;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod carriers;
mod cursor;
mod decode;
mod fast;
mod kind;
mod payload;
#[doc(hidden)]
pub mod reference;
mod rejection;
mod scan;
mod tags;
mod timestamp;
mod tree;

pub use decode::{Decoded, Decoder, Ignored};
pub use event::{
    Bounce, Complaint, Delivery, DeliveryDelay, Detail, Engagement, Event, FailedRecipient, Few, Mail, Origin, Text,
};
pub use rejection::{JsonType, Rejection};
pub use tags::Tags;
pub use timestamp::Timestamp;

/// Longest document in bytes: a Lambda payload has at most 6 MiB (AWS Lambda quotas), and a file is split before.
pub const MAX_DOCUMENT: usize = 8 << 20;

/// Longest document with one event, and longest record of a Lambda batch of SQS or SNS, in bytes: SQS and EventBridge carry
/// 1 MiB, SNS 256 KiB.
pub const MAX_EVENT: usize = 1 << 20;

/// Arrays and objects may be nested so deep: what `serde_json` takes.
pub const MAX_DEPTH: usize = 127;

/// So many envelopes may lie around an event, lists not counted: a record of Kinesis, CloudWatch Logs, EventBridge, SQS and
/// SNS in each other are five.
pub const MAX_ENVELOPES: usize = 6;

/// So many bytes the compressed parts of one document may have in all, once they are inflated; each has at most
/// [`MAX_DOCUMENT`].
pub const MAX_INFLATED: usize = 16 * MAX_DOCUMENT;
