//! What follows from the facts: pure, in the order in which mail and its events flow.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_sesv2::types::EventType;
use replay::cli::suggest::suggest;
use replay::text::layout::listed;
use replay::text::{counted, name, quoted};
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::{DAY, HOUR, MINUTE_MILLIS, Minute, Now};
use serde::Serialize;

use super::facts::{Destination, Fact, Facts, Ip, Listener, NotExamined, SetFacts};
use super::permission::{Answer, Request, may, several};
use crate::connect::{ENGAGEMENT, NEEDED};
use crate::text::minute_of;

/// A clock that is wrong by more is told about: signatures are refused from there on ("Signing AWS API requests").
const SKEW_MINUTES: i64 = 5;
/// So many names are listed in one sentence.
const SHOWN: usize = 10;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something does not work.
    Fault,
    /// It works, and could be safer.
    Advice,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing, for programs: `destination-missing`.
    pub kind: &'static str,
    /// What it is about: `configuration-set:news`, or the name of a resource.
    pub subject: String,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub why: String,
    /// How to mend it: sentences, and commands in the order in which they are run.
    pub fix: Vec<String>,
}

/// What a check makes sure of.
#[derive(Debug)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What it makes sure of.
    pub about: &'static str,
    run: fn(&Facts, Now, &mut Sheet),
}

/// What a check found.
#[derive(Debug)]
pub struct Examined {
    /// Which.
    pub check: &'static Check,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// What it could not look at.
    pub missing: Vec<NotExamined>,
}

/// All checks, in the order in which they are told.
pub const CHECKS: &[Check] = &[
    Check { name: "clock", about: "the clock of this machine agrees with that of AWS", run: clock },
    Check { name: "account", about: "SES lets the account send", run: account },
    Check { name: "destinations", about: "each configuration set sends its events to the stack", run: destinations },
    Check { name: "leftovers", about: "no configuration set is left to a stack or topic that is gone", run: leftovers },
    Check { name: "default-sets", about: "each identity has a default configuration set", run: default_sets },
    Check {
        name: "identity-notifications",
        about: "no notifications of identities come besides events",
        run: identity_notifications,
    },
    Check { name: "reputation-metrics", about: "SES shows its own rates of each set", run: reputation_metrics },
    Check { name: "topic-policy", about: "SES may publish to the events topic", run: topic_policy },
    Check { name: "subscription", about: "the events topic leads to the queue", run: subscription },
    Check { name: "queue-policy", about: "the events topic may send to the queue", run: queue_policy },
    Check { name: "dead-letters", about: "no event is among the dead letters", run: dead_letters },
    Check { name: "mappings", about: "queue and streams wake the functions", run: mappings },
    Check { name: "concurrency", about: "each function may run, and the enforcer alone", run: concurrency },
    Check { name: "rules", about: "the rules that wake the functions are enabled", run: rules },
    Check { name: "freshness", about: "events come while mail is sent", run: freshness },
    Check { name: "alerts", about: "alerts reach people", run: alerts },
    Check { name: "policy", about: "the policy in the table is in use", run: policy },
    Check { name: "policy-names", about: "what the policy names is known to SES", run: policy_names },
    Check { name: "dedicated-ips", about: "dedicated IPs of the policy can follow a ramp", run: dedicated_ips },
];

/// Examines what is known.
pub fn examine(facts: &Facts, now: Now) -> Vec<Examined> {
    let run = |check: &'static Check| {
        let mut sheet = Sheet::default();
        (check.run)(facts, now, &mut sheet);
        Examined { check, findings: sheet.findings, missing: sheet.missing }
    };
    CHECKS.iter().map(run).collect()
}

/// What a check writes on.
#[derive(Debug, Default)]
struct Sheet {
    findings: Vec<Finding>,
    missing: Vec<NotExamined>,
}

impl Sheet {
    /// What is known; what is not is noted.
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
    fn mend(&mut self, step: impl Into<String>) -> &mut Finding {
        self.fix.push(step.into());
        self
    }
}

