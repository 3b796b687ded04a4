//! CloudFormation: what a stack is, what a change set would change, and what happens meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use aws::clients::port_error;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::ProvideErrorMetadata as _;
use aws_sdk_cloudformation::types::{
    Capability, ChangeAction, ChangeSetStatus, ChangeSetType, Parameter, Replacement, Stack, StackEvent, StackStatus,
    StackSummary,
};
use aws_smithy_types::DateTime;
use tokio::time::sleep;

use super::{StackFailure, template};
use crate::Access;
use crate::asking::Asking;
use crate::failure::Failure;
pub use crate::place::Change;

/// The name of our change sets. One name for all, so that a run finds what an interrupted one has left.
const CHANGE_SET: &str = "ses-breaker";
/// The beginnings of the reason of a resource that failed only because another one did.
const FOLLOWED: [&str; 2] = ["Resource creation cancelled", "Resource update cancelled"];
/// Looks at something that CloudFormation does within a minute or two.
const LOOKS: u32 = 150;

/// A stack as CloudFormation shows it.
#[derive(Clone, Debug)]
pub struct KnownStack {
    /// Its ARN, by which it is found even after it was deleted.
    pub id: String,
    /// Its status, such as `CREATE_COMPLETE`.
    pub status: String,
    /// The description of its template; empty if it has none yet.
    pub description: String,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// Its outputs.
    pub outputs: BTreeMap<String, String>,
    /// Whether it is protected from deletion.
    pub protected: bool,
}

impl KnownStack {
    /// Whether something is still being done to it.
    pub fn is_busy(&self) -> bool {
        self.status.ends_with("_IN_PROGRESS") && !self.is_only_planned()
    }

    /// Whether only a change set was created, and never executed.
    pub fn is_only_planned(&self) -> bool {
        self.status == "REVIEW_IN_PROGRESS"
    }

    /// Whether its creation or deletion failed, so that nothing but a deletion can follow.
    pub fn is_wreck(&self) -> bool {
        ["CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"].contains(&self.status.as_str())
    }

    /// Whether its creation failed and was undone, so that nothing is in it.
    pub fn is_undone(&self) -> bool {
        self.status == "ROLLBACK_COMPLETE"
    }

    /// Whether it was deleted.
    pub fn is_gone(&self) -> bool {
        self.status == "DELETE_COMPLETE"
    }

    /// Whether it works: its last change succeeded, or was undone.
    pub fn is_sound(&self) -> bool {
        [
            "CREATE_COMPLETE",
            "UPDATE_COMPLETE",
            "UPDATE_ROLLBACK_COMPLETE",
            "IMPORT_COMPLETE",
            "IMPORT_ROLLBACK_COMPLETE",
        ]
        .contains(&self.status.as_str())
    }
}

impl From<Stack> for KnownStack {
    fn from(stack: Stack) -> KnownStack {
        let pairs = |pairs: Vec<(Option<String>, Option<String>)>| {
            pairs.into_iter().filter_map(|(key, value)| Some((key?, value.unwrap_or_default()))).collect()
        };
        let parameters = stack.parameters.unwrap_or_default();
        let outputs = stack.outputs.unwrap_or_default();
        KnownStack {
            id: stack.stack_id.unwrap_or_default(),
            status: stack.stack_status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
            description: stack.description.unwrap_or_default(),
            parameters: pairs(parameters.into_iter().map(|p| (p.parameter_key, p.parameter_value)).collect()),
            outputs: pairs(outputs.into_iter().map(|o| (o.output_key, o.output_value)).collect()),
            protected: stack.enable_termination_protection.unwrap_or(false),
        }
    }
}

/// What a change set asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Whether the stack does not exist yet.
    pub(crate) create: bool,
    /// The address of the template in the bucket.
    pub(crate) template_url: String,
    /// Parameters with their values.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Parameters that keep the values that they have.
    pub(crate) kept: Vec<String>,
}

/// CloudFormation in the account and Region of the stack.
#[derive(Clone, Debug)]
pub(crate) struct CloudFormation<'a> {
    access: &'a Access,
    client: Client,
    pace: Duration,
}

