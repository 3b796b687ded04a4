//! Who may depend on whom: section 9 of the design, compared with what cargo says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path("../Cargo.toml").other_options(["--locked".to_owned()]).exec().unwrap()
}

/// What each package depends on when it is used, tests and build scripts aside.
fn used(metadata: &Metadata) -> BTreeMap<&PackageId, BTreeSet<&PackageId>> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let deps = |node: &'_ cargo_metadata::Node| -> BTreeSet<PackageId> {
        let normal =
            |dep: &&cargo_metadata::NodeDep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
        node.deps.iter().filter(normal).map(|dep| dep.pkg.clone()).collect()
    };
    let ids: BTreeMap<&PackageId, &PackageId> =
        metadata.packages.iter().map(|package| (&package.id, &package.id)).collect();
    resolve.nodes.iter().map(|node| (&node.id, deps(node).iter().map(|id| ids[id]).collect())).collect()
}

/// Everything that a package of ours pulls in when it is used, by name.
fn pulled_in(metadata: &Metadata, package: &str) -> BTreeSet<String> {
    let used = used(metadata);
    let mut found: BTreeSet<&PackageId> = BTreeSet::new();
    let mut open: Vec<&PackageId> =
        metadata.workspace_packages().iter().filter(|known| *known.name == package).map(|known| &known.id).collect();
    assert!(!open.is_empty(), "no package {package}");
    while let Some(id) = open.pop() {
        for dep in &used[id] {
            if found.insert(dep) {
                open.push(dep);
            }
        }
    }
    metadata.packages.iter().filter(|known| found.contains(&known.id)).map(|known| known.name.to_string()).collect()
}

#[test]
fn our_crates_depend_on_each_other_as_designed() {
    let metadata = metadata();
    let ours: BTreeMap<&PackageId, String> =
        metadata.workspace_packages().iter().map(|package| (&package.id, package.name.to_string())).collect();
    let mut edges = Vec::new();
    for (id, deps) in used(&metadata) {
        let Some(name) = ours.get(id) else { continue };
        let deps: BTreeSet<&str> = deps.iter().filter_map(|dep| ours.get(dep).map(String::as_str)).collect();
        edges.push(format!("{name} -> {}", deps.into_iter().collect::<Vec<_>>().join(", ")));
    }
    edges.sort();
    assert_eq!(
        edges,
        [
            "aws -> pipeline, reputation, ses-events",
            "breaker -> aws",
            "e2e -> aws, pipeline, reputation, ses-events",
            "enforcer -> aws",
            "ingest -> aws",
            "operator -> aws, pipeline, replay, reputation",
            "pipeline -> reputation, ses-events",
            "replay -> pipeline, reputation, ses-events",
            "reputation -> ",
            "ses-events -> ",
        ]
    );
}

#[test]
fn the_pure_crates_see_no_clock_no_runtime_no_log_no_randomness_and_no_sdk() {
    let metadata = metadata();
    // A list of what is allowed, because a list of what is not can never be complete.
    let check = |package: &str, allowed: &[&str]| {
        let allowed: BTreeSet<String> = allowed.iter().map(|&name| name.to_owned()).collect();
        let found = pulled_in(&metadata, package);
        let strangers: Vec<&String> = found.difference(&allowed).collect();
        assert!(strangers.is_empty(), "{package} pulls in {strangers:?}");
    };
    let serde = ["serde", "serde_core", "serde_derive", "proc-macro2", "quote", "syn", "unicode-ident"];
    let errors = ["thiserror", "thiserror-impl"];
    let json = ["itoa", "memchr", "serde_json", "zmij"];
    let toml = [
        "equivalent",
        "hashbrown",
        "indexmap",
        "serde_spanned",
        "toml",
        "toml_datetime",
        "toml_parser",
        "toml_writer",
        "winnow",
    ];
    let simd = ["bytemuck", "safe_arch", "wide"];
    check("ses-events", &[&serde[..], &errors, &json, &simd, &["smallvec"]].concat());
    check(
        "reputation",
        &[&serde[..], &errors, &toml, &["itoa", "serde_path_to_error", "siphasher", "smallvec"]].concat(),
    );
}

#[test]
fn only_what_talks_to_aws_sees_its_sdk() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let may = ["aws", "operator", "e2e"].contains(&package.name.as_str());
        let sees = package.dependencies.iter().any(|dep| dep.name.starts_with("aws-sdk-"));
        assert!(may || !sees, "{} depends on the SDK", package.name);
    }
}

#[test]
fn a_replay_cannot_touch_an_account_because_it_links_no_sdk_and_no_network() {
    let metadata = metadata();
    let found = pulled_in(&metadata, "replay");
    let talks = |name: &String| {
        name.starts_with("aws-") || ["hyper", "reqwest", "rustls", "socket2", "tokio", "ureq"].contains(&name.as_str())
    };
    let talkers: Vec<&String> = found.iter().filter(|name| talks(name)).collect();
    assert!(talkers.is_empty(), "{talkers:?}");
}
