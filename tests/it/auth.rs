//! Who calls: keys, tokens of an issuer, service accounts of a cluster, and people who log in.

use super::access::key;
use crate::support::issuer::{Issuer, Key, forged};
use crate::support::{Answer, Setup, TestApp, eventually};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use regreen::config::Config;
use regreen::domain::Role;
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use serde_json::{Value, json};
use std::process::Command;
use tempfile::TempDir;

async fn with(app: &TestApp, path: &str, token: &str) -> Answer {
    TestApp::read(app.http.get(format!("{}{path}", app.base)).bearer_auth(token)).await
}

async fn report(app: &TestApp, key: &str, namespace: &str, idempotency: &str) -> Answer {
    let body = json!({"namespace": namespace, "pod_name": "p", "log": "error: it broke"});
    let request = app
        .http
        .post(format!("{}/report-failure", app.base))
        .header("idempotency-key", idempotency)
        .header("prefer", "respond-async")
        .json(&body);
    TestApp::read(request.bearer_auth(key)).await
}

/// The least detail that a caller is told.
fn detail(answer: &Answer) -> &str {
    answer.body["detail"].as_str().unwrap_or_default()
}

#[test]
fn others_reach_no_server_that_asks_nobody_who_they_are() {
    let config = |pairs: &'static [(&str, &str)]| {
        let env = move |name: &str| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Config::from_layers(&toml::Table::new(), &env).map_err(|mistakes| mistakes.to_string())
    };
    assert!(config(&[]).is_ok());
    let refused = config(&[("REGREEN_BIND", "0.0.0.0")]).unwrap_err();
    assert!(refused.contains("`auth.methods`") && refused.contains("keys, oidc, kubernetes"), "{refused}");
    assert!(config(&[("REGREEN_BIND", "::")]).is_err());
    assert!(config(&[("REGREEN_BIND", "0.0.0.0"), ("REGREEN_AUTH", "none")]).is_ok());
    assert!(config(&[("REGREEN_BIND", "0.0.0.0"), ("REGREEN_AUTH", "keys")]).is_ok());
    for (pairs, said) in [
        (&[("REGREEN_AUTH", "keys,none")][..], "beside other methods"),
        (&[("REGREEN_AUTH", "password")], "is no method"),
        (&[("REGREEN_AUTH", "oidc")], "`auth.oidc_issuer`"),
        (
            &[("REGREEN_AUTH", "oidc"), ("REGREEN_OIDC_ISSUER", "https://id.example")],
            "made for other programs",
        ),
        (
            &[("REGREEN_OIDC_ISSUER", "http://id.example"), ("REGREEN_OIDC_AUDIENCE", "x")],
            "has to be https://",
        ),
        (&[("REGREEN_OIDC_ROLES", "a=root")], "no role"),
    ] {
        let refused = config(pairs).unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_on_the_command_line_used_shown_never_and_taken_back() {
    let setup = Setup::bare().await.set("REGREEN_AUTH", "keys");
    let env = setup.env().clone();
    let app = setup.start().await;
    let regreen = |arguments: &'static [&'static str]| {
        let env = env.clone();
        tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
            command.env_clear().envs(env).env("RUST_LOG", "warn").args(arguments).output().unwrap()
        })
    };
    let made = regreen(&["token", "create", "--role", "viewer", "--name", "dash"]).await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert!(key.starts_with("rgn_") && String::from_utf8_lossy(&made.stderr).contains("not shown again"));
    assert_eq!(with(&app, "/api/incidents", &key).await.status, 200);
    let again = regreen(&["token", "create", "--role", "admin", "--name", "dash"]).await.unwrap();
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("dash"));
    let listed = String::from_utf8(regreen(&["token", "list"]).await.unwrap().stdout).unwrap();
    assert!(listed.contains("dash") && listed.contains("viewer") && listed.contains("used 20"), "{listed}");
    assert!(!listed.contains(&key));
    // Nothing of it is in the database.
    let kept: bool = sqlx::query_scalar(
        "select exists(select from api_keys k where k::text like '%' || $1 || '%') or exists(select from audit a where a::text like '%' || $1 || '%')",
    )
    .bind(&key[4..])
    .fetch_one(&app.pool().await)
    .await
    .unwrap();
    assert!(!kept);
    assert!(regreen(&["token", "revoke", "dash"]).await.unwrap().status.success());
    let refused = with(&app, "/api/incidents", &key).await;
    assert_eq!((refused.status, detail(&refused).contains("revoked")), (401, true), "{}", refused.body);
    assert_eq!(refused.headers["www-authenticate"], "Bearer realm=\"regreen\", error=\"invalid_token\"");
    assert!(!regreen(&["token", "revoke", "dash"]).await.unwrap().status.success());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_api_ends_when_its_time_is_over() {
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").start().await;
    let admin = key(&app, Role::Admin, &[]).await;
    let post = |body: Value| {
        TestApp::read(app.http.post(format!("{}/api/keys", app.base)).bearer_auth(&admin).json(&body))
    };
    let made = post(json!({"name": "ci", "role": "reporter", "namespaces": ["a"], "expires_in": "1h"})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    assert_eq!(with(&app, "/api/reports", &secret).await.status, 200);
    sqlx::query("update api_keys set expires_at = now() - interval '1 second' where name = 'ci'")
        .execute(&app.pool().await)
        .await
        .unwrap();
    assert_eq!(with(&app, "/api/reports", &secret).await.status, 401);
    for (body, status, said) in [
        (json!({"name": "ci", "role": "viewer"}), 409, "ci"),
        (json!({"name": "x", "role": "root"}), 422, "reporter, viewer, operator, admin"),
        (
            json!({"name": "x", "role": "operator", "namespaces": ["a"]}),
            422,
            "bind reporters and viewers only",
        ),
        (json!({"name": "x y", "role": "viewer"}), 422, "letters"),
        (json!({"name": "x", "role": "viewer", "expires_in": "soon"}), 422, "90d"),
    ] {
        let refused = post(body).await;
        assert_eq!(refused.status, status, "{}", refused.body);
        assert!(detail(&refused).contains(said), "{}", refused.body);
    }
    let listed = with(&app, "/api/keys", &admin).await.body.to_string();
    assert!(listed.contains("\"ci\"") && !listed.contains("rgn_"), "{listed}");
    let record = with(&app, "/api/audit?action=key.", &admin).await.body;
    assert_eq!(record["entries"][0]["detail"].as_str().unwrap().split(',').next(), Some("reporter in a"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reporter_reports_and_reads_what_is_its_own() {
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").start().await;
    let (a, b) = (key(&app, Role::Reporter, &["team-a"]).await, key(&app, Role::Reporter, &[]).await);
    let viewer = key(&app, Role::Viewer, &[]).await;
    let elsewhere = report(&app, &a, "team-b", "k").await;
    assert_eq!(elsewhere.status, 403);
    assert!(detail(&elsewhere).contains("`team-b`"), "{}", elsewhere.body);
    let of_a = report(&app, &a, "team-a", "k").await.body["report_id"].as_str().unwrap().to_owned();
    // The same key of another caller is another report.
    let of_b = report(&app, &b, "team-a", "k").await.body["report_id"].as_str().unwrap().to_owned();
    assert_ne!(of_a, of_b);
    assert_eq!(report(&app, &a, "team-a", "k").await.body["report_id"], of_a.as_str());
    for (own, other, token) in [(&of_a, &of_b, &a), (&of_b, &of_a, &b)] {
        assert_eq!(with(&app, &format!("/api/reports/{own}"), token).await.status, 200);
        assert_eq!(with(&app, &format!("/api/reports/{own}/evidence/E1"), token).await.status, 200);
        assert_eq!(with(&app, &format!("/api/reports/{other}"), token).await.status, 404);
        assert_eq!(with(&app, &format!("/api/reports/{other}/evidence/E1"), token).await.status, 404);
        let listed = with(&app, "/api/reports", token).await.body;
        assert_eq!(listed["reports"].as_array().unwrap().len(), 1);
        assert_eq!(listed["reports"][0]["id"], own.as_str());
    }
    assert_eq!(with(&app, "/api/reports", &viewer).await.body["reports"].as_array().unwrap().len(), 2);
    // The same through the MCP door.
    let call = async |token: &str, name: &str, arguments: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}});
        let request = app
            .http
            .post(format!("{}/mcp", app.base))
            .bearer_auth(token)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-06-18");
        TestApp::read(request.json(&body)).await.body["result"].clone()
    };
    assert_eq!(call(&a, "get_report", json!({"id": of_a})).await["structuredContent"]["id"], of_a.as_str());
    assert_eq!(call(&a, "get_report", json!({"id": of_b})).await["isError"], true);
    assert_eq!(call(&a, "search_runbooks", json!({"query": "dns"})).await["isError"], true);
    assert_ne!(call(&viewer, "search_runbooks", json!({"query": "dns"})).await["isError"], true);
    let elsewhere = call(&a, "triage_failure", json!({"namespace": "team-b", "pod_name": "p"})).await;
    assert!(elsewhere.to_string().contains("may not report"), "{elsewhere}");
    app.stop().await;
}

