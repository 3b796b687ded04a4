//! Incidents: decides whether an ISP is in trouble of its own, or its senders are bad.
//!
//! One sender that turns bad at one ISP has sent bad mail, and so have three among three hundred. An ISP's own trouble
//! looks different: a mail provider that for two hours answered "no such user" for users it has fails for most of its
//! senders, at the same time, after good mail, and while their other mail arrives. So an incident requires
//!
//! 1. **a number** of unrelated senders that turned bad there (`min_senders`);
//! 2. **witnesses** among them: senders whose mail was good before, and is good elsewhere ([`conduct`]). A bad list has no
//!    such past, or fails at several ISPs;
//! 3. **a share** of the senders and of the mail that are active there (`min_sender_share`, `min_mail_share`). Most
//!    senders are too small to turn bad by themselves within minutes, so the others are judged together: if their mail
//!    fails as often as that of the witnesses, all of them are hit; if it fails as rarely as usual, none is.
//!
//! **Invariant:** the result is a function of counters, of the notes of the breakers, and of `now`; it does not depend
//! on the order of senders.

use std::collections::BTreeSet;

use crate::Metric;
use crate::counters::{Counters, Tally};
use crate::detect::{Excursion, NanoNats, Walk};
use crate::isp::Isp;
use crate::policy::{Incident, Policy};
use crate::subject::Subject;
use crate::time::{DAY, Minute, Now};
use crate::timeline::{Cell, ExcludedIsp, Timeline, edge};

/// The metrics in which an ISP's trouble shows. Complaints come from people, not from its servers.
const SHOWS_IN: [Metric; 3] = [Metric::HardBounce, Metric::Delay, Metric::Block];

/// How many unrelated witnesses are needed, whatever the policy's number of senders: the harm of one sender may be its
/// own fault.
const MIN_WITNESSES: usize = 2;

/// Which mail is evidence about an ISP.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// The ISP in question.
    pub isp: Isp,
    /// First minute of the mail in which its trouble may show. See [`begins`].
    pub begins: Minute,
    /// The end of the last trouble of each ISP: failures before it were already acted on. For another ISP whose trouble
    /// continues, the last minute of time.
    pub answered: &'a [ExcludedIsp],
}

impl Scope<'_> {
    fn answered(&self, isp: Isp) -> Minute {
        self.answered.iter().find(|known| known.isp == isp).map_or(Minute(0), |known| known.before)
    }
}

/// First minute of the mail in which an ISP's trouble may show, if it is checked, or was found, at `found`. A whole
/// hour if its minutes are no longer kept at `now`.
pub fn begins(policy: &Incident, found: Now, now: Now) -> Minute {
    let begins = found.minute().minus(policy.window_minutes);
    if begins >= edge(now) { begins } else { begins.hour() }
}

/// What is known about a sender that turned bad at an ISP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// It was good before, and is good elsewhere: its failures are evidence against the ISP.
    Witness {
        /// The metric of its failures.
        metric: Metric,
        /// The first minute of the failing mail.
        since: Minute,
    },
    /// A sender without enough history. It is not evidence in either direction.
    Unproven,
    /// It was already bad there, or is bad elsewhere, too: whatever the ISP's trouble, it also has its own.
    Culprit,
}

