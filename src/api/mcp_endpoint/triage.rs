//! `triage_failure`: accepts a report, sends progress notifications and returns structured findings.

use super::{Endpoint, answered, failed};
use crate::api::report_failure::{outcome, report_failure};
use crate::api::report_wait::ReportWait;
use crate::db;
use crate::db::reports;
use crate::domain::{Caller, FailureClass, Report, StepName};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::IntoResponse as _;
use rmcp::RoleServer;
use rmcp::model::{CallToolResult, ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext};
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Progress messages of completed steps.
const STEPS: [(StepName, &str); 5] = [
    (StepName::Collect, "The evidence is collected"),
    (StepName::Place, "The cause was looked for among those that are known"),
    (StepName::Investigate, "The cause was investigated"),
    (StepName::Verify, "The citations are checked"),
    (StepName::Publish, "The issue is filed, or counted"),
];

/// Sends progress notifications if the client requested them.
pub(super) struct Progress {
    peer: Peer<RoleServer>,
    token: Option<ProgressToken>,
    /// Number of completed steps that were sent.
    done: usize,
}

impl Progress {
    pub(super) fn of(context: &RequestContext<RoleServer>) -> Self {
        Self { peer: context.peer.clone(), token: context.meta.get_progress_token(), done: 0 }
    }

    /// Sends the number of completed steps, if it has increased.
    async fn tell(&mut self, done: usize, message: &str) {
        let Some(token) = self.token.clone().filter(|_| done > self.done) else { return };
        self.done = done;
        let count = |steps: usize| f64::from(u32::try_from(steps).unwrap_or(u32::MAX));
        let told = ProgressNotificationParam::new(token, count(done)).with_total(count(STEPS.len() + 2));
        if let Err(error) = self.peer.notify_progress(told.with_message(message)).await {
            tracing::debug!(%error, "a client is not told how far its call is");
        }
    }
}

/// Returns the JSON Schema of the answer.
pub(super) fn schema() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let number = json!({"type": "integer", "minimum": 1});
    let claim = json!({
        "type": "object",
        "properties": {
            "statement": text("what is claimed"),
            "evidence": text("label of the evidence: E1, E2, …"),
            "first_line": number,
            "last_line": number,
            "quote": {"type": ["string", "null"], "description": "what is quoted of these lines"},
            "verified": {"type": "boolean", "description": "whether the lines say so"},
            "url": text("the whole evidence"),
        },
        "required": ["statement", "evidence", "first_line", "last_line", "verified", "url"],
    });
    let links = json!({
        "type": "object",
        "properties": {
            "report": text("the page of the report"),
            "incident": text("the page of the incident"),
            "issue": text("the filed issue"),
        },
        "required": ["report"],
    });
    json!({
        "type": "object",
        "properties": {
            "status": {"type": "string", "enum": ["success", "accepted"], "description": "`accepted` when it takes longer: ask get_report"},
            "result": text("what came of it, in a sentence"),
            "report_id": text("id of the report"),
            "incident_id": text("id of the incident, one per cause"),
            "title": text("the cause in one line"),
            "cause": text("the cause in a few sentences"),
            "confidence": {"type": "string", "enum": ["low", "medium", "high"]},
            "claims": {"type": "array", "items": claim, "description": "what the cause rests on, each with its lines"},
            "next_steps": {"type": "array", "items": {"type": "string"}, "description": "what to do, first thing first"},
            "links": links,
        },
        // `class` is a Python keyword: clients that generate classes from the properties, such as fastmcp, would fail to
        // read the answer.
        "patternProperties": {"^class$": {"type": "string", "enum": FailureClass::NAMES}},
        "required": ["status", "result", "report_id", "links"],
    })
}

