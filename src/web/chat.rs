//! Chat: a conversation as a page; the answer in progress as fragments of it.

use super::approvals;
use super::error::PageError;
use super::extract::{PageForm, PageQuery};
use super::forms::{self, Kind, field};
use super::page::PageContext;
use super::value::value;
use crate::api::{self, Problem, known_id, missing};
use crate::app::App;
use crate::chat;
use crate::db::conversations::{self, Filter, Whose};
use crate::db::turns::Turn;
use crate::db::{agents, incidents, reports, runs};
use crate::domain::{
    AuthMethod, Caller, Citation, Claim, Conversation, ConversationMessage, MessageRole, Principal, Profile,
    Run,
};
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use minijinja::{Value, context};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Maximum number of conversations in the sidebar: the user's own and those of others.
const OWN: i64 = 15;
const OTHERS: i64 = 10;

/// Incident and agent of a new conversation.
#[derive(Debug, Default, Deserialize)]
pub(super) struct About {
    incident: Option<Uuid>,
    agent: Option<Uuid>,
}

/// A message with the runs that produced it, for display.
#[derive(Serialize)]
pub(super) struct MessageView {
    #[serde(flatten)]
    message: ConversationMessage,
    html: String,
    runs: Vec<Run>,
}

impl MessageView {
    pub(super) fn new(app: &App, message: ConversationMessage, runs: Vec<Run>) -> Self {
        // Preserves the line breaks of a person's message.
        let text = if message.role == MessageRole::User {
            message.text.replace('\n', "  \n")
        } else {
            message.text.clone()
        };
        let html = super::markdown::html(&text, &message.citations, &app.config.privacy.links);
        Self { message, html, runs }
    }
}

pub(super) async fn begin(
    page: PageContext,
    caller: Caller,
    PageQuery(about): PageQuery<About>,
) -> Result<Response, PageError> {
    if let Some(incident) = about.incident {
        let filter = Filter { incident: Some(incident), ..Filter::default() };
        if let Some(known) = conversations::list(&page.app.pool, &filter, 1).await?.first() {
            return Ok(Redirect::to(&format!("/chat/{}", known.id)).into_response());
        }
    }
    Ok(blank(&page, &caller, &about, None).await?.into_response())
}

/// Renders the page of a new conversation.
async fn blank(
    page: &PageContext,
    caller: &Caller,
    about: &About,
    refused: Option<Value>,
) -> Result<Html<String>, PageError> {
    let incident = match about.incident {
        Some(id) => incidents::get(&page.app.pool, id).await?,
        None => None,
    };
    let values = context! {
        incident => incident.map(value),
        agent => value(about.agent.unwrap_or(chat::default_agent(about.incident.is_some()))),
        refused,
        ..beside(&page.app, caller, None).await?
    };
    page.show("/chat", "chat.html", values).await
}

/// Returns the sidebar of a conversation: own and other conversations, agents and status of MCP servers. Without
/// authentication, all conversations are in one list.
async fn beside(app: &App, caller: &Caller, open: Option<Uuid>) -> Result<Value, PageError> {
    let list = async |whose, most| {
        let filter = Filter { whose, ..Filter::default() };
        conversations::list(&app.pool, &filter, most).await
    };
    let known = caller.way != AuthMethod::Open;
    let (own, others) = if known {
        let (own, others) = (Whose::Of(&caller.name), Whose::NotOf(&caller.name));
        futures::try_join!(list(own, OWN), list(others, OTHERS))?
    } else {
        (list(Whose::Anybodys, OWN + OTHERS).await?, Vec::new())
    };
    let profiles: Vec<Profile> = agents::list(&app.pool).await?;
    Ok(context! {
        known,
        own => value(&own),
        others => value(&others),
        agents => value(&profiles),
        servers => value(app.mcp.status()),
        model => app.model.as_ref().map(|model| model.name().to_owned()),
        open => value(open),
    })
}

pub(super) async fn show(
    page: PageContext,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    conversation(&page, &caller, known_id(&id)?, None).await
}

async fn conversation(
    page: &PageContext,
    caller: &Caller,
    id: Uuid,
    refused: Option<Value>,
) -> Result<Html<String>, PageError> {
    let app = &page.app;
    let conversation = conversations::get(&app.pool, id).await?.ok_or_else(|| missing("conversation"))?;
    let messages = messages(app, &conversation, 0, &Principal::from(caller)).await?;
    let incident = match conversation.incident_id {
        Some(incident) => incidents::get(&app.pool, incident).await?,
        None => None,
    };
    let values = context! {
        conversation => value(&conversation),
        messages => value(&messages),
        incident => incident.map(value),
        approvals => approvals::waiting_in(app, id, caller).await?,
        may_change => api::conversations::may_change(caller, &conversation),
        agent => value(conversation.agent_id.unwrap_or(chat::default_agent(conversation.incident_id.is_some()))),
        refused,
        ..beside(app, caller, Some(id)).await?
    };
    page.show("/chat", "chat.html", values).await
}

