//! Telling people through SNS, and programs through EventBridge.
//!
//! A message and an event go out at least once. The message to people goes first; if the event then fails, both are sent again, with
//! the same ids, so that a program that must not act twice can recognise them. The same copy of the function remembers what it has sent, so
//! that people get no second mail only because something else keeps failing.
//!
//! SNS: `Subject` is the title, `Message` the text; the attributes `kind`, `id`, `subject`, `subjects` (all whom the message
//! is about, as a `String.Array`) and, where the message has one, `level` let people filter their subscription ("Amazon SNS
//! message filtering").
//! Chat: a topic of its own, if there is one, gets the same as a custom notification of Amazon Q Developer in chat
//! applications (module `chat`): e-mail has to stay plain text.
//! EventBridge: source `ses-breaker`, detail-type the kind, detail the notice's own JSON with its `id`, and with `group`, the
//! id of the message that tells people of it. `infra/events.schema.json` describes the events.

use reputation::detect::Level;
use std::borrow::Cow;

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sns::types::MessageAttributeValue;
use pipeline::notice::{Alerts, Message, Notice, Place};
use pipeline::ports::{Disposition, PortError};
use serde_json::{Map, Value};

use crate::clients::{Clients, disposition, port_error};
use crate::config;

mod chat;

/// Source of our events; the role of the enforcer may put no others.
pub const SOURCE: &str = "ses-breaker";

/// SNS takes 256 KiB with attributes, EventBridge took as much before it took 1 MB, and so do many of their targets.
/// Room is left for attributes and envelope.
const LIMIT: usize = 240 * 1024;

/// What remains of each text of an event that would be too large.
const EXCERPT: usize = 1024;

/// Sends messages to topics, and notices to an event bus.
#[derive(Debug)]
pub struct SnsAlerts {
    topic: Option<(aws_sdk_sns::Client, String)>,
    chat: Option<(aws_sdk_sns::Client, String)>,
    bus: Option<(aws_sdk_eventbridge::Client, String)>,
    place: Place,
    /// The last message that was published to the topic, and to that for chat: what comes again was held up by the rest of
    /// its alert.
    sent: [Option<String>; 2],
}

impl SnsAlerts {
    /// Sends to the topic with this ARN and to the event bus with this name or ARN. Without either, notices go nowhere
    /// and count as sent. Commands name the stack that this function belongs to, and the Region of the clients.
    pub fn new(clients: &Clients, topic: Option<String>, bus: Option<String>) -> SnsAlerts {
        let region = clients.config().region().map(ToString::to_string).unwrap_or_default();
        SnsAlerts {
            topic: topic.map(|arn| (clients.sns(), arn)),
            chat: None,
            bus: bus.map(|name| (clients.eventbridge(), name)),
            place: Place { stack: config::stack(), region, runbook: String::new() },
            sent: [None, None],
        }
    }

    /// Sends to a topic for chat, too.
    #[must_use]
    pub fn with_chat(mut self, clients: &Clients, topic: Option<String>) -> SnsAlerts {
        self.chat = topic.map(|arn| (clients.sns(), arn));
        self
    }

    /// Messages lead to the runbook at this address; to its place in the source if it is empty.
    #[must_use]
    pub fn with_runbook(mut self, address: &str) -> SnsAlerts {
        address.clone_into(&mut self.place.runbook);
        self
    }

    /// Commands name this stack.
    #[must_use]
    pub fn of_stack(mut self, stack: &str) -> SnsAlerts {
        stack.clone_into(&mut self.place.stack);
        self
    }
}

impl Alerts for SnsAlerts {
    async fn write(&mut self, message: &Message) -> Result<(), PortError> {
        let [sent, sent_to_chat] = &mut self.sent;
        if let Some((client, topic)) = &self.topic
            && sent.as_ref() != Some(&message.id)
        {
            publish(client, topic, message, &self.place).await?;
            *sent = Some(message.id.clone());
        }
        if let Some((client, topic)) = &self.chat
            && sent_to_chat.as_ref() != Some(&message.id)
        {
            // What chat refuses must not hold up the mail about the next incident.
            let refused = |error: PortError| match error.disposition {
                Disposition::Halt => PortError { disposition: Disposition::Quarantine, ..error },
                Disposition::Retry | Disposition::Quarantine => error,
            };
            publish_to_chat(client, topic, message, &self.place).await.map_err(refused)?;
            *sent_to_chat = Some(message.id.clone());
        }
        Ok(())
    }

    async fn report(&mut self, notice: &Notice, alert: &str) -> Result<(), PortError> {
        if let Some((client, bus)) = &self.bus {
            put(client, bus, notice, &Detail::of(notice, alert)).await?;
        }
        Ok(())
    }
}

async fn publish(client: &aws_sdk_sns::Client, topic: &str, message: &Message, place: &Place) -> Result<(), PortError> {
    const OPERATION: &str = "publish an alert";
    let text = message.text(place);
    let mut request = client.publish().topic_arn(topic).subject(&message.title).message(cut(&text, LIMIT));
    let subjects = Value::from(message.subjects.clone()).to_string();
    for (name, kind, value) in [
        ("kind", "String", message.kind.as_str()),
        ("id", "String", &message.id),
        ("level", "String", message.level.map_or("", Level::name)),
        ("subject", "String", &message.subject),
        ("subjects", "String.Array", if message.subjects.is_empty() { "" } else { &subjects }),
    ] {
        // SNS refuses an empty attribute.
        if value.is_empty() {
            continue;
        }
        let value = MessageAttributeValue::builder().data_type(kind).string_value(value).build();
        request = request.message_attributes(name, value.map_err(|error| misbuilt(OPERATION, &error))?);
    }
    request.send().await.map(drop).map_err(|error| port_error(OPERATION, &error))
}

