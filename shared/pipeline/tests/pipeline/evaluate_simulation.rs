//! Evaluating under crashes, races, duplicates and other orders: the breakers are those of an undisturbed twin, and
//! nothing is decided twice.

use reputation::breaker::StateName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline::evaluate::{evaluate, evaluate_account, tick};
use pipeline::memory::MemoryReputation;
use pipeline::ports::{Board, Change, Committed, Disposition, Relative, Reputation, Saved, SubjectState};
use pipeline::stream::{Fold, Sequence, Shard};
use pipeline::{PortError, Transition};
use reputation::unit::SenderId;
use reputation::{BreakerState, Isp, Key, Level, Minute, Now, Policy, State, Subject, Timeline, Unit, UnitKind};

use super::kit::{Fixture, Rng, at, breakers, env_number, for_each_seed, identity_of, rows, set_of, subjects};

/// A store whose saves fail before or after they are done, or are overtaken by another evaluator.
struct Disturbed<'a> {
    store: &'a mut MemoryReputation,
    rng: Rng,
    /// In a hundred, before and after each save.
    crashes: usize,
    /// In a hundred: another evaluator evaluates the same subjects just before a save.
    races: usize,
    policy: &'a Policy,
    rivals: u32,
}

impl Reputation for Disturbed<'_> {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        self.store.mark(shard).await
    }

    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.store.commit(fold, now).await
    }

    async fn subject_state(&mut self, subject: &Subject, now: Now) -> Result<&mut SubjectState, PortError> {
        self.store.subject_state(subject, now).await
    }

    async fn relatives(&mut self, subjects: &BTreeSet<Subject>) -> Result<BTreeMap<Subject, Relative>, PortError> {
        self.store.relatives(subjects).await
    }

    async fn board(&mut self, now: Now) -> Result<Arc<Board>, PortError> {
        self.store.board(now).await
    }

    async fn account(&mut self, now: Now) -> Result<Vec<&Timeline>, PortError> {
        self.store.account(now).await
    }

    async fn active(&mut self, since: Minute, now: Now) -> Result<Vec<(&Subject, &Timeline)>, PortError> {
        self.store.active(since, now).await
    }

    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError> {
        let crash = || PortError {
            operation: "save",
            reason: "the process was stopped".into(),
            disposition: Disposition::Retry,
        };
        if self.rng.chance(self.crashes) {
            return Err(crash());
        }
        if self.rng.chance(self.races) {
            self.rivals += 1;
            let now = changes.iter().find_map(|change| Some(change.transition.as_ref()?.at));
            let subject = changes.first().map(|change| change.key.subject.clone());
            if let (Some(now), Some(subject)) = (now, subject) {
                let isps = self.store.subject_state(&subject, now).await?.timeline.isps().collect();
                if subject == Subject::Account {
                    evaluate_account(self.policy, self.store, now).await?;
                } else {
                    evaluate(self.policy, self.store, &subject, &isps, now).await?;
                }
            }
        }
        let mut idle = None;
        for Change { key, version, next, transition, .. } in changes {
            let known = self.store.subject_state(&key.subject, Now::default()).await?.breaker(key.isp);
            if known.version == *version && known.breaker == *next && transition.is_none() {
                idle = Some(key.clone());
            }
        }
        let saved = self.store.save(changes).await?;
        assert!(saved != Saved::Saved || idle.is_none(), "saved without a change: {idle:?}");
        if self.rng.chance(self.crashes) { Err(crash()) } else { Ok(saved) }
    }
}

/// How often a piece of work is repeated at most, apart from crashes: it has nothing left to change long before.
const MAX_LOOKS: usize = 6;

/// Does what the handlers do: repeats each piece of work until it is done; and then until it changes nothing more,
/// because a retry after a lost answer also evaluates once more. (A subject that is resumed as a whole is judged ISP by
/// ISP only at the next evaluation.)
fn work(policy: &Policy, store: &mut impl Reputation, subjects: &[(Subject, BTreeSet<Isp>)], now: Now) -> Vec<Change> {
    let mut done = Vec::new();
    pollster::block_on(async {
        for (subject, isps) in subjects {
            for _ in 0..MAX_LOOKS {
                let changes = loop {
                    if let Ok(changes) = evaluate(policy, store, subject, isps, now).await {
                        break changes;
                    }
                };
                if changes.is_empty() {
                    break;
                }
                done.extend(changes);
            }
        }
        done.extend(loop {
            if let Ok(changes) = evaluate_account(policy, store, now).await {
                break changes;
            }
        });
        done.extend(loop {
            if let Ok(changes) = tick(policy, store, now).await {
                break changes;
            }
        });
    });
    done
}

