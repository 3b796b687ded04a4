//! The pools of leases, and the calls to the gate that fill them.
//!
//! One lock guards the whole state; it is held for a few map look-ups and never across a wait. Calls run in tasks of
//! their own, so that a cancelled caller loses nothing: what was granted still enters the pool, and the other callers
//! that wait for the same call are served.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gate_api::{Class, PERMITS_PATH, PermitsRequest, RETURN_PATH, ReturnRequest};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::directory::Directory;
use crate::error::{Error, Problem};
use crate::gate::{Answer, Gate};
use crate::health::GateHealth;
use crate::pool::{Deferred, LeasePool, Place, PooledLease, Terms};
use crate::settings::{Settings, Unreachable};
use crate::wait::{Limit, Wait};
use crate::wire::{self, Deferral, IspAnswer, MAX_DOMAINS, Portion};

/// What a client has done so far; all but `calls` and `failed_calls` in mails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers by the gate, of whatever kind.
    pub calls: u64,
    /// Attempts to call that brought no answer, or one that says to try again.
    pub failed_calls: u64,
    /// Granted under leases.
    pub granted: u64,
    /// Granted otherwise: by overflow sets, and by a gate that could not read its state.
    pub granted_without_lease: u64,
    /// Let go, and not put back; degraded ones included.
    pub let_go: u64,
    /// Of those let go: answered because the gate could not be reached.
    pub let_go_unreached: u64,
    /// Put back by the application, and in the pool again.
    pub put_back: u64,
    /// Of leases: given back to the gate.
    pub given_back: u64,
    /// Of leases: neither sent nor given back, because they were put back too late, or the gate did not take them. Each
    /// costs the day's quota as much as a mail that was sent.
    pub lost: u64,
}

pub(crate) struct PermitClient {
    settings: Settings,
    gate: Box<dyn Gate>,
    runtime: Handle,
    state: Mutex<State>,
    /// How many tasks are under way: calls for permits, and returns of leases.
    under_way: watch::Sender<usize>,
    /// Limits how many leases are given back at once: at the end there may be many.
    returning: Semaphore,
    /// Wakes the expiry task early: a lease came in that must be given back sooner.
    earlier: Notify,
}

#[derive(Debug)]
struct State {
    closed: bool,
    directory: Directory,
    isps: Vec<Isp>,
    names: HashMap<Arc<str>, usize>,
    look_ups: [LookUp; 2],
    health: GateHealth,
    counts: Counts,
    /// When the expiry task wakes up; `None` if it does not run.
    expiry_task: Option<Instant>,
}

#[derive(Debug)]
struct Isp {
    name: Arc<str>,
    pools: [Pool; 2],
}

/// The leases of one ISP and class, and the call that refills them.
#[derive(Debug, Default)]
struct Pool {
    leases: LeasePool,
    call: Option<Arc<PendingCall>>,
}

/// Domains whose ISP is not known. While one call is under way, further domains wait for the next.
#[derive(Debug, Default)]
struct LookUp {
    waiting: BTreeMap<Box<str>, u64>,
    asked: HashSet<Box<str>>,
    call: Option<Arc<PendingCall>>,
}

/// What a call hands to those who wait for it: the refusals, by domain. By then what was granted is in the pool, and
/// [`GateHealth`] knows whether the gate was reached.
type Refused = HashMap<Box<str>, Arc<Problem>>;

/// A call that callers can wait for. They are woken in the order in which they came. With a `watch` channel the order
/// would change each time, and no simulation could be repeated.
#[derive(Debug, Default)]
struct PendingCall {
    refused: OnceLock<Refused>,
    over: Notify,
}

impl PendingCall {
    /// Waits until it is over; `None` if the runtime ended first.
    async fn over(&self) -> Option<&Refused> {
        // Registered before the check below, so that an end that comes in between is not missed.
        let over = self.over.notified();
        if self.refused.get().is_none() {
            over.await;
        }
        self.refused.get()
    }
}

/// Wakes those who wait, however a call ends.
struct Over(Arc<PendingCall>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.over.notify_waiters();
    }
}

