//! What is going on in a stack.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use aws::layout::{flow_name, seen_name};
use aws::reputation::DynamoReputation;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pipeline::enforce::{DesiredState, DesiredStates as _};
use pipeline::notice::{Notice, Outbox as _, key_name};
use pipeline::ports::{Board, PortError, Reputation as _};
use pipeline::quotas::{Asker, Quota, Quotas as _, flow};
use replay::cli::suggest::suggest;
use replay::text::{TermStyle, counted};
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

use crate::command::has_switch;
use crate::failure::Failure;
use crate::notice_history::Entry;
use crate::{Access, Answer, Exit, text};

/// So many subjects are read at a time.
const READS: usize = 16;
/// So many of the last notices are read: they tell why a breaker is as it is.
const NOTICES: i32 = 100;
/// So many of them are shown.
const SHOWN_NOTICES: usize = 5;
/// Of so many breakers whose last notice is not among those, it is looked for.
const LOOKED_FOR: usize = 50;
/// A notice that waits longer than this in the outbox does not get out.
const LATE_MINUTES: u32 = 2;

/// What is going on.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Name of the stack.
    pub stack: String,
    /// Its Region.
    pub region: String,
    /// When this was read (RFC 3339).
    pub at: String,
    /// The only one it is about; null = all.
    pub subject: Option<String>,
    /// The policy in use.
    pub policy: InUse,
    /// Whether an application asks the gate: without, a cut of a quota holds nothing back.
    pub gate: bool,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// The breakers that are not closed, or that a person overrides, the worst first.
    pub breakers: Vec<Unsettled>,
    /// What SES is wished to do and, when last asked, did not, or does because of another stack.
    pub wishes: Vec<Unfulfilled>,
    /// Mail that SES accepted since this hour began (RFC 3339) is counted in `mail`.
    pub since: String,
    /// Who has sent mail since, or has a breaker that is not closed; the most troubled first. With a subject: all its
    /// mail, then each ISP; with the account: each configuration set.
    pub mail: Vec<Mail>,
    /// What the gate may grant today, for each configuration set that asks it and each ISP that it was asked about.
    pub quotas: Vec<Allowance>,
    /// The last notices, the newest first.
    pub notices: Vec<NoticeLine>,
    /// Notices that are not sent yet; at most a hundred are looked at.
    pub unsent: usize,
}

/// The policy in use.
#[derive(Clone, Debug, Serialize)]
pub struct InUse {
    /// 0 is the built-in default.
    pub version: u64,
    /// `act` or `shadow`.
    pub mode: &'static str,
    /// Why it is not the current one, if it is not.
    pub problem: Option<String>,
}

/// A breaker that is not closed, or that a person overrides. States and `hold` are stable names, for programs.
#[derive(Clone, Debug, Serialize)]
pub struct Unsettled {
    /// Whose.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// Its state.
    pub state: StateName,
    /// Share of the quota that may be sent.
    pub factor: f64,
    /// ArmedSince when (RFC 3339); for a throttled one, since its share last changed.
    pub since: Option<String>,
    /// When it will be looked at even if nothing happens (RFC 3339): an open one lets probes through, a throttled one is
    /// raised, a probe ends. Null waits for a person.
    pub until: Option<String>,
    /// What a person has said about it.
    pub hold: Override,
    /// Whether SES has a switch for it; what has none is held by the gate alone.
    pub switch_at_ses: bool,
    /// How often it has opened since it was last forgiven.
    pub trips: u32,
    /// Why, as people were told.
    pub reason: Option<String>,
}

/// A wish that is not true yet.
#[derive(Clone, Debug, Serialize)]
pub struct Unfulfilled {
    /// What SES is to stop or let flow.
    pub target: String,
    /// `flowing` or `stopped`.
    pub wish: &'static str,
    /// ArmedSince when (RFC 3339).
    pub since: String,
    /// What was last made or seen.
    pub made: Option<&'static str>,
    /// Whether a call of SES was begun and not seen to end.
    pub under_way: bool,
    /// When SES was last asked (RFC 3339).
    pub checked: Option<String>,
    /// What SES said then against `made`: `flowing`, `stopped` or `gone`. It is believed if the next look says the same.
    pub doubted: Option<&'static str>,
    /// ArmedSince when SES does not know the target (RFC 3339). The wish is kept in case that it is made anew.
    pub gone: Option<String>,
    /// The ses-breaker stack whose stop it is; it is left to that one.
    pub stopped_by: Option<String>,
    /// ArmedSince when SES refuses it (RFC 3339); `error` says why.
    pub refused: Option<String>,
    /// How many calls about it failed in a row.
    pub failures: u32,
    /// What the last of them said.
    pub error: Option<String>,
    /// It is not looked at before (RFC 3339).
    pub next_look: Option<String>,
    /// Why it is wished.
    pub reason: String,
}

/// Whether there is something about a wish that people should see.
fn is_unfulfilled(wished: &DesiredState) -> bool {
    !wished.is_true() || wished.other.is_some() || wished.doubt.is_some()
}

