//! The binary as its users call it.

use crate::support::Setup;
use regreen::demo::samples::sample;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub fn regreen(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").envs(env.iter().copied());
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).output().unwrap()
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn help_names_every_command() {
    let help = text(&regreen(&["--help"], &[]));
    for command in [
        "serve",
        "work",
        "migrate",
        "ingest",
        "policy",
        "demo",
        "report",
        "excerpt",
        "audit",
        "replay",
        "health",
        "doctor",
        "openapi",
        "completions",
        "man",
        "check-config",
    ] {
        assert!(help.contains(&format!("  {command} ")), "{help}");
    }
}

#[test]
fn check_config_explains_and_fails() {
    let good = regreen(&["check-config"], &[]);
    assert!(good.status.success() && text(&good).contains("The configuration is good"), "{}", text(&good));
    let bad = regreen(&["check-config"], &[("GITEA_OWNER", "o"), ("PORT", "x")]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(
        text(&bad).contains("`server.port` (PORT)") && text(&bad).contains("`tracker.repo`"),
        "{}",
        text(&bad)
    );
    let refused = regreen(&["serve"], &[("LITELLM_URL", "http://m")]);
    assert!(!refused.status.success() && text(&refused).contains("`model.name`"), "{}", text(&refused));
}

#[test]
fn migrate_waits_for_its_database_and_says_what_is_wrong() {
    let away = [("DATABASE_URL", "postgres://regreen@127.0.0.1:9/x"), ("REGREEN_DATABASE_WAIT", "1s")];
    let output = regreen(&["migrate"], &away);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("the database did not answer within 1s"), "{}", text(&output));
    assert!(!text(&output).contains("pgvector"), "{}", text(&output));
    assert_eq!(text(&output).matches("Connection refused").count(), 1, "{}", text(&output));
}

#[test]
fn policy_test_prints_the_decision_and_the_rule_behind_it() {
    let jenkins = ["policy", "test", "--server", "jenkins", "--tool", "run_groovy_script"];
    let denied = regreen(&jenkins, &[]);
    assert_eq!(denied.status.code(), Some(4));
    let said = text(&denied);
    assert!(said.starts_with("deny\n") && said.contains("rule       default\n"), "{said}");
    assert!(
        said.contains("taken as one that changes something") && said.contains("a rule that names them"),
        "{said}"
    );
    // What its server says of it does not matter.
    assert_eq!(regreen(&[&jenkins[..], &["--access", "read"]].concat(), &[]).status.code(), Some(4));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    let rules = "[[rule]]\nserver = \"jenkins\"\ntool = \"run_groovy_script\"\nrole = \"admin\"\ndecision = \"approve\"\nreason = \"Groovy is for admins\"\n\
                 [[rule]]\nserver = \"g*\"\npin = { owner = \"platform\" }\ncheck = { title = { max_length = 5 } }\ndecision = \"allow\"\n";
    std::fs::write(&file, rules).unwrap();
    let env = [("REGREEN_POLICY_FILE", file.to_str().unwrap())];
    assert_eq!(regreen(&jenkins, &env).status.code(), Some(4), "an operator is no admin");
    let approved =
        regreen(&[&jenkins[..], &["--role", "admin", "--args", "{\"script\":\"1\"}"]].concat(), &env);
    assert_eq!(approved.status.code(), Some(3));
    let said = text(&approved);
    for part in ["approve\n", "rule 1 of ", "Groovy is for admins", "{\"script\":\"1\"}"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let issue =
        ["policy", "test", "--json", "--server", "gitea", "--tool", "create_issue", "--place", "triage"];
    let allowed =
        regreen(&[&issue[..], &["--args", "{\"owner\":\"evil\",\"title\":\"short\"}"]].concat(), &env);
    assert_eq!(allowed.status.code(), Some(0), "{}", text(&allowed));
    let told: serde_json::Value = serde_json::from_slice(&allowed.stdout).unwrap();
    assert_eq!(
        (&told["decision"], &told["arguments"]["owner"], &told["rule"]),
        (&"allow".into(), &"platform".into(), &"rule 2".into())
    );
    let long = regreen(&[&issue[..], &["--args", "{\"title\":\"too long\"}"]].concat(), &env);
    assert_eq!(long.status.code(), Some(4));
    assert!(text(&long).contains("`title` has to be at most 5 long"), "{}", text(&long));
    assert_eq!(regreen(&[&issue[..], &["--args", "[]"]].concat(), &env).status.code(), Some(2));
    std::fs::write(&file, "[[rule]]\ndecision = \"allow\"\n[[rule]]\ndecision = \"perhaps\"\n").unwrap();
    let wrong = regreen(&["check-config"], &env);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong).contains("`policy.file` rule 2: decision: `perhaps`"), "{}", text(&wrong));
}

