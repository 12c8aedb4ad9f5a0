//! Measures the audit log: overhead of a row in a transaction, and the rates of sealing and verification. ROWS=1000000.

use crate::support::{fresh_database, pool};
use futures::future::join_all;
use regreen::config::process_env;
use regreen::db::audit;
use regreen::domain::{Actor, AuditAction, AuditEvent, hash};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use std::time::{Duration, Instant};

/// Number of concurrent writers, time between a row and its commit, and transactions per writer.
const WRITERS: usize = 16;
const REST: Duration = Duration::from_millis(5);
const EACH: usize = 60;

fn event(number: usize) -> AuditEvent {
    let hash = hash(number.to_string());
    let data = json!({"server": "openshift", "tool": "pods_log", "arguments": "{\"name\":\"checkout-build-x7k2p\",\"namespace\":\"ci\"}",
        "arguments_hash": hash, "result_hash": hash, "result_bytes": 48_213});
    let event = AuditEvent::new(&Actor::service(""), AuditAction::ToolCall, regreen::clock::now());
    event.on("tool", "openshift pods_log").data(data)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn rate(what: &str, rows: usize, took: Duration) {
    println!(
        "{what:<44} {rows:>9} in {:>7.2} s = {:>8.0}/s",
        took.as_secs_f64(),
        rows as f64 / took.as_secs_f64()
    );
}

/// Compares transactions that chain rows at once, and therefore wait for each other, with rows that are sealed later.
async fn transactions(url: &str, chained: bool) {
    let pool = PgPoolOptions::new().max_connections(WRITERS as u32).connect(url).await.unwrap();
    let begun = Instant::now();
    let writer = async || {
        for number in 0..EACH {
            let mut transaction = pool.begin().await.unwrap();
            if chained {
                sqlx::query("select seq, hash from audit_head for update")
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
            }
            audit::add(&mut *transaction, &event(number)).await.unwrap();
            tokio::time::sleep(REST).await;
            transaction.commit().await.unwrap();
        }
    };
    join_all((0..WRITERS).map(|_| writer())).await;
    let what =
        if chained { "transactions, each waiting for the chain" } else { "transactions, sealed afterwards" };
    rate(what, WRITERS * EACH, begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a bench"]
async fn audit_record() {
    let rows: usize = process_env("ROWS").map_or(1_000_000, |rows| rows.parse().unwrap());
    let url = fresh_database().await;
    let pool = pool(&url).await;
    regreen::db::migrations::Migrations::default().run(&pool).await.unwrap();
    transactions(&url, true).await;
    transactions(&url, false).await;
    audit::seal(&pool).await.unwrap();

    let begun = Instant::now();
    for first in (0..rows).step_by(1_000) {
        let events: Vec<AuditEvent> = (first..first + 1_000).map(event).collect();
        audit::add_all(&pool, &events).await.unwrap();
    }
    rate("rows written, a thousand at a time", rows, begun.elapsed());
    let begun = Instant::now();
    let sealed = audit::seal(&pool).await.unwrap();
    rate("rows sealed", usize::try_from(sealed).unwrap(), begun.elapsed());
    sqlx::query("vacuum analyze audit").execute(&pool).await.unwrap();
    let begun = Instant::now();
    let verified = audit::verify(&pool, None).await.unwrap();
    assert_eq!(verified.broken, None);
    rate("rows checked, in this process", usize::try_from(verified.rows).unwrap(), begun.elapsed());
    let (bytes, indexes): (i64, i64) = sqlx::query_as(
        "select sum(pg_table_size(name::regclass))::bigint, sum(pg_indexes_size(name::regclass))::bigint from audit_months()",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    let count = i64::try_from(rows).unwrap();
    println!("a row takes {} bytes, and {} in indexes", bytes / count, indexes / count);

    let program =
        process_env("REGREEN_BENCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_regreen").to_owned());
    let command = std::process::Command::new("/usr/bin/env")
        .args([&program, "audit", "verify"])
        .env("DATABASE_URL", &url)
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&command.stdout));
}
