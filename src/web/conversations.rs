//! Conversations: the list, the search through what was said, a new title, the end.

use super::asked::{Asked, Posted};
use super::forms::{self, Kind, field};
use super::incidents::some;
use super::page::{self, Trouble, value};
use crate::app::App;
use crate::db::agents;
use crate::db::conversations::{self, Filter};
use crate::domain::Conversation;
use crate::http::{self, cut};
use axum::extract::{Path, State};
use axum::response::{Html, Redirect};
use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use minijinja::context;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// Conversations on a page, and those found by what was said.
const PAGE: i64 = 50;
const FOUND: usize = 20;

/// A conversation as lists show it.
#[derive(Serialize)]
pub(super) struct Listed {
    #[serde(flatten)]
    conversation: Conversation,
}

impl From<Conversation> for Listed {
    fn from(mut conversation: Conversation) -> Self {
        if conversation.title.trim().is_empty() {
            "(no title)".clone_into(&mut conversation.title);
        }
        Self { conversation }
    }
}

/// How the list is narrowed.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Wanted {
    #[serde(default)]
    q: String,
    #[serde(default)]
    agent: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    before: Option<Uuid>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Asked(asked): Asked<Wanted>,
) -> Result<Html<String>, Trouble> {
    let filter = Filter {
        agent: asked.agent.parse().ok(),
        since: day(&asked.since, false),
        until: day(&asked.until, true),
        before: asked.before,
        ..Filter::default()
    };
    let query = some(&asked.q);
    let said = match query {
        Some(query) => app.knowledge.said_before(query, FOUND).await?,
        None => Vec::new(),
    };
    let filter = Filter { text: query, ..filter };
    let mut found = conversations::list(&app.pool, &filter, PAGE + 1).await?;
    let next = cut(&mut found, PAGE, |conversation| conversation.id);
    let found: Vec<Listed> = found.into_iter().map(Listed::from).collect();
    let values = context! {
        asked => value(&asked),
        said => value(&said),
        conversations => value(&found),
        agents => value(agents::list(&app.pool).await?),
        next => value(next),
    };
    page::show(&app, "/conversations", "conversations.html", values).await
}

/// Begin or end of a day that a form names.
pub(super) fn day(text: &str, end: bool) -> Option<DateTime<Utc>> {
    let day: NaiveDate =
        text.trim().parse().ok().filter(|day: &NaiveDate| (1..10_000).contains(&day.year()))?;
    let day = if end { day.succ_opt()? } else { day };
    Some(day.and_time(chrono::NaiveTime::MIN).and_utc())
}

pub(super) async fn change(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Posted(sent): Posted,
) -> Result<Redirect, Trouble> {
    if field(&sent, "do") == "delete" {
        http::conversations::remove(State(app), Path(id)).await?;
        return Ok(Redirect::to("/conversations"));
    }
    let body = forms::body(&sent, &[("title", Kind::Text)]);
    http::conversations::rename(State(app), Path(id.clone()), Ok(body)).await.map(drop)?;
    Ok(Redirect::to(&format!("/chat/{id}")))
}
