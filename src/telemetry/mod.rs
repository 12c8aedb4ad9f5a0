//! Telemetry: logs as text or JSON lines, and logs and traces over OTLP. Contains no secrets, request bodies or raw
//! logs.

mod otlp;
pub mod trace;

pub use otlp::Exports;

use crate::config::{Log, Telemetry};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use std::io::IsTerminal as _;
use tracing::Instrument as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

/// Default filters for verbose targets. rmcp logs whole messages and every failed attempt as an error (the registry
/// reports both without contents). PostgreSQL emits notices about existing tables. HTTP layers log full URLs with
/// parameters.
const QUIET: [(&str, &str); 3] =
    [("rmcp", "rmcp=off"), ("sqlx", "sqlx::postgres::notice=warn"), ("tower_http", "tower_http=info")];
/// Target of spans that add the unit of work to each log line.
const WORK: &str = "regreen::work";
/// Runs work in a span, so that its log lines contain the work's name and trace id.
pub async fn named<F: Future>(trace: impl AsRef<str>, work: F) -> F::Output {
    let trace_id = trace::trace_id();
    work.instrument(tracing::error_span!(target: WORK, "work", trace = trace.as_ref(), trace_id)).await
}

/// Targets used for sending logs, whose own output would cause a loop.
const SENDERS: &str = "hyper=off,hyper_util=off,h2=off,reqwest=off,rustls=off,opentelemetry=off";

/// Starts logging to standard error. Further calls are ignored.
///
/// # Errors
/// Fails when the filter is invalid.
pub fn init(log: &Log) -> anyhow::Result<()> {
    begin(log, None)
}

/// Starts logging and, if configured, the export of logs and traces until [`Exports::end`].
///
/// # Errors
/// Fails when the filter is invalid or the exporter cannot be created.
pub fn init_exporting(log: &Log, telemetry: &Telemetry, http: reqwest::Client) -> anyhow::Result<Exports> {
    let exports = Exports::new(telemetry, http)?;
    begin(log, Some(&exports))?;
    Ok(exports)
}

fn begin(log: &Log, exports: Option<&Exports>) -> anyhow::Result<()> {
    let mut words = log.filter.clone();
    for (of, quiet) in QUIET {
        if !words.contains(of) {
            words = format!("{words},{quiet}");
        }
    }
    // Spans with the unit of work are always enabled.
    words = format!("{words},{WORK}=error");
    let filter =
        |words: &str| EnvFilter::try_new(words).map_err(|error| anyhow::anyhow!("`log.filter`: {error}"));
    // Reporting a failed write to standard error would panic.
    let told = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    // Files and collectors would contain the colour codes.
    let told = if std::io::stderr().is_terminal() { told } else { told.with_ansi(false) };
    let told = if log.json { told.json().boxed() } else { told.boxed() };
    let sent = match exports.and_then(Exports::logs) {
        Some(logs) => {
            let words = format!("{words},{SENDERS}");
            Some(OpenTelemetryTracingBridge::new(logs).with_filter(filter(&words)?))
        }
        None => None,
    };
    let all = tracing_subscriber::registry().with(told.with_filter(filter(&words)?)).with(sent);
    // Fails if a subscriber is set already, which then stays.
    let _ = all.try_init();
    Ok(())
}
