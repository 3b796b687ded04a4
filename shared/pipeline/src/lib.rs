//! The use cases of ses-breaker and the ports they need.
//!
//! ```text
//! event ─ classify ─► units ─ Ledger ─► new units ─ fold ─► Reputation ─ evaluate ─► breakers, desired controls
//!                                                                                        │
//!                                                                      enforce ◄─────────┘ ─► SendingControl
//! ```
//!
//! A Lambda function and a replay differ only in the ports that they use. [`memory`] holds the ports of a replay, and
//! of tests.
//!
//! **Invariant:** only the [`ports::Ledger`] decides whether a unit is new; nothing else drops duplicates.
//! **Invariant:** state is saved before it is acted on, and every action is safe to repeat. **Invariant:** nothing here
//! reads a clock: each use case receives the time as an argument.
//!
//! Where to start: [`classify`] for what counts, then [`evaluate`].

pub mod classify;
pub mod control;
pub mod dedicated_ips;
pub mod digest;
pub mod enforce;
pub mod evaluate;
pub mod export;
pub mod fold;
pub mod memory;
pub mod notice;
pub mod ports;
pub mod quotas;
pub mod record;
pub mod schedule;
pub mod senders;
pub mod stream;
pub mod transition;
pub mod wording;

pub use classify::{Classifier, Outcome, Refused};
pub use control::{Control, ControlKind, ControlRecord};
pub use ports::{Disposition, PortError};
pub use senders::Senders;
pub use transition::{Transition, TransitionDetail, TransitionRecord};
