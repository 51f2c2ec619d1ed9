//! The files of `docs/deploy`: they parse, and name settings, paths and ports that there are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

const TEMPLATES: [&str; 5] =
    ["configmap.yaml", "deployment.yaml", "pdb.yaml", "service.yaml", "servicemonitor.yaml"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy")
}

/// A file of a deployment.
pub fn file(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

/// The documents of a YAML file.
pub fn yaml(name: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&file(name)).unwrap_or_else(|cause| panic!("{name}: {cause}"))
}

fn settings_page() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    std::fs::read_to_string(page).unwrap()
}

/// The value behind dots in the values of the chart.
fn value(values: &Yaml, path: &str) -> Yaml {
    let found = path.split('.').fold(values.clone(), |value, name| value[name].clone());
    assert!(!found.is_badvalue(), "values.yaml has no `{path}`");
    found
}

fn text_of(value: &Yaml) -> String {
    match value {
        Yaml::String(text) => text.clone(),
        Yaml::Integer(number) => number.to_string(),
        Yaml::Boolean(boolean) => boolean.to_string(),
        Yaml::Array(list) if list.is_empty() => "[]".to_owned(),
        other => panic!("{other:?} stands in a template"),
    }
}

/// What Helm would put in the place of an expression of these templates, which use few.
fn evaluated(expression: &str, values: &Yaml) -> String {
    let mut parts = expression.split('|').map(str::trim);
    let name = parts.next().unwrap();
    let mut text = match name.strip_prefix(".Values.") {
        Some(path) => text_of(&value(values, path)),
        None if name == ".Release.Name" => "demo".to_owned(),
        None if name == "include (print $.Template.BasePath \"/configmap.yaml\") ." => {
            "it".to_owned()
        }
        None => panic!("`{name}` is new: teach the test what Helm does with it"),
    };
    for filter in parts {
        match filter {
            "toJson" if text != "[]" => text = format!("{text:?}"),
            "default .Chart.AppVersion" if text.is_empty() => "0.1.0".clone_into(&mut text),
            "toJson" | "sha256sum" | "default .Chart.AppVersion" => {}
            filter => panic!("`{filter}` is new: teach the test what Helm does with it"),
        }
    }
    text
}

/// A template with the default values. What is optional is there.
fn rendered(name: &str, values: &Yaml) -> String {
    let template = file(&format!("helm/tenmint/templates/{name}"));
    let mut text = String::new();
    for line in template.lines().filter(|line| !line.trim_start().starts_with("{{-")) {
        let mut rest = line;
        while let Some((before, behind)) = rest.split_once("{{") {
            let (expression, behind) = behind.split_once("}}").unwrap();
            text += before;
            text += &evaluated(expression.trim(), values);
            rest = behind;
        }
        text += rest;
        text += "\n";
    }
    text
}

/// All that the chart makes, with its default values.
fn chart() -> Vec<Yaml> {
    let values = yaml("helm/tenmint/values.yaml").remove(0);
    let load = |name: &&str| {
        let text = rendered(name, &values);
        YamlLoader::load_from_str(&text).unwrap_or_else(|cause| panic!("{name}: {cause}\n{text}"))
    };
    TEMPLATES.iter().flat_map(load).collect()
}

fn of_kind(kind: &str) -> Yaml {
    chart().into_iter().find(|document| document["kind"].as_str() == Some(kind)).unwrap()
}

/// The dotted names of all settings of a `tenmint.toml`.
fn settings_in(text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().unwrap_or_else(|cause| panic!("{cause}\n{text}"));
    let mut names = Vec::new();
    for (name, value) in &table {
        match value.as_table() {
            Some(inner) => names.extend(inner.keys().map(|inner| format!("{name}.{inner}"))),
            None => names.push(name.clone()),
        }
    }
    names
}

#[test]
fn every_yaml_file_of_a_deployment_parses_and_every_template_is_known() {
    for name in ["prometheus/alerts.yml", "prometheus/prometheus.yml", "helm/tenmint/Chart.yaml"] {
        assert_eq!(yaml(name).len(), 1, "{name}");
    }
    let kinds: Vec<String> =
        chart().iter().map(|document| document["kind"].as_str().unwrap().to_owned()).collect();
    let expected =
        ["ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "Service", "ServiceMonitor"];
    assert_eq!(kinds, expected);
    let found = std::fs::read_dir(root().join("helm/tenmint/templates")).unwrap();
    let found: BTreeSet<String> =
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, TEMPLATES.map(str::to_owned).into());
    let version = Some(env!("CARGO_PKG_VERSION"));
    assert_eq!(yaml("helm/tenmint/Chart.yaml")[0]["appVersion"].as_str(), version);
}

