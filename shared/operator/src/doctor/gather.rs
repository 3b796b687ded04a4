//! Reads the facts: SES at most once a second, the other services meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use aws::clients::port_error;
use aws::policies::PolicyInUse;
use aws::ses::MARK_TAG;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_sqs::types::QueueAttributeName;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::{DateTime, Format};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use pipeline::{Disposition, PortError};
use reputation::policy::Policy;
use reputation::time::Now;
use tokio::time::Instant;

use super::facts::{
    AccountFacts, Destination, Fact, Facts, Ip, Listener, Mapping, NotExamined, Place, PolicyFacts, QueueFacts,
    SetFacts,
};
use crate::Access;
use crate::asking::Progress;
use crate::connect::{Ses, SesError, target};
use crate::failure::Failure;

/// SES allows one call a second: at most this many configuration sets, and as many identities, are read.
const MAX_READ: usize = 200;
/// Names per answer of SES.
const PAGE: i32 = 1000;

/// Functions that queues and streams wake.
const WOKEN: [&str; 3] = ["ingest", "breaker", "enforcer"];
const FUNCTIONS: [&str; 5] = ["ingest", "breaker", "enforcer", "warmup", "gate"];
const RULES: [&str; 6] = ["breaker-tick", "enforcer-tick", "warmup-tick", "sending-status", "advisor", "mail-events"];

/// Reads all facts.
///
/// # Errors
///
/// The stack's table cannot be described.
pub(super) async fn gather(access: &Access, now: Now, progress: Progress<'_>) -> Result<Facts, Failure> {
    progress(0, 0, "looking for the stack");
    let (place, ahead_millis) = locate(access, now).await?;
    let table = access.table();
    let mut in_use = PolicyInUse::new(access.policies(), true);
    let known = in_use.get().await.map(|(known, _)| known.clone());
    let policy = known.map_err(|error| unknown("dynamodb:GetItem", &table, error)).map(|known| PolicyFacts {
        policy: known.policy,
        version: known.version,
        problem: known.problem,
    });
    let rules_of_default = Policy::default();
    let in_force = policy.as_ref().map_or(&rules_of_default, |known| &known.policy);
    let store = access.reputation(in_force);
    let heard = async { store.directory().await.map_err(|error| unknown("dynamodb:Query", &table, error)) };
    let (ses, heard, topics, queues, functions, rules) = tokio::join!(
        of_ses(access, in_force, progress),
        heard,
        of_topics(access, &place),
        of_queues(access, &place),
        of_functions(access, &place),
        of_rules(access, &place),
    );
    let (topic_policy, listeners, alert_listeners) = topics;
    let (queue, dead_letters) = queues;
    let (mappings, concurrency) = functions;
    let OfSes { account, sets, identities, left_out, ips } = ses;
    let (other_topics, other_stacks) = of_others(access, &place, &sets).await;
    Ok(Facts {
        place,
        ahead_millis,
        policy,
        heard,
        account,
        sets,
        identities,
        left_out,
        ips,
        topic_policy,
        listeners,
        alert_listeners,
        queue,
        dead_letters,
        other_topics,
        other_stacks,
        mappings,
        concurrency,
        rules,
    })
}

/// Keeps the date of the last answer.
#[derive(Clone, Debug, Default)]
struct DateOfAnswer(Arc<Mutex<Option<String>>>);

impl Intercept for DateOfAnswer {
    fn name(&self) -> &'static str {
        "DateOfAnswer"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Ok(mut date) = self.0.lock() {
            *date = context.response().headers().get("date").map(str::to_owned);
        }
        Ok(())
    }
}

