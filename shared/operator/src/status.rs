//! The state of a stack.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use aws::layout::{flow_name, seen_name};
use aws::reputation::DynamoReputation;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pipeline::notice::{Notice, Outbox as _};
use pipeline::ports::{Board, DesiredState, DesiredStates as _, PortError, Quota, Quotas as _, Reputation as _};
use pipeline::quotas::{Asker, flow};
use pipeline::wording::key_name;
use reputation::breaker::{BreakerState, Override, State, StateName, due};
use reputation::counters::{Counters, Metric, Tally};
use reputation::isp::Isp;
use reputation::permit::Because;
use reputation::policy::{Mode, Policy};
use reputation::subject::{Key, Subject};
use reputation::time::{DAY, HOUR, Minute, Now};
use reputation::timeline::{Length, Timeline};
use reputation::unit::UnitKind;
use reputation::warmup::Plan;
use reputation::zone::NumberedDate;
use serde::Serialize;
use terminal::time::second_of;
use terminal::{counted, suggest};

use crate::Access;
use crate::command::has_switch;
use crate::failure::Failure;
use crate::notice_history::Entry;

/// Subjects that are read at a time.
const READS: usize = 16;
/// The number of recent notices that are read: they say why a breaker is in its state.
const NOTICES: i32 = 100;
/// The number of them that are shown.
const SHOWN_NOTICES: usize = 5;
/// The most breakers whose last notice is looked up if it is not among those.
const LOOKED_FOR: usize = 50;
/// A notice that waits longer than this in the outbox is stuck.
const LATE_MINUTES: u32 = 2;

/// The status.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Name of the stack.
    pub stack: String,
    /// Its Region.
    pub region: String,
    /// When this was read (RFC 3339).
    pub at: String,
    /// The only subject shown; null = all.
    pub subject: Option<String>,
    /// The policy in use.
    pub policy: InUse,
    /// The release of the stack's functions; null if it is one that does not say so, or they have not run yet.
    pub release: Option<String>,
    /// Whether an application asks the gate: without it, a reduced quota holds nothing back.
    pub gate: bool,
    /// Warnings that need a person.
    pub warnings: Vec<String>,
    /// The breakers that are not closed, or that a person overrides; the worst first.
    pub breakers: Vec<Unsettled>,
    /// Desired states that SES had not reached when last asked, or has reached because of another stack.
    pub wishes: Vec<Unfulfilled>,
    /// Mail that SES accepted from this hour on (RFC 3339) is counted in `mail`.
    pub since: String,
    /// The subjects that have sent mail since, or whose breaker is not closed; the worst first. With a subject: all its mail,
    /// then each ISP; with the account: each configuration set.
    pub mail: Vec<Mail>,
    /// What the gate may grant today, for each configuration set that has a plan and each ISP that it was asked about.
    pub quotas: Vec<Allowance>,
    /// The latest notices, newest first.
    pub notices: Vec<NoticeLine>,
    /// Notices that were not sent yet; at most a hundred are read.
    pub unsent: usize,
    /// The rules that the mail is judged by.
    #[serde(skip)]
    pub rules: Policy,
}

/// The policy in use.
#[derive(Clone, Debug, Serialize)]
pub struct InUse {
    /// 0 is the built-in default.
    pub version: u64,
    /// `act` or `shadow`.
    pub mode: &'static str,
    /// Why the pushed policy is not in use, if it is not.
    pub problem: Option<String>,
}

/// A breaker that is not closed, or that a person overrides. States and `hold` are stable names, for programs.
#[derive(Clone, Debug, Serialize)]
pub struct Unsettled {
    /// The subject.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// Its state.
    pub state: StateName,
    /// Share of the quota that may be sent.
    pub factor: f64,
    /// Since when (RFC 3339); for a throttled one, since its share last changed.
    pub since: Option<String>,
    /// When it is evaluated even if nothing happens (RFC 3339): an open one starts to probe, a throttled one is raised, a probe
    /// ends. Null waits for a person.
    pub until: Option<String>,
    /// A person's command about it.
    pub hold: Override,
    /// Whether SES has a switch for it; without one, only the gate holds mail back.
    pub switch_at_ses: bool,
    /// How often it has opened since its trips were last forgiven.
    pub trips: u32,
    /// The reason, as in the notice.
    pub reason: Option<String>,
}

