//! Carriers: takes documents out of whatever carries them. [`crate::reference`] has the table.
//!
//! **Invariant:** a function that fails has not emitted anything, so each failure is emitted exactly once, by its caller.

use serde::de::IgnoredAny;

use crate::context::{Carried, Sink};
use crate::decoded::{Decoded, Ignored};
use crate::meaning::{event, required};
use crate::payload::{VALIDATION_NOTICE, stamped, unpack};
use crate::rejection::{JsonType, Rejection};
use crate::tree::{Fields, Tree, error_at, not_json};
use crate::{MAX_ENVELOPES, MAX_EVENT, Timestamp};

/// How deep lists may be nested in each other, counting all envelopes.
const MAX_LISTS: usize = 8;

pub(crate) fn text(text: &str, carried: Carried, sink: &mut Sink<'_>) {
    let result = try_text(text, carried, sink);
    emit_error(result, sink);
}

/// Emits the error, if there is one.
fn emit_error(result: Result<(), Rejection>, sink: &mut Sink<'_>) {
    if let Err(rejection) = result {
        sink.emit(Decoded::Rejected(rejection));
    }
}

fn try_text(text: &str, carried: Carried, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    if carried.envelopes > MAX_ENVELOPES {
        return Err(Rejection::TooManyEnvelopes);
    }
    // One record of SQS or SNS is one event, and no longer than that.
    if carried.alone && text.len() > MAX_EVENT {
        return Err(Rejection::TooLarge { size: text.len(), limit: MAX_EVENT });
    }
    if text.trim() == VALIDATION_NOTICE {
        sink.emit(Decoded::Ignored(Ignored::ValidationNotice));
        return Ok(());
    }
    if let Some((published_at, document)) = stamped(text)
        // Several lines may be one document too.
        && (!document.contains('\n') || serde_json::from_str::<IgnoredAny>(document).is_ok())
    {
        self::text(document, carried.inside(Some(published_at)), sink);
        return Ok(());
    }
    if !carried.alone && is_log(text.trim_ascii()) {
        return texts(text, carried, sink);
    }
    let tree: Tree<'_> = serde_json::from_str(text).map_err(|error| not_json(text, &error))?;
    whole(text, &tree, carried, sink)
}

/// Several lines, of which the first begins with a date.
fn is_log(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.contains('\n')
        && text.split_ascii_whitespace().next().and_then(Timestamp::parse_any).is_some()
}

/// The tree of a whole text.
fn whole(text: &str, tree: &Tree<'_>, carried: Carried, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    let may_be_long = match tree {
        Tree::Object(document) => Shape::of(document).is_some_and(Shape::may_be_long),
        Tree::Array(_) => true,
        Tree::Null | Tree::Boolean(_) | Tree::Number(_) | Tree::String(_) => false,
    };
    if text.len() > MAX_EVENT && !may_be_long {
        return Err(Rejection::TooLarge { size: text.len(), limit: MAX_EVENT });
    }
    value(tree, carried, sink)
}

/// How many failed walks over a text are allowed while its documents are searched.
const MAX_VAIN_WALKS: usize = 4;

/// The documents in one text, one after the other. After an error everything is skipped up to the next line that begins
/// like a document.
fn texts(text: &str, carried: Carried, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    if carried.envelopes > MAX_ENVELOPES {
        return Err(Rejection::TooManyEnvelopes);
    }
    let mut rest = text.trim_ascii();
    let mut in_vain = 0;
    let mut is_first = true;
    while is_first || !rest.is_empty() {
        let mut documents = serde_json::Deserializer::from_str(rest).into_iter::<Tree<'_>>();
        // A line of a log begins with a date, which may be a number.
        let is_line = rest.starts_with(|c: char| c.is_ascii_digit());
        let (tree, length) = match if is_line { None } else { documents.next() } {
            Some(Ok(tree)) => (Some(tree), documents.byte_offset()),
            Some(Err(error)) => {
                in_vain += error_at(rest, &error);
                // Otherwise a hostile text could force a walk to its end from each of its lines.
                let may_go_on = in_vain / MAX_VAIN_WALKS <= text.len();
                (None, if may_go_on { up_to_next_document(rest) } else { rest.len() })
            }
            None => (None, up_to_next_document(rest)),
        };
        let (document, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        let after = after.trim_ascii();
        // The first round decides for all rounds, so nothing fails after something was emitted.
        let carried = if is_first && after.is_empty() { carried } else { carried.in_list()? };
        let result = match &tree {
            Some(tree) => whole(document, tree, carried, sink),
            None => try_text(document, carried, sink),
        };
        emit_error(result, sink);
        (rest, is_first) = (after, false);
    }
    Ok(())
}

fn up_to_next_document(text: &str) -> usize {
    let begins = |line: &str| line.starts_with(|c: char| "{[".contains(c) || c.is_ascii_digit());
    // A line of a log is one line.
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.find('\n').unwrap_or(text.len());
    }
    let is_break = |at: &usize| text.get(at + 1..).is_some_and(begins);
    text.match_indices('\n').map(|(at, _)| at).find(is_break).unwrap_or(text.len())
}

