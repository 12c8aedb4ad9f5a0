//! Selects texts of search hits for a prompt within a token budget. The best document is included completely if it fits.

use super::{Hit, Knowledge};
use crate::db::{incidents, search_results};
use crate::evidence::tokens;
use uuid::Uuid;

/// Maximum share of the budget for the best document, in percent.
const BEST: usize = 60;

/// A text from a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Title of the document.
    pub title: String,
    /// Path of the document.
    pub path: String,
    /// The complete text or the matching chunk.
    pub text: String,
    /// Whether the incident's outcome is known.
    pub solved: bool,
    /// Number of tokens of the text and its heading.
    pub tokens: usize,
}

impl Passage {
    /// Returns the text under its title and path, as shown to a model.
    #[must_use]
    pub fn titled(&self) -> String {
        format!("{} ({})\n{}", self.title, self.path, self.text)
    }
}

impl Knowledge {
    /// Returns the texts of hits within a token budget, best first: the complete first document if it fits its share,
    /// otherwise the matching chunks. If the database is unavailable, only chunks are returned.
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

    /// Returns the document of an incident as a hit, if the incident belongs to one of these namespaces.
    ///
    /// # Errors
    /// The database is unavailable.
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
