//! Answers in the wire format of chat completions: complete, or in chunks.

use super::client::Client;
use super::error::ApiError;
use super::request::Turn;
use crate::app::App;
use crate::db::conversations;
use crate::domain::{Done, Event, StopReason, StreamEvent, Usage};
use axum::Json;
use axum::http::StatusCode;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use uuid::Uuid;

/// Id and model of an answer.
pub(super) struct Head {
    pub(super) id: Uuid,
    pub(super) model: String,
}

impl Head {
    fn body(&self, object: &str, choices: &Value) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.id.simple()), "object": object, "created": crate::clock::now().timestamp(),
            "model": self.model, "choices": choices,
        })
    }

    fn chunk(&self, delta: &Value, reason: &Value) -> Value {
        let choices = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]);
        self.body("chat.completion.chunk", &choices)
    }

    fn begin(&self) -> Value {
        self.chunk(&json!({"role": "assistant", "content": ""}), &Value::Null)
    }

    /// Returns the final chunks.
    fn end(&self, reason: &str, used: Option<Usage>) -> Vec<Value> {
        let mut chunks = vec![self.chunk(&json!({}), &json!(reason))];
        if let Some(used) = used {
            let mut last = self.body("chat.completion.chunk", &json!([]));
            last["usage"] = usage(used);
            chunks.push(last);
        }
        chunks
    }

    fn whole(&self, text: &str, reason: &str, used: Usage) -> Response {
        let message = json!({"role": "assistant", "content": text, "refusal": null});
        let choices = json!([{"index": 0, "message": message, "logprobs": null, "finish_reason": reason}]);
        let mut body = self.body("chat.completion", &choices);
        body["usage"] = usage(used);
        Json(body).into_response()
    }

    /// Returns an answer whose text is already complete.
    pub(super) fn answer(&self, text: &str, used: Usage, stream: Option<bool>) -> Response {
        let Some(with_usage) = stream else { return self.whole(text, "stop", used) };
        let said = self.chunk(&json!({"content": text}), &Value::Null);
        let mut chunks = vec![self.begin(), said];
        chunks.extend(self.end("stop", with_usage.then_some(used)));
        events(futures::stream::iter(chunks))
    }
}

/// An answer in progress.
pub(super) struct Open {
    pub(super) app: Arc<App>,
    pub(super) head: Head,
    pub(super) conversation: Uuid,
    pub(super) client: Client,
    pub(super) messages: Vec<Turn>,
}

impl Open {
    /// Stores the hash of the history including this answer, so that the next request continues the conversation.
    async fn remember(&self, answer: &str) {
        let thread = self.client.thread(&self.messages, Some(answer));
        if let Err(error) = conversations::set_thread(&self.app.pool, self.conversation, &thread).await {
            tracing::warn!(%error, "the conversation will not be recognised");
        }
    }

    pub(super) async fn whole(
        self,
        events: impl Stream<Item = StreamEvent> + Send,
    ) -> Result<Response, ApiError> {
        let mut events = Box::pin(events);
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event);
        }
        let Some(Event::Done(done)) = last.as_ref().map(|last: &StreamEvent| &*last.event) else {
            let message = "there is no answer; the log has more";
            return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message, "failed"));
        };
        let text = done.message.as_ref().map_or("", |message| message.text.as_str());
        self.remember(text).await;
        Ok(self.head.whole(text, reason(done), done.usage.unwrap_or_default()))
    }

    pub(super) fn stream(
        self,
        happened: impl Stream<Item = StreamEvent> + Send + 'static,
        with_usage: bool,
    ) -> Response {
        let begin = self.head.begin();
        let state = (self, String::new(), Box::pin(happened), false);
        let chunks = futures::stream::unfold(state, move |(open, mut sent, mut events, over)| async move {
            if over {
                return None;
            }
            loop {
                let event = events.next().await?;
                match &*event.event {
                    // Sent text cannot be withdrawn: the replacement follows below it.
                    Event::MessageStart { .. } if !sent.is_empty() => {
                        sent.push_str("\n\n");
                        let chunk = open.head.chunk(&json!({"content": "\n\n"}), &Value::Null);
                        return Some((vec![chunk], (open, sent, events, false)));
                    }
                    Event::TextDelta { text } => {
                        sent.push_str(text);
                        let chunk = open.head.chunk(&json!({"content": text}), &Value::Null);
                        return Some((vec![chunk], (open, sent, events, false)));
                    }
                    Event::Done(done) => {
                        open.remember(&sent).await;
                        let used = with_usage.then(|| done.usage.unwrap_or_default());
                        let chunks = open.head.end(reason(done), used);
                        return Some((chunks, (open, sent, events, true)));
                    }
                    Event::Failed { detail, .. } => {
                        let error = json!({"error": {"message": detail, "type": "server_error", "param": null, "code": "failed"}});
                        return Some((vec![error], (open, sent, events, true)));
                    }
                    _ => {}
                }
            }
        });
        events(futures::stream::iter([vec![begin]]).chain(chunks).flat_map(futures::stream::iter))
    }
}

/// Returns chunks as server-sent events.
fn events(chunks: impl Stream<Item = Value> + Send + 'static) -> Response {
    let end = futures::stream::iter([sse::Event::default().data("[DONE]")]);
    let events = chunks.map(|chunk| sse::Event::default().data(chunk.to_string())).chain(end);
    Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default()).into_response()
}

fn reason(done: &Done) -> &'static str {
    if done.stop_reason == StopReason::Answered && !done.cut_off { "stop" } else { "length" }
}

fn usage(usage: Usage) -> Value {
    json!({"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens, "total_tokens": usage.total()})
}
