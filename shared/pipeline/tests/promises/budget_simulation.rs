//! The budget of pauses under decoys: small sets with a few dead addresses use the hour's pauses up, before or while one
//! or more sets are truly bad. The worst are stopped all the same, and the budget still bounds how many are.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use pipeline::evaluate::{assess, evaluate, tick};
use pipeline::ports::{Board, Transition};
use reputation::budget::{Harm, Pauses, holders};
use reputation::{Isp, Level, Now, Policy, Rule, Subject, Unit, UnitKind, Verdict};

use super::world::{Dice, World, at, for_each_seed, set_of};

/// How much later than alone a truly bad set is stopped at most, in minutes. It sends at least 25 mails a minute, so that
/// it has the 200 mails of `breaker.overwhelming_mails` after 8.
const LATEST_MINUTES: i64 = 10;
/// How long a run lasts, in minutes.
const RUN_MINUTES: i64 = 240;

/// What one configuration set sends.
#[derive(Clone, Debug)]
struct Sender {
    name: String,
    /// First minute with mail.
    from: i64,
    /// First minute without.
    until: i64,
    /// Mails of each minute.
    mails: u32,
    /// How many of them bounce hard.
    bounces: u32,
}

/// Who sends, under which policy, and in which order they are looked at.
#[derive(Clone, Debug)]
struct Case {
    policy: Policy,
    /// Small, with a few dead addresses each.
    decoys: Vec<Sender>,
    /// Large and bad.
    bad: Vec<Sender>,
    dice: Dice,
}

impl Case {
    fn of_seed(seed: u64) -> Case {
        let mut dice = Dice(seed);
        let budget = 1 + dice.below(5);
        // An ISP's own trouble is another promise: here all senders are bad by themselves.
        let policy = format!(
            "[gate]\nin_use = {}\n[breaker]\nmax_pauses_per_hour = {budget}\n[incident]\nmin_senders = 1000\n",
            dice.chance(30)
        );
        let decoys = (0..1 + dice.below(budget + 4)).map(|index| {
            let (from, bounces) = (dice.below(90) as i64, 5 + dice.below(8) as u32);
            let mails = bounces + dice.below(12) as u32;
            Sender { name: format!("decoy-{index}"), from, until: from + 1, mails, bounces }
        });
        let decoys = decoys.collect();
        let bad = (0..1 + dice.below(3)).map(|index| {
            let (from, mails) = (dice.below(90) as i64, 25 + dice.below(80) as u32);
            let bounces = mails * (30 + dice.below(40) as u32) / 100 + 1;
            // Sorts before or after the decoys.
            let name = if dice.chance(50) { "a-bad" } else { "z-bad" };
            Sender { name: format!("{name}-{index}"), from, until: from + 120, mails, bounces }
        });
        let bad = bad.collect();
        Case { policy: Policy::from_toml(&policy).expect("valid by construction"), decoys, bad, dice }
    }

    fn budget(&self) -> usize {
        self.policy.breaker.max_pauses_per_hour as usize
    }

    /// Lets these senders send, and the minutes pass. Nobody is looked at but those whose mail bounced, and those whom the
    /// tick looks at. `after_minute`: is asked at the end of each minute.
    fn run(
        &self,
        senders: &[&Sender],
        mut after_minute: impl FnMut(&mut World, i64) -> Result<(), String>,
    ) -> Result<World, String> {
        let (mut world, mut dice) = (World::new(self.policy.clone()), self.dice.clone());
        let isps = ["gmail", "yahoo", "microsoft", "other"].map(|name| world.isp(name));
        for minute in 0..RUN_MINUTES {
            let now = at(minute);
            let mut sending: Vec<&&Sender> =
                senders.iter().filter(|sender| (sender.from..sender.until).contains(&minute)).collect();
            dice.shuffle(&mut sending);
            for sender in sending {
                let units = units(&mut world, &mut dice, sender, &isps, now);
                world.add(&units, now);
                let touched: BTreeSet<Isp> = units.iter().map(|unit| unit.isp).collect();
                let subject = set_of(&sender.name);
                pollster::block_on(evaluate(&self.policy, &mut world.store, &subject, &touched, now))
                    .map_err(|error| error.to_string())?;
            }
            let later = Now(now.0 + 30_000);
            pollster::block_on(tick(&self.policy, &mut world.store, later)).map_err(|error| error.to_string())?;
            after_minute(&mut world, minute)?;
        }
        Ok(world)
    }

    /// The first minute after which nothing of a set flows freely, if it sends alone.
    fn stopped_alone(&self, sender: &Sender) -> Result<Option<i64>, String> {
        let mut stopped = None;
        self.run(&[sender], |world, minute| {
            stopped = stopped.or(is_stopped(world, sender).then_some(minute));
            Ok(())
        })?;
        Ok(stopped)
    }
}

