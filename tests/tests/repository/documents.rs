//! The documents are complete and their references resolve: every alarm and every kind of message has its place in the
//! runbook, and every path, link and cited test exists.
//!
//! Whether their commands are valid is tested where those are defined: in `shared/operator/src/cli/arguments.rs`, and for
//! those of alerts in `shared/operator/tests/operator/alerts.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pipeline::export::Measure;
use pipeline::notice::Notice;
use reputation::Metric;
use reputation::breaker::{Cause, Override, StateName};
use reputation::detect::{Level, RuleName};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new("..").join(path)).unwrap()
}

/// The lines of a document that are not in a block of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        in_code ^= fence;
        !fence && !in_code
    })
}

/// The sections of the third level below a heading of the second, with their text.
fn sections(document: &str, below: &str) -> Vec<(String, String)> {
    let text = document.split(&format!("\n## {below}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let sections = text.split("\n### ").skip(1).map(|section| section.split_once('\n').unwrap());
    // A phrase may continue on the next line.
    sections.map(|(heading, text)| (heading.to_owned(), text.replace('\n', " "))).collect()
}

/// The word in back quotes at the beginning of a heading.
fn quoted(heading: &str) -> Option<&str> {
    heading.strip_prefix('`')?.split('`').next()
}

#[test]
fn every_alarm_of_the_template_has_its_section_and_no_section_is_about_another() {
    let template = read("infra/template.yaml");
    let named = template.lines().filter_map(|line| line.trim().strip_prefix("AlarmName: !Sub ${AWS::StackName}-"));
    let alarms: BTreeSet<&str> = named.collect();
    assert_eq!(alarms.len(), template.matches("Type: AWS::CloudWatch::Alarm").count());
    let runbook = read("infra/RUNBOOK.md");
    let sections = sections(&runbook, "Alarms of the stack");
    let explained: BTreeSet<&str> = sections.iter().filter_map(|(heading, _)| quoted(heading)).collect();
    assert_eq!(alarms, explained);
    for (heading, text) in &sections {
        for part in ["**It means**", "**First**"] {
            assert!(text.contains(part), "{heading} does not say {part}");
        }
        assert!(text.contains("**Leave it alone**") || text.contains("**If it lasts**"), "{heading}");
    }
}

#[test]
fn every_kind_of_message_and_every_state_has_its_section() {
    let runbook = read("infra/RUNBOOK.md");
    let sections = sections(&runbook, "Messages about mail");
    for kind in Notice::KINDS {
        let explained = sections.iter().any(|(_, text)| text.contains(&format!("Event: {kind}.")));
        assert!(explained, "no section of infra/RUNBOOK.md is about a message of the kind {kind}");
    }
    for shown in StateName::ALL.iter().flat_map(|state| [state.word(true), state.word(false)]) {
        let explained = sections.iter().any(|(heading, _)| heading.to_lowercase().starts_with(shown));
        assert!(explained, "no section of infra/RUNBOOK.md is about {shown}");
    }
    for (heading, text) in &sections {
        assert!(text.contains("**It means**") && text.contains("**First**"), "{heading}");
    }
}

/// Every document of the repository, by its path.
fn documents() -> Vec<PathBuf> {
    let mut documents = Vec::new();
    let mut folders = vec![PathBuf::from("..")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // Not the source of this repository.
            let is_made = ["target", "node_modules"].contains(&name.as_str());
            if path.is_dir() && (!name.starts_with('.') || name == ".github") && !is_made {
                folders.push(path);
            } else if name.ends_with(".md") {
                documents.push(path);
            }
        }
    }
    documents
}

/// The anchor that renderers give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
    kept.trim().replace(' ', "-")
}

#[test]
fn every_link_of_every_document_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 10, "{documents:?}");
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for line in prose(&text) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.starts_with("http") {
                    continue;
                }
                let (path, place) = link.split_once('#').unwrap_or((link, ""));
                let target = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
                assert!(target.exists(), "{} links to {link}", document.display());
                if !place.is_empty() {
                    let target = fs::read_to_string(&target).unwrap();
                    let mut anchors = prose(&target)
                        .filter(|line| line.starts_with('#'))
                        .map(|line| anchor(line.trim_start_matches('#')));
                    assert!(anchors.any(|known| known == place), "{} links to {link}", document.display());
                }
            }
        }
    }
}

#[test]
fn every_path_that_the_documents_name_exists() {
    let folders = ["events/", "functions/", "infra/", "shared/", "tests/", ".ci/"];
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let mut beside = document.parent().unwrap().to_path_buf();
        // In a crate's document, paths may begin at the crate.
        while beside.file_name().is_some() && !beside.join("Cargo.toml").exists() {
            beside.pop();
        }
        let words = prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2));
        let plain = |word: &&str| !word.contains([' ', '*', '{', '<', '$', '…', ':']);
        for path in words.filter(plain).filter(|word| folders.iter().any(|folder| word.starts_with(folder))) {
            let found = Path::new("..").join(path).exists() || beside.join(path).exists();
            assert!(found, "{} names {path}", document.display());
        }
    }
}

