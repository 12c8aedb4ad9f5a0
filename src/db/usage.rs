//! Model usage: one row per request, and the sums that budgets are checked against.

use crate::domain::{Money, Usage};
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgExecutor, PgPool};
use strum::{IntoStaticStr, VariantNames};
use utoipa::ToSchema;
use uuid::Uuid;

/// Maximum number of overdue requests processed per pass.
const OVERDUE: i64 = 100;

/// What models are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, IntoStaticStr, VariantNames, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum UsageKind {
    /// An investigation.
    Investigation,
    /// An answer in a chat.
    #[default]
    Answer,
    /// A summary of what was said before.
    Summary,
    /// Vectors of texts.
    Embedding,
}

impl UsageKind {
    /// Their names.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Purpose of a request.
#[derive(Debug, Clone, Default)]
pub struct Purpose {
    /// Kind of request.
    pub kind: UsageKind,
    /// Caller that the request is charged to.
    pub caller: String,
    /// Report under investigation.
    pub report: Option<Uuid>,
    /// Conversation that is answered.
    pub conversation: Option<Uuid>,
    /// Turn of the conversation.
    pub turn: Option<Uuid>,
}

/// Amount reserved for an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hold {
    /// Tokens.
    pub tokens: i64,
    /// Cost.
    pub cost: Money,
}

/// A request to a model.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Row id.
    pub id: Uuid,
    /// Start time; its UTC day is the day that the request is charged to.
    pub at: DateTime<Utc>,
    /// Purpose.
    pub purpose: Purpose,
    /// Name of the model.
    pub model: String,
    /// Token counts.
    pub usage: Usage,
    /// Whether this service estimated the token counts.
    pub estimated: bool,
    /// Cost; `None` when the model has no price.
    pub cost: Option<Money>,
    /// Amount reserved for the answer.
    pub held: Hold,
    /// Time at which the reservation expires.
    pub held_until: Option<DateTime<Utc>>,
}

/// Usage within a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// `all`, `caller`, `conversation` or `report`.
    pub scope: String,
    /// Tokens, including reserved ones.
    pub tokens: i64,
    /// Cost in billionths of the currency unit, including reserved cost.
    pub cost: i64,
}

impl Entry {
    fn day(&self) -> NaiveDate {
        self.at.date_naive()
    }

    /// Returns the tokens and cost to charge, including the reservation.
    fn counted(&self) -> (i64, i64) {
        let tokens = i64::try_from(self.usage.total()).unwrap_or(i64::MAX);
        let Hold { tokens: held, cost: held_cost } = self.held;
        (tokens.saturating_add(held), self.cost.unwrap_or_default().0.saturating_add(held_cost.0))
    }
}

fn whole(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

/// Adds to the sums of every scope of the request and returns the new sums.
async fn add(db: &mut PgConnection, entry: &Entry, tokens: i64, cost: i64) -> sqlx::Result<Vec<Sum>> {
    let Purpose { caller, report, conversation, .. } = &entry.purpose;
    let day = Some(entry.day());
    let mut keys = vec![("all", String::new(), day), ("caller", caller.clone(), day)];
    keys.extend(conversation.map(|id| ("conversation", id.to_string(), None)));
    keys.extend(report.map(|id| ("report", id.to_string(), None)));
    let scopes: Vec<String> = keys.iter().map(|(scope, ..)| (*scope).to_owned()).collect();
    let names: Vec<String> = keys.iter().map(|(_, name, _)| name.clone()).collect();
    let days: Vec<Option<NaiveDate>> = keys.iter().map(|(.., day)| *day).collect();
    sqlx::query_as!(
        Sum,
        // A fixed order prevents deadlocks between two requests.
        "insert into spent (scope, name, day, tokens, cost)
         select k.scope, k.name, coalesce(k.day, '-infinity'), $4, $5
         from unnest($1::text[], $2::text[], $3::date[]) as k (scope, name, day) order by 1, 2, 3
         on conflict (scope, name, day) do update
            set tokens = spent.tokens + excluded.tokens, cost = spent.cost + excluded.cost
         returning scope, tokens, cost",
        &scopes,
        &names,
        &days as &[Option<NaiveDate>],
        tokens,
        cost
    )
    .fetch_all(db)
    .await
}

/// Inserts a request, charges it and returns the new sums. The caller rolls back when a sum exceeds its limit.
pub async fn enter(db: &mut PgConnection, entry: &Entry) -> sqlx::Result<Vec<Sum>> {
    let (tokens, cost) = entry.counted();
    let sums = add(&mut *db, entry, tokens, cost).await?;
    let purpose = &entry.purpose;
    sqlx::query!(
        "insert into usage (id, at, kind, caller, report_id, conversation_id, turn_id, model, input_tokens, output_tokens,
                            cached_tokens, estimated, cost, held_tokens, held_cost, held_until)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        entry.id,
        entry.at,
        purpose.kind.as_str(),
        purpose.caller,
        purpose.report,
        purpose.conversation,
        purpose.turn,
        entry.model,
        whole(entry.usage.input_tokens),
        whole(entry.usage.output_tokens),
        whole(entry.usage.cached_tokens),
        entry.estimated,
        entry.cost.map(|cost| cost.0),
        entry.held.tokens,
        entry.held.cost.0,
        entry.held_until
    )
    .execute(db)
    .await?;
    Ok(sums)
}

