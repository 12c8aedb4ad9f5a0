//! Turns of conversations and their leases.

use super::decoded;
use crate::domain::Caller;
use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};
use strum::{EnumString, IntoStaticStr};
use uuid::Uuid;

/// Duration of a turn's lease without a heartbeat, in seconds.
pub const LEASE_SECONDS: i64 = 60;

/// State of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum TurnState {
    /// In progress, or its process died.
    Running,
    /// Finished with an answer.
    Done,
    /// Finished without an answer.
    Failed,
    /// Stopped, with the text written until then.
    Cancelled,
}

impl TurnState {
    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Turn id.
    pub id: Uuid,
    /// The conversation.
    pub conversation_id: Uuid,
    /// State.
    pub state: TurnState,
    /// Whether its lease is valid by the database clock, because the clocks of replicas may differ or jump.
    pub answered: bool,
}

/// A turn to insert.
#[derive(Debug)]
pub struct NewTurn<'a> {
    /// Row id.
    pub id: Uuid,
    /// Conversation.
    pub conversation: Uuid,
    /// Caller that the turn answers.
    pub caller: &'a Caller,
    /// Name under which the caller writes.
    pub speaker: &'a str,
    /// Whether the input is known to be visible only to the caller.
    pub is_own: bool,
}

/// Visibility of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnVisibility {
    /// Visible to everybody.
    Shared,
    /// Visible only to the caller.
    Own,
}

/// Opens a turn and gives up one with an expired lease. Returns `None` while another turn of the conversation runs.
/// Once part of a conversation is visible only to a caller, all later answers to that caller are too, because the model
/// has seen it.
pub async fn open(
    db: &mut sqlx::PgConnection,
    new: &NewTurn<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<TurnVisibility>> {
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
    Ok(opened
        .map(|visible_to| if visible_to.is_some() { TurnVisibility::Own } else { TurnVisibility::Shared }))
}

/// Restricts a turn to its caller.
pub async fn make_private(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("update turns set visible_to = caller where id = $1", id).execute(db).await?;
    Ok(())
}

/// Renews the leases of running turns.
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

/// Finishes a turn. Returns `false` when it was already finished or given up.
pub async fn finish(
    db: impl PgExecutor<'_>,
    id: Uuid,
    state: TurnState,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let ended = sqlx::query!(
        "update turns set state = $2, finished_at = $3 where id = $1 and state = 'running'",
        id,
        state.as_str(),
        now
    );
    Ok(ended.execute(db).await?.rows_affected() == 1)
}

/// Returns a turn.
pub async fn get(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Turn>> {
    let row = sqlx::query!(
        r#"select id, conversation_id, state, state = 'running' and lease_until > now() as "answered!" from turns where id = $1"#,
        id
    );
    let turn = row.fetch_optional(db).await?.map(|row| {
        let state = decoded(&row.state)?;
        Ok(Turn { id: row.id, conversation_id: row.conversation_id, state, answered: row.answered })
    });
    turn.transpose()
}

/// Asks the replica that runs a turn to stop it.
pub async fn ask_to_stop(pool: &PgPool, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify('regreen_stop', $1)", id.to_string()).execute(pool).await?;
    Ok(())
}
