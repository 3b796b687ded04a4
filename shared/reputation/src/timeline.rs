//! The counters of one subject, per ISP, in cohorts of a minute, an hour and a day.
//!
//! Minutes are kept for 2 days, hours for 35 and days for 400: older cohorts of a length are dropped, and late units
//! for them still count in the longer ones.

use std::collections::VecDeque;
use std::collections::vec_deque;

use crate::counters::Counters;
use crate::detect::{Ladder, Walk};
use crate::grouped::Grouped;
use crate::time::{DAY, HOUR, Minute, Now};
use crate::unit::{Unit, UnitKind};
use crate::{Isp, Metric};

/// How long minute cohorts are kept.
pub const KEEP_MINUTES: u32 = 2 * DAY;
/// How long hour cohorts are kept.
pub const KEEP_HOURS: u32 = 35 * DAY;
/// How long day cohorts are kept.
pub const KEEP_DAYS: u32 = 400 * DAY;

/// A length of cohorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Length {
    /// Mail accepted in one minute.
    Minute,
    /// Mail accepted in one hour.
    Hour,
    /// Mail accepted on one UTC day.
    Day,
}

impl Length {
    /// All lengths, the shortest first.
    pub const ALL: [Length; 3] = [Length::Minute, Length::Hour, Length::Day];

    /// First minute of the cohort of this length that holds `minute`.
    pub fn start(self, minute: Minute) -> Minute {
        match self {
            Length::Minute => minute,
            Length::Hour => minute.hour(),
            Length::Day => minute.day(),
        }
    }

    /// For how many minutes from their start cohorts of this length are kept.
    pub fn kept(self) -> u32 {
        match self {
            Length::Minute => KEEP_MINUTES,
            Length::Hour => KEEP_HOURS,
            Length::Day => KEEP_DAYS,
        }
    }

    /// Whether `minute` still counts in a cohort of this length at `now`. Days are few, and always accept late units.
    pub fn reaches(self, minute: Minute, now: Now) -> bool {
        match self {
            Length::Minute => minute >= now.minute().minus(KEEP_MINUTES),
            Length::Hour => minute >= now.minute().minus(KEEP_HOURS).hour(),
            Length::Day => true,
        }
    }
}

/// Most senders have few ISPs and few cohorts: up to this number, memory is allocated without spare room.
const FEW: usize = 4;
/// After this number of minutes without mail, the cached walks of a series are dropped, and computed again on demand.
const IDLE: u32 = 6 * HOUR;

/// Judging uses minutes in the newest part of a timeline and hours before it. The minutes start this number of minutes
/// back (then at the full hour).
pub const FINE: u32 = 2 * HOUR;
/// Judging uses the hour cohorts of this number of minutes before the fine part, from the start of a day on.
pub const COARSE: u32 = 8 * DAY;

/// The counters of one subject.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The sum over all ISPs, once it differs from the single ISP's: most senders are small, and have mail at one ISP.
    all: Option<Box<Series>>,
    /// Sorted by ISP.
    isps: Vec<(Isp, Series)>,
    knows_its_mail: bool,
    /// Whether any ISP without a known loop counts in complaint rates, because a complaint has come from there.
    has_heard: bool,
}

impl Timeline {
    /// Counts `count` units of mail accepted in `minute`. `has_loop`: whether `isp` is known to return complaints
    /// ([`IspMap::returns_complaints`](crate::IspMap::returns_complaints)). A unit that is too old for minutes or hours
    /// at `now` counts only in the longer cohorts.
    pub fn add(&mut self, minute: Minute, isp: Isp, kind: UnitKind, count: u32, has_loop: bool, now: Now) {
        self.count(minute, isp, (kind, count, Grouped::default()), has_loop, Reach::at(now, minute));
    }

    /// Counts one unit, as [`Timeline::add`], with its cause.
    pub fn add_unit(&mut self, unit: &Unit, has_loop: bool, now: Now) {
        let counted = (unit.kind, 1, unit.bucket.into());
        self.count(unit.cohort, unit.isp, counted, has_loop, Reach::at(now, unit.cohort));
    }

    /// Loads a stored row: `count` units in the cohort of this length that begins at `from`. Rows of the three lengths
    /// are stored and loaded separately.
    pub fn load(&mut self, (length, from): (Length, Minute), isp: Isp, kind: UnitKind, count: u32, has_loop: bool) {
        self.count(from, isp, (kind, count, Grouped::default()), has_loop, Reach::only(length));
    }

    /// Loads from a stored row the causes of its units of this kind; [`Timeline::load`] counts them.
    pub fn load_causes(&mut self, (length, from): (Length, Minute), isp: Isp, kind: UnitKind, causes: Grouped) {
        let counted = (kind, 0, causes);
        self.count(from, isp, counted, false, Reach::only(length));
    }