fn value(tree: &Tree<'_>, carried: Carried, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    match tree {
        Tree::Object(document) => object(document, carried, sink),
        // A list of numbers, for example, is one error, not one for each number.
        Tree::Array(items) if !items.is_empty() && !items.iter().any(can_be_document) => Err(Rejection::NoEvent),
        Tree::Array(items) => list(items, carried, sink, value),
        Tree::String(document) if is_document(document) => {
            text(document, carried.inside(None), sink);
            Ok(())
        }
        Tree::Null | Tree::Boolean(_) | Tree::Number(_) | Tree::String(_) => Err(Rejection::NoEvent),
    }
}

/// Whether a text can only be a document, or the JSON text of one.
fn is_document(text: &str) -> bool {
    let begins = text.trim_start().trim_start_matches(['"', '\\']);
    begins.starts_with(['{', '[']) || text.trim() == VALIDATION_NOTICE || stamped(text).is_some()
}

/// Decodes each item separately: a bad item does not affect its neighbours.
fn list(
    items: &[Tree<'_>],
    carried: Carried,
    sink: &mut Sink<'_>,
    read: fn(&Tree<'_>, Carried, &mut Sink<'_>) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    let carried = carried.in_list()?;
    if items.is_empty() {
        sink.emit(Decoded::Ignored(Ignored::EmptyBatch));
    }
    for item in items {
        let result = read(item, carried, sink);
        emit_error(result, sink);
    }
    Ok(())
}

impl Carried {
    /// As one item of a list.
    fn in_list(self) -> Result<Self, Rejection> {
        if self.alone {
            return Err(Rejection::Several);
        }
        if self.lists == MAX_LISTS {
            return Err(Rejection::TooManyEnvelopes);
        }
        Ok(Self { lists: self.lists + 1, ..self })
    }
}

/// The shapes of an object, in their order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Event,
    EventBridge,
    Notification,
    /// What Lambda gets from SQS, SNS and Kinesis; what Kinesis and Firehose accept and return.
    Records,
    /// `aws sqs receive-message`
    Messages,
    /// A subscription of CloudWatch Logs.
    Subscription,
    /// The same as Lambda gets it.
    AwsLogs,
    /// `aws logs filter-log-events`, `aws logs get-log-events`
    LogEvents,
    /// `aws logs get-query-results`
    QueryResults,
    /// What Firehose sends to be transformed, and to HTTP endpoints.
    FirehoseRecords,
    /// A single record of any of these.
    Record,
    /// What Lambda could not process, as its failure destination gets it.
    Request,
}

impl Shape {
    fn of(document: &Fields<'_>) -> Option<Self> {
        let has = |key| document.get(key).is_some();
        let has_list = |key| matches!(document.get(key), Some(Tree::Array(_)));
        Some(if has("eventType") || has("notificationType") {
            Self::Event
        } else if has("detail-type") {
            Self::EventBridge
        } else if has("Type") {
            Self::Notification
        } else if has("Records") {
            Self::Records
        } else if has_list("Messages") {
            Self::Messages
        } else if has("logEvents") || is_control_message(document) {
            Self::Subscription
        } else if has("awslogs") {
            Self::AwsLogs
        } else if has_list("events") {
            Self::LogEvents
        } else if has_list("results") {
            Self::QueryResults
        } else if has_list("records") {
            Self::FirehoseRecords
        } else if Record::alone(document).is_some() {
            Self::Record
        } else if has("requestPayload") {
            Self::Request
        } else {
            return None;
        })
    }

    /// It may hold several events.
    fn may_be_long(self) -> bool {
        match self {
            Self::Event | Self::EventBridge | Self::Notification => false,
            Self::Records
            | Self::Messages
            | Self::Subscription
            | Self::AwsLogs
            | Self::LogEvents
            | Self::QueryResults
            | Self::FirehoseRecords
            | Self::Record
            | Self::Request => true,
        }
    }
}

