//! Telling people through SNS, and programs through EventBridge.
//!
//! A notice goes out at least once. People are told first; if the event then fails, the notice is sent again, with the
//! same id in the message attributes and in the event, so that whoever must not act twice can tell. The same copy of the
//! function remembers whom it has told, so that people get no second mail only because EventBridge keeps failing.
//!
//! SNS: `Subject` is the title, `Message` the text; the attributes `kind`, `id`, and, where the notice has them,
//! `level` and `subject` let people filter their subscription ("Amazon SNS message filtering").
//! EventBridge: source `ses-breaker`, detail-type the kind, detail the notice's own JSON with its `id`.

use std::borrow::Cow;

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sns::types::MessageAttributeValue;
use pipeline::notice::{Alerts, Notice};
use pipeline::ports::{Disposition, PortError};
use serde_json::{Map, Value};

use crate::clients::{Clients, disposition, port_error};

/// Source of our events; the role of the enforcer may put no others.
pub const SOURCE: &str = "ses-breaker";

/// SNS takes 256 KiB with attributes, EventBridge took as much before it took 1 MB, and so do many of their targets.
/// Room is left for attributes and envelope.
const LIMIT: usize = 240 * 1024;

/// What remains of each text of an event that would be too large.
const EXCERPT: usize = 1024;

/// Sends notices to a topic, an event bus, or both.
#[derive(Debug)]
pub struct SnsAlerts {
    topic: Option<(aws_sdk_sns::Client, String)>,
    bus: Option<(aws_sdk_eventbridge::Client, String)>,
    /// The notice that people have been told of and programs not.
    half: Option<String>,
}

impl SnsAlerts {
    /// Sends to the topic with this ARN and to the event bus with this name or ARN. Without either, notices go nowhere
    /// and count as sent.
    pub fn new(clients: &Clients, topic: Option<String>, bus: Option<String>) -> SnsAlerts {
        SnsAlerts {
            topic: topic.map(|arn| (clients.sns(), arn)),
            bus: bus.map(|name| (clients.eventbridge(), name)),
            half: None,
        }
    }
}

impl Alerts for SnsAlerts {
    async fn send(&mut self, notice: &Notice) -> Result<(), PortError> {
        let detail = Detail::of(notice);
        if let Some((client, topic)) = &self.topic
            && self.half.as_ref() != Some(&notice.id)
        {
            publish(client, topic, notice, &detail).await?;
            self.half = Some(notice.id.clone());
        }
        if let Some((client, bus)) = &self.bus {
            put(client, bus, notice, &detail).await?;
        }
        self.half = None;
        Ok(())
    }
}

async fn publish(client: &aws_sdk_sns::Client, topic: &str, notice: &Notice, detail: &Detail) -> Result<(), PortError> {
    // SNS refuses an empty message.
    let text = if notice.text.is_empty() { &notice.title } else { &notice.text };
    let mut request = client.publish().topic_arn(topic).subject(&notice.title).message(cut(text, LIMIT));
    let told = [("kind", Some(notice.kind)), ("id", Some(notice.id.as_str()))];
    for (name, value) in told.into_iter().chain(["level", "subject"].map(|name| (name, detail.text(name)))) {
        // SNS refuses an empty attribute, too.
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
        request = request.message_attributes(name, value.map_err(|error| misbuilt("publish an alert", &error))?);
    }
    request.send().await.map(drop).map_err(|error| port_error("publish an alert", &error))
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

/// The detail of a notice, with its id.
struct Detail(Map<String, Value>);

impl Detail {
    fn of(notice: &Notice) -> Detail {
        let mut members = match serde_json::from_str(&notice.detail) {
            Ok(Value::Object(members)) => members,
            // A notice has a JSON object; whatever else it has is told all the same.
            Ok(_) | Err(_) => Map::from_iter([("detail".to_owned(), Value::from(notice.detail.clone()))]),
        };
        members.insert("id".to_owned(), Value::from(notice.id.clone()));
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
        members.insert("id".to_owned(), Value::from(self.text("id").unwrap_or_default()));
        Value::Object(members).to_string()
    }
}

/// The beginning of a text, at most so many bytes of UTF-8, and a mark if something is missing.
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
    fn a_detail_carries_the_id_of_its_notice() {
        for (detail, expected) in [
            (r#"{"subject":"account","level":null}"#, r#"{"id":"0001","level":null,"subject":"account"}"#),
            ("{}", r#"{"id":"0001"}"#),
            ("", r#"{"detail":"","id":"0001"}"#),
            ("[1]", r#"{"detail":"[1]","id":"0001"}"#),
        ] {
            let read: Value = serde_json::from_str(&Detail::of(&notice("", detail)).json()).unwrap();
            assert_eq!(read, serde_json::from_str::<Value>(expected).unwrap());
        }
    }

    #[test]
    fn a_detail_that_is_too_large_keeps_the_beginnings_of_its_texts() {
        let detail = serde_json::json!({ "reason": "ü\u{1}".repeat(LIMIT), "controls": [1, 2], "rate": 0.5 });
        let json = Detail::of(&notice("", &detail.to_string())).json();
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
