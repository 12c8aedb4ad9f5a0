//! Forms become the JSON bodies that the API's handlers judge, and what they answer becomes a page again.

use crate::api::Problem;
use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Map, Value};

/// The fields of a form that was sent.
pub(super) type FormFields = Vec<(String, String)>;

/// Fields that a form or a query may have: a tool's arguments are the most.
const MAX_FIELDS: usize = 500;

/// The fields of a form or a query; `None` when there are more than any has.
pub(super) fn pairs(text: &[u8]) -> Option<FormFields> {
    let mut pairs = form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), value.into_owned()));
    let sent: FormFields = pairs.by_ref().take(MAX_FIELDS).collect();
    pairs.next().is_none().then_some(sent)
}

/// What is said of too many.
pub(super) fn too_many() -> Problem {
    let detail = format!("there are more than {MAX_FIELDS} fields");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// The last value of a field, trimmed; empty when there is none.
pub(super) fn field<'a>(sent: &'a FormFields, name: &str) -> &'a str {
    sent.iter().rev().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
}

/// How a field's text becomes JSON.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// As it is; browsers send line ends as two characters.
    Text,
    /// A number; what is none goes on as text, to be complained about.
    Number,
    /// A list, one entry a line.
    Lines,
    /// An object of `NAME: value` lines.
    Pairs,
}

/// The JSON body of an API request; fields left empty are `null`.
pub(super) fn body(sent: &FormFields, fields: &[(&str, Kind)]) -> Bytes {
    let object: Map<String, Value> =
        fields.iter().map(|(name, kind)| ((*name).to_owned(), one(sent, name, *kind))).collect();
    Bytes::from(Value::Object(object).to_string())
}

/// The value of one field; `null` when it was left empty.
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

/// What a form shows again after it was refused: what was sent, and what is wrong with it.
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
