//! The page of a replay: its data equal the JSON report, and strings from events stay text.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use replay::cli::run;
use terminal::Exit;

use crate::streams::{LATER, options, streams};

fn replay(arguments: &[&Path]) -> Exit {
    let options = [OsString::from("replay")].into_iter().chain(arguments.iter().map(OsString::from));
    run(options, LATER)
}

fn page_of(input: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    assert_eq!(replay(&["-q".as_ref(), input, "--report".as_ref(), &page]), Exit::Done);
    fs::read_to_string(page).unwrap()
}

fn view_of(page: &str) -> serde_json::Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"view\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn report_of(input: &Path) -> serde_json::Value {
    let sources = replay::input::Sources::expand(&[input.display().to_string()]).unwrap();
    let policy = reputation::policy::Policy::default();
    let options = options(policy);
    let replayed = replay::driver::replay(&options, &sources, &mut |_| {}, &replay::input::Progress::new()).unwrap();
    serde_json::to_value(replay::report::Report::of(&replayed, None)).unwrap()
}

fn sum(list: &serde_json::Value) -> u64 {
    list.as_array().unwrap().iter().filter_map(serde_json::Value::as_u64).sum()
}

#[test]
fn the_page_of_every_stream_equals_its_report() {
    for stream in streams() {
        let (view, report) = (view_of(&page_of(&stream)), report_of(&stream));
        for list in ["transitions", "controls", "stopped", "same_mail"] {
            assert_eq!(view[list], report[list], "{list} of {}", stream.display());
        }
        let count = |rows: &serde_json::Value, name: &str| -> u64 {
            let of_set = rows
                .as_array()
                .unwrap()
                .iter()
                .filter(|row| row["subject"].as_str().unwrap().starts_with("configuration-set:"));
            of_set.filter_map(|row| row[name].as_u64()).sum()
        };
        for name in ["sent", "hard_bounces", "complaints", "delays", "blocks"] {
            let whole = view["whole"][name].as_u64().unwrap_or(0);
            assert_eq!(whole, count(&report["totals"], name), "{name} of {}", stream.display());
        }
        for key in view["keys"].as_array().unwrap() {
            // The sums of a chart equal the numbers of a table.
            for (index, counter) in [(0, "hard_bounces"), (2, "delays"), (3, "blocks")] {
                let total = key["counters"][counter].as_u64().unwrap_or(0);
                assert_eq!(sum(&key["course"]["bad"][index]), total, "{counter} of {key}");
            }
        }
    }
}

#[test]
fn the_evidence_reaches_the_number_in_each_verdict() {
    let mut verdicts = 0;
    for stream in streams() {
        let view = view_of(&page_of(&stream));
        let by_evidence =
            view["transitions"].as_array().unwrap().iter().filter(|transition| transition["rule"] == "cusum");
        for transition in by_evidence {
            let keys = view["keys"].as_array().unwrap();
            let key = keys
                .iter()
                .find(|key| key["subject"] == transition["subject"] && key["isp"] == transition["isp"])
                .unwrap();
            let at: jiff::Timestamp = transition["at"].as_str().unwrap().parse().unwrap();
            let track = key["evidence"][transition["metric"].as_str().unwrap()].as_array().unwrap();
            let then = track.iter().filter(|point| point[0] == at.as_millisecond());
            let highest = then.filter_map(|point| point[1].as_f64()).fold(0.0, f64::max);
            let reason = transition["reason"].as_str().unwrap();
            let (_, printed) = reason.split_once("evidence ").unwrap();
            let printed: f64 = printed.split(' ').next().unwrap().parse().unwrap();
            // The page has two decimals, and a reason has one.
            assert!((printed - highest).abs() < 0.0551, "{highest}: {reason}");
            verdicts += 1;
        }
    }
    assert!(verdicts > 10, "{verdicts}");
}

#[test]
fn diagnoses_add_up_to_the_bounces_and_delays_and_hold_no_address() {
    for stream in streams() {
        let view = view_of(&page_of(&stream));
        for counter in ["hard_bounces", "soft_bounces", "delays"] {
            let rows = view["diagnoses"].as_array().unwrap().iter().filter(|row| row["kind"] == counter);
            let total: u64 = rows.filter_map(|row| row["count"].as_u64()).sum();
            assert_eq!(total, view["whole"][counter].as_u64().unwrap_or(0), "{counter} of {}", stream.display());
        }
        assert!(!view["diagnoses"].to_string().contains('@'), "{}", view["diagnoses"]);
    }
}

#[test]
fn markup_in_an_event_ends_no_script() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("events.ndjson");
    let hostile = "</script><script>alert(1)</script><!--";
    let event = serde_json::json!({
        "eventType": "Bounce",
        "bounce": {"bounceType": "Permanent", "bounceSubType": hostile, "timestamp": "2026-10-06T09:00:00Z",
            "bouncedRecipients": [{"emailAddress": "ann@example.org", "status": hostile, "diagnosticCode": hostile}]},
        "mail": {"timestamp": "2026-10-06T09:00:00Z", "messageId": hostile, "source": "a@news.example.com",
            "destination": ["ann@example.org"], "tags": {"ses:configuration-set": [hostile]}},
    });
    fs::write(&input, event.to_string()).unwrap();
    let page = page_of(&input);
    assert!(!page.contains("alert(1)</script>"), "it ends a script");
    let view = view_of(&page);
    assert!(view["keys"].to_string().contains("configuration-set:"));
    assert!(!page.contains("ann@example.org"));
}

