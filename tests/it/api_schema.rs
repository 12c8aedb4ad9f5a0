//! The API against its own description, by Schemathesis.

use crate::support::Setup;
use crate::support::fake_model::FakeModel;
use crate::support::real_servers::tool;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_described_and_nothing_fails_inside() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).set("REGREEN_WAIT", "1s").start().await.read_up().await;
    // Something to find.
    app.report("dns").await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(tool("py/bin/schemathesis"));
    command.current_dir(folder.path()).args([
        "run",
        &format!("{}/openapi.json", app.base),
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method",
        "--phases",
        "examples,coverage,fuzzing,stateful",
        "--max-examples",
        "10",
        "--seed",
        "7",
        "--request-timeout",
        "60",
        "--no-color",
    ]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Fuzzing") && said.contains("passed"), "{said}");
    app.stop().await;
}
