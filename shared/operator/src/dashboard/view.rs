//! The view of a live stack.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws::layout::flow_name;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pipeline::evaluate::{left_out, since_of_isp};
use pipeline::notice::Notice;
use pipeline::ports::{Board, PortError, Reputation as _, SubjectState};
use replay::report::ReportedControl;
use replay::view::{self, Grid, KeyView, MAX_KEYS, MAX_MOVES, QuotaView, View};
use reputation::breaker::{BreakerState, Override, State, StateName, due};
use reputation::counters::{Counters, Metric};
use reputation::isp::Isp;
use reputation::judge::Judge;
use reputation::policy::{Mode, Policy};
use reputation::subject::{Key, Subject};
use reputation::time::{DAY, HOUR, Minute, Now};
use reputation::timeline::{Length, Timeline};

use crate::failure::Failure;
use crate::status::{Allowance, Reading, moved};
use crate::{Access, status};

/// How far back the view goes, in minutes.
const STRETCH: u32 = 7 * DAY;
/// The number of subjects that are read: those with the latest events.
const MAX_SUBJECTS: usize = 60;
/// Seconds between two refreshes of the page.
const REFRESH_SECONDS: u32 = 10;
/// Subjects that are read at a time.
const READS: usize = 16;
/// The number of latest notices that are read.
const NOTICES: i32 = 300;

/// What was read about one subject.
struct Read {
    subject: Subject,
    /// Its hourly counters.
    rates: Timeline,
    /// What it is judged by.
    subject_state: SubjectState,
}

/// The view of a stack as of now.
///
/// # Errors
///
/// AWS refuses.
pub async fn view(access: &Access, now: Now) -> Result<View, Failure> {
    let known = access.policy().await?;
    let policy = &known.policy;
    let refused = |error: PortError| access.refused(error);
    let (reading, board, notices) = {
        let (mut boards, notices) = (access.reputation(policy), access.reputation(policy));
        let reading = async { Reading::without_rates(access, policy, now).await };
        let board = async { boards.board(now).await };
        let notices = async { notices.notices(NOTICES).await };
        tokio::try_join!(reading, board, notices).map_err(refused)?
    };
    let from = now.minute().minus(STRETCH).hour();
    let grid = Grid { from: from.0, step: HOUR, bins: (now.minute().0 - from.0) / HOUR + 1 };
    let (subjects, subjects_left_out) = whose(&reading, from);
    let reads: Vec<Read> = stream::iter(subjects)
        .map(|subject| read(access, policy, subject, from, now))
        .buffered(READS)
        .try_collect()
        .await
        .map_err(refused)?;
    let (keys, keys_left_out) = keys(policy, &reads, &board, &reading, grid, now);
    let mut whole = Counters::default();
    // Without sends and deliveries there is no denominator, so a set without them counts towards no rate.
    let counts = |read: &&Read| read.subject.is_part_of_account() && read.rates.knows_its_mail();
    let sets = reads.iter().filter(counts);
    sets.filter_map(|read| read.rates.series(None))
        .flat_map(|series| series.hours())
        .for_each(|(_, hour)| whole.merge(hour));
    let transitions = transitions(&notices, from);
    let mut warnings = reading.warnings(&known, now);
    if subjects_left_out > 0 {
        warnings.push(format!(
            "{subjects_left_out} more subjects had mail in this time: only {MAX_SUBJECTS} are shown and summed"
        ));
    }
    if let Some((_, oldest)) = notices.last().filter(|(_, at)| at.minute() > from && notices.len() >= NOTICES as usize)
    {
        warnings.push(format!(
            "notices before {} are not shown: there are more than {NOTICES}; see ses-breaker history",
            terminal::time::second_of(*oldest)
        ));
    }
    let cut = transitions.len().saturating_sub(MAX_MOVES);
    Ok(View {
        kind: "live",
        title: format!("{} in {}", access.stack, access.region),
        arguments: ["--stack", &access.stack, "--region", &access.region].map(str::to_owned).into(),
        policy: match known.version {
            0 => "built-in policy".to_owned(),
            version => format!("policy version {version}"),
        },
        shadow: policy.mode == Mode::Shadow,
        // As far as the policy shows: the gate knows only the configuration sets that it names.
        gate: policy.gate_in_use && !policy.warmup.sets.is_empty(),
        now: now.0,
        grid,
        lines: view::lines(policy),
        whole: view::counted(&whole),
        whole_rates: view::rates(&whole, whole != Counters::default()),
        after_pause: None,
        keys,
        keys_left_out,
        transitions: transitions[cut..].to_vec(),
        controls: reading.wishes.iter().map(control).collect(),
        moves_left_out: cut,
        stopped: Vec::new(),
        same_mail: Vec::new(),
        diagnoses: Vec::new(),
        diagnoses_left_out: 0,
        quotas: reading.allowances(policy).iter().map(quota).collect(),
        warnings,
        read: String::new(),
        refresh_seconds: REFRESH_SECONDS,
    })
}

