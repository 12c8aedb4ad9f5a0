//! A person decides about calls that wait, and the conversation goes on.

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

/// How often decisions are looked for that nobody acted on.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What a person says of a call.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Whether it may be carried out.
    pub choice: ApprovalChoice,
    /// Who decides, by which name and in which request.
    pub author: Actor,
    /// Who decides, as far as it is known. Calls that go with the asker's own token can be carried out when these are the same.
    pub caller: Option<Caller>,
    /// What else they say.
    pub note: Option<String>,
    /// The link by which they decide, if by one.
    pub link: Option<LinkUsed>,
}

/// A signed link that was used.
#[derive(Debug, Clone)]
pub struct LinkUsed {
    /// Who made it.
    pub made_by: String,
    /// For whom.
    pub issued_to: String,
    /// Where it was opened.
    pub address: Option<IpAddr>,
}

impl LinkUsed {
    /// For the record.
    fn told(&self) -> String {
        let from =
            self.address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
        format!("by a signed link made by {}, issued to {}, used from {from}", self.made_by, self.issued_to)
    }
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum ApprovalChoice {
    /// It is carried out.
    Approve,
    /// It is not.
    Deny,
}

impl ApprovalChoice {
    /// Stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The choice of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// A call that was decided.
#[derive(Debug)]
pub struct Decided {
    /// The call.
    pub approval: Approval,
    /// The turn that began with it. None when others of the conversation wait still, or an answer is being made, whose end
    /// begins the next one.
    pub turn: Option<Uuid>,
}

/// Why a call cannot be decided.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// Nothing of that id.
    #[error("there is no such approval")]
    Missing,
    /// Somebody else has to, or alone may.
    #[error("{0}")]
    NotTheirs(String),
    /// It was decided, or it is too late.
    #[error("{}", over(.0))]
    Over(Box<Approval>),
    /// The database is away.
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

/// Writes down a decision, and lets the conversation go on if nothing else of it waits.
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
        // Whoever is known: of others, anybody with the link could fill the record.
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
    // A link is not the word of whoever is known to have used it: it lends nobody's token.
    let turn = go_on(app, approval.conversation_id, caller.filter(|_| link.is_none())).await;
    // It may have been taken up meanwhile.
    let approval = approvals::get(&app.pool, id, now).await?.unwrap_or(approval);
    Ok(Decided { approval, turn })
}

/// Why this person may not say this of a call, in words for them.
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
    // Whoever made a key can use it.
    let is_one = caller.name == asked_by
        || keys::was_made_by(pool, &caller.name, asked_by).await?
        || keys::was_made_by(pool, asked_by, &caller.name).await?;
    Ok(is_one.then(|| {
        format!("four eyes have to see a call here (`chat.four_eyes`): {asked_by} asked for this one, so somebody else has to approve it")
    }))
}

/// Ends the calls that nobody decided in time: change and record in one.
async fn expire(pool: &PgPool) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    approvals::expire(&mut transaction, None, clock::now()).await?;
    transaction.commit().await
}

/// Takes up, at the start and now and then, decisions that nobody acted on: their process ended, or what they waited for
/// expired. Until the shutdown token fires.
pub async fn take_up(app: Arc<App>) {
    let look = async {
        // A call to a server that has not connected yet would fail.
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
