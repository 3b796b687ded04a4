//! Judges one key from its counters.

use crate::Isp;
use crate::counters::{Counters, Metric, Tally};
use crate::detect::{Excursion, Level, NAT, NanoNats, Rule, Verdict, Walk};
use crate::policy::{Policy, Ratio};
use crate::time::{HOUR, Minute, Now};
use crate::timeline::{Cell, ExcludedIsp, Series, Timeline, edge};

/// From when on mail counts for a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArmedSince {
    /// Mail accepted before may not stop the key: it has been re-armed since.
    pub pause: Minute,
    /// Mail accepted before may not cut its quota (again).
    pub throttle: Minute,
}

impl ArmedSince {
    /// The later minute of each.
    pub fn max(self, other: ArmedSince) -> ArmedSince {
        ArmedSince { pause: self.pause.max(other.pause), throttle: self.throttle.max(other.throttle) }
    }

    /// Both at one minute.
    pub fn both(minute: Minute) -> ArmedSince {
        ArmedSince { pause: minute, throttle: minute }
    }
}

/// What the counters of one key call for: the worst verdict at each level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Notify people.
    pub warn: Option<Verdict>,
    /// Cut the quota.
    pub throttle: Option<Verdict>,
    /// Stop.
    pub pause: Option<Verdict>,
    /// The mail since the key was last stopped, unless it is closed: see [`Judge::testing`].
    pub probe: Probe,
}

/// The mail of a test, and after it: accepted since the key was re-armed, counted as the metric counts it that stopped it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Probe {
    /// All of it.
    pub accepted: u64,
    /// The part that is old enough for its outcomes to be known.
    pub settled: u64,
    /// All mails since then, also those that no complaint can come from.
    pub mails: u64,
    /// How many of all had the bad outcome.
    pub bad: u64,
    /// Whether their share is within the limit of that metric.
    pub is_good: bool,
    /// After complaints: a rate that fails a test, although it is no evidence for a stop by itself. The mail of a test is
    /// not enough for that, and nearly all of the next campaign is sent before its own complaints arrive.
    pub relapse: Option<Verdict>,
}

impl Judgement {
    /// Keeps a verdict if it is worse than the known one of its level.
    pub fn consider(&mut self, verdict: impl Into<Option<Verdict>>) {
        let Some(verdict) = verdict.into() else { return };
        let slot = match verdict.level {
            Level::Warn => &mut self.warn,
            Level::Throttle => &mut self.throttle,
            Level::Pause => &mut self.pause,
        };
        if slot.is_none_or(|known| known.excess() < verdict.excess()) {
            *slot = Some(verdict);
        }
    }
}

/// Judges the mail of one key as of one time: that of a subject's [`Timeline`] at one ISP, or at all ISPs but some.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    policy: &'a Policy,
    isp: Option<Isp>,
    left_out: &'a [ExcludedIsp],
    now: Now,
    /// By which metric the mail of a test counts, and how many minutes after it was accepted its outcomes are known.
    test: Option<(Metric, u32)>,
}

