//! The alert queue: turns notices into alerts to people, and remembers what people were notified of.
//!
//! **Invariant:** an alert is saved with its text before it is sent, under a name that follows from its notices. So a
//! process that stops in between sends the same alert again, and not a similar one. **Invariant:** a change that is
//! held back is counted, and reported with the next alert about the same key, after the policy's
//! `alerts.summary_minutes` at the latest: nothing is lost.

use std::collections::{BTreeMap, BTreeSet};

use reputation::breaker::{Cause, StateName};
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::{MINUTE_MILLIS, Now};
use serde::{Deserialize, Serialize};

use super::fact::Fact;
use super::group::{FOLLOWS_MILLIS, groups};
use super::message::{Earlier, Known, Message};
use super::{Notice, time_of};

/// How long a notice waits for others that were decided with it, in milliseconds: a breaker saves what it decides subject
/// by subject.
pub const SETTLE_MILLIS: i64 = 1_500;

/// A notice from further in the future than this was written by a wrong clock: it is not waited for.
const SKEW_MILLIS: i64 = 10_000;

/// How long the stop of one more configuration set of a known incident is held back, in milliseconds. It is then
/// reported with everything that followed meanwhile.
const STOPPED_MILLIS: i64 = 5 * MINUTE_MILLIS;

/// After how many minutes without news the record about a key is dropped; no policy's `alerts.again_minutes` is longer.
const FORGET_MINUTES: u32 = 7 * 24 * 60;

/// Limits on the alerts in the queue, on the keys with changes held back, and on the bytes remembered about the other
/// keys: the alert queue is one item, and DynamoDB takes 400 KB.
const MAX_ALERTS: usize = 4;
const MAX_HELD_BACK: usize = 20;
const MAX_REMEMBERED: usize = 150_000;
/// Most bytes of the names of one alert's notices. Further notices go into another alert.
const MAX_NAMES: usize = 10_000;
/// Most changes that a summary lists; of the others it gives the number.
const MAX_LINES: usize = 6;
/// Bytes of a reason that is kept for a summary.
const MAX_REASON: usize = 600;

/// Alerts that are not sent yet, and what people were notified of. Stored as one item, conditional on its version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertQueue {
    /// Grows by one with each save; 0 = never saved.
    #[serde(skip)]
    pub version: u64,
    /// Alerts to send, in order.
    #[serde(rename = "letters")]
    pub alerts: Vec<QueuedAlert>,
    /// What people were notified of, for each key (see [`super::key_name`]).
    #[serde(rename = "told")]
    pub sent: BTreeMap<String, SentLog>,
}

/// An alert: a group of notices, and the message to people about them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueuedAlert {
    /// Name of the group: the name of its leading notice.
    pub id: String,
    /// The message to people; `None` if it is held back this time.
    pub message: Option<Message>,
    /// Names of its notices, which are sent to programs one by one. A summary has none.
    pub notices: Vec<String>,
}

/// What people were notified of about one key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SentLog {
    /// The last group with a notice about it.
    pub group: String,
    /// When that was, in milliseconds since 1970.
    pub heard: i64,
    /// State in the last alert.
    pub state: StateName,
    /// When the last alert about it was written, in milliseconds since 1970.
    pub at: i64,
    /// When each standing ([`Fact::standing`]) was last reported, in milliseconds since 1970.
    standings: BTreeMap<String, i64>,
    /// When harm of each severity ([`Fact::severity`]) was last reported, in milliseconds since 1970.
    levels: BTreeMap<u8, i64>,
    /// The changes held back since.
    pub held_back: Option<HeldBack>,
}

/// Changes of one key that were not reported one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldBack {
    /// How many.
    pub count: u32,
    /// When the first was, in milliseconds since 1970.
    pub since: i64,
    /// The last of them: when, and from what to what.
    lines: Vec<(i64, String)>,
    /// The last one, in full.
    last: Fact,
}

