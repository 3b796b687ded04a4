//! Waits until SES has done what a person asked for.
//!
//! A request is a desired state in the table; the enforcer applies it at SES and records SES's answer. Once it records
//! success, SES itself is asked.
//!
//! **Invariant:** "stopped" and "resumed" are reported only if SES showed it, or the enforcer recorded it, after the request.

use std::time::Duration;

use aws::ses::SesControl;
use pipeline::control::Flow;
use pipeline::ports::{ControlError, DesiredState, DesiredStates as _, SendingControl};
use reputation::subject::Subject;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::Access;
use crate::asking::Progress;

/// How long to wait for SES by default. The enforcer begins within seconds, and makes one call a second.
pub const WAIT: Duration = Duration::from_secs(60);

/// Interval between two checks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The result of a request to SES.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Obeyed {
    /// SES shows it.
    Seen {
        /// Seconds until then.
        seconds: u64,
    },
    /// The enforcer recorded that SES has done it. The caller may not ask SES.
    Noted {
        /// Seconds until then.
        seconds: u64,
        /// Why SES itself was not asked.
        reason: String,
    },
    /// SES refuses.
    Refused {
        /// What it answered.
        reason: String,
    },
    /// SES had not done it when the time was over.
    NotYet {
        /// Seconds waited.
        seconds: u64,
        /// The error of the enforcer's last call, if it failed.
        reason: Option<String>,
    },
    /// The command did not wait.
    NotWaited,
    /// The opposite was asked for meanwhile.
    Overruled,
    /// The target does not exist at SES.
    Gone,
    /// Another stack has stopped it.
    OtherStack {
        /// Its name.
        stack: String,
    },
}

impl Obeyed {
    /// Whether SES has done it, as far as the caller can know.
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

/// The progress of a stored desired state.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// The enforcer recorded that it is done.
    True,
    /// Not done yet; with the error of the last call, if it failed.
    UnderWay(Option<String>),
    /// Waiting longer changes nothing.
    Ended(Obeyed),
}

fn standing(desired: Option<&DesiredState>, wanted: Flow) -> Standing {
    let Some(desired) = desired else { return Standing::UnderWay(None) };
    if desired.flow != wanted {
        return Standing::Ended(Obeyed::Overruled);
    }
    // Its records are about the desired state before.
    if desired.fresh {
        return Standing::UnderWay(None);
    }
    if let Some(trouble) = &desired.trouble {
        let reason = trouble.error.clone();
        return match trouble.denied {
            Some(_) => Standing::Ended(Obeyed::Refused { reason }),
            None => Standing::UnderWay(Some(reason)),
        };
    }
    if desired.gone.is_some() {
        return Standing::Ended(Obeyed::Gone);
    }
    match &desired.other {
        Some(other) if wanted == Flow::Flowing => Standing::Ended(Obeyed::OtherStack { stack: other.stack.clone() }),
        Some(_) | None if desired.is_true() => Standing::True,
        Some(_) | None => Standing::UnderWay(None),
    }
}

/// Waits for each of these at SES, at most for `limit`.
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
    let mut reasons: Vec<Option<String>> = vec![None; wanted.len()];
    loop {
        let place = found.iter().position(Option::is_none);
        let Some(place) = place else { break };
        progress(place, wanted.len(), &format!("waiting for SES: {}", wanted[place].0));
        // If the table does not answer, the next check may succeed.
        let stored = store.desired_states().await;
        if let Err(error) = &stored {
            reasons[place] = Some(error.to_string());
        }
        let stored = stored.unwrap_or_default();
        for (index, (target, flow)) in wanted.iter().enumerate() {
            if found[index].is_some() {
                continue;
            }
            let seconds = begun.elapsed().as_secs();
            let desired = stored.iter().find(|desired| desired.target == *target);
            found[index] = match standing(desired, *flow) {
                Standing::Ended(obeyed) => Some(obeyed),
                Standing::UnderWay(reason) => {
                    reasons[index] = reason.or(reasons[index].take());
                    None
                }
                Standing::True => match ses.flow(target).await {
                    Ok(sight) if sight.flow == *flow => Some(Obeyed::Seen { seconds }),
                    // SES shows changes with a delay.
                    Ok(_) => {
                        reasons[index] = Some("the enforcer has done it, but SES does not show it yet".to_owned());
                        None
                    }
                    Err(ControlError::Gone) => Some(Obeyed::Gone),
                    Err(error @ ControlError::Denied(_)) => Some(Obeyed::Noted { seconds, reason: error.to_string() }),
                    Err(error @ (ControlError::Throttled(_) | ControlError::Failed(_))) => {
                        reasons[index] = Some(error.to_string());
                        None
                    }
                },
            };
        }
        if found.iter().all(Option::is_some) || begun.elapsed() + INTERVAL > limit {
            break;
        }
        sleep(INTERVAL).await;
    }
    let seconds = begun.elapsed().as_secs();
    found.into_iter().zip(reasons).map(|(found, reason)| found.unwrap_or(Obeyed::NotYet { seconds, reason })).collect()
}

#[cfg(test)]
mod tests {
    use pipeline::ports::{FailedCalls, OtherStack};
    use reputation::time::Now;

    use super::*;

    #[test]
    fn progress_is_read_from_the_desired_state_and_never_from_older_records() {
        let fresh = DesiredState::new(Subject::Account, Flow::Stopped, Now(0), 1.0, String::new());
        let noted = DesiredState { fresh: false, ..fresh.clone() };
        let trouble = |denied: Option<Now>| Some(FailedCalls { failures: 1, denied, error: "why".to_owned() });
        let other = Some(OtherStack { stack: "beta".to_owned(), since: Now(0) });
        let made = |flow: Flow| DesiredState { observed: Some(flow), ..noted.clone() };
        let under_way = |why: Option<&str>| Standing::UnderWay(why.map(str::to_owned));
        for (desired, wanted, expected) in [
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
            (
                Some(DesiredState { in_flight: Some(Flow::Stopped), ..made(Flow::Stopped) }),
                Flow::Stopped,
                under_way(None),
            ),
            (Some(made(Flow::Stopped)), Flow::Stopped, Standing::True),
            (Some(DesiredState { other: other.clone(), ..noted.clone() }), Flow::Stopped, Standing::True),
            (
                Some(DesiredState { flow: Flow::Flowing, other, ..noted.clone() }),
                Flow::Flowing,
                Standing::Ended(Obeyed::OtherStack { stack: "beta".to_owned() }),
            ),
        ] {
            assert_eq!(standing(desired.as_ref(), wanted), expected, "{desired:?}");
        }
    }
}