/// What a call is for.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// To refill the pool of an ISP.
    Refill(usize),
    /// To find out about domains.
    LookUp,
}

/// The answer to a caller.
#[derive(Debug)]
pub(crate) enum Answered {
    /// These mails may go now.
    Taken(PooledLease),
    Wait(Wait),
}

/// What a caller does next.
enum Step {
    Answer(Answered),
    Fail(Error),
    /// Wait for this call, then try again.
    Await(Aim, Arc<PendingCall>),
}

/// Why a call failed.
enum Failure {
    Refused(Problem),
    Unreached,
}

/// How often a caller tries the pool before it is answered `busy`: other callers may be faster each time.
const MAX_ROUNDS: usize = 8;
/// When to ask again after `busy`.
const BUSY: Duration = Duration::from_millis(500);
/// How many leases are given back at the same time.
const MAX_RETURNING: usize = 8;
/// How long a grant without a lease is used, because the gate gives no end for it. After this time the gate is asked
/// again.
const UNLEASED_LIFE: Duration = Duration::from_secs(10);
/// The first wait between two attempts of a call; each further one is up to twice as long, all with full jitter.
const BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

impl PermitClient {
    pub(crate) fn new(settings: Settings, gate: Box<dyn Gate>, runtime: Handle) -> Arc<PermitClient> {
        let now = Instant::now();
        let state = State {
            closed: false,
            directory: Directory::new(settings.most_domains, now),
            isps: Vec::new(),
            names: HashMap::new(),
            look_ups: Default::default(),
            health: GateHealth::new(settings.rest.0, settings.rest.1),
            counts: Counts::default(),
            expiry_task: None,
        };
        Arc::new(PermitClient {
            settings,
            gate,
            runtime,
            state: Mutex::new(state),
            under_way: watch::Sender::new(0),
            returning: Semaphore::new(MAX_RETURNING),
            earlier: Notify::new(),
        })
    }

    /// A poisoned lock is used all the same: no operation under the lock can leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// See [`Permits::take`](crate::Permits::take).
    pub(crate) async fn take(
        self: &Arc<PermitClient>,
        domain: &str,
        mails: u64,
        class: Class,
    ) -> Result<Answered, Error> {
        for _ in 0..MAX_ROUNDS {
            let (aim, call) = match self.step(domain, mails, class) {
                Step::Answer(answered) => return Ok(answered),
                Step::Fail(error) => return Err(error),
                Step::Await(aim, call) => (aim, call),
            };
            let Some(refused) = call.over().await else {
                let why = "the runtime that the client was made on has ended";
                return Ok(self.unreached(class, mails, None, self.settings.rest.0, why.into()));
            };
            let problem = match aim {
                Aim::LookUp => refused.get(domain),
                // The call may have named another domain, but the ISP is the same.
                Aim::Refill(_) => refused.values().next(),
            };
            if let Some(problem) = problem {
                return Err(Error::Refused(Arc::clone(problem)));
            }
        }
        let reason = format!("others who ask at the same time were faster, {MAX_ROUNDS} times in a row");
        let (limit, reason) = (Limit::Busy, reason.into());
        Ok(Answered::Wait(Wait { retry_after: BUSY, isp: None, limit, reason, degraded: false }))
    }

