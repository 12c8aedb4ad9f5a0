//! Execution of approved calls: each call once, exactly as shown. Results are stored as evidence of the conversation.

use super::task::Task;
use super::{fallback, passthrough_access};
use crate::agent::{Single, Tool, ToolAnswer, Watcher, Workspace};
use crate::app::App;
use crate::audit::Recorder;
use crate::clock;
use crate::db::approvals::{self, CallFailure};
use crate::db::audit;
use crate::db::conversations;
use crate::db::evidence::{self, NewEvidence, Owner};
use crate::domain::policy::{AccessDecision, CallContext, Permit};
use crate::domain::{
    Access, Approval, ApprovalState, AuditAction, AuditOutcome, Caller, Evidence, Message, RunLimits,
    ToolCall, ToolCallRecord, ToolSpec, call_hash,
};
use crate::events::AnswerStream;
use crate::mcp::{CallError, Registry, ToolCaller};
use async_trait::async_trait;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Maximum length of an error text in characters.
const MAX_ERROR: usize = 2_000;
/// An approved call and its outcome.
pub(super) struct ExecutedCall {
    approval: Approval,
    record: ToolCallRecord,
    /// The complete result, or the failure.
    outcome: Result<Arc<Evidence>, CallFailure>,
}

/// Error text of a call that was not started.
const STOPPED: &str = "the answer was stopped before it was carried out";

/// Error text of a call whose tool has changed.
const CHANGED: &str = "the definition of the tool, or its server, changed after this call was asked for; it was not carried out. Ask for it again, so that the call is judged by what the tool says now";

/// An approved call as a tool of the agent loop.
struct Approved {
    registry: Registry,
    /// The user who requested the call. The current policy is evaluated again for them.
    caller: ToolCaller,
    approval: Approval,
    spec: ToolSpec,
    /// Stop token of the answer.
    stop: CancellationToken,
    /// State and error text that apply unless a result arrives.
    otherwise: Mutex<CallFailure>,
}

impl Approved {
    fn new(registry: Registry, caller: ToolCaller, approval: Approval, stop: CancellationToken) -> Self {
        let spec = ToolSpec {
            name: approval.tool.clone(),
            description: String::new(),
            // The arguments were validated before approval was requested.
            input_schema: Arc::new(json!({"type": "object"})),
            access: Access::Write,
        };
        let otherwise = CallFailure { state: ApprovalState::Failed, problem: STOPPED.to_owned() };
        Self { registry, caller, approval, spec, stop, otherwise: Mutex::new(otherwise) }
    }

    /// Returns the permit for the call as shown, if the current policy still allows it.
    fn permit(&self, arguments: Value) -> Result<Permit, CallFailure> {
        let Approval { server, server_tool, hash, .. } = &self.approval;
        let lists_else = |definition: String| !self.approval.is_of(&definition);
        if self.registry.definition_of(server, server_tool).is_some_and(lists_else) {
            return Err(CallFailure { state: ApprovalState::Changed, problem: CHANGED.to_owned() });
        }
        let failed = |problem| CallFailure { state: ApprovalState::Failed, problem };
        self.allowed(arguments, hash).map_err(failed)
    }

    fn allowed(&self, arguments: Value, hash: &str) -> Result<Permit, String> {
        let Approval { server, server_tool, .. } = &self.approval;
        if call_hash(server, server_tool, &arguments) != hash {
            return Err("the stored call is not the one that was shown; it was not carried out".to_owned());
        }
        let ruling = self.registry.authorize(&self.caller, server, server_tool, arguments);
        let permit = match ruling.map_err(|error| error.to_string())? {
            AccessDecision::Allowed(permit) => Some(permit).filter(|permit| permit.is_shown(&self.approval)),
            AccessDecision::NeedsApproval(waiting) => waiting.approved(&self.approval),
            AccessDecision::Denied(denied) => return Err(format!("{denied}; it was not carried out")),
        };
        permit.ok_or_else(|| {
            "the tool policy now sets other arguments than were shown; it was not carried out".to_owned()
        })
    }

