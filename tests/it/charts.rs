//! The charts as far as they depend on the code: settings, metrics, and the plain manifests' configuration.

use regreen::config::{SETTINGS, Setting};
use regreen::metrics::metrics;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the chart sets by itself.
const FIXED: [&str; 10] = [
    "server.bind",
    "server.port",
    "server.metrics_bind",
    "database.data_dir",
    "database.programs",
    "policy.file",
    "knowledge.corpus",
    "prompts.folder",
    "pages.folder",
    "database.migrations",
];

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn schema() -> Value {
    serde_json::from_str(&fs::read_to_string(project("charts/regreen/values.schema.json")).unwrap()).unwrap()
}

#[test]
fn the_chart_knows_every_setting() {
    let schema = schema();
    let sections = schema["properties"]["settings"]["properties"].as_object().unwrap();
    let keys = |(section, of): (&String, &Value)| -> Vec<String> {
        of["properties"].as_object().unwrap().keys().map(|key| format!("{section}.{key}")).collect()
    };
    // Old names are taken too.
    let is_old = |key: &String| key == "auth.ways";
    let known: BTreeSet<String> = sections.iter().flat_map(keys).filter(|key| !is_old(key)).collect();
    let settable = SETTINGS.iter().map(|setting| setting.key).filter(|key| !FIXED.contains(key));
    let wanted: BTreeSet<String> = settable.map(str::to_owned).collect();
    let (missing, gone): (Vec<_>, Vec<_>) =
        (wanted.difference(&known).collect(), known.difference(&wanted).collect());
    assert!(
        missing.is_empty() && gone.is_empty(),
        "`settings` of charts/regreen/values.schema.json: add {missing:?}, take out {gone:?}"
    );
}

#[test]
fn chart_and_image_are_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        ("charts/regreen/Chart.yaml", format!("appVersion: {version}")),
        ("Dockerfile", format!("ARG VERSION={version}")),
    ] {
        let text = fs::read_to_string(project(file)).unwrap();
        assert!(text.lines().any(|written| written == line), "{file} has no line `{line}`");
    }
}

/// A setting's default as somebody would write it in values.
fn written(setting: &Setting) -> Value {
    setting.default.parse::<i64>().map_or_else(|_| json!(setting.default), |number| json!(number))
}

#[test]
fn the_chart_takes_every_default() {
    let mut schema = schema();
    let settings = schema["properties"]["settings"].take();
    for setting in
        SETTINGS.iter().filter(|setting| !FIXED.contains(&setting.key) && !setting.default.is_empty())
    {
        let (section, key) = setting.key.split_once('.').unwrap();
        let own = &settings["properties"][section]["properties"][key];
        let validator =
            jsonschema::validator_for(&json!({ "$defs": schema["$defs"], "allOf": [own] })).unwrap();
        assert!(validator.is_valid(&written(setting)), "{}: {} is not {own}", setting.key, setting.default);
    }
}

/// The ConfigMap's files of a plain manifest, with files that are mounted in a cluster in a folder of the test.
fn configured(manifest: &Path, folder: &Path) {
    let text = fs::read_to_string(manifest).unwrap();
    let objects: Vec<Value> = serde_norway::Deserializer::from_str(&text)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .collect();
    let config = objects.iter().find(|object| object["data"].get("regreen.toml").is_some()).unwrap();
    for (name, text) in config["data"].as_object().unwrap() {
        let here = folder.display().to_string();
        let text = text.as_str().unwrap().replace("/etc/regreen/", &format!("{here}/"));
        let text = text.replace("/run/secrets/regreen/", &format!("{here}/"));
        fs::write(folder.join(name), text).unwrap();
    }
    for (name, secret) in [
        ("database-url", "postgres://regreen@postgres/regreen"),
        ("model-api-key", "key"),
        ("webhook-secret", "0123456789abcdef"),
        ("link-secret", "0123456789abcdef"),
        ("slack-url", "https://hooks.example/services/T/B/x"),
    ] {
        fs::write(folder.join(name), secret).unwrap();
    }
}

#[test]
fn the_settings_of_every_values_file_are_good() {
    let is_ours = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("regreen");
    let files = fs::read_dir(project("charts/rendered")).unwrap().map(|entry| entry.unwrap().path());
    let manifests: Vec<PathBuf> = files.filter(is_ours).collect();
    assert!(manifests.len() >= 5, "{manifests:?}");
    for manifest in manifests {
        let folder = tempfile::tempdir().unwrap();
        configured(&manifest, folder.path());
        let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
        command.arg("--config").arg(folder.path().join("regreen.toml")).arg("check-config").env_clear();
        let checked = command.output().unwrap();
        assert!(
            checked.status.success(),
            "{}: {}",
            manifest.display(),
            String::from_utf8_lossy(&checked.stderr)
        );
    }
}

/// With `INSTA_UPDATE=always`, as for snapshots, the file is written anew.
#[test]
#[expect(clippy::disallowed_methods, reason = "the switch of the snapshots")]
fn the_list_of_metrics_is_current() {
    let file = project("tests/charts/metrics.json");
    let known: BTreeMap<&str, &Vec<String>> =
        metrics().known().iter().map(|known| (known.name.as_str(), &known.labels)).collect();
    let lines: Vec<String> =
        known.iter().map(|(name, labels)| format!("  {}: {}", json!(name), json!(labels))).collect();
    let current = format!("{{\n{}\n}}\n", lines.join(",\n"));
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        fs::write(&file, &current).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        current,
        "write it anew: INSTA_UPDATE=always cargo test --test it the_list_of_metrics_is_current"
    );
}
