//! The sending side: four ways to warm up, against the same ISPs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pipeline::evaluate;
use pipeline::memory::{MemoryQuotas, MemoryReputation};
use pipeline::ports::{Board, PortError, Reputation, SubjectState};
use pipeline::quotas::{self, Asker};
use pipeline::schedule;
use reputation::Isp;
use reputation::breaker::State;
use reputation::class::Class;
use reputation::counters::Metric;
use reputation::judge::Judge;
use reputation::permit::{Ask, Limit, Slot};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{MINUTE_MILLIS, Minute, Now};
use reputation::unit::UnitKind;
use reputation::zone::Day;

use super::demand::Demand;
use super::receiver::{HOUR, Late, Outcome, Receiver, SLOT_MINUTES};

/// A warm-up plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arm {
    /// Planner, breaker and gate: sends what is granted.
    Adaptive,
    /// From start to target in equal factors within 30 days, without feedback.
    Fixed,
    /// A share of the target that grows with time alone, within 45 days.
    ByTime,
    /// It knows the ISP's limits at every moment, and sends what is taken: the bound for plans that have nothing turned away.
    Oracle,
}

impl Arm {
    /// All of them.
    pub const ALL: [Arm; 4] = [Arm::Adaptive, Arm::Fixed, Arm::ByTime, Arm::Oracle];

    /// Its stable name, as in the report.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Adaptive => "adaptive",
            Arm::Fixed => "fixed",
            Arm::ByTime => "by_time",
            Arm::Oracle => "oracle",
        }
    }
}

/// The day on which the fixed schedule reaches the target. Published schedules take 30 days.
pub const FIXED_DAYS: u32 = 30;
/// The length of the plan of standard dedicated IPs, whatever is sent (SES Developer Guide, "Warming up dedicated IP
/// addresses").
pub const BY_TIME_DAYS: u32 = 45;

/// One day of one arm at one ISP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DayOfMail {
    /// The quota, or the plan's volume.
    pub quota: u64,
    /// The volume that the ISP is known to accept: the quota, unless that is a trickle.
    pub reach: u64,
    /// Mails sent.
    pub sent: u64,
    /// Mails among them that were accepted in the end.
    pub delivered: u64,
    /// Deferred at least once.
    pub deferrals: u64,
    /// Refused because of the sender.
    pub blocks: u64,
    /// Deferred or refused at the first attempt because there was too much mail: a part of the two above.
    pub turned_away: u64,
    /// No such recipient.
    pub hard_bounces: u64,
    /// Complaints about them.
    pub complaints: u64,
    /// Mails that the gate sent through another configuration set.
    pub elsewhere: u64,
    /// Whether a breaker was not closed, or found harm, on this day; never without breakers.
    pub unwell: bool,
}

impl DayOfMail {
    fn count(&mut self, outcome: Outcome) {
        self.delivered += outcome.delivered;
        self.deferrals += outcome.limited + outcome.deferred;
        self.blocks += outcome.refused + outcome.filtered;
        self.turned_away += outcome.limited + outcome.refused;
        self.hard_bounces += outcome.hard_bounces;
    }

    fn count_late(&mut self, late: &Late) {
        self.delivered += late.delivered;
        self.complaints += late.complaints;
    }
}

/// The days of one arm at one ISP.
pub type Days = Vec<DayOfMail>;

/// The volume of a plan without feedback for a day, counted from 1.
pub fn planned(arm: Arm, start: u64, target: u64, day: u32) -> u64 {
    let (start, whole) = (start as f64, target as f64);
    let mails = match arm {
        Arm::Adaptive | Arm::Oracle => return 0,
        Arm::Fixed if day >= FIXED_DAYS => whole,
        Arm::Fixed => start * (whole / start).powf(f64::from(day - 1) / f64::from(FIXED_DAYS - 1)),
        Arm::ByTime => whole * f64::from(day.min(BY_TIME_DAYS)) / f64::from(BY_TIME_DAYS),
    };
    (mails.round() as u64).min(target)
}

/// Slots of a day: 276, 288 or 300.
fn slots_of(day: Day) -> u64 {
    let millis = i64::from(SLOT_MINUTES) * MINUTE_MILLIS;
    u64::try_from((day.end.0 - day.start.0) / millis).unwrap_or(0)
}

