//! The tool policy: who may call which tool with which arguments. The first matching rule decides; without a match,
//! built-in defaults apply. This module makes no calls: `mcp::Registry` executes only what [`Policy::authorize`] permits.

mod arguments;
mod dangerous;
mod kinds;
mod namespaces;
mod permit;
mod rule;
#[cfg(test)]
mod tests;

use namespaces::Bounds;
pub use permit::{AccessDecision, Denied, Permit, UnapprovedCall};
pub use rule::{Check, Patterns, Rule};

use super::{Access, Caller, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};
use utoipa::ToSchema;

/// Where a call originates.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    IntoStaticStr,
    EnumString,
    VariantArray,
    VariantNames,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A model in an investigation.
    Triage,
    /// A model in a conversation.
    Chat,
    /// A person on the page for trying a tool.
    Page,
    /// A client of this server's own MCP endpoint, which offers its tools under the server name `regreen`.
    Mcp,
    /// The service itself, which collects evidence and files issues without a model.
    Service,
}

impl Origin {
    /// All origins.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Names of all origins.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as in the rules.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses an origin name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// What happens with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is made at once.
    Allow,
    /// It waits for a person.
    Approve,
    /// It is not made, and a model is not offered the tool.
    Deny,
}

impl Decision {
    /// Stable name, as in the rules.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a decision name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// Placeholder for the namespace of a report in hypothetical calls; not a valid namespace name.
const A_REPORTS: &str = "(the report's)";

/// Context of a call: origin, caller, agent and namespaces.
#[derive(Debug, Clone)]
pub struct CallContext {
    origin: Origin,
    caller: Option<Caller>,
    agent: Option<String>,
    /// Namespaces that cluster tools are restricted to; all when absent.
    within: Option<Arc<[String]>>,
}

impl CallContext {
    /// Context of the service itself.
    #[must_use]
    pub fn service() -> Self {
        Self { origin: Origin::Service, caller: None, agent: None, within: None }
    }

    /// Context of an investigation's model, without a caller, restricted to the namespace of its report.
    #[must_use]
    pub fn triage(namespace: &str) -> Self {
        let within = Some([namespace.to_owned()].into());
        Self { origin: Origin::Triage, caller: None, agent: None, within }
    }

    /// Context of an agent that answers a caller in a conversation.
    #[must_use]
    pub fn chat(caller: Caller, agent: &str) -> Self {
        Self { agent: Some(agent.to_owned()), ..Self::person(Origin::Chat, caller) }
    }

    /// Context of a caller who tries a tool on its page.
    #[must_use]
    pub fn page(caller: Caller) -> Self {
        Self::person(Origin::Page, caller)
    }

    /// Context of a client of the server's own MCP endpoint.
    #[must_use]
    pub fn mcp_client(caller: Caller) -> Self {
        Self::person(Origin::Mcp, caller)
    }

    fn person(origin: Origin, caller: Caller) -> Self {
        let within = caller.namespaces.clone();
        Self { origin, caller: Some(caller), agent: None, within }
    }

    /// Context of a hypothetical caller, to test the policy.
    #[must_use]
    pub fn supposed(origin: Origin, role: Option<Role>, agent: Option<String>) -> Self {
        let caller = role.map(|role| Caller { role, ..Caller::anyone() });
        let within = (origin == Origin::Triage).then(|| [A_REPORTS.to_owned()].into());
        Self { origin, caller, agent, within }
    }

    /// Restricts the context to one namespace.
    #[must_use]
    pub fn within(self, namespace: &str) -> Self {
        Self { within: Some([namespace.to_owned()].into()), ..self }
    }

    /// Origin of the call.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Namespaces that the call is restricted to; all when absent.
    #[must_use]
    pub fn namespaces(&self) -> Option<&Arc<[String]>> {
        self.within.as_ref()
    }

    /// Whether namespaces are enforced. The settings control the service's own calls, and the server's own MCP tools check
    /// access themselves.
    fn is_kept_within(&self) -> bool {
        !matches!(self.origin, Origin::Service | Origin::Mcp)
    }

    fn role(&self) -> Option<Role> {
        self.caller.as_ref().map(|caller| caller.role)
    }
}

/// The tool to call.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Name of the MCP server.
    pub server: &'a str,
    /// Name of the tool on its server.
    pub tool: &'a str,
    /// Whether the tool changes something.
    pub access: Access,
    /// JSON Schema of the arguments; `None` only when the policy is tested without a known schema.
    pub schema: Option<&'a Value>,
    /// What the server reads.
    pub reads: ServerContent,
    /// Hash of the tool's definition; empty when unknown.
    pub definition: &'a str,
    /// Whether a rule covers the tool and its definition changed since then.
    pub is_held: bool,
}

