//! The leases of one ISP and class: a value that is told the time and does nothing by itself.
//!
//! **Invariant:** the mails of a lease that are in stock, those let go and not put back, and those given back are
//! together as many as were granted. What is put back after its lease was given back is lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::permit::Terms;
use crate::wire::MAX_MAILS;

/// How large leases are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseSize {
    pub(crate) least: u64,
    pub(crate) most: u64,
    /// A lease should be used up in about so long, at the pace of late.
    pub(crate) lasts: Duration,
}

/// Mails of one lease, or of an answer without one; never 0 while in stock.
#[derive(Debug)]
pub(crate) struct PooledLease {
    pub(crate) terms: Arc<Terms>,
    pub(crate) left: u64,
}

/// The gate's word that nothing more goes for now.
#[derive(Clone, Debug)]
pub(crate) struct Deferred {
    pub(crate) until: Instant,
    pub(crate) limit: Arc<str>,
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
    /// All leases of late, and whether they were given back.
    leases: HashMap<Arc<str>, Seen>,
    deferred: Option<Deferred>,
    /// Mails taken since it was last asked how many are needed.
    used: u64,
    since: Option<Instant>,
    last_size: u64,
    /// Mails that callers wait for while an errand is under way that was not sent for them.
    waiting: u64,
}

#[derive(Debug)]
struct Seen {
    expires: Instant,
    given_back: bool,
}

/// A pace is measured over no less than this; leases would grow out of all proportion by a burst of a millisecond.
const SHORTEST: Duration = Duration::from_millis(100);
/// A lease is remembered for so much longer than it holds, should an old answer be heard again.
const REMEMBER: Duration = Duration::from_secs(15 * 60);
/// So many leases are remembered before old ones are looked for.
const TIDY: usize = 64;

impl LeasePool {
    /// Puts a new lot in. Returns whether it was: a lease that is already known is not taken twice.
    pub(crate) fn add(&mut self, lot: PooledLease, now: Instant) -> bool {
        if let Some(lease) = &lot.terms.lease {
            if self.knows(lease) {
                return false;
            }
            if self.leases.len() >= TIDY && self.leases.len().is_power_of_two() {
                self.leases.retain(|_, seen| seen.expires + REMEMBER > now);
            }
            self.leases.insert(Arc::clone(lease), Seen { expires: lot.terms.expires, given_back: false });
        }
        self.insert(lot);
        true
    }

    /// Whether a lease was added before.
    pub(crate) fn knows(&self, lease: &str) -> bool {
        self.leases.contains_key(lease)
    }

    fn insert(&mut self, lot: PooledLease) {
        let lots = if lot.terms.overflow { &mut self.overflow } else { &mut self.own };
        let at = lots.partition_point(|known| known.terms.until <= lot.terms.until);
        lots.insert(at, lot);
    }

    /// Takes up to so many mails, of one lot; `None` if nothing is there. Call [`LeasePool::retire`] before.
    pub(crate) fn take(&mut self, mails: u64) -> Option<PooledLease> {
        let lots = if self.own.is_empty() { &mut self.overflow } else { &mut self.own };
        let lot = lots.front_mut()?;
        let taken = PooledLease { terms: Arc::clone(&lot.terms), left: lot.left.min(mails) };
        lot.left -= taken.left;
        if lot.left == 0 {
            lots.pop_front();
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
        let lots = if terms.overflow { &mut self.overflow } else { &mut self.own };
        match lots.iter_mut().find(|lot| Arc::ptr_eq(&lot.terms, terms)) {
            Some(lot) => lot.left += mails,
            None if mails > 0 => self.insert(PooledLease { terms: Arc::clone(terms), left: mails }),
            None => {}
        }
        true
    }

    /// Takes out what must not be used any more, to be given back.
    pub(crate) fn retire(&mut self, now: Instant) -> Vec<PooledLease> {
        // Seldom anything: no allocation then.
        let mut due = Vec::new();
        for lots in [&mut self.own, &mut self.overflow] {
            while let Some(lot) = lots.pop_front_if(|lot| lot.terms.until <= now) {
                due.push(lot);
            }
        }
        self.mark(&due);
        due
    }

    /// Takes everything out, to be given back.
    pub(crate) fn clear(&mut self) -> Vec<PooledLease> {
        let all: Vec<PooledLease> = self.own.drain(..).chain(self.overflow.drain(..)).collect();
        self.mark(&all);
        all
    }

    fn mark(&mut self, lots: &[PooledLease]) {
        for lease in lots.iter().filter_map(|lot| lot.terms.lease.as_ref()) {
            if let Some(seen) = self.leases.get_mut(lease) {
                seen.given_back = true;
            }
        }
    }

    /// When the next lot must be given back.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        [&self.own, &self.overflow].into_iter().filter_map(|lots| Some(lots.front()?.terms.until)).min()
    }

