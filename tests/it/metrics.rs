//! What is counted: after a scenario whose figures are known, from a process of its own, so that nothing else counts.

use crate::support::chaos::failed;
use crate::support::fake_model::FakeModel;
use crate::support::real_servers::free_port;
use crate::support::replica::{Replica, http};
use crate::support::{Setup, eventually, pool};
use regreen::metrics::metrics;
use std::collections::{BTreeMap, BTreeSet};

/// What was scraped: samples by name and labels as written.
struct Scraped(BTreeMap<String, f64>);

impl Scraped {
    async fn of(base: &str) -> Self {
        let answer = http().get(format!("{base}/metrics")).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let text = answer.text().await.unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            samples
                .map(|line| {
                    let (series, value) = line.rsplit_once(' ').unwrap();
                    (series.to_owned(), value.parse().unwrap())
                })
                .collect(),
        )
    }

    fn get(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// Of all series of a name whose labels hold these words.
    fn sum(&self, name: &str, labels: &str) -> f64 {
        let named = |series: &str| series.split('{').next() == Some(name) && series.contains(labels);
        self.0.iter().filter(|(series, _)| named(series)).map(|(_, value)| value).sum()
    }
}

async fn report(replica: &Replica, slug: &str) -> String {
    let request = http().post(format!("{}/report-failure", replica.base)).json(&failed(slug));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap()
}