fn object(document: &Fields<'_>, carried: Carried, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    if carried.envelopes > MAX_ENVELOPES {
        return Err(Rejection::TooManyEnvelopes);
    }
    match Shape::of(document) {
        Some(Shape::Event) => {
            sink.emit(event(document, carried.published_at)?);
            Ok(())
        }
        Some(Shape::EventBridge) => event_bridge(document, carried, sink),
        Some(Shape::Notification) => notification(document, carried, sink),
        Some(Shape::Records) => {
            let records = document.array("Records", "Records")?;
            match records.first() {
                // An S3 notification in a queue looks like a batch in a batch.
                Some(Tree::Object(first)) if carried.alone => Err(foreign(first).unwrap_or(Rejection::Several)),
                _ => list(records, carried, sink, batch_record),
            }
        }
        Some(Shape::Messages) => list(document.array("Messages", "Messages")?, carried, sink, |one, carried, to| {
            bare_record(one.object("Messages[]")?, carried, to, "Messages[].Body")
        }),
        Some(Shape::Subscription) => subscription(document, carried, sink),
        Some(Shape::AwsLogs) => {
            const PATH: &str = "awslogs.data";
            let data = required(document.get("awslogs"), "awslogs")?.object("awslogs")?.get("data");
            Payload::Base64.read(required(data, PATH)?, PATH, carried.inside(None), sink)
        }
        Some(Shape::LogEvents) => list(document.array("events", "events")?, carried, sink, |one, carried, to| {
            log_event(one, carried, to, ["events[]", "events[].message"])
        }),
        Some(Shape::QueryResults) => list(document.array("results", "results")?, carried, sink, query_result),
        Some(Shape::FirehoseRecords) => {
            list(document.array("records", "records")?, carried, sink, |one, carried, to| {
                bare_record(one.object("records[]")?, carried, to, "records[].data")
            })
        }
        Some(Shape::Record) => bare_record(document, carried, sink, "body"),
        Some(Shape::Request) => {
            let published_at = document.get("timestamp").and_then(Tree::timestamp);
            value(required(document.get("requestPayload"), "requestPayload")?, carried.inside(published_at), sink)
        }
        None => Err(foreign(document).unwrap_or(Rejection::NoEvent)),
    }
}

/// Records of carriers that are recognised and hold no event of a mail that was sent.
fn foreign(record: &Fields<'_>) -> Option<Rejection> {
    let (carrier, remedy) = if record.get("s3").is_some() {
        ("an S3 event notification", "read the objects that it names")
    } else if record.get("dynamodb").is_some() {
        ("a DynamoDB stream record", "read what SES published instead of a table")
    } else if record.get("ses").is_some() {
        ("a notification of SES about received mail", "only mail that was sent is counted")
    } else {
        return None;
    };
    Some(Rejection::NotRead { carrier, remedy })
}

/// How a carrier encodes its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    Text,
    /// Base64, possibly of gzip, possibly of several documents.
    Base64,
}

impl Payload {
    /// Reads the payload, which may already have been turned into JSON: `jq '.Body |= fromjson'`, EventBridge Pipes.
    fn read(
        self,
        payload: &Tree<'_>,
        path: &'static str,
        carried: Carried,
        sink: &mut Sink<'_>,
    ) -> Result<(), Rejection> {
        match payload {
            // A brace is not base64.
            Tree::String(encoded) if self == Self::Base64 && !is_document(encoded) => {
                let unpacked = unpack(encoded, path, sink.budget())?;
                texts(&unpacked, carried, sink)
            }
            Tree::String(document) => {
                text(document, carried, sink);
                Ok(())
            }
            Tree::Object(_) | Tree::Array(_) => value(payload, carried, sink),
            Tree::Null | Tree::Boolean(_) | Tree::Number(_) => Err(payload.wrong_type(JsonType::String, path)),
        }
    }
}

/// The payload of a single record of a carrier.
struct Record<'t, 'a> {
    tree: &'t Tree<'a>,
    payload: Payload,
    path: &'static str,
    published_at: Option<Timestamp>,
}

