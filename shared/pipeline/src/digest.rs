//! The digest: once a day, the state of everything.
//!
//! [`find`] reads the data, [`Digest::of`] makes the report for people and programs from it; that part is pure. The
//! digest is sent through the outbox under the name of its day, so it is sent once, however often it is made.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use reputation::breaker::{Override, State, StateName};
use reputation::counters::{Counters, Metric, Tally};
use reputation::detect::Percent;
use reputation::isp::Isp;
use reputation::judge::{self, Forecast};
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{Minute, Now};
use reputation::timeline::Timeline;
use reputation::unit::UnitKind;
use reputation::warmup::{Evidence, close};
use reputation::zone::Day;
use serde::Serialize;

use crate::ports::{Board, PortError, Quota, Quotas, Reputation};
use crate::wording::key_name;

mod text;

/// A dedicated IP keeps its reputation with about 1,000 mails a day at each ISP (SES Developer Guide, dedicated IP
/// addresses: a rule of thumb).
pub const MAILS_OF_AN_IP: u64 = 1_000;
/// Sets that send less are listed once they are past their warm-up: their quota is large enough, or they have had as
/// many days as SES plans for a dedicated IP (SES Developer Guide, "Warming up dedicated IP addresses").
const WARMUP_DAYS: u32 = 45;
/// Bounces that are neither hard nor known to be a block count for no rate. The digest lists a configuration set from this
/// share of its mail on, with at least so much of it. Ours: 100 mails at 10 % are ten bounces, which is hardly chance.
const SOFT_SHARE: f64 = 0.1;
const SOFT_MAILS: u64 = 100;
/// How many days before a quota decays the digest warns of it.
const COOLING_DAYS: u32 = 3;
/// Most subjects of one kind that are read, and most rows of each kind in the event for programs: an event is one item.
const MAX_READ: usize = 500;
const MAX_ROWS: usize = 100;

/// Which subjects have mail, and how much.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait MailHistory {
    /// Every subject that ever had an event, with the last hour in which it had one (the first minute of that hour).
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn heard(&self) -> Result<BTreeMap<Subject, Minute>, PortError>;

    /// The hours of a subject that begin in `[from, until)`.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn hours(&self, subject: &Subject, from: Minute, until: Minute) -> Result<Timeline, PortError>;
}

/// What a digest is made of.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The day it is about: the last one that is over, in the policy's zone.
    pub day: Day,
    /// The mail that SES accepted on it, by configuration set or identity and ISP.
    pub mail: BTreeMap<Subject, BTreeMap<Isp, Counters>>,
    /// The breakers that are not closed now.
    pub board: Arc<Board>,
    /// The account as SES would see it.
    pub forecasts: Vec<Forecast>,
    /// The quotas of today.
    pub quotas: BTreeMap<(String, Isp), Quota>,
}

/// Reads the data for the digest of the day before the one that holds `now`.
///
/// # Errors
///
/// A port did not answer: try again.
pub async fn find<R: Reputation + MailHistory, Q: Quotas>(
    policy: &Policy,
    store: &mut R,
    quotas: &Q,
    now: Now,
) -> Result<Findings, PortError> {
    let zone = &policy.warmup.zone;
    let day = zone.day(zone.day_at(now).number.saturating_sub(1));
    let (from, until) = hours_of(day);
    let heard = store.heard().await?;
    let mut mail = BTreeMap::new();
    let mut read = [0; 2];
    let asked = heard.iter().filter(|(subject, last)| **last >= from && !subject.is_drill());
    for subject in asked.map(|(subject, _)| subject) {
        let kind = match subject {
            Subject::ConfigurationSet(_) => 0,
            Subject::Identity(_) => 1,
            Subject::Account | Subject::Tenant(_) | Subject::Tag(..) => continue,
        };
        read[kind] += 1;
        if read[kind] > MAX_READ {
            continue;
        }
        let timeline = store.hours(subject, from, until).await?;
        let sum = |isp: Isp| {
            let mut sum = Counters::default();
            for (_, counters) in timeline.series(Some(isp)).into_iter().flat_map(|series| series.hours()) {
                sum.merge(counters);
            }
            (isp, sum)
        };
        // A subject of which SES publishes no Send or Delivery events has no rate.
        if timeline.knows_its_mail() {
            mail.insert(subject.clone(), timeline.isps().map(sum).collect());
        }
    }
    let forecasts = judge::forecast(policy, store.account(now).await?.into_iter(), now);
    let board = store.board(now).await?;
    let mut known = BTreeMap::new();
    for set in policy.warmup.sets.keys() {
        known.extend(quotas.quotas(set).await?.into_iter().map(|(isp, quota)| ((set.clone(), isp), quota)));
    }
    Ok(Findings { day, mail, board, forecasts, quotas: known })
}

