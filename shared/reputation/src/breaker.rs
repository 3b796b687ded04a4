//! The breaker of one key: what it does about a judgement.
//!
//! ```text
//! Closed ─throttle→ Throttled ─pause→ Open ─time, or a person→ Probing ─clean→ Throttled(¼) ─hours→ Closed
//!    └──────────────pause─────────────▲ ▲                         │ │                ▲
//!                                     │ └─────────pause───────────┘ │                │
//!                                     └──(for longer)── Open(tested) ◀ its mail is sent ─clean─┘
//! ```
//!
//! **Trip**: a pause verdict opens it, from any state in which mail flows. Each further trip within `forgive_days`
//! opens it for twice as long, up to a cap; each raise of the quota after good mail takes one back, so that a cause that
//! comes and goes does not stop healthy mail for longer and longer. **Throttle**: multiplicative down with a floor, doubling upward at
//! most once per `raise_every_minutes`. A cut moves the minute from which mail can lead to the next cut, so that one
//! incident never cuts twice. **Probing**: re-arms the key, so that only mail accepted after the resume counts. It ends
//! by mail: when enough of it is old enough for its outcomes to be known; where a gate holds a share, at a time limit,
//! too, so that it never gets stuck. Where no gate does, nothing is held back: then it waits for mail, because the next
//! is what it is to test, and stops again as soon as enough is accepted, until the outcomes are known ([`State::Open`] with
//! `tested`): SES's own switch is all or nothing. **After complaints** a test needs more mail and more time, because
//! complaints are few and late, and less evidence fails it ([`Probe::relapse`]). **People**: a key stopped by a
//! person stays stopped until a person resumes it; a manual resume always wins. A bypass keeps it Closed whatever the
//! verdict; in shadow it decides as usual and nothing is done. The latest command of a person counts. **Words**:
//! Closed, Throttled, Open and Probing are for engineers. People see [`StateName::word`]: sending, slowed (warned,
//! without a gate), stopped, testing.
//!
//! **Invariant:** [`step`] is total: every input in every state has a result, and applying it twice changes nothing
//! more. **Invariant:** Open never gets shorter while trips grow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::Metric;
use crate::detect::{Level, Percent, Verdict};
use crate::judge::{ArmedSince, Judgement, Probe};
use crate::policy::{Breaker, Resume};
use crate::subject::{Key, Subject};
use crate::time::{DAY, Now};

/// A share of a quota in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Factor(u16);

impl Factor {
    /// The whole quota.
    pub const FULL: Factor = Factor(1000);
    /// Nothing.
    pub const NONE: Factor = Factor(0);
    /// The share with which a breaker continues after Probing.
    pub const QUARTER: Factor = Factor(250);

    /// From a share between 0 and 1.
    pub fn of_share(share: f64) -> Factor {
        Factor((share.clamp(0.0, 1.0) * 1000.0).round() as u16)
    }

    /// As a share between 0 and 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// In thousandths.
    pub fn thousandths(self) -> u16 {
        self.0
    }

    fn times(self, share: f64) -> Factor {
        Factor::of_share(self.share() * share)
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Percent(self.share()).fmt(f)
    }
}

/// The stored state of the breaker of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BreakerState {
    /// Its state.
    pub state: State,
    /// From when on mail counts for it.
    pub since: ArmedSince,
    /// How often it has opened since its count was last reset.
    pub trips: u32,
    /// When it last opened by a verdict.
    pub tripped: Option<Now>,
    /// Which metric opened it last.
    pub tripped_by: Option<Metric>,
    /// The rate that opened it last, in millionths.
    pub tripped_rate: Option<u32>,
    /// When its quota was last cut or it last opened by a verdict.
    pub worsened: Option<Now>,
    /// For an ISP without a gate to hold it: when its counters last called for a cut or a stop.
    pub troubled: Option<Now>,
    /// When people were last warned of each metric.
    pub warned: [Option<Now>; Metric::ALL.len()],
    /// A pause was withheld because too many configuration sets were paused: reported once, and judged again each minute.
    pub withheld: bool,
    /// The override by a person; stored, and in JSON, as `hold`.
    pub overridden: Override,
    /// Whether it was really stopped, not only in shadow. Maintained by the code that carries out the effects.
    pub enacted: bool,
}

