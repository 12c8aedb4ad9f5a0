//! Detects and describes exceeded limits. No I/O.

use crate::config::{Allowance, Budgets};
use crate::db::usage::{Entry, Sum};
use crate::domain::Money;
use chrono::{DateTime, Days, NaiveTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// What a limit is set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything on one day.
    Day,
    /// What one caller uses on one day.
    CallerDay,
    /// One conversation.
    Conversation,
    /// One report.
    Report,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Tokens of requests and answers.
    Tokens,
    /// Money.
    Cost,
}

/// A configured limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Scope of the limit.
    pub scope: Scope,
    /// Unit of the limit.
    pub unit: Unit,
    /// Tokens, or billionths of the currency.
    pub limit: i64,
    /// Name of the setting.
    pub setting: &'static str,
}

/// A limit that a request would exceed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reached {
    limit: Limit,
    /// Usage including the request.
    with: i64,
}

/// Returns all configured limits.
#[must_use]
pub fn limits(budgets: &Budgets) -> Vec<Limit> {
    let all: [(Scope, Allowance, [&'static str; 2]); 4] = [
        (Scope::Report, budgets.report, ["agent.total_tokens", "budget.report_cost"]),
        (
            Scope::Conversation,
            budgets.conversation,
            ["budget.conversation_tokens", "budget.conversation_cost"],
        ),
        (Scope::CallerDay, budgets.caller_day, ["budget.caller_day_tokens", "budget.caller_day_cost"]),
        (Scope::Day, budgets.day, ["budget.day_tokens", "budget.day_cost"]),
    ];
    let mut set = Vec::new();
    for (scope, Allowance { tokens, cost }, [tokens_setting, cost_setting]) in all {
        set.extend(tokens.map(|limit| Limit { scope, unit: Unit::Tokens, limit, setting: tokens_setting }));
        set.extend(cost.map(|cost| Limit { scope, unit: Unit::Cost, limit: cost.0, setting: cost_setting }));
    }
    set
}

/// Returns the first limit that the sums exceed.
pub(super) fn reached(budgets: &Budgets, sums: &[Sum]) -> Option<Reached> {
    limits(budgets).into_iter().find_map(|limit| {
        let sum = sums.iter().find(|sum| sum.scope == limit.scope.stored())?;
        let with = limit.unit.of(sum.tokens, sum.cost);
        (with > limit.limit).then_some(Reached { limit, with })
    })
}

impl Scope {
    fn stored(self) -> &'static str {
        match self {
            Self::Day => "all",
            Self::CallerDay => "caller",
            Self::Conversation => "conversation",
            Self::Report => "report",
        }
    }
}

impl Unit {
    /// Returns the amount in this unit.
    #[must_use]
    pub fn of(self, tokens: i64, cost: i64) -> i64 {
        match self {
            Self::Tokens => tokens,
            Self::Cost => cost,
        }
    }

    fn shown(self, amount: i64) -> String {
        match self {
            Self::Tokens => amount.to_string(),
            Self::Cost => Money(amount).to_string(),
        }
    }
}

impl Limit {
    /// Returns when usage at the given time stops counting; `None` for scopes without a daily reset.
    #[must_use]
    pub fn resets(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if !matches!(self.scope, Scope::Day | Scope::CallerDay) {
            return None;
        }
        let next = at.date_naive().checked_add_days(Days::new(1))?;
        Some(next.and_time(NaiveTime::MIN).and_utc())
    }
}

impl Reached {
    /// Describes the limit, its usage, the need of the request, the time of the reset, and the name of the setting.
    pub(super) fn in_words(&self, entry: &Entry, currency: &str) -> String {
        let Self { limit, with } = self;
        let tokens = i64::try_from(entry.usage.total()).unwrap_or(i64::MAX).saturating_add(entry.held.tokens);
        let cost = entry.cost.unwrap_or_default().0.saturating_add(entry.held.cost.0);
        let needed = limit.unit.of(tokens, cost);
        let whose = match limit.scope {
            Scope::Day => "of today".to_owned(),
            Scope::CallerDay => format!("of `{}` for today", entry.purpose.caller),
            Scope::Conversation => "of this conversation".to_owned(),
            Scope::Report => "of this report".to_owned(),
        };
        let unit = match limit.unit {
            Unit::Tokens => "tokens",
            Unit::Cost => currency,
        };
        let shown = |amount| limit.unit.shown(amount);
        let anew = match limit.resets(entry.at) {
            Some(at) => format!("it starts anew at {}", at.format("%Y-%m-%d %H:%M UTC")),
            None => "it does not start anew".to_owned(),
        };
        format!(
            "the budget {whose} is used up: {} of {} {unit} are spent or held by running requests and the next request may need {}; {anew}, and `{}` sets it",
            shown(with - needed),
            shown(limit.limit),
            shown(needed),
            limit.setting
        )
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;
    use crate::config::Allowance;
    use crate::db::usage::{Hold, Purpose};
    use crate::domain::Usage;

    fn entry() -> Entry {
        Entry {
            id: uuid::Uuid::nil(),
            at: DateTime::parse_from_rfc3339("2026-12-31T23:10:00Z").unwrap().to_utc(),
            purpose: Purpose { caller: "key:ci".to_owned(), ..Purpose::default() },
            model: "m".to_owned(),
            usage: Usage { input_tokens: 900, ..Usage::default() },
            estimated: true,
            cost: Money::of(0.09),
            held: Hold { tokens: 100, cost: Money::of(0.01).unwrap() },
            held_until: None,
        }
    }

    fn sums(tokens: i64, cost: f64) -> Vec<Sum> {
        let sum = |scope: &str| Sum { scope: scope.to_owned(), tokens, cost: Money::of(cost).unwrap().0 };
        ["all", "caller", "conversation", "report"].map(sum).to_vec()
    }

    #[test]
    fn a_limit_is_reached_when_it_would_be_passed_and_not_before() {
        let tokens =
            |limit| Budgets { day: Allowance { tokens: Some(limit), cost: None }, ..Budgets::default() };
        assert_eq!(reached(&tokens(5_000), &sums(5_000, 0.0)), None);
        assert!(reached(&tokens(4_999), &sums(5_000, 0.0)).is_some());
        assert_eq!(reached(&Budgets::default(), &sums(i64::MAX, 1e6)), None);
    }

    #[test]
    fn it_is_said_which_how_much_until_when_and_what_to_set() {
        let budgets =
            Budgets { caller_day: Allowance { tokens: Some(4_999), cost: None }, ..Budgets::default() };
        insta::assert_snapshot!(
            reached(&budgets, &sums(5_000, 0.0)).unwrap().in_words(&entry(), "USD"),
            @"the budget of `key:ci` for today is used up: 4000 of 4999 tokens are spent or held by running requests and the next request may need 1000; it starts anew at 2027-01-01 00:00 UTC, and `budget.caller_day_tokens` sets it"
        );
        let budgets =
            Budgets { report: Allowance { tokens: None, cost: Money::of(0.5) }, ..Budgets::default() };
        insta::assert_snapshot!(
            reached(&budgets, &sums(1, 0.55)).unwrap().in_words(&entry(), "EUR"),
            @"the budget of this report is used up: 0.45 of 0.50 EUR are spent or held by running requests and the next request may need 0.10; it does not start anew, and `budget.report_cost` sets it"
        );
    }
}
