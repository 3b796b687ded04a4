//! What an event means, field by field.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::decoded::{Decoded, Ignored};
use crate::event::{
    Bounce, Complaint, Delivery, DeliveryDelay, Detail, Engagement, Event, FailedRecipient, Few, Mail, Origin,
};
use crate::kind::Kind;
use crate::rejection::{JsonType, Rejection, excerpt};
use crate::text::Text;
use crate::tree::{Fields, Tree};
use crate::{Tags, Timestamp};

pub(crate) fn event<'t>(event: &'t Fields<'_>, published_at: Option<Timestamp>) -> Result<Decoded<'t>, Rejection> {
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
    Ok(Decoded::Event(Event { origin, mail, detail, published_at, unreadable_dates, unreadable_recipients }))
}

/// Counts the parts of an event that are left out because they cannot be read; the rest is kept.
#[derive(Default)]
struct Unreadable {
    dates: u8,
    recipients: u8,
}

impl Unreadable {
    /// A date of the detail: another server's clock and format.
    fn date(&mut self, detail: &Fields<'_>) -> Option<Timestamp> {
        let written = detail.get("timestamp")?;
        let date = written.timestamp();
        if date.is_none() {
            self.dates = self.dates.saturating_add(1);
        }
        date
    }

    /// The items of a list, without those that `read` cannot read; none if it is not a list.
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
        return Err(Rejection::Invalid { path: "mail.messageId", expected: "message id", excerpt: excerpt("") });
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

/// The date that decides the cohort of the mail: without it nothing can be counted.
fn accepted(written: &Tree<'_>) -> Result<Timestamp, Rejection> {
    const PATH: &str = "mail.timestamp";
    let invalid = |shown: &str| Rejection::Invalid { path: PATH, expected: "timestamp", excerpt: excerpt(shown) };
    written.timestamp().ok_or_else(|| match written {
        Tree::String(text) => invalid(text),
        Tree::Number(number) => invalid(&number.to_string()),
        Tree::Null | Tree::Boolean(_) | Tree::Array(_) | Tree::Object(_) => written.wrong_type(JsonType::String, PATH),
    })
}

/// Name and first value of each tag, in the order of the document; of a duplicate name, the last one.
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

/// A recipient without an address stays: its delivery failed, and its status and diagnostic text give the reason.
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

pub(crate) fn required<T>(value: Option<T>, path: &'static str) -> Result<T, Rejection> {
    value.ok_or(Rejection::Absent { path })
}

static EMPTY: Fields<'static> = Fields(Vec::new());
