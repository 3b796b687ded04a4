//! The daily digest, on demand.

use pipeline::digest::{Digest, find};
use reputation::time::Now;

use crate::Access;
use crate::failure::Failure;

/// The digest as of now: breaker states and yesterday's rates.
///
/// # Errors
///
/// AWS refuses.
pub async fn digest(access: &Access, now: Now) -> Result<Digest, Failure> {
    let policy = access.policy().await?.policy;
    let quotas = access.quotas(&policy);
    let found = find(&policy, &mut access.reputation(&policy), &quotas, now).await;
    Ok(Digest::of(&policy, &found.map_err(|error| access.refused(error))?))
}
