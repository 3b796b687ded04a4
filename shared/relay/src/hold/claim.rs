//! Who may send a held mail now.
//!
//! A claim is one object for each mail that somebody tries to send. It is written only if there is none, or in the place of
//! exactly the one that was read, so that of several relays one gets it. It names a time; until then it is not taken from its
//! owner. After that, the next one takes it, as another attempt, because the owner may have ended between SES's yes and the
//! delete.
//!
//! **Invariant:** a claim is never deleted while its mail exists: two relays could have one at the same time otherwise. Where it
//! is certain that SES has not accepted the mail, the claim is written again as free.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Millis;
use super::store::{Condition, Store, StoreError, Version};

/// After this number of attempts of which it is not known whether the mail has gone, no other is made: a mail that ends the relay
/// would be sent each time. They take some ten hours, so that an outage of SES of some hours ends no mail.
pub(crate) const MAX_ATTEMPTS: u32 = 16;
/// Each attempt holds twice as long as the one before, up to this many doublings: 48 minutes with the default timeout.
const MAX_DOUBLINGS: u32 = 5;

/// The object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    version: u32,
    /// Which relay.
    owner: String,
    /// Milliseconds since 1970.
    until: u64,
    /// Attempts of which it is not known whether SES has the mail, with this one.
    attempts: u32,
    /// `sending`, or `free`: then this attempt did not send it.
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Sending,
    Free,
}

/// A claim that this relay holds.
#[derive(Debug)]
pub(crate) struct Claim {
    key: String,
    version: Version,
    written: Written,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Claiming {
    Won(Claim),
    /// Another has it.
    Lost,
}

impl Claim {
    /// Claims the mail of this key, if no other holds it. After the first attempt, each holds twice as long as the one before.
    pub(crate) async fn take(
        store: &dyn Store,
        key: String,
        owner: &str,
        now: Millis,
        hold_for: Duration,
    ) -> Result<Claiming, StoreError> {
        let mut written = Written {
            version: 1,
            owner: owner.to_owned(),
            until: now.plus(hold_for).0,
            attempts: 1,
            state: State::Sending,
        };
        // Nearly always there is none.
        if let Some(version) = store.put_if(&key, written.encode(), Condition::Absent).await? {
            return Ok(Claiming::Won(Claim { key, version, written }));
        }
        let Some((bytes, known)) = store.get(&key).await? else { return Ok(Claiming::Lost) };
        // One that cannot be read is of another release: it ends when its mail does.
        let Some(before) = Written::decode(&bytes) else { return Ok(Claiming::Lost) };
        if before.state == State::Sending && now.0 < before.until {
            return Ok(Claiming::Lost);
        }
        written.attempts = match before.state {
            State::Sending => before.attempts.saturating_add(1),
            State::Free => before.attempts.max(1),
        };
        written.until = now.plus(hold_for.saturating_mul(1 << (written.attempts - 1).min(MAX_DOUBLINGS))).0;
        let version = store.put_if(&key, written.encode(), Condition::Is(known)).await?;
        Ok(version.map_or(Claiming::Lost, |version| Claiming::Won(Claim { key, version, written })))
    }

    /// Whether SES may have the mail already, from an attempt before.
    pub(crate) fn is_repeated(&self) -> bool {
        self.written.attempts > 1
    }

    /// Whether SES may still be called.
    pub(crate) fn allows_another(&self) -> bool {
        self.written.attempts <= MAX_ATTEMPTS
    }

    /// Whether it still holds for this time.
    pub(crate) fn holds(&self, now: Millis, time: Duration) -> bool {
        now.plus(time).0 <= self.written.until
    }

    /// This attempt did not send the mail, for certain: another may try at once.
    pub(crate) async fn free(mut self, store: &dyn Store) -> Result<(), StoreError> {
        self.written.state = State::Free;
        // If another has it by now, it is no longer this one's to give.
        store.put_if(&self.key, self.written.encode(), Condition::Is(self.version)).await.map(|_| ())
    }

    /// The mail does not exist any more.
    pub(crate) async fn remove(self, store: &dyn Store) -> Result<(), StoreError> {
        store.delete(&self.key).await
    }
}

impl Written {
    fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    fn decode(bytes: &[u8]) -> Option<Written> {
        serde_json::from_slice(bytes).ok().filter(|written: &Written| written.version == 1)
    }
}
