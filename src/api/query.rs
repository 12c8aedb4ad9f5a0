//! Query parameters of an operation, as described in `/openapi.json`. Refuses unknown parameters and values, and lists the
//! known ones.

use super::problem::{FieldError, Problem};
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::borrow::Cow;
use std::collections::BTreeSet;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::{RefOr, Schema};

/// Maximum length of a name or value that is quoted, in characters.
const MAX_SAID: usize = 60;
/// Maximum number of invalid parameters that are reported.
const MAX_NAMED: usize = 20;

/// A parameter with its permitted values; any value if none are described.
#[derive(Debug)]
struct Parameter {
    name: String,
    values: Vec<String>,
}

/// Parameters of the operations of a path, by method.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(Method, Vec<Parameter>)>);

impl Parameters {
    /// Reads the parameters from the description of a path.
    pub(super) fn of(item: &PathItem) -> Self {
        let all = [
            (Method::GET, &item.get),
            (Method::POST, &item.post),
            (Method::PUT, &item.put),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ];
        let described =
            all.into_iter().filter_map(|(method, operation)| Some((method, known(operation.as_ref()?))));
        Self(described.collect())
    }

    fn of_method(&self, method: &Method) -> &[Parameter] {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.0.iter().find(|(of, _)| of == method).map_or(&[], |(_, known)| known)
    }

    /// Removes parameters with fixed values that are empty, as forms send them; `None` if there are none.
    fn asked(&self, method: &Method, query: &str) -> Option<String> {
        let closed = self.of_method(method).iter().filter(|parameter| !parameter.values.is_empty());
        let closed: Vec<&str> = closed.map(|parameter| parameter.name.as_str()).collect();
        let is_left_out =
            |(name, value): &(Cow<'_, str>, Cow<'_, str>)| value.is_empty() && closed.contains(&&**name);
        form_urlencoded::parse(query.as_bytes()).any(|pair| is_left_out(&pair)).then(|| {
            let asked = form_urlencoded::parse(query.as_bytes()).filter(|pair| !is_left_out(pair));
            form_urlencoded::Serializer::new(String::new()).extend_pairs(asked).finish()
        })
    }

    /// Returns the errors of a query, one per parameter.
    fn errors(&self, method: &Method, query: &str) -> Vec<FieldError> {
        if !self.0.iter().any(|(of, _)| of == method || (*of == Method::GET && *method == Method::HEAD)) {
            return Vec::new();
        }
        let known = self.of_method(method);
        let mut named = BTreeSet::new();
        let mut errors = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(problem) = problem(known, &name, &value) else { continue };
            if named.insert(name.to_string()) && errors.len() < MAX_NAMED {
                errors.push(FieldError { field: said(&name), problem });
            }
        }
        errors
    }
}

fn known(operation: &Operation) -> Vec<Parameter> {
    let parameters = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    });
    let of_query = parameters.filter(|parameter| matches!(parameter.parameter_in, ParameterIn::Query));
    let known = of_query.map(|parameter| {
        let values = match &parameter.schema {
            Some(RefOr::T(Schema::Object(schema))) => schema.enum_values.as_deref().unwrap_or_default(),
            _ => &[],
        };
        let values = values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect();
        Parameter { name: parameter.name.clone(), values }
    });
    let mut known: Vec<Parameter> = known.collect();
    known.sort_by(|a, b| a.name.cmp(&b.name));
    known
}

fn problem(known: &[Parameter], name: &str, value: &str) -> Option<String> {
    let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
        let names: Vec<String> = known.iter().map(|parameter| format!("`{}`", parameter.name)).collect();
        return Some(match names.as_slice() {
            [] => "is not known here: no query parameter is taken".to_owned(),
            names => format!("is not known here: the query parameters are {}", names.join(", ")),
        });
    };
    let fits = value.is_empty()
        || parameter.values.is_empty()
        || parameter.values.iter().any(|known| known == value);
    let values = || parameter.values.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
    (!fits).then(|| format!("has to be one of {}, not `{}`", values(), said(value)))
}

/// Escapes and truncates a text of the caller for quoting.
fn said(text: &str) -> String {
    let mut said: String = text.chars().take(MAX_SAID).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SAID).is_some() {
        said.push('…');
    }
    said
}

/// Passes a request on if the operation accepts its query.
pub(super) async fn validate_query(parameters: &Parameters, mut request: Request, next: Next) -> Response {
    if let Some(query) = request.uri().query() {
        let errors = parameters.errors(request.method(), query);
        if !errors.is_empty() {
            return Problem::fields(errors).into_response();
        }
        if let Some(query) = parameters.asked(request.method(), query)
            && let Ok(uri) = format!("{}?{query}", request.uri().path()).parse()
        {
            *request.uri_mut() = uri;
        }
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_described_is_named_with_what_is() {
        let parameter = |name: &str, values: &[&str]| Parameter {
            name: name.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let get = vec![parameter("limit", &[]), parameter("status", &["open", "resolved"])];
        let parameters = Parameters(vec![(Method::GET, get), (Method::DELETE, Vec::new())]);
        let wrong = |method: Method, query: &str| {
            let errors = parameters.errors(&method, query);
            errors.into_iter().map(|error| format!("{} {}", error.field, error.problem)).collect::<Vec<_>>()
        };
        assert!(wrong(Method::GET, "limit=5&status=open&limit=6").is_empty());
        assert!(wrong(Method::POST, "status=any").is_empty(), "no operation, so the answer is 405");
        assert_eq!(
            wrong(Method::HEAD, "Status=open&status=clo%73ed&status=x&status=open"),
            [
                "Status is not known here: the query parameters are `limit`, `status`",
                "status has to be one of `open`, `resolved`, not `closed`"
            ]
        );
        assert!(wrong(Method::GET, "status=&limit=").is_empty());
        assert_eq!(
            parameters.asked(&Method::GET, "status=&limit=&status=open").as_deref(),
            Some("limit=&status=open")
        );
        assert_eq!(parameters.asked(&Method::GET, "limit=&status=open"), None);
        assert_eq!(wrong(Method::DELETE, "a%0a"), ["a\\n is not known here: no query parameter is taken"]);
        assert_eq!(
            wrong(Method::GET, &"é".repeat(100))[0].split(' ').next(),
            Some(&*format!("{}…", "é".repeat(60)))
        );
        let many: String = (0..100).map(|at| format!("x{at}&")).collect();
        assert_eq!(wrong(Method::GET, &many).len(), MAX_NAMED);
    }
}
