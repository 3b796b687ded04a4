//! Timestamps: RFC 3339 as SES writes them, and the other forms in which dates of SES events occur.

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// 9999-12-30T22:00:00.999Z: the last millisecond that is a date in every time zone, and the last one that `jiff`
/// accepts.
const LAST_MILLISECOND: i64 = 253_402_207_200_999;

impl Timestamp {
    /// Reads `YYYY-MM-DDTHH:MM:SS(.fraction)?(Z|±HH:MM)` (RFC 3339, section 5.6): `None` for anything else, for dates
    /// that do not exist and for dates after 9999-12-30T22:00:00.999Z.
    ///
    /// A fraction has one to nine digits; digits below a millisecond are cut off. Second 60 is a leap second: it counts
    /// as second 59, because time without leap seconds has no better value for it.
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
        let date = [year, number(date_time, 5)?, number(date_time, 8)?];
        let time = [number(date_time, 11)?, number(date_time, 14)?, number(date_time, 17)?];
        let (millisecond, offset) = fraction(rest)?;
        at(date, time, millisecond, offset_minutes(offset)?)
    }

    /// Reads every unambiguous form in which dates of SES events occur: `None` for anything else, and for any date
    /// without a time zone.
    ///
    /// | form | where it is found |
    /// |---|---|
    /// | what [`Timestamp::parse`] takes | SES, SNS, EventBridge |
    /// | `2018-10-08T14:05:45 +0000` | samples of the SES notification guide |
    /// | `2018-10-08 14:05:45.000 UTC` | Athena, Glue, database exports; also with `Z`, `GMT`, `±HH`, `±HHMM`, `±HH:MM` |
    /// | `20181008T140545Z` | ISO 8601, basic format |
    /// | `Thu, 8 Oct 2018 14:05:45 +0000 (UTC)` | mail headers (RFC 5322, sections 3.3 and 4.3), `date`, JavaScript |
    /// | `1539007545`, `1539007545000` | seconds and milliseconds since 1970: exactly 10 and 13 digits |
    ///
    /// White space around it is ignored. The name of a zone after an offset (`+0200 CEST`, `+02:00[Europe/Berlin]`) is
    /// not read: the offset decides.
    ///
    /// ```
    /// use ses_events::Timestamp;
    /// assert_eq!(Timestamp::parse_any("1970-01-01 01:00:00.250 +0100"), Some(Timestamp(250)));
    /// assert_eq!(Timestamp::parse_any("1970-01-01 01:00:00"), None);
    /// ```
    #[must_use]
    #[inline]
    pub fn parse_any(text: &str) -> Option<Timestamp> {
        Self::parse(text).or_else(|| other_form(text.trim()))
    }

    /// Milliseconds since 1970 in digits, as SQS writes them.
    pub(crate) fn parse_millis(text: &str) -> Option<Timestamp> {
        text.parse().ok().map(Timestamp)
    }

    /// Reads a number as seconds or milliseconds since 1970, if its size is unambiguous: seconds have 10 digits before
    /// the point (2001 to 2286), milliseconds 13.
    pub(crate) fn since_1970(number: f64) -> Option<Timestamp> {
        let milliseconds = match number {
            1e9..1e10 => number * 1000.0,
            1e12..1e13 => number,
            _ => return None,
        };
        // An `f64` and an `i64` represent both ranges exactly.
        Some(Timestamp(milliseconds.round() as i64))
    }
}

/// The date and time at an offset from UTC, if there is such a date.
#[inline]
fn at(
    [year, month, day]: [i64; 3],
    [hour, minute, second]: [i64; 3],
    millisecond: i64,
    offset: i64,
) -> Option<Timestamp> {
    if day < 1 || day > days_in(year, month)? || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset;
    let milliseconds = (minutes * 60 + second.min(59)) * 1000 + millisecond;
    (milliseconds <= LAST_MILLISECOND).then_some(Timestamp(milliseconds))
}

#[cold]
#[inline(never)]
fn other_form(text: &str) -> Option<Timestamp> {
    digits_since_1970(text).or_else(|| year_first(text)).or_else(|| in_words(text))
}

fn digits_since_1970(text: &str) -> Option<Timestamp> {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let only_digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !only_digits || !matches!(whole.len(), 10 | 13) || whole.starts_with('0') {
        return None;
    }
    Timestamp::since_1970(text.parse().ok()?)
}

