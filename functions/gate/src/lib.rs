//! The gate: may these mails go now, by which route, and if not now, when?
//!
//! A request is answered for each ISP by itself, all of them at once. What is known from the last time saves reading: a permit
//! is one conditional write in the common case. A refusal is never based on what is only remembered.
//!
//! **Invariant:** every request gets an answer. If the tables do not answer, the policy says which one, and the answer says
//! that it is not counted.
//! **Invariant:** no domain of a recipient is logged.
//!
//! Where to start: [`api`] for what is asked and answered, then [`Gate::handle`].

pub mod api;
mod body;
pub mod problem;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::lambda_function_urls::{LambdaFunctionUrlRequest, LambdaFunctionUrlResponse};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use gate_api::{ErrorCode, Health, HealthStatus, Limit, Permit, Permits, SetQuotas, Slot};
use pipeline::ports::{Board, Disposition, PortError, Quota, Quotas as _, Reputation as _};
use pipeline::quotas::{Asker, Granted, Returned, flow, give_back, permit, plan};
use reputation::class::Class;
use reputation::isp::Isp;
use reputation::permit::Ask;
use reputation::policy::{Policy, Unreadable};
use reputation::time::Now;
use reputation::warmup::Plan;
use reputation::zone::NumberedDate;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use self::api::{Answer, Call, LeaseText, PermitsCall, ReturnCall};
use self::problem::Problem;
use aws::clients::Clients;
use aws::config::{self, ConfigError};
use aws::metrics::{Metric, Metrics};
use aws::policies::{Policies, PolicyInUse};
use aws::quotas::DynamoQuotas;
use aws::reputation::DynamoReputation;

/// How long the gate goes by the board that it has read, in milliseconds: a breaker that moves is felt within it.
const BOARD_MILLIS: i64 = 1_000;
/// Quotas that are remembered. A forgotten one is read again.
const MAX_KNOWN: usize = 1_024;
/// A call is answered within this, counted or not: a client waits for three seconds.
const MAX_TIME: Duration = Duration::from_millis(2_700);
/// ISPs that are looked up at a time.
const AT_ONCE: usize = 16;
/// Seconds after which a client asks again for what could not be counted, and at most twice that.
const UNREADABLE_SECS: u64 = 30;

/// Answers for permits.
#[derive(Debug)]
pub struct Gate {
    policy: PolicyInUse,
    quotas: DynamoQuotas,
    /// One day after the other is closed.
    reputation: Mutex<DynamoReputation>,
    board: Option<(Now, Arc<Board>)>,
    /// How each quota stood when it was seen last.
    known: HashMap<(String, Isp), Quota>,
    metrics: Metrics,
}

/// The mails of a request to one ISP.
#[derive(Default)]
struct Part {
    domains: Vec<String>,
    mails: u64,
}

