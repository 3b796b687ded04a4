//! What people and programs are notified of, and when.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use pipeline::control::Flow;
use pipeline::evaluate::{apply_input, evaluate, tick};
use pipeline::memory::MemoryReputation;
use pipeline::notice::{Alerts, Delivered, Message, Notice, Outbox, Place, SETTLE_MILLIS, deliver};
use pipeline::ports::{DesiredState, DesiredStates as _, Disposition, FailedCalls, PortError, Reputation as _};
use proptest::prelude::*;
use reputation::breaker::{Cause, Input, StateName};
use reputation::detect::{Level, Rule, Verdict};
use reputation::judge::{Judgement, Probe};
use reputation::subject::Key;
use reputation::time::Now;
use reputation::{Metric, Policy, Tally, UnitKind};

const START: Now = Now(1_791_273_600_000);

/// Everything that was sent.
#[derive(Default)]
struct Post {
    messages: Vec<Message>,
    /// Notices with the name of the alert that reports them.
    events: Vec<(Notice, String)>,
    /// The next sends that fail, and whether each was still carried out.
    failures: Vec<Option<bool>>,
}

impl Post {
    fn fails(&mut self, carry_out: impl FnOnce(&mut Post)) -> Result<(), PortError> {
        let failure = self.failures.pop().flatten();
        if failure != Some(false) {
            carry_out(self);
        }
        let error = PortError {
            operation: "sending",
            reason: "a broken connection".to_owned(),
            disposition: Disposition::Retry,
        };
        failure.map_or(Ok(()), |_| Err(error))
    }
}

impl Alerts for Post {
    async fn write(&mut self, message: &Message) -> Result<(), PortError> {
        self.fails(|post| post.messages.push(message.clone()))
    }

    async fn report(&mut self, notice: &Notice, alert: &str) -> Result<(), PortError> {
        self.fails(|post| post.events.push((notice.clone(), alert.to_owned())))
    }
}

struct Fixture {
    policy: Policy,
    store: MemoryReputation,
    post: Post,
    now: Now,
}

impl Fixture {
    fn new(toml: &str) -> Fixture {
        let policy = Policy::from_toml(toml).unwrap().in_world(true);
        Fixture { store: MemoryReputation::under(&policy), policy, post: Post::default(), now: START }
    }

    fn with_gate() -> Fixture {
        Fixture::new("[gate]\nin_use = true\n")
    }

    fn key(&self, name: &str) -> Key {
        let (subject, isp) = match name.split_once('@') {
            Some((subject, isp)) => (subject, Some(self.policy.isp_map.by_name(isp).unwrap())),
            None => (name, None),
        };
        Key { subject: subject.parse().unwrap(), isp }
    }

    /// `bad` of 90 mails bounced, which calls for `level`.
    fn judged(&mut self, name: &str, level: Level, bad: u64) {
        let verdict = Verdict {
            level,
            metric: Metric::HardBounce,
            rule: Rule::Cusum { limit: 0.05, evidence: 34.1, threshold: 10.0, repeats: 0 },
            from: START.minute().minus(1),
            until: START.minute(),
            tally: Tally { population: 90, bad },
        };
        let judgement = match level {
            Level::Warn => Judgement { warn: Some(verdict), ..Judgement::default() },
            Level::Throttle => Judgement { throttle: Some(verdict), ..Judgement::default() },
            Level::Pause => Judgement { pause: Some(verdict), ..Judgement::default() },
        };
        self.said(name, Input::Judged(&judgement));
    }

    /// The key is judged, with `mails` good mails since its breaker began to probe.
    fn clean(&mut self, name: &str, mails: u64) {
        let probe = Probe { accepted: mails, settled: mails, bad: 0, mails, is_good: true, relapse: None };
        self.said(name, Input::Judged(&Judgement { probe, ..Judgement::default() }));
    }

    fn said(&mut self, name: &str, input: Input<'_>) {
        let key = self.key(name);
        pollster::block_on(apply_input(&self.policy, &mut self.store, &key, input, self.now)).unwrap();
    }

    fn minutes(&mut self, minutes: u32) {
        self.now = self.now.plus_minutes(minutes);
    }

