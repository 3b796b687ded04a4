//! Metrics: lines in CloudWatch's embedded metric format, which Lambda hands to CloudWatch with the logs.
//!
//! Each invocation prints one line about the stack. What the policy exports of configuration sets ([`Metrics::emit_export`])
//! is a line or two for each.
//!
//! **Invariant:** the stack is the only dimension of a [`Metric`]; a configuration set and an ISP are dimensions of what
//! `[cloudwatch]` of the policy exports, and of nothing else: CloudWatch bills a metric for each value of a dimension.
//!
//! Written by hand, with `serde_json`, which is here anyway: `metrics_cloudwatch_embedded` 0.10 needs the global
//! recorder of `metrics` and `futures`, and `metrique-writer-format-emf` 0.1 ten crates with other major versions of
//! `rand` and `hashbrown` than ours, for a line with a fixed shape. The shape and its limits are those of the AWS page
//! "Specification: Embedded metric format".

use std::collections::BTreeMap;
use std::io::{self, Write};

use pipeline::export::{Export, Measure, Series};
use reputation::isp::IspMap;
use reputation::time::{MINUTE_MILLIS, Minute, Now};
use serde::Serialize;

/// Where the metrics are found in CloudWatch.
pub const NAMESPACE: &str = "ses-breaker";
/// Dimension of every metric: the name of the stack.
pub const STACK: &str = "Stack";
/// Dimension of what is exported of a configuration set: its name.
pub const CONFIGURATION_SET: &str = "ConfigurationSet";
/// Dimension of what is exported of a configuration set at an ISP: the name of the ISP.
pub const ISP: &str = "Isp";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// ingest: events that gave units.
    EventsRecorded,
    /// ingest: units written to the ledger, those that were known before included.
    UnitsWritten,
    /// ingest: messages that are not events, or events that are not counted.
    EventsIgnored,
    /// ingest: messages that could not be read; they end in the dead-letter queue.
    EventsRejected,
    /// breaker: new units folded into counters.
    UnitsFolded,
    /// breaker: records of the ledger's stream that are not units.
    RecordsMalformed,
    /// breaker: batches of which Lambda did not name the shard, so that a retry may count units twice.
    ShardsUnnamed,
    /// breaker, enforcer: items of the reputation table that this release does not understand. They stay as they are.
    ItemsUnreadable,
    /// breaker: subjects that were judged because of harm.
    Evaluations,
    /// breaker: transitions, including warnings that change no state.
    Transitions,
    /// all: 1 if the stored policy cannot be read and the last good one is used, else 0.
    PolicyInvalid,
    /// ingest, breaker, gate, warmup: write units that DynamoDB charged.
    WriteUnits,
    /// enforcer: desired states that were made true at SES.
    ControlsMade,
    /// enforcer: desired states that SES denied or deferred.
    ControlsFailed,
    /// enforcer: notices that were sent.
    AlertsSent,
    /// gate: mails that may go by the configuration set that was asked for.
    PermitsGranted,
    /// gate: mails that may not go now.
    PermitsDeferred,
    /// gate: mails that may go by the overflow set.
    PermitsOverflowed,
    /// gate: requests that were answered without counting, because the tables could not be read.
    PermitsDegraded,
    /// warmup: quotas whose day was closed, and a new one planned.
    QuotasPlanned,
    /// breaker, every five minutes if configuration sets are exported: those that are not, because there are too many.
    ConfigurationSetsLeftOut,
    /// breaker, with the same: ISPs of exported sets that are not, if ISPs are.
    IspsLeftOut,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 22] = [
        Metric::EventsRecorded,
        Metric::UnitsWritten,
        Metric::EventsIgnored,
        Metric::EventsRejected,
        Metric::UnitsFolded,
        Metric::RecordsMalformed,
        Metric::ShardsUnnamed,
        Metric::ItemsUnreadable,
        Metric::Evaluations,
        Metric::Transitions,
        Metric::PolicyInvalid,
        Metric::WriteUnits,
        Metric::ControlsMade,
        Metric::ControlsFailed,
        Metric::AlertsSent,
        Metric::PermitsGranted,
        Metric::PermitsDeferred,
        Metric::PermitsOverflowed,
        Metric::PermitsDegraded,
        Metric::QuotasPlanned,
        Metric::ConfigurationSetsLeftOut,
        Metric::IspsLeftOut,
    ];

    /// Its name in CloudWatch.
    pub fn name(self) -> &'static str {
        match self {
            Metric::EventsRecorded => "EventsRecorded",
            Metric::UnitsWritten => "UnitsWritten",
            Metric::EventsIgnored => "EventsIgnored",
            Metric::EventsRejected => "EventsRejected",
            Metric::UnitsFolded => "UnitsFolded",
            Metric::RecordsMalformed => "RecordsMalformed",
            Metric::ShardsUnnamed => "ShardsUnnamed",
            Metric::ItemsUnreadable => "ItemsUnreadable",
            Metric::Evaluations => "Evaluations",
            Metric::Transitions => "Transitions",
            Metric::PolicyInvalid => "PolicyInvalid",
            Metric::WriteUnits => "WriteUnits",
            Metric::ControlsMade => "ControlsMade",
            Metric::ControlsFailed => "ControlsFailed",
            Metric::AlertsSent => "AlertsSent",
            Metric::PermitsGranted => "PermitsGranted",
            Metric::PermitsDeferred => "PermitsDeferred",
            Metric::PermitsOverflowed => "PermitsOverflowed",
            Metric::PermitsDegraded => "PermitsDegraded",
            Metric::QuotasPlanned => "QuotasPlanned",
            Metric::ConfigurationSetsLeftOut => "ConfigurationSetsLeftOut",
            Metric::IspsLeftOut => "IspsLeftOut",
        }
    }
}

