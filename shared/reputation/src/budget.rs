//! The budget of pauses: how many configuration sets may be paused within an hour, and which.
//!
//! The budget (`breaker.max_pauses_per_hour`) limits the damage of a wrong policy or a bug. It must not protect the
//! worst sender because less harmful ones were paused first. So:
//!
//! - **Each order of magnitude of [`Harm`] has places of its own** ([`Magnitude`]): fewer than 1,000 clean mails, 1,000
//!   to 9,999, 10,000 to 99,999, and so on. A set never waits because of sets of another order of magnitude.
//! - **Overwhelming evidence needs no place** ([`is_overwhelming`]): far above the threshold, over enough mail, at a rate at
//!   which SES would pause the account.
//! - **A pause that is undone gives its place back**: a person resumed the set, or it was pardoned for the trouble of an ISP.
//!
//! A place is taken and given back in the transaction that saves the breaker, on the condition that it is still free:
//! so copies that decide at the same moment do not take the same place.
//!
//! **Invariant:** of the sets whose last pause is less than an hour old, was not by overwhelming evidence and is not undone,
//! at most the budget have harm of the same order of magnitude. So there are at most `budget × (m − l + 1)`, where `l` and `m`
//! are the least and the greatest order of magnitude among them.

use std::collections::BTreeMap;
use std::fmt;

use crate::detect::Verdict;
use crate::policy::Policy;
use crate::subject::Subject;
use crate::time::{HOUR, Now};

/// Harm done, in clean mails: how many more of them would bring the rate down to the limit, which is
/// `bad / limit − population`.
///
/// One number for all metrics and rules, so it orders any two verdicts: it grows with the bad mails, with the rate, and
/// with the weight of the metric (a complaint weighs as much as 50 hard bounces where the limits are 0.1 % and 5 %).
/// Evidence is not suitable: rules measure it differently, and a few dead addresses have more of it than a large list
/// at 7 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Harm(pub u64);

impl Harm {
    /// The harm of a verdict, against the limit of its metric.
    pub fn of(policy: &Policy, verdict: &Verdict) -> Harm {
        let limit = policy.metrics.rule(verdict.metric).limit;
        // The cast saturates, and no policy's limit is 0.
        let allowed_for = (verdict.tally.bad as f64 / limit) as u64;
        Harm(allowed_for.saturating_sub(verdict.tally.population))
    }

    /// Its order of magnitude.
    pub fn magnitude(self) -> Magnitude {
        Magnitude::of_power(self.0.checked_ilog10().unwrap_or(0))
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} clean mails", self.0)
    }
}

/// An order of magnitude of harm: 10 to this power, up to ten times that. The smallest one reaches down to 0, so that a
/// few dead addresses more or less make no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Magnitude(u32);

impl Magnitude {
    /// Harm below 1,000.
    const LEAST: u32 = 2;
    /// That of the largest possible [`Harm`].
    const GREATEST: u32 = u64::MAX.ilog10();

    /// That of 10 to this power.
    pub fn of_power(power: u32) -> Magnitude {
        Magnitude(power.clamp(Magnitude::LEAST, Magnitude::GREATEST))
    }

    /// The power of 10 that is its lower bound, except for the smallest one.
    pub fn power(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Magnitude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ten_to = |power: u32| 10_u128.saturating_pow(power);
        match self.0 {
            Magnitude::LEAST => write!(f, "less than {}", ten_to(Magnitude::LEAST + 1)),
            power => write!(f, "{} to {}", ten_to(power), ten_to(power + 1) - 1),
        }
    }
}

/// One of the places of an order of magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The order of magnitude of the harm.
    pub magnitude: Magnitude,
    /// Its number, from 0.
    pub number: u32,
}

/// The holder of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The configuration set that was paused.
    pub set: Subject,
    /// When it was paused last.
    pub at: Now,
    /// How bad it was then.
    pub harm: Harm,
}

impl Pause {
    /// Whether it is an hour old, so that its place is free again.
    pub fn is_over(&self, now: Now) -> bool {
        self.at.plus_minutes(HOUR) <= now
    }
}

/// The places that are held.
pub type Pauses = BTreeMap<Place, Pause>;

/// Whether a set may be paused now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes: the evidence is overwhelming.
    Overwhelming,
    /// Yes: this place is free, or its own.
    Free(Place),
    /// No: others hold all places of this order of magnitude.
    Full(Magnitude),
}

/// Whether a pause is due regardless of other pauses: the evidence is `breaker.overwhelming_times` of what is needed,
/// over at least `breaker.overwhelming_mails` mails, and the rate is one at which SES may pause the account
/// (`forecast`): so a limit that is set too low by mistake does not disable the budget.
pub fn is_overwhelming(policy: &Policy, verdict: &Verdict) -> bool {
    let (_, line) = policy.forecast.lines(verdict.metric);
    verdict.excess() >= policy.breaker.overwhelming_times
        && verdict.tally.population >= policy.breaker.overwhelming_mails
        && verdict.rate() >= line
}