/// The rest of a text that is read from its beginning.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// The next `count` digits as a number; consumes nothing if there are fewer.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let number = digits.bytes().try_fold(0, |number, byte| Some(number * 10 + digit(byte)?))?;
        self.0 = rest;
        Some(number)
    }

    fn take(&mut self, one_of: &str) -> Option<char> {
        let first = self.0.chars().next().filter(|first| one_of.contains(*first))?;
        self.0 = self.0.get(first.len_utf8()..)?;
        Some(first)
    }

    /// `.250` or `,250` as milliseconds; more digits are cut off.
    fn fraction(&mut self) -> Option<i64> {
        if self.take(".,").is_none() {
            return Some(0);
        }
        let count = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at_checked(count).filter(|_| count > 0)?;
        self.0 = rest;
        let mut digits = digits.bytes().filter_map(digit).chain([0, 0]);
        Some(digits.by_ref().take(3).fold(0, |number, digit| number * 10 + digit))
    }

    /// `14:05`, `14:05:45`, `14:05:45.250`: hour, minute and second, and milliseconds.
    fn time(&mut self) -> Option<([i64; 3], i64)> {
        let hour = self.digits(2)?;
        let has_colons = self.take(":").is_some();
        let minute = self.digits(2)?;
        let has_seconds =
            if has_colons { self.take(":").is_some() } else { self.0.starts_with(|c: char| c.is_ascii_digit()) };
        let second = if has_seconds { self.digits(2)? } else { 0 };
        Some(([hour, minute, second], self.fraction()?))
    }
}

/// ISO 8601 and similar forms: `2018-10-08T14:05:45 +0000`, `2018/10/08 14:05 UTC`, `20181008T140545Z`.
fn year_first(text: &str) -> Option<Timestamp> {
    let mut rest = Rest(text);
    let year = rest.digits(4)?;
    let separator = rest.take("-/");
    let month = rest.digits(2)?;
    if let Some(separator) = separator {
        rest.take(separator.encode_utf8(&mut [0; 4]))?;
    }
    let day = rest.digits(2)?;
    if rest.take("Tt").is_none() {
        rest.take(" \t")?;
        rest.0 = rest.0.trim_start();
    }
    let (time, millisecond) = rest.time()?;
    let mut zone = rest.0.split_whitespace();
    let offset = offset_of(zone.next()?)?;
    // The name of the zone, which only repeats the offset.
    let is_name = |word: &str| word.starts_with(|c: char| c.is_ascii_alphabetic() || "([".contains(c));
    if !zone.next().is_none_or(is_name) {
        return None;
    }
    at([year, month, day], time, millisecond, offset)
}

/// `Z`, `UTC`, `+02`, `+0200`, `+02:00`, `GMT+0200`, `+02:00[Europe/Berlin]` in minutes.
fn offset_of(zone: &str) -> Option<i64> {
    let zone = zone.split_once(['[', '(']).map_or(zone, |(zone, _)| zone);
    let names = ["UTC", "GMT", "UT", "Z"];
    let starts_with = |name: &&str| zone.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let name = names.iter().find(|name| starts_with(name));
    let offset = zone.get(name.map_or(0, |name| name.len())..)?;
    let bytes = offset.as_bytes();
    let sign = match bytes.first() {
        None if name.is_some() => return Some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) | None => return None,
    };
    let (hours, minutes) = match bytes.len() {
        3 => (number(bytes, 1)?, 0),
        5 => (number(bytes, 1)?, number(bytes, 3)?),
        6 if bytes.get(3) == Some(&b':') => (number(bytes, 1)?, number(bytes, 4)?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

/// A date with the name of its month, its parts in any order: `Thu, 8 Oct 2018 14:05:45 +0000 (UTC)`, `Thu Oct  8
/// 14:05:45 UTC 2018`, `Thu Oct 08 2018 14:05:45 GMT+0000 (Coordinated Universal Time)`.
fn in_words(text: &str) -> Option<Timestamp> {
    let (mut year, mut month, mut day, mut time, mut offset) = (None, None, None, None, None);
    let mut has_weekday = false;
    let mut has_zone_name = false;
    let text = without_comments(text)?;
    // RFC 850 writes `08-Oct-18`; an offset begins with its hyphen.
    let parts = |word: &'_ str| -> Vec<String> {
        let is_date =
            word.starts_with(|c: char| c.is_ascii_digit()) && word.contains(|c: char| c.is_ascii_alphabetic());
        word.split(|c: char| is_date && c == '-').map(str::to_owned).collect()
    };
    for word in text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).flat_map(parts) {
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && word.len() <= 4 {
            let number = word.parse::<i64>().ok()?;
            match (word.len(), day) {
                (4, _) => fill(&mut year, number)?,
                (1 | 2, None) => day = Some(number),
                // RFC 5322, section 4.3: years of two digits are those from 1950 to 2049.
                (2, Some(_)) => fill(&mut year, if number < 50 { 2000 + number } else { 1900 + number })?,
                _ => return None,
            }
        } else if let Some(number) = named(&word, &MONTHS) {
            fill(&mut month, number)?;
        } else if named(&word, &WEEKDAYS).is_some() && !has_weekday {
            has_weekday = true;
        } else if word.contains(':') && word.starts_with(|c: char| c.is_ascii_digit()) {
            let padded = if word.find(':') == Some(1) { format!("0{word}") } else { word };
            let mut rest = Rest(&padded);
            let read = rest.time()?;
            fill(&mut time, read).filter(|()| rest.0.is_empty())?;
        } else if let Some(minutes) = offset_of(&word).or_else(|| american(&word)) {
            // `+0000 UTC`: the second only repeats the first.
            match (offset, has_zone_name) {
                (None, _) => offset = Some(minutes),
                (Some(first), false) if first == minutes => has_zone_name = true,
                (Some(_), _) => return None,
            }
        } else {
            return None;
        }
    }
    let (time, millisecond) = time?;
    at([year?, month?, day?], time, millisecond, offset?)
}

