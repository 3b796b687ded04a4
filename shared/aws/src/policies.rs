//! The policy of a stack: kept in the reputation table, in versions.
//!
//! Where none was ever pushed, the default of this release stands, in shadow: a stack acts only once a policy that says
//! `mode = "act"` was pushed. If the current one cannot be read (it was written
//! by hand, or an older release reads a newer policy), the last one that can stands, and [`Known::problem`] says so.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use pipeline::ports::{Disposition, PortError};
use reputation::policy::Policy;
use reputation::time::Now;
use tokio::time::Instant;

use crate::clients::port_error;
use crate::layout::{Item, Reader, keys, number, text};
use crate::ledger::bug;

const PK: &str = "policy";
/// A policy is a page of text; an item holds 400 KB.
pub const MAX_BYTES: usize = 100_000;

/// A policy as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPolicy {
    /// Grows by one with each push.
    pub version: u64,
    /// What differs from the default, in TOML.
    pub toml: String,
    /// When it was pushed.
    pub at: Now,
    /// Who pushed it.
    pub by: String,
}

/// The policies in one table.
#[derive(Clone, Debug)]
pub struct Policies {
    client: Client,
    table: String,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is the current policy now, under this version.
    Pushed(u64),
    /// Somebody else pushed another one meanwhile.
    Conflict,
}

impl Policies {
    /// The policies in this table.
    pub fn new(client: Client, table: impl Into<String>) -> Policies {
        Policies { client, table: table.into() }
    }

    /// The current one; `None` if none was ever pushed.
    ///
    /// # Errors
    ///
    /// The table does not answer, or the item holds something else.
    pub async fn current(&self) -> Result<Option<StoredPolicy>, PortError> {
        let operation = "reading the policy";
        let get = self.client.get_item().table_name(&self.table).set_key(Some(keys(PK, "current")));
        let answer = get.consistent_read(true).send().await.map_err(|error| port_error(operation, &error))?;
        answer.item().map(stored).transpose()
    }

    /// Earlier and current ones, the newest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// The table does not answer, or an item holds something else.
    pub async fn versions(&self, most: i32) -> Result<Vec<StoredPolicy>, PortError> {
        let query = self.client.query().table_name(&self.table).consistent_read(true).scan_index_forward(false);
        let query = query.key_condition_expression("pk = :pk AND begins_with(sk, :version)");
        let query = query
            .expression_attribute_values(":pk", text(PK))
            .expression_attribute_values(":version", text("version#"));
        let answer = query.limit(most).send().await.map_err(|error| port_error("reading the policy", &error))?;
        answer.items().iter().map(stored).collect()
    }

    /// One version; `None` if there is none of that number.
    ///
    /// # Errors
    ///
    /// The table does not answer, or the item holds something else.
    pub async fn version(&self, version: u64) -> Result<Option<StoredPolicy>, PortError> {
        let get = self.client.get_item().table_name(&self.table).set_key(Some(keys(PK, version_sk(version))));
        let answer = get.send().await.map_err(|error| port_error("reading the policy", &error))?;
        answer.item().map(stored).transpose()
    }

    /// Makes a policy the current one, after the one with version `after` (0: none). Whoever pushes has validated it.
    ///
    /// # Errors
    ///
    /// The table does not answer, or the policy is too long.
    pub async fn push(&self, toml: &str, after: u64, by: &str, now: Now) -> Result<Pushed, PortError> {
        let operation = "pushing a policy";
        if toml.len() > MAX_BYTES {
            let reason = format!("it has {} bytes; at most {MAX_BYTES} are kept", toml.len());
            return Err(PortError { operation, reason, disposition: Disposition::Quarantine });
        }
        let version = after + 1;
        let item = |sk: String| {
            let mut item = keys(PK, sk);
            item.insert("version".to_owned(), number(version));
            item.insert("toml".to_owned(), text(toml));
            item.insert("at".to_owned(), number(now.0));
            item.insert("by".to_owned(), text(by));
            item
        };
        let put = || Put::builder().table_name(&self.table);
        let current = put().set_item(Some(item("current".to_owned())));
        let current = match after {
            0 => current.condition_expression("attribute_not_exists(pk)"),
            after => {
                current.condition_expression("version = :after").expression_attribute_values(":after", number(after))
            }
        };
        let current = current.build().map_err(|error| bug(operation, &error))?;
        let kept = put().set_item(Some(item(version_sk(version)))).build();
        let kept = kept.map_err(|error| bug(operation, &error))?;
        let transaction = self
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().put(current).build())
            .transact_items(TransactWriteItem::builder().put(kept).build());
        match transaction.send().await {
            Ok(_) => Ok(Pushed::Pushed(version)),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_transaction_canceled_exception()) => {
                Ok(Pushed::Conflict)
            }
            Err(error) => Err(port_error(operation, &error)),
        }
    }
}

