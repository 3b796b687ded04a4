//! The Grafana dashboard in `infra/grafana.json`, as far as it queries CloudWatch.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::emulator::root;

/// The dashboard.
#[derive(Debug, Deserialize)]
pub struct Dashboard {
    /// Its panels, rows included.
    pub panels: Vec<Panel>,
    /// Its variables.
    pub templating: Templating,
}

/// A panel.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Panel {
    /// Unique.
    pub id: u32,
    /// `row`, `timeseries` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its title.
    pub title: String,
    /// Its position.
    pub grid_pos: Place,
    /// Its queries; empty for a row.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// Units, colours, lines.
    #[serde(default)]
    pub field_config: Value,
}

/// A place in a grid 24 columns wide.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Place {
    /// First column.
    pub x: u32,
    /// First line.
    pub y: u32,
    /// Columns.
    pub w: u32,
    /// Lines.
    pub h: u32,
}

/// A query.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// `Metrics`.
    pub query_mode: String,
    /// 0: a search for metrics.
    pub metric_query_type: u32,
    /// 0: made by the fields below, and not by `expression`.
    pub metric_editor_mode: u32,
    /// Empty.
    pub expression: String,
    /// The Region.
    pub region: String,
    /// The namespace.
    pub namespace: String,
    /// The metric.
    pub metric_name: String,
    /// Dimensions and their values: variables.
    pub dimensions: BTreeMap<String, String>,
    /// Whether metrics with more dimensions are excluded.
    pub match_exact: bool,
    /// `Sum`, `Maximum` …
    pub statistic: String,
    /// Seconds.
    pub period: String,
    /// The data source.
    pub datasource: Datasource,
}

/// A source of data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Datasource {
    /// `cloudwatch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id: a variable.
    pub uid: String,
}

/// The variables of a dashboard.
#[derive(Debug, Deserialize)]
pub struct Templating {
    /// The variables.
    pub list: Vec<Variable>,
}

/// A variable.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// The source of its values: a query, or the kind of data source.
    pub query: Value,
    /// The value that stands for all.
    pub all_value: Option<String>,
}

/// Reads the dashboard.
///
/// # Errors
///
/// It does not exist, or Grafana could not read it.
pub fn dashboard() -> Result<Dashboard> {
    let text = fs::read_to_string(root().join("infra/grafana.json"))?;
    serde_json::from_str(&text).context("infra/grafana.json")
}
