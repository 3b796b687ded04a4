//! The configuration file: TOML, in which every key is known.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use permits::Class;
use serde::Deserialize;
use terminal::nearest;

use crate::address;
use crate::hold::{Age, STORING};
use crate::mail::{ClassRule, Rules, is_set_name};
use crate::smtp::{SmtpSettings, Timeouts};

/// The message tag that names the class, unless the configuration names another.
pub(crate) const CLASS_TAG: &str = "ses-breaker-class";

/// How long a message that came over SMTP may take before SES is called: for the gate, which the client of `permits` gives up
/// on sooner, and for credentials, whose providers may have no limit of their own.
const BEFORE_SES: Duration = Duration::from_secs(30);

/// What the relay does.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where the SES API is listened for.
    pub(crate) listen: SocketAddr,
    /// Whether it may be listened for where other machines can connect.
    pub(crate) allow_public: bool,
    /// The Region of SES and of the gate; without it, that of the environment.
    pub(crate) region: Option<String>,
    /// The URL of the gate; without it, `SES_BREAKER_GATE_URL`.
    pub(crate) gate: Option<String>,
    /// The configuration set of mail that names none.
    pub(crate) default_configuration_set: Option<String>,
    /// The message tag that names the class.
    pub(crate) class_tag: String,
    /// What happens to mail that may not go now.
    pub(crate) deferred: Option<Deferred>,
    /// Where mail is held; none without it.
    pub(crate) hold: Option<Hold>,
    /// How long requests may go on after a signal to stop.
    pub(crate) drain_secs: u64,
    /// Classes of mail that names none.
    pub(crate) class: Vec<ClassEntry>,
    pub(crate) ses: SesConfig,
    pub(crate) limits: Limits,
    pub(crate) status: Status,
    /// Submission over SMTP; none without it.
    pub(crate) smtp: Option<Smtp>,
}

/// What happens to mail that may not go now.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deferred {
    /// The caller is asked to try again.
    Refuse,
    /// It is stored, and sent when it may go.
    Hold,
}

/// Where mail is held, and for how long.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hold {
    /// The bucket.
    pub(crate) bucket: String,
    /// Before all keys in it.
    #[serde(default)]
    pub(crate) prefix: String,
    /// The endpoint of S3; without it, that of the Region.
    pub(crate) endpoint: Option<String>,
    /// The topic of SNS to which alerts go; without it, they are in the log only.
    pub(crate) alert_topic: Option<String>,
    /// The classes of mail that is held.
    #[serde(default = "all_classes")]
    pub(crate) classes: Vec<Class>,
    #[serde(default)]
    pub(crate) expire_hours: ExpireHours,
    /// Held mails under way at the same time.
    #[serde(default = "workers")]
    pub(crate) workers: usize,
    /// How often lines are looked at.
    #[serde(default = "scan_secs")]
    pub(crate) scan_secs: u64,
}

fn all_classes() -> Vec<Class> {
    Class::ALL.to_vec()
}

fn workers() -> usize {
    16
}

fn scan_secs() -> u64 {
    15
}

/// How long mail of each class may wait.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExpireHours {
    pub(crate) bulk: u64,
    pub(crate) critical: u64,
}

impl Default for ExpireHours {
    fn default() -> ExpireHours {
        ExpireHours { bulk: 72, critical: 4 }
    }
}

impl Hold {
    fn ranges(&self) -> [(&'static str, u64, u64); 4] {
        [
            // Claims are deleted by the bucket after 30 days, and must not be before their mail.
            ("hold.expire_hours.bulk", self.expire_hours.bulk, 336),
            ("hold.expire_hours.critical", self.expire_hours.critical, 336),
            ("hold.workers", self.workers as u64, 256),
            ("hold.scan_secs", self.scan_secs, 300),
        ]
    }

    /// How long mail may wait.
    pub(crate) fn age(&self) -> Age {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Age { bulk: hours(self.expire_hours.bulk), critical: hours(self.expire_hours.critical) }
    }
}

/// A rule for the class of mail.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClassEntry {
    pub(crate) configuration_set: Option<String>,
    pub(crate) identity: Option<String>,
    pub(crate) class: Class,
    /// What happens to this mail if it may not go now; without it, as to all of its class.
    pub(crate) deferred: Option<Deferred>,
}

/// How SES is called.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SesConfig {
    /// The endpoint; without it, that of the Region.
    pub(crate) endpoint: Option<String>,
    /// How long SES may take for an answer.
    pub(crate) timeout_secs: u64,
}

