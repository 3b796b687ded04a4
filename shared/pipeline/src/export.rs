//! Exported metrics: values for people's own dashboards, of configuration sets and of each set at an ISP.
//!
//! CloudWatch charges for each metric of each configuration set, so nothing is exported unless the policy says for how
//! many (`[cloudwatch]`). [`choose`] selects the configuration sets, [`measure`] computes their values; both are pure.
//! [`export`] reads what they need.
//!
//! **Invariant:** at no time more configuration sets, or more ISPs of one of them, than the policy permits.
//! **Invariant:** each minute of mail is counted in `Mails` of exactly one period, whenever in that period it is read.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use reputation::breaker::State;
use reputation::counters::{Metric, Tally};
use reputation::isp::Isp;
use reputation::judge::{self, Judge};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{HOUR, Minute, Now};
use reputation::timeline::Timeline;

use crate::digest::MailHistory;
use crate::evaluate::{left_out, since_of_isp};
use crate::ports::{Board, Disposition, PortError, Quota, Quotas, Reputation, SubjectState};

/// How often metrics are exported, in minutes. CloudWatch keeps values of five minutes for 63 days, and those of one minute for 15
/// ("Metrics retention", CloudWatch user guide); reading the counters five times as often would cost five times as much.
pub const PERIOD: u32 = 5;
/// How long a period must have been over before its mails are counted, in minutes: their events have arrived by then.
const LAG: u32 = PERIOD;
/// Rates are over the mail of this number of hours, as in the default ratio rules.
pub const RATE_HOURS: u32 = 24;
/// If there are more configuration sets than are exported, at most this number is ranked by mail, once an hour.
const MAX_RANKED: usize = 1_000;

/// What is exported of a configuration set, at one ISP or over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// The rate of a metric, a share.
    Rate(Metric),
    /// Evidence of the worst metric as a share of what stops mail: 1 = that. Metrics that never stop mail are omitted.
    EvidenceShare,
    /// 0: sending, 1: slowed, 2: testing, 3: stopped; as decided, also in shadow.
    State,
    /// Mails that SES accepted within one period.
    Mails,
    /// Mails that the gate may grant today; over all ISPs, the sum.
    Quota,
    /// Of those, mails that it has granted.
    Granted,
}

impl Measure {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Measure> {
        let others =
            [Measure::EvidenceShare, Measure::State, Measure::Mails, Measure::Quota, Measure::Granted].into_iter();
        Metric::ALL.into_iter().map(Measure::Rate).chain(others)
    }

    /// Its name in CloudWatch.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Rate(metric) => metric.rate_name(),
            Measure::EvidenceShare => "EvidenceShare",
            Measure::State => "State",
            Measure::Mails => "Mails",
            Measure::Quota => "Quota",
            Measure::Granted => "Granted",
        }
    }

    /// Whether it is a number of mails.
    pub fn counts_mails(self) -> bool {
        matches!(self, Measure::Mails | Measure::Quota | Measure::Granted)
    }
}

/// The values of one configuration set, at one ISP or over all of them. Measures without data are omitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Name of the configuration set.
    pub set: String,
    /// The ISP; `None` is all of them.
    pub isp: Option<Isp>,
    /// Values of the period of [`Export::at`], without [`Measure::Mails`].
    pub values: Vec<(Measure, f64)>,
    /// Mails that SES accepted in the period of [`Export::mails_from`]; `None` if no event gives the amount of mail.
    pub mails: Option<u64>,
}

/// What is exported in one period.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Export {
    /// The first minute of the period.
    pub at: Minute,
    /// The first minute of the period whose mails are counted.
    pub mails_from: Minute,
    /// Configuration sets in the order of [`choose`], each with its ISPs after it, in the same order.
    pub series: Vec<Series>,
    /// Configuration sets with mail in the last day, or with a breaker that is not closed, beyond the limit.
    pub sets_left_out: usize,
    /// ISPs of the exported sets beyond the limit; 0 where none are exported.
    pub isps_left_out: usize,
    /// Configuration sets that could not be read, and why. They are missing from `series`.
    pub failed: Vec<(String, PortError)>,
}

/// The period that holds this moment, by its first minute.
pub fn period(now: Now) -> Minute {
    let minute = now.minute();
    Minute(minute.0 - minute.0 % PERIOD)
}

/// The period whose mails are counted in the period that begins at `at`.
fn mails_from(at: Minute) -> Minute {
    at.minus(LAG + PERIOD)
}

/// Something that may be exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<T> {
    /// What.
    pub of: T,
    /// Its state, as [`Measure::State`] says it.
    pub level: u8,
    /// Its mails of the last day.
    pub mails: u64,
}