impl Gate {
    /// As the environment says.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    pub fn from_env(clients: &Clients) -> Result<Gate, ConfigError> {
        // Where there is a gate, it is in use.
        Ok(Gate::new(clients, &config::required("REPUTATION_TABLE")?, true))
    }

    /// Over this table.
    pub fn new(clients: &Clients, table: &str, gate_in_use: bool) -> Gate {
        let client = clients.hurried().dynamodb();
        let policy = Policy::default();
        Gate {
            policy: PolicyInUse::new(Policies::new(client.clone(), table), gate_in_use),
            reputation: Mutex::new(DynamoReputation::new(client.clone(), table, &policy)),
            quotas: DynamoQuotas::new(client, table, policy.isp_map),
            board: None,
            known: HashMap::new(),
            metrics: Metrics::new(config::stack()),
        }
    }

    /// Answers a request. `random` gives 64 unpredictable bits, new ones each time.
    pub async fn handle(
        &mut self,
        request: &LambdaFunctionUrlRequest,
        now: Now,
        random: impl FnMut() -> u64 + Send,
    ) -> LambdaFunctionUrlResponse {
        let answer = match api::read(request) {
            // Boxed: calls of the SDK, nested this deeply, are too large a type for the compiler.
            Ok(Call::Permits(call)) => self.permits(&call, now, random).boxed().await,
            Ok(Call::Return(call)) => in_time(self.take_back(&call, now).boxed(), "leases").await,
            Ok(Call::Quotas(set)) => in_time(self.quotas(set.as_deref(), now).boxed(), "the quotas").await,
            Ok(Call::Health) => in_time(self.health(now).boxed(), "the reputation table").await,
            Ok(Call::OpenApi) => Answer::OpenApi,
            Ok(Call::Options(allowed)) => Answer::Options(allowed),
            Err(problem) => problem.into(),
        };
        let mut response = answer.into_response();
        if request.request_context.http.method.as_deref() == Some(api::HEAD) {
            response.body = None;
        }
        response
    }

    async fn permits(&mut self, call: &PermitsCall, now: Now, mut random: impl FnMut() -> u64 + Send) -> Answer {
        let before = self.quotas.write_units();
        let deadline = Instant::now() + MAX_TIME;
        let board = timeout_at(deadline, self.refresh(now)).await.map_err(|_| late()).and_then(|board| board);
        let counted = match board {
            Ok(board) => Ok(self.counted(call, &board, now, &mut random, deadline).await),
            Err(error) => Err(error),
        };
        let (answer, new) = match counted {
            Ok(counted) => counted,
            Err(error) => {
                tracing::error!(%error, "permits cannot be counted");
                let answer = match self.policy.last().map(|known| &known.policy) {
                    Some(policy) if !policy.warmup.sets.contains_key(&call.configuration_set) => {
                        Problem::unknown_set(&call.configuration_set).into()
                    }
                    Some(policy) => uncounted(policy, call, now, &mut random),
                    // A default that defers bulk mail, and lets critical mail pass, of whatever set.
                    None => uncounted(&Policy::default(), call, now, &mut random),
                };
                (answer, 0)
            }
        };
        if let Answer::Permits(permits) = &answer {
            let sum = |mails: fn(&Permit) -> u64| permits.permits.iter().map(mails).sum::<u64>() as f64;
            self.metrics.emit(
                now,
                &[
                    (Metric::PermitsGranted, new as f64),
                    (Metric::PermitsOverflowed, sum(|permit| permit.overflow)),
                    (Metric::PermitsDeferred, sum(|permit| permit.deferred)),
                    (Metric::PermitsDegraded, f64::from(permits.degraded.is_some())),
                    (Metric::WriteUnits, self.quotas.write_units() - before),
                    (Metric::PolicyInvalid, f64::from(self.policy.last().is_some_and(|known| known.problem.is_some()))),
                ],
            );
        }
        answer
    }

    /// Reads the policy, if what is known of it is too old.
    async fn refresh_policy(&mut self) -> Result<(), PortError> {
        let (known, changed) = self.policy.get().await?;
        if changed {
            // ISPs are numbered by their map.
            self.quotas.set_isps(known.policy.isp_map.clone());
            self.reputation.get_mut().set_policy(&known.policy);
            self.known.clear();
            self.board = None;
        }
        Ok(())
    }

    /// Reads policy and board, if what is known of them is too old.
    async fn refresh(&mut self, now: Now) -> Result<Arc<Board>, PortError> {
        self.refresh_policy().await?;
        if let Some((at, board)) = &self.board
            && (0..BOARD_MILLIS).contains(&now.0.saturating_sub(at.0))
        {
            return Ok(Arc::clone(board));
        }
        let board = self.reputation.get_mut().board(now).await?;
        self.board = Some((now, Arc::clone(&board)));
        Ok(board)
    }

    /// The answer, and how many mails were granted by it that were not granted before.
    async fn counted(
        &mut self,
        call: &PermitsCall,
        board: &Board,
        now: Now,
        random: &mut (impl FnMut() -> u64 + Send),
        deadline: Instant,
    ) -> (Answer, u64) {
        let Gate { policy, quotas, reputation, known, .. } = self;
        let Some(policy) = policy.last().map(|known| &known.policy) else {
            return (uncounted(&Policy::default(), call, now, random), 0);
        };
        let set = call.configuration_set.as_str();
        let Some(plan) = policy.warmup.sets.get(set) else { return (Problem::unknown_set(set).into(), 0) };
        let request = match &call.request {
            Some(request) => format!("named {request}"),
            // It is never repeated: each is another one.
            None => format!("unnamed {:016x}{:016x}", random(), random()),
        };
        let body: Vec<String> = call.recipients.iter().map(|to| format!("{} {}", to.domain, to.mails)).collect();
        let body = body.join(" ");
        let asker = Asker { set, identity: &call.identity, request: &request, body: &body };
        let gate = Counter { policy, plan, board, quotas, reputation };
        let mut asks = Vec::new();
        for (name, (isp, part)) in parts(policy, call) {
            let jitter = (random() % 1_000) as u16;
            let ask = Ask { mails: part.mails, class: call.class, now, schedule: call.schedule, jitter };
            asks.push((name, isp, part, ask, known.remove(&(set.to_owned(), isp)), random()));
        }
        let (gate, asker) = (&gate, &asker);
        let granted = asks.into_iter().map(|(name, isp, part, ask, known, random)| async move {
            // What one ISP waits for costs no other its answer.
            let granted = timeout_at(deadline, gate.permit(asker, isp, ask, known)).await;
            (name, isp, part, granted.map_err(|_| late()).and_then(|granted| granted), random)
        });
        let granted: Vec<_> = granted.collect();
        let granted: Vec<_> = stream::iter(granted).buffered(AT_ONCE).collect().await;
        if granted.iter().any(|(.., outcome, _)| outcome.as_ref().is_ok_and(|(granted, _)| granted.reused)) {
            // What other ISPs have granted meanwhile may not be sent. What cannot be given back expires.
            let quotas = &*quotas;
            let back = granted.iter().filter_map(|(_, isp, _, outcome, _)| match outcome {
                Ok((Granted { lease: Some(lease), new: 1.., .. }, _)) => Some((*isp, lease)),
                Ok(_) | Err(_) => None,
            });
            let back: Vec<_> =
                back.map(|(isp, lease)| give_back(quotas, set, isp, lease, lease.mails(), now)).collect();
            for returned in stream::iter(back).buffered(AT_ONCE).collect::<Vec<_>>().await {
                if let Err(error) = returned {
                    tracing::error!(%error, set, "what a refused request was granted cannot be given back");
                }
            }
            for (_, isp, ..) in &granted {
                known.remove(&(set.to_owned(), *isp));
            }
            let request = call.request.as_deref().unwrap_or_default();
            return (Problem::reused(request).into(), 0);
        }

        let (mut permits, mut degraded, mut new) = (Vec::with_capacity(granted.len()), None, 0);
        for (name, isp, part, outcome, random) in granted {
            match outcome {
                Ok((granted, quota)) => {
                    if known.len() >= MAX_KNOWN {
                        known.clear();
                    }
                    known.insert((set.to_owned(), isp), quota);
                    new += granted.new;
                    permits.push(answer(name, part, &granted, now));
                }
                Err(error) => {
                    tracing::error!(%error, set, isp = name, "a permit cannot be counted");
                    degraded = Some(DEGRADED.to_owned());
                    permits.push(uncounted_part(policy, call, name, part, random));
                }
            }
        }
        let day = policy.warmup.zone.day_at(now).to_string();
        (Answer::Permits(Permits { request: None, configuration_set: set.to_owned(), day, degraded, permits }), new)
    }

    async fn take_back(&mut self, call: &ReturnCall, now: Now) -> Answer {
        let before = self.quotas.write_units();
        let answer = match self.taken_back(call, now).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "a lease cannot be taken back");
                Problem::unreadable("leases").into()
            }
        };
        self.metrics.emit(now, &[(Metric::WriteUnits, self.quotas.write_units() - before)]);
        answer
    }

    async fn taken_back(&mut self, call: &ReturnCall, now: Now) -> Result<Answer, PortError> {
        self.refresh_policy().await?;
        let set = call.configuration_set.as_str();
        let Some(policy) = self.policy.last().map(|known| &known.policy) else {
            return Ok(Problem::unreadable("the policy").into());
        };
        if !policy.warmup.sets.contains_key(set) {
            return Ok(Problem::unknown_set(set).into());
        }
        let LeaseText { isp, lease } = &call.lease;
        let returned = match policy.isp_map.by_name(isp) {
            Some(isp) => {
                // It has changed, or is about to.
                self.known.remove(&(set.to_owned(), isp));
                give_back(&self.quotas, set, isp, lease, call.unused, now).await?
            }
            None => Returned::Unknown,
        };
        Ok(match returned {
            Returned::Returned(returned) => Answer::Returned(gate_api::Returned { returned }),
            Returned::Unknown => {
                let detail = "the lease is of another configuration set or an earlier day, was given back before, or was \
                              never granted; nothing is left to do";
                Problem::new(ErrorCode::UnknownLease, detail).at("/lease").into()
            }
            Returned::Expired => {
                let detail = format!(
                    "the lease expired at {}; what is not sent by then stays granted: give it back earlier",
                    lease.expires
                );
                Problem::new(ErrorCode::ExpiredLease, detail).at("/lease").into()
            }
        })
    }

    async fn quotas(&mut self, set: Option<&str>, now: Now) -> Answer {
        match self.standing(set, now).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "quotas cannot be read");
                Problem::unreadable("the quotas").into()
            }
        }
    }

    async fn standing(&mut self, set: Option<&str>, now: Now) -> Result<Answer, PortError> {
        let board = self.refresh(now).await?;
        let Some(policy) = self.policy.last().map(|known| &known.policy) else {
            return Ok(Problem::unreadable("the policy").into());
        };
        let zone = &policy.warmup.zone;
        let mut sets = Vec::new();
        for (name, plan) in policy.warmup.sets.iter().filter(|(name, _)| set.is_none_or(|set| set == *name)) {
            let asker = Asker { set: name, identity: "", request: "", body: "" };
            let known = self.quotas.quotas(name).await?;
            if let Some(error) = self.quotas.take_unreadable() {
                tracing::error!(%error, set = name, "a quota cannot be read, and is not listed");
            }
            let quota = |(isp, quota): (Isp, Quota)| {
                let ramp = &quota.ramp;
                // Of a breaker that cannot be read, nothing is let through, as for permits.
                let share = flow(policy, plan, &board, &asker, isp).map_or(0.0, |flow| flow.factor.share());
                gate_api::Quota {
                    isp: policy.isp_map.name(isp).to_owned(),
                    day: NumberedDate(ramp.day).to_string(),
                    quota: ramp.quota_under(plan),
                    granted: quota.meter.used(),
                    reserve: plan.reserve(ramp.reach_under(plan)).min(ramp.quota_under(plan)),
                    share,
                    step: ramp.step.name().to_owned(),
                    reason: ramp.step.to_string(),
                }
            };
            let mut quotas: Vec<_> = known.into_iter().map(quota).collect();
            quotas.sort_by(|a, b| a.isp.cmp(&b.isp));
            sets.push(SetQuotas { configuration_set: name.clone(), target: plan.target, quotas });
        }
        match set {
            Some(set) if sets.is_empty() => Ok(Problem::unknown_set(set).into()),
            Some(_) | None => {
                let (day, zone) = (zone.day_at(now).to_string(), zone.to_string());
                Ok(Answer::Quotas(gate_api::Quotas { day, zone, sets }))
            }
        }
    }

    async fn health(&mut self, now: Now) -> Answer {
        let readable = self.refresh(now).await;
        let well = match readable {
            Ok(_) => self.quotas.try_write().await,
            Err(error) => Err(error),
        };
        match (well, self.policy.last()) {
            (Ok(()), Some(known)) => Answer::Health(Health { status: HealthStatus::Ok, policy_version: known.version }),
            (Ok(()), None) => Problem::unreadable("the policy").into(),
            (Err(error), _) => {
                tracing::error!(%error, "not well");
                Problem::unreadable("the reputation table").into()
            }
        }
    }
}

