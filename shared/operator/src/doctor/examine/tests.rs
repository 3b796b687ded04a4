//! Each fault that is planted into sound facts is found, and nothing else is.

use serde_json::json;
use terminal::{TermStyle, visible};

use super::*;
use crate::Render as _;
use crate::doctor::Diagnosis;
use crate::doctor::facts::{AccountFacts, Mapping, Place, PolicyFacts, QueueFacts};

/// 2026-10-06 09:00:00 UTC.
const MORNING: Now = Now(1_791_277_200_000);
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:mail-events";
const ALERTS: &str = "arn:aws:sns:eu-west-1:123456789012:mail-alerts";
const QUEUE: &str = "arn:aws:sqs:eu-west-1:123456789012:mail-events";

fn destination(name: &str) -> Destination {
    let events = NEEDED.iter().map(|event| event.as_str().to_owned()).collect();
    Destination { name: name.to_owned(), enabled: true, target: TOPIC.to_owned(), events }
}

fn set() -> Option<SetFacts> {
    Some(SetFacts { destinations: Ok(vec![destination("mail")]), reputation_metrics: Ok(true), stopped_by: None })
}

fn allows(service: &str, action: &str, resource: &str) -> String {
    json!({ "Statement": { "Sid": "A", "Effect": "Allow", "Principal": { "Service": service }, "Action": action, "Resource": resource } })
        .to_string()
}

fn listener(protocol: &str, queue: Option<&str>) -> Listener {
    let arn = Some(format!("{TOPIC}:1"));
    Listener { protocol: protocol.to_owned(), queue: queue.map(str::to_owned), arn, filter: Ok(None) }
}

fn queue(policy: Option<String>) -> QueueFacts {
    QueueFacts { url: "https://sqs/mail-events".to_owned(), policy, waiting: 0 }
}

/// A stack with two configuration sets, one of which had events in the last hour.
fn sound() -> Facts {
    let mapping = Mapping { uuid: "U".to_owned(), state: "Enabled".to_owned(), last: Some("OK".to_owned()) };
    let rules = ["breaker-tick", "enforcer-tick", "warmup-tick", "sending-status", "advisor"];
    let functions = ["ingest", "breaker", "enforcer", "warmup", "gate"];
    let enforcer_alone = |function: &'static str| (function, Ok((function == "enforcer").then_some(1)));
    Facts {
        place: Place {
            stack: "mail".to_owned(),
            region: "eu-west-1".to_owned(),
            partition: "aws".to_owned(),
            account: "123456789012".to_owned(),
            profile: None,
        },
        ahead_millis: Ok(2_000),
        policy: Ok(PolicyFacts { policy: Policy::default(), version: 0, problem: None }),
        heard: Ok([("configuration-set:news".parse().unwrap(), MORNING.minute().minus(HOUR))].into()),
        account: Ok(AccountFacts {
            production: true,
            sending: true,
            enforcement: Some("HEALTHY".to_owned()),
            sent: 1_000,
        }),
        sets: Ok(["news", "receipts"].map(|name| (name.to_owned(), set())).into()),
        identities: Ok([("example.com".to_owned(), Ok(Some("news".to_owned())))].into()),
        left_out: Vec::new(),
        ips: BTreeMap::new(),
        topic_policy: Ok(Some(allows("ses.amazonaws.com", "SNS:Publish", TOPIC))),
        listeners: Ok(vec![listener("sqs", Some(QUEUE))]),
        alert_listeners: Ok(vec![listener("email", None)]),
        queue: Ok(queue(Some(allows("sns.amazonaws.com", "sqs:SendMessage", QUEUE)))),
        dead_letters: Ok(queue(None)),
        other_topics: BTreeMap::new(),
        other_stacks: BTreeMap::new(),
        mappings: ["ingest", "breaker", "enforcer"].map(|function| (function, Ok(vec![mapping.clone()]))).into(),
        concurrency: functions.map(enforcer_alone).into(),
        rules: rules.map(|rule| (rule, Ok(Some(true)))).into_iter().chain([("mail-events", Ok(None))]).collect(),
    }
}

fn found(facts: &Facts) -> Vec<Finding> {
    examine(facts, MORNING).into_iter().flat_map(|examined| examined.findings).collect()
}

fn printed(facts: &Facts) -> String {
    let diagnosis = Diagnosis::of(&facts.place, examine(facts, MORNING), MORNING);
    visible(&diagnosis.text(TermStyle::new(None)))
}

