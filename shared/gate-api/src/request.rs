//! What is sent to the gate.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

use crate::MAX_MAILS;

/// How urgent mail is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// It can wait.
    #[default]
    Bulk,
    /// A person waits for it, for example for a code or a password. It has a reserve of its own, and should be a small
    /// share of the mail.
    Critical,
}

impl Class {
    /// Both.
    pub const ALL: [Class; 2] = [Class::Bulk, Class::Critical];

    /// Stable name, as in requests.
    pub fn name(self) -> &'static str {
        match self {
            Class::Bulk => "bulk",
            Class::Critical => "critical",
        }
    }
}

/// The body of a request to [`PERMITS_PATH`](crate::PERMITS_PATH).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PermitsRequest {
    /// The same when the same is asked again, and nothing else: 1 to [`MAX_NAME`](crate::MAX_NAME) characters. Without
    /// it, each call is another request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The configuration set that the mail is for: 1 to [`MAX_SET`](crate::MAX_SET) characters.
    pub configuration_set: String,
    /// The domain that it is sent from.
    pub identity: String,
    /// How urgent it is.
    #[serde(default)]
    pub class: Class,
    /// Whether mail for which the quota has not come in yet is to be granted for the times at which it will: one request
    /// can use its day then. Until a slot's time, ask again under the same name to see whether it still stands: so it
    /// needs a name.
    #[serde(default, skip_serializing_if = "is_false")]
    pub schedule: bool,
    /// Mails by the domain of their recipients: 1 to [`MAX_DOMAINS`](crate::MAX_DOMAINS) domains, each with 1 to
    /// [`MAX_MAILS`] mails.
    #[serde(deserialize_with = "recipients")]
    pub recipients: BTreeMap<String, u64>,
}

/// The body of a request to [`RETURN_PATH`](crate::RETURN_PATH).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReturnRequest {
    /// The configuration set that the lease is of.
    pub configuration_set: String,
    /// The lease, as it came with the permit: at most [`MAX_LEASE`](crate::MAX_LEASE) characters.
    pub lease: String,
    /// How many of its mails were not sent; no more than were granted.
    #[serde(deserialize_with = "unused")]
    pub unused: u64,
}

/// An earlier gate does not know the property: it is written only if it asks for something.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

fn recipients<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, u64>, D::Error> {
    deserializer.deserialize_map(Recipients)
}

fn unused<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Whole { least: 0, most: None }.deserialize(deserializer)
}

struct Recipients;

impl<'de> Visitor<'de> for Recipients {
    type Value = BTreeMap<String, u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object that holds a number of mails for each domain")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BTreeMap<String, u64>, A::Error> {
        let mut recipients = BTreeMap::new();
        while let Some(domain) = map.next_key()? {
            recipients.insert(domain, map.next_value_seed(Whole { least: 1, most: Some(MAX_MAILS) })?);
        }
        Ok(recipients)
    }
}

/// Beyond it, not every whole number is a float.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// A whole number between two bounds, both included. Without an upper bound, it is the number of mails of a lease.
#[derive(Clone, Copy)]
struct Whole {
    least: u64,
    most: Option<u64>,
}

impl<'de> DeserializeSeed<'de> for Whole {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_u64(self)
    }
}

impl Visitor<'_> for Whole {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whole numbers from {} to ", self.least)?;
        match self.most {
            Some(most) => write!(f, "{most}"),
            None => f.write_str("as many as were granted"),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        if number >= self.least && self.most.is_none_or(|most| number <= most) {
            return Ok(number);
        }
        Err(E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    /// `200.0` is a whole number, too (JSON Schema Core, section 4.2.2). Larger ones than those that are exact are not read.
    fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
        if number.fract() == 0.0 && (0.0..=MAX_EXACT).contains(&number) {
            return self.visit_u64(number as u64);
        }
        Err(E::invalid_value(Unexpected::Float(number), &self))
    }
}
