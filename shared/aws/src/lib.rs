//! The ports of ses-breaker over AWS, and what its Lambda functions share.
//!
//! **Invariant:** this is the only crate that sees the AWS SDK, apart from the command line of the operator.
//! **Invariant:** no address, subject line or header of a mail is stored or logged: what comes in is turned into units,
//! which carry a keyed hash and the name of an ISP. Who asks for permits names domains only.
//! **Invariant:** every error of the SDK becomes one of Retry, Quarantine or Halt here, and nothing else leaves.
//!
//! Where to start: [`layout`] says what is stored and where; [`ledger`] and [`reputation`] keep it.
//! What a function does with an event is in `functions/NAME`; what functions share around it is in [`invocation`], [`policies`],
//! [`metrics`] and [`log`].

pub mod alerts;
mod backoff;
pub mod clients;
pub mod config;
pub mod invocation;
pub mod layout;
pub mod ledger;
pub mod log;
pub mod metrics;
pub mod policies;
pub mod quotas;
pub mod reputation;
pub mod secret;
pub mod ses;
