//! `regreen doctor`: a deployment that is well, and one thing broken in it after another.

use crate::chaos_replicas::faketime;
use crate::support::fake_embeddings::FakeEmbeddings;
use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::issuer::Issuer;
use crate::support::real_servers::free_port;
use crate::support::{Setup, pool};
use serde_json::{Value, json};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What was told, and the exit code.
pub struct Told {
    code: Option<i32>,
    findings: Vec<Value>,
    text: String,
}

impl Told {
    /// The one finding of a check with this mark that says this and advises that.
    #[track_caller]
    pub fn has(&self, check: &str, mark: &str, says: &str, advice: &str) -> &Self {
        let fits = |finding: &&Value| {
            let text = |field: &str| finding[field].as_str().unwrap_or_default();
            text("check") == check
                && text("mark") == mark
                && text("says").contains(says)
                && text("advice").contains(advice)
        };
        assert_eq!(self.findings.iter().filter(fits).count(), 1, "{check} {mark} {says}: {}", self.text);
        self
    }

    /// An error of this kind, and the exit code that says so.
    #[track_caller]
    pub fn fails(&self, check: &str, says: &str, advice: &str) -> &Self {
        assert_eq!(self.code, Some(1), "{}", self.text);
        self.has(check, "error", says, advice)
    }

    #[track_caller]
    fn is_silent_about(&self, secrets: &[&str]) -> &Self {
        for secret in secrets {
            assert!(!self.text.contains(secret), "{secret}: {}", self.text);
        }
        self
    }
}

async fn run(setup: &Setup, arguments: &[&str], more: &[(&str, &str)]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, setup.toml()).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
    command.arg("--config").arg(file).args(arguments).env_clear().envs(setup.env());
    command.env("PATH", "/usr/bin:/bin").envs(more.iter().copied()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

async fn doctor_with(setup: &Setup, arguments: &[&str], more: &[(&str, &str)]) -> Told {
    let (code, text) = run(setup, &[&["doctor", "--json"], arguments].concat(), more).await;
    let findings = text.lines().map(|line| serde_json::from_str(line).expect(&text)).collect();
    Told { code, findings, text }
}

pub async fn doctor(setup: &Setup) -> Told {
    doctor_with(setup, &[], &[]).await
}

pub async fn migrated(setup: Setup) -> Setup {
    regreen::db::migrations::Migrations::default()
        .run(&pool(&setup.env()["DATABASE_URL"]).await)
        .await
        .unwrap();
    setup
}

async fn sql(setup: &Setup, statement: &str) {
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&pool).await.unwrap();
}

