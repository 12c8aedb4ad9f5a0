//! `/api/usage`: usage and cost of models, and remaining budgets.

use super::problem::{FieldError, Problem};
use super::reports::bad_query;
use crate::app::App;
use crate::budget::{Scope, Unit, limits};
use crate::clock;
use crate::db::usage::{self, Filter, Lines, Spent, UsageKind, UsageLine};
use crate::domain::Money;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Number of days in the default period.
const DAYS: u64 = 30;
/// Maximum length of the period, in days.
const MAX_DAYS: i64 = 400;
/// Maximum number of reports, conversations and callers listed.
const MOST: i64 = 10;

/// What is summed up.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// The first day (UTC), such as 2026-11-01; 30 days before the last one when left out.
    pub(crate) since: Option<NaiveDate>,
    /// The last day; today when left out.
    pub(crate) until: Option<NaiveDate>,
    /// Only of this model.
    pub(crate) model: Option<String>,
    /// Only by this caller.
    pub(crate) caller: Option<String>,
    /// Only of this kind.
    #[param(inline, value_type = Option<UsageKind>)]
    pub(crate) kind: Option<String>,
}

/// An amount of tokens or money.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Amount {
    /// Tokens.
    Tokens(i64),
    /// Money.
    Cost(Money),
}

/// A limit that is set, and what is left of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitState {
    /// What it is set on.
    pub(crate) scope: Scope,
    /// Of `caller_day`: whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<String>,
    /// What is limited.
    pub(crate) unit: Unit,
    /// How much.
    #[schema(value_type = f64)]
    pub(crate) limit: Amount,
    /// What is used, with what running requests hold; absent where each report or conversation has its own.
    #[schema(value_type = Option<f64>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) used: Option<Amount>,
    /// What is left.
    #[schema(value_type = Option<f64>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remaining: Option<Amount>,
    /// When it starts anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resets_at: Option<DateTime<Utc>>,
    /// The setting it comes from.
    pub(crate) setting: &'static str,
}

/// What models used and cost.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageReport {
    /// What all costs are in.
    pub(crate) currency: String,
    /// The first day.
    pub(crate) since: NaiveDate,
    /// The last day.
    pub(crate) until: NaiveDate,
    /// Everything together.
    pub(crate) total: UsageLine,
    /// By day, the latest first; days without use are left out.
    pub(crate) by_day: Vec<UsageLine>,
    /// By model, the most used first.
    pub(crate) by_model: Vec<UsageLine>,
    /// By caller, likewise.
    pub(crate) by_caller: Vec<UsageLine>,
    /// By kind, likewise.
    pub(crate) by_kind: Vec<UsageLine>,
    /// The reports that used most; at most ten.
    pub(crate) reports: Vec<UsageLine>,
    /// The conversations that used most; at most ten.
    pub(crate) conversations: Vec<UsageLine>,
    /// Every limit that is set; those of callers for the ten that used most today.
    pub(crate) limits: Vec<LimitState>,
}

