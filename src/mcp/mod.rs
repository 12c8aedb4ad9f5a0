//! Every MCP server: transports, names, time-outs, reconnection, status. Not the decision what to call.

mod call;
mod connect;
mod failure;
mod names;
mod server;
mod sse;
mod tool;

pub use call::{CallError, CallResult};
pub use server::{Phase, ServerStatus};
pub use tool::McpTool;

use crate::agent::Tool;
use crate::config::McpServer;
use crate::domain::Access;
use crate::shutdown::Shutdown;
use serde_json::Value;
use server::{Listed, Server};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// All configured servers. Cloning shares.
#[derive(Clone)]
pub struct Registry {
    servers: Arc<Vec<Arc<Server>>>,
    built: Arc<Mutex<Built>>,
}

/// All tools under their names, and the lists of the servers they were made from.
#[derive(Default)]
struct Built {
    from: Vec<Arc<Vec<Listed>>>,
    tools: Vec<Arc<McpTool>>,
}

impl Registry {
    /// Begins to connect to all servers at once and returns; each is kept connected until `shutdown`.
    #[must_use]
    pub fn start(servers: Vec<McpServer>, http: reqwest::Client, shutdown: &Shutdown) -> Self {
        let servers: Vec<Arc<Server>> =
            servers.into_iter().map(|config| Arc::new(Server::new(config))).collect();
        for server in &servers {
            let (server, http, stop) = (Arc::clone(server), http.clone(), shutdown.token().clone());
            shutdown.spawn(async move { server.keep_connected(http, stop).await });
        }
        Self { servers: Arc::new(servers), built: Arc::default() }
    }

    /// Waits until every server has had its first attempt, whatever came of it.
    pub async fn settled(&self) {
        for server in self.servers.iter() {
            server.settled().await;
        }
    }

    /// How each server is.
    #[must_use]
    pub fn status(&self) -> Vec<ServerStatus> {
        self.servers.iter().map(|server| server.status()).collect()
    }

    /// Whether a server of that name is connected right now.
    #[must_use]
    pub fn is_connected(&self, server: &str) -> bool {
        self.server(server).is_some_and(|server| server.status().is_connected())
    }

    fn server(&self, name: &str) -> Option<&Arc<Server>> {
        self.servers.iter().find(|server| server.config.name == name)
    }

    /// Tools of all servers that were ever connected, under names a model's API accepts; only those of one access if asked.
    #[must_use]
    pub fn tools(&self, access: Option<Access>) -> Vec<Arc<dyn Tool>> {
        let from: Vec<Arc<Vec<Listed>>> = self.servers.iter().map(|server| server.tools()).collect();
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let same = built.from.len() == from.len()
            && built.from.iter().zip(&from).all(|(before, now)| Arc::ptr_eq(before, now));
        if !same {
            *built = Built { tools: self.build(&from), from };
        }
        let wanted = |tool: &&Arc<McpTool>| access.is_none_or(|access| access == tool.spec().access);
        built.tools.iter().filter(wanted).map(|tool| Arc::clone(tool) as Arc<dyn Tool>).collect()
    }

    fn build(&self, lists: &[Arc<Vec<Listed>>]) -> Vec<Arc<McpTool>> {
        let all = self.servers.iter().zip(lists);
        let all = all.flat_map(|(server, list)| list.iter().map(move |listed| (server, listed)));
        let names =
            names::give(all.clone().map(|(server, tool)| (server.config.name.as_str(), tool.name.as_str())));
        let tool = |((server, listed), name): ((&Arc<Server>, &Listed), String)| {
            Arc::new(McpTool::new(Arc::clone(server), listed, name))
        };
        all.zip(names).map(tool).collect()
    }

    /// A tool by the names its server gave.
    #[must_use]
    pub fn find(&self, server: &str, tool: &str) -> Option<Arc<McpTool>> {
        let server = self.server(server)?;
        let listed = server.tools().iter().find(|listed| listed.name == tool).cloned()?;
        let name = listed.name.clone();
        Some(Arc::new(McpTool::new(Arc::clone(server), &listed, name)))
    }

    /// Calls a tool by the names its server gave.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &self,
        server: &str,
        tool: &str,
        arguments: Value,
        cancel: CancellationToken,
    ) -> Result<CallResult, CallError> {
        let unknown = || CallError::UnknownTool { server: server.to_owned(), tool: tool.to_owned() };
        let found = self.server(server).ok_or_else(unknown)?;
        let listed = found.tools().iter().find(|listed| listed.name == tool).cloned().ok_or_else(unknown)?;
        call::call(found, &listed, arguments, &cancel).await
    }
}
