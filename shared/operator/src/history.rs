//! The notices about a subject, in order.

use std::num::NonZeroU32;

use reputation::subject::{Key, Subject};
use reputation::time::{DAY, MINUTE_MILLIS, Now};
use serde::Serialize;
use terminal::TimeArg;

use crate::Access;
use crate::command::{check_heard_of, isp_named};
use crate::failure::Failure;
use crate::notice_history::{self, Entry};

/// The default for how far back it goes.
const DAYS: u32 = 30;

/// The part of the history that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// Only this ISP.
    pub isp: Option<&'a str>,
    /// The start; `None`: 30 days ago.
    pub since: Option<TimeArg>,
    /// At most this many entries, the newest.
    pub most: NonZeroU32,
}

/// A history.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// Name of the stack.
    pub stack: String,
    /// Its Region.
    pub region: String,
    /// The subject.
    pub subject: String,
    /// Only this ISP; null = the subject and each of its ISPs.
    pub isp: Option<String>,
    /// The start (RFC 3339).
    pub since: String,
    /// Whether there are older entries since then that were not asked for.
    pub more: bool,
    /// Notices about it that were written by another release and cannot be read.
    pub unreadable: usize,
    /// The notices, newest last.
    pub entries: Vec<Entry>,
}

/// Returns the notices about a subject.
///
/// # Errors
///
/// The stack has never seen the subject, the policy does not name the ISP, or AWS refuses.
pub async fn history(access: &Access, subject: Subject, stretch: Stretch<'_>, now: Now) -> Result<History, Failure> {
    let policy = access.policy().await?.policy;
    let isp = isp_named(&policy, stretch.isp)?;
    check_heard_of(access, &mut access.reputation(&policy), &subject, false).await?;
    let month = i64::from(DAYS * DAY) * MINUTE_MILLIS;
    let since = stretch.since.map_or(Now(now.0.saturating_sub(month)), |since| since.at);
    let key = Key { subject: subject.clone(), isp };
    let wanted = |entry: &Entry| isp.is_none() || entry.is_about(&policy, &key);
    let most = usize::try_from(stretch.most.get()).unwrap_or(usize::MAX);
    // A notice of this minute may be dated slightly after the caller's clock.
    let found = notice_history::read(access, &subject, (since, now.plus_minutes(1)), most, wanted);
    let found = found.await.map_err(|error| access.refused(error))?;
    Ok(History {
        stack: access.stack.clone(),
        region: access.region.clone(),
        subject: subject.to_string(),
        isp: isp.map(|isp| policy.isp_map.name(isp).to_owned()),
        since: since.to_string(),
        more: found.more,
        unreadable: found.unreadable,
        entries: found.entries,
    })
}
