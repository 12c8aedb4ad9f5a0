//! Hybrid search: signature matches, full-text search and vector search, fused by reciprocal rank (Cormack, Clarke and
//! Büttcher, "Reciprocal Rank Fusion", 2009). Returns at most one hit per document, with reasons, and drops irrelevant
//! documents.

use super::embed::{self, Embedder};
use super::{BUILT_IN_SOURCE, Knowledge};
use crate::db::documents::Realm;
use crate::db::embeddings::{self, Narrow, Near, Space};
use crate::db::full_text;
use crate::db::incidents;
use crate::db::search_results::{self, Details};
use crate::evidence::signature::NAMES_CAUSE;
use pgvector::Vector;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use utoipa::ToSchema;
use uuid::Uuid;

/// Maximum length of a query in bytes. Longer text only adds noise.
const MAX_QUERY: usize = 4_000;
/// Factor by which the limit is raised when hits of other namespaces are filtered out afterwards.
const LOOKED_AT: usize = 8;
/// Time limit for matching signatures against a query, including the wait for a thread.
const RECOGNISING: Duration = Duration::from_secs(10);
/// Maximum number of chunks that each ranking contributes to the fusion.
const CANDIDATES: i64 = 50;
/// Rank constant of reciprocal rank fusion. Reduces the lead of the first ranks.
const RANK_OFFSET: f32 = 15.0;
/// Weights of the full-text ranking and of the vector ranking.
const WORDS: f32 = 1.0;
const VECTORS: f32 = 1.0;
/// Weight of words in other chunks of a document, relative to its best chunk.
const ELSEWHERE: f32 = 0.4;
/// Full-text threshold: weight of the shared words in units of the rarest word, independent of the query length.
const MANY_WORDS: f32 = 2.4;
/// Full-text threshold: product of the weight and the matched share of the query.
const MOST_WORDS: f32 = 0.7;
/// Factor applied to the score of an unsolved incident.
const UNSOLVED: f32 = 0.7;
/// Time for which the active vector space is cached.
const BELIEVED: Duration = Duration::from_secs(15);
/// Off-topic texts. Their similarity to the documents defines the similarity that chance alone reaches.
const OFF_TOPIC: [&str; 8] = [
    "The recipe asks for two eggs, a cup of sugar and a pinch of salt.",
    "Who won the football match on Saturday evening?",
    "The holiday request has to be signed by the head of the department.",
    "A sonnet about the autumn leaves along the river.",
    "Our quarterly marketing budget grew by eight percent.",
    "The train to the airport leaves every twenty minutes.",
    "Please water the plants in the kitchen while I am away.",
    "The museum shows paintings of the seventeenth century.",
];

/// A search query with its filters.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Natural language or log lines.
    pub text: &'a str,
    /// Realms to search.
    pub realms: &'a [Realm],
    /// Restricts the search to documents of this kind.
    pub kind: Option<&'a str>,
    /// Restricts the search to documents that apply to one of these.
    pub applies_to: Option<&'a [String]>,
    /// Maximum number of hits.
    pub limit: usize,
    /// Restricts incidents to these namespaces and excludes all conversations. `None` means no restriction.
    pub namespaces: Option<&'a [String]>,
}

/// Why a document was found.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Reason {
    /// One of its signatures recognises a line of the query.
    Signature {
        /// The signature.
        id: String,
    },
    /// It shares these words with the query, the rarest first.
    Words {
        /// As the full-text search sees them.
        words: Vec<String>,
    },
    /// Its vector lies near the query's.
    Vector {
        /// Cosine of the angle, 1 for the same direction.
        similarity: f32,
    },
}

/// A document that was found, by its best chunk.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Hit {
    /// The document.
    pub document_id: Uuid,
    /// Where it was read from.
    pub source: String,
    /// Path within the source.
    pub path: String,
    /// Title.
    pub title: String,
    /// `runbook`, `k8s_doc`, `alert`, `note`, `incident` or `conversation`.
    pub kind: String,
    /// What it applies to.
    pub applies_to: Vec<String>,
    /// Headings above the chunk.
    pub heading: String,
    /// The chunk.
    pub text: String,
    /// Higher is better; only good for comparing hits of one search.
    pub score: f32,
    /// Why it was found.
    pub reasons: Vec<Reason>,
    /// The incident it tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident_id: Option<Uuid>,
    /// Of an incident: known how it ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub solved: bool,
    /// The conversation it is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<Uuid>,
    /// The chunk's place in its document.
    #[serde(skip)]
    pub position: i32,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct SearchResults {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Why vectors took no part, when they did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_vectors: Option<String>,
}

/// The vector space in use, with its embedder.
struct Answering {
    space: Space,
    embedder: Arc<dyn Embedder>,
    /// Maximum similarity of an off-topic text. Hits at or below it count as chance.
    floor: f32,
}

