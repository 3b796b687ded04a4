//! Mail, and the events that SES publishes about it.

use reputation::time::Now;
use serde_json::{Value, json};

/// A mail that SES has accepted.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Its number in the account, from 1.
    pub number: u64,
    /// Its configuration set.
    pub set: &'static str,
    /// The domain that it comes from.
    pub identity: &'static str,
    /// The domain of its recipient.
    pub domain: String,
    /// When SES accepted it.
    pub accepted: Now,
}

/// What became of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// SES tries to deliver it.
    Sent,
    /// Delivered.
    Delivered,
    /// No such mailbox.
    Hard,
    /// The mailbox is full.
    Soft,
    /// The ISP refuses it because of the sender.
    Refused,
    /// The ISP is slow.
    Delayed,
    /// The ISP puts it off because of the sender.
    PutOff,
    /// The recipient reports it as spam.
    Complaint,
}

impl Fact {
    /// The counters that it is counted by.
    pub fn counters(self) -> &'static [&'static str] {
        match self {
            Fact::Sent => &["sent"],
            Fact::Delivered => &["delivered"],
            Fact::Hard => &["hard_bounces"],
            Fact::Soft => &["soft_bounces"],
            Fact::Refused => &["refused_bounces", "blocks"],
            Fact::Delayed => &["delays"],
            Fact::PutOff => &["delays", "blocks"],
            Fact::Complaint => &["complaints"],
        }
    }

    /// The event that SES publishes: its type, its member, and what is in that.
    fn published(self, mail: &Mail, to: &str, at: Now) -> (&'static str, &'static str, Value) {
        let feedback = format!("0100-{:012}", mail.number);
        let bounce = |kind: &str, subtype: &str, status: &str, diagnosis: &str| {
            json!({ "feedbackId": feedback, "bounceType": kind, "bounceSubType": subtype, "timestamp": at.to_string(),
                "bouncedRecipients": [{ "emailAddress": to, "action": "failed", "status": status,
                    "diagnosticCode": format!("smtp; {diagnosis}") }] })
        };
        let delay = |kind: &str, status: &str, diagnosis: &str| {
            json!({ "timestamp": at.to_string(), "delayType": kind,
                "delayedRecipients": [{ "emailAddress": to, "status": status,
                    "diagnosticCode": format!("smtp; {diagnosis}") }] })
        };
        match self {
            Fact::Sent => ("Send", "send", json!({})),
            Fact::Delivered => {
                let took = (at.0 - mail.accepted.0).max(0);
                let delivery = json!({ "timestamp": at.to_string(), "processingTimeMillis": took, "recipients": [to],
                    "smtpResponse": "250 2.0.0 taken" });
                ("Delivery", "delivery", delivery)
            }
            Fact::Hard => {
                let text = "550 5.1.1 mailbox is not known";
                ("Bounce", "bounce", bounce("Permanent", "General", "5.1.1", text))
            }
            Fact::Soft => {
                let text = "452 4.2.2 this mailbox has no room left";
                ("Bounce", "bounce", bounce("Transient", "MailboxFull", "4.2.2", text))
            }
            Fact::Refused => {
                let text = "550 5.7.1 mail from this network is blocked by policy (S3150)";
                ("Bounce", "bounce", bounce("Permanent", "General", "5.7.1", text))
            }
            Fact::Delayed => {
                let text = "451 4.4.1 busy now, try again later";
                ("DeliveryDelay", "deliveryDelay", delay("TransientCommunicationFailure", "4.4.1", text))
            }
            Fact::PutOff => {
                let text = "421 4.7.0 rate of mail from this sender is limited because of its reputation";
                ("DeliveryDelay", "deliveryDelay", delay("General", "4.7.0", text))
            }
            Fact::Complaint => {
                let complaint = json!({ "feedbackId": feedback, "complaintSubType": null, "timestamp": at.to_string(),
                    "complaintFeedbackType": "abuse", "complainedRecipients": [{ "emailAddress": to }] });
                ("Complaint", "complaint", complaint)
            }
        }
    }

    /// The event about a mail, as SES publishes it.
    pub fn event(self, mail: &Mail, at: Now) -> String {
        let Mail { number, set, identity, domain, accepted } = mail;
        let to = format!("reader{number}@{domain}");
        let (kind, member, what) = self.published(mail, &to, at);
        json!({
            "eventType": kind,
            "mail": {
                "timestamp": accepted.to_string(), "messageId": format!("0102{number:012}-demo"),
                "source": format!("hello@{identity}"), "destination": [to],
                "tags": { "ses:configuration-set": [set], "ses:from-domain": [identity] },
            },
            member: what,
        })
        .to_string()
    }
}
