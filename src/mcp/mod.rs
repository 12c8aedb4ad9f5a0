//! Every MCP server: transports, names, time-outs, reconnection, status. Not the decision what to call; a call is made with
//! the tool policy's permit and with nothing else.

mod call;
mod connect;
mod definitions;
mod events;
mod failure;
mod guard;
mod http;
mod listed;
mod names;
mod oversize;
mod passthrough;
mod recorded;
mod server;
mod sse;
mod status;
mod stdio;
mod tool;
mod websocket;

pub use call::{CallError, CallResult};
pub use http::Connector;
pub use listed::Unconfirmed;
pub use status::{Phase, ServerStatus};
pub use tool::{McpTool, PermittedTool};

use crate::audit::Recorder;
use crate::config::McpServer;
use crate::domain::Access;
use crate::domain::policy::{AccessDecision, CallContext, Permit, Policy, PolicyEvaluation};
use crate::shutdown::Shutdown;
use definitions::DefinitionVerifier;
use listed::ListedTool;
use passthrough::Sessions;
use recorded::RecordedCall;
use serde::Serialize;
use serde_json::Value;
use server::Server;
use sqlx::PgPool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// For whom tools are called, and where their calls are recorded.
#[derive(Clone)]
pub struct ToolCaller {
    /// For whom, by what the policy decides.
    pub context: Arc<CallContext>,
    /// The record of the work that the calls are part of.
    pub recorder: Recorder,
}

impl ToolCaller {
    /// The service itself, as part of a piece of work.
    #[must_use]
    pub fn service(recorder: &Recorder) -> Self {
        Self { context: Arc::new(CallContext::service()), recorder: recorder.clone() }
    }
}

/// All servers, those of the configuration and those that were added. Cloning shares.
#[derive(Clone)]
pub struct Registry {
    judge: DefinitionVerifier,
    connector: Connector,
    shutdown: Shutdown,
    own: Arc<Sessions>,
    entries: Arc<RwLock<Vec<Entry>>>,
    built: Arc<Mutex<Built>>,
}

/// A server and how it is let go.
#[derive(Clone)]
struct Entry {
    server: Arc<Server>,
    stop: CancellationToken,
    /// Over the API.
    added: bool,
}

/// All tools under their names, and the lists of the servers they were made from.
#[derive(Default)]
struct Built {
    from: Vec<(Arc<Server>, Arc<Vec<ListedTool>>)>,
    tools: Vec<Arc<McpTool>>,
}

/// A tool as its server lists it, for people.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ToolListed {
    /// The server's name for it.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    #[schema(value_type = Object)]
    pub input_schema: Arc<Value>,
    /// `read` or `write`. While a change waits for an admin, the stricter of before and now.
    pub access: Access,
    /// SHA-256 of the definition as the server lists it.
    pub hash: String,
    /// The change that waits for an admin, if one does.
    #[schema(value_type = Option<Unconfirmed>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<Arc<Unconfirmed>>,
}

impl Registry {
    /// Begins to connect to all servers at once and returns; each is kept connected until `shutdown`. Tools are compared with
    /// what `judged` keeps of them; without it, they are taken as they are listed.
    #[must_use]
    pub fn start(
        servers: Vec<McpServer>,
        policy: Arc<Policy>,
        judged: Option<PgPool>,
        connector: Connector,
        shutdown: &Shutdown,
    ) -> Self {
        let registry = Self {
            judge: DefinitionVerifier { policy, pool: judged },
            connector,
            shutdown: shutdown.clone(),
            own: Arc::default(),
            entries: Arc::default(),
            built: Arc::default(),
        };
        for config in servers {
            registry.begin(config, false);
        }
        registry
    }

    fn begin(&self, config: McpServer, added: bool) {
        let server = Arc::new(Server::new(config, self.judge.clone()));
        let stop = self.shutdown.token().child_token();
        let entry = Entry { server: Arc::clone(&server), stop: stop.clone(), added };
        self.entries.write().unwrap_or_else(PoisonError::into_inner).push(entry);
        let connector = self.connector.clone();
        self.shutdown.spawn(async move { server.keep_connected(connector, stop).await });
    }