/// Repeats until nothing changes, as the following ticks and batches would.
fn settle(policy: &Policy, store: &mut impl Reputation, subjects: &[(Subject, BTreeSet<Isp>)], now: Now) {
    for _ in 0..5 {
        if work(policy, store, subjects, now).is_empty() {
            break;
        }
    }
}

/// New units, and when they are judged.
type Steps = Vec<(Now, Vec<Unit>)>;

const SETS: [(&str, &str); 5] = [
    ("news", "a.example"),
    ("shop", "b.example"),
    ("alerts", "c.example"),
    ("club", "d.example"),
    // One identity with two sets: the harm of one may be left to it.
    ("receipts", "a.example"),
];

fn policy(rng: &mut Rng) -> Policy {
    let mut toml = String::new();
    if rng.chance(20) {
        toml += "[gate]\nin_use = false\n";
    }
    if rng.chance(20) {
        toml += "[subjects]\nprotected = [\"configuration-set:alerts\"]\nshadow = [\"configuration-set:club\"]\n";
    }
    let resume = if rng.chance(20) { "manual" } else { "automatic" };
    toml += &format!("[breaker]\nmax_pauses_per_hour = {}\nresume = \"{resume}\"\n", 1 + rng.below(5));
    Policy::from_toml(&toml).expect("valid by construction").in_world(true)
}

/// Traffic of five senders at four ISPs, healthy at first; now and then a sender has a bad list, or an ISP a bad day.
fn traffic(rng: &mut Rng, fixture: &mut Fixture) -> Steps {
    let isps = ["microsoft", "yahoo", "gmail", "other"].map(|name| fixture.isp(name));
    let senders = SETS.map(|(set, identity)| fixture.sender(set, identity));
    let (mut bad_sender, mut bad_isp): (Option<usize>, Option<usize>) = (None, None);
    let mut now = 0;
    let mut steps = Vec::new();
    for _ in 0..14 {
        now += [1, 1, 5, 15, 40, 70, 400][rng.below(7)];
        if rng.chance(40) {
            bad_sender = rng.chance(50).then(|| rng.below(senders.len()));
            bad_isp = rng.chance(40).then(|| rng.below(isps.len()));
        }
        let moment = at(now);
        let mut units = Vec::new();
        for (who, sender) in senders.iter().enumerate() {
            for (place, isp) in isps.iter().enumerate() {
                let ill = bad_sender == Some(who) || bad_isp == Some(place);
                let mails = 10 + rng.below(50) as u32;
                let bounces = if ill { mails / 3 } else { u32::from(rng.chance(20)) };
                let minute = moment.minute().minus(rng.below(8) as u32);
                let counts = [
                    (UnitKind::Sent, mails),
                    (UnitKind::Delivered, mails - bounces),
                    (UnitKind::HardBounce, bounces),
                    (UnitKind::Delay, if ill { mails / 2 } else { 0 }),
                    (UnitKind::Block, if ill && rng.chance(50) { bounces } else { 0 }),
                    (UnitKind::Complaint, if ill && rng.chance(30) { 4 } else { 0 }),
                ];
                units.extend(fixture.units(*sender, *isp, minute, &counts));
            }
        }
        steps.push((moment, units));
    }
    // No more mail, and time passes.
    for hour in 1..6 {
        steps.push((at(now + 60 * hour), Vec::new()));
    }
    steps
}

fn sender_ids(fixture: &mut Fixture) -> Vec<SenderId> {
    SETS.iter().map(|(set, identity)| fixture.sender(set, identity)).collect()
}

/// A world that knows the senders, so that units of another world mean the same in it.
fn twin(policy: &Policy) -> Fixture {
    let mut fixture = Fixture::new(policy.clone());
    sender_ids(&mut fixture);
    fixture
}

fn undisturbed(policy: &Policy, steps: &Steps) -> Fixture {
    let mut fixture = twin(policy);
    for (now, units) in steps {
        fixture.add(units, *now);
        let subjects = subjects(&fixture.store);
        settle(policy, &mut fixture.store, &subjects, *now);
    }
    fixture
}

fn is_warning(transition: &Transition) -> bool {
    transition.level == Some(Level::Warn) && transition.from == transition.to
}

/// What was decided, moment by moment and key by key. A repeated evaluation may warn of something one evaluation
/// earlier and save in another order, so warnings and the order within one moment are ignored.
fn decided(fixture: &Fixture) -> Vec<String> {
    let transitions = fixture.store.transitions.iter().filter(|transition| !is_warning(transition));
    let transitions = transitions.map(|transition| (transition.at, format!("{transition:?}")));
    let controls = fixture.store.controls.iter().map(|control| (control.at, format!("{control:?}")));
    let mut decided: Vec<(Now, String)> = transitions.chain(controls).collect();
    decided.sort();
    decided.into_iter().map(|(_, what)| what).collect()
}

