//! A deployed stack on an emulated AWS of its own. What a test needs beyond it, it adds in a type that has this one as its
//! base.

use std::collections::BTreeMap;
use std::time::Duration;

use aws::invocation::now;
use aws::policies::{Policies, Pushed};
use aws_config::SdkConfig;
use e2e::emulator::Emulator;
use permits::HttpGate;

use super::account::Account;

/// Far longer than anything takes; only failures wait this long.
pub(crate) const SOON: Duration = Duration::from_secs(120);

pub(crate) struct Fixture {
    pub(crate) emulator: Emulator,
    pub(crate) account: Account,
    pub(crate) config: SdkConfig,
    /// The outputs of the stack.
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) events_topic: String,
    pub(crate) table: String,
}

impl Fixture {
    /// Deploys the template under this name, with these parameters, in an account with these configuration sets.
    pub(crate) async fn deploy(stack: &str, parameters: &[(&str, &str)], sets: &[&str]) -> Fixture {
        let mut emulator = Emulator::start().unwrap();
        let outputs = emulator.deploy(stack, parameters).unwrap().outputs;
        let config = emulator.config().await;
        let account = Account::new(&config);
        for set in sets {
            account.create_configuration_set(set).await;
        }
        let (events_topic, table) = (outputs["EventsTopicArn"].clone(), outputs["ReputationTableName"].clone());
        Fixture { emulator, account, config, outputs, events_topic, table }
    }

    /// Makes this the policy after version `after`.
    pub(crate) async fn push(&self, toml: &str, after: u64) {
        let policies = Policies::new(self.account.dynamodb.clone(), &self.table);
        assert_eq!(policies.push(toml, after, "the test", now()).await.unwrap(), Pushed::Pushed(after + 1));
    }

    pub(crate) async fn publish(&self, events: &[impl AsRef<str>]) {
        self.account.publish(&self.events_topic, events).await;
    }

    /// The URL of a new queue that is subscribed to the topic of this output.
    pub(crate) async fn subscribe(&self, queue: &str, output: &str) -> String {
        let (url, arn) = self.account.create_queue(queue, self.emulator.account(), "sns.amazonaws.com").await;
        let subscription = self.account.sns.subscribe().topic_arn(&self.outputs[output]).protocol("sqs");
        subscription.endpoint(arn).send().await.unwrap();
        url
    }

    /// A client of the stack's gate, and the gate's URL. The emulator has no host names for function URLs; it answers at a
    /// path instead.
    pub(crate) fn gate(&self) -> (HttpGate, String) {
        let id = self.outputs["GateUrl"].trim_start_matches("https://").split('.').next().unwrap();
        let url = format!("{}/_aws/lambda-url/{id}/", self.emulator.endpoint());
        (HttpGate::new(&url, &self.config).unwrap(), url)
    }
}

/// Lets an extension of the fixture be used as the fixture.
macro_rules! extends_fixture {
    ($extension:ty) => {
        impl std::ops::Deref for $extension {
            type Target = $crate::fixture::Fixture;

            fn deref(&self) -> &$crate::fixture::Fixture {
                &self.base
            }
        }
    };
}
pub(crate) use extends_fixture;
