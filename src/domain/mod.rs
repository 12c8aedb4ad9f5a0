//! The plain types everything else speaks in: no I/O, no foreign wire formats, no clock.

mod approval;
mod caller;
mod conversation;
mod definition;
mod diagnosis;
mod evidence;
mod incident;
mod message;
mod money;
mod notice;
pub mod policy;
mod profile;
mod reader;
pub mod recognition;
mod report;
mod resolution;
mod run;
mod tool;

pub use approval::{Approval, ApprovalState, call_hash};
pub use caller::{ApiKey, Caller, Role, Way};
pub use conversation::{Citation, Conversation, ConversationMessage};
pub use definition::{Change, Definition};
pub use diagnosis::{Claim, Confidence, Diagnosis, FailureClass};
pub use evidence::{Evidence, EvidenceKind, EvidenceSummary, citation, cited};
pub use incident::{Fingerprint, Incident, IncidentStatus};
pub use message::{Message, ToolCall, Usage};
pub use money::{Money, Price};
pub use notice::{Novelty, Wanted};
pub use profile::{Profile, Prompt};
pub use reader::{Reader, withheld};
pub use report::{Failure, Report, ReportStatus, Step, StepName};
pub use resolution::{Resolution, Verdict};
pub use run::{Budget, Run, StopReason, ToolCallRecord};
pub use tool::{Access, ToolCalls, ToolSpec, each_text, sorted};
