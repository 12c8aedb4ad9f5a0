//! What requests to models may use, and what they used: each is entered before it is sent and settled when it is over,
//! however it ends.
//!
//! A request passes when everything used so far, all that requests under way hold, and its own prompt and answer are within
//! every limit. The sums are rows of the database, so this holds across runs and replicas. What a request may exceed a limit by
//! is what its answer exceeds the held part: nothing where `model.max_output_tokens` is set and the provider counts as we do.

mod limit;

pub use limit::{Limit, Scope, Unit, limits};

use crate::clock;
use crate::config::Budgets;
use crate::db::usage::{self, Entry, Hold, Purpose, UsageKind};
use crate::domain::{Money, Usage};
use crate::metrics::metrics;
use crate::shutdown::Shutdown;
use sqlx::PgPool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;
use uuid::Uuid;

/// Tokens kept free for an answer whose length the configuration does not limit.
const ANSWER: u64 = 1_024;
/// Time beyond a request's own after which nobody will settle it any more.
const LATE: Duration = Duration::from_secs(60);
/// How long a request that is over waits until that is written down; then it is written in the background.
const SETTLING: Duration = Duration::from_secs(2);
/// Tries to write it down, about three minutes with the pauses between.
const TRIES: u32 = 9;
/// Longest of these pauses.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Keeps account of all requests.
#[derive(Debug)]
pub struct Ledger {
    pool: PgPool,
    budgets: Budgets,
    tasks: Shutdown,
}

/// Why a request is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// A limit is reached; in words for people.
    #[error("{0}")]
    Over(String),
    /// The limits cannot be looked at.
    #[error("the database is away, so what may be spent is not known")]
    Away,
}

/// A request that is about to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The model's name.
    pub model: &'a str,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Most tokens of the answer, where that is limited.
    pub answer: Option<u32>,
    /// Longest time until it is over.
    pub longest: Duration,
}

/// What was used under an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Tokens.
    pub usage: Usage,
    /// Money; `None` when a request had no price.
    pub cost: Option<Money>,
}

/// The requests of one piece of work.
#[derive(Debug)]
pub struct Account {
    ledger: Arc<Ledger>,
    purpose: Purpose,
    used: Mutex<Option<Used>>,
}

/// A request that was let through.
#[derive(Debug)]
pub struct Reservation {
    account: Arc<Account>,
    entry: Entry,
}

impl Ledger {
    /// Writes to the database on these tasks.
    #[must_use]
    pub fn new(pool: PgPool, budgets: Budgets, tasks: Shutdown) -> Arc<Self> {
        Arc::new(Self { pool, budgets, tasks })
    }

    /// An account for a piece of work.
    #[must_use]
    pub fn account(self: &Arc<Self>, purpose: Purpose) -> Arc<Account> {
        Arc::new(Account { ledger: Arc::clone(self), purpose, used: Mutex::default() })
    }

    /// Writes down a request that no limit is asked for: one for embeddings, whose price is that of its row in the table.
    pub async fn note(&self, model: &str, usage: Usage, estimated: bool) {
        let purpose =
            Purpose { kind: UsageKind::Embedding, caller: "regreen".to_owned(), ..Purpose::default() };
        let cost = self.budgets.prices.listed(model).map(|price| price.cost(usage));
        let entry = Entry { usage, estimated, cost, ..entry(purpose, model) };
        if let Err(error) = usage::settle(&self.pool, &entry).await {
            tracing::warn!(%error, model, "what embeddings used cannot be written down");
        }
    }

    /// Enters a request, unless a limit is reached.
    async fn enter(&self, entry: &Entry) -> Result<(), BudgetError> {
        match self.try_enter(entry).await {
            // What a process that ended held is given back first.
            Err(BudgetError::Over(_))
                if usage::give_back(&self.pool, entry.at).await.is_ok_and(|n| n > 0) =>
            {
                self.try_enter(entry).await
            }
            other => other,
        }
    }

    async fn try_enter(&self, entry: &Entry) -> Result<(), BudgetError> {
        let away = |error: sqlx::Error| {
            tracing::warn!(%error, "a request to a model cannot be entered");
            BudgetError::Away
        };
        let mut transaction = self.pool.begin().await.map_err(away)?;
        let sums = usage::enter(&mut transaction, entry).await.map_err(away)?;
        if let Some(limit) = limit::reached(&self.budgets, &sums) {
            transaction.rollback().await.map_err(away)?;
            return Err(BudgetError::Over(limit.in_words(entry, &self.budgets.currency)));
        }
        transaction.commit().await.map_err(away)
    }

