//! Guards what the tool calls of a run send to others: no secrets, and only limited parts of the evidence.

use crate::clock::{Deadline, DeadlinePassed};
use crate::domain::{Access, Evidence, ToolCallRecord, ToolSpec};
use crate::evidence::untrusted::leak::{self, MAX_APPROVED, MAX_OF_A_CALL, MAX_OF_A_RUN};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// Prefix of the answer to a call that was not sent.
pub(super) const NOT_SENT: &str = "failed: not sent: ";

/// Whether a call was not sent because of the content of its arguments.
#[must_use]
pub fn was_kept_back(call: &ToolCallRecord) -> bool {
    call.failed && call.result.starts_with(NOT_SENT)
}

/// Tracks the evidence sent in the arguments of a run's calls.
#[derive(Debug, Default)]
pub(super) struct EgressGuard {
    copied: Mutex<usize>,
}

/// Result of scanning the arguments of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct ArgumentScan {
    secret: bool,
    /// Number of letters and digits copied from the evidence.
    copied: usize,
}

/// Scans the arguments for secrets, and all evidence for copied parts. Can take long.
pub(super) fn scan_arguments(
    arguments: &Value,
    pieces: &[Arc<Evidence>],
    deadline: &Deadline,
) -> Result<ArgumentScan, DeadlinePassed> {
    if leak::hold_secret(arguments) {
        return Ok(ArgumentScan { secret: true, copied: 0 });
    }
    let texts = pieces.iter().map(|piece| piece.text.as_str());
    Ok(ArgumentScan { secret: false, copied: leak::copied_within(arguments, texts, deadline)? })
}

impl EgressGuard {
    /// Checks whether a call may be sent. The error is a message for the model and the log, without the detected content.
    pub(super) fn check(&self, tool: &ToolSpec, held: ArgumentScan) -> Result<(), String> {
        let ArgumentScan { secret, copied } = held;
        if secret {
            return Err("the arguments hold what looks like a secret, as it is or encoded; name it by reference, such as the \
                        Kubernetes Secret and key it stands in"
                .to_owned());
        }
        let asks = tool.access == Access::Write;
        let limit = if asks { MAX_APPROVED } else { MAX_OF_A_CALL };
        if copied > limit {
            return Err(format!(
                "{copied} letters of the arguments are copied from the evidence, and {limit} is the most that may leave; ask with the \
                 few words that matter"
            ));
        }
        let mut all = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        // A call that a person approves first does not count towards the limit of the run.
        if !asks && *all + copied > MAX_OF_A_RUN {
            return Err(format!(
                "this run has told other systems {all} letters of the evidence, and {MAX_OF_A_RUN} is the most; conclude from what there is"
            ));
        }
        if !asks {
            *all += copied;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EvidenceKind;
    use serde_json::json;

    fn spec(access: Access) -> ToolSpec {
        ToolSpec { name: "t".into(), description: String::new(), input_schema: Arc::default(), access }
    }

    #[test]
    fn small_pieces_end_too_and_a_person_may_let_more_through() {
        let line = |number: usize| {
            format!(
                "error {number} of step {number} in file number {number}: what stands here is said once. "
            )
        };
        let pieces = [Arc::new(Evidence {
            id: uuid::Uuid::nil(),
            label: "E1".into(),
            kind: EvidenceKind::ToolResult,
            title: "log".into(),
            text: (0..200).map(line).collect(),
            red: Vec::new(),
        })];
        let check = |told: &EgressGuard, tool: &ToolSpec, arguments: &Value| {
            told.check(tool, scan_arguments(arguments, &pieces, &Deadline::never()).unwrap())
        };
        let told = EgressGuard::default();
        let part = |from: usize| json!({"q": (from..from + 3).map(line).collect::<String>()});
        let (read, write) = (spec(Access::Read), spec(Access::Write));
        let sent = (0..60).map(|n| check(&told, &read, &part(n * 3))).take_while(Result::is_ok).count();
        assert!((10..30).contains(&sent), "{sent}");
        assert!(check(&told, &read, &json!({"q": "checkout"})).is_ok());
        let much = json!({"body": (0..20).map(line).collect::<String>()});
        assert!(check(&EgressGuard::default(), &read, &much).unwrap_err().contains("copied"));
        assert!(check(&told, &write, &much).is_ok());
    }
}
