//! Drills: test a live stack from end to end, with mail to the SES mailbox simulator.
//!
//! A drill creates a configuration set of its own, connects it, and sends mail with it to SES's mailbox simulator, most of
//! which bounces. The events take the path of all others, and count for that set only ([`Subject::is_drill`]): its breaker
//! opens by verdict, SES stops it, people are notified. Then the drill resumes it as a person does, and deletes what it
//! created.
//!
//! **With a gate**, the breaker that opens is that of the set at one ISP, for which SES has no switch. Then the drill stops
//! the set as a person would, and reports that.
//!
//! **Invariant:** a leg passes only if its effect was read back, from the table or from SES.
//! **Invariant:** once something may have been created, cleaning up is tried however the drill ends, and what remains is listed
//! with the command that removes it.
//! **Invariant:** no real mail is sent, counted or stopped: everything belongs to the drill's own configuration set.

use std::time::Duration;

use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message, SendingOptions};
use pipeline::control::Flow;
use pipeline::notice::Outbox as _;
use pipeline::ports::DesiredStates as _;
use pipeline::ports::{Disposition, PortError, Reputation as _, Saved};
use reputation::address::Address;
use reputation::breaker::State;
use reputation::isp::Isp;
use reputation::judge::{ArmedSince, Judge};
use reputation::policy::{Mode, Policy};
use reputation::subject::Subject;
use reputation::time::{Minute, Now};
use reputation::timeline::Timeline;
use reputation::unit::UnitKind;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::asking::{Asking, Confirmed, Question};
use crate::command::{self, CommandRequest, OperatorCommand};
use crate::connect::{Became, Ses, SesError, connect_set, events_topic};
use crate::failure::Failure;
use crate::obey::{self, Obeyed};
use crate::{Access, Exit, notice_history};

/// Addresses of the mailbox simulator ("Using the Amazon SES mailbox simulator", SES Developer Guide).
const SUCCESS: &str = "success@simulator.amazonses.com";
const BOUNCE: &str = "bounce@simulator.amazonses.com";

/// Mails that are delivered: they show that bounces are not the only events that are counted.
const DELIVERED: u32 = 2;
/// A policy that needs more bounces than this to stop a set is not tested: each mail takes a second, and costs.
const MAX_BOUNCES: u32 = 100;

/// Interval between two checks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Interval between two mails that SES should refuse: SES shows a stop before it takes effect.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// SES recognises a new configuration set with a delay.
const UNKNOWN_TRIES: u32 = 15;
/// How long cleaning up waits for SES to resume the set.
const CLEANING: Duration = Duration::from_secs(60);
/// How long cleaning up waits for events that may still arrive.
const LATE_EVENTS: Duration = Duration::from_secs(30);

/// The options of a drill.
#[derive(Clone, Debug)]
pub struct Order {
    /// The sender's address; a verified identity must cover it.
    pub from: String,
    /// How long each leg waits, at most.
    pub wait: Duration,
}

/// One leg of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The scratch configuration set exists, and its events reach the stack.
    Connect,
    /// SES accepts the mails.
    Send,
    /// Their events are counted in the table.
    Count,
    /// The breaker opens by verdict.
    Open,
    /// SES shows that the set may not send.
    Stop,
    /// SES refuses a mail.
    Refuse,
    /// The alert has left the outbox.
    Alert,
    /// A person's resume: SES shows that the set may send.
    Resume,
    /// Nothing is left behind.
    CleanUp,
}

impl Step {
    /// The legs before cleaning up, in order.
    const LEGS: [Step; 8] =
        [Step::Connect, Step::Send, Step::Count, Step::Open, Step::Stop, Step::Refuse, Step::Alert, Step::Resume];

    /// Its name in the output.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Step::Connect => "set connected",
            Step::Send => "mails sent",
            Step::Count => "events counted",
            Step::Open => "stop decided",
            Step::Stop => "stopped at SES",
            Step::Refuse => "mail refused",
            Step::Alert => "alert sent",
            Step::Resume => "resumed at SES",
            Step::CleanUp => "cleaned up",
        }
    }
}

/// How a leg ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Its effect was read back.
    Passed,
    /// Its effect did not appear in time, or was refused.
    Failed,
    /// The drill was interrupted.
    Interrupted,
    /// A leg before it did not pass.
    NotReached,
}

/// The result of one leg.
#[derive(Clone, Debug, Serialize)]
pub struct Leg {
    /// The leg.
    pub leg: Step,
    /// The result.
    pub result: Ended,
    /// How long it took, in seconds to one decimal; null if it was not reached.
    pub seconds: Option<f64>,
    /// What was seen, or why it failed.
    pub seen: String,
    /// What to do about it, in sentences that may end with a command.
    pub remedy: Vec<String>,
}