/// The hours of a day. Whole hours, also in a zone whose offset is a half hour.
fn hours_of(day: Day) -> (Minute, Minute) {
    (day.start.minute().hour(), day.end.minute().hour())
}

/// The state of everything on one day. Times are RFC 3339; rates are shares.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Digest {
    /// Whether an application asks the gate. Without a gate, a cut of a quota is a warning.
    #[serde(skip)]
    pub gate: bool,
    /// The day (YYYY-MM-DD).
    pub day: String,
    /// The time zone of that day.
    pub zone: String,
    /// It is about mail that SES accepted from this minute on …
    pub from: String,
    /// … and before this one.
    pub until: String,
    /// The account, then configuration sets, then identities; within a kind the worst first, then the largest.
    pub rates: Vec<Rates>,
    /// Number of rows omitted from `rates`.
    pub left_out: usize,
    /// The thresholds of the policy's ratio rules over a day.
    pub lines: Vec<Line>,
    /// Breakers that are not closed now.
    pub not_closed: Vec<NotClosed>,
    /// The account as SES may see it.
    pub forecast: Vec<Seen>,
    /// Configuration sets with many soft or undetermined bounces, the most first.
    pub soft: Vec<Soft>,
    /// Quotas of today.
    pub quotas: Vec<Allowed>,
    /// Quotas that are about to decay because there is no mail.
    pub cooling: Vec<Cooling>,
    /// Sets that send less than a dedicated IP needs.
    pub small: Vec<Small>,
}

/// The rates of one subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// The subject.
    pub subject: String,
    /// State of its breaker now.
    pub state: StateName,
    /// Whether that is decided in shadow.
    pub shadow: bool,
    /// Mails.
    pub mails: u64,
    /// A rate for each metric.
    pub rates: Vec<Rate>,
}

/// One rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// `hard_bounce`, `complaint`, `delay` or `block`.
    pub metric: &'static str,
    /// The rate; null = no data.
    pub rate: Option<f64>,
    /// Its denominator.
    pub population: u64,
    /// Its numerator.
    pub bad: u64,
    /// Whether it has reached the threshold at which people are warned, with at least the mail that this requires.
    pub over: bool,
}

/// The thresholds of one metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Which rate.
    pub metric: &'static str,
    /// The rate at which people are warned; null = never.
    pub warn: Option<f64>,
    /// The rate at which mail is stopped; null = never.
    pub pause: Option<f64>,
}

/// A breaker that is not closed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotClosed {
    /// Its subject and ISP: `configuration-set:news@gmail`.
    pub key: String,
    /// Its state.
    pub state: StateName,
    /// When testing begins; null if it is not open, or waits for a person.
    pub until: Option<String>,
}

/// A rate of the account as SES may see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seen {
    /// Which rate.
    pub metric: &'static str,
    /// The rate; null = no data.
    pub rate: Option<f64>,
    /// The mails it is over.
    pub population: u64,
    /// The bad ones among them.
    pub bad: u64,
    /// The rate at which SES reviews an account.
    pub review: f64,
    /// The rate at which SES may pause it.
    pub pause: f64,
}

