//! The policy: every number that a person may want to change.
//!
//! It is written in TOML. Keys that a policy does not set have the values of [`DEFAULT_TOML`], which is
//! `infra/policy.toml` of the project, where each number is explained. [`keys`] defines what each key may be;
//! `infra/POLICY.md` shows it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::class::Class;
use crate::counters::Metric;
use crate::detect::{Ladder, NAT, NanoNats};
use crate::isp::{Isp, IspMap};
use crate::subject::{Subject, SubjectError};
use crate::warmup::Plan;
use crate::zone::Zone;

pub mod keys;

/// The default policy, explained number by number.
pub const DEFAULT_TOML: &str = include_str!("../../../infra/policy.toml");

/// A validated policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whether decisions have effects.
    pub mode: Mode,
    /// Whether the policy's own text sets the mode. If not, a stack stays in shadow: see [`Policy::in_stack`].
    pub states_mode: bool,
    /// The subjects that are judged, and the strongest action allowed for each.
    pub subjects: Subjects,
    /// Which ISP receives mail for which domain.
    pub isp_map: IspMap,
    /// Whether the sender's application asks the gate, so that a single ISP can be contained.
    pub gate_in_use: bool,
    /// Whether the policy's own text sets it. If not, the stack's parameter decides.
    pub states_gate: bool,
    /// The settings of the gate, in addition to quotas.
    pub gate: Gate,
    /// How configuration sets are warmed up.
    pub warmup: Warmup,
    /// Evidence rules.
    pub metrics: Metrics,
    /// Ratio rules.
    pub ratios: Vec<Ratio>,
    /// The account as SES sees it.
    pub forecast: Forecast,
    /// What a breaker does and how fast.
    pub breaker: Breaker,
    /// When an ISP's trouble is its own.
    pub incident: Incident,
    /// How often people are notified.
    pub alerts: Alerts,
    /// What gets metrics of its own in CloudWatch.
    pub cloudwatch: Cloudwatch,
    /// The number of lanes into which stored rows are split, so that many writers of one subject do not wait for each
    /// other.
    pub lanes: u32,
    /// Values in the policy's own text that have been renamed.
    pub old_words: Vec<OldWord>,
}

/// A renamed value; this release accepts both names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldWord {
    /// Path of its key.
    pub key: &'static str,
    /// Its old name.
    pub old: &'static str,
    /// Its new name.
    pub new: &'static str,
}

impl fmt::Display for OldWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OldWord { key, old, new } = self;
        write!(f, "write {key} = {new:?}: {old:?} is its old name, which the next release does not accept")
    }
}

/// Whether verdicts have effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Decide, report and act.
    Act,
    /// Decide and report.
    Shadow,
}

/// The settings of the gate, in addition to quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// How long a lease is valid, in seconds.
    pub lease_secs: u32,
    /// The answer to bulk mail while the tables cannot be read.
    pub unreadable_bulk: Unreadable,
    /// The answer to critical mail while the tables cannot be read.
    pub unreadable_critical: Unreadable,
}

impl Gate {
    /// The answer while the tables cannot be read.
    pub fn unreadable(&self, class: Class) -> Unreadable {
        match class {
            Class::Bulk => self.unreadable_bulk,
            Class::Critical => self.unreadable_critical,
        }
    }
}

/// The answer while the tables cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Send: everything is granted, and counted nowhere.
    Grant,
    /// Wait: nothing is granted.
    Defer,
}

impl Unreadable {
    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Unreadable::Grant => "grant",
            Unreadable::Defer => "defer",
        }
    }
}

/// How configuration sets are warmed up.
#[derive(Clone, Debug, PartialEq)]
pub struct Warmup {
    /// Where a day begins.
    pub zone: Zone,
    /// ISPs that receive for businesses, and tolerate less.
    pub business: Vec<Isp>,
    /// The plan for the keys that a configuration set does not set itself.
    pub plan: Plan,
    /// The configuration sets that ask the gate, by name. The gate knows no others.
    pub sets: BTreeMap<String, Plan>,
    /// The dedicated IPs that follow the ramp of a configuration set.
    pub mirrors: Vec<Mirror>,
}

