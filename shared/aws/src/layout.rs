//! What is stored, and where: the two tables and every kind of item in them.
//!
//! **Ledger table**: one item for each unit, so that a unit that is published twice is stored once.
//!
//! | attribute | type | example | |
//! |---|---|---|---|
//! | `unit` | B, 16 bytes | | hash key: a keyed hash of message id, kind and recipient |
//! | `kind` | S | `hard_bounces` | name of its counter |
//! | `isp` | S | `gmail` | |
//! | `cohort` | N | `29854560` | minute in which SES accepted the mail, since 1970 |
//! | `subjects` | L of S | `["configuration-set:news", "identity:example.com"]` | whose reputation it touches |
//! | `bucket` | N | `17` | of a hard bounce at a business domain 6 bits of a keyed hash of the domain, of a complaint of the address ([`mod@reputation::grouped`]); missing elsewhere, and where an earlier release wrote it |
//! | `expires` | N | `1801641600` | seconds since 1970: [`LEDGER_DAYS`] after the mail |
//!
//! **Reputation table**: hash key `pk`, range key `sk`, both S.
//!
//! | `pk` | `sk` | holds |
//! |---|---|---|
//! | a subject: `configuration-set:news` | `rate#m#0029854560` | rate row of a minute (`h`: hour, `d`: day), named by its first minute: `other.sent: 12, other.hard_bounces: 3, expires`; of these bounces `other.at_domains: 2` (N) are at business domains, in the buckets `other.domains` (NS, a set that grows by `ADD`), both missing without any; likewise `yahoo.by_people` and `yahoo.people` of complaints; a lane beyond the first adds `#1` |
//! | a subject | `breaker#`, `breaker#gmail` | breaker of all ISPs, of one: `state`, `version`, and what it remembers; `tested` if it is open because the mail of a test is sent |
//! | a subject | `heard#gmx` | a complaint has come from that ISP, which is not known to return any: from then on its mail has a complaint rate. Never expires |
//! | a subject | `kin#configuration-set:password-reset` | shares mail with that subject, which the policy protects |
//! | a subject | `kin` | `subjects` (string set): others that share mail with it, see [`pipeline::ports::SubjectState::shares_mail_with`]; `expires` |
//! | `fold#shardId-00000001791273601745-5c02a1f3` | `mark` | how far a shard of the ledger's stream has been added; `last`: the sequence number of the last record; `done`, `after`: how far judging took a batch, if one invocation was not enough |
//! | `board` | `gmail#configuration-set:news`, `#configuration-set:news` | copy of a breaker that is not closed, is in shadow, or is of an ISP itself (`gmail#account`) |
//! | `pauses` | `place#3#2` | the place with number 2 among those for harm of 10³ clean mails and more, and who holds it: `subject`, `at`, `harm`; expires after an hour. Earlier releases named these items after the subject; they are passed over |
//! | `directory` | `configuration-set:news` | `hour`: the last hour (minutes since 1970) in which it was heard of; `expires` |
//! | `control` | `configuration-set:news` | a desired state at SES: `wish` (its `flow`), `at`, `urgency`, `reason`, `version`; `pending` until the enforcer has noted something; and what it notes, each of which may be missing: see below |
//! | `outbox` | `1791273601745#configuration-set:news#000003` | a notice that is not sent yet: `title`, `text`, `kind`, `detail` |
//! | `notices` | the same | every notice, for 400 days |
//! | `desk` | `people` | `content`: messages to people that are not sent yet, and what was sent about each breaker (JSON of [`pipeline::notice::AlertQueue`]); `version` |
//! | `stack` | `enforcer` | the stack's parameters: whether its enforcer may stop the `account` and `tenants` at SES, whether the `gate` is in use, and the release of its functions (`version`); written when an enforcer starts |
//! | `policy` | `current`, `version#000012` | `toml`, `version`, `at`, `by` |
//! | `secret` | `unit-keys` | `key` (B, 16 bytes): what unit hashes are keyed with; made by the first ingest |
//! | `clock` | `hour`, `rejudge` | `done`: the last round of judging, each hour and every ten minutes (its first minute, since 1970), `after`: the last subject judged in it, if it is not complete |
//! | `clock` | `export` | `last`: the last period of which metrics were exported (its first minute, since 1970) |
//! | `quota#news`: a configuration set | `gmail` | its quota there; see below. Never expires: it is where the ramp stands |
//!
//! **A quota** holds both where the ramp stands and what was granted of today's mails, so that a grant is one conditional
//! write:
//!
//! | attribute | type | example | |
//! |---|---|---|---|
//! | `day` | N | `20778` | the day that it is for, in days since 1970 |
//! | `quota`, `reach` | N | `500` | mails of that day; the volume that the ISP has shown it takes |
//! | `step` | S | `grew 250` | why it is that, with the numbers that belong to it |
//! | `anchor` | BOOL | `false` | whether the ramp began that day |
//! | `sending_days`, `idle_days` | N | `12` | days with mail since it began, days without since the last with |
//! | `peak`, `peak_age` | N | `480` | the most mail that was sent on one day of late, and how many days ago; missing where an earlier release wrote it |
//! | `borne` | N | `13` | the longest silence, in days, that the ISP has borne; as above |
//! | `growth` | N | `1400` | what a good day multiplies the quota by, in thousandths, as learnt; missing while nothing is |
//! | `ceiling`, `ceiling_age` | N | `410` | what the ISP took when it last turned too much away, and how many days ago; 0 = never, and as above |
//! | `low_days`, `low_peak` | N | `0` | for earlier releases, which read them |
//! | `demoted` | N | `1791273601745` | the harm that a smaller quota has answered for; may be missing |
//! | `bulk`, `critical` | N | `120` | mails granted of what is there for everybody, and of the reserve |
//! | `short` | BOOL | `true` | whether the last request that got something got all there was, and asked for more; as above |
//! | `mark` | N | `1791273601745000000` | the pacing mark, in nanoseconds since 1970 |
//! | `~AKtUqYzr` | B | 15 bytes | a lease, under the name of its request: see [`lease_value`] |
//! | `returned` | S | `5f0c1d2e3b4a5968` | names the last return of a lease, for a client that lost the answer |
//!
//! **A desired state** holds what the enforcer knows of its target (see [`pipeline::ports::DesiredState`]):
//!
//! | attribute | type | example | |
//! |---|---|---|---|
//! | `intent`, `made` | S | `stopped` | the change that we were about to make (`in_flight`); the state that we last made or observed (`observed`) |
//! | `marking` | S | `stopped` | our mark is still to be left, or taken away (`flowing`) |
//! | `written`, `checked`, `again` | N | `1791273601745` | when we last wrote to SES, and asked it; it is not looked at before `again` |
//! | `doubted`, `doubted_at` | S, N | `gone` | what was seen against `made` and is not believed yet (`flowing`, `stopped`, `gone`), and since when |
//! | `gone` | N | `1791273601745` | since when SES does not know the target |
//! | `other`, `other_at` | S, N | `ses-breaker-test` | the stack whose stop it is, and since when that is known |
//! | `failures`, `error` | N, S | `3` | how many calls failed in a row, and what the last one said |
//! | `denied` | N | `1791273601745` | when SES first denied one of them |
//!
//! All times that end in `at` or stand beside a state are milliseconds since 1970; `expires` is seconds, as DynamoDB's
//! time to live wants it. Readers filter by it, because items that expired may stay for days.
//!
//! Items are read and written by hand, not by serde: an error must name the attribute and never show its value
//! (`shared/aws/DESIGN.md`). `tests/tests/stack/stored.rs` fixes the form of each kind.

