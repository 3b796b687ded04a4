//! Status, an operator's commands and policies, against a stack that runs in this process.

use std::time::Duration;

use aws::layout::StackParameters;
use aws::policies::Pushed;
use e2e::cloud::REPUTATION;
use e2e::stack::Stack;
use operator::asking::{Asking, Confirmed, Question};
use operator::command::{CommandRequest, OperatorCommand, give};
use operator::status::status;
use operator::{Answer, Exit, Failure, policies, policy_file};
use reputation::time::Now;
use serde_json::{Value, json};
use terminal::{TermStyle, visible};

use crate::account::{ARN, Account};
use crate::answers::{answered, parsed};
use crate::sender::{MORNING, hear, mails, subject, troubled};

async fn shown(account: &Account, about: Option<&str>, now: Now) -> Answer {
    let about = about.map(subject);
    answered(status(&account.access(), about.as_ref(), now).await).unwrap()
}

async fn command(
    account: &Account,
    command: OperatorCommand,
    about: &str,
    isp: Option<&str>,
) -> Result<Answer, Failure> {
    let reason = (command == OperatorCommand::Stop).then(|| "wrong list".to_owned());
    let request = CommandRequest { command, reason, force: false, wait: Duration::ZERO };
    answered(give(&account.access(), &[subject(about)], isp, &request, MORNING.plus_minutes(3), &Asking::NOBODY).await)
}

#[tokio::test(start_paused = true)]
async fn status_shows_what_is_stopped_why_and_until_when() {
    let (account, _stack) = troubled().await;
    assert_eq!(account.cloud.state().switched, [("news".to_owned(), false)]);
    let answer = shown(&account, None, MORNING.plus_minutes(2)).await;
    assert_eq!(answer.exit, Exit::Done);
    insta::assert_snapshot!(visible(&answer.text));
    insta::assert_snapshot!(answer.json);
}

