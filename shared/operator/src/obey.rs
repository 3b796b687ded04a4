//! Waiting until SES does what a person asked for.
//!
//! What is asked for is a wish in the table; the enforcer makes it true at SES and notes what SES answered. Once it notes
//! that the wish is true, SES itself is asked.
//!
//! **Invariant:** "stopped" and "resumed" are said only of what SES showed, or the enforcer noted, after it was asked for.

use std::time::Duration;

use aws::ses::SesControl;
use pipeline::enforce::{ControlError, DesiredState, DesiredStates as _, Flow, SendingControl};
use reputation::subject::Subject;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::Access;
use crate::connect::Progress;

/// How long people wait for SES, unless they say otherwise. The enforcer begins within seconds, and makes one call a second.
pub const WAIT: Duration = Duration::from_secs(60);

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);

/// What has come of a wish about SES.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Obeyed {
    /// SES shows it so.
    Seen {
        /// After how many seconds.
        seconds: u64,
    },
    /// The enforcer notes that SES has done it. The caller may not look.
    Noted {
        /// After how many seconds.
        seconds: u64,
        /// Why SES itself was not looked at.
        reason: String,
    },
    /// SES refuses.
    Refused {
        /// What it answered.
        reason: String,
    },
    /// It was not so when the time was over.
    NotYet {
        /// Seconds waited for.
        seconds: u64,
        /// What the last call of the enforcer said, if it failed.
        reason: Option<String>,
    },
    /// Nobody has waited for it.
    NotWaited,
    /// Somebody has asked for the opposite meanwhile.
    Overruled,
    /// SES does not know the target.
    Gone,
    /// Another stack has stopped it, and keeps it so.
    OtherStack {
        /// Its name.
        stack: String,
    },
}

impl Obeyed {
    /// Whether it is so, as far as anybody can know.
    pub fn is_so(&self) -> bool {
        match self {
            Obeyed::Seen { .. } | Obeyed::Noted { .. } => true,
            Obeyed::Refused { .. }
            | Obeyed::NotYet { .. }
            | Obeyed::NotWaited
            | Obeyed::Overruled
            | Obeyed::Gone
            | Obeyed::OtherStack { .. } => false,
        }
    }
}

/// What a stored wish says about how far it is.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// The enforcer notes that it is so.
    True,
    /// It is under way; with what the last call said, if it failed.
    UnderWay(Option<String>),
    /// Waiting longer changes nothing.
    Ended(Obeyed),
}

fn standing(wished: Option<&DesiredState>, wanted: Flow) -> Standing {
    let Some(wished) = wished else { return Standing::UnderWay(None) };
    if wished.wish != wanted {
        return Standing::Ended(Obeyed::Overruled);
    }
    // What is noted of it is about the wish before.
    if wished.fresh {
        return Standing::UnderWay(None);
    }
    if let Some(trouble) = &wished.trouble {
        let reason = trouble.error.clone();
        return match trouble.denied {
            Some(_) => Standing::Ended(Obeyed::Refused { reason }),
            None => Standing::UnderWay(Some(reason)),
        };
    }
    if wished.gone.is_some() {
        return Standing::Ended(Obeyed::Gone);
    }
    match &wished.other {
        Some(other) if wanted == Flow::Flowing => Standing::Ended(Obeyed::OtherStack { stack: other.stack.clone() }),
        Some(_) | None if wished.is_true() => Standing::True,
        Some(_) | None => Standing::UnderWay(None),
    }
}

