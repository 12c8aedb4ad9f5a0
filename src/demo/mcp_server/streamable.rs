//! Streamable HTTP (MCP 2025-03-26 and later): one endpoint that responds with JSON or with an event stream of one
//! message. There is no server stream, so `GET` returns 405 as the protocol allows.

use super::{Shared, protocol};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const REVISION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Open sessions.
pub(super) type Sessions = Arc<Mutex<HashSet<String>>>;

/// Response format accepted by the client.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Events,
}

pub(super) async fn take_message(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = match form(&headers) {
        Ok(form) => form,
        Err((status, why)) => return (status, why).into_response(),
    };
    let begins =
        serde_json::from_slice::<Value>(&body).is_ok_and(|message| message["method"] == "initialize");
    if !begins && let Err((status, why)) = known_session(&shared, &headers) {
        return (status, why).into_response();
    }
    let Some(answer) = protocol::answer(&shared.offer, &body) else {
        return StatusCode::ACCEPTED.into_response();
    };
    if protocol::is_refusal(&answer) {
        return (StatusCode::BAD_REQUEST, Json(answer)).into_response();
    }
    let begun = begins && answer.get("result").is_some();
    let mut response = match form {
        Form::Json => Json(answer).into_response(),
        Form::Events => {
            let event = Event::default().event("message").data(answer.to_string());
            Sse::new(futures::stream::iter([Ok::<_, Infallible>(event)])).into_response()
        }
    };
    if begun {
        let id = Uuid::new_v4().simple().to_string();
        let value = HeaderValue::from_str(&id).expect("hexadecimal digits fit a header");
        response.headers_mut().insert(SESSION, value);
        shared.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }
    response
}

pub(super) async fn end_session(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match known_session(&shared, &headers) {
        Ok(id) => {
            shared.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
            StatusCode::NO_CONTENT.into_response()
        }
        Err((status, why)) => (status, why).into_response(),
    }
}

type Refused = (StatusCode, &'static str);

fn form(headers: &HeaderMap) -> Result<Form, Refused> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if !text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json")) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "a message is application/json"));
    }
    if text(REVISION).is_some_and(|revision| !protocol::REVISIONS.contains(&revision)) {
        return Err((StatusCode::BAD_REQUEST, "this MCP-Protocol-Version is not spoken here"));
    }
    let accept = text(ACCEPT).unwrap_or("*/*");
    if accept.contains("text/event-stream") {
        Ok(Form::Events)
    } else if accept.contains("application/json")
        || accept.contains("*/*")
        || accept.contains("application/*")
    {
        Ok(Form::Json)
    } else {
        Err((StatusCode::NOT_ACCEPTABLE, "answers are application/json or text/event-stream"))
    }
}

fn known_session<'a>(shared: &Shared, headers: &'a HeaderMap) -> Result<&'a str, Refused> {
    let id = headers
        .get(SESSION)
        .and_then(|value| value.to_str().ok())
        .ok_or((StatusCode::BAD_REQUEST, "Mcp-Session-Id is missing"))?;
    if shared.sessions.lock().unwrap_or_else(PoisonError::into_inner).contains(id) {
        Ok(id)
    } else {
        // The client starts a new session.
        Err((StatusCode::NOT_FOUND, "no such session"))
    }
}
