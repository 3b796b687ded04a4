//! The counters of one subject, per ISP, in cohorts of a minute, an hour and a day.
//!
//! Minutes are kept for 2 days, hours for 35 and days for 400: older cohorts of a length are forgotten, and what comes
//! in late for them still counts in the longer ones.

use std::collections::VecDeque;
use std::collections::vec_deque;

use crate::counters::Counters;
use crate::detect::Walk;
use crate::judge::LeftOut;
use crate::time::{DAY, HOUR, Minute, Now};
use crate::unit::UnitKind;
use crate::{Isp, Metric};

/// How long minute cohorts are kept.
pub const KEEP_MINUTES: u32 = 2 * DAY;
/// How long hour cohorts are kept.
pub const KEEP_HOURS: u32 = 35 * DAY;
/// How long day cohorts are kept.
pub const KEEP_DAYS: u32 = 400 * DAY;

/// Judging looks at minutes in the youngest part of a timeline and at hours before: from this many minutes back (then
/// to the full hour).
pub const FINE: u32 = 2 * HOUR;
/// Judging looks back over the hour cohorts of so many minutes before the fine part.
pub const COARSE: u32 = 8 * DAY;

/// The counters of one subject.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    all: Series,
    /// Sorted by ISP.
    isps: Vec<(Isp, Series)>,
}

impl Timeline {
    /// Counts `count` units of mail accepted in `minute`. `returns_complaints` is a fact about `isp`. What falls out of
    /// the reach of minutes or hours at `now` counts only in the longer cohorts.
    pub fn add(&mut self, minute: Minute, isp: Isp, kind: UnitKind, count: u32, returns_complaints: bool, now: Now) {
        let reach = Reach::at(now, minute);
        self.all.add(minute, kind, count, returns_complaints, reach);
        let index = match self.isps.binary_search_by_key(&isp, |(isp, _)| *isp) {
            Ok(index) => index,
            Err(index) => {
                self.isps.insert(index, (isp, Series::default()));
                index
            }
        };
        self.isps[index].1.add(minute, kind, count, returns_complaints, reach);
    }

    /// The ISPs that ever received mail of this subject, in a stable order.
    pub fn isps(&self) -> impl Iterator<Item = Isp> + '_ {
        self.isps.iter().map(|(isp, _)| *isp)
    }

    /// The counters at one ISP, or at all.
    pub fn series(&self, isp: Option<Isp>) -> Option<&Series> {
        match isp {
            None => Some(&self.all),
            Some(isp) => {
                let index = self.isps.binary_search_by_key(&isp, |(isp, _)| *isp).ok()?;
                Some(&self.isps[index].1)
            }
        }
    }

    pub(crate) fn series_mut(&mut self, isp: Option<Isp>) -> Option<&mut Series> {
        match isp {
            None => Some(&mut self.all),
            Some(isp) => {
                let index = self.isps.binary_search_by_key(&isp, |(isp, _)| *isp).ok()?;
                Some(&mut self.isps[index].1)
            }
        }
    }

    /// The cells that judging at `now` walks over: hours up to `edge(now)`, then minutes; none before `since`, and
    /// without the mail that is left out.
    pub fn cells(&self, isp: Option<Isp>, left_out: &[LeftOut], since: Minute, now: Now) -> Vec<Cell> {
        let mut cells = Vec::new();
        let Some(series) = self.series(isp) else { return cells };
        series.visit(since, now, &mut |mut cell| {
            for LeftOut { isp, .. } in left_out.iter().filter(|left_out| cell.from < left_out.before) {
                if let Some(part) = self.series(Some(*isp)).and_then(|series| series.at(cell.from, cell.until)) {
                    cell.counters.remove(&part);
                }
            }
            cells.push(cell);
        });
        cells
    }

    /// Forgets the minutes and hours that are out of reach at `now`. Days are few: whoever stores them lets them expire.
    pub fn prune(&mut self, now: Now) {
        for series in std::iter::once(&mut self.all).chain(self.isps.iter_mut().map(|(_, series)| series)) {
            series.minutes.forget_before(now.minute().minus(KEEP_MINUTES));
            series.hours.forget_before(now.minute().minus(KEEP_HOURS).hour());
        }
    }
}

/// First minute that judging at `now` looks at minute by minute.
pub fn edge(now: Now) -> Minute {
    now.minute().minus(FINE).hour()
}

/// Which lengths of cohorts a minute is still kept in.
#[derive(Clone, Copy, Debug)]
struct Reach {
    minutes: bool,
    hours: bool,
}

impl Reach {
    fn at(now: Now, minute: Minute) -> Reach {
        Reach {
            minutes: minute >= now.minute().minus(KEEP_MINUTES),
            hours: minute >= now.minute().minus(KEEP_HOURS).hour(),
        }
    }
}

