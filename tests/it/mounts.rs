//! Files of a folder take the places of what is built in, and a schema that a newer program migrated.

use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Setup, TestApp, pool};
use regreen::cli::serve::{Roles, start};
use regreen::shutdown::Shutdown;
use serde_json::json;
use sqlx::AssertSqlSafe;
use std::path::Path;

/// A built-in text, with a change, in a folder of its own.
fn changed(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&built_in).unwrap();
    assert!(text.contains(from), "{text}");
    let folder = tempfile::tempdir().unwrap();
    // As a ConfigMap is mounted.
    let data = folder.path().join("..data");
    std::fs::create_dir(&data).unwrap();
    let name = built_in.file_name().unwrap();
    std::fs::write(data.join(name), text.replace(from, to)).unwrap();
    std::os::unix::fs::symlink(data.join(name), folder.path().join(name)).unwrap();
    folder
}

async fn refused(setup: &Setup) -> String {
    let error = start(setup.config(), Roles::Both, Shutdown::new()).await.map(|_| ()).unwrap_err();
    format!("{error:#}")
}

async fn html(app: &TestApp, path: &str) -> String {
    app.http
        .get(format!("{}{path}", app.base))
        .header("accept", "text/html")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_page_takes_the_place_of_the_built_in_one() {
    let banner = "<main id=\"main\" tabindex=\"-1\"><p>Team Delta, phone 4711</p>";
    let folder = changed("src/web/templates/layout.html", "<main id=\"main\" tabindex=\"-1\">", banner);
    let (heard, told) = ("The answer is there.", "Delta has answered.");
    let piece = changed("src/web/templates/answered.html", heard, told);
    std::fs::copy(piece.path().join("answered.html"), folder.path().join("answered.html")).unwrap();
    let model = FakeModel::start(vec![Reply::Text("Forty-two.")]).await;
    let setup = Setup::bare().await.model(&model).set("REGREEN_PAGES", folder.path().to_str().unwrap());
    let app = setup.start().await;
    let plain = Setup::bare().await.start().await;
    for path in ["/", "/incidents/nothing", "/no/such/page"] {
        assert!(html(&app, path).await.contains(banner), "{path}");
        assert!(
            !html(&plain, path).await.contains(banner),
            "two services of one process have their own: {path}"
        );
    }
    let body = json!({"message": "how much?"});
    let mut asked = app.events(app.http.post(format!("{}/api/chat/stream", app.base)).json(&body)).await;
    asked.until("done").await;
    let answer = html(&app, &format!("/chat/turns/{}", asked.run)).await;
    assert!(answer.contains(told) && !answer.contains(heard), "{answer}");
    app.stop().await;
    plain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_page_that_would_fail_is_refused_at_the_start() {
    let built_in = "<main id=\"main\" tabindex=\"-1\">";
    for (to, told) in [
        ("{{ owner }}", "layout.html: asks for `owner`, which the built-in one does not"),
        ("{% if %}", "layout.html: syntax error"),
    ] {
        let folder = changed("src/web/templates/layout.html", built_in, to);
        let setup = Setup::bare().await.set("REGREEN_PAGES", folder.path().to_str().unwrap());
        let error = refused(&setup).await;
        assert!(error.contains(told), "{error}");
        std::fs::rename(folder.path().join("layout.html"), folder.path().join("lay-out.html")).unwrap();
        let error = refused(&setup).await;
        assert!(
            error.contains("lay-out.html: takes the place of nothing; there is agent-form.html"),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_migration_is_applied_instead_and_stays() {
    let folder = changed(
        "migrations/20261122000020_schema_floor.sql",
        "create table schema_floor",
        "create table of_the_team (id int);\ncreate table schema_floor",
    );
    let setup = Setup::unmigrated().await;
    let database = setup.env()["DATABASE_URL"].clone();
    let mounted = setup.set("REGREEN_MIGRATIONS", folder.path().to_str().unwrap());
    for _ in 0..2 {
        let running = start(mounted.config(), Roles::Both, Shutdown::new()).await.unwrap();
        running.stop().await.unwrap();
    }
    let there = sqlx::query_scalar::<_, i64>("select count(*) from of_the_team");
    assert_eq!(there.fetch_one(&pool(&database).await).await.unwrap(), 0);
    let without = Setup::bare().await.set("DATABASE_URL", &database);
    let error = refused(&without).await;
    assert!(error.contains("20261122000020 was previously applied but has been modified"), "{error}");
    std::fs::write(folder.path().join("20261122000021_more.sql"), "select 1").unwrap();
    let error = refused(&mounted).await;
    assert!(error.contains("20261122000021_more.sql: takes the place of nothing; there is 2026"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_goes_on_with_a_newer_schema_until_that_takes_something_away() {
    let setup = Setup::whole().await;
    let database = pool(&setup.env()["DATABASE_URL"]).await;
    let sql = async |statement: &str| {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&database).await.unwrap();
    };
    start(setup.config(), Roles::Both, Shutdown::new()).await.unwrap().stop().await.unwrap();
    sql("alter table reports add column of_tomorrow text;
         insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (20991231000001, 'of tomorrow', true, '', 0)")
    .await;
    let config = setup.config();
    let app = setup.start().await;
    let done = app.report("compile-error").await;
    assert_eq!((done.status, app.issues().len()), (200, 1), "{:?}", done.body);
    app.stop().await;
    sql("update schema_floor set version = 20991231000001").await;
    let error = start(config, Roles::Both, Shutdown::new()).await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("20991231000001") && error.contains("restore the backup"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_brief_that_shows_nothing_leaves_the_rules_analyst_its_evidence() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("triage-brief.md"), "Conclude.\n").unwrap();
    let setup = Setup::whole().await.set("REGREEN_PROMPTS", folder.path().to_str().unwrap());
    let app = setup.start().await;
    let answer = app.report("compile-error").await;
    let id = answer.body["report_id"].as_str().unwrap();
    let report = app.get(&format!("/api/reports/{id}")).await.body;
    let run = &report["runs"][0];
    let steps: Vec<&str> =
        run["tool_calls"].as_array().unwrap().iter().map(|call| call["name"].as_str().unwrap()).collect();
    assert_eq!((&run["analyst"], &steps[..]), (&json!("rules"), &["read_evidence", "submit_diagnosis"][..]));
    assert!(app.issues()[0]["title"].as_str().unwrap().contains("E0308"), "{:?}", app.issues());
    app.stop().await;
}
