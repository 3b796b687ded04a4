//! The stack as a whole: created, changed and deleted through CloudFormation, without any tool but this program.
//!
//! [`deploy()`](deploy::deploy) uploads the functions' code and the template to a private bucket, shows the changes, asks once,
//! and follows CloudFormation until it has finished. [`down()`](down::down) disconnects everything and deletes the stack.
//!
//! **Invariant:** each step looks first at what exists, so that the same command continues after an interruption at any
//! moment.
//! **Invariant:** only stacks whose description is that of our template are touched, only buckets of the caller's own account.

pub mod bucket;
pub mod cloudformation;
pub mod deploy;
pub mod down;
pub mod package;
pub mod permissions;
pub mod purge;
pub mod template;

use std::time::Duration;

use aws::clients::port_error;
use pipeline::{Disposition, PortError};

use crate::Access;
use crate::failure::Failure;

pub use crate::place::Place;
pub use crate::stack_failure::StackFailure;

/// Interval between two looks at what CloudFormation does.
pub const PACE: Duration = Duration::from_secs(2);

/// The place, and who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where.
    pub place: Place,
    /// ARN of the caller.
    pub arn: String,
}

/// Asks STS, which needs no permission.
///
/// # Errors
///
/// There are no valid credentials, or AWS does not answer.
pub(crate) async fn caller(access: &Access) -> Result<Caller, Failure> {
    let operation = "asking who calls";
    let sts = aws_sdk_sts::Client::new(access.clients.config());
    let asked = sts.get_caller_identity().send().await;
    let answer = asked.map_err(|error| access.refused(port_error(operation, &error)))?;
    let arn = answer.arn.unwrap_or_default();
    let ["arn", partition, _, _, account, ..] = arn.split(':').collect::<Vec<_>>()[..] else {
        let reason = format!("GetCallerIdentity returned `{arn}`, which is not an ARN");
        return Err(access.refused(PortError { operation, reason, disposition: Disposition::Halt }));
    };
    let place = Place {
        partition: partition.to_owned(),
        region: access.region.clone(),
        account: account.to_owned(),
        stack: access.stack.clone(),
    };
    Ok(Caller { place, arn: arn.clone() })
}
