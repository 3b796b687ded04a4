//! Times on the command line, written as `replay` takes them.

use std::str::FromStr;

use aws_smithy_types::date_time::{DateTime, Format};
use reputation::time::Now;

/// A time as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Where it begins.
    pub at: Now,
    /// The first moment after it: a time in seconds, as they are shown, means the whole second.
    pub end: Now,
}

/// A text that is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write it as 2026-10-06, 2026-10-06T09:00 (UTC) or 2026-10-06T09:00:00+02:00")]
pub struct MomentError;

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Moment, MomentError> {
        let (date, time) = match text.split_once(['T', 't', ' ']) {
            Some((date, time)) => (date, time),
            None => (text, "00:00"),
        };
        let zone = time.find(['+', '-', 'Z', 'z']).unwrap_or(time.len());
        let (clock, zone) = time.split_at_checked(zone).ok_or(MomentError)?;
        let seconds = match clock.matches(':').count() {
            1 => ":00",
            2 => "",
            _ => return Err(MomentError),
        };
        let zone = if zone.is_empty() { "Z" } else { zone };
        let whole = format!("{date}T{clock}{seconds}{}", zone.to_ascii_uppercase());
        let at = DateTime::from_str(&whole, Format::DateTimeWithOffset).ok().and_then(|at| at.to_millis().ok());
        let at = at.ok_or(MomentError)?;
        let span = if seconds.is_empty() && !clock.contains('.') { 1000 } else { 1 };
        Ok(Moment { at: Now(at), end: Now(at.saturating_add(span)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let check = |text: &str, at: i64, span: i64| {
            let moment: Moment = text.parse().unwrap();
            assert_eq!((moment.at.0, moment.end.0 - moment.at.0), (at, span), "{text}");
        };
        check("1970-01-01", 0, 1);
        check("1970-01-02T00:01", 86_460_000, 1);
        check("1970-01-02 00:01", 86_460_000, 1);
        check("1970-01-02T00:00:01", 86_401_000, 1000);
        check("1970-01-02 00:00:01z", 86_401_000, 1000);
        check("1970-01-02T02:00:01+02:00", 86_401_000, 1000);
        check("1970-01-02T00:00:01.250Z", 86_401_250, 1);
        check("1970-01-02T02:01+02:00", 86_460_000, 1);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["", "yesterday", "2026-13-01", "2026-10-06T25:00", "09:00", "1791273601", "2026-10-06Tä:1", "T", "7d"]
        {
            assert_eq!(text.parse::<Moment>(), Err(MomentError), "{text}");
        }
    }
}
