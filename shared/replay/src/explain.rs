//! Why a breaker stands where it stands: the numbers behind one key at one moment.
//!
//! Asked about a moment at which people were told something, it shows the key as it was judged then, before the
//! transition was taken; a transition moves the marks from which mail counts, so a moment later that mail would be
//! gone. Asked about any other moment, it shows the key as it stood.

use std::collections::BTreeMap;

use pipeline::evaluate::{left_out, since_of_isp};
use pipeline::ports::{Board, SubjectState, Transition};
use reputation::breaker::{BreakerState, Override};
use reputation::counters::{Counters, Metric, Tally};
use reputation::detect::{Level, NAT, NanoNats, Rule};
use reputation::isp::IspMap;
use reputation::judge::{self, ArmedSince, ExcludedIsp, WalkedCell};
use reputation::policy::{Policy, Ratio};
use reputation::subject::{Key, Subject};
use reputation::time::{HOUR, Minute, Now};
use serde::Serialize;

use crate::driver::{Replay, TraceEntry, forecast};
use crate::report::{ReportedBreaker, TransitionRecord};
use crate::view::{Diagnosis, diagnoses_of};

/// So many classes of diagnoses are shown.
const MAX_DIAGNOSES: usize = 10;

/// One key at one moment. All times are RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The moment (RFC 3339).
    pub at: String,
    /// Whose mail.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// Whether an application asks the gate.
    #[serde(skip)]
    pub gate: bool,
    /// Its breaker at that moment, after what was decided then.
    pub breaker: ReportedBreaker,
    /// The last thing people were told before, or at that moment.
    pub last: Option<TransitionRecord>,
    /// What receiving servers said of its bounces and delays until then, the most frequent first; empty where the input is not
    /// there any more.
    pub diagnoses: Vec<Diagnosis>,
    /// What was decided at that moment, in order, each with what it was decided upon; if nothing was, how things stood.
    pub judged: Vec<ExplainedJudgement>,
}

/// A key as it was judged.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedJudgement {
    /// What people were told; null if nothing was decided.
    pub decided: Option<TransitionRecord>,
    /// Each metric and what is known about it.
    pub metrics: Vec<ExplainedMetric>,
    /// The ratio rules, with their numbers.
    pub ratios: Vec<ExplainedRatio>,
    /// The account as SES would see it; only for the account.
    pub forecast: Vec<ExplainedForecast>,
    /// ISPs whose mail does not count against the subject as a whole.
    pub left_out: Vec<ExplainedLeftOut>,
    /// The cells of one metric: of the one behind the verdict, or asked for, or nearest to its threshold.
    pub cells: Option<ExplainedCells>,
}

/// One metric of the key.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedMetric {
    /// Which.
    pub metric: &'static str,
    /// The share that is still accepted.
    pub limit: f64,
    /// Whether it is judged for this key: some are judged at single ISPs only.
    pub judged: bool,
    /// What mail since the mark of each level says.
    pub evidence: Vec<ExplainedEvidence>,
}

/// The evidence about one metric since one mark.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedEvidence {
    /// What it may lead to: `throttle` or `pause`.
    pub level: &'static str,
    /// Mail accepted before may not lead to it any more.
    pub since: Option<String>,
    /// Denominator over all cells since then.
    pub population: u64,
    /// Numerator.
    pub bad: u64,
    /// The rate; null = no data.
    pub rate: Option<f64>,
    /// Evidence that leads to it, in nats; null = never.
    pub threshold: Option<f64>,
    /// The highest evidence, in nats.
    pub peak: f64,
    /// First minute of the stretch of mail that made the peak, and first minute after it; null if there is none.
    pub stretch: Option<[String; 2]>,
    /// Denominator over the stretch.
    pub stretch_population: u64,
    /// Numerator over the stretch.
    pub stretch_bad: u64,
}

