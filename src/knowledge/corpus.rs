//! Where runbooks come from, their signatures, and their way into the database.

use crate::clock;
use crate::db::documents::{self, NewDocument};
use crate::evidence::runbook::{self, Runbook};
use crate::evidence::signature::SignatureSet;
use anyhow::Context as _;
use include_dir::{Dir, include_dir};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use std::path::Path;
use text_splitter::{ChunkConfig, MarkdownSplitter};

static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/docs-corpus");
/// Longest chunk, in characters; about 500 tokens.
const CHUNK_CHARS: usize = 2_000;

/// Runbooks as read, by path.
#[derive(Debug, Default)]
pub struct Corpus {
    files: Vec<(String, String)>,
    runbooks: Vec<(String, Runbook)>,
    /// Files that are not runbooks, with the reason.
    pub rejected: Vec<(String, String)>,
}

/// What an ingest did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Documents that are new or changed.
    pub stored: usize,
    /// Documents that were there already.
    pub unchanged: usize,
}

impl Corpus {
    /// The runbooks that ship with the program.
    #[must_use]
    pub fn built_in() -> Self {
        let mut corpus = Self::default();
        corpus.add_embedded(&BUILT_IN);
        corpus
    }

    fn add_embedded(&mut self, dir: &Dir<'_>) {
        for file in dir.files() {
            let path = file.path().to_string_lossy().into_owned();
            if let Some(text) = file.contents_utf8().filter(|_| path.ends_with(".md")) {
                self.add(path, text.to_owned());
            }
        }
        for dir in dir.dirs() {
            self.add_embedded(dir);
        }
    }

    /// Adds every Markdown file below a folder, or one file. A file of the same relative path replaces a built-in one.
    ///
    /// # Errors
    /// The folder cannot be read. A single bad file is noted in `rejected`.
    pub fn add_path(&mut self, path: &Path) -> anyhow::Result<()> {
        let root = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                let entries =
                    std::fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
                for entry in entries {
                    open.push(entry?.path());
                }
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            match std::fs::read_to_string(&path) {
                Ok(text) => self.add(name, text),
                Err(error) => self.rejected.push((name, error.to_string())),
            }
        }
        Ok(())
    }

    fn add(&mut self, path: String, text: String) {
        match runbook::parse(&text) {
            Ok(runbook) => {
                self.files.retain(|(known, _)| *known != path);
                self.runbooks.retain(|(known, _)| *known != path);
                self.files.push((path.clone(), text));
                self.runbooks.push((path, runbook));
            }
            Err(error) => self.rejected.push((path, format!("{error:#}"))),
        }
    }

    /// Number of runbooks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The signatures of all runbooks, compiled.
    ///
    /// # Errors
    /// A pattern is not a regular expression.
    pub fn signatures(&self) -> anyhow::Result<SignatureSet> {
        let all = self.runbooks.iter().flat_map(|(path, runbook)| {
            runbook.signatures.iter().cloned().map(|mut signature| {
                signature.runbook.clone_from(path);
                signature
            })
        });
        SignatureSet::compile(all.collect())
    }
}

/// Stores a corpus; what is stored already with the same content is left alone. `progress` is told of each document.
///
/// # Errors
/// The database is away.
pub async fn ingest(
    pool: &PgPool,
    corpus: &Corpus,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Ingested> {
    let splitter = MarkdownSplitter::new(ChunkConfig::new(CHUNK_CHARS));
    let mut ingested = Ingested::default();
    for ((path, text), (_, runbook)) in corpus.files.iter().zip(&corpus.runbooks) {
        let hash = hex(&Sha256::digest(text.as_bytes()));
        let chunks: Vec<(String, String)> = splitter
            .chunks(&runbook.body)
            .map(|chunk| (heading(&runbook.title, chunk), chunk.to_owned()))
            .collect();
        let document = NewDocument {
            path,
            title: &runbook.title,
            kind: &runbook.kind,
            content_hash: &hash,
            chunks: &chunks,
        };
        let mut transaction = pool.begin().await.context("the database is away")?;
        let stored = documents::put(&mut transaction, &document, clock::now()).await?;
        transaction.commit().await?;
        if stored {
            ingested.stored += 1
        } else {
            ingested.unchanged += 1
        }
        progress(path);
    }
    Ok(ingested)
}

fn heading(title: &str, chunk: &str) -> String {
    let own =
        chunk.lines().find(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    match own {
        Some(own) if own != title => format!("{title} › {own}"),
        _ => title.to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