impl BreakerState {
    /// Whether it lets all mail flow, and nothing else about it matters to others.
    pub fn is_settled(&self) -> bool {
        self.state == State::Closed && self.overridden != Override::Shadow && self.troubled.is_none()
    }

    /// Whether a person forces its state: no judgement moves it.
    pub fn is_forced(&self) -> bool {
        match self.overridden {
            Override::ForcedOpen | Override::ForcedClosed => true,
            Override::None | Override::Shadow => false,
        }
    }

    /// The name of its state in reports. An ISP in trouble of its own whose mail is not held is not `open`.
    pub fn shown_state(&self, key: &Key) -> StateName {
        let of_isp = key.subject == Subject::Account && key.isp.is_some();
        let unheld = matches!(self.state, State::Open { .. }) && !self.enacted;
        if of_isp && unheld { StateName::InTrouble } else { self.state.name() }
    }

    /// When testing begins; `None` if it is not open, or waits for a person.
    pub fn until(&self) -> Option<Now> {
        match self.state {
            State::Open { until, .. } if !self.is_forced() => until,
            State::Open { .. } | State::Closed | State::Throttled { .. } | State::Probing { .. } => None,
        }
    }

    /// When people may be warned again of each metric that they were warned of.
    pub fn warned_again(&self) -> impl Iterator<Item = Now> {
        self.warned.into_iter().flatten().map(|at| at.plus_minutes(WARN_AGAIN_DAYS * DAY))
    }

    /// Whether people were warned of this metric, and need no other warning yet.
    pub fn was_warned(&self, metric: Metric, now: Now) -> bool {
        self.warned[metric as usize].is_some_and(|at| now.minutes_since(at) < WARN_AGAIN_DAYS * DAY)
    }
}

/// The state of a breaker. Open means that sending has stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Sending flows.
    #[default]
    Closed,
    /// Sending flows at a share of the quota.
    Throttled {
        /// The share.
        factor: Factor,
        /// When the share last changed, or could have.
        moved: Now,
    },
    /// Sending has stopped.
    Open {
        /// When it stopped.
        at: Now,
        /// When testing begins, or when it is decided about the test; `None` waits for a person.
        until: Option<Now>,
        /// The mail of a test has been accepted, and its outcomes are waited for. Never with a gate.
        tested: bool,
    },
    /// A small share is let through, as a test.
    Probing {
        /// Since when.
        at: Now,
    },
}

impl State {
    /// Its name, without its data.
    pub fn name(self) -> StateName {
        match self {
            State::Closed => StateName::Closed,
            State::Throttled { .. } => StateName::Throttled,
            State::Open { .. } => StateName::Open,
            State::Probing { .. } => StateName::Probing,
        }
    }

    /// The share of the quota that may be sent in this state.
    pub fn factor(self, policy: &Breaker) -> Factor {
        match self {
            State::Closed => Factor::FULL,
            State::Throttled { factor, .. } => factor,
            State::Open { .. } => Factor::NONE,
            State::Probing { .. } => Factor::of_share(policy.probe_share),
        }
    }

    /// Whether mail is stopped, or only a small share flows.
    pub fn is_contained(self) -> bool {
        matches!(self, State::Open { .. } | State::Probing { .. })
    }
}

/// The name of a state, as stored and in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// See [`State::Closed`].
    #[default]
    Closed,
    /// See [`State::Throttled`].
    Throttled,
    /// See [`State::Open`].
    Open,
    /// See [`State::Probing`].
    Probing,
    /// In reports, for an ISP in trouble of its own whose mail is not held: see [`BreakerState::shown_state`].
    #[serde(rename = "in trouble")]
    InTrouble,
    /// Unknown: written by another release.
    #[serde(other)]
    Unknown,
}

impl StateName {
    /// The states that a breaker can be in.
    pub const ALL: [StateName; 4] = [StateName::Closed, StateName::Throttled, StateName::Open, StateName::Probing];