/// The place of the stack, and how far this machine's clock is ahead of AWS's.
async fn locate(access: &Access, now: Now) -> Result<(Place, Fact<i64>), Failure> {
    let began = Instant::now();
    let date = DateOfAnswer::default();
    let request = access.clients.dynamodb().describe_table().table_name(access.table());
    let answer = request.customize().interceptor(date.clone()).send().await;
    let elapsed = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    let operation = "looking for the stack";
    let answer = answer.map_err(|error| access.refused(port_error(operation, &error)))?;
    let arn = answer.table().and_then(|table| table.table_arn()).unwrap_or_default();
    let ["arn", partition, _, region, account, ..] = arn.split(':').collect::<Vec<_>>()[..] else {
        let reason = format!("DescribeTable returned `{arn}`, which is not an ARN");
        return Err(access.refused(PortError { operation, reason, disposition: Disposition::Halt }));
    };
    let place = Place {
        stack: access.stack.clone(),
        region: region.to_owned(),
        partition: partition.to_owned(),
        account: account.to_owned(),
        profile: access.profile.clone(),
    };
    let date = date.0.lock().ok().and_then(|mut date| date.take());
    let by_aws = date.as_deref().and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
    let by_aws = by_aws.and_then(|by_aws| by_aws.to_millis().ok());
    let ahead = by_aws.map(|by_aws| now.0.saturating_add(elapsed).saturating_sub(by_aws));
    let not_known = || NotExamined {
        needs: "dynamodb:DescribeTable",
        of: access.table(),
        denied: false,
        reason: match &date {
            None => "the answer of AWS has no date".to_owned(),
            Some(date) => format!("the answer of AWS has the date `{date}`"),
        },
    };
    Ok((place, ahead.ok_or_else(not_known)))
}

/// Why a fact is not known.
fn unknown(needs: &'static str, of: &str, error: PortError) -> NotExamined {
    let code = error.reason.split([':', ' ']).next().unwrap_or_default();
    let code = code.strip_suffix("Exception").unwrap_or(code);
    let denied = ["AccessDenied", "AuthorizationError", "UnauthorizedOperation", "KMSAccessDenied"].contains(&code);
    NotExamined { needs, of: of.to_owned(), denied, reason: error.reason }
}

fn fact<T, E>(needs: &'static str, of: &str, answer: Result<T, SdkError<E, HttpResponse>>) -> Fact<T>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    answer.map_err(|error| unknown(needs, of, port_error("examining", &error)))
}

/// The facts from SES.
struct OfSes {
    account: Fact<AccountFacts>,
    sets: Fact<BTreeMap<String, Option<SetFacts>>>,
    identities: Fact<BTreeMap<String, Fact<Option<String>>>>,
    left_out: Vec<NotExamined>,
    ips: BTreeMap<IpAddr, Fact<Option<Ip>>>,
}

async fn of_ses(access: &Access, policy: &Policy, progress: Progress<'_>) -> OfSes {
    let mut ses = Ses::new(access);
    progress(0, 0, "examining the SES account");
    let account = account(&mut ses).await;
    progress(0, 0, "listing configuration sets and identities");
    let names = ses.list().await.map(<[String]>::to_vec);
    let names = names.map_err(|error| unknown("ses:ListConfigurationSets", "*", error));
    let identities = identities(&mut ses).await;
    let mut left_out = Vec::new();
    let mut leave_out = |needs: &'static str, what: &str, all: usize| {
        if all > MAX_READ {
            let reason = format!(
                "there are {all} {what}, and SES allows one call a second: the first {MAX_READ} by name were examined"
            );
            left_out.push(NotExamined { needs, of: format!("{} {what}", all - MAX_READ), denied: false, reason });
        }
    };
    let count = |names: &Fact<Vec<String>>| names.as_ref().map_or(0, Vec::len);
    leave_out("ses:GetConfigurationSetEventDestinations", "configuration sets", count(&names));
    leave_out("ses:GetConfigurationSet", "configuration sets", count(&names));
    leave_out("ses:GetEmailIdentity", "identities", count(&identities));
    let ips = policy.warmup.mirrors.iter().flat_map(|mirror| &mirror.ips);
    let ips: BTreeSet<IpAddr> = ips.copied().collect();
    let all = count(&names).min(MAX_READ) + count(&identities).min(MAX_READ) + ips.len();

    let mut done = 0;
    let mut step = |what: &str| {
        progress(done, all, what);
        done += 1;
    };
    let sets = match names {
        Err(missing) => Err(missing),
        Ok(names) => {
            let mut sets = BTreeMap::new();
            for (place, name) in names.into_iter().enumerate() {
                if place >= MAX_READ {
                    sets.insert(name, None);
                    continue;
                }
                step(&name);
                let facts = set(&mut ses, &name).await;
                sets.extend(facts.map(|facts| (name, Some(facts))));
            }
            Ok(sets)
        }
    };
    let identities = match identities {
        Err(missing) => Err(missing),
        Ok(names) => {
            let mut identities = BTreeMap::new();
            for name in names.into_iter().take(MAX_READ) {
                step(shown(&name));
                let default = default_set(&mut ses, &name).await;
                identities.extend(default.map(|default| (name, default)));
            }
            Ok(identities)
        }
    };
    let mut warmed = BTreeMap::new();
    for ip in ips {
        step(&ip.to_string());
        warmed.insert(ip, dedicated_ip(&mut ses, ip).await);
    }
    OfSes { account, sets, identities, left_out, ips: warmed }
}

