//! Model endpoint settings.

use super::reader::SettingsReader;
use super::setting::{Setting, setting};
use crate::domain::ToolCalls;
use secrecy::SecretString;
use std::time::Duration;

pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "model.url",
        &["REGREEN_MODEL_URL", "LITELLM_URL"],
        "",
        "OpenAI-compatible endpoint, with or without `/v1`. Unset: the built-in `rules` analyst.",
    ),
    setting(
        "model.api_key",
        &["REGREEN_MODEL_API_KEY", "LITELLM_API_KEY"],
        "",
        "API key for it: a value, `env:NAME` or `file:/path`.",
    ),
    setting(
        "model.name",
        &["REGREEN_MODEL", "LITELLM_MODEL"],
        "",
        "Model to request; required with `model.url`.",
    ),
    setting(
        "model.tool_calls",
        &["REGREEN_MODEL_TOOL_CALLS"],
        "auto",
        "How the model calls tools: `native` (the API's own calls), `schema` (answers held to a JSON schema), `text` (written into its \
         answer), or `auto`: native, until an answer shows that it does not work; then a short request or two find out once.",
    ),
    setting(
        "model.temperature",
        &["REGREEN_MODEL_TEMPERATURE"],
        "",
        "Sampling temperature, 0 to 2. Unset: the endpoint's default.",
    ),
    setting(
        "model.max_output_tokens",
        &["REGREEN_MODEL_MAX_OUTPUT_TOKENS"],
        "",
        "Maximum size of an answer, in tokens. Unset: the endpoint's default.",
    ),
    setting("model.request_timeout", &["REGREEN_MODEL_REQUEST_TIMEOUT"], "2m", "Time limit of one request."),
    setting(
        "model.idle_timeout",
        &["REGREEN_MODEL_IDLE_TIMEOUT"],
        "1m",
        "Maximum time without data within an answer.",
    ),
    setting(
        "model.max_attempts",
        &["REGREEN_MODEL_MAX_ATTEMPTS"],
        "5",
        "Attempts per request on 408, 429, 5xx and connection errors.",
    ),
    setting(
        "model.backoff",
        &["REGREEN_MODEL_BACKOFF"],
        "500ms",
        "First delay between attempts; doubles, with jitter.",
    ),
    setting(
        "model.input_price",
        &["REGREEN_MODEL_INPUT_PRICE"],
        "",
        "Price of a million input tokens, for models without a row in `[[price]]`; requires `model.output_price`.",
    ),
    setting("model.output_price", &["REGREEN_MODEL_OUTPUT_PRICE"], "", "Price of a million output tokens."),
];

/// An OpenAI-compatible endpoint.
#[derive(Debug, Clone)]
pub struct ModelEndpoint {
    /// Base URL.
    pub url: String,
    /// API key.
    pub api_key: Option<SecretString>,
    /// Model name.
    pub name: String,
    /// Tool call mode.
    pub tool_calls: ToolCalls,
    /// Temperature.
    pub temperature: Option<f32>,
    /// Maximum output tokens.
    pub max_output_tokens: Option<u32>,
    /// Timeout of a whole request.
    pub request_timeout: Duration,
    /// Timeout between two chunks.
    pub idle_timeout: Duration,
    /// Maximum number of attempts.
    pub max_attempts: u32,
    /// Delay before the first retry.
    pub backoff: Duration,
}

/// Reads the endpoint; `None` when it is not configured.
pub(super) fn model(r: &mut SettingsReader<'_>) -> Option<ModelEndpoint> {
    r.all_or_none(&["model.url", "model.name"], "a model needs both");
    let url = r.url("model.url");
    let temperature = r.number::<f32>("model.temperature", "a number from 0 to 2");
    if temperature.is_some_and(|value| !(0.0..=2.0).contains(&value)) {
        r.mistake("`model.temperature`", "is outside 0 to 2");
    }
    let max_output_tokens = r.number("model.max_output_tokens", "a number of tokens");
    let name = r.one_of("model.tool_calls", ToolCalls::NAMES);
    let tool_calls = name.parse().unwrap_or_default();
    let endpoint = ModelEndpoint {
        url: url.clone().unwrap_or_default(),
        api_key: r.secret("model.api_key"),
        name: r.text("model.name").unwrap_or_default(),
        tool_calls,
        temperature,
        max_output_tokens,
        request_timeout: r.duration("model.request_timeout"),
        idle_timeout: r.duration("model.idle_timeout"),
        max_attempts: r.bounded("model.max_attempts", 1, 20),
        backoff: r.duration("model.backoff"),
    };
    url.map(|_| endpoint)
}
