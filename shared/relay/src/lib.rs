//! A relay in front of Amazon SES: takes mail over the SES API and over SMTP, asks the gate for each mail, and hands it to
//! SES with the configuration set that the gate names.
//!
//! A request is read ([`v1`], [`v2`], [`submission`]) into what the gate has to know of it ([`mail`]); the gate is asked
//! ([`plan`]); the body goes to SES as it came, but for the configuration set ([`forward`]); and SES's answer goes back as it
//! is ([`relay`]). Mail that may not go now is refused, or held ([`hold`]) and sent later ([`release`]). All of that is done over two ports, [`Permitting`] and [`Ses`]; behind them are [`Clients`] of the gate,
//! and SES over HTTP.
//!
//! **Invariant:** no mail is handed to SES unless the gate lets it go to each of its recipients, and none twice, but for
//! held mail after a crash, which is counted (`hold`). **Invariant:** of a body that
//! is forwarded, only the name of the configuration set is another, and held mail has one message tag more; a body in which it, or a recipient, could be
//! read in two ways is refused. **Invariant:** a permit is put back only if SES has refused the mail for certain, or was not
//! reached. **Invariant:** no address and no domain is logged or is a label of a metric. **Invariant:** nothing panics, whatever
//! comes in, and no input makes it take more memory than configured.
//!
//! Where to start: [`Relay::handle`]. The delivery promise is in `DESIGN.md`.
#![expect(rustdoc::private_intra_doc_links, reason = "the map of the crate names its modules")]

mod accept;
mod address;
mod answer;
mod bulk;
mod check;
pub mod cli;
mod clients;
mod config;
mod forward;
mod hold;
mod large;
mod mail;
mod metrics;
mod mime;
mod plan;
mod ports;
mod raw;
mod relay;
mod release;
mod server;
mod ses_http;
pub mod smtp;
mod splice;
mod submission;
mod submit;
mod v1;
mod v2;

pub use accept::{Accept, Message, Reply};
pub use clients::Clients;
pub use metrics::{Metrics, Outcome};
pub use ports::{
    Call, Deferral, Granted, Lease, NoPermission, NotAnswered, Pending, Permission, Permitting, Sender, Ses,
};
pub use relay::Relay;
pub use server::{Capacity, serve};
pub use ses_http::{HttpSes, SetupError};
