//! What documents mean, written to be read: the whole document as a tree, then field by field.
//!
//! The fast path must agree with it on every input. It alone ignores and rejects. The grammar, the depth limit, the
//! numbers and the escapes are those of `serde_json`; of a key that is there twice, the last counts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use crate::decode::{Carried, Decoded, Ignored, admit};
use crate::event::{
    Bounce, Complaint, Delivery, DeliveryDelay, Detail, Engagement, Event, FailedRecipient, Few, Mail, Origin, Text,
};
use crate::fast::sent_timestamp;
use crate::kind::Kind;
use crate::rejection::{JsonType, Rejection, excerpt};
use crate::{MAX_ENVELOPES, MAX_EVENT, Tags, Timestamp};

/// As [`crate::Decoder::decode`], without the fast path: for tests and to measure against.
pub fn decode(document: &[u8], mut each: impl FnMut(Decoded<'_>)) {
    match admit(document) {
        Ok(text) => decode_text(text, Carried::default(), &mut each),
        Err(rejection) => each(Decoded::Rejected(rejection)),
    }
}

/// What SES publishes as plain text when an SNS event destination is made or changed.
const VALIDATION_NOTICE: &str = "Successfully validated SNS topic for Amazon SES event publishing.";

pub(crate) fn decode_text(text: &str, carried: Carried, each: &mut dyn FnMut(Decoded<'_>)) {
    if let Err(rejection) = try_decode_text(text, carried, each) {
        each(Decoded::Rejected(rejection));
    }
}

/// **Invariant:** has not called `each` if it fails.
fn try_decode_text(text: &str, carried: Carried, each: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Rejection> {
    if carried.envelopes > MAX_ENVELOPES {
        return Err(Rejection::TooManyEnvelopes);
    }
    // Only a batch may be longer than an event, and only a document itself may be a batch.
    let too_large = || Rejection::TooLarge { size: text.len(), limit: MAX_EVENT };
    if carried.envelopes > 0 && text.len() > MAX_EVENT {
        return Err(too_large());
    }
    if text.trim() == VALIDATION_NOTICE {
        each(Decoded::Ignored(Ignored::ValidationNotice));
        return Ok(());
    }
    let tree: Tree<'_> = serde_json::from_str(text).map_err(|error| not_json(text, &error))?;
    let Tree::Object(document) = &tree else { return Err(Rejection::NoEvent) };
    let shape = Shape::of(document);
    if text.len() > MAX_EVENT && shape != Some(Shape::Batch) {
        return Err(too_large());
    }
    match shape {
        Some(Shape::Event) => each(event(document, carried.told_at)?),
        Some(Shape::EventBridge) => each(event_bridge(document, carried.told_at)?),
        Some(Shape::Notification) => notification(document, carried, each)?,
        Some(Shape::Batch) if carried.envelopes == 0 => batch(document, each)?,
        Some(Shape::Batch) | None => return Err(Rejection::NoEvent),
    }
    Ok(())
}

/// The shapes of a document, in their order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Event,
    EventBridge,
    Notification,
    Batch,
}

impl Shape {
    fn of(document: &Fields<'_>) -> Option<Self> {
        [
            ("eventType", Self::Event),
            ("notificationType", Self::Event),
            ("detail-type", Self::EventBridge),
            ("Type", Self::Notification),
            ("Records", Self::Batch),
        ]
        .into_iter()
        .find_map(|(key, shape)| document.get(key).map(|_| shape))
    }
}

fn event_bridge<'t>(document: &'t Fields<'_>, told_at: Option<Timestamp>) -> Result<Decoded<'t>, Rejection> {
    let detail_type = required(document.text("detail-type", "detail-type")?, "detail-type")?;
    let time = document.get("time").and_then(Tree::timestamp);
    let detail = match document.get("detail") {
        Some(Tree::Object(detail)) => Some(detail),
        _ => None,
    };
    match detail {
        Some(detail) if Shape::of(detail) == Some(Shape::Event) => event(detail, time.or(told_at)),
        // SES names the ten kinds so: an event is missing, not uncalled-for.
        _ if detail_type.starts_with("Email ") => Err(Rejection::Absent { path: "detail.eventType" }),
        _ => Ok(Decoded::Ignored(Ignored::other_detail_type(&detail_type))),
    }
}

fn notification(
    notification: &Fields<'_>,
    carried: Carried,
    each: &mut dyn FnMut(Decoded<'_>),
) -> Result<(), Rejection> {
    match notification.text("Type", "Type")?.as_deref() {
        // The `Sns` of a Lambda record is a notification even if it does not say so.
        Some("Notification") | None => {}
        Some("SubscriptionConfirmation") => {
            each(Decoded::Ignored(Ignored::SubscriptionConfirmation));
            return Ok(());
        }
        Some("UnsubscribeConfirmation") => {
            each(Decoded::Ignored(Ignored::UnsubscribeConfirmation));
            return Ok(());
        }
        Some(_) => return Err(Rejection::NoEvent),
    }
    let message = required(notification.text("Message", "Message")?, "Message")?;
    let told_at = notification.get("Timestamp").and_then(Tree::timestamp);
    decode_text(&message, carried.inside(told_at), each);
    Ok(())
}

fn batch(document: &Fields<'_>, each: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Rejection> {
    let records = document.array("Records", "Records")?;
    if records.is_empty() {
        each(Decoded::Ignored(Ignored::EmptyBatch));
    }
    for one in records {
        if let Err(rejection) = record(one, each) {
            each(Decoded::Rejected(rejection));
        }
    }
    Ok(())
}

/// **Invariant:** has not called `each` if it fails.
fn record(record: &Tree<'_>, each: &mut dyn FnMut(Decoded<'_>)) -> Result<(), Rejection> {
    let record = record.object("Records[]")?;
    if let Some(body) = record.text("body", "Records[].body")? {
        let sent = match record.get("attributes") {
            Some(Tree::Object(attributes)) => attributes.get("SentTimestamp"),
            _ => None,
        };
        let told_at = match sent {
            Some(Tree::String(sent)) => sent_timestamp(sent),
            _ => None,
        };
        decode_text(&body, Carried::default().inside(told_at), each);
        return Ok(());
    }
    match record.get("Sns") {
        Some(sns) => notification(sns.object("Records[].Sns")?, Carried::default(), each),
        None => Err(Rejection::Absent { path: "Records[].body" }),
    }
}

fn event<'t>(event: &'t Fields<'_>, told_at: Option<Timestamp>) -> Result<Decoded<'t>, Rejection> {
    let (origin, name) = match event.text("eventType", "eventType")? {
        Some(name) => (Origin::EventPublishing, name),
        None => {
            let name = event.text("notificationType", "notificationType")?;
            (Origin::IdentityNotification, required(name, "notificationType")?)
        }
    };
    let Some(kind) = Kind::named(&name) else {
        return Ok(Decoded::Ignored(match &*name {
            "AmazonSnsSubscriptionSucceeded" => Ignored::SubscriptionSucceeded,
            other => Ignored::unknown_type(other),
        }));
    };
    let mut unreadable = Unreadable::default();
    let mail = mail(required(event.get("mail"), "mail")?.object("mail")?, &mut unreadable)?;
    let detail = detail(kind, event, &mut unreadable)?;
    let Unreadable { dates: unreadable_dates, recipients: unreadable_recipients } = unreadable;
    Ok(Decoded::Event(Event { origin, mail, detail, told_at, unreadable_dates, unreadable_recipients }))
}

/// What is left out of an event because it cannot be read, and is no reason to lose the rest.
#[derive(Default)]
struct Unreadable {
    dates: u8,
    recipients: u8,
}

impl Unreadable {
    /// A date of the detail: whose clock and format it has is up to the other server.
    fn date(&mut self, detail: &Fields<'_>) -> Option<Timestamp> {
        let written = detail.get("timestamp")?;
        let date = written.timestamp();
        if date.is_none() {
            self.dates = self.dates.saturating_add(1);
        }
        date
    }

    /// The items of a list, less those that `read` does not know; none if it is no list.
    fn recipients<'t, T>(
        &mut self,
        parent: &'t Fields<'_>,
        list: &str,
        mut read: impl FnMut(&'t Tree<'_>) -> Result<Option<T>, Rejection>,
    ) -> Result<Few<T>, Rejection> {
        let mut recipients = Few::new();
        let Some(list) = parent.get(list) else { return Ok(recipients) };
        let Tree::Array(list) = list else {
            self.recipients = self.recipients.saturating_add(1);
            return Ok(recipients);
        };
        for one in list {
            match read(one)? {
                Some(recipient) => recipients.push(recipient),
                None => self.recipients = self.recipients.saturating_add(1),
            }
        }
        Ok(recipients)
    }

    fn addresses<'t>(&mut self, parent: &'t Fields<'_>, list: &str) -> Result<Few<Text<'t>>, Rejection> {
        self.recipients(parent, list, |one| Ok(one.as_text()))
    }
}

fn mail<'t>(mail: &'t Fields<'_>, unreadable: &mut Unreadable) -> Result<Mail<'t>, Rejection> {
    let timestamp = accepted(required(mail.get("timestamp"), "mail.timestamp")?)?;
    let message_id = required(mail.text("messageId", "mail.messageId")?, "mail.messageId")?;
    if message_id.is_empty() {
        return Err(Rejection::Invalid { path: "mail.messageId", expected: "message id", excerpt: String::new() });
    }
    let tags = tags(mail)?;
    let tag = |name: &str| tags.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    Ok(Mail {
        timestamp,
        message_id,
        source: mail.text("source", "mail.source")?,
        destination: unreadable.addresses(mail, "destination")?,
        configuration_set: tag("ses:configuration-set"),
        from_domain: tag("ses:from-domain"),
        tags: Tags::listed(tags),
    })
}

/// The date that says to which cohort the mail belongs: without it nothing can be counted.
fn accepted(written: &Tree<'_>) -> Result<Timestamp, Rejection> {
    const PATH: &str = "mail.timestamp";
    let invalid = |shown: &str| Rejection::Invalid { path: PATH, expected: "timestamp", excerpt: excerpt(shown) };
    written.timestamp().ok_or_else(|| match written {
        Tree::String(text) => invalid(text),
        Tree::Number(number) => invalid(&number.to_string()),
        Tree::Null | Tree::Boolean | Tree::Array(_) | Tree::Object(_) => written.is_no(JsonType::String, PATH),
    })
}

/// Name and first value, in the order of the document; of a name that is there twice, the last one.
fn tags<'t>(mail: &'t Fields<'_>) -> Result<Vec<(Text<'t>, Text<'t>)>, Rejection> {
    let Some(tags) = mail.get("tags") else { return Ok(Vec::new()) };
    let Fields(fields) = tags.object("mail.tags")?;
    let last: BTreeMap<&str, usize> = fields.iter().enumerate().map(|(at, (name, _))| (&**name, at)).collect();
    let mut tags = Vec::new();
    for (at, (name, values)) in fields.iter().enumerate() {
        if last.get(&**name) != Some(&at) {
            continue;
        }
        if values.json_type() == JsonType::Null {
            continue;
        }
        let values = values.array("mail.tags.*")?;
        if let Some(value) = values.first().filter(|value| value.json_type() != JsonType::Null) {
            tags.push((Cow::Borrowed(&**name), value.text("mail.tags.*[]")?));
        }
    }
    Ok(tags)
}