/// A desired state that SES has not reached yet.
#[derive(Clone, Debug, Serialize)]
pub struct Unfulfilled {
    /// The subject that SES is to stop or resume.
    pub target: String,
    /// `flowing` or `stopped`.
    pub wish: &'static str,
    /// Since when (RFC 3339).
    pub since: String,
    /// What was last applied or seen.
    pub made: Option<&'static str>,
    /// Whether a call to SES began and its end was not recorded.
    pub under_way: bool,
    /// When SES was last asked (RFC 3339).
    pub checked: Option<String>,
    /// What SES showed then, where it differs from `made`: `flowing`, `stopped` or `gone`. It is accepted if the next check
    /// shows the same.
    pub doubted: Option<&'static str>,
    /// Since when the target does not exist at SES (RFC 3339). The desired state is kept in case the target is created again.
    pub gone: Option<String>,
    /// The ses-breaker stack that stopped it, and that must resume it.
    pub stopped_by: Option<String>,
    /// Since when SES refuses it (RFC 3339); `error` says why.
    pub refused: Option<String>,
    /// The number of calls about it that failed in a row.
    pub failures: u32,
    /// The error of the last of them.
    pub error: Option<String>,
    /// The time before which it is not checked again (RFC 3339).
    pub next_look: Option<String>,
    /// The reason for the desired state.
    pub reason: String,
}

/// Whether people should see something about a desired state.
fn is_unfulfilled(desired: &DesiredState) -> bool {
    !desired.is_true() || desired.other.is_some() || desired.doubt.is_some()
}

/// The mail of a subject, or of a subject at one ISP.
#[derive(Clone, Debug, Serialize)]
pub struct Mail {
    /// The subject.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// State of its breaker.
    pub state: StateName,
    /// The last hour with an event (RFC 3339).
    pub heard: Option<String>,
    /// Counters that are not 0, by name.
    #[serde(flatten)]
    pub counters: BTreeMap<&'static str, u64>,
    /// Rates, by metric; null = no data.
    pub rates: BTreeMap<&'static str, Option<f64>>,
    /// The same with numerators and denominators, in the order of [`Metric::ALL`].
    #[serde(skip)]
    pub tallies: [Tally; Metric::ALL.len()],
}

impl Mail {
    /// Units of one kind.
    pub fn count(&self, kind: UnitKind) -> u64 {
        self.counters.get(kind.counter_name()).copied().unwrap_or(0)
    }
}

/// What the gate may grant on one day.
#[derive(Clone, Debug, Serialize)]
pub struct Allowance {
    /// The configuration set.
    pub configuration_set: String,
    /// The ISP.
    pub isp: String,
    /// The day, in the policy's zone (YYYY-MM-DD). If it is over, the next request begins the next day.
    pub day: String,
    /// Mails that may be granted on it, including the reserve for critical mail.
    pub quota: u64,
    /// Mails that were granted and not returned.
    pub granted: u64,
    /// Those of them from the reserve.
    pub critical: u64,
    /// Mails a day after the warm-up.
    pub target: u64,
    /// The result of the quota of the day before: `began`, `grew`, `held`, `warmed`, `shrank`, `trickled`, `followed`,
    /// `decayed`.
    pub step: &'static str,
    /// The reason.
    pub reason: String,
    /// The share that the breakers of set and ISP let through; an identity's breaker may reduce it further.
    pub factor: f64,
    /// The key whose breaker lets the least through, if that is less than everything.
    pub because: Option<String>,
}

/// A notice.
#[derive(Clone, Debug, Serialize)]
pub struct NoticeLine {
    /// When it happened (RFC 3339).
    pub at: String,
    /// The title, on one line.
    pub title: String,
    /// The full text.
    pub text: String,
}