fn ready() -> Reply {
    Reply::call("report_ready", json!({"word": "green"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_nothing_wrong_where_everything_is_well() {
    let model = FakeModel::start(vec![ready(), ready()]).await;
    let setup = migrated(Setup::whole().await.model(&model)).await;
    let told = doctor_with(&setup, &["--namespace", "ci"], &[]).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    let line = |finding: &Value| format!("{} {}", finding["check"], finding["mark"]).replace('"', "");
    let lines: Vec<String> = told.findings.iter().map(line).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    settings ok
    database ok
    database ok
    migrations ok
    clock ok
    mcp ok
    mcp ok
    tools ok
    tools ok
    tools ok
    tools ok
    tools ok
    tools ok
    tracker ok
    tracker note
    model ok
    embedder ok
    permissions ok
    permissions ok
    permissions ok
    files ok
    address note
    address note
    ");
    told.has("model", "ok", "`fake` called the tool it was asked to", "")
        .has("mcp", "ok", "`openshift` (sse, MCP 2025-11-25) connected", "")
        .has("mcp", "ok", "change something: pods_delete", "")
        .has("tools", "ok", "`create_issue` of `gitea` (`tracker.create_tool`) is there and fits", "")
        .has("tracker", "ok", "issues go to platform/failures through `gitea`", "")
        .has("permissions", "ok", "the log of `", "")
        .is_silent_about(&["key-1"]);
    assert!(setup.forge().issues().is_empty() && model.refusals().is_empty(), "{:?}", model.refusals());
    let (code, text) = run(&setup, &["doctor", "--namespace", "ci"], &[]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("ok       settings     can be used\nok       database     PostgreSQL "),
        "{text}"
    );
    assert!(text.contains("\n                      → set `tracker.webhook_secret`"), "{text}");
    assert!(text.trim_end().ends_with(" notes, 0 warnings, 0 errors") && !text.contains('\x1b'), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_what_is_wrong_with_the_settings_and_no_secret_of_them() {
    let setup = Setup::bare().await.set("GITEA_OWNER", "o").set("PORT", "x").set("REGREEN_PORT", "y");
    let told = doctor(&setup).await;
    told.fails("settings", "`server.port` (REGREEN_PORT): `y`", "mend it").fails(
        "settings",
        "`tracker.repo`",
        "",
    );
    let setup = Setup::bare().await.file("[model]\napi_key = \"hush-hush\"\nbroken");
    doctor(&setup).await.fails("settings", "is not valid TOML", "").is_silent_about(&["hush-hush"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_a_database_that_is_away_from_one_that_refuses() {
    let away = format!("postgres://regreen:hush-hush@127.0.0.1:{}/regreen", free_port());
    let setup = Setup::bare().await.set("DATABASE_URL", &away);
    let told = doctor(&setup).await;
    told.fails("database", "cannot be used", "see that it runs").is_silent_about(&["hush-hush"]);
    // The others are looked at all the same.
    told.has("embedder", "ok", "`lexical`", "").has("address", "note", "127.0.0.1", "REGREEN_AUTH");
    let setup = Setup::bare().await;
    let url = setup.env()["DATABASE_URL"].clone();
    let missing = setup.set("DATABASE_URL", &format!("{url}_not"));
    doctor(&missing).await.fails("database", "does not exist", "make the database");
    let stranger = missing.set("DATABASE_URL", &url.replace("//regreen@", "//stranger:hush-hush@"));
    doctor(&stranger).await.fails("database", "stranger", "pg_hba.conf").is_silent_about(&["hush-hush"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_leaves_a_schema_as_it_is_and_says_what_it_lacks() {
    let setup = Setup::unmigrated().await;
    let all = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count();
    let told = doctor(&setup).await;
    told.fails(
        "migrations",
        &format!("{all} are not applied, the first is 20261121000001"),
        "regreen migrate",
    );
    told.has("database", "note", "is there and not yet part of the database", "the first start makes it so");
    let tables = "select count(*) from pg_tables where schemaname = 'public'";
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    assert_eq!(sqlx::query_scalar::<_, i64>(tables).fetch_one(&pool).await.unwrap(), 0);
    let setup = migrated(setup).await;
    doctor(&setup).await.has("migrations", "ok", &format!("all {all} are applied"), "");
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (20991231000000, '', true, '', 0)";
    sql(&setup, newer).await;
    let works =
        format!("all {all} are applied, and those of a newer Regreen up to 20991231000000, with which");
    doctor(&setup).await.has("migrations", "ok", &works, "");
    sql(&setup, "update _sqlx_migrations set checksum = 'other' where version = 20261121000002").await;
    doctor(&setup).await.fails("migrations", "20261121000002 was applied with another text", "run the build");
    sql(&setup, "update _sqlx_migrations set version = 20991231000001 where version = 20261121000002").await;
    sql(&setup, "update schema_floor set version = 20991231000001").await;
    doctor(&setup).await.fails(
        "migrations",
        "a newer Regreen applied 20991231000001 and took",
        "that newer version",
    );
    sql(&setup, "delete from _sqlx_migrations where version > 20261121000001").await;
    doctor(&setup).await.fails(
        "migrations",
        &format!("{} are not applied, the first is 20261121000002", all - 1),
        "regreen migrate",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_when_pgvector_or_a_right_is_missing() {
    let setup = migrated(Setup::bare().await).await;
    let url = setup.env()["DATABASE_URL"].clone();
    let (_, name) = url.rsplit_once('/').unwrap();
    sql(&setup, &format!("create role r{name} login")).await;
    sql(&setup, &format!("grant select on all tables in schema public to r{name}")).await;
    let reader = url.replace("//regreen@", &format!("//r{name}@"));
    let setup = setup.set("DATABASE_URL", &reader);
    doctor(&setup).await.fails("database", "its user may not write the table `", "grant it select, insert");
    let setup = setup.set("DATABASE_URL", &url);
    sql(&setup, &format!("drop owned by r{name}; drop role r{name}")).await;
    sql(&setup, &format!("alter database {name} set default_transaction_read_only = on")).await;
    doctor(&setup).await.fails("database", "refuses to write", "name the primary");
    let setup = Setup::unmigrated().await;
    let (_, name) = setup.env()["DATABASE_URL"].rsplit_once('/').unwrap();
    sql(&setup, &format!("alter database {name} set extension_control_path = '/nowhere'")).await;
    doctor(&setup).await.fails("database", "has no pgvector", "install pgvector on the server");
    let setup = migrated(Setup::bare().await).await;
    sql(&setup, "drop extension vector cascade").await;
    doctor(&setup).await.fails("database", "pgvector was taken out", "backup");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_starts_no_private_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let setup = Setup::bare().await.set("DATABASE_URL", "").set("REGREEN_DATA_DIR", data.to_str().unwrap());
    let programs = crate::support::postgres::programs();
    let setup = setup.set("REGREEN_POSTGRES_PROGRAMS", programs.to_str().unwrap());
    let told = doctor(&setup).await;
    told.has("database", "note", "no private PostgreSQL runs in", "regreen serve");
    assert!(told.code == Some(0) && !data.exists(), "{}", told.text);
    let setup = setup.set("REGREEN_POSTGRES_PROGRAMS", "/nowhere");
    doctor(&setup).await.fails("database", "no postgres with pgvector", "DATABASE_URL");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_compares_the_clock_with_the_databases() {
    let setup = migrated(Setup::bare().await).await;
    let library = faketime();
    let at = |offset| {
        [("LD_PRELOAD", library.to_str().unwrap()), ("FAKETIME", offset), ("DONT_FAKE_MONOTONIC", "1")]
    };
    let told = doctor_with(&setup, &[], &at("-20s")).await;
    told.has("clock", "warning", "behind the database's", "NTP");
    assert_eq!(told.code, Some(0), "{}", told.text);
    let told = doctor_with(&setup, &[], &at("+3600s")).await;
    told.fails("clock", "ahead of the database's: tokens that are good are refused", "NTP");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_why_a_server_is_not_connected() {
    let closed =
        FakeMcp::start(Behaviour { authorization: Some("Bearer right"), ..Behaviour::default() }).await;
    let headers = "headers = { Authorization = \"Bearer hush-hush\" }\n";
    let setup = migrated(Setup::bare().await).await;
    let setup = setup
        .set("MCP_OPENSHIFT_URL", &format!("http://127.0.0.1:{}/sse", free_port()))
        .file(&closed.table("closed", headers))
        .file("[[mcp]]\nname = \"child\"\ntransport = \"stdio\"\ncommand = [\"/nowhere/mcp\"]\n");
    let told = doctor(&setup).await;
    told.fails("mcp", "`openshift` (sse) is not connected", "NetworkPolicy")
        .fails("mcp", "`closed` (streamable-http) is not connected", "`headers` of `closed`")
        .fails("mcp", "`child` (stdio) is not connected: cannot start", "`command` of `child`")
        .is_silent_about(&["hush-hush"]);
    let bare = migrated(Setup::bare().await).await;
    doctor(&bare).await.has("mcp", "warning", "no MCP server is configured", "openshift.url");
    // Servers that were added over the API are looked at too.
    let added = json!({"name": "late", "transport": "streamable-http", "url": closed.url(), "headers": {"authorization": "env:REGREEN_MCP_LATE"}});
    sql(
        &bare,
        &format!("insert into mcp_servers (name, settings, created_at) values ('late', '{added}', now())"),
    )
    .await;
    doctor(&bare).await.has("mcp", "warning", "\"late\", an added server, is left out", "added_servers");
    let more = [("REGREEN_ADDED_URLS", "http://127.0.0.1:*/mcp"), ("REGREEN_MCP_LATE", "Bearer hush-hush")];
    let told = doctor_with(&bare, &[], &more).await;
    told.fails("mcp", "`late` (streamable-http) is not connected", "`headers` of `late`")
        .is_silent_about(&["hush-hush"]);
}

/// A forge and a cluster whose tools are not those of the settings.
fn strange() -> Behaviour {
    let properties = |names: &[&str]| -> Value {
        names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect()
    };
    let schema = |names: &[&str]| json!({"type": "object", "properties": properties(names)});
    Behaviour {
        tools: vec![("create_issue", false), ("pods_log", true), ("events_list", true), ("pods_list", true)],
        schemas: [
            ("create_issue", schema(&["owner", "repo", "headline", "body"])),
            ("pods_log", schema(&["namespace", "name", "tail"])),
        ]
        .into(),
        answers: vec![
            ("pods_list", "pods is forbidden: User \"mcp\" cannot list resource \"pods\"".to_owned(), true),
            ("events_list", "the server is busy\x1b[2J".to_owned(), true),
        ],
        ..Behaviour::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_which_tools_are_missing_or_do_not_fit_and_what_the_cluster_forbids() {
    let server = FakeMcp::start(strange()).await;
    let setup = migrated(Setup::bare().await).await;
    let policy = tempfile::NamedTempFile::new().unwrap();
    let rule = "[[rule]]\nserver = \"all\"\ntool = \"pods_log\"\nplace = \"service\"\ndecision = \"deny\"\nreason = \"not here\"\n";
    std::fs::write(policy.path(), rule).unwrap();
    let setup = setup
        .file(&server.table("all", ""))
        .set("REGREEN_CLUSTER_SERVER", "all")
        .set("REGREEN_TRACKER_SERVER", "all")
        .set("GITEA_OWNER", "platform")
        .set("GITEA_REPO", "failures")
        .set("REGREEN_POLICY_FILE", policy.path().to_str().unwrap());
    let told = doctor_with(&setup, &["--namespace", "ci"], &[]).await;
    told.fails(
        "tools",
        "`create_issue` of `all` (`tracker.create_tool`) does not fit: it takes no `title`",
        "it has create_issue",
    )
    .has(
        "tools",
        "warning",
        "` of `all` (`tracker.list_tool`) is not there: a report whose issue may have been filed",
        "`tracker.list_tool`",
    )
    .has("tools", "warning", "`pods_get` of `all`", "`cluster.pod_tool`")
    .fails("tools", "is kept from Regreen itself by rule 1: not here", "policy.file")
    .fails(
        "permissions",
        "pods of `ci` cannot be read: pods is forbidden",
        "get and list on pods, pods/log and events",
    )
    // Without what would clear a terminal.
    .has("permissions", "warning", "events of `ci` cannot be read: the server is busy", "--namespace");
    let called: Vec<Value> =
        server.seen("tools/call").iter().map(|call| call["params"]["name"].clone()).collect();
    assert_eq!(called, ["pods_list", "events_list"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_what_a_model_does_wrong() {
    let refused =
        json!({"error": {"message": "Incorrect API key provided: key-1", "code": "invalid_api_key"}});
    let script = vec![
        Reply::Status(401, refused, None),
        Reply::Text("I am ready."),
        Reply::Calls(
            vec![("report_ready", "{\"said\":1}".to_owned())],
            crate::support::fake_model::Style::Whole,
        ),
        Reply::Status(404, json!({"error": {"message": "no such model"}}), None),
        Reply::Status(503, json!({"error": {"message": "overloaded"}}), None),
    ];
    let model = FakeModel::start(script).await;
    let setup = migrated(Setup::bare().await.model(&model)).await;
    let told = doctor(&setup).await;
    told.fails("model", "the model refused the request", "`model.api_key`").is_silent_about(&["key-1"]);
    doctor(&setup).await.fails("model", "answered without calling the tool", "enable-auto-tool-choice");
    doctor(&setup).await.has("model", "warning", "arguments that do not fit", "parser");
    doctor(&setup).await.fails("model", "no such model", "a model `fake`");
    doctor(&setup).await.fails("model", "overloaded", "`model.url`");
    assert_eq!(model.requests().len(), 5, "each is asked once");
    let ready = || Reply::Text(r#"{"tool": "report_ready", "arguments": {"word": "green"}}"#);
    let setup = setup.set("REGREEN_MODEL_TOOL_CALLS", "auto");
    model.push(vec![Reply::Text("I am ready."), Reply::Text("Green."), ready(), ready()]);
    doctor(&setup).await.has("model", "ok", "by a JSON schema that its answer is held to", "");
    model.push(vec![Reply::Text("I am ready."), Reply::Text("Green."), Reply::Text("Green."), ready()]);
    doctor(&setup).await.has("model", "warning", "written into its answer", "--jinja");
    let setup = setup.set("REGREEN_MODEL_URL", &format!("http://127.0.0.1:{}", free_port()));
    doctor(&setup).await.fails("model", "cannot be reached", "`model.url`");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_compares_the_embedders_vectors_with_those_that_are_stored() {
    let endpoint = FakeEmbeddings::start(8).await;
    let setup = migrated(Setup::unmigrated().await).await;
    let setup = setup
        .set("REGREEN_EMBEDDER", "endpoint")
        .set("REGREEN_EMBEDDING_URL", &endpoint.url)
        .set("REGREEN_EMBEDDING_MODEL", "small");
    doctor(&setup).await.has("embedder", "ok", "`endpoint` (small) answers vectors of 8 numbers", "");
    let stored = "insert into embedding_spaces (provider, model, dimensions, created_at) values ('endpoint', 'small', 16, now())";
    sql(&setup, stored).await;
    doctor(&setup).await.fails("embedder", "those that are stored have 16", "a name of its own");
    endpoint.fail_with(&[401]);
    doctor(&setup).await.fails("embedder", "not now", "knowledge.embedder");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_asks_the_issuers_of_tokens() {
    let issuer = Issuer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let write = |text: &str| {
        std::fs::write(&token, text).unwrap();
        std::fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
    };
    write("own-token\n");
    let setup = migrated(Setup::bare().await).await;
    let setup = setup
        .set("REGREEN_AUTH", "keys,oidc,kubernetes")
        .set("REGREEN_OIDC_ISSUER", &issuer.url)
        .set("REGREEN_OIDC_CLIENT_ID", "regreen-pages")
        .set("REGREEN_KUBERNETES_API", &issuer.url)
        .set("REGREEN_KUBERNETES_TOKEN", token.to_str().unwrap());
    let told = doctor(&setup).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    told.has("auth", "ok", "publishes 1 keys", "").has("auth", "ok", "answers TokenReviews", "").has(
        "auth",
        "warning",
        "people cannot log in",
        "/login/callback",
    );
    write("hush-hush\n");
    let told = doctor(&setup).await;
    told.fails("auth", "kubernetes: a TokenReview: it answered 401", "tokenreviews.authentication.k8s.io")
        .is_silent_about(&["hush-hush"]);
    issuer.away(true);
    doctor(&setup).await.fails(
        "auth",
        "oidc: the issuer's configuration: it answered 503",
        "auth.oidc_issuer",
    );
    let keys = migrated(Setup::bare().await.set("REGREEN_AUTH", "keys")).await;
    doctor(&keys).await.has("auth", "warning", "there is no API key yet", "regreen token create");
    let ends = [("ci", "'10 days'"), ("next", "'13 days'"), ("later", "'15 days'"), ("over", "'-1 day'")];
    for (name, end) in [&ends[..], &[("back", "'1 day'"), ("ever", "null")]].concat() {
        let revoked = if name == "back" { "now()" } else { "null" };
        let key = format!(
            "gen_random_uuid(), '{name}', '{name}', 'reporter', 'it', now(), now() + {end}::interval, {revoked}"
        );
        let columns = "id, name, hash, role, created_by, created_at, expires_at, revoked_at";
        sql(&keys, &format!("insert into api_keys ({columns}) values ({key})")).await;
    }
    let told = doctor(&keys).await;
    told.has("auth", "ok", "4 API keys may be used", "").has("auth", "warning", "`ci` ends on 20", "revoke");
    let ending = told.findings.iter().find(|finding| !finding["data"]["keys"].is_null()).unwrap();
    assert_eq!((&ending["data"]["keys"], told.text.matches("ends on").count()), (&json!(2), 2));
    let open = keys.set("REGREEN_AUTH", "none").set("REGREEN_BIND", "0.0.0.0");
    let told = doctor(&open).await;
    told.has("address", "warning", "whoever reaches it may do everything", "auth.methods");
    assert!(!told.text.contains("ends on"), "no key is taken: {}", told.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_looks_at_who_else_may_read_and_write_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, "hush-hush\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        format!("file:{}", path.display())
    };
    let shown = |name: &str| folder.path().join(name).display().to_string();
    let model = FakeModel::start(vec![ready(), ready()]).await;
    let setup = migrated(Setup::bare().await.model(&model)).await;
    let server = FakeMcp::start(Behaviour { tools: vec![("look", true)], ..Behaviour::default() }).await;
    let table = server.table("jenkins", &format!("headers = {{ X-Token = \"{}\" }}", file("header", 0o602)));
    let setup = setup.set("REGREEN_MODEL_API_KEY", &file("key", 0o604)).file(&table);
    let setup = setup.set("REGREEN_CORPUS", Path::new(&shown("gone")).to_str().unwrap());
    let told = doctor(&setup).await;
    told.has("files", "warning", &format!("{} holds a secret", shown("key")), "chmod o-r")
        .fails("files", &format!("{} can be changed by everybody", shown("header")), "chmod o-w")
        .fails("files", &format!("{} cannot be read", shown("gone")), "mount or make it")
        .is_silent_about(&["hush-hush"]);
    let told = doctor_with(&setup, &[], &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]).await;
    told.has("files", "note", &format!("{} holds a secret", shown("key")), "defaultMode");
}