/// Waits until each of these is so at SES, at most for `limit`.
pub(crate) async fn wait(
    access: &Access,
    store: &mut aws::reputation::DynamoReputation,
    wanted: &[(Subject, Flow)],
    limit: Duration,
    progress: Progress<'_>,
) -> Vec<Obeyed> {
    if limit.is_zero() {
        return wanted.iter().map(|_| Obeyed::NotWaited).collect();
    }
    let begun = Instant::now();
    let mut ses = SesControl::new(&access.clients);
    let mut found: Vec<Option<Obeyed>> = wanted.iter().map(|_| None).collect();
    let mut said: Vec<Option<String>> = vec![None; wanted.len()];
    loop {
        let place = found.iter().position(Option::is_none);
        let Some(place) = place else { break };
        progress(place, wanted.len(), &format!("waiting for SES: {}", wanted[place].0));
        // Where the table does not answer, the next look may find it better.
        let wishes = store.wishes().await;
        if let Err(error) = &wishes {
            said[place] = Some(error.to_string());
        }
        let wishes = wishes.unwrap_or_default();
        for (index, (target, flow)) in wanted.iter().enumerate() {
            if found[index].is_some() {
                continue;
            }
            let seconds = begun.elapsed().as_secs();
            let wished = wishes.iter().find(|wished| wished.target == *target);
            found[index] = match standing(wished, *flow) {
                Standing::Ended(obeyed) => Some(obeyed),
                Standing::UnderWay(reason) => {
                    said[index] = reason.or(said[index].take());
                    None
                }
                Standing::True => match ses.flow(target).await {
                    Ok(sight) if sight.flow == *flow => Some(Obeyed::Seen { seconds }),
                    // SES does not show at once what it has taken.
                    Ok(_) => {
                        said[index] = Some("the enforcer has done it, and SES does not show it yet".to_owned());
                        None
                    }
                    Err(ControlError::Gone) => Some(Obeyed::Gone),
                    Err(error @ ControlError::Denied(_)) => Some(Obeyed::Noted { seconds, reason: error.to_string() }),
                    Err(error @ (ControlError::Throttled(_) | ControlError::Failed(_))) => {
                        said[index] = Some(error.to_string());
                        None
                    }
                },
            };
        }
        if found.iter().all(Option::is_some) || begun.elapsed() + LOOK > limit {
            break;
        }
        sleep(LOOK).await;
    }
    let seconds = begun.elapsed().as_secs();
    found.into_iter().zip(said).map(|(found, reason)| found.unwrap_or(Obeyed::NotYet { seconds, reason })).collect()
}

#[cfg(test)]
mod tests {
    use pipeline::enforce::{FailedCalls, OtherStack};
    use reputation::time::Now;

    use super::*;

    #[test]
    fn a_wish_says_how_far_it_is_and_nothing_that_is_older_than_itself() {
        let fresh = DesiredState::new(Subject::Account, Flow::Stopped, Now(0), 1.0, String::new());
        let noted = DesiredState { fresh: false, ..fresh.clone() };
        let trouble = |denied: Option<Now>| Some(FailedCalls { failures: 1, denied, error: "why".to_owned() });
        let other = Some(OtherStack { stack: "beta".to_owned(), since: Now(0) });
        let made = |flow: Flow| DesiredState { made: Some(flow), ..noted.clone() };
        let under_way = |why: Option<&str>| Standing::UnderWay(why.map(str::to_owned));
        for (wished, wanted, expected) in [
            (None, Flow::Stopped, under_way(None)),
            (Some(made(Flow::Stopped)), Flow::Flowing, Standing::Ended(Obeyed::Overruled)),
            (Some(DesiredState { trouble: trouble(Some(Now(0))), ..fresh.clone() }), Flow::Stopped, under_way(None)),
            (Some(DesiredState { trouble: trouble(None), ..noted.clone() }), Flow::Stopped, under_way(Some("why"))),
            (
                Some(DesiredState { trouble: trouble(Some(Now(0))), ..made(Flow::Stopped) }),
                Flow::Stopped,
                Standing::Ended(Obeyed::Refused { reason: "why".to_owned() }),
            ),
            (Some(DesiredState { gone: Some(Now(0)), ..noted.clone() }), Flow::Stopped, Standing::Ended(Obeyed::Gone)),
            (Some(made(Flow::Flowing)), Flow::Stopped, under_way(None)),
            (Some(DesiredState { intent: Some(Flow::Stopped), ..made(Flow::Stopped) }), Flow::Stopped, under_way(None)),
            (Some(made(Flow::Stopped)), Flow::Stopped, Standing::True),
            (Some(DesiredState { other: other.clone(), ..noted.clone() }), Flow::Stopped, Standing::True),
            (
                Some(DesiredState { wish: Flow::Flowing, other, ..noted.clone() }),
                Flow::Flowing,
                Standing::Ended(Obeyed::OtherStack { stack: "beta".to_owned() }),
            ),
        ] {
            assert_eq!(standing(wished.as_ref(), wanted), expected, "{wished:?}");
        }
    }
}