    fn deliver(&mut self) -> Result<Delivered, PortError> {
        let later = Now(self.now.0 + SETTLE_MILLIS);
        pollster::block_on(deliver(&self.policy, &mut self.store, &mut self.post, later))
    }

    /// The messages that are sent now.
    fn messages(&mut self) -> Vec<Message> {
        let before = self.post.messages.len();
        self.deliver().unwrap();
        self.post.messages[before..].to_vec()
    }

    /// The text of the only e-mail that is sent now.
    fn mail(&mut self) -> String {
        let messages = self.messages();
        let [message] = messages.as_slice() else { panic!("{messages:#?}") };
        let place = Place { stack: "mail".to_owned(), region: "eu-west-1".to_owned(), ..Place::default() };
        format!("Subject: {}\n\n{}", message.title, message.text(&place))
    }
}

fn titles(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.title.as_str()).collect()
}

#[test]
fn a_throttle_at_an_isp_is_reported_once_for_all_that_share_the_mail() {
    let mut fixture = Fixture::with_gate();
    for name in ["configuration-set:news@gmail", "identity:news.example@gmail", "tag:campaign=it's@gmail"] {
        fixture.judged(name, Level::Throttle, 12);
    }
    insta::assert_snapshot!(fixture.mail());
    let alerts: BTreeSet<&String> = fixture.post.events.iter().map(|(_, alert)| alert).collect();
    assert_eq!((fixture.post.events.len(), alerts.len()), (3, 1));
}

#[test]
fn a_pause_its_probe_and_its_end_are_reported_once_each() {
    let mut fixture = Fixture::new("[gate]\nin_use = false\n");
    let both = ["configuration-set:news", "identity:news.example"];
    fixture.judged("configuration-set:news@gmail", Level::Warn, 20);
    for name in both {
        fixture.judged(name, Level::Pause, 30);
    }
    insta::assert_snapshot!("pause", fixture.mail());
    fixture.minutes(30);
    for name in both {
        fixture.clean(name, 0);
    }
    insta::assert_snapshot!("probing", fixture.mail());
    fixture.minutes(60);
    for name in both {
        fixture.clean(name, 5_000);
    }
    insta::assert_snapshot!("throttled", fixture.mail());
    for _ in 0..2 {
        fixture.minutes(400);
        for name in both {
            fixture.clean(name, 0);
        }
    }
    let messages = fixture.messages();
    assert_eq!(
        titles(&messages),
        ["[SENDING AGAIN] news: 60 min without further harm", "[SENDING AGAIN] news: 60 min without further harm"]
    );
    insta::assert_snapshot!("closed", messages[1].text(&Place::default()));
}

#[test]
fn an_incident_is_reported_with_its_pardons() {
    let mut fixture = Fixture::with_gate();
    fixture.judged("configuration-set:a", Level::Throttle, 40);
    assert_eq!(fixture.messages().len(), 1);
    fixture.minutes(5);
    for name in ["configuration-set:a@gmail", "configuration-set:b@gmail", "identity:a.example@gmail"] {
        fixture.judged(name, Level::Throttle, 12 + name.len() as u64);
    }
    fixture.said("account@gmail", Input::Incident);
    for name in
        ["configuration-set:a", "configuration-set:a@gmail", "configuration-set:b@gmail", "identity:a.example@gmail"]
    {
        fixture.said(name, Input::Pardon);
    }
    // Trouble of an unrelated sender at the same moment is a separate message.
    fixture.judged("configuration-set:z@yahoo", Level::Throttle, 50);
    let messages = fixture.messages();
    assert_eq!(
        titles(&messages),
        [
            "[HELD] gmail: several unrelated senders turned bad at this ISP at the same time",
            "[SLOWED] z at yahoo: 56 % of 90 mails bounced hard"
        ]
    );
    insta::assert_snapshot!(messages[0].text(&Place {
        stack: "mail".to_owned(),
        region: "eu-west-1".to_owned(),
        ..Place::default()
    }));
}

