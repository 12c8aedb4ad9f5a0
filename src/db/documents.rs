//! Documents and their chunks: runbooks, past incidents, conversations.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use strum::{IntoStaticStr, VariantArray};
use uuid::Uuid;

/// Search scope of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Realm {
    /// Runbooks, notes and alerts.
    Runbook,
    /// Past incidents.
    Incident,
    /// Messages of conversations.
    Conversation,
}

impl Realm {
    /// All values.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;

    /// Name in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A document to insert.
#[derive(Debug)]
pub struct NewDocument<'a> {
    /// Search scope.
    pub realm: Realm,
    /// Source; identifies the document together with the path.
    pub source: &'a str,
    /// Path within the source.
    pub path: &'a str,
    /// Title.
    pub title: &'a str,
    /// `runbook`, `k8s_doc`, `alert`, `note`, `incident`, `conversation`.
    pub kind: &'a str,
    /// Components that the document applies to.
    pub applies_to: &'a [String],
    /// Failure class.
    pub class: Option<&'a str>,
    /// Hash of all inputs of the document.
    pub content_hash: &'a str,
    /// Signatures that match its failures.
    pub signatures: &'a serde_json::Value,
    /// Full text.
    pub body: &'a str,
    /// Whether the resolution of the incident is known.
    pub solved: bool,
    /// Incident that the document describes.
    pub incident_id: Option<Uuid>,
    /// Conversation that the document contains.
    pub conversation_id: Option<Uuid>,
    /// Heading path and text of each chunk.
    pub chunks: &'a [(String, String)],
}

/// List entry of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentSummary {
    /// Document id.
    pub id: Uuid,
    /// Source.
    pub source: String,
    /// Path within the source.
    pub path: String,
    /// Title.
    pub title: String,
    /// `runbook`, `k8s_doc`, `alert`, `note`.
    pub kind: String,
    /// Components that the document applies to.
    pub applies_to: Vec<String>,
    /// Number of chunks.
    pub chunks: i64,
    /// Time of the last update.
    pub updated_at: DateTime<Utc>,
}

/// Serialises ingests until the transaction ends, so that concurrent ones cannot delete each other's documents.
pub async fn lock(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('regreen ingest'))").execute(db).await?;
    Ok(())
}

/// Returns paths and content hashes of the documents of a source.
pub async fn hashes(db: impl PgExecutor<'_>, source: &str) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!("select path, content_hash from documents where source = $1", source);
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.path, row.content_hash)).collect())
}

