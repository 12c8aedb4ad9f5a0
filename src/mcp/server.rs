//! One server: connects, lists tools, detects the end of a session and reconnects indefinitely.

use super::connect::{Instead, Listener, Session, connect};
use super::definitions::{DefinitionVerifier, address};
use super::failure::{Failure, cut, describe};
use super::http::Connector;
use super::listed::ListedTool;
use super::status::{Phase, ServerStatus};
use crate::clock;
use crate::config::{McpServer, globs};
use crate::domain::policy::ServerContent;
use crate::domain::{Access, ServerKey};
use crate::evidence::redact;
use globset::GlobSet;
use rmcp::RoleClient;
use rmcp::model::{ClientRequest, PaginatedRequestParams, PingRequest, Tool};
use rmcp::service::Peer;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Initial and maximum pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Interval of the probes, which detect a vanished server before it is needed.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// Time limit for reading the stored definitions, and interval of retries.
const JUDGED_WITHIN: Duration = Duration::from_secs(5);
/// Minimum interval between two reads of a changed list.
const LISTED_EVERY: Duration = Duration::from_secs(1);
/// Maximum number of pages of tools that are read.
const MAX_PAGES: usize = 50;
/// Maximum number of tools that are kept.
const MAX_TOOLS: usize = 1_000;

struct State {
    phase: Phase,
    peer: Option<Peer<RoleClient>>,
    /// Tools as listed by the server; `None` until the first list.
    listed: Option<Arc<Vec<ListedTool>>>,
    /// Tools with their effective access.
    tools: Arc<Vec<ListedTool>>,
    /// Whether the tools were compared with the stored definitions.
    is_judged: bool,
    latency_ms: Option<u64>,
    last_error: Option<String>,
    /// Transport in use, if it is not the configured one.
    instead: Option<Instead>,
}

/// A configured server and its connection.
pub(super) struct Server {
    pub(super) config: McpServer,
    /// Hash of the address: a server with another address is another server.
    pub(super) address: String,
    judge: DefinitionVerifier,
    /// Serialises the comparisons with the stored definitions.
    judging: Mutex<()>,
    globs: Globs,
    state: RwLock<State>,
    /// Counts changes of the phase, for waiting callers.
    changes: watch::Sender<u64>,
    attempts: watch::Sender<u32>,
    /// Ends the pause between attempts.
    wake: Notify,
    /// Signals that the session is unusable.
    lost: Notify,
    /// Whether any of its tools, including hidden ones, has ever had a namespace argument.
    reads_cluster: AtomicBool,
}

struct Globs {
    allow: GlobSet,
    deny: GlobSet,
    read: GlobSet,
    write: GlobSet,
}

