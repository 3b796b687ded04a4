//! What the gate may grant, why, and the plan for the days ahead; and a person's commands about it.

use std::collections::BTreeMap;

use pipeline::ports::{Board, Quota, Quotas as _, Reputation as _};
use pipeline::quotas::{Commanded, QuotaCommand, command, commanded, planned};
use reputation::isp::Isp;
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::Now;
use reputation::warmup::{Evidence, Plan, Ramp, close};
use reputation::zone::NumberedDate;
use serde::Serialize;
use terminal::suggest;

use crate::Access;
use crate::command::{isp_named, owned};
use crate::failure::Failure;
use crate::status::{Allowance, allowance, read_quotas};

/// Quotas of a stack.
#[derive(Clone, Debug, Serialize)]
pub struct Quotas {
    /// Name of the stack.
    pub stack: String,
    /// Its Region.
    pub region: String,
    /// When this was read (RFC 3339).
    pub at: String,
    /// The time zone in which a day begins.
    pub zone: String,
    /// Today's date there (YYYY-MM-DD).
    pub today: String,
    /// Whether the policy says that applications ask the gate.
    pub gate_in_use: bool,
    /// The configuration sets with a plan.
    pub sets: Vec<PlannedSet>,
}

/// A configuration set with a plan.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedSet {
    /// Its name.
    pub configuration_set: String,
    /// Mails on the first day at an ISP.
    pub start: u64,
    /// Mails a day at each ISP after the warm-up.
    pub target: u64,
    /// The ISPs that the gate was asked about, the largest quota first. Every other ISP begins when the gate is first asked
    /// about it.
    pub isps: Vec<PlannedQuota>,
}

/// The quota of a configuration set at one ISP.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedQuota {
    /// What may be granted, what was granted, and why.
    #[serde(flatten)]
    pub allowance: Allowance,
    /// Whether its day is over: the next request begins today.
    pub day_is_over: bool,
    /// Mails of the quota that only critical mail may use.
    pub reserve: u64,
    /// The volume that the ISP is known to accept: the quota, unless that is a trickle.
    pub reach: u64,
    /// Whether the ISP receives mail for businesses, where quotas grow more slowly.
    pub business: bool,
    /// Days with mail since the ramp began.
    pub sending_days: u32,
    /// Days without mail since the last day with mail.
    pub idle_days: u32,
    /// The days ahead if each is healthy and its quota is used, up to the one that reaches the target.
    pub ahead: Vec<DayAhead>,
    /// Leases that may still be used or returned; if there are very many, the oldest are not recorded.
    pub leases: Vec<Outstanding>,
}

/// A day ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DayAhead {
    /// Its date (YYYY-MM-DD).
    pub day: String,
    /// Its quota in mails.
    pub quota: u64,
}

/// A lease that is still valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outstanding {
    /// Its id.
    pub lease: String,
    /// Mails from the quota for all mail.
    pub bulk: u64,
    /// Mails from the reserve.
    pub critical: u64,
    /// Until when it may be used or returned (RFC 3339).
    pub expires: String,
}

/// Returns what the gate may grant to one configuration set, or to all that the policy plans.
///
/// # Errors
///
/// The policy does not plan the configuration set, or AWS refuses.
pub async fn quotas(access: &Access, set: Option<&str>, now: Now) -> Result<Quotas, Failure> {
    let policy = access.policy().await?.policy;
    let planned = &policy.warmup.sets;
    let set = set.map(|set| planned_name(&policy, set)).transpose()?;
    let asked = set.map(|set| Subject::ConfigurationSet(set.into()));
    let mut store = access.reputation(&policy);
    let (board, known) = tokio::try_join!(store.board(now), read_quotas(access, &policy, asked.as_ref()))
        .map_err(|error| access.refused(error))?;
    let zone = &policy.warmup.zone;
    let sets = planned.iter().filter(|(name, _)| set.is_none_or(|set| set == name.as_str()));
    Ok(Quotas {
        stack: access.stack.clone(),
        region: access.region.clone(),
        at: now.to_string(),
        zone: zone.to_string(),
        today: zone.day_at(now).to_string(),
        gate_in_use: policy.gate_in_use,
        sets: sets.map(|(name, plan)| planned_set(&policy, name, plan, &board, &known, now)).collect(),
    })
}

/// The name of a configuration set that the policy plans.
fn planned_name<'a>(policy: &Policy, set: &'a str) -> Result<&'a str, Failure> {
    let planned = &policy.warmup.sets;
    // Accepts the prefix, like other verbs.
    let set = set.strip_prefix("configuration-set:").unwrap_or(set);
    if planned.contains_key(set) {
        return Ok(set);
    }
    let nearest = owned(suggest(set, planned.keys().map(String::as_str)));
    Err(Failure::NotPlanned { configuration_set: set.to_owned(), nearest })
}

/// A person's command about quotas.
#[derive(Clone, Debug)]
pub struct Order {
    /// The configuration set.
    pub configuration_set: String,
    /// The ISP; `None` for all that the gate was asked about.
    pub isp: Option<String>,
    /// The command.
    pub command: QuotaCommand,
    /// Change nothing.
    pub dry_run: bool,
}

/// What a command changed.
#[derive(Clone, Debug, Serialize)]
pub struct Changes {
    /// Name of the stack.
    pub stack: String,
    /// The configuration set.
    pub configuration_set: String,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The quotas, by the name of their ISP.
    pub quotas: Vec<ChangedQuota>,
}

/// A quota before and after a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedQuota {
    /// Name of the ISP.
    pub isp: String,
    /// The date whose quota it is (YYYY-MM-DD).
    pub day: String,
    /// Mails a day before.
    pub from: u64,
    /// Mails a day now.
    pub to: u64,
    /// Mails granted of it already, which stay granted.
    pub granted: u64,
}

