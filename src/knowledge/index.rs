//! Background indexing: embeds chunks without vectors, builds vector indexes and updates word weights. Runs as one job across
//! all replicas and resumes after an interruption.

use super::Knowledge;
use super::embed::EmbedError;
use crate::clock;
use crate::db::documents::Realm;
use crate::db::embeddings::{self, Missing, Space};
use crate::db::full_text;
use anyhow::{Context as _, bail};
use chrono::TimeDelta;
use pgvector::Vector;

/// Number of vectors from which an index is faster than an exact comparison.
const INDEX_FROM: i64 = 2_000;
/// Maximum number of dimensions that an index supports.
const MAX_DIMENSIONS: usize = 2_000;
/// Time for which the vectors of other models are kept, for replicas with older settings.
const KEEP_OLD: TimeDelta = TimeDelta::days(1);

/// Progress callback: number of chunks done, and of all chunks.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

impl Knowledge {
    /// Embeds all chunks without a vector in the configured space, and maintains indexes and word weights. Returns the number
    /// of stored vectors.
    ///
    /// # Errors
    /// The embedding model is unavailable, refuses the request or has changed its dimensions, or the database is unavailable.
    pub async fn catch_up(&self, progress: Progress<'_>) -> anyhow::Result<u64> {
        // Word weights first, since they need no model.
        for realm in Realm::ALL.iter().copied() {
            full_text::count(&self.pool, realm).await?;
        }
        let mut space =
            embeddings::space(&self.pool, self.embedder.provider(), self.embedder.model()).await?;
        let id = space.as_ref().map_or(0, |space| space.id);
        let all = u64::try_from(embeddings::count_missing(&self.pool, id).await?).unwrap_or(0);
        let (mut done, mut after) = (0, 0);
        let batch = i64::try_from(self.embedder.batch()).unwrap_or(32);
        loop {
            let id = space.as_ref().map_or(0, |space| space.id);
            let missing = embeddings::missing(&self.pool, id, after, batch).await?;
            let Some(last) = missing.last() else { break };
            after = last.id;
            let (known, vectors) = self.embed(space, &missing).await?;
            let ids: Vec<i64> = missing.iter().map(|chunk| chunk.id).collect();
            embeddings::put(&self.pool, known.id, &ids, &vectors).await?;
            space = Some(known);
            done += ids.len() as u64;
            progress(done, all.max(done));
        }
        if let Some(space) = space {
            self.settle(&space).await?;
        }
        Ok(done)
    }

    /// Embeds chunks and checks the dimensions. Creates the space if there is none.
    async fn embed(&self, space: Option<Space>, chunks: &[Missing]) -> anyhow::Result<(Space, Vec<Vector>)> {
        let texts: Vec<String> =
            chunks.iter().map(|chunk| format!("{}\n{}", chunk.heading, chunk.text)).collect();
        let vectors = self.embedder.passages(&texts).await.map_err(|error| match error {
            EmbedError::Away(said) => anyhow::anyhow!("{said}; it is tried again"),
            EmbedError::Wrong(said) => anyhow::anyhow!(said),
        })?;
        let model = self.embedder.model();
        let Some(length) = vectors.iter().map(Vec::len).find(|length| *length > 0) else {
            bail!("the embedding model {model} gave no vector for any of {} texts", texts.len());
        };
        if length > MAX_DIMENSIONS {
            bail!(
                "the embedding model {model} gives {length} numbers per text; at most {MAX_DIMENSIONS} can be indexed: choose a smaller model"
            );
        }
        let space = match space {
            Some(space) => space,
            None => {
                let dimensions = i32::try_from(length).context("a vector's length")?;
                embeddings::open(&self.pool, self.embedder.provider(), model, dimensions, clock::now())
                    .await?
            }
        };
        let expected = usize::try_from(space.dimensions).unwrap_or_default();
        if let Some(other) = vectors.iter().map(Vec::len).find(|length| *length > 0 && *length != expected) {
            bail!(
                "the embedding model {model} gives {other} numbers per text, but its stored vectors have {expected}: it is another model under \
                 the same name. Nothing was stored; give the model another name, or restore the one of before"
            );
        }
        // A text without content gets the zero vector.
        let vectors =
            vectors.into_iter().map(|vector| if vector.is_empty() { vec![0.0; expected] } else { vector });
        Ok((space, vectors.map(Vector::from).collect()))
    }

    async fn settle(&self, space: &Space) -> anyhow::Result<()> {
        for realm in Realm::ALL.iter().copied() {
            if embeddings::ensure_index(&self.pool, space, realm, INDEX_FROM).await? {
                tracing::info!(space = space.id, realm = realm.as_str(), "the index of vectors is built");
            }
        }
        let now = clock::now();
        match space.ready_at {
            None => {
                embeddings::set_ready(&self.pool, space.id, now).await?;
                self.answering.forget();
                tracing::info!(
                    model = space.model,
                    dimensions = space.dimensions,
                    "every chunk has its vector"
                );
            }
            Some(since) if now - since > KEEP_OLD => {
                let gone = embeddings::drop_others(&self.pool, space.id).await?;
                if gone > 0 {
                    tracing::info!(gone, "the vectors of models that are not used any more are removed");
                }
            }
            Some(_) => {}
        }
        Ok(())
    }
}
