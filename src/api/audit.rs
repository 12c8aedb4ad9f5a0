//! `/api/audit`: the audit log.

use super::fields::time;
use super::problem::Problem;
use super::reports::{bad_query, cut, page_size};
use crate::app::App;
use crate::clock;
use crate::db::audit::{self, Entry, Filter};
use crate::domain::{AuditAction, AuditEvent, AuditOutcome, Caller};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Number of rows that an export reads at a time.
const EXPORTED: i64 = 1_000;

/// How the record is narrowed and paged.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only by them.
    actor: Option<String>,
    /// Only actions that begin like this.
    action: Option<String>,
    /// Only what was done to this id or name.
    object: Option<String>,
    /// Only what came with this request (`x-request-id`), or was done for this report or turn.
    trace: Option<String>,
    /// Only what this run of an agent did.
    run: Option<Uuid>,
    /// Only what has to do with this id: as what it was done to, as trace or as run.
    about: Option<String>,
    /// Only what ended like this.
    #[param(inline, value_type = Option<AuditOutcome>)]
    outcome: Option<String>,
    /// Not before then (RFC 3339).
    #[serde(default, deserialize_with = "time")]
    since: Option<DateTime<Utc>>,
    /// Not after then (RFC 3339).
    #[serde(default, deserialize_with = "time")]
    until: Option<DateTime<Utc>>,
    /// The `next` of the page before.
    before: Option<i64>,
    /// 1 to 200; 50 when left out.
    limit: Option<i64>,
}

impl AuditQuery {
    fn filter(self) -> Filter {
        let Self { actor, action, object, trace, run, about, outcome, since, until, before, .. } = self;
        Filter { actor, action, object, trace, run, about, outcome, since, until, before }
    }
}

/// What was done, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// Rows.
    entries: Vec<Entry>,
    /// `before` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// Records an action on an object in the audit log. If this fails, the action still stands and the failure is logged.
pub(crate) async fn record(app: &App, caller: &Caller, action: AuditAction, kind: &'static str, name: &str) {
    let event = AuditEvent::new(&caller.actor(), action, clock::now()).on(kind, name);
    if let Err(error) = audit::add(&app.pool, &event).await {
        let (actor, action) = (&caller.name, <&str>::from(action));
        tracing::error!(%error, actor, action, kind, name, "what was done cannot be put on record");
    }
}

/// What was done, newest first.
#[utoipa::path(get, operation_id = "list_audit_entries", path = "/api/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = AuditPage), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditPage>, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    let limit = page_size(query.limit)?;
    let mut entries = audit::list(&app.pool, &query.filter(), limit + 1).await?;
    let next = cut(&mut entries, limit, |entry| entry.id);
    Ok(Json(AuditPage { entries, next }))
}

/// Returns whether the client accepts only plain text: generated clients support no other text type.
fn takes_text_alone(headers: &HeaderMap) -> bool {
    let accepted =
        headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    !accepted.is_empty()
        && accepted.split(',').all(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/plain")
}

/// The whole record that fits, newest first, a JSON object a line.
#[utoipa::path(get, operation_id = "export_audit_entries", path = "/api/audit/export", tag = "audit", params(AuditQuery),
    responses((status = 200, description = "The record; as plain text for whoever accepts nothing else",
            content((String = "application/x-ndjson"), (String = "text/plain"))),
        (status = 422, body = Problem)))]
pub async fn export(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    // Reads one page at a time, so that a slow client holds no database connection.
    let pages = futures::stream::try_unfold(Some((app, query.filter())), async |state| {
        let Some((app, filter)) = state else { return Ok::<_, sqlx::Error>(None) };
        let mut entries = audit::list(&app.pool, &filter, EXPORTED + 1).await?;
        let next = cut(&mut entries, EXPORTED, |entry| entry.id);
        let next = next.map(|last| (app, Filter { before: Some(last), ..filter }));
        let mut lines = String::new();
        for entry in &entries {
            lines.push_str(&serde_json::to_string(entry).unwrap_or_default());
            lines.push('\n');
        }
        Ok(Some((Bytes::from(lines), next)))
    });
    let kind = if takes_text_alone(&headers) { "text/plain; charset=utf-8" } else { "application/x-ndjson" };
    let headers =
        [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.jsonl\"")];
    Ok((headers, Body::from_stream(pages)).into_response())
}
