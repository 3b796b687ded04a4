//! Answers whether mail may be sent now, by which route, or when: permits from the quota of each ISP.

use aws::invocation::{cannot_start, now, random, start};
use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;
use gate::Gate;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use tokio::sync::Mutex;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let clients = start().await;
    let gate = &Mutex::new(Gate::from_env(&clients).map_err(|error| cannot_start(&error))?);
    run(service_fn(move |event: LambdaEvent<LambdaFunctionUrlRequest>| async move {
        Ok::<_, Error>(gate.lock().await.handle(&event.payload, now(), random).await)
    }))
    .await
}
