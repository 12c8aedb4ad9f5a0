//! The model, asked for a call of a tool, and the embedder, asked for a vector.

use super::finding::Finding;
use crate::app;
use crate::config::{Config, ModelEndpoint};
use crate::db::embeddings::Space;
use crate::domain::{Access, Message, ToolSpec};
use crate::knowledge::embed;
use crate::llm::{Choice, Completion, ModelError, Request};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The tool that the model has to call, and the word it is given.
const TOOL: &str = "report_ready";
const WORD: &str = "green";

/// One request; nothing of it is written down.
pub(super) async fn check(config: &Config, http: reqwest::Client) -> Vec<Finding> {
    let Some(endpoint) = &config.model else {
        let finding =
            Finding::note("model", "none is configured: the built-in analyst works from the runbooks");
        return vec![finding.advice("set `model.url` and `model.name` (LITELLM_URL, LITELLM_MODEL)")];
    };
    // What a second attempt would hide is worth knowing here.
    let endpoint = ModelEndpoint { max_attempts: 1, ..endpoint.clone() };
    let began = Instant::now();
    let answer = app::model(&endpoint, http).complete(&request()).await;
    let took = began.elapsed();
    vec![match answer {
        Ok(completion) => answered(&endpoint, &completion, took),
        Err(error) => failed(&endpoint, &error),
    }]
}

fn request() -> Request {
    let schema = json!({"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]});
    let tool = ToolSpec {
        name: TOOL.to_owned(),
        description: "Says that you are ready.".to_owned(),
        input_schema: Arc::new(schema),
        access: Access::Read,
    };
    let text = format!("This is a test of the connection. Call the tool {TOOL} with the word {WORD}.");
    Request {
        messages: vec![Message::User { text }],
        tools: [tool].into(),
        choice: Choice::Only(TOOL.to_owned()),
        account: None,
    }
}

fn answered(endpoint: &ModelEndpoint, completion: &Completion, took: Duration) -> Finding {
    let (name, usage, took) = (&endpoint.name, completion.usage, took.as_millis());
    let figures = format!("in {took} ms, with {} + {} tokens", usage.input_tokens, usage.output_tokens);
    let call = completion.tool_calls.iter().find(|call| call.name == TOOL);
    let arguments = call.map(|call| serde_json::from_str::<Value>(&call.arguments).unwrap_or_default());
    let finding = match arguments {
        Some(arguments) if arguments["word"].is_string() => {
            Finding::ok("model", format!("`{name}` called the tool it was asked to {figures}"))
        }
        Some(_) => Finding::warning("model", format!("`{name}` called the tool with arguments that do not fit it, {figures}"))
            .advice("expect answers that are given back to it; another model, or its server's parser of tool calls, may do better"),
        None if completion.truncated => {
            Finding::error("model", format!("`{name}` reached its output limit before it called the tool, {figures}"))
                .advice("raise `model.max_output_tokens`, or leave it out")
        }
        None => Finding::error("model", format!("`{name}` answered without calling the tool that it had to call, {figures}"))
            .advice("choose a model that calls tools, or turn that on at its server (vLLM: --enable-auto-tool-choice and --tool-call-parser); without it the built-in analyst concludes every investigation"),
    };
    finding.data(json!({ "model": name, "took_ms": took, "usage": usage }))
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

/// One text.
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
