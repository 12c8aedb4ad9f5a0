//! What is past its time goes, and only that: a cause that comes back keeps its proof, an open one is known for ever.

use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Answer, Setup, TestApp};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use std::collections::BTreeMap;
use std::process::Stdio;

/// What has a time, with its columns of times.
const TIMES: [(&str, &str); 7] = [
    ("reports", "created_at finished_at"),
    ("incidents", "first_seen last_seen commented_at issue_checked_at resolved_at"),
    ("evidence", "created_at"),
    ("runs", "started_at"),
    ("conversations", "created_at updated_at"),
    ("turns", "started_at finished_at"),
    ("usage", "at"),
];

struct Case {
    app: TestApp,
    model: FakeModel,
    pool: PgPool,
    env: BTreeMap<String, String>,
    _lab: FakeMcp,
}

impl Case {
    async fn start() -> Self {
        let tools = vec![("look", true), ("restart", false)];
        let lab = FakeMcp::start(Behaviour { tools, ..Behaviour::default() }).await;
        let model = FakeModel::start(Vec::new()).await;
        let setup = Setup::whole().await.model(&model).file(&lab.table("lab", ""));
        let env = setup.env().clone();
        let app = setup.start().await;
        Self { pool: app.pool().await, app, model, env, _lab: lab }
    }

    /// Runs `prune` with these times for all that has one. Returns how many went of each kind.
    async fn prune(&self, arguments: &[&str], times: &[(&str, &str)]) -> BTreeMap<String, u64> {
        let output = self.run(arguments, times).await;
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let line = |line: &str| {
            assert!(line.contains(" older than 90d "), "{line}");
            let (count, rest) = line.trim().split_once(' ').unwrap();
            (rest.split(" older ").next().unwrap().to_owned(), count.parse().unwrap())
        };
        text.lines().map(line).collect()
    }

