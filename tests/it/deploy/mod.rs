//! The files of `docs/deploy`: they parse, name settings, paths and ports that there are, and a node starts by
//! them.

mod unit;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use yaml_rust2::{Yaml, YamlLoader};

const TEMPLATES: [&str; 5] =
    ["configmap.yaml", "pdb.yaml", "service.yaml", "servicemonitor.yaml", "statefulset.yaml"];

/// What another choice makes of the values: the text that stands there, and the one in its place.
type Choice = (&'static str, &'static str);

const MONITORED: Choice =
    ("serviceMonitor:\n  enabled: false\n", "serviceMonitor:\n  enabled: true\n");
const NOT_PERSISTENT: Choice =
    ("  enabled: true\n  # Both hold", "  enabled: false\n  # Both hold");
const OF_A_CLASS: Choice = ("storageClass: \"\"", "storageClass: fast");

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

/// A line with what stands in the place of its expressions.
fn filled(line: &str, values: &Yaml) -> String {
    let (mut text, mut rest) = (String::new(), line);
    while let Some((before, behind)) = rest.split_once("{{") {
        let (expression, behind) = behind.split_once("}}").unwrap();
        text += before;
        text += &evaluated(expression.trim(), values);
        rest = behind;
    }
    text + rest + "\n"
}

/// Whether what stands under this condition is there.
fn holds(condition: &str, values: &Yaml) -> bool {
    let (path, wanted) = match condition.strip_prefix("not ") {
        Some(path) => (path, false),
        None => (condition, true),
    };
    let path = path.strip_prefix(".Values.").unwrap();
    let is_said = !["", "false", "[]"].contains(&text_of(&value(values, path)).as_str());
    is_said == wanted
}

/// A template with these values.
fn rendered(name: &str, values: &Yaml) -> String {
    let template = file(&format!("helm/tenmint/templates/{name}"));
    let mut text = String::new();
    // whether what is in each of the blocks around a line is there
    let mut blocks = Vec::new();
    for line in template.lines() {
        let action = line.trim_start().strip_prefix("{{- ");
        match action.map(|action| action.strip_suffix(" }}").unwrap()) {
            None if blocks.contains(&false) => {}
            None => text += &filled(line, values),
            Some("end") => assert!(blocks.pop().is_some(), "{name}: an end of nothing"),
            Some(action) => match action.strip_prefix("if ") {
                Some(condition) => blocks.push(holds(condition, values)),
                // what it gives is of no interest here
                None => assert!(action.starts_with("toYaml "), "{name}: `{action}` is new"),
            },
        }
    }
    assert!(blocks.is_empty(), "{name}: an `if` without an end");
    text
}

/// All that the chart makes, with its default values but for these.
fn chart_with(choices: &[Choice]) -> Vec<Yaml> {
    let mut text = file("helm/tenmint/values.yaml");
    for (from, to) in choices {
        assert_eq!(text.matches(from).count(), 1, "values.yaml: {from}");
        text = text.replace(from, to);
    }
    let values = YamlLoader::load_from_str(&text).unwrap().remove(0);
    let load = |name: &&str| {
        let text = rendered(name, &values);
        YamlLoader::load_from_str(&text).unwrap_or_else(|cause| panic!("{name}: {cause}\n{text}"))
    };
    TEMPLATES.iter().flat_map(load).collect()
}

fn of_kind_with(kind: &str, choices: &[Choice]) -> Yaml {
    let mut documents = chart_with(choices).into_iter();
    documents.find(|document| document["kind"].as_str() == Some(kind)).unwrap()
}

fn of_kind(kind: &str) -> Yaml {
    of_kind_with(kind, &[])
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
    let chart = chart_with(&[MONITORED]);
    let kinds: Vec<&str> =
        chart.iter().map(|document| document["kind"].as_str().unwrap()).collect();
    let expected =
        ["ConfigMap", "PodDisruptionBudget", "Service", "Service", "ServiceMonitor", "StatefulSet"];
    assert_eq!(kinds, expected);
    assert_eq!(chart_with(&[]).len(), expected.len() - 1, "nobody has to have an operator");
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
    for text in [in_chart, file("systemd/tenmint.toml")] {
        let names = settings_in(&text);
        assert!(names.contains(&"observe.listen".to_owned()), "{names:?}");
        for name in names {
            assert!(page.contains(&format!("\n| `{name}` |")), "`{name}` is no setting");
        }
    }
    let files =
        ["systemd/tenmint.service", "Containerfile", "helm/tenmint/templates/statefulset.yaml"];
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
    let nodes = of_kind("StatefulSet");
    let pod = &nodes["spec"]["template"]["spec"];
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
    let targets = yaml("prometheus/prometheus.yml").remove(0);
    let target = targets["scrape_configs"][0]["static_configs"][0]["targets"][0].clone();
    let told: toml::Table = file("systemd/tenmint.toml").parse().unwrap();
    assert_eq!(told["observe"]["listen"].as_str(), target.as_str());
}

/// The texts of one member of all items of a list, which may be missing.
fn each<'y>(list: &'y Yaml, member: &str) -> Vec<&'y str> {
    let items = list.as_vec().into_iter().flatten();
    items.map(|item| item[member].as_str().unwrap()).collect()
}

