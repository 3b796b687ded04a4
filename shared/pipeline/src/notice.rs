//! Notices: what people, and programs, are told.
//!
//! A notice is saved together with the change it tells of, under a name that follows from the change, and is crossed
//! out once it is sent. So none is lost, and one that is sent twice (a crash between the two) carries one name.
//!
//! Programs get an event for each notice. People get letters: notices that tell of the same mail wait for each other and
//! become one message (module `group`), and what people were told lately is not told again at once (module `desk`).
//!
//! Where to start: [`deliver`].

use std::collections::BTreeSet;
use std::time::Duration;

use reputation::breaker::{Cause, State};
use reputation::isp::IspMap;
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{DAY, MINUTE_MILLIS, Minute, Now};
use reputation::zone::Day;
use serde::Serialize;

use crate::digest::Digest;
use crate::enforce::{Flow, Wished, Wishes};
use crate::ports::{Change, ControlKind, Disposition, PortError, Saved, Transition};

mod desk;
mod fact;
mod group;
mod headline;
mod message;

pub use desk::{Desk, HeldBack, Letter, SETTLE_MILLIS, Told};
use fact::Fact;
use headline::full_name;
use message::Known;
pub(crate) use message::quoted;
pub use message::{Command, Message, Place};

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its name: the same for the same fact. Sorts by time.
    pub id: String,
    /// One line of at most 100 ASCII characters without control characters (the limits of an SNS subject).
    pub title: String,
    /// What happened, why, what was done and how to undo it.
    pub text: String,
    /// What kind of thing it tells of: see [`Notice::TRANSITION`] and its neighbours.
    pub kind: &'static str,
    /// The same for programs: a JSON object.
    pub detail: String,
}

/// Keeps notices until they are sent, and the desk.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Outbox {
    /// All notices that are not crossed out, oldest first.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn unsent(&mut self) -> Result<Vec<Notice>, PortError>;

    /// Puts one in, unless one of this name was ever put in.
    ///
    /// # Errors
    ///
    /// It was put in or not: do it again.
    async fn put(&mut self, notice: &Notice) -> Result<(), PortError>;

    /// Crosses out the notices of these names.
    ///
    /// # Errors
    ///
    /// Some were crossed out or not: do it again.
    async fn sent(&mut self, ids: &[String]) -> Result<(), PortError>;

    /// The desk; an empty one if none was ever saved.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn desk(&mut self) -> Result<Desk, PortError>;

    /// Saves the desk as the version after its own, upon the version it was read under.
    ///
    /// # Errors
    ///
    /// It was saved or not: look again.
    async fn keep(&mut self, desk: &Desk) -> Result<Saved, PortError>;
}

/// Tells people and programs.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Alerts {
    /// Sends people a message.
    ///
    /// # Errors
    ///
    /// It was sent or not: send it again.
    async fn write(&mut self, message: &Message) -> Result<(), PortError>;

    /// Tells programs of one notice, with the name of the letter that tells people of it.
    ///
    /// # Errors
    ///
    /// They were told or not: tell them again.
    async fn report(&mut self, notice: &Notice, letter: &str) -> Result<(), PortError>;
}

/// What became of the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// How many messages people were sent.
    pub messages: usize,
    /// How many notices programs were told of.
    pub events: usize,
    /// Those that can never be sent, by their names, and why. They are crossed out: one of them must not hold up the others.
    pub refused: Vec<(String, PortError)>,
    /// Notices are left that wait for others, at most for so long: deliver again then.
    pub wait: Option<Duration>,
}

/// How often a save of the desk that lost a race is done anew before the shell should try later.
const MOST_RACES: usize = 8;

/// Sends what is in the outbox. A notice waits until it is [`SETTLE_MILLIS`] old, so that what was decided with it is
/// there, too.
///
/// # Errors
///
/// Some may have been sent; deliver again.
pub async fn deliver<O: Outbox + Wishes, A: Alerts>(
    policy: &Policy,
    outbox: &mut O,
    alerts: &mut A,
    now: Now,
) -> Result<Delivered, PortError> {
    let mut delivered = Delivered::default();
    loop {
        let (letters, unsent) = arrange(policy, outbox, now).await?;
        if letters.is_empty() {
            let wait = unsent.iter().filter_map(|notice| desk::wait(notice, now)).min();
            delivered.wait = wait.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis);
            return Ok(delivered);
        }
        for letter in &letters {
            send(letter, &unsent, outbox, alerts, &mut delivered).await?;
            take_away(outbox, &letter.id).await?;
        }
    }
}

