//! Typed events of Amazon SES (bounce, complaint, delivery …), out of every envelope they travel in.
//!
//! [`Decoder::decode`] takes one document, whatever it is (an event as SES publishes it, an SNS notification, an
//! EventBridge event, an SQS or SNS batch as Lambda hands it over, one in the other), and calls back with an [`Event`], with
//! something [`Ignored`] by name, or with a [`Rejection`] that says what is wrong where.
//!
//! **Invariant:** pure. The outcome depends on the document alone: no clock, no environment, no randomness, no log.
//! **Invariant:** no input panics, recurses without limit, or takes much more than linear time.
//! **Invariant:** each document, and each record of a Lambda batch, is told exactly once; nothing is dropped in silence.
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

mod cursor;
mod decode;
mod fast;
mod kind;
#[doc(hidden)]
pub mod reference;
mod rejection;
mod scan;
mod tags;
mod timestamp;

pub use decode::{Decoded, Decoder, Ignored};
pub use event::{
    Bounce, Complaint, Delivery, DeliveryDelay, Detail, Engagement, Event, FailedRecipient, Few, Mail, Origin, Text,
};
pub use rejection::{JsonType, Rejection};
pub use tags::Tags;
pub use timestamp::Timestamp;

/// Longest document in bytes: a Lambda payload has at most 6 MiB (AWS Lambda quotas), and a file is split before.
pub const MAX_DOCUMENT: usize = 8 << 20;

/// Longest document that is no Lambda batch, and longest record of one, in bytes: SQS and EventBridge carry 1 MiB, SNS
/// 256 KiB.
pub const MAX_EVENT: usize = 1 << 20;

/// Arrays and objects may be nested so deep: what `serde_json` takes.
pub const MAX_DEPTH: usize = 127;

/// So many envelopes may lie around an event, counting those that carry it as text.
pub const MAX_ENVELOPES: usize = 4;
