//! Checks the layers of imports, that modules and files have no cycles, and the limits on file length.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod graph;

use graph::{Graph, Module, circles};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the top down; a module imports only from its own layer or a lower one.
const LAYERS: &[&[&str]] = &[
    &["main", "cli"],
    &["server"],
    &["api", "web", "jobs", "demo"],
    &["triage", "chat"],
    &["notify"],
    &["tools"],
    &["app"],
    &["mcp", "knowledge", "events", "auth"],
    &["agent"],
    &["llm", "budget", "db", "prompts", "config", "telemetry", "shutdown", "audit", "metrics", "blocking"],
    &["domain", "evidence", "clock", "overrides"],
];
const MAX_LINES: usize = 500;

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
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

fn graph() -> Graph {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    Graph::read(&root, &found)
}

fn first(module: &Module) -> Option<&str> {
    module.first().map(String::as_str)
}

#[test]
fn imports_go_down_the_layers() {
    let mut wrong = BTreeSet::new();
    for (from, names) in graph().edges() {
        let Some(module) = first(from) else { continue };
        let own = layer(module).unwrap_or_else(|| panic!("{module} is in no layer; add it to LAYERS"));
        for name in names.into_iter().filter_map(first) {
            if layer(name).is_some_and(|layer| layer < own) {
                wrong.insert(format!("{}: {module} imports {name}", from.join("/")));
            }
        }
    }
    assert!(wrong.is_empty(), "imports of a higher layer:\n{wrong:#?}");
}

/// First-level modules have no cycles, in whatever layer.
#[test]
fn modules_form_no_circle() {
    let graph = graph();
    let edges = graph.edges();
    let pairs = edges.iter().flat_map(|(from, names)| names.iter().map(move |to| (first(from), first(to))));
    let pairs: BTreeSet<(&str, &str)> =
        pairs.filter_map(|(from, to)| Some((from?, to?))).filter(|(from, to)| from != to).collect();
    assert!(pairs.len() > 50, "the imports are found: {}", pairs.len());
    let found = circles(pairs.iter().copied());
    let within =
        |pair: &&(&str, &str)| found.iter().any(|all| all.contains(&pair.0) && all.contains(&pair.1));
    let imports: Vec<_> = pairs.iter().filter(within).collect();
    assert!(found.is_empty(), "modules that reach themselves: {found:#?} by {imports:#?}");
}

/// Nor do the files of a module, one above the other aside.
#[test]
fn files_of_a_module_form_no_circle() {
    let graph = graph();
    let edges = graph.edges();
    let related = |from: &Module, to: &Module| from.starts_with(to) || to.starts_with(from);
    let pairs = edges.iter().flat_map(|(from, names)| names.iter().map(move |to| (*from, *to)));
    let pairs = pairs.filter(|(from, to)| first(from) == first(to) && !related(from, to));
    let pairs: Vec<(String, String)> = pairs.map(|(from, to)| (from.join("/"), to.join("/"))).collect();
    assert!(pairs.len() > 100, "the imports are found: {}", pairs.len());
    let found = circles(pairs.iter().map(|(from, to)| (from.as_str(), to.as_str())));
    let within = |pair: &&(String, String)| {
        found.iter().any(|all| all.contains(&pair.0.as_str()) && all.contains(&pair.1.as_str()))
    };
    let imports: Vec<_> = pairs.iter().filter(within).collect();
    assert!(found.is_empty(), "files that reach themselves: {found:#?} by {imports:#?}");
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
