//! Quotas: closes days, and grants what a day allows.
//!
//! One item for each configuration set and ISP holds the state of its ramp and what was granted of today's quota. The
//! first that needs a new day, a request for permits or the hourly tick, closes the old one: [`plan`] computes the new
//! day, and writes it only over the day from which it was computed. So each day is closed once, and late or missed
//! ticks change nothing.
//!
//! A grant is one conditional write, whose conditions ([`Spend::holds`](reputation::permit::Spend::holds)) still hold if others spend meanwhile.

use std::collections::BTreeMap;

use reputation::breaker::{BreakerState, Override, State};
use reputation::class::Class;
use reputation::counters::{Counters, Metric, Tally};
use reputation::isp::Isp;
use reputation::judge::Judge;
use reputation::permit::{Ask, Flow, Lease, LeaseId, Limit, Meter, Permit, Slot, decide};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::Now;
use reputation::warmup::{self, Evidence, Plan, Ramp};
use siphasher::sip::SipHasher24;

use crate::evaluate::since_of_isp;
use crate::ports::{Board, Disposition, PortError, Quota, Quotas, Reputation, Saved, Spent, SubjectState};

impl Quota {
    /// A new day, of which nothing was granted yet. `before`: the day before it, whose leases may run into this one.
    pub fn opened(ramp: Ramp, policy: &Policy, before: Option<&Quota>) -> Quota {
        let day = policy.warmup.zone.day(ramp.day);
        let meter = Meter::at_start(day, before.map(|before| &before.meter));
        // So that a request that is repeated finds its lease.
        let running = |lease: &&Lease| lease.expires > day.start;
        let leases = before.map(|before| before.leases.iter().filter(running).cloned().collect());
        Quota { ramp, meter, leases: leases.unwrap_or_default() }
    }
}

/// The result of giving a lease back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// This number of mails may be granted again.
    Returned(u64),
    /// The lease is unknown: never granted, given back before, of an earlier day, or forgotten.
    Unknown,
    /// It had expired.
    Expired,
}

/// How often a write is retried after a lost race for one item, before the handlers should try later.
const MAX_RACES: usize = 256;
/// How many leases of one quota are remembered, so that its item stays small. The oldest are forgotten first: their
/// mails stay granted, and can no longer be given back.
pub const MAX_LEASES: usize = 128;
/// How many schedules of one quota may be under way. Further requests are answered as if they had asked for none.
pub const MAX_SCHEDULES: usize = 16;
/// How long a lease is remembered after its end, for repeated requests about it. Clients repeat within seconds, and each
/// lease that is remembered is paid for with each grant.
const REMEMBER_MILLIS: i64 = 5_000;

/// The quota of a configuration set at one ISP on the day that holds `now`: closes the days before, if they are still
/// open.
///
/// # Errors
///
/// A port failed; repeating it is safe.
pub async fn plan<R: Reputation, Q: Quotas>(
    policy: &Policy,
    reputation: &mut R,
    quotas: &Q,
    set: &str,
    isp: Isp,
    now: Now,
) -> Result<Quota, PortError> {
    for _ in 0..MAX_RACES {
        let known = quotas.quota(set, isp).await?;
        let new = planned(policy, reputation, known.as_ref(), set, isp, now).await?;
        if known.as_ref() == Some(&new) || quotas.open(set, isp, known.as_ref(), &new).await? == Saved::Saved {
            return Ok(new);
        }
    }
    Err(raced("planning a quota", set))
}

/// What [`plan`] makes of a quota as it is `known`; nothing is written.
///
/// # Errors
///
/// A port failed, or the policy plans no such configuration set.
pub async fn planned<R: Reputation>(
    policy: &Policy,
    reputation: &mut R,
    known: Option<&Quota>,
    set: &str,
    isp: Isp,
    now: Now,
) -> Result<Quota, PortError> {
    let Some(plan) = policy.warmup.sets.get(set) else { return Err(unknown(set)) };
    let today = policy.warmup.zone.day_at(now);
    let subject = Subject::ConfigurationSet(set.into());
    let ramp = match known {
        Some(quota) if quota.ramp.day >= today.number => return Ok(quota.clone()),
        Some(quota) => {
            let board = reputation.board(now).await?;
            let subject_state = reputation.subject_state(&subject, now).await?;
            closed(policy, plan, subject_state, &board, &subject, isp, quota, now)
        }
        None => {
            let worsened = reputation.subject_state(&subject, now).await?.breaker(Some(isp)).breaker.worsened;
            warmup::begin(plan, today, worsened)
        }
    };
    Ok(Quota::opened(ramp, policy, known))
}

