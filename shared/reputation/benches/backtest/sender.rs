//! A sender that never changes: a month of mail through the real timeline, judge and breaker. Whatever is done to it is
//! a false alarm, at least below the limit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use reputation::breaker::{self, ActionLimits, Input, State};
use reputation::judge::Judge;
use reputation::number::thousands;
use reputation::{
    ArmedSince, BreakerState, ExcludedIsp, Isp, Level, Metric, Minute, Now, Policy, Timeline, UnitKind, Verdict,
};

use crate::rules::START;
use crate::table::print as print_table;
use crate::{Effort, in_parallel, randomness};

/// What a sender is like; every mail is independent of every other.
struct Profile {
    name: &'static str,
    /// Share of mails that bounce hard, the same at every ISP.
    hard_bounces: f64,
    /// Share of deliveries that draw a complaint, at ISPs that return complaints.
    complaints: f64,
    runs: usize,
}

const PROFILES: [Profile; 5] = [
    Profile {
        name: "A. healthy: 3 % hard bounces, 0.05 % complaints",
        hard_bounces: 0.03,
        complaints: 0.0005,
        runs: 20,
    },
    Profile { name: "B. good: 2 % hard bounces, 0.03 % complaints", hard_bounces: 0.02, complaints: 0.0003, runs: 10 },
    Profile {
        name: "B. near the limit: 4 % hard bounces, 0.05 % complaints",
        hard_bounces: 0.04,
        complaints: 0.0005,
        runs: 10,
    },
    Profile {
        name: "B. at the bounce limit: 5 % hard bounces, 0.05 % complaints",
        hard_bounces: 0.05,
        complaints: 0.0005,
        runs: 10,
    },
    Profile {
        name: "B. at the complaint limit: 3 % hard bounces, 0.1 % complaints",
        hard_bounces: 0.03,
        complaints: 0.001,
        runs: 10,
    },
];

/// Which share of the mail each ISP receives, by the names of the built-in map.
const MIX: [(&str, f64); 5] = [("gmail", 0.45), ("microsoft", 0.22), ("yahoo", 0.13), ("apple", 0.08), ("other", 0.12)];

const DAYS: i64 = 30;
/// Outcomes arrive after one second plus this number of seconds on average; never later than two minutes.
const MEAN_OUTCOME_SECONDS: f64 = 5.0;
/// Complaints arrive up to this number of hours after the delivery, with uniformly distributed delays.
const COMPLAINT_HOURS: f64 = 12.0;

/// Prints a table for each profile.
pub(crate) fn print(policy: &Policy, seed: u64, effort: Effort) {
    let mails = if effort == Effort::Full { 1_000_000 } else { 20_000 };
    for (table, profile) in (0..).zip(&PROFILES) {
        let runs = if effort == Effort::Full { profile.runs } else { 1 };
        let months = in_parallel(runs, |run| Month::simulate(policy, profile, mails, randomness(seed, table, run)));
        println!("{}; {runs} runs of {} mails over {DAYS} days", profile.name, thousands(mails));
        print_months(policy, &months);
    }
}

fn print_months(policy: &Policy, months: &[Month]) {
    let names = std::iter::once("(all)").chain(MIX.iter().map(|(name, _)| *name));
    let mut rows = Vec::new();
    for (key, name) in names.enumerate() {
        let isp = (key > 0).then(|| isp_named(policy, name));
        let mails = months.iter().map(|month| month.mails[key]).sum();
        let silent = isp.is_some_and(|isp| !policy.isp_map.returns_complaints(isp));
        rows.push(row(name, months, mails, silent, |act| act.isp == isp));
    }
    let total = months.iter().map(|month| month.mails[0]).sum();
    rows.push(row("sum", months, total, false, |_| true));
    let head = [
        "key",
        "mails",
        "cuts: bounces",
        "complaints",
        "per million",
        "stops: bounces",
        "complaints",
        "per million",
        "warnings",
        "runs with a cut",
        "with a stop",
    ];
    print_table(&head, &rows);
    let held = |of: fn(&Month) -> u64| 100.0 * months.iter().map(of).sum::<u64>() as f64 / total as f64;
    let by = |level, rule| count(months, |act| act.level == level && act.rule == rule);
    println!(
        "cuts by evidence {}, by ratio {}; stops by evidence {}, by ratio {}; {:.2} % of the mail was accepted while its \
         key was cut or probed, {:.3} % while it was stopped\n",
        by(Level::Throttle, "cusum"),
        by(Level::Throttle, "ratio"),
        by(Level::Pause, "cusum"),
        by(Level::Pause, "ratio"),
        held(|month| month.while_cut),
        held(|month| month.while_stopped),
    );
}

