//! One request in progress: the answer received so far, and the usage charged at its end.

use super::Request;
use super::count::request_tokens;
use super::failure::Attempt;
use super::stream::Assembly;
use super::{Completion, ModelError};
use crate::budget::{BudgetError, Expected, Reservation};
use crate::config::ModelEndpoint;
use crate::domain::Usage;
use crate::evidence::tokens;
use serde_json::Value;

/// An admitted request in progress. If dropped before its end, charges the prompt and the received part of the answer.
pub(super) struct Meter<'a> {
    request: &'a Request,
    ticket: Option<Reservation>,
    assembly: Assembly,
    /// Whether nothing is charged, because the request was refused or did not arrive.
    free: bool,
}

impl<'a> Meter<'a> {
    /// Admits a request if the budgets permit it. `body` is the request body.
    pub(super) async fn enter(
        settings: &ModelEndpoint,
        request: &'a Request,
        body: &Value,
    ) -> Result<Self, Attempt> {
        let ticket = match &request.account {
            None => None,
            Some(account) => {
                // An exact count takes as long as a hundred estimates, and only limits need it.
                let prompt = if account.is_limited() { request_tokens(request) } else { estimated(body) };
                let expected = Expected {
                    model: &settings.name,
                    prompt,
                    answer: settings.max_output_tokens,
                    longest: settings.request_timeout,
                };
                Some(account.enter(expected).await.map_err(|not_let| match not_let {
                    BudgetError::Over(message) => Attempt::Final(ModelError::OverBudget { message }),
                    BudgetError::Away => Attempt::retry(&not_let.to_string()),
                })?)
            }
        };
        Ok(Self { request, ticket, assembly: Assembly::default(), free: false })
    }

    /// Marks the request as refused or not delivered.
    pub(super) fn refused(&mut self) {
        self.free = true;
    }

    /// Text received so far.
    pub(super) fn text(&self) -> &str {
        self.assembly.text()
    }

    /// Processes a chunk.
    pub(super) fn take(&mut self, chunk: &Value) -> Result<(), Attempt> {
        let taken = self.assembly.take(chunk);
        if taken.is_err() && self.assembly.is_empty() {
            self.free = true;
        }
        taken
    }

    /// Returns the usage, and whether it was counted locally.
    fn used(&self) -> (Usage, bool) {
        if self.free {
            return (Usage::default(), false);
        }
        let counted = || Usage {
            input_tokens: request_tokens(self.request),
            output_tokens: u64::try_from(tokens::count(&self.assembly.written())).unwrap_or(u64::MAX),
            ..Usage::default()
        };
        self.assembly.usage().map_or_else(|| (counted(), true), |usage| (usage, false))
    }

    /// Charges the usage and returns the completion at the end of the stream.
    pub(super) async fn finish(mut self) -> Result<Completion, Attempt> {
        let (usage, estimated) = self.used();
        if let Some(ticket) = self.ticket.take() {
            ticket.close(usage, estimated).await;
        }
        std::mem::take(&mut self.assembly).finish(usage)
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let (usage, estimated) = self.used();
            ticket.close_unattended(usage, estimated);
        }
    }
}

/// Estimates the tokens of a request body.
fn estimated(body: &Value) -> u64 {
    u64::try_from(body.to_string().len() * 10 / 35 + 1).unwrap_or(u64::MAX)
}