    /// The answer for a caller now, or the call that it has to wait for.
    fn step(self: &Arc<PermitClient>, domain: &str, mails: u64, class: Class) -> Step {
        let now = Instant::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return Step::Fail(Error::Closed);
        }
        let known = state.directory.isp_of(domain, now);
        let Some((id, isp)) = known.and_then(|id| Some((id, state.isps.get_mut(id)?))) else {
            return self.look_up(state, domain, mails, class, now);
        };
        let pool = &mut isp.pools[class as usize];
        for pooled in pool.leases.retire(now) {
            self.give_back(pooled);
        }
        if let Some(pooled) = pool.leases.take(mails) {
            state.counts.let_go += pooled.left;
            let more_is_there = pool.leases.deferred(now).is_none() && state.health.resting(now).is_none();
            if pool.call.is_none() && more_is_there && pool.leases.low() {
                self.refill(state, id, domain, 1, class, now);
            }
            return Step::Answer(Answered::Taken(pooled));
        }
        if let Some(deferred) = pool.leases.deferred(now) {
            return Step::Answer(Answered::Wait(Wait {
                retry_after: deferred.until - now,
                isp: Some(Arc::clone(&isp.name)),
                limit: deferred.limit,
                reason: Arc::clone(&deferred.reason),
                degraded: deferred.degraded,
            }));
        }
        if let Some(call) = pool.call.clone() {
            pool.leases.join(mails);
            return Step::Await(Aim::Refill(id), call);
        }
        if let Some((rest, why)) = state.health.resting(now) {
            let name = Arc::clone(&isp.name);
            drop(guard);
            return Step::Answer(self.unreached(class, mails, Some(name), rest, why));
        }
        match self.refill(state, id, domain, mails, class, now) {
            Some(call) => Step::Await(Aim::Refill(id), call),
            None => Step::Fail(Error::Closed),
        }
    }

    fn refill(
        self: &Arc<PermitClient>,
        state: &mut State,
        id: usize,
        domain: &str,
        wanted: u64,
        class: Class,
        now: Instant,
    ) -> Option<Arc<PendingCall>> {
        let pool = &mut state.isps.get_mut(id)?.pools[class as usize];
        let size = pool.leases.next_size(wanted, self.settings.lease, now);
        state.health.tried(now);
        let call = self.send(Aim::Refill(id), class, [(domain.into(), size)].into());
        pool.call = Some(call.clone());
        Some(call)
    }

    /// The ISP of a domain is not known: asking for the mails themselves finds it out.
    fn look_up(
        self: &Arc<PermitClient>,
        state: &mut State,
        domain: &str,
        mails: u64,
        class: Class,
        now: Instant,
    ) -> Step {
        if let Some((rest, why)) = state.health.resting(now) {
            return Step::Answer(self.unreached_counted(state, class, mails, None, rest, why));
        }
        let look_up = &mut state.look_ups[class as usize];
        if let Some(call) = &look_up.call {
            if !look_up.asked.contains(domain) {
                wait_in(&mut look_up.waiting, domain, mails);
            }
            return Step::Await(Aim::LookUp, call.clone());
        }
        wait_in(&mut look_up.waiting, domain, mails);
        let batch = match look_up.waiting.len() > MAX_DOMAINS {
            false => std::mem::take(&mut look_up.waiting),
            true => {
                let mut batch: BTreeMap<_, _> = (0..MAX_DOMAINS).filter_map(|_| look_up.waiting.pop_first()).collect();
                if let Some(own) = look_up.waiting.remove_entry(domain) {
                    batch.extend([own]);
                }
                batch
            }
        };
        look_up.asked = batch.keys().cloned().collect();
        state.health.tried(now);
        let call = self.send(Aim::LookUp, class, batch);
        look_up.call = Some(call.clone());
        Step::Await(Aim::LookUp, call)
    }

    /// Starts a call to the gate, in a task of its own.
    fn send(self: &Arc<PermitClient>, aim: Aim, class: Class, recipients: BTreeMap<Box<str>, u64>) -> Arc<PendingCall> {
        let call = Arc::new(PendingCall::default());
        let over = Over(Arc::clone(&call));
        let client = Arc::clone(self);
        let under_way = UnderWay::new(self);
        self.runtime.spawn(async move {
            let refused = client.ask(class, recipients).await;
            {
                let mut state = client.lock();
                match aim {
                    Aim::Refill(id) => {
                        if let Some(isp) = state.isps.get_mut(id) {
                            let pool = &mut isp.pools[class as usize];
                            pool.call = None;
                            pool.leases.served();
                        }
                    }
                    Aim::LookUp => {
                        let look_up = &mut state.look_ups[class as usize];
                        look_up.call = None;
                        look_up.asked.clear();
                    }
                }
            }
            // Set only here, so this cannot fail.
            let _ = over.0.refused.set(refused);
            drop((over, under_way));
        });
        call
    }

    /// Asks for permits, and puts what is granted into the pool. Returns what was refused.
    async fn ask(self: &Arc<PermitClient>, class: Class, recipients: BTreeMap<Box<str>, u64>) -> Refused {
        let mut refused = Refused::new();
        // The gate answers with domains as it writes them. A name that it may write differently is asked for alone, so
        // that it is clear what the answer is about.
        let (plain, other): (BTreeMap<_, _>, BTreeMap<_, _>) =
            recipients.into_iter().partition(|(domain, _)| domain.is_ascii());
        let mut batches: Vec<BTreeMap<Box<str>, u64>> = other.into_iter().map(|one| [one].into()).collect();
        batches.extend((!plain.is_empty()).then_some(plain));
        while let Some(batch) = batches.pop() {
            match self.ask_batch(class, &batch).await {
                Ok((began, answers)) => {
                    let unnamed = self.receive(class, &batch, answers, began);
                    batches.extend(unnamed.into_iter().map(|one| BTreeMap::from([one])));
                }
                Err(Failure::Refused(problem)) if batch.len() > 1 && problem.status == 422 => {
                    // One malformed domain must not stop the others: it is found by halving.
                    let mut one = batch;
                    let middle = one.keys().nth(one.len() / 2).cloned().unwrap_or_default();
                    let two = one.split_off(&middle);
                    batches.extend([one, two]);
                }
                Err(Failure::Refused(problem)) => {
                    tracing::debug!(class = class.name(), %problem, "the gate refuses");
                    let problem = Arc::new(problem);
                    refused.extend(batch.into_keys().map(|domain| (domain, Arc::clone(&problem))));
                }
                // `GateHealth` has recorded it. The remaining batches are not tried.
                Err(Failure::Unreached) => break,
            }
        }
        refused
    }

    async fn ask_batch(
        &self,
        class: Class,
        recipients: &BTreeMap<Box<str>, u64>,
    ) -> Result<(Instant, Vec<IspAnswer>), Failure> {
        // The same for all attempts: if the answer to one attempt is lost, the gate still grants only once.
        let Some(request) = self.settings.random_u64().zip(self.settings.random_u64()) else {
            self.unanswered(Instant::now(), "the operating system gives no random numbers".to_owned());
            return Err(Failure::Unreached);
        };
        let request = format!("{:016x}{:016x}", request.0, request.1);
        let asked: u64 = recipients.values().fold(0, |sum, mails| sum.saturating_add(*mails));
        let decode = |answer: &Answer| {
            let answers = wire::decode_permits(answer, &request)?;
            let reported: u64 = answers.iter().fold(0, |sum, answer| sum.saturating_add(answer.asked));
            match (reported == asked, answers.len()) {
                (false, _) => Err(format!("an answer cannot be right: {asked} mails asked for, {reported} answered")),
                (true, isps) if isps > recipients.len() => {
                    Err(format!("an answer cannot be right: {isps} ISPs for {} domains", recipients.len()))
                }
                (true, _) => Ok(answers),
            }
        };
        let body = PermitsRequest {
            request: Some(request.clone()),
            configuration_set: self.settings.configuration_set.to_string(),
            identity: self.settings.identity.clone(),
            class,
            // Callers wait, and ask again when the gate says so.
            schedule: false,
            recipients: recipients.iter().map(|(domain, mails)| (domain.to_string(), *mails)).collect(),
        };
        self.call(PERMITS_PATH, wire::encode(&body), decode).await
    }

    /// Calls the gate until it answers, or the attempts are used up. Returns the answer, and when the attempt began
    /// that brought it.
    async fn call<T>(
        &self,
        path: &'static str,
        body: Result<Bytes, String>,
        decode: impl Fn(&Answer) -> Result<T, String>,
    ) -> Result<(Instant, T), Failure> {
        let first = Instant::now();
        let body = match body {
            Ok(body) => body,
            Err(reason) => {
                self.unanswered(first, reason);
                return Err(Failure::Unreached);
            }
        };
        let mut reason = "it was not asked".to_owned();
        for attempt in 0..self.settings.attempts {
            if attempt > 0 {
                let most = BACKOFF.saturating_mul(1 << (attempt - 1).min(16)).min(MAX_BACKOFF);
                sleep(most.mul_f64(self.settings.jitter())).await;
            }
            let began = Instant::now();
            reason = match timeout(self.settings.timeout, self.gate.post(path, body.clone())).await {
                Ok(Ok(answer)) => match answer.status {
                    200 => match decode(&answer) {
                        Ok(decoded) => {
                            self.answered();
                            return Ok((began, decoded));
                        }
                        Err(reason) => reason,
                    },
                    // Timed out, throttled, or the gate itself failed.
                    408 | 429 | 500.. => wire::decode_problem(&answer).to_string(),
                    _ => {
                        self.answered();
                        return Err(Failure::Refused(wire::decode_problem(&answer)));
                    }
                },
                Ok(Err(no_answer)) => no_answer.to_string(),
                Err(_) => format!("it did not answer within {:?}", self.settings.timeout),
            };
            self.lock().counts.failed_calls += 1;
            tracing::debug!(path, attempt, reason, "the gate gave no answer");
        }
        self.unanswered(first, reason);
        Err(Failure::Unreached)
    }

    fn answered(&self) {
        let mut state = self.lock();
        state.counts.calls += 1;
        state.health.answered();
    }

    fn unanswered(&self, began: Instant, reason: String) {
        tracing::warn!(reason, "the gate cannot be reached");
        let jitter = self.settings.jitter();
        self.lock().health.failed(began, Instant::now(), reason.into(), jitter);
    }

    /// Puts what was granted into the pools. Returns the domains that the answer does not name.
    fn receive(
        self: &Arc<PermitClient>,
        class: Class,
        asked: &BTreeMap<Box<str>, u64>,
        answers: Vec<IspAnswer>,
        began: Instant,
    ) -> BTreeMap<Box<str>, u64> {
        let now = Instant::now();
        let mut unnamed = asked.clone();
        let mut guard = self.lock();
        let state = &mut *guard;
        for answer in answers {
            let id = state.isp(&answer.isp);
            for domain in &answer.domains {
                if unnamed.remove(domain.as_str()).is_some() {
                    state.directory.learn(domain, id, now);
                }
            }
            if asked.len() == 1 {
                // Only one domain was asked for, so the answer is about it, however the gate writes it.
                unnamed.clear();
                asked.keys().for_each(|domain| state.directory.learn(domain, id, now));
            }
            let place = Place { isp: id, name: Arc::clone(&answer.isp), class };
            self.receive_isp(state, place, answer, began, now);
        }
        unnamed
    }

    fn receive_isp(
        self: &Arc<PermitClient>,
        state: &mut State,
        place: Place,
        answer: IspAnswer,
        began: Instant,
        now: Instant,
    ) {
        let IspAnswer { own, overflow, deferral, degraded, .. } = answer;
        let mails = |portion: &Option<Portion>| portion.as_ref().map_or(0, |portion| portion.mails);
        tracing::debug!(
            isp = &*place.name,
            class = place.class.name(),
            granted = mails(&own),
            overflow = mails(&overflow),
            limit = deferral.as_ref().map(|deferral| deferral.limit.name()),
            degraded,
            "the gate answers"
        );
        let Some(isp) = state.isps.get_mut(place.isp) else { return };
        let leases = &mut isp.pools[place.class as usize].leases;
        leases.defer(deferral.map(|Deferral { retry_after, limit, reason }| Deferred {
            until: now + retry_after,
            limit: Limit::Gate(limit),
            reason,
            degraded,
        }));
        for (portion, overflow) in [(own, false), (overflow, true)] {
            let Some(Portion { mails, route, lease }) = portion else { continue };
            let (lease, life) = match lease {
                Some((lease, life)) => (Some(lease), life),
                None => (None, UNLEASED_LIFE),
            };
            // The lease is used until shortly before its end: mails taken last can still be sent, and the rest given
            // back.
            let margin = if lease.is_some() { self.settings.margin.min(life / 4) } else { Duration::ZERO };
            let terms = Terms {
                place: Some(place.clone()),
                route,
                until: began + (life - margin),
                expires: began + life,
                lease,
                overflow,
                degraded,
            };
            // In either class: the first answer may have been for the other one.
            let known = terms.lease.as_ref().is_some_and(|lease| isp.pools.iter().any(|pool| pool.leases.knows(lease)));
            let leases = &mut isp.pools[place.class as usize].leases;
            let (leased, until, pooled) =
                (terms.lease.is_some(), terms.until, PooledLease { terms: Arc::new(terms), left: mails });
            if known || !leases.add(pooled, now) {
                tracing::warn!(isp = &*place.name, "the gate granted a lease twice: it counts once");
                continue;
            }
            match leased {
                true => state.counts.granted += mails,
                false => state.counts.granted_without_lease += mails,
            }
            if state.closed {
                leases.clear().into_iter().for_each(|pooled| self.give_back(pooled));
            } else {
                self.keep_until(&mut state.expiry_task, until);
            }
        }
    }

    /// Makes sure that the expiry task wakes up in time to give back what is in the pool, even if no caller comes.
    fn keep_until(self: &Arc<PermitClient>, expiry_task: &mut Option<Instant>, until: Instant) {
        match expiry_task {
            Some(wakes) if *wakes <= until => {}
            Some(wakes) => {
                *wakes = until;
                self.earlier.notify_one();
            }
            None => {
                *expiry_task = Some(until);
                let client = Arc::clone(self);
                self.runtime.spawn(async move {
                    while let Some(next) = client.retire() {
                        // Time-out or notification: in both cases a lease may be due.
                        let _ = timeout_at(next, client.earlier.notified()).await;
                    }
                });
            }
        }
    }

    /// Gives back what is due. Returns when to do so again; `None` if all pools are empty.
    fn retire(self: &Arc<PermitClient>) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        let mut next: Option<Instant> = None;
        for pool in state.isps.iter_mut().flat_map(|isp| &mut isp.pools) {
            for pooled in pool.leases.retire(now) {
                self.give_back(pooled);
            }
            next = next.into_iter().chain(pool.leases.next_due()).min();
        }
        state.expiry_task = next;
        next
    }

    /// Gives back what is left of a lease, in a task of its own.
    fn give_back(self: &Arc<PermitClient>, pooled: PooledLease) {
        if pooled.terms.lease.is_none() {
            return;
        }
        let client = Arc::clone(self);
        let under_way = UnderWay::new(self);
        self.runtime.spawn(async move {
            let taken = client.return_lease(&pooled).await;
            let mut state = client.lock();
            match taken {
                true => state.counts.given_back += pooled.left,
                false => state.counts.lost += pooled.left,
            }
            drop(state);
            drop(under_way);
        });
    }

    async fn return_lease(&self, pooled: &PooledLease) -> bool {
        // The semaphore is never closed.
        let _turn = self.returning.acquire().await;
        let (Some(lease), Some(place)) = (&pooled.terms.lease, &pooled.terms.place) else { return false };
        loop {
            let now = Instant::now();
            if now >= pooled.terms.expires {
                return false;
            }
            let (resting, closed) = {
                let state = self.lock();
                (state.health.resting(now), state.closed)
            };
            match resting {
                None => {}
                Some(_) if closed => return false,
                Some((rest, _)) => {
                    sleep_until((now + rest).min(pooled.terms.expires)).await;
                    continue;
                }
            }
            let body = ReturnRequest {
                configuration_set: self.settings.configuration_set.to_string(),
                lease: lease.to_string(),
                unused: pooled.left,
            };
            match self.call(RETURN_PATH, wire::encode(&body), wire::decode_returned).await {
                Ok((_, returned)) => {
                    tracing::debug!(isp = &*place.name, unused = pooled.left, returned, "a lease was given back");
                    return true;
                }
                // 409: given back before, by an attempt whose answer was lost; or the gate has forgotten the lease.
                Err(Failure::Refused(problem)) => {
                    tracing::debug!(isp = &*place.name, unused = pooled.left, %problem, "a lease was not taken back");
                    return problem.status == 409;
                }
                Err(Failure::Unreached) => {}
            }
        }
    }

    /// See [`Grant::put_back`].
    pub(crate) fn put_back(self: &Arc<PermitClient>, terms: &Arc<Terms>, mails: u64) -> u64 {
        if mails == 0 {
            return 0;
        }
        let now = Instant::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        state.counts.let_go = state.counts.let_go.saturating_sub(mails);
        let Some(place) = &terms.place else {
            state.counts.let_go_unreached = state.counts.let_go_unreached.saturating_sub(mails);
            return 0;
        };
        let pool = state.isps.get_mut(place.isp).map(|isp| &mut isp.pools[place.class as usize]);
        let again = !state.closed && pool.is_some_and(|pool| pool.leases.put_back(terms, mails, now));
        match (again, &terms.lease) {
            (true, _) => {
                state.counts.put_back += mails;
                // The lease may have been used up, and the expiry task may have ended.
                self.keep_until(&mut state.expiry_task, terms.until);
            }
            (false, Some(_)) => state.counts.lost += mails,
            (false, None) => {}
        }
        if again { mails } else { 0 }
    }

    /// The answer when the gate cannot be asked, as the application chose for the class.
    fn unreached(
        self: &Arc<PermitClient>,
        class: Class,
        mails: u64,
        isp: Option<Arc<str>>,
        rest: Duration,
        why: Arc<str>,
    ) -> Answered {
        self.unreached_counted(&mut self.lock(), class, mails, isp, rest, why)
    }

    fn unreached_counted(
        self: &Arc<PermitClient>,
        state: &mut State,
        class: Class,
        mails: u64,
        isp: Option<Arc<str>>,
        rest: Duration,
        why: Arc<str>,
    ) -> Answered {
        match self.settings.when_unreachable[class as usize] {
            Unreachable::Open => {
                state.counts.let_go += mails;
                state.counts.let_go_unreached += mails;
                let until = Instant::now() + UNLEASED_LIFE;
                let terms = Terms {
                    place: None,
                    route: Arc::clone(&self.settings.configuration_set),
                    lease: None,
                    until,
                    expires: until,
                    overflow: false,
                    degraded: true,
                };
                Answered::Taken(PooledLease { terms: Arc::new(terms), left: mails })
            }
            Unreachable::Closed => Answered::Wait(Wait {
                retry_after: rest.max(Duration::from_millis(1)),
                isp,
                limit: Limit::Unreachable,
                reason: format!("the gate cannot be reached: {why}").into(),
                degraded: true,
            }),
        }
    }

    /// See [`Permits::close`](crate::Permits::close).
    pub(crate) async fn close(self: &Arc<PermitClient>) -> Counts {
        {
            let mut state = self.lock();
            state.closed = true;
            for pool in state.isps.iter_mut().flat_map(|isp| &mut isp.pools) {
                for pooled in pool.leases.clear() {
                    self.give_back(pooled);
                }
            }
            state.expiry_task = None;
        }
        // The expiry task, if it runs, finds empty pools and ends.
        self.earlier.notify_one();
        let mut under_way = self.under_way.subscribe();
        // `self` owns the sender, so the channel is open.
        let _ = under_way.wait_for(|calls| *calls == 0).await;
        self.counts()
    }
}

impl State {
    fn isp(&mut self, name: &Arc<str>) -> usize {
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        let id = self.isps.len();
        self.isps.push(Isp { name: Arc::clone(name), pools: Default::default() });
        self.names.insert(Arc::clone(name), id);
        id
    }
}

impl fmt::Debug for PermitClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitClient")
            .field("settings", &self.settings)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

/// Counts a task while it is under way, however it ends.
struct UnderWay {
    client: Arc<PermitClient>,
}

impl UnderWay {
    fn new(client: &Arc<PermitClient>) -> UnderWay {
        client.under_way.send_modify(|calls| *calls += 1);
        UnderWay { client: Arc::clone(client) }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.client.under_way.send_modify(|calls| *calls = calls.saturating_sub(1));
    }
}

fn wait_in(waiting: &mut BTreeMap<Box<str>, u64>, domain: &str, mails: u64) {
    match waiting.get_mut(domain) {
        // Of several callers that wait for one domain, the largest number: the others ask again when its ISP is known.
        Some(most) => *most = mails.max(*most),
        None => {
            waiting.insert(domain.into(), mails);
        }
    }
}
