//! The data of a page: the same document for a replay and for a live stack.
//!
//! Times are minutes or milliseconds since 1970, in UTC; shares are between 0 and 1. It is read by `page/page.js` and by nothing
//! else, and may change with it.

use std::collections::{BTreeMap, BTreeSet};

use reputation::breaker::{Override, State, StateName};
use reputation::counters::{Counters, Metric, Tally};
use reputation::detect::NAT;
use reputation::isp::Isp;
use reputation::policy::{Mode, Policy};
use reputation::subject::{Key, Subject};
use reputation::time::{DAY, HOUR, Minute};
use reputation::timeline::{KEEP_DAYS, KEEP_HOURS, KEEP_MINUTES, Series, Timeline};
use reputation::unit::UnitKind;
use serde::Serialize;
use terminal::sanitize;

use crate::driver::Replay;
use crate::evidence::Track;
use crate::quota::QuotaRow;
use crate::report::{Report, ReportedBreaker, ReportedControl, ReportedStop, Total};

/// The number of keys that are shown with their course; those whose breaker moved come first, then those with the most mail.
pub const MAX_KEYS: usize = 120;
/// The number of transitions and controls that are shown, the latest ones.
pub const MAX_MOVES: usize = 3_000;
/// The number of classes of diagnoses that are shown, the most frequent ones.
const MAX_DIAGNOSES: usize = 200;
/// The number of rows of quotas that are shown, the latest ones.
const MAX_QUOTAS: usize = 20_000;

/// Everything that a page shows.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// `replay`, of event files; `live`, of a stack.
    pub kind: &'static str,
    /// The title: the input, or stack and Region.
    pub title: String,
    /// The end of commands about it: the input, or the options that name the stack.
    pub arguments: Vec<String>,
    /// The policy: its file, or its version.
    pub policy: String,
    /// Whether the policy decides without acting.
    pub shadow: bool,
    /// Whether the sender's application asks the gate. If not, only what SES has a switch for can be stopped.
    pub gate: bool,
    /// The time of the view, in milliseconds since 1970: the end of the virtual clock, or now.
    pub now: i64,
    /// The bins of every course.
    pub grid: Grid,
    /// The limits and thresholds of rates and evidence.
    pub lines: Vec<Lines>,
    /// All mail, each counted once: the sum of the configuration sets.
    pub whole: BTreeMap<&'static str, u64>,
    /// Its rates, by metric.
    pub whole_rates: BTreeMap<&'static str, Rate>,
    /// Mail that was accepted while its configuration set was stopped; null = not known.
    pub after_pause: Option<u64>,
    /// The keys, whole subjects before their ISPs.
    pub keys: Vec<KeyView>,
    /// Keys that are left out, because there are too many.
    pub keys_left_out: usize,
    /// What breakers did, with the notices, in order: each a [`TransitionRecord`](crate::report::TransitionRecord).
    pub transitions: Vec<serde_json::Value>,
    /// What SES and the gate were asked to do, in order.
    pub controls: Vec<ReportedControl>,
    /// Transitions and controls that are left out, because there are too many.
    pub moves_left_out: usize,
    /// Mail that was accepted while its key was stopped.
    pub stopped: Vec<ReportedStop>,
    /// Groups of subjects that share all their mail.
    pub same_mail: Vec<Vec<String>>,
    /// What servers said.
    pub diagnoses: Vec<Diagnosis>,
    /// Units with a diagnosis that is not shown.
    pub diagnoses_left_out: u64,
    /// Quotas by day.
    pub quotas: Vec<QuotaView>,
    /// Warnings: reasons to trust the rest less.
    pub warnings: Vec<String>,
    /// What was read, as a sentence; empty for a live stack.
    pub read: String,
    /// Seconds between two looks at a live stack; 0 for a replay.
    pub refresh_seconds: u32,
}

/// Bins of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Grid {
    /// First minute of the first bin.
    pub from: u32,
    /// Minutes of a bin: 1, 5, 15, 60 or 1440.
    pub step: u32,
    /// The number of bins.
    pub bins: u32,
}

