use std::time::SystemTime;
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let sources = replay::input::Sources::expand(&args)?;
    let options = replay::driver::Options { policy: reputation::Policy::default(), real_now: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64, since: None, until: None, stop_at: None, workers: 2 };
    let progress = Default::default();
    let replayed = replay::driver::replay(&options, &sources, &mut |r| eprintln!("{}:{}: {}", r.source, r.line, r.reason), &progress)?;
    let report = replay::report::Report::of(&replayed, None);
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
