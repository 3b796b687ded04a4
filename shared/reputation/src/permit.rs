//! Permits: how many mails of a day's quota may be sent now, by which route, and if not now, when.
//!
//! A permit is the product of four things: what is left of the day's quota, how much of it is released by now (pacing),
//! the share that the breakers let through, and the class of the mail.
//!
//! **Pacing** is the generic cell rate algorithm (ITU-T I.371): each mail moves a mark by one interval; the mark is the
//! time at which the released quota covers all mail so far, and mail conforms while the mark is not ahead of the clock.
//! The mark starts at the beginning of the day, so nothing is available at first and no period can get twice its share;
//! and it is never more than a burst behind the clock. The interval releases the quota over what is left of the day,
//! within bounds: a batch in the evening can use its day, and no hour gets more than a sixth of the quota. **Breakers**
//! stretch the interval: half the share, twice the interval, half the burst. **Critical** mail draws on a reserve that
//! bulk mail cannot touch and no breaker shrinks; what exceeds the reserve is treated as bulk mail.
//!
//! A **schedule** moves the mark ahead of the clock: mail that is not released yet is granted for the times at which it
//! will be, so that one request can use its day. It may run past the end of its day; the mark of the next day begins
//! where it ends.
//!
//! **Invariant:** bulk and reserve are disjoint, so that all grants of a day together are never more than its quota.
//! **Invariant:** a decision is written with conditions ([`Spend`]), so that it stays correct if others spend
//! meanwhile.

use std::fmt;

use crate::breaker::{BreakerState, Factor, Override, State, StateName};
use crate::class::Class;
use crate::policy::Policy;
use crate::subject::{Key, Subject};
use crate::time::Now;
use crate::warmup::{Plan, Ramp};
use crate::zone::Day;

/// A time in nanoseconds since 1970: intervals are not whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub i64);

impl Nanos {
    /// This moment in nanoseconds.
    pub fn of(now: Now) -> Nanos {
        Nanos(now.0.saturating_mul(NANOS_PER_MILLI))
    }

    /// The first millisecond that is not before it.
    pub fn ceil(self) -> Now {
        Now(self.0.div_euclid(NANOS_PER_MILLI) + i64::from(self.0.rem_euclid(NANOS_PER_MILLI) > 0))
    }
}

const NANOS_PER_MILLI: i64 = 1_000_000;
const NANOS_PER_HOUR: i64 = 3_600_000 * NANOS_PER_MILLI;

/// What has been granted of a day's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Mails granted of the shared part, which both classes may use.
    pub bulk: u64,
    /// Mails granted of the reserve for critical mail.
    pub critical: u64,
    /// Whether the last request that got something got all there was, and asked for more.
    pub short: bool,
    /// The pacing mark: when the released quota covers all bulk mail so far.
    pub mark: Nanos,
}

impl Meter {
    /// At the beginning of a day. `before`: the meter of the day before, whose schedules may run into this one.
    pub fn at_start(day: Day, before: Option<&Meter>) -> Meter {
        let begins = Nanos::of(day.start);
        Meter { bulk: 0, critical: 0, short: false, mark: before.map_or(begins, |before| before.mark.max(begins)) }
    }

    /// All mails granted.
    pub fn used(&self) -> u64 {
        self.bulk.saturating_add(self.critical)
    }
}

/// How much mail of one configuration set and identity the breakers let through at one ISP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The share.
    pub factor: Factor,
    /// The key whose breaker is the strictest, its state, and when that may change; `None` if all are closed.
    pub because: Option<Because>,
    /// Whether SES itself accepts no mail with this configuration set.
    pub stopped_at_ses: bool,
    /// Whether SES accepts no mail of the account.
    pub all_stopped: bool,
    /// Whether the overflow set may take mail.
    pub overflow_flows: bool,
    /// Whether the set for critical mail may take mail while this one is stopped at SES.
    pub critical_route_flows: bool,
}

/// A breaker that does not let all mail through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    /// Its key.
    pub key: Key,
    /// Its state.
    pub state: StateName,
    /// When testing begins; `None` if that is not known.
    pub until: Option<Now>,
}

impl Flow {
    /// All mail flows.
    pub const FREE: Flow = Flow {
        factor: Factor::FULL,
        because: None,
        stopped_at_ses: false,
        all_stopped: false,
        overflow_flows: true,
        critical_route_flows: true,
    };