/// Why a fact from SES is not known.
fn not_known(needs: &'static str, of: &str, error: SesError) -> NotExamined {
    match error {
        SesError::Other(error) => unknown(needs, of, error),
        SesError::Missing => {
            NotExamined { needs, of: of.to_owned(), denied: false, reason: "NotFoundException".to_owned() }
        }
    }
}

async fn account(ses: &mut Ses) -> Fact<AccountFacts> {
    let client = ses.client.clone();
    let answer = ses.call("examining the account", || client.get_account().send()).await;
    let account = answer.map_err(|error| not_known("ses:GetAccount", "*", error))?;
    Ok(AccountFacts {
        production: account.production_access_enabled(),
        sending: account.sending_enabled(),
        enforcement: account.enforcement_status().map(str::to_owned),
        // Never negative, and far below the largest u64.
        sent: account.send_quota().map_or(0, |quota| quota.sent_last24_hours() as u64),
    })
}

/// The names of all identities.
async fn identities(ses: &mut Ses) -> Fact<Vec<String>> {
    let client = ses.client.clone();
    let (mut names, mut next) = (Vec::new(), None);
    loop {
        let from: Option<String> = next.take();
        let call = || client.list_email_identities().page_size(PAGE).set_next_token(from.clone()).send();
        let page = ses.call("listing identities", call).await;
        let page = page.map_err(|error| not_known("ses:ListEmailIdentities", "*", error))?;
        names.extend(
            page.email_identities.unwrap_or_default().into_iter().filter_map(|identity| identity.identity_name),
        );
        next = page.next_token;
        if next.is_none() {
            names.sort();
            return Ok(names);
        }
    }
}

/// The facts about a configuration set; `None` if it was deleted meanwhile.
async fn set(ses: &mut Ses, name: &str) -> Option<SetFacts> {
    let destinations = match ses.destinations(name).await {
        Ok(destinations) => Ok(destinations.iter().map(destination).collect()),
        Err(SesError::Missing) => return None,
        Err(error) => Err(not_known("ses:GetConfigurationSetEventDestinations", name, error)),
    };
    let client = ses.client.clone();
    let call = || client.get_configuration_set().configuration_set_name(name).send();
    let mut stopped_by = None;
    let reputation_metrics = match ses.call("examining a configuration set", call).await {
        Ok(set) => {
            let stopped = set.sending_options().is_some_and(|options| !options.sending_enabled());
            let mut tags = set.tags().iter().filter(|tag| tag.key() == MARK_TAG && !tag.value().is_empty());
            stopped_by = tags.next().filter(|_| stopped).map(|tag| tag.value().to_owned());
            Ok(set.reputation_options().is_some_and(|options| options.reputation_metrics_enabled()))
        }
        Err(SesError::Missing) => return None,
        Err(error) => Err(not_known("ses:GetConfigurationSet", name, error)),
    };
    Some(SetFacts { destinations, reputation_metrics, stopped_by })
}

fn destination(known: &aws_sdk_sesv2::types::EventDestination) -> Destination {
    Destination {
        name: known.name().to_owned(),
        enabled: known.enabled(),
        target: target(known),
        events: known.matching_event_types().iter().map(|event| event.as_str().to_owned()).collect(),
    }
}

/// An identity as it may be shown: in the sandbox, addresses are those of recipients.
fn shown(identity: &str) -> &str {
    identity.split_once('@').map_or(identity, |(_, domain)| domain)
}

/// The default configuration set of an identity; `None` if the identity was deleted meanwhile.
async fn default_set(ses: &mut Ses, name: &str) -> Option<Fact<Option<String>>> {
    let client = ses.client.clone();
    let call = || client.get_email_identity().email_identity(name).send();
    match ses.call("examining an identity", call).await {
        Ok(identity) => Some(Ok(identity.configuration_set_name)),
        Err(SesError::Missing) => None,
        Err(error) => Some(Err(not_known("ses:GetEmailIdentity", shown(name), error))),
    }
}

