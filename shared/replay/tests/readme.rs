//! The README is true: its commands run and print what it shows, and its paths lead somewhere.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The blocks of commands: a command each, and what it prints.
fn sessions() -> Vec<(String, String)> {
    let readme = readme();
    let blocks = readme.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let session = |block: &str| {
        let (command, output) = block.split_once('\n')?;
        Some((command.strip_prefix("$ ")?.to_owned(), output.to_owned()))
    };
    blocks.map(|block| session(block).unwrap()).collect()
}

#[test]
fn its_commands_print_what_it_shows() {
    let mut tried = 0;
    for (command, shown) in sessions() {
        let Some(arguments) = command.strip_prefix("cargo replay ") else { continue };
        let output = Command::new(env!("CARGO_BIN_EXE_replay"))
            .args(arguments.split(' '))
            .current_dir(root())
            .env_remove("COLUMNS")
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let printed: String = printed.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        assert_eq!(printed, shown, "$ {command}\n{}", String::from_utf8_lossy(&output.stderr));
        tried += 1;
    }
    assert!(tried >= 2, "only {tried} commands were found");
}

#[test]
fn its_test_command_is_the_one_that_ci_looks_for() {
    let commands: Vec<String> = sessions().into_iter().map(|(command, _)| command).collect();
    assert!(commands.contains(&"cargo test --workspace --locked".to_owned()), "{commands:?}");
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(ci.contains("README.md"), "CI does not read the command from the README");
}

#[test]
fn its_paths_lead_somewhere() {
    let readme = readme();
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with("http") && !link.starts_with('#')) {
        assert!(root().join(link).exists(), "README.md links to {link}");
    }
}

/// What the last paragraph of a report says, in one line.
fn verdict(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_replay")).args(arguments).current_dir(root()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let last = printed.trim_end().rsplit("\n\n").next().unwrap_or_default();
    last.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_samples_are_replayed_as_their_readme_says_with_and_without_a_gate() {
    let samples = fs::read_to_string(root().join("events/README.md")).unwrap();
    let (_, table) = samples.split_once("## Replays of the streams").unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    for row in &rows {
        let [name, without, with] = row[..] else { panic!("{row:?}") };
        let stream = format!("events/streams/{}.ndjson.gz", name.trim_matches('`'));
        assert_eq!(verdict(&[&stream, "--quiet"]), without, "{name} without a gate");
        assert_eq!(verdict(&[&stream, "--quiet", "--gate"]), with, "{name} with a gate");
    }
    assert_eq!(rows.len(), fs::read_dir(root().join("events/streams")).unwrap().count());
}
