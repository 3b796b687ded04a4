//! The documents are true: their commands run and print the output that they show.

use std::fs;
use std::process::Command;

use crate::program::root;

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap()
}

/// The command blocks of a document: a command and its output each.
fn sessions(document: &str) -> Vec<(String, String)> {
    let text = read(document);
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let session = |block: &str| {
        let (command, output) = block.split_once('\n')?;
        Some((command.strip_prefix("$ ")?.to_owned(), output.to_owned()))
    };
    blocks.map(|block| session(block).unwrap()).collect()
}

/// The commands of `replay` in a document, each with the output that is shown and the real one.
fn tried(document: &str) -> Vec<(String, String, String)> {
    let mut tried = Vec::new();
    for (command, shown) in sessions(document) {
        let Some(arguments) = command.strip_prefix("cargo replay ") else { continue };
        let output = Command::new(env!("CARGO_BIN_EXE_replay"))
            .args(arguments.split(' '))
            .current_dir(root())
            .env_remove("COLUMNS")
            .output()
            .unwrap();
        assert!(output.status.success(), "$ {command}\n{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        tried.push((command, shown, printed.lines().map(|line| format!("{}\n", line.trim_end())).collect()));
    }
    tried
}

#[test]
fn commands_print_what_the_documents_show() {
    for (document, commands) in [("shared/replay/README.md", 2), ("infra/GATE.md", 1)] {
        let tried = tried(document);
        for (command, shown, printed) in &tried {
            assert_eq!(printed, shown, "{document}\n$ {command}");
        }
        assert_eq!(tried.len(), commands, "{document}");
    }
}

/// Whether `shown` is `printed` with lines left out where it says `…`, and nowhere else.
fn is_excerpt(shown: &str, printed: &str) -> bool {
    let mut pieces = shown.split("…\n");
    let Some(mut rest) = pieces.next().and_then(|first| printed.strip_prefix(first)) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else { return rest.is_empty() };
    for piece in between {
        // Whole lines: a piece begins where a line begins.
        let Some(at) = rest.match_indices(piece).map(|(at, _)| at).find(|at| rest[..*at].ends_with('\n')) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    rest.strip_suffix(last).is_some_and(|left_out| left_out.ends_with('\n'))
}

#[test]
fn an_excerpt_has_whole_lines_in_their_order() {
    let printed = "one\ntwo\nthree\nfour\nfive\n";
    for (shown, expected) in [
        (printed, true),
        ("one\n…\nthree\n…\nfive\n", true),
        ("one\n…\nfour\nfive\n", true),
        ("one\n…\nfive\nfour\n", false),
        ("two\n…\nfive\n", false),
        ("one\n…\nfour\n…\nthree\n…\nfive\n", false),
        ("one\n…\nree\n…\nfive\n", false),
        ("one\n…\nthree\n", false),
        ("one\ntwo\n", false),
    ] {
        assert_eq!(is_excerpt(shown, printed), expected, "{shown}");
    }
}

#[test]
fn the_readme_shows_an_excerpt_of_what_is_printed() {
    let tried = tried("README.md");
    for (command, shown, printed) in &tried {
        assert!(is_excerpt(shown, printed), "README.md\n$ {command}\n{shown}\nis not an excerpt of\n{printed}");
        // That document shows it in full.
        assert!(read("shared/replay/README.md").contains(&format!("$ {command}\n{printed}")), "$ {command}");
    }
    assert_eq!(tried.len(), 1);
}

#[test]
fn the_readme_stays_short() {
    let readme = read("README.md");
    let (lines, words) = (readme.lines().count(), readme.split_whitespace().count());
    assert!(lines <= 250 && words <= 2_200, "README.md has {lines} lines and {words} words");
}

#[test]
fn its_test_command_is_the_one_that_ci_looks_for() {
    let commands: Vec<String> = sessions("README.md").into_iter().map(|(command, _)| command).collect();
    assert!(commands.contains(&"cargo test --workspace --locked".to_owned()), "{commands:?}");
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(ci.contains("README.md"), "CI does not read the command from the README");
}

#[test]
fn its_paths_lead_somewhere() {
    let readme = read("README.md");
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with("http") && !link.starts_with('#')) {
        let path = link.split('#').next().unwrap_or_default();
        assert!(root().join(path).exists(), "README.md links to {link}");
    }
}

/// The last paragraph of a report, on one line.
fn verdict(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_replay")).args(arguments).current_dir(root()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let last = printed.trim_end().rsplit("\n\n").next().unwrap_or_default();
    last.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_samples_are_replayed_as_their_readme_says_with_and_without_a_gate() {
    let samples = read("events/README.md");
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

/// The examples of one program in the table of exit codes, each with its code.
fn examples() -> Vec<(String, i32)> {
    let text = read("shared/terminal/README.md");
    let (_, table) = text.split_once("## Exit codes\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let example = |row: &str| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let command = row.split('`').find_map(|word| word.strip_prefix("replay "))?;
        Some((command.to_owned(), cells[0].trim_matches(['|', ' ']).parse().unwrap()))
    };
    rows.filter_map(example).collect()
}

#[test]
fn exit_codes_are_as_documented_and_errors_in_json_have_their_members() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::copy(root().join("events/streams/stale-list.ndjson.gz"), path("events.ndjson.gz")).unwrap();
    fs::write(path("good.toml"), "mode = \"shadow\"\n").unwrap();
    fs::write(path("bad.toml"), "mode = \"shadow\"\n[gate]\nlease_second = 5\n").unwrap();
    fs::write(path("notes.json"), "no events\n").unwrap();
    let ran = |arguments: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_replay"));
        let output = program.args(arguments.split(' ')).current_dir(folder.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let examples = examples();
    let mut kinds = Vec::new();
    for (arguments, code) in &examples {
        let (text_code, _, text_err) = ran(arguments);
        assert_eq!(text_code, *code, "{arguments}: {text_err}");
        let (json_code, out, err) = ran(&format!("{arguments} --format json"));
        assert_eq!(json_code, *code, "{arguments} --format json: {err}");
        if *code < 2 {
            assert!(
                err.is_empty() && serde_json::from_str::<serde_json::Value>(&out).is_ok(),
                "{arguments}: {out}{err}"
            );
            continue;
        }
        let error: serde_json::Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
        assert_eq!(error["exit_code"], *code, "{arguments}: {error}");
        assert!(error["message"].is_string() && error.get("remedy").is_some(), "{arguments}: {error}");
        if error["error"] == "invalid_policy" {
            let policy = serde_json::json!({"file": "bad.toml", "key": "gate.lease_second", "line": 3, "column": 1,
                "nearest": "lease_seconds", "problem": error["policy"]["problem"]});
            assert_eq!((&error["policy"], &error["remedy"]), (&policy, &"Did you mean `lease_seconds`?".into()));
        }
        kinds.push(error["error"].as_str().unwrap().to_owned());
    }
    let expected = ["usage", "unknown_set", "invalid_policy", "unreadable", "unreadable", "no_events", "unwritable"];
    assert_eq!((examples.len(), kinds), (11, expected.map(str::to_owned).to_vec()));
}

#[test]
fn all_kinds_of_errors_are_documented_with_their_codes() {
    let text = read("shared/terminal/README.md");
    let (_, table) = text.split_once("| error | code | means |\n").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")).map(|row| {
        let mut cells = row.split(" | ");
        (cells.next().unwrap().trim_end_matches('`').to_owned(), cells.next().unwrap().parse::<u8>().unwrap())
    });
    let kinds = terminal::ErrorKind::ALL.iter().map(|kind| (kind.name().to_owned(), kind.exit() as u8));
    assert_eq!(rows.collect::<Vec<_>>(), kinds.collect::<Vec<_>>());
}