impl<'t, 'a> Record<'t, 'a> {
    /// A record of a list of such records: the field with the payload is enough.
    fn listed(record: &'t Fields<'a>) -> Option<Self> {
        let date = |key: &str| record.get(key).and_then(Tree::timestamp);
        let sent = |attributes: &str| match record.get(attributes)? {
            Tree::Object(attributes) => Timestamp::parse_millis(&attributes.get("SentTimestamp")?.as_text()?),
            Tree::Null | Tree::Boolean(_) | Tree::Number(_) | Tree::String(_) | Tree::Array(_) => None,
        };
        let of = |tree, payload, path, published_at| Some(Self { tree, payload, path, published_at });
        // A function URL and an API gateway encode bodies as base64 if they may be binary.
        let body = match record.get("isBase64Encoded") {
            Some(Tree::Boolean(true)) => Payload::Base64,
            Some(_) | None => Payload::Text,
        };
        if let Some(tree) = record.get("body") {
            return of(tree, body, "body", sent("attributes"));
        }
        if let Some(tree) = record.get("Body") {
            return of(tree, body, "Body", sent("Attributes"));
        }
        if let Some(Tree::Object(kinesis)) = record.get("kinesis") {
            let published_at = kinesis.get("approximateArrivalTimestamp").and_then(Tree::timestamp);
            return of(kinesis.get("data")?, Payload::Base64, "kinesis.data", published_at);
        }
        if let Some(tree) = record.get("Data") {
            return of(tree, Payload::Base64, "Data", date("ApproximateArrivalTimestamp"));
        }
        if let Some(tree) = record.get("data") {
            return of(tree, Payload::Base64, "data", date("approximateArrivalTimestamp"));
        }
        if let Some(tree) = record.get("rawData") {
            return of(tree, Payload::Base64, "rawData", date("arrivalTimestamp"));
        }
        if let Some(tree) = record.get("@message") {
            return of(tree, Payload::Text, "@message", record.get("@timestamp").and_then(query_date));
        }
        of(record.get("message")?, Payload::Text, "message", date("timestamp"))
    }

    /// A record without its list: it must show where it comes from, because many documents have a `data` or a
    /// `message`.
    fn alone(document: &'t Fields<'a>) -> Option<Self> {
        let record = Self::listed(document)?;
        let has = |key| document.get(key).is_some();
        let is_it = match record.path {
            "Data" => has("PartitionKey") || has("SequenceNumber"),
            "data" => has("recordId") || has("kinesisSchemaVersion") || has("partitionKey"),
            "message" => has("timestamp") && can_be_document(record.tree),
            "body" | "Body" => {
                let is_encoded = record.payload == Payload::Base64;
                is_encoded || has("messageId") || has("MessageId") || can_be_document(record.tree)
            }
            _ => true,
        };
        is_it.then_some(record)
    }
}

/// An object, a list with one in it, or the text of either.
fn can_be_document(tree: &Tree<'_>) -> bool {
    match tree {
        Tree::Object(_) => true,
        Tree::Array(items) => items.iter().any(can_be_document),
        Tree::String(text) => is_document(text),
        Tree::Null | Tree::Boolean(_) | Tree::Number(_) => false,
    }
}

/// `2026-10-06 09:00:03.123`: CloudWatch Logs Insights writes UTC without a zone.
fn query_date(written: &Tree<'_>) -> Option<Timestamp> {
    written.timestamp().or_else(|| Timestamp::parse_any(&format!("{}Z", written.as_text()?)))
}

/// One of `Records`. Those of SQS and SNS give exactly one result each.
fn batch_record(record: &Tree<'_>, carried: Carried, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    const BODY: &str = "Records[].body";
    let fields = record.object("Records[]")?;
    if fields.get("body").is_none() {
        if let Some(sns) = fields.get("Sns") {
            return notification(sns.object("Records[].Sns")?, carried.alone(), sink);
        }
        return bare_record(fields, carried, sink, BODY);
    }
    let Some(Record { tree, published_at, .. }) = Record::listed(fields) else {
        return Err(Rejection::Absent { path: BODY });
    };
    Payload::Text.read(tree, BODY, carried.alone().inside(published_at), sink)
}

/// A record, or another document in a list of records.
fn bare_record(
    record: &Fields<'_>,
    carried: Carried,
    sink: &mut Sink<'_>,
    absent: &'static str,
) -> Result<(), Rejection> {
    // An event may have a field of any name.
    if let Some(Shape::Event | Shape::EventBridge | Shape::Notification) = Shape::of(record) {
        return object(record, carried, sink);
    }
    if let Some(Record { tree, payload, path, published_at }) = Record::listed(record) {
        return payload.read(tree, path, carried.inside(published_at), sink);
    }
    match Shape::of(record) {
        Some(_) => object(record, carried, sink),
        None if record.get("kinesis").is_some() => Err(Rejection::Absent { path: "kinesis.data" }),
        None => Err(foreign(record).unwrap_or(Rejection::Absent { path: absent })),
    }
}

fn log_event(
    event: &Tree<'_>,
    carried: Carried,
    sink: &mut Sink<'_>,
    [one, message]: [&'static str; 2],
) -> Result<(), Rejection> {
    if let Tree::String(_) | Tree::Array(_) = event {
        return value(event, carried, sink);
    }
    bare_record(event.object(one)?, carried, sink, message)
}

fn subscription(document: &Fields<'_>, carried: Carried, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    if is_control_message(document) {
        sink.emit(Decoded::Ignored(Ignored::ControlMessage));
        return Ok(());
    }
    list(document.array("logEvents", "logEvents")?, carried, sink, |one, carried, to| {
        log_event(one, carried, to, ["logEvents[]", "logEvents[].message"])
    })
}

