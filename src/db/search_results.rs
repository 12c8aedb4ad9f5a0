//! Details of documents found by a search.

use sqlx::PgExecutor;
use uuid::Uuid;

/// A document with the chunk to show.
#[derive(Debug, Clone)]
pub struct Details {
    /// Document id.
    pub document_id: Uuid,
    /// Source of the document.
    pub source: String,
    /// Path within the source.
    pub path: String,
    /// Title.
    pub title: String,
    /// Document kind.
    pub kind: String,
    /// Components that the document applies to.
    pub applies_to: Vec<String>,
    /// Whether the resolution of the incident is known.
    pub solved: bool,
    /// Incident that the document describes.
    pub incident_id: Option<Uuid>,
    /// Conversation that the document contains.
    pub conversation_id: Option<Uuid>,
    /// Position of the chunk.
    pub position: i32,
    /// Headings above the chunk.
    pub heading: String,
    /// Text of the chunk.
    pub text: String,
}

/// Returns documents with their chunk among `chunks`, or with their first chunk.
pub async fn details(
    db: impl PgExecutor<'_>,
    documents: &[Uuid],
    chunks: &[i64],
) -> sqlx::Result<Vec<Details>> {
    sqlx::query_as!(
        Details,
        r#"select d.id as document_id, d.source, d.path, d.title, d.kind, d.applies_to, d.solved, d.incident_id, d.conversation_id,
                  c.position, c.heading, c.text
           from documents d
           join lateral (
               select position, heading, text from chunks c where c.document_id = d.id
               order by (c.id = any($2)) desc, c.position limit 1
           ) c on true
           where d.id = any($1)"#,
        documents,
        chunks
    )
    .fetch_all(db)
    .await
}

/// Returns the runbooks with these paths.
pub async fn of_paths(
    db: impl PgExecutor<'_>,
    paths: &[String],
    kind: Option<&str>,
    applies_to: Option<&[String]>,
) -> sqlx::Result<Vec<(Uuid, String)>> {
    let rows = sqlx::query!(
        "select id, path from documents
         where realm = 'runbook' and path = any($1) and ($2::text is null or kind = $2) and ($3::text[] is null or applies_to && $3)",
        paths,
        kind,
        applies_to
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.id, row.path)).collect())
}

/// Returns heading and text of all chunks of a document in order.
pub async fn chunks(db: impl PgExecutor<'_>, document: Uuid) -> sqlx::Result<Vec<(String, String)>> {
    let rows =
        sqlx::query!("select heading, text from chunks where document_id = $1 order by position", document);
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.heading, row.text)).collect())
}

/// Returns the document that describes an incident.
pub async fn of_incident(db: impl PgExecutor<'_>, incident: Uuid) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!("select id from documents where incident_id = $1 and realm = 'incident'", incident)
        .fetch_optional(db)
        .await
}
