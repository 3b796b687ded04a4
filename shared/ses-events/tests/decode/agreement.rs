//! Properties: for any input, both decoders give the same result.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::{agree, event_bridge, samples, sns, sns_records, sqs};

/// Pieces of JSON that are read, that are similar to those, and that are hard to read.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    " ",
    "\n",
    "\"",
    "\\",
    "null",
    "true",
    "false",
    "nul",
    "0",
    "-0",
    "01",
    "-1",
    "1.5",
    "1.",
    "1e5",
    "1E+400",
    "123456789012345678",
    "1234567890123456789012",
    "-",
    "{}",
    "[]",
    "\"\"",
    "\"x\"",
    "\"Bounce\"",
    "\"Send\"",
    "\"Open\"",
    "\"Rendering Failure\"",
    "\"Notification\"",
    "\"Likely\"",
    "\"eventType\"",
    "\"notificationType\"",
    "\"mail\"",
    "\"bounce\"",
    "\"send\"",
    "\"failure\"",
    "\"timestamp\"",
    "\"messageId\"",
    "\"tags\"",
    "\"status\"",
    "\"Type\"",
    "\"Message\"",
    "\"Timestamp\"",
    "\"Records\"",
    "\"body\"",
    "\"Sns\"",
    "\"attributes\"",
    "\"SentTimestamp\"",
    "\"detail-type\"",
    "\"detail\"",
    "\"time\"",
    "\"Messages\"",
    "\"Body\"",
    "\"Data\"",
    "\"data\"",
    "\"kinesis\"",
    "\"records\"",
    "\"rawData\"",
    "\"awslogs\"",
    "\"logEvents\"",
    "\"messageType\"",
    "\"CONTROL_MESSAGE\"",
    "\"events\"",
    "\"message\"",
    "\"@message\"",
    "\"results\"",
    "\"requestPayload\"",
    "\"isBase64Encoded\"",
    "\"Event from aws:sqs\"",
    "\"e30=\"",
    "\"{}\"",
    "1789365601640",
    "2026-09-14T06:00:01.640Z {",
    "\"\\u006dail\"",
    "\"2026-09-14T06:00:01.640Z\"",
    "\"2026-09-14T06:00:01+24:00\"",
    "\"\\u00e9\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"\\ude00\"",
    "\"\\ud83d\\u0041\"",
    "\"\\u12g4\"",
    "\"\\x\"",
    "\"a\\\"b\\\\c\\/d\\n\"",
    "\"\u{1}\"",
    "\"é😀\"",
    "\"ses:configuration-set\"",
    "\"ses:from-domain\"",
    "\"ses:configuration-set\":[\"b\"],",
    "\"mail\":null,",
    "\"eventType\":\"Click\",",
];

/// Cuts JSON so that each string, number, word and sign is a piece.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        let goes_on =
            in_string || (c.is_alphanumeric() && tokens.last().is_some_and(|it| it.ends_with(char::is_alphanumeric)));
        match tokens.last_mut() {
            Some(token) if goes_on => token.push(c),
            _ => tokens.push(c.into()),
        }
        if c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && c == '\\' && !escaped;
    }
    tokens
}

/// Edits of a list of pieces that keep it nearly valid.
#[derive(Clone, Debug)]
enum Edit {
    Replace(Index, &'static str),
    Insert(Index, &'static str),
    Remove(Index),
    Repeat(Index, usize, Index),
    Swap(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), select(TOKENS)).prop_map(|(at, token)| Edit::Replace(at, token)),
        (any::<Index>(), select(TOKENS)).prop_map(|(at, token)| Edit::Insert(at, token)),
        any::<Index>().prop_map(Edit::Remove),
        (any::<Index>(), 1..12_usize, any::<Index>()).prop_map(|(from, length, to)| Edit::Repeat(from, length, to)),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Edit::Swap(one, other)),
    ]
}

