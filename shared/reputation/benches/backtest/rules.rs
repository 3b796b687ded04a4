//! The rules that are compared. Each receives the outcome of every mail in the order of the mails, and returns after
//! each whether it would stop the sender now. A rule that has stopped the sender starts over.

use std::collections::VecDeque;

use reputation::detect::{Ladder, Level, NAT, Percent, Walk};
use reputation::judge::Judge;
use reputation::{ArmedSince, Isp, Judgement, Metric, Minute, Now, Policy, Tally, Timeline, UnitKind};

/// What a rule calls for after a mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Call {
    /// A smaller quota, at least.
    pub(crate) throttle: bool,
    /// A stop.
    pub(crate) pause: bool,
}

impl Call {
    fn pause_if(pause: bool) -> Call {
        Call { throttle: pause, pause }
    }
}

/// A rule with its state for one sender.
pub(crate) trait Rule {
    /// Processes the outcome of the next mail.
    fn see(&mut self, bad: bool) -> Call;

    /// What it does, with the numbers that it uses.
    fn define(&self) -> String;
}

/// The rate over the last mails, with minimum counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Over how many of the last mails.
    pub(crate) window: usize,
    /// The rule does not apply below this number of mails …
    pub(crate) min_mails: usize,
    /// … or below this number of bad mails.
    pub(crate) min_bad: usize,
    /// The line, a share; reaching it counts.
    pub(crate) line: f64,
}

/// Stops at any of several lines.
pub(crate) struct Lines<const COUNT: usize>([(Line, Window); COUNT]);

impl<const COUNT: usize> Lines<COUNT> {
    /// Stops as soon as one of these is reached.
    pub(crate) fn new(lines: [Line; COUNT]) -> Lines<COUNT> {
        Lines(lines.map(|line| (line, Window::of(line.window))))
    }
}

impl<const COUNT: usize> Rule for Lines<COUNT> {
    fn see(&mut self, bad: bool) -> Call {
        let mut reached = false;
        for (line, window) in &mut self.0 {
            window.push(bad);
            let (mails, bad) = (window.outcomes.len(), window.bad);
            reached |= mails >= line.min_mails && bad >= line.min_bad && bad as f64 >= line.line * mails as f64;
        }
        if reached {
            self.0.iter_mut().for_each(|(_, window)| window.clear());
        }
        Call::pause_if(reached)
    }

    fn define(&self) -> String {
        let lines = self.0.iter().map(|(Line { window, min_mails, min_bad, line }, _)| {
            let line = Percent(*line);
            format!("at least {line} of the last {window} mails, {min_bad} or more bad, {min_mails} or more seen")
        });
        lines.collect::<Vec<_>>().join("; or ")
    }
}

/// The outcomes of the last mails.
struct Window {
    most: usize,
    outcomes: VecDeque<bool>,
    bad: usize,
}

impl Window {
    fn of(most: usize) -> Window {
        Window { most, outcomes: VecDeque::with_capacity(most), bad: 0 }
    }

    fn push(&mut self, bad: bool) {
        if self.outcomes.len() == self.most {
            self.bad -= usize::from(self.outcomes.pop_front() == Some(true));
        }
        self.outcomes.push_back(bad);
        self.bad += usize::from(bad);
    }

    fn clear(&mut self) {
        self.outcomes.clear();
        self.bad = 0;
    }
}

/// Stops when the lower end of Wilson's interval for the rate over the last mails is above the limit.
pub(crate) struct Wilson {
    window: Window,
    z: f64,
    limit: f64,
}

impl Wilson {
    pub(crate) fn new(window: usize, z: f64, limit: f64) -> Wilson {
        Wilson { window: Window::of(window), z, limit }
    }
}

impl Rule for Wilson {
    fn see(&mut self, bad: bool) -> Call {
        self.window.push(bad);
        let (mails, z2) = (self.window.outcomes.len() as f64, self.z * self.z);
        let rate = self.window.bad as f64 / mails;
        let spread = self.z * (rate * (1.0 - rate) / mails + z2 / (4.0 * mails * mails)).sqrt();
        let lower = (rate + z2 / (2.0 * mails) - spread) / (1.0 + z2 / mails);
        let reached = lower > self.limit;
        if reached {
            self.window.clear();
        }
        Call::pause_if(reached)
    }

    fn define(&self) -> String {
        let (z, limit, mails) = (self.z, Percent(self.limit), self.window.most);
        format!("lower end of Wilson's interval, z = {z}, over the last {mails} mails above {limit}")
    }
}

/// A cumulative e-process against the limit: the mean of the likelihood ratios of 1.5, 2, 3, 5 and 10 times the limit
/// (at most 0.9) over all mail ever seen; stops when it reaches 1 / alpha.
pub(crate) struct EProcess {
    limit: f64,
    /// Log likelihood ratio of a bad and of a good mail, and their sum so far.
    arms: [(f64, f64, f64); 5],
    reach: f64,
}

impl EProcess {
    pub(crate) fn new(limit: f64, alpha: f64) -> EProcess {
        let arm = |multiple: f64| {
            let alternative = (limit * multiple).min(0.9);
            ((alternative / limit).ln(), ((1.0 - alternative) / (1.0 - limit)).ln(), 0.0)
        };
        EProcess { limit, arms: [1.5, 2.0, 3.0, 5.0, 10.0].map(arm), reach: alpha.recip() }
    }
}

