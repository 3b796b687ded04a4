//! Carriers: files on disk, and the inputs of functions. Every carrier gives the same event.

use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use ses_events::{Decoded, MAX_DOCUMENT};

use crate::meaning::table;
use crate::{BOUNCE, decode, event_bridge, outcomes, samples, sns, sns_records, sqs};

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

pub(crate) fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

fn parsed(document: &str) -> Value {
    serde_json::from_str(document).unwrap_or(Value::Null)
}

/// As a subscription of CloudWatch Logs delivers it.
fn subscription(message: &str) -> String {
    json!({"messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "ses", "logStream": "s",
        "subscriptionFilters": ["f"], "logEvents": [{"id": "1", "timestamp": 1_789_365_605_000_i64, "message": message}]})
    .to_string()
}

/// One record as an EventBridge pipe takes it out of a queue.
fn queue_record(body: &str) -> Value {
    json!({"messageId": "m", "receiptHandle": "r", "body": body, "attributes": {"SentTimestamp": "1789365603700"},
        "messageAttributes": {}, "md5OfBody": "x", "eventSource": "aws:sqs"})
}

fn pipe(detail: Value) -> String {
    json!({"version": "0", "detail-type": "Event from aws:sqs", "source": "Pipe ses", "time": "2026-09-14T06:00:06Z",
        "detail": detail})
    .to_string()
}

type Wrap = fn(&str) -> String;

