//! The program itself, run as a user runs it, without AWS.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs it in an environment without any AWS configuration.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ses-breaker"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap()
}

fn check(arguments: &[&str], code: i32, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good.toml"), "mode = \"shadow\"\n").unwrap();
    fs::write(folder.path().join("bad.toml"), "mode = \"watch\"\n").unwrap();
    fs::write(folder.path().join("torn.toml"), "mode = \n").unwrap();
    fs::write(folder.path().join("binary.toml"), [0xff, 0xfe]).unwrap();
    let output = run(folder.path(), arguments);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
    // An answer goes to standard output, an error to standard error.
    let output_text = if code < 2 { &out } else { &err };
    assert!(output_text.contains(expected), "{arguments:?}: {out}{err}");
}

#[test]
fn what_needs_no_aws_asks_for_none() {
    check(&["policy", "check", "good.toml"], 0, "good.toml is valid");
    check(&["policy", "check", "good.toml", "--format", "json"], 0, "\"valid\": true");
    check(&["policy", "check", "bad.toml"], 1, "bad.toml is not a valid policy");
    check(&["policy", "check", "bad.toml", "--output", "json"], 1, "policy key `mode`");
    check(&["policy", "check", "torn.toml"], 1, "line 1, column 8: ");
    check(&["policy", "check", "missing.toml"], 2, "error: cannot read missing.toml: No such file");
    check(&["policy", "check", "binary.toml"], 2, "error: cannot read binary.toml: stream did not contain valid UTF-8");
    check(&["policy", "push", "missing.toml"], 2, "error: cannot read missing.toml");
    check(&["policy", "show", "--default"], 0, "[breaker]");
    check(&["completions", "bash"], 0, "-F _clap_complete_ses_breaker ses-breaker");
    check(&["completions", "zsh", "--format", "json"], 0, "\"shell\": \"zsh\"");
    check(&["man", "pages/man1"], 0, "ses-breaker-status.1");
    check(&["man", "good.toml"], 2, "error: cannot write good.toml");
    check(&["explain", "--help"], 0, "Exit codes: 0 explained; 2");
    check(&["doctor", "--help"], 0, "Exit codes: 0 no faults, perhaps advice; 1 faults");
    check(&["--help"], 0, "Exit codes: 0 success; 1");
    check(&["--version"], 0, "ses-breaker 0.1.0");
}

#[test]
fn what_cannot_be_understood_or_reached_ends_with_its_own_code_and_a_remedy() {
    check(&[], 2, "Usage: ses-breaker");
    check(&["stauts"], 2, "'status'");
    check(&["status", "--watch", "--region", "eu-west-1"], 2, "ses-breaker status --format json");
    check(
        &["status", "--watch=5", "--format", "json"],
        2,
        "{\"error\":\"no_terminal\",\"message\":\"--watch needs a terminal",
    );
    check(&["explain", "account"], 2, "error: no AWS Region is known");
    check(&["doctor"], 2, "error: no AWS Region is known");
    check(&["doctor", "configuration-set:news"], 2, "unexpected argument");
    check(&["doctor", "--region", "eu-west-1"], 3, "choose a profile (--profile, AWS_PROFILE)");
    check(&["history", "sett:news"], 2, "names no subject");
    check(&["stop", "a b"], 2, "names no subject");
    check(&["status"], 2, "error: no AWS Region is known\nSet it with --region, AWS_REGION");
    check(&["status", "--profile", "work"], 2, "Profile `work` has no Region");
    check(
        &["status", "--profile", "work", "--region", "eu-west-1"],
        3,
        "Profile `work` gives no credentials, or there is no such profile",
    );
    check(&["status", "--region", "eu-west-1"], 3, "choose a profile (--profile, AWS_PROFILE)");
}

#[test]
fn every_verb_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(folder.path(), &["man", "."]).status.success());
    for verb in [
        "",
        "-connect",
        "-status",
        "-explain",
        "-history",
        "-quota",
        "-doctor",
        "-stop",
        "-policy-push",
        "-completions",
    ] {
        let page = fs::read_to_string(folder.path().join(format!("ses-breaker{verb}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains("Exit codes"), "{verb}: {page}");
    }
}

/// The examples of `ses-breaker` in the table of exit codes, each with its code.
fn examples() -> Vec<(String, i32)> {
    let text = fs::read_to_string("../terminal/README.md").unwrap();
    let (_, table) = text.split_once("## Exit codes\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let example = |row: &str| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let command = row.split('`').find_map(|word| word.strip_prefix("ses-breaker "))?;
        Some((command.to_owned(), cells[0].trim_matches(['|', ' ']).parse().unwrap()))
    };
    rows.filter_map(example).collect()
}

#[test]
fn exit_codes_are_as_documented_and_errors_in_json_have_their_members() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::copy("../../events/streams/stale-list.ndjson.gz", path("events.ndjson.gz")).unwrap();
    fs::write(path("good.toml"), "mode = \"shadow\"\n").unwrap();
    fs::write(path("bad.toml"), "mode = \"shadow\"\n[gate]\nlease_second = 5\n").unwrap();
    fs::write(path("notes.json"), "no events\n").unwrap();
    let ran = |arguments: &str| {
        let output = run(folder.path(), &arguments.split(' ').collect::<Vec<_>>());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let examples = examples();
    let mut kinds = Vec::new();
    for (arguments, code) in &examples {
        let (text_code, out, text_err) = ran(arguments);
        assert_eq!(text_code, *code, "{arguments}: {out}{text_err}");
        let (json_code, out, err) = ran(&format!("{arguments} --format json"));
        assert_eq!(json_code, *code, "{arguments} --format json: {out}{err}");
        if *code < 2 {
            let document = serde_json::from_str::<serde_json::Value>(&out);
            assert!(err.is_empty() && document.is_ok(), "{arguments}: {out}{err}");
            continue;
        }
        assert_eq!((out.as_str(), err.lines().count()), ("", 1), "{arguments}: {err}");
        let error: serde_json::Value = serde_json::from_str(&err).unwrap();
        assert_eq!(error["exit_code"], *code, "{arguments}: {error}");
        assert!(error["message"].is_string() && error.get("remedy").is_some(), "{arguments}: {error}");
        if error["error"] == "invalid_policy" {
            let place = ["file", "key", "line", "column", "nearest"].map(|name| error["policy"][name].clone());
            let expected = serde_json::json!(["bad.toml", "gate.lease_second", 3, 1, "lease_seconds"]);
            assert_eq!(serde_json::json!(place), expected, "{error}");
        }
        kinds.push(error["error"].as_str().unwrap().to_owned());
    }
    let expected = [
        "usage",
        "usage",
        "invalid_policy",
        "unreadable",
        "unreadable",
        "no_domains",
        "unwritable",
        "no_region",
        "refused",
    ];
    assert_eq!((examples.len(), kinds), (12, expected.map(str::to_owned).to_vec()));
}
