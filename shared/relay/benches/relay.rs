//! What the relay costs: mails of 10 KB over HTTP to an SES that answers at once, through the relay, with a permit in stock,
//! and beside it directly and through a proxy that only copies bytes: no permit, no signature, nothing read.
//!
//! `cargo bench -p ses-breaker-relay`. `one_at_a_time` gives the latency of one mail, `many_at_once` mails per second over
//! 16 connections. Client, proxy and SES share one process and two threads.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use permits::{Answer, Gate, Reply};
use relay::{Capacity, Clients, HttpSes, Relay, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

const PATH: &str = "/v2/email/outbound-emails";
const CONNECTIONS: usize = 16;
const MAILS_EACH: usize = 25;

/// What a mail goes through.
const WAYS: [&str; 3] = ["directly", "a proxy that copies", "the relay"];

fn main() {
    divan::main();
}

#[divan::bench(args = WAYS, sample_count = 200)]
fn one_at_a_time(bencher: Bencher, way: &str) {
    let world = World::new(way);
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| world.runtime.block_on(world.send()));
}

#[divan::bench(args = WAYS, sample_count = 20)]
fn many_at_once(bencher: Bencher, way: &str) {
    let world = World::new(way);
    bencher.counter(ItemsCount::new(CONNECTIONS * MAILS_EACH)).bench_local(|| {
        world.runtime.block_on(join_all((0..CONNECTIONS).map(|_| async {
            for _ in 0..MAILS_EACH {
                world.send().await;
            }
        })));
    });
}

type Http = Client<HttpConnector, Full<Bytes>>;

struct World {
    runtime: Runtime,
    http: Http,
    url: String,
    body: Bytes,
    /// The relay runs as long as this exists.
    _stop: watch::Sender<bool>,
}

impl World {
    fn new(way: &str) -> World {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let http: Http = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let (stop, stopped) = watch::channel(false);
        let url = runtime.block_on(async {
            let ses = ses().await;
            match way {
                "directly" => ses,
                "a proxy that copies" => copying(ses, http.clone()).await,
                _ => relaying(&ses, stopped).await,
            }
        });
        let body = json!({
            "FromEmailAddress": "News <a@news.example>",
            "Destination": { "ToAddresses": ["reader@gmail.com"] },
            "Content": { "Simple": { "Subject": { "Data": "s" }, "Body": { "Html": { "Data": "x".repeat(10_000) } } } },
            "ConfigurationSetName": "news",
        });
        let world = World { runtime, http, url: format!("{url}{PATH}"), body: body.to_string().into(), _stop: stop };
        // The first takes a lease and connects.
        world.runtime.block_on(world.send());
        world
    }

    async fn send(&self) {
        let request = Request::post(&self.url).header("content-type", "application/json");
        let request = request.header("authorization", "AWS4-HMAC-SHA256 Credential=of/the/caller");
        let request = request.body(Full::new(self.body.clone())).expect("a request");
        let answer = self.http.request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.expect("a whole answer");
    }
}

/// A server with this service.
async fn server<F>(service: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static) -> String
where
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(service.clone())));
        }
    });
    url
}

async fn ses() -> String {
    server(|request: Request<Incoming>| async {
        let _ = request.into_body().collect().await;
        Ok(Response::new(Full::new(Bytes::from_static(b"{\"MessageId\":\"m\"}"))))
    })
    .await
}

async fn copying(ses: String, http: Http) -> String {
    server(move |request: Request<Incoming>| {
        let (http, url) = (http.clone(), format!("{ses}{}", request.uri().path()));
        async move {
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            let request = Request::post(url).body(Full::new(body)).expect("a request");
            let answer = http.request(request).await.expect("an answer");
            let body = answer.into_body().collect().await.expect("a whole answer").to_bytes();
            Ok(Response::new(Full::new(body)))
        }
    })
    .await
}

async fn relaying(ses: &str, stopped: watch::Receiver<bool>) -> String {
    let aws = aws_config::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(Credentials::new(
            "AKID", "secret", None, None, "bench",
        )))
        .build();
    let ses = HttpSes::new(ses, "eu-west-1", &aws, Duration::from_secs(10)).expect("an endpoint");
    let relay = Relay::over("news", Arc::new(Clients::new(Generous, 10)), Arc::new(ses));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(serve(listener, relay, Capacity::default(), stopped, Duration::ZERO));
    url
}

/// Grants everything at once.
#[derive(Debug)]
struct Generous;

impl Gate for Generous {
    fn post<'a>(&'a self, _path: &'static str, body: Bytes) -> Reply<'a> {
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let permits: Vec<Value> = body["recipients"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(domain, asked)| {
                json!({ "isp": domain, "domains": [domain], "asked": asked, "granted": asked, "overflow": 0, "deferred": 0,
                    "route": "news", "lease": format!("{domain}/{}", body["request"]), "expiresInSeconds": 60 })
            })
            .collect();
        let body = Bytes::from(json!({ "permits": permits, "returned": body["unused"] }).to_string());
        Box::pin(async move { Ok(Answer { status: 200, date: None, body }) })
    }
}
