//! Why a breaker is in its state: the numbers about one key at one moment.
//!
//! At a moment with a notice, it shows the key as it was judged then, before the transition; a transition moves the marks from
//! which mail counts, so that mail would be missing a moment later. At any other moment, it shows the key's state then.

use std::collections::BTreeMap;

use pipeline::evaluate::{left_out, since_of_isp};
use pipeline::ports::{Board, SubjectState};
use pipeline::transition::Transition;
use reputation::breaker::{BreakerState, Override};
use reputation::counters::{Counters, Metric, Tally};
use reputation::detect::{Level, NAT, NanoNats, Rule};
use reputation::isp::IspMap;
use reputation::judge::{self, ArmedSince, Judge, WalkedCell};
use reputation::policy::{Policy, Ratio};
use reputation::subject::{Key, Subject};
use reputation::time::{HOUR, Minute, Now};
use reputation::timeline::ExcludedIsp;
use serde::Serialize;

use crate::driver::{Replay, TraceEntry, forecast};
use crate::report::{ReportedBreaker, TransitionRecord};
use crate::view::{Diagnosis, diagnoses_of};

/// The number of classes of diagnoses that are shown.
const MAX_DIAGNOSES: usize = 10;

/// One key at one moment. All times are RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The moment (RFC 3339).
    pub at: String,
    /// The subject.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// Whether an application asks the gate.
    #[serde(skip)]
    pub gate: bool,
    /// Its breaker at that moment, after the decisions of that moment.
    pub breaker: ReportedBreaker,
    /// The last notice before, or at that moment.
    pub last: Option<TransitionRecord>,
    /// What receiving servers said about its bounces and delays until then, the most frequent first; empty where the input is
    /// no longer available.
    pub diagnoses: Vec<Diagnosis>,
    /// The decisions at that moment, in order, each with its evidence; if there were none, the evidence at that moment.
    pub judged: Vec<ExplainedJudgement>,
}

/// A judgement of a key.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedJudgement {
    /// The decision; null if there was none.
    pub decided: Option<TransitionRecord>,
    /// The evidence about each metric.
    pub metrics: Vec<ExplainedMetric>,
    /// The ratio rules, with their numbers.
    pub ratios: Vec<ExplainedRatio>,
    /// The account as SES would see it; only for the account.
    pub forecast: Vec<ExplainedForecast>,
    /// ISPs whose mail does not count towards the subject as a whole.
    pub left_out: Vec<ExplainedLeftOut>,
    /// The cells of one metric: the one that decided, or that was asked for, or that is nearest to its threshold.
    pub cells: Option<ExplainedCells>,
}

/// One metric of the key.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedMetric {
    /// The metric.
    pub metric: &'static str,
    /// The accepted rate.
    pub limit: f64,
    /// Whether it is judged for this key: some metrics are judged only at single ISPs.
    pub judged: bool,
    /// The evidence since the mark of each level.
    pub evidence: Vec<ExplainedEvidence>,
}

/// The evidence about one metric since one mark.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedEvidence {
    /// The level that it may lead to: `throttle` or `pause`.
    pub level: &'static str,
    /// Mail accepted before this time no longer counts towards it.
    pub since: Option<String>,
    /// Denominator over all cells since then.
    pub population: u64,
    /// Numerator.
    pub bad: u64,
    /// The rate; null = no data.
    pub rate: Option<f64>,
    /// The threshold, in nats; null = never.
    pub threshold: Option<f64>,
    /// The highest evidence, in nats.
    pub peak: f64,
    /// First minute of the stretch of mail with the peak, and the first minute after it; null if there is none.
    pub stretch: Option<[String; 2]>,
    /// Denominator over the stretch.
    pub stretch_population: u64,
    /// Numerator over the stretch.
    pub stretch_bad: u64,
    /// How many of these are not evidence, because a business domain, or a person, counts once a day; missing if all are.
    #[serde(skip_serializing_if = "zero")]
    pub stretch_repeats: u64,
}

/// One ratio rule.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedRatio {
    /// The metric.
    pub metric: &'static str,
    /// The window in hours.
    pub window_hours: u32,
    /// The fewest mails for a verdict.
    pub min_population: u64,
    /// The fewest bad mails for a verdict.
    pub min_bad: u64,
    /// Its lines, with the numbers that are compared with each.
    pub lines: Vec<ExplainedLine>,
}

/// One line of a ratio rule.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedLine {
    /// The level.
    pub level: &'static str,
    /// The line, a share.
    pub line: f64,
    /// First minute of the mail that counts.
    pub since: String,
    /// Denominator.
    pub population: u64,
    /// Numerator.
    pub bad: u64,
    /// The rate; null = no data.
    pub rate: Option<f64>,
    /// Whether it is reached.
    pub reached: bool,
}

