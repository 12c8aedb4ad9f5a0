//! Reads fields of a JSON body and of query strings, and reports each invalid one. Ignores unknown fields.

use super::json::{self, FieldFilter, MAX_VALUES};
use super::parse::parsed;
use super::problem::{FieldError, Problem};
use crate::app::App;
use crate::clock;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Reads an optional time of a query string (RFC 3339).
pub(super) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let time: Option<DateTime<Utc>> = Option::deserialize(from)?;
    match time {
        Some(time) if !clock::can_be_stored(time) => Err(D::Error::custom("is too long ago")),
        _ => Ok(time),
    }
}

/// Fields of a request.
#[derive(Default)]
pub(super) struct Fields {
    values: Map<String, Value>,
    /// Fields that hold more than `MAX_VALUES` values.
    too_many: BTreeSet<String>,
    errors: Vec<FieldError>,
}

/// Format of a text.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// RFC 1123 label: namespaces and containers.
    Label,
    /// RFC 1123 subdomain: pods.
    Subdomain,
    /// A single line of at most this many bytes.
    Line(usize),
    /// An http or https URL.
    Url,
    /// Any text.
    Text,
}

impl Fields {
    /// Reads these fields of a JSON body; parses a large body on a blocking thread.
    pub(super) async fn of_body(
        app: &App,
        body: Result<Bytes, BytesRejection>,
        known: FieldFilter,
    ) -> Result<Self, Problem> {
        let body =
            body.map_err(|rejection| Problem::new(rejection.status(), "the body could not be read"))?;
        parsed(&app.blocking, body, move |body| Self::parse(body, known)).await?
    }

    pub(super) fn parse(body: &[u8], known: FieldFilter) -> Result<Self, Problem> {
        let object = json::object(body, known).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the body is not valid JSON: {error}"))
        })?;
        let detail = "the body has to be a JSON object";
        let object = object.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, detail))?;
        Ok(Self { values: object.values, too_many: object.too_many, errors: Vec::new() })
    }

    /// Creates fields from parsed values.
    pub(super) fn of(values: Map<String, Value>) -> Self {
        Self { values, ..Self::default() }
    }

    /// Returns all fields unchanged.
    pub(super) fn into_value(mut self) -> Result<Value, Problem> {
        for field in std::mem::take(&mut self.too_many) {
            self.error(&field, too_many());
        }
        let values = std::mem::take(&mut self.values);
        self.finish().map(|()| Value::Object(values))
    }

    /// Takes the value of a field, unless it is missing or `null`.
    fn take(&mut self, field: &str) -> Option<Value> {
        if self.too_many.contains(field) {
            self.error(field, too_many());
        }
        self.values.remove(field).filter(|value| !value.is_null())
    }

    pub(super) fn error(&mut self, field: &str, problem: impl Into<String>) {
        self.errors.push(FieldError { field: field.to_owned(), problem: problem.into() });
    }

    /// Takes a text that may be missing, null or empty.
    pub(super) fn optional(&mut self, field: &str, shape: Shape) -> Option<String> {
        let text = match self.take(field)? {
            Value::String(text) => text,
            other => {
                self.error(field, format!("has to be a string, not {}", kind(&other)));
                return None;
            }
        };
        if text.trim().is_empty() {
            return None;
        }
        match check(&text, shape) {
            Ok(()) => Some(text),
            Err(problem) => {
                self.error(field, problem);
                None
            }
        }
    }

    /// Takes a required text.
    pub(super) fn required(&mut self, field: &str, shape: Shape) -> String {
        let before = self.errors.len();
        let text = self.optional(field, shape);
        if text.is_none() && self.errors.len() == before {
            self.error(field, "is required");
        }
        text.unwrap_or_default()
    }

    /// Takes an id that may be missing or null.
    pub(super) fn id(&mut self, field: &str) -> Option<Uuid> {
        let text = self.optional(field, Shape::Line(100))?;
        let id = text.parse().ok();
        if id.is_none() {
            self.error(field, "is not an id");
        }
        id
    }

    /// Takes a number within bounds that may be missing or `null`.
    pub(super) fn number(&mut self, field: &str, least: f64, most: f64) -> Option<f64> {
        let value = self.take(field)?;
        let number = value.as_f64().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.error(field, format!("has to be a number from {least} to {most}"));
        }
        number
    }

    /// Takes a list of single-line strings that may be missing.
    pub(super) fn lines(&mut self, field: &str, most: usize) -> Option<Vec<String>> {
        let value = self.take(field)?;
        let lines: Option<Vec<String>> = value
            .as_array()
            .filter(|lines| lines.len() <= most)
            .and_then(|lines| lines.iter().map(|line| line.as_str().map(str::to_owned)).collect());
        if lines.as_ref().is_none_or(|lines| lines.iter().any(|line| check(line, Shape::Line(200)).is_err()))
        {
            self.error(field, format!("has to be a list of at most {most} strings of one line"));
        }
        lines
    }

    /// Returns whether a field is present, even if it is `null`.
    pub(super) fn has(&self, field: &str) -> bool {
        self.values.contains_key(field)
    }

    /// Returns a 422 problem if any field is invalid.
    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::fields(self.errors)) }
    }
}

fn too_many() -> String {
    format!("holds more than {MAX_VALUES} values")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn check(text: &str, shape: Shape) -> Result<(), String> {
    let label = |text: &str| {
        !text.is_empty()
            && text.len() <= 63
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    match shape {
        Shape::Label if label(text) => Ok(()),
        Shape::Label => {
            Err("is not a Kubernetes name: up to 63 lower-case letters, digits and `-`".to_owned())
        }
        Shape::Subdomain if text.len() <= 253 && text.split('.').all(label) => Ok(()),
        Shape::Subdomain => {
            Err("is not a pod name: lower-case letters, digits, `-` and `.`, up to 253".to_owned())
        }
        Shape::Line(limit) if text.len() <= limit && !text.contains(char::is_control) => Ok(()),
        Shape::Line(limit) => Err(format!("has to be one line of at most {limit} bytes")),
        Shape::Url => match (text.len() <= 2_000).then(|| reqwest::Url::parse(text)) {
            Some(Ok(url)) if matches!(url.scheme(), "http" | "https") => Ok(()),
            _ => Err("has to be an http or https URL".to_owned()),
        },
        Shape::Text => Ok(()),
    }
}