impl AlertQueue {
    /// Writes alerts for the notices that are due, and for changes that were held back long enough. Returns whether
    /// anything changed.
    pub(super) fn arrange(&mut self, known: &Known<'_>, unsent: &[Notice], now: Now) -> bool {
        let waiting: BTreeSet<&str> = unsent.iter().map(|notice| notice.id.as_str()).collect();
        let before = self.alerts.len();
        // Notices are marked as sent after their alert is sent. So an alert whose notices are all marked has been sent.
        self.alerts
            .retain(|alert| alert.notices.is_empty() || alert.notices.iter().any(|id| waiting.contains(id.as_str())));
        let mut changed = self.alerts.len() != before;
        let sealed: BTreeSet<String> = self.alerts.iter().flat_map(|alert| alert.notices.iter().cloned()).collect();
        let mut facts = Vec::new();
        let mut due = BTreeSet::new();
        for notice in unsent.iter().filter(|notice| !sealed.contains(&notice.id) && settles(notice, now).is_none()) {
            match Fact::of(notice) {
                Some(fact) => {
                    if wait(notice, now).is_none() {
                        due.insert(facts.len());
                    }
                    facts.push(fact);
                }
                None if self.has_room() => {
                    let (id, notices) = (notice.id.clone(), vec![notice.id.clone()]);
                    self.alerts.push(QueuedAlert { id, message: Some(Message::of_notice(notice)), notices });
                    changed = true;
                }
                None => {}
            }
        }
        let groups = groups(&facts, &self.sent).into_iter();
        for group in groups.filter(|group| group.iter().any(|place| due.contains(place))) {
            for part in parts(&facts, &group) {
                if self.has_room() {
                    self.write(known, part, now);
                    changed = true;
                }
            }
        }
        changed |= self.write_summaries(known, now);
        if changed {
            self.forget(now);
        }
        changed
    }

    /// Whether changes are held back, so that a summary may be due.
    pub(super) fn holds_back(&self) -> bool {
        self.sent.values().any(|sent| sent.held_back.is_some())
    }

    fn has_room(&self) -> bool {
        self.alerts.len() < MAX_ALERTS
    }

    /// Writes an alert about one group, or records that it is held back.
    fn write(&mut self, known: &Known<'_>, mut facts: Vec<&Fact>, now: Now) {
        facts.sort_by_key(|fact| fact.lead());
        let Some(lead) = facts.first().copied() else { return };
        let group = lead.id.clone();
        let is_reported = facts.iter().any(|fact| self.is_news(known.policy, fact, now));
        let notices: Vec<String> = facts.iter().map(|fact| fact.id.clone()).collect();
        let message = if is_reported {
            let keys: BTreeSet<String> = facts.iter().map(|fact| fact.key()).collect();
            let earlier: Vec<Earlier> = keys.into_iter().filter_map(|key| self.take_held_back(&key)).collect();
            Some(Message::of_facts(known, group.clone(), &facts, &earlier))
        } else {
            None
        };
        // In the order in which they happened: the last one gives the current state of a key.
        facts.sort_by(|a, b| a.id.cmp(&b.id));
        for fact in facts {
            let sent = self.sent.entry(fact.key()).or_default();
            (sent.group, sent.heard) = (group.clone(), now.0);
            if is_reported {
                sent.note_sent(known.policy, fact, now);
            } else if !fact.is_left_to_sets() {
                sent.hold_back(fact);
            }
        }
        self.alerts.push(QueuedAlert { id: group, message, notices });
    }

    /// Whether people are notified of it at once.
    fn is_news(&self, policy: &Policy, fact: &Fact, now: Now) -> bool {
        // People hear of the set.
        if fact.is_left_to_sets() {
            return false;
        }
        if self.is_of_a_known_incident(policy, fact, now) && self.has_room_to_hold_back(fact) {
            return false;
        }
        let Some(sent) = self.sent.get(&fact.key()) else { return true };
        let within = |at: &i64, minutes: u32| now.0.saturating_sub(*at) < i64::from(minutes) * MINUTE_MILLIS;
        // A person waits for the result of their command.
        fact.cause == Cause::Person
            || (fact.opens() && sent.state != StateName::Open && !fact.ends_the_mail_of_a_test())
            || !sent.standings.get(&fact.standing()).is_some_and(|at| within(at, policy.alerts.again_minutes))
            || !within(&sent.at, policy.alerts.summary_minutes)
            || !self.has_room_to_hold_back(fact)
    }