impl<'a> Judge<'a> {
    /// `isp`: the ISP, or `None` for all ISPs without those in `left_out`.
    pub fn new(policy: &'a Policy, isp: Option<Isp>, left_out: &'a [ExcludedIsp], now: Now) -> Judge<'a> {
        Judge { policy, isp, left_out, now, test: None }
    }

    /// The same, for a key that was stopped: the mail since then is summed, too, as this metric counts it, and as the number
    /// of minutes says after which the outcomes of a mail are known. See [`breaker::test_of`](crate::breaker::test_of).
    #[must_use]
    pub fn testing(self, test: Option<(Metric, u32)>) -> Judge<'a> {
        Judge { test, ..self }
    }

    /// What the mail accepted from `since` on calls for.
    pub fn judgement(&self, timeline: &mut Timeline, since: ArmedSince) -> Judgement {
        let mut judgement = Judgement::default();
        for metric in Metric::ALL {
            self.consider(timeline, since, metric, &mut judgement);
        }
        if let Some((metric, minutes)) = self.test {
            judgement.probe = self.probe(timeline, since.pause, metric, minutes);
        }
        judgement
    }

    fn probe(&self, timeline: &mut Timeline, since: Minute, metric: Metric, minutes: u32) -> Probe {
        let all = sum(timeline, self.isp, self.left_out, since);
        let young = self.now.minute().minus(minutes).plus(1);
        // The stack reads minutes of late only, and before them whole hours.
        let until = if young < edge(self.now) { young.hour() } else { young }.max(since);
        let mut settled = all;
        settled.remove(&sum(timeline, self.isp, self.left_out, until));
        let tally = all.tally(metric);
        let limit = self.policy.metrics.rule(metric).limit;
        let rules = &self.policy.breaker;
        let line = limit * rules.relapse_times;
        // Several complaints of one person are one.
        let people = tally.bad.saturating_sub(all.causes_of(metric).repeats());
        let rate = Tally { bad: people, ..tally }.rate();
        let is_relapse = people >= rules.relapse_complaints && rate.is_some_and(|rate| rate >= line);
        let verdict = Verdict {
            level: Level::Pause,
            metric,
            rule: Rule::Ratio {
                window_hours: self.now.next_minute().0.saturating_sub(since.0).div_ceil(HOUR).max(1),
                line,
            },
            from: since,
            until: self.now.next_minute(),
            tally,
        };
        Probe {
            accepted: tally.population,
            settled: settled.tally(metric).population,
            mails: all.tally(Metric::HardBounce).population,
            bad: tally.bad,
            is_good: tally.bad as f64 <= limit * tally.population as f64,
            relapse: (metric == Metric::Complaint && is_relapse).then_some(verdict),
        }
    }

    /// The worst level that new bad mail of this metric calls for: the quick check after each unit of harm, at a cost that
    /// hardly depends on the length of the history. If it raises an alarm, the caller judges in full.
    pub fn alarm(&self, timeline: &mut Timeline, since: ArmedSince, metric: Metric) -> Option<Level> {
        let mut judgement = Judgement::default();
        self.consider(timeline, since, metric, &mut judgement);
        let Judgement { warn, throttle, pause, .. } = judgement;
        pause.or(throttle).or(warn).map(|verdict| verdict.level)
    }

    /// Whether the mail shows at least half of the evidence that would throttle its subject. If it does not, the excluded
    /// ISPs explain the harm.
    pub fn shows_harm(&self, timeline: &mut Timeline, since: ArmedSince) -> bool {
        Metric::ALL.into_iter().any(|metric| {
            let rule = self.policy.metrics.rule(metric);
            let threshold = rule.throttle.or(rule.pause).filter(|_| self.policy.judges(metric, None));
            threshold.is_some_and(|threshold| self.walk(timeline, metric, since.pause).peak().evidence >= threshold / 2)
        })
    }

    /// The walk of the evidence for one metric from `since` on.
    pub fn walk(&self, timeline: &mut Timeline, metric: Metric, since: Minute) -> Walk {
        let Judge { policy, isp, left_out, now, .. } = *self;
        let ladder = &policy.metrics.rule(metric).ladder;
        let remembered = metric != Metric::Complaint || isp.is_some() || timeline.heard_in_sums().next().is_none();
        if left_out.is_empty() && remembered {
            return timeline
                .series_mut(isp)
                .map_or_else(Walk::default, |series| series.walk(metric, ladder, since, now));
        }
        let mut walk = Walk::default();
        for cell in timeline.cells(isp, left_out, since, now) {
            walk.pass(ladder, metric, cell.from, cell.until, &cell.counters);
        }
        walk
    }

    /// The cells of a walk, each with the evidence after it.
    pub fn walked(&self, timeline: &Timeline, metric: Metric, since: Minute) -> Vec<WalkedCell> {
        let ladder = &self.policy.metrics.rule(metric).ladder;
        let mut walk = Walk::default();
        let step = |cell: Cell| {
            let tally = cell.counters.tally(metric);
            let repeats = walk.pass(ladder, metric, cell.from, cell.until, &cell.counters);
            WalkedCell { cell, tally, repeats, evidence: nats(walk.evidence()) }
        };
        timeline.cells(self.isp, self.left_out, since, self.now).into_iter().map(step).collect()
    }

    /// Adds the verdicts about one metric to a judgement.
    fn consider(&self, timeline: &mut Timeline, since: ArmedSince, metric: Metric, judgement: &mut Judgement) {
        let Judge { policy, isp, .. } = *self;
        let rule = policy.metrics.rule(metric);
        let judged = policy.judges(metric, isp);
        if (isp.is_none() && !judged) || !timeline.knows_its_mail() {
            return;
        }
        let mut known: Option<(Minute, Excursion)> = None;
        let mut look = |level, threshold: Option<NanoNats>, since: Minute| {
            let Some(threshold) = threshold.filter(|_| judged) else { return };
            let peak = match known {
                Some((from, peak)) if from == since => peak,
                _ => self.walk(timeline, metric, since).peak(),
            };
            known = Some((since, peak));
            if peak.evidence >= threshold {
                judgement.consider(Verdict {
                    level,
                    metric,
                    rule: Rule::Cusum {
                        limit: rule.limit,
                        evidence: nats(peak.evidence),
                        threshold: nats(threshold),
                        repeats: peak.repeats,
                    },
                    from: peak.from,
                    until: peak.until,
                    tally: peak.tally,
                });
            }
        };
        look(Level::Throttle, rule.throttle, since.throttle);
        look(Level::Pause, rule.pause, since.pause);
        for ratio in policy.ratios.iter().filter(|ratio| ratio.metric == metric) {
            self.consider_ratio(ratio, timeline, since, judgement);
        }
    }

    fn consider_ratio(&self, ratio: &Ratio, timeline: &mut Timeline, since: ArmedSince, judgement: &mut Judgement) {
        let Judge { policy, isp, left_out, now, .. } = *self;
        // If a metric is also judged over all ISPs, one warning is enough, and it is given there.
        let warns = isp.is_none() || !policy.judges(ratio.metric, None);
        let window = now.minute().minus(ratio.window_hours * HOUR).hour();
        let mut known: Option<(Minute, Tally)> = None;
        let lines = [
            (Level::Warn, ratio.warn.filter(|_| warns), window),
            (Level::Throttle, ratio.throttle, window.max(since.throttle)),
            (Level::Pause, ratio.pause, window.max(since.pause)),
        ];
        for (level, line, since) in lines {
            let Some(line) = line else { continue };
            let tally = match known {
                Some((from, tally)) if from == since => tally,
                _ => sum(timeline, isp, left_out, since).tally(ratio.metric),
            };
            known = Some((since, tally));
            let enough = tally.population >= ratio.min_population && tally.bad >= ratio.min_bad;
            if enough && tally.rate().is_some_and(|rate| rate >= line) {
                let rule = Rule::Ratio { window_hours: ratio.window_hours, line };
                let until = now.next_minute();
                judgement.consider(Verdict { level, metric: ratio.metric, rule, from: since, until, tally });
            }
        }
    }
}

