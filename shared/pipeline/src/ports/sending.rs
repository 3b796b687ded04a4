//! What SES is to do, and what it does.

use reputation::subject::Subject;
use reputation::time::Now;

use super::{PortError, Saved};
use crate::control::Flow;

/// The mark that a stack leaves on a target that it stops, for other stacks. It records that the stack's last change
/// was to stop the target: the stack removes it when it resumes the target itself, or finds that a person has stopped
/// it since. When a person resumes the target, the mark stays, so that other stacks can distinguish this from a resume
/// by the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// No mark. If there was one, a person has removed it: stacks only empty theirs.
    Absent,
    /// A stack removed its own mark, which leaves an empty one.
    Emptied,
    /// Ours.
    Ours,
    /// The mark of the stack of this name.
    Other(String),
    /// No mark, and none can be left: the target cannot carry one, or SES denies it.
    Unsupported,
}

impl Mark {
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Mark::Absent | Mark::Emptied => true,
            Mark::Ours | Mark::Other(_) | Mark::Unsupported => false,
        }
    }
}

/// The state of a target, as SES reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Whether mail flows.
    pub flow: Flow,
    /// Whose mark is there.
    pub mark: Mark,
}

/// What a reading of SES can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// SES accepts mail.
    Flowing,
    /// SES refuses mail.
    Stopped,
    /// SES does not know the target.
    Gone,
}

impl From<Flow> for Seen {
    fn from(flow: Flow) -> Seen {
        match flow {
            Flow::Flowing => Seen::Flowing,
            Flow::Stopped => Seen::Stopped,
        }
    }
}

/// A reading that contradicts the state that we last made, and is not believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What was seen.
    pub seen: Seen,
    /// When it was first seen, without another reading in between.
    pub since: Now,
}

/// The stop of another stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherStack {
    /// Its name.
    pub stack: String,
    /// When its stop was first seen.
    pub since: Now,
}

/// Calls about a target that failed in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCalls {
    /// How many.
    pub failures: u32,
    /// When SES first denied one of them.
    pub denied: Option<Now>,
    /// The error of the last one, at most 300 characters.
    pub error: String,
}

/// The desired state of one target that SES can stop, and how far it is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredState {
    /// A configuration set, a tenant, or the account.
    pub target: Subject,
    /// The state that the breaker decided.
    pub flow: Flow,
    /// Since when.
    pub at: Now,
    /// How far past its threshold the verdict was; 1 is just reached. The worst target is stopped first.
    pub urgency: f64,
    /// Why.
    pub reason: String,
    /// Nothing was noted since the breaker wrote it, so it does not wait for its next try.
    pub fresh: bool,
    /// The change that we were about to make; saved before the call.
    pub in_flight: Option<Flow>,
    /// The state that we last made or observed.
    pub observed: Option<Flow>,
    /// When we last wrote to SES, or were about to write; `None` once a person is known to have changed it since.
    pub written: Option<Now>,
    /// Our mark is still to be left (stopped) or removed (flowing).
    pub marking: Option<Flow>,
    /// When SES was last read.
    pub checked: Option<Now>,
    /// A reading that contradicts `observed`, and must be confirmed by another. If it equals `observed`, a person's change was
    /// accepted, and the breaker may not know that yet.
    pub doubt: Option<Doubt>,
    /// Since when SES does not know the target.
    pub gone: Option<Now>,
    /// Another stack has stopped the target.
    pub other: Option<OtherStack>,
    /// The last calls about it failed.
    pub trouble: Option<FailedCalls>,
    /// It is not tried before this time.
    pub again: Option<Now>,
    /// Grows by one with each save.
    pub version: u64,
}

impl DesiredState {
    /// A new desired state, for which SES was not read yet.
    pub fn new(target: Subject, flow: Flow, at: Now, urgency: f64, reason: String) -> DesiredState {
        DesiredState {
            target,
            flow,
            at,
            urgency,
            reason,
            fresh: true,
            in_flight: None,
            observed: None,
            written: None,
            marking: None,
            checked: None,
            doubt: None,
            gone: None,
            other: None,
            trouble: None,
            again: None,
            version: 1,
        }
    }

    /// Whether it was reached at the last reading, and nothing is under way.
    pub fn is_true(&self) -> bool {
        let by_other = self.flow == Flow::Stopped && self.other.is_some();
        (self.observed == Some(self.flow) || by_other) && self.in_flight.is_none() && self.gone.is_none()
    }
}

/// Stores desired states.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait DesiredStates {
    /// All desired states.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn desired_states(&mut self) -> Result<Vec<DesiredState>, PortError>;

    /// Saves how far a desired state is reached, if the stored version is still the one that was read. It is no longer
    /// fresh.
    ///
    /// # Errors
    ///
    /// It may or may not have been saved: read it again.
    async fn note(&mut self, desired: &DesiredState) -> Result<Saved, PortError>;

    /// Writes a desired state, unless its target has one.
    ///
    /// # Errors
    ///
    /// It may or may not have been written: do it again.
    async fn renew(&mut self, desired: &DesiredState) -> Result<Saved, PortError>;

    /// Deletes a desired state, if the stored version is still the one that was read.
    ///
    /// # Errors
    ///
    /// It may or may not have been deleted: do it again.
    async fn forget(&mut self, desired: &DesiredState) -> Result<Saved, PortError>;
}

/// SES did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Too many calls: any other call would be throttled now, too.
    #[error("SES throttles: {0}")]
    Throttled(String),
    /// The call failed: the same call may work later, and calls about other targets may work now.
    #[error("SES fails: {0}")]
    Failed(String),
    /// The target does not exist, no longer exists, or SES does not know it yet.
    #[error("SES does not know it")]
    Gone,
    /// SES denies the permission.
    #[error("SES denies it: {0}")]
    Denied(String),
}

/// Whether SES lets mail flow.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait SendingControl {
    /// Reads the state of a target from SES.
    ///
    /// # Errors
    ///
    /// See [`ControlError`].
    async fn flow(&mut self, target: &Subject) -> Result<Sight, ControlError>;

    /// Writes to SES. Repeating it changes nothing more.
    ///
    /// # Errors
    ///
    /// See [`ControlError`]; the call may still have been carried out.
    async fn set_flow(&mut self, target: &Subject, flow: Flow) -> Result<(), ControlError>;

    /// Leaves our mark on a target, or removes the mark that is there. A denial by SES is ignored.
    ///
    /// # Errors
    ///
    /// See [`ControlError`]; the call may still have been carried out.
    async fn mark(&mut self, target: &Subject, stopped: bool) -> Result<(), ControlError>;
}
