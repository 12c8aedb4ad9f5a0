//! Learning from incidents. Each incident is a document that is rewritten on every change, and a conversation that begins
//! with the investigation.

use super::Knowledge;
use super::chunk::{Chunk, chunks};
use super::read::{Document, Layout};
use crate::clock;
use crate::db::audit;
use crate::db::conversations::{self, NewMessage};
use crate::db::documents::{self, NewDocument, Realm};
use crate::db::{incidents, merges, queue, resolutions};
use crate::domain::{
    Actor, AuditEvent, Diagnosis, Failure, Incident, IncidentStatus, MessageRole, Resolution, Verdict,
};
use crate::evidence::redact::{self, Redactor};
use crate::evidence::untrusted::link_policy::LinkPolicy;
use crate::evidence::untrusted::markdown;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use std::fmt::Write as _;
use uuid::Uuid;

/// Source name of incident documents.
const INCIDENTS: &str = "incident";
/// Source name of conversation documents.
const CONVERSATIONS: &str = "conversation";
/// Maximum number of indexed chunks per message.
const MESSAGE_CHUNKS: usize = 64;

/// The outcome of an investigation.
#[derive(Debug)]
pub struct Investigated<'a> {
    /// The incident.
    pub incident: Uuid,
    /// The report that was investigated.
    pub failure: &'a Failure,
    /// The conclusion.
    pub diagnosis: &'a Diagnosis,
}

/// A person's or system's statement about an incident.
#[derive(Debug, Clone)]
pub struct NewResolution {
    /// Verdict on the diagnosis.
    pub verdict: Verdict,
    /// The cause.
    pub cause: Option<String>,
    /// The remedy.
    pub fix: Option<String>,
    /// Link to the change.
    pub link: Option<String>,
    /// The author and the request's trace.
    pub author: Actor,
    /// `person`, `tracker` or `chat`.
    pub origin: &'static str,
    /// Id of the tracker's delivery, which may arrive twice.
    pub delivery: Option<String>,
}

/// A conversation to which messages are appended.
#[derive(Debug, Clone, Copy)]
pub struct ConversationRef<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its title.
    pub title: &'a str,
    /// The incident it is about.
    pub incident: Option<Uuid>,
}

/// Result of reopening a resolved incident.
#[derive(Debug)]
pub enum Reopened {
    /// The incident is open again.
    Open(Box<Incident>),
    /// The incident does not exist.
    Missing,
    /// The incident is not resolved.
    IsOpen,
    /// The cause recurred and already has this open incident.
    CameBack(Uuid),
    /// The incident was merged into this one.
    Merged(Uuid),
}

impl NewResolution {
    /// Creates a resolution that has only a verdict.
    #[must_use]
    pub fn only(verdict: Verdict, author: Actor, origin: &'static str) -> Self {
        Self { verdict, cause: None, fix: None, link: None, author, origin, delivery: None }
    }
}

