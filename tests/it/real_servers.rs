//! The field's own MCP servers, installed from npm and PyPI, in front of stand-in APIs.

use crate::support::{Setup, apis, eventually, real_servers};
use regreen::demo::samples::samples;
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_report_through_the_real_kubernetes_and_gitea_servers() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, forge) = (apis::kubernetes(samples()).await, apis::gitea().await);
    let (kubernetes, gitea) =
        tokio::join!(real_servers::kubernetes(&cluster.url, folder.path()), real_servers::gitea(&forge.url));
    let app = Setup::bare()
        .await
        .set("MCP_OPENSHIFT_URL", &kubernetes.url)
        .set("MCP_OPENSHIFT_TRANSPORT", "streamable-http")
        .set("MCP_GITEA_URL", &gitea.url)
        .set("GITEA_OWNER", "platform")
        .set("GITEA_REPO", "failures")
        .start()
        .await;
    for slug in ["compile-error", "image-pull", "oom", "maven-dependency"] {
        let answer = app.report(slug).await;
        assert_eq!(answer.status, 200, "{slug}: {:?}", answer.body);
        let wanted = regreen::demo::samples::sample(slug).unwrap().cause_words[0];
        let issue = forge.issues.lock().unwrap().last().cloned().unwrap();
        assert!(format!("{issue}").contains(wanted), "{slug}: {issue}");
    }
    sqlx::raw_sql("update incidents set commented_at = now() - interval '2 hours'")
        .execute(&app.pool().await)
        .await
        .unwrap();
    app.report("oom").await;
    let issues = forge.issues.lock().unwrap().clone();
    assert_eq!(
        (issues.len(), issues[2]["comments"].as_u64()),
        (4, Some(1)),
        "one comment on the known issue"
    );
    let listed = app
        .call(("openshift", "pods_list_in_namespace"), json!({"namespace": "ci"}), CancellationToken::new())
        .await;
    assert!(listed.unwrap().text.contains("gateway-build-q9w4z-compile-pod"), "lists come as tables");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_everything_server_over_all_transports() {
    let streamable = real_servers::everything("streamableHttp", "/mcp").await;
    let sse = real_servers::everything("sse", "/sse").await;
    let script = real_servers::tool("npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let file = format!(
        "[[mcp]]\nname = \"http\"\ntransport = \"streamable-http\"\nurl = \"{}\"\n[[mcp]]\nname = \"sse\"\ntransport = \"sse\"\nurl = \"{}\"\n\
         [[mcp]]\nname = \"stdio\"\ntransport = \"stdio\"\ncommand = [\"node\", \"{}\", \"stdio\"]\n",
        streamable.url,
        sse.url,
        script.display()
    );
    let app = Setup::bare().await.file(&file).start().await;
    for server in ["http", "sse", "stdio"] {
        assert!(app.mcp().is_connected(server), "{:?}", app.mcp().status());
        let echoed = app.call((server, "echo"), json!({"message": "hello"}), CancellationToken::new()).await;
        assert!(echoed.unwrap().text.contains("hello"), "{server}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_python_sdk_over_websocket_that_comes_back() {
    let port = real_servers::free_port();
    let first = real_servers::websocket_on(port).await;
    let file = format!(
        "[[mcp]]\nname = \"socket\"\ntransport = \"websocket\"\nurl = \"{0}\"\nheaders = {{ authorization = \"Bearer t\" }}\n\
         [[mcp]]\nname = \"stranger\"\ntransport = \"websocket\"\nurl = \"{0}\"\n",
        first.url
    );
    let app = Setup::bare().await.file(&file).start().await;
    let echo = async || {
        let arguments = json!({"text": "hällo"});
        app.call(("socket", "echo"), arguments, CancellationToken::new()).await.map(|said| said.text)
    };
    assert_eq!(echo().await.unwrap(), "echo: hällo");
    assert!(!app.mcp().is_connected("stranger"), "it has no key: {:?}", app.mcp().status());
    drop(first);
    eventually("the loss is noticed", async || (!app.mcp().is_connected("socket")).then_some(())).await;
    let _second = real_servers::websocket_on(port).await;
    eventually("the session is built anew", async || echo().await.ok()).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_that_is_killed_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = apis::kubernetes(samples()).await;
    let first = real_servers::kubernetes(&cluster.url, folder.path()).await;
    let app = Setup::bare()
        .await
        .set("MCP_OPENSHIFT_URL", &first.url)
        .set("MCP_OPENSHIFT_TRANSPORT", "streamable-http")
        .start()
        .await;
    assert_eq!(app.report("go-vet").await.status, 200);
    drop(first);
    // A log that comes with the report is enough when the cluster cannot be asked.
    let body = json!({"namespace": "ci", "pod_name": "p", "log": "fatal: repository 'x' not found\n"});
    assert_eq!(app.post(&body, &[]).await.status, 200);
    app.stop().await;
}