    /// All mails in it.
    pub(crate) fn mails(&self) -> u64 {
        self.own.iter().chain(&self.overflow).fold(0, |sum, lot| sum.saturating_add(lot.left))
    }

    /// Whether it should be filled up: less than a quarter is left of what was asked for last. Not before something was
    /// asked for it at all: the first mail to an ISP may be the only one.
    pub(crate) fn low(&self) -> bool {
        // Lots are few, but for long tails of domains: counting stops when there is enough.
        let enough = self.last_size / 4;
        let mut left = 0u64;
        self.last_size > 0
            && !self.own.iter().chain(&self.overflow).any(|lot| {
                left = left.saturating_add(lot.left);
                left >= enough
            })
    }

    /// How many mails to ask for now, when somebody wants so many at least: what is used in the time that a lease
    /// should last.
    pub(crate) fn next_size(&mut self, wanted: u64, size: LeaseSize, now: Instant) -> u64 {
        let elapsed = self.since.map_or(size.lasts, |since| now.saturating_duration_since(since)).max(SHORTEST);
        let expected = u128::from(self.used) * size.lasts.as_micros() / elapsed.as_micros().max(1);
        let expected = u64::try_from(expected).unwrap_or(u64::MAX).max(wanted.saturating_add(self.waiting));
        (self.used, self.since, self.waiting) = (0, Some(now), 0);
        self.last_size = expected.clamp(size.least, size.most.max(size.least)).max(wanted).clamp(1, MAX_MAILS);
        self.last_size
    }

    /// Somebody waits for an errand that was not sent for him.
    pub(crate) fn join(&mut self, mails: u64) {
        self.waiting = self.waiting.saturating_add(mails);
    }

    /// An errand came back: those who waited help themselves.
    pub(crate) fn served(&mut self) {
        self.waiting = self.waiting.saturating_sub(self.mails());
    }

    /// Remembers what the gate said about mail that it did not grant.
    pub(crate) fn defer(&mut self, deferred: Option<Deferred>) {
        self.deferred = deferred;
    }

