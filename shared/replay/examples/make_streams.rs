//! Writes the streams of all built-in scenarios, with their truth, to `events`: `cargo run -p ses-breaker-replay --example make_streams
//! --release`. A test compares the committed files with the generator's output.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use replay::generate::{Scenario, generate};

/// The seed of the committed streams.
const SEED: u64 = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    for name in Scenario::builtin_names() {
        let scenario = Scenario::builtin(name).ok_or("a built-in scenario cannot be read")?;
        let file = BufWriter::new(File::create(folder.join(format!("streams/{name}.ndjson.gz")))?);
        // Without file name and time, so that the same stream gives the same file.
        let mut gz = GzBuilder::new().mtime(0).operating_system(255).write(file, Compression::best());
        let truth = generate(&scenario, SEED, &mut gz)?;
        gz.finish()?.into_inner()?.sync_all()?;
        fs::write(folder.join(format!("truth/{name}.json")), serde_json::to_string_pretty(&truth)? + "\n")?;
    }
    Ok(())
}
