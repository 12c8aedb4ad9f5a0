//! Checks files and folders named in the settings: existence and permissions of other users.

use super::finding::Finding;
use crate::config::{Config, EmbedderChoice, process_env};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Required protection of a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    /// Must not be readable by others.
    Secret,
    /// Must not be writable by others.
    Rules,
}

/// Checks all files; returns a single finding when all are in order.
pub(super) fn check(config: &Config, file: Option<&Path>) -> Vec<Finding> {
    let all = paths(config, file);
    let mut findings: Vec<Finding> = all.iter().filter_map(|(path, holds)| look(path, *holds)).collect();
    findings.extend(data_folder(config));
    if findings.is_empty() && all.is_empty() {
        findings.push(Finding::ok("files", "the settings refer to none"));
    } else if findings.is_empty() {
        findings.push(Finding::ok(
            "files",
            format!("all that the settings refer to ({}) are as they should be", all.len()),
        ));
    }
    findings
}

fn paths(config: &Config, file: Option<&Path>) -> BTreeMap<PathBuf, Holds> {
    let mut all = BTreeMap::new();
    let mut add = |path: &Path, holds: Holds| {
        let known = all.entry(path.to_owned()).or_insert(holds);
        *known = holds.min(*known);
    };
    if let Some(text) = file.and_then(|file| std::fs::read_to_string(file).ok()) {
        let table: toml::Table = text.parse().unwrap_or_default();
        references(&toml::Value::Table(table), &mut |path| add(path, Holds::Secret));
    }
    for setting in &config.effective {
        let path = setting.value.as_deref().and_then(|value| value.strip_prefix("file:"));
        path.into_iter().for_each(|path| add(Path::new(path), Holds::Secret));
    }
    let kubernetes = config.auth.kubernetes.as_ref();
    let token = kubernetes.and_then(|kubernetes| kubernetes.token.as_deref());
    token.into_iter().for_each(|path| add(path, Holds::Secret));
    let ca = kubernetes.and_then(|kubernetes| kubernetes.ca.as_deref());
    let named = |key: &str| {
        let setting = config.effective.iter().find(|setting| setting.key == key);
        setting.and_then(|setting| setting.value.clone()).map(PathBuf::from)
    };
    let (policy, corpus) = (named("policy.file"), named("knowledge.corpus"));
    let model = match &config.knowledge.embedder {
        EmbedderChoice::Local(folder) => Some(folder.as_path()),
        _ => None,
    };
    let rules = [file, ca, policy.as_deref(), corpus.as_deref(), model];
    rules.into_iter().flatten().for_each(|path| add(path, Holds::Rules));
    all
}

/// Visits every `file:` reference in a TOML value.
fn references(value: &toml::Value, found: &mut dyn FnMut(&Path)) {
    match value {
        toml::Value::String(text) => {
            text.strip_prefix("file:").into_iter().for_each(|path| found(Path::new(path)));
        }
        toml::Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        toml::Value::Table(table) => table.values().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn look(path: &Path, holds: Holds) -> Option<Finding> {
    let shown = path.display();
    let opened = File::open(path).and_then(|file| file.metadata());
    let mode = match opened {
        Ok(meta) => meta.permissions().mode(),
        Err(error) => {
            let finding = Finding::error("files", format!("{shown} cannot be read: {error}"));
            return Some(finding.advice("mount or make it, and let this user read it"));
        }
    };
    if mode & 0o002 != 0 {
        let finding = Finding::error("files", format!("{shown} can be changed by everybody"));
        return Some(finding.advice(format!("chmod o-w {shown}")));
    }
    if holds == Holds::Secret && mode & 0o004 != 0 {
        let says = format!("{shown} holds a secret and can be read by everybody");
        // In a pod, only this program runs.
        return Some(if process_env("KUBERNETES_SERVICE_HOST").is_some() {
            Finding::note("files", says).advice("set `defaultMode: 0440` and `fsGroup` where it is mounted")
        } else {
            Finding::warning("files", says).advice(format!("chmod o-r {shown}"))
        });
    }
    None
}

/// Checks the data folder of the private PostgreSQL server, if used.
fn data_folder(config: &Config) -> Option<Finding> {
    let folder = Some(&config.database.data_dir).filter(|_| config.database.url.is_none())?;
    let mode = folder.metadata().ok()?.permissions().mode();
    (mode & 0o002 != 0).then(|| {
        let says = format!("the data folder {} can be changed by everybody", folder.display());
        Finding::error("files", says).advice(format!("chmod o-w {}", folder.display()))
    })
}
