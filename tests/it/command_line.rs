//! The binary as its users call it.

use crate::support::Setup;
use regreen::demo::samples::sample;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn regreen(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regreen"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").envs(env.iter().copied());
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn help_names_every_command() {
    let help = text(&regreen(&["--help"], &[]));
    for command in
        ["serve", "work", "migrate", "ingest", "demo", "report", "excerpt", "openapi", "check-config"]
    {
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
