//! When a sender has mail, and when it asks for permits.

use super::receiver::HOUR;

/// Smooth mail is there from this hour of the day …
const FIRST_HOUR: u64 = 8;
/// … for this many hours.
const HOURS: u64 = 12;
/// The hours of batches.
const MORNING: u64 = 9;
const EVENING: u64 = 18;
/// A batch waits for this many hours, over midnight if need be. Then it is old news, and is dropped.
const BATCH_WAITS: u64 = 12;

/// When a sender has mail, and when it asks for permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Demand {
    /// The target on each day, in 12 hours from the eighth of the day on. Asks every five minutes for all that waits. What is
    /// not sent by midnight is dropped.
    #[default]
    Smooth,
    /// The same mail, asked for once an hour.
    Hourly,
    /// The target on each day, all of it at 09:00. What is not sent within 12 hours is dropped, as of all batches.
    Batch09,
    /// The same at 18:00.
    Batch18,
    /// The target at 09:00 of the first day and every seventh after it, and a hundredth of it at 09:00 of all other days.
    Weekly,
    /// The same every 14 days.
    Fortnightly,
    /// The same every 30 days.
    Monthly,
}

impl Demand {
    /// All of them.
    pub const ALL: [Demand; 7] = [
        Demand::Smooth,
        Demand::Hourly,
        Demand::Batch09,
        Demand::Batch18,
        Demand::Weekly,
        Demand::Fortnightly,
        Demand::Monthly,
    ];

    /// Its stable name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Demand::Smooth => "smooth",
            Demand::Hourly => "hourly",
            Demand::Batch09 => "batch-09",
            Demand::Batch18 => "batch-18",
            Demand::Weekly => "weekly",
            Demand::Fortnightly => "fortnightly",
            Demand::Monthly => "monthly",
        }
    }

    /// The mails of a day, counted from 0.
    pub(super) fn of_day(self, target: u64, number: usize) -> u64 {
        let every = match self {
            Demand::Smooth | Demand::Hourly | Demand::Batch09 | Demand::Batch18 => 1,
            Demand::Weekly => 7,
            Demand::Fortnightly => 14,
            Demand::Monthly => 30,
        };
        if number.is_multiple_of(every) { target } else { target.div_ceil(100) }
    }

    /// Whether all mail of a day is there at once.
    fn is_batch(self) -> bool {
        match self {
            Demand::Smooth | Demand::Hourly => false,
            Demand::Batch09 | Demand::Batch18 | Demand::Weekly | Demand::Fortnightly | Demand::Monthly => true,
        }
    }

    /// The slot of a day from which on its mail is there.
    pub(super) fn first_slot(self) -> u64 {
        let hour = match self {
            Demand::Smooth | Demand::Hourly => FIRST_HOUR,
            Demand::Batch09 | Demand::Weekly | Demand::Fortnightly | Demand::Monthly => MORNING,
            Demand::Batch18 => EVENING,
        };
        hour * HOUR
    }

    /// Whether mail that still waits is dropped at the beginning of this slot of the day.
    pub(super) fn drops_at(self, slot: u64) -> bool {
        let slots = 24 * HOUR;
        slot == if self.is_batch() { (self.first_slot() + BATCH_WAITS * HOUR) % slots } else { 0 }
    }

    /// Mails of `whole` that are there from this slot of the day on, and were not before.
    pub(super) fn arriving(self, whole: u64, slot: u64) -> u64 {
        if self.is_batch() {
            return if slot == self.first_slot() { whole } else { 0 };
        }
        due_by(whole, slot) - slot.checked_sub(1).map_or(0, |before| due_by(whole, before))
    }

    /// Whether it asks in this slot of the day, whatever the last answer was.
    pub(super) fn asks_at(self, slot: u64) -> bool {
        match self {
            Demand::Smooth => true,
            Demand::Hourly => slot.is_multiple_of(HOUR),
            Demand::Batch09 | Demand::Batch18 | Demand::Weekly | Demand::Fortnightly | Demand::Monthly => {
                slot == self.first_slot()
            }
        }
    }

    /// Whether it asks again at the moment that an answer names; if not, at its own times.
    pub(super) fn follows_retry_at(self) -> bool {
        self != Demand::Smooth
    }
}

/// Mails of a day that a smooth sender has by the end of one of its slots.
fn due_by(whole: u64, slot: u64) -> u64 {
    let (first, slots) = (FIRST_HOUR * HOUR, HOURS * HOUR);
    let passed = (slot + 1).saturating_sub(first).min(slots);
    u64::try_from(u128::from(whole) * u128::from(passed) / u128::from(slots)).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mail_of_a_day_arrives_once() {
        for demand in Demand::ALL {
            let arriving: Vec<u64> = (0..24 * HOUR).map(|slot| demand.arriving(1_000, slot)).collect();
            assert_eq!(arriving.iter().sum::<u64>(), 1_000, "{}", demand.name());
            let first = arriving.iter().position(|mails| *mails > 0).unwrap() as u64;
            assert_eq!(first, demand.first_slot(), "{}", demand.name());
        }
    }

    #[test]
    fn a_batch_is_dropped_after_twelve_hours_and_other_mail_at_midnight() {
        for (demand, hour) in [(Demand::Smooth, 0), (Demand::Hourly, 0), (Demand::Batch09, 21), (Demand::Batch18, 6)] {
            let drops: Vec<u64> = (0..24 * HOUR).filter(|slot| demand.drops_at(*slot)).collect();
            assert_eq!(drops, [hour * HOUR], "{}", demand.name());
        }
    }

    #[test]
    fn a_newsletter_has_its_days_and_a_hundredth_on_all_others() {
        let days = |demand: Demand| -> Vec<usize> {
            (0..45).filter(|number| demand.of_day(50_000, *number) == 50_000).collect()
        };
        assert_eq!(days(Demand::Weekly), [0, 7, 14, 21, 28, 35, 42]);
        assert_eq!(days(Demand::Fortnightly), [0, 14, 28, 42]);
        assert_eq!(days(Demand::Monthly), [0, 30]);
        assert_eq!(days(Demand::Batch18).len(), 45);
        assert_eq!(Demand::Monthly.of_day(50_000, 1), 500);
    }

    #[test]
    fn a_batch_asks_once_and_an_hourly_sender_on_the_hour() {
        let asks = |demand: Demand| (0..24 * HOUR).filter(|slot| demand.asks_at(*slot)).count();
        assert_eq!((asks(Demand::Batch09), asks(Demand::Weekly), asks(Demand::Hourly)), (1, 1, 24));
    }
}
