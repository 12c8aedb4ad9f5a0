//! Runbooks: the built-in ones and a folder's, ingested into Postgres and found by full-text search.

mod corpus;

pub use corpus::{Corpus, Ingested, ingest};

use crate::db::documents::{self, Hit};
use sqlx::PgPool;

/// Longest query, in bytes; what is past it adds noise.
const MAX_QUERY: usize = 400;

/// Passages that fit a query, best first.
///
/// # Errors
/// The database is away.
pub async fn search(pool: &PgPool, query: &str, limit: i64) -> sqlx::Result<Vec<Hit>> {
    let mut end = query.len().min(MAX_QUERY);
    while !query.is_char_boundary(end) {
        end -= 1;
    }
    documents::search(pool, &query[..end], limit).await
}