    async fn run(&self, arguments: &[&str], times: &[(&str, &str)]) -> std::process::Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_regreen"));
        command.arg("prune").args(arguments).env_clear().envs(&self.env).env("REGREEN_LOG", "error");
        for (what, time) in times {
            command.env(format!("REGREEN_RETENTION_{what}"), time);
        }
        command.stdin(Stdio::null()).output().await.unwrap()
    }

    /// Lets a hundred days pass.
    async fn age(&self) {
        for (table, columns) in TIMES {
            let set: Vec<String> = columns
                .split(' ')
                .map(|column| format!("{column} = {column} - interval '100 days'"))
                .collect();
            sqlx::query(AssertSqlSafe(format!("update {table} set {}", set.join(", "))))
                .execute(&self.pool)
                .await
                .unwrap();
        }
        sqlx::query("update spent set day = day - 100 where day > '-infinity'")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    async fn count(&self, what: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {what}")))
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    async fn report(&self, slug: &str) -> (String, String) {
        let answer = self.app.report(slug).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let report = answer.body["report_id"].as_str().unwrap().to_owned();
        let incident = self.app.get(&format!("/api/reports/{report}")).await.body["incident_id"].clone();
        (report, incident.as_str().unwrap().to_owned())
    }

    async fn ask(&self, message: &str) -> Value {
        let answer = self.app.send("/api/chat", &json!({"message": message, "author": "alice"})).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.body["conversation_id"].clone()
    }

    async fn log_of(&self, report: &str) -> Answer {
        self.app.get(&format!("/api/reports/{report}/evidence/E1")).await
    }

    async fn status(&self, path: &str) -> u16 {
        self.app.get(path).await.status
    }
}

const ALL: [(&str, &str); 5] = [
    ("EVIDENCE", "90d"),
    ("REPORTS", "90d"),
    ("INCIDENTS", "90d"),
    ("CONVERSATIONS", "90d"),
    ("USAGE", "90d"),
];

fn counts(counts: [u64; 6]) -> BTreeMap<String, u64> {
    let kinds = [
        "resolved incidents",
        "conversations",
        "reports",
        "texts of evidence",
        "records of runs",
        "entries of usage",
    ];
    kinds.into_iter().map(str::to_owned).zip(counts).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_time_goes_and_a_cause_that_comes_back_keeps_its_proof() {
    let case = Case::start().await;
    let (led, back) = case.report("go-vet").await;
    let (known, _) = case.report("go-vet").await;
    let (other, gone) = case.report("oom").await;
    case.model.push(vec![Reply::call("look", json!({})), Reply::Text("It looks well.")]);
    let idle = case.ask("how is it?").await;
    case.model.push(vec![Reply::call("restart", json!({"name": "x"})), Reply::Text("It waits for you.")]);
    let waits = case.ask("restart it").await;
    assert!(case.count(&format!("documents where incident_id = '{gone}'")).await > 0);
    let pieces = case.count(&format!("evidence where report_id = '{other}'")).await;
    let of_known = case.count(&format!("evidence where report_id = '{known}'")).await;
    assert!(pieces > 0 && of_known > 0);
    let used = case.count("usage").await;
    case.age().await;
    let (new, same) = case.report("go-vet").await;
    assert_eq!(same, back);

    let before = case.count("evidence where text <> ''").await;
    let expected = counts([0, 1, 1, pieces as u64, 2, used as u64]);
    // Two runs: that of the cause that did not come back, and that of the conversation in which a call waits.
    assert_eq!(case.prune(&["--dry-run"], &ALL).await, expected);
    assert_eq!(case.count("evidence where text <> ''").await, before);
    assert_eq!(case.count("audit where action = 'retention.prune'").await, 0);
    assert_eq!(case.prune(&[], &ALL).await, expected);
    assert_eq!(case.prune(&[], &ALL).await, counts([0; 6]), "nothing goes twice");
    assert_eq!(case.count("audit where action = 'retention.prune'").await, 5);

    // The report that led to the diagnosis of what came back, and what is new.
    for report in [&led, &new] {
        assert_eq!(case.log_of(report).await.status, 200);
    }
    assert_eq!(case.status(&format!("/api/reports/{known}")).await, 404);
    assert_eq!(case.status(&format!("/api/conversations/{}", idle.as_str().unwrap())).await, 404);
    assert_eq!(case.status(&format!("/api/conversations/{}", waits.as_str().unwrap())).await, 200);
    assert_eq!(case.count("usage").await, 0);
    assert_eq!(case.count("spent where scope in ('all', 'caller')").await, 0);
    gone_but_named(&case, &other, &gone).await;
    forgotten(&case, &gone, &back).await;
    case.app.stop().await;
}

/// Of a cause that did not come back the texts are gone; what was concluded stays, and each citation says why it leads nowhere.
async fn gone_but_named(case: &Case, report: &str, incident: &str) {
    let log = case.log_of(report).await;
    assert_eq!(log.status, 410, "{log:?}");
    assert!(log.body["detail"].as_str().unwrap().contains("`retention.evidence`"), "{log:?}");
    let detail = case.app.get(&format!("/api/reports/{report}")).await.body;
    let piece = &detail["evidence"][0];
    assert!(piece["pruned_at"].is_string() && piece["lines"].as_i64().unwrap() > 1, "{piece}");
    let run = &detail["runs"][0];
    assert!(run["usage"]["input_tokens"].as_i64().unwrap() > 0, "{run}");
    for call in run["tool_calls"].as_array().unwrap() {
        assert_eq!((&call["result"], &call["arguments"]), (&json!("(no longer kept)"), &json!("{}")));
    }
    assert_eq!(
        case.count(&format!("recordings c join runs r on r.id = c.run_id where r.report_id = '{report}'"))
            .await,
        0
    );
    let known = case.app.get(&format!("/api/incidents/{incident}")).await.body;
    assert!(known["diagnosis"]["claims"][0]["quote"].is_string(), "{known}");
    let page = |path: String| async move { case.app.get(&path).await.body.as_str().unwrap().to_owned() };
    let text = page(format!("/reports/{report}/evidence/E1?lines=3-3")).await;
    assert!(text.contains("no longer kept") && text.contains("retention.evidence"), "{text}");
    assert!(page(format!("/incidents/{incident}")).await.contains("no longer kept"));
    let lines = case.app.get(&format!("/reports/{report}/evidence/E1/lines?from=1&count=9")).await;
    assert_eq!(lines.status, 410, "{lines:?}");
    // It is asked about all the same.
    case.model.push(vec![Reply::Text("It ran out of memory.")]);
    let asked = json!({"message": "what was it?", "incident_id": incident});
    assert_eq!(case.app.send("/api/chat", &asked).await.status, 200);
}

/// A resolved incident goes with everything that hangs on it; an open one stays, however long it was not seen.
async fn forgotten(case: &Case, incident: &str, open: &str) {
    case.app
        .send(
            &format!("/api/incidents/{incident}/resolve"),
            &json!({"verdict": "confirmed", "author": "bob"}),
        )
        .await;
    sqlx::query("update incidents set status = 'resolved', resolved_at = now() where id = $1::uuid")
        .bind(incident)
        .execute(&case.pool)
        .await
        .unwrap();
    assert_eq!(case.prune(&[], &ALL).await["resolved incidents"], 0);
    case.age().await;
    assert_eq!(case.prune(&[], &ALL).await["resolved incidents"], 1);
    assert_eq!(case.status(&format!("/api/incidents/{incident}")).await, 404);
    for left in ["reports", "documents", "conversations"] {
        assert_eq!(case.count(&format!("{left} where incident_id = '{incident}'")).await, 0, "{left}");
    }
    assert_eq!(case.status(&format!("/api/incidents/{open}")).await, 200);
    let issues = case.app.issues().len();
    assert_eq!(case.report("go-vet").await.1, open);
    let (_, anew) = case.report("oom").await;
    assert_ne!(anew, incident);
    assert_eq!(
        case.app.issues().len(),
        issues + 1,
        "what is forgotten is new, what is known is not filed again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_time_all_is_kept_and_a_wrong_one_is_refused() {
    let case = Case::start().await;
    case.report("oom").await;
    case.age().await;
    let said = case.run(&[], &[]).await;
    assert!(
        said.status.success() && String::from_utf8_lossy(&said.stdout).contains("kept for ever"),
        "{said:?}"
    );
    let wrong = case.run(&[], &[("EVIDENCE", "1h"), ("USAGE", "soon")]).await;
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(1), "{told}");
    for part in
        ["`retention.evidence`: is shorter than a day", "REGREEN_RETENTION_USAGE", "`soon` is not a time"]
    {
        assert!(told.contains(part), "{told}");
    }
    let short = case.run(&["--usage", "2h"], &[]).await;
    assert!(!short.status.success() && String::from_utf8_lossy(&short.stderr).contains("shorter than a day"));
    let other = case.prune(&["--dry-run", "--usage", "90d"], &[("USAGE", "200d")]).await;
    assert!(other["entries of usage"] > 0, "{other:?}");
    assert_eq!(case.prune(&[], &[("REPORTS", "90d")]).await, BTreeMap::from([("reports".to_owned(), 0)]));
    assert_eq!(case.count("reports").await, 1);
    case.app.stop().await;
}

/// A row that goes has what points at it looked for; without an index every row of that table is read, for each that goes.
#[tokio::test(flavor = "multi_thread")]
async fn what_points_at_a_row_that_may_go_is_found_by_an_index() {
    let app = Setup::bare().await.start().await;
    let without: Vec<String> = sqlx::query_scalar(
        "select conrelid::regclass || '.' || attname from pg_constraint
         join pg_attribute on attrelid = conrelid and attnum = conkey[1]
         where contype = 'f' and connamespace = 'public'::regnamespace
               and not exists (select from pg_index where indrelid = conrelid and indkey[0] = conkey[1]) order by 1",
    )
    .fetch_all(&app.pool().await)
    .await
    .unwrap();
    // An agent, a key and a prompt go one at a time, if ever.
    assert_eq!(
        without,
        ["conversations.agent_id", "recordings.system", "recordings.tools", "sessions.key_id"]
    );
    app.stop().await;
}
