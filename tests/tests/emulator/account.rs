//! The actions and views of a person with the AWS command line.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sesv2::types::SendingOptions;
use aws_sdk_sns::types::PublishBatchRequestEntry;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use serde_json::{Value, json};

use super::stream::Totals;

/// An AWS account, through its API.
pub(crate) struct Account {
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) eventbridge: aws_sdk_eventbridge::Client,
    pub(crate) ses: aws_sdk_sesv2::Client,
    pub(crate) sns: aws_sdk_sns::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
}

/// The most messages that SNS and SQS accept in one request.
const BATCH: usize = 10;

impl Account {
    pub(crate) fn new(config: &SdkConfig) -> Account {
        Account {
            dynamodb: aws_sdk_dynamodb::Client::new(config),
            eventbridge: aws_sdk_eventbridge::Client::new(config),
            ses: aws_sdk_sesv2::Client::new(config),
            sns: aws_sdk_sns::Client::new(config),
            sqs: aws_sdk_sqs::Client::new(config),
        }
    }

    pub(crate) async fn create_configuration_set(&self, name: &str) {
        let sending = SendingOptions::builder().sending_enabled(true).build();
        self.ses.create_configuration_set().configuration_set_name(name).sending_options(sending).send().await.unwrap();
    }

    pub(crate) async fn sending_enabled(&self, set: &str) -> bool {
        let answer = self.ses.get_configuration_set().configuration_set_name(set).send().await.unwrap();
        answer.sending_options().unwrap().sending_enabled()
    }

    /// The action of a person at the console.
    pub(crate) async fn enable_sending(&self, set: &str) {
        let request = self.ses.put_configuration_set_sending_options().configuration_set_name(set);
        request.sending_enabled(true).send().await.unwrap();
    }

    /// Publishes as configuration sets do.
    pub(crate) async fn publish(&self, topic: &str, messages: &[impl AsRef<str>]) {
        for batch in messages.chunks(BATCH) {
            let mut request = self.sns.publish_batch().topic_arn(topic);
            for (index, message) in batch.iter().enumerate() {
                let entry = PublishBatchRequestEntry::builder().id(index.to_string()).message(message.as_ref()).build();
                request = request.publish_batch_request_entries(entry.unwrap());
            }
            let answer = request.send().await.unwrap();
            assert!(answer.failed().is_empty(), "{:?}", answer.failed());
        }
    }

    /// Sends as a rule of EventBridge does.
    pub(crate) async fn enqueue(&self, queue: &str, messages: &[impl AsRef<str>]) {
        for batch in messages.chunks(BATCH) {
            let mut request = self.sqs.send_message_batch().queue_url(queue);
            for (index, message) in batch.iter().enumerate() {
                let entry =
                    SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(message.as_ref());
                request = request.entries(entry.build().unwrap());
            }
            let answer = request.send().await.unwrap();
            assert!(answer.failed().is_empty(), "{:?}", answer.failed());
        }
    }

    pub(crate) async fn queue_url(&self, name: &str) -> String {
        self.sqs.get_queue_url().queue_name(name).send().await.unwrap().queue_url.unwrap()
    }

