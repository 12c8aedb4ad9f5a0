//! Records people's decisions on pending calls and continues the conversation.

use super::approve::time;
use super::driver::go_on;
use crate::app::App;
use crate::clock;
use crate::config::Chat;
use crate::db::approvals::{self, NewDecision};
use crate::db::{audit, keys};
use crate::domain::{
    Actor, Approval, ApprovalState, AuditAction, AuditEvent, AuditOutcome, Caller, Principal, Role,
};
use crate::evidence::redact;
use sqlx::PgPool;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use strum::{EnumString, IntoStaticStr};
use uuid::Uuid;

/// Interval for picking up decisions that no process has acted on.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A person's decision on a call.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Approve or deny.
    pub choice: ApprovalChoice,
    /// Name of the decider and trace of the request.
    pub author: Actor,
    /// The decider, if identified. A call that needs the requester's own token is possible only if the requester is the
    /// decider.
    pub caller: Option<Caller>,
    /// An optional note.
    pub note: Option<String>,
    /// The signed link that was used, if any.
    pub link: Option<LinkUsed>,
}

/// Use of a signed link.
#[derive(Debug, Clone)]
pub struct LinkUsed {
    /// The person who created the link.
    pub made_by: String,
    /// The person to whom the link was issued.
    pub issued_to: String,
    /// Client address of the request.
    pub address: Option<IpAddr>,
}

impl LinkUsed {
    /// Describes the link for the audit record.
    fn told(&self) -> String {
        let from =
            self.address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
        format!("by a signed link made by {}, issued to {}, used from {from}", self.made_by, self.issued_to)
    }
}

/// The choice of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum ApprovalChoice {
    /// Execute the call.
    Approve,
    /// Do not execute the call.
    Deny,
}

