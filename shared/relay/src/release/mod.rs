//! Held mail is sent when the gate lets it go: critical before bulk, the oldest of each line first.
//!
//! A scan looks at each line that is due. The mail at its head is asked for first; if the gate lets it wait, the line is left
//! alone until then, so that a line of 100,000 mails costs one question. If it goes, the next ones follow, some at the same time,
//! started in the order of their age.

mod alerts;
#[cfg(test)]
mod simulation;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use alerts::{Alerting, SnsAlerts};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Semaphore;

use alerts::Alerts;

use crate::hold::claim::{Claim, Claiming};
use crate::hold::key::{Age, Line, MailKey, Place};
use crate::hold::object::{HeldMail, Request, Unreadable};
use crate::hold::store::{Listed, Store, StoreError};
use crate::hold::{Holding, Millis};
use crate::metrics::Outcome;
use crate::plan::{What, plan};
use crate::relay::Relay;

/// Mails of a line that one scan looks at, so that a long line does not keep others waiting.
const WALK: usize = 100;
/// The longest that a line is left alone: a person may have resumed it in the meantime.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// How long a line rests after a fault of the store, of the gate, or on the way to SES.
const REST: Duration = Duration::from_secs(15);
/// Beside the time that SES has, a claim holds for what comes before and after.
const CLAIM_MARGIN: Duration = Duration::from_secs(60);
/// How often all held mail is counted: each thousand mails are a request to the store.
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// Mails that SES has accepted and the store has not deleted, that are remembered.
const MAX_REMEMBERED: usize = 10_000;
/// Objects of a list, at most (ListObjectsV2, Amazon S3 API Reference).
const PAGE: usize = 1000;
/// Why mail has ended that SES did not refuse by a code of its own.
const EXPIRED: &str = "Expired";
const UNREADABLE: &str = "Unreadable";
const UNCLEAR: &str = "Unclear";
/// Bodies in memory. The largest must fit.
const MEMORY_KIB: u32 = 64 << 10;

/// How mail is released.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) age: Age,
    /// Mails under way at the same time.
    pub(crate) workers: usize,
    /// Mails of one line under way at the same time.
    pub(crate) abreast: usize,
    /// How long a call of SES may take.
    pub(crate) ses_timeout: Duration,
    /// Names this relay in claims. No other has this name.
    pub(crate) owner: String,
}

/// Sends held mail.
pub(crate) struct Releaser {
    relay: Relay,
    holding: Holding,
    alerting: Option<Arc<dyn Alerting>>,
    settings: Settings,
    alerts: Alerts,
    stopping: Arc<AtomicBool>,
    memory: Semaphore,
    under_way: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: BTreeMap<String, Rest>,
    counted: Option<Millis>,
    /// Keys of mail that SES has accepted.
    sent: std::collections::BTreeSet<String>,
    /// Keys of mail that waits for another ISP than its line, and until when it is not asked for again.
    aside: BTreeMap<String, Millis>,
}

/// A line that is left alone.
#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Millis,
    /// When its first mail must not wait any more.
    head_expires: Millis,
}

/// What came of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is not held any more.
    Done,
    /// Not this one, perhaps the next.
    Skip,
    /// The whole line waits.
    Wait(Duration),
    /// The relay stops.
    Stop,
}