/// Returns the status of the stack, or of one subject.
///
/// # Errors
///
/// The stack has never seen the subject, or AWS refuses.
pub async fn status(access: &Access, subject: Option<&Subject>, now: Now) -> Result<Status, Failure> {
    let known = access.policy().await?;
    let reading = Reading::of(access, &known.policy, subject, now).await.map_err(|error| access.refused(error))?;
    if let Some(subject) = subject
        && !reading.knows(subject)
    {
        let everybody: Vec<String> = reading.directory.keys().map(Subject::to_string).collect();
        let subject = subject.to_string();
        let nearest = suggest(&subject, everybody.iter().map(String::as_str)).into_iter().map(str::to_owned).collect();
        return Err(Failure::UnknownSubject { subject, stack: access.stack.clone(), nearest, forceable: false });
    }
    let policy = &known.policy;
    let parameters = access.reputation(policy).parameters().await.map_err(|error| access.refused(error))?;
    let release = parameters.and_then(|parameters| parameters.version);
    let mut warnings = reading.warnings(&known, now);
    warnings.extend(release.as_deref().and_then(other_release));
    Ok(Status {
        stack: access.stack.clone(),
        region: access.region.clone(),
        at: now.to_string(),
        subject: subject.map(Subject::to_string),
        policy: InUse {
            version: known.version,
            mode: match policy.mode {
                Mode::Act => "act",
                Mode::Shadow => "shadow",
            },
            problem: known.problem.clone(),
        },
        gate: policy.gate_in_use,
        release,
        warnings,
        breakers: reading.breakers(policy, subject, now),
        wishes: reading.unfulfilled(subject),
        since: since(now).start(),
        mail: reading.mail(policy, subject, now),
        quotas: reading.allowances(policy),
        notices: reading.latest_notices(subject),
        unsent: reading.unsent.len(),
        rules: policy.clone(),
    })
}

/// A warning where the functions are of another release than this program.
fn other_release(functions: &str) -> Option<String> {
    let own = crate::VERSION;
    (functions != own).then(|| {
        format!("the stack runs release {functions}, and this program is of {own}; to deploy {own}: ses-breaker up")
    })
}

/// The first hour of the last 24 hours: mail since then is shown.
fn since(now: Now) -> Minute {
    now.minute().minus(DAY).plus(HOUR - 1).hour()
}

/// What was read from the stack.
pub(crate) struct Reading {
    pub(crate) directory: BTreeMap<Subject, Minute>,
    /// By key: the breakers that are not closed, and all breakers of the requested subject.
    pub(crate) breakers: BTreeMap<Key, BreakerState>,
    pub(crate) wishes: Vec<DesiredState>,
    pub(crate) notices: Vec<(Notice, Now)>,
    unsent: Vec<Notice>,
    rates: BTreeMap<Subject, Timeline>,
    /// The reason for a breaker's state, by key.
    reasons: BTreeMap<Key, String>,
    board: std::sync::Arc<Board>,
    quotas: BTreeMap<(String, Isp), Quota>,
}

impl Reading {
    /// Reads what is listed somewhere, without counters.
    pub(crate) async fn without_rates(access: &Access, policy: &Policy, now: Now) -> Result<Reading, PortError> {
        Reading::read(access, policy, None, false, now).await
    }

    /// Reads in two rounds: what is listed somewhere, then the counters of each subject.
    async fn of(access: &Access, policy: &Policy, asked: Option<&Subject>, now: Now) -> Result<Reading, PortError> {
        Reading::read(access, policy, asked, true, now).await
    }

    async fn read(
        access: &Access,
        policy: &Policy,
        asked: Option<&Subject>,
        rates: bool,
        now: Now,
    ) -> Result<Reading, PortError> {
        let store = || access.reputation(policy);
        let (mut board, directory, mut wishes, notices, mut outbox, mut subject_state) =
            (store(), store(), store(), store(), store(), store());
        let of_asked = async {
            Ok(match asked {
                Some(subject) => subject_state.subject_state(subject, now).await?.breakers.clone(),
                None => BTreeMap::new(),
            })
        };
        let (board, directory, wishes, notices, unsent, of_asked) = tokio::try_join!(
            board.board(now),
            directory.directory(),
            wishes.desired_states(),
            notices.notices(NOTICES),
            outbox.unsent(),
            of_asked,
        )?;
        let mut breakers = board.unsettled.clone();
        if let Some(subject) = asked {
            let own = of_asked.into_iter().map(|(isp, known)| (Key { subject: subject.clone(), isp }, known.breaker));
            breakers.extend(own);
        }
        let heard = |subject: &Subject| directory.get(subject).is_some_and(|hour| *hour >= since(now).minus(HOUR));
        let counted: BTreeSet<&Subject> = match asked {
            _ if !rates => BTreeSet::new(),
            // The account is the sum of its configuration sets.
            Some(Subject::Account) | None => directory
                .keys()
                .filter(|known| heard(known) && (asked.is_none() || known.is_part_of_account()))
                .collect(),
            Some(subject) => [subject].into(),
        };
        let reader = store();
        let rates = stream::iter(counted)
            .map(|subject| read_rates(&reader, subject, now))
            .buffer_unordered(READS)
            .try_collect()
            .await?;
        let quotas = read_quotas(access, policy, asked).await?;
        let reasons = BTreeMap::new();
        let mut reading = Reading { breakers, wishes, notices, unsent, rates, reasons, directory, board, quotas };
        reading.find_reasons(&reader, policy).await?;
        Ok(reading)
    }