/// The conduct of a sender, as evidence about an ISP's own trouble.
pub fn conduct(policy: &Policy, timeline: &Timeline, scope: &Scope<'_>, now: Now) -> Conduct {
    let isp = scope.isp;
    let answered = scope.answered(isp);
    let before = scope.begins.minus(DAY).hour().max(answered);
    let is_bad = |isp: Option<Isp>, left_out: &[ExcludedIsp], from: Minute, until: Minute| {
        Metric::ALL
            .into_iter()
            .any(|metric| excursion(policy, timeline, isp, left_out, metric, from..until, now).is_some())
    };
    if is_bad(Some(isp), &[], before, scope.begins) {
        return Conduct::Culprit;
    }
    let elsewhere = |other: &Isp| *other != isp && scope.answered(*other) < END;
    let bad_at = |other: Isp| is_bad(Some(other), &[], scope.begins.max(scope.answered(other)), END);
    if timeline.isps().filter(elsewhere).any(bad_at) || is_bad(None, &without(isp, END, scope), scope.begins, END) {
        return Conduct::Culprit;
    }
    let shown = SHOWS_IN.into_iter().filter_map(|metric| {
        let found = excursion(policy, timeline, Some(isp), &[], metric, scope.begins.max(answered)..END, now)?;
        Some((excess(policy, metric, found.evidence), metric, found.from))
    });
    // The worst one; of equals, the first.
    let worst = shown.reduce(|worst, next| if next.0 > worst.0 { next } else { worst });
    let Some((_, metric, since)) = worst else { return Conduct::Unproven };
    let good = |isp: Option<Isp>, left_out: &[ExcludedIsp], from: Minute| {
        let past = cells(timeline, isp, left_out, from..since, now);
        let past = past.iter().fold(Tally::default(), |sum, cell| sum.plus(cell.counters.tally(metric)));
        let enough = past.population >= policy.incident.min_history_mails;
        enough.then(|| past.rate().is_some_and(|rate| rate <= policy.metrics.rule(metric).limit))
    };
    let was_good = good(Some(isp), &[], answered).or_else(|| good(None, &without(isp, answered, scope), Minute(0)));
    if was_good == Some(true) { Conduct::Witness { metric, since } } else { Conduct::Unproven }
}

/// The last minute of time.
const END: Minute = Minute(u32::MAX);

/// Excludes the mail of this ISP from before a minute, and harm at other ISPs that was already acted on.
fn without(isp: Isp, before: Minute, scope: &Scope<'_>) -> Vec<ExcludedIsp> {
    let others = scope.answered.iter().copied().filter(|known| known.isp != isp);
    std::iter::once(ExcludedIsp { isp, before }).chain(others).collect()
}

/// The cohorts that lie within a stretch of time.
fn cells(
    timeline: &Timeline,
    isp: Option<Isp>,
    left_out: &[ExcludedIsp],
    within: std::ops::Range<Minute>,
    now: Now,
) -> Vec<Cell> {
    let mut cells = timeline.cells(isp, left_out, within.start, now);
    cells.retain(|cell| cell.until <= within.end);
    cells
}

/// The evidence from which on harm is acted on; `None` = never.
fn threshold(policy: &Policy, metric: Metric) -> Option<NanoNats> {
    let rule = policy.metrics.rule(metric);
    rule.throttle.or(rule.pause)
}

fn excess(policy: &Policy, metric: Metric, evidence: NanoNats) -> f64 {
    threshold(policy, metric).map_or(0.0, |threshold| evidence as f64 / threshold as f64)
}

/// The stretch of mail that would have been acted on, if there is one.
fn excursion(
    policy: &Policy,
    timeline: &Timeline,
    isp: Option<Isp>,
    left_out: &[ExcludedIsp],
    metric: Metric,
    within: std::ops::Range<Minute>,
    now: Now,
) -> Option<Excursion> {
    let threshold = threshold(policy, metric).filter(|_| policy.judges(metric, isp))?;
    let ladder = &policy.metrics.rule(metric).ladder;
    let mut walk = Walk::default();
    for cell in cells(timeline, isp, left_out, within, now) {
        walk.pass(ladder, metric, cell.from, cell.until, &cell.counters);
    }
    Some(walk.peak()).filter(|peak| peak.evidence >= threshold)
}

/// Whether enough unrelated senders are hit to read more data.
///
/// Senders are unrelated if they differ in configuration set and in identity, so the smaller number of the two counts.
pub fn are_enough<'a>(policy: &Incident, hit: impl Iterator<Item = &'a Subject>) -> bool {
    unrelated(hit) >= policy.min_senders as usize
}