/// Soft and undetermined bounces, which count for no rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Soft {
    /// The configuration set.
    pub configuration_set: String,
    /// Its mails.
    pub mails: u64,
    /// Those that bounced softly: a full mailbox, a message that is too large.
    pub soft: u64,
    /// Those that bounced for a reason that SES could not tell.
    pub undetermined: u64,
    /// The ISP with the most of both.
    pub isp: String,
    /// How many of both it has.
    pub at_isp: u64,
}

/// A quota.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Allowed {
    /// The configuration set.
    pub configuration_set: String,
    /// The ISP.
    pub isp: String,
    /// Mails sent there on the day of the digest.
    pub sent: u64,
    /// Mails that may be granted today.
    pub quota: u64,
    /// Of those, mails that were granted so far.
    pub granted: u64,
    /// The quota of tomorrow, if today is healthy and used.
    pub next: u64,
    /// How the quota changed from the day before.
    pub step: &'static str,
    /// Why, in words.
    pub reason: String,
}

/// A ramp without mail.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cooling {
    /// The configuration set.
    pub configuration_set: String,
    /// The ISP.
    pub isp: String,
    /// Days without mail.
    pub idle_days: u32,
    /// From this number of days on its quota decays.
    pub decays_after_days: u32,
}

/// A sender that is small for dedicated IPs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Small {
    /// The configuration set.
    pub configuration_set: String,
    /// The ISP.
    pub isp: String,
    /// Mails sent there on the day of the digest.
    pub sent: u64,
    /// Mails a day that its dedicated IPs need; if the policy does not name its IPs, the mails that one IP needs.
    pub needed: u64,
}

impl Digest {
    /// Makes a digest.
    pub fn of(policy: &Policy, found: &Findings) -> Digest {
        let (from, until) = hours_of(found.day);
        let (rates, left_out) = rates(policy, found);
        let isps = &policy.isp_map;
        let settled = |state: State| state == State::Closed;
        let not_closed = found.board.unsettled.iter().filter(|(_, known)| !settled(known.state));
        let not_closed = not_closed.map(|(key, known)| NotClosed {
            key: key_name(key, isps),
            state: known.state.name(),
            until: known.until().map(|until| until.to_string()),
        });
        let forecast = found.forecasts.iter().map(|forecast| {
            let (review, pause) = policy.forecast.lines(forecast.metric);
            let Tally { population, bad } = forecast.tally;
            let (metric, rate) = (forecast.metric.name(), forecast.tally.rate());
            Seen { metric, rate, population, bad, review, pause }
        });
        Digest {
            gate: policy.gate_in_use,
            day: found.day.to_string(),
            zone: policy.warmup.zone.to_string(),
            from: from.start(),
            until: until.start(),
            rates,
            left_out,
            lines: Metric::ALL.into_iter().map(|metric| line(policy, metric)).collect(),
            not_closed: not_closed.take(MAX_ROWS).collect(),
            forecast: forecast.collect(),
            soft: soft(policy, found).into_iter().take(MAX_ROWS).collect(),
            quotas: quotas(policy, found).into_iter().take(MAX_ROWS).collect(),
            cooling: cooling(policy, found).into_iter().take(MAX_ROWS).collect(),
            small: small(policy, found).into_iter().take(MAX_ROWS).collect(),
        }
    }

    /// Whether there was any mail. A day without mail has no digest.
    pub fn has_mail(&self) -> bool {
        self.rates.iter().any(|row| row.mails > 0)
    }

    /// The text of the e-mail.
    pub fn text(&self) -> String {
        text::digest(self)
    }

