use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;

use super::world::World;
use super::*;

fn builtin(name: &str) -> Scenario {
    Scenario::builtin(name).unwrap_or_else(|| panic!("{name} cannot be read"))
}

fn stream(scenario: &Scenario, seed: u64) -> (Vec<u8>, Truth) {
    let mut bytes = Vec::new();
    let truth = generate(scenario, seed, &mut bytes).unwrap();
    (bytes, truth)
}

fn checksum(bytes: &[u8]) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    format!("{} bytes, crc {:08x}", bytes.len(), crc.sum())
}

/// The sum of the rows of one kind of subject, without blocks.
fn units(truth: &Truth, kind: &str) -> u64 {
    let rows = truth.totals.iter().filter(|row| row.subject.starts_with(kind));
    let sum = |c: &Counters| {
        let outcomes =
            c.sent + c.delivered + c.hard_bounces + c.refused_bounces + c.soft_bounces + c.undetermined + c.suppressed;
        outcomes + c.complaints + c.delays + c.rejects + c.rendering_failures + c.opens + c.clicks
    };
    rows.map(|row| sum(&row.counters)).sum()
}

#[test]
fn every_builtin_scenario_can_be_read_and_says_what_it_is() {
    for name in Scenario::builtin_names() {
        let text = Scenario::builtin_toml(name).unwrap();
        let scenario = Scenario::from_toml(text).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(scenario.name, name);
        assert!(!scenario.about.is_empty(), "{name} says nothing");
    }
    assert!(Scenario::builtin("no-such-day").is_none());
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_does_not() {
    let scenario = builtin("messy").with_minutes(20);
    let (bytes, truth) = stream(&scenario, 7);
    assert_eq!((&bytes, &truth), (&stream(&scenario, 7).0, &stream(&scenario, 7).1));
    assert_ne!(bytes, stream(&scenario, 8).0);
    // The same on every machine.
    insta::assert_snapshot!(checksum(&bytes), @"906038 bytes, crc 009d3355");
}

#[test]
fn recorded_is_the_sum_of_the_counters_without_blocks() {
    for name in Scenario::builtin_names() {
        let (bytes, truth) = stream(&builtin(name).with_minutes(100).scaled(0.5), 3);
        assert_eq!(units(&truth, "configuration-set:"), truth.recorded, "{name}");
        assert_eq!(units(&truth, "identity:"), truth.recorded, "{name}");
        assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count() as u64, truth.lines, "{name}");
    }
}

#[test]
fn every_line_that_is_meant_to_be_json_parses() {
    let mut scenario = builtin("messy");
    scenario.garbage = 0;
    scenario.noise = 400;
    let (bytes, _) = stream(&scenario, 5);
    let lines = std::str::from_utf8(&bytes).unwrap().lines();
    let broken: BTreeSet<&str> = lines.filter(|line| serde_json::from_str::<Value>(line).is_err()).collect();
    assert_eq!(broken, BTreeSet::from(["Successfully validated SNS topic for Amazon SES event publishing."]));
}

#[test]
fn events_are_written_in_order_of_arrival_and_only_late_ones_are_held() {
    let scenario = builtin("stale-list").scaled(20.0);
    let start_ms = scenario.start_ms().unwrap();
    let mut world = World::new(&scenario, 7, start_ms);
    let (mut written, mut last_ms, mut invented, mut most_held) = (0_u64, 0, 0_u64, 0);
    for second in 0..600 {
        while let Some(pending) = world.arrived_before(start_ms + second * 1000) {
            assert!(pending.arrives_ms >= last_ms);
            last_ms = pending.arrives_ms;
            written += 1;
        }
        world.step(second);
        most_held = most_held.max(world.held());
        invented = written + world.held() as u64;
    }
    assert!(invented > 7000, "{invented}");
    assert!(most_held < 700, "{most_held} of {invented}");
}

fn committed(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "events", file].iter().collect()
}

fn committed_stream(name: &str) -> (Vec<u8>, Truth) {
    let truth = std::fs::read_to_string(committed(&format!("truth/{name}.json"))).unwrap();
    let gz = std::fs::File::open(committed(&format!("streams/{name}.ndjson.gz"))).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(gz).read_to_end(&mut bytes).unwrap();
    (bytes, serde_json::from_str(&truth).unwrap())
}

