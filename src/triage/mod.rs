//! A failure report's way to a filed issue: intake, collect, place, investigate, publish.

mod arguments;
mod brief;
mod collect;
mod intake;
mod investigate;
mod issue;
mod place;
mod publish;
mod replay;
mod run;
mod tracker;

pub use brief::Room;
pub use intake::{Intake, Submission, intake};
pub use replay::{Compared, Replay, Side, analyst, replay};
pub use run::{Ran, run};
