//! Explanations of breakers, their history, and the quotas of the gate, against a stack in this process.

use std::num::NonZeroU32;

use std::time::Duration;

use aws::layout::StackParameters;
use e2e::cloud::Cloud;
use e2e::stack::{Stack, request};
use operator::asking::Asking;
use operator::command::{CommandRequest, OperatorCommand, give};
use operator::explain::explain;
use operator::history::{Stretch, history};
use operator::quota::quotas;
use operator::{Answer, Exit, Failure, cli};
use reputation::Policy;
use reputation::time::Now;
use serde_json::json;
use terminal::{TermStyle, visible};

use crate::account::{ARN, Account};
use crate::answers::{answered, parsed};
use crate::sender::{MORNING, hear, mails, subject, troubled};

const NEWS: &str = "configuration-set:news";

async fn explained(account: &Account, about: &str, isp: Option<&str>, at: Option<&str>, now: Now) -> Answer {
    let at = at.map(|at| at.parse().unwrap());
    answered(explain(&account.access(), subject(about), isp, at, now).await).unwrap()
}

async fn history_of(account: &Account, about: &str, isp: Option<&str>, now: Now) -> Answer {
    let stretch = Stretch { isp, since: None, most: NonZeroU32::MAX };
    answered(history(&account.access(), subject(about), stretch, now).await).unwrap()
}

async fn give_command(account: &Account, command: OperatorCommand, about: &str, why: Option<&str>, now: Now) {
    let request = CommandRequest { command, reason: why.map(str::to_owned), force: false, wait: Duration::ZERO };
    answered(give(&account.access(), &[subject(about)], None, &request, now, &Asking::NOBODY).await).unwrap();
}

