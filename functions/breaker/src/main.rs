//! Folds new units of the ledger into rates, judges whom they may have harmed, and steps breakers; each minute also what time moves.

use aws::invocation::{cannot_start, now, start, time_left};
use breaker::{Breaker, BreakerWake};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use tokio::sync::Mutex;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let clients = start().await;
    let breaker = &Mutex::new(Breaker::from_env(&clients).map_err(|error| cannot_start(&error))?);
    run(service_fn(move |event: LambdaEvent<BreakerWake>| async move {
        let in_time = || !time_left(event.context.deadline()).is_zero();
        breaker.lock().await.answer(&event.payload, now(), in_time).await.map_err(Error::from)
    }))
    .await
}
