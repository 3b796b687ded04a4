//! The leases of one ISP and class: a plain value; time is an argument, and nothing runs by itself.
//!
//! **Invariant:** of each lease, mails in the pool + mails let go and not put back + mails given back = mails granted.
//! What is put back after its lease was given back is lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use gate_api::{Class, MAX_MAILS};
use tokio::time::Instant;

use crate::wait::Limit;

/// How large leases are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseSize {
    pub(crate) least: u64,
    pub(crate) most: u64,
    /// In how long a lease should be used up, at the recent pace.
    pub(crate) lasts: Duration,
}

/// The terms of a lease, or of an answer without one.
#[derive(Debug)]
pub(crate) struct Terms {
    /// `None` if the gate could not be asked.
    pub(crate) place: Option<Place>,
    pub(crate) route: Arc<str>,
    /// `None` if there is nothing to give back.
    pub(crate) lease: Option<Arc<str>>,
    /// Until when mails are let go under it.
    pub(crate) until: Instant,
    /// Until when it can be given back.
    pub(crate) expires: Instant,
    pub(crate) overflow: bool,
    pub(crate) degraded: bool,
}

/// Which pool: an ISP and a class.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) isp: usize,
    pub(crate) name: Arc<str>,
    pub(crate) class: Class,
}

/// Mails of one lease, or of an answer without one; never 0 while in the pool.
#[derive(Debug)]
pub(crate) struct PooledLease {
    pub(crate) terms: Arc<Terms>,
    pub(crate) left: u64,
}

/// The gate's answer that no more mail goes for now.
#[derive(Clone, Debug)]
pub(crate) struct Deferred {
    pub(crate) until: Instant,
    pub(crate) limit: Limit,
    pub(crate) reason: Arc<str>,
    pub(crate) degraded: bool,
}

/// What may still go to one ISP.
#[derive(Debug, Default)]
pub(crate) struct LeasePool {
    /// By their end.
    own: VecDeque<PooledLease>,
    /// Taken from only when there is nothing else.
    overflow: VecDeque<PooledLease>,
    /// All recent leases, and whether they were given back.
    leases: HashMap<Arc<str>, Seen>,
    deferred: Option<Deferred>,
    /// Mails taken since the size of the next lease was last computed.
    used: u64,
    since: Option<Instant>,
    last_size: u64,
    /// Mails that callers wait for while a call is under way that was not made for them.
    waiting: u64,
}

#[derive(Debug)]
struct Seen {
    expires: Instant,
    given_back: bool,
}

/// The shortest time over which a pace is measured. Without it, a burst of a millisecond would make leases far too
/// large.
const SHORTEST: Duration = Duration::from_millis(100);
/// How long a lease is remembered after its end, in case an old answer arrives again.
const REMEMBER: Duration = Duration::from_secs(15 * 60);
/// How many leases are remembered before old ones are removed.
const TIDY: usize = 64;

impl LeasePool {
    /// Adds a new lease. Returns whether it was added: a lease that is already known is not added twice.
    pub(crate) fn add(&mut self, pooled: PooledLease, now: Instant) -> bool {
        if let Some(lease) = &pooled.terms.lease {
            if self.knows(lease) {
                return false;
            }
            if self.leases.len() >= TIDY && self.leases.len().is_power_of_two() {
                self.leases.retain(|_, seen| seen.expires + REMEMBER > now);
            }
            self.leases.insert(Arc::clone(lease), Seen { expires: pooled.terms.expires, given_back: false });
        }
        self.insert(pooled);
        true
    }

    /// Whether a lease was added before.
    pub(crate) fn knows(&self, lease: &str) -> bool {
        self.leases.contains_key(lease)
    }

    fn insert(&mut self, pooled: PooledLease) {
        let leases = if pooled.terms.overflow { &mut self.overflow } else { &mut self.own };
        let at = leases.partition_point(|known| known.terms.until <= pooled.terms.until);
        leases.insert(at, pooled);
    }

