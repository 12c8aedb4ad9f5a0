//! A chat completion request: messages and all other parameters of the API, each either supported or refused, never silently
//! ignored.

use super::error::ApiError;
use crate::api::json::{self, FieldFilter, Words};
use crate::chat::{ExternalMessage, Sampling};
use crate::domain::MessageRole;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Maximum length of a history, in bytes.
const MAX_HISTORY: usize = 1_000_000;
/// Maximum number of messages in a history.
const MAX_MESSAGES: usize = 10_000;
/// Maximum number of stop sequences.
const MAX_STOPS: usize = 4;

/// Fields that are read apart from the parameters.
const READ: [&str; 4] = ["model", "messages", "stream", "user"];
/// Parameters that do not affect the answer: accepted without effect.
const HINTS: [&str; 3] = ["safety_identifier", "prompt_cache_key", "parallel_tool_calls"];
/// All other known parameters.
const PARAMETERS: &[&str] = &[
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "n",
    "stop",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "seed",
    "store",
    "metadata",
    "modalities",
    "audio",
    "prediction",
    "service_tier",
    "reasoning_effort",
    "verbosity",
    "web_search_options",
    "prompt_cache_retention",
];

/// A request for a completion. Other parameters of OpenAI's API are taken with the value that changes nothing, and refused with
/// any other one.
#[derive(ToSchema)]
#[schema(as = ChatCompletionRequest)]
#[expect(dead_code, reason = "describes the body; it is read by its own type")]
pub(super) struct Described {
    /// Name of an agent.
    model: String,
    /// The history; the last message is the user's.
    messages: Vec<ChatMessage>,
    /// As server-sent events.
    stream: Option<bool>,
    /// What a stream tells beside the answer.
    stream_options: Option<StreamOptions>,
    /// Who asks. Histories of different users of one caller are told apart.
    user: Option<String>,
    /// Longest answer of the model, in tokens; the agent's own limit holds too.
    max_completion_tokens: Option<u32>,
    /// The older name of `max_completion_tokens`.
    max_tokens: Option<u32>,
    /// 0 to 2; the agent's own when left out.
    temperature: Option<f32>,
}

/// Options of a stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read with the other parameters")]
struct StreamOptions {
    /// A last chunk tells the tokens used.
    include_usage: Option<bool>,
}

/// A chat completion request.
#[derive(Debug, Deserialize)]
pub(super) struct Completion {
    pub(super) model: String,
    pub(super) messages: Vec<Turn>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    pub(super) user: Option<String>,
    #[serde(skip)]
    pub(super) parameters: Parameters,
}

/// A message of a history.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read by its own type")]
struct ChatMessage {
    /// `user`, `assistant`, `system` or `developer`.
    role: String,
    /// A text.
    content: String,
}

/// One message of the history.
#[derive(Debug, Deserialize)]
pub(super) struct Turn {
    pub(super) role: String,
    #[serde(default)]
    content: Words,
}

impl Turn {
    /// Returns the text of the message.
    pub(super) fn text(&self) -> String {
        // PostgreSQL cannot store a NUL in text.
        self.content.0.replace('\0', "\u{fffd}")
    }

    /// Converts to a message of a conversation.
    pub(super) fn said(&self, model: &str) -> ExternalMessage {
        let (role, author) = match self.role.as_str() {
            "assistant" => (MessageRole::Assistant, model),
            "system" | "developer" => (MessageRole::User, "client"),
            _ => (MessageRole::User, "user"),
        };
        ExternalMessage { role, author: author.to_owned(), text: self.text() }
    }
}

/// Parameters of the answer.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Parameters {
    pub(super) sampling: Sampling,
    pub(super) include_usage: bool,
    /// Stop sequences: the answer ends before any of these.
    pub(super) stop: Vec<String>,
    /// The answer must be a JSON object.
    pub(super) json: bool,
}

impl Completion {
    /// Parses a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let bad = |error: serde_json::Error| ApiError::bad(format!("the body is not understood: {error}"));
        let mut request: Self = serde_json::from_slice(body).map_err(bad)?;
        if request.messages.len() > MAX_MESSAGES {
            return Err(
                ApiError::bad(format!("there are more than {MAX_MESSAGES} messages")).about("messages")
            );
        }
        if request.messages.iter().map(|turn| turn.content.0.len()).sum::<usize>() > MAX_HISTORY {
            let message = format!("the messages are longer than {MAX_HISTORY} bytes together");
            return Err(ApiError::bad(message).about("messages"));
        }
        let is_known =
            |name: &str| READ.contains(&name) || HINTS.contains(&name) || PARAMETERS.contains(&name);
        if let Some(name) = json::unknown(body, is_known).map_err(bad)? {
            return Err(unknown(&name));
        }
        let object = json::object(body, FieldFilter::Of(PARAMETERS)).map_err(bad)?.unwrap_or_default();
        if let Some(name) = object.too_many.first() {
            return Err(unsupported(name, format!("`{name}` holds more values than are read here")));
        }
        request.parameters = Parameters::read(&object.values)?;
        Ok(request)
    }

    pub(super) fn streams(&self) -> bool {
        self.stream.unwrap_or_default()
    }
}