#[test]
fn excerpt_keeps_the_cause_and_reads_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_regreen"))
        .args(["excerpt", "--max-tokens", "300", "--format", "json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let log = sample("compile-error").unwrap().log;
    child.stdin.take().unwrap().write_all(log.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(value["tokens"].as_u64().unwrap() <= 300);
    assert!(value["text"].as_str().unwrap().contains("error[E0308]: mismatched types"), "{value}");
}

#[tokio::test(flavor = "multi_thread")]
async fn report_prints_the_outcome_and_its_exit_code_says_which() {
    let app = Setup::whole().await.start().await;
    let base = app.base.clone();
    let run = move |pod: &'static str, extra: &'static [&'static str]| {
        let base = base.clone();
        tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = ["report", "--namespace", "ci", "--server", &base, "--pod", pod]
                .into_iter()
                .chain(extra.iter().copied())
                .collect();
            regreen(&arguments, &[])
        })
    };
    let done = run(sample("dns").unwrap().pod, &[]).await.unwrap();
    assert!(done.status.success() && text(&done).contains("Issue created: http://"), "{}", text(&done));
    let json = run(sample("dns").unwrap().pod, &["--json"]).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(answer["status"], "success");
    assert_eq!(run("nobody", &[]).await.unwrap().status.code(), Some(1));
    assert_eq!(run("NOT-A-POD", &[]).await.unwrap().status.code(), Some(2));
    assert_eq!(run(sample("oom").unwrap().pod, &["--no-wait"]).await.unwrap().status.code(), Some(4));
    let away = regreen(&["report", "--namespace", "ci", "--pod", "p", "--server", "http://127.0.0.1:9"], &[]);
    assert_eq!(away.status.code(), Some(3));
    app.stop().await;
}

/// Answers every connection with this.
async fn answering(said: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            // The body is an object: it ends like one.
            while !asked.ends_with(b"}") {
                assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
            }
            stream.write_all(said.as_bytes()).await.unwrap();
        }
    });
    base
}

#[tokio::test(flavor = "multi_thread")]
async fn report_tells_a_refusal_and_a_redirect_from_a_failure() {
    let full = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: 26\r\nconnection: close\r\n\r\n{\"detail\":\"it is full up\"}";
    let moved = "HTTP/1.1 301 Moved\r\nlocation: https://ci.example/x/report-failure\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let login =
        "HTTP/1.1 302 Found\r\nlocation: /login?to=1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for (said, words) in [
        (full, "it is full up"),
        (
            moved,
            "redirects to https://ci.example/x/report-failure, and a report is not sent on; use `--server https://ci.example/x`",
        ),
        (
            login,
            "/login?to=1, and a report is not sent on; name the URL of the server itself with `--server`",
        ),
    ] {
        let base = answering(said).await;
        let arguments = ["report", "--namespace", "ci", "--pod", "p", "--server"];
        let output = tokio::task::spawn_blocking(move || regreen(&[&arguments[..], &[&base]].concat(), &[]));
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(words), "{}", text(&output));
    }
}

#[test]
fn the_demonstration_files_an_issue_per_sample_failure() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let data = folder.path().to_str().unwrap();
    for known in regreen::demo::samples::samples() {
        let output = regreen(&["demo", "--once", "--sample", known.slug], &[("REGREEN_DATA_DIR", data)]);
        let said = text(&output);
        assert!(output.status.success(), "{}: {said}", known.slug);
        for word in
            known.cause_words.iter().copied().chain(["✓ collect", "✓ publish", "Issue created: http://"])
        {
            assert!(said.contains(word), "{}: {word} is missing: {said}", known.slug);
        }
    }
}