    fn has_room_to_hold_back(&self, fact: &Fact) -> bool {
        let is_held_back = |sent: &SentLog| sent.held_back.is_some();
        self.sent.get(&fact.key()).is_some_and(is_held_back)
            || self.sent.values().filter(|sent| is_held_back(sent)).count() < MAX_HELD_BACK
    }

    /// Whether a verdict is about harm that people already know of under another name, at this level or a worse one: in
    /// mail of the same identity.
    fn is_of_a_known_incident(&self, policy: &Policy, fact: &Fact, now: Now) -> bool {
        let recent = now.0.saturating_sub(i64::from(policy.alerts.summary_minutes) * MINUTE_MILLIS);
        let was_reported = |other: &Subject| {
            let sent = self.sent.get(&other.to_string());
            sent.is_some_and(|sent| sent.levels.iter().any(|(level, at)| *level >= fact.severity() && *at > recent))
        };
        // A set whose stop is withheld still sends: people must know at once.
        fact.cause == Cause::Verdict
            && !fact.is_withheld()
            // Without a gate nothing is done at one ISP that is not done to the whole subject.
            && (fact.isp.is_none() || !fact.gate)
            && fact.level.is_some()
            && fact.shares_mail_with.iter().any(was_reported)
    }

    fn take_held_back(&mut self, key: &str) -> Option<Earlier> {
        let held_back = self.sent.get_mut(key)?.held_back.take()?;
        Some(Earlier { key: key.to_owned(), count: held_back.count, since: held_back.since, lines: held_back.lines })
    }

    /// Writes alerts for changes that were held back long enough, one for each group of changes that belong together.
    fn write_summaries(&mut self, known: &Known<'_>, now: Now) -> bool {
        let quiet = i64::from(known.policy.alerts.summary_minutes) * MINUTE_MILLIS;
        let due = |sent: &SentLog| {
            let Some(held_back) = &sent.held_back else { return false };
            let since = if sent.at == 0 { held_back.since } else { sent.at };
            // The stop of one more configuration set is held back only for a short time.
            let stopped = if held_back.last.stops() && !held_back.last.ends_the_mail_of_a_test() {
                Some(held_back.last.at().0)
            } else {
                None
            };
            now.0.saturating_sub(since) >= quiet
                || stopped.is_some_and(|at| sent.state != StateName::Open && now.0.saturating_sub(at) >= STOPPED_MILLIS)
        };
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, sent) in self.sent.iter().filter(|(_, sent)| due(sent)) {
            groups.entry(sent.group.clone()).or_default().push(key.clone());
        }
        let mut written = false;
        for (group, keys) in groups {
            if !self.has_room() {
                break;
            }
            let (mut last, mut earlier) = (Vec::new(), Vec::new());
            for key in keys {
                last.extend(self.sent.get(&key).and_then(|sent| sent.held_back.as_ref()).map(|held| held.last.clone()));
                earlier.extend(self.take_held_back(&key));
            }
            for fact in &last {
                self.sent.entry(fact.key()).or_default().note_sent(known.policy, fact, now);
            }
            let mut facts: Vec<&Fact> = last.iter().collect();
            facts.sort_by_key(|fact| fact.lead());
            // Held-back changes of one group are not always due at the same time.
            let newest = facts.iter().map(|fact| fact.at().0).max().unwrap_or_default();
            let id = format!("{group}#summary#{newest}");
            let message = Some(Message::of_summary(known, id.clone(), &facts, &earlier));
            self.alerts.push(QueuedAlert { id, message, notices: Vec::new() });
            written = true;
        }
        written
    }

    /// Keeps the alert queue small. A dropped key is reported again at its next change.
    fn forget(&mut self, now: Now) {
        let old = now.0.saturating_sub(i64::from(FORGET_MINUTES) * MINUTE_MILLIS);
        self.sent.retain(|_, sent| sent.heard > old || sent.held_back.is_some());
        let mut ages: Vec<(i64, &String, usize)> = self
            .sent
            .iter()
            .filter(|(_, sent)| sent.held_back.is_none())
            .map(|(key, sent)| (sent.heard, key, key.len() + sent.size()))
            .collect();
        ages.sort_unstable_by(|a, b| b.cmp(a));
        let mut size = 0;
        let beyond = |(_, key, more): (i64, &String, usize)| {
            size += more;
            (size > MAX_REMEMBERED).then(|| key.clone())
        };
        let forgotten: Vec<String> = ages.into_iter().filter_map(beyond).collect();
        for key in forgotten {
            self.sent.remove(&key);
        }
    }
}