/// One step of a walk, to show people how a verdict was reached.
#[derive(Clone, Debug)]
pub struct WalkedCell {
    /// The cohort.
    pub cell: Cell,
    /// Its numerator and denominator.
    pub tally: Tally,
    /// How many of its bad mails are not evidence, because a business domain, or a person, counts once a day.
    pub repeats: u64,
    /// The evidence after it, in nats.
    pub evidence: f64,
}

fn nats(evidence: NanoNats) -> f64 {
    evidence as f64 / NAT as f64
}

/// The counters of the mail accepted from `since` on, as ratio rules sum them, without the excluded ISPs.
pub fn sum(timeline: &mut Timeline, isp: Option<Isp>, left_out: &[ExcludedIsp], since: Minute) -> Counters {
    let mut sum = timeline.series_mut(isp).map(|series| series.window_since(since)).unwrap_or_default();
    for ExcludedIsp { isp, before } in left_out {
        if let Some(series) = timeline.series(Some(*isp)) {
            sum.remove(&series.share(series.sum_since(since)));
            if *before < Minute(u32::MAX) {
                sum.merge(&series.share(series.sum_since(since.max(*before))));
            }
        }
    }
    let heard: Vec<Isp> = if isp.is_none() { timeline.heard_in_sums().collect() } else { Vec::new() };
    for isp in heard {
        let before = left_out.iter().find(|known| known.isp == isp).map_or(Minute(0), |known| known.before);
        if let Some(series) = timeline.series(Some(isp)) {
            sum.hear(&series.sum_since(since.max(before)));
        }
    }
    sum
}

