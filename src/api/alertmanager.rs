//! `POST /webhooks/alertmanager`: turns firing alerts about pods into reports. Other alerts are ignored.

use super::body_limit::BodyLimit;
use super::fields::{Fields, Shape};
use super::parse::parsed;
use super::problem::Problem;
use super::report_failure::take;
use crate::app::App;
use crate::domain::{Caller, Failure};
use crate::metrics::metrics;
use crate::triage::{Intake, Submission};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// Maximum size of a notification; fits thousands of alerts.
pub(super) const LIMIT: BodyLimit =
    BodyLimit::kib(1024).remedy("set `max_alerts` of the receiver's `webhook_configs`");

/// A notification of Alertmanager's, version 4, as far as it matters here.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    alerts: Vec<Alert>,
    /// How many the receiver's `max_alerts` cut off.
    #[serde(default)]
    truncated_alerts: u32,
}

/// One of its alerts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// `firing` or `resolved`.
    status: String,
    /// `namespace` and `pod` say what it is about, `container` and `job_name` more closely.
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    /// Since when; with the fingerprint it identifies the alert.
    starts_at: DateTime<Utc>,
    /// Where its expression can be looked at.
    #[serde(default, rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

/// What became of the alerts.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct AlertmanagerResponse {
    /// Those that have a report: of now, or of a notification before.
    accepted: Vec<AcceptedAlert>,
    /// The others.
    ignored: Vec<IgnoredAlert>,
}

/// An alert and its report.
#[derive(Debug, Serialize, ToSchema)]
pub struct AcceptedAlert {
    fingerprint: String,
    /// The report's id.
    report_id: Uuid,
}

/// An alert that is not reported.
#[derive(Debug, Serialize, ToSchema)]
pub struct IgnoredAlert {
    fingerprint: String,
    /// Why.
    #[schema(example = "it has no label `pod`")]
    reason: String,
}

/// Alertmanager's webhook: a report for each firing alert with the labels `namespace` and `pod`.
///
/// Answers without waiting for the outcome. The same alert (fingerprint and start) is reported once, however often it is sent. Its labels and
/// annotations are evidence of the report. Alerts without a pod and resolved ones are ignored.
#[utoipa::path(
    post, operation_id = "receive_alerts", path = "/webhooks/alertmanager", tag = "reports", request_body = Notification,
    responses(
        (status = 202, description = "What was accepted, and what was not", body = AlertmanagerResponse),
        (status = 400, description = "Malformed JSON", body = Problem),
        (status = 403, description = "All its pods are in namespaces that are not the caller's", body = Problem),
        (status = 413, description = "Body too large", body = Problem),
        (status = 422, description = "Not a notification of Alertmanager's", body = Problem),
        (status = 503, description = "The database is away, or too many reports wait; see Retry-After", body = Problem)
    )
)]
pub async fn receive(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<AlertmanagerResponse>), Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), "the body could not be read"))?;
    let notification = parsed(&app.blocking, body, notification).await??;
    let mut alerted = AlertmanagerResponse::default();
    let mut foreign = None;
    for alert in notification.alerts {
        let submission = submission(&alert).and_then(|submission| {
            let namespace = &submission.failure.namespace;
            if caller.may_touch(namespace) {
                return Ok(Submission { caller: caller.actor(), ..submission });
            }
            let refused = format!("{} may not report failures of the namespace `{namespace}`", caller.name);
            Err(foreign.insert(refused).clone())
        });
        let fingerprint = alert.fingerprint;
        match submission {
            // If the queue fills up here, Alertmanager sends the notification again, and the alerts accepted so far are
            // repetitions.
            Ok(submission) => {
                let (report_id, outcome) = match take(&app, submission).await? {
                    Intake::Accepted(id) => (id, "accepted"),
                    // Annotations may change while an alert fires.
                    Intake::Repeated(id) | Intake::KeyReused(id) => (id, "repeated"),
                };
                metrics().alert(outcome);
                alerted.accepted.push(AcceptedAlert { fingerprint, report_id });
            }
            Err(reason) => {
                metrics().alert("ignored");
                alerted.ignored.push(IgnoredAlert { fingerprint, reason });
            }
        }
    }
    match foreign {
        // Alertmanager logs an error response but not the body of a success.
        Some(refused) if alerted.accepted.is_empty() => Err(Problem::new(StatusCode::FORBIDDEN, refused)),
        _ => {
            truncated(notification.truncated_alerts, &caller);
            Ok((StatusCode::ACCEPTED, Json(alerted)))
        }
    }
}

/// Counts and logs alerts that Alertmanager truncated: nothing else reports them.
fn truncated(alerts: u32, caller: &Caller) {
    if alerts > 0 {
        metrics().alerts_truncated(alerts);
        let caller = &caller.name;
        tracing::warn!(
            alerts,
            caller,
            "Alertmanager cut alerts off; raise `max_alerts` of the receiver's `webhook_configs`, or group by more labels"
        );
    }
}

fn notification(body: &[u8]) -> Result<Notification, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let (status, what) = if error.is_data() {
            (StatusCode::UNPROCESSABLE_ENTITY, "a notification of Alertmanager's")
        } else {
            (StatusCode::BAD_REQUEST, "valid JSON")
        };
        Problem::new(status, format!("the body is not {what}: {error}"))
    })
}

/// Returns the report of an alert, or the reason why there is none.
fn submission(alert: &Alert) -> Result<Submission, String> {
    if alert.status != "firing" {
        return Err("it is not firing".to_owned());
    }
    if alert.labels.get("pod").is_none_or(|pod| pod.trim().is_empty()) {
        return Err("it has no label `pod`".to_owned());
    }
    let fingerprint = &alert.fingerprint;
    if !(1..=64).contains(&fingerprint.len()) || !fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("its fingerprint is not one of Alertmanager's".to_owned());
    }
    let labels = alert.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    let mut labels = Fields::of(labels.collect());
    let failure = Failure {
        namespace: labels.required("namespace", Shape::Label),
        pod_name: labels.required("pod", Shape::Subdomain),
        container_name: labels.optional("container", Shape::Label),
        // `job` is the Prometheus scrape job.
        task: labels.optional("job_name", Shape::Line(253)),
        ..Failure::default()
    };
    labels.finish().map_err(|problem| problem.detail)?;
    let since = alert.starts_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    Ok(Submission {
        failure,
        alert: Some(text(alert, &since)),
        idempotency_key: Some(format!("alert/{fingerprint}/{since}")),
        ..Submission::default()
    })
}

/// Formats the alert as evidence, one line per label and annotation.
fn text(alert: &Alert, since: &str) -> String {
    let mut lines = vec![format!("firing since {since}")];
    for (what, pairs) in [("label", &alert.labels), ("annotation", &alert.annotations)] {
        // Indent later lines of a value, so that they cannot pass for another label.
        let line = |(name, value): (&String, &String)| {
            format!("{what} {name}: {}", value.replace(['\n', '\r'], "\n    "))
        };
        lines.extend(pairs.iter().map(line));
    }
    if !alert.generator_url.is_empty() {
        lines.push(format!("generator: {}", alert.generator_url));
    }
    lines.join("\n")
}
