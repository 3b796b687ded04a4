//! Warm-up: how much mail a configuration set may send to one ISP on one day, and how this quota grows.
//!
//! ```text
//! began ─ healthy and used ─► grows … ─► warmed (the target)        idle 14 days ─► decays ─► idle 21 days ─► warmed up anew
//!   │ not used, or a warning: holds      little used for a week: follows the volume down
//!   └ harm: shrinks, once for each incident; while sending is stopped or probed: a trickle
//! ```
//!
//! **Evidence**: [`close`] evaluates one day when it is over: what was granted, whether a verdict is in effect, what
//! the breaker did. **Grow** only after a day that was healthy and whose quota was used: unused quota proves nothing,
//! and neither does the day on which a ramp begins, which is rarely a whole day. A trickle that was used without harm
//! counts as use of the quota that it was cut from. **Shrink** once for each incident: the breaker dates its harm, and
//! the ramp stores the last date that it has acted on. Until the ramp is past the quota at which harm was done, it
//! grows slowly, as at ISPs that receive for businesses. **Idle**: an ISP forgets a sender without mail. Counted in
//! calendar days, because ISPs forget by the calendar.
//!
//! **Invariant:** [`close`] is a function of its arguments, so every process that closes a day computes the same quota.
//! **Invariant:** no quota is above the target or below the trickle's minimum, and no step up is above the largest
//! step.
//!
//! The numbers are common practice: 50 mails on the first day, 1.5 to 2 times as many with each day, less for business
//! domains, 30 to 45 days in all, which is also the length of SES's own plan for dedicated IPs (SES Developer Guide,
//! "Warming up dedicated IP addresses").

use std::fmt;

use crate::detect::{Level, Percent};
use crate::time::Now;
use crate::zone::Day;

/// How a configuration set is warmed up at an ISP.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Mails of the first day.
    pub start: u64,
    /// Mails a day at which it is warmed up. No quota is higher.
    pub target: u64,
    /// A good day multiplies the quota by this …
    pub growth: f64,
    /// … or by this, at ISPs that receive for businesses, and up to a quota that has done harm.
    pub business_growth: f64,
    /// No step up is larger than this share of the target.
    pub max_step_share: f64,
    /// A day has used its quota if at least this share of it was granted.
    pub used_share: f64,
    /// On which days of the week, Monday first, the quota may grow.
    pub sending_days: [bool; 7],
    /// Harm multiplies the quota by this.
    pub shrink: f64,
    /// What is let through while sending is stopped or probed, as a share of the quota, in addition to the reserve for
    /// critical mail.
    pub trickle_share: f64,
    /// No quota is lower.
    pub minimum: u64,
    /// From this number of days without mail on, the quota decays …
    pub decay_after_days: u32,
    /// … by this factor a day …
    pub decay: f64,
    /// … and from this number of days on the ramp begins again.
    pub rewarm_after_days: u32,
    /// After this number of sending days in a row that used less than `follow_share` of the quota, it follows the
    /// volume down.
    pub follow_days: u32,
    /// See `follow_days`.
    pub follow_share: f64,
    /// The day's quota is released evenly over this number of hours.
    pub spread_hours: u32,
    /// Quota that is not requested is kept, up to this share.
    pub burst_share: f64,
    /// This share of the quota is reserved for critical mail, whatever happens to the rest.
    pub critical_share: f64,
    /// The configuration set on shared IPs that takes what exceeds the quota in the first half of the ramp.
    pub overflow: Option<String>,
    /// The configuration set that takes critical mail while this one is stopped at SES.
    pub critical_route: Option<String>,
}

impl Plan {
    /// The quota after one good day; `carefully`: at ISPs that receive for businesses, and up to a quota that has done
    /// harm.
    pub fn grown(&self, quota: u64, carefully: bool) -> u64 {
        let growth = if carefully { self.business_growth } else { self.growth };
        let step = ((self.target as f64 * self.max_step_share) as u64).max(1);
        let grown = ((quota as f64 * growth).ceil() as u64).max(quota.saturating_add(1));
        grown.min(quota.saturating_add(step)).min(self.target)
    }

    /// The share of a day's quota that is kept for critical mail, in mails: at least one if there is any.
    pub fn reserve(&self, quota: u64) -> u64 {
        ((quota as f64 * self.critical_share).ceil() as u64).min(quota)
    }

    /// The quotas of a ramp on which every day is good, from the first day to the one on which it is warmed up.
    pub fn schedule(&self, business: bool) -> Vec<u64> {
        let mut quotas = vec![self.start];
        while let Some(last) = quotas.last().copied().filter(|last| *last < self.target && quotas.len() < MAX_DAYS) {
            quotas.push(self.grown(last, business));
        }
        quotas
    }
}

/// The longest schedule that is computed, in days.
const MAX_DAYS: usize = 1_000;