use std::collections::HashMap;
use std::str::FromStr;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::base64;
use integer_encoding::VarInt;
use pipeline::control::Flow;
use pipeline::notice::Notice;
use pipeline::ports::{
    DesiredState, Disposition, Doubt, FailedCalls, OtherStack, PortError, Quota, Seen, Sweep, SweepProgress,
};
use pipeline::stream::{Sequence, Shard};
use reputation::breaker::{BreakerState, Factor, Override, State, StateName};
use reputation::budget::{Harm, Magnitude, Pause, Place};
use reputation::counters::Metric;
use reputation::grouped::{Bucket, Buckets, Grouped};
use reputation::isp::{Isp, IspMap};
use reputation::judge::ArmedSince;
use reputation::permit::{Lease, LeaseId, Meter, Nanos, Schedule};
use reputation::subject::{Key, Subject};
use reputation::time::{HOUR, MINUTE_MILLIS, Minute, Now};
use reputation::timeline::Length;
use reputation::unit::UnitKind;
use reputation::warmup::{Growth, Held, Move, Ramp};

/// An item, or a part of one.
pub type Item = HashMap<String, AttributeValue>;

/// How long after the mail a unit is remembered: a duplicate that comes later than this counts again. SES tracks opens
/// and clicks for 60 days, SNS retries for 23 days, a queue keeps for 14.
pub const LEDGER_DAYS: i64 = 100;
/// How long a shard's mark is kept after it last moved, in days: a stream keeps its records for one, so that no record
/// before the mark can come again by then.
pub const MARK_DAYS: i64 = 8;
/// How long a subject without new mail stays in the directory, in days: as long as hours are kept, and longer.
pub const DIRECTORY_DAYS: i64 = 40;
/// How long notices are kept, in days.
pub const NOTICE_DAYS: i64 = 400;

const DAY_SECS: i64 = 86_400;

/// An item that does not hold what it should: written by something else, or by a release that this one cannot read.
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

/// `days` after a moment, in seconds since 1970: for `expires`.
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

    /// What is wrong with an attribute.
    pub(crate) fn malformed(self, attribute: &str, expected: &'static str) -> Malformed {
        // Never a whole value: an item that is not ours may hold private data.
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
    /// It is not a number, or out of range.
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

/// Parameters of the stack that its operator has to know, as the enforcer has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackParameters {
    /// Whether the enforcer may stop the account at SES: parameter `MayPauseAccount`.
    pub account: bool,
    /// Whether it may stop tenants: parameter `Tenants`.
    pub tenants: bool,
    /// Whether an application asks the gate: parameter `GateInUse`. `None`: noted by a release that did not note it.
    pub gate: Option<bool>,
    /// The release of the functions. `None`: noted by a release that did not note it.
    pub version: Option<String>,
}

/// The keys of the stack's parameters.
pub fn parameters_keys() -> Item {
    keys("stack", "enforcer")
}

/// The stack's parameters as they are stored.
pub fn parameters_item(parameters: StackParameters) -> Item {
    let StackParameters { account, tenants, gate, version } = parameters;
    let flags = [("account", Some(account)), ("tenants", Some(tenants)), ("gate", gate)];
    let flags = flags.into_iter().filter_map(|(name, flag)| Some((name.to_owned(), AttributeValue::Bool(flag?))));
    let version = version.map(|version| ("version".to_owned(), AttributeValue::S(version)));
    parameters_keys().into_iter().chain(flags).chain(version).collect()
}