/// One cohort `[from, until)` with its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// First minute.
    pub from: Minute,
    /// First minute after it.
    pub until: Minute,
    /// What was counted.
    pub counters: Counters,
}

/// The counters of one subject at one ISP or at all.
#[derive(Clone, Debug, Default)]
pub struct Series {
    minutes: Cells,
    hours: Cells,
    days: Cells,
    pub(crate) memory: Memory,
}

impl Series {
    fn add(&mut self, minute: Minute, kind: UnitKind, count: u32, returns_complaints: bool, reach: Reach) {
        if reach.minutes {
            self.minutes.at_mut(minute).add(kind, count, returns_complaints);
        }
        if reach.hours {
            self.hours.at_mut(minute.hour()).add(kind, count, returns_complaints);
        }
        self.days.at_mut(minute.day()).add(kind, count, returns_complaints);
        self.memory.changed = self.memory.changed.min(minute);
    }

    /// Day cohorts, oldest first: (first minute, counters).
    pub fn days(&self) -> impl DoubleEndedIterator<Item = (Minute, &Counters)> {
        self.days.0.iter().map(|(from, counters)| (*from, counters))
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

    fn at(&self, from: Minute, until: Minute) -> Option<Counters> {
        let cells = if until.0 - from.0 == HOUR { &self.hours } else { &self.minutes };
        cells.get(from).copied()
    }

    /// Shows the cells that judging at `now` walks over, oldest first. The hour in which `since` falls is shown by
    /// its minutes.
    pub(crate) fn visit(&self, since: Minute, now: Now, each: &mut dyn FnMut(Cell)) {
        let edge = edge(now);
        let since = since.max(edge.minus(COARSE));
        let whole_hours = if since == since.hour() { since } else { since.hour().plus(HOUR) }.min(edge.max(since));
        let minute = |(from, counters): &(Minute, Counters)| Cell { from: *from, until: from.plus(1), counters: *counters };
        let hour = |(from, counters): &(Minute, Counters)| Cell { from: *from, until: from.plus(HOUR), counters: *counters };
        self.minutes.range(since, whole_hours).map(minute).for_each(&mut *each);
        self.hours.range(whole_hours, edge).map(hour).for_each(&mut *each);
        self.minutes.range(edge.max(whole_hours), Minute(u32::MAX)).map(minute).for_each(each);
    }
}

/// Cohorts of one length, sorted; nearly everything happens at the young end.
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
                self.0.push_back((from, Counters::default()));
                self.0.len() - 1
            }
        };
        &mut self.0[index].1
    }

    fn get(&self, from: Minute) -> Option<&Counters> {
        let index = self.0.binary_search_by_key(&from, |(from, _)| *from).ok()?;
        Some(&self.0[index].1)
    }

    fn range(&self, from: Minute, until: Minute) -> vec_deque::Iter<'_, (Minute, Counters)> {
        let start = self.0.partition_point(|(at, _)| *at < from);
        let end = self.0.partition_point(|(at, _)| *at < until).max(start);
        self.0.range(start..end)
    }

    fn forget_before(&mut self, from: Minute) {
        while self.0.front().is_some_and(|(first, _)| *first < from) {
            self.0.pop_front();
        }
    }
}

/// What judging remembers of the walks over a series, so that it need not start over for each new mail.
///
/// It never changes a verdict: the walk over the cells before `until` is taken up only if none of them has changed.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    /// The oldest minute that has changed since the memory was last tidied.
    changed: Minute,
    walks: [[Option<Remembered>; 2]; Metric::ALL.len()],
}

/// The walk over the cells in `[since, until)`.
#[derive(Clone, Debug)]
struct Remembered {
    since: Minute,
    edge: Minute,
    until: Minute,
    walk: Walk,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { changed: Minute(u32::MAX), walks: Default::default() }
    }
}

/// Cells younger than so many minutes are walked over each time: most units are still to come there.
const UNSETTLED: u32 = 5;

