//! A replay and the deployed stack decide the same: each transition and each control, at the same moment, with the same numbers
//! and in the same words. The stack is woken when the virtual clock of the replay wakes its breakers.
//!
//! A failure names its seed: `SIMULATION_SEED=7 cargo test --test stack decisions` repeats it alone, `SIMULATION_SEEDS=200` tries
//! more.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;

use e2e::cloud::{Cloud, LEDGER};
use e2e::stack::Stack;
use pipeline::classify::Stamps;
use pipeline::ports::{Board, Change, Reputation as _};
use pipeline::schedule::{judge_heard_since, next_due};
use pipeline::{ControlRecord, TransitionRecord};
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use replay::driver::{MAX_SUBJECTS, Options, VirtualClock, replay};
use replay::input::{Progress, Source};
use reputation::Policy;
use reputation::breaker::BreakerState;
use reputation::subject::Subject;
use reputation::time::{HOUR, MINUTE_MILLIS, Now};
use ses_events::{Decoded, Decoder};

/// 2026-10-06, 08:30 UTC.
const BEGINS: Now = Now(1_791_275_400_000);
/// The wall clock: after all mail.
const REAL_NOW: i64 = BEGINS.0 + 30 * 24 * 60 * MINUTE_MILLIS;
const SENDERS: [(&str, &str); 3] = [("news", "shop.example"), ("shop", "shop.example"), ("club", "club.example")];
/// A mailbox provider, and companies with a domain each.
const DOMAINS: [&str; 2] = ["gmail.com", "company.example"];
/// Enough that some share a bucket.
const COMPANIES: u32 = 30;

/// The state of one sender's mail at one ISP.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Health {
    #[default]
    Well,
    BadList,
    Blocked,
    Slow,
    Disliked,
}

/// A stream of events, one JSON document a line: mail of a few senders, which now and then turns bad at one or all ISPs, with
/// silences, duplicates and events that come late.
fn stream(random: &mut ChaCha8Rng, minutes: i64) -> Vec<String> {
    let mut events: Vec<(i64, String)> = Vec::new();
    let mut health = [[Health::Well; DOMAINS.len()]; SENDERS.len()];
    let (mut minute, mut number) = (0, 0);
    while minute < minutes {
        if random.random_bool(0.1) {
            let all = [Health::Well, Health::BadList, Health::Blocked, Health::Slow, Health::Disliked];
            let turns = *all.choose(random).unwrap();
            match random.random_range(0..3) {
                0 => health[random.random_range(0..SENDERS.len())].fill(turns),
                1 => health[random.random_range(0..SENDERS.len())][random.random_range(0..DOMAINS.len())] = turns,
                // Trouble of an ISP's own.
                _ => {
                    let place = random.random_range(0..DOMAINS.len());
                    health.iter_mut().for_each(|sender| sender[place] = turns);
                }
            }
        }
        if random.random_bool(0.03) {
            health = Default::default();
        }
        for (sender, health) in SENDERS.iter().zip(&health) {
            for _ in 0..random.random_range(0..4) {
                let place = random.random_range(0..DOMAINS.len());
                let at = BEGINS.0 + minute * MINUTE_MILLIS + random.random_range(0..MINUTE_MILLIS);
                number += 1;
                let domain = match place {
                    0 => DOMAINS[place].to_owned(),
                    _ => format!("{}.{}", number % COMPANIES, DOMAINS[place]),
                };
                mail(random, (number, *sender, &domain), health[place], at, &mut events);
            }
        }
        minute += if random.random_bool(0.01) { random.random_range(20..300) } else { 1 };
    }
    // So that every hour with mail ends before the stream does.
    mail(random, (0, SENDERS[0], DOMAINS[0]), Health::Well, BEGINS.0 + (minute + 400) * MINUTE_MILLIS, &mut events);
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(_, event)| event).collect()
}