/// The planted fault, then severity, kind, subject and part of the output.
fn check(plant: impl FnOnce(&mut Facts), expected: (Severity, &str, &str, &str)) {
    let mut facts = sound();
    plant(&mut facts);
    let found = found(&facts);
    let [finding] = &found[..] else { panic!("{expected:?}: {found:#?}") };
    assert_eq!((finding.severity, finding.kind, finding.subject.as_str()), (expected.0, expected.1, expected.2));
    assert!(finding.found.contains(expected.3), "{finding:#?}");
    // Each finding says why, and how to fix it: with a command, or where to look.
    assert!(finding.why.ends_with('.') && !finding.fix.is_empty(), "{finding:#?}");
    for command in finding.fix.iter().filter(|step| step.starts_with("aws ") || step.starts_with("ses-breaker ")) {
        let placed = command.contains(" --region eu-west-1") || command.contains("policy check");
        assert!(placed, "{command}");
        assert!(!command.starts_with("ses-breaker ") || command.contains("--stack mail") || command.contains("check"));
    }
}

fn known<T>(fact: &mut Fact<T>) -> &mut T {
    fact.as_mut().unwrap()
}

/// The facts about `news`.
fn news(facts: &mut Facts) -> &mut SetFacts {
    known(&mut facts.sets).get_mut("news").unwrap().as_mut().unwrap()
}

fn of_news(facts: &mut Facts) -> &mut Destination {
    &mut known(&mut news(facts).destinations)[0]
}

fn policy(toml: &'static str) -> impl FnOnce(&mut Facts) {
    move |facts| known(&mut facts.policy).policy = Policy::from_toml(toml).unwrap()
}

#[test]
fn a_sound_stack_prints_only_its_checks() {
    assert_eq!(found(&sound()), []);
    insta::assert_snapshot!(printed(&sound()));
}

#[test]
fn what_ses_and_its_account_lack_is_found() {
    use Severity::{Advice, Fault};
    check(|f| f.ahead_millis = Ok(-360_000), (Fault, "clock-wrong", "this machine", "6 minutes behind"));
    check(|f| f.ahead_millis = Ok(301_000), (Fault, "clock-wrong", "this machine", "5 minutes ahead of"));
    check(|f| known(&mut f.account).sending = false, (Fault, "account-paused", "account", "paused"));
    let enforced =
        |status: &'static str| move |facts: &mut Facts| known(&mut facts.account).enforcement = Some(status.to_owned());
    check(enforced("SHUTDOWN"), (Fault, "account-shutdown", "account", "SHUTDOWN"));
    check(enforced("PROBATION"), (Fault, "account-probation", "account", "under review"));
    let shut_down = |f: &mut Facts| {
        enforced("SHUTDOWN")(f);
        known(&mut f.account).sending = false;
    };
    check(shut_down, (Fault, "account-shutdown", "account", "AWS has paused sending"));
    check(|f| known(&mut f.account).production = false, (Advice, "account-sandbox", "account", "sandbox"));
    let set = "configuration-set:news";
    check(|f| known(&mut news(f).destinations).clear(), (Fault, "destination-missing", set, "no event destination"));
    let elsewhere = |f: &mut Facts| of_news(f).target = TOPIC.replace("mail", "old");
    check(elsewhere, (Fault, "destination-missing", set, "none of its event destinations (mail)"));
    check(|f| of_news(f).enabled = false, (Fault, "destination-disabled", set, "mail is disabled"));
    for event in NEEDED {
        let lacks = format!("lacks {}", event.as_str());
        let drop = |f: &mut Facts| of_news(f).events.retain(|known| known != event.as_str());
        check(drop, (Fault, "destination-incomplete", set, &lacks));
    }
    let old = TOPIC.replace("mail", "old");
    let nowhere = |f: &mut Facts| {
        let left = Destination { target: old.clone(), ..destination("old") };
        known(&mut news(f).destinations).push(left);
        f.other_topics.insert(old.clone(), Ok(false));
    };
    check(nowhere, (Advice, "destination-leads-nowhere", set, "old publishes to"));
    let left_stopped = |f: &mut Facts| {
        news(f).stopped_by = Some("old".to_owned());
        f.other_stacks.insert("old".to_owned(), Ok(false));
    };
    check(left_stopped, (Fault, "stopped-by-a-stack-that-is-gone", set, "the ses-breaker stack old stopped it"));
    check(|f| news(f).reputation_metrics = Ok(false), (Advice, "reputation-metrics-off", set, "off"));
    let default = |default: Option<&'static str>| {
        move |f: &mut Facts| {
            known(&mut f.identities).insert("example.com".to_owned(), Ok(default.map(str::to_owned)));
        }
    };
    check(default(None), (Advice, "default-set-missing", "identity:example.com", "no default"));
    check(default(Some("old")), (Fault, "default-set-gone", "identity:example.com", "set old does not exist"));
    let addresses = |f: &mut Facts| {
        let of = ["ann@example.com", "bob@example.com"].map(|address| (address.to_owned(), Ok(None)));
        known(&mut f.identities).extend(of);
    };
    check(addresses, (Advice, "default-set-missing", "identity:…@example.com", "2 addresses without"));
    let untagged = |f: &mut Facts| {
        known(&mut f.heard).insert("configuration-set:(none)".parse().unwrap(), MORNING.minute().minus(DAY));
    };
    let subject = "configuration-set:(none)";
    check(untagged, (Advice, "identity-notifications", subject, "between 2026-10-05 09:00"));
}