/// The vector of a query and the space that it belongs to.
struct QueryVector {
    answering: Arc<Answering>,
    vector: Vector,
}

/// The vector space in use and the time of the lookup.
struct Cached {
    since: Instant,
    answering: Option<Arc<Answering>>,
}

/// Cache of the vector space in use.
#[derive(Default)]
pub(super) struct Cache(Mutex<Option<Cached>>);

impl Cache {
    /// Discards the cached value.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn get(&self) -> Option<Option<Arc<Answering>>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|held| held.since.elapsed() < BELIEVED).map(|held| held.answering.clone())
    }

    /// Returns the floor of this space if it is cached, however old it is.
    fn floor(&self, space: i32) -> Option<f32> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answering = held.as_ref()?.answering.as_ref();
        answering.filter(|answering| answering.space.id == space).map(|answering| answering.floor)
    }

    fn set(&self, answering: Option<Arc<Answering>>) {
        let cached = Cached { since: Instant::now(), answering };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cached);
    }
}

/// Words that a document shares with a query, and the best matching chunk.
struct SharedWords {
    weight: f32,
    chunk: i64,
    words: Vec<String>,
}

/// The chunk of a document that is most similar to a query.
#[derive(Clone, Copy)]
struct Nearest {
    similarity: f32,
    chunk: i64,
}

/// A document during the fusion.
#[derive(Default)]
pub(super) struct Candidate {
    score: f32,
    /// Id of the signature that matches a line of the query.
    signature: Option<String>,
    words: Option<SharedWords>,
    near: Option<Nearest>,
}

impl Knowledge {
    /// Returns the documents of a realm that are similar to a text, best first. Logs a failed search and returns no hits.
    pub async fn near(
        &self,
        text: &str,
        realm: Realm,
        limit: usize,
        namespaces: Option<&[String]>,
    ) -> Vec<Hit> {
        let query = Query { text, realms: &[realm], kind: None, applies_to: None, limit, namespaces };
        self.search(&query).await.map(|found| found.hits).unwrap_or_else(|error| {
            tracing::warn!(%error, "the knowledge cannot be searched");
            Vec::new()
        })
    }

