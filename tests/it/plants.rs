//! A secret of its own in every input of every door: none is found again in a table, a line of the log, a span, an issue or a
//! request to a model.

use super::notify::Receiver;
use crate::support::collector::Collector;
use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply, Style};
use crate::support::replica::{Replica, http};
use crate::support::{Answer, Setup, TestApp, eventually, every, pool};
use aho_corasick::AhoCorasick;
use hmac::{Hmac, KeyInit as _, Mac as _};
use regreen::api::Rule;
use regreen::domain::{Actor, AuditAction, AuditEvent};
use serde_json::{Value, json};
use sha2::Sha256;
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, BTreeSet};

const COLLECTORS: &str = "Bearer collectors-own-key";
const TRACKERS: &str = "a-webhook-secret-of-ours";

/// Fields that hold no free text: names of Kubernetes, words of a list, names of what there is, times and ids.
const PLAIN: [&str; 15] = [
    "namespace",
    "pod_name",
    "container_name",
    "decision",
    "verdict",
    "role",
    "expires_in",
    "transport",
    "prompt_file",
    "alerts[].status",
    "alerts[].startsAt",
    "conversation_id",
    "agent_id",
    "incident_id",
    "messages[].role",
];
/// The model of a completion is the name of an agent.
const AGENTS_NAME: &str = "POST /v1/chat/completions model";

/// What was planted: where, and the part that must not be found.
struct Plants {
    made: Vec<(String, String)>,
    random: fastrand::Rng,
}

impl Plants {
    /// What a person or a program would choose.
    fn word(&mut self, place: &str) -> String {
        let word: String = (0..24).map(|_| self.random.alphanumeric()).collect();
        // A digit among letters, so that it is no word of a program.
        let word = format!("{word}7x");
        self.made.push((place.to_owned(), word.clone()));
        word
    }

    /// A secret by its form, in a sentence.
    fn token(&mut self, place: &str) -> String {
        let token: String = (0..36).map(|_| self.random.alphanumeric()).collect();
        self.made.push((place.to_owned(), token.clone()));
        format!("see {}{token} there", "ghp_")
    }

    fn url(&mut self, place: &str) -> String {
        format!("https://ci.example.com/job/7?private_token={}&view=log", self.word(place))
    }

    fn is_in(&self, text: &str) -> Vec<&str> {
        let found = self.made.iter().filter(|(_, secret)| text.contains(secret.as_str()));
        found.map(|(place, _)| place.as_str()).collect()
    }
}

impl Plants {
    /// All of them in all places at once: there are thousands, and the log is long.
    fn found(&self, places: &[(String, String)]) -> BTreeSet<String> {
        let finder = AhoCorasick::new(self.made.iter().map(|(_, secret)| secret)).unwrap();
        let mut found = BTreeSet::new();
        for (place, text) in places {
            for of in finder.find_iter(text) {
                found.insert(format!("{} is in {place}", self.made[of.pattern().as_usize()].0));
            }
        }
        found
    }
}

/// What was sent to each operation.
type Sent = BTreeMap<String, Value>;

/// The server, what it is planted with, and what was sent to it.
struct Field {
    replica: Replica,
    plants: Plants,
    sent: Sent,
}

impl Field {
    async fn send(&mut self, operation: &str, path: &str, body: Value) -> Answer {
        let (method, _) = operation.split_once(' ').unwrap();
        let request = http().request(method.parse().unwrap(), format!("{}{path}", self.replica.base));
        let request =
            request.header("x-request-id", format!("{}{}", "glpat-", self.plants.word("x-request-id")));
        let request = request.header("user-agent", self.plants.token("user-agent"));
        let answer = TestApp::read(request.json(&body)).await;
        self.sent.insert(operation.to_owned(), body);
        answer
    }

    async fn get(&self, path: &str) -> Value {
        self.replica.get(path).await.unwrap().body
    }

