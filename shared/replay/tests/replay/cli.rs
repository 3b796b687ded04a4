//! The program as users run it: its output, its streams and its exit codes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::program::{Ran, command, json, ran, replay, replay_of, root};

fn stream(name: &str) -> String {
    format!("events/streams/{name}.ndjson.gz")
}

fn tiny() -> Vec<u8> {
    replay(&["generate", "messy", "--minutes", "20", "--scale", "0.1"]).out.into_bytes()
}

/// Runs the program, and expects an exit code and texts on standard error.
fn check(arguments: &[&str], code: i32, says: &[&str]) -> Ran {
    let ran = replay(arguments);
    assert_eq!(ran.code, code, "{arguments:?}: {}", ran.err);
    for word in says {
        assert!(ran.err.contains(word), "{arguments:?} does not say {word:?}: {}", ran.err);
    }
    ran
}

#[test]
fn what_cannot_be_used_ends_with_2_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("bad.toml"), "[breaker]\nopen_minutes = 0\n").unwrap();
    fs::write(path("notes.json"), "these are no events\n").unwrap();
    let events = stream("stale-list");

    check(&[], 2, &["Usage: replay"]);
    check(&["nowhere.json"], 2, &["error: no such file: nowhere.json", "name a file"]);
    check(&[&path("empty")], 2, &["error: no event files in", ".ndjson"]);
    check(&["nothing/*.gz"], 2, &["error: nothing matches"]);
    check(&[&path("notes.json")], 2, &["notes.json:1: not JSON", "error: no SES event in 1 line of input\nCheck that"]);
    check(&[&events, "--policy", &path("bad.toml")], 2, &["bad.toml", "breaker.open_minutes", "is 0", "1 to 43200"]);
    let invalid = |name: &str, says: &[&str]| {
        let ran = replay(&["check", name]);
        assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{name}");
        says.iter().for_each(|word| assert!(ran.out.contains(word), "{name} does not say {word:?}: {}", ran.out));
    };
    for (text, says) in [
        (
            "mode = 'x'",
            "policy: line 1, column 1: policy key `mode`: unknown variant `x`, expected `act` or `shadow`\n",
        ),
        ("[gate]\nfoo = 1", "policy key `gate.foo`: unknown field `foo`, expected one of `in_use`, `lease_seconds`"),
        ("[[ratios]]\nmetric = 'x'", "policy key `ratios[0].metric`: unknown variant `x`, expected one of"),
        ("[warmup.plan]\ngrowht = 2", "line 2, column 1: policy key `warmup.plan.growht`: unknown field"),
        ("[warmup.plan]\ngrowht = 2", "\nDid you mean `growth`?\n"),
        ("mode = ", "line 1, column 8: the policy is not valid TOML: "),
    ] {
        fs::write(path("shape.toml"), text).unwrap();
        let ran = check(&[&events, "--policy", &path("shape.toml")], 2, &[says]);
        assert!(!ran.err.contains("` in `"), "{}", ran.err);
    }
    check(&[&events, "--policy", "none.toml"], 2, &["error: cannot read the policy none.toml"]);
    invalid(&path("bad.toml"), &["bad.toml is not a valid policy\nline 2, column 1: ", "breaker.open_minutes", "is 0"]);
    invalid(&path("shape.toml"), &["line 1, column 8: the policy is not valid TOML: "]);
    check(&["check", "none.toml"], 2, &["error: cannot read the policy none.toml"]);
    check(&[&events, "--since", "yesterday"], 2, &["--since", "yesterday", "2026-10-06T09:00"]);
    check(&[&events, "--since", "2026-10-06", "--until", "2026-10-06"], 2, &["error: --since 2026-10-06"]);
    check(&[&events, "--subject", "newsletter"], 2, &["`newsletter` names no subject", "configuration-set:NAME"]);
    let says = ["no mail of configuration-set:newsleter", "\nDid you mean configuration-set:newsletter?"];
    check(&[&events, "--subject", "configuration-set:newsleter"], 2, &says);
    let at = ["--at", "2026-10-06T09:00", "--subject", "account"];
    check(&[&["explain", &events][..], &at, &["--isp", "gmial"]].concat(), 2, &["`gmial`", "Did you mean gmail"]);
    let early = ["--at", "2026-10-06T05:00", "--subject", "configuration-set:newsletter"];
    let says = ["no mail of configuration-set:newsletter until 2026-10-06T05:00"];
    check(&[&["explain", &events][..], &early].concat(), 2, &says);
    check(&["plan", &path("bad.toml")], 2, &["breaker.open_minutes", "is 0", "1 to 43200"]);
    check(&["plan", "infra/policy.toml", "--set", "news"], 2, &["[warmup.sets] does not name news", "It is empty"]);
    fs::write(path("news.toml"), "[warmup.sets.news]\n").unwrap();
    check(&["plan", &path("news.toml"), "--set", "new"], 2, &["does not name new\nDid you mean news?"]);
    check(&[&events, "--max-subjects", "99"], 2, &["--max-subjects", "99 is not in 100.."]);
    check(&["simulate", "--set", "news"], 2, &["[warmup.sets] does not name news"]);
    check(&["simulate", "--scenario", "nice"], 2, &["nice", "kind, harsh, business"]);
    check(&["simulate", "--seeds", "0"], 2, &["--seeds", "1..=1000"]);
    check(&["simulate", "--model", "third"], 2, &["third", "tolerance, ladder"]);
    check(&["simulate", "--sender", "daily"], 2, &["daily", "smooth, hourly, batch-09, batch-18, weekly"]);
    check(&["simulate", "--ips", "0"], 2, &["--ips", "1..=64"]);
    let nowhere = path("nowhere/plot.svg");
    let once = ["simulate", "--days", "1", "--seeds", "1", "--plot", &nowhere];
    check(&once, 2, &["error: cannot write", "nowhere/plot.svg"]);
    check(&["generate", "stale-lst"], 2, &["stale-lst is neither", "Did you mean stale-list?"]);
    check(&["generate", "stale-list", "--minutes", "0"], 2, &["minutes", "0"]);
    fs::write(path("scenario.toml"), "about = 'x'\nminuts = 5\n").unwrap();
    let says = ["scenario.toml is not a valid scenario: line 2, column 1: unknown field `minuts`"];
    check(&["generate", &path("scenario.toml")], 2, &says);
    check(&["generate", "stale-list", "--scale", "nan"], 2, &["per_minute"]);
}

