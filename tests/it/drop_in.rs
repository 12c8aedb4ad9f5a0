//! In the place of the Python agent: its variables, its calls and its answers, in a process of its own.

use crate::support::fake_model::FakeModel;
use crate::support::replica::{Replica, http};
use crate::support::{Setup, TestApp, apis, eventually, real_servers};
use regreen::demo::samples::samples;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_python_agents_required_variables_are_enough() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, forge) = (apis::kubernetes(samples()).await, apis::gitea().await);
    let (kubernetes, gitea) =
        tokio::join!(real_servers::kubernetes(&cluster.url, folder.path()), real_servers::gitea(&forge.url));
    let model = FakeModel::start(Vec::new()).await;
    let setup = Setup::bare().await;
    let more = [
        ("LITELLM_URL", model.url.as_str()),
        ("LITELLM_API_KEY", "key-1"),
        ("MCP_OPENSHIFT_URL", &kubernetes.url.replace("/mcp", "/sse")),
        ("MCP_GITEA_URL", &gitea.url),
    ];
    let replica = Replica::start(&setup, "serve", &more).ready().await;
    let health = eventually("the servers are there", async || replica.get("/health").await).await;
    assert_eq!((health.status, health.body), (200, json!({"status": "healthy"})));
    // The call of the description, word for word.
    let sample = &samples()[0];
    let body = json!({"namespace": sample.namespace, "pod_name": sample.pod});
    let request = http().post(format!("{}/report-failure", replica.base)).json(&body);
    let answer = TestApp::try_read(request).await.unwrap();
    assert_eq!((answer.status, answer.body["status"].as_str()), (200, Some("success")), "{answer:?}");
    let result = answer.body["result"].as_str().unwrap();
    let issues = forge.issues.lock().unwrap().clone();
    assert!(result.starts_with("Issue created: http") && issues.len() == 1, "{result}: {issues:?}");
    let log = replica.terminate().await.1;
    for told in ["openai/Llama-4-Scout-17B-16E-W4A16", "set LITELLM_MODEL", "set GITEA_OWNER and GITEA_REPO"]
    {
        assert!(log.contains(told), "{told}: {log}");
    }
}
