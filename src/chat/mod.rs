//! Chat: questions about failures, answered by the same loop over the same evidence as an investigation.

mod answer;
mod begin;
mod brief;
mod cite;
mod command;
mod history;
mod librarian;
mod profiles;

pub use begin::{Ask, Begun, Refusal, begin};
pub use profiles::{check_prompt, check_tools, ship};
