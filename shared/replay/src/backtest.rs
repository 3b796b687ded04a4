//! What another policy would have changed: two replays of the same mail, compared.
//!
//! The mail is recorded: a hypothetical stop held nothing back, so the mail that came after it is reported with it, as in a
//! [`Report`]. Names and shapes here are the contract of JSON and are stable; new fields may be added.

use reputation::breaker::StateName;
use std::collections::{BTreeMap, BTreeSet};

use pipeline::transition::Transition;
use reputation::counters::Metric;
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{DAY, MINUTE_MILLIS, Now};
use reputation::unit::UnitKind;
use serde::Serialize;

use crate::driver::{Replay, Stopped};
use crate::report::{Input, Report, Warning};

/// Two trips of one key at most this far apart count as one trip that is earlier or later.
const SAME_TRIP_MINUTES: u32 = DAY;

/// What another policy would have changed.
#[derive(Clone, Debug, Serialize)]
pub struct Backtest {
    /// What was read, and the result under the other policy.
    pub input: Input,
    /// The end of the virtual clock (RFC 3339): what is stopped at that time is counted until then.
    pub until: String,
    /// The results under the policy in use.
    pub in_use: Side,
    /// The results under the other policy.
    pub candidate: Side,
    /// The trips that differ, in order.
    pub changes: Vec<TripChange>,
    /// The number of trips that are the same under both, to the millisecond.
    pub unchanged: u64,
    /// Groups of subjects that share all their mail.
    pub same_mail: Vec<Vec<String>>,
    /// Warnings: reasons to trust the rest less.
    pub warnings: Vec<Warning>,
}

/// The results under one policy. Mail is counted once: for the breakers that stop a configuration set as a whole. Those of
/// identities, tenants and tags stop the same mail, and those of ISPs a part of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// Name of the policy.
    pub policy: String,
    /// Openings of keys.
    pub trips: u64,
    /// Cuts of quotas.
    pub throttles: u64,
    /// Stops of configuration sets.
    pub pauses: u64,
    /// Minutes that these stops lasted.
    pub minutes_open: u64,
    /// Mails accepted meanwhile, which would not have been sent.
    pub mails_stopped: u64,
    /// Hard bounces of those mails, which would have been avoided.
    pub hard_bounces_avoided: u64,
    /// Complaints about those mails, which would have been avoided.
    pub complaints_avoided: u64,
    /// Stops whose mail kept every limit of the policy in use: needless.
    pub needless_pauses: u64,
    /// Mails stopped by needless stops.
    pub needlessly_stopped: u64,
}

/// What happened to a trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// Only under the other policy.
    New,
    /// Only under the policy in use.
    Gone,
    /// Under both, and earlier under the other.
    Earlier,
    /// Under both, and later under the other.
    Later,
}

/// A trip that differs: a breaker that opens under one policy only, or at another time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TripChange {
    /// The subject.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// What happened to it.
    pub became: Became,
    /// When it opens under the other policy (RFC 3339); null = not.
    pub at: Option<String>,
    /// When it opens under the policy in use; null = not.
    pub in_use_at: Option<String>,
    /// Seconds by which it is earlier or later.
    pub seconds: Option<u64>,
    /// Why it opens: under the other policy, or under the one in use if only there.
    pub reason: String,
    /// Minutes that it is open, under the policy of `reason`.
    pub minutes_open: u64,
    /// Mails accepted in that time.
    pub mails_stopped: u64,
    /// Hard bounces of those.
    pub hard_bounces: u64,
    /// Complaints about those.
    pub complaints: u64,
    /// Whether that mail kept every limit of the policy in use; null = there was none.
    pub needless: Option<bool>,
}

impl TripChange {
    /// The order: by time, then by key.
    fn place(&self) -> (&str, &str, &Option<String>) {
        let at = self.at.as_deref().into_iter().chain(self.in_use_at.as_deref()).min();
        (at.unwrap_or_default(), &self.subject, &self.isp)
    }
}

impl Backtest {
    /// Compares the effects of another policy with those of the policy in use on the same mail, each with its name.
    pub fn of((in_use, in_use_name): (&Replay, &str), (candidate, name): (&Replay, &str)) -> Backtest {
        let limits = &in_use.policy;
        let mut changes = Vec::new();
        let mut unchanged = 0;
        let (ours, theirs) = (trips(in_use), trips(candidate));
        for key in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            let none = Vec::new();
            for pair in paired(ours.get(key).unwrap_or(&none), theirs.get(key).unwrap_or(&none)) {
                match pair {
                    (Some(mine), Some(other)) if mine.transition.at == other.transition.at => unchanged += 1,
                    (mine, other) => changes.extend(change(key, mine, other, limits)),
                }
            }
        }
        changes.sort_by(|a, b| a.place().cmp(&b.place()));
        let Report { input, same_mail, warnings, .. } = Report::of(candidate, None);
        Backtest {
            input,
            until: candidate.now().max(in_use.now()).to_string(),
            in_use: Side::of(in_use, in_use_name, limits),
            candidate: Side::of(candidate, name, limits),
            changes,
            unchanged,
            same_mail,
            warnings,
        }
    }
}