    /// How much mail of these subjects (the configuration set first) the breakers let through to one ISP. `unsettled`:
    /// the breakers that are not settled.
    pub fn of<'a>(
        policy: &Policy,
        subjects: &[Subject],
        plan: &Plan,
        isp: crate::Isp,
        unsettled: impl Fn(&Key) -> Option<&'a BreakerState>,
    ) -> Flow {
        let mut flow = Flow::FREE;
        let keys = |subject: &Subject| [None, Some(isp)].map(|isp| Key { subject: subject.clone(), isp });
        let factor = |key: &Key| {
            let known = unsettled(key)?;
            // In shadow nothing is done; a subject that was really stopped before stays stopped until its breaker
            // closes.
            let in_shadow = |key: &Key| unsettled(key).is_some_and(|known| known.overridden == Override::Shadow);
            let whole = Key { subject: key.subject.clone(), isp: None };
            // A person's override lets mail flow; the policy's shadow keeps a stopped subject stopped, because SES may
            // still stop it, too.
            if in_shadow(key) || in_shadow(&whole) {
                return None;
            }
            let shadow = policy.is_shadow(&key.subject);
            let acts = if matches!(known.state, State::Open { .. }) { known.enacted || !shadow } else { !shadow };
            acts.then(|| (known.state.factor(&policy.breaker), known))
        };
        for key in subjects.iter().chain([&Subject::Account]).flat_map(keys) {
            let Some((share, known)) = factor(&key) else { continue };
            // A breaker of the account as a whole opens only if the policy allows it.
            let open = matches!(known.state, State::Open { .. });
            let whole = open && key.isp.is_none();
            flow.stopped_at_ses |= whole && matches!(&key.subject, Subject::ConfigurationSet(_));
            flow.all_stopped |= whole && matches!(&key.subject, Subject::Account | Subject::Tenant(_));
            if share < flow.factor {
                flow.factor = share;
                flow.because = Some(Because { key, state: known.state.name(), until: known.until() });
            }
        }
        let least = |set: &str| {
            let keys = keys(&Subject::ConfigurationSet(set.into()));
            keys.iter().filter_map(|key| factor(key).map(|(share, _)| share)).min().unwrap_or(Factor::FULL)
        };
        flow.overflow_flows = plan.overflow.as_deref().is_none_or(|set| least(set) == Factor::FULL);
        flow.critical_route_flows = plan.critical_route.as_deref().is_none_or(|set| least(set) > Factor::NONE);
        flow
    }
}

impl Flow {
    /// What limits mail while a breaker does not let all of it through.
    pub fn limit(&self) -> Option<Limit> {
        let because = self.because.as_ref().filter(|_| self.factor != Factor::FULL)?;
        Some(match self.factor {
            Factor::NONE => Limit::Stopped(because.clone()),
            factor => Limit::Throttled(because.clone(), factor),
        })
    }

    /// When to ask again while a breaker lets nothing through.
    pub fn until(&self, now: Now) -> Now {
        let until = self.because.as_ref().and_then(|because| because.until);
        until.filter(|until| *until > now).unwrap_or_else(|| now.plus_minutes(UNKNOWN_MINUTES))
    }
}

/// What is asked for at one ISP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// How many mails.
    pub mails: u64,
    /// How urgent they are.
    pub class: Class,
    /// When.
    pub now: Now,
    /// Whether mail that is not released yet is to be granted for the times at which it will be.
    pub schedule: bool,
    /// A number that differs between requests, so that they are not all repeated at the same time: thousandths, 0 to
    /// 999.
    pub jitter: u16,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// What may be sent with the requested configuration set, now or as scheduled; `None` if nothing.
    pub spend: Option<Spend>,
    /// Mails of the spend that are scheduled for later; `None` if all of them may be sent now.
    pub schedule: Option<Schedule>,
    /// Mails that may be sent now with the overflow set.
    pub overflow: u64,
    /// Mails that may not be sent now.
    pub deferred: u64,
    /// When to ask for the deferred mails again.
    pub retry_at: Option<Now>,
    /// Why not everything was granted; `None` if it was.
    pub limit: Option<Limit>,
}

impl Permit {
    /// Nothing may be sent.
    pub const NOTHING: Permit =
        Permit { spend: None, schedule: None, overflow: 0, deferred: 0, retry_at: None, limit: None };
}

