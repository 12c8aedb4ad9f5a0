//! Tools that require approval. A call is stored for a person to decide instead of being executed, and the model is told to
//! end its answer. Approved calls are executed in `execute`.

use super::task::Task;
use crate::agent::{Tool, ToolAnswer};
use crate::audit::Recorder;
use crate::clock;
use crate::config::Config;
use crate::db::approvals::{self, NewApproval};
use crate::db::audit;
use crate::db::conversations;
use crate::domain::policy::AccessDecision;
use crate::domain::{Approval, ApprovalState, AuditAction, Event, ToolSpec, call_hash, each_text};
use crate::events::AnswerStream;
use crate::evidence::redact::Redactor;
use crate::mcp::{PermittedTool, Registry, ToolCaller};
use async_trait::async_trait;
use chrono::{DateTime, SubsecRound as _, Utc};
use serde_json::Value;
use sqlx::PgPool;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Maximum number of calls that one answer may request, since a person must read each.
const MAX_ASKED: i64 = 8;
/// Maximum size of the arguments in bytes, since a person must judge them.
const MAX_ARGUMENTS: usize = 20_000;
/// Suffix of the tool description.
const WAITS: &str = "(A call is not carried out at once, a person has to approve it first.)";

/// Context of the answer that requests approvals.
pub(super) struct ApprovalRequester {
    pool: PgPool,
    answer: Arc<AnswerStream>,
    recorder: Recorder,
    conversation: Uuid,
    expires: Duration,
    public_url: Option<String>,
    four_eyes: bool,
}

impl ApprovalRequester {
    pub(super) fn new(pool: &PgPool, config: &Config, task: &Task, answer: &Arc<AnswerStream>) -> Arc<Self> {
        Arc::new(Self {
            pool: pool.clone(),
            answer: Arc::clone(answer),
            recorder: task.recorder.clone(),
            conversation: task.conversation,
            expires: config.chat.approval_expires,
            public_url: config.server.public_url.clone(),
            four_eyes: config.chat.four_eyes,
        })
    }
}

/// Returns the tools of all servers that require approval by policy.
pub(super) fn guarded(
    mcp: &Registry,
    caller: &ToolCaller,
    asking: &Arc<ApprovalRequester>,
) -> Vec<Arc<dyn Tool>> {
    let guarded = |tool: PermittedTool| {
        let mut spec = tool.spec().clone();
        spec.description = format!("{} {WAITS}", spec.description.trim()).trim().to_owned();
        Arc::new(ApprovalTool { asking: Arc::clone(asking), tool, spec }) as Arc<dyn Tool>
    };
    // The requester's token is not stored until somebody else has decided.
    let can_be_made = |tool: &PermittedTool| !(asking.four_eyes && tool.passthrough().is_some());
    let waiting = mcp.offered(caller).into_iter().filter(PermittedTool::waits);
    waiting.filter(can_be_made).map(guarded).collect()
}

/// Returns the URL of the decision page, if the public URL is configured.
fn link(public_url: Option<&str>, approval: Uuid) -> Option<String> {
    public_url.map(|base| format!("{base}/approvals/{approval}"))
}

/// Returns a list of the pending calls that the text does not name.
pub(super) fn waiting(public_url: Option<&str>, asked: &[Approval], text: &str) -> Option<String> {
    let unnamed = |approval: &&Approval| {
        approval.state == ApprovalState::Pending && !text.contains(&approval.id.to_string())
    };
    let mut said = String::new();
    for approval in asked.iter().filter(unnamed) {
        let place = link(public_url, approval.id);
        let place = place.unwrap_or_else(|| format!("/approvals/{}", approval.id));
        let until = time(approval.expires_at);
        let _ = write!(said, "\n- `{}` of `{}`, until {until}: {place}", approval.tool, approval.server);
    }
    (!said.is_empty()).then(|| format!("\n\nNot carried out yet; waits for a person's approval:{said}"))
}

