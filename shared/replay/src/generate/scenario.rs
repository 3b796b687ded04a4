//! The scenario of a generated stream: who sends, how much, what goes wrong and when, and what the transport does to it.

use serde::{Deserialize, Serialize};

use super::MINUTE_MS;

/// One generated stream, apart from its seed. Reads from and writes to TOML; a key that is left out has its default.
///
/// Shares and rates are numbers from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name; used in files and reports only.
    pub name: String,
    /// What happens and what the breaker should do about it, in a sentence.
    #[serde(default)]
    pub about: String,
    /// When the first minute begins: RFC 3339, such as `2026-10-05T06:00:00Z`; without an offset it is UTC.
    pub start: String,
    /// How long mail is sent, in minutes; its events continue to arrive after that.
    pub minutes: u32,
    /// Factor on every `per_minute` in each hour of the UTC day: 24 numbers, or none for a flat day.
    #[serde(default)]
    pub daily_rhythm: Vec<f64>,
    /// The senders; at least one.
    pub configuration_sets: Vec<ConfigurationSet>,
    /// The outcomes of mail, unless the configuration set or an incident says otherwise.
    #[serde(default)]
    pub rates: Rates,
    /// Temporary changes; if two overlap, the later in the list decides.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// Share of the blocks that are bounces; the others are delays.
    #[serde(default = "one_in_five")]
    pub block_bounces: f64,
    /// Share of the hard bounces that arrive minutes after a delivery was reported.
    #[serde(default)]
    pub late_bounces: f64,
    /// Share of the hard bounces with a subtype that SES does not have yet; they count as hard.
    #[serde(default)]
    pub unknown_subtypes: f64,
    /// How long after the mail a complaint arrives; early ones are more likely than late ones.
    #[serde(default)]
    pub complaint_delay: Span,
    /// Share of the events that are delivered again, seconds to minutes later, perhaps in another envelope; the same share of
    /// those once more, and so on up to eight copies.
    #[serde(default)]
    pub duplicates: f64,
    /// The transport delays each event by up to this many seconds, which disorders them.
    #[serde(default = "two")]
    pub jitter_seconds: u32,
    /// Share of the mails with two to four recipients, a third of these mails at several ISPs.
    #[serde(default)]
    pub multi_recipient: f64,
    /// Share of the addresses that are written in capitals or with a display name; they are the same recipients.
    #[serde(default)]
    pub odd_addresses: f64,
    /// Number of valid lines that count nothing: the mailbox simulator, `not-spam`, notices, unknown types …
    #[serde(default)]
    pub noise: u32,
    /// Number of lines that are broken.
    #[serde(default)]
    pub garbage: u32,
    /// Number of events about mail that is dated in the year 2099; they must be rejected.
    #[serde(default)]
    pub future_dated: u32,
    /// The envelopes in use, each as often as the others.
    #[serde(default = "raw_only")]
    pub envelopes: Vec<Envelope>,
}

/// A configuration set and how it is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigurationSet {
    /// 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// The domain in the From address of its mail.
    pub identity: String,
    /// Mails per minute on average; may be a fraction.
    pub per_minute: f64,
    /// The recipients.
    #[serde(default)]
    pub isps: IspMix,
    /// The outcomes of its mail, where they differ from the scenario's rates.
    #[serde(default)]
    pub rates: Rates,
}

/// The distribution of recipients over the ISPs: weights with any sum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IspMix {
    /// gmail.com, googlemail.com; without complaints, because Gmail does not report complaints to senders.
    pub gmail: f64,
    /// outlook.com, hotmail.com, live.com, msn.com.
    pub microsoft: f64,
    /// yahoo.com, ymail.com, aol.com.
    pub yahoo: f64,
    /// icloud.com, me.com.
    pub apple: f64,
    /// corp-1.example.net to corp-40.example.net.
    pub other: f64,
}

impl Default for IspMix {
    fn default() -> Self {
        Self { gmail: 0.45, microsoft: 0.2, yahoo: 0.14, apple: 0.06, other: 0.15 }
    }
}

/// The outcomes of mail. A rate that is left out comes from the wider scope: incident, configuration set, scenario, and finally
/// the number given here.
///
/// `suppressed`, `hard`, `soft`, `undetermined`, `block` and `delay` exclude each other for one recipient and add up to at most
/// 1; the rest is delivered at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Hard bounces per recipient; 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard: Option<f64>,
    /// Soft bounces per recipient, not counting those that end a delay; 0.003.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<f64>,
    /// Undetermined bounces per recipient; 0.0005.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undetermined: Option<f64>,
    /// Recipients on a suppression list, to whom nothing is sent; 0.002.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<f64>,
    /// Mails that the ISP delays or bounces because of the sender, per recipient; 0.0005.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<f64>,
    /// Mails that wait for another reason, per recipient; most are delivered later; 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<f64>,
    /// Complaints per recipient who got the mail, at ISPs other than Gmail; 0.0003.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complaint: Option<f64>,
    /// Mails that SES rejects after accepting them; 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reject: Option<f64>,
    /// Mails whose template fails, so that nothing is sent; 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendering_failure: Option<f64>,
    /// Delivered mails that are opened; 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<f64>,
    /// Delivered mails in which a link is followed; 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub click: Option<f64>,
}

