//! Tool calls that wait for approval, and their outcomes.

use super::audit;
use crate::domain::{Actor, Approval, ApprovalState, AuditAction, AuditEvent, AuditOutcome, Caller};
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// Error message of a call whose process ended during execution.
const LOST: &str =
    "The process that carried it out ended in the middle: it is not known whether it was carried out.";

/// A tool call to insert.
#[derive(Debug)]
pub struct NewApproval<'a> {
    /// Row id.
    pub id: Uuid,
    /// The conversation.
    pub conversation: Uuid,
    /// Turn that requested the call.
    pub turn: Uuid,
    /// The MCP server.
    pub server: &'a str,
    /// Tool name used by the model.
    pub tool: &'a str,
    /// Tool name used by the server.
    pub server_tool: &'a str,
    /// The arguments.
    pub arguments: &'a Value,
    /// Hash of server, tool and arguments.
    pub hash: &'a str,
    /// Hash of the tool's definition.
    pub definition: &'a str,
    /// Current time.
    pub asked_at: DateTime<Utc>,
    /// Expiry of the approval request.
    pub expires_at: DateTime<Utc>,
}

/// Inserts a pending call. Returns its arguments as stored.
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

/// Returns a pending or approved call of the conversation with the same hash, if any.
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

/// Counts the calls that a turn requested.
pub async fn asked_in(db: impl PgExecutor<'_>, turn: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from approvals where turn_id = $1"#, turn)
        .fetch_one(db)
        .await
}

/// Returns whether a call is assigned to this turn and not finished.
pub async fn is_running(db: impl PgExecutor<'_>, id: Uuid, turn: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from approvals where id = $1 and told_in = $2 and state = 'running') as "running!""#,
        id,
        turn
    )
    .fetch_one(db)
    .await
}

/// Counts unexpired pending calls.
pub async fn waiting(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from approvals where state = 'pending' and expires_at > $1"#,
        now
    )
    .fetch_one(db)
    .await
}

/// Filter of a call list.
#[derive(Debug, Default)]
pub struct Filter {
    /// Call id.
    pub id: Option<Uuid>,
    /// Conversation.
    pub conversation: Option<Uuid>,
    /// Turn that requested the call.
    pub turn: Option<Uuid>,
    /// Turn that executes the call or reports its outcome.
    pub told_in: Option<Uuid>,
    /// State of the call.
    pub state: Option<ApprovalState>,
    /// Cursor for the next page: only calls before this one.
    pub before: Option<Uuid>,
}

/// Lists calls, newest first. A call that was not decided in time is shown as expired, even before the row is updated.
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

/// Returns a call.
pub async fn get(db: impl PgExecutor<'_>, id: Uuid, now: DateTime<Utc>) -> sqlx::Result<Option<Approval>> {
    let filter = Filter { id: Some(id), ..Filter::default() };
    Ok(list(db, &filter, now, 1).await?.pop())
}

/// A decision to store.
#[derive(Debug)]
pub struct NewDecision<'a> {
    /// New state of the call.
    pub state: ApprovalState,
    /// Person who decided.
    pub by: &'a str,
    /// Comment on the decision.
    pub note: Option<&'a str>,
    /// Time of the decision.
    pub at: DateTime<Utc>,
}

/// Stores a decision. Returns `false` when the call is no longer pending.
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

/// Returns whether a conversation has decided calls to execute or report.
pub async fn is_open(db: impl PgExecutor<'_>, conversation: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from approvals where conversation_id = $1
                          and (state in ('approved', 'running') or (told_in is null and state in ('denied', 'failed')))) as "open!""#,
        conversation
    )
    .fetch_one(db)
    .await
}

/// Returns conversations that can continue: with decided calls, without pending calls and without a running turn.
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

/// Expires undecided calls of a conversation and fails calls whose process ended during execution. The latter are not
/// retried, and the conversation is informed.
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

/// Expires undecided calls of one conversation or of all.
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

/// Person whose decided calls of a conversation are processed next.
#[derive(Debug)]
pub struct Requester {
    /// Caller who requested the calls, without their token.
    pub caller: Caller,
    /// Name under which the caller writes.
    pub speaker: String,
    /// Whether the turn's content is visible only to the caller.
    pub is_own: bool,
}

/// Returns the requester of the decided call that has waited longest. A caller who decided just now comes first,
/// because their token is available. Returns `None` when nothing is decided or a call is still pending.
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

/// Assigns the decided calls of this requester to a turn, which alone may execute the approved ones. Returns `false`
/// when there are none or a call is still pending.
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

/// Outcome of a call without a result.
#[derive(Debug, Clone)]
pub struct CallFailure {
    /// Final state.
    pub state: ApprovalState,
    /// Reason.
    pub problem: String,
}

/// Stores the outcome of an executed call: the evidence label of its result, or its failure.
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