fn detail<'t>(kind: Kind, event: &'t Fields<'_>, unreadable: &mut Unreadable) -> Result<Detail<'t>, Rejection> {
    let must = |key, path| required(event.get(key), path)?.object(path);
    let may = |key, path| event.get(key).map_or(Ok(&EMPTY), |detail| detail.object(path));
    Ok(match kind {
        Kind::Send => Detail::Send,
        Kind::Delivery => {
            let delivery = must("delivery", "delivery")?;
            Detail::Delivery(Delivery {
                timestamp: unreadable.date(delivery),
                recipients: unreadable.addresses(delivery, "recipients")?,
            })
        }
        Kind::Bounce => {
            let bounce = must("bounce", "bounce")?;
            let sub_type = bounce.text("bounceSubType", "bounce.bounceSubType")?;
            Detail::Bounce(Bounce {
                timestamp: unreadable.date(bounce),
                bounce_type: required(bounce.text("bounceType", "bounce.bounceType")?, "bounce.bounceType")?,
                bounce_sub_type: sub_type.unwrap_or(Cow::Borrowed("Undetermined")),
                recipients: failed_recipients(bounce, "bouncedRecipients", &BOUNCED, unreadable)?,
                feedback_id: bounce.text("feedbackId", "bounce.feedbackId")?,
            })
        }
        Kind::Complaint => {
            let complaint = must("complaint", "complaint")?;
            Detail::Complaint(Complaint {
                timestamp: unreadable.date(complaint),
                feedback_id: complaint.text("feedbackId", "complaint.feedbackId")?,
                recipients: complained_recipients(complaint, unreadable)?,
                sub_type: complaint.text("complaintSubType", "complaint.complaintSubType")?,
                feedback_type: complaint.text("complaintFeedbackType", "complaint.complaintFeedbackType")?,
            })
        }
        Kind::DeliveryDelay => {
            let delay = must("deliveryDelay", "deliveryDelay")?;
            let delay_type = delay.text("delayType", "deliveryDelay.delayType")?;
            Detail::DeliveryDelay(DeliveryDelay {
                timestamp: unreadable.date(delay),
                delay_type: required(delay_type, "deliveryDelay.delayType")?,
                recipients: failed_recipients(delay, "delayedRecipients", &DELAYED, unreadable)?,
            })
        }
        Kind::Reject => Detail::Reject { reason: may("reject", "reject")?.text("reason", "reject.reason")? },
        Kind::RenderingFailure => Detail::RenderingFailure {
            template_name: may("failure", "failure")?.text("templateName", "failure.templateName")?,
        },
        Kind::Open => Detail::Open(engagement(may("open", "open")?, "open.isBotEvent", unreadable)?),
        Kind::Click => Detail::Click(engagement(may("click", "click")?, "click.isBotEvent", unreadable)?),
        Kind::Subscription => Detail::Subscription {
            contact_list: may("subscription", "subscription")?.text("contactList", "subscription.contactList")?,
        },
    })
}