/// The item of this name.
fn named<'y>(list: &'y Yaml, name: &str) -> &'y Yaml {
    list.as_vec().unwrap().iter().find(|item| item["name"].as_str() == Some(name)).unwrap()
}

#[test]
fn every_volume_of_a_pod_is_mounted_and_every_mount_is_of_a_volume() {
    for choices in [&[] as &[Choice], &[NOT_PERSISTENT]] {
        let nodes = of_kind_with("StatefulSet", choices);
        let pod = &nodes["spec"]["template"]["spec"];
        let mounted: BTreeSet<&str> = ["containers", "initContainers"]
            .iter()
            .flat_map(|kind| each(&pod[*kind][0]["volumeMounts"], "name"))
            .collect();
        let claims = nodes["spec"]["volumeClaimTemplates"].as_vec().into_iter().flatten();
        let claimed = claims.map(|claim| claim["metadata"]["name"].as_str().unwrap());
        let volumes: Vec<&str> = each(&pod["volumes"], "name").into_iter().chain(claimed).collect();
        assert_eq!(
            volumes.len(),
            mounted.len(),
            "one is there twice, or is not mounted: {volumes:?}"
        );
        assert_eq!(mounted, volumes.into_iter().collect());
    }
}

#[test]
fn the_spool_and_the_journal_of_a_pod_outlive_it() {
    let nodes = of_kind_with("StatefulSet", &[OF_A_CLASS]);
    let claims = nodes["spec"]["volumeClaimTemplates"].as_vec().unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0]["metadata"]["name"].as_str(), Some("data"));
    let claim = &claims[0]["spec"];
    assert_eq!(claim["accessModes"][0].as_str(), Some("ReadWriteOnce"));
    assert_eq!(claim["resources"]["requests"]["storage"].as_str(), Some("2Gi"));
    assert_eq!(claim["storageClassName"].as_str(), Some("fast"));
    let of_default = of_kind("StatefulSet");
    let of_default = &of_default["spec"]["volumeClaimTemplates"][0]["spec"];
    assert!(of_default["storageClassName"].is_badvalue(), "an empty one is none at all");
    let pod = &nodes["spec"]["template"]["spec"];
    assert!(
        !each(&pod["volumes"], "name").contains(&"data"),
        "a volume of the pod hides the claim"
    );
    let container = &pod["containers"][0];
    // the innermost mount is where a path lies
    let volume_of = |path: &str| {
        let mounts = container["volumeMounts"].as_vec().unwrap().iter();
        let around = mounts
            .filter(|mount| Path::new(path).starts_with(mount["mountPath"].as_str().unwrap()));
        let mount = around.max_by_key(|mount| mount["mountPath"].as_str().unwrap().len()).unwrap();
        (mount["name"].as_str().unwrap(), mount["readOnly"].as_bool().unwrap_or(false))
    };
    // the environment stands over the file, so these are the places; the spool is below the first
    for variable in ["TENMINT_DATA_DIR", "TENMINT_REVOCATION_JOURNAL"] {
        let place = named(&container["env"], variable)["value"].as_str().unwrap();
        assert_eq!(volume_of(place), ("data", false), "{variable}");
    }
    let security = &pod["securityContext"];
    assert_eq!(security["fsGroup"], security["runAsGroup"], "else the user could not write there");
    assert!(security["fsGroup"].as_i64().is_some());
}

#[test]
fn without_claims_the_data_of_a_pod_ends_with_it_and_the_values_say_so() {
    let nodes = of_kind_with("StatefulSet", &[NOT_PERSISTENT]);
    assert!(nodes["spec"]["volumeClaimTemplates"].is_badvalue());
    let data = named(&nodes["spec"]["template"]["spec"]["volumes"], "data");
    assert_eq!(data["emptyDir"]["sizeLimit"].as_str(), Some("2Gi"));
    let values = file("helm/tenmint/values.yaml");
    let about = values.split("\npersistence:\n").nth(1).unwrap().split("enabled:").next().unwrap();
    for word in ["`false`", "TenmintSpooling", "journal", "restore"] {
        assert!(about.contains(word), "{word}: {about}");
    }
}

#[test]
fn no_pod_waits_for_another_and_each_has_a_name() {
    let chart = chart_with(&[]);
    let nodes = of_kind("StatefulSet");
    let nodes = &nodes["spec"];
    assert_eq!(nodes["podManagementPolicy"].as_str(), Some("Parallel"));
    assert_eq!(nodes["updateStrategy"]["type"].as_str(), Some("RollingUpdate"));
    let name = nodes["serviceName"].as_str();
    let service = chart.iter().find(|document| {
        document["kind"].as_str() == Some("Service")
            && document["metadata"]["name"].as_str() == name
    });
    let service = &service.unwrap()["spec"];
    assert_eq!(service["clusterIP"].as_str(), Some("None"), "it names pods, and is none itself");
    let labels = &nodes["template"]["metadata"]["labels"];
    assert_eq!(&service["selector"], labels);
    assert_eq!(&nodes["selector"]["matchLabels"], labels);
    assert_eq!(&of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels);
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
