//! How fast documents are decoded, compared with what one would write without this crate.
//!
//! `cargo bench -p ses-events`. The peers read the same fields: `typed_serde` borrows from the document by derived
//! structs, `serde_value` makes a `serde_json::Value`. Both know the envelope in advance and only parse JSON: neither
//! checks timestamps, or bad records of a batch one by one.

#![expect(clippy::unwrap_used, reason = "the documents are this file's own")]

use std::borrow::Cow;
use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use ses_events::{Decoded, Decoder};

fn main() {
    divan::main();
}

const BOUNCE: &str = include_str!("../tests/samples/bounce.json");
const SEND: &str = include_str!("../tests/samples/send.json");

#[derive(Clone, Copy, Debug)]
enum Document {
    RawBounce,
    RawBouncePretty,
    RawSend,
    SnsBounce,
    SqsBatchOfTen,
}

const DOCUMENTS: [Document; 5] =
    [Document::RawBounce, Document::RawBouncePretty, Document::RawSend, Document::SnsBounce, Document::SqsBatchOfTen];

impl Document {
    fn text(self) -> String {
        match self {
            Self::RawBounce => BOUNCE.to_owned(),
            Self::RawBouncePretty => {
                serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(BOUNCE).unwrap()).unwrap()
            }
            Self::RawSend => SEND.to_owned(),
            Self::SnsBounce => notification(BOUNCE),
            Self::SqsBatchOfTen => {
                let record = |event: &str| {
                    serde_json::json!({
                        "messageId": "3b0f6a52-11c4-4e0e-93d5-6c1f00a70000",
                        "receiptHandle": "AQEB-receipt-handle-0",
                        "body": notification(event),
                        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1789365603700"},
                        "messageAttributes": {},
                        "eventSource": "aws:sqs",
                    })
                };
                let records: Vec<_> = (0..10).map(|n| record(if n % 5 == 0 { BOUNCE } else { SEND })).collect();
                serde_json::json!({ "Records": records }).to_string()
            }
        }
    }
}

fn notification(event: &str) -> String {
    serde_json::json!({
        "Type": "Notification",
        "MessageId": "8c1f7d02-6a3e-5b9c-a1d4-0f3c2b7e0001",
        "TopicArn": "arn:aws:sns:eu-west-1:111122223333:ses-events",
        "Subject": "Amazon SES Email Event Notification",
        "Message": event,
        "Timestamp": "2026-09-14T06:00:03.611Z",
        "SignatureVersion": "1",
        "Signature": "c2lnbmF0dXJl".repeat(28),
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0000.pem",
    })
    .to_string()
}

#[divan::bench(args = DOCUMENTS)]
fn ses_events(bencher: Bencher<'_, '_>, document: Document) {
    let text = document.text();
    let mut decoder = Decoder::new();
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
        decoder.decode(black_box(text.as_bytes()), |decoded| {
            assert!(matches!(black_box(decoded), Decoded::Event(_)));
        });
    });
}

#[divan::bench(args = DOCUMENTS)]
fn reference(bencher: Bencher<'_, '_>, document: Document) {
    let text = document.text();
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
        ses_events::reference::decode(black_box(text.as_bytes()), |decoded| {
            assert!(matches!(black_box(decoded), Decoded::Event(_)));
        });
    });
}

#[divan::bench(args = DOCUMENTS)]
fn typed_serde(bencher: Bencher<'_, '_>, document: Document) {
    let text = document.text();
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
        let text = black_box(text.as_bytes());
        match document {
            Document::RawBounce | Document::RawBouncePretty | Document::RawSend => {
                black_box(serde_json::from_slice::<typed::Event<'_>>(text).unwrap());
            }
            Document::SnsBounce => {
                let envelope: typed::Notification<'_> = serde_json::from_slice(text).unwrap();
                black_box(serde_json::from_str::<typed::Event<'_>>(&envelope.message).unwrap());
            }
            Document::SqsBatchOfTen => {
                let batch: typed::Batch<'_> = serde_json::from_slice(text).unwrap();
                for record in &batch.records {
                    let envelope: typed::Notification<'_> = serde_json::from_str(&record.body).unwrap();
                    black_box(serde_json::from_str::<typed::Event<'_>>(&envelope.message).unwrap());
                }
            }
        }
    });
}

#[divan::bench(args = DOCUMENTS)]
fn serde_value(bencher: Bencher<'_, '_>, document: Document) {
    use serde_json::Value;
    let text = document.text();
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
        let value: Value = serde_json::from_slice(black_box(text.as_bytes())).unwrap();
        let event = |text: &Value| black_box(serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap());
        match document {
            Document::RawBounce | Document::RawBouncePretty | Document::RawSend => {}
            Document::SnsBounce => drop(event(&value["Message"])),
            Document::SqsBatchOfTen => {
                for record in value["Records"].as_array().unwrap() {
                    event(&event(&record["body"])["Message"]);
                }
            }
        }
        black_box(value);
    });
}

