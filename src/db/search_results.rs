//! What a search shows of the documents it found.

use sqlx::PgExecutor;
use uuid::Uuid;

/// A document and the chunk of it that is shown.
#[derive(Debug, Clone)]
pub struct Details {
    /// The document.
    pub document_id: Uuid,
    /// Where it was read from.
    pub source: String,
    /// Path within the source.
    pub path: String,
    /// Title.
    pub title: String,
    /// Kind.
    pub kind: String,
    /// What it applies to.
    pub applies_to: Vec<String>,
    /// Known how it ended.
    pub solved: bool,
    /// The incident it tells of.
    pub incident_id: Option<Uuid>,
    /// The conversation it is.
    pub conversation_id: Option<Uuid>,
    /// The chunk's place.
    pub position: i32,
    /// Headings above the chunk.
    pub heading: String,
    /// The chunk.
    pub text: String,
}

/// Documents with the one of `chunks` that is theirs, else with their first chunk.
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

/// The runbooks of these paths.
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

/// All chunks of a document in their order: heading and text.
pub async fn chunks(db: impl PgExecutor<'_>, document: Uuid) -> sqlx::Result<Vec<(String, String)>> {
    let rows =
        sqlx::query!("select heading, text from chunks where document_id = $1 order by position", document);
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.heading, row.text)).collect())
}

/// The document that tells of an incident.
pub async fn of_incident(db: impl PgExecutor<'_>, incident: Uuid) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!("select id from documents where incident_id = $1 and realm = 'incident'", incident)
        .fetch_optional(db)
        .await
}
