//! What another policy would have changed, on the ledger of a stack in this process and on objects in a mock of S3.

use std::collections::BTreeMap;

use e2e::stack::Stack;
use operator::backtest::{Order, PolicyFile, Recording, backtest};
use operator::{Access, Answer, Exit, Failure};
use replay::driver::{MAX_SUBJECTS, Options, replay};
use replay::input::{Progress, Source};
use replay::report::Report;
use reputation::Policy;
use reputation::time::Now;
use serde_json::Value;
use terminal::{TermStyle, visible};

use crate::account::Account;
use crate::answers::{self, answered};
use crate::bucket::Bucket;
use crate::sender::{MORNING, subject, troubled};

const STRICT: &str = "[metrics.hard_bounce]\nthrottle = 4\npause = 5\n";
const NO_GATE: &str = "[gate]\nin_use = false\n";
/// 2026-11-21: after all streams.
const LATER: Now = Now(1_795_219_200_000);

fn order(toml: &str, recording: Recording) -> Order {
    let policy = PolicyFile { file: "my.toml".to_owned(), toml: toml.to_owned() };
    Order { policy, against: None, gate: true, recording, since: None, until: None }
}

async fn tested(access: &Access, order: &Order, now: Now) -> Result<Answer, Failure> {
    answered(backtest(access, order, now, &|_, _, _| {}).await)
}

fn parsed(answer: &Answer) -> Value {
    assert_eq!(answer.exit, Exit::Done, "{}", answer.text);
    answers::parsed(answer)
}

#[tokio::test(start_paused = true)]
async fn a_ledger_is_backtested_and_the_same_policy_changes_nothing() {
    let (account, _stack) = troubled().await;
    // The stack of these tests has no gate; only its functions know that.
    Stack::push(&account.cloud, NO_GATE).await;
    let now = MORNING.plus_minutes(3);
    let same = tested(&account.access(), &order(NO_GATE, Recording::Ledger), now).await.unwrap();
    let output = parsed(&same);
    assert_eq!(output["same_mail"][0][0], subject("configuration-set:news").to_string());
    assert_eq!(output["changes"], Value::Array(Vec::new()));
    assert_eq!((&output["in_use"]["pauses"], &output["input"]["recorded"]), (&1.into(), &602.into()));
    insta::assert_snapshot!("same", visible(&same.text));
    let lenient = "[metrics.hard_bounce]\nlimit = 0.5\n\n[[ratios]]\nmetric = \"complaint\"\nwindow_hours = 24\n\
                   min_population = 5000\nmin_bad = 5\nwarn = 0.01\n";
    let lenient = format!("{lenient}\n{NO_GATE}");
    let lenient = tested(&account.access(), &order(&lenient, Recording::Ledger), now).await.unwrap();
    assert!(parsed(&lenient)["changes"].as_array().unwrap().iter().all(|change| change["became"] == "gone"));
    insta::assert_snapshot!("lenient", visible(&lenient.text));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_backtested_says_what_to_do() {
    let account = Account::with(&["news"]);
    let access = account.access();
    let empty = tested(&access, &order("", Recording::Ledger), MORNING).await.unwrap_err();
    assert_eq!((empty.to_string().as_str(), empty.exit()), ("there is no unit in test-ledger", Exit::No));
    let invalid = tested(&access, &order("mode = 3", Recording::Ledger), MORNING).await.unwrap_err();
    assert_eq!(invalid.exit(), Exit::Usage);
    assert!(invalid.to_string().contains("is not a valid policy: line 1, column 1: "), "{invalid}");
    let moment = |text: &str| Some(text.parse().unwrap());
    let backwards = Order { since: moment("2026-10-07"), until: moment("2026-10-06"), ..order("", Recording::Ledger) };
    let backwards = tested(&access, &backwards, MORNING).await.unwrap_err();
    assert_eq!(
        (backwards.remedy().as_str(), backwards.exit()),
        ("Choose an earlier --since or a later --until.", Exit::Usage)
    );
    let nobody = tested(&account.access_to("nobody"), &order("", Recording::Ledger), MORNING).await.unwrap_err();
    assert!(nobody.remedy().contains("--stack or SES_BREAKER_STACK"), "{nobody:?}");
    account.state().refusals = vec![(400, "AccessDeniedException", "not authorized to perform: dynamodb:Scan")];
    let denied = tested(&access, &order("", Recording::Ledger), MORNING).await.unwrap_err();
    assert!(denied.remedy().contains("Allow the caller that action"), "{denied:?}");
}

/// The keys that open, and how often.
fn trips(report: &Report) -> BTreeMap<(String, Option<String>), usize> {
    let mut trips = BTreeMap::new();
    for transition in report.transitions.iter().filter(|transition| transition.opens()) {
        *trips.entry((transition.subject.to_string(), transition.isp.clone())).or_default() += 1;
    }
    trips
}

/// The ledger's part of promise 2; the differences in time, for every stream, are in the tests of `replay`.
#[tokio::test(start_paused = true)]
async fn the_ledger_of_a_stack_has_the_trips_of_its_replay() {
    let stream = sample("stale-list");
    let plain = crate::bucket::inflated(&stream);
    let account = Account::default();
    let mut stack = Stack::new(&account.cloud, true);
    let text = String::from_utf8_lossy(&plain);
    let lines: Vec<&str> = text.lines().collect();
    for batch in lines.chunks(1000) {
        stack.ingest(batch, LATER).await.unwrap();
    }
    let backtested = parsed(&tested(&account.access(), &order("", Recording::Ledger), LATER).await.unwrap());
    let of_stream = replayed(&stream);
    let mut gone: BTreeMap<(String, Option<String>), usize> = BTreeMap::new();
    // Under a policy that stops nothing, every trip of the one in use is reported as gone.
    let blind = "[metrics.hard_bounce]\nlimit = 0.5\nthrottle = 1000\npause = 1000\n\n[[ratios]]\nmetric = \"delay\"\n\
                 window_hours = 24\nmin_population = 500\nmin_bad = 5\nwarn = 0.5\n";
    let blind = parsed(&tested(&account.access(), &order(blind, Recording::Ledger), LATER).await.unwrap());
    for change in blind["changes"].as_array().unwrap() {
        assert_eq!(change["became"], "gone", "{change}");
        let key = (change["subject"].as_str().unwrap().to_owned(), change["isp"].as_str().map(str::to_owned));
        *gone.entry(key).or_default() += 1;
    }
    assert_eq!(gone, trips(&of_stream));
    assert_eq!(backtested["input"]["recorded"], of_stream.input.recorded);
}

/// The report of `replay` for the sample stream.
fn replayed(stream: &[u8]) -> Report {
    let policy = Policy::default().in_world(true);
    let options = Options {
        policy,
        real_now: LATER.0,
        since: None,
        until: None,
        stop_at: None,
        workers: 0,
        max_subjects: MAX_SUBJECTS,
    };
    let replayed = replay(&options, &[Source::memory("stream", stream.to_vec())], &mut |_| {}, &Progress::new());
    Report::of(&replayed.unwrap(), None)
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("../../events/streams/{name}.ndjson.gz")).unwrap()
}

