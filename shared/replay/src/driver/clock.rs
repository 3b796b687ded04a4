//! The virtual clock.

use pipeline::classify::Stamps;
use pipeline::schedule::REJUDGE_MINUTES;
use reputation::time::{HOUR, MINUTE_MILLIS, Minute, Now};

/// How far a provider's date may move the clock beyond SES's stamps.
const PROVIDERS_LEAD_MINUTES: u32 = 10;

/// The clock of a replay: the latest time that SES has stamped on an event so far, in the order of the input, or up to ten
/// minutes more where a recipient's provider gives a later date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtualClock {
    /// The time.
    pub now: Now,
    /// The latest time that SES has stamped.
    by_ses: Now,
}

impl VirtualClock {
    /// The time after an event with these stamps; the clock itself stays. A provider's date moves it at most a little beyond
    /// SES's dates: enough for a verdict not to be dated before the bounce that caused it, and too little for a wrong date
    /// to matter.
    pub fn after(&mut self, stamps: Stamps) -> Now {
        self.by_ses = self.by_ses.max(Now(stamps.by_ses));
        let furthest = self.by_ses.plus_minutes(PROVIDERS_LEAD_MINUTES);
        self.by_ses.max(stamps.by_provider.map_or(self.by_ses, |at| Now(at).min(furthest)))
    }

    /// The next time, up to `then`, at which the breakers are woken: when something is `due` by the clock alone, when a minute
    /// has ended by `then`, or in silence: when an hour ends in which mail came (`unswept`), or ten minutes while a breaker
    /// is not closed (`unsettled`). `None` if there is none.
    pub fn next_wake(&self, due: Option<Now>, unswept: bool, unsettled: bool, then: Now) -> Option<Now> {
        let minute_ended = (then.minute() > self.now.minute()).then_some(then);
        let in_silence = |minutes: u32, is_awaited: bool| {
            let next = Minute((self.now.minute().0 / minutes + 1) * minutes);
            (is_awaited && then.minute() > next).then_some(Now(i64::from(next.0) * MINUTE_MILLIS))
        };
        let awaited = [due, in_silence(HOUR, unswept), in_silence(REJUDGE_MINUTES, unsettled), minute_ended];
        awaited.into_iter().flatten().filter(|at| *at <= then).min()
    }
}