    fn otherwise(&self, problem: String) -> ToolAnswer {
        self.ended(CallFailure { state: ApprovalState::Failed, problem })
    }

    fn ended(&self, failure: CallFailure) -> ToolAnswer {
        let text = failure.problem.clone();
        *self.otherwise.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        ToolAnswer::Failed(text)
    }
}

#[async_trait]
impl Tool for Approved {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, cancel: CancellationToken) -> ToolAnswer {
        if self.stop.is_cancelled() {
            return ToolAnswer::Failed(STOPPED.to_owned());
        }
        let permit = match self.permit(arguments) {
            Ok(permit) => permit,
            Err(failure) => return self.ended(failure),
        };
        self.otherwise("it was stopped in the middle: it is not known whether it was carried out".to_owned());
        match self.registry.call(permit, &self.caller.recorder, cancel).await {
            Ok(result) if !result.is_error => ToolAnswer::Ok(result.text),
            Ok(result) => self.otherwise(result.text),
            Err(error @ (CallError::TimedOut { .. } | CallError::Cancelled)) => {
                self.otherwise(format!("{error}; it is not known whether it was carried out"))
            }
            // The definition changed between the check and the call.
            Err(CallError::Changed { .. }) => {
                self.ended(CallFailure { state: ApprovalState::Changed, problem: CHANGED.to_owned() })
            }
            Err(error) => self.otherwise(error.to_string()),
        }
    }
}

/// Executes the approved calls of a task in sequence and stores each outcome.
///
/// # Errors
/// The database is unavailable.
pub(super) async fn execute_approved(
    app: &App,
    task: &Task,
    answer: &AnswerStream,
    workspace: &Workspace,
    watcher: &Watcher,
) -> sqlx::Result<Vec<ExecutedCall>> {
    let mut all = Vec::new();
    // The server's own timeout applies.
    let budget = RunLimits { tool_call: Duration::MAX, ..app.config.agent };
    let approved = task.decided.iter().filter(|approval| approval.state == ApprovalState::Running);
    for (number, approval) in (1..).zip(approved) {
        // Deleting a conversation also deletes its decisions.
        if !approvals::is_running(&app.pool, approval.id, task.turn).await? {
            continue;
        }
        let caller = delegated_caller(task, approval);
        if caller.token.is_some() && app.mcp.is_passthrough(&approval.server) {
            passthrough_access::make_private(&app.pool, answer, &task.recorder).await?;
        }
        let asker = Arc::new(CallContext::chat(caller, &task.profile.name));
        let caller = ToolCaller { context: asker, recorder: task.recorder.clone() };
        let tool = Arc::new(Approved::new(app.mcp.clone(), caller, approval.clone(), answer.stop.clone()));
        let call = ToolCall {
            id: format!("0.{number}"),
            name: approval.tool.clone(),
            arguments: approval.arguments.to_string(),
        };
        let known = workspace.added().len();
        let single = Single { tool: Arc::clone(&tool) as Arc<dyn Tool>, call, budget, workspace, watcher };
        // A stop prevents further calls. A running call is completed: a partial change is worse than one change too many.
        let record = single.make(&app.drain).await;
        let kept = workspace.added().into_iter().nth(known).filter(|_| !record.failed);
        let outcome = match kept {
            Some(piece) => Ok(piece),
            None => {
                let failure = tool.otherwise.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let said: String = workspace.redact(&failure.problem).await.chars().take(MAX_ERROR).collect();
                Err(CallFailure { problem: said.replace('\0', "\u{fffd}"), ..failure })
            }
        };
        settle(&app.pool, approval, &outcome, answer.visible_to(), &task.recorder).await?;
        let failed = outcome.as_ref().err();
        tracing::info!(approval = %approval.id, server = approval.server, tool = approval.server_tool, failed = failed.is_some(), "an approved call was carried out");
        all.push(ExecutedCall { approval: approval.clone(), record, outcome });
    }
    Ok(all)
}

