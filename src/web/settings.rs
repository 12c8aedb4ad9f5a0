//! The settings in effect: where each came from, secrets hidden. They are changed in the configuration, not here.

use super::page::{self, Trouble, value};
use crate::app::App;
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
    let values = context! {
        settings => value(&app.config.effective),
        servers => value(servers.collect::<Vec<_>>()),
        version => env!("CARGO_PKG_VERSION"),
    };
    page::show(&app, "/settings", "settings.html", values).await
}
