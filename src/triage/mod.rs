//! A failure report's way to a filed issue: intake, collect, place, investigate, publish.

mod arguments;
mod brief;
mod calls;
mod collect;
mod dialect;
mod intake;
mod investigate;
mod issue;
mod issue_sanitize;
mod lease;
mod listing;
mod merge;
mod needs;
mod place;
mod prepare;
mod publish;
mod recognise;
mod reinvestigate;
mod replay;
mod rules;
mod run;
mod step_error;
mod tracker;

pub use brief::ExcerptBudget;
pub use calls::Fetched;
pub use intake::{Intake, IntakeError, Submission, intake};
pub use issue::issue_text;
pub use merge::{MergeError, Merged, merge, split};
pub use needs::{Need, events, issues, log, needs, pods};
pub use reinvestigate::{RequeueOutcome, investigate as investigate_again, retry};
pub use replay::{Analyst, Compared, Replay, Side, analyst, replay};
pub use run::{JobOutcome, run};
