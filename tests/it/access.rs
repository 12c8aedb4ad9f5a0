//! Who may do what: every route against every role.

use crate::support::{Setup, TestApp};
use regreen::api::{RateClass, Rule};
use regreen::auth::{NewKey, make_key};
use regreen::domain::Role;
use regreen::server::access;
use reqwest::Method;
use std::fmt::Write as _;

/// A key that may act as a role.
pub async fn key(app: &TestApp, role: Role, namespaces: &[&str]) -> String {
    let new = NewKey {
        name: format!("{}-{}", role.as_str(), uuid::Uuid::new_v4().simple()),
        role,
        namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        expires_in: None,
        by: regreen::domain::Actor::new("test", ""),
    };
    make_key(&app.pool().await, new).await.unwrap().1.expose().to_owned()
}

/// The path with something in the place of its parameters that nothing is called.
pub fn path(rule: &Rule) -> String {
    let nobody = uuid::Uuid::nil().to_string();
    let mut path = rule.path.clone();
    for (parameter, value) in [
        ("{id}", nobody.as_str()),
        ("{run}", &nobody),
        ("{label}", "E1"),
        ("{name}", "nothing"),
        ("{tool}", "none"),
        ("{choice}", "approve"),
    ] {
        path = path.replace(parameter, value);
    }
    assert!(!path.contains('{'), "{path}: give the parameter a value here");
    path
}

pub async fn status(app: &TestApp, rule: &Rule, key: Option<&str>) -> u16 {
    let method = Method::from_bytes(rule.method.as_bytes()).unwrap();
    let mut request = app.http.request(method, format!("{}{}", app.base, path(rule)));
    if rule.method != "GET" {
        request = request.header("content-type", "application/json").body("{");
    }
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    // Streams do not end; the status says it all.
    request.send().await.unwrap().status().as_u16()
}

#[test]
fn the_table_of_roles_and_routes() {
    let mut table = String::new();
    for Rule { path, method, role, body, .. } in access() {
        let (role, body) = (role.map_or("everybody", Role::as_str), body.to_string());
        let _ = writeln!(table, "{role:<9} {method:<6} {body:<19} {path}");
    }
    insta::assert_snapshot!(table);
}