/// The lines of one metric.
#[derive(Clone, Debug, Serialize)]
pub struct Lines {
    /// The metric: see [`Metric::name`].
    pub metric: &'static str,
    /// The accepted rate.
    pub limit: f64,
    /// Evidence at which a quota is cut, in nats; null = never.
    pub throttle: Option<f64>,
    /// Evidence at which mail is stopped, in nats; null = never.
    pub pause: Option<f64>,
    /// Whether it is also judged over all ISPs.
    pub over_all: bool,
    /// The lines of ratio rules: level and share.
    pub ratios: Vec<(&'static str, f64)>,
}

/// A rate with its parts.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Numerator.
    pub bad: u64,
    /// Denominator.
    pub population: u64,
    /// The rate; null = no data.
    pub rate: Option<f64>,
}

impl From<Tally> for Rate {
    fn from(tally: Tally) -> Rate {
        Rate { bad: tally.bad, population: tally.population, rate: tally.rate() }
    }
}

/// A key and its course.
#[derive(Clone, Debug, Serialize)]
pub struct KeyView {
    /// The subject.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// State of its breaker.
    pub state: StateName,
    /// The share of the quota that may be sent.
    pub factor: f64,
    /// Since when it has been in this state (RFC 3339).
    pub since: Option<String>,
    /// When it changes by itself (RFC 3339).
    pub until: Option<String>,
    /// How often it has opened since its trips were last forgiven.
    pub trips: u32,
    /// A person's command about it.
    pub hold: Override,
    /// Units by kind, except those of 0.
    pub counters: BTreeMap<&'static str, u64>,
    /// Rates over the whole time, by metric.
    pub rates: BTreeMap<&'static str, Rate>,
    /// Its course.
    pub course: Course,
    /// Evidence over time, by metric: (milliseconds since 1970, nats).
    pub evidence: BTreeMap<&'static str, Vec<(i64, f32)>>,
}

/// Mail by bin. Each list is as long as there are bins, or empty if all of it is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Course {
    /// Mails sent, or with an outcome where sends are not published.
    pub mails: Vec<u64>,
    /// Denominators, in the order of [`Metric::ALL`].
    pub population: [Vec<u64>; Metric::ALL.len()],
    /// Numerators.
    pub bad: [Vec<u64>; Metric::ALL.len()],
}

/// What servers said about some mail.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// The configuration set.
    pub subject: String,
    /// The ISP.
    pub isp: String,
    /// Kind of unit: see [`UnitKind::counter_name`].
    pub kind: &'static str,
    /// SES's words.
    pub words: String,
    /// Enhanced status code; empty if there was none.
    pub status: String,
    /// Why the sender is refused, if the text says so.
    pub refusal: Option<&'static str>,
    /// Units.
    pub count: u64,
    /// First minute in which such mail was accepted.
    pub from: u32,
    /// Last minute in which such mail was accepted.
    pub to: u32,
    /// SES's id of one such message.
    pub example: String,
}

/// A quota of one day.
#[derive(Clone, Debug, Serialize)]
pub struct QuotaView {
    /// The configuration set.
    pub set: String,
    /// The ISP.
    pub isp: String,
    /// The day (YYYY-MM-DD).
    pub day: String,
    /// Mails that may be granted.
    pub quota: u64,
    /// Mails that were asked for; null = not known.
    pub asked: Option<u64>,
    /// Mails that were granted.
    pub granted: u64,
    /// The result of the quota of the day before.
    pub step: &'static str,
    /// The reason.
    pub reason: String,
}

impl Grid {
    /// Bins for `[from, to]`, as fine as the counters at `now` and a page allow; of more than 400 days, the last ones.
    pub fn over(from: Minute, to: Minute, now: Minute) -> Grid {
        let from = from.max(to.minus(KEEP_DAYS - DAY));
        // Fine counters are kept for some time before now, however short the time of the mail was.
        let minutes = to.max(now).0.saturating_sub(from.0) + 1;
        let step = match minutes {
            0..=180 => 1,
            181..=720 => 5,
            721..=KEEP_MINUTES => 15,
            _ if minutes <= KEEP_HOURS => HOUR,
            _ => DAY,
        };
        let first = from.0 / step * step;
        Grid { from: first, step, bins: (to.0 - first.min(to.0)) / step + 1 }
    }

