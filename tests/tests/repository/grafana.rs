//! The Grafana dashboard queries exactly the metrics that the stack exports. That each query has an answer is tested in
//! `tests/tests/emulator/export.rs`.

use std::collections::{BTreeMap, BTreeSet};

use aws::metrics::{CONFIGURATION_SET, ISP, Metric, NAMESPACE, STACK};
use e2e::grafana::{Panel, Target, dashboard};
use pipeline::export::{Measure, PERIOD};
use reputation::Policy;
use serde_json::json;

/// The dimensions of the exported metrics: of the stack, of a configuration set, of a set at an ISP.
const OF_STACK: &[&str] = &[STACK];
const OF_SET: &[&str] = &[STACK, CONFIGURATION_SET];
const OF_ISP: &[&str] = &[STACK, CONFIGURATION_SET, ISP];

/// Metrics, each by its name and its dimensions.
type Metrics = BTreeSet<(String, BTreeSet<String>)>;

fn metric(name: &str, dimensions: &[&str]) -> (String, BTreeSet<String>) {
    (name.to_owned(), dimensions.iter().map(|name| (*name).to_owned()).collect())
}

fn targets(panels: &[Panel]) -> impl Iterator<Item = (&Panel, &Target)> {
    panels.iter().flat_map(|panel| panel.targets.iter().map(move |target| (panel, target)))
}

#[test]
fn every_exported_metric_is_asked_for_and_no_other() {
    let left_out = [Metric::ConfigurationSetsLeftOut, Metric::IspsLeftOut];
    let exported: Metrics = Measure::all()
        .flat_map(|measure| [metric(measure.name(), OF_SET), metric(measure.name(), OF_ISP)])
        .chain(left_out.map(|of_stack| metric(of_stack.name(), OF_STACK)))
        .collect();
    let dashboard = dashboard().unwrap();
    let asked: Metrics = targets(&dashboard.panels)
        .map(|(_, target)| (target.metric_name.clone(), target.dimensions.keys().cloned().collect()))
        .collect();
    assert_eq!(asked, exported);
}

#[test]
fn every_query_is_one_that_cloudwatch_answers_exactly() {
    let dashboard = dashboard().unwrap();
    let values = BTreeMap::from([(STACK, "$stack"), (CONFIGURATION_SET, "$set"), (ISP, "$isp")]);
    let mut asked = 0;
    for (panel, target) in targets(&dashboard.panels) {
        let title = &panel.title;
        let fixed = (target.query_mode.as_str(), target.metric_query_type, target.metric_editor_mode);
        assert_eq!((fixed, target.expression.as_str()), (("Metrics", 0, 0), ""), "{title}");
        assert_eq!((target.namespace.as_str(), target.region.as_str()), (NAMESPACE, "$region"), "{title}");
        assert_eq!((target.datasource.kind.as_str(), target.datasource.uid.as_str()), ("cloudwatch", "${datasource}"));
        // Metrics of a set at an ISP do not belong to the set as a whole.
        assert!(target.match_exact, "{title}");
        for (name, value) in &target.dimensions {
            assert_eq!(values.get(name.as_str()), Some(&value.as_str()), "{title}");
        }
        assert_eq!(target.period, (PERIOD * 60).to_string(), "{title}");
        // Mails of a period are shown as such; all else is current state.
        let statistic = if target.metric_name == Measure::Mails.name() { "Sum" } else { "Maximum" };
        assert_eq!(target.statistic, statistic, "{title}");
        asked += 1;
    }
    assert!(asked > 2 * Measure::all().count(), "{asked}");
}

#[test]
fn variables_are_made_of_what_is_exported() {
    let variables = dashboard().unwrap().templating.list;
    let names: Vec<&str> = variables.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["datasource", "region", "stack", "set", "isp"]);
    assert_eq!((&variables[0].query, &variables[1].query["queryType"]), (&json!("cloudwatch"), &json!("regions")));
    for (variable, key) in variables[2..].iter().zip(OF_ISP) {
        let query = &variable.query;
        assert_eq!((&query["queryType"], &query["region"]), (&json!("dimensionValues"), &json!("$region")));
        assert_eq!((&query["namespace"], &query["dimensionKey"]), (&json!(NAMESPACE), &json!(key)));
        // Every set, and every ISP, has a state.
        assert_eq!(query["metricName"], Measure::State.name());
        let expected = if *key == STACK { json!({}) } else { json!({ STACK: "$stack" }) };
        assert_eq!(query["dimensionFilters"], expected);
        // One search for all of them, not one query each.
        assert_eq!(variable.all_value.as_deref(), if *key == STACK { None } else { Some("*") });
    }
}

#[test]
fn lines_are_the_limits_of_the_default_policy_and_states_have_the_words_that_people_read() {
    let policy = Policy::default();
    let limit = |metric| Some(policy.metrics.rule(metric).limit);
    let lines = BTreeMap::from([
        // Measures that stop mail.
        (Measure::EvidenceShare.name(), Some(1.0)),
    ]);
    let lines: BTreeMap<&str, Option<f64>> =
        reputation::Metric::ALL.into_iter().map(|metric| (metric.rate_name(), limit(metric))).chain(lines).collect();
    let dashboard = dashboard().unwrap();
    for (panel, target) in targets(&dashboard.panels) {
        let defaults = &panel.field_config["defaults"];
        let steps = defaults["thresholds"]["steps"].as_array().unwrap();
        if panel.kind == "timeseries" {
            let line = lines.get(target.metric_name.as_str()).copied().flatten();
            assert_eq!(steps.get(1).and_then(|step| step["value"].as_f64()), line, "{}", panel.title);
            let style = if line.is_some() { "line" } else { "off" };
            assert_eq!(defaults["custom"]["thresholdsStyle"]["mode"], style, "{}", panel.title);
            assert_eq!(defaults["unit"] == "percentunit", target.metric_name.ends_with("Rate"), "{}", panel.title);
        }
        if target.metric_name == Measure::State.name() {
            let words = &defaults["mappings"][0]["options"];
            let words: Vec<&str> = (0..4).map(|state| words[state.to_string()]["text"].as_str().unwrap()).collect();
            assert_eq!(words, ["sending", "slowed", "testing", "stopped"]);
        }
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let panels = dashboard().unwrap().panels;
    let ids: BTreeSet<u32> = panels.iter().map(|panel| panel.id).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeMap::new();
    for Panel { title, grid_pos: place, .. } in &panels {
        assert!(place.x + place.w <= 24, "{title}");
        for cell in (place.x..place.x + place.w).flat_map(|x| (place.y..place.y + place.h).map(move |y| (x, y))) {
            assert_eq!(taken.insert(cell, title), None, "{title}");
        }
    }
}