impl<'a> CloudFormation<'a> {
    pub(crate) fn new(access: &'a Access, pace: Duration) -> CloudFormation<'a> {
        CloudFormation { access, client: Client::new(access.clients.config()), pace }
    }

    /// The stack with this name or ARN. By name, a deleted one is not found.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<KnownStack>, Failure> {
        match self.client.describe_stacks().stack_name(name).send().await {
            Ok(answer) => Ok(answer.stacks.unwrap_or_default().into_iter().next().map(KnownStack::from)),
            Err(error) if error.message().is_some_and(|message| message.contains("does not exist")) => Ok(None),
            Err(error) => Err(self.access.refused(port_error("looking for the stack", &error))),
        }
    }

    /// The last stack of this name and of our template that was deleted: CloudFormation keeps it for 90 days.
    pub(crate) async fn find_deleted(&self) -> Result<Option<KnownStack>, Failure> {
        let request = self.client.list_stacks().stack_status_filter(StackStatus::DeleteComplete);
        let mut pages = request.into_paginator().send();
        let mut last: Option<StackSummary> = None;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.access.refused(port_error("looking for deleted stacks", &error)))?;
            let deleted = page.stack_summaries.unwrap_or_default().into_iter();
            let own = deleted.filter(|known| known.stack_name() == Some(self.access.stack.as_str()));
            last = own.chain(last).max_by_key(|known| known.deletion_time().map(DateTime::as_nanos));
        }
        let Some(id) = last.and_then(|last| last.stack_id) else { return Ok(None) };
        Ok(self.find(&id).await?.filter(|known| template::is_ours(&known.description)))
    }

    /// Finds the stack of this name, waits until nothing is being done to it, and refuses one that is not ours.
    pub(crate) async fn settled(&self, asking: &Asking<'_>) -> Result<Option<KnownStack>, Failure> {
        let Some(known) = self.find(&self.access.stack).await? else { return Ok(None) };
        let ours = match known.is_only_planned() {
            true => self.plans().await?.iter().all(|name| name == CHANGE_SET),
            false => template::is_ours(&known.description),
        };
        if !ours {
            let (stack, region) = (self.access.stack.clone(), self.access.region.clone());
            return Err(StackFailure::ForeignStack { stack, region }.into());
        }
        if !known.is_busy() {
            return Ok(Some(known));
        }
        (asking.line)(&format!("stack {} is {}: waiting for it", self.access.stack, known.status));
        let since = self.last_event(&known.id).await?;
        let known = self.follow(&known.id, &since, Until::AtRest, asking).await?;
        Ok((!known.is_gone()).then_some(known))
    }

    /// Creates our change set, in place of one that an interrupted run has left, and waits for it. `None` if it would change
    /// nothing.
    pub(crate) async fn plan(&self, wanted: &Wanted, asking: &Asking<'_>) -> Result<Option<Vec<Change>>, Failure> {
        let stack = &self.access.stack;
        self.forget_plan(asking).await?;
        let given = wanted.parameters.iter();
        let given = given.map(|(key, value)| Parameter::builder().parameter_key(key).parameter_value(value).build());
        let kept = wanted.kept.iter();
        let kept = kept.map(|key| Parameter::builder().parameter_key(key).use_previous_value(true).build());
        let kind = if wanted.create { ChangeSetType::Create } else { ChangeSetType::Update };
        let request = self.client.create_change_set().stack_name(stack).change_set_name(CHANGE_SET);
        let request = request.change_set_type(kind).template_url(&wanted.template_url);
        let request = request.set_parameters(Some(given.chain(kept).collect()));
        let request = request.capabilities(Capability::CapabilityIam).capabilities(Capability::CapabilityAutoExpand);
        if let Err(error) = request.send().await {
            return Err(match error.message() {
                Some(reason) if error.code() == Some("ValidationError") => {
                    StackFailure::ChangesRefused { stack: stack.clone(), reason: reason.to_owned() }.into()
                }
                _ => self.access.refused(port_error("planning the changes", &error)),
            });
        }
        let (changes, status, reason) = self.planned(asking).await?;
        if status == ChangeSetStatus::CreateComplete {
            return Ok(Some(changes));
        }
        if says_unchanged(&reason) {
            self.forget_plan(asking).await?;
            return Ok(None);
        }
        self.abandon(wanted.create, asking).await?;
        Err(StackFailure::ChangesRefused { stack: stack.clone(), reason }.into())
    }

    /// Waits until the change set is complete or has failed. Returns its changes, its status and the reason.
    async fn planned(&self, asking: &Asking<'_>) -> Result<(Vec<Change>, ChangeSetStatus, String), Failure> {
        let stack = &self.access.stack;
        loop {
            (asking.progress)(0, 0, "CloudFormation compares the template with the stack");
            let (mut changes, mut next) = (Vec::new(), None);
            let (status, reason) = loop {
                let request = self.client.describe_change_set().stack_name(stack).change_set_name(CHANGE_SET);
                let answer = request.set_next_token(next.take()).send().await;
                let answer = answer.map_err(|error| self.access.refused(port_error("reading the changes", &error)))?;
                changes.extend(answer.changes.unwrap_or_default().into_iter().filter_map(change));
                next = answer.next_token;
                if next.is_none() {
                    break (answer.status, answer.status_reason.unwrap_or_default());
                }
            };
            match status {
                Some(status @ (ChangeSetStatus::CreateComplete | ChangeSetStatus::Failed)) => {
                    return Ok((changes, status, reason));
                }
                Some(_) | None => sleep(self.pace).await,
            }
        }
    }

    /// Deletes our change set, if there is one. CloudFormation refuses that while it still computes it.
    async fn forget_plan(&self, asking: &Asking<'_>) -> Result<(), Failure> {
        for look in 0.. {
            let request = self.client.delete_change_set().stack_name(&self.access.stack).change_set_name(CHANGE_SET);
            let error = match request.send().await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let code = error.as_service_error().and_then(|error| error.code());
            if error.message().is_some_and(|message| message.contains("does not exist")) {
                return Ok(());
            }
            if look >= LOOKS || !code.is_some_and(|code| code.starts_with("InvalidChangeSetStatus")) {
                return Err(self.access.refused(port_error("deleting the change set", &error)));
            }
            (asking.progress)(0, 0, "CloudFormation is still busy with the changes of an earlier run");
            sleep(self.pace).await;
        }
        Ok(())
    }

    /// Deletes our change set and, if the stack was only planned, and by nobody else, the stack.
    pub(crate) async fn abandon(&self, planned_only: bool, asking: &Asking<'_>) -> Result<(), Failure> {
        self.forget_plan(asking).await?;
        if !planned_only {
            return Ok(());
        }
        match self.find(&self.access.stack).await? {
            Some(known) if known.is_only_planned() && self.plans().await?.is_empty() => self.delete(&known.id).await,
            Some(_) | None => Ok(()),
        }
    }

    /// The names of the stack's change sets.
    async fn plans(&self) -> Result<Vec<String>, Failure> {
        let (mut names, mut next) = (Vec::new(), None);
        loop {
            let asked =
                self.client.list_change_sets().stack_name(&self.access.stack).set_next_token(next.take()).send().await;
            let answer = asked.map_err(|error| self.access.refused(port_error("looking for change sets", &error)))?;
            names.extend(answer.summaries.unwrap_or_default().into_iter().filter_map(|known| known.change_set_name));
            next = answer.next_token;
            if next.is_none() {
                return Ok(names);
            }
        }
    }

    /// Executes our change set and follows it. Returns the stack afterwards. A stack whose creation failed is deleted:
    /// CloudFormation has undone it, and does nothing else with it.
    pub(crate) async fn execute(&self, asking: &Asking<'_>) -> Result<KnownStack, Failure> {
        let stack = &self.access.stack;
        let Some(known) = self.find(stack).await? else {
            let (status, reasons) = ("gone: it was deleted meanwhile".to_owned(), Vec::new());
            return Err(StackFailure::NotFinished { stack: stack.clone(), status, reasons }.into());
        };
        let since = self.last_event(&known.id).await?;
        let request = self.client.execute_change_set().stack_name(stack).change_set_name(CHANGE_SET);
        let executed = request.send().await;
        executed.map_err(|error| self.access.refused(port_error("applying the changes", &error)))?;
        let known = self.follow(&known.id, &since, Until::NewEvent, asking).await?;
        if ["CREATE_COMPLETE", "UPDATE_COMPLETE"].contains(&known.status.as_str()) {
            return Ok(known);
        }
        let failure = self.not_finished(&known, &since).await?;
        if known.is_undone() {
            self.delete_and_wait(&known, asking).await?;
        }
        Err(failure)
    }

    /// The failure of an operation that began after the event `since`.
    async fn not_finished(&self, known: &KnownStack, since: &str) -> Result<Failure, Failure> {
        let events = self.events(&known.id, since).await?;
        let reasons = events.iter().filter_map(|event| {
            let status = event.resource_status().map(|status| status.as_str()).unwrap_or_default();
            let reason = event.resource_status_reason().unwrap_or_default();
            let followed = FOLLOWED.iter().any(|words| reason.starts_with(words));
            let failed = status.ends_with("_FAILED") && !reason.is_empty() && !followed;
            // The stack itself only lists the resources.
            let of_stack = event.physical_resource_id() == Some(known.id.as_str());
            (failed && !of_stack)
                .then(|| (event.logical_resource_id().unwrap_or_default().to_owned(), reason.to_owned()))
        });
        let reasons = reasons.collect();
        Ok(StackFailure::NotFinished { stack: self.access.stack.clone(), status: known.status.clone(), reasons }.into())
    }

    /// Asks for the deletion of a stack.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), Failure> {
        let deleted = self.client.delete_stack().stack_name(id).send().await;
        deleted.map(drop).map_err(|error| self.access.refused(port_error("deleting the stack", &error)))
    }

    /// Deletes a stack and waits until it is gone.
    pub(crate) async fn delete_and_wait(&self, known: &KnownStack, asking: &Asking<'_>) -> Result<(), Failure> {
        let since = self.last_event(&known.id).await?;
        self.delete(&known.id).await?;
        let known = self.follow(&known.id, &since, Until::NewEvent, asking).await?;
        if known.is_gone() { Ok(()) } else { Err(self.not_finished(&known, &since).await?) }
    }

    /// Undoes an update whose undoing has failed, once more.
    pub(crate) async fn continue_rollback(
        &self,
        known: &KnownStack,
        asking: &Asking<'_>,
    ) -> Result<KnownStack, Failure> {
        let since = self.last_event(&known.id).await?;
        let continued = self.client.continue_update_rollback().stack_name(&known.id).send().await;
        continued.map_err(|error| self.access.refused(port_error("undoing the last update", &error)))?;
        let known = self.follow(&known.id, &since, Until::NewEvent, asking).await?;
        if known.is_sound() { Ok(known) } else { Err(self.not_finished(&known, &since).await?) }
    }

    /// The identifier of the last event of a stack; empty if there is none.
    async fn last_event(&self, id: &str) -> Result<String, Failure> {
        let answer = self.client.describe_stack_events().stack_name(id).send().await;
        let answer = answer.map_err(|error| self.access.refused(port_error("reading the stack's events", &error)))?;
        let newest = answer.stack_events.unwrap_or_default().into_iter().next();
        Ok(newest.and_then(|event| event.event_id).unwrap_or_default())
    }

    /// The events after `since`, the oldest first.
    async fn events(&self, id: &str, since: &str) -> Result<Vec<StackEvent>, Failure> {
        let (mut events, mut next) = (Vec::new(), None);
        loop {
            let request = self.client.describe_stack_events().stack_name(id).set_next_token(next.take());
            let answer = request.send().await;
            let answer =
                answer.map_err(|error| self.access.refused(port_error("reading the stack's events", &error)))?;
            // The newest come first.
            for event in answer.stack_events.unwrap_or_default() {
                if event.event_id() == Some(since) {
                    events.reverse();
                    return Ok(events);
                }
                events.push(event);
            }
            next = answer.next_token;
            if next.is_none() {
                events.reverse();
                return Ok(events);
            }
        }
    }

    /// Prints what happens to a stack until it rests. Returns it as it is then.
    async fn follow(&self, id: &str, since: &str, until: Until, asking: &Asking<'_>) -> Result<KnownStack, Failure> {
        let mut log = EventLog::default();
        let mut seen = since.to_owned();
        let mut disagreed = 0;
        loop {
            // Read before the events, so that the last ones are not missed.
            let known = self.find(id).await?;
            for event in self.events(id, &seen).await? {
                seen = event.event_id().unwrap_or_default().to_owned();
                if let Some(line) = log.line(&event) {
                    (asking.line)(&line);
                }
            }
            (asking.progress)(0, 0, &log.summary());
            let Some(known) = known else {
                let (status, reasons) = ("gone: it was deleted meanwhile".to_owned(), Vec::new());
                return Err(StackFailure::NotFinished { stack: self.access.stack.clone(), status, reasons }.into());
            };
            let ended = match until {
                // A stack that is gone cannot come back under its ARN, and one that was only planned may have no event of it.
                _ if known.is_gone() => true,
                Until::AtRest => !known.is_busy() && !known.is_only_planned(),
                // The two answers come from different places. An event that never comes must not hold it up for ever.
                Until::NewEvent => match &log.ended {
                    Some(status) if *status == known.status || disagreed >= LOOKS => true,
                    Some(_) => {
                        disagreed += 1;
                        false
                    }
                    None => false,
                },
            };
            if ended {
                return Ok(known);
            }
            sleep(self.pace).await;
        }
    }
}