fn engagement(
    engagement: &Fields<'_>,
    bot: &'static str,
    unreadable: &mut Unreadable,
) -> Result<Engagement, Rejection> {
    Ok(Engagement {
        timestamp: unreadable.date(engagement),
        likely_bot: engagement.text("isBotEvent", bot)?.as_deref() == Some("Likely"),
    })
}

/// Paths of the status and the diagnostic code of a failed recipient.
type RecipientPaths = [&'static str; 2];

const BOUNCED: RecipientPaths = ["bounce.bouncedRecipients[].status", "bounce.bouncedRecipients[].diagnosticCode"];

const DELAYED: RecipientPaths =
    ["deliveryDelay.delayedRecipients[].status", "deliveryDelay.delayedRecipients[].diagnosticCode"];

/// A recipient without an address stays: something failed, and its status and words say what.
fn failed_recipients<'t>(
    detail: &'t Fields<'_>,
    list: &str,
    [status, diagnostic_code]: &RecipientPaths,
    unreadable: &mut Unreadable,
) -> Result<Few<FailedRecipient<'t>>, Rejection> {
    unreadable.recipients(detail, list, |recipient| {
        let Tree::Object(recipient) = recipient else { return Ok(None) };
        Ok(Some(FailedRecipient {
            email_address: recipient.get("emailAddress").and_then(Tree::as_text),
            action: recipient.get("action").and_then(Tree::as_text),
            status: recipient.text("status", status)?,
            diagnostic_code: recipient.text("diagnosticCode", diagnostic_code)?,
        }))
    })
}