    /// The gate's word that nothing more goes for now.
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
        let mut stock = LeasePool::default();
        for (lease, overflow, secs) in [(Some(1), false, 60), (None, true, 5), (Some(2), false, 30)] {
            assert!(stock.add(PooledLease { terms: terms(lease, overflow, now, secs), left: 2 }, now));
        }
        let taken: Vec<_> = std::iter::from_fn(|| stock.take(3))
            .map(|lot| (lot.terms.lease.clone().unwrap_or_default().to_string(), lot.left))
            .collect();
        assert_eq!(taken, [("lease 2".to_owned(), 2), ("lease 1".to_owned(), 2), (String::new(), 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_twice_counts_once_even_after_its_lease_was_used_up() {
        let now = Instant::now();
        let mut stock = LeasePool::default();
        assert!(stock.add(PooledLease { terms: terms(Some(1), false, now, 60), left: 2 }, now));
        assert!(!stock.add(PooledLease { terms: terms(Some(1), false, now, 60), left: 2 }, now));
        assert_eq!(stock.take(9).unwrap().left, 2);
        assert!(!stock.add(PooledLease { terms: terms(Some(1), false, now, 60), left: 2 }, now));
        assert!(stock.take(1).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_put_back_after_its_lease_was_given_back_is_lost() {
        let now = Instant::now();
        let mut stock = LeasePool::default();
        stock.add(PooledLease { terms: terms(Some(1), false, now, 60), left: 5 }, now);
        let (first, second) = (stock.take(1).unwrap(), stock.take(1).unwrap());
        assert!(stock.put_back(&first.terms, 1, now));
        assert_eq!(stock.mails(), 4);
        assert_eq!(stock.clear().iter().map(|lot| lot.left).sum::<u64>(), 4);
        assert!(!stock.put_back(&second.terms, 1, now));
        assert_eq!(stock.mails(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn leases_grow_with_the_pace_of_sending_and_shrink_with_it() {
        let mut now = Instant::now();
        let mut stock = LeasePool::default();
        let far = terms(None, false, now, 100_000);
        let mut sizes = Vec::new();
        // 1000 mails a second, then 1 in ten seconds; each time until the stock is low.
        for (mails_a_round, round) in [(800, 800), (800, 800), (4_000, 4_000), (5, 50_000), (8, 80_000)] {
            sizes.push(stock.next_size(1, SIZE, now));
            stock.add(PooledLease { terms: Arc::clone(&far), left: mails_a_round }, now);
            stock.take(mails_a_round);
            now += Duration::from_millis(round);
        }
        sizes.push(stock.next_size(1, SIZE, now));
        assert_eq!(sizes, [10, 5_000, 5_000, 5_000, 10, 10]);
        assert_eq!(stock.next_size(20_000, SIZE, now), 20_000, "who wants more than the most is asked for");
        assert_eq!(stock.next_size(u64::MAX, SIZE, now), MAX_MAILS);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_asked_for_together_the_next_time() {
        let now = Instant::now();
        let mut stock = LeasePool::default();
        assert_eq!(stock.next_size(1, SIZE, now), 10);
        stock.join(500);
        stock.add(PooledLease { terms: terms(Some(1), false, now, 60), left: 10 }, now);
        stock.served();
        assert_eq!(stock.next_size(1, SIZE, now), 491);
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Add { lease: u8, mails: u64, secs: u64, overflow: bool },
        Take { mails: u64 },
        PutBack { which: usize, share: u64 },
        Pass { secs: u64 },
        Clear,
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            2 => (0..12u8, 1..40u64, 1..30u64, any::<bool>())
                .prop_map(|(lease, mails, secs, overflow)| Deed::Add { lease, mails, secs, overflow }),
            6 => (1..12u64).prop_map(|mails| Deed::Take { mails }),
            3 => (0..20usize, 1..12u64).prop_map(|(which, share)| Deed::PutBack { which, share }),
            2 => (0..12u64).prop_map(|secs| Deed::Pass { secs }),
            1 => Just(Deed::Clear),
        ]
    }

    proptest! {
        /// Against books that are kept per lease: in stock + let go + given back + lost = granted, always.
        #[test]
        fn every_mail_of_a_lease_is_in_one_place(deeds in prop::collection::vec(deed(), 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async move {
                let mut now = Instant::now();
                let mut stock = LeasePool::default();
                let (mut granted, mut given_back) = (BTreeMap::new(), BTreeMap::<Arc<str>, u64>::new());
                let (mut out, mut lost): (Vec<PooledLease>, BTreeMap<Arc<str>, u64>) = Default::default();
                for deed in deeds {
                    for lot in stock.retire(now) {
                        assert!(lot.terms.until <= now);
                        assert!(given_back.insert(lot.terms.lease.clone().unwrap(), lot.left).is_none(), "twice");
                    }
                    match deed {
                        Deed::Add { lease, mails, secs, overflow } => {
                            let terms = terms(Some(lease), overflow, now, secs);
                            let name = terms.lease.clone().unwrap();
                            let new = stock.add(PooledLease { terms, left: mails }, now);
                            assert_eq!(new, !granted.contains_key(&name));
                            granted.entry(name).or_insert(mails);
                        }
                        Deed::Take { mails } => {
                            if let Some(lot) = stock.take(mails) {
                                assert!(lot.terms.until > now, "used after its end");
                                assert!(!given_back.contains_key(lot.terms.lease.as_ref().unwrap()));
                                assert!(0 < lot.left && lot.left <= mails);
                                out.push(lot);
                            }
                        }
                        Deed::PutBack { which, share } => {
                            if !out.is_empty() {
                                let which = which % out.len();
                                let (terms, share) = (Arc::clone(&out[which].terms), share.min(out[which].left));
                                out[which].left -= share;
                                if !stock.put_back(&terms, share, now) {
                                    *lost.entry(terms.lease.clone().unwrap()).or_default() += share;
                                }
                            }
                        }
                        Deed::Pass { secs } => now += Duration::from_secs(secs),
                        Deed::Clear => {
                            for lot in stock.clear() {
                                assert!(given_back.insert(lot.terms.lease.clone().unwrap(), lot.left).is_none());
                            }
                        }
                    }
                    for (lease, granted) in &granted {
                        let of = |lots: &mut dyn Iterator<Item = &PooledLease>| -> u64 {
                            lots.filter(|lot| lot.terms.lease.as_ref() == Some(lease)).map(|lot| lot.left).sum()
                        };
                        let in_stock = of(&mut stock.own.iter().chain(&stock.overflow));
                        let back = given_back.get(lease).copied().unwrap_or(0);
                        let lost = lost.get(lease).copied().unwrap_or(0);
                        assert_eq!(in_stock + of(&mut out.iter()) + back + lost, *granted, "{lease}");
                    }
                }
            });
        }
    }
}
