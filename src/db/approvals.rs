//! Calls that wait for a person's approval, and what became of them.

use super::audit;
use crate::domain::{Actor, Approval, ApprovalState, AuditAction, AuditEvent, AuditOutcome, Caller};
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// What is said of a call whose process ended in the middle.
const LOST: &str =
    "The process that carried it out ended in the middle: it is not known whether it was carried out.";

/// A call to store.
#[derive(Debug)]
pub struct NewApproval<'a> {
    /// Row id.
    pub id: Uuid,
    /// The conversation.
    pub conversation: Uuid,
    /// The turn that asks.
    pub turn: Uuid,
    /// The MCP server.
    pub server: &'a str,
    /// The tool, as the model knows it.
    pub tool: &'a str,
    /// The tool, as its server knows it.
    pub server_tool: &'a str,
    /// The arguments.
    pub arguments: &'a Value,
    /// Over server, tool and arguments.
    pub hash: &'a str,
    /// Over the tool's definition.
    pub definition: &'a str,
    /// Now.
    pub asked_at: DateTime<Utc>,
    /// Until when it can be decided.
    pub expires_at: DateTime<Utc>,
}

/// Stores a call that waits. Returns its arguments as they are kept.
pub async fn add(db: impl PgExecutor<'_>, new: &NewApproval<'_>) -> sqlx::Result<Value> {
    sqlx::query_scalar!(
        "insert into approvals (id, conversation_id, turn_id, server, tool, server_tool, arguments, hash, asked_at, expires_at, definition)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) returning arguments",
        new.id,
        new.conversation,
        new.turn,
        new.server,
        new.tool,
        new.server_tool,
        new.arguments,
        new.hash,
        new.asked_at,
        new.expires_at,
        new.definition
    )
    .fetch_one(db)
    .await
}

/// The same call of the conversation, if it waits or is allowed already.
pub async fn same(
    db: impl PgExecutor<'_>,
    conversation: Uuid,
    hash: &str,
) -> sqlx::Result<Option<(Uuid, ApprovalState)>> {
    let row = sqlx::query!(
        "select id, state from approvals
         where conversation_id = $1 and hash = $2 and state in ('pending', 'approved')",
        conversation,
        hash
    );
    Ok(row.fetch_optional(db).await?.map(|row| (row.id, ApprovalState::parse(&row.state))))
}

/// How many calls a turn asked for.
pub async fn asked_in(db: impl PgExecutor<'_>, turn: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from approvals where turn_id = $1"#, turn)
        .fetch_one(db)
        .await
}

/// Whether a call is still to be carried out by this turn.
pub async fn is_running(db: impl PgExecutor<'_>, id: Uuid, turn: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from approvals where id = $1 and told_in = $2 and state = 'running') as "running!""#,
        id,
        turn
    )
    .fetch_one(db)
    .await
}

/// Number of calls that wait for a person.
pub async fn waiting(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from approvals where state = 'pending' and expires_at > $1"#,
        now
    )
    .fetch_one(db)
    .await
}

/// How a list is narrowed.
#[derive(Debug, Default)]
pub struct Filter {
    /// Only this one.
    pub id: Option<Uuid>,
    /// Only of this conversation.
    pub conversation: Option<Uuid>,
    /// Only those that this turn asked for.
    pub turn: Option<Uuid>,
    /// Only those that this turn carries out or tells of.
    pub told_in: Option<Uuid>,
    /// Only in this state.
    pub state: Option<ApprovalState>,
    /// Only those before this one.
    pub before: Option<Uuid>,
}

