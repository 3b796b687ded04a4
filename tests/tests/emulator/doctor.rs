//! `ses-breaker doctor` on a sound stack, then with one fault after the other: it finds each of them and nothing else, and
//! its fix works.

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sesv2::types::{
    Body, Content, Destination, EmailContent, EventDestinationDefinition, EventType, MailType, Message, SnsDestination,
};
use aws_sdk_sqs::types::QueueAttributeName;
use e2e::emulator::{Emulator, eventually};
use serde_json::Value;

use super::account::Account;
use super::stream::event;
use super::{SOON, now};

const STACK: &str = "ill";
const SET: &str = "news";
const OF_SET: &str = "configuration-set:news";
const IDENTITY: &str = "news.example.com";

struct Patient {
    emulator: Emulator,
    account: Account,
    lambda: aws_sdk_lambda::Client,
    events_topic: String,
    alert_topic: String,
    table: String,
}

impl Patient {
    /// A sound stack: one configuration set is connected, and the alerts have a subscription.
    async fn sound() -> Patient {
        let mut emulator = Emulator::start().unwrap();
        let outputs = emulator.deploy(STACK, &[]).unwrap().outputs;
        let config = emulator.config().await;
        let account = Account::new(&config);
        account.create_configuration_set(SET).await;
        let patient = Patient {
            events_topic: outputs["EventsTopicArn"].clone(),
            alert_topic: outputs["AlertTopicArn"].clone(),
            table: outputs["ReputationTableName"].clone(),
            lambda: aws_sdk_lambda::Client::new(&config),
            emulator,
            account,
        };
        let (_, arn) =
            patient.account.create_queue("ill-alerts", patient.emulator.account(), "sns.amazonaws.com").await;
        patient.subscribe(&patient.alert_topic, &arn).await;
        patient.run("ses-breaker connect news --stack ill");
        patient
    }

    /// Runs a command, which must succeed.
    fn run(&self, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        let output = self.emulator.program(words[0], &words[1..], "").unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }

    /// The doctor's findings by severity, kind and subject; and its whole output.
    fn examine(&self) -> (Vec<[String; 3]>, Value) {
        let output =
            self.emulator.program("ses-breaker", &["doctor", "--stack", STACK, "--format", "json"], "").unwrap();
        let output_json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(output_json["not_examined"], Value::Array(Vec::new()));
        let row =
            |finding: &Value| ["severity", "kind", "subject"].map(|key| finding[key].as_str().unwrap().to_owned());
        let found: Vec<[String; 3]> = output_json["findings"].as_array().unwrap().iter().map(row).collect();
        let faults = found.iter().any(|[severity, ..]| severity == "fault");
        assert_eq!(output.status.code(), Some(i32::from(faults)), "{found:?}");
        (found, output_json)
    }