/// One metric of the account as SES would see it.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedForecast {
    /// The metric.
    pub metric: &'static str,
    /// The number of mails.
    pub population: u64,
    /// The bad ones among them.
    pub bad: u64,
    /// The rate; null = no data.
    pub rate: Option<f64>,
    /// The rate at which SES reviews an account.
    pub review: f64,
    /// The rate at which SES may pause it.
    pub pause: f64,
}

/// An ISP that is left out.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedLeftOut {
    /// The ISP.
    pub isp: String,
    /// Mail accepted before this time is left out; null = all of it.
    pub before: Option<String>,
    /// Why.
    pub why: &'static str,
}

/// The cells of the evidence.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedCells {
    /// The metric.
    pub metric: &'static str,
    /// The level whose mark they start from.
    pub level: &'static str,
    /// The cells of the stretch with the peak and the cells after it, oldest first.
    pub cells: Vec<ExplainedCell>,
}

/// One cell.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedCell {
    /// First minute.
    pub from: String,
    /// First minute after it.
    pub until: String,
    /// Denominator.
    pub population: u64,
    /// Numerator.
    pub bad: u64,
    /// How many of these are not evidence, because a business domain, or a person, counts once a day; missing if all are.
    #[serde(skip_serializing_if = "zero")]
    pub repeats: u64,
    /// The rate; null = no data.
    pub rate: Option<f64>,
    /// The evidence after this cell, in nats: the largest over the alternatives.
    pub evidence: f64,
    /// The peak is after this cell.
    pub peak: bool,
}

/// The state on which a key was, or would be, judged.
struct Basis {
    subject_state: SubjectState,
    since: ArmedSince,
    left_out: Vec<ExcludedIsp>,
    why: Vec<ExplainedLeftOut>,
    now: Now,
    /// The forecast of what SES sees; `None` = as computed from the replay.
    forecast: Option<Vec<judge::Forecast>>,
}

/// Explains a key that was traced in `replay`, which stopped at `at`. Cells are those of `metric`, if given.
pub fn explain(replay: &Replay, key: &Key, metric: Option<Metric>, at: Now) -> Explanation {
    let isps = &replay.policy.isp_map;
    let known = replay.reputation.subject_states().find(|(subject, _)| **subject == key.subject);
    let known = known.map(|(_, subject_state)| subject_state.clone()).unwrap_or_default();
    let breaker = ReportedBreaker::of(replay, key, &known.breaker(key.isp).breaker);
    let trace = replay.trace.iter().map(|entry| {
        let TraceEntry { transition, subject_state, board, steps, forecast } = entry;
        let basis = Basis::new(&replay.policy, key, subject_state.clone(), board, steps, transition.at);
        judged(replay, key, metric, Some(transition), Basis { forecast: forecast.clone(), ..basis })
    });
    let mut judgements: Vec<ExplainedJudgement> = trace.collect();
    if judgements.is_empty() {
        let basis = Basis::new(&replay.policy, key, known, replay.reputation.known_board(), &BTreeMap::new(), at);
        judgements.push(judged(replay, key, metric, None, basis));
    }
    let transition = replay.reputation.transitions.iter().rev().find(|transition| transition.key == *key);
    Explanation {
        at: at.to_string(),
        subject: key.subject.to_string(),
        isp: key.isp.map(|isp| isps.name(isp).to_owned()),
        gate: replay.policy.gate_in_use,
        breaker,
        diagnoses: diagnoses(replay, key),
        last: transition.map(|transition| TransitionRecord::of(transition, isps)),
        judged: judgements,
    }
}

fn diagnoses(replay: &Replay, key: &Key) -> Vec<Diagnosis> {
    let whole = key.subject == Subject::Account;
    let own = |subjects: &[Subject]| (whole || subjects.contains(&key.subject)).then(|| key.subject.to_string());
    let (mut all, _) = diagnoses_of(replay, key.isp, own);
    all.truncate(MAX_DIAGNOSES);
    all
}