/// Calls, newest first. One that was not decided in time is expired, whether or not somebody has written so.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    now: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<Approval>> {
    let rows = sqlx::query!(
        r#"select a.id, a.conversation_id, a.turn_id, a.server, a.tool, a.server_tool, a.arguments, a.hash, a.definition, s.state as "state!",
                  a.asked_at, a.expires_at, a.decided_at, a.decided_by, a.note, a.told_in, a.evidence, a.error,
                  t.caller as asked_by, t.visible_to, d.visible_to as "result_visible_to?"
           from approvals a join turns t on t.id = a.turn_id left join turns d on d.id = a.told_in
           cross join lateral (select case when a.state = 'pending' and a.expires_at <= $1 then 'expired' else a.state end as state) s
           where ($2::uuid is null or a.id = $2) and ($3::uuid is null or a.conversation_id = $3)
                 and ($4::uuid is null or a.turn_id = $4) and ($5::uuid is null or a.told_in = $5)
                 and ($6::text is null or s.state = $6) and ($7::uuid is null or a.id < $7)
           order by a.id desc limit $8"#,
        now,
        filter.id,
        filter.conversation,
        filter.turn,
        filter.told_in,
        filter.state.map(ApprovalState::as_str),
        filter.before,
        limit
    )
    .fetch_all(db)
    .await?;
    let approvals = rows.into_iter().map(|row| Approval {
        id: row.id,
        conversation_id: row.conversation_id,
        run: row.turn_id,
        asked_by: row.asked_by,
        server: row.server,
        tool: row.tool,
        server_tool: row.server_tool,
        arguments: row.arguments,
        hash: row.hash,
        definition: row.definition,
        state: ApprovalState::parse(&row.state),
        asked_at: row.asked_at,
        expires_at: row.expires_at,
        decided_at: row.decided_at,
        decided_by: row.decided_by,
        note: row.note,
        told_in: row.told_in,
        evidence: row.evidence,
        error: row.error,
        visible_to: row.visible_to,
        result_visible_to: row.result_visible_to,
    });
    Ok(approvals.collect())
}

/// One call.
pub async fn get(db: impl PgExecutor<'_>, id: Uuid, now: DateTime<Utc>) -> sqlx::Result<Option<Approval>> {
    let filter = Filter { id: Some(id), ..Filter::default() };
    Ok(list(db, &filter, now, 1).await?.pop())
}

/// A decision to store.
#[derive(Debug)]
pub struct NewDecision<'a> {
    /// What becomes of the call.
    pub state: ApprovalState,
    /// Who decided.
    pub by: &'a str,
    /// What they said of it.
    pub note: Option<&'a str>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Says who decided what. `false` when the call does not wait any more.
pub async fn decide(db: impl PgExecutor<'_>, id: Uuid, decision: &NewDecision<'_>) -> sqlx::Result<bool> {
    let decided = sqlx::query!(
        "update approvals set state = $2, decided_at = $3, decided_by = $4, note = $5
         where id = $1 and state = 'pending' and expires_at > $3",
        id,
        decision.state.as_str(),
        decision.at,
        decision.by,
        decision.note
    );
    Ok(decided.execute(db).await?.rows_affected() == 1)
}

/// Whether something of a conversation has to be acted on.
pub async fn is_open(db: impl PgExecutor<'_>, conversation: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from approvals where conversation_id = $1
                          and (state in ('approved', 'running') or (told_in is null and state in ('denied', 'failed')))) as "open!""#,
        conversation
    )
    .fetch_one(db)
    .await
}

/// Conversations that can go on: something is decided, nothing waits any more, and nobody answers.
pub async fn ready(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select distinct a.conversation_id from approvals a
         where (a.state in ('approved', 'running') or (a.told_in is null and a.state in ('denied', 'failed')))
               and not exists (select from approvals w where w.conversation_id = a.conversation_id
                               and w.state = 'pending' and w.expires_at > $1)
               and not exists (select from turns t where t.conversation_id = a.conversation_id
                               and t.state = 'running' and t.lease_until >= now())",
        now
    )
    .fetch_all(db)
    .await
}

/// Writes down what time has brought: calls that nobody decided, and calls whose process ended in the middle. The latter
/// are not carried out again, and their conversation is told.
pub async fn end_late(db: &mut PgConnection, conversation: Uuid, now: DateTime<Utc>) -> sqlx::Result<()> {
    expire(&mut *db, Some(conversation), now).await?;
    let lost = sqlx::query!(
        "update approvals a set state = 'failed', told_in = null, error = $2 from turns t
         where a.conversation_id = $1 and a.state = 'running' and t.id = a.told_in
               and (t.state <> 'running' or t.lease_until < now())
         returning a.id, a.server, a.server_tool",
        conversation,
        LOST
    )
    .fetch_all(&mut *db)
    .await?;
    let events = lost.iter().map(|row| {
        let event = AuditEvent::new(&Actor::service(""), AuditAction::ApprovalCarryOut, now);
        let event = event.on("approval", row.id).outcome(AuditOutcome::Failed);
        event.detail(format!("{} {}: {LOST}", row.server, row.server_tool))
    });
    audit::add_all(db, &events.collect::<Vec<_>>()).await
}