/// At most `limit` candidates: the worst state first, then the most mail, then in their own order. Also returns the
/// number of omitted candidates. The order of the input does not matter.
pub fn choose<T: Ord>(limit: usize, mut candidates: Vec<Candidate<T>>) -> (Vec<T>, usize) {
    let left_out = candidates.len().saturating_sub(limit);
    candidates
        .sort_by(|a, b| (Reverse(a.level), Reverse(a.mails), &a.of).cmp(&(Reverse(b.level), Reverse(b.mails), &b.of)));
    (candidates.into_iter().take(limit).map(|candidate| candidate.of).collect(), left_out)
}

fn level(state: State) -> u8 {
    match state {
        State::Closed => 0,
        State::Throttled { .. } => 1,
        State::Probing { .. } => 2,
        State::Open { .. } => 3,
    }
}

/// The state at an ISP: that of the set's own breaker there, or of the hold on the ISP itself, whichever is worse.
fn level_at(policy: &Policy, board: &Board, subject_state: &SubjectState, isp: Isp) -> u8 {
    let own = subject_state.breakers.get(&Some(isp)).map_or(0, |known| level(known.breaker.state));
    let held = board.isps.get(&isp).filter(|known| policy.gate_in_use && known.enacted);
    own.max(held.map_or(0, |known| level(known.state)))
}

/// The series of one configuration set, over all ISPs first, and the number of its ISPs that are omitted. `quotas` are
/// those of the set.
pub fn measure(
    policy: &Policy,
    board: &Board,
    set: &str,
    subject_state: &mut SubjectState,
    quotas: &BTreeMap<Isp, Quota>,
    now: Now,
) -> (Vec<Series>, usize) {
    let window = rates_since(now);
    let isps: Vec<Isp> = if policy.cloudwatch.isps == 0 { Vec::new() } else { subject_state.timeline.isps().collect() };
    let candidate = |isp: Isp| {
        let mails =
            judge::sum(&mut subject_state.timeline, Some(isp), &[], window).tally(Metric::HardBounce).population;
        Candidate { of: isp, level: level_at(policy, board, subject_state, isp), mails }
    };
    let candidates = isps.into_iter().map(candidate).filter(|isp| isp.mails > 0 || isp.level > 0).collect();
    let (isps, isps_left_out) = choose(policy.cloudwatch.isps, candidates);
    let keys = std::iter::once(None).chain(isps.into_iter().map(Some));
    let series = |isp: Option<Isp>| {
        let is_known = subject_state.timeline.knows_its_mail();
        let mut values = Vec::new();
        if is_known {
            for metric in Metric::ALL {
                let tally = judge::sum(&mut subject_state.timeline, isp, &[], window).tally(metric);
                values.extend(tally.rate().map(|rate| (Measure::Rate(metric), rate)));
            }
            let share = evidence_share(policy, board, subject_state, isp, now);
            values.extend(share.map(|share| (Measure::EvidenceShare, share)));
        }
        if !subject_state.unreadable.contains(&isp) {
            let whole = || subject_state.breakers.get(&None).map_or(0, |known| level(known.breaker.state));
            let level = isp.map_or_else(whole, |isp| level_at(policy, board, subject_state, isp));
            values.push((Measure::State, f64::from(level)));
        }
        values.extend(allowance(policy, isp, quotas, now));
        let from = mails_from(period(now));
        let mails = is_known.then(|| mails_between(&subject_state.timeline, isp, from, from.plus(PERIOD)));
        Series { set: set.to_owned(), isp, values, mails }
    };
    (keys.map(series).collect(), isps_left_out)
}

/// The first minute of the mail that rates are over: the start of an hour, as for ratio rules.
fn rates_since(now: Now) -> Minute {
    now.minute().minus(RATE_HOURS * HOUR).hour()
}

/// The evidence of a breaker, as a share of the evidence that would stop it; `None` if no evidence can stop it.
fn evidence_share(
    policy: &Policy,
    board: &Board,
    subject_state: &mut SubjectState,
    isp: Option<Isp>,
    now: Now,
) -> Option<f64> {
    let (left_out, since) = match isp {
        None => (left_out(policy, subject_state, board, &BTreeMap::new()), subject_state.breaker(None).breaker.since),
        Some(isp) => (Vec::new(), since_of_isp(subject_state, board, isp)),
    };
    let share = |metric: Metric| {
        let threshold = policy.metrics.rule(metric).pause.filter(|_| policy.judges(metric, isp))?;
        let walk = Judge::new(policy, isp, &left_out, now).walk(&mut subject_state.timeline, metric, since.pause);
        Some(walk.peak().evidence as f64 / threshold as f64)
    };
    Metric::ALL.into_iter().filter_map(share).reduce(f64::max)
}

/// Today's quota and what was granted of it: at one ISP, or in total. Empty if the gate has not planned the day yet.
fn allowance(policy: &Policy, isp: Option<Isp>, quotas: &BTreeMap<Isp, Quota>, now: Now) -> Vec<(Measure, f64)> {
    let today = policy.warmup.zone.day_at(now).number;
    let of_isp = |known: &Isp| isp.is_none_or(|isp| isp == *known);
    let of_today = quotas.iter().filter(|(known, quota)| of_isp(known) && quota.ramp.day == today);
    let sum = of_today.map(|(_, quota)| (quota.ramp.quota, quota.meter.bulk.saturating_add(quota.meter.critical)));
    let sum = sum.reduce(|a, b| (a.0.saturating_add(b.0), a.1.saturating_add(b.1)));
    sum.map_or_else(Vec::new, |(quota, granted)| {
        vec![(Measure::Quota, quota as f64), (Measure::Granted, granted as f64)]
    })
}

