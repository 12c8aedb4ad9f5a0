//! The job that sends pending notifications to a target.

use super::Shared;
use crate::db::queue::NOTIFY_JOB;
use crate::notify;
use graphile_worker::{IntoTaskHandlerResult, TaskHandler, WorkerContext};
use serde::{Deserialize, Serialize};

/// Payload: the name of the target.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Notify {
    target: String,
}

impl TaskHandler for Notify {
    const IDENTIFIER: &'static str = NOTIFY_JOB;

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let Shared(app) =
            context.get_ext::<Shared>().cloned().ok_or("the worker was built without the app")?;
        notify::deliver(&app, &self.target).await
    }
}
