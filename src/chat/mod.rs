//! Chat: questions about failures, answered by the same loop over the same evidence as an investigation.

mod answer;
mod approve;
mod begin;
mod brief;
mod cite;
mod command;
mod decide;
mod driver;
mod execute;
mod fallback;
mod history;
mod link;
mod own_access;
mod plain;
mod profiles;
mod task;
mod title;

pub use begin::{Ask, Refusal, SaidElsewhere, begin};
pub use decide::{Choice, Decided, Decision, LinkUsed, NotDecided, decide, take_up};
pub use driver::Begun;
pub use link::{Link, Presser};
pub use plain::{Plain, Written, complete_plainly};
pub use profiles::{Sampling, check_prompt, check_tools, ship, usual};