#[test]
fn every_value_of_the_chart_is_used() {
    fn names(value: &Yaml, path: &str, all: &mut Vec<String>) {
        match value.as_hash() {
            Some(inner) if path != "resources" => {
                for (name, value) in inner {
                    let dot = if path.is_empty() { "" } else { "." };
                    names(value, &format!("{path}{dot}{}", name.as_str().unwrap()), all);
                }
            }
            _ => all.push(path.to_owned()),
        }
    }
    let mut all = Vec::new();
    names(&yaml("helm/tenmint/values.yaml")[0], "", &mut all);
    let templates: String =
        TEMPLATES.iter().map(|name| file(&format!("helm/tenmint/templates/{name}"))).collect();
    assert!(all.len() > 10);
    for name in all {
        assert!(templates.contains(&format!(".Values.{name} ")), "`{name}` is not used");
    }
}

#[test]
fn every_setting_of_a_deployment_is_one_of_the_page() {
    let page = settings_page();
    let in_chart = of_kind("ConfigMap")["data"]["tenmint.toml"].as_str().unwrap().to_owned();
    let names = settings_in(&in_chart);
    assert!(names.contains(&"observe.listen".to_owned()), "{names:?}");
    for name in names {
        assert!(page.contains(&format!("\n| `{name}` |")), "`{name}` is no setting");
    }
    let files =
        ["systemd/tenmint.service", "Containerfile", "helm/tenmint/templates/deployment.yaml"];
    let mut variables = 0;
    for name in files {
        let text = file(name);
        for rest in text.split("TENMINT_").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap();
            let variable = format!("`TENMINT_{}`", &rest[..end]);
            assert!(page.contains(&variable), "{name}: {variable} is no variable");
            variables += 1;
        }
    }
    assert!(variables >= 9, "the search finds no variables any more");
}

#[test]
fn the_program_takes_the_configuration_of_the_chart() {
    let home = crate::cli::Home::new();
    let text = of_kind("ConfigMap")["data"]["tenmint.toml"].as_str().unwrap().to_owned();
    let text = text.replace("/run/secrets/database/url", "database-url");
    std::fs::write(home.path().join("chart.toml"), text).unwrap();
    let url = format!("sqlite:{}", home.path().join("made.db").display());
    std::fs::write(home.path().join("database-url"), url).unwrap();
    let output = home.run(&["doctor", "--offline", "--config", "chart.toml"]);
    let said = crate::cli::stdout(&output) + &crate::cli::stderr(&output);
    assert!(said.contains("tenmint init"), "it was read, and there is no installation: {said}");
}

#[test]
fn probes_ask_for_health_where_it_is_told_and_ports_belong_together() {
    let deployment = of_kind("Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let ports: Vec<(&str, i64)> = container["ports"]
        .as_vec()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_i64().unwrap()))
        .collect();
    assert_eq!(ports, [("http", 8080), ("observe", 9464)]);
    let config = of_kind("ConfigMap")["data"]["tenmint.toml"].as_str().unwrap().to_owned();
    assert!(config.contains("listen = \"0.0.0.0:8080\"") && config.contains(":9464\""));
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        let get = &container[probe]["httpGet"];
        assert_eq!((get["path"].as_str(), get["port"].as_str()), (Some(path), Some("observe")));
    }
    for container in [container, &pod["initContainers"][0]] {
        let security = &container["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"].as_bool(), Some(true));
        assert_eq!(security["allowPrivilegeEscalation"].as_bool(), Some(false));
        assert_eq!(security["capabilities"]["drop"][0].as_str(), Some("ALL"));
    }
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    let mounted: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|kind| pod[*kind][0]["volumeMounts"].as_vec().unwrap())
        .map(|mount| mount["name"].as_str().unwrap())
        .collect();
    let volumes = pod["volumes"].as_vec().unwrap().iter();
    assert_eq!(mounted, volumes.map(|volume| volume["name"].as_str().unwrap()).collect());
    let targets = yaml("prometheus/prometheus.yml").remove(0);
    let target = targets["scrape_configs"][0]["static_configs"][0]["targets"][0].clone();
    assert!(file("systemd/tenmint.service").contains(target.as_str().unwrap()));
}

#[test]
fn the_image_runs_as_nobody_and_comes_from_no_named_registry() {
    let text = file("Containerfile");
    let bases: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(bases.len(), 2);
    for base in bases {
        assert!(!base.split(':').next().unwrap().contains(['/', '.']), "{base}");
    }
    let last_stage = text.rsplit("FROM ").next().unwrap();
    assert!(last_stage.contains("\nUSER 65532:65532\n"));
    let rust = format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(text.contains(&rust), "the toolchain is older than `rust-version`");
    assert!(last_stage.contains("\nCMD [\"serve\"]\n"));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let unit = file("systemd/tenmint.service");
    for line in [
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "StateDirectory=tenmint tenmint-journal",
        "UMask=0077",
    ] {
        assert!(unit.lines().any(|told| told == line), "{line}");
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tenmint.service");
    // the program has another place here
    std::fs::write(&path, unit.replace("/usr/local/bin/tenmint", env!("CARGO_BIN_EXE_tenmint")))
        .unwrap();
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // units of the machine itself are none of ours
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("tenmint.service")).collect();
    assert!(ours.is_empty(), "{said}");
}
