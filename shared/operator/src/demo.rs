//! A demo: the whole stack in this process, with a sender whose mail turns bad now and then, behind the real dashboard.
//!
//! The stack and the sender run on a thread of their own, in simulated time ([`local::Demo`]). This thread serves the dashboard,
//! and passes on what happens.
//!
//! **Invariant:** a demo reads no configuration of AWS and no file, calls nothing but the account in its own memory, and listens
//! on the loopback interface only. What is done in it changes no stack.

use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use local::demo::{Clock, Moment, Next, STACK, block_on, morning_of};
use local::story::Event;
use local::{Cloud, Demo, DemoError, Settings};
use reputation::time::Now;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Access;
use crate::dashboard::Dashboard;
use crate::failure::Failure;

/// Minutes of healthy mail before the first picture.
const HEALTHY: u32 = 4 * 60;
/// Minutes after that, until the first incident.
const QUIET: u32 = 10;
/// Simulated seconds in which the queue gathers events.
const WINDOW: u32 = 5;
/// What the dashboard says first.
const BANNER: &str = "This is a demo: sender, mail, SES and stack are simulated in the memory of this machine. Nothing here \
                      exists at AWS, and the commands that this page shows are for a real stack.";
/// Where the stack is, instead of a Region.
const PLACE: &str = "memory";
/// Seconds between two pictures: much happens in ten of them.
const REFRESH_SECONDS: u32 = 2;

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order {
    /// The port of the dashboard; 0 = any free port.
    pub port: u16,
    /// The seed of the sender.
    pub seed: u64,
    /// Simulated time passes so many times as fast as real time.
    pub speed: f64,
    /// How long, in real time; `None` = until it is interrupted.
    pub length: Option<Duration>,
}

/// What a demo prints.
#[derive(Clone, Copy, Debug)]
pub enum Line<'a> {
    /// The dashboard can be looked at.
    Ready {
        /// Its address.
        url: &'a str,
        /// The simulated time.
        now: Now,
    },
    /// Something happened.
    Happened(&'a Event),
}

/// From the thread of the stack.
enum Report {
    /// All healthy mail was fed.
    Fed(Cloud, Clock),
    Happened(Event),
    Failed(DemoError),
}

/// Access to the stack of a demo.
pub fn access(cloud: &Cloud) -> Access {
    Access {
        stack: STACK.to_owned(),
        region: PLACE.to_owned(),
        profile: None,
        clients: cloud.clients(),
        user: Some("you".to_owned()),
    }
}

/// Runs a demo until its time is over or `interrupted` completes. `now`: the real time, of which only the day shows.
///
/// # Errors
///
/// The port cannot be listened on, `print` fails, or the demo itself.
pub async fn run(
    order: &Order,
    now: Now,
    interrupted: impl Future<Output = ()>,
    print: &mut dyn FnMut(Line<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let dashboard = Dashboard::bind(order.port).await?.with_banner(BANNER, REFRESH_SECONDS);
    let settings =
        Settings { seed: order.seed, start: morning_of(now), healthy: HEALTHY, quiet: QUIET, window: WINDOW };
    let (reports, mut reported) = unbounded_channel();
    let ended = Arc::new(AtomicBool::new(false));
    let stack = {
        let (ended, speed) = (Arc::clone(&ended), order.speed);
        thread::spawn(move || simulate(settings, speed, &ended, &reports))
    };
    let shown = async {
        let Some((cloud, clock)) = fed(&mut reported, print).await? else { return Ok(()) };
        print(Line::Ready { url: &dashboard.url(), now: clock.now() })?;
        let over = async {
            match order.length {
                Some(length) => tokio::time::sleep(length).await,
                None => pending().await,
            }
        };
        tokio::select! {
            served = dashboard.serve(access(&cloud), move || clock.now()) => served,
            followed = follow(&mut reported, print) => followed,
            () = over => Ok(()),
        }
    };
    let outcome = tokio::select! {
        outcome = shown => outcome,
        () = interrupted => Ok(()),
    };
    ended.store(true, Ordering::Relaxed);
    // At the slowest speed it looks up within a second.
    let _ = stack.join();
    outcome
}

/// Waits until the healthy mail is fed. `None`: the thread of the stack is gone, which has been reported.
async fn fed(
    reported: &mut UnboundedReceiver<Report>,
    print: &mut dyn FnMut(Line<'_>) -> Result<(), Failure>,
) -> Result<Option<(Cloud, Clock)>, Failure> {
    while let Some(report) = reported.recv().await {
        match report {
            Report::Fed(cloud, clock) => return Ok(Some((cloud, clock))),
            Report::Happened(event) => print(Line::Happened(&event))?,
            Report::Failed(error) => return Err(Failure::Demo(Box::new(error))),
        }
    }
    Ok(None)
}

/// Passes on what happens until the thread of the stack is gone.
async fn follow(
    reported: &mut UnboundedReceiver<Report>,
    print: &mut dyn FnMut(Line<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    fed(reported, print).await.map(|_| ())
}

/// The thread of the stack.
fn simulate(settings: Settings, speed: f64, ended: &AtomicBool, reports: &UnboundedSender<Report>) {
    let simulated = Demo::new(settings).and_then(|mut demo| {
        let (fed_until, cloud, clock) = (demo.fed_until(), demo.cloud().clone(), demo.clock());
        let mut live: Option<Instant> = None;
        let mut each = |moment: &Moment<'_>| {
            for event in moment.story {
                // If the other thread is gone, so will be this one.
                let _ = reports.send(Report::Happened(event.clone()));
            }
            if moment.now >= fed_until {
                let began = *live.get_or_insert_with(|| {
                    let _ = reports.send(Report::Fed(cloud.clone(), clock.clone()));
                    Instant::now()
                });
                let millis = (moment.now.0 - fed_until.0).max(0) as f64;
                let due = Duration::from_secs_f64(millis / 1_000.0 / speed);
                // A machine that is too slow for the speed runs behind.
                thread::sleep(due.saturating_sub(began.elapsed()));
            }
            if ended.load(Ordering::Relaxed) { Next::End } else { Next::Second }
        };
        block_on(async { demo.run(&mut each).await })?
    });
    if let Err(error) = simulated {
        let _ = reports.send(Report::Failed(error));
    }
}