/// Writes down that nobody decided in time; of one conversation, or of all.
pub async fn expire(
    db: &mut PgConnection,
    conversation: Option<Uuid>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let expired = sqlx::query!(
        "update approvals set state = 'expired'
         where ($1::uuid is null or conversation_id = $1) and state = 'pending' and expires_at <= $2
         returning id, server, server_tool, hash",
        conversation,
        now
    )
    .fetch_all(&mut *db)
    .await?;
    let events = expired.iter().map(|row| {
        let event = AuditEvent::new(&Actor::service(""), AuditAction::ApprovalExpire, now);
        event.on("approval", row.id).detail(format!("{} {}, {}", row.server, row.server_tool, row.hash))
    });
    audit::add_all(db, &events.collect::<Vec<_>>()).await
}

/// Whose decided calls of a conversation come next.
#[derive(Debug)]
pub struct Requester {
    /// Whoever asked for them, without their token.
    pub caller: Caller,
    /// By which name they speak.
    pub speaker: String,
    /// Whether what is sent is visible to them alone.
    pub is_own: bool,
}

/// Whose decided calls come next: of whoever asked for the one that waits longest to be acted on. Nobody's when nothing is
/// decided, or something waits still. First come those of whoever decided just now: their token is here.
pub async fn next_asker(
    db: impl PgExecutor<'_>,
    conversation: Uuid,
    decider: Option<&str>,
) -> sqlx::Result<Option<Requester>> {
    let row = sqlx::query!(
        r#"select t.caller, t.role, coalesce(t.speaker, t.caller) as "speaker!",
                  exists (select from approvals o join turns s on s.id = o.turn_id
                          where o.conversation_id = $1 and o.told_in is null and o.state <> 'pending'
                                and s.caller = t.caller and s.visible_to is not null) as "is_own!"
           from approvals a join turns t on t.id = a.turn_id
           where a.conversation_id = $1 and a.told_in is null and a.state in ('approved', 'denied', 'failed')
                 and not exists (select from approvals w where w.conversation_id = $1 and w.state = 'pending')
           order by t.caller is not distinct from $2 desc, a.id limit 1"#,
        conversation,
        decider
    );
    Ok(row.fetch_optional(db).await?.map(|row| Requester {
        caller: Caller::recorded(&row.caller, &row.role),
        speaker: row.speaker,
        is_own: row.is_own,
    }))
}

/// Gives a turn what was decided of the calls that this person asked for: allowed calls are its to carry out, no other turn's,
/// and no other person's. `false` when there is nothing, or something waits still.
pub async fn take(
    db: impl PgExecutor<'_>,
    conversation: Uuid,
    turn: Uuid,
    asker: &str,
) -> sqlx::Result<bool> {
    let taken = sqlx::query!(
        "with own as (select a.id, a.state from approvals a join turns t on t.id = a.turn_id
                      where a.conversation_id = $1 and a.told_in is null and t.caller = $3
                            and a.state in ('approved', 'denied', 'failed', 'expired'))
         update approvals set told_in = $2, state = case when approvals.state = 'approved' then 'running' else approvals.state end
         where id in (select id from own)
               -- What expired is told along, and is no reason by itself.
               and exists (select from own where state in ('approved', 'denied', 'failed'))
               and not exists (select from approvals w where w.conversation_id = $1 and w.state = 'pending')",
        conversation,
        turn,
        asker
    );
    Ok(taken.execute(db).await?.rows_affected() > 0)
}

/// How a call ended without a result.
#[derive(Debug, Clone)]
pub struct CallFailure {
    /// How it ended.
    pub state: ApprovalState,
    /// Why.
    pub problem: String,
}

/// What came of a call that was carried out: the label of its result, or how it ended otherwise.
pub async fn settle(
    db: impl PgExecutor<'_>,
    id: Uuid,
    outcome: Result<Option<&str>, &CallFailure>,
) -> sqlx::Result<()> {
    let state = outcome.err().map_or(ApprovalState::Done, |failure| failure.state);
    sqlx::query!(
        "update approvals set state = $2, evidence = $3, error = $4 where id = $1 and state = 'running'",
        id,
        state.as_str(),
        outcome.ok().flatten(),
        outcome.err().map(|failure| failure.problem.as_str())
    )
    .execute(db)
    .await?;
    Ok(())
}