    /// The bin of a minute.
    fn bin(self, minute: Minute) -> Option<usize> {
        let bin = minute.0.checked_sub(self.from)? / self.step;
        (bin < self.bins).then_some(bin as usize)
    }
}

impl Course {
    /// The course of a series over a grid. `knows_its_mail`: see [`Timeline::knows_its_mail`].
    pub fn of(series: &Series, grid: Grid, knows_its_mail: bool) -> Course {
        let mut bins: BTreeMap<usize, Counters> = BTreeMap::new();
        let mut add = |(from, counters): (Minute, &Counters)| {
            if let Some(bin) = grid.bin(from) {
                bins.entry(bin).or_default().merge(counters);
            }
        };
        match grid.step {
            ..HOUR => series.minutes().for_each(&mut add),
            HOUR..DAY => series.hours().for_each(&mut add),
            DAY.. => series.days().for_each(&mut add),
        }
        let mut course = Course::default();
        let mut put = |list: fn(&mut Course) -> &mut Vec<u64>, bin: usize, count: u64| {
            if count > 0 {
                let list = list(&mut course);
                list.resize(grid.bins as usize, 0);
                list[bin] = count;
            }
        };
        for (bin, counters) in bins {
            put(|course| &mut course.mails, bin, u64::from(counters.get(UnitKind::Sent)).max(counters.attempts()));
            if !knows_its_mail {
                continue;
            }
            let [bounce, complaint, delay, block] = Metric::ALL.map(|metric| counters.tally(metric));
            put(|course| &mut course.population[0], bin, bounce.population);
            put(|course| &mut course.population[1], bin, complaint.population);
            put(|course| &mut course.population[2], bin, delay.population);
            put(|course| &mut course.population[3], bin, block.population);
            put(|course| &mut course.bad[0], bin, bounce.bad);
            put(|course| &mut course.bad[1], bin, complaint.bad);
            put(|course| &mut course.bad[2], bin, delay.bad);
            put(|course| &mut course.bad[3], bin, block.bad);
        }
        course
    }
}

/// The lines of a policy.
pub fn lines(policy: &Policy) -> Vec<Lines> {
    let nats = |nats: Option<i64>| nats.map(|nats| nats as f64 / NAT as f64);
    let of = |metric: Metric| {
        let rule = policy.metrics.rule(metric);
        let ratios = policy.ratios.iter().filter(|ratio| ratio.metric == metric).flat_map(|ratio| {
            let lines = [("warn", ratio.warn), ("throttle", ratio.throttle), ("pause", ratio.pause)];
            lines.into_iter().filter_map(|(level, line)| Some((level, line?)))
        });
        Lines {
            metric: metric.name(),
            limit: rule.limit,
            throttle: nats(rule.throttle),
            pause: nats(rule.pause),
            over_all: policy.judges(metric, None),
            ratios: ratios.collect(),
        }
    };
    Metric::ALL.map(of).into()
}

impl KeyView {
    /// A key with a timeline; closed, and without evidence. Counters and rates cover the grid's time.
    pub fn of(key: &Key, policy: &Policy, timeline: &Timeline, grid: Grid) -> Option<KeyView> {
        let series = timeline.series(key.isp)?;
        let mut sum = Counters::default();
        let cohorts: Box<dyn Iterator<Item = (Minute, &Counters)>> = match grid.step {
            ..DAY => Box::new(series.hours()),
            DAY.. => Box::new(series.days()),
        };
        let within = |from: &Minute| from.plus(HOUR).0 > grid.from;
        cohorts.filter(|(from, _)| within(from)).for_each(|(_, counters)| sum.merge(counters));
        Some(KeyView {
            counters: counted(&sum),
            rates: rates(&sum, timeline.knows_its_mail()),
            course: Course::of(series, grid, timeline.knows_its_mail()),
            ..KeyView::silent(key.subject.to_string(), key.isp.map(|isp| policy.isp_map.name(isp).to_owned()))
        })
    }

    /// A key without mail; closed.
    pub fn silent(subject: String, isp: Option<String>) -> KeyView {
        KeyView {
            subject,
            isp,
            state: StateName::Closed,
            factor: 1.0,
            since: None,
            until: None,
            trips: 0,
            hold: Override::None,
            counters: BTreeMap::new(),
            rates: rates(&Counters::default(), false),
            course: Course::default(),
            evidence: BTreeMap::new(),
        }
    }

