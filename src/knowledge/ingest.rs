//! Documents into the database: what is new or changed is cut and stored, what is gone is removed, in one transaction, so
//! that a crash leaves the state of before. Vectors follow in the background.

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

/// Source of documents that came over HTTP.
pub const API_SOURCE: &str = "api";
/// Changes with whatever changes how documents are cut or stored.
const LAYOUT: u32 = 1;
/// How long a corpus may be cut, with the wait for a thread.
const CUTTING: Duration = Duration::from_hours(1);

/// What an ingest did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// Documents that are new or changed.
    pub stored: usize,
    /// Documents that were there already.
    pub unchanged: usize,
    /// Documents that are gone from their source.
    pub removed: u64,
}

struct Prepared {
    document: Document,
    hash: String,
    chunks: Vec<(String, String)>,
}

impl Knowledge {
    /// Stores a corpus. `progress` is told of each document that is cut.
    ///
    /// # Errors
    /// The database is away.
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
        // Cutting takes a while for thousands of documents: beside the tasks that answer requests.
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
            // A file that is bad for now keeps what was stored of it.
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
    /// The database is away.
    pub async fn remove(&self, source: &str, id: Uuid) -> sqlx::Result<bool> {
        let mut transaction = self.pool.begin().await?;
        documents::lock(&mut *transaction).await?;
        let gone = documents::remove(&mut *transaction, source, id).await?;
        documents::announce(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(gone)
    }

    /// Takes the signatures of all stored runbooks. What was read at the start counts until its source is stored.
    ///
    /// # Errors
    /// The database is away.
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
        // Most changes are of incidents, which have none: what is compiled stays.
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
    /// Those of a corpus.
    pub(super) fn of(corpus: &Corpus) -> impl Iterator<Item = Self> {
        corpus.documents.iter().map(|document| Self {
            source: corpus.source.clone(),
            path: document.path.clone(),
            signatures: document.signatures.clone(),
        })
    }

    /// One that was stored before there were bounds must not take the others away.
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

/// The signatures that count. The built-in ones come last: a document takes the place of a later one of its path, a
/// signature of a later one of its name.
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

/// Those documents whose hash is not known, cut.
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

/// Of everything that is stored of a document.
fn hash(document: &Document, limit: usize) -> String {
    let Document { title, kind, applies_to, class, signatures, body, .. } = document;
    let whole = serde_json::json!([LAYOUT, limit, title, kind, applies_to, class, signatures, body]);
    hex::encode(Sha256::digest(whole.to_string().as_bytes()))
}
