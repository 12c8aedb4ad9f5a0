//! Runbooks and notes with their chunks.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// A document to store.
#[derive(Debug)]
pub struct NewDocument<'a> {
    /// Path within its corpus; identifies it.
    pub path: &'a str,
    /// Title.
    pub title: &'a str,
    /// `runbook`, `k8s_doc`, ….
    pub kind: &'a str,
    /// Hash of the whole file.
    pub content_hash: &'a str,
    /// Heading path and text of each chunk.
    pub chunks: &'a [(String, String)],
}

/// A chunk that a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Path of the document.
    pub path: String,
    /// Title of the document.
    pub title: String,
    /// Heading path of the chunk.
    pub heading: String,
    /// Text of the chunk.
    pub text: String,
    /// Rank of the full-text search.
    pub rank: f32,
}

/// Stores a document with its chunks. `false` when this very content is stored already.
pub async fn put(
    db: &mut PgConnection,
    document: &NewDocument<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let id = sqlx::query_scalar!(
        "insert into documents (id, path, title, kind, content_hash, updated_at) values ($1, $2, $3, $4, $5, $6)
         on conflict (path) do update
         set title = excluded.title, kind = excluded.kind, content_hash = excluded.content_hash, updated_at = excluded.updated_at
         where documents.content_hash <> excluded.content_hash
         returning id",
        Uuid::now_v7(),
        document.path,
        document.title,
        document.kind,
        document.content_hash,
        now
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(id) = id else { return Ok(false) };
    sqlx::query!("delete from chunks where document_id = $1", id).execute(&mut *db).await?;
    let (headings, texts): (Vec<String>, Vec<String>) = document.chunks.iter().cloned().unzip();
    sqlx::query!(
        "insert into chunks (document_id, position, heading, text)
         select $1, position - 1, heading, text
         from unnest($2::text[], $3::text[]) with ordinality as chunk (heading, text, position)",
        id,
        &headings,
        &texts
    )
    .execute(&mut *db)
    .await?;
    Ok(true)
}

/// Chunks that match any word of the query, best first.
pub async fn search(db: impl PgExecutor<'_>, query: &str, limit: i64) -> sqlx::Result<Vec<Hit>> {
    sqlx::query_as!(
        Hit,
        // `plainto_tsquery` wants every word; an error line has many that no runbook has, so any word counts.
        r#"with asked as (
               select replace(plainto_tsquery('english', $1)::text, '&', '|')::tsquery
                      || replace(plainto_tsquery('simple', $1)::text, '&', '|')::tsquery as query)
           select d.path, d.title, c.heading, c.text, ts_rank_cd(c.search, asked.query) as "rank!"
           from asked, chunks c join documents d on d.id = c.document_id
           where c.search @@ asked.query
           order by 5 desc, d.path, c.position limit $2"#,
        query,
        limit
    )
    .fetch_all(db)
    .await
}

/// Number of documents.
pub async fn count(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from documents"#).fetch_one(db).await
}