#[test]
fn the_committed_streams_are_what_the_generator_makes() {
    for name in Scenario::builtin_names() {
        let (bytes, truth) = committed_stream(name);
        let (made, made_truth) = stream(&builtin(name), truth.seed);
        // Not `assert_eq`, which would print megabytes.
        assert!(made_truth == truth, "truth/{name}.json: run the example `make_streams`");
        assert!(made == bytes, "streams/{name}.ndjson.gz: run the example `make_streams`");
    }
}

#[test]
fn a_naive_recount_of_the_committed_streams_finds_their_truth() {
    for name in Scenario::builtin_names() {
        let (bytes, truth) = committed_stream(name);
        let mut recount = Recount::default();
        bytes.split(|&byte| byte == b'\n').for_each(|line| recount.read(line));
        let rows = truth.totals.iter().map(|row| {
            let Value::Object(counters) = serde_json::to_value(row.counters).unwrap() else { panic!("not an object") };
            let counters = counters.into_iter().map(|(name, count)| (name, count.as_u64().unwrap())).collect();
            ((row.subject.clone(), row.isp.clone()), counters)
        });
        assert_eq!(recount.totals, rows.collect(), "{name}");
    }
}

/// A counter that keeps everything and knows only what the streams of this module can contain.
#[derive(Default)]
struct Recount {
    seen: BTreeSet<(String, String, String)>,
    totals: BTreeMap<(String, String), BTreeMap<String, u64>>,
}

impl Recount {
    fn read(&mut self, document: &[u8]) {
        let Ok(value) = serde_json::from_slice::<Value>(document) else { return };
        if let Some(records) = value["Records"].as_array() {
            records.iter().for_each(|record| self.read(text(&record["body"]).as_bytes()));
        } else if value["Message"].is_string() {
            self.read(text(&value["Message"]).as_bytes());
        } else if value["detail"].is_object() {
            self.event(&value["detail"]);
        } else {
            self.event(&value);
        }
    }

    fn event(&mut self, event: &Value) {
        let mail = &event["mail"];
        let real = !text(&mail["messageId"]).is_empty() && text(&mail["timestamp"]) < "2027";
        if !real || !text(&mail["timestamp"]).starts_with("20") {
            return;
        }
        let everybody = people(&mail["destination"]);
        let anybody = &everybody[..1];
        let kind = event["eventType"].as_str().or(event["notificationType"].as_str()).unwrap_or_default();
        match kind {
            "Send" => self.units(mail, "sent", &everybody, None),
            "Delivery" => self.units(mail, "delivered", &people(&event["delivery"]["recipients"]), None),
            "Bounce" => {
                let bounce = &event["bounce"];
                let unit = match (text(&bounce["bounceType"]), text(&bounce["bounceSubType"])) {
                    ("Permanent", "OnAccountSuppressionList" | "OnTenantSuppressionList") => "suppressed",
                    ("Permanent", "EmailValidationSuppressed" | "UnsubscribedRecipient") => "suppressed",
                    ("Permanent", _) => "hard_bounces",
                    ("Transient", _) => "soft_bounces",
                    ("Undetermined", _) => "undetermined",
                    _ => return,
                };
                self.failures(mail, unit, &bounce["bouncedRecipients"], text(&bounce["bounceSubType"]));
            }
            "DeliveryDelay" => {
                let delay = &event["deliveryDelay"];
                self.failures(mail, "delays", &delay["delayedRecipients"], text(&delay["delayType"]));
            }
            "Complaint" => {
                let complaint = &event["complaint"];
                if complaint["complaintSubType"].is_null() && text(&complaint["complaintFeedbackType"]) != "not-spam" {
                    let somebody = address(&complaint["complainedRecipients"][0]["emailAddress"]);
                    self.units(mail, "complaints", &[somebody], Some(text(&complaint["feedbackId"])));
                }
            }
            "Reject" => self.units(mail, "rejects", anybody, Some("")),
            "Rendering Failure" => self.units(mail, "rendering_failures", anybody, Some("")),
            "Open" if text(&event["open"]["isBotEvent"]) != "Likely" => self.units(mail, "opens", anybody, Some("")),
            "Click" if text(&event["click"]["isBotEvent"]) != "Likely" => self.units(mail, "clicks", anybody, Some("")),
            _ => {}
        }
    }

