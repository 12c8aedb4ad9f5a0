//! Checks the model with a tool call, and the embedder with a text.

use super::finding::Finding;
use crate::app;
use crate::config::{Config, ModelEndpoint};
use crate::db::embeddings::Space;
use crate::domain::ToolCalls;
use crate::knowledge::embed;
use crate::llm::{CapabilityCache, ModelError, Probed};
use serde_json::json;
use std::time::{Duration, Instant};

/// Sends one request, or a few if the model has no native tool calls. Usage is not recorded.
pub(super) async fn check(config: &Config, http: reqwest::Client) -> Vec<Finding> {
    let Some(endpoint) = &config.model else {
        let finding =
            Finding::note("model", "none is configured: the built-in analyst works from the runbooks");
        return vec![finding.advice("set `model.url` and `model.name` (LITELLM_URL, LITELLM_MODEL)")];
    };
    // A retry would hide errors that the check should report.
    let endpoint = ModelEndpoint { max_attempts: 1, ..endpoint.clone() };
    let began = Instant::now();
    let answer = app::model(&endpoint, http, &CapabilityCache::default()).probe().await;
    let took = began.elapsed();
    vec![match answer {
        Ok(probed) => answered(&endpoint, &probed, took),
        Err(error) => failed(&endpoint, &error),
    }]
}

fn answered(endpoint: &ModelEndpoint, probed: &Probed, took: Duration) -> Finding {
    let Probed { completion, way, called } = probed;
    let (name, usage, took) = (&endpoint.name, completion.usage, took.as_millis());
    let figures = format!("in {took} ms, with {} + {} tokens", usage.input_tokens, usage.output_tokens);
    let by = match way {
        ToolCalls::Auto | ToolCalls::Native => "called the tool it was asked to",
        ToolCalls::Schema => "called the tool it was asked to, by a JSON schema that its answer is held to",
        ToolCalls::Text => "called the tool it was asked to, written into its answer",
    };
    let finding = match called {
        Some(true) if *way == ToolCalls::Text => Finding::warning("model", format!("`{name}` {by} {figures}"))
            .advice("it works, with more mistakes than native calls make: turn these on at its server, if it has them (vLLM: --enable-auto-tool-choice and --tool-call-parser; llama.cpp: --jinja)"),
        Some(true) => Finding::ok("model", format!("`{name}` {by} {figures}")),
        Some(false) => Finding::warning("model", format!("`{name}` called the tool with arguments that do not fit it, {figures}"))
            .advice("expect answers that are given back to it; another model, its server's parser of tool calls, or `model.tool_calls = \"schema\"` may do better"),
        None if completion.truncated => {
            Finding::error("model", format!("`{name}` reached its output limit before it called the tool, {figures}"))
                .advice("raise `model.max_output_tokens`, or leave it out")
        }
        None => Finding::error("model", format!("`{name}` answered without calling the tool that it had to call, {figures}"))
            .advice("leave `model.tool_calls` at `auto`, choose a model that calls tools, or turn that on at its server (vLLM: --enable-auto-tool-choice and --tool-call-parser); without it the built-in analyst concludes every investigation"),
    };
    finding.data(json!({ "model": name, "tool_calls": way.as_str(), "took_ms": took, "usage": usage }))
}

fn failed(endpoint: &ModelEndpoint, error: &ModelError) -> Finding {
    let name = &endpoint.name;
    let advice = match error {
        ModelError::Refused { status: Some(401 | 403), .. } if endpoint.api_key.is_none() => {
            "set `model.api_key` (LITELLM_API_KEY)".to_owned()
        }
        ModelError::Refused { status: Some(401 | 403), .. } => {
            format!("see that `model.api_key` (LITELLM_API_KEY) is a key of this endpoint and may use `{name}`")
        }
        ModelError::Refused { status: Some(404), .. } => {
            format!("see that the endpoint has a model `{name}`, and that `model.url` (LITELLM_URL) is its base, with or without /v1")
        }
        ModelError::Refused { .. } => "see what the endpoint says, and the settings `model.…`".to_owned(),
        ModelError::ContextTooLong { .. } => "choose a model with a larger context".to_owned(),
        ModelError::Unavailable { .. } | ModelError::OverBudget { .. } => {
            "see that `model.url` (LITELLM_URL) is right and can be reached from here, and whether the endpoint is overloaded".to_owned()
        }
    };
    Finding::error("model", format!("`{name}`: {error}")).advice(advice)
}

/// Embeds one text.
pub(super) async fn embedder(config: &Config, http: &reqwest::Client, spaces: &[Space]) -> Vec<Finding> {
    const ADVICE: &str = "see `knowledge.embedder` and the settings beside it; until then words and signatures alone find runbooks";
    let embedder = match embed::configured(config, http, None) {
        Ok(embedder) => embedder,
        Err(error) => return vec![Finding::error("embedder", format!("{error:#}")).advice(ADVICE)],
    };
    let (provider, model) = (embedder.provider(), embedder.model());
    let began = Instant::now();
    let vectors = embedder.queries(&["the pod stays pending".to_owned()]).await;
    let took = began.elapsed().as_millis();
    let dimensions = match vectors {
        Ok(vectors) => vectors.first().map_or(0, Vec::len),
        Err(error) => return vec![Finding::error("embedder", error.to_string()).advice(ADVICE)],
    };
    let says = format!("`{provider}` ({model}) answers vectors of {dimensions} numbers, in {took} ms");
    let stored = spaces.iter().find(|space| space.provider == provider && space.model == model);
    let data = json!({ "provider": provider, "model": model, "dimensions": dimensions, "took_ms": took });
    let finding = match stored {
        _ if dimensions == 0 => Finding::error("embedder", format!("`{provider}` ({model}) answers no vector")).advice(ADVICE),
        Some(space) if usize::try_from(space.dimensions) != Ok(dimensions) => {
            Finding::error("embedder", format!("{says}; those that are stored have {}", space.dimensions))
                .advice("serve the model of before, or give the other one a name of its own, so that all is embedded anew")
        }
        None if !spaces.is_empty() => Finding::note("embedder", format!("{says}; all that is stored will be embedded anew"))
            .advice("nothing to do: the vectors of before answer until that is done"),
        _ => Finding::ok("embedder", says),
    };
    vec![finding.data(data)]
}