/// Something that cleaning up did not remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// The thing, and why it remains.
    pub what: String,
    /// The command that removes it.
    pub command: String,
}

/// The report of a drill. It contains no address.
#[derive(Clone, Debug, Serialize)]
pub struct Drill {
    /// Version of this command line.
    pub version: &'static str,
    /// Name of the stack.
    pub stack: String,
    /// Its Region.
    pub region: String,
    /// When it began (RFC 3339).
    pub at: String,
    /// Version of the policy in use; 0 is the default.
    pub policy: u64,
    /// The mode of that policy: `act`, `shadow`. A drill's set is acted on either way.
    pub mode: &'static str,
    /// The scratch configuration set.
    pub configuration_set: String,
    /// Mails that SES accepted.
    pub mails: u64,
    /// Seconds, from the first leg to the last.
    pub seconds: f64,
    /// Whether all legs passed.
    pub passed: bool,
    /// Each leg, in order.
    pub legs: Vec<Leg>,
    /// What cleaning up did not remove.
    pub left: Vec<Left>,
    /// The exit code.
    #[serde(skip)]
    pub exit: Exit,
}

/// Tests a stack; `interrupted` completes when the drill should end early.
///
/// # Errors
///
/// Nothing was created if the stack does not exist, no verified identity covers the sender, the policy needs too many mails, or
/// the answer was not yes. A later failure is in the answer.
pub async fn drill(
    access: &Access,
    order: &Order,
    now: Now,
    asking: &Asking<'_>,
    interrupted: impl Future<Output = ()>,
) -> Result<Drill, Failure> {
    (asking.progress)(0, 0, "asking AWS");
    events_topic(access).await?;
    let known = access.policy().await?;
    let bounces = bounces_needed(&known.policy, now)?;
    let mut ses = Ses::new(access);
    check_verified(access, &mut ses, &order.from).await?;
    check_confirmed(bounces + DELIVERED, asking)?;
    let mut run = Run {
        access,
        order,
        asking,
        policy: &known.policy,
        set: set_name(now),
        bounces,
        begun: Instant::now(),
        now,
        ses,
        under_way: None,
        legs: Vec::new(),
        may_exist: false,
        accepted: 0,
        probes: 0,
        at_isp: None,
        refused: false,
    };
    let ended = tokio::select! {
        // If both are ready, the finished work wins.
        biased;
        ended = run.all() => ended,
        () = interrupted => Err(Broken::Interrupted),
    };
    if let Err(broken) = ended {
        run.fail(broken);
    }
    let left = run.clean_up().await;
    let passed = run.legs.iter().all(|leg| leg.result == Ended::Passed);
    let exit = match (passed, run.refused) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Refused,
        (false, false) => Exit::No,
    };
    Ok(Drill {
        version: env!("CARGO_PKG_VERSION"),
        stack: access.stack.clone(),
        region: access.region.clone(),
        at: now.to_string(),
        policy: known.version,
        mode: match known.policy.mode {
            Mode::Act => "act",
            Mode::Shadow => "shadow",
        },
        configuration_set: run.set,
        mails: run.accepted,
        seconds: tenths(run.begun.elapsed()),
        passed,
        legs: run.legs,
        left,
        exit,
    })
}

/// The name of a drill's set: drills at different seconds have different sets.
fn set_name(now: Now) -> String {
    // 2026-11-27T06:30:12.345Z
    let stamp = now.to_string();
    let digits: String = stamp.chars().take(19).filter(|c| c.is_ascii_alphanumeric()).collect();
    format!("{}{}", Subject::DRILL, digits.to_ascii_lowercase())
}

/// The number of bounces that open the breaker of a new set, beside [`DELIVERED`] mails that arrive: whether they are accepted
/// in one minute or each in its own, and whether the breaker is the set's or, with a gate, that at the simulator's ISP. Plus
/// one, because a minute may end in between.
///
/// # Errors
///
/// A drill would need more than it sends, or no number of bounces opens it.
fn bounces_needed(policy: &Policy, now: Now) -> Result<u32, Failure> {
    let first = |isp: Option<Isp>| {
        let policy = policy.clone().in_world(isp.is_some());
        (1..=MAX_BOUNCES).find(|bounces| [false, true].iter().all(|spread| opens(&policy, isp, *bounces, *spread, now)))
    };
    let needed = [None, Some(Isp::OTHER)].into_iter().filter_map(first).max();
    needed.map(|bounces| bounces + 1).ok_or(Failure::TooManyBounces { most: MAX_BOUNCES })
}