    /// The name, as stored and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            StateName::Closed => "closed",
            StateName::Throttled => "throttled",
            StateName::Open => "open",
            StateName::Probing => "probing",
            StateName::InTrouble => "in trouble",
            StateName::Unknown => "unknown",
        }
    }

    /// The word that people see. `gate`: whether an application asks the gate; without a gate, a cut of the quota
    /// limits no mail, and is a warning.
    pub fn word(self, gate: bool) -> &'static str {
        match self {
            StateName::Closed => "sending",
            StateName::Throttled if gate => "slowed",
            StateName::Throttled => "warned",
            StateName::Open => "stopped",
            StateName::Probing => "testing",
            StateName::InTrouble | StateName::Unknown => self.name(),
        }
    }
}

impl FromStr for StateName {
    type Err = StateNameError;

    fn from_str(name: &str) -> Result<StateName, StateNameError> {
        StateName::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| StateNameError(name.to_owned()))
    }
}

/// A text that is not the name of a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a state; known: closed, throttled, open, probing")]
pub struct StateNameError(String);

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A person's override of the breaker's decision about a key, until a person withdraws it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Override {
    /// No override: the breaker decides.
    #[default]
    None,
    /// Stopped by a person, through ses-breaker or at SES: ses-breaker never resumes it.
    #[serde(rename = "open")]
    ForcedOpen,
    /// Bypassed by a person: it keeps sending; verdicts are reported and nothing is done.
    #[serde(rename = "closed")]
    ForcedClosed,
    /// Put in shadow by a person: the breaker decides and reports, and nothing is done. For a subject as a whole, this
    /// applies at each ISP.
    Shadow,
}

impl Override {
    /// All, in the order of their discriminants.
    pub const ALL: [Override; 4] = [Override::None, Override::ForcedOpen, Override::ForcedClosed, Override::Shadow];

    /// Stable name, as stored and in JSON, where it is the value of `hold`. The names are older than the words that
    /// people see, and do not change, because programs read them.
    pub fn name(self) -> &'static str {
        match self {
            Override::None => "none",
            Override::ForcedOpen => "open",
            Override::ForcedClosed => "closed",
            Override::Shadow => "shadow",
        }
    }
}

/// Why a breaker moved, or warned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The counters called for it.
    Verdict,
    /// A person acted, through ses-breaker or at SES.
    Person,
    /// The ISP is in trouble of its own.
    Incident,
    /// It had been blamed for the trouble of an ISP; or, of an identity, the harm is that of configuration sets whose own
    /// breakers act.
    Pardon,
    /// Time passed, with clean mail or without mail; or the policy was changed.
    Time,
    /// Unknown: written by another release.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Cause {
    /// Those that this release writes.
    pub const ALL: [Cause; 5] = [Cause::Verdict, Cause::Person, Cause::Incident, Cause::Pardon, Cause::Time];
}

/// What happens to a breaker.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The key was judged. Also the input for the passage of time: judge it again at [`due`].
    Judged(&'a Judgement),
    /// A person stops it, through ses-breaker or at SES.
    PersonStops,
    /// A person resumes it, through ses-breaker or at SES: accepted, and re-armed.
    PersonResumes,
    /// A person bypasses the breaker: keep sending, whatever the verdict.
    PersonBypasses,
    /// A person puts it in shadow: decide as usual, but do nothing. Mail flows from then on.
    PersonShadows,
    /// A person releases it: the breaker decides again.
    PersonReleases,
    /// The ISP is suspected of trouble of its own. For the key of the ISP itself.
    Incident,
    /// The ISP's trouble was its own: this key was stopped or cut for harm that was not its fault.
    Pardon,
}

/// The strongest action allowed for a key, by the policy and by other current pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionLimits {
    /// The strongest action: [`Level::Warn`] for protected mail.
    pub cap: Level,
    /// Whether one more configuration set may be paused within this hour: see [`crate::budget::admit`].
    pub may_pause: bool,
    /// Whether a share of the quota can be held, by a gate. If not, mail flows or is stopped as a whole.
    pub holds_shares: bool,
}

/// An action to carry out, in addition to saving the next state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Stop sending.
    Stop,
    /// Resume sending.
    Resume,
    /// Set the share of the quota.
    SetFactor(Factor),
}

/// A step of a breaker.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The state to save.
    pub next: BreakerState,
    /// What to do, in this order, after it is saved.
    pub effects: SmallVec<[Effect; 2]>,
    /// What to report to people; `None` if nothing is new.
    pub news: Option<Announcement>,
}

