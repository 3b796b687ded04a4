//! Warm-up: how much mail a configuration set may send to one ISP on one day, and how this quota grows.
//!
//! ```text
//! began ─ healthy and used ─► grows … ─► warmed (the target)        idle 14 days ─► decays ─► idle 35 days ─► warmed up anew
//!   │ not used, or a warning: holds      little used for 21 days: follows the volume down
//!   │ the ISP turned some away: eases    harm: shrinks, once for each incident
//!   └ while sending is stopped or probed: a trickle
//! ```
//!
//! **Evidence**: [`close`] evaluates one day when it is over: what was granted, what SES reported of it, whether a verdict
//! is in effect, what the breaker did. **Grow** only after a day that was healthy, whose quota was used, and whose mail SES
//! reported: unused quota proves nothing, nor does a grant without mail, nor the day on which a ramp begins, which is rarely
//! a whole day. Quota counts as used, too, if the last request got all there was and asked for more: how fast a quota is
//! released is our doing. A trickle proves nothing about the quota that it was cut from.
//!
//! **Growth is learnt** at each ISP: a ramp begins with the plan's growth. When the ISP turns mail away because there is too
//! much of it, the quota goes back to what the ISP took, and what a good day adds becomes less; from one such day to the next
//! the ISP shows by how much it takes more each day; and each further good day adds a little more again. So the growth
//! settles near what the ISP bears. **Shrink** once for each incident: the breaker dates its harm, and the ramp stores the
//! last date that it has acted on. Harm by bad mail, which bounces or is complained about, halves the quota; harm by too much
//! mail takes it back to what the ISP took.
//!
//! **Idle**: an ISP forgets a sender without mail. Counted in calendar days, because ISPs forget by the calendar. A silence
//! that an ISP has borne, mail after it being healthy, costs nothing the next time: so monthly senders keep their quota.
//!
//! **Invariant:** [`close`] is a function of its arguments, so every process that closes a day computes the same quota.
//! **Invariant:** no quota is above the target or below the trickle's minimum, and no step up is above the largest
//! step.
//!
//! The numbers are common practice: 50 mails on the first day, at most twice as many with each day, 30 to 45 days in all,
//! which is also the length of SES's own plan for dedicated IPs (SES Developer Guide, "Warming up dedicated IP addresses").

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
    /// Whether the ramp begins at the target: the set sends that much already. After a long silence it begins at `start`.
    pub warm: bool,
    /// A good day multiplies the quota by this …
    pub growth: f64,
    /// … or by this, at ISPs that receive for businesses: at first, and at most.
    pub business_growth: f64,
    /// Whether the growth is learnt at each ISP.
    pub learn: bool,
    /// No step up is larger than this share of the target.
    pub max_step_share: f64,
    /// A day has used its quota if at least this share of it was granted.
    pub used_share: f64,
    /// On which days of the week, Monday first, the quota may grow.
    pub sending_days: [bool; 7],
    /// A day on which an ISP turned away this share of the mail or more had too much of it.
    pub ease_share: f64,
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
    /// The day with the most mail counts for this number of days, then it decays. If less than `follow_share` of the
    /// quota is left of it, the quota follows the volume down.
    pub follow_days: u32,
    /// See `follow_days`.
    pub follow_share: f64,
    /// The day's quota is released evenly over what is left of the day: over this number of hours at most …
    pub spread_hours: u32,
    /// … and over this number at least.
    pub least_spread_hours: u32,
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
    /// What the growth is at an ISP before anything is learnt, and at most.
    fn first_growth(&self, business: bool) -> Growth {
        Growth::of(if business { self.business_growth } else { self.growth })
    }

    /// The quota after one good day with this growth.
    fn grown(&self, quota: u64, growth: Growth) -> u64 {
        let step = ((self.target as f64 * self.max_step_share) as u64).max(1);
        let grown = u128::from(quota) * u128::from(growth.0);
        let grown = u64::try_from(grown.div_ceil(1_000)).unwrap_or(u64::MAX).max(quota.saturating_add(1));
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
            quotas.push(self.grown(last, self.first_growth(business)));
        }
        quotas
    }
}

/// The longest schedule that is computed, in days.
const MAX_DAYS: usize = 1_000;

/// What a good day multiplies a quota by, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Growth(pub u32);

