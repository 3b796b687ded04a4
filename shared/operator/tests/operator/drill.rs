//! Drills, against a stack and an account in this process.

use std::future::{pending, ready};
use std::time::Duration;

use e2e::cloud::{LEDGER, REPUTATION};
use e2e::stack::Stack;
use operator::asking::{Asking, Confirmed};
use operator::drill::{Order, drill};
use operator::{Answer, Exit, Failure};
use reputation::time::Now;
use serde_json::{Value, json};
use terminal::visible;
use tokio::time::{Instant, sleep};

use crate::account::Account;
use crate::answers::{answered, parsed};

/// 2026-10-06 09:00:00 UTC.
const MORNING: Now = Now(1_791_277_200_000);
const FROM: &str = "news@mail.example.com";

fn order() -> Order {
    Order { from: FROM.to_owned(), wait: Duration::from_secs(60) }
}

/// An account whose domain is verified.
fn account() -> Account {
    let account = Account::with(&["news"]);
    account.state().identities.insert("example.com".to_owned(), true);
    account
}

/// The events of the mails from the `from`-th on: each was sent, and bounced or arrived.
fn events(account: &Account, from: usize, now: Now) -> Vec<String> {
    let mails = account.state().mails[from..].to_vec();
    let mut events = Vec::new();
    for (number, (set, to)) in mails.iter().enumerate() {
        let mail = format!(
            r#""mail":{{"timestamp":"{now}","messageId":"{set}-{}","source":"{FROM}","destination":["{to}"],
            "tags":{{"ses:configuration-set":["{set}"],"ses:from-domain":["mail.example.com"]}}}}"#,
            from + number
        );
        events.push(format!(r#"{{"eventType":"Send",{mail},"send":{{}}}}"#));
        events.push(match to.as_str() {
            "bounce@simulator.amazonses.com" => format!(
                r#"{{"eventType":"Bounce",{mail},"bounce":{{"bounceType":"Permanent","bounceSubType":"General","timestamp":"{now}",
                "feedbackId":"f","bouncedRecipients":[{{"emailAddress":"{to}","action":"failed","status":"5.1.1"}}]}}}}"#
            ),
            _ => format!(r#"{{"eventType":"Delivery",{mail},"delivery":{{"timestamp":"{now}","recipients":["{to}"]}}}}"#),
        });
    }
    events
}

/// Passes events to a stack and runs its breakers and its enforcer.
async fn hear(account: &Account, stack: &mut Stack, events: &[String], now: Now) {
    let bodies: Vec<&str> = events.iter().map(String::as_str).collect();
    assert_eq!(stack.ingest(&bodies, now).await.unwrap(), [0; 0]);
    let records = account.cloud.stream(LEDGER);
    stack.fold(&records, now).await.unwrap();
    stack.enforce(false, now).await.unwrap();
}

/// Runs the stack: each second it reads events, judges, calls SES, and sends alerts.
async fn live(account: &Account, stack: &mut Stack, start: Now) {
    let (begun, mut heard) = (Instant::now(), account.state().mails.len());
    loop {
        sleep(Duration::from_secs(1)).await;
        let now = Now(start.0 + i64::try_from(begun.elapsed().as_millis()).unwrap());
        let events = events(account, heard, now);
        heard += events.len() / 2;
        hear(account, stack, &events, now).await;
    }
}

async fn drilled(account: &Account, stack: &mut Stack, now: Now, interrupted: impl Future<Output = ()>) -> Answer {
    let (access, order) = (account.access(), order());
    let drill = drill(&access, &order, now, &Asking::CONFIRMED, interrupted);
    tokio::select! {
        drill = drill => answered(drill).unwrap(),
        () = live(account, stack, now) => unreachable!(),
    }
}

/// The result of each leg.
fn results(answer: &Answer) -> Vec<String> {
    let document = parsed(answer);
    let leg = |leg: &Value| format!("{} {}", leg["leg"].as_str().unwrap(), leg["result"].as_str().unwrap());
    document["legs"].as_array().unwrap().iter().map(leg).collect()
}

/// Checks that the account is as before, and that no row of the table says that a set is stopped.
fn check_clean(account: &Account) {
    assert_eq!(account.state().destinations.keys().collect::<Vec<_>>(), ["news"]);
    let items = account.cloud.items(REPUTATION);
    let is = |item: &Value, pk: &str, sk: &str| {
        item["pk"]["S"].as_str() == Some(pk) && item["sk"]["S"].as_str().unwrap().contains(sk)
    };
    assert!(!items.iter().any(|item| is(item, "control", "drill")), "a desired state is left");
    let open =
        |item: &&Value| item["sk"]["S"].as_str().unwrap().starts_with("breaker#") && item["state"]["S"] == "open";
    assert_eq!(items.iter().find(open), None);
}

