//! The two times: when a mail was accepted (its cohort), and when it is judged.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::Offset;
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
        let start = Offset::UTC.to_datetime(self.first_second());
        write!(f, "{} {:02}:{:02}", start.date(), start.hour(), start.minute())
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

/// In RFC 3339, to the millisecond. A time before 1970 is shown as 1970, one after all dates as the last second.
impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = Timestamp::from_millisecond(self.0.max(0)).unwrap_or(LAST_SECOND);
        write!(f, "{moment:.3}")
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
        self.first_second().to_string()
    }

    fn first_second(self) -> Timestamp {
        Timestamp::from_second(i64::from(self.0) * 60).unwrap_or(LAST_SECOND)
    }
}

/// The last second that is a date in every time zone. A clock that is wrong by thousands of years shows it.
const LAST_SECOND: Timestamp = Timestamp::constant(253_402_207_200, 0);

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
            let _ = (Now(millis).next_minute(), Now(millis).plus_minutes(u32::MAX));
        }
        assert_eq!(Now(i64::MIN).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Now(i64::MAX).to_string(), "9999-12-30T22:00:00.000Z");
        assert_eq!(Minute(u32::MAX).to_string(), "9999-12-30 22:00");
        assert_eq!(Minute(u32::MAX).start(), "9999-12-30T22:00:00Z");
        assert_eq!(Minute::of_millis(-1), None);
        assert_eq!(Minute(u32::MAX).plus(1), Minute(u32::MAX));
        assert_eq!(Now(0).minutes_since(Now(i64::MAX)), 0);
    }
}
