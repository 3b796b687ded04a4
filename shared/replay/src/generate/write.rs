//! Writes events as SES and its envelopes would.
//!
//! No decisions are made here: texts vary with the number of the mail or of the event.

use std::io;
use std::io::Write as _;

use super::mail::{Fact, Host, Mail, News, Pending, Recipients};
use super::scenario::{ConfigurationSet, Envelope, Scenario};

/// The number of kinds of noise in [`Lines::noise`].
pub(super) const NOISE_KINDS: u8 = 16;
/// The number of kinds of garbage in [`Lines::garbage`].
pub(super) const GARBAGE_KINDS: u8 = 11;

/// The text, not JSON, that SES publishes to a topic to test it.
const NOTICE: &str = "Successfully validated SNS topic for Amazon SES event publishing.";
const TOPIC: &str = "arn:aws:sns:eu-west-1:111122223333:ses-events";
const QUEUE: &str = "arn:aws:sqs:eu-west-1:111122223333:ses-events";
/// A batch is written when it is full or its first event has this age.
const BATCH_MS: i64 = 20_000;
const BATCH_RECORDS: u32 = 10;
/// The size of a write, in bytes.
const FLUSH_AT: usize = 1 << 17;
/// 2099-06-01T00:00:00Z.
const FAR_FUTURE_MS: i64 = 4_083_955_200_000;

/// Writes lines, and counts them.
pub(super) struct Lines<'a, W: io::Write> {
    out: &'a mut W,
    sets: Vec<SetTexts>,
    /// Share of odd addresses, as a limit on a hash of 32 bits.
    odd_below: u64,
    buffer: Vec<u8>,
    body: Vec<u8>,
    wrapped: Vec<u8>,
    batch: Vec<u8>,
    batch_records: u32,
    batch_since_ms: i64,
    dates: Dates,
    lines: u64,
}

/// The parts of a document that are the same for all mail of one configuration set.
struct SetTexts {
    /// From `","source":` up to the message id.
    source: Vec<u8>,
    /// The same with the fields that only identity notifications have.
    untagged_source: Vec<u8>,
    /// From after the destination up to the To header.
    headers: Vec<u8>,
    /// From after the To header up to the number in the unsubscribe link.
    link: Vec<u8>,
    /// From after that up to the list of recipients.
    common: Vec<u8>,
    /// The subject of the common headers, and all tags but the campaign.
    tags: Vec<u8>,
    /// The only tag of mail without headers.
    bare_tags: Vec<u8>,
    /// The identity's ARN.
    arn: Vec<u8>,
}