/// Prints metrics of one stack.
#[derive(Clone, Debug)]
pub struct Metrics {
    stack: String,
}

impl Metrics {
    /// Metrics of the stack with this name. Without a name nothing is printed: outside of Lambda nothing reads it.
    pub fn new(stack: impl Into<String>) -> Metrics {
        Metrics { stack: stack.into() }
    }

    /// Prints one line on standard output. Never fails: values that cannot be written are dropped.
    pub fn emit(&self, now: Now, values: &[(Metric, f64)]) {
        if let Some(line) = self.line(now, values) {
            // At once, so that lines of the log do not cut it.
            let _ = io::stdout().lock().write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Prints what is exported of configuration sets, a line or two for each of them and each of its ISPs. Never fails: values
    /// that cannot be written are dropped.
    pub fn emit_export(&self, export: &Export, isps: &IspMap) {
        let lines = self.export_lines(export, isps);
        if !lines.is_empty() {
            let _ = io::stdout().lock().write_all(format!("{}\n", lines.join("\n")).as_bytes());
        }
    }

    /// The lines. Values are dated at the beginning of their period, so that a repeated look says the same of the same time.
    pub fn export_lines(&self, export: &Export, isps: &IspMap) -> Vec<String> {
        let mut lines = Vec::new();
        for Series { set, isp, values, mails } in &export.series {
            let mut dimensions = vec![(STACK, self.stack.as_str()), (CONFIGURATION_SET, set.as_str())];
            dimensions.extend(isp.map(|isp| (ISP, isps.name(isp))));
            let values: Vec<Value> = values.iter().map(|(measure, value)| of_measure(*measure, *value)).collect();
            lines.extend(document(start(export.at), &dimensions, &values));
            let mails = mails.map(|mails| of_measure(Measure::Mails, mails as f64));
            lines.extend(mails.and_then(|mails| document(start(export.mails_from), &dimensions, &[mails])));
        }
        lines
    }

    /// The line; `None` if there is nothing to print. Skips values that are not numbers. `now` is the time of the metrics.
    pub fn line(&self, now: Now, values: &[(Metric, f64)]) -> Option<String> {
        let values: Vec<Value> = values.iter().map(|(metric, value)| (metric.name(), "Count", *value)).collect();
        document(now, &[(STACK, &self.stack)], &values)
    }
}

/// Name, unit and value of a metric.
type Value = (&'static str, &'static str, f64);

fn of_measure(measure: Measure, value: f64) -> Value {
    (measure.name(), if measure.counts_mails() { "Count" } else { "None" }, value)
}

fn start(minute: Minute) -> Now {
    Now(i64::from(minute.0) * MINUTE_MILLIS)
}

/// A document of the format, in one line; `None` if it would hold no value. A dimension without a value is not allowed.
fn document(at: Now, dimensions: &[(&'static str, &str)], values: &[Value]) -> Option<String> {
    let values: Vec<Value> = values.iter().copied().filter(|(_, _, value)| value.is_finite()).collect();
    if values.is_empty() || dimensions.iter().any(|(_, value)| value.is_empty()) {
        return None;
    }
    let definition = |(name, unit, _): &Value| Definition { name, unit };
    let directive = Directive {
        namespace: NAMESPACE,
        dimensions: [dimensions.iter().map(|(name, _)| *name).collect()],
        metrics: values.iter().map(definition).collect(),
    };
    let line = Line {
        aws: Metadata { timestamp: at.0, directives: [directive] },
        dimensions: dimensions.iter().copied().collect(),
        values: values.iter().map(|(name, _, value)| (*name, *value)).collect(),
    };
    serde_json::to_string(&line).ok()
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "_aws")]
    aws: Metadata,
    #[serde(flatten)]
    dimensions: BTreeMap<&'static str, &'a str>,
    #[serde(flatten)]
    values: BTreeMap<&'static str, f64>,
}

#[derive(Serialize)]
struct Metadata {
    #[serde(rename = "Timestamp")]
    timestamp: i64,
    #[serde(rename = "CloudWatchMetrics")]
    directives: [Directive; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    dimensions: [Vec<&'static str>; 1],
    metrics: Vec<Definition>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: &'static str,
    unit: &'static str,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Metric, Metrics, *};

    const NOW: Now = Now(1_791_273_601_745);

    #[test]
    fn a_line_is_what_cloudwatch_reads() {
        let line =
            Metrics::new("mail").line(NOW, &[(Metric::EventsRecorded, 42.0), (Metric::WriteUnits, 1.5)]).unwrap();
        insta::assert_snapshot!(line, @r#"{"_aws":{"Timestamp":1791273601745,"CloudWatchMetrics":[{"Namespace":"ses-breaker","Dimensions":[["Stack"]],"Metrics":[{"Name":"EventsRecorded","Unit":"Count"},{"Name":"WriteUnits","Unit":"Count"}]}]},"Stack":"mail","EventsRecorded":42.0,"WriteUnits":1.5}"#);
    }

    /// The schema at the end of the AWS page, as assertions; returns the dimensions.
    fn keeps_to_the_schema(line: &str) -> Vec<String> {
        let root: Value = serde_json::from_str(line).unwrap();
        assert!(root["_aws"]["Timestamp"].is_i64() && !line.contains('\n'));
        let directive = &root["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], NAMESPACE);
        let dimensions = directive["Dimensions"][0].as_array().unwrap();
        for dimension in dimensions {
            assert!(root[dimension.as_str().unwrap()].as_str().is_some_and(|value| !value.is_empty()));
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()));
        for metric in metrics {
            assert!(root[metric["Name"].as_str().unwrap()].is_number());
            assert!(["Count", "None"].contains(&metric["Unit"].as_str().unwrap()));
        }
        dimensions.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_line_keeps_to_the_schema_of_aws() {
        let line = Metrics::new("ses-breaker").line(NOW, &Metric::ALL.map(|metric| (metric, 0.0))).unwrap();
        assert_eq!(keeps_to_the_schema(&line), ["Stack"]);
        let root: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(root["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap().len(), Metric::ALL.len());
    }

    #[test]
    fn what_is_exported_is_a_line_for_the_period_and_one_for_the_mails_of_an_earlier_one() {
        let isps = IspMap::builtin();
        let values = vec![
            (Measure::Rate(reputation::Metric::HardBounce), 0.025),
            (Measure::State, 3.0),
            (Measure::Quota, f64::INFINITY),
        ];
        let series = |isp| Series { set: "news".into(), isp, values: values.clone(), mails: Some(17) };
        let at = NOW.minute();
        let export = Export {
            at,
            mails_from: at.minus(10),
            series: vec![series(None), Series { mails: None, ..series(isps.by_name("gmail")) }],
            ..Export::default()
        };
        let lines = Metrics::new("mail").export_lines(&export, &isps);
        let dimensions: Vec<Vec<String>> = lines.iter().map(|line| keeps_to_the_schema(line)).collect();
        let of_set = ["Stack", "ConfigurationSet"].map(str::to_owned).to_vec();
        let of_isp = ["Stack", "ConfigurationSet", "Isp"].map(str::to_owned).to_vec();
        assert_eq!(dimensions, [of_set.clone(), of_set, of_isp]);
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"_aws":{"Timestamp":1791273600000,"CloudWatchMetrics":[{"Namespace":"ses-breaker","Dimensions":[["Stack","ConfigurationSet"]],"Metrics":[{"Name":"HardBounceRate","Unit":"None"},{"Name":"State","Unit":"None"}]}]},"ConfigurationSet":"news","Stack":"mail","HardBounceRate":0.025,"State":3.0}
        {"_aws":{"Timestamp":1791273000000,"CloudWatchMetrics":[{"Namespace":"ses-breaker","Dimensions":[["Stack","ConfigurationSet"]],"Metrics":[{"Name":"Mails","Unit":"Count"}]}]},"ConfigurationSet":"news","Stack":"mail","Mails":17.0}
        {"_aws":{"Timestamp":1791273600000,"CloudWatchMetrics":[{"Namespace":"ses-breaker","Dimensions":[["Stack","ConfigurationSet","Isp"]],"Metrics":[{"Name":"HardBounceRate","Unit":"None"},{"Name":"State","Unit":"None"}]}]},"ConfigurationSet":"news","Isp":"gmail","Stack":"mail","HardBounceRate":0.025,"State":3.0}
        "#);
        // Outside of Lambda nothing is printed.
        assert_eq!(Metrics::new("").export_lines(&export, &isps), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let metrics = Metrics::new("mail");
        assert_eq!(metrics.line(NOW, &[]), None);
        assert_eq!(metrics.line(NOW, &[(Metric::WriteUnits, f64::NAN)]), None);
    }
}