    async fn find_reasons(&mut self, reader: &DynamoReputation, policy: &Policy) -> Result<(), PortError> {
        let mut missing = Vec::new();
        for (key, known) in &self.breakers {
            let Some(at) = moved(known) else { continue };
            let name = key_name(key, &policy.isp_map);
            // A notice is named by its time and the breaker: see `Notice::of`.
            let prefix = format!("{:013}#{name}#", at.0.max(0));
            match self.notices.iter().find(|(notice, _)| notice.id.starts_with(&prefix)) {
                Some((notice, _)) => drop(self.reasons.insert(key.clone(), reason(notice))),
                None => missing.push((key.clone(), name, at)),
            }
        }
        missing.truncate(LOOKED_FOR);
        let found: Vec<Option<(Key, String)>> = stream::iter(missing)
            .map(|(key, name, at)| async move {
                let notice = reader.notice_of(&name, at).await?;
                Ok::<_, PortError>(notice.map(|notice| (key, reason(&notice))))
            })
            .buffer_unordered(READS)
            .try_collect()
            .await?;
        self.reasons.extend(found.into_iter().flatten());
        Ok(())
    }

    fn knows(&self, subject: &Subject) -> bool {
        *subject == Subject::Account
            || self.directory.contains_key(subject)
            || self.breakers.keys().any(|key| key.subject == *subject)
            || self.wishes.iter().any(|desired| desired.target == *subject)
    }