    /// Returns the documents that match a query, best first. Searches without vectors when the embedding model is
    /// unavailable.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn search(&self, query: &Query<'_>) -> sqlx::Result<SearchResults> {
        let end = query.text.floor_char_boundary(MAX_QUERY);
        // Hits of other namespaces are filtered out below.
        let limit = query.namespaces.map_or(query.limit, |_| query.limit.saturating_mul(LOOKED_AT));
        let (most, query) = (query.limit, Query { text: query.text[..end].trim(), limit, ..*query });
        if query.text.is_empty() || query.limit == 0 {
            return Ok(SearchResults::default());
        }
        let (vector, without_vectors) = match self.vector(query.text).await? {
            Ok(vector) => (Some(vector), None),
            Err(why) => (None, Some(why)),
        };
        let mut hits = Vec::new();
        for &realm in query.realms {
            hits.extend(self.search_realm(&query, realm, vector.as_ref()).await?);
        }
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.path.cmp(&b.path)));
        if let Some(namespaces) = query.namespaces {
            let ids: Vec<Uuid> = hits.iter().filter_map(|hit| hit.incident_id).collect();
            let own = incidents::of_namespaces(&self.pool, &ids, namespaces).await?;
            hits.retain(|hit| match hit.incident_id {
                Some(id) => own.contains(&id),
                None => hit.conversation_id.is_none(),
            });
        }
        hits.truncate(most);
        Ok(SearchResults { hits, without_vectors })
    }

    async fn search_realm(
        &self,
        query: &Query<'_>,
        realm: Realm,
        vector: Option<&QueryVector>,
    ) -> sqlx::Result<Vec<Hit>> {
        let narrow = Narrow { realm, kind: query.kind, applies_to: query.applies_to };
        let near = async {
            match vector {
                Some(QueryVector { answering, vector }) => {
                    embeddings::nearest(&self.pool, &answering.space, vector, narrow, CANDIDATES).await
                }
                None => Ok(Vec::new()),
            }
        };
        let shared = full_text::search(&self.pool, query.text, narrow, CANDIDATES);
        let (near, shared) = futures::try_join!(near, shared)?;
        let floor = vector.map_or(f32::INFINITY, |vector| vector.answering.floor);
        let mut candidates = fuse(&near, &shared, floor);
        if realm == Realm::Runbook {
            self.recognise(query, &mut candidates).await?;
        }
        // Loads only the best candidates: more than the limit, because a built-in document may still be dropped below.
        let mut ranked: Vec<(Uuid, &Candidate)> =
            candidates.iter().map(|(id, candidate)| (*id, candidate)).collect();
        ranked.sort_by(|a, b| b.1.score.total_cmp(&a.1.score).then(a.0.cmp(&b.0)));
        ranked.truncate(query.limit * 2 + 10);
        // Shows the chunk that shares the words, otherwise the nearest chunk.
        let best = |candidate: &Candidate| {
            let words = candidate.words.as_ref().map(|words| words.chunk);
            words.or(candidate.near.map(|near| near.chunk))
        };
        let chunks: Vec<i64> = ranked.iter().filter_map(|(_, candidate)| best(candidate)).collect();
        let documents: Vec<Uuid> = ranked.iter().map(|(id, _)| *id).collect();
        let details = search_results::details(&self.pool, &documents, &chunks).await?;
        let mut found: Vec<Hit> = details
            .into_iter()
            .filter_map(|details| {
                candidates.remove(&details.document_id).map(|candidate| hit(details, candidate))
            })
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.path.cmp(&b.path)));
        // A team's runbook replaces the built-in runbook with the same path.
        let own: HashSet<String> = found
            .iter()
            .filter(|hit| hit.source != BUILT_IN_SOURCE && realm == Realm::Runbook)
            .map(|hit| hit.path.clone())
            .collect();
        found.retain(|hit| hit.source != BUILT_IN_SOURCE || !own.contains(&hit.path));
        found.truncate(query.limit);
        Ok(found)
    }

    /// Raises the score of runbooks whose signatures match a line of the query. Signatures that name a cause rank above all
    /// other matches, ordered by priority.
    async fn recognise(
        &self,
        query: &Query<'_>,
        candidates: &mut HashMap<Uuid, Candidate>,
    ) -> sqlx::Result<()> {
        let set = self.signatures.current();
        let (own, text) = (Arc::clone(&set), query.text.to_owned());
        let found = self.blocking.run_checked(RECOGNISING, move |deadline| own.scan_within(&text, deadline));
        let found = found.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the signatures of the runbooks were not looked for in a query");
            Vec::new()
        });
        let mut recognised: BTreeMap<String, (i32, String)> = BTreeMap::new();
        for (_, hit) in found {
            let signature = &set.signatures()[hit.index];
            let held = recognised.entry(signature.runbook.clone()).or_insert((i32::MIN, String::new()));
            if signature.priority > held.0 {
                *held = (signature.priority, signature.id.clone());
            }
        }
        if recognised.is_empty() {
            return Ok(());
        }
        let paths: Vec<String> = recognised.keys().cloned().collect();
        for (id, path) in search_results::of_paths(&self.pool, &paths, query.kind, query.applies_to).await? {
            let Some((priority, name)) = recognised.get(&path) else { continue };
            let candidate = candidates.entry(id).or_default();
            #[expect(clippy::cast_precision_loss, reason = "priorities are small")]
            let nearness = (*priority as f32) / 100.0;
            candidate.score +=
                if *priority >= NAMES_CAUSE { 1.0 + nearness } else { nearness / (RANK_OFFSET + 1.0) };
            candidate.signature = Some(name.clone());
        }
        Ok(())
    }

    /// Returns the vector of the query with its space, or the reason why there is none.
    async fn vector(&self, text: &str) -> sqlx::Result<Result<QueryVector, String>> {
        let Some(answering) = self.answering().await? else {
            return Ok(Err("the documents are being embedded".to_owned()));
        };
        let embedded = answering.embedder.queries(&[text.to_owned()]).await;
        Ok(match embedded.map(|mut vectors| vectors.pop().unwrap_or_default()) {
            Ok(vector) if vector.len() == usize::try_from(answering.space.dimensions).unwrap_or(0) => {
                Ok(QueryVector { answering, vector: Vector::from(vector) })
            }
            Ok(vector) if vector.is_empty() => Err("the query has no word to embed".to_owned()),
            Ok(vector) => Err(format!(
                "the embedding model {} gives {} numbers now instead of {}",
                answering.space.model,
                vector.len(),
                answering.space.dimensions
            )),
            Err(error) => {
                tracing::warn!(%error, "searching without vectors");
                Err(error.to_string())
            }
        })
    }

    /// Returns the space of the configured model once it is complete, until then another complete space such as that of the
    /// previous model.
    async fn answering(&self) -> sqlx::Result<Option<Arc<Answering>>> {
        if let Some(known) = self.answering.get() {
            return Ok(known);
        }
        let spaces = embeddings::spaces(&self.pool).await?;
        let own = |space: &&Space| {
            space.provider == self.embedder.provider() && space.model == self.embedder.model()
        };
        let ready = |space: &&Space| space.ready_at.is_some();
        let mut chosen = spaces
            .iter()
            .find(|space| own(space) && ready(space))
            .map(|space| (space.clone(), Arc::clone(&self.embedder)));
        if chosen.is_none() {
            chosen = spaces.iter().filter(ready).find_map(|space| {
                embed::of_space(space, &self.config, &self.http, Arc::clone(&self.ledger))
                    .map(|embedder| (space.clone(), embedder))
            });
        }
        let answering = match chosen {
            None => None,
            Some((space, embedder)) => {
                let floor = match self.answering.floor(space.id) {
                    Some(floor) => floor,
                    None => self.floor(&space, embedder.as_ref()).await?,
                };
                Some(Arc::new(Answering { space, embedder, floor }))
            }
        };
        self.answering.set(answering.clone());
        Ok(answering)
    }

    /// Returns the highest similarity of an off-topic text to any document. It is measured because models differ too much for
    /// a fixed threshold.
    async fn floor(&self, space: &Space, embedder: &dyn Embedder) -> sqlx::Result<f32> {
        let texts: Vec<String> = OFF_TOPIC.iter().map(|text| (*text).to_owned()).collect();
        let Ok(vectors) = embedder.queries(&texts).await else { return Ok(0.0) };
        let narrow = Narrow { realm: Realm::Runbook, kind: None, applies_to: None };
        let mut floor: f32 = 0.0;
        for vector in vectors.into_iter().filter(|vector| !vector.is_empty()) {
            let near = embeddings::nearest(&self.pool, space, &Vector::from(vector), narrow, 1).await?;
            floor = floor.max(near.first().map_or(0.0, |near| near.similarity));
        }
        Ok(floor)
    }
}

