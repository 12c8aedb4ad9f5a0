//! What models used and cost is written down, and at a limit nobody asks them any more: the built-in analyst says why.

use crate::support::browser::{Browser, Scheme, Screen};
use crate::support::fake_embeddings::FakeEmbeddings;
use crate::support::fake_model::{FakeModel, Reply};
use crate::support::{Answer, Setup, TestApp, eventually};
use regreen::budget::{BudgetError, Expected, Ledger, Reservation};
use regreen::config::Budgets;
use regreen::db::usage::{Purpose, UsageKind, on_day};
use regreen::domain::Usage;
use regreen::shutdown::Shutdown;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const PRICES: &str = "[[price]]\nmodel = \"fa*\"\ninput = 10\noutput = 100\ncached_input = 1\n";

async fn usage(app: &TestApp, query: &str) -> Value {
    let answer = app.get(&format!("/api/usage{query}")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body
}

async fn ask(app: &TestApp, body: Value) -> Answer {
    let answer = app.send("/api/chat", &body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer
}

fn text(answer: &Answer) -> &str {
    answer.body["message"]["text"].as_str().unwrap()
}

fn told(input: u64, output: u64) -> Value {
    json!({"prompt_tokens": input, "completion_tokens": output})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_on_record_with_its_price() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).file(PRICES).set("REGREEN_CURRENCY", "EUR").start().await;
    let reported = app.report("go-vet").await;
    let path = format!("/api/reports/{}", reported.body["report_id"].as_str().unwrap());
    let run = app.get(&path).await.body["runs"][0].clone();
    // Two requests of 100 and 20 tokens: 2 × (100 × 10 + 20 × 100) millionths.
    assert_eq!(
        (&run["usage"], &run["cost"]),
        (&json!({"input_tokens": 200, "output_tokens": 40}), &json!(0.006))
    );
    let cached = json!({"prompt_tokens": 1_000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 600}});
    model.push(vec![Reply::Text("Because.").told(cached)]);
    let asked = ask(&app, json!({"message": "why does it fail?"})).await;
    let used = usage(&app, "").await;
    assert_eq!(used["currency"], "EUR");
    let line = |name: &str, requests: u32, tokens: [u32; 3], cost: f64| {
        let [input, output, cached] = tokens;
        json!({"name": name, "requests": requests, "input_tokens": input, "output_tokens": output, "cached_tokens": cached, "estimated": 0, "cost": cost})
    };
    // 400 × 10 + 600 × 1 + 10 × 100.
    let (investigation, answer) =
        (line("investigation", 2, [200, 40, 0], 0.006), line("answer", 1, [1_000, 10, 600], 0.0056));
    assert_eq!(used["by_kind"], json!([answer, investigation]));
    assert_eq!(used["total"], line("", 3, [1_200, 50, 600], 0.0116));
    assert_eq!(used["by_model"], json!([line("fake", 3, [1_200, 50, 600], 0.0116)]));
    assert_eq!(used["by_caller"], json!([line("user", 3, [1_200, 50, 600], 0.0116)]));
    assert_eq!((&used["by_day"][0]["name"], &used["by_day"][1]), (&used["until"], &Value::Null));
    assert_eq!(used["reports"][0]["name"], reported.body["report_id"]);
    assert!(used["reports"][0]["title"].as_str().unwrap().starts_with("ci/"), "{used}");
    assert_eq!(used["conversations"][0]["name"], asked.body["conversation_id"]);
    assert_eq!(used["limits"], json!([]));
    assert_eq!(usage(&app, "?kind=answer&caller=user&model=fake").await["total"]["requests"], 1);
    assert_eq!(usage(&app, "?caller=somebody").await["total"]["requests"], 0);
    for wrong in ["kind=lunch", "since=yesterday", "since=2026-01-02&until=2026-01-01", "since=2020-01-01"] {
        assert_eq!(app.get(&format!("/api/usage?{wrong}")).await.status, 422, "{wrong}");
    }
    // Money that was spent stays spent.
    let conversation = format!("/api/conversations/{}", asked.body["conversation_id"].as_str().unwrap());
    assert_eq!(app.ask(Method::DELETE, &conversation, &json!({})).await.status, 204);
    let used = usage(&app, "").await;
    assert_eq!((&used["total"]["requests"], &used["conversations"][0]["title"]), (&json!(3), &Value::Null));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_does_not_tell_is_counted_here() {
    let never = Arc::new(Notify::new());
    let refusal = Reply::Status(429, json!({"error": {"message": "slow down"}}), Some("0"));
    let script = vec![
        refusal,
        Reply::Broken,
        Reply::Text("one two three four").told(Value::Null),
        Reply::Gated("five six", never, ""),
    ];
    let model = FakeModel::start(script).await;
    let app = Setup::bare().await.model(&model).start().await;
    let answer = ask(&app, json!({"message": "count to four"})).await;
    let used = usage(&app, "").await;
    // The refused attempt is free; the broken one is charged its prompt and what came of it ("the rea").
    assert_eq!((&used["total"]["requests"], &used["total"]["estimated"]), (&json!(2), &json!(2)), "{used}");
    assert_eq!(used["total"]["output_tokens"], 4 + 2, "{used}");
    let prompts = used["total"]["input_tokens"].as_u64().unwrap();
    assert!(prompts > 1_000 && prompts.is_multiple_of(2), "the same prompt twice: {used}");
    assert_eq!(answer.body["usage"]["input_tokens"], prompts, "failed attempts are the answer's too");
    // A stream that is stopped is charged what was received until then.
    let stream = app.http.post(format!("{}/api/chat/stream", app.base)).json(&json!({"message": "go on"}));
    let mut events = app.events(stream).await;
    events.until("text.delta").await;
    let run = events.run.clone();
    assert_eq!(app.ask(Method::DELETE, &format!("/api/chat/{run}"), &json!({})).await.status, 202);
    events.until("done").await;
    eventually("the stopped request is settled", async || {
        let used = usage(&app, "").await;
        (used["total"]["requests"] == 3 && used["total"]["output_tokens"] == 4 + 2 + 2).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn summaries_and_embeddings_are_counted_too() {
    let endpoint = FakeEmbeddings::start(16).await;
    let model =
        FakeModel::start(vec![Reply::Text("First."), Reply::Text("In short."), Reply::Text("Second.")]).await;
    let setup = Setup::bare()
        .await
        .model(&model)
        .file("[[price]]\nmodel = \"small\"\ninput = 1\noutput = 0\n")
        .set("REGREEN_CHAT_HISTORY_TOKENS", "20")
        .set("REGREEN_EMBEDDER", "endpoint")
        .set("REGREEN_EMBEDDING_URL", &endpoint.url)
        .set("REGREEN_EMBEDDING_MODEL", "small");
    let app = setup.start().await.read_up().await;
    let first = ask(&app, json!({"message": "tell me everything ".repeat(20)})).await;
    ask(&app, json!({"message": "and more", "conversation_id": first.body["conversation_id"]})).await;
    let used = usage(&app, "").await;
    let kind = |name: &str| {
        let kinds = used["by_kind"].as_array().unwrap();
        kinds.iter().find(|line| line["name"] == name).cloned().unwrap_or_else(|| panic!("no {name}: {used}"))
    };
    assert_eq!((&kind("answer")["requests"], &kind("summary")["requests"]), (&json!(2), &json!(1)));
    // A price by name holds for embeddings; the endpoint said nothing of tokens.
    let embedding = kind("embedding");
    assert_eq!(embedding["requests"], embedding["estimated"]);
    let cost = embedding["input_tokens"].as_f64().unwrap() / 1e6;
    assert!((embedding["cost"].as_f64().unwrap() - cost).abs() < 1e-9, "{embedding}");
    assert!(kind("answer").get("cost").is_none(), "no row fits the model that answers: {used}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_day_is_spent_the_rules_conclude_and_say_why() {
    let model = FakeModel::start(Vec::new()).await;
    let app = Setup::whole().await.model(&model).set("REGREEN_BUDGET_DAY_TOKENS", "1500").start().await;
    let reported = app.report("compile-error").await;
    assert_eq!(reported.status, 200, "{:?}", reported.body);
    let report =
        app.get(&format!("/api/reports/{}", reported.body["report_id"].as_str().unwrap())).await.body;
    assert_eq!(report["runs"][0]["stop_reason"], "budget");
    let detail = report["runs"][0]["detail"].as_str().unwrap();
    let issue = app.issues().remove(0);
    let body = issue["body"].as_str().unwrap();
    for words in
        ["the budget of today is used up: 0 of 1500 tokens", "00:00 UTC", "`budget.day_tokens` sets it"]
    {
        assert!(detail.contains(words), "{detail}");
        assert!(body.replace('\\', "").contains(words), "the issue says so: {body}");
    }
    assert!(issue["title"].as_str().unwrap().contains("E0308"), "the rules found it: {issue}");
    let answer = ask(&app, json!({"message": "why?"})).await;
    assert!(text(&answer).contains("`budget.day_tokens` sets it"), "{}", text(&answer));
    assert_eq!(answer.body["message"]["author"], "rules");
    assert_eq!(model.requests().len(), 0, "nobody was asked");
    let used = usage(&app, "").await;
    let limit = &used["limits"][0];
    assert_eq!(
        (&limit["scope"], &limit["limit"], &limit["used"], &limit["remaining"], &limit["setting"]),
        (&json!("day"), &json!(1500), &json!(0), &json!(1500), &json!("budget.day_tokens"))
    );
    let resets = limit["resets_at"].as_str().unwrap();
    assert!(resets.ends_with("T00:00:00Z"), "{resets}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_and_callers_have_limits_of_their_own() {
    let model = FakeModel::start(Vec::new()).await;
    let setup = Setup::bare()
        .await
        .model(&model)
        .set("REGREEN_MODEL_MAX_OUTPUT_TOKENS", "50")
        .set("REGREEN_BUDGET_CONVERSATION_TOKENS", "20000")
        .set("REGREEN_BUDGET_CALLER_DAY_TOKENS", "60000");
    let app = setup.start().await;
    model.push(vec![Reply::Text("First.").told(told(19_990, 5))]);
    let first = ask(&app, json!({"message": "a first question"})).await;
    assert_eq!(text(&first), "First.");
    let again = json!({"message": "go on", "conversation_id": first.body["conversation_id"]});
    let refused = ask(&app, again).await;
    let why = "the budget of this conversation is used up: 19995 of 20000 tokens are spent";
    assert!(text(&refused).contains(why), "{}", text(&refused));
    assert!(text(&refused).contains("it does not start anew"), "{}", text(&refused));
    model.push(vec![Reply::Text("Second.").told(told(40_000, 3))]);
    assert_eq!(text(&ask(&app, json!({"message": "a second one"})).await), "Second.", "another conversation");
    let refused = ask(&app, json!({"message": "a third one"})).await;
    let why = "the budget of `user` for today is used up: 59998 of 60000 tokens are spent";
    assert!(text(&refused).contains(why), "{}", text(&refused));
    assert_eq!(model.requests().len(), 2);
    let limits = usage(&app, "").await["limits"].clone();
    assert_eq!((&limits[0]["setting"], limits[0].get("used")), (&json!("budget.conversation_tokens"), None));
    assert_eq!((&limits[1]["caller"], &limits[1]["remaining"]), (&json!("user"), &json!(2)), "{limits}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_costs_too_much_is_finished_by_the_rules() {
    let search = Reply::call("search_evidence", json!({"pattern": "error"})).told(told(90_000, 10));
    let model = FakeModel::start(vec![search]).await;
    let setup = Setup::whole().await.model(&model).file(PRICES).set("REGREEN_BUDGET_REPORT_COST", "0.90");
    let app = setup.start().await;
    let reported = app.report("compile-error").await;
    let report =
        app.get(&format!("/api/reports/{}", reported.body["report_id"].as_str().unwrap())).await.body;
    // The first request fits and turns out to cost 0.901; there is no second one.
    assert_eq!(model.requests().len(), 1);
    let runs = report["runs"].as_array().unwrap();
    assert_eq!((&runs[0]["stop_reason"], &runs[0]["cost"]), (&json!("budget"), &json!(0.901)), "{runs:?}");
    assert!(runs[0]["detail"].as_str().unwrap().contains("0.901 of 0.90 USD are spent"), "{runs:?}");
    assert_eq!(runs[1]["analyst"], "rules");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_short_by_a_limit_says_so() {
    let look = json!({"query": "disk full"});
    let look = Reply::Says("Let me look it up.", "search_runbooks", look).told(told(50_000, 10));
    let model = FakeModel::start(vec![look]).await;
    let app = Setup::bare().await.model(&model).set("REGREEN_BUDGET_DAY_TOKENS", "50000").start().await;
    let answer = ask(&app, json!({"message": "what to do when the disk is full?"})).await;
    assert_eq!((&answer.body["stop_reason"], model.requests().len()), (&json!("budget"), 1));
    let said = text(&answer);
    assert!(
        said.starts_with("Let me look it up.\n\n(It ends here: the budget of today is used up"),
        "{said}"
    );
    assert!(said.contains("50010 of 50000 tokens are spent"), "{said}");
    app.stop().await;
}

/// Ledgers as of two replicas on one database.
async fn two_ledgers(file: &str) -> (PgPool, [Arc<Ledger>; 2]) {
    let setup = Setup::bare().await.file(file);
    let budgets: Budgets = setup.config().budget;
    let url: sqlx::postgres::PgConnectOptions = setup.env()["DATABASE_URL"].parse().unwrap();
    let pools = [regreen::db::pool(url.clone(), 8), regreen::db::pool(url, 8)];
    regreen::db::migrations::Migrations::default().run(&pools[0]).await.unwrap();
    let pool = pools[0].clone();
    (pool, pools.map(|pool| Ledger::new(pool, budgets.clone(), Shutdown::new())))
}

async fn enter(ledger: &Arc<Ledger>, caller: &str) -> Result<Reservation, BudgetError> {
    let purpose = Purpose { kind: UsageKind::Answer, caller: caller.to_owned(), ..Purpose::default() };
    let expected = Expected { model: "m", prompt: 100, answer: Some(50), longest: Duration::from_secs(60) };
    ledger.account(purpose).enter(expected).await
}

fn tokens(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage { input_tokens, output_tokens, ..Usage::default() }
}

async fn spent(pool: &PgPool, caller: &str) -> i64 {
    let today = regreen::clock::now().date_naive();
    let all = on_day(pool, today, 100).await.unwrap();
    all.iter().find(|spent| spent.name == caller).map_or(0, |spent| spent.tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_the_same_time_on_two_replicas_stay_within_a_limit() {
    let (pool, ledgers) =
        two_ledgers("[budget]\nday_tokens = 1000\ncaller_day_tokens = 600\n[model]\nmax_output_tokens = 50")
            .await;
    // Each may need 150 tokens: four of `a` fit into 600, then two of `b` into the rest of 1,000.
    let at_once = async |caller: &'static str| {
        let entering = (0..20).map(|n| enter(&ledgers[n % 2], caller));
        let (let_in, refused): (Vec<_>, Vec<_>) =
            futures::future::join_all(entering).await.into_iter().partition(Result::is_ok);
        let let_in: Vec<Reservation> = let_in.into_iter().map(Result::unwrap).collect();
        let refused: Vec<String> =
            refused.into_iter().map(|refused| refused.unwrap_err().to_string()).collect();
        (let_in, refused)
    };
    let (of_a, refused) = at_once("a").await;
    assert_eq!((of_a.len(), refused.len()), (4, 16));
    assert!(refused.iter().all(|why| why.contains("`budget.caller_day_tokens`")), "{refused:?}");
    let (of_b, refused) = at_once("b").await;
    assert_eq!((of_b.len(), refused.len()), (2, 18));
    assert!(refused.iter().all(|why| why.contains("`budget.day_tokens`")), "{refused:?}");
    assert_eq!((spent(&pool, "a").await, spent(&pool, "").await), (600, 900));
    // What they really used takes the place of what they held: more or less, and nothing for one that was refused.
    let used = [tokens(100, 20), tokens(90, 50), tokens(0, 0), tokens(100, 80)];
    futures::future::join_all(of_a.into_iter().zip(used).map(|(ticket, used)| ticket.close(used, false)))
        .await;
    assert_eq!(spent(&pool, "a").await, 120 + 140 + 180);
    futures::future::join_all(of_b.into_iter().map(|ticket| ticket.close(tokens(100, 50), false))).await;
    assert_eq!(spent(&pool, "").await, 440 + 300);
    let rows: i64 = sqlx::query_scalar("select count(*) from usage where held_until is null")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(rows, 5);
    assert!(enter(&ledgers[1], "a").await.is_ok(), "there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_that_died_held_is_given_back() {
    let (pool, ledgers) = two_ledgers("[budget]\nday_tokens = 300").await;
    // Two requests that nobody will ever settle.
    for ledger in &ledgers {
        std::mem::forget(enter(ledger, "a").await.unwrap());
    }
    assert!(matches!(enter(&ledgers[0], "b").await, Err(BudgetError::Over(_))));
    sqlx::query("update usage set held_until = now() - interval '1 second'").execute(&pool).await.unwrap();
    // Their prompts were sent and stay counted: 200 of 300 tokens.
    let refused = enter(&ledgers[0], "b").await.unwrap_err().to_string();
    assert!(refused.contains("200 of 300 tokens are spent"), "{refused}");
    assert_eq!(spent(&pool, "").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_use_and_limits() {
    let model = FakeModel::start(vec![Reply::Text("A first answer.").told(told(90_000, 400))]).await;
    let setup = Setup::whole()
        .await
        .model(&model)
        .file(PRICES)
        .set("REGREEN_BUDGET_DAY_COST", "1.00")
        .set("REGREEN_BUDGET_CALLER_DAY_TOKENS", "1000000")
        .set("REGREEN_BUDGET_REPORT_COST", "0.50");
    let app = setup.start().await;
    let browser = Browser::start().await;
    let page = browser.page().await;
    page.open(&format!("{}/usage", app.base)).await;
    assert!(page.text("main").await.contains("No requests to a model."));
    assert!(page.axe().await.is_empty());
    ask(&app, json!({"message": "what do you know?"})).await;
    page.open(&format!("{}/usage", app.base)).await;
    let shown = page.text("main").await;
    for words in [
        "0.94 USD of 1.00 USD",
        "user, today",
        "90,400 tokens of 1,000,000 tokens",
        "Each report",
        "what do you know?",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert_eq!((page.count(".gauge").await, page.count(".gauge.near").await), (2, 1));
    for (screen, scheme, name) in [
        (Screen::Desktop, Scheme::Light, "usage"),
        (Screen::Desktop, Scheme::Dark, "usage-dark"),
        (Screen::Phone, Scheme::Light, "usage-phone"),
    ] {
        page.screen(screen).await;
        page.scheme(scheme).await;
        page.screenshot(name).await;
        let violations = page.axe().await;
        assert!(violations.is_empty(), "{name}: {violations:#?}");
        assert_eq!(page.console_errors().await, Vec::<String>::new(), "{name}");
    }
    page.screen(Screen::Desktop).await;
    page.click("a[href*='caller=user']").await;
    page.wait_until("location.search.includes('caller=user')").await;
    assert_eq!(page.attribute("#caller", "value").await.as_deref(), Some("user"));
    page.open(&format!("{}/usage?days=1&kind=embedding", app.base)).await;
    assert!(page.text("main").await.contains("No usage."));
    app.stop().await;
}
