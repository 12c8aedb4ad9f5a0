//! Turns of conversations: who answers now, and what happened in each answer.

use crate::domain::Caller;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

/// How long a turn is believed to be answered without word of it, in seconds.
pub const LEASE_SECONDS: i64 = 60;

/// A turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Identifies it.
    pub id: Uuid,
    /// The conversation.
    pub conversation_id: Uuid,
    /// `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// Whether somebody is believed to answer it. The database's clock says so: those of replicas may differ, and jump.
    pub answered: bool,
}

/// New events of a turn, as they are kept.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The turn.
    pub turn: Uuid,
    /// Id of the first event.
    pub first: i32,
    /// The events, an array.
    pub events: Value,
}

/// A turn to open.
#[derive(Debug)]
pub struct NewTurn<'a> {
    /// Row id.
    pub id: Uuid,
    /// Where.
    pub conversation: Uuid,
    /// Whom it answers.
    pub caller: &'a Caller,
    /// By which name they speak.
    pub speaker: &'a str,
    /// Whether what it is given is visible to them alone, as far as is known.
    pub is_own: bool,
}

/// A turn that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// Everybody may read it.
    Shared,
    /// Whoever it answers alone may read it.
    Own,
}

/// Opens a turn. `None` when another one of the conversation is running; one that nobody answers any more is given up. Once
/// something of a conversation is visible to somebody alone, so is every answer to them in it: the model knows of it.
pub async fn open(
    db: &mut sqlx::PgConnection,
    new: &NewTurn<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Opened>> {
    sqlx::query!(
        "update turns set state = 'failed', finished_at = $2
         where conversation_id = $1 and state = 'running' and lease_until < now()",
        new.conversation,
        now
    )
    .execute(&mut *db)
    .await?;
    let opened = sqlx::query_scalar!(
        "insert into turns (id, conversation_id, lease_until, started_at, caller, role, speaker, visible_to)
         values ($1, $2, now() + make_interval(secs => $4::bigint::double precision), $3, $5, $6, $7,
                 case when $8 or exists (select from turns o where o.conversation_id = $2 and o.visible_to = $5) then $5 end)
         on conflict do nothing returning visible_to",
        new.id,
        new.conversation,
        now,
        LEASE_SECONDS,
        new.caller.name,
        new.caller.role.as_str(),
        new.speaker,
        new.is_own
    );
    let opened = opened.fetch_optional(db).await?;
    Ok(opened.map(|visible_to| if visible_to.is_some() { Opened::Own } else { Opened::Shared }))
}

/// From now on whoever it answers alone may read a turn.
pub async fn make_own(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("update turns set visible_to = caller where id = $1", id).execute(db).await?;
    Ok(())
}

/// Says that these turns are still being answered.
pub async fn renew(db: impl PgExecutor<'_>, turns: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        "update turns set lease_until = now() + make_interval(secs => $2::bigint::double precision)
         where id = any($1) and state = 'running'",
        turns,
        LEASE_SECONDS
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends a turn. `false` when it had ended before, or was given up.
pub async fn finish(
    db: impl PgExecutor<'_>,
    id: Uuid,
    state: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let ended = sqlx::query!(
        "update turns set state = $2, finished_at = $3 where id = $1 and state = 'running'",
        id,
        state,
        now
    );
    Ok(ended.execute(db).await?.rows_affected() == 1)
}

/// A turn.
pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Turn>> {
    sqlx::query_as!(
        Turn,
        r#"select id, conversation_id, state, state = 'running' and lease_until > now() as "answered!" from turns where id = $1"#,
        id
    )
    .fetch_optional(db)
    .await
}

/// Keeps events; what is there already stays, and what belongs to a turn that is gone is dropped.
pub async fn keep(db: impl PgExecutor<'_>, batches: &[Batch]) -> sqlx::Result<()> {
    let turns: Vec<Uuid> = batches.iter().map(|batch| batch.turn).collect();
    let firsts: Vec<i32> = batches.iter().map(|batch| batch.first).collect();
    let events: Vec<Value> = batches.iter().map(|batch| batch.events.clone()).collect();
    sqlx::query!(
        "insert into turn_events (turn_id, first_id, events)
         select b.turn_id, b.first_id, b.events from unnest($1::uuid[], $2::int[], $3::jsonb[]) as b (turn_id, first_id, events)
         join turns t on t.id = b.turn_id
         on conflict do nothing",
        &turns,
        &firsts,
        &events
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The kept events of a turn, in order.
pub async fn kept(db: impl PgExecutor<'_>, turn: Uuid) -> sqlx::Result<Vec<Value>> {
    let rows =
        sqlx::query_scalar!("select events from turn_events where turn_id = $1 order by first_id", turn)
            .fetch_all(db)
            .await?;
    let arrays = rows.into_iter().filter_map(|events| match events {
        Value::Array(events) => Some(events),
        _ => None,
    });
    Ok(arrays.flatten().collect())
}

/// Asks whichever replica answers a turn to stop.
pub async fn ask_to_stop(pool: &PgPool, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify('regreen_stop', $1)", id.to_string()).execute(pool).await?;
    Ok(())
}
