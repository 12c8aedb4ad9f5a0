//! Budgets for requests to models. Each request is entered before it is sent and settled at its end, regardless of its
//! result.
//!
//! A request is admitted if the usage so far, the reservations of all running requests, and its own prompt and answer are
//! within every limit. The sums are rows in the database, so limits apply across runs and replicas. A request can exceed a
//! limit only by the part of its answer beyond the reservation: by nothing if `model.max_output_tokens` is set and the
//! provider counts tokens as we do.

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

/// Tokens reserved for an answer without a configured maximum length.
const ANSWER: u64 = 1_024;
/// Time after a request's timeout from which its reservation is considered abandoned.
const LATE: Duration = Duration::from_secs(60);
/// Maximum time that a finished request waits for its settlement; after that, the settlement continues in the background.
const SETTLING: Duration = Duration::from_secs(2);
/// Maximum attempts to settle a request: about two minutes including pauses.
const TRIES: u32 = 9;
/// Maximum pause between attempts.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Records the usage of all requests.
#[derive(Debug)]
pub struct Ledger {
    pool: PgPool,
    budgets: Budgets,
    tasks: Shutdown,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// A limit is reached; contains a message for people.
    #[error("{0}")]
    Over(String),
    /// The limits cannot be read.
    #[error("the database is away, so what may be spent is not known")]
    Away,
}

/// Expected usage of a request.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Maximum tokens of the answer, if limited.
    pub answer: Option<u32>,
    /// Maximum duration of the request.
    pub longest: Duration,
}

/// Usage of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Tokens.
    pub usage: Usage,
    /// Cost; `None` if a request had no price.
    pub cost: Option<Money>,
}

/// Account for the requests of one job.
#[derive(Debug)]
pub struct Account {
    ledger: Arc<Ledger>,
    purpose: Purpose,
    used: Mutex<Option<Used>>,
}

/// An admitted request.
#[derive(Debug)]
pub struct Reservation {
    account: Arc<Account>,
    entry: Entry,
}

impl Ledger {
    /// Creates a ledger that writes to the database in background tasks.
    #[must_use]
    pub fn new(pool: PgPool, budgets: Budgets, tasks: Shutdown) -> Arc<Self> {
        Arc::new(Self { pool, budgets, tasks })
    }

    /// Opens an account for a job.
    #[must_use]
    pub fn account(self: &Arc<Self>, purpose: Purpose) -> Arc<Account> {
        Arc::new(Account { ledger: Arc::clone(self), purpose, used: Mutex::default() })
    }

    /// Records an embeddings request without checking limits. Only an entry of the price table sets its price.
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
            // Release expired reservations of terminated processes, then retry.
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

    /// Settles a request, with retries.
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
    /// Whether limits require an accurate token count before a request is sent.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.ledger.budgets.any()
    }

    /// Admits one request. Each further attempt needs its own admission.
    ///
    /// # Errors
    /// A limit is reached, or the limits cannot be read.
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
            // Without limits, record the usage only at the end.
            Err(BudgetError::Away) if !budgets.any() => {}
            other => other?,
        }
        Ok(Reservation { account: Arc::clone(self), entry })
    }

    /// Returns the usage so far.
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
    /// Settles the request with its usage, and whether the usage was counted locally. Empty usage means that the request was
    /// refused or did not arrive.
    pub async fn close(self, usage: Usage, estimated: bool) {
        let settling = self.begin_to_close(usage, estimated);
        // The caller's next request should see this usage, but an unavailable database must not delay it.
        let _ = timeout(SETTLING, settling).await;
    }

    /// Settles the request in the background, without waiting.
    pub fn close_unattended(self, usage: Usage, estimated: bool) {
        // After the end of the runtime nothing can be recorded; the reservation is released when it expires.
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