/// The subjects with counters.
fn counted(account: &Account) -> Vec<String> {
    let items = account.cloud.items(REPUTATION);
    let of = |item: &Value| item["pk"]["S"].as_str().unwrap().to_owned();
    let mut counted: Vec<String> =
        items.iter().filter(|item| item["sk"]["S"].as_str().unwrap().starts_with("rate#d")).map(of).collect();
    counted.sort();
    counted.dedup();
    counted
}

#[tokio::test(start_paused = true)]
async fn a_drill_proves_each_leg_with_its_time_and_leaves_nothing() {
    let account = account();
    let mut stack = Stack::new(&account.cloud, false);
    let answer = drilled(&account, &mut stack, MORNING, pending()).await;
    insta::assert_snapshot!(visible(&answer.text));
    insta::assert_snapshot!(answer.json);
    assert_eq!(answer.exit, Exit::Done);
    check_clean(&account);
    let set = "ses-breaker-drill-20261006t090000";
    assert_eq!(counted(&account), [format!("configuration-set:{set}")]);
    assert_eq!(account.cloud.state().switched, [(set.to_owned(), false), (set.to_owned(), true)]);
    assert!(!answer.json.contains(FROM) && !answer.json.contains("123456789012"), "{}", answer.json);
    // People were notified of the stop and of the resume.
    let subjects: Vec<String> = account.cloud.state().published.iter().map(|form| form["Subject"].clone()).collect();
    assert!(subjects.iter().all(|subject| subject.contains(set)), "{subjects:?}");

    // Hours later nothing has changed: no breaker of the set opens again, and no alert says that the set is missing.
    let alerts = account.cloud.state().published.len();
    for minute in (5..120).step_by(5) {
        stack.tick(MORNING.plus_minutes(minute)).await.unwrap();
        stack.enforce(true, MORNING.plus_minutes(minute)).await.unwrap();
    }
    let later: Vec<String> = account.cloud.state().published[alerts..]
        .iter()
        .map(|form| form["Subject"].clone())
        .filter(|it| it.contains("drill"))
        .collect();
    assert_eq!(later, [""; 0]);

    // A second drill, with another set.
    let again = drilled(&account, &mut stack, MORNING.plus_minutes(120), pending()).await;
    assert_eq!(again.exit, Exit::Done, "{}", visible(&again.text));
    check_clean(&account);
}