/// Fuses the full-text and vector rankings into one entry per document. Drops documents that reach neither threshold.
fn fuse(near: &[Near], shared: &full_text::Found, floor: f32) -> HashMap<Uuid, Candidate> {
    let mut candidates: HashMap<Uuid, Candidate> = HashMap::new();
    let mut weights: HashMap<Uuid, BTreeMap<&str, f32>> = HashMap::new();
    for chunk in &shared.chunks {
        let candidate = candidates.entry(chunk.document).or_default();
        let all = weights.entry(chunk.document).or_default();
        let mut weight = 0.0;
        for (word, value) in chunk.words.iter().zip(&chunk.weights) {
            let known = all.entry(word).or_insert(0.0);
            weight += if candidate.words.is_none() { *value } else { (*value - *known).max(0.0) * ELSEWHERE };
            *known = known.max(*value);
        }
        // Chunks are sorted by descending weight: the first chunk of a document is its best one.
        let first = || SharedWords { weight: 0.0, chunk: chunk.chunk, words: chunk.words.clone() };
        candidate.words.get_or_insert_with(first).weight += weight;
    }
    for found in near {
        let candidate = candidates.entry(found.document).or_default();
        candidate.near.get_or_insert(Nearest { similarity: found.similarity, chunk: found.chunk });
    }
    candidates.retain(|_, candidate| {
        let by_words = candidate.words.as_ref().is_some_and(|SharedWords { weight, .. }| {
            *weight >= MANY_WORDS || weight * weight >= MOST_WORDS * shared.asked
        });
        by_words || candidate.near.is_some_and(|near| near.similarity > floor)
    });
    let mut by_words: Vec<(Uuid, f32)> =
        candidates.iter().filter_map(|(id, c)| c.words.as_ref().map(|words| (*id, words.weight))).collect();
    let mut by_vector: Vec<(Uuid, f32)> =
        candidates.iter().filter_map(|(id, c)| c.near.map(|near| (*id, near.similarity))).collect();
    for (list, counts) in [(&mut by_words, WORDS), (&mut by_vector, VECTORS)] {
        list.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for (rank, (id, _)) in (1_u8..).zip(list.iter().take(usize::from(u8::MAX))) {
            if let Some(candidate) = candidates.get_mut(id) {
                candidate.score += counts / (RANK_OFFSET + f32::from(rank));
            }
        }
    }
    candidates
}

pub(super) fn hit(details: Details, candidate: Candidate) -> Hit {
    let unsolved = details.incident_id.is_some() && details.kind == "incident" && !details.solved;
    let mut reasons = Vec::new();
    if let Some(id) = candidate.signature {
        reasons.push(Reason::Signature { id });
    }
    if let Some(SharedWords { mut words, .. }) = candidate.words {
        words.truncate(8);
        reasons.push(Reason::Words { words });
    }
    if let Some(Nearest { similarity, .. }) = candidate.near {
        reasons.push(Reason::Vector { similarity });
    }
    Hit {
        document_id: details.document_id,
        source: details.source,
        path: details.path,
        title: details.title,
        kind: details.kind,
        applies_to: details.applies_to,
        heading: details.heading,
        text: details.text,
        score: if unsolved { candidate.score * UNSOLVED } else { candidate.score },
        reasons,
        incident_id: details.incident_id,
        solved: details.solved,
        conversation_id: details.conversation_id,
        position: details.position,
    }
}
