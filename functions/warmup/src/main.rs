//! Sets the quota of each configuration set at each ISP when a day begins there; each hour, so that a missed tick changes little.

use aws::invocation::{cannot_start, now, start, time_left};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use tokio::sync::Mutex;
use warmup::{Warmup, WarmupWake};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let clients = start().await;
    let warmup = &Mutex::new(Warmup::from_env(&clients).map_err(|error| cannot_start(&error))?);
    run(service_fn(move |event: LambdaEvent<WarmupWake>| async move {
        let in_time = || !time_left(event.context.deadline()).is_zero();
        warmup.lock().await.handle(&event.payload, now(), in_time).await.map(|_| ()).map_err(Error::from)
    }))
    .await
}
