//! The SMTP front from outside: dialogues, smuggling, properties, TCP and TLS, and clients that others wrote.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod clients;
mod dialogues;
mod kit;
mod properties;
mod smuggling;
mod tcp;
