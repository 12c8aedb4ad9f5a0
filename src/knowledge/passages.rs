//! What of the documents that were found goes into a prompt: within a number of tokens, the best one as a whole if it fits.

use super::{Hit, Knowledge};
use crate::db::{incidents, search_results};
use crate::evidence::tokens;
use uuid::Uuid;

/// Share of the room that the best document may take, in percent.
const BEST: usize = 60;

/// Text of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Title of the document.
    pub title: String,
    /// Path of the document.
    pub path: String,
    /// Its text or the part of it that was found.
    pub text: String,
    /// Of an incident: known how it ended.
    pub solved: bool,
    /// Tokens of the text and its heading.
    pub tokens: usize,
}

impl Passage {
    /// The text under its title and path, as a model reads it.
    #[must_use]
    pub fn titled(&self) -> String {
        format!("{} ({})\n{}", self.title, self.path, self.text)
    }
}

impl Knowledge {
    /// The texts of hits within a number of tokens, best first: the first one's document as a whole when it takes no more
    /// than its share, of the others the chunk that was found. A database that is away leaves the chunks.
    pub async fn passages(&self, hits: &[Hit], budget: usize) -> Vec<Passage> {
        let mut passages = Vec::new();
        let mut left = budget;
        for (rank, hit) in hits.iter().enumerate() {
            let chunk = passage(hit, format!("{}\n{}", hit.heading, hit.text));
            let mut best = None;
            if rank == 0 {
                let whole = search_results::chunks(&self.pool, hit.document_id).await.unwrap_or_default();
                let text = whole.into_iter().map(|(heading, text)| format!("{heading}\n{text}"));
                best = Some(passage(hit, text.collect::<Vec<_>>().join("\n\n")));
            }
            let fits = |passage: &Passage, room: usize| passage.tokens > 0 && passage.tokens <= room;
            let chosen = best.filter(|whole| fits(whole, budget * BEST / 100)).unwrap_or(chunk);
            if !fits(&chosen, left) {
                break;
            }
            left -= chosen.tokens;
            passages.push(chosen);
        }
        passages
    }

    /// The document of an incident as a hit, if it is of one of these namespaces.
    ///
    /// # Errors
    /// The database is away.
    pub async fn incident(&self, incident: Uuid, namespaces: &[String]) -> sqlx::Result<Option<Hit>> {
        if incidents::of_namespaces(&self.pool, &[incident], namespaces).await?.is_empty() {
            return Ok(None);
        }
        let Some(document) = search_results::of_incident(&self.pool, incident).await? else {
            return Ok(None);
        };
        let details = search_results::details(&self.pool, &[document], &[]).await?;
        Ok(details.into_iter().next().map(|details| super::search::hit(details, Default::default())))
    }
}

fn passage(hit: &Hit, text: String) -> Passage {
    Passage {
        title: hit.title.clone(),
        path: hit.path.clone(),
        solved: hit.solved,
        tokens: tokens::count(&text) + tokens::count(&hit.title) + 10,
        text,
    }
}
