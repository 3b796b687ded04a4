//! The demo: in this process, where no time passes, and the program as a user runs it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use local::demo::{Moment, Next};
use local::story::{Event, Kind};
use local::{Demo, Settings};
use operator::{dashboard, demo};
use reputation::time::{HOUR, Now};
use serde_json::{Value, json};

/// 2026-10-06, 05:00 UTC.
const START: Now = Now(1_791_262_800_000);

pub(crate) fn settings(seed: u64) -> Settings {
    Settings { seed, start: START, healthy: HOUR / 2, quiet: 2, window: 120 }
}

/// The story until an event of this kind about this configuration set.
pub(crate) async fn story(demo: &mut Demo, kind: Kind, set: &str) -> Vec<Event> {
    let subject = format!("configuration-set:{set}");
    let latest = START.plus_minutes(12 * HOUR);
    let mut story: Vec<Event> = Vec::new();
    let mut each = |moment: &Moment<'_>| {
        assert!(moment.now < latest, "no {kind:?} of {set}: {story:#?}");
        story.extend(moment.story.iter().cloned());
        let is_there = moment.story.iter().any(|event| event.kind == kind && event.subject.as_ref() == Some(&subject));
        if is_there { Next::End } else { Next::Second }
    };
    demo.run(&mut each).await.unwrap();
    story
}

#[tokio::test(start_paused = true)]
async fn a_bad_list_is_stopped_tested_and_sent_again_and_the_dashboard_shows_the_truth() {
    let mut demo = Demo::new(settings(1)).unwrap();
    let story = story(&mut demo, Kind::Sending, "newsletter").await;
    let mut kinds: Vec<Kind> = Vec::new();
    for event in story.iter().filter(|event| event.subject.as_deref() == Some("configuration-set:newsletter")) {
        if kinds.last() != Some(&event.kind) {
            kinds.push(event.kind);
        }
    }
    let acts: Vec<Kind> = kinds.into_iter().filter(|kind| *kind != Kind::Warned).collect();
    let stopped = [Kind::Campaign, Kind::Stopped, Kind::Refused, Kind::Cleaned];
    // Without a gate the test is stopped for its outcomes.
    let tested = [Kind::Testing, Kind::Accepted, Kind::Stopped, Kind::Refused, Kind::Accepted, Kind::Sending];
    let expected: Vec<Kind> = stopped.into_iter().chain(tested).collect();
    assert_eq!(acts, expected, "{story:#?}");
    let stopped = story.iter().find(|event| event.kind == Kind::Stopped).unwrap();
    assert!(stopped.text.contains("mails bounced hard"), "{stopped:?}");

    demo.settle().await.unwrap();
    let view = dashboard::view(&demo::access(demo.cloud()), demo.clock().now()).await.unwrap();
    assert_eq!(view.title, "demo in memory");
    for (set, truth) in demo.truth() {
        let name = format!("configuration-set:{set}");
        let shown = view.keys.iter().find(|key| key.subject == name && key.isp.is_none()).unwrap();
        let shown: BTreeMap<&str, u64> = shown.counters.iter().map(|(name, count)| (*name, *count)).collect();
        assert_eq!(&shown, truth, "{set}");
        assert!(truth["sent"] > 500 && truth["delivered"] > 500, "{set}: {truth:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_story_and_another_seed_another() {
    let of = |seed| {
        let mut demo = Demo::new(settings(seed)).unwrap();
        let story = local::demo::block_on(story(&mut demo, Kind::Refused, "newsletter")).unwrap();
        (story, demo.truth().clone())
    };
    let first = of(2);
    assert_eq!(first, of(2));
    assert_ne!(first, of(3));
}

/// The program, which ends with the test.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    /// Starts it in an environment without any configuration of AWS.
    fn begin(folder: &Path, arguments: &[&str]) -> Running {
        let mut program = Command::new(env!("CARGO_BIN_EXE_ses-breaker"));
        program.arg("demo").args(arguments).current_dir(folder).env_clear().env("HOME", folder);
        let mut child = program.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    /// The next lines of these kinds about this subject, in whatever order they come.
    fn next<const N: usize>(&mut self, events: [&str; N], subject: &Value) -> [Value; N] {
        let mut found = [const { Value::Null }; N];
        while found.iter().any(Value::is_null) {
            let line = self.lines.next().unwrap_or_else(|| panic!("it ended without {events:?}: {found:?}")).unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            let place = events.iter().position(|event| line["event"] == *event && line["subject"] == *subject);
            if let Some(place) = place.filter(|place| found[*place].is_null()) {
                found[place] = line;
            }
        }
        found
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request to the dashboard and returns its answer.
fn ask(url: &str, path: &str, body: Option<&Value>) -> Value {
    let (host, token) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let body = body.map(Value::to_string).unwrap_or_default();
    let method = if body.is_empty() { "GET" } else { "POST" };
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "{method} /{token}{path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn a_stop_on_the_dashboard_stops_the_set_and_the_sender_until_it_is_resumed_and_ctrl_c_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--format", "json", "--speed", "120", "--for", "300", "--seed", "5"];
    let mut running = Running::begin(folder.path(), &arguments);
    let [ready] = running.next(["ready"], &Value::Null);
    let url = ready["url"].as_str().unwrap().to_owned();
    let receipts = json!("configuration-set:receipts");
    let say = |word: &str| {
        let order = json!({ "word": word, "subject": receipts, "isp": null, "reason": "to see what happens" });
        let answer = ask(&url, "say", Some(&order));
        assert_eq!(answer["done"], true, "{answer}");
    };
    let view = ask(&url, "view.json", None);
    assert!(view["warnings"][0].as_str().unwrap().starts_with("This is a demo: "), "{view}");
    assert_eq!((&view["refresh_seconds"], &view["shadow"]), (&json!(2), &json!(false)));

    say("stop");
    // SES is asked first, and people are notified second: mail may be refused before that.
    let [stopped, _] = running.next(["stopped", "refused"], &receipts);
    assert!(stopped["text"].as_str().unwrap().contains("(by you: to see what happens)"), "{stopped}");
    let view = ask(&url, "view.json", None);
    let keys = view["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["subject"] == receipts && key["isp"].is_null()).unwrap();
    assert_eq!((&key["state"], &key["hold"]), (&json!("open"), &json!("open")), "{key}");
    say("resume");
    running.next(["accepted"], &receipts);

    let id = running.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "something is left behind");
}

#[test]
fn a_port_that_is_taken_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut program = Command::new(env!("CARGO_BIN_EXE_ses-breaker"));
    let output = program.args(["demo", "--port", &port]).current_dir(folder.path()).env_clear().output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains(&format!("error: cannot listen on 127.0.0.1:{port}")), "{error}");
    assert!(error.contains("choose another with --port"), "{error}");
}
