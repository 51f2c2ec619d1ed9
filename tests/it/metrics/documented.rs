//! Every figure has a name by the rules and a row in `docs/operating.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::metrics::{Scrape, observed, scrape};
use crate::server::{Engine, Setup};

/// The figures of a node that has just begun.
pub async fn all() -> Scrape {
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    scrape(observed(&server).await).await
}

/// Names of the labels of each family.
fn labels(told: &Scrape) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for series in told.samples.keys() {
        let (name, rest) = series.split_once('{').unwrap_or((series, ""));
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| told.families.get_key_value(name.strip_suffix(suffix)?))
            .or(told.families.get_key_value(name));
        let names = labels.entry(family.unwrap().0).or_default();
        names.extend(rest.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0)));
        names.remove("le");
    }
    labels
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_named_as_prometheus_asks() {
    let told = all().await;
    for (name, (kind, help)) in &told.families {
        assert!(name.starts_with("tenmint_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(kind != "histogram" || name.ends_with("_seconds"), "{name} is a {kind}");
        for unit in ["_millis", "_ms", "_minutes", "_kilobytes", "_mb", "_percent"] {
            assert!(!name.contains(unit), "{name} is in no base unit");
        }
        assert!(!help.is_empty() && !help.ends_with('.'), "{name}: {help}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_figure_has_its_row_in_the_manual_and_every_row_its_figure() {
    let told = all().await;
    let labels = labels(&told);
    let mut rows = String::from("| Name | Type | Labels | What it tells |\n|---|---|---|---|\n");
    for (name, (kind, help)) in &told.families {
        let names: Vec<String> =
            labels[name.as_str()].iter().map(|name| format!("`{name}`")).collect();
        rows += &format!("| `{name}` | {kind} | {} | {help} |\n", names.join(", "));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let start = page.find("| Name | Type | Labels |").expect("the manual has the table");
    let length = page[start..].find("\n\n").map_or(page.len() - start, |end| end + 1);
    if std::env::var_os("TENMINT_WRITE_DOCS").is_some() {
        let page = format!("{}{rows}{}", &page[..start], &page[start + length..]);
        std::fs::write(&path, page).unwrap();
    } else {
        let renew = "TENMINT_WRITE_DOCS=1 cargo test --test it metrics::documented";
        assert!(page[start..start + length] == rows, "the table is old: {renew}");
    }
}