/// The mails of one minute, some of which bounce.
fn units(world: &mut World, dice: &mut Dice, sender: &Sender, isps: &[Isp], now: Now) -> Vec<Unit> {
    let identity = format!("{}.example", sender.name);
    let id = world.sender(&sender.name, &identity);
    let mut units = Vec::new();
    for mail in 0..sender.mails {
        let isp = isps[dice.below(isps.len())];
        let outcome = if mail < sender.bounces { UnitKind::HardBounce } else { UnitKind::Delivered };
        units.extend(world.units(id, isp, now.minute(), &[(UnitKind::Sent, 1), (outcome, 1)]));
    }
    units
}

/// Whether the whole set is stopped, or with a gate each ISP of it.
fn is_stopped(world: &mut World, sender: &Sender) -> bool {
    let gate = world.policy.gate_in_use;
    let Some(dossier) = world.store.find(&set_of(&sender.name)) else { return false };
    let contained = |isp| dossier.breaker(isp).breaker.state.is_contained();
    contained(None) || (gate && dossier.timeline.isps().all(|isp| contained(Some(isp))))
}

/// What `breaker.overwhelming_times` and its neighbours say, in the words of this test.
fn is_overwhelming(verdict: &Verdict) -> bool {
    let evidence = match verdict.rule {
        Rule::Cusum { evidence, threshold, .. } => evidence >= 5.0 * threshold,
        Rule::Ratio { line, .. } | Rule::Forecast { line, .. } => verdict.rate() >= 5.0 * line,
    };
    evidence && verdict.tally.population >= 200 && verdict.rate() >= 0.10
}

/// Pauses of configuration sets by a verdict: when, whose and whether the evidence was overwhelming.
fn pauses(world: &World) -> Vec<(Now, Subject, bool)> {
    let by_verdict = |told: &&Transition| {
        let whole = told.key.isp.is_none() && matches!(told.key.subject, Subject::ConfigurationSet(_));
        whole && told.level == Some(Level::Pause) && told.to == "open"
    };
    let told = world.store.transitions.iter().filter(by_verdict);
    told.map(|told| (told.at, told.key.subject.clone(), told.verdict.as_ref().is_some_and(is_overwhelming))).collect()
}

fn withheld(world: &World) -> impl Iterator<Item = &Transition> {
    world.store.transitions.iter().filter(|told| told.level == Some(Level::Pause) && told.to == "throttled")
}

/// In no hour more sets are paused than the budget, those with overwhelming evidence and those that gave their places
/// back; and each place changes hands once at most.
fn damage_is_bounded(case: &Case, world: &World) -> Result<(), String> {
    let pauses = pauses(world);
    for (index, (end, ..)) in pauses.iter().enumerate() {
        let hour = pauses[..=index].iter().filter(|(at, ..)| end.minutes_since(*at) < 60);
        let paused: BTreeSet<&Subject> =
            hour.filter(|(.., overwhelming)| !overwhelming).map(|(_, set, _)| set).collect();
        if paused.len() > 2 * case.budget() {
            return Err(format!("{} sets paused in the hour until {end}: {paused:?}", paused.len()));
        }
    }
    Ok(())
}