/// Returns the messages of a conversation from a position on, each with the runs that produced it.
async fn messages(
    app: &App,
    of: &Conversation,
    from: i32,
    reader: &Principal,
) -> Result<Vec<MessageView>, PageError> {
    let messages = conversations::messages(&app.pool, of.id, from, reader).await?;
    let turns: Vec<Uuid> = messages.iter().filter_map(|message| message.run).collect();
    let mut made: HashMap<Uuid, Vec<Run>> = HashMap::new();
    for (turn, run) in runs::of_turns(&app.pool, &turns, reader).await? {
        made.entry(turn).or_default().push(run);
    }
    let claims = match of.incident_id {
        Some(incident) => claims(app, incident).await?,
        None => Vec::new(),
    };
    let shown = messages.into_iter().map(|mut message| {
        if message.citations.is_empty() && message.run.is_none() {
            message.citations.clone_from(&claims);
        }
        let own = message.run.and_then(|turn| made.remove(&turn)).unwrap_or_default();
        MessageView::new(app, message, own)
    });
    Ok(shown.collect())
}

/// Returns the citations of the investigation, as marked in the first message of the incident's conversation.
async fn claims(app: &App, incident: Uuid) -> sqlx::Result<Vec<Citation>> {
    let leader = reports::leader(&app.pool, incident).await?;
    let diagnosis = incidents::get(&app.pool, incident).await?.and_then(|incident| incident.diagnosis);
    let (Some(report), Some(diagnosis)) = (leader, diagnosis) else { return Ok(Vec::new()) };
    let citation = |claim: Claim| Citation {
        mark: format!("{}:{}", claim.evidence, claim.first_line),
        title: claim.statement,
        first_line: claim.first_line,
        last_line: claim.last_line,
        quote: claim.quote.unwrap_or_default(),
        verified: claim.verified,
        url: Some(format!("/api/reports/{report}/evidence/{}", claim.evidence)),
        evidence: claim.evidence,
    };
    Ok(diagnosis.claims.into_iter().map(citation).collect())
}

pub(super) async fn ask(
    page: PageContext,
    caller: Caller,
    PageForm(sent): PageForm,
) -> Result<Response, PageError> {
    let names = ["message", "conversation_id", "agent_id", "incident_id"];
    let body = forms::body(&sent, &names.map(|name| (name, Kind::Text)));
    let refused = match api::chat::begin(&page.app, caller.clone(), Ok(body)).await {
        Ok(begun) => {
            return Ok(Redirect::to(&format!("/chat/{}#end", begun.conversation)).into_response());
        }
        Err(problem) => problem,
    };
    let status = refused.code();
    let shown = context! { message => field(&sent, "message"), problem => value(&refused) };
    let html = match field(&sent, "conversation_id").parse() {
        Ok(id) => conversation(&page, &caller, id, Some(shown)).await?,
        Err(_) => {
            let about = About {
                incident: field(&sent, "incident_id").parse().ok(),
                agent: field(&sent, "agent_id").parse().ok(),
            };
            blank(&page, &caller, &about, Some(shown)).await?
        }
    };
    Ok((status, html).into_response())
}

/// Stops the current answer in a conversation.
pub(super) async fn stop(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Redirect, PageError> {
    let id = known_id(&id)?;
    let known = conversations::get(&app.pool, id).await?.ok_or_else(|| missing("conversation"))?;
    if let Some(run) = known.running {
        match api::chat::stop(State(Arc::clone(&app)), Path(run.to_string())).await {
            // The answer may have ended in the meantime.
            Ok(_) | Err(Problem { status: 404 | 409, .. }) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(Redirect::to(&format!("/chat/{id}#end")))
}

/// Returns what a conversation shows after a turn: its message and later ones, waiting calls and the next answer in
/// progress. `why` is the reason of a failed turn; its message is shown if one was stored.
pub(super) async fn ended(
    page: &PageContext,
    caller: &Caller,
    turn: &Turn,
    why: Option<&str>,
) -> Result<String, PageError> {
    let (app, conversation) = (&page.app, turn.conversation_id);
    let known = conversations::get(&app.pool, conversation).await?;
    let messages = match (&known, conversations::position_of(&app.pool, turn.id).await?) {
        (Some(known), Some(position)) => messages(app, known, position, &Principal::from(caller)).await?,
        _ => Vec::new(),
    };
    let running = known.and_then(|known| known.running);
    let values = context! {
        failed => why.filter(|_| messages.is_empty()),
        messages => value(messages),
        running => value(running.filter(|running| *running != turn.id)),
        approvals => approvals::waiting_in(app, conversation, caller).await?,
        conversation_id => value(conversation),
    };
    page.render("answered.html", values)
}
