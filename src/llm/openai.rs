//! Client for OpenAI-compatible endpoints: streaming chat completions with retries.

use super::capabilities::{self, Capabilities};
use super::failure::{Attempt, HttpFailure, TOO_LARGE, attempt_error};
use super::meter::Meter;
use super::property_order::InOrder;
use super::text_protocol;
use super::wire;
use super::{Completion, CompletionDelta, Listener, Model, ModelError, Request, ToolChoice};
use crate::config::ModelEndpoint;
use crate::domain::ToolCalls;
use crate::telemetry::trace;
use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use async_trait::async_trait;
use futures::StreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Maximum bytes read from an answer.
const MAX_ANSWER: usize = 8 << 20;

/// Maximum pause between attempts, even if the endpoint requests more.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A model at an OpenAI-compatible endpoint.
pub struct OpenAi {
    settings: ModelEndpoint,
    client: Client<OpenAIConfig>,
    learned: Arc<Capabilities>,
}

impl OpenAi {
    /// Creates the client without sending a request. `learned` contains the detected capabilities of the model.
    #[must_use]
    pub fn new(settings: ModelEndpoint, http: reqwest::Client, learned: Arc<Capabilities>) -> Self {
        let config = endpoint(&settings.url, settings.api_key.as_ref());
        let service = tower::service_fn(move |factory: HttpRequestFactory| send(http.clone(), factory));
        Self { settings, client: Client::with_config(config).with_http_service(service), learned }
    }

    async fn attempt(
        &self,
        way: ToolCalls,
        request: &Request,
        listener: &Listener<'_>,
    ) -> Result<Completion, Attempt> {
        let body = wire::body(&self.settings, request, way, self.learned.refused());
        let plain = matches!(way, ToolCalls::Schema | ToolCalls::Text);
        let mut meter = Meter::enter(&self.settings, request, &body).await?;
        let read = async {
            let chat = self.client.chat();
            let open = chat.create_stream_byot::<_, Value>(InOrder(&body));
            let mut stream: Pin<Box<_>> = Box::pin(open.await.map_err(|error| {
                meter.refused();
                attempt_error(&error)
            })?);
            let mut heard = 0;
            loop {
                let next = timeout(self.settings.idle_timeout, stream.next()).await;
                let next =
                    next.map_err(|_| Attempt::retry("the endpoint fell silent in the middle of an answer"))?;
                match next {
                    None => break,
                    Some(Ok(chunk)) => {
                        meter.take(&chunk)?;
                        let text = meter.text();
                        let until = if plain { text_protocol::open(text) } else { text.len() };
                        if let Some(fresh) = text.get(heard..until).filter(|fresh| !fresh.is_empty()) {
                            listener(CompletionDelta::Text(fresh));
                            heard = until;
                        }
                    }
                    Some(Err(OpenAIError::JSONDeserialize(..))) => {
                        return Err(Attempt::retry("the endpoint streamed something that is not JSON"));
                    }
                    Some(Err(error)) => return Err(attempt_error(&error)),
                }
            }
            let completion = meter.finish().await?;
            if !plain {
                return Ok(completion);
            }
            let completion = text_protocol::read(completion, request);
            if let Some(rest) = completion.text.get(heard..).filter(|rest| !rest.is_empty()) {
                listener(CompletionDelta::Text(rest));
            }
            Ok(completion)
        };
        timeout(self.settings.request_timeout, read)
            .await
            .unwrap_or_else(|_| Err(Attempt::retry("the endpoint took longer than `model.request_timeout`")))
    }

    /// Stores an optional parameter that an error response names. Returns `true` if a retry will omit it.
    fn learn(&self, message: &str) -> bool {
        wire::Optional::complained_about(message).is_some_and(|bit| self.learned.refuses(bit))
    }

    /// Returns how the model calls tools, as configured or detected.
    #[must_use]
    pub fn tool_calls(&self) -> ToolCalls {
        match self.settings.tool_calls {
            ToolCalls::Auto => self.learned.calls().unwrap_or_default(),
            said => said,
        }
    }