/// Some names, and how many more there are.
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
            "What you say is dated by it: a stop is reported with a wrong time, and AWS may refuse its signatures.",
        )
        .mend("Set it by the network:")
        .mend("sudo timedatectl set-ntp true");
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
                    "Nothing is sent, and nobody but AWS lifts that.",
                )
                .mend(format!("{console}: answer the review that stands there."));
        }
        Some("PROBATION") => {
            sheet
                .fault(
                    "account-probation",
                    "account",
                    "SES has it under review (EnforcementStatus PROBATION)",
                    "AWS may pause all sending if the cause is not fixed by the date that the review names.",
                )
                .mend(place.ours("status account"))
                .mend(format!("{console}: read the review, fix its cause, then answer it."));
        }
        Some(_) | None => {}
    }
    // What AWS has shut down shows as paused, too, and cannot be resumed.
    if !account.sending && account.enforcement.as_deref() != Some("SHUTDOWN") {
        sheet
            .fault("account-paused", "account", "sending is paused for the whole account", "Nothing is sent.")
            .mend("See whether a breaker or a person did it:")
            .mend(place.ours("history account"))
            .mend("If it was a breaker or ses-breaker stop:")
            .mend(place.ours("resume account"))
            .mend("Else:")
            .mend(place.aws("sesv2 put-account-sending-attributes --sending-enabled"));
    }
    if !account.production {
        sheet
            .advice(
                "account-sandbox",
                "account",
                "it is in the SES sandbox",
                "SES sends 200 mails a day, and to verified addresses only: nothing here judges real mail.",
            )
            .mend(format!("{console}: request production access."));
    }
}

/// The configuration sets that were asked about.
fn asked(sets: &BTreeMap<String, Option<SetFacts>>) -> impl Iterator<Item = (&String, &SetFacts)> {
    sets.iter().filter_map(|(set, known)| known.as_ref().map(|known| (set, known)))
}

/// Whether events reach the stack by a destination: by its topic, or by EventBridge where a rule of the stack takes them there.
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
        // What it sends now, it goes on sending.
        let engaged = ours.iter().flat_map(|destination| &destination.events);
        let engaged = engaged.into_iter().any(|event| ENGAGEMENT.iter().any(|known| known.as_str() == event));
        let connect = place.ours(&format!("connect {}{}", quoted(set), if engaged { " --engagement" } else { "" }));
        if ours.is_empty() {
            let found = match all.len() {
                0 => "it has no event destination".to_owned(),
                _ => {
                    format!("none of its event destinations ({}) leads to the stack", some(all.iter().map(|d| &d.name)))
                }
            };
            sheet
                .fault(
                    "destination-missing",
                    of_set(set),
                    found,
                    "The stack sees none of its mail: whatever becomes of it, nothing is stopped.",
                )
                .mend(connect);
        } else if enabled().next().is_none() {
            let names = some(ours.iter().map(|destination| &destination.name));
            sheet
                .fault(
                    "destination-disabled",
                    of_set(set),
                    format!("its event destination {names} is disabled"),
                    "SES publishes nothing by it, and what happens meanwhile is never told.",
                )
                .mend(connect);
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
                        "A rate is made of all of them: without one, it is too low, too high or not there.",
                    )
                    .mend(connect);
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
                            "its event destination {} leads to {}, which does not exist",
                            name(&destination.name),
                            destination.target
                        ),
                        "SES publishes to nobody there. A stack was deleted before its sets were disconnected, perhaps.",
                    )
                    .mend(place.aws(&delete));
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
                    format!("the ses-breaker stack {} stopped it, and does not exist any more", name(stack)),
                    "It sends nothing, and nothing will ever resume it.",
                )
                .mend(place.aws(&resume));
        }
    }
}