/// Returns the error for an unknown parameter.
fn unknown(name: &str) -> ApiError {
    let name: String = name.chars().take(100).flat_map(char::escape_debug).collect();
    let message = format!("`{name}` is no parameter of this endpoint; leave it out");
    ApiError::new(StatusCode::BAD_REQUEST, message, "unknown_parameter").about(name)
}

/// Returns the error for a parameter whose value is not supported.
pub(super) fn unsupported(name: &str, message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message, "unsupported_parameter").about(name)
}

/// Returns whether a value has no effect.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

impl Parameters {
    fn read(values: &Map<String, Value>) -> Result<Self, ApiError> {
        let mut read = Self::default();
        // A blank stop sequence is read as an empty text; it must not be ignored.
        let is_asked = |name: &str, value: &Value| !is_empty(value) || (name == "stop" && value.is_string());
        for (name, value) in values.iter().filter(|(name, value)| is_asked(name, value)) {
            read.take(name, value, values)?;
        }
        Ok(read)
    }

    fn take(&mut self, name: &str, value: &Value, all: &Map<String, Value>) -> Result<(), ApiError> {
        let only = |neutral: bool, why: &str| {
            if neutral { Ok(()) } else { Err(unsupported(name, format!("`{name}`: {why}"))) }
        };
        let number = value.as_f64();
        match name {
            "max_tokens" | "max_completion_tokens" => self.limit(name, value)?,
            "temperature" => {
                let fits = number.filter(|number| (0.0..=2.0).contains(number));
                #[expect(clippy::cast_possible_truncation, reason = "0 to 2")]
                let fits = fits.map(|number| number as f32);
                self.sampling.temperature = fits;
                only(fits.is_some(), "has to be a number from 0 to 2")?;
            }
            "stream_options" => self.stream_options(value)?,
            "stop" => self.stops(value)?,
            "response_format" => match value["type"].as_str() {
                Some("text") => {}
                Some("json_object") => self.json = true,
                _ => only(false, "answers are texts; ask for `text`")?,
            },
            "n" => only(number == Some(1.0), "one answer is made of a request; ask for 1, or ask again")?,
            "tools" | "functions" => {
                let choice = all.get(if name == "tools" { "tool_choice" } else { "function_call" });
                let none = choice.and_then(Value::as_str) == Some("none");
                only(
                    none,
                    "tools are called by the agent here, not by the client; add an MCP server instead, and leave it out",
                )?;
            }
            "tool_choice" | "function_call" => only(
                matches!(value.as_str(), Some("none" | "auto")),
                "the agent chooses its tools by itself; leave it out",
            )?,
            "top_p" => only(number == Some(1.0), "is not passed on; set `temperature`")?,
            "presence_penalty" | "frequency_penalty" | "top_logprobs" => {
                only(number == Some(0.0), "is not passed on; leave it out")?;
            }
            "logprobs" => only(*value == Value::Bool(false), "probabilities are not known of an answer")?,
            "store" => {
                only(*value == Value::Bool(false), "conversations are kept here anyway; leave it out")?
            }
            "modalities" => only(*value == serde_json::json!(["text"]), "answers are texts")?,
            "service_tier" => {
                only(
                    matches!(value.as_str(), Some("auto" | "default")),
                    "there are no tiers here; leave it out",
                )?;
            }
            "seed" => only(
                false,
                "an answer depends on tools and records and cannot be made again the same; leave it out",
            )?,
            _ => only(false, "is not supported; leave it out")?,
        }
        Ok(())
    }

    fn limit(&mut self, name: &str, value: &Value) -> Result<(), ApiError> {
        let limit = value.as_u64().filter(|limit| *limit > 0).and_then(|limit| u32::try_from(limit).ok());
        let Some(limit) = limit else {
            return Err(unsupported(name, format!("`{name}`: has to be a whole number from 1")));
        };
        let known = self.sampling.max_output_tokens.get_or_insert(limit);
        *known = limit.min(*known);
        Ok(())
    }