    /// Waits until nothing is being investigated.
    async fn all_done(&self) {
        eventually("the reports end", async || {
            let reports = self.get("/api/reports?limit=200").await["reports"].clone();
            let ended = |report: &Value| report["status"] == "done" || report["status"] == "failed";
            every(reports.as_array().unwrap(), ended).then_some(())
        })
        .await;
    }
}

/// Paths of the texts in a schema: `alerts[].labels{}`.
fn texts(api: &Value, schema: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next()) {
        return texts(api, &api["components"]["schemas"][name], prefix, found);
    }
    for kind in ["allOf", "oneOf", "anyOf"] {
        for part in schema[kind].as_array().into_iter().flatten() {
            texts(api, part, prefix, found);
        }
    }
    let is = |kind: &str| {
        schema["type"] == kind || schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!(kind)))
    };
    if is("string") && schema["enum"].is_null() && schema["format"].is_null() {
        found.insert(prefix.to_owned());
    }
    if is("array") {
        texts(api, &schema["items"], &format!("{prefix}[]"), found);
    }
    if schema["additionalProperties"].is_object() {
        texts(api, &schema["additionalProperties"], &format!("{prefix}{{}}"), found);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        texts(api, property, &path, found);
    }
}

/// The text of a body at such a path.
fn at<'a>(body: &'a Value, path: &str) -> Option<&'a str> {
    let mut value = body;
    for part in path.split('.') {
        let name = part.trim_end_matches("[]").trim_end_matches("{}");
        value = value.get(name)?;
        if part.ends_with("[]") {
            value = value.as_array()?.first()?;
        } else if part.ends_with("{}") {
            value = value.as_object()?.values().next_back()?;
        }
    }
    value.as_str()
}

/// Every text of every operation of the API was sent, with a secret in it.
fn all_fields_are_planted(field: &Field) {
    let api = serde_json::to_value(regreen::api::openapi()).unwrap();
    let mut missing = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if schema.is_null() {
                continue;
            }
            let name = format!("{} {path}", method.to_uppercase());
            let Some(body) = field.sent.get(&name) else {
                missing.push(name);
                continue;
            };
            let mut paths = BTreeSet::new();
            texts(&api, schema, "", &mut paths);
            let planted =
                |path: &String| at(body, path).is_some_and(|text| !field.plants.is_in(text).is_empty());
            let left_out = |path: &String| {
                path.is_empty() || PLAIN.contains(&path.as_str()) || format!("{name} {path}") == AGENTS_NAME
            };
            missing.extend(
                paths
                    .iter()
                    .filter(|path| !left_out(path) && !planted(path))
                    .map(|path| format!("{name} {path}")),
            );
        }
    }
    assert!(missing.is_empty(), "no secret was planted in {missing:#?}");
}

async fn everything(database: &str) -> Vec<(String, String)> {
    let pool = pool(database).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let mut all = Vec::new();
    for table in tables {
        // Bytes as text too, whatever the encoding of the others.
        let sql = format!("select coalesce(string_agg(t::text, chr(10)), '') from {table} t");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap();
        all.push((format!("the table {table}"), rows));
    }
    let bytes: Vec<(String, String)> = sqlx::query_as(
        "select format('%I.%I', table_schema, table_name), column_name::text from information_schema.columns
         where data_type = 'bytea' and table_schema not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    for (table, column) in bytes {
        let sql =
            format!("select coalesce(string_agg(encode({column}, 'escape'), chr(10)), '') from {table}");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap();
        all.push((format!("{column} of {table}"), rows));
    }
    all
}

fn cluster(plants: &mut Plants) -> Behaviour {
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: build-1\n  annotations:\n    last-applied: '{{\"env\":[{{\"name\":\"API_TOKEN\",\"value\":\"{}\"}}]}}'\nspec:\n  containers:\n  - name: step-build\n    args:\n    - --db-password\n    - {}\n    env:\n    - name: DB_PASSWORD\n      value: {}\n    - {{name: SMTP_PASS, value: {}}}\n",
        plants.word("manifest: last applied"),
        plants.word("manifest: args"),
        plants.word("manifest: env"),
        plants.word("manifest: flow")
    );
    let log = format!(
        "PGPASSWORD={} psql\nadminPassword={}\nREDISCLI_AUTH={}\nerror: the build failed\n",
        plants.word("log: PGPASSWORD"),
        plants.word("log: adminPassword"),
        plants.word("log: REDISCLI_AUTH")
    );
    Behaviour {
        tools: vec![("pods_get", true), ("pods_log", true), ("events_list", true)],
        answers: vec![
            ("pods_get", pod, false),
            ("pods_log", log, false),
            ("events_list", plants.token("error of a tool of the cluster"), true),
        ],
        ..Behaviour::default()
    }
}

