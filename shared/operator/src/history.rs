//! What people were told about a subject, in order.

use std::num::NonZeroU32;

use replay::cli::time_arg::TimeArg;
use replay::text::TermStyle;
use reputation::subject::{Key, Subject};
use reputation::time::{DAY, MINUTE_MILLIS, Now};
use serde::Serialize;

use crate::command::{check_heard_of, isp_named};
use crate::failure::Failure;
use crate::notice_history::{self, Entry};
use crate::{Access, Answer, Exit, text};

/// So far back it goes unless something else is asked for.
const DAYS: u32 = 30;

/// Which part of the history is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// Of this ISP only.
    pub isp: Option<&'a str>,
    /// From when on; `None`: the last 30 days.
    pub since: Option<TimeArg>,
    /// The last so many.
    pub most: NonZeroU32,
}

/// A history.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// Name of the stack.
    pub stack: String,
    /// Its Region.
    pub region: String,
    /// Whose.
    pub subject: String,
    /// Of this ISP only; null = of the subject and of each of its ISPs.
    pub isp: Option<String>,
    /// From when on (RFC 3339).
    pub since: String,
    /// Whether more was told since then than was asked for; what is left out is older.
    pub more: bool,
    /// Notices about it that another release wrote, and that this one does not understand.
    pub unreadable: usize,
    /// What was told, the newest last.
    pub entries: Vec<Entry>,
}

/// Tells what people were told about a subject.
///
/// # Errors
///
/// Nobody ever heard of the subject, nothing is named like the ISP, or AWS refuses.
pub async fn history(
    access: &Access,
    subject: Subject,
    stretch: Stretch<'_>,
    now: Now,
    look: TermStyle,
) -> Result<Answer, Failure> {
    let policy = access.policy().await?.policy;
    let isp = isp_named(&policy, stretch.isp)?;
    check_heard_of(access, &mut access.reputation(&policy), &subject, false).await?;
    let month = i64::from(DAYS * DAY) * MINUTE_MILLIS;
    let since = stretch.since.map_or(Now(now.0.saturating_sub(month)), |since| since.at);
    let key = Key { subject: subject.clone(), isp };
    let wanted = |entry: &Entry| isp.is_none() || entry.is_about(&policy, &key);
    let most = usize::try_from(stretch.most.get()).unwrap_or(usize::MAX);
    // What is told within this minute may be dated a little later than the clock of whoever asks.
    let reported = notice_history::read(access, &subject, (since, now.plus_minutes(1)), most, wanted);
    let reported = reported.await.map_err(|error| access.refused(error))?;
    let history = History {
        stack: access.stack.clone(),
        region: access.region.clone(),
        subject: subject.to_string(),
        isp: isp.map(|isp| policy.isp_map.name(isp).to_owned()),
        since: since.to_string(),
        more: reported.more,
        unreadable: reported.unreadable,
        entries: reported.entries,
    };
    Ok(Answer::new(text::history(&history, look), &history, Exit::Done))
}