    pub(crate) fn warnings(&self, known: &aws::policies::Known, now: Now) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(problem) = &known.problem {
            let instead = match known.version {
                0 => "the default".to_owned(),
                version => format!("version {version}"),
            };
            warnings.push(format!("{problem}; {instead} is in use (to fix it: ses-breaker policy push FILE)"));
        }
        match self.directory.values().max() {
            None => warnings.push(
                "no events yet: connect a configuration set (ses-breaker connect NAME) and send a mail".to_owned(),
            ),
            // The directory knows hours only: events of the previous hour may be minutes old.
            Some(last) if last.plus(2 * HOUR) <= now.minute() => warnings.push(format!(
                "no events for {} or more, the last between {} and {} UTC: nothing is sent, or events do not \
                 arrive",
                counted(u64::from((now.minute().0 - last.0) / HOUR - 1), "hour"),
                last,
                last.plus(HOUR),
            )),
            Some(_) => {}
        }
        let late = |notice: &&Notice| now.minutes_since(time_of_notice(notice)) >= LATE_MINUTES;
        if let Some(oldest) = self.unsent.iter().filter(late).min_by_key(|notice| time_of_notice(notice)) {
            warnings.push(format!(
                "the outbox has {} not sent yet, the oldest since {} UTC: check the enforcer's log and its \
                 permission to publish",
                counted(self.unsent.len() as u64, "notice"),
                second_of(time_of_notice(oldest)),
            ));
        }
        let waits = |desired: &&DesiredState| !desired.is_true() && desired.gone.is_none() && desired.other.is_none();
        let stuck = self.wishes.iter().filter(waits).filter(|desired| now.minutes_since(desired.at) >= 10).count();
        if stuck > 0 {
            let requests = if stuck == 1 { "1 request is".to_owned() } else { format!("{stuck} requests are") };
            warnings.push(format!("{requests} not done at SES after 10 minutes or more: check the enforcer's log"));
        }
        warnings
    }

    fn breakers(&self, policy: &Policy, asked: Option<&Subject>, now: Now) -> Vec<Unsettled> {
        let shown = self.breakers.iter().filter(|(key, known)| {
            let overridden = known.overridden != Override::None;
            asked.is_none_or(|asked| key.subject == *asked) && (known.state != State::Closed || overridden)
        });
        let mut breakers: Vec<(u8, Reverse<Option<Now>>, Unsettled)> = shown
            .map(|(key, known)| {
                let whole = if key.isp.is_none() { Some(&key.subject) } else { None };
                let desired = self.wishes.iter().find(|desired| Some(&desired.target) == whole);
                let unsettled = Unsettled {
                    subject: key.subject.to_string(),
                    isp: key.isp.map(|isp| policy.isp_map.name(isp).to_owned()),
                    state: known.shown_state(key),
                    factor: known.state.factor(&policy.breaker).share(),
                    since: moved(known).map(|at| at.to_string()),
                    until: due(&policy.breaker, known, now).map(|until| until.to_string()),
                    hold: known.overridden,
                    switch_at_ses: has_switch(key),
                    trips: known.trips,
                    reason: self.reasons.get(key).cloned().or_else(|| desired.map(|desired| desired.reason.clone())),
                };
                (rank(known.state), Reverse(moved(known)), unsettled)
            })
            .collect();
        breakers.sort_by(|a, b| (a.0, a.1, &a.2.subject).cmp(&(b.0, b.1, &b.2.subject)));
        breakers.into_iter().map(|(_, _, unsettled)| unsettled).collect()
    }

    fn unfulfilled(&self, asked: Option<&Subject>) -> Vec<Unfulfilled> {
        let wishes = self.wishes.iter().filter(|desired| asked.is_none_or(|asked| desired.target == *asked));
        wishes
            .filter(|desired| is_unfulfilled(desired))
            .map(|desired| Unfulfilled {
                target: desired.target.to_string(),
                wish: flow_name(desired.flow),
                since: desired.at.to_string(),
                made: desired.observed.map(flow_name),
                under_way: desired.in_flight.is_some(),
                checked: desired.checked.map(|checked| checked.to_string()),
                doubted: desired.doubt.map(|doubt| seen_name(doubt.seen)),
                gone: desired.gone.map(|gone| gone.to_string()),
                stopped_by: desired.other.as_ref().map(|other| other.stack.clone()),
                refused: desired.trouble.as_ref().and_then(|trouble| trouble.denied).map(|denied| denied.to_string()),
                failures: desired.trouble.as_ref().map_or(0, |trouble| trouble.failures),
                error: desired.trouble.as_ref().map(|trouble| trouble.error.clone()),
                next_look: desired.again.map(|again| again.to_string()),
                reason: desired.reason.clone(),
            })
            .collect()
    }

    fn mail(&self, policy: &Policy, asked: Option<&Subject>, now: Now) -> Vec<Mail> {
        let mut rows: Vec<(Trouble, Mail)> = Vec::new();
        let mut push = |key: Key, counters: Counters, knows_its_mail: bool| {
            let known = self.breakers.get(&key);
            let mail = self.row(policy, &key, counters, knows_its_mail);
            rows.push((trouble(policy, known, &mail), mail));
        };
        let account = || {
            let mut sum = Counters::default();
            let sets = self.rates.iter().filter(|(subject, _)| subject.is_part_of_account());
            sets.for_each(|(_, rates)| sum.merge(&counters(rates, None, now)));
            sum
        };
        let knows = |counters: &Counters| counters.get(UnitKind::Sent) > 0 || counters.get(UnitKind::Delivered) > 0;
        match asked {
            Some(subject) if *subject != Subject::Account => {
                let none = Timeline::default();
                let rates = self.rates.get(subject).unwrap_or(&none);
                for isp in rates.isps() {
                    let key = Key { subject: subject.clone(), isp: Some(isp) };
                    push(key, counters(rates, Some(isp), now), rates.knows_its_mail());
                }
            }
            // The account is the sum of its configuration sets; nothing else was read for it.
            Some(_) | None => {
                for (subject, rates) in &self.rates {
                    let key = Key { subject: subject.clone(), isp: None };
                    push(key, counters(rates, None, now), rates.knows_its_mail());
                }
                // No mail, perhaps because it was stopped before yesterday.
                let silent = self.breakers.iter().filter(|(key, known)| {
                    asked.is_none()
                        && key.isp.is_none()
                        && known.state != State::Closed
                        && !self.rates.contains_key(&key.subject)
                });
                let silent: Vec<Key> = silent.map(|(key, _)| key.clone()).collect();
                silent.into_iter().filter(|key| key.subject != Subject::Account).for_each(|key| {
                    push(key, Counters::default(), false);
                });
            }
        }
        rows.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(std::cmp::Ordering::Equal));
        let mut mail: Vec<Mail> = rows.into_iter().map(|(_, mail)| mail).collect();
        // The whole comes before its parts.
        let whole = match asked {
            Some(subject) if *subject != Subject::Account => {
                self.rates.get(subject).map(|rates| (subject, counters(rates, None, now)))
            }
            Some(_) | None => Some((&Subject::Account, account())),
        };
        if let Some((subject, counters)) = whole {
            let key = Key { subject: subject.clone(), isp: None };
            let knows_its_mail = self.rates.get(subject).map_or(knows(&counters), Timeline::knows_its_mail);
            mail.insert(0, self.row(policy, &key, counters, knows_its_mail));
        }
        mail
    }

    fn row(&self, policy: &Policy, key: &Key, counters: Counters, knows_its_mail: bool) -> Mail {
        let nobody_knows = Tally::default();
        let tallies = Metric::ALL.map(|metric| if knows_its_mail { counters.tally(metric) } else { nobody_knows });
        let counts = UnitKind::ALL.map(|kind| (kind.counter_name(), u64::from(counters.get(kind))));
        Mail {
            subject: key.subject.to_string(),
            isp: key.isp.map(|isp| policy.isp_map.name(isp).to_owned()),
            state: self.breakers.get(key).map_or(State::Closed, |known| known.state).name(),
            heard: self.directory.get(&key.subject).map(|hour| hour.start()),
            counters: counts.into_iter().filter(|(_, count)| *count > 0).collect(),
            rates: Metric::ALL.map(|metric| (metric.name(), tallies[metric as usize].rate())).into(),
            tallies,
        }
    }

    pub(crate) fn allowances(&self, policy: &Policy) -> Vec<Allowance> {
        let allowance = |((set, isp), quota): (&(String, Isp), &Quota)| {
            Some(allowance(policy, policy.warmup.sets.get(set)?, &self.board, set, *isp, quota))
        };
        let mut allowances: Vec<Allowance> = self.quotas.iter().filter_map(allowance).collect();
        allowances.sort_by(|a, b| a.place().cmp(&b.place()));
        allowances
    }

    fn latest_notices(&self, asked: Option<&Subject>) -> Vec<NoticeLine> {
        // `TIME#configuration-set:news@gmail#VERSION`, `TIME#configuration-set:news#WORD`.
        let about = |notice: &Notice, subject: &str| {
            let name = notice.id.split_once('#').and_then(|(_, rest)| rest.rsplit_once('#')).map(|(name, _)| name);
            name.and_then(|name| name.strip_prefix(subject))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
        };
        let asked = asked.map(Subject::to_string);
        let shown = self.notices.iter().filter(|(notice, _)| asked.as_ref().is_none_or(|asked| about(notice, asked)));
        let line = |(notice, at): &(Notice, Now)| NoticeLine {
            at: at.to_string(),
            title: notice.title.clone(),
            text: notice.text.clone(),
        };
        shown.take(SHOWN_NOTICES).map(line).collect()
    }
}

