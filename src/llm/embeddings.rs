//! Embeddings of an OpenAI-compatible endpoint, with retries. Callers decide how to use the vectors.

use super::ModelError;
use super::failure::{Attempt, attempt_error};
use super::openai::{dispatch, endpoint, pause};
use crate::budget::Ledger;
use crate::domain::Usage;
use crate::evidence::tokens;
use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::middleware::HttpRequestFactory;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Base of the pause between attempts.
const BACKOFF: Duration = Duration::from_millis(500);

/// Client for embeddings.
pub struct EmbeddingClient {
    client: Client<OpenAIConfig>,
    model: String,
    ledger: Option<Arc<Ledger>>,
}

impl EmbeddingClient {
    /// Creates the client without sending a request.
    #[must_use]
    pub fn new(url: &str, key: Option<&SecretString>, model: &str, http: reqwest::Client) -> Self {
        let service = tower::service_fn(move |factory: HttpRequestFactory| dispatch(http.clone(), factory));
        let client = Client::with_config(endpoint(url, key)).with_http_service(service);
        Self { client, model: model.to_owned(), ledger: None }
    }

    /// Sets the ledger that records the usage.
    #[must_use]
    pub fn noted(self, ledger: Option<Arc<Ledger>>) -> Self {
        Self { ledger, ..self }
    }

    /// Returns one vector per text, in order.
    ///
    /// # Errors
    /// The endpoint is unavailable after `attempts`, rejects the request, or returns something other than vectors.
    pub async fn embed(&self, texts: Vec<String>, attempts: u32) -> Result<Vec<Vec<f32>>, ModelError> {
        let body = json!({ "model": self.model, "input": texts, "encoding_format": "float" });
        let mut made = 0;
        loop {
            match self.attempt(&body).await {
                Ok(vectors) => return Ok(vectors),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Retry { message, after }) => {
                    made += 1;
                    if made >= attempts {
                        return Err(ModelError::Unavailable { attempts: made, message });
                    }
                    let pause = pause(BACKOFF, made - 1, after);
                    tracing::debug!(
                        attempt = made,
                        pause_ms = pause.as_millis(),
                        "the embedding model is asked again"
                    );
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn attempt(&self, body: &Value) -> Result<Vec<Vec<f32>>, Attempt> {
        let embeddings = self.client.embeddings();
        let asked = embeddings.create_byot::<_, Value>(body.clone());
        let answer = timeout(REQUEST_TIMEOUT, asked).await;
        let answer = answer.map_err(|_| Attempt::retry("the endpoint took longer than a minute"))?;
        let answer = answer.map_err(|error| attempt_error(&error))?;
        if let Some(ledger) = &self.ledger {
            let (usage, estimated) = used(&answer, body);
            ledger.note(&self.model, usage, estimated).await;
        }
        vectors(&answer)
    }
}

/// Returns the usage reported by the endpoint, or else a local count, and whether it was counted locally.
fn used(answer: &Value, body: &Value) -> (Usage, bool) {
    let usage = |input_tokens| Usage { input_tokens, ..Usage::default() };
    let told = ["prompt_tokens", "total_tokens"].iter().find_map(|name| answer["usage"][name].as_u64());
    if let Some(told) = told.filter(|tokens| *tokens > 0) {
        return (usage(told), false);
    }
    let texts = body["input"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let counted: usize = texts.map(tokens::count).sum();
    (usage(u64::try_from(counted).unwrap_or(u64::MAX)), true)
}

/// Returns `data[].embedding`, ordered by `data[].index`.
fn vectors(answer: &Value) -> Result<Vec<Vec<f32>>, Attempt> {
    let wrong = || {
        let message = "the endpoint answered something else than embeddings".to_owned();
        Attempt::Final(ModelError::Refused { status: None, message })
    };
    let data = answer["data"].as_array().ok_or_else(wrong)?;
    let mut found = Vec::with_capacity(data.len());
    for (at, item) in data.iter().enumerate() {
        let index = item["index"].as_u64().map_or(at, |index| usize::try_from(index).unwrap_or(at));
        let numbers = item["embedding"].as_array().filter(|numbers| !numbers.is_empty()).ok_or_else(wrong)?;
        #[expect(clippy::cast_possible_truncation, reason = "embeddings are single precision")]
        let vector: Option<Vec<f32>> =
            numbers.iter().map(|number| number.as_f64().map(|number| number as f32)).collect();
        found.push((index, vector.ok_or_else(wrong)?));
    }
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, vector)| vector).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_endpoints_or_counted_here() {
        let body = json!({"input": ["one two", "three"]});
        let usage = |input_tokens| Usage { input_tokens, ..Usage::default() };
        assert_eq!(
            used(&json!({"usage": {"prompt_tokens": 7, "total_tokens": 9}}), &body),
            (usage(7), false)
        );
        assert_eq!(used(&json!({"usage": {"total_tokens": 9}}), &body), (usage(9), false));
        assert_eq!(used(&json!({"data": []}), &body), (usage(3), true));
    }

    #[test]
    fn vectors_come_in_the_order_of_their_texts() {
        let answer = json!({"data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1]}]});
        assert_eq!(vectors(&answer), Ok(vec![vec![1.0], vec![2.0]]));
        assert!(vectors(&json!({"error": "no"})).is_err());
        assert!(vectors(&json!({"data": [{"embedding": "AAAA"}]})).is_err());
    }
}