fn row(name: &str, months: &[Month], mails: u64, silent: bool, of_key: impl Fn(&Act) -> bool + Copy) -> Vec<String> {
    let mut cells = vec![name.to_owned(), thousands(mails)];
    for level in [Level::Throttle, Level::Pause] {
        let by = |metric| count(months, |act| of_key(act) && act.level == level && act.metric == metric);
        let (bounces, complaints) = (by(Metric::HardBounce), by(Metric::Complaint));
        cells.push(thousands(bounces));
        cells.push(if silent { "no data".to_owned() } else { thousands(complaints) });
        cells.push(format!("{:.2}", (bounces + complaints) as f64 * 1e6 / mails as f64));
    }
    cells.push(thousands(count(months, |act| of_key(act) && act.level == Level::Warn)));
    for level in [Level::Throttle, Level::Pause] {
        let hit = |month: &&Month| month.acts.iter().any(|act| of_key(act) && act.level == level);
        cells.push(format!("{} of {}", months.iter().filter(hit).count(), months.len()));
    }
    cells
}

fn count(months: &[Month], which: impl Fn(&Act) -> bool) -> u64 {
    months.iter().flat_map(|month| &month.acts).filter(|act| which(act)).count() as u64
}

fn isp_named(policy: &Policy, name: &str) -> Isp {
    policy.isp_map.by_name(name).unwrap_or(Isp::OTHER)
}

/// An action or a warning of a breaker because of a verdict.
struct Act {
    isp: Option<Isp>,
    level: Level,
    metric: Metric,
    rule: &'static str,
}

/// The result of one run.
struct Month {
    acts: Vec<Act>,
    /// Mails: all, then by ISP in the order of [`MIX`].
    mails: [u64; 1 + MIX.len()],
    /// Mails accepted while their ISP or the sender was throttled or probed …
    while_cut: u64,
    /// … and while it was stopped.
    while_stopped: u64,
}

/// An outcome on its way: when it arrives, for which mail, and what it is.
type Outcome = Reverse<(i64, Minute, Isp, UnitKind)>;

impl Month {
    fn simulate(policy: &Policy, profile: &Profile, mails: u64, mut random: ChaCha8Rng) -> Month {
        let mix = MIX.map(|(name, share)| (isp_named(policy, name), share));
        let mut monitor = Monitor::new(policy);
        let mut month = Month { acts: Vec::new(), mails: [0; 1 + MIX.len()], while_cut: 0, while_stopped: 0 };
        let mut coming: BinaryHeap<Outcome> = BinaryHeap::new();
        let mean_gap = (DAYS * 86_400_000) as f64 / mails as f64;
        let mut clock = START.0 as f64;
        for _ in 0..mails {
            clock += exponential(&mut random) * mean_gap;
            let now = Now(clock as i64);
            while let Some(Reverse((at, cohort, isp, kind))) =
                coming.peek().copied().filter(|Reverse(next)| next.0 <= now.0)
            {
                coming.pop();
                monitor.see(Now(at), cohort, isp, kind);
            }
            let (place, isp) = draw(&mix, &mut random);
            month.mails[0] += 1;
            month.mails[1 + place] += 1;
            let states =
                [None, Some(isp)].map(|isp| monitor.breakers.get(&isp).map(|known| known.state).unwrap_or_default());
            let stopped = states.iter().any(|state| matches!(state, State::Open { .. }));
            month.while_stopped += u64::from(stopped);
            month.while_cut += u64::from(!stopped && states.iter().any(|state| *state != State::Closed));
            monitor.see(now, now.minute(), isp, UnitKind::Sent);

            let seconds = (1.0 + MEAN_OUTCOME_SECONDS * exponential(&mut random)).min(120.0);
            let decided = now.0 + (seconds * 1000.0) as i64;
            if random.random_bool(profile.hard_bounces) {
                coming.push(Reverse((decided, now.minute(), isp, UnitKind::HardBounce)));
                continue;
            }
            coming.push(Reverse((decided, now.minute(), isp, UnitKind::Delivered)));
            if policy.isp_map.returns_complaints(isp) && random.random_bool(profile.complaints) {
                let later = random.random_range(0.0..COMPLAINT_HOURS * 3_600_000.0) as i64;
                coming.push(Reverse((decided + later, now.minute(), isp, UnitKind::Complaint)));
            }
        }
        while let Some(Reverse((at, cohort, isp, kind))) = coming.pop() {
            monitor.see(Now(at), cohort, isp, kind);
        }
        month.acts = monitor.acts;
        month
    }
}

fn exponential(random: &mut ChaCha8Rng) -> f64 {
    -(1.0 - random.random::<f64>()).ln()
}

fn draw(mix: &[(Isp, f64); MIX.len()], random: &mut ChaCha8Rng) -> (usize, Isp) {
    let mut left: f64 = random.random();
    for (place, (isp, share)) in mix.iter().enumerate() {
        left -= share;
        if left < 0.0 {
            return (place, *isp);
        }
    }
    (0, mix[0].0)
}