impl Endpoint {
    pub(super) async fn triage(
        &self,
        caller: Caller,
        arguments: &Value,
        mut told: Progress,
    ) -> CallToolResult {
        let headers = HeaderMap::from_iter([(PREFER, HeaderValue::from_static("respond-async"))]);
        let body = Ok(Bytes::from(arguments.to_string()));
        let (app, role) = (State(Arc::clone(&self.app)), caller.role);
        let response = match report_failure(app, caller.clone(), headers, None, body).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        };
        let accepted = match answered(response).await {
            Ok(accepted) => accepted,
            Err(problem) => return failed(problem),
        };
        let Some(id) = accepted["report_id"].as_str().and_then(|id| id.parse::<Uuid>().ok()) else {
            return failed("the report has no id".to_owned());
        };
        told.tell(1, "The report is accepted").await;
        // A waiting call uses memory; beyond the limit, clients poll for the outcome.
        let ended = match self.app.admission.wait() {
            Some(_place) => self.end(id, &mut told).await,
            None => Ok(None),
        };
        match ended {
            Ok(None) => CallToolResult::structured(self.unfinished(accepted, id)),
            Ok(Some(report)) => match outcome(&report, role) {
                Ok(_) => {
                    told.tell(STEPS.len() + 2, "The report is done").await;
                    CallToolResult::structured(self.found(caller, &report).await)
                }
                Err(problem) => failed(problem.detail),
            },
            Err(error) => {
                tracing::error!(%error, "the database failed");
                failed(format!("the database is away; ask for the report {id} in a moment"))
            }
        }
    }

    /// Returns the report when it is final, or `None` if the server's wait limit passes first.
    async fn end(&self, id: Uuid, told: &mut Progress) -> sqlx::Result<Option<Report>> {
        let mut wait = ReportWait::begin(&self.app, id);
        loop {
            if told.token.is_some() {
                let steps = db::with_timeout(reports::steps(&self.app.pool, id)).await?;
                let over = |(name, _): &(StepName, &str)| steps.iter().any(|step| step.name == name.as_str());
                if let Some((_, message)) = STEPS.iter().rfind(|step| over(step)) {
                    told.tell(1 + STEPS.iter().filter(|step| over(step)).count(), message).await;
                }
            }
            let report = db::with_timeout(reports::get(&self.app.pool, id)).await?;
            if report.as_ref().is_none_or(|report| report.status.is_final()) {
                return Ok(report);
            }
            if !wait.next().await {
                return Ok(None);
            }
        }
    }

    /// Returns the answer for an unfinished report.
    fn unfinished(&self, mut accepted: Value, id: Uuid) -> Value {
        accepted["links"] = json!({ "report": self.url(&format!("/reports/{id}")) });
        accepted
    }

    /// Returns the answer for a finished report, with the conclusion if the caller may read it.
    async fn found(&self, caller: Caller, report: &Report) -> Value {
        let result = report.result.clone().unwrap_or_default();
        let mut found = json!({
            "status": "success", "result": result, "report_id": report.id,
            "links": {"report": self.url(&format!("/reports/{}", report.id))},
        });
        let Ok(shown) = self.shown(caller, report.id.to_string()).await else { return found };
        if let Some(incident) = shown["incident_id"].as_str() {
            found["incident_id"] = json!(incident);
            found["links"]["incident"] = json!(self.url(&format!("/incidents/{incident}")));
        }
        if let Some(issue) = shown["issue_url"].as_str() {
            found["links"]["issue"] = json!(issue);
        }
        let diagnosis = &shown["diagnosis"];
        for field in ["title", "cause", "class", "confidence", "next_steps"] {
            if !diagnosis[field].is_null() {
                found[field] = diagnosis[field].clone();
            }
        }
        if let (Some(claims), Some(leader)) = (diagnosis["claims"].as_array(), shown["evidence_of"].as_str())
        {
            let claim = |claim: &Value| {
                let mut told = json!({});
                for field in ["statement", "evidence", "first_line", "last_line", "quote", "verified"] {
                    told[field] = claim[field].clone();
                }
                let label = claim["evidence"].as_str().unwrap_or_default();
                told["url"] = json!(self.url(&format!("/api/reports/{leader}/evidence/{label}")));
                told
            };
            found["claims"] = claims.iter().map(claim).collect();
        }
        found
    }

    /// Returns a public URL of this server, or only the path if no public URL is set.
    fn url(&self, path: &str) -> String {
        let public = self.app.config.server.public_url.as_deref().unwrap_or_default();
        format!("{}{path}", public.trim_end_matches('/'))
    }
}
