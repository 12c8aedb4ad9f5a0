//! Holds the ladder of imports and the limits on file length.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down; a module imports only from its own rung or a lower one.
const LADDER: &[&[&str]] = &[
    &["main", "cli"],
    &["http", "web", "jobs", "demo"],
    &["triage", "chat"],
    &["notify"],
    &["tools"],
    &["app"],
    &["mcp", "knowledge", "live", "auth"],
    &["agent"],
    &["llm", "budget", "db", "prompts", "config", "telemetry", "shutdown", "journal", "metrics", "blocking"],
    &["domain", "evidence", "clock", "mounted"],
];
const MAX_LINES: usize = 500;

fn rung(module: &str) -> Option<usize> {
    LADDER.iter().position(|rung| rung.contains(&module))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let module = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
        first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
    };
    found.into_iter().map(|path| (module(&path), path)).collect()
}

#[test]
fn imports_go_down_the_ladder() {
    let mut wrong = Vec::new();
    for (module, path) in all_sources().into_iter().filter(|(module, _)| module != "lib") {
        let own = rung(&module).unwrap_or_else(|| panic!("{module} stands on no rung; add it to the ladder"));
        for (number, line) in (1..).zip(fs::read_to_string(&path).unwrap().lines()) {
            let code = line.split("//").next().unwrap();
            for import in code.split("crate::").skip(1) {
                let names = import.trim_start_matches('{');
                let group = import.starts_with('{').then(|| names.split('}').next().unwrap());
                let imported: Vec<&str> =
                    group.map_or_else(|| vec![names], |group| group.split(", ").collect());
                for name in imported {
                    let name: String =
                        name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if rung(&name).is_some_and(|rung| rung < own) {
                        wrong.push(format!("{}:{number}: {module} imports {name}", path.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that go up the ladder:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut wrong = Vec::new();
    for (_, path) in all_sources() {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        let is_test = path.to_string_lossy().ends_with("tests.rs");
        if lines > MAX_LINES && !is_test {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: does not begin with what it is for", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The page of threats names a test for each control: one that is gone holds nothing.
#[test]
fn every_threat_has_a_test_that_holds_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("src/THREATS.md")).unwrap();
    let mut found = Vec::new();
    sources(&root.join("src"), &mut found);
    sources(&root.join("tests"), &mut found);
    let code: String = found.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let table = page.split("| threat | control | test |").nth(1).unwrap().split("\n\n").next().unwrap();
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert!(rows.len() > 20, "the table of threats is where it was: {}", rows.len());
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit('|').next().unwrap();
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test holds this: {row}");
        for name in names {
            assert!(code.contains(&format!("fn {name}(")), "there is no test `{name}`: {row}");
        }
    }
}
