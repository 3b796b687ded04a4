//! What is stored, and where: the two tables and every kind of item in them.
//!
//! **Ledger table**: one item for each unit, so that a unit that is told twice is stored once.
//!
//! | attribute | type | example | |
//! |---|---|---|---|
//! | `unit` | B, 16 bytes | | hash key: a keyed hash of message id, kind and recipient |
//! | `kind` | S | `hard_bounces` | name of its counter |
//! | `isp` | S | `gmail` | |
//! | `cohort` | N | `29854560` | minute in which SES accepted the mail, since 1970 |
//! | `subjects` | L of S | `["configuration-set:news", "identity:example.com"]` | whose reputation it touches |
//! | `expires` | N | `1801641600` | seconds since 1970: [`LEDGER_DAYS`] after the mail |
//!
//! **Reputation table**: hash key `pk`, range key `sk`, both S.
//!
//! | `pk` | `sk` | holds |
//! |---|---|---|
//! | a subject: `configuration-set:news` | `rate#m#0029854560` | rate row of a minute (`h`: hour, `d`: day), named by its first minute: `gmail.sent: 12, gmail.hard_bounces: 1, expires`; a lane beyond the first adds `#1` |
//! | a subject | `breaker#`, `breaker#gmail` | breaker of all ISPs, of one: `state`, `version`, and what it remembers |
//! | a subject | `kin#configuration-set:password-reset` | shares mail with that subject, which the policy protects |
//! | `fold#4421584500000000017450439091#1f0e3d2c` | `marker` | a chunk of the ledger's stream has been added; `last`: its last sequence number |
//! | `board` | `gmail#configuration-set:news`, `#configuration-set:news` | copy of a breaker that is not closed, or is of an ISP itself (`gmail#account`) |
//! | `pauses` | `configuration-set:news` | `at`: when it was paused last; expires after an hour |
//! | `directory` | `configuration-set:news` | `hour`: the last hour (minutes since 1970) in which it was heard of; `expires` |
//! | `control` | `configuration-set:news` | a wish about SES: `wish`, `intent`, `made`, `checked`, `urgency`, `reason`, `version`; `pending` until the enforcer has begun |
//! | `outbox` | `1791273601745#configuration-set:news#000003` | a notice that is not sent yet: `title`, `text`, `kind`, `detail` |
//! | `notices` | the same | every notice, for 400 days |
//! | `policy` | `current`, `version#000012` | `toml`, `version`, `at`, `by` |
//! | `secret` | `unit-keys` | `key` (B, 16 bytes): what unit hashes are keyed with; made by the first ingest |
//! | `clock` | `hour` | `done`: the last hour judged by, `after`: how far within it |
//!
//! All times that end in `at` or stand beside a state are milliseconds since 1970; `expires` is seconds, as DynamoDB's
//! time to live wants it. Readers filter by it, because items that expired may stay for days.

use std::collections::HashMap;
use std::str::FromStr;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use pipeline::enforce::{Flow, Wished};
use pipeline::notice::Notice;
use pipeline::ports::{Disposition, PortError};
use reputation::breaker::{BreakerState, Factor, Hold, State};
use reputation::counters::Metric;
use reputation::isp::{Isp, IspMap};
use reputation::judge::Since;
use reputation::subject::{Key, Subject};
use reputation::time::{MINUTE_MILLIS, Minute, Now};
use reputation::timeline::Length;

/// An item, or a part of one.
pub type Item = HashMap<String, AttributeValue>;

/// How long after the mail a unit is remembered: a duplicate that comes later than this counts again. SES tracks opens
/// and clicks for 60 days, SNS retries for 23 days, a queue keeps for 14.
pub const LEDGER_DAYS: i64 = 100;
/// How long a fold's marker is kept, in days: a stream keeps its records for one.
pub const MARKER_DAYS: i64 = 8;
/// How long somebody who is not heard of any more stays in the directory, in days: as long as hours are kept, and longer.
pub const DIRECTORY_DAYS: i64 = 40;
/// How long notices are kept, in days.
pub const NOTICE_DAYS: i64 = 400;

