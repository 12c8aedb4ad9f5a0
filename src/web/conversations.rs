//! Conversations page: list, full-text search, rename and delete.

use super::error::PageError;
use super::extract::{PageForm, PageQuery, day, some};
use super::forms::{self, Kind, field};
use super::page::PageContext;
use super::value::value;
use crate::api::{self, cut};
use crate::app::App;
use crate::db::agents;
use crate::db::conversations::{self, Filter, Whose};
use crate::domain::{AuthMethod, Caller};
use axum::extract::{Path, State};
use axum::response::{Html, Redirect};
use minijinja::context;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// Number of conversations per page, and maximum number of search hits.
const PAGE: i64 = 50;
const FOUND: usize = 20;

/// Filters of the list.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct ConversationListQuery {
    #[serde(default)]
    q: String,
    #[serde(default)]
    agent: String,
    /// `own` or `others`; all for any other value.
    #[serde(default)]
    whose: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    before: Option<Uuid>,
}

pub(super) async fn list(
    page: PageContext,
    caller: Caller,
    PageQuery(asked): PageQuery<ConversationListQuery>,
) -> Result<Html<String>, PageError> {
    let query = some(&asked.q);
    let said = match query {
        Some(query) => page.app.knowledge.said_before(query, FOUND).await?,
        None => Vec::new(),
    };
    let filter = Filter {
        agent: asked.agent.parse().ok(),
        since: day(&asked.since, false),
        until: day(&asked.until, true),
        before: asked.before,
        text: query,
        whose: match asked.whose.as_str() {
            "own" => Whose::Of(&caller.name),
            "others" => Whose::NotOf(&caller.name),
            _ => Whose::Anybodys,
        },
        ..Filter::default()
    };
    let mut found = conversations::list(&page.app.pool, &filter, PAGE + 1).await?;
    let next = cut(&mut found, PAGE, |conversation| conversation.id);
    let values = context! {
        asked => value(&asked),
        said => value(&said),
        conversations => value(&found),
        agents => value(agents::list(&page.app.pool).await?),
        next => value(next),
        known => caller.way != AuthMethod::Open,
    };
    page.show("/conversations", "conversations.html", values).await
}

pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    PageForm(sent): PageForm,
) -> Result<Redirect, PageError> {
    if field(&sent, "do") == "delete" {
        api::conversations::remove(State(app), caller, Path(id)).await?;
        return Ok(Redirect::to("/conversations"));
    }
    let body = forms::body(&sent, &[("title", Kind::Text)]);
    api::conversations::rename(State(app), caller, Path(id.clone()), Ok(body)).await.map(drop)?;
    Ok(Redirect::to(&format!("/chat/{id}")))
}
