//! Incidents of similar systems that must not happen here, each with a reference to what happened there.

use pipeline::control::ControlKind;
use pipeline::ports::Reputation as _;
use reputation::breaker::{Cause, StateName};
use reputation::judge::forecast;
use reputation::policy::Mode;
use reputation::time::{DAY, HOUR};
use reputation::{Input, Key, Level, Metric, Minute, Policy, State, Subject, UnitKind};

use super::kit::{Fixture, at, identity_of, iso, set_of};

/// A Delivery, Bounce or Complaint about one mail to one recipient, accepted a minute before eight.
fn event(kind: &str, message: &str, to: &str, detail: &str) -> String {
    let accepted = iso(at(-1));
    format!(
        r#"{{"eventType":"{kind}","mail":{{"timestamp":"{accepted}","messageId":"{message}","source":"n@a.example","destination":["{to}"],"tags":{{"ses:configuration-set":["news"]}}}},{detail}}}"#
    )
}

fn delivery(message: &str, to: &str) -> String {
    event("Delivery", message, to, &format!(r#""delivery":{{"timestamp":"{}","recipients":["{to}"]}}"#, iso(at(0))))
}

fn bounce(message: &str, to: &str, kind: &str, sub: &str) -> String {
    let detail = format!(
        r#""bounce":{{"bounceType":"{kind}","bounceSubType":"{sub}","bouncedRecipients":[{{"emailAddress":"{to}"}}],"timestamp":"{}","feedbackId":"b"}}"#,
        iso(at(0))
    );
    event("Bounce", message, to, &detail)
}

fn complaint(message: &str, to: &str, feedback: &str, rest: &str) -> String {
    let detail = format!(
        r#""complaint":{{"feedbackId":"{feedback}","complainedRecipients":[{{"emailAddress":"{to}"}}],"timestamp":"{}"{rest}}}"#,
        iso(at(0))
    );
    event("Complaint", message, to, &detail)
}

fn fixture() -> Fixture {
    let policy = Policy::from_toml("[warmup.sets]\nnews = { warm = true }\n").expect("valid by construction");
    Fixture::new(policy.in_world(true))
}

/// All attempts of a set, and how many of them bounced hard.
fn bounces(fixture: &mut Fixture, set: &str) -> (u64, u64) {
    let tally = tally(fixture, set, Metric::HardBounce);
    (tally.0, tally.1)
}

fn tally(fixture: &mut Fixture, set: &str, metric: Metric) -> (u64, u64) {
    let subject_state = fixture.store.find(&set_of(set)).expect("valid by construction");
    let tally = subject_state.timeline.series(None).expect("valid by construction").sum_since(Minute(0)).tally(metric);
    (tally.population, tally.bad)
}

/// inbound #177: a weekend with 13 mails, one of which bounced, was 7.7 %, and paused the sender.
#[test]
fn one_bounce_in_thirteen_mails_of_a_weekend_does_not_trip() {
    let mut fixture = fixture();
    for hour in 0..13 {
        fixture.mail(("news", "a.example"), "yahoo", at(hour * 240).minute(), 1, u32::from(hour == 6), at(hour * 240));
        let changes = fixture.evaluate(at(hour * 240 + 5));
        assert!(changes.is_empty(), "{changes:?}");
    }
}

/// PostHog: a team that was resumed was paused again at the next sweep, by the mail that had paused it before.
#[test]
fn a_set_that_a_person_resumes_is_not_tripped_again_by_its_old_mail() {
    let mut fixture = fixture();
    for isp in ["yahoo", "gmail", "microsoft"] {
        fixture.mail(("news", "a.example"), isp, at(-10).minute(), 400, 100, at(0));
    }
    fixture.evaluate(at(0));
    let key = |isp| Key { subject: set_of("news"), isp };
    let stopped: Vec<_> = [None, Some("yahoo"), Some("gmail"), Some("microsoft")]
        .into_iter()
        .filter(|isp| fixture.state(&set_of("news"), *isp) == "open")
        .collect();
    assert!(!stopped.is_empty());
    for isp in &stopped {
        let (policy, key) = (fixture.policy.clone(), key(isp.map(|name| fixture.isp(name))));
        pollster::block_on(pipeline::evaluate::apply_input(
            &policy,
            &mut fixture.store,
            &key,
            Input::PersonResumes,
            at(20),
        ))
        .expect("valid by construction");
    }
    for minutes in [20, 21, 60, 61, 300, 2000] {
        // Late bounces of the old mail keep arriving.
        fixture.mail(("news", "a.example"), "yahoo", at(-10).minute(), 20, 20, at(minutes));
        fixture.evaluate(at(minutes));
        for isp in &stopped {
            assert_eq!(fixture.state(&set_of("news"), *isp), "closed", "{isp:?} after {minutes} min");
        }
    }
    // But the rows, and the rate as SES sees it, include them.
    assert_eq!(bounces(&mut fixture, "news"), (1320, 420));
}

/// PostHog again, without a person: a set that resumes by itself is judged by its probe only.
#[test]
fn a_probe_is_judged_by_its_own_mail_only() {
    let mut fixture = fixture();
    fixture.mail(("news", "a.example"), "yahoo", at(-10).minute(), 400, 100, at(0));
    fixture.evaluate(at(0));
    assert_eq!(fixture.state(&set_of("news"), Some("yahoo")), "open");
    fixture.evaluate(at(30));
    assert_eq!(fixture.state(&set_of("news"), Some("yahoo")), "probing");
    fixture.mail(("news", "a.example"), "yahoo", at(-10).minute(), 100, 100, at(35));
    fixture.mail(("news", "a.example"), "yahoo", at(35).minute(), 200, 2, at(40));
    // Its last mail is not old enough: a bounce may still come.
    fixture.evaluate(at(49));
    assert_eq!(fixture.state(&set_of("news"), Some("yahoo")), "probing");
    fixture.evaluate(at(50));
    assert_eq!(fixture.state(&set_of("news"), Some("yahoo")), "throttled");
    assert_eq!(fixture.breaker(&set_of("news"), Some("yahoo")).trips, 1);
    fixture.evaluate(at(110));
    fixture.evaluate(at(170));
    assert_eq!(fixture.state(&set_of("news"), Some("yahoo")), "closed");
    // Good mail took it back.
    assert_eq!(fixture.breaker(&set_of("news"), Some("yahoo")).trips, 0);
}

/// PostHog #74762: feedback by its arrival over mails by their sending exceeded 100 % when a burst was over.
#[test]
fn no_rate_exceeds_a_hundred_percent_however_late_its_feedback_is() {
    let mut fixture = fixture();
    fixture.mail(("news", "a.example"), "yahoo", at(0).minute(), 1000, 0, at(0));
    // Nothing is sent for two days, and then all mail bounces.
    let sender = fixture.sender("news", "a.example");
    let isp = fixture.isp("yahoo");
    let harm =
        [(UnitKind::HardBounce, 600), (UnitKind::Complaint, 1200), (UnitKind::Delay, 1500), (UnitKind::Block, 1700)];
    let late = fixture.units(sender, isp, at(0).minute(), &harm);
    let now = at(i64::from(2 * DAY) + 30);
    fixture.add(&late, now);
    let subject_state = fixture.store.find(&set_of("news")).expect("valid by construction");
    let series = subject_state.timeline.series(None).expect("valid by construction");
    for (_, counters) in series.days().chain(series.hours()) {
        for metric in Metric::ALL {
            let tally = counters.tally(metric);
            assert!(tally.bad <= tally.population, "{metric:?}: {tally:?}");
        }
    }
    for change in fixture.evaluate(now) {
        let verdict = change.transition.and_then(|transition| transition.verdict);
        assert!(verdict.is_none_or(|verdict| verdict.rate() <= 1.0), "{verdict:?}");
    }
    assert_eq!(bounces(&mut fixture, "news"), (1600, 600), "in the cohort of the mail, not of today");
}

/// plunk #491: tests with the mailbox simulator raised a sender's bounce rate; or lowered it.
#[test]
fn the_simulator_is_left_out_on_both_sides() {
    let mut fixture = fixture();
    for message in 0..200 {
        let id = format!("s{message}");
        fixture
            .feed(&bounce(&id, "bounce@simulator.amazonses.com", "Permanent", "General"), at(0))
            .expect("valid by construction");
        fixture.feed(&delivery(&id, "success@simulator.amazonses.com"), at(0)).expect("valid by construction");
        fixture
            .feed(&complaint(&id, "complaint@simulator.amazonses.com", &id, ""), at(0))
            .expect("valid by construction");
    }
    assert!(fixture.store.find(&set_of("news")).is_none(), "nothing was counted");
    fixture.feed(&delivery("m", "a@gmail.com"), at(0)).expect("valid by construction");
    assert_eq!(bounces(&mut fixture, "news"), (1, 0));
}

/// A drill's mail goes to the simulator, and counts for its configuration set alone.
#[test]
fn a_drill_stops_its_own_set_in_shadow_too_and_affects_nothing_else() {
    let mut fixture = Fixture::new(Policy { mode: Mode::Shadow, ..Policy::default() });
    let drill = "ses-breaker-drill-1";
    let of_drill = |event: String| event.replace(r#"["news"]"#, &format!(r#"["{drill}"]"#));
    for message in 0..20 {
        let id = format!("d{message}");
        let to = "bounce@simulator.amazonses.com";
        for event in [event("Send", &id, to, r#""send":{}"#), bounce(&id, to, "Permanent", "General")] {
            fixture.feed(&of_drill(event), at(0)).expect("valid by construction");
        }
    }
    let known: Vec<String> = fixture.store.subject_states().map(|(subject, _)| subject.to_string()).collect();
    assert_eq!(known, [format!("configuration-set:{drill}")]);
    assert_eq!(bounces(&mut fixture, drill), (20, 20));
    let account = pollster::block_on(fixture.store.account(at(0))).expect("memory answers").len();
    assert_eq!(account, 0, "it does not count for the account");
    let changes = fixture.evaluate(at(1));
    let stops: Vec<_> = changes.iter().flat_map(|change| &change.controls).map(|control| control.kind).collect();
    assert_eq!(stops, [ControlKind::PauseConfigurationSet]);
    let places: Vec<_> = changes.iter().filter_map(|change| change.places.as_ref()).collect();
    assert!(places.is_empty(), "it takes no place of the budget: {places:?}");
    // Mail to real recipients that is sent with such a set counts as any other mail.
    fixture.feed(&of_drill(delivery("m", "a@gmail.com")), at(1)).expect("valid by construction");
    assert!(fixture.store.subject_states().any(|(subject, _)| subject.to_string().starts_with("identity:")));
}

/// laravel-mailcoach-ses-feedback #8: events were identified by their messageId, so a complaint after an open was lost.
#[test]
fn different_events_with_the_same_message_id_all_count() {
    let mut fixture = fixture();
    let to = "a@yahoo.com";
    fixture.feed(&delivery("m", to), at(0)).expect("valid by construction");
    fixture.feed(&bounce("m", to, "Permanent", "General"), at(0)).expect("valid by construction");
    fixture.feed(&complaint("m", to, "first", ""), at(0)).expect("valid by construction");
    fixture.feed(&complaint("m", to, "second", ""), at(0)).expect("valid by construction");
    fixture.feed(&complaint("m", to, "second", ""), at(0)).expect("valid by construction");
    assert_eq!(bounces(&mut fixture, "news"), (2, 1));
    assert_eq!(tally(&mut fixture, "news", Metric::Complaint).1, 2);
    assert_eq!(fixture.ledger.len(), 4);
}

/// Mailcoach #58: in December 2020 Gmail answered "no such user" for users it had, and every list was punished for it.
#[test]
fn an_outage_of_a_provider_holds_the_provider_and_punishes_no_sender() {
    let mut fixture = fixture();
    let senders = [("news", "a.example"), ("shop", "b.example"), ("club", "c.example"), ("alerts", "d.example")];
    // Good at Gmail until now, and good elsewhere all the time.
    for (set, identity) in senders {
        fixture.mail((set, identity), "gmail", at(-120).minute(), 1000, 5, at(-110));
        fixture.mail((set, identity), "yahoo", at(-5).minute(), 1000, 5, at(0));
    }
    assert!(fixture.evaluate(at(-1)).is_empty());
    for (index, (set, identity)) in (0..).zip(senders) {
        fixture.mail((set, identity), "gmail", at(index).minute(), 300, 240, at(index));
        fixture.evaluate(at(index));
    }
    fixture.evaluate(at(5));
    let gmail = fixture.isp("gmail");
    let held = fixture.breaker(&reputation::Subject::Account, Some("gmail"));
    assert!(matches!(held.state, State::Open { until: Some(_), .. }), "{held:?}");
    for (set, identity) in senders {
        for subject in [set_of(set), identity_of(identity)] {
            for isp in [None, Some("gmail"), Some("yahoo")] {
                let known = fixture.breaker(&subject, isp);
                assert_eq!((known.state, known.trips), (State::Closed, 0), "{subject} {isp:?}");
            }
        }
    }
    // The hold ends by itself, and the mail of the outage counts against no sender afterwards.
    for minutes in [70, 130, 1000] {
        fixture.evaluate(at(minutes));
    }
    assert_eq!(fixture.state(&reputation::Subject::Account, Some("gmail")), "closed");
    assert!(fixture.store.known_board().unsettled.is_empty(), "{:?}", fixture.store.known_board().unsettled);
    assert!(fixture.store.known_board().isps[&gmail].since.pause > at(0).minute());
}

/// The opposite case: one sender that is bad at one ISP is not an outage.
#[test]
fn a_bad_list_of_one_sender_is_not_an_outage() {
    let mut fixture = fixture();
    for set in ["news", "shop", "club", "alerts"] {
        fixture.mail((set, "a.example"), "gmail", at(0).minute(), 300, 240, at(0));
    }
    fixture.evaluate(at(1));
    assert_eq!(fixture.state(&reputation::Subject::Account, Some("gmail")), "closed");
    assert_eq!(fixture.state(&set_of("news"), Some("gmail")), "open");
}

/// notification-api #2961: the warning at one threshold was never sent, because another condition was always met first.
#[test]
fn a_warning_is_reported_before_anything_is_done_and_once() {
    let mut fixture = fixture();
    let mut transitions = Vec::new();
    for hour in 0..10 {
        // The rate creeps up: 1 %, 2 %, 3 % …
        let (mails, bounces) = (1000, 10 + 10 * hour);
        let now = at(i64::from(hour) * 60);
        fixture.mail(("news", "a.example"), "yahoo", now.minute(), mails, bounces, now);
        for change in fixture.evaluate(now) {
            transitions.extend(
                change.transition.filter(|transition| transition.key == Key { subject: set_of("news"), isp: None }),
            );
        }
    }
    let levels: Vec<_> = transitions.iter().map(|transition| transition.level).collect();
    assert_eq!(levels.first(), Some(&Some(Level::Warn)), "{transitions:#?}");
    assert_eq!(levels.iter().filter(|level| **level == Some(Level::Warn)).count(), 1);
    assert!(transitions[0].reason.contains("the warn line is 3 %"), "{}", transitions[0].reason);
}

/// plunk #491 and PostHog #72810: mail that SES never sent, because it stood on the sender's own list, raised the rate.
#[test]
fn bounces_from_the_own_suppression_list_are_no_harm_and_no_attempt() {
    let mut fixture = fixture();
    for message in 0..2000 {
        let list = ["OnAccountSuppressionList", "OnTenantSuppressionList"][message % 2];
        fixture
            .feed(&bounce(&format!("m{message}"), "a@yahoo.com", "Permanent", list), at(0))
            .expect("valid by construction");
    }
    fixture
        .feed(&complaint("c", "a@yahoo.com", "c", r#","complaintSubType":"OnAccountSuppressionList""#), at(0))
        .expect("valid by construction");
    assert_eq!(bounces(&mut fixture, "news"), (0, 0));
    assert_eq!(tally(&mut fixture, "news", Metric::Complaint), (0, 0));
    assert!(fixture.evaluate(at(1)).is_empty());
    // Bounces from SES's global suppression list count, because SES counts them.
    fixture.feed(&bounce("g", "a@yahoo.com", "Permanent", "Suppressed"), at(2)).expect("valid by construction");
    assert_eq!(bounces(&mut fixture, "news"), (1, 1));
}

/// A person who moves a mail out of the spam folder sends a complaint of the type `not-spam`.
#[test]
fn a_not_spam_report_is_not_a_complaint() {
    let mut fixture = fixture();
    for message in 0..500 {
        let id = format!("m{message}");
        fixture.feed(&delivery(&id, "a@yahoo.com"), at(0)).expect("valid by construction");
        fixture
            .feed(&complaint(&id, "a@yahoo.com", &id, r#","complaintFeedbackType":"not-spam""#), at(0))
            .expect("valid by construction");
    }
    assert_eq!(tally(&mut fixture, "news", Metric::Complaint), (500, 0));
    assert!(fixture.evaluate(at(1)).is_empty());
}

/// Gmail returns no complaints: zero complaints there means no data, and must not dilute the rate at other ISPs.
#[test]
fn the_complaint_rate_at_gmail_is_no_data() {
    let mut fixture = fixture();
    let sender = fixture.sender("news", "a.example");
    for (isp, delivered, complaints) in [("gmail", 90_000, 0), ("yahoo", 10_000, 60)] {
        let isp = fixture.isp(isp);
        let counts = [(UnitKind::Delivered, delivered), (UnitKind::Complaint, complaints)];
        let units = fixture.units(sender, isp, at(-int(HOUR)).minute(), &counts);
        fixture.add(&units, at(0));
    }
    assert_eq!(tally(&mut fixture, "news", Metric::Complaint), (10_000, 60), "0.6 %, not 0.06 %");
    let gmail = fixture.isp("gmail");
    let timeline = &fixture.store.find(&set_of("news")).expect("valid by construction").timeline;
    let at_gmail =
        timeline.series(Some(gmail)).expect("valid by construction").sum_since(Minute(0)).tally(Metric::Complaint);
    assert_eq!(at_gmail.rate(), None);
    let seen = forecast(&Policy::default(), [timeline].into_iter(), at(0));
    let complaints = seen.iter().find(|forecast| forecast.metric == Metric::Complaint).expect("valid by construction");
    assert_eq!((complaints.tally.population, complaints.tally.bad), (10_000, 60));
    fixture.evaluate(at(1));
    assert_eq!(fixture.state(&set_of("news"), Some("yahoo")), "open");
    assert_eq!(fixture.state(&set_of("news"), Some("gmail")), "closed");
}

/// What the controls of a set were, in order.
fn controls_of(fixture: &Fixture, set: &str) -> Vec<&'static str> {
    let of_set = fixture.store.controls.iter().filter(|control| control.target == set_of(set) && control.isp.is_none());
    of_set.map(|control| control.kind.name()).filter(|name| *name != "set_quota_factor").collect()
}

/// Three unrelated senders turn bad at gmail one minute after the other, and stay good at yahoo.
fn gmail_is_in_trouble(fixture: &mut Fixture) {
    for hour in 1..4 {
        for (set, identity) in [("news", "a.example"), ("shop", "b.example"), ("club", "c.example")] {
            for isp in ["gmail", "yahoo"] {
                fixture.mail((set, identity), isp, at(-60 * hour).minute(), 300, 3, at(-60 * hour));
            }
        }
    }
    for (minute, sender) in [("news", "a.example"), ("shop", "b.example"), ("club", "c.example")].iter().enumerate() {
        let now = at(minute as i64);
        fixture.mail(*sender, "yahoo", now.minute(), 30, 0, now);
        fixture.mail(*sender, "gmail", now.minute(), 30, 20, now);
        fixture.evaluate(now);
    }
}

/// Gmail in December 2020: a provider's own trouble is found without a gate, too, and no sender stays stopped for it.
#[test]
fn an_isps_own_trouble_is_distinguished_from_bad_lists_without_a_gate() {
    let mut fixture = Fixture::new(Policy::default());
    assert!(!fixture.policy.gate_in_use, "the default fixture has no gate");
    gmail_is_in_trouble(&mut fixture);
    assert_eq!(fixture.state(&Subject::Account, Some("gmail")), "open");
    for set in ["news", "shop", "club"] {
        assert_eq!(fixture.state(&set_of(set), None), "closed", "{set}");
        let controls = controls_of(&fixture, set);
        assert!(controls.last().is_none_or(|last| *last == "resume_configuration_set"), "{set}: {controls:?}");
    }
    let transition = fixture
        .store
        .transitions
        .iter()
        .find(|transition| transition.cause == Cause::Incident)
        .expect("it is reported");
    assert!(!transition.shadow && transition.level == Some(Level::Warn), "{transition:?}");
    assert!(
        transition.reason.contains("SES counts its bounces all the same: the account is at "),
        "{}",
        transition.reason
    );
    assert!(!fixture.store.controls.iter().any(|control| control.kind.name() == "hold_isp"), "nothing can hold it");
    // Further bad mail there stops no sender while it lasts, and counts again afterwards.
    fixture.mail(("news", "a.example"), "gmail", at(5).minute(), 30, 20, at(5));
    fixture.evaluate(at(5));
    assert_eq!(fixture.state(&set_of("news"), None), "closed");
    (6..200).for_each(|minute| _ = fixture.evaluate(at(minute)));
    assert_eq!(fixture.state(&Subject::Account, Some("gmail")), "closed");
    fixture.mail(("news", "a.example"), "gmail", at(200).minute(), 30, 20, at(200));
    fixture.evaluate(at(200));
    assert_eq!(fixture.state(&set_of("news"), None), "open");
}

/// A few bounces must not excuse all senders at a big ISP until SES pauses the account.
#[test]
fn no_sender_is_excused_once_ses_may_pause_the_account() {
    let mut fixture = Fixture::new(Policy::default());
    gmail_is_in_trouble(&mut fixture);
    assert_eq!(fixture.state(&Subject::Account, Some("gmail")), "open");
    for minute in 5..30 {
        fixture.mail(("big", "d.example"), "gmail", at(minute).minute(), 100, 40, at(minute));
        fixture.evaluate(at(minute));
    }
    assert_eq!(fixture.state(&Subject::Account, Some("gmail")), "closed");
    assert_eq!(fixture.state(&set_of("big"), None), "open");
    let over = fixture
        .store
        .transitions
        .iter()
        .find(|transition| transition.reason.contains("where SES may pause it"))
        .expect("it is reported");
    assert_eq!((over.from, over.to), (StateName::Closed, StateName::Closed));
}

/// The probe of a sender that was stopped for harm elsewhere continues, whatever the trouble of an ISP.
#[test]
fn a_probe_is_never_pardoned() {
    let mut fixture = Fixture::new(Policy::default());
    fixture.mail(("news", "a.example"), "yahoo", at(-40).minute(), 30, 20, at(-40));
    fixture.evaluate(at(-40));
    (-39..0).for_each(|minute| _ = fixture.evaluate(at(minute)));
    assert_eq!(fixture.state(&set_of("news"), None), "probing");
    gmail_is_in_trouble(&mut fixture);
    assert!(matches!(fixture.state(&set_of("news"), None), "probing" | "open"));
}

/// SES does not ask whose fault a bounce is: a policy can still stop senders for it.
#[test]
fn the_policy_decides_whether_senders_are_stopped_for_an_isps_trouble() {
    let mut fixture = Fixture::new(Policy::from_toml("[incident]\nwithout_gate = \"pause\"").expect("valid"));
    gmail_is_in_trouble(&mut fixture);
    for set in ["news", "shop", "club"] {
        assert_eq!(fixture.state(&set_of(set), None), "open", "{set}");
    }
    let transition = fixture
        .store
        .transitions
        .iter()
        .find(|transition| transition.cause == Cause::Incident)
        .expect("it is reported");
    assert!(transition.reason.contains("senders are stopped for it as for any harm"), "{}", transition.reason);
}

/// Three bad lists are bad at every ISP: that is not a provider's trouble.
#[test]
fn senders_that_are_bad_everywhere_make_no_incident_without_a_gate() {
    let mut fixture = Fixture::new(Policy::default());
    for minute in 0..6 {
        for sender in [("news", "a.example"), ("shop", "b.example"), ("club", "c.example")] {
            for isp in ["gmail", "yahoo", "microsoft"] {
                fixture.mail(sender, isp, at(minute).minute(), 20, 8, at(minute));
            }
        }
        fixture.evaluate(at(minute));
    }
    assert_eq!(fixture.state(&Subject::Account, Some("gmail")), "closed");
    for set in ["news", "shop", "club"] {
        assert_eq!(fixture.state(&set_of(set), None), "open", "{set}");
    }
}

/// If the breaker is put in shadow while it has paused a set, the set must not stay paused for ever.
#[test]
fn what_was_paused_is_resumed_in_shadow_too() {
    let mut fixture = fixture();
    fixture.policy.gate_in_use = false;
    fixture.mail(("news", "a.example"), "yahoo", at(0).minute(), 100, 40, at(1));
    fixture.evaluate(at(1));
    assert_eq!(controls_of(&fixture, "news"), ["pause_configuration_set"]);
    fixture.policy.mode = Mode::Shadow;
    for minute in 2..60 {
        fixture.evaluate(at(minute));
    }
    assert_eq!(controls_of(&fixture, "news"), ["pause_configuration_set", "resume_configuration_set"]);
    // And nothing is done about a set that is bad only in shadow.
    fixture.mail(("shop", "b.example"), "yahoo", at(60).minute(), 100, 40, at(61));
    fixture.evaluate(at(61));
    assert_eq!((fixture.state(&set_of("shop"), None), controls_of(&fixture, "shop")), ("open", vec![]));
}

/// When shadow ends and the breaker acts again, sets whose breaker is open are paused.
#[test]
fn what_is_open_in_shadow_is_paused_once_it_acts() {
    let mut fixture = fixture();
    fixture.policy.gate_in_use = false;
    fixture.policy.mode = Mode::Shadow;
    fixture.mail(("news", "a.example"), "yahoo", at(0).minute(), 100, 40, at(1));
    fixture.evaluate(at(1));
    assert_eq!((fixture.state(&set_of("news"), None), controls_of(&fixture, "news")), ("open", vec![]));
    fixture.policy.mode = Mode::Act;
    fixture.evaluate(at(2));
    fixture.evaluate(at(3));
    assert_eq!(controls_of(&fixture, "news"), ["pause_configuration_set"]);
}

/// Names that a store cannot keep, or cannot read back, must not block other mail.
#[test]
fn names_that_cannot_be_stored_are_refused_or_left_out() {
    let mut fixture =
        Fixture::new(Policy::from_toml("[subjects]\ntenants = true").expect("valid by construction").in_world(true));
    let long = delivery("m1", "a@yahoo.com").replace("news", &"n".repeat(700));
    let refused = fixture.feed(&long, at(0)).expect_err("longer than any name of SES").to_string();
    assert!(refused.contains("718 bytes") && !refused.contains("nnn"), "{refused}");
    let empty = delivery("m2", "a@yahoo.com").replace(r#"["news"]"#, r#"["news"],"ses:tenant-name":[""]"#);
    let (outcome, units) = fixture.classify(&empty);
    assert!(outcome.is_ok());
    for subject in fixture.senders.subjects(units[0].sender) {
        assert_eq!(subject.to_string().parse::<reputation::Subject>().as_ref(), Ok(subject));
    }
}

fn int(minutes: u32) -> i64 {
    i64::from(minutes)
}
