//! The desk: where notices become letters to people, and where it is remembered what people were told.
//!
//! **Invariant:** a letter is saved with what it says before it is sent, under a name that follows from its notices. So
//! who stops in between sends the same letter again, and not a similar one.
//! **Invariant:** what is not told is counted, and told with the next letter about the same key, after the policy's
//! `alerts.summary_minutes` at the latest: nothing is left out for good.

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

/// A notice from further in the future than this was written by a clock that is wrong: nobody waits for it.
const SKEW_MILLIS: i64 = 10_000;

/// That one more configuration set of a known incident is stopped is told after this time, in milliseconds, with all that came
/// of it meanwhile.
const STOPPED_MILLIS: i64 = 5 * MINUTE_MILLIS;

/// What people were told of a key that nothing is heard of is forgotten after so many minutes; no policy's
/// `alerts.again_minutes` is longer.
const FORGET_MINUTES: u32 = 7 * 24 * 60;

/// Letters on the desk at a time, keys of which something is held back, and bytes of what is remembered of the others: the
/// desk is one item, and DynamoDB takes 400 KB.
const MAX_LETTERS: usize = 4;
const MAX_HELD_BACK: usize = 20;
const MAX_REMEMBERED: usize = 150_000;
/// Bytes of the names of one letter's notices. More than that becomes another letter.
const MAX_NAMES: usize = 10_000;
/// Changes that a summary lists; of the others it tells how many there were.
const MAX_LINES: usize = 6;
/// Bytes of a reason that is kept for a summary.
const MAX_REASON: usize = 600;

/// Letters that are not sent yet, and what people were told. Stored as one thing, upon its version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertQueue {
    /// Grows by one with each save; 0 = never saved.
    #[serde(skip)]
    pub version: u64,
    /// Letters to send, in order.
    pub letters: Vec<Letter>,
    /// What people were told of each key (see [`super::key_name`]).
    #[serde(rename = "told")]
    pub sent: BTreeMap<String, SentLog>,
}

/// A group of notices, and what people are told of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// Name of the group: that of the notice that leads it.
    pub id: String,
    /// What people are told; `None` if this once they are not.
    pub message: Option<Message>,
    /// Names of its notices, of which programs are told one by one. A summary has none.
    pub notices: Vec<String>,
}

/// What people were told of one key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SentLog {
    /// The group in which it was heard of last.
    pub group: String,
    /// When that was, in milliseconds since 1970.
    pub heard: i64,
    /// State in the last letter.
    pub state: StateName,
    /// When people were last written to about it, in milliseconds since 1970.
    pub at: i64,
    /// When they were last told each standing.
    standings: BTreeMap<String, i64>,
    /// When they were last told of harm at each level, by [`Fact::severity`].
    levels: BTreeMap<u8, i64>,
    /// What was held back since.
    pub held_back: Option<HeldBack>,
}

/// Changes of one key that people were not told one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldBack {
    /// How many.
    pub count: u32,
    /// When the first was, in milliseconds since 1970.
    pub since: i64,
    /// The last of them: when, and from what to what.
    lines: Vec<(i64, String)>,
    /// The very last.
    last: Fact,
}

impl AlertQueue {
    /// Puts notices that are due into letters, and what was held back for long enough. Returns whether anything changed.
    pub(super) fn arrange(&mut self, known: &Known<'_>, unsent: &[Notice], now: Now) -> bool {
        let waiting: BTreeSet<&str> = unsent.iter().map(|notice| notice.id.as_str()).collect();
        let before = self.letters.len();
        // Notices are crossed out once their letter is sent. So a letter without any that is not crossed out was sent.
        self.letters.retain(|letter| {
            letter.notices.is_empty() || letter.notices.iter().any(|id| waiting.contains(id.as_str()))
        });
        let mut changed = self.letters.len() != before;
        let sealed: BTreeSet<String> = self.letters.iter().flat_map(|letter| letter.notices.iter().cloned()).collect();
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
                    self.letters.push(Letter { id, message: Some(Message::of_notice(notice)), notices });
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

    /// Whether something is held back, of which a message may be due.
    pub(super) fn holds_back(&self) -> bool {
        self.sent.values().any(|sent| sent.held_back.is_some())
    }

    fn has_room(&self) -> bool {
        self.letters.len() < MAX_LETTERS
    }

    /// Writes a letter about one group, or remembers that none was written.
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
        // In the order in which they happened: the last one is where a key is now.
        facts.sort_by(|a, b| a.id.cmp(&b.id));
        for fact in facts {
            let sent = self.sent.entry(fact.key()).or_default();
            (sent.group, sent.heard) = (group.clone(), now.0);
            if is_reported {
                sent.note_sent(known.policy, fact, now);
            } else {
                sent.hold_back(fact);
            }
        }
        self.letters.push(Letter { id: group, message, notices });
    }

    /// Whether people are told of it at once.
    fn is_news(&self, policy: &Policy, fact: &Fact, now: Now) -> bool {
        if self.is_of_a_known_incident(policy, fact, now) && self.has_room_to_hold_back(fact) {
            return false;
        }
        let Some(sent) = self.sent.get(&fact.key()) else { return true };
        let within = |at: &i64, minutes: u32| now.0.saturating_sub(*at) < i64::from(minutes) * MINUTE_MILLIS;
        // A person waits for what comes of their word.
        fact.cause == Cause::Person
            || (fact.opens() && sent.state != StateName::Open)
            || !sent.standings.get(&fact.standing()).is_some_and(|at| within(at, policy.alerts.again_minutes))
            || !within(&sent.at, policy.alerts.summary_minutes)
            || !self.has_room_to_hold_back(fact)
    }

