//! Points in time as SES writes them: RFC 3339 with any offset.

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// 9999-12-30T22:00:00.999Z: the last millisecond that is a date in every time zone, and the last that `jiff` takes.
const LAST_MILLISECOND: i64 = 253_402_207_200_999;

impl Timestamp {
    /// Reads `YYYY-MM-DDTHH:MM:SS(.fraction)?(Z|±HH:MM)` (RFC 3339, section 5.6): `None` for anything else, for dates
    /// that do not exist and for dates after 9999-12-30T22:00:00.999Z.
    ///
    /// A fraction has one to nine digits; what is below a millisecond is cut off. Second 60 is a leap second: it counts
    /// as second 59, since time without leap seconds has no better place for it.
    ///
    /// ```
    /// use ses_events::Timestamp;
    /// assert_eq!(Timestamp::parse("1970-01-01T01:00:00.250+01:00"), Some(Timestamp(250)));
    /// assert_eq!(Timestamp::parse("2026-02-30T00:00:00Z"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Timestamp> {
        let (date_time, rest) = text.as_bytes().split_at_checked(19)?;
        let separators = [date_time[4], date_time[7], date_time[10], date_time[13], date_time[16]];
        let [b'-', b'-', b'T' | b't', b':', b':'] = separators else { return None };
        let year = number(date_time, 0)? * 100 + number(date_time, 2)?;
        let (month, day) = (number(date_time, 5)?, number(date_time, 8)?);
        let (hour, minute, second) = (number(date_time, 11)?, number(date_time, 14)?, number(date_time, 17)?);
        if day < 1 || day > days_in(year, month)? || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let (millisecond, offset) = fraction(rest)?;
        let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes(offset)?;
        let milliseconds = (minutes * 60 + second.min(59)) * 1000 + millisecond;
        (milliseconds <= LAST_MILLISECOND).then_some(Timestamp(milliseconds))
    }
}

/// The two digits at `at`.
fn number(text: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (digit(*text.get(at)?)?, digit(*text.get(at + 1)?)?);
    Some(tens * 10 + ones)
}

fn digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => Some(29),
        2 => Some(28),
        _ => None,
    }
}

/// Days of the proleptic Gregorian calendar. Years are taken to begin in March, so that the leap day comes last and the
/// lengths of the months before it follow one line: (153 m + 2) / 5.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    const FROM_MARCH_OF_YEAR_0_TO_1970: i64 = 719_469;
    year * 365 + leap_days + (153 * month + 2) / 5 + day - FROM_MARCH_OF_YEAR_0_TO_1970
}

/// Milliseconds, and what follows the fraction.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(fraction) = rest.strip_prefix(b".") else { return Some((0, rest)) };
    let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&length) {
        return None;
    }
    let (digits, rest) = fraction.split_at(length);
    let place = |at: usize| digits.get(at).and_then(|byte| digit(*byte)).unwrap_or(0);
    Some((place(0) * 100 + place(1) * 10 + place(2), rest))
}

fn offset_minutes(offset: &[u8]) -> Option<i64> {
    let sign = match offset {
        [b'Z' | b'z'] => return Some(0),
        [b'+', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return None,
    };
    let (hours, minutes) = (number(offset, 1)?, number(offset, 4)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What jiff says, in whole milliseconds.
    fn jiff(text: &str) -> Option<Timestamp> {
        let nanoseconds = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
        i64::try_from(nanoseconds.div_euclid(1_000_000)).ok().map(Timestamp)
    }

    #[test]
    fn only_rfc_3339_is_a_timestamp() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-09-14T06:00:01.640Z", Some(1_789_365_601_640)),
            ("2026-09-14T08:00:01.640+02:00", Some(1_789_365_601_640)),
            ("2026-09-14T00:30:01.6409-05:30", Some(1_789_365_601_640)),
            ("2026-09-14t06:00:01z", Some(1_789_365_601_000)),
            ("1969-12-31T23:59:59.999999999Z", Some(-1)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_799_000)),
            ("9999-12-30T22:00:00.999Z", Some(LAST_MILLISECOND)),
            ("9999-12-30T22:00:01Z", None),
            ("1900-02-29T00:00:00Z", None),
            ("2026-02-30T00:00:00Z", None),
            ("2026-04-31T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01T00:60:00Z", None),
            ("2026-01-01T00:00:61Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01T00:00:00.1234567890Z", None),
            ("2026-01-01T00:00:00+0100", None),
            ("2026-01-01T00:00:00+01:00 ", None),
            ("2026-01-01", None),
            ("yesterday", None),
            ("", None),
            ("２０２６-01-01T00:00:00Z", None),
        ] {
            assert_eq!(Timestamp::parse(text), expected.map(Timestamp), "{text}");
            if text.len() > 20 || expected.is_some() {
                assert!(Timestamp::parse(text).is_none_or(|ours| jiff(text) == Some(ours)), "{text}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn every_rfc_3339_text_means_what_jiff_says(
            year in 0..=9999_u32, month in 0..=13_u32, day in 0..=32_u32,
            hour in 0..=24_u32, minute in 0..=60_u32, second in 0..=61_u32,
            fraction in "(\\.[0-9]{1,9})?", offset in "Z|z|[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]",
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{offset}");
            prop_assert_eq!(Timestamp::parse(&text), jiff(&text), "{}", text);
        }

        #[test]
        fn every_text_that_is_taken_means_what_jiff_says(text in "[0-9TZ:.+-]{0,35}|2026-1[0-9]-[0-3][0-9]T.{0,16}") {
            if let Some(ours) = Timestamp::parse(&text) {
                prop_assert_eq!(Some(ours), jiff(&text), "{}", text);
            }
        }
    }
}
