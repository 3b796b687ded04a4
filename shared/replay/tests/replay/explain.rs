//! Every notice can be explained, with the numbers in it.

use std::path::Path;

use replay::driver::{Extras, Options, TraceRequest, replay_while_readable};
use replay::explain::explain;
use replay::generate::{Scenario, generate};
use replay::input::{Progress, Sources};
use replay::report::Report;
use replay::text::explanation;
use reputation::policy::Policy;
use reputation::subject::Key;
use reputation::time::Now;
use serde_json::{Value, json};
use terminal::{TermStyle, visible};

use crate::streams::{options, streams};

fn replayed(stream: &Path, trace_request: Option<TraceRequest>) -> replay::driver::Replay {
    let sources = Sources::expand(&[stream.display().to_string()]).unwrap();
    let stop_at = trace_request.as_ref().map(|trace_request| trace_request.until);
    let options = Options { stop_at, ..options(Policy::default().in_world(true)) };
    let extras = Extras { trace_request, diagnoses: true, ..Extras::default() };
    let (replayed, read) = replay_while_readable(&options, extras, &sources, &mut |_| {}, &Progress::new());
    read.unwrap();
    replayed
}

#[test]
fn every_transition_of_every_stream_is_explained_with_the_numbers_of_its_verdict() {
    let (mut explained, mut by_evidence, mut by_ratio) = (0, 0, 0);
    // One in which something is decided in a silence, at the end of an hour.
    let folder = tempfile::tempdir().unwrap();
    let with_silence = folder.path().join("with-silence.ndjson");
    let mut file = std::fs::File::create(&with_silence).unwrap();
    generate(&Scenario::builtin("stale-list").unwrap(), 1, &mut file).unwrap();
    for stream in streams().into_iter().chain([with_silence]) {
        let whole = replayed(&stream, None);
        let report = serde_json::to_value(Report::of(&whole, None)).unwrap();
        for transition in report["transitions"].as_array().unwrap() {
            let at: jiff::Timestamp = transition["at"].as_str().unwrap().parse().unwrap();
            let at = Now(at.as_millisecond());
            let isp = transition["isp"].as_str().map(|isp| whole.policy.isp_map.by_name(isp).unwrap());
            let key = Key { subject: transition["subject"].as_str().unwrap().parse().unwrap(), isp };
            let trace_request = TraceRequest { key: key.clone(), from: at, until: at };
            let then = replayed(&stream, Some(trace_request));
            let answer = serde_json::to_value(explain(&then, &key, None, at)).unwrap();
            let judged = answer["judged"].as_array().unwrap().iter().find(|judged| judged["decided"] == *transition);
            let judged = judged.unwrap_or_else(|| panic!("{}: {transition} is not in {answer:#}", stream.display()));
            check_numbers(transition, judged);
            explained += 1;
            by_evidence += usize::from(transition["rule"] == "cusum");
            by_ratio += usize::from(transition["rule"] == "ratio");
        }
    }
    assert!(explained > 30 && by_evidence > 10 && by_ratio > 0, "{explained}, {by_evidence}, {by_ratio}");
}

/// The numbers of the verdict are among those that explain it.
fn check_numbers(transition: &Value, judged: &Value) {
    let of = |list: &str| {
        judged[list].as_array().unwrap().iter().filter(|row| row["metric"] == transition["metric"]).cloned()
    };
    let level = match transition["level"].as_str() {
        // If people may only be warned, the evidence may have reached more.
        Some("warn") if transition["rule"] == "cusum" => None,
        level => level,
    };
    let is_level = |row: &&Value| level.is_none_or(|level| row["level"] == level);
    let numbers = |row: &Value| (row["population"].clone(), row["bad"].clone());
    let wanted = (transition["population"].clone(), transition["bad"].clone());
    match transition["rule"].as_str() {
        Some("cusum") => {
            let evidence: Vec<Value> =
                of("metrics").flat_map(|metric| metric["evidence"].as_array().unwrap().clone()).collect();
            let same = |row: &&Value| {
                (row["stretch_population"].clone(), row["stretch_bad"].clone()) == wanted
                    && row["stretch"] == transition["cohorts"]
                    && row["peak"].as_f64() >= row["threshold"].as_f64()
            };
            assert!(evidence.iter().filter(is_level).any(|row| same(&row)), "{transition}: {evidence:?}");
        }
        Some("ratio") => {
            let lines: Vec<Value> = of("ratios").flat_map(|ratio| ratio["lines"].as_array().unwrap().clone()).collect();
            let same = |row: &&Value| numbers(row) == wanted && row["reached"] == json!(true);
            assert!(lines.iter().filter(is_level).any(|row| same(&row)), "{transition}: {lines:?}");
        }
        Some("aws_forecast") => assert!(of("forecast").any(|row| numbers(&row) == wanted), "{transition}: {judged}"),
        // Moved by time or by a person: there is no verdict.
        rule => assert_eq!(rule, None, "{transition}"),
    }
}

