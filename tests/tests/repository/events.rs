//! Every file in `events/` is a test case: its counts are those of its row in the README.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use replay::driver::{MAX_SUBJECTS, Options, Replay, replay};
use replay::input::{Progress, Sources};
use replay::report::Report;
use reputation::{Policy, UnitKind};

fn events() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../events")
}

/// 2026-11-21: the cases are dated before; those dated later are so on purpose.
const NOW: i64 = 1_795_219_200_000;

fn run(file: &Path) -> Replay {
    let sources = Sources::expand(&[file.to_string_lossy()]).unwrap();
    let options = Options {
        policy: Policy::default(),
        real_now: NOW,
        since: None,
        until: None,
        stop_at: None,
        workers: 0,
        max_subjects: MAX_SUBJECTS,
    };
    replay(&options, &sources, &mut |_| {}, &Progress::default()).unwrap()
}

/// The rows of the tables of cases: file and counts.
fn rows() -> BTreeMap<String, String> {
    let readme = fs::read_to_string(events().join("README.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in readme.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [file, _, counts] = cells[..] else { continue };
        let Some(file) = file.strip_prefix('`').and_then(|file| file.strip_suffix('`')) else { continue };
        if file.contains('.') {
            assert_eq!(rows.insert(file.to_owned(), counts.to_owned()), None, "{file} has two rows");
        }
    }
    rows
}

/// The claims of a row: the number of units of each kind, and whether something is rejected.
fn claimed(counts: &str) -> (BTreeMap<&'static str, u64>, bool) {
    let singular = |kind: UnitKind| kind.counter_name().strip_suffix('s').unwrap_or(kind.counter_name());
    let words: Vec<&str> = counts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let mut units = BTreeMap::new();
    for pair in words.windows(2) {
        let Ok(count) = pair[0].parse::<u64>() else { continue };
        if let Some(kind) = UnitKind::ALL.into_iter().find(|kind| singular(*kind) == pair[1]) {
            units.insert(kind.counter_name(), count);
        }
    }
    if counts.starts_with("its own unit") {
        units.insert(UnitKind::Deferral.counter_name(), 1);
    }
    (units, counts.contains("rejected"))
}

#[test]
fn every_file_has_a_row_and_every_row_a_file() {
    let is_case = |name: &String| *name != "README.md";
    let files: BTreeSet<String> = fs::read_dir(events())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(is_case)
        .collect();
    let rows: BTreeSet<String> = rows().into_keys().collect();
    assert_eq!(files, rows);
    assert!(files.len() > 100, "{}", files.len());
}

#[test]
fn every_case_has_the_counts_of_its_row() {
    let mut wrong = Vec::new();
    for (file, counts) in rows() {
        let report = Report::of(&run(&events().join(&file)), None);
        let mut units = BTreeMap::new();
        for total in report.totals.iter().filter(|total| total.subject.to_string().starts_with("configuration-set:")) {
            for kind in UnitKind::ALL.into_iter().filter(|kind| total.get(*kind) > 0) {
                *units.entry(kind.counter_name()).or_default() += total.get(kind);
            }
        }
        let is = (units, report.input.rejected > 0);
        if is != claimed(&counts) {
            wrong.push(format!("{file}: the README says `{counts}`, it is {is:?}; {:?}", report.input));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
