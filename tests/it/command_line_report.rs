//! `regreen report`: what it takes, where it leads, and what it says when there is no answer.

use super::command_line::{regreen, text};
use crate::support::Setup;
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Runs the binary with a text on its standard input.
fn fed(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_regreen"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_server_that_is_none_and_one_that_is_away_are_told_apart_and_from_a_refusal() {
    let report = |server: &str| {
        regreen(&["report", "--namespace", "ci", "--pod", "p", "--server", server], &[("NO_PROXY", "*")])
    };
    for (server, words) in [
        ("127.0.0.1:8000", "say `http://127.0.0.1:8000` or `https://127.0.0.1:8000`"),
        ("localhost:8000", "say `http://localhost:8000` or `https://localhost:8000`"),
        ("ftp://ci.example", "begins with http:// or https://"),
        ("", "it is empty"),
    ] {
        let refused = report(server);
        assert_eq!(refused.status.code(), Some(2), "{server}: {}", text(&refused));
        assert!(text(&refused).contains(words), "{server}: {}", text(&refused));
    }
    let away = report("http://127.0.0.1:9/");
    assert_eq!(away.status.code(), Some(3));
    for words in
        ["http://127.0.0.1:9 cannot be reached", "Connection refused", "`regreen serve`", "REGREEN_SERVER"]
    {
        assert!(text(&away).contains(words), "{words}: {}", text(&away));
    }
    let unnamed = report("http://nowhere.invalid");
    assert_eq!(unnamed.status.code(), Some(3), "{}", text(&unnamed));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_known_of_a_run_is_sent_and_the_page_is_named() {
    let app = Setup::bare().await.set("REGREEN_BODY_LIMIT", "1048576").start().await;
    let base = app.base.clone();
    let (done, large) = tokio::task::spawn_blocking(move || {
        let report = ["report", "--namespace", "ci", "--pod", "build-1", "--server", &base, "--log", "-"];
        let known = [
            "--container=step",
            "--pipeline=shop",
            "--task=test",
            "--run=shop-7",
            "--run-url=https://ci.example/7",
            "--repository=platform/shop",
            "--commit=0a1b2c3",
            "--last-good-run=https://ci.example/6",
        ];
        let done = fed(&[&report[..], &known].concat(), b"error: the widget is broken\nexit status 1\n");
        (done, fed(&report, "error: much\n".repeat(700_000).as_bytes()))
    })
    .await
    .unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let said = text(&done);
    let page = said.lines().last().unwrap();
    let id = page.strip_prefix(&format!("{}/reports/", app.base)).unwrap_or_else(|| panic!("{said}"));
    let stored = app.get(&format!("/api/reports/{id}")).await.body;
    for (field, value) in [
        ("container_name", "step"),
        ("pipeline", "shop"),
        ("task", "test"),
        ("run", "shop-7"),
        ("run_url", "https://ci.example/7"),
        ("repository", "platform/shop"),
        ("commit", "0a1b2c3"),
        ("last_good_run", "https://ci.example/6"),
    ] {
        assert_eq!(stored[field], Value::from(value), "{field}: {stored}");
    }
    assert_eq!(stored["evidence"][0]["lines"], 2, "{stored}");
    assert_eq!(large.status.code(), Some(2), "{}", text(&large));
    for words in ["larger than the 1048576 bytes", "`tail -c 16M LOG | regreen report"] {
        assert!(text(&large).contains(words), "{words}: {}", text(&large));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_to_say_who_they_are_is_told_how() {
    let app = Setup::bare().await.set("REGREEN_AUTH", "keys").start().await;
    let base = app.base.clone();
    let refused = tokio::task::spawn_blocking(move || {
        regreen(&["report", "--namespace", "ci", "--pod", "p", "--server", &base], &[])
    });
    let refused = refused.await.unwrap();
    assert_eq!(refused.status.code(), Some(2));
    for words in ["--token-file FILE", "REGREEN_TOKEN", "`regreen token create --role reporter --name NAME`"]
    {
        assert!(text(&refused).contains(words), "{words}: {}", text(&refused));
    }
    app.stop().await;
}
