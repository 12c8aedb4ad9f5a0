//! The job that embeds chunks without vectors.

use super::Shared;
use crate::db::queue::INDEX_JOB;
use graphile_worker::{IntoTaskHandlerResult, TaskHandler, WorkerContext};
use serde::{Deserialize, Serialize};

/// Empty payload: the job processes all pending work.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {}

impl TaskHandler for Index {
    const IDENTIFIER: &'static str = INDEX_JOB;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let Shared(app) =
            context.get_ext::<Shared>().cloned().ok_or("the worker was built without the app")?;
        let mut unheard = |_, _| {};
        tokio::select! {
            done = app.knowledge.catch_up(&mut unheard) => match done {
                Ok(embedded) => {
                    tracing::debug!(embedded, "the documents have their vectors");
                    Ok(())
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "the documents cannot be embedded; they are found by their words meanwhile");
                    Err(error)
                }
            },
            () = app.shutdown.token().cancelled() => Err("handed back by a stop".to_owned()),
        }
    }
}
