//! How fast is a replay? `cargo bench -p replay`, beside a bare DuckDB aggregation of the same files in the same run, if
//! `python3 -c 'import duckdb'` works (`BENCH_PYTHON` names another interpreter).
//!
//! DuckDB gets the easier job: it reads four fields with their types told, groups and counts. It drops no duplicates,
//! keeps no cohorts and judges nothing.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use replay::driver::{Options, Replay, replay};
use replay::generate::{Scenario, generate};
use replay::input::{Progress, Sources};
use reputation::Policy;

const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("replay-bench");
    fs::create_dir_all(&folder)?;
    let out = &mut std::io::stdout().lock();
    writeln!(out, "best of {ROUNDS}; files in the page cache; {} cores", std::thread::available_parallelism()?)?;
    writeln!(
        out,
        "{:<22} {:>7} {:>9} {:>9} {:>8} {:>10} {:>8} {:>9} {:>7}",
        "stream", "MB", "events", "replay s", "MB/s", "events/s", "B/unit", "DuckDB s", "ratio"
    )?;
    let healthy = || Scenario::builtin("healthy-day").ok_or("no scenario healthy-day");
    let streams = [
        ("a day, 250 k events", healthy()?.scaled(28.0)),
        ("30 days, 250 k events", healthy()?.with_minutes(43_200).scaled(0.93)),
        ("messy envelopes", Scenario::builtin("messy").ok_or("no scenario messy")?.scaled(50.0)),
    ];
    for (name, scenario) in streams {
        let file = folder.join(format!("{}.ndjson", name.replace([' ', ','], "-")));
        generate(&scenario, 1, &mut BufWriter::new(File::create(&file)?))?;
        let megabytes = fs::metadata(&file)?.len() as f64 / 1e6;
        let mut best = f64::INFINITY;
        let mut last = None;
        for _ in 0..ROUNDS {
            let (seconds, replayed) = time(&file)?;
            best = best.min(seconds);
            last = Some(replayed);
        }
        let Some(replayed) = last else { continue };
        let events = replayed.tallies.events;
        let (bytes, units) = replayed.ledger_size();
        let per_unit = bytes as f64 / units as f64;
        write!(
            out,
            "{name:<22} {megabytes:>7.0} {events:>9} {best:>9.3} {:>8.0} {:>10.0} {per_unit:>8.1}",
            megabytes / best,
            events as f64 / best,
        )?;
        match duckdb(&file) {
            Ok(seconds) => writeln!(out, " {seconds:>9.3} {:>7.1}", seconds / best)?,
            Err(error) => writeln!(out, "  no DuckDB: {error}")?,
        }
        fs::remove_file(&file)?;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find(|line| line.starts_with("VmHWM")) {
        writeln!(out, "most memory in use at any time: {}", peak.trim_start_matches("VmHWM:").trim())?;
    }
    Ok(())
}

fn time(file: &Path) -> Result<(f64, Replay), Box<dyn Error>> {
    let sources = Sources::expand(&[file.to_string_lossy()])?;
    let options = Options {
        policy: Policy::default(),
        real_now: i64::MAX / 2,
        since: None,
        until: None,
        stop_at: None,
        workers: 2,
    };
    let start = Instant::now();
    let replayed = replay(&options, &sources, &mut |_| {}, &Progress::default())?;
    Ok((start.elapsed().as_secs_f64(), replayed))
}

/// Seconds of the best of some bare aggregations by DuckDB.
fn duckdb(file: &PathBuf) -> Result<f64, String> {
    let python = std::env::var("BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = r#"
import sys, time, duckdb
file, rounds = sys.argv[1], int(sys.argv[2])
query = """
    SELECT mail.tags."ses:configuration-set"[1], split_part(mail.destination[1], '@', 2), eventType, mail.timestamp[:16], count(*)
    FROM read_json(?, format = 'newline_delimited', ignore_errors = true, maximum_object_size = 10000000,
        columns = {eventType: 'VARCHAR', mail: 'STRUCT(timestamp VARCHAR, messageId VARCHAR, destination VARCHAR[], tags STRUCT("ses:configuration-set" VARCHAR[]))'})
    GROUP BY ALL
"""
best = 1e9
for _ in range(rounds):
    start = time.perf_counter()
    duckdb.execute(query, [file]).fetchall()
    best = min(best, time.perf_counter() - start)
print(best)
"#;
    let output = Command::new(python)
        .args(["-c", script])
        .arg(file)
        .arg(ROUNDS.to_string())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    said.trim().parse().map_err(|_| failed.lines().last().unwrap_or("it said nothing").to_owned())
}
