//! Usage page: usage and cost of models by day, model and caller, and remaining budgets.

use super::error::PageError;
use super::extract::{PageQuery, some};
use super::page::PageContext;
use super::value::value;
use crate::api::usage::{Amount, LimitState, UsageQuery, report};
use crate::clock;
use crate::db::usage::UsageLine;
use crate::domain::Money;
use axum::response::Html;
use chrono::{Days, NaiveDate};
use minijinja::context;
use serde::{Deserialize, Serialize};

/// Number of days in the chart.
const DAYS: u64 = 30;
/// Size of the chart.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 120.0;

/// Filters of the page.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct UsagePageQuery {
    days: Option<u64>,
    #[serde(default)]
    model: String,
    #[serde(default)]
    caller: String,
    #[serde(default)]
    kind: String,
}

/// A day in the chart.
#[derive(Serialize)]
struct Bar {
    x: f64,
    width: f64,
    height: f64,
    label: String,
    title: String,
}

/// Sum of the last days.
#[derive(Serialize)]
struct Figure {
    days: u64,
    name: &'static str,
    tokens: i64,
    cost: Option<Money>,
}

/// A limit shown as a bar.
#[derive(Serialize)]
struct Gauge {
    name: String,
    setting: &'static str,
    limit: String,
    used: Option<String>,
    remaining: Option<String>,
    /// Used share of the limit, in percent.
    percent: f64,
    resets_at: Option<String>,
}

pub(super) async fn show(
    page: PageContext,
    PageQuery(asked): PageQuery<UsagePageQuery>,
) -> Result<Html<String>, PageError> {
    let days = asked.days.filter(|days| [1, 7, DAYS].contains(days)).unwrap_or(DAYS);
    let today = clock::now().date_naive();
    let query = |days: u64| UsageQuery {
        since: first(today, days),
        until: Some(today),
        model: some(&asked.model).map(str::to_owned),
        caller: some(&asked.caller).map(str::to_owned),
        kind: some(&asked.kind).map(str::to_owned),
    };
    let month = report(&page.app, query(DAYS)).await?;
    let figures = [(1, "today"), (7, "last 7 days"), (DAYS, "last 30 days")];
    let figures = figures.map(|(days, name)| figure(&month.by_day, first(today, days), days, name));
    let gauges: Vec<Gauge> = month.limits.iter().map(|limit| gauge(limit, &month.currency)).collect();
    let bars = bars(&month.by_day, today, &month.currency);
    let shown = if days == DAYS { month } else { report(&page.app, query(days)).await? };
    let priced = shown.total.cost.is_some();
    let values = context! {
        asked => value(&asked), days, priced,
        figures => value(figures), gauges => value(gauges), bars => value(bars),
        currency => shown.currency.clone(),
        usage => value(&shown),
    };
    page.show("/usage", "usage.html", values).await
}

/// Returns the first day of a period that ends today.
fn first(today: NaiveDate, days: u64) -> Option<NaiveDate> {
    today.checked_sub_days(Days::new(days - 1))
}

fn tokens(line: &UsageLine) -> i64 {
    line.input_tokens + line.output_tokens
}

fn figure(by_day: &[UsageLine], since: Option<NaiveDate>, days: u64, name: &'static str) -> Figure {
    let since = since.map(|day| day.to_string()).unwrap_or_default();
    let within = || by_day.iter().filter(|line| line.name >= since);
    let costs: Vec<i64> = within().filter_map(|line| line.cost).map(|cost| cost.0).collect();
    Figure {
        days,
        name,
        tokens: within().map(tokens).sum(),
        cost: (!costs.is_empty()).then(|| Money(costs.iter().sum())),
    }
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn bars(by_day: &[UsageLine], today: NaiveDate, currency: &str) -> Vec<Bar> {
    let priced = by_day.iter().any(|line| line.cost.is_some());
    let height = |line: &UsageLine| if priced { line.cost.unwrap_or_default().0 } else { tokens(line) };
    let most = by_day.iter().map(height).max().unwrap_or(0).max(1) as f64;
    let step = WIDTH / DAYS as f64;
    let round = |number: f64| (number * 10.0).round() / 10.0;
    let bar = |index: u64| {
        let day = first(today, DAYS - index)?;
        let line = by_day.iter().find(|line| line.name == day.to_string());
        let used = line.map_or(0, tokens);
        let cost = line.and_then(|line| line.cost).map(|cost| format!(", {cost} {currency}"));
        Some(Bar {
            x: round(index as f64 * step + 1.5),
            width: round(step - 3.0),
            height: round(line.map_or(0, height) as f64 / most * HEIGHT),
            label: day.format("%-d %b").to_string(),
            title: format!("{day}: {used} tokens{}", cost.unwrap_or_default()),
        })
    };
    (0..DAYS).filter_map(bar).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn gauge(state: &LimitState, currency: &str) -> Gauge {
    use crate::budget::Scope;
    let shown = |amount: Amount| match amount {
        Amount::Tokens(tokens) => format!("{} tokens", super::filters::count(tokens)),
        Amount::Cost(cost) => format!("{cost} {currency}"),
    };
    let number = |amount: Amount| match amount {
        Amount::Tokens(number) | Amount::Cost(Money(number)) => number as f64,
    };
    let name = match (state.scope, &state.caller) {
        (Scope::Day, _) => "All, today".to_owned(),
        (Scope::CallerDay, Some(caller)) => format!("{caller}, today"),
        (Scope::CallerDay, None) => "Each caller, a day".to_owned(),
        (Scope::Conversation, _) => "Each conversation".to_owned(),
        (Scope::Report, _) => "Each report".to_owned(),
    };
    let percent = |used| (number(used) / number(state.limit).max(1.0) * 100.0).min(100.0);
    Gauge {
        name,
        setting: state.setting,
        limit: shown(state.limit),
        used: state.used.map(shown),
        remaining: state.remaining.map(shown),
        percent: state.used.map_or(0.0, percent).round(),
        resets_at: state.resets_at.map(|at| at.format("%H:%M UTC").to_string()),
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn days_without_use_are_drawn_and_sums_end_where_they_should() {
        let line = |name: &str, input_tokens, cost| UsageLine {
            name: name.to_owned(),
            input_tokens,
            cost: Some(Money(cost)),
            ..UsageLine::default()
        };
        let by_day = [line("2026-11-21", 10, 5), line("2026-11-15", 20, 10), line("2026-11-14", 40, 20)];
        let today = "2026-11-21".parse().unwrap();
        let sum = |days| figure(&by_day, first(today, days), days, "").tokens;
        assert_eq!([sum(1), sum(7), sum(30)], [10, 30, 70]);
        let bars = bars(&by_day, today, "EUR");
        assert_eq!((bars.len(), bars[0].label.as_str(), bars[29].label.as_str()), (30, "23 Oct", "21 Nov"));
        assert_eq!((bars[22].height, bars[29].height, bars[28].height), (120.0, 30.0, 0.0));
        assert_eq!(bars[29].title, "2026-11-21: 10 tokens, 0.00 EUR");
    }
}
