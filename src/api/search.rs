//! `GET /api/search`: runbooks, notes, alerts and past incidents.

use super::problem::{FieldError, Problem};
use super::reports::bad_query;
use crate::app::App;
use crate::db::documents::Realm;
use crate::domain::Caller;
use crate::knowledge::{Query as Search, SearchResults};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Kinds of documents, and of incidents.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes a parameter, which is checked by its description")]
enum HitKind {
    Runbook,
    K8sDoc,
    Alert,
    Note,
    Incident,
}

/// Maximum number of hits.
const MAX_LIMIT: usize = 50;

/// What is looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// In words, or lines of a log.
    #[param(example = "pod stays pending")]
    q: String,
    /// Only of this kind; all when left out.
    #[param(inline, value_type = Option<HitKind>)]
    kind: Option<String>,
    /// Only what applies to one of these, separated by commas: `tekton,kubernetes`. Leaves past incidents out.
    applies_to: Option<String>,
    /// 1 to 50; 10 when left out.
    limit: Option<usize>,
}

/// Documents and past incidents that answer a query, best first, each with the reasons why. Fewer than asked for when no more
/// come near.
#[utoipa::path(get, operation_id = "search_knowledge", path = "/api/search", tag = "knowledge", params(SearchQuery),
    responses((status = 200, body = SearchResults), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn search(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Json<SearchResults>, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    let limit = limit(&query.q, query.limit)?;
    let realms: &[Realm] = match query.kind.as_deref() {
        None if query.applies_to.is_some() => &[Realm::Runbook],
        None => &[Realm::Runbook, Realm::Incident],
        Some("incident") => &[Realm::Incident],
        Some(_) => &[Realm::Runbook],
    };
    let applies_to = query.applies_to.as_ref().map(|names| {
        names
            .split(',')
            .map(|name| name.trim().to_lowercase())
            .filter(|name| !name.is_empty())
            .collect::<Vec<_>>()
    });
    let search = Search {
        text: &query.q,
        realms,
        kind: query.kind.as_deref(),
        applies_to: applies_to.as_deref().filter(|names| !names.is_empty()),
        limit,
        namespaces: caller.namespaces.as_deref(),
    };
    Ok(Json(app.knowledge.search(&search).await?))
}

/// Validates both fields and returns the number of hits.
pub(super) fn limit(text: &str, asked: Option<usize>) -> Result<usize, Problem> {
    if text.trim().is_empty() {
        return Err(wrong("q", "is empty: say what to look for"));
    }
    match asked.unwrap_or(10) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        limit => Err(wrong("limit", format!("has to be 1 to {MAX_LIMIT}, not {limit}"))),
    }
}

fn wrong(field: &str, problem: impl Into<String>) -> Problem {
    Problem::fields(vec![FieldError { field: field.to_owned(), problem: problem.into() }])
}
