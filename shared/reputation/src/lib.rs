//! The rules of ses-breaker: what counts, at which ISP, how a reputation is judged and what a breaker does.
//!
//! Everything here is a pure function of its arguments. Time is an argument, and nothing here reads a clock, the
//! environment, a file or a random number, so that a replay on a laptop and a Lambda function reach the same verdicts.
//!
//! **Invariant:** a verdict depends on the counters and on `now` only, never on the order in which the counters grew.
//! **Invariant:** event time ([`Minute`], a cohort of mail) and processing time ([`Now`]) are two types and never mixed.
//! **Invariant:** Open means that sending has stopped, as in an electrical circuit.
//! **Invariant:** evidence is integer arithmetic, so the same counters give the same number on every machine.
//!
//! Where to start: [`mod@unit`] defines what is counted, [`timeline`] keeps the counts, [`judge`] turns them into a
//! [`Judgement`], and [`breaker::step`] turns that into the next state. [`policy`] holds every number.

pub mod address;
pub mod breaker;
pub mod budget;
pub mod class;
pub mod counters;
pub mod detect;
pub mod grouped;
pub mod incident;
pub mod isp;
pub mod judge;
pub mod number;
pub mod permit;
pub mod policy;
pub mod refusal;
pub mod subject;
pub mod time;
pub mod timeline;
pub mod unit;
pub mod warmup;
pub mod zone;

pub use breaker::{BreakerState, Effect, Input, State, Step};
pub use counters::{Counters, Metric, Tally};
pub use detect::{Level, Rule, Verdict};
pub use isp::{Isp, IspMap};
pub use judge::{ArmedSince, Judgement, Probe};
pub use policy::Policy;
pub use subject::{Key, Subject};
pub use time::{Minute, Now};
pub use timeline::{ExcludedIsp, Length, Timeline};
pub use unit::{Unit, UnitKey, UnitKind};