/// Everything that carries one document.
pub(crate) const CARRIERS: &[(&str, Wrap)] = &[
    ("array", |it| format!("[{it}]")),
    ("array of texts", |it| json!([it]).to_string()),
    ("text", |it| json!(it).to_string()),
    ("receive-message", |it| {
        json!({"Messages": [{"MessageId": "m", "ReceiptHandle": "r", "MD5OfBody": "x", "Body": it,
            "Attributes": {"SentTimestamp": "1789365603700"}}]})
        .to_string()
    }),
    ("receive-message, body as JSON", |it| format!(r#"{{"Messages":[{{"MessageId":"m","Body":{it}}}]}}"#)),
    ("message of a queue", |it| json!({"MessageId": "m", "Body": it}).to_string()),
    ("record of a queue", |it| queue_record(it).to_string()),
    ("request of a function URL", |it| {
        json!({"version": "2.0", "body": base64(it), "isBase64Encoded": true}).to_string()
    }),
    ("export of a log", |it| format!("2026-09-14T06:00:05.123Z {}", parsed(it))),
    ("tail of a log", |it| format!("2026-09-14T06:00:05.123000+00:00 stream/1 {}", parsed(it))),
    ("filter-log-events", |it| {
        json!({"events": [{"logStreamName": "s", "timestamp": 1_789_365_605_000_i64, "message": it, "eventId": "1"}],
            "searchedLogStreams": []})
        .to_string()
    }),
    ("log event", |it| json!({"timestamp": 1_789_365_605_000_i64, "message": it, "ingestionTime": 5}).to_string()),
    ("get-query-results", |it| {
        json!({"results": [[{"field": "@timestamp", "value": "2026-09-14 06:00:05.000"}, {"field": "@message", "value": it},
            {"field": "@ptr", "value": "p"}]], "status": "Complete"})
        .to_string()
    }),
    ("Insights, downloaded", |it| json!([{"@timestamp": "2026-09-14 06:00:05.000", "@message": it}]).to_string()),
    ("subscription", subscription),
    ("subscription in Lambda", |it| json!({"awslogs": {"data": base64(gzip(subscription(it)))}}).to_string()),
    ("Kinesis in Lambda", |it| {
        json!({"Records": [{"kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "p", "sequenceNumber": "1",
            "data": base64(it), "approximateArrivalTimestamp": 1_789_365_605.5}, "eventSource": "aws:kinesis"}]})
        .to_string()
    }),
    ("Kinesis in Lambda, subscription", |it| {
        json!({"Records": [{"kinesis": {"data": base64(gzip(subscription(it)))}}]}).to_string()
    }),
    ("get-records", |it| {
        json!({"Records": [{"SequenceNumber": "1", "ApproximateArrivalTimestamp": "2026-09-14T06:00:05+00:00",
            "Data": base64(format!("{it}\n")), "PartitionKey": "p"}], "NextShardIterator": "i"})
        .to_string()
    }),
    ("record of Kinesis", |it| json!({"SequenceNumber": "1", "Data": base64(it), "PartitionKey": "p"}).to_string()),
    ("Firehose in Lambda", |it| {
        json!({"invocationId": "i", "deliveryStreamArn": "arn", "region": "eu-west-1", "records": [{"recordId": "1",
            "approximateArrivalTimestamp": 1_789_365_605_000_i64, "data": base64(it)}]})
        .to_string()
    }),
    ("Firehose over HTTP", |it| {
        json!({"requestId": "i", "timestamp": 1_789_365_605_000_i64, "records": [{"data": base64(it)}]}).to_string()
    }),
    ("failed record of Firehose", |it| {
        json!({"attemptsMade": 4, "arrivalTimestamp": 1_789_365_605_000_i64, "errorCode": "Lambda.FunctionError",
            "errorMessage": "m", "attemptEndingTimestamp": 1_789_365_700_000_i64, "rawData": base64(it)})
        .to_string()
    }),
    ("pipe", |it| pipe(parsed(it))),
    ("pipe, text", |it| pipe(json!(it))),
    ("pipe, list", |it| pipe(json!([parsed(it)]))),
    ("pipe, record", |it| pipe(queue_record(it))),
    ("pipe, records", |it| pipe(json!([queue_record(it)]))),
    ("pipe, record of Kinesis", |it| {
        pipe(json!([{"kinesisSchemaVersion": "1.0", "partitionKey": "p", "sequenceNumber": "1", "data": base64(it),
            "eventSource": "aws:kinesis"}]))
    }),
    ("failure destination", |it| {
        json!({"version": "1.0", "timestamp": "2026-09-14T06:00:07.000Z", "requestContext": {}, "requestPayload": parsed(it)})
            .to_string()
    }),
    ("SNS", sns),
    ("SNS, message as JSON", |it| format!(r#"{{"Type":"Notification","Message":{it}}}"#)),
    ("SQS in Lambda", |it| sqs(&[it])),
    ("SNS in Lambda", |it| sns_records(&[it])),
];

/// All events of a document without their publishing times; panics on anything else.
fn events(name: &str, document: &str) -> Vec<String> {
    let mut events = Vec::new();
    decode(document.as_bytes(), |decoded| match decoded {
        Decoded::Event(mut event) => {
            event.published_at = None;
            events.push(format!("{event:?}"));
        }
        other @ (Decoded::Ignored(_) | Decoded::Rejected(_)) => panic!("{name}: {other:?}\n{document}"),
    });
    events
}

#[test]
fn every_carrier_gives_the_event_that_it_carries() {
    for sample in samples::ALL {
        // `serde_json` reorders keys, and the order of tags matters.
        let sample = &parsed(sample).to_string();
        let alone = events("alone", sample);
        assert_eq!(alone.len(), 1);
        for (name, wrap) in CARRIERS {
            assert_eq!(events(name, &wrap(sample)), alone, "{name}");
            // As SNS delivers it, and as EventBridge does.
            assert_eq!(events(name, &wrap(&sns(sample))), alone, "{name} of SNS");
            assert_eq!(events(name, &wrap(&event_bridge(sample))), alone, "{name} of EventBridge");
        }
    }
}

#[test]
fn every_carrier_may_lie_in_every_other_that_does_not_count_its_records() {
    // A record of SQS or SNS in Lambda gives exactly one result, so it must not hold a list.
    let counts = |name: &str| ["SQS in Lambda", "SNS in Lambda"].contains(&name);
    let bounce = &parsed(BOUNCE).to_string();
    let alone = events("alone", bounce);
    for (outer, wrap) in CARRIERS.iter().filter(|(name, _)| !counts(name)) {
        for (inner, wrap_inner) in CARRIERS {
            // A line of a log is not JSON, so it can only be carried as text.
            let document = wrap(&wrap_inner(bounce));
            let is_line = inner.ends_with("of a log");
            if is_line && !outcomes(document.as_bytes()).starts_with("event") {
                continue;
            }
            assert_eq!(events(outer, &document), alone, "{inner} in {outer}");
        }
    }
}

#[test]
fn the_innermost_date_of_a_carrier_counts() {
    let cases = CARRIERS.iter().map(|(name, wrap)| (*name, wrap(samples::SEND)));
    insta::assert_snapshot!(table(cases).replace("0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118", "it"), @"
    array → event: Send of it
    array of texts → event: Send of it
    text → event: Send of it
    receive-message → event: Send of it published at 1789365603700
    receive-message, body as JSON → event: Send of it
    message of a queue → event: Send of it
    record of a queue → event: Send of it published at 1789365603700
    request of a function URL → event: Send of it
    export of a log → event: Send of it published at 1789365605123
    tail of a log → event: Send of it published at 1789365605123
    filter-log-events → event: Send of it published at 1789365605000
    log event → event: Send of it published at 1789365605000
    get-query-results → event: Send of it published at 1789365605000
    Insights, downloaded → event: Send of it published at 1789365605000
    subscription → event: Send of it published at 1789365605000
    subscription in Lambda → event: Send of it published at 1789365605000
    Kinesis in Lambda → event: Send of it published at 1789365605500
    Kinesis in Lambda, subscription → event: Send of it published at 1789365605000
    get-records → event: Send of it published at 1789365605000
    record of Kinesis → event: Send of it
    Firehose in Lambda → event: Send of it published at 1789365605000
    Firehose over HTTP → event: Send of it
    failed record of Firehose → event: Send of it published at 1789365605000
    pipe → event: Send of it published at 1789365606000
    pipe, text → event: Send of it published at 1789365606000
    pipe, list → event: Send of it published at 1789365606000
    pipe, record → event: Send of it published at 1789365603700
    pipe, records → event: Send of it published at 1789365603700
    pipe, record of Kinesis → event: Send of it published at 1789365606000
    failure destination → event: Send of it published at 1789365607000
    SNS → event: Send of it published at 1789365603611
    SNS, message as JSON → event: Send of it
    SQS in Lambda → event: Send of it published at 1789365603700
    SNS in Lambda → event: Send of it published at 1789365603611
    ");
}

#[test]
fn a_bad_item_does_not_touch_its_neighbours() {
    let message = |body: &str| json!({"MessageId": "m", "Body": body});
    let record = |bytes: &[u8]| json!({"kinesis": {"data": base64(bytes)}});
    let log = |message: Value| json!({"timestamp": 1_789_365_605_000_i64, "message": message});
    let cases = [
        ("array", format!("[{BOUNCE},5,null,{{}},\"x\",[],[{}],{}]", samples::SEND, samples::SEND)),
        (
            "receive-message",
            json!({"Messages": [message(BOUNCE), message("{"), {}, 5, message(samples::SEND)]}).to_string(),
        ),
        (
            "Kinesis",
            json!({"Records": [record(BOUNCE.as_bytes()), {"kinesis": {"data": "%"}}, {"kinesis": {}}, record(b"\xff"),
                record(&gzip("x")[..12]), record(b"\xf3\x89\x9a\xc2\x00"), record(b""), {"s3": {}}, {"dynamodb": {}},
                record(samples::SEND.as_bytes())]})
            .to_string(),
        ),
        (
            "documents in one record",
            json!({"Records": [
                record(format!("{BOUNCE}{}\n", samples::SEND).as_bytes()),
                record(format!("{}\n{{\"a\":\n{BOUNCE}\n2026-09-14T06:00:05Z {}\nhello\n", samples::SEND, samples::SEND).as_bytes()),
                record(&gzip(format!("{}\n[{}]\n", samples::SEND, samples::SEND))),
            ]})
            .to_string(),
        ),
        (
            "log",
            json!({"events": [log(json!(BOUNCE)), log(json!("START RequestId")), log(Value::Null), log(parsed(samples::SEND))]})
                .to_string(),
        ),
        (
            "subscription",
            json!({"messageType": "DATA_MESSAGE", "logEvents": [log(json!(BOUNCE)), log(json!("{")), {}, log(json!(samples::SEND))]})
                .to_string(),
        ),
        (
            "query",
            json!({"results": [[{"field": "@message", "value": BOUNCE}], [], [{"field": "@ptr", "value": "p"}], 5,
                [{"field": "@message", "value": samples::SEND}]]})
            .to_string(),
        ),
        (
            "Firehose",
            json!({"records": [{"recordId": "1", "data": base64(BOUNCE)}, {"recordId": "2"}, {"data": 5},
                {"data": base64(samples::SEND)}]})
            .to_string(),
        ),
        (
            "lines of a log",
            ["2026-09-14T06:00:04Z INIT_START", "2026-09-14T06:00:05Z {", "2026-09-14T06:00:06Z [", "START", "2026-09-14T06:00:07Z "]
                .map(|begin| if begin.ends_with(' ') { format!("{begin}{}", parsed(samples::SEND)) } else { begin.to_owned() })
                .join("\n")
                + &format!("\n2026-09-14T06:00:08Z {}\n", parsed(BOUNCE)),
        ),
        (
            "one document of a log over several lines",
            format!("2026-09-14T06:00:05Z {}", serde_json::to_string_pretty(&parsed(BOUNCE)).unwrap()),
        ),
        ("pipe", pipe(json!([parsed(BOUNCE), 5, queue_record("{"), queue_record(samples::SEND)]))),
    ];
    insta::assert_snapshot!(table(cases), @"
    array → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    rejected: no event in the document
    rejected: no event in the document
    rejected: no event in the document
    rejected: no event in the document
    ignored: empty_batch
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    receive-message → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    rejected: not JSON at byte 0
    rejected: Messages[].Body is absent
    rejected: Messages[] is a number instead of an object
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    Kinesis → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    rejected: kinesis.data is not base64
    rejected: kinesis.data is absent
    rejected: not UTF-8 at byte 0
    rejected: kinesis.data is damaged gzip
    rejected: a record aggregated by the Kinesis Producer Library is not read: split it with a de-aggregation library first
    rejected: not JSON at byte 0
    rejected: an S3 event notification is not read: read the objects that it names
    rejected: a DynamoDB stream record is not read: read what SES published instead of a table
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    documents in one record → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    rejected: not JSON at byte 4
    event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365605000
    rejected: not JSON at byte 0
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    log → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365605000
    rejected: not JSON at byte 0
    rejected: events[].message is absent
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365605000
    subscription → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365605000
    rejected: not JSON at byte 0
    rejected: logEvents[].message is absent
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365605000
    query → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    rejected: results[].@message is absent
    rejected: results[].@message is absent
    rejected: no event in the document
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    Firehose → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    rejected: records[].data is absent
    rejected: data is a number instead of a string
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    lines of a log → rejected: not JSON at byte 4
    rejected: not JSON at byte 0
    rejected: not JSON at byte 4
    rejected: not JSON at byte 0
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365607000
    event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365608000
    one document of a log over several lines → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365605000
    pipe → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365606000
    rejected: no event in the document
    rejected: not JSON at byte 0
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365603700
    ");
}

#[test]
fn what_is_recognised_and_holds_no_event_is_named() {
    let s3 = r#"{"Records":[{"eventSource":"aws:s3","s3":{"object":{"key":"a"}}}]}"#;
    let cases = [
        (
            "control message",
            r#"{"messageType":"CONTROL_MESSAGE","logEvents":[{"message":"CWL CONTROL MESSAGE"}]}"#.to_owned(),
        ),
        (
            "control message in Lambda",
            json!({"awslogs": {"data": base64(gzip(r#"{"messageType":"CONTROL_MESSAGE"}"#))}}).to_string(),
        ),
        ("no items", "[]".to_owned()),
        ("a list of numbers", "[1,2,3]".to_owned()),
        ("a list of words", r#"["a","b"]"#.to_owned()),
        ("no messages", r#"{"Messages":[]}"#.to_owned()),
        ("no events of a log", r#"{"events":[],"searchedLogStreams":[]}"#.to_owned()),
        ("no rows", r#"{"results":[],"status":"Complete"}"#.to_owned()),
        ("S3", s3.to_owned()),
        ("S3 in SNS", sns(s3)),
        ("S3 in SQS in Lambda", sqs(&[s3])),
        ("S3 in receive-message", json!({"Messages": [{"Body": s3}]}).to_string()),
        ("DynamoDB", r#"{"Records":[{"eventSource":"aws:dynamodb","dynamodb":{"Keys":{}}}]}"#.to_owned()),
        ("received mail", r#"{"Records":[{"eventSource":"aws:ses","ses":{"mail":{}}}]}"#.to_owned()),
        ("list in SQS in Lambda", sqs(&[&format!("[{BOUNCE},{BOUNCE}]"), BOUNCE])),
        ("list in SNS in Lambda", sns_records(&[&format!("[{BOUNCE}]"), BOUNCE])),
        ("log in SQS in Lambda", sqs(&[&subscription(BOUNCE)])),
        ("records of something else", r#"{"records":{"topic-0":[]}}"#.to_owned()),
        ("awslogs without data", r#"{"awslogs":{}}"#.to_owned()),
        ("awslogs of plain text", json!({"awslogs": {"data": "not base64"}}).to_string()),
    ];
    insta::assert_snapshot!(table(cases), @"
    control message → ignored: cloudwatch_control_message
    control message in Lambda → ignored: cloudwatch_control_message
    no items → ignored: empty_batch
    a list of numbers → rejected: no event in the document
    a list of words → rejected: no event in the document
    no messages → ignored: empty_batch
    no events of a log → ignored: empty_batch
    no rows → ignored: empty_batch
    S3 → rejected: an S3 event notification is not read: read the objects that it names
    S3 in SNS → rejected: an S3 event notification is not read: read the objects that it names
    S3 in SQS in Lambda → rejected: an S3 event notification is not read: read the objects that it names
    S3 in receive-message → rejected: an S3 event notification is not read: read the objects that it names
    DynamoDB → rejected: a DynamoDB stream record is not read: read what SES published instead of a table
    received mail → rejected: a notification of SES about received mail is not read: only mail that was sent is counted
    list in SQS in Lambda → rejected: several documents in one record of a batch
    event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603700
    list in SNS in Lambda → rejected: several documents in one record of a batch
    event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603611
    log in SQS in Lambda → rejected: several documents in one record of a batch
    records of something else → rejected: no event in the document
    awslogs without data → rejected: awslogs.data is absent
    awslogs of plain text → rejected: awslogs.data is not base64
    ");
}

#[test]
fn a_document_of_another_service_is_not_mistaken_for_a_carrier() {
    let other = |detail: Value| {
        json!({"detail-type": "Something", "time": "2026-09-14T06:00:06Z", "detail": detail}).to_string()
    };
    let cases = [
        (
            "log line of an application",
            r#"{"timestamp":"2026-09-14T06:00:06Z","level":"error","message":"failed"}"#.to_owned(),
        ),
        ("answer of a function", r#"{"statusCode":200,"body":"OK"}"#.to_owned()),
        ("data", r#"{"data":"eA=="}"#.to_owned()),
        ("an object of events", r#"{"events":{}}"#.to_owned()),
        ("detail with events", other(json!({"events": [1]}))),
        ("detail with a type", other(json!({"Type": "Volume", "Message": "x"}))),
        ("detail with records", other(json!({"Records": []}))),
        ("detail of text", other(json!("hello"))),
        ("detail of a list", other(json!([{"a": 1}]))),
        ("detail of null", other(Value::Null)),
        ("detail of other JSON as text", other(json!("{\"a\":1}"))),
        ("but SNS in a detail", other(parsed(&sns(samples::SEND)))),
        ("but SNS in a detail as text", other(json!(sns(samples::SEND)))),
        ("but an event in a detail as text", other(json!(samples::SEND))),
        ("but events in a list", other(json!([parsed(samples::SEND), 5]))),
        ("but a record of a queue", other(queue_record(samples::SEND))),
        ("pipe without a detail", r#"{"detail-type":"Event from aws:sqs"}"#.to_owned()),
        ("pipe of something else", pipe(json!({"a": 1}))),
    ];
    insta::assert_snapshot!(table(cases), @"
    log line of an application → rejected: no event in the document
    answer of a function → rejected: no event in the document
    data → rejected: no event in the document
    an object of events → rejected: no event in the document
    detail with events → ignored: Something
    detail with a type → ignored: Something
    detail with records → ignored: Something
    detail of text → ignored: Something
    detail of a list → ignored: Something
    detail of null → ignored: Something
    detail of other JSON as text → ignored: Something
    but SNS in a detail → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365603611
    but SNS in a detail as text → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365603611
    but an event in a detail as text → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365606000
    but events in a list → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365606000
    rejected: no event in the document
    but a record of a queue → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365603700
    pipe without a detail → rejected: detail is absent
    pipe of something else → rejected: no event in the document
    ");
}

#[test]
fn what_is_compressed_has_a_limit_before_it_is_in_memory() {
    let bomb = base64(gzip(vec![b' '; 4 * MAX_DOCUMENT]));
    let cases = [
        ("Lambda", json!({"awslogs": {"data": bomb}}).to_string()),
        (
            "Kinesis",
            json!({"Records": [{"kinesis": {"data": bomb}}, {"kinesis": {"data": base64(BOUNCE)}}]}).to_string(),
        ),
        (
            // Many small bombs, each of which inflates to the limit.
            "many",
            json!({"records": vec![json!({"data": base64(gzip(vec![b' '; MAX_DOCUMENT]))}); 18]}).to_string(),
        ),
    ];
    insta::assert_snapshot!(table(cases), @"
    Lambda → rejected: inflates to more than 8388608 bytes
    Kinesis → rejected: inflates to more than 8388608 bytes
    event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    many → rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: not JSON at byte 0
    rejected: inflates to more than 134217728 bytes
    rejected: inflates to more than 134217728 bytes
    ");
}

#[test]
fn other_compressions_and_encodings_are_rejected_as_bytes() {
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(BOUNCE.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let cases: [(&str, &[u8]); 6] = [
        ("UTF-16", &utf16),
        ("UTF-16, big end first", b"\xfe\xff\x00{\x00}"),
        ("gzip", &gzip(BOUNCE)),
        ("zstd", b"\x28\xb5\x2f\xfd\x04\x00"),
        ("xz", b"\xfd7zXZ\x00\x00"),
        ("bzip2", b"BZh91AY&SY\xd3\x4d"),
    ];
    insta::assert_snapshot!(table(cases), @"
    UTF-16 → rejected: not UTF-8 at byte 0
    UTF-16, big end first → rejected: not UTF-8 at byte 0
    gzip → rejected: not UTF-8 at byte 1
    zstd → rejected: not UTF-8 at byte 1
    xz → rejected: not UTF-8 at byte 0
    bzip2 → rejected: not UTF-8 at byte 10
    ");
}

#[test]
fn lists_in_lists_have_a_limit() {
    let nested = |depth: usize| format!("{}{BOUNCE}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(outcomes(nested(8).as_bytes()).starts_with("event"));
    assert_eq!(outcomes(nested(9).as_bytes()), "rejected: wrapped in more than 6 envelopes\n");
}
