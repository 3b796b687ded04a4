//! The budget of pauses: how many configuration sets may be paused within an hour, and which.
//!
//! The budget (`breaker.max_pauses_per_hour`) bounds the damage of a wrong policy or a bug. It must not protect the worst
//! sender because lesser ones were paused first. So it has two exits:
//!
//! - **Overwhelming evidence needs no place** ([`is_overwhelming`]): far above the threshold, over enough mail, at a rate at
//!   which SES would pause the account.
//! - **A place changes hands** ([`place`]): once all are taken, a set that has done at least twice the [`Harm`] of the least
//!   harmful one takes its place. The one that gives its place back stays stopped, because it was stopped for good reason.
//!
//! **Invariant:** a place changes hands at most once. So without overwhelming evidence at most twice the budget are paused
//! within an hour, and the others are those that SES would act on itself.

use std::collections::BTreeMap;
use std::fmt;

use crate::Metric;
use crate::detect::Verdict;
use crate::policy::Policy;
use crate::subject::Subject;
use crate::time::Now;

/// Harm done, in clean mails: how many more of them would bring the rate down to the limit, which is
/// `bad / limit − population`.
///
/// One number for all metrics and rules, so it orders any two verdicts: it grows with the bad mails, with the rate, and with
/// the weight of the metric (a complaint weighs as much as 50 hard bounces where the limits are 0.1 % and 5 %). Evidence does
/// not serve: rules measure it differently, and a handful of dead addresses has more of it than a large list at 7 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Harm(pub u64);

impl Harm {
    /// The harm that a verdict is about, against the limit of its metric.
    pub fn of(policy: &Policy, verdict: &Verdict) -> Harm {
        let limit = policy.metrics.rule(verdict.metric).limit;
        // The cast saturates, and no policy's limit is 0.
        let allowed_for = (verdict.tally.bad as f64 / limit) as u64;
        Harm(allowed_for.saturating_sub(verdict.tally.population))
    }

    /// Whether it is so much more than another that the order does not hang on the minute in which each was judged.
    fn is_clearly_more_than(self, other: Harm) -> bool {
        self > other && self.0 >= other.0.saturating_mul(CLEARLY)
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} clean mails", self.0)
    }
}

/// How many times the harm is clearly more. Harm doubles within a few mails when a breaker has just tripped, so a smaller
/// factor would follow chance.
const CLEARLY: u64 = 2;

/// What is remembered of a pause by a verdict for an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When it was paused last.
    pub at: Now,
    /// How bad it was then.
    pub harm: Harm,
    /// The evidence was overwhelming: it takes no place.
    pub overwhelming: bool,
    /// The set that gave its place back to it, and stays stopped.
    pub instead_of: Option<Subject>,
}

/// The configuration sets that were paused by a verdict within the last hour.
pub type Pauses = BTreeMap<Subject, Pause>;

/// Whether a set may be paused now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Yes: the evidence is overwhelming.
    Overwhelming,
    /// Yes: a place is free.
    Free,
    /// Yes: in place of this set.
    InsteadOf(Subject),
    /// No: all places are taken, and by sets that are not clearly less bad.
    Taken,
}

/// Whether a pause is due whatever else is paused: the evidence is `breaker.overwhelming_times` of what is needed, over at
/// least `breaker.overwhelming_mails` mails, and the rate is one at which SES may pause the account (`forecast`): a limit
/// that is set too low by mistake does not lift the budget by itself.
pub fn is_overwhelming(policy: &Policy, verdict: &Verdict) -> bool {
    let line = match verdict.metric {
        Metric::Complaint => policy.forecast.complaint_pause,
        // SES has no lines for delays and blocks; a share that is too high for bounces is too high for them.
        Metric::HardBounce | Metric::Delay | Metric::Block => policy.forecast.hard_bounce_pause,
    };
    verdict.excess() >= policy.breaker.overwhelming_times
        && verdict.tally.population >= policy.breaker.overwhelming_mails
        && verdict.rate() >= line
}

/// The pauses that count in the budget: those with neither overwhelming evidence nor a place that was given back since.
pub fn holders(pauses: &Pauses) -> impl Iterator<Item = (&Subject, &Pause)> {
    let mut given_back: BTreeMap<&Subject, Now> = BTreeMap::new();
    for pause in pauses.values() {
        if let Some(other) = &pause.instead_of {
            let last = given_back.entry(other).or_insert(pause.at);
            *last = pause.at.max(*last);
        }
    }
    let is_back = move |set: &Subject, pause: &Pause| given_back.get(set).is_some_and(|at| *at >= pause.at);
    pauses.iter().filter(move |(set, pause)| !pause.overwhelming && !is_back(set, pause))
}

/// Whether `set`, which this verdict calls to pause, may be.
pub fn place(policy: &Policy, pauses: &Pauses, set: &Subject, verdict: &Verdict) -> Place {
    if is_overwhelming(policy, verdict) {
        return Place::Overwhelming;
    }
    if !is_full(policy, pauses, set) {
        return Place::Free;
    }
    let harm = Harm::of(policy, verdict);
    let others = holders(pauses).filter(|(other, pause)| *other != set && pause.instead_of.is_none());
    match others.min_by_key(|(_, pause)| pause.harm) {
        Some((other, pause)) if harm.is_clearly_more_than(pause.harm) => Place::InsteadOf(other.clone()),
        Some(_) | None => Place::Taken,
    }
}

