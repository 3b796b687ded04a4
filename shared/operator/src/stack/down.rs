//! Takes the stack down: disconnects everything, resumes what it stopped, and deletes it.
//!
//! Once the functions are gone, nobody is left who could resume a set that a late verdict has stopped meanwhile. So what the
//! table holds as stopped is looked up at SES once more afterwards, and resumed there.
//!
//! **Invariant:** what a person stopped stays stopped, and is listed.

use std::time::Duration;

use aws::ses::{SesControl, Signature};
use pipeline::control::Flow;
use pipeline::ports::{
    ControlError, DesiredState, DesiredStates as _, Mark, Reputation as _, SendingControl as _, Sight,
};
use reputation::breaker::{Override, State};
use reputation::subject::Subject;
use reputation::time::Now;
use serde::Serialize;

use super::cloudformation::{CloudFormation, KnownStack};
use super::purge::{self, Purged, TableLeft};
use super::template::CODE_BUCKET;
use super::{PACE, Place, StackFailure, bucket, caller};
use crate::asking::{Asking, Confirmed, Question};
use crate::disconnect::{self, Disconnected};
use crate::failure::Failure;
use crate::{Access, Exit};

/// What to take down, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// Also delete the tables, their key and the code.
    pub purge: bool,
    /// Change nothing.
    pub dry_run: bool,
    /// How long to wait for SES to resume what the stack stopped.
    pub wait: Duration,
    /// Interval between two looks at what CloudFormation does.
    pub pace: Duration,
}

impl Default for Order {
    fn default() -> Order {
        Order { purge: false, dry_run: false, wait: Duration::from_secs(60), pace: PACE }
    }
}

/// What was taken down; in a dry run, what would be.
#[derive(Clone, Debug, Serialize)]
pub struct Down {
    /// The stack.
    pub stack: String,
    /// The Region.
    pub region: String,
    /// The account.
    pub account: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Whether there was a stack, and it is deleted now.
    pub deleted: bool,
    /// Configuration sets and other subjects; null if the stack has no table to tell what it stopped.
    pub disconnected: Option<Disconnected>,
    /// What a late verdict had stopped, and was resumed at SES after the stack was gone.
    pub resumed_late: Vec<String>,
    /// What SES refused to resume then, with its reason.
    pub not_resumed: Vec<(String, String)>,
    /// What was removed, if that was asked for.
    pub purged: Option<Purged>,
    /// The tables that stay.
    pub tables: Vec<TableLeft>,
    /// The bucket with the code, if it stays.
    pub bucket: Option<String>,
}

impl Down {
    /// Whether all configuration sets are disconnected, so that the stack may be deleted.
    fn may_delete(&self) -> bool {
        self.disconnected.iter().flat_map(|disconnected| &disconnected.subjects).all(|row| row.failed.is_none())
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        if self.may_delete() && self.not_resumed.is_empty() { Exit::Done } else { Exit::No }
    }
}

/// Takes a stack down.
///
/// # Errors
///
/// See [`StackFailure`]; or AWS refuses. Running it again continues from where it ended.
pub async fn down(access: &Access, order: &Order, now: Now, asking: &Asking<'_>) -> Result<Down, Failure> {
    (asking.progress)(0, 0, "asking AWS");
    let place = caller(access).await?.place;
    let cloudformation = CloudFormation::new(access, order.pace);
    let known = cloudformation.settled(asking).await?;
    let tables = purge::tables_left(access, &place).await?;
    if let Some(known) = &known {
        refuse_protected(known, &place)?;
    }
    if order.purge {
        purge::refuse_protected(&tables, &place)?;
    }
    let mut down = Down {
        stack: place.stack.clone(),
        region: place.region.clone(),
        account: place.account.clone(),
        dry_run: order.dry_run,
        deleted: known.is_some(),
        disconnected: None,
        resumed_late: Vec::new(),
        not_resumed: Vec::new(),
        purged: None,
        tables,
        bucket: None,
    };
    let has_table = down.tables.iter().any(|table| table.name == access.table() && !table.going);
    let nothing_to_do = known.is_none() && down.tables.is_empty();
    if !order.dry_run && !nothing_to_do {
        ask(&place, order.purge, known.is_some(), asking)?;
    }
    // A run that was ended after it had deleted the stack may have left the code behind, with or without the tables.
    let deleted = match &known {
        None if order.purge => cloudformation.find_deleted().await?,
        None | Some(_) => None,
    };
    let named_bucket = known.iter().chain(&deleted).find_map(|known| known.parameters.get(CODE_BUCKET)).cloned();
    if has_table {
        // Without functions nobody would answer.
        let wait = if known.is_some() { order.wait } else { Duration::ZERO };
        let order = disconnect::Order { sets: Vec::new(), all: true, dry_run: order.dry_run, wait };
        down.disconnected = Some(disconnect::disconnect(access, &order, now, asking).await?);
    }
    if order.dry_run || !down.may_delete() {
        down.deleted = order.dry_run && down.deleted;
        return Ok(down);
    }
    if let Some(known) = &known {
        (asking.line)(&format!("deleting stack {}", place.stack));
        cloudformation.delete_and_wait(known, asking).await?;
    }
    if has_table {
        resume_late(access, now, &mut down, asking).await?;
    }
    if order.purge && down.not_resumed.is_empty() {
        let named = named_bucket.as_deref();
        down.purged = Some(purge::purge(access, &place, named, order.pace, asking).await?);
    }
    down.tables = purge::tables_left(access, &place).await?;
    let cleared = down.purged.as_ref().is_some_and(|purged| purged.code.is_some());
    if !cleared {
        down.bucket = bucket::of_stack(access, &place, named_bucket.as_deref()).await?.map(|bucket| bucket.name);
    }
    Ok(down)
}