fn version_sk(version: u64) -> String {
    format!("version#{version:06}")
}

fn stored(item: &Item) -> Result<StoredPolicy, PortError> {
    let read = Reader(item);
    Ok(StoredPolicy {
        version: read.number("version")?,
        toml: read.text("toml")?.to_owned(),
        at: Now(read.number("at")?),
        by: read.text("by").unwrap_or("?").to_owned(),
    })
}

/// A policy in use.
#[derive(Clone, Debug)]
pub struct Known {
    /// The rules.
    pub policy: Policy,
    /// Its version; 0 is the default.
    pub version: u64,
    /// Why it is not the current one, if it is not.
    pub problem: Option<String>,
}

/// How long a function goes by the policy that it has read.
const FRESH: Duration = Duration::from_secs(60);
/// How far back is looked for a policy that can be read.
const LOOK_BACK: i32 = 10;

/// The policy as a function knows it, read again once a minute.
#[derive(Debug)]
pub struct PolicyInUse {
    policies: Policies,
    gate_in_use: bool,
    known: Option<(Instant, Known)>,
}

impl PolicyInUse {
    /// `gate_in_use`: whether this stack has a gate that applications ask; without, a policy that counts on it would leave
    /// mail to a bad ISP to nobody.
    pub fn new(policies: Policies, gate_in_use: bool) -> PolicyInUse {
        PolicyInUse { policies, gate_in_use, known: None }
    }

    /// The policy to go by, and whether it is another one than before.
    ///
    /// # Errors
    ///
    /// None was ever read, and the table does not answer.
    pub async fn get(&mut self) -> Result<(&Known, bool), PortError> {
        let fresh = self.known.as_ref().is_some_and(|(at, _)| at.elapsed() < FRESH);
        let mut changed = false;
        if !fresh {
            let read = self.read().await;
            let known = match (read, self.known.take()) {
                (Ok(read), before) => {
                    changed = before.is_none_or(|(_, before)| before.version != read.version);
                    read
                }
                // Better an older one than none.
                (Err(error), Some((_, before))) => {
                    tracing::warn!(%error, version = before.version, "the policy cannot be read; going on with the known one");
                    before
                }
                (Err(error), None) => return Err(error),
            };
            if let Some(problem) = &known.problem {
                tracing::error!(problem, version = known.version, "the current policy is not in use");
            }
            self.known = Some((Instant::now(), known));
        }
        match &self.known {
            Some((_, known)) => Ok((known, changed)),
            None => Err(PortError {
                operation: "reading the policy",
                reason: "there is none".to_owned(),
                disposition: Disposition::Retry,
            }),
        }
    }

    /// The policy that was gone by last; `None` if none was ever read.
    pub fn last(&self) -> Option<&Known> {
        self.known.as_ref().map(|(_, known)| known)
    }

    async fn read(&self) -> Result<Known, PortError> {
        let problem = match self.policies.current().await {
            Ok(None) => return Ok(self.known(Policy::default(), 0, None)),
            Ok(Some(stored)) => match Policy::from_toml(&stored.toml) {
                Ok(policy) => return Ok(self.known(policy, stored.version, None)),
                Err(error) => format!("policy version {} is invalid: {error}", stored.version),
            },
            Err(error) if error.disposition == Disposition::Halt && error.operation != "reading the policy" => {
                error.to_string()
            }
            Err(error) => return Err(error),
        };
        for stored in self.policies.versions(LOOK_BACK).await? {
            if let Ok(policy) = Policy::from_toml(&stored.toml) {
                return Ok(self.known(policy, stored.version, Some(problem)));
            }
        }
        Ok(self.known(Policy::default(), 0, Some(problem)))
    }

    fn known(&self, policy: Policy, version: u64, problem: Option<String>) -> Known {
        let mut policy = policy.in_stack();
        policy.gate_in_use = self.gate_in_use && policy.clone().in_world(true).gate_in_use;
        Known { policy, version, problem }
    }
}
