//! Settings page: effective settings with their source, secrets hidden. Read only; settings are changed in the
//! configuration.

use super::error::PageError;
use super::extract::{PageQuery, some};
use super::page::PageContext;
use super::value::value;
use crate::app::App;
use crate::config::{Effective, SETTINGS};
use crate::db::notifications;
use axum::response::Html;
use minijinja::context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Filters of the list.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct SettingsQuery {
    #[serde(default)]
    q: String,
    /// `set`: only settings that differ from the default.
    #[serde(default)]
    only: String,
}

impl SettingsQuery {
    /// Returns whether the texts together contain every search word.
    fn finds(&self, texts: &[&str]) -> bool {
        let text = texts.join("\n").to_lowercase();
        some(&self.q)
            .is_none_or(|query| query.to_lowercase().split_whitespace().all(|word| text.contains(word)))
    }
}

pub(super) async fn show(
    page: PageContext,
    PageQuery(asked): PageQuery<SettingsQuery>,
) -> Result<Html<String>, PageError> {
    let app = &page.app;
    let settings: Vec<Value> =
        app.config.effective.iter().filter_map(|setting| shown(setting, &asked)).collect();
    let values = context! {
        all => app.config.effective.len(),
        targets => value(targets(app, &asked).await?),
        servers => value(servers(app, &asked)),
        settings => value(&settings),
        version => env!("CARGO_PKG_VERSION"),
        asked => value(&asked),
    };
    page.show("/settings", "settings.html", values).await
}

/// Returns a setting if it matches the search by name, environment variables, value or description.
fn shown(setting: &Effective, asked: &SettingsQuery) -> Option<Value> {
    let Effective { key, value, from, doc } = setting;
    let env = SETTINGS.iter().find(|known| known.key == *key).map_or(&[][..], |known| known.env);
    let found = asked.finds(&[key, &env.join(" "), value.as_deref().unwrap_or_default(), doc]);
    let wanted = asked.only != "set" || from != "default";
    let section = key.split('.').next();
    (found && wanted).then(
        || json!({ "key": key, "value": value, "from": from, "doc": doc, "env": env, "section": section }),
    )
}

/// Returns the `[[mcp]]` tables.
fn servers(app: &App, asked: &SettingsQuery) -> Vec<Value> {
    let found = app.config.mcp.iter().filter(|server| asked.finds(&["[[mcp]]", &server.name]));
    let server = found.map(|server| {
        json!({
            "name": server.name,
            "transport": server.transport.as_str(),
            "allow": server.allow,
            "deny": server.deny,
            "read": server.read,
            "write": server.write,
        })
    });
    server.collect()
}

/// Returns the `[[notify]]` tables with recent results. URLs are secrets: anyone who has one can post to it.
async fn targets(app: &App, asked: &SettingsQuery) -> sqlx::Result<Vec<Value>> {
    let told = notifications::told(&app.pool).await?;
    let found = app.config.notify.iter();
    let found = found.filter(|target| asked.finds(&["[[notify]]", &target.name, target.channel.as_str()]));
    let target = found.map(|target| {
        let wanted = &target.wanted;
        json!({
            "name": target.name,
            "channel": target.channel.as_str(),
            "namespaces": target.namespaces,
            "classes": wanted.classes,
            "on": wanted.novelties.iter().map(|novelty| novelty.as_str()).collect::<Vec<_>>(),
            "every": humantime::format_duration(wanted.every).to_string(),
            "told": told.iter().find(|told| told.target == target.name),
        })
    });
    Ok(target.collect())
}