    fn has_room_to_hold_back(&self, fact: &Fact) -> bool {
        let is_held_back = |sent: &SentLog| sent.held_back.is_some();
        self.sent.get(&fact.key()).is_some_and(is_held_back)
            || self.sent.values().filter(|sent| is_held_back(sent)).count() < MAX_HELD_BACK
    }

    /// Whether a verdict is about harm that people were told of under another name, at this level or a worse one: in mail of the
    /// same identity.
    fn is_of_a_known_incident(&self, policy: &Policy, fact: &Fact, now: Now) -> bool {
        let recent = now.0.saturating_sub(i64::from(policy.alerts.summary_minutes) * MINUTE_MILLIS);
        let was_told = |other: &Subject| {
            let sent = self.sent.get(&other.to_string());
            sent.is_some_and(|sent| sent.levels.iter().any(|(level, at)| *level >= fact.severity() && *at > recent))
        };
        // What waits for a place is still sent: that is for a person to know at once.
        fact.cause == Cause::Verdict
            && !fact.is_withheld()
            // Without a gate nothing happens at one ISP that does not happen to the whole.
            && (fact.isp.is_none() || !fact.gate)
            && fact.level.is_some()
            && fact.shares_mail_with.iter().any(was_told)
    }

    fn take_held_back(&mut self, key: &str) -> Option<Earlier> {
        let held_back = self.sent.get_mut(key)?.held_back.take()?;
        Some(Earlier { key: key.to_owned(), count: held_back.count, since: held_back.since, lines: held_back.lines })
    }

    /// Writes down what was held back for long enough, in one letter for all that went together.
    fn write_summaries(&mut self, known: &Known<'_>, now: Now) -> bool {
        let quiet = i64::from(known.policy.alerts.summary_minutes) * MINUTE_MILLIS;
        let due = |sent: &SentLog| {
            let Some(held_back) = &sent.held_back else { return false };
            let since = if sent.at == 0 { held_back.since } else { sent.at };
            // That mail of one more configuration set is stopped is not kept from people for long.
            let stopped = if held_back.last.stops() { Some(held_back.last.at().0) } else { None };
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
            // What is held back of one group is not always due at the same time.
            let newest = facts.iter().map(|fact| fact.at().0).max().unwrap_or_default();
            let id = format!("{group}#summary#{newest}");
            let message = Some(Message::of_summary(known, id.clone(), &facts, &earlier));
            self.letters.push(Letter { id, message, notices: Vec::new() });
            written = true;
        }
        written
    }

    /// Keeps the desk small. Who is forgotten is told anew.
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
    /// Bytes that it takes when it is stored, about.
    fn size(&self) -> usize {
        let standings: usize = self.standings.keys().map(|standing| standing.len() + 20).sum();
        self.group.len() + standings + self.levels.len() * 20 + 120
    }

    fn note_sent(&mut self, policy: &Policy, fact: &Fact, now: Now) {
        let old = now.0.saturating_sub(i64::from(policy.alerts.again_minutes) * MINUTE_MILLIS);
        self.standings.retain(|_, at| *at > old);
        self.standings.insert(fact.standing(), now.0);
        // Nothing was done in shadow; and what got better is over.
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

/// Cuts a group into parts whose names fit a letter.
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

/// How many milliseconds a notice has to wait for others; `None` if it need not. Longer where other configuration sets may
/// follow.
pub(super) fn wait(notice: &Notice, now: Now) -> Option<i64> {
    let may_be_followed = Fact::of(notice).is_some_and(|fact| fact.may_be_followed());
    left_of(if may_be_followed { FOLLOWS_MILLIS } else { SETTLE_MILLIS }, notice, now)
}

/// How many milliseconds are left until all that was decided with a notice is there; `None` if it is.
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

    /// Notices of subjects with names as long as they get and reasons that are longer.
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
    fn however_much_happens_the_desk_fits_an_item() {
        let policy = Policy::default();
        let mut alert_queue = AlertQueue::default();
        let mut largest = 0;
        for round in 0..2_i64 {
            let at = 1_791_273_600_000 + round * 60_000;
            // The same subject at two ISPs is a group; the same numbers make all of them one.
            let unsent: Vec<Notice> = (0..200).map(|number| long_notice(number, at, "throttled")).collect();
            for _ in 0..15 {
                alert_queue.arrange(&Known { policy: &policy, wishes: &[] }, &unsent, Now(at + SETTLE_MILLIS));
                largest = largest.max(serde_json::to_string(&alert_queue).unwrap().len());
            }
            alert_queue.letters.clear();
            for number in 0..200 {
                let notice = [long_notice(number, at + 1, "throttled")];
                alert_queue.arrange(&Known { policy: &policy, wishes: &[] }, &notice, Now(at + 30_000));
                largest = largest.max(serde_json::to_string(&alert_queue).unwrap().len());
                alert_queue.letters.clear();
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
        assert_eq!(queue.letters[0].message.as_ref().unwrap().level, Some(reputation::detect::Level::Pause));
    }
}