/// Formats a time for users.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// A tool that requests approval instead of executing the call.
struct ApprovalTool {
    asking: Arc<ApprovalRequester>,
    tool: PermittedTool,
    spec: ToolSpec,
}

enum ApprovalRequest {
    Waits { id: Uuid, until: DateTime<Utc> },
    Again(Uuid, ApprovalState),
    Refused(&'static str),
}

#[async_trait]
impl Tool for ApprovalTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn tells_others(&self) -> bool {
        true
    }

    fn passthrough(&self) -> Option<&str> {
        self.tool.passthrough()
    }

    async fn call(&self, arguments: Value, _: CancellationToken) -> ToolAnswer {
        let (server, server_tool) = (self.tool.tool().server(), self.tool.tool().own_name());
        // The arguments as modified by the policy are stored, shown, hashed and sent.
        let waiting = match self.tool.authorize(arguments) {
            Ok(AccessDecision::NeedsApproval(waiting)) => waiting,
            Err(error) => return ToolAnswer::Failed(format!("nothing was done: {error}")),
            Ok(AccessDecision::Denied(denied)) => {
                tracing::info!(
                    server,
                    tool = server_tool,
                    rule = denied.rule,
                    "the tool policy refused a call"
                );
                return ToolAnswer::Failed(format!("nobody was asked and nothing was done: {denied}"));
            }
            Ok(AccessDecision::Allowed(_)) => {
                return ToolAnswer::Failed("nothing was done: ask again in another answer".to_owned());
            }
        };
        let arguments = waiting.arguments();
        if let Some(problem) = problem(arguments) {
            return ToolAnswer::Failed(format!("nobody was asked and nothing was done: {problem}"));
        }
        match self.ask(arguments, waiting.definition()).await {
            Ok(ApprovalRequest::Waits { id, until }) => {
                self.asking.answer.emit(Event::ApprovalRequired {
                    approval: id,
                    tool: self.spec.name.clone(),
                    server: server.to_owned(),
                    arguments: arguments.clone(),
                    expires_at: until,
                });
                tracing::info!(approval = %id, server, tool = server_tool, "a call waits for approval");
                let place = link(self.asking.public_url.as_deref(), id);
                let place = place.map_or_else(String::new, |link| format!("; it is decided at {link}"));
                ToolAnswer::Note(format!(
                    "Not carried out. This call waits for a person's approval: {id}, until {}{place}. Do not call it again. End your answer now: say what waits for approval and why it is needed, and name this approval.",
                    time(until)
                ))
            }
            Ok(ApprovalRequest::Again(id, state)) => {
                let how = if state == ApprovalState::Pending {
                    "waits for a person's approval already"
                } else {
                    "is approved already and is carried out in a moment"
                };
                ToolAnswer::Note(format!(
                    "Not carried out now: this very call {how} ({id}). Do not call it again; end your answer by saying so."
                ))
            }
            Ok(ApprovalRequest::Refused(problem)) => {
                ToolAnswer::Failed(format!("nothing was done: {problem}"))
            }
            Err(error) => {
                tracing::warn!(%error, tool = self.spec.name, "a call cannot be stored for approval");
                ToolAnswer::Failed("nothing was done: the call could not be stored for approval".to_owned())
            }
        }
    }
}