#[test]
fn a_trip_fails_only_where_it_is_asked_to() {
    check(&[&stream("stale-list")], 0, &[]);
    check(&[&stream("stale-list"), "--fail-on-trip"], 1, &[]);
    check(&[&stream("healthy-day"), "--fail-on-trip"], 0, &[]);
    check(&[&stream("stale-list"), "--fail-on-trip", "--subject", "configuration-set:receipts"], 0, &[]);
    let before = ["--fail-on-trip", "--until", "2026-10-06T09:00"];
    check(&[&[stream("stale-list").as_str()][..], &before].concat(), 0, &[]);
}

#[test]
fn what_came_before_damage_is_reported_and_the_place_named() {
    let whole = fs::read(root().join("events/streams/stale-list.ndjson.gz")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.ndjson.gz");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let path = path.display().to_string();
    let ran = check(
        &[&path, "--format", "json"],
        2,
        &["{\"error\":\"unreadable\",\"message\":\"gzip data of", "cut.ndjson.gz", "from line"],
    );
    let report = json(&ran);
    let lines = report["input"]["lines"].as_u64().unwrap();
    assert!(lines > 1_000, "{lines}");
    assert!(report["input"]["broken_off"].as_str().unwrap().contains(&format!("from line {}", lines + 1)));
    let ran = check(&[&path], 2, &[]);
    assert!(ran.out.contains("broken off: gzip data of"), "{}", ran.out);
}

#[test]
fn rejected_lines_are_named_up_to_twenty() {
    let ran = check(&[&stream("messy")], 0, &["messy.ndjson.gz:37: not JSON", "… and 28 more rejected lines"]);
    assert_eq!(ran.err.lines().count(), 21);
    assert!(ran.out.contains("absent 6"), "{}", ran.out);
}

#[test]
fn standard_input_gives_what_a_file_gives() {
    let tiny = tiny();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny");
    fs::write(&path, &tiny).unwrap();
    let path = path.display().to_string();
    for format in ["text", "json"] {
        let piped = replay_of(&tiny, &["-", "--format", format]);
        let read = replay(&[&path, "--format", format]);
        assert_eq!((piped.code, piped.out), (0, read.out));
    }
}

#[test]
fn a_reader_that_stops_causes_no_error() {
    let mut child = command(&["generate", "messy"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn a_generated_stream_has_the_totals_of_its_truth() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, out) in [("messy", "stream.ndjson.gz"), ("isp-throttling", "stream.ndjson")] {
        let (stream, truth) = (path(out), path("truth.json"));
        check(
            &["generate", name, "--seed", "11", "--minutes", "60", "--out", &stream, "--truth", &truth],
            0,
            &["seed 11"],
        );
        let zipped = fs::read(&stream).unwrap().starts_with(&[0x1f, 0x8b]);
        assert_eq!(zipped, out.ends_with(".gz"));
        let truth: Value = serde_json::from_slice(&fs::read(&truth).unwrap()).unwrap();
        let report = json(&check(&[&stream, "--format", "json"], 0, &[]));
        let rows = |totals: &Value| {
            let key = |row: &Value| (row["subject"].to_string(), row["isp"].to_string());
            totals.as_array().unwrap().iter().map(|row| (key(row), row.clone())).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(rows(&report["totals"]), rows(&truth["totals"]), "{name}");
        assert_eq!(report["input"]["recorded"], truth["recorded"], "{name}");
        assert_eq!(report["input"]["lines"], truth["lines"], "{name}");
    }
    let list = replay(&["generate", "--list"]);
    assert_eq!(list.out, replay(&["generate"]).out);
    assert!(list.out.contains("provider-incident  "));
}

/// Every throttle and pause of every stream: explained at its time, the numbers are those of the decision.
#[test]
fn an_explanation_has_the_numbers_of_its_transition() {
    let folder = root().join("events/streams");
    let mut streams: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    streams.sort();
    let mut explained = 0;
    let worlds = streams.iter().flat_map(|path| [(path, &[][..]), (path, &["--gate"][..])]);
    for (path, world) in worlds {
        let path = path.display().to_string();
        let report = json(&replay(&[&[path.as_str(), "--format", "json"], world].concat()));
        for transition in report["transitions"].as_array().unwrap() {
            let acted = transition["level"] == "throttle" || transition["level"] == "pause";
            if !acted || transition["population"].is_null() {
                continue;
            }
            let text = |field: &str| transition[field].as_str().unwrap().to_owned();
            let (at, subject) = (text("at"), text("subject"));
            let mut arguments = vec!["explain", &path, "--at", &at, "--subject", &subject, "--format", "json"];
            if let Some(isp) = transition["isp"].as_str() {
                arguments.extend(["--isp", isp]);
            }
            arguments.extend(world);
            let explanation = json(&check(&arguments, 0, &[]));
            let judged = explanation["judged"].as_array().unwrap();
            let judgement = judged.iter().find(|judgement| judgement["decided"] == *transition);
            compare(
                transition,
                judgement.unwrap_or_else(|| panic!("{arguments:?}: {transition} is not among {judged:?}")),
            );
            explained += 1;
        }
    }
    assert!(explained >= 20, "{explained}");
}

fn compare(transition: &Value, explanation: &Value) {
    let of = |list: &Value, name: &str, field: &str| {
        list.as_array().unwrap().iter().find(|entry| entry[field] == name).cloned().unwrap()
    };
    let (metric, level) = (transition["metric"].as_str().unwrap(), transition["level"].as_str().unwrap());
    if transition["rule"] == "ratio" {
        let ratio = of(&explanation["ratios"], metric, "metric");
        let line = of(&ratio["lines"], level, "level");
        assert_eq!(
            (&line["population"], &line["bad"]),
            (&transition["population"], &transition["bad"]),
            "{transition}"
        );
        assert_eq!(line["reached"], true, "{transition}");
        return;
    }
    let metric = of(&explanation["metrics"], metric, "metric");
    let evidence = of(&metric["evidence"], level, "level");
    assert_eq!(evidence["stretch_population"], transition["population"], "{transition}");
    assert_eq!(evidence["stretch_bad"], transition["bad"], "{transition}");
    assert_eq!(evidence["stretch"], transition["cohorts"], "{transition}");
    let expected = format!(
        "evidence {:.1} reached {:.1}",
        evidence["peak"].as_f64().unwrap(),
        evidence["threshold"].as_f64().unwrap()
    );
    assert!(transition["reason"].as_str().unwrap().contains(&expected), "{transition} does not say {expected}");
    // The cells that are shown end in the same number.
    let cells = &explanation["cells"];
    assert_eq!(
        (cells["metric"].as_str(), cells["level"].as_str()),
        (transition["metric"].as_str(), Some(level)),
        "{transition}"
    );
    let cells = cells["cells"].as_array().unwrap();
    let peak = cells.iter().position(|cell| cell["peak"] == true).unwrap();
    let sum = |field: &str| cells[..=peak].iter().map(|cell| cell[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!(
        (sum("population"), sum("bad")),
        (transition["population"].as_u64().unwrap(), transition["bad"].as_u64().unwrap())
    );
    assert_eq!(cells[peak]["evidence"], evidence["peak"], "{transition}");
}

#[test]
fn the_time_in_the_timeline_is_enough_to_explain_it() {
    let at = ["--at", "2026-10-06 09:03:03", "--subject", "configuration-set:newsletter"];
    let ran = check(&[&["explain", &stream("stale-list")][..], &at].concat(), 0, &[]);
    insta::assert_snapshot!("explain_stale_list", ran.out);
}

#[test]
fn a_quiet_moment_is_explained_as_it_stands() {
    let at = ["--at", "2026-10-06T08:30", "--subject", "configuration-set:newsletter", "--isp", "gmail"];
    let ran = check(&[&["explain", &stream("stale-list")][..], &at].concat(), 0, &[]);
    insta::assert_snapshot!("explain_quiet", ran.out);
}

#[test]
fn a_policy_is_explained_in_text() {
    let ran = check(&["check", "infra/policy.toml"], 0, &[]);
    insta::assert_snapshot!("check", ran.out);
}

#[test]
fn schedules_look_like_this() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    let text = "[warmup]\nzone = \"Europe/Berlin\"\n[warmup.sets]\nnews = { target = 500, overflow = \"shared\", \
                sending_days = [\"mon\", \"tue\"] }\nreceipts = { start = 2000, target = 2000 }\n";
    fs::write(&policy, text).unwrap();
    let policy = policy.display().to_string();
    insta::assert_snapshot!("plan", check(&["plan", &policy], 0, &[]).out);
    insta::assert_snapshot!("plan_json", check(&["plan", &policy, "--set", "news", "--format", "json"], 0, &[]).out);
    let default = check(&["plan", "infra/policy.toml"], 0, &[]).out;
    assert!(default.lines().any(|line| line.starts_with(" 13    50,000  173,950  5,000    3,750")), "{default}");
    let is_number = |word: &str| word.replace(',', "").parse::<u64>().is_ok();
    let is_row = |line: &&str| !line.is_empty() && line.split_whitespace().all(is_number);
    let table: Vec<&str> = default.lines().filter(is_row).collect();
    assert!(table.len() == 19 && table.iter().all(|line| line.len() <= 80), "{default}");
    // `check` prints the same sets.
    let meaning = check(&["check", &policy], 0, &[]).out;
    assert!(meaning.contains("news: 50 → 500") && meaning.contains("receipts: warmed up at 2,000"), "{meaning}");
}

/// A policy under which the newsletter of the sample streams is nearly warm.
fn warm_policy(folder: &Path) -> String {
    let path = folder.join("warm.toml");
    fs::write(&path, "[warmup.sets.newsletter]\nstart = 4000\ntarget = 5000\n").unwrap();
    path.display().to_string()
}

#[test]
fn what_the_gate_would_have_granted_looks_like_this() {
    let folder = tempfile::tempdir().unwrap();
    let policy = warm_policy(folder.path());
    let out = check(&[&stream("isp-throttling"), "--policy", &policy, "--quota"], 0, &[]).out;
    let (_, quota) = out.split_once("\nWhat the gate would have granted\n").unwrap();
    insta::assert_snapshot!("quota", quota);
    // Several days, and mail without Send events.
    let messy = check(&[&stream("messy"), "--quota", "--subject", "configuration-set:(none)"], 0, &[]).out;
    let (_, quota) = messy.split_once("\nWhat the gate would have granted\n").unwrap();
    insta::assert_snapshot!("quota_by_day", quota);
}

#[test]
fn asking_the_gate_changes_nothing_else_and_every_mail_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let warm = warm_policy(folder.path());
    for (name, policy) in [("isp-throttling", warm.as_str()), ("messy", "infra/policy.toml"), ("stale-list", &warm)] {
        let plain = json(&replay(&[&stream(name), "--policy", policy, "--format", "json", "--gate"]));
        let mut asked = json(&replay(&[&stream(name), "--policy", policy, "--format", "json", "--quota"]));
        let rows = asked["quota"].as_array().unwrap().clone();
        let left_out = asked["quota_left_out"].as_array().unwrap().clone();
        let fields = asked.as_object_mut().unwrap();
        fields.remove("quota");
        fields.remove("quota_left_out");
        assert_eq!(asked, plain, "{name}");
        assert_eq!(left_out.is_empty(), policy != warm, "{left_out:?}");
        let mut demand: BTreeMap<(String, String), u64> = BTreeMap::new();
        for row in &rows {
            let count = |field: &str| row[field].as_u64().unwrap();
            assert_eq!(count("granted") + count("overflow") + count("deferred"), count("asked"), "{row}");
            assert!(count("granted") <= count("quota"), "{row}");
            let limited: u64 = row["limits"].as_object().unwrap().values().map(|mails| mails.as_u64().unwrap()).sum();
            assert_eq!(limited, count("asked") - count("granted"), "{row}");
            let set = format!("configuration-set:{}", row["configuration_set"].as_str().unwrap());
            *demand.entry((set, row["isp"].as_str().unwrap().to_owned())).or_default() += count("asked");
        }
        assert!(!rows.is_empty());
        // All Send events of planned sets, and none twice.
        for total in plain["totals"].as_array().unwrap() {
            let key = (total["subject"].as_str().unwrap().to_owned(), total["isp"].as_str().unwrap().to_owned());
            if let (Some(asked), Some(sent)) = (demand.get(&key), total["sent"].as_u64())
                && name != "messy"
            {
                assert_eq!(*asked, sent, "{name} {key:?}");
            }
        }
    }
}

#[test]
fn without_send_events_mails_with_an_outcome_are_the_demand() {
    let all = lines_of("isp-throttling");
    let outcomes = all.iter().filter(|line| !line.contains("\"eventType\":\"Send\""));
    let stream: String = outcomes.map(|line| format!("{line}\n")).collect();
    let report = json(&replay_of(stream.as_bytes(), &["-", "--quota", "--format", "json"]));
    let rows = report["quota"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["demand"] == "attempts"), "{rows:?}");
    for total in report["totals"].as_array().unwrap() {
        let set = total["subject"].as_str().unwrap().strip_prefix("configuration-set:");
        let Some(set) = set else { continue };
        let count = |field: &str| total[field].as_u64().unwrap_or(0);
        let outcomes = ["delivered", "hard_bounces", "soft_bounces", "undetermined", "refused_bounces"];
        let attempts = outcomes.map(count).iter().sum::<u64>();
        let of_isp = rows.iter().filter(|row| row["configuration_set"] == set && row["isp"] == total["isp"]);
        assert_eq!(of_isp.map(|row| row["asked"].as_u64().unwrap()).sum::<u64>(), attempts, "{total}");
    }
    let text = replay_of(stream.as_bytes(), &["-", "--quota"]).out;
    assert!(text.contains("configuration-set:newsletter (no Send events: mails with an outcome)"), "{text}");
}

#[test]
fn simulations_look_like_this() {
    let few = ["simulate", "--scenario", "harsh", "--seeds", "3", "--days", "24"];
    let text = check(&few, 0, &[]).out;
    insta::assert_snapshot!("simulate", text);
    let alone = check(&[&few[..], &["--workers", "1"]].concat(), 0, &[]).out;
    assert_eq!(alone, text, "a simulation depends on its threads");
    let small = ["simulate", "--scenario", "business", "--seeds", "1", "--days", "3", "--format", "json"];
    insta::assert_snapshot!("simulate_json", check(&small, 0, &[]).out);
    let other = ["--model", "second", "--sender", "weekly", "--no-retries", "--ips", "2"];
    let chosen = check(&[&small[..], &other].concat(), 0, &[]).out;
    let chosen: Value = serde_json::from_str(&chosen).unwrap();
    let chosen = ["model", "sender", "asks_again", "ips"].map(|member| chosen[member].to_string());
    assert_eq!(chosen, ["\"ladder\"", "\"weekly\"", "false", "2"]);
    let chosen = check(&[&["simulate", "--seeds", "1", "--days", "3"][..], &other].concat(), 0, &[]).out;
    let chosen = chosen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(chosen.contains("Model: ladder. Sender with 2 IPs. Sender: weekly. It never asks again."), "{chosen}");
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("plot.svg");
    let ran = check(&["simulate", "--seeds", "1", "--days", "8", "--plot", &plot.display().to_string()], 0, &[]);
    assert!(ran.out.contains("\nbusiness: "), "{}", ran.out);
    let svg = fs::read_to_string(&plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
    for word in
        ["prefers-color-scheme: dark", "kind: gmail (kind)", "harsh: microsoft (harsh)", "mails a day", "10,000"]
    {
        assert!(svg.contains(word), "{word} is not in {svg}");
    }
}

#[test]
fn reports_look_like_this() {
    insta::assert_snapshot!("stale_list", replay(&[&stream("stale-list")]).out);
    insta::assert_snapshot!("stale_list_json", replay(&[&stream("stale-list"), "--format", "json"]).out);
    let tiny = tiny();
    insta::assert_snapshot!("tiny", replay_of(&tiny, &["-"]).out);
    insta::assert_snapshot!("tiny_json", replay_of(&tiny, &["-", "--format", "json"]).out);
}

/// The lines of a stream, unpacked.
fn lines_of(name: &str) -> Vec<String> {
    let out = replay(&["generate", name]).out;
    out.lines().map(str::to_owned).collect()
}

/// Characters that a terminal would act on, except line ends and this program's colours.
fn obeyed(text: &str) -> Vec<char> {
    let plain = terminal::visible(text);
    let marks = |c: &char| matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    plain.chars().filter(|c| *c != '\n' && (c.is_control() || marks(c))).collect()
}

#[test]
fn nothing_in_the_input_commands_the_terminal() {
    let nasty = r"\u001b]0;owned\u0007\u001b[2J\n\u202e\u2066\u009b31m\u2028letter";
    let long = "x".repeat(200);
    let stream = lines_of("stale-list").join("\n").replace("[\"newsletter\"]", &format!("[\"{nasty}{long}\"]"));
    let stream = stream + "\n{\"eventType\":\"\\u001b[2J\\u202e\",\"mail\":{}}\nno JSON \x1b[2J\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a\x1b[2J\nb.ndjson").display().to_string();
    fs::write(&path, &stream).unwrap();
    let plain = replay(&[&path, "--color", "never"]);
    let coloured = replay(&[&path, "--color", "always"]);
    assert_eq!(plain.code, 0, "{}", plain.err);
    assert_eq!((obeyed(&plain.out), obeyed(&plain.err)), (vec![], vec![]));
    assert!(!plain.out.contains('\x1b') && !plain.err.contains('\x1b'), "{}{}", plain.out, plain.err);
    assert!(plain.err.contains(r"a\u{1b}[2J\u{a}b.ndjson"), "{}", plain.err);
    assert!(plain.out.contains(r"configuration-set:\u{1b}]0;owned\u{7}"), "{}", plain.out);
    assert!(plain.out.contains("…xx") && !plain.out.contains(&long), "{}", plain.out);
    // Our own colours are still there, and no other escapes.
    assert!(coloured.out.contains("\x1b[1m"));
    assert_eq!(terminal::visible(&coloured.out), plain.out);
    let exact = json(&replay(&[&path, "--format", "json"]));
    let subjects = exact["totals"].as_array().unwrap().iter().map(|total| total["subject"].as_str().unwrap());
    let expected = format!("configuration-set:\x1b]0;owned\x07\x1b[2J\n\u{202e}\u{2066}\u{9b}31m\u{2028}letter{long}");
    assert!(subjects.into_iter().any(|subject| subject == expected));
    let missing = replay(&["--subject", "configuration-set:\x1b[2J", &path]);
    assert_eq!((missing.code, obeyed(&missing.err)), (2, vec![]), "{}", missing.err);
}

/// Two senders with exactly the same numbers at exactly the same times are still two senders.
#[test]
fn equal_numbers_are_not_the_same_mail() {
    let twin = |line: &String| {
        let line = line.replace("\"newsletter\"", "\"twin\"").replace("news.example.com", "twin.example.com");
        line.replace("\"receipts\"", "\"twin-receipts\"")
            .replace("shop.example.com", "shop-twin.example.com")
            .replace("\"messageId\":\"", "\"messageId\":\"twin-")
    };
    let stream: String = lines_of("stale-list").iter().map(|line| format!("{line}\n{}\n", twin(line))).collect();
    let ran = replay_of(stream.as_bytes(), &["-"]);
    for group in [
        "configuration-set:newsletter, identity:news.example.com (the same mail)",
        "configuration-set:twin, identity:twin.example.com (the same mail)",
    ] {
        assert!(ran.out.lines().any(|line| line == group), "{}", ran.out);
    }
    let (_, stops) = ran.out.split_once("Mail accepted while it would have been stopped").unwrap();
    let stops = stops.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(stops.contains(" configuration-set:newsletter: "), "{stops}");
    assert!(stops.contains(" configuration-set:twin: "), "{stops}");
    let report = json(&replay_of(stream.as_bytes(), &["-", "--format", "json"]));
    assert_eq!(report["same_mail"].as_array().unwrap().len(), 4, "{}", report["same_mail"]);
}

#[test]
fn mail_too_late_to_be_judged_causes_a_warning() {
    let late = lines_of("stale-list").join("\n").replace("2026-10-06T", "2026-09-06T");
    let young = String::from_utf8(tiny()).unwrap();
    let stream = format!("{}\n{late}\n", young.trim_end());
    let report = json(&replay_of(stream.as_bytes(), &["-", "--format", "json"]));
    let units = report["input"]["too_old_to_judge"].as_u64().unwrap();
    assert!(units > 8_000, "{units}");
    let warning = report["warnings"][0].as_str().unwrap();
    assert!(warning.contains("units came too late to be judged") && warning.contains("misdated"), "{warning}");
    let ran = replay_of(stream.as_bytes(), &["-"]);
    assert!(ran.err.contains(&format!("warning: {warning}")), "{}", ran.err);
    let flat = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(&format!("warning: {warning}")), "{flat}");
    let in_order = json(&replay_of(format!("{late}\n{young}").as_bytes(), &["-", "--format", "json"]));
    assert_eq!(in_order["input"]["too_old_to_judge"], 0);
    assert_eq!(in_order["warnings"], Value::Array(vec![]));
}

#[test]
fn harm_without_a_denominator_causes_a_warning() {
    let all = lines_of("stale-list");
    let harm = all.iter().filter(|line| !line.contains("\"newsletter\"") || line.contains("\"eventType\":\"Bounce\""));
    let stream: String = harm.map(|line| format!("{line}\n")).collect();
    let report = json(&replay_of(stream.as_bytes(), &["-", "--format", "json"]));
    let warning = "configuration-set:newsletter, identity:news.example.com have bounces but neither Send nor Delivery \
                   events, so rates are unknown; publish Send events";
    assert_eq!(report["warnings"], serde_json::json!([warning]));
    let ran = replay_of(stream.as_bytes(), &["-"]);
    assert_eq!(ran.err, format!("warning: {warning}\n"));
    assert!(ran.out.split_whitespace().collect::<Vec<_>>().join(" ").contains(&format!("warning: {warning}")));
}

#[test]
fn of_many_ignored_names_the_frequent_ones_are_shown() {
    let mut stream = String::from_utf8(tiny()).unwrap();
    for number in 0..15 {
        let line = format!("{{\"eventType\":\"Novelty{number:02}\",\"mail\":{{}}}}\n");
        stream.push_str(&line.repeat(20 - number));
    }
    let report = json(&replay_of(stream.as_bytes(), &["-", "--format", "json"]));
    let names = report["input"]["ignored_by_name"].as_object().unwrap().len();
    let text = replay_of(stream.as_bytes(), &["-"]).out;
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(names > 10, "{}", report["input"]);
    let (_, ignored) = flat.split_once("ignored: ").unwrap();
    let (shown, rest) = ignored.split_once(" … and ").unwrap();
    assert_eq!(shown.split(", ").count(), 10, "{flat}");
    assert!(rest.starts_with(&format!("{} other names (", names - 10)), "{flat}");
}

#[test]
fn the_hint_can_be_pasted() {
    let stream = stream("stale-list");
    let ran = check(&[&stream, "--policy", "infra/policy.toml"], 0, &[]);
    let (_, hint) = ran.out.split_once("The evidence for it:\n").unwrap();
    let hint = hint.split("\n\n").next().unwrap().replace("\\\n", " ");
    let words: Vec<&str> = hint.split_whitespace().collect();
    assert_eq!(words[..4], ["replay", "explain", stream.as_str(), "--policy"]);
    let explained = check(&words[1..], 0, &[]);
    assert!(explained.out.contains("decided: "), "{}", explained.out);
}

#[test]
fn an_isp_is_known_in_any_case() {
    let asked = |isp: &str| {
        let at = ["--at", "2026-10-06T08:30", "--subject", "configuration-set:newsletter", "--isp", isp];
        check(&[&["explain", &stream("stale-list")][..], &at].concat(), 0, &[]).out
    };
    assert_eq!(asked("GMail"), asked("gmail"));
}

#[test]
fn help_looks_like_this() {
    insta::assert_snapshot!("help", replay(&["--help"]).out);
}

#[test]
fn colours_are_for_those_who_want_them() {
    let escapes =
        |arguments: &[&str]| replay(&[&[stream("stale-list").as_str()], arguments].concat()).out.contains('\x1b');
    assert!(!escapes(&[]));
    assert!(!escapes(&["--color", "never"]));
    assert!(escapes(&["--color", "always"]));
    let stripped = terminal::visible(&replay(&[&stream("stale-list"), "--color", "always"]).out);
    assert_eq!(stripped, replay(&[&stream("stale-list")]).out);
}

#[test]
fn a_summary_has_only_the_totals_and_the_result() {
    let ran = check(&[&stream("stale-list"), "--summary"], 0, &[]);
    insta::assert_snapshot!(ran.out);
    let of_one = check(&[&stream("stale-list"), "--summary", "--subject", "identity:shop.example.com"], 0, &[]).out;
    assert!(
        of_one.contains("\nsent 858, delivered 829, hard bounces 23 (2.7 %), ")
            && of_one.ends_with("\nnothing would have been stopped\n"),
        "{of_one}"
    );
    check(&[&stream("stale-list"), "--summary", "--quota"], 2, &["cannot be used with"]);
}

/// The summary agrees with the report, has all counters, and a mail that is stopped for several subjects counts once.
#[test]
fn a_summary_in_json_adds_up() {
    let folder = root().join("events/streams");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path().display().to_string();
        let report = json(&replay(&[&path, "--format", "json"]));
        let summary = json(&check(&[&path, "--format", "json", "--summary"], 0, &[]));
        assert_eq!(summary["input"], report["input"], "{path}");
        let rows = |list: &str| report[list].as_array().unwrap().clone();
        let is_of_set = |row: &Value| row["subject"].as_str().unwrap().starts_with("configuration-set:");
        let sum = |rows: &[Value], name: &str| {
            rows.iter().filter(|row| is_of_set(row)).filter_map(|row| row[name].as_u64()).sum::<u64>()
        };
        for (name, count) in summary["mail"].as_object().unwrap() {
            assert_eq!(count.as_u64().unwrap(), sum(&rows("totals"), name), "{name} of {path}");
        }
        assert_eq!(summary["mail"].as_object().unwrap().len(), reputation::unit::UnitKind::ALL.len());
        let stops = rows("stopped");
        let mails = stops.iter().filter(|stop| is_of_set(stop));
        let mails =
            mails.map(|stop| stop["sent"].as_u64().unwrap().max(stop["attempts"].as_u64().unwrap())).sum::<u64>();
        assert_eq!(summary["held_back"], serde_json::json!({ "mails": mails, "is_all": true }), "{path}");
        let opened = rows("transitions").iter().any(|moved| moved["to"] == "open" && moved["from"] != "open");
        assert_eq!(summary["stopped"], opened, "{path}");
        let last = replay(&[&path]).out;
        let last = last.trim_end().rsplit("\n\n").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(summary["result"], last, "{path}");
        let rate = &summary["rates"]["hard_bounce"];
        let (bad, population) = (rate["bad"].as_f64().unwrap(), rate["population"].as_f64().unwrap());
        assert!((rate["rate"].as_f64().unwrap() - bad / population).abs() < 1e-12, "{rate}");
    }
}

