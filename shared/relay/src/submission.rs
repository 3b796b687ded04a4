//! Mail that came over SMTP, handed to SES as raw mail by API v2.
//!
//! `Destination` has the envelope's recipients, all as blind copies: SES delivers to them and not to those of the header,
//! and whatever it does with a visible list, none of them is shown to another. `FromEmailAddress` is left out where the mail
//! has a `From` field, because SES would replace that field, and the name in it, by the bare address.

use std::pin::Pin;

use bytes::Bytes;
use serde_json::json;

use crate::accept::{Accept, Message, Reply};
use crate::answer::{Fault, code_of};
use crate::forward::{Forward, SetPlace};
use crate::mail::{CLASS_FIELD, Mail, SET_FIELD, Said, TAGS_FIELD};
use crate::mime::Header;
use crate::raw;
use crate::relay::{Done, Relay, Target};
use crate::v2::SEND;

/// As in labels and logs.
const OPERATION: &str = "smtp";

impl Accept for Relay {
    fn accept(&self, message: Message) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        Box::pin(async move {
            let (mail, body) = match read(self, &message) {
                Ok(read) => read,
                Err(fault) => {
                    self.metrics().rejected(OPERATION, "malformed");
                    return reply(&Done::Fault(fault));
                }
            };
            drop(message);
            let end = body.len() - 1;
            let set = SetPlace { place: end..end, before: ",\"ConfigurationSetName\":\"", after: "\"" };
            let forward = Forward { body: Bytes::from(body), set, field: None };
            let target = Target { path: SEND, content_type: "application/json".to_owned() };
            reply(&self.send_one(OPERATION, target, &mail, forward).await.0)
        })
    }
}

/// The mail, and a request for SendEmail that names no configuration set yet.
fn read(relay: &Relay, message: &Message) -> Result<(Mail, String), Fault> {
    let malformed = |error: &dyn std::fmt::Display| Fault::Malformed(error.to_string());
    let content = &message.content;
    let header = Header::parse(content).map_err(|error| malformed(&error))?;
    let mut said = Said::default();
    for recipient in &message.recipients {
        said.to.add_one(recipient).map_err(|error| malformed(&error))?;
    }
    said.complete(content, &header, &relay.rules().class_tag).map_err(|error| malformed(&error))?;
    let has_author = said.from.is_some();
    if !has_author {
        said.from = Some(message.from.clone());
    }
    let mail = relay.rules().judge(said).map_err(|error| malformed(&error))?;
    let tags = header.one(content, TAGS_FIELD).map_err(|error| malformed(&error))?.unwrap_or_default();
    let tags: Vec<_> = tags
        .split([',', ';'])
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| json!({ "Name": name.trim(), "Value": value.trim() }))
        .collect();
    // What the request says is not said twice; and a list of blind copies is for nobody to see.
    let kept = header.without(content, &[SET_FIELD, TAGS_FIELD, CLASS_FIELD, "Bcc"]);
    let mut request = json!({
        "Content": { "Raw": { "Data": raw::encoded(&kept) } },
        "Destination": { "BccAddresses": message.recipients },
    });
    if !has_author {
        request["FromEmailAddress"] = json!(message.from);
    }
    if !tags.is_empty() {
        request["EmailTags"] = json!(tags);
    }
    Ok((mail, request.to_string()))
}

/// What the client of SMTP is answered. It repeats what has a code of 4xx, and gives up on 5xx.
fn reply(done: &Done) -> Reply {
    let (code, status, text) = match done {
        Done::Answered(answer) if answer.status().is_success() => {
            let id = serde_json::from_slice::<serde_json::Value>(answer.body()).ok();
            let id = id.as_ref().and_then(|answer| answer["MessageId"].as_str()).unwrap_or_default();
            (250, "2.0.0", format!("Ok {id}"))
        }
        Done::Answered(answer) => {
            let code = code_of(answer).unwrap_or_else(|| answer.status().to_string());
            match answer.status().as_u16() {
                // A stop ends; a mailer keeps its mail for days.
                400 if code.ends_with("SendingPausedException") => (451, "4.7.1", code),
                429 => (454, "4.7.0", format!("Throttling failure: {code}")),
                408 | 500..=599 => (451, "4.3.0", code),
                _ => (554, "5.0.0", format!("Transaction failed: {code}")),
            }
        }
        Done::Fault(fault) => match fault {
            Fault::Deferred { .. } => (451, "4.7.1", fault.message()),
            Fault::Malformed(text) | Fault::Unsupported(text) => (554, "5.6.0", text.clone()),
            Fault::TooLarge(text) => (552, "5.3.4", text.clone()),
            Fault::Slow | Fault::Unavailable(_) => (451, "4.3.0", fault.message()),
        },
    };
    let text = text.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).take(400).collect();
    Reply { code, status, text }
}