/// What a person does with a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaCommand {
    /// Sets today's quota to this number of mails, within the policy's bounds; the ramp goes on from there.
    Set(u64),
    /// Sets it to the target.
    Complete,
    /// Begins the ramp anew.
    Reset,
}

/// What a person's command changed. What was granted today stays granted, and what is scheduled goes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commanded {
    /// The quota of today without the command.
    pub before: Quota,
    /// Its ramp now.
    pub after: Ramp,
}

/// Applies a person's command to the quota of a configuration set at one ISP. A quota that does not exist yet is begun.
///
/// # Errors
///
/// A port failed; repeating it is safe.
pub async fn command<R: Reputation, Q: Quotas>(
    policy: &Policy,
    reputation: &mut R,
    quotas: &Q,
    set: &str,
    isp: Isp,
    command: QuotaCommand,
    now: Now,
) -> Result<Commanded, PortError> {
    for _ in 0..MAX_RACES {
        let before = plan(policy, reputation, quotas, set, isp, now).await?;
        let after = commanded(policy, set, &before, command, now)?;
        if quotas.set(set, isp, &before.ramp, &after).await? == Saved::Saved {
            return Ok(Commanded { before, after });
        }
    }
    Err(raced("setting a quota", set))
}

/// The ramp after a person's command.
///
/// # Errors
///
/// The policy plans no such configuration set.
pub fn commanded(
    policy: &Policy,
    set: &str,
    before: &Quota,
    command: QuotaCommand,
    now: Now,
) -> Result<Ramp, PortError> {
    let Some(plan) = policy.warmup.sets.get(set) else { return Err(unknown(set)) };
    Ok(match command {
        QuotaCommand::Set(mails) => warmup::set(plan, &before.ramp, mails, now),
        QuotaCommand::Complete => warmup::set(plan, &before.ramp, plan.target, now),
        QuotaCommand::Reset => warmup::reset(plan, policy.warmup.zone.day(before.ramp.day), now),
    })
}

/// Plans all quotas of a configuration set that exist. Returns those whose day was closed.
///
/// # Errors
///
/// As [`plan`]; some quotas may have been planned.
pub async fn plan_set<R: Reputation, Q: Quotas>(
    policy: &Policy,
    reputation: &mut R,
    quotas: &Q,
    set: &str,
    now: Now,
) -> Result<BTreeMap<Isp, Quota>, PortError> {
    let today = policy.warmup.zone.day_at(now).number;
    let mut planned = BTreeMap::new();
    for (isp, known) in quotas.quotas(set).await? {
        if known.ramp.day < today {
            planned.insert(isp, plan(policy, reputation, quotas, set, isp, now).await?);
        }
    }
    Ok(planned)
}

/// The ramp on the day that holds `now`, after closing all days that are still open.
#[expect(clippy::too_many_arguments, reason = "it looks at everything that is known")]
fn closed(
    policy: &Policy,
    plan: &Plan,
    subject_state: &mut SubjectState,
    board: &Board,
    subject: &Subject,
    isp: Isp,
    quota: &Quota,
    now: Now,
) -> Ramp {
    let zone = &policy.warmup.zone;
    let today = zone.day_at(now).number;
    let business = policy.warmup.is_business(isp);
    let Meter { bulk, short, .. } = quota.meter;
    let ends = zone.day(quota.ramp.day).end;
    let own = quota.leases.iter().filter(|lease| lease.day == quota.ramp.day);
    let later = own.flat_map(Lease::slots).filter(|slot| slot.at >= ends).map(|slot| slot.mails).sum();
    let reported = |subject_state: &SubjectState, number: i32| {
        let day = zone.day(number);
        let series = subject_state.timeline.series(Some(isp));
        series.map_or_else(Counters::default, |series| series.sum_between(day.start.minute(), day.end.minute()))
    };
    let mut evidence = evidence(policy, subject_state, board, subject, isp, now);
    (evidence.used, evidence.bulk) = (quota.meter.used(), bulk);
    (evidence.later, evidence.short) = (later, short);
    let mut ramp = quota.ramp.clone();
    while ramp.day < today {
        // After a year without mail, further days change nothing.
        let missed = today - ramp.day;
        let counters = reported(subject_state, ramp.day);
        let Tally { population, bad } = counters.tally(Metric::Block);
        (evidence.sent, evidence.turned_away) = (population, bad);
        let near = |metric: Metric| {
            let rate = counters.tally(metric).rate().unwrap_or(0.0);
            rate >= policy.metrics.rule(metric).limit * NEAR_LIMIT
        };
        evidence.bad_mail = near(Metric::HardBounce) || near(Metric::Complaint);
        if missed > MAX_MISSED && evidence.used == 0 {
            ramp.idle_days = ramp.idle_days.saturating_add((missed - MAX_MISSED).unsigned_abs());
            ramp.day = today - MAX_MISSED;
        }
        ramp = warmup::close(plan, business, &ramp, zone.day(ramp.day), &evidence);
        // On the days after, no permits were requested.
        (evidence.used, evidence.bulk, evidence.later, evidence.short) = (0, 0, 0, false);
    }
    ramp
}

