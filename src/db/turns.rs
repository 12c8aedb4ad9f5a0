//! Turns of conversations: who answers now.

use super::decoded;
use crate::domain::Caller;
use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};
use strum::{EnumString, IntoStaticStr};
use uuid::Uuid;

/// How long a turn is believed to be answered without word of it, in seconds.
pub const LEASE_SECONDS: i64 = 60;

/// How far a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum TurnState {
    /// Somebody answers, or did until they died.
    Running,
    /// There is an answer.
    Done,
    /// There is none.
    Failed,
    /// It was stopped; there is what was written until then.
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
    /// Identifies it.
    pub id: Uuid,
    /// The conversation.
    pub conversation_id: Uuid,
    /// How far it is.
    pub state: TurnState,
    /// Whether somebody is believed to answer it. The database's clock says so: those of replicas may differ, and jump.
    pub answered: bool,
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
pub enum TurnVisibility {
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

/// From now on whoever it answers alone may read a turn.
pub async fn make_private(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<()> {
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

/// A turn.
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

/// Asks whichever replica answers a turn to stop.
pub async fn ask_to_stop(pool: &PgPool, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("select pg_notify('regreen_stop', $1)", id.to_string()).execute(pool).await?;
    Ok(())
}
