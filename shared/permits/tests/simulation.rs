//! Many senders at once, against a fake gate that records the truth and a network that loses, delays and repeats. The
//! fake gate panics if more is sent than was granted, or if mail is sent after a lease has ended or was given back; at
//! the end every mail of every lease must be accounted for.
//!
//! A failure names its seed: `SEED=17 cargo test -p ses-breaker-permits --test simulation` repeats it alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod double;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use double::{Double, Fate};
use permits::{Class, Grant, Permit, Permits};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep, timeout};

const SEEDS: u64 = 60;
const SENDERS: u64 = 24;
const RUN: Duration = Duration::from_secs(120);
const TIMEOUT: Duration = Duration::from_millis(900);

/// What the senders did, apart from what is in the ledger of the gate.
#[derive(Debug, Default)]
struct Tally {
    own: u64,
    overflow: u64,
    unreached: u64,
    lost: u64,
}

fn fate(rng: &mut ChaCha8Rng, trouble: u32) -> Fate {
    if rng.random_range(0..100) >= trouble {
        return match rng.random_range(0..3) {
            0 => Fate::Answered,
            _ => Fate::Slow(Duration::from_millis(rng.random_range(1..800))),
        };
    }
    match rng.random_range(0..7) {
        0 => Fate::RequestLost,
        1 | 2 => Fate::AnswerLost,
        3 => Fate::Silence,
        4 => Fate::Status([429, 500, 502, 503, 504][rng.random_range(0..5)]),
        5 => Fate::Garbage,
        _ => Fate::Echo,
    }
}

fn simulate(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(seed));
}

