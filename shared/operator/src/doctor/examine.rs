//! Draws conclusions from the facts: pure, in the order in which mail and its events flow.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_sesv2::types::EventType;
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::{DAY, HOUR, MINUTE_MILLIS, Minute, Now};
use serde::Serialize;
use terminal::{counted, listed, name, quoted, suggest};

use super::facts::{Destination, Fact, Facts, Ip, Listener, NotExamined, SetFacts};
use super::permission::{Answer, Request, may, several};
use crate::connect::{ENGAGEMENT, NEEDED};

/// A larger clock error is reported: beyond it, AWS refuses signatures ("Signing AWS API requests").
const SKEW_MINUTES: i64 = 5;
/// The number of names listed in one sentence.
const SHOWN: usize = 10;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something does not work.
    Fault,
    /// It works, and could be safer.
    Advice,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The severity.
    pub severity: Severity,
    /// The kind, for programs: `destination-missing`.
    pub kind: &'static str,
    /// The subject: `configuration-set:news`, or the name of a resource.
    pub subject: String,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub why: String,
    /// How to fix it: sentences, and commands in the order in which to run them.
    pub fix: Vec<String>,
}

/// A check.
#[derive(Debug)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What it verifies.
    pub about: &'static str,
    run: fn(&Facts, Now, &mut Sheet),
}

/// The result of a check.
#[derive(Debug)]
pub struct Examined {
    /// The check.
    pub check: &'static Check,
    /// Its findings.
    pub findings: Vec<Finding>,
    /// What it could not read.
    pub missing: Vec<NotExamined>,
}

/// All checks, in the order of the output.
pub const CHECKS: &[Check] = &[
    Check { name: "clock", about: "the clock of this machine agrees with that of AWS", run: clock },
    Check { name: "account", about: "SES lets the account send", run: account },
    Check { name: "destinations", about: "each configuration set sends its events to the stack", run: destinations },
    Check { name: "leftovers", about: "no configuration set depends on a deleted stack or topic", run: leftovers },
    Check { name: "default-sets", about: "each identity has a default configuration set", run: default_sets },
    Check {
        name: "identity-notifications",
        about: "identities send no notifications in addition to events",
        run: identity_notifications,
    },
    Check { name: "reputation-metrics", about: "SES shows its own rates of each set", run: reputation_metrics },
    Check { name: "topic-policy", about: "SES may publish to the events topic", run: topic_policy },
    Check { name: "subscription", about: "the events topic delivers to the queue", run: subscription },
    Check { name: "queue-policy", about: "the events topic may send to the queue", run: queue_policy },
    Check { name: "dead-letters", about: "no events are dead letters", run: dead_letters },
    Check { name: "mappings", about: "queue and streams wake the functions", run: mappings },
    Check { name: "concurrency", about: "each function may run, and only one enforcer at a time", run: concurrency },
    Check { name: "rules", about: "the rules that wake the functions are enabled", run: rules },
    Check { name: "freshness", about: "events arrive while mail is sent", run: freshness },
    Check { name: "alerts", about: "alerts reach people", run: alerts },
    Check { name: "policy", about: "the policy in the table is in use", run: policy },
    Check { name: "policy-names", about: "SES knows the names in the policy", run: policy_names },
    Check { name: "dedicated-ips", about: "dedicated IPs of the policy can follow a ramp", run: dedicated_ips },
];

/// Runs all checks.
pub fn examine(facts: &Facts, now: Now) -> Vec<Examined> {
    let run = |check: &'static Check| {
        let mut sheet = Sheet::default();
        (check.run)(facts, now, &mut sheet);
        Examined { check, findings: sheet.findings, missing: sheet.missing }
    };
    CHECKS.iter().map(run).collect()
}

/// The sheet that a check fills in.
#[derive(Debug, Default)]
struct Sheet {
    findings: Vec<Finding>,
    missing: Vec<NotExamined>,
}

impl Sheet {
    /// A fact if it is known; otherwise it is recorded as missing.
    fn known<'a, T>(&mut self, fact: &'a Fact<T>) -> Option<&'a T> {
        fact.as_ref().map_err(|missing| self.missing.push(missing.clone())).ok()
    }

    fn fault(
        &mut self,
        kind: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
        why: &str,
    ) -> &mut Finding {
        self.finding(Severity::Fault, kind, subject.into(), found.into(), why)
    }

    fn advice(
        &mut self,
        kind: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
        why: &str,
    ) -> &mut Finding {
        self.finding(Severity::Advice, kind, subject.into(), found.into(), why)
    }

    fn finding(
        &mut self,
        severity: Severity,
        kind: &'static str,
        subject: String,
        found: String,
        why: &str,
    ) -> &mut Finding {
        let at = self.findings.len();
        self.findings.push(Finding { severity, kind, subject, found, why: why.to_owned(), fix: Vec::new() });
        &mut self.findings[at]
    }
}

