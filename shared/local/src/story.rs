//! What happens in a demo, event by event.

use pipeline::notice::Notice;
use pipeline::transition::{Transition, TransitionDetail, TransitionRecord};
use reputation::breaker::StateName;
use reputation::isp::IspMap;
use reputation::time::Now;
use serde::Serialize;
use serde_json::Value;

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A campaign to an old list begins.
    Campaign,
    /// An ISP begins to refuse the mail of a configuration set.
    Blocked,
    /// The ISP accepts it again.
    Unblocked,
    /// SES refuses the mail of a configuration set, and the sender keeps it.
    Refused,
    /// The sender throws the rest of the list away.
    Cleaned,
    /// SES accepts the mail again.
    Accepted,
    /// A breaker reports harm and changes no state.
    Warned,
    /// A breaker slows mail.
    Slowed,
    /// A breaker stops mail.
    Stopped,
    /// A breaker tests new mail.
    Testing,
    /// A breaker lets all mail be sent.
    Sending,
    /// Another message of the stack: a digest, or trouble at SES.
    Message,
}

impl Kind {
    /// The word that people see.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Campaign => "campaign",
            Kind::Blocked => "blocked",
            Kind::Unblocked => "unblocked",
            Kind::Refused => "refused",
            Kind::Cleaned => "cleaned",
            Kind::Accepted => "accepted",
            Kind::Warned => "warned",
            Kind::Slowed => "slowed",
            Kind::Stopped => "stopped",
            Kind::Testing => "testing",
            Kind::Sending => "sending",
            Kind::Message => "message",
        }
    }

    /// The state of a breaker that it is about; `None` if it is about something else.
    pub fn state(self) -> Option<StateName> {
        match self {
            Kind::Warned | Kind::Slowed => Some(StateName::Throttled),
            Kind::Stopped => Some(StateName::Open),
            Kind::Testing => Some(StateName::Probing),
            Kind::Sending => Some(StateName::Closed),
            Kind::Campaign
            | Kind::Blocked
            | Kind::Unblocked
            | Kind::Refused
            | Kind::Cleaned
            | Kind::Accepted
            | Kind::Message => None,
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, in simulated time.
    pub at: Now,
    /// What it is.
    #[serde(rename = "event")]
    pub kind: Kind,
    /// The subject that it is about, such as `configuration-set:newsletter`; null if it is about all.
    pub subject: Option<String>,
    /// The ISP, or null for all ISPs.
    pub isp: Option<String>,
    /// What happened, and why, in words.
    pub text: String,
}

impl Event {
    /// What a breaker did.
    pub(crate) fn of_transition(transition: &Transition, isps: &IspMap) -> Event {
        Event::of(TransitionRecord::of(transition, isps), transition.gate)
    }

    /// What the stack reports in an entry of EventBridge, put there at `now`; `None` if [`Event::of_transition`] has it, from the
    /// function that decided it.
    pub(crate) fn of_entry(entry: &Value, now: Now) -> Option<Event> {
        let kind = entry["DetailType"].as_str().unwrap_or_default();
        let detail = entry["Detail"].as_str().unwrap_or_default();
        if kind == Notice::TRANSITION
            && let Ok(TransitionDetail { record, by, said, gate, .. }) = serde_json::from_str(detail)
        {
            let by = by?;
            let mut event = Event::of(record, gate);
            let name = by.rsplit('/').next().unwrap_or_default();
            let said = said.map(|said| format!(": {said}")).unwrap_or_default();
            event.text.push_str(&format!(" (by {name}{said})"));
            return Some(event);
        }
        let detail: Value = serde_json::from_str(detail).unwrap_or_default();
        let subject = detail["subject"].as_str().map(str::to_owned);
        let text = match detail["reason"].as_str() {
            Some(reason) => format!("{kind}: {reason}"),
            None => kind.to_owned(),
        };
        Some(Event { at: now, kind: Kind::Message, subject, isp: None, text })
    }

    fn of(record: TransitionRecord, gate: bool) -> Event {
        let kind = match record.to {
            StateName::Throttled if gate => Kind::Slowed,
            StateName::Throttled => Kind::Warned,
            to if to == record.from && record.level.is_some() => Kind::Warned,
            to if to == record.from => Kind::Message,
            StateName::Open => Kind::Stopped,
            StateName::Probing => Kind::Testing,
            StateName::Closed => Kind::Sending,
            StateName::InTrouble | StateName::Unknown => Kind::Message,
        };
        Event { at: record.at, kind, subject: Some(record.subject.to_string()), isp: record.isp, text: record.reason }
    }
}