fn default_sets(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    sheet.missing.extend(facts.left_out.iter().filter(|left| left.needs.contains("EmailIdentity")).cloned());
    let Some(identities) = sheet.known(&facts.identities) else { return };
    let sets: Vec<&String> = facts.sets.iter().flat_map(BTreeMap::keys).collect();
    // By subject, and the default that is not there. Addresses are not shown: in the sandbox, they are those of recipients.
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
                "SES refuses mail that names no configuration set then.",
            ),
            None => sheet.advice(
                "default-set-missing",
                subject,
                match whose {
                    None => "it has no default configuration set".to_owned(),
                    Some(count) => format!("{count} without a default configuration set"),
                },
                "Mail that names no configuration set has no events and cannot be stopped: the stack never sees it.",
            ),
        };
        let Some(set) = connected(facts).next().or(sets.first().copied()) else { continue };
        if sets.len() > 1 {
            finding.mend(format!("With the set that such mail is to count for, one of {}:", some(&sets)));
        }
        finding.mend(place.aws(&format!(
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
        format!("mail that names no configuration set was heard of, last between {} UTC and an hour later", minute_of(*last)),
        "Only the feedback notifications of an identity tell of such mail. They name no configuration set: where an identity sends \
         both them and events, which of the two comes first decides what the mail counts for.",
    );
    finding.mend("See which identities send notifications to the stack's topic:");
    let domains = facts.identities.iter().flat_map(BTreeMap::keys).filter(|identity| !identity.contains('@'));
    let identities: Vec<String> = domains.take(SHOWN).map(|identity| quoted(identity)).collect();
    let which = if identities.is_empty() { "example.com".to_owned() } else { identities.join(" ") };
    finding
        .mend(place.aws(&format!("ses get-identity-notification-attributes --identities {which}")))
        .mend("For each of them, and for Bounce, Complaint and Delivery, once its mail names a configuration set:")
        .mend(place.aws(&format!(
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
                    "SES's own rates of it are not on CloudWatch, so that nothing can be compared with what the stack counts. They \
                     cost a little.",
                )
                .mend(place.aws(&format!(
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
    // Where nothing is known of the sets, one stands for all of them.
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
                None => format!("its policy does not let SES publish{whose}"),
                Some(statement) => format!("its policy denies SES to publish{whose}, by {}", name(statement)),
            },
            "SES drops the events that it cannot publish, and tells nobody.",
        );
        let allow = serde_json::json!({
            "Sid": "SesOfThisAccount", "Effect": "Allow", "Principal": { "Service": "ses.amazonaws.com" },
            "Action": "sns:Publish", "Resource": topic,
            "Condition": { "StringEquals": { "aws:SourceAccount": place.account }, "ArnLike": { "aws:SourceArn": format!("{all}*") } },
        });
        let policy = mended(policy.as_deref(), statement.as_deref(), &allow);
        finding.mend(place.aws(&format!(
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
        Answer::NotAllowed => ("its policy does not let the events topic send to it".to_owned(), None),
        Answer::Denied { statement } => {
            (format!("its policy denies the events topic to send to it, by {}", name(&statement)), Some(statement))
        }
        Answer::Unclear(what) => {
            sheet.missing.push(not_understood("sqs:GetQueueAttributes", &arn, &what));
            return;
        }
    };
    let allow = serde_json::json!({
        "Sid": "EventsTopic", "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" },
        "Action": "sqs:SendMessage", "Resource": arn, "Condition": { "ArnEquals": { "aws:SourceArn": topic } },
    });
    let policy = mended(queue.policy.as_deref(), denied.as_deref(), &allow);
    let attributes = serde_json::json!({ "Policy": policy }).to_string();
    sheet
        .fault("queue-policy", arn, found, "SNS drops what it is not allowed to deliver: those events are lost.")
        .mend(place.aws(&format!(
            "sqs set-queue-attributes --queue-url {} --attributes {}",
            quoted(&queue.url),
            quoted(&attributes)
        )));
}

/// A policy without the statement that denies, and with the one that allows.
fn mended(policy: Option<&str>, denies: Option<&str>, allow: &serde_json::Value) -> String {
    let known = policy.and_then(|policy| serde_json::from_str(policy).ok());
    let mut policy: serde_json::Value = known.unwrap_or_else(|| serde_json::json!({ "Version": "2012-10-17" }));
    let mut statements = several(&policy["Statement"].take());
    // The one that allows is put in place of its namesake, which allows something else.
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
    let reason = format!("its policy holds what is not understood here: {}", name(what));
    NotExamined { needs, of: of.to_owned(), denied: false, reason }
}

fn subscription(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let Some(listeners) = sheet.known(&facts.listeners) else { return };
    let (topic, queue) = (place.arn("sns", "events"), place.arn("sqs", "events"));
    let why = "Events reach the topic and go no further.";
    let subscribe = place.aws(&format!(
        "sns subscribe --topic-arn {topic} --protocol sqs --notification-endpoint {queue} --attributes RawMessageDelivery=true"
    ));
    let ours: Vec<&Listener> = listeners.iter().filter(|one| one.queue.as_deref() == Some(queue.as_str())).collect();
    let Some(ours) = ours.iter().find(|one| one.arn.is_some()) else {
        let (kind, found) = match ours.len() {
            0 => ("subscription-missing", format!("{} is not subscribed to it", place.name("events"))),
            _ => ("subscription-pending", format!("the subscription of {} is not confirmed", place.name("events"))),
        };
        sheet.fault(kind, topic, found, why).mend(subscribe);
        return;
    };
    if let Some(Some(filter)) = sheet.known(&ours.filter) {
        sheet
            .fault(
                "subscription-filtered",
                topic,
                format!("the subscription of {} lets through only {}", place.name("events"), name(filter)),
                "What a filter holds back is lost, and rates are made of all events.",
            )
            .mend(place.aws(&format!(
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
                "They are events that ingest could not record in five tries; rates lack them, and after 14 days they are gone.",
            )
            .mend("Read why, and fix that:")
            .mend(place.aws(&format!(
                "logs filter-log-events --log-group-name /aws/lambda/{} --filter-pattern '\"cannot be counted\"'",
                place.name("ingest")
            )))
            .mend("Then let them come again; what was counted already counts once:")
            .mend(place.aws(&format!("sqs start-message-move-task --source-arn {}", place.arn("sqs", "events-dead"))));
    }
}

fn mappings(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    for (function, mappings) in &facts.mappings {
        let Some(mappings) = sheet.known(mappings) else { continue };
        let (source, why) = match *function {
            "ingest" => ("the queue", "Events wait in the queue, for four days; then they are lost."),
            "breaker" => {
                ("the ledger", "What was recorded is judged by nobody, and is lost to the rates after 24 hours.")
            }
            _ => ("the breakers' wishes", "Pauses are made by the 5-minute tick only, and alerts come late."),
        };
        let waiting = match (*function, &facts.queue) {
            ("ingest", Ok(queue)) if queue.waiting > 0 => format!("; {} wait", counted(queue.waiting, "message")),
            _ => String::new(),
        };
        if mappings.is_empty() {
            sheet
                .fault("mapping-missing", place.name(function), format!("nothing wakes it for {source}{waiting}"), why)
                .mend("See what else was changed by hand:")
                .mend(place.aws(&format!("cloudformation detect-stack-drift --stack-name {}", quoted(&place.stack))))
                .mend("Then deploy the stack anew (see infra/INSTALL.md); its tables stay.");
        }
        for mapping in mappings {
            if mapping.state.starts_with("Disabl") {
                let found = format!("its event source mapping is {}{waiting}", mapping.state.to_lowercase());
                sheet.fault("mapping-disabled", place.name(function), found, why).mend(
                    place
                        .aws(&format!("lambda update-event-source-mapping --uuid {} --enabled", quoted(&mapping.uuid))),
                );
            } else if let Some(problem) = mapping.last.as_deref().filter(|last| last.starts_with("PROBLEM")) {
                sheet
                    .fault(
                        "mapping-failing",
                        place.name(function),
                        format!("the last time it was woken for {source}: {}", name(problem)),
                        "The same batch comes again until it works, and all that is behind it waits.",
                    )
                    .mend("Read why:")
                    .mend(place.aws(&format!("logs tail /aws/lambda/{} --since 1h", place.name(function))));
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
                sheet.fault("function-stopped", function_name, found, "Lambda never runs it.").mend(if is_enforcer {
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
                        "Two of them may run at once. No wish is lost, but together they call SES more than once a second, and it \
                         refuses some.",
                    )
                    .mend("If the concurrency of the account is above 100:")
                    .mend(reserve);
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
            "breaker-tick" => (true, "Time stands still for the breakers: none lets probes through, none closes."),
            "enforcer-tick" => {
                (true, "What people change at SES is not noticed, and what SES refused is not tried again.")
            }
            "warmup-tick" => (true, "Days are closed only when somebody asks the gate."),
            "sending-status" => (false, "That SES stopped a tenant is noticed up to five minutes late."),
            "advisor" => (false, "What the Virtual Deliverability Manager finds is not told where alerts are."),
            // It is there only where the template was told so.
            _ => (false, "Events that go by EventBridge do not come."),
        };
        let rule_name = place.name(rule);
        match enabled {
            Some(true) => {}
            None if *rule == "mail-events" => {}
            None => {
                let severity = if is_tick { Severity::Fault } else { Severity::Advice };
                sheet
                    .finding(severity, "rule-missing", rule_name, "there is no such rule".to_owned(), why)
                    .mend("See what else was changed by hand:")
                    .mend(
                        place.aws(&format!("cloudformation detect-stack-drift --stack-name {}", quoted(&place.stack))),
                    )
                    .mend("Then deploy the stack anew (see infra/INSTALL.md); its tables stay.");
            }
            Some(false) => {
                let severity = if is_tick { Severity::Fault } else { Severity::Advice };
                let enable = place.aws(&format!("events enable-rule --name {}", quoted(&rule_name)));
                sheet.finding(severity, "rule-disabled", rule_name, "it is disabled".to_owned(), why).mend(enable);
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
        Some(last) => format!("the last event came between {} UTC and an hour later", minute_of(*last)),
        None => "no event ever came".to_owned(),
    };
    let sent = counted(account.sent, "mail");
    sheet
        .fault(
            "events-stale",
            place.name("ingest"),
            format!("{found}, though SES sent {sent} in the last 24 hours"),
            "The breakers judge by what was, and stop nothing.",
        )
        .mend("Mend what else is found here first. If there is nothing, send a mail, and see where its events end:")
        .mend(place.aws(&format!("logs tail /aws/lambda/{} --since 1h", place.name("ingest"))));
}

/// Whether what was last heard of in this hour is older than a day.
fn is_old(last: Minute, now: Now) -> bool {
    last.plus(HOUR + DAY) <= now.minute()
}

fn alerts(facts: &Facts, _: Now, sheet: &mut Sheet) {
    let place = &facts.place;
    let Some(reported) = sheet.known(&facts.reported) else { return };
    if reported.iter().any(|listener| listener.arn.is_some()) {
        return;
    }
    let topic = place.arn("sns", "alerts");
    let found = match reported.len() {
        0 => "nobody is subscribed to it".to_owned(),
        all => format!("nobody has confirmed a subscription; {} to be confirmed", {
            let wait = if all == 1 { "waits" } else { "wait" };
            format!("{} ({}) {wait}", all, some(reported.iter().map(|one| &one.protocol).collect::<BTreeSet<_>>()))
        }),
    };
    let finding = sheet.fault(
        "alerts-unheard",
        topic.clone(),
        found,
        "What is stopped, and why, reaches no person; nor does any alarm of the stack.",
    );
    if !reported.is_empty() {
        finding.mend("Follow the link in the mail that SNS has sent, or have it sent again:");
    }
    finding.mend(
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
            "The functions do not go by what you decided.",
        )
        .mend(place.ours("policy show") + " > my.toml")
        .mend("Put it right, and push it again:")
        .mend("ses-breaker policy check my.toml")
        .mend(place.ours("policy push my.toml"));
}

/// Where a policy names configuration sets and identities.
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
                // A verified domain sends for its subdomains, too.
                let covers = |known: &&str| {
                    *known == &**domain || domain.strip_suffix(*known).is_some_and(|rest| rest.ends_with('.'))
                };
                if domains.iter().any(covers) {
                    continue;
                }
                suggest(domain, domains.into_iter()).into_iter().map(name).collect()
            }
            // Whether there is such a tenant or tag shows when it sends.
            Subject::Account | Subject::Tenant(_) | Subject::Tag(..) => continue,
        };
        let subject_name = name(&subject.to_string());
        let finding = sheet.fault(
            "policy-name-unknown",
            subject_name,
            format!("{} of the policy names it, and SES knows none of that name", listed(&deduplicated(named))),
            "What was meant is neither planned nor protected; mail that is routed to a set that does not exist is refused.",
        );
        if !meant.is_empty() {
            finding.mend(format!("Did you mean {}?", meant.join(" or ")));
        }
        finding.mend(place.ours("policy show") + " > my.toml").mend("Correct the name, then:");
        finding.mend(place.ours("policy push my.toml"));
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
                "[warmup.dedicated_ips] of the policy names it, and SES manages it",
                "SES warms it up by itself and takes no percentage: it follows no ramp of yours.",
            ),
            None => sheet.fault(
                "dedicated-ip-unknown",
                ip.to_string(),
                "[warmup.dedicated_ips] of the policy names it, and it is none of this account and Region",
                "Nothing is set for it; the IP that was meant is warmed up by the plan of SES.",
            ),
        };
        finding.mend("See which there are:").mend(place.aws("sesv2 get-dedicated-ips"));
        finding.mend(place.ours("policy show") + " > my.toml").mend("Correct it, then:");
        finding.mend(place.ours("policy push my.toml"));
    }
}

#[cfg(test)]
mod tests;
