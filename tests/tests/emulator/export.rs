//! The stack as a user's Grafana sees it: the metrics that the breaker has printed, by the queries of `infra/grafana.json`.

use std::collections::{BTreeMap, BTreeSet};

use aws::invocation::now;
use aws::metrics::NAMESPACE;
use e2e::emulator::{Emulator, eventually};
use e2e::grafana::{Target, dashboard};
use permits::Gate as _;
use pipeline::export::PERIOD;
use reputation::time::{MINUTE_MILLIS, Minute, Now};
use serde_json::{Value, json};

use crate::fixture::{Fixture, SOON};
use crate::stream::event;

const STACK: &str = "boards";
const POLICY: &str = "mode = \"act\"\n\n[warmup.sets.news]\nstart = 2000\ntarget = 20000\n\n\
                      [warmup.sets.offers]\nstart = 500\ntarget = 500\n";
/// Two sets of three: the one with harm, and the larger one of the others.
const EXPORT: &str = "\n[cloudwatch]\nconfiguration_sets = 2\nisps = 1\n";
/// Mails in each minute before the test began, and the number of minutes.
const SENDERS: [(&str, u32); 3] = [("news", 3), ("offers", 5), ("receipts", 2)];
const MINUTES: u32 = 30;

/// Events about that mail; every third of `news` bounces.
fn events(begun: Now) -> Vec<String> {
    let mut events = Vec::new();
    for (set, mails) in SENDERS {
        for (minute, mail) in (1..=MINUTES).flat_map(|minute| (0..mails).map(move |mail| (minute, mail))) {
            let (id, accepted) = (format!("{set}-{minute}-{mail}"), Now(begun.0 - i64::from(minute) * MINUTE_MILLIS));
            let made = |kind: &str, detail: &str| event(kind, set, &format!("{set}.example"), &id, accepted, detail);
            events.push(made("Send", r#""send":{}"#));
            events.push(match (set, mail) {
                ("news", 0) => {
                    let recipient = format!(r#"{{"emailAddress":"reader-{id}@yahoo.com","status":"5.1.1"}}"#);
                    let kind = r#""bounceType":"Permanent","bounceSubType":"General""#;
                    made("Bounce", &format!(
                        r#""bounce":{{{kind},"timestamp":"{accepted}","feedbackId":"{id}","bouncedRecipients":[{recipient}]}}"#
                    ))
                }
                _ => made("Delivery", &format!(r#""delivery":{{"timestamp":"{accepted}","recipients":["reader-{id}@yahoo.com"]}}"#)),
            });
        }
    }
    events
}

/// A metric: its dimensions, by name.
type Dimensions = BTreeMap<String, String>;

/// The metrics of this name that CloudWatch knows of the stack.
fn known(emulator: &Emulator, name: &str) -> Vec<Dimensions> {
    let filter = json!([{ "Name": "Stack", "Value": STACK }]);
    let input = json!({ "Namespace": NAMESPACE, "MetricName": name, "Dimensions": filter });
    let answer = emulator.cloudwatch("list_metrics", &input).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let dimensions = |metric: &Value| {
        let dimensions = metric["Dimensions"].as_array().unwrap().iter();
        dimensions.map(|dimension| (text(&dimension["Name"]), text(&dimension["Value"]))).collect()
    };
    answer["Metrics"].as_array().unwrap().iter().map(dimensions).collect()
}

/// The metrics that a Grafana query finds for all sets and ISPs: those with exactly its dimensions.
fn found(emulator: &Emulator, target: &Target) -> Vec<Dimensions> {
    let matches = |metric: &Dimensions| metric.keys().eq(target.dimensions.keys());
    known(emulator, &target.metric_name).into_iter().filter(matches).collect()
}

/// Time and value of each point of a metric.
fn points(emulator: &Emulator, target: &Target, dimensions: &Dimensions, statistic: &str) -> Vec<(Now, f64)> {
    let dimensions: Vec<Value> =
        dimensions.iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
    let metric = json!({ "Namespace": target.namespace, "MetricName": target.metric_name, "Dimensions": dimensions });
    let period: u32 = target.period.parse().unwrap();
    let query = json!({ "Id": "a", "MetricStat": { "Metric": metric, "Period": period, "Stat": statistic } });
    let (from, until) = (now().0 / 1000 - 3_600, now().0 / 1000 + 600);
    let input = json!({ "MetricDataQueries": [query], "StartTime": from, "EndTime": until });
    let answer = &emulator.cloudwatch("get_metric_data", &input).unwrap()["MetricDataResults"][0];
    let at = |time: &Value| Now((time.as_f64().unwrap() * 1e3) as i64);
    let times = answer["Timestamps"].as_array().unwrap().iter().map(at);
    times.zip(answer["Values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap())).collect()
}

#[tokio::test]
async fn every_query_of_the_grafana_dashboard_has_an_answer() {
    let fixture = Fixture::deploy(STACK, &[("GateInUse", "true")], &SENDERS.map(|(set, _)| set)).await;
    fixture.push(POLICY, 0).await;
    let Fixture { account, emulator, table, .. } = &fixture;

    // The middle of a minute, so that the mail of each minute is accepted in one.
    let begun = Now(now().0 / MINUTE_MILLIS * MINUTE_MILLIS + MINUTE_MILLIS / 2);
    fixture.publish(&events(begun)).await;
    for (set, mails) in SENDERS {
        let subject = format!("configuration-set:{set}");
        eventually("all mail is counted", SOON, async || {
            let totals = account.totals(table, "d", Some(&subject)).await;
            let sent = totals.values().filter_map(|counters| counters.get("sent")).sum::<u64>();
            if sent == u64::from(mails * MINUTES) { Ok(()) } else { Err(totals) }
        })
        .await;
    }
    let (gate, _) = fixture.gate();
    for set in ["news", "offers"] {
        let body =
            json!({ "configurationSet": set, "identity": format!("{set}.example"), "recipients": { "yahoo.com": 1 } });
        assert_eq!(gate.post("/v1/permits", body.to_string().into()).await.unwrap().status, 200);
    }
    // Only after everything is counted: each period is printed once.
    assert!(!emulator.logs(STACK).unwrap().contains("\"ConfigurationSet\""), "nothing is exported unasked");
    let policy = format!("{POLICY}{EXPORT}");
    fixture.push(&policy, 1).await;
    eventually("metrics are printed", SOON, async || {
        emulator.invoke(STACK, "breaker", &json!({ "tick": "minute" })).unwrap();
        if emulator.logs(STACK).unwrap().contains("\"ConfigurationSet\"") { Ok(()) } else { Err("nothing yet") }
    })
    .await;
    emulator.invoke(STACK, "breaker", &json!({ "tick": "minute" })).unwrap();
    assert!(emulator.extract_metrics(STACK).unwrap() > 0);

    variables_have_values(emulator);
    let mut values = BTreeMap::new();
    for panel in dashboard().unwrap().panels {
        for target in &panel.targets {
            let metrics = found(emulator, target);
            assert!(!metrics.is_empty(), "{}: no metric is {target:?}", panel.title);
            for metric in metrics {
                let points = points(emulator, target, &metric, &target.statistic);
                assert!(!points.is_empty(), "{}: no data of {metric:?}", panel.title);
                let of = |name: &str| metric.get(name).map_or("", String::as_str).to_owned();
                values.insert((target.metric_name.clone(), of("ConfigurationSet"), of("Isp")), points);
            }
        }
    }
    let last = |metric: &str, set: &str, isp: &str| {
        values[&(metric.to_owned(), set.to_owned(), isp.to_owned())].last().unwrap().1
    };
    // One of three bounced at the only ISP: the gate holds that ISP, and the set as a whole keeps sending.
    assert_eq!(
        (last("State", "news", "yahoo"), last("State", "news", ""), last("State", "offers", "")),
        (3.0, 0.0, 0.0)
    );
    assert!((last("HardBounceRate", "news", "yahoo") - 1.0 / 3.0).abs() < 1e-9);
    assert!(last("EvidenceShare", "news", "yahoo") >= 1.0 && last("EvidenceShare", "offers", "yahoo") == 0.0);
    assert_eq!((last("Quota", "offers", ""), last("Granted", "offers", "yahoo")), (500.0, 1.0));
    assert_eq!((last("ConfigurationSetsLeftOut", "", ""), last("IspsLeftOut", "", "")), (1.0, 0.0));
    // Every period has the mails that were accepted in it, and no mail is in two periods.
    let begun = begun.minute();
    for (set, mails) in [SENDERS[0], SENDERS[1]] {
        for isp in ["", "yahoo"] {
            for (at, sum) in &values[&("Mails".to_owned(), set.to_owned(), isp.to_owned())] {
                let minutes = (at.minute().0..at.minute().0 + PERIOD).map(Minute);
                let minutes = minutes.filter(|minute| *minute < begun && *minute >= begun.minus(MINUTES)).count();
                assert_eq!(*sum, f64::from(mails) * minutes as f64, "{set} at {isp:?} {at}");
            }
        }
    }
    fixture.emulator.stop().unwrap();
}

/// The values that Grafana offers.
fn variables_have_values(emulator: &Emulator) {
    let offered = |key: &str| {
        let metrics = known(emulator, "State").into_iter();
        metrics.filter_map(|metric| metric.get(key).cloned()).collect::<BTreeSet<String>>()
    };
    for variable in
        dashboard().unwrap().templating.list.iter().filter(|variable| variable.query["dimensionKey"].is_string())
    {
        let expected: &[&str] = match variable.name.as_str() {
            "stack" => &[STACK],
            "set" => &["news", "offers"],
            _ => &["yahoo"],
        };
        let offered = offered(variable.query["dimensionKey"].as_str().unwrap());
        assert_eq!(offered.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{}", variable.name);
    }
}
