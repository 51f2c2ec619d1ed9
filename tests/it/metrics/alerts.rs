//! Alert rules and the dashboard ask for what a node tells, and the manual says what to do.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::deploy::{file, yaml};
use crate::metrics::Scrape;
use crate::metrics::documented::all;

/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["job", "instance"];

/// The places of an expression where a figure is asked for: its name, and what of its labels is asked.
fn asked_in(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut asked = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        rest = behind;
        if !name.starts_with("tenmint_") && !name.starts_with("process_") {
            continue;
        }
        let labels = behind.strip_prefix('{').and_then(|labels| labels.split('}').next());
        let labels = labels.unwrap_or_default().split(',').filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (name, value) = label.split_once('=').unwrap();
            (name.to_owned(), value.trim_start_matches('~').trim_matches('"').to_owned())
        });
        asked.push((
            name.to_owned(),
            labels.filter(|(name, _)| !ADDED.contains(&name.as_str())).collect(),
        ));
    }
    asked
}

/// What an expression asks for that no node tells.
fn missing(told: &Scrape, expression: &str) -> Vec<String> {
    let asked = asked_in(expression);
    assert!(!asked.is_empty() || expression.starts_with("up{"), "{expression} asks for nothing");
    let open = expression.matches(['(', '{', '[']).count();
    assert_eq!(open, expression.matches([')', '}', ']']).count(), "{expression}");
    let is_told = |(name, labels): &(String, Vec<(String, String)>)| {
        told.series().iter().any(|series| {
            let has = |(label, value): &(String, String)| {
                series.contains(&format!("{label}=\"{value}\""))
            };
            series.split('{').next() == Some(name) && labels.iter().all(has)
        })
    };
    asked
        .iter()
        .filter(|asked| !is_told(asked))
        .map(|asked| format!("{asked:?} of {expression}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_alert_asks_for_what_a_node_tells_and_the_manual_says_what_to_do() {
    let told = all().await;
    let rules = yaml("prometheus/alerts.yml").remove(0);
    let rules = rules["groups"][0]["rules"].as_vec().unwrap().clone();
    let mut alerts = BTreeSet::new();
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(alerts.insert(name.to_owned()), "{name} twice");
        let expression = rule["expr"].as_str().unwrap();
        assert_eq!(missing(&told, expression), Vec::<String>::new(), "{name}");
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        assert!(rule["annotations"]["summary"].as_str().is_some(), "{name}");
    }
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md"));
    let manual = manual.unwrap();
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| `Tenmint"));
    let rows: BTreeSet<String> =
        rows.map(|row| format!("Tenmint{}", row.split('`').next().unwrap())).collect();
    assert_eq!(rows, alerts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_of_the_dashboard_asks_for_what_a_node_tells() {
    let told = all().await;
    let dashboard: Value = serde_json::from_str(&file("grafana/tenmint.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    let mut asked = 0;
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id twice");
        let place = [&panel["gridPos"]["x"], &panel["gridPos"]["y"]].map(|at| at.as_u64().unwrap());
        assert!(places.insert(place), "{title}: its place twice");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let ours = expression
                .replace("$__rate_interval", "5m")
                .replace("job=\"$job\",instance=~\"$instance\"", "");
            assert_eq!(missing(&told, &ours.replace("{,", "{")), Vec::<String>::new(), "{title}");
            assert!(expression.contains("job=\"$job\""), "{title} tells of other jobs");
            asked += 1;
        }
    }
    assert!(asked > 20, "the search finds no panels any more");
}

#[test]
fn what_an_expression_asks_for_is_found_in_it() {
    let expression =
        "sum by (route) (rate(tenmint_a_total{job=\"x\",status=\"5xx\"}[5m])) / process_b > 3";
    let found = asked_in(expression);
    let status = vec![("status".to_owned(), "5xx".to_owned())];
    assert_eq!(
        found,
        [("tenmint_a_total".to_owned(), status), ("process_b".to_owned(), Vec::new())]
    );
    let told = Scrape::parse("# HELP process_b x\n# TYPE process_b gauge\nprocess_b 1\n");
    assert_eq!(missing(&told, expression).len(), 1);
    assert_eq!(missing(&told, "process_b{a=\"1\"} > process_b").len(), 1);
}