    fn count(&mut self, minute: Minute, isp: Isp, counted: Counted, has_loop: bool, reach: Reach) {
        let (kind, count, _) = counted;
        self.knows_its_mail |= matches!(kind, UnitKind::Sent | UnitKind::Delivered);
        if kind == UnitKind::Complaint && count > 0 && !has_loop {
            self.hear(isp);
        }
        let index = self.index_of(isp);
        let heard = has_loop || self.isps[index].1.heard;
        if let Some(all) = &mut self.all {
            all.add(minute, counted, has_loop, reach);
        }
        self.isps[index].1.add(minute, counted, heard, reach);
    }

    /// From now on the sum over all ISPs differs from the single ISP's.
    fn part(&mut self) {
        if self.all.is_none() {
            let only = self.isps.first().map(|(_, only)| only.clone());
            self.all = Some(Box::new(only.unwrap_or_default()));
        }
    }

    fn index_of(&mut self, isp: Isp) -> usize {
        match self.isps.binary_search_by_key(&isp, |(isp, _)| *isp) {
            Ok(index) => index,
            Err(index) => {
                let known = self.isps.len();
                if known == 1 {
                    self.part();
                }
                if known == self.isps.capacity() && known < FEW {
                    self.isps.reserve_exact(known.max(1));
                }
                self.isps.insert(index, (isp, Series::default()));
                index
            }
        }
    }

    /// Records that a complaint from this ISP, which has no known loop, has reached the sender. From then on its
    /// complaints are data: the absence of a complaint means that the recipient did not complain, also for mail counted
    /// before. For sums over ISPs see [`Timeline::heard_in_sums`].
    pub fn hear(&mut self, isp: Isp) {
        let index = self.index_of(isp);
        if self.isps[index].1.heard {
            return;
        }
        // The sum does not contain this ISP's mail that could have led to a complaint.
        self.part();
        let series = &mut self.isps[index].1;
        series.heard = true;
        self.has_heard = true;
        for own in [&mut series.minutes, &mut series.hours, &mut series.days] {
            for (_, counters) in &mut own.0 {
                *counters = counters.heard();
            }
        }
        series.memory = None;
    }

    /// The ISPs without a known loop whose mail counts in complaint rates over ISPs: those whose own rate is at least
    /// 0.1 %, from which on SES reviews accounts. The mail of the others would dilute the rate, and one complaint from
    /// a large ISP would hide the rates at all others.
    pub fn heard_in_sums(&self) -> impl Iterator<Item = Isp> + '_ {
        self.heard_by_isp().map(|(isp, _)| isp)
    }

    fn heard_by_isp(&self) -> impl Iterator<Item = (Isp, &Series)> {
        let heard = self.isps.iter().filter(|(_, series)| self.has_heard && series.heard && series.complains());
        heard.map(|(isp, series)| (*isp, series))
    }

    /// Whether a complaint from this ISP was ever counted here, or noted by [`Timeline::hear`].
    pub fn has_heard(&self, isp: Isp) -> bool {
        self.series(Some(isp)).is_some_and(|series| series.heard)
    }

    /// Whether the amount of mail is known, from Send or Delivery events. Bounces alone do not give a rate, and a
    /// sender that publishes nothing else is not judged.
    pub fn knows_its_mail(&self) -> bool {
        self.knows_its_mail
    }

    /// The ISPs that ever received mail of this subject, in a stable order.
    pub fn isps(&self) -> impl Iterator<Item = Isp> + '_ {
        self.isps.iter().map(|(isp, _)| *isp)
    }

    /// The counters at one ISP, or at all ISPs.
    pub fn series(&self, isp: Option<Isp>) -> Option<&Series> {
        match isp {
            None => self.all.as_deref().or_else(|| self.isps.first().map(|(_, only)| only)),
            Some(isp) => {
                let index = self.isps.binary_search_by_key(&isp, |(isp, _)| *isp).ok()?;
                Some(&self.isps[index].1)
            }
        }
    }

    pub(crate) fn series_mut(&mut self, isp: Option<Isp>) -> Option<&mut Series> {
        match isp {
            None => match &mut self.all {
                Some(all) => Some(all),
                None => self.isps.first_mut().map(|(_, only)| only),
            },
            Some(isp) => {
                let index = self.isps.binary_search_by_key(&isp, |(isp, _)| *isp).ok()?;
                Some(&mut self.isps[index].1)
            }
        }
    }

    /// The cells that judging at `now` walks over: hours up to `edge(now)`, then minutes; none before `since`, and
    /// without the excluded mail.
    pub fn cells(&self, isp: Option<Isp>, left_out: &[ExcludedIsp], since: Minute, now: Now) -> Vec<Cell> {
        let mut cells = Vec::new();
        let Some(series) = self.series(isp) else { return cells };
        let heard: Vec<(Isp, &Series)> = if isp.is_none() { self.heard_by_isp().collect() } else { Vec::new() };
        series.visit(since, now, &mut |mut cell| {
            let is_left_out = |isp: Isp| left_out.iter().any(|known| known.isp == isp && cell.from < known.before);
            let mut is_part = false;
            for ExcludedIsp { isp, .. } in left_out.iter().filter(|left_out| cell.from < left_out.before) {
                if let Some(part) = self.series(Some(*isp)).and_then(|series| series.part(cell.from, cell.until)) {
                    cell.counters.remove(&part);
                    is_part = true;
                }
            }
            for (_, left) in self.isps.iter().filter(|(isp, _)| is_part && !is_left_out(*isp)) {
                if let Some(part) = left.at(cell.from, cell.until) {
                    cell.counters.merge_causes(&part);
                }
            }
            for (_, heard) in heard.iter().filter(|(isp, _)| !is_left_out(*isp)) {
                if let Some(part) = heard.at(cell.from, cell.until) {
                    cell.counters.hear(&part);
                }
            }
            cells.push(cell);
        });
        cells
    }

    /// The mail that is not in `part`. A part that has mail which is not in the whole takes away no more than there is.
    #[must_use]
    pub fn without(&self, part: &Timeline) -> Timeline {
        let mut rest = self.clone();
        if let (Some(all), Some(part)) = (&mut rest.all, part.series(None)) {
            all.remove(part);
        }
        for (isp, series) in &mut rest.isps {
            if let Some(part) = part.series(Some(*isp)) {
                series.remove(part);
            }
        }
        rest
    }

    /// Drops the minutes and hours that are too old at `now`. Days are few: the store lets them expire.
    pub fn prune(&mut self, now: Now) {
        for series in self.all.as_deref_mut().into_iter().chain(self.isps.iter_mut().map(|(_, series)| series)) {
            series.minutes.forget_before(now.minute().minus(KEEP_MINUTES));
            series.hours.forget_before(now.minute().minus(KEEP_HOURS).hour());
            // The evidence of a subject that has stopped sending is not needed soon.
            if series.minutes.0.back().is_none_or(|(last, _)| *last < now.minute().minus(IDLE)) {
                series.memory = None;
            }
        }
    }
}