impl<'a> Target<'a> {
    /// Creates a target without a definition hash.
    #[must_use]
    pub fn new(server: &'a str, tool: &'a str, access: Access, schema: Option<&'a Value>) -> Self {
        Self { server, tool, access, schema, reads: ServerContent::Elsewhere, definition: "", is_held: false }
    }
}

/// What a server reads, derived from the arguments of its tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerContent {
    /// A cluster: at least one of its tools takes a namespace.
    Cluster,
    /// Anything else.
    Elsewhere,
}

impl ServerContent {
    /// Derives the content from the schemas of a server's tools.
    #[must_use]
    pub fn of<'a>(mut schemas: impl Iterator<Item = &'a Value>) -> Self {
        if schemas.any(namespaces::told_one) { Self::Cluster } else { Self::Elsewhere }
    }
}

/// Result of the policy for a tool before its arguments are known.
#[derive(Debug, Clone)]
pub struct PolicyEvaluation<'a> {
    /// Decision for a call with valid arguments.
    pub decision: Decision,
    /// The rule that decided; `None` for a default.
    pub rule: Option<&'a Rule>,
    /// Reason, for people and models.
    pub reason: String,
    /// Restricts the call to the context's namespaces.
    bounds: Option<Bounds>,
}

impl PolicyEvaluation<'_> {
    /// Returns `rule N`, or `default`.
    #[must_use]
    pub fn rule_name(&self) -> String {
        self.rule.map_or_else(|| "default".to_owned(), |rule| format!("rule {}", rule.number))
    }

    /// Returns the schema offered to the model, without pinned arguments, and a description of pins and checks.
    #[must_use]
    pub fn offered(&self, schema: &Arc<Value>) -> (Arc<Value>, String) {
        let (schema, bounded) = match &self.bounds {
            Some(bounds) => bounds.offered(schema),
            None => (Arc::clone(schema), String::new()),
        };
        match self.rule {
            Some(rule) => {
                let (schema, words) = arguments::offered(rule, &schema);
                (schema, bounded + &words)
            }
            None => (schema, bounded),
        }
    }
}

/// The configured rules, followed by the built-in defaults.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Rules in order, numbered from 1.
    rules: Vec<Rule>,
    /// Server that reads the cluster from which evidence is collected.
    cluster: String,
    /// Server of the tracker, which stores the issues of all namespaces.
    tracker: Option<String>,
}

impl Policy {
    /// Creates a policy from rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Sets the server that reads the cluster, whatever arguments its tools take, and the server of the tracker.
    #[must_use]
    pub fn with_servers(self, cluster: &str, tracker: Option<&str>) -> Self {
        Self { cluster: cluster.to_owned(), tracker: tracker.map(str::to_owned), ..self }
    }

    /// Number of configured rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether only the defaults apply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule covers the tool: it permits the tool by name or constrains its arguments. Such a rule was written for a
    /// specific definition of the tool.
    #[must_use]
    pub fn has_rule_for(&self, server: &str, tool: &str) -> bool {
        self.rules.iter().any(|rule| rule.has_rule_for(server, tool))
    }

