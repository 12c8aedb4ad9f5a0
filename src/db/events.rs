//! Append-only event log with one stream per answer, report and incident. Each append is announced on a channel.

use crate::domain::StreamEvent;
use sqlx::PgExecutor;
use uuid::Uuid;

/// Channel of announcements; the payload is the kind and id of the stream.
pub const CHANNEL: &str = "regreen_events";
/// Maximum number of events per read.
const BATCH: i64 = 500;

/// Appends events to streams of answers in order. Keeps existing events and drops events of deleted turns.
pub async fn append(db: impl PgExecutor<'_>, events: &[(Uuid, StreamEvent)]) -> sqlx::Result<()> {
    let streams: Vec<Uuid> = events.iter().map(|(turn, _)| *turn).collect();
    let ids: Vec<i32> = events.iter().map(|(_, happened)| happened.id).collect();
    let kinds: Vec<&str> = events.iter().map(|(_, happened)| happened.event.kind()).collect();
    let payloads: Vec<&str> = events.iter().map(|(_, happened)| &*happened.data).collect();
    let owners: Vec<Option<&str>> =
        events.iter().map(|(_, happened)| happened.visible_to.as_deref()).collect();
    sqlx::query!(
        "with added as (
             insert into events (stream, seq, kind, payload, visible_to)
             select e.stream, e.seq, e.kind, e.payload::json, e.visible_to
             from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[]) as e (stream, seq, kind, payload, visible_to)
             join turns t on t.id = e.stream for key share of t
             on conflict do nothing returning stream)
         select count(pg_notify('regreen_events', 'turn ' || stream)) from (select distinct stream from added) as told",
        &streams,
        &ids,
        &kinds as _,
        &payloads as _,
        &owners as _
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// Result of reading a stream.
#[derive(Debug)]
pub struct Appended {
    /// Events in order, without those of kinds unknown to this version.
    pub events: Vec<StreamEvent>,
    /// Position of the last event read, if any.
    pub last: Option<i32>,
}

/// Returns the events of a stream after a position, up to a maximum.
pub async fn after(db: impl PgExecutor<'_>, stream: Uuid, after: i32) -> sqlx::Result<Appended> {
    let rows = sqlx::query!(
        r#"select seq, kind, payload::text as "payload!", visible_to from events
           where stream = $1 and seq > $2 order by seq limit $3"#,
        stream,
        after,
        BATCH
    );
    let rows = rows.fetch_all(db).await?;
    let last = rows.last().map(|row| row.seq);
    let events = rows
        .into_iter()
        .filter_map(|row| StreamEvent::read(row.seq, &row.kind, row.payload, row.visible_to.map(Into::into)));
    Ok(Appended { events: events.collect(), last })
}