const DAY_SECS: i64 = 86_400;

/// An item that does not hold what it should: somebody else wrote it, or a version of ours that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("item {item}: attribute `{attribute}` is {found}, should be {expected}")]
pub struct Malformed {
    /// Its keys.
    pub item: String,
    /// The attribute.
    pub attribute: String,
    /// What it is.
    pub found: String,
    /// What it should be.
    pub expected: &'static str,
}

impl From<Malformed> for PortError {
    fn from(error: Malformed) -> PortError {
        PortError {
            operation: "reading the reputation table",
            reason: error.to_string(),
            disposition: Disposition::Halt,
        }
    }
}

/// A string attribute.
pub fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute.
pub fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A binary attribute.
pub fn binary(value: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// Seconds since 1970, so many days after a moment: for `expires`.
pub fn expiry(after: Now, days: i64) -> AttributeValue {
    number(after.0.div_euclid(1000) + days * DAY_SECS)
}

/// Whether an item has expired, though it may still be there.
pub fn has_expired(item: &Item, now: Now) -> bool {
    let expires = item.get("expires").and_then(|value| value.as_n().ok()).and_then(|text| text.parse::<i64>().ok());
    expires.is_some_and(|secs| secs <= now.0.div_euclid(1000))
}

/// The keys of an item of the reputation table.
pub fn keys(pk: impl Into<String>, sk: impl Into<String>) -> Item {
    [("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))].into()
}

/// Reads attributes of one item.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a Item);

impl<'a> Reader<'a> {
    fn name(self) -> String {
        let part = |name: &str| self.0.get(name).and_then(|value| value.as_s().ok()).map_or("?", String::as_str);
        format!("{} / {}", part("pk"), part("sk"))
    }

    fn malformed(self, attribute: &str, expected: &'static str) -> Malformed {
        // Never a whole value: what stands in an item that is not ours is nobody's business.
        let found = match self.0.get(attribute) {
            None => "missing".to_owned(),
            Some(AttributeValue::N(text)) => format!("the number {text}"),
            Some(AttributeValue::S(text)) => format!("a string of {} bytes", text.len()),
            Some(_) => "of another type".to_owned(),
        };
        Malformed { item: self.name(), attribute: attribute.to_owned(), found, expected }
    }

    /// A string.
    ///
    /// # Errors
    ///
    /// It is missing or no string.
    pub fn text(self, attribute: &str) -> Result<&'a str, Malformed> {
        let value = self.0.get(attribute).and_then(|value| value.as_s().ok());
        value.map(String::as_str).ok_or_else(|| self.malformed(attribute, "a string"))
    }

    /// A number.
    ///
    /// # Errors
    ///
    /// It is missing, no number, or out of range.
    pub fn number<T: FromStr>(self, attribute: &str) -> Result<T, Malformed> {
        self.maybe_number(attribute)?.ok_or_else(|| self.malformed(attribute, "a number"))
    }

    /// A number that may be missing.
    ///
    /// # Errors
    ///
    /// It is no number, or out of range.
    pub fn maybe_number<T: FromStr>(self, attribute: &str) -> Result<Option<T>, Malformed> {
        let Some(value) = self.0.get(attribute) else { return Ok(None) };
        let parsed = value.as_n().ok().and_then(|text| text.parse().ok());
        parsed.map(Some).ok_or_else(|| self.malformed(attribute, "a number in range"))
    }

    /// One of a few names, which may be missing.
    fn maybe_named<T>(
        self,
        attribute: &str,
        expected: &'static str,
        named: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Malformed> {
        if !self.0.contains_key(attribute) {
            return Ok(None);
        }
        named(self.text(attribute)?).map(Some).ok_or_else(|| self.malformed(attribute, expected))
    }

    fn flag(self, attribute: &str) -> bool {
        self.0.get(attribute).and_then(|value| value.as_bool().ok()).copied().unwrap_or(false)
    }
}

/// First part of the range keys of rate rows of one length.
pub fn rate_prefix(length: Length) -> &'static str {
    match length {
        Length::Minute => "rate#m#",
        Length::Hour => "rate#h#",
        Length::Day => "rate#d#",
    }
}

/// Range key of a rate row, in the first lane.
pub fn rate_sk(length: Length, from: Minute) -> String {
    format!("{}{:010}", rate_prefix(length), from.0)
}

/// Length and first minute of a rate row; `None` for another item.
pub fn parse_rate_sk(sk: &str) -> Option<(Length, Minute)> {
    let length = Length::ALL.into_iter().find(|length| sk.starts_with(rate_prefix(*length)))?;
    let digits = sk[rate_prefix(length).len()..].split('#').next()?;
    Some((length, Minute(digits.parse().ok()?)))
}

/// Range key of a breaker.
pub fn breaker_sk(isp: Option<Isp>, isps: &IspMap) -> String {
    format!("breaker#{}", isp_name(isp, isps))
}

/// Range key of a breaker's copy on the board.
pub fn board_sk(key: &Key, isps: &IspMap) -> String {
    format!("{}#{}", isp_name(key.isp, isps), key.subject)
}

/// The key that a range key of the board names.
pub fn parse_board_sk(sk: &str, isps: &IspMap) -> Option<Key> {
    let (isp, subject) = sk.split_once('#')?;
    let isp = if isp.is_empty() { None } else { Some(isps.by_name(isp)?) };
    Some(Key { subject: subject.parse().ok()?, isp })
}

fn isp_name(isp: Option<Isp>, isps: &IspMap) -> &str {
    isp.map_or("", |isp| isps.name(isp))
}

/// A breaker's state as attributes.
pub fn breaker_attributes(breaker: &BreakerState) -> Item {
    let mut item: Item = [
        ("state".to_owned(), text(breaker.state.name())),
        ("since_pause".to_owned(), number(breaker.since.pause.0)),
        ("since_throttle".to_owned(), number(breaker.since.throttle.0)),
        ("trips".to_owned(), number(breaker.trips)),
        ("withheld".to_owned(), AttributeValue::Bool(breaker.withheld)),
        ("hold".to_owned(), text(hold_name(breaker.hold))),
        ("enacted".to_owned(), AttributeValue::Bool(breaker.enacted)),
    ]
    .into();
    let mut set = |name: &str, at: Option<Now>| {
        if let Some(at) = at {
            item.insert(name.to_owned(), number(at.0));
        }
    };
    set("tripped", breaker.tripped);
    set("worsened", breaker.worsened);
    for metric in Metric::ALL {
        set(&format!("warned_{}", metric.name()), breaker.warned[metric as usize]);
    }
    match breaker.state {
        State::Closed => {}
        State::Throttled { factor, moved } => {
            set("moved", Some(moved));
            item.insert("factor".to_owned(), number((factor.share() * 1000.0).round()));
        }
        State::Open { at, until } => {
            set("at", Some(at));
            set("until", until);
        }
        State::Probing { at } => set("at", Some(at)),
    }
    if let Some(metric) = breaker.tripped_by {
        item.insert("tripped_by".to_owned(), text(metric.name()));
    }
    item
}

/// The breaker that an item holds.
///
/// # Errors
///
/// Names the attribute that is wrong.
pub fn parse_breaker(item: &Item) -> Result<BreakerState, Malformed> {
    let read = Reader(item);
    let moment = |name: &str| read.maybe_number::<i64>(name).map(|at| at.map(Now));
    let set_moment = |name: &str| read.number::<i64>(name).map(Now);
    let metric = |name: &str| Metric::ALL.into_iter().find(|metric| metric.name() == name);
    let state = match read.text("state")? {
        "closed" => State::Closed,
        "throttled" => {
            let factor = Factor::of_share(read.number::<f64>("factor")? / 1000.0);
            State::Throttled { factor, moved: set_moment("moved")? }
        }
        "open" => State::Open { at: set_moment("at")?, until: moment("until")? },
        "probing" => State::Probing { at: set_moment("at")? },
        _ => return Err(read.malformed("state", "`closed`, `throttled`, `open` or `probing`")),
    };
    let mut warned = [None; Metric::ALL.len()];
    for metric in Metric::ALL {
        warned[metric as usize] = moment(&format!("warned_{}", metric.name()))?;
    }
    Ok(BreakerState {
        state,
        since: Since { pause: Minute(read.number("since_pause")?), throttle: Minute(read.number("since_throttle")?) },
        trips: read.number("trips")?,
        tripped: moment("tripped")?,
        tripped_by: read.maybe_named("tripped_by", "the name of a metric", metric)?,
        worsened: moment("worsened")?,
        warned,
        withheld: read.flag("withheld"),
        hold: read.maybe_named("hold", "`none`, `open` or `closed`", parse_hold)?.unwrap_or_default(),
        enacted: read.flag("enacted"),
    })
}

fn hold_name(hold: Hold) -> &'static str {
    match hold {
        Hold::None => "none",
        Hold::Open => "open",
        Hold::Closed => "closed",
    }
}

fn parse_hold(name: &str) -> Option<Hold> {
    [Hold::None, Hold::Open, Hold::Closed].into_iter().find(|hold| hold_name(*hold) == name)
}

/// Name of a flow, as stored.
pub fn flow_name(flow: Flow) -> &'static str {
    match flow {
        Flow::Flowing => "flowing",
        Flow::Stopped => "stopped",
    }
}

