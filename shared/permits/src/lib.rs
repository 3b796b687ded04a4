//! Asks the gate of ses-breaker before mail is sent: may this go now, by which configuration set, and if not now, when?
//!
//! The gate answers for many mails at once, with a lease: a number of mails that may go to one ISP, and the number of
//! seconds in which they may go. [`Permits`] keeps leases in a pool, takes each mail from one of them, asks again
//! before they run out, and gives back what was not used. A busy sender makes one call every few seconds, however much
//! it sends.
//!
//! ```no_run
//! use aws_config::BehaviorVersion;
//! use permits::{Class, Permit, Permits, Unreachable};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
//! let permits = Permits::builder("news", "example.com")
//!     .when_unreachable(Class::Critical, Unreachable::Open)
//!     .connect("https://abcdefgh.lambda-url.eu-west-1.on.aws/", &aws)?;
//!
//! match permits.take("gmail.com", 1, Class::Bulk).await? {
//!     Permit::Send(grant) | Permit::Overflow(grant) => {
//!         let accepted = send_email(grant.route()).await; // SendEmail with ConfigurationSetName = grant.route()
//!         if !accepted {
//!             grant.unused();
//!         }
//!     }
//!     Permit::Wait(wait) => println!("not before {:?} from now: {}", wait.retry_after, wait.reason),
//! }
//!
//! permits.close().await;
//! # Ok(())
//! # }
//! # async fn send_email(_configuration_set: &str) -> bool { true }
//! ```
//!
//! **Invariant:** each mail that is let go is taken from exactly one lease, and no lease is used for more mails than
//! were granted, whatever is retried, lost, answered twice or cancelled. A [`Grant`] that is dropped counts as used.
//! **Invariant:** a lease is given back at most once, and nothing is taken from it afterwards. **Invariant:** for each
//! ISP and class at most one call is under way; a cancelled caller cancels none. **Invariant:** the gate receives only
//! the domains of recipients, and no domain is logged. **Invariant:** nothing panics, whatever the gate answers.
//!
//! Where to start: [`Permits`]; `pool` holds the leases of one ISP, `client` calls the gate when a pool runs low,
//! [`HttpGate`] sends the requests. Another HTTP client, or a test, implements [`Gate`]. `examples/send.rs` is a whole
//! program.

mod builder;
mod client;
mod directory;
mod domain;
mod error;
mod gate;
mod health;
mod http;
mod permit;
mod permits;
mod pool;
mod settings;
mod wait;
mod wire;

pub use builder::{BuildError, Builder};
pub use client::Counts;
pub use error::{Error, Problem};
pub use gate::{Answer, Gate, NoAnswer, Reply};
pub use gate_api::{Class, ErrorCode, Limit as GateLimit};
pub use http::{ConnectError, HttpGate};
pub use permit::{Grant, Permit};
pub use permits::Permits;
pub use settings::Unreachable;
pub use wait::{Limit, Wait};