impl Finding {
    fn fix(&mut self, step: impl Into<String>) -> &mut Finding {
        self.fix.push(step.into());
        self
    }
}

/// Some names, and the number of further ones.
fn some(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|one| name(one.as_ref())).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more > 0 {
        names.truncate(SHOWN);
        names.push(format!("{more} more"));
    }
    listed(&names)
}

fn of_set(set: &str) -> String {
    Subject::ConfigurationSet(set.into()).to_string()
}

fn clock(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let Some(ahead) = sheet.known(&facts.ahead_millis) else { return };
    let minutes = ahead.abs() / MINUTE_MILLIS;
    if ahead.abs() <= SKEW_MINUTES * MINUTE_MILLIS {
        return;
    }
    let than = if *ahead > 0 { "ahead of" } else { "behind" };
    let found = format!("its clock is {} {than} that of AWS", counted(minutes.unsigned_abs(), "minute"));
    sheet
        .fault(
            "clock-wrong",
            "this machine",
            found,
            "Your commands are dated by it: a stop is reported with a wrong time, and AWS may refuse your requests.",
        )
        .fix("Synchronise it:")
        .fix("sudo timedatectl set-ntp true");
}

fn account(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let Some(account) = sheet.known(&facts.account) else { return };
    let console = "Amazon SES console, Account dashboard";
    match account.enforcement.as_deref() {
        Some("SHUTDOWN") => {
            sheet
                .fault(
                    "account-shutdown",
                    "account",
                    "AWS has paused sending (EnforcementStatus SHUTDOWN)",
                    "Nothing is sent until AWS lifts it.",
                )
                .fix(format!("{console}: answer the open review."));
        }
        Some("PROBATION") => {
            sheet
                .fault(
                    "account-probation",
                    "account",
                    "SES has placed it under review (EnforcementStatus PROBATION)",
                    "AWS may pause all sending if the cause is not fixed by the date in the review.",
                )
                .fix(place.ours("status account"))
                .fix(format!("{console}: read the review, fix its cause, then answer it."));
        }
        Some(_) | None => {}
    }
    // An account that AWS has shut down shows as paused, too, and cannot be resumed.
    if !account.sending && account.enforcement.as_deref() != Some("SHUTDOWN") {
        sheet
            .fault("account-paused", "account", "sending is paused for the whole account", "Nothing is sent.")
            .fix("Find out whether a breaker or a person did it:")
            .fix(place.ours("history account"))
            .fix("If a breaker or `ses-breaker stop` did it:")
            .fix(place.ours("resume account"))
            .fix("Otherwise:")
            .fix(place.aws("sesv2 put-account-sending-attributes --sending-enabled"));
    }
    if !account.production {
        sheet
            .advice(
                "account-sandbox",
                "account",
                "it is in the SES sandbox",
                "SES sends at most 200 mails a day, to verified addresses only, so the stack judges no real mail.",
            )
            .fix(format!("{console}: request production access."));
    }
}

/// The configuration sets that were read.
fn asked(sets: &BTreeMap<String, Option<SetFacts>>) -> impl Iterator<Item = (&String, &SetFacts)> {
    sets.iter().filter_map(|(set, known)| known.as_ref().map(|known| (set, known)))
}

/// Whether a destination delivers events to the stack: to its topic, or to EventBridge where a rule of the stack forwards them.
fn leads_here(facts: &Facts, destination: &Destination) -> bool {
    let by_bus = matches!(facts.rules.get("mail-events"), Some(Ok(Some(true))));
    destination.target == facts.place.arn("sns", "events") || (by_bus && destination.target == facts.place.bus())
}

/// The configuration sets whose events reach the stack.
fn connected(facts: &Facts) -> impl Iterator<Item = &String> {
    let leads = |known: &SetFacts| {
        known.destinations.iter().flatten().any(|destination| destination.enabled && leads_here(facts, destination))
    };
    let asked = facts.sets.iter().flat_map(asked);
    asked.filter(move |(_, known)| leads(known)).map(|(set, _)| set)
}