fn compare(found: &Fixture, expected: &Fixture) -> Result<(), String> {
    let (found_decided, expected_decided) = (decided(found), decided(expected));
    for (index, expected) in expected_decided.iter().enumerate() {
        let found = found_decided.get(index);
        if found != Some(expected) {
            return Err(format!("decision {index} is {found:?}\nand should be {expected}"));
        }
    }
    if let Some(more) = found_decided.get(expected_decided.len()) {
        return Err(format!("decided once more: {more}"));
    }
    let states = |fixture: &Fixture| {
        let state = |known: BreakerState| BreakerState { warned: Default::default(), ..known };
        breakers(&fixture.store).into_iter().map(|(key, known)| (key, state(known.breaker))).collect::<BTreeMap<_, _>>()
    };
    let (found_states, expected_states) = (states(found), states(expected));
    let nothing = BreakerState::default();
    for key in found_states.keys().chain(expected_states.keys()) {
        let state = |states: &BTreeMap<Key, BreakerState>| states.get(key).unwrap_or(&nothing).clone();
        if state(&found_states) != state(&expected_states) {
            return Err(format!("{key:?} is {:?}\nand should be {:?}", state(&found_states), state(&expected_states)));
        }
    }
    // Each change was saved once: one version for each transition. Trouble at an ISP without a gate is noted without a
    // transition, by itself or with a warning, which may come one evaluation earlier, and so is the end of such a note about
    // an identity; each such save is asserted to change something when it is made.
    for (key, known) in breakers(&found.store) {
        let saved = found.store.transitions.iter().filter(|transition| transition.key == key).count() as u64;
        let noted = key.isp.is_some() && (!found.policy.gate_in_use || matches!(key.subject, Subject::Identity(_)));
        if known.version < saved || (known.version > saved && !noted) {
            return Err(format!("{key:?} has version {} after {saved} transitions", known.version));
        }
    }
    let mut warned = BTreeMap::new();
    let by_verdict = |transition: &&Transition| is_warning(transition) && transition.verdict.is_some();
    for transition in found.store.transitions.iter().filter(by_verdict) {
        let metric = transition.verdict.map(|verdict| verdict.metric);
        if let Some(earlier) = warned.insert((transition.key.clone(), metric), transition.at)
            && transition.at.minutes_since(earlier) < 7 * 1440
        {
            return Err(format!("warned twice: {transition:?}"));
        }
    }
    Ok(())
}

/// Counts what a simulation covered, to check that it covers the cases it is for.
#[derive(Default)]
struct Met {
    pauses: usize,
    cuts: usize,
    holds: usize,
    withheld: usize,
    rivals: u32,
}

fn disturbed(seed: u64, crashes: usize, races: usize) -> Result<Met, String> {
    let mut rng = Rng(seed);
    let policy = policy(&mut rng);
    let mut fixture = Fixture::new(policy.clone());
    let steps = traffic(&mut rng, &mut fixture);
    let expected = undisturbed(&policy, &steps);
    let mut rivals = 0;
    for (now, units) in &steps {
        fixture.add(units, *now);
        let subjects = subjects(&fixture.store);
        let mut store =
            Disturbed { store: &mut fixture.store, rng: rng.clone(), crashes, races, policy: &policy, rivals: 0 };
        settle(&policy, &mut store, &subjects, *now);
        (rng, rivals) = (store.rng, rivals + store.rivals);
    }
    compare(&fixture, &expected)?;
    let named = |name: &str| expected.store.controls.iter().filter(|control| control.kind.name() == name).count();
    Ok(Met {
        pauses: named("pause_configuration_set"),
        cuts: named("set_quota_factor"),
        holds: named("hold_isp"),
        withheld: expected
            .store
            .transitions
            .iter()
            .filter(|transition| transition.reason.starts_with("stop withheld"))
            .count(),
        rivals,
    })
}

/// Runs it for many seeds, and checks that enough happened to show anything.
fn disturb(name: &str, crashes: usize, races: usize) {
    let met = std::cell::RefCell::new(Met::default());
    for_each_seed(name, 80, |seed| {
        let one = disturbed(seed, crashes, races)?;
        let mut met = met.borrow_mut();
        (met.pauses, met.cuts) = (met.pauses + one.pauses, met.cuts + one.cuts);
        (met.holds, met.withheld) = (met.holds + one.holds, met.withheld + one.withheld);
        met.rivals += one.rivals;
        Ok(())
    });
    let met = met.into_inner();
    if env_number("SIMULATION_SEED").is_none() {
        assert!(met.pauses > 20 && met.cuts > 50 && met.holds > 5 && met.withheld > 5, "too quiet to show anything");
        assert!(races == 0 || met.rivals > 50, "too few rivals");
    }
}

#[test]
fn crashes_before_and_after_a_save_change_no_decision_and_repeat_none() {
    disturb("crashes_before_and_after_a_save", 25, 0);
}