fn late() -> PortError {
    PortError {
        operation: "answering a request",
        reason: format!("not done within {} ms", MAX_TIME.as_millis()),
        disposition: Disposition::Retry,
    }
}

/// An answer, or after [`MAX_TIME`] that `what` cannot be read or written. What was written stays written.
async fn in_time(answer: impl Future<Output = Answer>, what: &str) -> Answer {
    timeout(MAX_TIME, answer).await.unwrap_or_else(|_| {
        tracing::error!(error = %late(), "no answer");
        Problem::unreadable(what).into()
    })
}

/// Grants at one ISP.
struct Counter<'a> {
    policy: &'a Policy,
    plan: &'a Plan,
    board: &'a Board,
    quotas: &'a DynamoQuotas,
    reputation: &'a Mutex<DynamoReputation>,
}

/// How often a day is opened for one ask before something else must be wrong.
const MAX_DAYS: usize = 3;

impl Counter<'_> {
    async fn permit(
        &self,
        asker: &Asker<'_>,
        isp: Isp,
        ask: Ask,
        known: Option<Quota>,
    ) -> Result<(Granted, Quota), PortError> {
        let flow = flow(self.policy, self.plan, self.board, asker, isp)?;
        let mut known = known;
        for _ in 0..MAX_DAYS {
            if let Some(granted) = permit(self.policy, self.quotas, &flow, asker, isp, ask, known).await? {
                return Ok(granted);
            }
            let mut reputation = self.reputation.lock().await;
            known = Some(plan(self.policy, &mut *reputation, self.quotas, asker.set, isp, ask.now).await?);
        }
        let reason = format!("the day of {} changed {MAX_DAYS} times meanwhile", asker.set);
        Err(PortError { operation: "granting a permit", reason, disposition: Disposition::Retry })
    }
}

