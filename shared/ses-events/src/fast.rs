//! The fast path: one walk over the text that reads what is needed and checks the rest. It returns an event or doubt.
//!
//! **Invariant:** what it returns is what [`crate::reference`] returns. Whatever it is not sure of (odd numbers, a key
//! twice, two shapes in one, an unknown kind, any error) is left to the reference, which alone ignores and rejects.

use std::ops::Range;

use crate::context::Carried;
use crate::cursor::Cursor;
use crate::decoded::Decoded;
use crate::event::{
    Bounce, Complaint, Delivery, DeliveryDelay, Detail, Engagement, Event, FailedRecipient, Few, Mail, Origin,
};
use crate::kind::Kind;
use crate::scan::{self, Marks};
use crate::text::Text;
use crate::{MAX_EVENT, Tags, Timestamp};

/// What a document is, if the fast path is sure.
#[expect(clippy::large_enum_variant, reason = "nearly all are events, and a box would cost each an allocation")]
pub(crate) enum Sure<'a> {
    /// An event, raw or in an EventBridge document.
    Event(Decoded<'a>),
    /// An SNS notification.
    Message(Message),
    /// A Lambda batch with at least one record; the messages are in the scratch.
    Batch,
}

/// A message inside an envelope.
pub(crate) struct Message {
    /// Where it lies in [`Scratch::text`].
    pub(crate) place: Range<usize>,
    /// When the envelope was published.
    pub(crate) published_at: Option<Timestamp>,
}

/// Buffers for one level of envelopes, reused for each document.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Unescaped messages; longer than what is in use.
    pub(crate) text: Vec<u8>,
    /// The messages of a batch.
    pub(crate) batch: Vec<Message>,
}

/// Reads one document.
pub(crate) fn read<'a>(text: &'a str, carried: Carried, marks: &mut Marks, scratch: &mut Scratch) -> Option<Sure<'a>> {
    marks.mark(text);
    let mut cursor = Cursor::new(text, marks);
    let sure = document(&mut cursor, carried, scratch)?;
    cursor.end()?;
    if text.len() > MAX_EVENT && !matches!(sure, Sure::Batch) {
        return None;
    }
    Some(sure)
}

/// Records that a field was read; a second occurrence is doubt.
#[inline]
fn once(seen: &mut u32, field: u32) -> Option<()> {
    let bit = 1 << field;
    let first = *seen & bit == 0;
    *seen |= bit;
    first.then_some(())
}

/// Sets a slot that must be empty.
#[inline]
fn fill<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    if slot.is_some() {
        return None;
    }
    *slot = Some(value);
    Some(())
}

#[inline]
fn document<'a>(cursor: &mut Cursor<'a, '_>, carried: Carried, scratch: &mut Scratch) -> Option<Sure<'a>> {
    let mut parts = Parts::default();
    let mut notification = Notification::default();
    let (mut detail_type, mut time, mut inner) = (None, None, None);
    let mut batch = None;
    cursor.object(|cursor, key| match key {
        "detail-type" => fill(&mut detail_type, cursor.quoted()?),
        "detail" => {
            let mut parts = Parts::default();
            cursor.object(|cursor, key| parts.field(cursor, key))?;
            fill(&mut inner, parts)
        }
        "time" => fill(&mut time, cursor.text()?),
        "Records" => fill(&mut batch, records(cursor, scratch)?),
        "Type" | "Message" | "Timestamp" => notification.field(cursor, key, 0, scratch).map(drop),
        _ => parts.field(cursor, key),
    })?;
    // Exactly one shape; the reference decides about precedence.
    match (parts.is_begun(), detail_type.is_some(), notification.is_begun(), batch.is_some()) {
        (true, false, false, false) if inner.is_none() => parts.event(carried.published_at),
        (false, true, false, false) => {
            let published_at = time.and_then(|time| Timestamp::parse_any(&time));
            inner?.event(published_at.or(carried.published_at))
        }
        (false, false, true, false) if inner.is_none() => Some(Sure::Message(notification.message(true)?)),
        (false, false, false, true) if inner.is_none() => (!scratch.batch.is_empty()).then_some(Sure::Batch),
        _ => None,
    }
}