/// Sets a slot that must be empty.
fn fill<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.is_none().then(|| *slot = Some(value))
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// The index of a name, from 1: the whole name, or its first three letters.
fn named(word: &str, names: &[&str]) -> Option<i64> {
    let is_it =
        |name: &&str| word.eq_ignore_ascii_case(name) || name.get(..3).is_some_and(|it| word.eq_ignore_ascii_case(it));
    names.iter().position(is_it).and_then(|place| i64::try_from(place + 1).ok())
}

/// The zones of RFC 5322, section 4.3, in minutes.
fn american(zone: &str) -> Option<i64> {
    let hours = match zone {
        "EDT" => -4,
        "EST" | "CDT" => -5,
        "CST" | "MDT" => -6,
        "MST" | "PDT" => -7,
        "PST" => -8,
        _ => return None,
    };
    Some(hours * 60)
}

/// Removes text in parentheses (RFC 5322, section 3.2.2).
fn without_comments(text: &str) -> Option<String> {
    let mut depth = 0_u32;
    let mut rest = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            c if depth == 0 => rest.push(c),
            _ => {}
        }
    }
    (depth == 0).then_some(rest)
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
    use proptest::sample::select;

    use super::*;

    /// The result of jiff, in whole milliseconds.
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

    #[test]
    fn a_date_is_read_in_every_form_that_leaves_no_doubt() {
        const DATE: i64 = 1_539_007_545_000;
        for (text, expected) in [
            ("2018-10-08T14:05:45Z", Some(0)),
            (" 2018-10-08T14:05:45Z\n", Some(0)),
            ("2018-10-08T14:05:45 +0000", Some(0)),
            ("2018-10-08T16:05:45 +0200", Some(0)),
            ("2018-10-08T14:05:45+0000", Some(0)),
            ("2018-10-08T09:35:45.250-0430", Some(250)),
            ("2018-10-08T14:05:45 +00", Some(0)),
            ("2018-10-08T14:05:45-00:00", Some(0)),
            ("2018-10-08T14:05:45 Z", Some(0)),
            ("2018-10-08T14:05:45 UTC", Some(0)),
            ("2018-10-08T14:05:45UTC", Some(0)),
            ("2018-10-08 14:05:45.000 UTC", Some(0)),
            ("2018-10-08 14:05:45.250 gmt", Some(250)),
            ("2018-10-08 14:05:45Z", Some(0)),
            ("2018-10-08  14:05:45  +0000", Some(0)),
            ("2018-10-08 14:05:45.123456789 +0000 UTC", Some(123)),
            ("2018-10-08 16:05:45 +0200 CEST", Some(0)),
            ("2018-10-08T16:05:45.1+02:00[Europe/Berlin]", Some(100)),
            ("2018-10-08T14:05:45,25Z", Some(250)),
            ("2018-10-08T14:05Z", Some(-45_000)),
            ("2018/10/08 14:05:45 UTC", Some(0)),
            ("20181008T140545Z", Some(0)),
            ("20181008T160545+0200", Some(0)),
            ("Mon, 8 Oct 2018 14:05:45 +0000", Some(0)),
            ("Mon, 08 Oct 2018 14:05:45 +0000 (UTC)", Some(0)),
            ("Mon, 08 Oct 2018 07:05:45 -0700 (PDT (Pacific))", Some(0)),
            ("8 Oct 2018 14:05:45 GMT", Some(0)),
            ("8 Oct 2018 07:05:45 PDT", Some(0)),
            ("8 October 2018 14:05 UT", Some(-45_000)),
            ("Monday, 08-Oct-18 14:05:45 GMT", Some(0)),
            ("Mon Oct  8 14:05:45 UTC 2018", Some(0)),
            ("Mon Oct 08 2018 16:05:45 GMT+0200 (Central European Summer Time)", Some(0)),
            ("08 Oct 2018 9:35:45 -0430", Some(0)),
            ("1539007545", Some(0)),
            ("1539007545.25", Some(250)),
            (" 1539007545000 ", Some(0)),
            ("153900754", None),
            ("15390075450", None),
            ("1539007545000000", None),
            ("0539007545", None),
            ("-1539007545", None),
            ("1539007545.2.5", None),
            ("2018-10-08T14:05:45", None),
            ("2018-10-08 14:05:45", None),
            ("2018-10-08 14:05:45.000 Europe/Berlin", None),
            ("2018-10-08 14:05:45 EST", None),
            ("2018-10-08T14:05:45 +000", None),
            ("2018-10-08T14:05:45 +24", None),
            ("2018-10-08T14:05:45 +0000 +0100", None),
            ("2018-10-08T14:05:45.Z", None),
            ("2018-10-08Z", None),
            ("2018-10/08 14:05:45 UTC", None),
            ("2018-13-08T14:05:45 +0000", None),
            ("08/10/2018 14:05:45 UTC", None),
            ("Mon, 8 Oct 2018 14:05:45", None),
            ("Mon, 8 Oct 2018 +0000", None),
            ("8 Oct 14:05:45 +0000", None),
            ("31 Feb 2018 14:05:45 +0000", None),
            ("8 Oct 2018 14:05:45 +0000 -0100", None),
            ("8 Oct 2018 14:05:45 K", None),
            ("8 Oct Oct 2018 14:05:45 +0000", None),
            ("8 Oct 2018 14:05:45 +0000 (", None),
            ("8 Oct 2018 14:05:45 PM +0000", None),
            ("soon", None),
            ("", None),
            ("２０１８-10-08T14:05:45 +0000", None),
        ] {
            assert_eq!(Timestamp::parse_any(text), expected.map(|it| Timestamp(DATE + it)), "{text}");
        }
        for (number, expected) in [
            (1.0, None),
            (1_539_007_545.0, Some(0)),
            (1_539_007_545.25, Some(250)),
            (1_539_007_545_000.0, Some(0)),
            (f64::NAN, None),
        ] {
            assert_eq!(Timestamp::since_1970(number), expected.map(|it| Timestamp(DATE + it)), "{number}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn the_form_of_a_date_does_not_change_its_meaning(
            second in 0..=4_102_444_800_i64, hours in -12..=14_i64, minutes in select(&[0_i64, 30, 45][..]),
            form in select(&["%Y-%m-%dT%H:%M:%S %z", "%Y-%m-%d %H:%M:%S%:z", "%Y/%m/%d %H:%M:%S %z", "%Y%m%dT%H%M%S%z",
                "%a, %-d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %z (X)", "%A, %d-%b-%Y %H:%M:%S %z",
                "%a %b %e %H:%M:%S %z %Y", "%a %b %d %Y %H:%M:%S GMT%z"][..]),
        ) {
            let offset = jiff::tz::Offset::from_seconds(i32::try_from(hours * 3600 + minutes * 60).unwrap()).unwrap();
            let zoned = jiff::Timestamp::from_second(second).unwrap().to_zoned(offset.to_time_zone());
            let text = zoned.strftime(form).to_string();
            prop_assert_eq!(Timestamp::parse_any(&text), Some(Timestamp(second * 1000)), "{}", text);
        }

        #[test]
        fn no_text_panics(text in "[0-9TZ:.,+ ()\\[\\]-]{0,40}|[A-Za-z]{3}, [0-9]{1,2} [A-Z][a-z]{2} .{0,24}|.{0,40}") {
            let _ = Timestamp::parse_any(&text);
        }

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
