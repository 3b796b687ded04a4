//! The evidence about each key over time, as the breaker saw it, for people who want to see a verdict develop.
//!
//! The highest evidence since the key was last re-armed is kept, which is what is compared with the thresholds. It is sampled
//! every ten minutes for each sender with mail, and at each verdict.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::evaluate::{left_out, since_of_isp};
use pipeline::memory::MemoryReputation;
use pipeline::ports::{Change, SubjectState};
use pipeline::senders::Senders;
use reputation::breaker::State;
use reputation::counters::Metric;
use reputation::detect::{NAT, Rule};
use reputation::isp::Isp;
use reputation::judge::Judge;
use reputation::policy::Policy;
use reputation::subject::{Key, Subject};
use reputation::time::{Minute, Now};
use reputation::timeline::ExcludedIsp;
use reputation::unit::SenderId;

/// The interval between two samples, in minutes.
pub(crate) const SAMPLE_MINUTES: u32 = 10;
/// Smaller changes, in nats, are not recorded.
const LEAST_CHANGE: f32 = 0.05;
/// The most points of one track; beyond it, every two become one.
const MAX_POINTS: usize = 1_000;

/// Evidence about one metric of one key: (time in milliseconds since 1970, nats), oldest first. Between two points it equals
/// the first.
pub type Track = Vec<(i64, f32)>;

/// The tracks of all keys.
#[derive(Clone, Debug, Default)]
pub struct EvidenceLog {
    tracks: BTreeMap<Key, [Track; Metric::ALL.len()]>,
    touched: BTreeSet<(SenderId, Isp)>,
}

impl EvidenceLog {
    /// The tracks of one key, by metric.
    pub fn tracks(&self, key: &Key) -> Option<&[Track; Metric::ALL.len()]> {
        self.tracks.get(key)
    }

    /// Notes mail of a sender to an ISP.
    pub(crate) fn touch(&mut self, sender: SenderId, isp: Isp) {
        self.touched.insert((sender, isp));
    }

    /// Samples each key with mail since the last time.
    pub(crate) fn sample(&mut self, policy: &Policy, reputation: &mut MemoryReputation, senders: &Senders, now: Now) {
        let mut subjects: BTreeMap<&Subject, BTreeSet<Option<Isp>>> = BTreeMap::new();
        for (sender, isp) in std::mem::take(&mut self.touched) {
            for subject in senders.subjects(sender) {
                subjects.entry(subject).or_default().extend([Some(isp), None]);
            }
        }
        for (subject, isps) in subjects {
            for isp in isps {
                self.look_at(policy, reputation, Key { subject: subject.clone(), isp }, now);
            }
        }
    }

    /// Records the verdicts of changes, and the evidence after them.
    pub(crate) fn follow(&mut self, policy: &Policy, reputation: &mut MemoryReputation, changes: &[Change], now: Now) {
        for change in changes {
            let Some(transition) = change.transition.as_ref() else { continue };
            if let Some(verdict) = &transition.verdict
                && let Rule::Cusum { evidence, .. } = verdict.rule
            {
                let tracks = self.tracks.entry(change.key.clone()).or_default();
                put(&mut tracks[verdict.metric as usize], transition.at.0, evidence as f32);
            }
            self.look_at(policy, reputation, change.key.clone(), now);
        }
    }

    /// Drops the tracks of subjects that are no longer kept one by one.
    pub(crate) fn forget_unknown(&mut self, reputation: &MemoryReputation) {
        self.tracks.retain(|key, _| key.subject == Subject::Account || reputation.knows(&key.subject));
    }

    fn look_at(&mut self, policy: &Policy, reputation: &mut MemoryReputation, key: Key, now: Now) {
        let board = std::sync::Arc::clone(reputation.known_board());
        let Some(subject_state) = reputation.find(&key.subject) else { return };
        // While mail is stopped it is not judged.
        let is_open = |isp| matches!(subject_state.breaker(isp).breaker.state, State::Open { .. });
        let is_held = key.isp.and_then(|isp| board.isps.get(&isp)).is_some_and(|known| known.state.is_contained());
        if is_open(key.isp) || is_open(None) || is_held {
            return;
        }
        if !subject_state.timeline.knows_its_mail() {
            return;
        }
        let (since, left_out) = match key.isp {
            Some(isp) => (since_of_isp(subject_state, &board, isp), Vec::new()),
            None => {
                (subject_state.breaker(None).breaker.since, left_out(policy, subject_state, &board, &BTreeMap::new()))
            }
        };
        for metric in Metric::ALL {
            let rule = policy.metrics.rule(metric);
            if !policy.judges(metric, key.isp) || (rule.pause.is_none() && rule.throttle.is_none()) {
                continue;
            }
            // What may only throttle is judged since the last cut.
            let mark = if rule.pause.is_some() { since.pause } else { since.throttle };
            let nats = evidence(policy, subject_state, &key, &left_out, metric, mark, now);
            let is_new = !self.tracks.contains_key(&key);
            if is_new && nats < LEAST_CHANGE {
                continue;
            }
            put(&mut self.tracks.entry(key.clone()).or_default()[metric as usize], now.0, nats);
        }
    }
}

fn evidence(
    policy: &Policy,
    subject_state: &mut SubjectState,
    key: &Key,
    left_out: &[ExcludedIsp],
    metric: Metric,
    mark: Minute,
    now: Now,
) -> f32 {
    let walk = Judge::new(policy, key.isp, left_out, now).walk(&mut subject_state.timeline, metric, mark);
    (walk.peak().evidence as f64 / NAT as f64) as f32
}

fn put(track: &mut Track, at: i64, nats: f32) {
    let last = track.last().map_or(0.0, |(_, nats)| *nats);
    if (nats - last).abs() < LEAST_CHANGE {
        return;
    }
    track.push((at, nats));
    if track.len() > MAX_POINTS {
        // The higher one of every two: what comes near a threshold stays to be seen.
        let higher = |pair: &[(i64, f32)]| pair.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
        *track = track.chunks(2).filter_map(higher).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_track_is_thinned_and_keeps_its_highest_point() {
        let mut track = Track::new();
        for at in 0..5_000 {
            put(&mut track, at, if at == 3_333 { 99.0 } else { (at % 7) as f32 });
        }
        assert!(track.len() <= MAX_POINTS, "{}", track.len());
        assert!(track.contains(&(3_333, 99.0)));
        assert!(track.is_sorted_by_key(|(at, _)| *at));
    }
}
