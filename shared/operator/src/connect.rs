//! Connects configuration sets: adds an event destination to each that publishes to the stack's events topic.
//!
//! The destination is named like the stack, so that two stacks can listen to one configuration set, and each finds its own
//! destination. The stack owns it: differences from what is asked for are changed and reported.
//!
//! **Invariant:** "connected" is reported only after it was read back from SES.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use aws::clients::port_error;
use aws::ses::SPACING;
use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::error::SdkError;
use aws_sdk_sesv2::types::{EventDestination, EventDestinationDefinition, EventType, SnsDestination};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use pipeline::{Disposition, PortError};
use serde::Serialize;
use terminal::suggest;
use tokio::time::{Instant, sleep, sleep_until};

use crate::asking::Progress;
use crate::failure::Failure;
use crate::{Access, Exit};

/// The events that every breaker needs. Opens, clicks and subscriptions cost money and count against no sender.
pub(crate) const NEEDED: [EventType; 7] = [
    EventType::Send,
    EventType::Delivery,
    EventType::Bounce,
    EventType::Complaint,
    EventType::Reject,
    EventType::RenderingFailure,
    EventType::DeliveryDelay,
];
pub(crate) const ENGAGEMENT: [EventType; 2] = [EventType::Open, EventType::Click];

/// What to connect, and how.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Names of configuration sets, with or without `configuration-set:` before them.
    pub sets: Vec<String>,
    /// All configuration sets instead.
    pub all: bool,
    /// Also publish opens and clicks.
    pub engagement: bool,
    /// Change nothing.
    pub dry_run: bool,
}

/// The results for all configuration sets.
#[derive(Clone, Debug, Serialize)]
pub struct Connected {
    /// ARN of the topic that the events go to.
    pub topic: String,
    /// Name of the event destinations.
    pub destination: String,
    /// The events that they publish.
    pub events: Vec<String>,
    /// Nothing was changed.
    pub dry_run: bool,
    /// The configuration sets, in the order in which they were named.
    pub configuration_sets: Vec<ConnectedSet>,
}

impl Connected {
    /// The number of configuration sets that are connected.
    pub fn count(&self) -> usize {
        self.configuration_sets.iter().filter(|set| set.became.is_good()).count()
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        if self.count() == self.configuration_sets.len() { Exit::Done } else { Exit::No }
    }
}

/// The result for one configuration set.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectedSet {
    /// Its name.
    pub name: String,
    /// See [`Became`].
    #[serde(flatten)]
    pub became: Became,
    /// Notes.
    pub notes: Vec<String>,
}

/// What happened to one configuration set; in a dry run, what would happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Became {
    /// It was already connected.
    Unchanged,
    /// It had no event destination, and has one now.
    Created,
    /// Its event destination was changed.
    Updated {
        /// The changes.
        changes: Vec<String>,
    },
    /// There is no such configuration set.
    Missing {
        /// Similar names.
        nearest: Vec<String>,
    },
    /// SES refused, or shows something else than was asked for.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Became {
    fn is_good(&self) -> bool {
        match self {
            Became::Unchanged | Became::Created | Became::Updated { .. } => true,
            Became::Missing { .. } | Became::Failed { .. } => false,
        }
    }
}

/// Connects configuration sets to a stack.
///
/// # Errors
///
/// The stack does not exist, or AWS refuses what concerns more than one configuration set.
pub async fn connect(access: &Access, order: &Order, progress: Progress<'_>) -> Result<Connected, Failure> {
    let topic = events_topic(access).await?;
    let mut ses = Ses::new(access);
    let names = if order.all {
        progress(0, 0, "listing configuration sets");
        let all = ses.list().await.map_err(|error| access.refused(error))?.to_vec();
        if all.is_empty() {
            return Err(Failure::NoConfigurationSets { region: access.region.clone() });
        }
        all
    } else {
        plain_names(&order.sets)
    };
    let events: Vec<EventType> = NEEDED.iter().chain(ENGAGEMENT.iter().filter(|_| order.engagement)).cloned().collect();
    let wanted = Wanted { name: access.stack.clone(), topic, events };
    let mut sets = Vec::new();
    for (place, name) in names.iter().enumerate() {
        progress(place, names.len(), name);
        let set = connect_one(&mut ses, &wanted, name, order.dry_run).await.map_err(|error| access.refused(error))?;
        sets.push(set);
    }
    Ok(Connected {
        events: wanted.events.iter().map(|event| event.as_str().to_owned()).collect(),
        topic: wanted.topic,
        destination: wanted.name,
        dry_run: order.dry_run,
        configuration_sets: sets,
    })
}

