//! Times: as people write them on the command line, and as texts show them.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use reputation::time::Now;

/// A time with the precision in which it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeArg {
    /// Its start.
    pub at: Now,
    /// The first moment after it: seconds without a fraction mean the whole second.
    pub end: Now,
}

/// A text that is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write it as 2026-10-06, 2026-10-06T09:00 (UTC) or 2026-10-06T09:00:00+02:00")]
pub struct TimeArgError;

impl FromStr for TimeArg {
    type Err = TimeArgError;

    fn from_str(text: &str) -> Result<TimeArg, TimeArgError> {
        let civil = |at: DateTime| Offset::UTC.to_timestamp(at).ok();
        let at = text.parse::<Timestamp>().ok();
        let at = at.or_else(|| {
            text.parse::<Date>().ok().filter(|_| text.len() <= 10).and_then(|date| civil(date.at(0, 0, 0, 0)))
        });
        let at = at.or_else(|| text.parse::<DateTime>().ok().and_then(civil)).ok_or(TimeArgError)?;
        // Reports show times to the second.
        let time = text.get(10..).unwrap_or_default();
        let seconds = time.split(['+', '-', 'Z', 'z']).next().unwrap_or_default().matches(':').count() == 2;
        let span = if seconds && !time.contains(['.', ',']) { 1000 } else { 1 };
        let at = at.as_millisecond();
        Ok(TimeArg { at: Now(at), end: Now(at.saturating_add(span)) })
    }
}

/// The date of an RFC 3339 time.
pub fn date(at: &str) -> &str {
    at.get(..10).unwrap_or(at)
}

/// The time of day of an RFC 3339 time, to the second.
pub fn clock(at: &str) -> &str {
    at.get(11..19).unwrap_or(at)
}

/// The time of day of an RFC 3339 time, to the minute.
pub fn minute_clock(at: &str) -> &str {
    at.get(11..16).unwrap_or(at)
}

/// Date and time of day of an RFC 3339 time, to the minute.
pub fn minute(at: &str) -> String {
    format!("{} {}", date(at), minute_clock(at))
}

/// Date and time of day of an RFC 3339 time, to the second.
pub fn moment(at: &str) -> String {
    format!("{} {}", date(at), clock(at))
}

/// Date and time of day, to the second.
pub fn second_of(at: Now) -> String {
    moment(&at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let check = |text: &str, at: i64, span: i64| {
            let moment: TimeArg = text.parse().unwrap();
            assert_eq!((moment.at.0, moment.end.0 - moment.at.0), (at, span), "{text}");
        };
        check("1970-01-01", 0, 1);
        check("1970-01-02T00:01", 86_460_000, 1);
        check("1970-01-02 00:01", 86_460_000, 1);
        check("1970-01-02T00:00:01", 86_401_000, 1000);
        check("1970-01-02T00:00:01Z", 86_401_000, 1000);
        check("1970-01-02 00:00:01z", 86_401_000, 1000);
        check("1970-01-02T02:00:01+02:00", 86_401_000, 1000);
        check("1970-01-02T00:00:01.250Z", 86_401_250, 1);
        check("1970-01-02T02:01+02:00", 86_460_000, 1);
    }

    #[test]
    fn texts_that_are_not_times_are_refused() {
        for text in
            ["", "yesterday", "2026-13-01", "2026-10-06T25:00", "09:00", "1791273601", "2026-10-06Tä:1", "T", "7d"]
        {
            assert!(text.parse::<TimeArg>().is_err(), "{text}");
        }
    }
}