/// What is reported to people about a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// Its level.
    pub level: Option<Level>,
    /// Why, for programs.
    pub cause: Cause,
    /// The verdict that caused it; `None` if the cause is not a verdict.
    pub verdict: Option<Verdict>,
    /// Why, in words, with the numbers used.
    pub reason: String,
}

/// When to judge a key again even without new mail; `None` if only mail or a person can move it.
pub fn due(policy: &Breaker, state: &BreakerState, now: Now) -> Option<Now> {
    match state.state {
        State::Closed => state.troubled.map(|at| at.plus_minutes(policy.raise_every_minutes)),
        State::Throttled { moved, .. } => Some(moved.plus_minutes(raise_every(policy, state, moved))),
        State::Open { .. } => state.until(),
        State::Probing { at } => {
            let ends = [probe_min(policy, state), probe_max(policy, state), FORGET_PROBE_DAYS * DAY];
            let ahead = ends.into_iter().map(|end| at.plus_minutes(end)).find(|end| *end > now);
            Some(ahead.unwrap_or_else(|| at.plus_minutes(FORGET_PROBE_DAYS * DAY)))
        }
    }
}

/// Notes trouble at an ISP without a gate to hold it. Only mail accepted later renews the note, and it expires
/// `raise_every_minutes` after it was last renewed. It moves no breaker: it serves to distinguish an ISP's own trouble
/// from a bad list.
pub fn note_trouble(policy: &Breaker, known: &mut BreakerState, judgement: &Judgement, now: Now) {
    // A stop verdict includes older mail, so it would renew itself.
    let called_for = judgement.throttle.is_some() || (known.troubled.is_none() && judgement.pause.is_some());
    if called_for {
        (known.troubled, known.since.throttle) = (Some(now), now.next_minute());
    } else {
        forget_trouble(policy, known, now);
    }
}

/// Drops a note of trouble that has expired.
pub fn forget_trouble(policy: &Breaker, known: &mut BreakerState, now: Now) {
    known.troubled = known.troubled.filter(|at| now < at.plus_minutes(policy.raise_every_minutes));
}

/// The step of a breaker. Pure and total.
pub fn step(policy: &Breaker, standing: ActionLimits, known: &BreakerState, input: Input<'_>, now: Now) -> Step {
    match input {
        Input::Judged(judgement) => judged(policy, standing, known, judgement, now),
        Input::PersonStops => {
            let next = BreakerState {
                state: State::Open { at: now, until: None, tested: false },
                overridden: Override::ForcedOpen,
                ..known.clone()
            };
            if known.overridden == Override::ForcedOpen && matches!(known.state, State::Open { .. }) {
                return unchanged(known);
            }
            moved(next, [Effect::Stop], news(Cause::Person, "a person stopped it; only a person resumes it"))
        }
        Input::PersonResumes => {
            if known.state == State::Closed && known.overridden == Override::None {
                return unchanged(known);
            }
            let next = rearmed(known, State::Closed, now);
            let reason = "a person resumed it; only mail accepted from now on counts";
            moved(BreakerState { overridden: Override::None, ..next }, release(known), news(Cause::Person, reason))
        }
        Input::PersonBypasses => {
            if known.overridden == Override::ForcedClosed {
                return unchanged(known);
            }
            let next = BreakerState { overridden: Override::ForcedClosed, ..rearmed(known, State::Closed, now) };
            let reason = "a person bypassed it: it keeps sending, and verdicts are reported but not acted on";
            moved(next, release(known), news(Cause::Person, reason))
        }
        Input::PersonShadows => {
            if known.overridden == Override::Shadow {
                return unchanged(known);
            }
            let next = BreakerState { overridden: Override::Shadow, ..rearmed(known, State::Closed, now) };
            let reason = "a person put it in shadow: decisions are reported, and nothing is done";
            moved(next, release(known), news(Cause::Person, reason))
        }
        Input::PersonReleases => {
            if known.overridden == Override::None {
                return unchanged(known);
            }
            let next = BreakerState { overridden: Override::None, ..rearmed(known, State::Closed, now) };
            moved(next, release(known), news(Cause::Person, "a person released it: the breaker decides again"))
        }
        Input::Incident => {
            if known.is_forced() || matches!(known.state, State::Open { .. }) {
                return unchanged(known);
            }
            let reason = "several unrelated senders turned bad at this ISP at the same time: the ISP is held, and no sender is stopped for it";
            tripped(policy, known, Err(Cause::Incident), reason.into(), now)
        }
        Input::Pardon => {
            if known.is_forced() || known.state == State::Closed {
                return unchanged(known);
            }
            let next = rearmed(known, State::Closed, now);
            let trips = if known.state.is_contained() { known.trips.saturating_sub(1) } else { known.trips };
            let reason = "the ISP itself is in trouble: this sender is not blamed for it";
            moved(BreakerState { trips, ..next }, release(known), news(Cause::Pardon, reason))
        }
    }
}

