//! Is it the ISP, and not the senders?
//!
//! One sender that turns bad at one ISP has sent bad mail. Several unrelated senders that turn bad at the same ISP at the
//! same time, each after good mail and each good elsewhere, are hit by the ISP's own trouble: a mail provider that for
//! two hours answered "no such user" for users it has is not a reason to punish a list.

use std::collections::BTreeSet;

use crate::policy::Incident;
use crate::subject::Subject;
use crate::time::Now;

/// A sender that turned bad at the ISP in question, while its other mail is fine.
#[derive(Clone, Copy, Debug)]
pub struct Trouble<'a> {
    /// Who.
    pub subject: &'a Subject,
    /// When.
    pub worsened: Now,
}

/// Whether these troubles at one ISP look like the ISP's own.
///
/// Senders are unrelated if they differ in configuration set and in identity, so the smaller number of the two counts.
pub fn suspected<'a>(policy: &Incident, troubles: impl Iterator<Item = Trouble<'a>>, now: Now) -> bool {
    let (mut sets, mut identities) = (BTreeSet::new(), BTreeSet::new());
    for trouble in troubles {
        if now.minutes_since(trouble.worsened) > policy.window_minutes {
            continue;
        }
        match trouble.subject {
            Subject::ConfigurationSet(name) => _ = sets.insert(name),
            Subject::Identity(domain) => _ = identities.insert(domain),
            Subject::Account | Subject::Tenant(_) | Subject::Tag(..) => {}
        }
    }
    sets.len().min(identities.len()) >= policy.min_senders as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    #[test]
    fn only_several_unrelated_senders_at_the_same_time_make_an_incident() {
        let policy = Policy::default().incident;
        let now = Now(1_791_273_600_000);
        let check = |expected: bool, troubles: &[(&str, u32)]| {
            let subjects: Vec<(Subject, u32)> =
                troubles.iter().map(|(name, age)| (name.parse().unwrap(), *age)).collect();
            let troubles = subjects
                .iter()
                .map(|(subject, age)| Trouble { subject, worsened: Now(now.0 - i64::from(*age) * 60_000) });
            assert_eq!(suspected(&policy, troubles, now), expected, "{subjects:?}");
        };
        let (a, b, c) = ("configuration-set:a", "configuration-set:b", "configuration-set:c");
        let (x, y, z) = ("identity:x.example", "identity:y.example", "identity:z.example");
        check(true, &[(a, 1), (b, 2), (c, 3), (x, 1), (y, 2), (z, 3)]);
        check(false, &[(a, 1), (b, 2), (x, 1), (y, 2)]);
        // Three configuration sets of one identity are one sender, and so are three identities of one set.
        check(false, &[(a, 1), (b, 2), (c, 3), (x, 1)]);
        check(false, &[(a, 1), (x, 1), (y, 2), (z, 3)]);
        check(false, &[(a, 1), (b, 2), (c, 300), (x, 1), (y, 2), (z, 300)]);
    }
}
