//! Agent runs and their tool calls.

use super::decoded;
use crate::domain::{Principal, Run, ToolCallRecord, Usage};
use sqlx::{PgConnection, PgExecutor};
use std::collections::HashMap;
use uuid::Uuid;

/// Subject of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A report.
    Report(Uuid),
    /// A turn of a conversation.
    Turn(Uuid),
}

impl Work {
    /// Returns the report id and the turn id; one of them is set.
    fn ids(self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Self::Report(id) => (Some(id), None),
            Self::Turn(id) => (None, Some(id)),
        }
    }
}

/// Inserts a run with its calls.
pub async fn insert(db: &mut PgConnection, work: Work, run: &Run) -> sqlx::Result<()> {
    let (report, turn) = work.ids();
    let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query!(
        "insert into runs (id, report_id, analyst, stop_reason, detail, turns, input_tokens, output_tokens, cost, started_at, duration_ms, claims, claims_verified, turn_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        run.id,
        report,
        run.analyst,
        run.stop_reason.as_str(),
        run.detail,
        run.turns,
        tokens(run.usage.input_tokens),
        tokens(run.usage.output_tokens),
        run.cost,
        run.started_at,
        run.duration_ms,
        run.claims,
        run.claims_verified,
        turn
    )
    .execute(&mut *db)
    .await?;
    let calls = &run.tool_calls;
    if calls.is_empty() {
        return Ok(());
    }
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let clean = |text: &String| text.replace('\0', "\u{fffd}");
    sqlx::query!(
        "insert into tool_calls (run_id, position, turn, name, arguments, result, failed, duration_ms)
         select $1, * from unnest($2::int[], $3::int[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::bigint[])",
        run.id,
        &(0..calls.len()).map(number).collect::<Vec<_>>(),
        &calls.iter().map(|call| i32::try_from(call.turn).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
        &calls.iter().map(|call| clean(&call.name)).collect::<Vec<_>>(),
        &calls.iter().map(|call| clean(&call.arguments)).collect::<Vec<_>>(),
        &calls.iter().map(|call| clean(&call.result)).collect::<Vec<_>>(),
        &calls.iter().map(|call| call.failed).collect::<Vec<_>>(),
        &calls.iter().map(|call| call.duration_ms).collect::<Vec<_>>(),
    )
    .execute(&mut *db)
    .await?;
    Ok(())
}

/// Returns the runs of a report with their calls, oldest first.
pub async fn of_report(db: impl PgExecutor<'_> + Copy, report: Uuid) -> sqlx::Result<Vec<Run>> {
    Ok(read(db, Some(report), &[]).await?.into_iter().map(|(_, run)| run).collect())
}

/// Returns the runs of these turns with turn and calls, oldest first, as visible to the reader.
pub async fn of_turns(
    db: impl PgExecutor<'_> + Copy,
    turns: &[Uuid],
    reader: &Principal,
) -> sqlx::Result<Vec<(Uuid, Run)>> {
    let owners = sqlx::query!(
        r#"select id, visible_to as "owner!" from turns where id = any($1) and visible_to is not null"#,
        turns
    );
    let owners: HashMap<Uuid, String> =
        owners.fetch_all(db).await?.into_iter().map(|row| (row.id, row.owner)).collect();
    let runs = read(db, None, turns).await?.into_iter().filter_map(|(turn, run)| {
        let turn = turn?;
        Some((turn, run.redacted_for(owners.get(&turn).map(String::as_str), reader)))
    });
    Ok(runs.collect())
}

/// Returns the runs of a conversation with turn and calls, oldest first, as visible to the reader.
pub async fn of_conversation(
    db: impl PgExecutor<'_> + Copy,
    conversation: Uuid,
    reader: &Principal,
) -> sqlx::Result<Vec<(Uuid, Run)>> {
    let turns = sqlx::query_scalar!("select id from turns where conversation_id = $1", conversation);
    let turns: Vec<Uuid> = turns.fetch_all(db).await?;
    of_turns(db, &turns, reader).await
}

async fn read(
    db: impl PgExecutor<'_> + Copy,
    report: Option<Uuid>,
    turns: &[Uuid],
) -> sqlx::Result<Vec<(Option<Uuid>, Run)>> {
    let rows = sqlx::query!(
        "select * from runs
         where report_id = $1 or turn_id = any($2) order by started_at, id",
        report,
        turns
    )
    .fetch_all(db)
    .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let calls =
        sqlx::query!("select * from tool_calls where run_id = any($1) order by run_id, position", &ids)
            .fetch_all(db)
            .await?;
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let run = rows.into_iter().map(|row| {
        Ok((
            row.turn_id,
            Run {
                tool_calls: calls
                    .iter()
                    .filter(|call| call.run_id == row.id)
                    .map(|call| ToolCallRecord {
                        turn: u32::try_from(call.turn).unwrap_or(0),
                        name: call.name.clone(),
                        arguments: call.arguments.clone(),
                        result: call.result.clone(),
                        failed: call.failed,
                        duration_ms: call.duration_ms,
                    })
                    .collect(),
                id: row.id,
                analyst: row.analyst,
                stop_reason: decoded(&row.stop_reason)?,
                detail: row.detail,
                turns: row.turns,
                usage: Usage {
                    input_tokens: number(row.input_tokens),
                    output_tokens: number(row.output_tokens),
                    ..Usage::default()
                },
                cost: row.cost,
                claims: row.claims,
                claims_verified: row.claims_verified,
                started_at: row.started_at,
                duration_ms: row.duration_ms,
            },
        ))
    });
    run.collect()
}