fn lab(plants: &mut Plants) -> Behaviour {
    let at = json!({"type": "string", "description": plants.token("description of an argument"),
        "default": plants.token("default of an argument"), "examples": [plants.token("example of an argument")]});
    let takes = json!({"type": "object", "properties": {"at": at}});
    Behaviour {
        tools: vec![("look", true), ("refuse", true), ("restart", false)],
        descriptions: vec![("look", plants.token("description of a tool"))],
        schemas: [("look", takes)].into(),
        answers: vec![
            ("look", plants.token("result of a tool"), false),
            ("refuse", plants.token("error of a tool"), true),
            ("restart", plants.token("result of an approved tool"), false),
        ],
        ..Behaviour::default()
    }
}

fn call(name: &'static str, arguments: String) -> Reply {
    Reply::Calls(vec![(name, arguments)], Style::Pieces)
}

/// Questions, and a call that a person approves; before any report, whose run asks the same model.
async fn talk(field: &mut Field, model: &FakeModel) {
    let call = |name: &'static str| call(name, "{}".to_owned());
    model.push(vec![call("look"), call("refuse"), call("restart"), Reply::Text("It waits.")]);
    let body =
        json!({"message": field.plants.token("chat message"), "author": field.plants.token("chat author")});
    let answer = field.send("POST /api/chat", "/api/chat", body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let conversation = answer.body["conversation_id"].as_str().unwrap().to_owned();
    let said = field.get(&format!("/api/conversations/{conversation}")).await["history"][0]["text"].clone();
    assert!(said.as_str().unwrap().contains("1 secret was removed from this message"), "{said}");
    let approval = answer.body["approvals"][0]["id"].as_str().expect("a call waits").to_owned();
    model.push(vec![Reply::Text("It was restarted.")]);
    let body = json!({"decision": "approve", "note": field.plants.token("note"), "author": field.plants.token("approver")});
    let path = format!("/api/approvals/{approval}");
    let answer = field.send("POST /api/approvals/{id}", &path, body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    eventually("the call is told of", async || {
        let known = field.get(&format!("/api/conversations/{conversation}")).await;
        known.to_string().contains("It was restarted.").then_some(())
    })
    .await;
    let body = json!({"title": field.plants.token("title of a conversation")});
    let path = format!("/api/conversations/{conversation}");
    assert_eq!(field.send("PATCH /api/conversations/{id}", &path, body).await.status, 200);
}

/// What a server and the model say of their failures, and a history from elsewhere.
async fn fail(field: &mut Field, model: &FakeModel, lab: &FakeMcp) {
    let refusal = json!({"jsonrpc": "2.0", "id": "ID", "error": {"code": -32000, "message": field.plants.token("error of a server")}});
    lab.behave(|lab| lab.raw = Some(refusal.to_string().replace("\"ID\"", "ID")));
    let arguments = json!({"at": field.plants.token("argument of the model")}).to_string();
    model.push(vec![call("look", arguments), Reply::Text("It refused.")]);
    let body = json!({"message": field.plants.token("streamed message"), "author": field.plants.token("its author")});
    assert_eq!(field.send("POST /api/chat/stream", "/api/chat/stream", body).await.status, 200);
    lab.behave(|lab| lab.raw = None);
    let broken = json!({"error": {"message": field.plants.token("error within a stream")}});
    let strange = format!("<html>{}</html>", field.plants.token("page in place of an answer"));
    for reply in
        [Reply::Raw("text/event-stream", format!("data: {broken}\n\n")), Reply::Raw("text/html", strange)]
    {
        model.push(vec![reply]);
        let body = json!({"message": field.plants.token("message that fails"), "author": "bob"});
        let request = http().post(format!("{}/api/chat", field.replica.base)).json(&body);
        TestApp::read(request).await;
    }

    let agent = field.get("/v1/models").await["data"][0]["id"].clone();
    let wrong = json!({"error": {"message": field.plants.token("error of the model"), "code": "bad"}});
    model.push(vec![Reply::Status(400, wrong, None)]);
    let turn = |role: &str, text: String| json!({"role": role, "content": text});
    let part = json!([{"type": "text", "text": field.plants.token("part of a message")}]);
    let messages = json!([
        turn("system", field.plants.token("system message")),
        {"role": "user", "content": part},
        turn("user", field.plants.token("first message")),
        turn("assistant", field.plants.token("answer elsewhere")),
        turn("user", field.plants.token("last message"))
    ]);
    let body = json!({"model": agent, "messages": messages, "user": field.plants.token("openai user")});
    field.send("POST /v1/chat/completions", "/v1/chat/completions", body).await;
}

async fn report(field: &mut Field) {
    let plants = &mut field.plants;
    let mut body = json!({
        "namespace": "ci", "pod_name": "build-1",
        "pipeline": format!("deploy --token={}", plants.word("pipeline")),
        "task": plants.token("task"),
        "run": plants.token("run"),
        "run_url": plants.url("run_url"),
        "last_good_run": plants.url("last_good_run"),
        "repository": format!("https://bot:{}@git.example.com/a/b.git", plants.word("repository")),
        "commit": plants.token("commit"),
        "log": format!("dbPassword: {}\nerror: the deployment failed\n", plants.word("log")),
        "good_log": format!("DB_PASS={}\nall is well\n", plants.word("good_log")),
    });
    let key = plants.token("idempotency-key");
    let first = TestApp::read(
        http()
            .post(format!("{}/report-failure", field.replica.base))
            .header("idempotency-key", &key)
            .json(&body),
    )
    .await;
    assert_eq!(first.status, 200, "{:?}", first.body);
    let again = async |body: &Value| {
        let request = http().post(format!("{}/report-failure", field.replica.base)).json(body);
        TestApp::read(request.header("idempotency-key", &key)).await
    };
    assert_eq!(again(&body).await.body["report_id"], first.body["report_id"], "the key finds its report");
    let before = body["repository"].take();
    body["repository"] = json!("https://bot:another-secret-7@git.example.com/a/b.git");
    assert_eq!(again(&body).await.status, 409, "the hash is over what was sent");
    body["repository"] = before;
    // The same cause again: a comment on its issue.
    let mut other = body.clone();
    other["run"] = json!(field.plants.token("run of another"));
    let request = http().post(format!("{}/report-failure", field.replica.base)).json(&other);
    assert_eq!(TestApp::read(request).await.status, 200);
    field.sent.insert("POST /report-failure".to_owned(), body);
}

/// Reports by other ways, and what the cluster tells.
async fn report_otherwise(field: &mut Field) {
    // Without a log of its own: what the cluster tells is all there is.
    let body =
        json!({"namespace": "ci", "pod_name": "build-1", "task": field.plants.token("task of another")});
    let request = http().post(format!("{}/report-failure", field.replica.base)).json(&body);
    assert_eq!(TestApp::read(request).await.status, 200);
    let text = |plants: &mut Plants, place: &str| plants.token(place);
    let plants = &mut field.plants;
    let body = json!({"alerts": [{
        "status": "firing", "startsAt": "2026-11-21T10:00:00Z", "fingerprint": text(plants, "fingerprint"),
        "generatorURL": plants.url("generatorURL"),
        "labels": {"namespace": "ci", "pod": "build-2", "zone": text(plants, "label")},
        "annotations": {"summary": text(plants, "annotation")}}]});
    let answer = field.send("POST /webhooks/alertmanager", "/webhooks/alertmanager", body).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    let arguments = json!({"namespace": "ci", "pod_name": "build-3", "pipeline": field.plants.token("own door: pipeline"),
        "repository": field.plants.token("own door: repository"), "commit": field.plants.token("own door: commit"),
        "log": format!("{}\nerror: the build failed\n", field.plants.token("own door: log"))});
    let query = json!({"query": field.plants.token("own door: query")});
    let unknown = json!({"query": "x", field.plants.token("name of an argument"): 1});
    let client = json!({"protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": field.plants.token("name of a client"), "version": field.plants.token("version of a client")}});
    let calls = [
        ("initialize".to_owned(), client),
        ("tools/call".to_owned(), json!({"name": "triage_failure", "arguments": arguments})),
        ("tools/call".to_owned(), json!({"name": "search_runbooks", "arguments": query})),
        ("tools/call".to_owned(), json!({"name": "search_runbooks", "arguments": unknown})),
        ("tools/call".to_owned(), json!({"name": field.plants.token("own door: tool")})),
        (field.plants.token("own door: method"), json!({})),
    ];
    for (method, params) in calls {
        let id = field.plants.token("own door: id");
        let call = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let request = http().post(format!("{}/mcp", field.replica.base)).json(&call);
        let answer = TestApp::read(request.header("accept", "application/json, text/event-stream")).await;
        assert!([200, 202].contains(&answer.status), "{:?}", answer.body);
    }
    field.all_done().await;
}

/// What people write of incidents, and a tool that they try.
async fn write(field: &mut Field) {
    let incident = field.get("/api/incidents").await["incidents"][0].clone();
    let id = incident["id"].as_str().unwrap().to_owned();
    let plants = &mut field.plants;
    let body = json!({"verdict": "corrected", "cause": plants.token("cause"), "fix": plants.token("fix"),
        "link": plants.url("link"), "author": plants.token("author")});
    let path = format!("/api/incidents/{id}/resolution");
    assert_eq!(field.send("POST /api/incidents/{id}/resolution", &path, body).await.status, 201);
    // In place of an id.
    let body = json!({"into": field.plants.token("incident to merge into")});
    let path = format!("/api/incidents/{id}/merge");
    assert_eq!(field.send("POST /api/incidents/{id}/merge", &path, body).await.status, 422);
    let body = json!({"reports": [field.plants.token("report to split off")]});
    let path = format!("/api/incidents/{id}/split");
    assert_eq!(field.send("POST /api/incidents/{id}/split", &path, body).await.status, 422);
    let body = json!({"ids": [field.plants.token("incident to resolve")]});
    assert_eq!(field.send("POST /api/incidents/resolve", "/api/incidents/resolve", body).await.status, 422);
    let number = incident["issue_number"].as_i64().unwrap_or(1);
    let body = json!({"action": "created", "issue": {"number": number, "user": {"login": "regreen"}},
        "sender": {"login": field.plants.token("sender")},
        "comment": {"body": field.plants.token("comment"), "html_url": field.plants.url("link of a comment")},
        "repository": {"full_name": "platform/failures", "html_url": "https://git.example.com/platform/failures"}});
    let bytes = body.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(TRACKERS.as_bytes()).unwrap();
    mac.update(bytes.as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    let request = http().post(format!("{}/api/webhooks/tracker", field.replica.base)).body(bytes);
    let request = request
        .header("x-gitea-event", "issue_comment")
        .header("x-gitea-delivery", field.plants.token("delivery"));
    let answer = TestApp::read(request.header("x-hub-signature-256", format!("sha256={signature}"))).await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("noted")), "{:?}", answer.body);
    field.sent.insert("POST /api/webhooks/tracker".to_owned(), body);
    let form = [("at", field.plants.token("tool that is tried on its page"))];
    let tried = http().post(format!("{}/mcp-servers/lab/tools/look", field.replica.base)).form(&form);
    assert_eq!(TestApp::read(tried).await.status, 200);
}