/// The messages of a Lambda batch, one after the other in the scratch.
fn records(cursor: &mut Cursor<'_, '_>, scratch: &mut Scratch) -> Option<()> {
    scratch.batch.clear();
    let mut end = 0;
    cursor.array(|cursor| {
        let (mut body, mut sns, mut published_at) = (None, None, None);
        cursor.object(|cursor, key| match key {
            "body" => {
                let start = end;
                end = unescape(cursor, scratch, start)?;
                fill(&mut body, start..end)
            }
            "attributes" => {
                let mut sent = None;
                cursor.object(|cursor, key| match key {
                    "SentTimestamp" => fill(&mut sent, cursor.text()?),
                    _ => cursor.skip(),
                })?;
                fill(&mut published_at, sent.and_then(|sent| Timestamp::parse_millis(&sent)))
            }
            "Sns" => {
                let mut notification = Notification::default();
                cursor.object(|cursor, key| match key {
                    "Type" | "Message" | "Timestamp" => {
                        end = notification.field(cursor, key, end, scratch)?;
                        Some(())
                    }
                    _ => cursor.skip(),
                })?;
                fill(&mut sns, notification.message(false)?)
            }
            _ => cursor.skip(),
        })?;
        let message = match (body, sns) {
            (Some(place), None) => Message { place, published_at: published_at.flatten() },
            (None, Some(message)) => message,
            _ => return None,
        };
        scratch.batch.push(message);
        Some(())
    })
}

fn unescape(cursor: &mut Cursor<'_, '_>, scratch: &mut Scratch, from: usize) -> Option<usize> {
    let room = scan::room_for(from + cursor.remaining());
    if scratch.text.len() < room {
        scratch.text.resize(room, 0);
    }
    cursor.unescape(&mut scratch.text, from)
}

/// The fields that are read of an SNS notification.
#[derive(Default)]
struct Notification<'a> {
    form: Option<Text<'a>>,
    message: Option<Range<usize>>,
    timestamp: Option<Text<'a>>,
}

impl<'a> Notification<'a> {
    /// Reads one of the three fields; the message is unescaped into the scratch from `from` on. Returns the new end.
    fn field(&mut self, cursor: &mut Cursor<'a, '_>, key: &str, from: usize, scratch: &mut Scratch) -> Option<usize> {
        match key {
            "Type" => fill(&mut self.form, cursor.text()?)?,
            "Timestamp" => fill(&mut self.timestamp, cursor.text()?)?,
            _ => {
                let end = unescape(cursor, scratch, from)?;
                fill(&mut self.message, from..end)?;
                return Some(end);
            }
        }
        Some(from)
    }

    /// A message without a type is an unknown field, and the reference decides about it.
    fn is_begun(&self) -> bool {
        self.form.is_some() || self.message.is_some()
    }

    fn message(self, needs_type: bool) -> Option<Message> {
        match self.form.as_deref() {
            Some("Notification") => {}
            None if !needs_type => {}
            _ => return None,
        }
        let published_at = self.timestamp.and_then(|timestamp| Timestamp::parse_any(&timestamp));
        Some(Message { place: self.message?, published_at })
    }
}

/// The fields that are read of an event, in any order.
#[derive(Default)]
struct Parts<'a> {
    kind: Option<(Origin, Kind)>,
    mail: Option<Mail<'a>>,
    /// The object of this kind, which may not be the kind of the event.
    detail: Option<(Kind, Detail<'a>)>,
}

impl<'a> Parts<'a> {
    #[inline]
    fn is_begun(&self) -> bool {
        self.kind.is_some()
    }

    #[inline]
    fn field(&mut self, cursor: &mut Cursor<'a, '_>, key: &str) -> Option<()> {
        let (kind, detail) = match key {
            "mail" => return mail(cursor, &mut self.mail),
            "eventType" => return fill(&mut self.kind, (Origin::EventPublishing, Kind::named(&cursor.text()?)?)),
            "notificationType" => {
                return fill(&mut self.kind, (Origin::IdentityNotification, Kind::named(&cursor.text()?)?));
            }
            "delivery" => (Kind::Delivery, delivery(cursor)?),
            "bounce" => (Kind::Bounce, bounce(cursor)?),
            "complaint" => (Kind::Complaint, complaint(cursor)?),
            "deliveryDelay" => (Kind::DeliveryDelay, delivery_delay(cursor)?),
            "reject" => (Kind::Reject, Detail::Reject { reason: one_text(cursor, "reason")? }),
            "failure" => {
                (Kind::RenderingFailure, Detail::RenderingFailure { template_name: one_text(cursor, "templateName")? })
            }
            "open" => (Kind::Open, Detail::Open(engagement(cursor)?)),
            "click" => (Kind::Click, Detail::Click(engagement(cursor)?)),
            "subscription" => {
                (Kind::Subscription, Detail::Subscription { contact_list: one_text(cursor, "contactList")? })
            }
            _ => return cursor.skip(),
        };
        fill(&mut self.detail, (kind, detail))
    }