/// Limits on what is taken at once.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Connections at the same time.
    pub(crate) connections: usize,
    /// Bodies of requests in memory at the same time.
    pub(crate) in_flight_mib: u32,
    /// How long a request may take to arrive.
    pub(crate) read_secs: u64,
    /// Pairs of configuration set and identity with a client of the gate.
    pub(crate) senders: usize,
}

/// Where health and metrics are served.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Status {
    pub(crate) listen: SocketAddr,
}

/// Submission over SMTP. The defaults of limits and times are those of [`SmtpSettings`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Smtp {
    pub(crate) listen: SocketAddr,
    /// The name in the greeting.
    pub(crate) hostname: String,
    /// A file of certificates (PEM), the server's first.
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The file of its key (PEM).
    pub(crate) tls_key: Option<PathBuf>,
    /// TLS from the first byte instead of STARTTLS.
    pub(crate) implicit_tls: bool,
    /// Names, and SHA-256 digests of secrets.
    pub(crate) users: BTreeMap<String, String>,
    /// The largest message.
    pub(crate) max_message_bytes: usize,
    /// The longest line of a message.
    pub(crate) max_line_bytes: usize,
    /// Connections at the same time.
    pub(crate) max_connections: usize,
    /// Messages in memory at the same time, beside the requests of the SES API.
    pub(crate) in_flight_mib: usize,
    /// Commands between two messages.
    pub(crate) max_commands: u32,
    /// The bad command that ends a session.
    pub(crate) max_bad_commands: u32,
    /// The failed authentication that ends a session.
    pub(crate) max_failed_authentications: u32,
    /// Until the next command.
    pub(crate) command_secs: u64,
    /// Until the next bytes of a message.
    pub(crate) data_secs: u64,
    /// For all bytes of a message.
    pub(crate) message_secs: u64,
    /// For the TLS handshake.
    pub(crate) handshake_secs: u64,
    /// From the connection to the end of AUTH.
    pub(crate) login_secs: u64,
    /// For a session.
    pub(crate) session_secs: u64,
}

impl Default for Smtp {
    fn default() -> Smtp {
        let front = SmtpSettings::new("localhost");
        let Timeouts { command, data, message, handshake, login, session, drain: _ } = front.timeouts;
        Smtp {
            listen: SocketAddr::from(([127, 0, 0, 1], 2525)),
            hostname: front.hostname,
            tls_certificate: None,
            tls_key: None,
            implicit_tls: front.implicit_tls,
            users: BTreeMap::new(),
            max_message_bytes: front.max_message_bytes,
            max_line_bytes: front.max_line_bytes,
            max_connections: front.max_connections,
            in_flight_mib: front.max_memory_bytes >> 20,
            max_commands: front.max_commands,
            max_bad_commands: front.max_bad_commands,
            max_failed_authentications: front.max_failed_authentications,
            command_secs: command.as_secs(),
            data_secs: data.as_secs(),
            message_secs: message.as_secs(),
            handshake_secs: handshake.as_secs(),
            login_secs: login.as_secs(),
            session_secs: session.as_secs(),
        }
    }
}

impl Smtp {
    /// What has a range; what is left is checked by the front.
    fn ranges(&self) -> [(&'static str, u64, u64); 9] {
        [
            // What SES takes.
            ("smtp.max_message_bytes", self.max_message_bytes as u64, 40_000_000),
            ("smtp.max_connections", self.max_connections as u64, 100_000),
            ("smtp.in_flight_mib", self.in_flight_mib as u64, 65_536),
            ("smtp.command_secs", self.command_secs, 86_400),
            ("smtp.data_secs", self.data_secs, 86_400),
            ("smtp.message_secs", self.message_secs, 86_400),
            ("smtp.handshake_secs", self.handshake_secs, 86_400),
            ("smtp.login_secs", self.login_secs, 86_400),
            ("smtp.session_secs", self.session_secs, 86_400),
        ]
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8025)),
            allow_public: false,
            region: None,
            gate: None,
            default_configuration_set: None,
            class_tag: CLASS_TAG.to_owned(),
            deferred: None,
            hold: None,
            drain_secs: 30,
            class: Vec::new(),
            ses: SesConfig::default(),
            limits: Limits::default(),
            status: Status::default(),
            smtp: None,
        }
    }
}

impl Default for SesConfig {
    fn default() -> SesConfig {
        SesConfig { endpoint: None, timeout_secs: 30 }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 1000, in_flight_mib: 256, read_secs: 60, senders: 200 }
    }
}