/// What administrators set.
async fn administer(field: &mut Field) {
    let plants = &mut field.plants;
    let body = json!({"path": format!("{}.md", plants.token("path of a document")),
        "content": format!("# {}\n\npassword: {}\n", plants.token("title of a document"), plants.word("document"))});
    assert_eq!(field.send("POST /api/documents", "/api/documents", body).await.status, 201);
    let agent = |plants: &mut Plants, n: u32| {
        json!({"name": format!("{n} {}", plants.token("name of an agent")), "description": plants.token("description of an agent"),
            "prompt": plants.token("prompt"), "model": plants.token("model of an agent"), "tools": [plants.token("tools of an agent")]})
    };
    let body = agent(&mut field.plants, 1);
    let made = field.send("POST /api/agents", "/api/agents", body).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let body = agent(&mut field.plants, 2);
    let path = format!("/api/agents/{}", made.body["id"].as_str().unwrap());
    assert_eq!(field.send("PATCH /api/agents/{id}", &path, body).await.status, 200);
    // What cannot be used without its secret is refused with one.
    let plants = &mut field.plants;
    let body = json!({"name": plants.token("name of a key"), "role": "viewer", "namespaces": [plants.token("namespaces of a key")]});
    assert_eq!(field.send("POST /api/keys", "/api/keys", body).await.status, 422);
    let plants = &mut field.plants;
    let list = |plants: &mut Plants, place: &str| json!([plants.token(place)]);
    let body = json!({"name": "x", "transport": "streamable-http", "url": plants.url("url of a server")});
    assert_eq!(field.send("POST /api/mcp-servers", "/api/mcp-servers", body).await.status, 422);
    let plants = &mut field.plants;
    let body = json!({"name": plants.token("name of a server"), "transport": "streamable-http", "url": plants.url("url of a server"),
        "command": list(plants, "command"), "headers": {"x": plants.token("header")}, "env": {"X": plants.token("env")},
        "allow": list(plants, "allow"), "deny": list(plants, "deny"), "read": list(plants, "read"), "write": list(plants, "write")});
    assert_eq!(field.send("POST /api/mcp-servers", "/api/mcp-servers", body).await.status, 422);
    let body = json!({"hash": field.plants.token("hash of a definition")});
    let path = "/api/mcp-servers/lab/tools/look/confirm";
    let answer = field.send("POST /api/mcp-servers/{name}/tools/{tool}/confirm", path, body).await;
    assert_eq!(answer.status, 409, "{:?}", answer.body);
}

