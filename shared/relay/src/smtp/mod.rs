//! SMTP submission (RFC 6409): sessions, and the server that runs them.
//!
//! A client submits a message over SMTP, and gets the relay's own answer to it: sent, not now, or never. Nothing is kept
//! on disk, and nothing is answered before the relay has: who got 250 has sent, or the relay's store has the mail.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use relay::Accept;
//! use relay::smtp::{Server, SmtpSettings, User, tls_from_pem};
//! use tokio::net::TcpListener;
//!
//! # async fn example(relay: Arc<dyn Accept>) -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = SmtpSettings::new("relay.example.com");
//! settings.tls = Some(tls_from_pem(&std::fs::read("cert.pem")?, &std::fs::read("key.pem")?)?);
//! settings.users = vec![User::with_sha256("app", "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f")?];
//!
//! let server = Server::new(TcpListener::bind("0.0.0.0:587").await?, settings)?;
//! let counts = server.counts();
//! let drained = server.run(relay, async { /* until SIGTERM */ }).await;
//! println!("{} messages, {} without an answer", counts.snapshot().messages, drained.unanswered);
//! # Ok(())
//! # }
//! ```
//!
//! What is offered: PIPELINING (RFC 2920), SIZE (1870), 8BITMIME (6152), CHUNKING (3030, without BINARYMIME),
//! ENHANCEDSTATUSCODES (2034), STARTTLS (3207), AUTH PLAIN and LOGIN (4954), and SMTPUTF8 (6531) if the settings say so.
//! Not offered: DSN, because SES sends its own bounces; BINARYMIME, because its lines need no end.
//!
//! **Invariant:** on an address that other machines reach, there is no session without TLS and a user who has proved to
//! be one before MAIL. **Invariant:** what is handed over ends where the client ended it: at CRLF `.` CRLF or at the end
//! of the last BDAT, and has no bare CR, no bare LF and no NUL, so that no server behind SES reads a second message in
//! it. **Invariant:** addresses have no control characters. **Invariant:** replies and events depend on the bytes of the
//! client, not on how the network cut them. **Invariant:** all messages together never take more memory than the
//! settings say. **Invariant:** a message that was handed over is never cancelled. **Invariant:** no address, no subject
//! and no header is logged. **Invariant:** no input panics.
//!
//! Where to start: [`serve`] is the whole; [`Session`] is the protocol without I/O; `content` finds the end of a message;
//! `command` and `address` read command lines; [`SmtpSettings`] has every number.

mod address;
mod command;
mod content;
mod counts;
mod credentials;
mod memory;
mod server;
mod session;
mod settings;
mod tls;

pub use counts::{Refused, SmtpCounts, SmtpSnapshot};
pub use credentials::{MAX_NAME_BYTES, MIN_SECRET_BYTES, User, UserError};
pub use server::{Drained, ServeError, Server, serve};
pub use session::{Event, Fed, Held, MAX_COMMAND_BYTES, Session, Submission};
pub use settings::{Front, SmtpSettings, SmtpSettingsError, Timeouts};
pub use tls::{Certificate, TlsError, tls_from_pem};
