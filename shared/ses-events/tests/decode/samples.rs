//! Whole documents.

use std::path::Path;

use ses_events::Decoded;

use crate::decode;

pub(crate) const SEND: &str = include_str!("../samples/send.json");
pub(crate) const COMPLAINT: &str = include_str!("../samples/complaint.json");
pub(crate) const DELIVERY_DELAY: &str = include_str!("../samples/delivery_delay.json");
pub(crate) const IDENTITY_DELIVERY: &str = include_str!("../samples/identity_delivery.json");
pub(crate) const ALL: &[&str] = &[crate::BOUNCE, SEND, COMPLAINT, DELIVERY_DELAY, IDENTITY_DELIVERY];

#[test]
fn every_sample_is_an_event() {
    let outcomes: String = ALL.iter().map(|sample| crate::outcomes(sample.as_bytes())).collect();
    insta::assert_snapshot!(outcomes, @"
    event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640
    event: Send of 0102019f00000011-5b1c7d2e-0011-4c3a-9f10-7a64be0d0011-000000 at 1789365601118
    event: Complaint of 0102019f0000001b-5b1c7d2e-001b-4c3a-9f10-7a64be0d001b-000000 at 1789365604900
    event: DeliveryDelay of 0102019f0000001d-5b1c7d2e-001d-4c3a-9f10-7a64be0d001d-000000 at 1789365605700
    event: Delivery of 0102019f00000023-5b1c7d2e-0023-4c3a-9f10-7a64be0d0023-000000 at 1789365602000
    ");
}

#[test]
fn a_bounce_is_read_to_the_last_field() {
    let mut shown = String::new();
    decode(crate::BOUNCE.as_bytes(), |decoded| shown = format!("{decoded:#?}"));
    insta::assert_snapshot!(shown, @r#"
    Event(
        Event {
            origin: EventPublishing,
            mail: Mail {
                timestamp: Timestamp(
                    1789365601640,
                ),
                message_id: "0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000",
                source: Some(
                    "Example Stores <news@mail.example.com>",
                ),
                destination: [
                    "gone@recipient.example.net",
                ],
                configuration_set: Some(
                    "warmup-news-01",
                ),
                from_domain: Some(
                    "mail.example.com",
                ),
                tags: {
                    "ses:configuration-set": "warmup-news-01",
                    "ses:source-tls-version": "TLSv1.3",
                    "ses:operation": "SendEmail",
                    "ses:source-ip": "203.0.113.24",
                    "ses:from-domain": "mail.example.com",
                    "ses:caller-identity": "mailer-role",
                    "campaign": "autumn-restock",
                    "shard": "07",
                },
            },
            detail: Bounce(
                Bounce {
                    timestamp: Some(
                        Timestamp(
                            1789365603377,
                        ),
                    ),
                    bounce_type: "Permanent",
                    bounce_sub_type: "General",
                    recipients: [
                        FailedRecipient {
                            email_address: Some(
                                "gone@recipient.example.net",
                            ),
                            action: Some(
                                "failed",
                            ),
                            status: Some(
                                "5.1.1",
                            ),
                            diagnostic_code: Some(
                                "smtp; 550 5.1.1 mailbox gone@recipient.example.net not known here",
                            ),
                        },
                    ],
                    feedback_id: Some(
                        "0102019f00000012-3ee0a1b4-0012-4d7f-8a55-c2d1907f0012-000000",
                    ),
                },
            ),
            published_at: None,
            unreadable_dates: 0,
            unreadable_recipients: 0,
        },
    )
    "#);
}

/// Every event file of the project is a test case; the table in their README lists which are rejected.
#[test]
fn every_file_of_the_project_is_decoded_as_its_table_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    let table = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut seen = 0;
    for line in table.lines() {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let Some(name) = cells.next().and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`')) else { continue };
        let Ok(document) = std::fs::read(folder.join(name)) else { continue };
        let counts = cells.nth(1).unwrap();
        // A date in the future can only be found with a clock, which decoding does not have.
        let is_bad = counts.contains("rejected") && !counts.contains("decoded");
        let documents: Vec<&[u8]> = if name.ends_with(".ndjson") {
            document.split_inclusive(|byte| *byte == b'\n').collect()
        } else {
            vec![&document]
        };
        let mut rejections = Vec::new();
        for document in documents {
            decode(document, |decoded| {
                if let Decoded::Rejected(rejection) = decoded {
                    rejections.push(rejection.to_string());
                }
            });
        }
        assert_eq!(is_bad, !rejections.is_empty(), "{name}: {rejections:?}");
        seen += 1;
    }
    assert!(seen > 100, "only {seen} files are in the table");
}
