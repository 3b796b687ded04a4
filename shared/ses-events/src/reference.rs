//! What documents mean, written for readers: the whole document as a tree (`carriers`), then field by field (`meaning`).
//!
//! The fast path must agree with it on every input. It alone ignores and rejects. The grammar, the depth limit, the
//! numbers and the escapes are those of `serde_json`; of a duplicate key, the last one counts.
//!
//! The kind of a document is given by the first row that fits. *Inside* is read in turn by the same table; it gives the
//! publishing time, if it has one. Instead of a string inside, its parsed JSON is accepted, too.
//!
//! | document | recognised by | inside |
//! |---|---|---|
//! | lines of a log | a date, blanks, a brace or bracket | what begins there, of each line |
//! | list | an array | each item |
//! | text in text | a string that begins with a brace or a bracket | that text |
//! | event | `eventType` or `notificationType` | |
//! | EventBridge | `detail-type` | `detail`, if it is an event, if a pipe took it from a queue or stream (`Event from aws:…`), or if it is certainly a carrier of one |
//! | SNS | `Type` | `Message` |
//! | Lambda batch, `get-records`, `put-records` | `Records` | each `body` (SQS), `Sns`, `kinesis.data`, `Data`, or document |
//! | `aws sqs receive-message` | list `Messages` | each `Body` |
//! | subscription of CloudWatch Logs | `logEvents`, or `messageType` `CONTROL_MESSAGE` | each `message` |
//! | the same for Lambda | `awslogs` | `data` |
//! | `aws logs filter-log-events`, `get-log-events` | list `events` | each `message`, or document |
//! | `aws logs get-query-results` | list `results` | each `@message` |
//! | Firehose for Lambda or HTTP | list `records` | each `data` |
//! | one record of these | `Body` or `body` with a message id or a document in it, `kinesis`, `Data`, `data` or `message` with their neighbours, `rawData` (Firehose's failed records), `@message` | that field |
//! | failure destination of Lambda | `requestPayload` | that field |
//!
//! `Data`, `data` and `rawData` are base64, maybe of gzip, maybe of several documents one after the other.

use crate::carriers;
use crate::context::{Carried, Sink, admit};
use crate::decoded::Decoded;

/// As [`crate::Decoder::decode`], without the fast path: for tests and benchmarks.
pub fn decode(document: &[u8], mut each: impl FnMut(Decoded<'_>)) {
    let mut sink = Sink::new(&mut each);
    match admit(document) {
        Ok(text) => carriers::text(text, Carried::default(), &mut sink),
        Err(rejection) => sink.emit(Decoded::Rejected(rejection)),
    }
}