    #[inline]
    fn event(self, published_at: Option<Timestamp>) -> Option<Sure<'a>> {
        let (origin, kind) = self.kind?;
        let detail = match (kind, self.detail) {
            (Kind::Send, None) => Detail::Send,
            (kind, Some((found, detail))) if kind == found => detail,
            _ => return None,
        };
        let (mail, unreadable_dates, unreadable_recipients) = (self.mail?, 0, 0);
        let event = Event { origin, mail, detail, published_at, unreadable_dates, unreadable_recipients };
        Some(Sure::Event(Decoded::Event(event)))
    }
}

/// In the form that SES writes; the reference reads the other forms.
#[inline]
fn timestamp(cursor: &mut Cursor<'_, '_>) -> Option<Timestamp> {
    Timestamp::parse(&cursor.text()?)
}

#[inline]
fn optional_timestamp(cursor: &mut Cursor<'_, '_>) -> Option<Option<Timestamp>> {
    if cursor.null()? { Some(None) } else { timestamp(cursor).map(Some) }
}

fn mail<'a>(cursor: &mut Cursor<'a, '_>, mail: &mut Option<Mail<'a>>) -> Option<()> {
    if mail.is_some() {
        return None;
    }
    let (mut accepted, mut message_id, mut source, mut destination) = (None, None, None, Few::new());
    let (mut configuration_set, mut from_domain, mut tags) = (None, None, None);
    let mut seen = 0;
    cursor.object(|cursor, key| match key {
        "timestamp" => fill(&mut accepted, timestamp(cursor)?),
        "messageId" => fill(&mut message_id, cursor.text()?),
        "source" => {
            once(&mut seen, 0)?;
            source = cursor.optional_text()?;
            Some(())
        }
        "destination" => {
            once(&mut seen, 1)?;
            texts(cursor, &mut destination)
        }
        "tags" => {
            let read = Tags::take(cursor, |name, value| match name {
                "ses:configuration-set" => configuration_set = Some(value),
                "ses:from-domain" => from_domain = Some(value),
                _ => {}
            })?;
            fill(&mut tags, read)
        }
        _ => cursor.skip(),
    })?;
    let message_id = message_id.filter(|id| !id.is_empty())?;
    let tags = tags.unwrap_or_default();
    let timestamp = accepted?;
    *mail = Some(Mail { timestamp, message_id, source, destination, configuration_set, from_domain, tags });
    Some(())
}

/// Strings, or null for none.
#[inline]
fn texts<'a>(cursor: &mut Cursor<'a, '_>, texts: &mut Few<Text<'a>>) -> Option<()> {
    if cursor.null()? {
        return Some(());
    }
    cursor.array(|cursor| {
        texts.push(cursor.text()?);
        Some(())
    })
}

fn delivery<'a>(cursor: &mut Cursor<'a, '_>) -> Option<Detail<'a>> {
    let mut delivery = Delivery { timestamp: None, recipients: Few::new() };
    let mut seen = 0;
    cursor.object(|cursor, key| {
        match key {
            "timestamp" => {
                once(&mut seen, 0)?;
                delivery.timestamp = optional_timestamp(cursor)?;
            }
            "recipients" => {
                once(&mut seen, 1)?;
                texts(cursor, &mut delivery.recipients)?;
            }
            _ => cursor.skip()?,
        }
        Some(())
    })?;
    Some(Detail::Delivery(delivery))
}

fn bounce<'a>(cursor: &mut Cursor<'a, '_>) -> Option<Detail<'a>> {
    let (mut bounce_type, mut bounce_sub_type) = (None, None);
    let (mut timestamp, mut recipients, mut feedback_id) = (None, Few::new(), None);
    let mut seen = 0;
    cursor.object(|cursor, key| {
        match key {
            "timestamp" => {
                once(&mut seen, 0)?;
                timestamp = optional_timestamp(cursor)?;
            }
            "bounceType" => fill(&mut bounce_type, cursor.text()?)?,
            "bounceSubType" => fill(&mut bounce_sub_type, cursor.text()?)?,
            "bouncedRecipients" => {
                once(&mut seen, 1)?;
                failed_recipients(cursor, &mut recipients)?;
            }
            "feedbackId" => {
                once(&mut seen, 2)?;
                feedback_id = cursor.optional_text()?;
            }
            _ => cursor.skip()?,
        }
        Some(())
    })?;
    let (bounce_type, bounce_sub_type) = (bounce_type?, bounce_sub_type?);
    Some(Detail::Bounce(Bounce { timestamp, bounce_type, bounce_sub_type, recipients, feedback_id }))
}