#[test]
fn what_the_way_of_events_lacks_is_found() {
    use Severity::Fault;
    check(|f| f.topic_policy = Ok(None), (Fault, "topic-policy", TOPIC, "does not allow SES to publish"));
    let deny = |f: &mut Facts| {
        let mut policy: serde_json::Value =
            serde_json::from_str(f.topic_policy.clone().unwrap().unwrap().as_str()).unwrap();
        let deny = json!({ "Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "sns:*", "Resource": "*" });
        policy["Statement"] = json!([policy["Statement"], deny]);
        f.topic_policy = Ok(Some(policy.to_string()));
    };
    check(deny, (Fault, "topic-policy", TOPIC, "denies SES to publish, in statement No"));
    let of_one_set = |f: &mut Facts| {
        let condition = json!({ "ArnEquals": { "aws:SourceArn": f.place.arn_of_set("receipts") } });
        let mut policy: serde_json::Value =
            serde_json::from_str(f.topic_policy.clone().unwrap().unwrap().as_str()).unwrap();
        policy["Statement"]["Condition"] = condition;
        f.topic_policy = Ok(Some(policy.to_string()));
    };
    check(of_one_set, (Fault, "topic-policy", TOPIC, "publish for news"));
    check(|f| known(&mut f.queue).policy = None, (Fault, "queue-policy", QUEUE, "does not allow the events topic"));
    check(|f| known(&mut f.listeners).clear(), (Fault, "subscription-missing", TOPIC, "mail-events is not subscribed"));
    let other = |f: &mut Facts| f.listeners = Ok(vec![listener("sqs", Some("arn:aws:sqs:eu-west-1:123456789012:x"))]);
    check(other, (Fault, "subscription-missing", TOPIC, "not subscribed"));
    check(|f| known(&mut f.listeners)[0].arn = None, (Fault, "subscription-pending", TOPIC, "not confirmed"));
    let filter = |f: &mut Facts| known(&mut f.listeners)[0].filter = Ok(Some("{\"x\":[1]}".to_owned()));
    check(filter, (Fault, "subscription-filtered", TOPIC, "{\"x\":[1]}"));
    check(|f| known(&mut f.dead_letters).waiting = 7, (Fault, "dead-letters", "mail-events-dead", "has 7 messages"));
    let stale = |f: &mut Facts| known(&mut f.heard).values_mut().for_each(|last| *last = last.minus(DAY));
    check(
        stale,
        (Fault, "events-stale", "mail-ingest", "between 2026-10-05 08:00 UTC and an hour later, though SES sent 1,000"),
    );
    check(|f| known(&mut f.heard).clear(), (Fault, "events-stale", "mail-ingest", "no event has ever arrived"));
}

#[test]
fn what_the_functions_and_people_lack_is_found() {
    use Severity::{Advice, Fault};
    let mapping = |function: &'static str, plant: fn(&mut Vec<Mapping>)| {
        move |f: &mut Facts| plant(known(f.mappings.get_mut(function).unwrap()))
    };
    let disabled = |mappings: &mut Vec<Mapping>| mappings[0].state = "Disabled".to_owned();
    for function in ["ingest", "breaker", "enforcer"] {
        let name = format!("mail-{function}");
        check(mapping(function, disabled), (Fault, "mapping-disabled", &name, "is disabled"));
        check(mapping(function, Vec::clear), (Fault, "mapping-missing", &name, "no event source mapping wakes it"));
    }
    let failing = |m: &mut Vec<Mapping>| m[0].last = Some("PROBLEM: Function call failed".to_owned());
    check(mapping("breaker", failing), (Fault, "mapping-failing", "mail-breaker", "PROBLEM: Function call failed"));
    let waiting = |f: &mut Facts| {
        disabled(known(f.mappings.get_mut("ingest").unwrap()));
        known(&mut f.queue).waiting = 1_200;
    };
    check(waiting, (Fault, "mapping-disabled", "mail-ingest", "; 1,200 messages wait"));
    let reserve = |function: &'static str, reserved| {
        move |f: &mut Facts| {
            f.concurrency.insert(function, Ok(reserved));
        }
    };
    check(reserve("gate", Some(0)), (Fault, "function-stopped", "mail-gate", "is 0"));
    check(reserve("enforcer", Some(0)), (Fault, "function-stopped", "mail-enforcer", "is 0"));
    check(reserve("enforcer", Some(2)), (Advice, "enforcer-concurrency", "mail-enforcer", "is 2"));
    check(reserve("enforcer", None), (Advice, "enforcer-concurrency", "mail-enforcer", "no reserved"));
    for (rule, severity) in [
        ("breaker-tick", Fault),
        ("enforcer-tick", Fault),
        ("warmup-tick", Fault),
        ("sending-status", Advice),
        ("advisor", Advice),
    ] {
        let name = format!("mail-{rule}");
        let set = |enabled| move |f: &mut Facts| drop(f.rules.insert(rule, Ok(enabled)));
        check(set(Some(false)), (severity, "rule-disabled", &name, "disabled"));
        check(set(None), (severity, "rule-missing", &name, "does not exist"));
    }
    let off = |f: &mut Facts| drop(f.rules.insert("mail-events", Ok(Some(false))));
    check(off, (Advice, "rule-disabled", "mail-mail-events", "disabled"));
    check(|f| known(&mut f.alert_listeners).clear(), (Fault, "alerts-unheard", ALERTS, "no subscription"));
    check(|f| known(&mut f.alert_listeners)[0].arn = None, (Fault, "alerts-unheard", ALERTS, "1 (email) waits"));
}