#[test]
fn what_a_person_does_is_always_reported() {
    let mut fixture = Fixture::new("");
    fixture.said("configuration-set:news", Input::PersonStops);
    insta::assert_snapshot!("person_stops", fixture.mail());
    for _ in 0..3 {
        fixture.minutes(1);
        fixture.said("configuration-set:news", Input::PersonResumes);
        assert_eq!(titles(&fixture.messages()), ["[RESUMED by a person] news: a person resumed it"]);
        fixture.minutes(1);
        fixture.said("configuration-set:news", Input::PersonStops);
        assert_eq!(titles(&fixture.messages()), ["[STOPPED by a person] news: a person stopped it"]);
    }
    fixture.said("configuration-set:news", Input::PersonBypasses);
    insta::assert_snapshot!("person_holds", fixture.mail());
}

#[test]
fn in_shadow_a_message_states_that_nothing_is_done() {
    let mut fixture = Fixture::new("mode = \"shadow\"\n");
    fixture.judged("configuration-set:news", Level::Pause, 30);
    insta::assert_snapshot!(fixture.mail());
}

#[test]
fn a_message_says_what_ses_has_made_of_what_was_decided() {
    let effect = |noted: &dyn Fn(DesiredState) -> DesiredState| {
        let mut fixture = Fixture::new("");
        fixture.judged("configuration-set:news", Level::Pause, 30);
        let desired = pollster::block_on(fixture.store.desired_states()).unwrap().remove(0);
        pollster::block_on(fixture.store.note(&noted(desired))).unwrap();
        let mail = fixture.mail();
        mail.lines().find_map(|line| line.strip_prefix("Effect: ")).unwrap().to_owned()
    };
    let trouble = |denied: Option<Now>| Some(FailedCalls { failures: 1, denied, error: "AccessDenied".to_owned() });
    assert_eq!(
        effect(&|desired| DesiredState { observed: Some(Flow::Stopped), ..desired }),
        "SES has obeyed: it accepts no more mail with this configuration set (mail it has accepted still goes out)."
    );
    let asked = "SES is asked to accept no more mail with this configuration set";
    assert_eq!(
        effect(&|desired| DesiredState { trouble: trouble(Some(START)), ..desired }),
        format!("{asked}, and refuses: AccessDenied; it is asked again every few minutes.")
    );
    assert_eq!(
        effect(&|desired| DesiredState { trouble: trouble(None), ..desired }),
        format!("{asked}, and has not done it yet: AccessDenied.")
    );
    assert_eq!(
        effect(&|desired| DesiredState { gone: Some(START), ..desired }),
        format!("{asked}, and does not know it.")
    );
    // A later decision has replaced it.
    assert_eq!(effect(&|desired| DesiredState { flow: Flow::Flowing, ..desired }), format!("{asked}."));
}

#[test]
fn a_denial_is_reported_at_once_in_its_own_message() {
    let mut fixture = Fixture::new("");
    let denied =
        Notice::denied(&"configuration-set:news".parse().unwrap(), "AccessDeniedException", fixture.now, fixture.now);
    pollster::block_on(fixture.store.put(&denied)).unwrap();
    insta::assert_snapshot!(fixture.mail());
}

#[test]
fn notices_wait_for_a_moment_and_no_longer() {
    let mut fixture = Fixture::new("");
    fixture.judged("configuration-set:news", Level::Pause, 30);
    let mut at = |millis: i64| {
        let now = Now(START.0 + millis);
        let delivered =
            pollster::block_on(deliver(&fixture.policy, &mut fixture.store, &mut fixture.post, now)).unwrap();
        (delivered.messages, delivered.wait.map(|wait| wait.as_millis()))
    };
    assert_eq!(at(0), (0, Some(1_500)));
    assert_eq!(at(1_499), (0, Some(1)));
    assert_eq!(at(1_500), (1, None));
    // A notice from a wrong clock is not waited for.
    fixture.now = Now(START.0 + 3_600_000);
    fixture.said("configuration-set:news", Input::PersonResumes);
    let delivered = pollster::block_on(deliver(&fixture.policy, &mut fixture.store, &mut fixture.post, START)).unwrap();
    assert_eq!((delivered.messages, delivered.wait), (1, None));
}

