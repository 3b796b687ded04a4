//! The secret that units are keyed with, so that an address cannot be found by trying addresses.
//!
//! Made once, by the first ingest that finds none, and never changed: another secret would count every unit again. It lies
//! in the reputation table, where the role of the ingest function alone is let near it by its partition key.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use pipeline::ports::{Disposition, PortError};

use crate::clients::port_error;
use crate::layout::{binary, keys};

const PK: &str = "secret";
const SK: &str = "unit-keys";

/// The secret of this table, made now if there is none.
///
/// # Errors
///
/// The table does not answer, there is no randomness, or the item holds something else.
pub async fn secret(client: &Client, table: &str) -> Result<[u8; 16], PortError> {
    if let Some(known) = read(client, table).await? {
        return Ok(known);
    }
    let operation = "making the secret of unit keys";
    let mut made = [0; 16];
    getrandom::fill(&mut made).map_err(|error| crate::ledger::bug(operation, &error))?;
    let mut item = keys(PK, SK);
    item.insert("key".to_owned(), binary(made));
    let put = client.put_item().table_name(table).set_item(Some(item));
    match put.condition_expression("attribute_not_exists(pk)").send().await {
        Ok(_) => Ok(made),
        // Somebody was faster: theirs counts.
        Err(error) if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) => {
            let reason = "it was there and is not there".to_owned();
            let gone = PortError { operation, reason, disposition: Disposition::Retry };
            read(client, table).await?.ok_or(gone)
        }
        Err(error) => Err(port_error(operation, &error)),
    }
}

async fn read(client: &Client, table: &str) -> Result<Option<[u8; 16]>, PortError> {
    let operation = "reading the secret of unit keys";
    let get = client.get_item().table_name(table).set_key(Some(keys(PK, SK))).consistent_read(true);
    let answer = get.send().await.map_err(|error| port_error(operation, &error))?;
    let Some(item) = answer.item() else { return Ok(None) };
    let key = item.get("key").and_then(|value: &AttributeValue| value.as_b().ok());
    let key = key.and_then(|blob| <[u8; 16]>::try_from(blob.as_ref()).ok());
    let reason = "the item secret / unit-keys does not hold 16 bytes in `key`".to_owned();
    key.map(Some).ok_or(PortError { operation, reason, disposition: Disposition::Halt })
}
