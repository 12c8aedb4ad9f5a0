//! Prometheus metrics. One registry per process. Labels come from closed sets and from names in the configuration,
//! never from text of a caller, a log or a model.

use crate::domain::{Money, Run, StopReason, Usage};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry,
    TextEncoder,
};
use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::Duration;
use strum::VariantArray;

/// Buckets for HTTP requests, in seconds.
const REQUEST: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Buckets for tool calls, in seconds.
const CALL: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Buckets for reports and runs, in seconds.
const WORK: &[f64] = &[1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];
/// Buckets for turns of a run.
const TURNS: &[f64] = &[1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0];

/// Name and labels of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricDescription {
    /// Metric name; for a histogram without `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// Label names; for a histogram including `le`.
    pub labels: Vec<String>,
}

/// All metrics.
pub struct Metrics {
    registry: Registry,
    known: Vec<MetricDescription>,
    /// Answered HTTP requests, by route template, method and status.
    pub requests: IntCounterVec,
    /// Seconds until a response began, by route template.
    pub request_seconds: HistogramVec,
    /// Finished reports, by outcome.
    pub reports: IntCounterVec,
    /// Received alerts, by outcome.
    pub alerts: IntCounterVec,
    /// Seconds from a report's arrival to its end.
    pub report_seconds: Histogram,
    /// Seconds of agent runs, by stop reason.
    pub run_seconds: HistogramVec,
    /// Turns of a run.
    pub run_turns: Histogram,
    /// Model requests, by model and outcome.
    pub model_requests: IntCounterVec,
    /// Seconds of a model request.
    pub model_seconds: HistogramVec,
    /// Tokens, by model, purpose and direction.
    pub model_tokens: IntCounterVec,
    /// Cost, by model and purpose.
    pub model_cost: CounterVec,
    /// Tool calls, by server and outcome.
    pub tool_calls: IntCounterVec,
    /// Seconds of a tool call, by server.
    pub tool_seconds: HistogramVec,
    /// Lines of evidence, read and shown.
    pub evidence_lines: IntCounterVec,
    /// Claims, by whether they were verified against the evidence.
    pub claims: IntCounterVec,
    /// Reports, by action at the issue tracker.
    pub issues: IntCounterVec,
    /// Notifications, by target and outcome.
    pub notifications: IntCounterVec,
    /// Unfinished reports.
    pub queue_depth: Gauge,
    /// Age of the oldest unfinished report.
    pub queue_oldest: Gauge,
    /// Time until the next API key expires; absent when none does.
    pub key_expires: GaugeVec,
    /// Whether the tools of an MCP server can be called.
    pub server_up: GaugeVec,
    /// Database connections, by state.
    pub database_connections: GaugeVec,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let metrics = Metrics::new().expect("a test makes them");
    metrics.begin();
    metrics
});

