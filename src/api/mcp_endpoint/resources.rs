//! Incidents and runbooks as MCP resources: readable by viewers, limited to the namespaces of the caller.

use super::Endpoint;
use crate::api::cut;
use crate::db::{documents, incidents, resolutions};
use crate::domain::{Caller, Incident, Resolution, Role};
use crate::evidence::untrusted::markdown::{self, RenderTarget};
use rmcp::ErrorData;
use rmcp::model::{
    ListResourceTemplatesResult, ListResourcesResult, Resource, ResourceContents, ResourceTemplate,
};
use serde_json::json;
use std::fmt::Write as _;
use uuid::Uuid;

/// Number of resources per page.
const PAGE: i64 = 100;
const INCIDENTS: &str = "regreen://incidents/";
const RUNBOOKS: &str = "regreen://runbooks/";
const MARKDOWN: &str = "text/markdown";
/// Tool name of reading a resource in the rules of the tool policy.
const READING: &str = "read_resource";

/// Start of a page.
enum Cursor {
    Incidents(Option<Uuid>),
    Runbooks(i64),
}

impl Cursor {
    fn parse(text: Option<&str>) -> Option<Self> {
        let Some(text) = text else { return Some(Self::Incidents(None)) };
        let (kind, at) = text.split_once(':')?;
        match kind {
            "incidents" => at.parse().ok().map(|id| Self::Incidents(Some(id))),
            "runbooks" => at.parse().ok().filter(|at| *at >= 0).map(Self::Runbooks),
            _ => None,
        }
    }
}

/// Returns the URI templates of the resources.
pub(super) fn templates() -> ListResourceTemplatesResult {
    let template = |uri: &str, name: &str, title: &str, description: &str| {
        ResourceTemplate::new(format!("{uri}{{id}}"), name)
            .with_title(title)
            .with_description(description)
            .with_mime_type(MARKDOWN)
    };
    ListResourceTemplatesResult::with_all_items(vec![
        template(
            INCIDENTS,
            "incident",
            "Incident",
            "A cause of failures: what it is, the lines that show it, what helped",
        ),
        template(RUNBOOKS, "runbook", "Runbook", "A runbook, note or alert"),
    ])
}

fn away(error: &sqlx::Error) -> ErrorData {
    tracing::error!(%error, "the database failed");
    ErrorData::internal_error("the database is away; try again in a moment", None)
}

fn missing(uri: &str) -> ErrorData {
    ErrorData::resource_not_found(
        "there is no such resource, or the caller may not read it",
        Some(json!({ "uri": uri })),
    )
}

impl Endpoint {
    /// Checks that a caller may read resources, by role and tool policy.
    fn may_read(&self, caller: &Caller, uri: &str) -> Result<(), String> {
        if caller.role < Role::Viewer {
            return Err(format!("a viewer may read this; {} is a reporter", caller.name));
        }
        let reading =
            super::tool(READING, "Reads a resource", true, &json!({"uri": {"type": "string"}}), &["uri"]);
        self.permitted(caller, &reading, json!({ "uri": uri })).map(drop)
    }

    /// Returns a page of resources: incidents, latest first, then runbooks.
    pub(super) async fn resources(
        &self,
        caller: &Caller,
        cursor: Option<&str>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let Some(cursor) = Cursor::parse(cursor) else {
            return Err(ErrorData::invalid_params("the cursor is none of this server", None));
        };
        // Clients list resources on their own; a caller without access gets an empty list.
        if self.may_read(caller, INCIDENTS).is_err() {
            return Ok(ListResourcesResult::with_all_items(Vec::new()));
        }
        let (mut all, runbooks) = match cursor {
            Cursor::Runbooks(offset) => (Vec::new(), offset),
            Cursor::Incidents(before) => {
                let within = caller.namespaces.as_deref();
                let filter = incidents::Filter { within, before, ..incidents::Filter::default() };
                let mut found =
                    incidents::list(&self.app.pool, &filter, PAGE + 1).await.map_err(|error| away(&error))?;
                let next = cut(&mut found, PAGE, |incident| incident.id);
                let all: Vec<Resource> = found.iter().map(listed_incident).collect();
                if let Some(next) = next {
                    let mut page = ListResourcesResult::with_all_items(all);
                    page.next_cursor = Some(format!("incidents:{next}"));
                    return Ok(page);
                }
                (all, 0)
            }
        };
        let mut next = None;
        // Runbooks cover all namespaces.
        if caller.namespaces.is_none() {
            let found = documents::list(&self.app.pool, None, runbooks, PAGE + 1).await;
            let mut found = found.map_err(|error| away(&error))?;
            next = cut(&mut found, PAGE, |_| ()).map(|()| format!("runbooks:{}", runbooks + PAGE));
            all.extend(found.iter().map(listed_runbook));
        }
        let mut page = ListResourcesResult::with_all_items(all);
        page.next_cursor = next;
        Ok(page)
    }

