//! `/api/conversations`: what was said about incidents.

use super::problem::Problem;
use super::reports::bad_query;
use super::search::limit;
use crate::app::App;
use crate::knowledge::SaidBefore;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// What is looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// In words.
    q: String,
    /// 1 to 50 conversations; 10 when left out.
    limit: Option<usize>,
}

/// Messages that were found.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessagesFound {
    /// Best first, one per conversation.
    messages: Vec<SaidBefore>,
}

/// Conversations in which something like this was said, each by its best message.
#[utoipa::path(get, path = "/api/conversations/search", tag = "conversations", params(SearchQuery),
    responses((status = 200, body = MessagesFound), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn search(
    State(app): State<Arc<App>>,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Json<MessagesFound>, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    let limit = limit(&query.q, query.limit)?;
    Ok(Json(MessagesFound { messages: app.knowledge.said_before(&query.q, limit).await? }))
}
