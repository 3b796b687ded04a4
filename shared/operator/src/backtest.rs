//! What another policy would have changed, upon what was recorded.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aws::layout::StoredUnit;
use aws::ledger::{Scanned, scan};
use futures_util::future::{Either, select};
use replay::backtest::Backtest;
use replay::cli::time_arg::TimeArg;
use replay::driver::{MAX_SUBJECTS, Options, RejectedLine, ReplayError, replay_recorded, replay_side_by_side};
use replay::input::{Damage, Progress as Read, Source};
use replay::recorded::{Recorded, RecordedUnit};
use replay::text::{TermStyle, counted, thousands};
use reputation::policy::Policy;
use reputation::time::Now;
use serde::Serialize;

use crate::connect::Progress;
use crate::failure::Failure;
use crate::objects::{Location, Objects};
use crate::{Access, Answer, Exit, policies, text};

/// So many rejected messages are named.
const MAX_REJECTIONS: usize = 20;
/// The progress of reading objects is told so often.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// A policy in a file.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// Name of the file.
    pub file: String,
    /// What it says.
    pub toml: String,
}

/// Where what was recorded is read.
#[derive(Clone, Debug)]
pub enum Recording {
    /// The ledger table of the stack.
    Ledger,
    /// Event objects in S3.
    Objects(Location),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// The policy to try.
    pub policy: PolicyFile,
    /// Beside which one; `None` = the one that the stack goes by.
    pub against: Option<PolicyFile>,
    /// Whether an application that asks the gate is assumed where a policy does not say.
    pub gate: bool,
    /// Upon what.
    pub recording: Recording,
    /// Only mail accepted from this time on.
    pub since: Option<TimeArg>,
    /// Only mail accepted before this time.
    pub until: Option<TimeArg>,
}

/// What another policy would have changed.
#[derive(Clone, Debug, Serialize)]
pub struct Backtested {
    /// Where it was read: the name of the ledger table, or a place in S3.
    pub source: String,
    /// What the source does not know, so that nobody takes the answer for more than it is.
    pub notes: Vec<String>,
    /// How many objects were read; null for a ledger.
    pub objects: Option<u64>,
    /// Objects that were damaged or left out.
    pub damaged: Vec<DamagedObject>,
    /// The first messages that could not be read: where, and why.
    pub rejections: Vec<String>,
    /// The comparison.
    #[serde(flatten)]
    pub backtest: Backtest,
}

/// An object that was damaged or left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedObject {
    /// Its place in S3.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Tells what another policy would have changed.
///
/// # Errors
///
/// The time that is asked for is none, nothing is recorded there, or AWS refuses.
pub async fn backtest(
    access: &Access,
    order: &Order,
    now: Now,
    look: TermStyle,
    progress: Progress<'_>,
) -> Result<Answer, Failure> {
    if let (Some(since), Some(until)) = (order.since, order.until)
        && since.at >= until.at
    {
        return Err(Failure::NoTime { since: since.at, until: until.at });
    }
    let candidate = match policies::parsed(&order.policy.file, &order.policy.toml, look) {
        Ok(policy) => policy,
        Err(refused) => return Ok(refused),
    };
    let (in_use, in_use_name) = match &order.against {
        Some(against) => match policies::parsed(&against.file, &against.toml, look) {
            Ok(policy) => (policy, against.file.clone()),
            Err(refused) => return Ok(refused),
        },
        None => {
            let known = access.policy().await?;
            let name = if known.version == 0 { "the default".to_owned() } else { format!("version {}", known.version) };
            (known.policy, name)
        }
    };
    let options = |policy: &Policy| Options {
        // What a policy that says no mode would do, as in a replay; that the stack is in shadow yet is another matter.
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
    let backtested = match &order.recording {
        Recording::Ledger => of_ledger(access, &both, names, now, progress).await?,
        Recording::Objects(location) => of_objects(access, location, both, names, progress).await?,
    };
    Ok(Answer::new(text::backtested(&backtested, look), &backtested, Exit::Done))
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
        let StoredUnit { kind, isp, cohort, subjects } = unit;
        recorded.add(RecordedUnit { kind, isp, cohort, subjects });
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
        "the ledger knows in which minute SES accepted a mail, and not when what happened to it was told: trips are dated as if \
         every bounce and complaint were known within that minute, so they come earlier than they could"
            .to_owned(),
        "ISPs, tenants and tags are those of the policy under which the mail was recorded; units are kept for 100 days"
            .to_owned(),
    ];
    if scanned.malformed > 0 {
        let items = counted(scanned.malformed, "item");
        notes.push(format!("{items} of the table hold no unit and are left out: update ses-breaker"));
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

/// What a thread made of the objects.
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

/// Tells how far reading has come, for as long as somebody listens.
async fn show_progress(so_far: &Read, objects: usize, progress: Progress<'_>) -> Infallible {
    loop {
        let (mebibytes, documents) = (thousands(so_far.bytes_read() >> 20), counted(so_far.documents(), "document"));
        progress(0, 0, &format!("reading {}: {mebibytes} MiB, {documents}", counted(objects as u64, "object")));
        tokio::time::sleep(TOLD_EVERY).await;
    }
}
