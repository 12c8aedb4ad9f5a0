//! Measures page load times with a database of a large installation after one year and a log of 100,000 lines. Requests
//! are sequential, measured from the first request byte to the last response byte. Incidents are not among the
//! documents here; `make bench-knowledge` measures their search.

use crate::program::{Program, millis, percentile};
use crate::support::{self, Setup};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use std::time::{Duration, Instant};

/// Number of warm-up requests, after which statements have generic plans, and of measured ones.
const BEFORE: usize = 30;
const LISTS: usize = 200;
const LOGS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by make bench"]
async fn pages() {
    let setup = Setup::bare().await;
    let pool = filled(&setup).await;
    let program = Program::of(&setup).await;
    let usual = one(&pool, "select id::text from incidents order by last_seen offset 5000 limit 1").await;
    let often = one(&pool, "select id::text from incidents order by occurrences desc limit 1").await;
    let deep =
        one(&pool, "select id::text from incidents order by last_seen desc offset 90000 limit 1").await;
    let report =
        one(&pool, "select id::text from reports where leads order by created_at desc offset 99 limit 1")
            .await;
    let long = one(&pool, "select report_id::text from evidence where lines = 100000").await;
    for path in [
        "/incidents",
        "/incidents?status=open&class=test",
        "/incidents?class=flaky",
        "/incidents?q=nightly+suite",
        "/incidents?q=service-4711+linking",
        "/incidents?namespace=team-003",
        "/incidents?namespace=team-rare",
        &format!("/incidents?before={deep}"),
        &format!("/incidents?status=open&before={deep}"),
        "/conversations",
        "/audit",
        "/audit?action=report",
        "/approvals",
        "/",
        "/api/incidents",
        "/api/incidents?text=nightly+suite",
        "/api/reports",
        &format!("/incidents/{usual}"),
        &format!("/incidents/{often}"),
        &format!("/reports/{report}"),
    ] {
        measure(&program, path, (BEFORE, LISTS)).await;
    }
    let log = format!("/reports/{long}/evidence/E2");
    for path in [
        log.clone(),
        format!("{log}?q=device"),
        format!("{log}/lines?from=60001&count=500"),
        format!("{log}/lines?find=device"),
    ] {
        measure(&program, &path, (2, LOGS)).await;
    }
    println!("  {} MiB at the end", program.kib() / 1024);
}

/// Creates a database of a large installation after one year.
pub(crate) async fn filled(setup: &Setup) -> PgPool {
    // Starting the program creates the schema.
    drop(Program::of(setup).await);
    let pool = support::pool(&setup.env()["DATABASE_URL"]).await;
    let begun = Instant::now();
    let mut connection = pool.acquire().await.unwrap();
    for sql in [include_str!("data.sql"), "vacuum analyze", "checkpoint"] {
        run(&mut connection, sql).await;
    }
    drop(connection);
    let size = one(&pool, "select pg_size_pretty(pg_database_size(current_database()))").await;
    println!("100,000 incidents, 300,000 reports, {size}, made in {} s", begun.elapsed().as_secs());
    pool
}

async fn measure(program: &Program, path: &str, (before, requests): (usize, usize)) {
    let http = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let mut times: Vec<Duration> = Vec::new();
    let mut length = 0;
    for _ in 0..before + requests {
        let begun = Instant::now();
        let answer = http.get(format!("{}{path}", program.base)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        length = answer.bytes().await.unwrap().len();
        times.push(begun.elapsed());
    }
    let first = times[0];
    let mut times = times.split_off(before);
    times.sort();
    println!(
        "  {:>7.1} ms p50 {:>7.1} ms p95 {:>7.1} ms p99 {:>7.1} ms first {:>5} KiB  {}",
        millis(percentile(&times, 50)),
        millis(percentile(&times, 95)),
        millis(percentile(&times, 99)),
        millis(first),
        length / 1024,
        shown(path)
    );
}

/// Replaces ids in a path.
fn shown(path: &str) -> String {
    let named =
        |part: &str| if part.len() == 36 && part.contains('-') { "{id}".to_owned() } else { part.to_owned() };
    let parts = path.split_inclusive(['/', '=', '&', '?']).map(|part| {
        let end = part.trim_end_matches(['/', '=', '&', '?']).len();
        named(&part[..end]) + &part[end..]
    });
    parts.collect()
}

async fn run(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

async fn one(pool: &PgPool, sql: &'static str) -> String {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
}