impl Side {
    fn of(replay: &Replay, name: &str, limits: &Policy) -> Side {
        let moved = |to: StateName| {
            let transitions = replay.reputation.transitions.iter();
            transitions
                .filter(move |transition| transition.to == to && transition.from != to && transition.level.is_some())
                .count() as u64
        };
        let mut side = Side {
            policy: name.to_owned(),
            trips: moved(StateName::Open),
            throttles: moved(StateName::Throttled),
            pauses: 0,
            minutes_open: 0,
            mails_stopped: 0,
            hard_bounces_avoided: 0,
            complaints_avoided: 0,
            needless_pauses: 0,
            needlessly_stopped: 0,
        };
        let pauses = replay
            .stopped()
            .iter()
            .filter(|stopped| stopped.key.isp.is_none() && matches!(stopped.key.subject, Subject::ConfigurationSet(_)));
        for pause in pauses {
            side.pauses += 1;
            side.minutes_open += minutes_open(pause, replay.now());
            side.mails_stopped += mails(pause);
            side.hard_bounces_avoided += u64::from(pause.mail.get(UnitKind::HardBounce));
            side.complaints_avoided += u64::from(pause.mail.get(UnitKind::Complaint));
            if needless(pause, limits) == Some(true) {
                side.needless_pauses += 1;
                side.needlessly_stopped += mails(pause);
            }
        }
        side
    }
}

/// A breaker that opened, and what was stopped.
struct Trip<'a> {
    transition: &'a Transition,
    stopped: Option<&'a Stopped>,
    end: Now,
}

/// The trips of each key, by the name of its ISP: the maps of two policies may differ.
fn trips(replay: &Replay) -> BTreeMap<(Subject, Option<&str>), Vec<Trip<'_>>> {
    let mut trips: BTreeMap<(Subject, Option<&str>), Vec<Trip<'_>>> = BTreeMap::new();
    let isps = &replay.policy.isp_map;
    for transition in replay.reputation.transitions.iter().filter(|transition| transition.opens()) {
        let stopped =
            replay.stopped().iter().find(|stopped| stopped.key == transition.key && stopped.from == transition.at);
        let Key { subject, isp } = &transition.key;
        let key = (subject.clone(), isp.map(|isp| isps.name(isp)));
        trips.entry(key).or_default().push(Trip { transition, stopped, end: replay.now() });
    }
    trips
}

/// The trips of one key under two policies, paired in order where they are close together.
fn paired<'t, 'a>(
    ours: &'t [Trip<'a>],
    theirs: &'t [Trip<'a>],
) -> impl Iterator<Item = (Option<&'t Trip<'a>>, Option<&'t Trip<'a>>)> {
    let (mut ours, mut theirs) = (ours.iter().peekable(), theirs.iter().peekable());
    std::iter::from_fn(move || {
        let (Some(mine), Some(other)) = (ours.peek(), theirs.peek()) else {
            return match (ours.next(), theirs.next()) {
                (None, None) => None,
                left => Some(left),
            };
        };
        let apart = i64::from(SAME_TRIP_MINUTES) * MINUTE_MILLIS;
        let distance = mine.transition.at.0.saturating_sub(other.transition.at.0);
        Some(match distance {
            ..0 if distance < -apart => (ours.next(), None),
            _ if distance > apart => (None, theirs.next()),
            _ => (ours.next(), theirs.next()),
        })
    })
}

fn change(
    (subject, isp): &(Subject, Option<&str>),
    mine: Option<&Trip<'_>>,
    other: Option<&Trip<'_>>,
    limits: &Policy,
) -> Option<TripChange> {
    let shown = other.or(mine)?;
    let became = match (mine, other) {
        (None, _) => Became::New,
        (Some(_), None) => Became::Gone,
        (Some(mine), Some(other)) if other.transition.at < mine.transition.at => Became::Earlier,
        (Some(_), Some(_)) => Became::Later,
    };
    let seconds = mine.zip(other).map(|(mine, other)| mine.transition.at.0.abs_diff(other.transition.at.0) / 1000);
    let count = |kind: UnitKind| shown.stopped.map_or(0, |stopped| u64::from(stopped.mail.get(kind)));
    Some(TripChange {
        subject: subject.to_string(),
        isp: isp.map(str::to_owned),
        became,
        at: other.map(|trip| trip.transition.at.to_string()),
        in_use_at: mine.map(|trip| trip.transition.at.to_string()),
        seconds,
        reason: shown.transition.reason.clone(),
        minutes_open: shown.stopped.map_or(0, |stopped| minutes_open(stopped, shown.end)),
        mails_stopped: shown.stopped.map_or(0, mails),
        hard_bounces: count(UnitKind::HardBounce),
        complaints: count(UnitKind::Complaint),
        needless: shown.stopped.and_then(|stopped| needless(stopped, limits)),
    })
}

/// Whole minutes that it lasted, until `end` if it has not ended.
fn minutes_open(stopped: &Stopped, end: Now) -> u64 {
    stopped.until.unwrap_or(end).minutes_since(stopped.from).into()
}

/// Mails accepted in that time: the number sent, or with an outcome where sends are not published.
fn mails(stopped: &Stopped) -> u64 {
    let count = |kind: UnitKind| u64::from(stopped.mail.get(kind));
    count(UnitKind::Sent).max(stopped.mail.attempts())
}

/// Whether the mail in that time kept every limit; `None` if there was none.
fn needless(stopped: &Stopped, limits: &Policy) -> Option<bool> {
    let rates = Metric::ALL.map(|metric| (metric, stopped.mail.tally(metric).rate()));
    let known: Vec<(Metric, f64)> = rates.into_iter().filter_map(|(metric, rate)| Some((metric, rate?))).collect();
    let within = known.iter().all(|(metric, rate)| *rate <= limits.metrics.rule(*metric).limit);
    (!known.is_empty()).then_some(within)
}
