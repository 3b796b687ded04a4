//! Takes messages of SES from the queue and records their units in the ledger; says of each message whether it is done with.

use aws::invocation::{cannot_start, now, start};
use aws_lambda_events::sqs::SqsEvent;
use ingest::Ingest;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use tokio::sync::Mutex;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let clients = start().await;
    let ingest = &Mutex::new(Ingest::from_env(&clients).map_err(|error| cannot_start(&error))?);
    run(service_fn(move |event: LambdaEvent<SqsEvent>| async move {
        ingest.lock().await.handle(&event.payload, now()).await.map_err(Error::from)
    }))
    .await
}