/// Sends on each slot of a calendar what `mails` says, which gets the day, the slot of the day and the ISP's room.
fn send_each_slot(
    calendar: &[Day],
    isp: &mut dyn Receiver,
    quota: impl Fn(usize) -> u64,
    mut mails: impl FnMut(usize, u64, u64) -> u64,
) -> Days {
    let mut days: Days = vec![DayOfMail::default(); calendar.len()];
    let mut slot = 0;
    for (number, day) in calendar.iter().enumerate() {
        (days[number].quota, days[number].reach) = (quota(number), quota(number));
        for slot_of_day in 0..slots_of(*day) {
            for late in isp.pass_slot(slot) {
                days[late.day].count_late(&late);
            }
            let mails = mails(number, slot_of_day, isp.room());
            let outcome = isp.offer(slot, mails);
            days[number].sent += mails;
            days[number].count(outcome);
            slot += 1;
        }
        isp.end_day();
    }
    days
}

/// Sends by a plan without feedback, evenly over the hours of a smooth sender.
pub(super) fn send_by_plan(arm: Arm, (start, target): (u64, u64), calendar: &[Day], isp: &mut dyn Receiver) -> Days {
    let quota = |number: usize| planned(arm, start, target, u32::try_from(number + 1).unwrap_or(u32::MAX));
    send_each_slot(calendar, isp, quota, |number, slot, _| Demand::Smooth.arriving(quota(number), slot))
}

/// Sends whatever the ISP takes of the mail that waits. The mail of a smooth sender waits from its first hour on.
pub(super) fn send_what_is_taken(demand: Demand, target: u64, calendar: &[Day], isp: &mut dyn Receiver) -> Days {
    let mut waiting = 0;
    let of_day = |number: usize| demand.of_day(target, number);
    send_each_slot(calendar, isp, of_day, |number, slot, room| {
        if demand.drops_at(slot) {
            waiting = 0;
        }
        if slot == demand.first_slot() {
            waiting = of_day(number);
        }
        let mails = waiting.min(room);
        waiting -= mails;
        mails
    })
}

/// A fact that SES will report.
struct Fact {
    isp: Isp,
    accepted: Minute,
    kind: UnitKind,
    count: u64,
}

/// A sender who asks the gate.
pub(super) struct AdaptiveSender<'a> {
    policy: &'a Policy,
    set: &'a str,
    store: MemoryReputation,
    quotas: MemoryQuotas,
    calendar: &'a [Day],
    demand: Demand,
    /// Whether it asks again for what was not granted.
    asking: Asking,
    /// The facts to report at the next slot.
    unreported: Vec<Fact>,
}

/// How a sender asks the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Whether it asks again for what was deferred, when the gate's answer says.
    pub again: bool,
    /// Whether it asks for a schedule.
    pub schedule: bool,
}

/// Mail that was granted for later.
struct Scheduled {
    request: String,
    ask: Ask,
    slots: VecDeque<Slot>,
}

/// One ISP with the results there.
struct Place {
    isp: Isp,
    receiving: Box<dyn Receiver>,
    days: Days,
    /// Mails that wait to be sent: bulk and critical.
    waiting: [u64; 2],
    /// When it asks for them next.
    next: [Option<Now>; 2],
    scheduled: Vec<Scheduled>,
}

