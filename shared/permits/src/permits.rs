//! The client.

use std::sync::Arc;
use std::time::Duration;

use gate_api::{Class, MAX_MAILS};
use tokio::time::{Instant, sleep_until};

use crate::client::{Counts, PermitClient};
use crate::domain::domain_of;
use crate::error::Error;
use crate::permit::Permit;

/// Asks the gate for permits, and keeps leases in a pool. Clones share everything.
///
/// If all clones are dropped without [`Permits::close`], leases are still given back shortly before they end, as long
/// as the runtime runs.
#[derive(Clone, Debug)]
pub struct Permits {
    client: Arc<PermitClient>,
}

impl Permits {
    pub(crate) fn new(client: Arc<PermitClient>) -> Permits {
        Permits { client }
    }

    /// Asks whether some mails may go to a domain now. An address may be given as well; only its domain is sent to the
    /// gate. A mail to several recipients needs a permit for each of them.
    ///
    /// Answers from the pool at once where it can, and otherwise waits for one call. Of several mails, fewer may be
    /// granted than asked for: see [`Grant::mails`](crate::Grant::mails). May be cancelled at any time; nothing is lost
    /// by it.
    ///
    /// # Errors
    ///
    /// [`Error::Domain`] and [`Error::Mails`] without asking the gate; [`Error::Refused`] where it refuses the request
    /// as such; [`Error::Closed`] after [`Permits::close`]. A gate that cannot be reached is not an error: see
    /// [`Builder::when_unreachable`](crate::Builder::when_unreachable).
    pub async fn take(&self, to: &str, mails: u64, class: Class) -> Result<Permit, Error> {
        let domain = domain_of(to)?;
        if !(1..=MAX_MAILS).contains(&mails) {
            return Err(Error::Mails { mails });
        }
        let answered = self.client.take(&domain, mails, class).await?;
        Ok(Permit::of(&self.client, answered))
    }

    /// Asks for one mail, and where it has to wait, waits and asks again, for at most `patience` in all.
    ///
    /// A wait that is longer than the patience left is not begun, but returned at once.
    ///
    /// # Errors
    ///
    /// As [`Permits::take`].
    pub async fn wait_for(&self, to: &str, class: Class, patience: Duration) -> Result<Permit, Error> {
        let begin = Instant::now();
        loop {
            let permit = self.take(to, 1, class).await?;
            let Permit::Wait(wait) = &permit else { return Ok(permit) };
            // Compared as durations: the end of an unlimited patience cannot be computed as an instant.
            let until = Instant::now() + wait.retry_after;
            if until - begin > patience {
                return Ok(permit);
            }
            sleep_until(until).await;
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.client.counts()
    }

    /// Gives back everything that was not used. From then on no clone lets mail go. Waits for what is under way: no
    /// longer than a call takes with all its attempts if the gate cannot be reached. Put unused grants back before.
    pub async fn close(&self) -> Counts {
        self.client.close().await
    }
}
