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