/// The sentences about what happens next.
async fn next(account: &Account, isp: Option<&str>, now: Now) -> String {
    let answer = parsed(&explained(account, NEWS, isp, None, now).await);
    let words = answer["next"]["words"].as_array().unwrap().iter();
    words.map(|words| words.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Explains every transition of the history as of its moment, and compares the numbers with those of its verdict. Returns the
/// number of verdicts.
async fn check_each_verdict(account: &Account, about: &str, now: Now) -> usize {
    let mut with_verdict = 0;
    for entry in parsed(&history_of(account, about, None, now).await)["entries"].as_array().unwrap() {
        let (isp, at) = (entry["isp"].as_str(), entry["at"].as_str());
        let answer = parsed(&explained(account, about, isp, at, now).await);
        let judged = answer["judged"].as_array().unwrap();
        assert_eq!(judged.len(), 1, "{entry} {answer}");
        let decided = &judged[0]["decided"];
        assert_eq!((&decided["from"], &decided["to"]), (&entry["from"], &entry["to"]), "{answer}");
        assert_eq!(answer["breaker"]["state"], entry["to"], "{answer}");
        for field in ["level", "metric", "rule", "rate", "population", "bad", "cohorts"] {
            assert_eq!(decided[field], entry[field], "{field}: {answer}");
        }
        if entry["rule"] != "cusum" {
            continue;
        }
        with_verdict += 1;
        let metric = judged[0]["metrics"].as_array().unwrap().iter().find(|known| known["metric"] == entry["metric"]);
        let evidence = metric.unwrap()["evidence"].as_array().unwrap();
        // If people were only warned, the evidence may have reached more.
        let level = if entry["level"] == "warn" { &json!("pause") } else { &entry["level"] };
        let evidence = evidence.iter().find(|known| known["level"] == *level).unwrap();
        assert_eq!(
            [&evidence["stretch_population"], &evidence["stretch_bad"], &evidence["stretch"]],
            [&entry["population"], &entry["bad"], &entry["cohorts"]],
            "{answer}"
        );
        assert!(evidence["peak"].as_f64() >= evidence["threshold"].as_f64(), "{answer}");
        let reached = format!("evidence {:.1} reached", evidence["peak"].as_f64().unwrap());
        assert!(entry["reason"].as_str().unwrap().contains(&reached), "{reached}: {entry}");
        let peak = judged[0]["cells"]["cells"].as_array().unwrap().iter().find(|cell| cell["peak"] == true).unwrap();
        assert!((peak["evidence"].as_f64().unwrap() - evidence["peak"].as_f64().unwrap()).abs() < 1e-6, "{answer}");
    }
    with_verdict
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_explained_with_the_mail_that_opened_it_and_what_comes_next() {
    let (account, _stack) = troubled().await;
    let now = MORNING.plus_minutes(3);
    let answer = explained(&account, NEWS, None, None, now).await;
    assert_eq!(answer.exit, Exit::Done);
    insta::assert_snapshot!(visible(&answer.text));
    let answer = parsed(&answer);
    assert_eq!(
        (&answer["breaker"]["state"], &answer["next"]["due"]),
        (&json!("open"), &json!("2026-10-06T09:31:00.000Z"))
    );
    assert_eq!((&answer["verdict"]["bad"], &answer["verdict"]["population"]), (&json!(40), &json!(100)));
    let at_gmail = explained(&account, NEWS, Some("Gmail"), None, now).await;
    let at_gmail = visible(&at_gmail.text);
    assert!(at_gmail.contains("configuration-set:news @ gmail"), "{at_gmail}");
    let of_account = explained(&account, "account", None, None, now).await;
    insta::assert_snapshot!(visible(&of_account.text));
}

#[tokio::test(start_paused = true)]
async fn each_state_says_what_moves_it_and_each_transition_is_explained_with_its_numbers() {
    let (account, mut stack) = troubled().await;
    let minutes = |minutes| MORNING.plus_minutes(minutes);
    let mut steps = Vec::new();
    steps.push(next(&account, None, minutes(2)).await);
    stack.tick(minutes(31)).await.unwrap();
    steps.push(next(&account, None, minutes(31)).await);
    hear(&account, &mut stack, &mails("news", &["gmail.com"], 30, 0, minutes(33)), minutes(35)).await;
    steps.push(next(&account, None, minutes(36)).await);
    hear(&account, &mut stack, &mails("news", &["gmail.com"], 300, 0, minutes(37)), minutes(50)).await;
    stack.tick(minutes(61)).await.unwrap();
    steps.push(next(&account, None, minutes(61)).await);
    stack.tick(minutes(121)).await.unwrap();
    steps.push(next(&account, None, minutes(122)).await);
    // New harm while it is throttled.
    hear(&account, &mut stack, &mails("news", &["gmail.com"], 10, 40, minutes(125)), minutes(126)).await;
    give_command(&account, OperatorCommand::Resume, NEWS, Some("the list is clean now"), minutes(130)).await;
    steps.push(next(&account, None, minutes(130)).await);
    hear(&account, &mut stack, &mails("news", &["gmail.com"], 0, 30, minutes(140)), minutes(141)).await;
    give_command(&account, OperatorCommand::Stop, NEWS, None, minutes(142)).await;
    steps.push(next(&account, None, minutes(142)).await);
    give_command(&account, OperatorCommand::Bypass, NEWS, None, minutes(143)).await;
    steps.push(next(&account, None, minutes(143)).await);
    insta::assert_snapshot!(steps.join("\n\n"));

    insta::assert_snapshot!(visible(&history_of(&account, NEWS, None, minutes(150)).await.text));
    assert!(check_each_verdict(&account, NEWS, minutes(150)).await >= 3);
    // Older transitions are explained from the hourly counters.
    assert!(check_each_verdict(&account, NEWS, minutes(40 * 60)).await >= 3);
    let then = explained(&account, NEWS, None, Some("2026-10-06 09:01:00"), minutes(150)).await;
    insta::assert_snapshot!(visible(&then.text));
}

#[tokio::test(start_paused = true)]
async fn without_a_gate_all_mail_is_sent_and_what_comes_next_says_so() {
    let account = Account::with(&["news"]);
    let mut stack = Stack::new(&account.cloud, false);
    // As the enforcer does when it starts.
    let store = account.access().reputation(&Policy::default());
    let parameters = StackParameters { account: false, tenants: false, gate: Some(false), version: None };
    store.note_parameters(parameters).await.unwrap();
    let minutes = |minutes| MORNING.plus_minutes(minutes);
    hear(&account, &mut stack, &mails("news", &["gmail.com"], 60, 40, MORNING), minutes(1)).await;
    stack.tick(minutes(32)).await.unwrap();
    let testing = next(&account, None, minutes(32)).await;
    assert!(testing.contains("If they are clean, all mail is sent again, at "), "{testing}");
    hear(&account, &mut stack, &mails("news", &["gmail.com"], 300, 0, minutes(33)), minutes(35)).await;
    let mut warned = String::new();
    for minute in 36..180 {
        stack.tick(minutes(minute)).await.unwrap();
        warned = next(&account, None, minutes(minute)).await;
        if warned.contains("warning ends") {
            break;
        }
    }
    assert!(warned.contains("All mail is sent meanwhile, because no gate is in use. The warning ends at "), "{warned}");
    assert!(!testing.contains("of the quota") && !warned.contains("of the quota"), "{testing}\n{warned}");
}

#[tokio::test(start_paused = true)]
async fn an_isp_that_is_stopped_by_itself_is_left_out_of_the_subject_then_and_now() {
    let account = Account::with(&["news"]);
    let mut stack = Stack::new(&account.cloud, true);
    let minutes = |minutes| MORNING.plus_minutes(minutes);
    let mut events = mails("news", &["gmail.com"], 100, 80, MORNING);
    events.extend(mails("news", &["outlook.com"], 400, 0, MORNING));
    hear(&account, &mut stack, &events, minutes(1)).await;
    hear(&account, &mut stack, &mails("news", &["outlook.com"], 30, 50, minutes(5)), minutes(6)).await;
    let whole = explained(&account, NEWS, None, None, minutes(7)).await;
    let isps = &parsed(&whole)["next"]["isps"];
    assert!(isps.as_object().is_some_and(|isps| !isps.is_empty()), "{isps}");
    insta::assert_snapshot!(visible(&whole.text));
    assert!(check_each_verdict(&account, NEWS, minutes(7)).await >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_history_is_of_one_isp_and_of_the_last_if_so_asked() {
    let (account, _stack) = troubled().await;
    let now = MORNING.plus_minutes(3);
    give_command(&account, OperatorCommand::Resume, NEWS, Some("a (very) \"good\" list"), now).await;
    let all = parsed(&history_of(&account, NEWS, None, now).await);
    assert_eq!(all["entries"].as_array().unwrap().len(), 4, "{all}");
    let last = &all["entries"][3];
    assert_eq!((&last["by"], &last["said"]), (&json!(ARN), &json!("a (very) \"good\" list")));
    let of_isp = parsed(&history_of(&account, NEWS, Some("gmail"), now).await);
    assert_eq!((of_isp["entries"].as_array().unwrap().len(), &of_isp["entries"][0]["isp"]), (1, &json!("gmail")));
    let ask = async |stretch: Stretch<'_>| {
        parsed(&answered(history(&account.access(), subject(NEWS), stretch, now).await).unwrap())
    };
    let two = ask(Stretch { isp: None, since: None, most: NonZeroU32::new(2).unwrap() }).await;
    assert_eq!((two["entries"].as_array().unwrap().len(), &two["more"], &two["entries"][1]), (2, &json!(true), last));
    let since = "2026-10-06T09:02".parse().ok();
    let late = ask(Stretch { isp: None, since, most: NonZeroU32::MAX }).await;
    assert_eq!((late["entries"].as_array().unwrap().len(), &late["more"]), (1, &json!(false)));
    let none = history_of(&account, "configuration-set:shop", None, now).await;
    assert!(visible(&none.text).contains("no notices"), "{}", none.text);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_or_cannot_be_judged_is_named_with_what_to_do() {
    let (account, _stack) = troubled().await;
    let access = account.access();
    let check = |answer: Result<Answer, Failure>, expected: &str| {
        let failure = answer.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let error = format!("{failure}\n{}", failure.remedy());
        assert!(error.contains(expected), "{error}");
    };
    let explain = async |about: &str, isp, at: Option<&str>| {
        let at = at.map(|at| at.parse().unwrap());
        answered(explain(&access, subject(about), isp, at, MORNING.plus_minutes(3)).await)
    };
    check(explain("configuration-set:newz", None, None).await, "Did you mean configuration-set:news?");
    check(explain(NEWS, Some("gmial"), None).await, "Did you mean gmail?");
    check(explain(NEWS, None, Some("2026-10-06T10:00")).await, "It is in the future.");
    check(explain(NEWS, None, Some("2026-10-04T11:59")).await, "use 2026-10-04 12:00:00 UTC or later");
    assert!(explain(NEWS, None, Some("2026-10-04T12:00")).await.is_ok());
    let stretch = Stretch { isp: None, since: None, most: NonZeroU32::MIN };
    let unknown = answered(history(&access, subject("identity:newz.example"), stretch, MORNING).await);
    check(unknown, "Did you mean identity:news.example");
    check(answered(quotas(&access, Some("news"), MORNING).await), "add it to [warmup.sets]");
    let none = answered(quotas(&access, None, MORNING).await).unwrap();
    assert!(visible(&none.text).contains("plans no configuration set"), "{}", none.text);
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_set_completed_and_begun_anew_and_the_gate_grants_by_it() {
    let account = Account::with(&["news"]);
    Stack::push(&account.cloud as &Cloud, "[warmup.plan]\nburst_share = 1.0\n[warmup.sets.news]\ntarget = 2000\n")
        .await;
    let mut stack = Stack::new(&account.cloud, true);
    let access = account.access();
    let said = async |arguments: &[&str], now| {
        let arguments = ["ses-breaker", "quota"].iter().chain(arguments).map(Into::into);
        cli::answered(&access, arguments, now, TermStyle::new(Some(100))).await
    };
    let none = said(&["complete", "news"], MORNING).await.unwrap_err();
    assert_eq!(none.remedy(), "Name one with --isp: its ramp begins with that.");
    let body =
        r#"{"configurationSet": "news", "identity": "news.example", "recipients": {"gmail.com": 900, "aol.com": 900}}"#;
    let mut granted = async |now| {
        let answer = stack.gate.ask(&request("POST", "/v1/permits", Some(body)), now).await;
        let permits = answer.body["permits"].as_array().unwrap().clone();
        permits.iter().map(|permit| permit["granted"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    // By evening all of the day's quota has come in.
    let now = MORNING.plus_minutes(600);
    assert_eq!(granted(now).await, [45, 45]);
    let dry = said(&["set", "news", "1000", "--isp", "Gmail", "--dry-run"], now).await.unwrap();
    assert!(visible(&dry.text).contains("nothing was changed"), "{}", dry.text);
    assert_eq!(granted(now).await, [0, 0]);
    let set = said(&["--quiet", "set", "configuration-set:news", "1000", "--isp", "gmail"], now).await.unwrap();
    insta::assert_snapshot!(visible(&set.text));
    assert_eq!(
        parsed(&set)["quotas"],
        json!([{ "isp": "gmail", "day": "2026-10-06", "from": 50, "to": 1000, "granted": 45 }])
    );
    // It comes in from then on.
    assert_eq!(granted(now).await, [0, 0]);
    assert_eq!(granted(now.plus_minutes(30)).await, [75, 0]);
    let complete = said(&["complete", "news"], now).await.unwrap();
    assert_eq!(parsed(&complete)["quotas"].as_array().map(Vec::len), Some(2));
    let shown = parsed(&answered(quotas(&access, None, now).await).unwrap());
    assert_eq!(shown["sets"][0]["isps"][0]["reason"], "a person set it; it was 1000");
    let reset = said(&["reset", "news", "--isp", "gmail"], now).await.unwrap();
    assert_eq!(parsed(&reset)["quotas"][0]["to"], 50);
    for (arguments, expected) in [
        (
            &["set", "news", "2001"][..],
            "a quota of 2001 is outside of what the policy allows for news: 10 to 2000 mails a day",
        ),
        (&["set", "newz", "10"], "the policy plans no quotas for configuration set `newz`"),
        (&["reset", "news", "--isp", "gmial"], "`gmial` is not an ISP"),
        (&["news", "set", "news", "10"], "stands before the command"),
    ] {
        let failure = said(arguments, now).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains(expected), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn quotas_show_what_was_granted_what_is_outstanding_and_the_days_ahead() {
    let account = Account::with(&["news", "shop"]);
    let toml = "[warmup.sets.news]\ntarget = 2000\n[warmup.sets.shop]\nstart = 300\ntarget = 300\n";
    Stack::push(&account.cloud as &Cloud, toml).await;
    let mut stack = Stack::new(&account.cloud, true);
    let body =
        r#"{"configurationSet": "news", "identity": "news.example", "recipients": {"gmail.com": 1, "outlook.com": 1}}"#;
    let asked = stack.gate.ask(&request("POST", "/v1/permits", Some(body)), MORNING).await;
    assert_eq!(asked.status, 200, "{}", asked.body);
    let now = Now(MORNING.0 + 30_000);
    let answer = answered(quotas(&account.access(), None, now).await).unwrap();
    insta::assert_snapshot!(visible(&answer.text));
    let answer = parsed(&answer);
    let gmail = &answer["sets"][0]["isps"][0];
    assert_eq!((&gmail["isp"], &gmail["quota"], &gmail["day_is_over"]), (&json!("gmail"), &json!(50), &json!(false)));
    assert_eq!(gmail["ahead"].as_array().unwrap().last().unwrap()["quota"], 2000);
    assert_eq!(gmail["leases"].as_array().map(Vec::len), Some(1), "{gmail}");
    // The next day the lease has expired, and no request has begun the new day.
    let (access, tomorrow) = (account.access(), now.plus_minutes(1440));
    let later = answered(quotas(&access, Some("configuration-set:news"), tomorrow).await);
    let later = parsed(&later.unwrap());
    let gmail = &later["sets"][0]["isps"][0];
    assert_eq!(
        (&gmail["day_is_over"], &gmail["leases"], later["sets"].as_array().map(Vec::len)),
        (&json!(true), &json!([]), Some(1))
    );
    let unknown = answered(quotas(&account.access(), Some("newz"), now).await).unwrap_err();
    assert!(unknown.remedy().starts_with("Did you mean news"), "{}", unknown.remedy());
}