/// A change of a meter, with the conditions under which it may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The day whose quota it is.
    pub day: i32,
    /// The quota on which it was decided.
    pub quota: u64,
    /// Mails of the shared part.
    pub bulk: u64,
    /// The most mails of the shared part that may have been granted before it.
    pub most_bulk: u64,
    /// Mails of the reserve.
    pub critical: u64,
    /// Whether this is all there was, and more was asked for.
    pub short: bool,
    /// The most mails of the reserve that may have been granted before it. Both limits are always checked, so that a
    /// process with another split of the quota, from a newer policy, cannot grant the same mails.
    pub most_critical: u64,
    /// By how much one bulk mail moves the mark, in nanoseconds.
    pub interval: i64,
    /// Where the mark goes, and from where.
    pub mark: MarkMove,
}

/// How a spend moves the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkMove {
    /// The mark does not move.
    Stay,
    /// By this number of nanoseconds; the mark must be at least at the first of the two times, and at most at the
    /// second.
    Advance(i64, Nanos, Nanos),
    /// To the first time; the mark must be before the second.
    Lift(Nanos, Nanos),
}

impl Spend {
    /// Whether the conditions hold for a meter.
    pub fn holds(&self, meter: &Meter) -> bool {
        let counts = meter.bulk <= self.most_bulk && meter.critical <= self.most_critical;
        counts
            && match self.mark {
                MarkMove::Stay => true,
                MarkMove::Advance(_, from, to) => from <= meter.mark && meter.mark <= to,
                MarkMove::Lift(_, below) => meter.mark < below,
            }
    }

    /// The meter after it.
    pub fn applied(&self, meter: &Meter) -> Meter {
        let mark = match self.mark {
            MarkMove::Stay => meter.mark,
            MarkMove::Advance(by, ..) => Nanos(meter.mark.0.saturating_add(by)),
            MarkMove::Lift(to, _) => to,
        };
        let (bulk, critical) = (meter.bulk + self.bulk, meter.critical + self.critical);
        Meter { bulk, critical, short: self.short, mark }
    }

    /// All its mails.
    pub fn mails(&self) -> u64 {
        self.bulk + self.critical
    }
}

/// What limits a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The day's quota has been granted.
    Quota {
        /// Mails granted.
        used: u64,
        /// Of how many.
        quota: u64,
    },
    /// More of the quota is released later that day.
    Pace {
        /// Mails an hour.
        hourly: u64,
    },
    /// A breaker lets only a share through.
    Throttled(Because, Factor),
    /// A breaker lets nothing through.
    Stopped(Because),
    /// It would be granted, but SES accepts no mail with this configuration set, and no other route is named or sends.
    NoRoute(Because),
    /// What was granted under this request has expired.
    LeaseExpired,
}

impl Limit {
    /// Stable name, as in answers.
    pub fn name(&self) -> &'static str {
        match self {
            Limit::Quota { .. } => "quota",
            Limit::Pace { .. } => "pace",
            Limit::Throttled(..) => "throttled",
            Limit::Stopped(_) => "stopped",
            Limit::NoRoute(_) => "no-route",
            Limit::LeaseExpired => "lease-expired",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Quota { used, quota } => write!(f, "{used} of the {quota} mails of this day have been granted"),
            Limit::Pace { hourly } => write!(f, "the day's quota comes in at {hourly} mails an hour"),
            Limit::Throttled(because, factor) => {
                write!(f, "{} is {}: {factor} of the quota", because.key.subject, because.state.word(true))
            }
            Limit::Stopped(because) => write!(f, "{} is {}", because.key.subject, because.state.word(true)),
            Limit::NoRoute(because) => write!(
                f,
                "SES accepts nothing while {} is {}, and the policy names no critical_route that sends",
                because.key.subject,
                because.state.word(true)
            ),
            Limit::LeaseExpired => {
                f.write_str("what was granted under the name of this request has expired; ask under another name")
            }
        }
    }
}