fn judged(
    replay: &Replay,
    key: &Key,
    metric: Option<Metric>,
    transition: Option<&Transition>,
    basis: Basis,
) -> ExplainedJudgement {
    let mut explained = ExplainedJudgement {
        decided: transition.map(|transition| TransitionRecord::of(transition, &replay.policy.isp_map)),
        metrics: Vec::new(),
        ratios: Vec::new(),
        forecast: Vec::new(),
        left_out: Vec::new(),
        cells: None,
    };
    if key.subject == Subject::Account {
        // A held ISP has no evidence of its own, and the account is judged by the forecast only.
        if key.isp.is_none() {
            let seen = basis.forecast.unwrap_or_else(|| forecast(&replay.policy, &replay.reputation, basis.now));
            explained.forecast = forecasts(replay, seen);
        }
        return explained;
    }
    let Basis { subject_state, since, left_out, why, now, forecast: _ } = basis;
    let mut judging = Judging { policy: &replay.policy, key, subject_state, since, left_out, now };
    explained.metrics = Metric::ALL.into_iter().map(|metric| judging.metric(metric)).collect();
    explained.ratios = replay.policy.ratios.iter().map(|ratio| judging.ratio(ratio)).collect();
    explained.left_out = why;
    let verdict = transition.and_then(|transition| transition.verdict);
    let by_evidence = verdict.filter(|verdict| matches!(verdict.rule, Rule::Cusum { .. }));
    let by_evidence = by_evidence.filter(|verdict| metric.is_none_or(|metric| verdict.metric == metric));
    let chosen = by_evidence.map(|verdict| (verdict.metric, verdict.level)).or_else(|| judging.suggest(metric));
    explained.cells = chosen.map(|(metric, level)| judging.cells(metric, level));
    explained
}

impl Basis {
    fn new(
        policy: &Policy,
        key: &Key,
        subject_state: SubjectState,
        board: &Board,
        steps: &BTreeMap<reputation::Isp, BreakerState>,
        now: Now,
    ) -> Basis {
        let (since, left_out) = match key.isp {
            Some(isp) => (since_of_isp(&subject_state, board, isp), Vec::new()),
            None => (subject_state.breaker(None).breaker.since, left_out(policy, &subject_state, board, steps)),
        };
        let why = left_out
            .iter()
            .map(|left_out| why(&policy.isp_map, left_out, &subject_state, board, steps, policy.gate_in_use))
            .collect();
        Basis { subject_state, since, left_out, why, now, forecast: None }
    }
}

fn why(
    isps: &IspMap,
    ExcludedIsp { isp, before }: &ExcludedIsp,
    subject_state: &SubjectState,
    board: &Board,
    steps: &BTreeMap<reputation::Isp, BreakerState>,
    gate: bool,
) -> ExplainedLeftOut {
    let contained = |known: &BreakerState| known.state.is_contained() && known.overridden != Override::Shadow;
    let own = steps.get(isp).cloned().unwrap_or_else(|| subject_state.breaker(Some(*isp)).breaker);
    let why = if board.isps.get(isp).is_some_and(contained) {
        if gate {
            "the ISP is held for all senders: the cause is at the ISP"
        } else {
            "the cause seems to be at the ISP"
        }
    } else if contained(&own) {
        "stopped at this ISP separately"
    } else {
        "earlier mail there already led to a stop"
    };
    let before = (*before < Minute(u32::MAX)).then(|| before.start());
    ExplainedLeftOut { isp: isps.name(*isp).to_owned(), before, why }
}

fn forecasts(replay: &Replay, seen: Vec<judge::Forecast>) -> Vec<ExplainedForecast> {
    let rules = &replay.policy.forecast;
    let of = |forecast: judge::Forecast| {
        let (review, pause) = rules.lines(forecast.metric);
        let Tally { population, bad } = forecast.tally;
        let rate = forecast.tally.rate();
        ExplainedForecast { metric: forecast.metric.name(), population, bad, rate, review, pause }
    };
    seen.into_iter().map(of).collect()
}

/// One key during a judgement.
struct Judging<'a> {
    policy: &'a Policy,
    key: &'a Key,
    subject_state: SubjectState,
    since: ArmedSince,
    left_out: Vec<ExcludedIsp>,
    now: Now,
}

