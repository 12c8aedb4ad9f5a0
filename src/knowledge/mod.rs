//! What the team knows: runbooks, notes and alerts, the incidents solved before, and what was said about them.
//! Read (`read`, `corpus`), cut (`chunk`), stored (`ingest`), embedded in the background (`index`), found (`search`), and
//! added to by people (`learn`, `draft`).

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

/// The documents, their embedder and their signatures.
pub struct Knowledge {
    pool: PgPool,
    config: Config,
    http: reqwest::Client,
    embedder: Arc<dyn Embedder>,
    signatures: Signatures,
    /// Those of the built-in runbooks and the configured folder, as they were read.
    at_start: Vec<ingest::DocumentSignatures>,
    answering: search::Cache,
    blocking: BlockingPool,
    /// Of embeddings, which are written down and never refused.
    ledger: Arc<Ledger>,
}

impl Knowledge {
    /// Over a migrated database. The signatures are those of the built-in runbooks and the configured folder until
    /// [`Knowledge::reload`] takes all that are stored.
    ///
    /// # Errors
    /// The configured folder cannot be read, or the local embedding model cannot be loaded.
    pub fn new(config: &Config, pool: PgPool, http: reqwest::Client) -> anyhow::Result<Self> {
        let ledger = Ledger::new(pool.clone(), config.budget.clone(), Shutdown::new());
        let embedder = embed::configured(config, &http, Some(ledger))?;
        Self::with_embedder(config, pool, http, embedder)
    }

    /// With an embedder of the caller's.
    ///
    /// # Errors
    /// The configured folder cannot be read.
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

    /// Does what takes long on the threads of others.
    #[must_use]
    pub fn on(self, blocking: BlockingPool) -> Self {
        Self { blocking, ..self }
    }

    /// The built-in runbooks and the configured folder.
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

    /// What recognises known failures, as of now.
    #[must_use]
    pub fn signatures(&self) -> Arc<SignatureSet> {
        self.signatures.current()
    }
}
