//! Runbooks: Markdown with YAML front matter that describes the topic and the failure signatures.

use super::signature::Signature;
use crate::domain::FailureClass;
use anyhow::{Context as _, ensure};
use include_dir::{Dir, include_dir};
use serde::Deserialize;

/// Built-in runbooks.
pub static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/docs-corpus");

/// A parsed runbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runbook {
    /// Title.
    pub title: String,
    /// `runbook`, `k8s_doc` or `alert`.
    pub kind: String,
    /// Technologies it applies to: `kubernetes`, `tekton`, `maven`, …
    pub applies_to: Vec<String>,
    /// Failure class.
    pub class: FailureClass,
    /// Signatures that recognize its failures.
    pub signatures: Vec<Signature>,
    /// Source of its facts.
    pub source: Option<String>,
    /// The Markdown after the front matter.
    pub body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Front {
    title: String,
    #[serde(default = "runbook_kind")]
    kind: String,
    #[serde(default)]
    applies_to: Vec<String>,
    class: FailureClass,
    #[serde(default)]
    signatures: Vec<FrontSignature>,
    #[serde(default)]
    source: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontSignature {
    id: String,
    pattern: String,
    #[serde(default)]
    class: Option<FailureClass>,
    title: String,
    cause: String,
    #[serde(default)]
    next_steps: Vec<String>,
    #[serde(default)]
    priority: i32,
}

fn runbook_kind() -> String {
    "runbook".to_owned()
}

/// Parses a runbook.
///
/// # Errors
/// The front matter is missing, or one of its fields is missing, invalid or unknown.
pub fn parse(text: &str) -> anyhow::Result<Runbook> {
    let rest =
        text.strip_prefix("---\n").context("there is no front matter: the first line has to be `---`")?;
    let (front, body) = rest.split_once("\n---\n").context("the front matter has no closing `---`")?;
    let front: Front = serde_norway::from_str(front).context("the front matter is wrong")?;
    ensure!(!body.trim().is_empty(), "there is no text after the front matter");
    let class = front.class;
    let signatures = front.signatures.into_iter().map(|signature| Signature {
        id: signature.id,
        pattern: signature.pattern,
        class: signature.class.unwrap_or(class),
        title: signature.title,
        cause: signature.cause,
        next_steps: signature.next_steps,
        priority: signature.priority,
        runbook: front.title.clone(),
    });
    Ok(Runbook {
        signatures: signatures.collect(),
        title: front.title,
        kind: front.kind,
        applies_to: front.applies_to,
        class,
        source: front.source,
        body: body.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::signature::SignatureSet;

    #[test]
    fn every_runbook_that_ships_is_read_and_its_signatures_compile() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs-corpus");
        let mut signatures = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let runbook = parse(&std::fs::read_to_string(&path).unwrap());
            signatures
                .extend(runbook.unwrap_or_else(|error| panic!("{}: {error:#}", path.display())).signatures);
        }
        let ids: std::collections::BTreeSet<_> = signatures.iter().map(|signature| &signature.id).collect();
        assert_eq!(ids.len(), signatures.len(), "signature ids are unique");
        assert!(signatures.len() >= 20);
        SignatureSet::compile(signatures).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(parse("# no front").unwrap_err().to_string().contains("first line"));
        let error = format!("{:#}", parse("---\ntitle: x\nclass: code\ntypo: 1\n---\nbody").unwrap_err());
        assert!(error.contains("typo"), "{error}");
    }
}