/// Replaces the inserted usage of a request with the actual usage. Deletes the row when nothing was used, and inserts
/// it when it is missing.
pub async fn settle(pool: &PgPool, entry: &Entry) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    let before = sqlx::query!(
        r#"select input_tokens + output_tokens + held_tokens as "tokens!", coalesce(cost, 0) + held_cost as "cost!"
           from usage where id = $1 for update"#,
        entry.id
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(before) = before else {
        if entry.usage != Usage::default() {
            enter(&mut transaction, entry).await?;
        }
        return transaction.commit().await;
    };
    let (tokens, cost) = entry.counted();
    if entry.usage == Usage::default() {
        sqlx::query!("delete from usage where id = $1", entry.id).execute(&mut *transaction).await?;
    } else {
        sqlx::query!(
            "update usage set input_tokens = $2, output_tokens = $3, cached_tokens = $4, estimated = $5, cost = $6,
                    held_tokens = 0, held_cost = 0, held_until = null where id = $1",
            entry.id,
            whole(entry.usage.input_tokens),
            whole(entry.usage.output_tokens),
            whole(entry.usage.cached_tokens),
            entry.estimated,
            entry.cost.map(|cost| cost.0)
        )
        .execute(&mut *transaction)
        .await?;
    }
    add(&mut transaction, entry, tokens - before.tokens, cost - before.cost).await?;
    transaction.commit().await
}

/// Releases reservations of requests whose process ended and returns their number. Their prompts stay charged, because
/// they were sent.
pub async fn give_back(pool: &PgPool, now: DateTime<Utc>) -> sqlx::Result<usize> {
    let overdue = sqlx::query_scalar!("select id from usage where held_until < $1 limit $2", now, OVERDUE);
    let overdue = overdue.fetch_all(pool).await?;
    for id in &overdue {
        let mut transaction = pool.begin().await?;
        let row = sqlx::query!(
            "select at, caller, report_id, conversation_id, held_tokens, held_cost from usage
             where id = $1 and held_until < $2 for update",
            id,
            now
        );
        // Another replica may have released it first.
        let Some(row) = row.fetch_optional(&mut *transaction).await? else { continue };
        let purpose = Purpose {
            caller: row.caller,
            report: row.report_id,
            conversation: row.conversation_id,
            ..Purpose::default()
        };
        let (usage, model, held) = (Usage::default(), String::new(), Hold::default());
        let entry = Entry {
            id: *id,
            at: row.at,
            purpose,
            model,
            usage,
            estimated: true,
            cost: None,
            held,
            held_until: None,
        };
        sqlx::query!("update usage set held_tokens = 0, held_cost = 0, held_until = null where id = $1", id)
            .execute(&mut *transaction)
            .await?;
        add(&mut transaction, &entry, -row.held_tokens, -row.held_cost).await?;
        transaction.commit().await?;
    }
    Ok(overdue.len())
}

/// Usage of one day, in total (`name` is empty) or of one caller.
#[derive(Debug, Clone)]
pub struct Spent {
    /// `all` or `caller`.
    pub scope: String,
    /// Name of the caller.
    pub name: String,
    /// Tokens, including those reserved for running requests.
    pub tokens: i64,
    /// Cost in billionths of the currency unit, including reserved cost.
    pub cost: i64,
}

/// Returns the total usage of a day and that of at most `limit` callers, highest usage first.
pub async fn on_day(db: impl PgExecutor<'_>, day: NaiveDate, limit: i64) -> sqlx::Result<Vec<Spent>> {
    sqlx::query_as!(
        Spent,
        "select scope, name, tokens, cost from spent
         where day = $1 and scope in ('all', 'caller') and tokens > 0 order by scope, tokens desc, name limit $2",
        day,
        limit + 1
    )
    .fetch_all(db)
    .await
}

/// Filter of usage sums.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Inclusive start.
    pub since: DateTime<Utc>,
    /// Exclusive end.
    pub until: DateTime<Utc>,
    /// Model name.
    pub model: Option<String>,
    /// Caller name.
    pub caller: Option<String>,
    /// Kind of request.
    pub kind: Option<String>,
}

/// What was used, together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct UsageLine {
    /// The day, model, caller or kind; the id of a report or conversation.
    pub name: String,
    /// Of a report or conversation: what it is called, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Requests to models.
    pub requests: i64,
    /// Tokens of prompts.
    pub input_tokens: i64,
    /// Tokens of answers.
    pub output_tokens: i64,
    /// Of the prompts' tokens, those the provider had in its cache.
    pub cached_tokens: i64,
    /// Requests whose tokens were counted here, because the provider did not say.
    pub estimated: i64,
    /// What it cost; absent without prices.
    #[schema(value_type = Option<f64>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
}

