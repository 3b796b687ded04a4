//! Measures the memory of a subject: `cargo run --release -p ses-breaker-replay --example subjects -- 100000`, on Linux, replays a stream
//! in which each of this many identities sends a mail to Gmail, and prints the memory of the process at the end. The second
//! argument is the number of mails of each, the third is `max_subjects`.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::time::Instant;

use replay::driver::{Options, replay};
use replay::input::{Progress, Sources};
use reputation::Policy;
use reputation::time::Now;

/// 2026-10-06 08:00 UTC.
const START: i64 = 1_791_273_600_000;
const HOURS: usize = 24;

fn main() -> anyhow::Result<()> {
    let argument = |index| std::env::args().nth(index).map(|text| text.parse::<usize>()).transpose();
    let (subjects, mails) = (argument(1)?.unwrap_or(10_000), argument(2)?.unwrap_or(1));
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subjects.ndjson");
    let mut file = BufWriter::new(File::create(&path)?);
    let total = subjects * mails;
    for mail in 0..total {
        let subject = mail % subjects;
        let accepted = START + (mail * HOURS * 3_600_000 / total) as i64;
        let (at, then) = (Now(accepted), Now(accepted + 1_000));
        let about = format!(
            r#""mail":{{"timestamp":"{at}","messageId":"m{mail}","source":"n@s{subject}.example","destination":["r{mail}@gmail.com"],"tags":{{"ses:configuration-set":["news"]}}}}"#
        );
        writeln!(file, r#"{{"eventType":"Send",{about},"send":{{}}}}"#)?;
        writeln!(file, r#"{{"eventType":"Delivery",{about},"delivery":{{"timestamp":"{then}"}}}}"#)?;
    }
    file.flush()?;
    let sources = Sources::expand(&[path.to_str().unwrap_or_default()])?;
    let options = Options {
        policy: Policy::default(),
        real_now: START + 48 * 3_600_000,
        since: None,
        until: None,
        stop_at: None,
        workers: 2,
        max_subjects: argument(3)?.unwrap_or(usize::MAX / 2),
    };
    let before = held("VmRSS:")?;
    let began = Instant::now();
    let done = replay(&options, &sources, &mut |_| {}, &Progress::new())?;
    let took = began.elapsed();
    let (at_end, peak) = (held("VmRSS:")?.saturating_sub(before), held("VmHWM:")?);
    let (ledger, kept) = (done.ledger_size().0, done.reputation.len());
    writeln!(
        std::io::stdout(),
        "{subjects} subjects, {total} mails: {} bytes for each subject, and {} for each mail in the ledger; {took:.1?}; {kept} \
         kept, at most {} MB held",
        at_end.saturating_sub(ledger) / subjects,
        ledger / total,
        peak / 1_000_000,
    )?;
    Ok(())
}

/// Bytes of memory that the process holds, or its peak.
fn held(what: &str) -> anyhow::Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kibibytes.unwrap_or("0").parse::<usize>()? << 10)
}
