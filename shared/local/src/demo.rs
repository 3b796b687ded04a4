//! The stack in this process, with a sender, on a clock of its own.
//!
//! The functions are those that are deployed, and wait in simulated time: [`block_on`] makes a runtime whose clock jumps from
//! timer to timer, and [`Demo::run`] lets its caller hold it back after each simulated second.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws::alerts::SnsAlerts;
use aws::layout::StackParameters;
use aws::policies::Policies;
use aws::ses::Signature;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use breaker::{Breaker, BreakerWake};
use enforcer::{Enforcer, EnforcerWake};
use ingest::Ingest;
use pipeline::ports::{Disposition, PortError};
use reputation::isp::IspMap;
use reputation::subject::Subject;
use reputation::time::{HOUR, MINUTE_MILLIS, Now};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cloud::Cloud;
use crate::dynamodb::Refused;
use crate::sender::{SETS, Sender, Truth};
use crate::story::Event;

/// The name of the stack.
pub const STACK: &str = "demo";

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:demo-alerts";
/// A small table's stream has one shard.
const SHARD: &str = "shardId-00000000000000000000-00000001";
/// How long the queue gathers events while healthy mail is fed in advance, in seconds.
const FEED_WINDOW: u32 = 300;
/// Records of the ledger's stream in one batch, as in the template.
const BATCH: usize = 1_000;
/// The time that one invocation of the enforcer has.
const ENFORCER_TIME: Duration = Duration::from_secs(100);
/// Between two looks of the enforcer at everything, in seconds.
const RECONCILE: u64 = 300;
/// A call that fails is repeated so often, a second later each time.
const ATTEMPTS: u32 = 5;
/// Units of the ledger are kept for so many minutes: longer than any event takes to come.
const KEEP_UNITS: u32 = 6 * HOUR;

/// What a demo is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The seed of the sender.
    pub seed: u64,
    /// When simulated time begins.
    pub start: Now,
    /// Minutes of healthy mail before the demo proper.
    pub healthy: u32,
    /// Minutes from there to the first incident.
    pub quiet: u32,
    /// How long the queue gathers events before `ingest` gets them, in seconds; longer while healthy mail is fed.
    pub window: u32,
}