/// When an operation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Its stack is at rest. For an operation that is known to be under way.
    AtRest,
    /// A new event of the stack itself says so. Right after an operation was begun, the status may still be the one before.
    NewEvent,
}

/// CloudFormation's and SAM's words for a change set that changes nothing.
fn says_unchanged(reason: &str) -> bool {
    reason.contains("didn't contain changes") || reason.contains("No updates are to be performed")
}

fn change(change: aws_sdk_cloudformation::types::Change) -> Option<Change> {
    let of = change.resource_change?;
    let replaced = of.replacement();
    let of_change = of.action()?;
    let action = if [ChangeAction::Add, ChangeAction::Import].contains(of_change) {
        "add"
    } else if *of_change == ChangeAction::Remove {
        "remove"
    } else if replaced == Some(&Replacement::True) {
        "replace"
    } else {
        "change"
    };
    Some(Change {
        action,
        resource: of.logical_resource_id.clone().unwrap_or_default(),
        kind: of.resource_type.clone().unwrap_or_default(),
        may_replace: replaced == Some(&Replacement::Conditional),
    })
}

/// Turns events into lines: one for each resource that is done or has failed, with the time that it took.
#[derive(Debug, Default)]
struct EventLog {
    began: Option<DateTime>,
    busy: BTreeMap<String, DateTime>,
    done: usize,
    /// The status with which the stack itself has ended, unless something else has begun since.
    ended: Option<String>,
}

