//! What is known of a stack and of the SES account: what was read, and what could not be.

use std::collections::BTreeMap;
use std::net::IpAddr;

use replay::text::quoted;
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::Minute;

/// Something that was read, or why it was not.
pub type Fact<T> = Result<T, NotExamined>;

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotExamined {
    /// The permission that reading it takes, such as `sns:GetTopicAttributes`.
    pub needs: &'static str,
    /// Of what: an ARN or a name.
    pub of: String,
    /// Whether that permission is what is missing.
    pub denied: bool,
    /// What AWS said.
    pub reason: String,
}

/// Where a stack is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Name of the stack.
    pub stack: String,
    /// Its Region.
    pub region: String,
    /// `aws`, `aws-cn`, …
    pub partition: String,
    /// Number of the account.
    pub account: String,
    /// The profile that was asked for, if one was.
    pub profile: Option<String>,
}

impl Place {
    /// ARN of a queue or topic of the stack: `part` is `events`, say.
    pub fn arn(&self, service: &str, part: &str) -> String {
        let Place { stack, region, partition, account, .. } = self;
        format!("arn:{partition}:{service}:{region}:{account}:{stack}-{part}")
    }

    /// ARN of the default event bus.
    pub fn bus(&self) -> String {
        let Place { region, partition, account, .. } = self;
        format!("arn:{partition}:events:{region}:{account}:event-bus/default")
    }

    /// ARN of a configuration set.
    pub fn arn_of_set(&self, set: &str) -> String {
        let Place { region, partition, account, .. } = self;
        format!("arn:{partition}:ses:{region}:{account}:configuration-set/{set}")
    }

    /// Name of a function or rule of the stack.
    pub fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.stack)
    }

    /// A command of the AWS CLI.
    pub(super) fn aws(&self, words: &str) -> String {
        format!("aws {words}{}", self.options())
    }

    /// A command of this program.
    pub(super) fn ours(&self, words: &str) -> String {
        let stack = match self.stack.as_str() {
            "ses-breaker" => String::new(),
            stack => format!(" --stack {}", quoted(stack)),
        };
        format!("ses-breaker {words}{stack}{}", self.options())
    }

    fn options(&self) -> String {
        let profile = self.profile.as_ref().map(|profile| format!(" --profile {}", quoted(profile)));
        format!(" --region {}{}", quoted(&self.region), profile.unwrap_or_default())
    }
}

/// Everything that is examined.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where the stack is.
    pub place: Place,
    /// Milliseconds by which this machine's clock is ahead of AWS's; negative if it is behind.
    pub ahead_millis: Fact<i64>,
    /// The policy that the functions go by.
    pub policy: Fact<PolicyFacts>,
    /// Whom the stack has heard of, and the last hour in which it did.
    pub heard: Fact<BTreeMap<Subject, Minute>>,
    /// The SES account.
    pub account: Fact<AccountFacts>,
    /// The configuration sets of the account, by name; `None` was not asked about.
    pub sets: Fact<BTreeMap<String, Option<SetFacts>>>,
    /// The identities of the account, each with its default configuration set.
    pub identities: Fact<BTreeMap<String, Fact<Option<String>>>>,
    /// What was not asked about of configuration sets and identities, because there are so many.
    pub left_out: Vec<NotExamined>,
    /// The dedicated IPs that the policy names; `None` is none of this account.
    pub ips: BTreeMap<IpAddr, Fact<Option<Ip>>>,
    /// The policy of the events topic.
    pub topic_policy: Fact<Option<String>>,
    /// Who listens to the events topic.
    pub listeners: Fact<Vec<Listener>>,
    /// Who listens to the alert topic.
    pub reported: Fact<Vec<Listener>>,
    /// The queue of events.
    pub queue: Fact<QueueFacts>,
    /// The queue of dead letters.
    pub dead_letters: Fact<QueueFacts>,
    /// The topics in this account and Region that destinations lead to besides ours, by ARN, and whether they exist.
    pub other_topics: BTreeMap<String, Fact<bool>>,
    /// The other stacks of ses-breaker that have stopped configuration sets, by name, and whether they exist.
    pub other_stacks: BTreeMap<String, Fact<bool>>,
    /// Event source mappings, by function.
    pub mappings: BTreeMap<&'static str, Fact<Vec<Mapping>>>,
    /// Reserved concurrency, by function; `None` is none.
    pub concurrency: BTreeMap<&'static str, Fact<Option<i32>>>,
    /// Whether rules are enabled; `None` does not exist.
    pub rules: BTreeMap<&'static str, Fact<Option<bool>>>,
}

/// The policy in the table.
#[derive(Clone, Debug)]
pub struct PolicyFacts {
    /// The one in use.
    pub policy: Policy,
    /// Its version; 0 is the default.
    pub version: u64,
    /// Why it is not the current one, if it is not.
    pub problem: Option<String>,
}

/// What SES says of the account.
#[derive(Clone, Debug)]
pub struct AccountFacts {
    /// Whether it is out of the sandbox.
    pub production: bool,
    /// Whether it may send.
    pub sending: bool,
    /// `HEALTHY`, `PROBATION`, `SHUTDOWN`.
    pub enforcement: Option<String>,
    /// Mails that it sent in the last 24 hours.
    pub sent: u64,
}

/// What SES says of a configuration set.
#[derive(Clone, Debug)]
pub struct SetFacts {
    /// Its event destinations.
    pub destinations: Fact<Vec<Destination>>,
    /// Whether SES publishes its rates to CloudWatch.
    pub reputation_metrics: Fact<bool>,
    /// The stack of ses-breaker that has stopped it, as its tag says; `None` if it sends, or has no tag.
    pub stopped_by: Option<String>,
}

/// An event destination.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// ARN of the topic or event bus that it leads to; something else leads to nobody of ours.
    pub target: String,
    /// Which events, as the API names them: `SEND`.
    pub events: Vec<String>,
}

/// A subscription of a topic. Where it leads is told of queues only, because others may be addresses.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `sqs`, `email`, …
    pub protocol: String,
    /// ARN of a queue.
    pub queue: Option<String>,
    /// Its ARN; `None` as long as its owner has not confirmed it.
    pub arn: Option<String>,
    /// What it lets through, if not everything; looked at for our queue only.
    pub filter: Fact<Option<String>>,
}

/// A queue.
#[derive(Clone, Debug)]
pub struct QueueFacts {
    /// Its URL.
    pub url: String,
    /// Its policy.
    pub policy: Option<String>,
    /// Messages that wait in it, about.
    pub waiting: u64,
}

/// An event source mapping.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Its id.
    pub uuid: String,
    /// `Enabled`, `Disabled`, …
    pub state: String,
    /// What became of the last batch.
    pub last: Option<String>,
}

/// A dedicated IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// Its warm-up can be set.
    Standard,
    /// SES warms it up by itself.
    Managed,
}
