//! `POST /api/webhooks/tracker`: events of the tracker on issues. Gitea, Forgejo and GitHub use the same signature and
//! format.

use super::problem::Problem;
use crate::api::caller::RequestId;
use crate::app::App;
use crate::config::Tracker;
use crate::db::resolutions;
use crate::domain::{Actor, Verdict};
use crate::knowledge::NewResolution;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::sync::Arc;
use utoipa::ToSchema;

/// Maximum length of a stored comment, in characters.
const MAX_COMMENT: usize = 4_000;

#[derive(Debug, Deserialize)]
struct Event {
    action: String,
    issue: Issue,
    repository: Repository,
    sender: User,
    comment: Option<Comment>,
    /// Gitea: the commit whose message closed the issue.
    #[serde(default)]
    commit_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Issue {
    number: i64,
    user: User,
}

#[derive(Debug, Deserialize)]
struct Repository {
    full_name: String,
    #[serde(default)]
    html_url: String,
}

#[derive(Debug, Deserialize)]
struct User {
    login: String,
}

#[derive(Debug, Deserialize)]
struct Comment {
    body: String,
    #[serde(default)]
    html_url: Option<String>,
}

/// What was done with an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookResult {
    /// `resolved`, `noted`, or `ignored`.
    #[schema(example = "resolved")]
    status: &'static str,
}

/// The tracker's events: a closed issue resolves its incident, a person's comment on it is kept as a note.
///
/// Has to be signed with `tracker.webhook_secret` (`X-Hub-Signature-256`, or Gitea's `X-Gitea-Signature`).
#[utoipa::path(post, operation_id = "receive_tracker_event", path = "/api/webhooks/tracker", tag = "incidents", request_body = Object,
    params(
        ("X-GitHub-Event" = Option<String>, Header, description = "`issues` or `issue_comment`; or X-Gitea-Event"),
        ("X-Hub-Signature-256" = Option<String>, Header, description = "HMAC of the body; or X-Gitea-Signature")),
    responses(
        (status = 200, body = WebhookResult),
        (status = 400, description = "Not an event of a tracker", body = Problem),
        (status = 401, description = "The signature is missing or wrong", body = Problem),
        (status = 404, description = "No tracker or no secret is configured", body = Problem),
        (status = 413, description = "Body too large", body = Problem),
        (status = 503, description = "The database is away", body = Problem)))]
pub async fn receive(
    State(app): State<Arc<App>>,
    request: RequestId,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<WebhookResult>, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), "the body could not be read"))?;
    let tracker = app.config.tracker.as_ref();
    let Some((tracker, secret)) =
        tracker.and_then(|tracker| Some((tracker, tracker.webhook_secret.as_ref()?)))
    else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "webhooks are not taken: `tracker.webhook_secret` is not set",
        ));
    };
    if !signed(&headers, &body, secret.expose_secret()) {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "the signature does not fit: the webhook's secret has to be that of `tracker.webhook_secret`",
        ));
    }
    let header = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| headers.get(*name))
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let kind = header(["x-gitea-event", "x-github-event"]).unwrap_or_default();
    let ignored = Ok(Json(WebhookResult { status: "ignored" }));
    if kind != "issues" && kind != "issue_comment" {
        return ignored;
    }
    let event: Event = serde_json::from_slice(&body).map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "the body is not an event of an issue, as Gitea and GitHub send it",
        )
    })?;
    if !event.repository.full_name.eq_ignore_ascii_case(&format!("{}/{}", tracker.owner, tracker.repo)) {
        return ignored;
    }
    let delivery = header(["x-gitea-delivery", "x-github-delivery"]);
    let Some(said) = said(&kind, &event, tracker, request, delivery) else { return ignored };
    let Some((incident, _)) = resolutions::incident_of_issue(&app.pool, event.issue.number).await? else {
        return ignored;
    };
    let status = if said.verdict == Verdict::Closed { "resolved" } else { "noted" };
    let stored = app.knowledge.resolve(incident, said).await?;
    Ok(Json(WebhookResult { status: if stored.is_some() { status } else { "ignored" } }))
}

/// Returns the resolution that an event contains; `None` if it is irrelevant or was caused by this service.
fn said(
    kind: &str,
    event: &Event,
    tracker: &Tracker,
    RequestId(request): RequestId,
    delivery: Option<String>,
) -> Option<NewResolution> {
    let login: String = event.sender.login.chars().take(200).collect();
    let base = NewResolution {
        delivery: delivery.map(|id| format!("{}/{}:{id}", tracker.owner, tracker.repo)),
        ..NewResolution::only(Verdict::Closed, Actor::new(login, request), "tracker")
    };
    match (kind, event.action.as_str(), &event.comment) {
        ("issues", "closed", _) => {
            let commit = event.commit_id.as_deref().filter(|commit| !commit.is_empty());
            let link = commit.map(|commit| format!("{}/commit/{commit}", event.repository.html_url));
            Some(NewResolution { link, ..base })
        }
        // The issue was filed with this service's account.
        ("issue_comment", "created", Some(comment)) if event.sender.login != event.issue.user.login => {
            let text: String = comment.body.trim().chars().take(MAX_COMMENT).collect();
            let link = comment.html_url.clone();
            (!text.is_empty()).then_some(NewResolution {
                verdict: Verdict::Note,
                fix: Some(text),
                link,
                ..base
            })
        }
        _ => None,
    }
}

/// Verifies the HMAC-SHA256 of the body, in hexadecimal, in constant time.
fn signed(headers: &HeaderMap, body: &[u8], secret: &str) -> bool {
    let given = ["x-hub-signature-256", "x-gitea-signature"].iter().find_map(|name| headers.get(*name));
    let given = given.and_then(|value| value.to_str().ok()).map(|text| text.trim_start_matches("sha256="));
    let Some(given) = given.and_then(|digits| hex::decode(digits).ok()) else { return false };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
    mac.update(body);
    mac.verify_slice(&given).is_ok()
}
