//! One request under way: what has come of it, and what it is charged when it is over, however it ends.

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

/// A request that was let through, until it is over. Dropped before, it is charged its prompt and what was received.
pub(super) struct Meter<'a> {
    request: &'a Request,
    ticket: Option<Reservation>,
    assembly: Assembly,
    /// Refused, or never arrived: nothing is charged.
    free: bool,
}

impl<'a> Meter<'a> {
    /// Asks whether the request may be sent. `body` is what is sent.
    pub(super) async fn enter(
        settings: &ModelEndpoint,
        request: &'a Request,
        body: &Value,
    ) -> Result<Self, Attempt> {
        let ticket = match &request.account {
            None => None,
            Some(account) => {
                // Counting takes as long as a hundred estimates, and only limits need it.
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

    /// The request was refused or never arrived.
    pub(super) fn refused(&mut self) {
        self.free = true;
    }

    /// The free text so far.
    pub(super) fn text(&self) -> &str {
        self.assembly.text()
    }

    /// Takes a chunk.
    pub(super) fn take(&mut self, chunk: &Value) -> Result<(), Attempt> {
        let taken = self.assembly.take(chunk);
        if taken.is_err() && self.assembly.is_empty() {
            self.free = true;
        }
        taken
    }

    /// What the request used, and whether that was counted here.
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

    /// The completion, once the stream has ended.
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

/// Tokens of a text of this kind, roughly.
fn estimated(body: &Value) -> u64 {
    u64::try_from(body.to_string().len() * 10 / 35 + 1).unwrap_or(u64::MAX)
}