/// The mail of a subject, or of a subject at one ISP.
#[derive(Clone, Debug, Serialize)]
pub struct Mail {
    /// Whose.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// State of its breaker.
    pub state: StateName,
    /// The last hour in which it was heard of (RFC 3339).
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
    /// The day, in the policy's zone (YYYY-MM-DD). If it is over, whoever asks first begins the next.
    pub day: String,
    /// Mails that may be granted on it, the reserve for critical mail included.
    pub quota: u64,
    /// Mails that were granted and not given back.
    pub granted: u64,
    /// Of those, mails of the reserve.
    pub critical: u64,
    /// Mails a day at which it is warmed up.
    pub target: u64,
    /// What became of the quota of the day before: `began`, `grew`, `held`, `warmed`, `shrank`, `trickled`, `followed`, `decayed`.
    pub step: &'static str,
    /// Why, in words.
    pub reason: String,
    /// The share that the breakers of set and ISP let through; an identity's may let less.
    pub factor: f64,
    /// The key whose breaker lets least through, if it is less than everything.
    pub because: Option<String>,
}

/// A notice.
#[derive(Clone, Debug, Serialize)]
pub struct NoticeLine {
    /// When what it tells of was (RFC 3339).
    pub at: String,
    /// In a line.
    pub title: String,
    /// In full.
    pub text: String,
}

/// Tells what is going on, or what is with one subject.
///
/// # Errors
///
/// Nobody ever heard of the subject, or AWS refuses.
pub async fn status(access: &Access, subject: Option<&Subject>, now: Now, look: TermStyle) -> Result<Answer, Failure> {
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
    let status = Status {
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
        warnings: reading.warnings(&known, now),
        breakers: reading.breakers(policy, subject, now),
        wishes: reading.unfulfilled(subject),
        since: since(now).start(),
        mail: reading.mail(policy, subject, now),
        quotas: reading.allowances(policy),
        notices: reading.reported(subject),
        unsent: reading.unsent.len(),
    };
    Ok(Answer::new(text::status(&status, policy, look), &status, Exit::Done))
}

/// The hour that began a day ago or less: the mail since then is shown.
fn since(now: Now) -> Minute {
    now.minute().minus(DAY).plus(HOUR - 1).hour()
}

/// What was read of the stack.
pub(crate) struct Reading {
    pub(crate) directory: BTreeMap<Subject, Minute>,
    /// By key: of everybody the ones that are not closed, and all of the subject that was asked for.
    pub(crate) breakers: BTreeMap<Key, BreakerState>,
    pub(crate) wishes: Vec<DesiredState>,
    pub(crate) notices: Vec<(Notice, Now)>,
    unsent: Vec<Notice>,
    rates: BTreeMap<Subject, Timeline>,
    /// Why a breaker is as it is, by key.
    reasons: BTreeMap<Key, String>,
    board: std::sync::Arc<Board>,
    quotas: BTreeMap<(String, Isp), Quota>,
}

impl Reading {
    /// Reads what is listed somewhere, and nobody's counters.
    pub(crate) async fn without_rates(access: &Access, policy: &Policy, now: Now) -> Result<Reading, PortError> {
        Reading::read(access, policy, None, false, now).await
    }

