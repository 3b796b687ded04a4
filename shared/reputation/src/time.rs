//! The two times: when a mail was accepted (its cohort), and when it is judged.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Length of an hour in minutes.
pub const HOUR: u32 = 60;
/// Length of a day in minutes.
pub const DAY: u32 = 24 * HOUR;
/// Length of a minute in milliseconds.
pub const MINUTE_MILLIS: i64 = 60_000;

/// Event time: the minute (UTC) in which SES accepted a mail, in minutes since 1970-01-01. It names the cohort of the
/// mail, and everything that ever happens to the mail counts in that cohort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(pub u32);

impl Minute {
    /// The minute that holds a time given in milliseconds since 1970; `None` before 1970 and after the year 10,000.
    pub fn of_millis(millis: i64) -> Option<Minute> {
        u32::try_from(millis.div_euclid(MINUTE_MILLIS)).ok().map(Minute)
    }

    /// First minute of the hour that holds this one.
    pub fn hour(self) -> Minute {
        Minute(self.0 - self.0 % HOUR)
    }

    /// First minute of the UTC day that holds this one.
    pub fn day(self) -> Minute {
        Minute(self.0 - self.0 % DAY)
    }

    /// This minute, `minutes` later; saturates at the last minute of time.
    pub fn plus(self, minutes: u32) -> Minute {
        Minute(self.0.saturating_add(minutes))
    }

    /// This minute, `minutes` earlier; saturates at 1970.
    pub fn minus(self, minutes: u32) -> Minute {
        Minute(self.0.saturating_sub(minutes))
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0 / DAY);
        let minute = self.0 % DAY;
        write!(f, "{year:04}-{month:02}-{day:02} {:02}:{:02}", minute / HOUR, minute % HOUR)
    }
}

/// Processing time: when something is judged or done, in milliseconds since 1970-01-01T00:00:00Z. A Lambda function
/// takes it from its clock, a replay from the highest time that SES has stamped so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(pub i64);

impl Now {
    /// The minute that holds this moment.
    pub fn minute(self) -> Minute {
        Minute(u32::try_from(self.0.div_euclid(MINUTE_MILLIS)).unwrap_or(if self.0 < 0 { 0 } else { u32::MAX }))
    }

    /// The first minute whose mail was all accepted after this moment: a key that is re-armed now is judged by mail
    /// from this minute on.
    pub fn next_minute(self) -> Minute {
        self.minute().plus(1)
    }

    /// This moment, `minutes` later.
    pub fn plus_minutes(self, minutes: u32) -> Now {
        Now(self.0.saturating_add(i64::from(minutes) * MINUTE_MILLIS))
    }

    /// Whole minutes from `earlier` to now; 0 if `earlier` is not earlier.
    pub fn minutes_since(self, earlier: Now) -> u32 {
        u32::try_from(self.0.saturating_sub(earlier.0).max(0) / MINUTE_MILLIS).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.max(0);
        let days = u32::try_from(millis / (i64::from(DAY) * MINUTE_MILLIS)).unwrap_or(u32::MAX / DAY);
        let (year, month, day) = civil(days);
        let of_day = millis % (i64::from(DAY) * MINUTE_MILLIS);
        let (seconds, rest) = (of_day / 1000, of_day % 1000);
        let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{rest:03}Z")
    }
}

/// A text that is not a time in RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time in RFC 3339, such as 2026-10-06T09:00:00Z")]
pub struct TimeError(String);

impl FromStr for Now {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Now, TimeError> {
        let time = text.parse::<Timestamp>().map_err(|_| TimeError(text.to_owned()))?;
        Ok(Now(time.as_millisecond()))
    }
}

/// In RFC 3339, to the millisecond: `2026-10-06T09:00:00.000Z`.
impl Serialize for Now {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Now {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Now, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Minute {
    /// Its first second in RFC 3339, such as `2026-10-06T09:00:00Z`.
    pub fn start(self) -> String {
        format!("{self}:00Z").replacen(' ', "T", 1)
    }
}

/// Its first second in RFC 3339: see [`Minute::start`].
impl Serialize for Minute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.start())
    }
}

impl<'de> Deserialize<'de> for Minute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Minute, D::Error> {
        Now::deserialize(deserializer).map(Now::minute)
    }
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from a March, so that the leap day is a
/// year's last, in eras of 400 years, which all have the same number of days.
fn civil(days_since_1970: u32) -> (u32, u32, u32) {
    const DAYS_TO_1970: u32 = 719_468; // from 0000-03-01
    let days = days_since_1970.saturating_add(DAYS_TO_1970);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u32::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_people_write_them() {
        let check = |millis: i64, minute: &str, now: &str| {
            assert_eq!(Minute::of_millis(millis).unwrap().to_string(), minute);
            assert_eq!(Now(millis).to_string(), now);
        };
        check(0, "1970-01-01 00:00", "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28 23:59", "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29 00:00", "2000-02-29T00:00:00.000Z");
        check(1_791_273_601_745, "2026-10-06 08:00", "2026-10-06T08:00:01.745Z");
        check(4_102_444_800_000, "2100-01-01 00:00", "2100-01-01T00:00:00.000Z");
    }

    #[test]
    fn no_time_overflows() {
        for millis in [i64::MIN, -1, 0, i64::MAX] {
            let _ = (Now(millis).to_string(), Now(millis).next_minute(), Now(millis).plus_minutes(u32::MAX));
        }
        assert_eq!(Minute::of_millis(-1), None);
        assert_eq!(Minute(u32::MAX).plus(1), Minute(u32::MAX));
        assert_eq!(Now(0).minutes_since(Now(i64::MAX)), 0);
    }
}
