//! Logging settings, and export of logs and traces in addition to standard error.

use super::reader::SettingsReader;
use super::setting::{Setting, setting};
use axum::http::HeaderName;
use secrecy::{ExposeSecret as _, SecretString};

/// Logging settings.
#[derive(Debug, Clone)]
pub struct Log {
    /// Filter in `tracing` syntax.
    pub filter: String,
    /// Logs JSON lines instead of text.
    pub json: bool,
}

/// Export of logs and traces.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Base URL of an OTLP/HTTP collector; `None` disables the export.
    pub otlp_url: Option<String>,
    /// Headers of export requests.
    pub otlp_headers: Vec<(String, SecretString)>,
    /// Service name in exported data.
    pub service_name: String,
    /// Ratio of sampled traces between 0 and 1, for traces without a sampling decision of the caller.
    pub trace_ratio: f64,
}

/// Settings of this module.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "log.filter",
        &["REGREEN_LOG", "RUST_LOG"],
        "info,graphile_worker=warn",
        "Log filter, in the syntax of `tracing`.",
    ),
    setting("log.format", &["REGREEN_LOG_FORMAT"], "text", "`text` or `json`."),
    setting(
        "telemetry.otlp_url",
        &["REGREEN_OTLP_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        "",
        "Collector for traces and logs (OTLP over HTTP), such as `http://collector:4318`. Empty: none.",
    ),
    setting(
        "telemetry.otlp_headers",
        &["REGREEN_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
        "",
        "Headers for the collector, as `name=value,name=value`; a value may be `env:NAME` or `file:PATH`.",
    ),
    setting(
        "telemetry.service_name",
        &["REGREEN_SERVICE_NAME", "OTEL_SERVICE_NAME"],
        "regreen",
        "Service name in traces and logs.",
    ),
    setting(
        "telemetry.trace_ratio",
        &["REGREEN_TRACE_RATIO", "OTEL_TRACES_SAMPLER_ARG"],
        "1",
        "Share of traces that are sent, from 0 to 1; a caller's `traceparent` takes precedence.",
    ),
];

pub(super) fn log(r: &mut SettingsReader<'_>) -> Log {
    Log { filter: r.required_text("log.filter"), json: r.one_of("log.format", &["text", "json"]) == "json" }
}

pub(super) fn read(r: &mut SettingsReader<'_>) -> Telemetry {
    let ratio: f64 = r.number("telemetry.trace_ratio", "a number from 0 to 1").unwrap_or(1.0);
    if !(0.0..=1.0).contains(&ratio) {
        r.mistake("`telemetry.trace_ratio`", format!("`{ratio}` is not from 0 to 1"));
    }
    Telemetry {
        otlp_url: r.url("telemetry.otlp_url"),
        otlp_headers: headers(r),
        service_name: r.required_text("telemetry.service_name"),
        trace_ratio: ratio,
    }
}

fn headers(r: &mut SettingsReader<'_>) -> Vec<(String, SecretString)> {
    let Some(told) = r.secret("telemetry.otlp_headers") else { return Vec::new() };
    let mut headers = Vec::new();
    for part in told.expose_secret().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some((name, value)) if HeaderName::try_from(name.trim()).is_ok() => {
                headers.push((name.trim().to_owned(), SecretString::from(value.trim())));
            }
            // Omits the value, which may be a secret.
            _ => r.mistake("`telemetry.otlp_headers`", "is not of the form `name=value,name=value`"),
        }
    }
    headers
}