/// Every route, with a secret for each parameter, in a query, in headers, and in a body that is none of the route's.
async fn ask_everywhere(field: &mut Field) {
    let names = "q text namespace actor action about object agent model caller kind status";
    let client = http();
    for Rule { path, method, .. } in regreen::server::access() {
        let place = format!("{method} {path}");
        let mut secret = |of: &str| format!("glpat-{}", field.plants.word(&format!("{place} {of}")));
        let parts =
            path.split('/').map(|part| if part.starts_with('{') { secret("path") } else { part.to_owned() });
        let path = parts.collect::<Vec<_>>().join("/");
        let query: Vec<String> = names.split(' ').map(|name| format!("{name}={}", secret("query"))).collect();
        let base = &field.replica.base;
        let asked = client.request(method.parse().unwrap(), format!("{base}{path}?{}", query.join("&")));
        let asked = asked
            .header("referer", format!("{base}/{}", secret("referer")))
            .header("tracestate", format!("ci={}", secret("tracestate")))
            .header("cookie", format!("session={}", secret("cookie")))
            .header("prefer", secret("prefer"))
            .header("last-event-id", secret("last-event-id"));
        let body = json!({secret("name of a field"): secret("unknown field")}).to_string();
        let json = format!("application/json; boundary={}", secret("content-type"));
        let with =
            |body: &str| asked.try_clone().unwrap().header("content-type", &json).body(body.to_owned());
        let form = [(secret("name of a field of a form"), secret("field of a form"))];
        let requests = [
            with(&body),
            with(&body[..body.len() - 1]),
            with(&body).bearer_auth(secret("bearer")),
            asked.try_clone().unwrap().form(&form),
        ];
        for request in requests {
            // Events have no end.
            request.send().await.unwrap();
        }
    }
    let nowhere = format!("/nowhere/glpat-{}", field.plants.word("path that leads nowhere"));
    assert_eq!(field.replica.get(&nowhere).await.unwrap().status, 404);
}