fn destinations(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    sheet.missing.extend(facts.left_out.iter().filter(|left| left.needs.contains("EventDestinations")).cloned());
    let Some(sets) = sheet.known(&facts.sets) else { return };
    for (set, known) in asked(sets) {
        let Some(all) = sheet.known(&known.destinations) else { continue };
        if let Some(Err(missing)) = facts.rules.get("mail-events")
            && all.iter().any(|destination| destination.target == place.bus())
        {
            sheet.missing.push(missing.clone());
            continue;
        }
        let ours: Vec<&Destination> = all.iter().filter(|destination| leads_here(facts, destination)).collect();
        let enabled = || ours.iter().filter(|destination| destination.enabled);
        // It keeps publishing what it publishes now.
        let engaged = ours.iter().flat_map(|destination| &destination.events);
        let engaged = engaged.into_iter().any(|event| ENGAGEMENT.iter().any(|known| known.as_str() == event));
        let connect = place.ours(&format!("connect {}{}", quoted(set), if engaged { " --engagement" } else { "" }));
        if ours.is_empty() {
            let found = match all.len() {
                0 => "it has no event destination".to_owned(),
                _ => {
                    format!(
                        "none of its event destinations ({}) publishes to the stack",
                        some(all.iter().map(|d| &d.name))
                    )
                }
            };
            sheet
                .fault("destination-missing", of_set(set), found, "The stack sees none of its mail and cannot stop it.")
                .fix(connect);
        } else if enabled().next().is_none() {
            let names = some(ours.iter().map(|destination| &destination.name));
            sheet
                .fault(
                    "destination-disabled",
                    of_set(set),
                    format!("its event destination {names} is disabled"),
                    "SES publishes nothing to it, and events of this time are lost.",
                )
                .fix(connect);
        } else {
            let sent: BTreeSet<&str> = enabled().flat_map(|d| &d.events).map(String::as_str).collect();
            let lacks = NEEDED.iter().map(EventType::as_str).filter(|needed| !sent.contains(needed));
            let lacks: Vec<String> = lacks.map(str::to_owned).collect();
            if !lacks.is_empty() {
                let names = some(enabled().map(|destination| &destination.name));
                sheet
                    .fault(
                        "destination-incomplete",
                        of_set(set),
                        format!("its event destination {names} lacks {}", listed(&lacks)),
                        "Rates need all of these events: without one, a rate is too low, too high or missing.",
                    )
                    .fix(connect);
            }
        }
    }
}

fn leftovers(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    for exists in facts.other_topics.values().chain(facts.other_stacks.values()) {
        _ = sheet.known(exists);
    }
    let Some(sets) = sheet.known(&facts.sets) else { return };
    for (set, known) in asked(sets) {
        for destination in sheet.known(&known.destinations).into_iter().flatten() {
            if facts.other_topics.get(&destination.target) == Some(&Ok(false)) {
                let delete = format!(
                    "sesv2 delete-configuration-set-event-destination --configuration-set-name {} --event-destination-name {}",
                    quoted(set),
                    quoted(&destination.name)
                );
                sheet
                    .advice(
                        "destination-leads-nowhere",
                        of_set(set),
                        format!(
                            "its event destination {} publishes to {}, which does not exist",
                            name(&destination.name),
                            destination.target
                        ),
                        "The events are lost. A stack may have been deleted before its sets were disconnected.",
                    )
                    .fix(place.aws(&delete));
            }
        }
        if let Some(stack) = &known.stopped_by
            && facts.other_stacks.get(stack) == Some(&Ok(false))
        {
            let resume = format!(
                "sesv2 put-configuration-set-sending-options --sending-enabled --configuration-set-name {}",
                quoted(set)
            );
            sheet
                .fault(
                    "stopped-by-a-stack-that-is-gone",
                    of_set(set),
                    format!("the ses-breaker stack {} stopped it and no longer exists", name(stack)),
                    "It sends nothing, and no stack will resume it.",
                )
                .fix(place.aws(&resume));
        }
    }
}