impl Series {
    /// The walk over all cells since `since`, with the ladder of `metric`, which must be the same in all calls.
    pub(crate) fn walk(&mut self, metric: Metric, ladder: &crate::detect::Ladder, since: Minute, now: Now) -> Walk {
        let edge = edge(now);
        self.memory.forget_changed();
        let settled = now.minute().minus(UNSETTLED).max(edge);
        let slots = &self.memory.walks[metric as usize];
        let known = slots.iter().flatten().find(|known| known.since == since && known.edge == edge);
        let (from, mut walk) = match known {
            Some(known) => (known.until, known.walk.clone()),
            None => (since, Walk::default()),
        };
        let mut to_remember = None;
        let mut step = |walk: &mut Walk, cell: Cell| {
            if to_remember.is_none() && cell.until > settled {
                to_remember = Some(walk.clone());
            }
            walk.push(ladder, cell.from, cell.until, cell.counters.tally(metric));
        };
        if from > since {
            for (at, counters) in self.minutes.range(from, Minute(u32::MAX)) {
                step(&mut walk, Cell { from: *at, until: at.plus(1), counters: *counters });
            }
        } else {
            self.visit(since, now, &mut |cell| step(&mut walk, cell));
        }
        if settled > from {
            let remembered = Remembered { since, edge, until: settled, walk: to_remember.unwrap_or_else(|| walk.clone()) };
            let slots = &mut self.memory.walks[metric as usize];
            let slot = slots.iter().position(|slot| slot.as_ref().is_some_and(|known| known.since == since));
            let slot = slot.or_else(|| slots.iter().position(Option::is_none)).unwrap_or_else(|| {
                // Two stretches are judged at a time; the one with the older edge or start is no longer asked for.
                let age = |slot: &Option<Remembered>| slot.as_ref().map(|known| (known.edge, known.since));
                usize::from(age(&slots[1]) < age(&slots[0]))
            });
            slots[slot] = Some(remembered);
        }
        walk
    }
}

impl Memory {
    fn forget_changed(&mut self) {
        let changed = std::mem::replace(&mut self.changed, Minute(u32::MAX));
        for slot in self.walks.iter_mut().flatten() {
            if slot.as_ref().is_some_and(|known| known.until > changed) {
                *slot = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Ladder;
    use proptest::prelude::*;

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
            cells.iter().map(|cell| (cell.from.0 as i64 - edge.0 as i64, cell.until.0 - cell.from.0)).collect::<Vec<_>>()
        };
        assert_eq!(cells(Minute(0)), [(-120, 60), (-60, 60), (0, 1), (1, 1)]);
        assert_eq!(cells(edge.minus(61)), [(-61, 1), (-60, 60), (0, 1), (1, 1)]);
        assert_eq!(cells(edge.minus(30)), [(-30, 1), (0, 1), (1, 1)]);
        assert_eq!(cells(edge.plus(1)), [(1, 1)]);
        assert_eq!(cells(edge.plus(2)), []);
    }

    #[test]
    fn isps_that_are_left_out_take_their_share_with_them() {
        let mut timeline = Timeline::default();
        let isp = Isp::OTHER;
        timeline.add(NOW.minute(), isp, UnitKind::Sent, 3, true, NOW);
        timeline.add(NOW.minute().minus(600), isp, UnitKind::Sent, 4, true, NOW);
        let sent = |left_out: &[LeftOut]| {
            let cells = timeline.cells(None, left_out, Minute(0), NOW);
            cells.iter().map(|cell| cell.counters.get(UnitKind::Sent)).collect::<Vec<_>>()
        };
        assert_eq!(sent(&[]), [4, 3]);
        assert_eq!(sent(&[LeftOut { isp, before: NOW.minute() }]), [0, 3]);
        assert_eq!(sent(&[LeftOut { isp, before: Minute(u32::MAX) }]), [0, 0]);
    }

    proptest! {
        /// What is remembered never changes what is seen: a series that is walked over again and again while units
        /// come in, in any order, gives the same walk as one that is walked over once.
        #[test]
        fn a_remembered_walk_equals_a_fresh_one(
            steps in proptest::collection::vec((0i64..40, 0u32..400, 0u32..3, prop::sample::select(vec![0u32, 7, 130, 250])), 1..120),
        ) {
            let ladder = Ladder::above(0.05);
            let mut timeline = Timeline::default();
            let mut now = NOW;
            for (advance, age, bad, since) in steps {
                now = Now(now.0 + advance * 20_000);
                let minute = now.minute().minus(age);
                timeline.add(minute, Isp::OTHER, UnitKind::Delivered, 3, true, now);
                if bad > 0 {
                    timeline.add(minute, Isp::OTHER, UnitKind::HardBounce, bad, true, now);
                }
                let since = if since == 0 { Minute(0) } else { NOW.minute().minus(since) };
                let mut fresh = timeline.series(None).unwrap().clone();
                fresh.memory = Memory::default();
                let fresh = fresh.walk(Metric::HardBounce, &ladder, since, now);
                let remembered = timeline.series_mut(None).unwrap().walk(Metric::HardBounce, &ladder, since, now);
                prop_assert_eq!(remembered.peak(), fresh.peak());
                prop_assert_eq!(remembered.evidence(), fresh.evidence());
            }
        }
    }
}
