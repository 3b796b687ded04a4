//! Disconnecting configuration sets: what ses-breaker stopped sends again, and no event destination leads to the stack.
//!
//! The destinations go first: without events no breaker opens again. Then what a verdict stopped is resumed, by the way that
//! a person's resume goes, and waited for. What a person stopped stays so, and is named with what resumes it at SES once
//! the stack is gone.
//!
//! **Invariant:** only destinations that lead to the stack's own topic are deleted, and "disconnected" is said only of what
//! SES shows afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_sesv2::types::EventDestination;
use pipeline::enforce::{DesiredStates as _, Flow};
use pipeline::ports::{PortError, Reputation as _};
use replay::text::TermStyle;
use reputation::breaker::{Override, State};
use reputation::subject::Subject;
use reputation::time::Now;
use serde::Serialize;

use crate::command::{self, Asking, CommandRequest, OperatorCommand};
use crate::connect::{Ses, SesError, events_topic, failed_by, nearest_of, plain_names, target};
use crate::failure::Failure;
use crate::obey::Obeyed;
use crate::{Access, Answer, Exit, text};

/// What is to be disconnected, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// Names of configuration sets, with or without `configuration-set:` before them.
    pub sets: Vec<String>,
    /// All of them instead, and tenants and the account, too.
    pub all: bool,
    /// Change nothing.
    pub dry_run: bool,
    /// How long to wait until SES has done it, at most.
    pub wait: Duration,
}

/// What became of all.
#[derive(Clone, Debug, Serialize)]
pub struct Disconnected {
    /// ARN of the topic that events went to.
    pub topic: String,
    /// All configuration sets were asked for, and what else the stack stopped.
    pub all: bool,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Configuration sets; with `--all`, also what else the stack stopped.
    pub subjects: Vec<DisconnectedSubject>,
}

impl Disconnected {
    /// How many are as they were asked for. With all, one that SES does not know needs nothing.
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
}

/// What became of one subject; in a dry run, what would.
#[derive(Clone, Debug, Serialize)]
pub struct DisconnectedSubject {
    /// Whose mail.
    pub subject: String,
    /// Its event destinations that led to the stack, and are deleted.
    pub deleted: Vec<String>,
    /// See [`Sending`].
    pub sending: Sending,
    /// What is not as it was asked for; null if all is.
    pub failed: Option<String>,
    /// What else is worth knowing, and what remains.
    pub notes: Vec<String>,
}

/// How it is with the mail of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Sending {
    /// The stack has not stopped it.
    NotStopped,
    /// The stack had stopped it, and has been asked to resume it.
    Resumed {
        /// What came of it.
        obeyed: Obeyed,
    },
    /// In a dry run: it would be resumed.
    WouldResume,
    /// A person stopped it: it stays so.
    StoppedByPerson,
    /// There is no such subject at SES.
    Missing,
}

/// Disconnects configuration sets from a stack.
///
/// # Errors
///
/// The stack is not there, or AWS refuses what concerns more than one configuration set. What was done before stands, and
/// doing it again goes on from there.
pub async fn disconnect(
    access: &Access,
    order: &Order,
    now: Now,
    look: TermStyle,
    asking: &Asking<'_>,
) -> Result<Answer, Failure> {
    let refused = |error| access.refused(error);
    let topic = events_topic(access).await?;
    let mut ses = Ses::new(access);
    let policy = access.policy().await?.policy;
    let mut store = access.reputation(&policy);
    let wishes = store.wishes().await.map_err(refused)?;
    let stopped: BTreeSet<&Subject> =
        wishes.iter().filter(|wished| wished.wish == Flow::Stopped).map(|wished| &wished.target).collect();
    let mut names: Vec<String> = if order.all {
        (asking.progress)(0, 0, "listing configuration sets");
        ses.list().await.map_err(refused)?.to_vec()
    } else {
        plain_names(&order.sets)
    };
    let mut others = Vec::new();
    for subject in stopped.iter().filter(|_| order.all) {
        match subject {
            // SES has lost it, or does not know it yet.
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
            row.notes.push(format!("a person stopped it, and it stays so; to resume it: {}", at_ses(&subject)));
        } else if order.dry_run {
            row.sending = Sending::WouldResume;
        } else {
            resumed.push((place, subject));
        }
    }
    // All are asked for first, so that nobody waits for the one before.
    let saying = CommandRequest {
        wait: order.wait,
        word: OperatorCommand::Resume,
        reason: Some("disconnected from ses-breaker".to_owned()),
        force: true,
    };
    let targets: Vec<Subject> = resumed.iter().map(|(_, subject)| subject.clone()).collect();
    if !targets.is_empty() {
        let obeyed = command::resume_all(access, &targets, &saying, now, asking).await?;
        for ((place, subject), obeyed) in resumed.into_iter().zip(obeyed) {
            let row = &mut subjects[place];
            if matches!(obeyed, Obeyed::Gone) && row.sending == Sending::Missing {
                continue;
            }
            if !obeyed.is_so() {
                row.notes.push(format!("where the stack's functions are deleted already: {}", at_ses(&subject)));
            }
            row.sending = Sending::Resumed { obeyed };
        }
    }
    let disconnected = Disconnected { topic, all: order.all, dry_run: order.dry_run, subjects };
    let exit = if disconnected.count() == disconnected.subjects.len() { Exit::Done } else { Exit::No };
    Ok(Answer::new(text::disconnected(&disconnected, look), &disconnected, exit))
}

/// What resumes a subject at SES, without the stack.
fn at_ses(subject: &Subject) -> String {
    match subject {
        Subject::ConfigurationSet(name) => format!(
            "aws sesv2 put-configuration-set-sending-options --sending-enabled --configuration-set-name {}",
            replay::text::quoted(name)
        ),
        Subject::Account => "aws sesv2 put-account-sending-attributes --sending-enabled".to_owned(),
        Subject::Tenant(_) | Subject::Identity(_) | Subject::Tag(..) => format!(
            "aws sesv2 update-reputation-entity-customer-managed-status --sending-status ENABLED \
             --reputation-entity-type RESOURCE --reputation-entity-reference ARN-OF-{}",
            replay::text::quoted(&subject.to_string())
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

/// Takes the destinations to the stack's topic off a configuration set. Fails only for what would fail with every other one,
/// too.
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
            "its destination {} leads to the default event bus, which others may listen to: it stays",
            bus.name()
        ));
    }
    for ours in known.iter().filter(is_ours) {
        if !dry_run && let Err(error) = ses.delete(name, ours.name()).await {
            match error {
                // Somebody else has done it.
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
                row.failed = Some(format!("SES took it, and shows destination {} all the same", left.name()));
            }
        }
        Err(SesError::Missing) => row.sending = Sending::Missing,
        Err(SesError::Other(error)) => row.failed = Some(failed_by(error)?),
    }
    Ok(row)
}