    /// The title, in one line.
    pub fn title(&self) -> String {
        let stands = match self.not_closed.len() {
            0 => "all sending".to_owned(),
            count => format!("{count} not sending freely"),
        };
        let over = self.rates.iter().filter(|row| row.is_over()).count();
        let over = if over == 0 { String::new() } else { format!(", {over} over a line") };
        format!("{}: {stands}{over}", self.day)
    }
}

impl Rates {
    fn is_over(&self) -> bool {
        self.rates.iter().any(|rate| rate.over)
    }
}

/// The thresholds of the ratio rule of a metric over a day, or over the window nearest to a day.
fn line(policy: &Policy, metric: Metric) -> Line {
    let rule =
        policy.ratios.iter().filter(|rule| rule.metric == metric).min_by_key(|rule| rule.window_hours.abs_diff(24));
    Line { metric: metric.name(), warn: rule.and_then(|rule| rule.warn), pause: rule.and_then(|rule| rule.pause) }
}

fn rates(policy: &Policy, found: &Findings) -> (Vec<Rates>, usize) {
    let mut account = Counters::default();
    let (mut sets, mut identities) = (Vec::new(), Vec::new());
    for (subject, by_isp) in &found.mail {
        let mut sum = Counters::default();
        by_isp.values().for_each(|counters| sum.merge(counters));
        match subject {
            Subject::ConfigurationSet(_) => {
                account.merge(&sum);
                sets.push(row(policy, found, subject, &sum));
            }
            Subject::Account | Subject::Identity(_) | Subject::Tenant(_) | Subject::Tag(..) => {
                identities.push(row(policy, found, subject, &sum));
            }
        }
    }
    let mut rows = vec![row(policy, found, &Subject::Account, &account)];
    let mut left_out = 0;
    for mut kind in [sets, identities] {
        kind.sort_by_key(|row| {
            (row.state == StateName::Closed, !row.is_over(), Reverse(row.mails), row.subject.clone())
        });
        left_out += kind.len().saturating_sub(MAX_ROWS);
        kind.truncate(MAX_ROWS);
        rows.append(&mut kind);
    }
    (rows, left_out)
}

fn row(policy: &Policy, found: &Findings, subject: &Subject, counters: &Counters) -> Rates {
    let known = found.board.unsettled.get(&Key { subject: subject.clone(), isp: None });
    let rate = |metric: Metric| {
        let tally = counters.tally(metric);
        let reached = |rule: &&reputation::policy::Ratio| {
            let enough = tally.population >= rule.min_population && tally.bad >= rule.min_bad;
            rule.metric == metric && enough && rule.warn.zip(tally.rate()).is_some_and(|(warn, rate)| rate >= warn)
        };
        let over = policy.ratios.iter().find(reached).is_some();
        let Tally { population, bad } = tally;
        Rate { metric: metric.name(), rate: tally.rate(), population, bad, over }
    };
    Rates {
        subject: subject.to_string(),
        state: known.map_or(State::Closed, |known| known.state).name(),
        shadow: policy.is_shadow(subject) || known.is_some_and(|known| known.overridden == Override::Shadow),
        mails: counters.tally(Metric::HardBounce).population,
        rates: Metric::ALL.into_iter().map(rate).collect(),
    }
}

/// Mails of a configuration set to an ISP on the day of the digest.
fn sent(found: &Findings, set: &str, isp: Isp) -> u64 {
    let of_set = found.mail.get(&Subject::ConfigurationSet(set.into()));
    let counters = of_set.and_then(|by_isp| by_isp.get(&isp));
    counters.map_or(0, |counters| counters.tally(Metric::HardBounce).population)
}

