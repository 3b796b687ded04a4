//! The gate over tables in this process, at a port of this machine and without signatures, for tests of its API by programs
//! that know nothing of it: `cargo run -p ses-breaker-e2e --example gate`. Prints its URL. Ends with its standard input.

#![expect(clippy::print_stdout, reason = "the URL is its output")]

use std::io::Read as _;
use std::sync::Arc;

use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request};
use axum::http::Response;
use e2e::cloud::{Cloud, REPUTATION};
use e2e::stack::Stack;
use gate::Gate;
use tokio::sync::Mutex;

/// A set in the middle of its ramp, with overflow, and one that is warmed up.
const POLICY: &str = "[warmup.sets]\nnews = { target = 50000, overflow = \"news-shared\" }\nreceipts = { target = 200000, warm = true }\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let cloud = Cloud::without_streams();
    Stack::push(&cloud, POLICY).await;
    let gate = Arc::new(Mutex::new(Gate::new(&cloud.clients(), REPUTATION, true)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    std::thread::spawn(|| {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(i32::from(ended.is_err()));
    });
    let answer = move |request: Request| answer(Arc::clone(&gate), request);
    axum::serve(listener, Router::new().fallback(answer)).await?;
    Ok(())
}

/// As a Function URL hands a request to its function, and the answer back.
async fn answer(gate: Arc<Mutex<Gate>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut event = LambdaFunctionUrlRequest::default();
    event.raw_path = Some(head.uri.path().to_owned());
    event.request_context.http.method = Some(head.method.to_string());
    event.headers = head.headers;
    event.query_string_parameters =
        Query::try_from_uri(&head.uri).map(|Query(parameters)| parameters).unwrap_or_default();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    event.is_base64_encoded = true;
    event.body = Some(aws_smithy_types::base64::encode(bytes));
    let answer = gate.lock().await.handle(&event, aws::invocation::now(), rand::random).await;
    let mut response = Response::new(answer.body.map_or_else(Body::empty, Body::from));
    *response.status_mut() =
        u16::try_from(answer.status_code).ok().and_then(|code| code.try_into().ok()).unwrap_or_default();
    *response.headers_mut() = answer.headers;
    response
}
