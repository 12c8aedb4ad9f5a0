//! Ingest: splits and stores new and changed documents, and removes deleted ones, in one transaction, so that a crash leaves
//! the previous state. Vectors follow in the background.

use super::chunk::{Chunk, chunks};
use super::read::Document;
use super::{BUILT_IN_SOURCE, Corpus, Knowledge};
use crate::clock;
use crate::db::documents::{self, NewDocument, Realm};
use crate::db::queue;
use crate::evidence::signature::{Signature, SignatureSet};
use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Source name of documents uploaded over HTTP.
pub const API_SOURCE: &str = "api";
/// Version of splitting and storage. Increment it when either changes.
const LAYOUT: u32 = 1;
/// Time limit for splitting a corpus, including the wait for a thread.
const CUTTING: Duration = Duration::from_hours(1);

/// Result of an ingest.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// Number of new and changed documents.
    pub stored: usize,
    /// Number of unchanged documents.
    pub unchanged: usize,
    /// Number of documents removed because their source no longer has them.
    pub removed: u64,
}

struct Prepared {
    document: Document,
    hash: String,
    chunks: Vec<(String, String)>,
}

impl Knowledge {
    /// Stores a corpus. Calls `progress` for each processed document.
    ///
    /// # Errors
    /// The database is unavailable, or splitting exceeds its time limit.
    pub async fn ingest(
        &self,
        corpus: &Corpus,
        progress: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> anyhow::Result<Ingested> {
        let known: HashMap<String, String> = documents::hashes(&self.pool, &corpus.source)
            .await
            .context("the database is away")?
            .into_iter()
            .collect();
        let limit = self.config.knowledge.chunk_tokens;
        let all = corpus.documents.clone();
        // Splitting thousands of documents takes long, so it runs on the blocking pool.
        let cut = move || prepare(all, &known, limit, &*progress);
        let pool = self.blocking.leaving_one();
        let prepared = pool.run(CUTTING, move |_| cut()).await.context("cutting the documents")?;
        self.store(corpus, prepared).await
    }

    async fn store(&self, corpus: &Corpus, prepared: Vec<Prepared>) -> anyhow::Result<Ingested> {
        let now = clock::now();
        let mut transaction = self.pool.begin().await.context("the database is away")?;
        documents::lock(&mut *transaction).await?;
        let mut ingested = Ingested::default();
        for Prepared { document, hash, chunks } in &prepared {
            let signatures = serde_json::to_value(&document.signatures)?;
            let new = NewDocument {
                realm: Realm::Runbook,
                source: &corpus.source,
                path: &document.path,
                title: &document.title,
                kind: &document.kind,
                applies_to: &document.applies_to,
                class: document.class,
                content_hash: hash,
                signatures: &signatures,
                body: &document.body,
                solved: false,
                incident_id: None,
                conversation_id: None,
                chunks,
            };
            ingested.stored += usize::from(documents::put(&mut transaction, &new, now).await?.is_some());
        }
        ingested.unchanged = corpus.documents.len() - ingested.stored;
        if corpus.whole {
            // A rejected file keeps its stored documents.
            let kept = corpus.documents.iter().map(|document| &document.path);
            let kept: Vec<String> =
                kept.chain(corpus.rejected.iter().map(|(path, _)| path)).cloned().collect();
            ingested.removed = documents::keep_only(&mut *transaction, &corpus.source, &kept).await?;
        }
        if ingested.stored > 0 || ingested.removed > 0 {
            documents::announce(&mut *transaction).await?;
            queue::add_index(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(ingested)
    }

    /// Removes a document of a source.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn remove(&self, source: &str, id: Uuid) -> sqlx::Result<bool> {
        let mut transaction = self.pool.begin().await?;
        documents::lock(&mut *transaction).await?;
        let gone = documents::remove(&mut *transaction, source, id).await?;
        documents::announce(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(gone)
    }

    /// Loads the signatures of all stored runbooks. Signatures read at startup remain until their source is stored.
    ///
    /// # Errors
    /// The database is unavailable, or a stored signature is invalid.
    pub async fn reload(&self) -> anyhow::Result<()> {
        let mut all = Vec::new();
        for (source, path, signatures) in documents::signatures(&self.pool).await? {
            let signatures: Vec<Signature> = serde_json::from_value(signatures)
                .with_context(|| format!("the stored signatures of {path}"))?;
            all.push(DocumentSignatures { source, path, signatures });
        }
        let stored: HashSet<&str> = all.iter().map(|document| document.source.as_str()).collect();
        let waiting: Vec<DocumentSignatures> = self
            .at_start
            .iter()
            .filter(|document| !stored.contains(document.source.as_str()))
            .cloned()
            .collect();
        all.extend(waiting);
        // Skips compilation if nothing changed: most changes concern incidents, which have no signatures.
        if effective(all.clone()) == self.signatures.current().signatures() {
            return Ok(());
        }
        all.iter_mut().for_each(DocumentSignatures::leave_out_bad_ones);
        self.signatures.replace(SignatureSet::compile(effective(all))?);
        Ok(())
    }
}

/// A document's signatures.
#[derive(Debug, Clone)]
pub(super) struct DocumentSignatures {
    source: String,
    path: String,
    signatures: Vec<Signature>,
}

impl DocumentSignatures {
    /// Returns the signatures of a corpus, by document.
    pub(super) fn of(corpus: &Corpus) -> impl Iterator<Item = Self> {
        corpus.documents.iter().map(|document| Self {
            source: corpus.source.clone(),
            path: document.path.clone(),
            signatures: document.signatures.clone(),
        })
    }

    /// Drops invalid signatures, which may have been stored before limits existed, so that the others remain usable.
    fn leave_out_bad_ones(&mut self) {
        self.signatures.retain(|signature| match signature.parsed() {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "a stored signature is left out");
                false
            }
        });
    }
}

/// Returns the effective signatures. Team documents come before built-in ones: the first document of a path and the first
/// signature of an id win.
pub(super) fn effective(mut all: Vec<DocumentSignatures>) -> Vec<Signature> {
    all.sort_by_cached_key(|document| {
        (document.source == BUILT_IN_SOURCE, document.source.clone(), document.path.clone())
    });
    let (mut paths, mut names) = (HashSet::new(), HashSet::new());
    let mut found = Vec::new();
    for document in all {
        if !paths.insert(document.path) {
            continue;
        }
        found.extend(document.signatures.into_iter().filter(|signature| names.insert(signature.id.clone())));
    }
    found
}

/// Splits the documents whose hash is not known.
fn prepare(
    all: Vec<Document>,
    known: &HashMap<String, String>,
    limit: usize,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Vec<Prepared> {
    let mut prepared = Vec::new();
    for document in all {
        let hash = hash(&document, limit);
        if known.get(&document.path) != Some(&hash) {
            let chunks = chunks(&document, limit);
            let chunks = chunks.into_iter().map(|Chunk { heading, text }| (heading, text)).collect();
            progress(&document.path);
            prepared.push(Prepared { document, hash, chunks });
        } else {
            progress(&document.path);
        }
    }
    prepared
}

/// Returns a hash over everything that is stored of a document.
fn hash(document: &Document, limit: usize) -> String {
    let Document { title, kind, applies_to, class, signatures, body, .. } = document;
    let whole = serde_json::json!([LAYOUT, limit, title, kind, applies_to, class, signatures, body]);
    hex::encode(Sha256::digest(whole.to_string().as_bytes()))
}