    fn failures(&mut self, mail: &Value, unit: &str, failed: &Value, why: &str) {
        for recipient in failed.as_array().unwrap() {
            let who = [address(&recipient["emailAddress"])];
            // The texts of the two invented answers that refuse an IP address.
            let of_ip =
                ["(S3150)", "poor reputation"].iter().any(|words| text(&recipient["diagnosticCode"]).contains(words));
            let unit = if unit == "hard_bounces" && of_ip { "refused_bounces" } else { unit };
            self.units(mail, unit, &who, None);
            let status = text(&recipient["status"]);
            if matches!(why, "IPFailure" | "SpamDetected" | "ContentRejected") || status.get(1..4) == Some(".7.") {
                self.units(mail, "blocks", &who, None);
            }
        }
    }

    /// Counts a unit for each of `who`, distinguished by their address or by `id`.
    fn units(&mut self, mail: &Value, unit: &str, who: &[String], id: Option<&str>) {
        for person in who.iter().filter(|person| !person.ends_with("@simulator.amazonses.com")) {
            let id = id.unwrap_or(person).to_owned();
            if !self.seen.insert((unit.to_owned(), text(&mail["messageId"]).to_owned(), id)) {
                continue;
            }
            let isp = match person.split_once('@').unwrap().1 {
                "gmail.com" | "googlemail.com" => "gmail",
                "outlook.com" | "hotmail.com" | "live.com" | "msn.com" => "microsoft",
                "yahoo.com" | "ymail.com" | "aol.com" => "yahoo",
                "icloud.com" | "me.com" => "apple",
                _ => "other",
            };
            let set = mail["tags"]["ses:configuration-set"][0].as_str().unwrap_or("(none)");
            let domain = address(&mail["source"]).split_once('@').unwrap().1.to_owned();
            for subject in [format!("configuration-set:{set}"), format!("identity:{domain}")] {
                let row = self.totals.entry((subject, isp.to_owned())).or_default();
                *row.entry(unit.to_owned()).or_default() += 1;
            }
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn people(values: &Value) -> Vec<String> {
    values.as_array().unwrap().iter().map(address).collect()
}

fn address(value: &Value) -> String {
    let text = text(value);
    let inner = text.split_once('<').map_or(text, |(_, inner)| inner.trim_end_matches('>'));
    inner.to_lowercase()
}

#[test]
fn an_error_about_a_value_has_its_key_and_the_allowed_values() {
    let set = "[[configuration_sets]]\nname = \"a\"\nidentity = \"example.com\"\nper_minute = 1\n";
    let check = |head: &str, tail: &str| {
        let text = format!("name = \"x\"\nstart = \"2026-10-05T06:00:00\"\n{head}\n{set}{tail}");
        match Scenario::from_toml(&text) {
            Ok(_) => "fine".to_owned(),
            Err(ScenarioError::Toml(error)) => format!("scenario cannot be read: {}", error.message()),
            Err(error @ ScenarioError::Value { .. }) => error.to_string(),
        }
    };
    let table = [
        check("minutes = 60", ""),
        check("minutes = 0", ""),
        check("minutes = 60\nduplicates = 1.5", ""),
        check("minutes = 60\nduplicates = nan", ""),
        check("minutes = 60\nduplicate = 0.1", ""),
        check("minutes = 1\nnoise = 1000000", ""),
        check("minutes = 60\nenvelopes = []", ""),
        check("minutes = 60\nenvelopes = [\"pigeon\"]", ""),
        check("minutes = 60\ndaily_rhythm = [1, 2]", ""),
        check("minutes = 60\ncomplaint_delay = { from_minutes = 9, to_minutes = 3 }", ""),
        check("minutes = 60", "isps = { gmail = 0, microsoft = 0, yahoo = 0, apple = 0, other = 0 }"),
        check("minutes = 60", "rates = { hard = 0.8, soft = 0.3 }"),
        check("minutes = 60", "[[configuration_sets]]\nname = \"a\"\nidentity = \"b.example\"\nper_minute = 1"),
        check("minutes = 60", "[[incidents]]\nconfiguration_set = \"b\"\nfrom_minute = 1\nminutes = 1\nrates = {}"),
        check("minutes = 60", "[[incidents]]\nfrom_minute = 1\nminutes = 1\nrates = { hard = -1 }"),
    ];
    insta::assert_snapshot!(table.join("\n"), @r"
    fine
    scenario key `minutes` is 0, allowed: 1 to 5260000
    scenario key `duplicates` is 1.5, allowed: 0 to 1
    scenario key `duplicates` is NaN, allowed: 0 to 1
    scenario cannot be read: unknown field `duplicate`, expected one of `name`, `about`, `start`, `minutes`, `daily_rhythm`, `configuration_sets`, `rates`, `incidents`, `block_bounces`, `late_bounces`, `unknown_subtypes`, `complaint_delay`, `duplicates`, `jitter_seconds`, `multi_recipient`, `odd_addresses`, `noise`, `garbage`, `future_dated`, `envelopes`
    scenario key `noise` is 1000000, allowed: 0 to 100000
    scenario key `envelopes` is empty, allowed: some of raw, sns, eventbridge, sqs-batch, identity
    scenario cannot be read: unknown variant `pigeon`, expected one of `raw`, `sns`, `eventbridge`, `sqs-batch`, `identity`
    scenario key `daily_rhythm` is 2 numbers, allowed: none or 24 numbers
    scenario key `complaint_delay.from_minutes` is after `to_minutes` (3), allowed: a number up to `to_minutes`
    scenario key `configuration_sets[0].isps` is all zero, allowed: at least one weight above 0
    scenario key `configuration_sets[0].rates` is a sum of 1.113 with what it inherits, allowed: suppressed, hard, soft, undetermined, block and delay that add up to at most 1
    scenario key `configuration_sets[1].name` is `a`, allowed: a name that no other set has
    scenario key `incidents[0].configuration_set` is `b`, allowed: the name of one of the scenario's configuration sets
    scenario key `incidents[0].rates.hard` is -1, allowed: 0 to 1
    ");
    let late = "name = \"x\"\nstart = \"tomorrow\"\nminutes = 1\nconfiguration_sets = []";
    insta::assert_snapshot!(
        Scenario::from_toml(late).unwrap_err(),
        @"scenario key `start` is `tomorrow`, allowed: a time of RFC 3339 in the years 1970 to 2199, such as 2026-10-05T06:00:00Z"
    );
}

#[test]
fn a_scenario_that_cannot_be_used_is_invalid_input() {
    let mut scenario = builtin("messy");
    scenario.configuration_sets.clear();
    let error = generate(&scenario, 1, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn scaling_and_another_length_keep_the_density_of_noise() {
    let scenario = builtin("messy");
    let twice = scenario.clone().scaled(2.0);
    assert_eq!((twice.noise, twice.garbage, twice.configuration_sets[0].per_minute), (320, 80, 18.0));
    let half = scenario.with_minutes(60);
    assert_eq!((half.noise, half.garbage, half.minutes), (80, 20, 60));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_the_scenario_the_rows_add_up(
        seed: u64,
        shares in prop::array::uniform6(0.0..=1.0_f64),
        rates in prop::array::uniform6(0.0..=0.16_f64),
        envelopes in prop::collection::vec(
            prop::sample::select(vec![
                Envelope::Raw, Envelope::Sns, Envelope::Eventbridge, Envelope::SqsBatch, Envelope::Identity,
            ]),
            1..4,
        ),
    ) {
        let mut scenario = builtin("messy").with_minutes(6);
        [scenario.block_bounces, scenario.late_bounces, scenario.unknown_subtypes, ..] = shares;
        [.., scenario.duplicates, scenario.multi_recipient, scenario.odd_addresses] = shares;
        scenario.rates = Rates {
            hard: Some(rates[0]), soft: Some(rates[1]), suppressed: Some(rates[2]), delay: Some(rates[3]),
            block: Some(rates[4]), complaint: Some(rates[5]), reject: Some(rates[5]), open: Some(rates[0]),
            ..Rates::default()
        };
        scenario.envelopes = envelopes;
        scenario.incidents.clear();
        let (bytes, truth) = stream(&scenario, seed);
        prop_assert_eq!(units(&truth, "configuration-set:"), truth.recorded);
        prop_assert_eq!(units(&truth, "identity:"), truth.recorded);
        let mut recount = Recount::default();
        bytes.split(|&byte| byte == b'\n').for_each(|line| recount.read(line));
        let recounted: u64 = recount.totals.iter()
            .filter(|((subject, _), _)| subject.starts_with("identity:"))
            .flat_map(|(_, row)| row).filter(|(unit, _)| *unit != "blocks").map(|(_, count)| count).sum();
        prop_assert_eq!(recounted, truth.recorded);
    }

    #[test]
    fn times_are_written_as_another_calendar_writes_them(at_ms in 0_i64..7_258_118_400_000) {
        let expected = jiff::Timestamp::from_millisecond(at_ms).unwrap().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        let mut written = Vec::new();
        write::Dates::default().write(&mut written, at_ms);
        prop_assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