    /// Sets the state of its breaker.
    #[must_use]
    pub fn with(mut self, breaker: &ReportedBreaker, hold: Override) -> KeyView {
        self.state = breaker.state;
        self.factor = breaker.factor;
        self.since.clone_from(&breaker.since);
        self.until.clone_from(&breaker.until);
        self.trips = breaker.trips;
        self.hold = hold;
        self
    }
}

/// Counters that are not 0, by name.
pub fn counted(counters: &Counters) -> BTreeMap<&'static str, u64> {
    let of = |kind: UnitKind| (kind.counter_name(), u64::from(counters.get(kind)));
    UnitKind::ALL.map(of).into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Rates by metric.
pub fn rates(counters: &Counters, knows_its_mail: bool) -> BTreeMap<&'static str, Rate> {
    let of = |metric: Metric| {
        let tally = if knows_its_mail { counters.tally(metric) } else { Tally::default() };
        (metric.name(), tally.into())
    };
    Metric::ALL.map(of).into()
}

impl View {
    /// The view of a replay and its report. `input`: as given; `policy`: its file, if it was not the built-in one.
    pub fn of(replay: &Replay, report: &Report, input: &[String], policy: Option<&str>) -> View {
        let rules = &replay.policy;
        let (from, to) = replay.tallies.mail.unwrap_or_default();
        let grid = Grid::over(from, to, replay.now().minute());
        let (keys, keys_left_out) = keys(replay, report, grid);
        let (diagnoses, diagnoses_left_out) = diagnoses(replay, report);
        // Each mail belongs to one configuration set. A report about another subject covers that subject's mail.
        let any_set = report.totals.iter().any(|total| total.subject.is_part_of_account());
        let is_set = |total: &&Total| !any_set || total.subject.is_part_of_account();
        let (mut whole, mut rates) = (BTreeMap::new(), BTreeMap::new());
        for kind in UnitKind::ALL {
            let sum: u64 = report.totals.iter().filter(is_set).map(|total| total.get(kind)).sum();
            if sum > 0 {
                whole.insert(kind.counter_name(), sum);
            }
        }
        for metric in Metric::ALL {
            let tally = crate::report::tally(report.totals.iter().filter(is_set), metric);
            rates.insert(metric.name(), tally.into());
        }
        let is_whole_set =
            |stop: &&ReportedStop| stop.isp.is_none() && (!any_set || stop.subject.starts_with("configuration-set:"));
        let (transitions, cut) = last(&report.transitions, MAX_MOVES);
        let transitions = transitions.iter().filter_map(|transition| serde_json::to_value(transition).ok()).collect();
        let (controls, cut_controls) = last(&report.controls, MAX_MOVES);
        let quotas = report.quota.iter().flatten().map(QuotaView::of).collect::<Vec<_>>();
        View {
            kind: "replay",
            title: sanitize(&input.join(" ")),
            arguments: input
                .iter()
                .cloned()
                .chain(policy.into_iter().flat_map(|file| ["--policy".to_owned(), file.to_owned()]))
                .chain(report.gate.then(|| "--gate".to_owned()))
                .collect(),
            policy: policy.map_or_else(|| "built-in policy".to_owned(), sanitize),
            shadow: rules.mode == Mode::Shadow,
            gate: report.gate,
            now: replay.now().0,
            grid,
            lines: lines(rules),
            whole,
            whole_rates: rates,
            after_pause: Some(
                report.stopped.iter().filter(is_whole_set).map(|stop| stop.sent.max(stop.attempts)).sum(),
            ),
            keys,
            keys_left_out,
            transitions,
            controls,
            moves_left_out: cut + cut_controls,
            stopped: last(&report.stopped, MAX_MOVES).0,
            same_mail: report.same_mail.clone(),
            diagnoses,
            diagnoses_left_out,
            quotas: last(&quotas, MAX_QUOTAS).0,
            warnings: report.warnings.iter().map(|warning| warning.words(str::to_owned)).collect(),
            read: read(report),
            refresh_seconds: 0,
        }
    }
}