#[test]
fn what_flaps_is_reported_once_and_then_summarised_each_hour() {
    let mut fixture = Fixture::with_gate();
    let name = "configuration-set:news@gmail";
    let mut messages = BTreeMap::new();
    // Cut, raised to the whole, and cut again, for nine hours.
    for half_hour in 0..18 {
        match half_hour % 2 {
            0 => fixture.judged(name, Level::Throttle, 12),
            _ => fixture.said(name, Input::Pardon),
        }
        for message in fixture.messages() {
            messages.insert(half_hour, message);
        }
        fixture.minutes(30);
    }
    let titles: Vec<String> = messages.iter().map(|(at, message)| format!("{at:2} {}", message.title)).collect();
    insta::assert_snapshot!(titles.join("\n"));
    insta::assert_snapshot!("flapping", messages[&5].text(&Place::default()));
}

#[test]
fn the_policy_sets_how_soon_the_same_is_reported_again() {
    let check = |toml: &str, expected: &[i64]| {
        let mut fixture = Fixture::new(toml);
        let name = "configuration-set:news@gmail";
        let mut minutes = Vec::new();
        for minute in 0..12 {
            fixture.judged(name, Level::Throttle, 12);
            minutes.extend(fixture.messages().iter().map(|_| minute * 5));
            fixture.minutes(5);
        }
        assert_eq!(minutes, expected, "{toml}");
    };
    // The first cut, and the first that is further down, are news.
    check("[alerts]\nagain_minutes = 360\nsummary_minutes = 60\n", &[0, 5]);
    check("[alerts]\nagain_minutes = 20\nsummary_minutes = 60\n", &[0, 5, 25, 45]);
    check("[alerts]\nagain_minutes = 360\nsummary_minutes = 15\n", &[0, 5, 20, 35, 50]);
}

#[test]
fn a_pause_is_never_held_back_unless_the_last_message_said_so() {
    let mut fixture = Fixture::with_gate();
    let name = "configuration-set:news";
    let mut messages = Vec::new();
    for _ in 0..3 {
        fixture.judged(name, Level::Pause, 30);
        messages.extend(fixture.messages());
        fixture.minutes(5);
        fixture.said(name, Input::Pardon);
        messages.extend(fixture.messages());
        fixture.minutes(5);
    }
    let pause = "[STOPPED] news: 33 % of 90 mails bounced hard";
    let end = "[SENDING AGAIN] news: the ISP itself is in trouble";
    // The first end is reported, so the second pause is, too; the second end is not, so the third pause is not either.
    assert_eq!(titles(&messages), [pause, end, pause]);
    // Held-back changes are reported an hour after the last message, even if nothing more happens.
    fixture.minutes(30);
    assert_eq!(titles(&fixture.messages()), Vec::<&str>::new());
    fixture.minutes(30);
    let messages = fixture.messages();
    assert_eq!(titles(&messages), ["[SUMMARY, now sending] news: 3 more changes"]);
    insta::assert_snapshot!(messages[0].text(&Place::default()));
}

#[test]
fn each_cause_has_its_own_message() {
    let mut fixture = Fixture::with_gate();
    let mut causes = Vec::new();
    let mut cause = |fixture: &mut Fixture, name: &str| {
        fixture.deliver().unwrap();
        let (notice, _) = fixture.post.events.last().unwrap();
        let detail: serde_json::Value = serde_json::from_str(&notice.detail).unwrap();
        causes.push(format!("{name}: {}", detail["cause"]));
        fixture.minutes(1);
    };
    let name = "configuration-set:news";
    for (word, input) in [
        ("PersonStops", Input::PersonStops),
        ("PersonReleases", Input::PersonReleases),
        ("PersonBypasses", Input::PersonBypasses),
        ("PersonResumes", Input::PersonResumes),
    ] {
        fixture.said(name, input);
        cause(&mut fixture, word);
    }
    fixture.judged(name, Level::Throttle, 12);
    cause(&mut fixture, "Judged");
    fixture.said(name, Input::Pardon);
    cause(&mut fixture, "Pardon");
    fixture.said("account@gmail", Input::Incident);
    cause(&mut fixture, "Incident");
    fixture.judged(name, Level::Pause, 12);
    fixture.minutes(200);
    fixture.clean(name, 0);
    cause(&mut fixture, "due");
    insta::assert_snapshot!(causes.join(", "));
    assert_eq!(serde_json::to_value(Cause::Time).unwrap(), "time");
}