    /// Returns one resource as Markdown.
    pub(super) async fn resource(&self, caller: &Caller, uri: &str) -> Result<ResourceContents, ErrorData> {
        self.may_read(caller, uri).map_err(|denied| ErrorData::invalid_params(denied, None))?;
        let id = |begin: &str| uri.strip_prefix(begin).and_then(|id| id.parse::<Uuid>().ok());
        let text = if let Some(id) = id(INCIDENTS) {
            self.incident(caller, id).await.map_err(|error| away(&error))?
        } else if let Some(id) = id(RUNBOOKS).filter(|_| caller.namespaces.is_none()) {
            documents::get(&self.app.pool, id).await.map_err(|error| away(&error))?.map(|(_, text)| text)
        } else {
            None
        };
        let text = text.ok_or_else(|| missing(uri))?;
        Ok(ResourceContents::text(text, uri).with_mime_type(MARKDOWN))
    }

    async fn incident(&self, caller: &Caller, id: Uuid) -> sqlx::Result<Option<String>> {
        let incident = incidents::get(&self.app.pool, id).await?;
        let Some(incident) = incident.filter(|incident| caller.may_touch(&incident.namespace)) else {
            return Ok(None);
        };
        let said = resolutions::of_incident(&self.app.pool, id).await?;
        let links = &self.app.config.privacy.links;
        Ok(Some(told(&incident, &said, &|text| markdown::sanitize(text, links, RenderTarget::Answer))))
    }
}

/// Returns the URI of an incident.
pub(super) fn incident_uri(id: &str) -> String {
    format!("{INCIDENTS}{id}")
}

fn listed_incident(incident: &Incident) -> Resource {
    let description = format!(
        "{}, {}, seen {} times, last on {}",
        incident.status.as_str(),
        incident.class.as_str(),
        incident.occurrences,
        incident.last_seen.format("%Y-%m-%d %H:%M UTC")
    );
    Resource::new(incident_uri(&incident.id.to_string()), format!("incident-{}", incident.id))
        .with_title(incident.title.clone())
        .with_description(description)
        .with_mime_type(MARKDOWN)
}

fn listed_runbook(listed: &documents::DocumentSummary) -> Resource {
    Resource::new(format!("{RUNBOOKS}{}", listed.id), listed.path.clone())
        .with_title(listed.title.clone())
        .with_description(format!("{} of {}", listed.kind, listed.source))
        .with_mime_type(MARKDOWN)
}

/// Formats an incident as Markdown: title, relevant lines and resolutions. Text from logs and models is sanitized.
fn told(incident: &Incident, said: &[Resolution], harmless: &dyn Fn(&str) -> String) -> String {
    let Incident { namespace, status, class, occurrences, .. } = incident;
    let mut text = format!(
        "# {}\n\n{} · {} · namespace {namespace} · seen {occurrences} times, first on {}, last on {}\n",
        harmless(&incident.title),
        status.as_str(),
        class.as_str(),
        incident.first_seen.format("%Y-%m-%d"),
        incident.last_seen.format("%Y-%m-%d"),
    );
    if let Some(issue) = &incident.issue_url {
        let _ = writeln!(text, "\nIssue: {issue}");
    }
    match &incident.diagnosis {
        None => text.push_str("\nThere is no conclusion yet.\n"),
        Some(diagnosis) => {
            let _ = write!(text, "\n## Cause\n\n{}\n\n## Evidence\n", harmless(&diagnosis.cause));
            for claim in diagnosis.claims.iter().filter(|claim| claim.verified) {
                let (first, last) = (claim.first_line, claim.last_line);
                let _ = write!(
                    text,
                    "\n- {} ({}, lines {first} to {last})\n",
                    harmless(&claim.statement),
                    claim.evidence
                );
                if let Some(quote) = &claim.quote {
                    let _ = write!(text, "\n{}\n", markdown::block("text", quote));
                }
            }
            text.push_str("\n## What to do\n\n");
            for (at, step) in diagnosis.next_steps.iter().enumerate() {
                let _ = writeln!(text, "{}. {}", at + 1, harmless(step));
            }
        }
    }
    for resolution in said {
        let at = resolution.created_at.format("%Y-%m-%d");
        let _ = write!(
            text,
            "\n## {} by {} on {at}\n",
            resolution.verdict.as_str(),
            harmless(&resolution.author)
        );
        for (what, words) in
            [("Cause", &resolution.cause), ("Fix", &resolution.fix), ("Link", &resolution.link)]
        {
            if let Some(words) = words {
                let _ = write!(text, "\n{what}: {}\n", harmless(words));
            }
        }
    }
    text
}