impl EventLog {
    fn line(&mut self, event: &StackEvent) -> Option<String> {
        let resource = event.logical_resource_id().unwrap_or_default();
        let status = event.resource_status()?.as_str();
        let at = *event.timestamp()?;
        let began = *self.began.get_or_insert(at);
        let of_stack = event.physical_resource_id() == event.stack_id();
        if of_stack {
            self.ended = (!status.ends_with("_IN_PROGRESS")).then(|| status.to_owned());
        }
        if status.ends_with("_IN_PROGRESS") {
            self.busy.entry(resource.to_owned()).or_insert(at);
            return None;
        }
        let took = seconds(self.busy.remove(resource).unwrap_or(at), at);
        let since = seconds(began, at);
        let clock = format!("{:02}:{:02}", since / 60, since % 60);
        let (verb, outcome) = status.split_once('_')?;
        let word = match (verb, outcome) {
            ("CREATE", "COMPLETE") => "created",
            ("UPDATE", "COMPLETE") => "changed",
            ("DELETE", "COMPLETE") => "deleted",
            ("DELETE", "SKIPPED") => "kept",
            (_, "FAILED") => "failed",
            _ => "undone",
        };
        if of_stack {
            return Some(format!("{clock}  {word:<8} stack {resource}"));
        }
        self.done += 1;
        let kind = event.resource_type().unwrap_or_default();
        let reason = event.resource_status_reason().filter(|_| word == "failed");
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        Some(format!("{clock}  {word:<8} {resource} ({kind}), {took} s{reason}"))
    }