/// One ratio rule.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedRatio {
    /// Which rate.
    pub metric: &'static str,
    /// Over so many hours.
    pub window_hours: u32,
    /// Nothing is said below so many mails.
    pub min_population: u64,
    /// Nothing is said below so many bad ones.
    pub min_bad: u64,
    /// Its lines, with the numbers that are held against each.
    pub lines: Vec<ExplainedLine>,
}

/// One line of a ratio rule.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedLine {
    /// What it leads to.
    pub level: &'static str,
    /// The line, a share.
    pub line: f64,
    /// First minute of the mail that is looked at.
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

/// What SES would see of one metric of the account.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedForecast {
    /// Which rate.
    pub metric: &'static str,
    /// Over so many mails.
    pub population: u64,
    /// So many of them bad.
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
    /// Which.
    pub isp: String,
    /// Its mail accepted before is left out; null = all of it.
    pub before: Option<String>,
    /// Why.
    pub why: &'static str,
}

/// The cells that evidence was gathered over.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedCells {
    /// Of which metric.
    pub metric: &'static str,
    /// ArmedSince the mark of which level.
    pub level: &'static str,
    /// The cells of the stretch that made the peak and what came after it, oldest first.
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
    /// The rate; null = no data.
    pub rate: Option<f64>,
    /// The evidence after it, in nats: the largest over the alternatives.
    pub evidence: f64,
    /// The peak is after this cell.
    pub peak: bool,
}

/// What a key was, or would be, judged upon.
struct Basis {
    subject_state: SubjectState,
    since: ArmedSince,
    left_out: Vec<ExcludedIsp>,
    why: Vec<ExplainedLeftOut>,
    now: Now,
    /// What SES would have seen; `None` = what the replay holds.
    forecast: Option<Vec<judge::Forecast>>,
}

/// Explains a key that was witnessed in `replay`, which stopped at `at`. Cells are those of `metric`, if given.
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
        // A hold of an ISP has no evidence of its own, and the account is judged by the forecast alone.
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
            "the ISP is held for all senders: its trouble is its own"
        } else {
            "the ISP's trouble looks like its own"
        }
    } else if contained(&own) {
        "stopped at this ISP by itself"
    } else {
        "what was sent there before has been answered for"
    };
    let before = (*before < Minute(u32::MAX)).then(|| before.start());
    ExplainedLeftOut { isp: isps.name(*isp).to_owned(), before, why }
}

fn forecasts(replay: &Replay, seen: Vec<judge::Forecast>) -> Vec<ExplainedForecast> {
    let rules = &replay.policy.forecast;
    let of = |forecast: judge::Forecast| {
        let (review, pause) = match forecast.metric {
            Metric::Complaint => (rules.complaint_review, rules.complaint_pause),
            Metric::HardBounce | Metric::Delay | Metric::Block => (rules.hard_bounce_review, rules.hard_bounce_pause),
        };
        let Tally { population, bad } = forecast.tally;
        let rate = forecast.tally.rate();
        ExplainedForecast { metric: forecast.metric.name(), population, bad, rate, review, pause }
    };
    seen.into_iter().map(of).collect()
}

/// One key, as it is judged.
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
        judge::explain(self.policy, &self.subject_state.timeline, self.key.isp, &self.left_out, metric, since, self.now)
    }

    fn peak(&mut self, metric: Metric, level: Level) -> reputation::detect::Excursion {
        let since = self.mark(level);
        let Judging { policy, key, subject_state, left_out, now, .. } = self;
        judge::walk(policy, &mut subject_state.timeline, key.isp, left_out, metric, since, *now).peak()
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

    /// All mail since a minute but what is left out, as ratio rules see it.
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

    /// The metric and level whose evidence comes nearest to its threshold.
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
            rate: walked.tally.rate(),
            evidence: walked.evidence,
            peak: peak.evidence > 0 && walked.cell.until == peak.until,
        };
        let cells = stretch.filter(|walked| walked.tally.population > 0).map(cell).collect();
        ExplainedCells { metric: metric.name(), level: level.name(), cells }
    }
}

fn nats(evidence: NanoNats) -> f64 {
    evidence as f64 / NAT as f64
}