    fn entries(&self) -> Vec<Entry> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the added servers these: begins with new ones, lets go of those that are not among them, and begins anew with
    /// those whose settings changed. Those of the configuration stay, and keep their names.
    pub fn sync(&self, wanted: Vec<McpServer>) {
        let mut gone = Vec::new();
        self.entries.write().unwrap_or_else(PoisonError::into_inner).retain(|entry| {
            let stays = !entry.added || wanted.iter().any(|wanted| wanted.is_same(&entry.server.config));
            if !stays {
                gone.push(entry.clone());
            }
            stays
        });
        for entry in gone {
            entry.stop.cancel();
            self.own.close(&entry.server.config.name);
        }
        for config in wanted {
            if self.server(&config.name).is_none() {
                self.begin(config, true);
            }
        }
    }

    /// Waits until every server has had its first attempt, whatever came of it.
    pub async fn wait_for_first_attempts(&self) {
        for entry in self.entries() {
            entry.server.wait_for_first_attempt().await;
        }
    }

    /// Waits until a server has had its first attempt.
    pub async fn wait_for_first_attempt(&self, name: &str) {
        if let Some(server) = self.server(name) {
            server.wait_for_first_attempt().await;
        }
    }

    /// The revision of the protocol that a server that is connected speaks.
    #[must_use]
    pub fn revision_of(&self, name: &str) -> Option<String> {
        self.server(name)?.revision()
    }

    /// How each server is.
    #[must_use]
    pub fn status(&self) -> Vec<ServerStatus> {
        self.entries().iter().map(|entry| entry.server.status()).collect()
    }

    /// How a server is, and whether it was added.
    #[must_use]
    pub fn status_of(&self, name: &str) -> Option<(ServerStatus, bool)> {
        let entry = self.entries().into_iter().find(|entry| entry.server.config.name == name)?;
        Some((entry.server.status(), entry.added))
    }

    /// A server's tools, as it lists them.
    #[must_use]
    pub fn tools_of(&self, name: &str) -> Option<Vec<ToolListed>> {
        let tools = self.server(name)?.tools();
        let shown = |listed: &ListedTool| ToolListed {
            name: listed.name.clone(),
            description: listed.description.clone(),
            input_schema: Arc::clone(&listed.schema),
            access: listed.access,
            hash: listed.hash.clone(),
            unconfirmed: listed.unconfirmed.clone(),
        };
        Some(tools.iter().map(shown).collect())
    }

