//! Whether the gate answers: a small circuit breaker, so that a dead gate is not called for each mail.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// The health of the gate. After a call that failed with all its attempts, the gate is not called for a rest, twice as
/// long each time. The first caller after a rest tries; meanwhile the others are answered without the gate.
#[derive(Debug)]
pub(crate) struct GateHealth {
    down: Option<Down>,
    rest: Duration,
    shortest: Duration,
    longest: Duration,
}

#[derive(Debug)]
struct Down {
    since: Instant,
    until: Instant,
    reason: Arc<str>,
}

impl GateHealth {
    /// A gate that is thought healthy. Rests last from `shortest` to `longest`.
    pub(crate) fn new(shortest: Duration, longest: Duration) -> GateHealth {
        GateHealth { down: None, rest: shortest, shortest, longest: longest.max(shortest) }
    }

    /// How much longer the gate is not called, and why; `None` if it may be called.
    pub(crate) fn resting(&self, now: Instant) -> Option<(Duration, Arc<str>)> {
        let down = self.down.as_ref()?;
        let left = down.until.saturating_duration_since(now);
        (!left.is_zero()).then(|| (left, Arc::clone(&down.reason)))
    }

    /// A call begins. No other call begins until it has ended, or for one more rest.
    pub(crate) fn tried(&mut self, now: Instant) {
        if let Some(down) = &mut self.down {
            down.until = now + self.rest;
        }
    }

    /// The gate answered.
    pub(crate) fn answered(&mut self) {
        self.down = None;
        self.rest = self.shortest;
    }

    /// A call that began at `began` had no answer. `jitter` is a number from 0 to 1.
    pub(crate) fn failed(&mut self, began: Instant, now: Instant, reason: Arc<str>, jitter: f64) {
        // Calls that were under way at the same time count as one failure.
        if self.down.as_ref().is_some_and(|down| began < down.since) {
            return;
        }
        let until = now + self.rest.mul_f64(1.0 + jitter / 4.0);
        self.rest = (self.rest * 2).min(self.longest);
        self.down = Some(Down { since: now, until, reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dead_gate_rests_for_twice_as_long_each_time_and_one_answer_ends_it() {
        let mut now = Instant::now();
        let mut health = GateHealth::new(Duration::from_secs(1), Duration::from_secs(5));
        let mut rests = Vec::new();
        for _ in 0..5 {
            health.tried(now);
            let (began, ended) = (now, now + Duration::from_millis(300));
            health.failed(began, ended, "no route".into(), 0.0);
            health.failed(began, ended, "under way with it".into(), 0.0);
            let (left, reason) = health.resting(ended).unwrap();
            assert_eq!(&*reason, "no route");
            rests.push(left.as_secs());
            now = ended + left;
            assert_eq!(health.resting(now), None);
        }
        assert_eq!(rests, [1, 2, 4, 5, 5]);
        health.tried(now);
        assert!(health.resting(now).is_some(), "one tries, the others do not");
        health.answered();
        assert_eq!(health.resting(now), None);
        health.failed(now, now, "no route".into(), 0.0);
        assert_eq!(health.resting(now).unwrap().0, Duration::from_secs(1));
    }
}