/// With all that is connected, all that is told, and everything written to the log.
async fn setup(
    (model, collector, receiver): (&FakeModel, &Collector, &Receiver),
    (cluster, lab): (&FakeMcp, &FakeMcp),
) -> Setup {
    let all = "every = \"0s\"\non = [\"new\", \"known\", \"returned\", \"failed\"]\nsecret = \"a-secret-of-the-receiver\"";
    let tables = [
        lab.table("lab", ""),
        receiver.table("slack", "slack", "every = \"0s\""),
        receiver.table("all", "webhook", all),
    ];
    let setup = Setup::whole().await.model(model).file(&tables.concat());
    setup
        .set("MCP_OPENSHIFT_URL", &cluster.url())
        .set("MCP_OPENSHIFT_TRANSPORT", "streamable-http")
        .set("REGREEN_COMMENT_INTERVAL", "1ms")
        .set("REGREEN_WEBHOOK_SECRET", TRACKERS)
        .set("REGREEN_ADDED_URLS", "https://ci.example.com/**")
        .set("REGREEN_OTLP_URL", &collector.url)
        .set("REGREEN_OTLP_HEADERS", &format!("authorization={COLLECTORS}"))
}

/// All issues with their comments.
async fn issues(setup: &Setup) -> String {
    let issues = setup.forge().issues();
    let mut all = json!(issues).to_string();
    for issue in issues {
        let page = TestApp::read(http().get(issue["html_url"].as_str().unwrap())).await.body;
        all.push_str(page.as_str().unwrap());
    }
    assert!(all.contains("Comment"), "{all}");
    all
}

