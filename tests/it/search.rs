//! Search over HTTP, and the models behind it.

use crate::support::fake_embeddings::FakeEmbeddings;
use crate::support::fake_model::FakeModel;
use crate::support::{Setup, eventually};
use regreen::demo::samples::samples;
use serde_json::{Value, json};

fn paths(hits: &[Value]) -> Vec<&str> {
    hits.iter().map(|hit| hit["path"].as_str().unwrap()).collect()
}

fn reasons(hit: &Value) -> Vec<&str> {
    hit["reasons"].as_array().unwrap().iter().map(|reason| reason["by"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_have_reasons_and_nonsense_has_no_hits() {
    let app = Setup::bare().await.start().await.read_up().await;
    let line = "Failed to pull image \"quay.example.com/team/app:1.2\": manifest unknown";
    let hits = app.search(line, "").await;
    assert_eq!(hits[0]["path"], "image-pull.md");
    assert_eq!(hits[0]["reasons"][0], json!({"by": "signature", "id": "image-not-found"}));
    let words = app.search("container was killed because it used too much memory", "&limit=3").await;
    assert_eq!(words[0]["path"], "oom-killed.md", "{:?}", paths(&words));
    assert!(words.len() <= 3 && reasons(&words[0]).contains(&"vector"), "{words:?}");
    let alerts = app.search("volume is filling up", "&kind=alert").await;
    assert!(alerts.iter().all(|hit| hit["kind"] == "alert") && !alerts.is_empty(), "{:?}", paths(&alerts));
    let tekton = app.search("task timed out", "&applies_to=tekton").await;
    assert!(!tekton.is_empty());
    for hit in &tekton {
        assert!(hit["applies_to"].as_array().unwrap().contains(&json!("tekton")), "{hit}");
    }
    let mut unique = paths(&hits);
    unique.dedup();
    assert_eq!(unique.len(), hits.len(), "one hit per document");
    for nonsense in ["recipe for lentil soup", "zzzz qqqq xxxx", "%%% ''' \\ ::: & | !", "the"] {
        assert!(app.search(nonsense, "").await.is_empty(), "{nonsense}");
    }
    let long = "error in the build ".repeat(300);
    assert!(app.get(&format!("/api/search?q={}", long.replace(' ', "+"))).await.status == 200);
    for wrong in ["?q=", "", "?q=x&limit=0", "?q=x&limit=900", "?q=x&kind=poem"] {
        let answer = app.get(&format!("/api/search{wrong}")).await;
        assert_eq!(answer.status, 422, "{wrong}: {:?}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_over_http_is_found_at_once_and_its_signature_counts() {
    let app = Setup::whole().await.start().await.read_up().await;
    let content = "---\ntitle: The grunfeld gate is closed\nclass: configuration\nsignatures:\n  - id: grunfeld\n    pattern: 'grunfeld gate (?P<gate>\\d+) closed'\n    \
                   title: 'Gate {gate} is closed'\n    cause: 'Somebody closed gate {gate}.'\n    next_steps: ['Open it.']\n    priority: 95\n---\n# The grunfeld gate is closed\n\n## Fix\nOpen the gate with the key of the porter.\n";
    let stored = app.send("/api/documents", &json!({"path": "team/gate.md", "content": content})).await;
    assert_eq!((stored.status, &stored.body["stored"]), (201, &json!(1)), "{:?}", stored.body);
    let again = app.send("/api/documents", &json!({"path": "team/gate.md", "content": content})).await;
    assert_eq!((again.status, &again.body["unchanged"]), (200, &json!(1)));
    let hits = app.search("porter key", "").await;
    assert_eq!(hits[0]["path"], "team/gate.md", "{:?}", paths(&hits));
    // The signature is taken up without a restart.
    eventually("the signature counts", async || {
        let hits = app.search("2026 grunfeld gate 7 closed", "").await;
        hits[0]["reasons"][0]["by"].as_str().filter(|by| *by == "signature").map(drop)
    })
    .await;
    let log = "step 1\nstep 2\nfatal: grunfeld gate 7 closed\n";
    let report = app.post(&json!({"namespace": "ci", "pod_name": "gone-pod", "log": log}), &[]).await;
    assert_eq!(report.status, 200, "{:?}", report.body);
    assert_eq!(app.issues()[0]["title"], "Gate 7 is closed");
    let listed = app.get("/api/documents?limit=200").await.body;
    let own =
        listed["documents"].as_array().unwrap().iter().find(|d| d["path"] == "team/gate.md").unwrap().clone();
    assert_eq!((&own["source"], &own["kind"]), (&json!("api"), &json!("runbook")));
    let whole = app.get(&format!("/api/documents/{}", own["id"].as_str().unwrap())).await;
    assert!(whole.body["text"].as_str().unwrap().contains("key of the porter"));
    for (body, wrong) in [
        (json!({"path": "a.docx", "content": "x"}), "neither Markdown"),
        (json!({"path": "a.md", "content": "---\ntitle: x\n"}), "front matter"),
        (json!({"content": "x"}), "`path` is required"),
    ] {
        let refused = app.send("/api/documents", &body).await;
        assert_eq!(refused.status, 422);
        assert!(refused.body["detail"].as_str().unwrap().contains(wrong), "{:?}", refused.body);
    }
    let delete = |id: String| app.http.delete(format!("{}/api/documents/{id}", app.base)).send();
    assert_eq!(delete(own["id"].as_str().unwrap().to_owned()).await.unwrap().status(), 204);
    assert!(!paths(&app.search("porter key", "").await).contains(&"team/gate.md"));
    let built_in =
        &listed["documents"].as_array().unwrap().iter().find(|d| d["source"] == "built-in").unwrap()["id"];
    assert_eq!(delete(built_in.as_str().unwrap().to_owned()).await.unwrap().status(), 409);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_team_takes_the_place_of_the_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("dns.md"),
        "# Our names\n\nCould not resolve host: ask the team of the forwarders.",
    )
    .unwrap();
    let app = Setup::bare()
        .await
        .set("REGREEN_CORPUS", folder.path().to_str().unwrap())
        .start()
        .await
        .read_up()
        .await;
    let hits = eventually("the folder is read", async || {
        let hits = app.search("could not resolve host forwarders", "").await;
        paths(&hits).contains(&"dns.md").then_some(hits)
    })
    .await;
    let ours: Vec<&Value> = hits.iter().filter(|hit| hit["path"] == "dns.md").collect();
    assert_eq!((ours.len(), &ours[0]["title"]), (1, &json!("Our names")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_embeds_in_batches_and_is_asked_again() {
    let endpoint = FakeEmbeddings::start(16).await;
    endpoint.fail_with(&[503, 429]);
    let setup = Setup::unmigrated().await.set("REGREEN_EMBEDDER", "endpoint");
    let setup = setup.set("REGREEN_EMBEDDING_URL", &endpoint.url);
    let app = setup
        .set("REGREEN_EMBEDDING_MODEL", "small")
        .set("REGREEN_EMBEDDING_BATCH", "50")
        .set("REGREEN_EMBEDDING_QUERY_PREFIX", "query:")
        .start()
        .await
        .read_up()
        .await;
    let asked = endpoint.asked();
    let sizes: Vec<usize> = asked.iter().map(|body| body["input"].as_array().unwrap().len()).collect();
    assert!(
        sizes.iter().all(|size| *size <= 50) && sizes.iter().filter(|size| **size == 50).count() > 3,
        "{sizes:?}"
    );
    let secret = ["hunter2", "hunter2"].concat();
    app.search(&format!("login with password={secret} refused"), "").await;
    let asked = endpoint.asked();
    let last = asked.last().unwrap()["input"][0].as_str().unwrap();
    assert!(last.starts_with("query: login") && !last.contains(&secret), "{last}");
    // An endpoint that is away takes no search with it.
    endpoint.fail_with(&[503]);
    let found = app.get("/api/search?q=ImagePullBackOff").await.body;
    assert!(found["without_vectors"].as_str().unwrap().contains("small"), "{found}");
    assert_eq!(found["hits"][0]["path"], "image-pull.md");
    // A model that changes its dimension is refused, not stored.
    endpoint.set_dimensions(24);
    let body = json!({"path": "new.md", "content": "# Fresh\n\nSomething about grunfeld."});
    assert_eq!(app.send("/api/documents", &body).await.status, 201);
    let pool = app.pool().await;
    let error = eventually("the job fails", async || {
        let row = sqlx::query_scalar::<_, Option<String>>("select last_error from graphile_worker.jobs where task_identifier = 'index' and last_error is not null");
        row.fetch_optional(&pool).await.unwrap().flatten()
    })
    .await;
    assert!(error.contains("gives 24 numbers per text, but its stored vectors have 16"), "{error}");
    let found = app.get("/api/search?q=grunfeld").await.body;
    assert_eq!(found["hits"][0]["path"], "new.md", "words find it meanwhile: {found}");
    let lengths = sqlx::query_scalar::<_, i32>("select distinct vector_dims(vector) from embeddings");
    assert_eq!(lengths.fetch_all(&pool).await.unwrap(), [16]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_model_answers_until_the_new_one_has_embedded_all() {
    let endpoint = FakeEmbeddings::start(16).await;
    let setup = Setup::bare().await;
    let first = setup.env().clone();
    let app = setup.start().await.read_up().await;
    app.stop().await;
    endpoint.hold("large");
    let mut setup = Setup::bare().await;
    for (name, value) in first {
        setup = setup.set(&name, &value);
    }
    let setup = setup.set("REGREEN_EMBEDDER", "endpoint").set("REGREEN_EMBEDDING_URL", &endpoint.url);
    let app = setup.set("REGREEN_EMBEDDING_MODEL", "large").start().await;
    eventually("the new model is asked", async || (!endpoint.asked().is_empty()).then_some(())).await;
    let found = app.get("/api/search?q=ImagePullBackOff").await.body;
    assert!(found["without_vectors"].is_null(), "the vectors of before answer: {found}");
    assert!(reasons(&found["hits"][0]).contains(&"vector"));
    let queries =
        |asked: Vec<Value>| asked.iter().filter(|body| body["input"] == json!(["ImagePullBackOff"])).count();
    assert_eq!(queries(endpoint.asked()), 0);
    endpoint.release();
    eventually("the new model answers", async || {
        app.get("/api/search?q=ImagePullBackOff").await;
        (queries(endpoint.asked()) > 0).then_some(())
    })
    .await;
    let spaces =
        sqlx::query_scalar::<_, i64>("select count(*) from embedding_spaces where ready_at is not null");
    assert_eq!(spaces.fetch_one(&app.pool().await).await.unwrap(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brief_of_every_sample_has_its_runbook() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).start().await.read_up().await;
    let runbooks = [
        ("image-pull", "image-pull.md"),
        ("registry-auth", "registry-auth.md"),
        ("git-clone", "git-clone.md"),
        ("go-vet", "go.md"),
        ("dns", "dns.md"),
        ("helm-upgrade", "helm-upgrade.md"),
        ("maven-dependency", "maven.md"),
        ("failing-tests", "failing-tests.md"),
        ("oom", "oom-killed.md"),
        ("disk-full", "disk-full.md"),
        ("python-import", "python.md"),
        ("compile-error", "rust-compile.md"),
    ];
    for sample in samples() {
        let before = model.requests().len();
        assert_eq!(app.report(sample.slug).await.status, 200);
        let request = model.requests()[before].clone();
        let brief = request["messages"][1]["content"].as_str().unwrap();
        let (_, wanted) = runbooks.iter().find(|(slug, _)| *slug == sample.slug).unwrap();
        let shown = brief.split("Runbooks that may apply:").nth(1).unwrap_or_default();
        let shown = shown.split("\nEvidence:\n").next().unwrap_or_default();
        let heading = shown.lines().find(|line| line.ends_with(".md)")).unwrap_or_default();
        assert!(heading.ends_with(&format!("({wanted})")), "{}: {heading}", sample.slug);
        assert!(brief.contains("Lines of the evidence that runbooks recognise"), "{}", sample.slug);
        let tokens = regreen::evidence::tokens::count(shown);
        assert!(tokens <= 1_900, "{}: {tokens} tokens of runbooks", sample.slug);
    }
    app.stop().await;
}
