//! Which hard bounces are at one business domain, from the ledger's items to the breaker; also of items of earlier releases,
//! which do not say it.

use aws_lambda_events::dynamodb::EventRecord;
use breaker::stream::StreamBatch;
use e2e::cloud::{Cloud, LEDGER, REPUTATION};
use e2e::stack::Stack;
use reputation::Policy;
use reputation::time::Now;
use serde_json::{Value, json};

use super::mail::{Mailbox, NEWS};

const START: Now = Now(1_791_273_600_000);

/// A stack with 20 mails to one domain, of which this number bounces; and the records of its stream.
async fn sent(domain: &str, isp: &str, bounces: usize) -> (Cloud, Stack, Vec<EventRecord>) {
    let cloud = Cloud::new();
    let mut stack = Stack::new(&cloud, false);
    let mut mailbox = Mailbox::default();
    for mail in 0..20 {
        match mail < bounces {
            true => mailbox.bounced(NEWS, domain, isp, START),
            false => mailbox.delivered(NEWS, domain, isp, START),
        }
    }
    let events: Vec<&str> = mailbox.events.iter().map(String::as_str).collect();
    stack.ingest(&events, START).await.unwrap();
    let records = cloud.stream(LEDGER);
    (cloud, stack, records)
}

#[tokio::test(start_paused = true)]
async fn an_item_without_a_bucket_is_a_unit_all_the_same() {
    let (cloud, _, records) = sent("company.example", "other", 1).await;
    let isps = Policy::default().isp_map;
    let read = |records: &[EventRecord]| {
        let batch = StreamBatch::read(records, &isps);
        let buckets = batch.records.iter().filter(|read| read.unit.bucket.is_some()).count();
        (batch.records.len(), buckets, batch.malformed.len())
    };
    assert_eq!(read(&records), (40, 1, 0));
    let mut scanned = 0;
    let mut count = |unit: aws::layout::StoredUnit, _: &_| scanned += usize::from(unit.bucket.is_some());
    aws::ledger::scan(&cloud.clients().dynamodb(), LEDGER, START, &mut count).await.unwrap();
    assert_eq!(scanned, 1);
    for bucket in [Value::Null, json!({ "N": "64" }), json!({ "N": "-1" }), json!({ "S": "1" })] {
        let changed = |record: &EventRecord| {
            let mut record = serde_json::to_value(record).unwrap();
            let image = record["dynamodb"]["NewImage"].as_object_mut().unwrap();
            if image.remove("bucket").is_some() && !bucket.is_null() {
                image.insert("bucket".to_owned(), bucket.clone());
            }
            serde_json::from_value(record).unwrap()
        };
        let changed: Vec<EventRecord> = records.iter().map(changed).collect();
        assert_eq!(read(&changed), (40, 0, 0), "{bucket}");
    }
}

#[tokio::test(start_paused = true)]
async fn people_of_one_company_that_bounce_stop_nobody_and_those_of_a_provider_do() {
    for (domain, isp, stopped) in [("company.example", "other", false), ("gmail.com", "gmail", true)] {
        let (cloud, mut stack, records) = sent(domain, isp, 12).await;
        stack.fold(&records, START).await.unwrap();
        stack.tick(START).await.unwrap();
        let items = cloud.items(REPUTATION);
        let is = |item: &&Value, sk: &str| item["pk"]["S"] == "configuration-set:news" && item["sk"]["S"] == sk;
        let breaker = items.iter().find(|item| is(item, "breaker#"));
        assert_eq!(breaker.is_some_and(|item| item["state"]["S"] == "open"), stopped, "{domain}");
        // Every bounce is in the totals.
        let day = format!("rate#d#{:010}", START.minute().day().0);
        let row = items.iter().find(|item| is(item, &day)).unwrap();
        assert_eq!(row[format!("{isp}.hard_bounces")]["N"], "12");
        assert_eq!(row.get("other.at_domains").map(|count| &count["N"]), (!stopped).then_some(&json!("12")));
    }
}