async fn connected(replica: &Replica) {
    eventually("every server is connected", async || {
        let servers = replica.get("/api/mcp-servers").await?.body;
        let connected = |server: &Value| server["tools"].as_u64() > Some(0);
        every(servers["servers"].as_array()?, connected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_any_field_of_any_door_is_found_nowhere() {
    let mut plants = Plants { made: Vec::new(), random: fastrand::Rng::with_seed(11) };
    let model = FakeModel::start(Vec::new()).await;
    let (collector, receiver) = (Collector::start(COLLECTORS).await, Receiver::start().await);
    let (cluster, lab) = (FakeMcp::start(cluster(&mut plants)).await, FakeMcp::start(lab(&mut plants)).await);
    let setup = setup((&model, &collector, &receiver), (&cluster, &lab)).await;
    let replica = Replica::start(&setup, "serve", &[("REGREEN_LOG", "trace,sqlx=debug")]).ready().await;
    connected(&replica).await;
    let mut field = Field { replica, plants, sent: Sent::new() };
    talk(&mut field, &model).await;
    fail(&mut field, &model, &lab).await;
    report(&mut field).await;
    report_otherwise(&mut field).await;
    write(&mut field).await;
    administer(&mut field).await;
    ask_everywhere(&mut field).await;
    all_fields_are_planted(&field);
    let Field { replica, plants, .. } = field;
    receiver.wait_for("slack", 1).await;
    receiver.wait_for("all", 1).await;
    let (status, log) = replica.terminate().await;
    assert!(status.success(), "{log}");
    assert!(log.len() > 10_000 && !collector.spans().is_empty());
    let mut places = everything(&setup.env()["DATABASE_URL"]).await;
    let stored: usize = places.iter().map(|(_, text)| text.matches("[redacted:").count()).sum();
    assert!(stored > 50, "{stored} placeholders are stored");
    places.extend([
        ("the log".to_owned(), log),
        (
            "traces and logs that are sent".to_owned(),
            format!("{:?}{:?}", collector.spans(), collector.logs()),
        ),
        ("issues".to_owned(), issues(&setup).await),
        (
            "notifications".to_owned(),
            json!([receiver.messages("slack"), receiver.messages("all")]).to_string(),
        ),
        ("the model".to_owned(), json!(model.requests()).to_string()),
    ]);
    let mut leaks = plants.found(&places);
    // Within one answer a model is sent its own calls again as it wrote them.
    assert!(leaks.remove("argument of the model is in the model"));
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// The statements of the documentation, in order, with a secret set.
fn documented(secret: &str) -> Vec<String> {
    let guide = include_str!("../../docs/security.md");
    let blocks = guide.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.map(|block| block.replace("THE SECRET", secret)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_clean_up_leaves_a_secret_in_the_record_alone() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::bare().await.model(&model).start().await;
    // A word like any other, in a line that is quoted wherever the failure is told of.
    let secret = "blauwal\\tintenfisch";
    let log = format!("begin\nerror: nobody signs in with {secret} any more\n");
    let answer = app.post(&json!({"namespace": "ci", "pod_name": "p", "log": log}), &[]).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let asked =
        app.send("/api/chat", &json!({"message": format!("what is {secret}?"), "author": "bob"})).await;
    assert_eq!(asked.status, 200, "{:?}", asked.body);
    let database = app.database.clone();
    let pool = pool(&database).await;
    let event = AuditEvent::new(&Actor::service(""), AuditAction::ToolTry, regreen::clock::now());
    regreen::db::audit::add(&pool, &event.on("thing", "x").detail(format!("it was {secret}"))).await.unwrap();
    app.stop().await;
    let holds = async || {
        let all = everything(&database).await;
        all.into_iter()
            .filter(|(_, text)| text.contains("tintenfisch"))
            .map(|(place, _)| place)
            .collect::<Vec<_>>()
    };
    let before = holds().await.join(" ");
    for table in ["evidence", "chunks", "messages", "incidents", "recordings", "tool_calls", "audit"] {
        assert!(before.contains(&format!("public.{table}")), "{table} is not in {before}");
    }
    let [clean, find, overwrite] = <[String; 3]>::try_from(documented(secret)).unwrap();
    let mut connection = pool.acquire().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(clean)).execute(&mut *connection).await.unwrap();
    let left = holds().await;
    assert!(left.iter().all(|place| place.contains("public.audit")) && !left.is_empty(), "{left:?}");
    let rows = sqlx::query(AssertSqlSafe(find)).fetch_all(&mut *connection).await.unwrap();
    assert!(!rows.is_empty());
    assert_eq!(regreen::db::audit::verify(&pool, None).await.unwrap().broken, None);
    sqlx::raw_sql(AssertSqlSafe(overwrite)).execute(&mut *connection).await.unwrap();
    assert_eq!(holds().await, [""; 0]);
    assert!(regreen::db::audit::verify(&pool, None).await.unwrap().broken.is_some(), "it shows");
}
