//! Compares listed tools with stored definitions, so that a tool cannot declare itself harmless later. The first definition
//! is trusted; a significant change waits for an admin, and until then the stricter of both applies.

use super::listed::{ListedTool, Unconfirmed};
use crate::clock;
use crate::config::{McpServer, Transport};
use crate::db::audit;
use crate::db::definitions::{self, Hashed, Stored, ToolKey};
use crate::domain::policy::Policy;
use crate::domain::{Access, Actor, AuditAction, AuditEvent, Change, ServerKey};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use std::sync::Arc;

/// Returns a hash that identifies a server besides its name.
pub(super) fn address(config: &McpServer) -> String {
    let address = match &config.transport {
        Transport::Stdio { command } => json!(["stdio", command]),
        Transport::StreamableHttp { url } => json!(["streamable-http", url]),
        Transport::Sse { url } => json!(["sse", url]),
        Transport::WebSocket { url } => json!(["websocket", url]),
    };
    hex::encode(Sha256::digest(address.to_string().as_bytes()))
}

/// Stored tool definitions and the tool policy.
#[derive(Clone, Default)]
pub(super) struct DefinitionVerifier {
    pub(super) policy: Arc<Policy>,
    /// Without a database, tools are used as listed.
    pub(super) pool: Option<PgPool>,
}

impl DefinitionVerifier {
    /// Returns the tools with the access under which they may be used.
    pub(super) async fn judge(
        &self,
        server: ServerKey<'_>,
        listed: &[ListedTool],
    ) -> sqlx::Result<Vec<ListedTool>> {
        let Some(pool) = &self.pool else { return Ok(listed.to_vec()) };
        let mut known = definitions::of(pool, server).await?;
        let new: Vec<(&str, Hashed)> = listed
            .iter()
            .filter(|tool| !known.contains_key(&tool.name))
            .map(|tool| (tool.name.as_str(), tool.hashed()))
            .collect();
        if !new.is_empty() {
            definitions::remember(pool, server, &new, clock::now()).await?;
            // Another replica may have stored a different list first.
            known = definitions::of(pool, server).await?;
        }
        let mut judged = Vec::new();
        for tool in listed {
            let Some(stored) = known.get(&tool.name) else {
                judged.push(self.unread(server.name, tool));
                continue;
            };
            judged.push(self.compare(pool, server, tool, stored).await?);
        }
        Ok(judged)
    }

    async fn compare(
        &self,
        pool: &PgPool,
        server: ServerKey<'_>,
        tool: &ListedTool,
        stored: &Stored,
    ) -> sqlx::Result<ListedTool> {
        let (now, is_ruled) = (clock::now(), self.policy.has_rule_for(server.name, &tool.name));
        let (key, new, old) = (ToolKey { server, name: &tool.name }, tool.hashed(), &stored.used);
        let same = old.hash == new.hash;
        if same && stored.pending.is_none() {
            return Ok(tool.clone());
        }
        let change = old.definition.change(&new.definition, is_ruled);
        let difference = old.definition.difference(&new.definition);
        let mut transaction = pool.begin().await?;
        let (is_news, detail) = if same {
            let news = definitions::withdraw(&mut *transaction, key, &old.hash).await?;
            (news, "the server lists again what was judged; nothing waits any more".to_owned())
        } else if change == Change::Noted {
            let news = definitions::replace(&mut *transaction, key, &old.hash, &new, now).await?;
            (news, format!("changed: {difference}; used at once ({})", new.hash))
        } else {
            let news = definitions::propose(&mut *transaction, key, &old.hash, &new, now).await?;
            (news, format!("changed: {difference}; waits for an admin's confirmation ({})", new.hash))
        };
        if is_news {
            let event = AuditEvent::new(&Actor::service(""), AuditAction::ToolChange, now);
            let event = event.on("tool", format!("{} {}", server.name, tool.name)).detail(detail);
            audit::add(&mut *transaction, &event).await?;
            tracing::warn!(
                server = server.name,
                tool = tool.name,
                difference,
                "an MCP server changed the definition of a tool"
            );
        }
        transaction.commit().await?;
        if same || change == Change::Noted {
            return Ok(tool.clone());
        }
        let since = stored
            .pending
            .as_ref()
            .filter(|pending| pending.hash == new.hash)
            .map_or(now, |pending| pending.since);
        let access = old.definition.stricter(&new.definition);
        let unconfirmed = Unconfirmed {
            hash: new.hash,
            since: Some(since),
            before: Some(old.definition.clone()),
            now: new.definition,
        };
        Ok(ListedTool { access, is_held: is_ruled, unconfirmed: Some(Arc::new(unconfirmed)), ..tool.clone() })
    }

    /// Returns the tools while the stored definitions cannot be read: unchanged tools as they were before, all others as if
    /// they had changed.
    pub(super) fn without_memory(
        &self,
        server: &str,
        listed: &[ListedTool],
        before: &[ListedTool],
    ) -> Vec<ListedTool> {
        let known = |tool: &ListedTool| {
            before.iter().find(|known| known.name == tool.name && known.hash == tool.hash)
        };
        listed.iter().map(|tool| known(tool).cloned().unwrap_or_else(|| self.unread(server, tool))).collect()
    }

    fn unread(&self, server: &str, tool: &ListedTool) -> ListedTool {
        let Hashed { hash, definition } = tool.hashed();
        // Read access counts only if the configuration alone grants it, since the server's claim is unverified.
        let access = if definition.reads { Access::Write } else { tool.access };
        let unconfirmed = Arc::new(Unconfirmed { hash, since: None, before: None, now: definition });
        let is_held = self.policy.has_rule_for(server, &tool.name);
        ListedTool { access, is_held, unconfirmed: Some(unconfirmed), ..tool.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Definition;
    use crate::domain::policy::{Decision, Patterns, Rule};

    fn tool(name: &str, reads: bool) -> ListedTool {
        let definition = Definition {
            description: String::new(),
            input_schema: Arc::new(json!({"type": "object"})),
            reads,
            access: if reads { Access::Read } else { Access::Write },
        };
        ListedTool {
            name: name.to_owned(),
            description: String::new(),
            schema: Arc::clone(&definition.input_schema),
            reads,
            access: definition.access,
            hash: definition.hash(ServerKey { name: "lab", address: "here" }, name),
            is_held: false,
            unconfirmed: None,
        }
    }

    #[test]
    fn what_cannot_be_compared_is_not_used_as_if_it_had_been() {
        let rule = Rule {
            number: 1,
            roles: None,
            agents: None,
            places: None,
            servers: None,
            tools: Some(Patterns::parse(&["scale".to_owned()]).unwrap()),
            access: None,
            pins: Vec::new(),
            checks: Vec::new(),
            decision: Decision::Allow,
            reason: None,
        };
        let judge = DefinitionVerifier { policy: Arc::new(Policy::new(vec![rule])), pool: None };
        let by_configuration = ListedTool { access: Access::Read, ..tool("named", false) };
        let now = [tool("look", true), tool("known", true), tool("scale", false), by_configuration];
        let judged = judge.without_memory("lab", &now, &[tool("known", true), tool("look", false)]);
        let said: Vec<_> = judged
            .iter()
            .map(|tool| (tool.name.as_str(), tool.access, tool.unconfirmed.is_some(), tool.is_held))
            .collect();
        assert_eq!(
            said,
            [
                ("look", Access::Write, true, false),
                ("known", Access::Read, false, false),
                ("scale", Access::Write, true, true),
                ("named", Access::Read, true, false),
            ]
        );
    }
}
