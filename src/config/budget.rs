//! Model prices and budgets.

use super::reader::SettingsReader;
use super::setting::{Setting, setting};
use crate::domain::{Money, Price};
use globset::{Glob, GlobMatcher};
use serde::Deserialize;

/// Model prices.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    table: Vec<(GlobMatcher, Price)>,
    default: Option<Price>,
}

impl Prices {
    /// Returns the price of a model: the first row whose glob matches its name, else the price set by
    /// `model.input_price`.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<Price> {
        self.listed(model).or(self.default)
    }

    /// Returns the price in the first row whose glob matches.
    #[must_use]
    pub fn listed(&self, model: &str) -> Option<Price> {
        self.table.iter().find(|(glob, _)| glob.is_match(model)).map(|(_, price)| *price)
    }
}

/// Token and cost limits; `None` means unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Input and output tokens.
    pub tokens: Option<i64>,
    /// Cost.
    pub cost: Option<Money>,
}

/// Budget settings.
#[derive(Debug, Clone, Default)]
pub struct Budgets {
    /// Prices of models.
    pub prices: Prices,
    /// Currency of prices and limits.
    pub currency: String,
    /// Limits per report.
    pub report: Allowance,
    /// Limits per conversation.
    pub conversation: Allowance,
    /// Limits per caller and UTC day.
    pub caller_day: Allowance,
    /// Limits per UTC day in total.
    pub day: Allowance,
}

impl Budgets {
    /// Returns whether any cost limit is set.
    #[must_use]
    pub fn costs(&self) -> bool {
        let all = [self.report, self.conversation, self.caller_day, self.day];
        all.iter().any(|limit| limit.cost.is_some())
    }

    /// Returns whether any limit is set.
    #[must_use]
    pub fn any(&self) -> bool {
        let all = [self.report, self.conversation, self.caller_day, self.day];
        all.iter().any(|limit| *limit != Allowance::default())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrice {
    model: String,
    input: f64,
    output: f64,
    cached_input: Option<f64>,
}

/// Settings of this module.
pub(super) const SETTINGS: &[Setting] = &[
    setting("budget.currency", &["REGREEN_CURRENCY"], "USD", "Currency of all prices and costs."),
    setting(
        "budget.report_cost",
        &["REGREEN_BUDGET_REPORT_COST"],
        "",
        "Maximum cost of one report. Unset: no limit.",
    ),
    setting(
        "budget.conversation_tokens",
        &["REGREEN_BUDGET_CONVERSATION_TOKENS"],
        "",
        "Maximum tokens of one conversation.",
    ),
    setting(
        "budget.conversation_cost",
        &["REGREEN_BUDGET_CONVERSATION_COST"],
        "",
        "Maximum cost of one conversation.",
    ),
    setting(
        "budget.caller_day_tokens",
        &["REGREEN_BUDGET_CALLER_DAY_TOKENS"],
        "",
        "Maximum tokens of one caller per day (UTC).",
    ),
    setting(
        "budget.caller_day_cost",
        &["REGREEN_BUDGET_CALLER_DAY_COST"],
        "",
        "Maximum cost of one caller per day (UTC).",
    ),
    setting(
        "budget.day_tokens",
        &["REGREEN_BUDGET_DAY_TOKENS"],
        "",
        "Maximum tokens of all callers per day (UTC).",
    ),
    setting(
        "budget.day_cost",
        &["REGREEN_BUDGET_DAY_COST"],
        "",
        "Maximum cost of all callers per day (UTC).",
    ),
];

/// Reads prices and limits; `model` is the configured model's name.
pub(super) fn read(r: &mut SettingsReader<'_>, file: &toml::Table, model: Option<&str>) -> Budgets {
    let budgets = Budgets {
        prices: prices(r, file),
        currency: currency(r),
        report: Allowance { tokens: None, cost: money(r, "budget.report_cost") },
        conversation: allowance(r, "conversation"),
        caller_day: allowance(r, "caller_day"),
        day: allowance(r, "day"),
    };
    let limits =
        [&budgets.report, &budgets.conversation, &budgets.caller_day, &budgets.day].map(|limit| limit.cost);
    let keys = ["report_cost", "conversation_cost", "caller_day_cost", "day_cost"];
    let limited = keys.iter().zip(limits).find(|(_, limit)| limit.is_some());
    if let (Some((key, _)), Some(model)) = (limited, model)
        && budgets.prices.of(model).is_none()
    {
        let problem = format!(
            "is set, but the model `{model}` has no price; set `model.input_price` and `model.output_price`, or add `[[price]]`"
        );
        r.mistake(format!("`budget.{key}`"), problem);
    }
    budgets
}

fn prices(r: &mut SettingsReader<'_>, file: &toml::Table) -> Prices {
    let mut table = Vec::new();
    match file.get("price") {
        None => {}
        Some(toml::Value::Array(rows)) => {
            for (index, row) in rows.iter().enumerate() {
                let name = format!("`price[{index}]` (file)");
                match row.clone().try_into::<RawPrice>() {
                    Ok(raw) => table.extend(priced(r, &name, &raw)),
                    Err(error) => r.mistake(name, error.message().trim()),
                }
            }
        }
        Some(_) => r.mistake("`price` (file)", "is written as `[[price]]`, once per model or glob"),
    }
    r.all_or_none(&["model.input_price", "model.output_price"], "a cost needs both");
    let pair = money(r, "model.input_price").zip(money(r, "model.output_price"));
    let default = pair.map(|(input, output)| Price { input, output, cached_input: input });
    Prices { table, default }
}

fn priced(r: &mut SettingsReader<'_>, name: &str, raw: &RawPrice) -> Option<(GlobMatcher, Price)> {
    let glob = Glob::new(&raw.model);
    if let Err(error) = &glob {
        r.mistake(format!("{name} model"), format!("`{}` is not a glob: {}", raw.model, error.kind()));
    }
    let amounts = [raw.input, raw.output, raw.cached_input.unwrap_or(raw.input)].map(Money::of);
    let [Some(input), Some(output), Some(cached_input)] = amounts else {
        r.mistake(name, "has a price that is no amount of a million tokens, such as 0.15");
        return None;
    };
    Some((glob.ok()?.compile_matcher(), Price { input, output, cached_input }))
}

fn currency(r: &mut SettingsReader<'_>) -> String {
    let currency = r.required_text("budget.currency");
    if currency.chars().count() > 8 || currency.chars().any(|c| c.is_whitespace() || c.is_control()) {
        r.mistake("`budget.currency`", "has to be one word of at most 8 characters, such as `EUR`");
    }
    currency
}

fn allowance(r: &mut SettingsReader<'_>, name: &str) -> Allowance {
    let tokens = format!("budget.{name}_tokens");
    let limit = r.number::<i64>(&tokens, "a number of tokens");
    if limit.is_some_and(|limit| limit < 0) {
        r.mistake(format!("`{tokens}`"), "is below zero");
    }
    Allowance { tokens: limit, cost: money(r, &format!("budget.{name}_cost")) }
}

fn money(r: &mut SettingsReader<'_>, key: &str) -> Option<Money> {
    let amount = r.number::<f64>(key, "an amount such as 0.15")?;
    let money = Money::of(amount);
    if money.is_none() {
        r.mistake(format!("`{key}`"), format!("{amount} is outside 0 to 9,000,000,000"));
    }
    money
}