/// The last `most`, and the number before them.
fn last<T: Clone>(list: &[T], most: usize) -> (Vec<T>, usize) {
    let cut = list.len().saturating_sub(most);
    (list[cut..].to_vec(), cut)
}

fn read(report: &Report) -> String {
    let read = format!("{}. {}", report.input.words(), report.gate_words());
    match &report.input.broken_off {
        Some(why) => format!("{read}; reading ended too early: {why}"),
        None => read,
    }
}

/// The keys of a report with their course, and the number left out.
fn keys(replay: &Replay, report: &Report, grid: Grid) -> (Vec<KeyView>, usize) {
    let wanted: BTreeSet<String> = report.totals.iter().map(|total| total.subject.to_string()).collect();
    let isps = &replay.policy.isp_map;
    let moved = report.transitions.iter().map(|moved| (&moved.subject, moved.isp.as_deref()));
    let moved: BTreeSet<(&Subject, Option<&str>)> = moved.collect();
    // Keys that are not closed, then those that moved, then whole subjects; then by volume.
    let mut ranked: Vec<([bool; 3], u64, Key)> = Vec::new();
    for (subject, subject_state) in replay.reputation.subject_states() {
        let name = subject.to_string();
        if !wanted.contains(&name) {
            continue;
        }
        for isp in std::iter::once(None).chain(subject_state.timeline.isps().map(Some)) {
            let mail =
                |(_, counters): (Minute, &Counters)| u64::from(counters.get(UnitKind::Sent)).max(counters.attempts());
            let volume = subject_state.timeline.series(isp).map_or(0, |series| series.days().map(mail).sum());
            let unsettled = subject_state.breaker(isp).breaker.state != State::Closed;
            let has_moved = moved.contains(&(subject, isp.map(|isp| isps.name(isp))));
            let rank = [unsettled, has_moved, isp.is_none()];
            ranked.push((rank, volume, Key { subject: subject.clone(), isp }));
        }
    }
    ranked.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)).then_with(|| a.2.cmp(&b.2)));
    let left_out = ranked.len().saturating_sub(MAX_KEYS);
    ranked.truncate(MAX_KEYS);
    let volumes: BTreeMap<Key, u64> = ranked.into_iter().map(|(_, volume, key)| (key, volume)).collect();
    let volume_of = |key: &Key| volumes.get(key).copied().unwrap_or(0);
    let mut chosen: Vec<&Key> = volumes.keys().collect();
    // The subject with the most mail first, each followed by its ISPs.
    chosen.sort_by_cached_key(|key| {
        let whole = Key { subject: key.subject.clone(), isp: None };
        (std::cmp::Reverse(volume_of(&whole)), key.subject.to_string(), key.isp.is_some(), {
            std::cmp::Reverse(volume_of(key))
        })
    });
    let view = |key: &Key| {
        let (_, subject_state) = replay.reputation.subject_states().find(|(subject, _)| **subject == key.subject)?;
        let known = subject_state.breaker(key.isp).breaker;
        let mut view = KeyView::of(key, &replay.policy, &subject_state.timeline, grid)?;
        // The report's totals cover all days, and so does this.
        let mut sum = Counters::default();
        subject_state.timeline.series(key.isp)?.days().for_each(|(_, counters)| sum.merge(counters));
        (view.counters, view.rates) = (counted(&sum), rates(&sum, subject_state.timeline.knows_its_mail()));
        for (metric, track) in Metric::ALL.into_iter().zip(replay.evidence.as_ref()?.tracks(key).into_iter().flatten())
        {
            let rounded = |(at, nats): &(i64, f32)| (*at, (nats * 100.0).round() / 100.0);
            let track: Track = track.iter().map(rounded).collect();
            if !track.is_empty() {
                view.evidence.insert(metric.name(), track);
            }
        }
        Some(view.with(&ReportedBreaker::of(replay, key, &known), Override::None))
    };
    let mut keys: Vec<KeyView> = chosen.into_iter().filter_map(view).collect();
    // A held ISP, and the account, have no mail of their own.
    for breaker in &report.breakers {
        if !keys.iter().any(|key| key.subject == breaker.subject && key.isp == breaker.isp) {
            keys.push(KeyView::silent(breaker.subject.clone(), breaker.isp.clone()).with(breaker, Override::None));
        }
    }
    (keys, left_out)
}