#[test]
fn what_the_policy_names_in_vain_is_found() {
    use Severity::{Advice, Fault};
    let invalid = |f: &mut Facts| known(&mut f.policy).problem = Some("policy version 3 is invalid".to_owned());
    check(invalid, (Fault, "policy-invalid", "policy", "version 3 is invalid; the default is in use"));
    let nwes = "configuration-set:nwes";
    for (toml, place) in [
        ("[warmup.sets]\nnwes = {}", "[warmup.sets] of the policy"),
        ("[warmup.plan]\noverflow = \"nwes\"", "overflow of [warmup.plan]"),
        ("[warmup.sets]\nnews = { critical_route = \"nwes\" }", "critical_route of [warmup.sets.news]"),
        ("[subjects]\nprotected = [\"configuration-set:nwes\"]", "protected of [subjects]"),
        ("[subjects]\nshadow = [\"configuration-set:nwes\"]", "shadow of [subjects]"),
    ] {
        check(policy(toml), (Fault, "policy-name-unknown", nwes, place));
    }
    let identity = "[subjects]\nprotected = [\"identity:mail.exmaple.com\"]";
    check(policy(identity), (Fault, "policy-name-unknown", "identity:mail.exmaple.com", "protected"));
    let ip = |ip: Option<Ip>| move |f: &mut Facts| drop(f.ips.insert([192, 0, 2, 10].into(), Ok(ip)));
    check(ip(None), (Fault, "dedicated-ip-unknown", "192.0.2.10", "not in this account"));
    check(ip(Some(Ip::Managed)), (Advice, "dedicated-ip-managed", "192.0.2.10", "SES manages it"));
}

