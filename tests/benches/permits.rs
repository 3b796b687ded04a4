//! Measures the cost of permits: how many a second one gate grants over tables in this process, how long one takes, and the
//! write units of DynamoDB for each permit and each 1,000 mails. Run with `cargo bench -p ses-breaker-e2e --bench permits`. The tables
//! (dynoxide) count write units as DynamoDB does: one for each KB of an item, including its leases.

#![expect(clippy::print_stdout, reason = "a bench prints")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::time::Instant;

use e2e::cloud::Cloud;
use e2e::stack::{Stack, WarmGate, request};
use reputation::time::Now;
use serde_json::json;

/// 2026-11-21, 18:00: all of the day's quota is available by then.
const EVENING: Now = Now(1_795_219_200_000 + 18 * 3_600_000);
const MAX_PERMITS: i64 = 5_000;
/// This many permits are not measured: the first one opens the day, and leases must accumulate.
const FIRST: i64 = 130;
/// The rest of the day, minus a little.
const LEFT_MILLIS: i64 = 5 * 3_600_000;

/// Enough for all requests here.
const POLICY: &str =
    "[warmup.plan]\nburst_share = 1.0\n[warmup.sets]\nnews = { start = 1000000000, target = 1000000000 }\n";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("Permits one after the other, of one configuration set; each ISP is one quota.\n");
    println!(
        "{:>15} {:>5} {:>12} {:>11} {:>8} {:>8} {:>8} {:>9} {:>12} {:>16}",
        "mails a permit",
        "ISPs",
        "permits a s",
        "mails a s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "leases",
        "WU a permit",
        "WU a 1,000 mails"
    );
    let domains = ["gmail.com", "outlook.com", "yahoo.com", "icloud.com", "web.de"];
    // Leases are recorded for 90 s, so the number of leases in the item is that of the permits of 90 s.
    for (mails, isps, millis) in [
        (1, 1, 60_000),
        (1, 1, 5_000),
        (1, 1, 1_000),
        (1, 1, 100),
        (100, 1, 60_000),
        (100, 1, 5_000),
        (100, 1, 1_000),
        (100, 5, 5_000),
    ] {
        let cloud = Cloud::without_streams();
        Stack::push(&cloud, POLICY).await;
        let mut gate = WarmGate::new(&cloud.clients(), 1);
        let recipients: serde_json::Map<_, _> =
            domains[..isps].iter().map(|domain| ((*domain).to_owned(), json!(mails))).collect();
        let body = json!({ "configurationSet": "news", "identity": "example.com", "recipients": recipients });
        let request = request("POST", "/v1/permits", Some(&body.to_string()));
        let mut now = EVENING;
        for _ in 0..FIRST {
            assert_eq!(gate.ask(&request, now).await.status, 200);
            now = Now(now.0 + millis);
        }
        let before = cloud.state().write_units;
        let calls = MAX_PERMITS.min(LEFT_MILLIS / millis - FIRST);
        let mut took = Vec::new();
        let mut granted = 0;
        let begun = Instant::now();
        for _ in 0..calls {
            let asked = Instant::now();
            let reply = gate.ask(&request, now).await;
            took.push(asked.elapsed());
            now = Now(now.0 + millis);
            let permits = reply.body["permits"].as_array().unwrap();
            granted += permits.iter().map(|permit| permit["granted"].as_u64().unwrap()).sum::<u64>();
        }
        let seconds = begun.elapsed().as_secs_f64();
        let written = cloud.state().write_units - before;
        assert_eq!(granted, calls as u64 * mails * isps as u64);
        took.sort_unstable();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1_000.0;
        let permits = calls as f64 * isps as f64;
        let held = (90_000 / millis).clamp(1, 127);
        println!(
            "{mails:>15} {isps:>5} {:>12.0} {:>11.0} {:>8.3} {:>8.3} {:>8.3} {held:>9} {:>12.2} {:>16.2}",
            permits / seconds,
            granted as f64 / seconds,
            at(0.5),
            at(0.99),
            at(1.0),
            written / permits,
            written / granted as f64 * 1_000.0,
        );
    }
}