/// A period with different rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    /// The configuration set that it affects; if left out, it affects all of them, as a provider's incident does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_set: Option<String>,
    /// The ISP at which it happens; if left out, it happens at all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isp: Option<Isp>,
    /// The first minute of the affected mail, counted from the scenario's start.
    pub from_minute: u32,
    /// Its length, in minutes.
    pub minutes: u32,
    /// The outcomes of mail sent in it.
    pub rates: Rates,
}

/// The ISPs of generated mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isp {
    /// gmail.com, googlemail.com.
    Gmail,
    /// outlook.com, hotmail.com, live.com, msn.com.
    Microsoft,
    /// yahoo.com, ymail.com, aol.com.
    Yahoo,
    /// icloud.com, me.com.
    Apple,
    /// Business domains.
    Other,
}

impl Isp {
    /// All of them, in the order of their discriminants.
    pub(super) const ALL: [Self; 5] = [Self::Gmail, Self::Microsoft, Self::Yahoo, Self::Apple, Self::Other];

    /// Its name in reports: `gmail`, `microsoft`, `yahoo`, `apple`, `other`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gmail => "gmail",
            Self::Microsoft => "microsoft",
            Self::Yahoo => "yahoo",
            Self::Apple => "apple",
            Self::Other => "other",
        }
    }
}

/// The envelope of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Envelope {
    /// The event's document itself, as with Firehose or raw delivery.
    Raw,
    /// In an SNS notification.
    Sns,
    /// In an EventBridge event.
    Eventbridge,
    /// Up to ten of the others in one Lambda invocation by SQS.
    SqsBatch,
    /// Mail sent without a configuration set and reported by the older identity notifications, bare or in SNS: only deliveries,
    /// bounces and complaints, and all belong to the configuration set `(none)`.
    Identity,
}

/// A range of times after the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The earliest, in minutes.
    pub from_minutes: u32,
    /// The latest, in minutes.
    pub to_minutes: u32,
}

