//! Money and prices, as integer billionths of one currency, so that sums of many small amounts are exact.

use super::Usage;
use serde::{Serialize, Serializer};

/// Amount in billionths of the configured currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(pub i64);

impl Money {
    /// Converts an amount in currency units. Returns `None` when it is negative, not a number, or above nine billion.
    #[must_use]
    pub fn of(amount: f64) -> Option<Self> {
        let nanos = (amount * 1e9).round();
        #[expect(clippy::cast_possible_truncation, reason = "within the range just checked")]
        (0.0..=9e18).contains(&nanos).then_some(Self(nanos as i64))
    }

    /// Amount in currency units.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people; sums are made of the whole numbers")]
    pub fn amount(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl std::fmt::Display for Money {
    /// Formats two decimal places; amounts below ten have up to six, as needed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.amount() >= 10.0 {
            return write!(f, "{:.2}", self.amount());
        }
        let text = format!("{:.6}", self.amount());
        let kept = text.trim_end_matches('0').len().max("0.00".len());
        f.write_str(&text[..kept])
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.amount())
    }
}

/// Price of one million tokens of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Price of input tokens.
    pub input: Money,
    /// Price of output tokens.
    pub output: Money,
    /// Price of input tokens that the provider read from its cache.
    pub cached_input: Money,
}

impl Price {
    /// Cost of the given usage, rounded up.
    #[must_use]
    pub fn cost(self, usage: Usage) -> Money {
        let cached = usage.cached_tokens.min(usage.input_tokens);
        let parts = [
            (usage.input_tokens - cached, self.input),
            (cached, self.cached_input),
            (usage.output_tokens, self.output),
        ];
        let sum: i128 = parts.iter().map(|(tokens, price)| i128::from(*tokens) * i128::from(price.0)).sum();
        Money(i64::try_from((sum + 999_999) / 1_000_000).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use proptest::prelude::*;

    fn price(input: f64, output: f64, cached: f64) -> Price {
        let of = |amount| Money::of(amount).unwrap();
        Price { input: of(input), output: of(output), cached_input: of(cached) }
    }

    #[test]
    fn a_cost_is_exact_and_shown_with_the_places_it_needs() {
        let usage = Usage { input_tokens: 1_000_000, output_tokens: 500_000, cached_tokens: 400_000 };
        assert_eq!(price(0.15, 0.6, 0.075).cost(usage), Money::of(0.09 + 0.03 + 0.3).unwrap());
        let one = Usage { input_tokens: 1, ..Usage::default() };
        assert_eq!(price(0.15, 0.6, 0.075).cost(one), Money(150));
        let shown = [0.0, 0.00015, 0.25, 1.5, 12.3456].map(|amount| Money::of(amount).unwrap().to_string());
        assert_eq!(shown, ["0.00", "0.00015", "0.25", "1.50", "12.35"]);
        assert_eq!([Money::of(-1.0), Money::of(f64::NAN), Money::of(1e10)], [None; 3]);
    }

    proptest! {
        #[test]
        fn nothing_costs_less_than_its_parts_of_a_price(input in 0u64..10_000_000, output in 0u64..10_000_000, cached in 0u64..10_000_000) {
            let usage = Usage { input_tokens: input, output_tokens: output, cached_tokens: cached };
            let (low, high) = (price(1.0, 1.0, 1.0), price(2.0, 3.0, 1.5));
            prop_assert!(high.cost(usage) >= low.cost(usage));
            let tokens = i64::try_from(input + output).unwrap();
            prop_assert_eq!(low.cost(usage), Money(tokens * 1_000));
        }
    }
}
