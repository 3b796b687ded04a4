//! What a listener offers, to whom, and within which limits.
//!
//! **Invariant:** a [`Front`] on an address that other machines reach has TLS and users; there is no other way to make
//! one, and no session without one.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::counts::SmtpCounts;
use super::credentials::User;
use super::memory::Memory;

/// The settings of one listener. [`SmtpSettings::new`] gives the defaults.
#[derive(Clone)]
pub struct SmtpSettings {
    /// The name in the greeting: a domain name.
    pub hostname: String,
    /// The largest message in bytes, header and body. SES takes 40 MB by SMTP and by the API version 2
    /// (*Service quotas in Amazon SES*).
    pub max_message_bytes: usize,
    /// The longest line of a message in bytes, without its CRLF: 998 in RFC 5321, section 4.5.3.1.6. SES documents the
    /// same, as 1,000 characters (*RawMessage* in its API reference).
    pub max_line_bytes: usize,
    /// The most recipients of a message. SES takes 50.
    pub max_recipients: usize,
    /// Whether addresses outside ASCII are taken (RFC 6531). SES does not take them, so this is for other relays.
    pub smtputf8: bool,
    /// The certificate and key; none without TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// TLS from the first byte, as on port 465, instead of STARTTLS.
    pub implicit_tls: bool,
    /// Who may submit mail. Without users, which only a loopback address allows, every program of the machine may.
    pub users: Vec<User>,
    /// The most connections at the same time.
    pub max_connections: usize,
    /// The most bytes that the messages of all sessions take together, until the relay has answered for them.
    pub max_memory_bytes: usize,
    /// The most commands between two messages.
    pub max_commands: u32,
    /// The bad command that ends a session.
    pub max_bad_commands: u32,
    /// The failed authentication that ends a session.
    pub max_failed_authentications: u32,
    /// How long a client may take.
    pub timeouts: Timeouts,
}

/// How long a client may take. The first two are RFC 5321's (section 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the next command, and until the client takes a reply.
    pub command: Duration,
    /// Until the next bytes of a message.
    pub data: Duration,
    /// For all bytes of one message. It holds memory for no longer.
    pub message: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From the connection to the end of AUTH, where there are users. Strangers hold a place for no longer.
    pub login: Duration,
    /// For a session. A message under way is still taken and answered.
    pub session: Duration,
    /// How long a shutdown waits for messages under way.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            command: Duration::from_secs(5 * 60),
            data: Duration::from_secs(3 * 60),
            message: Duration::from_secs(10 * 60),
            handshake: Duration::from_secs(30),
            login: Duration::from_secs(2 * 60),
            session: Duration::from_secs(60 * 60),
            drain: Duration::from_secs(30),
        }
    }
}

impl SmtpSettings {
    /// The defaults: no TLS, no users, which is enough on a loopback address.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            max_message_bytes: 40_000_000,
            max_line_bytes: 998,
            max_recipients: 50,
            smtputf8: false,
            tls: None,
            implicit_tls: false,
            users: Vec::new(),
            max_connections: 200,
            max_memory_bytes: 256 * 1024 * 1024,
            max_commands: 100,
            max_bad_commands: 10,
            max_failed_authentications: 3,
            timeouts: Timeouts::default(),
        }
    }
}

impl fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpSettings")
            .field("hostname", &self.hostname)
            .field("max_message_bytes", &self.max_message_bytes)
            .field("tls", &self.tls.is_some())
            .field("implicit_tls", &self.implicit_tls)
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// Why settings do not fit together, or not the address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmtpSettingsError {
    /// Passwords and mail would cross a network as they are.
    #[error(
        "SMTP on {address} needs TLS, because other machines reach this address: set a certificate, or listen on 127.0.0.1"
    )]
    NoTls {
        /// Where the listener is.
        address: IpAddr,
    },
    /// Anyone could send mail.
    #[error(
        "SMTP on {address} needs users, because other machines reach this address: set at least one, or listen on 127.0.0.1"
    )]
    NoUsers {
        /// Where the listener is.
        address: IpAddr,
    },
    /// TLS from the first byte without a certificate.
    #[error("implicit TLS needs a certificate")]
    ImplicitWithoutTls,
    /// Not a domain name.
    #[error("SMTP host name `{hostname}` is not a domain name")]
    Hostname {
        /// As it was given.
        hostname: String,
    },
    /// Two users with one name.
    #[error("SMTP user `{name}` is there twice")]
    DuplicateUser {
        /// The name.
        name: String,
    },
    /// A limit of 0 refuses everything.
    #[error("SMTP limit `{limit}` must be at least 1")]
    Zero {
        /// The name of the setting.
        limit: &'static str,
    },
    /// A message of the largest size would never find room.
    #[error("{memory} bytes of memory are too few for a message of {message} bytes: at least {needed}")]
    Memory {
        /// `max_memory_bytes`.
        memory: usize,
        /// `max_message_bytes`.
        message: usize,
        /// The least.
        needed: usize,
    },
}

