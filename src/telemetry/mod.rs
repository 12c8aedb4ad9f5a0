//! What people see of the process: logs as text or JSON lines, and logs and traces over OTLP. Never a secret, a body or a raw
//! log.

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

/// What says too much unless the filter names it: rmcp logs whole messages, and each failed attempt as an error (the registry
/// reports both, without contents); the database says of each table that it exists already; layers of HTTP tell whole addresses
/// of requests, with their parameters.
const QUIET: [(&str, &str); 3] =
    [("rmcp", "rmcp=off"), ("sqlx", "sqlx::postgres::notice=warn"), ("tower_http", "tower_http=info")];
/// Target of the spans that name, in each line of the log, the work it belongs to.
const WORK: &str = "regreen::work";
/// Does work whose lines in the log name the work and its trace.
pub async fn named<F: Future>(trace: impl AsRef<str>, work: F) -> F::Output {
    let trace_id = trace::trace_id();
    work.instrument(tracing::error_span!(target: WORK, "work", trace = trace.as_ref(), trace_id)).await
}

/// What sends the logs and would tell of it in the logs.
const SENDERS: &str = "hyper=off,hyper_util=off,h2=off,reqwest=off,rustls=off,opentelemetry=off";

/// Begins to log to standard error. A second call is ignored.
///
/// # Errors
/// The filter is not one.
pub fn init(log: &Log) -> anyhow::Result<()> {
    begin(log, None)
}

/// Begins to log, and to send logs and traces to where the configuration wants them, if it does; until [`Exports::end`].
///
/// # Errors
/// The filter is not one, or there is no exporter for the address.
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
    // Whatever is logged, it is said for which work.
    words = format!("{words},{WORK}=error");
    let filter =
        |words: &str| EnvFilter::try_new(words).map_err(|error| anyhow::anyhow!("`log.filter`: {error}"));
    // A line that cannot be written is not complained of where it could not be written: that would panic.
    let told = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    // A file or a collector shows colours as signs between the words.
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
    // A second subscriber cannot be set; the first one stays.
    let _ = all.try_init();
    Ok(())
}