fn soft(policy: &Policy, found: &Findings) -> Vec<Soft> {
    let both = |counters: &Counters| {
        let count = |kind| u64::from(counters.get(kind));
        (count(UnitKind::SoftBounce), count(UnitKind::Undetermined))
    };
    let row = |(subject, by_isp): (&Subject, &BTreeMap<Isp, Counters>)| {
        let Subject::ConfigurationSet(set) = subject else { return None };
        let mut sum = Counters::default();
        by_isp.values().for_each(|counters| sum.merge(counters));
        let ((soft, undetermined), mails) = (both(&sum), sum.tally(Metric::HardBounce).population);
        let worst = by_isp.iter().map(|(isp, counters)| (both(counters).0 + both(counters).1, Reverse(isp)));
        let (at_isp, Reverse(isp)) = worst.max()?;
        let is_much = mails >= SOFT_MAILS && (soft + undetermined) as f64 >= SOFT_SHARE * mails as f64;
        let (configuration_set, isp) = (set.to_string(), policy.isp_map.name(*isp).to_owned());
        is_much.then_some(Soft { configuration_set, mails, soft, undetermined, isp, at_isp })
    };
    let mut rows: Vec<Soft> = found.mail.iter().filter_map(row).collect();
    rows.sort_by_key(|row| (Reverse(row.soft + row.undetermined), row.configuration_set.clone()));
    rows
}

fn quotas(policy: &Policy, found: &Findings) -> Vec<Allowed> {
    let allowed = |((set, isp), quota): (&(String, Isp), &Quota)| {
        let plan = policy.warmup.sets.get(set)?;
        let ramp = &quota.ramp;
        let quota_now = ramp.quota_under(plan);
        let mails = quota_now.max(1);
        let good = Evidence { used: mails, sent: mails, ..Evidence::default() };
        let tomorrow = close(plan, policy.warmup.is_business(*isp), ramp, policy.warmup.zone.day(ramp.day), &good);
        Some(Allowed {
            configuration_set: set.clone(),
            isp: policy.isp_map.name(*isp).to_owned(),
            sent: sent(found, set, *isp),
            quota: quota_now,
            granted: quota.meter.bulk.saturating_add(quota.meter.critical),
            next: tomorrow.quota,
            step: ramp.step.name(),
            reason: ramp.step.to_string(),
        })
    };
    let mut allowed: Vec<Allowed> = found.quotas.iter().filter_map(allowed).collect();
    allowed.sort_by(|a, b| {
        (&a.configuration_set, Reverse(a.quota), &a.isp).cmp(&(&b.configuration_set, Reverse(b.quota), &b.isp))
    });
    allowed
}

fn cooling(policy: &Policy, found: &Findings) -> Vec<Cooling> {
    let cooling = |((set, isp), quota): (&(String, Isp), &Quota)| {
        let decays_after_days = policy.warmup.sets.get(set)?.decay_after_days;
        let idle_days = quota.ramp.idle_days;
        let near = (1..decays_after_days).contains(&idle_days) && idle_days + COOLING_DAYS >= decays_after_days;
        let (configuration_set, isp) = (set.clone(), policy.isp_map.name(*isp).to_owned());
        near.then_some(Cooling { configuration_set, isp, idle_days, decays_after_days })
    };
    found.quotas.iter().filter_map(cooling).collect()
}

fn small(policy: &Policy, found: &Findings) -> Vec<Small> {
    let small = |((set, isp), quota): (&(String, Isp), &Quota)| {
        let mirror = policy.warmup.mirrors.iter().find(|mirror| mirror.set == *set);
        let needed = MAILS_OF_AN_IP * mirror.map_or(1, |mirror| mirror.ips.len() as u64);
        let sent = sent(found, set, *isp);
        let past_its_warmup = quota.ramp.quota >= needed || quota.ramp.sending_days >= WARMUP_DAYS;
        // `other` is not one provider.
        let is_small = *isp != Isp::OTHER && (1..needed).contains(&sent) && past_its_warmup;
        let (configuration_set, isp) = (set.clone(), policy.isp_map.name(*isp).to_owned());
        is_small.then_some(Small { configuration_set, isp, sent, needed })
    };
    found.quotas.iter().filter_map(small).collect()
}

/// A rate for people.
fn percent(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| Percent(rate).to_string())
}