/// The process's metrics.
#[must_use]
pub fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    #[expect(clippy::too_many_lines, reason = "a table, one entry for each metric")]
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let make = Make { registry: &registry, known: RefCell::default() };
        let process = ProcessCollector::for_self();
        let own = process
            .desc()
            .into_iter()
            .map(|desc| MetricDescription { name: desc.fq_name.clone(), labels: Vec::new() });
        make.known.borrow_mut().extend(own);
        registry.register(Box::new(process))?;
        let info = make.gauges("build_info", "The program; always 1", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        Ok(Self {
            requests: make.counters(
                "http_requests_total",
                "Answered requests",
                &["route", "method", "status"],
            )?,
            request_seconds: make.histograms(
                "http_request_duration_seconds",
                "Time until an answer began",
                REQUEST,
                &["route"],
            )?,
            reports: make.counters("reports_total", "Reports that ended", &["outcome"])?,
            alerts: make.counters("alerts_total", "Alerts that Alertmanager sent", &["outcome"])?,
            report_seconds: make.histogram(
                "report_duration_seconds",
                "From a report's coming in to its end",
                WORK,
            )?,
            run_seconds: make.histograms(
                "run_duration_seconds",
                "Runs of an agent, by why they ended",
                WORK,
                &["stop"],
            )?,
            run_turns: make.histogram("run_turns", "Turns of a run", TURNS)?,
            model_requests: make.counters(
                "model_requests_total",
                "Requests to models, attempts that were repeated counted once",
                &["model", "outcome"],
            )?,
            model_seconds: make.histograms(
                "model_request_duration_seconds",
                "Requests to models, from sending to the whole answer",
                WORK,
                &["model"],
            )?,
            model_tokens: make.counters(
                "model_tokens_total",
                "Tokens of prompts (input; of these cached) and answers (output)",
                &["model", "purpose", "direction"],
            )?,
            model_cost: make.amounts(
                "model_cost_total",
                "What models cost, in the currency of the configured prices",
                &["model", "purpose"],
            )?,
            tool_calls: make.counters(
                "tool_calls_total",
                "Calls of MCP servers' tools",
                &["server", "outcome"],
            )?,
            tool_seconds: make.histograms(
                "tool_call_duration_seconds",
                "Calls of MCP servers' tools",
                CALL,
                &["server"],
            )?,
            evidence_lines: make.counters(
                "evidence_lines_total",
                "Lines of evidence: all that were read, and those an analyst was shown at first",
                &["part"],
            )?,
            claims: make.counters(
                "claims_total",
                "Claims of diagnoses, by whether they were found in the evidence",
                &["verified"],
            )?,
            issues: make.counters(
                "issues_total",
                "Causes at the tracker: issues created, comments made, reports that were only counted",
                &["action"],
            )?,
            notifications: make.counters(
                "notifications_total",
                "Messages to the targets of `[[notify]]`",
                &["target", "outcome"],
            )?,
            queue_depth: make.gauge("queue_depth", "Reports that are not over, of all processes")?,
            queue_oldest: make.gauge("queue_oldest_seconds", "Age of the oldest report that is not done")?,
            key_expires: make.gauges(
                "api_key_expires_seconds",
                "Until the next of the API keys that may be used ends; absent when none does",
                &[],
            )?,
            server_up: make.gauges("mcp_server_up", "Whether a server's tools can be called", &["server"])?,
            database_connections: make.gauges(
                "database_connections",
                "Connections of this process's pool: idle, used, and how many there may be",
                &["state"],
            )?,
            known: make.known.into_inner(),
            registry,
        })
    }

    /// Initialises known label values at 0: Prometheus does not count a new series that starts at 1 as an increase.
    fn begin(&self) {
        for (counters, values) in [
            (&self.reports, &["done", "failed"][..]),
            (&self.alerts, &["accepted", "repeated", "ignored", "truncated"]),
            (&self.evidence_lines, &["read", "shown"]),
            (&self.claims, &["true", "false"]),
            (&self.issues, &["created", "commented", "counted"]),
        ] {
            for value in values {
                counters.with_label_values(&[*value]).inc_by(0);
            }
        }
        for stop in <StopReason as VariantArray>::VARIANTS {
            drop(self.run_seconds.with_label_values(&[stop.as_str()]));
        }
    }

    /// Initialises the notification counters of these targets at 0.
    pub fn begin_targets<'a>(&self, targets: impl Iterator<Item = &'a str>) {
        for target in targets {
            for outcome in ["done", "failed"] {
                self.notifications.with_label_values(&[target, outcome]).inc_by(0);
            }
        }
    }

    /// Returns the descriptions of all metrics.
    #[must_use]
    pub fn known(&self) -> &[MetricDescription] {
        &self.known
    }

    /// Records an answered HTTP request.
    pub fn request(&self, route: &str, method: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[route, method, &status.to_string()]).inc();
        self.request_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// Records a model request.
    pub fn model_request(&self, model: &str, outcome: &str, took: Duration) {
        self.model_requests.with_label_values(&[model, outcome]).inc();
        self.model_seconds.with_label_values(&[model]).observe(took.as_secs_f64());
    }

    /// Records the charged usage of a model request.
    pub fn charged(&self, model: &str, purpose: &str, usage: Usage, cost: Option<Money>) {
        for (direction, tokens) in
            [("input", usage.input_tokens), ("cached", usage.cached_tokens), ("output", usage.output_tokens)]
        {
            self.model_tokens.with_label_values(&[model, purpose, direction]).inc_by(tokens);
        }
        if let Some(cost) = cost {
            self.model_cost.with_label_values(&[model, purpose]).inc_by(cost.amount().max(0.0));
        }
    }

    /// Records a tool call or its refusal.
    pub fn tool_call(&self, server: &str, outcome: &str, took: Duration) {
        self.tool_calls.with_label_values(&[server, outcome]).inc();
        // A refused call has no duration.
        if outcome != "refused" {
            self.tool_seconds.with_label_values(&[server]).observe(took.as_secs_f64());
        }
    }

    /// Records a finished agent run.
    pub fn run(&self, run: &Run) {
        let seconds = Duration::from_millis(run.duration_ms.unsigned_abs()).as_secs_f64();
        self.run_seconds.with_label_values(&[run.stop_reason.as_str()]).observe(seconds);
        self.run_turns.observe(f64::from(run.turns));
    }

    /// Records the outcome of an alert: `accepted`, `repeated` or `ignored`.
    pub fn alert(&self, outcome: &str) {
        self.alerts.with_label_values(&[outcome]).inc();
    }

    /// Records the number of alerts that the sender truncated.
    pub fn alerts_truncated(&self, alerts: u32) {
        self.alerts.with_label_values(&["truncated"]).inc_by(alerts.into());
    }

    /// Records a finished report and the time since its arrival.
    pub fn report(&self, outcome: &str, took: Duration) {
        self.reports.with_label_values(&[outcome]).inc();
        self.report_seconds.observe(took.as_secs_f64());
    }

    /// Records how many claims of a diagnosis were found in the evidence.
    pub fn claims_checked(&self, found: usize, all: usize) {
        for (verified, claims) in [("true", found), ("false", all.saturating_sub(found))] {
            self.claims.with_label_values(&[verified]).inc_by(claims as u64);
        }
    }

    /// Records how many of the lines read are shown to an analyst.
    pub fn evidence(&self, shown: usize, read: usize) {
        for (part, lines) in [("shown", shown), ("read", read)] {
            self.evidence_lines.with_label_values(&[part]).inc_by(lines as u64);
        }
    }

    /// Records the action for a report at the issue tracker: `created`, `commented` or `counted`.
    pub fn issue(&self, action: &str) {
        self.issues.with_label_values(&[action]).inc();
    }

    /// Encodes all metrics in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let encoded = TextEncoder::new().encode_to_string(&self.registry.gather());
        encoded.unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics cannot be written");
            String::new()
        })
    }
}

