//! The recipients' domains of a replay: the amount of mail, and the evidence of their ISPs.

use replay::domains::DomainBook;
use replay::driver::{Extras, replay_while_readable};
use replay::input::{Progress, Source};
use reputation::Policy;

use crate::streams::options;

fn event(kind: &str, id: u32, destination: &[&str], tags: &str, detail: &str) -> String {
    let destination = destination.iter().map(|to| format!("{to:?}")).collect::<Vec<_>>().join(",");
    let at = "2026-10-06T09:00:00.000Z";
    format!(
        r#"{{"eventType":"{kind}","mail":{{"timestamp":"{at}","messageId":"m{id}","source":"a@news.example",
        "destination":[{destination}],"tags":{{{tags}}}}},{detail}}}"#
    )
    .replace('\n', " ")
}

fn sent(id: u32, destination: &[&str], tags: &str) -> String {
    event("Send", id, destination, tags, r#""send":{}"#)
}

fn bounced(id: u32, destination: &[&str], failed: &str, text: &str) -> String {
    let detail = format!(
        r#""bounce":{{"bounceType":"Permanent","bounceSubType":"General","timestamp":"2026-10-06T09:00:01.000Z",
        "feedbackId":"f{id}","bouncedRecipients":[{{"emailAddress":"{failed}","diagnosticCode":"{text}"}}]}}"#
    );
    event("Bounce", id, destination, "", &detail)
}

fn book(policy: &str, events: &[String], domains: bool) -> Option<DomainBook> {
    let policy = Policy::from_toml(policy).unwrap();
    let options = options(policy);
    let sources = [Source::memory("events", events.join("\n").into_bytes())];
    let extras = Extras { domains, ..Extras::default() };
    let (replay, outcome) = replay_while_readable(&options, extras, &sources, &mut |_| {}, &Progress::new());
    outcome.unwrap();
    assert_eq!(replay.tallies.rejected.len(), 0, "{:?}", replay.tallies);
    replay.domains
}

fn mails(book: &DomainBook) -> Vec<(String, u64)> {
    book.domains().map(|(domain, known)| (domain.to_owned(), known.mails.count())).collect()
}

#[test]
fn nothing_is_kept_unless_it_is_asked_for() {
    assert!(book("", &[sent(1, &["bob@a.example"], "")], false).is_none());
}

#[test]
fn mail_is_counted_by_domain_once_and_never_by_address() {
    let events = [
        sent(1, &["Bob <Bob@A.example>", "amy@gmail.com"], ""),
        sent(2, &["carl@a.example"], ""),
        sent(2, &["carl@a.example"], ""),
        sent(3, &["me@own.example", "x@success.simulator.amazonses.com", "success@simulator.amazonses.com"], ""),
        sent(4, &["x@[192.0.2.1]"], ""),
    ];
    let book = book("[subjects]\nown_domains = [\"own.example\"]", &events, true).unwrap();
    let found = mails(&book);
    assert!(found.contains(&("a.example".to_owned(), 2)) && found.contains(&("gmail.com".to_owned(), 1)), "{found:?}");
    assert!(!found.iter().any(|(domain, _)| domain == "own.example" || domain == "simulator.amazonses.com"));
    assert!(!format!("{book:?}").contains("bob"), "{book:?}");
}

#[test]
fn a_bounce_names_the_server_of_the_domain_that_the_mail_was_sent_to() {
    let text = "smtp; 550 5.1.1 unknown (eu-smtp-inbound-1.mimecast.com)";
    let events = [
        sent(1, &["bob@a.example"], ""),
        bounced(1, &["bob@a.example"], "bob@a.example", text),
        sent(2, &["amy@b.example"], ""),
        bounced(2, &["amy@b.example"], "amy@elsewhere.example", "smtp; 550 5.1.1 unknown (mx1.example.iphmx.com)"),
    ];
    let book = book("", &events, true).unwrap();
    assert_eq!(mails(&book), [("a.example".to_owned(), 1), ("b.example".to_owned(), 1)]);
    let hints: Vec<(&str, &str)> = book.hints().list(1).map(|hint| (hint.domain, hint.isp)).collect();
    assert_eq!(hints, [("a.example", "mimecast"), ("b.example", "cisco")]);
}

#[test]
fn what_ses_calls_an_isp_is_kept_where_all_recipients_are_at_one_domain() {
    let tag = r#""ses:recipient-isp":["ExchangeOnline"]"#;
    let events = [
        sent(1, &["bob@a.example", "amy@a.example"], tag),
        sent(2, &["bob@a.example", "amy@b.example"], tag),
        sent(3, &["bob@b.example"], r#""ses:recipient-isp":[" "]"#),
    ];
    let book = book("", &events, true).unwrap();
    let named: Vec<(String, String, u64)> = book
        .domains()
        .flat_map(|(domain, known)| known.ses.iter().map(move |(name, mails)| (domain, name, mails)))
        .map(|(domain, name, mails)| (domain.to_owned(), name.to_string(), mails.count()))
        .collect();
    assert_eq!(named, [("a.example".to_owned(), "ExchangeOnline".to_owned(), 2)]);
}
