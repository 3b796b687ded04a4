//! Mail that is held: stored when it may not go now, and sent when it may.
//!
//! The way of a mail: [`Holding::hold`] writes it to the [`Store`] before the caller is answered; a [`Releaser`](crate::release::Releaser) walks the
//! lines, asks the gate for the mail at the head of each, claims it, hands it to SES, and deletes it. What does not go in
//! time is kept under `expired/`, and what SES refuses under `refused/`; both are counted, logged, and alerted.
//!
//! A line is the mail of one class, one ISP and one sender (configuration set and identity), by age: what the gate limits
//! together. No line waits because another may not go.
//!
//! | key | is |
//! |---|---|
//! | `held/CLASS.ISP.SENDER/MILLIS-ID` | a mail that waits; `SENDER` is a digest, `MILLIS` when it was accepted |
//! | `claims/ID` | who sends it now, and until when nobody else may |
//! | `expired/CLASS.ISP.SENDER/MILLIS-ID` | a mail that waited too long |
//! | `refused/CLASS.ISP.SENDER/MILLIS-ID` | a mail that SES refused, with its code |
//!
//! **Invariant:** a mail is answered as accepted only after the store has it. **Invariant:** a mail is deleted only after SES
//! has accepted it, or after a copy is under `expired/` or `refused/`. **Invariant:** SES is called for a mail only by who holds
//! its claim, after the mail was seen in the store under that claim, with a grant of the gate, and before its end. **Invariant:**
//! a claim is deleted only after its mail. **Invariant:** a call that may be the second one for a mail is counted before it is
//! made. **Invariant:** keys and logs have no address and no domain.

pub(crate) mod claim;
mod keep;
pub(crate) mod key;
pub(crate) mod object;
mod s3;
pub(crate) mod store;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use keep::{Holding, STORING};
pub(crate) use key::Age;
use key::Place;
pub(crate) use object::HeldMail;
pub(crate) use s3::S3Store;
use store::{Condition, Store, StoreError, Version};

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Millis(pub(crate) u64);

impl Millis {
    pub(crate) fn plus(self, duration: std::time::Duration) -> Millis {
        Millis(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this; zero if it is later.
    pub(crate) fn since(self, earlier: Millis) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What time it is.
pub(crate) type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// 128 random bits in hexadecimal digits; `None` if the system has none.
pub(crate) fn new_id() -> Option<String> {
    let (high, low) = (getrandom::u64().ok()?, getrandom::u64().ok()?);
    Some(format!("{high:016x}{low:016x}"))
}

/// Tries all that the relay does with the store, with objects that are no mail.
///
/// # Errors
///
/// The first thing that cannot be done.
pub(crate) async fn probe(store: &dyn Store, id: &str) -> Result<(), StoreError> {
    let bytes = Bytes::from_static(b"a probe of ses-relay check\n");
    for place in Place::ALL {
        // Not in a line, so that no relay takes it for mail.
        let name = match place {
            Place::Held | Place::Claims => format!("check-{id}"),
            // The relay only writes there, so that this stays until the bucket deletes it.
            Place::Expired | Place::Refused => "check".to_owned(),
        };
        let key = format!("{}{name}", place.folder());
        match place {
            Place::Held | Place::Expired | Place::Refused => store.put(&key, bytes.clone()).await?,
            Place::Claims => {
                store.put_if(&key, bytes.clone(), Condition::Absent).await?;
                // Claims need both. Other stores than S3 may pass over one of them.
                let another = Condition::Is(Version("\"00000000000000000000000000000000\"".to_owned()));
                for (condition, name) in [(Condition::Absent, "If-None-Match"), (another, "If-Match")] {
                    if store.put_if(&key, bytes.clone(), condition).await?.is_some() {
                        let code = format!("the store does not honour {name}");
                        return Err(StoreError::Refused { operation: "PutObject", code });
                    }
                }
            }
        }
        match place {
            Place::Held | Place::Claims => {
                store.list(place.folder(), None, 1).await?;
                store.get(&key).await?;
                store.exists(&key).await?;
                store.delete(&key).await?;
            }
            Place::Expired | Place::Refused => {}
        }
    }
    Ok(())
}

/// Makes ids.
pub(crate) type Ids = Arc<dyn Fn() -> Option<String> + Send + Sync>;