/// Decides what may be sent now. `day` is the day of the ramp, and holds `ask.now`.
pub fn decide(plan: &Plan, ramp: &Ramp, day: Day, meter: &Meter, flow: &Flow, ask: Ask) -> Permit {
    // Computed from `reach`, so that a quota reduced to a small share keeps its reserve. A policy may have changed the
    // split within the day: then earlier grants count on the side on which they were made.
    let quota = ramp.quota_under(plan);
    let reserve = plan.reserve(ramp.reach_under(plan)).min(quota);
    let shared = quota - reserve.max(meter.critical).min(quota);
    let reserve = reserve.min(quota.saturating_sub(meter.bulk));
    let mut left = ask.mails;
    let no_route =
        flow.all_stopped || (flow.stopped_at_ses && !(plan.critical_route.is_some() && flow.critical_route_flows));

    let critical = match ask.class {
        Class::Critical if !no_route => left.min(reserve.saturating_sub(meter.critical)),
        Class::Critical | Class::Bulk => 0,
    };
    left -= critical;

    let pace = Pace::new(plan, shared, flow.factor, day, ask.now);
    let now = Nanos::of(ask.now);
    let (base, floor) = match &pace {
        Some(pace) => {
            let floor = Nanos(now.0.saturating_sub(pace.burst)).max(Nanos::of(day.start));
            (meter.mark.max(floor), floor)
        }
        None => (meter.mark, meter.mark),
    };
    let remaining = shared.saturating_sub(meter.bulk);
    let (come_in, scheduled) = match &pace {
        Some(pace) => {
            let come_in = left.min(remaining).min(pace.come_in(base, now));
            // Only while all mail flows: nobody knows what a breaker will let through later.
            let schedules = ask.schedule && flow.factor == Factor::FULL;
            let last = pace.horizon(day, now);
            let by_then = left.min(remaining).min(pace.come_in(base, last)).max(come_in);
            (come_in, if schedules { by_then - come_in } else { 0 })
        }
        None => (0, 0),
    };
    let bulk = come_in + scheduled;
    left -= bulk;

    let interval = pace.as_ref().map_or(0, |pace| pace.interval);
    let mark = match &pace {
        Some(pace) if bulk > 0 => {
            let by = pace.cost(bulk);
            if meter.mark < floor {
                MarkMove::Lift(Nanos(floor.0.saturating_add(by)), floor)
            } else if scheduled > 0 {
                // The times of a schedule are computed from the mark.
                MarkMove::Advance(by, meter.mark, meter.mark)
            } else {
                MarkMove::Advance(by, floor, Nanos(now.0.saturating_sub(by)))
            }
        }
        Some(_) | None => MarkMove::Stay,
    };
    let schedule = pace.as_ref().filter(|_| scheduled > 0).map(|pace| Schedule {
        from: Nanos(base.0.saturating_add(pace.cost(come_in))),
        mails: scheduled,
        slot: pace.burst_mails().max(scheduled.div_ceil(MAX_SLOTS)),
        granted: ask.now,
    });
    let spend = Spend {
        day: ramp.day,
        quota: ramp.quota,
        bulk,
        most_bulk: if bulk > 0 { shared.saturating_sub(bulk) } else { quota.saturating_sub(reserve) },
        critical,
        short: left > 0,
        most_critical: if critical > 0 { reserve.saturating_sub(critical) } else { quota.saturating_sub(shared) },
        interval,
        mark,
    };

    // What exceeds the quota goes to shared IPs while the ramp is young: not what is only released later, and never
    // mail limited by a breaker.
    let young = ramp.reach_under(plan).saturating_mul(2) < plan.target;
    let overflows = young && plan.overflow.is_some() && flow.factor == Factor::FULL && flow.overflow_flows;
    let overflow = if overflows { left.saturating_sub(remaining - bulk) } else { 0 };
    left -= overflow;

    let limit = (left + overflow > 0).then(|| match (&flow.because, &pace) {
        (Some(because), _) if no_route && ask.class == Class::Critical => Limit::NoRoute(because.clone()),
        (Some(because), _) if flow.factor == Factor::NONE => Limit::Stopped(because.clone()),
        (Some(because), _) if remaining > bulk => Limit::Throttled(because.clone(), flow.factor),
        (None, Some(pace)) if remaining > bulk && left > 0 => Limit::Pace { hourly: pace.hourly() },
        (Some(_) | None, _) => Limit::Quota { used: meter.used() + bulk + critical, quota },
    });
    let retry_at = (left > 0).then(|| {
        let at = match (&limit, &pace) {
            (Some(Limit::Stopped(because) | Limit::NoRoute(because)), _) => {
                because.until.unwrap_or(ask.now.plus_minutes(UNKNOWN_MINUTES))
            }
            (Some(Limit::Pace { .. } | Limit::Throttled(..)), Some(pace)) => {
                // Half a burst: a client that waits for a whole burst returns a little late, and at most one burst is
                // kept.
                let mails = left.min(remaining - bulk).min(pace.burst_mails().div_ceil(2));
                Nanos(base.0.saturating_add(pace.cost(bulk + mails))).ceil().min(day.end)
            }
            (Some(Limit::Pace { .. } | Limit::Throttled(..) | Limit::Quota { .. } | Limit::LeaseExpired) | None, _) => {
                day.end
            }
        };
        // A random time later, because otherwise all waiting clients would ask at the same moment: up to a tenth of the
        // wait, and some seconds.
        let at = at.max(Now(ask.now.0.saturating_add(1_000)));
        let spread = at.0.saturating_sub(ask.now.0) / 10 + 5_000;
        Now(at.0.saturating_add(spread / 1_000 * i64::from(ask.jitter.min(999))))
    });
    Permit { spend: (bulk + critical > 0).then_some(spend), schedule, overflow, deferred: left, retry_at, limit }
}