fn diagnoses(replay: &Replay, report: &Report) -> (Vec<Diagnosis>, u64) {
    let wanted: BTreeSet<&Subject> = report.totals.iter().map(|total| &total.subject).collect();
    // A report about one identity alone has no configuration set to name.
    let (mut all, mut left_out) = diagnoses_of(replay, None, |subjects| {
        subjects.iter().find(|subject| wanted.contains(subject)).map(Subject::to_string)
    });
    left_out += all.iter().skip(MAX_DIAGNOSES).map(|row| row.count).sum::<u64>();
    all.truncate(MAX_DIAGNOSES);
    (all, left_out)
}

/// What servers said, at one ISP or at all ISPs, the most frequent first; and the number of units whose diagnosis is not kept.
/// `subject`: the name under which the mail of these subjects is shown, if it is.
pub(crate) fn diagnoses_of(
    replay: &Replay,
    at: Option<Isp>,
    subject: impl Fn(&[Subject]) -> Option<String>,
) -> (Vec<Diagnosis>, u64) {
    let Some(book) = &replay.diagnoses else { return (Vec::new(), 0) };
    type Row = (String, Isp, UnitKind, crate::diagnosis::Class);
    let mut rows: BTreeMap<Row, crate::diagnosis::DiagnosisCount> = BTreeMap::new();
    for ((sender, isp, kind), class, transition) in
        book.classes().filter(|((_, isp, _), ..)| at.is_none_or(|at| at == *isp))
    {
        let Some(subject) = subject(replay.subjects_of(*sender)) else { continue };
        let row = rows.entry((subject, *isp, *kind, class.clone()));
        row.and_modify(|known| {
            known.count += transition.count;
            known.mail = (known.mail.0.min(transition.mail.0), known.mail.1.max(transition.mail.1));
        })
        .or_insert_with(|| transition.clone());
    }
    let mut all: Vec<Diagnosis> = rows
        .into_iter()
        .map(|((subject, isp, kind, class), transition)| Diagnosis {
            subject,
            isp: replay.policy.isp_map.name(isp).to_owned(),
            kind: kind.counter_name(),
            words: class.words,
            status: class.status,
            refusal: class.refusal,
            count: transition.count,
            from: transition.mail.0.0,
            to: transition.mail.1.0,
            example: transition.example,
        })
        .collect();
    all.sort_by_key(|row| std::cmp::Reverse(row.count));
    (all, book.left_out())
}

impl QuotaView {
    fn of(row: &QuotaRow) -> QuotaView {
        QuotaView {
            set: row.configuration_set.clone(),
            isp: row.isp.clone(),
            day: row.day.clone(),
            quota: row.quota,
            asked: Some(row.asked),
            granted: row.granted,
            step: row.step,
            reason: row.reason.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_as_fine_as_what_is_kept_of_the_time() {
        for (minutes, step, bins) in [
            (1, 1, 1),
            (180, 1, 180),
            (181, 5, 37),
            (DAY, 15, 96),
            (3 * DAY, HOUR, 72),
            (30 * DAY, HOUR, 720),
            (40 * DAY, DAY, 40),
        ] {
            let from = Minute(20_000 * DAY);
            assert_eq!(Grid::over(from, from.plus(minutes - 1), from), Grid { from: from.0, step, bins }, "{minutes}");
        }
    }

    #[test]
    fn a_course_adds_up_to_what_was_counted() {
        let mut timeline = Timeline::default();
        let from = Minute(20_000 * DAY);
        let now = reputation::time::Now(i64::from(from.0 + DAY) * 60_000);
        for minute in 0..300 {
            timeline.add(from.plus(minute), Isp::OTHER, UnitKind::Sent, 2, true, now);
            timeline.add(from.plus(minute), Isp::OTHER, UnitKind::HardBounce, u32::from(minute == 77), true, now);
        }
        let grid = Grid::over(from, from.plus(299), now.minute());
        let course = Course::of(timeline.series(None).unwrap(), grid, true);
        assert_eq!(course.mails.iter().sum::<u64>(), 600);
        assert_eq!((course.bad[0][77 / 15], course.bad[0].iter().sum::<u64>()), (1, 1));
        assert!(course.bad[1].is_empty());
    }
}