impl ApprovalChoice {
    /// Returns the stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a stable name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// Result of a decision.
#[derive(Debug)]
pub struct Decided {
    /// The decided call.
    pub approval: Approval,
    /// Id of the turn that was started. `None` when other calls of the conversation are pending, or when an answer is
    /// running, whose end starts the next turn.
    pub turn: Option<Uuid>,
}

/// Error of a decision.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// No approval has this id.
    #[error("there is no such approval")]
    Missing,
    /// This person is not allowed to make the decision.
    #[error("{0}")]
    NotTheirs(String),
    /// The call was already decided or has expired.
    #[error("{}", over(.0))]
    Over(Box<Approval>),
    /// The database is unavailable.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

fn over(approval: &Approval) -> String {
    let Approval { state, decided_at, decided_by, expires_at, .. } = approval;
    let (Some(at), Some(by)) = (decided_at, decided_by) else {
        let until = time(*expires_at);
        return format!(
            "nobody decided until {until}, so this call has expired; ask in the conversation again"
        );
    };
    let what = if *state == ApprovalState::Denied { "denied" } else { "approved" };
    format!("{by} {what} this call already, on {}; it is {}", time(*at), state.as_str())
}

/// Stores a decision and continues the conversation unless other calls of it are pending.
///
/// # Errors
/// See [`DecisionError`].
pub async fn decide(app: &Arc<App>, id: Uuid, decision: Decision) -> Result<Decided, DecisionError> {
    let Decision { choice, author, caller, note, link } = decision;
    let state =
        if choice == ApprovalChoice::Approve { ApprovalState::Approved } else { ApprovalState::Denied };
    let action = if choice == ApprovalChoice::Approve {
        AuditAction::ApprovalApprove
    } else {
        AuditAction::ApprovalDeny
    };
    let note = note.map(|note| redact::plain(note.trim()));
    let author = Actor::new(redact::plain(&author.name), author.trace);
    let now = clock::now();
    let event = || AuditEvent::new(&author, action, now).on("approval", id);
    let known = approvals::get(&app.pool, id, now).await?.ok_or(DecisionError::Missing)?;
    if let Some(why) = not_theirs(&app.pool, &app.config.chat, &known, choice, caller.as_ref()).await? {
        // Audits refusals of identified callers only. Otherwise anybody with the link could fill the audit record.
        if caller.is_some() {
            audit::add(&app.pool, &event().outcome(AuditOutcome::Refused).detail(&*why)).await?;
        }
        return Err(DecisionError::NotTheirs(why));
    }
    let mut transaction = app.pool.begin().await?;
    let decision = NewDecision { state, by: &author.name, note: note.as_deref(), at: now };
    let decided = approvals::decide(&mut *transaction, id, &decision).await?;
    let approval = approvals::get(&mut *transaction, id, now).await?.ok_or(DecisionError::Missing)?;
    if !decided {
        return Err(DecisionError::Over(Box::new(approval)));
    }
    let mut detail = format!("{} {}, {}", approval.server, approval.server_tool, approval.hash);
    if let Some(link) = &link {
        let _ = write!(detail, "; {}", link.told());
    }
    audit::add(&mut *transaction, &event().detail(detail)).await?;
    transaction.commit().await?;
    tracing::info!(approval = %id, server = approval.server, tool = approval.server_tool, state = state.as_str(), author = author.name, "a call was decided");
    // A link does not prove who used it, so no token is passed on.
    let turn = go_on(app, approval.conversation_id, caller.filter(|_| link.is_none())).await;
    // Reload the approval: the call may have started.
    let approval = approvals::get(&app.pool, id, now).await?.unwrap_or(approval);
    Ok(Decided { approval, turn })
}

/// Returns the reason, for the user, why this person must not make this choice.
async fn not_theirs(
    pool: &PgPool,
    config: &Chat,
    approval: &Approval,
    choice: ApprovalChoice,
    caller: Option<&Caller>,
) -> sqlx::Result<Option<String>> {
    let reader = caller.map_or_else(Principal::nobody, Principal::from);
    if let Some(owner) = approval.visible_to.as_ref().filter(|owner| !reader.may_read(Some(owner))) {
        return Ok(Some(format!(
            "what this call sends is visible to {owner} alone, who alone can decide it"
        )));
    }
    if choice == ApprovalChoice::Deny || !config.four_eyes {
        return Ok(None);
    }
    let Some(caller) = caller.filter(|caller| caller.role >= Role::Operator) else {
        return Ok(Some(
            "four eyes have to see a call here (`chat.four_eyes`): log in as an operator who did not ask for it".to_owned(),
        ));
    };
    let asked_by = approval.asked_by.as_str();
    // The creator of an API key counts as the same person as the key.
    let is_one = caller.name == asked_by
        || keys::was_made_by(pool, &caller.name, asked_by).await?
        || keys::was_made_by(pool, asked_by, &caller.name).await?;
    Ok(is_one.then(|| {
        format!("four eyes have to see a call here (`chat.four_eyes`): {asked_by} asked for this one, so somebody else has to approve it")
    }))
}

/// Expires the calls that nobody decided in time, with their audit events in the same transaction.
async fn expire(pool: &PgPool) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    approvals::expire(&mut transaction, None, clock::now()).await?;
    transaction.commit().await
}

/// Expires undecided calls and continues conversations whose decisions were not acted on, for example after a crash. Runs at
/// startup and periodically until the shutdown token is cancelled.
pub async fn take_up(app: Arc<App>) {
    let look = async {
        // A call to a server that is not yet connected would fail.
        app.mcp.wait_for_first_attempts().await;
        loop {
            if let Err(error) = expire(&app.pool).await {
                tracing::warn!(%error, "approvals that nobody decided cannot be ended now");
            }
            match approvals::ready(&app.pool, clock::now()).await {
                Ok(ready) => {
                    for conversation in ready {
                        go_on(&app, conversation, None).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "decided approvals cannot be looked for"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = look => {}
        () = app.shutdown.token().cancelled() => {}
    }
}
