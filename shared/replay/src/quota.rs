//! What the gate would have granted: the mail of a replay, asked for in order, against quotas in memory.
//!
//! The demand is the mail that was sent. It is asked for in order, a minute of a sender and ISP at a time, under the breakers
//! of that moment, through the use cases of the real gate. Deferred mail is not asked for again, because the mail of a replay
//! has been sent: the result is the share of the real traffic that would have fitted.
//!
//! **Invariant:** every mail that is asked for is granted, routed to the overflow set or deferred.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::memory::{MemoryQuotas, MemoryReputation};
use pipeline::ports::{PortError, Quota};
use pipeline::quotas::{self, Asker, Granted};
use pipeline::senders::Senders;
use reputation::Isp;
use reputation::class::Class;
use reputation::permit::Ask;
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::Now;
use reputation::unit::{SenderId, Unit, UnitKind};
use reputation::zone::NumberedDate;
use serde::Serialize;

/// The most configuration sets that are planned although the policy does not name them: their names come from the input.
const MAX_SETS: usize = 1_000;

/// The result for the mail of one configuration set to one ISP on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaDay {
    /// The quota.
    pub quota: u64,
    /// The result of the quota since the day before.
    pub step: &'static str,
    /// The reason.
    pub reason: String,
    /// Mails that would have been asked for.
    pub asked: u64,
    /// Mails granted at once: to the configuration set itself, or to its critical route.
    pub granted: u64,
    /// Mails granted at once to the overflow set.
    pub overflow: u64,
    /// Mails that would have to wait.
    pub deferred: u64,
    /// Mails that were not granted, by the limit that applied.
    pub limits: BTreeMap<&'static str, u64>,
}

/// The place of a day of a ramp: configuration set, ISP, number of the day.
type Place = (String, Isp, i32);

/// Asks for the mail of a replay while it runs.
#[derive(Debug)]
pub struct QuotaReport {
    /// The policy of the replay, with all planned sets.
    policy: Policy,
    /// Whether the policy names no sets, so that all are planned.
    plans_all: bool,
    quotas: MemoryQuotas,
    /// Mail that was sent since the last request.
    demand: BTreeMap<(SenderId, Isp), u64>,
    /// The configuration set of each sender, if it is planned, and its identity.
    senders: BTreeMap<SenderId, Option<(String, String)>>,
    /// Sets with Send events: their mail is counted by those.
    publish_sends: BTreeSet<String>,
    left_out: BTreeSet<String>,
    asks: u64,
    /// All days before this one have been closed.
    closed: Option<i32>,
    days: BTreeMap<Place, QuotaDay>,
}

impl QuotaReport {
    /// An empty report under a policy.
    pub fn new(policy: &Policy) -> QuotaReport {
        QuotaReport {
            plans_all: policy.warmup.sets.is_empty(),
            policy: policy.clone(),
            quotas: MemoryQuotas::default(),
            demand: BTreeMap::new(),
            senders: BTreeMap::new(),
            publish_sends: BTreeSet::new(),
            left_out: BTreeSet::new(),
            asks: 0,
            closed: None,
            days: BTreeMap::new(),
        }
    }

    /// Whether all configuration sets are planned by `[warmup.plan]`, because the policy names none.
    pub fn plans_all(&self) -> bool {
        self.plans_all
    }

