//! Proposals of ISPs: with a mock resolver, with a DNS server on this machine, and added to a policy.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use e2e::stack::Stack;
use operator::isps::resolve::{Dns, Exchange, Limits, MxAnswer, MxLookup};
use operator::isps::{self, Change, Done, Gathered, Order, Proposed, Reason};
use operator::{Answer, Exit};
use replay::domains::DomainBook;
use replay::driver::{Extras, MAX_SUBJECTS, Options, replay_while_readable};
use replay::input::{Progress, Source};
use reputation::Policy;
use reputation::isp::IspMap;
use reputation::time::Now;
use serde_json::Value;
use terminal::{TermStyle, visible};

use crate::account::Account;

/// 2026-10-06 09:00:00 UTC.
const MORNING: Now = Now(1_791_277_200_000);

/// A resolver with fixed answers.
struct Known(BTreeMap<&'static str, MxAnswer>);

impl MxLookup for Known {
    async fn mx(&self, domain: &str) -> MxAnswer {
        self.0.get(domain).cloned().unwrap_or(MxAnswer::NoSuchDomain)
    }
}

fn hosts(hosts: &[(u16, &str)]) -> MxAnswer {
    let exchange = |(preference, host): &(u16, &str)| Exchange { preference: *preference, host: (*host).to_owned() };
    MxAnswer::Exchanges(hosts.iter().map(exchange).collect())
}

fn known() -> Known {
    Known(BTreeMap::from([
        ("big.example", hosts(&[(10, "mx2.example.iphmx.com"), (10, "mx1.example.iphmx.com"), (20, "mx.big.example")])),
        ("school.example", hosts(&[(1, "aspmx.l.google.com")])),
        ("shop.example", hosts(&[(0, "shop-example.mail.protection.outlook.com")])),
        ("late.example", MxAnswer::TimedOut),
        ("farm.example", hosts(&[(10, "mx.hoster.example")])),
        ("self.example", hosts(&[(10, "self.example")])),
        ("null.example", hosts(&[(0, "")])),
    ]))
}

fn book(domains: &[(&str, u64)]) -> DomainBook {
    let mut book = DomainBook::new(IspMap::builtin());
    for (domain, mails) in domains {
        (0..*mails).for_each(|_| book.count(domain));
    }
    book
}

fn gathered(book: DomainBook) -> Gathered {
    let (source, policy) = ("events/".to_owned(), "the built-in policy".to_owned());
    Gathered { source, policy, notes: Vec::new(), book }
}

const DOMAINS: &[(&str, u64)] = &[
    ("gmail.com", 100),
    ("big.example", 40),
    ("school.example", 30),
    ("shop.example", 9),
    ("late.example", 8),
    ("farm.example", 7),
    ("self.example", 6),
    ("null.example", 5),
    ("gone.example", 4),
    ("small.example", 1),
];

async fn proposed(book: DomainBook, order: &Order, lookup: Option<&Known>) -> Proposed {
    isps::propose(gathered(book), order, lookup, &|_, _, _| {}).await
}

fn answered(proposed: &Proposed) -> Answer {
    Answer::of(proposed, TermStyle::new(Some(120)))
}

/// Checks that every mail to a domain without an ISP is in a proposal, or under a reason.
fn adds_up(proposed: &Proposed) {
    let decided: u64 = proposed.proposals.iter().map(|proposal| proposal.mails).sum();
    let undecided: u64 = proposed.undecided.iter().map(|undecided| undecided.mails).sum();
    assert_eq!(decided + undecided, proposed.other_mails, "{proposed:?}");
}

#[tokio::test(start_paused = true)]
async fn proposals_come_with_their_evidence_and_the_others_with_a_reason() {
    let order = Order { min_mails: 2, ..Order::default() };
    let proposed = proposed(book(DOMAINS), &order, Some(&known())).await;
    adds_up(&proposed);
    Policy::from_toml(&proposed.toml).unwrap();
    let answer = answered(&proposed);
    assert_eq!(answer.exit, Exit::Done);
    insta::assert_snapshot!("proposals", visible(&answer.text));
    let json: Value = serde_json::from_str(&answer.json).unwrap();
    assert_eq!(json["proposals"][0]["mx_host"], "mx1.example.iphmx.com");
}

#[tokio::test(start_paused = true)]
async fn only_the_domains_with_the_most_mail_are_asked_for() {
    let proposed = proposed(book(DOMAINS), &Order { top: 2, ..Order::default() }, Some(&known())).await;
    adds_up(&proposed);
    assert_eq!((proposed.looked_up, proposed.proposals.len()), (2, 2));
    assert_eq!(proposed.undecided.iter().map(|undecided| undecided.reason).collect::<Vec<_>>(), [Reason::BeyondTop]);
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_never_answers_is_said_to_be_out_of_reach() {
    let nobody = Known(BTreeMap::from([("late.example", MxAnswer::TimedOut)]));
    let proposed = proposed(book(&[("late.example", 3)]), &Order::default(), Some(&nobody)).await;
    let answer = answered(&proposed);
    assert_eq!(answer.exit, Exit::Refused);
    assert!(answer.text.contains("--resolver"), "{}", answer.text);
}

fn event(kind: &str, id: u32, to: &str, ses: &str, detail: &str) -> String {
    let at = "2026-10-06T09:00:00.000Z";
    format!(
        r#"{{"eventType":"{kind}","mail":{{"timestamp":"{at}","messageId":"m{id}","source":"a@news.example","destination":["{to}"],"tags":{{"ses:recipient-isp":["{ses}"]}}}},{detail}}}"#
    )
}

/// Events of mails that bounce, with the server's text.
fn returned(from: u32, count: u32, domain: &str, ses: &str, text: &str) -> Vec<String> {
    let mut events = Vec::new();
    for id in from..from + count {
        let to = format!("reader{id}@{domain}");
        events.push(event("Send", id, &to, ses, r#""send":{}"#));
        let bounce = format!(
            r#""bounce":{{"bounceType":"Transient","bounceSubType":"General","timestamp":"2026-10-06T09:00:01.000Z","feedbackId":"f{id}","bouncedRecipients":[{{"emailAddress":"{to}","diagnosticCode":"{text}"}}]}}"#
        );
        events.push(event("Bounce", id, &to, ses, &bounce));
    }
    events
}

fn events() -> Vec<String> {
    let google = "smtp; 452 4.2.2 over quota 4fb4d7f45d1cf - gsmtp";
    let mimecast = "smtp; 451 Internal resource (eu-smtp-inbound-1.mimecast.com)";
    let mut events = returned(0, 4, "school.example", "Gmail", google);
    events.extend(returned(10, 3, "shop.example", "ExchangeOnline", mimecast));
    events.extend(returned(20, 2, "quiet.example", "ExchangeOnline", "smtp; 450 4.2.1 try again"));
    events.extend(returned(30, 1, "unknown.example", "UNKNOWN_ISP", "smtp; 450 4.2.1 try again"));
    events.extend(returned(40, 1, "torn.example", "UNKNOWN_ISP", google));
    events.extend(returned(41, 1, "torn.example", "UNKNOWN_ISP", mimecast));
    events.extend(returned(50, 5, "gmail.com", "Gmail", google));
    events.extend(returned(60, 2, "orange.fr", "Gmail", "smtp; 450 4.2.1 try again"));
    events
}

fn book_of_events() -> DomainBook {
    let policy = Policy::default();
    let options = Options {
        policy,
        real_now: MORNING.0,
        since: None,
        until: None,
        stop_at: None,
        workers: 0,
        max_subjects: MAX_SUBJECTS,
    };
    let sources = [Source::memory("events", events().join("\n").into_bytes())];
    let extras = Extras { domains: true, ..Extras::default() };
    let (replay, outcome) = replay_while_readable(&options, extras, &sources, &mut |_| {}, &Progress::new());
    outcome.unwrap();
    replay.domains.unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_look_ups_servers_and_ses_are_believed() {
    let proposed = proposed(book_of_events(), &Order::default(), None).await;
    adds_up(&proposed);
    let answer = answered(&proposed);
    insta::assert_snapshot!("without_look_ups", visible(&answer.text));
}

#[tokio::test(start_paused = true)]
async fn mx_records_decide_and_names_from_servers_and_ses_are_shown_with_them() {
    let proposed = proposed(book_of_events(), &Order::default(), Some(&known())).await;
    adds_up(&proposed);
    let shop = proposed.proposals.iter().find(|proposal| proposal.domain == "shop.example").unwrap();
    assert_eq!((shop.isp, shop.hints.as_ref().unwrap().isp), ("microsoft-365", "mimecast"));
    assert_eq!((shop.ses[0].name.as_str(), shop.ses[0].agrees), ("ExchangeOnline", Some(true)));
    insta::assert_snapshot!("with_look_ups", visible(&answered(&proposed).text));
}

#[tokio::test]
async fn a_real_resolver_reads_what_a_dns_server_says() {
    let limits = Limits { each: Duration::from_millis(400), ..Limits::default() };
    let resolver = Dns::new(Some(crate::dns::start()), limits).unwrap();
    let mut domains: Vec<(&str, u64)> = crate::dns::DOMAINS.iter().map(|(domain, _)| (*domain, 1)).collect();
    domains.push(("absent.example", 1));
    let order = Order { limits, ..Order::default() };
    let proposed = isps::propose(gathered(book(&domains)), &order, Some(&resolver), &|_, _, _| {}).await;
    adds_up(&proposed);
    let found: Vec<(&str, &str)> =
        proposed.proposals.iter().map(|proposal| (proposal.domain.as_str(), proposal.isp)).collect();
    assert_eq!(
        found,
        [
            ("filtered.example", "proofpoint"),
            ("tenant.example", "microsoft-365"),
            ("workspace.example", "google-workspace")
        ]
    );
    let reasons: Vec<(Reason, &str)> =
        proposed.undecided.iter().map(|undecided| (undecided.reason, undecided.examples[0].domain.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (Reason::NoSuchDomain, "absent.example"),
            (Reason::NullMx, "null.example"),
            (Reason::NoMx, "nothing.example"),
            (Reason::OwnServer, "own.example"),
            (Reason::UnknownHost, "strange.example"),
            (Reason::HostsDisagree, "mixed.example"),
            (Reason::TimedOut, "silent.example"),
            (Reason::Failed, "broken.example"),
        ]
    );
}

async fn applied(account: &Account, yes: bool) -> Proposed {
    let access = account.access();
    let mut proposed = proposed(book(DOMAINS), &Order::default(), Some(&known())).await;
    let current = access.policies().current().await.unwrap();
    let ask = |_: &str, change: &Change| {
        let domains: Vec<&str> = change.added.iter().map(|(domain, _)| domain.as_str()).collect();
        assert!(domains.contains(&"big.example") || domains.contains(&"school.example"), "{domains:?}");
        yes
    };
    let outcome = isps::apply(&access, current.as_ref(), &mut proposed, &ask, MORNING).await;
    outcome.unwrap();
    proposed
}

#[tokio::test(start_paused = true)]
async fn entries_are_added_to_the_policy_in_use_once_the_answer_is_yes() {
    let account = Account::with(&[]);
    Stack::push(&account.cloud, "# ours\n[isps]\n\"Big.example\" = \"other\" # they asked for it\n").await;
    let no = applied(&account, false).await;
    assert_eq!((answered(&no).exit, no.change.as_ref().unwrap().done), (Exit::No, Done::Declined));
    let yes = applied(&account, true).await;
    let answer = answered(&yes);
    assert_eq!(answer.exit, Exit::Done);
    insta::assert_snapshot!("applied", visible(&answer.text));
    let current = account.access().policies().current().await.unwrap().unwrap();
    assert_eq!(
        current.toml,
        "mode = \"act\"\n# ours\n[isps]\n\"Big.example\" = \"other\" # they asked for it\n\"school.example\" = \"google-workspace\"\n\
         \"shop.example\" = \"microsoft-365\"\n"
    );
    let again = applied(&account, true).await;
    assert_eq!(again.change.as_ref().unwrap().done, Done::NothingToAdd);
    assert_eq!(account.access().policies().current().await.unwrap().unwrap().version, current.version);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_pushed_if_another_person_pushed_meanwhile() {
    let account = Account::with(&[]);
    let access = account.access();
    let mut proposed = proposed(book(DOMAINS), &Order::default(), Some(&known())).await;
    Stack::push(&account.cloud, "mode = \"shadow\"\n").await;
    let outcome = isps::apply(&access, None, &mut proposed, &|_, _| true, MORNING).await;
    outcome.unwrap();
    let answer = answered(&proposed);
    assert_eq!(answer.exit, Exit::No);
    assert!(answer.text.contains("another person pushed a policy"), "{}", answer.text);
    assert_eq!(access.policies().current().await.unwrap().unwrap().toml, "mode = \"shadow\"\n");
}

#[tokio::test]
async fn a_push_without_a_terminal_takes_a_yes() {
    let account = Account::with(&[]);
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    fs::write(&list, "tenant.example\n").unwrap();
    let server = crate::dns::start().to_string();
    let list = list.display().to_string();
    let tried = async |more: &[&str]| {
        let arguments =
            [&["ses-breaker", "isps", "propose", "--apply", "--resolver", &server, "--domains", &list], more].concat();
        let arguments = arguments.into_iter().map(std::ffi::OsString::from);
        operator::cli::answered(&account.access(), arguments, MORNING, TermStyle::new(None)).await.unwrap()
    };
    let declined = tried(&[]).await;
    assert_eq!(declined.exit, Exit::No, "{}", declined.text);
    assert!(account.access().policies().current().await.unwrap().is_none());
    let pushed = tried(&["--yes"]).await;
    assert_eq!(pushed.exit, Exit::Done, "{}", pushed.text);
    let current = account.access().policies().current().await.unwrap().unwrap();
    assert_eq!(current.toml, "[isps]\n\"tenant.example\" = \"microsoft-365\"\n");
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ses-breaker"))
        .args(["isps", "propose"])
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
fn check(folder: &Path, arguments: &[&str], code: i32, expected: &str) -> String {
    let output = run(folder, arguments);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(text.contains(expected), "{arguments:?}: {text}");
    text
}

#[test]
fn the_program_reads_events_and_lists_and_writes_a_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("events")).unwrap();
    fs::write(path.join("events/a.ndjson"), events().join("\n")).unwrap();
    fs::write(path.join("list.csv"), "email,name\nbob@tenant.example,Bob\namy@workspace.example,Amy\nx@gmail.com,X\n")
        .unwrap();
    fs::write(path.join("my.toml"), "# ours\nmode = \"act\"\n").unwrap();
    fs::write(path.join("bad.toml"), "mode = \"watch\"\n").unwrap();
    fs::write(path.join("empty.txt"), "\n# nothing\n").unwrap();
    let server = crate::dns::start().to_string();

    check(path, &["events", "--no-lookup"], 0, "\"school.example\" = \"google-workspace\"");
    let json =
        check(path, &["--domains", "list.csv", "--resolver", &server, "--format", "json"], 0, "\"looked_up\": 2");
    assert!(!json.contains("bob") && json.contains("1 line without a domain"), "{json}");
    let written = check(
        path,
        &["--domains", "list.csv", "--resolver", &server, "--policy", "my.toml", "--write"],
        0,
        "2 entries added",
    );
    assert!(written.contains("ses-breaker policy push my.toml"), "{written}");
    assert_eq!(
        fs::read_to_string(path.join("my.toml")).unwrap(),
        "# ours\nmode = \"act\"\n\n[isps]\n\"workspace.example\" = \"google-workspace\"\n\"tenant.example\" = \"microsoft-365\"\n"
    );
    let again = ["--domains", "list.csv", "--resolver", &server, "--policy", "my.toml", "--write"];
    check(path, &again, 0, "my.toml names the ISP of each of them");

    check(
        path,
        &["events", "--policy", "bad.toml", "--no-lookup"],
        2,
        "line 1, column 1: policy key `mode`: unknown variant `watch`",
    );
    check(path, &["none", "--no-lookup"], 2, "no such file");
    check(path, &["--domains", "none.txt", "--no-lookup"], 2, "cannot read none.txt");
    check(path, &["--domains", "empty.txt", "--no-lookup"], 2, "empty.txt names no recipient domain");
    check(path, &["events", "--apply"], 2, "then with --apply --yes");
    check(path, &["events", "--apply", "--yes", "--no-lookup"], 2, "no AWS Region is known");
    check(path, &["--help"], 0, "Only domain names leave this machine");
}