/// Objects, or null for none.
#[inline]
fn failed_recipients<'a>(cursor: &mut Cursor<'a, '_>, recipients: &mut Few<FailedRecipient<'a>>) -> Option<()> {
    if cursor.null()? {
        return Some(());
    }
    cursor.array(|cursor| {
        let mut recipient = FailedRecipient { email_address: None, action: None, status: None, diagnostic_code: None };
        let mut seen = 0;
        cursor.object(|cursor, key| {
            let (field, slot) = match key {
                "emailAddress" => (0, &mut recipient.email_address),
                "action" => (1, &mut recipient.action),
                "status" => (2, &mut recipient.status),
                "diagnosticCode" => (3, &mut recipient.diagnostic_code),
                _ => return cursor.skip(),
            };
            once(&mut seen, field)?;
            *slot = cursor.optional_text()?;
            Some(())
        })?;
        recipients.push(recipient);
        Some(())
    })
}

fn complaint<'a>(cursor: &mut Cursor<'a, '_>) -> Option<Detail<'a>> {
    let mut complaint =
        Complaint { timestamp: None, feedback_id: None, recipients: Few::new(), sub_type: None, feedback_type: None };
    let mut seen = 0;
    cursor.object(|cursor, key| {
        match key {
            "timestamp" => {
                once(&mut seen, 0)?;
                complaint.timestamp = optional_timestamp(cursor)?;
            }
            "feedbackId" => {
                once(&mut seen, 1)?;
                complaint.feedback_id = cursor.optional_text()?;
            }
            "complainedRecipients" => {
                once(&mut seen, 2)?;
                addresses(cursor, &mut complaint.recipients)?;
            }
            "complaintSubType" => {
                once(&mut seen, 3)?;
                complaint.sub_type = cursor.optional_text()?;
            }
            "complaintFeedbackType" => {
                once(&mut seen, 4)?;
                complaint.feedback_type = cursor.optional_text()?;
            }
            _ => cursor.skip()?,
        }
        Some(())
    })?;
    Some(Detail::Complaint(complaint))
}

/// Objects of which only the address is read, or null for none.
fn addresses<'a>(cursor: &mut Cursor<'a, '_>, addresses: &mut Few<Text<'a>>) -> Option<()> {
    if cursor.null()? {
        return Some(());
    }
    cursor.array(|cursor| {
        let mut address = None;
        cursor.object(|cursor, key| match key {
            "emailAddress" => fill(&mut address, cursor.text()?),
            _ => cursor.skip(),
        })?;
        addresses.push(address?);
        Some(())
    })
}

fn delivery_delay<'a>(cursor: &mut Cursor<'a, '_>) -> Option<Detail<'a>> {
    let (mut timestamp, mut delay_type, mut recipients) = (None, None, Few::new());
    let mut seen = 0;
    cursor.object(|cursor, key| {
        match key {
            "timestamp" => {
                once(&mut seen, 0)?;
                timestamp = optional_timestamp(cursor)?;
            }
            "delayType" => fill(&mut delay_type, cursor.text()?)?,
            "delayedRecipients" => {
                once(&mut seen, 1)?;
                failed_recipients(cursor, &mut recipients)?;
            }
            _ => cursor.skip()?,
        }
        Some(())
    })?;
    Some(Detail::DeliveryDelay(DeliveryDelay { timestamp, delay_type: delay_type?, recipients }))
}

fn engagement(cursor: &mut Cursor<'_, '_>) -> Option<Engagement> {
    let mut engagement = Engagement { timestamp: None, likely_bot: false };
    let mut seen = 0;
    cursor.object(|cursor, key| {
        match key {
            "timestamp" => {
                once(&mut seen, 0)?;
                engagement.timestamp = optional_timestamp(cursor)?;
            }
            "isBotEvent" => {
                once(&mut seen, 1)?;
                engagement.likely_bot = cursor.optional_text()?.as_deref() == Some("Likely");
            }
            _ => cursor.skip()?,
        }
        Some(())
    })?;
    Some(engagement)
}

/// The one field that is read of a small object.
fn one_text<'a>(cursor: &mut Cursor<'a, '_>, field: &str) -> Option<Option<Text<'a>>> {
    let mut text = None;
    let mut seen = 0;
    cursor.object(|cursor, key| {
        if key != field {
            return cursor.skip();
        }
        once(&mut seen, 0)?;
        text = cursor.optional_text()?;
        Some(())
    })?;
    Some(text)
}