/// First minute that judging at `now` uses minute by minute.
pub fn edge(now: Now) -> Minute {
    now.minute().minus(FINE).hour()
}

/// First minute that judging at `now` uses. Later units about older mail are counted, but do not affect verdicts.
pub fn judged_from(now: Now) -> Minute {
    edge(now).minus(COARSE).day()
}

/// Which lengths of cohorts a minute is still kept in.
#[derive(Clone, Copy, Debug)]
struct Reach {
    minutes: bool,
    hours: bool,
    days: bool,
}

impl Reach {
    fn at(now: Now, minute: Minute) -> Reach {
        let [minutes, hours, days] = Length::ALL.map(|length| length.reaches(minute, now));
        Reach { minutes, hours, days }
    }

    fn only(length: Length) -> Reach {
        let [minutes, hours, days] = Length::ALL.map(|known| known == length);
        Reach { minutes, hours, days }
    }
}

/// Units of one kind, and their causes.
type Counted = (UnitKind, u32, Grouped);

/// One cohort `[from, until)` with its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// First minute.
    pub from: Minute,
    /// First minute after it.
    pub until: Minute,
    /// Its counters.
    pub counters: Counters,
}

/// An ISP whose mail does not count for a subject as a whole, because the ISP key itself is blamed and contained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExcludedIsp {
    /// The ISP.
    pub isp: Isp,
    /// Its mail accepted before this minute is excluded; the last minute of time excludes all of it.
    pub before: Minute,
}

/// The counters of one subject at one ISP, or at all ISPs.
#[derive(Clone, Debug, Default)]
pub struct Series {
    minutes: Cells,
    hours: Cells,
    days: Cells,
    /// A complaint has come from this ISP, although no loop is known for it.
    heard: bool,
    /// The newest minute with a bad mail, by metric.
    bad: [Option<Minute>; Metric::ALL.len()],
    /// Boxed, because most series are rarely judged and have none.
    memory: Option<Box<Memory>>,
}

impl Series {
    fn add(&mut self, minute: Minute, (kind, count, causes): Counted, heard: bool, reach: Reach) {
        let add = |counters: &mut Counters| {
            counters.add(kind, count, heard);
            counters.add_causes(kind, causes);
        };
        if reach.minutes {
            add(self.minutes.at_mut(minute));
        }
        if reach.hours {
            add(self.hours.at_mut(minute.hour()));
        }
        if reach.days {
            add(self.days.at_mut(minute.day()));
        }
        if let Some(memory) = &mut self.memory {
            memory.changed = memory.changed.min(minute);
            if let Some((since, sum)) = &mut memory.window
                && minute >= *since
            {
                add(sum);
            }
        }
        if let Some(metric) = Metric::harmed_by(kind) {
            let bad = &mut self.bad[metric as usize];
            *bad = (*bad).max(Some(minute));
        }
    }

