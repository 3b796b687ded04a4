//! Notices: what people, and programs, are told.
//!
//! A notice is saved together with the change it tells of, under a name that follows from the change, and is crossed
//! out once it is sent. So none is lost, and one that is sent twice (a crash between the two) carries one name.

use reputation::isp::IspMap;
use reputation::subject::{Key, Subject};
use reputation::time::{DAY, MINUTE_MILLIS, Minute, Now};
use serde::Serialize;

use crate::ports::{Change, ControlKind, Disposition, PortError, Transition};

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

/// Keeps notices until they are sent.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Outbox {
    /// Notices that are not crossed out, oldest first; perhaps not all at once.
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

    /// Crosses one out.
    ///
    /// # Errors
    ///
    /// It was crossed out or not: do it again.
    async fn sent(&mut self, id: &str) -> Result<(), PortError>;
}

/// Tells people and programs.
#[expect(async_fn_in_trait, reason = "ports are used with static dispatch only")]
pub trait Alerts {
    /// Sends one notice.
    ///
    /// # Errors
    ///
    /// It was sent or not: send it again.
    async fn send(&mut self, notice: &Notice) -> Result<(), PortError>;
}

/// What became of the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// How many notices were sent.
    pub sent: usize,
    /// Those that can never be sent, by their names, and why. They are crossed out: one of them must not hold up the others.
    pub refused: Vec<(String, PortError)>,
}

/// Sends what is in the outbox.
///
/// # Errors
///
/// Some may have been sent; deliver again.
pub async fn deliver<O: Outbox, A: Alerts>(outbox: &mut O, alerts: &mut A) -> Result<Delivered, PortError> {
    let mut delivered = Delivered::default();
    loop {
        let notices = outbox.unsent().await?;
        if notices.is_empty() {
            return Ok(delivered);
        }
        for notice in &notices {
            match alerts.send(notice).await {
                Ok(()) => delivered.sent += 1,
                Err(error) if error.disposition == Disposition::Quarantine => {
                    delivered.refused.push((notice.id.clone(), error));
                }
                Err(error) => return Err(error),
            }
            outbox.sent(&notice.id).await?;
        }
    }
}

impl Notice {
    /// Kind of a notice about a breaker.
    pub const TRANSITION: &'static str = "Breaker Transition";
    /// Kind of a notice about a target that is gone.
    pub const GONE: &'static str = "Control Target Gone";
    /// Kind of a notice about a control that we may not carry out.
    pub const DENIED: &'static str = "Control Denied";