#[test]
fn off_a_terminal_nothing_but_results_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html").display().to_string();
    let whole = fs::read(root().join(stream("stale-list"))).unwrap();
    assert_eq!(check(&[&stream("stale-list")], 0, &[]).err, "");
    assert_eq!(replay_of(&whole, &["-"]).err, "");
    assert_eq!(check(&["simulate", "--seeds", "1", "--days", "2"], 0, &[]).err, "");
    let written = check(&[&stream("stale-list"), "--report", &page, "--format", "json"], 0, &[]);
    assert_eq!(written.err, format!("report written to {page}\n"));
    json(&written);
    assert_eq!(check(&[&stream("stale-list"), "--report", &page, "--quiet"], 0, &[]).err, "");
}

#[test]
fn completions_and_manual_pages_have_all_commands() {
    for (shell, says) in [("bash", "complete -F _replay"), ("zsh", "#compdef replay"), ("fish", "complete -c replay")] {
        let script = check(&["completions", shell], 0, &[]).out;
        for word in [says, "explain", "simulate", "max-subjects", "summary"] {
            assert!(script.contains(word), "{shell} has no {word:?}: {script}");
        }
    }
    check(&["completions", "sh"], 2, &["bash"]);
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("pages/man1").display().to_string();
    let listed = check(&["man", &pages], 0, &[]).out;
    for command in ["", "-check", "-explain", "-plan", "-simulate", "-generate", "-completions", "-man"] {
        let page = fs::read_to_string(format!("{pages}/replay{command}.1")).unwrap();
        assert!(page.contains(".SH NAME"), "{command}: {page}");
        assert!(listed.contains(&format!("{pages}/replay{command}.1\n")), "{listed}");
    }
    assert!(fs::read_to_string(format!("{pages}/replay.1")).unwrap().contains("Exit codes"));
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    check(&["man", &file.display().to_string()], 2, &["error: cannot write", "file"]);
}