impl Growth {
    /// The smallest that is learnt: at an ISP that bears no growth at all, a quota still finds out when that changes.
    const LEAST: Growth = Growth(1_050);

    fn of(times: f64) -> Growth {
        Growth((times * 1_000.0).round() as u32)
    }

    /// With this part of what it adds.
    fn with(self, part: f64) -> Growth {
        Growth(1_000 + (f64::from(self.0.saturating_sub(1_000)) * part).round() as u32)
    }

    /// With this part of what it adds; between the least and the most that it may be.
    fn scaled(self, part: f64, most: Growth) -> Growth {
        self.with(part).min(most).max(Growth::LEAST.min(most))
    }
}

/// What is left of the growth, of what it adds, after a day on which the ISP turned away too much …
const EASED: f64 = 0.7;
/// … after a day on which the breaker found harm …
const CUT: f64 = 0.5;
/// … and after a good day: carefully up again.
const PROBED: f64 = 1.1;
/// Two days on which an ISP turned away too much show its growth only if they are so many days apart.
const LEAST_APART: u32 = 3;
/// A quota is eased to no less than this share of itself: one day says little.
const MOST_EASED: f64 = 0.6;
/// Growth needs this share of what was granted to be reported as sent.
const REPORTED_SHARE: f64 = 0.5;
/// Fewer mails turned away than this say nothing.
const LEAST_TURNED_AWAY: u64 = 3;
/// The longest silence that an ISP can have borne, in days: most reputation systems keep 30 (SendGrid, "How to warm up an
/// IP address").
const LONGEST_BORNE: u32 = 31;

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
    /// The most mail that was sent on one day, of the days that count …
    pub peak: u64,
    /// … and how many days ago that was.
    pub peak_age: u32,
    /// The longest silence that the ISP has borne, in days.
    pub borne: u32,
    /// What a good day multiplies the quota by, as learnt so far; `None` if nothing is learnt yet.
    pub growth: Option<Growth>,
    /// What the ISP took when it last turned too much away …
    pub ceiling: u64,
    /// … and how many days ago that was; 0 if it never did.
    pub ceiling_age: u32,
    /// The last harm for which the quota was already reduced.
    pub demoted: Option<Now>,
}

impl Ramp {
    /// The quota under a plan that may have changed since: a lower target applies at once, and so does another start, as
    /// long as no day with mail is over.
    pub fn quota_under(&self, plan: &Plan) -> u64 {
        let reach = self.reach_under(plan);
        if self.quota == self.reach { reach } else { self.quota.min(reach) }
    }

    /// The same for the volume that the ISP has proven to accept.
    pub fn reach_under(&self, plan: &Plan) -> u64 {
        // A warm set has begun at its target, and shown that volume elsewhere.
        let warm = plan.warm && self.peak > 0;
        let at_start = self.anchor && self.sending_days == 0 && !warm;
        if at_start { plan.start.min(plan.target).max(plan.minimum) } else { self.reach.min(plan.target) }
    }