fn default_sets(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    sheet.missing.extend(facts.left_out.iter().filter(|left| left.needs.contains("EmailIdentity")).cloned());
    let Some(identities) = sheet.known(&facts.identities) else { return };
    let sets: Vec<&String> = facts.sets.iter().flat_map(BTreeMap::keys).collect();
    // By subject and by the missing default. Addresses are not shown: in the sandbox, they are those of recipients.
    let mut lacking: BTreeMap<(String, String, Option<&String>), usize> = BTreeMap::new();
    for (identity, default) in identities {
        let Some(default) = sheet.known(default) else { continue };
        let is_gone = |default: &String| facts.sets.is_ok() && !sets.contains(&default);
        if default.as_ref().is_some_and(|default| !is_gone(default)) {
            continue;
        }
        let (subject, identity) = match identity.rsplit_once('@') {
            Some((_, domain)) => (format!("identity:…@{}", name(domain)), "ADDRESS".to_owned()),
            None => (format!("identity:{}", name(identity)), quoted(identity)),
        };
        *lacking.entry((subject, identity, default.as_ref())).or_default() += 1;
    }
    for ((subject, identity, default), count) in lacking {
        let addresses = if count == 1 { "1 address".to_owned() } else { format!("{count} addresses") };
        let whose = (identity == "ADDRESS").then_some(addresses);
        let finding = match default {
            Some(default) => sheet.fault(
                "default-set-gone",
                subject,
                match whose {
                    None => format!("its default configuration set {} does not exist", name(default)),
                    Some(count) => format!("{count}: the default configuration set {} does not exist", name(default)),
                },
                "SES refuses mail without a configuration set from it.",
            ),
            None => sheet.advice(
                "default-set-missing",
                subject,
                match whose {
                    None => "it has no default configuration set".to_owned(),
                    Some(count) => format!("{count} without a default configuration set"),
                },
                "Mail without a configuration set has no events and cannot be stopped: the stack never sees it.",
            ),
        };
        let Some(set) = connected(facts).next().or(sets.first().copied()) else { continue };
        if sets.len() > 1 {
            finding.fix(format!("Choose the set that such mail counts for, one of {}:", some(&sets)));
        }
        finding.fix(place.aws(&format!(
            "sesv2 put-email-identity-configuration-set-attributes --email-identity {identity} --configuration-set-name {}",
            quoted(set)
        )));
    }
}

fn identity_notifications(facts: &Facts, now: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let Some(heard) = sheet.known(&facts.heard) else { return };
    let Some(last) = heard.get(&Subject::ConfigurationSet(Subject::UNTAGGED.into())) else { return };
    if is_old(*last, now) {
        return;
    }
    let finding = sheet.advice(
        "identity-notifications",
        of_set(Subject::UNTAGGED),
        format!("there was mail without a configuration set, last between {} UTC and an hour later", last),
        "Only an identity's feedback notifications report such mail. They name no configuration set: if an identity sends \
         both, the first to arrive decides what the mail counts for.",
    );
    finding.fix("Find the identities that send notifications to the stack's topic:");
    let domains = facts.identities.iter().flat_map(BTreeMap::keys).filter(|identity| !identity.contains('@'));
    let identities: Vec<String> = domains.take(SHOWN).map(|identity| quoted(identity)).collect();
    let which = if identities.is_empty() { "example.com".to_owned() } else { identities.join(" ") };
    finding
        .fix(place.aws(&format!("ses get-identity-notification-attributes --identities {which}")))
        .fix("For each of them, once its mail names a configuration set, turn off Bounce, Complaint and Delivery:")
        .fix(place.aws(&format!(
            "ses set-identity-notification-topic --identity {} --notification-type Bounce",
            identities.first().map_or("example.com", String::as_str)
        )));
}

fn reputation_metrics(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    sheet.missing.extend(facts.left_out.iter().filter(|left| left.needs == "ses:GetConfigurationSet").cloned());
    let Some(sets) = sheet.known(&facts.sets) else { return };
    for (set, known) in asked(sets) {
        if sheet.known(&known.reputation_metrics) == Some(&false) {
            sheet
                .advice(
                    "reputation-metrics-off",
                    of_set(set),
                    "its reputation metrics are off",
                    "SES does not publish its own rates of it to CloudWatch, so the stack's rates cannot be compared with them. They \
                     cost a little.",
                )
                .fix(place.aws(&format!(
                    "sesv2 put-configuration-set-reputation-options --configuration-set-name {} --reputation-metrics-enabled",
                    quoted(set)
                )));
        }
    }
}