/// The account as SES sees it: the rate over the last `mails` eligible mails, whole hours at a time, over the sum of
/// the given timelines (one for each configuration set).
pub fn forecast<'a>(policy: &Policy, sets: impl Iterator<Item = &'a Timeline>, now: Now) -> Vec<Forecast> {
    let rules = &policy.forecast;
    let mut hours: Vec<(Minute, Counters)> = Vec::new();
    for timeline in sets.filter(|timeline| timeline.knows_its_mail()) {
        // From one set, at most the requested number of mails of both metrics is needed.
        let mut needed = [rules.mails; 2];
        let heard: Vec<&Series> = timeline.heard_in_sums().filter_map(|isp| timeline.series(Some(isp))).collect();
        for (from, counters) in timeline.series(None).into_iter().flat_map(|series| series.hours().rev()) {
            let mut counters = *counters;
            heard.iter().filter_map(|series| series.hour(from)).for_each(|part| counters.hear(part));
            hours.push((from, counters));
            for (needed, metric) in needed.iter_mut().zip([Metric::HardBounce, Metric::Complaint]) {
                *needed = needed.saturating_sub(counters.tally(metric).population);
            }
            if needed == [0; 2] {
                break;
            }
        }
    }
    hours.sort_unstable_by_key(|(from, _)| std::cmp::Reverse(*from));
    let lines = [
        (Metric::HardBounce, rules.hard_bounce_review, rules.hard_bounce_pause),
        (Metric::Complaint, rules.complaint_review, rules.complaint_pause),
    ];
    let over = |(metric, review, pause): (Metric, f64, f64)| {
        let mut tally = Tally::default();
        let mut from = now.next_minute();
        let mut rest = hours.iter().peekable();
        while let Some((hour, counters)) = rest.next() {
            tally = tally.plus(counters.tally(metric));
            from = *hour;
            let hour_done = rest.peek().is_none_or(|(next, _)| next != hour);
            if hour_done && tally.population >= rules.mails {
                break;
            }
        }
        let enough = tally.population >= rules.min_population && tally.bad >= rules.min_bad;
        let line = tally.rate().filter(|_| enough).and_then(|rate| match rate {
            rate if rate >= pause => Some((Level::Pause, pause)),
            rate if rate >= review => Some((Level::Warn, review)),
            _ => None,
        });
        let verdict = line.map(|(level, line)| Verdict {
            level,
            metric,
            rule: Rule::Forecast { mails: tally.population, line },
            from,
            until: now.next_minute(),
            tally,
        });
        Forecast { metric, tally, verdict }
    };
    lines.map(over).into()
}

/// One metric of the account as SES sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Which rate.
    pub metric: Metric,
    /// Over which mails.
    pub tally: Tally,
    /// The threshold of SES that it has reached.
    pub verdict: Option<Verdict>,
}