/// The stack's parameters; `None` if no enforcer has noted them yet.
pub fn parse_parameters(item: &Item) -> Option<StackParameters> {
    let read = Reader(item);
    let gate = item.contains_key("gate").then(|| read.flag("gate"));
    let version = read.text("version").ok().map(str::to_owned);
    let (account, tenants) = (read.flag("account"), read.flag("tenants"));
    (!item.is_empty()).then_some(StackParameters { account, tenants, gate, version })
}

/// The keys of a shard's mark.
pub fn mark_keys(shard: &Shard) -> Item {
    keys(format!("fold#{}", shard.as_str()), "mark")
}

/// The mark that an item holds; `None` if there is none.
///
/// # Errors
///
/// It is not a sequence number.
pub fn parse_mark(item: &Item) -> Result<Option<Sequence>, Malformed> {
    let read = Reader(item);
    if !item.contains_key("last") {
        return Ok(None);
    }
    // A hand may have written it as a number.
    let written = item.get("last").and_then(|last| last.as_n().ok()).map(String::as_str);
    let mark = written.map_or_else(|| read.text("last"), Ok)?.parse();
    mark.map(Some).map_err(|_| read.malformed("last", "a sequence number"))
}

/// The keys of the item that holds how far a round has come.
pub fn progress_keys(round: Sweep<'_>) -> Item {
    match round {
        Sweep::Hour => keys("clock", "hour"),
        Sweep::Rejudge => keys("clock", "rejudge"),
        Sweep::Batch(shard) => mark_keys(shard),
    }
}

/// The keys of the item that says of which period metrics were exported last.
pub fn export_keys() -> Item {
    keys("clock", "export")
}

/// The progress that an item holds; none if there is none.
///
/// # Errors
///
/// Names the attribute that is wrong.
pub fn parse_progress(item: &Item) -> Result<SweepProgress, Malformed> {
    let read = Reader(item);
    let number = match item.get("done") {
        None => return Ok(SweepProgress::default()),
        // As releases before wrote it.
        Some(AttributeValue::N(_)) => read.number::<u64>("done")?.into(),
        Some(_) => read.text("done")?.parse().map_err(|_| read.malformed("done", "a number"))?,
    };
    let after = read.maybe_named("after", "a subject", |name| name.parse().ok())?;
    Ok(SweepProgress { number, after })
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
        ("state".to_owned(), text(breaker.state.name().name())),
        ("since_pause".to_owned(), number(breaker.since.pause.0)),
        ("since_throttle".to_owned(), number(breaker.since.throttle.0)),
        ("trips".to_owned(), number(breaker.trips)),
        ("withheld".to_owned(), AttributeValue::Bool(breaker.withheld)),
        ("hold".to_owned(), text(breaker.overridden.name())),
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
    set("troubled", breaker.troubled);
    for metric in Metric::ALL {
        set(&format!("warned_{}", metric.name()), breaker.warned[metric as usize]);
    }
    match breaker.state {
        State::Closed => {}
        State::Throttled { factor, moved } => {
            set("moved", Some(moved));
            item.insert("factor".to_owned(), number((factor.share() * 1000.0).round()));
        }
        State::Open { at, until, tested } => {
            set("at", Some(at));
            set("until", until);
            if tested {
                item.insert("tested".to_owned(), AttributeValue::Bool(true));
            }
        }
        State::Probing { at } => set("at", Some(at)),
    }
    if let Some(rate) = breaker.tripped_rate {
        item.insert("tripped_rate".to_owned(), number(rate));
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
    let name = read.text("state")?.parse().unwrap_or(StateName::Unknown);
    let state = match name {
        StateName::Closed => State::Closed,
        StateName::Throttled => {
            let factor = Factor::of_share(read.number::<f64>("factor")? / 1000.0);
            State::Throttled { factor, moved: set_moment("moved")? }
        }
        StateName::Open => {
            State::Open { at: set_moment("at")?, until: moment("until")?, tested: item.contains_key("tested") }
        }
        StateName::Probing => State::Probing { at: set_moment("at")? },
        StateName::InTrouble | StateName::Unknown => {
            return Err(read.malformed("state", "`closed`, `throttled`, `open` or `probing`"));
        }
    };
    let mut warned = [None; Metric::ALL.len()];
    for metric in Metric::ALL {
        warned[metric as usize] = moment(&format!("warned_{}", metric.name()))?;
    }
    Ok(BreakerState {
        state,
        since: ArmedSince {
            pause: Minute(read.number("since_pause")?),
            throttle: Minute(read.number("since_throttle")?),
        },
        trips: read.number("trips")?,
        tripped: moment("tripped")?,
        tripped_by: read.maybe_named("tripped_by", "the name of a metric", metric)?,
        tripped_rate: read.maybe_number("tripped_rate")?,
        worsened: moment("worsened")?,
        troubled: moment("troubled")?,
        warned,
        withheld: read.flag("withheld"),
        overridden: read
            .maybe_named("hold", "`none`, `open`, `closed` or `shadow`", parse_override)?
            .unwrap_or_default(),
        enacted: read.flag("enacted"),
    })
}

fn parse_override(name: &str) -> Option<Override> {
    Override::ALL.into_iter().find(|one| one.name() == name)
}

/// The keys of a place in the budget of pauses.
pub fn place_keys(place: Place) -> Item {
    keys("pauses", format!("place#{}#{}", place.magnitude.power(), place.number))
}

/// The place that a range key in `pauses` names; `None` for an item of an earlier release.
pub fn parse_place_sk(sk: &str) -> Option<Place> {
    let (power, number) = sk.strip_prefix("place#")?.split_once('#')?;
    Some(Place { magnitude: Magnitude::of_power(power.parse().ok()?), number: number.parse().ok()? })
}

/// A place in the budget of pauses that is held, as an item of `pauses`.
pub fn pause_item(place: Place, pause: &Pause) -> Item {
    let mut item = place_keys(place);
    item.insert("subject".to_owned(), text(pause.set.to_string()));
    item.insert("at".to_owned(), number(pause.at.0));
    item.insert("harm".to_owned(), number(pause.harm.0));
    item.insert("expires".to_owned(), number(pause.at.0.div_euclid(1000) + i64::from(HOUR) * 60));
    item
}

/// The pause that an item of `pauses` holds.
///
/// # Errors
///
/// Names the attribute that is wrong.
pub fn parse_pause(item: &Item) -> Result<Pause, Malformed> {
    let read = Reader(item);
    let set = read.text("subject")?.parse().map_err(|_| read.malformed("subject", "a subject"))?;
    Ok(Pause { set, at: Now(read.number("at")?), harm: Harm(read.number("harm")?) })
}

/// A unit as the ledger remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredUnit {
    /// What it says.
    pub kind: UnitKind,
    /// Name of the ISP.
    pub isp: String,
    /// When SES accepted the mail.
    pub cohort: Minute,
    /// Whose reputation it touches.
    pub subjects: Vec<Subject>,
    /// The bucket of its cause, of a hard bounce at a business domain or a complaint.
    pub bucket: Option<Bucket>,
}

