//! Which notices belong together: those about the same mail, decided at the same moment; and those about harm in mail of one
//! identity, decided within [`FOLLOWS_MILLIS`], although by different configuration sets.
//!
//! A mail belongs to a configuration set, an identity, perhaps a tenant and tags, and each of them has a breaker. So
//! bad mail moves several breakers at once, and people should get one message. When notices are sent, it is no longer
//! known which sender sent what. It follows from their content:
//!
//! - the same subject, moved the same way at several ISPs;
//! - the same numbers over the same cohorts: it was the same mail;
//! - an ISP's own trouble, the moves of that ISP's senders, and their pardons;
//! - without numbers (a time limit ended): the same move of keys that were in one group before;
//! - one command of a person about several subjects.

use std::collections::BTreeMap;
use std::mem;

use reputation::breaker::Cause;
use reputation::subject::Subject;

use super::alert_queue::SentLog;
use super::fact::Fact;

/// Configuration sets of one identity that turn bad within this time, in milliseconds, are one incident to people.
pub(super) const FOLLOWS_MILLIS: i64 = 20_000;

/// Splits facts into groups. Each group is a list of indices into `facts`; all facts of a group were decided at the
/// same moment, or follow each other by less than [`FOLLOWS_MILLIS`].
pub(super) fn groups(facts: &[Fact], sent: &BTreeMap<String, SentLog>) -> Vec<Vec<usize>> {
    let mut at: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (place, fact) in facts.iter().enumerate() {
        at.entry(fact.at().0).or_default().push(place);
    }
    let parts = at.into_values().flat_map(|places| parts(facts, &places, sent));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for part in parts {
        let follows = |group: &&mut Vec<usize>| {
            group.iter().any(|before| part.iter().any(|after| follows(&facts[*before], &facts[*after])))
        };
        match groups.iter_mut().rev().find(follows) {
            Some(group) => group.extend(part),
            None => groups.push(part),
        }
    }
    groups
}

/// Whether `after` belongs to the same incident as `before`: a verdict soon after it about partly the same mail, or the
/// next fact about the same key.
fn follows(before: &Fact, after: &Fact) -> bool {
    let is_soon = after.at().0.saturating_sub(before.at().0) <= FOLLOWS_MILLIS;
    let are_verdicts = before.cause == Cause::Verdict && after.cause == Cause::Verdict;
    let shares_mail =
        before.key() == after.key() || before.shares_mail_with(&after.key()) || after.shares_mail_with(&before.key());
    is_soon && are_verdicts && before.shadow == after.shadow && before.may_be_followed() && shares_mail
}

/// The connected components of the facts that were decided at one moment.
fn parts(facts: &[Fact], places: &[usize], sent: &BTreeMap<String, SentLog>) -> Vec<Vec<usize>> {
    let mut left = places.to_vec();
    let mut parts = Vec::new();
    while let Some(first) = left.first().copied() {
        left.remove(0);
        let mut part = vec![first];
        let mut next = 0;
        while let Some(known) = part.get(next).copied() {
            let (joins, others) = left.iter().partition(|other| are_related(&facts[known], &facts[**other], sent));
            left = others;
            part.extend::<Vec<usize>>(joins);
            next += 1;
        }
        part.sort_unstable();
        parts.push(part);
    }
    parts
}

fn are_related(a: &Fact, b: &Fact, sent: &BTreeMap<String, SentLog>) -> bool {
    if a.shadow != b.shadow {
        return false;
    }
    if explains(a, b) || explains(b, a) {
        return true;
    }
    if a.subject == b.subject {
        // Moves of one breaker must stay in one group, so that the last move is reported last.
        return a.isp == b.isp || a.is_bad_news() == b.is_bad_news();
    }
    match (a.numbers(), b.numbers()) {
        (Some(a_numbers), Some(b_numbers)) => a_numbers == b_numbers && may_share_mail(a, b),
        (None, None) if a.cause == Cause::Pardon && b.cause == Cause::Pardon => {
            a.isp == b.isp || a.isp.is_none() || b.isp.is_none()
        }
        (None, None) => {
            let same_move = (a.cause, a.from, a.to) == (b.cause, b.from, b.to);
            let before = |fact: &Fact| sent.get(&fact.key()).map(|sent| sent.group.as_str());
            let said_together = a.by.is_some() && (&a.by, &a.said) == (&b.by, &b.said);
            let went_together = a.cause == Cause::Time && before(a).is_some() && before(a) == before(b);
            same_move && (said_together || went_together)
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether `a` is an ISP's own trouble that explains `b`, or a configuration set that the harm of `b` is left to.
fn explains(a: &Fact, b: &Fact) -> bool {
    let of_set = b.is_left_to_sets() && a.is_bad_news() && b.shares_mail_with.contains(&a.subject);
    of_set || (a.cause == Cause::Incident && (a.isp == b.isp || (b.isp.is_none() && b.cause == Cause::Pardon)))
}

/// A mail has one configuration set, one identity and one tenant.
fn may_share_mail(a: &Fact, b: &Fact) -> bool {
    let same_kind = mem::discriminant(&a.subject) == mem::discriminant(&b.subject);
    !same_kind || matches!(a.subject, Subject::Tag(..))
}
