//! What another policy would have changed, on recorded mail.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aws::layout::StoredUnit;
use aws::ledger::{Scanned, scan};
use futures_util::future::{Either, select};
use replay::backtest::Backtest;
use replay::driver::{MAX_SUBJECTS, Options, RejectedLine, ReplayError, replay_recorded, replay_side_by_side};
use replay::input::{Damage, Progress as Read, Source};
use replay::recorded::{Recorded, RecordedUnit};
use reputation::policy::Policy;
use reputation::time::Now;
use serde::Serialize;
use terminal::{TimeArg, counted, thousands};

use crate::Access;
use crate::asking::Progress;
use crate::failure::Failure;
use crate::objects::{Location, Objects};
use crate::policy_file::parsed;

/// The number of rejected messages that are listed.
const MAX_REJECTIONS: usize = 20;
/// Interval between two progress reports.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// A policy in a file.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// Name of the file.
    pub file: String,
    /// Its text.
    pub toml: String,
}

/// The source of recorded mail.
#[derive(Clone, Debug)]
pub enum Recording {
    /// The ledger table of the stack.
    Ledger,
    /// Event objects in S3.
    Objects(Location),
}

/// The request.
#[derive(Clone, Debug)]
pub struct Order {
    /// The policy to try.
    pub policy: PolicyFile,
    /// The policy to compare with; `None` = the one in use.
    pub against: Option<PolicyFile>,
    /// Whether to assume an application that asks the gate, where a policy does not say.
    pub gate: bool,
    /// The source.
    pub recording: Recording,
    /// Only mail accepted from this time on.
    pub since: Option<TimeArg>,
    /// Only mail accepted before this time.
    pub until: Option<TimeArg>,
}

/// What another policy would have changed.
#[derive(Clone, Debug, Serialize)]
pub struct Backtested {
    /// The source: the name of the ledger table, or a place in S3.
    pub source: String,
    /// What the source does not record.
    pub notes: Vec<String>,
    /// How many objects were read; null for a ledger.
    pub objects: Option<u64>,
    /// Objects that were damaged or skipped.
    pub damaged: Vec<DamagedObject>,
    /// The first messages that could not be read: source and reason.
    pub rejections: Vec<String>,
    /// The comparison.
    #[serde(flatten)]
    pub backtest: Backtest,
}

/// An object that was damaged or skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedObject {
    /// Its place in S3.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Returns what another policy would have changed.
///
/// # Errors
///
/// A policy is not valid, the time range is empty, nothing is recorded in it, or AWS refuses.
pub async fn backtest(access: &Access, order: &Order, now: Now, progress: Progress<'_>) -> Result<Backtested, Failure> {
    if let (Some(since), Some(until)) = (order.since, order.until)
        && since.at >= until.at
    {
        return Err(Failure::NoTime { since: since.at, until: until.at });
    }
    let candidate = parsed(&order.policy.file, &order.policy.toml)?;
    let (in_use, in_use_name) = match &order.against {
        Some(against) => (parsed(&against.file, &against.toml)?, against.file.clone()),
        None => {
            let known = access.policy().await?;
            let name = if known.version == 0 { "the default".to_owned() } else { format!("version {}", known.version) };
            (known.policy, name)
        }
    };
    let options = |policy: &Policy| Options {
        // A policy without a mode acts here, as in a replay, even if the stack is still in shadow.
        policy: policy.clone().in_replay().in_world(order.gate),
        real_now: now.0,
        since: order.since.map(|since| since.at.0),
        until: order.until.map(|until| until.at.0),
        stop_at: None,
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        max_subjects: MAX_SUBJECTS,
    };
    let both = [options(&in_use), options(&candidate)];
    let names = [in_use_name, order.policy.file.clone()];
    match &order.recording {
        Recording::Ledger => of_ledger(access, &both, names, now, progress).await,
        Recording::Objects(location) => of_objects(access, location, both, names, progress).await,
    }
}

