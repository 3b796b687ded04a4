//! A relay in front of Amazon SES: takes mail over the SES API and over SMTP, and asks the gate before it hands it on.

mod accept;
pub mod smtp;

pub use accept::{Accept, Message, Reply};