/// Whether others than `set` hold all places.
pub fn is_full(policy: &Policy, pauses: &Pauses, set: &Subject) -> bool {
    let others = holders(pauses).filter(|(other, _)| *other != set).count();
    others >= policy.breaker.max_pauses_per_hour as usize
}

/// When the next pause is an hour old, and so a place may be free.
pub fn next_free(pauses: &Pauses) -> Option<Now> {
    holders(pauses).map(|(_, pause)| pause.at.plus_minutes(crate::time::HOUR)).min()
}

impl Place {
    /// What to remember of `set` once it is paused; `None` if it may not be.
    pub fn taken_by(
        self,
        policy: &Policy,
        pauses: &Pauses,
        set: &Subject,
        verdict: &Verdict,
        at: Now,
    ) -> Option<Pause> {
        let instead_of = match self {
            Place::Taken => return None,
            Place::InsteadOf(other) => Some(other),
            // Paused again, it goes on in the place that it took over.
            Place::Free => {
                let other = pauses.get(set).and_then(|known| known.instead_of.as_ref());
                other.filter(|other| pauses.contains_key(other)).cloned()
            }
            Place::Overwhelming => None,
        };
        let overwhelming = is_overwhelming(policy, verdict);
        Some(Pause { at, harm: Harm::of(policy, verdict), overwhelming, instead_of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Level, Rule, Tally};

    const NOW: Now = Now(1_791_273_600_000);

    fn verdict(metric: Metric, bad: u64, population: u64, evidence: f64) -> Verdict {
        let (from, until) = (NOW.minute().minus(9), NOW.minute());
        let rule = Rule::Cusum { limit: 0.05, evidence, threshold: 10.0 };
        Verdict { level: Level::Pause, metric, rule, from, until, tally: Tally { population, bad } }
    }

    fn set(name: &str) -> Subject {
        Subject::ConfigurationSet(name.into())
    }

    /// Lets sets be paused one after the other, a minute apart; says what became of each.
    fn paused(policy: &Policy, wanted: &[(&str, u64)]) -> (Pauses, Vec<Place>) {
        let (mut pauses, mut places, mut now) = (Pauses::new(), Vec::new(), NOW);
        for (name, bad) in wanted {
            let verdict = verdict(Metric::HardBounce, *bad, *bad, 20.0);
            let place = place(policy, &pauses, &set(name), &verdict);
            places.push(place.clone());
            if let Some(pause) = place.taken_by(policy, &pauses, &set(name), &verdict, now) {
                pauses.insert(set(name), pause);
            }
            now = now.plus_minutes(1);
        }
        (pauses, places)
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
    fn the_least_harmful_gives_its_place_back_to_one_with_twice_its_harm_and_once_only() {
        let (pauses, places) =
            paused(&budget(2), &[("a", 10), ("b", 8), ("c", 15), ("d", 16), ("e", 31), ("f", 40), ("g", 100)]);
        let expected = [
            Place::Free,
            Place::Free,
            Place::Taken,
            Place::InsteadOf(set("b")),
            Place::InsteadOf(set("a")),
            Place::Taken,
            Place::Taken,
        ];
        assert_eq!(places, expected);
        let names: Vec<String> = holders(&pauses).map(|(set, _)| set.to_string()).collect();
        assert_eq!(names, ["configuration-set:d", "configuration-set:e"]);
    }

    #[test]
    fn who_is_paused_again_needs_no_second_place_and_keeps_the_one_it_took_over() {
        let (pauses, places) = paused(&budget(1), &[("a", 8), ("b", 20), ("b", 30), ("c", 30)]);
        assert_eq!(places, [Place::Free, Place::InsteadOf(set("a")), Place::Free, Place::Taken]);
        assert_eq!(holders(&pauses).count(), 1);
        // The one that gave its place back needs one again.
        let (pauses, places) = paused(&budget(1), &[("a", 8), ("b", 20), ("a", 30)]);
        assert_eq!(places.last(), Some(&Place::Taken));
        assert_eq!(next_free(&pauses), Some(NOW.plus_minutes(61)));
    }

    #[test]
    fn overwhelming_evidence_takes_no_place() {
        let policy = budget(1);
        let (mut pauses, _) = paused(&policy, &[("a", 8)]);
        let worst = verdict(Metric::HardBounce, 150, 300, 90.0);
        let place = place(&policy, &pauses, &set("z"), &worst);
        assert_eq!(place, Place::Overwhelming);
        pauses.extend(place.taken_by(&policy, &pauses, &set("z"), &worst, NOW).map(|pause| (set("z"), pause)));
        assert_eq!(holders(&pauses).map(|(set, _)| set.clone()).collect::<Vec<_>>(), [set("a")]);
    }
}