impl Default for Span {
    fn default() -> Self {
        Self { from_minutes: 10, to_minutes: 1440 }
    }
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// Not TOML, or a key that is unknown, missing or of the wrong type.
    #[error("scenario cannot be read")]
    Toml(#[from] toml::de::Error),
    /// A value out of range.
    #[error("scenario key `{key}` is {value}, allowed: {allowed}")]
    Value {
        /// The key, such as `incidents[0].rates.hard`.
        key: String,
        /// Its value.
        value: String,
        /// The allowed values.
        allowed: String,
    },
}

impl Scenario {
    /// Reads and checks a scenario in TOML.
    ///
    /// # Errors
    /// [`ScenarioError`] if it is not TOML, has an unknown key, or a value that [`Scenario::check`] refuses.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// With `factor` times the mail, noise and garbage in the same time; never more than the largest allowed volume.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        for set in &mut self.configuration_sets {
            set.per_minute = (set.per_minute * factor).clamp(0.0, MAX_PER_MINUTE);
        }
        self.with_extras_times(factor)
    }

    /// For another length in minutes, with as much noise and garbage in each minute; incidents keep their times.
    #[must_use]
    pub fn with_minutes(mut self, minutes: u32) -> Self {
        let factor = f64::from(minutes) / f64::from(self.minutes.max(1));
        self.minutes = minutes;
        self.with_extras_times(factor)
    }

    fn with_extras_times(mut self, factor: f64) -> Self {
        for count in [&mut self.noise, &mut self.garbage, &mut self.future_dated] {
            // A conversion with `as` saturates, as it should for absurd factors.
            *count = (f64::from(*count) * factor + 0.5) as u32;
        }
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ScenarioError::Value`] for the first value out of range.
    pub fn check(&self) -> Result<(), ScenarioError> {
        self.start_ms()?;
        within("minutes", f64::from(self.minutes), 1.0, MAX_MINUTES)?;
        if !matches!(self.daily_rhythm.len(), 0 | 24) {
            return refuse("daily_rhythm", format!("{} numbers", self.daily_rhythm.len()), "none or 24 numbers");
        }
        for (hour, &factor) in self.daily_rhythm.iter().enumerate() {
            within(&format!("daily_rhythm[{hour}]"), factor, 0.0, 100.0)?;
        }
        if self.envelopes.is_empty() {
            return refuse("envelopes", "empty", "some of raw, sns, eventbridge, sqs-batch, identity");
        }
        for (key, share) in [
            ("block_bounces", self.block_bounces),
            ("late_bounces", self.late_bounces),
            ("unknown_subtypes", self.unknown_subtypes),
            ("duplicates", self.duplicates),
            ("multi_recipient", self.multi_recipient),
            ("odd_addresses", self.odd_addresses),
        ] {
            within(key, share, 0.0, 1.0)?;
        }
        let most = f64::from(self.minutes) * MAX_EXTRAS_PER_MINUTE;
        for (key, count) in [("noise", self.noise), ("garbage", self.garbage), ("future_dated", self.future_dated)] {
            within(key, f64::from(count), 0.0, most)?;
        }
        within("jitter_seconds", f64::from(self.jitter_seconds), 0.0, 86_400.0)?;
        within("complaint_delay.to_minutes", f64::from(self.complaint_delay.to_minutes), 0.0, MAX_MINUTES)?;
        if self.complaint_delay.from_minutes > self.complaint_delay.to_minutes {
            let value = format!("after `to_minutes` ({})", self.complaint_delay.to_minutes);
            return refuse("complaint_delay.from_minutes", value, "a number up to `to_minutes`");
        }
        self.rates.check("rates", Effective::default())?;
        self.check_sets()?;
        self.check_incidents()
    }

    /// The start in milliseconds since 1970, UTC.
    pub(super) fn start_ms(&self) -> Result<i64, ScenarioError> {
        let instant: Result<jiff::Timestamp, _> = self.start.parse();
        let ms = match instant {
            Ok(instant) => Some(instant.as_millisecond()),
            Err(_) => {
                let civil: Result<jiff::civil::DateTime, _> = self.start.parse();
                let utc = civil.ok().and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC).ok());
                utc.map(|zoned| zoned.timestamp().as_millisecond())
            }
        };
        match ms {
            Some(ms) if (0..LATEST_START_MS).contains(&ms) => Ok(ms),
            Some(_) | None => {
                let allowed = "a time of RFC 3339 in the years 1970 to 2199, such as 2026-10-05T06:00:00Z";
                refuse("start", format!("`{}`", self.start), allowed)
            }
        }
    }

    fn check_sets(&self) -> Result<(), ScenarioError> {
        if self.configuration_sets.is_empty() {
            return refuse("configuration_sets", "empty", "at least one");
        }
        for (index, set) in self.configuration_sets.iter().enumerate() {
            let key = format!("configuration_sets[{index}]");
            let legal = set.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
            if !legal || set.name.is_empty() || set.name.len() > 64 {
                let key = format!("{key}.name");
                return refuse(&key, format!("`{}`", set.name), "1 to 64 of A-Z a-z 0-9 _ -");
            }
            if self.configuration_sets[..index].iter().any(|earlier| earlier.name == set.name) {
                return refuse(&format!("{key}.name"), format!("`{}`", set.name), "a name that no other set has");
            }
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
            if set.identity.is_empty() || set.identity.len() > 253 || !set.identity.bytes().all(legal) {
                let key = format!("{key}.identity");
                return refuse(&key, format!("`{}`", set.identity), "a domain in a-z 0-9 . -");
            }
            within(&format!("{key}.per_minute"), set.per_minute, 0.0, MAX_PER_MINUTE)?;
            let weights = set.isps.weights();
            for (isp, weight) in Isp::ALL.into_iter().zip(weights) {
                within(&format!("{key}.isps.{}", isp.name()), weight, 0.0, 1e6)?;
            }
            if weights.iter().all(|&weight| weight == 0.0) {
                return refuse(&format!("{key}.isps"), "all zero", "at least one weight above 0");
            }
            set.rates.check(&format!("{key}.rates"), self.rates.over(Effective::default()))?;
        }
        Ok(())
    }

    fn check_incidents(&self) -> Result<(), ScenarioError> {
        for (index, incident) in self.incidents.iter().enumerate() {
            let key = format!("incidents[{index}]");
            if let Some(name) = &incident.configuration_set
                && !self.configuration_sets.iter().any(|set| set.name == *name)
            {
                let key = format!("{key}.configuration_set");
                return refuse(&key, format!("`{name}`"), "the name of one of the scenario's configuration sets");
            }
            for set in self.configuration_sets.iter().filter(|set| incident.hits_set(&set.name)) {
                let usual = set.rates.over(self.rates.over(Effective::default()));
                incident.rates.check(&format!("{key}.rates"), usual)?;
            }
        }
        Ok(())
    }

    /// The rates of one configuration set at one ISP in one minute.
    pub(super) fn rates_at(&self, set: &ConfigurationSet, isp: Isp, minute: u64) -> Effective {
        let mut rates = set.rates.over(self.rates.over(Effective::default()));
        for incident in &self.incidents {
            let from = u64::from(incident.from_minute);
            let on = (from..from + u64::from(incident.minutes)).contains(&minute);
            if on && incident.hits_set(&set.name) && incident.isp.is_none_or(|hit| hit == isp) {
                rates = incident.rates.over(rates);
            }
        }
        rates
    }

    /// Factor on the volume at a time.
    pub(super) fn rhythm_at(&self, at_ms: i64) -> f64 {
        let hour = at_ms.div_euclid(60 * MINUTE_MS).rem_euclid(24);
        usize::try_from(hour).ok().and_then(|hour| self.daily_rhythm.get(hour)).copied().unwrap_or(1.0)
    }
}

impl Incident {
    fn hits_set(&self, name: &str) -> bool {
        self.configuration_set.as_ref().is_none_or(|hit| hit == name)
    }
}

impl IspMix {
    /// In the order of [`Isp::ALL`].
    pub(super) fn weights(&self) -> [f64; 5] {
        [self.gmail, self.microsoft, self.yahoo, self.apple, self.other]
    }
}

impl Rates {
    /// These rates, with those of `wider` where they are left out.
    fn over(&self, wider: Effective) -> Effective {
        Effective {
            hard: self.hard.unwrap_or(wider.hard),
            soft: self.soft.unwrap_or(wider.soft),
            undetermined: self.undetermined.unwrap_or(wider.undetermined),
            suppressed: self.suppressed.unwrap_or(wider.suppressed),
            block: self.block.unwrap_or(wider.block),
            delay: self.delay.unwrap_or(wider.delay),
            complaint: self.complaint.unwrap_or(wider.complaint),
            reject: self.reject.unwrap_or(wider.reject),
            rendering_failure: self.rendering_failure.unwrap_or(wider.rendering_failure),
            open: self.open.unwrap_or(wider.open),
            click: self.click.unwrap_or(wider.click),
        }
    }

    fn check(&self, key: &str, wider: Effective) -> Result<(), ScenarioError> {
        for (name, rate) in [
            ("hard", self.hard),
            ("soft", self.soft),
            ("undetermined", self.undetermined),
            ("suppressed", self.suppressed),
            ("block", self.block),
            ("delay", self.delay),
            ("complaint", self.complaint),
            ("reject", self.reject),
            ("rendering_failure", self.rendering_failure),
            ("open", self.open),
            ("click", self.click),
        ] {
            if let Some(rate) = rate {
                within(&format!("{key}.{name}"), rate, 0.0, 1.0)?;
            }
        }
        let all = self.over(wider);
        let sum = all.suppressed + all.hard + all.soft + all.undetermined + all.block + all.delay;
        // Sums like 0.7 + 0.3 need a small tolerance.
        if sum > 1.0 + 1e-9 {
            let allowed = "suppressed, hard, soft, undetermined, block and delay that add up to at most 1";
            return refuse(key, format!("a sum of {sum} with what it inherits"), allowed);
        }
        Ok(())
    }
}

/// Complete rates. See [`Rates`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Effective {
    pub(super) hard: f64,
    pub(super) soft: f64,
    pub(super) undetermined: f64,
    pub(super) suppressed: f64,
    pub(super) block: f64,
    pub(super) delay: f64,
    pub(super) complaint: f64,
    pub(super) reject: f64,
    pub(super) rendering_failure: f64,
    pub(super) open: f64,
    pub(super) click: f64,
}

impl Default for Effective {
    fn default() -> Self {
        Self {
            hard: 0.01,
            soft: 0.003,
            undetermined: 0.0005,
            suppressed: 0.002,
            block: 0.0005,
            delay: 0.01,
            complaint: 0.0003,
            reject: 0.0,
            rendering_failure: 0.0,
            open: 0.0,
            click: 0.0,
        }
    }
}

/// Ten years.
const MAX_MINUTES: f64 = 5_260_000.0;
/// A hundred times the volume of the largest senders.
const MAX_PER_MINUTE: f64 = 10_000_000.0;
/// All of one minute are in memory.
const MAX_EXTRAS_PER_MINUTE: f64 = 100_000.0;
/// 2200-01-01T00:00:00Z.
const LATEST_START_MS: i64 = 7_258_118_400_000;

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<(), ScenarioError> {
    if (least..=most).contains(&value) { Ok(()) } else { refuse(key, value, format!("{least} to {most}")) }
}

fn refuse<T>(key: &str, value: impl ToString, allowed: impl ToString) -> Result<T, ScenarioError> {
    Err(ScenarioError::Value { key: key.to_owned(), value: value.to_string(), allowed: allowed.to_string() })
}

fn one_in_five() -> f64 {
    0.2
}

fn two() -> u32 {
    2
}

fn raw_only() -> Vec<Envelope> {
    vec![Envelope::Raw]
}