/// Whether `set` may be paused by this verdict. If it is paused again within the hour, it keeps its place if its harm
/// is of the same order of magnitude.
pub fn admit(policy: &Policy, pauses: &Pauses, set: &Subject, verdict: &Verdict) -> Admission {
    if is_overwhelming(policy, verdict) {
        return Admission::Overwhelming;
    }
    let magnitude = Harm::of(policy, verdict).magnitude();
    if is_full(policy, pauses, set, magnitude) {
        return Admission::Full(magnitude);
    }
    let own = held_by(pauses, set).find(|place| place.magnitude == magnitude);
    let free = || {
        let mut places = (0..policy.breaker.max_pauses_per_hour).map(|number| Place { magnitude, number });
        places.find(|place| !pauses.contains_key(place))
    };
    own.or_else(free).map_or(Admission::Full(magnitude), Admission::Free)
}

/// Whether sets other than `set` hold all places of this order of magnitude.
pub fn is_full(policy: &Policy, pauses: &Pauses, set: &Subject, magnitude: Magnitude) -> bool {
    let others = holders(pauses, magnitude).filter(|other| *other != set).count();
    others >= policy.breaker.max_pauses_per_hour as usize
}

/// The sets that hold places of this order of magnitude.
pub fn holders(pauses: &Pauses, magnitude: Magnitude) -> impl Iterator<Item = &Subject> {
    pauses.iter().filter(move |(place, _)| place.magnitude == magnitude).map(|(_, pause)| &pause.set)
}

/// The places that a set holds.
pub fn held_by<'a>(pauses: &'a Pauses, set: &'a Subject) -> impl Iterator<Item = Place> + 'a {
    pauses.iter().filter(move |(_, pause)| pause.set == *set).map(|(place, _)| *place)
}