/// Names of configuration sets without their prefix, each once.
pub(crate) fn plain_names(sets: &[String]) -> Vec<String> {
    let mut known = BTreeSet::new();
    let plain = sets.iter().map(|name| name.strip_prefix("configuration-set:").unwrap_or(name));
    plain.filter(|name| known.insert(*name)).map(str::to_owned).collect()
}

/// ARN of the stack's events topic, derived from that of its table.
pub(crate) async fn events_topic(access: &Access) -> Result<String, Failure> {
    let asked = access.clients.dynamodb().describe_table().table_name(access.table()).send().await;
    let answer = asked.map_err(|error| access.refused(port_error("looking for the stack", &error)))?;
    let arn = answer.table().and_then(|table| table.table_arn()).unwrap_or_default();
    match arn.split(':').collect::<Vec<_>>()[..] {
        ["arn", partition, _, region, account, ..] => {
            Ok(format!("arn:{partition}:sns:{region}:{account}:{}-events", access.stack))
        }
        _ => Err(access.refused(PortError {
            operation: "looking for the stack",
            reason: format!("DescribeTable returned `{arn}`, which is not an ARN"),
            disposition: Disposition::Halt,
        })),
    }
}

/// The event destination that a configuration set should have.
struct Wanted {
    name: String,
    topic: String,
    events: Vec<EventType>,
}

impl Wanted {
    fn definition(&self) -> EventDestinationDefinition {
        // The topic is all that an SNS destination has.
        let sns = SnsDestination::builder().topic_arn(&self.topic).build().ok();
        let definition = EventDestinationDefinition::builder().enabled(true).set_sns_destination(sns);
        definition.set_matching_event_types(Some(self.events.clone())).build()
    }

    /// The changes that turn a destination into this one.
    fn changes(&self, known: &EventDestination) -> Vec<String> {
        let mut changes = Vec::new();
        let names = |events: Vec<&EventType>| events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(", ");
        let added: Vec<&EventType> =
            self.events.iter().filter(|event| !known.matching_event_types().contains(event)).collect();
        let dropped: Vec<&EventType> =
            known.matching_event_types().iter().filter(|event| !self.events.contains(event)).collect();
        if !added.is_empty() {
            changes.push(format!("adds {}", names(added)));
        }
        if !dropped.is_empty() {
            changes.push(format!("drops {}", names(dropped)));
        }
        let target = target(known);
        if target != self.topic {
            changes.push(format!("publishes to {} instead of {target}", self.topic));
        }
        if !known.enabled() {
            changes.push("is enabled".to_owned());
        }
        changes
    }

    /// Notes about the other destinations of a configuration set.
    fn notes(&self, destinations: &[EventDestination]) -> Vec<String> {
        let others = destinations.iter().filter(|other| other.name() != self.name && other.enabled());
        let note = |other: &EventDestination| {
            let shared: Vec<&str> = other
                .matching_event_types()
                .iter()
                .filter(|event| self.events.contains(event))
                .map(EventType::as_str)
                .collect();
            let name = other.name();
            match (shared.is_empty(), target(other) == self.topic) {
                (true, _) => None,
                (false, true) => Some(format!(
                    "destination {name} publishes to the same topic: {} would come twice, cost twice and count once",
                    shared.join(", ")
                )),
                (false, false) => {
                    Some(format!("destination {name} still publishes {} to {}", shared.join(", "), target(other)))
                }
            }
        };
        others.filter_map(note).collect()
    }
}