#[tokio::test]
async fn objects_are_judged_as_replay_judges_their_files() {
    let stream = sample("stale-list");
    let plain = crate::bucket::inflated(&stream);
    let half = plain[..plain.len() / 2].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let bucket = Bucket::with(&[
        ("mail/2026/10/06/06/a.gz", crate::bucket::deflated(&plain[..half])),
        ("mail/2026/10/06/09/b", plain[half..].to_vec()),
        ("mail/2026/", Vec::new()),
        ("other/c", b"no event".to_vec()),
    ]);
    let order = order(STRICT, Recording::Objects("s3://mail-events/mail/".parse().unwrap()));
    let output = parsed(&tested(&bucket.access(), &order, LATER).await.unwrap());
    let report = serde_json::to_value(replayed(&stream)).unwrap();
    assert_eq!(output["objects"], 2);
    assert_eq!(output["damaged"], Value::Array(Vec::new()));
    assert_eq!(output["input"], report["input"]);
    let trips = report["transitions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|moved| moved["to"] == "open" && moved["from"] != "open" && !moved["level"].is_null());
    assert_eq!(output["in_use"]["trips"], trips.count());
}

#[tokio::test]
async fn a_damaged_object_is_named_and_stops_nothing() {
    let whole = sample("stale-list");
    let cut = sample("isp-throttling");
    let bucket = Bucket::with(&[
        ("1-cut.gz", cut[..cut.len() / 2].to_vec()),
        ("2-plain.gz", crate::bucket::inflated(&whole)[..20_000].to_vec()),
        ("3-empty.gz", Vec::new()),
        ("4-whole.gz", whole),
    ]);
    let order = order("", Recording::Objects("s3://mail-events".parse().unwrap()));
    let answer = tested(&bucket.access(), &order, LATER).await.unwrap();
    let output = parsed(&answer);
    let damaged: Vec<&str> =
        output["damaged"].as_array().unwrap().iter().map(|object| object["object"].as_str().unwrap()).collect();
    assert_eq!(damaged, ["s3://mail-events/1-cut.gz", "s3://mail-events/2-plain.gz", "s3://mail-events/3-empty.gz"]);
    assert!(output["in_use"]["trips"].as_u64() > Some(0), "{output}");
    insta::assert_snapshot!("damaged", visible(&answer.text));
}

#[tokio::test]
async fn a_bucket_in_another_region_is_asked_there() {
    let bucket = Bucket::with(&[("a.gz", sample("stale-list"))]);
    bucket.state().region = "us-east-1".to_owned();
    let order = order("", Recording::Objects("s3://mail-events/".parse().unwrap()));
    parsed(&tested(&bucket.access(), &order, LATER).await.unwrap());
    let asked = bucket.state().regions.clone();
    assert_eq!((asked.first().unwrap().as_str(), asked.last().unwrap().as_str()), ("eu-west-1", "us-east-1"));
}

#[tokio::test]
async fn refusals_of_s3_come_with_a_remedy() {
    let check =
        async |refused: Option<(&'static str, u16, &'static str)>, place: &str, words: &str, remedy: &str, exit| {
            let bucket = Bucket::with(&[("a", b"{}".to_vec())]);
            bucket.state().refused = refused;
            let failure = tested(&bucket.access(), &order("", Recording::Objects(place.parse().unwrap())), LATER).await;
            let failure = failure.unwrap_err();
            assert!(failure.to_string().contains(words), "{failure}");
            assert!(failure.remedy().contains(remedy), "{failure}: {}", failure.remedy());
            assert_eq!(failure.exit(), exit, "{failure}");
        };
    check(
        Some(("list", 404, "NoSuchBucket")),
        "s3://mail-events/",
        "NoSuchBucket",
        "no bucket mail-events",
        Exit::Usage,
    )
    .await;
    check(
        Some(("list", 403, "AccessDenied")),
        "s3://mail-events/",
        "AccessDenied",
        "s3:ListBucket on arn:aws:s3:::mail-events;",
        Exit::Refused,
    )
    .await;
    check(
        Some(("get", 403, "AccessDenied")),
        "s3://mail-events/",
        "AccessDenied",
        "s3:GetObject on arn:aws:s3:::mail-events/*",
        Exit::Refused,
    )
    .await;
    check(
        Some(("list", 301, "PermanentRedirect")),
        "s3://mail-events/",
        "PermanentRedirect",
        "--region",
        Exit::Refused,
    )
    .await;
    check(
        None,
        "s3://mail-events/none/",
        "no object in s3://mail-events/none/",
        "must match the keys exactly",
        Exit::Usage,
    )
    .await;
    check(None, "s3://mail-events/", "no SES event in 1 lines", "contain SES events", Exit::Usage).await;
}

#[tokio::test]
async fn isps_are_proposed_from_objects_too() {
    let bounce = |id: u32| {
        let mail = format!(
            r#""mail":{{"timestamp":"2026-10-06T09:00:00.000Z","messageId":"m{id}","source":"a@news.example","destination":["r{id}@school.example"]}}"#
        );
        format!(
            r#"{{"eventType":"Bounce",{mail},"bounce":{{"bounceType":"Transient","bounceSubType":"General","timestamp":"2026-10-06T09:00:01.000Z","feedbackId":"f{id}","bouncedRecipients":[{{"emailAddress":"r{id}@school.example","diagnosticCode":"smtp; 452 4.2.2 over quota - gsmtp"}}]}}}}"#
        )
    };
    let lines = [bounce(1), bounce(2), "no event".to_owned()].join("\n");
    let bucket = Bucket::with(&[("mail/a.gz", crate::bucket::deflated(lines.as_bytes())), ("mail/b.gz", Vec::new())]);
    let arguments = ["ses-breaker", "isps", "propose", "--s3", "s3://mail-events/mail/", "--no-lookup"];
    let arguments = arguments.map(std::ffi::OsString::from);
    let answer = operator::cli::answered(&bucket.access(), arguments, LATER, TermStyle::new(None)).await.unwrap();
    let output = parsed(&answer);
    assert_eq!(
        (&output["proposals"][0]["domain"], &output["proposals"][0]["mails"]),
        (&"school.example".into(), &2.into())
    );
    assert_eq!(output["proposals"][0]["isp"], "google-workspace");
    let notes = output["notes"].as_array().unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].as_str().unwrap().starts_with("1 message could not be read"), "{notes:?}");
    assert!(notes[1].as_str().unwrap().starts_with("object s3://mail-events/mail/b.gz"), "{notes:?}");
}