impl Edit {
    fn apply(&self, tokens: &mut Vec<String>) {
        if tokens.is_empty() {
            return;
        }
        let length = tokens.len();
        match self {
            Self::Replace(at, token) => tokens[at.index(length)] = (*token).to_owned(),
            Self::Insert(at, token) => tokens.insert(at.index(length), (*token).to_owned()),
            Self::Remove(at) => drop(tokens.remove(at.index(length))),
            Self::Repeat(from, count, to) => {
                let from = from.index(length);
                let piece = tokens[from..length.min(from + count)].to_vec();
                let to = to.index(length);
                tokens.splice(to..to, piece);
            }
            Self::Swap(one, other) => tokens.swap(one.index(length), other.index(length)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Envelope {
    Sns,
    Sqs,
    SnsRecords,
    EventBridge,
    /// One of [`crate::carriers::CARRIERS`].
    Carrier(Index),
}

impl Envelope {
    fn wrap(self, inner: &str) -> String {
        match self {
            Self::Sns => sns(inner),
            Self::Sqs => sqs(&[inner, samples::DELIVERY_DELAY, inner]),
            Self::SnsRecords => sns_records(&[samples::SEND, inner]),
            Self::EventBridge => event_bridge(inner),
            Self::Carrier(which) => which.get(crate::carriers::CARRIERS).1(inner),
        }
    }
}

fn envelopes() -> impl Strategy<Value = Vec<Envelope>> {
    let of_ses = select(&[Envelope::Sns, Envelope::Sqs, Envelope::SnsRecords, Envelope::EventBridge][..]);
    vec(prop_oneof![3 => of_ses, 1 => any::<Index>().prop_map(Envelope::Carrier)], 0..4)
}

fn sample() -> impl Strategy<Value = &'static str> {
    select(samples::ALL)
}

/// Any JSON, and text that is nearly JSON.
fn json() -> impl Strategy<Value = String> {
    let leaf = select(TOKENS).prop_map(str::to_owned);
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            vec((select(TOKENS), inner), 0..6).prop_map(|fields| {
                let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn edited_documents_mean_the_same_to_both(
        sample in sample(), inside in vec(edit(), 0..4), envelopes in envelopes(), outside in vec(edit(), 0..2),
    ) {
        let mut inner = tokens(sample);
        inside.iter().for_each(|edit| edit.apply(&mut inner));
        let wrapped = envelopes.iter().fold(inner.concat(), |inner, envelope| envelope.wrap(&inner));
        let mut outer = tokens(&wrapped);
        outside.iter().for_each(|edit| edit.apply(&mut outer));
        agree(outer.concat().as_bytes());
    }

    #[test]
    fn changed_bytes_mean_the_same_to_both(
        sample in sample(), envelopes in envelopes(), changes in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut document = envelopes.iter().fold(sample.to_owned(), |inner, it| it.wrap(&inner)).into_bytes();
        for (at, byte) in changes {
            let length = document.len();
            document[at.index(length)] = byte;
        }
        agree(&document);
    }

    #[test]
    fn any_json_means_the_same_to_both(json in json(), envelopes in envelopes()) {
        agree(envelopes.iter().fold(json, |inner, it| it.wrap(&inner)).as_bytes());
    }

    #[test]
    fn any_value_of_a_field_means_the_same_to_both(
        field in select(&["mail", "bounce", "timestamp", "messageId", "source", "destination", "tags", "campaign",
            "bounceType", "bounceSubType", "bouncedRecipients", "emailAddress", "status", "diagnosticCode", "feedbackId",
            "headers", "eventType"][..]),
        value in json(),
    ) {
        let key = format!("\"{field}\":");
        let event = crate::BOUNCE.replacen(&key, &format!("{key}{value},\"was\":"), 1);
        agree(event.as_bytes());
        agree(crate::BOUNCE.replacen(&key, &format!("{key}{value},{key}"), 1).as_bytes());
    }
}