/// Puts what is due into letters; returns the letters to send, with all notices.
async fn arrange<O: Outbox + Wishes>(
    policy: &Policy,
    outbox: &mut O,
    now: Now,
) -> Result<(Vec<Letter>, Vec<Notice>), PortError> {
    for _ in 0..MOST_RACES {
        // The desk first: a letter of which no notice is left afterwards has been sent.
        let mut desk = outbox.desk().await?;
        let unsent = outbox.unsent().await?;
        // Nothing is said of SES where nothing is to be said at all.
        let wishes = if unsent.is_empty() && !desk.holds_back() { Vec::new() } else { outbox.wishes().await? };
        if !desk.arrange(&Known { policy, wishes: &wishes }, &unsent, now) || outbox.keep(&desk).await? == Saved::Saved
        {
            return Ok((desk.letters, unsent));
        }
    }
    Err(overtaken())
}

async fn send<O: Outbox, A: Alerts>(
    letter: &Letter,
    unsent: &[Notice],
    outbox: &mut O,
    alerts: &mut A,
    delivered: &mut Delivered,
) -> Result<(), PortError> {
    if let Some(message) = &letter.message {
        match alerts.write(message).await {
            Ok(()) => delivered.messages += 1,
            Err(error) => delivered.refused.push((letter.id.clone(), for_good(error)?)),
        }
    }
    let ours: BTreeSet<&String> = letter.notices.iter().collect();
    for notice in unsent.iter().filter(|notice| ours.contains(&notice.id)) {
        match alerts.report(notice, &letter.id).await {
            Ok(()) => delivered.events += 1,
            Err(error) => delivered.refused.push((notice.id.clone(), for_good(error)?)),
        }
    }
    outbox.sent(&letter.notices).await
}

/// An error that the same work would meet again; fails with any other.
fn for_good(error: PortError) -> Result<PortError, PortError> {
    match error.disposition {
        Disposition::Quarantine => Ok(error),
        Disposition::Retry | Disposition::Halt => Err(error),
    }
}

async fn take_away<O: Outbox>(outbox: &mut O, letter: &str) -> Result<(), PortError> {
    for _ in 0..MOST_RACES {
        let mut desk = outbox.desk().await?;
        let before = desk.letters.len();
        desk.letters.retain(|known| known.id != letter);
        if desk.letters.len() == before || outbox.keep(&desk).await? == Saved::Saved {
            return Ok(());
        }
    }
    Err(overtaken())
}

fn overtaken() -> PortError {
    PortError {
        operation: "saving the desk",
        reason: format!("it was changed by others {MOST_RACES} times in a row"),
        disposition: Disposition::Retry,
    }
}

/// When what a notice of this name tells of was; of those that are put in once a day, the beginning of that day.
pub(crate) fn time_of(id: &str) -> Now {
    Now(id.split('#').next().and_then(|digits| digits.parse().ok()).unwrap_or(0))
}

impl Notice {
    /// Kind of a notice about a breaker.
    pub const TRANSITION: &'static str = "Breaker Transition";
    /// Kind of a notice about a target that is gone.
    pub const GONE: &'static str = "Control Target Gone";
    /// Kind of a notice about a control that we may not carry out.
    pub const DENIED: &'static str = "Control Denied";

    /// Kind of a notice about a target that another stack has stopped.
    pub const OTHER_STACK: &'static str = "Control Of Another Stack";

    /// Kind of the daily digest.
    pub const DIGEST: &'static str = "Daily Digest";