    /// Detects once how the model calls tools: natively if permitted, else by schema, else within text. Returns `None` if the
    /// endpoint is not available.
    async fn find_out(&self, request: &Request, natively: bool) -> Option<ToolCalls> {
        let _one = self.learned.finding.lock().await;
        if let Some(known) = self.learned.calls() {
            return Some(known);
        }
        let question = capabilities::question(request.account.clone());
        let ways = [ToolCalls::Native, ToolCalls::Schema];
        let mut found = ToolCalls::Text;
        for way in ways.into_iter().skip(usize::from(!natively)) {
            match self.complete_with_retries(way, &question, &|_: CompletionDelta<'_>| {}).await {
                Ok(completion) if capabilities::shows(&completion) == Some(true) => {
                    found = way;
                    break;
                }
                Ok(_) | Err(ModelError::Refused { .. }) => {}
                Err(_) => return None,
            }
        }
        if found == ToolCalls::Schema && self.learned.refused() & wire::Optional::RESPONSE_FORMAT != 0 {
            found = ToolCalls::Text;
        }
        self.learned.calls_by(found);
        tracing::info!(
            model = self.settings.name,
            way = found.as_str(),
            "found out how the model calls tools"
        );
        Some(found)
    }

    /// Tests the endpoint by requesting a tool call.
    ///
    /// # Errors
    /// The endpoint does not respond, or rejects the request.
    pub async fn probe(&self) -> Result<Probed, ModelError> {
        let completion = self.complete(&capabilities::question(None)).await?;
        let called = capabilities::shows(&completion);
        Ok(Probed { completion, way: self.tool_calls(), called })
    }