/// The target of an event destination.
pub(crate) fn target(known: &EventDestination) -> String {
    let sns = known.sns_destination().map(|sns| sns.topic_arn().to_owned());
    let bus = || known.event_bridge_destination().map(|bus| bus.event_bus_arn().to_owned());
    let firehose = || known.kinesis_firehose_destination().map(|hose| hose.delivery_stream_arn().to_owned());
    let metrics = || known.cloud_watch_destination().map(|_| "CloudWatch metrics".to_owned());
    sns.or_else(bus).or_else(firehose).or_else(metrics).unwrap_or_else(|| "something else".to_owned())
}

/// Connects one configuration set, as [`connect`] does.
///
/// # Errors
///
/// As [`connect`].
pub(crate) async fn connect_set(access: &Access, ses: &mut Ses, name: &str) -> Result<ConnectedSet, Failure> {
    let topic = events_topic(access).await?;
    let wanted = Wanted { name: access.stack.clone(), topic, events: NEEDED.to_vec() };
    connect_one(ses, &wanted, name, false).await.map_err(|error| access.refused(error))
}

/// Fails only for what would fail with every other configuration set, too.
async fn connect_one(ses: &mut Ses, wanted: &Wanted, name: &str, dry_run: bool) -> Result<ConnectedSet, PortError> {
    let answer = |became: Became, notes: Vec<String>| ConnectedSet { name: name.to_owned(), became, notes };
    let destinations = match ses.destinations(name).await {
        Ok(destinations) => destinations,
        Err(SesError::Missing) => {
            let known = ses.list().await?;
            // Suggests nothing if no name is close.
            let nearest = suggest(name, known.iter().map(String::as_str)).into_iter().map(str::to_owned).collect();
            return Ok(answer(Became::Missing { nearest }, Vec::new()));
        }
        Err(SesError::Other(error)) => return failed(answer, error),
    };
    let notes = wanted.notes(&destinations);
    let known = destinations.iter().find(|known| known.name() == wanted.name);
    let changes = known.map(|known| wanted.changes(known));
    let became = match &changes {
        Some(changes) if changes.is_empty() => return Ok(answer(Became::Unchanged, notes)),
        Some(changes) => Became::Updated { changes: changes.clone() },
        None => Became::Created,
    };
    if dry_run {
        return Ok(answer(became, notes));
    }
    let written = if changes.is_some() { ses.update(name, wanted).await } else { ses.create(name, wanted).await };
    let read_back = match written {
        Ok(()) => ses.destinations(name).await,
        Err(error) => Err(error),
    };
    let destinations = match read_back {
        Ok(destinations) => destinations,
        Err(SesError::Missing) => return Ok(answer(Became::Missing { nearest: Vec::new() }, notes)),
        Err(SesError::Other(error)) => return failed(answer, error),
    };
    let differs = match destinations.iter().find(|known| known.name() == wanted.name) {
        None => Some(format!("SES does not show destination {} afterwards", wanted.name)),
        Some(known) => Some(wanted.changes(known))
            .filter(|left| !left.is_empty())
            .map(|left| format!("SES accepted it but shows something else; missing: {}", left.join("; "))),
    };
    Ok(answer(differs.map_or(became, |reason| Became::Failed { reason }), notes))
}

/// A refusal for one configuration set says nothing about the next one.
fn failed(
    answer: impl FnOnce(Became, Vec<String>) -> ConnectedSet,
    error: PortError,
) -> Result<ConnectedSet, PortError> {
    failed_by(error).map(|reason| answer(Became::Failed { reason }, Vec::new()))
}

/// Why SES refuses something for one configuration set.
///
/// # Errors
///
/// The error, if it concerns other configuration sets, too.
pub(crate) fn failed_by(error: PortError) -> Result<String, PortError> {
    match error.disposition {
        Disposition::Quarantine => Ok(error.reason),
        // A configuration set has at most ten destinations.
        Disposition::Retry if error.reason.starts_with("LimitExceeded") => Ok(error.reason),
        Disposition::Retry | Disposition::Halt => Err(error),
    }
}

