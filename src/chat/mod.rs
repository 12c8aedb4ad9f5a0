//! Chat: questions about failures, answered by the same loop over the same evidence as an investigation.

mod answer;
mod approve;
mod begin;
mod brief;
mod carry;
mod cite;
mod command;
mod decide;
mod history;
mod librarian;
mod link;
mod profiles;

pub use begin::{Ask, Begun, Refusal, begin};
pub use decide::{Choice, Decided, Decision, NotDecided, decide, take_up};
pub use link::Link;
pub use profiles::{check_prompt, check_tools, ship, usual};