    /// Evaluates a tool before its arguments are known. A tool whose definition changed since a rule covered it needs a person;
    /// the service's own calls and the server's own MCP tools are exempt.
    #[must_use]
    pub fn evaluate(&self, asker: &CallContext, target: &Target<'_>) -> PolicyEvaluation<'_> {
        let standing = self.by_rules(asker, target);
        if standing.decision == Decision::Deny {
            return standing;
        }
        let standing = match self.bounds(asker, target, standing.rule) {
            Ok(bounds) => PolicyEvaluation { bounds, ..standing },
            Err(reason) => return PolicyEvaluation { decision: Decision::Deny, reason, ..standing },
        };
        if !target.is_held || matches!(asker.origin, Origin::Service | Origin::Mcp) {
            return standing;
        }
        let decision = if asker.origin == Origin::Chat { Decision::Approve } else { Decision::Deny };
        let reason = "its definition changed; an admin has to confirm it on the server's page".to_owned();
        PolicyEvaluation { decision, reason, ..standing }
    }

    /// Returns the namespace restrictions for the call.
    fn bounds(
        &self,
        asker: &CallContext,
        target: &Target<'_>,
        rule: Option<&Rule>,
    ) -> Result<Option<Bounds>, String> {
        let Some(within) = asker.within.as_ref().filter(|_| asker.is_kept_within()) else { return Ok(None) };
        let spelled = rule.is_some_and(|rule| rule.spells(target.tool));
        let names_issues = target.tool.to_lowercase().contains("issue");
        if self.tracker.as_deref() == Some(target.server) && names_issues && !spelled {
            return Err("the issues of all namespaces stand there; only a rule with its name, spelled out, \
                        allows it here"
                .to_owned());
        }
        if target.reads == ServerContent::Cluster || target.server == self.cluster {
            return Bounds::new(within, target.schema, rule, target.tool);
        }
        Ok(None)
    }

    /// Returns a kind that holds credentials, if a model or a person requests one from a cluster.
    fn credential(
        &self,
        asker: &CallContext,
        target: &Target<'_>,
        arguments: &Value,
    ) -> Option<(Vec<String>, String)> {
        let reads_cluster = target.reads == ServerContent::Cluster || target.server == self.cluster;
        (asker.is_kept_within() && reads_cluster).then(|| kinds::credential(arguments)).flatten()
    }

    fn by_rules(&self, asker: &CallContext, target: &Target<'_>) -> PolicyEvaluation<'_> {
        let Some(rule) = self.rules.iter().find(|rule| rule.fits(asker, target)) else {
            let (decision, reason) = without_rule(asker.origin, target);
            return PolicyEvaluation { decision, rule: None, reason, bounds: None };
        };
        let denied = |reason: String| PolicyEvaluation {
            decision: Decision::Deny,
            rule: Some(rule),
            reason,
            bounds: None,
        };
        if let Some(problem) = arguments::cannot_hold(rule, target.schema) {
            return denied(problem);
        }
        let decision = match (asker.origin, rule.decision) {
            // The service's own calls have nobody to approve them; the rule's argument conditions still apply.
            (Origin::Service, Decision::Approve) => Decision::Allow,
            (Origin::Chat, decision) => decision,
            (origin, Decision::Approve) => {
                let origin = origin.as_str();
                return denied(format!(
                    "it needs a person's approval, which is asked for in a chat and not here ({origin})"
                ));
            }
            (_, decision) => decision,
        };
        let reason = rule.reason.clone().unwrap_or_else(|| {
            let what = match decision {
                Decision::Allow => "a rule allows it",
                Decision::Approve => "a rule asks for a person's approval",
                Decision::Deny => "a rule forbids it",
            };
            what.to_owned()
        });
        PolicyEvaluation { decision, rule: Some(rule), reason, bounds: None }
    }

    /// Decides about a call: allowed with these arguments, waiting for approval, or denied with a reason.
    #[must_use]
    pub fn authorize(&self, asker: &CallContext, target: &Target<'_>, arguments: Value) -> AccessDecision {
        let standing = self.evaluate(asker, target);
        let behind = standing.rule_name();
        let denied = |reason: String| AccessDecision::Denied(Denied { reason, rule: behind.clone() });
        if standing.decision == Decision::Deny {
            return denied(standing.reason);
        }
        let arguments = match settled(&standing, target.schema, arguments) {
            Ok(arguments) => arguments,
            Err(problem) => return denied(problem),
        };
        if let Some((path, word)) = self.credential(asker, target, &arguments)
            && !standing.rule.is_some_and(|rule| kinds::is_named_by(rule, &path, &word))
        {
            let name = path.join(".");
            return denied(format!(
                "`{name}` names a kind that holds credentials (`{word}`); it needs a rule that names the kind for `{name}`"
            ));
        }
        let permit = Permit::new(target, arguments, asker.caller.clone());
        match standing.decision {
            Decision::Approve => AccessDecision::NeedsApproval(UnapprovedCall::new(permit)),
            _ => AccessDecision::Allowed(permit),
        }
    }
}

/// Returns the arguments to send: restricted to the namespaces, then settled by the rule, then checked against the
/// namespaces again.
fn settled(
    standing: &PolicyEvaluation<'_>,
    schema: Option<&Value>,
    arguments: Value,
) -> Result<Value, String> {
    let Some(bounds) = &standing.bounds else { return arguments::settle(standing.rule, schema, arguments) };
    let arguments = bounds.hold(schema, arguments)?;
    let arguments = arguments::settle(standing.rule, schema, arguments)?;
    bounds.kept(&arguments)?;
    Ok(arguments)
}

/// Default decision when no rule matches.
fn without_rule(origin: Origin, target: &Target<'_>) -> (Decision, String) {
    let said = |decision, reason: &str| (decision, reason.to_owned());
    match (origin, target.access) {
        (Origin::Service, _) => said(Decision::Allow, "the service's own calls are those of its settings"),
        (Origin::Mcp, _) => said(Decision::Allow, "the own tools are guarded by the caller's role"),
        _ if let Some(pattern) = dangerous::pattern(target.tool) => {
            let reason = format!(
                "tools like `{pattern}` run code, destroy, or give away secrets; they need a rule that names them"
            );
            (Decision::Deny, reason)
        }
        (_, Access::Read) => said(Decision::Allow, "it only looks"),
        (Origin::Chat, Access::Write) => said(Decision::Approve, "it changes something"),
        (Origin::Triage, Access::Write) => {
            said(Decision::Deny, "it changes something, and an investigation only looks")
        }
        (Origin::Page, Access::Write) => {
            let reason =
                "it changes something: a model may ask for it in a chat, and a person allows it there";
            said(Decision::Deny, reason)
        }
    }
}
