//! API description in `/openapi.json`: adds here what all operations share.

use super::route_terms::Rule;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Server};

/// Default descriptions of responses by status.
const MEANINGS: [(&str, &str); 15] = [
    ("200", "What was asked for"),
    ("201", "It was stored"),
    ("202", "Accepted; it goes on after the answer"),
    ("204", "Done; there is nothing to return"),
    ("400", "The body cannot be read; `detail` says why"),
    ("401", "Nobody said who calls"),
    ("403", "The caller's role may not do this"),
    ("404", "There is no such thing, or the caller may not see it"),
    ("409", "It contradicts what is there; `detail` says how"),
    ("410", "It is not kept any more"),
    ("413", "The body is too large"),
    ("422", "A field or a query parameter is wrong or unknown; `errors` names each"),
    ("429", "Too many requests; `Retry-After` says when to come again"),
    ("500", "An internal error; the request id leads to it in the log"),
    ("503", "The database is away, or there is no room; try again in a moment"),
];
/// Security schemes of callers and of tracker events.
const BEARER: &str = "bearer";
const SIGNATURE: &str = "signature";
/// The only operation authenticated by a signature.
const SIGNED: &str = "/api/webhooks/tracker";

/// Adds shared parts and the server URL to the described routes.
pub(super) fn complete(api: &mut OpenApi, rules: &[Rule], public_url: Option<&str>) {
    let url = public_url.map_or("/", |url| url.trim_end_matches('/'));
    api.servers = Some(vec![Server::new(url)]);
    security(api, rules);
    for (path, _, operation) in operations(api) {
        for status in ["422", "429"] {
            let exempt =
                status == "429" && rules.iter().any(|rule| rule.path == *path && rule.rate.is_none());
            if !exempt {
                operation
                    .responses
                    .responses
                    .entry(status.to_owned())
                    .or_insert_with(|| refusal(path).into());
            }
        }
        in_one_sentence(operation);
    }
    body_limits(api, rules);
    for (path, _, operation) in operations(api) {
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            meaning(status, response);
            if status.starts_with(['4', '5']) {
                as_problem(path, response);
            }
        }
    }
}

/// Documents the maximum body size of each operation.
fn body_limits(api: &mut OpenApi, rules: &[Rule]) {
    for rule in rules {
        let Some(item) = api.paths.paths.get_mut(&rule.path) else { continue };
        let operation = match rule.method.as_str() {
            "POST" => &mut item.post,
            "PUT" => &mut item.put,
            "PATCH" => &mut item.patch,
            _ => continue,
        };
        let Some(operation) = operation else { continue };
        let description = format!("The body is larger than {}", rule.body);
        let known = operation.responses.responses.entry("413".to_owned());
        let response = known.or_insert_with(|| ResponseBuilder::new().build().into());
        if let RefOr::T(response) = response {
            response.description = description;
        }
    }
}

/// Returns every operation with its path and method.
fn operations(api: &mut OpenApi) -> impl Iterator<Item = (&String, HttpMethod, &mut Operation)> {
    api.paths.paths.iter_mut().flat_map(|(path, item)| {
        let all = [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Put, &mut item.put),
            (HttpMethod::Patch, &mut item.patch),
            (HttpMethod::Delete, &mut item.delete),
        ];
        all.into_iter().filter_map(move |(method, operation)| {
            operation.as_mut().map(|operation| (path, method, operation))
        })
    })
}

/// Documents the required role and the authentication of each operation.
fn security(api: &mut OpenApi, rules: &[Rule]) {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "An API key, a token of the OIDC issuer, or a Kubernetes service account's token; nothing where `auth.methods` is not set.",
    ));
    let signature = ApiKeyValue::with_description(
        "X-Hub-Signature-256",
        "`sha256=` and the HMAC of the body with `tracker.webhook_secret`; Gitea's `X-Gitea-Signature` is taken too.",
    );
    let components = api.components.get_or_insert_default();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer.build()));
    components.add_security_scheme(SIGNATURE, SecurityScheme::ApiKey(ApiKey::Header(signature)));
    for (path, method, operation) in operations(api) {
        let rule = rules.iter().find(|rule| rule.path == *path && rule.method == name(&method));
        operation.security = Some(match rule.and_then(|rule| rule.role) {
            Some(role) => vec![SecurityRequirement::new(BEARER, [role.as_str()])],
            None if path == SIGNED => vec![SecurityRequirement::new(SIGNATURE, Vec::<String>::new())],
            None => Vec::new(),
        });
        if rule.is_some_and(|rule| rule.role.is_some()) {
            for status in ["401", "403"] {
                operation
                    .responses
                    .responses
                    .entry(status.to_owned())
                    .or_insert_with(|| refusal(path).into());
            }
        }
    }
}

fn name(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Get => "GET",
        HttpMethod::Post => "POST",
        HttpMethod::Put => "PUT",
        HttpMethod::Patch => "PATCH",
        _ => "DELETE",
    }
}

/// Returns an error response in the route's format; its description is added later.
fn refusal(path: &str) -> Response {
    let schema = if path.starts_with("/v1/") { "OpenAiError" } else { "Problem" };
    let content = Content::new(Some(Ref::from_schema_name(schema)));
    ResponseBuilder::new().content("application/json", content).build()
}

/// Sets the default description of a response that has none.
fn meaning(status: &str, response: &mut Response) {
    if response.description.trim().is_empty() {
        let known = MEANINGS.iter().find(|(known, _)| *known == status);
        response.description = known.map_or("See the status", |(_, meaning)| *meaning).to_owned();
    }
}

/// Sets `application/problem+json` for problems, which the route macros cannot express briefly, and adds it to errors
/// without a body.
fn as_problem(path: &str, response: &mut Response) {
    if response.content.is_empty() {
        response.content = refusal(path).content;
    }
    let is_problem = |content: &RefOr<Content>| {
        let RefOr::T(content) = content else { return false };
        matches!(&content.schema, Some(RefOr::Ref(to)) if to.ref_location.ends_with("/Problem"))
    };
    if let Some(content) = response.content.get("application/json").filter(|content| is_problem(content)) {
        let content = content.clone();
        response.content.clear();
        response.content.insert("application/problem+json".to_owned(), content);
    }
}

/// Limits the summary to one sentence and moves the rest to the description.
fn in_one_sentence(operation: &mut Operation) {
    let Some(summary) = operation.summary.take() else { return };
    let whole = summary.split_whitespace().collect::<Vec<_>>().join(" ");
    let (first, rest) = whole.split_once(". ").unwrap_or((whole.trim_end_matches('.'), ""));
    if !rest.is_empty() {
        let more = operation.description.take().map(|more| format!("\n\n{more}")).unwrap_or_default();
        operation.description = Some(format!("{rest}{more}"));
    }
    operation.summary = Some(first.to_owned());
}
