//! Notices: what people and programs are notified of.
//!
//! A notice is saved together with the change that it reports, under a name that follows from the change, and is marked
//! as sent after sending. So no notice is lost, and a notice that is sent twice (a crash between the two) has the same
//! name both times.
//!
//! Programs get an event for each notice. People get alerts: notices about the same mail wait for each other and become
//! one message (module `group`), and what people were recently notified of is not repeated at once (module
//! `alert_queue`).
//!
//! Where to start: [`deliver`].

use std::collections::BTreeSet;
use std::time::Duration;

use reputation::isp::IspMap;
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::{DAY, MINUTE_MILLIS, Now};
use reputation::zone::Day;

use crate::control::{ControlKind, ControlRecord};
use crate::digest::Digest;
use crate::ports::{Change, DesiredState, DesiredStates, Disposition, PortError, Saved};
use crate::transition::{Transition, TransitionDetail};
use crate::wording::{capitalized, key_name};

mod alert_queue;
mod fact;
mod group;
mod headline;
mod message;

pub use alert_queue::{AlertQueue, HeldBack, QueuedAlert, SETTLE_MILLIS, SentLog};
use fact::Fact;
use headline::full_name;
use message::Known;
pub use message::{Command, Message, Place};

/// Something to report to people and programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its name: the same for the same fact. Sorts by time.
    pub id: String,
    /// One line of at most 100 ASCII characters without control characters (the limits of an SNS subject).
    pub title: String,
    /// What happened, why, what was done and how to undo it.
    pub text: String,
    /// What it is about: see [`Notice::TRANSITION`] and the constants after it.
    pub kind: &'static str,
    /// The same for programs: a JSON object.
    pub detail: String,
}

/// Keeps notices until they are sent, and the alert queue.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Outbox {
    /// All notices that are not marked as sent, oldest first.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn unsent(&mut self) -> Result<Vec<Notice>, PortError>;

    /// Adds a notice, unless one of this name was ever added.
    ///
    /// # Errors
    ///
    /// It may or may not have been added: do it again.
    async fn put(&mut self, notice: &Notice) -> Result<(), PortError>;

    /// Marks the notices of these names as sent.
    ///
    /// # Errors
    ///
    /// Some may have been marked: do it again.
    async fn sent(&mut self, ids: &[String]) -> Result<(), PortError>;

    /// The alert queue; an empty one if none was ever saved.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    async fn alert_queue(&mut self) -> Result<AlertQueue, PortError>;

    /// Saves the alert queue under the next version, if the stored version is still the one that was read.
    ///
    /// # Errors
    ///
    /// It may or may not have been saved: read it again.
    async fn keep(&mut self, alert_queue: &AlertQueue) -> Result<Saved, PortError>;
}

/// Notifies people and programs.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Alerts {
    /// Sends people a message.
    ///
    /// # Errors
    ///
    /// It may or may not have been sent: send it again.
    async fn write(&mut self, message: &Message) -> Result<(), PortError>;

    /// Sends one notice to programs, with the name of the alert that reports it to people.
    ///
    /// # Errors
    ///
    /// It may or may not have been sent: send it again.
    async fn report(&mut self, notice: &Notice, alert: &str) -> Result<(), PortError>;
}

/// The result of delivering the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// How many messages were sent to people.
    pub messages: usize,
    /// How many notices were sent to programs.
    pub events: usize,
    /// The names of notices that can never be sent, and why. They are marked as sent, so that they do not block the
    /// others.
    pub refused: Vec<(String, PortError)>,
    /// Set if notices are left that wait for others: the longest wait, after which to deliver again.
    pub wait: Option<Duration>,
}

/// How often saving the alert queue is retried after a lost race, before the handlers should try later.
const MAX_RACES: usize = 8;

/// Sends what is in the outbox. A notice waits until it is [`SETTLE_MILLIS`] old, so that what was decided together
/// with it is there, too.
///
/// # Errors
///
/// Some may have been sent; deliver again.
pub async fn deliver<O: Outbox + DesiredStates, A: Alerts>(
    policy: &Policy,
    outbox: &mut O,
    alerts: &mut A,
    now: Now,
) -> Result<Delivered, PortError> {
    let mut delivered = Delivered::default();
    loop {
        let (queued, unsent) = arrange(policy, outbox, now).await?;
        if queued.is_empty() {
            let wait = unsent.iter().filter_map(|notice| alert_queue::wait(notice, now)).min();
            delivered.wait = wait.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis);
            return Ok(delivered);
        }
        for alert in &queued {
            send(alert, &unsent, outbox, alerts, &mut delivered).await?;
            take_away(outbox, &alert.id).await?;
        }
    }
}

