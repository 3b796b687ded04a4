//! Whether the gate answers: a breaker of our own, so that a dead gate is not asked for each mail.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// The line to the gate. After a call that failed with all its attempts it rests, each time for twice as long; the
/// first who asks after a rest tries, and the others are answered without it meanwhile.
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
    /// One that rests for at least and at most so long.
    pub(crate) fn new(shortest: Duration, longest: Duration) -> GateHealth {
        GateHealth { down: None, rest: shortest, shortest, longest: longest.max(shortest) }
    }

    /// How long it rests still, and why; `None` if it may be tried.
    pub(crate) fn resting(&self, now: Instant) -> Option<(Duration, Arc<str>)> {
        let down = self.down.as_ref()?;
        let left = down.until.saturating_duration_since(now);
        (!left.is_zero()).then(|| (left, Arc::clone(&down.reason)))
    }

    /// Someone tries: until it is known what came of it, or for one more rest, nobody else does.
    pub(crate) fn tried(&mut self, now: Instant) {
        if let Some(down) = &mut self.down {
            down.until = now + self.rest;
        }
    }

    /// There was an answer.
    pub(crate) fn answered(&mut self) {
        self.down = None;
        self.rest = self.shortest;
    }

    /// There was none, to a call that began at `began`. `jitter` is a number from 0 to 1.
    pub(crate) fn failed(&mut self, began: Instant, now: Instant, reason: Arc<str>, jitter: f64) {
        // Calls that were under way together fail together: they are one failure.
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
    async fn a_dead_line_rests_for_twice_as_long_each_time_and_one_answer_ends_it() {
        let mut now = Instant::now();
        let mut line = GateHealth::new(Duration::from_secs(1), Duration::from_secs(5));
        let mut rests = Vec::new();
        for _ in 0..5 {
            line.tried(now);
            let (began, ended) = (now, now + Duration::from_millis(300));
            line.failed(began, ended, "no route".into(), 0.0);
            line.failed(began, ended, "under way with it".into(), 0.0);
            let (left, reason) = line.resting(ended).unwrap();
            assert_eq!(&*reason, "no route");
            rests.push(left.as_secs());
            now = ended + left;
            assert_eq!(line.resting(now), None);
        }
        assert_eq!(rests, [1, 2, 4, 5, 5]);
        line.tried(now);
        assert!(line.resting(now).is_some(), "one tries, the others do not");
        line.answered();
        assert_eq!(line.resting(now), None);
        line.failed(now, now, "no route".into(), 0.0);
        assert_eq!(line.resting(now).unwrap().0, Duration::from_secs(1));
    }
}
