//! Reads files as documents: Markdown with or without front matter, AsciiDoc, plain text, Prometheus alert rules. `corpus`
//! provides the files.

mod alerts;
mod asciidoc;

use crate::evidence::redact::Redactor;
use crate::evidence::runbook;
use crate::evidence::signature::{Signature, SignatureSet};
use anyhow::{Context as _, bail, ensure};

/// Maximum size of a file in bytes.
pub const MAX_FILE: usize = 4 << 20;

/// Format of a document's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Markdown with headings, lists and fences.
    Markdown,
    /// Plain paragraphs.
    Text,
}

/// A document with secrets removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Path within the source. A file with alert rules gives one document per alert: `file#Alert`.
    pub path: String,
    /// Title.
    pub title: String,
    /// `runbook`, `k8s_doc`, `alert` or `note`.
    pub kind: String,
    /// Names of the systems it applies to, in lower case.
    pub applies_to: Vec<String>,
    /// Name of the failure class.
    pub class: Option<&'static str>,
    /// Signatures of its failures in log lines.
    pub signatures: Vec<Signature>,
    /// The text without front matter.
    pub body: String,
    /// Its layout.
    pub layout: Layout,
}

/// File format by extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.md`, `.markdown`
    Markdown,
    /// `.adoc`, `.asciidoc`, `.asc`
    AsciiDoc,
    /// `.txt`, `.text`
    Text,
    /// `.yaml`, `.yml`
    AlertRules,
}

impl Format {
    /// Returns the format by extension, or `None` for an unsupported file.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let (_, extension) = path.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "md" | "markdown" => Some(Self::Markdown),
            "adoc" | "asciidoc" | "asc" => Some(Self::AsciiDoc),
            "txt" | "text" => Some(Self::Text),
            "yaml" | "yml" => Some(Self::AlertRules),
            _ => None,
        }
    }
}

/// Reads the documents of a file. Only alert rules give more than one.
///
/// # Errors
/// The format is unknown, the file is not UTF-8, empty or too large, or its front matter, a signature or its YAML is invalid.
pub fn documents(path: &str, bytes: &[u8]) -> anyhow::Result<Vec<Document>> {
    let Some(format) = Format::of(path) else {
        bail!("it is neither Markdown (.md), AsciiDoc (.adoc), text (.txt) nor alert rules (.yaml)");
    };
    ensure!(bytes.len() <= MAX_FILE, "it is larger than {} MiB", MAX_FILE >> 20);
    let text = std::str::from_utf8(bytes).context("it is not UTF-8 text")?;
    ensure!(!text.contains('\0'), "it holds binary data");
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    ensure!(!text.trim().is_empty(), "it is empty");
    let found = match format {
        Format::Markdown => vec![markdown(path, &text)?],
        Format::AsciiDoc => {
            let (title, body) = asciidoc::to_markdown(&text);
            vec![note(path, title, body, Layout::Markdown)]
        }
        Format::Text => vec![note(path, None, text, Layout::Text)],
        Format::AlertRules => alerts::documents(path, &text)?,
    };
    let mut redactor = Redactor::new();
    let mut clean = |text: &str| redactor.redact(text);
    Ok(found
        .into_iter()
        .map(|document| Document {
            path: clean(&document.path),
            title: clean(&document.title),
            applies_to: document.applies_to.iter().map(|name| clean(name)).collect(),
            signatures: document
                .signatures
                .into_iter()
                .map(|signature| signature.redacted(&mut clean))
                .collect(),
            body: clean(&document.body),
            ..document
        })
        .collect())
}

fn markdown(path: &str, text: &str) -> anyhow::Result<Document> {
    if !text.starts_with("---\n") {
        let title = heading(text);
        return Ok(note(path, title, text.trim().to_owned(), Layout::Markdown));
    }
    let mut runbook = runbook::parse(text)?;
    for signature in &mut runbook.signatures {
        path.clone_into(&mut signature.runbook);
    }
    SignatureSet::compile(runbook.signatures.clone())
        .context("a signature's pattern is no regular expression")?;
    Ok(Document {
        path: path.to_owned(),
        title: runbook.title,
        kind: runbook.kind,
        applies_to: runbook.applies_to.iter().map(|name| name.to_lowercase()).collect(),
        class: Some(runbook.class.as_str()),
        signatures: runbook.signatures,
        body: runbook.body,
        layout: Layout::Markdown,
    })
}

/// Creates a document without metadata. Its title is the first heading, or the file name.
fn note(path: &str, title: Option<String>, body: String, layout: Layout) -> Document {
    let title = title.filter(|title| !title.is_empty()).unwrap_or_else(|| name(path));
    Document {
        path: path.to_owned(),
        title,
        kind: "note".to_owned(),
        applies_to: Vec::new(),
        class: None,
        signatures: Vec::new(),
        body,
        layout,
    }
}

/// Returns the first heading of level 1.
fn heading(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("# "))?;
    Some(line.trim_start_matches("# ").trim().to_owned())
}

/// Derives a title from a file name: `ops/disk-full_node.txt` gives `disk full node`.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    stem.replace(['-', '_'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str, text: &str) -> Document {
        let mut found = documents(path, text.as_bytes()).unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    #[test]
    fn what_says_nothing_of_itself_is_a_note() {
        let markdown = one("ops/a.md", "Intro\n\n# Disk is full\n\nDelete images.");
        assert_eq!((markdown.title.as_str(), markdown.kind.as_str()), ("Disk is full", "note"));
        let text = one("ops/disk-full.txt", "Delete images.");
        assert_eq!((text.title.as_str(), text.layout), ("disk full", Layout::Text));
    }

    #[test]
    fn secrets_in_documents_are_replaced() {
        let password = ["hunter2", "hunter2"].concat();
        let document =
            one("a.md", &format!("# Login\n\n    curl -u admin:{password} https://nexus.example.com/\n"));
        assert!(!document.body.contains(&password), "{}", document.body);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let error = |path: &str, bytes: &[u8]| format!("{:#}", documents(path, bytes).unwrap_err());
        assert!(error("a.docx", b"x").contains("neither Markdown"));
        assert!(error("a.md", b"\xff\xfe").contains("not UTF-8"));
        assert!(error("a.txt", b" \n").contains("empty"));
        let signature = "signatures: [{id: x, pattern: '(', title: t, cause: c}]";
        let bad = format!("---\ntitle: t\nclass: code\n{signature}\n---\nbody");
        assert!(error("a.md", bad.as_bytes()).contains("`x` of a.md"), "{}", error("a.md", bad.as_bytes()));
    }
}