    /// All kinds.
    pub const KINDS: [&'static str; 3] = [Notice::TRANSITION, Notice::GONE, Notice::DENIED];

    /// What a change tells people; `None` if nothing.
    pub fn of(change: &Change, isps: &IspMap) -> Option<Notice> {
        let told = change.transition.as_ref()?;
        let name = key_name(&told.key, isps);
        let from_to = if told.from == told.to { told.to.to_owned() } else { format!("{} -> {}", told.from, told.to) };
        let shadow = if told.shadow { " (shadow: nothing is done)" } else { "" };
        let word = told.level.map_or("news", |level| level.name());
        let detail = Detail { transition: ReportedTransition::of(told, isps), controls: controls(change, isps) };
        let mut text = format!("{name}: {from_to}{shadow}\n\n{}\n", told.reason);
        text.push_str("\nDone: ");
        text.push_str(&done(change, told));
        text.push_str("\nTo see more: ses-breaker status\n");
        text.push_str(&undo(told));
        let id = format!("{:013}#{name}#{:06}", told.at.0.max(0), change.version + 1);
        let title = title(&format!("ses-breaker {word}: {name} {from_to}"));
        let detail = serde_json::to_string(&detail).unwrap_or_default();
        Some(Notice { id, title, text, kind: Notice::TRANSITION, detail })
    }

    /// Tells that a target of a control does not exist any more.
    pub fn gone(target: &Subject, now: Now) -> Notice {
        let text = format!(
            "{target} does not exist at SES any more, so the wish about it is forgotten.\n\nIf it is created again, \
             it starts without a pause of ours.\n"
        );
        Notice::about(Notice::GONE, "gone", target, &text, now)
    }

    /// Tells that SES denies us a control; once a day for each target.
    pub fn denied(target: &Subject, why: &str, now: Now) -> Notice {
        let text = format!(
            "SES denies ses-breaker what it has to do about {target}: {why}\n\nThe wish stands and is tried again \
             every few minutes. Look at the role of the enforcer function: the template gives it what it needs; a \
             service control policy or a permissions boundary may take it away.\n"
        );
        Notice::about(Notice::DENIED, "denied", target, &text, now)
    }

    fn about(kind: &'static str, word: &str, target: &Subject, text: &str, now: Now) -> Notice {
        let day = now.0.max(0) / (i64::from(DAY) * MINUTE_MILLIS) * i64::from(DAY) * MINUTE_MILLIS;
        let detail = serde_json::json!({ "at": now.to_string(), "subject": target.to_string(), "reason": text });
        Notice {
            id: format!("{day:013}#{target}#{word}"),
            title: title(&format!("ses-breaker {word}: {target}")),
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
    /// At which ISP; null = at all.
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
struct Detail {
    #[serde(flatten)]
    transition: ReportedTransition,
    controls: Vec<String>,
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
    let mut done: Vec<String> = Vec::new();
    for control in &change.controls {
        done.push(match control.kind {
            ControlKind::PauseConfigurationSet => {
                "SES is told to accept no more mail with this configuration set (mail it has accepted still goes out)"
                    .to_owned()
            }
            ControlKind::PauseTenant => "SES is told to accept no more mail of this tenant".to_owned(),
            ControlKind::PauseAccount => "SES is told to accept no more mail of this account".to_owned(),
            ControlKind::ResumeConfigurationSet | ControlKind::ResumeTenant | ControlKind::ResumeAccount => {
                "SES is told to accept mail again".to_owned()
            }
            ControlKind::SetQuotaFactor(factor) => format!("{factor} of the quota may be sent"),
            ControlKind::HoldIsp => "mail to this ISP is held, for all senders".to_owned(),
            ControlKind::ReleaseIsp => "mail to this ISP flows again".to_owned(),
        });
    }
    match (done.is_empty(), told.shadow) {
        (true, true) => "nothing, because this is decided in shadow".to_owned(),
        (true, false) => "nothing but telling you".to_owned(),
        (false, _) => done.join("; "),
    }
}

/// How to undo it, for people.
fn undo(told: &Transition) -> String {
    let subject = &told.key.subject;
    match (told.to, told.key.isp) {
        ("open", None) => format!("To let it flow again: ses-breaker resume {subject}\n"),
        _ => String::new(),
    }
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
        async fn send(&mut self, notice: &Notice) -> Result<(), PortError> {
            if notice.title.contains("odd") {
                let (operation, reason) = ("publishing", "InvalidParameter".to_owned());
                return Err(PortError { operation, reason, disposition: Disposition::Quarantine });
            }
            self.0.push(notice.title.clone());
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
            let delivered = deliver(&mut outbox, &mut alerts).await.unwrap();
            assert_eq!((delivered.sent, delivered.refused.len()), (2, 1));
            assert_eq!(deliver(&mut outbox, &mut alerts).await, Ok(Delivered::default()));
            // Crossed out is not forgotten.
            outbox.put(&Notice::gone(&Subject::ConfigurationSet("a".into()), Now(0))).await.unwrap();
            assert_eq!(deliver(&mut outbox, &mut alerts).await, Ok(Delivered::default()));
        });
        assert_eq!(alerts.0.len(), 2);
    }

    #[test]
    fn the_same_denial_has_one_name_a_day() {
        let target = Subject::ConfigurationSet("news".into());
        let at = |hour: i64| Notice::denied(&target, "AccessDenied", Now(1_791_273_601_745 + hour * 3_600_000)).id;
        assert_eq!(at(0), at(3));
        assert_ne!(at(0), at(24));
    }
}