impl Warmup {
    /// Whether an ISP receives for businesses.
    pub fn is_business(&self, isp: Isp) -> bool {
        self.business.contains(&isp)
    }
}

/// Standard dedicated IPs whose warm-up percentage follows a ramp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The configuration set whose ramp they follow.
    pub set: String,
    /// Their addresses.
    pub ips: Vec<std::net::IpAddr>,
}

/// The subjects that are judged, and the strongest action allowed for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    /// Whether SES tenants are subjects.
    pub tenants: bool,
    /// Message tags that are subjects.
    pub tags: Vec<String>,
    /// Critical mail: reported, never acted on.
    pub protected: Vec<Subject>,
    /// Judged, but nothing is done.
    pub shadow: Vec<Subject>,
    /// The sender's own recipient domains, in lower case: excluded from both sides of every rate.
    pub own_domains: Vec<String>,
}

/// The evidence rules, by metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics([MetricRule; Metric::ALL.len()]);

impl Metrics {
    /// The rule of one metric.
    pub fn rule(&self, metric: Metric) -> &MetricRule {
        &self.0[metric as usize]
    }
}

/// How evidence about one metric is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricRule {
    /// The share that is still accepted.
    pub limit: f64,
    /// Weights of the evidence against that limit.
    pub ladder: Ladder,
    /// Evidence at which a quota is cut; `None` = never.
    pub throttle: Option<NanoNats>,
    /// Evidence at which mail is stopped; `None` = never.
    pub pause: Option<NanoNats>,
    /// Where it is judged.
    pub scope: Scope,
}

/// Where a metric is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// At each ISP only.
    Isp,
    /// At each ISP and over all of them.
    All,
}

/// A ratio rule: a rate over a window with thresholds, and minimum counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// Which rate.
    pub metric: Metric,
    /// Length of the window, in hours.
    pub window_hours: u32,
    /// The rule does not apply below this number of mails …
    pub min_population: u64,
    /// … or below this number of bad mails.
    pub min_bad: u64,
    /// Threshold for a warning, a share; `None` = never.
    pub warn: Option<f64>,
    /// Threshold for cutting a quota.
    pub throttle: Option<f64>,
    /// Threshold for stopping.
    pub pause: Option<f64>,
}

/// The account as SES sees it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forecast {
    /// The number of last mails that SES is assumed to consider.
    pub mails: u64,
    /// The rule does not apply below this number of mails …
    pub min_population: u64,
    /// … or below this number of bad mails.
    pub min_bad: u64,
    /// Hard-bounce rate at which SES reviews an account.
    pub hard_bounce_review: f64,
    /// Hard-bounce rate at which SES may pause it.
    pub hard_bounce_pause: f64,
    /// Complaint rate at which SES reviews an account.
    pub complaint_review: f64,
    /// Complaint rate at which SES may pause it.
    pub complaint_pause: f64,
}

impl Forecast {
    /// The rates of a metric at which SES reviews an account and at which it may pause it. SES has none for delays and
    /// blocks; a share that is too high for bounces is too high for them.
    pub fn lines(&self, metric: Metric) -> (f64, f64) {
        match metric {
            Metric::Complaint => (self.complaint_review, self.complaint_pause),
            Metric::HardBounce | Metric::Delay | Metric::Block => (self.hard_bounce_review, self.hard_bounce_pause),
        }
    }
}

/// What a breaker does and how fast.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// A cut multiplies the quota by this.
    pub cut: f64,
    /// No cut goes below this share of the quota.
    pub floor: f64,
    /// The quota doubles after this number of minutes without a throttle verdict.
    pub raise_every_minutes: u32,
    /// How long the first Open lasts.
    pub open_minutes: u32,
    /// The longest time that an Open lasts.
    pub open_cap_minutes: u32,
    /// The trip count is reset after this number of days without a trip.
    pub forgive_days: u32,
    /// What ends an Open.
    pub resume: Resume,
    /// Share of the quota while probing.
    pub probe_share: f64,
    /// The number of mails that a probe needs.
    pub probe_mails: u64,
    /// How many minutes after a mail of a probe was accepted its outcome counts as known.
    pub probe_min_minutes: u32,
    /// After this time a probe ends with fewer mails, if a gate holds a share meanwhile.
    pub probe_max_minutes: u32,
    /// The number of deliveries that a probe needs after complaints.
    pub complaint_probe_mails: u64,
    /// As `probe_min_minutes`, after complaints.
    pub complaint_probe_minutes: u32,
    /// A test after complaints fails at this many times their limit ...
    pub relapse_times: f64,
    /// ... with complaints from at least this number of people.
    pub relapse_complaints: u64,
    /// At most this number of configuration sets of one order of magnitude of harm are paused within an hour: see
    /// [`crate::budget`].
    pub max_pauses_per_hour: u32,
    /// Evidence of this many times its threshold may be overwhelming, which the budget does not limit.
    pub overwhelming_times: f64,
    /// Evidence of fewer mails is never overwhelming.
    pub overwhelming_mails: u64,
    /// Whether the account may be paused.
    pub pause_account: bool,
}

