//! The SMTP listener as the configuration has it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Smtp};
use crate::smtp::{Certificate, Front, SmtpSettings, SmtpSettingsError, Timeouts, TlsError, User, UserError};

/// Settings of the listener, and the certificate that can be replaced.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) settings: SmtpSettings,
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// Why the listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SmtpFault {
    /// A certificate or a key.
    #[error("cannot read {path}: {error}")]
    File { path: String, error: std::io::Error },
    /// They were read.
    #[error("smtp.tls_certificate and smtp.tls_key: {}", with_source(.0))]
    Tls(TlsError),
    /// One of the users.
    #[error("smtp.users: {0}")]
    User(#[from] UserError),
    /// The front does not take the settings.
    #[error(transparent)]
    Settings(#[from] SmtpSettingsError),
}

/// Of a key's file nothing but its kind of fault is shown.
fn with_source(error: &TlsError) -> String {
    match error {
        TlsError::Unusable(source) => format!("{error}: {source}"),
        TlsError::Certificates(_) | TlsError::NoCertificate | TlsError::Key(_) => error.to_string(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SmtpFault> {
    std::fs::read(path).map_err(|error| SmtpFault::File { path: path.display().to_string(), error })
}

/// What the files of a certificate and of its key hold.
struct Pem {
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// The certificate and its key, if they are configured.
fn files(smtp: &Smtp) -> Result<Option<Pem>, SmtpFault> {
    match (&smtp.tls_certificate, &smtp.tls_key) {
        (Some(chain), Some(key)) => Ok(Some(Pem { chain: read(chain)?, key: read(key)? })),
        // One alone is refused before.
        _ => Ok(None),
    }
}

/// Reads certificates and users, and checks what the front checks for the address. Listens on nothing yet.
pub(crate) fn prepare(config: &Config, smtp: &Smtp) -> Result<Prepared, SmtpFault> {
    let certificate = match files(smtp)? {
        Some(Pem { chain, key }) => Some(Certificate::from_pem(&chain, &key).map_err(SmtpFault::Tls)?),
        None => None,
    };
    let tls = certificate.as_ref().map(Certificate::server_config).transpose().map_err(SmtpFault::Tls)?;
    let users = smtp.users.iter().map(|(name, digest)| User::with_sha256(name, digest));
    let settings = SmtpSettings {
        max_message_bytes: smtp.max_message_bytes,
        max_line_bytes: smtp.max_line_bytes,
        tls,
        implicit_tls: smtp.implicit_tls,
        users: users.collect::<Result<_, _>>()?,
        max_connections: smtp.max_connections,
        max_memory_bytes: smtp.in_flight_mib << 20,
        max_commands: smtp.max_commands,
        max_bad_commands: smtp.max_bad_commands,
        max_failed_authentications: smtp.max_failed_authentications,
        timeouts: Timeouts {
            command: Duration::from_secs(smtp.command_secs),
            data: Duration::from_secs(smtp.data_secs),
            message: Duration::from_secs(smtp.message_secs),
            handshake: Duration::from_secs(smtp.handshake_secs),
            login: Duration::from_secs(smtp.login_secs),
            session: Duration::from_secs(smtp.session_secs),
            drain: Duration::from_secs(config.drain_secs),
        },
        ..SmtpSettings::new(smtp.hostname.clone())
    };
    Front::new(settings.clone(), smtp.listen.ip())?;
    Ok(Prepared { settings, certificate })
}

/// Reads the files again; new connections get what they have. If they cannot be used, the certificate stays.
pub(crate) fn renew(smtp: &Smtp, certificate: &Certificate) -> Result<(), SmtpFault> {
    let Some(Pem { chain, key }) = files(smtp)? else { return Ok(()) };
    certificate.replace(&chain, &key).map_err(SmtpFault::Tls)
}

/// The listener in one line, for people.
pub(crate) fn described(smtp: &Smtp) -> String {
    let tls = match (smtp.tls_certificate.is_some(), smtp.implicit_tls) {
        (false, _) => "no TLS",
        (true, false) => "TLS by STARTTLS",
        (true, true) => "TLS from the first byte",
    };
    let users: Vec<&str> = smtp.users.keys().map(String::as_str).collect();
    let users = match &users[..] {
        [] => "no users: every program on this machine can send".to_owned(),
        users if users.len() <= 5 => format!("users {}", users.join(", ")),
        users => format!("{} users", users.len()),
    };
    format!("{}; {tls}; {users}", smtp.listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &str) -> Result<(Prepared, String), String> {
        let config = Config::parse(text).unwrap();
        let smtp = config.smtp.clone().unwrap();
        prepare(&config, &smtp).map(|prepared| (prepared, described(&smtp))).map_err(|fault| fault.to_string())
    }

    const DIGEST: &str = "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f";

    #[test]
    fn a_listener_that_only_this_machine_reaches_needs_nothing() {
        let (prepared, text) = prepared("drain_secs = 7\n[smtp]").unwrap();
        assert_eq!(text, "127.0.0.1:2525; no TLS; no users: every program on this machine can send");
        let defaults = SmtpSettings::new("localhost");
        assert_eq!(prepared.settings.timeouts, Timeouts { drain: Duration::from_secs(7), ..defaults.timeouts });
        assert_eq!(prepared.settings.max_memory_bytes, defaults.max_memory_bytes);
    }

    #[test]
    fn users_have_names_and_digests() {
        let (prepared, text) = prepared(&format!("[smtp.users]\napp = \"{DIGEST}\"")).unwrap();
        assert_eq!((prepared.settings.users[0].name(), text.as_str()), ("app", "127.0.0.1:2525; no TLS; users app"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let problem = |text: &str| prepared(text).unwrap_err();
        insta::assert_snapshot!([
            "[smtp]\nlisten = \"0.0.0.0:587\"",
            "[smtp.users]\napp = \"secret\"",
            "[smtp]\nimplicit_tls = true",
            "[smtp]\nhostname = \"a b\"",
            "[smtp]\nin_flight_mib = 10",
            "[smtp]\ntls_certificate = \"/nowhere/c\"\ntls_key = \"/nowhere/k\"",
            "[smtp]\ntls_certificate = \"Cargo.toml\"\ntls_key = \"Cargo.toml\"",
        ].map(problem).join("\n"), @r"
        SMTP on 0.0.0.0 needs TLS, because other machines reach this address: set a certificate, or listen on 127.0.0.1
        smtp.users: the SHA-256 digest of user `app` is not 64 hexadecimal digits
        implicit TLS needs a certificate
        SMTP host name `a b` is not a domain name
        10485760 bytes of memory are too few for a message of 40000000 bytes: at least 41048576
        cannot read /nowhere/c: No such file or directory (os error 2)
        smtp.tls_certificate and smtp.tls_key: there is no certificate in the file
        ");
    }
}
