//! The log of events: append-only, a stream for each answer, report and incident. Each append is told on a channel.

use crate::domain::StreamEvent;
use sqlx::PgExecutor;
use uuid::Uuid;

/// Where appends are told: what the stream is of, and its id.
pub const CHANNEL: &str = "regreen_events";
/// Events that one look reads.
const BATCH: i64 = 500;

/// Appends to the streams of answers, each event after those that are there. What is there already stays, and what belongs to a turn that is
/// gone is dropped.
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

/// What a look at a stream finds.
#[derive(Debug)]
pub struct Appended {
    /// Events, in order. Those that a newer program keeps are left out.
    pub events: Vec<StreamEvent>,
    /// The place of the last that was looked at, where there was one.
    pub last: Option<i32>,
}

/// The events of a stream after this one; of many, the first.
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
