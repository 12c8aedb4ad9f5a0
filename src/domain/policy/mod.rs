//! The tool policy: who may call which tool with which arguments. Rules in order, the first that fits decides; behind them
//! stand built-in defaults. Nothing is asked or called here: `mcp::Registry` takes only what [`Policy::authorize`] permits.

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

/// Where a call is asked for.
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
    /// A model, in an investigation.
    Triage,
    /// A model, in a conversation.
    Chat,
    /// A person, on the page that tries a tool.
    Page,
    /// A client of this server's own MCP endpoint, which offers its own tools as those of the server `regreen`.
    Mcp,
    /// The service itself: collecting evidence, filing issues. No model has a say in it.
    Service,
}

impl Origin {
    /// All of them.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Their names.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as in the rules.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The place of that name.
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

    /// The decision of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// Stands for the namespace of a report where there is none; no namespace bears this name.
const A_REPORTS: &str = "(the report's)";

/// For whom a call is made, and where.
#[derive(Debug, Clone)]
pub struct CallContext {
    origin: Origin,
    caller: Option<Caller>,
    agent: Option<String>,
    /// The namespaces that tools of a cluster are kept within; all when absent.
    within: Option<Arc<[String]>>,
}

impl CallContext {
    /// The service itself.
    #[must_use]
    pub fn service() -> Self {
        Self { origin: Origin::Service, caller: None, agent: None, within: None }
    }

    /// The model of an investigation, which asks for nobody in particular, about a report of this namespace.
    #[must_use]
    pub fn triage(namespace: &str) -> Self {
        let within = Some([namespace.to_owned()].into());
        Self { origin: Origin::Triage, caller: None, agent: None, within }
    }

    /// An agent that answers somebody in a conversation.
    #[must_use]
    pub fn chat(caller: Caller, agent: &str) -> Self {
        Self { agent: Some(agent.to_owned()), ..Self::person(Origin::Chat, caller) }
    }

    /// Somebody who tries a tool on its page.
    #[must_use]
    pub fn page(caller: Caller) -> Self {
        Self::person(Origin::Page, caller)
    }

    /// A client of the own MCP endpoint.
    #[must_use]
    pub fn mcp_client(caller: Caller) -> Self {
        Self::person(Origin::Mcp, caller)
    }

    fn person(origin: Origin, caller: Caller) -> Self {
        let within = caller.namespaces.clone();
        Self { origin, caller: Some(caller), agent: None, within }
    }

    /// Somebody made up, to see what the policy says.
    #[must_use]
    pub fn supposed(origin: Origin, role: Option<Role>, agent: Option<String>) -> Self {
        let caller = role.map(|role| Caller { role, ..Caller::anyone() });
        let within = (origin == Origin::Triage).then(|| [A_REPORTS.to_owned()].into());
        Self { origin, caller, agent, within }
    }

    /// The same within one namespace.
    #[must_use]
    pub fn within(self, namespace: &str) -> Self {
        Self { within: Some([namespace.to_owned()].into()), ..self }
    }

    /// Where.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The namespaces that are read for whoever asks; all when absent.
    #[must_use]
    pub fn namespaces(&self) -> Option<&Arc<[String]>> {
        self.within.as_ref()
    }

    /// The service's own calls are its settings' matter, the own tools guard themselves.
    fn is_kept_within(&self) -> bool {
        !matches!(self.origin, Origin::Service | Origin::Mcp)
    }

    fn role(&self) -> Option<Role> {
        self.caller.as_ref().map(|caller| caller.role)
    }
}

/// The tool that is to be called.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The MCP server.
    pub server: &'a str,
    /// The tool, as its server knows it.
    pub tool: &'a str,
    /// Whether it changes something.
    pub access: Access,
    /// JSON Schema of its arguments; `None` when nobody knows it, which only a trial of the rules may say.
    pub schema: Option<&'a Value>,
    /// What its server reads.
    pub reads: ServerContent,
    /// Hash of its definition; empty when nobody knows it.
    pub definition: &'a str,
    /// A rule speaks of it, and its definition changed since it was judged.
    pub is_held: bool,
}

impl<'a> Target<'a> {
    /// A tool whose definition nobody compared with another.
    #[must_use]
    pub fn new(server: &'a str, tool: &'a str, access: Access, schema: Option<&'a Value>) -> Self {
        Self { server, tool, access, schema, reads: ServerContent::Elsewhere, definition: "", is_held: false }
    }
}

/// What a server reads, by the arguments of its tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerContent {
    /// A cluster: one of its tools is told a namespace.
    Cluster,
    /// Something else.
    Elsewhere,
}

impl ServerContent {
    /// By the schemas of a server's tools.
    #[must_use]
    pub fn of<'a>(mut schemas: impl Iterator<Item = &'a Value>) -> Self {
        if schemas.any(namespaces::told_one) { Self::Cluster } else { Self::Elsewhere }
    }
}

/// What the policy says of a tool before its arguments are known.
#[derive(Debug, Clone)]
pub struct PolicyEvaluation<'a> {
    /// What happens with a call whose arguments hold.
    pub decision: Decision,
    /// The rule behind it; none when a default decides.
    pub rule: Option<&'a Rule>,
    /// Why, for people and models.
    pub reason: String,
    /// What keeps a call within the namespaces of whoever asks.
    bounds: Option<Bounds>,
}

impl PolicyEvaluation<'_> {
    /// The rule by its number, or that it is a default.
    #[must_use]
    pub fn rule_name(&self) -> String {
        self.rule.map_or_else(|| "default".to_owned(), |rule| format!("rule {}", rule.number))
    }

    /// The schema a model is offered: without what is pinned, and in words what is pinned and constrained.
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

/// The rules of the file before the built-in defaults.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// In order, numbered from 1.
    rules: Vec<Rule>,
    /// The server of the cluster that evidence comes from.
    cluster: String,
    /// The server of the tracker, in which the issues of all namespaces stand.
    tracker: Option<String>,
}

impl Policy {
    /// With these rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules, ..Self::default() }
    }

    /// The same where one server reads the cluster, whatever its tools take, and another one the tracker.
    #[must_use]
    pub fn with_servers(self, cluster: &str, tracker: Option<&str>) -> Self {
        Self { cluster: cluster.to_owned(), tracker: tracker.map(str::to_owned), ..self }
    }

    /// Number of rules before the defaults.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether the defaults stand alone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule names the tool to let it be called, or says something of its arguments: such a rule judged the tool as it
    /// was defined.
    #[must_use]
    pub fn has_rule_for(&self, server: &str, tool: &str) -> bool {
        self.rules.iter().any(|rule| rule.has_rule_for(server, tool))
    }

    /// What is said of a tool before its arguments are known. One whose definition changed since a rule judged it is not called
    /// without a person; the service's own calls are its settings' matter.
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

    /// What keeps a tool within the namespaces of whoever asks.
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

    /// The kind with credentials that a model or a person asks a cluster for.
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
            // Nobody can be asked about the service's own calls; what the rule says of arguments holds for them too.
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

    /// Decides about a call: with which arguments it may be made, whether it waits for a person, or why it may not be made.
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

/// The arguments as they are sent: within the namespaces, then as the rule has them, and still within.
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

/// What holds where no rule says anything.
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