    /// Requests one completion with the given method of tool calls, with retries.
    async fn complete_with_retries(
        &self,
        way: ToolCalls,
        request: &Request,
        listener: &Listener<'_>,
    ) -> Result<Completion, ModelError> {
        let mut attempts = 0;
        loop {
            listener(CompletionDelta::Begun);
            let failure = match self.attempt(way, request, listener).await {
                Ok(completion) => return Ok(completion),
                Err(failure) => failure,
            };
            match failure {
                Attempt::Final(ModelError::Refused { status: Some(400 | 422), message })
                    if self.learn(&message) => {}
                Attempt::Final(error) => return Err(error),
                Attempt::Retry { message, after } => {
                    attempts += 1;
                    if attempts >= self.settings.max_attempts {
                        return Err(ModelError::Unavailable { attempts, message });
                    }
                    let pause = pause(self.settings.backoff, attempts - 1, after);
                    tracing::warn!(
                        attempt = attempts,
                        pause_ms = pause.as_millis(),
                        reason = message,
                        "the model is asked again"
                    );
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Result of a test request.
#[derive(Debug, Clone)]
pub struct Probed {
    /// Answer of the model.
    pub completion: Completion,
    /// How the model calls tools.
    pub way: ToolCalls,
    /// Whether the arguments of the call are valid; `None` if the model made no call.
    pub called: Option<bool>,
}

/// Returns the pause before the next attempt: exponential backoff with full jitter, and at least the pause requested by the
/// endpoint, up to the maximum.
pub(super) fn pause(base: Duration, attempt: u32, asked: Option<Duration>) -> Duration {
    let ceiling = base.saturating_mul(2u32.saturating_pow(attempt.min(16))).min(MAX_PAUSE);
    let jittered = ceiling.mul_f64(fastrand::f64());
    asked.map_or(jittered, |asked| asked.min(MAX_PAUSE).max(jittered))
}

/// Configures address and key for the client library.
pub(super) fn endpoint(url: &str, key: Option<&SecretString>) -> OpenAIConfig {
    let base = url.trim_end_matches('/');
    let base = if base.ends_with("/v1") { base.to_owned() } else { format!("{base}/v1") };
    let key = key.map_or("", |key| key.expose_secret());
    // Set every field, because the library reads its defaults from unrelated environment variables.
    OpenAIConfig::new().with_api_base(base).with_api_key(key).with_org_id("").with_project_id("")
}

#[async_trait]
impl Model for OpenAi {
    fn name(&self) -> &str {
        &self.settings.name
    }

    async fn complete(&self, request: &Request) -> Result<Completion, ModelError> {
        self.complete_streaming(request, &|_: CompletionDelta<'_>| {}).await
    }

    async fn complete_streaming(
        &self,
        request: &Request,
        listener: &Listener<'_>,
    ) -> Result<Completion, ModelError> {
        let way = self.tool_calls();
        if way != ToolCalls::Auto {
            return self.complete_with_retries(way, request, listener).await;
        }
        let first = self.complete_with_retries(ToolCalls::Native, request, listener).await;
        if request.tools.is_empty() || request.choice == ToolChoice::None {
            return first;
        }
        let natively = match &first {
            Ok(completion) if !completion.tool_calls.is_empty() => {
                self.learned.calls_by(ToolCalls::Native);
                return first;
            }
            // A truncated answer does not show whether the model supports tool calls.
            Ok(completion) if completion.truncated => return first,
            Ok(_) => true,
            Err(ModelError::Refused { message, .. }) if capabilities::refuses_tools(message) => false,
            Err(_) => return first,
        };
        match self.find_out(request, natively).await {
            Some(way @ (ToolCalls::Schema | ToolCalls::Text)) => {
                self.complete_with_retries(way, request, listener).await
            }
            _ => first,
        }
    }
}

/// Sends one request. Converts unsuccessful responses to [`HttpFailure`] before the library logs or misinterprets their
/// bodies.
pub(super) async fn dispatch(
    http: reqwest::Client,
    factory: HttpRequestFactory,
) -> Result<reqwest::Response, OpenAIError> {
    let mut request = factory.build().await?;
    if let Some(key) = request.headers_mut().get_mut(reqwest::header::AUTHORIZATION) {
        key.set_sensitive(true);
        // Do not send an empty key.
        if key.as_bytes() == b"Bearer " || key.as_bytes() == b"Bearer" {
            request.headers_mut().remove(reqwest::header::AUTHORIZATION);
        }
    }
    if let Some(traceparent) = trace::traceparent().and_then(|told| told.parse().ok()) {
        request.headers_mut().insert(trace::TRACEPARENT, traceparent);
    }
    let response = http.execute(request).await.map_err(OpenAIError::Reqwest)?;
    if !response.status().is_success() {
        return Err(OpenAIError::Boxed(Box::new(HttpFailure::read(response).await)));
    }
    Ok(bounded(response))
}

/// Limits the size of the response, because an endpoint that sends data without end would exhaust the memory before the
/// timeout.
fn bounded(response: reqwest::Response) -> reqwest::Response {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut left = MAX_ANSWER;
    let chunks = response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(io::Error::other)?;
        left = left.checked_sub(chunk.len()).ok_or_else(|| io::Error::other(TOO_LARGE))?;
        Ok::<_, io::Error>(chunk)
    });
    let mut bounded = axum::http::Response::new(reqwest::Body::wrap_stream(chunks));
    (*bounded.status_mut(), *bounded.headers_mut()) = (status, headers);
    bounded.into()
}

/// Sends a streaming request. Converts a plain JSON answer to a stream of one event.
async fn send(http: reqwest::Client, factory: HttpRequestFactory) -> Result<reqwest::Response, OpenAIError> {
    let response = dispatch(http, factory).await?;
    let kind = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_none_or(|kind| !kind.starts_with("application/json")) {
        return Ok(response);
    }
    let whole = response.text().await.map_err(OpenAIError::Reqwest)?;
    let one_line = whole.replace(['\r', '\n'], " ");
    let stream = format!("data: {one_line}\n\ndata: [DONE]\n\n");
    let response = axum::http::Response::builder().header("content-type", "text/event-stream").body(stream);
    response.map(Into::into).map_err(|error| OpenAIError::Boxed(Box::new(error)))
}
