//! Which ISP a domain belongs to, as learned from the gate's answers.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Domains and their ISPs, bounded in number and age: the gate's map may change, so each is asked for again after one
/// to two hours. Two generations are kept; the older is forgotten as a whole when the younger is full or old.
#[derive(Debug)]
pub(crate) struct Directory {
    younger: HashMap<Box<str>, usize>,
    older: HashMap<Box<str>, usize>,
    turned: Instant,
    most: usize,
}

/// How long a generation is the younger one.
const GENERATION: Duration = Duration::from_secs(3600);

impl Directory {
    /// Keeps at most `most` domains.
    pub(crate) fn new(most: usize, now: Instant) -> Directory {
        Directory { younger: HashMap::new(), older: HashMap::new(), turned: now, most: most.max(2) }
    }

    /// The ISP of a domain. A domain found in the older generation stays there, so that it is asked for again within
    /// two hours.
    pub(crate) fn isp_of(&mut self, domain: &str, now: Instant) -> Option<usize> {
        if now.saturating_duration_since(self.turned) >= GENERATION {
            self.turn(now);
        }
        self.younger.get(domain).or_else(|| self.older.get(domain)).copied()
    }

    /// Remembers what the gate answered.
    pub(crate) fn learn(&mut self, domain: &str, isp: usize, now: Instant) {
        if let Some(known) = self.younger.get_mut(domain) {
            *known = isp;
            return;
        }
        if self.younger.len() >= self.most / 2 {
            self.turn(now);
        }
        self.younger.insert(domain.into(), isp);
    }

    fn turn(&mut self, now: Instant) {
        self.older = std::mem::take(&mut self.younger);
        self.turned = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_domain_is_forgotten_after_one_to_two_hours_however_much_it_is_used() {
        let start = Instant::now();
        let mut directory = Directory::new(1000, start);
        directory.learn("gmail.com", 7, start);
        let known: Vec<_> =
            (0..=120).map(|minute| directory.isp_of("gmail.com", start + Duration::from_secs(60 * minute))).collect();
        assert_eq!(known.iter().filter(|isp| **isp == Some(7)).count(), 120);
        assert_eq!(known.last(), Some(&None));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_domains_are_kept_than_configured_and_the_latest_answer_wins() {
        let now = Instant::now();
        let mut directory = Directory::new(100, now);
        for number in 0..1000 {
            directory.learn(&format!("d{number}.example"), number, now);
            assert!(directory.younger.len() + directory.older.len() <= 100);
            assert_eq!(directory.isp_of(&format!("d{number}.example"), now), Some(number));
        }
        assert_eq!(directory.isp_of("d0.example", now), None);
        directory.learn("d999.example", 3, now);
        assert_eq!(directory.isp_of("d999.example", now), Some(3));
    }
}