/// Most slots of a schedule, so that an answer about many ISPs stays small.
const MAX_SLOTS: u64 = 100;
/// When to ask again if it is unknown when a breaker will let mail through.
const UNKNOWN_MINUTES: u32 = 30;

/// How fast a quota is released.
struct Pace {
    /// Nanoseconds for one mail.
    interval: i64,
    /// How far the mark may be behind the clock, in nanoseconds.
    burst: i64,
    /// The shortest time in which a quota is released, in nanoseconds.
    shortest: i64,
}

impl Pace {
    /// `None` if nothing is released.
    fn new(plan: &Plan, quota: u64, factor: Factor, day: Day, now: Now) -> Option<Pace> {
        let share = (quota as u128).checked_mul(u128::from(factor.thousandths())).filter(|share| *share > 0)?;
        let longest = i64::from(plan.spread_hours) * NANOS_PER_HOUR;
        let shortest = (i64::from(plan.least_spread_hours) * NANOS_PER_HOUR).min(longest);
        let left = Nanos::of(day.end).0.saturating_sub(Nanos::of(now).0);
        let spread = left.clamp(shortest, longest);
        // Rounded up: the total that is released is never more than the quota.
        let interval = i64::try_from((spread as u128 * 1_000).div_ceil(share)).unwrap_or(i64::MAX);
        let burst = ((spread as f64 * plan.burst_share) as i64).max(interval);
        Some(Pace { interval, burst, shortest })
    }

    /// The latest time that mail is scheduled for: the end of the day, or so much later that a whole quota fits.
    fn horizon(&self, day: Day, now: Nanos) -> Nanos {
        Nanos::of(day.end).max(Nanos(now.0.saturating_add(self.shortest)))
    }

    fn cost(&self, mails: u64) -> i64 {
        i64::try_from(u128::from(mails) * self.interval as u128).unwrap_or(i64::MAX)
    }

    fn come_in(&self, base: Nanos, now: Nanos) -> u64 {
        u64::try_from(now.0.saturating_sub(base.0).max(0) / self.interval).unwrap_or(0)
    }

    fn burst_mails(&self) -> u64 {
        u64::try_from(self.burst / self.interval).unwrap_or(1).max(1)
    }

    fn hourly(&self) -> u64 {
        u64::try_from(NANOS_PER_HOUR / self.interval).unwrap_or(0)
    }
}

/// Mails of a lease that may be sent later, in slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The mark before the first of them.
    pub from: Nanos,
    /// How many.
    pub mails: u64,
    /// Mails of one slot; the last one may have fewer.
    pub slot: u64,
    /// When it was granted.
    pub granted: Now,
}

/// Mails that may be sent from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// How many.
    pub mails: u64,
    /// From when on.
    pub at: Now,
}

impl Schedule {
    /// Its slots in order. `interval`: nanoseconds of one mail.
    pub fn slots(&self, interval: i64) -> impl Iterator<Item = Slot> + '_ {
        let slot = self.slot.max(1);
        (0..self.mails.div_ceil(slot)).map(move |index| {
            let before = index.saturating_mul(slot);
            let mails = slot.min(self.mails - before);
            let by = i64::try_from(u128::from(before + mails) * u128::from(interval.unsigned_abs()));
            Slot { mails, at: Nanos(self.from.0.saturating_add(by.unwrap_or(i64::MAX))).ceil() }
        })
    }

    /// The mark after the last of them.
    pub fn until(&self, interval: i64) -> Nanos {
        let by = i64::try_from(u128::from(self.mails) * u128::from(interval.unsigned_abs()));
        Nanos(self.from.0.saturating_add(by.unwrap_or(i64::MAX)))
    }
}

