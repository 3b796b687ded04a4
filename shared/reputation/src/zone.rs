//! Time zones and days: a quota is for a day, and a day begins at midnight in a time zone.

use std::fmt;

use jiff::civil::{Date, Weekday, date};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

use crate::time::Now;

/// A time zone of the IANA database, in the version bundled at build time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A name that is not a time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown time zone `{0}`: use UTC or an IANA name such as Europe/Berlin")]
pub struct ZoneError(String);

impl Zone {
    /// Universal time.
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// The zone with this name, such as `America/New_York`.
    ///
    /// # Errors
    ///
    /// There is no time zone with this name.
    pub fn named(name: &str) -> Result<Zone, ZoneError> {
        let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| ZoneError(name.to_owned()))?;
        Ok(Zone(zone))
    }

    /// The day that holds a moment.
    pub fn day_at(&self, now: Now) -> Day {
        // A clock that is wrong by thousands of years must not cause a panic.
        let moment = Timestamp::from_millisecond(now.0).unwrap_or(Timestamp::UNIX_EPOCH);
        self.dated(self.0.to_datetime(moment).date())
    }

    /// The hour on the clock there: 0 to 23.
    pub fn hour_at(&self, now: Now) -> u8 {
        let moment = Timestamp::from_millisecond(now.0).unwrap_or(Timestamp::UNIX_EPOCH);
        self.0.to_datetime(moment).hour().unsigned_abs()
    }

    /// The day with a number; see [`Day::number`].
    pub fn day(&self, number: i32) -> Day {
        self.dated(date_of(number))
    }

    fn dated(&self, date: Date) -> Day {
        // If midnight does not exist because clocks go forward at that time, the day begins at the first existing time.
        let start = |date: Date| date.to_zoned(self.0.clone()).and_then(|midnight| midnight.start_of_day());
        let millis = |date: Date| start(date).map(|start| start.timestamp().as_millisecond());
        let number = EPOCH.until(date).map_or(0, |span| span.get_days());
        let begins = millis(date).unwrap_or(i64::from(number) * DAY_MILLIS);
        let ends = date.tomorrow().and_then(millis).unwrap_or(begins + DAY_MILLIS);
        Day { number, start: Now(begins), end: Now(ends.max(begins + 1)) }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

const EPOCH: Date = date(1970, 1, 1);
const DAY_MILLIS: i64 = 86_400_000;

/// The date of a day number; 1970-01-01 for a number beyond all dates.
fn date_of(number: i32) -> Date {
    Span::new().try_days(number).and_then(|days| EPOCH.checked_add(days)).unwrap_or(EPOCH)
}

/// One date at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    /// Days from 1970-01-01 to this date.
    pub number: i32,
    /// When it begins.
    pub start: Now,
    /// When the next one begins: 23, 24 or 25 hours later, as clocks are changed.
    pub end: Now,
}

impl Day {
    /// The day of the week: 0 is Monday.
    pub fn weekday(self) -> usize {
        usize::from(date_of(self.number).weekday().since(Weekday::Monday).unsigned_abs())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&NumberedDate(self.number), f)
    }
}

/// Displays the date of a day number.
#[derive(Clone, Copy, Debug)]
pub struct NumberedDate(pub i32);

impl fmt::Display for NumberedDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&date_of(self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Now {
        Now(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn a_day_begins_at_midnight_of_its_zone() {
        let check = |zone: &str, now: &str, expected: [&str; 3]| {
            let day = Zone::named(zone).unwrap().day_at(moment(now));
            assert_eq!(
                (day.to_string().as_str(), day.start, day.end),
                (expected[0], moment(expected[1]), moment(expected[2]))
            );
            assert_eq!(Zone::named(zone).unwrap().day(day.number), day);
        };
        check("UTC", "2026-11-21T23:59:59.999Z", ["2026-11-21", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"]);
        check("Asia/Kolkata", "2026-11-21T18:30:00Z", ["2026-11-22", "2026-11-21T18:30:00Z", "2026-11-22T18:30:00Z"]);
        // 23 and 25 hours.
        check("Europe/Berlin", "2026-03-29T12:00:00Z", ["2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]);
        check("Europe/Berlin", "2026-10-25T12:00:00Z", ["2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"]);
        // Clocks go forward at midnight: the day begins at one.
        check("Africa/Cairo", "2026-04-24T12:00:00Z", ["2026-04-24", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"]);
    }

    #[test]
    fn clocks_show_the_hour_of_their_zone() {
        let check = |zone: &str, now: &str, hour: u8| {
            assert_eq!(Zone::named(zone).unwrap().hour_at(moment(now)), hour, "{zone} {now}");
        };
        check("UTC", "2026-11-21T23:59:59.999Z", 23);
        check("Asia/Kolkata", "2026-11-21T18:30:00Z", 0);
        check("Europe/Berlin", "2026-03-29T01:00:00Z", 3);
    }

    #[test]
    fn days_have_names_and_numbers() {
        let day = Zone::UTC.day(0);
        assert_eq!((day.to_string().as_str(), day.weekday()), ("1970-01-01", 3));
        assert_eq!(Zone::UTC.day(-3).weekday(), 0);
        assert!(Zone::named("Mars/Olympus").unwrap_err().to_string().contains("Mars/Olympus"));
    }

    #[test]
    fn no_time_is_out_of_range() {
        for now in [i64::MIN, -1, i64::MAX] {
            let day = Zone::UTC.day_at(Now(now));
            assert!(day.end > day.start);
        }
        let _ = (Zone::UTC.day(i32::MAX), Zone::UTC.day(i32::MIN));
    }
}