fn opens(policy: &Policy, isp: Option<Isp>, bounces: u32, spread: bool, now: Now) -> bool {
    let mut timeline = Timeline::default();
    for mail in 0..DELIVERED + bounces {
        let outcome = if mail < DELIVERED { UnitKind::Delivered } else { UnitKind::HardBounce };
        let minute = if spread { now.minute().minus(DELIVERED + bounces - mail) } else { now.minute() };
        for kind in [UnitKind::Sent, outcome] {
            timeline.add(minute, Isp::OTHER, kind, 1, false, now);
        }
    }
    Judge::new(policy, isp, &[], now).judgement(&mut timeline, ArmedSince::default()).pause.is_some()
}

/// Checks that SES has verified the address, its domain, or a parent domain.
async fn check_verified(access: &Access, ses: &mut Ses, from: &str) -> Result<(), Failure> {
    let unknown = |unverified| Failure::NotVerified { unverified, region: access.region.clone() };
    let domain = Address::parse(from).map_err(|_| unknown(None))?.domain().to_owned();
    let labels: Vec<&str> = domain.split('.').collect();
    let domains = (0..labels.len().saturating_sub(1)).map(|first| labels[first..].join("."));
    let mut unverified = None;
    for identity in std::iter::once(from.to_owned()).chain(domains) {
        let client = ses.client.clone();
        let call = || client.get_email_identity().email_identity(&identity).send();
        match ses.call("asking SES for the identity", call).await {
            Ok(found) if found.verified_for_sending_status() => return Ok(()),
            // Addresses are not printed.
            Ok(_) => {
                unverified = unverified.or(Some(if identity == from { "the address".to_owned() } else { identity }))
            }
            Err(SesError::Missing) => {}
            Err(SesError::Other(error)) => return Err(access.refused(error)),
        }
    }
    Err(unknown(unverified))
}

fn check_confirmed(mails: u32, asking: &Asking<'_>) -> Result<(), Failure> {
    match (asking.confirm)(&Question::Drill { mails }) {
        Confirmed::Yes => Ok(()),
        Confirmed::No => Err(Failure::Declined),
        Confirmed::Nobody => Err(Failure::UnconfirmedDrill { mails }),
    }
}

/// Why the legs ended early.
enum Broken {
    /// The effect did not appear; with what to do about it.
    Not(String, Vec<String>),
    /// AWS refused, or could not be reached.
    Aws(Failure),
    Interrupted,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Broken {
        Broken::Aws(failure)
    }
}

/// A running drill.
struct Run<'a> {
    access: &'a Access,
    order: &'a Order,
    asking: &'a Asking<'a>,
    policy: &'a Policy,
    set: String,
    bounces: u32,
    begun: Instant,
    /// The start, as the stack's clock.
    now: Now,
    ses: Ses,
    /// The current leg, and its start.
    under_way: Option<(Step, Instant)>,
    legs: Vec<Leg>,
    /// The set may have been created.
    may_exist: bool,
    /// Mails that SES accepted.
    accepted: u64,
    /// The mails among them that it should have refused.
    probes: u64,
    /// The breaker that opened, if it is not that of the set as a whole.
    at_isp: Option<Isp>,
    /// Whether AWS refused.
    refused: bool,
}