fn parse_flow(name: &str) -> Option<Flow> {
    [Flow::Flowing, Flow::Stopped].into_iter().find(|flow| flow_name(*flow) == name)
}

/// The wish that an item of `control` holds.
///
/// # Errors
///
/// Names the attribute that is wrong.
pub fn parse_wish(item: &Item) -> Result<Wished, Malformed> {
    let read = Reader(item);
    let flow = |name: &str| read.maybe_named(name, "`flowing` or `stopped`", parse_flow);
    let target = read.text("sk")?.parse().map_err(|_| read.malformed("sk", "a subject"))?;
    Ok(Wished {
        target,
        wish: flow("wish")?.ok_or_else(|| read.malformed("wish", "`flowing` or `stopped`"))?,
        at: Now(read.number("at")?),
        urgency: read.number("urgency")?,
        reason: read.text("reason")?.to_owned(),
        intent: flow("intent")?,
        made: flow("made")?,
        checked: read.maybe_number::<i64>("checked")?.map(Now),
        version: read.number("version")?,
    })
}

/// A notice as an item of `outbox` or `notices`.
pub fn notice_item(pk: &str, notice: &Notice, now: Now) -> Item {
    let mut item = keys(pk, notice.id.as_str());
    for (name, value) in [("title", &notice.title), ("text", &notice.text), ("detail", &notice.detail)] {
        item.insert(name.to_owned(), text(value.as_str()));
    }
    item.insert("kind".to_owned(), text(notice.kind));
    item.insert("expires".to_owned(), expiry(now, NOTICE_DAYS));
    item
}