fn topic_policy(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let Some(policy) = sheet.known(&facts.topic_policy) else { return };
    let topic = place.arn("sns", "events");
    let all = format!("arn:{}:ses:{}:{}:configuration-set/", place.partition, place.region, place.account);
    // If the sets are unknown, one name stands for all of them.
    let sets: Vec<&str> = facts.sets.iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
    let sets = if sets.is_empty() { vec!["any"] } else { sets };
    let mut refused = BTreeMap::new();
    for set in &sets {
        let source = place.arn_of_set(set);
        let (service, action) = ("ses.amazonaws.com", "sns:Publish");
        let request = Request { service, action, resource: &topic, source: &source, account: &place.account };
        match may(policy.as_deref(), &request) {
            Answer::Allowed => {}
            Answer::NotAllowed => refused.entry(None).or_insert_with(Vec::new).push(*set),
            Answer::Denied { statement } => refused.entry(Some(statement)).or_insert_with(Vec::new).push(*set),
            Answer::Unclear(what) => {
                sheet.missing.push(not_understood("sns:GetTopicAttributes", &topic, &what));
                return;
            }
        }
    }
    for (statement, of) in refused {
        let whose = if of.len() == sets.len() { String::new() } else { format!(" for {}", some(&of)) };
        let finding = sheet.fault(
            "topic-policy",
            topic.clone(),
            match &statement {
                None => format!("its policy does not allow SES to publish{whose}"),
                Some(statement) => format!("its policy denies SES to publish{whose}, in statement {}", name(statement)),
            },
            "SES silently drops events that it cannot publish.",
        );
        let allow = serde_json::json!({
            "Sid": "SesOfThisAccount", "Effect": "Allow", "Principal": { "Service": "ses.amazonaws.com" },
            "Action": "sns:Publish", "Resource": topic,
            "Condition": { "StringEquals": { "aws:SourceAccount": place.account }, "ArnLike": { "aws:SourceArn": format!("{all}*") } },
        });
        let policy = fixed_policy(policy.as_deref(), statement.as_deref(), &allow);
        finding.fix(place.aws(&format!(
            "sns set-topic-attributes --topic-arn {topic} --attribute-name Policy --attribute-value {}",
            quoted(&policy)
        )));
    }
}

fn queue_policy(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let Some(queue) = sheet.known(&facts.queue) else { return };
    let (arn, topic) = (place.arn("sqs", "events"), place.arn("sns", "events"));
    let request = Request {
        service: "sns.amazonaws.com",
        action: "sqs:SendMessage",
        resource: &arn,
        source: &topic,
        account: &place.account,
    };
    let (found, denied) = match may(queue.policy.as_deref(), &request) {
        Answer::Allowed => return,
        Answer::NotAllowed => ("its policy does not allow the events topic to send to it".to_owned(), None),
        Answer::Denied { statement } => (
            format!("its policy denies the events topic to send to it, in statement {}", name(&statement)),
            Some(statement),
        ),
        Answer::Unclear(what) => {
            sheet.missing.push(not_understood("sqs:GetQueueAttributes", &arn, &what));
            return;
        }
    };
    let allow = serde_json::json!({
        "Sid": "EventsTopic", "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" },
        "Action": "sqs:SendMessage", "Resource": arn, "Condition": { "ArnEquals": { "aws:SourceArn": topic } },
    });
    let policy = fixed_policy(queue.policy.as_deref(), denied.as_deref(), &allow);
    let attributes = serde_json::json!({ "Policy": policy }).to_string();
    sheet.fault("queue-policy", arn, found, "SNS drops events that it may not deliver: they are lost.").fix(place.aws(
        &format!("sqs set-queue-attributes --queue-url {} --attributes {}", quoted(&queue.url), quoted(&attributes)),
    ));
}

/// A policy without the denying statement, and with the allowing one.
fn fixed_policy(policy: Option<&str>, denies: Option<&str>, allow: &serde_json::Value) -> String {
    let known = policy.and_then(|policy| serde_json::from_str(policy).ok());
    let mut policy: serde_json::Value = known.unwrap_or_else(|| serde_json::json!({ "Version": "2012-10-17" }));
    let mut statements = several(&policy["Statement"].take());
    // The allowing statement replaces one with the same name.
    let mut place = 0;
    statements.retain(|statement| {
        place += 1;
        let by_place = format!("statement {place}");
        let name = statement["Sid"].as_str().unwrap_or(&by_place);
        Some(name) != denies && statement["Sid"] != allow["Sid"]
    });
    statements.push(allow.clone());
    policy["Statement"] = statements.into();
    policy.to_string()
}

fn not_understood(needs: &'static str, of: &str, what: &str) -> NotExamined {
    let reason = format!("its policy contains what this check does not support: {}", name(what));
    NotExamined { needs, of: of.to_owned(), denied: false, reason }
}

