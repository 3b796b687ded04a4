//! The kinds of events by name.

/// The kinds of [`crate::event::Detail`], as `eventType` and `notificationType` name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Send,
    Delivery,
    Bounce,
    Complaint,
    DeliveryDelay,
    Reject,
    RenderingFailure,
    Open,
    Click,
    Subscription,
}

impl Kind {
    /// The names of the SES Developer Guide, "Contents of event data that Amazon SES publishes". The kind with a space
    /// in its name is also accepted without it, because it is often written that way.
    #[inline]
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "Send" => Self::Send,
            "Delivery" => Self::Delivery,
            "Bounce" => Self::Bounce,
            "Complaint" => Self::Complaint,
            "DeliveryDelay" => Self::DeliveryDelay,
            "Reject" => Self::Reject,
            "Rendering Failure" | "RenderingFailure" | "renderingFailure" => Self::RenderingFailure,
            "Open" => Self::Open,
            "Click" => Self::Click,
            "Subscription" => Self::Subscription,
            _ => return None,
        })
    }
}