    fn stream_options(&mut self, value: &Value) -> Result<(), ApiError> {
        for (name, value) in value.as_object().into_iter().flatten() {
            match (name.as_str(), value.as_bool()) {
                ("include_usage", Some(include)) => self.include_usage = include,
                ("include_obfuscation", Some(false)) => {}
                _ => {
                    let name = format!("stream_options.{name}");
                    return Err(unsupported(
                        &name,
                        format!("`{name}`: `include_usage` alone is taken, true or false"),
                    ));
                }
            }
        }
        Ok(())
    }

    fn stops(&mut self, value: &Value) -> Result<(), ApiError> {
        let all = match value {
            Value::Array(all) => all.iter().map(Value::as_str).collect(),
            one => vec![one.as_str()],
        };
        let stops: Option<Vec<&str>> = all.into_iter().collect();
        let fits = |stops: &Vec<&str>| stops.len() <= MAX_STOPS && stops.iter().all(|stop| !stop.is_empty());
        let Some(stops) = stops.filter(fits) else {
            let why =
                format!("`stop`: has to be a text with more than blanks, or a list of at most {MAX_STOPS}");
            return Err(unsupported("stop", why));
        };
        self.stop = stops.into_iter().map(str::to_owned).collect();
        Ok(())
    }

    /// Refuses parameters that an agent does not support, though a plain completion does.
    pub(super) fn for_an_agent(&self) -> Result<(), ApiError> {
        if !self.stop.is_empty() {
            let why =
                "`stop`: an agent's answer is kept whole with its citations and is not cut; leave it out";
            return Err(unsupported("stop", why));
        }
        if self.json {
            return Err(unsupported(
                "response_format",
                "`response_format`: an agent's answers are texts; ask for `text`",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(more: &Value) -> Result<Parameters, String> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let read = Completion::read(body.to_string().as_bytes()).map(|request| request.parameters);
        read.map_err(|error| error.param().unwrap_or("none").to_owned())
    }

    #[test]
    fn what_changes_nothing_is_taken_and_what_would_is_honoured_or_refused() {
        let neutral = json!({
            "n": 1, "stop": [], "tools": [], "tool_choice": "auto", "functions": null, "response_format": {"type": "text"},
            "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "logprobs": false,
            "seed": null, "store": false, "metadata": {}, "modalities": ["text"], "service_tier": "auto",
            "parallel_tool_calls": true, "safety_identifier": "x", "stream": null, "whatever": null,
        });
        assert_eq!(read(&neutral), Ok(Parameters::default()));
        let honoured = json!({"max_tokens": 50, "max_completion_tokens": 20, "temperature": 0.5, "stop": ["\n"],
            "stream_options": {"include_usage": true}});
        let sampling = Sampling { max_output_tokens: Some(20), temperature: Some(0.5) };
        let wanted = Parameters { sampling, include_usage: true, stop: vec!["\n".to_owned()], json: false };
        assert_eq!(read(&honoured), Ok(wanted));
        let tool = json!({"type": "function", "function": {"name": "f"}});
        assert!(read(&json!({"tools": [tool], "tool_choice": "none"})).is_ok());
        for (param, value) in [
            ("n", json!(2)),
            ("max_tokens", json!(0)),
            ("max_completion_tokens", json!("many")),
            ("temperature", json!(3)),
            ("stop", json!(["a", "b", "c", "d", "e"])),
            ("stop", json!("\n")),
            ("tools", json!([tool])),
            ("tool_choice", json!("required")),
            ("response_format", json!({"type": "json_schema", "json_schema": {"name": "s"}})),
            ("top_p", json!(0.9)),
            ("seed", json!(7)),
            ("logprobs", json!(true)),
            ("store", json!(true)),
            ("modalities", json!(["audio"])),
            ("reasoning_effort", json!("low")),
            ("metadata", json!({"a": "b"})),
            ("service_tier", json!("flex")),
            ("top_k", json!(40)),
            ("stream_options", json!({"include_usage": "yes"})),
        ] {
            let error = read(&json!({param: value})).unwrap_err();
            assert!(error.starts_with(param), "{param}: {error}");
        }
        let agents = |more: Value| {
            read(&more).unwrap().for_an_agent().map_err(|error| error.param().map(str::to_owned))
        };
        assert_eq!(agents(json!({"stop": ["x"]})), Err(Some("stop".to_owned())));
        assert_eq!(
            agents(json!({"response_format": {"type": "json_object"}})),
            Err(Some("response_format".to_owned()))
        );
        assert_eq!(agents(json!({"max_tokens": 5})), Ok(()));
    }
}