/// Bounces or complaints of a day from this share of their limit on explain harm; otherwise too much mail did it.
const NEAR_LIMIT: f64 = 0.5;
const MAX_MISSED: i32 = 400;

/// The evidence about the mail of a configuration set to one ISP, apart from how much was granted.
fn evidence(
    policy: &Policy,
    subject_state: &mut SubjectState,
    board: &Board,
    subject: &Subject,
    isp: Isp,
    now: Now,
) -> Evidence {
    let since = since_of_isp(subject_state, board, isp);
    let judgement = Judge::new(policy, Some(isp), &[], now).judgement(&mut subject_state.timeline, since);
    let verdict = judgement.pause.or(judgement.throttle).or(judgement.warn);
    let (own, whole) = (subject_state.breaker(Some(isp)).breaker, subject_state.breaker(None).breaker);
    let incident = board.isps.get(&isp).is_some_and(|known| known.state.is_contained());
    // A decision in shadow does not shrink a quota, but harm still keeps it from growing.
    let shadow = policy.is_shadow(subject) || [&own, &whole].iter().any(|known| known.overridden == Override::Shadow);
    Evidence {
        level: verdict.map(|verdict| verdict.level),
        unsettled: [&own, &whole].iter().any(|known| known.state != State::Closed),
        contained: !shadow && [&own, &whole].iter().any(|known| known.state.is_contained()),
        worsened: own.worsened.filter(|_| !shadow),
        incident,
        ..Evidence::default()
    }
}

/// The sender of a request for permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The configuration set that the mail is for.
    pub set: &'a str,
    /// The domain that it is sent from.
    pub identity: &'a str,
    /// The name of the request. Repeating a request under the same name grants it once; different requests need different
    /// names.
    pub request: &'a str,
    /// All recipients, also those at other ISPs: any text that is the same when the request is repeated. The mails at one ISP are
    /// not, if a policy has moved a domain meanwhile.
    pub body: &'a str,
}

/// What was granted to an asker at one ISP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The day of the quota.
    pub day: i32,
    /// The lease; `None` if nothing was granted.
    pub lease: Option<Lease>,
    /// Mails that this call has granted, for now or later: none if the request was granted before. Of two calls about the same
    /// request at the same time, both may count them.
    pub new: u64,
    /// Whether its name was used for another request; nothing is granted then.
    pub reused: bool,
    /// Of the mails of the lease, those that may be sent now.
    pub now: u64,
    /// Those that may be sent later, and when.
    pub slots: Vec<Slot>,
    /// The configuration set to send the granted mails with.
    pub route: String,
    /// Mails that may be sent with the overflow set, and its name.
    pub overflow: Option<(u64, String)>,
    /// Mails that may not be sent now.
    pub deferred: u64,
    /// When to ask for the deferred mails again.
    pub retry_at: Option<Now>,
    /// Why not everything was granted.
    pub limit: Option<Limit>,
}

/// What the breakers let through for an asker at one ISP.
///
/// # Errors
///
/// One of the breakers cannot be read: the policy decides what is granted then.
pub fn flow(policy: &Policy, plan: &Plan, board: &Board, asker: &Asker<'_>, isp: Isp) -> Result<Flow, PortError> {
    let subjects = [
        Subject::ConfigurationSet(asker.set.into()),
        Subject::Identity(asker.identity.to_ascii_lowercase().as_str().into()),
    ];
    let concerns = |key: &&Key| {
        let of_isp_itself = key.subject == Subject::Account && key.isp.is_some();
        (subjects.contains(&key.subject) || of_isp_itself) && key.isp.is_none_or(|of| of == isp)
    };
    if let Some(key) = board.unreadable.iter().find(concerns) {
        let at = key.isp.map_or_else(String::new, |isp| format!(" at {}", policy.isp_map.name(isp)));
        let reason =
            format!("the breaker of {}{at} is stored in a form that this release does not understand", key.subject);
        return Err(PortError { operation: "reading the board", reason, disposition: Disposition::Retry });
    }
    let unsettled = |key: &Key| -> Option<&BreakerState> { board.unsettled.get(key) };
    Ok(Flow::of(policy, &subjects, plan, isp, unsettled))
}

