//! The job that processes a report to its end.

use super::Shared;
use crate::db::queue::TRIAGE_JOB;
use crate::triage::{self, JobOutcome};
use graphile_worker::{IntoTaskHandlerResult, TaskHandler, WorkerContext};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tracing::Instrument as _;
use uuid::Uuid;

/// Attempts before a report fails, with about a minute and a half of back-off in total.
const TRIES: i16 = 6;

/// Payload: the id of the report.
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
        let (report, last) = (self.report, attempts >= TRIES);
        let shared = Arc::clone(&app);
        // Runs in a separate task: a queue that briefly loses the database drops its running jobs, and the report would start
        // over. The lease shows that a worker has the report, and any other worker with the job retries later.
        let task = async move { triage::run(&shared, report, retry, last).await };
        let ran = app.shutdown.spawn(task.in_current_span()).await;
        match ran.map_err(|_| "the take-up of the report panicked".to_owned())? {
            Ok(JobOutcome::Over) => Ok(()),
            Ok(JobOutcome::Again(reason)) => {
                tracing::warn!(report = %self.report, retry, reason, "the report is tried again");
                Err(reason)
            }
            Ok(JobOutcome::HandedBack) => Err("handed back by a stop".to_owned()),
            Err(error) => {
                tracing::error!(report = %self.report, %error, "the outcome cannot be stored; the queue tries again");
                Err("the database is away".to_owned())
            }
        }
    }
}