async fn dedicated_ip(ses: &mut Ses, ip: IpAddr) -> Fact<Option<Ip>> {
    let client = ses.client.clone();
    let call = || client.get_dedicated_ip().ip(ip.to_string()).send();
    match ses.call("examining a dedicated IP", call).await {
        Ok(answer) => {
            // SES returns -1 for an IP that it manages.
            let percent = answer.dedicated_ip().map(|ip| ip.warmup_percentage());
            Ok(percent.map(|percent| if percent < 0 { Ip::Managed } else { Ip::Standard }))
        }
        Err(SesError::Missing) => Ok(None),
        Err(error) => Err(not_known("ses:GetDedicatedIp", &ip.to_string(), error)),
    }
}

type OfTopics = (Fact<Option<String>>, Fact<Vec<Listener>>, Fact<Vec<Listener>>);

/// The policy of the events topic, and the subscriptions of it and of the alert topic.
async fn of_topics(access: &Access, place: &Place) -> OfTopics {
    let sns = access.clients.sns();
    let events = place.arn("sns", "events");
    let policy = async {
        let answer = sns.get_topic_attributes().topic_arn(&events).send().await;
        let answer = fact("sns:GetTopicAttributes", &events, answer)?;
        Ok(answer.attributes.and_then(|mut attributes| attributes.remove("Policy")))
    };
    let queue = place.arn("sqs", "events");
    let alerts = place.arn("sns", "alerts");
    tokio::join!(policy, listeners(&sns, &events, Some(&queue)), listeners(&sns, &alerts, None))
}

/// The subscriptions of a topic, and the filter of a queue's subscription.
async fn listeners(sns: &aws_sdk_sns::Client, topic: &str, queue: Option<&str>) -> Fact<Vec<Listener>> {
    let mut pages = sns.list_subscriptions_by_topic().topic_arn(topic).into_paginator().send();
    let mut listeners = Vec::new();
    while let Some(page) = pages.next().await {
        for subscription in fact("sns:ListSubscriptionsByTopic", topic, page)?.subscriptions.unwrap_or_default() {
            let protocol = subscription.protocol.unwrap_or_default();
            // Until it is confirmed, a placeholder takes the place of the ARN.
            let arn = subscription.subscription_arn.filter(|arn| arn.starts_with("arn:"));
            let endpoint = subscription.endpoint.filter(|_| protocol == "sqs");
            let filter = match &arn {
                Some(arn) if queue.is_some() && endpoint.as_deref() == queue => filter(sns, arn).await,
                Some(_) | None => Ok(None),
            };
            listeners.push(Listener { protocol, queue: endpoint, arn, filter });
        }
    }
    Ok(listeners)
}

async fn filter(sns: &aws_sdk_sns::Client, subscription: &str) -> Fact<Option<String>> {
    let answer = sns.get_subscription_attributes().subscription_arn(subscription).send().await;
    let attributes = fact("sns:GetSubscriptionAttributes", subscription, answer)?.attributes;
    let filter = attributes.and_then(|mut attributes| attributes.remove("FilterPolicy"));
    Ok(filter.filter(|filter| !["", "{}", "null"].contains(&filter.trim())))
}

async fn of_queues(access: &Access, place: &Place) -> (Fact<QueueFacts>, Fact<QueueFacts>) {
    let sqs = aws_sdk_sqs::Client::new(access.clients.config());
    tokio::join!(queue(&sqs, place, "events"), queue(&sqs, place, "events-dead"))
}

async fn queue(sqs: &aws_sdk_sqs::Client, place: &Place, part: &str) -> Fact<QueueFacts> {
    let arn = place.arn("sqs", part);
    let url = sqs.get_queue_url().queue_name(place.name(part)).send().await;
    let url = fact("sqs:GetQueueUrl", &arn, url)?.queue_url.unwrap_or_default();
    let wanted = sqs.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::Policy);
    let wanted = wanted.attribute_names(QueueAttributeName::ApproximateNumberOfMessages);
    let mut attributes = fact("sqs:GetQueueAttributes", &arn, wanted.send().await)?.attributes.unwrap_or_default();
    let waiting = attributes.get(&QueueAttributeName::ApproximateNumberOfMessages);
    let waiting = waiting.and_then(|waiting| waiting.parse().ok()).unwrap_or(0);
    Ok(QueueFacts { url, policy: attributes.remove(&QueueAttributeName::Policy), waiting })
}