    /// What a server is known by besides its name: a hash of its transport and URL or command.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<String> {
        self.server(name).map(|server| server.address.clone())
    }

    /// Reads again what was judged of the tools of all servers, after an admin confirmed a change.
    pub async fn review(&self) {
        let entries = self.entries();
        futures::future::join_all(entries.iter().map(|entry| entry.server.offer(None))).await;
    }

    /// The hash of a tool's definition as its server lists it now.
    #[must_use]
    pub fn definition_of(&self, server: &str, tool: &str) -> Option<String> {
        let tools = self.server(server)?.tools();
        tools.iter().find(|listed| listed.name == tool).map(|listed| listed.hash.clone())
    }

    /// Ends a server's session and connects anew. `false` when there is no such server.
    #[must_use]
    pub fn reconnect(&self, name: &str) -> bool {
        self.own.close(name);
        self.server(name).inspect(|server| server.reconnect()).is_some()
    }

    /// Whether a server of that name is connected right now.
    #[must_use]
    pub fn is_connected(&self, server: &str) -> bool {
        self.server(server).is_some_and(|server| server.status().is_connected())
    }

    /// Whether calls of a server go with the own token of whoever asks.
    #[must_use]
    pub fn is_passthrough(&self, server: &str) -> bool {
        self.server(server).is_some_and(|server| server.config.passthrough)
    }

    fn server(&self, name: &str) -> Option<Arc<Server>> {
        self.entries().into_iter().map(|entry| entry.server).find(|server| server.config.name == name)
    }

    /// Tools of all servers that were ever connected, under names a model's API accepts; only those of one access if asked.
    #[must_use]
    pub fn known(&self, access: Option<Access>) -> Vec<Arc<McpTool>> {
        let from: Vec<(Arc<Server>, Arc<Vec<ListedTool>>)> = self
            .entries()
            .into_iter()
            .map(|entry| {
                let tools = entry.server.tools();
                (entry.server, tools)
            })
            .collect();
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let same = built.from.len() == from.len()
            && built
                .from
                .iter()
                .zip(&from)
                .all(|(before, now)| Arc::ptr_eq(&before.0, &now.0) && Arc::ptr_eq(&before.1, &now.1));
        if !same {
            *built = Built { tools: build(&from), from };
        }
        let wanted = |tool: &&Arc<McpTool>| access.is_none_or(|access| access == tool.spec().access);
        built.tools.iter().filter(wanted).cloned().collect()
    }

    /// A tool by the names its server gave.
    #[must_use]
    pub fn find(&self, server: &str, tool: &str) -> Option<Arc<McpTool>> {
        let server = self.server(server)?;
        let listed = server.tools().iter().find(|listed| listed.name == tool).cloned()?;
        let name = listed.name.clone();
        Some(Arc::new(McpTool::new(server, &listed, name)))
    }

    /// The tools that the policy does not forbid to those who ask.
    #[must_use]
    pub fn offered(&self, caller: &ToolCaller) -> Vec<PermittedTool> {
        self.known(None).iter().filter_map(|tool| PermittedTool::new(self, caller, tool)).collect()
    }

    /// What the policy says of a tool. `None` when there is no such tool.
    #[must_use]
    pub fn evaluate(&self, asker: &CallContext, server: &str, tool: &str) -> Option<PolicyEvaluation<'_>> {
        Some(self.policy().evaluate(asker, &self.find(server, tool)?.target()))
    }

    /// What the policy says of a call, by the names the server gave. What it permits can be made with [`Self::call`]; what it
    /// refuses goes on record.
    ///
    /// # Errors
    /// There is no such tool.
    pub fn authorize(
        &self,
        caller: &ToolCaller,
        server: &str,
        tool: &str,
        arguments: Value,
    ) -> Result<AccessDecision, CallError> {
        let found = self.find(server, tool).ok_or_else(|| unknown(server, tool))?;
        let wanted = arguments.clone();
        let ruling = self.policy().authorize(&caller.context, &found.target(), arguments);
        if let AccessDecision::Denied(denied) = &ruling {
            RecordedCall::begin(&caller.recorder, server, tool, &wanted).refused(&denied.to_string());
        }
        Ok(ruling)
    }

    /// What the policy would say of a call that nobody makes: it goes on no record.
    #[must_use]
    pub fn authorize_dry_run(&self, asker: &CallContext, tool: &McpTool, arguments: Value) -> AccessDecision {
        self.policy().authorize(asker, &tool.target(), arguments)
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.judge.policy
    }

    /// Makes a call that the policy permits, as part of a piece of work.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &self,
        permit: Permit,
        recorder: &Recorder,
        cancel: CancellationToken,
    ) -> Result<CallResult, CallError> {
        let (server, tool) = (permit.server(), permit.tool());
        let found = self.server(server).ok_or_else(|| unknown(server, tool))?;
        let listed = found.tools().iter().find(|listed| listed.name == tool).cloned();
        let listed = listed.ok_or_else(|| unknown(server, tool))?;
        if listed.access != permit.access() || listed.hash != permit.definition() {
            return Err(CallError::Changed { server: server.to_owned(), tool: tool.to_owned() });
        }
        match permit.caller().filter(|_| found.config.passthrough) {
            None => call::call(&found, &listed, permit.into_arguments(), recorder, &cancel).await,
            Some(caller) => {
                let opening = self.own.of(&found, caller, &self.connector, &self.shutdown);
                let own = tokio::select! {
                    own = opening => own?,
                    () = cancel.cancelled() => return Err(CallError::Cancelled),
                };
                // What is told to somebody's own token is theirs: the record says that it was called.
                recorder.withhold();
                call::call(own.server(), &listed, permit.into_arguments(), recorder, &cancel).await
            }
        }
    }
}

fn unknown(server: &str, tool: &str) -> CallError {
    CallError::UnknownTool { server: server.to_owned(), tool: tool.to_owned() }
}

fn build(lists: &[(Arc<Server>, Arc<Vec<ListedTool>>)]) -> Vec<Arc<McpTool>> {
    let all = lists.iter().flat_map(|(server, list)| list.iter().map(move |listed| (server, listed)));
    let names =
        names::give(all.clone().map(|(server, tool)| (server.config.name.as_str(), tool.name.as_str())));
    let tool = |((server, listed), name): ((&Arc<Server>, &ListedTool), String)| {
        Arc::new(McpTool::new(Arc::clone(server), listed, name))
    };
    all.zip(names).map(tool).collect()
}
