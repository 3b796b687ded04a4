//! The schedule of a warm-up in which every day is healthy, as a document: the contract of `plan --format json`.

use reputation::policy::Policy;
use reputation::warmup::Plan;
use serde::Serialize;

/// The schedules of a policy.
#[derive(Clone, Debug, Serialize)]
pub struct Schedules {
    /// The time zone in which a day begins.
    pub zone: String,
    /// Names of the ISPs that receive mail for businesses.
    pub business_isps: Vec<String>,
    /// One for each configuration set of `[warmup.sets]`, or one for `[warmup.plan]`.
    pub sets: Vec<SetSchedule>,
}

/// The schedule of one configuration set.
#[derive(Clone, Debug, Serialize)]
pub struct SetSchedule {
    /// Its name; null for `[warmup.plan]`.
    pub configuration_set: Option<String>,
    /// Mails on the first day.
    pub start: u64,
    /// Mails a day at each ISP after the warm-up.
    pub target: u64,
    /// Sending days from the first full one to the one with the target, at consumer and at business ISPs.
    pub sending_days: [u32; 2],
    /// By sending day, up to the last day of the slower of the two.
    pub schedule: Vec<ScheduledDay>,
}

/// One sending day.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ScheduledDay {
    /// Counted from 1. The day on which a ramp begins is not counted: it has the first quota, and nothing grows from it.
    pub day: u32,
    /// At each consumer ISP.
    pub consumer: DayQuota,
    /// At each business ISP.
    pub business: DayQuota,
}

/// The quota of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DayQuota {
    /// Mails on this day.
    pub quota: u64,
    /// Mails up to and including this day.
    pub cumulative: u64,
    /// Mails of the quota that only critical mail may use.
    pub reserve: u64,
    /// Bulk mails that become available within an hour.
    pub hourly: u64,
}

impl Schedules {
    /// The schedules of a policy, or of one configuration set, which must be in `[warmup.sets]`.
    pub fn of(policy: &Policy, only: Option<&str>) -> Schedules {
        let warmup = &policy.warmup;
        let named = warmup.sets.iter().filter(|(name, _)| only.is_none_or(|only| only == name.as_str()));
        let mut sets: Vec<SetSchedule> = named.map(|(name, plan)| SetSchedule::of(Some(name), plan)).collect();
        if sets.is_empty() {
            sets.push(SetSchedule::of(None, &warmup.plan));
        }
        Schedules {
            zone: warmup.zone.to_string(),
            business_isps: warmup.business.iter().map(|isp| policy.isp_map.name(*isp).to_owned()).collect(),
            sets,
        }
    }
}

impl SetSchedule {
    fn of(name: Option<&str>, plan: &Plan) -> SetSchedule {
        let [consumer, business] = [false, true].map(|business| day_quotas(plan, &plan.schedule(business)));
        // A quota that has reached the target stays there.
        let at = |quotas: &[DayQuota], day: usize| match (quotas.get(day), quotas.last()) {
            (Some(quota), _) => *quota,
            (None, Some(last)) => {
                let more = (day + 1 - quotas.len()) as u64;
                DayQuota { cumulative: last.cumulative.saturating_add(last.quota.saturating_mul(more)), ..*last }
            }
            (None, None) => DayQuota::default(),
        };
        let days = |quotas: &[DayQuota]| u32::try_from(quotas.len()).unwrap_or(u32::MAX);
        let schedule = (0..consumer.len().max(business.len())).zip(1..).map(|(place, day)| ScheduledDay {
            day,
            consumer: at(&consumer, place),
            business: at(&business, place),
        });
        SetSchedule {
            configuration_set: name.map(str::to_owned),
            start: plan.start,
            target: plan.target,
            sending_days: [days(&consumer), days(&business)],
            schedule: schedule.collect(),
        }
    }
}

fn day_quotas(plan: &Plan, quotas: &[u64]) -> Vec<DayQuota> {
    let mut cumulative = 0_u64;
    let day = |quota: &u64| {
        cumulative = cumulative.saturating_add(*quota);
        let reserve = plan.reserve(*quota);
        let hourly = (quota - reserve) / u64::from(plan.spread_hours.max(1));
        DayQuota { quota: *quota, cumulative, reserve, hourly }
    };
    quotas.iter().map(day).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_come_to_the_target_stays_there_while_others_grow() {
        let policy = Policy::from_toml("[warmup.sets.news]\ntarget = 400").unwrap();
        let schedules = Schedules::of(&policy, None);
        let set = &schedules.sets[0];
        assert_eq!(set.configuration_set.as_deref(), Some("news"));
        let days: Vec<(u64, u64)> = set.schedule.iter().map(|day| (day.consumer.quota, day.business.quota)).collect();
        assert_eq!(days[..3], [(50, 50), (100, 75), (180, 113)]);
        assert_eq!(days.last(), Some(&(400, 400)));
        assert_eq!(set.sending_days[1] as usize, days.len());
        for pair in set.schedule.windows(2) {
            for (before, after) in [(pair[0].consumer, pair[1].consumer), (pair[0].business, pair[1].business)] {
                assert_eq!(after.cumulative, before.cumulative + after.quota);
                assert!(after.quota >= before.quota);
            }
        }
    }
}