/// Whether enough of the senders that are hit are witnesses. If not, the other active senders make no difference.
pub fn have_witnesses(hit: &[(Subject, Conduct)]) -> bool {
    unrelated(witnesses(hit).map(|(subject, ..)| subject)) >= MIN_WITNESSES
}

/// Whether it looks like the ISP's own trouble: `hit` turned bad there, and `active` are all configuration sets and
/// identities that may have mail there, with at least the minutes since [`Scope::begins`].
pub fn suspected(
    policy: &Policy,
    scope: &Scope<'_>,
    hit: &[(Subject, Conduct)],
    active: &[(&Subject, &Timeline)],
) -> bool {
    SHOWS_IN.into_iter().any(|metric| suspected_by(policy, scope, hit, active, metric))
}

fn suspected_by(
    policy: &Policy,
    scope: &Scope<'_>,
    hit: &[(Subject, Conduct)],
    active: &[(&Subject, &Timeline)],
    metric: Metric,
) -> bool {
    let seen: Vec<(&Subject, Minute)> =
        witnesses(hit).filter(|(_, by, _)| *by == metric).map(|(subject, _, since)| (subject, since)).collect();
    if unrelated(seen.iter().map(|(subject, _)| *subject)) < MIN_WITNESSES {
        return false;
    }
    let mut onsets: Vec<Minute> = seen.iter().map(|(_, since)| *since).collect();
    onsets.sort_unstable();
    // The median: a single sender may by chance have had a few bad mails before it began.
    let onset = onsets[(onsets.len() - 1) / 2];
    let from = scope.begins.max(scope.answered(scope.isp));
    let is_set = |subject: &Subject| matches!(subject, Subject::ConfigurationSet(_));
    [true, false].into_iter().all(|sets| {
        let mut sides = [Side::default(); 2];
        for (subject, timeline) in active.iter().filter(|(subject, _)| is_set(subject) == sets) {
            let is_witness = seen.iter().any(|(witness, _)| witness == subject);
            if !is_witness && hit.iter().any(|(hit, _)| hit == *subject) {
                continue;
            }
            let sum = |since| tally(timeline, scope.isp, since, metric);
            sides[usize::from(is_witness)].add(sum(from), sum(onset));
        }
        reaches(policy, metric, sides)
    })
}

/// Senders of one kind and their mail at the ISP.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    /// How many have mail there.
    senders: u64,
    /// How much they have.
    mails: u64,
    /// Their counts since the trouble began.
    since: Tally,
}

impl Side {
    fn add(&mut self, whole: Tally, since: Tally) {
        self.senders += u64::from(whole.population > 0);
        self.mails += whole.population;
        self.since = self.since.plus(since);
    }
}

/// Whether the witnesses, together with the others' joint failures, reach the required shares of senders and mail.
fn reaches(policy: &Policy, metric: Metric, [others, witnesses]: [Side; 2]) -> bool {
    let rule = policy.metrics.rule(metric);
    let rate = |side: &Side| side.since.rate().unwrap_or(0.0) - rule.limit;
    // The others are judged as one sender: without evidence they have no trouble.
    let mut walk = Walk::default();
    walk.push(&rule.ladder, Minute(0), END, others.since);
    let harmed = threshold(policy, metric).is_some_and(|threshold| walk.peak().evidence >= threshold);
    let as_bad =
        if harmed && rate(&witnesses) > 0.0 { (rate(&others) / rate(&witnesses)).clamp(0.0, 1.0) } else { 0.0 };
    let share = |hit: u64, others: u64| {
        let (hit, others) = (hit as f64, others as f64);
        if hit + others > 0.0 { (hit + as_bad * others) / (hit + others) } else { 0.0 }
    };
    share(witnesses.senders, others.senders) >= policy.incident.min_sender_share
        && share(witnesses.mails, others.mails) >= policy.incident.min_mail_share
}

