//! What a document is: an event, known not to be one, or wrong.

use std::fmt;

use crate::event::Event;
use crate::rejection::{self, Rejection};
use crate::text::Text;

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

impl fmt::Display for Ignored<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
