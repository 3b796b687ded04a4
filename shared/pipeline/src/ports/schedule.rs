//! The progress of work over many subjects.

use reputation::subject::Subject;
use reputation::time::Minute;

use super::PortError;
use crate::stream::{Sequence, Shard};

/// Work over subjects in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep<'a> {
    /// All subjects with recent events, each hour.
    Hour,
    /// Subjects with a breaker that is not closed, every [`REJUDGE_MINUTES`](crate::schedule::REJUDGE_MINUTES).
    Rejudge,
    /// Subjects that a batch of this shard may have harmed.
    Batch(&'a Shard),
}

/// The progress of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepProgress {
    /// Which round: the first minute of its hour or its ten minutes, or the last sequence number of its batch.
    pub number: Sequence,
    /// The last subject that was judged; `None`: all were.
    pub after: Option<Subject>,
}

/// Remembers which subjects had events, and the progress of rounds.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Schedule {
    /// The subjects that had events in this hour or later, in order.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn heard_since(&mut self, hour: Minute) -> Result<Vec<Subject>, PortError>;

    /// The progress of the last round of its kind.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn progress(&mut self, round: Sweep<'_>) -> Result<SweepProgress, PortError>;

    /// Saves the progress of a round.
    ///
    /// # Errors
    ///
    /// It may or may not have been saved: some subjects may be judged again, which does no harm.
    async fn set_progress(&mut self, round: Sweep<'_>, progress: &SweepProgress) -> Result<(), PortError>;
}