    /// Reads what there is in two rounds: what is listed somewhere, then the counters of each subject.
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
            wishes.wishes(),
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
            || self.wishes.iter().any(|wished| wished.target == *subject)
    }

    pub(crate) fn warnings(&self, known: &aws::policies::Known, now: Now) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(problem) = &known.problem {
            let instead = match known.version {
                0 => "the default".to_owned(),
                version => format!("version {version}"),
            };
            warnings.push(format!("{problem}; {instead} is in use (ses-breaker policy push FILE puts it right)"));
        }
        match self.directory.values().max() {
            None => warnings.push(
                "no event was ever heard of: connect a configuration set (ses-breaker connect NAME) and send a mail"
                    .to_owned(),
            ),
            // The directory tells hours only: what was heard of in the hour before this one may be minutes old.
            Some(last) if last.plus(2 * HOUR) <= now.minute() => warnings.push(format!(
                "no event was heard of for {} or more, the last between {} and {} UTC: nothing is sent, or events do not \
                 arrive",
                counted(u64::from((now.minute().0 - last.0) / HOUR - 1), "hour"),
                text::minute_of(*last),
                text::minute_of(last.plus(HOUR)),
            )),
            Some(_) => {}
        }
        let late = |notice: &&Notice| now.minutes_since(time_of_notice(notice)) >= LATE_MINUTES;
        if let Some(oldest) = self.unsent.iter().filter(late).min_by_key(|notice| time_of_notice(notice)) {
            warnings.push(format!(
                "the outbox has {} not sent yet, the oldest since {} UTC: look at the enforcer's log, and at its \
                 permission to publish",
                counted(self.unsent.len() as u64, "notice"),
                text::second_of(time_of_notice(oldest)),
            ));
        }
        let waits = |wished: &&DesiredState| !wished.is_true() && wished.gone.is_none() && wished.other.is_none();
        let stuck = self.wishes.iter().filter(waits).filter(|wished| now.minutes_since(wished.at) >= 10).count();
        if stuck > 0 {
            let wishes = if stuck == 1 { "a wish is".to_owned() } else { format!("{stuck} wishes are") };
            warnings.push(format!("{wishes} not true at SES after 10 minutes and more: look at the enforcer's log"));
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
                let wished = self.wishes.iter().find(|wished| Some(&wished.target) == whole);
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
                    reason: self.reasons.get(key).cloned().or_else(|| wished.map(|wished| wished.reason.clone())),
                };
                (rank(known.state), Reverse(moved(known)), unsettled)
            })
            .collect();
        breakers.sort_by(|a, b| (a.0, a.1, &a.2.subject).cmp(&(b.0, b.1, &b.2.subject)));
        breakers.into_iter().map(|(_, _, unsettled)| unsettled).collect()
    }

    fn unfulfilled(&self, asked: Option<&Subject>) -> Vec<Unfulfilled> {
        let wishes = self.wishes.iter().filter(|wished| asked.is_none_or(|asked| wished.target == *asked));
        wishes
            .filter(|wished| is_unfulfilled(wished))
            .map(|wished| Unfulfilled {
                target: wished.target.to_string(),
                wish: flow_name(wished.wish),
                since: wished.at.to_string(),
                made: wished.made.map(flow_name),
                under_way: wished.intent.is_some(),
                checked: wished.checked.map(|checked| checked.to_string()),
                doubted: wished.doubt.map(|doubt| seen_name(doubt.seen)),
                gone: wished.gone.map(|gone| gone.to_string()),
                stopped_by: wished.other.as_ref().map(|other| other.stack.clone()),
                refused: wished.trouble.as_ref().and_then(|trouble| trouble.denied).map(|denied| denied.to_string()),
                failures: wished.trouble.as_ref().map_or(0, |trouble| trouble.failures),
                error: wished.trouble.as_ref().map(|trouble| trouble.error.clone()),
                next_look: wished.again.map(|again| again.to_string()),
                reason: wished.reason.clone(),
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
            // The account is the sum of its configuration sets, and nothing else was read for it.
            Some(_) | None => {
                for (subject, rates) in &self.rates {
                    let key = Key { subject: subject.clone(), isp: None };
                    push(key, counters(rates, None, now), rates.knows_its_mail());
                }
                // Stopped since before yesterday, perhaps: that is why there is no mail.
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

    fn reported(&self, asked: Option<&Subject>) -> Vec<NoticeLine> {
        // `TIME#configuration-set:news@gmail#VERSION`, `TIME#configuration-set:news#WORD`.
        let about = |notice: &Notice, subject: &str| {
            let name = notice.id.split_once('#').and_then(|(_, rest)| rest.rsplit_once('#')).map(|(name, _)| name);
            name.and_then(|name| name.strip_prefix(subject))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
        };
        let asked = asked.map(Subject::to_string);
        let shown = self.notices.iter().filter(|(notice, _)| asked.as_ref().is_none_or(|asked| about(notice, asked)));
        let reported = |(notice, at): &(Notice, Now)| NoticeLine {
            at: at.to_string(),
            title: notice.title.clone(),
            text: notice.text.clone(),
        };
        shown.take(SHOWN_NOTICES).map(reported).collect()
    }
}

/// What the gate may grant of a quota.
pub(crate) fn allowance(policy: &Policy, plan: &Plan, board: &Board, set: &str, isp: Isp, quota: &Quota) -> Allowance {
    let asker = Asker { set, identity: "", request: "" };
    let (factor, because) = match flow(policy, plan, board, &asker, isp) {
        Ok(flow) => {
            let because = |because: Because| {
                format!("{} is {}", key_name(&because.key, &policy.isp_map), because.state.word(true))
            };
            (flow.factor.share(), flow.because.map(because))
        }
        // The policy says what the gate grants then: bulk mail waits, by default.
        Err(error) => (0.0, Some(error.reason)),
    };
    Allowance {
        configuration_set: set.to_owned(),
        isp: policy.isp_map.name(isp).to_owned(),
        day: NumberedDate(quota.ramp.day).to_string(),
        quota: quota.ramp.quota,
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
    /// Sets by their names, the largest quota of each first.
    pub(crate) fn place(&self) -> impl Ord {
        (self.configuration_set.clone(), Reverse(self.quota), self.isp.clone())
    }
}

/// The quotas of the configuration set that was asked for, or of all that the policy names.
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

/// When a breaker came to be where it is.
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

/// How much people should care; more is worse.
type Trouble = (Reverse<u8>, f64, u64);

/// By the state of the breaker, then by how far the worst rate is beyond its limit, then by how much mail there is. Of a
/// rate, only what is beyond chance counts, or one bounce of one mail would be worse than a bad list.
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

/// Why, as a notice says; else its title.
fn reason(notice: &Notice) -> String {
    Entry::of(notice).map_or_else(|| notice.title.clone(), |entry| entry.why())
}
