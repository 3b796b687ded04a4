//! Hard bounces at one business domain, from the event to the breaker: which of them are known to be at one, and what the
//! breaker does.

use reputation::breaker::StateName;
use reputation::grouped::Bucket;
use reputation::time::MINUTE_MILLIS;
use reputation::{Minute, Now, Policy, State, UnitKind};

use super::kit::{Fixture, NOW, Rng, iso, rows, set_of};

const POLICY: &str = "[isps]\n\"workspace.example\" = \"google-workspace\"\n\"provider.example\" = \"a-provider\"\n";

fn fixture() -> Fixture {
    Fixture::new(Policy::from_toml(POLICY).expect("valid by construction"))
}

/// An event about a mail of the set `news` to one recipient.
fn event(kind: &str, id: &str, accepted: Now, to: &str, detail: &str) -> String {
    let accepted = iso(accepted);
    format!(
        r#"{{"eventType":"{kind}","mail":{{"timestamp":"{accepted}","messageId":"{id}","source":"n@mail.example.com","destination":["{to}"],"tags":{{"ses:configuration-set":["news"]}}}},{detail}}}"#
    )
}

fn bounce(id: &str, accepted: Now, to: &str, named: &str) -> String {
    let at = iso(accepted);
    let detail = format!(
        r#""bounce":{{"bounceType":"Permanent","bounceSubType":"General","bouncedRecipients":[{named}],"timestamp":"{at}","feedbackId":"f"}}"#
    );
    event("Bounce", id, accepted, to, &detail)
}