#[test]
fn a_report_that_cannot_be_written_fails_before_the_work_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stream = &streams()[0];
    let nowhere = folder.path().join("no/such/folder/report.html");
    assert_eq!(replay(&["-q".as_ref(), stream, "--report".as_ref(), &nowhere]), Exit::Usage);
    assert_eq!(replay(&["-q".as_ref(), stream, "--report".as_ref(), folder.path()]), Exit::Usage);
    // Neither an input file nor a device is replaced by a page.
    let input = folder.path().join("events.ndjson.gz");
    fs::copy(stream, &input).unwrap();
    assert_eq!(replay(&["-q".as_ref(), &input, "--report".as_ref(), &input]), Exit::Usage);
    assert_eq!(fs::read(&input).unwrap(), fs::read(stream).unwrap());
    fs::remove_file(input).unwrap();
    assert_eq!(replay(&["-q".as_ref(), stream, "--report".as_ref(), Path::new("/dev/null")]), Exit::Usage);
    // An existing page is kept if the input cannot be read.
    let page = folder.path().join("report.html");
    fs::write(&page, "of yesterday").unwrap();
    let missing = folder.path().join("missing.ndjson");
    assert_eq!(replay(&["-q".as_ref(), &missing, "--report".as_ref(), &page]), Exit::Usage);
    assert_eq!(fs::read_to_string(&page).unwrap(), "of yesterday");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A Send or a Bounce event of one configuration set at some hour after 6 October 2026, 06:00.
fn event(kind: &str, set: &str, number: usize, hour: usize) -> String {
    let at = |hour: usize| {
        let start: jiff::Timestamp = "2026-10-06T06:00:00Z".parse().unwrap();
        (start + jiff::SignedDuration::from_hours(i64::try_from(hour).unwrap())).to_string()
    };
    let to = format!("reader-{number}@yahoo.com");
    let mut event = serde_json::json!({
        "eventType": kind,
        "mail": {"timestamp": at(0), "messageId": format!("{set}-{number}"), "source": format!("a@{set}.example"),
            "destination": [to.clone()], "tags": {"ses:configuration-set": [set]}},
    });
    if kind == "Bounce" {
        event["bounce"] = serde_json::json!({"bounceType": "Permanent", "bounceSubType": "NoEmail", "timestamp": at(hour),
            "bouncedRecipients": [{"emailAddress": to, "status": "5.1.1"}]});
    }
    event.to_string()
}

fn page_of_lines(lines: &[String], options: &[&str]) -> serde_json::Value {
    let folder = tempfile::tempdir().unwrap();
    let (input, page) = (folder.path().join("events.ndjson"), folder.path().join("report.html"));
    fs::write(&input, lines.join("\n")).unwrap();
    let options = options.iter().map(|option| Path::new(*option));
    let arguments: Vec<&Path> =
        [Path::new("-q"), &input, Path::new("--report"), &page].into_iter().chain(options).collect();
    assert_eq!(replay(&arguments), Exit::Done);
    view_of(&fs::read_to_string(page).unwrap())
}

#[test]
fn mail_whose_outcome_comes_days_later_is_drawn_all_the_same() {
    let mut lines: Vec<String> = (0..200).map(|number| event("Send", "news", number, 0)).collect();
    lines.push(event("Bounce", "news", 3, 100));
    let view = page_of_lines(&lines, &[]);
    let key = &view["keys"][0];
    assert_eq!((sum(&key["course"]["mails"]), sum(&key["course"]["bad"][0])), (200, 1), "{}", view["grid"]);
}

#[test]
fn who_is_stopped_is_shown_among_however_many_others() {
    let mut lines = Vec::new();
    for set in 0..150 {
        lines.extend((0..3).map(|number| event("Send", &format!("quiet-{set}"), number, 0)));
    }
    for number in 0..2 {
        lines.push(event("Send", "bad", number, 0));
    }
    let loud: Vec<String> = (0..40).map(|number| event("Bounce", "loud", number, 0)).collect();
    lines.extend((0..40).map(|number| event("Send", "loud", number, 0)));
    lines.extend(loud);
    let view = page_of_lines(&lines, &[]);
    let open: Vec<&str> = view["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|key| key["state"] == "open")
        .map(|key| key["subject"].as_str().unwrap())
        .collect();
    assert!(open.contains(&"configuration-set:loud"), "{open:?}");
    assert!(view["keys_left_out"].as_u64().unwrap() > 100);
}

#[test]
fn a_report_about_an_identity_alone_adds_its_mail_up() {
    let lines: Vec<String> = (0..20).map(|number| event("Send", "news", number, 0)).collect();
    let view = page_of_lines(&lines, &["--subject", "identity:news.example"]);
    assert_eq!(view["whole"]["sent"], 20);
}