fn subscription(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let Some(listeners) = sheet.known(&facts.listeners) else { return };
    let (topic, queue) = (place.arn("sns", "events"), place.arn("sqs", "events"));
    let why = "Events reach the topic but not the queue.";
    let subscribe = place.aws(&format!(
        "sns subscribe --topic-arn {topic} --protocol sqs --notification-endpoint {queue} --attributes RawMessageDelivery=true"
    ));
    let ours: Vec<&Listener> = listeners.iter().filter(|one| one.queue.as_deref() == Some(queue.as_str())).collect();
    let Some(ours) = ours.iter().find(|one| one.arn.is_some()) else {
        let (kind, found) = match ours.len() {
            0 => ("subscription-missing", format!("{} is not subscribed to it", place.name("events"))),
            _ => ("subscription-pending", format!("the subscription of {} is not confirmed", place.name("events"))),
        };
        sheet.fault(kind, topic, found, why).fix(subscribe);
        return;
    };
    if let Some(Some(filter)) = sheet.known(&ours.filter) {
        sheet
            .fault(
                "subscription-filtered",
                topic,
                format!("the subscription of {} passes only {}", place.name("events"), name(filter)),
                "Filtered events are lost, and rates need all events.",
            )
            .fix(place.aws(&format!(
                "sns set-subscription-attributes --subscription-arn {} --attribute-name FilterPolicy --attribute-value '{{}}'",
                ours.arn.as_deref().unwrap_or_default()
            )));
    }
}

fn dead_letters(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let Some(dead) = sheet.known(&facts.dead_letters) else { return };
    if dead.waiting > 0 {
        sheet
            .fault(
                "dead-letters",
                place.name("events-dead"),
                format!("it has {}", counted(dead.waiting, "message")),
                "They are events that ingest could not record in five attempts. Rates do not include them, and after 14 days they are lost.",
            )
            .fix("Read the cause, and fix it:")
            .fix(place.aws(&format!(
                "logs filter-log-events --log-group-name /aws/lambda/{} --filter-pattern '\"cannot be counted\"'",
                place.name("ingest")
            )))
            .fix("Then send them again; an event that was already counted is not counted twice:")
            .fix(place.aws(&format!("sqs start-message-move-task --source-arn {}", place.arn("sqs", "events-dead"))));
    }
}

fn mappings(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    for (function, mappings) in &facts.mappings {
        let Some(mappings) = sheet.known(mappings) else { continue };
        let (source, why) = match *function {
            "ingest" => ("the queue", "Events wait in the queue for four days, and are then lost."),
            "breaker" => ("the ledger", "Recorded units are not judged, and after 24 hours no rate includes them."),
            _ => ("the breakers' requests", "SES is asked to stop only at the 5-minute tick, and alerts come late."),
        };
        let waiting = match (*function, &facts.queue) {
            ("ingest", Ok(queue)) if queue.waiting > 0 => format!("; {} wait", counted(queue.waiting, "message")),
            _ => String::new(),
        };
        if mappings.is_empty() {
            sheet
                .fault(
                    "mapping-missing",
                    place.name(function),
                    format!("no event source mapping wakes it for {source}{waiting}"),
                    why,
                )
                .fix("Find out what else was changed by hand:")
                .fix(place.aws(&format!("cloudformation detect-stack-drift --stack-name {}", quoted(&place.stack))))
                .fix("Then deploy the stack again (see infra/INSTALL.md); its tables are kept.");
        }
        for mapping in mappings {
            if mapping.state.starts_with("Disabl") {
                let found = format!("its event source mapping is {}{waiting}", mapping.state.to_lowercase());
                sheet.fault("mapping-disabled", place.name(function), found, why).fix(
                    place
                        .aws(&format!("lambda update-event-source-mapping --uuid {} --enabled", quoted(&mapping.uuid))),
                );
            } else if let Some(problem) = mapping.last.as_deref().filter(|last| last.starts_with("PROBLEM")) {
                sheet
                    .fault(
                        "mapping-failing",
                        place.name(function),
                        format!("its last call for {source} failed: {}", name(problem)),
                        "Lambda retries the same batch until it succeeds; later batches wait.",
                    )
                    .fix("Read the cause:")
                    .fix(place.aws(&format!("logs tail /aws/lambda/{} --since 1h", place.name(function))));
            }
        }
    }
}

fn concurrency(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    for (function, reserved) in &facts.concurrency {
        let Some(reserved) = sheet.known(reserved) else { continue };
        let function_name = place.name(function);
        let reserve = place.aws(&format!(
            "lambda put-function-concurrency --function-name {} --reserved-concurrent-executions 1",
            quoted(&function_name)
        ));
        let free = place.aws(&format!("lambda delete-function-concurrency --function-name {}", quoted(&function_name)));
        let is_enforcer = *function == "enforcer";
        match reserved {
            Some(0) => {
                let found = "its reserved concurrency is 0";
                sheet.fault("function-stopped", function_name, found, "Lambda does not run it.").fix(if is_enforcer {
                    reserve
                } else {
                    free
                });
            }
            Some(1) if is_enforcer => {}
            other if is_enforcer => {
                let found = match other {
                    None => "it has no reserved concurrency".to_owned(),
                    Some(other) => format!("its reserved concurrency is {other}"),
                };
                sheet
                    .advice(
                        "enforcer-concurrency",
                        function_name,
                        found,
                        "Two enforcers may run at once. No request is lost, but together they call SES more than once a second, and it \
                         refuses some calls.",
                    )
                    .fix("If the account's concurrency is above 100:")
                    .fix(reserve);
            }
            Some(_) | None => {}
        }
    }
}

