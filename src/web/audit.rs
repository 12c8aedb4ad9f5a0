//! Audit log page: recorded actions, filtered and exported.

use super::error::PageError;
use super::extract::{PageQuery, day, some};
use super::page::PageContext;
use super::value::value;
use crate::api::cut;
use crate::db::audit::{self, Filter};
use axum::response::Html;
use minijinja::context;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Number of rows per page.
const PAGE: i64 = 100;

/// Filters of the list.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct AuditQuery {
    #[serde(default)]
    actor: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    about: String,
    #[serde(default)]
    outcome: String,
    /// Filters that only links set.
    #[serde(default)]
    object: String,
    #[serde(default)]
    trace: String,
    run: Option<Uuid>,
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    before: Option<i64>,
}

pub(super) async fn list(
    page: PageContext,
    PageQuery(asked): PageQuery<AuditQuery>,
) -> Result<Html<String>, PageError> {
    let text = |text: &str| some(text).map(str::to_owned);
    let filter = Filter {
        actor: text(&asked.actor),
        action: text(&asked.action),
        object: text(&asked.object),
        trace: text(&asked.trace),
        run: asked.run,
        about: text(&asked.about),
        outcome: text(&asked.outcome),
        since: day(&asked.since, false),
        until: day(&asked.until, true),
        before: asked.before,
    };
    let exported = [
        ("actor", filter.actor.clone()),
        ("action", filter.action.clone()),
        ("object", filter.object.clone()),
        ("trace", filter.trace.clone()),
        ("run", filter.run.map(|run| run.to_string())),
        ("about", filter.about.clone()),
        ("outcome", filter.outcome.clone()),
        ("since", filter.since.map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())),
        ("until", filter.until.map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())),
    ];
    let mut entries = audit::list(&page.app.pool, &filter, PAGE + 1).await?;
    let next = cut(&mut entries, PAGE, |entry| entry.id);
    let given = exported.iter().filter_map(|(name, text)| Some((*name, text.as_deref()?)));
    let export =
        reqwest::Url::parse_with_params("x:/api/audit/export", given).map(|url| url.as_str()[2..].to_owned());
    let values = context! {
        asked => value(&asked),
        next,
        entries => value(&entries),
        export => export.unwrap_or_default(),
    };
    page.show("/audit", "audit.html", values).await
}