    /// Takes at most `mails` mails, all from one lease; `None` if the pool is empty. Call [`LeasePool::retire`] before.
    pub(crate) fn take(&mut self, mails: u64) -> Option<PooledLease> {
        let leases = if self.own.is_empty() { &mut self.overflow } else { &mut self.own };
        let pooled = leases.front_mut()?;
        let taken = PooledLease { terms: Arc::clone(&pooled.terms), left: pooled.left.min(mails) };
        pooled.left -= taken.left;
        if pooled.left == 0 {
            leases.pop_front();
        }
        self.used = self.used.saturating_add(taken.left);
        Some(taken)
    }

    /// Puts mails back that were taken and not sent. Returns whether they can be taken again.
    pub(crate) fn put_back(&mut self, terms: &Arc<Terms>, mails: u64, now: Instant) -> bool {
        let gone = terms.lease.as_ref().is_some_and(|lease| self.leases.get(lease).is_none_or(|seen| seen.given_back));
        if gone || now >= terms.until {
            return false;
        }
        self.used = self.used.saturating_sub(mails);
        let leases = if terms.overflow { &mut self.overflow } else { &mut self.own };
        match leases.iter_mut().find(|pooled| Arc::ptr_eq(&pooled.terms, terms)) {
            Some(pooled) => pooled.left += mails,
            None if mails > 0 => self.insert(PooledLease { terms: Arc::clone(terms), left: mails }),
            None => {}
        }
        true
    }

    /// Removes the leases that must no longer be used, to be given back.
    pub(crate) fn retire(&mut self, now: Instant) -> Vec<PooledLease> {
        // Usually empty, so usually without an allocation.
        let mut due = Vec::new();
        for leases in [&mut self.own, &mut self.overflow] {
            while let Some(pooled) = leases.pop_front_if(|pooled| pooled.terms.until <= now) {
                due.push(pooled);
            }
        }
        self.mark(&due);
        due
    }

    /// Removes all leases, to be given back.
    pub(crate) fn clear(&mut self) -> Vec<PooledLease> {
        let all: Vec<PooledLease> = self.own.drain(..).chain(self.overflow.drain(..)).collect();
        self.mark(&all);
        all
    }

    fn mark(&mut self, leases: &[PooledLease]) {
        for lease in leases.iter().filter_map(|pooled| pooled.terms.lease.as_ref()) {
            if let Some(seen) = self.leases.get_mut(lease) {
                seen.given_back = true;
            }
        }
    }