/// The mails of a request by the name of the ISP that receives them.
fn parts<'a>(policy: &'a Policy, call: &PermitsCall) -> BTreeMap<&'a str, (Isp, Part)> {
    let mut parts: BTreeMap<&str, (Isp, Part)> = BTreeMap::new();
    for recipients in &call.recipients {
        let isp = policy.isp_map.classify(&recipients.domain);
        let (_, part) = parts.entry(policy.isp_map.name(isp)).or_insert_with(|| (isp, Part::default()));
        part.domains.push(recipients.given.clone());
        part.mails = part.mails.saturating_add(recipients.mails);
    }
    parts
}

fn answer(isp: &str, part: Part, granted: &Granted, now: Now) -> Permit {
    // Fewer of the request's mails may be of this ISP than when it was granted: a policy moves domains.
    let mails = granted.now.min(part.mails);
    let mut rest = part.mails - mails;
    let slots = granted.slots.iter().map(|slot| {
        let mails = slot.mails.min(rest);
        rest -= mails;
        let after_seconds = u64::try_from(slot.at.0.saturating_sub(now.0)).unwrap_or(0).div_ceil(1_000);
        Slot { mails, at: slot.at.to_string(), after_seconds }
    });
    let schedule: Vec<Slot> = slots.take_while(|slot| slot.mails > 0).collect();
    let overflow = granted.overflow.as_ref().map_or(0, |(mails, _)| *mails);
    let lease = granted.lease.as_ref();
    let text = |lease: &reputation::permit::Lease| LeaseText { isp: isp.to_owned(), lease: lease.clone() }.to_string();
    let wait = |at: Now| u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0).div_ceil(1_000).max(1);
    let retry_after = granted.retry_at.map_or(UNREADABLE_SECS, wait);
    Permit {
        isp: isp.to_owned(),
        domains: part.domains,
        asked: part.mails,
        granted: mails,
        schedule,
        route: lease.map(|_| granted.route.clone()),
        lease: lease.map(text),
        expires_at: lease.map(|lease| lease.expires.to_string()),
        expires_in_seconds: None,
        overflow,
        overflow_route: granted.overflow.as_ref().map(|(_, route)| route.clone()),
        deferred: granted.deferred,
        retry_after_seconds: (granted.deferred > 0).then_some(retry_after),
        limit: granted.limit.as_ref().map(code_of),
        reason: granted.limit.as_ref().map(ToString::to_string),
    }
}