/// Nothing that somebody wrote became a label, and everything is known by name.
fn nothing_strange(seen: &Scraped) {
    assert!(!seen.0.keys().any(|series| series.to_lowercase().contains("c3a1")), "{:#?}", seen.0.keys());
    assert!(seen.sum("regreen_http_requests_total", r#"method="other""#) >= 3.0);
    let known: BTreeSet<&str> = metrics().known().iter().map(|known| known.name.as_str()).collect();
    for series in seen.0.keys() {
        let name = series.split('{').next().unwrap();
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        assert!(known.contains(name) || of_histogram.is_some_and(|name| known.contains(name)), "{series}");
    }
}

/// An increase from nothing to 1 is none: what an alert waits for is there from the start.
fn begins_at_nothing(begun: &Scraped) {
    for series in [
        r#"regreen_run_duration_seconds_count{stop="budget"}"#,
        r#"regreen_reports_total{outcome="failed"}"#,
        r#"regreen_claims_total{verified="false"}"#,
        r#"regreen_notifications_total{outcome="failed",target="platform"}"#,
    ] {
        assert_eq!(begun.get(series), 0.0, "{series}");
    }
}

/// The address of its own: the same figures and the probes, and nothing else.
async fn is_told_beside(replica: &Replica, beside: &str) {
    assert_eq!(Scraped::of(beside).await.get(r#"regreen_reports_total{outcome="done"}"#), 3.0);
    for (path, status) in [("/health/live", 200), ("/health/ready", 200), ("/api/reports", 404), ("/", 404)] {
        let answer = http().get(format!("{beside}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert!(answer.headers().contains_key("x-request-id"), "{path}");
    }
    for path in ["/health/live", "/", "/api/reports", "/nothing/here", "/api/reports/none"] {
        let answer = http().get(format!("{}{path}", replica.base)).send().await.unwrap();
        assert!(answer.headers().contains_key("x-request-id"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scenario_is_counted_as_it_went() {
    let model = FakeModel::start(Vec::new()).await;
    let setup = Setup::whole()
        .await
        .model(&model)
        .set("REGREEN_MODEL_INPUT_PRICE", "1")
        .set("REGREEN_MODEL_OUTPUT_PRICE", "2")
        .file("[[notify]]\nname = \"platform\"\nchannel = \"slack\"\nurl = \"http://127.0.0.1:9/hook\"\non = [\"failed\"]\n");
    let beside = format!("127.0.0.1:{}", free_port());
    let replica = Replica::start(&setup, "serve", &[("REGREEN_METRICS_BIND", &beside)]).ready().await;
    // No key is taken here, so the end of one means nothing.
    key(&setup, "ci", Some(1.0), false).await;
    begins_at_nothing(&Scraped::of(&replica.base).await);
    assert!(report(&replica, "dns").await.contains("Issue created"));
    assert!(report(&replica, "dns").await.contains("Known cause"));
    assert!(report(&replica, "oom").await.contains("Issue created"));
    for odd in ["/nothing/c3a1", "/api/reports/c3a1", "/api/incidents/c3a1"] {
        let method = reqwest::Method::from_bytes(b"C3A1").unwrap();
        http().request(method, format!("{}{odd}", replica.base)).send().await.unwrap();
        http().get(format!("{}{odd}", replica.base)).send().await.unwrap();
    }
    let seen = eventually("everything is settled", async || {
        let seen = Scraped::of(&replica.base).await;
        (seen.sum("regreen_model_tokens_total", "output") > 0.0 && seen.get("regreen_queue_depth") == 0.0)
            .then_some(seen)
    })
    .await;

    assert_eq!(seen.get(r#"regreen_reports_total{outcome="done"}"#), 3.0);
    assert_eq!(seen.get("regreen_report_duration_seconds_count"), 3.0);
    assert_eq!(
        seen.get(r#"regreen_http_requests_total{method="POST",route="/report-failure",status="200"}"#),
        3.0
    );
    assert_eq!(seen.get(r#"regreen_issues_total{action="created"}"#), 2.0);
    assert_eq!(seen.sum("regreen_issues_total", ""), 3.0);
    let asked = model.requests().len() as f64;
    assert!(asked >= 2.0);
    assert_eq!(seen.sum("regreen_model_requests_total", r#"outcome="done""#), asked);
    assert_eq!(seen.sum("regreen_model_request_duration_seconds_count", ""), asked);
    assert_eq!(seen.get(r#"regreen_run_duration_seconds_count{stop="submitted"}"#), 2.0);
    assert_eq!(seen.get("regreen_run_turns_sum"), asked);
    let tokens = |direction| seen.sum("regreen_model_tokens_total", direction);
    let cost = (tokens(r#"direction="input""#) + 2.0 * tokens(r#"direction="output""#)) / 1_000_000.0;
    let charged = seen.sum("regreen_model_cost_total", r#"purpose="investigation""#);
    assert!(cost > 0.0 && (charged - cost).abs() < 1e-6, "{charged} for {cost}");
    assert!(seen.sum("regreen_tool_calls_total", r#"outcome="done",server="openshift""#) >= 3.0);
    assert!(seen.sum("regreen_tool_calls_total", r#"outcome="done",server="gitea""#) >= 2.0);
    assert!(seen.get(r#"regreen_claims_total{verified="true"}"#) >= 2.0);
    let lines = |part: &str| seen.get(&format!("regreen_evidence_lines_total{{part=\"{part}\"}}"));
    assert!(lines("shown") > 0.0 && lines("shown") <= lines("read"));
    assert_eq!(seen.get(r#"regreen_mcp_server_up{server="openshift"}"#), 1.0);
    assert_eq!(seen.get("regreen_queue_oldest_seconds"), 0.0);
    assert!(seen.get(r#"regreen_database_connections{state="max"}"#) >= 1.0);
    assert!(seen.get("process_resident_memory_bytes") > 1e6);

    nothing_strange(&seen);
    assert!(!seen.0.contains_key(KEY_EXPIRES));

    is_told_beside(&replica, &format!("http://{beside}")).await;
    let (status, _) = replica.terminate().await;
    assert!(status.success());
}

const KEY_EXPIRES: &str = "regreen_api_key_expires_seconds";

/// A key that ends in so many hours, or never.
async fn key(setup: &Setup, name: &str, hours: Option<f64>, revoked: bool) {
    sqlx::query(
        "insert into api_keys (id, name, hash, role, created_by, created_at, expires_at, revoked_at)
         values (gen_random_uuid(), $1, $1::bytea, 'reporter', 'it', now(), now() + $2 * interval '1 hour', case when $3 then now() end)",
    )
    .bind(name)
    .bind(hours)
    .bind(revoked)
    .execute(&pool(&setup.env()["DATABASE_URL"]).await)
    .await
    .unwrap();
}

/// The next end of a key that may be used is told, and nothing when there is none.
async fn keys_that_end(setup: &Setup, base: &str) {
    key(setup, "ever", None, false).await;
    key(setup, "over", Some(-1.0), false).await;
    key(setup, "back", Some(1.0), true).await;
    assert!(!Scraped::of(base).await.0.contains_key(KEY_EXPIRES), "none of them ends");
    key(setup, "later", Some(720.0), false).await;
    key(setup, "next", Some(240.0), false).await;
    let left = Scraped::of(base).await.get(KEY_EXPIRES);
    assert!(left <= 864_000.0 && left > 860_000.0, "{left}");
    sqlx::query("update api_keys set revoked_at = now() where expires_at is not null")
        .execute(&pool(&setup.env()["DATABASE_URL"]).await)
        .await
        .unwrap();
    assert!(!Scraped::of(base).await.0.contains_key(KEY_EXPIRES), "nor now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_only_works_is_measured_and_probed_too() {
    let setup = Setup::whole().await.set("REGREEN_AUTH", "keys");
    let beside = format!("127.0.0.1:{}", free_port());
    let worker = Replica::start(&setup, "work", &[("REGREEN_METRICS_BIND", &beside)]);
    let base = format!("http://{beside}");
    eventually("the worker is ready", async || {
        let answer = http().get(format!("{base}/health/ready")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    assert_eq!(Scraped::of(&base).await.get("regreen_queue_depth"), 0.0);
    keys_that_end(&setup, &base).await;
    let (status, _) = worker.terminate().await;
    assert!(status.success());
}