type OfOthers = (BTreeMap<String, Fact<bool>>, BTreeMap<String, Fact<bool>>);

/// Whether topics of this account and Region, and stacks that configuration sets depend on, still exist.
async fn of_others(access: &Access, place: &Place, sets: &Fact<BTreeMap<String, Option<SetFacts>>>) -> OfOthers {
    let known = || sets.iter().flat_map(BTreeMap::values).flatten();
    let here = place.arn("sns", "");
    let here = here.strip_suffix(&format!("{}-", place.stack)).unwrap_or(&here);
    let targets = known().flat_map(|set| set.destinations.iter().flatten()).map(|destination| &destination.target);
    let targets = targets.filter(|target| target.starts_with(here) && **target != place.arn("sns", "events"));
    let (sns, mut topics) = (access.clients.sns(), BTreeMap::new());
    for topic in targets.collect::<BTreeSet<_>>() {
        let exists = match sns.get_topic_attributes().topic_arn(topic).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found_exception()) => Ok(false),
            Err(error) => fact("sns:GetTopicAttributes", topic, Err(error)),
        };
        topics.insert(topic.clone(), exists);
    }
    let stacks = known().filter_map(|set| set.stopped_by.as_ref()).filter(|stack| **stack != place.stack);
    let (lambda, mut others) = (aws_sdk_lambda::Client::new(access.clients.config()), BTreeMap::new());
    for stack in stacks.collect::<BTreeSet<_>>() {
        // The function that would resume the set.
        let enforcer = format!("{stack}-enforcer");
        let asked = lambda.get_function_concurrency().function_name(&enforcer).send().await;
        let exists = match asked {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                Ok(false)
            }
            Err(error) => fact("lambda:GetFunctionConcurrency", &enforcer, Err(error)),
        };
        others.insert(stack.clone(), exists);
    }
    (topics, others)
}

type OfFunctions = (BTreeMap<&'static str, Fact<Vec<Mapping>>>, BTreeMap<&'static str, Fact<Option<i32>>>);

async fn of_functions(access: &Access, place: &Place) -> OfFunctions {
    let lambda = aws_sdk_lambda::Client::new(access.clients.config());
    let (mut woken, mut reserved) = (BTreeMap::new(), BTreeMap::new());
    for function in WOKEN {
        let name = place.name(function);
        let answer = lambda.list_event_source_mappings().function_name(&name).send().await;
        let answer = fact("lambda:ListEventSourceMappings", &name, answer);
        let mapping = |known: aws_sdk_lambda::types::EventSourceMappingConfiguration| Mapping {
            uuid: known.uuid.unwrap_or_default(),
            state: known.state.unwrap_or_default(),
            last: known.last_processing_result,
        };
        let mappings = answer.map(|answer| answer.event_source_mappings.unwrap_or_default());
        woken.insert(function, mappings.map(|mappings| mappings.into_iter().map(mapping).collect()));
    }
    for function in FUNCTIONS {
        let name = place.name(function);
        let answer = lambda.get_function_concurrency().function_name(&name).send().await;
        let answer = fact("lambda:GetFunctionConcurrency", &name, answer);
        reserved.insert(function, answer.map(|answer| answer.reserved_concurrent_executions));
    }
    (woken, reserved)
}

async fn of_rules(access: &Access, place: &Place) -> BTreeMap<&'static str, Fact<Option<bool>>> {
    let events = access.clients.eventbridge();
    let mut rules = BTreeMap::new();
    for rule in RULES {
        let name = place.name(rule);
        let enabled = match events.describe_rule().name(&name).send().await {
            Ok(answer) => Ok(Some(answer.state() != Some(&aws_sdk_eventbridge::types::RuleState::Disabled))),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                Ok(None)
            }
            Err(error) => fact("events:DescribeRule", &name, Err(error)),
        };
        rules.insert(rule, enabled);
    }
    rules
}
