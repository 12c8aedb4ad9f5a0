//! A digest of all that is configured: that something changed shows, what it was does not.

use super::reader::SettingsReader;
use crate::domain::hash;
use std::path::Path;

/// Tables of the file that are no settings of the table.
const TABLES: [&str; 3] = ["mcp", "notify", "price"];

/// Settings that name a file or a folder of which what is in it counts.
const FILES: [&str; 4] = ["policy.file", "prompts.folder", "pages.folder", "database.migrations"];

/// Over every setting, the tables as they are written, and the contents of files. Settings that are secrets count as set or
/// not; one that is written in a table is in here as a part of its hash alone.
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

/// A hash of the file, or of each in a folder, by name. What cannot be read is a mistake that others tell.
fn contents(path: &Path) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(path) else {
        return std::fs::read(path).map(hash).into_iter().collect();
    };
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A mounted `ConfigMap` keeps its data in hidden folders whose names change.
        let text = std::fs::read(entry.path()).ok().filter(|_| !name.starts_with('.'))?;
        Some(format!("{}:{}", hash(name), hash(text)))
    };
    let mut files: Vec<String> = folder.filter_map(file).collect();
    files.sort();
    files
}