async fn of_ledger(
    access: &Access,
    both: &[Options; 2],
    [in_use_name, name]: [String; 2],
    now: Now,
    progress: Progress<'_>,
) -> Result<Backtested, Failure> {
    let table = format!("{}-ledger", access.stack);
    let mut recorded = Recorded::default();
    let mut take = |unit: StoredUnit, so_far: &Scanned| {
        if so_far.units.is_multiple_of(1000) {
            progress(0, 0, &format!("reading the ledger: {}", counted(so_far.units, "unit")));
        }
        let StoredUnit { kind, isp, cohort, subjects, bucket } = unit;
        recorded.add(RecordedUnit { kind, isp, cohort, subjects, bucket });
    };
    let scanned = scan(&access.clients.dynamodb(), &table, now, &mut take).await;
    let scanned = scanned.map_err(|error| access.refused(error))?;
    if scanned.units == 0 {
        return Err(Failure::NothingRecorded { table, stack: access.stack.clone() });
    }
    progress(0, 0, "judging");
    let failed = |error: ReplayError| Failure::Output(error.to_string());
    let in_use = replay_recorded(&both[0], &recorded).map_err(failed)?;
    let candidate = replay_recorded(&both[1], &recorded).map_err(failed)?;
    let mut notes = vec![
        "the ledger records the minute in which SES accepted a mail, but not when its outcome was reported: trips are dated as if \
         every bounce and complaint were known within that minute, so they come earlier than they would have"
            .to_owned(),
        "ISPs, tenants and tags are those of the policy under which the mail was recorded; units are kept for 100 days"
            .to_owned(),
    ];
    if scanned.malformed > 0 {
        let items = counted(scanned.malformed, "item");
        notes.push(format!("{items} of the table could not be read as units and were skipped: update ses-breaker"));
    }
    Ok(Backtested {
        source: table,
        notes,
        objects: None,
        damaged: Vec::new(),
        rejections: Vec::new(),
        backtest: Backtest::of((&in_use, &in_use_name), (&candidate, &name)),
    })
}

/// The result of the thread that reads the objects.
struct Judged {
    backtest: Backtest,
    rejections: Vec<String>,
    broken_off: Option<String>,
}

async fn of_objects(
    access: &Access,
    location: &Location,
    both: [Options; 2],
    names: [String; 2],
    progress: Progress<'_>,
) -> Result<Backtested, Failure> {
    progress(0, 0, &format!("listing {location}"));
    let objects = Objects::list(access, location).await?;
    let count = objects.len();
    let so_far = Arc::new(Read::new());
    let judge = {
        let so_far = Arc::clone(&so_far);
        move |sources: Vec<Source>| {
            let mut rejections = Vec::new();
            let mut reject = |rejected: &RejectedLine| {
                if rejections.len() < MAX_REJECTIONS {
                    let RejectedLine { source, line, reason } = rejected;
                    rejections.push(format!("{source}:{line}: {reason}"));
                }
            };
            let (replays, outcome) = replay_side_by_side([&both[0], &both[1]], &sources, &mut reject, &so_far);
            let backtest = Backtest::of((&replays[0], &names[0]), (&replays[1], &names[1]));
            Judged { backtest, rejections, broken_off: outcome.err().map(|error| error.to_string()) }
        }
    };
    let showing_progress = pin!(show_progress(&so_far, count, progress));
    let (Judged { backtest, rejections, broken_off }, damages) =
        match select(pin!(objects.read(judge)), showing_progress).await {
            Either::Left((read, _)) => read?,
            Either::Right((never, _)) => match never {},
        };
    if let Some(reason) = broken_off {
        return Err(Failure::Output(reason));
    }
    if backtest.input.events == 0 && backtest.input.ignored == 0 {
        return Err(Failure::NoEvents { location: location.to_string(), lines: backtest.input.lines });
    }
    let damaged = |Damage { source, what }: Damage| DamagedObject { object: source, problem: what };
    Ok(Backtested {
        source: location.to_string(),
        notes: Vec::new(),
        objects: Some(count as u64),
        damaged: damages.into_iter().map(damaged).collect(),
        rejections,
        backtest,
    })
}

/// Reports the progress of reading until the future is dropped.
async fn show_progress(so_far: &Read, objects: usize, progress: Progress<'_>) -> Infallible {
    loop {
        let (mebibytes, documents) = (thousands(so_far.bytes_read() >> 20), counted(so_far.documents(), "document"));
        progress(0, 0, &format!("reading {}: {mebibytes} MiB, {documents}", counted(objects as u64, "object")));
        tokio::time::sleep(PROGRESS_EVERY).await;
    }
}
