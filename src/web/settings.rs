//! The settings in effect: where each came from, secrets hidden. They are changed in the configuration, not here.

use super::page::{self, Trouble, value};
use crate::app::App;
use crate::db::notifications;
use axum::extract::State;
use axum::response::Html;
use minijinja::context;
use serde_json::json;
use std::sync::Arc;

pub(super) async fn show(State(app): State<Arc<App>>) -> Result<Html<String>, Trouble> {
    let servers = app.config.mcp.iter().map(|server| {
        json!({
            "name": server.name,
            "transport": server.transport.as_str(),
            "allow": server.allow,
            "deny": server.deny,
            "read": server.read,
            "write": server.write,
        })
    });
    let told = notifications::told(&app.pool).await?;
    let targets = app.config.notify.iter().map(|target| {
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
    let values = context! {
        targets => value(targets.collect::<Vec<_>>()),
        settings => value(&app.config.effective),
        servers => value(servers.collect::<Vec<_>>()),
        version => env!("CARGO_PKG_VERSION"),
    };
    page::show(&app, "/settings", "settings.html", values).await
}