/// What ends an Open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// Time: testing begins by itself.
    Automatic,
    /// A person's resume.
    Manual,
}

/// When an ISP's trouble is its own.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    /// The number of unrelated senders that must be hit.
    pub min_senders: u32,
    /// The senders that are hit must be this share of those with mail at the ISP in the window.
    pub min_sender_share: f64,
    /// Their mail must be this share of the mail at the ISP in the window.
    pub min_mail_share: f64,
    /// The number of mails, with a rate within the metric's limit, that count as a good history.
    pub min_history_mails: u64,
    /// The minutes within which they must all turn bad.
    pub window_minutes: u32,
    /// How long the ISP is held after the last of them turned bad.
    pub hold_minutes: u32,
    /// What happens to its senders without a gate to hold its mail.
    pub without_gate: WithoutGate,
}

/// What happens to the senders at an ISP in trouble of its own, without a gate to hold its mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutGate {
    /// People are warned, and no sender is stopped for it. SES still counts the bounces.
    Warn,
    /// People are warned, and senders are stopped as for any harm, because SES counts bounces regardless of fault.
    Pause,
}

/// How often people are notified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    /// How long the same standing of the same key is not reported in its own message again.
    pub again_minutes: u32,
    /// How long after the last message about a key a summary reports what was held back.
    pub summary_minutes: u32,
    /// From which hour of the day on, by the clock of [`Warmup::zone`], the daily digest is sent; `None` = never.
    pub digest_hour: Option<u8>,
}

/// What gets metrics of its own in CloudWatch, in addition to those of the stack. CloudWatch charges for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cloudwatch {
    /// The most configuration sets with metrics; 0 = none.
    pub configuration_sets: usize,
    /// The most ISPs with metrics for each of those sets.
    pub isps: usize,
}

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is not TOML.
    #[error("the policy is not valid TOML: {0}")]
    Syntax(String),
    /// A key that does not exist, is missing, or has a value of the wrong type.
    #[error("policy key `{key}`: {problem}")]
    Shape {
        /// Path of the key.
        key: String,
        /// What is wrong, and which values are allowed.
        problem: String,
    },
    /// A value out of range.
    #[error("policy key `{key}` is {value}; allowed: {allowed}")]
    Value {
        /// Path of the key.
        key: String,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: String,
    },
}

impl Policy {
    /// Whether a subject is in shadow: nothing is done, whatever is decided. A drill is never in shadow, because it
    /// must show the action, and it stops no real mail: see [`Subject::is_drill`].
    pub fn is_shadow(&self, subject: &Subject) -> bool {
        !subject.is_drill() && (self.mode == Mode::Shadow || self.subjects.shadow.contains(subject))
    }

