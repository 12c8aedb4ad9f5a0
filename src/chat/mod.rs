//! Chat: questions about failures, answered by the same agent loop over the same evidence as an investigation.

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
mod passthrough_access;
mod plain;
mod profiles;
mod signed_link;
mod task;
mod title;

pub use begin::{Ask, AskError, ExternalMessage, begin};
pub use decide::{ApprovalChoice, Decided, Decision, DecisionError, LinkUsed, decide, take_up};
pub use driver::StartedTurn;
pub use plain::{SingleCompletion, SingleCompletionResult, complete_once};
pub use profiles::{Sampling, check_prompt, check_tools, default_agent, seed_builtin_agents};
pub use signed_link::{LinkClient, SignedLink};
