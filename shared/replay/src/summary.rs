//! Only the totals and the result of a replay, as a document: the contract of `--summary --format json`.
//!
//! Names and shapes here are stable; new fields may be added.

use std::collections::BTreeMap;

use reputation::counters::Metric;
use reputation::unit::UnitKind;
use serde::Serialize;

use crate::report::{HeldBack, Input, Rate, Report, Warning};
use crate::text;

/// The totals and the result.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// What was read.
    pub input: Input,
    /// See [`Report::gate`].
    pub gate: bool,
    /// All counters of the mail, zeros too; each mail counts once. In a report on one subject, those of its mail.
    pub mail: BTreeMap<&'static str, u64>,
    /// Its rates, by metric.
    pub rates: BTreeMap<&'static str, Rate>,
    /// Whether anything would have been stopped.
    pub stopped: bool,
    /// The mail that would not have been sent.
    pub held_back: HeldBack,
    /// The result in a sentence.
    pub result: String,
    /// Warnings: reasons to trust the rest less.
    pub warnings: Vec<Warning>,
}

impl Summary {
    /// The totals and the result of a report.
    pub fn of(report: &Report) -> Summary {
        let rows = report.all_mail();
        let count = |kind: &UnitKind| (kind.counter_name(), rows.iter().map(|row| row.get(*kind)).sum());
        let (result, stopped) = text::result(report);
        Summary {
            input: report.input.clone(),
            gate: report.gate,
            mail: UnitKind::ALL.iter().map(count).collect(),
            rates: Metric::ALL.into_iter().map(|metric| (metric.name(), report.rate(metric))).collect(),
            stopped,
            held_back: report.held_back(),
            result,
            warnings: report.warnings.clone(),
        }
    }
}