/// A mail and what became of it, each event with the time at which it comes.
fn mail(
    random: &mut ChaCha8Rng,
    (number, (set, from), domain): (u32, (&str, &str), &str),
    health: Health,
    at: i64,
    events: &mut Vec<(i64, String)>,
) {
    let to = format!("reader{number}@{domain}");
    let common = format!(
        r#""mail":{{"timestamp":"{}","messageId":"0102{number:08}","source":"hello@{from}","destination":["{to}"],"tags":{{"ses:configuration-set":["{set}"],"ses:from-domain":["{from}"]}}}}"#,
        Now(at)
    );
    let after = at + random.random_range(300..20_000);
    let bounce = |kind: &str, answer: &str| {
        format!(
            r#"{{"eventType":"Bounce",{common},"bounce":{{"bounceType":"{kind}","bounceSubType":"General","timestamp":"{}","feedbackId":"f{number}","bouncedRecipients":[{{"emailAddress":"{to}","action":"failed","status":"{}","diagnosticCode":"smtp; {answer}"}}]}}}}"#,
            Now(after),
            answer.split(' ').nth(1).unwrap()
        )
    };
    let delayed = format!(
        r#"{{"eventType":"DeliveryDelay",{common},"deliveryDelay":{{"timestamp":"{}","delayType":"General","delayedRecipients":[{{"emailAddress":"{to}","status":"4.4.1","diagnosticCode":"smtp; 421 4.4.1 try again"}}]}}}}"#,
        Now(after)
    );
    let delivered = format!(
        r#"{{"eventType":"Delivery",{common},"delivery":{{"timestamp":"{}","recipients":["{to}"]}}}}"#,
        Now(after)
    );
    let complained = format!(
        r#"{{"eventType":"Complaint",{common},"complaint":{{"timestamp":"{}","feedbackId":"c{number}","complainedRecipients":[{{"emailAddress":"{to}"}}]}}}}"#,
        Now(after + 60_000)
    );
    let (mut outcome, mut complaint) = (delivered, None);
    match health {
        Health::Well if random.random_bool(0.01) => outcome = bounce("Permanent", "550 5.1.1 user unknown"),
        Health::BadList if random.random_bool(0.4) => outcome = bounce("Permanent", "550 5.1.1 user unknown"),
        Health::Blocked if random.random_bool(0.6) => {
            outcome = bounce("Permanent", "550 5.7.1 blocked using a blocklist");
        }
        Health::Slow if random.random_bool(0.7) => outcome = delayed,
        Health::Disliked if random.random_bool(0.2) => complaint = Some(complained),
        Health::Well | Health::BadList | Health::Blocked | Health::Slow | Health::Disliked => {}
    }
    let sent = format!(r#"{{"eventType":"Send",{common},"send":{{}}}}"#);
    // Most senders publish no Send events.
    let sent = Some(sent).filter(|_| random.random_bool(0.2));
    let facts = [(at, sent), (after, Some(outcome)), (after + 60_000, complaint)];
    for (at, event) in facts.into_iter().filter_map(|(at, event)| Some((at, event?))) {
        // Events come out of order, some of them much later, and some twice.
        let late = if random.random_bool(0.02) { random.random_range(0..40 * MINUTE_MILLIS) } else { 0 };
        if random.random_bool(0.03) {
            events.push((at + late + random.random_range(0..MINUTE_MILLIS), event.clone()));
        }
        events.push((at + late, event));
    }
}

/// What was decided, in order.
#[derive(Debug, Default, PartialEq)]
struct Decided {
    transitions: Vec<TransitionRecord>,
    controls: Vec<(Now, ControlRecord)>,
}

impl Decided {
    fn note(&mut self, changes: &[Change], policy: &Policy) {
        for change in changes {
            let transition = change.transition.as_ref();
            self.transitions.extend(transition.map(|transition| TransitionRecord::of(transition, &policy.isp_map)));
            let controls = change.controls.iter();
            self.controls.extend(controls.map(|control| (control.at, ControlRecord::of(control, &policy.isp_map))));
        }
    }
}

fn replayed(policy: &Policy, lines: &[String]) -> Decided {
    let options = Options {
        policy: policy.clone(),
        real_now: REAL_NOW,
        since: None,
        until: None,
        stop_at: None,
        workers: 1,
        max_subjects: MAX_SUBJECTS,
    };
    let source = Source::memory("stream", lines.join("\n").into_bytes());
    let replayed = replay(&options, &[source], &mut |_| {}, &Progress::default()).unwrap();
    let (transitions, controls) = (&replayed.reputation.transitions, &replayed.reputation.controls);
    Decided {
        transitions: transitions.iter().map(|known| TransitionRecord::of(known, &policy.isp_map)).collect(),
        controls: controls.iter().map(|known| (known.at, ControlRecord::of(known, &policy.isp_map))).collect(),
    }
}

/// The board, and the breaker of the account.
async fn standing(stack: &Stack, now: Now) -> (Arc<Board>, BreakerState) {
    let mut reputation = stack.reputation();
    let account = reputation.subject_state(&Subject::Account, now).await.unwrap().breaker(None).breaker;
    (reputation.board(now).await.unwrap(), account)
}

/// The same stream, event by event, through the functions.
async fn deployed(toml: &str, gate: bool, lines: &[String]) -> (Policy, Decided) {
    let cloud = Cloud::new();
    cloud.key_units_as_a_replay();
    let policy = Policy { gate_in_use: gate, ..Stack::push(&cloud, toml).await };
    let mut stack = Stack::fresh(&cloud, "test", gate);
    let (mut clock, mut unswept, mut folded, mut decided) = (VirtualClock::default(), false, 0, Decided::default());
    let (mut board, mut account) = (Arc::default(), BreakerState::default());
    for line in lines {
        let mut stamps = None;
        Decoder::new().decode(line.as_bytes(), |decoded| {
            if let Decoded::Event(event) = decoded {
                stamps = Some(Stamps::of(&event, REAL_NOW));
            }
        });
        let stamped = clock.after(stamps.unwrap());
        loop {
            let due = next_due(&policy, &board, Some(&account), clock.now);
            let Some(at) =
                clock.next_wake(due, unswept, !board.unsettled.is_empty(), stamped).filter(|at| *at > clock.now)
            else {
                break;
            };
            decided.note(&stack.tick(at).await.unwrap(), &policy);
            (board, account) = standing(&stack, at).await;
            unswept &= at.minute().0 / HOUR == clock.now.minute().0 / HOUR;
            clock.now = at;
        }
        clock.now = clock.now.max(stamped);
        assert!(stack.ingest(&[line], Now(REAL_NOW)).await.unwrap().is_empty(), "{line}");
        let records = cloud.stream_from(LEDGER, folded);
        let changes = stack.fold(&records, clock.now).await.unwrap();
        decided.note(&changes, &policy);
        if !changes.is_empty() {
            (board, account) = standing(&stack, clock.now).await;
        }
        unswept |= !records.is_empty();
        folded += records.len();
    }
    let hour = clock.now.minute().hour();
    let changes = judge_heard_since(&policy, &mut stack.reputation(), hour, clock.now).await.unwrap();
    decided.note(&changes, &policy);
    (policy, decided)
}

#[tokio::test(start_paused = true)]
async fn a_replay_and_the_stack_take_every_decision_alike() {
    let number = |name: &str| env::var(name).ok().and_then(|digits| digits.parse::<u64>().ok());
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(4),
    };
    let mut causes: BTreeMap<String, usize> = BTreeMap::new();
    for seed in seeds.clone() {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let gate = random.random_bool(0.5);
        let probe = random.random_range(10..60);
        let toml = format!(
            "[breaker]\nopen_minutes = 10\nprobe_mails = {probe}\ncomplaint_probe_minutes = 30\nprobe_max_minutes = 60\n"
        );
        let lines = stream(random, 150);
        let (policy, found) = deployed(&toml, gate, &lines).await;
        let expected = replayed(&policy, &lines);
        let differs = found.transitions.iter().zip(&expected.transitions).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}, gate {gate}: the stack and the replay differ first here");
        assert_eq!(found, expected, "seed {seed}, gate {gate}");
        for transition in &found.transitions {
            *causes.entry(format!("{:?} -> {:?}", transition.from, transition.to)).or_default() += 1;
        }
    }
    // A test of streams in which nothing happens would prove nothing.
    if seeds.end - seeds.start >= 4 {
        assert!(causes.len() >= 5, "{causes:?}");
    }
}