    /// Whether a share of a subject's mail can be held: a gate is in use, and knows the subject, if it is a configuration
    /// set; without any set named, as in a replay with `--gate`, each is assumed to ask. For the account as a whole the
    /// switch of SES is never used for a test.
    pub fn holds_shares(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Account => true,
            Subject::ConfigurationSet(name) => {
                self.gate_in_use && (self.warmup.sets.is_empty() || self.warmup.sets.contains_key(&**name))
            }
            Subject::Identity(_) | Subject::Tenant(_) | Subject::Tag(..) => self.gate_in_use,
        }
    }

    /// Reads a policy. Keys that it does not set have their default values.
    ///
    /// # Errors
    ///
    /// Names the key, its value and the allowed values.
    pub fn from_toml(text: &str) -> Result<Policy, PolicyError> {
        // Only the message: a file that is not a policy may hold secrets, so its content is not shown.
        let own: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text.get(..span.start).unwrap_or("").matches('\n').count() + 1);
            PolicyError::Syntax(format!("line {line}: {}", error.message()))
        })?;
        let mut table: toml::Table =
            DEFAULT_TOML.parse().map_err(|error: toml::de::Error| PolicyError::Syntax(error.to_string()))?;
        let states_gate = own.get("gate").and_then(|gate| gate.get("in_use")).is_some();
        let states_mode = own.contains_key("mode");
        overlay(&mut table, own);
        let raw: RawPolicy = serde_path_to_error::deserialize(toml::Value::Table(table.clone())).map_err(|error| {
            let key = error.path().to_string();
            PolicyError::Shape { key, problem: error.into_inner().to_string().trim().replace('\n', " ") }
        })?;
        keys::check(&table)?;
        Ok(Policy { states_gate, states_mode, ..raw.validate()? })
    }

    /// Whether evidence about a metric is judged at this ISP, or, for `None`, over all ISPs.
    pub fn judges(&self, metric: Metric, isp: Option<Isp>) -> bool {
        let rule = self.metrics.rule(metric);
        match isp {
            // Without a gate, a metric that can stop the whole subject is judged over the whole, whatever its scope. A
            // metric that cannot is judged at each ISP.
            None => rule.scope == Scope::All || (!self.gate_in_use && rule.pause.is_some()),
            // `other` is many servers: mail delayed there may be delayed by a single server that is down.
            Some(Isp::OTHER) => metric != Metric::Delay,
            Some(_) => true,
        }
    }

    /// The policy in a deployed stack, which acts only if the policy's own text sets `mode = "act"`. A replay, which
    /// changes nothing, shows what acting would do.
    #[must_use]
    pub fn in_stack(self) -> Policy {
        Policy { mode: if self.states_mode { self.mode } else { Mode::Shadow }, ..self }
    }

    /// The policy in a replay, which acts unless the policy's own text sets `mode = "shadow"`: the opposite of
    /// [`Policy::in_stack`].
    #[must_use]
    pub fn in_replay(self) -> Policy {
        Policy { mode: if self.states_mode { self.mode } else { Mode::Act }, ..self }
    }

    /// The policy in an environment with or without a gate; the policy's own text takes precedence.
    #[must_use]
    pub fn in_world(self, gate: bool) -> Policy {
        Policy { gate_in_use: if self.states_gate { self.gate_in_use } else { gate }, ..self }
    }
}

impl Default for Policy {
    #[expect(clippy::expect_used, reason = "the default is part of this crate, and a test reads it")]
    fn default() -> Policy {
        Policy::from_toml("").expect("the default policy is valid")
    }
}

