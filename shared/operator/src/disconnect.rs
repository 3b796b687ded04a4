//! Disconnects configuration sets: deletes their event destinations to the stack, and resumes what ses-breaker stopped.
//!
//! The destinations go first: without events no breaker opens again. Then subjects that a verdict stopped are resumed like by
//! a person, and waited for. What a person stopped stays stopped, and is listed with the command that resumes it at SES once
//! the stack is gone.
//!
//! **Invariant:** only destinations to the stack's own topic are deleted, and "disconnected" is reported only if SES shows it
//! afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_sesv2::types::EventDestination;
use pipeline::control::Flow;
use pipeline::ports::DesiredStates as _;
use pipeline::ports::{PortError, Reputation as _};
use reputation::breaker::{Override, State};
use reputation::subject::Subject;
use reputation::time::Now;
use serde::Serialize;

use crate::asking::Asking;
use crate::command::{self, CommandRequest, OperatorCommand};
use crate::connect::{Ses, SesError, events_topic, failed_by, nearest_of, plain_names, target};
use crate::failure::Failure;
use crate::obey::Obeyed;
use crate::{Access, Exit};

/// What to disconnect, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// Names of configuration sets, with or without `configuration-set:` before them.
    pub sets: Vec<String>,
    /// All configuration sets instead, and tenants and the account, too.
    pub all: bool,
    /// Change nothing.
    pub dry_run: bool,
    /// How long to wait for SES, at most.
    pub wait: Duration,
}

/// The results for all subjects.
#[derive(Clone, Debug, Serialize)]
pub struct Disconnected {
    /// ARN of the topic that events went to.
    pub topic: String,
    /// Whether all configuration sets were asked for, and everything else that the stack stopped.
    pub all: bool,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Configuration sets; with `--all`, also the other subjects that the stack stopped.
    pub subjects: Vec<DisconnectedSubject>,
}

impl Disconnected {
    /// The number of subjects that are disconnected. With `--all`, one that does not exist at SES counts, too.
    pub fn count(&self) -> usize {
        let is_done = |row: &&DisconnectedSubject| {
            row.failed.is_none()
                && match &row.sending {
                    Sending::NotStopped | Sending::WouldResume | Sending::StoppedByPerson => true,
                    Sending::Resumed { obeyed } => obeyed.is_so() || *obeyed == Obeyed::NotWaited,
                    Sending::Missing => self.all,
                }
        };
        self.subjects.iter().filter(is_done).count()
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        if self.count() == self.subjects.len() { Exit::Done } else { Exit::No }
    }
}

/// The result for one subject; in a dry run, what would happen.
#[derive(Clone, Debug, Serialize)]
pub struct DisconnectedSubject {
    /// The subject.
    pub subject: String,
    /// Its event destinations to the stack that were deleted.
    pub deleted: Vec<String>,
    /// See [`Sending`].
    pub sending: Sending,
    /// What failed; null if nothing did.
    pub failed: Option<String>,
    /// Notes, and what remains.
    pub notes: Vec<String>,
}

/// Whether the mail of a subject is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Sending {
    /// The stack has not stopped it.
    NotStopped,
    /// The stack had stopped it, and was asked to resume it.
    Resumed {
        /// The result.
        obeyed: Obeyed,
    },
    /// In a dry run: it would be resumed.
    WouldResume,
    /// A person stopped it, and it stays stopped.
    StoppedByPerson,
    /// There is no such subject at SES.
    Missing,
}

