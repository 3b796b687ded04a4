//! Warm-up: how much mail a configuration set may send to one ISP on one day, and how that grows.
//!
//! ```text
//! began ─ healthy and used ─► grows … ─► warmed (the target)        idle 14 days ─► decays ─► idle 21 days ─► warmed up anew
//!   │ not used, or a warning: holds      little used for a week: follows the volume down
//!   └ harm: shrinks, once for each incident; while sending is stopped or probed: a trickle
//! ```
//!
//! **Evidence**: [`close`] looks at one day when it is over: what was granted, whether a verdict stands, what the breaker did.
//! **Grow** only upon a day that was healthy and whose quota was used: unused quota proves nothing, and neither does the day on
//! which a ramp begins, which is seldom a whole one. A trickle that was used and did no harm counts for what it was cut from.
//! **Shrink** once for each incident: the breaker dates its harm, and a date that has been answered for is kept. Until the
//! ramp is past the quota at which harm was done, it grows carefully, as at ISPs that receive for businesses.
//! **Idle**: an ISP forgets a sender. Counted in calendar days, because that is how ISPs forget.
//!
//! **Invariant:** [`close`] is a function of its arguments, so whoever closes a day comes to the same quota.
//! **Invariant:** no quota is above the target or below the trickle's minimum, and no step up is above the largest step.
//!
//! The numbers are those of the field: 50 mails on the first day, 1.5 to 2 times as many with each day, less for business
//! domains, 30 to 45 days in all, which is also what SES's own plan for dedicated IPs takes (SES Developer Guide, "Warming
//! up dedicated IP addresses").

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
    /// A day has used its quota if so much of it was granted.
    pub used_share: f64,
    /// On which days of the week, Monday first, the quota may grow.
    pub sending_days: [bool; 7],
    /// Harm multiplies the quota by this.
    pub shrink: f64,
    /// What is let through while sending is stopped or probed, as a share of the quota, beside the reserve for critical mail.
    pub trickle_share: f64,
    /// No quota is lower.
    pub minimum: u64,
    /// From so many days without mail on, the quota decays …
    pub decay_after_days: u32,
    /// … by this factor a day …
    pub decay: f64,
    /// … and from so many days on it begins anew.
    pub rewarm_after_days: u32,
    /// After so many sending days in a row that used less than `follow_share` of the quota, it follows the volume down.
    pub follow_days: u32,
    /// See `follow_days`.
    pub follow_share: f64,
    /// The day's quota comes in evenly over so many hours.
    pub spread_hours: u32,
    /// What was not asked for is kept up to this share of the quota.
    pub burst_share: f64,
    /// This share of the quota is for critical mail only, whatever happens to the rest.
    pub critical_share: f64,
    /// The configuration set on shared IPs that takes what exceeds the quota in the first half of the ramp.
    pub overflow: Option<String>,
    /// The configuration set that takes critical mail while this one is stopped at SES.
    pub critical_route: Option<String>,
}

impl Plan {
    /// The quota after one good day; `carefully` at ISPs that receive for businesses, and up to a quota that has done harm.
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

/// The longest schedule that is written down.
const MAX_DAYS: usize = 1_000;

/// Where a configuration set stands at one ISP on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// The day that the quota is for; see [`Day::number`].
    pub day: i32,
    /// Mails that may be sent on it.
    pub quota: u64,
    /// The volume that the ISP has shown it takes: the quota, unless that is a trickle.
    pub reach: u64,
    /// Why it is that.
    pub step: Move,
    /// Whether this is the day on which the ramp began, or began anew.
    pub anchor: bool,
    /// Days with mail since the ramp began.
    pub sending_days: u32,
    /// Days without mail since the last one with.
    pub idle_days: u32,
    /// Days with mail in a row that used little of the quota, and the most that one of them used.
    pub low: (u32, u64),
    /// The harm that has been answered for with a smaller quota.
    pub demoted: Option<Now>,
    /// The quota that did it: up to there it grows carefully. 0 if there is none.
    pub hurt: u64,
}

/// What became of a quota from one day to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The ramp began, or began anew after a long time without mail.
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
        /// The quota that it comes back to.
        reach: u64,
    },
    /// Smaller because less is sent.
    Followed {
        /// Before.
        from: u64,
        /// The most that was sent on one of the last days.
        peak: u64,
    },
    /// Smaller because nothing was sent for long.
    Decayed {
        /// Before.
        from: u64,
        /// Days without mail.
        idle_days: u32,
    },
}

/// Why a quota stayed as it was.
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
        /// For so many days.
        days: u32,
    },
    /// A warning stands, or the breaker is not closed.
    Unwell,
    /// The ISP itself is in trouble.
    Incident,
    /// It is a day of the week on which nothing grows.
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
            Held::RestDay => f.write_str("holds: quotas do not grow upon this day of the week"),
        }
    }
}

/// What is known of a day when it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Mails that were granted on it and not given back.
    pub used: u64,
    /// Of those, mails of what is there for everybody, the reserve for critical mail left out.
    pub bulk: u64,
    /// The worst verdict that stands about the mail to this ISP.
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

/// A ramp that begins on this day. Harm that the breaker found before it is none of the ramp's.
pub fn begin(plan: &Plan, day: Day, worsened: Option<Now>) -> Ramp {
    begun(plan, day.number, worsened, 0)
}

fn begun(plan: &Plan, day: i32, demoted: Option<Now>, idle_days: u32) -> Ramp {
    let quota = plan.start.min(plan.target).max(plan.minimum);
    let step =
        if quota >= plan.target && idle_days == 0 { Move::Held(Held::Warmed) } else { Move::Began { idle_days } };
    Ramp { day, quota, reach: quota, step, anchor: true, sending_days: 0, idle_days, low: (0, 0), demoted, hurt: 0 }
}

/// Closes the day of a ramp, `over`, upon what is known of it, and says where the ramp stands on the next one.
pub fn close(plan: &Plan, business: bool, ramp: &Ramp, over: Day, evidence: &Evidence) -> Ramp {
    // A policy may have moved the target meanwhile.
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
    // Harm first: also of a day without mail, because the mail of the day before is still telling.
    let news = evidence.worsened.filter(|at| ramp.demoted.is_none_or(|answered| *at > answered));
    if evidence.incident {
        // It was not this sender's fault, on the day after neither.
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
        // It stands at its beginning until there is mail, which makes a day its first whichever day it is.
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
        // The reserve for critical mail is no part of what trickles: nobody's codes wait for a bad list.
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
    // Who has no critical mail cannot use the reserve, and must not be held back by it.
    let everybody = ramp.quota.saturating_sub(plan.reserve(ramp.reach));
    let used = evidence.used as f64 >= ramp.quota as f64 * plan.used_share
        || everybody > 0 && evidence.bulk as f64 >= everybody as f64 * plan.used_share;
    next.step = if evidence.incident {
        Move::Held(Held::Incident)
    } else if evidence.level.is_some() || evidence.unsettled {
        Move::Held(Held::Unwell)
    } else if next.low.0 >= plan.follow_days {
        // Twice what was sent: room to grow again, and no more than the ISP has lately seen half of.
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