fn tally(timeline: &Timeline, isp: Isp, since: Minute, metric: Metric) -> Tally {
    let young = timeline.series(Some(isp)).into_iter().flat_map(|series| series.minutes().rev());
    let young = young.take_while(|(minute, _)| *minute >= since);
    let sum = young.fold(Counters::default(), |mut sum, (_, counters)| {
        sum.merge(counters);
        sum
    });
    sum.tally(metric)
}

fn witnesses(hit: &[(Subject, Conduct)]) -> impl Iterator<Item = (&Subject, Metric, Minute)> {
    hit.iter().filter_map(|(subject, conduct)| match conduct {
        Conduct::Witness { metric, since } => Some((subject, *metric, *since)),
        Conduct::Unproven | Conduct::Culprit => None,
    })
}

fn unrelated<'a>(subjects: impl Iterator<Item = &'a Subject>) -> usize {
    let (mut sets, mut identities) = (BTreeSet::new(), BTreeSet::new());
    for subject in subjects {
        match subject {
            Subject::ConfigurationSet(name) => _ = sets.insert(name),
            Subject::Identity(domain) => _ = identities.insert(domain),
            Subject::Account | Subject::Tenant(_) | Subject::Tag(..) => {}
        }
    }
    sets.len().min(identities.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IspMap, UnitKind};

    const NOW: Now = Now(1_791_273_600_000);

    fn gmail() -> Isp {
        named("gmail")
    }

    fn yahoo() -> Isp {
        named("yahoo")
    }

    fn named(name: &str) -> Isp {
        static MAP: std::sync::LazyLock<IspMap> = std::sync::LazyLock::new(IspMap::builtin);
        MAP.by_name(name).unwrap()
    }

    /// Mail of a sender: where, how many minutes ago, how many, and how many of them bounced hard.
    fn sender(mail: &[(Isp, u32, u32, u32)]) -> Timeline {
        let mut timeline = Timeline::default();
        for (isp, age, mails, bounces) in mail {
            let minute = NOW.minute().minus(*age);
            timeline.add(minute, *isp, UnitKind::Delivered, mails - bounces, true, NOW);
            timeline.add(minute, *isp, UnitKind::HardBounce, *bounces, true, NOW);
        }
        timeline
    }

    fn scope(answered: &[ExcludedIsp]) -> Scope<'_> {
        Scope { isp: gmail(), begins: begins(&Policy::default().incident, NOW, NOW), answered }
    }

    #[test]
    fn only_unrelated_senders_count() {
        let check = |expected: bool, names: &[&str]| {
            let subjects: Vec<Subject> = names.iter().map(|name| name.parse().unwrap()).collect();
            assert_eq!(are_enough(&Policy::default().incident, subjects.iter()), expected, "{names:?}");
        };
        let (a, b, c) = ("configuration-set:a", "configuration-set:b", "configuration-set:c");
        let (x, y, z) = ("identity:x.example", "identity:y.example", "identity:z.example");
        check(true, &[a, b, c, x, y, z]);
        check(false, &[a, b, x, y]);
        // Three configuration sets of one identity are one sender, and so are three identities of one set.
        check(false, &[a, b, c, x]);
        check(false, &[a, x, y, z]);
    }

    #[test]
    fn a_sender_is_a_witness_only_after_good_mail_and_with_good_mail_elsewhere() {
        let check = |expected: Conduct, mail: &[(Isp, u32, u32, u32)]| {
            assert_eq!(conduct(&Policy::default(), &sender(mail), &scope(&[]), NOW), expected, "{mail:?}");
        };
        let witness = Conduct::Witness { metric: Metric::HardBounce, since: NOW.minute().minus(2) };
        let hit = (gmail(), 2, 20, 10);
        check(witness, &[(gmail(), 300, 500, 5), (yahoo(), 5, 100, 1), hit]);
        // A sender that was good as a whole counts as good at an ISP with little mail.
        check(witness, &[(yahoo(), 300, 500, 5), hit]);
        // No history, or too little.
        check(Conduct::Unproven, &[hit]);
        check(Conduct::Unproven, &[(gmail(), 300, 19, 0), hit]);
        // A history that was not good, though not bad enough to act on.
        check(Conduct::Unproven, &[(gmail(), 300, 30, 2), hit]);
        // Bad before, and bad elsewhere.
        check(Conduct::Culprit, &[(gmail(), 300, 500, 100), hit]);
        check(Conduct::Culprit, &[(gmail(), 300, 500, 5), (yahoo(), 3, 20, 8), hit]);
        // Old harm does not count, and neither does harm at another ISP that was already acted on.
        check(witness, &[(gmail(), 3 * DAY, 100, 30), (gmail(), 300, 1_000, 5), hit]);
        let trouble = [ExcludedIsp { isp: yahoo(), before: END }];
        let mail = [(gmail(), 300, 500, 5), (yahoo(), 3, 20, 8), hit];
        assert_eq!(conduct(&Policy::default(), &sender(&mail), &scope(&trouble), NOW), witness);
        let over = [ExcludedIsp { isp: gmail(), before: NOW.minute().minus(200) }];
        let mail = [(yahoo(), 300, 500, 5), (gmail(), 300, 500, 300), hit];
        assert_eq!(conduct(&Policy::default(), &sender(&mail), &scope(&over), NOW), witness);
    }

    /// Whether this number of witnesses, among others with the given mail at the ISP, makes an incident.
    fn incident(witnesses: usize, culprits: usize, others: &[(u32, u32)]) -> bool {
        let policy = Policy::default();
        let mut subjects: Vec<(Subject, Timeline)> = Vec::new();
        let mut hit = Vec::new();
        let since = NOW.minute().minus(2);
        let subjects_of = |number: usize| {
            [format!("configuration-set:{number:03}"), format!("identity:{number:03}.example")]
                .map(|name| name.parse::<Subject>().unwrap())
        };
        for number in 0..witnesses + culprits + others.len() {
            let mail = match number.checked_sub(witnesses + culprits) {
                None => (20, 10),
                Some(other) => others[other],
            };
            for subject in subjects_of(number) {
                if number < witnesses {
                    hit.push((subject.clone(), Conduct::Witness { metric: Metric::HardBounce, since }));
                } else if number < witnesses + culprits {
                    hit.push((subject.clone(), Conduct::Culprit));
                }
                subjects.push((subject, sender(&[(gmail(), 1, mail.0, mail.1)])));
            }
        }
        let active: Vec<(&Subject, &Timeline)> =
            subjects.iter().map(|(subject, timeline)| (subject, timeline)).collect();
        let found = suspected(&policy, &scope(&[]), &hit, &active);
        let (backwards, mut hit) = (active.iter().rev().copied().collect::<Vec<_>>(), hit);
        hit.reverse();
        assert_eq!(suspected(&policy, &scope(&[]), &hit, &backwards), found, "the order makes a difference");
        found
    }

    #[test]
    fn a_share_of_the_senders_and_of_the_mail_there_must_be_hit() {
        // All senders are hit.
        assert!(incident(3, 0, &[]));
        // A few bad lists among many senders, large and small ones.
        assert!(!incident(3, 0, &[(20, 0); 27]));
        assert!(!incident(10, 0, &[(5, 0); 290]));
        assert!(!incident(10, 0, &[(1, 0); 40]), "most of the mail, and few of the senders");
        assert!(!incident(10, 0, &[(2_000, 20)]), "most of the senders, and little of the mail");
        // Senders that are too small to turn bad by themselves are judged together.
        assert!(incident(3, 0, &[vec![(2, 1); 150], vec![(1, 0); 150]].concat()));
        // Healthy bounces are not.
        assert!(!incident(3, 0, &[vec![(2, 0); 280], vec![(2, 1); 10]].concat()));
        // With too few witnesses, culprits alone prove nothing.
        assert!(incident(2, 1, &[]));
        assert!(!incident(1, 2, &[]));
    }
}