fn code_of(limit: &reputation::permit::Limit) -> Limit {
    use reputation::permit::Limit as By;
    match limit {
        By::Quota { .. } => Limit::Quota,
        By::Pace { .. } => Limit::Pace,
        By::Throttled(..) => Limit::Throttled,
        By::Stopped(_) => Limit::Stopped,
        By::NoRoute(_) => Limit::NoRoute,
        By::LeaseExpired => Limit::LeaseExpired,
    }
}

/// The answer to clients; the reason is in the log.
const DEGRADED: &str =
    "the tables cannot be read or written: the policy says what is let through, and it is not counted";

/// The answer while the tables cannot be read.
fn uncounted(policy: &Policy, call: &PermitsCall, now: Now, random: &mut impl FnMut() -> u64) -> Answer {
    let parts = parts(policy, call).into_iter();
    let permits = parts.map(|(name, (_, part))| uncounted_part(policy, call, name, part, random())).collect();
    Answer::Permits(Permits {
        request: None,
        configuration_set: call.configuration_set.clone(),
        day: NumberedDate(policy.warmup.zone.day_at(now).number).to_string(),
        degraded: Some(DEGRADED.to_owned()),
        permits,
    })
}

fn uncounted_part(policy: &Policy, call: &PermitsCall, isp: &str, part: Part, random: u64) -> Permit {
    let mails = part.mails;
    let known = Permit { isp: isp.to_owned(), domains: part.domains, asked: mails, ..Permit::default() };
    match policy.gate.unreadable(call.class) {
        Unreadable::Grant => Permit { granted: mails, route: Some(call.configuration_set.clone()), ..known },
        Unreadable::Defer => {
            let class = match call.class {
                Class::Bulk => "gate.unreadable_bulk",
                Class::Critical => "gate.unreadable_critical",
            };
            Permit {
                deferred: mails,
                retry_after_seconds: Some(UNREADABLE_SECS + random % UNREADABLE_SECS),
                limit: Some(Limit::Unreadable),
                reason: Some(format!("the quota cannot be read, and {class} of the policy is defer")),
                ..known
            }
        }
    }
}