/// Puts due notices into alerts; returns the alerts to send, and all notices.
async fn arrange<O: Outbox + DesiredStates>(
    policy: &Policy,
    outbox: &mut O,
    now: Now,
) -> Result<(Vec<QueuedAlert>, Vec<Notice>), PortError> {
    for _ in 0..MAX_RACES {
        // The alert queue is read first: an alert whose notices are all gone by the second read has been sent.
        let mut alert_queue = outbox.alert_queue().await?;
        let unsent = outbox.unsent().await?;
        // The desired states are needed only if there is something to report.
        let desired_states =
            if unsent.is_empty() && !alert_queue.holds_back() { Vec::new() } else { outbox.desired_states().await? };
        if !alert_queue.arrange(&Known { policy, desired_states: &desired_states }, &unsent, now)
            || outbox.keep(&alert_queue).await? == Saved::Saved
        {
            return Ok((alert_queue.alerts, unsent));
        }
    }
    Err(overtaken())
}

async fn send<O: Outbox, A: Alerts>(
    alert: &QueuedAlert,
    unsent: &[Notice],
    outbox: &mut O,
    alerts: &mut A,
    delivered: &mut Delivered,
) -> Result<(), PortError> {
    if let Some(message) = &alert.message {
        match alerts.write(message).await {
            Ok(()) => delivered.messages += 1,
            Err(error) => delivered.refused.push((alert.id.clone(), for_good(error)?)),
        }
    }
    let ours: BTreeSet<&String> = alert.notices.iter().collect();
    for notice in unsent.iter().filter(|notice| ours.contains(&notice.id)) {
        match alerts.report(notice, &alert.id).await {
            Ok(()) => delivered.events += 1,
            Err(error) => delivered.refused.push((notice.id.clone(), for_good(error)?)),
        }
    }
    outbox.sent(&alert.notices).await
}

/// Returns an error that a retry would meet again; fails with any other error.
fn for_good(error: PortError) -> Result<PortError, PortError> {
    match error.disposition {
        Disposition::Quarantine => Ok(error),
        Disposition::Retry | Disposition::Halt => Err(error),
    }
}

async fn take_away<O: Outbox>(outbox: &mut O, alert: &str) -> Result<(), PortError> {
    for _ in 0..MAX_RACES {
        let mut alert_queue = outbox.alert_queue().await?;
        let before = alert_queue.alerts.len();
        alert_queue.alerts.retain(|known| known.id != alert);
        if alert_queue.alerts.len() == before || outbox.keep(&alert_queue).await? == Saved::Saved {
            return Ok(());
        }
    }
    Err(overtaken())
}

fn overtaken() -> PortError {
    PortError {
        operation: "saving the alert queue",
        reason: format!("it was changed by others {MAX_RACES} times in a row"),
        disposition: Disposition::Retry,
    }
}

/// The time of the event that a notice of this name reports; for daily notices, the beginning of that day.
pub(crate) fn time_of(id: &str) -> Now {
    Now(id.split('#').next().and_then(|digits| digits.parse().ok()).unwrap_or(0))
}

impl Notice {
    /// Kind of a notice about a breaker.
    pub const TRANSITION: &'static str = "Breaker Transition";
    /// Kind of a notice about a target that is gone.
    pub const GONE: &'static str = "Control Target Gone";
    /// Kind of a notice about a control that SES denies.
    pub const DENIED: &'static str = "Control Denied";

    /// Kind of a notice about a target that another stack has stopped.
    pub const OTHER_STACK: &'static str = "Control Of Another Stack";

    /// Kind of the daily digest.
    pub const DIGEST: &'static str = "Daily Digest";