async fn oidc(issuer: &Issuer) -> TestApp {
    Setup::bare()
        .await
        .set("REGREEN_AUTH", "oidc")
        .set("REGREEN_OIDC_ISSUER", &issuer.url)
        .set("REGREEN_OIDC_AUDIENCE", "regreen")
        .start()
        .await
}

/// What is wrong with a token, the token, and a word of what its bearer is told.
type Attack = (&'static str, String, &'static str);

/// Tokens that somebody else put together.
fn forgeries(issuer: &Issuer) -> Vec<Attack> {
    let good = issuer.claims("regreen", &json!({}));
    let (stranger, rsa) = (Key::elliptic("first"), Key::rsa("rsa"));
    let public = issuer.key.public();
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(public[name].as_str().unwrap()).unwrap();
    let point = [coordinate("x"), coordinate("y")].concat();
    let hmac = |secret: &[u8]| {
        let header = Header { kid: Some("first".into()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(secret)).unwrap()
    };
    let first = json!({"alg": "ES256", "kid": "first"});
    let signed = issuer.key.sign(&good);
    let (head, signature) = (signed.split('.').next().unwrap(), signed.rsplit('.').next().unwrap());
    let other = URL_SAFE_NO_PAD.encode(issuer.claims("regreen", &json!({"roles": ["admin"]})).to_string());
    let headed = |change: &dyn Fn(&mut Header), key: &Key| {
        let mut header = Header { kid: Some("first".into()), ..Header::new(Algorithm::ES256) };
        change(&mut header);
        jsonwebtoken::encode(&header, &good, &key.secret).unwrap()
    };
    let named = |kid: &str| headed(&|header| header.kid = Some(kid.to_owned()), &stranger);
    let brought_along =
        headed(&|header| header.jwk = serde_json::from_value(stranger.public()).ok(), &stranger);
    let critical = headed(&|header| header.crit = Some(vec!["b64".to_owned()]), &issuer.key);
    vec![
        ("alg none", forged(&json!({"alg": "none", "typ": "JWT"}), &good, b""), "algorithm"),
        ("alg None", forged(&json!({"alg": "None", "kid": "first"}), &good, b""), "algorithm"),
        ("no signature", forged(&first, &good, b""), "signature"),
        ("zeros as a signature", forged(&first, &good, &[0; 64]), "signature"),
        ("other claims under a signature", format!("{head}.{other}.{signature}"), "signature"),
        ("public key as a shared secret", hmac(&point), "algorithm"),
        ("published key as a shared secret", hmac(public.to_string().as_bytes()), "algorithm"),
        ("empty shared secret", hmac(b""), "algorithm"),
        ("another's key of the same name", stranger.sign(&good), "signature"),
        ("another's key, brought along", brought_along, "signature"),
        ("a key of another family", rsa.sign(&good), "does not publish"),
        ("kid as a path", named("../../../../dev/null"), "does not publish"),
        ("kid as SQL", named("x' union select 'k"), "does not publish"),
        ("an extension that has to be understood", critical, "crit"),
        ("no token at all", "ey.ey.ey".to_owned(), "neither"),
        ("too long", format!("{}.{signed}", "a".repeat(17_000)), "16 KiB"),
    ]
}

/// Tokens of the issuer that are not for here and now.
fn wrong_claims(issuer: &Issuer) -> Vec<Attack> {
    let now = chrono::Utc::now().timestamp();
    let with_slash = format!("{}/", issuer.url);
    let wrong = [
        ("wrong audience", json!({"aud": "other"}), "audience"),
        ("no audience", json!({"aud": null}), "lacks"),
        ("wrong issuer", json!({"iss": "https://evil.example"}), "not trusted"),
        ("issuer with a slash", json!({"iss": with_slash}), "not trusted"),
        ("no issuer", json!({"iss": null}), "neither"),
        ("expired", json!({"exp": now - 90}), "expired"),
        ("no end", json!({"exp": null}), "lacks"),
        ("an end that is no number", json!({"exp": "never"}), "lacks"),
        ("not yet", json!({"nbf": now + 90}), "not valid yet"),
        ("no subject", json!({"sub": null}), "lacks"),
    ];
    let sign = |changes: &Value| issuer.key.sign(&issuer.claims("regreen", changes));
    wrong.map(|(what, changes, why)| (what, sign(&changes), why)).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken_from_the_issuer_for_this_server_in_its_time_and_no_other() {
    let issuer = Issuer::start().await;
    let app = oidc(&issuer).await;
    let sign = |changes: Value| issuer.key.sign(&issuer.claims("regreen", &changes));
    let taken = with(&app, "/api/approvals", &sign(json!({}))).await;
    assert_eq!(taken.status, 200, "{}", taken.body);
    let now = chrono::Utc::now().timestamp();
    // Clocks may be a little apart.
    for changes in [json!({"exp": now - 30}), json!({"nbf": now + 30}), json!({"aud": ["x", "regreen"]})] {
        assert_eq!(with(&app, "/api/approvals", &sign(changes)).await.status, 200);
    }
    for (what, token, why) in [forgeries(&issuer), wrong_claims(&issuer)].concat() {
        let refused = with(&app, "/api/approvals", &token).await;
        assert_eq!(refused.status, 401, "{what}: {}", refused.body);
        assert!(detail(&refused).contains(why), "{what}: {}", refused.body);
        assert!(!refused.body.to_string().contains(&token), "{what}");
    }
    // Known, and nothing is allowed to them.
    for changes in [json!({"roles": ["cook"]}), json!({"roles": null})] {
        let refused = with(&app, "/api/approvals", &sign(changes)).await;
        assert_eq!(
            (refused.status, detail(&refused).contains("has no role")),
            (403, true),
            "{}",
            refused.body
        );
    }
    // The highest role counts, and a list may be a text.
    for roles in [json!(["viewer", "admin", "reporter"]), json!("viewer admin")] {
        assert_eq!(with(&app, "/api/keys", &sign(json!({"roles": roles}))).await.status, 200);
    }
    assert_eq!(with(&app, "/api/keys", &sign(json!({}))).await.status, 403);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_issuer_rotate_and_are_believed_while_it_is_away() {
    let issuer = Issuer::start().await;
    let app = oidc(&issuer).await;
    issuer.away(true);
    let claims = issuer.claims("regreen", &json!({}));
    // Nothing is known of it yet: nobody's fault, worth another try.
    let unknown = with(&app, "/api/approvals", &issuer.key.sign(&claims)).await;
    assert_eq!(unknown.status, 503, "{}", unknown.body);
    assert_eq!(unknown.headers["retry-after"], "5");
    app.stop().await;

    let app = oidc(&issuer).await;
    issuer.away(false);
    assert_eq!(with(&app, "/api/approvals", &issuer.key.sign(&claims)).await.status, 200);
    issuer.away(true);
    for _ in 0..5 {
        assert_eq!(with(&app, "/api/approvals", &issuer.key.sign(&claims)).await.status, 200);
    }
    app.stop().await;

    // A new key beside the old one, then without it. A server that has not looked lately looks when it meets the new one.
    issuer.away(false);
    let second = Key::rsa("second");
    let app = oidc(&issuer).await;
    issuer.publish(vec![issuer.key.public(), second.public()]);
    let before = issuer.times_read();
    assert_eq!(with(&app, "/api/approvals", &second.sign(&claims)).await.status, 200);
    assert_eq!(with(&app, "/api/approvals", &issuer.key.sign(&claims)).await.status, 200);
    // However many keys tokens make up, the issuer is left in peace.
    for number in 0..20 {
        let made_up = Key::elliptic(&format!("made-up-{number}"));
        assert_eq!(with(&app, "/api/approvals", &made_up.sign(&claims)).await.status, 401);
    }
    assert_eq!(issuer.times_read(), before + 1);
    app.stop().await;

    // A key that checks no signatures checks none.
    let app = oidc(&issuer).await;
    let mut for_secrets = second.public();
    for_secrets["use"] = json!("enc");
    issuer.publish(vec![for_secrets, json!({"kty": "oct", "kid": "first", "k": "c2VjcmV0"})]);
    assert_eq!(with(&app, "/api/approvals", &second.sign(&claims)).await.status, 401);
    let header = Header { kid: Some("first".into()), ..Header::new(Algorithm::HS256) };
    let shared = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(b"secret")).unwrap();
    assert_eq!(with(&app, "/api/approvals", &shared).await.status, 401);
    app.stop().await;
}

/// With the folder of its own token, which it reads as long as it runs.
async fn kubernetes(issuer: &Issuer, more: &[(&str, &str)]) -> (TestApp, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "own-token\n").unwrap();
    let mut setup = Setup::bare()
        .await
        .set("REGREEN_AUTH", "kubernetes,keys")
        .set("REGREEN_KUBERNETES_API", &issuer.url)
        .set("REGREEN_KUBERNETES_TOKEN", token.to_str().unwrap())
        .set("REGREEN_KUBERNETES_ROLES", "platform/regreen-*=admin,nobody/*=viewer,team-*/**=reporter");
    for (name, value) in more {
        setup = setup.set(name, value);
    }
    (setup.start().await, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_reports_for_its_own_namespace_by_the_clusters_keys() {
    let issuer = Issuer::start().await;
    let (app, _folder) = kubernetes(&issuer, &[("REGREEN_KUBERNETES_ISSUER", &issuer.url)]).await;
    let token = |account: &str, audience: &str| {
        let sub = format!("system:serviceaccount:{account}");
        issuer.key.sign(&issuer.claims(audience, &json!({"sub": sub})))
    };
    let pipeline = token("team-a:pipeline", "regreen");
    assert_eq!(report(&app, &pipeline, "team-a", "k").await.status, 202);
    assert_eq!(report(&app, &pipeline, "team-b", "k").await.status, 403);
    let own = with(&app, "/api/reports", &pipeline).await.body;
    assert_eq!(own["reports"][0]["caller"], "kubernetes:team-a/pipeline");
    assert_eq!(with(&app, "/api/incidents", &pipeline).await.status, 403);
    assert_eq!(with(&app, "/api/keys", &token("platform:regreen-admin", "regreen")).await.status, 200);
    for (what, token, status) in [
        ("bound to the API server", token("team-a:pipeline", "https://kubernetes.default.svc"), 401),
        (
            "no service account",
            issuer.key.sign(&issuer.claims("regreen", &json!({"sub": "system:admin"}))),
            401,
        ),
        ("an account of no role", token("other:pipeline", "regreen"), 403),
    ] {
        assert_eq!(with(&app, "/api/reports", &token).await.status, status, "{what}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_is_known_by_the_api_servers_word() {
    let issuer = Issuer::start().await;
    let (app, _folder) = kubernetes(&issuer, &[]).await;
    let token = |account: &str| issuer.key.sign(&issuer.claims("regreen", &json!({"sub": account})));
    let status = |account: &str, audiences: Value| json!({"authenticated": true, "user": {"username": format!("system:serviceaccount:{account}")}, "audiences": audiences});
    let good = token("good");
    issuer.account(&good, status("team-a:pipeline", json!(["regreen"])));
    assert_eq!(report(&app, &good, "team-a", "k").await.status, 202);
    assert_eq!(report(&app, &good, "team-b", "k").await.status, 403);
    assert_eq!(with(&app, "/api/reports", &good).await.status, 200);
    // It was asked once, about this audience.
    assert_eq!(issuer.reviews().len(), 1);
    assert_eq!(issuer.reviews()[0]["spec"]["audiences"], json!(["regreen"]));
    // An API server that does not look at audiences: its word is not enough.
    let unbound = token("unbound");
    issuer.account(&unbound, status("team-a:pipeline", json!([])));
    let refused = with(&app, "/api/reports", &unbound).await;
    assert_eq!(
        (refused.status, detail(&refused).contains("audience `regreen`")),
        (401, true),
        "{}",
        refused.body
    );
    let node = token("node");
    issuer.account(
        &node,
        json!({"authenticated": true, "user": {"username": "system:node:n1"}, "audiences": ["regreen"]}),
    );
    assert_eq!(with(&app, "/api/reports", &node).await.status, 401);
    assert_eq!(with(&app, "/api/reports", &token("nobody")).await.status, 401);
    issuer.away(true);
    assert_eq!(with(&app, "/api/reports", &token("later")).await.status, 503);
    // What was said a moment ago is believed.
    assert_eq!(with(&app, "/api/reports", &good).await.status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_tokens_have_the_api_server_asked_a_few_times_by_address() {
    let issuer = Issuer::start().await;
    let (app, _folder) = kubernetes(&issuer, &[("REGREEN_TRUSTED_PROXIES", "127.0.0.0/8, ::1")]).await;
    let token = |account: &str| issuer.key.sign(&issuer.claims("regreen", &json!({"sub": account})));
    let known = |account: &str| json!({"authenticated": true, "user": {"username": format!("system:serviceaccount:{account}")}, "audiences": ["regreen"]});
    let from = async |client: &str, token: &str| {
        let request = app.http.get(format!("{}/api/reports", app.base)).header("x-forwarded-for", client);
        TestApp::read(request.bearer_auth(token)).await
    };
    let good = token("good");
    issuer.account(&good, known("team-a:pipeline"));
    assert_eq!(from("192.0.2.1", &good).await.status, 200);
    // One after another, and all at once from an address that chooses among those of its subscriber.
    let made_up: Vec<String> = (0..30).map(|number| token(&format!("made-up-{number}"))).collect();
    let mut refused = 0;
    for token in &made_up {
        let answer = from("192.0.2.1", token).await;
        assert!([401, 429].contains(&answer.status), "{answer:?}");
        refused += usize::from(answer.status == 401);
    }
    assert_eq!((refused, issuer.reviews().len()), (10, 11));
    let before = issuer.reviews().len();
    let (clients, tokens): (Vec<String>, Vec<String>) =
        (0..30).map(|number| (format!("2001:db8::{number:x}"), token(&format!("burst-{number}")))).unzip();
    futures::future::join_all(clients.iter().zip(&tokens).map(|(client, token)| from(client, token))).await;
    let asked = issuer.reviews().len() - before;
    assert!((10..=13).contains(&asked), "those that were open already are ended: {asked}");
    // Who is known goes on, and so does everybody from elsewhere. What was refused a moment ago costs no question.
    assert_eq!(from("192.0.2.1", &good).await.status, 200);
    assert_eq!(from("192.0.2.1", &made_up[0]).await.status, 401);
    let other = token("other");
    issuer.account(&other, known("team-b:pipeline"));
    let told = from("192.0.2.1", &other).await;
    assert_eq!((told.status, &told.body["title"]), (429, &json!("Too Many Requests")), "{told:?}");
    let wait: u64 = told.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait) && detail(&told).contains("from your address"), "{told:?}");
    assert_eq!(from("192.0.2.2", &other).await.status, 200);
    assert_eq!(from("192.0.2.1", &other).await.status, 200, "it is known by now");
    app.stop().await;
}

/// A client that goes nowhere by itself.
fn browserless() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn cookie(response: &reqwest::Response, name: &str) -> Option<String> {
    let all = response.headers().get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let found = all.into_iter().find(|cookie| cookie.starts_with(&format!("{name}=")))?;
    assert!(
        ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"].iter().all(|word| found.contains(word))
            && !found.contains("Domain"),
        "{found}"
    );
    Some(found.split(';').next().unwrap().to_owned())
}

fn location(response: &reqwest::Response) -> String {
    response.headers()[LOCATION].to_str().unwrap().to_owned()
}

async fn with_login(issuer: &Issuer) -> TestApp {
    Setup::bare()
        .await
        .set("REGREEN_AUTH", "oidc")
        .set("REGREEN_OIDC_ISSUER", &issuer.url)
        .set("REGREEN_OIDC_CLIENT_ID", "regreen-pages")
        .set("REGREEN_OIDC_CLIENT_SECRET", "client-secret")
        .set("REGREEN_PUBLIC_URL", "https://regreen.example")
        .set("REGREEN_OIDC_NAME_CLAIM", "email")
        .start()
        .await
}

async fn page(app: &TestApp, path: &str, cookies: &str) -> reqwest::Response {
    let request = browserless().get(format!("{}{path}", app.base)).header("accept", "text/html");
    request.header(COOKIE, cookies).send().await.unwrap()
}

/// Goes to the issuer, as a browser would: where it comes back to, and what it carries.
async fn at_issuer(app: &TestApp, next: &str) -> (String, String) {
    let sent = page(app, &format!("/login/issuer?next={next}"), "").await;
    let state = cookie(&sent, "__Host-regreen-login").unwrap();
    let at_issuer = browserless().get(location(&sent)).send().await.unwrap();
    assert_eq!(at_issuer.status(), 303, "{}", at_issuer.text().await.unwrap());
    (location(&at_issuer).replace("https://regreen.example", ""), state)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_at_the_issuer_and_out_again() {
    let issuer = Issuer::start().await;
    let app = with_login(&issuer).await;
    let away = page(&app, "/incidents?state=open", "").await;
    assert_eq!(
        (away.status().as_u16(), location(&away).as_str()),
        (303, "/login?next=%2Fincidents%3Fstate%3Dopen")
    );
    issuer.person(json!({"email": "alice@example.com", "roles": ["operator"]}));
    let (back, state) = at_issuer(&app, "/incidents").await;
    let inside = page(&app, &back, &state).await;
    assert_eq!((inside.status().as_u16(), location(&inside).as_str()), (303, "/incidents"));
    let session = cookie(&inside, "__Host-regreen").unwrap();
    let shown = page(&app, "/incidents", &session).await;
    assert_eq!(shown.status(), 200);
    assert!(shown.text().await.unwrap().contains("oidc:alice@example.com, operator"));
    assert_eq!(page(&app, "/audit", &session).await.status(), 403);
    // A page elsewhere cannot use it.
    let logout = || browserless().post(format!("{}/logout", app.base)).header(COOKIE, &session);
    let foreign = logout().header("origin", "https://evil.example").header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    // Nobody is sent elsewhere.
    let (back, state) = at_issuer(&app, "//evil.example").await;
    assert_eq!(location(&page(&app, &back, &state).await), "/");
    assert_eq!(location(&logout().send().await.unwrap()), "/login");
    assert_eq!(page(&app, "/incidents", &session).await.status(), 303);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_log_in_does_not_have_the_issuer_asked_each_time() {
    let issuer = Issuer::start().await;
    let app = with_login(&issuer).await;
    let sent = futures::future::join_all((0..20).map(|_| page(&app, "/login/issuer", ""))).await;
    assert!(sent.iter().all(|sent| sent.status() == 303));
    assert_eq!(issuer.times_discovered(), 1, "one asks, the others wait for it");
    // It comes back with a code for the endpoint that is known, and its keys are read where it said they are.
    issuer.person(json!({"email": "alice@example.com", "roles": ["operator"]}));
    let (back, state) = at_issuer(&app, "/incidents").await;
    assert_eq!(location(&page(&app, &back, &state).await), "/incidents");
    assert_eq!(issuer.times_discovered(), 1);
    issuer.away(true);
    assert_eq!(page(&app, "/login/issuer", "").await.status(), 303);
    app.stop().await;

    // While it is away from the start, it is asked once in a while, however many come.
    let app = with_login(&issuer).await;
    for _ in 0..20 {
        assert_eq!(page(&app, "/login/issuer", "").await.status(), 503);
    }
    assert_eq!(issuer.times_discovered(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_not_what_it_says_is_refused_and_on_record() {
    let issuer = Issuer::start().await;
    let app = with_login(&issuer).await;
    issuer.person(json!({"email": "alice@example.com", "roles": ["operator"]}));
    let (back, state) = at_issuer(&app, "/").await;
    assert_eq!(page(&app, &back, &state).await.status(), 303);
    assert_eq!(page(&app, &back, &state).await.status(), 401, "twice");
    let (back, state) = at_issuer(&app, "/").await;
    assert_eq!(page(&app, &back, "").await.status(), 401, "another browser");
    let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap();
    assert_eq!(page(&app, &back.replace(code, "made-up"), &state).await.status(), 503, "a code of nobody's");
    let (back, state) = at_issuer(&app, "/").await;
    let denied = back.replace("code=", "error=access_denied&x=");
    assert_eq!(page(&app, &denied, &state).await.status(), 401, "no code");
    issuer.person(json!({"email": "alice@example.com", "roles": ["operator"], "nonce": "another"}));
    let (back, state) = at_issuer(&app, "/").await;
    assert_eq!(page(&app, &back, &state).await.status(), 401, "a token for another login");
    issuer.person(json!({"email": "bob@example.com"}));
    let (back, state) = at_issuer(&app, "/").await;
    let nobody = page(&app, &back, &state).await;
    assert_eq!(nobody.status(), 403);
    assert!(nobody.text().await.unwrap().contains("has no role here"));
    let logins: Vec<(String, String)> =
        sqlx::query_as("select actor, outcome from audit where action = 'login' order by id")
            .fetch_all(&app.pool().await)
            .await
            .unwrap();
    assert_eq!(logins[0], ("oidc:alice@example.com".to_owned(), "done".to_owned()));
    assert!(logins.iter().filter(|(_, outcome)| outcome == "refused").count() >= 4, "{logins:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_key_ends_with_the_key() {
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").start().await;
    let viewer = key(&app, Role::Viewer, &[]).await;
    let http = browserless();
    let log_in = |key: String| {
        http.post(format!("{}/login", app.base))
            .form(&[("key", key), ("next", "/runbooks".to_owned())])
            .send()
    };
    let refused = log_in("rgn_wrong".to_owned()).await.unwrap();
    assert_eq!(refused.status(), 401);
    assert!(cookie(&refused, "__Host-regreen").is_none());
    assert!(refused.text().await.unwrap().contains("is not known, was revoked, or has expired"));
    let inside = log_in(viewer).await.unwrap();
    assert_eq!(location(&inside), "/runbooks");
    let session = cookie(&inside, "__Host-regreen").unwrap();
    let look = || http.get(format!("{}/runbooks", app.base)).header(COOKIE, &session).send();
    assert_eq!(look().await.unwrap().status(), 200);
    let kept: i64 = sqlx::query_scalar(
        "select count(*) from sessions where encode(hash, 'escape') like '%' || $1 || '%'",
    )
    .bind(session.split('=').nth(1).unwrap())
    .fetch_one(&app.pool().await)
    .await
    .unwrap();
    assert_eq!(kept, 0, "a cookie is kept as a hash only");
    sqlx::query("update api_keys set revoked_at = now()").execute(&app.pool().await).await.unwrap();
    eventually("the session ends", async || (look().await.unwrap().status() == 401).then_some(())).await;
    app.stop().await;
}