/// Puts the policy's own values over the default ones. Lists are replaced, not joined.
fn overlay(base: &mut toml::Table, own: toml::Table) {
    for (key, value) in own {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(own)) => overlay(base, own),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    mode: Mode,
    subjects: RawSubjects,
    isps: BTreeMap<String, String>,
    gate: RawGate,
    warmup: RawWarmup,
    metrics: RawMetrics,
    ratios: Vec<RawRatio>,
    forecast: Forecast,
    breaker: Breaker,
    incident: Incident,
    alerts: RawAlerts,
    cloudwatch: Cloudwatch,
    store: RawStore,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlerts {
    again_minutes: u32,
    summary_minutes: u32,
    digest_hour: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStore {
    lanes: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubjects {
    tenants: bool,
    tags: Vec<String>,
    protected: Vec<String>,
    shadow: Vec<String>,
    own_domains: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGate {
    in_use: bool,
    lease_seconds: u32,
    unreadable_bulk: RawUnreadable,
    unreadable_critical: RawUnreadable,
}

/// The old name, if the policy uses it: accepted for one release, and not listed among the allowed names.
struct RawUnreadable {
    value: Unreadable,
    old: Option<&'static str>,
}

impl<'de> Deserialize<'de> for RawUnreadable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawUnreadable, D::Error> {
        let (value, old) = match String::deserialize(deserializer)?.as_str() {
            "defer" => (Unreadable::Defer, None),
            "grant" => (Unreadable::Grant, None),
            "closed" => (Unreadable::Defer, Some("closed")),
            "open" => (Unreadable::Grant, Some("open")),
            other => return Err(D::Error::unknown_variant(other, &["defer", "grant"])),
        };
        Ok(RawUnreadable { value, old })
    }
}

impl RawUnreadable {
    fn old_word(&self, key: &'static str) -> Option<OldWord> {
        self.old.map(|old| OldWord { key, old, new: self.value.name() })
    }
}

impl RawGate {
    fn old_words(&self) -> Vec<OldWord> {
        let words = [
            self.unreadable_bulk.old_word("gate.unreadable_bulk"),
            self.unreadable_critical.old_word("gate.unreadable_critical"),
        ];
        words.into_iter().flatten().collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWarmup {
    zone: String,
    business: Vec<String>,
    plan: toml::Table,
    sets: BTreeMap<String, toml::Table>,
    dedicated_ips: BTreeMap<String, Vec<std::net::IpAddr>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlan {
    start: u64,
    target: u64,
    warm: bool,
    growth: f64,
    business_growth: f64,
    learn: bool,
    max_step_share: f64,
    used_share: f64,
    sending_days: Vec<RawWeekday>,
    ease_share: f64,
    shrink: f64,
    trickle_share: f64,
    minimum: u64,
    decay_after_days: u32,
    decay: f64,
    rewarm_after_days: u32,
    follow_days: u32,
    follow_share: f64,
    spread_hours: u32,
    least_spread_hours: u32,
    burst_share: f64,
    critical_share: f64,
    overflow: String,
    critical_route: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawWeekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetrics {
    hard_bounce: RawMetric,
    complaint: RawMetric,
    delay: RawMetric,
    block: RawMetric,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetric {
    limit: f64,
    throttle: f64,
    pause: f64,
    scope: Scope,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRatio {
    metric: Metric,
    window_hours: u32,
    min_population: u64,
    min_bad: u64,
    #[serde(default)]
    warn: f64,
    #[serde(default)]
    throttle: f64,
    #[serde(default)]
    pause: f64,
}

impl RawPolicy {
    fn validate(self) -> Result<Policy, PolicyError> {
        let RawMetrics { hard_bounce, complaint, delay, block } = self.metrics;
        let isp_map = IspMap::with_entries(self.isps.iter().map(|(domain, isp)| (domain.as_str(), isp.as_str())))
            .map_err(|error| PolicyError::Shape { key: "isps".into(), problem: error.to_string() })?;
        Ok(Policy {
            mode: self.mode,
            subjects: self.subjects.validate()?,
            gate_in_use: self.gate.in_use,
            states_gate: false,
            states_mode: false,
            old_words: self.gate.old_words(),
            gate: Gate {
                lease_secs: self.gate.lease_seconds,
                unreadable_bulk: self.gate.unreadable_bulk.value,
                unreadable_critical: self.gate.unreadable_critical.value,
            },
            warmup: self.warmup.validate(&isp_map)?,
            isp_map,
            metrics: Metrics([hard_bounce, complaint, delay, block].map(RawMetric::rule)),
            ratios: self.ratios.into_iter().map(RawRatio::rule).collect(),
            forecast: self.forecast,
            breaker: self.breaker,
            incident: self.incident,
            alerts: self.alerts.alerts(),
            cloudwatch: self.cloudwatch,
            lanes: self.store.lanes,
        })
    }
}

impl RawAlerts {
    fn alerts(&self) -> Alerts {
        let digest_hour = u8::try_from(self.digest_hour).ok();
        Alerts { again_minutes: self.again_minutes, summary_minutes: self.summary_minutes, digest_hour }
    }
}

impl RawWarmup {
    fn validate(self, isps: &IspMap) -> Result<Warmup, PolicyError> {
        let zone = Zone::named(&self.zone)
            .map_err(|error| PolicyError::Shape { key: "warmup.zone".into(), problem: error.to_string() })?;
        let business = |(index, name): (usize, &String)| {
            isps.by_name(name).ok_or_else(|| PolicyError::Value {
                key: format!("warmup.business[{index}]"),
                value: format!("{name:?}"),
                allowed: keys::KNOWN_ISP.to_owned(),
            })
        };
        let business = self.business.iter().enumerate().map(business).collect::<Result<Vec<Isp>, PolicyError>>()?;
        let read = |table: &toml::Table, key: &str| -> Result<Plan, PolicyError> {
            let raw: RawPlan =
                serde_path_to_error::deserialize(toml::Value::Table(table.clone())).map_err(|error| {
                    let at = error.path().to_string();
                    let key = if at == "." { key.to_owned() } else { format!("{key}.{at}") };
                    PolicyError::Shape { key, problem: error.into_inner().to_string().trim().replace('\n', " ") }
                })?;
            keys::check_section(keys::PLAN, key, table)?;
            raw.validate(key)
        };
        let plan = read(&self.plan, "warmup.plan")?;
        let mut sets = BTreeMap::new();
        for (name, own) in &self.sets {
            let key = format!("warmup.sets.{name}");
            set_name(&key, name)?;
            let mut table = self.plan.clone();
            overlay(&mut table, own.clone());
            let plan = read(&table, &key)?;
            for (field, other) in [("overflow", &plan.overflow), ("critical_route", &plan.critical_route)] {
                if other.as_ref() == Some(name) {
                    let (key, allowed) = (format!("{key}.{field}"), "another configuration set, or \"\"".to_owned());
                    return Err(PolicyError::Value { key, value: format!("{name:?}"), allowed });
                }
            }
            sets.insert(name.clone(), plan);
        }
        let mut mirrors = Vec::new();
        for (set, ips) in self.dedicated_ips {
            if !sets.contains_key(&set) {
                let (key, allowed) = (format!("warmup.dedicated_ips.{set}"), "a set of [warmup.sets]".to_owned());
                return Err(PolicyError::Value { key, value: format!("{set:?}"), allowed });
            }
            mirrors.push(Mirror { set, ips });
        }
        Ok(Warmup { zone, business, plan, sets, mirrors })
    }
}

/// SES allows letters, digits, `_` and `-`, at most 64 (API reference, CreateConfigurationSet).
fn set_name(key: &str, name: &str) -> Result<(), PolicyError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(PolicyError::Value { key: key.to_owned(), value: format!("{name:?}"), allowed: keys::SET_NAME.to_owned() })
}

impl RawPlan {
    fn validate(self, path: &str) -> Result<Plan, PolicyError> {
        let at = |key: &str| format!("{path}.{key}");
        let route = |key: &str, name: String| -> Result<Option<String>, PolicyError> {
            if name.is_empty() {
                return Ok(None);
            }
            set_name(&at(key), &name).map(|()| Some(name))
        };
        if self.sending_days.is_empty() {
            let allowed = keys::SENDING_DAYS.to_owned();
            return Err(PolicyError::Value { key: at("sending_days"), value: "[]".to_owned(), allowed });
        }
        let mut sending_days = [false; 7];
        for day in &self.sending_days {
            sending_days[*day as usize] = true;
        }
        Ok(Plan {
            start: self.start,
            target: self.target,
            warm: self.warm,
            growth: self.growth,
            business_growth: self.business_growth,
            learn: self.learn,
            max_step_share: self.max_step_share,
            used_share: self.used_share,
            sending_days,
            ease_share: self.ease_share,
            shrink: self.shrink,
            trickle_share: self.trickle_share,
            minimum: self.minimum,
            decay_after_days: self.decay_after_days,
            decay: self.decay,
            rewarm_after_days: self.rewarm_after_days,
            follow_days: self.follow_days,
            follow_share: self.follow_share,
            spread_hours: self.spread_hours,
            least_spread_hours: self.least_spread_hours,
            burst_share: self.burst_share,
            critical_share: self.critical_share,
            overflow: route("overflow", self.overflow)?,
            critical_route: route("critical_route", self.critical_route)?,
        })
    }
}

impl RawSubjects {
    fn validate(self) -> Result<Subjects, PolicyError> {
        let subjects = |key: &str, names: Vec<String>| {
            let parse = |(index, name): (usize, String)| {
                name.parse().map_err(|error: SubjectError| PolicyError::Shape {
                    key: format!("subjects.{key}[{index}]"),
                    problem: error.to_string(),
                })
            };
            names.into_iter().enumerate().map(parse).collect::<Result<Vec<Subject>, PolicyError>>()
        };
        if let Some(index) = (1..self.tags.len()).find(|index| self.tags[..*index].contains(&self.tags[*index])) {
            // With a duplicate tag, each of its mails would count twice.
            let (key, allowed) = (format!("subjects.tags[{index}]"), "each tag once".to_owned());
            return Err(PolicyError::Value { key, value: format!("{:?}", self.tags[index]), allowed });
        }
        for (index, tag) in self.tags.iter().enumerate() {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':' | b'.');
            if tag.is_empty() || tag.len() > 256 || !tag.bytes().all(allowed) {
                return Err(PolicyError::Value {
                    key: format!("subjects.tags[{index}]"),
                    value: format!("{tag:?}"),
                    allowed: keys::TAG.to_owned(),
                });
            }
        }
        for (index, domain) in self.own_domains.iter().enumerate() {
            if domain.is_empty() || domain.contains(['@', '*', ' ']) || !domain.contains('.') {
                let (key, allowed) = (format!("subjects.own_domains[{index}]"), keys::DOMAIN.to_owned());
                return Err(PolicyError::Value { key, value: format!("{domain:?}"), allowed });
            }
        }
        Ok(Subjects {
            tenants: self.tenants,
            tags: self.tags,
            protected: subjects("protected", self.protected)?,
            shadow: subjects("shadow", self.shadow)?,
            own_domains: self.own_domains.iter().map(|domain| domain.to_lowercase()).collect(),
        })
    }
}

impl RawMetric {
    fn rule(self) -> MetricRule {
        let evidence = |nats: f64| drawn(nats).map(|nats| (nats * NAT as f64).round() as NanoNats);
        MetricRule {
            limit: self.limit,
            ladder: Ladder::above(self.limit),
            throttle: evidence(self.throttle),
            pause: evidence(self.pause),
            scope: self.scope,
        }
    }
}

impl RawRatio {
    fn rule(self) -> Ratio {
        Ratio {
            metric: self.metric,
            window_hours: self.window_hours,
            min_population: self.min_population,
            min_bad: self.min_bad,
            warn: drawn(self.warn),
            throttle: drawn(self.throttle),
            pause: drawn(self.pause),
        }
    }
}

/// A threshold; 0 means that there is none.
fn drawn(line: f64) -> Option<f64> {
    (line != 0.0).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_an_empty_policy_is_the_default() {
        let policy = Policy::default();
        assert_eq!(policy.metrics.rule(Metric::HardBounce).pause, Some(10 * NAT));
        assert_eq!(policy.metrics.rule(Metric::Delay).pause, None);
        assert_eq!(policy.ratios.len(), 4);
    }

    #[test]
    fn a_policy_needs_only_what_differs() {
        let policy =
            Policy::from_toml("[metrics.hard_bounce]\nlimit = 0.04\n[isps]\n\"example.com\" = \"example\"").unwrap();
        let rule = policy.metrics.rule(Metric::HardBounce);
        assert_eq!((rule.limit, rule.pause), (0.04, Some(10 * NAT)));
        assert_eq!(policy.isp_map.name(policy.isp_map.classify("example.com")), "example");
    }

    #[test]
    fn the_old_names_of_values_are_accepted_and_reported_with_the_new_ones() {
        let read = |bulk: &str, critical: &str| {
            let toml = format!("[gate]\nunreadable_bulk = {bulk:?}\nunreadable_critical = {critical:?}\n");
            let policy = Policy::from_toml(&toml).unwrap();
            let old: Vec<String> = policy.old_words.iter().map(OldWord::to_string).collect();
            (policy.gate.unreadable_bulk, policy.gate.unreadable_critical, old)
        };
        assert_eq!(read("defer", "grant"), (Unreadable::Defer, Unreadable::Grant, Vec::new()));
        let (bulk, critical, old) = read("closed", "open");
        assert_eq!((bulk, critical), (Unreadable::Defer, Unreadable::Grant));
        assert!(old[0].starts_with("write gate.unreadable_bulk = \"defer\""), "{old:?}");
        assert!(old[1].starts_with("write gate.unreadable_critical = \"grant\""), "{old:?}");
        assert_eq!(Policy::default().old_words, []);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key_its_value_and_what_is_allowed() {
        let check = |toml: &str, parts: &[&str]| {
            let error = Policy::from_toml(toml).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{error:?} does not say {part:?}");
            }
        };
        check("mode = \"watch\"", &["mode", "watch", "act", "shadow"]);
        check("mode = ", &["TOML", "line 1"]);
        check("colour = 1", &["colour", "expected one of"]);
        check("[metrics.hard_bounce]\nlimt = 0.04", &["metrics.hard_bounce", "limt", "limit"]);
        check("[metrics.hard_bounce]\nlimit = 5", &["metrics.hard_bounce.limit", "5", "0.5"]);
        check("[metrics.hard_bounce]\nlimit = nan", &["metrics.hard_bounce.limit", "NaN"]);
        check("[metrics.hard_bounce]\nlimit = \"5 %\"", &["metrics.hard_bounce.limit", "5 %", "f64"]);
        check("[metrics.hard_bounce]\nthrottle = 12.0", &["metrics.hard_bounce.throttle", "12", "10"]);
        check("[breaker]\nopen_minutes = 0", &["breaker.open_minutes", "0", "1 to 43200"]);
        check("[breaker]\nopen_minutes = -1", &["breaker.open_minutes", "-1"]);
        check("[subjects]\nprotected = [\"otp\"]", &["subjects.protected[0]", "otp", "configuration-set:NAME"]);
        check("[subjects]\nown_domains = [\"a@b.c\"]", &["subjects.own_domains[0]", "a@b.c"]);
        check("[[ratios]]\nmetric = \"bounces\"", &["ratios", "bounces", "hard_bounce"]);
        check(
            "[[ratios]]\nmetric = \"complaint\"\nwindow_hours = 24\nmin_population = 1\nmin_bad = 1\nwarn = 0.5\npause = 0.1",
            &["ratios[0].warn", "0.5", "0.1"],
        );
        check("[isps]\n\"exa mple\" = \"x\"", &["isps", "exa mple"]);
        check("[gate]\nlease_seconds = 0", &["gate.lease_seconds", "0", "5 to 3600"]);
        check("[gate]\nunreadable_bulk = \"shut\"", &["gate.unreadable_bulk", "shut", "defer", "grant"]);
        check("[alerts]\nagain_minutes = 0", &["alerts.again_minutes", "0", "1 to 10080"]);
        check("[alerts]\nsummary_minutes = 2000", &["alerts.summary_minutes", "2000", "1 to 1440"]);
        check("[alerts]\ndigest_hour = 24", &["alerts.digest_hour", "24", "0 to 23", "-1"]);
        check("[cloudwatch]\nconfiguration_sets = 501", &["cloudwatch.configuration_sets", "501", "0 to 500"]);
        check("[cloudwatch]\nsets = 5", &["cloudwatch", "sets", "configuration_sets"]);
        check("[alerts]\nagain = 5", &["alerts", "again", "again_minutes"]);
        check("[warmup]\nzone = \"Berlin\"", &["warmup.zone", "Berlin", "Europe/Berlin"]);
        check("[warmup]\nbusiness = [\"acme\"]", &["warmup.business[0]", "acme", "[isps]"]);
        check("[warmup.plan]\ngrowth = 1.0", &["warmup.plan.growth", "1", "1.01"]);
        check("[warmup.sets.news]\ntarget = 40", &["warmup.sets.news.start", "50", "1 to 40"]);
        check("[warmup.sets.news]\ngrows = 2.0", &["warmup.sets.news", "grows", "growth"]);
        check(
            "[warmup.sets.news]\nsending_days = [\"monday\"]",
            &["warmup.sets.news.sending_days[0]", "monday", "mon"],
        );
        check("[warmup.sets.news]\noverflow = \"news\"", &["warmup.sets.news.overflow", "news", "another"]);
        check("[warmup.sets.\"a b\"]\n", &["warmup.sets.a b", "letters"]);
        check("[warmup.dedicated_ips]\nnews = [\"192.0.2.1\"]", &["warmup.dedicated_ips.news", "[warmup.sets]"]);
        check("[warmup.dedicated_ips]\nnews = [\"192.0.2\"]", &["warmup.dedicated_ips.news", "IP address"]);
    }
}