#[test]
fn of_two_evaluators_one_wins_and_nothing_is_decided_twice() {
    disturb("of_two_evaluators", 0, 40);
}

#[test]
fn crashes_and_rivals_together_change_nothing_either() {
    disturb("crashes_and_rivals", 15, 15);
}

#[test]
fn evaluating_again_at_the_same_moment_changes_nothing() {
    for_each_seed("evaluating_again", 80, |seed| {
        let mut rng = Rng(seed);
        let policy = policy(&mut rng);
        let mut fixture = Fixture::new(policy.clone());
        for (now, units) in traffic(&mut rng, &mut fixture) {
            fixture.add(&units, now);
            let subjects = subjects(&fixture.store);
            let changes = work(&policy, &mut fixture.store, &subjects, now);
            let transitions = || changes.iter().filter_map(|change| change.transition.as_ref());
            let flows_again = transitions().any(|transition| {
                transition.key.isp.is_none()
                    && matches!(transition.from, StateName::Open | StateName::Probing)
                    && transition.to != transition.from
            });
            let is_held = transitions()
                .any(|transition| transition.key.subject == Subject::Account && transition.key.isp.is_some());
            // A sender that is resumed as a whole is judged again, ISP by ISP, and a sender that was just released may
            // get a warning. A provider incident excludes the mail at its ISP from what whole senders are judged by,
            // also of those judged before it was found. After that, nothing changes.
            for rounds in 0.. {
                let again = work(&policy, &mut fixture.store, &subjects, now);
                let more = again.iter().find(|change| !change.transition.as_ref().is_some_and(is_warning));
                match (more, again.first()) {
                    (_, None) => break,
                    (Some(change), _) if !flows_again && !is_held => return Err(format!("at {now}: {change:?}")),
                    (_, Some(change)) if rounds > 2 => return Err(format!("at {now}, still: {change:?}")),
                    (..) => {}
                }
            }
        }
        Ok(())
    });
}

#[test]
fn duplicates_cuts_and_the_order_of_arrival_do_not_show_in_the_breakers() {
    for_each_seed("duplicates_cuts_and_the_order", 60, |seed| {
        let mut rng = Rng(seed);
        let policy = policy(&mut rng);
        let mut origin = Fixture::new(policy.clone());
        let steps = traffic(&mut rng, &mut origin);
        let expected = undisturbed(&policy, &steps);
        let mut fixture = twin(&policy);
        let mut delivered: Vec<Unit> = Vec::new();
        for (now, units) in &steps {
            // All of it, some of it again, and some that was delivered long ago, in any order and any cuts.
            let mut arriving = units.clone();
            arriving.extend(units.iter().filter(|_| rng.chance(50)));
            arriving.extend((0..20).filter_map(|_| delivered.get(rng.below(delivered.len())).copied()));
            rng.shuffle(&mut arriving);
            let mut rest = &arriving[..];
            while !rest.is_empty() {
                let (batch, after) = rest.split_at((1 + rng.below(200)).min(rest.len()));
                fixture.add(batch, *now);
                rest = after;
            }
            delivered.extend(units);
            let mut order = subjects(&fixture.store);
            // Only the order within one moment: the same subjects, each as a whole.
            order.sort();
            settle(&policy, &mut fixture.store, &order, *now);
        }
        if rows(&fixture.store) != rows(&expected.store) {
            return Err("other rows".into());
        }
        compare(&fixture, &expected)
    });
}

#[test]
fn two_evaluators_of_one_burst_trip_a_set_once() {
    let mut fixture = Fixture::new(Policy::default().in_world(true));
    for (name, isp) in [("yahoo", 40), ("gmail", 40), ("microsoft", 40)] {
        fixture.mail(("news", "a.example"), name, at(-3).minute(), isp, isp / 2, at(0));
    }
    let (policy, subjects) = (fixture.policy.clone(), subjects(&fixture.store));
    let mut store =
        Disturbed { store: &mut fixture.store, rng: Rng(1), crashes: 0, races: 100, policy: &policy, rivals: 0 };
    work(&policy, &mut store, &subjects, at(0));
    assert!(store.rivals > 0);
    for (subject, isp) in [(set_of("news"), None), (set_of("news"), Some("yahoo")), (identity_of("a.example"), None)] {
        let known = fixture.breaker(&subject, isp);
        if matches!(known.state, State::Open { .. }) {
            assert_eq!(known.trips, 1, "{subject} {isp:?}");
        }
    }
    let open = breakers(&fixture.store).into_values().filter(|known| matches!(known.breaker.state, State::Open { .. }));
    assert_eq!(open.map(|known| (known.version, known.breaker.trips)).collect::<BTreeSet<_>>(), [(1, 1)].into());
}
