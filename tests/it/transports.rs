//! The transport that a server speaks is found out when the configured one is not there: with the Kubernetes MCP server in the
//! version of the chart, which serves `/mcp` alone, and in an old one, which serves `/sse` too.

use crate::support::fake_mcp::{Behaviour, FakeMcp};
use crate::support::real_servers::{Kubernetes, kubernetes_of};
use crate::support::{Setup, TestApp, apis};
use regreen::demo::samples::samples;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// The transport of the settings, the path, the one that is used, and what is said of it.
type Case = (&'static str, &'static str, &'static str, Option<&'static str>);

async fn server(app: &TestApp, name: &str) -> serde_json::Value {
    app.get(&format!("/api/mcp-servers/{name}")).await.body
}

async fn each(version: Kubernetes, cases: &[Case]) {
    let folder = tempfile::tempdir().unwrap();
    let cluster = apis::kubernetes(samples()).await;
    let kubernetes = kubernetes_of(version, &cluster.url, folder.path()).await;
    let base = kubernetes.url.strip_suffix("/mcp").unwrap();
    let table = |(number, (transport, path, _, _)): (usize, &Case)| {
        format!("[[mcp]]\nname = \"s{number}\"\ntransport = \"{transport}\"\nurl = \"{base}{path}\"\n")
    };
    let file: String = cases.iter().enumerate().map(table).collect();
    let app = Setup::bare().await.file(&file).start().await;
    for (number, (transport, path, used, note)) in cases.iter().enumerate() {
        let name = format!("s{number}");
        let what = format!("{version:?} {transport} {path}");
        assert!(app.mcp().is_connected(&name), "{what}: {:?}", app.mcp().status());
        let pods = app
            .call((&name, "pods_list_in_namespace"), json!({"namespace": "ci"}), CancellationToken::new())
            .await;
        assert!(pods.unwrap().text.contains("gateway-build-q9w4z-compile-pod"), "{what}");
        let told = server(&app, &name).await;
        assert_eq!(told["transport"], *used, "{what}: {told}");
        match note {
            None => assert!(told.get("note").is_none(), "{what}: {told}"),
            Some(note) => {
                assert!(told["note"].as_str().unwrap().starts_with(note), "{what}: {told}");
                let page = app.get(&format!("/mcp-servers/{name}")).await.body;
                assert!(page.as_str().unwrap().contains("is used instead"), "{what}: the page says it");
            }
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubernetes_server_is_reached_whatever_transport_is_set() {
    let (sse, mcp) = ("sse", "streamable-http");
    each(
        Kubernetes::V0_0_67,
        &[
            (mcp, "/mcp", mcp, None),
            (sse, "/sse", mcp, Some("`sse` at `/sse` answers HTTP 404; `streamable-http` at `/mcp` is used")),
            (sse, "/mcp", mcp, Some("`sse` at `/mcp` answers HTTP 400; `streamable-http` at `/mcp` is used")),
            (
                mcp,
                "/sse",
                mcp,
                Some("`streamable-http` at `/sse` answers HTTP 404; `streamable-http` at `/mcp`"),
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_kubernetes_server_is_reached_whatever_transport_is_set() {
    let (sse, mcp) = ("sse", "streamable-http");
    each(
        Kubernetes::V0_0_54,
        &[
            (mcp, "/mcp", mcp, None),
            (sse, "/sse", sse, None),
            (
                sse,
                "/mcp",
                mcp,
                Some("`sse` at `/mcp` is not there: it opened no event stream that names an endpoint"),
            ),
            (mcp, "/sse", sse, Some("`streamable-http` at `/sse` answers HTTP 405; `sse` at `/sse` is used")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_none_of_them_or_refuses_is_named() {
    let server = FakeMcp::start(Behaviour { authorization: Some("Bearer t"), ..Behaviour::default() }).await;
    let base = format!("http://{}", server.address);
    let file = format!(
        "[[mcp]]\nname = \"lost\"\ntransport = \"sse\"\nurl = \"{base}/nowhere\"\n\
         [[mcp]]\nname = \"shut\"\ntransport = \"streamable-http\"\nurl = \"{base}/mcp\"\n"
    );
    let app = Setup::bare().await.file(&file).start().await;
    let error = |name: &str| {
        let status = app.mcp().status().into_iter().find(|status| status.name == name).unwrap();
        assert!(!status.is_connected() && status.note.is_none(), "{status:?}");
        status.last_error.unwrap()
    };
    assert_eq!(
        error("lost"),
        "`sse` at `/nowhere` answers HTTP 404; `streamable-http` at `/nowhere` answers HTTP 404"
    );
    // Who is not let in is not sent elsewhere.
    assert!(!error("shut").contains("`sse`"), "{}", error("shut"));
    app.stop().await;
}
