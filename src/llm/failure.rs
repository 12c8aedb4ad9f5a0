//! Classifies errors of an endpoint: retry, context too long, or final.

use super::ModelError;
use async_openai::error::OpenAIError;
use serde_json::Value;
use std::time::Duration;

/// Maximum length of an endpoint's message in characters.
const MAX_MESSAGE: usize = 300;
/// Maximum bytes read from an error body.
const MAX_BODY: usize = 64 * 1024;

/// Message for an answer above the size limit.
pub(super) const TOO_LARGE: &str = "the answer is larger than 8 MiB";

/// Result of a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// A retry may succeed, after the pause requested by the endpoint.
    Retry { message: String, after: Option<Duration> },
    /// A retry will not succeed.
    Final(ModelError),
}

impl Attempt {
    pub(super) fn retry(message: &str) -> Self {
        Self::Retry { message: message.to_owned(), after: None }
    }
}

/// An unsuccessful response, read before the client library processes it.
#[derive(Debug, thiserror::Error)]
#[error("HTTP {status}")]
pub(super) struct HttpFailure {
    status: u16,
    after: Option<Duration>,
    body: String,
}

impl HttpFailure {
    /// Reads status, `Retry-After` and the body up to the limit.
    pub(super) async fn read(mut response: reqwest::Response) -> Self {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let after =
            header("retry-after").or_else(|| header("llm_provider-retry-after")).and_then(retry_after);
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BODY {
                body.truncate(MAX_BODY);
                break;
            }
        }
        Self { status, after, body: String::from_utf8_lossy(&body).into_owned() }
    }
}

/// Parses `Retry-After`: seconds or an HTTP date (RFC 9110, 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = chrono::DateTime::parse_from_rfc2822(value.trim()).ok()?;
    (date.with_timezone(&chrono::Utc) - crate::clock::now()).to_std().ok()
}

/// Classifies an error of the client library.
pub(super) fn attempt_error(error: &OpenAIError) -> Attempt {
    if says(error, TOO_LARGE) {
        return Attempt::Final(ModelError::Refused { status: None, message: TOO_LARGE.to_owned() });
    }
    match error {
        OpenAIError::Boxed(inner) => match inner.downcast_ref::<HttpFailure>() {
            Some(failure) => http_failure(failure),
            None => Attempt::retry("the request could not be sent"),
        },
        OpenAIError::Reqwest(error) if error.is_builder() => Attempt::Final(ModelError::Refused {
            status: None,
            message: "the endpoint's address or the key cannot be used in a request".to_owned(),
        }),
        OpenAIError::Reqwest(error) if error.is_connect() => Attempt::retry("the endpoint cannot be reached"),
        OpenAIError::Reqwest(_) | OpenAIError::StreamError(_) => {
            Attempt::retry("the connection to the endpoint broke")
        }
        OpenAIError::ApiError(error) => refused(
            Some(error.status_code.as_u16()),
            &error.api_error.message,
            error.api_error.code.as_deref(),
        ),
        OpenAIError::InvalidArgument(_) | OpenAIError::FileSaveError(_) | OpenAIError::FileReadError(_) => {
            Attempt::Final(ModelError::Refused {
                status: None,
                message: "the request could not be built".to_owned(),
            })
        }
        OpenAIError::JSONDeserialize(..) => {
            Attempt::retry("the endpoint answered with something that is not JSON")
        }
    }
}

/// Whether the message of an error or of one of its sources contains the words.
fn says(error: &(dyn std::error::Error + 'static), words: &str) -> bool {
    error.to_string().contains(words) || error.source().is_some_and(|source| says(source, words))
}

fn http_failure(failure: &HttpFailure) -> Attempt {
    let value = serde_json::from_str::<Value>(&failure.body).unwrap_or(Value::Null);
    let attempt = if value.is_object() {
        api_error(Some(failure.status), &value)
    } else {
        refused(Some(failure.status), failure.body.trim(), None)
    };
    match attempt {
        Attempt::Retry { message, .. } => Attempt::Retry { message, after: failure.after },
        other => other,
    }
}

/// Classifies an error object: `{"error": {"message", "code"}}`, `{"error": "text"}`, `{"message"}` or `{"detail"}`; codes
/// are strings or numbers.
pub(super) fn api_error(status: Option<u16>, value: &Value) -> Attempt {
    let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let message = text(error)
        .or_else(|| text(&error["message"]))
        .or_else(|| text(&value["detail"]))
        .unwrap_or_else(|| "no reason given".to_owned());
    let code = text(&error["code"]).or_else(|| text(&error["type"]));
    let status = status.or_else(|| code.as_deref().and_then(|code| code.parse().ok()));
    refused(status, &message, code.as_deref())
}

fn refused(status: Option<u16>, message: &str, code: Option<&str>) -> Attempt {
    let shown = redacted(message);
    if too_long(message, code) {
        return Attempt::Final(ModelError::ContextTooLong { message: shown });
    }
    match status {
        Some(408 | 409 | 425 | 429 | 500..=599) => {
            let status = status.unwrap_or_default();
            Attempt::Retry { message: format!("HTTP {status}: {shown}"), after: None }
        }
        // An error within a stream has no status; the server had accepted the request.
        None => Attempt::Retry { message: shown, after: None },
        Some(_) => Attempt::Final(ModelError::Refused { status, message: shown }),
    }
}

/// Whether the error means that the context is too long. Covers OpenAI, vLLM, LiteLLM, Ollama, llama.cpp and Anthropic
/// behind a proxy.
fn too_long(message: &str, code: Option<&str>) -> bool {
    let message = message.to_lowercase();
    code == Some("context_length_exceeded")
        || [
            "context_length_exceeded",
            "contextwindowexceeded",
            "maximum context length",
            "maximum model length",
            "exceeds the available context size",
            "exceed context window",
            "context window",
            "input length and `max_tokens` exceed",
            "prompt is too long",
            "input is too long",
            "too many tokens",
        ]
        .iter()
        .any(|words| message.contains(words))
}

/// Redacts a message, joins it into one line and truncates it.
fn redacted(message: &str) -> String {
    let text = crate::evidence::redact::Redactor::new().redact(message);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_wordings_of_the_field_are_sorted() {
        let too_long = |value: Value| {
            matches!(api_error(Some(400), &value), Attempt::Final(ModelError::ContextTooLong { .. }))
        };
        assert!(too_long(
            json!({"error": {"message": "This model's maximum context length is 8192 tokens", "code": 400}})
        ));
        assert!(too_long(json!({"error": {"message": "no", "code": "context_length_exceeded"}})));
        assert!(too_long(json!({"error": "the request exceeds the available context size"})));
        assert!(matches!(
            api_error(Some(401), &json!({"detail": "bad key"})),
            Attempt::Final(ModelError::Refused { status: Some(401), .. })
        ));
        assert!(matches!(api_error(Some(503), &json!({"message": "busy"})), Attempt::Retry { .. }));
        assert!(matches!(
            api_error(None, &json!({"error": {"message": "overloaded", "code": 529}})),
            Attempt::Retry { .. }
        ));
    }

    #[test]
    fn the_key_is_not_repeated() {
        let message = format!("Incorrect API key provided: sk-{}", "abcdefghijklmnopqrstuvwx");
        assert!(!redacted(&message).contains("abcdefgh"), "{}", redacted(&message));
    }

    #[test]
    fn both_forms_of_retry_after() {
        assert_eq!(retry_after("3"), Some(Duration::from_secs(3)));
        assert!(retry_after("Fri, 01 Jan 2100 00:00:00 GMT").is_some());
        assert_eq!(retry_after("soon"), None);
    }
}