impl SentLog {
    /// About how many bytes it takes when stored.
    fn size(&self) -> usize {
        let standings: usize = self.standings.keys().map(|standing| standing.len() + 20).sum();
        self.group.len() + standings + self.levels.len() * 20 + 120
    }

    fn note_sent(&mut self, policy: &Policy, fact: &Fact, now: Now) {
        let old = now.0.saturating_sub(i64::from(policy.alerts.again_minutes) * MINUTE_MILLIS);
        self.standings.retain(|_, at| *at > old);
        self.standings.insert(fact.standing(), now.0);
        // In shadow nothing was done, and harm that got better is over.
        match (fact.level.is_some(), fact.shadow) {
            (true, false) => _ = self.levels.insert(fact.severity(), now.0),
            (true, true) => {}
            (false, _) => self.levels.clear(),
        }
        self.levels.retain(|_, at| *at > old);
        (self.state, self.at) = (fact.to, now.0);
    }

    fn hold_back(&mut self, fact: &Fact) {
        let at = fact.at().0;
        let (count, since, mut lines) = match self.held_back.take() {
            Some(before) => (before.count.saturating_add(1), before.since, before.lines),
            None => (1, at, Vec::new()),
        };
        lines.push((at, fact.moved()));
        if lines.len() > MAX_LINES {
            lines.remove(0);
        }
        let mut last = fact.clone();
        let reason = &mut last.detail.record.reason;
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        self.held_back = Some(HeldBack { count, since, lines, last });
    }
}

/// Splits a group into parts whose names fit into one alert.
fn parts<'a>(facts: &'a [Fact], group: &[usize]) -> Vec<Vec<&'a Fact>> {
    let mut group: Vec<&Fact> = group.iter().map(|place| &facts[*place]).collect();
    group.sort_by_key(|fact| fact.lead());
    let (mut parts, mut length) = (vec![Vec::new()], 0);
    for fact in group {
        length += fact.id.len();
        if length > MAX_NAMES {
            length = fact.id.len();
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push(fact);
        }
    }
    parts
}

/// How many milliseconds a notice has to wait for others; `None` if it need not wait. Longer if other configuration
/// sets may follow.
pub(super) fn wait(notice: &Notice, now: Now) -> Option<i64> {
    let may_be_followed = Fact::of(notice).is_some_and(|fact| fact.may_be_followed());
    left_of(if may_be_followed { FOLLOWS_MILLIS } else { SETTLE_MILLIS }, notice, now)
}

/// How many milliseconds are left until everything that was decided with a notice is there; `None` if it is.
fn settles(notice: &Notice, now: Now) -> Option<i64> {
    left_of(SETTLE_MILLIS, notice, now)
}