    /// All kinds.
    pub const KINDS: [&'static str; 5] =
        [Notice::TRANSITION, Notice::GONE, Notice::DENIED, Notice::OTHER_STACK, Notice::DIGEST];

    /// The notice of a change; `None` if people need not know.
    pub fn of(change: &Change, isps: &IspMap) -> Option<Notice> {
        let transition = change.transition.as_ref()?;
        let name = key_name(&transition.key, isps);
        let id = format!("{:013}#{name}#{:06}", transition.at.0.max(0), change.version + 1);
        let fact = Fact {
            id,
            title: String::new(),
            detail: TransitionDetail::of(transition, &change.controls, &change.next, isps),
        };
        let detail = serde_json::to_string(&fact.detail).unwrap_or_default();
        let title = title(&headline::headline(&fact, &fact));
        let text = format!("{title}\n\n{}\n\nDecided: {}\n", transition.why(), done(change, transition));
        Some(Notice { id: fact.id, title, text, kind: Notice::TRANSITION, detail })
    }

    /// Reports that a target of a control no longer exists, once for each time that it vanished.
    pub fn gone(target: &Subject, since: Now) -> Notice {
        let text = format!(
            "{} does not exist at SES any more.\n\nIf it is stopped, that is kept: created again before its stop period ends, it \
             is stopped again within about five minutes. If you deleted it, there is nothing to do.\n",
            sentence_name(target)
        );
        let title = format!("[GONE] {} does not exist at SES any more", short(target));
        Notice::about(Notice::GONE, ("gone", &title), target, &text, since)
    }

    /// Reports that SES denies a control: at once, and again each day while it lasts. `since`: when it was first
    /// denied.
    pub fn denied(target: &Subject, why: &str, since: Now, now: Now) -> Notice {
        let text = format!(
            "SES refuses what ses-breaker asks for {}: {why}\n\nIt is tried again every few minutes. Look at the role of the \
             enforcer function: the template gives it what it needs; a service control policy or a permissions boundary may \
             take it away.\n",
            full_name(target, None)
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

    /// The daily digest; once for each day.
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

    /// `at`: when what it reports began; its name is made from it.
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

/// What was done because of a change, for people.
fn done(change: &Change, transition: &Transition) -> String {
    let done: Vec<String> = change.controls.iter().map(|control| done_by(control.kind)).collect();
    match (done.is_empty(), transition.shadow) {
        (true, true) => "no action, because this is decided in shadow".to_owned(),
        (true, false) => "no action (notification only)".to_owned(),
        (false, _) => done.join("; "),
    }
}

/// What a control does, for people.
fn done_by(kind: ControlKind) -> String {
    match kind {
        ControlKind::PauseConfigurationSet
        | ControlKind::PauseTenant
        | ControlKind::PauseAccount
        | ControlKind::ResumeConfigurationSet
        | ControlKind::ResumeTenant
        | ControlKind::ResumeAccount => format!("SES is asked to {}", asked_of_ses(kind)),
        ControlKind::SetQuotaFactor(factor) => format!("the gate grants {factor} of the quota"),
        ControlKind::HoldIsp => "the gate holds mail to this ISP, for all senders".to_owned(),
        ControlKind::ReleaseIsp => "the gate grants mail to this ISP again".to_owned(),
    }
}

/// What SES is asked to do, as an infinitive; empty if the control is not for SES. [`obeys`] says it in the third
/// person.
fn asked_of_ses(kind: ControlKind) -> &'static str {
    match kind {
        ControlKind::PauseConfigurationSet => "accept no more mail with this configuration set",
        ControlKind::PauseTenant => "accept no more mail of this tenant",
        ControlKind::PauseAccount => "accept no more mail of this account",
        ControlKind::ResumeConfigurationSet | ControlKind::ResumeTenant | ControlKind::ResumeAccount => {
            "accept mail again"
        }
        ControlKind::SetQuotaFactor(_) | ControlKind::HoldIsp | ControlKind::ReleaseIsp => "",
    }
}

/// What SES does once it has carried out a control; empty if the control is not for SES.
fn obeys(kind: ControlKind) -> &'static str {
    match kind {
        ControlKind::PauseConfigurationSet => {
            "it accepts no more mail with this configuration set (mail it has accepted still goes out)"
        }
        ControlKind::PauseTenant => "it accepts no more mail of this tenant",
        ControlKind::PauseAccount => "it accepts no more mail of this account",
        ControlKind::ResumeConfigurationSet | ControlKind::ResumeTenant | ControlKind::ResumeAccount => {
            "it accepts mail again"
        }
        ControlKind::SetQuotaFactor(_) | ControlKind::HoldIsp | ControlKind::ReleaseIsp => "",
    }
}

/// The outcome of a control so far, for people.
fn outcome(control: &ControlRecord, desired_states: &[DesiredState]) -> String {
    let asks = done_by(control.kind);
    let Some(wanted) = control.kind.at_ses() else { return asks };
    let desired =
        desired_states.iter().find(|desired| desired.flow == wanted && desired.target.to_string() == control.target);
    // A later decision may have replaced it.
    let Some(desired) = desired else { return asks };
    let trouble = desired.trouble.as_ref().filter(|_| !desired.fresh);
    match trouble {
        _ if desired.gone.is_some() => format!("{asks}, and does not know it"),
        None if desired.is_true() => format!("SES has obeyed: {}", obeys(control.kind)),
        Some(trouble) if trouble.denied.is_some() => {
            format!("{asks}, and refuses: {}; it is asked again every few minutes", trouble.error)
        }
        Some(trouble) => format!("{asks}, and has not done it yet: {}", trouble.error),
        None => format!("{asks}, and has not done it yet"),
    }
}

fn short(target: &Subject) -> String {
    headline::short_name(target, None)
}

/// A name at the beginning of a sentence.
fn sentence_name(target: &Subject) -> String {
    capitalized(&full_name(target, None))
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

    /// Sends everything except one message, which is always refused.
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
            // A notice that is marked as sent is still remembered.
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
        // Another denial on the same day is reported, too.
        assert_ne!(at(0, 1), at(5, 5));
    }
}