/// All mails of a configuration set bounce; it sends for an identity that other sets send for, too.
fn of_one_identity(fixture: &mut Fixture, set: &str, bounces: u32) {
    let key = fixture.key(&format!("configuration-set:{set}"));
    let gmail = fixture.policy.isp_map.by_name("gmail").unwrap();
    let identity: reputation::Subject = "identity:a.example".parse().unwrap();
    let subject_state = pollster::block_on(fixture.store.subject_state(&identity, fixture.now)).unwrap();
    subject_state.shares_mail_with.insert(key.subject.clone());
    let subject_state = pollster::block_on(fixture.store.subject_state(&key.subject, fixture.now)).unwrap();
    subject_state.shares_mail_with.insert(identity);
    for kind in [UnitKind::Sent, UnitKind::HardBounce] {
        subject_state.timeline.add(fixture.now.minute(), gmail, kind, bounces, false, fixture.now);
    }
    let (policy, now) = (fixture.policy.clone(), fixture.now);
    pollster::block_on(evaluate(&policy, &mut fixture.store, &key.subject, &BTreeSet::new(), now)).unwrap();
}

#[test]
fn what_is_left_to_a_set_is_said_with_the_stop_of_that_set_and_otherwise_only_recorded() {
    let mut fixture = Fixture::with_gate();
    let identity: reputation::Subject = "identity:a.example".parse().unwrap();
    let gmail = fixture.policy.isp_map.by_name("gmail").unwrap();
    let mail = |fixture: &mut Fixture, bounces: u32, others: u32| {
        let subject_state = pollster::block_on(fixture.store.subject_state(&identity, fixture.now)).unwrap();
        for (kind, count) in
            [(UnitKind::Sent, bounces + others), (UnitKind::HardBounce, bounces), (UnitKind::Delivered, others)]
        {
            subject_state.timeline.add(fixture.now.minute(), gmail, kind, count, false, fixture.now);
        }
        of_one_identity(fixture, "news", bounces);
        let (policy, now) = (fixture.policy.clone(), fixture.now);
        pollster::block_on(evaluate(&policy, &mut fixture.store, &identity, &BTreeSet::new(), now)).unwrap();
    };
    mail(&mut fixture, 20, 30);
    let messages = reported_after_a_while(&mut fixture);
    insta::assert_snapshot!(
        messages.iter().map(|message| message.text(&Place::default())).collect::<Vec<_>>().join("\n")
    );
    // Some of its mail was accepted before the stop took effect.
    fixture.minutes(3);
    mail(&mut fixture, 20, 0);
    assert!(reported_after_a_while(&mut fixture).is_empty());
    fixture.minutes(600);
    assert!(reported_after_a_while(&mut fixture).iter().all(|message| message.subject != identity.to_string()));
    let left = fixture.store.transitions.iter().filter(|transition| transition.key.subject == identity);
    assert_eq!(
        left.map(|transition| (transition.from, transition.to, transition.cause)).collect::<Vec<_>>(),
        [(StateName::Closed, StateName::Closed, Cause::Pardon); 2]
    );
}

/// The messages that are sent after the time in which sets of one identity may follow each other.
fn reported_after_a_while(fixture: &mut Fixture) -> Vec<Message> {
    fixture.now = Now(fixture.now.0 + 20_000);
    fixture.messages()
}

#[test]
fn a_withheld_stop_of_a_known_incident_is_reported_at_once() {
    let mut fixture = Fixture::new("[gate]\nin_use = false\n[breaker]\nmax_pauses_per_hour = 1\n");
    of_one_identity(&mut fixture, "news", 9);
    assert_eq!(titles(&reported_after_a_while(&mut fixture)), ["[STOPPED] news: 100 % of 9 mails bounced hard"]);
    fixture.minutes(3);
    of_one_identity(&mut fixture, "sale", 9);
    let messages = reported_after_a_while(&mut fixture);
    assert_eq!(titles(&messages), ["[WARNING, still sending] sale: 100 % of 9 mails bounced hard"]);
}

