//! Makes desired states true at SES and keeps them true, one call a second; sends alerts to people and events to programs.

use aws::invocation::{cannot_start, now, start, time_left};
use enforcer::{Enforcer, EnforcerWake};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use tokio::sync::Mutex;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let clients = start().await;
    let enforcer = &Mutex::new(Enforcer::from_env(&clients).map_err(|error| cannot_start(&error))?);
    run(service_fn(move |event: LambdaEvent<EnforcerWake>| async move {
        enforcer
            .lock()
            .await
            .handle(&event.payload, time_left(event.context.deadline()), now)
            .await
            .map(|_| ())
            .map_err(Error::from)
    }))
    .await
}