impl SetTexts {
    fn new(set: &ConfigurationSet) -> Self {
        let ConfigurationSet { name, identity, .. } = set;
        let arn = format!("arn:aws:ses:eu-west-1:111122223333:identity/{identity}");
        let source = format!(
            r#"","source":"Example News <news@{identity}>","sourceArn":"{arn}","sendingAccountId":"111122223333","#
        );
        let untagged = r#""sourceIp":"203.0.113.24","callerIdentity":"mailer-role","#;
        let id = r#""messageId":""#;
        let headers = format!(
            r#"],"headersTruncated":false,"headers":[{{"name":"From","value":"Example News <news@{identity}>"}},{{"name":"To","value":""#
        );
        let link = format!(
            r#""}},{{"name":"Subject","value":"What is new this week"}},{{"name":"MIME-Version","value":"1.0"}},{{"name":"List-Unsubscribe","value":"<https://{identity}/u/"#
        );
        let common = format!(r#">"}}],"commonHeaders":{{"from":["Example News <news@{identity}>"],"to":["#);
        let tags = format!(
            r#"","subject":"What is new this week"}},"tags":{{"ses:configuration-set":["{name}"],"ses:source-tls-version":["TLSv1.3"],"ses:operation":["SendEmail"],"ses:source-ip":["203.0.113.24"],"ses:from-domain":["{identity}"],"ses:caller-identity":["mailer-role"],"campaign":["week-"#
        );
        let bare_tags = format!(r#"],"headersTruncated":false,"tags":{{"ses:configuration-set":["{name}"]}}}}"#);
        Self {
            untagged_source: format!("{source}{untagged}{id}").into_bytes(),
            source: format!("{source}{id}").into_bytes(),
            headers: headers.into_bytes(),
            link: link.into_bytes(),
            common: common.into_bytes(),
            tags: tags.into_bytes(),
            bare_tags: bare_tags.into_bytes(),
            arn: arn.into_bytes(),
        }
    }
}

impl<'a, W: io::Write> Lines<'a, W> {
    pub(super) fn new(scenario: &Scenario, out: &'a mut W) -> Self {
        Self {
            out,
            sets: scenario.configuration_sets.iter().map(SetTexts::new).collect(),
            odd_below: (scenario.odd_addresses * 4_294_967_296.0) as u64,
            buffer: Vec::with_capacity(FLUSH_AT + (1 << 16)),
            body: Vec::new(),
            wrapped: Vec::new(),
            batch: Vec::new(),
            batch_records: 0,
            batch_since_ms: 0,
            dates: Dates::default(),
            lines: 0,
        }
    }

    /// Writes the rest and returns the number of lines.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.end_batch();
        self.out.write_all(&self.buffer)?;
        self.out.flush()?;
        Ok(self.lines)
    }

    /// Writes one arrival. Arrivals must be in order.
    pub(super) fn write_event(&mut self, pending: &Pending) -> io::Result<()> {
        if self.batch_records > 0 && pending.arrives_ms - self.batch_since_ms > BATCH_MS {
            self.end_batch();
        }
        self.body.clear();
        match &pending.news {
            News::Fact { mail, fact, envelope } => {
                self.fact(mail, fact, pending.sequence);
                self.wrap(*envelope, pending, mail.set, detail_type(fact));
            }
            News::Noise { kind, set, envelope } => self.noise(*kind, *set, *envelope, pending),
            News::Garbage { kind, set } => self.garbage(*kind, *set, pending),
            News::FutureDated { set } => {
                self.plain_mail("Delivery", *set, FAR_FUTURE_MS, pending.sequence, "u0.0@yahoo.com");
                self.body.extend_from_slice(br#","delivery":{"recipients":["u0.0@yahoo.com"]}}"#);
                self.line();
            }
        }
        if self.buffer.len() >= FLUSH_AT {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    // ---- documents ----

    /// The document of a fact, into `body`.
    fn fact(&mut self, mail: &Mail, fact: &Fact, sequence: u64) {
        let kind: &str = match fact {
            Fact::Send => "Send",
            Fact::Delivery { .. } => "Delivery",
            Fact::Bounce { .. } => "Bounce",
            Fact::Delay { .. } => "DeliveryDelay",
            Fact::Complaint { .. } => "Complaint",
            Fact::Reject => "Reject",
            Fact::RenderingFailure => "Rendering Failure",
            Fact::Open { .. } => "Open",
            Fact::Click { .. } => "Click",
        };
        let discriminator: &[u8] = if mail.untagged { br#"{"notificationType":""# } else { br#"{"eventType":""# };
        self.body.extend_from_slice(discriminator);
        self.body.extend_from_slice(kind.as_bytes());
        self.body.extend_from_slice(br#"","mail":{"timestamp":""#);
        self.dates.write(&mut self.body, mail.at_ms);
        self.mail_after_date(mail, fact, sequence);
        self.detail(mail, fact, sequence);
        self.body.push(b'}');
    }

    fn mail_after_date(&mut self, mail: &Mail, fact: &Fact, sequence: u64) {
        let body = &mut self.body;
        let texts = &self.sets[mail.set];
        body.extend_from_slice(if mail.untagged { &texts.untagged_source } else { &texts.source });
        message_id(body, mail);
        body.extend_from_slice(br#"","destination":["#);
        recipients(body, mail, ALL, self.odd_below, sequence);
        if mail.untagged {
            // Headers are included only if the sender asks for them.
            body.extend_from_slice(b"]}");
            return;
        }
        if matches!(fact, Fact::Delay { .. } | Fact::RenderingFailure) {
            body.extend_from_slice(&texts.bare_tags);
            return;
        }
        body.extend_from_slice(&texts.headers);
        for (place, &host) in mail.hosts.iter().enumerate() {
            if place > 0 {
                body.extend_from_slice(b", ");
            }
            address(body, mail.number, place, host);
        }
        body.extend_from_slice(&texts.link);
        decimal(body, mail.number);
        body.extend_from_slice(&texts.common);
        recipients(body, mail, ALL, 0, sequence);
        body.extend_from_slice(br#"],"messageId":""#);
        message_id(body, mail);
        body.extend_from_slice(&texts.tags);
        decimal(body, mail.number / 1000);
        body.extend_from_slice(br#""]}}"#);
    }

    fn detail(&mut self, mail: &Mail, fact: &Fact, sequence: u64) {
        let body = &mut self.body;
        let odd_below = self.odd_below;
        match *fact {
            Fact::Send => body.extend_from_slice(br#","send":{}"#),
            Fact::Delivery { to, at_ms } => {
                body.extend_from_slice(br#","delivery":{"timestamp":""#);
                self.dates.write(body, at_ms);
                body.extend_from_slice(br#"","processingTimeMillis":"#);
                decimal(body, (at_ms - mail.at_ms).unsigned_abs());
                body.extend_from_slice(br#","recipients":["#);
                recipients(body, mail, to, odd_below, sequence);
                body.extend_from_slice(
                    br#"],"smtpResponse":"250 2.0.0 taken","remoteMtaIp":"198.51.100.61","reportingMTA":"b224-12.smtp-out.eu-west-1.amazonses.com"}"#,
                );
            }
            Fact::Bounce { to, at_ms, kind, feedback } => {
                body.extend_from_slice(br#","bounce":{"feedbackId":""#);
                feedback_id(body, mail, feedback);
                for part in [r#"","bounceType":""#, kind.bounce_type, r#"","bounceSubType":""#, kind.sub_type] {
                    body.extend_from_slice(part.as_bytes());
                }
                body.extend_from_slice(br#"","bouncedRecipients":["#);
                let action = if kind.report.is_some() { r#","action":"failed""# } else { "" };
                failed(body, mail, to, odd_below, sequence, action, kind.report);
                body.extend_from_slice(br#"],"timestamp":""#);
                self.dates.write(body, at_ms);
                body.extend_from_slice(br#"","reportingMTA":"dns; b224-12.smtp-out.eu-west-1.amazonses.com"}"#);
            }
            Fact::Delay { to, at_ms, kind } => {
                body.extend_from_slice(br#","deliveryDelay":{"timestamp":""#);
                self.dates.write(body, at_ms);
                body.extend_from_slice(br#"","delayType":""#);
                body.extend_from_slice(kind.delay_type.as_bytes());
                body.extend_from_slice(br#"","expirationTime":""#);
                self.dates.write(body, mail.at_ms + 14 * 3_600_000);
                body.extend_from_slice(br#"","reportingMTA":"192.0.2.112","delayedRecipients":["#);
                failed(body, mail, to, odd_below, sequence, "", Some((kind.status, kind.text)));
                body.extend_from_slice(b"]}");
            }
            Fact::Complaint { to, at_ms, feedback, with_report } => {
                body.extend_from_slice(br#","complaint":{"feedbackId":""#);
                feedback_id(body, mail, feedback);
                body.extend_from_slice(br#"","complaintSubType":null,"complainedRecipients":["#);
                failed(body, mail, to, odd_below, sequence, "", None);
                body.extend_from_slice(br#"],"timestamp":""#);
                self.dates.write(body, at_ms);
                if with_report {
                    body.extend_from_slice(
                        br#"","userAgent":"Example Feedback Loop/2.3","complaintFeedbackType":"abuse","arrivalDate":""#,
                    );
                    self.dates.write(body, at_ms - 90_000);
                }
                body.extend_from_slice(br#""}"#);
            }
            Fact::Reject => body.extend_from_slice(br#","reject":{"reason":"Bad content"}"#),
            Fact::RenderingFailure => body.extend_from_slice(
                br#","failure":{"templateName":"weekly","errorMessage":"the rendering data has no attribute first_name"}"#,
            ),
            Fact::Open { at_ms } => {
                body.extend_from_slice(br#","open":{"ipAddress":"203.0.113.77","timestamp":""#);
                self.dates.write(body, at_ms);
                body.extend_from_slice(br#"","userAgent":"ExampleMail/9","isBotEvent":"Unlikely"}"#);
            }
            Fact::Click { at_ms } => {
                body.extend_from_slice(br#","click":{"ipAddress":"203.0.113.77","timestamp":""#);
                self.dates.write(body, at_ms);
                body.extend_from_slice(
                    br#"","userAgent":"ExampleMail/9","link":"https://shop.example.com/list","linkTags":null,"isBotEvent":"Unlikely"}"#,
                );
            }
        }
    }

    /// The beginning of a document about a mail that is not counted: everything but its detail.
    fn plain_mail(&mut self, event_type: &str, set: usize, at_ms: i64, sequence: u64, recipient: &str) {
        let body = &mut self.body;
        for part in [r#"{"eventType":""#, event_type, r#"","mail":{"timestamp":""#] {
            body.extend_from_slice(part.as_bytes());
        }
        self.dates.write(body, at_ms);
        body.extend_from_slice(&self.sets[set].source);
        other_message_id(body, sequence);
        for part in [r#"","destination":[""#, recipient, "\""] {
            body.extend_from_slice(part.as_bytes());
        }
        body.extend_from_slice(&self.sets[set].bare_tags);
    }

    fn noise(&mut self, kind: u8, set: usize, envelope: Envelope, pending: &Pending) {
        let (at_ms, sequence) = (pending.arrives_ms, pending.sequence);
        let (event_type, detail_type, recipient, detail) = match kind {
            0 => ("Send", "Email Sent", "success@simulator.amazonses.com", r#""send":{}"#),
            1 => (
                "Delivery",
                "Email Delivered",
                "success+label@simulator.amazonses.com",
                r#""delivery":{"recipients":["success+label@simulator.amazonses.com"],"smtpResponse":"250 2.6.0 taken"}"#,
            ),
            2 => (
                "Bounce",
                "Email Bounced",
                "bounce@simulator.amazonses.com",
                r#""bounce":{"feedbackId":"F","bounceType":"Permanent","bounceSubType":"General","bouncedRecipients":[{"emailAddress":"bounce@simulator.amazonses.com","action":"failed","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 simulated"}]}"#,
            ),
            3 => (
                "Complaint",
                "Email Complaint Received",
                "Tester <Complaint@Simulator.AmazonSES.com>",
                r#""complaint":{"feedbackId":"F","complaintSubType":null,"complainedRecipients":[{"emailAddress":"complaint@simulator.amazonses.com"}],"complaintFeedbackType":"abuse"}"#,
            ),
            4 => (
                "Complaint",
                "Email Complaint Received",
                "happy@yahoo.com",
                r#""complaint":{"feedbackId":"F","complaintSubType":null,"complainedRecipients":[{"emailAddress":"happy@yahoo.com"}],"complaintFeedbackType":"not-spam"}"#,
            ),
            5 => (
                "Complaint",
                "Email Complaint Received",
                "gone@yahoo.com",
                r#""complaint":{"feedbackId":"F","complaintSubType":"OnAccountSuppressionList","complainedRecipients":[{"emailAddress":"gone@yahoo.com"}]}"#,
            ),
            6 => (
                "Subscription",
                "Email Subscribed",
                "reader@hotmail.com",
                r#""subscription":{"contactList":"readers","source":"UnsubscribeHeader","newTopicPreferences":{"unsubscribeAll":true},"oldTopicPreferences":{"unsubscribeAll":false}}"#,
            ),
            7 => (
                "Teleportation",
                "Email Teleported",
                "reader@hotmail.com",
                r#""teleportation":{"distance":[1,2.5e3,null]}"#,
            ),
            8 => (
                "Open",
                "Email Opened",
                "reader@icloud.com",
                r#""open":{"ipAddress":"203.0.113.80","userAgent":"ExampleScanner/1","isBotEvent":"Likely"}"#,
            ),
            9 => (
                "Click",
                "Email Clicked",
                "reader@gmail.com",
                r#""click":{"ipAddress":"203.0.113.80","userAgent":"ExampleScanner/1","link":"https://shop.example.com/","linkTags":{"a":["b"]},"isBotEvent":"Likely"}"#,
            ),
            10 => (
                "Bounce",
                "Email Bounced",
                "reader@msn.com",
                r#""bounce":{"feedbackId":"F","bounceType":"Sideways","bounceSubType":"General","bouncedRecipients":[{"emailAddress":"reader@msn.com"}]}"#,
            ),
            _ => return self.notice(kind, set, pending),
        };
        self.plain_mail(event_type, set, at_ms, sequence, recipient);
        self.body.push(b',');
        self.body.extend_from_slice(detail.as_bytes());
        self.body.push(b'}');
        self.wrap(envelope, pending, set, detail_type);
    }

    /// A document that is not about a mail.
    fn notice(&mut self, kind: u8, set: usize, pending: &Pending) {
        let setup = concat!(
            r#"{"notificationType":"AmazonSnsSubscriptionSucceeded","#,
            r#""message":"The topic now gets the notifications of this identity."}"#
        );
        match kind {
            11 => {
                self.body.extend_from_slice(NOTICE.as_bytes());
                self.line();
            }
            12 => {
                self.body.extend_from_slice(NOTICE.as_bytes());
                self.wrap(Envelope::Sns, pending, set, "");
            }
            13 => {
                self.body.extend_from_slice(setup.as_bytes());
                let envelope = if pending.sequence.is_multiple_of(2) { Envelope::Sns } else { Envelope::Raw };
                self.wrap(envelope, pending, set, "");
            }
            14 => {
                self.body.extend_from_slice(br#"{"Type":"SubscriptionConfirmation","MessageId":""#);
                uuid(&mut self.body, pending.sequence, 3);
                self.body.extend_from_slice(
                    br#"","Token":"0","TopicArn":"arn:aws:sns:eu-west-1:111122223333:ses-events","Message":"Please confirm.","SubscribeURL":"https://sns.example.com/confirm"}"#,
                );
                self.line();
            }
            _ => {
                let (detail_type, detail) = if pending.sequence.is_multiple_of(2) {
                    let detail = r#"{"version":"1.0.0","data":"Bounces of this identity are above a healthy level.","metadata":{"impact":"HIGH","type":"BOUNCE"}}"#;
                    ("Advisor Recommendation Status Open", detail)
                } else {
                    let detail = r#"{"version":"1.0.0","data":{"origin":"CUSTOMER_MANAGED","record":{"status":"DISABLED","cause":"by an operator","lastUpdatedTimestamp":[2026,9,14,7,5,31,0]}}}"#;
                    ("Sending Status Disabled", detail)
                };
                self.body.extend_from_slice(detail.as_bytes());
                self.wrap(Envelope::Eventbridge, pending, set, detail_type);
            }
        }
    }

    /// Broken in a way that leaves nothing to count.
    fn garbage(&mut self, kind: u8, set: usize, pending: &Pending) {
        match kind {
            0 => self.body.extend_from_slice(br#"{"eventType":"Bounce""#),
            1 => self.body.extend_from_slice(b"{}"),
            2 => self.body.extend_from_slice(br#"{"eventType":"Bounce","bounce":{}}"#),
            3 => self.body.extend_from_slice(b"this is not an event"),
            4 => self.body.extend_from_slice(
                br#"{"eventType":"Send","mail":{"timestamp":"2026-09-14T06:00:00.000Z","destination":["a@yahoo.com"]},"send":{}}"#,
            ),
            5 => self.body.extend_from_slice(br#"{"eventType":"Delivery","mail":[],"delivery":7}"#),
            6 => {
                self.plain_mail("Delivery", set, pending.arrives_ms, pending.sequence, "cut@yahoo.com");
                let half = self.body.len() / 2;
                self.body.truncate(half);
            }
            7 => self.body.extend_from_slice(
                br#"{"eventType":"Send","mail":{"timestamp":"yesterday","messageId":"0-0-0","destination":["a@yahoo.com"]},"send":{}}"#,
            ),
            8 => self.body.extend_from_slice(b"{\"eventType\":\"Send\",\"mail\":{\"messageId\":\"\xff\xfe\"}}"),
            9 => self.body.extend_from_slice(b"[1,2,[3]]"),
            _ => self.body.resize(500, b'['),
        }
        self.line();
    }

    // ---- envelopes ----

    /// Writes `body` in its envelope.
    fn wrap(&mut self, envelope: Envelope, pending: &Pending, set: usize, detail_type: &str) {
        let hash = mix(pending.sequence, 1);
        match envelope {
            Envelope::Raw => self.line(),
            Envelope::Sns => {
                self.sns(pending);
                self.wrapped_line();
            }
            Envelope::Eventbridge => {
                self.eventbridge(pending, set, detail_type);
                self.wrapped_line();
            }
            Envelope::Identity if hash.is_multiple_of(2) => self.line(),
            Envelope::Identity => {
                self.sns(pending);
                self.wrapped_line();
            }
            Envelope::SqsBatch => {
                match hash % 3 {
                    0 => std::mem::swap(&mut self.body, &mut self.wrapped),
                    1 => self.sns(pending),
                    _ => self.eventbridge(pending, set, detail_type),
                }
                self.record(pending);
            }
        }
    }

    fn sns(&mut self, pending: &Pending) {
        let wrapped = &mut self.wrapped;
        wrapped.clear();
        wrapped.extend_from_slice(br#"{"Type":"Notification","MessageId":""#);
        uuid(wrapped, pending.sequence, 2);
        for part in [r#"","TopicArn":""#, TOPIC, r#"","Subject":"Amazon SES Email Event Notification","Message":""#] {
            wrapped.extend_from_slice(part.as_bytes());
        }
        escape(&self.body, wrapped);
        wrapped.extend_from_slice(br#"\n","Timestamp":""#);
        self.dates.write(wrapped, pending.arrives_ms);
        wrapped.extend_from_slice(
            br#"","SignatureVersion":"1","Signature":"bm8gcmVhbCBzaWduYXR1cmU=","SigningCertURL":"https://sns.example.com/cert.pem","UnsubscribeURL":"https://sns.example.com/unsubscribe"}"#,
        );
    }

    fn eventbridge(&mut self, pending: &Pending, set: usize, detail_type: &str) {
        let wrapped = &mut self.wrapped;
        wrapped.clear();
        wrapped.extend_from_slice(br#"{"version":"0","id":""#);
        uuid(wrapped, pending.sequence, 4);
        for part in [r#"","detail-type":""#, detail_type, r#"","source":"aws.ses","account":"111122223333","time":""#] {
            wrapped.extend_from_slice(part.as_bytes());
        }
        self.dates.write_seconds(wrapped, pending.arrives_ms);
        wrapped.extend_from_slice(br#"","region":"eu-west-1","resources":[""#);
        wrapped.extend_from_slice(&self.sets[set].arn);
        wrapped.extend_from_slice(br#""],"detail":"#);
        wrapped.extend_from_slice(&self.body);
        wrapped.push(b'}');
    }

    /// Adds `wrapped` to the batch.
    fn record(&mut self, pending: &Pending) {
        let batch = &mut self.batch;
        if self.batch_records == 0 {
            batch.clear();
            batch.extend_from_slice(br#"{"Records":["#);
            self.batch_since_ms = pending.arrives_ms;
        } else {
            batch.push(b',');
        }
        batch.extend_from_slice(br#"{"messageId":""#);
        uuid(batch, pending.sequence, 5);
        batch.extend_from_slice(br#"","receiptHandle":"receipt","body":""#);
        escape(&self.wrapped, batch);
        batch.extend_from_slice(
            br#"","attributes":{"ApproximateReceiveCount":"1","SenderId":"AIDAEXAMPLESENDERID00","SentTimestamp":""#,
        );
        decimal(batch, pending.arrives_ms.unsigned_abs());
        batch.extend_from_slice(br#"","ApproximateFirstReceiveTimestamp":""#);
        decimal(batch, pending.arrives_ms.unsigned_abs());
        for part in [
            r#""},"messageAttributes":{},"eventSource":"aws:sqs","eventSourceARN":""#,
            QUEUE,
            r#"","awsRegion":"eu-west-1"}"#,
        ] {
            batch.extend_from_slice(part.as_bytes());
        }
        self.batch_records += 1;
        if self.batch_records == BATCH_RECORDS {
            self.end_batch();
        }
    }

    fn end_batch(&mut self) {
        if self.batch_records > 0 {
            self.buffer.extend_from_slice(&self.batch);
            self.buffer.extend_from_slice(b"]}\n");
            self.lines += 1;
            self.batch_records = 0;
        }
    }

    fn line(&mut self) {
        self.buffer.extend_from_slice(&self.body);
        self.buffer.push(b'\n');
        self.lines += 1;
    }

    fn wrapped_line(&mut self) {
        self.buffer.extend_from_slice(&self.wrapped);
        self.buffer.push(b'\n');
        self.lines += 1;
    }
}

/// EventBridge's `detail-type` of a fact.
fn detail_type(fact: &Fact) -> &'static str {
    match fact {
        Fact::Send => "Email Sent",
        Fact::Delivery { .. } => "Email Delivered",
        Fact::Bounce { .. } => "Email Bounced",
        Fact::Delay { .. } => "Email Delivery Delayed",
        Fact::Complaint { .. } => "Email Complaint Received",
        Fact::Reject => "Email Rejected",
        Fact::RenderingFailure => "Email Rendering Failed",
        Fact::Open { .. } => "Email Opened",
        Fact::Click { .. } => "Email Clicked",
    }
}

const ALL: Recipients = Recipients::MAX;

/// `"address","address"`, some of them odd.
fn recipients(body: &mut Vec<u8>, mail: &Mail, to: Recipients, odd_below: u64, sequence: u64) {
    let mut first = true;
    for (place, &host) in mail.hosts.iter().enumerate() {
        if to & (1 << place) == 0 {
            continue;
        }
        if !std::mem::take(&mut first) {
            body.push(b',');
        }
        body.push(b'"');
        odd_address(body, mail.number, place, host, odd_below, sequence);
        body.push(b'"');
    }
}

/// `{"emailAddress":…},{…}`, each with the fields of `action` and `report`.
fn failed(
    body: &mut Vec<u8>,
    mail: &Mail,
    to: Recipients,
    odd_below: u64,
    sequence: u64,
    action: &str,
    report: Option<(&str, &str)>,
) {
    let mut first = true;
    for (place, &host) in mail.hosts.iter().enumerate() {
        if to & (1 << place) == 0 {
            continue;
        }
        if !std::mem::take(&mut first) {
            body.push(b',');
        }
        body.extend_from_slice(br#"{"emailAddress":""#);
        odd_address(body, mail.number, place, host, odd_below, sequence);
        body.push(b'"');
        body.extend_from_slice(action.as_bytes());
        if let Some((status, text)) = report {
            for part in [r#","status":""#, status, r#"","diagnosticCode":""#, text, "\""] {
                body.extend_from_slice(part.as_bytes());
            }
        }
        body.push(b'}');
    }
}

fn odd_address(body: &mut Vec<u8>, number: u64, place: usize, host: Host, odd_below: u64, sequence: u64) {
    let hash = mix(sequence, place as u64 + 16);
    if hash >> 32 >= odd_below {
        return address(body, number, place, host);
    }
    let from = match hash % 3 {
        0 => body.len(),
        1 => {
            body.extend_from_slice(b"Some One <");
            body.len()
        }
        _ => {
            body.extend_from_slice(br#"\"One, Some\" <"#);
            body.len()
        }
    };
    address(body, number, place, host);
    if hash & 4 == 0 || hash.is_multiple_of(3) {
        body[from..].make_ascii_uppercase();
    }
    if !hash.is_multiple_of(3) {
        body.push(b'>');
    }
}

fn address(body: &mut Vec<u8>, number: u64, place: usize, host: Host) {
    body.push(b'u');
    decimal(body, number);
    body.push(b'.');
    decimal(body, place as u64);
    body.push(b'@');
    match host {
        Host::Named(domain, _) => body.extend_from_slice(domain.as_bytes()),
        Host::Business(n) => {
            body.extend_from_slice(b"corp-");
            decimal(body, u64::from(n));
            body.extend_from_slice(b".example.net");
        }
    }
}

fn message_id(body: &mut Vec<u8>, mail: &Mail) {
    body.extend_from_slice(b"0102019f");
    hex(body, mail.number, 8);
    body.push(b'-');
    hex(body, u64::from(mail.salt), 8);
    body.extend_from_slice(b"-4b0f-4c2d-8e61-5e2a");
    hex(body, mail.number, 8);
    body.extend_from_slice(b"-000000");
}

/// The id of a mail that is not counted: its prefix differs.
fn other_message_id(body: &mut Vec<u8>, sequence: u64) {
    body.extend_from_slice(b"0107019f");
    hex(body, sequence, 8);
    body.extend_from_slice(b"-5b1c7d2e-4b0f-4c2d-8e61-5e2a00000000-000000");
}

fn feedback_id(body: &mut Vec<u8>, mail: &Mail, feedback: u8) {
    body.extend_from_slice(b"0102019f");
    hex(body, mail.number, 8);
    body.push(b'-');
    hex(body, u64::from(mail.salt), 8);
    body.extend_from_slice(b"-3ee0-4d7f-8a55-c2d1907f");
    hex(body, u64::from(feedback), 4);
    body.extend_from_slice(b"-000000");
}

fn uuid(body: &mut Vec<u8>, sequence: u64, salt: u64) {
    let hash = mix(sequence, salt);
    hex(body, hash >> 32, 8);
    body.extend_from_slice(b"-6a3e-4b9c-a1d4-");
    hex(body, sequence, 12);
}

/// At least `width` lowercase hex digits.
fn hex(body: &mut Vec<u8>, number: u64, width: usize) {
    let used = (64 - number.leading_zeros()).div_ceil(4) as usize;
    for digit in (0..used.max(width)).rev() {
        let nibble = if digit < 16 { number >> (4 * digit) & 15 } else { 0 };
        body.push(b"0123456789abcdef"[nibble as usize]);
    }
}

fn decimal(body: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    body.extend_from_slice(&digits[from..]);
}

/// Escapes JSON strings without control characters.
fn escape(text: &[u8], into: &mut Vec<u8>) {
    into.reserve(text.len() + text.len() / 4);
    let mut from = 0;
    for (at, &byte) in text.iter().enumerate() {
        if matches!(byte, b'"' | b'\\') {
            into.extend_from_slice(&text[from..at]);
            into.push(b'\\');
            from = at;
        }
    }
    into.extend_from_slice(&text[from..]);
}

/// Spreads a number over 64 bits (SplitMix64, Steele, Lea and Flood 2014).
fn mix(number: u64, salt: u64) -> u64 {
    let mut z = number.wrapping_add(salt << 56).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Writes times as SES does, and caches the last day.
#[derive(Default)]
pub(super) struct Dates {
    day: Option<i64>,
    /// `2026-10-05T`.
    text: Vec<u8>,
}

impl Dates {
    /// `2026-10-05T06:00:00.123Z`.
    pub(super) fn write(&mut self, body: &mut Vec<u8>, at_ms: i64) {
        self.write_clock(body, at_ms);
        let ms = at_ms.rem_euclid(1000).unsigned_abs() as u32;
        body.push(b'.');
        body.push(b'0' + (ms / 100) as u8);
        two_digits(body, ms % 100);
        body.push(b'Z');
    }

    /// `2026-10-05T06:00:00Z`.
    fn write_seconds(&mut self, body: &mut Vec<u8>, at_ms: i64) {
        self.write_clock(body, at_ms);
        body.push(b'Z');
    }

    fn write_clock(&mut self, body: &mut Vec<u8>, at_ms: i64) {
        let day = at_ms.div_euclid(86_400_000);
        if self.day != Some(day) {
            self.day = Some(day);
            self.text.clear();
            let (year, month, day) = civil(day);
            // Writing to a vector cannot fail.
            let _ = write!(self.text, "{year:04}-{month:02}-{day:02}T");
        }
        body.extend_from_slice(&self.text);
        let second = (at_ms.rem_euclid(86_400_000) / 1000).unsigned_abs() as u32;
        two_digits(body, second / 3600);
        body.push(b':');
        two_digits(body, second / 60 % 60);
        body.push(b':');
        two_digits(body, second % 60);
    }
}

fn two_digits(body: &mut Vec<u8>, number: u32) {
    body.push(b'0' + (number / 10) as u8);
    body.push(b'0' + (number % 10) as u8);
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar, which repeats every 146,097 days. Years
/// are counted from March, so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}