fn judged(policy: &Breaker, standing: ActionLimits, known: &BreakerState, judgement: &Judgement, now: Now) -> Step {
    // An action that is not allowed is only reported; an action from before that restriction is undone.
    if standing.cap == Level::Warn && !known.is_forced() && known.state != State::Closed {
        let next = rearmed(known, State::Closed, now);
        let reason = "the policy allows no action on it now: released, and only reported";
        return moved(next, release(known), news(Cause::Time, reason));
    }
    if standing.cap == Level::Warn || known.overridden == Override::ForcedClosed {
        return warned(known, judgement.pause.or(judgement.throttle).or(judgement.warn), now);
    }
    let pause = judgement.pause.filter(|_| standing.cap == Level::Pause);
    let throttle = judgement.throttle.or(judgement.pause);
    match known.state {
        State::Open { .. } if known.overridden == Override::ForcedOpen => unchanged(known),
        State::Open { at, until: Some(until), tested: true } if now >= until => match pause {
            Some(verdict) => failed(policy, standing, known, verdict, now),
            None => probed(policy, standing, known, at, throttle, &judgement.probe, now),
        },
        State::Open { until: Some(until), .. } if now >= until => {
            // No mail was sent for at least a minute, so all mail of this one belongs to the test.
            let since = ArmedSince::both(now.minute());
            let next = BreakerState { since, ..rearmed(known, State::Probing { at: now }, now) };
            let share = Factor::of_share(policy.probe_share);
            let reason =
                format!("stop period ended: testing at {share} of the quota; only mail accepted from now on counts");
            moved(next, [Effect::SetFactor(share), Effect::Resume], news(Cause::Time, reason))
        }
        State::Open { .. } => unchanged(known),
        State::Closed | State::Throttled { .. } | State::Probing { .. } => {
            if let Some(verdict) = pause {
                if standing.may_pause {
                    return tripped(policy, known, Ok(verdict), format!("stopped: {verdict}"), now);
                }
                return withheld(policy, known, verdict, now);
            }
            match (known.state, throttle) {
                (State::Probing { at }, throttle) => probing(policy, standing, known, at, throttle, judgement, now),
                (_, Some(verdict)) => cut(policy, known, verdict, now),
                (State::Throttled { factor, moved: since }, None) => {
                    raise(policy, known, factor, since, &judgement.probe, now)
                }
                (State::Closed | State::Open { .. }, None) => warned(known, judgement.warn, now),
            }
        }
    }
}

/// Opens, because of a verdict or another cause.
fn tripped(policy: &Breaker, known: &BreakerState, because: Result<Verdict, Cause>, reason: String, now: Now) -> Step {
    let verdict = because.ok();
    let forgiven = known.tripped.is_some_and(|last| now.minutes_since(last) >= policy.forgive_days * DAY);
    let trips = if forgiven { 1 } else { known.trips.saturating_add(1) };
    let minutes = open_minutes(policy, trips);
    let until = match policy.resume {
        Resume::Manual if verdict.is_some() => None,
        Resume::Manual | Resume::Automatic => Some(now.plus_minutes(minutes)),
    };
    let next = BreakerState {
        state: State::Open { at: now, until, tested: false },
        trips,
        tripped: Some(now),
        tripped_by: verdict.map(|verdict| verdict.metric),
        tripped_rate: verdict.map(|verdict| (verdict.telling_rate() * 1e6).round() as u32),
        worsened: Some(now),
        withheld: false,
        ..known.clone()
    };
    let how_long = match until {
        Some(_) => format!("for {} min, trip {trips}", minutes),
        None => format!("until a person resumes it, trip {trips}"),
    };
    let cause = because.err().unwrap_or(Cause::Verdict);
    let news = Announcement { level: Some(Level::Pause), cause, verdict, reason: format!("{reason}; {how_long}") };
    moved(next, [Effect::Stop], news)
}