    fn suffers_nothing(&self) {
        let output = self.emulator.program("ses-breaker", &["doctor", "--stack", STACK], "").unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.starts_with("19 checks: nothing to fix\n"), "{text}");
    }

    /// Checks that exactly this is found; returns the finding and its fix.
    fn suffers(&self, expected: &[[&str; 3]]) -> (String, Vec<String>) {
        let (found, output_json) = self.examine();
        assert_eq!(found, expected, "{output_json:#}");
        let first = &output_json["findings"][0];
        let fix = first["fix"].as_array().unwrap().iter().map(|step| step.as_str().unwrap().to_owned()).collect();
        (first["found"].as_str().unwrap().to_owned(), fix)
    }

    /// A fault that a command of `ses-breaker` fixes; runs the command as printed.
    fn suffers_and_is_fixed(&self, kind: &str, subject: &str, found: &str) {
        let (seen, fix) = self.suffers(&[["fault", kind, subject]]);
        assert!(seen.contains(found), "{seen}");
        let ours: Vec<&String> = fix.iter().filter(|step| step.starts_with("ses-breaker ")).collect();
        assert_eq!(ours.len(), 1, "{fix:?}");
        self.run(ours[0]);
    }

    async fn set_destination(&self, enabled: bool, lacks: &[EventType]) {
        use EventType::{Bounce, Complaint, Delivery, DeliveryDelay, Reject, RenderingFailure, Send};
        let events = [Send, Delivery, Bounce, Complaint, Reject, RenderingFailure, DeliveryDelay];
        let events = events.into_iter().filter(|event| !lacks.contains(event)).collect();
        let sns = SnsDestination::builder().topic_arn(&self.events_topic).build().unwrap();
        let definition = EventDestinationDefinition::builder().enabled(enabled).sns_destination(sns);
        let definition = definition.set_matching_event_types(Some(events)).build();
        let request = self.account.ses.update_configuration_set_event_destination().configuration_set_name(SET);
        request.event_destination_name(STACK).event_destination(definition).send().await.unwrap();
    }

    async fn subscribe(&self, topic: &str, queue: &str) -> String {
        let request = self.account.sns.subscribe().topic_arn(topic).protocol("sqs").endpoint(queue);
        let request = request.attributes("RawMessageDelivery", "true").return_subscription_arn(true);
        request.send().await.unwrap().subscription_arn.unwrap()
    }

    /// Deletes the subscriptions of a topic; returns the queue that was subscribed to it.
    async fn unsubscribe(&self, topic: &str) -> String {
        let all = self.account.sns.list_subscriptions_by_topic().topic_arn(topic).send().await.unwrap();
        let [subscription] = all.subscriptions() else { panic!("{all:?}") };
        let arn = subscription.subscription_arn().unwrap();
        self.account.sns.unsubscribe().subscription_arn(arn).send().await.unwrap();
        subscription.endpoint().unwrap().to_owned()
    }

    async fn enable_mapping(&self, function: &str, enabled: bool) {
        let all = self.lambda.list_event_source_mappings().function_name(format!("{STACK}-{function}"));
        let all = all.send().await.unwrap();
        let uuid = all.event_source_mappings()[0].uuid().unwrap();
        self.lambda.update_event_source_mapping().uuid(uuid).enabled(enabled).send().await.unwrap();
    }

    async fn reserve(&self, function: &str, concurrency: Option<i32>) {
        let name = format!("{STACK}-{function}");
        match concurrency {
            Some(concurrency) => {
                let request = self.lambda.put_function_concurrency().function_name(name);
                request.reserved_concurrent_executions(concurrency).send().await.map(drop).unwrap();
            }
            None => self.lambda.delete_function_concurrency().function_name(name).send().await.map(drop).unwrap(),
        }
    }

    async fn measure_reputation(&self, enabled: bool) {
        let request = self.account.ses.put_configuration_set_reputation_options().configuration_set_name(SET);
        request.reputation_metrics_enabled(enabled).send().await.unwrap();
    }

    async fn leave_sandbox(&self, production: bool) {
        let request = self.account.ses.put_account_details().mail_type(MailType::Marketing);
        let request = request.website_url("https://news.example.com").production_access_enabled(production);
        request.send().await.unwrap();
    }

    async fn send_mail(&self) {
        let content = |text: &str| Content::builder().data(text).build().unwrap();
        let message = Message::builder().subject(content("News"));
        let message = message.body(Body::builder().text(content("None.")).build()).build();
        let request = self.account.ses.send_email().from_email_address(format!("editor@{IDENTITY}"));
        let request = request.destination(Destination::builder().to_addresses("reader@example.net").build());
        request.content(EmailContent::builder().simple(message).build()).send().await.unwrap();
    }

    /// Waits until a subject is in the directory.
    async fn hears_of(&self, subject: &str) {
        eventually("the event is counted", SOON, async || {
            let known = self.account.rows(&self.table, "directory", subject).await;
            if known.is_empty() { Err("nothing") } else { Ok(()) }
        })
        .await;
    }

    /// Pushes a policy from a file.
    fn push(&self, toml: &str) {
        let file = std::env::temp_dir().join(format!("ses-breaker-doctor-{}.toml", std::process::id()));
        std::fs::write(&file, toml).unwrap();
        let path = file.display().to_string();
        let output =
            self.emulator.program("ses-breaker", &["policy", "push", &path, "--yes", "--stack", STACK], "").unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// The JSON that a command quotes.
fn in_quotes(command: &str) -> &str {
    let (first, last) = (command.find('\'').unwrap(), command.rfind('\'').unwrap());
    &command[first + 1..last]
}

#[tokio::test]
async fn each_fault_is_found_alone_and_fixed_by_the_printed_command() {
    let patient = Patient::sound().await;
    patient.suffers_nothing();
    from_ses_to_the_topic(&patient).await;
    from_the_topic_to_the_functions(&patient).await;
    from_the_functions_to_people(&patient).await;
    what_is_advised(&patient).await;
    patient.suffers_nothing();
    patient.emulator.stop().unwrap();
}

async fn from_ses_to_the_topic(patient: &Patient) {
    let delete = patient.account.ses.delete_configuration_set_event_destination().configuration_set_name(SET);
    delete.event_destination_name(STACK).send().await.unwrap();
    patient.suffers_and_is_fixed("destination-missing", OF_SET, "no event destination");
    patient.set_destination(false, &[]).await;
    patient.suffers_and_is_fixed("destination-disabled", OF_SET, "ill is disabled");
    patient.set_destination(true, &[EventType::Bounce, EventType::DeliveryDelay]).await;
    patient.suffers_and_is_fixed("destination-incomplete", OF_SET, "lacks BOUNCE and DELIVERY_DELAY");

    let other = r#"{"Version":"2012-10-17","Statement":[{"Sid":"Mine","Effect":"Allow","Principal":{"Service":"ses.amazonaws.com"},"Action":"sns:Publish","Resource":"*","Condition":{"StringEquals":{"aws:SourceAccount":"999999999999"}}}]}"#;
    let set = async |policy: &str| {
        let request = patient.account.sns.set_topic_attributes().topic_arn(&patient.events_topic);
        request.attribute_name("Policy").attribute_value(policy).send().await.unwrap();
    };
    set(other).await;
    let (_, fix) = patient.suffers(&[["fault", "topic-policy", &patient.events_topic]]);
    set(in_quotes(fix.last().unwrap())).await;
}

async fn from_the_topic_to_the_functions(patient: &Patient) {
    let account = &patient.account;
    let queue = patient.unsubscribe(&patient.events_topic).await;
    let (_, fix) = patient.suffers(&[["fault", "subscription-missing", &patient.events_topic]]);
    assert!(fix[0].contains(&format!("--notification-endpoint {queue} ")), "{fix:?}");
    let subscription = patient.subscribe(&patient.events_topic, &queue).await;
    let filter = async |policy: &str| {
        let request = account.sns.set_subscription_attributes().subscription_arn(&subscription);
        request.attribute_name("FilterPolicy").attribute_value(policy).send().await.unwrap();
    };
    filter(r#"{"eventType":["Bounce"]}"#).await;
    let (_, fix) = patient.suffers(&[["fault", "subscription-filtered", &patient.events_topic]]);
    assert!(fix[0].contains(&subscription), "{fix:?}");
    filter(in_quotes(&fix[0])).await;

    let url = account.queue_url("ill-events").await;
    let none = r#"{"Version":"2012-10-17","Statement":[{"Sid":"EventsTopic","Effect":"Allow","Principal":{"Service":"sns.amazonaws.com"},"Action":"sqs:SendMessage","Resource":"*","Condition":{"ArnEquals":{"aws:SourceArn":"arn:aws:sns:eu-west-1:123456789012:old"}}}]}"#;
    account.set_queue(&url, QueueAttributeName::Policy, none).await;
    let (_, fix) = patient.suffers(&[["fault", "queue-policy", &queue]]);
    let attributes: Value = serde_json::from_str(in_quotes(&fix[0])).unwrap();
    account.set_queue(&url, QueueAttributeName::Policy, attributes["Policy"].as_str().unwrap()).await;

    let dead = account.queue_url("ill-events-dead").await;
    account.enqueue(&dead, &["{", "["]).await;
    let (found, fix) = patient.suffers(&[["fault", "dead-letters", "ill-events-dead"]]);
    assert_eq!(found, "it has 2 messages");
    assert!(fix.iter().any(|step| step.contains("sqs start-message-move-task")), "{fix:?}");
    assert_eq!(account.take(&dead).await.len(), 2);

    patient.enable_mapping("ingest", false).await;
    patient.suffers(&[["fault", "mapping-disabled", "ill-ingest"]]);
    patient.enable_mapping("ingest", true).await;
    patient.enable_mapping("enforcer", false).await;
    patient.suffers(&[["fault", "mapping-disabled", "ill-enforcer"]]);
    patient.enable_mapping("enforcer", true).await;
    patient.reserve("warmup", Some(0)).await;
    patient.suffers(&[["fault", "function-stopped", "ill-warmup"]]);
    patient.reserve("warmup", None).await;
    account.eventbridge.disable_rule().name("ill-breaker-tick").send().await.unwrap();
    patient.suffers(&[["fault", "rule-disabled", "ill-breaker-tick"]]);
    account.eventbridge.enable_rule().name("ill-breaker-tick").send().await.unwrap();
}

async fn from_the_functions_to_people(patient: &Patient) {
    let queue = patient.unsubscribe(&patient.alert_topic).await;
    patient.suffers(&[["fault", "alerts-unheard", &patient.alert_topic]]);
    patient.subscribe(&patient.alert_topic, &queue).await;

    patient.push("mode = \"act\"\n");
    let request = patient.account.dynamodb.update_item().table_name(&patient.table);
    let request = request.key("pk", AttributeValue::S("policy".into())).key("sk", AttributeValue::S("current".into()));
    let request = request.update_expression("SET toml = :toml");
    let request = request.expression_attribute_values(":toml", AttributeValue::S("mode = \"watch\"".into()));
    request.send().await.unwrap();
    let (found, _) = patient.suffers(&[["fault", "policy-invalid", "policy"]]);
    assert!(found.contains("policy version 1 is invalid"), "{found}");
    patient.push(
        "[subjects]\nprotected = [\"configuration-set:nwes\"]\n\n[warmup.sets]\nnews = {}\n\n[warmup.dedicated_ips]\nnews = [\"192.0.2.10\"]\n",
    );
    let (_, fix) = patient.suffers(&[
        ["fault", "policy-name-unknown", "configuration-set:nwes"],
        ["fault", "dedicated-ip-unknown", "192.0.2.10"],
    ]);
    assert_eq!(fix[0], "Did you mean news?");
    patient.push("mode = \"act\"\n");
}

async fn what_is_advised(patient: &Patient) {
    let account = &patient.account;
    patient.reserve("enforcer", None).await;
    patient.measure_reputation(false).await;
    patient.leave_sandbox(false).await;
    patient.suffers(&[
        ["advice", "account-sandbox", "account"],
        ["advice", "reputation-metrics-off", OF_SET],
        ["advice", "enforcer-concurrency", "ill-enforcer"],
    ]);
    patient.reserve("enforcer", Some(1)).await;
    patient.measure_reputation(true).await;
    patient.leave_sandbox(true).await;

    account.ses.create_email_identity().email_identity(IDENTITY).send().await.unwrap();
    let (_, fix) = patient.suffers(&[["advice", "default-set-missing", "identity:news.example.com"]]);
    assert!(fix[0].contains("--email-identity news.example.com --configuration-set-name news "), "{fix:?}");
    let request = account.ses.put_email_identity_configuration_set_attributes().email_identity(IDENTITY);
    request.configuration_set_name(SET).send().await.unwrap();

    patient.send_mail().await;
    let (found, _) = patient.suffers(&[["fault", "events-stale", "ill-ingest"]]);
    assert_eq!(found, "no event has ever arrived, though SES sent 1 mail in the last 24 hours");
    let delivery =
        event("Delivery", SET, IDENTITY, "one", now(), r#""delivery":{"recipients":["reader@example.net"]}"#);
    account.publish(&patient.events_topic, &[&delivery]).await;
    patient.hears_of(OF_SET).await;
    // The same mail in a notification of the identity.
    let (tags, detail) = (delivery.find(r#","tags""#).unwrap(), delivery.find(r#""delivery":"#).unwrap());
    let untagged = format!("{}}},{}", &delivery[..tags], &delivery[detail..]);
    let untagged = untagged.replace("eventType", "notificationType").replace("\"one\"", "\"two\"");
    account.publish(&patient.events_topic, &[untagged]).await;
    patient.hears_of("configuration-set:(none)").await;
    patient.suffers(&[["advice", "identity-notifications", "configuration-set:(none)"]]);
    let request = account.dynamodb.delete_item().table_name(&patient.table);
    let request = request.key("pk", AttributeValue::S("directory".into()));
    request.key("sk", AttributeValue::S("configuration-set:(none)".into())).send().await.unwrap();
}