impl Server {
    pub(super) fn new(config: McpServer, judge: DefinitionVerifier) -> Self {
        let globs = Globs {
            allow: globs(&config.allow),
            deny: globs(&config.deny),
            read: globs(&config.read),
            write: globs(&config.write),
        };
        let state = State {
            phase: Phase::Connecting,
            peer: None,
            listed: None,
            tools: Arc::default(),
            is_judged: false,
            latency_ms: None,
            last_error: None,
            instead: None,
        };
        Self {
            address: address(&config),
            config,
            judge,
            judging: Mutex::default(),
            globs,
            state: RwLock::new(state),
            changes: watch::Sender::new(0),
            attempts: watch::Sender::new(0),
            wake: Notify::new(),
            lost: Notify::new(),
            reads_cluster: AtomicBool::new(false),
        }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_modify(|count| *count += 1);
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn status(&self) -> ServerStatus {
        self.read(|state| ServerStatus {
            name: self.config.name.clone(),
            transport: state.instead.as_ref().map_or(&self.config.transport, |it| &it.transport).as_str(),
            phase: state.phase.clone(),
            tools: state.tools.len(),
            latency_ms: state.latency_ms,
            last_error: state.last_error.clone(),
            note: state.instead.as_ref().map(Instead::note),
        })
    }

    pub(super) fn tools(&self) -> Arc<Vec<ListedTool>> {
        self.read(|state| Arc::clone(&state.tools))
    }

    /// Returns what kind of content the server reads.
    pub(super) fn reads(&self) -> ServerContent {
        if self.reads_cluster.load(Ordering::Relaxed) {
            ServerContent::Cluster
        } else {
            ServerContent::Elsewhere
        }
    }

    pub(super) fn revision(&self) -> Option<String> {
        let told = self.read(|state| state.peer.as_ref().and_then(Peer::peer_info))?;
        Some(told.protocol_version.to_string())
    }

    pub(super) async fn wait_for_first_attempt(&self) {
        // Cannot fail, because `self` owns the sender.
        let _ = self.attempts.subscribe().wait_for(|count| *count > 0).await;
    }

    /// Returns the session's peer as soon as one exists, within `limit`. Ends a pause of the reconnection.
    pub(super) async fn peer(&self, limit: Duration) -> Option<Peer<RoleClient>> {
        let mut changes = self.changes.subscribe();
        let waiting = async {
            loop {
                if let Some(peer) = self.read(|state| state.peer.clone()) {
                    return Some(peer);
                }
                self.wake.notify_one();
                changes.changed().await.ok()?;
            }
        };
        timeout(limit, waiting).await.ok().flatten()
    }

    /// Marks the session as unusable; the next peer comes from a new session.
    pub(super) fn report_lost(&self, reason: &str) {
        self.update(|state| {
            state.peer = None;
            state.phase = Phase::Connecting;
            state.last_error = Some(cut(reason));
        });
        self.lost.notify_one();
    }

    /// Connects and reconnects until `stop`.
    pub(super) async fn keep_connected(&self, connector: Connector, stop: CancellationToken) {
        let mut failures = 0u32;
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                ended = self.session(connector.clone(), &mut failures) => ended,
                () = stop.cancelled() => return,
            };
            let reason = cut(&format!("{ended:#}"));
            let pause = PAUSE.0.saturating_mul(2u32.saturating_pow(failures.min(16))).min(PAUSE.1);
            let pause = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            if failures <= 1 {
                tracing::warn!(
                    server = self.config.name,
                    reason,
                    "the MCP server is not connected; trying again"
                );
            }
            failures += 1;
            let next_attempt = clock::now() + pause;
            self.update(|state| {
                state.peer = None;
                state.phase = Phase::Retrying { next_attempt };
                state.last_error = Some(reason);
            });
            self.attempts.send_modify(|count| *count += 1);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A caller waits for a tool: reconnect early, but not faster than the minimum pause.
                () = async { self.wake.notified().await; tokio::time::sleep(PAUSE.0).await } => {}
                () = stop.cancelled() => return,
            }
            self.update(|state| state.phase = Phase::Connecting);
        }
    }

    /// Connects once and returns when the session ends.
    pub(super) async fn connect_once(&self, connector: Connector) {
        let ended = self.session(connector, &mut 0).await;
        self.update(|state| {
            state.peer = None;
            state.phase = Phase::Connecting;
            state.last_error = Some(cut(&format!("{ended:#}")));
        });
        self.attempts.send_modify(|count| *count += 1);
    }

    /// Runs one session and returns why it ended.
    async fn session(&self, connector: Connector, failures: &mut u32) -> anyhow::Error {
        let changed = Arc::new(Notify::new());
        let listener = Listener { changed: Arc::clone(&changed) };
        let limit = self.config.connect_timeout;
        let open = async {
            let (session, instead) = connect(&self.config, connector, listener).await?;
            let begun = Instant::now();
            let tools = self.list(session.peer()).await?;
            self.speaks(instead);
            anyhow::Ok((session, tools, begun))
        };
        let (session, tools, begun) = match timeout(limit, open).await {
            Ok(Ok(open)) => open,
            Ok(Err(error)) => return error,
            Err(_) => return anyhow::anyhow!("no answer within {}", humantime::format_duration(limit)),
        };
        *failures = 0;
        let count = tools.len();
        self.offer(Some(tools)).await;
        tracing::info!(server = self.config.name, tools = count, "MCP server connected");
        let peer = session.peer().clone();
        let took = u64::try_from(begun.elapsed().as_millis()).ok();
        self.update(|state| {
            state.latency_ms = took;
            state.peer = Some(peer);
            state.phase = Phase::Connected;
            state.last_error = None;
        });
        self.attempts.send_modify(|count| *count += 1);
        self.attend(session, &changed).await
    }

    /// Stores the transport in use and logs a warning if it is not the configured one.
    fn speaks(&self, instead: Option<Instead>) {
        if let Some(found) = instead.as_ref().filter(|_| self.read(|state| state.instead != instead)) {
            let (server, note) = (&self.config.name, found.note());
            tracing::warn!(server, note, "the MCP server does not speak the configured transport");
        }
        self.update(|state| state.instead = instead);
    }

    /// Maintains a session until it ends and returns the reason.
    async fn attend(&self, session: Session, changed: &Notify) -> anyhow::Error {
        let (peer, limit) = (session.peer().clone(), self.config.connect_timeout);
        let mut ended = Box::pin(session.waiting());
        let mut judged = interval(JUDGED_WITHIN);
        judged.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_stale, mut listed_next) = (false, tokio::time::Instant::now());
        let mut probes = interval(PROBE_EVERY);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        probes.reset();
        loop {
            tokio::select! {
                _ = probes.tick() => {
                    let ping = ClientRequest::PingRequest(PingRequest::default());
                    // A probe without an answer does not end the session: some servers process one request at a time, and
                    // calls have their own limits.
                    let begun = Instant::now();
                    let answer = timeout(limit, peer.send_request(ping)).await;
                    if let Ok(Err(error)) = &answer
                        && let Failure::NotReached(reason) | Failure::Lost(reason) = Failure::of(error)
                    {
                        return anyhow::anyhow!(reason);
                    }
                    self.probed(answer.is_ok().then(|| begun.elapsed()));
                }
                _ = &mut ended => return anyhow::anyhow!("the session ended"),
                () = self.lost.notified() => {
                    let reason = self.read(|state| state.last_error.clone());
                    if self.read(|state| state.peer.is_none()) {
                        return anyhow::anyhow!(reason.unwrap_or_else(|| "the session was lost".to_owned()));
                    }
                }
                () = changed.notified(), if !is_stale => is_stale = true,
                () = sleep_until(listed_next), if is_stale => {
                    is_stale = false;
                    listed_next = tokio::time::Instant::now() + LISTED_EVERY;
                    match timeout(limit, self.list(&peer)).await {
                        Ok(Ok(tools)) => self.offer(Some(tools)).await,
                        Ok(Err(error)) => return error,
                        Err(_) => {
                            let limit = humantime::format_duration(limit);
                            return anyhow::anyhow!("the changed list of tools did not come within {limit}");
                        }
                    }
                }
                _ = judged.tick(), if !self.read(|state| state.is_judged) => self.offer(None).await,
            }
        }
    }

    /// Compares tools with the stored definitions and publishes them. `None` compares the last listed tools again.
    pub(super) async fn offer(&self, listed: Option<Vec<ListedTool>>) {
        let _turn = self.judging.lock().await;
        let listed = listed.map(Arc::new).or_else(|| self.read(|state| state.listed.clone()));
        let Some(listed) = listed else { return };
        let (name, before) = (&self.config.name, self.tools());
        let judged = timeout(JUDGED_WITHIN, self.judge.judge(self.key(), &listed)).await;
        let (tools, is_judged) = match judged {
            Ok(Ok(tools)) => (tools, true),
            failed => {
                let error = failed.map(Result::err).ok().flatten();
                let reason = error.map_or_else(|| "no answer in time".to_owned(), |error| error.to_string());
                tracing::warn!(
                    server = name,
                    reason,
                    "what was judged of a server's tools cannot be read; trying again"
                );
                (self.judge.without_memory(name, &listed, &before), false)
            }
        };
        self.update(|state| {
            state.listed = Some(listed);
            state.tools = Arc::new(tools);
            state.is_judged = is_judged;
        });
    }

    /// Stores the latency of a probe; `None` if it was not answered in time.
    fn probed(&self, took: Option<Duration>) {
        let limit = humantime::format_duration(self.config.connect_timeout);
        self.update(|state| match took {
            Some(took) => {
                state.phase = Phase::Connected;
                state.latency_ms = u64::try_from(took.as_millis()).ok();
                state.last_error = None;
            }
            None => {
                state.phase = Phase::Degraded;
                state.last_error = Some(format!("the last probe was not answered within {limit}"));
            }
        });
    }

    /// Ends the session, if there is one, and reconnects at once.
    pub(super) fn reconnect(&self) {
        if self.read(|state| state.peer.is_some()) {
            self.report_lost("reconnecting, as asked");
        }
        self.wake.notify_one();
    }

    /// Lists all pages of tools, within limits; stops at a repeated cursor.
    async fn list(&self, peer: &Peer<RoleClient>) -> anyhow::Result<Vec<ListedTool>> {
        let mut tools: Vec<ListedTool> = Vec::new();
        let mut names = HashSet::new();
        let mut cursors = HashSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let params =
                cursor.take().map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            let page = peer
                .list_tools(params)
                .await
                .map_err(|error| anyhow::anyhow!("its tools cannot be listed: {}", describe(&error)))?;
            let schemas: Vec<Value> =
                page.tools.iter().map(|tool| Value::Object(tool.input_schema.as_ref().clone())).collect();
            if ServerContent::of(schemas.iter()) == ServerContent::Cluster {
                self.reads_cluster.store(true, Ordering::Relaxed);
            }
            let listed = page.tools.iter().filter_map(|tool| self.listed(tool));
            tools.extend(listed.filter(|tool| names.insert(tool.name.clone())));
            tools.truncate(MAX_TOOLS);
            match page.next_cursor.map(|cursor| cursor.to_string()) {
                Some(next) if tools.len() < MAX_TOOLS && cursors.insert(next.clone()) => cursor = Some(next),
                _ => return Ok(tools),
            }
        }
        Ok(tools)
    }

    fn key(&self) -> ServerKey<'_> {
        ServerKey { name: &self.config.name, address: &self.address }
    }

    /// Returns the tool unless the configuration hides it. Access is `read` only if the annotations or the configuration say
    /// so.
    fn listed(&self, tool: &Tool) -> Option<ListedTool> {
        let name = tool.name.as_ref();
        let allowed = self.config.allow.is_empty() || self.globs.allow.is_match(name);
        // PostgreSQL cannot store a NUL character in text.
        if !allowed || self.globs.deny.is_match(name) || name.contains('\0') {
            return None;
        }
        let hints = tool.annotations.as_ref();
        let read_only = hints.and_then(|hints| hints.read_only_hint).unwrap_or(false);
        let destructive = hints.and_then(|hints| hints.destructive_hint).unwrap_or(false);
        let reads = read_only && !destructive;
        let may_read = reads || self.globs.read.is_match(name);
        let access = if may_read && !self.globs.write.is_match(name) { Access::Read } else { Access::Write };
        let mut listed = ListedTool {
            name: name.to_owned(),
            description: redact::plain(tool.description.as_deref().unwrap_or_default()),
            schema: Arc::new(redact::json(&Value::Object(tool.input_schema.as_ref().clone()))),
            reads,
            access,
            hash: String::new(),
            is_held: false,
            unconfirmed: None,
        };
        listed.hash = listed.definition().hash(self.key(), name);
        Some(listed)
    }
}