fn left_of(millis: i64, notice: &Notice, now: Now) -> Option<i64> {
    let left = time_of(&notice.id).0.saturating_add(millis).saturating_sub(now.0);
    (1..millis + SKEW_MILLIS).contains(&left).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notices of subjects with the longest possible names, and reasons that are too long.
    fn long_notice(number: usize, at: i64, to: &str) -> Notice {
        let subject = format!("tag:{}={}{number:06}", "n".repeat(255), "\"".repeat(249));
        let isp = if number.is_multiple_of(2) { "null" } else { "\"gmail\"" };
        let detail = serde_json::json!({
            "subject": subject, "isp": serde_json::from_str::<serde_json::Value>(isp).unwrap(), "from": "closed", "to": to,
            "level": "throttle", "shadow": false, "reason": "\"".repeat(5_000), "controls": [format!("pause_tenant {subject}")],
        });
        Notice {
            id: format!("{at:013}#{subject}#{number:06}"),
            title: "t".repeat(100),
            text: String::new(),
            kind: Notice::TRANSITION,
            detail: detail.to_string(),
        }
    }

    #[test]
    fn however_much_happens_the_alert_queue_fits_an_item() {
        let policy = Policy::default();
        let mut alert_queue = AlertQueue::default();
        let mut largest = 0;
        for round in 0..2_i64 {
            let at = 1_791_273_600_000 + round * 60_000;
            // The same subject at two ISPs is a group; the same numbers make all of them one group.
            let unsent: Vec<Notice> = (0..200).map(|number| long_notice(number, at, "throttled")).collect();
            for _ in 0..15 {
                alert_queue.arrange(&Known { policy: &policy, desired_states: &[] }, &unsent, Now(at + SETTLE_MILLIS));
                largest = largest.max(serde_json::to_string(&alert_queue).unwrap().len());
            }
            alert_queue.alerts.clear();
            for number in 0..200 {
                let notice = [long_notice(number, at + 1, "throttled")];
                alert_queue.arrange(&Known { policy: &policy, desired_states: &[] }, &notice, Now(at + 30_000));
                largest = largest.max(serde_json::to_string(&alert_queue).unwrap().len());
                alert_queue.alerts.clear();
            }
        }
        assert!(alert_queue.sent.values().any(|sent| sent.held_back.is_some()));
        assert!((150_000..390_000).contains(&largest), "{largest}");
    }

    /// As the release before [`TransitionDetail`](crate::transition::TransitionDetail) wrote it.
    #[test]
    fn a_queue_of_an_earlier_release_is_read() {
        let stored = r#"{"letters":[{"id":"1","message":{"id":"1","title":"[STOPPED] news","kind":"Breaker Transition","level":"pause",
            "subject":"configuration-set:news","subjects":["configuration-set:news"],"at":"2026-10-06T08:00:00.000Z","summary":"","first":"",
            "runbook":"stopped","body":"","commands":[{"purpose":"See its state","line":"ses-breaker status"}]},"notices":["1"]}],
            "told":{"configuration-set:news":{"group":"1","heard":1,"state":"open","at":1,"standings":{"open pause":1},"levels":{"3":1},
            "held_back":{"count":1,"since":1,"lines":[[1,"from sending to stopped"]],"last":{"id":"0001791273600000#configuration-set:news#1",
            "title":"","subject":"configuration-set:news","isp":null,"from":"closed","to":"open","level":"pause","metric":"hard_bounce",
            "rule":"cusum","population":9,"bad":8,"cohorts":["2026-10-06T07:00:00Z","2026-10-06T08:00:00Z"],"shadow":false,"reason":"stopped",
            "by":null,"said":null,"controls":["pause_configuration_set configuration-set:news"],"cause":"verdict",
            "until":"2026-10-06T08:30:00.000Z","hold":"none","gate":false,"shares_mail_with":["identity:news.example"]}}},
            "tenant:t-1":{"state":""}}}"#;
        let queue: AlertQueue = serde_json::from_str(stored).unwrap();
        let news = &queue.sent["configuration-set:news"];
        let last = &news.held_back.as_ref().unwrap().last;
        assert_eq!(
            (news.state, last.to, last.controls.len(), last.until),
            (StateName::Open, StateName::Open, 1, Some(Now(1_791_275_400_000)))
        );
        assert_eq!(queue.sent["tenant:t-1"].state, StateName::Unknown);
        assert_eq!(queue.alerts[0].message.as_ref().unwrap().level, Some(reputation::detect::Level::Pause));
    }
}