impl Run<'_> {
    async fn all(&mut self) -> Result<(), Broken> {
        for step in Step::LEGS {
            self.under_way = Some((step, Instant::now()));
            self.show(step.title());
            let seen = match step {
                Step::Connect => self.connect().await,
                Step::Send => self.send_all().await,
                Step::Count => self.counted().await,
                Step::Open => self.opened().await,
                Step::Stop => self.stopped().await,
                Step::Refuse => self.refuses().await,
                Step::Alert => self.alerted().await,
                Step::Resume => self.resumed().await,
                Step::CleanUp => Ok(String::new()),
            }?;
            self.end(Ended::Passed, seen, Vec::new());
        }
        Ok(())
    }

    fn now(&self) -> Now {
        let passed = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        Now(self.now.0.saturating_add(passed))
    }

    fn subject(&self) -> Subject {
        Subject::ConfigurationSet(self.set.as_str().into())
    }

    fn show(&self, what: &str) {
        (self.asking.progress)(self.legs.len(), Step::LEGS.len() + 1, what);
    }

    /// Ends the current leg.
    fn end(&mut self, result: Ended, seen: String, remedy: Vec<String>) {
        let Some((leg, begun)) = self.under_way.take() else { return };
        // Some errors of SES contain the sender's address.
        let seen = seen.replace(&self.order.from, "FROM");
        self.legs.push(Leg { leg, result, seconds: Some(tenths(begun.elapsed())), seen, remedy });
    }

    fn fail(&mut self, broken: Broken) {
        match broken {
            Broken::Not(seen, remedy) => self.end(Ended::Failed, seen, remedy),
            Broken::Interrupted => self.end(Ended::Interrupted, "interrupted".to_owned(), Vec::new()),
            Broken::Aws(failure) => {
                self.refused = failure.exit() == Exit::Refused;
                let remedy = Some(failure.remedy()).filter(|remedy| !remedy.is_empty());
                self.end(Ended::Failed, failure.to_string(), remedy.into_iter().collect());
            }
        }
        for leg in Step::LEGS.into_iter().skip(self.legs.len()) {
            self.legs.push(Leg {
                leg,
                result: Ended::NotReached,
                seconds: None,
                seen: String::new(),
                remedy: Vec::new(),
            });
        }
    }

    /// Checks until there is something to return, or the leg's time is over; then fails with what was seen last.
    async fn until<T>(
        &mut self,
        mut check: impl AsyncFnMut(&mut Self) -> Result<Result<T, String>, Broken>,
        remedy: &[&str],
    ) -> Result<T, Broken> {
        let begun = Instant::now();
        loop {
            let seen = match check(self).await? {
                Ok(found) => return Ok(found),
                Err(seen) => seen,
            };
            self.show(&seen);
            if begun.elapsed() + INTERVAL > self.order.wait {
                let seconds = begun.elapsed().as_secs();
                let remedy = remedy.iter().map(|line| (*line).to_owned()).collect();
                return Err(Broken::Not(format!("not within {seconds} s: {seen}"), remedy));
            }
            sleep(INTERVAL).await;
        }
    }

    fn aws(&self, error: PortError) -> Broken {
        Broken::Aws(self.access.refused(error))
    }

    async fn connect(&mut self) -> Result<String, Broken> {
        self.may_exist = true;
        let (client, set) = (self.ses.client.clone(), self.set.clone());
        let sending = SendingOptions::builder().sending_enabled(true).build();
        let call = || {
            let request = client.create_configuration_set().configuration_set_name(&set);
            request.sending_options(sending.clone()).send()
        };
        match self.ses.call("creating a configuration set", call).await {
            Ok(_) => {}
            Err(SesError::Missing) => {
                return Err(Broken::Not("SES does not show the set after creating it".to_owned(), Vec::new()));
            }
            Err(SesError::Other(error)) => {
                // A refused set was not created; an existing one belongs to another drill.
                self.may_exist = error.disposition == Disposition::Retry;
                return Err(self.aws(error));
            }
        }
        for _ in 0..UNKNOWN_TRIES {
            let connected = connect_set(self.access, &mut self.ses, &set).await?;
            match connected.became {
                Became::Created | Became::Unchanged | Became::Updated { .. } => {
                    return Ok("the set was created, and its events reach the stack".to_owned());
                }
                // SES does not show it yet.
                Became::Missing { .. } => sleep(INTERVAL).await,
                Became::Failed { reason } => return Err(Broken::Not(reason, Vec::new())),
            }
        }
        Err(Broken::Not(
            "SES does not show the set after creating it".to_owned(),
            vec!["Try again in a minute.".to_owned()],
        ))
    }

    async fn send_all(&mut self) -> Result<String, Broken> {
        let all = DELIVERED + self.bounces;
        for mail in 0..all {
            self.show(&format!("mail {} of {all}", mail + 1));
            let to = if mail < DELIVERED { SUCCESS } else { BOUNCE };
            if !self.is_accepted(to).await? {
                self.bounces = mail - DELIVERED;
                break;
            }
        }
        let early = if DELIVERED + self.bounces < all { "; then the breaker was open" } else { "" };
        Ok(format!(
            "SES accepted {DELIVERED} mails to success@ and {} to bounce@ of its mailbox simulator{early}",
            self.bounces
        ))
    }

    /// Whether SES accepts a mail. It refuses only if the set is already stopped: a fast stack may stop it before all mails are
    /// sent.
    async fn is_accepted(&mut self, to: &str) -> Result<bool, Broken> {
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.send(to).await {
                Ok(()) => return Ok(true),
                Err(error) => error,
            };
            let (why, unknown) = match error {
                SesError::Missing => ("SES does not recognise the new configuration set".to_owned(), true),
                SesError::Other(error) if error.disposition == Disposition::Quarantine => {
                    let unknown = error.reason.contains("does not exist");
                    (format!("SES refuses a mail: {}", error.reason), unknown)
                }
                SesError::Other(error) => return Err(self.aws(error)),
            };
            if unknown && tries < UNKNOWN_TRIES {
                continue;
            }
            if self.accepted > u64::from(DELIVERED) && self.open_at().await?.is_ok() {
                return Ok(false);
            }
            let remedy = "To check the account and its identities: ses-breaker doctor".to_owned();
            return Err(Broken::Not(why, vec![remedy]));
        }
    }

    async fn send(&mut self, to: &str) -> Result<(), SesError> {
        let text = |text: &str| Content::builder().data(text).build().map_err(unbuilt);
        let body = "ses-breaker drill: Sent to SES's mailbox simulator.";
        let body = Body::builder().text(text(body)?).build();
        let message = Message::builder().subject(text("ses-breaker drill")?).body(body).build();
        let content = EmailContent::builder().simple(message).build();
        let (client, set, from) = (self.ses.client.clone(), self.set.clone(), self.order.from.clone());
        let call = || {
            let to = Destination::builder().to_addresses(to).build();
            let request = client.send_email().configuration_set_name(&set).from_email_address(&from);
            request.destination(to).content(content.clone()).send()
        };
        self.ses.call("sending a mail", call).await?;
        self.accepted += 1;
        Ok(())
    }

    /// The counts in the table: mails sent, delivered, hard bounces.
    async fn counts(&self) -> Result<[u32; 3], Broken> {
        let mut store = self.access.reputation(self.policy);
        let subject_state = store.subject_state(&self.subject(), self.now()).await.map_err(|error| self.aws(error))?;
        let counters =
            subject_state.timeline.series(None).map(|series| series.sum_since(Minute(0))).unwrap_or_default();
        Ok([UnitKind::Sent, UnitKind::Delivered, UnitKind::HardBounce].map(|kind| counters.get(kind)))
    }

    /// Waits until the events of all mails are in the counters of the set.
    async fn counted(&mut self) -> Result<String, Broken> {
        let (mails, bounces) = (DELIVERED + self.bounces, self.bounces);
        let mut first = None;
        let begun = Instant::now();
        let check = async |run: &mut Self| {
            let [sent, delivered, bounced] = run.counts().await?;
            if sent + delivered + bounced > 0 {
                first.get_or_insert_with(|| begun.elapsed());
            }
            let seen = format!(
                "of {mails} mails, the table counts {sent} sent, {delivered} delivered, {bounced} hard bounces"
            );
            let all = sent >= mails && delivered >= DELIVERED && bounced >= bounces;
            Ok(if all { Ok(seen) } else { Err(seen) })
        };
        let remedy = [
            "To check each link from SES to the table: ses-breaker doctor",
            "Functions of a release without drills count no mail to the simulator: deploy the stack from this release.",
        ];
        let seen = self.until(check, &remedy).await?;
        let first = first.map(tenths).unwrap_or_default();
        Ok(format!("{seen}; the first event was seen {first:.1} s after the last mail was accepted"))
    }

    /// The set's breaker that is open; if none is, the state of the breaker of the whole set.
    async fn open_at(&self) -> Result<Result<Option<Isp>, String>, Broken> {
        let mut store = self.access.reputation(self.policy);
        let subject_state = store.subject_state(&self.subject(), self.now()).await.map_err(|error| self.aws(error))?;
        let is_open = |isp: &Option<Isp>| matches!(subject_state.breaker(*isp).breaker.state, State::Open { .. });
        // The whole comes first.
        let open = subject_state.breakers.keys().copied().find(is_open);
        Ok(open.ok_or_else(|| format!("the breaker is {}", subject_state.breaker(None).breaker.state.name())))
    }

    /// Waits until a verdict opens the breaker of the set or, with a gate, that at the simulator's ISP.
    async fn opened(&mut self) -> Result<String, Broken> {
        let subject = self.subject();
        let explain = format!("To see its evidence: ses-breaker explain {subject}");
        let remedy = [explain.as_str(), "To check whether the function breaker fails or lags: ses-breaker doctor"];
        self.at_isp = self.until(async |run: &mut Self| run.open_at().await, &remedy).await?;
        let because = self.entry().await?.map(|entry| format!(": {}", entry.reason())).unwrap_or_default();
        let whose = match self.at_isp {
            None => "by verdict".to_owned(),
            Some(isp) => {
                format!("by verdict at the ISP `{}`, because the gate is in use", self.policy.isp_map.name(isp))
            }
        };
        let shadow = match self.policy.mode {
            Mode::Act => "",
            Mode::Shadow => "; the policy is in shadow, but a drill's set is acted on anyway",
        };
        Ok(format!("{whose}{because}{shadow}"))
    }

    /// The notice of the breaker that opened.
    async fn entry(&self) -> Result<Option<notice_history::Entry>, Broken> {
        let opened = |entry: &notice_history::Entry| entry.breaker().is_some_and(|moved| moved.opens());
        let until = self.now().plus_minutes(1);
        let transition =
            notice_history::read(self.access, &self.subject(), (Now(self.now.0 - 60_000), until), 1, opened).await;
        Ok(transition.map_err(|error| self.aws(error))?.entries.pop())
    }

    async fn stopped(&mut self) -> Result<String, Broken> {
        let subject = self.subject();
        let mut how = "asked for by the verdict";
        if self.at_isp.is_some() {
            how = "asked for by this drill like by a person, because SES has no switch for one ISP";
            let request = self.request(OperatorCommand::Stop, Duration::ZERO);
            let subjects = std::slice::from_ref(&subject);
            command::give(self.access, subjects, None, &request, self.now(), &Asking::NOBODY).await?;
        }
        let mut store = self.access.reputation(self.policy);
        let wanted = [(subject, Flow::Stopped)];
        let obeyed = obey::wait(self.access, &mut store, &wanted, self.order.wait, self.asking.progress).await;
        let found = self.obeyed(obeyed)?;
        Ok(format!("{found} SendingEnabled=false, {how}"))
    }

    async fn refuses(&mut self) -> Result<String, Broken> {
        let begun = Instant::now();
        loop {
            match self.send(SUCCESS).await {
                Ok(()) => self.probes += 1,
                Err(SesError::Other(error)) if error.disposition == Disposition::Quarantine => {
                    let late = match self.probes {
                        0 => String::new(),
                        mails => format!("; before, it accepted {mails} more"),
                    };
                    return Ok(format!("SES answered {}{late}", error.reason));
                }
                Err(SesError::Missing) => {
                    return Err(Broken::Not("SES does not show the set any more".to_owned(), Vec::new()));
                }
                Err(SesError::Other(error)) => return Err(self.aws(error)),
            }
            let taken = self.probes;
            self.show(&format!("SES still accepts mail, {taken} so far"));
            if begun.elapsed() + TRY_AGAIN > self.order.wait {
                let seen = format!(
                    "SES shows SendingEnabled=false, and has accepted {taken} mails in {} s since",
                    begun.elapsed().as_secs()
                );
                let remedy = "SES documents that a pause takes effect within minutes: try again with a longer --wait."
                    .to_owned();
                return Err(Broken::Not(seen, vec![remedy]));
            }
            sleep(TRY_AGAIN).await;
        }
    }

    /// Waits until the notice was written and has left the outbox.
    async fn alerted(&mut self) -> Result<String, Broken> {
        let check = async |run: &mut Self| {
            let about = format!("\"subject\":{}", serde_json::Value::from(run.subject().to_string()));
            let unsent = run.access.reputation(run.policy).unsent().await.map_err(|error| run.aws(error))?;
            let waiting = unsent.iter().filter(|notice| notice.detail.contains(&about)).count();
            let written = run.entry().await?.is_some();
            Ok(match (written, waiting) {
                (true, 0) => Ok(()),
                (true, waiting) => Err(format!("{waiting} notices about the set wait in the outbox")),
                (false, _) => Err("no notice about the set was written".to_owned()),
            })
        };
        self.until(check, &["To check the function enforcer and its permission to publish: ses-breaker doctor"])
            .await?;
        Ok("the notice has left the outbox; check your inbox to see whether it arrived".to_owned())
    }

    async fn resumed(&mut self) -> Result<String, Broken> {
        let obeyed = self.resume(self.order.wait).await?;
        let found = self.obeyed(obeyed)?;
        Ok(format!("{found} SendingEnabled=true"))
    }

    /// Resumes the set like a person; first at the ISP, if it was stopped there.
    async fn resume(&mut self, wait: Duration) -> Result<Vec<Obeyed>, Broken> {
        let subjects = [self.subject()];
        if let Some(isp) = self.at_isp {
            let name = Some(self.policy.isp_map.name(isp));
            let (request, now) = (self.request(OperatorCommand::Resume, Duration::ZERO), self.now());
            command::give(self.access, &subjects, name, &request, now, &Asking::NOBODY).await?;
        }
        let (request, now) = (self.request(OperatorCommand::Resume, wait), self.now());
        Ok(command::resume_all(self.access, &subjects, &request, now, self.asking).await?)
    }

    fn request(&self, command: OperatorCommand, wait: Duration) -> CommandRequest {
        CommandRequest { wait, command, reason: Some("ses-breaker drill".to_owned()), force: true }
    }

    fn obeyed(&self, obeyed: Vec<Obeyed>) -> Result<String, Broken> {
        let enforcer = "To check the enforcer, which asks SES: ses-breaker doctor".to_owned();
        let not = |why: String| Err(Broken::Not(why, vec![enforcer.clone()]));
        match obeyed.into_iter().next() {
            Some(Obeyed::Seen { .. }) => Ok("SES shows".to_owned()),
            Some(Obeyed::Noted { reason, .. }) => {
                Ok(format!("SES itself could not be asked ({reason}); the enforcer recorded"))
            }
            Some(Obeyed::Refused { reason }) => not(format!("SES refuses it: {reason}")),
            Some(Obeyed::NotYet { seconds, reason }) => not(format!(
                "not done at SES after {seconds} s{}",
                reason.map(|why| format!(": {why}")).unwrap_or_default()
            )),
            Some(Obeyed::Overruled) => not("the opposite was asked for meanwhile".to_owned()),
            Some(Obeyed::Gone) => not("the set does not exist at SES".to_owned()),
            Some(Obeyed::OtherStack { stack }) => not(format!("the stack {stack} stopped it")),
            Some(Obeyed::NotWaited) | None => not("the result was not waited for".to_owned()),
        }
    }

    /// Resumes the set if it is stopped, deletes it, and deletes its desired state; returns what is left.
    async fn clean_up(&mut self) -> Vec<Left> {
        self.under_way = Some((Step::CleanUp, Instant::now()));
        if !self.may_exist {
            self.end(Ended::Passed, "nothing was created".to_owned(), Vec::new());
            return Vec::new();
        }
        self.show("cleaning up");
        let late = self.late_events().await;
        let mut left = Vec::new();
        // While the set exists, the enforcer can apply the desired state.
        if let Err(why) = self.settle(CLEANING).await {
            let command = format!("ses-breaker resume configuration-set:{}{}", self.set, self.whereabouts());
            left.push(Left { what: format!("the breaker of the set is not closed: {why}"), command });
        }
        if let Err(why) = self.delete().await {
            let (set, region) = (&self.set, &self.access.region);
            let command =
                format!("aws sesv2 delete-configuration-set --configuration-set-name {set} --region {region}");
            left.push(Left { what: format!("the configuration set {set}: {why}"), command });
        }
        // Later transitions are undone in the table; at SES there is nothing left to resume.
        if left.is_empty() {
            let _ = self.settle(Duration::ZERO).await;
        }
        if let Err(why) = self.forget().await {
            let command = format!("ses-breaker status configuration-set:{}{}", self.set, self.whereabouts());
            let what = format!("the request to resume the set, which expires within a day: {why}");
            left.push(Left { what, command });
        }
        for left in &mut left {
            left.what = left.what.replace(&self.order.from, "FROM");
        }
        let (result, seen) = match left.len() {
            0 => (Ended::Passed, "the set and its event destination are deleted, and its breaker is closed".to_owned()),
            _ => (Ended::Failed, left.iter().map(|left| left.what.as_str()).collect::<Vec<_>>().join("; ")),
        };
        let remedy = (late > 0).then(|| {
            format!(
                "Events of {late} mails have not arrived. If they arrive later and an alert says that the set is stopped: \
                 ses-breaker resume configuration-set:{}{}",
                self.set,
                self.whereabouts()
            )
        });
        self.end(result, seen, remedy.into_iter().collect());
        left
    }

    /// Waits for late events, which might open the breaker after everything is deleted; returns the number of mails without an
    /// event.
    async fn late_events(&mut self) -> u64 {
        let is_past =
            |leg: &Leg| leg.leg == Step::Count && leg.result != Ended::NotReached && leg.result != Ended::Interrupted;
        // If a leg has already waited for them, this does not wait again.
        let limit = if self.legs.iter().any(is_past) { Duration::ZERO } else { LATE_EVENTS };
        let begun = Instant::now();
        loop {
            let [_, delivered, bounced] = self.counts().await.unwrap_or_default();
            let late = (self.accepted - self.probes).saturating_sub(u64::from(delivered + bounced));
            if late == 0 || begun.elapsed() >= limit {
                return late;
            }
            self.show(&format!("cleaning up: waiting for events of {late} mails"));
            sleep(INTERVAL).await;
        }
    }

    fn whereabouts(&self) -> String {
        format!(" --stack {} --region {}", self.access.stack, self.access.region)
    }

    /// Closes the breakers of the set that are not closed, and waits until SES shows it, at most for `wait`.
    async fn settle(&mut self, wait: Duration) -> Result<(), String> {
        let reason = |error: PortError| error.to_string();
        let subject = self.subject();
        let mut store = self.access.reputation(self.policy);
        let subject_state = store.subject_state(&subject, self.now()).await.map_err(reason)?;
        let stopped: Vec<Option<Isp>> = subject_state
            .breakers
            .iter()
            .filter(|(_, known)| known.breaker.state != State::Closed)
            .map(|(isp, _)| *isp)
            .collect();
        let wishes = store.desired_states().await.map_err(reason)?;
        let is_stopped = wishes.iter().any(|desired| desired.target == subject && desired.flow == Flow::Stopped);
        if stopped.is_empty() && !is_stopped {
            return Ok(());
        }
        self.at_isp = stopped.iter().copied().flatten().next();
        let broken = |broken: Broken| match broken {
            Broken::Not(why, _) => why,
            Broken::Aws(failure) => failure.to_string(),
            Broken::Interrupted => "interrupted".to_owned(),
        };
        let obeyed = self.resume(wait).await.map_err(broken)?;
        // If SES was not asked for anything, there is nothing to wait for.
        if is_stopped && !wait.is_zero() { self.obeyed(obeyed).map(drop).map_err(broken) } else { Ok(()) }
    }

    /// Deletes the set with its event destination, and checks that it is gone.
    async fn delete(&mut self) -> Result<(), String> {
        let (client, set) = (self.ses.client.clone(), self.set.clone());
        let call = || client.delete_configuration_set().configuration_set_name(&set).send();
        match self.ses.call("deleting a configuration set", call).await {
            Ok(_) | Err(SesError::Missing) => {}
            Err(SesError::Other(error)) => return Err(error.to_string()),
        }
        for _ in 0..UNKNOWN_TRIES {
            match self.ses.destinations(&set).await {
                Err(SesError::Missing) => return Ok(()),
                Ok(_) => sleep(INTERVAL).await,
                Err(SesError::Other(error)) => return Err(error.to_string()),
            }
        }
        Err("SES accepted the deletion but still shows the set".to_owned())
    }

    /// Deletes the desired state of the set, so that the enforcer does not report the set as missing.
    async fn forget(&mut self) -> Result<(), String> {
        let subject = self.subject();
        let mut store = self.access.reputation(self.policy);
        for _ in 0..UNKNOWN_TRIES {
            let wishes = store.desired_states().await.map_err(|error| error.to_string())?;
            let Some(desired) = wishes.iter().find(|desired| desired.target == subject) else { return Ok(()) };
            // A set that was not resumed is already in the list.
            if desired.flow == Flow::Stopped {
                return Ok(());
            }
            match store.forget(desired).await.map_err(|error| error.to_string())? {
                Saved::Saved => return Ok(()),
                // The enforcer changed it first.
                Saved::Conflict => sleep(INTERVAL).await,
            }
        }
        Err("the enforcer keeps changing it".to_owned())
    }
}

