//! Links of the documents lead somewhere: files that are there, and headings in them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use regex::Regex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// All documents for people; not the runbooks, which are read by the product.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut found: Vec<PathBuf> = vec![root.join("src/THREATS.md"), root.join("examples/README.md")];
    for folder in [root.to_owned(), root.join("docs")] {
        let listed = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        found.extend(listed.filter(|path| path.extension().is_some_and(|kind| kind == "md")));
    }
    found
}

/// A document without its blocks and pieces of code, whose brackets are none of ours.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if !fenced && !fence {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    Regex::new("`[^`\n]*`").unwrap().replace_all(&kept, "``").into_owned()
}

/// The anchors that a forge makes of headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if fenced || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\[[^\]\n]*\]\(([^)\s]+)\)").unwrap();
    let (mut dead, mut count) = (Vec::new(), 0);
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for found in link.captures_iter(&prose(&text)) {
            let target = &found[1];
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            let leads = to.exists()
                && (anchor.is_empty()
                    || std::fs::read_to_string(&to).is_ok_and(|text| anchors(&text).contains(anchor)));
            if !leads {
                let from = document.strip_prefix(ROOT).unwrap().display();
                dead.push(format!("{from}: {target}"));
            }
        }
    }
    assert!(count > 100, "only {count} links were found");
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn every_page_of_the_documentation_is_listed() {
    let docs = Path::new(ROOT).join("docs");
    let list = std::fs::read_to_string(docs.join("README.md")).unwrap();
    let pages =
        std::fs::read_dir(&docs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let missing: Vec<String> = pages
        .filter(|page| page.ends_with(".md") && page != "README.md" && !list.contains(&format!("({page})")))
        .collect();
    assert!(missing.is_empty(), "docs/README.md does not list {missing:?}");
}

#[test]
fn the_front_page_stays_short_and_its_picture_small() {
    let size = |path: &str| std::fs::metadata(Path::new(ROOT).join(path)).unwrap().len();
    assert!(size("README.md") <= 6_500, "the README has {} bytes", size("README.md"));
    assert!(
        size("docs/img/incident.png") <= 150_000,
        "the picture has {} bytes",
        size("docs/img/incident.png")
    );
}
