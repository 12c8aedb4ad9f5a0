//! MCP client: transports, tool names, time-outs, reconnection and status. Does not decide which calls are made: a call
//! requires a [`Permit`] of the tool policy.

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

/// Caller on whose behalf tools are called, and the recorder of the calls.
#[derive(Clone)]
pub struct ToolCaller {
    /// Caller, as the tool policy evaluates it.
    pub context: Arc<CallContext>,
    /// Recorder of the task that the calls belong to.
    pub recorder: Recorder,
}

impl ToolCaller {
    /// Returns the service itself as the caller, within a task.
    #[must_use]
    pub fn service(recorder: &Recorder) -> Self {
        Self { context: Arc::new(CallContext::service()), recorder: recorder.clone() }
    }
}

/// All MCP servers: those from the configuration and those added over the API. Clones share state.
#[derive(Clone)]
pub struct Registry {
    judge: DefinitionVerifier,
    connector: Connector,
    shutdown: Shutdown,
    own: Arc<Sessions>,
    entries: Arc<RwLock<Vec<Entry>>>,
    built: Arc<Mutex<Built>>,
}

/// A server and the token that stops it.
#[derive(Clone)]
struct Entry {
    server: Arc<Server>,
    stop: CancellationToken,
    /// Added over the API, not in the configuration.
    added: bool,
}

/// All tools with their unique names, and the server lists from which they were built.
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
    /// Starts to connect to all servers at once and returns; each connection is maintained until `shutdown`. Tools are
    /// compared with the definitions stored in `judged`; without a database, they are used as listed.
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

    /// Replaces the set of added servers: starts new ones, stops those not in `wanted`, and restarts those whose settings
    /// changed. Servers from the configuration stay and keep their names.
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

    /// Waits until every server has completed its first connection attempt, successful or not.
    pub async fn wait_for_first_attempts(&self) {
        for entry in self.entries() {
            entry.server.wait_for_first_attempt().await;
        }
    }

    /// Waits until a server has completed its first connection attempt.
    pub async fn wait_for_first_attempt(&self, name: &str) {
        if let Some(server) = self.server(name) {
            server.wait_for_first_attempt().await;
        }
    }

    /// Returns the protocol revision of a connected server.
    #[must_use]
    pub fn revision_of(&self, name: &str) -> Option<String> {
        self.server(name)?.revision()
    }

    /// Returns the status of each server.
    #[must_use]
    pub fn status(&self) -> Vec<ServerStatus> {
        self.entries().iter().map(|entry| entry.server.status()).collect()
    }

    /// Returns the status of a server and whether it was added over the API.
    #[must_use]
    pub fn status_of(&self, name: &str) -> Option<(ServerStatus, bool)> {
        let entry = self.entries().into_iter().find(|entry| entry.server.config.name == name)?;
        Some((entry.server.status(), entry.added))
    }

    /// Returns the tools of a server, as it lists them.
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

    /// Returns a hash of a server's transport and URL or command, which identifies it besides its name.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<String> {
        self.server(name).map(|server| server.address.clone())
    }

    /// Reloads the stored tool definitions of all servers, after an admin confirmed a change.
    pub async fn review(&self) {
        let entries = self.entries();
        futures::future::join_all(entries.iter().map(|entry| entry.server.offer(None))).await;
    }

    /// Returns the hash of a tool's definition, as its server lists it now.
    #[must_use]
    pub fn definition_of(&self, server: &str, tool: &str) -> Option<String> {
        let tools = self.server(server)?.tools();
        tools.iter().find(|listed| listed.name == tool).map(|listed| listed.hash.clone())
    }

    /// Ends a server's session and reconnects. Returns `false` if there is no such server.
    #[must_use]
    pub fn reconnect(&self, name: &str) -> bool {
        self.own.close(name);
        self.server(name).inspect(|server| server.reconnect()).is_some()
    }

    /// Returns whether a server of that name is connected.
    #[must_use]
    pub fn is_connected(&self, server: &str) -> bool {
        self.server(server).is_some_and(|server| server.status().is_connected())
    }

    /// Returns whether calls to a server use the caller's own token.
    #[must_use]
    pub fn is_passthrough(&self, server: &str) -> bool {
        self.server(server).is_some_and(|server| server.config.passthrough)
    }

    fn server(&self, name: &str) -> Option<Arc<Server>> {
        self.entries().into_iter().map(|entry| entry.server).find(|server| server.config.name == name)
    }

    /// Returns the tools of all servers that have ever been connected, under names that model APIs accept, optionally only
    /// those with one kind of access.
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

    /// Returns a tool by its server's name and the server's own tool name.
    #[must_use]
    pub fn find(&self, server: &str, tool: &str) -> Option<Arc<McpTool>> {
        let server = self.server(server)?;
        let listed = server.tools().iter().find(|listed| listed.name == tool).cloned()?;
        let name = listed.name.clone();
        Some(Arc::new(McpTool::new(server, &listed, name)))
    }

    /// Returns the tools that the policy does not deny to the caller.
    #[must_use]
    pub fn offered(&self, caller: &ToolCaller) -> Vec<PermittedTool> {
        self.known(None).iter().filter_map(|tool| PermittedTool::new(self, caller, tool)).collect()
    }

    /// Evaluates the policy for a tool. Returns `None` if there is no such tool.
    #[must_use]
    pub fn evaluate(&self, asker: &CallContext, server: &str, tool: &str) -> Option<PolicyEvaluation<'_>> {
        Some(self.policy().evaluate(asker, &self.find(server, tool)?.target()))
    }

    /// Evaluates the policy for a call, by the server's own tool name. A permitted call can be made with [`Self::call`]; a
    /// denied one is recorded.
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

    /// Evaluates the policy for a call that is not made. Records nothing.
    #[must_use]
    pub fn authorize_dry_run(&self, asker: &CallContext, tool: &McpTool, arguments: Value) -> AccessDecision {
        self.policy().authorize(asker, &tool.target(), arguments)
    }

    /// Returns the tool policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.judge.policy
    }

    /// Makes a call that the policy permits, within a task.
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
                // The result is visible to the owner of the token alone: the record only states that the call was made.
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
