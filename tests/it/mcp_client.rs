//! The MCP client against servers that misbehave.

use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::{PATIENCE, Setup, TestApp, eventually, every};
use regreen::domain::Access;
use regreen::mcp::CallError;
use serde_json::json;
use tokio_util::sync::CancellationToken;

fn one_tool() -> Behaviour {
    Behaviour { tools: vec![("look", true), ("change", false)], ..Behaviour::default() }
}

async fn app(server: &FakeMcp, extra: &str) -> TestApp {
    Setup::bare().await.file(&server.table("fake", extra)).start().await
}

async fn call(app: &TestApp, tool: &str) -> Result<String, CallError> {
    app.call(("fake", tool), json!({}), CancellationToken::new()).await.map(|result| result.text)
}

fn names(app: &TestApp) -> Vec<String> {
    app.mcp().known(None).iter().map(|tool| tool.spec().name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_at_start_comes_later() {
    let gone = FakeMcp::start(one_tool()).await;
    let (address, table) = (gone.address, gone.table("fake", ""));
    drop(gone);
    let app = Setup::bare().await.file(&table).start().await;
    assert!(names(&app).is_empty() && !app.mcp().is_connected("fake"));
    let _server = FakeMcp::start_on(one_tool(), address).await;
    eventually("its tools appear", async || (names(&app).len() == 2).then_some(())).await;
    assert_eq!(call(&app, "look").await.unwrap(), "did \"look\"");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_is_rebuilt_and_only_reading_calls_are_repeated() {
    let server = FakeMcp::start(one_tool()).await;
    let app = app(&server, "").await;
    server.forget_sessions();
    assert_eq!(
        call(&app, "look").await.unwrap(),
        "did \"look\"",
        "a call that had not reached it is repeated"
    );
    server.forget_sessions();
    let refused = call(&app, "change").await;
    assert!(matches!(refused, Err(CallError::NotConnected { .. })), "{refused:?}");
    assert!(
        every(server.seen("tools/call"), |message| message["params"]["name"] != "change"),
        "never repeated"
    );
    eventually("it is connected again", async || call(&app, "change").await.ok()).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_broke_off_is_not_repeated() {
    let server = FakeMcp::start(one_tool()).await;
    let app = app(&server, "").await;
    server.behave(|behaviour| behaviour.drop_calls = true);
    let lost = call(&app, "look").await;
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(server.seen("tools/call").len(), 1, "it had reached the server");
    server.behave(|behaviour| behaviour.drop_calls = false);
    eventually("it works again", async || call(&app, "look").await.ok()).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_ends_and_the_server_is_told() {
    let server = FakeMcp::start(Behaviour { hang: true, ..one_tool() }).await;
    let app = app(&server, "call_timeout = \"100ms\"").await;
    let timed_out = call(&app, "look").await;
    assert!(matches!(timed_out, Err(CallError::TimedOut { .. })), "{timed_out:?}");
    server.wait_for("notifications/cancelled").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_ends_and_the_server_is_told() {
    let server = FakeMcp::start(Behaviour { hang: true, ..one_tool() }).await;
    let app = app(&server, "").await;
    let cancel = CancellationToken::new();
    let (cancelled, ()) = tokio::join!(app.call(("fake", "look"), json!({}), cancel.clone()), async {
        server.wait_for("tools/call").await;
        cancel.cancel();
    });
    assert_eq!(cancelled, Err(CallError::Cancelled));
    server.wait_for("notifications/cancelled").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_pages_globs_and_name_clashes() {
    let one = FakeMcp::start(Behaviour { endless_pages: true, ..one_tool() }).await;
    let two = FakeMcp::start(Behaviour {
        tools: vec![("look", true), ("secret_look", true), ("odd", false)],
        ..Behaviour::default()
    })
    .await;
    let setup = Setup::bare()
        .await
        .file(&one.table("one", ""))
        .file(&two.table("two", "deny = [\"secret_*\"]\nread = [\"odd\"]"));
    let app = tokio::time::timeout(PATIENCE, setup.start()).await.unwrap();
    let names = names(&app);
    assert!(names.contains(&"one_look".to_owned()) && names.contains(&"two_look".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("secret")), "{names:?}");
    assert!(!names.contains(&"look".to_owned()), "whose would it be? {names:?}");
    let reads: Vec<String> =
        app.mcp().known(Some(Access::Read)).iter().map(|tool| tool.spec().name.clone()).collect();
    assert!(reads.contains(&"odd".to_owned()) && !reads.contains(&"change".to_owned()), "{reads:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_come_from_secrets_and_show_nowhere() {
    let server = FakeMcp::start(Behaviour { authorization: Some("Bearer s3cret"), ..one_tool() }).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("token");
    std::fs::write(&secret, "Bearer s3cret\n").unwrap();
    let app = app(&server, &format!("headers = {{ Authorization = \"file:{}\" }}", secret.display())).await;
    assert_eq!(call(&app, "look").await.unwrap(), "did \"look\"");
    assert!(!app.get("/api/health").await.body.to_string().contains("s3cret"));
    app.stop().await;
}