/// Grants what a quota allows now. `known` is its last known state, which saves a read if nothing has changed; returns
/// its state after the grant. `None`: its day is over, or has not begun: [`plan`] it, and ask again.
///
/// # Errors
///
/// A port failed. Mails may have been granted: asking again with the same request grants them once.
pub async fn permit<Q: Quotas>(
    policy: &Policy,
    quotas: &Q,
    flow: &Flow,
    asker: &Asker<'_>,
    isp: Isp,
    ask: Ask,
    known: Option<Quota>,
) -> Result<Option<(Granted, Quota)>, PortError> {
    let Some(plan) = policy.warmup.sets.get(asker.set) else { return Err(unknown(asker.set)) };
    let today = policy.warmup.zone.day_at(ask.now).number;
    let id = lease_id(asker, &ask);
    let mut known = known;
    // Whether `known` is current, or may be out of date; and whether a grant was attempted, which may have been carried out
    // though it was refused: a client of the table that gets no answer tries again.
    let (mut fresh, mut attempted) = (false, false);
    for _ in 0..MAX_RACES {
        // A process whose clock is ahead may have begun the next day already: then that day's quota applies, and none
        // of it is available yet.
        let Some(quota) = known.filter(|quota| quota.ramp.day >= today) else {
            if fresh {
                return Ok(None);
            }
            (known, fresh) = (quotas.quota(asker.set, isp).await?, true);
            continue;
        };
        let day = policy.warmup.zone.day(quota.ramp.day);
        if let Some(lease) = quota.leases.iter().find(|lease| lease.id.same_name(id)) {
            if !fresh {
                // The lease may have been given back since.
                (known, fresh) = (quotas.quota(asker.set, isp).await?, true);
                continue;
            }
            let granted = if lease.id == id {
                let new = if attempted { lease.mails() } else { 0 };
                Granted { new, ..again(policy, plan, flow, asker, &ask, day.number, lease) }
            } else {
                let nothing = Permit { deferred: ask.mails, ..Permit::NOTHING };
                Granted { reused: true, ..answer(plan, flow, asker, &ask, day.number, None, nothing) }
            };
            return Ok(Some((granted, quota)));
        }
        // Each schedule makes the item larger, and all writes of it dearer.
        let scheduled = quota.leases.iter().filter(|lease| lease.schedule.is_some() && lease.expires > ask.now).count();
        let ask = Ask { schedule: ask.schedule && scheduled < MAX_SCHEDULES, ..ask };
        let permit = decide(plan, &quota.ramp, day, &quota.meter, flow, ask);
        if permit.deferred + permit.overflow > 0 && !fresh {
            // Never refuse based on data that may be out of date.
            (known, fresh) = (quotas.quota(asker.set, isp).await?, true);
            continue;
        }
        let Some(spend) = &permit.spend else {
            return Ok(Some((answer(plan, flow, asker, &ask, day.number, None, permit), quota)));
        };
        let lease = Lease::of(id, spend, permit.schedule.clone(), ask.now, lease_millis(policy));
        let forgotten = forgotten(&quota.leases, ask.now);
        attempted = true;
        match quotas.spend(asker.set, isp, spend, &lease, &forgotten).await? {
            Spent::Granted(quota) => {
                let mut granted = answer(plan, flow, asker, &ask, day.number, Some(lease.clone()), permit);
                (granted.now, granted.slots) = (lease.at_once(), lease.slots().collect());
                granted.new = lease.mails();
                return Ok(Some((granted, quota)));
            }
            Spent::Refused(now) => (known, fresh) = (now, true),
        }
    }
    Err(raced("granting a permit", asker.set))
}