    /// When the next lease must be given back.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        [&self.own, &self.overflow].into_iter().filter_map(|leases| Some(leases.front()?.terms.until)).min()
    }

    /// All mails in the pool.
    pub(crate) fn mails(&self) -> u64 {
        self.own.iter().chain(&self.overflow).fold(0, |sum, pooled| sum.saturating_add(pooled.left))
    }

    /// Whether to refill: less than a quarter is left of what was asked for last. Never before the first call for this
    /// pool: the first mail to an ISP may be the only one.
    pub(crate) fn low(&self) -> bool {
        // There may be many leases for a long tail of domains, so counting stops when there is enough.
        let enough = self.last_size / 4;
        let mut left = 0u64;
        self.last_size > 0
            && !self.own.iter().chain(&self.overflow).any(|pooled| {
                left = left.saturating_add(pooled.left);
                left >= enough
            })
    }

    /// How many mails to ask for now: as many as are used in the time that a lease should last, and at least `wanted`.
    pub(crate) fn next_size(&mut self, wanted: u64, size: LeaseSize, now: Instant) -> u64 {
        let elapsed = self.since.map_or(size.lasts, |since| now.saturating_duration_since(since)).max(SHORTEST);
        let expected = u128::from(self.used) * size.lasts.as_micros() / elapsed.as_micros().max(1);
        let expected = u64::try_from(expected).unwrap_or(u64::MAX).max(wanted.saturating_add(self.waiting));
        (self.used, self.since, self.waiting) = (0, Some(now), 0);
        self.last_size = expected.clamp(size.least, size.most.max(size.least)).max(wanted).clamp(1, MAX_MAILS);
        self.last_size
    }

    /// A caller waits for a call that was not made for it.
    pub(crate) fn join(&mut self, mails: u64) {
        self.waiting = self.waiting.saturating_add(mails);
    }

    /// A call ended: those who waited take from the pool.
    pub(crate) fn served(&mut self) {
        self.waiting = self.waiting.saturating_sub(self.mails());
    }

    /// Remembers the gate's answer about mail that it did not grant.
    pub(crate) fn defer(&mut self, deferred: Option<Deferred>) {
        self.deferred = deferred;
    }

    /// The gate's answer that no more mail goes for now.
    pub(crate) fn deferred(&self, now: Instant) -> Option<&Deferred> {
        self.deferred.as_ref().filter(|deferred| now < deferred.until)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const SIZE: LeaseSize = LeaseSize { least: 10, most: 10_000, lasts: Duration::from_secs(5) };

    fn terms(lease: Option<u8>, overflow: bool, start: Instant, secs: u64) -> Arc<Terms> {
        let until = start + Duration::from_secs(secs);
        let lease = lease.map(|lease| format!("lease {lease}").into());
        Arc::new(Terms { place: None, route: "news".into(), lease, until, expires: until, overflow, degraded: false })
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_that_ends_first_is_used_first_and_overflow_last() {
        let now = Instant::now();
        let mut pool = LeasePool::default();
        for (lease, overflow, secs) in [(Some(1), false, 60), (None, true, 5), (Some(2), false, 30)] {
            assert!(pool.add(PooledLease { terms: terms(lease, overflow, now, secs), left: 2 }, now));
        }
        let taken: Vec<_> = std::iter::from_fn(|| pool.take(3))
            .map(|pooled| (pooled.terms.lease.clone().unwrap_or_default().to_string(), pooled.left))
            .collect();
        assert_eq!(taken, [("lease 2".to_owned(), 2), ("lease 1".to_owned(), 2), (String::new(), 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_twice_counts_once_even_after_its_lease_was_used_up() {
        let now = Instant::now();
        let mut pool = LeasePool::default();
        assert!(pool.add(PooledLease { terms: terms(Some(1), false, now, 60), left: 2 }, now));
        assert!(!pool.add(PooledLease { terms: terms(Some(1), false, now, 60), left: 2 }, now));
        assert_eq!(pool.take(9).unwrap().left, 2);
        assert!(!pool.add(PooledLease { terms: terms(Some(1), false, now, 60), left: 2 }, now));
        assert!(pool.take(1).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_put_back_after_its_lease_was_given_back_is_lost() {
        let now = Instant::now();
        let mut pool = LeasePool::default();
        pool.add(PooledLease { terms: terms(Some(1), false, now, 60), left: 5 }, now);
        let (first, second) = (pool.take(1).unwrap(), pool.take(1).unwrap());
        assert!(pool.put_back(&first.terms, 1, now));
        assert_eq!(pool.mails(), 4);
        assert_eq!(pool.clear().iter().map(|pooled| pooled.left).sum::<u64>(), 4);
        assert!(!pool.put_back(&second.terms, 1, now));
        assert_eq!(pool.mails(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn leases_grow_with_the_pace_of_sending_and_shrink_with_it() {
        let mut now = Instant::now();
        let mut pool = LeasePool::default();
        let far = terms(None, false, now, 100_000);
        let mut sizes = Vec::new();
        // 1000 mails a second, then 1 in ten seconds; each time until the pool is low.
        for (mails_a_round, round) in [(800, 800), (800, 800), (4_000, 4_000), (5, 50_000), (8, 80_000)] {
            sizes.push(pool.next_size(1, SIZE, now));
            pool.add(PooledLease { terms: Arc::clone(&far), left: mails_a_round }, now);
            pool.take(mails_a_round);
            now += Duration::from_millis(round);
        }
        sizes.push(pool.next_size(1, SIZE, now));
        assert_eq!(sizes, [10, 5_000, 5_000, 5_000, 10, 10]);
        assert_eq!(pool.next_size(20_000, SIZE, now), 20_000, "a caller may want more than the largest lease");
        assert_eq!(pool.next_size(u64::MAX, SIZE, now), MAX_MAILS);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_asked_for_together_the_next_time() {
        let now = Instant::now();
        let mut pool = LeasePool::default();
        assert_eq!(pool.next_size(1, SIZE, now), 10);
        pool.join(500);
        pool.add(PooledLease { terms: terms(Some(1), false, now, 60), left: 10 }, now);
        pool.served();
        assert_eq!(pool.next_size(1, SIZE, now), 491);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add { lease: u8, mails: u64, secs: u64, overflow: bool },
        Take { mails: u64 },
        PutBack { which: usize, share: u64 },
        Pass { secs: u64 },
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => (0..12u8, 1..40u64, 1..30u64, any::<bool>())
                .prop_map(|(lease, mails, secs, overflow)| Step::Add { lease, mails, secs, overflow }),
            6 => (1..12u64).prop_map(|mails| Step::Take { mails }),
            3 => (0..20usize, 1..12u64).prop_map(|(which, share)| Step::PutBack { which, share }),
            2 => (0..12u64).prop_map(|secs| Step::Pass { secs }),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        /// Against a count that is kept per lease: in the pool + let go + given back + lost = granted, always.
        #[test]
        fn every_mail_of_a_lease_is_in_one_place(steps in prop::collection::vec(step(), 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async move {
                let mut now = Instant::now();
                let mut pool = LeasePool::default();
                let (mut granted, mut given_back) = (BTreeMap::new(), BTreeMap::<Arc<str>, u64>::new());
                let (mut out, mut lost): (Vec<PooledLease>, BTreeMap<Arc<str>, u64>) = Default::default();
                for step in steps {
                    for pooled in pool.retire(now) {
                        assert!(pooled.terms.until <= now);
                        assert!(given_back.insert(pooled.terms.lease.clone().unwrap(), pooled.left).is_none(), "twice");
                    }
                    match step {
                        Step::Add { lease, mails, secs, overflow } => {
                            let terms = terms(Some(lease), overflow, now, secs);
                            let name = terms.lease.clone().unwrap();
                            let new = pool.add(PooledLease { terms, left: mails }, now);
                            assert_eq!(new, !granted.contains_key(&name));
                            granted.entry(name).or_insert(mails);
                        }
                        Step::Take { mails } => {
                            if let Some(pooled) = pool.take(mails) {
                                assert!(pooled.terms.until > now, "used after its end");
                                assert!(!given_back.contains_key(pooled.terms.lease.as_ref().unwrap()));
                                assert!(0 < pooled.left && pooled.left <= mails);
                                out.push(pooled);
                            }
                        }
                        Step::PutBack { which, share } => {
                            if !out.is_empty() {
                                let which = which % out.len();
                                let (terms, share) = (Arc::clone(&out[which].terms), share.min(out[which].left));
                                out[which].left -= share;
                                if !pool.put_back(&terms, share, now) {
                                    *lost.entry(terms.lease.clone().unwrap()).or_default() += share;
                                }
                            }
                        }
                        Step::Pass { secs } => now += Duration::from_secs(secs),
                        Step::Clear => {
                            for pooled in pool.clear() {
                                assert!(given_back.insert(pooled.terms.lease.clone().unwrap(), pooled.left).is_none());
                            }
                        }
                    }
                    for (lease, granted) in &granted {
                        let of = |leases: &mut dyn Iterator<Item = &PooledLease>| -> u64 {
                            leases.filter(|pooled| pooled.terms.lease.as_ref() == Some(lease)).map(|pooled| pooled.left).sum()
                        };
                        let in_pool = of(&mut pool.own.iter().chain(&pool.overflow));
                        let back = given_back.get(lease).copied().unwrap_or(0);
                        let lost = lost.get(lease).copied().unwrap_or(0);
                        assert_eq!(in_pool + of(&mut out.iter()) + back + lost, *granted, "{lease}");
                    }
                }
            });
        }
    }
}