/// Creates and registers metrics, and collects their names and labels.
struct Make<'a> {
    registry: &'a Registry,
    known: RefCell<Vec<MetricDescription>>,
}

impl Make<'_> {
    fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> prometheus::Result<C> {
        let made = made?;
        let known = made.desc().into_iter().map(|desc| MetricDescription {
            name: desc.fq_name.clone(),
            labels: desc.variable_labels.clone(),
        });
        self.known.borrow_mut().extend(known);
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(options(name, help), labels))
    }

    fn amounts(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<CounterVec> {
        self.add(CounterVec::new(options(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.add(Gauge::with_opts(options(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.add(GaugeVec::new(options(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let options = HistogramOpts { common_opts: options(name, help), buckets: buckets.to_vec() };
        let made = self.add(Histogram::with_opts(options))?;
        self.has_buckets();
        Ok(made)
    }

    /// Adds the label `le` to the last metric, which is a histogram.
    fn has_buckets(&self) {
        if let Some(last) = self.known.borrow_mut().last_mut() {
            last.labels.push("le".to_owned());
        }
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts { common_opts: options(name, help), buckets: buckets.to_vec() };
        let made = self.add(HistogramVec::new(options, labels))?;
        self.has_buckets();
        Ok(made)
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("regreen_{name}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_are_made_and_named_as_the_format_wants() {
        let metrics = Metrics::new().unwrap();
        assert!(metrics.known().len() > 20);
        for MetricDescription { name, labels } in metrics.known() {
            assert!(name.starts_with("regreen_") || name.starts_with("process_"), "{name}");
            assert!(labels.len() <= 3, "{name} has a series for each of {labels:?}");
        }
        metrics.request("/api/reports/{id}", "GET", 200, Duration::from_millis(30));
        metrics.charged("m", "chat", Usage { input_tokens: 7, ..Usage::default() }, Money::of(0.5));
        let text = metrics.text();
        for line in [
            r#"regreen_http_requests_total{method="GET",route="/api/reports/{id}",status="200"} 1"#,
            r#"regreen_http_request_duration_seconds_bucket{route="/api/reports/{id}",le="0.025"} 0"#,
            r#"regreen_http_request_duration_seconds_bucket{route="/api/reports/{id}",le="0.1"} 1"#,
            r#"regreen_model_tokens_total{direction="input",model="m",purpose="chat"} 7"#,
            r#"regreen_model_cost_total{model="m",purpose="chat"} 0.5"#,
        ] {
            assert!(text.lines().any(|written| written == line), "{line} in {text}");
        }
    }
}