/// Names a lease within the quota's day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl LeaseId {
    /// From the hashes of the name of a request and of what it asks for: 48 bits of the first, so that two requests of one
    /// day rarely share them, and 16 of the second, which tell a repetition from another request of the same name.
    pub fn of(name: u64, body: u64) -> LeaseId {
        LeaseId(name & !0xffff | body & 0xffff)
    }

    /// Whether both are of a request of the same name.
    pub fn same_name(self, other: LeaseId) -> bool {
        (self.0 ^ other.0) >> 16 == 0
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A granted share of a quota, which can be given back until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// The day whose quota it is.
    pub day: i32,
    /// Mails of the shared part.
    pub bulk: u64,
    /// Mails of the reserve.
    pub critical: u64,
    /// By how much one bulk mail moved the mark, in nanoseconds.
    pub interval: i64,
    /// Until when it may be used, or given back.
    pub expires: Now,
    /// Which of its bulk mails may only be sent later; `None` if none of them.
    pub schedule: Option<Schedule>,
}

impl Lease {
    /// The lease for a spend that is to be used within `millis`: each slot of a schedule from its time on.
    pub fn of(id: LeaseId, spend: &Spend, schedule: Option<Schedule>, now: Now, millis: i64) -> Lease {
        let last = schedule.as_ref().map_or(now, |schedule| schedule.until(spend.interval).ceil().max(now));
        let expires = Now(last.0.saturating_add(millis));
        let Spend { day, bulk, critical, interval, .. } = *spend;
        Lease { id, day, bulk, critical, interval, expires, schedule }
    }

    /// All its mails.
    pub fn mails(&self) -> u64 {
        self.bulk.saturating_add(self.critical)
    }

    /// Those of its mails that could be sent when it was granted.
    pub fn at_once(&self) -> u64 {
        self.mails().saturating_sub(self.schedule.as_ref().map_or(0, |schedule| schedule.mails))
    }

    /// Its slots, in order; none if it has no schedule.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.schedule.iter().flat_map(|schedule| schedule.slots(self.interval))
    }

    /// What giving back `unused` mails at `now` subtracts from a meter. Mails of the shared part are given back first,
    /// because bulk mail waits for them.
    pub fn refund(&self, unused: u64, now: Now) -> Refund {
        let bulk = unused.min(self.bulk);
        let critical = (unused - bulk).min(self.critical);
        let by = i64::try_from(u128::from(bulk) * u128::from(self.interval.unsigned_abs())).unwrap_or(i64::MAX);
        let mark = match &self.schedule {
            // While a schedule is under way, its times come after it.
            None => MarkRefund::ByIfUntil(by, Nanos::of(now)),
            // Only while it is the last one: the times of later ones were computed from its end. What was sent of it
            // was sent by now, so that nothing else is due in the time that is freed.
            Some(schedule) => MarkRefund::ByIfAt(by, schedule.until(self.interval)),
        };
        Refund { bulk, critical, mark }
    }
}

/// What giving mails back subtracts from a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Mails of the shared part.
    pub bulk: u64,
    /// Mails of the reserve.
    pub critical: u64,
    /// And of the mark.
    pub mark: MarkRefund,
}

/// How giving mails back moves the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkRefund {
    /// Not.
    Nothing,
    /// Back by this number of nanoseconds if it is not after this time, else not.
    ByIfUntil(i64, Nanos),
    /// Back by this number of nanoseconds if it is exactly at this time, else not.
    ByIfAt(i64, Nanos),
}

impl Refund {
    /// The meter after it.
    pub fn applied(&self, meter: &Meter) -> Meter {
        let by = match self.mark {
            MarkRefund::ByIfUntil(by, time) if meter.mark <= time => by,
            MarkRefund::ByIfAt(by, at) if meter.mark == at => by,
            MarkRefund::ByIfUntil(..) | MarkRefund::ByIfAt(..) | MarkRefund::Nothing => 0,
        };
        Meter {
            bulk: meter.bulk.saturating_sub(self.bulk),
            critical: meter.critical.saturating_sub(self.critical),
            short: meter.short,
            mark: Nanos(meter.mark.0.saturating_sub(by)),
        }
    }
}