/// SES stops the set before the last mail is sent.
#[tokio::test(start_paused = true)]
async fn a_stack_that_is_faster_than_the_mails_passes_too() {
    let account = account();
    let mut stack = Stack::new(&account.cloud, false);
    let (access, order) = (account.access(), order());
    let drill = drill(&access, &order, MORNING, &Asking::CONFIRMED, pending());
    let hasty = async {
        loop {
            sleep(Duration::from_secs(1)).await;
            let events = events(&account, 0, MORNING);
            // Twins of all events, as if twice as many mails had been sent.
            let twins: Vec<String> =
                events.iter().map(|it| it.replace(r#""messageId":""#, r#""messageId":"twin-"#)).collect();
            hear(&account, &mut stack, &[events, twins].concat(), MORNING.plus_minutes(1)).await;
        }
    };
    let answer = tokio::select! {
        drill = drill => answered(drill).unwrap(),
        () = hasty => unreachable!(),
    };
    assert_eq!(answer.exit, Exit::Done, "{}", visible(&answer.text));
    let seen = parsed(&answer)["legs"][1]["seen"].as_str().unwrap().to_owned();
    assert!(seen.ends_with("; then the breaker was open"), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn in_shadow_the_set_of_a_drill_is_stopped_all_the_same() {
    let account = account();
    Stack::push(&account.cloud, "mode = \"shadow\"\n").await;
    let mut stack = Stack::new(&account.cloud, false);
    let answer = drilled(&account, &mut stack, MORNING, pending()).await;
    assert_eq!(answer.exit, Exit::Done, "{}", visible(&answer.text));
    assert_eq!(parsed(&answer)["mode"], "shadow");
    let seen = parsed(&answer)["legs"][3]["seen"].as_str().unwrap().to_owned();
    assert!(seen.ends_with("the policy is in shadow, but a drill's set is acted on anyway"), "{seen}");
    check_clean(&account);
}

/// SES has no switch for one ISP.
#[tokio::test(start_paused = true)]
async fn with_a_gate_the_drill_stops_the_set_like_a_person_and_says_so() {
    let account = account();
    let mut stack = Stack::new(&account.cloud, true);
    let answer = drilled(&account, &mut stack, MORNING, pending()).await;
    assert_eq!(answer.exit, Exit::Done, "{}", visible(&answer.text));
    let legs = parsed(&answer)["legs"].clone();
    let seen = |leg: usize| legs[leg]["seen"].as_str().unwrap().to_owned();
    assert!(seen(3).starts_with("by verdict at the ISP `other`"), "{}", seen(3));
    assert!(seen(4).ends_with("like by a person, because SES has no switch for one ISP"), "{}", seen(4));
    check_clean(&account);
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_hears_nothing_fails_in_that_leg_with_what_to_do_and_is_cleaned_up() {
    let account = account();
    let (access, order) = (account.access(), order());
    let answer = answered(drill(&access, &order, MORNING, &Asking::CONFIRMED, pending()).await).unwrap();
    insta::assert_snapshot!(visible(&answer.text));
    assert_eq!(answer.exit, Exit::No);
    check_clean(&account);
}

#[tokio::test(start_paused = true)]
async fn whenever_it_is_interrupted_it_cleans_up() {
    let mut ends = std::collections::BTreeSet::new();
    for seconds in (0..24).step_by(2) {
        let account = account();
        let mut stack = Stack::new(&account.cloud, false);
        let answer = drilled(&account, &mut stack, MORNING, sleep(Duration::from_secs(seconds))).await;
        let interrupted = results(&answer).into_iter().find(|leg| leg.ends_with("interrupted"));
        assert_eq!(answer.exit, if interrupted.is_some() { Exit::No } else { Exit::Done }, "{seconds} s");
        assert_eq!(results(&answer).last().unwrap(), "clean_up passed", "{seconds} s: {}", visible(&answer.text));
        check_clean(&account);
        ends.extend(interrupted);
    }
    assert!(ends.len() >= 4, "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn what_remains_is_named_with_its_command() {
    let account = account();
    let mut stack = Stack::new(&account.cloud, false);
    let ignore_changes = async {
        sleep(Duration::from_secs(20)).await;
        account.state().ignores_changes = true;
    };
    let (answer, ()) = tokio::join!(drilled(&account, &mut stack, MORNING, pending()), ignore_changes);
    assert_eq!(answer.exit, Exit::No);
    let left = parsed(&answer)["left"].clone();
    let command = "aws sesv2 delete-configuration-set --configuration-set-name ses-breaker-drill-20261006t090000 --region eu-west-1";
    assert_eq!(left[0]["command"], json!(command), "{left:#}");
    assert!(visible(&answer.text).contains(&format!("\n  {command}\n")), "{}", visible(&answer.text));
}

/// A set that SES refused to create need not be deleted.
#[tokio::test(start_paused = true)]
async fn where_aws_refuses_the_first_leg_says_so_and_nothing_is_left() {
    let account = account();
    account.state().set_refusal = Some((403, "AccessDeniedException"));
    let (access, order) = (account.access(), order());
    let answer = answered(drill(&access, &order, MORNING, &Asking::CONFIRMED, pending()).await).unwrap();
    assert_eq!(answer.exit, Exit::Refused, "{}", visible(&answer.text));
    assert_eq!(results(&answer)[0], "connect failed");
    assert_eq!(parsed(&answer)["legs"][8]["seen"], "nothing was created");
    check_clean(&account);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_created_unless_the_sender_is_verified_and_the_answer_is_yes() {
    let account = account();
    let asked = async |from: &str, asking: &Asking<'_>| {
        let order = Order { from: from.to_owned(), ..order() };
        answered(drill(&account.access(), &order, MORNING, asking, ready(())).await).unwrap_err()
    };
    account.state().identities.insert("b.example".to_owned(), false);
    for (from, remedy) in
        [("a@b.example", "SES knows b.example, but it is not verified."), ("a@c.example", "List the identities")]
    {
        let failure = asked(from, &Asking::CONFIRMED).await;
        assert!(matches!(failure, Failure::NotVerified { .. }), "{failure}");
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.remedy().starts_with(remedy), "{}", failure.remedy());
        assert!(!format!("{failure}{}", failure.remedy()).contains("a@"), "{failure}");
    }
    let nobody = asked(FROM, &Asking::NOBODY).await;
    assert_eq!((nobody.exit(), nobody.remedy().as_str()), (Exit::Usage, "Add --yes."), "{nobody}");
    let no = Asking { confirm: &|_| Confirmed::No, ..Asking::NOBODY };
    assert_eq!(asked(FROM, &no).await.exit(), Exit::No);
    let state = account.state();
    assert_eq!((state.changed.len(), state.mails.len()), (0, 0));
}
