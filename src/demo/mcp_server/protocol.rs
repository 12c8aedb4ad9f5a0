//! JSON-RPC messages of MCP, independent of the transport.

use super::{Effect, Offer, Tool};
use serde_json::{Value, json};

/// Supported protocol revisions, newest first.
pub(super) const REVISIONS: &[&str] = &["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

const PARSE_ERROR: i32 = -32_700;
const INVALID_REQUEST: i32 = -32_600;
const METHOD_NOT_FOUND: i32 = -32_601;
const INVALID_PARAMS: i32 = -32_602;

/// Returns the response to a message or batch; `None` for notifications and responses.
pub(super) fn answer(offer: &Offer, body: &[u8]) -> Option<Value> {
    let Ok(message) = serde_json::from_slice::<Value>(body) else {
        return Some(failure(&Value::Null, PARSE_ERROR, "the message is not JSON"));
    };
    let Value::Array(batch) = &message else {
        return answer_one(offer, &message);
    };
    if batch.is_empty() {
        return Some(failure(&Value::Null, INVALID_REQUEST, "the batch is empty"));
    }
    let answers: Vec<Value> = batch.iter().filter_map(|message| answer_one(offer, message)).collect();
    (!answers.is_empty()).then_some(Value::Array(answers))
}

/// Returns whether the response rejects a message that is not JSON-RPC.
pub(super) fn is_refusal(answer: &Value) -> bool {
    matches!(answer["error"]["code"].as_i64(), Some(code) if code == i64::from(PARSE_ERROR) || code == i64::from(INVALID_REQUEST))
}

fn answer_one(offer: &Offer, message: &Value) -> Option<Value> {
    let invalid = |why: &str| Some(failure(&Value::Null, INVALID_REQUEST, why));
    if message["jsonrpc"] != "2.0" {
        return invalid("not a JSON-RPC 2.0 message");
    }
    let Some(method) = message["method"].as_str() else {
        // Responses are ignored, because this server sends no requests.
        let response = message.get("result").or_else(|| message.get("error")).is_some();
        return if response { None } else { invalid("there is no method") };
    };
    // Without an id, the message is a notification and is accepted silently.
    let id = message.get("id")?;
    if !(id.is_string() || id.is_number()) {
        return invalid("the id is neither a string nor a number");
    }
    Some(match handle(offer, method, &message["params"]) {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, why)) => failure(id, code, &why),
    })
}

fn handle(offer: &Offer, method: &str, params: &Value) -> Result<Value, (i32, String)> {
    match method {
        "initialize" => Ok(initialized(offer, params)),
        "ping" => Ok(json!({})),
        "tools/list" if params.get("cursor").is_some_and(|cursor| !cursor.is_null()) => {
            Err((INVALID_PARAMS, "there is only one page of tools".to_owned()))
        }
        "tools/list" => Ok(json!({"tools": offer.tools.iter().map(listed).collect::<Vec<_>>()})),
        "tools/call" => {
            let name = params["name"].as_str().unwrap_or_default();
            let tool = offer
                .tools
                .iter()
                .find(|tool| tool.name == name)
                .ok_or_else(|| (INVALID_PARAMS, format!("unknown tool \"{name}\"")))?;
            Ok(called(tool, &params["arguments"]))
        }
        other => Err((METHOD_NOT_FOUND, format!("method \"{other}\" not found"))),
    }
}

/// Accepts the client's revision if supported, else returns the newest.
fn initialized(offer: &Offer, params: &Value) -> Value {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let revision = REVISIONS.iter().find(|known| **known == asked).unwrap_or(&REVISIONS[0]);
    json!({
        "protocolVersion": revision,
        "capabilities": {"tools": {"listChanged": false}},
        "serverInfo": {"name": offer.name, "version": env!("CARGO_PKG_VERSION")},
    })
}

fn listed(tool: &Tool) -> Value {
    json!({
        "name": tool.name,
        "description": tool.description,
        "inputSchema": tool.schema,
        "annotations": {
            "readOnlyHint": tool.effect == Effect::Reads,
            "destructiveHint": tool.effect == Effect::Destroys,
        },
    })
}

/// Returns the result of a call. A tool error is also a result, so that the calling model can read it.
fn called(tool: &Tool, arguments: &Value) -> Value {
    match checked(tool, arguments).and_then(|arguments| (tool.run)(&arguments)) {
        Ok(Value::String(text)) => {
            json!({"content": [{"type": "text", "text": text}], "isError": false})
        }
        Ok(value) => {
            let text = value.to_string();
            // Structured content must be an object; lists are wrapped, as common servers do.
            let structured = if value.is_object() { value } else { json!({"result": value}) };
            json!({"content": [{"type": "text", "text": text}], "structuredContent": structured, "isError": false})
        }
        Err(why) => json!({"content": [{"type": "text", "text": why}], "isError": true}),
    }
}

/// Validates the arguments after removing nulls, which many clients send for omitted fields.
fn checked(tool: &Tool, arguments: &Value) -> Result<Value, String> {
    let given: Value = match arguments {
        Value::Null => json!({}),
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        _ => return Err(format!("the arguments of {} are not an object", tool.name)),
    };
    let validator = jsonschema::validator_for(&tool.schema).map_err(|error| error.to_string())?;
    let faults: Vec<String> = validator.iter_errors(&given).map(|error| error.to_string()).collect();
    if faults.is_empty() {
        Ok(given)
    } else {
        Err(format!("the arguments do not fit {}: {}", tool.name, faults.join("; ")))
    }
}

fn failure(id: &Value, code: i32, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}