#[test]
fn what_servers_said_is_that_of_the_mail_until_then() {
    let stream = streams().into_iter().find(|stream| stream.ends_with("stale-list.ndjson.gz")).unwrap();
    let key = Key { subject: "configuration-set:newsletter".parse().unwrap(), isp: None };
    let at = |text: &str| Now(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    let count = |until: Now| -> u64 {
        let then = replayed(&stream, Some(TraceRequest { key: key.clone(), from: until, until }));
        explain(&then, &key, None, until).diagnoses.iter().map(|diagnosis| diagnosis.count).sum()
    };
    let (early, late) = (count(at("2026-10-06T07:00:00Z")), count(at("2026-10-06T09:30:00Z")));
    assert!(0 < early && early < late, "{early}, {late}");
}

#[test]
fn what_does_not_count_is_shown_and_the_cells_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let stream = folder.path().join("one-company.ndjson");
    let mut events = String::new();
    // Twelve people of one company and three each at two mailbox providers bounce; two mails are delivered.
    for number in 0..20 {
        let (set, second) = (r#""tags":{"ses:configuration-set":["news"]}"#, 10 + number);
        let domain = match number {
            ..12 => "company.example",
            12..15 => "gmail.com",
            _ => "yahoo.com",
        };
        let mail = format!(
            r#""mail":{{"timestamp":"2026-10-06T08:00:00.000Z","messageId":"m{number}","source":"a@news.example","destination":["r{number}@{domain}"],{set}}}"#
        );
        events.push_str(&format!("{{\"eventType\":\"Send\",{mail},\"send\":{{}}}}\n"));
        let at = format!("2026-10-06T08:00:{second}.000Z");
        if number >= 18 {
            events.push_str(&format!(
                "{{\"eventType\":\"Delivery\",{mail},\"delivery\":{{\"timestamp\":\"{at}\",\"recipients\":[\"r{number}@{domain}\"]}}}}\n"
            ));
        } else {
            events.push_str(&format!(
                "{{\"eventType\":\"Bounce\",{mail},\"bounce\":{{\"bounceType\":\"Permanent\",\"bounceSubType\":\"General\",\"timestamp\":\"{at}\",\"feedbackId\":\"f\",\"bouncedRecipients\":[{{\"emailAddress\":\"r{number}@{domain}\"}}]}}}}\n"
            ));
        }
    }
    std::fs::write(&stream, events).unwrap();
    let at = Now("2026-10-06T08:00:59Z".parse::<jiff::Timestamp>().unwrap().as_millisecond());
    let key = Key { subject: "configuration-set:news".parse().unwrap(), isp: None };
    let trace_request = TraceRequest { key: key.clone(), from: at, until: at };
    let explained = explain(&replayed(&stream, Some(trace_request)), &key, None, at);
    let answer = serde_json::to_value(&explained).unwrap();
    let judged = &answer["judged"][0];
    let evidence = &judged["metrics"][0]["evidence"][1];
    let [bad, repeats] = ["stretch_bad", "stretch_repeats"].map(|name| evidence[name].as_u64().unwrap());
    let cells = judged["cells"]["cells"].as_array().unwrap();
    let sum = |name: &str| cells.iter().map(|cell| cell[name].as_u64().unwrap_or(0)).sum::<u64>();
    assert_eq!((bad, repeats), (18, 11), "{evidence}");
    assert_eq!((sum("bad"), sum("repeats")), (bad, repeats), "{judged}");
    // Seven of nine: `repeats` are neither bad nor good.
    let nats = 7.0 * 10.0_f64.ln() - 2.0 * (0.95_f64 / 0.5).ln();
    assert!((evidence["peak"].as_f64().unwrap() - nats).abs() < 1e-6, "{evidence}");
    let text = visible(&explanation(&explained, TermStyle::new(None)));
    insta::assert_snapshot!("a_business_domain", text);
}