/// The unit that an item of the ledger holds; its key, which is a hash, aside.
///
/// # Errors
///
/// Names the attribute that is wrong.
pub fn parse_unit(item: &Item) -> Result<StoredUnit, Malformed> {
    let read = Reader(item);
    let kind = UnitKind::by_counter_name(read.text("kind")?);
    let subject = |value: &AttributeValue| value.as_s().ok().and_then(|text| text.parse().ok());
    let list = item.get("subjects").and_then(|value| value.as_l().ok());
    let subjects: Option<Vec<Subject>> = list.and_then(|list| list.iter().map(subject).collect());
    Ok(StoredUnit {
        kind: kind.ok_or_else(|| read.malformed("kind", "the name of a counter"))?,
        isp: read.text("isp")?.to_owned(),
        cohort: Minute(read.number("cohort")?),
        subjects: subjects
            .filter(|subjects| !subjects.is_empty())
            .ok_or_else(|| read.malformed("subjects", "a list of subjects"))?,
        bucket: item.get("bucket").and_then(|value| value.as_n().ok()).and_then(|digits| bucket(digits)),
    })
}

fn bucket(digits: &str) -> Option<Bucket> {
    Bucket::new(digits.parse().ok()?)
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

/// The desired state that an item of `control` holds.
///
/// # Errors
///
/// Names the attribute that is wrong.
pub fn parse_desired_state(item: &Item) -> Result<DesiredState, Malformed> {
    let read = Reader(item);
    let flow = |name: &str| read.maybe_named(name, "`flowing` or `stopped`", parse_flow);
    let moment = |name: &str| read.maybe_number::<i64>(name).map(|at| at.map(Now));
    let words = |name: &str| item.contains_key(name).then(|| read.text(name).map(str::to_owned)).transpose();
    let target: Subject = read.text("sk")?.parse().map_err(|_| read.malformed("sk", "a subject"))?;
    let desired = flow("wish")?.ok_or_else(|| read.malformed("wish", "`flowing` or `stopped`"))?;
    let (at, reason) = (Now(read.number("at")?), read.text("reason")?.to_owned());
    let doubted = read.maybe_named("doubted", "`flowing`, `stopped` or `gone`", parse_seen)?;
    let doubt = doubted.zip(moment("doubted_at")?).map(|(seen, since)| Doubt { seen, since });
    let other = words("other")?.zip(moment("other_at")?).map(|(stack, since)| OtherStack { stack, since });
    let (failures, denied, error) = (read.maybe_number("failures")?, moment("denied")?, words("error")?);
    let trouble = failures.zip(error).map(|(failures, error)| FailedCalls { failures, denied, error });
    Ok(DesiredState {
        fresh: read.flag("pending"),
        in_flight: flow("intent")?,
        observed: flow("made")?,
        written: moment("written")?,
        marking: flow("marking")?,
        checked: moment("checked")?,
        doubt,
        gone: moment("gone")?,
        other,
        trouble,
        again: moment("again")?,
        version: read.number("version")?,
        ..DesiredState::new(target, desired, at, read.number("urgency")?, reason)
    })
}

/// What the enforcer notes about a desired state, as attributes; `None` removes one.
pub fn noted_attributes(desired: &DesiredState) -> [(&'static str, Option<AttributeValue>); 14] {
    let flow = |flow: Option<Flow>| flow.map(|flow| text(flow_name(flow)));
    let moment = |at: Option<Now>| at.map(|at| number(at.0));
    let (doubt, other, trouble) = (desired.doubt, desired.other.as_ref(), desired.trouble.as_ref());
    [
        ("intent", flow(desired.in_flight)),
        ("made", flow(desired.observed)),
        ("written", moment(desired.written)),
        ("marking", flow(desired.marking)),
        ("checked", moment(desired.checked)),
        ("again", moment(desired.again)),
        ("doubted", doubt.map(|doubt| text(seen_name(doubt.seen)))),
        ("doubted_at", moment(doubt.map(|doubt| doubt.since))),
        ("gone", moment(desired.gone)),
        ("other", other.map(|other| text(other.stack.as_str()))),
        ("other_at", moment(other.map(|other| other.since))),
        ("failures", trouble.map(|trouble| number(trouble.failures))),
        ("denied", moment(trouble.and_then(|trouble| trouble.denied))),
        ("error", trouble.map(|trouble| text(trouble.error.as_str()))),
    ]
}

/// Name of what was seen, as stored.
pub fn seen_name(seen: Seen) -> &'static str {
    match seen {
        Seen::Flowing => "flowing",
        Seen::Stopped => "stopped",
        Seen::Gone => "gone",
    }
}

fn parse_seen(name: &str) -> Option<Seen> {
    [Seen::Flowing, Seen::Stopped, Seen::Gone].into_iter().find(|seen| seen_name(*seen) == name)
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

/// Hash key of the quotas of a configuration set.
pub fn quota_pk(set: &str) -> String {
    format!("quota#{set}")
}

/// A quota as an item.
pub fn quota_item(pk: impl Into<String>, isp: &str, quota: &Quota) -> Item {
    let Quota { ramp, meter, leases } = quota;
    let mut item = keys(pk, isp);
    let ramp_attributes = ramp_attributes(ramp);
    item.extend(ramp_attributes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    item.extend(
        [
            ("day", number(ramp.day)),
            // For earlier releases, which read them.
            ("low_days", number(0)),
            ("low_peak", number(0)),
            ("bulk", number(meter.bulk)),
            ("critical", number(meter.critical)),
            ("short", AttributeValue::Bool(meter.short)),
            ("mark", number(meter.mark.0)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    item.extend(leases.iter().map(|lease| (lease_attribute(lease.id), lease_value(lease, ramp.day))));
    item
}

/// The attributes of a ramp, but for its day. `None`: it is missing.
pub fn ramp_attributes(ramp: &Ramp) -> [(&'static str, Option<AttributeValue>); 13] {
    [
        ("quota", Some(number(ramp.quota))),
        ("reach", Some(number(ramp.reach))),
        ("step", Some(text(step_text(&ramp.step)))),
        ("anchor", Some(AttributeValue::Bool(ramp.anchor))),
        ("sending_days", Some(number(ramp.sending_days))),
        ("idle_days", Some(number(ramp.idle_days))),
        ("peak", Some(number(ramp.peak))),
        ("peak_age", Some(number(ramp.peak_age))),
        ("borne", Some(number(ramp.borne))),
        ("ceiling", Some(number(ramp.ceiling))),
        ("ceiling_age", Some(number(ramp.ceiling_age))),
        ("growth", ramp.growth.map(|growth| number(growth.0))),
        ("demoted", ramp.demoted.map(|at| number(at.0))),
    ]
}

/// The quota that an item holds; its leases in the order of their names.
///
/// # Errors
///
/// Names the attribute that is wrong.
pub fn parse_quota(item: &Item) -> Result<Quota, Malformed> {
    let read = Reader(item);
    let ramp = Ramp {
        day: read.number("day")?,
        quota: read.number("quota")?,
        reach: read.number("reach")?,
        step: parse_step(read.text("step")?).ok_or_else(|| read.malformed("step", "what became of a quota"))?,
        anchor: read.flag("anchor"),
        sending_days: read.number("sending_days")?,
        idle_days: read.number("idle_days")?,
        // Of a ramp that an earlier release wrote, the quota stands for what was sent.
        peak: read.maybe_number("peak")?.map_or_else(|| read.number("reach"), Ok)?,
        peak_age: read.maybe_number("peak_age")?.unwrap_or(0),
        borne: read.maybe_number("borne")?.unwrap_or(0),
        growth: read.maybe_number("growth")?.map(Growth),
        ceiling: read.maybe_number("ceiling")?.unwrap_or(0),
        ceiling_age: read.maybe_number("ceiling_age")?.unwrap_or(0),
        demoted: read.maybe_number("demoted")?.map(Now),
    };
    let meter = Meter {
        bulk: read.number("bulk")?,
        critical: read.number("critical")?,
        short: read.flag("short"),
        mark: Nanos(read.number("mark")?),
    };
    let mut leases = Vec::new();
    for (attribute, value) in item {
        let Some(name) = attribute.strip_prefix(LEASE) else { continue };
        let lease = value.as_b().ok().and_then(|value| parse_lease(name, ramp.day, value.as_ref()));
        leases.push(lease.ok_or_else(|| read.malformed(attribute, "a lease"))?);
    }
    leases.sort_by_key(|lease| lease.id);
    Ok(Quota { ramp, meter, leases })
}

const LEASE: char = '~';

/// Name of the attribute of a lease: the part of its id that is of the request's name, so that a name is granted once,
/// whatever is asked for under it. An item may hold a hundred leases, and each write costs by the size of the item: so the
/// name is short, and the value binary.
pub fn lease_attribute(id: LeaseId) -> String {
    let [name @ .., _, _] = id.0.to_be_bytes();
    format!("{LEASE}{}", base64::encode(name))
}

/// A lease without the part of its id that is its attribute's name, in the item of a day: two leases of one name are the same
/// one if this is the same.
///
/// The other two bytes of its id; then variable-length integers (those of Protocol Buffers), the signed ones in zigzag form:
/// flags (1 for critical mails, 2 for a day, 4 for a schedule), bulk mails, critical mails if there are any, nanoseconds by
/// which each bulk mail moved the mark, the end in milliseconds from the beginning of its day in UTC, its day if that is not
/// the item's; and of a schedule the mark before it in nanoseconds from the end, its mails, those of a slot, and when it was
/// granted in milliseconds from the end.
pub fn lease_value(lease: &Lease, item_day: i32) -> AttributeValue {
    let Lease { id, bulk, critical, interval, expires, day, schedule } = lease;
    let other_day = *day != item_day;
    let flags = u64::from(*critical > 0) * CRITICAL
        + u64::from(other_day) * OTHER_DAY
        + u64::from(schedule.is_some()) * SCHEDULED;
    let [.., a, b] = id.0.to_be_bytes();
    let mut value = vec![a, b];
    value.extend(flags.encode_var_vec());
    value.extend(bulk.encode_var_vec());
    if *critical > 0 {
        value.extend(critical.encode_var_vec());
    }
    value.extend(interval.encode_var_vec());
    value.extend(expires.0.wrapping_sub(midnight(*day)).encode_var_vec());
    if other_day {
        value.extend(day.encode_var_vec());
    }
    if let Some(Schedule { from, mails, slot, granted }) = schedule {
        value.extend(from.0.wrapping_sub(nanos(*expires)).encode_var_vec());
        value.extend(mails.encode_var_vec());
        value.extend(slot.encode_var_vec());
        value.extend(granted.0.wrapping_sub(expires.0).encode_var_vec());
    }
    binary(value)
}

const CRITICAL: u64 = 1;
const OTHER_DAY: u64 = 2;
const SCHEDULED: u64 = 4;

/// When a day begins in UTC, in milliseconds.
fn midnight(day: i32) -> i64 {
    i64::from(day) * 86_400_000
}

fn nanos(at: Now) -> i64 {
    at.0.wrapping_mul(1_000_000)
}

/// `day`: that of the item, which is also that of a lease that names none.
fn parse_lease(name: &str, day: i32, value: &[u8]) -> Option<Lease> {
    let name = base64::decode(name).ok()?;
    let (body, mut rest) = value.split_first_chunk::<2>()?;
    let id = [&name[..], body].concat();
    let flags: u64 = next(&mut rest)?;
    let bulk = next(&mut rest)?;
    let critical = if flags & CRITICAL > 0 { next(&mut rest)? } else { 0 };
    let interval = next(&mut rest)?;
    let end: i64 = next(&mut rest)?;
    let day = if flags & OTHER_DAY > 0 { next(&mut rest)? } else { day };
    let expires = Now(end.wrapping_add(midnight(day)));
    let schedule = if flags & SCHEDULED > 0 {
        let from = Nanos(next::<i64>(&mut rest)?.wrapping_add(nanos(expires)));
        let (mails, slot) = (next(&mut rest)?, next(&mut rest)?);
        let granted = Now(next::<i64>(&mut rest)?.wrapping_add(expires.0));
        Some(Schedule { from, mails, slot, granted })
    } else {
        None
    };
    let id = LeaseId(u64::from_be_bytes(id.try_into().ok()?));
    rest.is_empty().then_some(Lease { id, day, bulk, critical, interval, expires, schedule })
}

/// The next number of a binary value.
fn next<T: VarInt>(rest: &mut &[u8]) -> Option<T> {
    let (number, bytes) = T::decode_var(rest)?;
    *rest = rest.get(bytes..)?;
    Some(number)
}

/// What became of a quota, in words of ours and numbers.
pub(crate) fn step_text(step: &Move) -> String {
    match step {
        Move::Began { idle_days } => format!("began {idle_days}"),
        Move::Grew { from } => format!("grew {from}"),
        Move::Held(Held::Warmed) => "warmed".to_owned(),
        Move::Held(Held::Anchor) => "anchor".to_owned(),
        Move::Held(Held::Unused { used, quota }) => format!("unused {used} {quota}"),
        Move::Held(Held::NotAskedAgain { used, quota }) => format!("not-asked-again {used} {quota}"),
        Move::Held(Held::Unreported { sent, used }) => format!("unreported {sent} {used}"),
        Move::Held(Held::TurnedAway) => "turned-away".to_owned(),
        Move::Held(Held::Trickle) => "trickle".to_owned(),
        Move::Held(Held::Idle { days }) => format!("idle {days}"),
        Move::Held(Held::Unwell) => "unwell".to_owned(),
        Move::Held(Held::Incident) => "incident".to_owned(),
        Move::Held(Held::RestDay) => "rest-day".to_owned(),
        Move::Eased { from, turned_away, sent } => format!("eased {from} {turned_away} {sent}"),
        Move::Shrank { from } => format!("shrank {from}"),
        Move::Trickled { reach } => format!("trickled {reach}"),
        Move::Followed { from, peak } => format!("followed {from} {peak}"),
        Move::Decayed { from, idle_days } => format!("decayed {from} {idle_days}"),
        Move::Set { from } => format!("set {from}"),
    }
}

fn parse_step(text: &str) -> Option<Move> {
    let mut parts = text.split(' ');
    let name = parts.next()?;
    let numbers: Vec<u64> = parts.map(str::parse).collect::<Result<_, _>>().ok()?;
    let days = |number: u64| u32::try_from(number).ok();
    Some(match (name, numbers.as_slice()) {
        ("began", &[idle]) => Move::Began { idle_days: days(idle)? },
        ("grew", &[from]) => Move::Grew { from },
        ("warmed", []) => Move::Held(Held::Warmed),
        ("anchor", []) => Move::Held(Held::Anchor),
        ("unused", &[used, quota]) => Move::Held(Held::Unused { used, quota }),
        ("not-asked-again", &[used, quota]) => Move::Held(Held::NotAskedAgain { used, quota }),
        ("unreported", &[sent, used]) => Move::Held(Held::Unreported { sent, used }),
        ("turned-away", []) => Move::Held(Held::TurnedAway),
        ("trickle", []) => Move::Held(Held::Trickle),
        ("eased", &[from, turned_away, sent]) => Move::Eased { from, turned_away, sent },
        ("idle", &[idle]) => Move::Held(Held::Idle { days: days(idle)? }),
        ("unwell", []) => Move::Held(Held::Unwell),
        ("incident", []) => Move::Held(Held::Incident),
        ("rest-day", []) => Move::Held(Held::RestDay),
        ("shrank", &[from]) => Move::Shrank { from },
        ("trickled", &[reach]) => Move::Trickled { reach },
        ("followed", &[from, peak]) => Move::Followed { from, peak },
        ("decayed", &[from, idle]) => Move::Decayed { from, idle_days: days(idle)? },
        ("set", &[from]) => Move::Set { from },
        _ => return None,
    })
}

/// When a rate row expires.
pub fn rate_expiry(length: Length, from: Minute) -> AttributeValue {
    let start = Now(i64::from(from.0) * MINUTE_MILLIS);
    // A cohort is kept as long after its end as the rows of its length are.
    expiry(start.plus_minutes(length.kept()), 2)
}

/// Ends the names of the attributes of a rate row about the causes of its units of a kind: their number, and their buckets.
pub(crate) fn causes_names(kind: UnitKind) -> [&'static str; 2] {
    if kind == UnitKind::Complaint { ["by_people", "people"] } else { ["at_domains", "domains"] }
}

/// The causes in a rate row, by ISP and kind.
pub fn causes<'a>(item: &'a Item, isps: &'a IspMap) -> impl Iterator<Item = (Isp, UnitKind, Grouped)> + 'a {
    item.iter().filter_map(|(name, value)| {
        let (isp, attribute) = name.rsplit_once('.')?;
        let mut causes = Grouped::default();
        let kinds = [UnitKind::HardBounce, UnitKind::Complaint];
        let kind = kinds.into_iter().find(|kind| causes_names(*kind).contains(&attribute))?;
        if attribute == causes_names(kind)[0] {
            causes.count = value.as_n().ok()?.parse().ok()?;
        } else {
            value
                .as_ns()
                .ok()?
                .iter()
                .filter_map(|digits| bucket(digits))
                .for_each(|bucket| causes.buckets.insert(bucket));
        }
        Some((isps.by_name(isp).unwrap_or(Isp::OTHER), kind, causes))
    })
}

/// Buckets as a set attribute, which must not be empty.
pub(crate) fn buckets_attribute(buckets: Buckets) -> AttributeValue {
    AttributeValue::Ns(buckets.iter().map(|bucket| bucket.number().to_string()).collect())
}

/// Counters in a rate row, by attribute name; other attributes are skipped.
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
            (0_i64..4_000_000_000_000, moment(), any::<bool>()).prop_map(|(at, until, tested)| State::Open {
                at: Now(at),
                until,
                tested
            }),
            (0_i64..4_000_000_000_000).prop_map(|at| State::Probing { at: Now(at) }),
        ];
        let overrides = Override::ALL;
        let since = (any::<u32>(), any::<u32>());
        (state, since, any::<u32>(), moment(), moment(), proptest::option::of(0_usize..4), 0_usize..4, any::<bool>())
            .prop_map(move |(state, since, trips, tripped, worsened, metric, person, withheld)| BreakerState {
                state,
                since: ArmedSince { pause: Minute(since.0), throttle: Minute(since.1) },
                trips,
                tripped,
                tripped_by: metric.map(|metric| Metric::ALL[metric]),
                tripped_rate: metric.map(|_| trips),
                worsened,
                troubled: tripped.filter(|_| withheld),
                warned: [tripped, None, worsened, None],
                withheld,
                overridden: overrides[person],
                enacted: !withheld,
            })
    }

    fn any_step() -> impl Strategy<Value = Move> {
        prop_oneof![
            any::<u32>().prop_map(|idle_days| Move::Began { idle_days }),
            any::<u64>().prop_map(|from| Move::Grew { from }),
            any::<u64>().prop_map(|from| Move::Shrank { from }),
            any::<u64>().prop_map(|from| Move::Set { from }),
            any::<(u64, u64, u64)>().prop_map(|(from, turned_away, sent)| Move::Eased { from, turned_away, sent }),
            any::<(u64, u64)>().prop_map(|(sent, used)| Move::Held(Held::Unreported { sent, used })),
            any::<(u64, u64)>().prop_map(|(used, quota)| Move::Held(Held::NotAskedAgain { used, quota })),
            any::<u64>().prop_map(|reach| Move::Trickled { reach }),
            any::<(u64, u64)>().prop_map(|(from, peak)| Move::Followed { from, peak }),
            any::<(u64, u32)>().prop_map(|(from, idle_days)| Move::Decayed { from, idle_days }),
            any::<(u64, u64)>().prop_map(|(used, quota)| Move::Held(Held::Unused { used, quota })),
            any::<u32>().prop_map(|days| Move::Held(Held::Idle { days })),
            Just(Move::Held(Held::TurnedAway)),
            Just(Move::Held(Held::Trickle)),
            proptest::sample::select(vec![Held::Warmed, Held::Anchor, Held::Unwell, Held::Incident, Held::RestDay])
                .prop_map(Move::Held),
        ]
    }

    fn any_quota() -> impl Strategy<Value = Quota> {
        let days = (
            any::<i32>(),
            any::<u32>(),
            any::<u32>(),
            any::<(u64, u32, u32, u64, u32)>(),
            proptest::option::of(any::<u32>()),
        );
        let demoted = proptest::option::of((0_i64..4_000_000_000_000).prop_map(Now));
        let ramp = (days, any::<(u64, u64)>(), any_step(), any::<bool>(), demoted).prop_map(
            |(
                (day, sending_days, idle_days, (peak, peak_age, borne, ceiling, ceiling_age), growth),
                (quota, reach),
                step,
                anchor,
                demoted,
            )| Ramp {
                day,
                quota,
                reach,
                step,
                anchor,
                sending_days,
                idle_days,
                peak,
                peak_age,
                borne,
                growth: growth.map(Growth),
                ceiling,
                ceiling_age,
                demoted,
            },
        );
        let schedule = any::<(i64, u64, u64, i64)>().prop_map(|(from, mails, slot, granted)| Schedule {
            from: Nanos(from),
            mails,
            slot,
            granted: Now(granted),
        });
        let lease = (any::<(u64, u64, i64, i64)>(), any::<Option<i32>>(), proptest::option::of(schedule));
        // One of each name.
        let leases = proptest::collection::btree_map(any::<u32>(), (any::<u16>(), lease), 0..5);
        (ramp, any::<(u64, u64, bool, i64)>(), leases).prop_map(|(ramp, (bulk, critical, short, mark), leases)| {
            let lease = |(name, (body, lease)): (u32, (u16, (_, Option<i32>, _)))| {
                let ((bulk, critical, interval, expires), day, schedule) = lease;
                let id = LeaseId(u64::from(name) << 16 | u64::from(body));
                let (day, expires) = (day.unwrap_or(ramp.day), Now(expires));
                Lease { id, day, bulk, critical, interval, expires, schedule }
            };
            let leases = leases.into_iter().map(lease).collect();
            Quota { meter: Meter { bulk, critical, short, mark: Nanos(mark) }, leases, ramp }
        })
    }

    proptest! {
        #[test]
        fn a_breaker_is_read_as_it_was_written(breaker in any_breaker()) {
            prop_assert_eq!(parse_breaker(&breaker_attributes(&breaker)), Ok(breaker));
        }

        #[test]
        fn a_pause_is_read_as_it_was_written(
            at in 0_i64..4_000_000_000_000, harm in any::<u64>(), name in "[a-z]{1,3}", number in any::<u32>(),
        ) {
            let set = Subject::ConfigurationSet(name.as_str().into());
            let pause = Pause { set, at: Now(at), harm: Harm(harm) };
            let place = Place { magnitude: pause.harm.magnitude(), number };
            let item = pause_item(place, &pause);
            prop_assert_eq!(parse_place_sk(Reader(&item).text("sk").unwrap()), Some(place));
            prop_assert_eq!(parse_pause(&item), Ok(pause));
        }

        #[test]
        fn a_quota_is_read_as_it_was_written(quota in any_quota()) {
            prop_assert_eq!(parse_quota(&quota_item("quota#news", "gmail", &quota)), Ok(quota));
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
    fn an_item_of_pauses_that_an_earlier_release_wrote_is_not_a_place() {
        assert_eq!(parse_place_sk("configuration-set:news"), None);
        assert_eq!(parse_place_sk("configuration-set:place#3#2"), None);
    }

    #[test]
    fn a_wrong_attribute_of_a_quota_is_named() {
        let ramp = Ramp {
            day: 20_778,
            quota: 500,
            reach: 500,
            step: Move::Grew { from: 250 },
            anchor: false,
            sending_days: 9,
            idle_days: 0,
            peak: 480,
            peak_age: 1,
            borne: 0,
            growth: None,
            ceiling: 0,
            ceiling_age: 0,
            demoted: None,
        };
        let meter = Meter { bulk: 12, critical: 0, short: false, mark: Nanos(1_791_273_601_745_000_000) };
        let good = quota_item("quota#news", "gmail", &Quota { ramp, meter, leases: Vec::new() });
        let check = |attribute: &str, value: AttributeValue, expected: &str| {
            let mut item = good.clone();
            item.insert(attribute.to_owned(), value);
            let error = parse_quota(&item).unwrap_err().to_string();
            assert_eq!(error, format!("item quota#news / gmail: attribute `{attribute}` is {expected}"));
        };
        check("step", text("jumped 3"), "a string of 8 bytes, should be what became of a quota");
        check("step", text("grew 3 4"), "a string of 8 bytes, should be what became of a quota");
        check("bulk", number(-1), "the number -1, should be a number in range");
        check("~AKtUqYzr", text("1 2 3"), "a string of 5 bytes, should be a lease");
        // No number; one that does not end; more than a lease; a name that is none.
        let lease = |bytes: &[u8]| binary([&[0, 0], bytes].concat());
        for bytes in [&[][..], &[0, 1, 1, 0x80], &[0, 1, 1, 1, 1], &[4, 1, 1, 1]] {
            check("~AKtUqYzr", lease(bytes), "of another type, should be a lease");
        }
        check("~AKtU", lease(&[0, 1, 1, 1]), "of another type, should be a lease");
        let mut item = good.clone();
        item.insert("~AKtUqYzr".to_owned(), lease(&[0, 1, 1, 1]));
        assert_eq!(parse_quota(&item).map(|quota| quota.leases.len()), Ok(1));
        // Leases of an earlier release are passed over.
        item.insert("lease.00ab54a98ceb1f0a".to_owned(), text("100 0 96000000000 1791273661745"));
        assert_eq!(parse_quota(&item).map(|quota| quota.leases.len()), Ok(1));
        assert_eq!(parse_quota(&good).unwrap().meter, meter);
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
