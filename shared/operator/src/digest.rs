//! The daily digest, on demand.

use pipeline::digest::{Digest, find};
use reputation::time::Now;
use terminal::sanitize;

use crate::failure::Failure;
use crate::{Access, Answer, Exit};

/// The digest as of now: breaker states and yesterday's rates.
///
/// # Errors
///
/// AWS refuses.
pub async fn digest(access: &Access, now: Now) -> Result<Answer, Failure> {
    let policy = access.policy().await?.policy;
    let quotas = access.quotas(&policy);
    let found = find(&policy, &mut access.reputation(&policy), &quotas, now).await;
    let digest = Digest::of(&policy, &found.map_err(|error| access.refused(error))?);
    let lines: Vec<String> = digest.text().lines().map(sanitize).collect();
    Ok(Answer::new(lines.join("\n") + "\n", &digest, Exit::Done))
}