/// Mails accepted in `[from, until)`.
fn mails_between(timeline: &Timeline, isp: Option<Isp>, from: Minute, until: Minute) -> u64 {
    let minutes = timeline.series(isp).into_iter().flat_map(|series| series.minutes().rev());
    let within = minutes.skip_while(|(minute, _)| *minute >= until).take_while(|(minute, _)| *minute >= from);
    within.map(|(_, counters)| counters.tally(Metric::HardBounce)).fold(Tally::default(), Tally::plus).population
}

/// The mails of configuration sets by which they are ranked: read once an hour, so that which sets are exported does not change
/// with each mail. CloudWatch charges for each hour in which a metric has a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    hour: Option<Minute>,
    mails: BTreeMap<Subject, u64>,
}

/// Reads and measures what the policy asks for. Costs two queries, one more for each exported set and three for its
/// counters, one for the quotas of a set that the gate plans; and once an hour, if some sets are omitted, one for each.
///
/// # Errors
///
/// A port did not answer: try again.
pub async fn export<R: Reputation + MailHistory, Q: Quotas>(
    policy: &Policy,
    store: &mut R,
    quotas: &Q,
    activity: &mut Activity,
    now: Now,
) -> Result<Export, PortError> {
    let board = store.board(now).await?;
    let limit = policy.cloudwatch.configuration_sets;
    let mut candidates = candidates(store, &board, now).await?;
    if candidates.len() > limit {
        rank(store, &mut candidates, activity, now).await?;
    }
    let (chosen, sets_left_out) = choose(limit, candidates);
    let at = period(now);
    let mut export = Export { at, mails_from: mails_from(at), sets_left_out, ..Export::default() };
    for subject in chosen {
        let Subject::ConfigurationSet(set) = &subject else { continue };
        let is_planned = policy.warmup.sets.contains_key(&**set);
        let known = if is_planned { quotas.quotas(set).await } else { Ok(BTreeMap::new()) };
        let (series, isps_left_out) = match (known, store.subject_state(&subject, now).await) {
            (Ok(quotas), Ok(subject_state)) => measure(policy, &board, set, subject_state, &quotas, now),
            (Err(error), _) | (_, Err(error)) if error.disposition == Disposition::Quarantine => {
                export.failed.push((set.to_string(), error));
                continue;
            }
            // The next set would fail, too, and each failure takes the time of an unanswered call.
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        export.series.extend(series);
        export.isps_left_out += isps_left_out;
    }
    Ok(export)
}

/// The configuration sets that had events within the last day, or whose state is not "sending"; without their mails.
async fn candidates<R: MailHistory>(store: &R, board: &Board, now: Now) -> Result<Vec<Candidate<Subject>>, PortError> {
    let is_set = |subject: &Subject| matches!(subject, Subject::ConfigurationSet(_));
    let since = rates_since(now);
    let heard = store.heard().await?.into_iter().filter(|(subject, last)| is_set(subject) && *last >= since);
    let mut levels: BTreeMap<Subject, u8> = heard.map(|(subject, _)| (subject, 0)).collect();
    for (Key { subject, .. }, known) in board.unsettled.iter().filter(|(key, _)| is_set(&key.subject)) {
        let worst = level(known.state);
        if worst > 0 {
            let level = levels.entry(subject.clone()).or_default();
            *level = worst.max(*level);
        }
    }
    Ok(levels.into_iter().map(|(of, level)| Candidate { of, level, mails: 0 }).collect())
}

/// Fills in how much mail each candidate has, as of the first reading in this hour.
async fn rank<R: MailHistory>(
    store: &R,
    candidates: &mut [Candidate<Subject>],
    activity: &mut Activity,
    now: Now,
) -> Result<(), PortError> {
    let hour = now.minute().hour();
    if activity.hour != Some(hour) {
        let mut mails = BTreeMap::new();
        for Candidate { of, .. } in candidates.iter().take(MAX_RANKED) {
            let timeline = store.hours(of, hour.minus(RATE_HOURS * HOUR), hour.plus(HOUR)).await?;
            let hours = timeline.series(None).into_iter().flat_map(|series| series.hours());
            let tallies = hours.map(|(_, counters)| counters.tally(Metric::HardBounce));
            mails.insert(of.clone(), tallies.fold(Tally::default(), Tally::plus).population);
        }
        *activity = Activity { hour: Some(hour), mails };
    }
    for candidate in candidates {
        candidate.mails = activity.mails.get(&candidate.of).copied().unwrap_or(0);
    }
    Ok(())
}