/// Whether a source has a test of this name: `#[test]`, `#[tokio::test]` or one of `proptest!`.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let begins = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
    };
    lines.iter().enumerate().filter(|(_, line)| begins(line)).any(|(at, _)| {
        let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/']));
        attributes.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn every_promise_names_its_tests_and_they_exist() {
    let architecture = read("ARCHITECTURE.md");
    let promises = architecture.split("\n## Promises\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> = promises
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
        .map(|line| line.trim_matches('|').split(" | ").collect())
        .collect();
    assert!(rows.len() > 10, "{rows:?}");
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    for row in rows {
        let [promise, tests, files] = row[..] else { panic!("{row:?}") };
        let (tests, files) = (quoted(tests), quoted(files));
        assert!(!tests.is_empty() && !files.is_empty(), "{promise}");
        for test in tests {
            let found = files.iter().any(|file| has_test(&read(file), &test));
            assert!(found, "ARCHITECTURE.md: {promise}: {files:?} has no test {test}");
        }
    }
}

#[test]
fn tests_are_distinguished_from_other_functions() {
    let source = "#[test]\nfn a() {}\n\n/// Says.\n#[tokio::test(start_paused = true)]\nasync fn b() {}\n\nfn c() {}\n";
    assert_eq!(["a", "b", "c", "d"].map(|name| has_test(source, name)), [true, true, false, false]);
}

/// Readers have only the repository.
#[test]
fn no_document_leads_out_of_the_repository() {
    let root = fs::canonicalize("..").unwrap();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for line in prose(&text) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = link.split('#').next().unwrap();
                if link.starts_with("http") || path.is_empty() {
                    continue;
                }
                let target = fs::canonicalize(document.parent().unwrap().join(path)).unwrap();
                assert!(target.starts_with(&root), "{} links to {link}", document.display());
            }
        }
    }
}

#[test]
fn what_the_threat_model_names_of_the_template_is_there() {
    let template = read("infra/template.yaml");
    let model = read("infra/THREAT-MODEL.md");
    let is_name = |word: &&str| {
        word.len() > 4
            && word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_alphanumeric())
            && word.chars().any(|c| c.is_ascii_lowercase())
    };
    let names: BTreeSet<&str> =
        prose(&model).flat_map(|line| line.split('`').skip(1).step_by(2)).filter(is_name).collect();
    let elsewhere = ["NotAuthorizedForSourceException", "Origin", "PutItem"];
    let unknown: Vec<&&str> =
        names.iter().filter(|name| !template.contains(**name) && !elsewhere.contains(name)).collect();
    assert!(names.len() > 10 && unknown.is_empty(), "{unknown:?} of {names:?}");
}

/// The names in an `enum` of the schema of events, `null` aside.
fn names_in_the_schema(schema: &serde_json::Value, pointer: &str) -> Vec<String> {
    let names = schema.pointer(pointer).and_then(serde_json::Value::as_array);
    let names = names.unwrap_or_else(|| panic!("infra/events.schema.json has no {pointer}"));
    names.iter().filter_map(|name| name.as_str()).map(str::to_owned).collect()
}

#[test]
fn the_schema_of_events_has_the_names_of_the_code() {
    fn written<T: serde::Serialize>(all: &[T]) -> Vec<String> {
        all.iter().map(|one| serde_json::to_value(one).unwrap().as_str().unwrap().to_owned()).collect()
    }
    let schema: serde_json::Value = serde_json::from_str(&read("infra/events.schema.json")).unwrap();
    for (pointer, names) in [
        ("/properties/detail-type/enum", written(&Notice::KINDS)),
        ("/$defs/state/enum", written(&StateName::ALL)),
        ("/$defs/metric/enum", written(&Metric::ALL)),
        ("/$defs/transition/properties/metric/enum", written(&Metric::ALL)),
        ("/$defs/transition/properties/level/enum", written(&Level::ALL)),
        ("/$defs/transition/properties/called_for/enum", written(&Level::ALL)),
        ("/$defs/transition/properties/rule/enum", written(&RuleName::ALL)),
        ("/$defs/transition/properties/cause/enum", written(&Cause::ALL)),
        ("/$defs/transition/properties/hold/enum", written(&Override::ALL)),
    ] {
        assert_eq!(names_in_the_schema(&schema, pointer), names, "{pointer}");
    }
}

/// What the compiler cannot find that a new metric has to be added to. See "Where do I change" in ARCHITECTURE.md.
#[test]
fn every_metric_is_in_the_policy_the_page_the_dashboard_and_the_documents() {
    let places = ["infra/policy.toml", "infra/POLICY.md", "infra/grafana.json", "shared/replay/src/page/page.js"];
    let texts = places.map(read);
    let [policy, reference, grafana, page] = &texts;
    for metric in Metric::ALL {
        let name = metric.name();
        assert!(policy.contains(&format!("[metrics.{name}]")), "infra/policy.toml has no section of {name}");
        assert!(reference.contains(&format!("metrics.{name}")), "infra/POLICY.md does not describe {name}");
        assert!(page.contains(&format!("{name}: \"")), "page.js has no word for {name}");
        let measure = Measure::Rate(metric).name();
        assert!(grafana.contains(&format!("\"{measure}\"")), "infra/grafana.json does not draw {measure}");
    }
    let listed: Vec<String> = Metric::ALL.iter().map(|metric| format!("\"{}\"", metric.name())).collect();
    let listed = format!("METRICS = [{}]", listed.join(", "));
    assert!(page.contains(&listed), "page.js does not list the metrics as {listed}");
}

/// The files of each way through the code, as `ARCHITECTURE.md` lists them.
#[test]
fn no_way_through_the_code_enters_a_file_twice() {
    let document = read("ARCHITECTURE.md");
    let ways = document.split("\n## ").find(|part| part.starts_with("Three ways")).unwrap();
    for way in ways.split("\n### ").skip(1) {
        let (name, table) = way.split_once('\n').unwrap();
        let quoted = table.split('`').skip(1).step_by(2);
        let files: Vec<&str> = quoted.filter(|quoted| quoted.contains("/src/")).collect();
        let distinct: BTreeSet<&str> = files.iter().copied().collect();
        assert_eq!(files.len(), distinct.len(), "{name}: {files:?}");
        for file in files {
            assert!(Path::new("..").join(file).is_file(), "{name}: {file} does not exist");
        }
    }
}
