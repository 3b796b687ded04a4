//! Event objects in the S3 of an emulated AWS, through the use case itself.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use e2e::emulator::Emulator;
use operator::access::Access;
use operator::backtest::{Order, PolicyFile, Recording, backtest};
use operator::{Answer, Exit, Failure};
use reputation::time::Now;
use serde_json::Value;

use crate::answers::answered;

/// 2026-11-21: after all streams.
const LATER: Now = Now(1_795_219_200_000);

async fn tested(access: &Access, place: &str) -> Result<Answer, Failure> {
    let policy = PolicyFile { file: "my.toml".to_owned(), toml: String::new() };
    let recording = Recording::Objects(place.parse().unwrap());
    let order = Order { against: Some(policy.clone()), policy, gate: true, recording, since: None, until: None };
    answered(backtest(access, &order, LATER, &|_, _, _| {}).await)
}

#[tokio::test]
async fn objects_of_an_emulated_bucket_are_listed_fetched_and_judged() {
    let emulator = Emulator::start().unwrap();
    let config = emulator.config().await;
    let region = config.region().unwrap().to_string();
    let s3 = Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
    let place = CreateBucketConfiguration::builder();
    let place = place.location_constraint(BucketLocationConstraint::from(region.as_str())).build();
    s3.create_bucket().bucket("mail-events").create_bucket_configuration(place).send().await.unwrap();
    let whole = std::fs::read("../../events/streams/stale-list.ndjson.gz").unwrap();
    // More objects than are fetched ahead.
    let mut objects: Vec<(String, Vec<u8>)> =
        (0..6).map(|hour| (format!("2026/10/06/{hour:02}/a"), Vec::new())).collect();
    objects[3].1 = whole.clone();
    objects.push(("2026/10/06/06/cut.gz".to_owned(), whole[..whole.len() / 3].to_vec()));
    objects.push(("2026/10/06/07/plain.gz".to_owned(), b"{\"eventType\": \"none\"}\n".to_vec()));
    for (key, bytes) in objects {
        s3.put_object().bucket("mail-events").key(key).body(ByteStream::from(bytes)).send().await.unwrap();
    }
    let access = Access {
        stack: "test".to_owned(),
        region,
        profile: None,
        clients: aws::clients::Clients::new(config),
        user: None,
    };
    let output = tested(&access, "s3://mail-events/2026/10/").await.unwrap();
    assert_eq!(output.exit, Exit::Done);
    let output: Value = serde_json::from_str(&output.json).unwrap();
    assert_eq!((&output["objects"], &output["input"]["recorded"]), (&8.into(), &8391.into()), "{output}");
    let damaged: Vec<&str> =
        output["damaged"].as_array().unwrap().iter().filter_map(|it| it["object"].as_str()).collect();
    assert_eq!(damaged, ["s3://mail-events/2026/10/06/06/cut.gz", "s3://mail-events/2026/10/06/07/plain.gz"]);
    assert_eq!((&output["unchanged"], output["changes"].as_array().unwrap().len()), (&4.into(), 0));

    let missing = tested(&access, "s3://nobodys-bucket/").await.unwrap_err();
    assert!(missing.remedy().contains("no bucket nobodys-bucket"), "{missing:?}");
    let empty = tested(&access, "s3://mail-events/2025/").await.unwrap_err();
    assert!(empty.remedy().contains("must match the keys exactly"), "{empty:?}");
}
