//! `/metrics`: request metrics and gauges for Prometheus, also on a separate address together with the health endpoints.

use crate::app::App;
use crate::clock;
use crate::db::{self, keys, reports};
use crate::metrics::metrics;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use std::sync::{Arc, Mutex, PoisonError};

/// Text format of Prometheus.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Held from the first gauge update to the end of the output: some series are removed and added again, and a concurrent
/// scrape would miss them.
static WRITING: Mutex<()> = Mutex::new(());

/// What was counted, and how things are right now.
#[utoipa::path(
    get, operation_id = "get_metrics", path = "/metrics", tag = "health",
    responses((status = 200, description = "Text format 0.0.4 of Prometheus", body = String, content_type = "text/plain"))
)]
pub async fn scrape(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, FORMAT)], look(&app).await).into_response()
}

/// Updates the gauges (queue, keys, servers, connections) and returns the metrics as text.
async fn look(app: &App) -> String {
    let metrics = metrics();
    // If the database is unavailable, values are missing or NaN instead of outdated.
    let now = clock::now();
    let (waiting, end) = tokio::join!(
        db::with_timeout(reports::unfinished(&app.pool, now)),
        db::with_timeout(keys::next_end(&app.pool, now))
    );
    let (depth, oldest) = waiting.map_or((f64::NAN, f64::NAN), |(count, oldest)| {
        (count as f64, oldest.map_or(0.0, |age| age.as_seconds_f64()))
    });
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    metrics.queue_depth.set(depth);
    metrics.queue_oldest.set(oldest);
    metrics.key_expires.reset();
    if let Ok(Some(end)) = end
        && app.config.auth.keys
    {
        metrics.key_expires.with_label_values::<&str>(&[]).set((end - now).as_seconds_f64());
    }
    // Removed servers are no longer reported.
    metrics.server_up.reset();
    for server in app.mcp.status() {
        metrics.server_up.with_label_values(&[&server.name]).set(f64::from(u8::from(server.is_connected())));
    }
    let (open, idle) = (app.pool.size() as usize, app.pool.num_idle());
    let most = app.pool.options().get_max_connections() as usize;
    for (state, connections) in [("idle", idle), ("used", open.saturating_sub(idle)), ("max", most)] {
        metrics.database_connections.with_label_values(&[state]).set(connections as f64);
    }
    metrics.text()
}