/// Why a demo cannot go on: a bug, or no memory is left.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The tables.
    #[error(transparent)]
    Tables(#[from] Refused),
    /// A function.
    #[error(transparent)]
    Function(#[from] PortError),
    /// No runtime.
    #[error(transparent)]
    Runtime(#[from] std::io::Error),
}

/// The clock of a demo, to read from anywhere.
#[derive(Clone, Debug)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    /// The simulated time, to the second.
    pub fn now(&self) -> Now {
        Now(self.0.load(Ordering::Relaxed))
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With the next second.
    Second,
    /// No.
    End,
}

/// The stack and the sender.
#[derive(Debug)]
pub struct Demo {
    settings: Settings,
    cloud: Cloud,
    clock: Clock,
    sender: Sender,
    functions: Functions,
    enforcer: Enforcer,
}

#[derive(Debug)]
struct Functions {
    cloud: Cloud,
    ingest: Ingest,
    breaker: Breaker,
    isps: IspMap,
}

/// Runs a future on a runtime of its own, whose time jumps to the next timer when nothing else is to be done.
///
/// # Errors
///
/// There is no memory for a runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T, DemoError> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(future))
}

impl Demo {
    /// A stack that acts, and a sender. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub fn new(settings: Settings) -> Result<Demo, DemoError> {
        let cloud = Cloud::new(STACK)?;
        cloud.key_units()?;
        cloud.state().account.sets = SETS.iter().map(|(name, ..)| ((*name).to_owned(), true)).collect();
        let clients = cloud.clients();
        let alerts = SnsAlerts::new(&clients, Some(TOPIC.to_owned()), Some("default".to_owned())).of_stack(STACK);
        let version = Some(env!("CARGO_PKG_VERSION").to_owned());
        let parameters = StackParameters { account: false, tenants: false, gate: Some(false), version };
        let enforcer = Enforcer::new(&clients, cloud.reputation(), alerts, false);
        let enforcer = enforcer.signing(Signature::new(STACK, TOPIC)).noting(parameters);
        let functions = Functions {
            ingest: Ingest::new(&clients, cloud.ledger(), cloud.reputation(), false),
            breaker: Breaker::new(&clients, cloud.reputation(), false),
            cloud: cloud.clone(),
            isps: IspMap::builtin(),
        };
        let incident = settings.start.plus_minutes(settings.healthy + settings.quiet);
        let clock = Clock(Arc::new(AtomicI64::new(settings.start.0)));
        Ok(Demo { settings, cloud, clock, sender: Sender::new(settings.seed, incident), functions, enforcer })
    }

    /// The account that it runs in.
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// Its clock.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// When the healthy mail that is fed in advance ends.
    pub fn fed_until(&self) -> Now {
        self.settings.start.plus_minutes(self.settings.healthy)
    }

    /// Runs on the runtime of [`block_on`], until `each` says to end. `each` is called after each simulated second, with the time
    /// and what happened in it, and may hold the thread back. Call it once.
    ///
    /// # Errors
    ///
    /// A function fails again and again.
    pub async fn run(&mut self, each: &mut dyn FnMut(&Moment<'_>) -> Next) -> Result<(), DemoError> {
        let fed_until = self.fed_until();
        let Demo { settings, cloud, clock, sender, functions, enforcer } = self;
        let (start, begun) = (settings.start, Instant::now());
        let now = || Now(start.0 + i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX));
        let policies = Policies::new(cloud.clients().dynamodb(), cloud.reputation());
        policies.push("mode = \"act\"\n", 0, "the demo", start).await?;
        let due = Notify::new();
        let stack = async {
            let mut gathered = 0;
            for second in 1.. {
                sleep_until(begun + Duration::from_secs(second)).await;
                let accepts = |set: &str| cloud.state().account.sets.get(set).copied().unwrap_or(false);
                let mut story = sender.step(now(), accepts);
                gathered += 1;
                let window = if now() < fed_until { FEED_WINDOW } else { settings.window };
                if gathered >= window {
                    gathered = 0;
                    story.extend(functions.receive(&sender.take_arrived(now()), &now).await?);
                }
                if second % 60 == 0 {
                    story.extend(functions.tick(&now).await?);
                }
                if second % 3_600 == 0 {
                    cloud.expire_ledger(now().minute().minus(KEEP_UNITS))?;
                }
                if cloud.take_enforcer_due() {
                    due.notify_one();
                }
                let entries = {
                    let mut state = cloud.state();
                    // What people would get by e-mail.
                    state.account.published.clear();
                    state.account.switched.clear();
                    std::mem::take(&mut state.account.events)
                };
                story.extend(entries.iter().filter_map(|entry| Event::of_entry(entry, now())));
                clock.0.store(now().0, Ordering::Relaxed);
                if each(&Moment { now: now(), story: &story, sender }) == Next::End {
                    break;
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            ended = stack => ended,
            failed = enforce(enforcer, &due, &now) => failed,
        }
    }

    /// Gives the stack what has arrived meanwhile, so that it has counted what the sender's truth says.
    ///
    /// # Errors
    ///
    /// A function fails again and again.
    pub async fn settle(&mut self) -> Result<(), DemoError> {
        let now = self.clock.now();
        let arrived = self.sender.take_arrived(now);
        self.functions.receive(&arrived, &|| now).await.map(drop)
    }

    /// By configuration set, what its mail has come to.
    pub fn truth(&self) -> &BTreeMap<&'static str, Truth> {
        self.sender.truth()
    }
}

/// A simulated second that is over.
#[derive(Debug)]
pub struct Moment<'a> {
    /// The time.
    pub now: Now,
    /// What happened in it.
    pub story: &'a [Event],
    /// The sender after it.
    pub sender: &'a Sender,
}

