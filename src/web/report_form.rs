//! Form for reporting a failure, with a pasted or uploaded log. Validated and stored like a report of a pipeline.

use super::error::PageError;
use super::extract::PageQuery;
use super::forms::{self, Kind, RejectedForm, field};
use super::multipart::Uploaded;
use super::page::PageContext;
use super::value::value;
use crate::api::{Problem, report_failure};
use crate::domain::Caller;
use crate::triage::Intake;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::context;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Text fields of the form.
const FIELDS: [(&str, Kind); 11] = [
    ("namespace", Kind::Text),
    ("pod_name", Kind::Text),
    ("container_name", Kind::Text),
    ("pipeline", Kind::Text),
    ("task", Kind::Text),
    ("run", Kind::Text),
    ("run_url", Kind::Text),
    ("last_good_run", Kind::Text),
    ("repository", Kind::Text),
    ("commit", Kind::Text),
    ("log", Kind::Text),
];
/// Name of the file field.
const FILE: &str = "log_file";

/// Renders the form; the query may prefill fields.
pub(super) async fn show(
    page: PageContext,
    PageQuery(asked): PageQuery<BTreeMap<String, String>>,
) -> Result<Html<String>, PageError> {
    let filled =
        FIELDS.iter().filter_map(|(name, _)| asked.get(*name).map(|text| ((*name).to_owned(), text)));
    let filled: BTreeMap<String, &String> = filled.collect();
    form(&page, value(&filled), None).await
}

async fn form(
    page: &PageContext,
    was: minijinja::Value,
    problem: Option<&Problem>,
) -> Result<Html<String>, PageError> {
    let errors = problem.map_or(&[][..], |problem| &problem.errors);
    let size = i64::try_from(page.app.config.server.body_limit).unwrap_or(i64::MAX);
    let cluster = page.app.config.mcp.iter().any(|server| server.name == page.app.config.cluster.server);
    let values = context! {
        was, size, cluster,
        problem => problem.map(value),
        wrong_fields => errors.iter().map(|error| error.field.clone()).collect::<Vec<_>>(),
        // Idempotency key: a form that is sent again is the same report.
        key => format!("page-{}", Uuid::new_v4()),
    };
    page.show("/reports", "report-new.html", values).await
}

pub(super) async fn send(
    page: PageContext,
    caller: Caller,
    uploaded: Uploaded,
) -> Result<Response, PageError> {
    let key = field(&uploaded.sent, "key").to_owned();
    let taken = match fields(&uploaded) {
        Ok(fields) => report_failure::of_form(&page.app, caller, fields, &key).await,
        Err(problem) => Err(problem),
    };
    let problem = match taken {
        Ok(Intake::Accepted(id) | Intake::Repeated(id)) => {
            return Ok(Redirect::to(&format!("/reports/{id}")).into_response());
        }
        Ok(Intake::KeyReused(id)) => {
            let detail = format!(
                "this form was sent before, with other words: that is report {id}. Send it again to report another failure"
            );
            Problem::new(StatusCode::CONFLICT, detail)
        }
        Err(problem) if matches!(problem.status, 403 | 422 | 503) => problem,
        Err(problem) => return Err(problem.into()),
    };
    let refused = RejectedForm::new(uploaded.sent, problem);
    let html = form(&page, value(&refused.sent), Some(&refused.problem)).await?;
    Ok((refused.problem.code(), html).into_response())
}

/// Returns the fields of the report, including the log.
fn fields(uploaded: &Uploaded) -> Result<Map<String, Value>, Problem> {
    let read = |(name, kind): &(&str, Kind)| ((*name).to_owned(), forms::one(&uploaded.sent, name, *kind));
    let mut fields: Map<String, Value> = FIELDS.iter().map(read).collect();
    let Some(file) = uploaded.files.iter().find(|file| file.field == FILE) else { return Ok(fields) };
    let wrong = |problem: &str| Err(Problem::field(FILE, problem));
    match &file.text {
        Err(why) => wrong(why),
        Ok(_) if !fields["log"].is_null() => {
            wrong("is one log and the pasted text another; send one of them")
        }
        Ok(text) => {
            fields.insert("log".to_owned(), Value::from(text.as_str()));
            Ok(fields)
        }
    }
}
