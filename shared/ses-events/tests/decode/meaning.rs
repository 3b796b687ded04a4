//! What documents mean, as tables.

use crate::{BOUNCE, decode, event_bridge, outcomes, samples, sns, sns_records, sqs};

/// One line for each case: its name, and the results of the document.
pub(crate) fn table<S: AsRef<[u8]>>(cases: impl IntoIterator<Item = (&'static str, S)>) -> String {
    cases.into_iter().map(|(name, document)| format!("{name} → {}", outcomes(document.as_ref()))).collect()
}

/// A small event with one field replaced.
fn bent(key: &str, value: &str) -> String {
    let event = r#"{"eventType":"Bounce","mail":{"timestamp":"2026-09-14T06:00:01Z","messageId":"m1","source":null,
        "destination":["a@example.net"],"tags":{"campaign":["c"]}},"bounce":{"bounceType":"Permanent","bounceSubType":"General",
        "bouncedRecipients":[{"emailAddress":"a@example.net","status":"5.1.1"}],"timestamp":"2026-09-14T06:00:02Z"}}"#;
    let mut event: serde_json::Value = serde_json::from_str(event).unwrap();
    *event.pointer_mut(key).unwrap() = serde_json::from_str(value).unwrap();
    event.to_string()
}

#[test]
fn an_event_comes_out_of_every_envelope() {
    let cases = [
        ("raw", BOUNCE.to_owned()),
        ("with a byte order mark and CRLF", format!("\u{feff}{}\r\n", BOUNCE.trim())),
        ("SNS", sns(BOUNCE)),
        ("EventBridge", event_bridge(BOUNCE)),
        ("SNS to Lambda", sns_records(&[BOUNCE])),
        ("SQS to Lambda, raw", sqs(&[BOUNCE])),
        ("SQS to Lambda, SNS", sqs(&[&sns(BOUNCE)])),
        ("SQS to Lambda, EventBridge", sqs(&[&event_bridge(BOUNCE)])),
        ("SQS to Lambda, SNS, EventBridge", sqs(&[&sns(&event_bridge(BOUNCE))])),
        ("identity notification", samples::IDENTITY_DELIVERY.to_owned()),
    ];
    insta::assert_snapshot!(table(cases), @"
    raw → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    with a byte order mark and CRLF → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    SNS → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603611
    EventBridge → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365604000
    SNS to Lambda → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603611
    SQS to Lambda, raw → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603700
    SQS to Lambda, SNS → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603611
    SQS to Lambda, EventBridge → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365604000
    SQS to Lambda, SNS, EventBridge → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365604000
    identity notification → event: Delivery of 0102019f00000023-5b1c7d2e-0023-4c3a-9f10-7a64be0d0023-000000 at 1789365602000
    ");
}

#[test]
fn every_record_of_a_batch_is_decoded_in_its_place() {
    let bad = [
        BOUNCE,
        "not json",
        samples::SEND,
        "{}",
        &sns("Successfully validated SNS topic for Amazon SES event publishing.\n"),
    ];
    let no_text = r#"{"Records":[{},5,{"body":null},{"body":7},{"Sns":{"Message":7}},{"Sns":[]}]}"#;
    let nested = sqs(&[&sqs(&[BOUNCE])]);
    let cases = [
        ("SQS", sqs(&bad)),
        ("SNS", sns_records(&bad)),
        ("without texts", no_text.to_owned()),
        ("a batch in a batch", nested),
        ("empty", r#"{"Records":[]}"#.to_owned()),
        ("no list", r#"{"Records":{}}"#.to_owned()),
        ("cut off", sqs(&bad).trim_end_matches('}').to_owned()),
    ];
    insta::assert_snapshot!(table(cases), @"
    SQS → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603700
    rejected: not JSON at byte 1
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365603700
    rejected: no event in the document
    ignored: validation_notice
    SNS → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603611
    rejected: not JSON at byte 1
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365603611
    rejected: no event in the document
    ignored: validation_notice
    without texts → rejected: Records[].body is absent
    rejected: Records[] is a number instead of an object
    rejected: Records[].body is absent
    rejected: Records[].body is a number instead of a string
    rejected: Message is a number instead of a string
    rejected: Records[].Sns is an array instead of an object
    a batch in a batch → rejected: several documents in one record of a batch
    empty → ignored: empty_batch
    no list → rejected: Records is an object instead of an array
    cut off → rejected: not JSON at byte 3988
    ");
}

#[test]
fn harmless_documents_are_ignored_by_name() {
    let cases = [
        ("validation notice", " Successfully validated SNS topic for Amazon SES event publishing.\n"),
        ("identity set-up", r#"{"notificationType":"AmazonSnsSubscriptionSucceeded","message":"…"}"#),
        ("new kind", r#"{"eventType":"SomethingNew","mail":5}"#),
        ("new notification", r#"{"notificationType":"Something New"}"#),
        ("kind with an address", r#"{"eventType":"ana@example.net\n0123456789012345678901234567890123456789"}"#),
        ("SNS asks to subscribe", r#"{"Type":"SubscriptionConfirmation","Message":"You have chosen …","Token":"t"}"#),
        ("SNS unsubscribes", r#"{"Type":"UnsubscribeConfirmation","Message":"…"}"#),
        ("tenant status", r#"{"detail-type":"Sending Status Disabled","detail":{"data":{}}}"#),
        ("advice", r#"{"detail-type":"Advisor Recommendation Status Open","detail":{"data":"…"}}"#),
        ("another service", r#"{"detail-type":"EC2 Instance State-change Notification"}"#),
    ];
    insta::assert_snapshot!(table(cases), @"
    validation notice → ignored: validation_notice
    identity set-up → ignored: AmazonSnsSubscriptionSucceeded
    new kind → ignored: SomethingNew
    new notification → ignored: Something New
    kind with an address → ignored: (a name that is not shown)
    SNS asks to subscribe → ignored: subscription_confirmation
    SNS unsubscribes → ignored: unsubscribe_confirmation
    tenant status → ignored: Sending Status Disabled
    advice → ignored: Advisor Recommendation Status Open
    another service → ignored: EC2 Instance State-change Notification
    ");
}

#[test]
fn what_is_not_an_event_is_rejected() {
    let cases: [(&str, &[u8]); 19] = [
        ("nothing", b""),
        ("white space", b" \n"),
        ("plain text", b"hello"),
        ("a word cut off", b"nul"),
        ("an object cut off", b"{\"eventType\":\"Bounce\""),
        ("two documents", b"{}{}"),
        ("a control character", b"{\"a\":\"\x01\"}"),
        ("half a character", b"{\"a\":\"\\ud83d\"}"),
        ("a number out of range", b"{\"a\":1e999}"),
        ("no UTF-8", b"{\"a\":\"\xff\"}"),
        ("null", b"null"),
        ("a number", b"1"),
        ("an array", b"[1]"),
        ("a string", b"\"Bounce\""),
        ("an empty object", b"{}"),
        ("an answer", br#"{"batchItemFailures":[{"itemIdentifier":"x"}]}"#),
        ("no kind", br#"{"mail":{"messageId":"m","timestamp":"2026-09-14T06:00:01Z"},"bounce":{}}"#),
        ("an unknown kind of SNS", br#"{"Type":"Other","Message":"{}"}"#),
        ("an event that EventBridge lost", br#"{"detail-type":"Email Bounced","detail":{"mail":{}}}"#),
    ];
    insta::assert_snapshot!(table(cases), @"
    nothing → rejected: not JSON at byte 0
    white space → rejected: not JSON at byte 1
    plain text → rejected: not JSON at byte 0
    a word cut off → rejected: not JSON at byte 2
    an object cut off → rejected: not JSON at byte 20
    two documents → rejected: not JSON at byte 2
    a control character → rejected: not JSON at byte 6
    half a character → rejected: not JSON at byte 12
    a number out of range → rejected: not JSON at byte 9
    no UTF-8 → rejected: not UTF-8 at byte 6
    null → rejected: no event in the document
    a number → rejected: no event in the document
    an array → rejected: no event in the document
    a string → rejected: no event in the document
    an empty object → rejected: no event in the document
    an answer → rejected: no event in the document
    no kind → rejected: no event in the document
    an unknown kind of SNS → rejected: no event in the document
    an event that EventBridge lost → rejected: detail.eventType is absent
    ");
}

#[test]
fn fields_that_are_read_must_be_right() {
    let cases = [
        ("no mail", r#"{"eventType":"Delivery","mail":null,"delivery":null}"#.to_owned()),
        ("half a mail", r#"{"eventType":"Bounce","mail":{"messageId":"x"},"bounce":{}}"#.to_owned()),
        ("kind is a number", bent("/eventType", "5")),
        ("kind is null", bent("/eventType", "null")),
        ("mail is a list", bent("/mail", "[]")),
        ("no timestamp", bent("/mail/timestamp", "null")),
        ("impossible date", bent("/mail/timestamp", r#""2026-02-30T00:00:00Z""#)),
        ("an address as a timestamp", bent("/mail/timestamp", r#""ana@example.net""#)),
        ("timestamp without a zone", bent("/mail/timestamp", r#""2026-09-14T06:00:01""#)),
        ("timestamp is a small number", bent("/mail/timestamp", "17893")),
        ("timestamp is a list", bent("/mail/timestamp", "[]")),
        ("no message id", bent("/mail/messageId", "null")),
        ("empty message id", bent("/mail/messageId", r#""""#)),
        ("source is a list", bent("/mail/source", r#"["a@example.net"]"#)),
        ("tags are a list", bent("/mail/tags", "[]")),
        ("a tag is a string", bent("/mail/tags/campaign", r#""c""#)),
        ("a tag is a number", bent("/mail/tags/campaign", "[5]")),
        ("no bounce", bent("/bounce", "null")),
        ("bounce is a string", bent("/bounce", r#""x""#)),
        ("no bounce type", bent("/bounce/bounceType", "null")),
        ("status is a number", bent("/bounce/bouncedRecipients/0/status", "5")),
        ("no delay type", samples::DELIVERY_DELAY.replace("delayType", "delayKind")),
        ("no complaint", samples::COMPLAINT.replace("\"complaint\"", "\"other\"")),
        ("no delivery", samples::IDENTITY_DELIVERY.replace("\"delivery\"", "\"other\"")),
    ];
    insta::assert_snapshot!(table(cases), @r#"
    no mail → rejected: mail is absent
    half a mail → rejected: mail.timestamp is absent
    kind is a number → rejected: eventType is a number instead of a string
    kind is null → rejected: no event in the document
    mail is a list → rejected: mail is an array instead of an object
    no timestamp → rejected: mail.timestamp is absent
    impossible date → rejected: mail.timestamp is not a timestamp: "2026-02-30T00:00:00Z"
    an address as a timestamp → rejected: mail.timestamp is not a timestamp: a text of 15 bytes with an @
    timestamp without a zone → rejected: mail.timestamp is not a timestamp: "2026-09-14T06:00:01"
    timestamp is a small number → rejected: mail.timestamp is not a timestamp: "17893"
    timestamp is a list → rejected: mail.timestamp is an array instead of a string
    no message id → rejected: mail.messageId is absent
    empty message id → rejected: mail.messageId is not a message id: ""
    source is a list → rejected: mail.source is an array instead of a string
    tags are a list → rejected: mail.tags is an array instead of an object
    a tag is a string → rejected: mail.tags.* is a string instead of an array
    a tag is a number → rejected: mail.tags.*[] is a number instead of a string
    no bounce → rejected: bounce is absent
    bounce is a string → rejected: bounce is a string instead of an object
    no bounce type → rejected: bounce.bounceType is absent
    status is a number → rejected: bounce.bouncedRecipients[].status is a number instead of a string
    no delay type → rejected: deliveryDelay.delayType is absent
    no complaint → rejected: complaint is absent
    no delivery → rejected: delivery is absent
    "#);
}

#[test]
fn the_date_of_a_mail_is_read_in_every_form_that_leaves_no_doubt() {
    let cases = [
        ("SES guide", bent("/mail/timestamp", r#""2026-09-14T06:00:01 +0000""#)),
        ("Athena", bent("/mail/timestamp", r#""2026-09-14 06:00:01.000 UTC""#)),
        ("mail header", bent("/mail/timestamp", r#""Mon, 14 Sep 2026 08:00:01 +0200 (CEST)""#)),
        ("seconds", bent("/mail/timestamp", "1789365601")),
        ("milliseconds", bent("/mail/timestamp", "1789365601000")),
        ("milliseconds as text", bent("/mail/timestamp", r#""1789365601000""#)),
        ("EventBridge", event_bridge(samples::SEND).replace("2026-09-14T06:00:04Z", "2026-09-14 06:00:04 UTC")),
        ("SNS", sns(samples::SEND).replace("2026-09-14T06:00:03.611Z", "2026-09-14T06:00:03.611 +0000")),
    ];
    insta::assert_snapshot!(table(cases), @"
    SES guide → event: Bounce of m1 at 1789365601000
    Athena → event: Bounce of m1 at 1789365601000
    mail header → event: Bounce of m1 at 1789365601000
    seconds → event: Bounce of m1 at 1789365601000
    milliseconds → event: Bounce of m1 at 1789365601000
    milliseconds as text → event: Bounce of m1 at 1789365601000
    EventBridge → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365604000
    SNS → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365603611
    ");
}

/// The oddities of accepted events: dates and recipients that are left out, and those that are kept.
fn oddities<S: AsRef<[u8]>>(cases: impl IntoIterator<Item = (&'static str, S)>) -> String {
    use ses_events::{Decoded, Detail};
    let mut lines = String::new();
    for (name, document) in cases {
        decode(document.as_ref(), |decoded| {
            let Decoded::Event(event) = decoded else { panic!("{name}: {decoded:?}") };
            let texts = |texts: &[ses_events::Text<'_>]| format!("{texts:?}");
            let failed = |recipients: &[ses_events::FailedRecipient<'_>]| {
                recipients.iter().map(|it| format!("{:?} {:?};", it.email_address, it.action)).collect::<String>()
            };
            let (date, recipients) = match &event.detail {
                Detail::Bounce(bounce) => (bounce.timestamp, failed(&bounce.recipients)),
                Detail::DeliveryDelay(delay) => (delay.timestamp, failed(&delay.recipients)),
                Detail::Complaint(complaint) => (complaint.timestamp, texts(&complaint.recipients)),
                Detail::Delivery(delivery) => (delivery.timestamp, texts(&delivery.recipients)),
                Detail::Open(engagement) | Detail::Click(engagement) => (engagement.timestamp, String::new()),
                Detail::Send
                | Detail::Reject { .. }
                | Detail::RenderingFailure { .. }
                | Detail::Subscription { .. } => (None, String::new()),
            };
            lines += &format!(
                "{name} → to {}, at {:?}, {recipients} unreadable: {} dates, {} recipients\n",
                event.mail.destination.len(),
                date.map(|date| date.0),
                event.unreadable_dates,
                event.unreadable_recipients,
            );
        });
    }
    lines
}

#[test]
fn a_bad_date_of_the_detail_costs_only_that_date() {
    let cases = [
        ("a word", bent("/bounce/timestamp", r#""later""#)),
        ("a date that does not exist", bent("/bounce/timestamp", r#""2026-02-30T00:00:00Z""#)),
        ("empty", bent("/bounce/timestamp", r#""""#)),
        ("a list", bent("/bounce/timestamp", "[]")),
        ("null", bent("/bounce/timestamp", "null")),
        ("without a zone", bent("/bounce/timestamp", r#""2026-09-14T06:00:02""#)),
        ("a small number", bent("/bounce/timestamp", "1")),
        ("as the SES guide prints it", bent("/bounce/timestamp", r#""2026-09-14T06:00:02 +0000""#)),
        ("as mail headers have it", bent("/bounce/timestamp", r#""Mon, 14 Sep 2026 08:00:02 +0200 (CEST)""#)),
        ("milliseconds", bent("/bounce/timestamp", "1789365602000")),
        ("of a complaint", samples::COMPLAINT.replace("2026-09-16T21:10:55.000Z", "soon")),
        ("of a delivery", samples::IDENTITY_DELIVERY.replace("2026-09-14T06:00:03.010Z", "soon")),
        ("of a delay", samples::DELIVERY_DELAY.replace("2026-09-14T06:20:09.551Z", "soon")),
        (
            "of an opening",
            r#"{"eventType":"Open","mail":{"timestamp":"2026-09-14T06:00:01Z","messageId":"m"},"open":{"timestamp":false}}"#
                .to_owned(),
        ),
    ];
    insta::assert_snapshot!(oddities(cases), @r#"
    a word → to 1, at None, Some("a@example.net") None; unreadable: 1 dates, 0 recipients
    a date that does not exist → to 1, at None, Some("a@example.net") None; unreadable: 1 dates, 0 recipients
    empty → to 1, at None, Some("a@example.net") None; unreadable: 1 dates, 0 recipients
    a list → to 1, at None, Some("a@example.net") None; unreadable: 1 dates, 0 recipients
    null → to 1, at None, Some("a@example.net") None; unreadable: 0 dates, 0 recipients
    without a zone → to 1, at None, Some("a@example.net") None; unreadable: 1 dates, 0 recipients
    a small number → to 1, at None, Some("a@example.net") None; unreadable: 1 dates, 0 recipients
    as the SES guide prints it → to 1, at Some(1789365602000), Some("a@example.net") None; unreadable: 0 dates, 0 recipients
    as mail headers have it → to 1, at Some(1789365602000), Some("a@example.net") None; unreadable: 0 dates, 0 recipients
    milliseconds → to 1, at Some(1789365602000), Some("a@example.net") None; unreadable: 0 dates, 0 recipients
    of a complaint → to 3, at None, ["bo@recipient.example.org", "cy@recipient.example.org"] unreadable: 1 dates, 0 recipients
    of a delivery → to 1, at None, ["ana@recipient.example.net"] unreadable: 1 dates, 0 recipients
    of a delay → to 1, at None, Some("dee@recipient.example.org") None; unreadable: 1 dates, 0 recipients
    of an opening → to 0, at None,  unreadable: 1 dates, 0 recipients
    "#);
}

#[test]
fn a_recipient_that_cannot_be_read_is_left_out_and_counted() {
    let two = |one: &str| format!(r#"[{one},{{"emailAddress":"b@example.net","action":"delayed"}}]"#);
    let complaint = |list: &str| {
        format!(
            r#"{{"eventType":"Complaint","mail":{{"timestamp":"2026-09-14T06:00:01Z","messageId":"m"}},
            "complaint":{{"complainedRecipients":{list}}}}}"#
        )
    };
    let delivery = |list: &str| {
        format!(
            r#"{{"eventType":"Delivery","mail":{{"timestamp":"2026-09-14T06:00:01Z","messageId":"m"}},
            "delivery":{{"recipients":{list}}}}}"#
        )
    };
    let cases = [
        ("no address", bent("/bounce/bouncedRecipients", &two("{}"))),
        ("address null", bent("/bounce/bouncedRecipients", &two(r#"{"emailAddress":null,"action":null}"#))),
        ("address a number", bent("/bounce/bouncedRecipients", &two(r#"{"emailAddress":5,"action":"failed"}"#))),
        ("action a list", bent("/bounce/bouncedRecipients", &two(r#"{"emailAddress":"a@example.net","action":[]}"#))),
        ("recipient a string", bent("/bounce/bouncedRecipients", &two(r#""a@example.net""#))),
        ("recipient null", bent("/bounce/bouncedRecipients", &two("null"))),
        ("recipients an object", bent("/bounce/bouncedRecipients", "{}")),
        ("recipients null", bent("/bounce/bouncedRecipients", "null")),
        ("destination a string", bent("/mail/destination", r#""a@example.net""#)),
        ("destination of null and a number", bent("/mail/destination", r#"[null,"a@example.net",5]"#)),
        (
            "complaint without addresses",
            complaint(r#"[{},null,5,{"emailAddress":null},{"emailAddress":"a@example.net"}]"#),
        ),
        ("complaint with a string", complaint(r#""a@example.net""#)),
        ("delivery to null", delivery(r#"[null,"a@example.net",{}]"#)),
        ("delivery to an object", delivery("{}")),
        ("more than a byte counts", delivery(&format!("[{}]", ["null"; 300].join(",")))),
    ];
    insta::assert_snapshot!(oddities(cases), @r#"
    no address → to 1, at Some(1789365602000), None None;Some("b@example.net") Some("delayed"); unreadable: 0 dates, 0 recipients
    address null → to 1, at Some(1789365602000), None None;Some("b@example.net") Some("delayed"); unreadable: 0 dates, 0 recipients
    address a number → to 1, at Some(1789365602000), None Some("failed");Some("b@example.net") Some("delayed"); unreadable: 0 dates, 0 recipients
    action a list → to 1, at Some(1789365602000), Some("a@example.net") None;Some("b@example.net") Some("delayed"); unreadable: 0 dates, 0 recipients
    recipient a string → to 1, at Some(1789365602000), Some("b@example.net") Some("delayed"); unreadable: 0 dates, 1 recipients
    recipient null → to 1, at Some(1789365602000), Some("b@example.net") Some("delayed"); unreadable: 0 dates, 1 recipients
    recipients an object → to 1, at Some(1789365602000),  unreadable: 0 dates, 1 recipients
    recipients null → to 1, at Some(1789365602000),  unreadable: 0 dates, 0 recipients
    destination a string → to 0, at Some(1789365602000), Some("a@example.net") None; unreadable: 0 dates, 1 recipients
    destination of null and a number → to 1, at Some(1789365602000), Some("a@example.net") None; unreadable: 0 dates, 2 recipients
    complaint without addresses → to 0, at None, ["a@example.net"] unreadable: 0 dates, 4 recipients
    complaint with a string → to 0, at None, [] unreadable: 0 dates, 1 recipients
    delivery to null → to 0, at None, ["a@example.net"] unreadable: 0 dates, 2 recipients
    delivery to an object → to 0, at None, [] unreadable: 0 dates, 1 recipients
    more than a byte counts → to 0, at None, [] unreadable: 0 dates, 255 recipients
    "#);
}

#[test]
fn fields_that_may_be_absent_may_be_null() {
    let cases = [
        ("sub type", bent("/bounce/bounceSubType", "null")),
        ("recipients", bent("/bounce/bouncedRecipients", "null")),
        ("status", bent("/bounce/bouncedRecipients/0/status", "null")),
        ("destination", bent("/mail/destination", "null")),
        ("tags", bent("/mail/tags", "null")),
        ("a tag", bent("/mail/tags/campaign", "null")),
        ("a tag's values", bent("/mail/tags/campaign", "[]")),
        ("a tag's value", bent("/mail/tags/campaign", "[null]")),
        (
            "complaint",
            r#"{"eventType":"Complaint","mail":{"timestamp":"2026-09-14T06:00:01Z","messageId":"m"},"complaint":{}}"#
                .to_owned(),
        ),
        ("open", r#"{"eventType":"Open","mail":{"timestamp":"2026-09-14T06:00:01Z","messageId":"m"}}"#.to_owned()),
        (
            "reject",
            r#"{"eventType":"Reject","mail":{"timestamp":"2026-09-14T06:00:01Z","messageId":"m"},"reject":null}"#
                .to_owned(),
        ),
        (
            "failure",
            r#"{"eventType":"renderingFailure","mail":{"timestamp":"2026-09-14T06:00:01Z","messageId":"m"}}"#
                .to_owned(),
        ),
    ];
    insta::assert_snapshot!(table(cases), @"
    sub type → event: Bounce of m1 at 1789365601000
    recipients → event: Bounce of m1 at 1789365601000
    status → event: Bounce of m1 at 1789365601000
    destination → event: Bounce of m1 at 1789365601000
    tags → event: Bounce of m1 at 1789365601000
    a tag → event: Bounce of m1 at 1789365601000
    a tag's values → event: Bounce of m1 at 1789365601000
    a tag's value → event: Bounce of m1 at 1789365601000
    complaint → event: Complaint of m at 1789365601000
    open → event: Open of m at 1789365601000
    reject → event: Reject of m at 1789365601000
    failure → event: RenderingFailure of m at 1789365601000
    ");
}

#[test]
fn of_a_key_that_is_there_twice_the_last_counts() {
    let first =
        |key: &str, value: &str| BOUNCE.replacen(&format!("\"{key}\":"), &format!("\"{key}\":{value},\"{key}\":"), 1);
    let cases = [
        ("kind", first("eventType", "5")),
        ("mail", first("mail", "\"x\"")),
        ("message id", first("messageId", "\"first\"")),
        ("an escaped key", BOUNCE.replacen('{', "{\"\\u0065ventType\":\"Open\",", 1)),
        ("an earlier null", BOUNCE.replacen("\"mail\":", "\"mail\":null,\"mail\":", 1)),
        ("a later null", BOUNCE.replacen("}}\n", "},\"bounce\":null}", 1)),
        ("SNS", sns(BOUNCE).replacen("\"Message\":", "\"Message\":\"{}\",\"Message\":", 1)),
        ("batch", sqs(&[BOUNCE]).replacen("\"body\":", "\"body\":\"{}\",\"body\":", 1)),
    ];
    insta::assert_snapshot!(table(cases), @"
    kind → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    mail → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    message id → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    an escaped key → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    an earlier null → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    a later null → rejected: bounce is absent
    SNS → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603611
    batch → event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603700
    ");
    let tags = r#"{"eventType":"Send","mail":{"timestamp":"2026-09-14T06:00:01Z","messageId":"m","tags":{"ses:configuration-set":["x"],
        "a":["1"],"ses:configuration-set":["y","z"],"b":[]}}}"#;
    decode(tags.as_bytes(), |decoded| {
        let ses_events::Decoded::Event(event) = decoded else { panic!("{decoded:?}") };
        assert_eq!(event.mail.configuration_set.as_deref(), Some("y"));
        assert_eq!(event.mail.tags.first("a").as_deref(), Some("1"));
        assert_eq!(event.mail.tags.first("b"), None);
        let names: Vec<_> = event.mail.tags.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "ses:configuration-set"]);
    });
}

#[test]
fn the_innermost_envelope_gives_the_publishing_time_and_a_bad_one_gives_none() {
    let without = |document: String, what: &str, with: &str| document.replace(what, with);
    let cases = [
        ("SNS in SQS", sqs(&[&sns(samples::SEND)])),
        ("SQS alone", sqs(&[samples::SEND])),
        ("SQS, bad", without(sqs(&[samples::SEND]), "1789365603700", "soon")),
        ("SQS, number", without(sqs(&[samples::SEND]), "\"1789365603700\"", "1789365603700")),
        ("SNS, bad, in SQS", sqs(&[&without(sns(samples::SEND), "2026-09-14T06:00:03.611Z", "soon")])),
        ("EventBridge", event_bridge(samples::SEND)),
        ("EventBridge, bad", without(event_bridge(samples::SEND), "2026-09-14T06:00:04Z", "soon")),
        ("EventBridge, null", without(event_bridge(samples::SEND), "\"2026-09-14T06:00:04Z\"", "null")),
    ];
    insta::assert_snapshot!(table(cases), @"
    SNS in SQS → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365603611
    SQS alone → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365603700
    SQS, bad → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    SQS, number → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    SNS, bad, in SQS → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365603700
    EventBridge → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118 published at 1789365604000
    EventBridge, bad → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    EventBridge, null → event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    ");
}
