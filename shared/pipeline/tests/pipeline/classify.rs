//! What counts: the table of `ARCHITECTURE.md`, row by row.

use std::collections::BTreeSet;

use pipeline::classify::{Oddity, Outcome};
use reputation::{Policy, Subject, Unit};

use super::kit::{Fixture, Rng, for_each_seed};

const POLICY: &str = "[subjects]\ntenants = true\ntags = [\"campaign\"]\nown_domains = [\"Own.Example.com\"]";

/// An event of this type about a mail to these recipients.
fn event(kind: &str, to: &[&str], detail: &str) -> String {
    let to = to.iter().map(|to| format!("\"{to}\"")).collect::<Vec<_>>().join(",");
    format!(
        r#"{{"eventType":"{kind}","mail":{{"timestamp":"2026-10-06T07:59:30.000Z","messageId":"m1","source":"News <n@mail.example.com>","destination":[{to}],"tags":{{"ses:configuration-set":["news"]}}}}{detail}}}"#
    )
}

fn bounce(kind: &str, sub: &str, rest: &str) -> String {
    let failed = format!(r#"{{"emailAddress":"a@gmail.com"{rest}}}"#);
    bounce_of(kind, sub, &failed)
}

fn bounce_of(kind: &str, sub: &str, failed: &str) -> String {
    let detail = format!(
        r#","bounce":{{"bounceType":"{kind}","bounceSubType":"{sub}","bouncedRecipients":[{failed}],"timestamp":"2026-10-06T07:59:31.000Z","feedbackId":"f1"}}"#
    );
    event("Bounce", &["a@gmail.com", "b@yahoo.com"], &detail)
}

fn delay(kind: &str, rest: &str) -> String {
    let detail = format!(
        r#","deliveryDelay":{{"delayType":"{kind}","delayedRecipients":[{{"emailAddress":"a@gmail.com"{rest}}}],"timestamp":"2026-10-06T07:59:40.000Z"}}"#
    );
    event("DeliveryDelay", &["a@gmail.com", "b@yahoo.com"], &detail)
}

fn complaint(to: &[&str], rest: &str) -> String {
    let detail = format!(r#","complaint":{{"timestamp":"2026-10-06T07:59:50.000Z"{rest}}}"#);
    event("Complaint", to, &detail)
}

/// What an event is counted as: `kind isp, kind isp`, in order, followed by ` (oddity)`; `ignored: name`; or `refused:
/// why`.
fn counted(fixture: &mut Fixture, json: &str) -> (String, Vec<Unit>) {
    let (outcome, units) = fixture.classify(json);
    let shown = |unit: &Unit| format!("{} {}", unit.kind.counter_name(), fixture.policy.isp_map.name(unit.isp));
    let shown = units.iter().map(shown).collect::<Vec<_>>().join(", ");
    match outcome {
        Ok(Outcome::Counted(oddities)) if oddities.is_empty() => (shown, units),
        Ok(Outcome::Counted(oddities)) => {
            let names = oddities.iter().map(Oddity::name).collect::<Vec<_>>().join(", ");
            (format!("{shown} ({names})"), units)
        }
        Ok(Outcome::Ignored(name)) => {
            assert!(units.is_empty());
            (format!("ignored: {name}"), units)
        }
        Err(refused) => {
            assert!(units.is_empty());
            (format!("refused: {refused}"), units)
        }
    }
}

fn check(sentence: &str, json: &str, expected: &str) {
    let mut fixture = Fixture::new(Policy::from_toml(POLICY).expect("valid by construction"));
    let (found, units) = counted(&mut fixture, json);
    assert_eq!(found, expected, "{sentence}: {json}");
    // Delivered again, it yields the same facts.
    let again = counted(&mut fixture, json).1;
    assert_eq!(units, again, "{sentence}");
    let keys: BTreeSet<_> = units.iter().map(|unit| unit.key).collect();
    assert_eq!(keys.len(), units.len(), "{sentence}: two facts share a key");
}

const NO_USER: &str = r#","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 user unknown""#;
const REFUSED: &str = r#","status":"5.7.1","diagnosticCode":"smtp; 550 5.7.1 message refused""#;

#[test]
fn mail_that_goes_out_counts_for_each_recipient() {
    let both = &["a@gmail.com", "b@yahoo.com"];
    check(
        "a Send is about every recipient of the mail",
        &event("Send", both, r#","send":{}"#),
        "sent gmail, sent yahoo",
    );
    check(
        "a Delivery is about those that it names",
        &event(
            "Delivery",
            both,
            r#","delivery":{"timestamp":"2026-10-06T07:59:31.000Z","recipients":["b@yahoo.com"]}"#,
        ),
        "delivered yahoo",
    );
    check(
        "a Delivery that names no recipient is about the whole mail",
        &event("Delivery", both, r#","delivery":{"timestamp":"2026-10-06T07:59:31.000Z"}"#),
        "delivered gmail, delivered yahoo",
    );
    check("an unknown domain is `other`", &event("Send", &["a@b.example"], r#","send":{}"#), "sent other");
    check(
        "an address may have a name and capitals",
        &event("Send", &["A B <A@GoogleMail.COM>"], r#","send":{}"#),
        "sent gmail",
    );
    check(
        "a mail without recipients is refused",
        &event("Send", &[], r#","send":{}"#),
        "refused: Send names no recipient",
    );
}

#[test]
fn bounces_count_by_their_type() {
    let check_bounce = |sentence, kind, sub, rest, expected| check(sentence, &bounce(kind, sub, rest), expected);
    check_bounce("Permanent General is hard", "Permanent", "General", NO_USER, "hard_bounces gmail");
    check_bounce("NoEmail is hard", "Permanent", "NoEmail", NO_USER, "hard_bounces gmail");
    check_bounce(
        "SES's own global list is hard: SES counts it",
        "Permanent",
        "Suppressed",
        NO_USER,
        "hard_bounces gmail",
    );
    check_bounce("an unknown permanent subtype is hard", "Permanent", "Novel", NO_USER, "hard_bounces gmail");
    check_bounce(
        "the account's list is not an attempt",
        "Permanent",
        "OnAccountSuppressionList",
        "",
        "suppressed gmail",
    );
    check_bounce("a tenant's list is not an attempt", "Permanent", "OnTenantSuppressionList", "", "suppressed gmail");
    check_bounce(
        "a failed validation is not an attempt",
        "Permanent",
        "EmailValidationSuppressed",
        "",
        "suppressed gmail",
    );
    check_bounce(
        "an unsubscribed recipient is not an attempt",
        "Permanent",
        "UnsubscribedRecipient",
        "",
        "suppressed gmail",
    );
    check_bounce("out of office is soft", "Transient", "General", "", "soft_bounces gmail");
    check_bounce("a full mailbox is soft", "Transient", "MailboxFull", "", "soft_bounces gmail");
    check_bounce("an unknown transient subtype is soft", "Transient", "Novel", "", "soft_bounces gmail");
    check_bounce(
        "the sender's own time limit is not an answer of the ISP, whatever its text",
        "Transient",
        "CustomTimeoutExceeded",
        r#","status":"4.7.0","diagnosticCode":"smtp; 421 4.7.0 rate limited""#,
        "soft_bounces gmail",
    );
    check_bounce("undetermined stands by itself", "Undetermined", "Undetermined", "", "undetermined gmail");
    check_bounce(
        "a type that SES may add is ignored by name",
        "Novel",
        "General",
        REFUSED,
        "ignored: unknown_bounce_type",
    );
    check(
        "a bounce that names no recipient is about the whole mail",
        &bounce_of("Permanent", "General", ""),
        "hard_bounces gmail, hard_bounces yahoo",
    );
    check(
        "each of several recipients counts at its own ISP",
        &bounce_of("Permanent", "General", r#"{"emailAddress":"a@gmail.com"},{"emailAddress":"b@yahoo.com"}"#),
        "hard_bounces gmail, hard_bounces yahoo",
    );
}

#[test]
fn a_refusal_of_the_sender_counts_beside_its_bounce_or_delay() {
    check("by status", &bounce("Permanent", "General", REFUSED), "hard_bounces gmail, blocks gmail");
    check("by subtype", &bounce("Transient", "ContentRejected", ""), "soft_bounces gmail, blocks gmail");
    check(
        "by what the server says",
        &bounce("Undetermined", "Undetermined", r#","status":"5.7.1","diagnosticCode":"smtp; 550 5.7.1 blocked""#),
        "undetermined gmail, blocks gmail",
    );
    check("by delay type", &delay("IPFailure", ""), "delays gmail, blocks gmail");
    check("by delay type", &delay("SpamDetected", ""), "delays gmail, blocks gmail");
    check(
        "by the status of a delay",
        &delay(
            "TransientCommunicationFailure",
            r#","status":"4.7.28","diagnosticCode":"smtp; 421 4.7.28 unusual rate""#,
        ),
        "delays gmail, blocks gmail",
    );
    check(
        "not for a mail that was never sent",
        &bounce("Permanent", "OnTenantSuppressionList", REFUSED),
        "suppressed gmail",
    );
    check(
        "only for the recipient that was refused",
        &bounce_of(
            "Permanent",
            "General",
            &format!(r#"{{"emailAddress":"a@gmail.com"{NO_USER}}},{{"emailAddress":"b@yahoo.com"{REFUSED}}}"#),
        ),
        "hard_bounces gmail, hard_bounces yahoo, blocks yahoo",
    );
}

#[test]
fn delays_are_those_of_isps_and_not_of_ses() {
    check("a delay", &delay("TransientCommunicationFailure", ""), "delays gmail");
    check("a full mailbox delays, too", &delay("MailboxFull", ""), "delays gmail");
    check("an unknown delay type is a delay", &delay("Novel", ""), "delays gmail");
    check(
        "SES paces itself: its own unit, and never a block, whatever its text",
        &delay("SendingDeferral", r#","status":"4.7.0","diagnosticCode":"smtp; 421 4.7.0 rate limited""#),
        "deferrals gmail",
    );
}

#[test]
fn a_complaint_counts_once_for_each_feedback_id() {
    let both = &["a@yahoo.com", "b@yahoo.com"];
    let listed =
        r#","feedbackId":"f1","complainedRecipients":[{"emailAddress":"a@yahoo.com"},{"emailAddress":"b@yahoo.com"}]"#;
    check("SES lists guesses: one complaint", &complaint(both, listed), "complaints yahoo");
    check(
        "a null subtype is none",
        &complaint(both, &format!(r#"{listed},"complaintSubType":null,"complaintFeedbackType":"abuse""#)),
        "complaints yahoo",
    );
    check("no recipient listed: the mail's recipients", &complaint(both, r#","feedbackId":"f1""#), "complaints yahoo");
    check(
        "`not-spam` is not a complaint",
        &complaint(both, &format!(r#"{listed},"complaintFeedbackType":"not-spam""#)),
        "ignored: not_spam",
    );
    check(
        "a mail on the account's list was never sent",
        &complaint(both, &format!(r#"{listed},"complaintSubType":"OnAccountSuppressionList""#)),
        "ignored: suppressed_complaint",
    );
    check(
        "a mail on a tenant's list was never sent",
        &complaint(both, &format!(r#"{listed},"complaintSubType":"OnTenantSuppressionList""#)),
        "ignored: suppressed_complaint",
    );
    check(
        "complaints that cannot be distinguished count once for their message",
        &complaint(both, r#","complainedRecipients":[{"emailAddress":"a@yahoo.com"}]"#),
        "complaints yahoo (complaint_without_feedback_id)",
    );
    check(
        "an empty id is none",
        &complaint(both, ",\"feedbackId\":\"\""),
        "complaints yahoo (complaint_without_feedback_id)",
    );
    check(
        "a complaint about a mail without recipients is not lost",
        &complaint(&[], r#","feedbackId":"f1""#),
        "complaints other (unattributed_recipient)",
    );
}

#[test]
fn what_is_about_the_whole_message_counts_once() {
    let (one, two) = (&["a@gmail.com", "b@gmail.com"], &["a@gmail.com", "b@yahoo.com"]);
    check(
        "at the ISP of its recipients",
        &event("Reject", one, r#","reject":{"reason":"Bad content"}"#),
        "rejects gmail",
    );
    check(
        "at `other` if they are at several",
        &event("Reject", two, r#","reject":{"reason":"Bad content"}"#),
        "rejects other",
    );
    check(
        "a template that does not render",
        &event("Rendering Failure", one, r#","failure":{"templateName":"t","errorMessage":"e"}"#),
        "rendering_failures gmail",
    );
    let seen = |bot: &str| format!(r#"{{"timestamp":"2026-10-06T07:59:59.000Z"{bot}}}"#);
    check("an open", &event("Open", one, &format!(r#","open":{}"#, seen(""))), "opens gmail");
    check(
        "a click",
        &event("Click", one, &format!(r#","click":{}"#, seen(r#","isBotEvent":"Unlikely""#))),
        "clicks gmail",
    );
    check(
        "an open by a machine",
        &event("Open", one, &format!(r#","open":{}"#, seen(r#","isBotEvent":"Likely""#))),
        "ignored: bot_engagement",
    );
    check(
        "a click by a machine",
        &event("Click", one, &format!(r#","click":{}"#, seen(r#","isBotEvent":"Likely""#))),
        "ignored: bot_engagement",
    );
    check(
        "a change of preferences",
        &event("Subscription", one, r#","subscription":{"contactList":"l","timestamp":"2026-10-06T07:59:59.000Z"}"#),
        "ignored: Subscription",
    );
}

#[test]
fn the_simulator_and_own_domains_count_on_no_side() {
    let (simulator, own) = ("success@simulator.amazonses.com", "boss@own.example.com");
    check("the simulator, sent", &event("Send", &[simulator], r#","send":{}"#), "ignored: mailbox_simulator");
    check("an own domain, sent", &event("Send", &[own], r#","send":{}"#), "ignored: own_domain");
    check("beside real mail", &event("Send", &[simulator, "a@gmail.com", own], r#","send":{}"#), "sent gmail");
    check(
        "the simulator, bounced",
        &bounce_of("Permanent", "General", r#"{"emailAddress":"bounce@simulator.amazonses.com"}"#),
        "ignored: mailbox_simulator",
    );
    check(
        "the simulator, complaining",
        &complaint(&["complaint@simulator.amazonses.com"], r#","feedbackId":"f1""#),
        "ignored: mailbox_simulator",
    );
    check("the simulator, rejected", &event("Reject", &[simulator], r#","reject":{}"#), "ignored: mailbox_simulator");
    check(
        "a subdomain of an own domain is not ours",
        &event("Send", &["a@x.own.example.com"], r#","send":{}"#),
        "sent other",
    );
}

/// With a configuration set of a drill, mail to the simulator alone counts, for that set alone.
#[test]
fn a_drill_counts_for_its_configuration_set_alone() {
    let (simulator, of_drill) =
        ("bounce@simulator.amazonses.com", |json: &str| json.replace("news", "ses-breaker-drill-1"));
    let bounced = r#","bounce":{"bounceType":"Permanent","bounceSubType":"General","bouncedRecipients":[{"emailAddress":"bounce@simulator.amazonses.com"}],"timestamp":"2026-10-06T07:59:31.000Z","feedbackId":"f1"}"#;
    check("sent", &of_drill(&event("Send", &[simulator], r#","send":{}"#)), "sent other");
    check("bounced", &of_drill(&event("Bounce", &[simulator], bounced)), "hard_bounces other");
    check(
        "beside a real recipient it is mail like any other",
        &of_drill(&event("Send", &[simulator, "a@gmail.com"], r#","send":{}"#)),
        "sent gmail",
    );
    check("without a known recipient", &of_drill(&event("Bounce", &[], bounced)), "ignored: mailbox_simulator");

    let mut fixture = Fixture::new(Policy::from_toml(POLICY).expect("valid by construction"));
    let mut subjects = |to: &str| {
        let (_, units) = fixture.classify(&of_drill(&event("Send", &[to], r#","send":{}"#)));
        let of = |unit: &Unit| fixture.senders.subjects(unit.sender).iter().map(Subject::to_string).collect::<Vec<_>>();
        units.iter().flat_map(of).collect::<Vec<_>>()
    };
    assert_eq!(subjects(simulator), ["configuration-set:ses-breaker-drill-1"]);
    assert_eq!(subjects("a@gmail.com"), ["configuration-set:ses-breaker-drill-1", "identity:mail.example.com"]);
    assert_eq!(subjects(simulator), ["configuration-set:ses-breaker-drill-1"], "the two are distinct");
}

#[test]
fn dates_that_cannot_be_are_refused_and_move_nothing() {
    let at = |date: &str| event("Send", &["a@gmail.com"], r#","send":{}"#).replace("2026-10-06T07:59:30.000Z", date);
    check("an hour ahead is a clock that differs", &at("2026-10-06T09:00:00.000Z"), "sent gmail");
    check(
        "more is wrong",
        &at("2026-10-06T09:01:00.000Z"),
        "refused: mail.timestamp is more than an hour later than now (61 min)",
    );
    check(
        "before SES existed",
        &at("2010-12-31T23:59:59.999Z"),
        "refused: mail.timestamp is 1293839999999 ms after 1970, before SES existed",
    );
    check(
        "SES's own date of what happened is checked, too",
        &delay("General", "").replace("2026-10-06T07:59:40.000Z", "2026-10-06T10:00:00.000Z"),
        "refused: deliveryDelay.timestamp is more than an hour later than now (120 min)",
    );
    check(
        "a provider's clock may be ahead: that costs its date alone",
        &bounce("Permanent", "General", NO_USER).replace("2026-10-06T07:59:31.000Z", "2026-10-06T10:00:00.000Z"),
        "hard_bounces gmail (date_in_the_future)",
    );
    check(
        "a provider's date may be unreadable: that costs it alone",
        &bounce("Permanent", "General", NO_USER).replace("2026-10-06T07:59:31.000Z", "yesterday"),
        "hard_bounces gmail (unreadable_date)",
    );
    check(
        "a provider's clock may be behind the mail's",
        &bounce("Permanent", "General", NO_USER).replace("2026-10-06T07:59:31.000Z", "2026-10-06T07:00:00.000Z"),
        "hard_bounces gmail",
    );
}

#[test]
fn an_address_that_cannot_be_read_counts_at_other_and_takes_no_neighbour_along() {
    check(
        "of a Send",
        &event("Send", &["a@gmail.com", "no address here"], r#","send":{}"#),
        "sent gmail, sent other (unreadable_recipient)",
    );
    check(
        "of a Delivery",
        &event(
            "Delivery",
            &["no address here", "a@gmail.com"],
            r#","delivery":{"timestamp":"2026-10-06T07:59:31.000Z"}"#,
        ),
        "delivered other, delivered gmail (unreadable_recipient)",
    );
    check(
        "of a mail that is rejected as a whole",
        &event("Reject", &["no address here"], r#","reject":{"reason":"Bad content"}"#),
        "rejects other (unreadable_recipient)",
    );
}

/// A hard bounce of a mail to these, with these Final-Recipients; an empty one is absent.
fn bounce_naming(to: &[&str], named: &[&str]) -> String {
    let one = |named: &&str| match *named {
        "" => r#"{"status":"5.1.1"}"#.to_owned(),
        named => format!(r#"{{"emailAddress":"{named}","status":"5.1.1"}}"#),
    };
    let failed = named.iter().map(one).collect::<Vec<_>>().join(",");
    let to = to.iter().map(|to| format!("\"{to}\"")).collect::<Vec<_>>().join(",");
    bounce_of("Permanent", "General", &failed).replace(r#""a@gmail.com","b@yahoo.com""#, &to)
}

#[test]
fn a_bounce_counts_where_the_mail_went() {
    let check = |sentence, to: &[&str], named: &[&str], expected| check(sentence, &bounce_naming(to, named), expected);
    let work = &["staff@work.example"];
    check("the recipient itself, in another spelling", work, &["Staff <STAFF@Work.Example>"], "hard_bounces other");
    check("with the type of a delivery report", work, &["rfc822; staff@work.example"], "hard_bounces other");
    check("forwarded to a big ISP", work, &["me@gmail.com"], "hard_bounces other (forwarded_recipient)");
    check(
        "forwarded, one of several recipients, the others bounce themselves",
        &["a@gmail.com", "b@yahoo.com"],
        &["b@yahoo.com", "me@outlook.com"],
        "hard_bounces yahoo, hard_bounces gmail (forwarded_recipient)",
    );
    check(
        "an alias at the domain of one of them",
        &["a@gmail.com", "b@yahoo.com"],
        &["alias@yahoo.com"],
        "hard_bounces yahoo (forwarded_recipient)",
    );
    check(
        "one of several at the same ISP",
        &["a@gmail.com", "b@googlemail.com"],
        &["me@outlook.com"],
        "hard_bounces gmail (forwarded_recipient)",
    );
    check(
        "one of several at several ISPs",
        &["a@gmail.com", "b@yahoo.com"],
        &["me@outlook.com"],
        "hard_bounces other (forwarded_recipient, unattributed_recipient)",
    );
    check("a pipe", work, &["|/usr/bin/filter"], "hard_bounces other (unreadable_recipient)");
    check("no address", &["a@gmail.com"], &[""], "hard_bounces gmail (unreadable_recipient)");
    check(
        "a source route beside a good one",
        &["a@gmail.com", "b@yahoo.com"],
        &["a@gmail.com", "@mx.example.org"],
        "hard_bounces gmail, hard_bounces yahoo (unreadable_recipient)",
    );
    check(
        "a file, one of several recipients",
        &["a@gmail.com", "b@yahoo.com"],
        &["/var/mail/bob"],
        "hard_bounces other (unreadable_recipient, unattributed_recipient)",
    );
    check("a mail without recipients: the named one counts", &[], &["me@gmail.com"], "hard_bounces gmail");
    check(
        "what the mail was sent to, although it cannot be read",
        &["undisclosed recipients", "a@gmail.com"],
        &["undisclosed recipients"],
        "hard_bounces other (unreadable_recipient)",
    );
    check("an own domain that forwards", &["boss@own.example.com"], &["me@gmail.com"], "ignored: own_domain");
}

/// The members of a mailing list bounce one by one.
#[test]
fn one_mail_never_fails_for_more_people_than_it_went_to() {
    let members: Vec<String> = (0..12).map(|number| format!("member{number}@elsewhere.example")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    for to in [&["list@corp.example", "u@corp.example"][..], &["list@corp.example", "u@gmail.com"][..]] {
        let mut fixture = Fixture::new(Policy::default());
        let units = counted(&mut fixture, &bounce_naming(to, &members)).1;
        let keys: BTreeSet<_> = units.iter().map(|unit| unit.key).collect();
        assert!((1..=2).contains(&keys.len()), "{} bounces of {to:?}", keys.len());
    }
}

#[test]
fn a_complaint_counts_where_a_recipient_is_known_to_have_got_the_mail() {
    let listed =
        r#","feedbackId":"f1","complainedRecipients":[{"emailAddress":"junk"},{"emailAddress":"b@yahoo.com"}]"#;
    check("the second is known", &complaint(&["a@gmail.com", "b@yahoo.com"], listed), "complaints yahoo");
}

#[test]
fn a_permanent_bounce_that_refuses_the_ip_address_is_not_a_hard_bounce() {
    let text = |says: &str| format!(r#","status":"5.7.1","diagnosticCode":"smtp; 554 5.7.1 {says}""#);
    let listed = text("Service unavailable; client host [192.0.2.1] blocked using zen.spamhaus.org");
    check(
        "SES leaves it out of its rate",
        &bounce("Permanent", "General", &listed),
        "refused_bounces gmail, blocks gmail",
    );
    check("a soft one stays soft", &bounce("Transient", "General", &listed), "soft_bounces gmail, blocks gmail");
    check(
        "of content SES says nothing: it stays hard",
        &bounce("Permanent", "General", &text("this message looks like spam")),
        "hard_bounces gmail, blocks gmail",
    );
}

#[test]
fn the_action_of_a_recipient_decides_whether_it_bounced() {
    let acted = |action: &str| format!(r#","action":"{action}","status":"4.0.0""#);
    check("gave up", &bounce("Permanent", "General", &acted("failed")), "hard_bounces gmail");
    check("goes on trying", &bounce("Permanent", "General", &acted("Delayed")), "delays gmail (delayed_in_bounce)");
    check(
        "got it, beside one that did not",
        &bounce_of(
            "Permanent",
            "General",
            r#"{"emailAddress":"a@gmail.com","action":"relayed"},{"emailAddress":"b@yahoo.com","action":"failed"}"#,
        ),
        "hard_bounces yahoo (reached_in_bounce)",
    );
    check("got it", &bounce("Permanent", "General", &acted("delivered")), "ignored: reached_in_bounce");
    check("an unknown action", &bounce("Permanent", "General", &acted("exploded")), "hard_bounces gmail");
}

#[test]
fn a_mail_belongs_to_its_set_its_identity_and_whatever_the_policy_asks_for() {
    let subjects = |tags: &str, source: &str| {
        let json = event("Send", &["a@gmail.com"], r#","send":{}"#)
            .replace(r#"{"ses:configuration-set":["news"]}"#, tags)
            .replace("News <n@mail.example.com>", source);
        let mut fixture = Fixture::new(Policy::from_toml(POLICY).expect("valid by construction"));
        let units = counted(&mut fixture, &json).1;
        let subjects = fixture.senders.subjects(units[0].sender);
        subjects.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    insta::assert_snapshot!([
        subjects(r#"{"ses:configuration-set":["news"],"ses:from-domain":["Shop.example.com"]}"#, "n@mail.example.com"),
        subjects(r#"{"ses:configuration-set":["news"]}"#, "News <N@Mail.Example.com>"),
        subjects(r#"{"ses:configuration-set":["news"],"ses:tenant-name":["t-1"],"campaign":["autumn","b"]}"#, "n@m.example"),
        subjects("{}", ""),
    ].join("\n"), @r"
    configuration-set:news identity:shop.example.com
    configuration-set:news identity:mail.example.com
    configuration-set:news identity:m.example tenant:t-1 tag:campaign=autumn
    configuration-set:(none) identity:(none)
    ");
}

/// The value of a tag of a mail: absent, empty, or made of pieces, including the separators of sender names.
fn odd_value(rng: &mut Rng) -> Option<String> {
    const PIECES: [&str; 6] = ["a", "b", "\0", "\u{1}", "\u{2}", ":"];
    match rng.below(4) {
        0 => None,
        pieces => Some((1..pieces + rng.below(2)).map(|_| PIECES[rng.below(PIECES.len())]).collect()),
    }
}

#[test]
fn whose_mail_it_is_does_not_depend_on_the_mail_before() {
    const NAMES: [&str; 5] = ["ses:configuration-set", "ses:from-domain", "ses:tenant-name", "campaign", "list"];
    const TAGS: &str = "[subjects]\ntenants = true\ntags = [\"campaign\", \"list\"]";
    let name = "whose_mail_it_is_does_not_depend_on_the_mail_before";
    for_each_seed(name, 200, |seed| {
        let mut rng = Rng(seed);
        let mut fixture = Fixture::new(Policy::from_toml(TAGS).expect("valid by construction"));
        for _ in 0..30 {
            let values = NAMES.map(|_| odd_value(&mut rng));
            let tags: serde_json::Map<String, serde_json::Value> = NAMES
                .iter()
                .zip(&values)
                .filter_map(|(name, value)| Some(((*name).to_owned(), vec![value.clone()?].into())))
                .collect();
            let json = event("Send", &["a@gmail.com"], r#","send":{}"#)
                .replace(r#"{"ses:configuration-set":["news"]}"#, &serde_json::Value::from(tags).to_string());
            let unit = counted(&mut fixture, &json).1[0];
            let found = fixture.senders.subjects(unit.sender);
            // An empty name of a set, an identity or a tenant counts as absent; an empty value of a tag is a value.
            let [set, identity, tenant, campaign, list] = &values;
            let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
            let tag = |name: &str, value: &Option<String>| Some(Subject::Tag(name.into(), value.as_deref()?.into()));
            let expected: Vec<Subject> = [
                Some(Subject::ConfigurationSet(named(set).as_deref().unwrap_or("(none)").into())),
                Some(Subject::Identity(named(identity).as_deref().unwrap_or("mail.example.com").into())),
                named(tenant).map(|name| Subject::Tenant(name.into())),
                tag("campaign", campaign),
                tag("list", list),
            ]
            .into_iter()
            .flatten()
            .collect();
            if found != expected {
                return Err(format!("{json} is mail of {expected:?}, and was taken for mail of {found:?}"));
            }
        }
        Ok(())
    });
}

#[test]
fn both_mechanisms_of_ses_report_one_fact() {
    let published = bounce("Permanent", "General", NO_USER);
    let notified = published
        .replace("\"eventType\"", "\"notificationType\"")
        .replace(r#","tags":{"ses:configuration-set":["news"]}"#, "");
    let mut fixture = Fixture::new(Policy::default());
    let (published, notified) = (counted(&mut fixture, &published).1, counted(&mut fixture, &notified).1);
    assert_eq!((published.len(), notified.len()), (1, 1));
    assert_eq!(published[0].key, notified[0].key);
    assert_ne!(published[0].sender, notified[0].sender, "whichever came first decides whose it is");
}
