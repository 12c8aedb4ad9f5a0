//! The job that takes a report to its end.

use super::Shared;
use crate::db::queue::TRIAGE_JOB;
use crate::triage::{self, Ran};
use graphile_worker::{IntoTaskHandlerResult, TaskHandler, WorkerContext};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Tries before a report that cannot be finished is failed; about a minute and a half of back-off.
const TRIES: i16 = 6;

/// Payload: the report's id alone.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Triage {
    report: Uuid,
}

impl TaskHandler for Triage {
    const IDENTIFIER: &'static str = TRIAGE_JOB;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let Shared(app) =
            context.get_ext::<Shared>().cloned().ok_or("the worker was built without the app")?;
        let attempts = *context.job().attempts();
        let retry = u32::try_from(attempts.max(1) - 1).unwrap_or(0);
        match triage::run(&app, self.report, retry, attempts >= TRIES).await {
            Ok(Ran::Over) => Ok(()),
            Ok(Ran::Again(reason)) => {
                tracing::warn!(report = %self.report, retry, reason, "the report is tried again");
                Err(reason)
            }
            Ok(Ran::HandedBack) => Err("handed back by a stop".to_owned()),
            Err(error) => {
                tracing::error!(report = %self.report, %error, "the outcome cannot be stored; the queue tries again");
                Err("the database is away".to_owned())
            }
        }
    }
}
