//! Metrics: one line an invocation in CloudWatch's embedded metric format, which Lambda hands to CloudWatch with the logs.
//!
//! **Invariant:** the stack is the only dimension. A metric for each configuration set or ISP would be billed as one
//! custom metric each; `ses-breaker status` and the reputation table tell those apart.
//!
//! Written by hand, with `serde_json`, which is here anyway: `metrics_cloudwatch_embedded` 0.10 needs the global
//! recorder of `metrics` and `futures`, and `metrique-writer-format-emf` 0.1 ten crates with other major versions of
//! `rand` and `hashbrown` than ours, for a line with a fixed shape. The shape and its limits are those of the AWS page
//! "Specification: Embedded metric format".

use std::collections::BTreeMap;
use std::io::{self, Write};

use reputation::time::Now;
use serde::Serialize;

/// Where the metrics are found in CloudWatch.
pub const NAMESPACE: &str = "ses-breaker";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// ingest: events that gave units.
    EventsRecorded,
    /// ingest: units written to the ledger, those that were known before included.
    UnitsWritten,
    /// ingest: messages that are no events, or events that we do not count.
    EventsIgnored,
    /// ingest: messages that could not be read; they end in the dead-letter queue.
    EventsRejected,
    /// breaker: new units folded into counters.
    UnitsFolded,
    /// breaker: records of the ledger's stream that are no units.
    RecordsMalformed,
    /// breaker: batches of which Lambda did not name the shard, so that a retry may count units twice.
    ShardsUnnamed,
    /// breaker, enforcer: items of the reputation table that this release does not understand. They stay as they are.
    ItemsUnreadable,
    /// breaker: subjects that were judged because of harm.
    Evaluations,
    /// breaker: breakers that changed their state, or told something.
    Transitions,
    /// all: 1 if the stored policy cannot be read and the last good one is used, else 0.
    PolicyInvalid,
    /// ingest, breaker, gate, warmup: write units that DynamoDB charged.
    WriteUnits,
    /// enforcer: wishes that were made true at SES.
    ControlsMade,
    /// enforcer: wishes that SES denied or put off.
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
}

impl Metric {
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
        }
    }
}

/// Prints metrics of one stack.
#[derive(Clone, Debug)]
pub struct Metrics {
    stack: String,
}

impl Metrics {
    /// Metrics of the stack with this name. Without a name nothing is printed: nobody reads it outside of Lambda.
    pub fn new(stack: impl Into<String>) -> Metrics {
        Metrics { stack: stack.into() }
    }

    /// Prints one line on standard output. Metrics are no reason to fail: what cannot be printed is left out.
    pub fn emit(&self, now: Now, values: &[(Metric, f64)]) {
        if let Some(line) = self.line(now, values) {
            // At once, so that lines of the log do not cut it.
            let _ = io::stdout().lock().write_all(format!("{line}\n").as_bytes());
        }
    }

    /// The line; `None` if there is nothing to tell. Leaves out what is no number. `now` is the time of the metrics.
    pub fn line(&self, now: Now, values: &[(Metric, f64)]) -> Option<String> {
        let told: Vec<(Metric, f64)> = values.iter().copied().filter(|(_, value)| value.is_finite()).collect();
        if told.is_empty() || self.stack.is_empty() {
            return None;
        }
        let definition = |(metric, _): &(Metric, f64)| Definition { name: metric.name(), unit: "Count" };
        let directive =
            Directive { namespace: NAMESPACE, dimensions: [["Stack"]], metrics: told.iter().map(definition).collect() };
        let line = Line {
            aws: Metadata { timestamp: now.0, directives: [directive] },
            stack: &self.stack,
            values: told.iter().map(|(metric, value)| (metric.name(), *value)).collect(),
        };
        serde_json::to_string(&line).ok()
    }
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "_aws")]
    aws: Metadata,
    #[serde(rename = "Stack")]
    stack: &'a str,
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
    dimensions: [[&'static str; 1]; 1],
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

    use super::*;

    const NOW: Now = Now(1_791_273_601_745);

    #[test]
    fn a_line_is_what_cloudwatch_reads() {
        let line =
            Metrics::new("mail").line(NOW, &[(Metric::EventsRecorded, 42.0), (Metric::WriteUnits, 1.5)]).unwrap();
        insta::assert_snapshot!(line, @r#"{"_aws":{"Timestamp":1791273601745,"CloudWatchMetrics":[{"Namespace":"ses-breaker","Dimensions":[["Stack"]],"Metrics":[{"Name":"EventsRecorded","Unit":"Count"},{"Name":"WriteUnits","Unit":"Count"}]}]},"Stack":"mail","EventsRecorded":42.0,"WriteUnits":1.5}"#);
    }

    /// The schema at the end of the AWS page, as assertions.
    #[test]
    fn a_line_keeps_to_the_schema_of_aws() {
        let all = [
            Metric::EventsRecorded,
            Metric::UnitsWritten,
            Metric::EventsIgnored,
            Metric::EventsRejected,
            Metric::UnitsFolded,
            Metric::RecordsMalformed,
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
        ];
        let line = Metrics::new("ses-breaker").line(NOW, &all.map(|metric| (metric, 0.0))).unwrap();
        let root: Value = serde_json::from_str(&line).unwrap();
        assert!(root["_aws"]["Timestamp"].is_i64() && !line.contains('\n'));
        let directive = &root["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], NAMESPACE);
        for dimension in directive["Dimensions"][0].as_array().unwrap() {
            assert!(root[dimension.as_str().unwrap()].as_str().is_some_and(|value| !value.is_empty()));
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert_eq!(metrics.len(), all.len());
        for metric in metrics {
            assert!(root[metric["Name"].as_str().unwrap()].is_number());
            assert_eq!(metric["Unit"], "Count");
        }
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let metrics = Metrics::new("mail");
        assert_eq!(metrics.line(NOW, &[]), None);
        assert_eq!(metrics.line(NOW, &[(Metric::WriteUnits, f64::NAN)]), None);
    }
}