/// Both events of a mail.
fn mail(id: &str, accepted: Now, to: &str, bounces: bool) -> [String; 2] {
    let at = iso(accepted);
    let outcome = if bounces {
        bounce(id, accepted, to, &format!(r#"{{"emailAddress":"{to}"}}"#))
    } else {
        event("Delivery", id, accepted, to, &format!(r#""delivery":{{"timestamp":"{at}","recipients":["{to}"]}}"#))
    };
    [event("Send", id, accepted, to, r#""send":{}"#), outcome]
}

fn buckets(json: &str) -> Vec<Option<Bucket>> {
    fixture().classify(json).1.iter().map(|unit| unit.bucket).collect()
}

#[test]
fn a_hard_bounce_at_a_business_domain_has_the_bucket_of_its_domain() {
    let bounced = |to: &str| buckets(&mail("m1", NOW, to, true)[1]);
    let company = bounced("a@company.example");
    assert!(matches!(company[..], [Some(_)]), "{company:?}");
    // Of the domain, for any recipient and however it is written.
    assert_eq!(bounced("b@company.example"), company);
    assert_eq!(bounced("B@Company.Example"), company);
    assert!(matches!(bounced("a@workspace.example")[..], [Some(_)]));
    // Mailbox providers: of the built-in map, and of the policy.
    for provider in ["gmail.com", "hotmail.fr", "web.de", "provider.example"] {
        assert_eq!(bounced(&format!("a@{provider}")), [None], "{provider}");
    }
    // What is not a bounce has none.
    let [sent, delivered] = mail("m1", NOW, "a@company.example", false);
    assert_eq!((buckets(&sent), buckets(&delivered)), (vec![None], vec![None]));
    let soft = mail("m1", NOW, "a@company.example", true)[1].replace("Permanent", "Transient");
    assert_eq!(buckets(&soft), [None]);
    // A bounce that names nobody is about the recipients of the mail; one that cannot be read has no domain.
    assert_eq!(buckets(&bounce("m1", NOW, "a@company.example", "")), company);
    assert_eq!(buckets(&bounce("m1", NOW, "nobody", r#"{"emailAddress":"nobody"}"#)), [None]);
    // A mail that was forwarded bounces where it went.
    let forwarded = bounce("m1", NOW, "a@company.example", r#"{"emailAddress":"a@elsewhere.example"}"#);
    assert_eq!(buckets(&forwarded), company);
    // All bounces of a drill are at the simulator.
    let drill = bounce("m1", NOW, "bounce@simulator.amazonses.com", "").replace("news", "ses-breaker-drill-1");
    assert_eq!(buckets(&drill), [None]);
}

/// 200 mails a day to 150 companies, of which 1 % bounce, for half a year; once a week 5 to 8 people of one dead domain.
fn stops(knows_domains: bool) -> usize {
    let mut fixture = fixture();
    let mut rng = Rng(7);
    let set = set_of("news");
    for day in 0..182_u32 {
        let opens = NOW.minute().day().minus(200 * 1440).plus(day * 1440 + 480);
        let mut mails: Vec<(Minute, String, bool)> = Vec::new();
        for number in 0..200 {
            let to = format!("p{number}@company-{}.example", rng.below(150));
            mails.push((opens.plus(rng.below(600) as u32), to, rng.chance(1)));
        }
        if day % 7 == 2 {
            let hour = opens.plus(60 * rng.below(9) as u32);
            for number in 0..5 + rng.below(4) {
                mails.push((hour.plus(rng.below(60) as u32), format!("p{number}@dead-{day}.example"), true));
            }
        }
        mails.sort();
        for (number, (minute, to, bounces)) in mails.iter().enumerate() {
            let now = Now(i64::from(minute.0) * MINUTE_MILLIS);
            // A stopped sender sends nothing.
            if !matches!(fixture.breaker(&set, None).state, State::Closed | State::Throttled { .. }) && !*bounces {
                let _ = fixture.evaluate(now);
            }
            for json in mail(&format!("{day}-{number}"), now, to, *bounces) {
                let (_, mut units) = fixture.classify(&json);
                units.iter_mut().filter(|_| !knows_domains).for_each(|unit| unit.bucket = None);
                fixture.add(&units, now);
            }
            if *bounces {
                let _ = fixture.evaluate(now);
            }
        }
        fixture.store.prune(Now(i64::from(opens.plus(900).0) * MINUTE_MILLIS));
    }
    let steps = fixture.store.transitions.iter();
    steps.filter(|step| step.key.subject == set && step.to == StateName::Open).count()
}

#[test]
fn a_small_business_sender_is_not_stopped_by_a_dead_domain() {
    let [before, after] = [false, true].map(stops);
    println!("stops in half a year, if each bounce counts: {before}; if each domain counts once a day: {after}");
    assert!(before > 0);
    assert_eq!(after, 0);
}

#[test]
fn order_and_repetition_do_not_change_which_domains_bounced() {
    let mut rng = Rng(11);
    let mut events: Vec<String> = Vec::new();
    for number in 0..120 {
        let at = Now(NOW.0 - (rng.below(3_000) as i64) * MINUTE_MILLIS);
        let domain = ["gmail.com", "a.example", "b.example", "c.example", "workspace.example"][rng.below(5)];
        events.extend(mail(&number.to_string(), at, &format!("p{number}@{domain}"), rng.chance(60)));
    }
    let end = |events: &[String]| {
        let mut fixture = fixture();
        for json in events {
            let _ = fixture.feed(json, NOW);
        }
        let _ = fixture.evaluate(NOW);
        (rows(&fixture.store), fixture.breaker(&set_of("news"), None).state)
    };
    let once = end(&events);
    assert!(once.0.values().any(|held| held.causes.count > 0));
    for _ in 0..10 {
        let mut doubled = [&events[..], &events[..]].concat();
        rng.shuffle(&mut doubled);
        assert_eq!(end(&doubled), once);
    }
}

#[test]
fn bounces_of_a_mailbox_provider_count_one_by_one() {
    let state = |domain: &str| {
        let mut fixture = fixture();
        for number in 0..8 {
            for json in mail(&number.to_string(), NOW, &format!("p{number}@{domain}"), number >= 2) {
                fixture.feed(&json, NOW).expect("valid by construction");
            }
        }
        let _ = fixture.evaluate(NOW);
        // What is counted is the same.
        let bounces = rows(&fixture.store).into_iter().filter(|((.., kind), _)| *kind == UnitKind::HardBounce);
        assert!(bounces.map(|(_, held)| held.count).all(|count| count == 6));
        fixture.state(&set_of("news"), None)
    };
    assert_eq!(state("gmail.com"), "open");
    assert_eq!(state("provider.example"), "open");
    assert_eq!(state("company.example"), "closed");
    assert_eq!(state("workspace.example"), "closed");
}

/// A newsletter of 100 mails, and who complains about it later that day.
fn complained(people: impl Fn(usize) -> usize) -> StateName {
    let mut fixture = fixture();
    for number in 0..100 {
        for event in mail(&format!("m{number}"), NOW, &format!("u{number}@yahoo.com"), false) {
            fixture.feed(&event, NOW).expect("valid by construction");
        }
    }
    let later = Now(NOW.0 + 60 * MINUTE_MILLIS);
    for number in 0..8 {
        let to = format!("u{}@yahoo.com", people(number));
        let at = iso(later);
        // Each about another mail, also to the same person.
        let detail = format!(
            r#""complaint":{{"complainedRecipients":[{{"emailAddress":"{to}"}}],"timestamp":"{at}","feedbackId":"f{number}","complaintFeedbackType":"abuse"}}"#
        );
        let complaint = event("Complaint", &format!("m{number}"), NOW, &to, &detail);
        fixture.feed(&complaint, later).expect("valid by construction");
    }
    fixture.evaluate(later);
    fixture.breaker(&set_of("news"), None).state.name()
}

#[test]
fn a_person_who_complains_about_eight_mails_stops_no_newsletter_and_eight_people_do() {
    assert_eq!(complained(|number| number), StateName::Open);
    assert_eq!(complained(|_| 7), StateName::Closed);
}