/// How long the `trips`-th Open lasts, in minutes.
fn open_minutes(policy: &Breaker, trips: u32) -> u32 {
    let doublings = trips.saturating_sub(1).min(31);
    policy.open_minutes.saturating_mul(1 << doublings).min(policy.open_cap_minutes)
}

/// Too many configuration sets are paused already: the quota is cut instead.
fn withheld(policy: &Breaker, known: &BreakerState, verdict: Verdict, now: Now) -> Step {
    // A probe's share may be below the floor: harm must never raise a quota.
    let factor = Factor::of_share(policy.floor).min(known.state.factor(policy));
    let already = matches!(known.state, State::Throttled { .. }) && known.state.factor(policy) == factor;
    if already && known.withheld {
        return unchanged(known);
    }
    // It is a cut like any other: reported once for the same mail, and pardoned if the ISP turns out to be in trouble.
    let next = BreakerState {
        state: State::Throttled { factor, moved: now },
        since: ArmedSince { throttle: now.next_minute(), ..known.since },
        worsened: Some(now),
        withheld: true,
        ..known.clone()
    };
    let most = policy.max_pauses_per_hour;
    let reason = format!(
        "stop withheld, because {most} other configuration sets with harm of the same order of magnitude were stopped \
         within the hour: {verdict}; quota {factor}"
    );
    moved(next, [Effect::SetFactor(factor)], announcement_of(Level::Pause, verdict, reason))
}

fn cut(policy: &Breaker, known: &BreakerState, verdict: Verdict, now: Now) -> Step {
    let full_or = match known.state {
        State::Throttled { factor, .. } => factor,
        State::Closed | State::Open { .. } | State::Probing { .. } => Factor::FULL,
    };
    let floor = Factor::of_share(policy.floor).min(full_or);
    let factor = full_or.times(policy.cut).max(floor);
    // Mail accepted from the next minute on may lead to the next cut.
    let since = ArmedSince { throttle: now.next_minute(), ..known.since };
    let next =
        BreakerState { state: State::Throttled { factor, moved: now }, since, worsened: Some(now), ..known.clone() };
    let reason = format!("quota cut to {factor}: {verdict}");
    moved(next, [Effect::SetFactor(factor)], announcement_of(Level::Throttle, verdict, reason))
}

fn raise(policy: &Breaker, known: &BreakerState, factor: Factor, since: Now, passed: &Probe, now: Now) -> Step {
    let minutes = raise_every(policy, known, since);
    if now < since.plus_minutes(minutes) {
        return unchanged(known);
    }
    let factor = factor.times(2.0);
    let state = if factor >= Factor::FULL { State::Closed } else { State::Throttled { factor, moved: now } };
    // What stopped it has gone: if it comes back, that is not another failed test.
    let is_cured = passed.is_good && passed.settled >= probe_mails(policy, known);
    let trips = if is_cured { known.trips.saturating_sub(1) } else { known.trips };
    let next = BreakerState { state, trips, withheld: false, ..known.clone() };
    let reason = format!("{minutes} min without further harm: quota back to {factor}");
    moved(next, [Effect::SetFactor(factor)], news(Cause::Time, reason))
}

/// How long a quota that was last moved at `moved` stays as it is without a verdict, in minutes.
pub fn raise_every(policy: &Breaker, known: &BreakerState, moved: Now) -> u32 {
    // The complaints about what was sent since take longer.
    let recent = known.tripped.is_some_and(|at| moved.minutes_since(at) < policy.forgive_days * DAY);
    let is_after_a_test = recent && known.worsened == known.tripped;
    let minutes = policy.raise_every_minutes;
    if is_after_a_test && is_by_complaints(known) { policy.complaint_probe_minutes.max(minutes) } else { minutes }
}

