//! Converts forms to the JSON bodies of the API handlers, and their problems to pages.

use crate::api::Problem;
use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Map, Value};

/// Fields of a submitted form.
pub(super) type FormFields = Vec<(String, String)>;

/// Maximum number of fields in a form or query; arguments of tools need the most.
const MAX_FIELDS: usize = 500;

/// Parses the fields of a form or query; `None` if there are too many.
pub(super) fn pairs(text: &[u8]) -> Option<FormFields> {
    let mut pairs = form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), value.into_owned()));
    let sent: FormFields = pairs.by_ref().take(MAX_FIELDS).collect();
    pairs.next().is_none().then_some(sent)
}

/// Returns the problem for too many fields.
pub(super) fn too_many() -> Problem {
    let detail = format!("there are more than {MAX_FIELDS} fields");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// Returns the last value of a field, trimmed; empty if it is missing.
pub(super) fn field<'a>(sent: &'a FormFields, name: &str) -> &'a str {
    sent.iter().rev().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
}

/// Conversion of a field's text to JSON.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Text; the CRLF line ends that browsers send become LF.
    Text,
    /// A number; an invalid one stays text, which the API refuses.
    Number,
    /// A list with one entry per line.
    Lines,
    /// An object of `NAME: value` lines.
    Pairs,
}

/// Returns the JSON body of an API request; empty fields are `null`.
pub(super) fn body(sent: &FormFields, fields: &[(&str, Kind)]) -> Bytes {
    let object: Map<String, Value> =
        fields.iter().map(|(name, kind)| ((*name).to_owned(), one(sent, name, *kind))).collect();
    Bytes::from(Value::Object(object).to_string())
}

/// Returns the value of one field; `null` if it is empty.
pub(super) fn one(sent: &FormFields, name: &str, kind: Kind) -> Value {
    let text = field(sent, name).replace("\r\n", "\n");
    if text.is_empty() { Value::Null } else { read(&text, kind) }
}

fn read(text: &str, kind: Kind) -> Value {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    match kind {
        Kind::Text => Value::from(text),
        Kind::Number => {
            serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| Value::from(text), Value::Number)
        }
        Kind::Lines => lines().collect(),
        Kind::Pairs => {
            let pair = |line: &str| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.trim().to_owned(), Value::from(value.trim()))
            };
            Value::Object(lines().map(pair).collect())
        }
    }
}

/// A refused form that is shown again: the submitted values and the problem.
#[derive(serde::Serialize)]
pub(super) struct RejectedForm {
    pub(super) sent: Map<String, Value>,
    pub(super) problem: Problem,
}

impl RejectedForm {
    pub(super) fn new(sent: FormFields, problem: Problem) -> Self {
        Self { sent: sent.into_iter().map(|(name, value)| (name, Value::from(value))).collect(), problem }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_form_has_so_many_fields_and_no_more() {
        let sent = pairs(b"a=1&b=%C3%A9+x&&c").unwrap();
        assert_eq!((sent.len(), field(&sent, "b"), field(&sent, "c")), (3, "\u{e9} x", ""));
        assert_eq!(pairs("a&".repeat(MAX_FIELDS).as_bytes()).map(|sent| sent.len()), Some(MAX_FIELDS));
        assert_eq!(pairs("a&".repeat(MAX_FIELDS + 1).as_bytes()), None);
    }

    #[test]
    fn fields_become_the_body_the_api_takes() {
        let sent: FormFields = [
            ("name", " a "),
            ("turns", "3"),
            ("heat", "hot"),
            ("tools", "x\r\n\r\ny"),
            ("headers", "A: b: c"),
            ("prompt", ""),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let fields = [
            ("name", Kind::Text),
            ("turns", Kind::Number),
            ("heat", Kind::Number),
            ("tools", Kind::Lines),
            ("headers", Kind::Pairs),
            ("prompt", Kind::Text),
        ];
        let read: Value = serde_json::from_slice(&body(&sent, &fields)).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"name": "a", "turns": 3, "heat": "hot", "tools": ["x", "y"], "headers": {"A": "b: c"}, "prompt": null})
        );
    }
}