/// A mail of `news` that is delivered, or bounces a second after it was accepted.
fn outcome(number: i64, at: i64, bounces: bool) -> String {
    let to = format!("reader{number}@gmail.com");
    let common = format!(
        r#""mail":{{"timestamp":"{}","messageId":"0102{number:08}","source":"hello@shop.example","destination":["{to}"],"tags":{{"ses:configuration-set":["news"],"ses:from-domain":["shop.example"]}}}}"#,
        Now(at)
    );
    let after = Now(at + 1_000);
    if bounces {
        format!(
            r#"{{"eventType":"Bounce",{common},"bounce":{{"bounceType":"Permanent","bounceSubType":"General","timestamp":"{after}","feedbackId":"f{number}","bouncedRecipients":[{{"emailAddress":"{to}","action":"failed","status":"5.1.1"}}]}}}}"#
        )
    } else {
        format!(r#"{{"eventType":"Delivery",{common},"delivery":{{"timestamp":"{after}","recipients":["{to}"]}}}}"#)
    }
}

/// The bug: after a silence of more than five weeks a replay warned of mail that the tables no longer give, and in a silence it
/// did not repeat the warning each week.
#[tokio::test(start_paused = true)]
async fn in_a_long_silence_the_account_is_warned_alike() {
    let begins = BEGINS.0 - 40 * 24 * 60 * MINUTE_MILLIS;
    let mut lines: Vec<String> =
        (0..300).map(|number| outcome(number, begins + number * 5_000, number % 4 == 0)).collect();
    lines.extend((0..5).map(|number| outcome(10_000 + number, BEGINS.0 + number * MINUTE_MILLIS, false)));
    let cloud = Cloud::new();
    let toml = "[forecast]\nmin_population = 100\n";
    let policy = Policy { gate_in_use: false, ..Stack::push(&cloud, toml).await };
    let mut stack = Stack::fresh(&cloud, "test", false);
    let (mut now, mut folded, mut found) = (Now(begins), 0, Decided::default());
    for line in &lines {
        let stamped = Now(e2e::stack::stamped(line, REAL_NOW).unwrap());
        // Woken each hour only, which is when the account is judged.
        while now.minute().hour() < stamped.minute().hour() {
            now = Now(i64::from(now.minute().hour().plus(HOUR).0) * MINUTE_MILLIS);
            found.note(&stack.tick(now).await.unwrap(), &policy);
        }
        now = now.max(stamped);
        assert!(stack.ingest(&[line], Now(REAL_NOW)).await.unwrap().is_empty(), "{line}");
        let records = cloud.stream_from(LEDGER, folded);
        found.note(&stack.fold(&records, now).await.unwrap(), &policy);
        folded += records.len();
    }
    let of_account = |decided: Decided| -> Vec<(Now, String)> {
        let known = decided.transitions.into_iter().filter(|known| known.subject == Subject::Account);
        known.map(|known| (known.at, known.reason)).collect()
    };
    let (found, expected) = (of_account(found), of_account(replayed(&policy, &lines)));
    assert!(found.len() >= 4, "{found:?}");
    assert_eq!(found, expected);
}