impl ApprovalTool {
    async fn ask(&self, arguments: &Value, definition: &str) -> sqlx::Result<ApprovalRequest> {
        let ApprovalRequester { pool, answer, conversation, expires, .. } = &*self.asking;
        if self.asking.four_eyes && answer.visible_to().is_some() {
            return Ok(ApprovalRequest::Refused(
                "this answer is visible to whoever asked alone, so nobody else can approve its calls; they have to be asked for in \
                 another conversation",
            ));
        }
        let (now, id) = (clock::now(), Uuid::now_v7());
        // Truncated to the precision of the database, so that everybody sees the same time.
        let until = (now + *expires).trunc_subsecs(6);
        let (server, server_tool) = (self.tool.tool().server(), self.tool.tool().own_name());
        let hash = call_hash(server, server_tool, arguments);
        let mut transaction = pool.begin().await?;
        // Calls of one turn are concurrent. The lock makes the count and the duplicate check reliable.
        if !conversations::lock(&mut *transaction, *conversation).await? {
            return Ok(ApprovalRequest::Refused("the conversation was deleted meanwhile"));
        }
        approvals::end_late(&mut transaction, *conversation, now).await?;
        if let Some((known, state)) = approvals::same(&mut *transaction, *conversation, &hash).await? {
            transaction.commit().await?;
            return Ok(ApprovalRequest::Again(known, state));
        }
        if approvals::asked_in(&mut *transaction, answer.turn).await? >= MAX_ASKED {
            return Ok(ApprovalRequest::Refused(
                "eight calls of this answer wait for approval, and more are not taken; end your answer",
            ));
        }
        let new = NewApproval {
            id,
            conversation: *conversation,
            turn: answer.turn,
            server,
            tool: &self.spec.name,
            server_tool,
            arguments,
            hash: &hash,
            definition,
            asked_at: now,
            expires_at: until,
        };
        let kept = approvals::add(&mut *transaction, &new).await?;
        // The database may store a number differently. Such a call is refused.
        if call_hash(server, server_tool, &kept) != hash {
            return Ok(ApprovalRequest::Refused(
                "a number of the arguments cannot be kept exactly; send it rounded",
            ));
        }
        let detail = format!("{server} {server_tool}, {hash}");
        let event = self.asking.recorder.event(AuditAction::ApprovalAsk).on("approval", id);
        audit::add(&mut *transaction, &event.detail(detail)).await?;
        transaction.commit().await?;
        Ok(ApprovalRequest::Waits { id, until })
    }
}

/// Returns the reason, for the model, why approval cannot be requested for these arguments.
fn problem(arguments: &Value) -> Option<&'static str> {
    let text = serde_json::to_string_pretty(arguments).unwrap_or_default();
    if text.len() > MAX_ARGUMENTS {
        return Some("the arguments are longer than 20,000 bytes, more than a person can judge");
    }
    // Checks the whole JSON and each string: a manifest within a string has lines of its own.
    let mut redactor = Redactor::new();
    let _ = redactor.redact(&text);
    let mut has_nul = false;
    each_text(arguments, &mut |text| {
        has_nul |= text.contains('\0');
        let _ = redactor.redact(text);
    });
    if has_nul {
        return Some("the arguments hold a NUL character");
    }
    (redactor.count() > 0).then_some(
        "the arguments hold what looks like a secret. Secrets are not stored or shown; name it by reference, such as the Kubernetes Secret and key it stands in, or leave it to the person",
    )
}

#[cfg(test)]
mod unit {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_with_a_secret_cannot_be_asked_for() {
        let secret = ["hunter2", "hunter2"].concat();
        let manifest = format!("apiVersion: v1\nkind: Secret\nstringData:\n  key: {secret}\n");
        for arguments in [
            json!({"password": secret}),
            json!({"env": [{"deep": format!("export DB_PASSWORD={secret}")}]}),
            json!({"manifest": manifest}),
        ] {
            assert!(problem(&arguments).is_some_and(|problem| problem.contains("secret")), "{arguments}");
        }
        assert!(problem(&json!({"a": "x\0"})).is_some());
        assert!(problem(&json!({"a": "x".repeat(MAX_ARGUMENTS)})).is_some());
        for arguments in [
            json!({"name": "checkout", "namespace": "ci", "replicas": 2}),
            json!({"password": "env:DB_PASSWORD", "mail": "alice@example.com"}),
        ] {
            assert_eq!(problem(&arguments), None, "{arguments}");
        }
    }
}
