//! How many mails one client lets go per second on one core, including calls to a gate that answers at once. Compared
//! with a bare `tokio::sync::Semaphore`: the cost of limiting mails by a number alone, without ISPs, leases or times.
//!
//! `cargo bench -p ses-breaker-permits`. One iteration is 10,000 mails; the figures are mails per second.

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use permits::{Answer, Class, Gate, Permit, Permits, Reply};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

/// Grants everything at once.
#[derive(Debug)]
struct Generous;

impl Gate for Generous {
    fn post<'a>(&'a self, path: &'static str, body: Bytes) -> Reply<'a> {
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let answer = match body["recipients"].as_object() {
            Some(recipients) if path == "/v1/permits" => {
                let permit = |(domain, asked): (&String, &Value)| {
                    json!({ "isp": domain, "domains": [domain], "asked": asked, "granted": asked, "overflow": 0,
                        "deferred": 0, "route": "news", "lease": format!("{domain}/{}", body["request"]),
                        "expiresInSeconds": 60 })
                };
                json!({ "permits": recipients.iter().map(permit).collect::<Vec<_>>() })
            }
            Some(_) | None => json!({ "returned": body["unused"] }),
        };
        let body = Bytes::from(answer.to_string());
        Box::pin(async move { Ok(Answer { status: 200, date: None, body }) })
    }
}

const MAILS: usize = 10_000;

fn main() {
    divan::main();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime of one thread")
}

fn client(runtime: &Runtime) -> Permits {
    runtime.block_on(async { Permits::builder("news", "example.com").over(Generous) }).expect("a client")
}

#[divan::bench]
fn permits_for_one_isp(bencher: Bencher) {
    let runtime = runtime();
    let permits = client(&runtime);
    bencher.counter(ItemsCount::new(MAILS)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..MAILS {
                let permit = permits.take(black_box("gmail.com"), 1, Class::Bulk).await;
                assert!(matches!(permit, Ok(Permit::Send(_))));
            }
        });
    });
}

#[divan::bench]
fn permits_for_sixteen_isps(bencher: Bencher) {
    let runtime = runtime();
    let permits = client(&runtime);
    let domains: Vec<String> = (0..16).map(|number| format!("isp-{number}.example")).collect();
    bencher.counter(ItemsCount::new(MAILS)).bench_local(|| {
        runtime.block_on(async {
            for domain in domains.iter().cycle().take(MAILS) {
                let permit = permits.take(black_box(domain), 1, Class::Bulk).await;
                assert!(matches!(permit, Ok(Permit::Send(_))));
            }
        });
    });
}

/// Each permit is put back: SES accepts nothing.
#[divan::bench]
fn permits_taken_and_put_back(bencher: Bencher) {
    let runtime = runtime();
    let permits = client(&runtime);
    bencher.counter(ItemsCount::new(MAILS)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..MAILS {
                match permits.take(black_box("gmail.com"), 1, Class::Bulk).await {
                    Ok(Permit::Send(grant)) => grant.unused(),
                    other => panic!("not sent: {other:?}"),
                }
            }
        });
    });
}

#[divan::bench]
fn peer_semaphore_try_acquire(bencher: Bencher) {
    let semaphore = Semaphore::new(0);
    bencher.counter(ItemsCount::new(MAILS)).bench_local(|| {
        semaphore.add_permits(MAILS);
        for _ in 0..MAILS {
            let permit = black_box(&semaphore).try_acquire();
            permit.expect("as many as were added").forget();
        }
    });
}