/// What models used and cost, and what may still be spent.
#[utoipa::path(get, operation_id = "get_usage", path = "/api/usage", tag = "usage", params(UsageQuery),
    responses((status = 200, body = UsageReport), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn usage(
    State(app): State<Arc<App>>,
    query: Result<Query<UsageQuery>, QueryRejection>,
) -> Result<Json<UsageReport>, Problem> {
    let Query(query) = query.map_err(|error| bad_query(&error.body_text()))?;
    Ok(Json(report(&app, query).await?))
}

/// Validates the requested days and filter.
fn filter(query: UsageQuery, today: NaiveDate) -> Result<(NaiveDate, NaiveDate, Filter), Problem> {
    let some = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let UsageQuery { since, until, model, caller, kind } = query;
    let (model, caller, kind) = (some(model), some(caller), some(kind));
    let mut errors = Vec::new();
    let mut wrong = |field: &str, problem: String| {
        errors.push(FieldError { field: field.to_owned(), problem });
    };
    let until = until.unwrap_or(today);
    let since = since.or_else(|| until.checked_sub_days(Days::new(DAYS - 1))).unwrap_or(until);
    let (year, days) = (chrono::Datelike::year(&until), (until - since).num_days() + 1);
    if days < 1 {
        wrong("since", format!("is after {until}, the last day"));
    } else if days > MAX_DAYS || !(2000..9000).contains(&year) {
        wrong("since", format!("has to be within {MAX_DAYS} days before the last day"));
    }
    if kind.as_deref().is_some_and(|kind| !UsageKind::NAMES.contains(&kind)) {
        wrong("kind", format!("has to be one of {}", UsageKind::NAMES.join(", ")));
    }
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    let begin = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
    let end = begin(until.succ_opt().unwrap_or(until));
    Ok((since, until, Filter { since: begin(since), until: end, model, caller, kind }))
}

/// Returns the requested usage report.
pub(crate) async fn report(app: &App, query: UsageQuery) -> Result<UsageReport, Problem> {
    let now = clock::now();
    let (since, until, filter) = filter(query, now.date_naive())?;
    // Release the budget reservations of ended processes.
    usage::give_back(&app.pool, now).await?;
    let Lines { total, by_day, by_model, by_caller, by_kind } = usage::lines(&app.pool, &filter).await?;
    let (reports, conversations) = usage::most(&app.pool, &filter, MOST).await?;
    let spent = usage::on_day(&app.pool, now.date_naive(), MOST).await?;
    Ok(UsageReport {
        currency: app.config.budget.currency.clone(),
        since,
        until,
        total,
        by_day,
        by_model,
        by_caller,
        by_kind,
        reports,
        conversations,
        limits: states(app, &spent, now),
    })
}

/// Returns every limit with its current usage.
fn states(app: &App, spent: &[Spent], now: DateTime<Utc>) -> Vec<LimitState> {
    let mut states = Vec::new();
    for limit in limits(&app.config.budget) {
        let amount = |amount| match limit.unit {
            Unit::Tokens => Amount::Tokens(amount),
            Unit::Cost => Amount::Cost(Money(amount)),
        };
        let state = |used: Option<i64>, caller: Option<String>| LimitState {
            scope: limit.scope,
            caller,
            unit: limit.unit,
            limit: amount(limit.limit),
            used: used.map(amount),
            remaining: used.map(|used| amount((limit.limit - used).max(0))),
            resets_at: limit.resets(now),
            setting: limit.setting,
        };
        let of = |spent: &Spent| Some(limit.unit.of(spent.tokens, spent.cost));
        match limit.scope {
            Scope::Report | Scope::Conversation => states.push(state(None, None)),
            Scope::Day => {
                let all = spent.iter().find(|spent| spent.scope == "all");
                states.push(state(all.map_or(Some(0), of), None));
            }
            Scope::CallerDay => {
                let callers: Vec<&Spent> = spent.iter().filter(|spent| spent.scope == "caller").collect();
                if callers.is_empty() {
                    states.push(state(None, None));
                }
                states.extend(callers.iter().map(|spent| state(of(spent), Some(spent.name.clone()))));
            }
        }
    }
    states
}

#[cfg(test)]
mod unit {
    use super::*;

    fn days(since: Option<&str>, until: Option<&str>) -> Result<(String, String), String> {
        let day = |text: &str| text.parse().unwrap();
        let query = UsageQuery { since: since.map(day), until: until.map(day), ..UsageQuery::default() };
        let (_, _, filter) = filter(query, day("2026-11-21")).map_err(|problem| problem.detail)?;
        Ok((filter.since.to_rfc3339(), filter.until.to_rfc3339()))
    }

    #[test]
    fn days_are_whole_and_in_order() {
        let (begin, end) = ("2026-10-23T00:00:00+00:00".to_owned(), "2026-11-22T00:00:00+00:00".to_owned());
        assert_eq!(days(None, None), Ok((begin, end.clone())));
        assert_eq!(days(Some("2026-11-21"), None), Ok(("2026-11-21T00:00:00+00:00".to_owned(), end)));
        assert!(days(Some("2026-11-22"), None).unwrap_err().contains("the last day"));
        assert!(days(Some("2020-01-01"), None).unwrap_err().contains("400 days"));
        let query = UsageQuery { kind: Some("lunch".to_owned()), ..UsageQuery::default() };
        assert_eq!(filter(query, "2026-11-21".parse().unwrap()).unwrap_err().errors[0].field, "kind");
    }
}