fn rules(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    for (rule, enabled) in &facts.rules {
        let Some(enabled) = sheet.known(enabled) else { continue };
        let (is_tick, why) = match *rule {
            "breaker-tick" => (true, "No breaker moves by time: none starts testing, none closes."),
            "enforcer-tick" => {
                (true, "Changes made at SES are not noticed, and calls that SES refused are not retried.")
            }
            "warmup-tick" => (true, "A day of a quota ends only when an application asks the gate."),
            "sending-status" => (false, "A tenant that SES stopped is noticed up to five minutes late."),
            "advisor" => (false, "Findings of the Virtual Deliverability Manager do not become alerts."),
            // It exists only if a parameter of the template asks for it.
            _ => (false, "Events that SES publishes to EventBridge do not arrive."),
        };
        let rule_name = place.name(rule);
        match enabled {
            Some(true) => {}
            None if *rule == "mail-events" => {}
            None => {
                let severity = if is_tick { Severity::Fault } else { Severity::Advice };
                sheet
                    .finding(severity, "rule-missing", rule_name, "the rule does not exist".to_owned(), why)
                    .fix("Find out what else was changed by hand:")
                    .fix(place.aws(&format!("cloudformation detect-stack-drift --stack-name {}", quoted(&place.stack))))
                    .fix("Then deploy the stack again (see infra/INSTALL.md); its tables are kept.");
            }
            Some(false) => {
                let severity = if is_tick { Severity::Fault } else { Severity::Advice };
                let enable = place.aws(&format!("events enable-rule --name {}", quoted(&rule_name)));
                sheet.finding(severity, "rule-disabled", rule_name, "it is disabled".to_owned(), why).fix(enable);
            }
        }
    }
}

fn freshness(facts: &Facts, now: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let (heard, account) = (sheet.known(&facts.heard), sheet.known(&facts.account));
    let (Some(heard), Some(account)) = (heard, account) else { return };
    let found = match heard.values().max() {
        _ if account.sent == 0 => return,
        Some(last) if !is_old(*last, now) => return,
        Some(last) => format!("the last event arrived between {} UTC and an hour later", last),
        None => "no event has ever arrived".to_owned(),
    };
    let sent = counted(account.sent, "mail");
    sheet
        .fault(
            "events-stale",
            place.name("ingest"),
            format!("{found}, though SES sent {sent} in the last 24 hours"),
            "The breakers judge old counts, and stop nothing.",
        )
        .fix("Fix the other findings first. If there are none, send a mail and follow its events:")
        .fix(place.aws(&format!("logs tail /aws/lambda/{} --since 1h", place.name("ingest"))));
}

/// Whether the last event, in this hour, is older than a day.
fn is_old(last: Minute, now: Now) -> bool {
    last.plus(HOUR + DAY) <= now.minute()
}

fn alerts(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let Some(subscribers) = sheet.known(&facts.alert_listeners) else { return };
    if subscribers.iter().any(|listener| listener.arn.is_some()) {
        return;
    }
    let topic = place.arn("sns", "alerts");
    let found = match subscribers.len() {
        0 => "it has no subscription".to_owned(),
        all => format!("it has no confirmed subscription; {} to be confirmed", {
            let wait = if all == 1 { "waits" } else { "wait" };
            format!("{} ({}) {wait}", all, some(subscribers.iter().map(|one| &one.protocol).collect::<BTreeSet<_>>()))
        }),
    };
    let finding = sheet.fault("alerts-unheard", topic.clone(), found, "No person gets notices or the stack's alarms.");
    if !subscribers.is_empty() {
        finding.fix("Follow the link in the mail from SNS, or have it sent again:");
    }
    finding.fix(
        place.aws(&format!("sns subscribe --topic-arn {topic} --protocol email --notification-endpoint YOUR_ADDRESS")),
    );
}

fn policy(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let Some(known) = sheet.known(&facts.policy) else { return };
    let Some(problem) = &known.problem else { return };
    let instead = match known.version {
        0 => "the default".to_owned(),
        version => format!("version {version}"),
    };
    sheet
        .fault(
            "policy-invalid",
            "policy",
            format!("{problem}; {instead} is in use instead"),
            "The functions do not use the policy that you pushed.",
        )
        .fix(place.ours("policy show") + " > my.toml")
        .fix("Correct it, and push it again:")
        .fix("ses-breaker policy check my.toml")
        .fix(place.ours("policy push my.toml"));
}

