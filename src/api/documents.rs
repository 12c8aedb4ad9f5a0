//! `/api/documents`: runbooks, notes and alerts.

use super::audit::record;
use super::fields::{Fields, Shape};
use super::json::FieldFilter;
use super::problem::{FieldError, Problem};
use super::reports::{bad_query, known_id, missing, offset, page_size};
use crate::app::App;
use crate::db;
use crate::db::documents::DocumentSummary;
use crate::domain::{AuditAction, Caller};
use crate::knowledge::{API_SOURCE, BUILT_IN_SOURCE, Corpus, read};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Time limit for reading a document, including the wait for a thread.
const READING: Duration = Duration::from_secs(30);

/// Kinds of documents.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes a parameter, which is checked by its description")]
enum DocumentKind {
    Runbook,
    K8sDoc,
    Alert,
    Note,
}

/// How a list is narrowed and paged.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only of this kind.
    #[param(inline, value_type = Option<DocumentKind>)]
    kind: Option<String>,
    /// Documents to skip.
    offset: Option<i64>,
    /// 1 to 200; 50 when left out.
    limit: Option<i64>,
}

/// A document.
#[derive(Debug, Serialize, ToSchema)]
pub struct Document {
    /// Identifies it.
    id: Uuid,
    /// `built-in`, `api`, or the folder it was read from.
    source: String,
    /// Path within the source.
    path: String,
    /// Title.
    title: String,
    /// `runbook`, `k8s_doc`, `alert` or `note`.
    kind: String,
    /// What it applies to.
    applies_to: Vec<String>,
    /// Pieces it is searched in.
    chunks: i64,
    /// When it was stored.
    updated_at: DateTime<Utc>,
}

/// A document with its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct WholeDocument {
    #[serde(flatten)]
    document: Document,
    /// Its Markdown or text, without front matter.
    text: String,
}

/// Documents in order of their paths.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentPage {
    /// The documents.
    documents: Vec<Document>,
}

/// A document to store.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field to name what is wrong")]
pub struct NewDocument {
    /// Name with an extension that says the format: `.md`, `.adoc`, `.txt`, `.yaml` (alert rules).
    #[schema(example = "team/registry.md")]
    path: String,
    /// The file's text.
    #[schema(example = "# Our registry\n\nPush to quay.example.com with the robot account.")]
    content: String,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentStored {
    /// Documents that are new or changed.
    stored: usize,
    /// Documents that were there already.
    unchanged: usize,
    /// Their paths; alert rules give one document per alert.
    paths: Vec<String>,
}

impl From<DocumentSummary> for Document {
    fn from(listed: DocumentSummary) -> Self {
        let DocumentSummary { id, source, path, title, kind, applies_to, chunks, updated_at } = listed;
        Self { id, source, path, title, kind, applies_to, chunks, updated_at }
    }
}

/// Documents in order of their paths.
#[utoipa::path(get, operation_id = "list_documents", path = "/api/documents", tag = "knowledge", params(ListQuery),
    responses((status = 200, body = DocumentPage), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<DocumentPage>, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    let (offset, limit) = (offset(query.offset)?, page_size(query.limit)?);
    let documents = db::documents::list(&app.pool, query.kind.as_deref(), offset, limit).await?;
    Ok(Json(DocumentPage { documents: documents.into_iter().map(Document::from).collect() }))
}

/// One document with its text.
#[utoipa::path(get, operation_id = "get_document", path = "/api/documents/{id}", tag = "knowledge", params(("id" = Uuid, Path)),
    responses((status = 200, body = WholeDocument), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<WholeDocument>, Problem> {
    let found = db::documents::get(&app.pool, known_id(&id)?).await?;
    let (listed, text) = found.ok_or_else(|| missing("document"))?;
    Ok(Json(WholeDocument { document: listed.into(), text }))
}

/// Store a document, in place of an older one of its path. Found by its words at once, by its meaning a moment later.
#[utoipa::path(post, operation_id = "store_document", path = "/api/documents", tag = "knowledge", request_body = NewDocument,
    responses(
        (status = 200, description = "Stored already, with this very content", body = DocumentStored),
        (status = 201, description = "Stored", body = DocumentStored),
        (status = 400, description = "Malformed JSON", body = Problem),
        (status = 413, description = "Body too large", body = Problem),
        (status = 422, description = "A field or the document is wrong", body = Problem),
        (status = 503, description = "The database is away", body = Problem)))]
pub async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let mut fields = Fields::of_body(&app, body, FieldFilter::Of(&["path", "content"])).await?;
    let path = fields.required("path", Shape::Line(500));
    let content = fields.required("content", Shape::Text);
    fields.finish()?;
    let wrong = |problem: String| Problem::fields(vec![FieldError { field: "content".to_owned(), problem }]);
    let name = path.clone();
    let read = app.blocking.run(READING, move |_| read::documents(&name, content.as_bytes()));
    let documents = read
        .await
        .map_err(|error| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the document was not read: {error}; send it again"),
            )
        })?
        .map_err(|error| wrong(format!("cannot be taken: {error:#}")))?;
    let corpus = Corpus { source: API_SOURCE.to_owned(), documents, ..Corpus::default() };
    let done = app.knowledge.ingest(&corpus, Arc::new(|_: &str| {})).await.map_err(away)?;
    if done.stored > 0 {
        record(&app, &caller, AuditAction::DocumentStore, "document", &path).await;
    }
    let status = if done.stored > 0 { StatusCode::CREATED } else { StatusCode::OK };
    let paths = corpus.documents.into_iter().map(|document| document.path).collect();
    let answer = DocumentStored { stored: done.stored, unchanged: done.unchanged, paths };
    Ok((status, Json(answer)).into_response())
}

/// Remove a document. A built-in one cannot be removed, only be replaced by one of the same path; one of a folder that is
/// read again comes back with it.
#[utoipa::path(delete, operation_id = "remove_document", path = "/api/documents/{id}", tag = "knowledge", params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, body = Problem),
        (status = 409, description = "It ships with the program", body = Problem),
        (status = 503, body = Problem)))]
pub async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = known_id(&id)?;
    let (listed, _) = db::documents::get(&app.pool, id).await?.ok_or_else(|| missing("document"))?;
    if listed.source == BUILT_IN_SOURCE {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!(
                "it ships with the program; store a document with the path `{}` to replace it",
                listed.path
            ),
        ));
    }
    app.knowledge.remove(&listed.source, id).await?;
    record(&app, &caller, AuditAction::DocumentDelete, "document", &listed.path).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Maps the error of a failed ingest to a problem.
fn away(error: anyhow::Error) -> Problem {
    match error.downcast::<sqlx::Error>() {
        Ok(error) => error.into(),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the document cannot be stored");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "an internal error; the request id leads to it in the log",
            )
        }
    }
}