#[test]
fn a_sound_but_unusual_stack_has_no_faults() {
    let sound_with = |plant: &dyn Fn(&mut Facts)| {
        let mut facts = sound();
        plant(&mut facts);
        assert_eq!(found(&facts), []);
    };
    // Destinations with other names, one for each event, and further ones.
    sound_with(&|f| {
        let (mut first, mut second) = (destination("a"), destination("b"));
        let events = std::mem::take(&mut first.events);
        (first.events, second.events) = (events[..3].to_vec(), events[3..].to_vec());
        let other = Destination { enabled: false, target: "CloudWatch metrics".to_owned(), ..destination("graphs") };
        news(f).destinations = Ok(vec![first, other, second]);
    });
    // Through EventBridge, if the rule exists.
    sound_with(&|f| {
        of_news(f).target = "arn:aws:events:eu-west-1:123456789012:event-bus/default".to_owned();
        f.rules.insert("mail-events", Ok(Some(true)));
    });
    // It is not known whether the rule exists.
    sound_with(&|f| {
        of_news(f).target = "arn:aws:events:eu-west-1:123456789012:event-bus/default".to_owned();
        let (needs, of) = ("events:DescribeRule", "mail-mail-events".to_owned());
        f.rules.insert("mail-events", Err(NotExamined { needs, of, denied: true, reason: "denied".to_owned() }));
    });
    // No mail, so no events.
    sound_with(&|f| {
        known(&mut f.heard).clear();
        known(&mut f.account).sent = 0;
    });
    // Identity notifications ended the day before yesterday.
    sound_with(&|f| {
        known(&mut f.heard).insert("configuration-set:(none)".parse().unwrap(), MORNING.minute().minus(2 * DAY));
    });
    sound_with(&policy_of(
        "[subjects]\nprotected = [\"identity:mail.example.com\", \"configuration-set:receipts\", \"tenant:t\"]",
    ));
    sound_with(&|f| drop(f.ips.insert([192, 0, 2, 10].into(), Ok(Some(Ip::Standard)))));
    sound_with(&|f| drop(f.concurrency.insert("gate", Ok(Some(20)))));
    // More sets than are read.
    sound_with(&|f| drop(known(&mut f.sets).insert("zzz".to_owned(), None)));
}

fn policy_of(toml: &'static str) -> impl Fn(&mut Facts) {
    move |facts| known(&mut facts.policy).policy = Policy::from_toml(toml).unwrap()
}

#[test]
fn a_fix_goes_on_with_opens_and_clicks() {
    let mut facts = sound();
    of_news(&mut facts).events.push("OPEN".to_owned());
    of_news(&mut facts).enabled = false;
    let fix = "ses-breaker connect news --engagement --stack mail --region eu-west-1";
    assert_eq!(found(&facts)[0].fix, [fix]);
    let place = Place { stack: "ses-breaker".to_owned(), profile: Some("my mail".to_owned()), ..facts.place };
    assert_eq!(place.ours("status"), "ses-breaker status --region eu-west-1 --profile 'my mail'");
}

#[test]
fn what_may_not_be_looked_at_is_named_with_its_permission_and_hides_nothing() {
    let denied = |needs: &'static str, of: &str| NotExamined {
        needs,
        of: of.to_owned(),
        denied: true,
        reason: format!("AccessDeniedException: not authorized to perform {needs}"),
    };
    let mut facts = sound();
    facts.account = Err(denied("ses:GetAccount", "*"));
    for (name, set) in known(&mut facts.sets) {
        set.as_mut().unwrap().reputation_metrics = Err(denied("ses:GetConfigurationSet", name));
    }
    known(&mut facts.sets).get_mut("receipts").unwrap().as_mut().unwrap().destinations = Ok(Vec::new());
    facts.mappings.insert("breaker", Err(denied("lambda:ListEventSourceMappings", "mail-breaker")));
    facts.queue = Err(NotExamined {
        needs: "sqs:GetQueueUrl",
        of: QUEUE.to_owned(),
        denied: false,
        reason: "QueueDoesNotExist: The specified queue does not exist.".to_owned(),
    });
    let organisation = json!({ "Statement": { "Effect": "Allow", "Principal": "*", "Action": "sns:Publish",
        "Condition": { "StringEquals": { "aws:SourceOrgID": "o-1" } } } });
    facts.topic_policy = Ok(Some(organisation.to_string()));
    facts.dead_letters.as_mut().unwrap().waiting = 1;
    facts.alert_listeners = Ok(Vec::new());
    known(&mut facts.identities).insert("example.com".to_owned(), Ok(None));
    insta::assert_snapshot!(printed(&facts));
}

#[test]
fn a_fixed_policy_allows_and_keeps_its_other_statements() {
    let mine = json!({ "Sid": "Mine", "Effect": "Allow", "Principal": "*", "Action": "sns:Subscribe" });
    let deny = json!({ "Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "sns:*" });
    let mut facts = sound();
    facts.topic_policy = Ok(Some(json!({ "Version": "2012-10-17", "Statement": [mine, deny] }).to_string()));
    let finding = &found(&facts)[0];
    let command = &finding.fix[0];
    let (first, last) = (command.find('\'').unwrap(), command.rfind('\'').unwrap());
    let fixed: serde_json::Value = serde_json::from_str(&command[first + 1..last]).unwrap();
    assert_eq!(fixed["Statement"][0], mine);
    assert_eq!(fixed["Statement"].as_array().unwrap().len(), 2);
    facts.topic_policy = Ok(Some(fixed.to_string()));
    assert_eq!(found(&facts), []);
}