impl Default for Status {
    fn default() -> Status {
        Status { listen: SocketAddr::from(([127, 0, 0, 1], 8026)) }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigFault {
    /// What is wrong, and at which line and column, if it is known.
    pub(crate) problem: String,
    /// What to do about it; empty where the problem says it.
    pub(crate) remedy: String,
}

impl Config {
    /// Reads a configuration.
    pub(crate) fn parse(text: &str) -> Result<Config, ConfigFault> {
        let config: Config = toml::from_str(text).map_err(|error| fault_of(text, &error))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigFault> {
        let wrong = |problem: String, remedy: &str| Err(ConfigFault { problem, remedy: remedy.to_owned() });
        let mut listens = vec![("listen", self.listen), ("status.listen", self.status.listen)];
        listens.extend(self.smtp.as_ref().map(|smtp| ("smtp.listen", smtp.listen)));
        // The front for SMTP has users and TLS; what listens here takes mail from every program that can connect.
        for (key, address) in &listens[..2] {
            if !address.ip().is_loopback() && !self.allow_public {
                return wrong(
                    format!("{key} = \"{address}\": every program that can connect there can send mail in your name"),
                    "The relay does not check the signatures of callers. Listen on 127.0.0.1, or set `allow_public = true` if \
                     only programs that may send can reach this address.",
                );
            }
        }
        for (index, (key, address)) in listens.iter().enumerate() {
            if let Some((other, _)) = listens[..index].iter().find(|(_, known)| known == address && known.port() != 0) {
                return wrong(format!("{key} and {other} are the same address"), "");
            }
        }
        let sets = self.class.iter().filter_map(|entry| entry.configuration_set.as_ref());
        for set in sets.chain(&self.default_configuration_set) {
            if !is_set_name(set) {
                return wrong(
                    format!("`{set}` is not the name of a configuration set"),
                    "A name has 1 to 64 letters, digits, `-` and `_`.",
                );
            }
        }
        for entry in &self.class {
            if let Some(identity) = &entry.identity
                && address::canonical(identity).is_err()
            {
                return wrong(format!("class.identity: `{identity}` is not a domain"), "");
            }
            if entry.identity.is_none() && entry.configuration_set.is_none() {
                return wrong("an entry of [[class]] names neither a configuration_set nor an identity".to_owned(), "");
            }
        }
        let of_rules = self.class.iter().filter_map(|entry| entry.deferred);
        if self.hold.is_none() && of_rules.chain(self.deferred).any(|deferred| deferred == Deferred::Hold) {
            return wrong(
                "deferred = \"hold\" needs a store".to_owned(),
                "Add a section [hold] with `bucket`: the output HeldMailBucketName of a stack with HoldMail=true.",
            );
        }
        if let Some(hold) = &self.hold {
            let fits = |text: &str, more: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
            if !(3..=63).contains(&hold.bucket.len()) || !fits(&hold.bucket, b".-") {
                return wrong(format!("hold.bucket: `{}` is not the name of a bucket", hold.bucket), "");
            }
            let has_end = hold.prefix.is_empty() || hold.prefix.ends_with('/');
            if !has_end || hold.prefix.len() > 512 || !fits(&hold.prefix, b"/._-") {
                return wrong(
                    format!("hold.prefix: `{}` cannot stand before keys", hold.prefix),
                    "It has letters, digits, `/`, `.`, `_` and `-`, and a `/` at its end.",
                );
            }
            if hold.alert_topic.as_ref().is_some_and(|topic| !topic.starts_with("arn:") || !topic.contains(":sns:")) {
                return wrong("hold.alert_topic is not the ARN of a topic of SNS".to_owned(), "");
            }
        }
        let ranges = [
            ("drain_secs", self.drain_secs, 3600),
            ("ses.timeout_secs", self.ses.timeout_secs, 900),
            ("limits.read_secs", self.limits.read_secs, 900),
            ("limits.connections", self.limits.connections as u64, 100_000),
            ("limits.senders", self.limits.senders as u64, 10_000),
        ];
        let of_smtp = self.smtp.iter().flat_map(Smtp::ranges);
        for (key, value, most) in ranges.into_iter().chain(of_smtp).chain(self.hold.iter().flat_map(Hold::ranges)) {
            if !(1..=most).contains(&value) {
                return wrong(format!("{key} = {value}: it is 1 to {most}"), "");
            }
        }
        // One request of the largest size must fit.
        if !(64..=65_536).contains(&self.limits.in_flight_mib) {
            return wrong(format!("limits.in_flight_mib = {}: it is 64 to 65,536", self.limits.in_flight_mib), "");
        }
        if let Some(smtp) = &self.smtp
            && smtp.tls_certificate.is_some() != smtp.tls_key.is_some()
        {
            return wrong("smtp.tls_certificate and smtp.tls_key belong together; one is missing".to_owned(), "");
        }
        Ok(())
    }

    /// How mail is judged.
    pub(crate) fn rules(&self) -> Rules {
        let rule = |entry: &ClassEntry| ClassRule {
            set: entry.configuration_set.clone(),
            identity: entry.identity.as_deref().and_then(|identity| address::canonical(identity).ok()),
            class: entry.class,
            holds: entry.deferred.map(|deferred| deferred == Deferred::Hold),
        };
        // With a store, mail is held that nothing is said of.
        let held = match (self.deferred, &self.hold) {
            (None | Some(Deferred::Hold), Some(hold)) => hold.classes.clone(),
            (Some(Deferred::Refuse), _) | (_, None) => Vec::new(),
        };
        Rules {
            held,
            default_set: self.default_configuration_set.clone(),
            class_tag: self.class_tag.clone(),
            classes: self.class.iter().map(rule).collect(),
        }
    }

    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_secs(self.limits.read_secs)
    }

    /// How long a message that came over SMTP may take, from its end to its answer.
    pub(crate) fn submission_limit(&self) -> Duration {
        let storing = if self.hold.is_some() { STORING } else { Duration::ZERO };
        BEFORE_SES + Duration::from_secs(self.ses.timeout_secs) + storing
    }
}

/// An error of the parser, with its place and the key that was probably meant. Never the line itself, which may hold a
/// secret.
fn fault_of(text: &str, error: &toml::de::Error) -> ConfigFault {
    let message = error.message();
    let place = error.span().and_then(|span| text.get(..span.start)).map(|before| {
        let line = before.rsplit('\n').next().unwrap_or_default();
        format!("line {}, column {}: ", before.matches('\n').count() + 1, line.chars().count() + 1)
    });
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = (message.starts_with("unknown field") || message.starts_with("unknown variant"))
        .then(|| quoted.next())
        .flatten();
    let meant = unknown.and_then(|written| nearest(written, quoted));
    ConfigFault {
        problem: format!("{}{}", place.unwrap_or_default(), message.lines().next().unwrap_or_default()),
        remedy: meant.map(|meant| format!("Did you mean `{meant}`?")).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let fault = Config::parse(text).unwrap_err();
        format!("{} | {}", fault.problem, fault.remedy).trim_end_matches(" | ").to_owned()
    }

    #[test]
    fn an_empty_configuration_has_the_defaults() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn every_key_of_the_reference_is_known() {
        let document = std::fs::read_to_string("../../infra/RELAY.md").unwrap();
        let reference = document.split("```toml\n").find(|part| part.starts_with("# The defaults")).unwrap();
        let reference = reference.split("\n```").next().unwrap();
        let config = Config::parse(reference).unwrap();
        assert_eq!((config.listen, &config.limits), (Config::default().listen, &Limits::default()));
        let smtp = config.smtp.clone().unwrap();
        let defaults = Smtp {
            hostname: smtp.hostname.clone(),
            tls_certificate: smtp.tls_certificate.clone(),
            tls_key: smtp.tls_key.clone(),
            users: smtp.users.clone(),
            ..Smtp::default()
        };
        assert_eq!(smtp, defaults);
        assert!(smtp.users.contains_key("app") && config.class.len() == 1);
        let hold = config.hold.clone().unwrap();
        let named = format!("[hold]\nbucket = \"{}\"", hold.bucket);
        let defaults = Config::parse(&named).unwrap().hold.unwrap();
        assert_eq!(hold, Hold { endpoint: hold.endpoint.clone(), alert_topic: hold.alert_topic.clone(), ..defaults });
        assert_eq!((config.rules().held, config.rules().classes[0].holds), (Class::ALL.to_vec(), Some(true)));
        assert_eq!(config.rules().classes[0].class, Class::Critical);
    }

    fn all_wrong(texts: &[&str]) -> String {
        texts.iter().map(|text| wrong(text)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_mistake_is_named_with_its_place_and_what_was_meant() {
        insta::assert_snapshot!(all_wrong(&[
            "\n  lisen = \"127.0.0.1:1\"\n",
            "[limits]\nconnections = 10\nread_sec = 3",
            "deferred = \"refused\"",
            "[hold]\nbukket = \"a\"",
            "[hold]\nbucket = \"abc\"\nexpire_hours = { bulk = 1, urgent = 1 }",
            "[ses]\ntimeout_secs = \"soon\"",
            "listen = ",
            "[[class]]\nconfiguration_set = \"a\"\nclass = \"urgent\"",
        ]), @r#"
        line 2, column 3: unknown field `lisen`, expected one of `listen`, `allow_public`, `region`, `gate`, `default_configuration_set`, `class_tag`, `deferred`, `hold`, `drain_secs`, `class`, `ses`, `limits`, `status`, `smtp` | Did you mean `listen`?
        line 3, column 1: unknown field `read_sec`, expected one of `connections`, `in_flight_mib`, `read_secs`, `senders` | Did you mean `read_secs`?
        line 1, column 12: unknown variant `refused`, expected `refuse` or `hold` | Did you mean `refuse`?
        line 2, column 1: unknown field `bukket`, expected one of `bucket`, `prefix`, `endpoint`, `alert_topic`, `classes`, `expire_hours`, `workers`, `scan_secs` | Did you mean `bucket`?
        line 3, column 28: unknown field `urgent`, expected `bulk` or `critical`
        line 2, column 16: invalid type: string "soon", expected u64
        line 1, column 10: string values must be quoted, expected literal string
        line 3, column 9: unknown variant `urgent`, expected `bulk` or `critical`
        "#);
    }

    #[test]
    fn a_value_that_would_do_harm_is_refused() {
        assert!(Config::parse("listen = \"0.0.0.0:8025\"\nallow_public = true").is_ok());
        insta::assert_snapshot!(all_wrong(&[
            "listen = \"0.0.0.0:8025\"",
            "[status]\nlisten = \"127.0.0.1:8025\"",
            "[[class]]\nclass = \"critical\"",
            "[[class]]\nclass = \"critical\"\nidentity = \"a b\"",
            "[limits]\nin_flight_mib = 10",
            "drain_secs = 0",
            "deferred = \"hold\"",
            "[[class]]\nidentity = \"a.example\"\nclass = \"bulk\"\ndeferred = \"hold\"",
            "[hold]\nbucket = \"abc\"\nprefix = \"mail\"",
            "[hold]\nbucket = \"a b c\"",
            "[hold]\nbucket = \"abc\"\nexpire_hours = { bulk = 337 }",
            "[hold]\nbucket = \"abc\"\nalert_topic = \"alerts\"",
            "default_configuration_set = \"a b\"",
            "[smtp]\nlisten = \"127.0.0.1:2525\"\ntls_key = \"a\"",
            "[smtp]\nlisten = \"127.0.0.1:8025\"",
            "[smtp]\nsession_secs = 0",
            "[smtp]\nmax_message_byte = 1",
        ]), @r#"
        listen = "0.0.0.0:8025": every program that can connect there can send mail in your name | The relay does not check the signatures of callers. Listen on 127.0.0.1, or set `allow_public = true` if only programs that may send can reach this address.
        status.listen and listen are the same address
        an entry of [[class]] names neither a configuration_set nor an identity
        class.identity: `a b` is not a domain
        limits.in_flight_mib = 10: it is 64 to 65,536
        drain_secs = 0: it is 1 to 3600
        deferred = "hold" needs a store | Add a section [hold] with `bucket`: the output HeldMailBucketName of a stack with HoldMail=true.
        deferred = "hold" needs a store | Add a section [hold] with `bucket`: the output HeldMailBucketName of a stack with HoldMail=true.
        hold.prefix: `mail` cannot stand before keys | It has letters, digits, `/`, `.`, `_` and `-`, and a `/` at its end.
        hold.bucket: `a b c` is not the name of a bucket
        hold.expire_hours.bulk = 337: it is 1 to 336
        hold.alert_topic is not the ARN of a topic of SNS
        `a b` is not the name of a configuration set | A name has 1 to 64 letters, digits, `-` and `_`.
        smtp.tls_certificate and smtp.tls_key belong together; one is missing
        smtp.listen and listen are the same address
        smtp.session_secs = 0: it is 1 to 86400
        line 2, column 1: unknown field `max_message_byte`, expected one of `listen`, `hostname`, `tls_certificate`, `tls_key`, `implicit_tls`, `users`, `max_message_bytes`, `max_line_bytes`, `max_connections`, `in_flight_mib`, `max_commands`, `max_bad_commands`, `max_failed_authentications`, `command_secs`, `data_secs`, `message_secs`, `handshake_secs`, `login_secs`, `session_secs` | Did you mean `max_message_bytes`?
        "#);
    }
}