impl<'a> AdaptiveSender<'a> {
    /// A sender with this configuration set, which must be in `[warmup.sets]`.
    pub(super) fn new(
        policy: &'a Policy,
        set: &'a str,
        calendar: &'a [Day],
        (demand, asking): (Demand, Asking),
    ) -> AdaptiveSender<'a> {
        AdaptiveSender {
            policy,
            set,
            store: MemoryReputation::under(policy),
            quotas: MemoryQuotas::default(),
            calendar,
            demand,
            asking,
            unreported: Vec::new(),
        }
    }

    /// Sends to these ISPs on all days of the calendar.
    ///
    /// # Errors
    ///
    /// The configuration set is unknown; a port in memory does not fail.
    pub(super) async fn send(mut self, isps: Vec<(Isp, Box<dyn Receiver>)>) -> Result<BTreeMap<Isp, Days>, PortError> {
        let mut places: Vec<Place> = isps
            .into_iter()
            .map(|(isp, receiving)| {
                let days = vec![DayOfMail::default(); self.calendar.len()];
                Place { isp, receiving, days, waiting: [0; 2], next: [None; 2], scheduled: Vec::new() }
            })
            .collect();
        let mut slot = 0;
        for (number, day) in self.calendar.iter().enumerate() {
            self.open_day(&mut places, number, *day).await?;
            for slot_of_day in 0..slots_of(*day) {
                self.pass_slot(&mut places, (number, *day), slot, slot_of_day).await?;
                slot += 1;
            }
            self.close_day(&mut places, number, *day);
        }
        Ok(places.into_iter().map(|place| (place.isp, place.days)).collect())
    }

    /// The hourly tick at the beginning of a day, at each ISP.
    async fn open_day(&mut self, places: &mut [Place], number: usize, day: Day) -> Result<(), PortError> {
        for place in places {
            let quota =
                quotas::plan(self.policy, &mut self.store, &self.quotas, self.set, place.isp, day.start).await?;
            place.days[number].quota = quota.ramp.quota;
            place.days[number].reach = quota.ramp.reach;
        }
        Ok(())
    }

    async fn pass_slot(
        &mut self,
        places: &mut [Place],
        (number, day): (usize, Day),
        slot: u64,
        slot_of_day: u64,
    ) -> Result<(), PortError> {
        let minutes = |slots: u64| u32::try_from(slots).unwrap_or(u32::MAX).saturating_mul(SLOT_MINUTES);
        let now = day.start.plus_minutes(minutes(slot_of_day));
        self.hear(now).await?;
        schedule::minute(self.policy, &mut self.store, now, || true).await?;
        if slot_of_day.is_multiple_of(HOUR) {
            self.store.prune(now);
        }
        let beginning = self.calendar.first().map_or(now, |first| first.start);
        let accepted = |slot: u64| beginning.plus_minutes(minutes(slot)).minute();
        for place in places {
            for late in place.receiving.pass_slot(slot) {
                place.days[late.day].count_late(&late);
                for (kind, count) in [
                    (UnitKind::Delivered, late.delivered),
                    (UnitKind::SoftBounce, late.expired),
                    (UnitKind::Complaint, late.complaints),
                ] {
                    self.report(place.isp, accepted(late.accepted), kind, count);
                }
            }
            let granted = self.ask(place, number, (now, now.plus_minutes(SLOT_MINUTES)), slot_of_day).await?;
            let outcome = place.receiving.offer(slot, granted);
            place.days[number].sent += granted;
            place.days[number].count(outcome);
            let minute = now.minute();
            for (kind, count) in [
                (UnitKind::Sent, granted),
                (UnitKind::Delivered, outcome.delivered),
                (UnitKind::HardBounce, outcome.hard_bounces),
                (UnitKind::SoftBounce, outcome.soft_bounces + outcome.refused + outcome.filtered),
                (UnitKind::Delay, outcome.limited + outcome.deferred),
                (UnitKind::Block, outcome.limited + outcome.refused + outcome.filtered),
            ] {
                self.report(place.isp, minute, kind, count);
            }
        }
        Ok(())
    }

    fn report(&mut self, isp: Isp, accepted: Minute, kind: UnitKind, count: u64) {
        if count > 0 {
            self.unreported.push(Fact { isp, accepted, kind, count });
        }
    }

    fn subject(&self) -> Subject {
        Subject::ConfigurationSet(self.set.into())
    }

    /// Counts the facts since the last slot, and judges senders with an alarm at once, as the deployed stack does.
    async fn hear(&mut self, now: Now) -> Result<(), PortError> {
        let policy = self.policy;
        let mut harm: BTreeSet<(Isp, Metric)> = BTreeSet::new();
        let set = self.subject();
        let board = self.store.board(now).await?;
        for Fact { isp, accepted, kind, count } in std::mem::take(&mut self.unreported) {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.store.add(&set, (accepted, isp, kind), count, now);
            harm.extend(Metric::harmed_by(kind).map(|metric| (isp, metric)));
        }
        let subject_state = self.store.subject_state(&set, now).await?;
        let whole = subject_state.breaker(None).breaker.since;
        let left_out = evaluate::left_out(policy, subject_state, &board, &BTreeMap::new());
        let mut alarmed: BTreeSet<Isp> = BTreeSet::new();
        for (isp, metric) in harm {
            let since = evaluate::since_of_isp(subject_state, &board, isp);
            let timeline = &mut subject_state.timeline;
            let here = Judge::new(policy, Some(isp), &[], now).alarm(timeline, since, metric);
            if here.or_else(|| Judge::new(policy, None, &left_out, now).alarm(timeline, whole, metric)).is_some() {
                alarmed.insert(isp);
            }
        }
        if !alarmed.is_empty() {
            evaluate::evaluate(policy, &mut self.store, &set, &alarmed, now).await?;
        }
        Ok(())
    }

    /// Asks for the waiting mail between these two moments, critical mail first, and returns the number of mails that may go.
    async fn ask(
        &mut self,
        place: &mut Place,
        number: usize,
        (now, end): (Now, Now),
        slot_of_day: u64,
    ) -> Result<u64, PortError> {
        let Some(plan) = self.policy.warmup.sets.get(self.set) else { return Ok(0) };
        let whole = self.demand.of_day(plan.target, number);
        let critical = plan.reserve(whole);
        for (place_of, whole) in [whole - critical, critical].into_iter().enumerate() {
            if self.demand.drops_at(slot_of_day) {
                (place.waiting[place_of], place.next[place_of]) = (0, None);
            }
            place.waiting[place_of] += self.demand.arriving(whole, slot_of_day);
            if self.demand.asks_at(slot_of_day) {
                place.next[place_of] = Some(now);
            }
        }
        let board = self.store.board(now).await?;
        let mut sent = self.send_scheduled(place, &board, now).await?;
        // The first of those that ask at the same time is critical mail.
        while let Some((at, class, place_of)) = [(Class::Critical, 1), (Class::Bulk, 0)]
            .into_iter()
            .filter(|(_, place_of)| place.waiting[*place_of] > 0)
            .filter_map(|(class, place_of)| Some((place.next[place_of].filter(|at| *at < end)?, class, place_of)))
            .min_by_key(|(at, ..)| *at)
        {
            let mails = place.waiting[place_of];
            let request = format!("{} {} {}", at.0, self.policy.isp_map.name(place.isp), class.name());
            let asker = Asker { set: self.set, identity: "example.com", request: &request, body: "" };
            let flow = quotas::flow(self.policy, plan, &board, &asker, place.isp)?;
            let ask = Ask { mails, class, now: at, schedule: self.asking.schedule, jitter: 0 };
            let permit = quotas::permit(self.policy, &self.quotas, &flow, &asker, place.isp, ask, None).await?;
            place.next[place_of] = None;
            let Some((granted, _)) = permit else { continue };
            let overflow = granted.overflow.map_or(0, |(mails, _)| mails);
            place.waiting[place_of] -= granted.lease.as_ref().map_or(0, |lease| lease.mails()) + overflow;
            let mails = granted.now;
            if !granted.slots.is_empty() {
                place.scheduled.push(Scheduled { request: request.clone(), ask, slots: granted.slots.into() });
            }
            // Mail through another configuration set counts for that set's reputation.
            let here = granted.route == self.set;
            sent += if here { mails } else { 0 };
            place.days[number].elsewhere += overflow + if here { 0 } else { mails };
            if !self.asking.again {
                place.waiting[place_of] = 0;
            } else if self.demand.follows_retry_at() {
                // Exactly then, as the answer says, and never at the same moment again.
                place.next[place_of] = granted.retry_at.map(|retry| retry.max(Now(at.0.saturating_add(1))));
            }
        }
        Ok(sent)
    }

    /// Sends what was granted for this moment, if the gate says that it still stands, and returns how much that is.
    async fn send_scheduled(&self, place: &mut Place, board: &Board, now: Now) -> Result<u64, PortError> {
        let Some(plan) = self.policy.warmup.sets.get(self.set) else { return Ok(0) };
        let mut sent = 0;
        for Scheduled { request, ask, slots } in &mut place.scheduled {
            if slots.front().is_none_or(|slot| slot.at > now) {
                continue;
            }
            let asker = Asker { set: self.set, identity: "example.com", request, body: "" };
            let flow = quotas::flow(self.policy, plan, board, &asker, place.isp)?;
            let ask = Ask { now, ..*ask };
            let permit = quotas::permit(self.policy, &self.quotas, &flow, &asker, place.isp, ask, None).await?;
            // A slot is shorter than a step of the simulation, so it may have expired by now.
            let held = |limit: Option<Limit>| matches!(limit, Some(Limit::Stopped(_) | Limit::Throttled(..)));
            let stands = permit.is_some_and(|(granted, _)| !held(granted.limit));
            // Mail that is held is not sent later: its slot has expired then.
            while let Some(slot) = slots.pop_front_if(|slot| slot.at <= now) {
                sent += if stands { slot.mails } else { 0 };
            }
        }
        place.scheduled.retain(|scheduled| !scheduled.slots.is_empty());
        Ok(sent)
    }

    fn close_day(&mut self, places: &mut [Place], number: usize, day: Day) {
        for place in places {
            place.receiving.end_day();
            let board = self.store.known_board();
            let unsettled = |isp: Option<Isp>| {
                let known = board.unsettled.get(&Key { subject: self.subject(), isp });
                known.is_some_and(|known| known.state != State::Closed)
            };
            let worsened = |subject_state: &SubjectState| {
                let own = subject_state.breakers.get(&Some(place.isp)).and_then(|known| known.breaker.worsened);
                own.is_some_and(|at| at >= day.start)
            };
            let unwell = unsettled(Some(place.isp)) || unsettled(None);
            let found = self.store.subject_states().any(|(_, subject_state)| worsened(subject_state));
            place.days[number].unwell = unwell || found;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use reputation::warmup::Plan;

    use super::*;

    /// An ISP that takes everything, and writes down when it was offered how much.
    #[derive(Default)]
    struct Recorder(Rc<RefCell<Vec<(u64, u64)>>>);

    impl Receiver for Recorder {
        fn room(&self) -> u64 {
            u64::MAX
        }

        fn offer(&mut self, slot: u64, mails: u64) -> Outcome {
            if mails > 0 {
                self.0.borrow_mut().push((slot, mails));
            }
            Outcome { delivered: mails, ..Outcome::default() }
        }

        fn pass_slot(&mut self, _: u64) -> Vec<Late> {
            Vec::new()
        }

        fn end_day(&mut self) {}
    }

    /// The slots in which a sender with a quota of 16,000 a day, released over 16 hours, sends on its first day, and how much.
    fn offers(demand: Demand, again: bool) -> Vec<(u64, u64)> {
        let mut policy = Policy::default().in_world(true);
        let plan = Plan {
            start: 16_000,
            target: 16_000,
            spread_hours: 16,
            least_spread_hours: 16,
            burst_share: 0.25,
            critical_share: 0.0,
            ..policy.warmup.plan.clone()
        };
        policy.warmup.sets.insert("news".to_owned(), plan);
        let calendar = [policy.warmup.zone.day(20_458)];
        let recorder = Recorder::default();
        let offers = Rc::clone(&recorder.0);
        let sender = AdaptiveSender::new(&policy, "news", &calendar, (demand, Asking { again, schedule: false }));
        let isp = policy.isp_map.by_name("gmail").unwrap();
        let days = pollster::block_on(sender.send(vec![(isp, Box::new(recorder))])).unwrap();
        assert_eq!(days[&isp][0].sent, offers.borrow().iter().map(|(_, mails)| mails).sum::<u64>());
        offers.take()
    }

    #[test]
    fn a_batch_sender_asks_exactly_when_the_answer_says_and_at_no_other_time() {
        // A burst of 4,000 at 09:00, and then half a burst every two hours, until the batch is dropped at 21:00.
        let hour = |hour: u64| hour * HOUR;
        let expected = [9, 11, 13, 15, 17, 19].map(|at| (hour(at), if at == 9 { 4_000 } else { 2_000 }));
        assert_eq!(offers(Demand::Batch09, true), expected);
        assert_eq!(
            offers(Demand::Batch18, true),
            [18, 20, 22].map(|at| (hour(at), if at == 18 { 4_000 } else { 2_000 }))
        );
    }

    #[test]
    fn a_sender_that_never_asks_again_sends_what_its_first_answer_grants() {
        assert_eq!(offers(Demand::Batch09, false), [(9 * HOUR, 4_000)]);
    }

    #[test]
    fn an_hourly_sender_asks_on_the_hour() {
        let offers = offers(Demand::Hourly, false);
        assert!(offers.iter().all(|(slot, _)| slot.is_multiple_of(HOUR)) && offers.len() > 10, "{offers:?}");
    }
}
