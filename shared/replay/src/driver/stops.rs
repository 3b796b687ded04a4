//! Periods in which a key was stopped, and the mail of that time, which a replay cannot hold back.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::ports::Change;
use pipeline::senders::Senders;
use reputation::breaker::StateName;
use reputation::counters::Counters;
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{DAY, MINUTE_MILLIS, Now};
use reputation::unit::{SenderId, Unit, UnitKind};

/// A period in which a key was stopped, and the mail of that time, which a replay cannot hold back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The key.
    pub key: Key,
    /// The start.
    pub from: Now,
    /// The end; `None` = the end of the replay.
    pub until: Option<Now>,
    /// The counters of the mail that was accepted in that time.
    pub mail: Counters,
}

/// Mail for a period that ended this long ago is no longer counted, in minutes.
const FORGET_MINUTES: u32 = 7 * DAY;

/// The periods so far.
#[derive(Debug, Default)]
pub(super) struct Stops {
    /// In the order in which they began.
    pub(super) periods: Vec<Stopped>,
    /// The periods of each subject for which mail may still come, by their indices.
    by_subject: BTreeMap<Subject, Vec<usize>>,
    /// The same for each sender's keys, by sender.
    by_sender: BTreeMap<SenderId, Vec<usize>>,
}

impl Stops {
    /// Begins and ends periods as these changes say.
    pub(super) fn follow(&mut self, changes: &[Change], senders: &Senders) {
        for change in changes {
            let Some(transition) = &change.transition else { continue };
            let (was_open, is_open) = (transition.from == StateName::Open, transition.to == StateName::Open);
            if is_open && !was_open {
                let stopped = Stopped {
                    key: transition.key.clone(),
                    from: transition.at,
                    until: None,
                    mail: Counters::default(),
                };
                self.periods.push(stopped);
                self.watch_senders_of(self.periods.len() - 1, senders);
            } else if was_open && !is_open {
                let last = self.periods.iter_mut().rev().find(|stopped| stopped.key == transition.key);
                if let Some(stopped) = last {
                    stopped.until = Some(transition.at);
                }
            }
        }
    }

    fn watch_senders_of(&mut self, index: usize, senders: &Senders) {
        let subject = &self.periods[index].key.subject;
        self.by_subject.entry(subject.clone()).or_default().push(index);
        for id in 0..senders.len() {
            let id = SenderId(u32::try_from(id).unwrap_or(u32::MAX));
            if *subject == Subject::Account || senders.subjects(id).contains(subject) {
                self.by_sender.entry(id).or_default().push(index);
            }
        }
    }

    /// A sender has its first mail, or its first since it was forgotten, perhaps after its subjects were stopped.
    pub(super) fn meet(&mut self, id: SenderId, senders: &Senders) {
        if self.by_subject.is_empty() || self.by_sender.contains_key(&id) {
            return;
        }
        let subjects = senders.subjects(id).iter().chain(std::iter::once(&Subject::Account));
        let indices: Vec<usize> =
            subjects.filter_map(|subject| self.by_subject.get(subject)).flatten().copied().collect();
        if !indices.is_empty() {
            self.by_sender.insert(id, indices);
        }
    }

    /// Counts a unit of mail that was accepted while its key was stopped.
    pub(super) fn count(&mut self, unit: &Unit, policy: &Policy) {
        let Some(indices) = self.by_sender.get(&unit.sender) else { return };
        for index in indices {
            let stopped = &mut self.periods[*index];
            let meanwhile =
                unit.cohort > stopped.from.minute() && stopped.until.is_none_or(|until| unit.cohort < until.minute());
            if meanwhile && stopped.key.isp.is_none_or(|isp| isp == unit.isp) {
                let heard = policy.isp_map.returns_complaints(unit.isp) || unit.kind == UnitKind::Complaint;
                stopped.mail.add(unit.kind, 1, heard);
            }
        }
    }

    /// Forgets the senders of periods that ended days ago.
    pub(super) fn forget_old(&mut self, now: Now) {
        let long_ago = Now(now.0 - i64::from(FORGET_MINUTES) * MINUTE_MILLIS);
        let may_have_mail = |index: &usize| self.periods[*index].until.is_none_or(|until| until > long_ago);
        let of_senders = self.by_sender.values_mut();
        of_senders.chain(self.by_subject.values_mut()).for_each(|indices| indices.retain(may_have_mail));
        self.by_sender.retain(|_, indices| !indices.is_empty());
        self.by_subject.retain(|_, indices| !indices.is_empty());
    }

    /// Forgets these senders, until they have mail again.
    pub(super) fn forget(&mut self, lost: &BTreeSet<SenderId>) {
        self.by_sender.retain(|id, _| !lost.contains(id));
    }
}