/// Disconnects configuration sets from a stack.
///
/// # Errors
///
/// The stack does not exist, or AWS refuses what concerns more than one configuration set. Earlier steps remain in effect, and
/// running it again continues from there.
pub async fn disconnect(
    access: &Access,
    order: &Order,
    now: Now,
    asking: &Asking<'_>,
) -> Result<Disconnected, Failure> {
    let refused = |error| access.refused(error);
    let topic = events_topic(access).await?;
    let mut ses = Ses::new(access);
    let policy = access.policy().await?.policy;
    let mut store = access.reputation(&policy);
    let wishes = store.desired_states().await.map_err(refused)?;
    let stopped: BTreeSet<&Subject> =
        wishes.iter().filter(|desired| desired.flow == Flow::Stopped).map(|desired| &desired.target).collect();
    let mut names: Vec<String> = if order.all {
        (asking.progress)(0, 0, "listing configuration sets");
        ses.list().await.map_err(refused)?.to_vec()
    } else {
        plain_names(&order.sets)
    };
    let mut others = Vec::new();
    for subject in stopped.iter().filter(|_| order.all) {
        match subject {
            // SES has lost it, or does not show it yet.
            Subject::ConfigurationSet(name) if !names.contains(&name.to_string()) => names.push(name.to_string()),
            Subject::ConfigurationSet(_) => {}
            Subject::Account | Subject::Tenant(_) | Subject::Identity(_) | Subject::Tag(..) => {
                others.push((*subject).clone());
            }
        }
    }
    let mut subjects = Vec::new();
    for (place, name) in names.iter().enumerate() {
        (asking.progress)(place, names.len(), name);
        subjects.push(take_off(&mut ses, &topic, name, order.dry_run).await.map_err(refused)?);
    }
    subjects.extend(others.iter().map(DisconnectedSubject::new));
    let mut resumed = Vec::new();
    for (place, row) in subjects.iter_mut().enumerate() {
        let Ok(subject) = row.subject.parse::<Subject>() else { continue };
        if !stopped.contains(&subject) {
            continue;
        }
        let known = store.subject_state(&subject, now).await.map_err(refused)?.breaker(None).breaker;
        if known.overridden == Override::ForcedOpen && matches!(known.state, State::Open { .. }) {
            row.sending = Sending::StoppedByPerson;
            row.notes.push(format!("a person stopped it, and it stays stopped; to resume it: {}", at_ses(&subject)));
        } else if order.dry_run {
            row.sending = Sending::WouldResume;
        } else {
            resumed.push((place, subject));
        }
    }
    // All requests are written first, so that none waits for the one before.
    let request = CommandRequest {
        wait: order.wait,
        command: OperatorCommand::Resume,
        reason: Some("disconnected from ses-breaker".to_owned()),
        force: true,
    };
    let targets: Vec<Subject> = resumed.iter().map(|(_, subject)| subject.clone()).collect();
    if !targets.is_empty() {
        let obeyed = command::resume_all(access, &targets, &request, now, asking).await?;
        for ((place, subject), obeyed) in resumed.into_iter().zip(obeyed) {
            let row = &mut subjects[place];
            if matches!(obeyed, Obeyed::Gone) && row.sending == Sending::Missing {
                continue;
            }
            if !obeyed.is_so() {
                row.notes.push(format!("if the stack's functions are already deleted: {}", at_ses(&subject)));
            }
            row.sending = Sending::Resumed { obeyed };
        }
    }
    Ok(Disconnected { topic, all: order.all, dry_run: order.dry_run, subjects })
}

/// The command that resumes a subject at SES, without the stack.
fn at_ses(subject: &Subject) -> String {
    match subject {
        Subject::ConfigurationSet(name) => format!(
            "aws sesv2 put-configuration-set-sending-options --sending-enabled --configuration-set-name {}",
            terminal::quoted(name)
        ),
        Subject::Account => "aws sesv2 put-account-sending-attributes --sending-enabled".to_owned(),
        Subject::Tenant(_) | Subject::Identity(_) | Subject::Tag(..) => format!(
            "aws sesv2 update-reputation-entity-customer-managed-status --sending-status ENABLED \
             --reputation-entity-type RESOURCE --reputation-entity-reference ARN-OF-{}",
            terminal::quoted(&subject.to_string())
        ),
    }
}

impl DisconnectedSubject {
    fn new(subject: &Subject) -> DisconnectedSubject {
        DisconnectedSubject {
            subject: subject.to_string(),
            deleted: Vec::new(),
            sending: Sending::NotStopped,
            failed: None,
            notes: Vec::new(),
        }
    }
}

/// Deletes a configuration set's destinations to the stack's topic. Fails only for what would fail with every other one, too.
async fn take_off(ses: &mut Ses, topic: &str, name: &str, dry_run: bool) -> Result<DisconnectedSubject, PortError> {
    let mut row = DisconnectedSubject::new(&Subject::ConfigurationSet(name.into()));
    let known = match ses.destinations(name).await {
        Ok(known) => known,
        Err(SesError::Missing) => {
            row.sending = Sending::Missing;
            row.notes.extend(nearest_of(ses, name).await?);
            return Ok(row);
        }
        Err(SesError::Other(error)) => {
            row.failed = Some(failed_by(error)?);
            return Ok(row);
        }
    };
    let is_ours = |known: &&EventDestination| target(known) == topic;
    for bus in known.iter().filter(|known| known.event_bridge_destination().is_some()) {
        row.notes.push(format!(
            "its destination {} publishes to the default event bus, which others may use: it stays",
            bus.name()
        ));
    }
    for ours in known.iter().filter(is_ours) {
        if !dry_run && let Err(error) = ses.delete(name, ours.name()).await {
            match error {
                // It was deleted by someone else.
                SesError::Missing => {}
                SesError::Other(error) => {
                    row.failed = Some(failed_by(error)?);
                    return Ok(row);
                }
            }
        }
        row.deleted.push(ours.name().to_owned());
    }
    if dry_run || row.deleted.is_empty() {
        return Ok(row);
    }
    match ses.destinations(name).await {
        Ok(left) => {
            if let Some(left) = left.iter().find(is_ours) {
                row.failed = Some(format!("SES accepted the deletion but still shows destination {}", left.name()));
            }
        }
        Err(SesError::Missing) => row.sending = Sending::Missing,
        Err(SesError::Other(error)) => row.failed = Some(failed_by(error)?),
    }
    Ok(row)
}