/// Suggestions for the name of a configuration set that does not exist, as a sentence.
pub(crate) async fn nearest_of(ses: &mut Ses, name: &str) -> Result<Option<String>, PortError> {
    let known = ses.list().await?;
    let nearest: Vec<String> =
        suggest(name, known.iter().map(String::as_str)).into_iter().map(terminal::name).collect();
    Ok((!nearest.is_empty()).then(|| format!("did you mean {}?", nearest.join(" or "))))
}

/// Why SES did not answer.
pub(crate) enum SesError {
    /// There is no such configuration set.
    Missing,
    Other(PortError),
}

/// SES, called at most once a second.
pub(crate) struct Ses {
    pub(crate) client: Client,
    /// When the last call was answered.
    last: Option<Instant>,
    /// All configuration sets, once they were listed.
    listed: Option<Vec<String>>,
}

/// Waits after SES reports too many calls: people and the enforcer share the limit.
const BUSY: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(8)];
/// Names of configuration sets per answer.
const PAGE: i32 = 1000;

impl Ses {
    pub(crate) fn new(access: &Access) -> Ses {
        Ses { client: access.clients.ses(), last: None, listed: None }
    }

    pub(crate) async fn call<T, E, F>(&mut self, operation: &'static str, call: impl Fn() -> F) -> Result<T, SesError>
    where
        E: ProvideErrorMetadata + Error + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut waits = BUSY.iter();
        loop {
            if let Some(last) = self.last {
                sleep_until(last + SPACING).await;
            }
            let answer = call().await;
            self.last = Some(Instant::now());
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match (error.as_service_error().and_then(ProvideErrorMetadata::code), waits.next()) {
                (Some("NotFoundException"), _) => return Err(SesError::Missing),
                (Some("TooManyRequestsException" | "ThrottlingException"), Some(wait)) => sleep(*wait).await,
                _ => return Err(SesError::Other(port_error(operation, &error))),
            }
        }
    }

    pub(crate) async fn destinations(&mut self, set: &str) -> Result<Vec<EventDestination>, SesError> {
        let client = self.client.clone();
        let call = || client.get_configuration_set_event_destinations().configuration_set_name(set).send();
        let answer = self.call("asking SES for event destinations", call).await?;
        Ok(answer.event_destinations.unwrap_or_default())
    }

    async fn create(&mut self, set: &str, wanted: &Wanted) -> Result<(), SesError> {
        let client = self.client.clone();
        let call = || {
            let request = client.create_configuration_set_event_destination().configuration_set_name(set);
            request.event_destination_name(&wanted.name).event_destination(wanted.definition()).send()
        };
        self.call("creating an event destination", call).await.map(drop)
    }

    pub(crate) async fn delete(&mut self, set: &str, destination: &str) -> Result<(), SesError> {
        let client = self.client.clone();
        let call = || {
            let request = client.delete_configuration_set_event_destination().configuration_set_name(set);
            request.event_destination_name(destination).send()
        };
        self.call("deleting an event destination", call).await.map(drop)
    }

    async fn update(&mut self, set: &str, wanted: &Wanted) -> Result<(), SesError> {
        let client = self.client.clone();
        let call = || {
            let request = client.update_configuration_set_event_destination().configuration_set_name(set);
            request.event_destination_name(&wanted.name).event_destination(wanted.definition()).send()
        };
        self.call("changing an event destination", call).await.map(drop)
    }

    /// All configuration sets in this Region.
    pub(crate) async fn list(&mut self) -> Result<&[String], PortError> {
        if self.listed.is_none() {
            let client = self.client.clone();
            let (mut names, mut next) = (Vec::new(), None);
            loop {
                let from: Option<String> = next.take();
                let call = || client.list_configuration_sets().page_size(PAGE).set_next_token(from.clone()).send();
                let operation = "listing configuration sets";
                let page = self.call(operation, call).await.map_err(|error| match error {
                    SesError::Other(error) => error,
                    SesError::Missing => {
                        PortError { operation, reason: "NotFoundException".to_owned(), disposition: Disposition::Halt }
                    }
                })?;
                names.extend(page.configuration_sets.unwrap_or_default());
                next = page.next_token;
                if next.is_none() {
                    break;
                }
            }
            names.sort();
            self.listed = Some(names);
        }
        Ok(self.listed.as_deref().unwrap_or_default())
    }
}