/// Returns the caller of an approved call: the requester, with their own token only if they approved the call themselves. An
/// approval never grants another person's token.
fn delegated_caller(task: &Task, approval: &Approval) -> Caller {
    let is_own_word = approval.decided_by.as_ref() == Some(&task.caller.name);
    Caller { token: task.token.clone().filter(|_| is_own_word), ..task.caller.clone() }
}

/// Stores the outcome immediately, not with the end of the answer, so that it survives a crash.
async fn settle(
    pool: &PgPool,
    approval: &Approval,
    outcome: &Result<Arc<Evidence>, CallFailure>,
    visible_to: Option<&str>,
    recorder: &Recorder,
) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    // The audit record keeps the execution even if the conversation was deleted.
    let is_kept = conversations::lock(&mut *transaction, approval.conversation_id).await?;
    let label = match outcome {
        Ok(piece) => {
            let owner = Owner::Conversation(approval.conversation_id);
            if is_kept {
                let piece = NewEvidence::of(piece).visible_to(visible_to);
                evidence::insert(&mut *transaction, owner, &[piece], clock::now()).await?;
            }
            Ok(Some(piece.label.as_str()))
        }
        Err(failure) => Err(failure),
    };
    approvals::settle(&mut *transaction, approval.id, label).await?;
    let mut called = format!("{} {}, {}", approval.server, approval.server_tool, approval.hash);
    let outcome = match label {
        Ok(_) => AuditOutcome::Done,
        Err(CallFailure { state: ApprovalState::Changed, problem }) => {
            called = format!("{called}; {problem}");
            AuditOutcome::Refused
        }
        Err(_) => AuditOutcome::Failed,
    };
    let event = recorder.event(AuditAction::ApprovalCarryOut).on("approval", approval.id);
    recorder.record(event.outcome(outcome).detail(called));
    // Also commits the recorded event of the call itself.
    audit::commit(transaction, recorder).await
}

/// Returns the calls for the run record.
pub(super) fn records(carried: &[ExecutedCall]) -> Vec<ToolCallRecord> {
    carried.iter().map(|carried| carried.record.clone()).collect()
}

/// Returns the calls and their results as messages for the model.
pub(super) fn messages(carried: &[ExecutedCall]) -> Vec<Message> {
    if carried.is_empty() {
        return Vec::new();
    }
    let call = |(number, carried): (usize, &ExecutedCall)| ToolCall {
        id: format!("approved{number}"),
        name: carried.approval.tool.clone(),
        arguments: carried.approval.arguments.to_string(),
    };
    let calls: Vec<ToolCall> = (1..).zip(carried).map(call).collect();
    let answers = calls.iter().zip(carried).map(|(call, carried)| Message::Tool {
        call_id: call.id.clone(),
        name: call.name.clone(),
        text: carried.record.result.clone(),
    });
    let answers: Vec<Message> = answers.collect();
    let mut all = vec![Message::Assistant { text: String::new(), tool_calls: calls }];
    all.extend(answers);
    all
}

/// Returns an answer about the decisions as Markdown. `why` explains why no model continues.
pub(super) fn decision_message(decided: &[Approval], carried: &[ExecutedCall], why: &str) -> String {
    let mut text = format!("{why} This is what came of the decisions.\n");
    for done in carried {
        let _ = write!(text, "\n- `{}` of `{}`: ", done.approval.tool, done.approval.server);
        match &done.outcome {
            Ok(piece) => {
                let (cited, lines) = fallback::beginning(piece);
                let _ = write!(text, "carried out; its result begins with {cited}\n{lines}");
            }
            Err(CallFailure { state, problem }) => {
                let _ = write!(text, "{}: {}", state.as_str(), problem.replace('\n', " "));
            }
        }
        text.push('\n');
    }
    let others = decided.iter().filter(|approval| approval.state != ApprovalState::Running);
    for approval in others {
        let how = match approval.state {
            ApprovalState::Denied => "not carried out, it was denied",
            ApprovalState::Expired => "not carried out, nobody decided in time",
            _ => "it is not known whether it was carried out",
        };
        let _ = write!(text, "\n- `{}` of `{}`: {how}\n", approval.tool, approval.server);
    }
    text
}
