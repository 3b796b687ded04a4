//! Harm of one cause, which is evidence once a day: how many different causes it stands for.
//!
//! If one company's domain dies, all its people bounce; one person may complain about many mails at a time. Each is one
//! fact about a sender's list, and not one for each mail. So as evidence a **business domain** counts once on a UTC day
//! with its hard bounces, and a person with their complaints ([`Walk`](crate::detect::Walk)). A business domain is a
//! recipient's domain at an ISP that serves businesses ([`IspMap::serves_businesses`]): its people share one fate, and
//! there are few of them. `gmail.com` is none: its mailboxes are independent.
//!
//! Which domain or who it is must not be stored. So each falls into one of 64 [`Bucket`]s by a keyed hash, a row holds
//! the set of buckets with such harm, and the number of causes is estimated from the number of buckets: *linear
//! counting* (Whang, Vander-Zanden, Taylor 1990). A set is exact whatever comes twice or in another order.
//!
//! [`IspMap::serves_businesses`]: crate::IspMap::serves_businesses

use crate::time::Minute;

/// One of 64 groups of causes, by a keyed hash of the domain or the address
/// ([`UnitKeys::bucket`](crate::unit::UnitKeys::bucket)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u8);

impl Bucket {
    /// The bucket with this number: 0 to 63.
    pub fn new(number: u8) -> Option<Bucket> {
        (number < 64).then_some(Bucket(number))
    }

    /// The bucket of a hash of 128 bits.
    pub(crate) fn of_hash(hash: u128) -> Bucket {
        Bucket((hash % 64) as u8)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// A set of buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Buckets(u64);

impl Buckets {
    /// Adds a bucket.
    pub fn insert(&mut self, bucket: Bucket) {
        self.0 |= 1 << bucket.0;
    }

    /// Adds all buckets of another set.
    pub fn merge(&mut self, other: Buckets) {
        self.0 |= other.0;
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its buckets, by number.
    pub fn iter(self) -> impl Iterator<Item = Bucket> {
        (0..64).map(Bucket).filter(move |bucket| self.0 & (1 << bucket.0) != 0)
    }

    fn len(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// The bad mails of one metric in a cohort whose cause is known: hard bounces at business domains, or complaints. Without
/// any the set is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grouped {
    /// Their number.
    pub count: u32,
    /// The buckets of their causes.
    pub buckets: Buckets,
}

impl Grouped {
    /// Adds those of another cohort, or of another ISP.
    pub fn merge(&mut self, other: Grouped) {
        self.count = self.count.saturating_add(other.count);
        self.buckets.merge(other.buckets);
    }

    /// How many of them repeat a cause, about.
    pub(crate) fn repeats(self) -> u64 {
        GroupsOfDay::default().repeats(Minute(0), self)
    }
}

/// One bad mail; none without a bucket.
impl From<Option<Bucket>> for Grouped {
    fn from(bucket: Option<Bucket>) -> Grouped {
        let mut bounces = Grouped::default();
        if let Some(bucket) = bucket {
            bounces.count = 1;
            bounces.buckets.insert(bucket);
        }
        bounces
    }
}

/// How many causes fell into this number of buckets, most likely: −64·ln(1 − taken/64), rounded. A table, so that it
/// is the same on every machine.
///
/// It ends where three of four buckets are taken, by about 89 causes in a day: that is no cluster, the next new one
/// changes the set in one case of four, and the estimate is off by a tenth. From there on every bad mail counts.
const CAUSES: [u64; 48] = [
    0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16, 17, 18, 20, 21, 23, 24, 25, 27, 28, 30, 32, 33, 35, 37, 39, 40,
    42, 44, 46, 48, 51, 53, 55, 58, 60, 63, 65, 68, 71, 74, 78, 81, 85,
];

/// The causes so far, on the UTC day of the newest cell of a walk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GroupsOfDay {
    day: Minute,
    seen: Buckets,
    counted: u64,
}

impl GroupsOfDay {
    /// Advances over the bad mails of the cell that begins at `from`, and returns how many of them do not count, because
    /// their causes have counted before on that day.
    ///
    /// As many count as there are causes that have not been counted. A new one in a bucket that is taken makes up for
    /// itself once the next bucket is taken, because the estimate then grows by more than one.
    pub(crate) fn repeats(&mut self, from: Minute, bounces: Grouped) -> u64 {
        if bounces.buckets.is_empty() {
            return 0;
        }
        let day = from.day();
        if self.day != day {
            *self = GroupsOfDay { day, ..GroupsOfDay::default() };
        }
        self.seen.merge(bounces.buckets);
        let all = u64::from(bounces.count);
        let new = CAUSES.get(self.seen.len()).map_or(all, |causes| causes.saturating_sub(self.counted).min(all));
        self.counted = self.counted.saturating_add(new);
        all - new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::DAY;

    fn bounces(count: u32, buckets: impl IntoIterator<Item = u8>) -> Grouped {
        let mut bounces = Grouped { count, ..Grouped::default() };
        buckets.into_iter().filter_map(Bucket::new).for_each(|bucket| bounces.buckets.insert(bucket));
        bounces
    }

    #[test]
    fn the_table_is_that_of_linear_counting() {
        for (taken, causes) in (0_u32..).zip(CAUSES) {
            let estimate = -64.0 * (1.0 - f64::from(taken) / 64.0).ln();
            assert_eq!(causes as f64, estimate.round(), "{taken}");
        }
    }

    #[test]
    fn a_domain_counts_once_a_day() {
        let mut day = GroupsOfDay::default();
        assert_eq!(day.repeats(Minute(0), bounces(5, [7])), 4);
        assert_eq!(day.repeats(Minute(60), bounces(3, [7])), 3);
        assert_eq!(day.repeats(Minute(61), bounces(3, [7, 8])), 2);
        assert_eq!(day.repeats(Minute(DAY), bounces(3, [7])), 2);
    }

    #[test]
    fn bounces_of_many_domains_all_count() {
        // In one cell, whatever the buckets are full of.
        assert_eq!(GroupsOfDay::default().repeats(Minute(0), bounces(3_000, 0..64)), 0);
        let mut day = GroupsOfDay::default();
        let taken: u64 = (0..64).map(|bucket| day.repeats(Minute(u32::from(bucket)), bounces(1, [bucket]))).sum();
        assert_eq!(taken, 0);
        // What falls into a bucket that is taken counts, too, once three of four are.
        assert_eq!(day.repeats(Minute(64), bounces(9, [1])), 0);
    }

    #[test]
    fn bounces_without_a_bucket_always_count() {
        assert_eq!(GroupsOfDay::default().repeats(Minute(0), Grouped::default()), 0);
        assert_eq!(Grouped::from(None), Grouped::default());
        assert_eq!(Bucket::new(64), None);
        let all: Buckets = (0..64).filter_map(Bucket::new).fold(Buckets::default(), |mut all, bucket| {
            all.insert(bucket);
            all
        });
        assert!(all.iter().map(Bucket::number).eq(0..64));
    }
}