/// By class and ISP: how many mails, and the age of the oldest.
pub(crate) type Counts = BTreeMap<(&'static str, Arc<str>), (u64, Duration)>;

impl Releaser {
    pub(crate) fn new(
        relay: Relay,
        holding: Holding,
        alerting: Option<Arc<dyn Alerting>>,
        settings: Settings,
    ) -> Releaser {
        Releaser {
            relay,
            holding,
            alerting,
            alerts: Alerts::default(),
            stopping: Arc::default(),
            memory: Semaphore::new(MEMORY_KIB as usize),
            under_way: Semaphore::new(settings.workers.max(1)),
            settings,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        (self.holding.clock)()
    }

    fn store(&self) -> &dyn Store {
        &*self.holding.store
    }

    /// Starts no other mail. A scan ends when those that are under way have ended.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Looks at all lines that are due. Returns whether there is more to do at once.
    pub(crate) async fn scan(&self) -> bool {
        let mut lines: Vec<Line> = match self.store().folders(Place::Held.folder()).await {
            Ok(names) => names.iter().filter_map(|name| Line::parse(name)).collect(),
            Err(error) => {
                self.note(&error);
                return false;
            }
        };
        lines.sort_by_key(Line::rank);
        let now = self.now();
        {
            let mut state = self.state();
            let known: std::collections::BTreeSet<String> = lines.iter().map(Line::name).collect();
            state.lines.retain(|name, _| known.contains(name));
            let resting = |rest: &Rest| now < rest.until && now < rest.head_expires;
            lines.retain(|line| !state.lines.get(&line.name()).is_some_and(resting));
        }
        let walks = stream::iter(lines).map(|line| self.walk(line)).buffer_unordered(self.settings.workers.max(1));
        let more = walks.fold(false, async |more, of_line| more | of_line).await;
        self.count().await;
        if let Some(alerting) = &self.alerting {
            self.alerts.publish(&**alerting, self.now(), self.is_stopping()).await;
        }
        more && !self.is_stopping()
    }

    /// Sends what may go of a line. Returns whether there is more to do at once.
    async fn walk(&self, line: Line) -> bool {
        let line = &line;
        let mut done = 0_usize;
        // One mail finds out whether the line may go.
        let (mut wait, mut goes) = (None, false);
        let mut after: Option<String> = None;
        let (mails, full) = loop {
            let listed = match self.store().list(&line.folder(), after.as_deref(), WALK).await {
                Ok(listed) => listed,
                Err(error) => {
                    self.note(&error);
                    self.rest(line, REST, Millis(u64::MAX));
                    return false;
                }
            };
            let full = listed.len() == WALK;
            after = listed.last().map(|last| last.key.clone());
            let mails: Vec<(MailKey, Listed)> =
                listed.into_iter().filter_map(|listed| Some((MailKey::parse(&listed.key)?, listed))).collect();
            let mut mails = mails.into_iter();
            for (key, listed) in mails.by_ref() {
                match self.turn(&key, &listed).await {
                    Step::Done => goes = true,
                    Step::Skip => continue,
                    Step::Wait(time) => wait = Some((time, key)),
                    Step::Stop => return false,
                }
                break;
            }
            // Behind mail that is left alone there may be some that goes.
            if goes || wait.is_some() || !full {
                break (mails, full);
            }
        };
        if goes {
            done += 1;
            let ended = AtomicBool::new(false);
            let steps = stream::iter(mails)
                .map(|(key, listed)| {
                    let ended = &ended;
                    async move {
                        if ended.load(Ordering::Relaxed) {
                            return (Step::Stop, key);
                        }
                        let step = self.turn(&key, &listed).await;
                        if matches!(step, Step::Wait(_) | Step::Stop) {
                            ended.store(true, Ordering::Relaxed);
                        }
                        (step, key)
                    }
                })
                .buffered(self.settings.abreast.max(1));
            futures_util::pin_mut!(steps);
            while let Some((step, key)) = steps.next().await {
                match step {
                    Step::Done => done += 1,
                    Step::Wait(time) if wait.is_none() => wait = Some((time, key)),
                    Step::Wait(_) | Step::Skip | Step::Stop => {}
                }
            }
        }
        match wait {
            Some((time, key)) => {
                self.rest(line, time.min(MAX_WAIT), key.expires(self.settings.age));
                false
            }
            None => full && done > 0,
        }
    }

    fn rest(&self, line: &Line, time: Duration, head_expires: Millis) {
        let rest = Rest { until: self.now().plus(time), head_expires };
        self.state().lines.insert(line.name(), rest);
    }

    fn note(&self, error: &StoreError) {
        self.holding.metrics.store_error(error.operation());
        tracing::warn!(%error, "held mail waits for the store");
    }

    /// Sends one mail, if it may go.
    async fn turn(&self, key: &MailKey, listed: &Listed) -> Step {
        // Never closed.
        let Ok(_place) = self.under_way.acquire().await else { return Step::Stop };
        if self.is_stopping() {
            return Step::Stop;
        }
        let kib = u32::try_from(listed.bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, MEMORY_KIB);
        let Ok(_memory) = self.memory.acquire_many(kib).await else { return Step::Stop };
        let step = async {
            if self.state().sent.contains(&listed.key) {
                self.store().delete(&listed.key).await?;
                self.store().delete(&key.claim()).await?;
                self.state().sent.remove(&listed.key);
                return Ok(Step::Done);
            }
            if key.expires(self.settings.age) <= self.now() {
                return self.expire(key).await;
            }
            if self.is_aside(&listed.key) {
                return Ok(Step::Skip);
            }
            let Some((object, _)) = self.store().get(&listed.key).await? else { return Ok(Step::Skip) };
            self.send(key, &object).await
        };
        step.await.unwrap_or_else(|error| {
            self.note(&error);
            Step::Wait(REST)
        })
    }

    /// Leaves one mail alone, and not its line.
    fn set_aside(&self, key: &MailKey, time: Duration) {
        let until = self.now().plus(time.min(MAX_WAIT));
        let aside = &mut self.state().aside;
        if aside.len() >= MAX_REMEMBERED {
            let now = self.now();
            aside.retain(|_, until| now < *until);
        }
        // One that is not remembered is only asked for again.
        if aside.len() < MAX_REMEMBERED {
            aside.insert(key.held(), until);
        }
    }

    fn is_aside(&self, held: &str) -> bool {
        let now = self.now();
        let aside = &mut self.state().aside;
        let is_aside = aside.get(held).is_some_and(|until| now < *until);
        if !is_aside {
            aside.remove(held);
        }
        is_aside
    }

    async fn send(&self, key: &MailKey, object: &Bytes) -> Result<Step, StoreError> {
        let held = match HeldMail::decode(object) {
            Ok(held) => held,
            Err(Unreadable::OtherRelease) => return Ok(Step::Skip),
            Err(Unreadable::Broken) => return self.end_unreadable(key, object.clone()).await,
        };
        let Ok(request) = held.request() else {
            return self.end_unreadable(key, held.encode_ended(UNREADABLE)).await;
        };
        let plan = plan(self.relay.permitting(), &held.mail).await;
        let (route, grants) = match plan.what {
            What::Go(route, grants) => (route, grants),
            What::Wait(deferral) if Line::isp_of(deferral.isp.as_deref()) == &*key.line.isp => {
                return Ok(Step::Wait(deferral.retry_after));
            }
            // It waits for another ISP than its line, which has other mail.
            What::Wait(deferral) | What::Apart(deferral) => {
                self.set_aside(key, deferral.retry_after);
                return Ok(Step::Skip);
            }
            What::Fail(error) => {
                tracing::warn!(%error, "held mail waits for the gate");
                return Ok(Step::Wait(REST));
            }
        };
        let Some(claim) = self.claim(key).await? else { return Ok(Step::Skip) };
        if !claim.allows_another() {
            return self.end(key, held.encode_ended(UNCLEAR), Place::Refused, UNCLEAR, claim).await;
        }
        // Another may have sent and deleted it before this claim, or may have withdrawn it.
        if !self.store().exists(&key.held()).await? {
            self.remove(claim).await;
            return Ok(Step::Skip);
        }
        let now = self.now();
        if key.expires(self.settings.age) <= now || !claim.holds(now, self.settings.ses_timeout) {
            claim.free(self.store()).await?;
            return Ok(Step::Skip);
        }
        if claim.is_repeated() {
            self.holding.metrics.maybe_twice(held.mail.class, &key.line.isp);
            tracing::warn!(id = key.id, "held mail is sent again: SES may have it already");
        }
        let is_bulk = matches!(request, Request::Bulk(_));
        let (body, tagged) = request.body(&route, &key.id);
        if !tagged {
            self.holding.metrics.untagged();
        }
        let called = self.relay.call(held.target.clone().call(body), grants).await;
        let called = if is_bulk { called.of_only_entry(held.target.path) } else { called };
        self.relay.count(held.operation, &held.mail, &plan.by_isp, called.outcome, &called.why);
        match (called.outcome, called.defers) {
            (Outcome::Sent, _) => {
                self.holding.metrics.released(held.mail.class, &key.line.isp);
                self.forget(key, claim).await?;
                Ok(Step::Done)
            }
            (Outcome::Refused | Outcome::Failed | Outcome::Deferred | Outcome::Held, Some(wait)) => {
                claim.free(self.store()).await?;
                Ok(Step::Wait(wait))
            }
            (Outcome::Refused, None) if called.refuses_relay() => {
                tracing::error!(code = called.why, "SES refuses the relay: held mail waits until this is put right");
                claim.free(self.store()).await?;
                Ok(Step::Wait(MAX_WAIT))
            }
            (Outcome::Failed | Outcome::Deferred | Outcome::Held, None) => {
                claim.free(self.store()).await?;
                Ok(Step::Wait(REST))
            }
            (Outcome::Refused, None) => {
                let object = held.encode_ended(&called.why);
                self.end(key, object, Place::Refused, &called.why, claim).await
            }
            // The claim stays: nobody sends the mail again before it ends.
            (Outcome::Unclear, _) => Ok(Step::Wait(REST)),
        }
    }

    /// A mail that this release cannot send.
    async fn end_unreadable(&self, key: &MailKey, object: Bytes) -> Result<Step, StoreError> {
        let Some(claim) = self.claim(key).await? else { return Ok(Step::Skip) };
        if !self.store().exists(&key.held()).await? {
            self.remove(claim).await;
            return Ok(Step::Skip);
        }
        self.end(key, object, Place::Refused, UNREADABLE, claim).await
    }

    async fn claim(&self, key: &MailKey) -> Result<Option<Claim>, StoreError> {
        let time = self.settings.ses_timeout + CLAIM_MARGIN;
        let claiming = Claim::take(self.store(), key.claim(), &self.settings.owner, self.now(), time).await?;
        Ok(match claiming {
            Claiming::Won(claim) => Some(claim),
            Claiming::Lost => None,
        })
    }

    /// SES has accepted the mail.
    async fn forget(&self, key: &MailKey, claim: Claim) -> Result<(), StoreError> {
        let held = key.held();
        {
            let mut state = self.state();
            if state.sent.len() < MAX_REMEMBERED {
                state.sent.insert(held.clone());
            }
        }
        self.store().delete(&held).await?;
        self.state().sent.remove(&held);
        self.remove(claim).await;
        Ok(())
    }

    /// Its mail does not exist any more: what is left of it is of no use, and does no harm.
    async fn remove(&self, claim: Claim) {
        if let Err(error) = claim.remove(self.store()).await {
            self.note(&error);
        }
    }

    /// A mail that has waited too long.
    async fn expire(&self, key: &MailKey) -> Result<Step, StoreError> {
        let Some(claim) = self.claim(key).await? else { return Ok(Step::Skip) };
        let Some((object, _)) = self.store().get(&key.held()).await? else {
            self.remove(claim).await;
            return Ok(Step::Skip);
        };
        let object = HeldMail::decode(&object).map_or(object, |held| held.encode_ended(EXPIRED));
        self.end(key, object, Place::Expired, EXPIRED, claim).await
    }

    /// Keeps a mail that is not sent any more in another place.
    async fn end(
        &self,
        key: &MailKey,
        object: Bytes,
        place: Place,
        code: &str,
        claim: Claim,
    ) -> Result<Step, StoreError> {
        let kept = self.store().put(&key.ended(place), object).await;
        if let Err(error) = kept {
            claim.free(self.store()).await?;
            return Err(error);
        }
        self.store().delete(&key.held()).await?;
        self.remove(claim).await;
        let (class, isp) = (key.line.class, &key.line.isp);
        let waited_secs = self.now().since(key.accepted).as_secs();
        match place {
            Place::Expired => self.holding.metrics.expired(class, isp),
            Place::Refused | Place::Held | Place::Claims => self.holding.metrics.dead(class, isp),
        }
        let code = if code.bytes().all(|byte| byte.is_ascii_alphanumeric()) { code } else { "" };
        self.alerts.add(&key.line, place, code);
        let (class, isp, place) = (class.name(), &**isp, place.folder());
        tracing::error!(id = key.id, class, isp, code, waited_secs, place, "held mail was not sent, and will not be");
        Ok(Step::Done)
    }

    /// Counts all held mail, from time to time.
    async fn count(&self) {
        let now = self.now();
        if self.state().counted.is_some_and(|last| now.since(last) < COUNT_EVERY) {
            return;
        }
        match self.counted(now).await {
            Ok(counts) => {
                self.holding.metrics.set_held(&counts);
                // Counting much takes time, and the next must not begin at once.
                self.state().counted = Some(self.now());
            }
            Err(error) => self.note(&error),
        }
    }

    async fn counted(&self, now: Millis) -> Result<Counts, StoreError> {
        let mut counts = Counts::new();
        for name in self.store().folders(Place::Held.folder()).await? {
            let Some(line) = Line::parse(&name) else { continue };
            let (mails, oldest) = counts.entry((line.class.name(), Arc::clone(&line.isp))).or_default();
            let mut after: Option<String> = None;
            loop {
                let page = self.store().list(&line.folder(), after.as_deref(), PAGE).await?;
                if after.is_none()
                    && let Some(first) = page.first().and_then(|listed| MailKey::parse(&listed.key))
                {
                    *oldest = (*oldest).max(now.since(first.accepted));
                }
                *mails += page.len() as u64;
                match page.last() {
                    Some(last) if page.len() == PAGE && !self.is_stopping() => after = Some(last.key.clone()),
                    Some(_) | None => break,
                }
            }
        }
        Ok(counts)
    }
}