/// The ramp of a configuration set at one ISP on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// The day that the quota is for; see [`Day::number`].
    pub day: i32,
    /// Mails that may be sent on that day.
    pub quota: u64,
    /// The volume that the ISP has proven to accept: the quota, unless the quota is a trickle.
    pub reach: u64,
    /// The move that led to this quota.
    pub step: Move,
    /// Whether this is the day on which the ramp began, or began again.
    pub anchor: bool,
    /// Days with mail since the ramp began.
    pub sending_days: u32,
    /// Days without mail since the last day with mail.
    pub idle_days: u32,
    /// The number of days with mail in a row that used little of the quota, and the most that one of them used.
    pub low: (u32, u64),
    /// The last harm for which the quota was already reduced.
    pub demoted: Option<Now>,
    /// The quota at which that harm was done: up to it the quota grows slowly. 0 if there is none.
    pub hurt: u64,
}

/// How a quota changed from one day to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The ramp began, or began again after a long time without mail.
    Began {
        /// Days without mail before.
        idle_days: u32,
    },
    /// Larger.
    Grew {
        /// Before.
        from: u64,
    },
    /// The same.
    Held(Held),
    /// Smaller because of harm.
    Shrank {
        /// Before.
        from: u64,
    },
    /// Only a trickle, because sending is stopped or probed.
    Trickled {
        /// The quota to which it returns.
        reach: u64,
    },
    /// Smaller because less is sent.
    Followed {
        /// Before.
        from: u64,
        /// The most that was sent on one of the last days.
        peak: u64,
    },
    /// Smaller because nothing was sent for a long time.
    Decayed {
        /// Before.
        from: u64,
        /// Days without mail.
        idle_days: u32,
    },
}

/// Why a quota did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is the target.
    Warmed,
    /// The ramp began that day.
    Anchor,
    /// Too little of it was used.
    Unused {
        /// How much.
        used: u64,
        /// Of how much.
        quota: u64,
    },
    /// Nothing was sent.
    Idle {
        /// For this number of days.
        days: u32,
    },
    /// A warning is in effect, or the breaker is not closed.
    Unwell,
    /// The ISP itself is in trouble.
    Incident,
    /// It is a day of the week on which quotas do not grow.
    RestDay,
}

impl Move {
    /// Stable name, as stored and in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Move::Began { .. } => "began",
            Move::Grew { .. } => "grew",
            Move::Held(Held::Warmed) => "warmed",
            Move::Held(_) => "held",
            Move::Shrank { .. } => "shrank",
            Move::Trickled { .. } => "trickled",
            Move::Followed { .. } => "followed",
            Move::Decayed { .. } => "decayed",
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Move::Began { idle_days: 0 } => f.write_str("the ramp begins"),
            Move::Began { idle_days } => write!(f, "the ramp begins anew after {idle_days} days without mail"),
            Move::Grew { from } => write!(f, "grew from {from}: the day was healthy and its quota used"),
            Move::Held(held) => held.fmt(f),
            Move::Shrank { from } => write!(f, "shrank from {from}: the breaker found harm"),
            Move::Trickled { reach } => write!(f, "a trickle while sending is stopped or probed; then {reach} again"),
            Move::Followed { from, peak } => {
                write!(f, "follows the volume down from {from}: at most {peak} were sent on one of the last days")
            }
            Move::Decayed { from, idle_days } => write!(f, "decays from {from}: {idle_days} days without mail"),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Held::Warmed => f.write_str("warmed up: the quota is the target"),
            Held::Anchor => f.write_str("holds: the ramp began that day"),
            Held::Unused { used, quota } => {
                let share = if *quota == 0 { 0.0 } else { *used as f64 / *quota as f64 };
                write!(f, "holds: only {used} of {quota} were used ({})", Percent(share))
            }
            Held::Idle { days: 1 } => f.write_str("holds: a day without mail"),
            Held::Idle { days } => write!(f, "holds: {days} days without mail"),
            Held::Unwell => f.write_str("holds: a warning stands, or the breaker is not closed"),
            Held::Incident => f.write_str("holds: the ISP itself is in trouble"),
            Held::RestDay => f.write_str("holds: quotas do not grow on this day of the week"),
        }
    }
}

/// What is known about a day when it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Mails that were granted on it and not given back.
    pub used: u64,
    /// Of those, mails of the shared part, without the reserve for critical mail.
    pub bulk: u64,
    /// The worst verdict in effect about the mail to this ISP.
    pub level: Option<Level>,
    /// Whether the breaker is anything but closed, at this ISP or for the configuration set as a whole.
    pub unsettled: bool,
    /// Whether sending is stopped or probed, at this ISP or for the configuration set as a whole.
    pub contained: bool,
    /// When the breaker last found harm at this ISP.
    pub worsened: Option<Now>,
    /// Whether the ISP is suspected of trouble of its own.
    pub incident: bool,
}

/// A ramp that begins on this day. Harm that the breaker found before does not count for the ramp.
pub fn begin(plan: &Plan, day: Day, worsened: Option<Now>) -> Ramp {
    begun(plan, day.number, worsened, 0)
}

fn begun(plan: &Plan, day: i32, demoted: Option<Now>, idle_days: u32) -> Ramp {
    let quota = plan.start.min(plan.target).max(plan.minimum);
    let step =
        if quota >= plan.target && idle_days == 0 { Move::Held(Held::Warmed) } else { Move::Began { idle_days } };
    Ramp { day, quota, reach: quota, step, anchor: true, sending_days: 0, idle_days, low: (0, 0), demoted, hurt: 0 }
}

