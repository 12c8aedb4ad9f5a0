//! An OpenTelemetry collector on loopback that receives OTLP over HTTP as protobuf.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Router, http};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

#[derive(Default)]
struct Kept {
    spans: Mutex<Vec<Span>>,
    logs: Mutex<Vec<LogRecord>>,
    services: Mutex<Vec<String>>,
}

/// The running collector.
pub struct Collector {
    pub url: String,
    kept: Arc<Kept>,
    server: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Collector {
    /// Starts a collector that rejects requests without this header.
    pub async fn start(authorization: &'static str) -> Self {
        let kept = Arc::new(Kept::default());
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/logs", post(logs))
            .layer(DefaultBodyLimit::disable())
            .layer(axum::middleware::from_fn(
                move |request: axum::extract::Request, next: axum::middleware::Next| async move {
                    let shown = request.headers().get(http::header::AUTHORIZATION);
                    let known = shown.is_some_and(|shown| shown == authorization);
                    if known { Ok(next.run(request).await) } else { Err(StatusCode::UNAUTHORIZED) }
                },
            ))
            .with_state(Arc::clone(&kept));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "a test's own server")]
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, kept, server }
    }

    pub fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().unwrap().clone()
    }

    pub fn logs(&self) -> Vec<LogRecord> {
        self.kept.logs.lock().unwrap().clone()
    }

    /// Returns the service names of the senders.
    pub fn services(&self) -> Vec<String> {
        self.kept.services.lock().unwrap().clone()
    }
}

async fn traces(State(kept): State<Arc<Kept>>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    for resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        let named = attributes.iter().filter(|attribute| attribute.key == "service.name");
        kept.services.lock().unwrap().extend(named.map(|attribute| text(attribute.value.as_ref())));
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        kept.spans.lock().unwrap().extend(spans);
    }
}

async fn logs(State(kept): State<Arc<Kept>>, body: Bytes) {
    for resource in ExportLogsServiceRequest::decode(body).unwrap().resource_logs {
        let records = resource.scope_logs.into_iter().flat_map(|scope| scope.log_records);
        kept.logs.lock().unwrap().extend(records);
    }
}

/// Formats a value as text.
pub fn text(value: Option<&opentelemetry_proto::tonic::common::v1::AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => {
            list.values.iter().map(|value| text(Some(value))).collect::<Vec<_>>().join(", ")
        }
        other => format!("{other:?}"),
    }
}
