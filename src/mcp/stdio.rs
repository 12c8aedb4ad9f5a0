//! MCP over standard input and output of a child process: one JSON-RPC message per line, each within a size limit. An
//! oversized line becomes an error of the request that it answers, and the session continues.

use super::oversize::{self, Incoming, MAX_MESSAGE, Message};
use crate::blocking::BlockingPool;
use anyhow::Context as _;
use futures::future::BoxFuture;
use memchr::memchr;
use rmcp::RoleClient;
use rmcp::model::ServerJsonRpcMessage;
use rmcp::service::TxJsonRpcMessage;
use rmcp::transport::Transport;
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Lines up to this size, in bytes, are parsed on the async thread.
const PARSED_AT_ONCE: usize = 64 << 10;
/// Time limit for parsing a large line.
const PARSED_WITHIN: Duration = Duration::from_secs(60);
/// How long a child has to exit after its input is closed, and again after SIGTERM.
const ENDS_WITHIN: Duration = Duration::from_secs(3);

type Parsed = Result<ServerJsonRpcMessage, String>;

/// A child process and its pipes.
pub(super) struct ChildTransport {
    child: Child,
    output: BufReader<ChildStdout>,
    input: Arc<Mutex<Option<ChildStdin>>>,
    line: Incoming,
    blocking: BlockingPool,
    /// A large line that is being parsed. Kept here because the future of `receive` may be dropped before it completes.
    parsing: Option<BoxFuture<'static, Parsed>>,
}

impl ChildTransport {
    /// Starts the child and also returns its standard error.
    pub(super) fn start(
        mut command: Command,
        blocking: BlockingPool,
    ) -> anyhow::Result<(Self, Option<ChildStderr>)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let output = BufReader::new(child.stdout.take().context("it has no standard output")?);
        let input = Arc::new(Mutex::new(child.stdin.take()));
        let stderr = child.stderr.take();
        let line = Incoming::new(MAX_MESSAGE);
        Ok((Self { child, output, input, line, blocking, parsing: None }, stderr))
    }

    /// Reads to the end of the line. Cancel safe: a partial line is kept. Returns `None` at the end of the output.
    async fn line(&mut self) -> Option<Message> {
        loop {
            let read = self.output.fill_buf().await;
            let available =
                read.inspect_err(|error| tracing::debug!(%error, "an MCP server's output ended")).ok()?;
            if available.is_empty() || self.line.is_endless() {
                return None;
            }
            let end = memchr(b'\n', available);
            self.line.push(&available[..end.unwrap_or(available.len())]);
            let read = end.map_or(available.len(), |end| end + 1);
            self.output.consume(read);
            if end.is_some() {
                return Some(self.line.take());
            }
        }
    }

    fn parse(&self, line: Vec<u8>) -> BoxFuture<'static, Parsed> {
        let parse = |line: &[u8]| serde_json::from_slice(line).map_err(|error| error.to_string());
        if line.len() <= PARSED_AT_ONCE {
            return Box::pin(std::future::ready(parse(&line)));
        }
        let blocking = self.blocking.clone();
        Box::pin(async move {
            blocking.run(PARSED_WITHIN, move |_| parse(&line)).await.map_err(|error| error.to_string())?
        })
    }

    /// Returns whether the child exited in time.
    async fn ends(&mut self) -> bool {
        timeout(ENDS_WITHIN, self.child.wait()).await.is_ok()
    }
}

impl Transport<RoleClient> for ChildTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let input = Arc::clone(&self.input);
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut input = input.lock().await;
            let closed = || io::Error::new(io::ErrorKind::NotConnected, "its standard input is closed");
            let input = input.as_mut().ok_or_else(closed)?;
            input.write_all(&line).await?;
            input.flush().await
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            if let Some(parsing) = &mut self.parsing {
                let parsed = parsing.await;
                self.parsing = None;
                match parsed {
                    Ok(message) => return Some(message),
                    Err(error) => tracing::debug!(error, "an MCP server wrote a line that is no message"),
                }
            }
            match self.line().await? {
                Message::Whole(line) if line.trim_ascii().is_empty() => {}
                Message::Whole(line) => self.parsing = Some(self.parse(line)),
                Message::TooLarge(Some(id)) => return Some(oversize::answer(id)),
                Message::TooLarge(None) => {
                    tracing::warn!("a line of an MCP server is too large, answers nothing, and is left out");
                }
            }
        }
    }

    /// Shuts down as the specification requires: closes the input, then sends SIGTERM, then SIGKILL.
    async fn close(&mut self) -> io::Result<()> {
        drop(self.input.lock().await.take());
        if self.ends().await {
            return Ok(());
        }
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM)?;
            if self.ends().await {
                return Ok(());
            }
        }
        self.child.kill().await
    }
}