/// Usage in total and by day, model, caller and kind.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// Sum of all requests.
    pub total: UsageLine,
    /// By UTC day, newest first.
    pub by_day: Vec<UsageLine>,
    /// By model, highest usage first.
    pub by_model: Vec<UsageLine>,
    /// By caller, highest usage first.
    pub by_caller: Vec<UsageLine>,
    /// By kind, highest usage first.
    pub by_kind: Vec<UsageLine>,
}

/// Returns usage in total and by day, model, caller and kind.
pub async fn lines(db: impl PgExecutor<'_>, filter: &Filter) -> sqlx::Result<Lines> {
    let rows = sqlx::query!(
        r#"select (at at time zone 'utc')::date as day, model as "model?", caller as "caller?", kind as "kind?",
                  grouping((at at time zone 'utc')::date, model, caller, kind) as "grouped!",
                  count(*) as "requests!", coalesce(sum(input_tokens), 0)::bigint as "input_tokens!",
                  coalesce(sum(output_tokens), 0)::bigint as "output_tokens!",
                  coalesce(sum(cached_tokens), 0)::bigint as "cached_tokens!",
                  count(*) filter (where estimated) as "estimated!", sum(cost)::bigint as cost
           from usage
           where at >= $1 and at < $2 and ($3::text is null or model = $3) and ($4::text is null or caller = $4)
             and ($5::text is null or kind = $5)
           group by grouping sets ((), ((at at time zone 'utc')::date), (model), (caller), (kind))
           order by (at at time zone 'utc')::date desc nulls last, sum(input_tokens + output_tokens) desc, 2, 3, 4"#,
        filter.since,
        filter.until,
        filter.model,
        filter.caller,
        filter.kind
    )
    .fetch_all(db)
    .await?;
    let mut lines = Lines::default();
    for row in rows {
        let mut line = UsageLine {
            name: String::new(),
            title: None,
            requests: row.requests,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            cached_tokens: row.cached_tokens,
            estimated: row.estimated,
            cost: row.cost.map(Money),
        };
        // `grouping` sets one bit for each of day, model, caller and kind that the row is not grouped by.
        let (name, group) = match row.grouped {
            0b0111 => (row.day.map(|day| day.to_string()), &mut lines.by_day),
            0b1011 => (row.model, &mut lines.by_model),
            0b1101 => (row.caller, &mut lines.by_caller),
            0b1110 => (row.kind, &mut lines.by_kind),
            _ => {
                lines.total = line;
                continue;
            }
        };
        line.name = name.unwrap_or_default();
        group.push(line);
    }
    Ok(lines)
}

/// Returns the reports and the conversations with the highest usage.
pub async fn most(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    limit: i64,
) -> sqlx::Result<(Vec<UsageLine>, Vec<UsageLine>)> {
    let rows = sqlx::query!(
        r#"with work as (
               select coalesce(report_id, conversation_id) as id, report_id is not null as is_report, count(*) as requests,
                      sum(input_tokens)::bigint as input_tokens, sum(output_tokens)::bigint as output_tokens,
                      sum(cached_tokens)::bigint as cached_tokens, count(*) filter (where estimated) as estimated,
                      sum(cost)::bigint as cost,
                      row_number() over (partition by report_id is not null
                          order by sum(cost) desc nulls last, sum(input_tokens + output_tokens) desc,
                                   coalesce(report_id, conversation_id)) as place
               from usage
               where at >= $1 and at < $2 and ($3::text is null or model = $3) and ($4::text is null or caller = $4)
                 and ($5::text is null or kind = $5) and coalesce(report_id, conversation_id) is not null
               group by coalesce(report_id, conversation_id), report_id is not null)
           select w.id as "id!", w.is_report as "is_report!", w.requests as "requests!", w.input_tokens as "input_tokens!",
                  w.output_tokens as "output_tokens!", w.cached_tokens as "cached_tokens!", w.estimated as "estimated!", w.cost,
                  coalesce(r.namespace || '/' || r.pod_name, c.title) as title
           from work w left join reports r on r.id = w.id left join conversations c on c.id = w.id
           where w.place <= $6 order by w.place"#,
        filter.since,
        filter.until,
        filter.model,
        filter.caller,
        filter.kind,
        limit
    )
    .fetch_all(db)
    .await?;
    let (mut reports, mut conversations) = (Vec::new(), Vec::new());
    for row in rows {
        let line = UsageLine {
            name: row.id.to_string(),
            title: row.title,
            requests: row.requests,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            cached_tokens: row.cached_tokens,
            estimated: row.estimated,
            cost: row.cost.map(Money),
        };
        if row.is_report { reports.push(line) } else { conversations.push(line) }
    }
    Ok((reports, conversations))
}