    /// What is left of the day with the most mail.
    fn recent_peak(&self, plan: &Plan) -> u64 {
        let days = self.peak_age.saturating_sub(plan.follow_days);
        (self.peak as f64 * plan.decay.powi(i32::try_from(days).unwrap_or(i32::MAX))) as u64
    }
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
    /// Smaller because the ISP turned some of the mail away.
    Eased {
        /// Before.
        from: u64,
        /// Mails turned away.
        turned_away: u64,
        /// Of how many.
        sent: u64,
    },
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
        /// What is left of the day with the most mail.
        peak: u64,
    },
    /// Smaller because nothing was sent for a long time.
    Decayed {
        /// Before.
        from: u64,
        /// Days without mail.
        idle_days: u32,
    },
    /// A person set it.
    Set {
        /// Before.
        from: u64,
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
    /// Too little of it was used, by requests that got less than they asked for and did not ask again.
    NotAskedAgain {
        /// How much.
        used: u64,
        /// Of how much.
        quota: u64,
    },
    /// Mail was granted, and SES reported little of it.
    Unreported {
        /// Mails that SES reported as sent.
        sent: u64,
        /// Mails granted.
        used: u64,
    },
    /// The ISP turned some of the mail away; but there was little of it, or the quota is as small as it gets.
    TurnedAway,
    /// It was only a trickle.
    Trickle,
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
            Move::Eased { .. } => "eased",
            Move::Shrank { .. } => "shrank",
            Move::Trickled { .. } => "trickled",
            Move::Followed { .. } => "followed",
            Move::Decayed { .. } => "decayed",
            Move::Set { .. } => "set",
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
            Move::Eased { from, turned_away, sent } => {
                write!(f, "eases from {from}: the ISP turned away {turned_away} of {sent} because there was too much")
            }
            Move::Shrank { from } => write!(f, "shrank from {from}: the breaker found harm"),
            Move::Trickled { reach } => write!(f, "a trickle while sending is stopped or probed; then {reach} again"),
            Move::Followed { from, peak } => {
                write!(f, "follows the volume down from {from}: the largest day of late counts for {peak}")
            }
            Move::Decayed { from, idle_days } => write!(f, "decays from {from}: {idle_days} days without mail"),
            Move::Set { from } => write!(f, "a person set it; it was {from}"),
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
            Held::NotAskedAgain { used, quota } => write!(
                f,
                "holds: only {used} of {quota} were used; requests that got less than they asked for did not ask again \
                 after `retryAfterSeconds`, nor for a `schedule`"
            ),
            Held::Unreported { sent, used } => write!(
                f,
                "holds: {used} were granted, and SES reported {sent} sent: is the mail sent with this configuration set, \
                 and are its events published?"
            ),
            Held::TurnedAway => f.write_str("holds: the ISP turned some of the mail away"),
            Held::Trickle => f.write_str("holds: the day's quota was only a trickle"),
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
    /// Of those, mails scheduled for the next day.
    pub later: u64,
    /// Whether the last request that got something got all there was, and asked for more.
    pub short: bool,
    /// Mails of that day that SES reported as sent, or their outcomes.
    pub sent: u64,
    /// Mails among them that the ISP turned away because of the sender.
    pub turned_away: u64,
    /// Whether the mail was bad: bounces or complaints near what is accepted. Harm is otherwise done by too much of it.
    pub bad_mail: bool,
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
    let start = if plan.warm { plan.target } else { plan.start };
    begun(plan, day.number, start, worsened, 0)
}

fn begun(plan: &Plan, day: i32, start: u64, demoted: Option<Now>, idle_days: u32) -> Ramp {
    let quota = start.min(plan.target).max(plan.minimum);
    let step =
        if quota >= plan.target && idle_days == 0 { Move::Held(Held::Warmed) } else { Move::Began { idle_days } };
    Ramp {
        day,
        quota,
        reach: quota,
        step,
        anchor: true,
        sending_days: 0,
        idle_days,
        // A set that begins at its target has shown that volume elsewhere.
        peak: if step == Move::Held(Held::Warmed) { quota } else { 0 },
        peak_age: 0,
        borne: 0,
        growth: None,
        ceiling: 0,
        ceiling_age: 0,
        demoted,
    }
}

/// The ramp after a person has set its quota, which counts from now on as if the ISP had accepted it: harm that was found
/// before does not reduce it, and it is not followed down to a smaller volume at once. What was learnt about the ISP stays.
pub fn set(plan: &Plan, ramp: &Ramp, quota: u64, now: Now) -> Ramp {
    let quota = quota.min(plan.target).max(plan.minimum.min(plan.target));
    Ramp {
        quota,
        reach: quota,
        step: Move::Set { from: ramp.quota_under(plan) },
        anchor: false,
        idle_days: 0,
        peak: ramp.peak.max(quota),
        peak_age: 0,
        demoted: Some(now),
        ..*ramp
    }
}

/// The ramp after a person has begun it anew: nothing is known about the ISP.
pub fn reset(plan: &Plan, day: Day, now: Now) -> Ramp {
    begun(plan, day.number, plan.start, Some(now), 0)
}