    /// Subtracts the cohorts of another series.
    fn remove(&mut self, part: &Series) {
        self.memory = None;
        let lengths =
            [(&mut self.minutes, &part.minutes), (&mut self.hours, &part.hours), (&mut self.days, &part.days)];
        for (own, part) in lengths {
            for (from, counters) in &mut own.0 {
                if let Some(part) = part.get(*from) {
                    counters.remove(&if self.heard { part.heard() } else { *part });
                }
            }
        }
    }

    /// Day cohorts, oldest first: (first minute, counters).
    pub fn days(&self) -> impl DoubleEndedIterator<Item = (Minute, &Counters)> {
        self.days.0.iter().map(|(from, counters)| (*from, counters))
    }

    /// Minute cohorts, oldest first: (minute, counters).
    pub fn minutes(&self) -> impl DoubleEndedIterator<Item = (Minute, &Counters)> {
        self.minutes.0.iter().map(|(from, counters)| (*from, counters))
    }

    /// Hour cohorts, oldest first: (first minute, counters).
    pub fn hours(&self) -> impl DoubleEndedIterator<Item = (Minute, &Counters)> {
        self.hours.0.iter().map(|(from, counters)| (*from, counters))
    }

    /// Sum over the mail accepted since `since`, as exactly as the kept minutes allow.
    pub fn sum_since(&self, since: Minute) -> Counters {
        let mut sum = Counters::default();
        let whole_hours = if since == since.hour() { since } else { since.hour().plus(HOUR) };
        for (_, counters) in self.minutes.range(since, whole_hours) {
            sum.merge(counters);
        }
        for (_, counters) in self.hours.range(whole_hours, Minute(u32::MAX)) {
            sum.merge(counters);
        }
        sum
    }

    /// Sum over the mail accepted from `from` up to, but not including, `until`, as exactly as the kept minutes allow.
    pub fn sum_between(&self, from: Minute, until: Minute) -> Counters {
        let mut sum = Counters::default();
        let first = if from == from.hour() { from } else { from.hour().plus(HOUR) }.min(until);
        let last = until.hour().max(first);
        let parts = [self.minutes.range(from, first), self.hours.range(first, last), self.minutes.range(last, until)];
        for (_, counters) in parts.into_iter().flatten() {
            sum.merge(counters);
        }
        sum
    }

    /// As [`Series::sum_since`], cached for a start that is used repeatedly.
    pub(crate) fn window_since(&mut self, since: Minute) -> Counters {
        match self.memory.as_ref().and_then(|memory| memory.window) {
            Some((from, sum)) if from == since => sum,
            Some(_) | None => {
                let sum = self.sum_since(since);
                self.memory.get_or_insert_default().window = Some((since, sum));
                sum
            }
        }
    }

    /// Whether at least one mail in a thousand led to a complaint, in the hours that are kept.
    fn complains(&self) -> bool {
        let sum = self.hours.0.iter().fold(Counters::default(), |mut sum, (_, hour)| {
            sum.merge(hour);
            sum
        });
        let tally = sum.tally(Metric::Complaint);
        tally.bad * 1_000 >= tally.population && tally.bad > 0
    }

    /// Its part of the sum over all ISPs.
    pub(crate) fn share(&self, counters: Counters) -> Counters {
        if self.heard { counters.unheard() } else { counters }
    }

    fn part(&self, from: Minute, until: Minute) -> Option<Counters> {
        self.at(from, until).map(|counters| self.share(counters))
    }

    /// The counters of the hour that begins at `from`.
    pub(crate) fn hour(&self, from: Minute) -> Option<&Counters> {
        self.hours.get(from)
    }

    fn at(&self, from: Minute, until: Minute) -> Option<Counters> {
        let cells = if until.0 - from.0 == HOUR { &self.hours } else { &self.minutes };
        cells.get(from).copied()
    }

    /// Visits the cells that judging at `now` walks over, oldest first. The hour that contains `since` is visited
    /// minute by minute.
    pub(crate) fn visit(&self, since: Minute, now: Now, each: &mut dyn FnMut(Cell)) {
        let edge = edge(now);
        let since = since.max(judged_from(now));
        self.visit_hours(since, edge, each);
        let minute =
            |(from, counters): &(Minute, Counters)| Cell { from: *from, until: from.plus(1), counters: *counters };
        self.minutes.range(edge.max(since), Minute(u32::MAX)).map(minute).for_each(each);
    }

    /// Visits the hours of `[since, edge)`; the hour that contains `since` minute by minute.
    fn visit_hours(&self, since: Minute, edge: Minute, each: &mut dyn FnMut(Cell)) {
        let whole_hours = if since == since.hour() { since } else { since.hour().plus(HOUR) }.min(edge.max(since));
        let minute =
            |(from, counters): &(Minute, Counters)| Cell { from: *from, until: from.plus(1), counters: *counters };
        let hour =
            |(from, counters): &(Minute, Counters)| Cell { from: *from, until: from.plus(HOUR), counters: *counters };
        self.minutes.range(since, whole_hours).map(minute).for_each(&mut *each);
        self.hours.range(whole_hours, edge).map(hour).for_each(each);
    }
}