/// What the gate may grant of a quota.
pub(crate) fn allowance(policy: &Policy, plan: &Plan, board: &Board, set: &str, isp: Isp, quota: &Quota) -> Allowance {
    let asker = Asker { set, identity: "", request: "", body: "" };
    let (factor, because) = match flow(policy, plan, board, &asker, isp) {
        Ok(flow) => {
            let because = |because: Because| {
                format!("{} is {}", key_name(&because.key, &policy.isp_map), because.state.word(true))
            };
            (flow.factor.share(), flow.because.map(because))
        }
        // The policy says what the gate grants in that case: by default, bulk mail waits.
        Err(error) => (0.0, Some(error.reason)),
    };
    Allowance {
        configuration_set: set.to_owned(),
        isp: policy.isp_map.name(isp).to_owned(),
        day: NumberedDate(quota.ramp.day).to_string(),
        quota: quota.ramp.quota_under(plan),
        granted: quota.meter.used(),
        critical: quota.meter.critical,
        target: plan.target,
        step: quota.ramp.step.name(),
        reason: quota.ramp.step.to_string(),
        factor,
        because,
    }
}

impl Allowance {
    /// The order: sets by name, in each the largest quota first.
    pub(crate) fn place(&self) -> impl Ord {
        (self.configuration_set.clone(), Reverse(self.quota), self.isp.clone())
    }
}