/// Closes the day `over` of a ramp with its evidence, and returns the ramp for the next day.
pub fn close(plan: &Plan, business: bool, ramp: &Ramp, over: Day, evidence: &Evidence) -> Ramp {
    // The policy may have changed the target meanwhile.
    let reach = ramp.reach_under(plan).max(plan.minimum.min(plan.target));
    let day = over.number.saturating_add(1);
    let any_mail = evidence.used > 0 || evidence.sent > 0;
    let mut next = Ramp {
        day,
        quota: reach,
        reach,
        step: Move::Held(Held::Warmed),
        anchor: false,
        sending_days: ramp.sending_days.saturating_add(u32::from(any_mail)),
        idle_days: if any_mail { 0 } else { ramp.idle_days.saturating_add(1) },
        peak_age: ramp.peak_age.saturating_add(1),
        ceiling_age: ramp.ceiling_age.saturating_add(u32::from(ramp.ceiling > 0)),
        ..*ramp
    };
    if evidence.sent >= next.recent_peak(plan) {
        (next.peak, next.peak_age) = (evidence.sent, 0);
    }
    // Harm comes first, also on a day without mail, because bounces of the day before still arrive.
    let news = evidence.worsened.filter(|at| ramp.demoted.is_none_or(|answered| *at > answered));
    if evidence.incident {
        // It was not this sender's fault, not on the following day either.
        next.demoted = news.or(ramp.demoted);
    }
    if news.is_some() && !evidence.incident {
        next.demoted = news;
        let least = ((reach as f64 * plan.shrink) as u64).max(plan.minimum).min(reach);
        // What the ISP took is known if it was turned away, and unknown if it was bad mail.
        next.reach = if evidence.bad_mail { least } else { evidence.taken(ramp).clamp(least, reach) };
        // Little mail says nothing about how much the ISP takes.
        if evidence.bad_mail || evidence.is_little(plan, ramp) {
            next.learn(plan, business, CUT);
        } else {
            next.hit(plan, business, CUT);
        }
        (next.quota, next.step) = (next.reach, Move::Shrank { from: reach });
    } else if next.idle_days >= plan.rewarm_after_days {
        if reach > plan.start || next.idle_days == plan.rewarm_after_days {
            return begun(plan, day, plan.start, next.demoted, next.idle_days);
        }
        // The ramp stays at its beginning until there is mail; the first day with mail is its first day.
        (next.anchor, next.step) = (true, Move::Held(Held::Idle { days: next.idle_days }));
    } else if next.idle_days >= plan.decay_after_days.max(ramp.borne.saturating_add(1)) {
        let floor = plan.start.min(reach).max(plan.minimum.min(reach));
        next.reach = ((reach as f64 * plan.decay) as u64).max(floor);
        next.anchor = ramp.anchor;
        (next.quota, next.step) = (next.reach, Move::Decayed { from: reach, idle_days: next.idle_days });
    } else if next.idle_days > 0 {
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
    let little = |mails: u64| (mails as f64) < reach as f64 * plan.follow_share;
    let peak = next.recent_peak(plan);
    next.step = if evidence.incident {
        Move::Held(Held::Incident)
    } else if evidence.level.is_some() || evidence.unsettled {
        Move::Held(Held::Unwell)
    } else if evidence.overshot(plan) && ramp.anchor && ramp.demoted.is_some_and(|at| at >= over.start) {
        // Begun anew that day: it was the mail before that the ISP turned away.
        Move::Held(Held::Anchor)
    } else if evidence.overshot(plan) && evidence.is_little(plan, ramp) {
        // Of little mail, that says nothing about a volume.
        Move::Held(Held::TurnedAway)
    } else if evidence.overshot(plan) {
        next.borne = 0;
        let least = ((reach as f64 * MOST_EASED) as u64).max(plan.minimum).min(reach);
        next.reach = evidence.taken(ramp).clamp(least, reach);
        next.quota = next.reach;
        next.hit(plan, business, EASED);
        if next.reach < reach {
            Move::Eased { from: reach, turned_away: evidence.turned_away, sent: evidence.sent }
        } else {
            Move::Held(Held::TurnedAway)
        }
    } else {
        if !little(evidence.sent) {
            next.borne = ramp.borne.max(ramp.idle_days.min(LONGEST_BORNE));
        }
        // Twice what was sent: room to grow again, and at most twice what the ISP has recently seen.
        let followed = peak.saturating_mul(2).clamp(plan.start.min(reach), reach);
        if little(peak) && !ramp.anchor && followed < reach {
            (next.reach, next.quota) = (followed, followed);
            Move::Followed { from: reach, peak }
        } else {
            grown_or_held(plan, business, ramp, over, evidence, next)
        }
    };
}

/// A healthy day: whether the quota grows after it.
fn grown_or_held(plan: &Plan, business: bool, ramp: &Ramp, over: Day, evidence: &Evidence, next: &mut Ramp) -> Move {
    let reach = next.reach;
    let most_of = |part: u64, whole: u64| part as f64 >= whole as f64 * plan.used_share;
    // A sender without critical mail cannot use the reserve, and must not be limited by it.
    let shared = ramp.quota.saturating_sub(plan.reserve(ramp.reach));
    let used = most_of(evidence.used, ramp.quota) || shared > 0 && most_of(evidence.bulk, shared);
    // How fast a quota is released is our doing. But a quota of which only little was sent proves nothing all the same.
    let short = evidence.short;
    let enough = evidence.used as f64 >= ramp.quota as f64 * plan.follow_share;
    if reach >= plan.target {
        Move::Held(Held::Warmed)
    } else if ramp.quota < ramp.reach {
        Move::Held(Held::Trickle)
    } else if ramp.anchor {
        Move::Held(Held::Anchor)
    } else if !(used || short && enough) {
        let (used, quota) = (evidence.used, ramp.quota);
        Move::Held(if short { Held::NotAskedAgain { used, quota } } else { Held::Unused { used, quota } })
    } else if (evidence.sent as f64) < evidence.used.saturating_sub(evidence.later) as f64 * REPORTED_SHARE {
        Move::Held(Held::Unreported { sent: evidence.sent, used: evidence.used })
    } else if !plan.sending_days[over.weekday()] {
        Move::Held(Held::RestDay)
    } else {
        let first = plan.first_growth(business);
        let growth = ramp.growth.filter(|_| plan.learn).map_or(first, |growth| growth.min(first));
        // The nearer the ISP is to turning away too much, the less.
        let part = if plan.learn { 1.0 - evidence.strain(plan) } else { 1.0 };
        next.reach = plan.grown(reach, growth.with(part));
        next.quota = next.reach;
        if ramp.growth.is_some() {
            next.learn(plan, business, PROBED);
        }
        if next.reach >= plan.target { Move::Held(Held::Warmed) } else { Move::Grew { from: reach } }
    }
}

impl Ramp {
    /// Learns from a day on which the ISP took only this reach. Between two such days it has shown by how much it takes
    /// more each day: half of what is learnt is that, and it is never more than before.
    fn hit(&mut self, plan: &Plan, business: bool, part: f64) {
        let most = self.growth.unwrap_or_else(|| plan.first_growth(business)).min(plan.first_growth(business));
        self.learn(plan, business, part);
        if let Some(growth) = self.growth.filter(|_| self.ceiling > 0 && self.ceiling_age >= LEAST_APART) {
            let days = f64::from(self.ceiling_age);
            let shown = Growth::of((self.reach as f64 / self.ceiling as f64).max(1.0).powf(1.0 / days));
            self.growth = Some(Growth(growth.0.midpoint(shown.0)).scaled(1.0, most));
        }
        (self.ceiling, self.ceiling_age) = (self.reach, 0);
    }

    /// Scales what a good day adds.
    fn learn(&mut self, plan: &Plan, business: bool, part: f64) {
        if plan.learn {
            let most = plan.first_growth(business);
            self.growth = Some(self.growth.unwrap_or(most).scaled(part, most));
        }
    }
}

impl Evidence {
    /// Whether the ISP turned away too much of the mail.
    fn overshot(&self, plan: &Plan) -> bool {
        self.turned_away >= LEAST_TURNED_AWAY && self.turned_away as f64 >= self.sent as f64 * plan.ease_share
    }

    /// Whether so little of the quota was sent that the day says nothing about a volume.
    fn is_little(&self, plan: &Plan, ramp: &Ramp) -> bool {
        (self.sent as f64) < ramp.quota_under(plan) as f64 * plan.follow_share
    }

    /// How near the ISP was to turning away too much: 0 to 1.
    fn strain(&self, plan: &Plan) -> f64 {
        if self.turned_away < LEAST_TURNED_AWAY {
            return 0.0;
        }
        (self.turned_away as f64 / (self.sent as f64 * plan.ease_share)).min(1.0)
    }

    /// Mails that the ISP took.
    fn taken(&self, ramp: &Ramp) -> u64 {
        if ramp.quota == ramp.reach {
            return self.sent.saturating_sub(self.turned_away);
        }
        // A trickle: the share counts, not the number.
        let share = self.turned_away as f64 / self.sent.max(1) as f64;
        (ramp.reach as f64 * (1.0 - share)) as u64
    }
}