impl Rule for EProcess {
    fn see(&mut self, bad: bool) -> Call {
        for (of_bad, of_good, sum) in &mut self.arms {
            *sum += if bad { *of_bad } else { *of_good };
        }
        // It only grows with a bad mail.
        let reached = bad && self.arms.iter().map(|(_, _, sum)| sum.exp()).sum::<f64>() >= self.reach * 5.0;
        if reached {
            self.arms.iter_mut().for_each(|(_, _, sum)| *sum = 0.0);
        }
        Call::pause_if(reached)
    }

    fn define(&self) -> String {
        let (limit, alpha) = (Percent(self.limit), self.reach.recip());
        format!(
            "mean likelihood ratio of 1.5, 2, 3, 5 and 10 times the limit of {limit} against it, over all mail ever \
             seen, reaches 1 / {alpha}; never restarted by good mail"
        )
    }
}

/// Our evidence rule with every mail as a cell of its own: the ideal that cohorts of a minute approximate.
pub(crate) struct PerMail {
    limit: f64,
    ladder: Ladder,
    walks: [(f64, Walk); 2],
}

impl PerMail {
    pub(crate) fn new(policy: &Policy, metric: Metric) -> PerMail {
        let rule = policy.metrics.rule(metric);
        let nats = |evidence: Option<i64>| evidence.map_or(f64::INFINITY, |evidence| evidence as f64 / NAT as f64);
        let walks = [rule.throttle, rule.pause].map(|threshold| (nats(threshold), Walk::default()));
        PerMail { limit: rule.limit, ladder: rule.ladder.clone(), walks }
    }
}

impl Rule for PerMail {
    fn see(&mut self, bad: bool) -> Call {
        let cell = Tally { population: 1, bad: u64::from(bad) };
        let reached = self.walks.each_mut().map(|(threshold, walk)| {
            walk.push(&self.ladder, Minute(0), Minute(1), cell);
            let reached = bad && walk.evidence() as f64 / NAT as f64 >= *threshold;
            if reached {
                *walk = Walk::default();
            }
            reached
        });
        if reached[1] {
            self.walks[0].1 = Walk::default();
        }
        Call { throttle: reached[0] || reached[1], pause: reached[1] }
    }

    fn define(&self) -> String {
        let (limit, [(throttle, _), (pause, _)]) = (Percent(self.limit), &self.walks);
        format!(
            "mixture CUSUM against {limit}, every mail a cell of its own; throttle at {throttle} nats, pause at {pause}"
        )
    }
}

/// Ours as it is deployed: the real timeline in cohorts of a minute, the quick check after each unit of harm, the full
/// judgement when that alarms and at the end of each minute with harm, evidence and ratio rules alike. A cut or a stop
/// re-arms it for mail from the next minute on, as the breaker does.
pub(crate) struct Deployed<'a> {
    policy: &'a Policy,
    metric: Metric,
    mails_per_minute: u64,
    timeline: Timeline,
    since: ArmedSince,
    /// Mails so far, counted from the start of the first minute.
    mails: u64,
    harmed: bool,
}

/// 2026-10-01 00:00 UTC.
pub(crate) const START: Now = Now(1_790_812_800_000);

impl Deployed<'_> {
    /// `phase`: how far into its first minute it starts, in mails.
    pub(crate) fn new(policy: &Policy, metric: Metric, mails_per_minute: u64, phase: u64) -> Deployed<'_> {
        let since = ArmedSince::default();
        Deployed { policy, metric, mails_per_minute, timeline: Timeline::default(), since, mails: phase, harmed: false }
    }

    fn now(&self) -> Now {
        let millis = self.mails * 60_000 / self.mails_per_minute;
        Now(START.0 + i64::try_from(millis).unwrap_or(i64::MAX))
    }

    fn judge(&mut self, now: Now) -> Call {
        let judgement: Judgement = Judge::new(self.policy, None, &[], now).judgement(&mut self.timeline, self.since);
        if judgement.pause.is_some() {
            self.since = ArmedSince::both(now.next_minute());
        } else if judgement.throttle.is_some() {
            self.since.throttle = now.next_minute();
        }
        Call { throttle: judgement.throttle.or(judgement.pause).is_some(), pause: judgement.pause.is_some() }
    }
}

impl Rule for Deployed<'_> {
    fn see(&mut self, bad: bool) -> Call {
        let now = self.now();
        let mut call = Call::default();
        if self.mails.is_multiple_of(self.mails_per_minute) {
            if std::mem::take(&mut self.harmed) {
                call = self.judge(now);
            }
            self.timeline.prune(now);
        }
        self.mails += 1;
        let kind = if bad && self.metric == Metric::HardBounce { UnitKind::HardBounce } else { UnitKind::Delivered };
        self.timeline.add(now.minute(), Isp::OTHER, kind, 1, true, now);
        if !bad {
            return call;
        }
        if self.metric == Metric::Complaint {
            self.timeline.add(now.minute(), Isp::OTHER, UnitKind::Complaint, 1, true, now);
        }
        self.harmed = true;
        if Judge::new(self.policy, None, &[], now).alarm(&mut self.timeline, self.since, self.metric)
            > Some(Level::Warn)
        {
            let now_called = self.judge(now);
            call = Call { throttle: call.throttle || now_called.throttle, pause: call.pause || now_called.pause };
        }
        call
    }

    fn define(&self) -> String {
        let mails = self.mails_per_minute;
        format!(
            "the real timeline and judge at this policy, evidence and ratio rules, in cohorts of a minute that hold \
             {mails} mails; the first minute begins at a random mail"
        )
    }
}