/// What all sessions of one listener share: valid settings, memory and counters.
#[derive(Debug)]
pub struct Front {
    pub(crate) settings: SmtpSettings,
    /// Whether only this machine reaches the listener.
    pub(crate) loopback: bool,
    pub(crate) memory: Arc<Memory>,
    pub(crate) counts: Arc<SmtpCounts>,
}

impl Front {
    /// Checks the settings of a listener on `address`.
    ///
    /// # Errors
    /// [`SmtpSettingsError`] for an address that other machines reach without both TLS and users, and for settings
    /// that contradict each other.
    pub fn new(settings: SmtpSettings, address: IpAddr) -> Result<Arc<Self>, SmtpSettingsError> {
        let loopback = address.to_canonical().is_loopback();
        if !loopback && settings.tls.is_none() {
            return Err(SmtpSettingsError::NoTls { address });
        }
        if !loopback && settings.users.is_empty() {
            return Err(SmtpSettingsError::NoUsers { address });
        }
        if settings.implicit_tls && settings.tls.is_none() {
            return Err(SmtpSettingsError::ImplicitWithoutTls);
        }
        let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if settings.hostname.len() > 253 || !settings.hostname.split('.').all(label) {
            return Err(SmtpSettingsError::Hostname { hostname: settings.hostname });
        }
        for (at, user) in settings.users.iter().enumerate() {
            if settings.users.iter().take(at).any(|earlier| earlier.name() == user.name()) {
                return Err(SmtpSettingsError::DuplicateUser { name: user.name().to_owned() });
            }
        }
        for (limit, value) in [
            ("max_message_bytes", settings.max_message_bytes),
            ("max_line_bytes", settings.max_line_bytes),
            ("max_recipients", settings.max_recipients),
            ("max_connections", settings.max_connections),
            ("max_commands", settings.max_commands as usize),
            ("max_bad_commands", settings.max_bad_commands as usize),
            ("max_failed_authentications", settings.max_failed_authentications as usize),
        ] {
            if value == 0 {
                return Err(SmtpSettingsError::Zero { limit });
            }
        }
        // A message reserves in blocks, the largest of which is 1 MiB.
        let needed = settings.max_message_bytes.saturating_add(1024 * 1024);
        if settings.max_memory_bytes < needed {
            let (memory, message) = (settings.max_memory_bytes, settings.max_message_bytes);
            return Err(SmtpSettingsError::Memory { memory, message, needed });
        }
        let memory = Memory::new(settings.max_memory_bytes);
        Ok(Arc::new(Self { settings, loopback, memory, counts: Arc::default() }))
    }

    /// The counters.
    pub fn counts(&self) -> Arc<SmtpCounts> {
        Arc::clone(&self.counts)
    }

    /// The bytes of memory that no message holds.
    pub fn free_memory(&self) -> usize {
        self.memory.free()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tls::tls_from_pem;
    use super::*;

    fn tls() -> Arc<ServerConfig> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        tls_from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap()
    }

    fn problem(address: &str, change: impl FnOnce(&mut SmtpSettings)) -> Option<String> {
        let mut settings = SmtpSettings::new("relay.example");
        change(&mut settings);
        Front::new(settings, address.parse().unwrap()).err().map(|error| error.to_string())
    }

    #[test]
    fn what_other_machines_reach_needs_tls_and_users() {
        let user = || User::with_secret("ann", "0123456789abcdef").unwrap();
        for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(problem(address, |_| {}), None, "{address}");
        }
        for address in ["0.0.0.0", "::", "10.0.0.1", "192.0.2.1", "::ffff:10.0.0.1"] {
            let begin = |rest: &str| Some(format!("SMTP on {address} {rest}, or listen on 127.0.0.1"));
            let reached = "because other machines reach this address";
            let no_tls = begin(&format!("needs TLS, {reached}: set a certificate"));
            let no_users = begin(&format!("needs users, {reached}: set at least one"));
            assert_eq!(problem(address, |_| {}), no_tls);
            assert_eq!(problem(address, |settings| settings.users.push(user())), no_tls);
            assert_eq!(problem(address, |settings| settings.tls = Some(tls())), no_users);
            assert_eq!(problem(address, |settings| (settings.tls, settings.users) = (Some(tls()), vec![user()])), None);
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_named() {
        let user = || User::with_secret("ann", "0123456789abcdef").unwrap();
        let problem = |change: fn(&mut SmtpSettings)| problem("127.0.0.1", change).unwrap();
        assert_eq!(problem(|settings| settings.implicit_tls = true), "implicit TLS needs a certificate");
        assert_eq!(problem(|settings| settings.hostname = "a b".into()), "SMTP host name `a b` is not a domain name");
        assert_eq!(problem(|settings| settings.max_commands = 0), "SMTP limit `max_commands` must be at least 1");
        assert_eq!(
            problem(|settings| settings.max_memory_bytes = 1_000_000),
            "1000000 bytes of memory are too few for a message of 40000000 bytes: at least 41048576"
        );
        let twice =
            super::super::settings::tests::problem("127.0.0.1", |settings| settings.users = vec![user(), user()]);
        assert_eq!(twice.unwrap(), "SMTP user `ann` is there twice");
    }
}