/// Our monitor of one configuration set whose sender uses the gate: a quick check after each unit of harm, a full
/// judgement if that raises an alarm, at the end of each minute with harm, and whenever a breaker is due. The mail
/// continues, whatever the monitor does.
struct Monitor<'a> {
    policy: &'a Policy,
    timeline: Timeline,
    breakers: BTreeMap<Option<Isp>, BreakerState>,
    harmed: BTreeSet<Isp>,
    now: Now,
    acts: Vec<Act>,
}

impl Monitor<'_> {
    fn new(policy: &Policy) -> Monitor<'_> {
        Monitor {
            policy,
            timeline: Timeline::default(),
            breakers: BTreeMap::new(),
            harmed: BTreeSet::new(),
            now: START,
            acts: Vec::new(),
        }
    }

    fn see(&mut self, now: Now, cohort: Minute, isp: Isp, kind: UnitKind) {
        self.advance(now);
        let returns_complaints = self.policy.isp_map.returns_complaints(isp);
        self.timeline.add(cohort, isp, kind, 1, returns_complaints, now);
        let Some(metric) = Metric::harmed_by(kind) else { return };
        self.harmed.insert(isp);
        if self.alarms(isp, metric) {
            self.assess(&[isp].into());
        }
    }

    fn advance(&mut self, now: Now) {
        let minute_ends = now.minute() > self.now.minute();
        let hour_ends = now.minute().hour() > self.now.minute().hour();
        self.now = self.now.max(now);
        if !minute_ends {
            return;
        }
        let mut isps = std::mem::take(&mut self.harmed);
        let mut anything = !isps.is_empty();
        for (isp, known) in &self.breakers {
            if breaker::due(&self.policy.breaker, known, now).is_some_and(|due| due <= now) {
                isps.extend(isp);
                anything = true;
            }
        }
        if anything {
            self.assess(&isps);
        }
        if hour_ends {
            self.timeline.prune(now);
        }
    }

    fn alarms(&mut self, isp: Isp, metric: Metric) -> bool {
        let whole = self.known(None);
        if matches!(whole.state, State::Open { .. }) {
            return false;
        }
        let (policy, now) = (self.policy, self.now);
        let since = self.since_of(isp);
        if !whole.state.is_contained()
            && Judge::new(policy, Some(isp), &[], now).alarm(&mut self.timeline, since, metric) > Some(Level::Warn)
        {
            return true;
        }
        let left_out = self.left_out();
        Judge::new(policy, None, &left_out, now).alarm(&mut self.timeline, whole.since, metric) > Some(Level::Warn)
    }

    /// Judges these ISPs, then the sender without the harm that they answer for.
    fn assess(&mut self, isps: &BTreeSet<Isp>) {
        let whole = self.known(None);
        if !whole.state.is_contained() {
            for isp in isps {
                let since = self.since_of(*isp);
                self.step(Some(*isp), &[], since);
            }
        }
        let left_out = self.left_out();
        self.step(None, &left_out, whole.since);
    }

    fn step(&mut self, isp: Option<Isp>, left_out: &[ExcludedIsp], since: ArmedSince) {
        let known = self.known(isp);
        let judge =
            Judge::new(self.policy, isp, left_out, self.now).testing(breaker::test_of(&self.policy.breaker, &known));
        let judgement = judge.judgement(&mut self.timeline, since);
        let standing = ActionLimits { cap: Level::Pause, may_pause: true, holds_shares: true };
        let step = breaker::step(&self.policy.breaker, standing, &known, Input::Judged(&judgement), self.now);
        let act = step.news.as_ref().and_then(|news| Some((news.level?, news.verdict?)));
        if let Some((level, Verdict { metric, rule, .. })) = act {
            self.acts.push(Act { isp, level, metric, rule: rule.name().name() });
        }
        if step.next != known {
            self.breakers.insert(isp, step.next);
        }
    }

    fn known(&self, isp: Option<Isp>) -> BreakerState {
        self.breakers.get(&isp).cloned().unwrap_or_default()
    }

    fn since_of(&self, isp: Isp) -> ArmedSince {
        let whole = self.breakers.get(&None).map(|known| known.since.pause).unwrap_or_default();
        let own = self.breakers.get(&Some(isp)).map(|known| known.since).unwrap_or_default();
        own.max(ArmedSince::both(whole))
    }

    fn left_out(&self) -> Vec<ExcludedIsp> {
        let whole = self.breakers.get(&None).map(|known| known.since.pause).unwrap_or_default();
        let answered_for = |(isp, known): (&Option<Isp>, &BreakerState)| {
            let before = if known.state.is_contained() { Minute(u32::MAX) } else { known.since.pause };
            Some(ExcludedIsp { isp: (*isp)?, before }).filter(|left_out| left_out.before > whole)
        };
        self.breakers.iter().filter_map(answered_for).collect()
    }
}