/// The notice that an item holds.
///
/// # Errors
///
/// Names the attribute that is wrong.
pub fn parse_notice(item: &Item) -> Result<Notice, Malformed> {
    let read = Reader(item);
    let kind = read.text("kind")?;
    Ok(Notice {
        id: read.text("sk")?.to_owned(),
        title: read.text("title")?.to_owned(),
        text: read.text("text")?.to_owned(),
        kind: Notice::KINDS
            .into_iter()
            .find(|known| *known == kind)
            .ok_or_else(|| read.malformed("kind", "a known kind"))?,
        detail: read.text("detail")?.to_owned(),
    })
}

/// When a rate row expires.
pub fn rate_expiry(length: Length, from: Minute) -> AttributeValue {
    let start = Now(i64::from(from.0) * MINUTE_MILLIS);
    // A cohort is kept as long after its end as the rows of its length are.
    expiry(start.plus_minutes(length.kept()), 2)
}

/// Counters in a rate row, by attribute name; what is no counter is left out.
pub fn counters<'a>(item: &'a Item, isps: &'a IspMap) -> impl Iterator<Item = (Isp, reputation::UnitKind, u32)> + 'a {
    item.iter().filter_map(|(name, value)| {
        let (isp, kind) = name.rsplit_once('.')?;
        let kind = reputation::UnitKind::by_counter_name(kind)?;
        // An ISP that the policy no longer names: its mail still counts.
        let isp = isps.by_name(isp).unwrap_or(Isp::OTHER);
        Some((isp, kind, value.as_n().ok()?.parse().ok()?))
    })
}

