//! The pages as people see them: in a real browser, with charts on them, without errors, accessible (axe-core), and with
//! commands that take effect.
//!
//! They need a Chromium: `cargo test --workspace --features ses-breaker-e2e/browser --test emulator browser::`. With SES_BREAKER_PICTURES
//! the pictures of the README are made again.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Command;

use aws::invocation::now;
use e2e::emulator::{browser, eventually, program, root};
use serde_json::Value;

use super::{Observed, POLICY, SOON, STACK, stream};

/// The path of a README picture, if it is to be made again.
fn picture(name: &str) -> Option<PathBuf> {
    std::env::var_os("SES_BREAKER_PICTURES").map(|_| root().join("infra/pictures").join(name))
}

/// Returns the commands that the page shows.
fn looked_at(what: &str, at: &OsStr, picture: Option<PathBuf>) -> Vec<String> {
    let mut arguments = vec![OsStr::new(what), at];
    if let Some(picture) = &picture {
        std::fs::create_dir_all(picture.parent().unwrap()).unwrap();
        arguments.extend([OsStr::new("--picture"), picture.as_os_str()]);
    }
    match browser(&arguments) {
        Ok(output) => {
            eprint!("{output}");
            output.lines().filter_map(|line| line.strip_prefix("COMMAND ")).map(str::to_owned).collect()
        }
        Err(error) => panic!("{error:#}"),
    }
}

/// A command that a report shows does what it says, in a shell.
fn explains(command: &str) {
    let folder = program("replay").unwrap().parent().unwrap().to_owned();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let shell = Command::new("sh").args(["-c", command]).env("PATH", path).output().unwrap();
    let printed = String::from_utf8_lossy(&shell.stdout).into_owned();
    assert!(shell.status.success(), "{command}: {}", String::from_utf8_lossy(&shell.stderr));
    assert!(printed.contains("breaker:"), "{command}: {printed}");
}

#[test]
fn the_report_of_every_stream_is_drawn_for_everybody() {
    let folder = std::env::temp_dir().join(format!("ses-breaker-reports-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut streams: Vec<PathBuf> =
        std::fs::read_dir(root().join("events/streams")).unwrap().map(|entry| entry.unwrap().path()).collect();
    streams.sort();
    let mut explained = 0;
    for stream in streams {
        let name = stream.file_name().unwrap().to_string_lossy().replace(".ndjson.gz", "");
        let page = folder.join(format!("{name}.html"));
        let replay = Command::new(program("replay").unwrap())
            .arg(&stream)
            .args(["-q", "--quota", "--report"])
            .arg(&page)
            .output();
        assert!(replay.unwrap().status.success(), "{name}");
        for command in looked_at("report", page.as_os_str(), picture("report.png").filter(|_| name == "stale-list")) {
            explains(&command);
            explained += 1;
        }
    }
    assert!(explained > 0, "no page shows a command");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn the_dashboard_shows_an_incident_and_what_is_said_on_it_is_done() {
    let fixture = Observed::new().await;
    fixture.push(POLICY, 0).await;
    let sample = stream::stream(now());
    fixture.publish(&sample.raw).await;
    fixture.counts(&sample.truth).await;
    eventually("news is stopped", SOON, async || match fixture.account.sending_enabled("news").await {
        true => Err("it may send"),
        false => Ok(()),
    })
    .await;

    let mut served =
        fixture.emulator.begin("ses-breaker", &["dashboard", "--stack", STACK, "--format", "json"]).unwrap();
    let mut line = String::new();
    BufReader::new(served.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address: Value = serde_json::from_str(&line).unwrap();
    let url = address["url"].as_str().unwrap().to_owned();
    // The script waits for the page, and this process has nothing else to do.
    let looked =
        tokio::task::spawn_blocking(move || looked_at("dashboard", OsStr::new(&url), picture("dashboard.png")));
    let looked = looked.await;
    served.kill().unwrap();
    served.wait().unwrap();
    looked.unwrap();

    eventually("the command is done at SES", SOON, async || {
        let stopped = fixture.stopped().await;
        if stopped.is_empty() { Ok(()) } else { Err(stopped) }
    })
    .await;
    let items = fixture.account.items(&fixture.table).await;
    let texts = items.iter().filter_map(|item| item.get("text").and_then(|text| text.as_s().ok()));
    assert!(texts.filter(|text| text.contains("the list is clean again")).count() > 0, "the reason is stored");
    fixture.base.emulator.stop().unwrap();
}