#[tokio::test(start_paused = true)]
async fn status_of_one_subject_shows_its_isps() {
    let (account, _stack) = troubled().await;
    let answer = shown(&account, Some("configuration-set:news"), MORNING.plus_minutes(2)).await;
    insta::assert_snapshot!(visible(&answer.text));
    let unknown = answered(status(&account.access(), Some(&subject("configuration-set:newz")), MORNING).await);
    let failure = unknown.unwrap_err();
    assert_eq!((failure.exit(), failure.remedy()), (Exit::Usage, "Did you mean configuration-set:news?".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn status_warns_of_silence_of_unsent_notices_and_of_requests_that_ses_has_not_done() {
    let empty = Account::default();
    let answer = shown(&empty, None, MORNING).await;
    assert!(answer.text.contains("no events yet"), "{}", answer.text);

    let (account, _stack) = troubled().await;
    command(&account, OperatorCommand::Stop, "configuration-set:shop", None).await.unwrap();
    let answer = shown(&account, None, MORNING.plus_minutes(200)).await;
    let document = parsed(&answer);
    let warnings: Vec<&str> = document["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    insta::assert_snapshot!(warnings.join("\n"));
    assert!(
        visible(&answer.text).contains(
            "\nNot done at SES yet\nconfiguration-set:shop  to be stopped since 09:03:00; SES has not been asked yet\n"
        ),
        "{}",
        answer.text
    );
    // The previous hour may have been silent for minutes only.
    let soon = shown(&account, None, MORNING.plus_minutes(110)).await;
    assert!(!soon.text.contains("no events for"), "{}", soon.text);
}

#[tokio::test(start_paused = true)]
async fn a_stop_reaches_ses_with_its_reason_and_only_a_person_resumes_it() {
    let (account, mut stack) = troubled().await;
    let paused = command(&account, OperatorCommand::Stop, "configuration-set:shop", None).await.unwrap();
    assert_eq!(paused.exit, Exit::Done);
    insta::assert_snapshot!(visible(&paused.text));
    assert_eq!(parsed(&paused)["by"], ARN);
    // The command line itself does not call SES.
    assert_eq!(account.cloud.state().switched.len(), 1);
    stack.enforce(false, MORNING.plus_minutes(3)).await.unwrap();
    assert_eq!(account.cloud.state().switched[1], ("shop".to_owned(), false));
    let alert = account.cloud.state().published.last().unwrap()["Message"].clone();
    assert!(alert.contains(&format!("(said by {ARN}: wrong list)")), "{alert}");

    let again = command(&account, OperatorCommand::Stop, "configuration-set:shop", None).await.unwrap();
    assert_eq!((again.exit, &parsed(&again)["changed"]), (Exit::Done, &json!(false)));
    stack.tick(MORNING.plus_minutes(600)).await.unwrap();
    stack.enforce(true, MORNING.plus_minutes(600)).await.unwrap();
    assert!(!account.cloud.state().sets["shop"]);

    let resumed = command(&account, OperatorCommand::Resume, "configuration-set:shop", None).await.unwrap();
    insta::assert_snapshot!(visible(&resumed.text));
    stack.enforce(false, MORNING.plus_minutes(600)).await.unwrap();
    assert!(account.cloud.state().sets["shop"]);
}

/// Gives a command and waits for SES; `meanwhile` runs three seconds later.
async fn waited(
    account: &Account,
    command: OperatorCommand,
    about: &str,
    meanwhile: impl Future<Output = ()>,
) -> Answer {
    let request = CommandRequest { command, reason: None, force: false, wait: Duration::from_secs(20) };
    let (access, about, now) = (account.access(), [subject(about)], MORNING.plus_minutes(3));
    let answer = give(&access, &about, None, &request, now, &Asking::CONFIRMED);
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        meanwhile.await;
    };
    answered(tokio::join!(answer, meanwhile).0).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_reported_once_ses_shows_it() {
    let (account, mut stack) = troubled().await;
    let name = "configuration-set:shop";
    let now = MORNING.plus_minutes(3);
    let paused =
        waited(&account, OperatorCommand::Stop, name, async { drop(stack.enforce(false, now).await.unwrap()) }).await;
    insta::assert_snapshot!(visible(&paused.text));
    assert_eq!((paused.exit, &parsed(&paused)["obeyed"]["result"]), (Exit::Done, &json!("seen")));
    // A set that is already stopped is checked again.
    let again = waited(&account, OperatorCommand::Stop, name, async {}).await;
    assert_eq!((again.exit, &parsed(&again)["obeyed"]), (Exit::Done, &json!({ "result": "seen", "seconds": 0 })));
    let resumed =
        waited(&account, OperatorCommand::Resume, name, async { drop(stack.enforce(false, now).await.unwrap()) }).await;
    insta::assert_snapshot!(visible(&resumed.text));
    assert_eq!((resumed.exit, account.cloud.state().sets["shop"]), (Exit::Done, true));
}

#[tokio::test(start_paused = true)]
async fn what_ses_has_not_done_in_time_or_refuses_is_said_to_be_so() {
    let (account, mut stack) = troubled().await;
    let name = "configuration-set:shop";
    let late = waited(&account, OperatorCommand::Stop, name, async {}).await;
    insta::assert_snapshot!(visible(&late.text));
    assert_eq!((late.exit, &parsed(&late)["obeyed"]["result"]), (Exit::No, &json!("not_yet")));
    let now = MORNING.plus_minutes(3);
    let refuse = async {
        account.cloud.state().set_errors.insert("shop".to_owned(), (403, "AccessDeniedException"));
        drop(stack.enforce(false, now).await);
    };
    let refused = waited(&account, OperatorCommand::Stop, name, refuse).await;
    insta::assert_snapshot!(visible(&refused.text));
    assert_eq!((refused.exit, &parsed(&refused)["obeyed"]["result"]), (Exit::No, &json!("refused")));
    assert!(account.cloud.state().sets["shop"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_stack_may_not_stop_is_refused_before_anything_is_changed() {
    let (account, _stack) = troubled().await;
    let access = account.access();
    let store = access.reputation(&reputation::Policy::default());
    store.note_parameters(StackParameters { account: false, tenants: false, gate: None, version: None }).await.unwrap();
    let before = account.cloud.items(REPUTATION).len();
    for (about, parameter) in [("account", "MayPauseAccount"), ("tenant:t-1", "Tenants")] {
        let request =
            CommandRequest { command: OperatorCommand::Stop, reason: None, force: true, wait: Duration::ZERO };
        // The other subjects of the command are not stopped either.
        let both = ["configuration-set:shop", about].map(subject);
        let answer = answered(give(&access, &both, None, &request, MORNING, &Asking::CONFIRMED).await);
        let failure = answer.unwrap_err();
        assert_eq!(failure.exit(), Exit::No);
        assert_eq!(failure.to_string(), format!("stack test may not stop {about} at SES, so nothing was changed"));
        assert!(failure.remedy().starts_with(&format!("Deploy it with {parameter}=true")), "{}", failure.remedy());
    }
    assert_eq!(account.cloud.items(REPUTATION).len(), before);
    store.note_parameters(StackParameters { account: true, tenants: true, gate: None, version: None }).await.unwrap();
    let asked = std::cell::RefCell::new(Vec::new());
    for (answer, exit) in [(Confirmed::No, Exit::No), (Confirmed::Nobody, Exit::Usage)] {
        let confirm = |question: &Question<'_>| {
            asked.borrow_mut().push(question.to_string());
            answer
        };
        let request =
            CommandRequest { command: OperatorCommand::Stop, reason: None, force: false, wait: Duration::ZERO };
        let asking = Asking { confirm: &confirm, ..Asking::NOBODY };
        let answer = answered(give(&access, &[subject("account")], None, &request, MORNING, &asking).await);
        assert_eq!(answer.unwrap_err().exit(), exit);
    }
    assert_eq!(asked.into_inner()[0], "This stops all mail of the account in eu-west-1. Stop it?");
    assert_eq!(account.cloud.items(REPUTATION).len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_is_bypassed_is_not_stopped_until_it_is_released() {
    let (account, mut stack) = troubled().await;
    let bypassed = command(&account, OperatorCommand::Bypass, "configuration-set:news", None).await.unwrap();
    insta::assert_snapshot!(visible(&bypassed.text));
    stack.enforce(false, MORNING.plus_minutes(3)).await.unwrap();
    assert!(account.cloud.state().sets["news"]);
    let answer = shown(&account, Some("configuration-set:news"), MORNING.plus_minutes(4)).await;
    assert!(
        visible(&answer.text).contains("configuration-set:news  bypassed  verdicts are reported"),
        "{}",
        answer.text
    );
    let released = command(&account, OperatorCommand::Release, "configuration-set:news", None).await.unwrap();
    assert!(released.text.contains("left to its breaker"), "{}", released.text);
}

#[tokio::test(start_paused = true)]
async fn a_subject_in_shadow_is_reported_and_not_stopped_until_it_is_released() {
    let (account, mut stack) = troubled().await;
    let name = "configuration-set:news";
    let shadowed = command(&account, OperatorCommand::Shadow, name, None).await.unwrap();
    insta::assert_snapshot!(visible(&shadowed.text));
    stack.enforce(false, MORNING.plus_minutes(3)).await.unwrap();
    assert!(account.cloud.state().sets["news"]);
    // The decision about new harm is reported, with the command that lets it act; SES is not called.
    let later = MORNING.plus_minutes(10);
    hear(&account, &mut stack, &mails("news", &["gmail.com"], 30, 30, later), later.plus_minutes(1)).await;
    assert!(account.cloud.state().sets["news"]);
    let answer = shown(&account, Some(name), MORNING.plus_minutes(12)).await;
    let text = visible(&answer.text);
    assert!(text.contains("configuration-set:news  stopped") && text.contains("in shadow, not acted on"), "{text}");
    let alert = account.cloud.state().published.iter().map(|form| form["Message"].clone()).next_back().unwrap();
    insta::assert_snapshot!(alert);
    // Time closes it as usual, still in shadow.
    for minute in 12..60 {
        stack.tick(MORNING.plus_minutes(minute)).await.unwrap();
        stack.enforce(minute % 5 == 0, MORNING.plus_minutes(minute)).await.unwrap();
    }
    assert_eq!(account.cloud.state().switched, [("news".to_owned(), false), ("news".to_owned(), true)]);
    // After the release, harm is acted on.
    let request =
        CommandRequest { command: OperatorCommand::Release, reason: None, force: false, wait: Duration::ZERO };
    let now = MORNING.plus_minutes(60);
    answered(give(&account.access(), &[subject(name)], None, &request, now, &Asking::NOBODY).await).unwrap();
    stack.enforce(false, now).await.unwrap();
    assert!(account.cloud.state().sets["news"]);
    let later = MORNING.plus_minutes(70);
    hear(&account, &mut stack, &mails("news", &["gmail.com"], 30, 30, later), later.plus_minutes(1)).await;
    assert!(!account.cloud.state().sets["news"]);
}

#[tokio::test(start_paused = true)]
async fn one_word_is_about_several_subjects_and_none_of_them_if_one_is_unknown() {
    let (account, mut stack) = troubled().await;
    let both = ["configuration-set:news", "identity:news.example"].map(subject);
    let request = CommandRequest {
        command: OperatorCommand::Resume,
        reason: Some("the list is clean now".to_owned()),
        force: false,
        wait: Duration::ZERO,
    };
    let access = account.access();
    let now = MORNING.plus_minutes(3);
    let typo = [both[0].clone(), subject("identity:newz.example")];
    let failure = answered(give(&access, &typo, None, &request, now, &Asking::NOBODY).await).unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    stack.enforce(false, now).await.unwrap();
    assert!(!account.cloud.state().sets["news"]);
    let answer = answered(give(&access, &both, None, &request, now, &Asking::NOBODY).await).unwrap();
    assert_eq!(answer.exit, Exit::Done);
    let documents = serde_json::Deserializer::from_str(&answer.json).into_iter::<Value>();
    let resumed: Vec<Value> = documents.map(|document| document.unwrap()["subject"].clone()).collect();
    assert_eq!(resumed, ["configuration-set:news", "identity:news.example"]);
    stack.enforce(false, now).await.unwrap();
    assert!(account.cloud.state().sets["news"]);
}

#[tokio::test(start_paused = true)]
async fn the_digest_is_printed_on_demand() {
    let (account, _stack) = troubled().await;
    let arguments = |format: &str| ["ses-breaker", "digest", "--format", format].map(Into::into);
    let digest = async |format: &str, now: Now| {
        operator::cli::answered(&account.access(), arguments(format), now, TermStyle::new(None)).await.unwrap()
    };
    let tomorrow = MORNING.plus_minutes(1_440);
    insta::assert_snapshot!(digest("text", tomorrow).await.text);
    let document = parsed(&digest("json", tomorrow).await);
    let subjects: Vec<&str> =
        document["rates"].as_array().unwrap().iter().map(|row| row["subject"].as_str().unwrap()).collect();
    assert_eq!(
        subjects,
        [
            "account",
            "configuration-set:news",
            "configuration-set:shop",
            "identity:shop.example",
            "identity:news.example"
        ]
    );
    // Also for a day without mail.
    assert_eq!(parsed(&digest("json", MORNING).await)["rates"][0]["mails"], 0);
}

#[tokio::test(start_paused = true)]
async fn where_ses_has_no_switch_it_is_said_that_nothing_is_stopped() {
    let (account, _stack) = troubled().await;
    for (about, isp, what) in [
        ("identity:news.example", None, "an identity"),
        ("configuration-set:news", Some("Gmail"), "one ISP of a sender"),
        ("account", Some("gmail"), "an ISP"),
    ] {
        let answer = command(&account, OperatorCommand::Stop, about, isp).await.unwrap();
        assert_eq!(answer.exit, Exit::No, "{about}");
        let text = visible(&answer.text).replace('\n', " ");
        assert!(
            text.contains(&format!("SES has no switch for {what}, so without the gate nothing is stopped")),
            "{text}"
        );
    }
    let answer = command(&account, OperatorCommand::Stop, "identity:news.example", None).await.unwrap();
    insta::assert_snapshot!(visible(&answer.text));
    assert_eq!((answer.exit, account.cloud.state().switched.len()), (Exit::No, 1));
}

#[tokio::test(start_paused = true)]
async fn in_shadow_a_stop_says_that_nothing_is_stopped() {
    let (account, mut stack) = troubled().await;
    let shadow = "mode = \"shadow\"\n";
    Stack::push(&account.cloud, shadow).await;
    let answer = command(&account, OperatorCommand::Stop, "configuration-set:shop", None).await.unwrap();
    assert_eq!(answer.exit, Exit::No);
    insta::assert_snapshot!(visible(&answer.text));
    stack.enforce(false, MORNING.plus_minutes(3)).await.unwrap();
    assert!(account.cloud.state().sets["shop"]);
}

#[tokio::test(start_paused = true)]
async fn a_typing_error_stops_nothing() {
    let (account, _stack) = troubled().await;
    let before = account.cloud.items(REPUTATION).len();
    let check = async |about: &str, isp: Option<&str>, expected: &str| {
        let failure = command(&account, OperatorCommand::Stop, about, isp).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert_eq!(format!("{failure}\n{}", failure.remedy()), expected);
    };
    let force = " If it has sent nothing yet, add --force.";
    check(
        "configuration-set:shopp",
        None,
        &format!("stack test has never seen configuration-set:shopp\nDid you mean configuration-set:shop?{force}"),
    )
    .await;
    check("configuration-set:shop", Some("gmial"), "`gmial` is not an ISP of the policy\nDid you mean gmail?").await;
    assert_eq!(account.cloud.items(REPUTATION).len(), before);

    let request = CommandRequest { command: OperatorCommand::Stop, reason: None, force: true, wait: Duration::ZERO };
    let new = subject("configuration-set:new");
    let paused = answered(give(&account.access(), &[new], None, &request, MORNING, &Asking::NOBODY).await).unwrap();
    assert_eq!(paused.exit, Exit::Done);
    // A set that was stopped before its first mail can be resumed without --force.
    assert_eq!(
        command(&account, OperatorCommand::Resume, "configuration-set:new", None).await.unwrap().exit,
        Exit::Done
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_pushed_with_what_it_changes_and_shown_again() {
    let account = Account::default();
    let access = account.access();
    let none = answered(policies::show(&access, None).await).unwrap();
    assert!(none.text.starts_with("# No policy was ever pushed"), "{}", none.text);

    let toml = "mode = \"shadow\"\n[breaker]\nopen_minutes = 45\n[isps]\n\"example.com\" = \"microsoft\"\n";
    let dry = answered(policies::push(&access, "my.toml", toml, true, MORNING, &Asking::NOBODY).await).unwrap();
    insta::assert_snapshot!(visible(&dry.text));
    assert!(access.policies().current().await.unwrap().is_none());
    let pushed = answered(policies::push(&access, "my.toml", toml, false, MORNING, &Asking::NOBODY).await).unwrap();
    assert_eq!((pushed.exit, &parsed(&pushed)["to"]), (Exit::Done, &json!(1)));
    let again = answered(policies::push(&access, "my.toml", toml, false, MORNING, &Asking::NOBODY).await).unwrap();
    assert_eq!((again.exit, &parsed(&again)["outcome"]), (Exit::Done, &json!("unchanged")));

    let shown = answered(policies::show(&access, None).await).unwrap();
    insta::assert_snapshot!(visible(&shown.text));
    // The output can be pushed, and is shown with one header.
    let reshown = visible(&shown.text);
    answered(policies::push(&access, "my.toml", &reshown, false, MORNING, &Asking::NOBODY).await).unwrap();
    let second = visible(&answered(policies::show(&access, None).await).unwrap().text);
    assert_eq!(second.matches("# Version").count(), 1, "{second}");
    assert!(policies::show(&access, Some(1)).await.unwrap().toml.contains("open_minutes = 45"));
    let missing = policies::show(&access, Some(7)).await.unwrap_err();
    assert_eq!((missing.exit(), missing.remedy()), (Exit::Usage, "The current one is 2.".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_invalid_policy_is_neither_pushed_nor_asked_about() {
    let account = Account::default();
    let check = |toml: &str| answered(Ok(policy_file::check("my.toml", toml))).unwrap();
    let wrong = "[breaker]\nopen_minutes = 0\n";
    let problem = "line 2, column 1: policy key `breaker.open_minutes` is 0; allowed: a whole number from 1 to 43200";
    let answer = check(wrong);
    assert_eq!(answer.exit, Exit::No);
    assert_eq!(visible(&answer.text), format!("my.toml is not a valid policy\n{problem}\n"));
    let refused =
        policies::push(&account.access(), "my.toml", wrong, false, MORNING, &Asking::NOBODY).await.unwrap_err();
    assert_eq!(refused.exit(), Exit::Usage);
    assert_eq!(refused.to_string(), format!("my.toml is not a valid policy: {problem}"));
    assert_eq!(account.cloud.items(REPUTATION).len(), 0);
    let misspelt = check("[warmup.plan]\nstart = 50\ngrowht = 2.0\n");
    let text = visible(&misspelt.text);
    assert!(text.contains("\nline 3, column 1: policy key `warmup.plan.growht`: unknown field `growht`"), "{text}");
    assert!(text.ends_with("\nDid you mean `growth`?\n"), "{text}");
    let document = parsed(&misspelt);
    let place = ["key", "line", "column", "nearest"].map(|name| document[name].clone());
    assert_eq!(place, [json!("warmup.plan.growht"), json!(3), json!(1), json!("growth")]);
    let long = check(&"#".repeat(100_001));
    assert!(visible(&long.text).contains("it has 100001 bytes; the limit is 100000"), "{}", long.text);
    let valid = check("mode = \"shadow\"");
    assert_eq!(valid.exit, Exit::Done);
    assert!(
        visible(&valid.text).starts_with("my.toml is valid\n\nmode        shadow: decide and report"),
        "{}",
        valid.text
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_pushes_at_once_the_later_one_is_reported() {
    let account = Account::default();
    let access = account.access();
    assert_eq!(access.policies().push("# first\n", 0, "bob", MORNING).await.unwrap(), Pushed::Pushed(1));
    // Read before bob pushed, written after.
    assert_eq!(access.policies().push("# mine\n", 0, "ann", MORNING).await.unwrap(), Pushed::Conflict);
    assert_eq!(access.policies().current().await.unwrap().unwrap().by, "bob");
}

#[tokio::test(start_paused = true)]
async fn status_of_the_account_shows_its_configuration_sets() {
    let (account, _stack) = troubled().await;
    let answer = shown(&account, Some("account"), MORNING.plus_minutes(2)).await;
    let answer = parsed(&answer);
    let rows: Vec<&str> =
        answer["mail"].as_array().unwrap().iter().map(|row| row["subject"].as_str().unwrap()).collect();
    assert_eq!(rows, ["account", "configuration-set:news", "configuration-set:shop"]);
    assert_eq!(answer["mail"][0]["sent"], 301);
}