/// The answer to a request that was granted before: its answer was lost, or its sender looks whether its schedule still
/// stands.
fn again(policy: &Policy, plan: &Plan, flow: &Flow, asker: &Asker<'_>, ask: &Ask, day: i32, lease: &Lease) -> Granted {
    let soon = Some(ask.now.plus_minutes(1));
    if lease.expires <= ask.now {
        let limit = Some(Limit::LeaseExpired);
        return answer(
            plan,
            flow,
            asker,
            ask,
            day,
            None,
            Permit { deferred: ask.mails, retry_at: soon, limit, ..Permit::NOTHING },
        );
    }
    let rest = ask.mails.saturating_sub(lease.mails());
    let usable = |from: Now| from.0.saturating_add(lease_millis(policy)) > ask.now.0;
    let slots: Vec<Slot> = lease.slots().filter(|slot| usable(slot.at)).collect();
    let now = if lease.schedule.as_ref().is_none_or(|known| usable(known.granted)) { lease.at_once() } else { 0 };
    let held = flow.limit().filter(|_| !slots.is_empty());
    let (slots, rest, retry_at) = match &held {
        // What is scheduled waits for the breaker, too.
        Some(_) => {
            let waits: u64 = slots.iter().map(|slot| slot.mails).sum();
            let waits = rest.saturating_add(waits).min(ask.mails.saturating_sub(now));
            (Vec::new(), waits, Some(flow.until(ask.now)))
        }
        None => (slots, rest, soon.filter(|_| rest > 0)),
    };
    let permit = Permit { deferred: rest, retry_at, limit: held, ..Permit::NOTHING };
    let granted = answer(plan, flow, asker, ask, day, Some(lease.clone()), permit);
    Granted { now, slots, ..granted }
}

/// For how long what is granted may be sent, from when on it may be.
fn lease_millis(policy: &Policy) -> i64 {
    i64::from(policy.gate.lease_secs) * 1_000
}

/// An answer of which nothing may be sent yet.
fn answer(
    plan: &Plan,
    flow: &Flow,
    asker: &Asker<'_>,
    ask: &Ask,
    day: i32,
    lease: Option<Lease>,
    permit: Permit,
) -> Granted {
    let elsewhere = plan.critical_route.as_ref().filter(|_| flow.stopped_at_ses && ask.class == Class::Critical);
    let overflow = plan.overflow.as_ref().filter(|_| permit.overflow > 0);
    Granted {
        day,
        lease,
        new: 0,
        reused: false,
        now: 0,
        slots: Vec::new(),
        route: elsewhere.map_or(asker.set, String::as_str).to_owned(),
        overflow: overflow.map(|route| (permit.overflow, route.clone())),
        deferred: permit.deferred,
        retry_at: permit.retry_at,
        limit: permit.limit,
    }
}

/// Takes back the unsent mails of a lease.
///
/// # Errors
///
/// The port failed; giving back again is safe.
pub async fn give_back<Q: Quotas>(
    quotas: &Q,
    set: &str,
    isp: Isp,
    lease: &Lease,
    unused: u64,
    now: Now,
) -> Result<Returned, PortError> {
    if now > lease.expires {
        return Ok(Returned::Expired);
    }
    let unused = unused.min(lease.mails());
    let taken = quotas.take_back(set, isp, lease, unused, now).await?;
    Ok(if taken { Returned::Returned(unused) } else { Returned::Unknown })
}

/// The leases to forget: those that expired some time ago, and the oldest if there are too many.
fn forgotten(leases: &[Lease], now: Now) -> Vec<LeaseId> {
    let mut by_age: Vec<&Lease> = leases.iter().collect();
    by_age.sort_by_key(|lease| (lease.expires, lease.id));
    let expired = by_age.partition_point(|lease| lease.expires.0.saturating_add(REMEMBER_MILLIS) < now.0);
    let many = (by_age.len() + 1).saturating_sub(MAX_LEASES);
    by_age[..expired.max(many)].iter().map(|lease| lease.id).collect()
}

/// The name of the lease for a request.
fn lease_id(asker: &Asker<'_>, ask: &Ask) -> LeaseId {
    let hash = |text: &str| SipHasher24::new().hash(text.as_bytes());
    let (identity, class) = (asker.identity.to_ascii_lowercase(), ask.class.name());
    let body = format!("{identity}\0{class}\0{}\0{}", ask.schedule, asker.body);
    LeaseId::of(hash(asker.request), hash(&body))
}

fn unknown(set: &str) -> PortError {
    let reason = format!("configuration set `{set}` is not in [warmup.sets] of the policy");
    PortError { operation: "looking for a quota", reason, disposition: Disposition::Quarantine }
}

fn raced(operation: &'static str, set: &str) -> PortError {
    let reason = format!("a quota of {set} was changed by others {MAX_RACES} times in a row");
    PortError { operation, reason, disposition: Disposition::Retry }
}
