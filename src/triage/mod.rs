//! A failure report's way to a filed issue: intake, collect, place, investigate, publish.

mod arguments;
mod brief;
mod collect;
mod intake;
mod investigate;
mod place;
mod publish;
mod run;
mod tracker;

pub use brief::Room;
pub use intake::{Intake, Submission, intake};
pub use run::{Ran, run};
