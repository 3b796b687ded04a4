//! Finds faults of a deployed stack, and of the SES account that it watches.
//!
//! A breaker without events stops nothing, and it looks healthy. So each link is examined, from SES to the people who get the
//! alerts. A finding has three parts: what was found, why it matters, and the command that fixes it.
//!
//! **Invariant:** nothing is changed, and no message of a queue is received.
//! **Invariant:** what may not be read is reported as such, with the missing permission, and hides no other finding.
//! **Invariant:** no mail address is shown: of subscriptions only queues are, and of identities only domains.
//!
//! Where to start: [`facts`] lists what is read, [`examine()`] draws the conclusions.

pub mod examine;
pub mod facts;
mod gather;
mod permission;

use reputation::time::Now;
use serde::Serialize;

use crate::asking::Progress;
use crate::failure::Failure;
use crate::{Access, Exit};
use examine::{Examined, Finding, Severity, examine};
use facts::{NotExamined, Place};

/// The result of an examination.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// Name of the stack.
    pub stack: String,
    /// Its Region.
    pub region: String,
    /// When it was examined (RFC 3339).
    pub at: String,
    /// The checks that ran.
    pub checks: Vec<CheckTold>,
    /// Faults, then advice.
    pub findings: Vec<Finding>,
    /// What could not be examined.
    pub not_examined: Vec<Unseen>,
}

/// A check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckTold {
    /// Its name.
    pub name: &'static str,
    /// What it verifies.
    pub about: &'static str,
    /// Whether everything that it needs could be read.
    pub examined: bool,
    /// Number of faults and pieces of advice.
    pub findings: usize,
}

/// What could not be read, for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct Unseen {
    /// The permission that is needed.
    pub needs: &'static str,
    /// Whether that permission is missing.
    pub denied: bool,
    /// The resources: ARNs or names.
    pub of: Vec<String>,
    /// The error of AWS.
    pub reason: String,
    /// The checks that are incomplete without it.
    pub checks: Vec<&'static str>,
}

/// Examines a stack and its account.
///
/// # Errors
///
/// The stack does not exist, or AWS refuses even to describe its table.
pub async fn doctor(access: &Access, now: Now, progress: Progress<'_>) -> Result<Diagnosis, Failure> {
    let facts = gather::gather(access, now, progress).await?;
    let examined = examine(&facts, now);
    Ok(Diagnosis::of(&facts.place, examined, now))
}

impl Diagnosis {
    fn of(place: &Place, examined: Vec<Examined>, now: Now) -> Diagnosis {
        let check = |examined: &Examined| CheckTold {
            name: examined.check.name,
            about: examined.check.about,
            examined: examined.missing.is_empty(),
            findings: examined.findings.len(),
        };
        let checks = examined.iter().map(check).collect();
        let mut not_examined: Vec<Unseen> = Vec::new();
        for examined in &examined {
            for missing in &examined.missing {
                unseen(&mut not_examined, missing, examined.check.name);
            }
        }
        let mut findings: Vec<Finding> = examined.into_iter().flat_map(|examined| examined.findings).collect();
        findings.sort_by_key(|finding| finding.severity);
        let (stack, region) = (place.stack.clone(), place.region.clone());
        Diagnosis { stack, region, at: now.to_string(), checks, findings, not_examined }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        if self.count(Severity::Fault) == 0 { Exit::Done } else { Exit::No }
    }

    /// Findings of one severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Adds to what could not be examined: one missing permission for a hundred configuration sets is one entry.
fn unseen(all: &mut Vec<Unseen>, missing: &NotExamined, check: &'static str) {
    let NotExamined { needs, of, denied, reason } = missing.clone();
    // Where a permission is missing, each answer names another resource.
    let same =
        |known: &&mut Unseen| known.needs == needs && known.denied == denied && (denied || known.reason == reason);
    match all.iter_mut().find(same) {
        None => all.push(Unseen { needs, denied, of: vec![of], reason, checks: vec![check] }),
        Some(known) => {
            if !known.of.contains(&of) {
                known.of.push(of);
            }
            if !known.checks.contains(&check) {
                known.checks.push(check);
            }
        }
    }
}
