//! The facts about a stack and the SES account: what was read, and what could not be read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::Minute;
use terminal::quoted;

/// A fact, or why it could not be read.
pub type Fact<T> = Result<T, NotExamined>;

/// Why a fact is not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotExamined {
    /// The permission that reading it needs, such as `sns:GetTopicAttributes`.
    pub needs: &'static str,
    /// The resource: an ARN or a name.
    pub of: String,
    /// Whether that permission is missing.
    pub denied: bool,
    /// The error of AWS.
    pub reason: String,
}

/// The place of a stack.
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
    /// The profile that was named, if one was.
    pub profile: Option<String>,
}

impl Place {
    /// ARN of a queue or topic of the stack; `part` is `events`, for example.
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

/// All facts.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The place of the stack.
    pub place: Place,
    /// Milliseconds by which this machine's clock is ahead of AWS's; negative if it is behind.
    pub ahead_millis: Fact<i64>,
    /// The policy that the functions use.
    pub policy: Fact<PolicyFacts>,
    /// The subjects that the stack has seen, and the last hour with their events.
    pub heard: Fact<BTreeMap<Subject, Minute>>,
    /// The SES account.
    pub account: Fact<AccountFacts>,
    /// The configuration sets of the account, by name; `None`: not read.
    pub sets: Fact<BTreeMap<String, Option<SetFacts>>>,
    /// The identities of the account, each with its default configuration set.
    pub identities: Fact<BTreeMap<String, Fact<Option<String>>>>,
    /// Configuration sets and identities that were not read, because there are too many.
    pub left_out: Vec<NotExamined>,
    /// The dedicated IPs that the policy names; `None`: not in this account.
    pub ips: BTreeMap<IpAddr, Fact<Option<Ip>>>,
    /// The policy of the events topic.
    pub topic_policy: Fact<Option<String>>,
    /// The subscriptions of the events topic.
    pub listeners: Fact<Vec<Listener>>,
    /// The subscriptions of the alert topic.
    pub alert_listeners: Fact<Vec<Listener>>,
    /// The queue of events.
    pub queue: Fact<QueueFacts>,
    /// The queue of dead letters.
    pub dead_letters: Fact<QueueFacts>,
    /// Other topics in this account and Region to which destinations publish, by ARN, and whether they exist.
    pub other_topics: BTreeMap<String, Fact<bool>>,
    /// The other stacks of ses-breaker that have stopped configuration sets, by name, and whether they exist.
    pub other_stacks: BTreeMap<String, Fact<bool>>,
    /// Event source mappings, by function.
    pub mappings: BTreeMap<&'static str, Fact<Vec<Mapping>>>,
    /// Reserved concurrency, by function; `None`: not reserved.
    pub concurrency: BTreeMap<&'static str, Fact<Option<i32>>>,
    /// Whether rules are enabled; `None`: does not exist.
    pub rules: BTreeMap<&'static str, Fact<Option<bool>>>,
}

/// The policy in the table.
#[derive(Clone, Debug)]
pub struct PolicyFacts {
    /// The one in use.
    pub policy: Policy,
    /// Its version; 0 is the default.
    pub version: u64,
    /// Why the pushed policy is not in use, if it is not.
    pub problem: Option<String>,
}

/// The account at SES.
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

/// A configuration set at SES.
#[derive(Clone, Debug)]
pub struct SetFacts {
    /// Its event destinations.
    pub destinations: Fact<Vec<Destination>>,
    /// Whether SES publishes its rates to CloudWatch.
    pub reputation_metrics: Fact<bool>,
    /// The ses-breaker stack that stopped it, according to its tag; `None` if it sends, or has no tag.
    pub stopped_by: Option<String>,
}

/// An event destination.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// The target: the ARN of a topic or event bus, or a description of another target.
    pub target: String,
    /// The events, by their names in the API: `SEND`.
    pub events: Vec<String>,
}

/// A subscription of a topic. The endpoint is kept for queues only, because others may be mail addresses.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `sqs`, `email`, …
    pub protocol: String,
    /// ARN of a queue.
    pub queue: Option<String>,
    /// Its ARN; `None` as long as its owner has not confirmed it.
    pub arn: Option<String>,
    /// Its filter, if it has one; read for the stack's queue only.
    pub filter: Fact<Option<String>>,
}

/// A queue.
#[derive(Clone, Debug)]
pub struct QueueFacts {
    /// Its URL.
    pub url: String,
    /// Its policy.
    pub policy: Option<String>,
    /// Approximate number of waiting messages.
    pub waiting: u64,
}

/// An event source mapping.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Its id.
    pub uuid: String,
    /// `Enabled`, `Disabled`, …
    pub state: String,
    /// The result of the last batch.
    pub last: Option<String>,
}

/// A dedicated IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// Its warm-up percentage can be set.
    Standard,
    /// SES warms it up itself.
    Managed,
}
