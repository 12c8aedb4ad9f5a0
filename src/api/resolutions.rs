//! `POST /api/incidents/{id}/resolution`: feedback of a person on an incident.

use super::fields::{Fields, Shape};
use super::json::FieldFilter;
use super::problem::Problem;
use super::reports::{known_id, missing};
use crate::app::App;
use crate::domain::{AuthMethod, Caller, Resolution, Verdict};
use crate::knowledge::NewResolution;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

const FIELDS: FieldFilter = FieldFilter::Of(&["verdict", "cause", "fix", "link", "author"]);
/// Maximum length of a text field, in bytes.
const MAX_TEXT: usize = 8_000;

/// What a person says.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewResolution)]
#[expect(dead_code, reason = "describes the body, which is read field by field to name what is wrong")]
pub struct ResolutionBody {
    /// `confirmed`, `corrected`, or `note`, which leaves the incident open.
    #[schema(example = "corrected")]
    verdict: String,
    /// The cause in your words; required with `corrected`.
    cause: Option<String>,
    /// What helped.
    #[schema(example = "Raised the memory limit of the step to 4Gi")]
    fix: Option<String>,
    /// The commit, pull request or page of the fix.
    link: Option<String>,
    /// Who says so.
    #[schema(example = "alice")]
    author: String,
}

/// Say how an incident was solved. It is found by searches at once and shown when the cause comes again.
#[utoipa::path(post, operation_id = "record_resolution", path = "/api/incidents/{id}/resolution", tag = "incidents", params(("id" = Uuid, Path)),
    request_body = ResolutionBody,
    responses(
        (status = 201, description = "Stored", body = Resolution),
        (status = 400, description = "Malformed JSON", body = Problem),
        (status = 404, body = Problem),
        (status = 422, description = "A field is wrong", body = Problem),
        (status = 503, description = "The database is away", body = Problem)))]
pub async fn resolve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Resolution>), Problem> {
    let id = known_id(&id)?;
    let said = said(&caller, Fields::of_body(&app, body, FIELDS).await?)?;
    let resolution = app.knowledge.resolve(id, said).await?.ok_or_else(|| missing("incident"))?;
    Ok((StatusCode::CREATED, Json(resolution)))
}

fn said(caller: &Caller, mut fields: Fields) -> Result<NewResolution, Problem> {
    let verdict = fields.required("verdict", Shape::Line(20));
    let cause = fields.optional("cause", Shape::Text);
    let fix = fields.optional("fix", Shape::Text);
    let link = fields.optional("link", Shape::Url);
    let said = (caller.way == AuthMethod::Open).then(|| fields.required("author", Shape::Line(200)));
    let author = caller.named(said);
    for (field, text) in [("cause", &cause), ("fix", &fix)] {
        if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
            fields.error(field, format!("is longer than {MAX_TEXT} bytes"));
        }
    }
    let parsed = match verdict.as_str() {
        "confirmed" => Verdict::Confirmed,
        "corrected" => Verdict::Corrected,
        // A missing verdict was already reported as an error.
        "note" | "" => Verdict::Note,
        _ => {
            fields.error("verdict", "has to be confirmed, corrected or note");
            Verdict::Note
        }
    };
    if parsed == Verdict::Corrected && cause.is_none() {
        fields.error("cause", "is required with `corrected`: say what it really was");
    }
    if parsed == Verdict::Note && verdict == "note" && cause.is_none() && fix.is_none() && link.is_none() {
        fields.error("fix", "a note has to say something: `cause`, `fix` or `link`");
    }
    fields.finish()?;
    Ok(NewResolution { verdict: parsed, cause, fix, link, author, origin: "person", delivery: None })
}