/// Subjects in a list attribute.
pub fn subjects_attribute(subjects: &[Subject]) -> AttributeValue {
    AttributeValue::L(subjects.iter().map(|subject| text(subject.to_string())).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_breaker() -> impl Strategy<Value = BreakerState> {
        let moment = || proptest::option::of((0_i64..4_000_000_000_000).prop_map(Now));
        let state = prop_oneof![
            Just(State::Closed),
            (0_u32..=1000, 0_i64..4_000_000_000_000).prop_map(|(factor, moved)| State::Throttled {
                factor: Factor::of_share(f64::from(factor) / 1000.0),
                moved: Now(moved)
            }),
            (0_i64..4_000_000_000_000, moment()).prop_map(|(at, until)| State::Open { at: Now(at), until }),
            (0_i64..4_000_000_000_000).prop_map(|at| State::Probing { at: Now(at) }),
        ];
        let holds = [Hold::None, Hold::Open, Hold::Closed];
        let since = (any::<u32>(), any::<u32>());
        (state, since, any::<u32>(), moment(), moment(), proptest::option::of(0_usize..4), 0_usize..3, any::<bool>())
            .prop_map(move |(state, since, trips, tripped, worsened, metric, hold, withheld)| BreakerState {
                state,
                since: Since { pause: Minute(since.0), throttle: Minute(since.1) },
                trips,
                tripped,
                tripped_by: metric.map(|metric| Metric::ALL[metric]),
                worsened,
                warned: [tripped, None, worsened, None],
                withheld,
                hold: holds[hold],
                enacted: !withheld,
            })
    }

    proptest! {
        #[test]
        fn a_breaker_is_read_as_it_was_written(breaker in any_breaker()) {
            prop_assert_eq!(parse_breaker(&breaker_attributes(&breaker)), Ok(breaker));
        }
    }

    #[test]
    fn a_wrong_attribute_is_named_without_its_text() {
        let mut item = keys("configuration-set:news", "breaker#");
        item.extend(breaker_attributes(&BreakerState::default()));
        item.insert("state".to_owned(), text("half-open"));
        insta::assert_snapshot!(
            parse_breaker(&item).unwrap_err().to_string(),
            @"item configuration-set:news / breaker#: attribute `state` is a string of 9 bytes, should be `closed`, `throttled`, `open` or `probing`"
        );
        item.insert("state".to_owned(), text("probing"));
        insta::assert_snapshot!(
            parse_breaker(&item).unwrap_err().to_string(),
            @"item configuration-set:news / breaker#: attribute `at` is missing, should be a number"
        );
    }

    #[test]
    fn range_keys_are_read_as_they_are_written_and_sort_by_time() {
        for length in Length::ALL {
            let sk = rate_sk(length, Minute(29_854_560));
            assert_eq!(parse_rate_sk(&sk), Some((length, Minute(29_854_560))));
            assert_eq!(parse_rate_sk(&format!("{sk}#3")), Some((length, Minute(29_854_560))));
            assert!(rate_sk(length, Minute(9)) < rate_sk(length, Minute(10)));
            // Whatever else a subject's partition holds sorts before its rates.
            assert!("breaker#" < "rate#" && "kin#" < "rate#");
        }
        let isps = IspMap::builtin();
        for isp in [None, isps.by_name("web.de"), Some(Isp::OTHER)] {
            let key = Key { subject: "tag:a#b=c#d".parse().unwrap(), isp };
            assert_eq!(parse_board_sk(&board_sk(&key, &isps), &isps), Some(key));
        }
    }
}