    /// A queue to which a service of AWS may send, and its ARN.
    pub(crate) async fn create_queue(&self, name: &str, account: &str, service: &str) -> (String, String) {
        let url = self.sqs.create_queue().queue_name(name).send().await.unwrap().queue_url.unwrap();
        let arn = format!("arn:aws:sqs:eu-west-1:{account}:{name}");
        let policy = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow",
            "Principal": { "Service": service }, "Action": "sqs:SendMessage", "Resource": arn }] });
        self.set_queue(&url, QueueAttributeName::Policy, &policy.to_string()).await;
        (url, arn)
    }

    pub(crate) async fn set_queue(&self, url: &str, attribute: QueueAttributeName, value: &str) {
        self.sqs.set_queue_attributes().queue_url(url).attributes(attribute, value).send().await.unwrap();
    }

    /// The ARN of a queue.
    pub(crate) async fn arn(&self, queue: &str) -> String {
        let request = self.sqs.get_queue_attributes().queue_url(queue).attribute_names(QueueAttributeName::QueueArn);
        request.send().await.unwrap().attributes.unwrap().remove(&QueueAttributeName::QueueArn).unwrap()
    }

    /// The number of messages in a queue, including those in flight.
    pub(crate) async fn waiting(&self, queue: &str) -> usize {
        let counts = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let mut request = self.sqs.get_queue_attributes().queue_url(queue);
        for count in &counts {
            request = request.attribute_names(count.clone());
        }
        let attributes = request.send().await.unwrap().attributes.unwrap();
        counts.iter().map(|count| attributes[count].parse::<usize>().unwrap()).sum()
    }

    /// Takes the messages of a queue; returns their bodies.
    pub(crate) async fn take(&self, queue: &str) -> Vec<String> {
        let request = self.sqs.receive_message().queue_url(queue).max_number_of_messages(10).wait_time_seconds(0);
        let mut bodies = Vec::new();
        for message in request.send().await.unwrap().messages.unwrap_or_default() {
            let handle = message.receipt_handle.unwrap();
            self.sqs.delete_message().queue_url(queue).receipt_handle(handle).send().await.unwrap();
            bodies.push(message.body.unwrap());
        }
        bodies
    }

    /// The pattern of a rule on the default bus.
    pub(crate) async fn pattern(&self, rule: &str) -> String {
        self.eventbridge.describe_rule().name(rule).send().await.unwrap().event_pattern.unwrap()
    }

    pub(crate) async fn matches(&self, pattern: &str, event: &Value) -> bool {
        let request = self.eventbridge.test_event_pattern().event_pattern(pattern).event(event.to_string());
        request.send().await.unwrap().result()
    }

    /// The sums of the rows of one length (`m`, `h` or `d`) of one subject, or of all.
    pub(crate) async fn totals(&self, table: &str, length: &str, subject: Option<&str>) -> Totals {
        let mut totals = Totals::new();
        let items = match subject {
            None => self.items(table).await,
            Some(subject) => self.rows(table, subject, &format!("rate#{length}#")).await,
        };
        for item in items {
            let (pk, sk) = (item["pk"].as_s().unwrap(), item["sk"].as_s().unwrap());
            if !sk.starts_with(&format!("rate#{length}#")) {
                continue;
            }
            for (name, value) in &item {
                let Some((isp, counter)) = name.rsplit_once('.') else { continue };
                // What is known of bounces at business domains is no total.
                if counter.ends_with("domains") {
                    continue;
                }
                let count: u64 = value.as_n().unwrap().parse().unwrap();
                let counters = totals.entry((pk.clone(), isp.to_owned())).or_default();
                *counters.entry(counter.to_owned()).or_default() += count;
            }
        }
        totals
    }

    /// The items of one partition whose range key has this prefix.
    pub(crate) async fn rows(&self, table: &str, pk: &str, sk: &str) -> Vec<Item> {
        let query = self.dynamodb.query().table_name(table).consistent_read(true);
        let query = query.key_condition_expression("pk = :pk AND begins_with(sk, :sk)");
        let query = query.expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()));
        let query = query.expression_attribute_values(":sk", AttributeValue::S(sk.to_owned()));
        let mut pages = query.into_paginator().items().send();
        let mut items = Vec::new();
        while let Some(item) = pages.next().await {
            items.push(item.unwrap().into_iter().collect());
        }
        items
    }

    pub(crate) async fn items(&self, table: &str) -> Vec<Item> {
        let mut pages = self.dynamodb.scan().table_name(table).consistent_read(true).into_paginator().items().send();
        let mut items = Vec::new();
        while let Some(item) = pages.next().await {
            items.push(item.unwrap().into_iter().collect());
        }
        items
    }

    /// Makes the enforcer's records about a target ten minutes older, so that the test need not wait.
    pub(crate) async fn age_desired_state(&self, table: &str, target: &str) {
        let keys = [("pk", "control"), ("sk", target)].map(|(name, key)| (name, AttributeValue::S(key.to_owned())));
        for name in ["written", "doubted_at", "again"] {
            let mut update = self.dynamodb.update_item().table_name(table);
            for (key, value) in &keys {
                update = update.key(*key, value.clone());
            }
            let update = update
                .update_expression("SET #at = #at - :ten")
                .condition_expression("attribute_exists(#at)")
                .expression_attribute_names("#at", name)
                .expression_attribute_values(":ten", AttributeValue::N("600000".to_owned()));
            // A missing item need not be aged.
            let _ = update.send().await;
        }
    }

    /// The state of the breaker of a subject at all ISPs.
    pub(crate) async fn breaker(&self, table: &str, subject: &str) -> String {
        let breakers = self.rows(table, subject, "breaker#").await;
        let of_all = breakers.iter().find(|item| item["sk"].as_s().is_ok_and(|sk| sk == "breaker#"));
        of_all.map_or("closed".to_owned(), |item| item["state"].as_s().unwrap().clone())
    }
}

/// An item of a table.
pub(crate) type Item = BTreeMap<String, AttributeValue>;
