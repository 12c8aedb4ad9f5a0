//! The record of what was done is a chain: whatever is changed in it shows, many write it at once, old months go as a whole.

use crate::support::{fresh_database, pool};
use chrono::{DateTime, TimeDelta, Utc};
use regreen::db::audit::{self, Broken, Fault, Verified};
use regreen::domain::{Actor, AuditAction, AuditEvent, AuditOutcome, hash};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

async fn database() -> PgPool {
    let pool = pool(&fresh_database().await).await;
    regreen::db::migrations::Migrations::default().run(&pool).await.unwrap();
    pool
}

fn event(number: usize) -> AuditEvent {
    let event = AuditEvent::new(&Actor::service(""), AuditAction::ToolTry, regreen::clock::now());
    event.on("thing", format!("t{number}")).data(json!({ "number": number }))
}

/// A sealed record of so many rows.
async fn record(rows: usize) -> PgPool {
    let pool = database().await;
    audit::add_all(&pool, &(1..=rows).map(event).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(audit::seal(&pool).await.unwrap(), rows as u64);
    pool
}

/// Does what somebody does who may write to the database and knows how its triggers are turned off.
async fn tamper(pool: &PgPool, sql: &str) {
    let sql = format!("begin; set local session_replication_role = replica; {sql}; commit");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

async fn broken(pool: &PgPool) -> Broken {
    audit::verify(pool, None).await.unwrap().broken.expect("the change shows")
}

async fn holds(pool: &PgPool) -> Verified {
    let verified = audit::verify(pool, None).await.unwrap();
    assert_eq!(verified.broken, None);
    verified
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_shows_and_where() {
    for (sql, fault, seq) in [
        ("update audit set detail = 'nothing happened' where seq = 5", Fault::Changed, 5),
        ("update audit set data = '{\"number\":  5}' where seq = 5", Fault::Changed, 5),
        ("update audit set at = at - interval '1 microsecond' where seq = 1", Fault::Changed, 1),
        ("update audit set run = '01a1f000-0000-7000-8000-00000000c001' where seq = 12", Fault::Changed, 12),
        ("update audit set hash = sha256('x') where seq = 7", Fault::Changed, 7),
        ("delete from audit where seq = 5", Fault::Missing, 5),
        ("delete from audit where seq <= 3", Fault::Missing, 1),
        ("delete from audit where seq = 5; update audit set seq = seq - 1 where seq > 5", Fault::Changed, 5),
        (
            "insert into audit (at, actor, action, object_kind, object, outcome, seq, hash) values (now(), 'a', 'b', 'c', 'd', 'done', 5, sha256('x'))",
            Fault::Inserted,
            5,
        ),
        (
            "update audit set seq = seq + 1 where seq >= 5;
             insert into audit (at, actor, action, object_kind, object, outcome, seq, hash) values (now(), 'a', 'b', 'c', 'd', 'done', 5, sha256('x'))",
            Fault::Inserted,
            5,
        ),
        ("update audit set seq = 14 - seq where seq in (5, 9)", Fault::Reordered, 5),
        ("update audit set seq = 11 - seq where seq in (5, 6)", Fault::Reordered, 5),
        (
            "update audit a set seq = b.seq, hash = b.hash from audit b where a.seq + b.seq = 14 and a.seq in (5, 9)",
            Fault::Reordered,
            5,
        ),
        ("delete from audit where seq > 9", Fault::Truncated, 10),
        ("delete from audit", Fault::Truncated, 1),
    ] {
        let pool = record(12).await;
        assert_eq!(holds(&pool).await.rows, 12);
        tamper(&pool, sql).await;
        let broken = broken(&pool).await;
        assert_eq!((broken.fault, broken.seq), (fault, seq), "{sql}: {}", broken.what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_written_anew_holds_by_itself_and_not_against_a_seal_that_was_noted() {
    let pool = record(12).await;
    let noted = audit::head(&pool).await.unwrap().hash;
    audit::add_all(&pool, &[event(13)]).await.unwrap();
    audit::seal(&pool).await.unwrap();
    let verified = audit::verify(&pool, Some(&noted.to_ascii_uppercase())).await.unwrap();
    assert_eq!((verified.known_at, verified.seq, verified.broken), (Some(12), 13, None));

    // From the end, its noted end along with it.
    tamper(&pool, "delete from audit where seq > 10; update audit_head set seq = 10, hash = (select hash from audit where seq = 10)").await;
    assert_eq!(holds(&pool).await.seq, 10);
    let against = audit::verify(&pool, Some(&noted)).await.unwrap();
    assert_eq!(against.broken.unwrap().fault, Fault::HeadUnknown);

    // In the middle, everything after it sealed again.
    let pool = record(12).await;
    let noted = audit::head(&pool).await.unwrap().hash;
    tamper(
        &pool,
        "update audit set detail = 'nothing happened' where seq = 5; update audit set seq = null, hash = null where seq >= 5;
         update audit_head set seq = 4, hash = (select hash from audit where seq = 4)",
    )
    .await;
    assert_eq!(audit::seal(&pool).await.unwrap(), 8);
    holds(&pool).await;
    let against = audit::verify(&pool, Some(&noted)).await.unwrap();
    assert_eq!(against.broken.unwrap().fault, Fault::HeadUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_refuses_changes() {
    let pool = record(3).await;
    audit::add_all(&pool, &[event(4)]).await.unwrap();
    for sql in [
        "update audit set detail = 'x' where seq = 2",
        "update audit set detail = 'x' where seq is null",
        "update audit set seq = 9, hash = sha256('x'), actor = 'x' where seq is null",
        "update audit set seq = 7 where seq = 2",
        "delete from audit where seq = 2",
        "truncate audit",
    ] {
        let refused = sqlx::raw_sql(sql).execute(&pool).await.unwrap_err().to_string();
        assert!(refused.contains("added and never changed"), "{sql}: {refused}");
    }
    assert_eq!((holds(&pool).await.rows, holds(&pool).await.unsealed), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_and_sealers_make_one_chain_and_a_late_commit_is_not_skipped() {
    const EACH: usize = 120;
    let url = fresh_database().await;
    let first = pool(&url).await;
    regreen::db::migrations::Migrations::default().run(&first).await.unwrap();
    // Has the lowest id and commits after everybody else is sealed.
    let mut late = first.begin().await.unwrap();
    audit::add_all(&mut *late, &[event(0)]).await.unwrap();
    let writer = async |name: &'static str| {
        let pool = pool(&url).await;
        for number in 0..EACH {
            let mut transaction = pool.begin().await.unwrap();
            let object = format!("{name}{number}");
            let actor = Actor::new(name, "");
            let event = AuditEvent::new(&actor, AuditAction::ToolTry, Utc::now()).on("thing", object);
            audit::add(&mut *transaction, &event).await.unwrap();
            if number % 7 == 3 {
                // Leaves a gap among the ids.
                transaction.rollback().await.unwrap();
            } else {
                transaction.commit().await.unwrap();
            }
        }
    };
    let sealer = async || {
        let pool = pool(&url).await;
        let mut sealed = 0;
        for _ in 0..EACH {
            sealed += audit::seal(&pool).await.unwrap();
        }
        sealed
    };
    let (_, _, _, one, other) = tokio::join!(writer("a"), writer("b"), writer("c"), sealer(), sealer());
    let rest = audit::seal(&first).await.unwrap();
    let expected = 3 * (EACH - (0..EACH).filter(|number| number % 7 == 3).count()) as u64;
    assert_eq!(one + other + rest, expected);
    assert_eq!(holds(&first).await.rows as u64, expected);
    late.commit().await.unwrap();
    assert_eq!(holds(&first).await.unsealed, 1);
    assert_eq!(audit::seal(&first).await.unwrap(), 1);
    let verified = holds(&first).await;
    assert_eq!((verified.rows as u64, verified.unsealed), (expected + 1, 0));
    let last: (i64, i64) = sqlx::query_as("select id, seq from audit order by seq desc limit 1")
        .fetch_one(&first)
        .await
        .unwrap();
    assert_eq!(last, (1, expected as i64 + 1), "the lowest id has the last place");
}

fn day(text: &str) -> DateTime<Utc> {
    format!("{text}T12:00:00Z").parse().unwrap()
}

async fn write_at(pool: &PgPool, days: &[&str]) {
    let mut events: Vec<AuditEvent> = days.iter().map(|_| event(1)).collect();
    for (event, at) in events.iter_mut().zip(days) {
        event.at = day(at);
    }
    audit::add_all(pool, &events).await.unwrap();
    audit::seal(pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn months_go_as_a_whole_and_the_chain_is_followed_across_them() {
    let pool = database().await;
    for month in ["2025-08-15", "2025-09-15", "2025-10-15"] {
        let now = day(month);
        audit::add_months(&pool, now).await.unwrap();
    }
    assert_eq!(audit::add_months(&pool, day("2025-08-15")).await.unwrap(), 0, "they are there");
    write_at(&pool, &["2025-08-20", "2025-08-21", "2025-09-01"]).await;
    // Where months meet, a row may be sealed after one of the next month.
    write_at(&pool, &["2025-08-31", "2025-09-02"]).await;
    write_at(&pool, &["2025-09-30", "2025-10-01", "2025-10-02"]).await;
    let noted = audit::head(&pool).await.unwrap();

    let now = day("2025-11-05");
    let cut = audit::drop_before(&pool, now - TimeDelta::days(40), now).await.unwrap();
    assert_eq!(
        cut.iter().map(|month| (month.name.as_str(), month.rows)).collect::<Vec<_>>(),
        [("audit_2025_08", 3)]
    );
    let verified = holds(&pool).await;
    assert_eq!((verified.dropped, verified.rows, verified.unsealed), (3, 5, 1));
    audit::seal(&pool).await.unwrap();
    let against = audit::verify(&pool, Some(&noted.hash)).await.unwrap();
    assert_eq!((against.known_at, against.broken), (Some(8), None));

    // What waits for its seal keeps its month.
    let mut waits = event(2);
    waits.at = day("2025-09-03");
    audit::add_all(&pool, &[waits]).await.unwrap();
    let later = day("2025-12-20");
    assert_eq!(audit::drop_before(&pool, later - TimeDelta::days(40), later).await.unwrap(), []);
    audit::seal(&pool).await.unwrap();
    let cut = audit::drop_before(&pool, later - TimeDelta::days(40), later).await.unwrap();
    let cut: Vec<(&str, i64)> = cut.iter().map(|month| (month.name.as_str(), month.rows)).collect();
    assert_eq!(cut, [("audit_2025_09", 4), ("audit_2025_10", 2)]);
    audit::seal(&pool).await.unwrap();
    let verified = holds(&pool).await;
    assert_eq!((verified.dropped, verified.rows), (9, 3), "what is left are the rows that keep the seals");
    let kept: String = sqlx::query_scalar(
        "select (data -> 'stretches')::text from audit where action = 'audit.drop' order by id desc limit 1",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(kept.matches("first").count(), 2, "eight rows, and the one that came late: {kept}");

    // What is gone without such a row shows still.
    write_at(&pool, &["2026-01-01", "2026-01-02"]).await;
    tamper(&pool, "delete from audit where at >= '2026-01-01' and at < '2026-01-02'").await;
    assert_eq!(broken(&pool).await.fault, Fault::Missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_month_has_no_partition_is_kept_all_the_same() {
    let pool = database().await;
    write_at(&pool, &["2031-05-05"]).await;
    assert_eq!(audit::add_months(&pool, day("2031-05-06")).await.unwrap(), 2, "the months after it");
    write_at(&pool, &["2031-05-06", "2031-06-06"]).await;
    assert_eq!(holds(&pool).await.rows, 3);
    let rest: i64 = sqlx::query_scalar("select count(*) from audit_rest").fetch_one(&pool).await.unwrap();
    assert_eq!(rest, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_before_is_carried_over() {
    let pool = pool(&fresh_database().await).await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let at = files.iter().position(|file| file.to_string_lossy().contains("15_audit")).unwrap();
    let apply = async |file: &std::path::Path| {
        let sql = std::fs::read_to_string(file).unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    };
    for file in &files[..at] {
        apply(file).await;
    }
    let seeded = "insert into audit (at, actor, action, object_kind, object, outcome, detail) values
         ('2026-03-31 23:59:59+00', 'alice', 'approval.approve', 'approval', 'x', 'done', 'lab restart'),
         ('2026-04-01 00:00:00+00', 'regreen', 'issue.create', 'incident', 'y', 'done', 'http://f/1')";
    sqlx::raw_sql(seeded).execute(&pool).await.unwrap();
    apply(&files[at]).await;
    for file in &files[at + 1..] {
        apply(file).await;
    }
    let carried = audit::list(&pool, &audit::Filter::default(), 10).await.unwrap();
    let carried: Vec<(i64, &str, &str)> =
        carried.iter().map(|entry| (entry.id, entry.actor.as_str(), entry.detail.as_str())).collect();
    assert_eq!(carried, [(2, "regreen", "http://f/1"), (1, "alice", "lab restart")]);
    let months: Vec<(String, i64)> =
        sqlx::query_as("select tableoid::regclass::text, count(*) from audit group by 1 order by 1")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(months, [("audit_2026_03".to_owned(), 1), ("audit_2026_04".to_owned(), 1)]);
    audit::add_all(&pool, &[event(3)]).await.unwrap();
    assert_eq!(audit::seal(&pool).await.unwrap(), 3);
    assert_eq!(holds(&pool).await.rows, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_keeps_a_secret_and_hashes_stay_what_they_are() {
    let pool = database().await;
    let secret = format!("ghp_{}", "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY2zA4".replace('0', "q"));
    let hash = hash("x");
    let event = event(1).on("tool", format!("lab {secret}")).outcome(AuditOutcome::Failed);
    let event = event
        .detail(format!("lab restart, {hash}: token={secret} was refused\0"))
        .data(json!({"arguments": format!("{{\"password\":\"{secret}\"}}"), "deep": [{"key": secret}], "request": hash, "n": 4}));
    audit::add_all(&pool, &[event]).await.unwrap();
    audit::seal(&pool).await.unwrap();
    let all: String =
        sqlx::query_scalar("select string_agg(audit::text, ' ') from audit").fetch_one(&pool).await.unwrap();
    assert!(!all.contains(&secret[4..]), "{all}");
    let entry = audit::list(&pool, &audit::Filter::default(), 1).await.unwrap().remove(0);
    assert_eq!((&entry.data["request"], &entry.data["n"]), (&json!(hash), &json!(4)));
    assert!(entry.detail.contains(&hash) && entry.detail.contains("[redacted:"), "{}", entry.detail);
    holds(&pool).await;
}