fn complained_recipients<'t>(
    complaint: &'t Fields<'_>,
    unreadable: &mut Unreadable,
) -> Result<Few<Text<'t>>, Rejection> {
    unreadable.recipients(complaint, "complainedRecipients", |recipient| {
        let Tree::Object(recipient) = recipient else { return Ok(None) };
        Ok(recipient.get("emailAddress").and_then(Tree::as_text))
    })
}

fn required<T>(value: Option<T>, path: &'static str) -> Result<T, Rejection> {
    value.ok_or(Rejection::Absent { path })
}

/// Any JSON.
enum Tree<'a> {
    Null,
    Boolean,
    Number(f64),
    String(Text<'a>),
    Array(Vec<Tree<'a>>),
    Object(Fields<'a>),
}

/// The fields of an object, in their order.
struct Fields<'a>(Vec<(Text<'a>, Tree<'a>)>);

static EMPTY: Fields<'static> = Fields(Vec::new());

impl<'a> Tree<'a> {
    fn json_type(&self) -> JsonType {
        match self {
            Self::Null => JsonType::Null,
            Self::Boolean => JsonType::Boolean,
            Self::Number(_) => JsonType::Number,
            Self::String(_) => JsonType::String,
            Self::Array(_) => JsonType::Array,
            Self::Object(_) => JsonType::Object,
        }
    }

    fn is_no(&self, expected: JsonType, path: &'static str) -> Rejection {
        Rejection::WrongType { path, expected, found: self.json_type() }
    }

    fn as_text(&self) -> Option<Text<'_>> {
        if let Self::String(text) = self { Some(Cow::Borrowed(&**text)) } else { None }
    }

    fn timestamp(&self) -> Option<Timestamp> {
        match self {
            Self::String(text) => Timestamp::parse_any(text),
            Self::Number(number) => Timestamp::since_1970(*number),
            Self::Null | Self::Boolean | Self::Array(_) | Self::Object(_) => None,
        }
    }

    fn text(&self, path: &'static str) -> Result<Text<'_>, Rejection> {
        self.as_text().ok_or_else(|| self.is_no(JsonType::String, path))
    }

    fn array(&self, path: &'static str) -> Result<&[Tree<'a>], Rejection> {
        if let Self::Array(items) = self { Ok(items) } else { Err(self.is_no(JsonType::Array, path)) }
    }

    fn object(&self, path: &'static str) -> Result<&Fields<'a>, Rejection> {
        if let Self::Object(fields) = self { Ok(fields) } else { Err(self.is_no(JsonType::Object, path)) }
    }
}

impl<'a> Fields<'a> {
    /// The last field of this name, unless it is null.
    fn get(&self, name: &str) -> Option<&Tree<'a>> {
        let (_, value) = self.0.iter().rev().find(|(key, _)| key == name)?;
        (value.json_type() != JsonType::Null).then_some(value)
    }

    fn text(&self, name: &str, path: &'static str) -> Result<Option<Text<'_>>, Rejection> {
        self.get(name).map(|value| value.text(path)).transpose()
    }

    fn array(&self, name: &str, path: &'static str) -> Result<&[Tree<'a>], Rejection> {
        self.get(name).map_or(Ok(&[]), |value| value.array(path))
    }
}

fn not_json(text: &str, error: &serde_json::Error) -> Rejection {
    // `serde_json` has no other sign of it.
    if error.to_string().starts_with("recursion limit exceeded") {
        return Rejection::TooDeep;
    }
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    Rejection::NotJson { at: (before + error.column()).saturating_sub(1).min(text.len()) }
}

impl<'de: 'a, 'a> Deserialize<'de> for Tree<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

/// A key, borrowed where it can be.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Text<'a>);

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Tree<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Tree::Boolean)
    }

    // Numbers are read as dates only, which an `f64` holds to the microsecond.

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Tree::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Tree::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Tree::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Tree::String(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Tree::String(Cow::Borrowed(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(Key(name)) = map.next_key()? {
            fields.push((name, map.next_value()?));
        }
        Ok(Tree::Object(Fields(fields)))
    }
}