/// What one would derive: the same fields, borrowed where serde can.
mod typed {
    #![expect(dead_code, reason = "only parsed, because the benchmark measures the parsing")]

    use std::collections::BTreeMap;

    use super::{Cow, Deserialize};

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Event<'a> {
        #[serde(borrow)]
        event_type: Cow<'a, str>,
        #[serde(borrow)]
        mail: Mail<'a>,
        #[serde(borrow)]
        bounce: Option<Bounce<'a>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Mail<'a> {
        #[serde(borrow)]
        timestamp: Cow<'a, str>,
        #[serde(borrow)]
        message_id: Cow<'a, str>,
        #[serde(borrow)]
        source: Option<Str<'a>>,
        #[serde(borrow)]
        destination: Vec<Str<'a>>,
        #[serde(borrow)]
        tags: Option<BTreeMap<Str<'a>, Vec<Str<'a>>>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bounce<'a> {
        #[serde(borrow)]
        timestamp: Option<Str<'a>>,
        #[serde(borrow)]
        bounce_type: Cow<'a, str>,
        #[serde(borrow)]
        bounce_sub_type: Cow<'a, str>,
        #[serde(borrow)]
        bounced_recipients: Vec<FailedRecipient<'a>>,
        #[serde(borrow)]
        feedback_id: Option<Str<'a>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct FailedRecipient<'a> {
        #[serde(borrow)]
        email_address: Cow<'a, str>,
        #[serde(borrow)]
        status: Option<Str<'a>>,
        #[serde(borrow)]
        diagnostic_code: Option<Str<'a>>,
    }

    /// `Option<Cow<str>>` and the like would not borrow.
    #[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    struct Str<'a>(#[serde(borrow)] Cow<'a, str>);

    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    pub(super) struct Notification<'a> {
        #[serde(borrow)]
        timestamp: Cow<'a, str>,
        #[serde(borrow)]
        pub(super) message: Cow<'a, str>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    pub(super) struct Batch<'a> {
        #[serde(borrow)]
        pub(super) records: Vec<Record<'a>>,
    }

    #[derive(Deserialize)]
    pub(super) struct Record<'a> {
        #[serde(borrow)]
        pub(super) body: Cow<'a, str>,
        #[serde(borrow)]
        attributes: Attributes<'a>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Attributes<'a> {
        #[serde(borrow)]
        sent_timestamp: Cow<'a, str>,
    }
}

/// Carriers without a fast path, and lines of logs, which have one.
#[divan::bench(args = ["line of a log", "array of ten", "ten in receive-message", "ten in Kinesis", "ten in CloudWatch, compressed"])]
fn carriers(bencher: Bencher<'_, '_>, carrier: &str) {
    let event = Document::RawBounce.text();
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let ten = |one: serde_json::Value| serde_json::Value::Array(vec![one; 10]);
    let text = match carrier {
        "line of a log" => format!("2026-09-14T06:00:05.123Z {event}"),
        "array of ten" => format!("[{}]", [event.as_str(); 10].join(",")),
        "ten in receive-message" => {
            serde_json::json!({"Messages": ten(serde_json::json!({"Body": event}))}).to_string()
        }
        "ten in Kinesis" => {
            let record = serde_json::json!({"kinesis": {"data": encode(event.as_bytes())}});
            serde_json::json!({"Records": ten(record)}).to_string()
        }
        _ => {
            let message = serde_json::json!({"timestamp": 1_789_365_605_000_i64, "message": event});
            let log = serde_json::json!({"messageType": "DATA_MESSAGE", "logEvents": ten(message)}).to_string();
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(log.as_bytes()).unwrap();
            serde_json::json!({"awslogs": {"data": encode(&gzip.finish().unwrap())}}).to_string()
        }
    };
    let mut decoder = Decoder::new();
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
        decoder.decode(black_box(text.as_bytes()), |decoded| {
            assert!(matches!(black_box(decoded), Decoded::Event(_)));
        });
    });
}
