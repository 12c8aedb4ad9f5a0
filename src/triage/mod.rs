//! Processing of a failure report up to the filed issue: intake, collect, place, investigate, publish.

mod arguments;
mod brief;
mod calls;
mod collect;
mod grouping;
mod intake;
mod investigate;
mod issue;
mod issue_sanitize;
mod lease;
mod listing;
mod merge;
mod prepare;
mod publish;
mod recognise;
mod reinvestigate;
mod replay;
mod required_tools;
mod rules;
mod run;
mod step_error;
mod tracker;
mod tracker_tools;

pub use brief::ExcerptBudget;
pub use calls::Fetched;
pub use intake::{Intake, IntakeError, Submission, intake};
pub use issue::issue_text;
pub use merge::{MergeError, Merged, merge, split};
pub use reinvestigate::{RequeueOutcome, investigate as investigate_again, retry};
pub use replay::{Analyst, Compared, Replay, Side, analyst, replay};
pub use required_tools::{RequiredTool, events, issues, log, needs, pods};
pub use run::{JobOutcome, run};
