//! An investigation is run again from what is stored: nobody is asked but the model, nothing is written down.

use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Setup, TestApp};
use regreen::demo::samples::sample;
use regreen::evidence::clean::clean;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::BTreeMap;
use std::process::{Output, Stdio};

/// A service that looks once at a laboratory of its own, and its settings for the command.
struct Case {
    app: TestApp,
    lab: FakeMcp,
    model: FakeModel,
    env: BTreeMap<String, String>,
    log: String,
}

/// The log's line that says what was wrong, and its number.
fn decisive(log: &str) -> (usize, &str) {
    let (index, line) = log.lines().enumerate().find(|(_, line)| line.contains("E0308")).unwrap();
    (index + 1, line)
}

fn diagnosis(class: &str, title: &str, (number, line): (usize, &str)) -> Reply {
    let claim = json!({"statement": "the types differ", "evidence": "E1", "first_line": number, "last_line": number, "quote": line.trim()});
    Reply::call(
        "submit_diagnosis",
        json!({"title": title, "cause": "The types are mismatched.", "class": class, "confidence": "high", "claims": [claim]}),
    )
}

impl Case {
    async fn start() -> (Self, String) {
        let lab = FakeMcp::start(Behaviour { tools: vec![("look", true)], ..Behaviour::default() }).await;
        let model = FakeModel::start(Vec::new()).await;
        let setup = Setup::bare().await.model(&model);
        let env = setup.env().clone();
        let app = setup.file(&lab.table("lab", "")).start().await.read_up().await;
        let log = clean(&sample("compile-error").unwrap().log).text;
        model.push(vec![
            Reply::call("look", json!({"at": 1, "deep": {"b": 1, "a": 2}})),
            diagnosis("code", "Mismatched types", decisive(&log)),
        ]);
        let answer = app.post(&json!({"namespace": "ci", "pod_name": "p", "log": log}), &[]).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let report = answer.body["report_id"].as_str().unwrap().to_owned();
        (Self { app, lab, model, env, log }, report)
    }

    async fn regreen(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_regreen"));
        command.arg("replay").args(arguments).env_clear().envs(&self.env).env("REGREEN_LOG", "error");
        command.stdin(Stdio::null()).output().await.unwrap()
    }

    /// Replays as JSON: exit code and outcome.
    async fn replay(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let output = self.regreen(&[arguments, &["--json"]].concat()).await;
        let value = serde_json::from_slice(&output.stdout);
        (output.status.code(), value.unwrap_or_else(|_| panic!("{output:?}")))
    }
}

