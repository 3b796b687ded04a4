//! Decodes a document into events.

use std::fmt;

use crate::event::{Event, Text};
use crate::fast::{self, Scratch, Sure};
use crate::payload::{InflateBudget, stamped};
use crate::rejection;
use crate::scan::Marks;
use crate::{MAX_DOCUMENT, MAX_ENVELOPES, Rejection, Timestamp, carriers};

/// The result for one document, or for one record of several.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are events, and a box would cost each an allocation")]
pub enum Decoded<'a> {
    /// An event.
    Event(Event<'a>),
    /// Known to be harmless and not an event.
    Ignored(Ignored<'a>),
    /// Neither: a person should check it.
    Rejected(Rejection),
}

/// A document that is not an event and need not be one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ignored<'a> {
    /// The plain text that SES publishes when an SNS event destination is created or changed.
    ValidationNotice,
    /// What SES publishes when an SNS topic is set for the notifications of an identity.
    SubscriptionSucceeded,
    /// SNS asks to confirm a subscription.
    SubscriptionConfirmation,
    /// SNS reports that a subscription was deleted.
    UnsubscribeConfirmation,
    /// An `eventType` or `notificationType` that is not known here.
    UnknownType(Text<'a>),
    /// An EventBridge document that carries no event of a mail, for example `Sending Status Disabled`.
    OtherDetailType(Text<'a>),
    /// A list without records.
    EmptyBatch,
    /// CloudWatch Logs tests that it can reach a destination.
    ControlMessage,
}

impl<'a> Ignored<'a> {
    /// The name to count it by: a stable word, or the unknown name itself, cut to 48 characters; one common word for
    /// names with characters that no name of SES has.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::ValidationNotice => "validation_notice",
            Self::SubscriptionSucceeded => "AmazonSnsSubscriptionSucceeded",
            Self::SubscriptionConfirmation => "subscription_confirmation",
            Self::UnsubscribeConfirmation => "unsubscribe_confirmation",
            Self::UnknownType(name) | Self::OtherDetailType(name) => name,
            Self::EmptyBatch => "empty_batch",
            Self::ControlMessage => "cloudwatch_control_message",
        }
    }

    pub(crate) fn unknown_type(name: &str) -> Self {
        Self::UnknownType(Text::Owned(rejection::name(name)))
    }

    pub(crate) fn other_detail_type(name: &str) -> Self {
        Self::OtherDetailType(Text::Owned(rejection::name(name)))
    }
}

/// Decodes documents, one after the other, in buffers that it keeps.
pub struct Decoder {
    /// One for each level of envelopes.
    scratches: [Scratch; MAX_ENVELOPES],
    /// For the text that is being read; not needed afterwards.
    marks: Marks,
}

impl fmt::Debug for Decoder {
    /// Does not show the buffers: they hold addresses from the last document.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder without buffers; they grow to the size of the longest document.
    #[must_use]
    pub fn new() -> Self {
        Self { scratches: Default::default(), marks: Marks::default() }
    }

    /// Decodes one document: a line of a stream, the content of a file, the body of a request, the payload of a Lambda
    /// invocation. White space around it and a byte order mark before it are ignored.
    ///
    /// Calls `each` exactly once for a document with one event.
    ///
    /// For a Lambda batch of SQS or SNS it calls `each` exactly once for each record, in order: the n-th call is about
    /// the n-th record. A record that holds a list is rejected as [`Rejection::Several`].
    ///
    /// For all other lists it calls `each` at least once for each item, in order: a record of Kinesis may hold several
    /// documents, and each may be a list again. A bad item does not affect its neighbours. Never panics.
    pub fn decode(&mut self, document: &[u8], mut each: impl FnMut(Decoded<'_>)) {
        let mut sink = Sink::new(&mut each);
        match admit(document) {
            Ok(text) => decode_text(text, Carried::default(), &mut self.marks, &mut self.scratches, &mut sink),
            Err(rejection) => sink.emit(Decoded::Rejected(rejection)),
        }
    }
}

/// Where the results of one document go.
pub(crate) struct Sink<'e> {
    each: &'e mut dyn FnMut(Decoded<'_>),
    budget: InflateBudget,
}

impl<'e> Sink<'e> {
    pub(crate) fn new(each: &'e mut dyn FnMut(Decoded<'_>)) -> Self {
        Self { each, budget: InflateBudget::default() }
    }

    pub(crate) fn emit(&mut self, decoded: Decoded<'_>) {
        (self.each)(decoded);
    }

    pub(crate) fn budget(&mut self) -> &mut InflateBudget {
        &mut self.budget
    }
}

/// What surrounds a text; empty for the document itself.
#[derive(Clone, Copy, Default)]
pub(crate) struct Carried {
    /// Envelopes around it.
    pub(crate) envelopes: usize,
    /// Lists around it.
    pub(crate) lists: usize,
    /// It must give exactly one result, because the caller identifies records by counting.
    pub(crate) alone: bool,
    /// The publishing time from the innermost envelope that has one.
    pub(crate) published_at: Option<Timestamp>,
}

impl Carried {
    /// In one more envelope.
    pub(crate) fn inside(self, published_at: Option<Timestamp>) -> Self {
        Self { envelopes: self.envelopes + 1, published_at: published_at.or(self.published_at), ..self }
    }

    /// As a record of SQS or SNS.
    pub(crate) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
}

/// The checks of both decoders before they read a document.
pub(crate) fn admit(document: &[u8]) -> Result<&str, Rejection> {
    if document.len() > MAX_DOCUMENT {
        return Err(Rejection::TooLarge { size: document.len(), limit: MAX_DOCUMENT });
    }
    let text = std::str::from_utf8(document).map_err(|error| Rejection::NotUtf8 { at: error.valid_up_to() })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn decode_text(text: &str, carried: Carried, marks: &mut Marks, scratches: &mut [Scratch], sink: &mut Sink<'_>) {
    let Some((scratch, deeper)) = scratches.split_first_mut() else {
        return carriers::text(text, carried, sink);
    };
    let sure = fast::read(text, carried, marks, scratch);
    let Scratch { text: buffer, batch } = &*scratch;
    let mut carry = |message: &fast::Message, carried: Carried| {
        // The messages are in the buffer, and are UTF-8 because the document is.
        let inner = buffer.get(message.place.clone()).and_then(|inner| std::str::from_utf8(inner).ok());
        decode_text(inner.unwrap_or_default(), carried.inside(message.published_at), marks, deeper, sink);
    };
    match sure {
        Some(Sure::Event(event)) => sink.emit(event),
        Some(Sure::Message(message)) => carry(&message, carried),
        Some(Sure::Batch) if carried.envelopes == 0 => batch.iter().for_each(|message| carry(message, carried.alone())),
        // Exports of logs are long, so their lines are worth the fast path.
        None if carried.envelopes == 0 => match stamped(text).filter(|(_, document)| !document.contains('\n')) {
            Some((published_at, document)) => {
                decode_text(document, carried.inside(Some(published_at)), marks, deeper, sink);
            }
            None => carriers::text(text, carried, sink),
        },
        Some(Sure::Batch) | None => carriers::text(text, carried, sink),
    }
}

impl fmt::Display for Ignored<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