    /// Settles a request; as often as it takes, within reason.
    async fn settle(&self, entry: &Entry) {
        let mut pause = Duration::from_secs(1);
        for left in (0..TRIES).rev() {
            let error = match usage::settle(&self.pool, entry).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let stopping = self.tasks.token().is_cancelled();
            if left == 0 || stopping {
                let (input, output) = (entry.usage.input_tokens, entry.usage.output_tokens);
                tracing::error!(%error, model = entry.model, input, output, "what a request used cannot be written down");
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.tasks.token().cancelled() => {}
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

fn entry(purpose: Purpose, model: &str) -> Entry {
    Entry {
        id: Uuid::now_v7(),
        at: clock::now(),
        purpose,
        model: model.to_owned(),
        usage: Usage::default(),
        estimated: true,
        cost: None,
        held: Hold::default(),
        held_until: None,
    }
}

impl Account {
    /// Whether tokens have to be counted as exactly as we can before a request is sent.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.ledger.budgets.any()
    }

    /// Lets a request through, once: another attempt is another request.
    ///
    /// # Errors
    /// A limit is reached, or the limits cannot be looked at.
    pub async fn enter(self: &Arc<Self>, expected: Expected<'_>) -> Result<Reservation, BudgetError> {
        let budgets = &self.ledger.budgets;
        let price = budgets.prices.of(expected.model);
        if price.is_none() && budgets.costs() {
            let model = expected.model;
            return Err(BudgetError::Over(format!(
                "costs are limited, but the model `{model}` has no price; add a `[[price]]` for it"
            )));
        }
        let usage = Usage { input_tokens: expected.prompt, ..Usage::default() };
        let answer = expected.answer.map_or(ANSWER, u64::from);
        let answered = Usage { output_tokens: answer, ..Usage::default() };
        let entry = Entry {
            usage,
            cost: price.map(|price| price.cost(usage)),
            held: Hold {
                tokens: i64::try_from(answer).unwrap_or(i64::MAX),
                cost: price.map_or(Money(0), |price| price.cost(answered)),
            },
            held_until: Some(clock::now() + expected.longest + LATE),
            ..entry(self.purpose.clone(), expected.model)
        };
        match self.ledger.enter(&entry).await {
            // Nothing is limited: it is written down when it is over.
            Err(BudgetError::Away) if !budgets.any() => {}
            other => other?,
        }
        Ok(Reservation { account: Arc::clone(self), entry })
    }

    /// What was used so far.
    #[must_use]
    pub fn used(&self) -> Used {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_default()
    }

    fn add(&self, usage: Usage, cost: Option<Money>) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let before = used.unwrap_or(Used { usage: Usage::default(), cost: Some(Money(0)) });
        let mut sum = before.usage;
        sum += usage;
        let cost = before.cost.zip(cost).map(|(before, cost)| Money(before.0.saturating_add(cost.0)));
        *used = Some(Used { usage: sum, cost });
    }
}

impl Reservation {
    /// Settles the request: what it used, and whether that was counted here. Nothing: it was refused or never arrived.
    pub async fn close(self, usage: Usage, estimated: bool) {
        let settling = self.begin_to_close(usage, estimated);
        // The caller's next request should see it; a database that is away does not hold it up.
        let _ = timeout(SETTLING, settling).await;
    }

    /// The same for a request that nobody waits for any more.
    pub fn close_unattended(self, usage: Usage, estimated: bool) {
        // A runtime that has ended writes nothing down; what is held is given back then.
        if Handle::try_current().is_ok() {
            drop(self.begin_to_close(usage, estimated));
        }
    }

    fn begin_to_close(self, usage: Usage, estimated: bool) -> tokio::task::JoinHandle<()> {
        let Self { account, entry } = self;
        let price = account.ledger.budgets.prices.of(&entry.model);
        let cost = price.map(|price| price.cost(usage));
        if usage != Usage::default() {
            metrics().charged(&entry.model, entry.purpose.kind.as_str(), usage, cost);
            account.add(usage, cost);
        }
        let entry = Entry { usage, estimated, cost, held: Hold::default(), held_until: None, ..entry };
        let ledger = Arc::clone(&account.ledger);
        account.ledger.tasks.spawn(async move { ledger.settle(&entry).await })
    }
}