/// The subjects with mail since `from`, the latest first, and the number of those left out.
fn whose(reading: &Reading, from: Minute) -> (Vec<Subject>, usize) {
    let unsettled = |subject: &Subject| reading.breakers.keys().any(|key| key.subject == *subject);
    let heard = reading.directory.iter().filter(|(_, hour)| **hour >= from);
    let mut subjects: Vec<(bool, Minute, &Subject)> =
        heard.map(|(subject, hour)| (unsettled(subject), *hour, subject)).collect();
    subjects.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)).then_with(|| a.2.cmp(b.2)));
    let left_out = subjects.len().saturating_sub(MAX_SUBJECTS);
    (subjects.into_iter().take(MAX_SUBJECTS).map(|(_, _, subject)| subject.clone()).collect(), left_out)
}

async fn read(access: &Access, policy: &Policy, subject: Subject, from: Minute, now: Now) -> Result<Read, PortError> {
    let (rates, mut subject_states) = (access.reputation(policy), access.reputation(policy));
    let rates = rates.rates(&subject, Length::Hour, from, Minute(u32::MAX));
    let subject_state =
        async { subject_states.subject_state(&subject, now).await.map(|subject_state| subject_state.clone()) };
    let (rates, subject_state) = tokio::try_join!(rates, subject_state)?;
    Ok(Read { subject, rates, subject_state })
}

fn keys(
    policy: &Policy,
    reads: &[Read],
    board: &Arc<Board>,
    reading: &Reading,
    grid: Grid,
    now: Now,
) -> (Vec<KeyView>, usize) {
    let mut ranked: Vec<(u64, &Read)> = reads.iter().map(|read| (mails(&read.rates, None), read)).collect();
    ranked.sort_by_key(|(mails, read)| (std::cmp::Reverse(*mails), read.subject.to_string()));
    let mut keys = Vec::new();
    for (_, read) in ranked {
        let mut isps: Vec<Isp> = read.rates.isps().collect();
        isps.sort_by_key(|isp| std::cmp::Reverse(mails(&read.rates, Some(*isp))));
        for isp in std::iter::once(None).chain(isps.into_iter().map(Some)) {
            let key = Key { subject: read.subject.clone(), isp };
            let Some(mut view) = KeyView::of(&key, policy, &read.rates, grid) else { continue };
            let known = read.subject_state.breaker(isp).breaker;
            stand(&mut view, policy, &key, &known, now);
            view.evidence = evidence(policy, &read.subject_state, board, isp, now);
            keys.push(view);
        }
    }
    // A breaker that is not closed, or that a person overrides, is shown even if its mail is older.
    for (key, known) in reading
        .breakers
        .iter()
        .filter(|(_, known)| known.state != State::Closed || known.overridden == Override::Shadow)
    {
        let name = key.subject.to_string();
        let isp = key.isp.map(|isp| policy.isp_map.name(isp).to_owned());
        if !keys.iter().any(|view| view.subject == name && view.isp == isp) {
            let mut view = KeyView::silent(name, isp);
            stand(&mut view, policy, key, known, now);
            keys.push(view);
        }
    }
    let left_out = keys.len().saturating_sub(MAX_KEYS);
    if left_out > 0 {
        // Closed breakers with the least mail are dropped first; the others keep their order.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        let rank =
            |view: &KeyView| (view.state != StateName::Closed, view.isp.is_none(), view.counters.get("sent").copied());
        order.sort_by_key(|index| std::cmp::Reverse(rank(&keys[*index])));
        let mut kept: Vec<usize> = order.into_iter().take(MAX_KEYS).collect();
        kept.sort_unstable();
        keys = kept.into_iter().map(|index| keys[index].clone()).collect();
    }
    (keys, left_out)
}