/// A mail fails to build only if a text is missing.
fn unbuilt(error: aws_sdk_sesv2::error::BuildError) -> SesError {
    let (operation, disposition) = ("writing a mail", Disposition::Halt);
    SesError::Other(PortError { operation, reason: error.to_string(), disposition })
}

/// Seconds to one decimal.
fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now(1_795_761_012_345);

    #[test]
    fn a_set_is_named_after_its_second_and_as_a_drill() {
        let name = set_name(NOW);
        assert_eq!(name, "ses-breaker-drill-20261127t063012");
        assert!(name.len() <= 64 && Subject::ConfigurationSet(name.as_str().into()).is_drill());
    }

    #[test]
    fn the_policy_says_how_many_bounces_open_a_breaker() {
        let needed = |toml: &str| bounces_needed(&Policy::from_toml(toml).unwrap(), NOW);
        let default = needed("").unwrap();
        assert!((3..=12).contains(&default), "{default}");
        assert!(needed("[metrics.hard_bounce]\nlimit = 0.05\npause = 40.0").unwrap() > default);
        for never in ["[metrics.hard_bounce]\npause = 0.0", "[metrics.hard_bounce]\npause = 1000.0"] {
            let failure = needed(never).unwrap_err();
            assert_eq!(failure.exit(), Exit::No, "{never}: {failure}");
        }
    }
}
