//! Subjects and keys: whose reputation, at which ISP.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Isp;

/// Whose reputation. Written `configuration-set:NAME`, `identity:DOMAIN`, `tenant:NAME`, `tag:NAME=VALUE`, `account`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// All of the sender's mail in this Region: the sum of its configuration sets, without those of drills.
    Account,
    /// A configuration set; mail without one belongs to [`Subject::UNTAGGED`].
    ConfigurationSet(Arc<str>),
    /// The domain that mail is sent from.
    Identity(Arc<str>),
    /// An SES tenant.
    Tenant(Arc<str>),
    /// A message tag with one value, for example a campaign.
    Tag(Arc<str>, Arc<str>),
}

impl Subject {
    /// Name of the configuration set of mail that was sent without one.
    pub const UNTAGGED: &'static str = "(none)";

    /// The prefix of the names of configuration sets that `ses-breaker drill` creates: see [`Subject::is_drill`].
    pub const DRILL: &'static str = "ses-breaker-drill-";

    /// Whether it is a configuration set of a drill, whose mail goes to SES's mailbox simulator. Such mail counts for
    /// that set alone, and not for the account, for an ISP's trouble or for the budget of pauses. Stopping the set
    /// stops no real mail, so it is acted on in shadow, too.
    pub fn is_drill(&self) -> bool {
        matches!(self, Subject::ConfigurationSet(name) if name.starts_with(Subject::DRILL))
    }

    /// Whether it is one of the disjoint parts of the account: the account is the sum of these subjects.
    pub fn is_part_of_account(&self) -> bool {
        matches!(self, Subject::ConfigurationSet(_)) && !self.is_drill()
    }

    /// The length of its text in bytes, computed without building the text, because it is needed for every event.
    pub fn bytes(&self) -> usize {
        match self {
            Subject::Account => "account".len(),
            Subject::ConfigurationSet(name) => "configuration-set:".len() + name.len(),
            Subject::Identity(domain) => "identity:".len() + domain.len(),
            Subject::Tenant(name) => "tenant:".len() + name.len(),
            Subject::Tag(name, value) => "tag:=".len() + name.len() + value.len(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Account => f.write_str("account"),
            Subject::ConfigurationSet(name) => write!(f, "configuration-set:{name}"),
            Subject::Identity(domain) => write!(f, "identity:{domain}"),
            Subject::Tenant(name) => write!(f, "tenant:{name}"),
            Subject::Tag(name, value) => write!(f, "tag:{name}={value}"),
        }
    }
}

/// A text that does not name a subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no subject; allowed: account, configuration-set:NAME, identity:DOMAIN, tenant:NAME, tag:NAME=VALUE"
)]
pub struct SubjectError(String);

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Subject, SubjectError> {
        let error = || SubjectError(text.to_owned());
        if text == "account" {
            return Ok(Subject::Account);
        }
        let (kind, name) = text.split_once(':').ok_or_else(error)?;
        if name.is_empty() {
            return Err(error());
        }
        match kind {
            "configuration-set" => Ok(Subject::ConfigurationSet(name.into())),
            "identity" => Ok(Subject::Identity(name.to_ascii_lowercase().into())),
            "tenant" => Ok(Subject::Tenant(name.into())),
            "tag" => {
                let (name, value) = name.split_once('=').ok_or_else(error)?;
                if name.is_empty() { Err(error()) } else { Ok(Subject::Tag(name.into(), value.into())) }
            }
            _ => Err(error()),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Subject, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What is judged: a subject at one ISP, or at all ISPs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Whose reputation.
    pub subject: Subject,
    /// The ISP; `None` for all ISPs.
    pub isp: Option<Isp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_configuration_set_with_the_reserved_prefix_is_that_of_a_drill() {
        for (text, expected) in [
            ("configuration-set:ses-breaker-drill-20261127t063012z", true),
            ("configuration-set:ses-breaker-drill", false),
            ("configuration-set:my-ses-breaker-drill-1", false),
            ("tenant:ses-breaker-drill-1", false),
            ("account", false),
        ] {
            let subject: Subject = text.parse().unwrap();
            assert_eq!(subject.is_drill(), expected, "{text}");
            assert_eq!(subject.is_part_of_account(), text.starts_with("configuration-set:") && !expected, "{text}");
        }
    }

    #[test]
    fn a_subject_is_read_as_it_is_written() {
        for text in ["account", "configuration-set:news", "identity:mail.example.com", "tenant:t-1", "tag:campaign=a=b"]
        {
            assert_eq!(text.parse::<Subject>().map(|subject| subject.to_string()).as_deref(), Ok(text));
            assert_eq!(text.parse::<Subject>().map(|subject| subject.bytes()), Ok(text.len()));
        }
        for text in ["", "news", "configuration-set:", "set:news", "tag:campaign", "tag:=x"] {
            assert!(text.parse::<Subject>().unwrap_err().to_string().contains(&format!("`{text}`")));
        }
    }
}