fn mails(rates: &Timeline, isp: Option<Isp>) -> u64 {
    rates.series(isp).into_iter().flat_map(|series| series.hours()).map(|(_, hour)| hour.attempts()).sum()
}

fn stand(view: &mut KeyView, policy: &Policy, key: &Key, known: &BreakerState, now: Now) {
    view.state = known.shown_state(key);
    view.factor = known.state.factor(&policy.breaker).share();
    view.since = moved(known).map(|at| at.to_string());
    view.until = due(&policy.breaker, known, now).map(|until| until.to_string());
    view.trips = known.trips;
    view.hold = known.overridden;
}

/// The highest evidence so far after each cell of the mail that is judged now, since the key was re-armed.
fn evidence(
    policy: &Policy,
    subject_state: &SubjectState,
    board: &Board,
    isp: Option<Isp>,
    now: Now,
) -> BTreeMap<&'static str, Vec<(i64, f32)>> {
    let (since, left_out) = match isp {
        Some(isp) => (since_of_isp(subject_state, board, isp), Vec::new()),
        None => (subject_state.breaker(None).breaker.since, left_out(policy, subject_state, board, &BTreeMap::new())),
    };
    let mut tracks = BTreeMap::new();
    for metric in Metric::ALL {
        let rule = policy.metrics.rule(metric);
        if !policy.judges(metric, isp) || !subject_state.timeline.knows_its_mail() {
            continue;
        }
        let mark = if rule.pause.is_some() { since.pause } else { since.throttle };
        let mut highest = 0.0_f64;
        let mut track = Vec::new();
        for walked in Judge::new(policy, isp, &left_out, now).walked(&subject_state.timeline, metric, mark) {
            if walked.evidence > highest + 0.05 {
                highest = walked.evidence;
                track.push((i64::from(walked.cell.until.0) * 60_000, (highest * 100.0).round() as f32 / 100.0));
            }
        }
        if !track.is_empty() {
            tracks.insert(metric.name(), track);
        }
    }
    tracks
}

/// The notices about breakers since `from`, oldest first.
fn transitions(notices: &[(Notice, Now)], from: Minute) -> Vec<serde_json::Value> {
    let recent = notices.iter().filter(|(notice, at)| notice.kind == Notice::TRANSITION && at.minute() >= from);
    // A notice of another release may be unreadable here; `history` counts it.
    recent.rev().filter_map(|(notice, _)| serde_json::from_str(&notice.detail).ok()).collect()
}

fn control(desired: &pipeline::ports::DesiredState) -> ReportedControl {
    let made = match desired.is_true() {
        true => "",
        false => " (not done at SES yet)",
    };
    ReportedControl {
        at: desired.at.to_string(),
        control: flow_name(desired.flow),
        target: desired.target.to_string(),
        isp: None,
        factor: None,
        reason: format!("{}{made}", desired.reason),
    }
}

fn quota(allowance: &Allowance) -> QuotaView {
    let status::Allowance { configuration_set, isp, day, quota, granted, step, reason, .. } = allowance;
    QuotaView {
        set: configuration_set.clone(),
        isp: isp.clone(),
        day: day.clone(),
        quota: *quota,
        asked: None,
        granted: *granted,
        step,
        reason: reason.clone(),
    }
}
