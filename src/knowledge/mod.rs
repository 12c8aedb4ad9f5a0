//! The knowledge base: runbooks, notes, alerts, past incidents, resolutions and conversations. Documents are read (`read`,
//! `corpus`), split (`chunk`), stored (`ingest`), embedded in the background (`index`), searched (`search`) and extended by
//! users (`learn`, `draft`).

mod chunk;
mod corpus;
mod draft;
pub mod embed;
mod index;
mod ingest;
mod learn;
mod message_search;
mod passages;
pub mod read;
mod search;

pub use corpus::{BUILT_IN_SOURCE, Corpus};
pub use draft::draft;
pub use index::Progress;
pub use ingest::{API_SOURCE, Ingested};
pub(crate) use learn::resolution_line;
pub use learn::{ConversationRef, Investigated, NewResolution, Reopened};
pub use message_search::MessageHit;
pub use passages::Passage;
pub use search::{Hit, Query, Reason, SearchResults};

use crate::blocking::BlockingPool;
use crate::budget::Ledger;
use crate::config::Config;
use crate::evidence::signature::{SignatureSet, Signatures};
use crate::shutdown::Shutdown;
use embed::Embedder;
use sqlx::PgPool;
use std::sync::Arc;

/// The documents with their embedder and signatures.
pub struct Knowledge {
    pool: PgPool,
    config: Config,
    http: reqwest::Client,
    embedder: Arc<dyn Embedder>,
    signatures: Signatures,
    /// Signatures of the built-in runbooks and the configured folder, as read at startup.
    at_start: Vec<ingest::DocumentSignatures>,
    answering: search::Cache,
    blocking: BlockingPool,
    /// Records the usage of embeddings. Never refuses them.
    ledger: Arc<Ledger>,
}

impl Knowledge {
    /// Opens the knowledge base on a migrated database. Uses the signatures of the built-in runbooks and the configured
    /// folder until [`Knowledge::reload`] loads all stored ones.
    ///
    /// # Errors
    /// The configured folder cannot be read, a signature is invalid, or the local embedding model cannot be loaded.
    pub fn new(config: &Config, pool: PgPool, http: reqwest::Client) -> anyhow::Result<Self> {
        let ledger = Ledger::new(pool.clone(), config.budget.clone(), Shutdown::new());
        let embedder = embed::configured(config, &http, Some(ledger))?;
        Self::with_embedder(config, pool, http, embedder)
    }

    /// Opens the knowledge base with the given embedder.
    ///
    /// # Errors
    /// The configured folder cannot be read, or a signature is invalid.
    pub fn with_embedder(
        config: &Config,
        pool: PgPool,
        http: reqwest::Client,
        embedder: Arc<dyn Embedder>,
    ) -> anyhow::Result<Self> {
        let at_start: Vec<_> =
            Self::corpora(config)?.iter().flat_map(ingest::DocumentSignatures::of).collect();
        let set = SignatureSet::compile(ingest::effective(at_start.clone()))?;
        Ok(Self {
            config: config.clone(),
            http,
            embedder,
            signatures: Signatures::new(set),
            at_start,
            ledger: Ledger::new(pool.clone(), config.budget.clone(), Shutdown::new()),
            pool,
            answering: search::Cache::default(),
            blocking: BlockingPool::default(),
        })
    }

    /// Uses the given pool for long computations.
    #[must_use]
    pub fn on(self, blocking: BlockingPool) -> Self {
        Self { blocking, ..self }
    }

    /// Reads the built-in runbooks and the configured folder.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn corpora(config: &Config) -> anyhow::Result<Vec<Corpus>> {
        use anyhow::Context as _;
        let mut corpora = vec![Corpus::built_in().clone()];
        if let Some(folder) = &config.knowledge.corpus {
            corpora.push(Corpus::of_path(folder).context("`knowledge.corpus`")?);
        }
        Ok(corpora)
    }

    /// Returns the current signatures of known failures.
    #[must_use]
    pub fn signatures(&self) -> Arc<SignatureSet> {
        self.signatures.current()
    }
}