async fn publish_to_chat(
    client: &aws_sdk_sns::Client,
    topic: &str,
    message: &Message,
    place: &Place,
) -> Result<(), PortError> {
    let notification = chat::notification(message, place).to_string();
    let request = client.publish().topic_arn(topic).message(notification);
    request.send().await.map(drop).map_err(|error| port_error("publish an alert to chat", &error))
}

async fn put(
    client: &aws_sdk_eventbridge::Client,
    bus: &str,
    notice: &Notice,
    detail: &Detail,
) -> Result<(), PortError> {
    const OPERATION: &str = "put an event";
    let entry = PutEventsRequestEntry::builder()
        .event_bus_name(bus)
        .source(SOURCE)
        .detail_type(notice.kind)
        .detail(detail.json())
        .build();
    let answer = client.put_events().entries(entry).send().await.map_err(|error| port_error(OPERATION, &error))?;
    if answer.failed_entry_count() == 0 {
        return Ok(());
    }
    let failed = answer.entries().iter().find(|entry| entry.error_code().is_some());
    let code = failed.and_then(|entry| entry.error_code());
    let message = failed.and_then(|entry| entry.error_message()).unwrap_or("no message");
    let reason = format!("{}: {message} (bus {bus})", code.unwrap_or("no code"));
    Err(PortError { operation: OPERATION, reason, disposition: disposition(code, None) })
}

fn misbuilt(operation: &'static str, error: &dyn std::error::Error) -> PortError {
    PortError { operation, reason: error.to_string(), disposition: Disposition::Quarantine }
}

/// The detail of a notice, with its id and that of its alert.
struct Detail(Map<String, Value>);

impl Detail {
    fn of(notice: &Notice, alert: &str) -> Detail {
        let mut members = match serde_json::from_str(&notice.detail) {
            Ok(Value::Object(members)) => members,
            // A notice has a JSON object; anything else is sent as it is.
            Ok(_) | Err(_) => Map::from_iter([("detail".to_owned(), Value::from(notice.detail.clone()))]),
        };
        members.insert("id".to_owned(), Value::from(notice.id.clone()));
        members.insert("group".to_owned(), Value::from(alert));
        Detail(members)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// The event's detail: JSON that fits. If it would not, lists and objects are left out, texts are cut, and
    /// `"cut": true` says so.
    fn json(&self) -> String {
        let json = Value::Object(self.0.clone()).to_string();
        if json.len() <= LIMIT {
            return json;
        }
        let mut members = Map::from_iter([("cut".to_owned(), Value::Bool(true))]);
        let mut length = 0;
        for (name, value) in &self.0 {
            let value = match value {
                Value::String(text) => Value::from(cut(text, EXCERPT)),
                Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
                Value::Array(_) | Value::Object(_) => continue,
            };
            // At most twelve times as long once it is JSON: an escape takes six bytes, and this is printed in one.
            length += 6 * (name.len() + EXCERPT);
            if length > LIMIT {
                break;
            }
            members.insert(name.clone(), value);
        }
        for name in ["id", "group"] {
            members.insert(name.to_owned(), Value::from(self.text(name).unwrap_or_default()));
        }
        Value::Object(members).to_string()
    }
}

/// The beginning of a text, at most `bytes` bytes of UTF-8, and a mark if something is missing.
fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    const MARK: &str = " [cut]";
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(limit.saturating_sub(MARK.len()));
    Cow::Owned(format!("{}{MARK}", &text[..end]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn notice(text: &str, detail: &str) -> Notice {
        Notice {
            id: "0001".to_owned(),
            title: "title".to_owned(),
            text: text.to_owned(),
            kind: Notice::TRANSITION,
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn a_detail_carries_the_ids_of_its_notice_and_its_alert() {
        for (detail, expected) in [
            (
                r#"{"subject":"account","level":null}"#,
                r#"{"group":"0000","id":"0001","level":null,"subject":"account"}"#,
            ),
            ("{}", r#"{"group":"0000","id":"0001"}"#),
            ("", r#"{"detail":"","group":"0000","id":"0001"}"#),
            ("[1]", r#"{"detail":"[1]","group":"0000","id":"0001"}"#),
        ] {
            let read: Value = serde_json::from_str(&Detail::of(&notice("", detail), "0000").json()).unwrap();
            assert_eq!(read, serde_json::from_str::<Value>(expected).unwrap());
        }
    }

    #[test]
    fn a_detail_that_is_too_large_keeps_the_beginnings_of_its_texts() {
        let detail = serde_json::json!({ "reason": "ü\u{1}".repeat(LIMIT), "controls": [1, 2], "rate": 0.5 });
        let json = Detail::of(&notice("", &detail.to_string()), "0000").json();
        let read: Value = serde_json::from_str(&json).unwrap();
        assert!(json.len() <= LIMIT);
        assert_eq!((&read["cut"], &read["id"], &read["rate"]), (&Value::Bool(true), &"0001".into(), &0.5.into()));
        assert!(read["reason"].as_str().is_some_and(|text| text.starts_with('ü') && text.ends_with(" [cut]")));
        assert!(read.get("controls").is_none());
    }

    proptest! {
        #[test]
        fn a_text_is_cut_between_letters(text in "\\PC{0,60}", limit in 6_usize..80) {
            let cut = cut(&text, limit);
            prop_assert!(cut.len() <= limit);
            prop_assert!(text.starts_with(cut.strip_suffix(" [cut]").unwrap_or(&cut)) || cut == text);
        }
    }
}