async fn run(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let gate = Double::with_quota(rng.random_range(50..5_000));
    let trouble = [0, 5, 20, 50][rng.random_range(0..4)];
    {
        let mut ledger = gate.ledger();
        ledger.lease_secs = rng.random_range(2..40);
        ledger.fates = (0..5_000).map(|_| fate(&mut rng, trouble)).collect();
        for isp in ledger.isps.values_mut() {
            isp.retry_after = rng.random_range(1..20);
        }
        // A repeated answer must not be about overflow: two such answers cannot be distinguished.
        if !ledger.fates.contains(&Fate::Echo) {
            ledger.isps.get_mut("yahoo").unwrap().overflows = true;
        }
    }
    let numbers = Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(!seed)));
    let permits = Permits::builder("news", "example.com")
        .attempts(rng.random_range(1..4), TIMEOUT)
        .lease_size(rng.random_range(1..30), 1_000, Duration::from_secs(rng.random_range(1..8)))
        .rest(Duration::from_millis(200), Duration::from_secs(3))
        .random(move || Some(numbers.lock().unwrap().random()))
        .over(gate.clone())
        .unwrap();

    let tally = Arc::new(Mutex::new(Tally::default()));
    let senders: Vec<_> = (0..SENDERS)
        .map(|number| {
            let rng = ChaCha8Rng::seed_from_u64(seed ^ (number << 32));
            tokio::spawn(send(permits.clone(), gate.clone(), Arc::clone(&tally), rng))
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let counts = permits.close().await;

    let ledger = gate.ledger();
    let tally = tally.lock().unwrap();
    let (mut granted, mut returned, mut used) = (0, 0, 0);
    for (name, lease) in &ledger.leases {
        // A lease whose answer never arrived must not have been used.
        assert!(lease.delivered || lease.used + lease.returned.unwrap_or(0) == 0, "{name}: {lease:?}");
        if lease.delivered {
            granted += lease.granted;
            returned += lease.returned.unwrap_or(0);
            used += lease.used;
        }
    }
    assert_eq!(counts.granted, granted, "{counts:?}");
    assert_eq!(used, tally.own + tally.lost, "{counts:?} {tally:?}");
    assert_eq!(counts.let_go_unreached, tally.unreached);
    assert_eq!(counts.let_go, tally.own + tally.overflow + tally.unreached);
    // Every mail of a lease was sent, given back, or lost in one of the two ways there are.
    assert_eq!(counts.granted, tally.own + counts.given_back + counts.lost, "{counts:?} {tally:?}");
    // A return whose answers were all lost has still reached the gate.
    assert!(counts.given_back <= returned && returned <= counts.given_back + counts.lost, "{counts:?} {returned}");
    // Leases of a few seconds may end while their return waits for its turn.
    if trouble == 0 && ledger.lease_secs >= 10 {
        assert_eq!((returned, counts.lost), (counts.given_back, tally.lost), "{counts:?}");
        assert_eq!(tally.unreached, 0);
    }
    let overflow: u64 = ledger.isps.values().map(|isp| isp.overflow_granted).sum();
    assert!(tally.overflow <= overflow, "{} of {overflow}", tally.overflow);
}

/// One sender: takes, sends or puts back, waits, or gives up in the middle, at random.
async fn send(permits: Permits, gate: Double, tally: Arc<Mutex<Tally>>, mut rng: ChaCha8Rng) {
    let end = Instant::now() + RUN;
    while Instant::now() < end {
        let tail = format!("d{}.example", rng.random_range(0..50));
        let domains = ["gmail.com", "googlemail.com", "outlook.com", "yahoo.com", &tail];
        let domain = domains[rng.random_range(0..domains.len())];
        let class = if rng.random_bool(0.2) { Class::Critical } else { Class::Bulk };
        let mails = if rng.random_bool(0.7) { 1 } else { rng.random_range(1..40) };
        let patience = if rng.random_bool(0.1) { rng.random_range(1..500) } else { 1_000_000 };
        let Ok(permit) = timeout(Duration::from_millis(patience), permits.take(domain, mails, class)).await else {
            continue;
        };
        match permit.unwrap() {
            Permit::Send(grant) | Permit::Overflow(grant) => {
                assert!(1 <= grant.mails() && grant.mails() <= mails);
                use_up(&gate, &tally, &mut rng, grant).await;
            }
            Permit::Wait(wait) => sleep(wait.retry_after.min(Duration::from_secs(2))).await,
        }
        if rng.random_bool(0.3) {
            sleep(Duration::from_millis(rng.random_range(0..3_000))).await;
        }
    }
}

async fn use_up(gate: &Double, tally: &Mutex<Tally>, rng: &mut ChaCha8Rng, mut grant: Grant) {
    let lease = grant.lease().map(str::to_owned);
    let degraded = grant.degraded();
    let mails = grant.mails();
    if let Some(lease) = &lease {
        gate.ledger().send(lease, mails);
    }
    // SES needs some time, now and then a long time.
    let most = if rng.random_bool(0.05) { 20_000 } else { 100 };
    sleep(Duration::from_millis(rng.random_range(0..most))).await;
    let refused = if rng.random_bool(0.25) { rng.random_range(1..=mails) } else { 0 };
    let again = match &lease {
        // Under one lock: otherwise another sender could use what is not yet recorded as put back.
        Some(lease) => {
            let mut ledger = gate.ledger();
            let again = grant.put_back(refused);
            ledger.put_back(lease, again);
            again
        }
        None => grant.put_back(refused),
    };
    let mut tally = tally.lock().unwrap();
    let sent = mails - refused;
    match (&lease, degraded) {
        (Some(_), _) => {
            tally.own += sent;
            tally.lost += refused - again;
        }
        (None, true) => tally.unreached += sent,
        (None, false) => tally.overflow += sent,
    }
}

#[test]
fn no_more_is_sent_than_was_granted_and_every_mail_is_accounted_for() {
    let seeds = match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        assert!(outcome.is_ok(), "repeat it with SEED={seed}");
    }
}

/// The same ledger, with threads that really run at the same time.
#[test]
fn threads_that_take_and_put_back_at_once_use_no_mail_twice() {
    let gate = Double::with_quota(30_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let sent = runtime.block_on(async {
        let permits = Permits::builder("news", "example.com")
            .lease_size(1, 200, Duration::from_secs(1))
            .over(gate.clone())
            .unwrap();
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let permits = permits.clone();
                let mut rng = ChaCha8Rng::seed_from_u64(number);
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    let mut sent = 0;
                    for _ in 0..20_000 {
                        let permit = runtime.block_on(permits.take("gmail.com", 1, Class::Bulk)).unwrap();
                        match permit {
                            Permit::Send(grant) if rng.random_bool(0.3) => grant.unused(),
                            Permit::Send(_) => sent += 1,
                            Permit::Overflow(_) | Permit::Wait(_) => {}
                        }
                    }
                    sent
                })
            })
            .collect();
        // The calls run here meanwhile.
        while threads.iter().any(|thread| !thread.is_finished()) {
            tokio::task::yield_now().await;
        }
        let sent: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        let counts = permits.close().await;
        assert_eq!(counts.granted, sent + counts.given_back + counts.lost);
        assert_eq!((counts.let_go, counts.lost), (sent, 0));
        sent
    });
    assert_eq!(sent, 30_000, "the quota is smaller than the demand");
    assert_eq!(gate.ledger().isps["gmail"].quota, 0);
}