#[test]
fn what_was_resumed_or_only_in_shadow_holds_back_no_stop_of_another_set() {
    let mut fixture = Fixture::new("[gate]\nin_use = false\n[subjects]\nshadow = [\"configuration-set:news\"]\n");
    of_one_identity(&mut fixture, "news", 9);
    assert_eq!(
        titles(&reported_after_a_while(&mut fixture)),
        ["[SHADOW, would be stopped] news: 100 % of 9 mails bounced hard"]
    );
    fixture.minutes(3);
    of_one_identity(&mut fixture, "sale", 9);
    assert_eq!(titles(&reported_after_a_while(&mut fixture)), ["[STOPPED] sale: 100 % of 9 mails bounced hard"]);
    fixture.minutes(3);
    fixture.said("configuration-set:sale", Input::PersonResumes);
    fixture.messages();
    fixture.minutes(3);
    of_one_identity(&mut fixture, "club", 9);
    assert_eq!(titles(&reported_after_a_while(&mut fixture)), ["[STOPPED] club: 100 % of 9 mails bounced hard"]);
}

#[test]
fn a_set_that_stops_after_the_others_is_reported_in_five_minutes_with_what_ses_made_of_it() {
    let mut fixture = Fixture::new("[gate]\nin_use = false\n");
    for set in ["news", "sale"] {
        of_one_identity(&mut fixture, set, 9);
        fixture.minutes(2);
        let messages = reported_after_a_while(&mut fixture).len();
        assert_eq!(messages, usize::from(set == "news"), "{set}");
    }
    let desired_states = pollster::block_on(fixture.store.desired_states()).unwrap();
    for desired in desired_states {
        pollster::block_on(fixture.store.note(&DesiredState { observed: Some(Flow::Stopped), ..desired })).unwrap();
    }
    fixture.minutes(5);
    let messages = fixture.messages();
    assert_eq!(titles(&messages), ["[STOPPED] sale: 100 % of 9 mails bounced hard"]);
    assert!(messages[0].body.contains("Effect: SES has obeyed"), "{}", messages[0].body);
    assert!(!messages[0].first.is_empty() && messages[0].runbook == "stopped", "{:?}", messages[0]);
}