impl Functions {
    /// Events arrive in the queue: `ingest` records them, and `breaker` gets what is new. Returns what breakers did.
    async fn receive(&mut self, bodies: &[String], now: &impl Fn() -> Now) -> Result<Vec<Event>, DemoError> {
        let message = |(index, body): (usize, &String)| {
            let mut message = SqsMessage::default();
            message.message_id = Some(index.to_string());
            message.body = Some(body.clone());
            message
        };
        let mut event = SqsEvent::default();
        event.records = bodies.iter().enumerate().map(message).collect();
        let mut attempt = 0;
        while !event.records.is_empty() {
            let answer = self.ingest.handle(&event, now()).await;
            attempt += 1;
            let failed = match answer {
                Ok(answer) => answer.batch_item_failures,
                Err(error) if attempt < ATTEMPTS && error.disposition == Disposition::Retry => {
                    sleep(Duration::from_secs(1)).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            event.records.retain(|message| {
                failed.iter().any(|failed| message.message_id.as_ref() == Some(&failed.item_identifier))
            });
            if attempt >= ATTEMPTS && !event.records.is_empty() {
                let reason = format!("{} events cannot be recorded", event.records.len());
                let (operation, disposition) = ("recording events", Disposition::Quarantine);
                return Err(PortError { operation, reason, disposition }.into());
            }
        }
        let mut story = Vec::new();
        for records in self.cloud.take_inserted().chunks(BATCH) {
            let wake = BreakerWake { records: Some(records.to_vec()), tick: None, shard: Some(SHARD.to_owned()) };
            story.extend(self.wake(&wake, now).await?);
        }
        Ok(story)
    }

    /// A minute is over. Returns what breakers did.
    async fn tick(&mut self, now: &impl Fn() -> Now) -> Result<Vec<Event>, DemoError> {
        self.wake(&BreakerWake { records: None, tick: Some("minute".to_owned()), shard: None }, now).await
    }

    async fn wake(&mut self, wake: &BreakerWake, now: &impl Fn() -> Now) -> Result<Vec<Event>, DemoError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.breaker.handle(wake, now(), || true).await {
                Ok(handled) => {
                    let transitions = handled.changes.iter().filter_map(|change| change.transition.as_ref());
                    // SES has no switch for an identity: its warnings repeat those of its configuration set.
                    let shown = transitions.filter(|known| !matches!(known.key.subject, Subject::Identity(_)));
                    return Ok(shown.map(|known| Event::of_transition(known, &self.isps)).collect());
                }
                // A person's command was saved at the same moment.
                Err(error) if attempt < ATTEMPTS && error.disposition == Disposition::Retry => {
                    sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Wakes the enforcer when it is due and every five minutes, one copy at a time. Ends only if it fails again and again.
async fn enforce(enforcer: &mut Enforcer, due: &Notify, now: &impl Fn() -> Now) -> Result<(), DemoError> {
    let mut reconciled = Instant::now();
    let mut failures = 0;
    loop {
        let tick = tokio::select! {
            biased;
            () = sleep_until(reconciled + Duration::from_secs(RECONCILE)) => Some("reconcile".to_owned()),
            () = due.notified() => None,
        };
        if tick.is_some() {
            reconciled = Instant::now();
        }
        match enforcer.handle(&EnforcerWake { records: None, tick }, ENFORCER_TIME, now).await {
            Ok(_) => failures = 0,
            Err(error) if failures < ATTEMPTS && error.disposition == Disposition::Retry => {
                failures += 1;
                due.notify_one();
            }
            Err(error) => return Err(error.into()),
        }
        // Not more than once a second, whatever it has written.
        sleep(Duration::from_secs(1)).await;
    }
}

/// The beginning of the day of a time, and some hours of it: simulated time begins in the early morning of the real day.
pub fn morning_of(now: Now) -> Now {
    let day = now.minute().day();
    Now(i64::from(day.plus(5 * HOUR).0) * MINUTE_MILLIS)
}