impl Knowledge {
    /// Stores a completed investigation, within the caller's transaction.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn remember(&self, db: &mut PgConnection, investigated: &Investigated<'_>) -> sqlx::Result<()> {
        let Investigated { incident, failure, diagnosis } = investigated;
        let now = clock::now();
        self.rewrite(db, *incident, now).await?;
        let asked = format!(
            "Pod {}/{} failed{}.",
            failure.namespace,
            failure.pod_name,
            failure.pipeline.as_ref().map_or_else(String::new, |pipeline| format!(" in pipeline {pipeline}"))
        );
        let found = conclusion(diagnosis);
        let messages = [
            NewMessage::of_program(MessageRole::User, "report", &asked),
            NewMessage::of_program(MessageRole::Assistant, &diagnosis.analyst, &found),
        ];
        let about = about_incident(db, *incident, &diagnosis.title, now).await?;
        self.append_messages(db, about, &messages, now).await?;
        queue::add_index(db).await
    }

    /// Stores a statement about an incident. Returns `None` when the incident does not exist or the delivery was already
    /// stored.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn resolve(&self, incident: Uuid, said: NewResolution) -> sqlx::Result<Option<Resolution>> {
        let now = clock::now();
        let mut transaction = self.pool.begin().await?;
        incidents::lock(&mut *transaction, incident).await?;
        let Some(known) = incidents::get(&mut *transaction, incident).await? else { return Ok(None) };
        let resolution = self.note(&mut transaction, &known, said, now).await?;
        transaction.commit().await?;
        Ok(resolution)
    }

    /// Stores a statement within a transaction that holds the incident's lock. Returns `None` when the delivery was already
    /// stored.
    async fn note(
        &self,
        transaction: &mut PgConnection,
        known: &Incident,
        said: NewResolution,
        now: DateTime<Utc>,
    ) -> sqlx::Result<Option<Resolution>> {
        let incident = known.id;
        let mut redactor = Redactor::new();
        // PostgreSQL text cannot contain NUL.
        let mut clean =
            |text: Option<String>| text.map(|text| redactor.redact(&text).replace('\0', "\u{fffd}"));
        let resolution = Resolution {
            id: Uuid::now_v7(),
            verdict: said.verdict,
            cause: clean(said.cause),
            fix: clean(said.fix),
            link: clean(said.link),
            author: clean(Some(said.author.name)).unwrap_or_default(),
            origin: said.origin.to_owned(),
            created_at: now,
        };
        let delivery = said.delivery.as_deref().map(redact::identifier);
        if !resolutions::add(&mut *transaction, incident, &resolution, delivery.as_deref()).await? {
            return Ok(None);
        }
        if resolution.verdict.resolves() {
            incidents::resolve(&mut *transaction, incident, now).await?;
        }
        self.rewrite(&mut *transaction, known.merged_into.unwrap_or(incident), now).await?;
        let text = resolution_line(&resolution);
        let message = NewMessage::of_program(MessageRole::User, &resolution.author, &text);
        let about = about_incident(&mut *transaction, incident, &known.title, now).await?;
        self.append_messages(&mut *transaction, about, &[message], now).await?;
        queue::add_index(&mut *transaction).await?;
        let actor = Actor::new(resolution.author.clone(), said.author.trace);
        let event = AuditEvent::new(&actor, resolution.verdict.into(), now).on("incident", incident);
        audit::add(&mut *transaction, &event.detail(format!("origin: {}", resolution.origin))).await?;
        Ok(Some(resolution))
    }

    /// Reopens a resolved incident.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn reopen(&self, incident: Uuid, author: Actor) -> sqlx::Result<Reopened> {
        let now = clock::now();
        let mut transaction = self.pool.begin().await?;
        incidents::lock(&mut *transaction, incident).await?;
        let Some(known) = incidents::get(&mut *transaction, incident).await? else {
            return Ok(Reopened::Missing);
        };
        if known.status == IncidentStatus::Open {
            return Ok(Reopened::IsOpen);
        }
        if let Some(into) = known.merged_into {
            return Ok(Reopened::Merged(into));
        }
        if let Some(other) = incidents::open(&mut *transaction, &known.fingerprint).await? {
            return Ok(Reopened::CameBack(other.id));
        }
        incidents::reopen(&mut *transaction, incident).await?;
        let said = NewResolution::only(Verdict::Reopened, author, "person");
        self.note(&mut transaction, &known, said, now).await?;
        let open = incidents::get(&mut *transaction, incident).await?;
        transaction.commit().await?;
        Ok(open.map_or(Reopened::Missing, |incident| Reopened::Open(Box::new(incident))))
    }

    /// Rewrites the documents of incidents that were merged or split, within the caller's transaction.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn retell(&self, db: &mut PgConnection, incidents: &[Uuid]) -> sqlx::Result<()> {
        let now = clock::now();
        for incident in incidents {
            self.rewrite(&mut *db, *incident, now).await?;
        }
        queue::add_index(db).await
    }

    /// Rewrites the incident's document from all stored data.
    async fn rewrite(&self, db: &mut PgConnection, id: Uuid, now: DateTime<Utc>) -> sqlx::Result<()> {
        let Some(incident) = incidents::get(&mut *db, id).await? else { return Ok(()) };
        let path = id.to_string();
        if incident.merged_into.is_some() {
            // The target of the merge has this incident's content.
            return documents::forget(db, INCIDENTS, &path).await;
        }
        let resolutions = resolutions::of_all(&mut *db, id).await?;
        let pipelines = incidents::pipelines(&mut *db, id).await?;
        let merged = merges::merged(&mut *db, id).await?;
        let body = body(&incident, &resolutions, &pipelines, &merged);
        let chunks = self.cut(&path, &incident.title, &body, Layout::Markdown);
        let new = NewDocument {
            realm: Realm::Incident,
            source: INCIDENTS,
            path: &path,
            title: &incident.title,
            kind: "incident",
            applies_to: &[],
            class: Some(incident.class.as_str()),
            content_hash: &hex::encode(Sha256::digest(body.as_bytes())),
            signatures: &serde_json::json!([]),
            body: &body,
            solved: incident.status == IncidentStatus::Resolved
                || resolutions.last().is_some_and(|said| said.verdict != Verdict::Reopened),
            incident_id: Some(id),
            conversation_id: None,
            chunks: &chunks,
        };
        documents::put(db, &new, now).await?;
        Ok(())
    }

    /// Appends messages to a conversation that the caller has locked. Indexes only the messages that everybody may read.
    ///
    /// # Errors
    /// The database is unavailable.
    pub async fn append_messages(
        &self,
        db: &mut PgConnection,
        conversation: ConversationRef<'_>,
        messages: &[NewMessage<'_>],
        now: DateTime<Utc>,
    ) -> sqlx::Result<()> {
        let ConversationRef { id, title, incident } = conversation;
        let first = conversations::length(&mut *db, id).await?;
        let path = id.to_string();
        let new = NewDocument {
            realm: Realm::Conversation,
            source: CONVERSATIONS,
            path: &path,
            title,
            kind: "conversation",
            applies_to: &[],
            class: None,
            content_hash: "",
            signatures: &serde_json::json!([]),
            body: "",
            solved: false,
            incident_id: incident,
            conversation_id: Some(id),
            chunks: &[],
        };
        let document = documents::open(db, &new, now).await?;
        for (position, message) in (first..).zip(messages) {
            conversations::add_message(&mut *db, id, position, message, now).await?;
            // Search results are visible to everybody.
            if message.visible_to.is_some() {
                continue;
            }
            let mut chunks = self.cut(&path, title, message.text, Layout::Text);
            chunks.truncate(MESSAGE_CHUNKS);
            documents::add_chunks(db, document, position * POSITIONS, &chunks).await?;
        }
        Ok(())
    }

    fn cut(&self, path: &str, title: &str, body: &str, layout: Layout) -> Vec<(String, String)> {
        let document = Document {
            path: path.to_owned(),
            title: title.to_owned(),
            kind: String::new(),
            applies_to: Vec::new(),
            class: None,
            signatures: Vec::new(),
            body: body.to_owned(),
            layout,
        };
        let cut = chunks(&document, self.config.knowledge.chunk_tokens);
        cut.into_iter().map(|Chunk { heading, text }| (heading, text)).collect()
    }
}