/// Inserts or replaces a document with its chunks. Returns `None` when the same content is stored already.
pub async fn put(
    db: &mut PgConnection,
    document: &NewDocument<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Uuid>> {
    let id = sqlx::query_scalar!(
        "insert into documents (id, realm, source, path, title, kind, applies_to, class, content_hash, signatures, body,
                                solved, incident_id, conversation_id, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         on conflict (source, path) do update
         set title = excluded.title, kind = excluded.kind, applies_to = excluded.applies_to, class = excluded.class,
             content_hash = excluded.content_hash, signatures = excluded.signatures, body = excluded.body,
             solved = excluded.solved, updated_at = excluded.updated_at
         where documents.content_hash <> excluded.content_hash
         returning id",
        Uuid::now_v7(),
        document.realm.as_str(),
        document.source,
        document.path,
        document.title,
        document.kind,
        document.applies_to,
        document.class,
        document.content_hash,
        document.signatures,
        document.body,
        document.solved,
        document.incident_id,
        document.conversation_id,
        now
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(id) = id else { return Ok(None) };
    sqlx::query!("delete from chunks where document_id = $1", id).execute(&mut *db).await?;
    add_chunks(db, id, 0, document.chunks).await?;
    Ok(Some(id))
}

/// Returns a document that grows, inserted without chunks if missing.
pub async fn open(
    db: &mut PgConnection,
    document: &NewDocument<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<Uuid> {
    sqlx::query_scalar!(
        "insert into documents (id, realm, source, path, title, kind, content_hash, body, incident_id, conversation_id, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         on conflict (source, path) do update set title = excluded.title, updated_at = excluded.updated_at
         returning id",
        Uuid::now_v7(),
        document.realm.as_str(),
        document.source,
        document.path,
        document.title,
        document.kind,
        document.content_hash,
        document.body,
        document.incident_id,
        document.conversation_id,
        now
    )
    .fetch_one(db)
    .await
}

/// Appends chunks to a document, starting at `position`.
pub async fn add_chunks(
    db: &mut PgConnection,
    document: Uuid,
    position: i32,
    chunks: &[(String, String)],
) -> sqlx::Result<()> {
    let (headings, texts): (Vec<String>, Vec<String>) = chunks.iter().cloned().unzip();
    sqlx::query!(
        "insert into chunks (document_id, realm, kind, applies_to, position, heading, text)
         select d.id, d.realm, d.kind, d.applies_to, $2::integer + chunk.nth::integer - 1, chunk.heading, chunk.text
         from documents d, unnest($3::text[], $4::text[]) with ordinality as chunk (heading, text, nth)
         where d.id = $1",
        document,
        position,
        &headings,
        &texts
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes documents of a source that are not among the paths. Returns their number.
pub async fn keep_only(db: impl PgExecutor<'_>, source: &str, paths: &[String]) -> sqlx::Result<u64> {
    let gone = sqlx::query!("delete from documents where source = $1 and path <> all($2)", source, paths);
    Ok(gone.execute(db).await?.rows_affected())
}

/// Returns source, path and signatures of all runbooks with signatures.
pub async fn signatures(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<(String, String, serde_json::Value)>> {
    let rows = sqlx::query!(
        "select source, path, signatures from documents where realm = 'runbook' and signatures <> '[]'"
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.source, row.path, row.signatures)).collect())
}

/// Lists runbooks, notes and alerts by path.
pub async fn list(
    db: impl PgExecutor<'_>,
    kind: Option<&str>,
    offset: i64,
    limit: i64,
) -> sqlx::Result<Vec<DocumentSummary>> {
    sqlx::query_as!(
        DocumentSummary,
        r#"select d.id, d.source, d.path, d.title, d.kind, d.applies_to, d.updated_at,
                  (select count(*) from chunks c where c.document_id = d.id) as "chunks!"
           from documents d where d.realm = 'runbook' and ($1::text is null or d.kind = $1)
           order by d.path, d.source offset $2 limit $3"#,
        kind,
        offset,
        limit
    )
    .fetch_all(db)
    .await
}

/// Returns id, path and title of the runbooks with these paths.
pub async fn of_paths(
    db: impl PgExecutor<'_>,
    paths: &[String],
) -> sqlx::Result<Vec<(Uuid, String, String)>> {
    let rows = sqlx::query!(
        "select distinct on (path) id, path, title from documents where realm = 'runbook' and path = any($1) order by path, source",
        paths
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.id, row.path, row.title)).collect())
}

/// Returns a runbook document with its full text.
pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<(DocumentSummary, String)>> {
    let row = sqlx::query!(
        r#"select d.id, d.source, d.path, d.title, d.kind, d.applies_to, d.updated_at, d.body,
                  (select count(*) from chunks c where c.document_id = d.id) as "chunks!"
           from documents d where d.realm = 'runbook' and d.id = $1"#,
        id
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let listed = DocumentSummary {
            id: row.id,
            source: row.source,
            path: row.path,
            title: row.title,
            kind: row.kind,
            applies_to: row.applies_to,
            chunks: row.chunks,
            updated_at: row.updated_at,
        };
        (listed, row.body)
    }))
}

/// Deletes a document of a source. Returns `false` when it does not exist.
pub async fn remove(db: impl PgExecutor<'_>, source: &str, id: Uuid) -> sqlx::Result<bool> {
    let gone = sqlx::query!("delete from documents where source = $1 and id = $2", source, id);
    Ok(gone.execute(db).await?.rows_affected() > 0)
}

/// Deletes the document of a source at a path, if any.
pub async fn forget(db: impl PgExecutor<'_>, source: &str, path: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from documents where source = $1 and path = $2", source, path).execute(db).await?;
    Ok(())
}

/// Notifies all replicas that signatures may have changed, when the transaction commits.
pub async fn announce(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify('regreen_knowledge', '')").execute(db).await?;
    Ok(())
}
