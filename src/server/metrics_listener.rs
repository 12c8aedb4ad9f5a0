//! Router of the separate address for metrics and health.

use crate::api::{health, metrics};
use crate::app::App;
use axum::Router;
use axum::routing::get;
use std::sync::Arc;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

/// Returns the routes of `server.metrics_bind`: metrics and health, without authentication.
pub fn metrics_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::scrape))
        .route("/health", get(health::brief))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .with_state(app)
}