    /// Configuration sets with mail that would ask for nothing, because the policy does not name them.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        self.left_out.iter().map(String::as_str)
    }

    /// The grants, by configuration set, name of the ISP, and day.
    pub fn rows(&self) -> Vec<QuotaRow> {
        let row = |((set, isp, day), known): (&Place, &QuotaDay)| QuotaRow {
            configuration_set: set.clone(),
            isp: self.policy.isp_map.name(*isp).to_owned(),
            day: NumberedDate(*day).to_string(),
            demand: if self.publish_sends.contains(set) { "sent" } else { "attempts" },
            quota: known.quota,
            step: known.step,
            reason: known.reason.clone(),
            asked: known.asked,
            granted: known.granted,
            overflow: known.overflow,
            deferred: known.deferred,
            limits: known.limits.clone(),
        };
        let mut rows: Vec<QuotaRow> = self.days.iter().map(row).collect();
        rows.sort_by(|a, b| (&a.configuration_set, &a.isp, &a.day).cmp(&(&b.configuration_set, &b.isp, &b.day)));
        rows
    }

    /// Notes a new unit: a sent mail, or its outcome where sends are not published.
    pub(crate) fn note(&mut self, unit: &Unit, senders: &Senders) {
        let outcome = UnitKind::OUTCOMES.contains(&unit.kind);
        if !outcome && unit.kind != UnitKind::Sent {
            return;
        }
        if !self.senders.contains_key(&unit.sender) {
            let planned = self.planned(senders.subjects(unit.sender));
            self.senders.insert(unit.sender, planned);
        }
        let Some(Some((set, _))) = self.senders.get(&unit.sender) else { return };
        if outcome {
            if self.publish_sends.contains(set) {
                return;
            }
        } else if !self.publish_sends.contains(set) {
            self.publish_sends.insert(set.clone());
        }
        *self.demand.entry((unit.sender, unit.isp)).or_default() += 1;
    }

    /// The configuration set and the identity of a sender, if that set is planned.
    fn planned(&mut self, subjects: &[Subject]) -> Option<(String, String)> {
        let set = subjects.iter().find_map(|subject| match subject {
            Subject::ConfigurationSet(name) => Some(name.to_string()),
            Subject::Account | Subject::Identity(_) | Subject::Tenant(_) | Subject::Tag(..) => None,
        })?;
        let identity = subjects.iter().find_map(|subject| match subject {
            Subject::Identity(name) => Some(name.to_string()),
            Subject::Account | Subject::ConfigurationSet(_) | Subject::Tenant(_) | Subject::Tag(..) => None,
        });
        let warmup = &mut self.policy.warmup;
        if !warmup.sets.contains_key(&set) {
            if !self.plans_all || warmup.sets.len() >= MAX_SETS {
                self.left_out.insert(set);
                return None;
            }
            warmup.sets.insert(set.clone(), warmup.plan.clone());
        }
        Some((set, identity.unwrap_or_default()))
    }

    /// Forgets senders that have no pending demand.
    pub(crate) fn forget(&mut self, senders: &BTreeSet<SenderId>) {
        self.senders.retain(|sender, _| !senders.contains(sender));
    }

    /// Whether there is pending demand.
    pub(crate) fn is_pending(&self) -> bool {
        !self.demand.is_empty()
    }

    /// Asks for the mail that was sent since the last time.
    pub(crate) async fn ask(&mut self, reputation: &mut MemoryReputation, now: Now) -> Result<(), PortError> {
        for ((sender, isp), mails) in std::mem::take(&mut self.demand) {
            let Some(Some((set, identity))) = self.senders.get(&sender).cloned() else { continue };
            self.asks += 1;
            let request = self.asks.to_string();
            let asker = Asker { set: &set, identity: &identity, request: &request, body: "" };
            let Some(plan) = self.policy.warmup.sets.get(&set) else { continue };
            let flow = quotas::flow(&self.policy, plan, reputation.known_board(), &asker, isp)?;
            // There is one client only, so retries need no jitter.
            let ask = Ask { mails, class: Class::Bulk, now, schedule: false, jitter: 0 };
            let (policy, stored) = (&self.policy, &self.quotas);
            let mut permit = quotas::permit(policy, stored, &flow, &asker, isp, ask, None).await?;
            if permit.is_none() {
                // A day that has not been closed yet.
                let quota = quotas::plan(policy, reputation, stored, &set, isp, now).await?;
                permit = quotas::permit(policy, stored, &flow, &asker, isp, ask, Some(quota)).await?;
            }
            if let Some((granted, quota)) = permit {
                self.enter(&set, isp, mails, &granted, &quota);
            }
        }
        Ok(())
    }

    fn enter(&mut self, set: &str, isp: Isp, mails: u64, granted: &Granted, quota: &Quota) {
        let day = self.days.entry((set.to_owned(), isp, granted.day)).or_insert_with(|| QuotaDay {
            quota: quota.ramp.quota,
            step: quota.ramp.step.name(),
            reason: quota.ramp.step.to_string(),
            asked: 0,
            granted: 0,
            overflow: 0,
            deferred: 0,
            limits: BTreeMap::new(),
        });
        let overflow = granted.overflow.as_ref().map_or(0, |(mails, _)| *mails);
        day.asked += mails;
        day.granted += granted.lease.as_ref().map_or(0, |lease| lease.mails());
        day.overflow += overflow;
        day.deferred += granted.deferred;
        if let Some(limit) = &granted.limit {
            *day.limits.entry(limit.name()).or_default() += overflow + granted.deferred;
        }
    }

    /// Closes the days that are over, as the hourly tick does.
    pub(crate) async fn close_days(&mut self, reputation: &mut MemoryReputation, now: Now) -> Result<(), PortError> {
        let today = self.policy.warmup.zone.day_at(now).number;
        if self.closed.replace(today) == Some(today) {
            return Ok(());
        }
        for set in self.policy.warmup.sets.keys() {
            quotas::plan_set(&self.policy, reputation, &self.quotas, set, now).await?;
        }
        Ok(())
    }
}

/// The result for the mail of one configuration set to one ISP on one day, as reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuotaRow {
    /// The configuration set.
    pub configuration_set: String,
    /// Name of the ISP.
    pub isp: String,
    /// The date, in the policy's time zone.
    pub day: String,
    /// The basis of the demand: `sent`, or `attempts` where there are no Send events.
    pub demand: &'static str,
    /// Mails that may be sent on the day.
    pub quota: u64,
    /// The result of the quota since the day before: see `Move::name`.
    pub step: &'static str,
    /// The reason.
    pub reason: String,
    /// Mails that were really sent.
    pub asked: u64,
    /// Mails granted at once.
    pub granted: u64,
    /// Mails sent by the overflow set.
    pub overflow: u64,
    /// Mails that would have to wait.
    pub deferred: u64,
    /// Mails that were not granted, by the limit that applied.
    pub limits: BTreeMap<&'static str, u64>,
}