/// Cohorts of one length, sorted; nearly all accesses are at the newest end.
#[derive(Clone, Debug, Default)]
struct Cells(VecDeque<(Minute, Counters)>);

impl Cells {
    fn at_mut(&mut self, from: Minute) -> &mut Counters {
        let index = match self.0.back() {
            Some((last, _)) if *last == from => self.0.len() - 1,
            Some((last, _)) if *last > from => match self.0.binary_search_by_key(&from, |(from, _)| *from) {
                Ok(index) => index,
                Err(index) => {
                    self.0.insert(index, (from, Counters::default()));
                    index
                }
            },
            Some(_) | None => {
                let known = self.0.len();
                if known == self.0.capacity() && known < FEW {
                    self.0.reserve_exact(known.max(1));
                }
                self.0.push_back((from, Counters::default()));
                known
            }
        };
        &mut self.0[index].1
    }

    fn get(&self, from: Minute) -> Option<&Counters> {
        let index = self.0.binary_search_by_key(&from, |(from, _)| *from).ok()?;
        Some(&self.0[index].1)
    }

    fn range(&self, from: Minute, until: Minute) -> vec_deque::Iter<'_, (Minute, Counters)> {
        let start = self.position(from);
        let end = self.position(until).max(start);
        self.0.range(start..end)
    }

    /// The index of the first cohort that does not begin before `from`.
    fn position(&self, from: Minute) -> usize {
        // Most accesses are at the newest end: a few steps back from there touch less memory than a binary search.
        let young = self.0.iter().rev().take(8).take_while(|(at, _)| *at >= from).count();
        if young < 8 { self.0.len() - young } else { self.0.partition_point(|(at, _)| *at < from) }
    }

    fn forget_before(&mut self, from: Minute) {
        while self.0.front().is_some_and(|(first, _)| *first < from) {
            self.0.pop_front();
        }
        if self.0.len() * 4 <= self.0.capacity() {
            self.0.shrink_to_fit();
        }
    }
}

/// The cached walks over a series, so that judging need not start over for each new mail.
///
/// The cache never changes a verdict: a cached walk is continued only if it began where the new one begins, and if none
/// of the cells that it has passed has changed.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    /// The oldest minute that has changed since the cache was last cleaned.
    changed: Minute,
    /// The sum over all mail accepted from a minute on.
    window: Option<(Minute, Counters)>,
    /// By metric; judging uses two stretches at a time. Most series never have a bad mail, and have no entry.
    walks: [[Option<Box<Remembered>>; 2]; Metric::ALL.len()],
}

/// Walks from `start`: over the whole hours before the fine part, over the older minutes, and over all minutes except
/// the newest.
#[derive(Clone, Debug)]
struct Remembered {
    start: Minute,
    stages: [Option<Stage>; 3],
}

/// A walk over all cells before `until`.
#[derive(Clone, Debug)]
struct Stage {
    until: Minute,
    walk: Walk,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { changed: Minute(u32::MAX), window: None, walks: Default::default() }
    }
}

/// Cells newer than this number of minutes are walked each time, because most of their units are still to arrive.
const UNSETTLED: u32 = 3;
/// Cells newer than this number of minutes still change occasionally, when mail was delayed.
const SETTLING: u32 = 40;

impl Series {
    /// The walk over all cells since `since`, with the ladder of `metric`, which must be the same in all calls.
    pub(crate) fn walk(&mut self, metric: Metric, ladder: &Ladder, since: Minute, now: Now) -> Walk {
        let edge = edge(now);
        let start = since.max(judged_from(now));
        // Without a bad mail there is no evidence, however many good mails there are.
        if self.bad[metric as usize].is_none_or(|bad| bad < start) {
            return Walk::default();
        }
        let memory = self.memory.get_or_insert_default();
        memory.forget_changed();
        let mut stages = memory.take(metric, start);
        // The first stage ends between hours and minutes. This edge moves by the hour: cells that leave the fine part
        // are walked as an hour.
        let mut at_edge = match stages[0].take().filter(|stage| stage.until <= edge) {
            Some(stage) => stage,
            None => Stage { until: start, walk: Walk::default() },
        };
        if at_edge.until < edge {
            stages = [None, None, None];
            let from = at_edge.until;
            let walk = &mut at_edge.walk;
            let pass = &mut |cell: Cell| {
                walk.pass(ladder, metric, cell.from, cell.until, &cell.counters);
            };
            self.visit_hours(from, edge, pass);
            at_edge.until = edge;
        }
        let fine = at_edge.until;
        // Then over the minutes, from the latest stage that is still valid.
        let settled = now.minute().minus(UNSETTLED).max(fine);
        let settling = now.minute().minus(SETTLING).max(fine);
        let known = stages[2].take().filter(|stage| stage.until <= settled);
        let older = stages[1].take().filter(|stage| stage.until <= settling);
        let mut older = older.unwrap_or_else(|| at_edge.clone());
        self.pass_minutes(metric, ladder, &mut older, settling);
        let mut young = known.filter(|known| known.until > older.until).unwrap_or_else(|| older.clone());
        self.pass_minutes(metric, ladder, &mut young, settled);
        let mut end = young.clone();
        self.pass_minutes(metric, ladder, &mut end, Minute(u32::MAX));
        self.memory
            .get_or_insert_default()
            .keep(metric, Remembered { start, stages: [Some(at_edge), Some(older), Some(young)] });
        end.walk
    }