    /// All kinds.
    pub const KINDS: [&'static str; 5] =
        [Notice::TRANSITION, Notice::GONE, Notice::DENIED, Notice::OTHER_STACK, Notice::DIGEST];

    /// What a change tells people; `None` if nothing.
    pub fn of(change: &Change, isps: &IspMap) -> Option<Notice> {
        let told = change.transition.as_ref()?;
        let name = key_name(&told.key, isps);
        let detail = Detail {
            transition: ReportedTransition::of(told, isps),
            controls: controls(change, isps),
            cause: told.cause,
            called_for: told.verdict.map(|verdict| verdict.level.name()),
            by: told.said.as_ref().map(|said| said.by.as_str()),
            said: told.said.as_ref().and_then(|said| said.why.as_deref()),
            until: change.next.until().map(|until| until.to_string()),
            hold: change.next.overridden.name(),
            share: match change.next.state {
                State::Throttled { factor, .. } => Some(factor.share()),
                State::Closed | State::Open { .. } | State::Probing { .. } => None,
            },
            trips: change.next.trips,
            judged_from: [change.next.since.throttle, change.next.since.pause].map(start_of),
            gate: told.gate,
            shares_mail_with: told.kin.iter().map(Subject::to_string).collect(),
        };
        let id = format!("{:013}#{name}#{:06}", told.at.0.max(0), change.version + 1);
        let detail = serde_json::to_string(&detail).unwrap_or_default();
        let mut notice = Notice { id, title: String::new(), text: String::new(), kind: Notice::TRANSITION, detail };
        // What is reported is read back from the detail, so that both are one.
        let fact = Fact::of(&notice).unwrap_or_default();
        notice.title = title(&headline::headline(&fact, &fact));
        notice.text = format!("{}\n\n{}\n\nDecided: {}\n", notice.title, told.why(), done(change, told));
        Some(notice)
    }

    /// Reports that a target of a control does not exist any more, once for each time that it vanished.
    pub fn gone(target: &Subject, since: Now) -> Notice {
        let text = format!(
            "{} does not exist at SES any more.\n\nIf it is stopped, that is kept: created again before its stop period ends, it \
             is stopped again within about five minutes. If you deleted it, there is nothing to do.\n",
            sentence_name(target)
        );
        let title = format!("[GONE] {} does not exist at SES any more", short(target));
        Notice::about(Notice::GONE, ("gone", &title), target, &text, since)
    }

    /// Reports that SES denies us a control: at once, and again each day for as long as it lasts. `since`: when it was
    /// first denied.
    pub fn denied(target: &Subject, why: &str, since: Now, now: Now) -> Notice {
        let text = format!(
            "SES refuses what ses-breaker asks for {}: {why}\n\nIt is tried again every few minutes. Look at the role of the \
             enforcer function: the template gives it what it needs; a service control policy or a permissions boundary may \
             take it away.\n",
            full_name(&target.to_string(), None)
        );
        let day = i64::from(DAY) * MINUTE_MILLIS;
        let days = now.0.saturating_sub(since.0).max(0) / day;
        let title = format!("[REFUSED by SES] {}: {why}", short(target));
        Notice::about(Notice::DENIED, ("denied", &title), target, &text, Now(since.0 + days * day))
    }

    /// Reports that another stack has stopped a target, once for each stop. `since`: when that was first seen.
    pub fn of_other_stack(target: &Subject, stack: &str, since: Now) -> Notice {
        let text = format!(
            "{} was stopped at SES by the ses-breaker stack {stack}, as its tag there says.\n\nThis stack leaves \
             the stop to that one: it does not resume it, and does not take it for a person's. Once it is resumed, this \
             stack stops it again if its own breaker is open. If {stack} does not exist any more, resume it at SES.\n",
            sentence_name(target)
        );
        let title = format!("[STOPPED by stack {stack}] {}", short(target));
        Notice::about(Notice::OTHER_STACK, ("other stack", &title), target, &text, since)
    }

    /// Tells how all stands; once for each day.
    pub fn of_digest(digest: &Digest, day: Day, now: Now) -> Notice {
        let mut detail = serde_json::json!({
            "at": now.to_string(), "subject": Subject::Account.to_string(), "reason": digest.title(),
        });
        if let (Some(members), Ok(serde_json::Value::Object(digest))) =
            (detail.as_object_mut(), serde_json::to_value(digest))
        {
            members.extend(digest);
        }
        Notice {
            id: format!("{:013}#digest", day.end.0.max(0)),
            title: title(&format!("[DIGEST] {}", digest.title())),
            text: digest.text(),
            kind: Notice::DIGEST,
            detail: detail.to_string(),
        }
    }

    /// `at`: when what it reports began, which makes its name.
    fn about(kind: &'static str, (word, headline): (&str, &str), target: &Subject, text: &str, at: Now) -> Notice {
        let detail = serde_json::json!({ "at": at.to_string(), "subject": target.to_string(), "reason": text });
        Notice {
            id: format!("{:013}#{target}#{word}", at.0.max(0)),
            title: title(headline),
            text: text.to_owned(),
            kind,
            detail: detail.to_string(),
        }
    }
}

/// A transition for programs: in a replay's report, and in the detail of a notice.
#[derive(Clone, Debug, Serialize)]
pub struct ReportedTransition {
    /// When (RFC 3339); in a replay, by the virtual clock.
    pub at: String,
    /// Whose breaker.
    pub subject: String,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// State before: `closed`, `throttled`, `open` (sending has stopped) or `probing`.
    pub from: &'static str,
    /// State after; the same one where people are only told.
    pub to: &'static str,
    /// `warn`, `throttle` or `pause`; null where things get better.
    pub level: Option<&'static str>,
    /// Which rate: `hard_bounce`, `complaint`, `delay` or `block`.
    pub metric: Option<&'static str>,
    /// By which rule: `cusum`, `ratio` or `aws_forecast`.
    pub rule: Option<&'static str>,
    /// The rate, a share.
    pub rate: Option<f64>,
    /// Its denominator.
    pub population: Option<u64>,
    /// Its numerator.
    pub bad: Option<u64>,
    /// First minute of the cohorts it is about, and first minute after them (RFC 3339).
    pub cohorts: Option<[String; 2]>,
    /// Decided in shadow: nothing is done.
    pub shadow: bool,
    /// Why, in words, with the same numbers.
    pub reason: String,
}

impl ReportedTransition {
    /// Reports on a transition.
    pub fn of(transition: &Transition, isps: &IspMap) -> ReportedTransition {
        let verdict = transition.verdict.as_ref();
        ReportedTransition {
            at: transition.at.to_string(),
            subject: transition.key.subject.to_string(),
            isp: transition.key.isp.map(|isp| isps.name(isp).to_owned()),
            from: transition.from,
            to: transition.to,
            level: transition.level.map(|level| level.name()),
            metric: verdict.map(|verdict| verdict.metric.name()),
            rule: verdict.map(|verdict| verdict.rule.name()),
            rate: verdict.map(|verdict| verdict.rate()),
            population: verdict.map(|verdict| verdict.tally.population),
            bad: verdict.map(|verdict| verdict.tally.bad),
            cohorts: verdict.map(|verdict| [start_of(verdict.from), start_of(verdict.until)]),
            shadow: transition.shadow,
            reason: transition.reason.clone(),
        }
    }
}

/// The beginning of a minute in RFC 3339, such as `2026-10-06T09:00:00Z`.
pub fn start_of(minute: Minute) -> String {
    format!("{}:00Z", minute.to_string().replacen(' ', "T", 1))
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    transition: ReportedTransition,
    /// What is wished for because of it: a name and its target, and of a quota the share.
    controls: Vec<String>,
    /// Why it moved.
    cause: Cause,
    /// What the verdict called for, which may be more than was done; null without a verdict.
    called_for: Option<&'static str>,
    /// Who said so; null unless a person did through us.
    by: Option<&'a str>,
    /// Why, in that person's words.
    said: Option<&'a str>,
    /// Until when it is open (RFC 3339); null if it is not, or until a person resumes it.
    until: Option<String>,
    /// What a person has said about it: `none`, `open` (stopped), `closed` (kept flowing) or `shadow`.
    hold: &'static str,
    /// The share of the quota that it is throttled to; null unless it is throttled.
    share: Option<f64>,
    /// How often it has opened since it was last forgiven.
    trips: u32,
    /// The first minute of the mail that may throttle it, and of the mail that may pause it (RFC 3339).
    judged_from: [String; 2],
    /// Whether an application asks the gate, by the policy that it was decided under.
    gate: bool,
    /// Others whose mail is the same in part, so that they may report the same harm.
    shares_mail_with: Vec<String>,
}

/// A key as people write it: `configuration-set:news`, `configuration-set:news@gmail`.
pub fn key_name(key: &Key, isps: &IspMap) -> String {
    match key.isp {
        None => key.subject.to_string(),
        Some(isp) => format!("{}@{}", key.subject, isps.name(isp)),
    }
}

fn controls(change: &Change, isps: &IspMap) -> Vec<String> {
    let name = |control: &crate::ports::Control| {
        let target = key_name(&Key { subject: control.target.clone(), isp: control.isp }, isps);
        match control.kind {
            ControlKind::SetQuotaFactor(factor) => format!("{} {target} {factor}", control.kind.name()),
            ControlKind::PauseConfigurationSet
            | ControlKind::ResumeConfigurationSet
            | ControlKind::PauseTenant
            | ControlKind::ResumeTenant
            | ControlKind::PauseAccount
            | ControlKind::ResumeAccount
            | ControlKind::HoldIsp
            | ControlKind::ReleaseIsp => format!("{} {target}", control.kind.name()),
        }
    };
    change.controls.iter().map(name).collect()
}

/// What was done about it, for people.
fn done(change: &Change, told: &Transition) -> String {
    let share = |kind: ControlKind| match kind {
        ControlKind::SetQuotaFactor(factor) => factor.to_string(),
        ControlKind::PauseConfigurationSet
        | ControlKind::ResumeConfigurationSet
        | ControlKind::PauseTenant
        | ControlKind::ResumeTenant
        | ControlKind::PauseAccount
        | ControlKind::ResumeAccount
        | ControlKind::HoldIsp
        | ControlKind::ReleaseIsp => String::new(),
    };
    let told_of = |control: &crate::ports::Control| done_by(control.kind.name(), &share(control.kind));
    let done: Vec<String> = change.controls.iter().map(told_of).collect();
    match (done.is_empty(), told.shadow) {
        (true, true) => "no action, because this is decided in shadow".to_owned(),
        (true, false) => "no action (notification only)".to_owned(),
        (false, _) => done.join("; "),
    }
}

/// What a control does, for people. `kind` is its stable name; `share` is that of a quota.
fn done_by(kind: &str, share: &str) -> String {
    if let Some((asked, ..)) = asked_of_ses(kind) {
        return format!("SES is asked to {asked}");
    }
    let words = match kind {
        "set_quota_factor" => return format!("the gate grants {share} of the quota"),
        "hold_isp" => "the gate holds mail to this ISP, for all senders",
        "release_isp" => "the gate grants mail to this ISP again",
        other => other,
    };
    words.to_owned()
}

/// What a control asks of SES: in words, what SES does then, and whether mail flows then; `None` if it is none for SES.
fn asked_of_ses(kind: &str) -> Option<(&'static str, &'static str, Flow)> {
    Some(match kind {
        "pause_configuration_set" => (
            "accept no more mail with this configuration set",
            "it accepts no more mail with this configuration set (mail it has accepted still goes out)",
            Flow::Stopped,
        ),
        "pause_tenant" => {
            ("accept no more mail of this tenant", "it accepts no more mail of this tenant", Flow::Stopped)
        }
        "pause_account" => {
            ("accept no more mail of this account", "it accepts no more mail of this account", Flow::Stopped)
        }
        "resume_configuration_set" | "resume_tenant" | "resume_account" => {
            ("accept mail again", "it accepts mail again", Flow::Flowing)
        }
        _ => return None,
    })
}

/// What has come of a control of SES by now, for people. `target`: as [`Subject`] writes it.
fn at_ses(kind: &str, target: &str, wishes: &[Wished]) -> Option<String> {
    let (asked, obeys, wanted) = asked_of_ses(kind)?;
    let asks = format!("SES is asked to {asked}");
    let wished = wishes.iter().find(|wished| wished.wish == wanted && wished.target.to_string() == target);
    // It may be decided otherwise by now.
    let Some(wished) = wished else { return Some(asks) };
    let trouble = wished.trouble.as_ref().filter(|_| !wished.fresh);
    Some(match trouble {
        _ if wished.gone.is_some() => format!("{asks}, and does not know it"),
        None if wished.is_true() => format!("SES has obeyed: {obeys}"),
        Some(trouble) if trouble.denied.is_some() => {
            format!("{asks}, and refuses: {}; it is asked again every few minutes", trouble.error)
        }
        Some(trouble) => format!("{asks}, and has not done it yet: {}", trouble.error),
        None => format!("{asks}, and has not done it yet"),
    })
}

fn short(target: &Subject) -> String {
    headline::short_name(&target.to_string(), None)
}

/// A name at the beginning of a sentence.
fn sentence_name(target: &Subject) -> String {
    message::sentence(&full_name(&target.to_string(), None))
}

/// Keeps to the limits of an SNS subject: 100 printable ASCII characters, the first a letter.
fn title(text: &str) -> String {
    let printable = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    let mut title: String = text.chars().map(printable).take(100).collect();
    if text.chars().count() > 100 {
        title.truncate(97);
        title.push_str("...");
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryReputation;

    #[test]
    fn a_title_keeps_to_the_limits_of_sns() {
        assert_eq!(title("ses-breaker pause: tag:größe=1\n2"), "ses-breaker pause: tag:gr??e=1?2");
        let long = title(&"x".repeat(200));
        assert_eq!((long.len(), &long[96..]), (100, "x..."));
    }

    /// Sends all but one, which is refused for good.
    struct Fussy(Vec<String>);

    impl Alerts for Fussy {
        async fn write(&mut self, message: &Message) -> Result<(), PortError> {
            if message.title.contains("odd") {
                let (operation, reason) = ("publishing", "InvalidParameter".to_owned());
                return Err(PortError { operation, reason, disposition: Disposition::Quarantine });
            }
            self.0.push(message.title.clone());
            Ok(())
        }

        async fn report(&mut self, _: &Notice, _: &str) -> Result<(), PortError> {
            Ok(())
        }
    }

    #[test]
    fn a_notice_that_is_refused_for_good_holds_up_no_other() {
        let mut outbox = MemoryReputation::new(&IspMap::builtin());
        let mut alerts = Fussy(Vec::new());
        pollster::block_on(async {
            for name in ["a", "odd", "z"] {
                outbox.put(&Notice::gone(&Subject::ConfigurationSet(name.into()), Now(0))).await.unwrap();
            }
            let (policy, now) = (Policy::default(), Now(5_000));
            let delivered = deliver(&policy, &mut outbox, &mut alerts, now).await.unwrap();
            assert_eq!((delivered.messages, delivered.events, delivered.refused.len()), (2, 3, 1));
            assert_eq!(deliver(&policy, &mut outbox, &mut alerts, now).await, Ok(Delivered::default()));
            // Crossed out is not forgotten.
            outbox.put(&Notice::gone(&Subject::ConfigurationSet("a".into()), Now(0))).await.unwrap();
            assert_eq!(deliver(&policy, &mut outbox, &mut alerts, now).await, Ok(Delivered::default()));
        });
        assert_eq!(alerts.0.len(), 2);
    }

    #[test]
    fn a_denial_has_one_name_for_each_day_that_it_lasts() {
        let target = Subject::ConfigurationSet("news".into());
        let hour = |hour: i64| Now(1_791_273_601_745 + hour * 3_600_000);
        let at = |since: i64, now: i64| Notice::denied(&target, "AccessDenied", hour(since), hour(now)).id;
        assert_eq!(at(0, 0), at(0, 23));
        assert_eq!(at(0, 24), at(0, 47));
        assert_ne!(at(0, 0), at(0, 24));
        // Another one on the same day is reported, too.
        assert_ne!(at(0, 1), at(5, 5));
    }
}
