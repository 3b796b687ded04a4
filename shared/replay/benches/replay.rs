//! Measures the speed of a replay: `cargo bench -p ses-breaker-replay`. In the same run a bare DuckDB aggregation reads the same files,
//! if `python3 -c 'import duckdb'` works (`BENCH_PYTHON` names another interpreter).
//!
//! DuckDB gets easier jobs: to infer the fields and group lines by configuration set, first recipient's domain and kind
//! ("bare"); and, with the fields and their types given, to count recipients as `totals` does ("typed"). It drops no
//! duplicates, keeps no cohorts and judges nothing, and it cannot read the envelopes of the third stream.
//!
//! `BENCH_PREVIOUS` names the program `replay` of an earlier release: both programs are run in turns on the same files, and
//! their best times compared.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use replay::driver::{MAX_SUBJECTS, Options, Replay, replay};
use replay::generate::{Scenario, generate};
use replay::input::{Progress, Sources};
use reputation::Policy;

const ROUNDS: usize = 5;

const BARE: &str = r#"
    SELECT mail.tags."ses:configuration-set"[1], split_part(mail.destination[1], '@', 2), eventType, count(*)
    FROM read_json(?, format = 'newline_delimited', ignore_errors = true) GROUP BY ALL"#;

const TOTALS: &str = r#"
    WITH reported AS (
        SELECT mail.tags."ses:configuration-set"[1] AS configuration_set, eventType, bounce.bounceType AS bounce_type,
            bounce.bounceSubType AS bounce_sub_type,
            unnest(CASE eventType
                WHEN 'Send' THEN mail.destination
                WHEN 'Delivery' THEN delivery.recipients
                WHEN 'Bounce' THEN list_transform(bounce.bouncedRecipients, lambda r: r.emailAddress)
                WHEN 'Complaint' THEN list_transform(complaint.complainedRecipients, lambda r: r.emailAddress)
                WHEN 'DeliveryDelay' THEN list_transform(deliveryDelay.delayedRecipients, lambda r: r.emailAddress)
            END) AS recipient
        FROM read_json(?, format = 'newline_delimited', ignore_errors = true, maximum_object_size = 10000000, columns = {
            eventType: 'VARCHAR',
            mail: 'STRUCT(messageId VARCHAR, destination VARCHAR[], tags STRUCT("ses:configuration-set" VARCHAR[]))',
            delivery: 'STRUCT(recipients VARCHAR[])',
            bounce: 'STRUCT(bounceType VARCHAR, bounceSubType VARCHAR, bouncedRecipients STRUCT(emailAddress VARCHAR)[])',
            complaint: 'STRUCT(feedbackId VARCHAR, complainedRecipients STRUCT(emailAddress VARCHAR)[])',
            deliveryDelay: 'STRUCT(delayType VARCHAR, delayedRecipients STRUCT(emailAddress VARCHAR)[])'}))
    SELECT configuration_set, split_part(recipient, '@', 2), eventType, bounce_type, bounce_sub_type, count(*)
    FROM reported GROUP BY ALL"#;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("replay-bench");
    fs::create_dir_all(&folder)?;
    let out = &mut std::io::stdout().lock();
    writeln!(out, "best of {ROUNDS}; files in the page cache; {} cores", std::thread::available_parallelism()?)?;
    writeln!(
        out,
        "{:<22} {:>7} {:>9} {:>9} {:>8} {:>10} {:>8} {:>15} {:>15}",
        "stream", "MB", "events", "replay s", "MB/s", "events/s", "B/unit", "DuckDB bare s", "DuckDB typed s"
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
        match (duckdb(&file, BARE), duckdb(&file, TOTALS)) {
            (Ok(bare), Ok(typed)) => {
                writeln!(out, " {bare:>8.3} {:>5.1}× {typed:>8.3} {:>5.1}×", bare / best, typed / best)?
            }
            (Err(error), _) | (_, Err(error)) => writeln!(out, "  no DuckDB: {error}")?,
        }
        if let Some(previous) = std::env::var_os("BENCH_PREVIOUS") {
            let (mut before, mut now) = (f64::INFINITY, f64::INFINITY);
            for _ in 0..2 * ROUNDS {
                before = before.min(program(Path::new(&previous), &file)?);
                now = now.min(program(Path::new(env!("CARGO_BIN_EXE_replay")), &file)?);
            }
            writeln!(out, "  the program: {now:.3} s, the previous one {before:.3} s: {:.3} of it", now / before)?;
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
        max_subjects: MAX_SUBJECTS,
    };
    let start = Instant::now();
    let replayed = replay(&options, &sources, &mut |_| {}, &Progress::default())?;
    Ok((start.elapsed().as_secs_f64(), replayed))
}

/// Seconds that a program takes to replay a file, including its start.
fn program(program: &Path, file: &Path) -> Result<f64, Box<dyn Error>> {
    let mut command = Command::new(program);
    command.arg(file).args(["--quiet", "--format", "json"]).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    // It exits with 1 or 2 only if something is wrong: the streams are complete.
    let status = command.status()?;
    if !status.success() {
        return Err(format!("{} ends with {status}", program.display()).into());
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds of the best of some bare aggregations by DuckDB.
fn duckdb(file: &Path, query: &str) -> Result<f64, String> {
    let python = std::env::var("BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = r#"
import sys, time, duckdb
file, rounds, query = sys.argv[1], int(sys.argv[2]), sys.argv[3]
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
        .arg(query)
        .output()
        .map_err(|error| error.to_string())?;
    let output_text = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    let why = || failed.lines().find(|line| line.contains("Error")).unwrap_or("it printed nothing");
    output_text.trim().parse().map_err(|_| why().chars().take(60).collect())
}