    fn pass_minutes(&self, metric: Metric, ladder: &Ladder, stage: &mut Stage, until: Minute) {
        for (at, counters) in self.minutes.range(stage.until, until) {
            stage.walk.pass(ladder, metric, *at, at.plus(1), counters);
        }
        stage.until = stage.until.max(until);
    }
}

impl Memory {
    fn forget_changed(&mut self) {
        let changed = std::mem::replace(&mut self.changed, Minute(u32::MAX));
        if changed == Minute(u32::MAX) {
            return;
        }
        for known in self.walks.iter_mut().flatten().flatten() {
            for stage in &mut known.stages {
                if stage.as_ref().is_some_and(|stage| stage.until > changed) {
                    *stage = None;
                }
            }
        }
    }

    fn take(&mut self, metric: Metric, start: Minute) -> [Option<Stage>; 3] {
        let slots = &mut self.walks[metric as usize];
        let known = slots.iter_mut().find(|slot| slot.as_ref().is_some_and(|known| known.start == start));
        known.and_then(Option::take).map(|known| known.stages).unwrap_or_default()
    }

    fn keep(&mut self, metric: Metric, walks: Remembered) {
        let slots = &mut self.walks[metric as usize];
        let free = slots.iter().position(Option::is_none);
        // The starts only move forward, so the older walk is no longer needed.
        let slot = free.unwrap_or_else(|| {
            let start = |index: usize| slots[index].as_ref().map(|known| known.start);
            usize::from(start(1) < start(0))
        });
        slots[slot] = Some(Box::new(walks));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::seq::SliceRandom as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::IspMap;

    const NOW: Now = Now(1_791_273_600_000);

    #[test]
    fn late_units_count_in_the_cohorts_that_are_still_in_reach() {
        let check = |days_late: u32, minutes: u32, hours: u32, days: u32| {
            let mut timeline = Timeline::default();
            timeline.add(NOW.minute().minus(days_late * DAY), Isp::OTHER, UnitKind::Sent, 1, true, NOW);
            let series = timeline.series(None).unwrap();
            let sum = |cells: &Cells| cells.0.iter().map(|(_, counters)| counters.get(UnitKind::Sent)).sum::<u32>();
            assert_eq!((sum(&series.minutes), sum(&series.hours), sum(&series.days)), (minutes, hours, days));
        };
        check(0, 1, 1, 1);
        check(2, 1, 1, 1);
        check(3, 0, 1, 1);
        check(36, 0, 0, 1);
    }

    #[test]
    fn judging_sees_hours_then_minutes_and_nothing_before_the_re_arming() {
        let mut timeline = Timeline::default();
        let edge = edge(NOW);
        for minute in [edge.minus(9 * DAY), edge.minus(90), edge.minus(61), edge.minus(30), edge, edge.plus(1)] {
            timeline.add(minute, Isp::OTHER, UnitKind::Sent, 1, true, NOW);
        }
        let cells = |since| {
            let cells = timeline.cells(None, &[], since, NOW);
            cells
                .iter()
                .map(|cell| (cell.from.0 as i64 - edge.0 as i64, cell.until.0 - cell.from.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(cells(Minute(0)), [(-120, 60), (-60, 60), (0, 1), (1, 1)]);
        assert_eq!(cells(edge.minus(61)), [(-61, 1), (-60, 60), (0, 1), (1, 1)]);
        assert_eq!(cells(edge.minus(30)), [(-30, 1), (0, 1), (1, 1)]);
        assert_eq!(cells(edge.plus(1)), [(1, 1)]);
        assert_eq!(cells(edge.plus(2)), []);
    }

    #[test]
    fn excluded_isps_take_their_share_out_of_the_sum() {
        let mut timeline = Timeline::default();
        let isp = Isp::OTHER;
        timeline.add(NOW.minute(), isp, UnitKind::Sent, 3, true, NOW);
        timeline.add(NOW.minute().minus(600), isp, UnitKind::Sent, 4, true, NOW);
        let sent = |left_out: &[ExcludedIsp]| {
            let cells = timeline.cells(None, left_out, Minute(0), NOW);
            cells.iter().map(|cell| cell.counters.get(UnitKind::Sent)).collect::<Vec<_>>()
        };
        assert_eq!(sent(&[]), [4, 3]);
        assert_eq!(sent(&[ExcludedIsp { isp, before: NOW.minute() }]), [0, 3]);
        assert_eq!(sent(&[ExcludedIsp { isp, before: Minute(u32::MAX) }]), [0, 0]);
    }

    #[test]
    fn an_isp_without_a_known_loop_is_no_data_until_a_complaint_has_come_from_there() {
        let (silent, returning) = (Isp::OTHER, IspMap::builtin().by_name("yahoo").unwrap());
        let mut timeline = Timeline::default();
        let hours_ago = NOW.minute().minus(300);
        timeline.add(hours_ago, silent, UnitKind::Delivered, 500, false, NOW);
        timeline.add(hours_ago, returning, UnitKind::Delivered, 100, true, NOW);
        let whole = |timeline: &mut Timeline, isp| {
            let sum = crate::judge::sum(timeline, isp, &[], hours_ago).tally(Metric::Complaint);
            (sum.population, sum.bad)
        };
        assert_eq!(whole(&mut timeline, Some(silent)), (0, 0));
        assert_eq!(whole(&mut timeline, None), (100, 0));
        timeline.add(NOW.minute(), silent, UnitKind::Complaint, 1, false, NOW);
        assert!(timeline.has_heard(silent));
        assert_eq!(whole(&mut timeline, Some(silent)), (500, 1));
        assert_eq!(whole(&mut timeline, None), (600, 1));
        timeline.add(NOW.minute(), silent, UnitKind::Delivered, 20, false, NOW);
        assert_eq!(whole(&mut timeline, None), (620, 1));
    }

    #[test]
    fn one_complaint_from_a_large_isp_without_a_loop_does_not_dilute_the_rates_of_others() {
        let (large, returning) = (Isp::OTHER, IspMap::builtin().by_name("yahoo").unwrap());
        let mut timeline = Timeline::default();
        for (isp, delivered, complaints) in [(large, 9_000, 1), (returning, 1_000, 6)] {
            let has_loop = isp == returning;
            timeline.add(NOW.minute(), isp, UnitKind::Delivered, delivered, has_loop, NOW);
            timeline.add(NOW.minute(), isp, UnitKind::Complaint, complaints, has_loop, NOW);
        }
        let sum = |isp| {
            let cells = timeline.cells(isp, &[], Minute(0), NOW);
            let tally = cells[0].counters.tally(Metric::Complaint);
            (tally.population, tally.bad)
        };
        assert_eq!((sum(None), sum(Some(large))), ((1_000, 6), (9_000, 1)));
        // An excluded ISP takes nothing from the others.
        let left_out = [ExcludedIsp { isp: large, before: Minute(u32::MAX) }];
        let rest = timeline.cells(None, &left_out, Minute(0), NOW)[0].counters;
        assert_eq!((rest.tally(Metric::Complaint).population, rest.get(UnitKind::Delivered)), (1_000, 1_000));
    }

    /// Cohorts of a naive counter: the counts by kind, for each length and start.
    type Naive = BTreeMap<(Length, Minute), BTreeMap<UnitKind, u32>>;

    fn cohorts(series: Option<&Series>) -> Naive {
        let Some(series) = series else { return Naive::new() };
        let cells = Length::ALL.into_iter().zip([&series.minutes, &series.hours, &series.days]);
        let counts = |counters: &Counters| {
            let counts = UnitKind::ALL.into_iter().map(|kind| (kind, counters.get(kind)));
            counts.filter(|(_, count)| *count > 0).collect()
        };
        cells
            .flat_map(|(length, cells)| cells.0.iter().map(move |(from, held)| ((length, *from), counts(held))))
            .collect()
    }

    #[test]
    fn a_subject_with_one_mail_takes_less_than_a_kibibyte() {
        let mut timeline = Timeline::default();
        for kind in [UnitKind::Sent, UnitKind::Delivered] {
            timeline.add(NOW.minute(), Isp::OTHER, kind, 1, false, NOW);
        }
        let cells = |series: &Series| {
            let held = [&series.minutes, &series.hours, &series.days].map(|cells| cells.0.capacity());
            held.iter().sum::<usize>() * size_of::<(Minute, Counters)>()
        };
        let all = timeline.all.iter().map(|all| size_of::<Series>() + cells(all)).sum::<usize>();
        let isps = timeline.isps.capacity() * size_of::<(Isp, Series)>();
        let held =
            size_of::<Timeline>() + all + isps + timeline.isps.iter().map(|(_, series)| cells(series)).sum::<usize>();
        assert!(held < 1024, "{held} bytes");
    }

    proptest! {
        /// The storage of cohorts does not affect the counts: at one ISP, at several, with and without complaints.
        #[test]
        fn what_is_counted_is_what_a_naive_counter_counts(
            units in proptest::collection::vec((0u32..3000, prop::sample::select(vec![0usize, 0, 0, 1, 2]), 0usize..4, 1u32..5, 0u32..3), 1..40),
        ) {
            let map = IspMap::builtin();
            let isps = [Isp::OTHER, map.by_name("gmail").unwrap(), map.by_name("yahoo").unwrap()];
            let kinds = [UnitKind::Sent, UnitKind::Delivered, UnitKind::Complaint, UnitKind::HardBounce];
            let (mut timeline, mut now) = (Timeline::default(), NOW);
            let (mut of_all, mut of_isp) = (Naive::new(), [Naive::new(), Naive::new(), Naive::new()]);
            for (age, isp, kind, count, hours) in units {
                now = Now(now.0 + i64::from(hours) * 3_600_000);
                timeline.prune(now);
                let minute = now.minute().minus(age);
                timeline.add(minute, isps[isp], kinds[kind], count, isp == 2, now);
                for naive in [&mut of_all, &mut of_isp[isp]] {
                    for length in Length::ALL.into_iter().filter(|length| length.reaches(minute, now)) {
                        *naive.entry((length, length.start(minute))).or_default().entry(kinds[kind]).or_default() += count;
                    }
                }
            }
            timeline.prune(now);
            let in_reach = |naive: Naive| -> Naive {
                naive.into_iter().filter(|((length, from), _)| length.reaches(*from, now)).collect()
            };
            prop_assert_eq!(cohorts(timeline.series(None)), in_reach(of_all));
            for (isp, naive) in isps.into_iter().zip(of_isp) {
                prop_assert_eq!(cohorts(timeline.series(Some(isp))), in_reach(naive));
            }
        }

        /// Which ISPs count in complaint rates is a function of the table and of the counts, not of the order of
        /// events.
        #[test]
        fn the_order_of_complaints_and_deliveries_makes_no_difference(
            units in proptest::collection::vec((0u32..400, 0usize..3, 0usize..3, 1u32..5), 1..40), seed in any::<u64>(),
        ) {
            let map = IspMap::builtin();
            let isps = [Isp::OTHER, map.by_name("gmail").unwrap(), map.by_name("yahoo").unwrap()];
            let kinds = [UnitKind::Sent, UnitKind::Delivered, UnitKind::Complaint];
            let counted = |order: &[(u32, usize, usize, u32)]| {
                let mut timeline = Timeline::default();
                for (age, isp, kind, count) in order {
                    timeline.add(NOW.minute().minus(*age), isps[*isp], kinds[*kind], *count, *isp == 2, NOW);
                }
                let of = |isp| timeline.cells(isp, &[], Minute(0), NOW);
                (of(None), isps.map(|isp| of(Some(isp))))
            };
            let mut shuffled = units.clone();
            shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert_eq!(counted(&units), counted(&shuffled));
        }

        /// The cache never changes a result: a series that is walked repeatedly while units arrive, in any order, gives
        /// the same walk as a series that is walked once.
        #[test]
        fn a_remembered_walk_equals_a_fresh_one(
            steps in proptest::collection::vec((0i64..60, prop_oneof![0u32..4, 0u32..400, 0u32..20_000], 0u32..3, prop::sample::select(vec![0u32, 7, 130, 250])), 1..120),
        ) {
            let ladder = Ladder::above(0.05);
            let mut timeline = Timeline::default();
            let mut now = NOW;
            for (advance, age, bad, since) in steps {
                now = Now(now.0 + advance * 20_000);
                if advance % 7 == 0 {
                    timeline.prune(now);
                }
                let minute = now.minute().minus(age);
                timeline.add(minute, Isp::OTHER, UnitKind::Delivered, 3, true, now);
                if bad > 0 {
                    timeline.add(minute, Isp::OTHER, UnitKind::HardBounce, bad, true, now);
                }
                let since = if since == 0 { Minute(0) } else { NOW.minute().minus(since) };
                let mut fresh = Walk::default();
                for cell in timeline.cells(None, &[], since, now) {
                    fresh.pass(&ladder, Metric::HardBounce, cell.from, cell.until, &cell.counters);
                }
                let remembered = timeline.series_mut(None).unwrap().walk(Metric::HardBounce, &ladder, since, now);
                prop_assert_eq!(remembered.peak(), fresh.peak());
                let sum = timeline.series(None).unwrap().sum_since(since.max(NOW.minute().minus(300)));
                let window = timeline.series_mut(None).unwrap().window_since(since.max(NOW.minute().minus(300)));
                prop_assert_eq!(window, sum);
                if fresh.peak().evidence > 0 {
                    prop_assert_eq!(remembered.evidence(), fresh.evidence());
                }
            }
        }
    }
}
