//! Export of logs and traces over OTLP (HTTP, binary protobuf; OpenTelemetry Protocol 1.x).

use crate::config::Telemetry;
use anyhow::Context as _;
use async_trait::async_trait;
use opentelemetry::{KeyValue, global};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{LogExporter, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use secrecy::ExposeSecret as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// Request timeout.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Active exporters; none without a collector URL.
#[derive(Debug, Default)]
pub struct Exports {
    providers: Option<Providers>,
}

#[derive(Debug)]
struct Providers {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
}

impl Exports {
    /// Installs the exporters for all further traces and logs.
    pub(super) fn new(telemetry: &Telemetry, http: reqwest::Client) -> anyhow::Result<Self> {
        let Some(url) = telemetry.otlp_url.as_deref().map(|url| url.trim_end_matches('/')) else {
            return Ok(Self::default());
        };
        let headers: HashMap<String, String> = telemetry
            .otlp_headers
            .iter()
            .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
            .collect();
        let sender = Sender::new(http);
        let spans = SpanExporter::builder()
            .with_http()
            .with_http_client(sender.clone())
            .with_endpoint(format!("{url}/v1/traces"))
            .with_headers(headers.clone())
            .build()
            .context("`telemetry.otlp_url`: no traces can be sent there")?;
        let logs = LogExporter::builder()
            .with_http()
            .with_http_client(sender)
            .with_endpoint(format!("{url}/v1/logs"))
            .with_headers(headers)
            .build()
            .context("`telemetry.otlp_url`: no logs can be sent there")?;
        let resource = Resource::builder()
            .with_service_name(telemetry.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(telemetry.trace_ratio)));
        let traces = SdkTracerProvider::builder()
            .with_batch_exporter(spans)
            .with_sampler(sampler)
            .with_resource(resource.clone())
            .build();
        let logs = SdkLoggerProvider::builder().with_batch_exporter(logs).with_resource(resource).build();
        global::set_tracer_provider(traces.clone());
        Ok(Self { providers: Some(Providers { traces, logs }) })
    }

    pub(super) fn logs(&self) -> Option<&SdkLoggerProvider> {
        self.providers.as_ref().map(|providers| &providers.logs)
    }

    /// Sends remaining data with a timeout and stops.
    pub async fn end(self) {
        let Some(Providers { traces, logs }) = self.providers else { return };
        // Runs on a blocking thread, because shutdown waits for exporter threads that need the runtime. Errors were
        // already logged.
        let _ = tokio::task::spawn_blocking(move || (traces.shutdown(), logs.shutdown())).await;
    }
}

/// Sends data of the exporter threads on the runtime.
#[derive(Debug, Clone)]
struct Sender {
    http: reqwest::Client,
    handle: Handle,
    /// Whether the last attempt failed, so that a persistent failure is logged once.
    failing: Arc<AtomicBool>,
}

impl Sender {
    fn new(http: reqwest::Client) -> Self {
        Self { http, handle: Handle::current(), failing: Arc::default() }
    }

    fn note(&self, failure: Option<&str>) {
        match (failure, self.failing.swap(failure.is_some(), Ordering::Relaxed)) {
            (Some(reason), false) => {
                tracing::warn!(reason, "traces and logs cannot be sent to `telemetry.otlp_url`");
            }
            (None, true) => tracing::info!("traces and logs can be sent to `telemetry.otlp_url` again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.handle.spawn(async move {
            let mut request: reqwest::Request = request.try_into()?;
            *request.timeout_mut() = Some(EXPORT_TIMEOUT);
            let response = http.execute(request).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await?;
            Ok::<_, reqwest::Error>((status, headers, body))
        });
        let (status, headers, body) = sent.await?.map_err(|error| {
            let error = anyhow::Error::new(error.without_url());
            self.note(Some(&format!("{error:#}")));
            error
        })?;
        let refused = (!status.is_success()).then(|| format!("it answered {status}"));
        self.note(refused.as_deref());
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}
