//! Measures the cost of the stack: DynamoDB write units for each recorded unit, all included, at different batch sizes; and
//! the duration of a decision. Run with `cargo bench -p ses-breaker-e2e --bench cost`. The tables are in this process (dynoxide), which
//! counts write units as DynamoDB does: one for each KB of an item, two in a transaction.

#![expect(clippy::print_stdout, reason = "a bench prints")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::time::Instant;

use e2e::cloud::{Cloud, LEDGER};
use e2e::stack::{Stack, stamped};
use replay::generate::{Scenario, generate};
use reputation::time::Now;

/// 2026-11-21: after all streams.
const REAL_NOW: i64 = 1_795_219_200_000;

/// Two senders with this many mails a minute together, 3 % of which bounce; two events a mail.
fn scenario(mails: f64) -> Scenario {
    let minutes = (2_500.0 / mails).ceil().clamp(1.0, 60.0);
    let text = format!(
        r#"name = "cost"
        about = "steady mail"
        start = "2026-10-05T08:00:00Z"
        minutes = {minutes}
        duplicates = 0.02
        rates = {{ hard = 0.03, complaint = 0.0005 }}
        configuration_sets = [
            {{ name = "newsletter", identity = "news.example.com", per_minute = {} }},
            {{ name = "receipts", identity = "shop.example.com", per_minute = {} }},
        ]"#,
        mails * 0.8,
        mails * 0.2
    );
    Scenario::from_toml(&text).unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("Write units for each new unit, by how much mail there is and how long a batch is waited for.\n");
    println!(
        "{:>12} {:>10} {:>8} {:>13} {:>8} {:>8} {:>8} {:>12}",
        "mails a min", "window, s", "units", "units a batch", "ledger", "rates", "all in", "ms a batch"
    );
    for mails in [60.0, 600.0, 6_000.0, 60_000.0] {
        let mut stream = Vec::new();
        generate(&scenario(mails), 1, &mut stream).unwrap();
        let text = String::from_utf8(stream).unwrap();
        let lines: Vec<(i64, &str)> = text.lines().map(|line| (stamped(line, REAL_NOW).unwrap_or(0), line)).collect();
        // The busiest part: late events are few.
        let lines = &lines[..lines.len().min(6_000)];
        for window in [1, 5, 20] {
            let cloud = Cloud::new();
            let mut stack = Stack::new(&cloud, false);
            let (mut now, mut folded, mut ledger, mut rates, mut batches) = (Now(0), 0, 0.0, 0.0, 0);
            let begun = Instant::now();
            let mut rest = lines;
            while let Some((first, _)) = rest.first() {
                let ends = rest.iter().position(|(at, _)| *at >= first + window * 1_000).unwrap_or(rest.len());
                let (batch, later) = rest.split_at(ends.clamp(1, 1_000));
                rest = later;
                now = batch.iter().map(|(at, _)| Now(*at)).max().map_or(now, |at| now.max(at));
                let bodies: Vec<&str> = batch.iter().map(|(_, line)| *line).collect();
                let before = cloud.state().write_units;
                assert_eq!(stack.ingest(&bodies, Now(REAL_NOW)).await.unwrap(), [] as [usize; 0]);
                let written = cloud.state().write_units;
                let records = cloud.stream(LEDGER);
                stack.fold(&records[folded..], now).await.unwrap();
                folded = records.len();
                ledger += written - before;
                rates += cloud.state().write_units - written;
                batches += 1;
            }
            let (units, elapsed) = (folded as f64, begun.elapsed());
            println!(
                "{mails:>12} {window:>10} {folded:>8} {:>13.1} {:>8.2} {:>8.2} {:>8.2} {:>12.2}",
                units / f64::from(batches),
                ledger / units,
                rates / units,
                (ledger + rates) / units,
                elapsed.as_secs_f64() * 1000.0 / f64::from(batches),
            );
        }
    }
}