    fn summary(&self) -> String {
        let names: Vec<&str> = self.busy.keys().map(String::as_str).take(3).collect();
        format!("{} resources done; at work: {}", self.done, names.join(", "))
    }
}

fn seconds(from: DateTime, to: DateTime) -> i64 {
    (to.secs() - from.secs()).max(0)
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::ResourceStatus;

    use super::*;

    fn event(resource: &str, status: ResourceStatus, at: i64, reason: Option<&str>) -> StackEvent {
        StackEvent::builder()
            .stack_id("arn:stack")
            .event_id(format!("{resource}-{at}"))
            .logical_resource_id(resource)
            .physical_resource_id(if resource == "mail" { "arn:stack" } else { "x" })
            .resource_type("AWS::SQS::Queue")
            .resource_status(status)
            .set_resource_status_reason(reason.map(str::to_owned))
            .timestamp(DateTime::from_secs(at))
            .build()
    }

    #[test]
    fn each_resource_is_one_line_with_its_time() {
        let mut log = EventLog::default();
        assert_eq!(log.line(&event("mail", ResourceStatus::CreateInProgress, 1_000, Some("User Initiated"))), None);
        assert_eq!(log.line(&event("Key", ResourceStatus::CreateInProgress, 1_002, None)), None);
        // CloudFormation reports a second time that it is in progress, once it knows the name.
        assert_eq!(log.line(&event("Key", ResourceStatus::CreateInProgress, 1_003, None)), None);
        assert_eq!(log.summary(), "0 resources done; at work: Key, mail");
        let created = log.line(&event("Key", ResourceStatus::CreateComplete, 1_070, None));
        assert_eq!(created.as_deref(), Some("01:10  created  Key (AWS::SQS::Queue), 68 s"));
        let failed = log.line(&event("Queue", ResourceStatus::CreateFailed, 1_071, Some("no")));
        assert_eq!(failed.as_deref(), Some("01:11  failed   Queue (AWS::SQS::Queue), 0 s: no"));
        let kept = log.line(&event("Table", ResourceStatus::DeleteSkipped, 1_072, None));
        assert_eq!(kept.as_deref(), Some("01:12  kept     Table (AWS::SQS::Queue), 0 s"));
        let whole = log.line(&event("mail", ResourceStatus::CreateComplete, 1_080, None));
        assert_eq!(whole.as_deref(), Some("01:20  created  stack mail"));
    }

    #[test]
    fn the_statuses_of_cloudformation_are_told_apart() {
        let stack = |status: &str| KnownStack {
            id: String::new(),
            status: status.to_owned(),
            description: String::new(),
            parameters: BTreeMap::new(),
            outputs: BTreeMap::new(),
            protected: false,
        };
        // "Stack status codes", CloudFormation User Guide.
        for (status, busy, wreck, sound) in [
            ("CREATE_COMPLETE", false, false, true),
            ("CREATE_FAILED", false, true, false),
            ("CREATE_IN_PROGRESS", true, false, false),
            ("DELETE_COMPLETE", false, false, false),
            ("DELETE_FAILED", false, true, false),
            ("DELETE_IN_PROGRESS", true, false, false),
            ("REVIEW_IN_PROGRESS", false, false, false),
            ("ROLLBACK_COMPLETE", false, true, false),
            ("ROLLBACK_FAILED", false, true, false),
            ("ROLLBACK_IN_PROGRESS", true, false, false),
            ("UPDATE_COMPLETE", false, false, true),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", true, false, false),
            ("UPDATE_FAILED", false, false, false),
            ("UPDATE_ROLLBACK_COMPLETE", false, false, true),
            ("UPDATE_ROLLBACK_FAILED", false, false, false),
            ("UPDATE_ROLLBACK_IN_PROGRESS", true, false, false),
        ] {
            let stack = stack(status);
            assert_eq!((stack.is_busy(), stack.is_wreck(), stack.is_sound()), (busy, wreck, sound), "{status}");
        }
    }

    #[test]
    fn both_words_for_nothing_to_change_are_known() {
        assert!(says_unchanged("The submitted information didn't contain changes. Submit different information."));
        assert!(says_unchanged("No updates are to be performed."));
        assert!(!says_unchanged("Template error"));
    }
}