fn ask(place: &Place, purge: bool, delete: bool, asking: &Asking<'_>) -> Result<(), Failure> {
    match (asking.confirm)(&Question::Down { place, purge, delete }) {
        Confirmed::Yes => Ok(()),
        Confirmed::No => Err(Failure::Declined),
        Confirmed::Nobody => Err(StackFailure::Unconfirmed { what: "deletes anything" }.into()),
    }
}

fn refuse_protected(known: &KnownStack, place: &Place) -> Result<(), StackFailure> {
    if !known.protected {
        return Ok(());
    }
    Err(StackFailure::Protected {
        what: format!("stack {} is", place.stack),
        command: format!(
            "aws cloudformation update-termination-protection --no-enable-termination-protection --stack-name {} --region {}",
            place.stack, place.region
        ),
    })
}

/// Resumes at SES what the stack has stopped after it was disconnected.
async fn resume_late(access: &Access, now: Now, down: &mut Down, asking: &Asking<'_>) -> Result<(), Failure> {
    let policy = access.policy().await?.policy;
    let mut store = access.reputation(&policy);
    let desired = store.desired_states().await.map_err(|error| access.refused(error))?;
    let topic = down.disconnected.as_ref().map(|disconnected| disconnected.topic.as_str()).unwrap_or_default();
    let mut ses = SesControl::new(&access.clients).signing(Signature::new(&access.stack, topic));
    for desired in desired {
        // By this the enforcer knows its own stops, too: seen, or about to be made when it ended.
        let ours = desired.observed == Some(Flow::Stopped) || desired.in_flight == Some(Flow::Stopped);
        if !ours || is_of_person(access, &mut store, &desired.target, now).await? {
            continue;
        }
        let name = desired.target.to_string();
        (asking.progress)(0, 0, &format!("looking at {name} once more"));
        let resumed = match ses.flow(&desired.target).await {
            Ok(Sight { flow: Flow::Stopped, mark }) if is_ours(&mark, &desired) => {
                ses.set_flow(&desired.target, Flow::Flowing).await.map(|()| true)
            }
            Ok(Sight { flow: Flow::Flowing, .. }) => Ok(false),
            Ok(_) | Err(ControlError::Gone) => continue,
            Err(error) => Err(error),
        };
        match resumed {
            Ok(by_us) => {
                if by_us {
                    // The mark only serves other stacks.
                    let _ = ses.mark(&desired.target, false).await;
                    down.resumed_late.push(name);
                }
                // So that a later run does not take a person's stop for this one.
                let settled = DesiredState {
                    flow: Flow::Flowing,
                    observed: Some(Flow::Flowing),
                    in_flight: None,
                    marking: None,
                    ..desired
                };
                store.note(&settled).await.map_err(|error| access.refused(error))?;
            }
            Err(error) => down.not_resumed.push((name, error.to_string())),
        }
    }
    Ok(())
}

/// Whether a stop at SES is that of this stack, as far as its mark tells. It may have ended before it left its mark; tenants
/// and the account carry none.
fn is_ours(mark: &Mark, desired: &DesiredState) -> bool {
    match mark {
        Mark::Ours | Mark::Unsupported => true,
        Mark::Absent | Mark::Emptied => {
            desired.in_flight == Some(Flow::Stopped) || desired.marking == Some(Flow::Stopped)
        }
        Mark::Other(_) => false,
    }
}

async fn is_of_person(
    access: &Access,
    store: &mut aws::reputation::DynamoReputation,
    subject: &Subject,
    now: Now,
) -> Result<bool, Failure> {
    let known = store.subject_state(subject, now).await.map_err(|error| access.refused(error))?.breaker(None).breaker;
    Ok(known.overridden == Override::ForcedOpen && matches!(known.state, State::Open { .. }))
}