/// Everything that a replay could have written.
async fn written(pool: &PgPool) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in [
        "runs",
        "tool_calls",
        "recordings",
        "evidence",
        "steps",
        "reports",
        "incidents",
        "messages",
        "documents",
    ] {
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")));
        counts.push(count.fetch_one(pool).await.unwrap());
    }
    counts.push(
        sqlx::query_scalar("select count(*) from audit where action not like 'server.%'")
            .fetch_one(pool)
            .await
            .unwrap(),
    );
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_answers_lead_to_the_same_conclusion_and_nothing_is_asked_or_written() {
    let (case, report) = Case::start().await;
    let pool = case.app.pool().await;
    let (before, asked) = (written(&pool).await, case.model.requests().len());
    // In another spelling, another order of keys, in other words.
    case.model.push(vec![
        Reply::Calls(
            vec![("look", r#"{ "deep": {"a":2,"b":1}, "at":1 }"#.into())],
            crate::support::fake_model::Style::Whole,
        ),
        diagnosis("code", "Types are mismatched", decisive(&case.log)),
    ]);
    let (code, compared) = case.replay(&[&report]).await;
    assert_eq!((code, &compared["same"]), (Some(0), &json!(true)), "{compared}");
    assert_eq!(compared["not_recorded"], json!([]));
    assert_eq!((&compared["same_prompts"], &compared["authentic"]), (&json!(true), &json!(true)));
    assert_eq!(compared["recorded"]["title"], "Mismatched types");
    assert_eq!(compared["replayed"]["title"], "Types are mismatched");
    assert_eq!(compared["recorded"]["key"], compared["replayed"]["key"]);
    assert_eq!((&compared["replayed"]["claims"], &compared["replayed"]["verified"]), (&json!(1), &json!(1)));
    assert_eq!((&compared["replayed"]["turns"], &compared["replayed"]["tool_calls"]), (&json!(2), &json!(2)));
    let requests = case.model.requests();
    assert_eq!(requests[asked]["messages"], requests[asked - 2]["messages"], "the very same brief");
    assert_eq!(requests[asked]["tools"], requests[asked - 2]["tools"]);
    let told = |request: &Value| request["messages"].as_array().unwrap().last().unwrap()["content"].clone();
    assert_eq!(told(&requests[asked + 1]), told(&requests[asked - 1]), "and the very same result");
    assert_eq!(case.lab.seen("tools/call").len(), 1, "the server was asked once, then");
    assert_eq!(written(&pool).await, before);
    case.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_conclusion_and_calls_without_a_record_are_said() {
    let (case, report) = Case::start().await;
    case.model.push(vec![
        Reply::call("look", json!({"at": 2})),
        diagnosis("infrastructure", "Wrong types", decisive(&case.log)),
    ]);
    let (code, compared) = case.replay(&[&report]).await;
    assert_eq!((code, &compared["same"]), (Some(2), &json!(false)), "{compared}");
    assert_eq!(compared["not_recorded"], json!([r#"look {"at":2}"#]));
    let told = case.model.requests().pop().unwrap()["messages"].to_string();
    assert!(told.contains("Not recorded") && case.lab.seen("tools/call").len() == 1, "{told}");

    // The same class, proved by another line.
    let other =
        case.log.lines().enumerate().find(|(_, line)| line.len() > 20 && !line.contains("E0308")).unwrap();
    case.model.push(vec![diagnosis("code", "Mismatched types", (other.0 + 1, other.1))]);
    let run = compared["run"].as_str().unwrap();
    let (code, compared) = case.replay(&[run]).await;
    assert_eq!(
        (code, &compared["same"], &compared["replayed"]["verified"]),
        (Some(2), &json!(false), &json!(1)),
        "{compared}"
    );
    case.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_analyst_replays_a_history_and_a_table_sums_it_up() {
    let (case, report) = Case::start().await;
    // A known cause is not investigated: the reports says where to look.
    let again = case.app.post(&json!({"namespace": "ci", "pod_name": "p", "log": case.log}), &[]).await;
    let known = again.body["report_id"].as_str().unwrap();
    let refused = case.regreen(&[known]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&report), "{refused:?}");
    let nobody = case.regreen(&["01a1f000-0000-7000-8000-00000000ffff"]).await;
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no recorded investigation"), "{nobody:?}");

    let asked = case.model.requests().len();
    let (code, compared) = case.replay(&[&report, "--model", "rules"]).await;
    assert_eq!((code, &compared["replayed"]["analyst"]), (Some(0), &json!("rules")), "{compared}");
    assert_eq!(compared["replayed"]["class"], "code");
    let table = case.regreen(&["--all", "--since", "2026-01-01", "--model", "rules"]).await;
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    assert_eq!(table.status.code(), Some(0), "{table:?}");
    assert!(text.contains("1 of 1 conclude the same") && text.contains("claims verified"), "{text}");
    let side = case.regreen(&[&report, "--model", "rules"]).await;
    let text = String::from_utf8_lossy(&side.stdout).into_owned();
    assert!(text.contains("The conclusion is the same.") && text.contains("Mismatched types"), "{text}");
    assert_eq!(case.model.requests().len(), asked, "no model was asked");
    // Who changes what was stored is found out by what is on record.
    let sql = "update recordings set brief = replace(brief, 'Namespace ci', 'Namespace xy')";
    assert_eq!(sqlx::query(sql).execute(&case.app.pool().await).await.unwrap().rows_affected(), 1);
    let (_, forged) = case.replay(&[&report, "--model", "rules"]).await;
    assert_eq!((&compared["authentic"], &forged["authentic"]), (&json!(true), &json!(false)));
    let none = case.regreen(&["--all", "--since", "2126-01-01"]).await;
    assert_eq!(none.status.code(), Some(1), "{none:?}");
    case.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_it_is_redacted_and_shared() {
    let (case, _) = Case::start().await;
    let secret = ["ghp_", "zY8xW7vU6tS5rQ4pO3nM2lK1jI9hG8fE7dC6"].concat();
    let log = format!(
        "{}\nerror: token {secret} was refused by the registry\n",
        case.log.replace("E0308", "E0277")
    );
    let answer = case.app.post(&json!({"namespace": "other", "pod_name": "q", "log": log}), &[]).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let pool = case.app.pool().await;
    let kept: String = sqlx::query_scalar("select string_agg(r::text, ' ') || (select string_agg(t::text, ' ') from recorded_texts t) from recordings r")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(!kept.contains(&secret[4..]) && kept.contains("[redacted:"), "the brief has it redacted");
    let (runs, texts): (i64, i64) =
        sqlx::query_as("select (select count(*) from recordings), (select count(*) from recorded_texts)")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!((runs, texts), (2, 2), "both were given the same instructions and tools");
    case.app.stop().await;
}