/// The quotas of the requested configuration set, or of all that the policy names.
pub(crate) async fn read_quotas(
    access: &Access,
    policy: &Policy,
    asked: Option<&Subject>,
) -> Result<BTreeMap<(String, Isp), Quota>, PortError> {
    let shown = |set: &&String| match asked {
        None | Some(Subject::Account) => true,
        Some(Subject::ConfigurationSet(name)) => **name == ***set,
        Some(Subject::Identity(_) | Subject::Tenant(_) | Subject::Tag(..)) => false,
    };
    let store = &access.quotas(policy);
    let sets: Vec<(&String, BTreeMap<Isp, Quota>)> = stream::iter(policy.warmup.sets.keys().filter(shown))
        .map(|set| async move { Ok::<_, PortError>((set, store.quotas(set).await?)) })
        .buffer_unordered(READS)
        .try_collect()
        .await?;
    let of_set = |(set, quotas): (&String, BTreeMap<Isp, Quota>)| {
        let set = set.clone();
        quotas.into_iter().map(move |(isp, quota)| ((set.clone(), isp), quota))
    };
    Ok(sets.into_iter().flat_map(of_set).collect())
}

async fn read_rates(reader: &DynamoReputation, subject: &Subject, now: Now) -> Result<(Subject, Timeline), PortError> {
    let rates = reader.rates(subject, Length::Hour, since(now), Minute(u32::MAX)).await?;
    Ok((subject.clone(), rates))
}

fn counters(rates: &Timeline, isp: Option<Isp>, now: Now) -> Counters {
    rates.series(isp).map(|series| series.sum_since(since(now))).unwrap_or_default()
}

/// When a breaker entered its state.
pub(crate) fn moved(known: &BreakerState) -> Option<Now> {
    match known.state {
        State::Closed => None,
        State::Throttled { moved, .. } => Some(moved),
        State::Open { at, .. } | State::Probing { at } => Some(at),
    }
}

fn rank(state: State) -> u8 {
    match state {
        State::Open { .. } => 0,
        State::Probing { .. } => 1,
        State::Throttled { .. } => 2,
        State::Closed => 3,
    }
}

/// The order of attention; more is worse.
type Trouble = (Reverse<u8>, f64, u64);

/// By the state of the breaker, then by how far the worst rate exceeds its limit, then by how much mail there is. Only the part
/// of a rate beyond chance counts; otherwise one bounce of one mail would outrank a bad list.
fn trouble(policy: &Policy, known: Option<&BreakerState>, mail: &Mail) -> Trouble {
    let worst = Metric::ALL.into_iter().map(|metric| {
        let Tally { population, bad } = mail.tallies[metric as usize];
        let bad = bad as f64;
        (bad - bad.sqrt()) / (population.max(1) as f64) / policy.metrics.rule(metric).limit
    });
    let state = known.map_or(State::Closed, |known| known.state);
    (Reverse(rank(state)), worst.fold(0.0, f64::max), mail.count(UnitKind::Sent))
}

fn time_of_notice(notice: &Notice) -> Now {
    Now(notice.id.split('#').next().and_then(|digits| digits.parse().ok()).unwrap_or(0))
}

/// The reason of a notice; without one, its title.
fn reason(notice: &Notice) -> String {
    Entry::of(notice).map_or_else(|| notice.title.clone(), |entry| entry.why())
}