/// A pause that is withheld is reported once, and once more when it is done.
fn reported_once(world: &World) -> Result<(), String> {
    let mut waiting: BTreeMap<&Subject, Now> = BTreeMap::new();
    let of_sets = |told: &&Transition| told.key.isp.is_none() && told.level == Some(Level::Pause);
    for told in world.store.transitions.iter().filter(of_sets) {
        if told.to == "open" {
            waiting.remove(&told.key.subject);
        } else if let Some(earlier) = waiting.insert(&told.key.subject, told.at) {
            return Err(format!("{} withheld at {earlier} and again at {}", told.key.subject, told.at));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Met {
    withheld: usize,
    pauses: usize,
    bad: usize,
}

fn simulate(seed: u64) -> Result<Met, String> {
    let case = Case::of_seed(seed);
    let everybody: Vec<&Sender> = case.decoys.iter().chain(&case.bad).collect();
    let mut stopped: BTreeMap<&str, i64> = BTreeMap::new();
    let world = case.run(&everybody, |world, minute| {
        for sender in &case.bad {
            if is_stopped(world, sender) {
                stopped.entry(&sender.name).or_insert(minute);
            }
        }
        Ok(())
    })?;
    for sender in &case.bad {
        let Some(alone) = case.stopped_alone(sender)? else { return Err(format!("{sender:?} is never stopped alone")) };
        match stopped.get(sender.name.as_str()) {
            Some(minute) if *minute <= alone + LATEST_MINUTES => {}
            found => return Err(format!("{sender:?} is stopped at {found:?}, alone at {alone}")),
        }
    }
    damage_is_bounded(&case, &world)?;
    reported_once(&world)?;
    Ok(Met { withheld: withheld(&world).count(), pauses: pauses(&world).len(), bad: case.bad.len() })
}

#[test]
fn decoys_never_shield_a_worse_set_from_its_pause() {
    let met = std::cell::RefCell::new(Met::default());
    for_each_seed("decoys_never_shield", 120, |seed| {
        let one = simulate(seed)?;
        let mut met = met.borrow_mut();
        met.withheld += one.withheld;
        met.pauses += one.pauses;
        met.bad += one.bad;
        Ok(())
    });
    let met = met.into_inner();
    if super::world::wished("SIMULATION_SEED").is_none() {
        assert!(met.withheld > 20 && met.pauses > 100 && met.bad > 100, "too quiet to show anything");
    }
}

/// What a set calls for if no other set was paused; `None` if it may send.
fn harm_of(world: &mut World, set: &Subject, now: Now) -> Option<Harm> {
    let alone = Board { pauses: Pauses::new(), ..(**world.store.known_board()).clone() };
    let policy = world.policy.clone();
    let changes = assess(&policy, world.store.find(set)?, &alone, set, &BTreeSet::new(), now);
    changes.into_iter().find_map(|change| change.pause).map(|pause| pause.harm)
}

/// At the end of a minute no more sets hold a place than there are, and no set whose pause is withheld has a claim: all
/// places are taken, and no harm that may still be displaced is less than half of its own.
fn nobody_has_a_claim(case: &Case, world: &mut World, minute: i64) -> Result<usize, String> {
    let board = Arc::clone(world.store.known_board());
    let places: Vec<_> = holders(&board.pauses).collect();
    if places.len() > case.budget() {
        return Err(format!("minute {minute}: more sets than places: {places:?}"));
    }
    let withheld = board.unsettled.iter().filter(|(key, known)| key.isp.is_none() && known.withheld);
    let withheld: Vec<Subject> = withheld.map(|(key, _)| key.subject.clone()).collect();
    for set in &withheld {
        let Some(harm) = harm_of(world, set, at(minute + 1)) else { continue };
        if places.len() < case.budget() {
            return Err(format!("minute {minute}: {set} is withheld, and a place is free: {places:?}"));
        }
        let may_give_back = places.iter().filter(|(_, pause)| pause.instead_of.is_none());
        let least = may_give_back.map(|(_, pause)| pause.harm).min();
        if least.is_some_and(|least| harm.0 >= 2 * least.0 && harm > least) {
            return Err(format!("minute {minute}: {set} with {harm:?} is withheld, and {least:?} has a place"));
        }
    }
    Ok(withheld.len())
}

/// Sets of all sizes and rates, most of them bad, and few places.
fn crowd(seed: u64) -> Case {
    let mut dice = Dice(seed);
    let policy = format!(
        "[breaker]\nmax_pauses_per_hour = {}\nresume = \"{}\"\n[incident]\nmin_senders = 1000\n",
        1 + dice.below(4),
        if dice.chance(50) { "manual" } else { "automatic" }
    );
    let bad = (0..4 + dice.below(10)).map(|index| {
        let (from, mails) = (dice.below(60) as i64, [2, 5, 10, 20, 60][dice.below(5)]);
        let bounces = mails * [2, 8, 12, 30, 60, 100][dice.below(6)] / 100;
        let name = format!("{}-{index}", ["a", "m", "z"][dice.below(3)]);
        Sender { name, from, until: from + [1, 3, 10, 60][dice.below(4)], mails, bounces }
    });
    let bad = bad.collect();
    Case { policy: Policy::from_toml(&policy).expect("valid by construction"), decoys: Vec::new(), bad, dice }
}

#[test]
fn no_withheld_set_has_a_claim_to_a_place_at_the_end_of_a_minute() {
    let (withheld, given_back) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    for_each_seed("no_withheld_set_has_a_claim", 60, |seed| {
        let case = crowd(seed);
        let everybody: Vec<&Sender> = case.bad.iter().collect();
        let world = case.run(&everybody, |world, minute| {
            withheld.set(withheld.get() + nobody_has_a_claim(&case, world, minute)?);
            Ok(())
        })?;
        let took_over = |told: &&Transition| told.reason.contains("it takes the place of");
        given_back.set(given_back.get() + world.store.transitions.iter().filter(took_over).count());
        damage_is_bounded(&case, &world)?;
        reported_once(&world)
    });
    if super::world::wished("SIMULATION_SEED").is_none() {
        assert!(withheld.get() > 1_000 && given_back.get() > 10, "too quiet to show anything");
    }
}

/// Five sets with eight dead addresses each use the hour's pauses up; then half of a large list comes back.
#[test]
fn five_decoys_do_not_keep_a_set_at_half_bounces_sending() {
    let decoy = |index| Sender { name: format!("decoy-{index}"), from: index, until: index + 1, mails: 8, bounces: 8 };
    let bad = Sender { name: "sale".into(), from: 8, until: 128, mails: 100, bounces: 50 };
    let case = Case {
        policy: Policy::from_toml("[incident]\nmin_senders = 1000\n").expect("valid by construction"),
        decoys: (0..5).map(decoy).collect(),
        bad: vec![bad.clone()],
        dice: Dice(1),
    };
    let everybody: Vec<&Sender> = case.decoys.iter().chain(&case.bad).collect();
    let mut stopped = None;
    case.run(&everybody, |world, minute| {
        stopped = stopped.or(is_stopped(world, &bad).then_some(minute));
        Ok(())
    })
    .expect("memory does not fail");
    assert_eq!(stopped, Some(8), "within the minute of its first mail");
}