/// Gives a command about the quotas of a configuration set.
///
/// # Errors
///
/// The policy does not plan the configuration set, knows no such ISP, or does not allow such a quota; the gate was not asked
/// about any ISP yet, and none is named; or AWS refuses: giving the command again is safe.
pub async fn give(access: &Access, order: &Order, now: Now) -> Result<Changes, Failure> {
    let policy = access.policy().await?.policy;
    let set = planned_name(&policy, &order.configuration_set)?;
    let plan = &policy.warmup.sets[set];
    if let QuotaCommand::Set(mails) = order.command
        && !(plan.minimum..=plan.target).contains(&mails)
    {
        let (configuration_set, least, most) = (set.to_owned(), plan.minimum, plan.target);
        return Err(Failure::QuotaOutOfRange { configuration_set, mails, least, most });
    }
    let isp = isp_named(&policy, order.isp.as_deref())?;
    let store = access.quotas(&policy);
    let known = store.quotas(set).await.map_err(|error| access.refused(error))?;
    let isps: Vec<Isp> = isp.map_or_else(|| known.keys().copied().collect(), |isp| vec![isp]);
    if isps.is_empty() {
        return Err(Failure::NoQuotas { configuration_set: set.to_owned() });
    }
    let mut reputation = access.reputation(&policy);
    let mut quotas = Vec::new();
    for isp in isps {
        let changed = if order.dry_run {
            let known = known.get(&isp);
            planned(&policy, &mut reputation, known, set, isp, now).await.and_then(|before| {
                let after = commanded(&policy, set, &before, order.command, now)?;
                Ok(Commanded { before, after })
            })
        } else {
            command(&policy, &mut reputation, &store, set, isp, order.command, now).await
        };
        let Commanded { before, after } = changed.map_err(|error| access.refused(error))?;
        quotas.push(ChangedQuota {
            isp: policy.isp_map.name(isp).to_owned(),
            day: NumberedDate(after.day).to_string(),
            from: before.ramp.quota_under(plan),
            to: after.quota_under(plan),
            granted: before.meter.used(),
        });
    }
    quotas.sort_by(|a, b| a.isp.cmp(&b.isp));
    let (stack, configuration_set, dry_run) = (access.stack.clone(), set.to_owned(), order.dry_run);
    Ok(Changes { stack, configuration_set, dry_run, quotas })
}

fn planned_set(
    policy: &Policy,
    name: &str,
    plan: &Plan,
    board: &Board,
    known: &BTreeMap<(String, Isp), Quota>,
    now: Now,
) -> PlannedSet {
    let today = policy.warmup.zone.day_at(now).number;
    let own = known.iter().filter(|((set, _), _)| set == name);
    let quota = |((_, isp), quota): (&(String, Isp), &Quota)| {
        let business = policy.warmup.is_business(*isp);
        let held = quota.leases.iter().filter(|lease| lease.expires > now);
        PlannedQuota {
            allowance: allowance(policy, plan, board, name, *isp, quota),
            day_is_over: quota.ramp.day < today,
            reserve: plan.reserve(quota.ramp.reach_under(plan)).min(quota.ramp.quota_under(plan)),
            reach: quota.ramp.reach_under(plan),
            business,
            sending_days: quota.ramp.sending_days,
            idle_days: quota.ramp.idle_days,
            ahead: ahead(policy, plan, business, &quota.ramp),
            leases: held
                .map(|lease| Outstanding {
                    lease: lease.id.to_string(),
                    bulk: lease.bulk,
                    critical: lease.critical,
                    expires: lease.expires.to_string(),
                })
                .collect(),
        }
    };
    let mut isps: Vec<PlannedQuota> = own.map(quota).collect();
    isps.sort_by(|a, b| a.allowance.place().cmp(&b.allowance.place()));
    PlannedSet { configuration_set: name.to_owned(), start: plan.start, target: plan.target, isps }
}

/// At most this many days ahead are computed.
const MAX_DAYS: usize = 1_000;

/// The days after the current day of a ramp, if it and each of them is healthy and its quota is used.
fn ahead(policy: &Policy, plan: &Plan, business: bool, ramp: &Ramp) -> Vec<DayAhead> {
    let mut days = Vec::new();
    let mut ramp = ramp.clone();
    while ramp.quota < plan.target && days.len() < MAX_DAYS {
        let mails = ramp.quota.max(1);
        let good = Evidence { used: mails, sent: mails, ..Evidence::default() };
        ramp = close(plan, business, &ramp, policy.warmup.zone.day(ramp.day), &good);
        days.push(DayAhead { day: NumberedDate(ramp.day).to_string(), quota: ramp.quota });
    }
    days
}

#[cfg(test)]
mod tests {
    use reputation::warmup::begin;

    use super::*;

    #[test]
    fn the_days_ahead_are_those_of_the_plans_schedule_after_the_day_on_which_the_ramp_begins() {
        let policy = Policy::from_toml("[warmup.sets.news]\ntarget = 400").unwrap();
        let plan = &policy.warmup.sets["news"];
        for business in [false, true] {
            let ramp = begin(plan, policy.warmup.zone.day(20_000), None);
            let quotas: Vec<u64> = ahead(&policy, plan, business, &ramp).iter().map(|day| day.quota).collect();
            assert_eq!(quotas, plan.schedule(business));
        }
        let mut warmed = begin(plan, policy.warmup.zone.day(20_000), None);
        (warmed.quota, warmed.reach) = (400, 400);
        assert_eq!(ahead(&policy, plan, false, &warmed), []);
    }
}
