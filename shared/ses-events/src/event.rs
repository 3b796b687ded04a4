//! The typed form of what SES publishes.

use smallvec::SmallVec;

use crate::text::Text;
use crate::{Tags, Timestamp};

/// Recipients are nearly always one per event.
pub type Few<T> = SmallVec<[T; 1]>;

/// One event of one mail, as SES reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Which of the two mechanisms of SES reported it.
    pub origin: Origin,
    /// The mail it is about.
    pub mail: Mail<'a>,
    /// What happened.
    pub detail: Detail<'a>,
    /// When it was published, from its envelope: SNS `Timestamp`, EventBridge `time`, the SQS record's `SentTimestamp`.
    pub published_at: Option<Timestamp>,
    /// Number of dates of the detail that are present and cannot be read; each is `None` in [`Event::detail`].
    ///
    /// A bounce or a complaint must not be lost because of another server's clock or date format.
    pub unreadable_dates: u8,
    /// Number of recipients that are not in the lists of this event because they cannot be read: entries of
    /// [`Mail::destination`], [`Delivery::recipients`] and [`Complaint::recipients`] without an address, entries of
    /// [`Bounce::recipients`] and [`DeliveryDelay::recipients`] that are not objects, and one for each list that is not
    /// an array. At most 255.
    pub unreadable_recipients: u8,
}

/// The mechanism that reported an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Event publishing by a configuration set: the document has an `eventType`.
    EventPublishing,
    /// The older notifications of one identity: the document has a `notificationType` and never any tags.
    IdentityNotification,
}

/// The mail that an event is about: only what is needed to count; headers and subject are never read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail<'a> {
    /// When SES accepted the mail.
    pub timestamp: Timestamp,
    /// The id that SES gave to the mail; never empty.
    pub message_id: Text<'a>,
    /// The sender as SES gives it: `news@example.com` or `News <news@example.com>`.
    pub source: Option<Text<'a>>,
    /// All recipients of the mail, each an address or `Name <address>`.
    pub destination: Few<Text<'a>>,
    /// First value of the tag `ses:configuration-set`.
    pub configuration_set: Option<Text<'a>>,
    /// First value of the tag `ses:from-domain`.
    pub from_domain: Option<Text<'a>>,
    /// All tags, read on demand.
    pub tags: Tags<'a>,
}

/// What happened to the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail<'a> {
    /// SES accepted the mail; about all recipients in [`Mail::destination`].
    Send,
    /// The recipients' server accepted the mail.
    Delivery(Delivery<'a>),
    /// The mail bounced permanently, or SES gave up on it.
    Bounce(Bounce<'a>),
    /// A recipient complained.
    Complaint(Complaint<'a>),
    /// SES could not deliver yet and keeps trying.
    DeliveryDelay(DeliveryDelay<'a>),
    /// SES accepted the mail and then refused to send it.
    Reject {
        /// `Bad content` is the only reason that is documented.
        reason: Option<Text<'a>>,
    },
    /// The template could not be rendered, so nothing was sent.
    RenderingFailure {
        /// Name of the template.
        template_name: Option<Text<'a>>,
    },
    /// A person or a program loaded the tracking pixel.
    Open(Engagement),
    /// A person or a program followed a link.
    Click(Engagement),
    /// A contact's preferences changed.
    Subscription {
        /// Name of the contact list.
        contact_list: Option<Text<'a>>,
    },
}

/// See [`Detail::Delivery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// When SES handed the mail over.
    pub timestamp: Option<Timestamp>,
    /// The recipients who got it; empty if the field is absent or nothing in it can be read: then the event is about
    /// [`Mail::destination`].
    pub recipients: Few<Text<'a>>,
}

/// See [`Detail::Bounce`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounce<'a> {
    /// From the recipients' provider, whose clock may be wrong: it can lie before the mail itself.
    pub timestamp: Option<Timestamp>,
    /// `Permanent`, `Transient`, `Undetermined`, or what SES may add.
    pub bounce_type: Text<'a>,
    /// An open set: `General`, `NoEmail`, `OnAccountSuppressionList` …
    pub bounce_sub_type: Text<'a>,
    /// The recipients whose mail bounced; empty if the field is absent or nothing in it can be read: then the event is
    /// about [`Mail::destination`].
    pub recipients: Few<FailedRecipient<'a>>,
    /// Unique id of this bounce.
    pub feedback_id: Option<Text<'a>>,
}

/// One recipient of a bounce or a delay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRecipient<'a> {
    /// An address or `Name <address>`; `None` if it is absent or not a string.
    pub email_address: Option<Text<'a>>,
    /// What the other server does (RFC 3464, section 2.3.3), an open set: `failed`, `delayed`, `relayed` … With
    /// `delayed` it keeps trying, whatever the type of the bounce. `None` if it is absent or not a string.
    pub action: Option<Text<'a>>,
    /// Enhanced status code (RFC 3463), such as `5.1.1`.
    pub status: Option<Text<'a>>,
    /// The answer of the other server.
    pub diagnostic_code: Option<Text<'a>>,
}

/// See [`Detail::Complaint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint<'a> {
    /// From the recipients' provider.
    pub timestamp: Option<Timestamp>,
    /// Unique id of this complaint.
    pub feedback_id: Option<Text<'a>>,
    /// All recipients at the complaining domain: SES cannot know which one complained. Empty if the field is absent or
    /// nothing in it can be read.
    pub recipients: Few<Text<'a>>,
    /// `OnAccountSuppressionList` and similar: the mail was not sent; absent for a real complaint.
    pub sub_type: Option<Text<'a>>,
    /// RFC 5965: `abuse`, `not-spam` … Absent without a feedback report.
    pub feedback_type: Option<Text<'a>>,
}

/// See [`Detail::DeliveryDelay`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryDelay<'a> {
    /// When the delay was noticed, by SES's clock.
    pub timestamp: Option<Timestamp>,
    /// An open set: `MailboxFull`, `IPFailure`, `SendingDeferral` …
    pub delay_type: Text<'a>,
    /// The recipients whose mail is delayed.
    pub recipients: Few<FailedRecipient<'a>>,
}

/// See [`Detail::Open`] and [`Detail::Click`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engagement {
    /// When, by SES's clock.
    pub timestamp: Option<Timestamp>,
    /// Whether SES attributes it to a machine: `isBotEvent` is `Likely`.
    pub likely_bot: bool,
}