fn probing(
    policy: &Breaker,
    standing: ActionLimits,
    known: &BreakerState,
    at: Now,
    throttle: Option<Verdict>,
    judgement: &Judgement,
    now: Now,
) -> Step {
    let Probe { accepted, settled, mails, .. } = judgement.probe;
    let needed = probe_mails(policy, known);
    let lasted = now.minutes_since(at);
    if !standing.holds_shares && lasted >= FORGET_PROBE_DAYS * DAY {
        let next = rearmed(known, State::Closed, now);
        let reason = format!("too little mail for a test in {FORGET_PROBE_DAYS} days: what stopped it is forgotten");
        return moved(next, release(known), news(Cause::Time, reason));
    }
    let enough = settled >= needed && lasted >= probe_min(policy, known);
    // Where a share is held the test must end, with mail or without, unless most of its mail is of late. Where nothing is
    // held it waits for mail, and after complaints for enough of it, unless there is much that says nothing about them.
    let is_over = match (standing.holds_shares, is_by_complaints(known)) {
        (true, _) => settled >= accepted.saturating_sub(settled),
        (false, true) => accepted < needed && mails >= 10 * needed,
        (false, false) => settled > 0,
    };
    if enough || (is_over && lasted >= probe_max(policy, known)) {
        return probed(policy, standing, known, at, throttle, &judgement.probe, now);
    }
    // Of a trickle most is old enough: then there is nothing to wait for.
    let is_burst = accepted >= needed && accepted.saturating_sub(settled) * 2 >= needed;
    if standing.holds_shares || !is_burst || now == at {
        return unchanged(known);
    }
    let minutes = probe_min(policy, known);
    let until = now.plus_minutes(minutes);
    let next = BreakerState { state: State::Open { at: now, until: Some(until), tested: true }, ..known.clone() };
    let reason = format!(
        "the test's mail is sent: {accepted} mails, and without a gate nothing else limits it; stopped for {minutes} min, until \
         their outcomes are known"
    );
    moved(next, [Effect::Stop], news(Cause::Time, reason))
}

/// A test at whose end it is stopped again.
fn failed(policy: &Breaker, standing: ActionLimits, known: &BreakerState, verdict: Verdict, now: Now) -> Step {
    match known.state {
        _ if standing.may_pause => tripped(policy, known, Ok(verdict), format!("test failed, stopped: {verdict}"), now),
        // It stays stopped, and is judged again each minute.
        State::Open { .. } => unchanged(known),
        State::Closed | State::Throttled { .. } | State::Probing { .. } => withheld(policy, known, verdict, now),
    }
}

/// The end of a test without a verdict that stops it.
fn probed(
    policy: &Breaker,
    standing: ActionLimits,
    known: &BreakerState,
    at: Now,
    verdict: Option<Verdict>,
    probe: &Probe,
    now: Now,
) -> Step {
    if let Some(relapse) = probe.relapse.filter(|_| standing.cap == Level::Pause) {
        return failed(policy, standing, known, relapse, now);
    }
    let Probe { accepted, settled, bad, .. } = *probe;
    let lasted = now.minutes_since(at);
    let floor = Factor::of_share(policy.floor);
    let (factor, why) = match verdict {
        Some(verdict) => (floor, format!("test was not clean: {verdict}")),
        // One or two are chance.
        None if !probe.is_good && bad > 2 => (
            floor,
            format!("test was not clean: {bad} of {accepted} mails were bad, more than the limit, and no verdict"),
        ),
        None if settled >= probe_mails(policy, known) => {
            (Factor::QUARTER, format!("test was clean: no verdict about {settled} mails"))
        }
        None => {
            (Factor::QUARTER, format!("test ran out of time: only {settled} mails in {lasted} min, and no verdict"))
        }
    };
    let since = ArmedSince { throttle: now.next_minute(), ..known.since };
    let next = BreakerState { state: State::Throttled { factor, moved: now }, since, ..known.clone() };
    let mut effects: SmallVec<[Effect; 2]> = SmallVec::from_slice(&[Effect::SetFactor(factor)]);
    if matches!(known.state, State::Open { .. }) {
        effects.push(Effect::Resume);
    }
    moved(next, effects, news(Cause::Time, format!("{why}; quota {factor}")))
}

/// After how many days a test that waits for mail ends: what it was about is no longer in the counters.
const FORGET_PROBE_DAYS: u32 = 35;