impl Judging<'_> {
    fn is_judged(&self, metric: Metric) -> bool {
        self.policy.judges(metric, self.key.isp)
    }

    fn threshold(&self, metric: Metric, level: Level) -> Option<NanoNats> {
        let rule = self.policy.metrics.rule(metric);
        match level {
            Level::Warn => None,
            Level::Throttle => rule.throttle,
            Level::Pause => rule.pause,
        }
    }

    fn mark(&self, level: Level) -> Minute {
        match level {
            Level::Warn => Minute(0),
            Level::Throttle => self.since.throttle,
            Level::Pause => self.since.pause,
        }
    }

    fn walked(&self, metric: Metric, level: Level) -> Vec<WalkedCell> {
        let since = self.mark(level);
        Judge::new(self.policy, self.key.isp, &self.left_out, self.now).walked(
            &self.subject_state.timeline,
            metric,
            since,
        )
    }

    fn peak(&mut self, metric: Metric, level: Level) -> reputation::detect::Excursion {
        let since = self.mark(level);
        let Judging { policy, key, subject_state, left_out, now, .. } = self;
        Judge::new(policy, key.isp, left_out, *now).walk(&mut subject_state.timeline, metric, since).peak()
    }

    fn metric(&mut self, metric: Metric) -> ExplainedMetric {
        let judged = self.is_judged(metric);
        let mut evidence = Vec::new();
        for level in [Level::Throttle, Level::Pause].into_iter().filter(|_| judged) {
            let seen = self.walked(metric, level).iter().fold(Tally::default(), |sum, cell| sum.plus(cell.tally));
            let peak = self.peak(metric, level);
            let since = self.mark(level);
            evidence.push(ExplainedEvidence {
                level: level.name(),
                since: (since > Minute(0)).then(|| since.start()),
                population: seen.population,
                bad: seen.bad,
                rate: seen.rate(),
                threshold: self.threshold(metric, level).map(nats),
                peak: nats(peak.evidence),
                stretch: (peak.evidence > 0).then(|| [peak.from.start(), peak.until.start()]),
                stretch_population: peak.tally.population,
                stretch_bad: peak.tally.bad,
                stretch_repeats: peak.repeats,
            });
        }
        ExplainedMetric { metric: metric.name(), limit: self.policy.metrics.rule(metric).limit, judged, evidence }
    }

    fn ratio(&self, ratio: &Ratio) -> ExplainedRatio {
        let window = self.now.minute().minus(ratio.window_hours * HOUR).hour();
        let lines = [(Level::Warn, ratio.warn), (Level::Throttle, ratio.throttle), (Level::Pause, ratio.pause)];
        let has_rate = self.key.isp.is_some() || self.is_judged(ratio.metric);
        let judged = lines.into_iter().filter(|_| has_rate);
        let drawn = judged.filter_map(|(level, line)| Some((level, line?)));
        let line = |(level, line): (Level, f64)| {
            let since = window.max(self.mark(level));
            let tally = self.sum(since).tally(ratio.metric);
            let enough = tally.population >= ratio.min_population && tally.bad >= ratio.min_bad;
            ExplainedLine {
                level: level.name(),
                line,
                since: since.start(),
                population: tally.population,
                bad: tally.bad,
                rate: tally.rate(),
                reached: enough && tally.rate().is_some_and(|rate| rate >= line),
            }
        };
        ExplainedRatio {
            metric: ratio.metric.name(),
            window_hours: ratio.window_hours,
            min_population: ratio.min_population,
            min_bad: ratio.min_bad,
            lines: drawn.map(line).collect(),
        }
    }

    /// All mail since a minute except what is left out, as ratio rules see it.
    fn sum(&self, since: Minute) -> Counters {
        let timeline = &self.subject_state.timeline;
        let mut sum = timeline.series(self.key.isp).map(|series| series.sum_since(since)).unwrap_or_default();
        for ExcludedIsp { isp, before } in &self.left_out {
            let Some(series) = timeline.series(Some(*isp)) else { continue };
            sum.remove(&series.sum_since(since));
            if *before < Minute(u32::MAX) {
                sum.merge(&series.sum_since(since.max(*before)));
            }
        }
        sum
    }

    /// The metric and level whose evidence is nearest to its threshold.
    fn suggest(&mut self, only: Option<Metric>) -> Option<(Metric, Level)> {
        let mut nearest: Option<((Metric, Level), f64)> = None;
        for metric in Metric::ALL {
            if !self.is_judged(metric) || only.is_some_and(|only| only != metric) {
                continue;
            }
            for level in [Level::Pause, Level::Throttle] {
                let peak = self.peak(metric, level).evidence as f64;
                let share = self.threshold(metric, level).map_or(0.0, |threshold| peak / threshold as f64);
                if nearest.is_none_or(|(_, known)| share > known) {
                    nearest = Some(((metric, level), share));
                }
            }
        }
        nearest.map(|(chosen, _)| chosen)
    }

    fn cells(&mut self, metric: Metric, level: Level) -> ExplainedCells {
        let peak = self.peak(metric, level);
        let walked = self.walked(metric, level);
        let stretch = walked.iter().filter(|walked| walked.cell.from >= peak.from);
        let cell = |walked: &WalkedCell| ExplainedCell {
            from: walked.cell.from.start(),
            until: walked.cell.until.start(),
            population: walked.tally.population,
            bad: walked.tally.bad,
            repeats: walked.repeats,
            rate: walked.tally.rate(),
            evidence: walked.evidence,
            peak: peak.evidence > 0 && walked.cell.until == peak.until,
        };
        let cells = stretch.filter(|walked| walked.tally.population > 0).map(cell).collect();
        ExplainedCells { metric: metric.name(), level: level.name(), cells }
    }
}

fn zero(count: &u64) -> bool {
    *count == 0
}

fn nats(evidence: NanoNats) -> f64 {
    evidence as f64 / NAT as f64
}