/// When the next pause is an hour old, so that a place becomes free. A pause may be undone earlier.
pub fn next_free(pauses: &Pauses) -> Option<Now> {
    pauses.values().map(|pause| pause.at.plus_minutes(HOUR)).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metric;
    use crate::{Level, Rule, Tally};

    const NOW: Now = Now(1_791_273_600_000);

    fn verdict(metric: Metric, bad: u64, population: u64, evidence: f64) -> Verdict {
        let (from, until) = (NOW.minute().minus(9), NOW.minute());
        let rule = Rule::Cusum { limit: 0.05, evidence, threshold: 10.0, repeats: 0 };
        Verdict { level: Level::Pause, metric, rule, from, until, tally: Tally { population, bad } }
    }

    fn set(name: &str) -> Subject {
        Subject::ConfigurationSet(name.into())
    }

    fn place(power: u32, number: u32) -> Place {
        Place { magnitude: Magnitude::of_power(power), number }
    }

    /// Pauses a set if it may be, as the use cases do.
    fn pause(policy: &Policy, pauses: &mut Pauses, name: &str, verdict: &Verdict, at: Now) -> Admission {
        pauses.retain(|_, pause| !pause.is_over(at));
        let admission = admit(policy, pauses, &set(name), verdict);
        let taken = match admission {
            Admission::Full(_) => return admission,
            Admission::Free(place) => Some(place),
            Admission::Overwhelming => None,
        };
        pauses.retain(|_, pause| pause.set != set(name));
        let harm = Harm::of(policy, verdict);
        pauses.extend(taken.map(|place| (place, Pause { set: set(name), at, harm })));
        admission
    }

    /// Tries to pause sets one after the other, a minute apart, each for a number of mails that all bounce; returns the
    /// admission of each.
    fn paused(policy: &Policy, wanted: &[(&str, u64)]) -> (Pauses, Vec<Admission>) {
        let (mut pauses, mut now) = (Pauses::new(), NOW);
        let mut admissions = Vec::new();
        for (name, bad) in wanted {
            let verdict = verdict(Metric::HardBounce, *bad, *bad, 20.0);
            admissions.push(pause(policy, &mut pauses, name, &verdict, now));
            now = now.plus_minutes(1);
        }
        (pauses, admissions)
    }

    fn budget(places: u32) -> Policy {
        let mut policy = Policy::default();
        policy.breaker.max_pauses_per_hour = places;
        policy
    }

    #[test]
    fn harm_is_how_many_clean_mails_would_make_up_for_it() {
        let check = |metric, bad, population, mails: u64| {
            assert_eq!(Harm::of(&Policy::default(), &verdict(metric, bad, population, 10.0)), Harm(mails));
        };
        check(Metric::HardBounce, 8, 8, 152);
        check(Metric::HardBounce, 50, 100, 900);
        check(Metric::HardBounce, 700, 10_000, 4_000);
        check(Metric::HardBounce, 5, 100, 0);
        check(Metric::Complaint, 10, 2_000, 8_000);
    }

    #[test]
    fn orders_of_magnitude_are_powers_of_ten_and_the_least_reaches_down_to_none() {
        let check = |harm, text: &str| assert_eq!(Harm(harm).magnitude().to_string(), text);
        check(0, "less than 1000");
        check(999, "less than 1000");
        check(1_000, "1000 to 9999");
        check(9_999, "1000 to 9999");
        check(10_000, "10000 to 99999");
        check(u64::MAX, "10000000000000000000 to 99999999999999999999");
        for harm in [0, 7, 999, 1_000, 80_000, u64::MAX] {
            let magnitude = Harm(harm).magnitude();
            assert_eq!(Magnitude::of_power(magnitude.power()), magnitude);
        }
        assert_eq!(Magnitude::of_power(u32::MAX), Harm(u64::MAX).magnitude());
    }

    #[test]
    fn evidence_is_overwhelming_if_it_is_great_and_of_enough_mail_at_a_rate_that_ses_acts_on() {
        let check = |expected: bool, metric, bad, population, evidence| {
            let verdict = verdict(metric, bad, population, evidence);
            assert_eq!(is_overwhelming(&Policy::default(), &verdict), expected, "{verdict}");
        };
        check(true, Metric::HardBounce, 100, 200, 50.0);
        check(false, Metric::HardBounce, 100, 200, 49.9);
        check(false, Metric::HardBounce, 100, 199, 80.0);
        check(true, Metric::HardBounce, 1_000, 10_000, 60.0);
        check(false, Metric::HardBounce, 999, 10_000, 60.0);
        check(true, Metric::Complaint, 50, 10_000, 60.0);
        check(false, Metric::Complaint, 49, 10_000, 60.0);
        check(true, Metric::Block, 1_000, 10_000, 60.0);
    }

    #[test]
    fn each_order_of_magnitude_has_its_own_places() {
        let wanted = [("a", 8), ("b", 9), ("c", 50), ("d", 60), ("e", 70), ("f", 80), ("g", 600)];
        let (pauses, admissions) = paused(&budget(2), &wanted);
        let (small, medium) = (Magnitude::of_power(2), Magnitude::of_power(3));
        let expected = [
            Admission::Free(place(2, 0)),
            Admission::Free(place(2, 1)),
            Admission::Full(small),
            Admission::Free(place(3, 0)),
            Admission::Free(place(3, 1)),
            Admission::Full(medium),
            Admission::Free(place(4, 0)),
        ];
        assert_eq!(admissions, expected);
        assert_eq!(holders(&pauses, medium).collect::<Vec<_>>(), [&set("d"), &set("e")]);
    }

    /// Ten small sets with a few dead addresses, and one that bounces 9 % of 100,000 mails: 80,000 clean mails of harm
    /// against 342, below the rate at which SES pauses.
    #[test]
    fn the_budget_does_not_shield_a_large_sender_below_the_line_where_ses_pauses() {
        let policy = Policy::default();
        let (mut pauses, mut now) = (Pauses::new(), NOW);
        for index in 0..10 {
            // All of 8 mails, then all of 18 mails.
            let mails = if index < 5 { 8 } else { 18 };
            let small = verdict(Metric::HardBounce, mails, mails, 18.0);
            pause(&policy, &mut pauses, &format!("decoy-{index}"), &small, now);
            now = now.plus_minutes(1);
        }
        let worst = verdict(Metric::HardBounce, 9_000, 100_000, 900.0);
        assert_eq!(admit(&policy, &pauses, &set("worst"), &worst), Admission::Free(place(4, 0)));
    }

    #[test]
    fn a_set_that_is_paused_again_keeps_its_place_or_changes_it_for_one_of_its_new_harm() {
        let (pauses, admissions) = paused(&budget(1), &[("a", 8), ("a", 20), ("a", 60), ("b", 8)]);
        let expected = [place(2, 0), place(2, 0), place(3, 0), place(2, 0)].map(Admission::Free);
        assert_eq!(admissions, expected);
        assert_eq!(held_by(&pauses, &set("a")).collect::<Vec<_>>(), [place(3, 0)]);
        assert_eq!(next_free(&pauses), Some(NOW.plus_minutes(62)));
    }

    #[test]
    fn a_budget_that_was_made_smaller_counts_the_places_that_are_held() {
        let (mut pauses, _) = paused(&budget(3), &[("a", 8), ("b", 8), ("c", 8)]);
        pauses.remove(&place(2, 0));
        let small = verdict(Metric::HardBounce, 8, 8, 20.0);
        assert_eq!(admit(&budget(2), &pauses, &set("d"), &small), Admission::Full(Magnitude::of_power(2)));
        assert_eq!(admit(&budget(2), &pauses, &set("c"), &small), Admission::Free(place(2, 2)));
        assert_eq!(admit(&budget(3), &pauses, &set("d"), &small), Admission::Free(place(2, 0)));
    }

    #[test]
    fn overwhelming_evidence_takes_no_place_and_gives_the_own_one_back() {
        let policy = budget(1);
        let (mut pauses, _) = paused(&policy, &[("a", 8)]);
        let worst = verdict(Metric::HardBounce, 150, 300, 90.0);
        assert_eq!(pause(&policy, &mut pauses, "z", &worst, NOW), Admission::Overwhelming);
        assert_eq!(pauses.values().map(|pause| pause.set.clone()).collect::<Vec<_>>(), [set("a")]);
        assert_eq!(pause(&policy, &mut pauses, "a", &worst, NOW), Admission::Overwhelming);
        assert!(pauses.is_empty());
    }
}