/// Whether it is the message with which CloudWatch Logs tests that it can reach a destination.
fn is_control_message(document: &Fields<'_>) -> bool {
    document.get("messageType").and_then(Tree::as_text).as_deref() == Some("CONTROL_MESSAGE")
}

/// One row of an answer of CloudWatch Logs Insights: pairs of field and value.
fn query_result(row: &Tree<'_>, carried: Carried, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    let Tree::Array(pairs) = row else { return value(row, carried, sink) };
    let field = |name: &str| {
        pairs.iter().find_map(|pair| match pair {
            Tree::Object(pair) if pair.get("field")?.as_text()? == name => pair.get("value"),
            Tree::Null | Tree::Boolean(_) | Tree::Number(_) | Tree::String(_) | Tree::Array(_) | Tree::Object(_) => {
                None
            }
        })
    };
    const MESSAGE: &str = "results[].@message";
    let published_at = field("@timestamp").and_then(query_date);
    Payload::Text.read(required(field("@message"), MESSAGE)?, MESSAGE, carried.inside(published_at), sink)
}

fn notification(notification: &Fields<'_>, carried: Carried, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    match notification.text("Type", "Type")?.as_deref() {
        // The `Sns` of a Lambda record is a notification even without a `Type`.
        Some("Notification") | None => {}
        Some("SubscriptionConfirmation") => {
            sink.emit(Decoded::Ignored(Ignored::SubscriptionConfirmation));
            return Ok(());
        }
        Some("UnsubscribeConfirmation") => {
            sink.emit(Decoded::Ignored(Ignored::UnsubscribeConfirmation));
            return Ok(());
        }
        Some(_) => return Err(Rejection::NoEvent),
    }
    let message = required(notification.get("Message"), "Message")?;
    let published_at = notification.get("Timestamp").and_then(Tree::timestamp);
    Payload::Text.read(message, "Message", carried.inside(published_at), sink)
}

fn event_bridge(document: &Fields<'_>, carried: Carried, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    let detail_type = required(document.text("detail-type", "detail-type")?, "detail-type")?;
    let time = document.get("time").and_then(Tree::timestamp);
    let detail = document.get("detail");
    if let Some(Tree::Object(detail)) = detail
        && Shape::of(detail) == Some(Shape::Event)
    {
        sink.emit(event(detail, time.or(carried.published_at))?);
        return Ok(());
    }
    // These detail types are those of SES events, so the event is missing: an error. A pipe names where it took the
    // detail from.
    let is_of_ses = detail_type.starts_with("Email ");
    let is_of_a_pipe = detail_type.starts_with("Event from aws:");
    match detail {
        Some(detail) if is_of_a_pipe || holds_events(detail) => value(detail, carried.inside(time), sink),
        Some(_) | None if is_of_ses => Err(Rejection::Absent { path: "detail.eventType" }),
        None if is_of_a_pipe => Err(Rejection::Absent { path: "detail" }),
        Some(_) | None => {
            sink.emit(Decoded::Ignored(Ignored::other_detail_type(&detail_type)));
            Ok(())
        }
    }
}

/// Whether a detail of any type certainly holds SES events: details of other services have fields named `events`,
/// `Type` or `message`, too.
fn holds_events(detail: &Tree<'_>) -> bool {
    match detail {
        Tree::Object(fields) => match Shape::of(fields) {
            Some(Shape::Event | Shape::EventBridge) => true,
            Some(Shape::Notification) => {
                let form = fields.get("Type").and_then(Tree::as_text);
                form.as_deref() == Some("Notification") && fields.get("Message").is_some()
            }
            Some(Shape::Record) => Record::alone(fields).is_some_and(|record| holds_events(record.tree)),
            Some(
                Shape::Records
                | Shape::Messages
                | Shape::Subscription
                | Shape::AwsLogs
                | Shape::LogEvents
                | Shape::QueryResults
                | Shape::FirehoseRecords
                | Shape::Request,
            )
            | None => false,
        },
        Tree::Array(items) => items.iter().any(holds_events),
        Tree::String(text) if is_document(text) => {
            serde_json::from_str::<Tree<'_>>(text).is_ok_and(|tree| holds_events(&tree))
        }
        Tree::Null | Tree::Boolean(_) | Tree::Number(_) | Tree::String(_) => false,
    }
}
