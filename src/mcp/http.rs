//! Requests of the streamable HTTP transport. Reads JSON and event-stream answers within a size limit and parses large ones
//! on a blocking thread. An oversized answer becomes an error of its request, and the session continues.

use super::events::events;
use super::oversize::{self, MAX_MESSAGE};
use crate::blocking::BlockingPool;
use futures::stream::BoxStream;
use reqwest::header::{
    ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Response, StatusCode};
use rmcp::model::{ClientJsonRpcMessage, RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, HttpStatusError, InsufficientScopeError, SseError, StreamableHttpClient,
    StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::Sse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const SESSION: &str = "mcp-session-id";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
/// Headers that only the transport sets.
const RESERVED: [&str; 3] = ["accept", SESSION, "last-event-id"];
/// Maximum size of an error body that is read, in bytes.
const MAX_REFUSAL: usize = 64 << 10;
/// Answers up to this size, in bytes, are parsed on the async thread.
const PARSED_AT_ONCE: usize = 64 << 10;
/// Time limit for parsing a large answer.
const PARSED_WITHIN: Duration = Duration::from_secs(60);

type Error = StreamableHttpError<reqwest::Error>;

/// HTTP client and blocking pool that the connections to all servers share.
#[derive(Debug, Clone)]
pub struct Connector {
    /// HTTP client.
    pub http: reqwest::Client,
    /// Pool on which large answers are parsed.
    pub blocking: BlockingPool,
}

impl StreamableHttpClient for Connector {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Error> {
        let mut request = self.http.post(uri.as_ref()).header(ACCEPT, format!("{EVENTS}, {JSON}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            if RESERVED.contains(&name.as_str()) {
                return Err(Error::ReservedHeaderConflict(name.to_string()));
            }
            request = request.header(name, value);
        }
        if let Some(session) = &session {
            request = request.header(SESSION, session.as_ref());
        }
        let of = match &message {
            ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let response = request.json(&message).send().await?;
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if status == StatusCode::NOT_FOUND && session.is_some() {
            return Err(Error::SessionExpired);
        }
        if status.is_success() { self.answer(response, of).await } else { refusal(response).await }
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Error> {
        // Answers arrive on the POST of their request; this stream carries the server's own messages.
        let (http, max) = (&self.http, MAX_MESSAGE);
        http.get_stream_with_max_sse_event_size(uri, session, last_event, token, headers, max).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Error> {
        self.http.delete_session(uri, session, token, headers).await
    }
}

impl Connector {
    /// Reads an answer with a success status.
    async fn answer(
        &self,
        response: Response,
        of: Option<RequestId>,
    ) -> Result<StreamableHttpPostResponse, Error> {
        let session = text_of(response.headers(), SESSION);
        let kind = text_of(response.headers(), CONTENT_TYPE.as_str());
        match kind.as_deref() {
            Some(kind) if kind.starts_with(EVENTS) => {
                Ok(StreamableHttpPostResponse::Sse(events(response.bytes_stream(), of), session))
            }
            Some(kind) if kind.starts_with(JSON) => {
                let Some(id) = of else {
                    // No request is pending, so the content is ignored.
                    return Ok(StreamableHttpPostResponse::Accepted);
                };
                let message = match body(response, MAX_MESSAGE).await? {
                    Some(body) => self.parse(body).await?,
                    None => oversize::answer(id),
                };
                Ok(StreamableHttpPostResponse::Json(message, session))
            }
            // Some servers answer a notification with an empty 200.
            _ if of.is_none() => Ok(StreamableHttpPostResponse::Accepted),
            kind => Err(Error::UnexpectedContentType(kind.map(ToOwned::to_owned))),
        }
    }

    async fn parse(&self, body: Vec<u8>) -> Result<ServerJsonRpcMessage, Error> {
        let parse = |body: &[u8]| serde_json::from_slice(body);
        let parsed = if body.len() <= PARSED_AT_ONCE {
            parse(&body)
        } else {
            let parsed = self.blocking.run(PARSED_WITHIN, move |_| parse(&body)).await;
            parsed.map_err(|error| unusable(&error.to_string()))?
        };
        parsed.map_err(|error| unusable(&format!("it is no JSON-RPC message: {error}")))
    }
}

fn unusable(why: &str) -> Error {
    Error::UnexpectedServerResponse(format!("the answer cannot be read: {why}").into())
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Returns the body, or `None` without reading further if it exceeds the limit.
async fn body(mut response: Response, limit: usize) -> Result<Option<Vec<u8>>, Error> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// Maps an HTTP error status. A JSON-RPC error in the body counts as the answer.
async fn refusal(response: Response) -> Result<StreamableHttpPostResponse, Error> {
    let (status, headers) = (response.status(), response.headers());
    let may_not = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if let Some(challenge) = text_of(headers, WWW_AUTHENTICATE.as_str()).filter(|_| may_not) {
        return Err(if status == StatusCode::UNAUTHORIZED {
            Error::AuthRequired(AuthRequiredError::new(challenge))
        } else {
            Error::InsufficientScope(InsufficientScopeError::new(challenge, None))
        });
    }
    let is_json = text_of(headers, CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with(JSON));
    let session = text_of(headers, SESSION);
    let is_failure = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    let failure =
        HttpStatusError::new(status.as_u16(), text_of(headers, RETRY_AFTER.as_str()).filter(|_| is_failure));
    if is_failure && (!is_json || status == StatusCode::TOO_MANY_REQUESTS) {
        return Err(failure.into());
    }
    let body = body(response, MAX_REFUSAL).await.ok().flatten().unwrap_or_default();
    if is_json
        && !may_not
        && let Ok(error @ ServerJsonRpcMessage::Error(_)) = serde_json::from_slice(&body)
    {
        return Ok(StreamableHttpPostResponse::Json(error, session));
    }
    if is_failure {
        return Err(failure.into());
    }
    let words = String::from_utf8_lossy(&body);
    Err(Error::UnexpectedServerResponse(format!("HTTP {status}: {words}").into()))
}