/// Closes the day `over` of a ramp with its evidence, and returns the ramp for the next day.
pub fn close(plan: &Plan, business: bool, ramp: &Ramp, over: Day, evidence: &Evidence) -> Ramp {
    // The policy may have changed the target meanwhile.
    let reach = ramp.reach.clamp(plan.minimum.min(plan.target), plan.target);
    let day = over.number.saturating_add(1);
    let mut next = Ramp {
        day,
        quota: reach,
        reach,
        step: Move::Held(Held::Warmed),
        anchor: false,
        sending_days: ramp.sending_days.saturating_add(u32::from(evidence.used > 0)),
        idle_days: if evidence.used > 0 { 0 } else { ramp.idle_days.saturating_add(1) },
        low: (0, 0),
        demoted: ramp.demoted,
        hurt: ramp.hurt,
    };
    // Harm comes first, also on a day without mail, because bounces of the day before still arrive.
    let news = evidence.worsened.filter(|at| ramp.demoted.is_none_or(|answered| *at > answered));
    if evidence.incident {
        // It was not this sender's fault, not on the following day either.
        next.demoted = news.or(ramp.demoted);
    }
    if news.is_some() && !evidence.incident {
        (next.demoted, next.hurt) = (news, reach);
        next.reach = ((reach as f64 * plan.shrink) as u64).max(plan.minimum).min(reach);
        (next.quota, next.step) = (next.reach, Move::Shrank { from: reach });
    } else if next.idle_days >= plan.rewarm_after_days {
        if reach > plan.start || next.idle_days == plan.rewarm_after_days {
            return begun(plan, day, next.demoted, next.idle_days);
        }
        // The ramp stays at its beginning until there is mail; the first day with mail is its first day.
        (next.anchor, next.step) = (true, Move::Held(Held::Idle { days: next.idle_days }));
    } else if next.idle_days >= plan.decay_after_days {
        let floor = plan.start.min(reach).max(plan.minimum.min(reach));
        next.reach = ((reach as f64 * plan.decay) as u64).max(floor);
        (next.quota, next.step) = (next.reach, Move::Decayed { from: reach, idle_days: next.idle_days });
    } else if next.idle_days > 0 {
        next.low = ramp.low;
        next.anchor = ramp.anchor;
        next.step = Move::Held(Held::Idle { days: next.idle_days });
    } else {
        lived(plan, business, ramp, over, evidence, &mut next);
    }
    if evidence.contained && !evidence.incident {
        // The reserve for critical mail is not reduced to a trickle: codes and passwords must not wait because of a bad
        // list.
        let trickle = ((next.reach as f64 * plan.trickle_share) as u64).max(plan.minimum);
        next.quota = trickle.saturating_add(plan.reserve(next.reach)).min(next.reach);
        if next.quota < next.reach {
            next.step = Move::Trickled { reach: next.reach };
        }
    }
    next
}

/// A day with mail and without new harm.
fn lived(plan: &Plan, business: bool, ramp: &Ramp, over: Day, evidence: &Evidence, next: &mut Ramp) {
    let reach = next.reach;
    let low = (evidence.used as f64) < ramp.reach as f64 * plan.follow_share;
    if low && !evidence.contained && !ramp.anchor {
        next.low = (ramp.low.0.saturating_add(1), ramp.low.1.max(evidence.used));
    }
    // A sender without critical mail cannot use the reserve, and must not be limited by it.
    let shared = ramp.quota.saturating_sub(plan.reserve(ramp.reach));
    let used = evidence.used as f64 >= ramp.quota as f64 * plan.used_share
        || shared > 0 && evidence.bulk as f64 >= shared as f64 * plan.used_share;
    next.step = if evidence.incident {
        Move::Held(Held::Incident)
    } else if evidence.level.is_some() || evidence.unsettled {
        Move::Held(Held::Unwell)
    } else if next.low.0 >= plan.follow_days {
        // Twice what was sent: room to grow again, and at most twice what the ISP has recently seen.
        let followed = next.low.1.saturating_mul(2).clamp(plan.start.min(reach), reach);
        let peak = next.low.1;
        (next.reach, next.quota, next.low) = (followed, followed, (0, 0));
        if followed < reach {
            Move::Followed { from: reach, peak }
        } else {
            Move::Held(Held::Unused { used: peak, quota: reach })
        }
    } else if reach >= plan.target {
        Move::Held(Held::Warmed)
    } else if ramp.anchor {
        Move::Held(Held::Anchor)
    } else if !used {
        Move::Held(Held::Unused { used: evidence.used, quota: ramp.quota })
    } else if !plan.sending_days[over.weekday()] {
        Move::Held(Held::RestDay)
    } else {
        next.reach = plan.grown(reach, business || reach < ramp.hurt);
        next.quota = next.reach;
        if next.reach >= plan.target { Move::Held(Held::Warmed) } else { Move::Grew { from: reach } }
    };
}