/// The configuration sets and identities that a policy names, with the place.
fn named(policy: &Policy) -> Vec<(String, Subject)> {
    let set = |name: &str| Subject::ConfigurationSet(name.into());
    let mut named = Vec::new();
    let plans = policy.warmup.sets.iter().map(|(name, plan)| (format!("[warmup.sets.{name}]"), plan));
    let default = ("[warmup.plan]".to_owned(), &policy.warmup.plan);
    named.extend(policy.warmup.sets.keys().map(|name| ("[warmup.sets]".to_owned(), set(name))));
    for (place, plan) in plans.chain([default]) {
        for (key, route) in [("overflow", &plan.overflow), ("critical_route", &plan.critical_route)] {
            let route = route.as_deref().filter(|route| !route.is_empty());
            named.extend(route.map(|route| (format!("{key} of {place}"), set(route))));
        }
    }
    let subjects = |key: &str, subjects: &[Subject]| {
        subjects.iter().map(|subject| (format!("{key} of [subjects]"), subject.clone())).collect::<Vec<_>>()
    };
    named.extend(subjects("protected", &policy.subjects.protected));
    named.extend(subjects("shadow", &policy.subjects.shadow));
    named
}

fn policy_names(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let Some(known) = sheet.known(&facts.policy) else { return };
    let mut places: BTreeMap<Subject, Vec<String>> = BTreeMap::new();
    for (where_named, subject) in named(&known.policy) {
        places.entry(subject).or_default().push(where_named);
    }
    for (subject, named) in places {
        let meant: Vec<String> = match &subject {
            Subject::ConfigurationSet(set) => {
                let Some(sets) = sheet.known(&facts.sets) else { continue };
                if sets.contains_key(&**set) {
                    continue;
                }
                suggest(set, sets.keys().map(String::as_str)).into_iter().map(name).collect()
            }
            Subject::Identity(domain) => {
                let Some(identities) = sheet.known(&facts.identities) else { continue };
                let domains: BTreeSet<&str> =
                    identities.keys().map(|known| known.rsplit('@').next().unwrap_or(known)).collect();
                // A verified domain covers its subdomains, too.
                let covers = |known: &&str| {
                    *known == &**domain || domain.strip_suffix(*known).is_some_and(|rest| rest.ends_with('.'))
                };
                if domains.iter().any(covers) {
                    continue;
                }
                suggest(domain, domains.into_iter()).into_iter().map(name).collect()
            }
            // Tenants and tags are known only once they send.
            Subject::Account | Subject::Tenant(_) | Subject::Tag(..) => continue,
        };
        let subject_name = name(&subject.to_string());
        let finding = sheet.fault(
            "policy-name-unknown",
            subject_name,
            format!("{} of the policy names it, but it does not exist at SES", listed(&deduplicated(named))),
            "The subject that you meant is neither planned nor protected; SES refuses mail that is routed to a set that does not exist.",
        );
        if !meant.is_empty() {
            finding.fix(format!("Did you mean {}?", meant.join(" or ")));
        }
        finding.fix(place.ours("policy show") + " > my.toml").fix("Correct the name, then:");
        finding.fix(place.ours("policy push my.toml"));
    }
}

fn deduplicated(names: Vec<String>) -> Vec<String> {
    names.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

fn dedicated_ips(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    for (ip, known) in &facts.ips {
        let Some(known) = sheet.known(known) else { continue };
        let finding = match known {
            Some(Ip::Standard) => continue,
            Some(Ip::Managed) => sheet.advice(
                "dedicated-ip-managed",
                ip.to_string(),
                "[warmup.dedicated_ips] of the policy names it, but SES manages it",
                "SES warms it up itself and accepts no percentage, so it cannot follow the policy's ramp.",
            ),
            None => sheet.fault(
                "dedicated-ip-unknown",
                ip.to_string(),
                "[warmup.dedicated_ips] of the policy names it, but it is not in this account and Region",
                "Its percentage is not set; the IP that you meant follows the warm-up of SES.",
            ),
        };
        finding.fix("List the IPs:").fix(place.aws("sesv2 get-dedicated-ips"));
        finding.fix(place.ours("policy show") + " > my.toml").fix("Correct it, then:");
        finding.fix(place.ours("policy push my.toml"));
    }
}

#[cfg(test)]
mod tests;
