//! What stays when a stack is deleted, its tables and their key, and how to remove them.
//!
//! The key is found through the tables, so one table goes last: after an interruption at any moment, the same command finds
//! what is left.

use std::collections::BTreeSet;
use std::time::Duration;

use aws::clients::port_error;
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::types::TableStatus;
use serde::Serialize;
use tokio::time::sleep;

use super::{Place, StackFailure, bucket};
use crate::Access;
use crate::asking::Asking;
use crate::failure::Failure;

/// KMS waits this many days before it deletes a key, and can keep it until then. As `PendingWindowInDays` of the template: for
/// 35 days DynamoDB keeps a backup of a deleted table, which is worth nothing without its key.
pub const KEY_DAYS: i32 = 30;

/// A table that outlived its stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableLeft {
    /// Its name.
    pub name: String,
    /// ARN of the key that it is encrypted with.
    pub key: Option<String>,
    /// Number of items, as of some hours ago.
    pub items: i64,
    /// Whether it is protected from deletion.
    pub protected: bool,
    /// Whether it is being deleted.
    #[serde(skip)]
    pub going: bool,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    /// The tables.
    pub tables: Vec<String>,
    /// The keys that KMS deletes after [`KEY_DAYS`].
    pub keys: Vec<String>,
    /// The bucket whose objects of this stack were deleted.
    pub code: Option<String>,
    /// The bucket, if it was empty after the code of this stack was deleted.
    pub bucket: Option<String>,
}

/// The tables of this stack's name.
pub(crate) async fn tables_left(access: &Access, place: &Place) -> Result<Vec<TableLeft>, Failure> {
    let mut left = Vec::new();
    // This one goes last.
    for name in ["ledger", "reputation"].map(|table| format!("{}-{table}", place.stack)) {
        left.extend(table(access, &name).await?);
    }
    Ok(left)
}

async fn table(access: &Access, name: &str) -> Result<Option<TableLeft>, Failure> {
    let asked = access.clients.dynamodb().describe_table().table_name(name).send().await;
    let table = match asked {
        Ok(answer) => answer.table,
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => None,
        Err(error) => return Err(access.refused(port_error("looking for tables", &error))),
    };
    Ok(table.map(|table| TableLeft {
        name: name.to_owned(),
        key: table.sse_description().and_then(|sse| sse.kms_master_key_arn()).map(str::to_owned),
        items: table.item_count().unwrap_or(0),
        protected: table.deletion_protection_enabled().unwrap_or(false),
        going: table.table_status() == Some(&TableStatus::Deleting),
    }))
}

/// Deletes the tables, schedules the deletion of their key, and deletes the code.
pub(crate) async fn purge(
    access: &Access,
    place: &Place,
    named_bucket: Option<&str>,
    pace: Duration,
    asking: &Asking<'_>,
) -> Result<Purged, Failure> {
    let left = tables_left(access, place).await?;
    refuse_protected(&left, place)?;
    let keys: BTreeSet<String> = left.iter().filter_map(|table| table.key.clone()).collect();
    let mut purged = Purged::default();
    for (index, table) in left.iter().enumerate() {
        if index + 1 == left.len() {
            for key in &keys {
                (asking.progress)(0, 0, "scheduling the deletion of the key");
                if schedule(access, place, key).await? {
                    purged.keys.push(key.clone());
                }
            }
        }
        (asking.progress)(0, 0, &format!("deleting {}", table.name));
        delete_table(access, table, pace).await?;
        purged.tables.push(table.name.clone());
    }
    if let Some(bucket) = bucket::of_stack(access, place, named_bucket).await? {
        (asking.progress)(0, 0, "deleting the code");
        let gone = bucket.clear(&format!("{}/", place.stack)).await?;
        purged.code = Some(bucket.name.clone());
        purged.bucket = gone.then_some(bucket.name);
    }
    Ok(purged)
}

/// Deletion protection was chosen by a person, so a person removes it.
pub(crate) fn refuse_protected(left: &[TableLeft], place: &Place) -> Result<(), StackFailure> {
    match left.iter().find(|table| table.protected) {
        None => Ok(()),
        Some(table) => Err(StackFailure::Protected {
            what: format!("table {} is", table.name),
            command: format!(
                "aws dynamodb update-table --table-name {} --no-deletion-protection-enabled --region {}",
                table.name, place.region
            ),
        }),
    }
}

async fn delete_table(access: &Access, known: &TableLeft, pace: Duration) -> Result<(), Failure> {
    let dynamodb = access.clients.dynamodb();
    if !known.going
        && let Err(error) = dynamodb.delete_table().table_name(&known.name).send().await
        && !error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception())
    {
        return Err(access.refused(port_error("deleting a table", &error)));
    }
    while table(access, &known.name).await?.is_some() {
        sleep(pace).await;
    }
    Ok(())
}

/// Returns whether the key is to be deleted: only one that a stack of this name has made is.
async fn schedule(access: &Access, place: &Place, key: &str) -> Result<bool, Failure> {
    let kms = aws_sdk_kms::Client::new(access.clients.config());
    let asked = kms.describe_key().key_id(key).send().await;
    let answer = asked.map_err(|error| access.refused(port_error("looking at the key", &error)))?;
    let description = answer.key_metadata().and_then(|key| key.description()).unwrap_or_default();
    if description != format!("ses-breaker stack {}: its topics and tables", place.stack) {
        return Ok(false);
    }
    let asked = kms.schedule_key_deletion().key_id(key).pending_window_in_days(KEY_DAYS).send().await;
    match asked {
        Ok(_) => Ok(true),
        // An earlier run has scheduled it.
        Err(error) if error.code() == Some("KMSInvalidStateException") => Ok(true),
        Err(error) => Err(access.refused(port_error("scheduling the deletion of the key", &error))),
    }
}
