//! Names that a stack knows, for completion in a shell.
//!
//! **Invariant:** looking a name up changes nothing, says nothing, and takes [`LIMIT`] at most. What cannot be looked up is not
//! completed.

use std::time::Duration;

use reputation::policy::Policy;
use reputation::subject::Subject;
use terminal::quoted;

use crate::Access;
use crate::access::Route;
use crate::connect::Ses;

/// A person waits for the shell meanwhile.
pub const LIMIT: Duration = Duration::from_millis(1500);
/// The most names that are offered.
const MAX_NAMES: usize = 1000;

/// What an argument names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A configuration set of the account.
    Set,
    /// A configuration set that the policy plans quotas for.
    PlannedSet,
    /// A subject that the stack has seen; never the account.
    Subject,
    /// An ISP of the policy.
    Isp,
}

/// The names that begin with `written`, sorted, as a command accepts them; empty if AWS refuses or takes too long.
pub async fn names(access: &Access, named: Named, written: &str) -> Vec<String> {
    let found = tokio::time::timeout(LIMIT, known(access, named, written)).await.ok().flatten();
    let mut names = found.unwrap_or_default();
    // A shell would take other names apart, and few subjects have such names.
    names.retain(|name| name.starts_with(written) && quoted(name) == *name);
    names.sort_unstable();
    names.dedup();
    names.truncate(MAX_NAMES);
    names
}

/// As [`names`], on a thread without a runtime, and with credentials that have to be found first.
pub fn looked_up(stack: &str, route: &Route, named: Named, written: &str) -> Vec<String> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let names = runtime.block_on(async {
        let asked = async { Some(names(&Access::load(stack, route).await.ok()?, named, written).await) };
        tokio::time::timeout(LIMIT, asked).await.ok().flatten().unwrap_or_default()
    });
    // A look-up of a host that is under way cannot be ended.
    runtime.shutdown_background();
    names
}

async fn known(access: &Access, named: Named, written: &str) -> Option<Vec<String>> {
    match named {
        Named::Set => Some(Ses::new(access).list().await.ok()?.to_vec()),
        Named::PlannedSet => Some(access.policy().await.ok()?.policy.warmup.sets.into_keys().collect()),
        Named::Isp => {
            let isps = access.policy().await.ok()?.policy.isp_map;
            Some(isps.isps().map(|isp| isps.name(isp).to_owned()).collect())
        }
        Named::Subject => {
            let directory = access.reputation(&Policy::default()).directory().await.ok()?;
            Some(directory.into_keys().filter_map(|subject| spelled(&subject, written)).collect())
        }
    }
}

/// A subject in the shortest form that names it, or in the long form if that is what is being written.
fn spelled(subject: &Subject, written: &str) -> Option<String> {
    match subject {
        // So that a slip of a finger never means all mail.
        Subject::Account => None,
        Subject::ConfigurationSet(name) | Subject::Identity(name) if !written.contains(':') => Some(name.to_string()),
        Subject::ConfigurationSet(_) | Subject::Identity(_) | Subject::Tenant(_) | Subject::Tag(..) => {
            Some(subject.to_string())
        }
    }
}