/// Returns the incident's conversation and creates it if necessary.
async fn about_incident<'a>(
    db: &mut PgConnection,
    incident: Uuid,
    title: &'a str,
    now: DateTime<Utc>,
) -> sqlx::Result<ConversationRef<'a>> {
    let id = conversations::of_incident(db, incident, title, now).await?;
    Ok(ConversationRef { id, title, incident: Some(incident) })
}

/// Number of chunk positions reserved per message.
pub(super) const POSITIONS: i32 = 1_000;

/// Renders an incident as Markdown: failure, resolutions and diagnosis.
fn body(
    incident: &Incident,
    resolutions: &[Resolution],
    pipelines: &[String],
    merged: &[(Uuid, String)],
) -> String {
    let mut text = format!("# {}\n\n", incident.title);
    let _ = write!(text, "Namespace {}, class {}.", incident.namespace, incident.class.as_str());
    if !pipelines.is_empty() {
        let _ = write!(text, " Pipelines: {}.", pipelines.join(", "));
    }
    if let Some(url) = &incident.issue_url {
        let _ = write!(text, " Issue: {url}");
    }
    for (_, title) in merged {
        let _ = write!(text, " Also seen as: {title}.");
    }
    text.push_str("\n\n");
    if !resolutions.is_empty() {
        text.push_str("## Resolution\n\n");
        for resolution in resolutions {
            let _ = writeln!(text, "- {}", resolution_line(resolution));
        }
        text.push('\n');
    }
    if let Some(diagnosis) = &incident.diagnosis {
        text.push_str(&conclusion(diagnosis));
    }
    text
}

/// Renders a diagnosis as Markdown, with the verified quotes.
fn conclusion(diagnosis: &Diagnosis) -> String {
    // Messages are Markdown, but titles and log lines are plain text.
    let plain = |text: &str| markdown::sanitize_line(text, &LinkPolicy::default());
    let mut text = format!("{}\n\n{}\n", plain(&diagnosis.title), diagnosis.cause);
    for claim in diagnosis.claims.iter().filter(|claim| claim.verified) {
        let _ = write!(text, "\n- {} ({}:{})", claim.statement, claim.evidence, claim.first_line);
        if let Some(quote) = &claim.quote {
            let _ = write!(text, ": {}", plain(quote));
        }
    }
    for (number, step) in (1..).zip(&diagnosis.next_steps) {
        let _ = write!(text, "\n{number}. {step}");
    }
    text
}

/// Renders a resolution as one line.
pub(crate) fn resolution_line(resolution: &Resolution) -> String {
    let date = resolution.created_at.format("%Y-%m-%d");
    let by = &resolution.author;
    let mut text = match resolution.verdict {
        Verdict::Confirmed => format!("{by} confirmed the cause on {date}."),
        Verdict::Corrected => format!("{by} corrected the cause on {date}."),
        Verdict::Note => format!("{by} noted on {date}:"),
        Verdict::Closed if resolution.origin == "tracker" => format!("{by} closed the issue on {date}."),
        Verdict::Closed => format!("{by} resolved it on {date}."),
        Verdict::Reopened => format!("{by} opened it again on {date}."),
    };
    if let Some(cause) = &resolution.cause {
        let _ = write!(text, " Cause: {}", cause.trim());
    }
    if let Some(fix) = &resolution.fix {
        let _ = write!(text, " Fix: {}", fix.trim());
    }
    if let Some(link) = &resolution.link {
        let _ = write!(text, " ({link})");
    }
    text
}