#[test]
fn no_route_is_beside_the_table() {
    for (file, source, beside) in [
        ("api", include_str!("../../src/api/mod.rs"), 0),
        ("server", include_str!("../../src/server/mod.rs"), 1),
        ("web", include_str!("../../src/web/mod.rs"), 0),
    ] {
        let added = source.matches(".route(").count() + source.matches(".nest").count();
        let services = source.matches(".route_service(").count();
        assert_eq!((added, services), (0, beside), "{file}: routes are added with their role");
    }
    let described = regreen::api::openapi();
    for (path, item) in &described.paths.paths {
        let operations = [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ];
        for (method, _) in operations.iter().filter(|(_, operation)| operation.is_some()) {
            let known = access().iter().any(|rule| rule.path == *path && rule.method == *method);
            assert!(known, "{method} {path} has no role");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_lets_in_the_roles_of_the_table_and_nobody_else() {
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").start().await;
    let mut keys = Vec::new();
    for role in Role::ALL.iter().copied() {
        keys.push((role, key(&app, role, &[]).await));
    }
    let mut wrong = String::new();
    for rule in access() {
        let alone = status(&app, &rule, None).await;
        let with_bad = status(&app, &rule, Some("rgn_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")).await;
        let Some(needed) = rule.role else {
            // Whoever it is, and whatever it answers: it is the same for all.
            for (_, key) in &keys {
                assert_eq!(status(&app, &rule, Some(key)).await, alone, "{}", rule.path);
            }
            continue;
        };
        if (alone, with_bad) != (401, 401) {
            let _ = writeln!(
                wrong,
                "{} {}: {alone} without a key, {with_bad} with a wrong one",
                rule.method, rule.path
            );
        }
        for (role, key) in &keys {
            let status = status(&app, &rule, Some(key)).await;
            if matches!(status, 401 | 403 | 405) == (*role >= needed) {
                let _ = writeln!(wrong, "{} {} as {}: {status}", rule.method, rule.path, role.as_str());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    app.stop().await;
}

/// What a route tells somebody: status, kind, where to, how to say who one is, who may keep it, and which policy holds.
async fn told(client: &reqwest::Client, url: String, key: Option<&str>, accept: &str) -> (String, String) {
    let mut request = client.get(url).header("accept", accept);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let response = request.send().await.unwrap();
    let mut head = response.status().as_u16().to_string();
    for name in ["content-type", "location", "www-authenticate", "cache-control", "content-security-policy"] {
        let value = response.headers().get(name).map_or("-", |value| value.to_str().unwrap());
        let _ = write!(head, " | {}", value.split(';').next().unwrap());
    }
    (head, response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_has_the_form_that_its_reader_takes() {
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").start().await;
    let (viewer, reporter) = (key(&app, Role::Viewer, &[]).await, key(&app, Role::Reporter, &[]).await);
    let (viewer, reporter) = (Some(viewer.as_str()), Some(reporter.as_str()));
    // It does not go where it is sent.
    let client = regreen::app::http_client().unwrap();
    let evidence = format!("/reports/{}/evidence/E1", uuid::Uuid::nil());
    let (html, json) = ("text/html,*/*", "application/json");
    let mut table = String::new();
    for (path, key, accept) in [
        ("/incidents?q=a", None, html),
        ("/incidents", None, json),
        ("/incidents", Some("rgn_no"), html),
        ("/incidents", reporter, json),
        (evidence.as_str(), viewer, json),
        (&format!("{evidence}/lines"), viewer, html),
        ("/nothing", viewer, html),
        ("/nothing", viewer, json),
        ("/api/reports", None, html),
        ("/v1/models", None, html),
        ("/v1/nothing", viewer, json),
    ] {
        let (head, text) = told(&client, format!("{}{path}", app.base), key, accept).await;
        let _ = writeln!(table, "{path} | {head}");
        let has_menu = text.contains("<nav aria-label=\"Pages\">");
        let is_page = head.contains("text/html");
        assert_eq!(has_menu, is_page && (key == viewer || key == reporter), "{path} is made for its reader");
        assert_eq!(text.contains("\"invalid_api_key\""), path == "/v1/models", "{path}: {text}");
    }
    insta::assert_snapshot!(table, @r#"
    /incidents?q=a | 303 | - | /login?next=%2Fincidents%3Fq%3Da | - | private, no-store | default-src 'none'
    /incidents | 401 | text/html | - | Bearer realm="regreen" | no-store | default-src 'none'
    /incidents | 401 | text/html | - | Bearer realm="regreen", error="invalid_token" | no-store | default-src 'none'
    /incidents | 403 | text/html | - | - | private, no-store | default-src 'none'
    /reports/00000000-0000-0000-0000-000000000000/evidence/E1 | 404 | text/html | - | - | private, no-store | default-src 'none'
    /reports/00000000-0000-0000-0000-000000000000/evidence/E1/lines | 404 | application/problem+json | - | - | private, no-store | default-src 'none'
    /nothing | 404 | text/html | - | - | private, no-store | default-src 'none'
    /nothing | 404 | application/problem+json | - | - | - | frame-ancestors 'none'
    /api/reports | 401 | application/problem+json | - | Bearer realm="regreen" | no-store | frame-ancestors 'none'
    /v1/models | 401 | application/json | - | Bearer realm="regreen" | no-store | frame-ancestors 'none'
    /v1/nothing | 404 | application/problem+json | - | - | - | frame-ancestors 'none'
    "#);
    app.stop().await;
}

#[test]
fn what_counts_as_more_or_less_than_a_request_and_what_streams() {
    let rules = access();
    let named = |picked: &dyn Fn(&Rule) -> bool| -> Vec<String> {
        let picked = rules.iter().filter(|rule| picked(rule));
        picked.map(|rule| format!("{} {}", rule.method, rule.path)).collect()
    };
    assert_eq!(
        named(&|rule| rule.rate == Some(RateClass::Report)),
        ["POST /report-failure", "POST /reports/new", "POST /webhooks/alertmanager"]
    );
    assert_eq!(
        named(&|rule| rule.rate == Some(RateClass::Question)),
        ["POST /api/chat", "POST /api/chat/stream", "POST /chat", "POST /v1/chat/completions"]
    );
    assert_eq!(
        named(&|rule| rule.rate.is_none()),
        ["GET /health", "GET /health/live", "GET /health/ready", "GET /static/{name}"]
    );
    assert_eq!(
        named(&|rule| rule.streams),
        [
            "POST /api/chat/stream",
            "GET /api/chat/{run}/events",
            "GET /chat/turns/{run}",
            "GET /live",
            "POST /v1/chat/completions"
        ]
    );
}
