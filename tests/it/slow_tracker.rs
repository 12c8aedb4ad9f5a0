//! A tracker that files an issue after nobody waits for its answer any more: there is one issue all the same.

use crate::support::late_tracker::{Creates, LateTracker};
use crate::support::{Setup, TestApp, eventually};
use regreen::demo::forge;
use regreen::shutdown::Shutdown;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;

const LOG: &str = "step one\nModuleNotFoundError: No module named 'yaml'\nexit status 1\n";

/// A service whose tracker answers late, a report that waits for it, and its database.
struct Late {
    app: TestApp,
    forge: forge::Forge,
    tracker: LateTracker,
    pool: PgPool,
    report: String,
    stand_ins: Shutdown,
}

impl Late {
    async fn start(creates: Creates) -> Self {
        let stand_ins = Shutdown::new();
        let forge = forge::start(&stand_ins).await.unwrap();
        let tracker = LateTracker::before(&forge.mcp_url, creates).await;
        let url = &tracker.url;
        let table = format!(
            "[[mcp]]\nname = \"gitea\"\ntransport = \"streamable-http\"\nurl = \"{url}\"\ncall_timeout = \"2s\"\n"
        );
        let setup = Setup::bare().await.file(&table);
        let app = setup.set("GITEA_OWNER", "platform").set("GITEA_REPO", "failures").start().await;
        let body = json!({"namespace": "ci", "pod_name": "p", "log": LOG});
        let answer = app.post(&body, &[("prefer", "respond-async")]).await;
        assert_eq!(answer.status, 202, "{:?}", answer.body);
        let report = answer.body["report_id"].as_str().unwrap().to_owned();
        let pool = app.pool().await;
        Self { app, forge, tracker, pool, report, stand_ins }
    }

    /// Waits until the take-up that runs has ended and the next one is due some time, and makes it due now; or until the report is
    /// over, since the queue tries it again by itself too.
    async fn try_again(&self) {
        eventually("the report is due again, or over", async || {
            let due = "update graphile_worker._private_jobs set run_at = now() where locked_at is null and attempts > 0";
            let done = sqlx::query(due).execute(&self.pool).await.unwrap();
            let over = "select exists (select from reports where status in ('done', 'failed'))";
            let over: bool = sqlx::query_scalar(over).fetch_one(&self.pool).await.unwrap();
            (over || done.rows_affected() > 0).then_some(())
        })
        .await;
    }

    /// As if so much time had passed since the tracker was asked.
    async fn pass(&self, seconds: i32) {
        let earlier =
            "update incidents set issue_unsure_until = issue_unsure_until - make_interval(secs => $1)";
        sqlx::query(earlier).bind(f64::from(seconds)).execute(&self.pool).await.unwrap();
    }

    async fn done(&self) -> Value {
        let report = eventually("the report ends", async || {
            let report = self.app.get(&format!("/api/reports/{}", self.report)).await.body;
            matches!(report["status"].as_str(), Some("done" | "failed")).then_some(report)
        })
        .await;
        assert_eq!(report["status"], "done", "{report}");
        report["result"].clone()
    }

    async fn stop(self) {
        self.app.stop().await;
        self.stand_ins.finish(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_that_is_filed_after_the_time_out_stays_the_only_one() {
    let late = Late::start(Creates::Wait).await;
    late.tracker.called("create_issue", 1).await;
    for looks in 1..=2 {
        late.try_again().await;
        late.tracker.called("list_issues", looks).await;
    }
    assert_eq!((late.forge.issues().len(), late.tracker.count("create_issue")), (0, 1));
    // Nearly a minute after the time-out the tracker does what it was asked for.
    late.pass(55).await;
    late.tracker.creates(Creates::Arrive);
    eventually("the issue is filed", async || (late.forge.issues().len() == 1).then_some(())).await;
    late.try_again().await;
    let url = late.forge.issues()[0]["html_url"].clone();
    assert_eq!(late.done().await, format!("Issue created: {}", url.as_str().unwrap()));
    assert_eq!((late.forge.issues().len(), late.tracker.count("create_issue")), (1, 1));
    // What was asked for is not asked for again by the next one either.
    let body = json!({"namespace": "ci", "pod_name": "p", "log": LOG});
    let next = late.app.post(&body, &[]).await;
    assert!(next.body["result"].as_str().unwrap().starts_with("Known cause"), "{:?}", next.body);
    assert_eq!(late.forge.issues().len(), 1);
    late.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_that_never_came_is_filed_again_when_it_was_looked_for_long_enough() {
    let late = Late::start(Creates::Wait).await;
    late.tracker.called("create_issue", 1).await;
    late.try_again().await;
    late.tracker.called("list_issues", 1).await;
    late.tracker.creates(Creates::Vanish);
    late.tracker.vanished(1).await;
    late.pass(200).await;
    late.tracker.creates(Creates::Arrive);
    late.try_again().await;
    late.done().await;
    assert_eq!((late.forge.issues().len(), late.tracker.count("create_issue")), (1, 2));
    assert!(late.tracker.count("list_issues") >= 2, "looked for before it was filed again");
    late.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refusal_nobody_waits() {
    let late = Late::start(Creates::Fail).await;
    late.tracker.called("create_issue", 1).await;
    late.tracker.creates(Creates::Arrive);
    late.try_again().await;
    late.done().await;
    assert_eq!((late.forge.issues().len(), late.tracker.count("create_issue")), (1, 2));
    late.stop().await;
}
