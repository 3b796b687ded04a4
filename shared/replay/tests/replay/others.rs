//! Beyond a number of subjects the least active are summed: what stays exact, and what the report says about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proptest::prelude::*;
use replay::driver::{Extras, MAX_SUBJECTS, Options, Replay, replay_recorded, replay_while_readable};
use replay::input::{Progress, Source};
use replay::recorded::{Recorded, RecordedUnit};
use replay::report::{Report, TransitionRecord, Warning};
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::Now;
use reputation::unit::UnitKind;

/// 2026-10-06 08:00 UTC.
const START: i64 = 1_791_273_600_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// One mail and its outcome.
#[derive(Clone, Copy, Debug)]
struct Mail {
    at: i64,
    set: usize,
    identity: usize,
    tag: usize,
    isp: usize,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Delivered,
    Bounced,
    ComplainedOf,
}

const ISPS: [&str; 2] = ["gmail.com", "yahoo.com"];

fn lines(mails: &[Mail]) -> Vec<u8> {
    let mut text = String::new();
    let mut events: Vec<(i64, String)> = Vec::new();
    for (number, Mail { at, set, identity, tag, isp, outcome }) in mails.iter().enumerate() {
        let (accepted, then) = (Now(*at), Now(at + 1_000));
        let to = format!("r{number}@{}", ISPS[*isp]);
        let about = format!(
            r#""mail":{{"timestamp":"{accepted}","messageId":"m{number}","source":"n@s{identity}.example","destination":["{to}"],"tags":{{"ses:configuration-set":["set{set}"],"campaign":["c{tag}"],"ses:tenant-name":["t{identity}"]}}}}"#
        );
        events.push((*at, format!(r#"{{"eventType":"Send",{about},"send":{{}}}}"#)));
        let deliver = format!(r#"{{"eventType":"Delivery",{about},"delivery":{{"timestamp":"{then}"}}}}"#);
        match outcome {
            Outcome::Delivered => events.push((at + 1_000, deliver)),
            Outcome::Bounced => events.push((
                at + 1_000,
                format!(
                    r#"{{"eventType":"Bounce",{about},"bounce":{{"bounceType":"Permanent","bounceSubType":"General","bouncedRecipients":[{{"emailAddress":"{to}"}}],"timestamp":"{then}","feedbackId":"f{number}"}}}}"#
                ),
            )),
            Outcome::ComplainedOf => {
                events.push((at + 1_000, deliver));
                let later = at + 10 * MINUTE;
                let text = format!(
                    r#"{{"eventType":"Complaint",{about},"complaint":{{"complainedRecipients":[{{"emailAddress":"{to}"}}],"timestamp":"{}","feedbackId":"f{number}"}}}}"#,
                    Now(later)
                );
                events.push((later, text));
            }
        }
    }
    events.sort_by_key(|(at, _)| *at);
    for (_, line) in events {
        writeln!(text, "{line}").unwrap();
    }
    text.into_bytes()
}

/// No incidents: those depend on the identities with mail, and so on the subjects that are kept.
const POLICY: &str = "[subjects]\ntenants = true\ntags = ['campaign']\n[incident]\nmin_senders = 1000\n";

fn replayed(bytes: &[u8], max_subjects: usize, workers: usize, kept: Option<Subject>) -> Replay {
    replayed_from(&[Source::memory("events", bytes.to_vec())], max_subjects, workers, kept)
}

fn replayed_from(sources: &[Source], max_subjects: usize, workers: usize, kept: Option<Subject>) -> Replay {
    let options = Options {
        policy: Policy::from_toml(POLICY).unwrap(),
        real_now: START + 40 * 24 * HOUR,
        since: None,
        until: None,
        stop_at: None,
        workers,
        max_subjects,
    };
    let mut reject = |rejected: &replay::driver::RejectedLine| panic!("{rejected:?}");
    let extras = Extras { kept, course: true, diagnoses: true, quota: true, ..Extras::default() };
    let (replay, outcome) = replay_while_readable(&options, extras, sources, &mut reject, &Progress::new());
    outcome.unwrap();
    replay
}

/// `identities` identities with a mail each, evenly over `hours` hours, with one set, tenant and campaign each.
fn one_mail_each(identities: usize, hours: i64) -> Vec<Mail> {
    let at = |number: usize| START + number as i64 * hours * HOUR / identities as i64;
    let mail = |number| Mail {
        at: at(number),
        set: number % 2,
        identity: number,
        tag: number,
        isp: number % 2,
        outcome: Outcome::Delivered,
    };
    (0..identities).map(mail).collect()
}

/// The counters of each kind of subjects, by ISP, including the sums of the others.
fn by_kind(report: &Report) -> BTreeMap<(String, String), Vec<u64>> {
    let mut sums: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    let mut add = |kind: &str, isp: &str, counters: &[u64]| {
        let sum = sums.entry((kind.to_owned(), isp.to_owned())).or_insert_with(|| vec![0; UnitKind::ALL.len()]);
        sum.iter_mut().zip(counters).for_each(|(sum, count)| *sum += count);
    };
    for total in &report.totals {
        let kind = match &total.subject {
            Subject::Identity(_) => "identity".to_owned(),
            Subject::Tenant(_) => "tenant".to_owned(),
            Subject::Tag(name, _) => format!("tag {name}"),
            // Each of these alone.
            subject @ (Subject::Account | Subject::ConfigurationSet(_)) => subject.to_string(),
        };
        add(&kind, &total.isp, &total.counters);
    }
    for others in &report.others {
        let kind = others.tag.as_ref().map_or_else(|| others.kind.to_owned(), |tag| format!("{} {tag}", others.kind));
        others.totals.iter().for_each(|total| add(&kind, &total.isp, &total.counters));
    }
    sums
}

fn transitions_of_sets(report: &Report) -> Vec<String> {
    let of_sets = report.transitions.iter().filter(|moved| matches!(moved.subject, Subject::ConfigurationSet(_)));
    of_sets.map(words).collect()
}

fn other_transitions(report: &Report) -> Vec<String> {
    let of_others = report.transitions.iter().filter(|moved| !matches!(moved.subject, Subject::ConfigurationSet(_)));
    of_others.map(words).collect()
}

fn words(moved: &TransitionRecord) -> String {
    serde_json::to_string(moved).unwrap()
}

fn subjects(report: &Report) -> BTreeSet<String> {
    report.totals.iter().map(|total| total.subject.to_string()).collect()
}

#[test]
fn the_subjects_with_the_oldest_and_least_mail_are_summed_and_reported() {
    let mut mails = one_mail_each(300, 6);
    // One of them is active to the end.
    for hour in 0..6 {
        mails.push(Mail { at: START + hour * HOUR + 59 * MINUTE, identity: 3, tag: 3, ..mails[3] });
    }
    let report = Report::of(&replayed(&lines(&mails), 300, 0, None), None);
    let kept = subjects(&report);
    assert!(kept.len() <= 300 + 300 / 4, "{}", kept.len());
    for subject in ["configuration-set:set0", "configuration-set:set1", "identity:s3.example", "identity:s299.example"]
    {
        assert!(kept.contains(subject), "{subject} is not in {kept:?}");
    }
    for subject in ["identity:s0.example", "tenant:t1", "tag:campaign=c2"] {
        assert!(!kept.contains(subject), "{subject} is in {kept:?}");
    }
    let kinds: Vec<_> = report.others.iter().map(|others| (others.kind, others.tag.as_deref())).collect();
    assert_eq!(kinds, [("identity", None), ("tenant", None), ("tag", Some("campaign"))]);
    let others = &report.others[0];
    assert_eq!(others.subjects as usize, 300 - kept.iter().filter(|name| name.starts_with("identity:")).count());
    assert_eq!(others.mails, others.subjects, "one mail each");
    assert!(matches!(&report.warnings[..], [Warning::Summed { kept: 300, .. }]), "{:?}", report.warnings);
    let [identities, tenants, tags] = [0, 1, 2].map(|kind| report.others[kind].subjects);
    let expected = format!(
        "the subjects with the oldest and least mail are summed as (others): up to {identities} identities ({identities} \
         mails), {tenants} tenants ({tenants} mails) and {tags} values of the tag campaign ({tags} mails). A replay keeps \
         about 300 subjects one by one (replay --max-subjects N)"
    );
    assert_eq!(report.warnings[0].words(str::to_owned), expected);
    let document = serde_json::to_value(&report).unwrap();
    assert_eq!(document["others"][2]["tag"], "campaign");
    assert_eq!(document["others"][0]["totals"][0]["isp"], "gmail");
    assert!(document["others"][0]["totals"][0]["sent"].as_u64().unwrap() > 0, "{}", document["others"]);
}

#[test]
fn up_to_the_number_nothing_is_summed() {
    let report = Report::of(&replayed(&lines(&one_mail_each(300, 6)), MAX_SUBJECTS, 0, None), None);
    assert_eq!((report.others.len(), report.warnings.len()), (0, 0));
    assert!(serde_json::to_value(&report).unwrap().get("others").is_none());
}

#[test]
fn new_subjects_within_an_hour_or_a_minute_are_bounded_too() {
    for span in [50 * MINUTE, 50_000] {
        let mut mails = one_mail_each(6_000, 1);
        mails.iter_mut().enumerate().for_each(|(number, mail)| mail.at = START + number as i64 * span / 6_000);
        let replayed = replayed(&lines(&mails), 400, 0, None);
        // Between two counts each of 1,024 units may bring a sender with three subjects, and one mail makes two units.
        let kept = replayed.reputation.len();
        assert!(kept <= 500 + 3 * 512, "{kept} in {span} ms");
        assert_eq!(by_kind(&Report::of(&replayed, None))[&("identity".to_owned(), "gmail".to_owned())][0], 3_000);
    }
}

#[test]
fn a_subject_that_is_asked_for_is_never_summed() {
    let mails = lines(&one_mail_each(300, 6));
    let asked: Subject = "identity:s0.example".parse().unwrap();
    let replayed = replayed(&mails, 100, 0, Some(asked.clone()));
    let report = Report::of(&replayed, Some(&asked));
    assert_eq!(report.totals.len(), 1, "{:?}", report.totals);
    assert!(report.others.is_empty() && report.warnings.is_empty());
}

#[test]
fn a_tag_value_with_the_name_of_the_sum_is_a_subject_like_any_other() {
    let text = String::from_utf8(lines(&one_mail_each(300, 6))).unwrap();
    let replayed = replayed(text.replace("\"c299\"", "\"(others)\"").as_bytes(), 100, 0, None);
    let report = Report::of(&replayed, None);
    let own: u64 = report
        .totals
        .iter()
        .filter(|total| total.subject.to_string() == "tag:campaign=(others)")
        .map(|total| total.get(UnitKind::Sent))
        .sum();
    assert_eq!(own, 1);
    let tags = report.others.iter().find(|others| others.kind == "tag").unwrap();
    assert!(tags.mails > 100, "{tags:?}");
}

#[test]
fn a_partly_summed_subject_is_not_reported_as_having_the_same_mail_as_another() {
    // Identity, tenant and campaign 0 come back after they were summed; their configuration set is theirs alone.
    let mut mails = one_mail_each(300, 6);
    mails.iter_mut().for_each(|mail| mail.set = usize::from(mail.identity > 0));
    mails.push(Mail { at: START + 7 * HOUR, ..mails[0] });
    let bytes = lines(&mails);
    let with = |max_subjects| Report::of(&replayed(&bytes, max_subjects, 0, None), None).same_mail;
    let group = |groups: &[Vec<String>]| groups.iter().find(|group| group.contains(&"tenant:t0".to_owned())).cloned();
    let all = ["configuration-set:set0", "identity:s0.example", "tag:campaign=c0", "tenant:t0"].map(str::to_owned);
    assert_eq!(group(&with(MAX_SUBJECTS)), Some(all.to_vec()));
    assert_eq!(group(&with(100)), Some(all[1..].to_vec()));
}

#[test]
fn what_is_harmed_stays_a_subject_with_its_breaker() {
    let mut mails = one_mail_each(600, 12);
    // Identity 7 sends a bad list at the beginning, and nothing more.
    for number in 0..200 {
        let at = START + 5 * MINUTE + number * 1_000;
        mails.push(Mail { at, set: 0, identity: 7, tag: 7, isp: 0, outcome: Outcome::Bounced });
    }
    let bytes = lines(&mails);
    let (bounded, whole) = (replayed(&bytes, 100, 0, None), replayed(&bytes, MAX_SUBJECTS, 0, None));
    let (bounded, whole) = (Report::of(&bounded, None), Report::of(&whole, None));
    assert!(transitions_of_sets(&whole).iter().any(|moved| moved.contains("\"open\"")), "{:?}", whole.transitions);
    assert_eq!(serde_json::to_value(&bounded.transitions).unwrap(), serde_json::to_value(&whole.transitions).unwrap());
    assert_eq!(serde_json::to_value(&bounded.breakers).unwrap(), serde_json::to_value(&whole.breakers).unwrap());
    assert_eq!(serde_json::to_value(&bounded.stopped).unwrap(), serde_json::to_value(&whole.stopped).unwrap());
    assert!(subjects(&bounded).contains("identity:s7.example"));
}

fn mail() -> impl Strategy<Value = Mail> {
    let outcome = prop_oneof![
        12 => Just(Outcome::Delivered),
        2 => Just(Outcome::Bounced),
        1 => Just(Outcome::ComplainedOf),
    ];
    // A few large senders and many small ones.
    let number = || prop_oneof![0usize..3, 0usize..60];
    (0i64..20 * HOUR, 0usize..3, number(), number(), 0usize..2, outcome)
        .prop_map(|(at, set, identity, tag, isp, outcome)| Mail { at: START + at, set, identity, tag, isp, outcome })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Sums are exact whichever subjects are summed, and the account and configuration sets are as without a limit. Their
    /// breakers are evaluated more often while another breaker of the same mail is not closed, so they are compared where those
    /// are alike.
    #[test]
    fn totals_and_configuration_sets_are_the_same_with_and_without_a_limit(
        mails in prop::collection::vec(mail(), 1..700), max_subjects in 1usize..12,
    ) {
        let bytes = lines(&mails);
        let bounded = Report::of(&replayed(&bytes, max_subjects, 0, None), None);
        let whole = Report::of(&replayed(&bytes, MAX_SUBJECTS, 0, None), None);
        prop_assert!(whole.others.is_empty());
        prop_assert_eq!(by_kind(&bounded), by_kind(&whole));
        if other_transitions(&bounded) == other_transitions(&whole) {
            prop_assert_eq!(transitions_of_sets(&bounded), transitions_of_sets(&whole));
            let sets = |report: &Report| -> Vec<String> {
                let of_sets = report.breakers.iter().filter(|known| known.subject.starts_with("configuration-set:"));
                of_sets.map(|known| serde_json::to_string(known).unwrap()).collect()
            };
            prop_assert_eq!(sets(&bounded), sets(&whole));
            // The gate reads the breaker of the identity, too.
            prop_assert_eq!(serde_json::to_value(&bounded.quota).unwrap(), serde_json::to_value(&whole.quota).unwrap());
        }
        prop_assert_eq!(serde_json::to_value(&bounded.input).unwrap(), serde_json::to_value(&whole.input).unwrap());
    }

    /// Which subjects are summed depends only on the events and their order.
    #[test]
    fn threads_make_no_difference(mails in prop::collection::vec(mail(), 1..700), max_subjects in 1usize..40) {
        let bytes = lines(&mails);
        let report = |workers| serde_json::to_value(Report::of(&replayed(&bytes, max_subjects, workers, None), None)).unwrap();
        prop_assert_eq!(report(0), report(2));
    }
}

#[test]
fn mail_of_senders_that_are_new_while_a_set_is_stopped_is_counted_as_stopped() {
    // A bad list of one campaign stops the set; then each mail has a campaign of its own, as it had before.
    let mut mails = one_mail_each(600, 6);
    mails.iter_mut().for_each(|mail| (mail.set, mail.identity) = (0, 0));
    for number in 0..200 {
        mails.push(Mail {
            at: START + 61 * MINUTE + number * 1_000,
            tag: 1_000,
            outcome: Outcome::Bounced,
            ..mails[0]
        });
    }
    let bytes = lines(&mails);
    for max_subjects in [100, MAX_SUBJECTS] {
        let report = Report::of(&replayed(&bytes, max_subjects, 0, None), None);
        let stop = report.stopped.iter().find(|stop| stop.subject == "configuration-set:set0" && stop.isp.is_none());
        let stop = stop.unwrap();
        let [from, until] = [&stop.from, stop.until.as_ref().unwrap()]
            .map(|at| at.parse::<jiff::Timestamp>().unwrap().as_millisecond() / MINUTE);
        let meanwhile = mails.iter().filter(|mail| mail.at / MINUTE > from && mail.at / MINUTE < until).count();
        assert_eq!(stop.sent as usize, meanwhile, "{stop:?}");
    }
}

#[test]
fn neither_threads_nor_files_make_a_difference_when_workers_forget_names() {
    // Some 9 MB, so that each worker has several chunks; a third of the senders come back after days.
    let mails: Vec<Mail> = (0..15_000)
        .map(|number: usize| {
            let identity = if number.is_multiple_of(3) { number % 1_000 } else { number };
            let outcome = if number % 40 == 7 { Outcome::Bounced } else { Outcome::Delivered };
            let at = START + number as i64 * 30_000;
            Mail { at, set: number % 3, identity, tag: number / 2, isp: number % 2, outcome }
        })
        .collect();
    let document = |replayed: Replay| {
        assert!(replayed.reputation.len() <= 625 + 3 * 512);
        let mut report = serde_json::to_value(Report::of(&replayed, None)).unwrap();
        // Every file is read in its own chunks.
        report["input"].as_object_mut().unwrap().remove("lines");
        report
    };
    let bytes = lines(&mails);
    let whole = document(replayed(&bytes, 500, 0, None));
    assert!(whole["others"][0]["subjects"].as_u64().unwrap() > 9_000);
    for workers in [1, 3] {
        assert!(document(replayed(&bytes, 500, workers, None)) == whole, "{workers} workers");
    }
    let parts = [0, 1, 2].map(|set| {
        let name = format!("set{set}");
        let own: Vec<&str> = std::str::from_utf8(&bytes).unwrap().lines().filter(|line| line.contains(&name)).collect();
        Source::memory(&name, own.join("\n").into_bytes())
    });
    for workers in [0, 2] {
        assert!(document(replayed_from(&parts, 500, workers, None)) == whole, "files, {workers} workers");
    }
}

#[test]
fn what_a_ledger_holds_is_summed_alike() {
    let mut recorded = Recorded::default();
    for number in 0..3_000_usize {
        let identity = if number.is_multiple_of(4) { number % 200 } else { number };
        for kind in [UnitKind::Sent, UnitKind::Delivered] {
            recorded.add(RecordedUnit {
                kind,
                isp: "gmail".to_owned(),
                cohort: Now(START + number as i64 * 10 * MINUTE).minute(),
                subjects: vec![
                    "configuration-set:news".parse().unwrap(),
                    format!("identity:s{identity}").parse().unwrap(),
                ],
                bucket: None,
            });
        }
    }
    let report = |max_subjects| {
        let options = Options {
            policy: Policy::default(),
            real_now: START,
            since: None,
            until: None,
            stop_at: None,
            workers: 0,
            max_subjects,
        };
        Report::of(&replay_recorded(&options, &recorded).unwrap(), None)
    };
    let (bounded, whole) = (report(100), report(MAX_SUBJECTS));
    assert_eq!(by_kind(&bounded), by_kind(&whole));
    assert!(bounded.totals.len() <= 125 && bounded.others[0].subjects > 2_000, "{}", bounded.totals.len());
}