#[test]
fn a_set_that_a_person_stopped_long_ago_answers_for_no_harm_of_its_identity() {
    let harm = |stopped: bool| {
        let mut fixture = Fixture::new("[gate]\nin_use = false\n");
        if stopped {
            fixture.said("configuration-set:old", Input::PersonStops);
            fixture.minutes(3_000);
        }
        let (identity, gmail) =
            (fixture.key("identity:a.example").subject, fixture.policy.isp_map.by_name("gmail").unwrap());
        let (now, minute) = (fixture.now, fixture.now.minute());
        let subject_state = pollster::block_on(fixture.store.subject_state(&identity, now)).unwrap();
        for set in ["old", "b", "c", "(none)"] {
            subject_state.shares_mail_with.insert(format!("configuration-set:{set}").parse().unwrap());
        }
        for (kind, count) in [(UnitKind::Sent, 60), (UnitKind::HardBounce, 20)] {
            subject_state.timeline.add(minute, gmail, kind, count, false, now);
        }
        for set in ["old", "b", "c"] {
            let subject = fixture.key(&format!("configuration-set:{set}")).subject;
            let subject_state = pollster::block_on(fixture.store.subject_state(&subject, now)).unwrap();
            subject_state.shares_mail_with.insert(identity.clone());
        }
        let policy = fixture.policy.clone();
        pollster::block_on(evaluate(&policy, &mut fixture.store, &identity, &BTreeSet::new(), now)).unwrap();
        let messages = fixture.messages();
        messages.into_iter().filter(|message| message.subject == "identity:a.example").collect::<Vec<_>>()
    };
    for stopped in [false, true] {
        let messages = harm(stopped);
        assert_eq!(titles(&messages), ["[WARNING, still sending] identity a.example: 33 % of 60 mails bounced hard"]);
        // Only what SES can stop is offered.
        let lines: Vec<String> = messages[0].commands.iter().map(|command| command.line(&Place::default())).collect();
        assert!(!lines.iter().any(|line| line.contains("(none)")), "{lines:?}");
        assert!(lines.contains(&"ses-breaker stop configuration-set:b".to_owned()), "{lines:?}");
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Judged(usize, u64, Level),
    Person(usize, bool),
    Pardon(usize),
    Seconds(u32),
    Delivery(Vec<Option<bool>>),
}

const KEYS: [&str; 4] =
    ["configuration-set:a", "identity:a.example", "configuration-set:b", "configuration-set:a@gmail"];

fn happening() -> impl Strategy<Value = Happening> {
    let level = prop_oneof![Just(Level::Warn), Just(Level::Throttle), Just(Level::Pause)];
    let failure = prop::option::weighted(0.3, any::<bool>());
    prop_oneof![
        3 => (0..KEYS.len(), 20u64..22, level).prop_map(|(key, bad, level)| Happening::Judged(key, bad, level)),
        1 => (0..KEYS.len(), any::<bool>()).prop_map(|(key, stops)| Happening::Person(key, stops)),
        1 => (0..KEYS.len()).prop_map(Happening::Pardon),
        3 => prop_oneof![0u32..3, 60u32..10_000].prop_map(Happening::Seconds),
        3 => prop::collection::vec(failure, 0..6).prop_map(Happening::Delivery),
    ]
}

/// How many changes a message lists as not reported one by one.
fn summed_up(message: &Message) -> usize {
    let counts =
        message.body.lines().filter_map(|line| line.strip_prefix("And ")?.split(' ').next()?.parse::<usize>().ok());
    counts.sum()
}

proptest! {
    /// Whatever moves and whatever fails: programs get each notice, people get each in a message or in a summary,
    /// nothing is reported in two messages, and a repeated message is the same.
    #[test]
    fn nothing_is_lost_and_nothing_is_reported_twice(happenings in prop::collection::vec(happening(), 1..80)) {
        let mut fixture = Fixture::with_gate();
        for happening in happenings {
            match happening {
                Happening::Judged(key, bad, level) => fixture.judged(KEYS[key], level, bad),
                Happening::Person(key, true) => fixture.said(KEYS[key], Input::PersonStops),
                Happening::Person(key, false) => fixture.said(KEYS[key], Input::PersonResumes),
                Happening::Pardon(key) => fixture.said(KEYS[key], Input::Pardon),
                Happening::Seconds(seconds) => fixture.now = Now(fixture.now.0 + i64::from(seconds) * 1_000),
                Happening::Delivery(failures) => {
                    fixture.post.failures = failures;
                    let _ = fixture.deliver();
                }
            }
        }
        fixture.post.failures.clear();
        fixture.deliver().unwrap();
        // An hour later, held-back changes are reported, too.
        fixture.minutes(61);
        let last = fixture.deliver().unwrap();
        prop_assert_eq!(last.wait, None);

        let mut messages: BTreeMap<&str, &Message> = BTreeMap::new();
        for message in &fixture.post.messages {
            let first = messages.entry(&message.id).or_insert(message);
            prop_assert_eq!(*first, message);
        }
        let mut alert_of: BTreeMap<&str, &str> = BTreeMap::new();
        for (notice, alert) in &fixture.post.events {
            prop_assert_eq!(*alert_of.entry(&notice.id).or_insert(alert), alert.as_str());
        }
        let notices = fixture.store.transitions.len();
        prop_assert_eq!(alert_of.len(), notices);
        let reported = alert_of.values().filter(|alert| messages.contains_key(*alert)).count();
        let summed_up: usize = messages.values().map(|message| summed_up(message)).sum();
        prop_assert_eq!(reported + summed_up, notices);
        prop_assert!(pollster::block_on(fixture.store.unsent()).unwrap().is_empty());
        let alert_queue = pollster::block_on(fixture.store.alert_queue()).unwrap();
        prop_assert!(alert_queue.alerts.is_empty() && alert_queue.sent.values().all(|log| log.held_back.is_none()));
        // The state in the last message about a key is the one it is in.
        for name in KEYS {
            let key = fixture.key(name);
            let state = fixture.store.find(&key.subject).map_or(StateName::Closed, |subject_state| subject_state.breaker(key.isp).breaker.state.name());
            prop_assert_eq!(alert_queue.sent.get(name).map_or(StateName::Closed, |log| log.state), state);
        }
    }
}

#[test]
fn an_isp_in_trouble_without_a_gate_is_a_warning_with_what_ses_counts() {
    let mut fixture = Fixture::new("[gate]\nin_use = false\n");
    for (set, identity) in [("news", "a.example"), ("shop", "b.example"), ("club", "c.example")] {
        let subjects = [format!("configuration-set:{set}"), format!("identity:{identity}")];
        let subjects: Vec<reputation::Subject> = subjects.iter().map(|name| name.parse().unwrap()).collect();
        let gmail = fixture.policy.isp_map.by_name("gmail").unwrap();
        for subject in &subjects {
            let subject_state = pollster::block_on(fixture.store.subject_state(subject, fixture.now)).unwrap();
            // Good until now: a sender without a past gives no evidence about an ISP.
            subject_state.timeline.add(START.minute().minus(120), gmail, UnitKind::Sent, 50, false, fixture.now);
            for (kind, count) in [(UnitKind::Sent, 40), (UnitKind::HardBounce, 25)] {
                subject_state.timeline.add(START.minute(), gmail, kind, count, false, fixture.now);
            }
            pollster::block_on(evaluate(&fixture.policy, &mut fixture.store, subject, &[gmail].into(), fixture.now))
                .unwrap();
        }
    }
    let incident = fixture.mail();
    insta::assert_snapshot!("incident_without_a_gate", incident);
}

/// Two decoys use up the hour's pauses; then the stop of a worse set is withheld, and done once a place is free.
#[test]
fn a_withheld_pause_is_reported_with_what_a_person_can_do_and_again_when_it_is_done() {
    for (name, gate) in [("withheld_without_a_gate", false), ("withheld_with_a_gate", true)] {
        let mut fixture = Fixture::new(&format!("[gate]\nin_use = {gate}\n[breaker]\nmax_pauses_per_hour = 2\n"));
        // With a gate a single ISP would be stopped; spread thinly, only the whole set is bad.
        let isps: Vec<reputation::Isp> = fixture.policy.isp_map.isps().take(24).collect();
        let sends = |fixture: &mut Fixture, set: &str, bounces: usize| {
            let subject: reputation::Subject = format!("configuration-set:{set}").parse().unwrap();
            let subject_state = pollster::block_on(fixture.store.subject_state(&subject, fixture.now)).unwrap();
            for isp in isps.iter().cycle().take(bounces) {
                for kind in [UnitKind::Sent, UnitKind::HardBounce] {
                    subject_state.timeline.add(fixture.now.minute(), *isp, kind, 1, false, fixture.now);
                }
            }
            pollster::block_on(evaluate(&fixture.policy, &mut fixture.store, &subject, &BTreeSet::new(), fixture.now))
                .unwrap();
        };
        for set in ["shop", "club"] {
            sends(&mut fixture, set, 8);
        }
        fixture.messages();
        fixture.minutes(10);
        sends(&mut fixture, "sale", 12);
        let withheld = fixture.mail();
        fixture.minutes(50);
        pollster::block_on(tick(&fixture.policy, &mut fixture.store, fixture.now)).unwrap();
        let messages = fixture.messages();
        let paused = messages.iter().find(|message| message.subject == "configuration-set:sale").unwrap();
        let place = Place { stack: "mail".to_owned(), region: "eu-west-1".to_owned(), ..Place::default() };
        let paused = paused.text(&place);
        insta::assert_snapshot!(name, format!("{withheld}\n{}\n\n{paused}", "=".repeat(72)));
    }
}
