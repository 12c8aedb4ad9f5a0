//! Digest of the configuration: reveals that something changed, but not the values.

use super::reader::SettingsReader;
use crate::domain::hash;
use std::path::Path;

/// Tables of the file that are not part of the settings table.
const TABLES: [&str; 3] = ["mcp", "notify", "price"];

/// Settings that name a file or folder whose contents are included.
const FILES: [&str; 4] = ["policy.file", "prompts.folder", "pages.folder", "database.migrations"];

/// Computes the digest of all settings, the raw tables and the file contents. For secret settings, only whether they
/// are set is included; secrets written in a table are included only in its hash.
pub(super) fn of(r: &SettingsReader<'_>, file: &toml::Table) -> String {
    let mut parts = vec![hash(serde_json::to_string(&r.effective()).unwrap_or_default())];
    for name in TABLES {
        let table = file.get(name).map(ToString::to_string);
        parts.push(format!("{name} {}", hash(table.unwrap_or_default())));
    }
    for key in FILES {
        let found = r.text(key).map(|path| contents(Path::new(&path)));
        parts.push(format!("{key} {}", found.unwrap_or_default().join(" ")));
    }
    hash(parts.join("\n"))
}

/// Hashes a file, or each file of a folder with its name. Skips unreadable files, which are reported elsewhere.
fn contents(path: &Path) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(path) else {
        return std::fs::read(path).map(hash).into_iter().collect();
    };
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A mounted `ConfigMap` stores its data in hidden folders whose names change.
        let text = std::fs::read(entry.path()).ok().filter(|_| !name.starts_with('.'))?;
        Some(format!("{}:{}", hash(name), hash(text)))
    };
    let mut files: Vec<String> = folder.filter_map(file).collect();
    files.sort();
    files
}