/// By which metric the mail of a key counts that is tested, or that was of late, and how many minutes after it was accepted
/// its outcomes are known; `None` if it is closed, or stopped before a test.
pub fn test_of(policy: &Breaker, known: &BreakerState) -> Option<(Metric, u32)> {
    let is_tested = match known.state {
        State::Probing { .. } | State::Throttled { .. } => true,
        State::Open { tested, .. } => tested,
        State::Closed => false,
    };
    is_tested.then(|| (known.tripped_by.unwrap_or(Metric::HardBounce), probe_min(policy, known)))
}

/// How many mails a test needs: as many as held ten bad ones at the rate that stopped the key, and no more than the policy
/// says.
pub fn probe_mails(policy: &Breaker, known: &BreakerState) -> u64 {
    let complaints = is_by_complaints(known);
    let most = if complaints { policy.complaint_probe_mails.max(policy.probe_mails) } else { policy.probe_mails };
    let telling = known.tripped_rate.filter(|rate| *rate > 0).map(|rate| 10_000_000_u64.div_ceil(u64::from(rate)));
    telling.map_or(most, |telling| telling.max(LEAST_PROBE_MAILS).min(most))
}

/// A test needs no fewer mails than this, unless the policy says so: the fewest in which one bounce is within the limit of
/// 5 %.
const LEAST_PROBE_MAILS: u64 = 20;

/// How old a mail of a test must be for its outcome to count as known, in minutes.
pub fn probe_min(policy: &Breaker, known: &BreakerState) -> u32 {
    // Bounces and blocks arrive within minutes; a complaint arrives only after the recipient reads the mail.
    let minutes = policy.probe_min_minutes;
    if is_by_complaints(known) { policy.complaint_probe_minutes.max(minutes) } else { minutes }
}

/// After how many minutes a test ends with fewer mails.
pub fn probe_max(policy: &Breaker, known: &BreakerState) -> u32 {
    // Complaints are known only after that time, so that the mail of a whole day is in it.
    if is_by_complaints(known) {
        policy.probe_max_minutes.saturating_add(probe_min(policy, known))
    } else {
        policy.probe_max_minutes.max(probe_min(policy, known))
    }
}

fn is_by_complaints(known: &BreakerState) -> bool {
    known.tripped_by == Some(Metric::Complaint)
}

/// After how many days a warning that continues or returns is reported again.
const WARN_AGAIN_DAYS: u32 = 7;

fn warned(known: &BreakerState, verdict: Option<Verdict>, now: Now) -> Step {
    let Some(verdict) = verdict else { return unchanged(known) };
    if known.was_warned(verdict.metric, now) {
        return unchanged(known);
    }
    let mut next = known.clone();
    next.warned[verdict.metric as usize] = Some(now);
    Step { next, effects: SmallVec::new(), news: Some(announcement_of(Level::Warn, verdict, verdict.to_string())) }
}

/// The re-armed state, in which only mail accepted from the next minute on counts.
fn rearmed(known: &BreakerState, state: State, now: Now) -> BreakerState {
    BreakerState { state, since: ArmedSince::both(now.next_minute()), withheld: false, ..known.clone() }
}

/// The effects that let a key send at its full quota again.
fn release(known: &BreakerState) -> SmallVec<[Effect; 2]> {
    match known.state {
        State::Closed => SmallVec::new(),
        State::Throttled { .. } | State::Probing { .. } => SmallVec::from_slice(&[Effect::SetFactor(Factor::FULL)]),
        State::Open { .. } => SmallVec::from_slice(&[Effect::SetFactor(Factor::FULL), Effect::Resume]),
    }
}

/// An announcement without a verdict.
fn news(cause: Cause, reason: impl Into<String>) -> Announcement {
    Announcement { level: None, cause, verdict: None, reason: reason.into() }
}

/// An announcement of a verdict.
fn announcement_of(level: Level, verdict: Verdict, reason: String) -> Announcement {
    Announcement { level: Some(level), cause: Cause::Verdict, verdict: Some(verdict), reason }
}

fn moved(next: BreakerState, effects: impl IntoIterator<Item = Effect>, news: Announcement) -> Step {
    Step { next, effects: effects.into_iter().collect(), news: Some(news) }
}

fn unchanged(known: &BreakerState) -> Step {
    Step { next: known.clone(), effects: SmallVec::new(), news: None }
}
